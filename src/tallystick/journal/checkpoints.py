"""Checkpoints: the signed statement of how many events a log has and which root they give (C2SP tlog-checkpoint).

    <origin: which log>
    <size, in decimal>
    <root hash, in base64>

as the text of a signed note. Witnesses add cosignatures, which bear a time (C2SP tlog-cosignature). Extension lines
are read, because others may write them, but never written by this ledger: whatever must be known is an event.

Raises NoteInvalid throughout.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tallystick.errors import NoteInvalid
from tallystick.journal.notes import (
    ED25519,
    MAX_SIZE,
    Note,
    NoteSignature,
    Signer,
    VerifierKey,
    check_line,
    read_tree_head,
    sign_note,
    sign_with_time,
    signers_of,
)

_TIMED_SIGNATURE_BYTES = (8 + 64, 8 + 2420)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says of itself: its origin, its size, its root, and any extension lines."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_line(self.origin, "the origin")
        for line in self.extensions:
            check_line(line, "the extension line")
        if not 0 <= self.size <= MAX_SIZE:
            raise NoteInvalid(problem=f"the tree size {self.size} is not from 0 to {MAX_SIZE}")
        if len(self.root) != 32:
            raise NoteInvalid(problem=f"the root hash has {len(self.root)} bytes, not 32")

    @property
    def text(self) -> str:
        """The text of the note, with its last newline."""
        return "".join(f"{line}\n" for line in (self.origin, self.size, _base64(self.root), *self.extensions))

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """The checkpoint that this text is, all of it. Raises NoteInvalid, also for leading zeros or short roots."""
        return cls(*read_tree_head(text))


def read_checkpoint(note: bytes) -> Checkpoint:
    """What a note says, whoever signed it: no signature is looked at. Raises NoteInvalid."""
    return Checkpoint.parse(Note.parse(note).text)


def open_checkpoint(
    data: bytes, keys: Sequence[VerifierKey], origin: str = "", *, witnesses: Iterable[VerifierKey] = ()
) -> tuple[Checkpoint, Note]:
    """The checkpoint in these bytes, which one of the log's ``keys`` must have signed.

    With ``origin`` it must be that log's. Without, it must be signed by a key that bears the origin as its name, so
    that of several logs' keys none can speak for another log. ``witnesses`` never count as the log, but a failing
    signature of one spoils the note like one of the log's; which of them cosigned is for ``signers_of`` to say.
    """
    note = Note.parse(data)
    checkpoint = Checkpoint.parse(note.text)
    if origin and checkpoint.origin != origin:
        raise NoteInvalid(problem=f"it is a checkpoint of {checkpoint.origin}, not of {origin}")
    known = dict.fromkeys(keys)
    signers = [key for key in signers_of(note, [*known, *witnesses]) if key in known]
    if not signers:
        raise NoteInvalid(problem="no known key of the log signed it")
    if not origin and all(key.name != checkpoint.origin for key in signers):
        raise NoteInvalid(problem=f"{signers[0].name} signed a checkpoint of {checkpoint.origin}, which it may not")
    return checkpoint, note


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer, *more: Signer, time_seconds: int = 0) -> bytes:
    """The whole note: the checkpoint, signed by each of these.

    ``time_seconds`` goes into the signatures of keys that make timed ones; a log that signs with ML-DSA-44 may leave
    it at 0. A log must never sign two checkpoints of which one does not extend the other: that is for the caller.
    """
    signatures = tuple(
        sign_note(checkpoint.text, each)
        if each.verifier.type == ED25519
        else sign_with_time(checkpoint.text, each, time_seconds)
        for each in (signer, *more)
    )
    return Note(checkpoint.text, signatures).encode()


def cosign(note: bytes, key: Signer, time_seconds: int) -> NoteSignature:
    """A witness's signature of the checkpoint in this note, as of this time in seconds since 1970.

    The log's own signature and the consistency with what was cosigned before are for the witness to check first.
    """
    return sign_with_time(Note.parse(note).text, key, time_seconds)


def cosignature_time(signature: NoteSignature) -> int:
    """The time within a cosignature, in seconds since 1970. It is worth what the verified signature is worth."""
    if len(signature.signature) not in _TIMED_SIGNATURE_BYTES:
        raise NoteInvalid(problem=f"the signature of {signature.name} bears no time")
    time_seconds = int.from_bytes(signature.signature[:8], "big")
    if time_seconds > MAX_SIZE:
        raise NoteInvalid(problem=f"the cosignature of {signature.name} bears a time beyond {MAX_SIZE}")
    return time_seconds


def with_signatures(note: bytes, signatures: Iterable[NoteSignature]) -> bytes:
    """The note with these signatures behind its own; one by the same key (name and id) takes the older one's place."""
    old = Note.parse(note)
    new = {(signature.name, signature.key_id): signature for signature in signatures}
    kept = tuple(line for line in old.signatures if (line.name, line.key_id) not in new)
    return Note(old.text, (*kept, *new.values())).encode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
