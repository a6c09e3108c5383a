"""DSSE envelopes: the published encoding, and nothing accepted that its key did not sign."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.errors import NoteInvalid
from tallystick.journal.dsse import (
    MAX_ENVELOPE_BYTES,
    Envelope,
    EnvelopeSignature,
    open_envelope,
    pre_authentication_encoding,
    sign_envelope,
)
from tallystick.journal.notes import COSIGNATURE, ML_DSA_44, SecretKey, VerifierKey

VECTOR = json.loads((Path(__file__).parent.parent / "vectors" / "dsse" / "vectors.json").read_text())
TYPE = "application/vnd.example.v1+json"
PAYLOAD = b'{"a":1}'
KEY = SecretKey.from_seed("ledger.example/log", bytes(range(32)))
SECOND = SecretKey.from_seed("examiner.example", bytes(range(1, 33)))
DATA = sign_envelope(TYPE, PAYLOAD, KEY)
KEYS = [KEY.verifier]


def written(**changes: object) -> bytes:
    fields = json.loads(DATA)
    fields.update(changes)
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


# ---------------------------------------------------------------- the published vector


def test_the_published_encoding():
    payload, type_ = VECTOR["payload_utf8"].encode(), VECTOR["payloadType"]
    assert pre_authentication_encoding(type_, payload) == VECTOR["pae_utf8"].encode()


def test_the_published_envelope_is_read_and_its_signature_is_over_our_encoding():
    envelope = Envelope.parse(json.dumps(VECTOR["envelope"]).encode())
    assert envelope.payload == VECTOR["payload_utf8"].encode()
    (line,) = envelope.signatures
    assert line.key_id == ""
    key = ec.EllipticCurvePublicNumbers(int(VECTOR["key"]["x"]), int(VECTOR["key"]["y"]), ec.SECP256R1()).public_key()
    halves = [int.from_bytes(half, "big") for half in (line.signature[:32], line.signature[32:])]
    message = pre_authentication_encoding(envelope.payload_type, envelope.payload)
    key.verify(encode_dss_signature(*halves), message, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        key.verify(encode_dss_signature(*halves), message + b" ", ec.ECDSA(hashes.SHA256()))


@settings(deadline=None)
@given(st.tuples(st.text(max_size=12), st.binary(max_size=12)), st.tuples(st.text(max_size=12), st.binary(max_size=12)))
def test_no_two_contents_have_one_encoding(first: tuple[str, bytes], second: tuple[str, bytes]):
    assert (pre_authentication_encoding(*first) == pre_authentication_encoding(*second)) is (first == second)


def test_lengths_are_in_bytes():
    assert pre_authentication_encoding("ü", b"\xff\0") == b"DSSEv1 2 \xc3\xbc 2 \xff\0"
    assert pre_authentication_encoding("", b"") == b"DSSEv1 0  0 "


# ---------------------------------------------------------------- signing and opening


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30), st.binary(max_size=60))
def test_any_payload_of_any_type_survives(payload_type: str, payload: bytes):
    data = sign_envelope(payload_type, payload, KEY)
    assert open_envelope(data, KEYS, payload_type) == (payload, (KEY.verifier,))
    assert Envelope.parse(data).encode() == data


def test_an_envelope_is_canonical_json_with_a_hint_at_its_key():
    fields = json.loads(DATA)
    assert list(fields) == ["payload", "payloadType", "signatures"]
    assert fields["signatures"][0]["keyid"] == f"ledger.example/log+{KEY.verifier.id.hex()}"
    assert b" " not in DATA


def test_several_signers_are_told_in_the_order_of_the_known_keys():
    data = sign_envelope(TYPE, PAYLOAD, KEY, SECOND)
    assert open_envelope(data, [SECOND.verifier, KEY.verifier], TYPE)[1] == (SECOND.verifier, KEY.verifier)
    assert open_envelope(data, [SECOND.verifier], TYPE)[1] == (SECOND.verifier,)


def test_one_key_counts_once_however_often_it_signed_or_is_known():
    data = sign_envelope(TYPE, PAYLOAD, KEY, KEY)
    assert open_envelope(data, [KEY.verifier, KEY.verifier], TYPE)[1] == (KEY.verifier,)


def test_a_signature_that_does_not_hold_is_passed_over_and_alone_is_not_enough():
    good = Envelope.parse(DATA)
    bad = EnvelopeSignature(bytes(64), good.signatures[0].key_id)
    assert open_envelope(replace(good, signatures=(bad, *good.signatures)).encode(), KEYS, TYPE)[0] == PAYLOAD
    with pytest.raises(NoteInvalid, match="no known key signed"):
        open_envelope(replace(good, signatures=(bad,)).encode(), KEYS, TYPE)


def test_the_hint_is_neither_needed_nor_believed():
    good = Envelope.parse(DATA)
    for hint in ("", "someone else", f"{SECOND.name}+{SECOND.verifier.id.hex()}"):
        renamed = replace(good, signatures=(replace(good.signatures[0], key_id=hint),)).encode()
        assert open_envelope(renamed, KEYS, TYPE)[1] == (KEY.verifier,)
        with pytest.raises(NoteInvalid, match="no known key signed"):
            open_envelope(renamed, [SECOND.verifier], TYPE)


def test_another_type_or_payload_under_the_same_signature_is_refused():
    good = Envelope.parse(DATA)
    with pytest.raises(NoteInvalid, match="not 'application/other'"):
        open_envelope(DATA, KEYS, "application/other")
    for altered in (replace(good, payload_type="application/other"), replace(good, payload=PAYLOAD + b" ")):
        with pytest.raises(NoteInvalid, match="no known key signed"):
            open_envelope(altered.encode(), KEYS, altered.payload_type)


def test_unknown_keys_no_keys_and_keys_of_other_types_open_nothing():
    timed = VerifierKey(KEY.name, COSIGNATURE, KEY.verifier.key)
    for keys in ([], [SECOND.verifier], [timed]):
        with pytest.raises(NoteInvalid, match="no known key signed"):
            open_envelope(DATA, keys, TYPE)


def test_a_signed_note_is_not_a_signed_envelope():
    text = pre_authentication_encoding(TYPE, b"text\n").decode()
    envelope = Envelope(TYPE, b"text", (EnvelopeSignature(KEY.sign_note(text).signature),))
    with pytest.raises(NoteInvalid, match="no known key signed"):
        open_envelope(envelope.encode(), KEYS, TYPE)


@pytest.mark.parametrize("type_", [COSIGNATURE, ML_DSA_44])
def test_only_ed25519_keys_sign_envelopes(type_: int):
    with pytest.raises(NoteInvalid, match="does not sign envelopes"):
        sign_envelope(TYPE, PAYLOAD, SecretKey.from_seed("w", bytes(32), type_))


def test_a_signer_that_holds_another_key_than_it_says_is_found_out():
    class Wrong:
        verifier = KEY.verifier

        def sign(self, message: bytes) -> bytes:
            return SECOND.sign(message)

    with pytest.raises(NoteInvalid, match="its own key does not verify"):
        sign_envelope(TYPE, PAYLOAD, Wrong())


# ---------------------------------------------------------------- the text


def test_fields_that_are_not_known_are_ignored_and_a_missing_hint_is_an_empty_one():
    signature = {"sig": json.loads(DATA)["signatures"][0]["sig"], "cert": {"x": [1, 2.5, None]}}
    data = written(signatures=[signature], version=2, more=None)
    assert Envelope.parse(data).signatures[0].key_id == ""
    assert open_envelope(data, KEYS, TYPE)[0] == PAYLOAD


def test_url_safe_base64_is_read_as_well():
    payload = b"\xff\xfe\xfd?>" * 3
    data = sign_envelope(TYPE, payload, KEY)
    fields = json.loads(data)
    for name in ("payload",):
        fields[name] = base64.urlsafe_b64encode(payload).decode()
        assert "_" in fields[name] or "-" in fields[name]
    line = fields["signatures"][0]
    line["sig"] = base64.urlsafe_b64encode(base64.b64decode(line["sig"])).decode()
    assert open_envelope(json.dumps(fields).encode(), KEYS, TYPE)[0] == payload


def test_an_empty_payload_and_type_are_signed_like_any_other():
    assert open_envelope(sign_envelope("", b"", KEY), KEYS, "")[0] == b""


SIGNATURES = json.loads(DATA)["signatures"]
MALFORMED = {
    "nothing": b"",
    "not UTF-8": b"\xff",
    "a byte order mark": b"\xef\xbb\xbf" + DATA,
    "a list": b"[]",
    "a string": b'"x"',
    "a number of many digits": b"9" * 5000,
    "trailing data": DATA + b"{}",
    "cut short": DATA[:-1],
    "deep nesting": b"[" * 100_000,
    "deep nesting in a field": DATA[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "NaN": DATA[:-1] + b',"x":NaN}',
    "a field twice": DATA[:-1] + b',"payload":""}',
    "no payload": written(payload=...),
    "no type": written(payloadType=...),
    "no signatures": written(signatures=...),
    "an empty list of signatures": written(signatures=[]),
    "too many signatures": written(signatures=SIGNATURES * 101),
    "signatures as an object": written(signatures=SIGNATURES[0]),
    "a signature as a string": written(signatures=["x"]),
    "a signature without sig": written(signatures=[{"keyid": "x"}]),
    "a hint that is null": written(signatures=[{**SIGNATURES[0], "keyid": None}]),
    "a payload that is null": written(payload=None),
    "a payload that is a number": written(payload=1),
    "a type that is a list": written(payloadType=[]),
    "a lone surrogate": written(payloadType="\ud800"),
    "a payload without padding": written(payload=json.loads(DATA)["payload"].rstrip("=")),
    "a payload with white space": written(payload=json.loads(DATA)["payload"] + "\n"),
    "a payload of another spelling": written(payload="eyJhIjoxfR=="),
    "a payload of both alphabets": written(payload="-_+/"),
    "a payload that is not base64": written(payload="!!!!"),
    "a payload that is not ASCII": written(payload="ü==="),
    "too large": DATA + b" " * MAX_ENVELOPE_BYTES,
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed_envelopes_are_refused(data: bytes):
    assert data != DATA
    with pytest.raises(NoteInvalid):
        Envelope.parse(data)


def test_as_many_signatures_as_allowed_are_read():
    assert open_envelope(written(signatures=SIGNATURES * 100), KEYS, TYPE)[1] == (KEY.verifier,)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.integers(0, len(DATA)))
def test_nothing_but_note_invalid_comes_of_any_bytes(data: bytes, place: int):
    for candidate in (data, DATA[:place] + data + DATA[place:], DATA[:place] + data):
        try:
            payload, _ = open_envelope(candidate, KEYS, TYPE)
        except NoteInvalid:
            continue
        assert payload == PAYLOAD
