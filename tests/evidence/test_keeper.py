"""A log kept in the background: what fails is tried again, a fork ends it, and nothing stays unsigned at the end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import tallystick
from tallystick.errors import LogForked, Unavailable
from tallystick.evidence.home import LogHome
from tallystick.evidence.keeper import Kept, LogKeeper, QuorumMissed
from tallystick.evidence.log import Log
from tallystick.evidence.publications import DirectoryPublication
from tallystick.evidence.witness import Gathered
from tallystick.journal.checkpoints import Checkpoint, open_checkpoint
from tallystick.journal.policies import Policy
from tallystick.ledger import Ledger

ORIGIN = "books.example.com/main"
NEVER = 3_600.0
PATIENCE_SECONDS = 30
POLICY = Policy.parse("quorum none\n")


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with tallystick.open("memory://") as book:
        found = book.ledger("main")
        found.mint("users:alice", "USD/2", 100, key="first")
        yield found


@pytest.fixture
def home(tmp_path: Path) -> LogHome:
    return LogHome(tmp_path / "home")


@pytest.fixture
def log(ledger: Ledger, home: LogHome) -> Log:
    return home.begin(ledger, ORIGIN)


class Place(DirectoryPublication):
    """A place that does not take checkpoints while it is ``broken``; ``tries`` counts them."""

    broken: Exception | None = None
    tries = 0

    def replace(self, path: str, data: bytes, *, before: bytes | None) -> None:
        self.tries += 1
        if self.broken is not None:
            raise self.broken
        super().replace(path, data, before=before)

    @property
    def size(self) -> int:
        """The size of the published checkpoint."""
        note = self.read("checkpoint")
        return 0 if note is None else int(note.split(b"\n")[1])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "published")


def signed(log: Log) -> int:
    """How many events the newest checkpoint covers."""
    return open_checkpoint(log.note, log.keys, ORIGIN)[0].size if log.note else 0


def pay(ledger: Ledger, key: str) -> None:
    ledger.mint("users:alice", "USD/2", 1, key=key)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.005)


def witnesses(log: Log, monkeypatch: pytest.MonkeyPatch, answers: Iterable[bool]) -> list[bytes]:
    """Have the log's witnesses answer so, one after the other; the notes that they were asked to cosign."""
    asked: list[bytes] = []
    left = iter(answers)

    def cosign(policy: Policy, **_: Any) -> Gathered:
        assert policy is POLICY
        assert log.note is not None
        asked.append(log.note)
        return Gathered(note=log.note, asked=(), quorum_met=next(left))

    monkeypatch.setattr(log, "cosign", cosign)
    return asked


# ---------------------------------------------------------------- one round


