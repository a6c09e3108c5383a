"""What the ledger on PostgreSQL is held against, on the same server.

The raw limit of the same rows, the ledger of locked rows that people write by hand, and a bare commit.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from benchmarks.server import Server

ROWS = {
    "event": """SELECT * FROM tallystick.event WHERE ledger = {ledger} AND seq >= {first} AND seq < {before}
        ORDER BY seq""",
    "entry": """SELECT * FROM tallystick.entry WHERE ledger = {ledger} AND seq >= {first} AND seq < {before}
        ORDER BY (seq >> 15)::integer, balance, version""",
    "idempotency": """SELECT * FROM tallystick.idempotency WHERE ledger = {ledger} AND seq >= {first} AND seq < {before}
        ORDER BY (seq >> 18)::integer, number, twin""",
}
"""The rows of a range of transfers, table by table, in the order in which the indexes take them best."""

Packed = dict[str, bytes]
"""What goes into each table in one commit, in PostgreSQL's binary COPY format."""

_HERE = Path(__file__).parent


class RawCopy:
    """(a) The raw limit: COPY of the very same rows into the same tables, partitions and indexes; no triggers, no head
    row, no ledger logic.

    The rows are read back from the ledger that stored them, before the clock starts. They go into a copy of its
    database, made when the ledger had its accounts, so that both begin with the same tables.
    """

    def __init__(self, server: Server, source: str, database: str) -> None:
        self._source = psycopg.connect(server.url(source), autocommit=True)
        self._connection = psycopg.connect(server.url(database), autocommit=True)
        (self._ledger,) = _row(self._source, "SELECT id FROM tallystick.ledger")
        _drop_triggers(self._connection)

    def pack(self, first: int, before: int) -> Packed:
        """The rows of one commit: those of the events from number ``first`` on."""
        packed = {}
        for table, query in ROWS.items():
            asked = query.format(ledger=self._ledger, first=first, before=before)
            with self._source.cursor().copy(f"COPY ({asked}) TO STDOUT (FORMAT binary)") as copy:
                packed[table] = b"".join(copy)
        return packed

    def write(self, packed: Packed) -> float:
        """Write rows in one commit; the seconds it took."""
        began = time.perf_counter()
        with self._connection.transaction(), self._connection.cursor() as cursor:
            for table, rows in packed.items():
                with cursor.copy(f"COPY tallystick.{table} FROM STDIN (FORMAT binary)") as copy:
                    copy.write(rows)
        return time.perf_counter() - began

    def check(self, first: int) -> None:
        """Raises unless the rows from event number ``first`` on are the ledger's, and no table was left out."""
        for table, query in ROWS.items():
            asked = f"SELECT count(*), sum(hashtextextended(found::text, 0)) FROM ({query}) AS found".format(
                ledger=self._ledger, first=first, before=2**62
            )
            if _row(self._source, asked) != _row(self._connection, asked):
                raise RuntimeError(f"raw COPY did not write the ledger's rows: {table}")
        for table in ("reference", "backdated"):
            if _row(self._source, f"SELECT count(*) FROM tallystick.{table}") != (0,):
                raise RuntimeError(f"the ledger wrote rows that raw COPY did not: {table}")

    def close(self) -> None:
        self._connection.close()
        self._source.close()


def _row(connection: psycopg.Connection, query: str) -> tuple[Any, ...]:
    found = connection.execute(query).fetchone()
    assert found is not None
    return found


def _drop_triggers(connection: psycopg.Connection) -> None:
    """Leave the tables without the guards; those of a parent take their partitions' copies with them."""
    query = """SELECT tgname, relname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
        WHERE relnamespace = 'tallystick'::regnamespace AND NOT tgisinternal AND tgparentid = 0"""
    for trigger, table in connection.execute(query).fetchall():
        named = (sql.Identifier(trigger), sql.Identifier("tallystick", table))
        connection.execute(sql.SQL("DROP TRIGGER {} ON {}").format(*named))


class ByHand:
    """(b) By hand: one function call and one commit for each transfer, from many connections. See by_hand.sql."""

    def __init__(self, server: Server, database: str, accounts: int) -> None:
        self._server, self._database, self._accounts = server, database, accounts
        with psycopg.connect(server.make(database), autocommit=True) as connection:
            connection.execute((_HERE / "by_hand.sql").read_text())
            fill = "INSERT INTO by_hand.account SELECT n, 10 ^ 12, 0 FROM generate_series(1, %s) n"
            connection.execute(fill, [accounts])
            connection.execute("VACUUM ANALYZE")

    def rate(self, moves: str, clients: int, seconds: int) -> float:
        """Transfers per second: ``moves`` is uniform or hot."""
        script = (_HERE / f"by_hand_{moves}.sql").read_text()
        place = self._server.share(f"by_hand_{moves}.sql", script)
        asked = (f"--client={clients}", "--jobs=2", f"--time={seconds}", f"--define=accounts={self._accounts}")
        said = self._server.pgbench(self._database, "--no-vacuum", "--protocol=prepared", *asked, f"--file={place}")
        if "number of failed transactions: 0 " not in said:
            raise RuntimeError(f"transfers by hand failed: {said}")
        found = re.search(r"^tps = ([\d.]+)", said, re.MULTILINE)
        assert found is not None, said
        return float(found[1])

    def check(self) -> None:
        """Raises unless every balance is what its last entry says, and entries and transfers agree."""
        with psycopg.connect(self._server.url(self._database)) as connection:
            found = connection.execute((_HERE / "by_hand_check.sql").read_text()).fetchone()
        if found != (0, 0, 0):
            raise RuntimeError(f"the ledger by hand does not add up: {found}")


class BareCommit:
    """The smallest durable write: a prepared INSERT of one number into a table without an index, in autocommit."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute("CREATE TABLE bare (value bigint)")

    def seconds(self, count: int) -> list[float]:
        """How long each of so many took."""
        took = []
        for number in range(count):
            began = time.perf_counter()
            self._connection.execute("INSERT INTO bare VALUES (%s)", (number,), prepare=True)
            took.append(time.perf_counter() - began)
        return took

    def close(self) -> None:
        self._connection.close()
