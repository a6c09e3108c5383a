"""Webhooks: how fast events reach a receiver that refuses a tenth of them, through a kill -9 of who delivers.

``python -m benchmarks.webhooks URL`` delivers until it is stopped, with retries at once.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import tallystick
from benchmarks.embedded import BATCH, fund, uniform
from benchmarks.figures import Figure, alone
from tallystick.control import open_control
from tallystick.delivery.engine import Deliverer
from tallystick.delivery.ladder import IMMEDIATE
from tallystick.delivery.operations import new_endpoint

RUNS = 3
EVENTS = 24_576
ACCOUNTS = 1_000
REFUSED = 0.1
LEASE_SECONDS = 1.0
"""How long nobody delivers after the kill; it is part of the time that is measured."""
LIMIT_SECONDS = 120.0
NAME = "webhooks to a receiver that refuses 10 %, through a kill -9"


def delivering(folder: Path) -> Iterator[Figure]:
    """Events that are there already, delivered by one process, and after its death by another."""
    rates, lost, disordered = [], 0, 0
    for run in range(RUNS):
        rate, missing, late = _once(folder / f"webhooks-{run}.db")
        rates.append(rate)
        lost += missing
        disordered += late
    yield alone(NAME, rates, "deliveries/s", at_least=2_000)
    yield alone("webhooks lost in that", [float(lost)], "events", at_most=0)
    yield alone("webhooks out of order for an account in that", [float(disordered)], "events", at_most=0)


def _once(path: Path) -> tuple[float, int, int]:
    with tallystick.open(path) as database:
        ledger = database.ledger("main")
        fund(ledger, ACCOUNTS)
        for _ in range(EVENTS // BATCH):
            ledger.post_many(uniform(BATCH, ACCOUNTS))
        events = ledger.head.seq
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.receiver", str(REFUSED)], stdout=subprocess.PIPE
    ) as receiver:
        assert receiver.stdout is not None
        port = int(receiver.stdout.readline())
        control = open_control(path)
        endpoint = new_endpoint(ledger="main", url=f"http://127.0.0.1:{port}/", start=0, allow_private=True)
        control.add_endpoint(endpoint)
        began = time.perf_counter()
        first = _deliverer(path)
        _wait(lambda: control.cursor(endpoint.id) >= events // 2)
        first.send_signal(signal.SIGKILL)
        first.wait()
        second = _deliverer(path)
        _wait(lambda: control.cursor(endpoint.id) >= events and not control.deliveries(endpoint.id, limit=1))
        seconds = time.perf_counter() - began
        second.terminate()
        second.wait()
        control.close()
        receiver.terminate()
        found = json.loads(receiver.stdout.read())
    return events / seconds, events - found["accepted"], found["disordered"]


def _deliverer(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "benchmarks.webhooks", str(path)])


def _wait(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError("the events were not delivered")
        time.sleep(0.02)


def deliver(url: str) -> None:
    """Deliver until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with (
        tallystick.open(url, read_only=True) as database,
        Deliverer(
            database, open_control(url), ladder=IMMEDIATE, allow_private=True, lease_seconds=LEASE_SECONDS
        ) as deliverer,
    ):
        thread = threading.Thread(target=deliverer.run, args=(stop,))
        thread.start()
        while thread.is_alive():
            thread.join(0.05)


if __name__ == "__main__":
    deliver(sys.argv[1])
