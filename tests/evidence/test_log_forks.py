"""What must not be signed: ledgers that were taken back, cut short or written anew, and homes that say otherwise."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tallystick.errors import InvalidInput, LedgerCorrupt, LogForked, NoteInvalid, TallystickError
from tallystick.evidence import log as log_module
from tallystick.evidence.log import Log
from tallystick.evidence.publications import DirectoryPublication
from tallystick.journal.checkpoints import Checkpoint, open_checkpoint, sign_checkpoint
from tallystick.journal.notes import ML_DSA_44, Note, SecretKey
from tallystick.journal.receipts import check_receipt
from tests.conftest import NewUrl
from tests.evidence.log_support import ORIGIN, Died, Home, Key, Place, alter, check_never_forked, right
from tests.support.stores import KINDS


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path / "ledger.db")
    yield found
    found.close()


@pytest.fixture
def memory() -> Iterator[Place]:
    found = Place("memory://")
    yield found
    found.close()


def check_refused(place: Place, kind: type[TallystickError] = LogForked) -> None:
    """Nothing is signed, kept or published, however often it is tried and whoever tries."""
    signed, home = list(place.key.signed), dict(place.home.files)
    notes = place.ledger.journal.checkpoints()
    for log in (place.log(), place.log()):
        for _ in range(2):
            with pytest.raises(kind):
                log.checkpoint()
    assert place.key.signed == signed
    assert place.home.files == home
    assert place.ledger.journal.checkpoints() == notes


# ---------------------------------------------------------------- a database that was taken back


class Files:
    """Copies of a ledger file."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.path = Path(place.url)

    def copy(self) -> Path:
        self.place.close()
        made = self.path.with_name(f"copy-{len(list(self.path.parent.iterdir()))}.db")
        shutil.copy(self.path, made)
        self.place.reopen()
        return made

    def restore(self, copy: Path) -> None:
        self.place.close()
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        shutil.copy(copy, self.path)
        self.place.reopen()


@pytest.mark.parametrize("more", [0, 1, 3, 4, 5, 300])
def test_a_database_brought_back_from_a_copy_and_posted_on_is_refused(place: Place, more: int) -> None:
    files = Files(place)
    place.post(5)
    place.log().checkpoint()
    copy = files.copy()
    place.post(4)
    place.log().checkpoint()
    leaves = place.leaves()
    files.restore(copy)
    if more:
        place.post(more, account="users:eve")
    check_refused(place)
    check_never_forked(place.key.signed, leaves)


def test_a_copy_from_before_the_first_checkpoint_is_refused_too(place: Place) -> None:
    files = Files(place)
    place.post(2)
    copy = files.copy()
    place.post(3)
    place.log().checkpoint()
    files.restore(copy)
    check_refused(place)
    place.post(9, account="users:eve")
    check_refused(place)


def test_a_copy_that_is_led_on_by_the_very_same_events_is_signed_on(place: Place) -> None:
    files = Files(place)
    place.post(5)
    place.log().checkpoint()
    copy = files.copy()
    place.post(4)
    newer = files.copy()
    place.log().checkpoint()
    files.restore(copy)
    check_refused(place)
    files.restore(newer)  # it has the events, and not the checkpoint that was signed of them
    place.post(2)
    assert place.log().checkpoint() is not None
    assert place.published() == right(place.leaves(), place.size)
    check_never_forked(place.key.signed, place.leaves())


@pytest.mark.parametrize(
    "step", ["sign ended", "keep tiles ended", "keep note begins", "keep note ended", "home checkpoint begins"]
)
def test_what_anybody_may_have_seen_is_in_the_home(place: Place, step: str) -> None:
    """The process dies over a checkpoint, and the database is then brought back from before it."""
    files = Files(place)
    place.post(5)
    place.log().checkpoint()
    copy = files.copy()
    place.post(4)
    log = place.log()
    place.trap.at = step
    with pytest.raises(Died):
        log.checkpoint()
    seen = place.ledger.journal.checkpoint()  # whoever reads the database could hand it out, or a receipt under it
    files.restore(copy)
    place.post(2, account="users:eve")
    if seen != place.ledger.journal.checkpoint() or place.published() != place.key.signed[0]:
        check_refused(place)
    else:
        assert place.log().checkpoint() is not None  # nobody saw the one before


