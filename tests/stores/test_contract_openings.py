"""The contract of every store, about what opens commitments: kept with the events, found by them, and erased alone."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tallystick.erasable import commitment_of
from tallystick.errors import LedgerCorrupt
from tallystick.stores.base import OpeningRow, Store, joined
from tests.stores.conftest import MakeStore
from tests.support.engine import Engine
from tests.support.story import ask, questions, tell

TEXT = "Zoë\0\n🪵 " + "x" * 20_000


def opening(seq: int, text: str = TEXT, name: int = 0) -> OpeningRow:
    salt = (1_000 * seq + name).to_bytes(32, "big")
    return commitment_of(text, salt), salt, text, seq


def keep(engine: Engine, *rows: OpeningRow) -> None:
    assert engine.store is not None
    engine.store.append([replace(engine.batch(engine.mint("users:zoe", 1)), openings=list(rows))])


def test_openings_are_found_by_their_commitments_and_by_their_events(engine: Engine, store: Store) -> None:
    rows = [opening(1), opening(1, "short", 1), opening(2, "", 2), opening(3, "'\"%s\\", 3)]
    keep(engine, *rows[:2])
    keep(engine, rows[2])
    keep(engine, rows[3])
    assert store.openings("main", [row[0] for row in rows]) == {row[0]: row for row in rows}
    assert store.openings("main", [rows[2][0], "nothing"]) == {rows[2][0]: rows[2]}
    assert store.openings("main", []) == {}
    in_order = sorted(rows, key=lambda row: (row[3], row[0]))
    assert store.openings_between("main", 0, 100) == in_order
    assert store.openings_between("main", 2, 3) == [rows[2]]
    assert store.openings_between("main", 4, 100) == []


def test_a_ledger_that_is_not_there_has_none_and_loses_none(engine: Engine, store: Store) -> None:
    row = opening(1)
    keep(engine, row)
    assert store.openings("other", [row[0]]) == {}
    assert store.openings_between("other", 0, 9) == []
    assert store.erase("other", [row[0]]) == 0
    assert store.openings("main", [row[0]]) == {row[0]: row}


def test_each_ledger_has_its_own_even_of_one_commitment(engine: Engine, store: Store) -> None:
    other, row = Engine(store, "other"), opening(1)
    other.post(other.open())
    keep(engine, row)
    keep(other, row)
    assert store.erase("main", [row[0]]) == 1
    assert store.openings("main", [row[0]]) == {}
    assert store.openings("other", [row[0]]) == {row[0]: row}


def test_erasing_takes_these_and_no_others_and_answers_how_many_there_were(make_store: MakeStore) -> None:
    store = make_store()
    engine = tell(Engine(store))
    seq = engine.book.seq
    rows = [opening(seq, f"text {name}", name) for name in range(40)]
    keep(engine, *rows)
    asked = questions(engine)
    before = ask(store, asked)
    gone, left = rows[::2], rows[1::2]
    assert store.erase("main", [row[0] for row in gone[:5]]) == 5
    assert store.erase("main", [row[0] for row in gone] + [gone[0][0]]) == 15
    assert store.erase("main", [row[0] for row in gone]) == 0
    assert store.erase("main", []) == 0
    assert store.openings("main", [row[0] for row in rows]) == {row[0]: row for row in left}
    assert store.openings_between("main", 0, 10_000) == sorted(left, key=lambda row: row[0])
    assert ask(store, asked) == before
    assert store.check() == []


def test_a_batch_that_is_refused_leaves_no_opening(engine: Engine, store: Store) -> None:
    row = opening(1)
    batch = replace(engine.batch(engine.mint("users:zoe", 1)), openings=[row])
    with pytest.raises(TypeError):
        store.append([replace(batch, openings=[row, object()])])
    with pytest.raises(TypeError):
        store.append([replace(batch, keys=[*batch.keys, object()])])
    assert store.openings("main", [row[0]]) == {}
    store.append([batch])
    assert store.openings("main", [row[0]]) == {row[0]: row}


def test_no_commitment_has_two_openings(engine: Engine, store: Store) -> None:
    row = opening(1)
    keep(engine, row)
    for rows in ([(row[0], row[1], row[2], 2)], [opening(2), opening(2)]):
        with pytest.raises(LedgerCorrupt):
            store.append([replace(engine_at(engine).batch(engine.mint("users:zoe", 1)), openings=rows)])
    assert store.openings_between("main", 0, 9) == [row]


def engine_at(engine: Engine) -> Engine:
    """Another engine that stands where the store does."""
    found = Engine(engine.store)
    found.catch_up()
    return found


@pytest.mark.parametrize("size", [3, 300])
def test_openings_come_with_batches_of_any_size(engine: Engine, store: Store, size: int) -> None:
    batch = engine.batch(*(engine.mint("users:zoe", 1) for _ in range(size)))
    rows = [opening(seq, f"text {seq}") for seq in range(1, size + 1)]
    store.append([replace(batch, openings=rows)])
    assert store.openings_between("main", 0, size + 1) == rows


def test_batches_that_are_joined_keep_theirs(engine: Engine, store: Store) -> None:
    parts = []
    for seq in (1, 2):
        parts.append(replace(engine.batch(engine.mint("users:zoe", 1)), openings=[opening(seq)]))
    store.append([joined(parts)])
    assert store.openings_between("main", 0, 9) == [opening(1), opening(2)]


def test_a_rebuild_keeps_them(engine: Engine, store: Store) -> None:
    row = opening(1)
    keep(engine, row)
    again = Engine()
    bodies: list[Any] = store.events("main", 0, 10)
    batch = again.batch(again.open(), again.mint("users:zoe", 1))
    assert len(bodies) == len(batch.bodies)
    store.rebuild([replace(batch, bodies=bodies, head=engine.head)])
    assert store.openings("main", [row[0]]) == {row[0]: row}
