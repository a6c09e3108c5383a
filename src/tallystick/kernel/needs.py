"""What a command touches, as far as it names it: loaded in one query before deciding. The rest is asked for one by one."""

from __future__ import annotations

from collections.abc import Iterable

from tallystick.commands import Command, Transfer
from tallystick.kernel.book import Book

_ACCOUNT_FIELDS = ("account", "from_account", "to_account", "member", "house", "settle_to")
_LOCK_FIELDS = ("hold", "stake", "bet")


def unknown_accounts(book: Book, commands: Iterable[Command]) -> list[str]:
    """The addresses that these commands name and the book does not know, in order."""
    named: set[str] = set()
    for command in commands:
        if type(command) is Transfer:
            named.add(command.from_account)
            named.add(command.to_account)
            continue
        for field in _ACCOUNT_FIELDS:
            named.add(getattr(command, field, ""))
        for part in (*getattr(command, "legs", ()), *getattr(command, "splits", ())):
            named.add(getattr(part, "from_account", ""))
            named.add(part.to_account)
        named.update(condition.account for condition in command.conditions)
    return sorted(name for name in named - book.known.keys() if name)


def unknown_locks(book: Book, commands: Iterable[Command]) -> list[str]:
    """The ids of locks that these commands name and the book does not hold."""
    named = {
        getattr(command, field)
        for command in commands
        if type(command) is not Transfer
        for field in _LOCK_FIELDS
        if hasattr(command, field)
    }
    return sorted(id for id in named if ("lock", id) not in book.objects)
