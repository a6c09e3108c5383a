"""`tally log`, `tally receipt` and `tally verify receipt`: what they write, refuse, and leave alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tallystick
from tallystick.evidence.home import LogHome
from tallystick.evidence.keeper import LogKeeper
from tallystick.evidence.publications import DirectoryPublication
from tallystick.evidence.witness_records import WitnessRecords
from tallystick.evidence.witness_server import WitnessServer, WitnessService
from tallystick.journal.checkpoints import Checkpoint, open_checkpoint
from tallystick.journal.notes import COSIGNATURE, Note, SecretKey, VerifierKey
from tests.cli.conftest import Tally
from tests.evidence import conftest as evidence
from tests.evidence.published import BUCKET

ORIGIN = "books.example.com/main"
PROGRAM = str(Path(sys.executable).with_name("tally"))
PATIENCE_SECONDS = 60
WITNESS = SecretKey.from_seed("witness.example/w1", bytes(range(32)), COSIGNATURE)

s3 = evidence.s3


@pytest.fixture
def file(tmp_path: Path) -> Tally:
    """A ledger file in which users:alice has 100.00 USD/2, without a log."""
    found = Tally(tmp_path, str(tmp_path / "ledger.db"))
    found("create")
    found("mint", "users:alice", "100", "USD/2", "--key", "first")
    return found


@pytest.fixture
def logged(file: Tally) -> Tally:
    """The same with a log, whose first checkpoint covers main/0 to main/2."""
    file("log", "init", "--origin", ORIGIN)
    return file


@pytest.fixture
def witness(tmp_path: Path, logged: Tally) -> Iterator[str]:
    """The URL of a witness that knows the log."""
    records = WitnessRecords(tmp_path / "witness.db")
    server = WitnessServer(WitnessService(records, [WITNESS], {ORIGIN: [VerifierKey.parse(_key(logged))]}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.url
    server.shutdown()
    thread.join()
    server.server_close()
    records.close()


def _key(tally: Tally) -> str:
    return tally("log", "key").splitlines()[-1]


def _pay(tally: Tally, key: str) -> str:
    return str(tally.json("transfer", "users:alice", "users:bob", "1", "USD/2", "--key", key)["id"])


def _home(tally: Tally) -> Path:
    return Path(tally.file + ".log") / "main"


def _size(note: bytes | str) -> int:
    return Checkpoint.parse(Note.parse(note.encode() if isinstance(note, str) else note).text).size


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def _forked_status(tally: Tally) -> dict[str, Any]:
    """What is said of a log that does not extend what was signed."""
    done = tally.run("log", "status", "--json")
    facts: dict[str, Any] = json.loads(done.stdout)
    assert (done.exit_code, bool(facts["forked"])) == (1, True)
    assert "forked" in tally.run("log", "status").stdout
    return facts


def _policy(tally: Tally, url: str = "", *, log: bool = True) -> str:
    """The file of a policy: the log, and one witness that is asked at ``url`` and must have cosigned."""
    known = f"log {_key(tally)}\n" if log else ""
    return tally.write("policy", f"{known}witness w1 {WITNESS.verifier} {url}".rstrip() + "\nquorum w1\n")


# ---------------------------------------------------------------- begin, status, key


def test_a_log_is_begun_on_either_store(tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tally.folder / "home"
    monkeypatch.setenv("TALLYSTICK_LOG", str(home))
    begun = tally.json("log", "init", "--origin", ORIGIN)
    assert (begun["origin"], begun["events"], begun["signed"], begun["home"]) == (ORIGIN, 3, 3, str(home))
    checkpoint, _ = open_checkpoint(begun["checkpoint"].encode(), [VerifierKey.parse(begun["key"])], ORIGIN)
    assert checkpoint.size == 3
    assert tally.lines("events")[-1]["event"]["type"] == "key_rotated"
    assert tally.json("log", "init", "--origin", ORIGIN) == begun
    assert _size(tally.json("log", "checkpoint")["checkpoint"]) == 3
    _pay(tally, "k1")
    assert tally.json("log", "status") == {**begun, "events": 4}
    assert tally.json("log", "key") == {"key": begun["key"], "retired": []}
    assert tally("log", "key") == begun["key"] + "\n"
    assert tally.json("replay")["ok"]


def test_the_home_lies_beside_the_file_by_ledger(logged: Tally) -> None:
    assert {path.name for path in _home(logged).iterdir()} >= {"key", "keys", "checkpoint", "log.json"}
    assert _home(logged).stat().st_mode & 0o777 == 0o700
    assert (_home(logged) / "key").stat().st_mode & 0o777 == 0o600


def test_people_see_the_facts_in_lines(logged: Tally) -> None:
    facts = dict(line.split(maxsplit=1) for line in logged("log", "status").splitlines())
    assert facts["origin"] == ORIGIN
    assert facts["key"] == _key(logged)
    assert (facts["events"], facts["signed"]) == ("3", "3")


def test_a_log_of_a_database_needs_a_home_that_is_named(postgres: str, tmp_path: Path) -> None:
    database = Tally(tmp_path, postgres)
    database("create")
    assert "--home" in database.refused("log", "status", code=2)["message"]


@pytest.mark.parametrize("words", [("status",), ("init", "--origin", ORIGIN), ("checkpoint",), ("key",), ("adopt",)])
def test_without_a_ledger_there_is_no_log_and_nothing_is_made(tmp_path: Path, words: tuple[str, ...]) -> None:
    nothing = Tally(tmp_path, str(tmp_path / "ledger.db"))
    assert nothing.refused("log", *words, code=3)["code"] == "ledger_not_found"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ("log", "status"),
        ("log", "key"),
        ("log", "checkpoint"),
        ("log", "publish", "published"),
        ("log", "keep"),
        ("log", "rotate"),
        ("log", "adopt"),
        ("receipt", "main/1"),
    ],
)
def test_a_ledger_without_a_log_says_how_to_begin_one(file: Tally, words: tuple[str, ...]) -> None:
    error = file.refused(*words, code=3)
    assert error["code"] == "log_not_found"
    assert "tally log init" in file.run(*words).stderr
    assert not _home(file).exists()
    assert not (file.folder / "published").exists()


@pytest.mark.parametrize("origin", ["books example", "books+main", "", "two\nlines"])
def test_an_origin_that_no_log_can_have_leaves_nothing_behind(file: Tally, origin: str) -> None:
    assert file.refused("log", "init", "--origin", origin)["path"] == "origin"
    assert not _home(file).exists()
    assert len(file.lines("events")) == 2


def test_another_log_cannot_begin_in_the_same_home(logged: Tally) -> None:
    error = logged.refused("log", "init", "--origin", "other.example.com/main")
    assert error["code"] == "invalid_input"
    assert ORIGIN in error["message"]
    assert len(logged.lines("events")) == 3


def test_init_needs_an_origin(file: Tally) -> None:
    assert "--origin" in file.refused("log", "init", code=2)["message"]


def test_a_key_file_that_others_may_read_is_not_used(logged: Tally) -> None:
    _pay(logged, "k1")
    (_home(logged) / "key").chmod(0o640)
    error = logged.refused("log", "checkpoint", code=3)
    assert error["code"] == "key_file_unsafe"
    assert "chmod 600" in error["message"]
    assert _size((_home(logged) / "checkpoint").read_bytes()) == 3


def test_a_home_that_cannot_be_made_is_said_without_a_traceback(file: Tally) -> None:
    file.write("plain", "a file, and no folder")
    error = file.refused("log", "init", "--origin", ORIGIN, "--home", str(file.folder / "plain" / "home"), code=3)
    assert (error["code"], error["retryable"]) == ("unavailable", True)
    assert "posted" not in error["advice"]
    assert len(file.lines("events")) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write where nobody may")
def test_a_home_that_may_not_be_written_is_said_and_the_next_checkpoint_mends_it(logged: Tally) -> None:
    _pay(logged, "k1")
    for folder in (_home(logged), _home(logged) / ".new"):
        folder.chmod(0o500)
    assert logged.refused("log", "checkpoint", code=3)["code"] == "unavailable"
    for folder in (_home(logged), _home(logged) / ".new"):
        folder.chmod(0o700)
    assert _size(logged("log", "checkpoint")) == 4
    assert _size((_home(logged) / "checkpoint").read_bytes()) == 4


# ---------------------------------------------------------------- checkpoint, and what stops it


def test_a_checkpoint_is_written_as_a_note_and_covers_what_is_new(logged: Tally) -> None:
    _pay(logged, "k1")
    note = logged("log", "checkpoint").encode()
    assert open_checkpoint(note, [VerifierKey.parse(_key(logged))], ORIGIN)[0].size == 4
    assert logged.json("log", "checkpoint") == {"checkpoint": note.decode(), "quorum_met": None, "witnesses": []}
    assert (_home(logged) / "checkpoint").read_bytes() == note


def test_a_ledger_that_was_taken_back_is_not_signed_and_neither_when_it_has_grown_again(logged: Tally) -> None:
    shutil.copy(logged.file, logged.folder / "older.db")
    for number in range(3):
        _pay(logged, f"k{number}")
    newest = logged("log", "checkpoint").encode()
    for left in logged.folder.glob("ledger.db*"):
        if left.is_file():
            left.unlink()
    shutil.copy(logged.folder / "older.db", logged.file)
    for number in range(5):
        error = logged.refused("log", "checkpoint", code=3)
        assert error["code"] == "log_forked"
        assert "nothing was signed" in error["message"]
        assert _forked_status(logged)["signed"] == 3
        _pay(logged, f"another {number}")
    assert (_home(logged) / "checkpoint").read_bytes() == newest
    assert logged.refused("log", "adopt", code=3)["code"] == "log_forked"
    assert "log_forked" in logged.run("log", "keep", "--every", "0.1", "--json").stderr


def test_a_lost_checkpoint_of_the_home_is_adopted_only_on_request(logged: Tally) -> None:
    (_home(logged) / "checkpoint").unlink()
    _pay(logged, "k1")
    error = logged.refused("log", "checkpoint", code=3)
    assert error["code"] == "log_forked"
    assert "adopt" in error["message"]
    assert logged.json("log", "adopt")["signed"] == 3
    assert _size(logged("log", "checkpoint")) == 4
    assert logged.refused("log", "adopt", code=3)["code"] == "log_forked"


def test_a_quorum_that_is_met_stands_in_the_note(logged: Tally, witness: str) -> None:
    _pay(logged, "k1")
    done = logged.json("log", "checkpoint", "--policy", _policy(logged, witness))
    assert done["quorum_met"] is True
    keys = [VerifierKey.parse(_key(logged)), WITNESS.verifier]
    _, note = open_checkpoint(done["checkpoint"].encode(), keys, ORIGIN)
    assert [line.name for line in note.signatures] == [ORIGIN, WITNESS.name]
    assert logged("log", "checkpoint") == done["checkpoint"]  # and is kept


def test_a_quorum_that_is_not_met_is_exit_code_1_and_the_checkpoint_is_signed_all_the_same(logged: Tally) -> None:
    _pay(logged, "k1")
    nobody = _policy(logged, "http://127.0.0.1:1")  # nothing listens there
    done = logged.run("log", "checkpoint", "--policy", nobody, "--json")
    assert done.exit_code == 1
    answer = json.loads(done.stdout)
    assert answer["quorum_met"] is False
    assert _size(answer["checkpoint"]) == 4
    assert logged.run("log", "checkpoint", "--policy", nobody).exit_code == 1
    assert logged.run("log", "checkpoint").exit_code == 0


@pytest.mark.parametrize("text", ["nonsense\n", "quorum none", "witness w1 x\nquorum w1\n", None])
def test_a_policy_that_is_none_is_wrong_usage(logged: Tally, text: str | None) -> None:
    policy = str(logged.folder / "missing") if text is None else logged.write("policy", text)
    for words in (("log", "checkpoint"), ("log", "keep"), ("verify", "receipt", policy if text else __file__)):
        assert "--policy" in logged.refused(*words, "--policy", policy, code=2)["message"]


def test_a_witness_does_not_follow_a_ledger_that_was_taken_back_with_its_home(logged: Tally, witness: str) -> None:
    shutil.copytree(logged.folder, logged.folder / "older", ignore=shutil.ignore_patterns("witness*", "older"))
    _pay(logged, "k1")
    _pay(logged, "k2")
    policy = _policy(logged, witness)
    assert logged.json("log", "checkpoint", "--policy", policy)["quorum_met"] is True
    place = logged.folder / "published"
    for number in range(4):  # smaller than what the witness saw, as large, and larger
        folder = logged.folder / f"older {number}"
        shutil.copytree(logged.folder / "older", folder)
        older = Tally(folder, str(folder / "ledger.db"))
        for payment in range(number + 1):
            _pay(older, f"another {payment}")
        words = ("log", "keep", "--publish", str(place)) if number == 2 else ("log", "checkpoint")
        done = older.run(*words, "--policy", policy, "--json")
        assert done.exit_code == 3
        assert f"the witness {WITNESS.name} shows it" in done.stderr
        for words in (("log", "checkpoint"), ("receipt", _pay(older, "more"))):  # and so it stays, without the witness
            assert older.refused(*words, code=3)["code"] == "log_forked"
        assert _forked_status(older)["forked"].startswith(f"the witness {WITNESS.name} shows it")
        (_home(older) / "forked").unlink()
        assert older.run("log", "checkpoint").exit_code == 0
    assert not place.exists()


def test_a_database_and_a_home_taken_back_together_are_not_signed_if_the_home_knows_where_it_is_published(
    file: Tally,
) -> None:
    place = file.folder / "published"
    file("log", "init", "--origin", ORIGIN, "--publish", str(place))
    older = file.folder / "older"
    shutil.copytree(file.folder, older, ignore=shutil.ignore_patterns("older"))
    _pay(file, "k1")
    file("log", "checkpoint")
    file("log", "publish", str(place))
    forked = Tally(older, str(older / "ledger.db"))
    transaction = _pay(forked, "another")
    assert forked.refused("receipt", transaction, code=3)["code"] == "log_forked"
    error = forked.refused("log", "checkpoint", code=3)
    assert error["code"] == "log_forked"
    assert _size((_home(forked) / "checkpoint").read_bytes()) == 3
    shutil.rmtree(place)
    assert forked.refused("log", "checkpoint", code=3)["code"] == "log_forked"
    _forked_status(forked)


def test_the_first_place_is_remembered_and_another_only_on_request(logged: Tally) -> None:
    first, second = str(logged.folder / "one"), str(logged.folder / "two")
    for place in (first, second):
        logged("log", "publish", place)
        assert LogHome(_home(logged)).settings.publication == first
    logged("log", "init", "--origin", ORIGIN, "--publish", second)
    assert LogHome(_home(logged)).settings.publication == second


def test_a_policy_that_was_named_once_is_asked_ever_after(logged: Tally, witness: str) -> None:
    logged("log", "init", "--origin", ORIGIN, "--policy", _policy(logged, witness))
    assert logged.json("log", "checkpoint")["quorum_met"] is True


@pytest.mark.parametrize("command", ["publish", "keep", "serve", "init", "entries"])
def test_the_home_is_no_place_to_publish(logged: Tally, command: str) -> None:
    home = str(_home(logged))
    words = {
        "publish": ("publish", home),
        "keep": ("keep", "--publish", home),
        "serve": ("serve", home),
        "init": ("init", "--origin", ORIGIN, "--publish", home),
        "entries": ("publish", "published", "--entries", home),
    }[command]
    assert "home of a log" in logged.refused("log", *words)["message"]
    assert not (_home(logged) / "tile").exists()


def test_a_witness_that_does_not_cosign_is_named_with_its_reason(logged: Tally) -> None:
    policy = _policy(logged, "http://127.0.0.1:1")
    (one,) = json.loads(logged.run("log", "checkpoint", "--policy", policy, "--json").stdout)["witnesses"]
    assert (one["name"], one["cosigned"]) == (WITNESS.name, False)
    assert "refused" in one["reason"]
    done = logged.run("log", "checkpoint", "--policy", policy)
    assert done.stderr.startswith(f"not cosigned by {WITNESS.name}: ")


def test_a_witness_is_run_from_the_command_line(logged: Tally) -> None:
    words = ("--key", str(logged.folder / "witness.key"), "--name", "witness.example/w1")
    vkey = logged("witness", "key", *words).strip()
    assert logged.json("witness", "key", *words) == {"name": "witness.example/w1", "vkey": vkey}
    command = [PROGRAM, "witness", "serve", *words, "--state", str(logged.folder / "witness.db")]
    command += ["--listen", "127.0.0.1:0", "--log", _key(logged), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            assert (said["vkey"], said["logs"]) == (vkey, [ORIGIN])
            policy = logged.write("policy", f"witness w1 {vkey} {said['url']}\nquorum w1\n")
            assert logged.json("log", "checkpoint", "--policy", policy)["quorum_met"] is True
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_SECONDS) == 0
        finally:
            process.kill()


@pytest.mark.parametrize("words", [(), ("--log", "x", "--listen", "nowhere"), ("--policy", "missing")])
def test_a_witness_that_is_called_wrongly_makes_nothing(tmp_path: Path, words: tuple[str, ...]) -> None:
    nobody = Tally(tmp_path, str(tmp_path / "ledger.db"))
    where = ("--state", str(tmp_path / "w.db"), "--key", str(tmp_path / "w.key"))
    assert nobody.refused("witness", "serve", *where, *words, code=2)["code"] == "usage"
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- publishing


def test_a_log_is_published_and_published_again(logged: Tally) -> None:
    place = logged.folder / "published"
    assert logged.json("log", "publish", str(place)) == {"size_before": 0, "size": 3, "files": 2}
    _pay(logged, "k1")
    assert logged.json("log", "publish", str(place)) == {"size_before": 3, "size": 3, "files": 0}
    note = logged("log", "checkpoint").encode()
    assert "published 4 events (3 before), 2 files" in logged("log", "publish", str(place))
    assert (place / "checkpoint").read_bytes() == (place / "checkpoints" / "4").read_bytes() == note
    assert (place / "tile" / "entries" / "000.p" / "4").exists()


def test_a_private_log_has_its_events_elsewhere(logged: Tally) -> None:
    place, entries = logged.folder / "published", logged.folder / "entries"
    logged("log", "publish", str(place), "--entries", str(entries))
    assert (place / "tile" / "0" / "000.p" / "3").exists()
    assert not (place / "tile" / "entries").exists()
    assert (entries / "tile" / "entries" / "000.p" / "3").exists()


def test_a_place_that_has_another_history_is_left_as_it_is(logged: Tally) -> None:
    place = logged.folder / "published"
    logged("log", "publish", str(place))
    other = Tally(logged.folder, str(logged.folder / "other.db"))
    other("create")
    other("log", "init", "--origin", ORIGIN)
    before = (place / "checkpoint").read_bytes()
    assert other.refused("log", "publish", str(place), code=3)["code"] == "log_forked"
    assert (place / "checkpoint").read_bytes() == before


def test_nothing_can_be_published_before_something_is_signed(file: Tally) -> None:
    with tallystick.open(file.file) as book:
        LogHome(_home(file)).begin(book.ledger("main"), ORIGIN)
    error = file.refused("log", "publish", str(file.folder / "published"), code=2)
    assert "tally log checkpoint" in error["message"]
    assert not (file.folder / "published").exists()


def test_a_lock_that_a_folder_cannot_give_is_not_promised(logged: Tally) -> None:
    for words in (("publish", "published"), ("keep", "--publish", "published"), ("keep",)):
        assert "--retain-years" in logged.refused("log", *words, "--retain-years", "7", code=2)["message"]
    assert "--publish" in logged.refused("log", "keep", "--entries", "entries", code=2)["message"]
    assert not (logged.folder / "published").exists()


def test_a_log_in_s3_is_locked_for_as_long_as_was_said(logged: Tally, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.evidence.bucket._s3_client", lambda: s3)
    place = f"s3://{BUCKET}/books/main"
    assert logged.json("log", "publish", place, "--retain-years", "7")["size"] == 3
    kept = s3.get_object(Bucket=BUCKET, Key="books/main/checkpoints/3")
    assert kept["ObjectLockMode"] == "COMPLIANCE"
    assert s3.get_object(Bucket=BUCKET, Key="books/main/checkpoint")["Body"].read() == kept["Body"].read()
    error = logged.refused("log", "publish", "s3://plain/books", "--retain-years", "7")
    assert error["code"] == "invalid_input"


# ---------------------------------------------------------------- receipts


def test_a_receipt_convinces_who_has_the_key_and_no_ledger(logged: Tally) -> None:
    transaction = _pay(logged, "k1")
    logged("log", "checkpoint")
    receipt = logged.write("receipt", logged("receipt", transaction))
    key = _key(logged)
    Path(logged.file).unlink()
    facts = logged.json("verify", "receipt", receipt, "--key", key)
    assert facts["ok"] is True
    assert (facts["verdict"], facts["origin"]) == ("included, not witnessed", ORIGIN)
    assert (facts["event"], facts["type"], facts["covered_by"]) == (transaction, "transfer", "a checkpoint of 4 events")
    lines = logged("verify", "receipt", receipt, "--key", key, "--origin", ORIGIN).splitlines()
    assert lines[0].split(maxsplit=1) == ["verdict", "included, not witnessed"]
    assert not Path(logged.file).exists()


def test_the_receipt_is_the_same_in_a_file_and_in_json(logged: Tally) -> None:
    printed = logged("receipt", "main/1")
    out = logged.folder / "r.tlog-proof"
    done = logged.run("receipt", "1", "--out", str(out))
    assert (done.exit_code, done.stderr, out.read_text()) == (0, "", printed)
    assert done.stdout == f"wrote the receipt of 1 to {out}\n"
    assert logged.json("receipt", "main/1") == {"transaction": "main/1", "kind": "receipt", "receipt": printed}
    nowhere = str(out / "nowhere")
    assert "--out" in logged.refused("receipt", "main/1", "--out", nowhere, code=2)["message"]


def test_before_the_next_checkpoint_there_is_a_promise(logged: Tally) -> None:
    transaction = _pay(logged, "k1")
    out = logged.folder / "promise.json"
    assert "wrote an acceptance" in logged("receipt", transaction, "--out", str(out))
    assert logged.json("receipt", transaction)["kind"] == "acceptance"
    facts = logged.json("verify", "receipt", str(out), "--key", _key(logged), "--origin", ORIGIN)
    assert facts["verdict"].startswith("accepted, not proven")
    assert (facts["event"], facts["origin"]) == (3, ORIGIN)
    assert facts["promise_by"].endswith("Z")
    altered = logged.write("altered.json", out.read_bytes().replace(b'"payload":"e', b'"payload":"f'))
    assert altered
    assert Path(altered).read_bytes() != out.read_bytes()
    assert logged.run("verify", "receipt", altered, "--key", _key(logged)).exit_code == 1
    other = logged.run("verify", "receipt", str(out), "--key", _key(logged), "--origin", "other.example.com/x")
    assert other.exit_code == 1


@pytest.mark.parametrize("transaction", ["main/99", "99"])
def test_a_transaction_that_is_not_there_has_no_receipt(logged: Tally, transaction: str) -> None:
    assert logged.refused("receipt", transaction)["code"] == "transaction_not_found"


@pytest.mark.parametrize("transaction", ["other/1", "main/", "main/-1", "main/1.0", "main/" + "9" * 30, "²"])
def test_what_names_no_transaction_of_this_ledger_is_refused(logged: Tally, transaction: str) -> None:
    assert logged.refused("receipt", transaction)["code"] == "invalid_input"


def test_a_receipt_with_anything_altered_does_not_hold(logged: Tally) -> None:
    receipt = logged("receipt", "main/1")
    key = _key(logged)
    head, checkpoint = receipt.split("\n\n", 1)
    alterations = {
        "another event": receipt.replace(head.splitlines()[1], logged("receipt", "main/0").splitlines()[1]),
        "another place": receipt.replace("\nindex 1\n", "\nindex 0\n"),
        "a hash less": receipt.replace(head.splitlines()[-1] + "\n", ""),
        "another size": receipt.replace(f"{ORIGIN}\n3\n", f"{ORIGIN}\n4\n"),
        "no checkpoint": head + "\n\n",
        "no signature": head + "\n\n" + checkpoint.split("\n\n")[0] + "\n\n",
        "a line more": receipt + "more\n",
        "nothing": "",
        "something else": "hello\n",
    }
    assert logged.run("verify", "receipt", logged.write("r", receipt), "--key", key).exit_code == 0
    for what, text in alterations.items():
        assert text != receipt, what
        done = logged.run("verify", "receipt", logged.write("r", text), "--key", key, "--json")
        assert done.exit_code == 1, what
        answer = json.loads(done.stdout)
        assert answer["ok"] is False
        assert answer["error"]["code"] in ("note_invalid", "proof_invalid"), what
        assert logged.run("verify", "receipt", str(logged.folder / "r"), "--key", key).stdout.startswith("not valid: ")


def test_a_receipt_needs_the_right_key_and_origin(logged: Tally) -> None:
    receipt = logged.write("r", logged("receipt", "main/1"))
    stranger = SecretKey.from_seed(ORIGIN, bytes(32)).verifier
    assert logged.run("verify", "receipt", receipt, "--key", str(stranger)).exit_code == 1
    assert logged.run("verify", "receipt", receipt, "--key", _key(logged), "--origin", "a.example/b").exit_code == 1
    assert "--key" in logged.refused("verify", "receipt", receipt, code=2)["message"]
    file = logged.write("log.vkey", logged("log", "key"))
    assert logged.run("verify", "receipt", receipt, "--key", file).exit_code == 0
    wrong = ("garbage", _key(logged)[:-1], logged.write("empty", ""), logged.write("bytes", b"\xff+\xff"))
    for key in wrong:
        assert "--key" in logged.refused("verify", "receipt", receipt, "--key", key, code=2)["message"]
    missing = str(logged.folder / "missing")
    assert logged.refused("verify", "receipt", missing, "--key", _key(logged), code=2)["code"] == "usage"


def test_a_policy_asks_for_witnesses_and_an_acceptance_has_none(logged: Tally, witness: str) -> None:
    policy = _policy(logged, witness)
    alone = logged.write("alone", logged("receipt", "main/1"))
    assert logged.run("verify", "receipt", alone, "--policy", policy).exit_code == 1
    promise = logged.write("promise", logged("receipt", _pay(logged, "k1")))
    assert logged.run("verify", "receipt", promise, "--policy", policy).exit_code == 1
    relaxed = logged.write("relaxed", f"log {_key(logged)}\nquorum none\n")
    assert logged.run("verify", "receipt", promise, "--policy", relaxed).exit_code == 0
    logged("log", "checkpoint", "--policy", policy)
    seen = logged.write("seen", logged("receipt", "main/1"))
    facts = logged.json("verify", "receipt", seen, "--policy", policy)
    assert facts["verdict"] == f"included, witnessed by {WITNESS.name}"


# ---------------------------------------------------------------- rotation


def test_after_a_rotation_old_receipts_hold_and_new_ones_need_the_new_key(logged: Tally) -> None:
    old = _key(logged)
    before = logged.write("before", logged("receipt", "main/1"))
    rotated = logged.json("log", "rotate")
    assert rotated["key"] != old
    assert logged.json("log", "key") == {"key": rotated["key"], "retired": [old]}
    assert logged("log", "key") == rotated["key"] + "\n"
    assert logged("log", "key", "--all").splitlines() == [old, rotated["key"]]
    assert logged("log", "status").splitlines()[-1].split() == ["retired", "key", old]
    both = rotated["checkpoint"].encode()
    for key in (old, rotated["key"]):
        assert open_checkpoint(both, [VerifierKey.parse(key)], ORIGIN)[0].size == 4
    _pay(logged, "k1")
    logged("log", "checkpoint")
    after = logged.write("after", logged("receipt", "main/1"))
    assert logged.run("verify", "receipt", before, "--key", old).exit_code == 0
    assert logged.run("verify", "receipt", after, "--key", old).exit_code == 1
    assert logged.run("verify", "receipt", after, "--key", rotated["key"]).exit_code == 0
    assert [line["event"]["type"] for line in logged.lines("events")].count("key_rotated") == 2


# ---------------------------------------------------------------- keeping


def test_a_kept_log_signs_and_publishes_what_others_post(postgres: str, tmp_path: Path) -> None:
    database, home, place = Tally(tmp_path, postgres), str(tmp_path / "home"), tmp_path / "published"
    database("create")
    database("mint", "users:alice", "100", "USD/2", "--key", "first")
    database("log", "init", "--origin", ORIGIN, "--home", home)
    command = [PROGRAM, "-f", postgres, "log", "keep", "--every", "0.1", "--publish", str(place), "--home", home]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            for number in range(3):
                _pay(database, f"k{number}")
                size = 4 + number

                def published(size: int = size) -> bool:
                    assert process.poll() is None
                    return (place / "checkpoints" / str(size)).exists()

                _wait_until(published)
            _pay(database, "the last")
            process.send_signal(signal.SIGTERM)
            out, errors = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            process.kill()
    assert (process.returncode, out, errors) == (0, "", "")
    assert _size((place / "checkpoint").read_bytes()) == 7
    assert database.json("log", "status", "--home", home)["signed"] == 7


def test_a_kept_log_that_forks_ends_with_exit_code_3(logged: Tally) -> None:
    _pay(logged, "k1")
    (_home(logged) / "checkpoint").unlink()
    done = logged.run("log", "keep", "--every", "0.1")
    assert done.exit_code == 3
    assert "the home has no checkpoint" in done.stderr
    assert _forked_status(logged)["signed"] == 3


def test_a_ledger_file_is_kept_by_the_process_that_writes_it(logged: Tally) -> None:
    place = DirectoryPublication(logged.folder / "published")
    with tallystick.open(logged.file) as book:
        ledger = book.ledger("main")
        with LogKeeper(LogHome(_home(logged)).open(ledger), every_seconds=0.05, publication=place) as keeper:
            ledger.transfer("users:alice", "users:bob", "USD/2", 1, key="k1")
            _wait_until(lambda: place.read("checkpoints/4") is not None)
            command = [PROGRAM, "-f", logged.file, "log", "rotate", "--json"]
            other = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
            assert (other.returncode, json.loads(other.stderr)["error"]["code"]) == (3, "ledger_locked")
            assert logged.json("log", "status")["signed"] == 4
            ledger.transfer("users:alice", "users:bob", "USD/2", 1, key="k2")
        assert (keeper.failure, keeper.is_alive) == (None, False)
    assert _size(place.read("checkpoint") or b"") == 5
    assert logged.json("log", "publish", str(place.folder)) == {"size_before": 5, "size": 5, "files": 0}