# ---------------------------------------------------------------- a database that was altered


def test_new_events_that_were_altered_are_refused(place: Place) -> None:
    place.post(3)
    place.log().checkpoint()
    place.post(3)
    place.post(3)
    change = "CAST(replace(CAST(body AS TEXT), 'zoe', 'eve') AS BLOB)"
    alter(Path(place.url), f"UPDATE event SET body = {change} WHERE seq = 4")
    check_refused(place, LedgerCorrupt)


def test_new_events_of_which_some_are_missing_are_refused(place: Place) -> None:
    place.post(3)
    place.log().checkpoint()
    place.post(3)
    place.post(3)
    alter(Path(place.url), "DELETE FROM event WHERE seq = 4")
    check_refused(place, LedgerCorrupt)


@pytest.mark.parametrize("size", [6, 300])
def test_old_events_that_were_written_anew_are_refused(place: Place, size: int) -> None:
    """The file is another one, with other events from number 3 on, and the first one's tiles and notes in it."""
    files = Files(place)
    place.post_to(3)
    copy = files.copy()
    place.post_to(size)
    place.log().checkpoint()
    old = files.copy()
    files.restore(copy)
    place.post(size - 3, account="users:eve")
    place.post(2)
    place.close()
    transplant(Path(place.url), old, "log_tile", "checkpoint")
    place.reopen()
    check_refused(place, LedgerCorrupt)


@pytest.mark.parametrize("size", [6, 300])
def test_old_events_that_were_written_anew_with_their_tiles_are_refused(place: Place, size: int) -> None:
    files = Files(place)
    place.post_to(3)
    copy = files.copy()
    place.post_to(size)
    place.log().checkpoint()
    old = files.copy()
    files.restore(copy)
    place.post(size - 3, account="users:eve")
    Log(place.ledger, Key("of somebody else"), Home()).checkpoint()
    place.post(2)
    place.close()
    alter(Path(place.url), "DELETE FROM checkpoint")
    transplant(Path(place.url), old, "checkpoint")
    place.reopen()
    check_refused(place)


def transplant(path: Path, source: Path, *tables: str) -> None:
    """Put another file's rows into these tables, which are empty."""
    other = sqlite3.connect(source)
    rows = {table: other.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
    other.close()
    connection = sqlite3.connect(path)
    with connection:
        for table, found in rows.items():
            assert found
            connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(found[0]))})", found)
    connection.close()


@pytest.mark.parametrize("tile", [(0, 0), (0, 1), (1, 0)])
def test_tiles_that_were_altered_are_refused(place: Place, tile: tuple[int, int]) -> None:
    place.post_to(300)
    place.log().checkpoint()
    place.post()
    place.close()
    level, number = tile
    row = "CAST(zeroblob(32) || substr(hashes, 33) AS BLOB)"
    alter(Path(place.url), f"UPDATE log_tile SET hashes = {row} WHERE level = {level} AND number = {number}")
    place.reopen()
    if tile == (0, 0):  # what lies left of the edge is not read to grow, and shows in the proofs
        note = place.log().checkpoint()
        assert note is not None
        assert place.published() == right(place.leaves(), 301)
        for seq in (1, 2, 255):
            with pytest.raises(LedgerCorrupt):
                place.log().receipt(seq)
    else:
        check_refused(place)


def test_tiles_that_are_gone_are_missed(place: Place) -> None:
    place.post_to(300)
    place.log().checkpoint()
    place.post()
    place.close()
    alter(Path(place.url), "DELETE FROM log_tile WHERE number = 1")
    place.reopen()
    check_refused(place, LedgerCorrupt)


