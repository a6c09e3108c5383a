"""The operator's records in an SQLite file beside a ledger file, for any number of processes on one machine.

WAL with synchronous=FULL: a commit that was answered survives a power cut. Processes take turns: whoever finds the file
busy waits, at most BUSY_MILLISECONDS, and is then told so. The file holds secrets, and is nobody's but its owner's.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from tallystick.clock import Clock, add_seconds, system_clock
from tallystick.control.checking import Settlement
from tallystick.control.records import Delivery, Lease
from tallystick.control.sql import migrations, queries
from tallystick.control.tables import Answer, Row, Session, Tables
from tallystick.errors import Closed, KeyFileUnsafe, LedgerCorrupt, LedgerNotFound, NotALedger, Unavailable
from tallystick.stores.open_files import hold
from tallystick.stores.sqlite_file import check_file, translate

APPLICATION_ID = 0x7A115E4C
BUSY_MILLISECONDS = 5_000
MAX_READERS = 8
"""Connections that are kept for the next one who reads."""

SQL = queries("sqlite")


class SqliteControl(Tables):
    """The records in a file; see Control for what each method does.

    Raises LedgerNotFound (no file, and ``create`` is off), NotALedger, LedgerCorrupt, KeyFileUnsafe, Unavailable.
    """

    def __init__(self, path: Path, *, create: bool = True, clock: Clock = system_clock) -> None:
        self.name = str(path)
        self._path = path
        self._clock = clock
        self._write_lock = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._readers: list[sqlite3.Connection] = []
        self._readers_lock = threading.Lock()
        self._closed = False
        self._process = os.getpid()
        if create:
            _make_file(path)
        elif not path.exists():
            raise LedgerNotFound(path=self.name)
        _check_mode(path)
        self._let_go = hold(path, self)
        try:
            check_file(path)
            found = path.stat()
            self._place = (found.st_dev, found.st_ino)
            with contextlib.closing(self._connect()) as connection:
                self._prepare(connection, create=create)
        except BaseException as error:
            self._let_go()
            if isinstance(error, (sqlite3.Error, UnicodeDecodeError)):
                raise translate(error, path) from None
            raise

    # ------------------------------------------------------------ the schema

    def _prepare(self, connection: sqlite3.Connection, *, create: bool) -> None:
        """Make the tables, or bring them up to date; look at what is there first, so that nobody else's is touched."""
        version = self._version(connection)
        if version == 0 and not create:  # its maker died before anything was in it
            raise LedgerNotFound(path=self.name)
        _use_log(connection)
        if version < len(migrations("sqlite")):
            connection.execute("BEGIN IMMEDIATE")
            for migration in migrations("sqlite")[self._version(connection) :]:
                for statement in _statements(migration.sql):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {migration.number}")
            connection.execute("COMMIT")
        if connection.execute(SQL["schema"]).fetchall() != _schema():
            raise LedgerCorrupt(where=self.name, problem="its tables are not as they were made")

    def _version(self, connection: sqlite3.Connection) -> int:
        """Which version the tables are of, 0 for none at all. Raises NotALedger for a file that is not for this
        program."""
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID and (application or version or connection.execute(SQL["schema"]).fetchall()):
            raise NotALedger(path=self.name, problem="it is another program's SQLite database")
        newest = len(migrations("sqlite"))
        if version > newest:
            problem = f"its tables are of version {version}, this program knows {newest}: use a newer Tallystick"
            raise NotALedger(path=self.name, problem=problem)
        return int(version)

    # ------------------------------------------------------------ connections

    def _connect(self) -> sqlite3.Connection:
        uri = f"{self._path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=64)
        try:
            connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = FAST")  # what was a secret is overwritten where it costs nothing
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_place(self) -> None:
        """Raises Unavailable if the path leads to another file than the one that was opened: what is kept in a file
        without a name is lost, and what two processes keep in two files contradicts itself."""
        try:
            found = self._path.stat()
        except OSError as error:
            raise Unavailable(reason=f"{self.name} was moved away while it was open: {error.strerror}") from None
        if (found.st_dev, found.st_ino) != self._place:
            raise Unavailable(reason=f"{self.name} was replaced by another file while it was open")

    def _check_open(self) -> None:
        if self._closed:
            raise Closed()
        if os.getpid() != self._process:  # SQLite's locks are the parent's
            raise Unavailable(reason="it was opened before this process was forked; open it again here")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        self._check_open()
        with self._readers_lock:
            connection = self._readers.pop() if self._readers else None
        try:
            if connection is None:
                self._check_place()
                connection = self._connect()
            yield connection
        except BaseException as error:
            if connection is not None:
                connection.close()  # the next one who reads gets another
            if isinstance(error, (sqlite3.Error, UnicodeDecodeError)):
                raise translate(error, self._path) from None
            raise
        with self._readers_lock:
            if len(self._readers) < MAX_READERS and not self._closed:
                self._readers.append(connection)
                return
        connection.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """The connection that writes, in a transaction that commits at the end or leaves nothing behind."""
        if not self._write_lock.acquire(timeout=BUSY_MILLISECONDS / 1_000):
            raise Unavailable(reason=f"{self.name}: others have been writing for {BUSY_MILLISECONDS} ms")
        try:
            self._check_open()
            self._check_place()
            if self._writer is None:
                self._writer = self._connect()
            self._writer.execute("BEGIN IMMEDIATE")
            yield self._writer
            self._writer.execute("COMMIT")
        except BaseException as error:
            self._drop_writer()  # which undoes what it had begun; the next one who writes gets another
            if isinstance(error, (sqlite3.Error, UnicodeDecodeError)):
                raise translate(error, self._path) from None
            raise
        finally:
            self._write_lock.release()

    def _drop_writer(self) -> None:
        connection, self._writer = self._writer, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        if os.getpid() != self._process:
            return
        with self._write_lock, self._readers_lock:
            self._closed = True
            self._drop_writer()
            for connection in self._readers:
                connection.close()
            self._readers.clear()
            self._let_go()

    # ------------------------------------------------------------ statements

    def _rows(self, query: str, **values: Any) -> list[Row]:
        with self._reading() as connection:
            return connection.execute(SQL[query], values).fetchall()

    def _commit(self, work: Callable[[Session], Answer], *, single: bool = False) -> Answer:
        with self._writing() as connection:
            return work(_Session(connection))

    def _moment(self, seconds: float = 0.0) -> dict[str, Any]:
        now = self._clock()
        return {"now": now, "until": add_seconds(now, seconds)}

    def _settle(self, endpoint: str, taken: Settlement, lease: Lease | None) -> bool:
        accepted = [(endpoint, seq) for seq in taken.accepted]
        deliveries = [_delivery_row(delivery) for delivery in taken.deliveries]
        attempts = [msgspec.structs.astuple(attempt) for attempt in taken.attempts]

        def keep(session: Session) -> bool:
            if lease is not None:
                values = {"name": lease.name, "holder": lease.holder, "token": lease.token}
                if not session.rows("is_held", **values, **self._moment()):
                    return False
            if not session.rows("settle_cursor", endpoint=endpoint, cursor=taken.cursor):
                return False
            assert isinstance(session, _Session)
            session.each("settle_accepted", accepted)
            session.each("settle_delivery", deliveries)
            session.each("settle_attempt", attempts)
            return True

        return self._commit(keep)


