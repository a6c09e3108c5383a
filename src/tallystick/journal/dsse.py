"""Envelopes: bytes with a type and the signatures over both (DSSE, Dead Simple Signing Envelope, 1.0.2).

What is signed is not the JSON but the *pre-authentication encoding* of type and payload, so how the envelope is
written does not matter, and a signature for one type of payload never holds for another. As the specification asks,
fields that are not known are ignored, and base64 may be the standard or the URL-safe kind. A key id is a hint that
nobody signed.

Only Ed25519 keys sign envelopes here. Limits: MAX_ENVELOPE_BYTES, MAX_SIGNATURES. Raises NoteInvalid throughout.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tallystick.errors import NoteInvalid
from tallystick.journal.notes import ED25519, MAX_SIGNATURES, Signer, VerifierKey, is_ed25519_signature
from tallystick.journal.plain_json import read_json

MAX_ENVELOPE_BYTES = 2_000_000


@dataclass(frozen=True, slots=True)
class EnvelopeSignature:
    """A signature, and the hint at whose it is (``<name>+<hex id>``, or empty)."""

    signature: bytes
    key_id: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload, its type, and signatures. Nothing about it is verified: see ``open_envelope``."""

    payload_type: str
    payload: bytes
    signatures: tuple[EnvelopeSignature, ...]

    def encode(self) -> bytes:
        """The envelope as canonical JSON."""
        signatures = [
            {"keyid": each.key_id, "sig": base64.b64encode(each.signature).decode()} for each in self.signatures
        ]
        payload = base64.b64encode(self.payload).decode()
        fields = {"payload": payload, "payloadType": self.payload_type, "signatures": signatures}
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def parse(cls, data: bytes) -> Envelope:
        """The envelope in these bytes. Raises NoteInvalid."""
        if len(data) > MAX_ENVELOPE_BYTES:
            raise NoteInvalid(problem=f"the envelope has {len(data)} bytes, more than {MAX_ENVELOPE_BYTES}")
        try:
            fields = read_json(data)
        except ValueError as error:
            raise NoteInvalid(problem=f"the envelope is not JSON: {error}") from None
        signatures = fields.get("signatures") if isinstance(fields, dict) else None
        if not isinstance(signatures, list) or not 1 <= len(signatures) <= MAX_SIGNATURES:
            raise NoteInvalid(problem=f"the envelope has not from 1 to {MAX_SIGNATURES} signatures")
        return cls(
            _text(fields, "payloadType"),
            _bytes(fields, "payload"),
            tuple(_signature(each) for each in signatures),
        )


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """What is signed: both strings behind their lengths in bytes."""
    type_ = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(type_), type_, len(payload), payload)


def sign_envelope(payload_type: str, payload: bytes, signer: Signer, *more: Signer) -> bytes:
    """The envelope, signed by each of these, as canonical JSON. Raises NoteInvalid for a key that is not Ed25519."""
    message = pre_authentication_encoding(payload_type, payload)
    signatures = tuple(_sign(message, each) for each in (signer, *more))
    return Envelope(payload_type, payload, signatures).encode()


def open_envelope(data: bytes, keys: Sequence[VerifierKey], payload_type: str) -> tuple[bytes, tuple[VerifierKey, ...]]:
    """The payload, and which of the known keys signed it: one at least; how many are enough is for the caller to say.

    Raises NoteInvalid if it is malformed, of another type, or signed by no known key. As DSSE has it, signatures that
    do not hold are passed over.
    """
    envelope = Envelope.parse(data)
    if envelope.payload_type != payload_type:
        raise NoteInvalid(problem=f"the envelope holds {envelope.payload_type!r}, not {payload_type!r}")
    message = pre_authentication_encoding(envelope.payload_type, envelope.payload)
    signers = tuple(
        key
        for key in dict.fromkeys(keys)
        if key.type == ED25519
        and any(is_ed25519_signature(key.key, message, each.signature) for each in envelope.signatures)
    )
    if not signers:
        raise NoteInvalid(problem="no known key signed the envelope")
    return envelope.payload, signers


def _sign(message: bytes, signer: Signer) -> EnvelopeSignature:
    key = signer.verifier
    if key.type != ED25519:
        raise NoteInvalid(problem=f"the key {key.name} is not an Ed25519 key and does not sign envelopes")
    signature = signer.sign(message)
    if not is_ed25519_signature(key.key, message, signature):
        raise NoteInvalid(problem=f"the signer of {key.name} gave a signature that its own key does not verify")
    return EnvelopeSignature(signature, f"{key.name}+{key.id.hex()}")


def _signature(found: Any) -> EnvelopeSignature:
    if not isinstance(found, dict):
        raise NoteInvalid(problem="a signature of the envelope is not an object")
    return EnvelopeSignature(_bytes(found, "sig"), _text(found, "keyid") if "keyid" in found else "")


def _text(fields: dict[str, Any], name: str) -> str:
    text = fields.get(name)
    if not isinstance(text, str):
        raise NoteInvalid(problem=f"the envelope's {name} is not there or not a string")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NoteInvalid(problem=f"the envelope's {name} has a lone surrogate") from None
    return text


def _bytes(fields: dict[str, Any], name: str) -> bytes:
    text = _text(fields, name)
    for decode, encode in (
        (base64.standard_b64decode, base64.standard_b64encode),
        (base64.urlsafe_b64decode, base64.urlsafe_b64encode),
    ):
        try:
            data = decode(text)
        except ValueError:
            continue
        if encode(data).decode() == text:  # the decoders pass over what is not base64, and over unused bits
            return data
    raise NoteInvalid(problem=f"the envelope's {name} is not canonical base64")
