"""What is measured in a process of its own: opening, memory, one core. Prints one JSON object."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path

import tallystick
from benchmarks.embedded import BATCH, fund, post_all, uniform
from tallystick.commands import Post


def resident_bytes() -> int:
    """The memory that this process has in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def opening(path: str) -> dict[str, float]:
    """Seconds from opening a ledger to its first balance, and to the first posting."""
    began = time.perf_counter()
    with tallystick.open(path, create=False) as database:
        ledger = database.ledger("main")
        assert ledger.balance("users:1", "USD/2") > 0
        opened = time.perf_counter() - began
        ledger.post(uniform(1, 1_000)[0])
        return {"open": opened, "post": time.perf_counter() - began}


def memory(path: str) -> dict[str, float]:
    """Bytes for each of 100,000 accounts in use, beyond what the same process took with 1,000."""
    with tallystick.open(path) as database:
        few = database.ledger("few")
        fund(few, 1_000)
        post_all(few, (uniform(BATCH, 1_000) for _ in range(8)))
        before = resident_bytes()
        many = database.ledger("many")
        fund(many, 100_000)
        post_all(many, (uniform(BATCH, 100_000) for _ in range(8)))
        return {"bytes": (resident_bytes() - before) / 100_000}


def small(path: str) -> dict[str, float]:
    """A cell of 1,000 members on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tallystick.open(path) as database:
        cell = database.ledger("cell", policy={"limit_max": 10**9, "limit_default": 10**6})
        for number in range(1_000):
            cell.open_account(f"members:{number}", limits={"HOUR/2": 10**9}, key=f"open-{number}")
        payments = [_payment() for _ in range(6_000)]
        began = time.perf_counter()
        for payment in payments[:2_000]:
            cell.post(payment)
        singles = 2_000 / (time.perf_counter() - began)
        began = time.perf_counter()
        for start in range(2_000, 6_000, 1_000):
            cell.post_many(payments[start : start + 1_000])
        batches = 4_000 / (time.perf_counter() - began)
        megabytes = resident_bytes() / 1e6
        plain = database.ledger("plain")
        fund(plain, 10_000)
        took = post_all(plain, (uniform(BATCH, 10_000) for _ in range(6)))
        return {"singles": singles, "batches": batches, "megabytes": megabytes, "transfers": 6 * BATCH / took}


def _payment() -> Post:
    payer, payee = random.sample(range(1_000), 2)
    leg = tallystick.Leg(f"members:{payer}", f"members:{payee}", "HOUR/2", random.randrange(1, 500))
    return Post(key=os.urandom(16).hex(), type="spot_payment", legs=(leg,))


if __name__ == "__main__":
    measured = {"open": opening, "memory": memory, "small": small}[sys.argv[1]](sys.argv[2])
    print(json.dumps(measured))