class _Session:
    """The statements of one commit."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, query: str, **values: Any) -> list[Row]:
        return self._connection.execute(SQL[query], values).fetchall()

    def count(self, query: str, **values: Any) -> int:
        return self._connection.execute(SQL[query], values).rowcount

    def each(self, query: str, rows: list[Row]) -> None:
        """Run a statement for each row."""
        if rows:
            self._connection.executemany(SQL[query], rows)


def _delivery_row(delivery: Delivery) -> Row:
    *values, lanes, redelivery = msgspec.structs.astuple(delivery)
    return (*values, msgspec.json.encode(lanes).decode() if lanes else "[]", int(redelivery))


# ---------------------------------------------------------------- the file


def _make_file(path: Path) -> None:
    """An empty file that nobody else may read, unless there is a file already. SQLite gives its log the same mode."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise Unavailable(reason=f"{path} cannot be made: {error.strerror}") from None
    os.close(descriptor)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # its name lasts as long as what is in it
    finally:
        os.close(folder)


def _check_mode(path: Path) -> None:
    """Raises KeyFileUnsafe for what others may read or write, or for what is no file."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise Unavailable(reason=f"{path} cannot be looked at: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise KeyFileUnsafe(path=str(path), problem="it is not a file")
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        problem = f"others than its owner may read or write it (mode {stat.S_IMODE(mode):04o}); `chmod 600` it"
        raise KeyFileUnsafe(path=str(path), problem=problem)


def _use_log(connection: sqlite3.Connection) -> None:
    """Write ahead. Only one may change a file's way of writing, and SQLite does not let another wait for it."""
    deadline = time.monotonic() + BUSY_MILLISECONDS / 1_000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            return
        except sqlite3.OperationalError as error:
            if not str(error.sqlite_errorname).startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _statements(script: str) -> list[str]:
    """The statements of a migration: a script would commit on its own."""
    found, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            found.append(pending)
            pending = ""
    return found


@functools.cache
def _schema() -> list[Row]:
    """What the schema of a whole file is, as SQLite writes it down."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for migration in migrations("sqlite"):
            connection.executescript(migration.sql)
        return connection.execute(SQL["schema"]).fetchall()
