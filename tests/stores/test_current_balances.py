"""Current balances, and heads that are answered without a look at the file: never newer than what is durable, never
older than what was answered, and damage is noticed as ever."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from tallystick.errors import Closed, LedgerCorrupt
from tallystick.stores.base import Batch, Store
from tallystick.stores.sqlite import SqliteStore
from tallystick.stores.sqlite_file import SQL
from tests.stores.conftest import LONG
from tests.support.engine import Engine, rebuilt
from tests.support.story import PEOPLE, tell

Ledger = tuple[Engine, list[Batch]]


class Stopped(Exception):
    """Raised while a batch is being appended."""


# ---------------------------------------------------------------- every store


def test_balances_of_some_accounts_are_those_of_all_behind_just_these_events(store: Store) -> None:
    engine = tell(Engine(store))
    whole = store.balances("main")
    asked = [*PEOPLE[::2], "nobody", "\ud800", PEOPLE[0]]
    assert store.balances_of("main", asked) == (engine.book.seq, [row for row in whole if row[0] in asked])
    assert store.balances("main", None, asked) == store.balances("main", engine.book.seq, asked)
    assert store.balances_of("main", []) == (engine.book.seq, [])
    assert store.balances_of("other", asked) == (0, [])


def test_balances_of_a_long_ledger_are_found_in_every_part(long_store: Store, long_ledger: Ledger) -> None:
    everyone = [f"users:{number:02}" for number in range(40)]
    book = long_ledger[0].book
    expected = [(person, *row) for person in everyone for row in book.balances_of(person)]
    assert long_store.balances_of("main", everyone) == (LONG, expected)


def test_an_append_that_came_to_nothing_moves_no_head(engine: Engine, store: Store) -> None:
    engine.post(engine.mint("users:alice", 100))
    before = store.head("main"), store.balances_of("main", ["users:alice", "users:bob"])
    batch = engine.batch(engine.pay("users:alice", "users:bob", 1))

    def batches() -> Iterator[Batch]:
        yield batch
        raise Stopped

    with pytest.raises(Stopped):
        store.append(batches())
    assert (store.head("main"), store.balances_of("main", ["users:alice", "users:bob"])) == before
    store.append([batch])
    assert store.head("main") == engine.head


def test_references_are_read_page_by_page(engine: Engine, store: Store) -> None:
    for _ in range(7):
        engine.post(replace(engine.mint("users:alice", 1), refs={"order": "o-1"}), engine.mint("users:bob", 1))
    whole = store.references("main", "order", "o-1")
    assert len(whole) == 7
    for place, seq in enumerate(whole):
        assert store.references("main", "order", "o-1", seq, 2) == whole[place + 1 : place + 3]
        assert store.references("main", "order", "o-1", seq - 1) == whole[place:]


def test_references_of_a_long_ledger_begin_in_the_part_of_the_event_before(long_store: Store) -> None:
    assert long_store.references("main", "order", "o-1", LONG + 2**20, 1) == []


# ---------------------------------------------------------------- the file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def written(path: Path) -> Iterator[tuple[Engine, SqliteStore]]:
    """A store that has written a ledger, and so knows where it stands."""
    store = SqliteStore(path)
    engine = Engine(store)
    engine.post(engine.open(), engine.mint("users:alice", 100))
    engine.post(engine.pay("users:alice", "users:bob", 1))
    yield engine, store
    store.close()


Written = tuple[Engine, SqliteStore]


def altered(path: Path, statement: str) -> None:
    """Change a file behind its writer's back, guards or not."""
    connection = sqlite3.connect(path)
    for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_writer_and_a_reader_of_the_file_answer_alike(written: Written, path: Path) -> None:
    engine, store = written
    reader = SqliteStore(path, read_only=True)
    for number in range(5):
        engine.post(engine.pay("users:alice", f"users:{number}", 1))
        asked = ["users:alice", f"users:{number}"]
        assert reader.head("main") == store.head("main") == engine.head
        assert reader.balances_of("main", asked) == store.balances_of("main", asked)
    reader.close()


def test_a_head_is_known_only_until_the_file_is_closed(written: Written) -> None:
    _, store = written
    assert store.head("main") is store.head("main")  # from memory
    store.close()
    with pytest.raises(Closed):
        store.head("main")


def test_what_is_being_appended_is_not_read_before_it_is_durable(written: Written) -> None:
    engine, store = written
    asked = ["users:alice", "users:bob"]
    before = store.head("main"), store.balances_of("main", asked), store.events("main", 0, 100)
    seen = []

    def batches() -> Iterator[Batch]:
        for _ in range(2):
            yield engine.batch(engine.pay("users:alice", "users:bob", 1))
            seen.append((store.head("main"), store.balances_of("main", asked), store.events("main", 0, 100)))

    store.append(batches())
    assert seen == [before, before]
    assert store.head("main") == engine.head
    assert store.balances_of("main", asked)[0] == engine.book.seq == before[1][0] + 2


