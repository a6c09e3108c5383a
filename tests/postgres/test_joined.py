"""Posting inside a database transaction of the caller's: his rows and the ledger's commit together or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg import IsolationLevel

import tallystick
from tallystick import Database, Ledger, Leg, Posted, Split
from tallystick.commands import Command, Post, Transfer
from tallystick.errors import BatchAborted, IdempotencyConflict, InsufficientFunds, Unavailable
from tests.support.callers import USD, ask, keys_of, seen_by_others, wait_for_waiting

ALICE, BOB = "users:alice", "users:bob"
NOW = "2026-03-01T12:00:00.000000Z"
LARGE = 2_500
"""So many commands are copied into the tables."""

Link = psycopg.Connection[Any]


@pytest.fixture
def database(postgres: str) -> Iterator[Database]:
    """With a ledger in which alice has 1,000, and a table of the caller's."""
    ask(postgres, "CREATE TABLE orders (id text PRIMARY KEY)")
    with tallystick.open(postgres) as found:
        found.ledger("main").mint(ALICE, USD, 1_000, key="mint")
        yield found


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return database.ledger("main")


@pytest.fixture
def caller(database: Database, postgres: str) -> Iterator[Link]:
    """The caller's connection, as psycopg makes it: its first statement begins a transaction."""
    with psycopg.connect(postgres) as found:
        yield found


def pay(key: str, amount: int = 10, payer: str = ALICE, payee: str = BOB) -> Transfer:
    return Transfer(key=key, from_account=payer, to_account=payee, asset=USD, amount=amount)


def order(connection: Link, name: str) -> None:
    connection.execute(f"INSERT INTO orders VALUES ('{name}')")


def orders(url: str) -> list[str]:
    return [name for (name,) in ask(url, "SELECT id FROM orders ORDER BY id")]


# ---------------------------------------------------------------- together or not at all


def test_the_callers_rows_and_the_posting_commit_together(ledger: Ledger, caller: Link, postgres: str):
    order(caller, "o-1")
    posted = ledger.transfer(ALICE, BOB, USD, 10, key="o-1", connection=caller)
    assert (orders(postgres), seen_by_others(postgres)) == ([], ["mint"]), "nobody sees either before the commit"
    assert ledger.balance(BOB, USD) == 0
    caller.commit()
    assert (orders(postgres), seen_by_others(postgres)) == (["o-1"], ["mint", "o-1"])
    found = ledger.transaction(posted.id)
    assert (found.hash, found.time, found.seq) == (posted.hash, posted.time, posted.seq)
    assert ledger.balance(BOB, USD) == 10


def test_the_callers_rows_and_the_posting_are_rolled_back_together(ledger: Ledger, caller: Link, postgres: str):
    order(caller, "o-1")
    ledger.transfer(ALICE, BOB, USD, 10, key="o-1", connection=caller)
    caller.rollback()
    assert (orders(postgres), seen_by_others(postgres)) == ([], ["mint"])


def test_a_posting_that_is_the_first_statement_begins_the_transaction_and_ends_none(
    ledger: Ledger, caller: Link, postgres: str
):
    ledger.transfer(ALICE, BOB, USD, 10, key="lost", connection=caller)
    assert caller.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    caller.rollback()
    ledger.transfer(ALICE, BOB, USD, 10, key="kept", connection=caller)
    order(caller, "o-1")
    caller.commit()
    assert (orders(postgres), seen_by_others(postgres)) == (["o-1"], ["mint", "kept"])


@pytest.mark.parametrize("begin", ["BEGIN", "transaction()"])
def test_a_connection_with_autocommit_takes_part_once_it_is_in_a_transaction(ledger: Ledger, postgres: str, begin: str):
    with psycopg.connect(postgres, autocommit=True) as caller:
        if begin == "BEGIN":
            for key, end in (("lost", "ROLLBACK"), ("kept", "COMMIT")):
                caller.execute("BEGIN")
                ledger.transfer(ALICE, BOB, USD, 10, key=key, connection=caller)
                caller.execute(end)
        else:
            with caller.transaction(force_rollback=True):
                ledger.transfer(ALICE, BOB, USD, 10, key="lost", connection=caller)
            with caller.transaction():
                ledger.transfer(ALICE, BOB, USD, 10, key="kept", connection=caller)
        assert caller.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert seen_by_others(postgres) == ["mint", "kept"]


