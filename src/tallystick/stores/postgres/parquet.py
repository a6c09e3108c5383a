"""Archived periods as Parquet files: one of events and one of entries, each with that month of every ledger.

A file explains itself: ledgers, accounts and assets stand in it by name, and an event is its exact bytes. It is
believed only when its SHA-256 is the one that the database has recorded, which each process computes once for a file
that does not change. Rows are sorted so that a question about one ledger, event or balance reads little of the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

from msgspec import Struct

from tallystick.errors import Archived, InvalidInput
from tallystick.stores.base import OTHERS_WAIT, PART_BITS, EntryRow, NotAtHand

Kind = Literal["event", "entry"]
KINDS: tuple[Kind, ...] = ("event", "entry")

FORMAT = 1
"""The version of what the columns mean; it stands in each file's metadata under ``tallystick``."""
ROWS_PER_GROUP: dict[Kind, int] = {"event": 256, "entry": 16_384}
"""Rows that are compressed together, and are read together: about a megabyte."""
COLUMNS: dict[Kind, dict[str, str]] = {
    "event": {
        "ledger": "string",
        "seq": "int64",
        "count": "int32",
        "encoding": "int32",
        "time": "string",
        "hash": "string",
        "body": "binary",
    },
    "entry": {
        "ledger": "string",
        "balance": "int64",
        "account": "string",
        "asset": "string",
        "bucket": "string",
        "version": "int64",
        "seq": "int64",
        "amount": "int64",
        "before": "int64",
        "after": "int64",
    },
}
"""Column names and types. Events: sorted by ledger and seq, as many to a row as the database had in one. Entries:
sorted by ledger, seq >> 15, balance (the kernel's number) and version."""

MAX_PARTS_PER_LOOK = 32
"""The entries of so many parts of the journal are gone through at a time."""
NEAR_BITS = 8
"""Events that are asked for one by one are read 2^8 at a time,"""
KEPT = 16
"""and so many times that are kept."""
BLOCK_BYTES = 2**20
DIGESTED_AT_ONCE = 2**22
"""A file of up to so many bytes is read while others wait: that takes a few milliseconds."""
FAILED_SECONDS = 5.0
"""For so long a file that could not be read is not tried again for those who wait."""
_MOST_EVENTS_PER_ROW = 256

EventRow = tuple[int, int, str, str, int, bytes]
"""(seq, count, time, hash, encoding, body), in the order in which the store's own queries have them."""


class ArchivedFile(Struct, frozen=True):
    """A file, and which events of one ledger it is about: from ``first`` up to ``before``."""

    ledger: str
    kind: Kind
    period: int
    first: int
    before: int
    path: str
    sha256: str
    archived: str

    def fault(self, problem: str) -> Archived:
        """What is raised for a question that only this file can answer, when it cannot."""
        return Archived(
            ledger=self.ledger,
            first=self.first,
            last=self.before - 1,
            period=self.period,
            kind=self.kind,
            path=self.path,
            sha256=self.sha256,
            archived=self.archived,
            problem=problem,
            where=f"events {self.ledger}/{self.first} to {self.before - 1}",
        )


def require() -> Any:
    """pyarrow, which only the archive needs. Raises InvalidInput where it is not installed."""
    try:
        for module in ("pyarrow.dataset", "pyarrow.parquet"):
            import_module(module)
        return import_module("pyarrow")
    except ImportError as error:
        problem = f"Parquet files need pyarrow: pip install 'tallystick[archive]' ({error})"
        raise InvalidInput(path="archive", problem=problem) from None


# ---------------------------------------------------------------- writing


def write(path: Path, kind: Kind, about: dict[str, Any], fetch: Callable[[int], Sequence[tuple[Any, ...]]]) -> int:
    """Write the rows that ``fetch`` gives, so many at a time, to a new file, and flush it to the disk; how many.

    The same rows make the same bytes, as long as it is the same release of pyarrow that writes them.
    """
    arrow = require()
    types = {name: getattr(arrow, of)() for name, of in COLUMNS[kind].items()}
    metadata = {"tallystick": json.dumps({"format": FORMAT, "kind": kind, **about}, ensure_ascii=False)}
    schema = arrow.schema(types.items(), metadata=metadata)
    size = ROWS_PER_GROUP[kind]
    written = 0
    with path.open("wb") as file:
        with arrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            while rows := fetch(size):
                columns = zip(*rows, strict=True)
                arrays = [arrow.array(column, of) for column, of in zip(columns, types.values(), strict=True)]
                writer.write_table(arrow.Table.from_arrays(arrays, schema=schema), row_group_size=size)
                written += len(rows)
        file.flush()
        os.fsync(file.fileno())
    return written


