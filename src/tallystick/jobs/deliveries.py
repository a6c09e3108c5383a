"""Deliveries: the deliverer, run for every endpoint of every ledger.

It goes on until the process is to end, takes up new endpoints as they come, and shares the endpoints with other
processes by leases of its own, one for each; so this job has none.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Protocol

from tallystick.control.base import Control
from tallystick.control.records import Endpoint
from tallystick.delivery.sinks import SinkSettings, settings_from, transports
from tallystick.errors import TallystickError
from tallystick.jobs.job import Context, Outcome, seconds_between

ENDPOINTS_PER_READ = 1_000
SHOWN_PROBLEMS = 3


class Delivering(Protocol):
    """What this job needs of a deliverer; see delivery/engine.py."""

    @property
    def problem(self) -> str:
        """Why endpoints cannot even be listed; empty if they can."""

    def run(self, stop: threading.Event) -> None:
        """Deliver to all endpoints until told to stop."""

    def run_once(self, endpoint_id: str) -> object:
        """Deliver to one endpoint all that can be delivered now."""

    def close(self) -> None:
        """Let go of everything."""


MakeDeliverer = Callable[[Context], Delivering]


class Deliveries:
    """Runs a deliverer. Its lag is the age of the oldest event that an enabled endpoint has not accepted."""

    name = "deliveries"
    writes = False

    def __init__(self, make: MakeDeliverer) -> None:
        self._make = make
        self._deliverer: Delivering | None = None

    def stand(self, context: Context) -> None:
        with closing(self._make(context)) as deliverer:
            self._deliverer = deliverer
            try:
                deliverer.run(context.stop)
            finally:
                self._deliverer = None

    def run(self, context: Context) -> Outcome:
        """One round over every endpoint."""
        before = self.status(context)
        problems: list[str] = []
        endpoints = 0
        with closing(self._make(context)) as deliverer:
            for endpoint in enabled_endpoints(context.control):
                context.check()
                endpoints += 1
                try:
                    deliverer.run_once(endpoint.id)
                except TallystickError as error:  # one endpoint's trouble is not another's
                    problems.append(f"{endpoint.id}: {error}")
        detail = f"{endpoints:,} endpoints had their turn"
        if problems:
            detail += f"; {len(problems):,} failed: {'; '.join(problems[:SHOWN_PROBLEMS])}"
        return Outcome(detail, before.lag_seconds)

    def status(self, context: Context) -> Outcome:
        """How many endpoints there are, how many of them are behind, and how far."""
        lags = [lag_of(context, endpoint) for endpoint in enabled_endpoints(context.control)]
        behind = sum(lag > 0 for lag in lags)
        deliverer = self._deliverer
        problem = f"; {deliverer.problem}" if deliverer is not None and deliverer.problem else ""
        return Outcome(f"{len(lags):,} endpoints, {behind:,} behind{problem}", max(lags, default=0.0))


def enabled_endpoints(control: Control) -> Iterator[Endpoint]:
    """Every endpoint of every ledger that is not disabled."""
    after = ""
    while page := control.endpoints(after=after, limit=ENDPOINTS_PER_READ):
        yield from (endpoint for endpoint in page if endpoint.state == "enabled")
        if len(page) < ENDPOINTS_PER_READ:
            return
        after = page[-1].id


def lag_of(context: Context, endpoint: Endpoint) -> float:
    """The age of the oldest event that an endpoint has not accepted, and that it has not given up; 0 if there is none,
    or if that cannot be read."""
    control = context.control
    try:
        waiting = control.deliveries(endpoint.id, state="waiting", limit=1)
        oldest = min([control.cursor(endpoint.id), *(delivery.seq for delivery in waiting)])
        found = context.database.ledger(endpoint.ledger).events(after=oldest - 1, limit=1)
    except TallystickError:
        return 0.0
    return seconds_between(found[0].time, context.clock()) if found else 0.0


def deliverer_for(*, allow_private: bool = False, sinks: SinkSettings | None = None) -> MakeDeliverer:
    """Makes deliverers that carry to every kind of endpoint.

    ``allow_private`` lets webhooks reach private addresses; ``sinks`` says where sinks may reach (None: what the
    environment says).
    """

    def make(context: Context) -> Delivering:
        from tallystick.delivery.engine import Deliverer  # noqa: PLC0415 - a process without deliveries needs none of it

        chosen = sinks or settings_from(os.environ, allow_private=allow_private)
        return Deliverer(
            context.database,
            context.control,
            holder=context.holder,
            clock=context.clock,
            transports=transports(chosen),
            allow_private=allow_private,
            telemetry=context.metrics,
        )

    return make
