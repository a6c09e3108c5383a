"""The log over a ledger as it grows: what is signed, what is kept, and what receipts prove."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tallystick.clock import add_seconds
from tallystick.commands import RotateKey
from tallystick.errors import InvalidInput, LedgerCorrupt, LogForked, NoteInvalid, ProofInvalid, TransactionNotFound
from tallystick.events import EVENT_TYPES
from tallystick.evidence import log as log_module
from tallystick.evidence.log import Log
from tallystick.evidence.publications import DirectoryPublication
from tallystick.journal import leaf_hash
from tallystick.journal.checkpoints import open_checkpoint
from tallystick.journal.receipts import Receipt, check_acceptance, check_receipt
from tallystick.stores.postgres.archive import Archiver
from tests.evidence.log_support import ORIGIN, Key, Place, check_never_forked, right
from tests.journal import tree_model
from tests.support.engine import Engine
from tests.support.story import tell
from tests.support.tiles import tiles_of

SIZES = [2, 3, 4, 7, 8, 9, 255, 256, 257, 300, 511, 512, 513, 700]


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


# ---------------------------------------------------------------- checkpoints


def test_the_checkpoint_of_each_size_has_the_root_of_the_model(place: Place) -> None:
    log = place.log()
    for number, size in enumerate(SIZES):
        place.post_to(size)
        if number % 5 == 3:
            place.reopen()
            log = place.log()
        note = log.checkpoint()
        assert note is not None
        assert open_checkpoint(note, [place.key.verifier])[0] == right(place.leaves(), size)
        assert log.note == note == place.home.read("checkpoint")
    model = tree_model.Log(place.leaves())
    for tile, row in zip(tiles_of(700), log.tiles(list(tiles_of(700))), strict=True):
        assert row == model.tile(tile.level, tile.number, tile.width), tile.path
    assert [checkpoint.size for checkpoint in place.key.signed] == SIZES
    assert [size for size, _ in log._journal.checkpoints()] == SIZES
    check_never_forked(place.key.signed, place.leaves())


def test_where_nothing_is_new_nothing_is_signed(place: Place) -> None:
    log = place.log()
    assert log.note is None
    assert log.checkpoint() is None
    place.post(3)
    note = log.checkpoint()
    for again in (log, place.log()):
        assert again.checkpoint() is None
        assert again.note == note
    assert len(place.key.signed) == 1
    place.post()
    assert place.log().checkpoint() is not None
    assert log.checkpoint() is None


def test_a_ledger_that_is_not_there_has_an_empty_log(memory: Place) -> None:
    log = Log(memory.database.ledger("other"), memory.key, memory.home)
    assert log.checkpoint() is None
    assert log.note is None
    assert log.keys == (memory.key.verifier,)
    assert log.publish(memory.home) is None
    with pytest.raises(TransactionNotFound):
        log.receipt(0)


def test_proofs_are_those_of_the_model(memory: Place) -> None:
    memory.post_to(300)
    log = memory.log()
    log.checkpoint()
    model = tree_model.Log(memory.leaves())
    for seq, size in [(0, 1), (0, 2), (5, 9), (255, 256), (255, 257), (299, 300), (17, 300)]:
        assert log.prove_inclusion(seq, size) == model.path(seq, 0, size)
    for old, new in [(1, 2), (3, 7), (4, 8), (255, 256), (256, 300), (299, 300)]:
        assert log.prove_consistency(old, new) == model.proof(old, new)
    for seq, size in [(300, 300), (-1, 300), (9, 5), (0, 0)]:
        with pytest.raises(ProofInvalid):
            log.prove_inclusion(seq, size)


def test_a_home_in_a_folder_outlives_the_process(tmp_path: Path) -> None:
    place, home = Place(tmp_path / "ledger.db"), DirectoryPublication(tmp_path / "home")
    place.post(5)
    note = Log(place.ledger, place.key, home).checkpoint()
    assert home.read("checkpoint") == note
    place.reopen()
    assert Log(place.ledger, place.key, home).checkpoint() is None
    place.post(5)
    assert Log(place.ledger, place.key, DirectoryPublication(tmp_path / "home")).checkpoint() is not None
    check_never_forked(place.key.signed, place.leaves())
    place.close()


def test_a_long_backlog_is_kept_in_pieces_and_signed_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "EVENTS_PER_KEEP", 100)
    monkeypatch.setattr(log_module, "EVENTS_PER_READ", 30)
    place.post_to(50)
    for _ in range(9):
        place.post(53)
    place.log().checkpoint()
    assert place.key.signed == [right(place.leaves(), 527)]
    assert place.trap.steps.count("keep tiles ended") >= 4
    check_receipts(place.log(), place, [0, 99, 100, 255, 256, 526])


def test_events_that_lie_in_the_archive_are_read_from_there(postgres: str, tmp_path: Path) -> None:
    place = Place(postgres)
    place.post(300)
    place.log().checkpoint()
    place.now = "2026-02-03T00:00:00.000000Z"
    place.post(300)
    place.now = "2026-05-03T00:00:00.000000Z"
    place.post(3)
    place.close()
    (tmp_path / "archive").mkdir()
    with Archiver(postgres, clock=lambda: "2041-06-01T00:00:00.000000Z") as archiver:
        assert {file.period for file in archiver.run(tmp_path / "archive")} == {202601, 202602, 202605}
    place.reopen()
    log = place.log()
    log.checkpoint()
    place.now = "2041-06-01T00:00:00.000000Z"
    place.post(5)
    log.checkpoint()
    leaves = place.leaves()
    assert place.key.signed == [right(leaves, size) for size in (301, 604, 609)]
    check_receipts(log, place, [0, 255, 300, 301, 600, 604, 608])
    anew = Place(postgres)  # another log over the same ledger, from its first event on
    assert anew.ledger.journal.leaves(0, bytes(32), 1_000) == leaves
    anew.close()
    place.close()


# ---------------------------------------------------------------- receipts


def check_receipts(log: Log, place: Place, numbers: list[int]) -> list[Receipt]:
    found = []
    for seq in numbers:
        receipt = log.receipt(seq)
        assert receipt is not None
        verified = check_receipt(receipt.encode(), [place.key.verifier])
        assert verified.body == place.ledger.journal.event(seq)
        assert (verified.index, verified.event.seq, verified.ledger) == (seq, seq, "main")
        assert verified.checkpoint == open_checkpoint(log.note or b"", log.keys)[0]
        found.append(receipt)
    return found


def test_events_of_all_sorts_have_receipts_that_prove_them_and_no_others(place: Place) -> None:
    tell(Engine(place.database._store))
    place.now = add_seconds(place.ledger.head.time, 1)
    place.ledger.post(RotateKey(key="another", public_key=str(Key("another").verifier)))
    log = place.log()
    log.checkpoint()
    receipts = check_receipts(log, place, list(range(place.size)))
    assert 2 * len({check_receipt(receipt, log.keys).event.type for receipt in receipts}) > len(EVENT_TYPES)
    for one, other in pairwise(receipts):
        for wrong in (
            Receipt(one.index, one.proof, one.checkpoint, other.extra),
            Receipt(one.index, other.proof, one.checkpoint, one.extra),
            Receipt(other.index, one.proof, one.checkpoint, one.extra),
            Receipt(one.index, one.proof, one.checkpoint, one.extra[:-1] + b" "),
        ):
            with pytest.raises(ProofInvalid):
                check_receipt(wrong, log.keys)
    with pytest.raises(NoteInvalid):
        check_receipt(receipts[0], [Key("another").verifier])


def test_an_event_is_accepted_before_and_has_its_receipt_after(place: Place) -> None:
    place.post(3)
    log = place.log()
    log.checkpoint()
    place.post()
    seq = place.size - 1
    assert log.receipt(seq) is None
    acceptance = check_acceptance(log.accept(seq), log.keys)
    event = place.ledger.transaction(seq)
    assert (acceptance.origin, acceptance.seq) == (ORIGIN, seq)
    assert bytes.fromhex(acceptance.event_hash) == place.leaves()[seq]
    assert bytes.fromhex(acceptance.prev) == place.leaves()[seq - 1]
    assert acceptance.time == event.time < acceptance.promise_by
    with pytest.raises(NoteInvalid):
        check_acceptance(log.accept(seq), [Key("another").verifier])
    log.checkpoint()
    (receipt,) = check_receipts(log, place, [seq])
    assert check_receipt(receipt, log.keys).checkpoint.size == place.size
    for unknown in (place.size, -1, 10**9):
        with pytest.raises(TransactionNotFound):
            log.receipt(unknown)
        with pytest.raises(TransactionNotFound):
            log.accept(unknown)


def test_an_old_receipt_holds_for_ever(memory: Place) -> None:
    log = memory.log()
    memory.post(3)
    log.checkpoint()
    old = log.receipt(1)
    assert old is not None
    memory.post_to(300)
    log.checkpoint()
    new = log.receipt(1)
    assert new is not None
    assert new != old
    assert check_receipt(old, log.keys).body == check_receipt(new, log.keys).body
    log.check_older(old.checkpoint)


def test_a_receipt_is_refused_where_the_event_is_not_the_one_that_was_signed(memory: Place) -> None:
    memory.post(9)
    log = memory.log()
    log.checkpoint()
    kept = memory.ledger._store._tiles  # type: ignore[attr-defined]
    row = kept["main", 0, 0]
    kept["main", 0, 0] = row[:96] + bytes(32) + row[128:]
    for seq in (0, 2, 8):
        with pytest.raises(LedgerCorrupt):
            log.receipt(seq)
    check_receipts(log, memory, [3])  # the event itself is hashed anew, and the way up does not lead by its leaf
    kept["main", 0, 0] = row
    assert log.receipt(3) is not None
    bodies = memory.ledger._store._shelves["main"].bodies  # type: ignore[attr-defined]
    hashes = memory.ledger._store._shelves["main"].hashes  # type: ignore[attr-defined]
    bodies[4] = bodies[4].replace(b"zoe", b"eve")
    with pytest.raises(LedgerCorrupt):
        log.receipt(4)
    hashes[4] = leaf_hash(bodies[4])
    with pytest.raises(LedgerCorrupt):
        log.receipt(4)


# ---------------------------------------------------------------- older checkpoints


def test_a_checkpoint_that_somebody_kept_is_compared_with_the_log(memory: Place) -> None:
    log = memory.log()
    notes = []
    for size in (2, 3, 5, 256, 300):
        memory.post_to(size)
        notes.append(log.checkpoint() or b"")
        for note in notes:
            log.check_older(note)
    other = Place("memory://")
    other.post(300, account="users:eve")
    forked = other.log()
    with pytest.raises(LogForked):
        log.check_older(forked.checkpoint() or b"")  # more events than there are
    for size in (2, 256):
        small = Place("memory://")
        small.post(size - 1, account="users:eve")
        with pytest.raises(LogForked):
            log.check_older(small.log().checkpoint() or b"")
    with pytest.raises(NoteInvalid):
        log.check_older(Place("memory://").home.read("checkpoint") or b"nothing")


@pytest.mark.parametrize("number", [-1, 2**63 - 1, 2**63, 2**70])
def test_numbers_that_no_event_has_are_not_found_on_any_store(place: Place, number: int) -> None:
    place.post(3)
    journal = place.ledger.journal
    with pytest.raises(TransactionNotFound):
        journal.event(number)
    with pytest.raises(TransactionNotFound):
        place.log().receipt(number)
    assert number < 0 or journal.events(number, 10) == []
    if 0 <= number < 2**63:
        assert journal.tiles([(0, number)]) == [b""]
    else:
        with pytest.raises(InvalidInput):
            journal.tiles([(0, number)])
    with pytest.raises(InvalidInput):
        journal.tiles([(2**70, 0)])
