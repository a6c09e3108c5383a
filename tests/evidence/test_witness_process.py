"""The witness as a real process: what it has cosigned outlives kill -9."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tallystick.evidence.witness import Cosigned, NotCosigned, Stale, WitnessClient, encode_request
from tallystick.evidence.witness_records import WitnessRecords
from tallystick.evidence.witness_server import WitnessService
from tallystick.journal.checkpoints import cosignature_time
from tallystick.journal.notes import VerifierKey
from tests.evidence.witness_support import LOG_KEY, ORIGIN, WITNESS_KEY, Log, key, logs_by_origin

COMMAND = (sys.executable, "-c", "from tallystick.cli import tally; tally()", "witness")
PATIENCE_SECONDS = 30


@contextmanager
def started(folder: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    arguments = ["serve", "--listen", "127.0.0.1:0", "--state", str(folder / "witness.db")]
    arguments += ["--key", str(folder / "witness.key"), "--name", "witness.example/w1", "--json", *more]
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_SECONDS)


def client_of(said: dict[str, Any]) -> WitnessClient:
    return WitnessClient(said["url"], VerifierKey.parse(said["vkey"]), timeout_seconds=PATIENCE_SECONDS)


def test_a_witness_that_was_killed_refuses_to_go_back(tmp_path: Path) -> None:
    log, fork = Log(), Log(fork_at=4)
    with started(tmp_path, "--log", str(LOG_KEY.verifier)) as (process, said):
        assert (said["logs"], said["sizes"]) == ([ORIGIN], {})
        client = client_of(said)
        assert isinstance(client.add_checkpoint(0, [], log.note(3)), Cosigned)
        first = client.add_checkpoint(3, log.proof(3, 9), log.note(9))
        process.send_signal(signal.SIGKILL)
        assert process.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    with started(tmp_path, "--log", str(LOG_KEY.verifier)) as (process, again):
        assert again["vkey"] == said["vkey"]
        assert again["sizes"] == {ORIGIN: 9}
        client = client_of(again)
        assert client.add_checkpoint(0, [], log.note(5)) == Stale(9)
        assert client.add_checkpoint(3, log.proof(3, 5), log.note(5)) == Stale(9)
        assert isinstance(client.add_checkpoint(9, [], log.note(5)), NotCosigned)
        assert isinstance(client.add_checkpoint(9, fork.proof(9, 12), fork.note(12)), NotCosigned)
        second = client.add_checkpoint(9, log.proof(9, 12), log.note(12))
        assert isinstance(first, Cosigned)
        assert isinstance(second, Cosigned)
        assert cosignature_time(second.signature) >= cosignature_time(first.signature)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0


def test_whatever_was_cosigned_before_a_kill_is_remembered(tmp_path: Path) -> None:
    """Killed in the middle of its work: no cosignature may have left that is not on record."""
    log, cosigned = Log(), [0]
    with started(tmp_path, "--log", str(LOG_KEY.verifier)) as (process, said):
        client = client_of(said)
        for size in itertools.count(1):
            if size == 20:
                # The kill falls somewhere into the requests that follow.
                threading.Timer(0.005, process.kill).start()
            if not isinstance(client.add_checkpoint(size - 1, log.proof(size - 1, size), log.note(size)), Cosigned):
                break
            cosigned.append(size)
        process.wait(PATIENCE_SECONDS)
    assert cosigned[-1] >= 19
    with started(tmp_path, "--log", str(LOG_KEY.verifier)) as (_, again):
        assert again["sizes"][ORIGIN] in (cosigned[-1], cosigned[-1] + 1)


def test_the_logs_may_come_from_a_policy(tmp_path: Path) -> None:
    other = key("other.example/log").verifier
    (tmp_path / "policy").write_text(f"log {LOG_KEY.verifier}\nquorum none\n")
    more = f"{other},a log of another name {other}"
    with started(tmp_path, "--policy", str(tmp_path / "policy"), "--log", more) as (_, said):
        assert said["logs"] == ["a log of another name", ORIGIN, "other.example/log"]
        renamed = Log("a log of another name", signer=key("other.example/log"))
        assert isinstance(client_of(said).add_checkpoint(0, [], renamed.note(3)), Cosigned)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        env={**os.environ},
        check=False,
    )


def test_its_key_is_shown_and_made_once(tmp_path: Path) -> None:
    path = str(tmp_path / "witness.key")
    first = run("key", "--key", path)
    assert first.returncode == 0, first.stderr
    assert re.fullmatch(r"[^ +]+/witness\+[0-9a-f]{8}\+BA?[A-Za-z0-9+/]+=*\n", first.stdout)
    assert run("key", "--key", path).stdout == first.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--log", "nonsense"),
        ("--log", f"{LOG_KEY.verifier},"),
        ("--policy", "missing"),
        ("--policy", __file__),
        ("--log", str(LOG_KEY.verifier), "--listen", "7380"),
        ("--log", str(LOG_KEY.verifier), "--name", ORIGIN),
    ],
)
def test_without_logs_an_address_or_a_name_of_its_own_it_does_not_start(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = run("serve", "--state", str(tmp_path / "s"), "--key", str(tmp_path / "k"), *arguments)
    assert done.returncode == 2, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_forks_that_it_keeps_are_shown(tmp_path: Path) -> None:
    state = tmp_path / "witness.db"
    records = WitnessRecords(state)
    service = WitnessService(records, [WITNESS_KEY], logs_by_origin([LOG_KEY.verifier]))
    assert service.add_checkpoint(Log().request(0, 9)).status == 200
    done = run("forks", "--state", str(state))
    assert (done.returncode, done.stdout) == (0, "no log that it knows has signed two histories\n")
    forked = Log(fork_at=4).note(9)
    assert service.add_checkpoint(encode_request(9, [], forked)).status == 422
    [(cosigned, _)] = records.forks(ORIGIN)
    records.close()
    done = run("forks", "--state", str(state), "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == [{"origin": ORIGIN, "cosigned": cosigned.decode(), "note": forked.decode()}]
    done = run("forks", "--state", str(state))
    assert done.returncode == 1
    assert cosigned.decode() in done.stdout
    assert forked.decode() in done.stdout


def test_looking_for_forks_makes_no_file(tmp_path: Path) -> None:
    assert run("forks", "--state", str(tmp_path / "witness.db")).returncode == 2
    assert list(tmp_path.iterdir()) == []
