"""The log as others see it: published files read back by the definition, and checkpoints that witnesses cosign."""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tallystick.commands import RotateKey
from tallystick.errors import LogForked, Unavailable
from tallystick.evidence import log as module
from tallystick.evidence.log import Log
from tallystick.evidence.places import Publication
from tallystick.evidence.publications import DirectoryPublication
from tallystick.evidence.witness import Cosigned, Gathered, NotCosigned
from tallystick.evidence.witness_records import WitnessRecords
from tallystick.evidence.witness_server import WitnessServer, WitnessService
from tallystick.journal.checkpoints import Checkpoint, cosign, open_checkpoint, sign_checkpoint, with_signatures
from tallystick.journal.notes import COSIGNATURE, Note, SecretKey
from tallystick.journal.policies import Policy
from tallystick.journal.receipts import check_receipt
from tests.evidence.log_support import ORIGIN, Died, Home, Key, Place, check_never_forked, right
from tests.evidence.published import MemoryPublication, names_in
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
        other.post()
        with pytest.raises(LogForked, match=r"shows it.*nothing was signed"):  # what is published is known from then on
            forked.checkpoint()
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
        with pytest.raises(LogForked, match=r"the witness .* shows it"):
            log.cosign(policy)
        assert log.note == note
        assert not cosigned(log.note)
        for act in (log.checkpoint, place.log().checkpoint, lambda log=log: log.accept(0), log.check, log.adopt):
            with pytest.raises(LogForked, match="until a person removes it"):
                act()
        with pytest.raises(LogForked):
            log.publish(DirectoryPublication(tmp_path / "public"))
        assert not (tmp_path / "public").exists()
    del place.home.files["forked"]
    place.post()
    assert place.log().checkpoint() is not None
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
    with pytest.raises(LogForked):
        forked.cosign(policy)
    memory.post(9)
    log.checkpoint()
    gathered = log.cosign(policy)
    assert gathered is not None
    assert isinstance(gathered.asked[0].outcome, Cosigned)


class Liar(http.server.BaseHTTPRequestHandler):
    """A witness that says that it has seen more, and shows ``shown`` for it."""

    shown = b""

    def do_POST(self) -> None:
        self._answer(409, b"9223372036854775807\n", "text/x.tlog.size")

    def do_GET(self) -> None:
        self._answer(200, self.shown, "text/plain")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def liar() -> Iterator[tuple[str, type[Liar]]]:
    class Own(Liar):
        pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Own)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", Own
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_witness_that_only_claims_to_have_seen_more_stops_nobody(memory: Place, liar: tuple[str, type[Liar]]) -> None:
    url, witness = liar
    memory.post(5)
    log = memory.log()
    note = log.checkpoint() or b""
    stranger = Key("stranger").secret
    ahead = Checkpoint(ORIGIN, 99, bytes(32))
    signed_by_another = sign_checkpoint(ahead, stranger)
    with_a_wrong_signature = note.replace(b"\n6\n", b"\n7\n")
    for shown in (b"", b"nonsense", signed_by_another, with_a_wrong_signature, note):
        witness.shown = shown
        gathered = log.cosign(policy_of(url))
        assert gathered is not None
        assert isinstance(gathered.asked[0].outcome, NotCosigned)
        assert gathered.asked[0].size == 2**63 - 1
    memory.post()
    assert log.checkpoint() is not None
    witness.shown = sign_checkpoint(ahead, memory.key.secret)
    with pytest.raises(LogForked, match="checkpoint of 99 events"):
        log.cosign(policy_of(url))


