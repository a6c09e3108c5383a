"""`tally export` and `tally verify bundle`: a bundle is handed over, and checked."""

from __future__ import annotations

import hashlib
import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import tallystick
from tallystick import verify
from tests.cli.conftest import Tally
from tests.evidence.bundle_support import files_of

ORIGIN = "ledger.example/main"
POLICY = "quorum none\n"


@pytest.fixture
def logged(tally: Tally) -> Tally:
    """A ledger of a few transfers with a log over it, whose home is the folder ``home``."""
    tally("log", "init", "--origin", ORIGIN, "--home", home(tally))
    for number in range(4):
        tally("transfer", "users:alice", "users:bob", "1.50", "USD/2", "--key", f"t{number}")
    return tally


def home(tally: Tally) -> str:
    return str(tally.folder / "home")


def key_of(tally: Tally) -> str:
    return str(tally.json("log", "status", "--home", home(tally))["key"])


def place(tally: Tally, name: str = "bundle") -> str:
    return str(tally.folder / name)


def test_what_is_exported_is_verified(logged: Tally):
    said = logged("export", place(logged), "--home", home(logged))
    assert said.startswith("exported 7 events (all of 7), ")
    assert f"check it with: tally verify bundle {place(logged)} --key KEY" in said
    assert hashlib.sha256(Path(verify.__file__).read_bytes()).hexdigest() in said
    assert f"python {place(logged)}" not in said
    told = logged("verify", "bundle", place(logged), "--key", key_of(logged))
    assert f"{place(logged)}: internally consistent, not witnessed" in told
    report = logged.json("verify", "bundle", place(logged))
    assert (report["ok"], report["size"]) == (True, 7)


def test_the_answer_as_json_says_what_was_exported(logged: Tally):
    done = logged.json("export", place(logged), "--home", home(logged), "--from", "3", "--to", "5")
    files = files_of(Path(place(logged)))
    sizes = {"files": len(files), "bytes": sum(len(data) for data in files.values())}
    root = json.loads(files["manifest.json"])["root"]
    facts = {"folder": place(logged), "ledger": "main", "origin": ORIGIN, "size": 7, "first": 3, "end": 5}
    assert done == {**facts, "root": root, **sizes}
    assert logged.json("verify", "bundle", place(logged))["window"] == "3 to 5"


def test_openings_and_a_policy_go_along_if_they_are_asked_for(logged: Tally):
    logged("transfer", "users:alice", "users:bob", "1", "USD/2", "--erasable", "payer=Alice Müller")
    policy = logged.write("policy.txt", POLICY)
    logged("export", place(logged), "--home", home(logged), "--openings", "--policy", policy)
    files = files_of(Path(place(logged)))
    assert files["policy"].decode() == POLICY
    assert "Alice Müller" in files["openings.jsonl"].decode()
    logged("verify", "bundle", place(logged), "--policy", policy)


def test_a_checkpoint_and_a_receipt_from_before_speak_for_the_bundle(logged: Tally):
    kept = logged.write("kept", logged("log", "checkpoint", "--home", home(logged)))
    logged("transfer", "users:alice", "users:bob", "1", "USD/2")
    receipt = logged.write("receipt", logged("receipt", "main/2", "--home", home(logged)))
    logged("export", place(logged), "--home", home(logged))
    words = ("verify", "bundle", place(logged), "--key", key_of(logged))
    report = logged.json(*words, "--checkpoint", kept, "--receipt", receipt)
    assert report["verdicts"]["outside"]["verdict"] == "passed"
    assert "extends" in report["verdicts"]["outside"]["detail"]


def test_a_bundle_on_a_web_server_is_verified_there(logged: Tally):
    logged("export", place(logged), "--home", home(logged), "--from", "2")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=place(logged))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        token = logged.write("token", "any")
        words = ("--token-file", token, "--deadline", "60", "--require", "accounting")
        report = logged.json("verify", "bundle", f"http://127.0.0.1:{server.server_port}", *words)
        server.shutdown()
    assert (report["ok"], report["window"]) == (True, "2 to 7")


def test_a_bundle_that_does_not_hold_is_exit_code_1(logged: Tally):
    logged("export", place(logged), "--home", home(logged))
    entries = next(Path(place(logged)).glob("tile/entries/*.p/*"))
    entries.write_bytes(entries.read_bytes().replace(b'"150"', b'"151"', 1))
    result = logged.run("verify", "bundle", place(logged))
    assert (result.exit_code, "does not hold" in result.stdout) == (1, True)


def test_what_is_required_and_was_not_checked_is_exit_code_1(logged: Tally):
    logged("export", place(logged), "--home", home(logged))
    assert logged.run("verify", "bundle", place(logged), "--require", "bytes,tree").exit_code == 0
    assert logged.run("verify", "bundle", place(logged), "--require", "outside").exit_code == 1


def test_something_that_is_no_bundle_is_wrong_usage(logged: Tally):
    result = logged.run("verify", "bundle", place(logged, "nowhere"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is no directory" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from", "7"), "7 is none of the 7 events"),
        (("--from", "5", "--to", "5"), "5 is not from 6 to 7"),
        (("--to", "8"), "8 is not from 1 to 7"),
        (("--policy", "nowhere"), "nowhere: No such file"),
        (("--policy", __file__), "test_export.py: "),
    ],
)
def test_a_wrong_option_is_named(logged: Tally, words: tuple[str, ...], said: str):
    result = logged.run("export", place(logged), "--home", home(logged), *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert words[-2] in result.stderr
    assert not Path(place(logged)).exists()


def test_a_folder_with_things_in_it_is_refused(logged: Tally):
    Path(place(logged)).mkdir()
    logged.write("bundle/mine", "mine")
    result = logged.run("export", place(logged), "--home", home(logged))
    assert result.exit_code == 2
    assert "there are things in it" in result.stderr
    assert files_of(Path(place(logged))) == {"mine": b"mine"}


def test_a_ledger_without_a_log_has_nothing_to_export(tally: Tally):
    result = tally.run("export", place(tally), "--home", home(tally))
    assert result.exit_code == 3
    assert "tally log init" in result.stderr


def test_while_another_writes_to_the_file_what_was_signed_last_is_exported(logged: Tally):
    if "://" in logged.file:
        pytest.skip("a database has many writers")
    with tallystick.open(logged.file) as database:
        database.ledger("main").transfer("users:alice", "users:bob", "USD/2", 1, key="theirs")
        done = logged.json("export", place(logged), "--home", home(logged))
    assert done["size"] == 3
    assert logged.json("verify", "bundle", place(logged))["ok"]
