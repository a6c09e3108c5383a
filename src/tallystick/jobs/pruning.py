"""Pruning: what was written down for operators alone is forgotten when it is old.

Nothing of a ledger is ever touched, nor are the reports of reconciliations, which are evidence.
"""

from __future__ import annotations

from tallystick.clock import add_seconds
from tallystick.jobs.job import Context, Outcome

ATTEMPT_DAYS = 30
"""So long the log of tries to deliver is kept."""
RUN_DAYS = 90
"""So long runs of jobs are kept; the newest of each job and ledger for ever."""
_DAY = 86_400


class Pruning:
    """Forgets old tries and old runs."""

    name = "pruning"
    at = ""
    writes = False
    whole = True
    at_once = 1

    def __init__(
        self, every_seconds: float = 3_600.0, *, attempt_days: int = ATTEMPT_DAYS, run_days: int = RUN_DAYS
    ) -> None:
        self.every_seconds = every_seconds
        self._attempt_days = attempt_days
        self._run_days = run_days

    def run(self, context: Context) -> Outcome:
        now = context.clock()
        context.check()
        attempts = context.control.prune_attempts(add_seconds(now, -self._attempt_days * _DAY))
        context.check()
        runs = context.control.prune_runs(add_seconds(now, -self._run_days * _DAY))
        detail = f"forgot {attempts:,} tries to deliver and {runs:,} runs"
        return Outcome(detail if attempts or runs else "nothing was old enough", worked=bool(attempts or runs))
