"""What a process knows when it claims a ledger, and what it leaves behind: nothing stale is decided on, nobody else's
connection is written through, and no kept key filter lacks a key."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

import tallystick
from tallystick import Ledger, Posted
from tallystick.commands import Command, Leg, Post, Transfer
from tallystick.errors import Fault, Refusal
from tallystick.ledger import desk as desk_module
from tallystick.ledger import writer
from tallystick.ledger.desk import Desk
from tallystick.ledger.keys import FIRST_CAPACITY
from tallystick.ledger.writer import Job, decide_job
from tallystick.stores.postgres import store as store_module
from tallystick.stores.postgres.store import PostgresStore
from tests.support.processes import wait_until

ALICE, BOB, RICH, USD = "users:alice", "users:bob", "users:rich", "USD/2"
NOVEMBER, DECEMBER = "2026-11-21T00:00:00.000000Z", "2026-12-05T00:00:00.000000Z"
SECONDS = 20
LONG = 2_100
"""Commands of a long round."""


def transfers(count: int) -> list[Command]:
    return [Transfer(key=f"k{i}", from_account=RICH, to_account=BOB, asset=USD, amount=1) for i in range(count)]


# ---------------------------------------------------------------- what is loaded before


def test_what_was_loaded_from_a_server_that_is_gone_is_not_decided_on(
    postgres: str, new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two databases with the same events are primary and replica; the pool changes over when the ledger is claimed.
    Each way of posting is tried: with a claim, and without."""
    for claims in (writer.ROUNDS_UNTIL_CALM, 0):
        primary, replica = new_database(), new_database()
        for url in (primary, replica):
            with tallystick.open(url, clock=lambda: NOVEMBER) as database:
                database.ledger("main").mint(ALICE, USD, 100, key="first")
        here, there = (tallystick.open(primary, clock=lambda: NOVEMBER) for _ in range(2))
        ledger = here.ledger("main")
        ledger.mint("users:carol", USD, 1, key="warm", dry_run=True)  # the book stands at the head, without alice
        there.ledger("main").mint(ALICE, USD, 900, key="lost")  # never reaches the replica
        other = PostgresStore(replica)
        store: Any = here._store
        before = store._source

        def turn_over(store: Any = store, other: PostgresStore = other) -> None:
            store._source = store._upkeep = other._source
            store._forget()  # as the pool has it when it connects

        with monkeypatch.context() as patched:
            for name in ("claim", "append"):
                real = getattr(PostgresStore, name)

                def late(self: Any, *given: Any, real: Any = real, mine: Any = store, **more: Any) -> Any:
                    if self is mine:
                        turn_over()
                    return real(self, *map(_listed, given), **more)

                patched.setattr(PostgresStore, name, late)
            ledger._writer._claims = claims  # type: ignore[attr-defined]
            with pytest.raises((Refusal, Fault)):
                ledger.transfer(ALICE, BOB, USD, 1_000, key="spend")
        here.close()
        there.close()
        before.close()
        with tallystick.open(replica, clock=lambda: NOVEMBER) as database:
            assert database.replay("main").ok
            assert database.ledger("main").balance(ALICE, USD) == 100


def _listed(given: Any) -> Any:
    return given if isinstance(given, (str, tuple)) or not hasattr(given, "__iter__") else list(given)


def backdated(key: str, source: str, target: str, effective: str) -> Post:
    return Post(key=key, type="transfer", effective=effective, legs=(Leg(source, target, USD, 100),))


def at(second: float) -> str:
    return f"2026-11-21T00:00:{second:09.6f}Z"


