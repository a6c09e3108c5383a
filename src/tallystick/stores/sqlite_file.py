"""The file of the embedded store: opening it, its one writing connection and its readers, and SQLite's errors as ours.

WAL with synchronous=FULL: a commit that was answered survives a power cut. One connection writes, in one process at a
time; readers have their own and see the last commit.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from tallystick.errors import Closed, LedgerCorrupt, LedgerNotFound, NotALedger, ReadOnly, Unavailable
from tallystick.stores.lockfile import LockFile
from tallystick.stores.open_files import hold, look_into
from tallystick.stores.sql import queries, read

APPLICATION_ID = 0x7A111E57
SCHEMA_VERSION = 2
PAGE_SIZE = 4096
CACHE_KIB = 32 * 1024
CHECKPOINT_PAGES = 4_096
BUSY_MILLISECONDS = 5_000
EMPTYING_MILLISECONDS = 250
"""How long the log of writes waits for readers before it stays as it is; nobody posts meanwhile."""
MAX_READERS = 8

SQL = queries("sqlite/queries.sql")
"""Every statement, by name."""


class SqliteFile:
    """A ledger file. ``create`` makes a new one where there is none; ``read_only`` never writes or locks.

    Raises LedgerNotFound, NotALedger, LedgerCorrupt, Unavailable; LedgerLocked at the first write.
    """

    def __init__(self, path: Path | str, *, read_only: bool = False, create: bool = True) -> None:
        self.path = Path(path)
        self._read_only = read_only
        self._lockfile = LockFile(self.path)
        self._write_lock = threading.RLock()
        self._readers: list[sqlite3.Connection] = []
        self._readers_lock = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._closed = False
        self._place: tuple[int, int] | None = None  # device and inode: which file this is, whatever it is called
        self._let_go: Callable[[], object] = tuple
        try:
            self._begin(create=create)
        except BaseException:
            self.close()
            raise

    def _begin(self, *, create: bool) -> None:
        if not self.path.exists():
            if self._read_only or not create:
                raise LedgerNotFound(path=str(self.path))
            self._open_writer()
            self._let_go = hold(self.path, self)
            return
        with contextlib.suppress(OSError):  # a file that cannot be looked at is refused next
            self._let_go = hold(self.path, self)
        check_file(self.path)
        self._roll_back()
        with self._reading() as connection:
            blank = _is_blank(connection)
            if not blank:
                self._check_schema(connection)
        if blank:  # its maker died, or its disk was full, before anything was written
            if self._read_only or not create:
                raise LedgerNotFound(path=str(self.path))
            self._open_writer()

    def _roll_back(self) -> None:
        """Whoever made the file may have died while SQLite had a rollback journal, which it has only before the log of
        writes exists. To undo what that one had begun takes a connection that may write; readers are just refused."""
        if not self._read_only and self.path.with_name(self.path.name + "-journal").exists():
            self._connect(read_only=False).close()

    def _check_place(self) -> None:
        """Raises Unavailable if the path no longer leads to the file that was opened: its connections would still write
        and read that one, new ones the file that took its name."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise Unavailable(reason=f"{self.path} was moved away while it was open: {error.strerror}") from None
        place = (found.st_dev, found.st_ino)
        if self._place is None:
            self._place = place
        elif place != self._place:
            raise Unavailable(reason=f"{self.path} was replaced by another file while it was open")

    def _connect(self, *, read_only: bool) -> sqlite3.Connection:
        mode = "ro" if read_only else "rwc"
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        try:
            connection = sqlite3.connect(
                uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=64
            )
            connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise translate(error, self.path) from None
        return connection

    def _open_writer(self) -> sqlite3.Connection:
        if self._closed:
            raise Closed()
        if self._read_only:
            raise ReadOnly(path=str(self.path))
        if self._writer is None:
            self._lockfile.acquire()
            connection: sqlite3.Connection | None = None
            try:
                connection = self._connect(read_only=False)
                make_durable(connection)
                self._create_schema(connection)
                self._check_schema(connection)
            except BaseException as error:
                if connection is not None:
                    connection.close()
                self._lockfile.release()
                if isinstance(error, (sqlite3.Error, UnicodeDecodeError)):
                    raise translate(error, self.path) from None
                raise
            self._writer = connection
        return self._writer

    def _create_schema(self, connection: sqlite3.Connection) -> None:
        if _schema_of(connection):
            return
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{read('sqlite/schema.sql')}\n"
            f"PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;"
        )

    def _check_schema(self, connection: sqlite3.Connection) -> None:
        try:
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            schema = _schema_of(connection)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise translate(error, self.path) from None
        if application != APPLICATION_ID:
            raise NotALedger(path=str(self.path), problem="it is another program's SQLite database")
        if version > SCHEMA_VERSION:
            raise NotALedger(path=str(self.path), problem=f"its schema is version {version}; upgrade Tallystick")
        if 0 < version < SCHEMA_VERSION:
            problem = f"its schema is version {version}, of a Tallystick that was never released; post its events anew"
            raise NotALedger(path=str(self.path), problem=problem)
        if version != SCHEMA_VERSION or schema != _schema():
            raise LedgerCorrupt(where=str(self.path), problem="its tables or their guards are not as they were made")
        try:
            by_index = connection.execute(SQL["ledgers"]).fetchall()
            by_table = connection.execute(SQL["ledgers_of_table"]).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise translate(error, self.path) from None
        if by_index != by_table:
            raise LedgerCorrupt(where=str(self.path), problem="its list of ledgers is damaged")

    @contextlib.contextmanager
    def _asking(self) -> Iterator[sqlite3.Connection]:
        """A connection of the reader's own, for one statement, which is in a snapshot of its own."""
        if self._closed:
            raise Closed()
        with self._readers_lock:
            connection = self._readers.pop() if self._readers else None
        if connection is None:
            connection = self._connect(read_only=True)
            self._check_place()
        try:
            yield connection
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise translate(error, self.path) from None
        except (TypeError, KeyError) as error:  # a damaged row: text where a number was, a kind that there never was
            raise LedgerCorrupt(where=str(self.path), problem=f"a row holds what it never held: {error}") from error
        finally:
            with self._readers_lock:
                if len(self._readers) < MAX_READERS and not self._closed:
                    self._readers.append(connection)
                    connection = None
            if connection is not None:
                connection.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection of the reader's own, in one snapshot of the file, which begins with the first statement."""
        with self._asking() as connection:
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """The writer in a transaction that commits at the end, or leaves nothing behind."""
        with self._write_lock:
            connection = self._open_writer()
            self._check_place()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except (sqlite3.Error, UnicodeDecodeError) as error:
                raise translate(error, self.path) from None
            finally:
                if connection.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")

    def _empty_log(self) -> None:
        """Carry the log of writes over into the file and cut it to nothing: older pages in it hold what was deleted.

        While somebody reads an older state, in this process or another, it stays; a later call, or closing, does it.
        """
        with self._write_lock:
            connection = self._open_writer()
            try:
                connection.execute(f"PRAGMA busy_timeout = {EMPTYING_MILLISECONDS}")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.Error as error:
                raise translate(error, self.path) from None
            finally:
                connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")

    def close(self) -> None:
        with self._write_lock:
            self._closed = True
            with self._readers_lock:
                for connection in self._readers:
                    connection.close()
                self._readers.clear()
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            self._lockfile.release()
            self._let_go()


