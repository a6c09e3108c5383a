"""Repair: undoing a transaction by a new one, whole or in part, and never more of it than there was."""

from __future__ import annotations

from tallystick.commands import FinalizeCharge, Reverse
from tallystick.errors import AlreadyReversed, ChargeNotOpen, InvalidInput, NotReversible, TransactionNotFound
from tallystick.events import EVENT_TYPES, Event, EventType
from tallystick.kernel.book import Book, Reversal
from tallystick.kernel.draft import Draft
from tallystick.kernel.postings import Changes, changes_of, check_amount, entries_of


def seq_of(book: Book, transaction: str) -> int:
    """The sequence number in a transaction's id. Raises TransactionNotFound."""
    ledger, _, seq = str(transaction).rpartition("/")
    written = ledger == book.name and seq.isascii() and seq.isdigit() and len(seq) < 20
    if not written or int(seq) >= book.seq or str(int(seq)) != seq:
        raise TransactionNotFound(transaction=transaction)
    return int(seq)


def type_of(book: Book, name: str) -> EventType | None:
    """A type of the registry, or the ledger's own type as a row of the same form."""
    built_in = EVENT_TYPES.get(name)
    if built_in is not None:
        return built_in
    record = book.get("type", name)
    if record is None:
        return None
    base = EVENT_TYPES[record.data["base"]]
    return EventType(
        name=name,
        group=base.group,
        summary=record.data.get("summary", ""),
        moves=base.moves,
        requires=(*base.requires, *((reference,) for reference in record.data["requires"])),
        needs=base.needs,
        by="post",
        reversible=True,
    )


def way_back(original: Event) -> Changes:
    """The net changes that undo a transaction wholly; what was set aside comes back as available."""
    changes: Changes = {}
    for entry in original.entries:
        bucket = "available" if entry.bucket in ("held", "bonded") else entry.bucket
        name = (entry.account, entry.asset, bucket)
        changes[name] = changes.get(name, 0) - entry.amount
    return {name: amount for name, amount in changes.items() if amount}


def decide_reversal(book: Book, command: Reverse, now: str) -> Draft:
    original = _original(book, command.transaction)
    kind = type_of(book, original.type)
    if kind is None or not kind.reversible or not original.entries:
        raise NotReversible(transaction=original.id, type=original.type)
    if original.type == "capture" and book.get("charge", original.id) is not None:
        raise ChargeNotOpen(charge=original.id, state="finalized")
    whole = way_back(original)
    done: Reversal | None = book.get("reversal", original.id)
    left = {name: amount - (done.amounts.get(" ".join(name), 0) if done else 0) for name, amount in whole.items()}
    asked = _asked(book, command, left)
    for name, amount in asked.items():
        room = left.get(name, 0)
        if not (0 <= amount <= room or room <= amount <= 0):
            raise AlreadyReversed(transaction=original.id, remaining=abs(room), account=name[0], asset=name[1])
    if not any(asked.values()):  # a bet that broke even has no way back at all
        first = original.entries[0]
        raise AlreadyReversed(transaction=original.id, remaining=0, account=first.account, asset=first.asset)
    return Draft("reversal", entries_of(book, asked, conditions=command.conditions), {"reverses": original.id})


def decide_finalize(book: Book, command: FinalizeCharge, now: str) -> Draft:
    original = _original(book, command.charge)
    if original.type != "capture":
        raise NotReversible(transaction=original.id, type=original.type)
    if book.get("charge", original.id) is not None:
        raise ChargeNotOpen(charge=original.id, state="finalized")
    done: Reversal | None = book.get("reversal", original.id)
    if done is not None and all(
        done.amounts.get(" ".join(name), 0) == amount for name, amount in way_back(original).items()
    ):
        raise ChargeNotOpen(charge=original.id, state="refunded")
    return Draft("charge_finalized", (), {"charge": original.id, "hold": original.data["hold"]})


def _original(book: Book, transaction: str) -> Event:
    event: Event = book.get("event", seq_of(book, transaction))
    return event


def _asked(book: Book, command: Reverse, left: Changes) -> Changes:
    if command.legs:
        if command.amount is not None:
            raise InvalidInput(path="amount", problem="give an amount or legs, not both")
        return changes_of(book, command.legs, EVENT_TYPES["reversal"])
    if command.amount is None:
        return left
    check_amount(command.amount, "amount")
    ups = [name for name, amount in left.items() if amount > 0]
    downs = [name for name, amount in left.items() if amount < 0]
    if not left or not any(left.values()):
        return {}
    if len(ups) > 1 or len(downs) > 1 or len(left) > 2:
        raise InvalidInput(path="amount", problem="a transaction of several legs is undone in part by naming legs")
    return {ups[0]: command.amount, downs[0]: -command.amount}