@pytest.mark.parametrize("left", [3, 5, 6, 8])
@pytest.mark.parametrize(
    "step", ["", "keep tiles ended", "home checkpoint begins", "home checkpoint ended", "keep note ended"]
)
def test_a_ledger_that_was_cut_short_is_refused(place: Place, left: int, step: str) -> None:
    """Its last events are gone, and the tiles and notes over them are there; the home knew of them, or not yet."""
    files = Files(place)
    copies = {}
    for size in (3, 5, 6, 8):
        place.post_to(size)
        if size == 5:
            place.log().checkpoint()
        copies[size] = files.copy()
    log = place.log()
    place.trap.at = step
    if step:
        with pytest.raises(Died):
            log.checkpoint()
    else:
        log.checkpoint()
    leaves, newest = place.leaves(), files.copy()
    seen = [place.published(), *map(open_note, place.ledger.journal.checkpoints())]
    files.restore(copies[left])
    place.close()
    alter(Path(place.url), "DELETE FROM log_tile", "DELETE FROM checkpoint")
    transplant(Path(place.url), newest, "log_tile", "checkpoint")
    place.reopen()
    assert place.size == left
    if left < max(checkpoint.size for checkpoint in seen if checkpoint):
        check_refused(place)
    else:
        place.log().checkpoint()
    check_never_forked(place.key.signed, leaves)


def open_note(kept: tuple[int, bytes]) -> Checkpoint:
    return Checkpoint.parse(Note.parse(kept[1]).text)


@pytest.mark.parametrize("left", [5, 6])
def test_a_ledger_that_was_cut_short_is_refused_though_the_home_is_older(place: Place, left: int) -> None:
    files = Files(place)
    place.post_to(5)
    place.log().checkpoint()
    home = dict(place.home.files)
    place.post_to(left)
    copy = files.copy()
    place.post_to(8)
    place.log().checkpoint()
    newest = files.copy()
    files.restore(copy)
    place.close()
    alter(Path(place.url), "DELETE FROM log_tile", "DELETE FROM checkpoint")
    transplant(Path(place.url), newest, "log_tile", "checkpoint")
    place.reopen()
    place.home.files = home
    check_refused(place)


# ---------------------------------------------------------------- homes


def test_a_home_that_is_behind_is_brought_up(memory: Place) -> None:
    memory.post(3)
    log = memory.log()
    log.checkpoint()
    behind = dict(memory.home.files)
    memory.post(3)
    newest = log.checkpoint()
    memory.home.files = dict(behind)
    assert memory.log().checkpoint() == newest
    assert memory.home.files["checkpoint"] == newest
    assert len(memory.key.signed) == 2
    memory.home.files = dict(behind)
    memory.post(2)
    assert log.checkpoint() == memory.home.files["checkpoint"]
    check_never_forked(memory.key.signed, memory.leaves())


@pytest.mark.parametrize("kind", KINDS)
def test_another_database_in_the_place_of_the_first_is_refused(kind: str, new_url: NewUrl) -> None:
    first, second = Place(new_url(kind)), Place(new_url(kind))
    first.post_to(260)
    first.log().checkpoint()
    second.home, second.key, second.trap = first.home, first.key, first.trap
    check_refused(second)
    for size in (100, 260, 300):
        second.post(size - second.size - (not second.size), account="users:eve")
        check_refused(second)
    check_never_forked(first.key.signed, first.leaves())
    first.close()
    second.close()


@pytest.mark.parametrize("more", [0, 1, 300])
def test_a_home_that_is_behind_does_not_hide_tiles_that_were_altered(memory: Place, more: int) -> None:
    memory.post_to(5)
    log = memory.log()
    log.checkpoint()
    behind = dict(memory.home.files)
    memory.post_to(9)
    log.checkpoint()
    memory.home.files = behind
    kept = memory.ledger._store._tiles  # type: ignore[attr-defined]
    row = kept["main", 0, 0]
    kept["main", 0, 0] = row[:192] + bytes(32) + row[224:]  # neither published, nor the one that the next one names
    if more:
        memory.post(more)
    check_refused(memory)


