"""What a log service keeps: the hashes of each log in their order, daily roots, and alarms, in a SQLite file.

What is accepted is on the disk before the answer leaves (a write-ahead log with synchronous=FULL), and each request is
one transaction that shuts out other threads and other processes. Nothing is ever changed or taken away.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tallystick.errors import NotALedger, Unavailable
from tallystick.evidence.log_service_client import (
    DailyRoot,
    Forked,
    Inserted,
    OutOfOrder,
    RootKept,
    RootTaken,
    Standing,
)

LOCK_SECONDS = 5.0
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
        self.path = Path(path)
        self._lock = threading.Lock()
        self._connection = _open_file(self.path)

    def standing(self, name: str) -> Standing:
        """Where this log stands; a log that is not known is empty."""
        with self._answers():
            return self._standing(self._find(name))

    def hashes(self, name: str, first: int, limit: int) -> list[bytes]:
        """The hashes from number ``first`` on, at most ``limit``."""
        with self._answers():
            return self._hashes(self._find(name), first, limit)

    def leaves(self, name: str, size: int) -> Iterator[bytes]:
        """The first ``size`` hashes, read a piece at a time: others are served meanwhile."""
        for first in range(0, size, _READ_AT_ONCE):
            yield from self.hashes(name, first, min(_READ_AT_ONCE, size - first))

    def roots(self, name: str, limit: int) -> list[DailyRoot]:
        """The roots of the newest days, newest first."""
        with self._answers():
            return [DailyRoot(*row) for row in self._connection.execute(_ROOTS, (self._find(name), limit))]

    def alarms(self, name: str, limit: int) -> list[Alarm]:
        """The newest alarms, newest first."""
        with self._answers():
            log = self._find(name)
            size = self._standing(log).size
            rows = self._connection.execute(_ALARMS, (log, limit)).fetchall()
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
        with self._answers(), _transaction(self._connection):
            log = self._find_or_make(name)
            standing = self._standing(log)
            if first > standing.size:
                self._keep_alarm(log, GAP, standing.size, first - 1, b"", now)
                return OutOfOrder(standing)
            begin = max(first - 1, 0)
            offered = [prev, *hashes] if first else list(hashes)
            held = self._hashes(log, begin, len(offered))
            for place, (mine, other) in enumerate(zip(held, offered, strict=False)):
                if mine != other:
                    self._keep_alarm(log, FORK, begin + place, begin + place, other, now)
                    return Forked(begin + place)
            fresh = enumerate(offered[len(held) :], begin + len(held))
            rows = ((log, position, item) for position, item in fresh)
            self._connection.executemany("INSERT INTO entry (log, position, hash) VALUES (?, ?, ?)", rows)
            return Inserted(self._standing(log))

    def insert_root(
        self, name: str, root: DailyRoot, checkpoint: bytes, now: int, *, over: bytes | None
    ) -> RootKept | RootTaken | OutOfOrder | Forked:
        """Keep the root of a day. ``over`` is the root over the hashes here, None if they were not all here. If the two
        differ, that is a fork."""
        with self._answers(), _transaction(self._connection):
            log = self._find_or_make(name)
            standing = self._standing(log)
            if root.size > standing.size:
                self._keep_alarm(log, GAP, standing.size, root.size - 1, b"", now)
            if over is None:
                return OutOfOrder(standing)
            if over != root.root:
                index = max(root.size - 1, 0)
                self._keep_alarm(log, FORK, index, index, root.root, now)
                return Forked(index)
            row = self._connection.execute(_LAST_ROOT, (log,)).fetchone()
            newest = DailyRoot(*row) if row else None
            if newest == root:
                return RootKept()
            if newest and (root.date <= newest.date or root.size < newest.size):
                return RootTaken(newest)
            values = (log, root.date, root.size, root.root, checkpoint)
            self._connection.execute(
                "INSERT INTO root (log, date, size, root, checkpoint) VALUES (?, ?, ?, ?, ?)", values
            )
            return RootKept()

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _find(self, name: str) -> int:
        found = self._connection.execute("SELECT id FROM log WHERE name = ?", (name,)).fetchone()
        return int(found[0]) if found else -1

    def _find_or_make(self, name: str) -> int:
        self._connection.execute("INSERT OR IGNORE INTO log (name) VALUES (?)", (name,))
        return self._find(name)

    def _standing(self, log: int) -> Standing:
        found = self._connection.execute(_STANDING, (log,)).fetchone()
        return Standing(*found) if found else Standing(0, b"")

    def _hashes(self, log: int, first: int, limit: int) -> list[bytes]:
        return [row[0] for row in self._connection.execute(_HASHES, (log, first, limit))]

    def _keep_alarm(self, log: int, kind: str, first: int, last: int, offered: bytes, now: int) -> None:
        values = (log, kind, first, last, offered, now, log, kind, MAX_ALARMS)
        self._connection.execute(_KEEP_ALARM, values)

    @contextmanager
    def _answers(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise Unavailable(reason=f"{self.path}: {error}") from None


def _open_file(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise Unavailable(reason=f"{path}: {error}") from None
    try:
        _prepare(connection, path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # SQLite syncs the file, not its name in the folder
        finally:
            os.close(folder)
    except sqlite3.DatabaseError as error:
        connection.close()
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            raise NotALedger(path=str(path), problem="it is no SQLite file") from None
        raise Unavailable(reason=f"{path}: {error}") from None
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Tables and durability. Before it is known whose file it is, nothing is written."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application != _APPLICATION and (application or tables):
        raise NotALedger(path=str(path), problem="it is a database of something else, not of a log service")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    with _transaction(connection):
        for table in _TABLES:
            connection.execute(table)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
