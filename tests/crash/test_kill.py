"""What was acknowledged survives a kill at any instant; what was not is wholly there or wholly absent."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest

import tallystick
from tallystick import Ledger
from tallystick.journal import leaf_hash, seal
from tests.support.processes import wait_until

KILLS = {"sqlite": 200, "postgres": 40}
KILLS_PER_REPLAY = 40
WHOLE_AT = 15
"""The kill before which a long batch is waited for, however slow the machine is."""
ROOT = Path(__file__).parents[2]
MAX_WAIT_SECONDS = 60
WAITS = {"mixed": [0.002, 0.03, 0.05], "long": [0.05, 0.15, 0.3]}
"""How long a child may work before it is killed, in seconds; a long batch needs a while to begin writing."""


class Posters:
    """A program that forks posting children, and what they have reported."""

    def __init__(self) -> None:
        self.program = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.poster"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.rest = b""

    def close(self) -> None:
        """End the program; if a test went wrong, with the child that nobody killed."""
        with self.program:
            assert self.program.stdin
            self.program.stdin.close()
            try:
                assert self.program.wait(timeout=5) == 0
            except subprocess.TimeoutExpired:
                os.killpg(self.program.pid, signal.SIGKILL)
                raise

    def run(self, path: str | Path, run: str, random: Random, kind: str) -> list[list[Any]]:
        """Start a child, kill it at a random instant, and return what it had acknowledged by then."""
        assert self.program.stdin
        self.program.stdin.write(json.dumps([str(path), run, random.randrange(2**32), kind]).encode() + b"\n")
        self.program.stdin.flush()
        lines = self._read_until("child")
        child = lines[-1][1]
        if kind == "early":
            lines += self._read_for(random.random() * 0.03)
        else:
            lines += self._read_until("idle" if kind == "brief" else "funded")
        if kind == "whole":
            lines += self._read_until_long()
        if kind in WAITS:
            lines += self._read_for(random.random() * random.choice(WAITS[kind]))
        os.kill(child, signal.SIGKILL)
        lines += self._read_until("dead")
        return [line for line in lines if isinstance(line[1], int) and line[2]]

    def _read_until(self, word: str) -> list[list[Any]]:
        found: list[list[Any]] = []
        while not found or found[-1][0] != word:
            assert self._wait(MAX_WAIT_SECONDS), f"no word of {word!r}"
            found += self._take(word)
        return found

    def _read_until_long(self) -> list[list[Any]]:
        """Up to the report of a long batch; the next one is under way by then."""
        found: list[list[Any]] = []
        while not any(" l " in line[0] for line in found):
            assert self._wait(MAX_WAIT_SECONDS), "no word of a long batch"
            found += self._take("")
        return found

    def _read_for(self, seconds: float) -> list[list[Any]]:
        found: list[list[Any]] = []
        end = time.monotonic() + seconds
        while self._wait(max(end - time.monotonic(), 0)):
            found += self._take("")
            if time.monotonic() >= end:
                break
        return found

    def _wait(self, seconds: float) -> bool:
        return b"\n" in self.rest or bool(select.select([self.program.stdout], [], [], seconds)[0])

    def _take(self, word: str) -> list[list[Any]]:
        """The lines that have come, up to and with the one that begins with ``word``."""
        if b"\n" not in self.rest:
            assert self.program.stdout
            self.rest += os.read(self.program.stdout.fileno(), 65_536)
        found = []
        while b"\n" in self.rest:
            line, _, self.rest = self.rest.partition(b"\n")
            found.append(json.loads(line))
            if found[-1][0] == word:
                break
        return found


@pytest.fixture
def posters() -> Iterator[Posters]:
    found = Posters()
    yield found
    found.close()


class Witness:
    """What has been seen of the ledger so far: it must never change, and what follows must follow from it."""

    def __init__(self) -> None:
        self.hashes: list[str] = []
        self.keys: dict[str, int] = {}
        self.acknowledged = 0
        self.long_batches = 0

    def look(self, ledger: Ledger, acknowledged: list[list[Any]]) -> None:
        """Read what is new, check its chain, and find everything that was acknowledged in it."""
        if self.hashes:
            assert ledger.transaction(len(self.hashes) - 1).hash == self.hashes[-1]
        new = []
        while page := ledger.events(after=len(self.hashes) - 1, limit=10_000):
            for found in page:
                assert found.seq == len(self.hashes)
                assert found.event.prev == (self.hashes[-1] if self.hashes else "0" * 64)
                assert found.key not in self.keys, "no key is used twice"
                self.hashes.append(found.hash)
                self.keys[found.key] = found.seq
                new.append(found)
        for found in new[-50:]:
            assert found.hash == leaf_hash(seal(found.event, found.event.prev)[0])
        assert ledger.head.hash == (self.hashes[-1] if self.hashes else "0" * 64)
        for key, seq, hash in acknowledged:
            assert self.keys.get(key) == seq, f"{key} was acknowledged as event {seq}"
            assert self.hashes[seq] == hash
        self.acknowledged += len(acknowledged)
        self._check_batches([found.key for found in new])
        for key in Random(len(self.hashes)).sample(sorted(self.keys), min(10, len(self.keys))):
            source = "tallystick" if key == "ledger_opened" else "local"
            found = ledger.by_key(key, source)
            assert found is not None
            assert found.seq == self.keys[key]

    def _check_batches(self, keys: list[str]) -> None:
        """Every call was one commit: of its keys all are there, or none."""
        batches: dict[str, set[str]] = defaultdict(set)
        for key in keys:
            name, _, index = key.rpartition(" ")
            if name.split(" ")[1:2] in (["a"], ["i"], ["l"]):
                batches[name].add(index)
        for name, indices in batches.items():
            self.long_batches += " l " in name
            assert len(indices) == int(name.rpartition(" ")[2]), f"only a part of {name} is there"


def check_whole(ledger: Ledger, witness: Witness) -> None:
    report = ledger.replay()
    assert report.ok, report.findings
    assert report.events == len(witness.hashes)
    assert ledger.trial_balance().is_balanced


def await_the_last_commit(url: str) -> None:
    """A server may go on for an instant with what a client had sent that is dead by now."""
    if url.startswith("postgresql:"):
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        with psycopg.connect(url, autocommit=True) as connection:
            wait_until(lambda: connection.execute(others).fetchone() == (0,), MAX_WAIT_SECONDS, "the dead to be gone")


@pytest.mark.parametrize(("url", "store"), [("sqlite", "sqlite"), ("postgres", "postgres")], indirect=["url"])
def test_many_kills_lose_nothing_that_was_acknowledged_and_leave_nothing_half_written(
    url: str, store: str, posters: Posters
):
    seed = 48
    print(f"seed {seed}")
    random, witness = Random(seed), Witness()
    for kill in range(KILLS[store]):
        kind = "whole" if kill == WHOLE_AT else {3: "early", 5: "long"}.get(kill % 10, "mixed")
        acknowledged = posters.run(url, f"r{kill}", random, kind)
        await_the_last_commit(url)
        with tallystick.open(url) as database:
            ledger = database.ledger("main")
            witness.look(ledger, acknowledged)
            if kill % KILLS_PER_REPLAY == 0:
                check_whole(ledger, witness)
    with tallystick.open(url) as database:
        check_whole(database.ledger("main"), witness)
    print(f"{len(witness.hashes)} events, {witness.acknowledged} acknowledged, {witness.long_batches} long batches")
    assert witness.acknowledged > 5 * KILLS[store]
    assert witness.long_batches >= 1


def test_a_kill_while_the_file_is_being_made_leaves_nothing_that_cannot_be_opened(tmp_path: Path, posters: Posters):
    seed = 5
    print(f"seed {seed}")
    random = Random(seed)
    sizes = set()
    for number in range(40):
        path = tmp_path / f"{number}.db"
        acknowledged = posters.run(path, "r", random, "early")
        sizes.add(path.stat().st_size if path.exists() else -1)
        witness = Witness()
        with tallystick.open(path) as database:
            ledger = database.ledger("main")
            witness.look(ledger, acknowledged)
            ledger.mint("users:after", "USD/2", 5, key="after")
            assert ledger.replay().ok
    assert len(sizes) > 1, "some were killed earlier than others"


def test_a_file_whose_maker_died_before_the_log_of_writes_began_is_begun_again(tmp_path: Path):
    made, found = tmp_path / "made.db", tmp_path / "found.db"
    with closing(sqlite3.connect(made, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE passing (number INTEGER)")
        connection.execute("DROP TABLE passing")
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE half_made (body BLOB)")
        for _ in range(50):
            connection.execute("INSERT INTO half_made VALUES (zeroblob(4000))")
        shutil.copy(made, found)
        shutil.copy(f"{made}-journal", f"{found}-journal")
    with tallystick.open(found) as database:
        assert database.ledgers() == []
        database.ledger("main").mint("users:a", "USD/2", 5, key="k")
        assert database.ledger("main").replay().ok


def test_a_torn_end_of_the_log_costs_only_a_suffix(tmp_path: Path, posters: Posters):
    """As after a power cut on a disk that lied: the last writes are cut off or garbage; the ledger opens, whole."""
    seed = 11
    print(f"seed {seed}")
    random, path = Random(seed), tmp_path / "book.db"
    lost = kept = 0
    for run in range(4):
        posters.run(path, f"t{run}", random, "brief")
        whole = torn(path, tmp_path / f"whole-{run}", None, b"")
        hashes = hashes_of(whole)
        size = path.with_name("book.db-wal").stat().st_size
        for attempt in range(12):
            tail = b"" if attempt % 2 else random.randbytes(5_000)
            copy = torn(path, tmp_path / f"torn-{run}-{attempt}", random.randrange(size + 1), tail)
            found = hashes_of(copy)
            assert found == hashes[: len(found)], "what is there is what was there"
            lost += len(found) < len(hashes)
            kept += len(found) > 1
    assert lost > 24
    assert kept > 24


def torn(path: Path, folder: Path, length: int | None, tail: bytes) -> Path:
    """A copy of a ledger file whose log of writes ends after ``length`` bytes, in garbage or not."""
    folder.mkdir()
    copy = folder / "book.db"
    shutil.copy(path, copy)
    log = path.with_name("book.db-wal").read_bytes()
    if length is not None:
        log = log[:length] + tail[: max(len(log) - length, 0)]
    copy.with_name("book.db-wal").write_bytes(log)
    return copy


def hashes_of(path: Path) -> list[str]:
    """The hashes of every event, of a ledger that has been checked as a whole."""
    with tallystick.open(path) as database:
        ledger = database.ledger("main")
        report = ledger.replay()
        assert report.ok, report.findings
        found: list[str] = []
        while page := ledger.events(after=len(found) - 1, limit=10_000):
            found += [event.hash for event in page]
        return found
