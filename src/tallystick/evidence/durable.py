"""What is on the disk before anything that rests on it leaves: a small SQLite file, and the names in a folder.

SQLite with a write-ahead log and synchronous=FULL: with a rollback journal a commit would survive a loss of power only
with the setting EXTRA. A transaction shuts out other threads and other processes from its beginning, so that what it
has read still stands when it writes.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tallystick.errors import NotALedger, Unavailable

LOCK_SECONDS = 5.0
"""How long a request waits for another process that writes the same file."""


class DurableFile:
    """An SQLite file of one kind, made where there is none. Several processes may share one.

    ``application`` is what PRAGMA application_id of such a file says, ``owner`` whose it is, in words.
    Raises NotALedger for a file of something else, Unavailable where it cannot be read or written.
    """

    def __init__(self, path: Path, application: int, owner: str, tables: Sequence[str]) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection = self._connect()
        try:
            self._prepare(application, owner, tables)
            sync_folder(path.parent)  # SQLite syncs the file, not its name in the folder
        except sqlite3.DatabaseError as error:
            self._connection.close()
            if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
                raise NotALedger(path=str(path), problem="it is no SQLite file") from None
            raise Unavailable(reason=f"{path}: {error}") from None
        except BaseException:
            self._connection.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for this thread alone until the block ends."""
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise Unavailable(reason=f"{self.path}: {error}") from None

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The same in a transaction: on the disk when the block has ended, undone if it ends with an error."""
        with self.reading() as connection, _transaction(connection):
            yield connection

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _connect(self) -> sqlite3.Connection:
        try:
            return sqlite3.connect(self.path, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise Unavailable(reason=f"{self.path}: {error}") from None

    def _prepare(self, application: int, owner: str, tables: Sequence[str]) -> None:
        """Tables and durability. Before it is known whose file it is, nothing is written."""
        connection = self._connection
        found = connection.execute("PRAGMA application_id").fetchone()[0]
        in_use = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if found != application and (found or in_use):
            raise NotALedger(path=str(self.path), problem=f"it is a database of something else, not of {owner}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        with _transaction(connection):
            for table in tables:
                connection.execute(table)
            connection.execute(f"PRAGMA application_id = {application}")


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


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk; syncing a file does not. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
