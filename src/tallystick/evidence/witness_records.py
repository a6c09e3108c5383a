"""What a witness remembers: for each log the newest checkpoint it has cosigned, in a SQLite file.

A record is on the disk before anything that rests on it leaves (see ``durable``). Reading a record, judging and writing
the next one is one transaction, which shuts out other threads and other processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from tallystick.errors import Unavailable
from tallystick.evidence.durable import DurableFile
from tallystick.journal.checkpoints import Checkpoint
from tallystick.journal.merkle import EMPTY_ROOT

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
        self._file = DurableFile(Path(path), _APPLICATION, "a witness", _TABLES)

    def sizes(self) -> dict[str, int]:
        """The size cosigned last of every log that is remembered."""
        with self._file.reading() as connection:
            return dict(connection.execute(_LIST).fetchall())

    def note_of(self, origin_hash: str) -> bytes | None:
        """The cosigned checkpoint of the log whose origin has this SHA-256."""
        with self._file.reading() as connection:
            found = connection.execute(_FIND_BY_HASH, (origin_hash,)).fetchone()
        return found[0] if found else None

    def forks(self, origin: str) -> list[tuple[bytes, bytes]]:
        """What proves the log dishonest: pairs of a cosigned note and another of the same size, signed by it too."""
        with self._file.reading() as connection:
            query = "SELECT cosigned, note FROM fork WHERE origin = ? ORDER BY time, size"
            return connection.execute(query, (origin,)).fetchall()

    def advance(self, origin: str, judge: Callable[[Record], Record]) -> Record:
        """Replace the record of ``origin`` by what ``judge`` makes of it; on the disk when this returns.

        Nothing else is judged or written meanwhile. If ``judge`` raises, nothing changes.
        """
        with self._file.writing() as connection:
            found = connection.execute(_FIND, (origin,)).fetchone()
            old = Record(*found) if found else Record()
            new = judge(old)
            fresh = (new.size, new.root, new.time, new.note)
            if found:
                changed = connection.execute(_ADVANCE, (*fresh, origin, old.size, old.root, new.size, new.time))
            else:
                changed = connection.execute(_ADD, (*fresh, hash_origin(origin), origin))
            if changed.rowcount != 1:
                raise Unavailable(reason=f"the record of {origin} did not stand where it was found")
        return new

    def keep_fork(self, origin: str, checkpoint: Checkpoint, time_seconds: int, cosigned: bytes, note: bytes) -> None:
        """Keep a checkpoint that contradicts the cosigned one, with that one."""
        with self._file.writing() as connection:
            values = (origin, checkpoint.size, checkpoint.root, time_seconds, cosigned, note, origin, MAX_FORKS)
            connection.execute(_KEEP_FORK, values)

    def close(self) -> None:
        self._file.close()


def hash_origin(origin: str) -> str:
    """How the monitoring interface names a log: SHA-256 of its origin, in hex."""
    return hashlib.sha256(origin.encode()).hexdigest()
