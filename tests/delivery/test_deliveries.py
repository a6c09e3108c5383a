"""Deliveries to a real receiver: at least once, in order per account, within bounds, whatever the receiver does."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tallystick.control.records import Attempt, Delivery
from tallystick.delivery import backlog, courier
from tallystick.delivery.engine import Deliverer
from tallystick.delivery.ladder import Ladder
from tallystick.delivery.operations import change_url, disable, enable
from tallystick.delivery.outbox import Outbox
from tallystick.delivery.signatures import verify
from tallystick.delivery.transport import Sent
from tallystick.errors import InvalidInput, NotFound, Unavailable
from tests.delivery.receiver import Receiver, Reply, Request
from tests.delivery.scenes import QUICK, Scene, running


def assert_in_order(accepted: list[Request]) -> None:
    """Of each account, each event's first acceptance comes after those of all earlier events."""
    last: dict[str, int] = defaultdict(lambda: -1)
    seen: set[int] = set()
    for request in accepted:
        if request.seq in seen:
            continue
        seen.add(request.seq)
        for account in request.accounts:
            assert request.seq > last[account], f"{request.seq} of {account} came after {last[account]}"
            last[account] = request.seq


def random_pairs(number: int, accounts: int, seed: int = 1) -> list[tuple[int, int]]:
    source = random.Random(seed)
    return [tuple(source.sample(range(accounts), 2)) for _ in range(number)]  # type: ignore[misc]


# ---------------------------------------------------------------- the usual course


def test_every_event_is_delivered_once_signed_and_the_cursor_follows(scene: Scene, receiver: Receiver) -> None:
    endpoint = scene.endpoint(receiver.url, start=0)
    scene.fund(5)
    with scene.deliverer() as deliverer:
        standing = deliverer.run_once(endpoint.id)
    assert [request.seq for request in sorted(receiver.requests, key=lambda one: one.seq)] == list(
        range(scene.ledger.head.seq)
    )
    for request in receiver.requests:
        verify(endpoint.secrets[0], request.headers, request.body)
    assert (standing.state, standing.accepted, standing.waiting, standing.lag_seconds) == ("delivering", 6, 0, 0.0)
    assert standing.cursor == scene.control.cursor(endpoint.id) == scene.ledger.head.seq
    assert scene.control.deliveries(endpoint.id) == []
    log = scene.control.attempts(endpoint.id)
    found = {(try_.seq, try_.number, try_.status, try_.problem) for try_ in log}
    assert found == {(seq, 1, 204, "") for seq in range(6)}


def test_nothing_is_delivered_twice_by_asking_twice(scene: Scene, receiver: Receiver) -> None:
    endpoint = scene.endpoint(receiver.url, start=0)
    scene.fund(3)
    with scene.deliverer() as deliverer:
        deliverer.run_once(endpoint.id)
        deliverer.run_once(endpoint.id)
        scene.pay((0, 1))
        deliverer.run_once(endpoint.id)
    assert len(receiver.requests) == scene.ledger.head.seq


def test_what_the_filter_leaves_out_moves_the_cursor_all_the_same(scene: Scene, receiver: Receiver) -> None:
    endpoint = scene.endpoint(receiver.url, start=0, types=["burn"])
    scene.fund(5)
    with scene.deliverer() as deliverer:
        assert deliverer.run_once(endpoint.id).cursor == scene.ledger.head.seq
    assert receiver.requests == []


def test_a_running_deliverer_tells_what_is_posted_meanwhile(scene: Scene, receiver: Receiver) -> None:
    scene.fund(2)
    scene.endpoint(receiver.url)
    with scene.deliverer() as deliverer, running(deliverer):
        for number in range(1, 4):
            scene.pay((0, 1))
            receiver.wait_for(lambda number=number: len(receiver.accepted) == number)  # type: ignore[misc]


def test_an_endpoint_that_is_added_or_changed_while_it_runs_is_followed(scene: Scene, receiver: Receiver) -> None:
    scene.fund(2)
    with Receiver() as other, scene.deliverer() as deliverer, running(deliverer):
        endpoint = scene.endpoint(receiver.url)
        scene.pay((0, 1))
        receiver.wait_for(lambda: len(receiver.accepted) == 1)
        change_url(scene.control, endpoint.id, other.url, allow_private=True)

        def reached() -> bool:
            scene.pay((0, 1))
            time.sleep(0.05)
            return bool(other.accepted)

        other.wait_for(reached)
        disable(scene.control, endpoint.id)
        other.wait_for(lambda: deliverer.states() == [])
        told = len(other.requests)
        scene.pay((0, 1))
        time.sleep(0.1)
        assert len(other.requests) == told


