"""Anchoring in a log service: every event hash of a ledger, and once a day its root, is delivered to somebody else.

The service keeps, for each log, the row of event hashes in their order and refuses whatever does not continue it. So a
ledger that is rewritten, cut or put back to an older copy comes into contradiction with what somebody else holds. An
event hash covers the hash before it, therefore the newest one speaks for all.

Delivery asks the service first, where it stands. What it says counts if the hash that it names there is the ledger's
own; else LogForked is raised and nothing is delivered. From there it goes on in batches, so it neither leaves out nor
doubles anything, whoever died in between. A small file remembers what the service has once taken, outside the database:
a service, or a ledger, that stands behind it has lost something, which is an alarm, not a reason to be silent.

The wire, JSON over HTTP; hashes are 64 hex digits, "" stands for the hash before the first; ``first`` counts from 0:

    POST /entries   {"log_id", "first", "prev", "hashes": [...]}      200 {"size", "last"}
    GET  /logs/<log_id>                                               200 {"size", "last"}
    POST /roots     {"log_id", "date", "size", "root", "checkpoint"}  200 {"date", "size", "root"}

``size`` and ``last`` tell where the service stands: how many hashes it has, and the newest. Entries that it has already
are taken again if they are the same. Otherwise it answers 409 with ``problem``, and with where it stands:

    "out_of_order"   {"problem", "size", "last"}            it does not have what comes before; it keeps an alarm
    "fork"           {"problem", "size", "last", "index"}   it has another hash at ``index``; it keeps an alarm
    "taken"          {"problem", "date", "size", "root"}    it has a root for that day or a later one, or of more events

``checkpoint`` is the signed note of the checkpoint that has this size and root (RFC 6962, as everywhere here). A token,
if there is one, is sent as bearer token with every request: to anything but this machine, use https.

The service *clawlogs*, as it is deployed, has another interface (``POST /v1/logs/<log_id>/append``, one hash at a time
and no link to the one before). What is here is what its requirements ask for; such a service needs an adapter.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from tallystick.clock import parse_time
from tallystick.errors import InvalidInput, LedgerCorrupt, LogForked, Unavailable
from tallystick.evidence.log_service_client import (
    DailyRoot,
    Forked,
    Inserted,
    LogServiceClient,
    OutOfOrder,
    RootKept,
    RootTaken,
    Standing,
)
from tallystick.evidence.log_service_wire import MAX_HASHES, check_date, check_log_id, check_size, decode_hash
from tallystick.journal.checkpoints import read_checkpoint
from tallystick.journal.merkle import HASH_BYTES
from tallystick.journal.tiles import WIDTH

__all__ = [
    "Cursor",
    "CursorFile",
    "Delivered",
    "Gap",
    "LeafSource",
    "LogDelivery",
    "LogServiceClient",
    "TileLeaves",
]

MAX_STATE_BYTES = 65_536
MAX_REFUSALS = 3
"""In one delivery: a service that refuses more often than this as out of order does not know where it stands."""

_logger = logging.getLogger("tallystick.log_service")


# ---------------------------------------------------------------- what was delivered


class Cursor(msgspec.Struct, frozen=True):
    """What the service has once taken: ``size`` hashes, ``last`` (hex) the newest of them, and the last day's root."""

    log_id: str
    size: int = 0
    last: str = ""
    root_date: str = ""


class CursorFile:
    """Keeps a cursor in a file of its own. A write replaces the file whole, and is on the disk on return."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def read(self, log_id: str) -> Cursor:
        """The cursor; one at the beginning if there is no file.

        Raises LedgerCorrupt for a file that is not a cursor, InvalidInput for that of another log, Unavailable.
        """
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_STATE_BYTES + 1)
        except FileNotFoundError:
            return Cursor(log_id)
        except OSError as error:
            raise Unavailable(reason=f"{self.path}: {error.strerror or error}") from None
        try:
            cursor = msgspec.json.decode(data, type=Cursor)
            if check_size(cursor.size) == 0 and cursor.last:
                raise InvalidInput(path="last", problem="there is none")
            decode_hash(cursor.last, empty=cursor.size == 0)
            if cursor.root_date:
                check_date(cursor.root_date)
        except (msgspec.MsgspecError, InvalidInput, UnicodeDecodeError) as error:
            problem = f"it is not the state of a delivery ({error}); without it, the service is asked alone"
            raise LedgerCorrupt(where=str(self.path), problem=problem) from None
        if cursor.log_id != log_id:
            raise InvalidInput(path="state", problem=f"{self.path} is of the log {cursor.log_id!r}, not {log_id!r}")
        return cursor

    def write(self, cursor: Cursor) -> None:
        """Raises Unavailable; then the file is what it was."""
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}.new")
        try:
            with draft.open("wb") as file:
                file.write(msgspec.json.encode(cursor))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            with suppress(OSError):
                draft.unlink()
            raise Unavailable(reason=f"{self.path}: {error.strerror or error}") from None


# ---------------------------------------------------------------- delivery


class LeafSource(Protocol):
    """A ledger's event hashes: the leaves of its log, event n being leaf n."""

    @property
    def head_seq(self) -> int:
        """How many events there are."""
        ...

    def leaves(self, first: int, limit: int) -> list[bytes]:
        """The hashes from number ``first`` on, in order: at most ``limit``, at least one if there is one."""
        ...


