"""Pains 24 and 25: events that do not stop, and periods that are closed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import pairwise

import httpx2

from tallystick.delivery.engine import Deliverer
from tallystick.delivery.ladder import Ladder
from tallystick.delivery.operations import new_endpoint
from tests.delivery.receiver import Receiver, Reply, Request
from tests.pains.support import MAIN, SECONDS, USD, Crowd, Teller, balance, pay, statuses

QUICK = Ladder(waits=(0.0, *[0.02] * 30), jitter=0.0)
STREAM = f"{MAIN}/events/stream"
STREAM_SECONDS = 10


# ---------------------------------------------------------------- 24


def test_who_follows_the_events_misses_none_while_many_write(crowd: Crowd) -> None:
    """Pain 24. Readers behind a cursor missed events that were committed late, and nothing said so.
    https://github.com/blnkfinance/blnk/issues/305

    At each service somebody asks for what is behind the last event that he saw, while twelve users post: the numbers
    have no gap, and each event names the hash of the one before.
    """
    start = crowd.admin.get(MAIN).json()["events"]
    end = start + 12 * 5

    def follow(teller: Teller) -> list[tuple[int, str, str]]:
        seen: list[tuple[int, str, str]] = []
        deadline = time.monotonic() + SECONDS
        while (seen[-1][0] if seen else start - 1) < end - 1:
            assert time.monotonic() < deadline, f"only {len(seen)} of {end - start} were seen"
            after = seen[-1][0] if seen else start - 1
            items = teller.get(f"{MAIN}/events", after=after, limit=20).json()["items"]
            seen += [(item["seq"], item["prev"], item["hash"]) for item in items]
        return seen

    with ThreadPoolExecutor(2) as pool:
        followers = [pool.submit(follow, crowd.teller(number)) for number in range(2)]
        crowd.at_once(12, lambda teller, _: [teller.done(f"{MAIN}/transfers", pay()) for _ in range(5)])
        for follower in followers:
            seen = follower.result(SECONDS)
            assert [seq for seq, _, _ in seen] == list(range(start, end))
            assert all(this[1] == last[2] for last, this in pairwise(seen))


def test_a_stream_that_breaks_is_resumed_without_a_gap_or_a_repeat(crowd: Crowd) -> None:
    """Pain 24. https://github.com/blnkfinance/blnk/issues/305"""
    start = crowd.admin.get(MAIN).json()["events"]
    for _ in range(9):
        crowd.admin.done(f"{MAIN}/transfers", pay())
    seen: list[int] = []
    while len(seen) < 9:
        teller = crowd.teller(len(seen))
        last = {"last-event-id": str(seen[-1] if seen else start - 1)}
        with teller.http.stream("GET", STREAM, headers=last) as stream:
            assert stream.status_code == 200
            numbers = numbers_of(stream)
            seen += [next(numbers) for _ in range(3)]  # and here the connection breaks
    assert seen == list(range(start, start + 9))


def numbers_of(stream: httpx2.Response) -> Iterator[int]:
    """The numbers of the events in a stream; its heartbeats see to it that nobody waits for ever."""
    deadline = time.monotonic() + STREAM_SECONDS
    for line in stream.iter_lines():
        assert time.monotonic() < deadline, "there are events that do not come"
        if line.startswith("id:"):
            yield int(line[3:])


def test_a_receiver_that_fails_is_asked_again_until_it_has_everything(crowd: Crowd) -> None:
    """Pain 24. After an error of the receiver, or of the publisher, webhooks silently stopped, or the server crashed.
    https://github.com/blnkfinance/blnk/issues/305 https://github.com/formancehq/ledger/pull/1419

    This one answers with errors, with nonsense, and not at all, before it takes each event.
    """
    failures = [Reply(status=500), Reply(drop=True), Reply(raw=b"no HTTP\r\n\r\n"), Reply(status=301)]
    tries: dict[int, int] = {}

    def moody(request: Request) -> Reply:
        tries[request.seq] = tries.get(request.seq, 0) + 1
        fails = request.seq % len(failures) if tries[request.seq] == 1 else len(failures)
        return [*failures, Reply()][fails]

    front = crowd.fronts[0]
    start = front.ledger.head.seq
    with Receiver(moody) as receiver:
        endpoint = new_endpoint(ledger="main", url=receiver.url, allow_private=True, start=start)
        front.control.add_endpoint(endpoint)
        stop = threading.Event()
        deliverer = Deliverer(front.database, front.control, ladder=QUICK, allow_private=True, look_seconds=0.01)
        thread = threading.Thread(target=deliverer.run, args=(stop,), daemon=True)
        thread.start()
        try:
            answers = [crowd.admins[-1].post(f"{MAIN}/transfers", pay()) for _ in range(12)]
            assert statuses(answers) == {(201, ""): 12}
            receiver.wait_for(lambda: set(receiver.seqs) >= set(range(start, start + 12)), 40)
        finally:
            stop.set()
            thread.join(30)
            deliverer.close()
    assert receiver.seqs == list(range(start, start + 12))
    assert not front.control.deliveries(endpoint.id, state="dead")
    assert crowd.admin.get(f"{MAIN}/endpoints/{endpoint.id}").json()["state"] == "enabled"