def test_stopping_finishes_and_keeps_what_is_on_its_way(scene: Scene, receiver: Receiver) -> None:
    scene.fund(20)
    endpoint = scene.endpoint(receiver.url)
    receiver.behaviour = lambda request: Reply(delay_seconds=0.1)
    first = scene.pay(*[(2 * i, 2 * i + 1) for i in range(10)])[0]
    with scene.deliverer() as deliverer, running(deliverer) as end:
        receiver.wait_for(lambda: len(receiver.requests) >= 5)
        end()
    kept = scene.control.cursor(endpoint.id)
    assert kept == first + 10
    assert len(receiver.requests) == 10


# ---------------------------------------------------------------- failures and order


def test_one_in_ten_failing_loses_nothing_and_keeps_each_accounts_order(filed: Scene, receiver: Receiver) -> None:
    filed.fund(30)
    endpoint = filed.endpoint(receiver.url)
    seqs = filed.pay(*random_pairs(2_000, 30))
    source = random.Random(2)
    choices = [Reply(500), Reply(404), Reply(drop=True), Reply(301)]
    receiver.behaviour = lambda request: source.choice(choices) if source.random() < 0.1 else Reply()
    with filed.deliverer() as deliverer:
        standing = deliverer.run_once(endpoint.id)
    assert sorted(receiver.seqs) == seqs
    assert_in_order(receiver.accepted)
    log = [try_ for try_ in filed.control.attempts(endpoint.id, limit=10_000) if try_.problem]
    assert len(log) == standing.failed > 100
    assert filed.control.cursor(endpoint.id) == seqs[-1] + 1
    assert filed.control.deliveries(endpoint.id) == []


def test_later_events_of_the_same_accounts_wait_and_others_go_on(scene: Scene, receiver: Receiver) -> None:
    scene.fund(8)
    endpoint = scene.endpoint(receiver.url)
    a, b, c, d, e = scene.pay((0, 1), (1, 2), (2, 3), (4, 5), (5, 6))
    receiver.behaviour = lambda request: Reply(500 if request.seq == a else 204)
    with scene.deliverer(ladder=Ladder(waits=(0, 3_600, 3_600), jitter=0)) as deliverer:
        standing = deliverer.run_once(endpoint.id)
    assert receiver.seqs == [d, e]
    assert (standing.waiting, standing.cursor) == (3, e + 1)
    first, *others = scene.control.deliveries(endpoint.id)
    assert (first.seq, first.attempts, first.state, first.problem) == (a, 1, "waiting", "it answered 500")
    assert first.due > first.due[:10]
    assert [(row.seq, row.attempts, row.due, row.lanes) for row in others] == [
        (b, 0, "", ("users:1", "users:2")),
        (c, 0, "", ("users:2", "users:3")),
    ]


def test_another_process_goes_on_in_order_from_what_was_kept(filed: Scene, receiver: Receiver) -> None:
    filed.fund(8)
    endpoint = filed.endpoint(receiver.url)
    a, b, c, d, e = filed.pay((0, 1), (1, 2), (2, 3), (4, 5), (5, 6))
    receiver.behaviour = lambda request: Reply(500 if request.seq == a else 204)
    with filed.deliverer(ladder=Ladder(waits=(0, 0.5, 3_600), jitter=0)) as deliverer:
        deliverer.run_once(endpoint.id)
    (f,) = filed.pay((3, 6))
    receiver.behaviour = lambda request: Reply()
    time.sleep(0.5)
    with filed.deliverer() as deliverer:
        deliverer.run_once(endpoint.id)
    assert receiver.seqs == [d, e, a, b, c, f]
    assert_in_order(receiver.accepted)
    assert filed.control.deliveries(endpoint.id) == []
    assert [try_.number for try_ in filed.control.attempts(endpoint.id, seq=a)] == [2, 1]


