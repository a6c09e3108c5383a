"""Connections to PostgreSQL: a bounded pool, what every connection is set to, and PostgreSQL's errors as ours.

A server may die and come back, or another may take its place: whoever asks for a connection waits for one that works,
up to a limit, and is then told why there is none. ``Borrowed`` offers the same on a connection of the caller's.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout, TooManyRequests

from tallystick.errors import (
    Closed,
    InvalidInput,
    LedgerCorrupt,
    LedgerNotFound,
    NotPermitted,
    ReadOnly,
    SchemaMismatch,
    Unavailable,
)
from tallystick.stores.urls import masked

MAX_CONNECTIONS = 10
MAX_WAITING = 1_000
"""Calls that may wait for a connection."""
WAIT_SECONDS = 30.0
"""How long a call waits for a connection that works: as long as a server may take to come back."""
ASK_AGAIN_SECONDS = 0.25
STATEMENT_MILLISECONDS = 60_000
LOCK_MILLISECONDS = 10_000
IDLE_TRANSACTION_MILLISECONDS = 60_000
OLDEST_VERSION = 130_000

DEFAULTS = {
    "application_name": "tallystick",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""Connection settings that a URL may override: a peer that is gone is noticed within half a minute."""

_SETTINGS = """
SELECT set_config('timezone', 'UTC', false), set_config('client_min_messages', 'warning', false),
    set_config('search_path', 'pg_catalog', false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('plan_cache_mode', 'force_generic_plan', false), set_config('jit', 'off', false),
    CASE WHEN current_setting('statement_timeout') = '0' THEN set_config('statement_timeout', %s, false) END,
    CASE WHEN current_setting('lock_timeout') = '0' THEN set_config('lock_timeout', %s, false) END,
    CASE WHEN current_setting('idle_in_transaction_session_timeout') = '0'
        THEN set_config('idle_in_transaction_session_timeout', %s, false) END,
    CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', false) END
"""
"""What every connection is set to. The statements are few and have one good plan each, so none is planned or compiled
anew. What was answered must be on the disk, whatever the server's default."""


Link = psycopg.Connection[Any]
"""Any connection, ours or the caller's."""


_PORTS = re.compile(r"[0-9,]*\Z")


class Connection(psycopg.Connection[Any]):
    """A connection, and whether the statements of an append have been prepared on it."""

    prepared = False


class Source(Protocol):
    """Where the store gets a connection for each call."""

    name: str
    """What it is, for people; without passwords."""

    def using(self) -> contextlib.AbstractContextManager[Link]:
        """A connection on which each statement is a transaction, or part of the caller's."""

    def writing(self) -> contextlib.AbstractContextManager[Link]:
        """The same for an append, during which others may be asked for to read."""

    def reading(self) -> contextlib.AbstractContextManager[Link]:
        """A connection in one snapshot of the database."""

    def check(self) -> None:
        """Let go of connections that no longer work."""

    def close(self) -> None:
        """Let go of all."""


def conninfo_of(url: str) -> str:
    """A URL as libpq takes it, with what every connection is to have.

    Raises InvalidInput, without libpq's reason: that may name a part of a password that was not escaped.
    """
    given: dict[str, Any] = {"host": "@"}
    with contextlib.suppress(psycopg.Error):
        given = conninfo_to_dict(url)
    if "@" in str(given.get("host", "")) or not _PORTS.match(str(given.get("port", ""))):
        problem = "it is no PostgreSQL URL; in a password, @ is written %40, / %2F and % %25"
        raise InvalidInput(path="url", problem=problem)
    return make_conninfo("", **{**DEFAULTS, **given, "client_encoding": "UTF8"})


class Pool:
    """A bounded pool to one database. Raises Unavailable, NotPermitted or InvalidInput if it cannot be reached now."""

    def __init__(
        self, url: str, *, connections: int = MAX_CONNECTIONS, on_connect: Callable[[], None] = lambda: None
    ) -> None:
        if connections < 2:  # one that appends, and one to read with meanwhile
            raise InvalidInput(path="connections", problem=f"{connections} is too few: 2 are needed")
        self._on_connect = on_connect
        self.name = masked(url)
        conninfo = conninfo_of(url)
        try:
            first = Connection.connect(conninfo, autocommit=True)
            configure(first)
        except psycopg.Error as error:
            raise translate(error, self.name) from None
        first.close()
        self._conninfo = conninfo
        self._closed = False
        self._checked = threading.Lock()
        self._process = os.getpid()
        # Whoever appends may need a second connection, to read: not all can be taken by those who append.
        self._writers = threading.BoundedSemaphore(max(connections // 2, 1))
        self._pool = ConnectionPool(
            conninfo,
            connection_class=Connection,
            kwargs={"autocommit": True},
            configure=self._configure,
            min_size=0,
            max_size=connections,
            max_waiting=MAX_WAITING,
            timeout=WAIT_SECONDS,
            reconnect_timeout=0,
            name=f"tallystick {id(self)}",
            open=True,
        )

    def _configure(self, connection: Link) -> None:
        configure(connection)
        self._on_connect()

    @contextlib.contextmanager
    def using(self) -> Iterator[Link]:
        connection = self._get()
        try:
            yield connection
        except psycopg.Error as error:
            raise translate(error, self.name) from error
        finally:
            self._put(connection)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Link]:
        if not self._writers.acquire(timeout=WAIT_SECONDS):
            raise Unavailable(reason=f"{self.name}: no connection: all that may write are busy")
        try:
            with self.using() as connection:
                yield connection
        finally:
            self._writers.release()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Link]:
        with self.using() as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield connection
            connection.execute("COMMIT")

    def _get(self) -> Connection:
        """A connection that is not known to be broken. One that went stale while it lay idle is replaced first."""
        if self._closed:
            raise Closed()
        if os.getpid() != self._process:  # the parent's sockets: what is answered there could be another one's answer
            raise Unavailable(reason="it was opened before this process was forked; open it again here")
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                connection = self._pool.getconn(ASK_AGAIN_SECONDS)
            except (PoolTimeout, TooManyRequests) as error:
                if time.monotonic() < deadline:
                    continue  # the pool tries to connect only when it is asked
                raise Unavailable(reason=f"{self.name}: no connection: {self._why(error)}") from None
            except psycopg.Error as error:
                raise translate(error, self.name) from None
            if not _is_stale(connection):
                return connection
            connection.close()
            self._pool.putconn(connection)

    def _why(self, error: Exception) -> str:
        """Why the pool has no connection: it does not say, so one is asked for."""
        try:
            with contextlib.closing(Connection.connect(self._conninfo, autocommit=True)) as connection:
                configure(connection)
        except psycopg.Error as found:
            return _reason(found)
        return str(error)

    def _put(self, connection: Connection) -> None:
        if connection.pgconn.transaction_status != pq.TransactionStatus.IDLE and not connection.closed:
            with contextlib.suppress(psycopg.Error):  # by libpq: psycopg would forget what is prepared here
                connection.pgconn.exec_(b"ROLLBACK")
        if connection.pgconn.transaction_status != pq.TransactionStatus.IDLE or connection.pgconn.pipeline_status:
            connection.close()
        self._pool.putconn(connection)

    def check(self) -> None:
        with self._checked:
            self._pool.check()

    def close(self) -> None:
        if not self._closed and os.getpid() == self._process:
            self._closed = True
            self._pool.close(timeout=5)


