"""The transparency log: what it costs the posting, how fast its proofs come, how fast a stranger checks an export."""

from __future__ import annotations

import json
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import tallystick
from benchmarks import server
from benchmarks.embedded import ACCOUNTS, BATCH, fund, post_all, settle, show, uniform
from benchmarks.figures import Figure, alone, compared
from benchmarks.poster import post_from_threads
from tallystick.evidence.bundle import export
from tallystick.evidence.home import LogHome
from tallystick.evidence.keeper import LogKeeper
from tallystick.evidence.log import Log

ORIGIN = "benchmark.example/main"
RUNS = 5
KEPT_EVERY_SECONDS = 1.0
LEAD_BATCHES, BATCHES_PER_RUN = 8, 24
CALLERS = 32
LEAD_EACH, POSTS_EACH = 300, 1_200

PROOF_RUNS = 3
PROOFS = 2_000
PROOF_MILLISECONDS = 5.0

VERIFY_RUNS = 3
CHECKED = ("bytes", "chain", "tree", "accounting")
"""The verdicts that an export can have by itself, with nobody who saw the log before."""

UNIT = "transfers/s"

_Rates = tuple[list[float], list[float]]


def begin_log(ledger: tallystick.Ledger, home: Path) -> Log:
    """The log of a ledger, with a new key in a file."""
    return LogHome(home).begin(ledger, ORIGIN)


# ---------------------------------------------------------------- posting while the log is kept


def posting(folder: Path) -> Iterator[Figure]:
    """Posting while the log is signed every second, against the same in turn while nobody keeps it."""
    with tallystick.open(folder / "evidence.db") as database:
        ledger = database.ledger("main")
        fund(ledger, ACCOUNTS)
        log = begin_log(ledger, folder / "evidence-home")
        batches = _in_turn(ledger, log, _batch_rate)
        callers = _in_turn(ledger, log, _callers_rate)
    yield _against_none("batches of 8,192", *batches)
    yield _against_none(f"{CALLERS} threads, one posting at a time", *callers)


def postgres_posting(folder: Path) -> Iterator[Figure]:
    """The same on PostgreSQL."""
    with server.running(folder) as running, tallystick.open(running.make("ledger")) as database:
        ledger = database.ledger("main")
        fund(ledger, ACCOUNTS)
        log = begin_log(ledger, folder / "evidence-postgres-home")
        batches = _in_turn(ledger, log, _batch_rate)
    yield _against_none("PostgreSQL, batches of 8,192", *batches)


def _against_none(name: str, kept: list[float], unkept: list[float]) -> Figure:
    name = f"{name}, with a log signed every second"
    return compared(name, kept, UNIT, baselines=unkept, baseline_name="no log", at_least=0.85)


def _in_turn(ledger: tallystick.Ledger, log: Log, rate: Callable[[tallystick.Ledger], float]) -> _Rates:
    """The rates while a log is kept, and those while it is not; now the one goes first, now the other."""
    rates: dict[bool, list[float]] = {True: [], False: []}
    for run in range(RUNS + 1):
        for keeps in (True, False) if run % 2 else (False, True):
            log.checkpoint()  # what was posted while nobody kept the log is not this run's burden
            found = _kept_rate(ledger, log, rate) if keeps else rate(ledger)
            if run:  # the first warms up
                rates[keeps].append(found)
    return rates[True], rates[False]


def _kept_rate(ledger: tallystick.Ledger, log: Log, rate: Callable[[tallystick.Ledger], float]) -> float:
    failures: list[Exception] = []
    size, began = ledger.head.seq, time.perf_counter()
    with LogKeeper(log, every_seconds=KEPT_EVERY_SECONDS, on_failure=failures.append):
        found = rate(ledger)
        rounds = (time.perf_counter() - began) / KEPT_EVERY_SECONDS
        signed = len(ledger.journal.checkpoints(after=size))
    assert not failures, f"the log was not kept: {failures[0]}"
    assert signed >= rounds // 3, f"only {signed} checkpoints were signed in {rounds:.0f} seconds"
    return found


def _batch_rate(ledger: tallystick.Ledger) -> float:
    """Transfers/s in batches. A second of others comes before, so that the log is as far behind when the clock starts
    as when it stops; and all are made before, or the log would be kept while nothing is posted."""
    batches = [uniform(BATCH, ACCOUNTS) for _ in range(LEAD_BATCHES + BATCHES_PER_RUN)]
    settle()
    began = 0.0
    for number, batch in enumerate(batches):
        if number == LEAD_BATCHES:
            began = time.perf_counter()
        results = ledger.post_many(batch)
        assert all(isinstance(result, tallystick.Posted) for result in results), "a refusal"
    return BATCH * BATCHES_PER_RUN / (time.perf_counter() - began)


