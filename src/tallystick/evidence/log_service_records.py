"""What a log service keeps: the hashes of each log in their order, daily roots, and alarms, in a SQLite file.

What is accepted is on the disk before the answer leaves (see ``durable``), and each request is one transaction that
shuts out other threads and other processes. Nothing is ever changed or taken away.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from tallystick.evidence.durable import DurableFile
from tallystick.evidence.log_service_client import (
    DailyRoot,
    Forked,
    Inserted,
    OutOfOrder,
    RootKept,
    RootTaken,
    Standing,
)

MAX_ALARMS = 1_000
"""Of one kind, kept for each log."""

GAP = "gap"
FORK = "fork"

_READ_AT_ONCE = 10_000
_APPLICATION = 0x746C6F67  # "tlog": what PRAGMA application_id of such a file says
_TABLES = (
    "CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT",
    """
    CREATE TABLE IF NOT EXISTS entry (
        log INTEGER NOT NULL REFERENCES log,
        position INTEGER NOT NULL CHECK (position >= 0),
        hash BLOB NOT NULL CHECK (length(hash) = 32),
        PRIMARY KEY (log, position)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS root (
        log INTEGER NOT NULL REFERENCES log,
        date TEXT NOT NULL,
        size INTEGER NOT NULL CHECK (size >= 0),
        root BLOB NOT NULL CHECK (length(root) = 32),
        checkpoint BLOB NOT NULL,
        PRIMARY KEY (log, date)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS alarm (
        log INTEGER NOT NULL REFERENCES log,
        kind TEXT NOT NULL CHECK (kind IN ('gap', 'fork')),
        first INTEGER NOT NULL,                -- of a fork, both: the entry that is contradicted
        last INTEGER NOT NULL,
        offered BLOB NOT NULL,                 -- the hash that contradicts it; of a gap, nothing
        time INTEGER NOT NULL,
        PRIMARY KEY (log, kind, first, last, offered)
    ) STRICT, WITHOUT ROWID
    """,
)
_STANDING = "SELECT position + 1, hash FROM entry WHERE log = ? ORDER BY position DESC LIMIT 1"
_HASHES = "SELECT hash FROM entry WHERE log = ? AND position >= ? ORDER BY position LIMIT ?"
_LAST_ROOT = "SELECT date, size, root FROM root WHERE log = ? ORDER BY date DESC LIMIT 1"
_ROOTS = "SELECT date, size, root FROM root WHERE log = ? ORDER BY date DESC LIMIT ?"
_KEEP_ROOT = "INSERT INTO root (log, date, size, root, checkpoint) VALUES (?, ?, ?, ?, ?)"
_ALARMS = "SELECT kind, first, last, offered, time FROM alarm WHERE log = ? ORDER BY time DESC, first LIMIT ?"
_KEEP_ALARM = """
    INSERT OR IGNORE INTO alarm (log, kind, first, last, offered, time) SELECT ?, ?, ?, ?, ?, ?
    WHERE (SELECT count(*) FROM alarm WHERE log = ? AND kind = ?) < ?
"""


class Alarm(msgspec.Struct, frozen=True):
    """Something that did not continue the log. ``open``: the entries of a gap are still missing; a fork stays open."""

    kind: str
    first: int
    last: int
    offered: bytes
    time: int
    open: bool


class LogServiceRecords:
    """The SQLite file of a log service. Several processes may share one.

    Raises NotALedger for a file of something else, Unavailable where it cannot be read or written.
    """

    def __init__(self, path: Path | str) -> None:
        self._file = DurableFile(Path(path), _APPLICATION, "a log service", _TABLES)

    def standing(self, name: str) -> Standing:
        """Where this log stands; a log that is not known is empty."""
        with self._file.reading() as connection:
            return _standing(connection, _find(connection, name))

    def hashes(self, name: str, first: int, limit: int) -> list[bytes]:
        """The hashes from number ``first`` on, at most ``limit``."""
        with self._file.reading() as connection:
            return _hashes(connection, _find(connection, name), first, limit)

    def leaves(self, name: str, size: int) -> Iterator[bytes]:
        """The first ``size`` hashes, read a piece at a time: others are served meanwhile."""
        for first in range(0, size, _READ_AT_ONCE):
            yield from self.hashes(name, first, min(_READ_AT_ONCE, size - first))

    def roots(self, name: str, limit: int) -> list[DailyRoot]:
        """The roots of the newest days, newest first."""
        with self._file.reading() as connection:
            return [DailyRoot(*row) for row in connection.execute(_ROOTS, (_find(connection, name), limit))]

    def alarms(self, name: str, limit: int) -> list[Alarm]:
        """The newest alarms, newest first."""
        with self._file.reading() as connection:
            log = _find(connection, name)
            size = _standing(connection, log).size
            rows = connection.execute(_ALARMS, (log, limit)).fetchall()
        return [
            Alarm(kind, first, last, offered, time, kind == FORK or last >= size)
            for kind, first, last, offered, time in rows
        ]

    def insert(
        self, name: str, first: int, prev: bytes, hashes: Sequence[bytes], now: int
    ) -> Inserted | OutOfOrder | Forked:
        """Put these behind what is there, as far as they are not there already; on the disk when this returns.

        If they do not continue the log, an alarm is kept and nothing else.
        """
        with self._file.writing() as connection:
            log = _find_or_make(connection, name)
            standing = _standing(connection, log)
            if first > standing.size:
                _keep_alarm(connection, log, GAP, standing.size, first - 1, b"", now)
                return OutOfOrder(standing)
            begin = max(first - 1, 0)
            offered = [prev, *hashes] if first else list(hashes)
            held = _hashes(connection, log, begin, len(offered))
            for place, (mine, other) in enumerate(zip(held, offered, strict=False)):
                if mine != other:
                    _keep_alarm(connection, log, FORK, begin + place, begin + place, other, now)
                    return Forked(begin + place)
            fresh = enumerate(offered[len(held) :], begin + len(held))
            rows = ((log, position, item) for position, item in fresh)
            connection.executemany("INSERT INTO entry (log, position, hash) VALUES (?, ?, ?)", rows)
            return Inserted(_standing(connection, log))

    def insert_root(
        self, name: str, root: DailyRoot, checkpoint: bytes, now: int, *, over: bytes | None
    ) -> RootKept | RootTaken | OutOfOrder | Forked:
        """Keep the root of a day. ``over`` is the root over the hashes here, None if they were not all here. If the two
        differ, that is a fork."""
        with self._file.writing() as connection:
            log = _find_or_make(connection, name)
            standing = _standing(connection, log)
            if root.size > standing.size:
                _keep_alarm(connection, log, GAP, standing.size, root.size - 1, b"", now)
            if over is None:
                return OutOfOrder(standing)
            if over != root.root:
                index = max(root.size - 1, 0)
                _keep_alarm(connection, log, FORK, index, index, root.root, now)
                return Forked(index)
            row = connection.execute(_LAST_ROOT, (log,)).fetchone()
            newest = DailyRoot(*row) if row else None
            if newest == root:
                return RootKept()
            if newest and (root.date <= newest.date or root.size < newest.size):
                return RootTaken(newest)
            values = (log, root.date, root.size, root.root, checkpoint)
            connection.execute(_KEEP_ROOT, values)
            return RootKept()

    def close(self) -> None:
        self._file.close()


def _find(connection: sqlite3.Connection, name: str) -> int:
    found = connection.execute("SELECT id FROM log WHERE name = ?", (name,)).fetchone()
    return int(found[0]) if found else -1


def _find_or_make(connection: sqlite3.Connection, name: str) -> int:
    connection.execute("INSERT OR IGNORE INTO log (name) VALUES (?)", (name,))
    return _find(connection, name)


def _standing(connection: sqlite3.Connection, log: int) -> Standing:
    found = connection.execute(_STANDING, (log,)).fetchone()
    return Standing(*found) if found else Standing(0, b"")


def _hashes(connection: sqlite3.Connection, log: int, first: int, limit: int) -> list[bytes]:
    return [row[0] for row in connection.execute(_HASHES, (log, first, limit))]


def _keep_alarm(
    connection: sqlite3.Connection, log: int, kind: str, first: int, last: int, offered: bytes, now: int
) -> None:
    values = (log, kind, first, last, offered, now, log, kind, MAX_ALARMS)
    connection.execute(_KEEP_ALARM, values)
