"""The contract of every store, about the log over its events: leaves read anew, tiles that grow, notes that stay."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import psycopg
import pytest

from tallystick.errors import LedgerCorrupt, ReadOnly, Unavailable
from tallystick.stores.base import Store
from tallystick.stores.memory import MemoryStore
from tallystick.stores.postgres.store import PostgresStore
from tallystick.stores.sqlite import SqliteStore
from tests.conftest import NewUrl
from tests.stores.conftest import MakeStore, store_at
from tests.support.engine import Engine, rebuilt
from tests.support.stores import LASTING

NOTHING = bytes(32)
BATCHES = [3, 300, 1, 256, 2]
"""Events posted at once: some make a row, some a full one, some more than one."""


def hashes(first: int, before: int, salt: str = "") -> bytes:
    return b"".join(sha256(f"{salt}{n}".encode()).digest() for n in range(first, before))


def leaf(body: bytes) -> bytes:
    return sha256(b"\0" + body).digest()


@pytest.fixture
def grown(engine: Engine) -> list[int]:
    """A ledger posted in batches: its size before and after each, where a stored row begins in every store."""
    ends = [0, engine.book.seq]
    for count in BATCHES:
        engine.post(*(engine.mint("users:zoe", 1) for _ in range(count)))
        ends.append(engine.book.seq)
    return ends


# ---------------------------------------------------------------- leaves


def test_leaves_are_the_hashes_of_the_events_from_wherever_a_batch_begins(grown: list[int], store: Store) -> None:
    size = grown[-1]
    right = [leaf(body) for body in store.events("main", 0, size)]
    assert len(right) == size
    for first in grown[:-1]:
        prev = right[first - 1] if first else NOTHING
        for limit in (1, 2, 256, 257, size - first, size):
            found = store.leaves("main", first, prev, limit)
            assert min(limit, size - first) <= len(found) <= size - first
            assert found == right[first : first + len(found)]
    assert store.leaves("main", size, right[-1], 100) == []
    assert store.leaves("main", size + 5, right[-1], 100) == []


@pytest.mark.parametrize("limit", [1, 7, 250])
def test_leaves_go_on_where_the_last_ones_ended(grown: list[int], store: Store, limit: int) -> None:
    found: list[bytes] = []
    while more := store.leaves("main", len(found), found[-1] if found else NOTHING, limit):
        found += more
    assert found == [leaf(body) for body in store.events("main", 0, grown[-1])]


def test_leaves_behind_another_event_than_the_one_before_are_refused(grown: list[int], store: Store) -> None:
    for first in grown[:-1]:
        with pytest.raises(LedgerCorrupt):
            store.leaves("main", first, leaf(b"another"), 1)


@pytest.mark.parametrize("make_store", LASTING, indirect=True)
def test_leaves_from_within_a_row_are_refused(grown: list[int], store: Store) -> None:
    right = [leaf(body) for body in store.events("main", 0, grown[-1])]
    begins = {0}
    while (first := max(begins)) < grown[-1]:
        begins.add(first + len(store.leaves("main", first, right[first - 1] if first else NOTHING, 1)))
    within = set(range(grown[-1])) - begins
    assert within
    for first in sorted(within)[:9]:
        with pytest.raises(LedgerCorrupt):
            store.leaves("main", first, right[first - 1], 10)


def test_an_unknown_ledger_has_no_log(store: Store) -> None:
    assert store.leaves("main", 0, NOTHING, 10) == []
    assert store.tiles("main", []) == []
    assert store.tiles("main", [(0, 0), (1, 0)]) == [b"", b""]
    assert store.checkpoint("main") is None
    assert store.checkpoints("main") == []


Damage = Callable[[str], None]


@pytest.fixture
def damage(store: Store) -> Damage:
    """Runs a statement on the table of events with its guards away; EVENT stands for the table's name."""

    def run(statement: str) -> None:
        if isinstance(store, PostgresStore):
            with psycopg.connect(store._source._conninfo) as link:  # type: ignore[union-attr]
                link.execute("SET session_replication_role = replica")
                link.execute(statement.replace("EVENT", "tallystick.event").encode())
            return
        assert isinstance(store, SqliteStore)
        with sqlite3.connect(store.path) as connection:
            triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
            for name, _ in triggers:
                connection.execute(f"DROP TRIGGER {name}")
            assert connection.execute(statement.replace("EVENT", "event")).rowcount
            for _, sql in triggers:
                connection.execute(sql)
        connection.close()

    return run