def _callers_rate(ledger: tallystick.Ledger) -> float:
    """Transfers/s of many threads, each with one posting at a time; others come before here too."""
    lead, counted = (
        [[[one] for one in uniform(each, ACCOUNTS)] for _ in range(CALLERS)] for each in (LEAD_EACH, POSTS_EACH)
    )
    settle()
    post_from_threads(ledger, lead)
    began, took, ended = post_from_threads(ledger, counted)
    return len(took) / (ended - began)


# ---------------------------------------------------------------- proofs and receipts


def proofs(folder: Path, events: int = 10_000_000) -> Iterator[Figure]:
    """Proofs and receipts of events at random, from a log of so many events."""
    path = folder / "evidence-proofs.db"
    with tallystick.open(path) as database:
        ledger = database.ledger("main")
        _fill(ledger, events)
        log = begin_log(ledger, folder / "evidence-proofs-home")
        settle()
        began = time.perf_counter()
        assert log.checkpoint() is not None
        signing = time.perf_counter() - began
        size = ledger.head.seq

        def prove() -> None:
            assert log.prove_inclusion(random.randrange(size), size)

        def receive() -> None:
            assert log.receipt(random.randrange(size)) is not None

        slowest = [(_p95_milliseconds(prove), _p95_milliseconds(receive)) for _ in range(PROOF_RUNS)]
    path.unlink()
    log_of = f"log of {events:,} events"
    for name, took in zip(("an inclusion proof", "a receipt"), zip(*slowest, strict=True), strict=True):
        yield alone(f"{log_of}: {name}, p95", list(took), "ms", at_most=PROOF_MILLISECONDS)
    yield alone(f"{log_of}: the first checkpoint over all of them", [size / signing], "events/s")


def _fill(ledger: tallystick.Ledger, events: int) -> None:
    fund(ledger, ACCOUNTS)
    while (posted := ledger.head.seq) < events:
        post_all(ledger, [uniform(min(BATCH, events - posted), ACCOUNTS)])
        show(f"{posted:,} of {events:,} events")


def _p95_milliseconds(work: Callable[[], None]) -> float:
    took = []
    for _ in range(PROOFS):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1e3)
    return statistics.quantiles(took, n=20)[-1]


# ---------------------------------------------------------------- export, and the verifier over it


def verifying(folder: Path, events: int = 1_000_000) -> Iterator[Figure]:
    """An export of so many events, and verify.py over it in a process of its own, as a stranger has it."""
    rates, megabytes = list[float](), list[float]()
    with tallystick.open(folder / "evidence-verify.db") as database:
        ledger = database.ledger("main")
        log = begin_log(ledger, folder / "evidence-verify-home")
        _fill(ledger, events)
        size = ledger.head.seq
        bundle = folder / "evidence-bundle"
        settle()
        log.checkpoint()
        began = time.perf_counter()
        export(log, bundle)
        exporting = time.perf_counter() - began
        key = str(log.keys[-1])
    for _ in range(VERIFY_RUNS):
        settle()
        began = time.perf_counter()
        memory = _verify(bundle, key, size)
        rates.append(size / (time.perf_counter() - began))
        megabytes.append(memory / 1e6)
    shutil.rmtree(bundle)
    yield alone(f"verify.py over {events:,} events", rates, "events/s", at_least=50_000)
    yield alone(f"verify.py over {events:,} events, memory at most", megabytes, "MB")
    yield alone(f"export of {events:,} events", [size / exporting], "events/s")


def _verify(bundle: Path, key: str, size: int) -> int:
    """The most memory in bytes that verify.py took, the copy in the bundle; it must find everything in order."""
    command = [sys.executable, "-I", "-c", _MEASURED, str(bundle / "spec" / "verify.py"), str(bundle), "--key", key]
    done = subprocess.run([*command, "--json"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"verify.py found fault: {done.stdout[-2_000:]}{done.stderr[-2_000:]}"
    report = json.loads(done.stdout)
    words = {name: report["verdicts"][name]["verdict"] for name in CHECKED}
    assert set(words.values()) == {"passed"}, f"not everything was checked: {words}"
    assert report["size"] == size, f"only {report['size']} of {size} events were read"
    return int(done.stderr) * 1_024


# The kernel's own figure for a child (getrusage) would begin with what this process had in use when it was started.
_MEASURED = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    with open("/proc/self/status") as status:
        print(next(line.split()[1] for line in status if line.startswith("VmHWM")), file=sys.stderr)
"""
