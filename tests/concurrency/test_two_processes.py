"""Two databases on one PostgreSQL, as two processes have them: neither answers from a past that the other has ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import psycopg
import pytest

import tallystick
from tallystick import Database, Ledger, Posted
from tallystick.commands import Command, Transfer
from tallystick.errors import (
    BatchAborted,
    HoldNotOpen,
    IdempotencyConflict,
    InsufficientFunds,
    Refusal,
    TransactionNotFound,
)
from tallystick.stores.postgres import connections
from tests.support.callers import USD, ask, cut, seen_by_others, wait_for_waiting
from tests.support.databases import Databases, with_database

ALICE, BOB = "users:alice", "users:bob"
SECONDS = 30
LONG = 2_500
"""So many commands are stored while they are decided."""

ALL_HEADS = "SELECT * FROM tallystick.head FOR UPDATE"
HEAD_OF = (
    "SELECT * FROM tallystick.head WHERE ledger = (SELECT id FROM tallystick.ledger WHERE name = '{name}') FOR UPDATE"
)


@pytest.fixture
def both(postgres: str) -> Iterator[tuple[Database, Database]]:
    with tallystick.open(postgres) as one, tallystick.open(postgres) as other:
        yield one, other


@pytest.fixture
def one(both: tuple[Database, Database]) -> Ledger:
    """A ledger in which alice has 100; this process has posted to it, and the other one since."""
    ledger = both[0].ledger("main")
    ledger.mint(ALICE, USD, 60, key="mint 1")
    both[1].ledger("main").mint(ALICE, USD, 40, key="mint 2")
    return ledger


@pytest.fixture
def other(both: tuple[Database, Database], one: Ledger) -> Ledger:
    """The same ledger in the other process."""
    return both[1].ledger("main")


def pay(key: str, amount: int, payer: str = ALICE, payee: str = BOB) -> Transfer:
    return Transfer(key=key, from_account=payer, to_account=payee, asset=USD, amount=amount)


# ---------------------------------------------------------------- refusals are of now


def test_what_the_other_process_has_credited_can_be_spent_at_once(one: Ledger, other: Ledger):
    """Neither posts anything in between, so that each has only its own past in mind."""
    other.post(pay("there", 100))
    assert one.post(pay("back", 100, BOB, ALICE)).seq == 4
    assert other.post(pay("there again", 100)).seq == 5


@pytest.mark.parametrize("times", [1, 2, 20])
def test_who_was_only_refused_so_far_is_not_refused_from_the_past(one: Ledger, other: Ledger, times: int):
    for _ in range(times):
        with pytest.raises(InsufficientFunds):
            one.post(pay("large", 150))
    other.mint(ALICE, USD, 50, key="mint 3")
    assert not one.post(pay("large", 150)).replayed


def test_what_would_be_refused_from_the_past_is_decided_of_now_whatever_it_is_posted_with(one: Ledger, other: Ledger):
    """This process has not heard yet that the other one was there at all."""
    assert one.replay().ok
    assert all(isinstance(answer, Posted) for answer in one.post_many([pay("a", 60), pay("b", 40)], atomic=True))
    assert other.head.seq == 5


def test_a_batch_that_is_all_or_nothing_is_not_refused_from_the_past(one: Ledger, other: Ledger):
    batch = [pay("small", 1), pay("large", 149)]
    with pytest.raises(BatchAborted):
        one.post_many(batch, atomic=True)
    other.mint(ALICE, USD, 50, key="mint 3")
    assert all(isinstance(answer, Posted) for answer in one.post_many(batch, atomic=True))
    other.post(pay("back", 150, BOB, ALICE))
    assert all(answer.replayed for answer in one.post_many(batch, atomic=True))  # type: ignore[union-attr]


def test_what_is_refused_beside_what_is_posted_is_refused_of_now(one: Ledger, other: Ledger):
    """They share a commit: the one that is posted finds out that the other process came first."""
    one.post(pay("first", 1))
    other.mint(ALICE, USD, 50, key="mint 3")
    with ThreadPoolExecutor(8) as pool:
        atomic = [pool.submit(one.post_many, [pay(f"a{n}", 140), pay(f"b{n}", 1)], atomic=True) for n in range(2)]
        single = [pool.submit(one.post, pay(f"s{n}", 1)) for n in range(6)]
        wait([*atomic, *single], SECONDS)
    assert all(one.result().seq for one in single)
    assert sum(found.exception() is None for found in atomic) == 1, "of two that want 141 of 150 one is posted"


def test_a_key_that_the_other_process_has_used_is_answered_however_the_books_stand_by_now(one: Ledger, other: Ledger):
    first = other.post(pay("all", 100))
    again = one.post(pay("all", 100))
    assert (again.id, again.hash, again.replayed) == (first.id, first.hash, True)
    with pytest.raises(IdempotencyConflict):
        one.post(pay("all", 99))


def test_an_event_that_the_other_process_has_posted_can_be_referred_to(one: Ledger, other: Ledger):
    with pytest.raises(TransactionNotFound):
        one.reverse("main/3", key="early")
    posted = other.post(pay("key", 10))
    assert one.reverse(posted.id, key="early").seq == 4
    hold = other.hold(ALICE, USD, 30, key="hold")
    assert one.capture(hold.id, to_account=BOB, amount=10, final=False, key="capture").seq == 6
    other.release(hold.id, key="release")
    with pytest.raises(HoldNotOpen):
        one.release(hold.id, key="too late")


def test_a_dry_run_answers_of_now(one: Ledger, other: Ledger):
    assert one.post(pay("tried", 100), dry_run=True).seq == 3
    other.post(pay("spent", 100))
    with pytest.raises(InsufficientFunds):
        one.post(pay("tried", 100), dry_run=True)
    other.post(pay("back", 100, BOB, ALICE))
    tried = one.post(pay("tried", 100), dry_run=True)
    assert (tried.seq, one.head.seq) == (5, 5)


def test_each_makes_balances_that_the_other_has_not_heard_of(one: Ledger, other: Ledger):
    """However each of them learns that the other was there: by a posting, a refusal, or nothing at all."""
    for turn in range(6):
        for number in range(3):
            other.mint(f"users:o{turn}.{number}", f"A{turn}/2", 5, key=f"other {turn}.{number}")
        with pytest.raises(Refusal):
            one.post(pay(f"refused {turn}", 10**6))
        if turn % 2:
            one.post(pay(f"known {turn}", 1))
        one.mint(f"users:{turn}", f"A{turn}/2", 5, key=f"one {turn}")
        one.mint(f"users:{turn}", f"B{turn}/2", 5, key=f"one more {turn}")
    assert one.trial_balance() == other.trial_balance()
    assert one.replay().ok


# ---------------------------------------------------------------- making ledgers and partitions


@pytest.mark.parametrize("how_far", ["its name", "its head"])
def test_a_ledger_that_somebody_died_over_making_is_made_by_the_next(postgres: str, how_far: str):
    ask(postgres, "INSERT INTO tallystick.ledger (name) VALUES ('half')")
    if how_far == "its head":
        ask(postgres, "INSERT INTO tallystick.head (ledger) SELECT id FROM tallystick.ledger WHERE name = 'half'")
    with tallystick.open(postgres) as database:
        ledger = database.ledger("half")
        assert (ledger.exists, ledger.events(), ledger.trial_balance().rows) == (False, [], [])
        assert ledger.mint(ALICE, USD, 1, key="mint").seq == 1
    assert seen_by_others(postgres, "half") == ["mint"]


def test_many_who_make_ledgers_and_partitions_at_once_are_all_answered(postgres: str, monkeypatch: pytest.MonkeyPatch):
    """More ledgers than there are connections, in a month for which there is no partition yet."""
    monkeypatch.setattr(connections, "WAIT_SECONDS", 10.0)
    databases = [tallystick.open(postgres, clock=lambda: "2031-05-05T00:00:00.000000Z") for _ in range(3)]
    start = threading.Barrier(24)

    def make(number: int) -> Posted:
        ledger = databases[number % 3].ledger(f"ledger-{number // 2}")
        start.wait(SECONDS)
        return ledger.mint(ALICE, USD, 1, key=f"mint {number}")

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(make, range(24)))
    for database in databases:
        database.close()
    assert sorted(answer.seq for answer in answers) == [1] * 12 + [2] * 12
    for number in range(12):
        assert len(seen_by_others(postgres, f"ledger-{number}")) == 2


# ---------------------------------------------------------------- nobody waits in a circle


def test_more_ledgers_than_connections_wait_for_their_turn_and_for_nothing_else(
    both: tuple[Database, Database], postgres: str, monkeypatch: pytest.MonkeyPatch
):
    """Each has claimed its ledger, and must read something that it has not read yet."""
    monkeypatch.setattr(connections, "WAIT_SECONDS", 10.0)
    ledgers = [both[0].ledger(f"ledger-{number}") for number in range(connections.MAX_CONNECTIONS + 2)]
    for ledger in ledgers:
        ledger.mint(ALICE, USD, 100, key="mint")
        both[1].ledger(ledger.name).post(pay("other", 1))
        ledger.post(pay("and now it claims", 1))
    with psycopg.connect(postgres) as hand, ThreadPoolExecutor(len(ledgers)) as pool:
        hand.execute(ALL_HEADS)
        began = time.monotonic()
        waiting = [pool.submit(ledger.post, pay("new", 1, ALICE, "users:new")) for ledger in ledgers]
        wait_for_waiting(postgres, 3)
        hand.rollback()
        assert [found.result(timeout=SECONDS).seq for found in waiting] == [4] * len(ledgers)
        assert time.monotonic() - began < 10


def test_a_long_batch_that_waits_for_one_ledger_keeps_nobody_from_another(
    both: tuple[Database, Database], postgres: str
):
    ledgers = {name: both[0].ledger(name) for name in ("held", "free")}
    rival = both[1].ledger("free")
    for ledger in ledgers.values():
        ledger.mint(ALICE, USD, 10**9, key="mint")
    rival.post(pay("rival", 1))
    ledgers["free"].post(pay("and now it claims", 1))

    def batch(name: str) -> list[Command]:
        return [pay(f"{name} {number}", 1) for number in range(LONG)]

    with psycopg.connect(postgres) as hand, ThreadPoolExecutor(2) as pool:
        hand.execute(HEAD_OF.format(name="held"))  # type: ignore[arg-type]
        stuck = pool.submit(ledgers["held"].post_many, batch("stuck"))
        wait_for_waiting(postgres)
        assert len(pool.submit(ledgers["free"].post_many, batch("free")).result(timeout=8)) == LONG
        assert rival.post(pay("rival 2", 1)).seq == LONG + 4
        assert not stuck.done()
        hand.rollback()
        assert len(stuck.result(timeout=SECONDS)) == LONG
    assert all(ledger.replay().ok for ledger in ledgers.values())


# ---------------------------------------------------------------- another history in its place


@pytest.fixture
def turn_back(databases: Databases, postgres: str) -> Iterator[Callable[[], Callable[[], None]]]:
    """Remembers a database as it is; what that returns puts this back in its place, as a failover does that lost the
    last commits."""
    name = postgres.rpartition("/")[2]
    server = with_database(postgres, "postgres")
    made: list[str] = []

    def remember() -> Callable[[], None]:
        cut(postgres)
        ask(server, f"CREATE DATABASE {name}_then TEMPLATE {name}")
        made.append(f"{name}_then")

        def back() -> None:
            cut(postgres)
            ask(server, f"ALTER DATABASE {name} RENAME TO {name}_lost")
            made.append(f"{name}_lost")
            ask(server, f"ALTER DATABASE {name}_then RENAME TO {name}")

        return back

    yield remember
    for one in made:
        databases.drop(with_database(postgres, one))


@pytest.mark.parametrize("claims", [True, False])
@pytest.mark.parametrize("grown", [0, 1, 2, 5])
def test_whoever_knows_a_history_that_was_lost_reads_the_new_one_before_posting(
    postgres: str, turn_back: Callable[[], Callable[[], None]], claims: bool, grown: int
):
    """``grown``: how many other events stand by then where two were lost."""
    with tallystick.open(postgres) as database:
        ledger = database.ledger("main")
        ledger.mint(ALICE, USD, 1_000, key="mint")
        if claims:
            with tallystick.open(postgres) as others:
                others.ledger("main").post(pay("other", 1))
            ledger.post(pay("and now it claims", 1))
        back = turn_back()
        ledger.post(pay("lost 1", 500, ALICE, "users:rich"))
        ledger.post(pay("lost 2", 100, ALICE, "users:carol"))
        back()
        with tallystick.open(postgres) as others:
            new = [others.ledger("main").post(pay(f"new {number}", 10)) for number in range(grown)]
        with pytest.raises(InsufficientFunds):
            ledger.post(pay("with what was lost", 500, "users:rich", BOB))
        for number, posted in enumerate(new):
            again = ledger.post(pay(f"new {number}", 10))
            assert (again.id, again.hash, again.replayed) == (posted.id, posted.hash, True)
        once_more = ledger.post(pay("lost 1", 500, ALICE, "users:rich"))
        assert not once_more.replayed
        assert once_more.seq == 2 + 2 * claims + grown
        assert ledger.balance(ALICE, USD) == 1_000 - 2 * claims - 10 * grown - 500
        assert ledger.transaction(once_more.id).key == "lost 1"
    keys = seen_by_others(postgres)
    assert sorted(keys[-1 - grown :]) == sorted(["lost 1", *(f"new {number}" for number in range(grown))])


# ---------------------------------------------------------------- a process that sleeps


def test_whoever_slept_while_a_thousand_events_came_wakes_up_in_the_present(one: Ledger, other: Ledger):
    hold = one.hold(ALICE, USD, 10, key="hold")
    commands: list[Command] = [
        pay(f"k{number}", 1, *((ALICE, BOB) if number % 2 else (BOB, ALICE))) for number in range(1_000)
    ]
    answers = other.post_many(commands)
    assert sum(isinstance(answer, Posted) for answer in answers) == 999, "bob had nothing to begin with"
    other.capture(hold.id, to_account=BOB, amount=4, final=False, key="capture")
    other.freeze(ALICE, key="freeze")
    with pytest.raises(Refusal, match="frozen"):
        one.post(pay("frozen", 1))
    other.unfreeze(ALICE, key="unfreeze")
    assert one.post(pay("k999", 1)).replayed
    captured: Any = one.capture(hold.id, to_account=BOB, key="capture the rest")
    assert captured.seq == other.head.seq - 1
    lock = other.hold_by_id(hold.id)
    assert lock is not None
    assert (lock.remaining, lock.taken) == (0, 10)
    assert one.replay().ok
