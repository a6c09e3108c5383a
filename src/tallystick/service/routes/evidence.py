"""Evidence: receipts of what happened, and what strangers check a ledger by.

What holds hashes alone (checkpoints, proofs, tiles, the log's keys) needs no key; the log's prefix in the words of C2SP
tlog-tiles is ``/v1/ledgers/{ledger}``. Entry bundles are not handed out, as they hold the events themselves. Nothing is
signed here: checkpoints are made by a job.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from tallystick.erasable import is_commitment
from tallystick.errors import (
    Forbidden,
    InvalidInput,
    LogForked,
    LogNotFound,
    NoteInvalid,
    NotFound,
    ProofInvalid,
    TransactionNotFound,
)
from tallystick.evidence.log import Log
from tallystick.journal import leaf_hash
from tallystick.journal.notes import VerifierKey
from tallystick.journal.policies import Policy
from tallystick.journal.receipts import Receipt, Verified, check_acceptance, check_receipt
from tallystick.journal.tiles import HEIGHT, WIDTH, Tile, parse_path
from tallystick.ledger.views import Transaction
from tallystick.service.calls import MAX_NUMBER, Call
from tallystick.service.later import NotYet
from tallystick.service.logs import log_of, public_log, signed_size
from tallystick.service.operations import Group
from tallystick.service.routes.accounts import Limit
from tallystick.service.routes.transactions import visible
from tallystick.wire.answers import Page
from tallystick.wire.evidence import (
    CheckpointAnswer,
    ConsistencyAnswer,
    ErasedAnswer,
    EraseRequest,
    InclusionAnswer,
    LogAnswer,
    ReceiptAnswer,
    VerdictAnswer,
    VerifyRequest,
)
from tallystick.wire.fields import Cursor

EVIDENCE = Group("Evidence")

_HERE = "/v1/ledgers/{ledger}"
NOTE_TYPE = "text/plain; charset=utf-8"
BYTES_TYPE = "application/octet-stream"

Number = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]


# ---------------------------------------------------------------- receipts


@EVIDENCE.read(f"{_HERE}/transactions/{{transaction}}/receipt", answer=ReceiptAnswer)
def get_receipt(call: Call) -> ReceiptAnswer:
    """The receipt of a transaction: its bytes, and the proof that a signed checkpoint covers them.

    A receipt holds the whole event, with the balances of everyone in it. So the key must be one that may read every
    account of the transaction, or that may audit the ledger. Until the next checkpoint there is none: the problem is
    then ``not_covered_yet``, and the same request goes through a few seconds later.
    """
    found = _of_auditor(call) if call.principal.covers("audit", call.ledger_name, "") else visible(call)
    if not _may_have_receipt(call, found):
        raise Forbidden(problem="a receipt holds the whole event, and it may not read every account of this one")
    log = log_of(call.service, call.ledger)
    receipt = log.receipt(found.seq)
    if receipt is None:
        detail = f"no checkpoint covers {found.id} yet: ask again in a few seconds"
        raise NotYet(404, "not_covered_yet", detail)
    return ReceiptAnswer(found.id, log.origin, _size_of(receipt), receipt.encode().decode())


def _of_auditor(call: Call) -> Transaction:
    """The transaction in the path, whatever accounts it is about. Raises NotFound."""
    try:
        return call.ledger.transaction(call.number("transaction"))
    except TransactionNotFound:
        raise NotFound(what=f"transaction {call.place('transaction')}") from None


def _may_have_receipt(call: Call, found: Transaction) -> bool:
    if call.sees_all or call.principal.covers("audit", call.ledger_name, ""):
        return True
    accounts = {entry.account for entry in found.entries}
    declared = found.event.data.get("account")
    if isinstance(declared, str) and declared:
        accounts.add(declared)
    return bool(accounts) and all(call.sees(account) for account in accounts)


def _size_of(receipt: Receipt) -> int:
    return int(receipt.checkpoint.split(b"\n", 2)[1])


# ---------------------------------------------------------------- what anybody may check by


@EVIDENCE.read(f"{_HERE}/log", verb=None, answer=LogAnswer)
def get_log(call: Call) -> LogAnswer:
    """The log over a ledger: its name, and its verifier keys. Whoever checks should know them from elsewhere too."""
    log = public_log(call.service, call.ledger_name)
    return LogAnswer(call.ledger_name, log.origin, [str(key) for key in log.keys])


class InclusionQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """``size``: as of the checkpoint of so many events; the newest, if it is not named."""

    seq: Number
    size: Number | None = None


@EVIDENCE.read(f"{_HERE}/proofs/inclusion", verb=None, query=InclusionQuery, answer=InclusionAnswer, example={"seq": 0})
def prove_inclusion(call: Call) -> InclusionAnswer:
    """The proof that an event is in the log: hashes, and nothing of what the event says."""
    log = public_log(call.service, call.ledger_name)
    signed = signed_size(log)
    size = signed if call.query.size is None else call.query.size
    _check_size(size, signed, "size")
    if call.query.seq >= size:
        raise InvalidInput(path="seq", problem=f"it is not below {size}, which is how many events are covered")
    return InclusionAnswer(call.query.seq, size, _texts(log.prove_inclusion(call.query.seq, size)))


class ConsistencyQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Two sizes, such as those of two checkpoints; ``new`` is the newest, if it is not named."""

    old: Number
    new: Number | None = None


