"""Replay holds the log against the events: every tile that is kept, and every root that was signed."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

import tallystick
from tallystick.evidence.home import LogHome
from tallystick.journal.canonical import decode_event
from tallystick.journal.chain import leaf_hash

CHECKPOINTS = 6
EACH = 70

Alter = Callable[[sqlite3.Connection], object]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A ledger with a log that was signed at several sizes, and with one full tile."""
    path = tmp_path / "ledger.db"
    with tallystick.open(path) as database:
        ledger = database.ledger("main")
        log = LogHome(tmp_path / "home").begin(ledger, "example.com/main")
        for number in range(CHECKPOINTS * EACH):
            ledger.mint("users:alice", "USD/2", 1, key=str(number))
            if number % EACH == 0:
                log.checkpoint()
    return path


def findings(path: Path, alter: Alter | None = None) -> list[str]:
    """What replay finds once the file was altered, with the guards set aside."""
    if alter is not None:
        with sqlite3.connect(path) as connection:
            guards = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
            for name, _ in guards:
                connection.execute(f"DROP TRIGGER {name}")
            alter(connection)
            for _, text in guards:
                connection.execute(text)
    with tallystick.open(path, read_only=True) as database:
        return [finding.where for finding in database.replay("main").findings]


def test_a_log_that_is_whole_is_found_whole(file: Path) -> None:
    assert findings(file) == []


@pytest.mark.parametrize(
    ("level", "number", "where"),
    [(0, 0, "tile/0/000 of main"), (0, 1, "tile/0/001.p/"), (1, 0, "tile/1/000.p/1 of main")],
)
def test_an_altered_tile_is_found(file: Path, level: int, number: int, where: str) -> None:
    def alter(connection: sqlite3.Connection) -> None:
        place = (level, number)
        (hashes,) = connection.execute("SELECT hashes FROM log_tile WHERE (level, number) = (?, ?)", place).fetchone()
        forged = bytes([hashes[0] ^ 1]) + hashes[1:]
        connection.execute("UPDATE log_tile SET hashes = ? WHERE (level, number) = (?, ?)", (forged, *place))

    (found,) = findings(file, alter)
    assert found.startswith(where)


def test_a_missing_tile_is_found(file: Path) -> None:
    (found,) = findings(
        file, lambda connection: connection.execute("DELETE FROM log_tile WHERE (level, number) = (0, 0)")
    )
    assert found == "tile/0/000 of main"


def test_a_checkpoint_with_another_root_is_found(file: Path) -> None:
    def alter(connection: sqlite3.Connection) -> None:
        size, note = connection.execute("SELECT size, note FROM checkpoint ORDER BY size LIMIT 1 OFFSET 2").fetchone()
        forged = re.sub(rb"\n[A-Za-z0-9+/]{43}=\n", b"\n" + b"A" * 43 + b"=\n", note, count=1)
        connection.execute("UPDATE checkpoint SET note = ? WHERE size = ?", (forged, size))

    (found,) = findings(file, alter)
    assert found.startswith("checkpoint ")


def test_a_journal_that_was_altered_and_chained_anew_is_found_by_what_was_signed_of_it(file: Path) -> None:
    """Every key of the journal renamed and every hash made anew: a chain without a flaw, but another tree."""

    def alter(connection: sqlite3.Connection) -> None:
        prev = "0" * 64
        rows = connection.execute("SELECT seq, body FROM event ORDER BY seq").fetchall()
        for seq, body in rows:
            bodies = []
            for one in body.split(b"\n"):
                event = decode_event(one)
                forged = one.replace(event.prev.encode(), prev.encode()).replace(b'"USD/2"', b'"EUR/2"')
                prev = leaf_hash(forged)
                bodies.append(forged)
            connection.execute("UPDATE event SET body = ?, hash = ? WHERE seq = ?", (b"\n".join(bodies), prev, seq))

    found = findings(file, alter)
    assert sum(where.startswith("checkpoint ") for where in found) == CHECKPOINTS
    assert any(where.startswith("tile/0/000 ") for where in found)


def test_a_checkpoint_of_more_events_than_there_are_is_found(file: Path) -> None:
    def alter(connection: sqlite3.Connection) -> None:
        (note,) = connection.execute("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1").fetchone()
        forged = re.sub(rb"\n\d+\n", b"\n9999\n", note, count=1)
        connection.execute("INSERT INTO checkpoint SELECT ledger, 9999, 0, ? FROM checkpoint LIMIT 1", (forged,))

    assert "checkpoint 9999 of main" in findings(file, alter)