def test_the_same_id_is_told_at_every_try_and_the_attempts_are_logged(scene: Scene, receiver: Receiver) -> None:
    scene.fund(2)
    endpoint = scene.endpoint(receiver.url)
    (seq,) = scene.pay((0, 1))
    replies = [Reply(500), Reply(503), Reply(204)]
    receiver.behaviour = lambda request: replies[request.number]
    with scene.deliverer() as deliverer:
        deliverer.run_once(endpoint.id)
    assert {request.id for request in receiver.requests} == {f"main/{seq}"}
    log = scene.control.attempts(endpoint.id, seq=seq)
    assert [(try_.number, try_.status) for try_ in reversed(log)] == [(1, 500), (2, 503), (3, 204)]
    assert [bool(try_.problem) for try_ in reversed(log)] == [True, True, False]


def test_after_the_last_rung_it_is_dead_and_its_lane_goes_on(scene: Scene, receiver: Receiver) -> None:
    scene.fund(3)
    endpoint = scene.endpoint(receiver.url)
    a, b = scene.pay((0, 1), (1, 2))
    receiver.behaviour = lambda request: Reply(500 if request.seq == a else 204)
    with scene.deliverer(ladder=Ladder(waits=(0, 0, 0), jitter=0)) as deliverer:
        standing = deliverer.run_once(endpoint.id)
    assert [request.seq for request in receiver.requests] == [a, a, a, b]
    assert (standing.dead, standing.waiting, standing.cursor) == (1, 0, b + 1)
    (dead,) = scene.control.deliveries(endpoint.id, state="dead")
    assert (dead.seq, dead.attempts, dead.problem) == (a, 3, "it answered 500")


def test_a_lane_goes_on_only_when_the_death_is_kept(scene: Scene, receiver: Receiver, monkeypatch: Any) -> None:
    scene.fund(3)
    endpoint = scene.endpoint(receiver.url)
    a, b = scene.pay((0, 1), (1, 2))
    receiver.behaviour = lambda request: Reply(500 if request.seq == a else 204)
    kept: list[str] = []
    settle = scene.control.settle

    def watched(id: str, **more: Any) -> bool:
        done = settle(id, **more)
        kept.extend(row.state for row in more.get("deliveries", ()))
        assert [request.seq for request in receiver.requests] == [a]
        monkeypatch.setattr(scene.control, "settle", settle)
        return done

    monkeypatch.setattr(scene.control, "settle", watched)
    with scene.deliverer(ladder=Ladder(waits=(0,), jitter=0)) as deliverer:
        deliverer.run_once(endpoint.id)
    assert kept == ["dead"]
    assert receiver.seqs == [b]


def test_410_disables_the_endpoint_and_loses_nothing(scene: Scene, receiver: Receiver) -> None:
    scene.fund(4)
    endpoint = scene.endpoint(receiver.url)
    seqs = scene.pay((0, 1), (2, 3), (1, 2))
    receiver.behaviour = lambda request: Reply(410)
    with scene.deliverer() as deliverer:
        assert deliverer.run_once(endpoint.id).state == "disabled"
        found = scene.control.endpoint(endpoint.id)
        assert found is not None
        assert (found.state, found.reason) == ("disabled", "it answered 410")
        asked = len(receiver.requests)
        assert deliverer.run_once(endpoint.id).state == "disabled"
        assert len(receiver.requests) == asked
        enable(scene.control, endpoint.id)
        receiver.behaviour = lambda request: Reply()
        deliverer.run_once(endpoint.id)
    assert sorted(receiver.seqs) == seqs
    assert_in_order(receiver.accepted)


def test_retry_after_is_kept_and_the_receiver_left_alone_so_long(scene: Scene, receiver: Receiver) -> None:
    scene.fund(40)
    endpoint = scene.endpoint(receiver.url)
    scene.pay(*[(2 * i, 2 * i + 1) for i in range(20)])
    receiver.behaviour = lambda request: Reply(429, headers={"retry-after": "3600"})
    with scene.deliverer(concurrency=1) as deliverer:
        standing = deliverer.run_once(endpoint.id)
        assert len(receiver.requests) == 1
        assert standing.waiting == 20
    (row, *_) = [row for row in scene.control.deliveries(endpoint.id) if row.attempts]
    (try_,) = scene.control.attempts(endpoint.id)
    wait = datetime.fromisoformat(row.due) - datetime.fromisoformat(try_.time)
    assert 3_590 < wait.total_seconds() < 3_610


# ---------------------------------------------------------------- receivers that are down or slow


