"""Workers that post at once, some of which are killed and replaced, while connections are cut at random."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import psycopg
from msgspec import Struct

from tests.concurrency.worker import Orders, read_notes
from tests.support.processes import STOP_SECONDS

ROOT = Path(__file__).parents[2]
LOOK_SECONDS = 0.05

ONE_OF_US = """
SELECT pg_terminate_backend(pid) FROM (
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name IN ('tallystick', 'caller') AND pid <> pg_backend_pid()
    ORDER BY random() LIMIT 1
) AS unlucky
"""


class Size(Struct, frozen=True):
    """How much is to happen."""

    processes: int
    threads: int
    calls: int
    """Of each thread; they are counted, so that a fleet comes to an end however fast it is."""
    kills: int
    cuts: int
    ledgers: int
    seconds: float
    """It is an error if it takes longer."""


class Worker:
    """A worker's process, and where it writes."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.notes = Path(orders.folder) / f"{orders.name}.notes"
        self._errors = Path(orders.folder) / f"{orders.name}.errors"
        self._counted = self._answers = 0
        self.notes.touch()
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.concurrency.worker"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )
        assert self.process.stdin
        self.process.stdin.write(msgspec.json.encode(orders) + b"\n")
        self.process.stdin.flush()

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def count_answers(self) -> int:
        """How many calls it was answered so far."""
        with self.notes.open("rb") as file:
            file.seek(self._counted)
            whole, end, _ = file.read().rpartition(b"\n")
        self._counted += len(whole) + len(end)
        self._answers += sum(line.startswith(b'["told"') for line in whole.splitlines())
        return self._answers

    def kill(self) -> None:
        """End it as the system does that has run out of memory."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_SECONDS)

    def close(self) -> None:
        if self.is_running:
            self.kill()
        assert self.process.stdin
        self.process.stdin.close()

    def said(self) -> str:
        """What it had to say when something went wrong."""
        return self._errors.read_text()[-4_000:]


class Fleet:
    """Use it as a context manager: whatever happens, no process outlives it."""

    def __init__(self, url: str, folder: Path, seed: int, size: Size) -> None:
        self.url = url
        self.folder = folder
        self.seed = seed
        self.size = size
        self.ledgers = ["main", *(f"side-{number}" for number in range(1, size.ledgers))]
        self.kills = self.cuts = 0
        self._random = Random(seed)
        self._generations = count(size.processes)
        self._workers: list[Worker] = []
        self._replaced: list[Worker] = []
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE orders (ledger text, key text, PRIMARY KEY (ledger, key))")

    def __enter__(self) -> Fleet:
        for number in range(self.size.processes):
            self._workers.append(self._start(f"p{number}"))
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in [*self._workers, *self._replaced]:
            worker.close()

    def _start(self, name: str, inherited: str = "") -> Worker:
        size = self.size
        return Worker(
            Orders(
                url=self.url,
                folder=str(self.folder),
                name=name,
                seed=self.seed,
                threads=size.threads,
                calls=size.calls,
                ledgers=self.ledgers,
                inherited=inherited,
            )
        )

    # ------------------------------------------------------------ running

    def run(self) -> None:
        """Until all have done what they were told to, with the kills and cuts spread over the time that takes."""
        deadline = time.monotonic() + self.size.seconds
        total = self.size.processes * self.size.threads * self.size.calls
        moments = [(total * number // (self.size.kills + 1), self._kill) for number in range(1, self.size.kills + 1)]
        moments += [(total * number // (self.size.cuts + 1), self._cut) for number in range(1, self.size.cuts + 1)]
        moments.sort(key=lambda moment: moment[0])
        while any(worker.is_running for worker in self._workers):
            assert time.monotonic() < deadline, f"they are not done: {self._progress()} of {total}"
            for worker in self._workers:
                assert worker.is_running or not worker.process.returncode, worker.said()
            done = self._progress()
            while moments and moments[0][0] <= done:
                moments.pop(0)[1]()
            time.sleep(LOOK_SECONDS)
        for worker in self._workers:
            assert not worker.process.returncode, worker.said()
            assert read_notes(worker.notes)[-1][0] == "ended", worker.said()

    def _progress(self) -> int:
        """How many calls were answered so far."""
        return sum(worker.count_answers() for worker in [*self._workers, *self._replaced])

    def _kill(self) -> None:
        """Kill one that is at work; another takes its place."""
        working = [index for index, worker in enumerate(self._workers) if worker.is_running]
        if not working:
            return
        index = self._random.choice(working)
        old = self._workers[index]
        old.kill()
        self.kills += 1
        self._replaced.append(old)
        self._workers[index] = self._start(f"p{next(self._generations)}", str(self._chronicle(old)))

    def _chronicle(self, worker: Worker) -> Path:
        """Everything that a worker wrote, and those before it whose place it took, whose calls it may not have asked
        again yet."""
        path = self.folder / f"{worker.orders.name}.inheritance"
        lines: list[bytes] = []
        if worker.orders.inherited:
            lines += Path(worker.orders.inherited).read_bytes().splitlines()
        whole, _, _ = worker.notes.read_bytes().rpartition(b"\n")
        path.write_bytes(b"\n".join([*lines, *whole.splitlines(), b""]))
        return path

    def _cut(self) -> None:
        """Cut the connection of somebody, whatever it is doing."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            if connection.execute(ONE_OF_US).fetchone():
                self.cuts += 1

    # ------------------------------------------------------------ what they wrote

    def notes(self) -> list[list[Any]]:
        """All lines of all workers; call numbers are made one's own by the worker's name."""
        found: list[list[Any]] = []
        for worker in [*self._replaced, *self._workers]:
            for line in read_notes(worker.notes):
                found.append([line[0], f"{worker.orders.name} {line[1]}", *line[2:]])
        return found