def test_a_home_of_another_history_is_refused_whatever_its_size(memory: Place) -> None:
    memory.post(5)
    memory.log().checkpoint()
    for size in (2, 5, 6, 7, 20):
        other = Place("memory://")
        other.post(size - 1, account="users:eve")
        other.log().checkpoint()
        memory.home.files["checkpoint"] = other.home.files["checkpoint"]
        check_refused(memory)
        memory.post()
        check_refused(memory)


def test_a_home_that_is_lost_is_refused_until_it_is_adopted(memory: Place) -> None:
    memory.post(5)
    memory.log().checkpoint()
    memory.home.files.clear()
    memory.log()
    check_refused(memory)
    memory.post()
    check_refused(memory)
    log = memory.log()
    log.adopt()
    assert memory.home.files["checkpoint"] == log.note
    with pytest.raises(LogForked):
        log.adopt()
    assert log.checkpoint() is not None
    check_never_forked(memory.key.signed, memory.leaves())


def test_a_lost_home_is_adopted_under_the_key_of_now(memory: Place) -> None:
    memory.post(5)
    log, new = memory.log(), Key("second")
    log.checkpoint()
    log.rotate(new, key="rotate")
    memory.home.files.clear()
    fresh = memory.log(new)
    with pytest.raises(LogForked):
        fresh.checkpoint()
    fresh.adopt()
    memory.post()
    assert fresh.checkpoint() is not None
    check_never_forked(memory.key.signed + new.signed, memory.leaves())


def test_there_is_nothing_to_adopt_where_nothing_was_signed(memory: Place) -> None:
    memory.post()
    log = memory.log()
    log.adopt()
    assert memory.home.read("checkpoint") is None
    assert log.checkpoint() is not None


