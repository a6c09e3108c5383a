"""Signed notes: a text and the signatures under it (C2SP signed-note, v1.0.0).

    <text, ending in a newline>
    <empty line>
    — <key name> <base64 of key id and signature>
    ...

A key is known by its name and a four-byte id. Verifiers ignore the signatures of keys that they do not know, and
refuse the whole note if one of a key that they know fails. Three types of signature are read and written:

    0x01  Ed25519 over the text
    0x04  Ed25519 cosignature of a checkpoint, with the time (C2SP tlog-cosignature)
    0x06  ML-DSA-44 cosignature of a checkpoint, with the time (needs a ``cryptography`` library that has it)

There is one way to spell a note: where base64 leaves bits unused they must be zero, hexadecimal is in small letters,
and anything else is refused. That is stricter than Go's note package, which reads everything that is accepted here.

Limits: MAX_SIGNATURES (as in Go; the specification asks for 16 at least) and MAX_NOTE_BYTES. Everything here raises
NoteInvalid, and nothing else, for whatever bytes it is given.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from tallystick.errors import NoteInvalid

ED25519 = 0x01
COSIGNATURE = 0x04
ML_DSA_44 = 0x06

MAX_SIGNATURES = 100
MAX_NOTE_BYTES = 1_000_000
MAX_SIZE = 2**63 - 1
"""The largest tree size, index and time: what fits into the signed integers of other people's programs."""

_KEY_BYTES = {ED25519: 32, COSIGNATURE: 32, ML_DSA_44: 1312}
_SIGNATURE_BYTES = {ED25519: 64, COSIGNATURE: 8 + 64, ML_DSA_44: 8 + 2420}
_SEED_BYTES = 32
_KEY_ID_BYTES = 4
_HASH_BYTES = 32
_DASH = "\N{EM DASH} "
_SECRET_PREFIX = "PRIVATE+KEY+"
_KEY_ID = re.compile(r"[0-9a-f]{8}\Z")
_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,18})\Z")
_CONTROL = re.compile(r"[\x00-\x1f]")
_CONTROL_IN_TEXT = re.compile(r"[\x00-\x09\x0b-\x1f]")

_P = 2**255 - 19
_EIGHTH = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER = frozenset((0, 1, _P - 1, _EIGHTH, _P - _EIGHTH))
"""The y of the eight points of Ed25519 whose order divides 8: each verifies signatures that nobody made."""

T = TypeVar("T")


# ---------------------------------------------------------------- keys


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with the name of who holds it. Its text, the vkey, is ``<name>+<hex id>+<base64 type and key>``."""

    name: str
    type: int
    key: bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.type not in _KEY_BYTES:
            raise NoteInvalid(problem=f"signature type {self.type:#04x} of the key {self.name} is not known here")
        if len(self.key) != _KEY_BYTES[self.type]:
            raise NoteInvalid(problem=f"the key {self.name} has {len(self.key)} bytes, not {_KEY_BYTES[self.type]}")
        if self.type != ML_DSA_44:
            y = int.from_bytes(self.key, "little") & (2**255 - 1)
            if y >= _P or y in _SMALL_ORDER:
                raise NoteInvalid(problem=f"the key {self.name} is of small order, or none: anybody could sign with it")

    @property
    def id(self) -> bytes:
        """SHA-256(name, newline, type, key), its first four bytes."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.type]) + self.key).digest()[:_KEY_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(bytes([self.type]) + self.key).decode()}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """The key of a vkey. Raises NoteInvalid, also for an id that is not the key's own."""
        parts = text.split("+", 2)
        if len(parts) != 3 or not _KEY_ID.match(parts[1]):
            raise NoteInvalid(problem="a verifier key is <name>+<8 hex digits>+<base64>")
        material = decode_base64(parts[2], "a verifier key")
        key = cls(parts[0], material[0], material[1:])
        if key.id.hex() != parts[1]:
            raise NoteInvalid(problem=f"the key {key.name} names the id {parts[1]}, but its own is {key.id.hex()}")
        return key