ALTERED = {
    "other bytes": "UPDATE EVENT SET body = CAST(replace(CAST(body AS TEXT), 'zoe', 'eve') AS BLOB) WHERE seq = 4",
    "another hash": f"UPDATE EVENT SET hash = '{'0' * 64}' WHERE seq = 4",
    "a count that is not so": "UPDATE EVENT SET count = count - 1 WHERE seq = 4",
    "a row that was moved": "UPDATE EVENT SET seq = 3 WHERE seq = 4",
    "a row that is gone": "DELETE FROM EVENT WHERE seq = 4",
    "the first row gone": "DELETE FROM EVENT WHERE seq = 0",
}


@pytest.mark.parametrize("make_store", LASTING, indirect=True)
@pytest.mark.parametrize("statement", ALTERED.values(), ids=ALTERED)
def test_leaves_of_what_was_altered_are_refused(grown: list[int], store: Store, damage: Damage, statement: str) -> None:
    if isinstance(store, PostgresStore):
        statement = statement.replace(
            "CAST(replace(CAST(body AS TEXT), 'zoe', 'eve') AS BLOB)",
            "convert_to(replace(convert_from(body, 'UTF8'), 'zoe', 'eve'), 'UTF8')",
        )
    assert len(store.leaves("main", 0, NOTHING, 10_000)) == grown[-1]
    damage(statement)
    with pytest.raises(LedgerCorrupt):
        store.leaves("main", 0, NOTHING, 10_000)


def test_leaves_of_events_altered_in_memory_are_refused() -> None:
    store = MemoryStore()
    engine = Engine(store)
    engine.post(engine.open(), *(engine.mint("users:zoe", 1) for _ in range(5)))
    assert len(store.leaves("main", 0, NOTHING, 10)) == 6
    bodies = store._shelves["main"].bodies
    bodies[3] = bodies[3].replace(b"zoe", b"eve")
    with pytest.raises(LedgerCorrupt):
        store.leaves("main", 0, NOTHING, 10)


# ---------------------------------------------------------------- tiles


def test_tiles_come_back_in_the_order_they_were_asked_for(engine: Engine, store: Store) -> None:
    rows = [(0, 0, hashes(0, 256)), (0, 1, hashes(256, 260)), (1, 0, hashes(0, 1)), (2, 9, hashes(7, 9))]
    store.keep_log("main", rows, 260, b"")
    assert store.tiles("main", [(2, 9), (0, 1), (5, 5), (0, 0), (1, 0)]) == [
        rows[3][2],
        rows[1][2],
        b"",
        rows[0][2],
        rows[2][2],
    ]
    assert store.tiles("main", [(0, 1), (0, 1)]) == [rows[1][2]] * 2
    assert store.tiles("main", []) == []


def test_a_tile_grows_and_never_shrinks(engine: Engine, store: Store) -> None:
    for width in (1, 3, 2, 200, 3, 256, 255, 256, 1):
        store.keep_log("main", [(0, 0, hashes(0, width))], width, b"")
    assert store.tiles("main", [(0, 0)]) == [hashes(0, 256)]
    store.keep_log("main", [(0, 1, hashes(256, 258)), (0, 0, hashes(0, 9))], 258, b"")
    assert store.tiles("main", [(0, 0), (0, 1)]) == [hashes(0, 256), hashes(256, 258)]


def test_a_tile_that_does_not_begin_as_the_one_that_is_there_is_refused(engine: Engine, store: Store) -> None:
    store.keep_log("main", [(0, 0, hashes(0, 4))], 4, b"note")
    for wrong in (hashes(0, 6, "x"), hashes(0, 3) + hashes(9, 12), hashes(1, 6)):
        with pytest.raises((LedgerCorrupt, Unavailable)):
            store.keep_log("main", [(0, 0, wrong)], 6, b"forked")
        assert store.tiles("main", [(0, 0)]) == [hashes(0, 4)]
        assert store.checkpoints("main") == [(4, b"note")]


def test_what_is_refused_leaves_nothing_behind(engine: Engine, store: Store) -> None:
    store.keep_log("main", [(0, 1, hashes(0, 4))], 4, b"")
    rows = [(0, 0, hashes(0, 256)), (0, 1, hashes(8, 20)), (0, 2, hashes(0, 1))]
    for order in (rows, rows[::-1]):
        with pytest.raises((LedgerCorrupt, Unavailable)):
            store.keep_log("main", order, 300, b"note")
        assert store.tiles("main", [(0, 0), (0, 1), (0, 2)]) == [b"", hashes(0, 4), b""]
        assert store.checkpoint("main") is None
    store.keep_log("main", rows[:1], 300, b"note")
    assert store.tiles("main", [(0, 0)]) == [hashes(0, 256)]
    assert store.checkpoint("main") == b"note"


def test_a_thousand_tiles_are_kept_at_once(engine: Engine, store: Store) -> None:
    rows = [(0, number, hashes(number, number + 2)) for number in range(1_000)]
    store.keep_log("main", rows, 2_000, b"note")
    assert store.tiles("main", [row[:2] for row in rows]) == [row[2] for row in rows]


