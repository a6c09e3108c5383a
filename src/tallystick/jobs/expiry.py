"""Hold expiry: holds whose time has passed are given back.

An expired hold reads as expired, and cannot be captured, whether it was swept or not; the sweep gives its amount back.
"""

from __future__ import annotations

import logging

from tallystick.errors import Refusal
from tallystick.jobs.job import Context, Outcome, seconds_between

HOLDS_PER_ROUND = 1_000
ROUNDS_PER_RUN = 20
"""Then it is another ledger's turn."""

_logger = logging.getLogger("tallystick.jobs")


class Expiry:
    """Sweeps a ledger in rounds until nothing is due. Its lag is how long the longest overdue of the first thousand
    holds has been waiting."""

    name = "expiry"
    at = ""
    writes = True
    whole = False
    at_once = 2

    def __init__(self, every_seconds: float = 2.0) -> None:
        self.every_seconds = every_seconds

    def run(self, context: Context) -> Outcome:
        ledger = context.ledger
        now = ledger.now()
        due = ledger.due_holds(now, HOLDS_PER_ROUND)
        if not due:
            return Outcome(worked=False)
        lag = max(seconds_between(hold.expires, now) for hold in due)
        expired = 0
        refused: list[Refusal] = []
        more = True
        for _ in range(ROUNDS_PER_RUN):
            context.check()
            results = ledger.expire_due(limit=HOLDS_PER_ROUND)
            refused = [result for result in results if isinstance(result, Refusal)]
            given_back = sum(not isinstance(result, Refusal) and not result.replayed for result in results)
            expired += given_back
            more = len(results) == HOLDS_PER_ROUND and given_back > 0  # what is refused would be found for ever
            if not more:
                break
        detail = f"gave back {expired:,} holds"
        if refused:
            detail += f"; {len(refused):,} were refused, the first: {refused[0]}"
            _logger.warning("holds of %s could not be given back: %s", ledger.name, detail)
        return Outcome(detail, lag, more=more)
