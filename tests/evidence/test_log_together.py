"""Several who post, and several logs over one ledger, at the same time: in threads, and in processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tallystick.errors import Unavailable
from tallystick.evidence.log import Log
from tallystick.evidence.publications import DirectoryPublication
from tallystick.journal.checkpoints import Checkpoint, open_checkpoint
from tallystick.journal.receipts import check_receipt
from tests.evidence.log_support import ORIGIN, USD, Key, Place, check_never_forked, right

ROOT = Path(__file__).parents[2]
SECONDS = 60
POSTERS, ROUNDS = 3, 20


@pytest.fixture
def place(url: str) -> Iterator[Place]:
    found = Place(url)
    yield found
    found.close()


def post_from_threads(place: Place, *works: Callable[[], object]) -> None:
    """Some post while others work, each until all have done their share. Raises what any of them raised."""
    place.post()
    works[0]()
    rounds = [0] * (POSTERS + len(works))
    deadline = time.monotonic() + SECONDS
    broken = threading.Event()

    def run(number: int, what: Callable[[int], object]) -> None:
        try:
            while min(rounds) < ROUNDS and not broken.is_set():
                assert time.monotonic() < deadline
                what(rounds[number])
                rounds[number] += 1
                time.sleep(0.001)  # so that the others have their turn
        except BaseException:
            broken.set()
            raise

    def post(number: int) -> Callable[[int], object]:
        return lambda posting: place.ledger.mint(f"users:{number}", USD, 1, key=f"{number}/{posting}")

    def work(what: Callable[[], object]) -> Callable[[int], object]:
        return lambda _: what()

    whats = [*(post(number) for number in range(POSTERS)), *map(work, works)]
    with ThreadPoolExecutor(len(whats)) as threads:
        running = [threads.submit(run, number, what) for number, what in enumerate(whats)]
    for one in running:
        one.result()


def check_signed_to_the_end(place: Place, log: Log) -> None:
    log.checkpoint()
    leaves = place.leaves()
    assert len(leaves) >= POSTERS * ROUNDS
    check_never_forked(place.key.signed, leaves)
    assert open_checkpoint(log.note or b"", log.keys)[0] == right(leaves, len(leaves))
    assert log.note == place.home.read("checkpoint")


def test_a_log_signs_on_while_others_post_and_ask_for_receipts(place: Place) -> None:
    log = place.log()
    found = []

    def ask() -> None:
        for seq in range(0, place.size, 1 + place.size // 5):
            receipt = log.receipt(seq)
            if receipt is not None:
                found.append(check_receipt(receipt, [place.key.verifier]).index)

    post_from_threads(place, log.checkpoint, ask)
    check_signed_to_the_end(place, log)
    sizes = [checkpoint.size for checkpoint in place.key.signed]
    assert sizes == sorted(set(sizes))
    assert len(sizes) > 5
    assert len(found) > ROUNDS


def test_one_log_in_several_threads_signs_each_size_once(place: Place) -> None:
    log = place.log()
    post_from_threads(place, log.checkpoint, log.checkpoint, log.checkpoint)
    check_signed_to_the_end(place, log)
    sizes = [checkpoint.size for checkpoint in place.key.signed]
    assert sizes == sorted(set(sizes))


def test_two_logs_at_once_never_sign_against_each_other(place: Place, tmp_path: Path) -> None:
    """As two processes have them: one may be told that the other was quicker, and no more."""
    home = DirectoryPublication(tmp_path / "home")
    logs = [Log(place.ledger, place.key, home) for _ in range(2)]

    def checkpoint(log: Log) -> Callable[[], None]:
        def run() -> None:
            try:
                log.checkpoint()
            except Unavailable as error:
                if "someone else" not in str(error):
                    raise

        return run

    post_from_threads(place, *map(checkpoint, logs))
    for log in logs:
        log.checkpoint()
    leaves = place.leaves()
    check_never_forked(place.key.signed, leaves)
    for log in logs:
        assert log.note == home.read("checkpoint")
        assert open_checkpoint(log.note or b"", log.keys)[0] == right(leaves, len(leaves))
    kept = [open_checkpoint(note, logs[0].keys)[0] for _, note in place.ledger.journal.checkpoints()]
    assert kept == [right(leaves, checkpoint.size) for checkpoint in kept]


SIGNS = """
import json, sys, threading, time
import tallystick
from tallystick.errors import Unavailable
from tallystick.evidence.log import Log
from tallystick.evidence.publications import DirectoryPublication
from tests.evidence.log_support import Key

key, ended = Key(), threading.Event()
with tallystick.open(sys.argv[1]) as database:
    log = Log(database.ledger("main"), key, DirectoryPublication(sys.argv[2]))
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    print("begun", flush=True)
    refused = 0
    while not ended.wait(0.003):
        try:
            log.checkpoint()
        except Unavailable as error:
            assert "someone else" in str(error), error
            refused += 1
print(json.dumps([[each.size, each.root.hex()] for each in key.signed]))
"""


def test_two_processes_keep_the_log_of_one_ledger_in_postgres(postgres: str, tmp_path: Path) -> None:
    place = Place(postgres)
    place.post()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SIGNS, postgres, str(tmp_path / "home")],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
        for _ in range(60):
            place.post()
            time.sleep(0.005)
        said = [process.communicate(timeout=SECONDS)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0, 0]
    signed = [Checkpoint(ORIGIN, size, bytes.fromhex(root)) for text in said for size, root in json.loads(text)]
    leaves = place.leaves()
    assert signed
    check_never_forked(signed, leaves)
    log = Log(place.ledger, Key(), DirectoryPublication(tmp_path / "home"))
    log.checkpoint()
    assert open_checkpoint(log.note or b"", log.keys)[0] == right(leaves, place.size)
    for size, note in place.ledger.journal.checkpoints():
        assert open_checkpoint(note, log.keys)[0] == right(leaves, size)
    place.close()