def read_all(path: Path, kind: Kind) -> Iterator[tuple[Any, ...]]:
    """All rows of a file in order, a group at a time."""
    with path.open("rb") as file:
        parquet = require().parquet.ParquetFile(file)
        for group in range(parquet.num_row_groups):
            yield from _tuples(parquet.read_row_group(group, columns=list(COLUMNS[kind]), use_threads=False))


def digest(path: Path | str) -> tuple[str, int]:
    """The SHA-256 of a file in hexadecimal, and its size. Raises OSError."""
    with open(path, "rb") as file:
        found = _digest(file)
        return found, file.tell()


def _digest(file: Any) -> str:
    found = hashlib.sha256()
    while block := file.read(BLOCK_BYTES):
        found.update(block)
    return found.hexdigest()


def _tuples(table: Any) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


# ---------------------------------------------------------------- files that were verified


class _Seen(NamedTuple):
    """A file as it was when its digest was computed, and what reads it."""

    signature: tuple[int, ...]
    sha256: str
    fragment: Any


_seen: dict[str, _Seen] = {}
_failed: dict[str, tuple[float, OSError]] = {}
"""By path: when a file could not be read, and why."""
_locks: dict[str, threading.Lock] = {}
"""By path: a file is read by one thread, and others may use other files meanwhile."""


def _opened(file: ArchivedFile) -> Any:
    """What reads a file, once its digest is known to be the recorded one. Raises Archived, and NotAtHand if that takes
    long while others wait."""
    try:
        arrow = require()
    except InvalidInput as error:
        raise file.fault(f"it cannot be read here: {error.data['problem']}") from None
    try:
        seen = _as_seen(file.path)
        if seen is None and OTHERS_WAIT.get() and os.stat(file.path).st_size > DIGESTED_AT_ONCE:
            _check_not_failed(file.path)
            raise NotAtHand(file.path, partial(_look_ahead, arrow, file.path))
        if seen is None:
            seen = _see(arrow, file.path)
    except FileNotFoundError:
        raise file.fault("there is no such file") from None
    except OSError as error:
        raise file.fault(f"it cannot be read: {error}") from None
    if seen.sha256 != file.sha256:
        raise file.fault(f"the file was altered: its SHA-256 is {seen.sha256}")
    if seen.fragment is None:
        raise file.fault("it cannot be read as a Parquet file here")
    return seen.fragment


def _as_seen(path: str) -> _Seen | None:
    """What is known of a file, if it was not changed since. Raises OSError."""
    signature = _signature(os.stat(path))
    seen = _seen.get(path)
    return seen if seen is not None and seen.signature == signature else None


def _see(arrow: Any, path: str) -> _Seen:
    """What is known of a file; it is read for that unless another thread has just done so. Raises OSError."""
    with _locks.setdefault(path, threading.Lock()):
        seen = _as_seen(path)
        if seen is None:
            seen = _seen[path] = _look(arrow, path)
        return seen


def _look_ahead(arrow: Any, path: str) -> None:
    """Know a file, or why it cannot be read, which is told to who asks for it again."""
    try:
        _see(arrow, path)
    except OSError as error:
        _failed[path] = time.monotonic(), error


def _check_not_failed(path: str) -> None:
    """Raises what kept a file from being read a moment ago."""
    failed, error = _failed.get(path, (-FAILED_SECONDS, None))
    if error is not None and time.monotonic() - failed < FAILED_SECONDS:
        raise error


def _look(arrow: Any, path: str) -> _Seen:
    with open(path, "rb") as file:
        signature = _signature(os.fstat(file.fileno()))
        sha256 = _digest(file)
    try:
        (fragment,) = arrow.dataset.dataset(path, format="parquet").get_fragments()
        fragment.ensure_complete_metadata()
    except (OSError, ValueError, arrow.ArrowException):  # as a rule it was altered, which its digest shows
        fragment = None
    return _Seen(signature, sha256, fragment)


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _select(file: ArchivedFile, columns: Sequence[str], wanted: Callable[[Any], Any]) -> Any:
    """The rows of the file's ledger for which ``wanted``, which is given a way to name columns, is true."""
    fragment = _opened(file)
    arrow = require()
    field = arrow.dataset.field
    try:
        condition = (field("ledger") == file.ledger) & wanted(field)
        return fragment.to_table(columns=list(columns), filter=condition, use_threads=False)
    except (OSError, arrow.ArrowException) as error:
        raise file.fault(f"it cannot be read: {error}") from None