def test_each_ledger_has_a_log_of_its_own(engine: Engine, store: Store) -> None:
    other = Engine(store, "other")
    other.post(other.open())
    store.keep_log("main", [(0, 0, hashes(0, 2))], 2, b"of main")
    store.keep_log("other", [(0, 0, hashes(5, 9))], 4, b"of other")
    assert (store.tiles("main", [(0, 0)]), store.checkpoint("main")) == ([hashes(0, 2)], b"of main")
    assert (store.tiles("other", [(0, 0)]), store.checkpoints("other")) == ([hashes(5, 9)], [(4, b"of other")])
    assert [leaf(body) for body in store.events("other", 0, 9)] == store.leaves("other", 0, NOTHING, 9)


# ---------------------------------------------------------------- notes


def test_the_newest_note_is_of_the_largest_size_and_the_last_of_its_size(engine: Engine, store: Store) -> None:
    for size, note in [(5, b"five"), (9, b"nine"), (7, b"seven"), (9, b"nine, cosigned"), (5, b"five, cosigned")]:
        store.keep_log("main", [], size, note)
    assert store.checkpoint("main") == b"nine, cosigned"
    assert store.checkpoints("main") == [(5, b"five, cosigned"), (7, b"seven"), (9, b"nine, cosigned")]
    assert store.checkpoints("main", 5) == [(7, b"seven"), (9, b"nine, cosigned")]
    assert store.checkpoints("main", 4, 1) == [(5, b"five, cosigned")]
    assert store.checkpoints("main", 9) == []
    assert store.checkpoints("main", -1, 0) == []


def test_more_than_ten_notes_of_one_size_are_in_order(engine: Engine, store: Store) -> None:
    for number in range(12):
        store.keep_log("main", [], 5, b"note %d" % number)
    assert store.checkpoint("main") == b"note 11"
    assert store.checkpoints("main") == [(5, b"note 11")]


def test_an_empty_note_is_none(engine: Engine, store: Store) -> None:
    store.keep_log("main", [(0, 0, hashes(0, 2))], 2, b"")
    assert store.checkpoint("main") is None
    store.keep_log("main", [], 0, b"note of nothing")
    store.keep_log("main", [], 3, b"")
    assert store.checkpoints("main") == [(0, b"note of nothing")]


def test_a_rebuild_keeps_tiles_and_notes(engine: Engine, store: Store) -> None:
    engine.post(*(engine.mint("users:zoe", 1) for _ in range(4)))
    store.keep_log("main", [(0, 0, hashes(0, 5))], 5, b"note")
    store.keep_log("main", [], 5, b"cosigned")
    before = store.leaves("main", 0, NOTHING, 10)
    store.rebuild(rebuilt(engine))
    assert store.tiles("main", [(0, 0)]) == [hashes(0, 5)]
    assert store.checkpoints("main") == [(5, b"cosigned")]
    assert store.leaves("main", 0, NOTHING, 10) == before
    assert store.check() == []


@pytest.mark.parametrize("kind", LASTING)
def test_the_log_outlives_its_store_and_a_reader_sees_it_and_keeps_nothing(kind: str, new_url: NewUrl) -> None:
    url = new_url(kind)
    store = store_at(url)
    engine = Engine(store)
    engine.post(engine.open(), engine.mint("users:zoe", 1))
    store.keep_log("main", [(0, 0, hashes(0, 2))], 2, b"note")
    right = store.leaves("main", 0, NOTHING, 10)
    store.close()
    reader: Store
    reader = PostgresStore(url, read_only=True) if kind == "postgres" else SqliteStore(Path(url), read_only=True)
    try:
        assert reader.tiles("main", [(0, 0)]) == [hashes(0, 2)]
        assert reader.checkpoints("main") == [(2, b"note")]
        assert reader.leaves("main", 0, NOTHING, 10) == right
        for name in ("main", "another"):
            with pytest.raises(ReadOnly):
                reader.keep_log(name, [(0, 0, hashes(0, 3))], 3, b"more")
        assert reader.tiles("main", [(0, 0)]) == [hashes(0, 2)]
        assert reader.checkpoint("main") == b"note"
    finally:
        reader.close()


def test_the_notes_and_tiles_of_two_stores_are_their_own(make_store: MakeStore) -> None:
    one, other = make_store(), make_store()
    for store in (one, other):
        engine = Engine(store)
        engine.post(engine.open())
    one.keep_log("main", [(0, 0, hashes(0, 1))], 1, b"note")
    assert (other.checkpoint("main"), other.tiles("main", [(0, 0)])) == (None, [b""])
