"""Posting inside a database transaction of the caller's: his rows and the ledger's commit together, or not at all.

Nothing is queued and nothing is remembered: each call locks the ledger, which stays locked until the caller's
transaction ends, reads what it needs through his connection, and writes through it. A call that fails takes back what
it wrote itself and leaves the caller's transaction as it was.
"""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.commands import Command
from tallystick.errors import Refusal
from tallystick.ledger.desk import Desk
from tallystick.ledger.views import Posted
from tallystick.ledger.writer import Job, check_commands, decide_job, get_once
from tallystick.stores.base import Joined, NotAtHand


class JoinedWriter:
    """A writer for one call, in a transaction of the caller's."""

    def __init__(self, store: Joined, desk: Desk) -> None:
        self._store = store
        self._desk = desk

    def submit(
        self, commands: Sequence[Command], *, atomic: bool = False, dry_run: bool = False
    ) -> list[Posted | Refusal]:
        """As Writer.submit does, but nothing is durable before the caller commits. What raises has posted nothing."""
        check_commands(commands)
        got: set[str] = set()
        while True:
            try:
                return self._submit(Job(commands, atomic=atomic, dry_run=dry_run))
            except NotAtHand as missing:  # the ledger is locked no more, unless the caller had posted to it before
                self._desk.drop()
                get_once(missing, got)

    def _submit(self, job: Job) -> list[Posted | Refusal]:
        with self._store.savepoint():
            self._store.lock(self._desk.name)
            self._desk.begin()
            decide_job(self._desk, job)
            answers = job.answers()
            batch = self._desk.take()
            if batch is not None:
                self._store.append([batch])
        return answers