def post_behind_a_small_round(
    url: str, monkeypatch: pytest.MonkeyPatch, others: Callable[[Ledger, list[str]], None], back: Command
) -> object:
    """What becomes of ``back`` at the head of a long round that begins while a small one is being stored; ``others`` is
    what another process posts before the long one claims the ledger."""
    now = [at(0)]
    inside, go_on = threading.Event(), threading.Event()
    real_append, real_claim = PostgresStore.append, PostgresStore.claim
    with tallystick.open(url, clock=lambda: now[0]) as here, tallystick.open(url, clock=lambda: now[0]) as there:
        ledger, other = here.ledger("main"), there.ledger("main")
        ledger.mint(RICH, USD, 1_000_000, key="mint")
        if not back.legs[0].from_account.startswith("users:late"):  # type: ignore[attr-defined]
            ledger.mint(ALICE, USD, 100, key="first")

        def append(self: Any, batches: Any, **more: Any) -> None:
            if self is here._store and not inside.is_set():
                inside.set()
                assert go_on.wait(SECONDS)
            real_append(self, batches, **more)

        def claim(self: Any, *given: Any, **more: Any) -> Any:
            if self is here._store and now[0] != at(9):
                others(other, now)
                now[0] = at(9)
            return real_claim(self, *given, **more)

        monkeypatch.setattr(PostgresStore, "append", append)
        monkeypatch.setattr(PostgresStore, "claim", claim)
        now[0] = at(1)
        small = threading.Thread(target=ledger.mint, args=(BOB, USD, 1), kwargs={"key": "small"})
        small.start()
        assert inside.wait(SECONDS)
        results: list[Any] = []
        own: Any = ledger._writer
        begun = own._begun
        long = threading.Thread(target=lambda: results.extend(ledger.post_many([back, *transfers(LONG)])))
        long.start()
        wait_until(lambda: own._begun > begun, SECONDS, "the long round to begin")
        go_on.set()
        small.join()
        long.join()
        assert now[0] == at(9)
        return results[0]


