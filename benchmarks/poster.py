"""A process that posts when it is told to. One line of JSON says what to prepare; "go" starts the clock.

It says "ready" when it has caught up with the ledger and made its commands, and afterwards, as JSON, when it began and
ended (by a clock that all processes share) and how long each posting took.
"""

from __future__ import annotations

import contextlib
import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

import tallystick
from benchmarks.embedded import ACCOUNTS, uniform
from tallystick.commands import Command

LONGEST_SECONDS = 60.0


def main(url: str) -> None:
    with tallystick.open(url) as database:
        for line in sys.stdin:
            ledger_name, callers, each, batch, seconds = json.loads(line)
            ledger = database.ledger(ledger_name)
            work = [[uniform(batch, ACCOUNTS) for _ in range(each)] for _ in range(callers)]
            assert isinstance(ledger.post(uniform(1, ACCOUNTS)[0]), tallystick.Posted)
            gc.collect()
            print("ready", flush=True)
            sys.stdin.readline()
            began, took, ended = post_from_threads(ledger, work, seconds)
            print(json.dumps([began, ended, took]), flush=True)


def post_from_threads(
    ledger: tallystick.Ledger, work: Sequence[Sequence[list[Command]]], seconds: float = LONGEST_SECONDS
) -> tuple[float, list[float], float]:
    """Each caller a thread with batches of its own; one command is posted by itself. None may be refused.

    When they began, the seconds of each call, and when the last one ended. After so many ``seconds`` no call begins.
    """
    took: list[float] = []
    failed: list[BaseException] = []
    start = threading.Barrier(len(work) + 1)

    def post(batches: Sequence[list[Command]]) -> None:
        mine = []
        start.wait()
        try:
            stop = time.perf_counter() + seconds
            for commands in batches:
                began = time.perf_counter()
                if began > stop:
                    break
                results = ledger.post_many(commands) if len(commands) > 1 else [ledger.post(commands[0])]
                mine.append(time.perf_counter() - began)
                assert all(isinstance(result, tallystick.Posted) for result in results), "a refusal"
        except BaseException as error:
            failed.append(error)
        took.extend(mine)

    runners = [threading.Thread(target=post, args=(batches,)) for batches in work]
    for runner in runners:
        runner.start()
    start.wait()
    began = time.perf_counter()
    for runner in runners:
        runner.join()
    ended = time.perf_counter()
    if failed:
        raise failed[0]
    return began, took, ended


class Posters:
    """Several such processes, told to post at the same moment."""

    def __init__(self, url: str, count: int) -> None:
        command = [sys.executable, "-m", "benchmarks.poster", url]
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
        ]

    def post(
        self, ledgers: Sequence[str], *, callers: int, each: int, batch: int = 1, seconds: float = LONGEST_SECONDS
    ) -> tuple[float, list[float]]:
        """One process for each of these names posts to that ledger, from so many threads, ``each`` batches by each, or
        as many as ``seconds`` allow.

        Transfers per second of all together, from the first one's start to the last one's end, and the seconds that
        each call took.
        """
        posting = self._processes[: len(ledgers)]
        for process, ledger in zip(posting, ledgers, strict=True):
            _tell(process, json.dumps([ledger, callers, each, batch, seconds]))
            assert _answer(process) == "ready"  # one after the other: they must not disturb each other yet
        for process in posting:
            _tell(process, "go")
        answers = [json.loads(_answer(process)) for process in posting]
        lasted = max(ended for _, ended, _ in answers) - min(began for began, _, _ in answers)
        took = [one for _, _, calls in answers for one in calls]
        return len(took) * batch / lasted, took

    def close(self) -> None:
        for process in self._processes:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()  # type: ignore[union-attr]
            process.wait(60)


@contextlib.contextmanager
def posters(url: str, count: int) -> Iterator[Posters]:
    """So many processes, for as long as the block runs."""
    started = Posters(url, count)
    try:
        yield started
    finally:
        started.close()


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("a process that posts has ended; what it said stands above")
    return line.strip()


if __name__ == "__main__":
    main(sys.argv[1])