def test_a_home_with_a_checkpoint_that_is_none_is_refused(memory: Place) -> None:
    memory.post(5)
    note = memory.log().checkpoint() or b""
    stranger = Key("of a stranger")
    wrong = {
        "nothing": b"",
        "no text": b"\xff\xfe\x00",
        "half": note[: len(note) // 2],
        "one more byte": note + b"x",
        "another size": note.replace(b"\n6\n", b"\n5\n"),
        "another key": sign_checkpoint(right(memory.leaves(), 6), stranger),
        "another origin": note.replace(ORIGIN.encode(), b"other.example/main"),
    }
    for name, text in wrong.items():
        assert text != note, name
        memory.home.files["checkpoint"] = text
        check_refused(memory)
    memory.home.files["checkpoint"] = note
    assert memory.log().checkpoint() is None


@pytest.mark.parametrize("keys", [b"\xff\xfe", b"nothing\n", b"\n", b"log+12345678+AAAA\n"])
def test_a_home_with_keys_that_are_none_is_refused(memory: Place, keys: bytes) -> None:
    memory.post(5)
    log = memory.log()
    log.checkpoint()
    memory.home.files["keys"] = keys
    with pytest.raises(NoteInvalid):
        memory.log()
    memory.post()
    with pytest.raises((LogForked, NoteInvalid)):
        log.checkpoint()
    assert memory.home.files["keys"] == keys
    assert len(memory.key.signed) == 1


def test_a_note_in_the_database_that_is_none_of_this_log_is_refused(memory: Place) -> None:
    memory.post(5)
    log = memory.log()
    log.checkpoint()
    other = Key("of a stranger")
    for note in (b"nonsense", sign_checkpoint(right(memory.leaves(), 6), other)):
        memory.ledger.journal.keep([], 1_000, note)
        check_refused(memory)
        with pytest.raises(LogForked):
            log.receipt(0)
        with pytest.raises(LogForked):
            memory.log().adopt()


def test_a_home_that_does_not_answer_stops_the_log_and_nothing_else(tmp_path: Path) -> None:
    place = Place("memory://")
    place.post(3)
    home = DirectoryPublication(tmp_path / "home")
    log = Log(place.ledger, place.key, home)
    log.checkpoint()
    (tmp_path / "home" / "checkpoint").rename(tmp_path / "kept")
    (tmp_path / "home" / "checkpoint").mkdir()
    place.post(3)
    with pytest.raises(TallystickError):
        log.checkpoint()
    (tmp_path / "home" / "checkpoint").rmdir()
    (tmp_path / "kept").rename(tmp_path / "home" / "checkpoint")
    assert log.checkpoint() is not None
    check_never_forked(place.key.signed, place.leaves())


# ---------------------------------------------------------------- signers


def test_a_log_is_not_opened_with_a_key_that_is_not_its_own(memory: Place) -> None:
    memory.post(3)
    memory.log().checkpoint()
    before = dict(memory.home.files)
    for key in (Key("second"), Key("first", "other.example/main")):
        with pytest.raises(InvalidInput):
            memory.log(key)
        assert memory.home.files == before
    memory.post()
    memory.log().checkpoint()
    check_never_forked(memory.key.signed, memory.leaves())


class Liar(Key):
    """Its signatures are of something else."""

    how = ""

    def sign(self, message: bytes) -> bytes:
        if self.how == "bytes":
            return bytes(64)
        if self.how == "short":
            return super().sign(message)[:63]
        if self.how == "another text":
            return super().sign(message + b"more\n")
        if self.how == "another key":
            return Key("another").sign(message)
        return super().sign(message)


@pytest.mark.parametrize("how", ["bytes", "short", "another text", "another key"])
def test_a_signer_that_signs_rubbish_publishes_nothing(memory: Place, how: str) -> None:
    memory.post(3)
    key = Liar()
    log = memory.log(key)
    log.checkpoint()
    before = dict(memory.home.files)
    memory.post()
    key.how = how
    for _ in range(2):
        with pytest.raises((NoteInvalid, LogForked)):
            log.checkpoint()
    assert memory.home.files == before
    assert len(memory.ledger.journal.checkpoints()) == 1
    key.how = ""
    assert log.checkpoint() == memory.home.files["checkpoint"]
    check_never_forked(key.signed[:1] + key.signed[-1:], memory.leaves())


def test_a_note_that_says_something_else_is_not_kept(memory: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.post(3)
    log = memory.log()
    wrong = sign_checkpoint(right(memory.leaves(), 3), memory.key)
    monkeypatch.setattr(log_module, "sign_checkpoint", lambda *_, **__: wrong)
    with pytest.raises(LogForked):
        log.checkpoint()
    assert memory.home.read("checkpoint") is None
    assert log.note is None


def test_a_post_quantum_key_signs_beside_the_first(memory: Place) -> None:
    memory.post(3)
    more = SecretKey.from_seed(ORIGIN, bytes(range(32)), ML_DSA_44)
    log = memory.log(more=[more])
    for _ in range(2):
        memory.post()
        note = log.checkpoint() or b""
        for keys in ([memory.key.verifier], [more.verifier], log.keys):
            assert open_checkpoint(note, keys)[0] == right(memory.leaves(), memory.size)
    assert log.checkpoint() is None
    receipt = log.receipt(2)
    assert receipt is not None
    assert check_receipt(receipt, [more.verifier]).index == 2
    memory.trap.at = "keep note begins"
    memory.post()
    with pytest.raises(Died):
        log.checkpoint()
    assert memory.log(more=[more]).checkpoint() is not None  # the second signature bears another time, perhaps
    check_never_forked(memory.key.signed, memory.leaves())


def test_more_keys_sign_each_checkpoint(memory: Place) -> None:
    memory.post(3)
    more = Key("more")
    log = memory.log(more=[more])
    note = log.checkpoint() or b""
    assert note.count("— ".encode()) == 2
    assert log.keys == (memory.key.verifier, more.verifier)
    assert memory.log().checkpoint() is None  # the line of a key that is not at hand now does no harm
    assert more.signed == memory.key.signed
