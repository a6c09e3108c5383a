"""Keys and ledgers for the tests of who comes in, with a clock that is put forward by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tallystick.access import Keyring
from tallystick.clock import add_seconds
from tallystick.control import Control, open_control


class Hands:
    """A clock and a stopwatch that stand until they are put forward."""

    def __init__(self) -> None:
        self.time = "2026-11-21T09:00:00.000000Z"
        self.seconds = 1_000.0

    def __call__(self) -> str:
        return self.time

    def monotonic(self) -> float:
        return self.seconds

    def forward(self, seconds: float) -> None:
        self.time = add_seconds(self.time, seconds)
        self.seconds += seconds


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def control() -> Iterator[Control]:
    found = open_control("memory://")
    yield found
    found.close()


@pytest.fixture
def keyring(control: Control, clock: Hands) -> Keyring:
    return Keyring(control, clock, monotonic=clock.monotonic)
