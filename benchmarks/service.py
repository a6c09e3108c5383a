"""The service over HTTP: postings, batches, reads and overload, with the load in a second process on the loopback.

The baseline is the same server's answer to ``GET /health``, which does no work: what HTTP itself costs here.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tallystick
from benchmarks import server
from benchmarks.embedded import fund
from benchmarks.figures import Figure, alone, compared
from tallystick.access.keys import Keyring
from tallystick.control import open_control

PROGRAM = str(Path(sys.executable).with_name("tally"))
RUNS = 5
SECONDS = 4.0
CONNECTIONS = 64
ACCOUNTS = 1_000
BULK_SIZE, BULK_CONNECTIONS = 1_000, 4
CROWD = 10 * CONNECTIONS
BASELINE = "answers to GET /health"


class Served:
    """A running service and a key for it."""

    def __init__(self, base: str, token: str, process: subprocess.Popen[bytes]) -> None:
        self.host, _, port = base.removeprefix("http://").partition(":")
        self.port = int(port)
        self.token = token
        self.process = process

    def load(self, what: str, *, connections: int = CONNECTIONS, seconds: float = SECONDS) -> dict[str, Any]:
        """What came of so many seconds of load."""
        work = {
            "host": self.host,
            "port": self.port,
            "token": self.token,
            "what": what,
            "connections": connections,
            "seconds": seconds,
            "size": BULK_SIZE,
            "accounts": ACCOUNTS,
            "run": secrets.token_hex(4),
        }
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.load"],
            input=json.dumps(work).encode(),
            stdout=subprocess.PIPE,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        found: dict[str, Any] = json.loads(done.stdout)
        found["rate"] = sum(n for status, n in found["statuses"].items() if status.startswith("2")) / found["seconds"]
        return found

    def resident_megabytes(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextlib.contextmanager
def serving(url: str, folder: Path) -> Iterator[Served]:
    """`tally serve`, as an operator runs it: with its jobs and its log of requests."""
    with tallystick.open(url) as database:
        fund(database.ledger("main"), ACCOUNTS)
    control = open_control(url)
    token, _ = Keyring(control).create("load", role="admin")
    control.close()
    out = folder / f"serve-{secrets.token_hex(4)}.out"
    with out.open("wb") as stdout, (folder / "serve.log").open("wb") as stderr:
        process = subprocess.Popen([PROGRAM, "-f", url, "serve", "--port", "0"], stdout=stdout, stderr=stderr)
    try:
        while not (found := re.search(r" at (http://\S+)", out.read_text())):
            if process.poll() is not None:
                raise RuntimeError((folder / "serve.log").read_text())
            time.sleep(0.05)
        yield Served(found[1], token, process)
    finally:
        process.terminate()
        process.wait(60)


def embedded(folder: Path) -> Iterator[Figure]:
    """On SQLite."""
    with serving(str(folder / "service.db"), folder) as served:
        yield from _all(served, "SQLite", at_least=4_000)
        yield from _overload(served)


def postgres(folder: Path) -> Iterator[Figure]:
    """On PostgreSQL."""
    with server.running(folder) as running, serving(running.make("ledger"), folder) as served:
        yield from _all(served, "PostgreSQL", at_least=3_000)


def _all(served: Served, store: str, *, at_least: float) -> Iterator[Figure]:
    singles, reads, idle, bulk = [], [], [], []
    slowest = []
    for _ in range(RUNS):
        idle.append(served.load("health", seconds=2.0)["rate"])
        found = served.load("transfer")
        singles.append(found["rate"])
        slowest.append(found["p99"])
        reads.append(served.load("balance")["rate"])
        bulk.append(served.load("bulk", connections=BULK_CONNECTIONS)["rate"] * BULK_SIZE)
    name = f"HTTP, {store}"
    yield alone(f"{name}, single postings, {CONNECTIONS} connections", singles, "postings/s", at_least=at_least)
    yield alone(f"{name}, single postings, p99", slowest, "ms", at_most=50)
    yield compared(
        f"{name}, single postings, of what HTTP itself allows", singles, "postings/s", baselines=idle,
        baseline_name=BASELINE,
    )  # fmt: skip
    yield alone(f"{name}, bulk of {BULK_SIZE:,}", bulk, "transfers/s", at_least=40_000)
    yield alone(f"{name}, balance reads", reads, "reads/s", at_least=6_000)


def _overload(served: Served) -> Iterator[Figure]:
    """Ten times the connections, of which those refused come again after a twentieth of a second, against 64."""
    peaks, rates, memory, refusals = [], [], [], []
    for _ in range(RUNS):
        peaks.append(served.load("transfer")["rate"])
        before = served.resident_megabytes()
        with _highest(served) as highest:
            found = served.load("transfer", connections=CROWD)
        rates.append(found["rate"])
        memory.append(max(highest) - before)
        refusals.append(found["statuses"].get("503", 0) / found["seconds"])
    yield compared(
        f"HTTP, SQLite, {CROWD} connections", rates, "postings/s", baselines=peaks,
        baseline_name=f"with {CONNECTIONS}", at_least=0.9,
    )  # fmt: skip
    yield alone("HTTP, refused at once under that load", [statistics.median(refusals)], "refusals/s")
    yield alone("HTTP, memory that load adds", memory, "MB", at_most=200)


@contextlib.contextmanager
def _highest(served: Served) -> Iterator[list[float]]:
    """The server's memory, looked at ten times a second."""
    seen, over = [served.resident_megabytes()], threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            seen.append(served.resident_megabytes())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
