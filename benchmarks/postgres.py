"""The ledger on PostgreSQL: batches, a hot account, single postings, many callers, several processes, growth, reads.

Each group has a server of its own; the baselines run on that server too, in turn with the ledger.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import tallystick
from benchmarks import server
from benchmarks.embedded import ACCOUNTS, BATCH, fund, hot, post_all, settle, show, uniform
from benchmarks.figures import Figure, alone, compared
from benchmarks.poster import post_from_threads, posters
from benchmarks.postgres_baselines import BareCommit, ByHand, RawCopy
from tallystick.commands import Command
from tallystick.ledger.views import AccountView

RUNS = 5
BATCHES_PER_RUN = 8
HAND_SECONDS = 3
CALLERS = 32
POSTS_EACH = 500
SLOWEST_MILLISECONDS = 25.0
PROCESSES = 4
POST_SECONDS = 1.5

READ_RUNS = 3
READS = 40
PAGE = 100
READ_SECONDS = 3.0
READ_MILLISECONDS = 50.0

UNIT = "transfers/s"


# ---------------------------------------------------------------- batches


def batches(folder: Path) -> Iterator[Figure]:
    """Durable batches through post_many, against COPY of the very same rows and the ledger written by hand."""
    ours, ours_hot, raw = list[float](), list[float](), list[float]()
    hand = {(moves, clients): list[float]() for moves in ("uniform", "hot") for clients in (8, CALLERS)}
    with server.running(folder) as running:
        with tallystick.open(running.make("ledger")) as database:
            fund(database.ledger("main"), ACCOUNTS)
        running.make("raw", copied="ledger")
        by_hand = ByHand(running, "hand", ACCOUNTS)
        with (
            contextlib.closing(RawCopy(running, "ledger", "raw")) as writer,
            tallystick.open(running.url("ledger")) as database,
        ):
            ledger = database.ledger("main")
            first = ledger.head.seq
            for run in range(RUNS + 1):
                even, even_raw = _beside_raw(ledger, writer, uniform)
                uneven, _ = _beside_raw(ledger, writer, hot)
                by_clients = {asked: by_hand.rate(*asked, HAND_SECONDS) for asked in hand}
                if run:  # the first warms up
                    ours.append(even)
                    raw.append(even_raw)
                    ours_hot.append(uneven)
                    for asked, rate in by_clients.items():
                        hand[asked].append(rate)
            writer.check(first)
            by_hand.check()
    name = "PostgreSQL, batches of 8,192"
    yield compared(f"{name}, against raw COPY", ours, UNIT, baselines=raw, baseline_name="raw COPY", at_least=0.6)
    for clients in (8, CALLERS):
        yield _against_hand(name, ours, hand["uniform", clients], clients, at_least=8)
    name = "PostgreSQL, batches of 8,192 on one hot account"
    yield _against_hand(name, ours_hot, hand["hot", 8], 8)
    yield _against_hand(name, ours_hot, hand["hot", CALLERS], CALLERS, at_least=30)


def _beside_raw(
    ledger: tallystick.Ledger, writer: RawCopy, make: Callable[[int, int], list[Command]]
) -> tuple[float, float]:
    """Transfers/s of the ledger, and of its rows alone: batch by batch, or the rows of all would fill the memory."""
    seconds = raw_seconds = 0.0
    for _ in range(BATCHES_PER_RUN):
        first = ledger.head.seq
        seconds += post_all(ledger, [make(BATCH, ACCOUNTS)])
        packed = writer.pack(first, first + BATCH)
        settle()
        raw_seconds += writer.write(packed)
    return BATCH * BATCHES_PER_RUN / seconds, BATCH * BATCHES_PER_RUN / raw_seconds


def _against_hand(
    name: str, ours: list[float], hand: list[float], clients: int, at_least: float | None = None
) -> Figure:
    return compared(
        f"{name}, against by hand, {clients} clients",
        ours,
        UNIT,
        baselines=hand,
        baseline_name=f"by hand, {clients} clients",
        at_least=at_least,
    )


# ---------------------------------------------------------------- one at a time


def singles(folder: Path) -> Iterator[Figure]:
    """Postings one at a time: from one caller against a bare commit, from 32 against the ledger written by hand."""
    lone, bare = list[float](), list[float]()
    rates = {moves: list[float]() for moves in ("uniform", "hot")}
    slowest = {moves: list[float]() for moves in rates}
    hand = {moves: list[float]() for moves in rates}
    makers = {"uniform": uniform, "hot": hot}
    with server.running(folder) as running, tallystick.open(running.make("ledger")) as database:
        ledger = database.ledger("main")
        fund(ledger, ACCOUNTS)
        by_hand = ByHand(running, "hand", ACCOUNTS)
        with contextlib.closing(BareCommit(running.make("bare"))) as commit:
            for run in range(RUNS + 1):
                settle()
                _, took, _ = post_from_threads(ledger, [[[one] for one in uniform(1_000, ACCOUNTS)]])
                bare_took = commit.seconds(1_000)
                if run:  # the first warms up
                    lone.append(statistics.median(took) * 1e6)
                    bare.append(statistics.median(bare_took) * 1e6)
                for moves, make in makers.items():
                    work = [[[one] for one in make(POSTS_EACH, ACCOUNTS)] for _ in range(CALLERS)]
                    settle()
                    began, took, ended = post_from_threads(ledger, work)
                    hand_rate = by_hand.rate(moves, CALLERS, HAND_SECONDS)
                    if run:
                        rates[moves].append(len(took) / (ended - began))
                        slowest[moves].append(_percentile(took, 99) * 1e3)
                        hand[moves].append(hand_rate)
            by_hand.check()
    yield compared(
        "PostgreSQL, one posting at a time, p50",
        lone,
        "µs",
        baselines=bare,
        baseline_name="bare commit p50",
        at_most=2.0,
    )
    for moves, at_least, where in (("uniform", 2.5, ""), ("hot", 5.0, " on one hot account")):
        name = f"PostgreSQL, {CALLERS} callers, one posting at a time{where}"
        yield _against_hand(name, rates[moves], hand[moves], CALLERS, at_least)
        yield alone(f"{name}, p99", slowest[moves], "ms", at_most=SLOWEST_MILLISECONDS)


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) * percent // 100, len(values) - 1)]


# ---------------------------------------------------------------- several processes


def processes(folder: Path) -> Iterator[Figure]:
    """Four processes on one ledger, and on four, against one process that posts as much."""
    one, shared, own = ["main"], ["main"] * PROCESSES, [f"ledger-{number}" for number in range(PROCESSES)]
    trials: dict[str, tuple[list[str], dict[str, Any]]] = {
        "one": (one, {"callers": 1, "each": 2 * PROCESSES, "batch": BATCH}),
        "shared": (shared, {"callers": 1, "each": 2, "batch": BATCH}),
        "own": (own, {"callers": 1, "each": 2, "batch": BATCH}),
        "one of 8": (one, {"callers": 8, "each": 2_000, "seconds": POST_SECONDS}),
        "one of 32": (one, {"callers": 8 * PROCESSES, "each": 1_000, "seconds": POST_SECONDS}),
        "shared by 8": (shared, {"callers": 8, "each": 1_000, "seconds": POST_SECONDS}),
        "own by 8": (own, {"callers": 8, "each": 1_000, "seconds": POST_SECONDS}),
    }
    rates = {name: list[float]() for name in trials}
    slowest = list[float]()
    with server.running(folder) as running:
        url = running.make("ledger")
        with tallystick.open(url) as database:
            for name in {*shared, *own}:
                fund(database.ledger(name), ACCOUNTS)
        with posters(url, PROCESSES) as started:
            for run in range(RUNS + 1):
                for name, (ledgers, asked) in trials.items():
                    rate, took = started.post(ledgers, **asked)
                    if run:  # the first warms up
                        rates[name].append(rate)
                    if run and name == "shared by 8":
                        slowest.append(_percentile(took, 99) * 1e3)
    for ours, baseline, name, at_least in (
        ("shared", "one", "on one ledger, batches of 8,192", 0.8),
        ("own", "one", "on four ledgers, batches of 8,192", 1.0),
        ("shared by 8", "one of 8", "of 8 callers on one ledger", 0.8),
        ("shared by 8", "one of 32", "of 8 callers on one ledger, against 32 callers", None),
        ("own by 8", "one of 8", "of 8 callers on four ledgers", 1.0),
        ("own by 8", "one of 32", "of 8 callers on four ledgers, against 32 callers", None),
    ):
        yield compared(
            f"PostgreSQL, 4 processes {name}",
            rates[ours],
            UNIT,
            baselines=rates[baseline],
            baseline_name=f"{baseline.replace('one', '1 process')}",
            at_least=at_least,
        )
    yield alone("PostgreSQL, 4 processes of 8 callers on one ledger, p99", slowest, "ms", at_most=SLOWEST_MILLISECONDS)


# ---------------------------------------------------------------- growth


def growth(folder: Path, entries: int = 10_000_000) -> Iterator[Figure]:
    """Transfers/s late against early, at 100,000 accounts, and how long reads take once there are so many entries."""
    with server.running(folder) as running, tallystick.open(running.make("ledger")) as database:
        many, few = database.ledger("many"), database.ledger("few")
        yield _slope(many, entries)
        fund(few, ACCOUNTS)
        for _ in range(0, entries // 2, BATCH * BATCHES_PER_RUN):
            post_all(few, (uniform(BATCH, ACCOUNTS) for _ in range(BATCHES_PER_RUN)))
            show(f"{few.head.seq * 2:,} of {entries:,} entries, {ACCOUNTS:,} accounts")
        running.settle()
        yield from _reads(few, entries, ACCOUNTS, at_most=READ_MILLISECONDS)
        # A hundred thousand rows take longer than that to make, whatever finds them: shown, not asked.
        yield from _reads(many, entries, 100_000, only=("trial balance", f"a page of {PAGE} accounts with balances"))


def _slope(ledger: tallystick.Ledger, entries: int) -> Figure:
    took = []
    fund(ledger, 100_000)
    for done in range(0, entries // 2, BATCH):
        took.append(post_all(ledger, [uniform(BATCH, 100_000)]))
        show(f"{done * 2:,} of {entries:,} entries, 100,000 accounts")
    million = 500_000 // BATCH
    early, late = sum(took[million : 2 * million]), sum(took[-million:])
    return compared(
        f"PostgreSQL, slope, entries {entries // 1_000_000 - 1} to {entries // 1_000_000} million",
        [million * BATCH / late],
        UNIT,
        baselines=[million * BATCH / early],
        baseline_name="entries 1 to 2 million",
        at_least=0.8,
    )


def _reads(
    ledger: tallystick.Ledger,
    entries: int,
    accounts: int,
    *,
    only: Collection[str] = (),
    at_most: float | None = None,
) -> Iterator[Figure]:
    """Each read many times over, of accounts and times at random, so that nothing is read twice."""
    head = ledger.head.seq

    def one() -> str:
        return f"users:{random.randrange(accounts)}"

    def then() -> str:
        return times.pop()

    def page() -> list[AccountView]:
        return ledger.accounts_with_balances("users:", after=one(), limit=PAGE)

    reads: dict[str, Callable[[], object]] = {
        "balance of one account": lambda: ledger.balance(one(), "USD/2"),
        "balance of one account, recorded": lambda: ledger.balance(one(), "USD/2", recorded=then()),
        "balance of one account, as of": lambda: ledger.balance(one(), "USD/2", as_of=then()),
        f"a page of {PAGE} accounts with balances": page,
        "trial balance": ledger.trial_balance,
        "trial balance, recorded": lambda: ledger.trial_balance(recorded=then()),
        "trial balance, as of": lambda: ledger.trial_balance(as_of=then()),
    }
    for name in only or reads:
        slowest = []
        for _ in range(READ_RUNS):
            places = (random.randrange(head // 4, 3 * head // 4) for _ in range(READS))
            times = [ledger.transaction(place).event.time for place in places]
            slowest.append(_percentile(_read_milliseconds(reads[name]), 95))
        named = f"PostgreSQL, {entries:,} entries, {accounts:,} accounts: {name}, p95"
        yield alone(named, slowest, "ms", at_most=at_most)


def _read_milliseconds(read: Callable[[], object]) -> list[float]:
    """How long each of many reads took; fewer if they are slow."""
    settle()
    took = list[float]()
    while len(took) < READS and sum(took) < READ_SECONDS * 1e3:
        began = time.perf_counter()
        read()
        took.append((time.perf_counter() - began) * 1e3)
    return took