def make_durable(connection: sqlite3.Connection) -> None:
    """The settings of the connection that writes."""
    connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute("PRAGMA secure_delete = ON")  # what was erased is overwritten, not only given free


def _is_blank(connection: sqlite3.Connection) -> bool:
    """Whether nothing was ever written to this database."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    return not application and not _schema_of(connection)


def _schema_of(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    return connection.execute(SQL["schema"]).fetchall()


@functools.cache
def _schema() -> list[tuple[str, str]]:
    """What the schema of a whole file is, as SQLite writes it down."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(read("sqlite/schema.sql"))
        return _schema_of(connection)


def check_file(path: Path) -> None:
    """Raises NotALedger or LedgerCorrupt for a file that cannot be a whole SQLite database."""
    try:
        header, size = look_into(path, 100)
    except OSError as error:
        raise Unavailable(reason=f"{path} cannot be read: {error.strerror}") from None
    if not header:
        return
    if header[:16] != b"SQLite format 3\0":
        raise NotALedger(path=str(path), problem="it is not an SQLite database")
    page_size = int.from_bytes(header[16:18], "big") or 65_536
    if page_size == 1:
        page_size = 65_536
    pages = int.from_bytes(header[28:32], "big")
    wal = path.with_name(path.name + "-wal")
    if size < pages * page_size and not (wal.exists() and wal.stat().st_size):
        raise LedgerCorrupt(where=str(path), problem=f"the file was cut short: {size} of {pages * page_size} bytes")


def translate(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> Exception:
    """SQLite's error as one of ours: damage is LedgerCorrupt, all else may pass and is Unavailable.

    Damaged text, in a row or in what SQLite says of a damaged schema, cannot even be decoded.
    """
    if isinstance(error, UnicodeDecodeError) or str(error).startswith("Could not decode"):
        return LedgerCorrupt(where=str(path), problem="a text in it is damaged")
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_FORMAT")):
        return LedgerCorrupt(where=str(path), problem=str(error))
    if name == "SQLITE_ERROR":  # the statements are fixed, so it is the schema that they no longer fit
        return LedgerCorrupt(where=str(path), problem=str(error))
    if name.startswith("SQLITE_NOTADB"):
        return NotALedger(path=str(path), problem=str(error))
    if name.startswith("SQLITE_CONSTRAINT"):
        return LedgerCorrupt(where=str(path), problem=f"the database refused a row: {error}")
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
        return Closed()
    return Unavailable(reason=str(error) or name)
