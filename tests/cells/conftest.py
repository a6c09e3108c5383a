"""A small cell to test with: three members with a limit of 20.00 each, on every kind of store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

import tallystick
from tallystick.cells import BalanceUpdate, Cell, CellParameters, ReserveUpdate

Key = Callable[[], str]


@pytest.fixture
def key() -> Key:
    """A fresh idempotency key with each call."""
    numbers = count(1)
    return lambda: f"key-{next(numbers)}"


@pytest.fixture
def database(url: str) -> Iterator[tallystick.Database]:
    with tallystick.open(url) as opened:
        yield opened


@pytest.fixture
def cell(database: tallystick.Database, key: Key) -> Cell:
    return with_members(Cell.open(database, "north"), key)


@pytest.fixture
def soft_cell(database: tallystick.Database, key: Key) -> Cell:
    """The same, but reserves bind nobody."""
    return with_members(Cell.open(database, "soft", parameters=CellParameters(commitment_mode="SOFT")), key)


def with_members(cell: Cell, key: Key) -> Cell:
    for member in ("ana", "ben", "cleo"):
        cell.add_member(member, 2_000, key=key())
    return cell


def spot(payer: str, payee: str, amount: int) -> list[BalanceUpdate]:
    """The two updates of a spot payment."""
    return [
        BalanceUpdate(payer, -amount, "SPOT_TRANSACTION_PAYER"),
        BalanceUpdate(payee, amount, "SPOT_TRANSACTION_PAYEE"),
    ]


def fulfilment(payer: str, payee: str, amount: int, commitment: str) -> list[BalanceUpdate]:
    """The two updates of a commitment's payment."""
    return [
        BalanceUpdate(payer, -amount, "COMMITMENT_FULFILL_PAYER", commitment),
        BalanceUpdate(payee, amount, "COMMITMENT_FULFILL_PAYEE", commitment),
    ]


def reserving(member: str, amount: int, commitment: str = "c1") -> ReserveUpdate:
    return ReserveUpdate(member, amount, "COMMITMENT_CREATE", commitment)


def freeing(member: str, amount: int, commitment: str = "c1", reason: str = "COMMITMENT_FULFILL") -> ReserveUpdate:
    return ReserveUpdate(member, -amount, reason, commitment)
