"""A ledger: one book with its own order, assets, accounts and policy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tallystick.clock import Clock
from tallystick.erasable import commitments_in, is_commitment
from tallystick.ledger import audit
from tallystick.ledger.acts import Acts
from tallystick.ledger.audit import Progress
from tallystick.ledger.desk import Desk
from tallystick.ledger.journal import Journal
from tallystick.ledger.openings import Salts, random_salt
from tallystick.ledger.views import Report
from tallystick.ledger.writer import Writer
from tallystick.stores.base import Store


class Ledger(Acts):
    """One ledger of a database; safe to use from any number of threads. See Acts for writing and Reads for reading.

    It comes into being with its first posting.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        clock: Clock,
        policy: dict[str, Any],
        background: ThreadPoolExecutor,
        salts: Salts = random_salt,
    ) -> None:
        super().__init__(store, name, clock, policy, salts)
        self._writer = Writer(store, Desk(store, name, clock, policy, salts=salts), background)

    def erase(self, what: str | int) -> int:
        """Erase every erasable text of a transaction (by id or number), or the one text of a commitment: how many there
        still were. No event, hash or proof changes; what is left of a text says nothing about it.

        Backups, copies and replicas are not reached: docs/erasure.md says what each store keeps, and for how long.
        Raises TransactionNotFound.
        """
        if is_commitment(what):
            return self._store.erase(self._name, [str(what)])
        commitments = list(commitments_in(self.transaction(what).data).values())
        return self._store.erase(self._name, commitments) if commitments else 0

    @property
    def journal(self) -> Journal:
        """The events as bytes, and what is kept of the log over them."""
        return Journal(self._store, self._name)

    def replay(self, progress: Progress | None = None) -> Report:
        """Rebuild the book from the events alone and compare it with every projection; nothing is written."""
        return audit.replay(self._store, self._name, progress)

    def rebuild(self, progress: Progress | None = None) -> Report:
        """Make every projection again from the events; erasable texts are none, and stay as they are. The events are
        checked first; damaged ones rebuild nothing.

        Not while others post: what they decide meanwhile is given up and asked again.
        """
        report = audit.rebuild(self._store, self._name, progress)
        self._writer.forget()
        return report

    def stats(self) -> dict[str, int]:
        """Counts, and the bytes that the file or the database takes."""
        return self._store.stats(self._name)

    def close(self) -> None:
        """Answer what is under way, then refuse; the database closes its ledgers itself."""
        self._writer.close()

    def __repr__(self) -> str:
        return f"<Ledger {self._name}>"
