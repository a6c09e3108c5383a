"""Receipts: the proof that one event is in the log, and the promise that it will be.

A *receipt* is a C2SP tlog-proof, best kept as a file ``.tlog-proof``. It can be checked offline with nothing but the
log's key, and the witnesses' keys if a policy asks for them. The specification leaves ``extra`` to the application:
here it is the event's own bytes, which nobody signed but which must hash to the leaf that is proven.

    c2sp.org/tlog-proof@v1
    extra <base64: the event>
    index <number>
    <base64: one hash a line, from the leaf's sibling up>

    <the checkpoint, a signed note>

An *acceptance* is what a client holds until the next checkpoint: the log's signature under the event's place and hash
and the time by which a checkpoint will include it. If none does, the acceptance is the evidence.

Limits: an event is at most 65,535 bytes; a proof at most MAX_PROOF_HASHES. Malformed or wrongly signed: NoteInvalid.
Well formed and signed, but proving something else: ProofInvalid.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tallystick.clock import parse_time
from tallystick.errors import InvalidInput, LedgerCorrupt, NoteInvalid, ProofInvalid
from tallystick.events import MAX_EVENT_BYTES, Event
from tallystick.journal.canonical import decode_strict, parse_strict
from tallystick.journal.checkpoints import Checkpoint, open_checkpoint
from tallystick.journal.dsse import open_envelope, sign_envelope
from tallystick.journal.merkle import check_inclusion, hash_leaf
from tallystick.journal.notes import (
    MAX_NOTE_BYTES,
    MAX_SIZE,
    Signer,
    VerifierKey,
    check_line,
    decode_base64,
    read_number,
    signers_of,
)
from tallystick.journal.policies import Policy

HEADER = "c2sp.org/tlog-proof@v1"
MAX_PROOF_HASHES = 63
MAX_RECEIPT_BYTES = MAX_NOTE_BYTES + 100_000
ACCEPTANCE_TYPE = "application/vnd.tallystick.acceptance.v1+json"

_HEX_HASH = re.compile(r"[0-9a-f]{64}\Z")


# ---------------------------------------------------------------- receipts


@dataclass(frozen=True, slots=True)
class Receipt:
    """One event's place, the hashes up to the root, the signed checkpoint, and the event's bytes. Nothing verified."""

    index: int
    proof: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes = b""

    def __post_init__(self) -> None:
        if not 0 <= self.index < MAX_SIZE:
            raise NoteInvalid(problem=f"the index {self.index} is not below {MAX_SIZE}")
        if len(self.proof) > MAX_PROOF_HASHES or any(len(hash_) != 32 for hash_ in self.proof):
            raise NoteInvalid(problem=f"the proof is not at most {MAX_PROOF_HASHES} hashes of 32 bytes")
        if len(self.extra) > MAX_EVENT_BYTES:
            raise NoteInvalid(problem=f"the event has {len(self.extra)} bytes, more than {MAX_EVENT_BYTES}")
        if not 0 < len(self.checkpoint) <= MAX_NOTE_BYTES:
            raise NoteInvalid(problem=f"the checkpoint has not from 1 to {MAX_NOTE_BYTES} bytes")

    def encode(self) -> bytes:
        extra = [f"extra {base64.b64encode(self.extra).decode()}"] if self.extra else []
        hashes = [base64.b64encode(hash_).decode() for hash_ in self.proof]
        return "\n".join([HEADER, *extra, f"index {self.index}", *hashes, "", ""]).encode() + self.checkpoint

    @classmethod
    def parse(cls, data: bytes) -> Receipt:
        """The receipt in these bytes, all of them; its checkpoint is not read yet. Raises NoteInvalid."""
        if len(data) > MAX_RECEIPT_BYTES:
            raise NoteInvalid(problem=f"{len(data)} bytes are more than {MAX_RECEIPT_BYTES}")
        head, blank, checkpoint = data.partition(b"\n\n")
        if not blank or not head.isascii():
            raise NoteInvalid(problem="a receipt is ASCII lines, an empty line and a checkpoint")
        header, *lines = head.decode().split("\n")
        if header != HEADER:
            raise NoteInvalid(problem=f"a receipt begins with {HEADER}")
        extra = b""
        if lines and lines[0].startswith("extra "):
            extra = decode_base64(lines.pop(0).removeprefix("extra "), "the extra data")
        if not lines or not lines[0].startswith("index "):
            raise NoteInvalid(problem="the receipt has no index line where it must be")
        index = read_number(lines[0].removeprefix("index "), "the index")
        return cls(index, tuple(decode_base64(line, "a hash of the proof") for line in lines[1:]), checkpoint, extra)


@dataclass(frozen=True, slots=True)
class Verified:
    """What a receipt proves: this event is number ``index`` of the log, as of this checkpoint.

    ``witnesses`` are the policy's witnesses that cosigned it; without a policy none are known.
    """

    body: bytes
    event: Event
    index: int
    checkpoint: Checkpoint
    witnesses: tuple[VerifierKey, ...] = ()

    @property
    def ledger(self) -> str:
        """Which ledger the event itself says that it is of."""
        return self.event.ledger


def check_receipt(
    receipt: Receipt | bytes, keys: Sequence[VerifierKey] = (), *, origin: str = "", policy: Policy | None = None
) -> Verified:
    """What this receipt proves to someone who trusts these keys of the log, and this policy if there is one.

    The log is known by ``keys``, by the policy's logs, or by both: then it must be one that both know. Origin and
    names: see ``open_checkpoint``. Raises NoteInvalid (malformed, not rightly signed, quorum missed) or ProofInvalid
    (the event is not what the log has at this place).
    """
    receipt = receipt if isinstance(receipt, Receipt) else Receipt.parse(receipt)
    checkpoint, witnesses = check_checkpoint(receipt.checkpoint, keys, origin=origin, policy=policy)
    if not receipt.extra:
        raise ProofInvalid(problem="the receipt does not have the event")
    check_inclusion(receipt.index, checkpoint.size, hash_leaf(receipt.extra), list(receipt.proof), checkpoint.root)
    try:
        event = decode_strict(receipt.extra)
    except (LedgerCorrupt, RecursionError) as error:
        raise ProofInvalid(problem=f"what is in the log there is not an event: {error}") from None
    if event.seq != receipt.index:
        raise ProofInvalid(problem=f"event {event.seq} is in the place of event {receipt.index}")
    return Verified(receipt.extra, event, receipt.index, checkpoint, witnesses)


def check_checkpoint(
    data: bytes, keys: Sequence[VerifierKey] = (), *, origin: str = "", policy: Policy | None = None
) -> tuple[Checkpoint, tuple[VerifierKey, ...]]:
    """The checkpoint in this note, and which of the policy's witnesses cosigned it. Keys and errors as above.

    A policy binds each of its logs to the origin that is its key's name, so that is asked whatever ``origin`` says.
    """
    log_keys, bound = list(keys), False
    if policy is not None and policy.logs:
        log_keys, bound = [key for key in policy.log_keys if not keys or key in keys], True
    witness_keys = policy.witness_keys if policy is not None else ()
    checkpoint, note = open_checkpoint(data, log_keys, "" if bound else origin, witnesses=witness_keys)
    if origin and checkpoint.origin != origin:
        raise NoteInvalid(problem=f"it is a checkpoint of {checkpoint.origin}, not of {origin}")
    witnesses = signers_of(note, witness_keys)
    if policy is not None and not policy.satisfied_by(witnesses):
        raise NoteInvalid(problem=f"{len(witnesses)} known witnesses cosigned it, which is not the policy's quorum")
    return checkpoint, witnesses


# ---------------------------------------------------------------- acceptances


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The log's promise: event ``seq`` with this hash, behind ``prev``, will be in a checkpoint by ``promise_by``.

    Hashes are leaf hashes in hex, times as the journal writes them.
    """

    origin: str
    seq: int
    event_hash: str
    prev: str
    time: str
    promise_by: str

    def __post_init__(self) -> None:
        texts = (self.origin, self.event_hash, self.prev, self.time, self.promise_by)
        if type(self.seq) is not int or any(type(text) is not str for text in texts):
            raise NoteInvalid(problem="a field of the acceptance is of the wrong type")
        if not 0 <= self.seq <= 2**53 - 1:
            raise NoteInvalid(problem=f"{self.seq} is not the number of an event")
        check_line(self.origin, "the origin")
        if not _HEX_HASH.match(self.event_hash) or not _HEX_HASH.match(self.prev):
            raise NoteInvalid(problem="a hash of the acceptance is not 64 hex digits")
        if not _is_time(self.time) or not _is_time(self.promise_by) or self.promise_by < self.time:
            raise NoteInvalid(problem="the times of the acceptance are not two times in order")

    def encode(self) -> bytes:
        """The payload: canonical JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def parse(cls, payload: bytes) -> Acceptance:
        """The acceptance in this payload, in its only spelling. Raises NoteInvalid."""
        try:
            fields: dict[str, Any] = parse_strict(payload)
        except LedgerCorrupt as error:
            raise NoteInvalid(problem=f"the acceptance is not canonical: {error.data['problem']}") from None
        if fields.keys() != set(cls.__slots__):
            raise NoteInvalid(problem="the acceptance does not have exactly its six fields")
        return cls(**fields)


def sign_acceptance(acceptance: Acceptance, signer: Signer) -> bytes:
    """The acceptance as a DSSE envelope. Raises NoteInvalid unless the signer has an Ed25519 key."""
    return sign_envelope(ACCEPTANCE_TYPE, acceptance.encode(), signer)


def check_acceptance(data: bytes, keys: Sequence[VerifierKey], *, origin: str = "") -> Acceptance:
    """The acceptance in this envelope, signed by one of the log's keys. Raises NoteInvalid.

    As with checkpoints: with ``origin`` it must be that log's, without, the key must bear the origin as its name.
    """
    payload, signers = open_envelope(data, keys, ACCEPTANCE_TYPE)
    acceptance = Acceptance.parse(payload)
    if origin and acceptance.origin != origin:
        raise NoteInvalid(problem=f"it is an acceptance by {acceptance.origin}, not by {origin}")
    if not origin and all(key.name != acceptance.origin for key in signers):
        raise NoteInvalid(problem=f"{signers[0].name} signed an acceptance by {acceptance.origin}, which it may not")
    return acceptance


def _is_time(text: str) -> bool:
    try:
        return parse_time(text) == text
    except InvalidInput:
        return False
