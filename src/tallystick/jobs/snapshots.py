"""Snapshots: the balances written down whole from time to time, which keeps reads of a whole ledger cheap.

A writer makes one itself when enough was posted. This job makes those that were missed: when the process ended
just then, the disk was full, or many processes each posted too little to notice.
"""

from __future__ import annotations

from tallystick.jobs.job import Context, Outcome
from tallystick.jobs.stores import store_of


class Snapshots:
    """Writes a snapshot of a ledger's balances if one is due. It never changes an answer."""

    name = "snapshots"
    at = ""
    writes = True
    whole = False
    at_once = 1

    def __init__(self, every_seconds: float = 1_800.0) -> None:
        self.every_seconds = every_seconds

    def run(self, context: Context) -> Outcome:
        context.check()
        made = store_of(context.database).snapshot(context.ledger_name)
        return Outcome("wrote a snapshot" if made else "none was due", worked=made)