def test_a_round_signs_asks_and_publishes_and_the_next_has_nothing_to_do(
    ledger: Ledger, log: Log, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = witnesses(log, monkeypatch, [True, True])
    keeper = LogKeeper(log, publication=place, policy=POLICY)
    assert keeper.keep() == Kept(signed=True, quorum_met=True, published=True)
    assert keeper.keep() == Kept(signed=False)
    assert (len(asked), place.tries, place.size) == (1, 1, ledger.head.seq)
    pay(ledger, "k1")
    assert keeper.keep() == Kept(signed=True, quorum_met=True, published=True)
    assert (len(asked), place.tries, place.size) == (2, 2, ledger.head.seq)


def test_a_keeper_that_only_signs_says_so(log: Log) -> None:
    keeper = LogKeeper(log)
    assert [keeper.keep(), keeper.keep()] == [Kept(signed=True), Kept(signed=False)]


def test_a_new_keeper_finishes_what_one_before_it_left_undone(log: Log, place: Place) -> None:
    log.checkpoint()
    assert LogKeeper(log, publication=place).keep() == Kept(signed=False, published=True)
    assert place.size == signed(log)


def test_a_log_without_a_checkpoint_publishes_nothing(log: Log, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "checkpoint", lambda: None)
    assert LogKeeper(log, publication=place).keep() == Kept(signed=False)
    assert place.tries == 0


def test_witnesses_are_asked_again_until_the_quorum_is_met_and_no_longer(
    log: Log, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = witnesses(log, monkeypatch, [False, False, True])
    keeper = LogKeeper(log, publication=place, policy=POLICY)
    assert [keeper.keep().quorum_met for _ in range(5)] == [False, False, True, None, None]
    assert len(asked) == 3
    assert place.size == signed(log)  # what is signed is published, witnessed or not


def test_a_publication_that_failed_is_made_up_for_though_nothing_is_new(log: Log, place: Place) -> None:
    keeper = LogKeeper(log, publication=place)
    place.broken = Unavailable(reason="the disk is full")
    for _ in range(2):
        with pytest.raises(Unavailable):
            keeper.keep()
    assert (signed(log), place.size) == (3, 0)
    place.broken = None
    assert keeper.keep() == Kept(signed=False, published=True)
    assert place.size == 3


# ---------------------------------------------------------------- in the background


def test_what_is_posted_while_it_runs_is_signed_and_published(ledger: Ledger, log: Log, place: Place) -> None:
    with LogKeeper(log, every_seconds=0.005, publication=place) as keeper:
        for number in range(5):
            pay(ledger, f"k{number}")
            wait_until(lambda: place.size == ledger.head.seq)
        assert keeper.is_alive
    assert (keeper.failure, keeper.is_alive) == (None, False)


def test_the_end_is_a_last_round(ledger: Ledger, log: Log, place: Place) -> None:
    keeper = LogKeeper(log, every_seconds=NEVER, publication=place).start()
    wait_until(lambda: place.size == ledger.head.seq)
    pay(ledger, "k1")
    assert place.size == ledger.head.seq - 1
    keeper.stop()
    assert place.size == ledger.head.seq
    keeper.stop()  # again is no harm


def test_it_can_be_started_again_and_twice(ledger: Ledger, log: Log, place: Place) -> None:
    def keeping() -> int:
        return [thread.name for thread in threading.enumerate()].count("tallystick log")

    keeper = LogKeeper(log, every_seconds=0.005, publication=place)
    keeper.start()
    keeper.stop()
    assert keeping() == 0
    with keeper.start():
        assert keeping() == 1
        pay(ledger, "k1")
        wait_until(lambda: place.size == ledger.head.seq)
        pay(ledger, "k2")
        wait_until(lambda: place.size == ledger.head.seq)
    assert keeping() == 0


@pytest.mark.parametrize("broken", [Unavailable(reason="the disk is full"), RuntimeError("nobody thought of this")])
def test_a_failure_is_told_logged_and_tried_again(
    ledger: Ledger, log: Log, place: Place, broken: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Exception] = []
    place.broken = broken
    caplog.set_level(logging.ERROR, "tallystick.log")
    with LogKeeper(log, every_seconds=0.005, publication=place, on_failure=told.append) as keeper:
        wait_until(lambda: len(told) >= 3)
        assert keeper.failure is broken
        assert keeper.is_alive
        assert signed(log) == ledger.head.seq
        place.broken = None
        wait_until(lambda: keeper.failure is None)
        assert place.size == ledger.head.seq
    assert set(map(id, told)) == {id(broken)}
    assert all(f"the log {ORIGIN} was not kept: " in line.message for line in caplog.records)
    assert all(bool(line.exc_info) == isinstance(broken, RuntimeError) for line in caplog.records)


def test_a_last_round_that_fails_leaves_the_failure_to_be_seen(log: Log, place: Place) -> None:
    place.broken = Unavailable(reason="the disk is full")
    with LogKeeper(log, every_seconds=NEVER, publication=place) as keeper:
        pass
    assert keeper.failure is place.broken


def test_a_fork_ends_it_without_another_round(ledger: Ledger, log: Log, home: LogHome, place: Place) -> None:
    told: list[Exception] = []
    log.checkpoint()
    kept = log.note
    (home.folder / "checkpoint").unlink()
    pay(ledger, "k1")
    with LogKeeper(log, every_seconds=0.005, publication=place, on_failure=told.append) as keeper:
        wait_until(lambda: not keeper.is_alive)
    assert isinstance(keeper.failure, LogForked)
    assert told == [keeper.failure]
    assert (log.note, place.tries) == (kept, 0)


def test_a_database_and_a_home_that_were_taken_back_together_are_not_signed(
    ledger: Ledger, log: Log, place: Place
) -> None:
    log.checkpoint()
    before = log.note
    ahead = Checkpoint(ORIGIN, 99, bytes(32))
    place.write("checkpoint", log._sign(ahead, ()), immutable=False)
    pay(ledger, "k1")
    with LogKeeper(log, every_seconds=0.005, publication=place) as keeper:
        wait_until(lambda: not keeper.is_alive)
    assert isinstance(keeper.failure, LogForked)
    assert "99 events were signed" in str(keeper.failure)
    assert (log.note, place.size) == (before, 99)


def test_a_place_of_another_log_or_another_history_is_seen_before_the_first_signature(
    ledger: Ledger, log: Log, place: Place, tmp_path: Path
) -> None:
    log.checkpoint()
    before = log.note
    pay(ledger, "k1")
    with tallystick.open("memory://") as book:
        stranger = LogHome(tmp_path / "stranger").begin(book.ledger("main"), "stranger.example.com/main")
        foreign = stranger.checkpoint()
    other_history = log._sign(Checkpoint(ORIGIN, 2, bytes(32)), ())
    for note in (foreign, other_history):
        assert note is not None
        place.write("checkpoint", note, immutable=False)
        with pytest.raises(LogForked):
            LogKeeper(log, publication=place).keep()
        assert (log.note, place.read("checkpoint")) == (before, note)


@pytest.mark.parametrize("trouble", ["none", "place", "quorum"])
def test_between_two_rounds_it_waits_whatever_came_of_the_first(
    log: Log, place: Place, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[float] = []
    enough = threading.Event()
    witnesses(log, monkeypatch, [trouble != "quorum"] * 1_000)
    place.broken = Unavailable(reason="the disk is full") if trouble == "place" else None
    keeper = LogKeeper(log, every_seconds=0.05, publication=place, policy=POLICY)
    keep = keeper.keep

    def counted() -> Kept:
        rounds.append(time.monotonic())
        if len(rounds) == 5:
            enough.set()
        return keep()

    monkeypatch.setattr(keeper, "keep", counted)
    with keeper:
        assert enough.wait(PATIENCE_SECONDS)
    pauses = [later - earlier for earlier, later in pairwise(rounds[:5])]  # the last round comes at once
    assert min(pauses) >= 0.045


def test_a_quorum_that_is_missed_is_told(log: Log, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Exception] = []
    witnesses(log, monkeypatch, [False, True])
    keeper = LogKeeper(log, publication=place, policy=POLICY, on_failure=told.append)
    assert keeper._keep_quietly()
    assert ([type(one) for one in told], keeper.failure, place.size) == ([QuorumMissed], None, signed(log))
    assert keeper._keep_quietly()
    assert len(told) == 1


def test_a_fork_that_a_witness_shows_is_not_published_and_ends_it(
    log: Log, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cosign(policy: Policy, **_: Any) -> Gathered:
        raise LogForked(origin=ORIGIN, problem="shown")

    monkeypatch.setattr(log, "cosign", cosign)
    with LogKeeper(log, every_seconds=0.005, publication=place, policy=POLICY) as keeper:
        wait_until(lambda: not keeper.is_alive)
    assert isinstance(keeper.failure, LogForked)
    assert place.size == 0