class Borrowed:
    """One connection of the caller's, inside the caller's transaction."""

    def __init__(self, connection: Link) -> None:
        self.name = "the caller's connection"
        self._connection = connection

    @contextlib.contextmanager
    def using(self) -> Iterator[Link]:
        try:
            yield self._connection
        except psycopg.Error as error:
            raise translate(error, self.name) from error

    def writing(self) -> contextlib.AbstractContextManager[Link]:
        return self.using()

    def reading(self) -> contextlib.AbstractContextManager[Link]:
        return self.using()

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """What fails inside is rolled back, and the caller's transaction goes on."""
        with self.using() as connection:
            if connection.info.transaction_status == pq.TransactionStatus.IDLE:
                with psycopg.Cursor(connection) as cursor:  # else the block below would commit it all
                    cursor.execute("SELECT 1")
            with connection.transaction():
                yield

    def check(self) -> None:
        """It is the caller's to let go of."""

    close = check


def configure(connection: Link) -> None:
    """Set what every connection is set to."""
    if connection.info.server_version < OLDEST_VERSION:
        found = connection.info.parameter_status("server_version")
        raise psycopg.NotSupportedError(f"PostgreSQL 13 or newer is needed, this is {found}")
    limits = (STATEMENT_MILLISECONDS, LOCK_MILLISECONDS, IDLE_TRANSACTION_MILLISECONDS)
    connection.execute(_SETTINGS, [str(limit) for limit in limits])


def _is_stale(connection: Connection) -> bool:
    """Whether an idle connection has something to say: only a server that goes away says anything unasked."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))


# ---------------------------------------------------------------- errors

RETRIED = ("40001", "40P01", "26000")
"""Serialization failure, deadlock, prepared statement gone: the whole batch is decided anew."""

_NOT_PERMITTED = re.compile(r"authentication failed|no password supplied|role .* does not exist|no pg_hba.conf entry")
_NO_DATABASE = re.compile(r"database .* does not exist")
"""What a server says when it refuses a connection: it comes without a code."""


def is_lost(connection: Link, error: psycopg.Error) -> bool:
    """Whether the connection went away, so that nobody knows what became of what was sent."""
    state = error.sqlstate or ""
    return (
        connection.closed
        or connection.pgconn.status != pq.ConnStatus.OK
        or state in ("57P01", "57P02", "57P03", "XX000")
        or state.startswith("08")
    )


def translate(error: psycopg.Error, name: str) -> Exception:
    """PostgreSQL's error as one of ours; what may pass is Unavailable, with the reason that PostgreSQL gave."""
    state, reason = error.sqlstate or "", _reason(error)
    if state in ("42P01", "42703", "42883", "3F000"):
        return SchemaMismatch(url=name, problem=f"it lacks what this program needs ({reason})")
    if state == "42501" or (not state and _NOT_PERMITTED.search(reason)):
        return NotPermitted(url=name, reason=reason)
    if not state and _NO_DATABASE.search(reason):
        return LedgerNotFound(path=f"{name} ({reason})")
    if state == "55P03":
        return Unavailable(reason=f"{name}: another transaction keeps the ledger locked ({reason})")
    if state == "25006":
        return ReadOnly(path=f"{name} ({reason})")
    if state.startswith("23") or state in ("P0001", "XX001", "XX002", "22003"):
        return LedgerCorrupt(where=name, problem=f"the database refused a row: {reason}")
    if isinstance(error, psycopg.DataError) or state.startswith("22"):
        return InvalidInput(path="text", problem=reason)
    return Unavailable(reason=f"{name}: {reason}")


def _reason(error: BaseException) -> str:
    """What PostgreSQL said, in one line, without its context."""
    found = getattr(getattr(error, "diag", None), "message_primary", None) or str(error) or type(error).__name__
    return " ".join(masked(found).split())[:500]
