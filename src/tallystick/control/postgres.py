"""The operator's records in a schema of their own in a PostgreSQL database, for any number of processes anywhere.

Leases end by the server's clock, so that the clocks of those who hold them need not agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import psycopg
from psycopg.rows import tuple_row

from tallystick.control.checking import Settlement
from tallystick.control.records import Lease
from tallystick.control.sql import Migration, migrations, queries
from tallystick.control.tables import Answer, Row, Session, Tables
from tallystick.errors import LedgerNotFound, SchemaMismatch
from tallystick.stores.postgres.connections import RETRIED, Link, Pool

CONNECTIONS = 5
"""Connections that one process has at most, besides those of its ledgers."""
TRIES = 3
"""How often work is done that the database rolled back and that may be done again."""
LOCK_MILLISECONDS = 30_000
"""How long whoever opens the records waits for another who is making their tables."""

SQL = queries("postgres")
MIGRATE = queries("postgres", "migrate")


class PostgresControl(Tables):
    """The records in a database; see Control for what each method does.

    Who opens them first must be allowed to make a schema, or be given an empty ``tallystick_service``; later ones need
    no more than to read and write its tables. Raises LedgerNotFound (no schema, and ``create`` is off), SchemaMismatch,
    NotPermitted, Unavailable, InvalidInput.
    """

    def __init__(self, url: str, *, create: bool = True, connections: int = CONNECTIONS) -> None:
        self._pool = Pool(url, connections=connections)
        self.name = self._pool.name
        try:
            with self._pool.using() as connection:
                self._prepare(connection, create=create)
        except BaseException:
            self.close()
            raise

    # ------------------------------------------------------------ the schema

    def _prepare(self, connection: Link, *, create: bool) -> None:
        """Make the tables, or bring them up to date."""
        applied = _applied(connection)
        if not applied and not create:
            raise LedgerNotFound(path=f"{self.name} (its schema tallystick_service)")
        while self._due(applied) is not None:
            applied = self._apply_next(connection)

    def _due(self, applied: Mapping[int, str]) -> Migration | None:
        """The first migration that is missing. Raises SchemaMismatch if the database knows others than this program."""
        known = migrations("postgres")
        if applied and max(applied) > len(known):
            problem = f"its schema tallystick_service is at {max(applied)}, this program knows {len(known)}"
            raise SchemaMismatch(url=self.name, problem=f"{problem}: use a newer Tallystick")
        for number, migration in enumerate(known, 1):
            if number > len(applied):
                return migration
            if applied.get(number) != migration.sha256:
                problem = f"its schema tallystick_service was made by another {migration.number:04d}_{migration.name}"
                raise SchemaMismatch(url=self.name, problem=problem)
        return None

    def _apply_next(self, connection: Link) -> dict[int, str]:
        """Apply the first migration that is missing, unless another process has done so by now; what is applied then.
        Each is a transaction of its own, behind a lock that everyone takes."""
        with connection.transaction():
            connection.execute(MIGRATE["prepare"], {"milliseconds": str(LOCK_MILLISECONDS)})
            connection.execute(MIGRATE["lock"])
            for step in ("make_schema", "distrust_owner", "become_owner", "make_table"):
                connection.execute(MIGRATE[step])
            applied = _applied(connection)
            due = self._due(applied)
            if due is not None:
                self._run(connection, due)
                applied[due.number] = due.sha256
            return applied

    def _run(self, connection: Link, due: Migration) -> None:
        """Raises SchemaMismatch if PostgreSQL finds in the schema what the migration does not expect."""
        try:
            connection.execute(due.sql.encode())
        except psycopg.errors.DuplicateTable as error:
            problem = f"its schema tallystick_service holds what is none of ours: {error.diag.message_primary}"
            raise SchemaMismatch(url=self.name, problem=problem) from None
        values = {"number": due.number, "name": due.name, "sha256": due.sha256}
        connection.execute(MIGRATE["add"], values)

    # ------------------------------------------------------------ statements

    def _rows(self, query: str, **values: Any) -> list[Row]:
        return self._commit(lambda session: session.rows(query, **values), single=True)

    def _commit(self, work: Callable[[Session], Answer], *, single: bool = False) -> Answer:
        for left in reversed(range(TRIES)):
            with self._pool.using() as connection:
                try:
                    if single:
                        return work(_Session(connection))
                    with connection.transaction():
                        return work(_Session(connection))
                except psycopg.Error as error:
                    if error.sqlstate not in RETRIED or not left:
                        raise
                    connection.close()  # what was prepared on it may be gone
        raise AssertionError("the last try returns or raises")

    def _moment(self, seconds: float = 0.0) -> dict[str, Any]:
        return {"seconds": seconds}  # from when on, the server knows

    def _settle(self, endpoint: str, taken: Settlement, lease: Lease | None) -> bool:
        values = {
            "endpoint": endpoint,
            "cursor": taken.cursor,
            "accepted": taken.accepted,
            "deliveries": _json(taken.deliveries),
            "attempts": _json(taken.attempts),
            "name": lease.name if lease else None,
            "holder": lease.holder if lease else None,
            "token": lease.token if lease else None,
        }
        return bool(self._commit(lambda session: session.rows("settle", **values), single=True))

    def close(self) -> None:
        self._pool.close()


class _Session:
    """The statements of one commit."""

    def __init__(self, connection: Link) -> None:
        self._connection = connection

    def rows(self, query: str, **values: Any) -> list[Row]:
        with psycopg.Cursor(self._connection, row_factory=tuple_row) as cursor:
            return cursor.execute(SQL[query], values, binary=True).fetchall()

    def count(self, query: str, **values: Any) -> int:
        with psycopg.Cursor(self._connection) as cursor:
            return cursor.execute(SQL[query], values).rowcount


def _json(records: list[Any]) -> str:
    return msgspec.json.encode(records).decode()


def _applied(connection: Link) -> dict[int, str]:
    """The SHA-256 of each migration that was applied; nothing if the table that says so is not there."""
    try:
        with connection.transaction(), psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
            return {number: sha256 for number, _, sha256 in cursor.execute(MIGRATE["applied"]).fetchall()}
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return {}
