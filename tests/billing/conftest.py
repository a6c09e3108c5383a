"""Billing to test with: an account with 100,000 tokens, and a clock that moves only when it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

import tallystick
from tallystick.billing import Billing
from tallystick.clock import add_seconds

ASSET = "TOKEN"
START = "2026-11-21T09:00:00.000000Z"

Key = Callable[[], str]


class SetClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> str:
        return self.now

    def move(self, seconds: float) -> str:
        self.now = add_seconds(self.now, seconds)
        return self.now


@pytest.fixture
def key() -> Key:
    numbers = count(1)
    return lambda: f"key-{next(numbers)}"


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def ledger(url: str, clock: SetClock) -> Iterator[tallystick.Ledger]:
    with tallystick.open(url, clock=clock) as database:
        opened = database.ledger("compute")
        opened.mint("users:ana", ASSET, 100_000, key="grant")
        yield opened


@pytest.fixture
def billing(ledger: tallystick.Ledger) -> Billing:
    return Billing(ledger, asset=ASSET, payee="providers:gpu")
