"""Processes that are killed or stopped in the middle of deliveries, under load, with a receiver that fails now and
then."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import NewUrl
from tests.delivery.receiver import Receiver, Reply
from tests.delivery.scenes import Scene
from tests.delivery.test_deliveries import assert_in_order, random_pairs

ACCOUNTS = 25
ROOT = Path(__file__).parents[2]


class Worker:
    """A process that delivers."""

    def __init__(self, url: str, log: Path, lease_seconds: float = 0.6) -> None:
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.delivery.worker", url, str(lease_seconds)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n", log.read_text()[-2_000:]

    def send(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def end(self, number: int = signal.SIGKILL) -> int:
        if self.process.poll() is None:
            self.send(signal.SIGCONT)
            self.send(number)
        code = self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@contextmanager
def load(scene: Scene, rounds: int, size: int) -> Iterator[list[int]]:
    """Payments that go on in the background; their numbers, complete at the end."""
    seqs: list[int] = []

    def pay() -> None:
        for number in range(rounds):
            seqs.extend(scene.pay(*random_pairs(size, ACCOUNTS, number)))
            time.sleep(0.05)

    thread = threading.Thread(target=pay)
    thread.start()
    try:
        yield seqs
    finally:
        thread.join()


def failing_now_and_then(receiver: Receiver) -> None:
    source = random.Random(5)
    replies = [Reply(500), Reply(503), Reply(drop=True)]
    receiver.behaviour = lambda request: source.choice(replies) if source.random() < 0.1 else Reply()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_kill_9_under_load_loses_nothing_and_keeps_each_accounts_order(
    kind: str, new_url: NewUrl, receiver: Receiver, tmp_path: Path
) -> None:
    url = new_url(kind)
    scene = Scene(url)
    scene.fund(ACCOUNTS)
    endpoint = scene.endpoint(receiver.url)
    failing_now_and_then(receiver)
    with load(scene, 20, 50) as seqs:
        for number in range(3):
            before = len(receiver.accepted)
            worker = Worker(url, tmp_path / "worker.log")
            receiver.wait_for(lambda before=before: len(receiver.accepted) > before + 100)  # type: ignore[misc]
            time.sleep(0.03 * number)
            assert worker.end() == -signal.SIGKILL
    worker = Worker(url, tmp_path / "worker.log")
    receiver.wait_for(lambda: len(receiver.seqs) == len(seqs), 30)
    receiver.wait_for(lambda: scene.control.cursor(endpoint.id) == seqs[-1] + 1)
    assert worker.end(signal.SIGTERM) == 0
    assert sorted(receiver.seqs) == seqs
    assert_in_order(receiver.accepted)
    assert scene.control.deliveries(endpoint.id) == []
    assert scene.control.acquire(f"deliver:{endpoint.id}", "the next", 1.0) is not None, "the lease was not given back"
    scene.close()


def test_a_process_that_stood_still_does_not_go_on_where_another_took_over(
    filed: Scene, receiver: Receiver, tmp_path: Path
) -> None:
    filed.fund(ACCOUNTS)
    endpoint = filed.endpoint(receiver.url)
    failing_now_and_then(receiver)
    first = Worker(filed.url, tmp_path / "first.log")
    with load(filed, 20, 50) as seqs:
        receiver.wait_for(lambda: len(receiver.accepted) > 100)
        second = Worker(filed.url, tmp_path / "second.log")
        first.send(signal.SIGSTOP)
        stood = len(receiver.accepted)
        receiver.wait_for(lambda: len(receiver.accepted) > stood + 100)
        first.send(signal.SIGCONT)
    receiver.wait_for(lambda: len(receiver.seqs) == len(seqs), 30)
    receiver.wait_for(lambda: filed.control.cursor(endpoint.id) == seqs[-1] + 1)
    assert first.end(signal.SIGTERM) == 0
    assert second.end(signal.SIGTERM) == 0
    assert sorted(receiver.seqs) == seqs
    assert_in_order(receiver.accepted)


def test_a_full_disk_stops_deliveries_says_so_and_loses_none(filed: Scene, receiver: Receiver, tmp_path: Path) -> None:
    filed.fund(ACCOUNTS)
    endpoint = filed.endpoint(receiver.url)
    log = tmp_path / "worker.log"
    worker = Worker(filed.url, log, lease_seconds=30)
    seqs = filed.pay(*random_pairs(100, ACCOUNTS))
    receiver.wait_for(lambda: filed.control.cursor(endpoint.id) == seqs[-1] + 1)
    worker.send(signal.SIGUSR1)
    for number in range(100):  # until what is left of the log's room is used up
        seqs += filed.pay(*random_pairs(20, ACCOUNTS, number))
        time.sleep(0.02)
        if "stopped the control store keeps nothing" in log.read_text():
            break
    receiver.wait_for(lambda: "stopped the control store keeps nothing" in log.read_text())
    before = len(receiver.requests)
    seqs += filed.pay(*random_pairs(100, ACCOUNTS))
    time.sleep(0.3)
    assert len(receiver.requests) - before <= 64
    assert filed.control.cursor(endpoint.id) <= seqs[-100]
    worker.send(signal.SIGUSR2)
    receiver.wait_for(lambda: filed.control.cursor(endpoint.id) == seqs[-1] + 1)
    assert worker.end(signal.SIGTERM) == 0
    assert sorted(receiver.seqs) == seqs
    assert_in_order(receiver.accepted)