def test_a_transaction_that_an_exception_ends_leaves_nothing(ledger: Ledger, postgres: str):
    def post_and_fail() -> None:
        with psycopg.connect(postgres) as caller:
            order(caller, "o-1")
            ledger.transfer(ALICE, BOB, USD, 10, key="o-1", connection=caller)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        post_and_fail()
    assert (orders(postgres), seen_by_others(postgres)) == ([], ["mint"])


def test_a_transaction_whose_connection_is_lost_leaves_nothing(ledger: Ledger, caller: Link, postgres: str):
    order(caller, "o-1")
    ledger.transfer(ALICE, BOB, USD, 10, key="o-1", connection=caller)
    ask(postgres, "SELECT pg_terminate_backend(%s)", caller.info.backend_pid)
    with pytest.raises(Unavailable) as caught:
        ledger.transfer(ALICE, BOB, USD, 10, key="o-2", connection=caller)
    assert caught.value.retryable
    assert (orders(postgres), seen_by_others(postgres)) == ([], ["mint"])


# ---------------------------------------------------------------- every act


class Within:
    """A ledger whose acts are all part of a transaction."""

    def __init__(self, ledger: Ledger, connection: Link) -> None:
        self._ledger = ledger
        self._connection = connection

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(getattr(self._ledger, name), connection=self._connection)


def do_everything(ledger: Any) -> list[Any]:
    """Each act once; what was answered."""
    case, origin = {"escrow": "e-1"}, {"order": "caf\u00e9 ✓"}
    keys = iter(range(1_000))
    did: list[Any] = []

    def do(name: str, /, *arguments: Any, **more: Any) -> Posted:
        did.append(getattr(ledger, name)(*arguments, key=f"act {next(keys)}", **more))
        return did[-1]

    do("mint", ALICE, USD, 10_000, refs=origin, metadata={"note": "naïve"})
    do("burn", ALICE, USD, 10)
    do("deposit", ALICE, USD, 100, refs={"external_ref": "in"})
    do("withdraw", ALICE, USD, 50, refs={"external_ref": "out"})
    do("transfer", ALICE, BOB, USD, 400)
    do("transfer", ALICE, BOB, USD, 4, effective=NOW)
    do("settle", ALICE, "@clearing:north", USD, 5, netting_batch="n-1")
    do("fee", ALICE, USD, 100)
    do("fee_transfer", BOB, USD, 10, refs=origin)
    do("fee_burn", USD, 5, refs=origin)
    do("promo_mint", ALICE, USD, 50)
    do("promo_burn", ALICE, USD, 20)
    do("bonus", BOB, USD, 10, from_account=ALICE, bucket="available")
    hold = do("hold", ALICE, USD, 100, expires_in_seconds=600, refs=origin)
    do("top_up", hold.id, 10)
    do("extend", hold.id, expires_in_seconds=99)
    do("capture", hold.id, to_account=BOB, amount=40, final=False)
    do("release", hold.id, 5)
    charge = do("capture", hold.id, [Split(BOB)])
    do("reverse", charge.id, 1)
    do("finalize_charge", charge.id)
    stake = do("stake_lock", ALICE, USD, 30, refs=case)
    do("stake_release", stake.id, 10, refs=case)
    do("stake_slash", stake.id, BOB, refs=case)
    won = do("bet_stake", ALICE, USD, 10, round="r-1")
    do("bet_settle", won.id, 25, house=BOB, round="r-1")
    void = do("bet_stake", ALICE, USD, 10, round="r-2")
    do("bet_rollback", void.id, round="r-2")
    do("adjust", [Leg(ALICE, BOB, USD, 1)], corrects=charge.id, reason="miskeyed", actor="ops")
    do("open_account", "members:m", limits={USD: 1_000})
    do("set_limit", "members:m", USD, 2_000)
    do("freeze", "members:m")
    do("unfreeze", "members:m")
    do("exclude", "members:m")
    do("close_account", BOB, settle_to=ALICE)
    do("set_policy", {"limit_max": 9_000})
    do("define_asset", "EUR/2", name="Euro")
    do("define_type", "sale", requires=["order"])
    do("transact", "sale", [Leg(ALICE, "users:shop", USD, 7)], refs=origin)
    do("record_reserve", "vault:1", USD, 100, haircut_bps=5_000)
    do("close_period", "2020-01-01")
    did.append(ledger.post(pay("post", payee="users:z")))
    commands: list[Command] = [pay("many 1", payee="users:y"), pay("many 2", 10**9), pay("many 3", payee="users:x")]
    did.append(ledger.post_many(commands))
    did.append(ledger.post_many([pay("all 1", payee="users:w"), pay("all 2", payee="users:v")], atomic=True))
    return did