def test_while_witnesses_are_waited_for_the_log_goes_on(memory: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.post(5)
    log = memory.log()
    first = log.checkpoint()
    memory.post()
    news: list[bytes | None] = []

    def gather(note: bytes, *_: Any, **__: Any) -> Gathered:
        thread = threading.Thread(target=lambda: news.append(log.checkpoint()), daemon=True)
        thread.start()
        thread.join(30)
        return Gathered(note=with_signatures(note, [cosign(note, WITNESS_KEY, 7)]), asked=(), quorum_met=True)

    monkeypatch.setattr(module, "gather", gather)
    gathered = log.cosign(policy_of("http://127.0.0.1:9/"))
    assert gathered is not None
    assert len(news) == 1
    assert log.note == news[0] != first
    assert dict(log.journal.checkpoints())[6] == gathered.note


def test_cosignatures_that_another_gathered_meanwhile_are_kept(memory: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.post(5)
    log = memory.log()
    other = SecretKey.from_seed("witness.example/w2", bytes(range(32)), COSIGNATURE)
    log.checkpoint()

    def gather(note: bytes, *_: Any, **__: Any) -> Gathered:
        memory.ledger.journal.keep([], 6, with_signatures(note, [cosign(note, other, 7)]))
        return Gathered(note=with_signatures(note, [cosign(note, WITNESS_KEY, 7)]), asked=(), quorum_met=True)

    monkeypatch.setattr(module, "gather", gather)
    log.cosign(policy_of("http://127.0.0.1:9/"))
    assert {line.name for line in Note.parse(log.note or b"").signatures} == {ORIGIN, WITNESS_KEY.name, other.name}


# ---------------------------------------------------------------- what is published is remembered


class Absent(MemoryPublication):
    """A place that may not answer."""

    away = False

    def read(self, path: str) -> bytes | None:
        if self.away:
            raise Unavailable(reason="it does not answer")
        return super().read(path)


@pytest.mark.parametrize("more", [2, 5, 9], ids=["fewer", "as many", "more"])
def test_what_is_published_is_extended_though_database_and_home_were_taken_back(memory: Place, more: int) -> None:
    place = Absent()
    memory.post(3)
    log = memory.log(published=place)
    log.checkpoint()
    honest = Place("memory://")
    honest.post(8)  # its first events are others, under the same key
    honest.log().checkpoint()
    honest.log().publish(place)
    memory.post(more)
    before = list(memory.key.signed)
    for _ in range(2):
        with pytest.raises(LogForked):
            memory.log(published=place).accept(0)
        with pytest.raises(LogForked, match="nothing was signed"):
            memory.log(published=place).checkpoint()
    place.files.clear()
    with pytest.raises(LogForked):
        memory.log().checkpoint()
    with pytest.raises(LogForked):
        log.rotate(Key("second"), key="rotate")
    assert memory.key.signed == before
    assert not any(event.type == "key_rotated" for event in memory.ledger.events())


def test_what_is_published_and_not_in_the_database_yet_is_passed_by(memory: Place) -> None:
    """The checkpoints of the database were lost, its events not."""
    place = Absent()
    memory.post(3)
    log = memory.log()
    early = dict(memory.home.files)
    log.checkpoint()
    memory.post(3)
    log.checkpoint()
    log.publish(place)
    other = Place("memory://")
    other.post(3)
    other.post(3)
    other.post(3)
    other.home.files = early
    note = other.log(published=place).checkpoint()
    assert note is not None
    check_never_forked(other.key.signed, other.leaves())


def test_a_place_that_is_away_stops_the_first_signature_and_no_later_one(memory: Place) -> None:
    place = Absent()
    memory.post(3)
    place.away = True
    log = memory.log(published=place)
    with pytest.raises(Unavailable):
        log.checkpoint()
    place.away = False
    log.checkpoint()
    place.away = True
    memory.post()
    assert log.checkpoint() is not None


def test_a_place_of_another_log_is_refused_and_leaves_no_mark(memory: Place) -> None:
    place = Absent()
    place.files["checkpoint"] = sign_checkpoint(Checkpoint("other", 1, bytes(32)), Key("x", "other").secret)
    memory.post(3)
    with pytest.raises(LogForked, match="another log"):
        memory.log(published=place).checkpoint()
    assert memory.log().checkpoint() is not None


# ---------------------------------------------------------------- promises


def test_nothing_is_promised_where_the_home_knows_more(tmp_path: Path) -> None:
    place = Place(tmp_path / "ledger.db")
    place.post(3)
    log = place.log()
    log.checkpoint()
    place.close()
    shutil.copy(tmp_path / "ledger.db", tmp_path / "copy.db")
    place.reopen()
    place.post(3)
    place.log().checkpoint()
    place.close()
    shutil.copy(tmp_path / "copy.db", tmp_path / "ledger.db")
    place.reopen()
    for more in (1, 2, 5):
        place.post(more, account="users:eve")
        for seq in (0, 4, place.size - 1):
            with pytest.raises(LogForked):
                place.log().accept(seq)
    place.close()


def test_an_event_that_the_home_has_signed_already_is_not_promised_again(memory: Place) -> None:
    memory.post(3)
    memory.log().checkpoint()
    memory.post(2)
    memory.trap.at = "home checkpoint ended"
    with pytest.raises(Died):
        memory.log().checkpoint()
    memory.post()
    with pytest.raises(Unavailable):
        memory.log().accept(4)
    assert memory.log().accept(memory.size - 1)
    memory.log().checkpoint()
    assert memory.log().receipt(4) is not None


def test_old_notes_open_after_a_lost_home_was_adopted(memory: Place) -> None:
    memory.post(3)
    log, new = memory.log(), Key("second")
    memory.ledger.post(RotateKey(key="first", source="log", public_key=str(memory.key.verifier)))
    old = log.checkpoint() or b""
    log.rotate(new, key="rotate")
    memory.home.files.clear()
    fresh = memory.log(new)
    fresh.adopt()
    assert fresh.keys == (memory.key.verifier, new.verifier)
    assert fresh.retired_keys == (memory.key.verifier,)
    fresh.check_older(old)