class TileLeaves:
    """The leaves of a log from the tiles that are kept of it: a ``LeafSource`` up to the newest checkpoint.

    ``read`` gives the tiles at (level, number) as far as they go, as ``Journal.tiles`` does; ``size`` is how many
    events they cover.
    """

    def __init__(self, read: Callable[[Sequence[tuple[int, int]]], list[bytes]], size: Callable[[], int]) -> None:
        self._read = read
        self._size = size

    @property
    def head_seq(self) -> int:
        return self._size()

    def leaves(self, first: int, limit: int) -> list[bytes]:
        """Raises LedgerCorrupt if the tiles are shorter than the log."""
        end = min(first + limit, self._size())
        if first >= end:
            return []
        tiles = range(first // WIDTH, (end - 1) // WIDTH + 1)
        rows = self._read([(0, number) for number in tiles])
        found: list[bytes] = []
        for number, row in zip(tiles, rows, strict=True):
            begin, stop = max(first - number * WIDTH, 0), min(end - number * WIDTH, WIDTH)
            if len(row) < stop * HASH_BYTES:
                raise LedgerCorrupt(where=f"tile/0/{number}", problem=f"it has no {stop} hashes")
            found += [row[at * HASH_BYTES : (at + 1) * HASH_BYTES] for at in range(begin, stop)]
        return found


class Gap(msgspec.Struct, frozen=True):
    """An alarm: hashes ``first`` to ``last`` were missing at the service. ``filled``: they are there now.

    Filled gaps are what the service had taken and lost, and got again; others are what the ledger cannot give.
    """

    first: int
    last: int
    filled: bool


class Delivered(msgspec.Struct, frozen=True):
    """Where the service stands now, how many hashes were sent, the gaps that came to light, and whether a daily root
    was delivered."""

    size: int
    sent: int
    gaps: tuple[Gap, ...] = ()
    root: bool = False


class LogDelivery:
    """Delivers one ledger to one service. For one thread at a time; two processes do no harm to each other.

    Every call may be repeated after any failure. All raise LogForked if service and ledger, or the ledger and what was
    delivered before, contradict each other: an alarm for a human. Unavailable and NotPermitted as the client does.
    """

    def __init__(
        self,
        source: LeafSource,
        client: LogServiceClient,
        state: CursorFile,
        *,
        log_id: str,
        batch: int = MAX_HASHES,
    ) -> None:
        if not 1 <= batch <= MAX_HASHES:
            raise InvalidInput(path="batch", problem=f"a batch has 1 to {MAX_HASHES} hashes")
        self._source = source
        self._client = client
        self._state = state
        self._log_id = check_log_id(log_id)
        self._batch = batch

    def deliver(self, most: int | None = None) -> Delivered:
        """Deliver what the service does not have, up to the newest event as it is now, or ``most`` hashes of it."""
        cursor = self._state.read(self._log_id)
        self._check_kept(cursor)
        standing = self._client.standing(self._log_id)
        self._check(standing)
        size, sent, refusals = self._size(), 0, 0
        missing = [self._missing(standing.size, cursor.size)] if standing.size < cursor.size else []
        while standing.size < size and (most is None or sent < most):
            limit = min(self._batch, size - standing.size, self._batch if most is None else most - sent)
            hashes = self._source.leaves(standing.size, limit)[:limit]
            if not hashes:
                missing.append(self._missing(standing.size, size))
                break
            before = standing.size
            outcome = self._client.insert(self._log_id, before, standing.last, hashes)
            if isinstance(outcome, Forked):
                raise self._fork(f"the service has another hash of event {outcome.index}")
            standing = outcome.standing
            if isinstance(outcome, Inserted):
                sent += len(hashes)
                if standing != Standing(before + len(hashes), hashes[-1]):  # somebody else delivers too
                    self._check(standing)
            else:
                refusals += 1
                self._check_refusal(before, standing, refusals)
                if standing.size < before:
                    missing.append(self._missing(standing.size, before))
            cursor = self._keep(cursor, standing)
        self._keep(cursor, standing)
        gaps = tuple(Gap(first, last, filled=standing.size > last) for first, last in missing)
        return Delivered(size=standing.size, sent=sent, gaps=gaps)

    def deliver_root(self, note: bytes, time: str) -> Delivered:
        """Deliver the root of the checkpoint in ``note``, made at ``time``, if it is the first of its day (UTC).

        What the service lacks of the hashes is delivered first. If there was a root for that day already, nothing is
        done. Raises NoteInvalid for a note that is none, InvalidInput for a time that is none.
        """
        date = parse_time(time)[:10]
        checkpoint = read_checkpoint(note)
        root = DailyRoot(date=date, size=checkpoint.size, root=checkpoint.root)
        cursor = self._state.read(self._log_id)
        if cursor.root_date >= date:
            return Delivered(size=cursor.size, sent=0)
        before = Delivered(size=0, sent=0)
        for _ in range(2):  # it may say only now that it lost what it had
            found = self.deliver()
            before = Delivered(size=found.size, sent=before.sent + found.sent, gaps=before.gaps + found.gaps)
            if found.size < root.size:
                break
            outcome = self._client.insert_root(self._log_id, root, note)
            if not isinstance(outcome, OutOfOrder):
                return msgspec.structs.replace(before, root=self._end_root(root, outcome))
        raise Unavailable(reason=f"{self._client.url} does not have the {root.size} hashes that the root is over")

    def _end_root(self, root: DailyRoot, outcome: RootKept | RootTaken | Forked) -> bool:
        if isinstance(outcome, Forked):
            raise self._fork(f"the service finds another root over the first {root.size} events")
        if isinstance(outcome, RootTaken):
            held = outcome.root
            if held.date < root.date or (held.size == root.size and held.root != root.root):
                raise self._fork(f"the service has a root of {held.size} events of {held.date}, {held.root.hex()}")
        self._state.write(msgspec.structs.replace(self._state.read(self._log_id), root_date=root.date))
        return isinstance(outcome, RootKept)

    def _missing(self, first: int, end: int) -> tuple[int, int]:
        """The first and the last of what is missing; told at once, for the call may yet fail."""
        _logger.error("%s: events %d to %d are missing at %s", self._log_id, first, end - 1, self._client.url)
        return first, end - 1

    def _size(self) -> int:
        return self._source.head_seq

    def _leaf(self, index: int) -> bytes:
        found = self._source.leaves(index, 1)
        if not found:
            raise LedgerCorrupt(
                where=f"event {index}", problem="its hash was delivered, and the ledger does not give it"
            )
        return found[0]

    def _check_kept(self, cursor: Cursor) -> None:
        """Raises LogForked unless the ledger still has what was delivered from it."""
        if cursor.size > self._size():
            raise self._fork(f"{cursor.size} events were delivered, the ledger has {self._size()}")
        if cursor.size and self._leaf(cursor.size - 1).hex() != cursor.last:
            raise self._fork(f"event {cursor.size - 1} is not the one that was delivered, {cursor.last}")

    def _check(self, standing: Standing) -> None:
        """Raises LogForked unless the service's newest hash is the ledger's own."""
        if standing.size > self._size():
            raise self._fork(f"the service has {standing.size} events, the ledger {self._size()}")
        if standing.size and self._leaf(standing.size - 1) != standing.last:
            raise self._fork(f"the service has another hash of event {standing.size - 1}, {standing.last.hex()}")

    def _check_refusal(self, first: int, standing: Standing, refusals: int) -> None:
        self._check(standing)
        if refusals > MAX_REFUSALS or standing.size == first:
            reason = f"{self._client.url} refuses event {first} as out of order and says it has {standing.size}"
            raise Unavailable(reason=reason)

    def _keep(self, cursor: Cursor, standing: Standing) -> Cursor:
        """Remember what the service has. Never less than once: until a gap is filled, it is found again."""
        if standing.size <= cursor.size:
            return cursor
        cursor = msgspec.structs.replace(cursor, size=standing.size, last=standing.last.hex())
        self._state.write(cursor)
        return cursor

    def _fork(self, problem: str) -> LogForked:
        _logger.error("%s: %s", self._log_id, problem)
        return LogForked(origin=self._log_id, problem=problem)
