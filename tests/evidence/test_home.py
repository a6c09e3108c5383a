"""The home of a log: begun once, safe against every interruption, and refused when it is not what it should be."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import tallystick
from tallystick.errors import InvalidInput, KeyFileUnsafe, LogForked, LogNotFound, NoteInvalid, Unavailable
from tallystick.evidence import home as module
from tallystick.evidence import signers
from tallystick.evidence.directory import DirectoryPublication
from tallystick.evidence.home import LogHome
from tallystick.evidence.log import Log
from tallystick.journal.checkpoints import Checkpoint, open_checkpoint
from tallystick.journal.notes import VerifierKey
from tallystick.ledger import Database, Ledger

ORIGIN = "books.example.com/main"
ARN = "arn:aws:kms:eu-central-1:111122223333:key/{}"


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Database]:
    with tallystick.open(tmp_path / "ledger.db") as book:
        yield book


@pytest.fixture
def ledger(book: Database) -> Ledger:
    found = book.ledger("main")
    found.mint("users:alice", "USD/2", 100, key="first")
    return found


@pytest.fixture
def home(tmp_path: Path) -> LogHome:
    return LogHome(tmp_path / "logs" / "main")


def recorded(ledger: Ledger) -> list[str]:
    """The keys that the ledger says its log has had."""
    found = (ledger.transaction(f"main/{seq}") for seq in range(ledger.head.seq))
    return [event.data["public_key"] for event in found if event.type == "key_rotated"]


def newest(log: Log, *keys: VerifierKey) -> Checkpoint:
    """The newest checkpoint, which each of these keys has signed."""
    assert log.note is not None
    (found,) = {open_checkpoint(log.note, [key], ORIGIN)[0] for key in keys or log.keys[-1:]}
    return found


class Killed(BaseException):
    """What ends the process, as far as the code can tell."""


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int, *, after: bool) -> Callable[[], int]:
    """Have the ``step``th thing that lasts (a key made, an event posted, a file replaced, a checkpoint kept) end with
    Killed, before it or after it; the answer says how many there were."""
    count = 0

    def watch(owner: Any, name: str, is_one: Callable[..., bool] = lambda *_, **__: True) -> None:
        real = getattr(owner, name)

        def watched(*arguments: Any, **more: Any) -> Any:
            nonlocal count
            if not is_one(*arguments, **more):
                return real(*arguments, **more)
            count += 1
            mine = count == step
            if mine and not after:
                raise Killed
            answer = real(*arguments, **more)
            if mine:
                raise Killed
            return answer

        monkeypatch.setattr(owner, name, watched)

    watch(module, "FileSigner", lambda *_, create, **__: create)
    watch(Ledger, "post")
    watch(DirectoryPublication, "replace")
    watch(Log, "checkpoint")
    return lambda: count


# ---------------------------------------------------------------- begin and open


def test_a_log_is_begun_with_a_key_that_the_ledger_records(ledger: Ledger, home: LogHome) -> None:
    log = home.begin(ledger, ORIGIN)
    assert log.origin == ORIGIN
    assert recorded(ledger) == [str(log.keys[0])]
    assert home.folder.stat().st_mode & 0o777 == 0o700
    assert (home.folder / "key").stat().st_mode & 0o777 == 0o600
    assert log.checkpoint() is not None
    assert home.open(ledger).keys == log.keys


def test_beginning_the_same_log_again_changes_nothing(ledger: Ledger, home: LogHome) -> None:
    home.begin(ledger, ORIGIN).checkpoint()
    before = {path.name: path.read_bytes() for path in home.folder.iterdir() if path.is_file()}
    size = ledger.head.seq
    again = home.begin(ledger, ORIGIN)
    assert again.checkpoint() is None
    assert ledger.head.seq == size
    assert {path.name: path.read_bytes() for path in home.folder.iterdir() if path.is_file()} == before


def test_beginning_again_after_a_rotation_is_the_log_with_its_new_key(ledger: Ledger, home: LogHome) -> None:
    log = home.begin(ledger, ORIGIN)
    home.rotate(log)
    size = ledger.head.seq
    assert home.begin(ledger, ORIGIN).keys == log.keys
    assert ledger.head.seq == size


def test_another_log_cannot_move_in(ledger: Ledger, home: LogHome) -> None:
    home.begin(ledger, ORIGIN)
    for origin, kms in (("other.example.com/main", ""), (ORIGIN, ARN)):
        with pytest.raises(InvalidInput, match=re.escape(f"the log {ORIGIN} lives in")):
            home.begin(ledger, origin, kms=kms)
    assert len(recorded(ledger)) == 1


def test_another_ledger_in_the_same_home_is_not_signed(book: Database, ledger: Ledger, home: LogHome) -> None:
    log = home.begin(ledger, ORIGIN)
    log.checkpoint()
    other = book.ledger("other")
    for number in range(5):
        other.mint("users:alice", "USD/2", 100, key=str(number))
    with pytest.raises(LogForked):
        home.open(other).checkpoint()
    assert home.open(other).note is None
    assert log.checkpoint() is None


@pytest.mark.parametrize("origin", ["", "a b", "a+b", "a\nb", "a\x00b"])
def test_an_origin_that_is_no_name_of_a_key_leaves_no_folder(ledger: Ledger, home: LogHome, origin: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        home.begin(ledger, origin)
    assert refusal.value.data["path"] == "origin"
    assert not home.folder.parent.exists()


def test_where_no_log_lives_none_is_opened(ledger: Ledger, home: LogHome) -> None:
    with pytest.raises(LogNotFound):
        home.open(ledger)
    assert not home.folder.exists()
    home.folder.mkdir(parents=True)
    with pytest.raises(LogNotFound):
        home.open(ledger)


def test_a_folder_that_cannot_be_made_is_no_surprise(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    for folder in (tmp_path / "plain", tmp_path / "plain" / "home"):
        with pytest.raises(Unavailable, match="cannot be made"):
            LogHome(folder).begin(ledger, ORIGIN)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"garbage",
        b"[]",
        b"{}",
        b'{"origin": 7}',
        b'{"origin": "\xff"}',
        b'{"origin": "books.example.com/main", "more": 1}',
        b'{"origin": "books.example.com/main", "key": "../key"}',
        b'{"origin": "books.example.com/main", "key": "key-x"}',
        b'{"origin": "books.example.com/main", "key": "key-2\\n"}',
    ],
)
def test_settings_that_are_none_are_refused_by_every_act(ledger: Ledger, home: LogHome, text: bytes) -> None:
    log = home.begin(ledger, ORIGIN)
    (home.folder / "log.json").write_bytes(text)
    acts = (lambda: home.open(ledger), lambda: home.begin(ledger, ORIGIN), lambda: home.rotate(log))
    for act in acts:
        with pytest.raises(InvalidInput, match=r"log\.json"):
            act()
    assert len(recorded(ledger)) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_not_used(ledger: Ledger, home: LogHome, mode: int) -> None:
    home.begin(ledger, ORIGIN)
    (home.folder / "key").chmod(mode)
    for act in (lambda: home.open(ledger), lambda: home.begin(ledger, ORIGIN)):
        with pytest.raises(KeyFileUnsafe, match="chmod 600"):
            act()


def test_a_key_that_is_lost_is_not_made_anew(ledger: Ledger, home: LogHome) -> None:
    home.begin(ledger, ORIGIN)
    (home.folder / "key").unlink()
    for act in (lambda: home.open(ledger), lambda: home.begin(ledger, ORIGIN)):
        with pytest.raises(KeyFileUnsafe, match="no such file"):
            act()
    assert not (home.folder / "key").exists()


def test_verifier_keys_that_are_garbage_are_refused(ledger: Ledger, home: LogHome) -> None:
    home.begin(ledger, ORIGIN)
    (home.folder / "keys").write_text("garbage\n")
    with pytest.raises((LogForked, NoteInvalid)):
        home.open(ledger).checkpoint()


@pytest.mark.parametrize("mode", [0o770, 0o720, 0o702, 0o777])
def test_a_folder_that_others_may_write_in_is_no_home(ledger: Ledger, home: LogHome, mode: int) -> None:
    home.begin(ledger, ORIGIN)
    home.folder.chmod(mode)
    for act in (lambda: home.open(ledger), lambda: home.begin(ledger, ORIGIN)):
        with pytest.raises(KeyFileUnsafe, match="chmod 700"):
            act()
    home.folder.chmod(0o755)
    home.open(ledger)


def test_two_ledgers_of_a_database_have_no_log_of_the_same_name(book: Database, ledger: Ledger, home: LogHome) -> None:
    home.begin(ledger, ORIGIN)
    other, elsewhere = book.ledger("other"), LogHome(home.folder.with_name("other"))
    other.mint("users:alice", "USD/2", 100, key="first")
    size = other.head.seq
    with pytest.raises(InvalidInput, match="is the log of the ledger main"):
        elsewhere.begin(other, ORIGIN)
    assert (other.head.seq, elsewhere.folder.exists()) == (size, False)
    elsewhere.begin(other, "books.example.com/other")
    home.begin(ledger, ORIGIN)


def test_a_ledger_that_has_a_log_does_not_begin_another_in_an_empty_home(ledger: Ledger, home: LogHome) -> None:
    home.begin(ledger, ORIGIN).checkpoint()
    size = ledger.head.seq
    elsewhere = LogHome(home.folder.with_name("elsewhere"))
    for origin in (ORIGIN, "another.example.com/main"):
        with pytest.raises(InvalidInput, match="adopt"):
            elsewhere.begin(ledger, origin)
    assert (ledger.head.seq, elsewhere.folder.exists()) == (size, False)


def test_a_key_that_never_signed_does_not_take_over_a_log(ledger: Ledger, home: LogHome, kms: Kms) -> None:
    home.begin(ledger, ORIGIN).checkpoint()
    size = ledger.head.seq
    elsewhere = LogHome(home.folder.with_name("elsewhere"))
    signers.FileSigner(home.folder.with_name("key"), ORIGIN)
    elsewhere.folder.mkdir()
    home.folder.with_name("key").rename(elsewhere.folder / "key")
    for kms_id in ("", ARN.format(1)):
        with pytest.raises(InvalidInput, match="adopt"):
            elsewhere.begin(ledger, ORIGIN, kms=kms_id)
    assert ledger.head.seq == size
    assert not (elsewhere.folder / "log.json").exists()


def test_a_lost_home_is_made_anew_from_the_copy_of_the_key(ledger: Ledger, home: LogHome) -> None:
    log = home.begin(ledger, ORIGIN)
    log.checkpoint()
    home.rotate(log)
    before, size = log.keys, ledger.head.seq
    elsewhere = LogHome(home.folder.with_name("elsewhere"))
    elsewhere.folder.mkdir()
    (home.folder / "key-2").rename(elsewhere.folder / "key")
    with pytest.raises(LogForked, match="adopt"):
        elsewhere.begin(ledger, ORIGIN).checkpoint()
    elsewhere.open(ledger).adopt()
    found = elsewhere.begin(ledger, ORIGIN)
    assert (found.keys, ledger.head.seq) == (before, size)
    ledger.mint("users:alice", "USD/2", 1, key="later")
    assert found.checkpoint() is not None
    elsewhere.rotate(found)


def test_nothing_is_recorded_in_a_ledger_that_is_not_the_homes(book: Database, ledger: Ledger, home: LogHome) -> None:
    log = home.begin(ledger, ORIGIN)
    log.checkpoint()
    with tallystick.open("memory://") as fresh:
        other = fresh.ledger("main")
        other.mint("users:alice", "USD/2", 100, key="first")
        size = other.head.seq
        for act in (lambda: home.begin(other, ORIGIN), lambda: home.rotate(home.open(other))):
            with pytest.raises(LogForked):
                act()
        assert other.head.seq == size
    assert not (home.folder / "key-2").exists()
    ledger.mint("users:alice", "USD/2", 1, key="later")
    assert log.checkpoint() is not None


def test_what_a_home_is_told_it_remembers(ledger: Ledger, home: LogHome, tmp_path: Path) -> None:
    log = home.begin(ledger, ORIGIN)
    home.remember(publication=str(tmp_path / "published"), policy=str(tmp_path / "policy"))
    home.rotate(log)
    assert home.settings.publication == str(tmp_path / "published")
    home.remember(publication="s3://bucket/books")
    settings = home.settings
    assert (settings.publication, settings.policy) == ("s3://bucket/books", str(tmp_path / "policy"))
    assert (settings.origin, settings.key) == (ORIGIN, "key-2")


# ---------------------------------------------------------------- interruptions

BEGIN_STEPS = 4
"""The key, log.json, keys, the event."""

ROTATE_STEPS = 6
"""The key, the event, keys, the checkpoint and in it the home's copy, log.json."""


