"""Pains 1 to 4 and 7: many writers on the same accounts."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from typing import Any

import httpx2
import psycopg

from tests.pains.support import MAIN, SECONDS, USD, Crowd, Teller, balance, pay, statuses
from tests.support.callers import WAITING, ask, wait_for_waiting

HEAD_OF = """
SELECT head.seq FROM tallystick.head JOIN tallystick.ledger ON ledger.id = head.ledger
WHERE ledger.name = %s FOR UPDATE OF head
"""
CONNECTED = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
MOST_CONNECTIONS = 40
"""Of two services, whatever is asked of them; a crowd may be any size."""


def test_two_writers_never_mint_the_same_id(crowd: Crowd) -> None:
    """Pain 1. Ids that the program counted for itself collided as soon as two requests wrote at once: a duplicate key
    in the log, and 200 with an empty body for the caller. https://github.com/formancehq/ledger/issues/364
    """
    answers = [
        answer
        for some in crowd.at_once(12, lambda teller, _: [teller.post(f"{MAIN}/transfers", pay()) for _ in range(6)])
        for answer in some
    ]

    assert statuses(answers) == {(201, ""): 72}
    posted = [answer.json() for answer in answers]
    numbers = sorted(found["seq"] for found in posted)
    assert len({found["id"] for found in posted}) == len({found["hash"] for found in posted}) == 72
    assert numbers == list(range(numbers[0], numbers[0] + 72))
    assert balance(crowd.admin, "users:bob") == 50_072
    crowd.check_books()


def test_writers_who_take_the_same_accounts_in_opposite_order_do_not_deadlock(crowd: Crowd) -> None:
    """Pain 2. Rows that were locked in the order of a request, or of a join, made opposite payments wait for each
    other until the database killed one. https://github.com/formancehq/ledger/pull/767
    https://github.com/blnkfinance/blnk/pull/244 https://github.com/GaloyMoney/cala/issues/779
    """
    names = ["users:alice", "users:bob", "users:carol", "users:dave"]
    for name in names[2:]:
        crowd.admin.done(f"{MAIN}/mint", {"account": name, "asset": USD, "amount": "100000"})

    def circle(teller: Teller, number: int) -> list[httpx2.Response]:
        order = names[number % 4 :] + names[: number % 4]
        order = order[:: 1 if number % 2 else -1]
        legs = [
            {"from_account": payer, "to_account": payee, "asset": USD, "amount": "3"}
            for payer, payee in pairwise(order)
        ]
        ends = pay(1, order[0], order[-1])
        return [
            teller.post(f"{MAIN}/transactions", {"type": "transfer", "legs": legs})
            if turn % 2
            else teller.post(f"{MAIN}/transfers", ends)
            for turn in range(6)
        ]

    answers = [answer for some in crowd.at_once(12, circle) for answer in some]
    assert statuses(answers) == {(201, ""): 72}
    assert sum(balance(crowd.admin, name) for name in names) == 350_000
    crowd.check_books()


def test_a_hot_account_takes_every_posting(crowd: Crowd) -> None:
    """Pain 3. On one account that everybody uses, others advise to split it by hand, or answer that they failed to
    acquire its lock. https://kb.formance.com/articles/1951547795-locking-performances
    https://docs.blnkfinance.com/guides/hot-balances
    """
    crowd.admin.done(f"{MAIN}/mint", {"account": "shops:hot", "asset": USD, "amount": "1000"})

    def use(teller: Teller, number: int) -> list[httpx2.Response]:
        out, back = pay(2, "shops:hot", f"users:{number}"), pay(1, f"users:{number}", "shops:hot")
        return [teller.post(f"{MAIN}/transfers", body) for body in (out, back, out, back, out, back)]

    answers = [answer for some in crowd.at_once(24, use) for answer in some]
    assert statuses(answers) == {(201, ""): 24 * 6}
    assert balance(crowd.admin, "shops:hot") == 1_000 - 24 * 3
    found = crowd.admin.get(f"{MAIN}/entries", account="shops:hot", asset=USD, limit=1_000).json()["items"]
    assert [line["version"] for line in found] == list(range(1, 24 * 6 + 2))
    assert all(line["before"] == last["after"] for last, line in pairwise(found))
    crowd.check_books()


def test_who_waits_for_a_hot_account_does_not_use_up_the_connections(shared: Crowd) -> None:
    """Pain 3. Where every request waits inside the database for the same row, each takes a connection with it, and
    soon none is left for anybody. https://github.com/GaloyMoney/cala/pull/776

    Somebody holds the ledger's head; sixty postings come meanwhile. A few connections wait, reads are answered, and
    when the head is free every posting is.
    """
    with ThreadPoolExecutor(60) as pool:
        with psycopg.connect(shared.url) as holder:
            holder.execute(HEAD_OF, ["main"])
            asked = [pool.submit(teller.post, f"{MAIN}/transfers", pay()) for teller in map(shared.teller, range(60))]
            wait_for_waiting(shared.url)
            assert balance(shared.admins[0], "users:alice") == 100_000
            assert balance(shared.admins[1], "users:alice") == 100_000
            assert ask(shared.url, WAITING)[0][0] <= len(shared.fronts)
            assert ask(shared.url, CONNECTED)[0][0] <= MOST_CONNECTIONS
        done, late = wait(asked, SECONDS)
    assert not late
    assert statuses([one.result() for one in done]) == {(201, ""): 60}
    assert balance(shared.admin, "users:alice") == 100_000 - 60
    shared.check_books()


def test_no_lock_of_one_ledger_keeps_another_waiting(shared: Crowd) -> None:
    """Pain 4. One lock for everybody, hidden in the product, made all journals wait for one.
    https://github.com/GaloyMoney/cala/issues/746

    (A SQLite file has one writer, and says so; its ledgers take turns.)
    """
    shared.admin.done("/v1/ledgers", {"name": "other"})
    shared.admin.done("/v1/ledgers/other/mint", {"account": "users:alice", "asset": USD, "amount": "100"})
    with ThreadPoolExecutor(1) as pool:
        with psycopg.connect(shared.url) as holder:
            holder.execute(HEAD_OF, ["main"])
            stuck = pool.submit(shared.teller(0).post, f"{MAIN}/transfers", pay())
            wait_for_waiting(shared.url)
            for admin in shared.admins:
                assert admin.post("/v1/ledgers/other/transfers", pay(1)).status_code == 201
            assert not stuck.done()
        assert stuck.result(SECONDS).status_code == 201


def test_concurrent_spending_never_takes_more_than_there_is(crowd: Crowd) -> None:
    """Pain 7. A balance that is read first and changed later lets two requests spend it, and "positive only" did not
    hold when calls came together. https://github.com/blnkfinance/blnk/issues/239
    https://github.com/envato/double_entry/issues/114
    """
    answers = crowd.at_once(16, lambda teller, number: teller.post(f"{MAIN}/transfers", pay(15_000)))

    assert statuses(answers) == {(201, ""): 6, (422, "insufficient_funds"): 10}
    assert balance(crowd.admin, "users:alice") == 10_000
    crowd.check_books()


def test_what_was_checked_before_acting_still_holds_in_the_act(crowd: Crowd) -> None:
    """Pain 7. Whoever reads a balance and acts on it can say so: of all that read the same version, one goes through,
    and the others learn that it moved. https://github.com/blnkfinance/blnk/issues/239
    """
    seen = crowd.admin.get(f"{MAIN}/balances", account="users:alice", asset=USD).json()["balances"][0]
    unmoved: dict[str, Any] = {"conditions": [{"account": "users:alice", "asset": USD, "version": seen["version"]}]}
    answers = crowd.at_once(12, lambda teller, _: teller.post(f"{MAIN}/transfers", pay(10, **unmoved)))

    assert statuses(answers) == {(201, ""): 1, (412, "condition_failed"): 11}
    assert all(answer.json()["retryable"] for answer in answers if answer.status_code == 412)
    assert balance(crowd.admin, "users:alice") == 99_990


def test_readers_beside_writers_never_see_half_of_a_payment(crowd: Crowd) -> None:
    """Pains 7 and 21. What readers see while others write is a state that the books were in: it adds up, and no
    balance is below its floor. https://github.com/flash-oss/medici/issues/119
    """
    ended = threading.Event()

    def read(teller: Teller) -> int:
        count = 0
        while not ended.is_set() or not count:
            found = teller.get(f"{MAIN}/trial-balance").json()
            assert found["balanced"], found
            assert not [row for row in found["rows"] if row["debit"] != "0" and row["account"] != "@issuance"], found
            count += 1
        return count

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read, crowd.teller(number)) for number in (0, 1)]
        try:
            crowd.at_once(
                6,
                lambda teller, number: [
                    teller.post(f"{MAIN}/transfers", pay(100_000, *pair))
                    for pair in [("users:alice", "users:carol"), ("users:carol", "users:alice")] * 4
                ],
            )
        finally:
            ended.set()
        assert all(reader.result(SECONDS) for reader in readers)
    crowd.check_books()
