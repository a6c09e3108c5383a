"""The log as others see it: published files read back by the definition, and checkpoints that witnesses cosign."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tallystick.errors import LogForked
from tallystick.evidence.log import Log
from tallystick.evidence.places import Publication
from tallystick.evidence.publications import DirectoryPublication
from tallystick.evidence.witness import Cosigned, NotCosigned
from tallystick.evidence.witness_records import WitnessRecords
from tallystick.evidence.witness_server import WitnessServer, WitnessService
from tallystick.journal.checkpoints import open_checkpoint
from tallystick.journal.notes import Note
from tallystick.journal.policies import Policy
from tallystick.journal.receipts import check_receipt
from tests.evidence.log_support import Home, Key, Place, check_never_forked, right
from tests.evidence.published import names_in
from tests.evidence.witness_support import WITNESS_KEY, logs_by_origin
from tests.journal import tree_model


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


# ---------------------------------------------------------------- published


def number_path(number: int) -> str:
    assert number < 1_000
    return f"{number:03d}"


def tiles_by_definition(size: int) -> dict[str, tuple[int, int, int]]:
    """tlog-tiles: path of each tile of a log of this size, and its level, number and width."""
    found = {}
    level = 0
    while size >> (8 * level):
        count = size >> (8 * level)
        for number in range(-(-count // 256)):
            width = min(256, count - 256 * number)
            path = f"tile/{level}/{number_path(number)}" + (f".p/{width}" if width < 256 else "")
            found[path] = (level, number, width)
        level += 1
    return found


def bundle_by_definition(bodies: list[bytes]) -> bytes:
    return b"".join(len(body).to_bytes(2, "big") + body for body in bodies)


def check_published(place: Place, publication: Publication, entries: Publication | None, size: int) -> None:
    leaves, bodies = place.leaves(), place.ledger.journal.events(0, size)
    model = tree_model.Log(leaves)
    note = publication.read("checkpoint") or b""
    assert open_checkpoint(note, [place.key.verifier])[0] == right(leaves, size)
    for path, (level, number, width) in tiles_by_definition(size).items():
        assert publication.read(path) == model.tile(level, number, width), path
        if not level:
            bundle = path.replace("tile/0/", "tile/entries/")
            part = bodies[256 * number : 256 * number + width]
            assert (entries or publication).read(bundle) == bundle_by_definition(part), bundle


def test_what_was_published_is_the_log_by_definition_after_each_step(place: Place, tmp_path: Path) -> None:
    publication = DirectoryPublication(tmp_path / "public")
    log = place.log()
    before = 0
    for size in (2, 3, 255, 256, 257, 600):
        place.post_to(size)
        log.checkpoint()
        published = log.publish(publication)
        assert published is not None
        assert (published.before, published.size) == (before, size)
        check_published(place, publication, None, size)
        before = size
    again = place.log().publish(publication)
    assert again is not None
    assert again.files == 0
    names = names_in(tmp_path / "public")
    assert {f"checkpoints/{size}" for size in (2, 3, 255, 256, 257, 600)} <= names
    assert not {name for name in names if not name.startswith(("tile/", "checkpoint"))}


def test_a_private_log_shows_its_hashes_and_none_of_its_events(memory: Place, tmp_path: Path) -> None:
    public, private = DirectoryPublication(tmp_path / "public"), DirectoryPublication(tmp_path / "private")
    log = memory.log()
    for size in (3, 300):
        memory.post_to(size)
        log.checkpoint()
        log.publish(public, private)
        check_published(memory, public, private, size)
    assert not [name for name in names_in(tmp_path / "public") if "entries" in name]
    for file in (tmp_path / "public").rglob("*"):
        assert not file.is_file() or b"users:zoe" not in file.read_bytes()


def test_what_is_not_signed_yet_is_not_published(memory: Place, tmp_path: Path) -> None:
    publication = DirectoryPublication(tmp_path / "public")
    memory.post(5)
    log = memory.log()
    assert log.publish(publication) is None
    assert not (tmp_path / "public").exists()
    log.checkpoint()
    memory.post(5)
    log.publish(publication)
    check_published(memory, publication, None, 6)
    assert not (tmp_path / "public" / "tile/0/000.p/11").exists()


def test_another_history_is_never_published_over_the_first(memory: Place, tmp_path: Path) -> None:
    publication = DirectoryPublication(tmp_path / "public")
    memory.post_to(300)
    log = memory.log()
    log.checkpoint()
    log.publish(publication)
    names = {name: (tmp_path / "public" / name).read_bytes() for name in names_in(tmp_path / "public")}
    for size in (200, 300, 400):
        other = Place("memory://")
        other.post(size - 1, account="users:eve")
        forked = other.log()
        forked.checkpoint()
        with pytest.raises(LogForked):
            forked.publish(publication)
    assert {name: (tmp_path / "public" / name).read_bytes() for name in names_in(tmp_path / "public")} == names


# ---------------------------------------------------------------- cosigned


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[str]:
    """A witness on this machine; its URL."""
    records = WitnessRecords(tmp_path / "witness.db")
    server = WitnessServer(WitnessService(records, (WITNESS_KEY,), logs_by_origin([Key().verifier])))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        records.close()


def policy_of(url: str) -> Policy:
    return Policy.parse(f"log {Key().verifier}\nwitness w1 {WITNESS_KEY.verifier} {url}\nquorum w1\n")


def cosigned(note: bytes | None) -> bool:
    return any(line.is_by(WITNESS_KEY.verifier) for line in Note.parse(note or b"").signatures)


def test_a_witness_cosigns_each_checkpoint_and_receipts_bear_it(place: Place, witness: str) -> None:
    policy = policy_of(witness)
    log = place.log()
    assert log.cosign(policy) is None
    for size in (3, 9, 260):
        place.post_to(size)
        plain = log.checkpoint()
        gathered = log.cosign(policy)
        assert gathered is not None
        assert gathered.quorum_met
        assert log.note == gathered.note != plain
        assert cosigned(log.note)
        receipt = log.receipt(size - 1)
        assert receipt is not None
        assert check_receipt(receipt, log.keys, policy=policy).witnesses == (WITNESS_KEY.verifier,)
    assert log.checkpoint() is None  # a note with more signatures is no other checkpoint
    assert place.log().checkpoint() is None
    assert all(cosigned(note) for _, note in log._journal.checkpoints())
    fresh = place.log()  # which does not know where the witness stands
    place.post()
    fresh.checkpoint()
    again = fresh.cosign(policy)
    assert again is not None
    assert again.quorum_met
    check_never_forked(place.key.signed, place.leaves())


def test_a_cosigned_checkpoint_is_published_with_its_cosignature(memory: Place, witness: str, tmp_path: Path) -> None:
    publication = DirectoryPublication(tmp_path / "public")
    log = memory.log()
    memory.post(5)
    log.checkpoint()
    log.publish(publication)
    log.cosign(policy_of(witness))
    log.publish(publication)
    assert cosigned(publication.read("checkpoint"))
    check_published(memory, publication, None, 6)


def test_a_witness_that_does_not_answer_costs_no_more_than_its_cosignature(memory: Place) -> None:
    memory.post(5)
    log = memory.log()
    note = log.checkpoint()
    gathered = log.cosign(policy_of("http://127.0.0.1:9/"), timeout_seconds=2)
    assert gathered is not None
    assert not gathered.quorum_met
    assert log.note == note == gathered.note
    memory.post()
    assert log.checkpoint() is not None


def test_after_the_ledger_was_taken_back_the_witness_refuses_what_the_home_would_let_pass(
    tmp_path: Path, witness: str
) -> None:
    """Database and home were both brought back from copies of the same hour: only the witness remembers more."""
    policy = policy_of(witness)
    place = Place(tmp_path / "ledger.db")
    place.post(5)
    log = place.log()
    log.checkpoint()
    log.cosign(policy)
    place.close()
    shutil.copy(tmp_path / "ledger.db", tmp_path / "copy.db")
    home = dict(place.home.files)
    place.reopen()
    place.post(5)
    log = place.log()
    log.checkpoint()
    log.cosign(policy)
    honest = right(place.leaves(), 11)
    place.close()

    shutil.copy(tmp_path / "copy.db", tmp_path / "ledger.db")
    place.reopen()
    for more in (3, 2, 20):  # until there are fewer, as many, and more events than the witness has seen
        place.post(more, account="users:eve")
        place.home = Home()
        place.home.files = dict(home)
        log = place.log()
        note = log.checkpoint()
        home = dict(place.home.files)
        gathered = log.cosign(policy)
        assert gathered is not None
        assert not gathered.quorum_met
        assert isinstance(gathered.asked[0].outcome, NotCosigned)
        assert gathered.asked[0].size >= 11 or place.size > 11
        assert log.note == note
        assert not cosigned(log.note)
    assert honest in place.key.signed
    place.close()


def test_the_witness_goes_on_with_the_log_that_it_knows(memory: Place, witness: str) -> None:
    policy = policy_of(witness)
    memory.post(5)
    log = memory.log()
    log.checkpoint()
    log.cosign(policy)
    other = Place("memory://")
    other.post(9, account="users:eve")
    forked: Log = other.log()
    forked.checkpoint()
    refused = forked.cosign(policy)
    assert refused is not None
    assert isinstance(refused.asked[0].outcome, NotCosigned)
    memory.post(9)
    log.checkpoint()
    gathered = log.cosign(policy)
    assert gathered is not None
    assert isinstance(gathered.asked[0].outcome, Cosigned)