class Signer(Protocol):
    """Whoever holds a secret key: a key file, or a service that signs. ``sign`` gives the raw signature of bytes."""

    @property
    def verifier(self) -> VerifierKey: ...

    def sign(self, message: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A secret key in memory: a Signer. Its text is that of Go's note package. Its repr does not show the seed."""

    name: str
    type: int
    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.type not in _KEY_BYTES:
            raise NoteInvalid(problem=f"signature type {self.type:#04x} of the key {self.name} is not known here")
        if len(self.seed) != _SEED_BYTES:
            raise NoteInvalid(problem=f"the seed of the key {self.name} has not {_SEED_BYTES} bytes")

    @classmethod
    def from_seed(cls, name: str, seed: bytes, type: int = ED25519) -> SecretKey:
        """The key that these 32 random bytes make."""
        return cls(name, type, seed)

    @classmethod
    def parse(cls, text: str) -> SecretKey:
        """The key of ``PRIVATE+KEY+<name>+<hex id>+<base64 type and seed>``. Raises NoteInvalid, without the text."""
        parts = text.removeprefix(_SECRET_PREFIX).split("+", 2)
        if not text.startswith(_SECRET_PREFIX) or len(parts) != 3 or not _KEY_ID.match(parts[1]):
            raise NoteInvalid(problem="a secret key is PRIVATE+KEY+<name>+<8 hex digits>+<base64>")
        material = decode_base64(parts[2], "a secret key")
        key = cls(parts[0], material[0], material[1:])
        if key.verifier.id.hex() != parts[1]:
            raise NoteInvalid(problem=f"the secret key {key.name} does not belong to the id {parts[1]}")
        return key

    def encode(self) -> str:
        """The key as text, without a newline. Whoever reads it can sign."""
        material = base64.b64encode(bytes([self.type]) + self.seed).decode()
        return f"{_SECRET_PREFIX}{self.name}+{self.verifier.id.hex()}+{material}"

    @property
    def verifier(self) -> VerifierKey:
        private = _ml_dsa_private(self.seed) if self.type == ML_DSA_44 else _ed25519_private(self.seed)
        return VerifierKey(self.name, self.type, private.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """The raw signature of these bytes."""
        private = _ml_dsa_private(self.seed) if self.type == ML_DSA_44 else _ed25519_private(self.seed)
        return private.sign(message)

    def sign_note(self, text: str) -> NoteSignature:
        return sign_note(text, self)


# ---------------------------------------------------------------- notes


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: whose it claims to be, and the bytes behind the key id."""

    name: str
    key_id: bytes
    signature: bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        if len(self.key_id) != _KEY_ID_BYTES or not self.signature:
            raise NoteInvalid(problem=f"the signature of {self.name} is too short")

    @property
    def line(self) -> str:
        """As it stands in a note, with its newline."""
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"

    @classmethod
    def parse(cls, line: str) -> NoteSignature:
        """The signature of one line, with or without its newline. Raises NoteInvalid."""
        name, space, encoded = line.removesuffix("\n").removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not space:
            raise NoteInvalid(problem="a signature line is an em dash, a space, a name, a space and base64")
        material = decode_base64(encoded, "a signature")
        return cls(name, material[:_KEY_ID_BYTES], material[_KEY_ID_BYTES:])

    def is_by(self, key: VerifierKey) -> bool:
        """Whether it claims to be this key's. It says nothing about whether it holds."""
        return self.name == key.name and self.key_id == key.id


@dataclass(frozen=True, slots=True)
class Note:
    """A text with its last newline, and its signatures in order. Nothing about it is verified: see ``open_note``."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def __post_init__(self) -> None:
        _check_text(self.text)
        if not 1 <= len(self.signatures) <= MAX_SIGNATURES:
            raise NoteInvalid(problem=f"{len(self.signatures)} signatures are not from 1 to {MAX_SIGNATURES}")

    def encode(self) -> bytes:
        data = (self.text + "\n" + "".join(signature.line for signature in self.signatures)).encode()
        _check_note_size(data)
        return data

    @classmethod
    def parse(cls, data: bytes) -> Note:
        """The note in these bytes, all of them. Raises NoteInvalid."""
        _check_note_size(data)
        try:
            whole = data.decode()
        except UnicodeDecodeError:
            raise NoteInvalid(problem="it is not UTF-8") from None
        # The last empty line parts them, for the text may have empty lines of its own.
        body, blank, lines = whole.rpartition("\n\n")
        if not blank or not lines.endswith("\n"):
            raise NoteInvalid(problem="it does not end in an empty line and whole signature lines")
        found = lines[:-1].split("\n", MAX_SIGNATURES)
        if len(found) > MAX_SIGNATURES:
            raise NoteInvalid(problem=f"it has more than {MAX_SIGNATURES} signatures")
        return cls(body + "\n", tuple(NoteSignature.parse(line) for line in found))


def signers_of(note: Note, keys: Iterable[VerifierKey]) -> tuple[VerifierKey, ...]:
    """Which of these keys signed the note, each once, in the order of its lines; perhaps none.

    Every line that claims to be by one of the keys is verified, also a second one by the same key. Raises NoteInvalid
    if one fails, or if two of the keys have the same name and id.
    """
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for key in keys:
        if known.setdefault((key.name, key.id), key) != key:
            raise NoteInvalid(problem=f"two of the known keys are both {key.name}+{key.id.hex()}")
    signers: dict[VerifierKey, None] = {}
    for line in note.signatures:
        signer = known.get((line.name, line.key_id))
        if signer is None:
            continue
        if not _verifies(signer, note.text, line.signature):
            raise NoteInvalid(problem=f"the signature of {signer.name}+{signer.id.hex()} does not hold")
        signers[signer] = None
    return tuple(signers)


def open_note(data: bytes, keys: Sequence[VerifierKey]) -> tuple[Note, tuple[VerifierKey, ...]]:
    """The note in these bytes and which of the known keys signed it.

    Raises NoteInvalid if it is malformed, if a signature of a known key fails, or if no known key signed. During a
    rotation both keys are known, and either is enough.
    """
    note = Note.parse(data)
    signers = signers_of(note, keys)
    if not signers:
        raise NoteInvalid(problem="no known key signed it")
    return note, signers


def sign_note(text: str, signer: Signer) -> NoteSignature:
    """The Ed25519 signature (0x01) of this text. Raises NoteInvalid; for the timed types there is ``cosign``."""
    _check_text(text)
    key = signer.verifier
    if key.type != ED25519:
        raise NoteInvalid(problem=f"the key {key.name} makes cosignatures, which need a checkpoint and a time")
    return _checked_signature(text, key, signer.sign(text.encode()))


def sign_with_time(text: str, signer: Signer, time_seconds: int) -> NoteSignature:
    """The cosignature (0x04, 0x06) of a checkpoint's text as of this time. Raises NoteInvalid.

    An ML-DSA-44 cosignature may bear time 0, which says nothing about when.
    """
    key = signer.verifier
    if key.type not in (COSIGNATURE, ML_DSA_44):
        raise NoteInvalid(problem=f"the key {key.name} of type {key.type:#04x} does not make cosignatures")
    if not (0 if key.type == ML_DSA_44 else 1) <= time_seconds <= MAX_SIZE:
        raise NoteInvalid(problem=f"{time_seconds} is no time for a cosignature")
    raw = signer.sign(cosigned_message(key, text, time_seconds))
    return _checked_signature(text, key, time_seconds.to_bytes(8, "big") + raw)


# ---------------------------------------------------------------- what is signed


def cosigned_message(key: VerifierKey, text: str, time_seconds: int) -> bytes:
    """The bytes under a cosignature of this checkpoint text (C2SP tlog-cosignature). Raises NoteInvalid."""
    origin, size, root, extensions = read_tree_head(text)
    if key.type == COSIGNATURE:
        return f"cosignature/v1\ntime {time_seconds}\n{text}".encode()
    if extensions:
        # The specification leaves them out of the message, so anyone could have added them.
        raise NoteInvalid(problem="an ML-DSA-44 signature does not cover extension lines, and there are some")
    time = time_seconds.to_bytes(8, "big")
    names = (_short_text(key.name, "key name"), _short_text(origin, "origin"))
    return b"subtree/v1\n\0" + names[0] + time + names[1] + bytes(8) + size.to_bytes(8, "big") + root


def read_tree_head(text: str) -> tuple[str, int, bytes, tuple[str, ...]]:
    """Origin, size, root and extension lines of a checkpoint's text (C2SP tlog-checkpoint). Raises NoteInvalid."""
    _check_text(text)
    lines = text[:-1].split("\n")
    if len(lines) < 3 or not all(lines):
        raise NoteInvalid(problem="a checkpoint is at least three lines, none of them empty")
    size = read_number(lines[1], "the tree size")
    root = decode_base64(lines[2], "the root hash")
    if len(root) != _HASH_BYTES:
        raise NoteInvalid(problem=f"the root hash has {len(root)} bytes, not {_HASH_BYTES}")
    return lines[0], size, root, tuple(lines[3:])


def read_number(text: str, what: str) -> int:
    """A number in decimal digits without leading zeros, up to MAX_SIZE. Raises NoteInvalid."""
    if not _NUMBER.match(text) or int(text) > MAX_SIZE:
        raise NoteInvalid(problem=f"{what} is not a number in decimal digits from 0 to {MAX_SIZE}")
    return int(text)


def decode_base64(text: str, what: str) -> bytes:
    """The bytes of this standard, padded base64, at least one, in its only spelling. Raises NoteInvalid."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        data = b""
    if not data or base64.b64encode(data).decode() != text:
        raise NoteInvalid(problem=f"{what} is not canonical base64")
    return data


def check_line(line: str, what: str) -> None:
    """Raises NoteInvalid unless this can stand as a line of its own: not empty, no control character, no newline."""
    if not line or _CONTROL.search(line):
        raise NoteInvalid(problem=f"{what} {line!r} is empty or has control characters")
    _check_encodable(line)


def is_ed25519_signature(key: bytes, message: bytes, signature: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - keeps `import tallystick` quick
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


# ---------------------------------------------------------------- helpers


def _verifies(key: VerifierKey, text: str, signature: bytes) -> bool:
    if len(signature) != _SIGNATURE_BYTES[key.type]:
        return False
    if key.type == ED25519:
        return is_ed25519_signature(key.key, text.encode(), signature)
    time_seconds = int.from_bytes(signature[:8], "big")
    if time_seconds > MAX_SIZE:
        return False
    message = cosigned_message(key, text, time_seconds)
    verify = is_ed25519_signature if key.type == COSIGNATURE else _is_ml_dsa_signature
    return verify(key.key, message, signature[8:])


def _checked_signature(text: str, key: VerifierKey, signature: bytes) -> NoteSignature:
    # A signer that holds another key than it says would otherwise publish what nobody can verify.
    if not _verifies(key, text, signature):
        raise NoteInvalid(problem=f"the signer of {key.name} gave a signature that its own key does not verify")
    return NoteSignature(key.name, key.id, signature)


def _is_ml_dsa_signature(key: bytes, message: bytes, signature: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415

    def verify() -> bool:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey  # noqa: PLC0415

        try:
            MLDSA44PublicKey.from_public_bytes(key).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    return _with_ml_dsa(verify)


class _Private(Protocol):
    def sign(self, data: bytes, /) -> bytes: ...
    def public_key(self) -> _Public: ...


class _Public(Protocol):
    def public_bytes_raw(self) -> bytes: ...


def _ed25519_private(seed: bytes) -> _Private:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    return Ed25519PrivateKey.from_private_bytes(seed)


def _ml_dsa_private(seed: bytes) -> _Private:
    def load() -> _Private:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey  # noqa: PLC0415

        return MLDSA44PrivateKey.from_seed_bytes(seed)

    return _with_ml_dsa(load)


def _with_ml_dsa(use: Callable[[], T]) -> T:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415

    try:
        return use()
    except (ImportError, UnsupportedAlgorithm):
        raise NoteInvalid(problem="the installed library `cryptography` cannot do ML-DSA-44") from None


def check_name(name: str) -> None:
    """Raises NoteInvalid for what cannot be a key's name."""
    # The white space of Unicode, pluses and control characters are what Go's note package refuses in a name or a note.
    check_line(name, "the key name")
    if "+" in name or any(character.isspace() for character in name):
        raise NoteInvalid(problem=f"the key name {name!r} has a space or a plus")


def _check_text(text: str) -> None:
    if not text.endswith("\n") or _CONTROL_IN_TEXT.search(text):
        raise NoteInvalid(problem="a note's text ends in a newline and has no other control character")
    _check_encodable(text)


def _check_encodable(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NoteInvalid(problem="there is a lone surrogate, which UTF-8 does not have") from None


def _check_note_size(data: bytes) -> None:
    if len(data) > MAX_NOTE_BYTES:
        raise NoteInvalid(problem=f"{len(data)} bytes are more than {MAX_NOTE_BYTES}")


def _short_text(text: str, what: str) -> bytes:
    data = text.encode()
    if len(data) > 255:
        raise NoteInvalid(problem=f"the {what} has {len(data)} bytes; an ML-DSA-44 cosignature allows 255")
    return bytes([len(data)]) + data