# ---------------------------------------------------------------- questions


def event_rows(file: ArchivedFile, first: int, before: int) -> list[EventRow]:
    """The stored rows that hold events with first <= seq < before, in order. Raises Archived."""
    first, before = max(first, file.first), min(before, file.before)
    columns = ("seq", "count", "time", "hash", "encoding", "body")
    rows = _tuples(
        _select(
            file,
            columns,
            lambda field: (
                (field("seq") > first - _MOST_EVENTS_PER_ROW)
                & (field("seq") < before)
                & (field("seq") + field("count") > first)
            ),
        )
    )
    return sorted(rows, key=lambda row: row[0])


def event_row(file: ArchivedFile, seq: int) -> EventRow | None:
    """The stored row that holds an event, if the file has it; near ones are kept for the next question. Raises
    Archived."""
    _opened(file)
    rows = _near(file, seq >> NEAR_BITS)
    return next((row for row in rows if row[0] <= seq < row[0] + row[1]), None)


@lru_cache(maxsize=KEPT)
def _near(file: ArchivedFile, number: int) -> list[EventRow]:
    return event_rows(file, number << NEAR_BITS, (number + 1) << NEAR_BITS)


def rows_until(file: ArchivedFile, time: str) -> int:
    """The number of the event behind the last row whose events were all recorded up to this time. Raises Archived."""
    table = _select(
        file,
        ("seq", "count"),
        lambda field: (field("seq") >= file.first) & (field("seq") < file.before) & (field("time") <= time),
    )
    return max((seq + count for seq, count in _tuples(table)), default=file.first)


def entries(file: ArchivedFile, balances: Sequence[int], first: int, before: int, limit: int) -> Iterator[EntryRow]:
    """Entries of these balances with first <= seq < before, in order of (seq, balance); at least ``limit`` of them, if
    there are so many. Raises Archived."""
    found = 0
    first, before = max(first, file.first), min(before, file.before)
    for parts in _doubling():
        if first >= before or found >= limit:
            return
        high = min(((first >> PART_BITS) + parts) << PART_BITS, before)
        rows: list[EntryRow] = sorted(_tuples(_entries(file, balances, first, high)), key=lambda row: (row[2], row[0]))
        yield from rows
        found += len(rows)
        first = high


def latest(
    file: ArchivedFile, balances: Sequence[int] | None, first: int, before: int
) -> Iterator[tuple[int, int, int, bool]]:
    """(balance, version, amount, whether it adds up) of the entries of these balances, or of all, with first <= seq <
    before: of each balance its last entry, and then perhaps earlier ones. Raises Archived."""
    import numpy  # noqa: PLC0415

    wanted = None if balances is None else set(balances)
    first, before = max(first, file.first), min(before, file.before)
    for parts in _doubling():
        if first >= before or wanted == set():
            return
        low = max((((before - 1) >> PART_BITS) + 1 - parts) << PART_BITS, first)
        table = _entries(file, None if wanted is None else sorted(wanted), low, before)
        balance, version, _, amount, earlier, after = (column.to_numpy() for column in table.columns)
        order = numpy.lexsort((version, balance))
        last = order[numpy.flatnonzero(numpy.diff(balance[order], append=-1))]
        adds_up = earlier[last] + amount[last] == after[last]
        yield from zip(
            *(column.tolist() for column in (balance[last], version[last], after[last], adds_up)), strict=True
        )
        if wanted is not None:
            wanted.difference_update(balance[last].tolist())
        before = low


def _doubling() -> Iterator[int]:
    """How many parts to look through, time after time."""
    parts = 1
    while True:
        yield parts
        parts = min(2 * parts, MAX_PARTS_PER_LOOK)


def _entries(file: ArchivedFile, balances: Sequence[int] | None, first: int, before: int) -> Any:
    """Entries of these balances, or of all."""

    def wanted(field: Any) -> Any:
        condition = (field("seq") >= first) & (field("seq") < before)
        if balances is None:
            return condition
        near = (field("balance") >= min(balances)) & (field("balance") <= max(balances))  # passes over whole groups
        return condition & near & field("balance").isin(list(balances))

    return _select(file, ("balance", "version", "seq", "amount", "before", "after"), wanted)
