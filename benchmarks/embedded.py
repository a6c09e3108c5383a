"""The embedded ledger: batches, a hot account, single postings, many threads, growth, memory, start-up."""

from __future__ import annotations

import gc
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import tallystick
from benchmarks.baselines import HandWriter, RawWriter, Rows, fdatasync_seconds
from benchmarks.figures import Figure, alone, compared
from tallystick.commands import Command, Post, Transfer
from tallystick.stores.base import Batch

BATCH = 8_192
ACCOUNTS = 10_000
RUNS = 7
BATCHES_PER_RUN = 8
FUNDS = 10**12


def fund(ledger: tallystick.Ledger, accounts: int) -> None:
    """Give every account something to spend."""
    legs = [tallystick.Leg("@issuance", f"users:{number}", "USD/2", FUNDS) for number in range(accounts)]
    for start in range(0, accounts, BATCH):
        commands = [
            Post(key=f"fund-{start + index}", type="mint", legs=(leg,))
            for index, leg in enumerate(legs[start : start + BATCH])
        ]
        ledger.post_many(commands, atomic=True)


def uniform(count: int, accounts: int) -> list[Command]:
    """Transfers between random accounts, each under a random key."""
    pairs = (random.sample(range(accounts), 2) for _ in range(count))
    return [_transfer(payer, payee) for payer, payee in pairs]


def hot(count: int, accounts: int) -> list[Command]:
    """Transfers that all have one account on one side, now this one, now the other."""
    others = (random.randrange(1, accounts) for _ in range(count))
    return [_transfer(0, other) if number % 2 else _transfer(other, 0) for number, other in enumerate(others)]


def _transfer(payer: int, payee: int) -> Transfer:
    return Transfer(
        key=os.urandom(16).hex(),
        from_account=f"users:{payer}",
        to_account=f"users:{payee}",
        asset="USD/2",
        amount=random.randrange(1, 10_000),
    )


def post_all(ledger: tallystick.Ledger, batches: Iterable[list[Command]]) -> float:
    """Post batches one after the other, each made just before; the seconds in post_many. None may be refused."""
    settle()
    took = 0.0
    for batch in batches:
        began = time.perf_counter()
        results = ledger.post_many(batch)
        took += time.perf_counter() - began
        assert all(isinstance(result, tallystick.Posted) for result in results), "a refusal"
    return took


def settle() -> None:
    """Let what was measured before be over: its garbage collected, its pages on the disk."""
    gc.collect()
    os.sync()


# ---------------------------------------------------------------- batches


def batches(folder: Path) -> Iterator[Figure]:
    """Durable batches through post_many, against the raw limit and the hand-written ledger."""
    ours, ours_hot, raw, hand = [], [], [], []
    count = BATCH * BATCHES_PER_RUN
    with (
        tallystick.open(folder / "batches.db") as database,
        tallystick.open(folder / "source.db") as source,
    ):
        ledger, recorded = database.ledger("main"), _Recorder(source.ledger("main"))
        fund(ledger, ACCOUNTS)
        fund(recorded.ledger, ACCOUNTS)
        writer = RawWriter(folder / "raw.db")
        for commit in recorded.take():
            writer.write(commit)
        by_hand = HandWriter(folder / "hand.db", ACCOUNTS)
        for run in range(RUNS + 1):
            even_rate = count / post_all(ledger, (uniform(BATCH, ACCOUNTS) for _ in range(BATCHES_PER_RUN)))
            hot_rate = count / post_all(ledger, (hot(BATCH, ACCOUNTS) for _ in range(BATCHES_PER_RUN)))
            raw_seconds = 0.0
            for _ in range(BATCHES_PER_RUN):  # one at a time, or the rows of all would fill the memory
                post_all(recorded.ledger, [uniform(BATCH, ACCOUNTS)])
                commits = recorded.take()
                settle()
                raw_seconds += sum(writer.write(commit) for commit in commits)
            settle()
            hand_rate = 2_000 / by_hand.write(2_000)
            if run:  # the first warms up
                ours.append(even_rate)
                raw.append(count / raw_seconds)
                ours_hot.append(hot_rate)
                hand.append(hand_rate)
    unit = "transfers/s"
    yield compared("batches of 8,192, against raw rows", ours, unit, baselines=raw, baseline_name="raw", at_least=0.6)
    yield compared("batches of 8,192, against by hand", ours, unit, baselines=hand, baseline_name="hand", at_least=15)
    yield alone("batches of 8,192", ours, unit, at_least=63_000)  # TigerBeetle, one replica, Python client: median
    yield compared("one hot account", ours_hot, unit, baselines=ours, baseline_name="uniform", at_least=1.0)


class _Recorder:
    """A ledger whose every stored batch is kept as the rows that it came to, commit by commit."""

    def __init__(self, ledger: tallystick.Ledger) -> None:
        self.ledger = ledger
        self._commits: list[list[Batch]] = []
        self._append = ledger._store.append
        ledger._store.append = self._record  # type: ignore[method-assign]

    def _record(self, batches: Iterable[Batch], *, epoch: int | None = None) -> None:
        kept: list[Batch] = []
        rows = (kept.append(batch) or batch for batch in batches)  # type: ignore[func-returns-value]
        self._append(rows, epoch=epoch)
        self._commits.append(kept)

    def take(self) -> list[list[Rows]]:
        """The rows of every commit since the last call."""
        commits, self._commits = self._commits, []
        return [[RawWriter.rows(batch) for batch in commit] for commit in commits]