@EVIDENCE.read(
    f"{_HERE}/proofs/consistency", verb=None, query=ConsistencyQuery, answer=ConsistencyAnswer, example={"old": 1}
)
def prove_consistency(call: Call) -> ConsistencyAnswer:
    """The proof that the log at one size is the beginning of the log at another."""
    log = public_log(call.service, call.ledger_name)
    signed = signed_size(log)
    new = signed if call.query.new is None else call.query.new
    _check_size(new, signed, "new")
    if call.query.old > new:
        raise InvalidInput(path="old", problem=f"it is above {new}")
    return ConsistencyAnswer(call.query.old, new, _texts(log.prove_consistency(call.query.old, new)))


def _check_size(size: int, signed: int, path: str) -> None:
    if size > signed:
        raise InvalidInput(path=path, problem=f"{size} is more than the {signed} events that checkpoints cover")


def _texts(hashes: Sequence[bytes]) -> list[str]:
    return [base64.b64encode(hash_).decode() for hash_ in hashes]


class CheckpointsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """In the order of their sizes."""

    limit: Limit = 100
    cursor: Cursor = ""


@EVIDENCE.read(f"{_HERE}/checkpoints", verb=None, query=CheckpointsQuery, answer=Page[CheckpointAnswer])
def list_checkpoints(call: Call) -> Page[CheckpointAnswer]:
    """Every checkpoint that is kept, smallest first."""
    log = public_log(call.service, call.ledger_name)
    place = call.page_place({}, call.query.cursor, "")
    found = log.journal.checkpoints(int(place.after or -1), call.query.limit)
    more = call.cursor(place, str(found[-1][0])) if len(found) == call.query.limit else ""
    return Page([CheckpointAnswer(size, note.decode()) for size, note in found], more)


@EVIDENCE.read(f"{_HERE}/checkpoints/latest", verb=None, answer=CheckpointAnswer)
def get_latest_checkpoint(call: Call) -> CheckpointAnswer:
    """The newest checkpoint, with the cosignatures that witnesses gave."""
    log = public_log(call.service, call.ledger_name)
    return CheckpointAnswer(signed_size(log), _newest_note(log).decode())


@EVIDENCE.read(f"{_HERE}/checkpoint", verb=None, media_type=NOTE_TYPE)
def get_checkpoint_note(call: Call) -> bytes:
    """The newest checkpoint as a signed note: the ``checkpoint`` of C2SP tlog-tiles."""
    return _newest_note(public_log(call.service, call.ledger_name))


def _newest_note(log: Log) -> bytes:
    note = log.note
    if note is None:
        raise NotFound(what="a checkpoint")
    return note


def _tile(call: Call, *parts: str) -> bytes:
    """The hashes of a tile under the newest checkpoint. Raises NotFound, also for entry bundles."""
    path = "/".join(["tile", *(call.path[part] for part in parts)])
    missing = NotFound(what=path[:80])
    log = public_log(call.service, call.ledger_name)
    try:
        tile = parse_path(path)
    except NoteInvalid:
        raise missing from None
    if not isinstance(tile, Tile) or (tile.number * WIDTH + tile.width) << (HEIGHT * tile.level) > signed_size(log):
        raise missing
    return log.tiles([tile])[0]


@EVIDENCE.read(f"{_HERE}/tile/{{level}}/{{tile}}", verb=None, media_type=BYTES_TYPE)
def get_tile(call: Call) -> bytes:
    """A tile of the log's hashes, as C2SP tlog-tiles has it: ``tile/<level>/<number>``."""
    return _tile(call, "level", "tile")


@EVIDENCE.read(f"{_HERE}/tile/{{level}}/{{tile}}/{{tile2}}", verb=None, media_type=BYTES_TYPE)
def get_tile_2(call: Call) -> bytes:
    """A tile whose path has two parts: a partial one, or one from number 1,000 on."""
    return _tile(call, "level", "tile", "tile2")


