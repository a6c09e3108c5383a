"""Signed requests: what was signed is what is done, and the event alone shows who asked for it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import tallystick
from tallystick.access import signatures
from tallystick.access.signatures import (
    SignedRequest,
    as_first_signed,
    check_event,
    check_metadata,
    require_signer,
    sign_request,
    verify,
)
from tallystick.errors import IdempotencyConflict, InvalidInput, NoteInvalid, ProofInvalid, Unauthenticated
from tallystick.events import Event
from tallystick.journal.log_inclusion import did_key

SEED = bytes(32)
KEY = Ed25519PrivateKey.from_private_bytes(SEED)
DID = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"
OTHER = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
NOW = "2026-11-21T09:00:00.000000Z"
CREATED = 1_795_251_600
WHOLE = '"@method" "@path" "content-digest" "idempotency-key"'
PATH = "/v1/ledgers/main/transfers"
BODY = b'{"from_account": "users:alice", "to_account": "users:bob", "asset": "USD/2", "amount": "500"}'


def signed(**changes: object) -> dict[str, str]:
    fields: dict[str, object] = {"created": CREATED, **changes}
    path, body, idempotency_key = fields.pop("path", PATH), fields.pop("body", BODY), fields.pop("idempotency_key", "k")
    return sign_request(fields.pop("key", KEY), "POST", path, body, idempotency_key, **fields)  # type: ignore[arg-type]


def check(headers: signatures.Headers, **changes: object) -> SignedRequest:
    fields: dict[str, object] = {"method": "POST", "path_with_query": PATH, "body": BODY, "now": NOW, **changes}
    return verify(headers, **fields)  # type: ignore[arg-type]


def refused(headers: signatures.Headers, problem: str = "signature", **changes: object) -> None:
    with pytest.raises(Unauthenticated, match=problem):
        check(headers, **changes)


def test_what_was_signed_is_accepted() -> None:
    found = check(signed())
    assert found.did == DID
    assert found.base.splitlines() == [
        '"@method": POST',
        f'"@path": {PATH}',
        f'"content-digest": sha-256=:{base64.b64encode(hashlib.sha256(BODY).digest()).decode()}:',
        '"idempotency-key": k',
        f'"@signature-params": ({WHOLE});created={CREATED};keyid="{DID}";alg="ed25519"',
    ]
    assert not found.base.endswith("\n")
    KEY.public_key().verify(found.signature, found.base.encode())


def test_query_authority_and_an_empty_body_can_be_signed() -> None:
    target = PATH + "?dry_run=true&a=%20"
    headers = signed(path=target, body=b"", authority="Ledger.Example")
    found = check(headers, path_with_query=target, body=b"", authority="ledger.example")
    assert '"@query": ?dry_run=true&a=%20' in found.base
    assert '"@authority": ledger.example' in found.base
    refused(headers, path_with_query=target, body=b"", authority="other.example")
    refused(headers, "not known here", path_with_query=target, body=b"")
    assert check(signed(path=PATH + "?"), path_with_query=PATH + "?")


def test_the_example_of_the_standard_has_the_base_and_signature_that_we_make() -> None:
    """RFC 9421, B.2.6; it does not cover what we ask for, so the base is made and checked by itself."""
    values = {
        "date": "Tue, 20 Apr 2021 02:07:55 GMT",
        "@method": "POST",
        "@path": "/foo",
        "@authority": "example.com",
        "content-type": "application/json",
        "content-length": "18",
    }
    names = " ".join(f'"{name}"' for name in values)
    base = signatures._base(values, f'({names});created=1618884473;keyid="test-key-ed25519"')
    key = base64.urlsafe_b64decode("JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs=")
    signature = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
    Ed25519PublicKey.from_public_bytes(key).verify(base64.b64decode(signature), base.encode())


@pytest.mark.parametrize(
    ("number", "did"),
    [
        (0, "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"),
        (1, "did:key:z6MkjchhfUsD6mmvni8mCdXHw216Xrm9bQe2mBH1P5RDjVJG"),
        (2, "did:key:z6MknGc3ocHs3zdPiJbnaaqDi58NGb4pk1Sp9WxWufuXSdxf"),
        (3, "did:key:z6MkvqoYXQfDDJRv8L4wKzxYeuKyVZBfi9Qo6Ro8MiLH3kDQ"),
        (5, "did:key:z6MkwYMhwTvsq376YBAcJHy3vyRWzBgn5vKfVqqDCgm7XVKU"),
    ],
)
def test_dids_are_those_of_the_published_vectors(number: int, did: str) -> None:
    """The Ed25519 vectors of the did:key method: keys whose seeds are small numbers."""
    key = Ed25519PrivateKey.from_private_bytes(number.to_bytes(32))
    assert check(signed(key=key)).did == did
    assert signatures.signer_key(did).public_bytes_raw() == key.public_key().public_bytes_raw()


@pytest.mark.parametrize(
    "did",
    [
        "did:key:zDnaerx9CtbPJ1q36T5Ln5wYt3MQYeGRG5ehnPAmxcf5mDZpv",  # P-256
        "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",  # secp256k1
        "did:key:z6LSbysY2xFMRpGMhb7tFTLMpeuPRaqaWM1yECx2AtzE3KCc",  # X25519
        "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooW",
        "did:key:u7QHW",
        "did:key:",
        "",
    ],
)
def test_other_dids_sign_nothing(did: str) -> None:
    refused(resigned(f';created={CREATED};keyid="{did}"'), "did:key")


# ---------------------------------------------------------------- used for something else


@pytest.mark.parametrize(
    "changes",
    [
        {"body": BODY.replace(b"500", b"900")},
        {"body": b""},
        {"method": "PUT"},
        {"method": "post"},
        {"path_with_query": PATH + "/"},
        {"path_with_query": "/v1/ledgers/other/transfers"},
        {"path_with_query": PATH.upper()},
        {"path_with_query": PATH + "?dry_run=true"},
        {"path_with_query": PATH + "?"},
        {"path_with_query": PATH + "\n"},
    ],
)
def test_a_signature_is_good_for_its_own_request_only(changes: dict[str, object]) -> None:
    refused(signed(), **changes)


def test_a_signature_is_good_for_its_own_key_only() -> None:
    refused(signed() | {"Idempotency-Key": "k2"}, "not what was signed")
    refused(signed() | {"Idempotency-Key": ""}, "empty")


@pytest.mark.parametrize("offset", [-301, 301, -(10**6), 10**9])
def test_a_signature_ages(offset: int) -> None:
    refused(signed(created=CREATED + offset), "within 300 seconds")


@pytest.mark.parametrize("offset", [-300, 0, 300])
def test_clocks_need_not_agree_to_the_second(offset: int) -> None:
    assert check(signed(created=CREATED + offset))


def test_another_key_is_another_person() -> None:
    assert check(signed(key=OTHER)).did != DID
    theirs, ours = signed(key=OTHER), signed()
    refused(ours | {"Signature": theirs["Signature"]})
    refused(ours | {"Signature-Input": theirs["Signature-Input"]})


def test_a_key_may_ask_for_one_signer_only() -> None:
    ours, theirs = check(signed()), check(signed(key=OTHER))
    require_signer(DID, ours)
    require_signer("", None)
    require_signer("", theirs)
    for found in (theirs, None):
        with pytest.raises(Unauthenticated, match="must be signed"):
            require_signer(DID, found)


# ---------------------------------------------------------------- forms


def resigned(parameters: str, names: str = "", **more: str) -> dict[str, str]:
    """A request that is signed rightly over what it says, whatever that is."""
    fields = {"idempotency-key": "k", "content-digest": signed()["Content-Digest"], **more}
    names = names or WHOLE
    derived = {"@method": "POST", "@path": PATH, "@query": "?"}
    lines = [f"{name}: {({**derived, **fields}).get(name.strip(chr(34)), 'x')}" for name in names.split()]
    text = f"({names}){parameters}"
    base = "\n".join([*lines, f'"@signature-params": {text}'])
    signature = base64.b64encode(KEY.sign(base.encode())).decode()
    return {**fields, "Signature-Input": f"s={text}", "Signature": f"s=:{signature}:"}


GOOD = f';created={CREATED};keyid="{DID}"'


@pytest.mark.parametrize(
    "parameters",
    [GOOD, GOOD + ';alg="ed25519"', GOOD + ';nonce="x \\" y";tag="app"', f"{GOOD};expires={CREATED + 1}"],
)
def test_parameters_of_the_standard_are_read(parameters: str) -> None:
    assert check(resigned(parameters)).did == DID


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ("", "time of creation"),
        (f';keyid="{DID}"', "time of creation"),
        (f";created={CREATED}", "did:key"),
        (f';created="{CREATED}";keyid="{DID}"', "time of creation"),
        (f';created=-{CREATED};keyid="{DID}"', "time of creation"),
        (f";created={CREATED};keyid=5", "texts"),
        (GOOD + ';alg="hmac-sha256"', "ed25519"),
        (GOOD + ';alg="none"', "ed25519"),
        (GOOD + ";alg=1", "ed25519"),
        (GOOD + f";created={CREATED}", "twice"),
        (GOOD + f';keyid="{DID}"', "twice"),
        (GOOD + ';color="red"', "not known"),
        (f"{GOOD};expires={CREATED}", "expired"),
        (f';created={CREATED};keyid="did:web:example.com"', "did:key"),
        (f';created={CREATED};keyid="{DID}#x"', "did:key"),
        (f";created={CREATED}.5;keyid={DID}", "list of components"),
        (f";created={'9' * 16};keyid={DID}", "list of components"),
    ],
)
def test_parameters_that_say_something_else_are_refused(parameters: str, problem: str) -> None:
    refused(resigned(parameters), problem)


@pytest.mark.parametrize("missing", signatures.REQUIRED)
def test_what_has_to_be_covered_has_to_be_covered(missing: str) -> None:
    names = " ".join(f'"{name}"' for name in signatures.REQUIRED if name != missing)
    refused(resigned(GOOD, names), missing)


def test_a_query_has_to_be_covered() -> None:
    refused(resigned(GOOD), "@query", path_with_query=PATH + "?x=1")


@pytest.mark.parametrize(
    "names",
    [
        WHOLE + ' "@method"',
        WHOLE + ' "@target-uri"',
        WHOLE + ' "@signature-params"',
        WHOLE + ' "@status"',
        WHOLE + ' "x-missing"',
        WHOLE + ' "@query-param";name="x"',
        WHOLE + ' "content-digest";req',
        WHOLE + ' "content-type";sf',
        WHOLE.replace("content-digest", "Content-Digest"),
        WHOLE.replace('"', ""),
        WHOLE + "".join(f' "x-{number}"' for number in range(20)),
    ],
)
def test_components_that_are_not_known_are_refused(names: str) -> None:
    refused(resigned(GOOD, names))


def test_other_fields_may_be_covered() -> None:
    headers = resigned(GOOD, WHOLE + ' "x-trace"', **{"x-trace": "abc"})
    assert '"x-trace": abc' in check(headers).base
    refused(headers | {"x-trace": "abd"}, "not what was signed")


def test_spaces_that_do_not_count_are_not_signed() -> None:
    """RFC 8941 reads them; what is signed is the form in which it writes."""
    headers = signed()
    headers["Signature-Input"] = headers["Signature-Input"].replace('("@method" ', '( "@method"  ').replace(";", ";  ")
    assert check(headers).did == DID


@pytest.mark.parametrize("name", ["Signature", "Signature-Input", "Content-Digest", "Idempotency-Key"])
def test_a_field_that_is_missing_or_comes_twice_is_refused(name: str) -> None:
    headers = signed()
    pairs = list(headers.items())
    assert check(pairs).did == DID
    refused([*pairs, (name.lower(), headers[name])], "comes twice")
    refused({**headers, name.upper(): headers[name]}, "comes twice")
    refused([pair for pair in pairs if pair[0] != name], f"no field {name.lower()}")
    refused(headers | {name: headers[name] + "\r\nx: y"})
    refused(headers | {name: headers[name] + "é"})
    refused(headers | {name: headers[name] + ", x=:AAAA:"})
    refused(headers | {name: ""})
    refused(headers | {name: "x" * 4_097}, "more than 4096")


def test_two_signatures_are_one_too_many() -> None:
    ours, theirs = signed(), signed(key=OTHER)
    both = {
        name: f"{ours[name]}, {theirs[name].replace('sig=', 'other=')}" for name in ("Signature", "Signature-Input")
    }
    refused(ours | both)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("sig=", "other="),
        lambda text: text.replace("==:", ":"),
        lambda text: text.replace(":", ""),
        lambda text: text[:-4] + chr(ord(text[-4]) + 1) + "==:",  # bits that base64 leaves unused
        lambda text: "sig=:" + "A" * 86 + "==:",
    ],
)
def test_a_signature_has_one_spelling(change: Callable[[str], str]) -> None:
    headers = signed()
    refused(headers | {"Signature": change(headers["Signature"])})


@pytest.mark.parametrize(
    "digest",
    [
        "sha-512=:" + base64.b64encode(hashlib.sha512(BODY).digest()).decode() + ":",
        "sha-256=" + base64.b64encode(hashlib.sha256(BODY).digest()).decode(),
        "SHA-256=:" + base64.b64encode(hashlib.sha256(BODY).digest()).decode() + ":",
        "sha-256=:" + hashlib.sha256(BODY).hexdigest() + ":",
        "sha-256=:AAAA:, sha-256=:" + base64.b64encode(hashlib.sha256(BODY).digest()).decode() + ":",
        "sha-256=::",
        "",
    ],
)
def test_a_digest_that_is_not_that_of_the_body_is_refused(digest: str) -> None:
    refused(resigned(GOOD, **{"content-digest": digest}), "Content-Digest")


def test_other_digests_may_stand_beside_it() -> None:
    digest = "sha-512=:AAAA:, " + signed()["Content-Digest"]
    assert check(resigned(GOOD, **{"content-digest": digest}))


def test_a_key_under_which_anybody_can_sign_is_none() -> None:
    """The point of order 1: with it, R = S·B verifies every message."""
    weak = did_key((1).to_bytes(32, "little"))
    with pytest.raises(NoteInvalid, match="small order"):
        signatures.signer_key(weak)
    forged = (1).to_bytes(32, "little") + bytes(32)
    headers = signed()
    headers["Signature-Input"] = headers["Signature-Input"].replace(DID, weak)
    refused(headers | {"Signature": f"sig=:{base64.b64encode(forged).decode()}:"}, "did:key")


@pytest.mark.parametrize(
    "changes", [{"idempotency_key": ""}, {"idempotency_key": "é"}, {"path": "/a b"}, {"path": "/\n"}]
)
def test_what_no_request_can_have_is_not_signed(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        signed(**changes)


def test_now_is_used_when_no_time_is_given() -> None:
    assert check(sign_request(KEY, "POST", PATH, BODY, "k"), now=tallystick.clock.system_clock())


@given(st.binary(max_size=60), st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=255))
def test_whatever_is_signed_is_accepted_and_nothing_beside_it(body: bytes, idempotency_key: str) -> None:
    headers = signed(body=body, idempotency_key=idempotency_key)
    assert check(headers, body=body).did == DID
    refused(headers, body=body + b" ")
    refused(headers | {"Idempotency-Key": idempotency_key + "x"}, body=body)


@given(st.text(max_size=60), st.sampled_from(["Signature", "Signature-Input", "Content-Digest"]))
def test_rubbish_is_refused_and_breaks_nothing(text: str, name: str) -> None:
    refused(signed() | {name: text})


# ---------------------------------------------------------------- the event


def event_of(body: bytes = BODY, **changes: object) -> Event:
    """The event of a request that was signed just now, posted to a ledger and read back."""
    with tallystick.open("memory://", clock=lambda: NOW) as database:
        ledger = database.ledger("main")
        ledger.mint("users:alice", "USD/2", 1_000, key="m")
        found = check(signed(body=body), body=body)
        fields = {"key": "k", "metadata": {**found.metadata(body), "note": "mine"}, **changes}
        posted = ledger.transfer("users:alice", "users:bob", "USD/2", 500, **fields)  # type: ignore[arg-type]
        return ledger.transaction(posted.id).event


def test_a_stranger_sees_from_the_event_who_asked() -> None:
    event = event_of()
    assert check_event(event) == DID
    assert json.loads(event.data["metadata"]["signed.body"]) == json.loads(BODY)


@pytest.mark.parametrize("size", [0, 1, 1_024, 1_025, 2_048, signatures.MAX_BODY_BYTES])
def test_a_body_is_kept_whole_whatever_its_size(size: int) -> None:
    body = ("é" * (size // 2) + "x" * (size % 2)).encode()
    assert len(body) == size
    event = event_of(body)
    assert check_event(event) == DID
    parts = [value for name, value in event.data["metadata"].items() if name.startswith("signed.body")]
    assert max(map(len, parts)) <= 1_024


def test_a_body_that_cannot_be_kept_is_refused() -> None:
    found = check(signed())
    with pytest.raises(InvalidInput, match="16384"):
        found.metadata(b"x" * (signatures.MAX_BODY_BYTES + 1))
    with pytest.raises(InvalidInput, match="UTF-8"):
        found.metadata(b"\xff")
    with pytest.raises(InvalidInput, match="too long"):
        replace(found, base="x" * 8_193).metadata(BODY)
    assert len(replace(found, base="x" * 8_192).metadata(BODY)) == 2 + 8 + 1


def changed(event: Event, **metadata: str | None) -> Event:
    kept = {**event.data["metadata"], **{name.replace("_", "."): text for name, text in metadata.items()}}
    metadata = {name: text for name, text in kept.items() if text is not None}
    return replace(event, data={**event.data, "metadata": metadata})


def test_an_event_that_was_changed_shows_nothing() -> None:
    event = event_of()
    kept = event.data["metadata"]
    other = check(signed(key=OTHER))
    wrong = [
        replace(event, idem="k2"),
        replace(event, data={}),
        replace(event, time="2026-11-21T09:10:00.000001Z"),
        replace(event, time="2026-11-21T08:49:59.999999Z"),
        changed(event, signed_by=other.did),
        changed(event, signed_by=None),
        changed(event, signed_base=None),
        changed(event, signed_signature=None),
        changed(event, signed_signature=base64.b64encode(other.signature).decode()),
        changed(event, signed_body=kept["signed.body"].replace("500", "900")),
        changed(event, signed_body_2="x"),
        changed(event, signed_base=kept["signed.base"] + "\n"),
        changed(event, signed_base=kept["signed.base"].replace("POST", "GET")),
        changed(event, signed_base='"x": y\n' + kept["signed.base"]),
        changed(event, signed_base=kept["signed.base"].rpartition("\n")[0]),
        changed(event, signed_base="rubbish"),
    ]
    for found in wrong:
        with pytest.raises(ProofInvalid):
            check_event(found)
    assert check_event(replace(event, time="2026-11-21T09:10:00.000000Z")) == DID


def test_a_base_that_does_not_say_what_it_covers_shows_nothing() -> None:
    """The holder of a key can sign any text; only one that is a signature base counts."""
    event = event_of()
    base = event.data["metadata"]["signed.base"].replace('"@method": POST\n', "")
    signature = base64.b64encode(KEY.sign(base.encode())).decode()
    with pytest.raises(ProofInvalid, match="covers"):
        check_event(changed(event, signed_base=base, signed_signature=signature))


# ---------------------------------------------------------------- asking again


def posted_twice(first: SignedRequest, again: SignedRequest, body: bytes) -> bool:
    """Post a signed request, and then another under the same key, as it was first signed if it is the same."""
    with tallystick.open("memory://", clock=lambda: NOW) as database:
        ledger = database.ledger("main")
        ledger.mint("users:alice", "USD/2", 1_000, key="m")
        ledger.transfer("users:alice", "users:bob", "USD/2", 5, key="k", metadata=first.metadata(BODY))
        found = ledger.by_key("k")
        assert found is not None
        metadata = as_first_signed(again.metadata(body), found.event)
        return ledger.transfer("users:alice", "users:bob", "USD/2", 5, key="k", metadata=metadata).replayed


def test_who_signs_again_gets_the_first_answer() -> None:
    first, later = check(signed()), check(signed(created=CREATED + 200))
    assert first.signature != later.signature
    assert posted_twice(first, first, BODY)
    assert posted_twice(first, later, BODY)


@pytest.mark.parametrize(
    ("changes", "given"),
    [
        ({"key": OTHER}, {}),
        ({"body": BODY + b" "}, {"body": BODY + b" "}),
        ({"path": PATH + "?x=1"}, {"path_with_query": PATH + "?x=1"}),
        ({"path": "/v1/ledgers/main/holds"}, {"path_with_query": "/v1/ledgers/main/holds"}),
        ({"idempotency_key": "k2"}, {}),
    ],
)
def test_who_signs_something_else_under_the_same_key_is_refused(
    changes: dict[str, object], given: dict[str, object]
) -> None:
    again = check(signed(created=CREATED + 1, **changes), **given)
    with pytest.raises(IdempotencyConflict):
        posted_twice(check(signed()), again, given.get("body", BODY))  # type: ignore[arg-type]


def test_an_event_that_keeps_no_signed_request_takes_over_none() -> None:
    metadata = check(signed()).metadata(BODY)
    event = event_of()
    for data in ({}, {"metadata": {"note": "x"}}, {"metadata": {"signed.by": DID, "signed.base": "rubbish"}}):
        assert as_first_signed(metadata, replace(event, data=data)) == metadata


def test_the_names_that_a_signature_bears_are_taken() -> None:
    check_metadata(["note", "signed", "Signed.by", "un.signed.by"])
    for name in check(signed()).metadata(BODY):
        with pytest.raises(InvalidInput, match="signed requests"):
            check_metadata(["note", name])