@pytest.fixture
def stopped(postgres: str) -> Iterator[Database]:
    """Ledgers whose clock stands still, so that events can be compared byte by byte."""
    with tallystick.open(postgres, clock=lambda: NOW) as found:
        yield found


def test_every_act_within_a_transaction_posts_the_bytes_that_it_posts_by_itself(stopped: Database, postgres: str):
    with tallystick.open("memory://", clock=lambda: NOW) as database:
        alone = database.ledger("main")
        expected = do_everything(alone)
        ledger = stopped.ledger("main")
        with psycopg.connect(postgres) as caller:
            assert do_everything(Within(ledger, caller)) == expected, "one transaction for all of it"
        bodies = [found._store.events("main", 0, 1_000) for found in (ledger, alone)]
        assert bodies[0] == bodies[1]
        assert len(bodies[0]) == 47
        report = ledger.replay()
        assert report.ok, report.findings


def test_every_act_within_a_transaction_that_is_rolled_back_leaves_nothing_and_keeps_no_key(
    stopped: Database, postgres: str
):
    ledger = stopped.ledger("main")
    with psycopg.connect(postgres) as caller:
        first = do_everything(Within(ledger, caller))
        caller.rollback()
    assert not ledger.exists
    assert stopped.ledgers() == []
    assert ask(postgres, "SELECT count(*) FROM tallystick.event") == [(0,)]
    assert do_everything(ledger) == first, "as if it had never been"


def test_each_act_in_a_transaction_of_its_own_is_as_good(stopped: Database, postgres: str):
    ledger = stopped.ledger("main")

    class Committed(Within):
        def __getattr__(self, name: str) -> Callable[..., Any]:
            act = super().__getattr__(name)

            def committed(*arguments: Any, **more: Any) -> Any:
                with self._connection.transaction():
                    return act(*arguments, **more)

            return committed

    with psycopg.connect(postgres, autocommit=True) as caller:
        expected = do_everything(Committed(ledger, caller))
    with tallystick.open("memory://", clock=lambda: NOW) as database:
        assert do_everything(database.ledger("main")) == expected
    assert ledger.replay().ok


# ---------------------------------------------------------------- savepoints and refusals


def test_a_refusal_leaves_the_transaction_as_it_was_and_usable(ledger: Ledger, caller: Link, postgres: str):
    order(caller, "o-1")
    ledger.post(pay("first"), connection=caller)
    with pytest.raises(InsufficientFunds):
        ledger.post(pay("too much", 991), connection=caller)
    with pytest.raises(BatchAborted) as caught:
        ledger.post_many([pay("in vain"), pay("too much", 985)], atomic=True, connection=caller)
    assert caught.value.data["index"] == 1
    order(caller, "o-2")
    assert ledger.post(pay("all of it", 990), connection=caller).seq == 3, "nothing was posted in between"
    caller.commit()
    assert (orders(postgres), seen_by_others(postgres)) == (["o-1", "o-2"], ["mint", "first", "all of it"])


def test_what_is_rolled_back_to_a_savepoint_is_undone_and_nothing_else(ledger: Ledger, caller: Link, postgres: str):
    ledger.post(pay("outer"), connection=caller)
    with caller.transaction(force_rollback=True):
        order(caller, "lost")
        inner = ledger.post(pay("inner", 500), connection=caller)
        with caller.transaction():
            assert ledger.post(pay("innermost", 490), connection=caller).seq == inner.seq + 1
        with pytest.raises(InsufficientFunds):
            ledger.post(pay("outer 2", 1), connection=caller)
    with caller.transaction():
        again = ledger.post(pay("inner", 500), connection=caller)
        order(caller, "kept")
    assert (again.seq, again.replayed) == (inner.seq, False), "its key was free again, and so was its place"
    caller.commit()
    assert (orders(postgres), seen_by_others(postgres)) == (["kept"], ["mint", "outer", "inner"])


