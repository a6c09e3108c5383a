"""How the schema comes into a database: numbered SQL files, each applied once, in order, whole or not at all.

Table ``tallystick.migration`` says which were applied and what they were. A file is never changed once it was
released: another one follows it. Whoever finds that a file differs from what was applied, that one is missing between
two others, or that the database knows more than this program, does nothing.

Each file is a transaction of its own, with its row in that table, behind a lock that every runner takes: the second
one waits, and then finds nothing left to do. Nothing is held between two files, so this works through a pooler too.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import psycopg
from msgspec import Struct
from psycopg import pq
from psycopg.rows import tuple_row

from tallystick.errors import InvalidInput, SchemaMismatch
from tallystick.stores.postgres.connections import OLDEST_VERSION, conninfo_of, translate
from tallystick.stores.sql import queries, read
from tallystick.stores.urls import masked

Link = psycopg.Connection[Any]
State = Literal["absent", "current", "behind", "ahead", "altered"]
"""How a database's schema compares with this program's; ``altered``: a file differs, or one between others is missing.
"""

FOLDER = "postgres/migrations"
LOCK_MILLISECONDS = 30_000
"""How long a migration waits for another runner, or for a table that is in use."""

SQL = queries("postgres/migrate.sql")

_FILE = re.compile(r"([0-9]{4})_([a-z0-9_]+)\.sql\Z")


class Migration(Struct, frozen=True):
    """One numbered file."""

    number: int
    name: str
    sql: str
    sha256: str


Status = Literal["applied", "due", "altered", "missing", "unknown"]

PROBLEMS: dict[Status, str] = {
    "altered": "what was applied was another file",
    "missing": "later ones were applied, but not this one",
    "unknown": "this program does not know it",
}
"""What keeps anything from being applied."""


class Step(Struct, frozen=True):
    """One migration, and how a database stands to it; ``applied`` is when it was, or empty."""

    number: int
    name: str
    sha256: str
    applied: str
    status: Status


class _Applied(Struct, frozen=True):
    name: str
    sha256: str
    time: str


@cache
def known() -> tuple[Migration, ...]:
    """The migrations of this program, in order."""
    found = []
    for path in files("tallystick.stores.sql").joinpath(FOLDER).iterdir():
        if match := _FILE.match(path.name):
            sql = read(f"{FOLDER}/{path.name}")
            found.append(Migration(int(match[1]), match[2], sql, hashlib.sha256(sql.encode()).hexdigest()))
    return tuple(sorted(found, key=lambda migration: migration.number))


# ---------------------------------------------------------------- how a database stands


def state(connection: Link) -> State:
    """How the schema stands; one query. The connection may be in a transaction, which goes on."""
    return state_of(_compare(known(), _read(connection)))


def plan(target: Link | str) -> list[Step]:
    """Every migration that this program or the database knows, in order; changes nothing. Raises as ``migrate``."""
    with _connected(target) as (connection, _):
        return _compare(known(), _read(connection))


def require_current(connection: Link, place: str) -> None:
    """Raises SchemaMismatch unless the schema is what this program needs; ``place`` names the database for people."""
    steps = _compare(known(), _read(connection))
    if state_of(steps) != "current":
        raise _mismatch(steps, place)


def state_of(steps: Sequence[Step]) -> State:
    """How the schema stands that a plan is of."""
    statuses = {step.status for step in steps}
    if statuses & {"altered", "missing"}:
        return "altered"
    if "unknown" in statuses:
        return "ahead"
    if "due" in statuses:
        return "behind" if "applied" in statuses else "absent"
    return "current"


def _read(connection: Link) -> dict[int, _Applied]:
    """What was applied; nothing if the table that says so is not there."""
    try:
        with connection.transaction():
            rows = connection.cursor(row_factory=tuple_row).execute(SQL["applied"]).fetchall()
    except psycopg.errors.UndefinedTable:
        return {}
    return {number: _Applied(*row) for number, *row in rows}


def _compare(migrations: Sequence[Migration], applied: Mapping[int, _Applied]) -> list[Step]:
    last = max(applied, default=0)
    steps = []
    for migration in migrations:
        found = applied.get(migration.number)
        status: Status = "applied"
        if found is None:
            status = "due" if migration.number > last else "missing"
        elif found.sha256 != migration.sha256:
            status = "altered"
        time = "" if found is None else found.time
        steps.append(Step(migration.number, migration.name, migration.sha256, time, status))
    for number in sorted(applied.keys() - {migration.number for migration in migrations}):
        found = applied[number]
        steps.append(Step(number, found.name, found.sha256, found.time, "unknown"))
    return steps


def _mismatch(steps: Sequence[Step], place: str) -> SchemaMismatch:
    standing = state_of(steps)
    last = max((step.number for step in steps if step.applied), default=0)
    newest = max(step.number for step in steps if step.status != "unknown")
    if standing == "absent":
        problem = "it has none of Tallystick's tables, which `tally migrate` makes"
    elif standing == "behind":
        problem = f"its tables are at migration {last}, this program needs {newest}: run `tally migrate`"
    elif standing == "ahead":
        problem = f"its tables are at migration {last}, this program knows {newest}: use a newer Tallystick"
    else:
        wrong = [f"{step.number:04d}_{step.name}: {PROBLEMS[step.status]}" for step in steps if step.status in PROBLEMS]
        problem = "its tables are not those of this program, " + "; ".join(wrong)
    return SchemaMismatch(url=place, problem=problem, state=standing)


# ---------------------------------------------------------------- changing it


def migrate(target: Link | str, migrations: Sequence[Migration] | None = None) -> list[Migration]:
    """Apply what is missing in a database, named by a URL or a connection: those that were applied.

    The connection must not be in a transaction. What belongs to the schema's owner stays his: if the schema is there
    and another role owns it, what is made is made in that role's name.

    Raises SchemaMismatch if the database is ahead, altered, or cannot hold a ledger, NotPermitted, ReadOnly, and
    Unavailable if it cannot be reached or is in use. What was applied before that stays applied.
    """
    migrations = known() if migrations is None else migrations
    done: list[Migration] = []
    with _connected(target) as (connection, place):
        _check_server(connection, place)
        while _is_due(_compare(migrations, _read(connection)), place):
            done += _apply_next(connection, place, migrations)
    return done


def _is_due(steps: Sequence[Step], place: str) -> bool:
    """Whether there is something to apply. Raises SchemaMismatch if nothing can be."""
    if state_of(steps) in ("ahead", "altered"):
        raise _mismatch(steps, place)
    return state_of(steps) != "current"


def _apply_next(connection: Link, place: str, migrations: Sequence[Migration]) -> list[Migration]:
    """Apply the first migration that is missing, unless another runner has done so by now; where there is none yet, all
    of them together, so that nobody who opens the database at the same time finds it half made."""
    with connection.transaction():
        _begin(connection)
        connection.execute(SQL["make_schema"])
        connection.execute(SQL["distrust_owner"])
        connection.execute(SQL["become_owner"])
        connection.execute(SQL["make_table"])
        applied = _read(connection)
        if not _is_due(_compare(migrations, applied), place):
            return []
        missing = [migration for migration in migrations if migration.number not in applied]
        due = missing[:1] if applied else missing
        for migration in due:
            _run(connection, migration.sql, f"migration {migration.number:04d}_{migration.name}", place)
            added = {"number": migration.number, "name": migration.name, "sha256": migration.sha256}
            connection.execute(SQL["add"], added)
        return due


def apply_roles(target: Link | str) -> None:
    """Make the roles owner, writer, reader and auditor where they are missing, and give each what it needs, no more.

    It may be run as often as one likes, and is to be run after each migration that makes a table, as ``are_roles_due``
    says. Raises as ``migrate`` does, and SchemaMismatch if a migration is missing.
    """
    with _connected(target) as (connection, place):
        require_current(connection, place)
        with connection.transaction():
            _begin(connection)
            _run(connection, read("postgres/roles.sql"), "the roles", place)


def are_roles_due(target: Link | str) -> bool:
    """Whether ``apply_roles`` was run before a migration made a table, which the roles may not use until it is run
    again. Raises as ``migrate`` does."""
    with _connected(target) as (connection, _):
        return bool(connection.cursor(row_factory=tuple_row).execute(SQL["roles_due"]).fetchall())


def _begin(connection: Link) -> None:
    connection.execute(SQL["begin"])
    connection.execute(SQL["prepare"], {"milliseconds": str(LOCK_MILLISECONDS)})
    connection.execute(SQL["lock"])


def _run(connection: Link, script: str, what: str, place: str) -> None:
    """A whole script. Raises SchemaMismatch if PostgreSQL finds in the schema what the script does not expect."""
    try:
        connection.execute(script.encode())
    except psycopg.errors.InsufficientPrivilege:
        raise
    except psycopg.Error as error:
        if (error.sqlstate or "").startswith("42"):
            reason = " ".join(str(error.diag.message_primary).split())
            raise SchemaMismatch(url=place, problem=f"{what} cannot be applied: {reason}") from error
        raise


@contextlib.contextmanager
def _connected(target: Link | str) -> Iterator[tuple[Link, str]]:
    """A connection, and its name for people. Raises psycopg's errors as ours."""
    if isinstance(target, psycopg.Connection):
        if target.info.transaction_status != pq.TransactionStatus.IDLE:
            raise InvalidInput(path="connection", problem="it is in a transaction; each migration is one of its own")
        place = f"{target.info.host}:{target.info.port}/{target.info.dbname}"
    else:
        place = masked(target)
    try:
        if isinstance(target, psycopg.Connection):
            opened: contextlib.AbstractContextManager[Link] = contextlib.nullcontext(target)
        else:
            opened = psycopg.connect(conninfo_of(target), autocommit=True)
        with opened as connection:
            yield connection, place
    except psycopg.Error as error:
        raise translate(error, place) from error


def _check_server(connection: Link, place: str) -> None:
    """Raises SchemaMismatch for a server or a database in which a ledger cannot live."""
    if connection.info.server_version < OLDEST_VERSION:
        version = connection.info.parameter_status("server_version")
        raise SchemaMismatch(url=place, problem=f"PostgreSQL 13 or newer is needed, this is {version}")
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise SchemaMismatch(url=place, problem=f"its encoding is {encoding}: make a database with ENCODING 'UTF8'")
