"""What a witness remembers: for each log the newest checkpoint it has cosigned, in a SQLite file.

A record is on the disk before anything that rests on it leaves: SQLite with a write-ahead log and synchronous=FULL
(with a rollback journal a commit would survive a loss of power only with the setting EXTRA). Reading a record, judging
and writing the next one is one transaction, which shuts out other threads and other processes.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tallystick.errors import NotALedger, Unavailable
from tallystick.journal.checkpoints import Checkpoint
from tallystick.journal.merkle import EMPTY_ROOT

LOCK_SECONDS = 5.0
"""How long a request waits for another process that writes the same file."""

MAX_FORKS = 100
"""Kept for each log: one would do, and a log that was broken into may sign a great many."""


class Record(msgspec.Struct, frozen=True):
    """The newest cosigned checkpoint of a log. Before the first there is one of size 0 and time 0, without a note."""

    size: int = 0
    root: bytes = EMPTY_ROOT
    time: int = 0
    note: bytes = b""


_APPLICATION = 0x74776974  # "twit": what PRAGMA application_id of such a file says

_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS cosigned (
        origin TEXT PRIMARY KEY,
        origin_hash TEXT NOT NULL UNIQUE,      -- SHA-256, hex: how readers name the log
        size INTEGER NOT NULL CHECK (size >= 0),
        root BLOB NOT NULL CHECK (length(root) = 32),
        time INTEGER NOT NULL CHECK (time > 0),
        note BLOB NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE IF NOT EXISTS fork (          -- what a log signed beside the checkpoint cosigned: proof against it
        origin TEXT NOT NULL,
        size INTEGER NOT NULL,
        root BLOB NOT NULL,
        time INTEGER NOT NULL,
        cosigned BLOB NOT NULL,
        note BLOB NOT NULL,
        PRIMARY KEY (origin, size, root)
    ) STRICT
    """,
)
_FIND = "SELECT size, root, time, note FROM cosigned WHERE origin = ?"
_FIND_BY_HASH = "SELECT note FROM cosigned WHERE origin_hash = ?"
_LIST = "SELECT origin, size FROM cosigned ORDER BY origin"
_ADD = "INSERT INTO cosigned (size, root, time, note, origin_hash, origin) VALUES (?, ?, ?, ?, ?, ?)"
# The old values are named once more: no mistake in the code around may lead to an unconditional write.
_ADVANCE = """
    UPDATE cosigned SET size = ?, root = ?, time = ?, note = ?
    WHERE origin = ? AND size = ? AND root = ? AND size <= ? AND time <= ?
"""
_KEEP_FORK = """
    INSERT OR IGNORE INTO fork (origin, size, root, time, cosigned, note) SELECT ?, ?, ?, ?, ?, ?
    WHERE (SELECT count(*) FROM fork WHERE origin = ?) < ?
"""


class WitnessRecords:
    """The SQLite file of a witness. Several processes may share one.

    Raises NotALedger for a file of something else, Unavailable where it cannot be read or written.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._connection = _open_file(self.path)

    def sizes(self) -> dict[str, int]:
        """The size cosigned last of every log that is remembered."""
        with self._answers():
            return dict(self._connection.execute(_LIST).fetchall())

    def note_of(self, origin_hash: str) -> bytes | None:
        """The cosigned checkpoint of the log whose origin has this SHA-256."""
        with self._answers():
            found = self._connection.execute(_FIND_BY_HASH, (origin_hash,)).fetchone()
        return found[0] if found else None

    def forks(self, origin: str) -> list[tuple[bytes, bytes]]:
        """What proves the log dishonest: pairs of a cosigned note and another of the same size, signed by it too."""
        with self._answers():
            query = "SELECT cosigned, note FROM fork WHERE origin = ? ORDER BY time, size"
            return self._connection.execute(query, (origin,)).fetchall()

    def advance(self, origin: str, judge: Callable[[Record], Record]) -> Record:
        """Replace the record of ``origin`` by what ``judge`` makes of it; on the disk when this returns.

        Nothing else is judged or written meanwhile. If ``judge`` raises, nothing changes.
        """
        with self._answers(), _transaction(self._connection):
            found = self._connection.execute(_FIND, (origin,)).fetchone()
            old = Record(*found) if found else Record()
            new = judge(old)
            fresh = (new.size, new.root, new.time, new.note)
            if found:
                changed = self._connection.execute(_ADVANCE, (*fresh, origin, old.size, old.root, new.size, new.time))
            else:
                changed = self._connection.execute(_ADD, (*fresh, hash_origin(origin), origin))
            if changed.rowcount != 1:
                raise Unavailable(reason=f"the record of {origin} did not stand where it was found")
        return new

    def keep_fork(self, origin: str, checkpoint: Checkpoint, time_seconds: int, cosigned: bytes, note: bytes) -> None:
        """Keep a checkpoint that contradicts the cosigned one, with that one."""
        with self._answers(), _transaction(self._connection):
            values = (origin, checkpoint.size, checkpoint.root, time_seconds, cosigned, note, origin, MAX_FORKS)
            self._connection.execute(_KEEP_FORK, values)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

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
        _sync_folder(path.parent)
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
        raise NotALedger(path=str(path), problem="it is a database of something else, not of a witness")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    with _transaction(connection):
        for table in _TABLES:
            connection.execute(table)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")


def _sync_folder(folder: Path) -> None:
    """SQLite syncs the file, not its name in the folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def hash_origin(origin: str) -> str:
    """How the monitoring interface names a log: SHA-256 of its origin, in hex."""
    return hashlib.sha256(origin.encode()).hexdigest()