# ---------------------------------------------------------------- 25


def now_of(crowd: Crowd, seconds: float = 0) -> str:
    """The time of the last event, and some seconds."""
    moment = datetime.fromisoformat(crowd.admin.get(MAIN).json()["time"]) + timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_nothing_takes_effect_in_a_closed_period_and_its_balances_stay(crowd: Crowd) -> None:
    """Pain 25. A year was closed by hand, with entries that did not balance in several currencies, and a reversal
    could still reach into a closed period. https://github.com/plaintextaccounting/hledger/issues/1164
    https://github.com/plaintextaccounting/hledger/issues/1420 https://github.com/apache/fineract/pull/318

    Closing needs no entries: the balances at the end are there for ever. What is undone later, takes effect later.
    """
    crowd.admin.done(f"{MAIN}/mint", {"account": "users:alice", "asset": "EUR/2", "amount": "70"})
    sale = crowd.admin.done(f"{MAIN}/transfers", pay(1_000))["seq"]
    end, before = now_of(crowd, 0.000001), now_of(crowd)
    crowd.admin.done(f"{MAIN}/periods/close", {"until": end})
    trial = crowd.admin.get(f"{MAIN}/trial-balance", as_of=before).json()
    assert (trial["balanced"], set(trial["totals"])) == (True, {USD, "EUR/2"})

    late = {"type": "transfer", "legs": [pay(5)], "effective": before}
    for admin in crowd.admins:
        answer = admin.post(f"{MAIN}/transactions", late)
        assert (answer.status_code, answer.json()["code"]) == (422, "period_closed")
        batch = {"commands": [{"command": "post", **late}], "atomic": True}
        assert admin.post(f"{MAIN}/transactions/bulk", batch).status_code == 422
    undone = crowd.admins[-1].done(f"{MAIN}/transactions/{sale}/reverse", {})
    found = crowd.admin.get(f"{MAIN}/transactions/{undone['seq']}").json()
    assert found["effective"] >= end
    assert balance(crowd.admin, "users:alice") == 100_000
    for admin in crowd.admins:
        assert admin.get(f"{MAIN}/trial-balance", as_of=before).json() == trial
    crowd.check_books()


def test_a_period_that_is_closed_while_others_post_is_closed_for_all_of_them(crowd: Crowd) -> None:
    """Pain 25, as a race: whatever was answered before the closing is in it, and nothing comes after it.
    https://github.com/apache/fineract/pull/318
    """
    end, before = now_of(crowd, 0.000001), now_of(crowd)
    late = {"type": "transfer", "legs": [pay(5)], "effective": before}

    def act(teller: Teller, number: int) -> list[object]:
        if number == 0:
            return [teller.post(f"{MAIN}/periods/close", {"until": end})]
        return [teller.post(f"{MAIN}/transactions", late) for _ in range(4)]

    closing, *others = crowd.at_once(8, act)
    closed = closing[0].json()["seq"]  # type: ignore[attr-defined]
    posted = [one.json()["seq"] for some in others for one in some if one.status_code == 201]  # type: ignore[attr-defined]
    refused = {one.json()["code"] for some in others for one in some if one.status_code != 201}  # type: ignore[attr-defined]
    assert all(seq < closed for seq in posted)
    assert refused <= {"period_closed"}
    assert balance(crowd.admin, "users:alice", as_of=before) == 100_000 - 5 * len(posted)
    crowd.check_books()


def test_each_tenant_reads_his_own_balances_and_no_one_else_s(crowd: Crowd) -> None:
    """Pain 25. Balances of all tenants came in one list, which could not be narrowed to one of them.
    https://github.com/tigerbeetle/tigerbeetle/issues/2525
    """
    for tenant in ("north", "south"):
        crowd.admin.done("/v1/ledgers", {"name": tenant})
        amount = str(len(tenant) * (1 if tenant == "north" else 2))
        crowd.admin.done(f"/v1/ledgers/{tenant}/mint", {"account": f"{tenant}:till", "asset": USD, "amount": amount})
    for tenant, amount in (("north", "5"), ("south", "10")):
        trial = crowd.admins[-1].get(f"/v1/ledgers/{tenant}/trial-balance").json()
        assert {row["account"]: row["credit"] for row in trial["rows"] if row["credit"] != "0"} == {
            f"{tenant}:till": amount
        }
        tills = crowd.admins[-1].get(f"/v1/ledgers/{tenant}/accounts", prefix="south:").json()["items"]
        assert [one["address"] for one in tills] == (["south:till"] if tenant == "south" else [])
