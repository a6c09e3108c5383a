"""Databases for tests, all on one PostgreSQL server that the processes of a test run share.

It is started when the first test asks for it, and ends with the run. TALLYSTICK_TEST_DSN names another server to use
instead; its role must be allowed to make databases. Each database has a name of its own and is dropped after its test.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from tallystick.stores.postgres.store import PostgresStore
from tests.support.postgres import HASTY, Server
from tests.support.processes import end_server

DSN = "TALLYSTICK_TEST_DSN"
RUN = "TALLYSTICK_TEST_RUN"
"""Names the folder in which the processes of a run find their server; the name ends with the first one's number."""

MEMORY = Path("/dev/shm")
MEMORY_BYTES = 4 * 2**30
"""As much must be free for the server to live in memory, where a database is made in 15 ms; on ext4 it takes 230."""


def begin_run() -> None:
    """Said once, before any process of the run asks for a database."""
    in_memory = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES
    place = MEMORY if in_memory else Path(tempfile.gettempdir())
    os.environ[RUN] = str(place / f"tallystick-run-{secrets.token_hex(4)}-{os.getpid()}")


def end_run() -> None:
    """Said when the run is over: ends its server, or drops what is left on the one that was lent."""
    folder = Path(os.environ.pop(RUN))
    try:
        found = json.loads((folder / "server").read_text())
    except FileNotFoundError:
        return
    try:
        if found["own"]:
            end_server(folder)
        else:
            drop_all(found["dsn"], found["prefix"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Databases:
    """Makes databases on the run's server. For one process; it may be shared by threads."""

    def __init__(self) -> None:
        found = server_of_the_run()
        self._dsn: str = found["dsn"]
        self._prefix: str = found["prefix"]
        self._connection = psycopg.connect(self._dsn, autocommit=True)
        self._numbers = count(1)

    def new(self, *, empty: bool = False) -> str:
        """The URL of a new database: with the schema in it, or ``empty``."""
        name = f"{self._prefix}{os.getpid()}_{next(self._numbers)}"
        template = "template0" if empty else f"{self._prefix}template"
        create_database(self._connection, name, template)
        return with_database(self._dsn, name)

    def drop(self, dsn: str) -> None:
        """Drop a database, whoever is still connected with it."""
        drop_database(self._connection, urlsplit(dsn).path.removeprefix("/"))

    def close(self) -> None:
        self._connection.close()


def with_database(dsn: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlsplit(dsn)._replace(path=f"/{name}").geturl()


# ---------------------------------------------------------------- the server of the run


def server_of_the_run() -> dict[str, Any]:
    """Where the server is, as whoever asked first has written it down."""
    folder = Path(os.environ[RUN])
    folder.mkdir(exist_ok=True)
    with locked(folder / "lock"):
        path = folder / "server"
        if not path.exists():
            path.write_text(json.dumps(lent_server() or own_server(folder)))
        found: dict[str, Any] = json.loads(path.read_text())
        return found


def lent_server() -> dict[str, Any] | None:
    dsn = os.environ.get(DSN)
    if not dsn:
        return None
    prefix = f"tallystick_test_{secrets.token_hex(4)}_"
    make_template(dsn, f"{prefix}template")
    return {"dsn": dsn, "prefix": prefix, "own": False}


def own_server(folder: Path) -> dict[str, Any]:
    first_process = int(folder.name.rpartition("-")[2])
    server = Server(settings=HASTY, folder=folder, ends_with=first_process)
    try:
        server.init().start()
        make_template(server.dsn(), "test_template")
    except BaseException:
        server.close()
        raise
    return {"dsn": server.dsn(), "prefix": "test_", "own": True}


def make_template(dsn: str, name: str) -> None:
    """Make the database that others are copies of: the schema is in it, and nothing else."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        create_database(connection, name, "template0")
    PostgresStore(with_database(dsn, name), create=True).close()


# ---------------------------------------------------------------- statements


def create_database(connection: psycopg.Connection, name: str, template: str) -> None:
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING 'UTF8'")
    connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))


def drop_database(connection: psycopg.Connection, name: str) -> None:
    connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def drop_all(dsn: str, prefix: str) -> None:
    """Drop every database whose name begins with the prefix."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        names = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [prefix])
        for (name,) in names.fetchall():
            drop_database(connection, name)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
