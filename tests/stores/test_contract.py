"""The store contract: what every store promises, asked of each of them in the same words."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from msgspec.structs import replace

from tallystick import commands as c
from tallystick.accounts import Account
from tallystick.clock import BEGINNING, END, add_seconds
from tallystick.errors import Closed
from tallystick.events import GENESIS
from tallystick.journal import leaf_hash
from tallystick.kernel import Balance, Policy
from tallystick.stores.base import Batch, Head, LoadedAccount, Store, key_number
from tallystick.stores.memory import MemoryStore
from tests.stores.conftest import MakeStore
from tests.support.engine import START, Engine, rebuilt
from tests.support.story import PEOPLE, USD, ask, questions, tell

NOTHING = Head(0, GENESIS, "", 0)
EVERYTHING = 1_000_000


@pytest.fixture
def told(store: Store) -> Engine:
    """An engine that has told the whole story to the store."""
    return tell(Engine(store))


def paid(engine: Engine, count: int = 1) -> list[c.Command]:
    return [engine.mint("users:alice", 100), *(engine.pay("users:alice", "users:bob", 1 + i) for i in range(count))]


def test_every_store_tells_the_whole_story_as_the_memory_store_does(told: Engine, store: Store) -> None:
    asked = questions(told)
    expected = ask(tell(Engine(MemoryStore())).store, asked)
    for name, question in asked.items():
        assert question(store) == expected[name], name


# ---------------------------------------------------------------- an empty store, and an unknown ledger


def test_a_new_store_holds_no_ledger(store: Store) -> None:
    assert store.ledgers() == []
    assert store.head("main") is None
    assert store.check() == []


def test_an_unknown_ledger_is_empty_and_no_error(store: Store) -> None:
    assert store.events("main", 0, 10) == []
    assert store.event("main", 0) is None
    assert store.seq_at("main", END) == 0
    assert store.balances("main") == []
    assert store.balances("main", 5, ["users:alice"]) == []
    assert store.entries("main", [1], 0, 10, 10) == []
    assert store.load_accounts("main", ["users:alice"]) == {"users:alice": LoadedAccount(None, [])}
    assert store.load_objects("main", "lock") == {}
    assert store.load_objects("main", "policy", ["policy"]) == {}
    assert store.find_keys("main", [key_number("local", "key-1")]) == {}
    assert list(store.key_numbers("main")) == []
    assert store.references("main", "order", "o-1") == []
    assert list(store.backdated("main")) == []
    assert store.locks("main", limit=10) == []
    assert store.accounts("main", "", "", 10) == []
    assert store.snapshot("main") is False
    assert store.kept("main", "keys") is None
    assert all(type(value) is int for value in store.stats("main").values())
    assert store.ledgers() == []


# ---------------------------------------------------------------- events


def test_events_come_back_byte_for_byte_in_order(told: Engine, store: Store) -> None:
    bodies = store.events("main", 0, EVERYTHING)
    assert len(bodies) == told.book.seq
    assert GENESIS.encode() in bodies[0]
    for body, following in pairwise(bodies):
        assert f'"prev":"{leaf_hash(body)}"'.encode() in following
    assert leaf_hash(bodies[-1]) == told.book.hash
    assert [store.event("main", seq) for seq in range(len(bodies))] == bodies


@pytest.mark.parametrize(
    ("first", "limit", "expected"),
    [
        (0, 1, (0, 1)),
        (0, 0, (0, 0)),
        (5, 3, (5, 8)),
        (61, 2, (61, 63)),
        (61, 100, (61, 63)),
        (62, 1, (62, 63)),
        (63, 1, (63, 63)),
        (1_000, 10, (0, 0)),
    ],
)
def test_events_are_those_from_first_up_to_limit(
    told: Engine, store: Store, first: int, limit: int, expected: tuple[int, int]
) -> None:
    assert store.events("main", first, limit) == store.events("main", 0, EVERYTHING)[slice(*expected)]


@pytest.mark.parametrize("seq", [-1, 63, 64, 2**40])
def test_an_event_that_is_not_there_is_none(told: Engine, store: Store, seq: int) -> None:
    assert told.book.seq == 63
    assert store.event("main", seq) is None


def test_seq_at_counts_the_events_up_to_and_including_a_time(engine: Engine, store: Store) -> None:
    at = [add_seconds(START, 60 * i) for i in range(4)]
    engine.post(*(engine.mint("users:alice", 1) for _ in range(3)), at=at[1])
    engine.post(*(engine.mint("users:alice", 1) for _ in range(300)), at=at[2])
    engine.post(engine.mint("users:alice", 1), at=at[2])
    assert [store.seq_at("main", time) for time in at] == [0, 4, 305, 305]
    assert store.seq_at("main", add_seconds(at[2], -0.000001)) == 4
    assert store.seq_at("main", add_seconds(at[1], -0.000001)) == 1
    assert store.seq_at("main", BEGINNING) == 0
    assert store.seq_at("main", END) == 305


def test_seq_at_looks_inside_a_batch_whose_events_differ_in_time(engine: Engine, store: Store) -> None:
    engine.post(*(engine.mint("users:alice", 1) for _ in range(600)), apart=True)
    times = [event.time for event in engine.history]
    assert times == sorted(set(times))
    for seq in (0, 1, 2, 255, 256, 257, 512, 599, 600):
        assert store.seq_at("main", times[seq]) == seq + 1
        assert store.seq_at("main", add_seconds(times[seq], -0.5)) == seq


# ---------------------------------------------------------------- accounts and objects


def test_load_accounts_answers_for_each_address_known_or_not(told: Engine, store: Store) -> None:
    asked = ["users:alice", "members:m1", "users:dormant", "nobody", 'it\'s "odd" — très']
    found = store.load_accounts("main", asked)
    assert sorted(found) == sorted(asked)
    assert found["nobody"] == found[asked[4]] == LoadedAccount(None, [])
    assert found["users:alice"].declared is None
    assert found["members:m1"].declared == told.book.account("members:m1")
    assert found["users:dormant"].declared.status == "closed"  # type: ignore[union-attr]
    assert found["users:dormant"].balances == []
    for address in asked[:2]:
        assert sorted(found[address].balances, key=lambda row: row[:2]) == told.book.balances_of(address)


def test_load_accounts_of_none_is_empty(told: Engine, store: Store) -> None:
    assert store.load_accounts("main", []) == {}


def test_an_account_may_be_asked_for_twice_and_in_great_number(told: Engine, store: Store) -> None:
    many = [*(f"users:u{i}" for i in range(40_000)), "users:alice", "users:alice"]
    found = store.load_accounts("main", many)
    assert len(found) == 40_001
    assert sorted(found["users:alice"].balances, key=lambda row: row[:2]) == told.book.balances_of("users:alice")


def test_objects_have_the_latest_value_they_were_given(told: Engine, store: Store) -> None:
    assert store.load_objects("main", "policy") == {"policy": Policy(limit_max=9_000)}
    account = store.load_objects("main", "account", ["members:m1"])["members:m1"]
    assert isinstance(account, Account)
    assert (account.limits, account.ceilings) == ({USD: 2_000}, {USD: 5_000})
    kinds = {kind for kind, _ in told.book.objects} - {"event", "history"}
    assert len(kinds) == 12
    for kind in kinds:
        expected = {id_: value for (what, id_), value in told.book.objects.items() if what == kind}
        assert store.load_objects("main", kind) == expected
        assert store.load_objects("main", kind, [*expected, "nothing"]) == expected


def test_objects_that_do_not_exist_are_left_out(told: Engine, store: Store) -> None:
    assert store.load_objects("main", "lock", ["main/9999", "", "' OR 1=1"]) == {}
    assert store.load_objects("main", "lock", []) == {}
    assert store.load_objects("main", "reserve", ["vault:1"]).keys() == {"vault:1"}


def test_accounts_are_listed_sorted_after_a_cursor_up_to_a_limit(told: Engine, store: Store) -> None:
    everyone = store.accounts("main", "", "", 1_000)
    assert everyone == sorted({*PEOPLE, "users:dormant", "@issuance", "@fees", "@treasury", "@external:bank"})
    assert store.accounts("main", "users:", "", 1_000) == ["users:alice", "users:bob", "users:carol", "users:dormant"]
    assert store.accounts("main", "users:", "users:alice", 2) == ["users:bob", "users:carol"]
    assert store.accounts("main", "users:", "users:b", 1) == ["users:bob"]
    assert store.accounts("main", "", everyone[-1], 10) == []
    assert store.accounts("main", "", "", 0) == []
    assert store.accounts("main", "nobody", "", 10) == []
    assert store.accounts("main", "users:%", "", 10) == store.accounts("main", "users:_", "", 10) == []


def test_paging_through_accounts_meets_each_once(told: Engine, store: Store) -> None:
    met: list[str] = []
    while page := store.accounts("main", "", met[-1] if met else "", 3):
        met += page
    assert met == store.accounts("main", "", "", 1_000)


# ---------------------------------------------------------------- keys and references


def test_every_event_is_found_by_its_key(told: Engine, store: Store) -> None:
    numbers = {key_number(event.source, event.idem): event.seq for event in told.history}
    assert store.find_keys("main", [*numbers, 7]) == {number: [seq] for number, seq in numbers.items()}
    assert store.find_keys("main", []) == {}
    assert store.find_keys("main", [7, 2**63 - 1, 0]) == {}


def test_keys_with_one_number_are_all_given(engine: Engine, store: Store) -> None:
    """Two keys may share a number; the store gives both places, and whoever asks reads the events."""
    batch = engine.batch(*paid(engine, 2))
    store.append([replace(batch, keys=[(2**63 - 1, 1), (2**63 - 1, 2), (0, 3)])])
    assert store.find_keys("main", [2**63 - 1, 0]) == {2**63 - 1: [1, 2], 0: [3]}


def test_key_numbers_are_those_from_an_event_on(told: Engine, store: Store) -> None:
    every = sorted((event.seq, key_number(event.source, event.idem)) for event in told.history)
    for first in (0, 1, 40, 62, 63, 99):
        assert sorted((seq, number) for number, seq in store.key_numbers("main", first)) == every[first:]


def test_key_numbers_need_not_be_read_to_the_end(told: Engine, store: Store) -> None:
    for _ in range(20):
        next(iter(store.key_numbers("main")))
    told.post(told.mint("users:alice", 1))
    assert len(list(store.key_numbers("main"))) == 64


def test_a_reference_leads_to_its_events_in_order(told: Engine, store: Store) -> None:
    orders = [event.seq for event in told.history if event.refs.get("order") == "o-1"]
    assert len(orders) == 2
    assert store.references("main", "order", "o-1") == orders
    assert store.references("main", "commitment", "c/7") == [
        event.seq for event in told.history if "commitment" in event.refs
    ]
    assert store.references("main", "order", "o-") == []
    assert store.references("main", "trace_id", "o-1") == []
    assert store.references("main", "", "") == []


@pytest.mark.parametrize(("first", "before"), [(0, 63), (0, 0), (9, 11), (10, 11), (45, 200), (63, 64)])
def test_keys_and_references_between_two_events(told: Engine, store: Store, first: int, before: int) -> None:
    events = told.history[first:before]
    keys = [(key_number(event.source, event.idem), event.seq) for event in events]
    references = [(name, value, event.seq) for event in events for name, value in event.refs.items()]
    assert sorted(store.key_numbers("main", first, before)) == sorted(keys)
    assert sorted(store.references_between("main", first, before)) == sorted(references)


# ---------------------------------------------------------------- many ledgers in one store


def test_ledgers_in_one_store_do_not_see_each_other(make_store: MakeStore) -> None:
    store, alone = make_store(), make_store()
    tell(Engine(store, "main"))
    other, third = Engine(store, "other"), Engine(store, "0.third")
    other.post(other.open(strict=False), other.mint("users:alice", 5, "JPY"), other.mint("users:xaver", 6, "JPY"))
    third.post(third.open())
    asked = questions(tell(Engine(alone, "main")))
    del asked["ledgers"]
    assert ask(store, asked) == ask(alone, asked)
    assert store.ledgers() == ["0.third", "main", "other"]
    assert store.accounts("other", "", "", 10) == ["@issuance", "users:alice", "users:xaver"]
    assert store.load_accounts("other", ["users:alice"])["users:alice"].balances == [
        ("JPY", "available", Balance(2, 5, 1))
    ]
    assert store.load_accounts("third", ["users:alice"])["users:alice"].balances == []
    assert store.locks("other", limit=10) == []
    assert store.references("other", "order", "o-1") == []
    assert list(store.backdated("other")) == []
    assert store.load_objects("other", "lock", ["main/18"]) == {}
    assert store.find_keys("other", [key_number("local", "key-9")]) == {}
    assert store.seq_at("0.third", END) == 1
    assert store.seq_at("main", END) == 63
    assert store.event("other", 10) is None


# ---------------------------------------------------------------- what is kept for speed


def test_what_is_kept_under_a_name_is_given_back(engine: Engine, store: Store) -> None:
    assert store.kept("main", "keys") is None
    store.keep("main", "keys", b"\0\xff first")
    store.keep("main", "names", b"")
    store.keep("main", "keys", b"second")
    assert store.kept("main", "keys") == b"second"
    assert store.kept("main", "names") == b""
    assert store.kept("other", "keys") is None
    assert store.head("main") == engine.head


# ---------------------------------------------------------------- rebuild and close


def test_rebuild_gives_the_same_answers(told: Engine, store: Store) -> None:
    asked = questions(told)
    before = ask(store, asked)
    store.rebuild(rebuilt(told))
    assert ask(store, asked) == before
    told.post(told.mint("users:alice", 1))
    assert store.head("main") == told.head


def test_rebuild_may_read_the_events_from_the_store_as_it_goes(told: Engine, store: Store) -> None:
    asked = questions(told)
    before = ask(store, asked)

    def batches() -> Iterator[Batch]:
        for batch in rebuilt(told):
            assert store.events("main", batch.expected.seq, 1)
            yield batch

    store.rebuild(batches())
    assert ask(store, asked) == before


def test_rebuild_replaces_rows_that_are_wrong(engine: Engine, store: Store) -> None:
    batch = engine.batch(*paid(engine), c.Hold(key=engine.key(), account="users:alice", asset=USD, amount=9))
    wrong = [
        (kind, id_, replace(value, remaining=1) if kind == "lock" else value) for kind, id_, value in batch.objects
    ]
    store.append(
        [replace(batch, objects=wrong, references=[("order", "never", 2)], keys=[], backdated=[(1, 1, START, 3)])]
    )
    assert store.references("main", "order", "never") == [2]
    store.rebuild(rebuilt(engine))
    assert store.references("main", "order", "never") == []
    assert list(store.backdated("main")) == []
    assert [lock.remaining for lock in store.locks("main", limit=5)] == [9]
    assert len(list(store.key_numbers("main"))) == 4


def test_a_rebuild_that_fails_half_way_changes_nothing(told: Engine, store: Store) -> None:
    asked = questions(told)
    before = ask(store, asked)

    def batches() -> Iterator[Batch]:
        yield from rebuilt(told)[:4]
        raise RuntimeError("the events cannot be read")

    with pytest.raises(RuntimeError, match="cannot be read"):
        store.rebuild(batches())
    assert ask(store, asked) == before


def test_rebuilding_one_ledger_leaves_the_others_alone(told: Engine, store: Store) -> None:
    other = Engine(store, "other")
    other.post(other.open(), *paid(other, 3))
    asked = questions(other)
    before = ask(store, asked)
    store.rebuild(rebuilt(told))
    assert ask(store, asked) == before


def test_rebuilding_from_nothing_changes_nothing(told: Engine, store: Store) -> None:
    asked = questions(told)
    before = ask(store, asked)
    store.rebuild([])
    assert ask(store, asked) == before


def test_stats_count_what_is_there(told: Engine, store: Store) -> None:
    stats = store.stats("main")
    assert stats["events"] == 63
    assert stats["balances"] == told.book.balances_made
    assert store.check() == []


def test_closing_twice_is_no_error(make_store: MakeStore) -> None:
    store = make_store()
    tell(Engine(store))
    store.close()
    store.close()


def test_a_closed_store_says_that_it_is_closed(make_store: MakeStore) -> None:
    store = make_store()
    told = tell(Engine(store))
    store.close()
    for question in questions(told).values():
        with pytest.raises(Closed):
            question(store)
    for act in (
        lambda: store.append([told.batch(told.mint("users:alice", 1))]),
        lambda: store.rebuild(rebuilt(told)),
        lambda: store.snapshot("main"),
        lambda: store.keep("main", "keys", b""),
        lambda: store.kept("main", "keys"),
        store.check,
        lambda: store.stats("main"),
    ):
        with pytest.raises(Closed):
            act()
