"""The order of sending against a model that knows no queues: whatever happens, an event is sent only when every earlier
unaccepted event of its accounts is accepted or dead, and a crash at any point loses none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.control.records import Delivery
from tallystick.delivery import backlog as backlogs
from tallystick.delivery.backlog import Backlog
from tallystick.delivery.lanes import Item, Lanes
from tallystick.delivery.transport import Message


def message(seq: int, lanes: Sequence[str]) -> Message:
    id = f"main/{seq}"
    return Message(id=id, endpoint="e", ledger="main", seq=seq, type="t", time="", body=b"", lanes=tuple(lanes))


LANES = st.lists(st.sets(st.sampled_from("abcdef"), max_size=3).map(sorted), min_size=1, max_size=30)
STEPS = st.lists(
    st.tuples(st.sampled_from(["take", "accept", "fail", "bury", "settle", "crash"]), st.integers(0, 1_000)),
    max_size=150,
)


class Model:
    """A journal, a receiver, and what a control store would hold."""

    def __init__(self, lanes: list[list[str]]) -> None:
        self.lanes = lanes
        self.accepted: list[int] = []
        self.sent: list[Item] = []
        self.now = 0.0
        self.cursor, self.records = 0, dict[int, Delivery]()
        self.begin()

    def begin(self) -> None:
        dead = [record for record in self.records.values() if record.state == "dead" and record.seq >= self.cursor]
        self.backlog = Backlog(self.cursor, dead)
        for _, record in sorted(self.records.items()):
            if record.state == "waiting":
                self.backlog.take_record(record, 0.0, self.now)
        self.ended: list[Item] = []
        self.failed: dict[int, Item] = {}
        self.sent = []

    def take(self, number: int) -> None:
        for _ in range(number % 5 + 1):
            seq = self.backlog.next
            if seq < len(self.lanes):
                self.backlog.take(message(seq, self.lanes[seq]), self.now)
                self.backlog.next = seq + 1

    def pump(self) -> None:
        """Send all that may be sent."""
        self.backlog.wake(self.now)
        while (item := self.backlog.pop(self.now)) is not None:
            self.judge(item)
            self.sent.append(item)

    def judge(self, item: Item) -> None:
        """What is sent is the first of its accounts that is neither accepted nor dead."""
        mine = self.lanes[item.seq] or [""]
        assert item.seq not in {other.seq for other in self.sent}
        for other in self.sent:
            assert not set(mine) & set(self.lanes[other.seq] or [""]), "two of one account are on their way"
        dead = {seq for seq, record in self.records.items() if record.state == "dead"}
        for seq in range(item.seq):
            if set(mine) & set(self.lanes[seq] or [""]):
                assert seq in self.accepted or seq in dead, f"{item.seq} went before {seq}"

    def answer(self, how: str, number: int) -> None:
        if not self.sent:
            return
        item = self.sent.pop(number % len(self.sent))
        item.attempts += 1
        if how == "accept":
            self.accepted.append(item.seq)
            self.backlog.accept(item, self.now)
            self.ended.append(item)
        elif how == "fail":
            self.failed[item.seq] = item
            self.backlog.postpone(item, self.now + number % 3, self.now, drop=number % 2 == 0)
        else:
            self.failed[item.seq] = item
            self.backlog.bury(item)
            self.ended.append(item)

    def settle(self) -> None:
        parked = self.backlog.park(self.failed)
        for item in [*parked, *(item for item in self.failed.values() if not item.done)]:
            item.is_kept = True
            self.records[item.seq] = Delivery(
                endpoint="e",
                seq=item.seq,
                state="dead" if item.dead else "waiting",
                attempts=item.attempts,
                lanes=tuple(lane for lane in item.lanes if lane),
            )
        for item in self.ended:
            if item.is_kept and not item.dead:
                self.records.pop(item.seq, None)
        cursor = self.backlog.cursor()
        assert cursor >= self.cursor
        self.cursor = cursor
        self.backlog.forget(self.ended, self.now)
        self.ended, self.failed = [], {}
        for seq in range(self.cursor):
            assert seq in self.accepted or seq in self.records, f"{seq} is lost"


@settings(max_examples=300, deadline=None)
@given(LANES, STEPS)
def test_nothing_is_lost_or_sent_out_of_turn_whatever_happens(
    lanes: list[list[str]], steps: list[tuple[str, int]]
) -> None:
    model = Model(lanes)
    for step, number in steps:
        if step == "take":
            model.take(number)
        elif step == "settle":
            model.settle()
        elif step == "crash":
            model.begin()
        else:
            model.answer(step, number)
        model.now += 0.5
        model.pump()
    for number in range(1_000):  # the receiver is well again: everything arrives
        model.now += 10
        model.take(4)
        model.pump()
        while model.sent:
            model.answer("accept", number)
            model.pump()
        model.settle()
        if model.cursor == len(lanes) and not len(model.backlog):
            break
    dead = {seq for seq, record in model.records.items() if record.state == "dead"}
    assert set(model.accepted) | dead == set(range(len(lanes)))
    assert {record.state for record in model.records.values()} <= {"dead"}


def test_a_lane_that_nobody_uses_takes_no_memory() -> None:
    lanes = Lanes()
    before = Item(0, ("users:0", "users:1"), None)
    assert lanes.add(before)
    for seq in range(1, 1_000):
        item = Item(seq, (f"users:{seq}", f"users:{seq + 1}"), None)
        assert not lanes.add(item)
        assert lanes.remove(before) == [item]
        before = item
    assert len(lanes) == 2


def test_the_window_and_the_held_bytes_are_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlogs, "WINDOW", 3)
    monkeypatch.setattr(backlogs, "HELD_BYTES", 25)
    found = Backlog(0)
    body = b"0123456789"
    for seq in range(3):
        assert found.room == 3 - seq
        one = message(seq, [f"{seq}"])
        found.take(Message(**{name: getattr(one, name) for name in one.__struct_fields__} | {"body": body}), 0.0)
        found.next = seq + 1
    assert found.room == 0
    assert [(item := found.pop(0.0)) is not None and item.message is not None for _ in range(3)] == [True, True, False]
    found.take_record(Delivery(endpoint="e", seq=0), 0.0, 0.0)
    found.next = 10
    found.take_record(Delivery(endpoint="e", seq=5), 0.0, 0.0)
    assert len(found) == 3


def test_what_was_asked_for_again_is_tried_at_once() -> None:
    found = Backlog(5)
    found.take_record(Delivery(endpoint="e", seq=1, attempts=3), 100.0, 0.0)
    assert found.pop(0.0) is None
    found.take_record(Delivery(endpoint="e", seq=1, redelivery=True), 0.0, 0.0)
    item = found.pop(0.0)
    assert item is not None
    assert (item.seq, item.attempts, item.redelivery) == (1, 0, True)
    assert found.pop(0.0) is None
    found.postpone(item, 50.0, 0.0)
    found.wake(49.0)
    assert found.pop(49.0) is None
    found.wake(200.0)
    assert found.pop(200.0) is item
    assert found.pop(200.0) is None


def test_what_was_tried_before_a_crash_keeps_its_count_and_its_place() -> None:
    found = Backlog(5, [Delivery(endpoint="e", seq=6, state="dead")])
    found.take_record(Delivery(endpoint="e", seq=7, attempts=3, lanes=("a",)), 0.0, 0.0)
    assert found.pop(0.0) is None
    for seq in (5, 6, 7):
        found.take(message(seq, ["a"]), 0.0)
        found.next = seq + 1
    first = found.pop(0.0)
    assert first is not None
    assert first.seq == 5
    found.accept(first, 0.0)
    second = found.pop(0.0)
    assert second is not None
    assert (second.seq, second.attempts) == (7, 3)
    assert found.cursor() == 8
