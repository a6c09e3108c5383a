"""What a job is, what it is given, and what it answers.

A job is done in steps, and asks before each of them (``Context.check``) whether it may go on: not if the process is to
end, and not if its lease may have gone to another process meanwhile. A step should take seconds at most.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from msgspec import Struct, field

from tallystick.clock import Clock
from tallystick.control.base import Control
from tallystick.ledger import Database, Ledger

if TYPE_CHECKING:
    from tallystick.telemetry.metrics import Metrics

ALL = "*"
"""Stands for the ledger of a job that is done once for the whole database."""


class Outcome(Struct, frozen=True):
    """How a run ended. ``outcome`` is ``mismatch`` if the books are not what they must be; a failure is an exception.

    ``lag_seconds``: how old the oldest thing was that there was to do when it began. ``worked``: there was something to
    do. ``more``: something is left that can be done at once.
    """

    detail: str = ""
    lag_seconds: float = 0.0
    outcome: Literal["done", "mismatch"] = "done"
    worked: bool = True
    more: bool = False


class Alert(Struct, frozen=True):
    """Something that a person must look into. ``kind`` is ``mismatch`` (the books are not what the journal says),
    ``damage`` (what is stored is not what was written) or ``fork`` (the log does not extend what was signed)."""

    kind: Literal["mismatch", "damage", "fork"]
    job: str
    ledger: str
    time: str
    summary: str
    data: dict[str, Any] = field(default_factory=dict)


class Interrupted(Exception):
    """A job must not go on. Jobs let it pass through."""


class Stopped(Interrupted):
    """The process is to end."""


class LeaseLost(Interrupted):
    """Another process may be doing this job by now."""


class Context:
    """What a job is given for one run: where, and the right to do it."""

    def __init__(
        self,
        database: Database,
        control: Control,
        job: str,
        ledger_name: str,
        *,
        clock: Clock,
        holder: str,
        stop: threading.Event,
        may_go_on: Callable[[], bool] = lambda: True,
        metrics: Metrics | None = None,
        on_alert: Callable[[Alert], None] = lambda alert: None,
    ) -> None:
        self.database = database
        self.control = control
        self.job = job
        self.ledger_name = ledger_name
        self.clock = clock
        self.holder = holder
        self.stop = stop
        self.metrics = metrics
        self._may_go_on = may_go_on
        self._on_alert = on_alert

    @property
    def ledger(self) -> Ledger:
        """The ledger that the run is about. Raises LedgerCorrupt if its end is damaged."""
        return self.database.ledger(self.ledger_name)

    def check(self) -> None:
        """Whether the job may go on: to be asked before each step. Raises Stopped, LeaseLost."""
        if self.stop.is_set():
            raise Stopped("the process was told to end")
        if not self._may_go_on():
            raise LeaseLost("another process may be doing it by now")

    def alert(self, kind: Literal["mismatch", "damage", "fork"], summary: str, **data: Any) -> None:
        """Have people told."""
        self._on_alert(Alert(kind, self.job, self.ledger_name, self.clock(), summary, data))


@runtime_checkable
class Job(Protocol):
    """A job that is done again and again, for each ledger or (``whole``) once for all of them.

    ``every_seconds`` lie between two runs; or it is due every day ``at`` a time of UTC, such as ``03:00``. ``writes``:
    it needs ledgers that this process may write. ``at_once``: so many ledgers may have their turn at the same time.
    """

    name: str
    every_seconds: float
    at: str
    writes: bool
    whole: bool
    at_once: int

    def run(self, context: Context) -> Outcome:
        """One run. What it raises is a failure, after which it is tried again."""


@runtime_checkable
class StandingJob(Protocol):
    """A job that goes on until the process is to end, and shares the work with other processes by leases of its own."""

    name: str
    writes: bool

    def stand(self, context: Context) -> None:
        """Work until ``context.stop`` is set. What it raises is a failure, after which it begins anew."""

    def status(self, context: Context) -> Outcome:
        """How it stands, and how far it is behind."""

    def run(self, context: Context) -> Outcome:
        """All that there is to do now, once."""


def seconds_between(earlier: str, later: str) -> float:
    """From one journal time to another, never below 0."""
    return max((datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds(), 0.0)