def test_a_batch_of_independent_commands_has_its_refusals_in_their_places(ledger: Ledger, caller: Link, postgres: str):
    commands = [pay("a", 600), pay("b", 600), pay("c", 400), pay("a", 600), pay("a", 1)]
    answers = ledger.post_many(commands, connection=caller)
    kinds = [type(answer) for answer in answers]
    assert kinds == [Posted, InsufficientFunds, Posted, Posted, IdempotencyConflict]
    assert answers[3].replayed  # type: ignore[union-attr]
    caller.commit()
    assert seen_by_others(postgres) == ["mint", "a", "c"]


def test_a_dry_run_answers_as_if_it_were_meant_and_writes_nothing(ledger: Ledger, caller: Link, postgres: str):
    tried = ledger.post(pay("tried"), dry_run=True, connection=caller)
    ledger.post_many([pay("tried 2"), pay("tried 3")], atomic=True, dry_run=True, connection=caller)
    meant = ledger.post(pay("meant"), connection=caller)
    assert tried.seq == meant.seq
    caller.commit()
    assert seen_by_others(postgres) == ["mint", "meant"]


# ---------------------------------------------------------------- one after the other


def test_postings_of_one_transaction_see_each_other(ledger: Ledger, caller: Link, postgres: str):
    first = ledger.post(pay("first", 700), connection=caller)
    with pytest.raises(InsufficientFunds):
        ledger.post(pay("second", 301), connection=caller)
    hold = ledger.hold(BOB, USD, 700, key="hold", connection=caller)
    captured = ledger.capture(hold.id, to_account=ALICE, amount=200, final=False, key="capture", connection=caller)
    ledger.reverse(captured.id, 50, key="reverse", connection=caller)
    ledger.release(hold.id, key="release", connection=caller)
    assert first.seq + 5 == ledger.transfer(BOB, ALICE, USD, 550, key="back", connection=caller).seq
    caller.commit()
    assert [ledger.balance(person, USD) for person in (ALICE, BOB)] == [1_000, 0]
    assert len(seen_by_others(postgres)) == 7


def test_a_key_is_answered_again_within_the_transaction_and_ever_after(ledger: Ledger, caller: Link):
    before = ledger.mint(ALICE, USD, 1_000, key="mint", connection=caller)
    assert before.replayed, "it was posted before the transaction began"
    first = ledger.post(pay("key"), connection=caller)
    again = ledger.post(pay("key"), connection=caller)
    assert (first.replayed, again.replayed) == (False, True)
    with pytest.raises(IdempotencyConflict):
        ledger.post(pay("key", 11), connection=caller)
    caller.commit()
    for connection in (None, caller):
        after = ledger.post(pay("key"), connection=connection)
        assert (after.id, after.hash, after.time, after.replayed) == (first.id, first.hash, first.time, True)
        with pytest.raises(IdempotencyConflict):
            ledger.post(pay("key", 11), connection=connection)
    assert keys_of(ledger) == ["mint", "key"]


def test_a_key_of_a_transaction_that_was_rolled_back_is_free(ledger: Ledger, caller: Link):
    ledger.post(pay("key"), connection=caller)
    caller.rollback()
    assert not ledger.post(pay("key", 11)).replayed, "even for another request"
    with pytest.raises(IdempotencyConflict):
        ledger.post(pay("key"), connection=caller)


def test_postings_with_and_without_a_transaction_see_each_other_in_one_process(ledger: Ledger, caller: Link):
    for turn in range(6):
        ledger.transfer(ALICE, BOB, USD, 1_000, key=f"there {turn}", connection=caller)
        caller.commit()
        with pytest.raises(InsufficientFunds):
            ledger.post(pay(f"too late {turn}", 1))
        ledger.transfer(BOB, ALICE, USD, 1_000, key=f"and back {turn}")
        with pytest.raises(InsufficientFunds):
            ledger.transfer(BOB, ALICE, USD, 1, key=f"too much {turn}", connection=caller)
    assert ledger.replay().ok
    assert len(keys_of(ledger)) == 13