@EVIDENCE.read(f"{_HERE}/tile/{{level}}/{{tile}}/{{tile2}}/{{tile3}}", verb=None, media_type=BYTES_TYPE)
def get_tile_3(call: Call) -> bytes:
    """A tile whose path has three parts."""
    return _tile(call, "level", "tile", "tile2", "tile3")


@EVIDENCE.read(f"{_HERE}/tile/{{level}}/{{tile}}/{{tile2}}/{{tile3}}/{{tile4}}", verb=None, media_type=BYTES_TYPE)
def get_tile_4(call: Call) -> bytes:
    """A tile whose path has four parts, which is enough for 2^38 events."""
    return _tile(call, "level", "tile", "tile2", "tile3", "tile4")


# ---------------------------------------------------------------- checking


@EVIDENCE.write(
    f"{_HERE}/verify",
    verb="read",
    body=VerifyRequest,
    answer=VerdictAnswer,
    example={"receipt": "c2sp.org/tlog-proof@v1\n"},
)
def verify_receipt(call: Call) -> VerdictAnswer:
    """Check a receipt or an acceptance that somebody shows. It changes nothing; ``tally verify`` does it offline.

    With the log's own keys it is also checked that the log, as it stands now, extends the receipt's checkpoint: so a
    key that was retired and stolen since proves nothing.
    """
    body = call.body
    policy = _policy(body.policy)
    keys = [_key(text, index) for index, text in enumerate(body.keys)]
    log = None if keys or policy is not None else _own_log(call)
    if log is not None:
        keys = list(log.keys)
    data = body.receipt.encode()
    try:
        if data.lstrip().startswith(b"{"):
            return _accepted(data, keys, policy, body.origin)
        receipt = Receipt.parse(data)
        found = check_receipt(receipt, keys, origin=body.origin, policy=policy)
        if log is not None:
            log.check_older(receipt.checkpoint)
    except (NoteInvalid, ProofInvalid, LogForked) as error:
        return VerdictAnswer("refused", problem=str(error))
    return _included(found)


def _own_log(call: Call) -> Log:
    try:
        return log_of(call.service, call.ledger)
    except LogNotFound:
        problem = "this ledger keeps no log here: name the keys of the log that the receipt is of"
        raise InvalidInput(path="keys", problem=problem) from None


def _key(text: str, index: int) -> VerifierKey:
    try:
        return VerifierKey.parse(text)
    except NoteInvalid as error:
        raise InvalidInput(path=f"keys[{index}]", problem=str(error)) from None


def _policy(text: str) -> Policy | None:
    if not text:
        return None
    try:
        return Policy.parse(text.encode())
    except NoteInvalid as error:
        raise InvalidInput(path="policy", problem=str(error)) from None


def _included(found: Verified) -> VerdictAnswer:
    event = found.event
    return VerdictAnswer(
        "included",
        origin=found.checkpoint.origin,
        transaction=event.id,
        seq=event.seq,
        type=event.type,
        time=event.time,
        hash=leaf_hash(found.body),
        size=found.checkpoint.size,
        witnesses=[key.name for key in found.witnesses],
    )


def _accepted(data: bytes, keys: Sequence[VerifierKey], policy: Policy | None, origin: str) -> VerdictAnswer:
    """An acceptance, which no witness has seen: it holds only if the policy asks for none."""
    known = [*keys, *(policy.log_keys if policy is not None else ())]
    found = check_acceptance(data, known, origin=origin)
    if policy is not None and not policy.satisfied_by(()):
        raise NoteInvalid(problem="it is an acceptance, and the policy asks for witnesses, who see checkpoints")
    return VerdictAnswer(
        "accepted",
        origin=found.origin,
        seq=found.seq,
        time=found.time,
        hash=found.event_hash,
        promise_by=found.promise_by,
    )


# ---------------------------------------------------------------- erasing


@EVIDENCE.write(
    f"{_HERE}/erase",
    verb="govern",
    whole=True,
    body=EraseRequest,
    answer=ErasedAnswer,
    example={"transaction": "main/0"},
)
def erase_texts(call: Call) -> ErasedAnswer:
    """Erase erasable texts, for good. No event, hash or proof changes; backups and replicas are not reached.

    Asked again it finds nothing more to erase, and answers 0.
    """
    body = call.body
    if bool(body.transaction) == bool(body.commitment):
        raise InvalidInput(path="body", problem="name either a transaction or a commitment")
    if body.commitment and not is_commitment(body.commitment):
        raise InvalidInput(path="commitment", problem="it is not a commitment, as an event has it")
    return ErasedAnswer(call.ledger.erase(body.commitment or body.transaction))
