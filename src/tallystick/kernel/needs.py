"""What commands touch, as far as they name it: loaded all at once before deciding; the rest one by one."""

from __future__ import annotations

from collections.abc import Iterable

from tallystick.commands import Command, Transfer
from tallystick.kernel.book import Book

_ACCOUNT_FIELDS = ("account", "from_account", "to_account", "member", "house", "settle_to")
_LOCK_FIELDS = ("hold", "stake", "bet")


def unknown_accounts(book: Book, commands: Iterable[Command]) -> list[str]:
    """The addresses that these commands name and the book does not know, in order."""
    transfers, others = _apart(commands)
    named = {command.from_account for command in transfers}
    named.update([command.to_account for command in transfers])
    for command in others:
        named.update([getattr(command, field, "") for field in _ACCOUNT_FIELDS])
        for part in (*getattr(command, "legs", ()), *getattr(command, "splits", ())):
            named.add(getattr(part, "from_account", ""))
            named.add(part.to_account)
        named.update([condition.account for condition in command.conditions])
    known = book.known
    return sorted([name for name in named if isinstance(name, str) and name not in known and name])


def unknown_locks(book: Book, commands: Iterable[Command]) -> list[str]:
    """The ids of locks that these commands name and the book does not hold."""
    _, others = _apart(commands)
    named = {getattr(command, field) for command in others for field in _LOCK_FIELDS if hasattr(command, field)}
    return sorted(id for id in named if isinstance(id, str) and ("lock", id) not in book.objects)


def _apart(commands: Iterable[Command]) -> tuple[list[Transfer], list[Command]]:
    """Transfers, whose two accounts are read off quickly because they are most of a large batch, and the rest."""
    transfers, others = [], []
    for command in commands:
        if type(command) is Transfer and not command.conditions:
            transfers.append(command)
        else:
            others.append(command)
    return transfers, others
