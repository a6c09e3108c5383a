"""A log that dies at any step goes on rightly when it is opened again, whatever happened meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import tallystick
from tallystick.errors import IdempotencyConflict, InvalidInput, LedgerCorrupt, ReadOnly, Unavailable
from tallystick.evidence import log as log_module
from tallystick.evidence.log import Log
from tallystick.journal.checkpoints import Checkpoint, open_checkpoint
from tallystick.journal.merkle import check_consistency
from tallystick.journal.notes import Note, VerifierKey
from tallystick.journal.receipts import check_receipt
from tests.conftest import NewUrl
from tests.evidence.log_support import Died, Key, Place, check_never_forked, leaves_of, right
from tests.journal import tree_model
from tests.support.stores import KINDS

STEPS = [
    f"{step} {when}" for step in ("keep tiles", "sign", "home checkpoint", "keep note") for when in ("begins", "ended")
]


@pytest.fixture
def place(url: str) -> Iterator[Place]:
    found = Place(url)
    yield found
    found.close()


@pytest.fixture
def memory() -> Iterator[Place]:
    found = Place("memory://")
    yield found
    found.close()


def die(place: Place, log: Log, step: str) -> None:
    place.trap.at = step
    with pytest.raises(Died):
        log.checkpoint()


def check_whole(place: Place, log: Log) -> None:
    """What is kept, what the home has and what can be proven are of the same tree, the only one that was signed."""
    leaves = place.leaves()
    check_never_forked(place.key.signed, leaves)
    assert log.note == place.home.read("checkpoint")
    newest = place.published()
    assert newest == right(leaves, place.size)
    for size, note in place.ledger.journal.checkpoints():
        assert open_checkpoint(note, log.keys)[0] == right(leaves, size)
        log.check_older(note)
    for seq in (0, place.size // 2, place.size - 1):
        receipt = log.receipt(seq)
        assert receipt is not None
        check_receipt(receipt, log.keys)
        assert list(receipt.proof) == tree_model.Log(leaves).path(seq, 0, place.size)


@pytest.mark.parametrize("more", [0, 1, 260])
@pytest.mark.parametrize("step", STEPS)
def test_after_a_death_at_any_step_a_fresh_log_goes_on(memory: Place, step: str, more: int) -> None:
    for first in (True, False):  # with no checkpoint before, and with one
        log = memory.log()
        memory.post(3 if first else 255)
        die(memory, log, step)
        if more:
            memory.post(more)
        fresh = memory.log()
        fresh.checkpoint()
        check_whole(memory, fresh)
        assert fresh.checkpoint() is None
        log.checkpoint()  # and so does the one that died
        check_whole(memory, log)


@pytest.mark.parametrize("step", STEPS)
def test_a_death_on_a_disk_leaves_nothing_that_stands_in_the_way(place: Place, step: str) -> None:
    place.post(3)
    place.log().checkpoint()
    place.post(3)
    die(place, place.log(), step)
    place.reopen()
    place.log().checkpoint()
    check_whole(place, place.log())


@pytest.mark.parametrize("one", STEPS)
@pytest.mark.parametrize("other", STEPS)
def test_two_deaths_one_after_the_other_are_no_worse(memory: Place, one: str, other: str) -> None:
    memory.post(3)
    memory.log().checkpoint()
    for step in (one, other):
        memory.post(2)
        log = memory.log()
        memory.trap.at = step
        with suppress(Died):
            log.checkpoint()
        memory.trap.at = ""
    fresh = memory.log()
    fresh.checkpoint()
    check_whole(memory, fresh)


@pytest.mark.parametrize("piece", [1, 2, 3])
@pytest.mark.parametrize("when", ["begins", "ended"])
def test_a_death_in_the_middle_of_a_long_backlog(
    place: Place, monkeypatch: pytest.MonkeyPatch, piece: int, when: str
) -> None:
    monkeypatch.setattr(log_module, "EVENTS_PER_KEEP", 90)
    monkeypatch.setattr(log_module, "EVENTS_PER_READ", 64)
    place.post(5)
    place.log().checkpoint()
    for _ in range(7):
        place.post(67)
    log = place.log()
    steps = count(1)
    passes = place.trap.passes

    def dies_at_the_piece(step: str) -> None:
        if step == f"keep tiles {when}" and next(steps) == piece:
            raise Died(step)
        passes(step)

    monkeypatch.setattr(place.trap, "passes", dies_at_the_piece)
    with pytest.raises(Died):
        log.checkpoint()
    assert len(place.key.signed) == 1
    monkeypatch.setattr(place.trap, "passes", passes)
    place.reopen()
    place.post(3)
    fresh = place.log()
    fresh.checkpoint()
    check_whole(place, fresh)


def test_a_home_that_somebody_else_wrote_meanwhile_stops_this_checkpoint_alone(memory: Place) -> None:
    memory.post(3)
    slow, quick = memory.log(), memory.log()
    slow.checkpoint()
    memory.post(2)
    sign = memory.key.sign

    def overtaken(message: bytes) -> bytes:
        memory.key.sign = sign  # type: ignore[method-assign]
        memory.post(2)
        assert quick.checkpoint() is not None
        return sign(message)

    memory.key.sign = overtaken  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        slow.checkpoint()
    assert slow.checkpoint() is None
    check_whole(memory, slow)


@pytest.mark.parametrize("before", [0, 4])
@pytest.mark.parametrize("where", ["home", "journal", "head"])
def test_another_log_that_signs_between_two_looks_is_no_fork(memory: Place, where: str, before: int) -> None:
    slow, quick = memory.log(), memory.log()
    if before:
        memory.post(before)
        slow.checkpoint()
    memory.post(3)
    waiting = [quick]

    def then_the_other(found: Any) -> Any:
        if waiting:
            waiting.pop().checkpoint()
        return found

    class Looks:
        """Whatever the slow one reads here, the quick one signs right after it."""

        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            found = getattr(self._inner, name)
            if name == "head" and where == "head":
                return then_the_other(found)
            if (name, where) in (("read", "home"), ("checkpoint", "journal")):
                return lambda *asked: then_the_other(found(*asked))
            return found

    slow._journal, slow._home = Looks(slow._journal), Looks(slow._home)  # type: ignore[assignment]
    with suppress(Unavailable):
        slow.checkpoint()
    assert not waiting
    slow.checkpoint()
    check_whole(memory, slow)


def test_nothing_is_signed_of_a_database_that_may_not_be_written(tmp_path: Path) -> None:
    place = Place(tmp_path / "ledger.db")
    place.post(3)
    place.log().checkpoint()
    place.post(3)
    place.close()
    before = dict(place.home.files)
    with tallystick.open(place.url, read_only=True) as database:
        reader = Log(database.ledger("main"), place.key, place.home)
        with pytest.raises(ReadOnly):
            reader.checkpoint()
        assert reader.receipt(2) is not None
        assert reader.receipt(5) is None
    assert place.home.files == before
    assert len(place.key.signed) == 1
    place.reopen()
    place.log().checkpoint()
    check_whole(place, place.log())
    place.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("more", [1, 3, 9], ids=["narrower", "as wide", "wider"])
def test_nothing_is_signed_over_tiles_that_are_others(kind: str, more: int, new_url: NewUrl) -> None:
    """The tile that is to grow holds hashes already, and they are none of these events."""
    place = Place(new_url(kind))
    place.post(3)
    log = place.log()
    log.checkpoint()
    before = dict(place.home.files)
    (row,) = place.ledger.journal.tiles([(0, 0)])
    place.ledger.journal.keep([(0, 0, row + bytes(32 * more))], 5, b"")
    place.post(3)
    for _ in range(2):
        for refusing in (log, place.log()):
            with pytest.raises((LedgerCorrupt, Unavailable)):
                refusing.checkpoint()
    assert place.home.files == before
    assert len(place.key.signed) == 1
    place.close()


# ---------------------------------------------------------------- another key


def signers(note: bytes, *keys: Key) -> list[bool]:
    parsed = Note.parse(note)
    return [any(line.is_by(key.verifier) for line in parsed.signatures) for key in keys]


def rotated(place: Place) -> list[str]:
    events = place.ledger.events(limit=10_000)
    return [event.data["public_key"] for event in events if event.type == "key_rotated"]


def test_a_log_goes_on_under_another_key_and_its_old_notes_still_open(place: Place) -> None:
    old, new = place.key, Key("second")
    log = place.log()
    place.post(3)
    notes = [log.checkpoint() or b""]
    place.post(2)
    notes.append(log.rotate(new, key="rotate") or b"")
    assert signers(notes[1], old, new) == [True, True]
    assert rotated(place) == [str(new.verifier)]
    assert log.keys == (old.verifier, new.verifier)
    place.post(2)
    notes.append(log.checkpoint() or b"")
    assert signers(notes[2], old, new) == [False, True]
    receipts = [log.receipt(seq) for seq in range(place.size)]
    assert all(receipt is not None for receipt in receipts)
    leaves = place.leaves()
    for fresh in (log, place.log(new)):
        for note, size in zip(notes, (4, 7, 9), strict=True):
            assert open_checkpoint(note, fresh.keys)[0] == right(leaves, size)
            fresh.check_older(note)
        assert fresh.checkpoint() is None
    check_never_forked(old.signed + new.signed, leaves)


def test_a_key_for_another_log_is_refused(memory: Place) -> None:
    memory.post(3)
    log = memory.log()
    with pytest.raises(InvalidInput):
        log.rotate(Key("second", "other.example/main"), key="rotate")
    assert rotated(memory) == []
    assert log.keys == (memory.key.verifier,)


@pytest.mark.parametrize("step", [*STEPS, "home keys begins", "home keys ended"])
@pytest.mark.parametrize("reopened", [False, True])
def test_a_rotation_that_died_is_done_again(memory: Place, step: str, reopened: bool) -> None:
    old, new = memory.key, Key("second")
    new.trap = memory.trap
    log = memory.log()
    memory.post(3)
    log.checkpoint()
    memory.trap.at = step
    with pytest.raises(Died):
        log.rotate(new, key="rotate")
    if reopened:
        log = memory.log()
    memory.post(2)
    note = log.rotate(new, key="rotate") or b""
    assert signers(note, old, new) == [True, True]
    assert len(note.split(b"\n\n")[1].splitlines()) == 2
    assert rotated(memory) == [str(new.verifier)]
    memory.post()
    assert signers(log.checkpoint() or b"", old, new) == [False, True]
    check_never_forked(old.signed + new.signed, memory.leaves())


def test_until_a_rotation_that_died_is_done_again_the_old_key_signs(memory: Place) -> None:
    old, new = memory.key, Key("second")
    log = memory.log()
    memory.post(3)
    memory.trap.at = "home checkpoint begins"
    with pytest.raises(Died):
        log.rotate(new, key="rotate")
    note = log.checkpoint() or b""
    assert signers(note, old, new) == [
        True,
        False,
    ]  # it covers the record of the new key, and whoever has the old reads it
    assert log.rotate(new, key="rotate") is None
    memory.post()
    assert signers(log.checkpoint() or b"", old, new) == [False, True]
    assert rotated(memory) == [str(new.verifier)]


def test_to_rotate_to_the_key_that_signs_already_changes_nothing(memory: Place) -> None:
    log = memory.log()
    new = Key("second")
    memory.post(3)
    log.rotate(new, key="rotate")
    size = memory.size
    assert log.rotate(new, key="rotate") is None
    assert memory.size == size
    memory.post()
    note = log.rotate(new, key="rotate") or b""
    assert len(Note.parse(note).signatures) == note.count("\n— ".encode()) == 1
    assert len(log.keys) == 2
    with pytest.raises(IdempotencyConflict):
        log.rotate(Key("third"), key="rotate")
    assert len(log.keys) == 2
    memory.post()
    assert signers(log.checkpoint() or b"", memory.key, new) == [False, True]


# ---------------------------------------------------------------- anything in any order


class LogsLive(RuleBasedStateMachine):
    """A ledger is posted to, its log signs, dies, is opened anew, and changes its key, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Place("memory://")
        self.keys = [self.place.key]
        self.opened = self.place.log()
        self.notes: list[bytes] = []
        self.numbers = count(1)

    def teardown(self) -> None:
        self.place.close()

    @rule(number=st.sampled_from([1, 2, 3, 100, 254]))
    def post(self, number: int) -> None:
        self.place.post(number)

    @rule()
    def checkpoint(self) -> None:
        note = self.opened.checkpoint()
        if note is not None:
            assert note == self.place.home.read("checkpoint") == self.opened.note
            self.notes.append(note)
        elif self.place.size:
            assert self.size() == self.place.size

    @rule(step=st.sampled_from(STEPS), number=st.integers(0, 3))
    def die(self, step: str, number: int) -> None:
        if number:
            self.place.post(number)
        self.place.trap.at = step
        try:
            self.opened.checkpoint()
        except Died:
            self.opened = self.place.log(self.keys[-1])
        self.place.trap.at = ""

    @rule()
    def reopen(self) -> None:
        self.opened = self.place.log(self.keys[-1])

    @precondition(lambda self: len(self.keys) < 4)
    @rule()
    def rotate(self) -> None:
        key = Key(f"key {len(self.keys)}")
        key.trap = self.place.trap
        note = self.opened.rotate(key, key=f"rotate-{len(self.keys)}")
        assert note is not None
        assert signers(note, self.keys[-1], key) == [True, True]
        self.keys.append(key)
        self.notes.append(note)

    @precondition(lambda self: self.place.size)
    @rule(part=st.floats(0, 1, exclude_max=True))
    def receipt(self, part: float) -> None:
        seq = int(part * self.place.size)
        found = self.opened.receipt(seq)
        assert (found is None) == (seq >= self.size())
        if found is not None:
            assert check_receipt(found, self.known()).body == self.place.ledger.journal.event(seq)

    @precondition(lambda self: len(self.notes) > 1)
    @rule(part=st.floats(0, 1, exclude_max=True))
    def prove(self, part: float) -> None:
        old, new = (self.opened_note(note) for note in (self.notes[int(part * len(self.notes))], self.notes[-1]))
        check_consistency(old.size, new.size, old.root, new.root, self.opened.prove_consistency(old.size, new.size))

    @invariant()
    def never_forked(self) -> None:
        signed = [checkpoint for key in self.keys for checkpoint in key.signed]
        check_never_forked(signed, leaves_of(self.place.ledger))

    @invariant()
    def the_home_knows_what_is_in_the_database(self) -> None:
        published = self.place.home.read("checkpoint")
        assert self.size() <= (self.opened_note(published).size if published else 0)

    def size(self) -> int:
        return self.opened_note(self.opened.note).size if self.opened.note else 0

    def known(self) -> list[VerifierKey]:
        return [key.verifier for key in self.keys]

    def opened_note(self, note: bytes) -> Checkpoint:
        return open_checkpoint(note, self.known())[0]


TestLogsLive = LogsLive.TestCase
TestLogsLive.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