# ---------------------------------------------------------------- one at a time


def singles(folder: Path) -> Iterator[Figure]:
    """One durable posting at a time against one fdatasync, and 32 threads against one."""
    posting, syncing, lone, together, sixteen = [], [], [], [], []
    with tallystick.open(folder / "singles.db") as database:
        ledger = database.ledger("main")
        fund(ledger, ACCOUNTS)
        _post_singles(ledger, uniform(3_000, ACCOUNTS))  # the write-ahead log reaches its size and is written again
        for _ in range(RUNS):
            took = _post_singles(ledger, uniform(1_000, ACCOUNTS))
            posting.append(statistics.median(took) * 1e6)
            lone.append(len(took) / sum(took))
            syncing.append(statistics.median(fdatasync_seconds(folder / "sync", 1_000)) * 1e6)
            together.append(_post_from_threads(ledger, 32, 500))
            sixteen.append(_post_from_threads(ledger, 16, 500))
    yield compared(
        "one durable posting, p50", posting, "µs", baselines=syncing, baseline_name="fdatasync p50", at_most=2.0
    )
    yield compared(
        "32 threads, one posting at a time",
        together,
        "transfers/s",
        baselines=lone,
        baseline_name="1 thread",
        at_least=8.0,
    )
    yield alone("16 threads, one posting at a time", sixteen, "transfers/s", at_least=1_200)


def _post_singles(ledger: tallystick.Ledger, commands: list[Command]) -> list[float]:
    took = []
    for command in commands:
        began = time.perf_counter()
        ledger.post(command)
        took.append(time.perf_counter() - began)
    return took


def _post_from_threads(ledger: tallystick.Ledger, threads: int, each: int) -> float:
    work = [uniform(each, ACCOUNTS) for _ in range(threads)]
    runners = [threading.Thread(target=_post_singles, args=(ledger, commands)) for commands in work]
    began = time.perf_counter()
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    return threads * each / (time.perf_counter() - began)


# ---------------------------------------------------------------- growth


def growth(folder: Path, entries: int = 10_000_000) -> Iterator[Figure]:
    """Transfers/s late against early, at 100,000 accounts, and how long it takes to open what came of it."""
    path = folder / "growth.db"
    took: list[float] = []
    with tallystick.open(path) as database:
        ledger = database.ledger("main")
        fund(ledger, 100_000)
        for done in range(0, entries // 2, BATCH):
            took.append(post_all(ledger, [uniform(BATCH, 100_000)]))
            show(f"{done * 2:,} of {entries:,} entries")
    million = 500_000 // BATCH
    early, late = sum(took[million : 2 * million]), sum(took[-million:])
    rate = million * BATCH
    yield compared(
        f"slope, entries {entries // 1_000_000 - 1} to {entries // 1_000_000} million",
        [rate / late],
        "transfers/s",
        baselines=[rate / early],
        baseline_name="entries 1 to 2 million",
        at_least=0.8,
    )
    opened = [_in_child("open", str(path)) for _ in range(5)]
    yield alone(
        f"opening {entries:,} entries, to the first balance", [found["open"] for found in opened], "s", at_most=2.0
    )
    yield alone(
        f"opening {entries:,} entries, to the first posting", [found["post"] for found in opened], "s", at_most=2.0
    )
    yield alone("bytes on disk for a transfer", [path.stat().st_size / (entries / 2)], "bytes")


# ---------------------------------------------------------------- small things


def footprint(folder: Path) -> Iterator[Figure]:
    """Memory for each active account, the time to import, and a small device: one core."""
    memory = [_in_child("memory", str(folder / f"memory-{run}.db"))["bytes"] for run in range(5)]
    yield alone("memory for an active account", memory, "bytes", at_most=1_024)
    imports = [_import_seconds() for _ in range(7)]
    yield alone("import tallystick", [seconds * 1_000 for seconds in imports], "ms", at_most=200)
    small = [_in_child("small", str(folder / f"small-{run}.db")) for run in range(5)]
    yield alone(
        "one core, payments between members one at a time", [found["singles"] for found in small], "/s", at_least=1_000
    )
    yield alone("one core, payments in batches of 1,000", [found["batches"] for found in small], "/s", at_least=1_000)
    yield alone("one core, memory of the whole process", [found["megabytes"] for found in small], "MB")
    yield alone("one core, transfers in batches of 8,192", [found["transfers"] for found in small], "/s")


def _import_seconds() -> float:
    def run(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    return run("import tallystick") - run("pass")


def _in_child(what: str, path: str) -> dict[str, float]:
    """Measure something in a process of its own."""
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.child", what, path], check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(answer.stdout)
    return found


def show(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text}", end="", file=sys.stderr, flush=True)