def test_a_backdated_payment_that_others_covered_goes_through(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def others(other: Ledger, now: list[str]) -> None:
        now[0] = at(2)
        other.mint("users:late", USD, 100, key="others")

    back = backdated("back", "users:late", BOB, at(5))
    assert isinstance(post_behind_a_small_round(postgres, monkeypatch, others, back), Posted)


def test_a_backdated_overdraft_among_what_others_posted_is_refused(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 until second 3, nothing until 5, 100 from then on: 100 less from second 2.5 on would have been -100."""

    def others(other: Ledger, now: list[str]) -> None:
        now[0] = at(3)
        other.transfer(ALICE, BOB, USD, 100, key="spent")
        now[0] = at(6)
        other.post(backdated("late", RICH, ALICE, at(5)))

    back = backdated("back", ALICE, BOB, at(2.5))
    assert isinstance(post_behind_a_small_round(postgres, monkeypatch, others, back), Refusal)


# ---------------------------------------------------------------- an interrupt


class Interrupted(Exception):
    """What a handler of a signal raises in the main thread."""


def test_an_interrupt_waits_for_the_thread_that_writes_through_the_connection(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storing, go_on, over = threading.Event(), threading.Event(), threading.Event()
    too_early: list[bool] = []
    real_append, real_partitions = store_module.Appending.append, PostgresStore._make_partitions

    def append(self: Any, batches: Any) -> None:
        try:
            real_append(self, batches)
        finally:
            over.set()

    def partitions(self: Any, period: int) -> None:
        if threading.current_thread().name == "tallystick storing":
            storing.set()
            assert go_on.wait(SECONDS)
        real_partitions(self, period)

    def alarm(*_: object) -> None:
        threading.Timer(0.2, go_on.set).start()
        raise Interrupted

    with tallystick.open(postgres) as database:
        ledger = database.ledger("main")
        ledger.mint(RICH, USD, 1_000_000, key="mint")
        pool: Any = type(database._store._source)  # type: ignore[attr-defined]
        real_put = pool._put

        def put(self: Any, connection: Any) -> None:
            if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                too_early.append(not over.is_set())
            real_put(self, connection)

        monkeypatch.setattr(store_module.Appending, "append", append)
        monkeypatch.setattr(PostgresStore, "_make_partitions", partitions)
        monkeypatch.setattr(pool, "_put", put)
        before = signal.signal(signal.SIGALRM, alarm)
        threading.Thread(target=lambda: storing.wait(SECONDS) and signal.raise_signal(signal.SIGALRM)).start()
        try:
            with pytest.raises(Interrupted):
                ledger.post_many(transfers(LONG))
        finally:
            signal.signal(signal.SIGALRM, before)
        assert over.is_set()
        assert too_early == [False]  # given back in the middle of its transaction, but by nobody's hand but the last
        monkeypatch.undo()
        assert len(ledger.post_many(transfers(LONG))) == LONG
        assert ledger.replay().ok


# ---------------------------------------------------------------- the key filter


def mints(prefix: str, count: int) -> list[Command]:
    leg = Leg("@issuance", ALICE, USD, 1)
    return [Post(key=f"{prefix}{i}", type="mint", legs=(leg,)) for i in range(count)]


def posted_anew(url: str, commands: list[Command], time: str = DECEMBER) -> int:
    """How many of these are posted for the first time, by a process that starts; a month later, where no unique index
    of the database stands behind the filter."""
    with tallystick.open(url, clock=lambda: time) as database:
        results = database.ledger("main").post_many(commands)
        return sum(not result.replayed for result in results)  # type: ignore[union-attr]


def keep(store: PostgresStore, taken: dict[str, bytes]) -> None:
    for name, body in taken.items():
        store.keep("main", name, body)


def test_a_filter_that_was_loaded_anew_is_not_kept_under_the_old_ones_hashes(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "KEYS_PER_SAVE", 1_000)
    store = PostgresStore(postgres)
    desk = Desk(store, "main", lambda: NOVEMBER, {})
    desk.begin()
    decide_job(desk, Job(mints("tried", 500), atomic=False, dry_run=True))  # keys in this filter that no event bears
    commands = mints("a", FIRST_CAPACITY + 2_000)

    def post(wanted: list[Command]) -> None:
        decide_job(desk, Job(wanted, atomic=False, dry_run=False))
        batch = desk.take()
        assert batch is not None
        store.append([batch])
        desk.stored(batch.head.seq)

    post(commands)
    taken = desk.take_filter(at_work=False)  # for the background, which has not written it yet
    assert "keys/1" in taken
    with monkeypatch.context() as lost:  # the event that the filter ends with was lost, or is in a file that is away
        lost.setattr(Desk, "_continues", lambda self, head: False)
        desk.drop()
        desk.begin()
    keep(store, taken)
    post(mints("b", 2_000))
    again = desk.take_filter(at_work=False)
    assert "keys" in again
    keep(store, again)
    store.close()
    assert posted_anew(postgres, commands) == 0


def test_a_filter_of_another_history_is_not_believed(
    postgres: str, new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken on a primary, and kept on the replica that took its place without the last events."""
    monkeypatch.setattr(desk_module, "KEYS_PER_SAVE", 1_000)
    replica_url = new_database()
    for url in (postgres, replica_url):
        posted_anew(url, mints("a", 1_500), NOVEMBER)
        _forget_filter(url)
    posted_anew(postgres, mints("lost", 300), NOVEMBER)
    _forget_filter(postgres)
    primary, replica = PostgresStore(postgres), PostgresStore(replica_url)
    desk = Desk(primary, "main", lambda: NOVEMBER, {})
    desk.begin()
    taken = desk.take_filter(at_work=True)
    assert taken
    new = mints("new", 600)
    posted_anew(replica_url, new, NOVEMBER)
    _forget_filter(replica_url)
    keep(replica, taken)
    monkeypatch.setattr(desk_module, "KEYS_PER_SAVE", 1_000_000)
    primary.close()
    replica.close()
    assert posted_anew(replica_url, new) == 0


def _forget_filter(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM tallystick.cache")
