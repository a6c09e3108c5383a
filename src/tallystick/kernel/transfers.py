"""The short way for bare transfers, which are most of what a busy ledger does.

A run of transfers between plain accounts (active, no limit, no ceiling, both seen before) needs none of the general
machinery: the rules that remain fit in one loop. Whatever is not plain stops the run, and is decided the general way;
both ways give the same event (a test holds them against each other).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from tallystick.commands import Command, Transfer
from tallystick.kernel.book import Balance, Book
from tallystick.kernel.texts import MAX_KEY
from tallystick.money import MAX_AMOUNT

Moved = tuple[str, str, str, str, int, int, int, int, int]
"""(key, payer, payee, asset, amount, payer's balance before, its version, payee's balance before, its version)."""


class Run(Struct):
    """Transfers that were decided and applied: what the journal seals, and the rows for the store."""

    source: str
    actor: str
    moved: list[Moved]
    entries: list[tuple[int, int, int, int, int, int]]


def run_transfers(book: Book, commands: Sequence[Command], start: int, stop: int) -> Run | None:
    """Decide and apply bare transfers from ``start`` until one is not plain or ``stop`` is reached.

    The book's balances are brought past them, its head is not: that is for whoever seals them. None if the first one
    is not plain.
    """
    first = commands[start]
    if type(first) is not Transfer or not _is_name(first.source) or not (first.actor == "" or _is_name(first.actor)):
        return None
    if book.policy.strict:  # an account that was used before the ledger became strict may not have been declared
        return None
    source, actor, asset = first.source, first.actor, first.asset
    moved: list[Moved] = []
    rows: list[tuple[int, int, int, int, int, int]] = []
    restricted, undo, seq = book.restricted, book.undo, book.seq
    try:
        pocket = book.pockets.get((asset, "available"))
        for index in range(start, stop):
            command = commands[index]
            if type(command) is not Transfer or pocket is None:
                break
            payer, payee, amount, key = command.from_account, command.to_account, command.amount, command.key
            if (
                command.asset != asset
                or payer in restricted
                or payee in restricted
                or payer == payee
                or type(amount) is not int
                or type(key) is not str
                or not 0 < len(key) <= MAX_KEY
                or not key.isprintable()
                or command.refs
                or command.metadata
                or command.conditions
                or command.reason
                or command.source != source
                or command.actor != actor
            ):
                break
            debited = pocket.get(payer)
            credited = pocket.get(payee)
            if debited is None or credited is None:
                break
            before, version = debited.amount, debited.version + 1
            before_payee, version_payee = credited.amount, credited.version + 1
            after, after_payee = before - amount, before_payee + amount
            if amount <= 0 or after < 0 or after_payee > MAX_AMOUNT:
                break
            if undo is not None:
                undo.append((pocket, payer, debited))
                undo.append((pocket, payee, credited))
            pocket[payer] = Balance(debited.id, after, version)
            pocket[payee] = Balance(credited.id, after_payee, version_payee)
            rows.append((debited.id, version, seq, -amount, before, after))
            rows.append((credited.id, version_payee, seq, amount, before_payee, after_payee))
            moved.append((key, payer, payee, asset, amount, before, version, before_payee, version_payee))
            seq += 1
    except TypeError:  # something unhashable or without order where text belongs: the general way says what
        pass
    return Run(source, actor, moved, rows) if moved else None


def _is_name(text: object) -> bool:
    return type(text) is str and 0 < len(text) <= MAX_KEY and text.isprintable()
