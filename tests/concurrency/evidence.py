"""What the database holds of one ledger, read with plain SQL and nothing of the library."""

from __future__ import annotations

import json
from typing import Any

import psycopg
from msgspec import Struct

LEDGER = "(SELECT id FROM tallystick.ledger WHERE name = %(ledger)s)"

EVENTS = f"SELECT seq, count, hash, body FROM tallystick.event WHERE ledger = {LEDGER} ORDER BY seq"

ENTRIES = f"""
SELECT entry.seq, account, asset, bucket, version, amount, before, after
FROM tallystick.entry JOIN tallystick.balance ON balance.ledger = entry.ledger AND balance.id = entry.balance
WHERE entry.ledger = {LEDGER} ORDER BY entry.seq, account, asset, bucket
"""

BALANCES = f"SELECT account, asset, bucket FROM tallystick.balance WHERE ledger = {LEDGER}"

KEYS = f"SELECT number, seq FROM tallystick.idempotency WHERE ledger = {LEDGER}"

REFERENCES = f"SELECT name, value, seq FROM tallystick.reference WHERE ledger = {LEDGER}"

LOCKS = f"SELECT id, body FROM tallystick.object WHERE ledger = {LEDGER} AND kind = 'lock'"

HEAD = f"SELECT seq, hash, time, balances FROM tallystick.head WHERE ledger = {LEDGER}"

SNAPSHOTS = f"""
SELECT part, account, asset, bucket, version, after
FROM tallystick.snapshot JOIN tallystick.balance ON balance.ledger = snapshot.ledger AND balance.id = snapshot.balance
WHERE snapshot.ledger = {LEDGER}
"""


class Evidence(Struct):
    """The tables of one ledger. ``rows`` are the events as they are stored: (seq, count, hash of the last, bodies)."""

    ledger: str
    rows: list[tuple[int, int, str, bytes]]
    entries: list[tuple[Any, ...]]
    balances: list[tuple[str, str, str]]
    keys: list[tuple[int, int]]
    references: list[tuple[str, str, int]]
    locks: dict[str, dict[str, Any]]
    head: tuple[int, str, str, int]
    snapshots: list[tuple[Any, ...]]


def read_evidence(connection: psycopg.Connection, ledger: str) -> Evidence:
    """All of a ledger's tables."""

    def rows(query: str) -> list[Any]:
        return connection.execute(query, {"ledger": ledger}).fetchall()  # type: ignore[arg-type]

    return Evidence(
        ledger=ledger,
        rows=rows(EVENTS),
        entries=rows(ENTRIES),
        balances=rows(BALANCES),
        keys=rows(KEYS),
        references=rows(REFERENCES),
        locks={id: json.loads(body) for id, body in rows(LOCKS)},
        head=rows(HEAD)[0],
        snapshots=rows(SNAPSHOTS),
    )
