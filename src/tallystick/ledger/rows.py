"""Rows: what a store keeps of an event beside its bytes, derived in one place for posting and for replay."""

from __future__ import annotations

from typing import Protocol

from tallystick.events import Event
from tallystick.kernel import Book
from tallystick.stores.base import EntryRow


class Rows(Protocol):
    """Where rows are gathered."""

    entries: list[EntryRow]
    references: list[tuple[str, str, int]]
    backdated: list[tuple[int, int, str, int]]


def add_rows(event: Event, book: Book, rows: Rows) -> None:
    """Add the rows of an event that the book has just been brought past."""
    for entry in event.entries:
        id = book.pockets[entry.asset, entry.bucket][entry.account].id
        rows.entries.append((id, entry.version, event.seq, entry.amount, entry.before, entry.after))
        if event.effective:
            rows.backdated.append((id, event.seq, event.effective, entry.amount))
    rows.references.extend((name, value, event.seq) for name, value in sorted(event.refs.items()))
