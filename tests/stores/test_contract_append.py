"""The store contract for writing: what is appended is kept wholly or not at all, behind the head it was decided on."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from tallystick import commands as c
from tallystick.clock import END
from tallystick.commands import Leg, Post
from tallystick.errors import LedgerCorrupt
from tallystick.events import GENESIS
from tallystick.journal import leaf_hash
from tallystick.kernel import Balance
from tallystick.stores.base import Batch, Head, HeadMoved, Store, key_number
from tests.support.engine import START, Engine
from tests.support.story import USD, ask, questions

NOTHING = Head(0, GENESIS, "", 0)
EVERYTHING = 1_000_000


def paid(engine: Engine, count: int = 1) -> list[c.Command]:
    return [engine.mint("users:alice", 100), *(engine.pay("users:alice", "users:bob", 1 + i % 9) for i in range(count))]


def test_append_moves_the_head_to_the_batch_s_head(store: Store) -> None:
    engine = Engine(store)
    first = engine.post(engine.open())
    assert first.expected == NOTHING
    assert store.head("main") == first.head == Head(1, leaf_hash(first.bodies[0]), engine.now, 0)
    second = engine.post(*paid(engine))
    assert store.head("main") == second.head
    assert second.head.seq == 3
    assert second.head.balances == 3
    assert store.ledgers() == ["main"]


def test_append_behind_the_head_is_refused_and_changes_nothing(engine: Engine, store: Store) -> None:
    late = Engine(name="main")
    late.batch(late.open())
    engine.post(*paid(engine))
    asked = questions(engine)
    before = ask(store, asked)
    with pytest.raises(HeadMoved):
        store.append([late.batch(late.mint("users:mallory", 1))])
    assert ask(store, asked) == before
    assert store.load_accounts("main", ["users:mallory"])["users:mallory"].balances == []


def test_append_ahead_of_the_head_is_refused(engine: Engine, store: Store) -> None:
    engine.batch(*paid(engine))
    with pytest.raises(HeadMoved):
        store.append([engine.batch(engine.mint("users:alice", 1))])
    assert store.head("main").seq == 1  # type: ignore[union-attr]


def test_the_same_batch_is_never_kept_twice(engine: Engine, store: Store) -> None:
    batch = engine.post(*paid(engine))
    with pytest.raises(HeadMoved):
        store.append([batch])
    assert store.events("main", 0, EVERYTHING)[1:] == batch.bodies


@pytest.mark.parametrize("part", ["seq", "hash", "time", "balances"])
def test_every_part_of_the_expected_head_counts(engine: Engine, store: Store, part: str) -> None:
    batch = engine.batch(*paid(engine))
    other = {"seq": 2, "hash": "f" * 64, "time": END, "balances": 9}
    with pytest.raises(HeadMoved):
        store.append([replace(batch, expected=replace(batch.expected, **{part: other[part]}))])
    store.append([batch])
    assert store.head("main") == batch.head


def test_a_ledger_that_does_not_exist_is_not_made_by_a_refused_batch(store: Store) -> None:
    engine = Engine(store)
    engine.batch(engine.open())
    with pytest.raises(HeadMoved):
        store.append([engine.batch(engine.mint("users:alice", 1))])
    assert store.ledgers() == []
    assert store.head("main") is None


ROWS = ["entries", "balances", "keys", "objects", "references", "backdated"]


@pytest.mark.parametrize("rows", ROWS)
def test_a_batch_that_fails_half_way_leaves_nothing_behind(engine: Engine, store: Store, rows: str) -> None:
    engine.post(*paid(engine))
    before, asked = ask(store, questions(engine)), questions(engine)
    batch = engine.batch(
        engine.mint("users:zoe", 50),
        c.Hold(key=engine.key(), account="users:zoe", asset=USD, amount=10),
        c.OpenAccount(key=engine.key(), account="users:yves"),
        engine.pay("users:zoe", "users:yves", 3, refs={"order": "o-9", "trace_id": "t-9"}),
        Post(key=engine.key(), type="mint", legs=(Leg("@issuance", "users:zoe", USD, 5),), effective=START),
    )
    assert len(getattr(batch, rows)) > 1
    with pytest.raises(TypeError):
        store.append([replace(batch, **{rows: [*getattr(batch, rows)[:-1], object()]})])
    assert ask(store, asked) == before
    store.append([batch])
    assert ask(store, questions(engine))["head"] == batch.head
    assert store.references("main", "order", "o-9") == [batch.expected.seq + 3]


def test_no_balance_has_one_version_twice(engine: Engine, store: Store) -> None:
    engine.post(*paid(engine))
    asked = questions(engine)
    before = ask(store, asked)
    batch = engine.batch(engine.pay("users:alice", "users:bob", 7))
    balance, version, *rest = batch.entries[0]
    with pytest.raises(LedgerCorrupt):
        store.append([replace(batch, entries=[(balance, version - 1, *rest), *batch.entries[1:]])])
    assert ask(store, asked) == before


def test_no_balance_is_made_twice(engine: Engine, store: Store) -> None:
    batch = engine.post(*paid(engine))
    asked = questions(engine)
    before = ask(store, asked)
    with pytest.raises(LedgerCorrupt):
        store.append([replace(engine.batch(engine.mint("users:zoe", 1)), balances=[batch.balances[0]])])
    assert ask(store, asked) == before


def test_a_batch_may_hold_one_event_or_thousands(engine: Engine, store: Store) -> None:
    engine.post(engine.mint("users:alice", 10_000))
    batch = engine.post(*(engine.pay("users:alice", "users:bob", 1) for _ in range(1_000)))
    assert store.events("main", 2, EVERYTHING) == batch.bodies
    assert store.event("main", 700) == batch.bodies[698]
    assert store.balances("main", None, ["users:bob"]) == [("users:bob", USD, "available", Balance(3, 1_000, 1_000))]


def test_two_writers_of_one_ledger_take_turns_and_lose_nothing(store: Store) -> None:
    """Each thread knows the ledger only from the store, as another process would, and decides again when refused."""
    opening = Engine(store)
    opening.post(opening.open())
    first = [opening.post(opening.mint("users:alice", 1))]
    moved = []

    def write(name: str) -> None:
        done = 0
        while done < 10:
            engine = Engine(store)
            engine.catch_up()
            try:
                engine.post(replace(engine.mint("users:alice", 1), key=f"{name}-{done}"))
                done += 1
            except HeadMoved:
                moved.append(name)

    threads = [threading.Thread(target=write, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert store.head("main").seq == first[0].head.seq + 20  # type: ignore[union-attr]
    assert store.balances("main", None, ["users:alice"])[0][3] == Balance(2, 21, 21)
    keys = [key_number("local", f"{name}-{i}") for name in ("one", "two") for i in range(10)]
    assert sorted(seq for places in store.find_keys("main", keys).values() for seq in places) == list(range(2, 22))


def test_a_reader_sees_whole_batches_only(engine: Engine, store: Store) -> None:
    """Each batch pays ten times, so that every sum a reader sees is a multiple of ten."""
    engine.post(engine.mint("users:alice", 1_000_000))
    done, wrong = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            for _, _, _, balance in store.balances("main", None, ["users:bob"]):
                if balance.amount % 10 or balance.version % 10:
                    wrong.append(balance)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(40):
        engine.post(*(engine.pay("users:alice", "users:bob", 1) for _ in range(10)))
    done.set()
    reader.join(60)
    assert wrong == []
    assert store.balances("main", None, ["users:bob"])[0][3].amount == 400


# ---------------------------------------------------------------- several batches in one commit


def three_batches(engine: Engine) -> list[Batch]:
    return [
        engine.batch(engine.mint("users:alice", 10_000)),
        engine.batch(engine.pay("users:alice", "users:bob", 10, refs={"order": "o-1"})),
        engine.batch(c.Hold(key=engine.key(), account="users:bob", asset=USD, amount=4), *paid(engine, 300)),
    ]


def test_batches_that_follow_one_another_are_kept_together(engine: Engine, store: Store) -> None:
    batches = three_batches(engine)
    store.append(iter(batches))
    assert store.head("main") == engine.head
    assert store.events("main", 1, EVERYTHING) == [body for batch in batches for body in batch.bodies]
    assert store.load_accounts("main", ["users:bob"])["users:bob"].balances == engine.book.balances_of("users:bob")
    assert store.references("main", "order", "o-1") == [2]


def test_no_batches_are_nothing_to_keep(engine: Engine, store: Store) -> None:
    store.append([])
    assert store.head("main") == engine.head


def test_what_the_iterable_raises_leaves_nothing_behind(engine: Engine, store: Store) -> None:
    asked = questions(engine)
    before, batches = ask(store, asked), three_batches(engine)

    def broken() -> Iterator[Batch]:
        yield from batches[:2]
        raise RuntimeError("deciding failed")

    with pytest.raises(RuntimeError, match="deciding failed"):
        store.append(broken())
    assert ask(store, asked) == before
    store.append(batches)
    assert store.head("main") == engine.head


def test_a_new_ledger_is_not_made_by_an_iterable_that_fails(store: Store) -> None:
    engine = Engine(store)
    batch = engine.batch(engine.open())

    def broken() -> Iterator[Batch]:
        yield batch
        raise RuntimeError("deciding failed")

    with pytest.raises(RuntimeError, match="deciding failed"):
        store.append(broken())
    assert store.ledgers() == []
    store.append([batch])
    assert store.ledgers() == ["main"]


def test_the_store_can_be_read_while_batches_come_and_shows_none_of_them(engine: Engine, store: Store) -> None:
    """The next batch is decided while one is written, and deciding reads: it sees the last commit."""
    batches, asked = three_batches(engine), questions(Engine(name="main"))
    before = ask(store, asked)

    def reading() -> Iterator[Batch]:
        for batch in batches:
            assert ask(store, asked) == before
            assert store.load_accounts("main", ["users:alice"])["users:alice"].balances == []
            yield batch

    store.append(reading())
    assert store.head("main") == engine.head


def test_batches_that_do_not_follow_one_another_are_refused_together(engine: Engine, store: Store) -> None:
    first, second, third = three_batches(engine)
    other = Engine(name="other")
    for wrong in ([first, third], [first, first], [second, first], [first, other.batch(other.open())]):
        with pytest.raises(HeadMoved):
            store.append(wrong)
        assert store.ledgers() == ["main"]
        assert store.head("main") == first.expected
    store.append([first, second, third])
    assert store.head("main") == engine.head
