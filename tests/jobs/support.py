"""Jobs that do what a test tells them, and a clock that it moves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tallystick.clock import add_seconds
from tallystick.control import Control
from tallystick.control.memory import MemoryControl
from tallystick.jobs import Alert, Context, Outcome, Runner
from tallystick.jobs.runner import Once
from tallystick.ledger import Database

NOON = "2026-11-21T12:00:00.000000Z"
SOON = 20.0
"""What anything gets to happen, in seconds; it takes a fraction of one."""


class Time:
    """A clock that stands at the time that it was last told, and moves a microsecond with each look."""

    def __init__(self, now: str = NOON) -> None:
        self.now = now
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            self.now = add_seconds(self.now, 0.000001)
            return self.now

    def move(self, seconds: float) -> None:
        with self._lock:
            self.now = add_seconds(self.now, seconds)


class Told:
    """A job that does what it is told with each run, and remembers where it ran."""

    def __init__(
        self,
        act: Callable[[Context], Outcome] = lambda context: Outcome(),
        *,
        name: str = "told",
        every_seconds: float = 0.05,
        at: str = "",
        writes: bool = False,
        whole: bool = False,
        at_once: int = 1,
    ) -> None:
        self.name = name
        self.every_seconds = every_seconds
        self.at = at
        self.writes = writes
        self.whole = whole
        self.at_once = at_once
        self.ran: list[str] = []
        self._act = act

    def run(self, context: Context) -> Outcome:
        self.ran.append(context.ledger_name)
        return self._act(context)


class Standing:
    """A standing job that stands until it is to end, or until it is told to fail."""

    name = "standing"
    writes = False

    def __init__(self) -> None:
        self.began = 0
        self.failing: Exception | None = None
        self.lag = 0.0

    def stand(self, context: Context) -> None:
        self.began += 1
        if self.failing is not None:
            raise self.failing
        context.stop.wait()

    def status(self, context: Context) -> Outcome:
        return Outcome("it stands", self.lag)

    def run(self, context: Context) -> Outcome:
        return Outcome("it stood")


def eventually(true: Callable[[], Any], what: str = "") -> Any:
    """What a function answers, once that is true. Raises TimeoutError."""
    deadline = time.monotonic() + SOON
    while not (found := true()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {SOON} seconds: {what or true}")
        time.sleep(0.005)
    return found


def run_once(
    database: Database, job: Any, *, control: Control | None = None, clock: Callable[[], str] | None = None, **more: Any
) -> tuple[Once, list[Alert]]:
    """One round of one job, and what people were told."""
    alerts: list[Alert] = []
    clock = clock or database._clock
    runner = Runner(
        database, control or MemoryControl(clock), [job], clock=clock, on_alert=alerts.append, holder="here", **more
    )
    return runner.run_once(), alerts


def journal_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