def test_large_batches_take_part_like_any_other(ledger: Ledger, caller: Link, postgres: str):
    def batch(name: str) -> list[Command]:
        legs = [Leg("@issuance", f"users:{number % 300}", USD, 1) for number in range(LARGE)]
        return [Post(key=f"{name} {n}", type="mint", legs=(leg,)) for n, leg in enumerate(legs)]

    order(caller, "o-1")
    with caller.transaction(force_rollback=True):
        ledger.post_many(batch("lost"), connection=caller)
    ledger.post_many(batch("all"), atomic=True, connection=caller)
    with pytest.raises(BatchAborted):
        ledger.post_many([*batch("vain"), pay("too much", 10**9)], atomic=True, connection=caller)
    ledger.post_many(batch("each"), connection=caller)
    again = ledger.post_many(batch("all")[:200], connection=caller)
    assert all(answer.replayed for answer in again)  # type: ignore[union-attr]
    assert seen_by_others(postgres) == ["mint"]
    caller.commit()
    assert ledger.balance("users:7", USD) == sum(number % 300 == 7 for number in range(LARGE)) * 2
    assert len(seen_by_others(postgres)) == 1 + 2 * LARGE
    caller.rollback()


# ---------------------------------------------------------------- beside others


def test_who_posts_meanwhile_waits_until_the_transaction_ends_and_takes_it_into_account(
    ledger: Ledger, caller: Link, postgres: str
):
    for end, fits in ((caller.rollback, True), (caller.commit, False)):
        name = "lost" if fits else "kept"
        ledger.post(pay(name, 600), connection=caller)
        with ThreadPoolExecutor(1) as pool:
            meanwhile = pool.submit(ledger.post, pay(f"beside what is {name}", 500))
            wait_for_waiting(postgres)
            assert not meanwhile.done()
            end()
            if fits:
                assert meanwhile.result(timeout=30).seq == 2
                ledger.transfer(BOB, ALICE, USD, 500, key="back")
            else:
                with pytest.raises(InsufficientFunds):
                    meanwhile.result(timeout=30)
    assert seen_by_others(postgres) == ["mint", "beside what is lost", "back", "kept"]


def test_two_callers_of_one_ledger_come_one_after_the_other(ledger: Ledger, caller: Link, postgres: str):
    with psycopg.connect(postgres) as other, ThreadPoolExecutor(1) as pool:
        ledger.post(pay("first", 600), connection=caller)
        second = pool.submit(ledger.post, pay("second", 400), connection=other)
        wait_for_waiting(postgres)
        caller.commit()
        assert second.result(timeout=30).seq == 3
        assert seen_by_others(postgres) == ["mint", "first"]
        other.commit()
    assert seen_by_others(postgres) == ["mint", "first", "second"]


def test_of_two_callers_who_take_two_ledgers_in_different_orders_one_is_told_to_try_again(
    database: Database, ledger: Ledger, caller: Link, postgres: str
):
    other = database.ledger("other")
    other.mint(ALICE, USD, 1_000, key="mint")

    def take(first: Ledger, second: Ledger, connection: Link, name: str) -> list[Unavailable]:
        """Post to one and then to the other, and all again from the beginning for as long as that is refused."""
        told: list[Unavailable] = []
        connection.execute("SET deadlock_timeout = '50ms'")
        connection.commit()
        while True:
            try:
                first.post(pay(name), connection=connection)
                if not told:
                    both.wait(timeout=30)
                second.post(pay(name), connection=connection)
            except Unavailable as unavailable:
                told.append(unavailable)
                connection.rollback()
            else:
                connection.commit()
                return told

    both = threading.Barrier(2)
    with psycopg.connect(postgres) as rival, ThreadPoolExecutor(2) as pool:
        takes = [
            pool.submit(take, ledger, other, caller, "caller"),
            pool.submit(take, other, ledger, rival, "rival"),
        ]
        told = [unavailable for one in takes for unavailable in one.result(timeout=60)]
    assert told, "PostgreSQL breaks the circle"
    assert all(unavailable.retryable and "deadlock" in str(unavailable) for unavailable in told)
    for name in ("main", "other"):
        assert sorted(seen_by_others(postgres, name)) == ["caller", "mint", "rival"]


