"""The primary dies under load and its synchronous standby takes its place; readers on the standby read their writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

import tallystick
from tallystick import Posted
from tallystick.errors import Behind, ReadOnly, Unavailable
from tests.failover.conftest import DATABASE, Cluster
from tests.failover.load import Load, check
from tests.support.processes import wait_until

CALLS_BETWEEN = 30


def test_when_a_standby_is_promoted_everybody_carries_on_and_nothing_is_lost_or_posted_twice(cluster: Cluster):
    seed = 1_844
    print(f"seed {seed}")
    with Load(cluster.url, seed) as load:
        load.wait_for(CALLS_BETWEEN)
        cluster.fail_over()
        load.wait_for(CALLS_BETWEEN)
        cluster.follow()  # the third server, made from the second while it works
        load.wait_for(CALLS_BETWEEN)
        cluster.fail_over()
        load.wait_for(CALLS_BETWEEN)
        load.stop()
        print(f"{len(load.answers)} events, {sum(load.calls)} calls, {len(load.unavailable)} told to ask again")
        check(load)


def insist(act: Callable[[], Posted]) -> Posted:
    """The answer to a call that is made again as long as it is told Unavailable."""
    while True:
        try:
            return act()
        except Unavailable:
            time.sleep(0.02)


def test_what_was_acknowledged_is_on_the_standby_the_instant_the_primary_dies(cluster: Cluster):
    """What the promoted standby holds when it begins is what it had received; nobody could ask again meanwhile."""
    with tallystick.open(cluster.url) as database, ThreadPoolExecutor(1) as pool:
        ledger = database.ledger("main")
        ledger.mint("users:a", "USD/2", 1_000_000, key="mint")
        told: dict[str, tuple[str, str]] = {}

        def post() -> None:
            while not died.is_set():
                key = f"pay {len(told)}"
                answer = insist(lambda key=key: ledger.transfer("users:a", "users:b", "USD/2", 1, key=key))
                told[key] = answer.id, answer.hash

        died = threading.Event()
        poster = pool.submit(post)
        wait_until(lambda: len(told) > 200 or poster.done(), 30, "200 answers")
        cluster.primary.kill()
        acknowledged = dict(told)
        died.set()
        cluster.standby.promote()
        with tallystick.open(cluster.standby.dsn(DATABASE)) as promoted:
            found = {event.key: (event.id, event.hash) for event in promoted.ledger("main").events(limit=10_000)}
        assert acknowledged.items() <= found.items()
        poster.result(20)
        assert len(told) > len(acknowledged), "the call that was under way was answered by the promoted standby"
        assert ledger.replay().ok


def reader(cluster: Cluster) -> tallystick.Database:
    """Opens the standby, as soon as the tables that were just made have come there."""
    cluster.catch_up()
    return tallystick.open(cluster.standby.dsn(DATABASE), read_only=True)


def test_a_reader_on_the_standby_sees_what_was_posted_and_can_post_nothing(cluster: Cluster):
    with tallystick.open(cluster.url) as database, reader(cluster) as standby:
        ledger, replica = database.ledger("main"), standby.ledger("main")
        for number in range(1, 20):
            posted = ledger.mint("users:a", "USD/2", 1, key=f"mint {number}")
            assert replica.at_least(posted.seq, wait_seconds=5) is replica
            assert replica.balance("users:a", "USD/2") == number
            assert replica.by_key(f"mint {number}").hash == posted.hash  # type: ignore[union-attr]
        assert replica.head == ledger.head
        assert replica.replay().ok
        with pytest.raises(ReadOnly):
            replica.mint("users:a", "USD/2", 1, key="here")
        assert ledger.by_key("here") is None


def test_who_opens_the_standby_for_writing_is_told_that_it_takes_none(cluster: Cluster):
    with tallystick.open(cluster.url) as database:
        database.ledger("main").mint("users:a", "USD/2", 1, key="mint")
    cluster.catch_up()
    with tallystick.open(cluster.standby.dsn(DATABASE), create=False) as standby:
        ledger = standby.ledger("main")
        with pytest.raises((ReadOnly, Unavailable), match=r"recovery|read-only"):  # it may be promoted, then it would
            ledger.mint("users:a", "USD/2", 1, key="there")


def test_a_reader_on_a_standby_that_lags_is_told_how_far_it_is_behind(cluster: Cluster):
    with (
        tallystick.open(cluster.url) as database,
        reader(cluster) as standby,
        psycopg.connect(cluster.standby.dsn(DATABASE), autocommit=True) as hand,
    ):
        ledger, replica = database.ledger("main"), standby.ledger("main")
        seen = ledger.mint("users:a", "USD/2", 1, key="seen")
        replica.at_least(seen.seq)
        hand.execute("SELECT pg_wal_replay_pause()")
        wait_until(
            lambda: hand.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() == ("paused",), 10, "a pause"
        )
        unseen = ledger.mint("users:a", "USD/2", 1, key="unseen")
        with pytest.raises(Behind) as caught:
            replica.at_least(unseen.seq, wait_seconds=0.2)
        assert caught.value.retryable
        assert caught.value.data == {"ledger": "main", "stands": seen.seq, "needed": unseen.seq, "seconds": 0.2}
        assert replica.balance("users:a", "USD/2") == 1, "it can still be read as it stands"
        hand.execute("SELECT pg_wal_replay_resume()")
        assert replica.at_least(unseen.seq, wait_seconds=10).balance("users:a", "USD/2") == 2
