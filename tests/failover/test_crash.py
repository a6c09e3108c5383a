"""The server dies under load and comes back: nobody who was answered loses anything, and nothing is posted twice."""

from __future__ import annotations

import time

import pytest

import tallystick
from tallystick.errors import Unavailable
from tallystick.stores.postgres import connections, store
from tests.failover.conftest import DATABASE
from tests.failover.load import Load, check
from tests.support.postgres import Server

KILLS = 5
CALLS_BETWEEN = 30
DOWN_SECONDS = (0.0, 0.4)


def test_after_each_kill_of_the_server_everybody_carries_on_and_nothing_is_lost_or_posted_twice(server: Server):
    seed = 20_261_121
    print(f"seed {seed}")
    with Load(server.dsn(DATABASE), seed) as load:
        for kill in range(KILLS):
            load.wait_for(CALLS_BETWEEN)
            server.kill()
            time.sleep(DOWN_SECONDS[kill % 2])  # to be down for a while is what is tested; nothing waits for it
            server.start()
        load.wait_for(CALLS_BETWEEN)
        load.stop()
        print(f"{len(load.answers)} events, {sum(load.calls)} calls, {len(load.unavailable)} told to ask again")
        check(load)
    assert sum(load.calls) >= 6 * CALLS_BETWEEN * (KILLS + 1)


def test_while_there_is_no_server_callers_are_told_so_in_time_and_go_on_when_it_is_back(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connections, "WAIT_SECONDS", 1.0)
    monkeypatch.setattr(store, "WAIT_SECONDS", 1.0)
    with tallystick.open(server.dsn(DATABASE)) as database:
        ledger = database.ledger("main")
        ledger.mint("users:a", "USD/2", 100, key="mint")
        server.kill()
        began = time.monotonic()
        for act in (
            lambda: ledger.transfer("users:a", "users:b", "USD/2", 1, key="pay"),
            lambda: ledger.balance("users:a", "USD/2"),
        ):
            with pytest.raises(Unavailable) as caught:
                act()
            assert caught.value.retryable
            assert "127.0.0.1" in str(caught.value), "it names the server that is not there"
        assert time.monotonic() - began < 15
        with pytest.raises(Unavailable):
            tallystick.open(server.dsn(DATABASE))
        server.start()
        assert not ledger.transfer("users:a", "users:b", "USD/2", 1, key="pay").replayed
        assert ledger.balance("users:a", "USD/2") == 99
        assert ledger.replay().ok


def test_a_server_that_was_stopped_in_order_is_as_good_as_one_that_crashed(server: Server):
    with tallystick.open(server.dsn(DATABASE)) as database:
        ledger = database.ledger("main")
        first = ledger.mint("users:a", "USD/2", 100, key="mint")
        for number, mode in enumerate(["fast", "immediate"]):
            server.stop(mode)
            server.start()
            assert ledger.balance("users:a", "USD/2") == 100 - number
            assert not ledger.transfer("users:a", "users:b", "USD/2", 1, key=mode).replayed
            again = ledger.mint("users:a", "USD/2", 100, key="mint")
            assert (again.id, again.hash, again.replayed) == (first.id, first.hash, True)
        assert ledger.replay().ok
