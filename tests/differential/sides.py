"""The same ledger on every kind of store and in every way of posting, each of which must answer alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import TypeVar

import psycopg

import tallystick
from tallystick import Database, Ledger, Posted, Refusal
from tallystick.commands import Command
from tallystick.errors import BatchAborted

T = TypeVar("T")

Answers = list[Posted | Refusal] | BatchAborted
Clock = Callable[[], str]


def same_salt() -> bytes:
    """How often a side decides on a command is its own affair, so a salt may not depend on it."""
    return b"salt" * 8


class Side:
    """A ledger that is posted to in the ordinary way."""

    def __init__(self, kind: str, url: str | Path, name: str, clock: Clock) -> None:
        self.kind = kind
        self._url = url
        self._name = name
        self._clock = clock
        self._databases = self._open()

    def _open(self) -> list[Database]:
        return [tallystick.open(self._url, clock=self._clock, salts=same_salt)]

    @property
    def ledger(self) -> Ledger:
        """The ledger to read from."""
        return self._databases[0].ledger(self._name)

    def post(self, commands: Sequence[Command], *, atomic: bool, dry_run: bool) -> Answers:
        """What the ledger answers to a call; what it raises is an answer too."""
        try:
            if len(commands) > 1 or atomic:
                return self._post_many(commands, atomic=atomic, dry_run=dry_run)
            return [self._post(commands[0], dry_run=dry_run)]
        except BatchAborted as aborted:
            return aborted
        except Refusal as refusal:
            return [refusal]

    def _post(self, command: Command, *, dry_run: bool) -> Posted:
        return self.ledger.post(command, dry_run=dry_run)

    def _post_many(self, commands: Sequence[Command], *, atomic: bool, dry_run: bool) -> list[Posted | Refusal]:
        return self.ledger.post_many(commands, atomic=atomic, dry_run=dry_run)

    def reopen(self) -> None:
        """Close everything and open it again, where it outlives that."""
        if self._url != "memory://":
            self.close()
            self._databases = self._open()

    def close(self) -> None:
        for database in self._databases:
            database.close()


class InTurns(Side):
    """Two databases that post in turns, as two processes would, so that each must learn what the other did."""

    def _open(self) -> list[Database]:
        found = [tallystick.open(self._url, clock=self._clock, salts=same_salt) for _ in range(2)]
        self._turns = cycle([0, 1, 1, 0, 0, 0, 1])
        return found

    def _post(self, command: Command, *, dry_run: bool) -> Posted:
        return self._next().post(command, dry_run=dry_run)

    def _post_many(self, commands: Sequence[Command], *, atomic: bool, dry_run: bool) -> list[Posted | Refusal]:
        return self._next().post_many(commands, atomic=atomic, dry_run=dry_run)

    def _next(self) -> Ledger:
        return self._databases[next(self._turns)].ledger(self._name)


class Joined(Side):
    """Each call is part of a transaction of the caller's; every third is rolled back first, and then made again."""

    def _open(self) -> list[Database]:
        self._connection = psycopg.connect(str(self._url))
        self._rolled_back = cycle([False, False, True])
        return super()._open()

    def _post(self, command: Command, *, dry_run: bool) -> Posted:
        return self._twice(lambda: self.ledger.post(command, dry_run=dry_run, connection=self._connection))

    def _post_many(self, commands: Sequence[Command], *, atomic: bool, dry_run: bool) -> list[Posted | Refusal]:
        connection = self._connection
        return self._twice(
            lambda: self.ledger.post_many(commands, atomic=atomic, dry_run=dry_run, connection=connection)
        )

    def _twice(self, act: Callable[[], T]) -> T:
        if next(self._rolled_back):
            try:
                act()
            except Refusal:
                pass
            finally:
                self._connection.rollback()
        with self._connection.transaction():
            return act()

    def close(self) -> None:
        self._connection.close()
        super().close()
