"""Standard Webhooks: the published vectors, rotation, and everything that must not pass."""

from __future__ import annotations

import base64
import os

import pytest

from tallystick.delivery.signatures import (
    MAX_SIGNATURES,
    check_secret,
    new_secret,
    new_signing_key,
    public_key,
    sign,
    verify,
    webhook_id,
)
from tallystick.errors import InvalidInput, ProofInvalid

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
# From the tests of the reference libraries (github.com/standard-webhooks/standard-webhooks, MIT).
VECTORS = [
    (
        SECRET,
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        '{"test": 2432232314}',
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    ),
    (
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        1649367553,
        '{"email":"test@example.com","username":"test_user"}',
        "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    ),
]
NOISE = "v1,tFtCZ5RDCPxzWQRWXWPgrCgE2frDBe9gjpbWQxnVfsQ= v1,Mm7xgUVICxZfQ3bgf0h0Dof65L/IFx+PnZvnDWPCX6Q="


@pytest.mark.parametrize(("secret", "id", "timestamp", "payload", "signature"), VECTORS)
def test_the_published_vectors_are_signed_and_verified(
    secret: str, id: str, timestamp: int, payload: str, signature: str
) -> None:
    headers = sign([secret], id, timestamp, payload.encode())
    assert headers == {"webhook-id": id, "webhook-timestamp": str(timestamp), "webhook-signature": signature}
    verify(secret, headers, payload.encode(), now=timestamp)


def test_a_key_pair_signs_and_only_its_public_half_verifies() -> None:
    key, other = new_signing_key(os.urandom), new_signing_key(os.urandom)
    headers = sign([key], "main/1", 1_000, b"{}")
    assert headers["webhook-signature"].startswith("v1a,")
    verify(public_key(key), headers, b"{}", now=1_000)
    with pytest.raises(ProofInvalid, match="no signature"):
        verify(public_key(other), headers, b"{}", now=1_000)
    with pytest.raises(InvalidInput):
        verify(key, headers, b"{}", now=1_000)


def test_ed25519_is_the_ed25519_of_rfc_8032() -> None:
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    expected = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    assert public_key("whsk_" + base64.b64encode(seed).decode()) == "whpk_" + base64.b64encode(expected).decode()


def test_during_a_rotation_both_secrets_sign_and_either_verifies() -> None:
    old, new, key = new_secret(os.urandom), new_secret(os.urandom), new_signing_key(os.urandom)
    headers = sign([new, old, key], "main/1", 1_000, b"body")
    assert [one.partition(",")[0] for one in headers["webhook-signature"].split(" ")] == ["v1", "v1", "v1a"]
    for secret in (old, new, public_key(key)):
        verify(secret, headers, b"body", now=1_000)


def test_one_right_signature_among_others_is_enough() -> None:
    secret, id, timestamp, payload, signature = VECTORS[0]
    headers = {"Webhook-Id": id, "WEBHOOK-TIMESTAMP": str(timestamp)}
    verify(secret, {**headers, "webhook-signature": f"{NOISE} v2,x {signature}"}, payload.encode(), now=timestamp)
    with pytest.raises(ProofInvalid):
        verify(secret, {**headers, "webhook-signature": NOISE}, payload.encode(), now=timestamp)
    late = " ".join(["v1,x"] * MAX_SIGNATURES) + " " + signature
    with pytest.raises(ProofInvalid):
        verify(secret, {**headers, "webhook-signature": late}, payload.encode(), now=timestamp)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook-id", ""),
        ("webhook-id", "msg_other"),
        ("webhook-timestamp", ""),
        ("webhook-timestamp", "now"),
        ("webhook-timestamp", "1614265330.0"),
        ("webhook-timestamp", "-1614265330"),
        ("webhook-timestamp", "1614265331"),
        ("webhook-signature", ""),
        ("webhook-signature", "v1,"),
        ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE"),
        ("webhook-signature", "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ("webhook-signature", "v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ("webhook-signature", "v1,ü"),
    ],
)
def test_a_header_that_is_missing_or_changed_is_refused(name: str, value: str) -> None:
    secret, id, timestamp, payload, _ = VECTORS[0]
    headers = {**sign([secret], id, timestamp, payload.encode()), name: value}
    with pytest.raises(ProofInvalid):
        verify(secret, headers, payload.encode(), now=timestamp)


def test_a_changed_body_is_refused() -> None:
    secret, id, timestamp, payload, _ = VECTORS[0]
    headers = sign([secret], id, timestamp, payload.encode())
    with pytest.raises(ProofInvalid):
        verify(secret, headers, payload.encode() + b" ", now=timestamp)


@pytest.mark.parametrize(("age", "is_refused"), [(-301, True), (-300, False), (300, False), (301, True)])
def test_a_message_is_good_for_five_minutes_either_way(age: int, is_refused: bool) -> None:
    headers = sign([SECRET], "main/1", 10_000, b"{}")
    if is_refused:
        with pytest.raises(ProofInvalid, match="seconds"):
            verify(SECRET, headers, b"{}", now=10_000 + age)
    else:
        verify(SECRET, headers, b"{}", now=10_000 + age)


@pytest.mark.parametrize("size", [24, 64])
def test_a_secret_has_24_to_64_bytes(size: int) -> None:
    check_secret("whsec_" + base64.b64encode(bytes(size)).decode())
    for wrong in (23, 65):
        with pytest.raises(InvalidInput, match="24 to 64"):
            check_secret("whsec_" + base64.b64encode(bytes(wrong)).decode())


@pytest.mark.parametrize("secret", ["", "whsec_!!!!", "whsk_AAAA", "hunter2", "whpk_" + "A" * 43 + "=", "ü_ü"])
def test_what_is_no_secret_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_secret(secret)
    assert not secret or secret not in str(refusal.value)


def test_without_a_secret_nothing_is_signed() -> None:
    with pytest.raises(InvalidInput, match="no secret"):
        sign([], "main/1", 1, b"")


def test_an_id_has_no_full_stop_and_no_line_end() -> None:
    assert webhook_id("v1.main/5") == "v1%2Emain/5"
    for id in ("a.b", "a\r\nx: y", "a b", "", "ü", "x" * 257):
        with pytest.raises(InvalidInput):
            sign([SECRET], id, 1, b"")
