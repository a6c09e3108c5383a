"""What PostgreSQL itself lets anybody do to the log: add to it. What was signed, and the tree under it, stays."""

from __future__ import annotations

import pytest

from tests.postgres.by_hand import OPENING
from tests.postgres.conftest import AUDITOR, OWNER, READER, SUPERUSER, WRITER, Psql, all_of_it

TWO, FOUR = "a1" * 64, "a1" * 64 + "b2" * 64
"""Rows of two and of four hashes, in hex."""


def tile(hashes: str, *, ledger: int = 1, level: int = 0, number: int = 0) -> str:
    return f"INSERT INTO tallystick.log_tile VALUES ({ledger}, {level}, {number}, '\\x{hashes}');"


def note(size: int = 2, revision: int = 0, text: str = "note", ledger: int = 1) -> str:
    return f"INSERT INTO tallystick.checkpoint VALUES ({ledger}, {size}, {revision}, '{text}');"


@pytest.fixture
def kept(psql: Psql) -> Psql:
    """A ledger with one tile and one note."""
    psql(OPENING)
    psql(tile(TWO) + note())
    return psql


CHANGES = {
    "UPDATE of checkpoint": "UPDATE tallystick.checkpoint SET note = 'another';",
    "UPDATE of checkpoint to the same": "UPDATE tallystick.checkpoint SET size = size;",
    "DELETE of checkpoint": "DELETE FROM tallystick.checkpoint;",
    "TRUNCATE of checkpoint": "TRUNCATE tallystick.checkpoint;",
    "DELETE of log_tile": "DELETE FROM tallystick.log_tile;",
    "TRUNCATE of log_tile": "TRUNCATE tallystick.log_tile;",
    "both at once": "TRUNCATE tallystick.log_tile, tallystick.checkpoint;",
    "with the ledger": "TRUNCATE tallystick.ledger CASCADE;",
}


@pytest.mark.parametrize("script", CHANGES.values(), ids=CHANGES)
def test_what_was_kept_is_never_taken_away(kept: Psql, script: str) -> None:
    before = all_of_it(kept.dsn)
    for role in (WRITER, READER, AUDITOR):
        assert "permission denied" in kept.refused(script, role)
    for role in (OWNER, SUPERUSER):
        assert "is append-only: " in kept.refused(script, role)
    assert all_of_it(kept.dsn) == before


@pytest.mark.parametrize("role", [WRITER, OWNER, SUPERUSER])
@pytest.mark.parametrize(
    "hashes",
    ["a1" * 32, "b2" * 64, "a1" * 63 + "b2" + "a1" * 32, "b2" * 32 + "a1" * 64],
    ids=["narrower", "others", "the last byte of one changed, and another", "one put before"],
)
def test_a_tile_that_does_not_begin_as_it_was_is_refused(kept: Psql, role: str, hashes: str) -> None:
    change = f"UPDATE tallystick.log_tile SET hashes = '\\x{hashes}';"
    upsert = tile(hashes)[:-1] + " ON CONFLICT (ledger, level, number) DO UPDATE SET hashes = excluded.hashes;"
    before = all_of_it(kept.dsn)
    assert "log_tile only grows: UPDATE is refused" in kept.refused(change, role)
    assert "log_tile only grows: UPDATE is refused" in kept.refused(upsert, role)
    assert all_of_it(kept.dsn) == before


def test_the_writer_makes_a_tile_grow_and_moves_it_nowhere(kept: Psql) -> None:
    kept(f"UPDATE tallystick.log_tile SET hashes = '\\x{FOUR}';")
    assert kept("SELECT encode(hashes, 'hex') FROM tallystick.log_tile;") == FOUR
    for column in ("ledger", "level", "number"):
        move = f"UPDATE tallystick.log_tile SET {column} = 7;"
        assert "permission denied" in kept.refused(move)
        assert "log_tile only grows: UPDATE is refused" in kept.refused(move, SUPERUSER)
    assert "permission denied" in kept.refused("UPDATE tallystick.log_tile SET hashes = hashes;", READER)


def test_what_can_be_no_tile_and_no_note_never_gets_in(kept: Psql) -> None:
    wrong = [
        tile("", number=1),
        tile("a1" * 31, number=1),
        tile("a1" * 33, number=1),
        tile("a1" * 32 * 257, number=1),
        tile(TWO, level=64),
        tile(TWO, level=-1),
        tile(TWO, number=-1),
        note(size=-1),
        note(revision=-1),
    ]
    for script in wrong:
        assert "violates check constraint" in kept.refused(script), script
    for script in (tile(TWO, ledger=9), note(ledger=9)):
        assert "violates foreign key constraint" in kept.refused(script), script
    for script in (tile(FOUR), note(text="another")):
        assert "duplicate key" in kept.refused(script), script
    kept(tile("a1" * 32 * 256, number=1) + tile(TWO, level=63) + note(revision=1) + note(size=0))


def test_a_note_goes_in_beside_the_ones_that_are_there(kept: Psql) -> None:
    over = note(text="another")[:-1] + " ON CONFLICT (ledger, size, revision) DO UPDATE SET note = excluded.note;"
    assert "permission denied" in kept.refused(over)
    assert "is append-only: UPDATE is refused" in kept.refused(over, SUPERUSER)
    kept(note(revision=1, text="cosigned"))
    notes = "SELECT convert_from(note, 'UTF8') FROM tallystick.checkpoint ORDER BY revision;"
    assert kept(notes, AUDITOR) == "note\ncosigned"
    assert "permission denied" in kept.refused(notes, READER)


@pytest.mark.parametrize(
    ("trigger", "table", "script"),
    [
        ("checkpoint_is_never_changed", "checkpoint", CHANGES["UPDATE of checkpoint"]),
        ("checkpoint_is_never_changed", "checkpoint", CHANGES["DELETE of checkpoint"]),
        ("checkpoint_is_never_truncated", "checkpoint", CHANGES["TRUNCATE of checkpoint"]),
        ("log_tile_only_grows", "log_tile", f"UPDATE tallystick.log_tile SET hashes = '\\x{'b2' * 64}';"),
        ("log_tile_is_never_deleted", "log_tile", CHANGES["DELETE of log_tile"]),
        ("log_tile_is_never_truncated", "log_tile", CHANGES["TRUNCATE of log_tile"]),
    ],
)
def test_it_is_that_guard_that_refuses(kept: Psql, trigger: str, table: str, script: str) -> None:
    kept(f"DROP TRIGGER {trigger} ON tallystick.{table};" + script, SUPERUSER)