# ---------------------------------------------------------------- a ledger that is new


def test_the_first_posting_makes_the_ledger_and_a_rollback_unmakes_it(database: Database, caller: Link, postgres: str):
    ledger = database.ledger("new", policy={"limit_max": 7_000})
    ledger.mint(ALICE, USD, 5, key="mint", connection=caller)
    caller.rollback()
    assert database.ledgers() == ["main"]
    assert not ledger.exists
    assert not ledger.mint(ALICE, USD, 6, key="mint", connection=caller).replayed
    caller.commit()
    assert database.ledgers() == ["main", "new"]
    assert ledger.policy.limit_max == 7_000
    assert ledger.transfer(ALICE, BOB, USD, 6, key="pay").seq == 2
    assert seen_by_others(postgres, "new") == ["mint", "pay"]


@pytest.mark.parametrize("kept", [True, False])
def test_two_who_make_the_same_ledger_at_once_make_one(database: Database, caller: Link, postgres: str, kept: bool):
    ledger = database.ledger("new")
    with ThreadPoolExecutor(1) as pool:
        ledger.mint(ALICE, USD, 5, key="caller", connection=caller)
        meanwhile = pool.submit(ledger.mint, ALICE, USD, 5, key="other")
        wait_for_waiting(postgres)
        (caller.commit if kept else caller.rollback)()
        assert meanwhile.result(timeout=30).seq == (2 if kept else 1)
    assert seen_by_others(postgres, "new") == (["caller", "other"] if kept else ["other"])


# ---------------------------------------------------------------- other levels of isolation


@pytest.mark.parametrize("level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])
def test_who_sees_the_past_is_told_to_try_again_and_has_posted_nothing(
    ledger: Ledger, caller: Link, postgres: str, level: IsolationLevel
):
    caller.isolation_level = level
    order(caller, "o-1")
    ledger.post(pay("meanwhile"))
    with pytest.raises(Unavailable) as caught:
        ledger.post(pay("key"), connection=caller)
    assert caught.value.retryable
    assert "serialize" in str(caught.value)
    caller.rollback()
    assert (orders(postgres), seen_by_others(postgres)) == ([], ["mint", "meanwhile"])
    order(caller, "o-1")
    assert not ledger.post(pay("key"), connection=caller).replayed
    ledger.post(pay("key 2"), connection=caller)
    caller.commit()
    assert (orders(postgres), seen_by_others(postgres)) == (["o-1"], ["mint", "meanwhile", "key", "key 2"])


@pytest.mark.parametrize("level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])
def test_who_does_not_see_yet_that_a_ledger_was_made_is_told_to_try_again(
    database: Database, caller: Link, postgres: str, level: IsolationLevel
):
    ledger = database.ledger("new")
    caller.isolation_level = level
    caller.execute("SELECT count(*) FROM orders")
    ledger.mint(ALICE, USD, 5, key="meanwhile")
    with pytest.raises(Unavailable):
        ledger.mint(ALICE, USD, 5, key="key", connection=caller)
    caller.rollback()
    assert not ledger.mint(ALICE, USD, 5, key="key", connection=caller).replayed
    caller.commit()
    assert seen_by_others(postgres, "new") == ["meanwhile", "key"]


def test_a_serializable_transaction_that_fails_at_its_commit_has_posted_nothing(
    database: Database, caller: Link, postgres: str
):
    """Two of them read what the other writes: PostgreSQL lets only one of them commit."""
    with psycopg.connect(postgres) as other:
        for connection, name in ((caller, "one"), (other, "two")):
            connection.isolation_level = IsolationLevel.SERIALIZABLE
            database.ledger(name).mint(ALICE, USD, 5, key="before")
            connection.execute("SELECT count(*) FROM orders").fetchone()
        for connection, name in ((caller, "one"), (other, "two")):
            order(connection, name)
            database.ledger(name).mint(ALICE, USD, 5, key="order", connection=connection)
        caller.commit()
        with pytest.raises(psycopg.errors.SerializationFailure):
            other.commit()
    assert orders(postgres) == ["one"]
    assert seen_by_others(postgres, "one") == ["before", "order"]
    assert seen_by_others(postgres, "two") == ["before"]
