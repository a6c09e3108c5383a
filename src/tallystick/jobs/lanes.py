"""Whose turn it is: one lane for each job, in which the ledgers wait until they are due."""

from __future__ import annotations

import heapq
import threading
import time
import zlib
from collections.abc import Callable, Iterable

from tallystick.control.records import JobRun
from tallystick.jobs.job import Job
from tallystick.jobs.runs import FoldedRuns

LONGEST_WAIT_SECONDS = 1.0
"""So often a thread looks whether it is to end."""


class Target:
    """One job over one ledger, as this process sees it. Only one thread has it at a time."""

    def __init__(self, job: Job, ledger: str) -> None:
        self.job = job
        self.ledger = ledger
        self.last: JobRun | None = None
        """The newest run that is known of, whoever ran it."""
        self.is_known = False
        """Whether it was looked for what others ran."""
        self.since = ""
        """When the ledger began, where it matters and is known."""
        self.failures = 0
        """In a row, in this process."""
        self.folded = FoldedRuns()

    @property
    def lease_name(self) -> str:
        return f"job:{self.job.name}:{self.ledger}"


class Lane:
    """The targets of one job. Each is either waiting here or with the thread that took it."""

    def __init__(self, job: Job, holder: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.job = job
        self._holder = holder
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._known: dict[str, Target] = {}
        self._waiting: list[tuple[float, int, Target]] = []
        self._busy: set[str] = set()

    def add(self, ledgers: Iterable[str]) -> None:
        """These ledgers are there; new ones are due now, in an order that differs between processes."""
        with self._changed:
            for ledger in ledgers:
                if ledger not in self._known:
                    target = self._known[ledger] = Target(self.job, ledger)
                    self._push(target, self._monotonic())

    def take(self, stop: threading.Event) -> Target | None:
        """The next target, once it is due; None if all is to end."""
        with self._changed:
            while not stop.is_set():
                now = self._monotonic()
                wait = self._waiting[0][0] - now if self._waiting else LONGEST_WAIT_SECONDS
                if wait <= 0:
                    target = heapq.heappop(self._waiting)[2]
                    self._busy.add(target.lease_name)
                    return target
                self._changed.wait(min(wait, LONGEST_WAIT_SECONDS))
        return None

    def give_back(self, target: Target, seconds: float) -> None:
        """It is due again in so many seconds."""
        with self._changed:
            self._busy.discard(target.lease_name)
            self._push(target, self._monotonic() + seconds)

    def targets(self) -> list[Target]:
        """All that are known."""
        with self._changed:
            return list(self._known.values())

    def busy(self) -> set[str]:
        """The leases of those that a thread has."""
        with self._changed:
            return set(self._busy)

    def wake(self) -> None:
        """Have the threads look whether they are to end."""
        with self._changed:
            self._changed.notify_all()

    def _push(self, target: Target, due: float) -> None:
        order = zlib.crc32(f"{self._holder} {target.ledger}".encode())
        heapq.heappush(self._waiting, (due, order, target))
        self._changed.notify()