def test_the_steps_are_as_many_as_are_interrupted(
    ledger: Ledger, home: LogHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = kill_at(monkeypatch, 0, after=False)
    log = home.begin(ledger, ORIGIN)
    assert steps() == BEGIN_STEPS
    log.checkpoint()
    before = steps()
    home.rotate(log)
    assert steps() - before == ROTATE_STEPS


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(1, BEGIN_STEPS + 1))
def test_a_beginning_that_was_interrupted_is_simply_run_again(
    ledger: Ledger, home: LogHome, step: int, after: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, step, after=after)
        with pytest.raises(Killed):
            home.begin(ledger, ORIGIN)
    log = home.begin(ledger, ORIGIN)
    assert recorded(ledger) == [str(key) for key in log.keys]
    assert len(log.keys) == 1
    assert log.checkpoint() is not None


@pytest.mark.parametrize("goes_on", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(1, ROTATE_STEPS + 1))
def test_a_rotation_that_was_interrupted_goes_on_where_it_was(
    ledger: Ledger, home: LogHome, step: int, after: bool, goes_on: bool
) -> None:
    log = home.begin(ledger, ORIGIN)
    log.checkpoint()
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, step, after=after)
        with pytest.raises(Killed):
            home.rotate(log)
    completed = home.settings.key == "key-2"
    assert completed == (step == ROTATE_STEPS and after)
    if goes_on:  # the log works meanwhile, under whichever key its settings name
        ledger.mint("users:alice", "USD/2", 1, key="meanwhile")
        opened = home.open(ledger)
        assert opened.checkpoint() is not None
        open_checkpoint(opened.note or b"", opened.keys, ORIGIN)
    if not completed:
        home.rotate(home.open(ledger))
    log = home.open(ledger)
    first, second = log.keys
    assert home.settings.key == "key-2"
    assert recorded(ledger) == [str(first), str(second)]
    if not goes_on:
        log.checkpoint()
        assert newest(log, first, second).size == ledger.head.seq
    ledger.mint("users:alice", "USD/2", 1, key="later")
    assert log.checkpoint() is not None
    assert newest(log, second).size == ledger.head.seq
    with pytest.raises(NoteInvalid):
        open_checkpoint(log.note or b"", [first], ORIGIN)


