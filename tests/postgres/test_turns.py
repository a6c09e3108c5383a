"""Whoever waits for a ledger gets it in the order of asking, and what a posting asks is answered by an index."""

from __future__ import annotations

import threading

import psycopg

import tallystick
from tallystick.commands import Leg, Post
from tallystick.ledger.writer import STREAMED_FROM
from tallystick.stores.postgres.reading import SQL
from tallystick.stores.postgres.store import PostgresStore
from tests.support.callers import wait_for_waiting

WAITERS = 4


def test_those_who_wait_for_a_ledger_get_it_in_order(postgres: str) -> None:
    """Also while somebody else, who claims nothing, keeps moving the head that they wait for."""
    with tallystick.open(postgres) as database:
        ledger = database.ledger("main")
        ledger.mint("users:alice", "USD/2", 1_000, key="mint")
        stores = [PostgresStore(postgres) for _ in range(WAITERS)]
        came: list[int] = []

        def claim(number: int) -> None:
            head = stores[number].head("main")
            assert head is not None
            with stores[number].claim("main", head):
                came.append(number)

        with psycopg.connect(postgres) as holder:
            holder.execute("SELECT FROM tallystick.ledger FOR NO KEY UPDATE")
            threads = []
            for number in range(WAITERS):
                threads.append(threading.Thread(target=claim, args=(number,)))
                threads[-1].start()
                wait_for_waiting(postgres, number + 1)
            ledger.mint("users:alice", "USD/2", 1, key="meanwhile")  # alone, so it need not ask for a turn
            holder.rollback()
            for thread in threads:
                thread.join()
        assert came == list(range(WAITERS))
        for store in stores:
            store.close()


def test_a_key_is_looked_up_by_the_whole_of_its_index_even_without_statistics(postgres: str) -> None:
    """A plan that read all keys of a part, or of a table, would slow posting down as the ledger grows."""
    with tallystick.open(postgres) as database:
        ledger = database.ledger("main")
        ledger.mint("users:alice", "USD/2", 1_000_000, key="mint")
        ledger.transfer("users:alice", "users:bob", "USD/2", 1, key="one")
    asked = {"ledger": 1, "numbers": list(range(300))}
    with psycopg.connect(postgres) as connection:
        connection.execute("SET plan_cache_mode = force_generic_plan")
        plan = "\n".join(line for (line,) in connection.execute("EXPLAIN " + SQL["keys"], asked))
    assert "Seq Scan on idempotency" not in plan
    conditions = [line for line in plan.splitlines() if "Index Cond" in line and ">> 18" in line]
    assert conditions
    assert all("number = wanted.number" in line for line in conditions)


def test_a_long_batch_may_be_the_first_that_a_ledger_sees(postgres: str) -> None:
    """It claims the ledger before it decides, though there is none yet."""
    mints = [
        Post(key=str(number), type="mint", legs=(Leg("@issuance", "users:alice", "USD/2", 1),))
        for number in range(STREAMED_FROM)
    ]
    with tallystick.open(postgres) as database:
        assert len(database.ledger("main").post_many(mints)) == STREAMED_FROM
        assert database.ledger("main").balance("users:alice", "USD/2") == STREAMED_FROM