def test_a_receiver_that_was_down_catches_up_in_order(filed: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "WINDOW", 200)
    with Receiver() as gone:
        port = gone.port
    filed.fund(30)
    endpoint = filed.endpoint(f"http://127.0.0.1:{port}/hook")
    seqs = filed.pay(*random_pairs(1_000, 30))
    ladder = Ladder(waits=(0.0,) + (0.05,) * 99, jitter=0.0)
    with filed.deliverer(ladder=ladder, max_pause_seconds=0.2) as deliverer, running(deliverer):
        deadline = time.monotonic() + 20
        while not any(one.failed > 25 for one in deliverer.states()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (standing,) = deliverer.states()
        assert standing.waiting <= 200
        assert len(filed.control.deliveries(endpoint.id)) <= 200
        with Receiver(port=port) as back:
            back.wait_for(lambda: len(back.seqs) == len(seqs))
            assert sorted(back.seqs) == seqs
            assert_in_order(back.accepted)
            back.wait_for(lambda: filed.control.cursor(endpoint.id) == seqs[-1] + 1)
            back.wait_for(lambda: not filed.control.deliveries(endpoint.id))


def test_a_receiver_that_is_down_uses_up_few_rungs(scene: Scene) -> None:
    with Receiver() as gone:
        url = gone.url
    scene.fund(400)
    endpoint = scene.endpoint(url)
    scene.pay(*[(2 * i, 2 * i + 1) for i in range(200)])
    with scene.deliverer(ladder=QUICK) as deliverer, running(deliverer):
        deadline = time.monotonic() + 10
        while len(scene.control.attempts(endpoint.id)) < 20:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(1.0)
        # Without a pause 200 messages would have been tried four times each by now.
        assert len(scene.control.attempts(endpoint.id)) < 100
        assert scene.control.deliveries(endpoint.id, state="dead") == []


def test_a_slow_receiver_gets_many_at_once_but_no_more_than_allowed(scene: Scene, receiver: Receiver) -> None:
    scene.fund(100)
    endpoint = scene.endpoint(receiver.url)
    seqs = scene.pay(*[(2 * i, 2 * i + 1) for i in range(50)])
    receiver.behaviour = lambda request: Reply(delay_seconds=0.05)
    with scene.deliverer(concurrency=10) as deliverer:
        deliverer.run_once(endpoint.id)
    assert sorted(receiver.seqs) == seqs
    assert receiver.most_at_once == 10


def test_one_account_never_has_two_messages_on_their_way(scene: Scene, receiver: Receiver) -> None:
    scene.fund(2)
    endpoint = scene.endpoint(receiver.url)
    seqs = scene.pay(*[(0, 1)] * 20)
    receiver.behaviour = lambda request: Reply(delay_seconds=0.005)
    with scene.deliverer() as deliverer:
        deliverer.run_once(endpoint.id)
    assert [request.seq for request in receiver.requests] == seqs
    assert receiver.most_at_once == 1


def test_a_slow_endpoint_does_not_hold_up_another(scene: Scene, receiver: Receiver) -> None:
    scene.fund(200)
    with Receiver(lambda request: Reply(delay_seconds=2)) as slow:
        scene.endpoint(slow.url)
        scene.endpoint(receiver.url)
        seqs = scene.pay(*[(2 * i, 2 * i + 1) for i in range(100)])
        with scene.deliverer(lease_seconds=1.0) as deliverer, running(deliverer):
            receiver.wait_for(lambda: sorted(receiver.seqs) == seqs, 1.9)
            slow.behaviour = lambda request: Reply()


def test_one_slow_message_holds_back_neither_others_nor_the_cursor(
    scene: Scene, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MAX_AHEAD", 20)
    scene.fund(200)
    endpoint = scene.endpoint(receiver.url)
    seqs = scene.pay(*[(2 * i, 2 * i + 1) for i in range(100)])
    receiver.behaviour = lambda request: Reply(delay_seconds=2 if request.seq == seqs[0] else 0)
    with scene.deliverer() as deliverer, running(deliverer):
        receiver.wait_for(lambda: scene.control.cursor(endpoint.id) > seqs[20], 1.9)
        assert [row.seq for row in scene.control.deliveries(endpoint.id)] == [seqs[0]]
        receiver.wait_for(lambda: scene.control.deliveries(endpoint.id) == [])
    assert len(receiver.requests) == 100


def test_messages_that_are_not_held_are_read_again(
    scene: Scene, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "HELD_BYTES", 2_000)
    scene.fund(10)
    endpoint = scene.endpoint(receiver.url)
    seqs = scene.pay(*random_pairs(50, 10))
    with scene.deliverer() as deliverer:
        deliverer.run_once(endpoint.id)
    assert sorted(receiver.seqs) == seqs
    assert_in_order(receiver.accepted)
    for request in receiver.requests:
        verify(endpoint.secrets[0], request.headers, request.body)


def test_more_records_than_the_window_are_worked_off_in_parts(
    scene: Scene, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (backlog, courier):
        monkeypatch.setattr(module, "WINDOW", 20)
    scene.fund(4)
    endpoint = scene.endpoint(receiver.url)
    seqs = scene.pay(*random_pairs(100, 4))
    rows = [Delivery(endpoint=endpoint.id, seq=seq, lanes=("users:x",)) for seq in seqs]
    scene.control.settle(endpoint.id, cursor=seqs[-1] + 1, deliveries=rows)
    (last,) = scene.pay((0, 1))
    with scene.deliverer() as deliverer, running(deliverer):
        receiver.wait_for(lambda: len(receiver.seqs) == 101)
    assert receiver.seqs == [*seqs, last]


# ---------------------------------------------------------------- leases


def test_two_deliverers_on_one_endpoint_never_both_deliver(filed: Scene, receiver: Receiver) -> None:
    filed.fund(20)
    endpoint = filed.endpoint(receiver.url)
    seqs = filed.pay(*random_pairs(1_000, 20))
    with (
        filed.deliverer(holder="one") as one,
        filed.deliverer(holder="two") as two,
        running(one),
        running(two),
    ):
        receiver.wait_for(lambda: filed.control.cursor(endpoint.id) == seqs[-1] + 1)
        states = sorted(standing.state for standing in one.states() + two.states())
    assert len(receiver.requests) == len(seqs)
    assert_in_order(receiver.accepted)
    assert states in (["delivering"], ["delivering", "elsewhere"])


def test_one_deliverer_asked_twice_at_once_delivers_once(scene: Scene, receiver: Receiver) -> None:
    scene.fund(40)
    endpoint = scene.endpoint(receiver.url)
    seqs = scene.pay(*[(2 * i, 2 * i + 1) for i in range(20)])
    receiver.behaviour = lambda request: Reply(delay_seconds=0.05)
    with scene.deliverer(concurrency=2) as deliverer:
        threads = [threading.Thread(target=deliverer.run_once, args=(endpoint.id,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(request.seq for request in receiver.requests) == seqs


def test_while_another_holds_the_lease_nothing_is_delivered(scene: Scene, receiver: Receiver) -> None:
    endpoint = scene.endpoint(receiver.url, start=0)
    scene.fund(3)
    lease = scene.control.acquire(f"deliver:{endpoint.id}", "another", 60)
    assert lease is not None
    with scene.deliverer() as deliverer:
        assert deliverer.run_once(endpoint.id).state == "elsewhere"
        assert receiver.requests == []
        scene.control.release(lease)
        assert deliverer.run_once(endpoint.id).accepted == 4


def test_who_has_lost_the_lease_keeps_nothing_and_sends_no_more(scene: Scene, receiver: Receiver) -> None:
    """As after a long pause of the process: the lease ran out, and another has it now."""
    scene.fund(40)
    endpoint = scene.endpoint(receiver.url)
    seqs = scene.pay(*[(0, 1)] * 20)
    kept = list[Attempt]()

    def steal(request: Request) -> Reply:
        if request.number == 2:
            (lease,) = scene.control.leases()
            scene.control.release(lease)
            assert scene.control.acquire(lease.name, "another", 60) is not None
            kept.extend(scene.control.attempts(endpoint.id))
        return Reply(delay_seconds=0.05)

    receiver.behaviour = steal
    with scene.deliverer() as deliverer:
        standing = deliverer.run_once(endpoint.id)
    assert standing.state == "elsewhere"
    assert 3 <= len(receiver.requests) < 20
    assert scene.control.attempts(endpoint.id) == kept
    assert scene.control.cursor(endpoint.id) <= seqs[2]
    (lease,) = scene.control.leases()
    assert lease.holder == "another"


def test_without_renewal_what_is_on_its_way_is_given_up_in_time(
    scene: Scene, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.fund(2)
    endpoint = scene.endpoint(receiver.url)
    scene.pay((0, 1))
    acquire, leases = scene.control.acquire, []

    def once(name: str, holder: str, seconds: float) -> Any:
        if leases:
            raise Unavailable(reason="gone")
        leases.append(acquire(name, holder, seconds))
        return leases[0]

    monkeypatch.setattr(scene.control, "acquire", once)
    receiver.behaviour = lambda request: Reply(delay_seconds=30)
    began = time.monotonic()
    with scene.deliverer(lease_seconds=0.6) as deliverer:
        deliverer.run_once(endpoint.id)
    assert 0.5 < time.monotonic() - began < 5
    assert scene.control.cursor(endpoint.id) == endpoint.start


def test_not_even_a_store_that_hangs_keeps_something_on_its_way_for_longer_than_the_lease(
    scene: Scene, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.fund(2)
    endpoint = scene.endpoint(receiver.url)
    scene.pay((0, 1))
    receiver.behaviour = lambda request: Reply(delay_seconds=30)
    deliveries, acquire, calls, goes_on = scene.control.deliveries, scene.control.acquire, [], threading.Event()

    def hanging(*names: Any, **more: Any) -> list[Delivery]:
        if receiver.requests:
            goes_on.wait(20)
        return deliveries(*names, **more)

    def once(*names: Any) -> Any:
        calls.append(names)
        if len(calls) > 1:
            raise Unavailable(reason="gone")
        return acquire(*names)

    monkeypatch.setattr(scene.control, "deliveries", hanging)
    monkeypatch.setattr(scene.control, "acquire", once)
    with scene.deliverer(lease_seconds=0.6) as deliverer:
        thread = threading.Thread(target=deliverer.run_once, args=(endpoint.id,))
        thread.start()
        receiver.wait_for(lambda: len(receiver.requests) == 1)
        receiver.wait_for(lambda: receiver.lost == 1, 5)
        goes_on.set()
        thread.join(10)
    assert not thread.is_alive()


# ---------------------------------------------------------------- stores that fail


def test_a_control_store_that_keeps_nothing_stops_deliveries_and_loses_none(
    filed: Scene, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    filed.fund(10)
    endpoint = filed.endpoint(receiver.url)
    settle, broken = filed.control.settle, threading.Event()

    def write(*names: Any, **more: Any) -> bool:
        if broken.is_set():
            raise Unavailable(reason="the disk is full")
        return settle(*names, **more)

    monkeypatch.setattr(filed.control, "settle", write)
    with filed.deliverer() as deliverer, running(deliverer):
        filed.pay((0, 1))
        receiver.wait_for(lambda: len(receiver.accepted) == 1)
        broken.set()
        filed.pay((0, 1))
        receiver.wait_for(lambda: len(receiver.accepted) == 2)
        receiver.wait_for(lambda: deliverer.states()[0].state == "stopped")
        assert "the disk is full" in deliverer.states()[0].problem
        before = len(receiver.requests)
        seqs = filed.pay(*random_pairs(200, 10))
        time.sleep(0.3)
        assert len(receiver.requests) == before
        broken.clear()
        receiver.wait_for(lambda: filed.control.cursor(endpoint.id) == seqs[-1] + 1)
        receiver.wait_for(lambda: deliverer.states()[0].state == "delivering")
    assert len(receiver.seqs) == 202
    assert_in_order(receiver.accepted)


def test_what_a_crash_would_repeat_is_bounded(
    scene: Scene, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "MAX_UNSETTLED", 10)
    scene.fund(400)
    endpoint = scene.endpoint(receiver.url)
    seqs = scene.pay(*[(2 * i, 2 * i + 1) for i in range(200)])
    settle, may_write = scene.control.settle, threading.Event()

    def slow(*names: Any, **more: Any) -> bool:
        may_write.wait(10)
        return settle(*names, **more)

    monkeypatch.setattr(scene.control, "settle", slow)
    with scene.deliverer(concurrency=5) as deliverer, running(deliverer):
        receiver.wait_for(lambda: len(receiver.requests) >= 10)
        time.sleep(0.3)
        assert len(receiver.requests) <= 15
        may_write.set()
        receiver.wait_for(lambda: scene.control.cursor(endpoint.id) == seqs[-1] + 1)
    assert sorted(receiver.seqs) == seqs


def test_it_can_be_stopped_while_the_control_store_does_not_answer(
    scene: Scene, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.fund(2)
    endpoint = scene.endpoint(receiver.url)
    (seq,) = scene.pay((0, 1))

    def never(*names: Any, **more: Any) -> bool:
        raise Unavailable(reason="gone")

    with monkeypatch.context() as patch:
        patch.setattr(scene.control, "settle", never)
        with scene.deliverer() as deliverer, running(deliverer) as end:
            receiver.wait_for(lambda: [one.state for one in deliverer.states()] == ["stopped"])
            began = time.monotonic()
            end()
            assert time.monotonic() - began < 5
    with scene.deliverer() as deliverer:
        deliverer.run_once(endpoint.id)
    assert [request.seq for request in receiver.requests] == [seq, seq]  # told again, under the same id


def test_an_endpoint_that_is_removed_meanwhile_is_let_go(scene: Scene, receiver: Receiver) -> None:
    scene.fund(2)
    endpoint = scene.endpoint(receiver.url)
    with scene.deliverer() as deliverer, running(deliverer):
        scene.pay((0, 1))
        receiver.wait_for(lambda: len(receiver.accepted) == 1)
        scene.control.remove_endpoint(endpoint.id)
        receiver.wait_for(lambda: deliverer.states() == [])


def test_an_endpoint_of_a_kind_that_nothing_delivers_to_is_said_to_be_stopped(scene: Scene) -> None:
    endpoint = scene.endpoint("somewhere", kind="nats")
    with scene.deliverer() as deliverer, running(deliverer):
        deadline = time.monotonic() + 5
        while not deliverer.states():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (standing,) = deliverer.states()
    assert (standing.endpoint, standing.state) == (endpoint.id, "stopped")
    assert "nats" in standing.problem


def test_a_control_file_that_another_holds_for_long_is_such_a_failure(
    filed: Scene, receiver: Receiver, tmp_path: Path
) -> None:
    filed.fund(10)
    endpoint = filed.endpoint(receiver.url)
    (path,) = [path for path in tmp_path.iterdir() if path.name.endswith("-service")]
    blocker = sqlite3.connect(path, timeout=1.0, check_same_thread=False)
    seqs = filed.pay(*random_pairs(50, 10))
    with filed.deliverer() as deliverer, running(deliverer):
        receiver.wait_for(lambda: filed.control.cursor(endpoint.id) == seqs[-1] + 1)
        blocker.execute("begin immediate")  # nobody else can write now
        more = filed.pay(*random_pairs(50, 10))
        receiver.wait_for(lambda: len(receiver.seqs) == 100)
        assert filed.control.cursor(endpoint.id) == seqs[-1] + 1
        blocker.rollback()
        receiver.wait_for(lambda: filed.control.cursor(endpoint.id) == more[-1] + 1)
    blocker.close()
    assert_in_order(receiver.accepted)


def test_a_ledger_that_cannot_be_read_is_told_and_read_later(
    scene: Scene, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.fund(2)
    endpoint = scene.endpoint(receiver.url)

    def broken(self: Outbox, first: int, limit: int) -> Any:
        raise Unavailable(reason="the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "take", broken)
        (seq,) = scene.pay((0, 1))
        with scene.deliverer() as deliverer:
            standing = deliverer.run_once(endpoint.id)
            assert (standing.state, "the database is away" in standing.problem) == ("stopped", True)
    with scene.deliverer() as deliverer:
        assert deliverer.run_once(endpoint.id).state == "delivering"
    assert receiver.seqs == [seq]


def test_a_transport_that_raises_is_a_failed_try(scene: Scene) -> None:
    class Broken:
        async def send(self, endpoint: Any, message: Any) -> Sent:
            raise ZeroDivisionError

        async def close(self) -> None: ...

    scene.fund(2)
    endpoint = scene.endpoint("somewhere", kind="file")
    scene.pay((0, 1))
    with scene.deliverer(transports={"file": Broken()}, ladder=Ladder(waits=(0, 0), jitter=0)) as deliverer:
        assert deliverer.run_once(endpoint.id).dead == 1
    problems = {try_.problem for try_ in scene.control.attempts(endpoint.id)}
    assert problems == {"the transport failed: ZeroDivisionError"}


def test_a_transport_may_carry_several_at_once(scene: Scene) -> None:
    calls: list[list[int]] = []

    class Batches:
        batch_size = 10

        async def send(self, endpoint: Any, message: Any) -> Sent:
            raise AssertionError

        async def send_many(self, endpoint: Any, messages: Any) -> list[Sent]:
            lanes = [lane for message in messages for lane in message.lanes]
            assert len(set(lanes)) == len(lanes)
            calls.append([message.seq for message in messages])
            return [Sent(accepted=message.seq % 3 > 0 or message.attempt > 1) for message in messages][:9]

        async def close(self) -> None: ...

    scene.fund(60)
    endpoint = scene.endpoint("somewhere", kind="file")
    seqs = scene.pay(*[(2 * i, 2 * i + 1) for i in range(30)])
    with scene.deliverer(transports={"file": Batches()}, max_pause_seconds=0.01) as deliverer:
        standing = deliverer.run_once(endpoint.id)
        assert standing.accepted == 30 or deliverer.run_once(endpoint.id).waiting == 0
    assert max(len(call) for call in calls) == 10
    assert {seq for call in calls for seq in call} == set(seqs)


def test_telemetry_hears_how_tries_ended(scene: Scene, receiver: Receiver) -> None:
    told: dict[str, int] = defaultdict(int)

    class Ear:
        def delivered(self, endpoint: str, outcome: str, number: int = 1) -> None:
            told[outcome] += number

        def lag(self, ledger: str, endpoint: str, seconds: float) -> None: ...

    scene.fund(3)
    endpoint = scene.endpoint(receiver.url)
    a, *_ = scene.pay((0, 1), (1, 2), (0, 2))
    receiver.behaviour = lambda request: Reply(500 if request.seq == a else 204)
    with scene.deliverer(telemetry=Ear(), ladder=Ladder(waits=(0, 0, 0), jitter=0)) as deliverer:
        deliverer.run_once(endpoint.id)
    assert dict(told) == {"accepted": 2, "failed": 2, "dead": 1}


# ---------------------------------------------------------------- odds and ends


def test_what_is_not_there_is_said(scene: Scene) -> None:
    with scene.deliverer() as deliverer:
        with pytest.raises(NotFound):
            deliverer.run_once("nothing")
        with pytest.raises(NotFound):
            deliverer.ping("nothing")
        endpoint = scene.endpoint("somewhere", kind="nats")
        with pytest.raises(InvalidInput, match="nats"):
            deliverer.run_once(endpoint.id)
        deliverer.close()
        with pytest.raises(InvalidInput, match="closed"):
            deliverer.run_once(endpoint.id)


def test_closing_ends_what_is_running(scene: Scene, receiver: Receiver) -> None:
    scene.fund(2)
    scene.endpoint(receiver.url)
    deliverer = scene.deliverer()
    with running(deliverer):
        scene.pay((0, 1))
        receiver.wait_for(lambda: len(receiver.accepted) == 1)
        deliverer.close()
        deliverer.close()
    assert len(receiver.requests) == 1


def test_concurrency_has_bounds(scene: Scene) -> None:
    for wrong in (0, 1_025):
        with pytest.raises(InvalidInput):
            scene.deliverer(concurrency=wrong)


def test_a_ping_arrives_and_is_not_logged(scene: Scene, receiver: Receiver) -> None:
    endpoint = scene.endpoint(receiver.url)
    with scene.deliverer() as deliverer:
        assert deliverer.ping(endpoint.id) == Sent(accepted=True, status=204)
        receiver.behaviour = lambda request: Reply(500)
        assert deliverer.ping(endpoint.id).status == 500
    assert [request.event["type"] for request in receiver.requests] == ["tallystick.ping.v1"] * 2
    assert len({request.id for request in receiver.requests}) == 2
    verify(endpoint.secrets[0], receiver.requests[0].headers, receiver.requests[0].body)
    assert scene.control.attempts(endpoint.id) == []


def test_the_lag_is_the_age_of_the_oldest_event_that_waits(scene: Scene, receiver: Receiver) -> None:
    scene.fund(2)
    endpoint = scene.endpoint(receiver.url)
    scene.pay((0, 1))
    receiver.behaviour = lambda request: Reply(500)
    with scene.deliverer(ladder=Ladder(waits=(0, 3_600), jitter=0)) as deliverer:
        deliverer.run_once(endpoint.id)
        time.sleep(0.2)
        assert 0.2 <= deliverer.run_once(endpoint.id).lag_seconds < 20


def test_private_places_are_refused_unless_allowed_here_too(scene: Scene, receiver: Receiver) -> None:
    scene.fund(2)
    endpoint = scene.endpoint(receiver.url)
    scene.pay((0, 1))
    with Deliverer(scene.database, scene.control, ladder=Ladder(waits=(0,), jitter=0)) as deliverer:
        assert deliverer.run_once(endpoint.id).dead == 1
    assert receiver.connections == 0
    found: list[Attempt] = scene.control.attempts(endpoint.id)
    assert "private" in found[0].problem