def test_each_rotation_makes_another_key(ledger: Ledger, home: LogHome) -> None:
    log = home.begin(ledger, ORIGIN)
    for number in (2, 3, 4):
        assert home.rotate(log) is not None
        assert home.settings.key == f"key-{number}"
        assert len(set(log.keys)) == number
        assert newest(log, *log.keys[-2:]).size == ledger.head.seq
    assert recorded(ledger) == [str(key) for key in log.keys]


def test_a_rotation_signs_nothing_over_a_fork(ledger: Ledger, home: LogHome) -> None:
    log = home.begin(ledger, ORIGIN)
    log.checkpoint()
    (home.folder / "checkpoint").unlink()
    before = log.note
    with pytest.raises(LogForked):
        home.rotate(log)
    assert log.note == before
    assert home.settings.key == "key"
    assert not (home.folder / "key-2").exists()
    assert len(recorded(ledger)) == 1


# ---------------------------------------------------------------- a key in KMS


class Kms:
    """AWS KMS with a key for each id: as much of it as a log asks for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def _key(self, key_id: str) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(key_id[-1:].encode() * 32)

    def get_public_key(self, **request: str) -> dict[str, Any]:
        public = self._key(request["KeyId"]).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        known = {"KeySpec": "ECC_NIST_EDWARDS25519", "KeyUsage": "SIGN_VERIFY"}
        return {**known, "SigningAlgorithms": ["ED25519_SHA_512"], "PublicKey": public, **request}

    def sign(self, **request: Any) -> dict[str, Any]:
        self.asked.append(request["KeyId"])
        return {"Signature": self._key(request["KeyId"]).sign(request["Message"])}


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Kms:
    found = Kms()
    monkeypatch.setattr(signers, "_kms_client", lambda: found)
    return found


def test_a_log_signed_in_kms_has_no_key_in_its_home(ledger: Ledger, home: LogHome, kms: Kms) -> None:
    log = home.begin(ledger, ORIGIN, kms=ARN.format(1))
    assert log.checkpoint() is not None
    assert kms.asked == [ARN.format(1)]
    assert not (home.folder / "key").exists()
    assert home.open(ledger).keys == log.keys
    assert recorded(ledger) == [str(log.keys[0])]
    assert home.begin(ledger, ORIGIN, kms=ARN.format(1)).checkpoint() is None


def test_a_log_moves_into_kms_within_it_and_out_of_it(ledger: Ledger, home: LogHome, kms: Kms) -> None:
    log = home.begin(ledger, ORIGIN)
    for number, arn in enumerate([ARN.format(1), ARN.format(2), ""], 2):
        assert home.rotate(log, kms=arn) is not None
        assert home.settings.kms == arn
        assert newest(log, *log.keys[-2:]).size == ledger.head.seq
        assert len(recorded(ledger)) == number
        log = home.open(ledger)
    assert home.settings.key == "key-2"


def test_a_key_that_signs_or_signed_once_is_no_new_key(ledger: Ledger, home: LogHome, kms: Kms) -> None:
    log = home.begin(ledger, ORIGIN, kms=ARN.format(1))
    with pytest.raises(InvalidInput, match="already"):
        home.rotate(log, kms=ARN.format(1))
    home.rotate(log, kms=ARN.format(2))
    with pytest.raises(InvalidInput, match="did once"):
        home.rotate(log, kms=ARN.format(1))
    assert len(recorded(ledger)) == 2


def test_a_rotation_that_was_given_up_for_another_key_does_not_stand_in_the_way(
    ledger: Ledger, home: LogHome, kms: Kms
) -> None:
    log = home.begin(ledger, ORIGIN)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, ROTATE_STEPS, after=False)  # key-2 has signed, but the settings do not name it
        with pytest.raises(Killed):
            home.rotate(log)
    home.rotate(home.open(ledger), kms=ARN.format(1))
    log = home.open(ledger)
    home.rotate(log)
    assert home.settings.key == "key-3"
    assert len(recorded(ledger)) == 4
    assert newest(log, *log.keys[-2:]).size == ledger.head.seq
