"""What tests of several callers on one PostgreSQL database share: somebody else's eyes, and when somebody waits."""

from __future__ import annotations

from typing import Any

import psycopg

import tallystick
from tallystick import Ledger
from tests.support.processes import wait_until

USD = "USD/2"
WAIT_SECONDS = 30

WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()
"""
OURS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = %s AND pid <> pg_backend_pid()
"""


def ask(url: str, statement: str, *values: Any) -> list[Any]:
    """The rows of a statement, asked by somebody who has nothing to do with the rest."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement, values)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


def wait_for_waiting(url: str, count: int = 1) -> None:
    """Until so many connections to the database wait for a lock."""
    wait_until(lambda: ask(url, WAITING)[0][0] >= count, WAIT_SECONDS, f"{count} who wait")


def cut(url: str, name: str = "tallystick") -> int:
    """End the connections of those who call themselves so; returns how many."""
    ended = len(ask(url, OURS, name))
    wait_until(lambda: not ask(url, f"SELECT 1 FROM ({OURS}) AS found", name), WAIT_SECONDS, "the end of them")
    return ended


def seen_by_others(url: str, ledger: str = "main") -> list[str]:
    """The keys of a ledger's events, in order, as another process finds them; each event is checked on the way."""
    with tallystick.open(url, create=False) as database:
        found = database.ledger(ledger)
        report = found.replay()
        assert report.ok, report.findings
        return keys_of(found)


def keys_of(ledger: Ledger) -> list[str]:
    """The keys of all events but the first."""
    return [event.key for event in ledger.events(after=0, limit=10_000)]
