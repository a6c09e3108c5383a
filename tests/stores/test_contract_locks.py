"""The store contract for locks: holds, stakes, bets and commitments, found by whatever is known of them."""

from __future__ import annotations

import pytest

from tallystick import commands as c
from tallystick.clock import END, add_seconds
from tallystick.kernel import Lock
from tallystick.stores.base import Store, lock_place
from tests.support.engine import START, Engine
from tests.support.story import PEOPLE, USD, locks_of, tell

EVERYTHING = 1_000


@pytest.fixture
def told(store: Store) -> Engine:
    """An engine that has told the whole story to the store."""
    return tell(Engine(store))


@pytest.fixture
def every(told: Engine) -> list[Lock]:
    """All locks of the story, by their places."""
    kinds = ("hold", "stake", "bet", "commitment")
    return sorted((lock for kind in kinds for lock in locks_of(told, kind)), key=lambda lock: lock_place(lock.id))


def test_all_locks_come_in_the_order_of_their_places(store: Store, every: list[Lock]) -> None:
    assert len(every) == 17
    assert store.locks("main", limit=EVERYTHING) == every


def test_locks_are_ordered_by_number_not_by_text(engine: Engine, store: Store) -> None:
    engine.post(engine.mint("users:alice", 1_000))
    for _ in range(3):
        engine.post(*(c.Hold(key=engine.key(), account="users:alice", asset=USD, amount=1) for _ in range(40)))
    found = [lock.id for lock in store.locks("main", limit=EVERYTHING)]
    assert found == [f"main/{seq}" for seq in range(2, 122)]
    assert [lock.id for lock in store.locks("main", after="main/9", limit=2)] == ["main/10", "main/11"]
    assert [lock.id for lock in store.locks("main", after="main/99", limit=2)] == ["main/100", "main/101"]


@pytest.mark.parametrize("kind", ["hold", "stake", "bet", "commitment"])
def test_locks_of_one_kind(store: Store, every: list[Lock], kind: str) -> None:
    expected = [lock for lock in every if lock.kind == kind]
    assert expected
    assert store.locks("main", kind=kind, limit=EVERYTHING) == expected


@pytest.mark.parametrize("account", PEOPLE)
def test_locks_of_one_account(store: Store, every: list[Lock], account: str) -> None:
    assert store.locks("main", account=account, limit=EVERYTHING) == [lock for lock in every if lock.account == account]


def test_locks_of_one_state(store: Store, every: list[Lock]) -> None:
    states = {lock.state for lock in every}
    assert states >= {"active", "captured", "released", "expired", "partially_slashed", "settled", "rolled_back"}
    for state in states:
        assert store.locks("main", state=state, limit=EVERYTHING) == [lock for lock in every if lock.state == state]


def test_filters_are_taken_together(store: Store, every: list[Lock]) -> None:
    found = store.locks("main", kind="hold", account="users:alice", state="active", limit=EVERYTHING)
    assert found == [
        lock for lock in every if (lock.kind, lock.account, lock.state) == ("hold", "users:alice", "active")
    ]
    assert len(found) > 1
    assert store.locks("main", kind="stake", account="users:alice", limit=EVERYTHING) == []
    assert store.locks("main", kind="hold", state="slashed", limit=EVERYTHING) == []
    assert store.locks("main", account="nobody", limit=EVERYTHING) == []


def test_due_locks_are_open_ones_that_expire_up_to_then(store: Store, every: list[Lock]) -> None:
    open_ones = [lock for lock in every if lock.expires and lock.remaining]
    times = sorted(lock.expires for lock in open_ones)
    assert len(times) > 5
    assert store.locks("main", due=times[0], limit=EVERYTHING) == [min(open_ones, key=lambda lock: lock.expires)]
    assert store.locks("main", due=add_seconds(times[0], -0.000001), limit=EVERYTHING) == []
    for due in (*times, END):
        assert store.locks("main", due=due, limit=EVERYTHING) == [lock for lock in open_ones if lock.expires <= due]
    found = store.locks("main", due=END, account="users:bob", state="active", kind="hold", limit=EVERYTHING)
    assert found == [lock for lock in open_ones if (lock.account, lock.state) == ("users:bob", "active")]


def test_a_lock_without_expiry_is_never_due(told: Engine, store: Store) -> None:
    assert locks_of(told, "stake")[0].remaining
    assert store.locks("main", kind="stake", due=END, limit=EVERYTHING) == []


@pytest.mark.parametrize("size", [1, 4, 16, 17, 18])
@pytest.mark.parametrize("filters", [{}, {"state": "active"}, {"account": "users:bob"}, {"kind": "hold"}, {"due": END}])
def test_paging_through_locks_meets_each_once(told: Engine, store: Store, size: int, filters: dict[str, str]) -> None:
    met: list[Lock] = []
    while page := store.locks("main", **filters, after=met[-1].id if met else "", limit=size):
        assert len(page) <= size
        met += page
    assert met == store.locks("main", **filters, limit=EVERYTHING)
    assert len(met) > 3


def test_the_latest_state_of_a_lock_is_what_is_found(engine: Engine, store: Store) -> None:
    engine.post(engine.mint("users:alice", 100))
    engine.post(c.Hold(key=engine.key(), account="users:alice", asset=USD, amount=100, expires_in_seconds=60))
    due = add_seconds(START, 10_000)
    assert [lock.remaining for lock in store.locks("main", due=due, limit=5)] == [100]
    engine.post(c.HoldExtend(key=engine.key(), hold="main/2", expires=add_seconds(due, 1)))
    assert store.locks("main", due=due, limit=5) == []
    engine.post(c.Release(key=engine.key(), hold="main/2", amount=99))
    assert [lock.remaining for lock in store.locks("main", due=END, limit=5)] == [1]
    engine.post(c.Release(key=engine.key(), hold="main/2"))
    assert store.locks("main", due=END, limit=5) == []
    assert store.locks("main", state="active", limit=5) == []
    assert [(lock.state, lock.remaining) for lock in store.locks("main", state="released", limit=5)] == [
        ("released", 0)
    ]