def test_after_an_append_that_failed_the_file_is_asked_where_the_ledger_stands(written: Written) -> None:
    """How a commit ended that raised an error, only the file can tell."""
    engine, store = written
    known = store.head("main")
    batch = engine.batch(engine.pay("users:alice", "users:bob", 1))

    def batches() -> Iterator[Batch]:
        yield batch
        raise Stopped

    with pytest.raises(Stopped):
        store.append(batches())
    assert store.head("main") == known
    assert store.head("main") is not known
    store.append([batch])
    assert store.head("main") is batch.head


def test_a_rebuild_makes_the_file_be_asked_again(written: Written) -> None:
    engine, store = written
    store.rebuild(rebuilt(engine))
    assert store.head("main") is not store.head("main")
    assert store.head("main") == engine.head
    engine.post(engine.mint("users:alice", 1))
    assert store.head("main") == engine.head


def test_what_came_since_the_head_that_is_known_is_left_out(written: Written) -> None:
    """Between a commit and the moment when it is known here a reader's snapshot holds more than the head says."""
    engine, store = written
    earlier, asked = engine.head, ["users:alice", "users:bob"]
    before = store.balances_of("main", asked), store.events("main", 0, 100)
    engine.post(engine.pay("users:alice", "users:bob", 1))
    now = store.balances_of("main", asked)
    store._heads["main"] = earlier
    assert store.balances_of("main", asked) == before[0] != now
    assert store.events("main", 0, 100) == before[1]
    assert store.events("main", earlier.seq, 100) == []


def test_a_balance_that_came_since_the_head_that_is_known_is_read_with_its_own(written: Written) -> None:
    engine, store = written
    earlier, asked = engine.head, ["users:alice", "users:carol"]
    engine.post(engine.pay("users:alice", "users:carol", 1))
    now = store.balances_of("main", asked)
    loaded = store.load_accounts("main", asked)
    store._heads["main"] = earlier
    assert store.balances_of("main", asked) == now
    assert store.load_accounts("main", asked) == loaded


@pytest.mark.parametrize("knows", [True, False])
@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE entry SET amount = amount + 1 WHERE balance = 2", "does not add up"),
        ("UPDATE entry SET after = after - 1 WHERE balance = 2", "does not add up"),
        ("DELETE FROM entry WHERE balance = 2", "has no entry"),
        ("UPDATE balance SET bucket = CAST(x'ff' AS TEXT) WHERE id = 2", "damaged|never held"),
    ],
)
def test_damage_to_a_current_balance_is_noticed(
    written: Written, path: Path, statement: str, problem: str, knows: bool
) -> None:
    _, store = written
    account = next(row[0] for row in store.balances("main") if row[3].id == 2)
    altered(path, statement)
    if not knows:
        store._heads.clear()
    reads = (
        lambda: store.balances_of("main", [account]),
        lambda: store.balances("main", None, [account]),
        lambda: store.load_accounts("main", [account]),
    )
    for read in reads:
        with pytest.raises(LedgerCorrupt, match=problem):
            read()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM event WHERE seq = (SELECT max(seq) FROM event)",
        "UPDATE event SET hash = 'x' || substr(hash, 2) WHERE seq = (SELECT max(seq) FROM event)",
        "INSERT INTO event SELECT ledger, seq + 1, 1, time, hash, encoding, body FROM event ORDER BY seq DESC LIMIT 1",
        "DELETE FROM balance WHERE id = (SELECT max(id) FROM balance)",
    ],
)
def test_a_journal_that_does_not_end_where_its_writer_left_it_is_found_by_the_check(
    written: Written, path: Path, statement: str
) -> None:
    _, store = written
    assert store.check() == []
    known = store.head("main")
    altered(path, statement)
    assert store.head("main") == known
    assert store.check() == ["ledger main does not end where this process left it"]
    assert store._known_head("main") is None  # from here on the file is asked


@pytest.mark.parametrize("query", ["current_balances", "balances_by_account"])
def test_the_balances_of_an_account_are_looked_up_and_not_searched_for(
    written: Written, path: Path, query: str
) -> None:
    """However many balances the ledger has."""
    connection = sqlite3.connect(path)
    asked = {"ledger": 1, "before": 3, "last": 0, "accounts": '["users:alice"]'}
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {SQL[query]}", asked)]
    connection.close()
    assert any(step.startswith("SEARCH balance") and "account=?" in step for step in plan), plan
    assert not any(step.startswith(("SCAN balance", "SCAN entry", "SCAN snapshot")) for step in plan), plan
