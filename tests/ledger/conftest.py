"""Ledgers with a clock that stands still until a test moves it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import tallystick
from tallystick import Database, Ledger
from tallystick.clock import add_seconds
from tests.support.kernel import START


class Time:
    """The clock: it says ``now`` until somebody waits."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> str:
        return self.now

    def wait(self, seconds: float) -> str:
        self.now = add_seconds(self.now, seconds)
        return self.now


class Book:
    """A ledger, its clock, and keys enough."""

    def __init__(self, url: str | Path) -> None:
        self.url = url
        self.time = Time()
        self._numbers = count(1)
        self.database: Database = tallystick.open(url, clock=self.time)
        self.ledger: Ledger = self.database.ledger("main")

    def key(self) -> str:
        return f"key-{next(self._numbers)}"

    def reopen(self) -> Ledger:
        """Close everything and open it again, if it outlives that."""
        if self.url != "memory://":
            self.database.close()
            self.database = tallystick.open(self.url, clock=self.time)
            self.ledger = self.database.ledger("main")
        return self.ledger

    def picture(self) -> tuple[Any, ...]:
        """All that can be seen of a ledger without asking for anything by name."""
        ledger = self.ledger
        people = ledger.accounts()
        return ledger.head, ledger.trial_balance(), ledger.locks(), [ledger.account(p) for p in people], ledger.policy


@pytest.fixture
def book(url: str) -> Iterator[Book]:
    found = Book(url)
    yield found
    found.database.close()
