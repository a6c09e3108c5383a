"""A tiny engine: commands in, valid batches out, through the real kernel and journal and nothing else.

It keeps a complete book, so that it never has to load anything, and a clock that moves one second with each batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

from tallystick.clock import add_seconds
from tallystick.commands import Command, Leg, OpenLedger, Post, Transfer
from tallystick.events import Event
from tallystick.journal import decode_event, leaf_hash, seal
from tallystick.kernel import Book, NotLoaded, apply, decide
from tallystick.stores.base import Batch, Head, Store, key_number

START = "2026-01-01T00:00:00.000000Z"


class Engine:
    """One ledger's book, and the batches that bring a store along with it."""

    def __init__(self, store: Store | None = None, name: str = "main") -> None:
        self.store = store
        self.book = Book(name, complete=True)
        self.now = START
        self.history: list[Event] = []
        self._keys = count(1)

    @property
    def head(self) -> Head:
        return Head(self.book.seq, self.book.hash, self.book.time, self.book.balances_made)

    def batch(self, *commands: Command, at: str = "", apart: bool = False) -> Batch:
        """The batch that these commands come to; not yet appended.

        All are recorded at one time, a second after the batch before or ``at`` a given one, or each a second ``apart``.
        """
        expected, bodies, first = self.head, [], self.book.seq
        self.now = at or add_seconds(self.now, 1)
        for command in commands:
            body, hash_ = seal(self._decide(command), self.book.hash)
            event = decode_event(body)
            apply(self.book, event, hash_)
            bodies.append(body)
            self.history.append(event)
            if apart:
                self.now = add_seconds(self.now, 1)
        made = derive(self.book, self.history[first:])
        return Batch(ledger=self.book.name, expected=expected, head=self.head, bodies=bodies, **made)

    def post(self, *commands: Command, at: str = "", apart: bool = False) -> Batch:
        """Append the batch that these commands come to."""
        assert self.store is not None
        batch = self.batch(*commands, at=at, apart=apart)
        self.store.append([batch])
        return batch

    def catch_up(self) -> None:
        """Bring the book past everything that the store holds by now."""
        assert self.store is not None
        for body in self.store.events(self.book.name, self.book.seq, 1_000_000):
            event = decode_event(body)
            apply(self.book, event, leaf_hash(body))
            self.history.append(event)
        self.now = self.book.time
        self.book.new_balances.clear()
        self.book.changed.clear()

    def key(self) -> str:
        """A key that was not used before."""
        return f"key-{next(self._keys)}"

    # ------------------------------------------------------------ commands that tests use often

    def open(self, **policy: Any) -> OpenLedger:
        return OpenLedger(key=self.key(), name=self.book.name, policy=policy)

    def mint(self, account: str, amount: int, asset: str = "USD/2") -> Post:
        return Post(key=self.key(), type="mint", legs=(Leg("@issuance", account, asset, amount),))

    def pay(self, payer: str, payee: str, amount: int, asset: str = "USD/2", **more: Any) -> Transfer:
        return Transfer(key=self.key(), from_account=payer, to_account=payee, asset=asset, amount=amount, **more)

    # ------------------------------------------------------------ what a complete book still asks for

    def _decide(self, command: Command) -> Event:
        while True:
            try:
                return decide(self.book, command, self.now)
            except NotLoaded as missing:
                self.book.remember(missing.kind, missing.id, self._find(missing))

    def _find(self, missing: NotLoaded) -> Any:
        if missing.kind == "event":
            return self.history[missing.id]
        assert missing.kind == "history"
        *name, effective = missing.id
        return lowest_since(self.history, tuple(name), effective)


def lowest_since(history: Iterable[Event], name: tuple[str, ...], effective: str) -> int:
    """The lowest that a balance stood at, at any instant from ``effective`` on."""
    changes = sorted(
        (event.effective_time, entry.amount)
        for event in history
        for entry in event.entries
        if (entry.account, entry.asset, entry.bucket) == name
    )
    lowest = amount = sum(change for time, change in changes if time <= effective)
    for time in sorted({time for time, _ in changes if time > effective}):
        amount += sum(change for moment, change in changes if moment == time)
        lowest = min(lowest, amount)
    return lowest


def derive(book: Book, events: list[Event]) -> dict[str, Any]:
    """The rows of a batch, from its events and the book that has just been brought past them."""
    numbers = {
        (account, asset, bucket): balance.id
        for (asset, bucket), pocket in book.pockets.items()
        for account, balance in pocket.items()
    }
    entries = [
        ((numbers[e.account, e.asset, e.bucket], e.version, event.seq, e.amount, e.before, e.after), event)
        for event in events
        for e in event.entries
    ]
    rows = {
        "entries": [row for row, _ in entries],
        "balances": list(book.new_balances),
        "keys": [(key_number(event.source, event.idem), event.seq) for event in events],
        "objects": [(kind, id_, book.get(kind, id_)) for kind, id_ in book.changed],
        "references": [(name, value, event.seq) for event in events for name, value in event.refs.items()],
        "backdated": [(row[0], row[2], event.effective, row[3]) for row, event in entries if event.effective],
    }
    book.new_balances.clear()
    book.changed.clear()
    return rows


def rebuilt(engine: Engine, size: int = 7) -> list[Batch]:
    """Batches without bodies that replay the engine's whole history from an empty book, ``size`` events in each."""
    book, batches = Book(engine.book.name, complete=True), []
    bodies = [seal(event, event.prev) for event in engine.history]
    for first in range(0, len(bodies), size):
        expected = Head(book.seq, book.hash, book.time, book.balances_made)
        for (_, hash_), event in zip(bodies[first:], engine.history[first : first + size], strict=False):
            apply(book, event, hash_)
        head = Head(book.seq, book.hash, book.time, book.balances_made)
        made = derive(book, engine.history[first : first + size])
        batches.append(Batch(ledger=book.name, expected=expected, head=head, bodies=[], **made))
    return batches
