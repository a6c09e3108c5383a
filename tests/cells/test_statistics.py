"""Statistics of a cell (FR-1.4, FR-3.3), all exact."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

import tallystick
from tallystick.cells import Cell
from tallystick.errors import InvalidInput
from tests.cells.conftest import Key, reserving, spot


def test_fr_3_3_an_empty_cell_has_no_spread_and_no_floor_mass(database: tallystick.Database) -> None:
    cell = Cell.open(database, "empty")
    assert (cell.get_member_count(), cell.get_aggregate_capacity()) == (0, 0)
    assert (cell.get_balance_variance(), cell.get_floor_mass()) == (0, 0)


def test_fr_1_4_capacity_is_the_sum_of_the_limits(cell: Cell, key: Key) -> None:
    cell.set_member_limit("ana", 500, key=key())
    assert cell.get_aggregate_capacity() == 500 + 2_000 + 2_000


def test_fr_3_3_variance_is_the_mean_square_balance(cell: Cell, key: Key) -> None:
    cell.apply_balance_updates([*spot("ana", "ben", 300), *spot("ana", "cleo", 100)], key=key())
    assert cell.get_balance_variance() == Fraction(400**2 + 300**2 + 100**2, 3)


def test_variance_counts_reserves_as_balance(cell: Cell, key: Key) -> None:
    cell.apply_balance_updates(spot("ana", "ben", 300), key=key())
    cell.apply_reserve_update(reserving("ben", 300), key=key())
    assert cell.get_balance_variance() == Fraction(2 * 300**2, 3)


@pytest.mark.parametrize(("debt", "mass"), [(1_599, Fraction(0)), (1_600, Fraction(1, 3))])
def test_fr_3_3_floor_mass_counts_from_four_fifths_of_the_limit(
    cell: Cell, key: Key, debt: int, mass: Fraction
) -> None:
    cell.apply_balance_updates(spot("ana", "ben", debt), key=key())
    assert cell.get_floor_mass() == mass


@pytest.mark.parametrize("threshold", [0.1, "0.1", Decimal("0.1"), Fraction(1, 10)])
def test_a_threshold_is_read_as_it_is_written(cell: Cell, key: Key, threshold: float) -> None:
    """The float 0.1 is a little more than a tenth; a member that owes exactly a tenth still counts."""
    cell.apply_balance_updates(spot("ana", "ben", 200), key=key())
    assert cell.get_floor_mass(threshold) == Fraction(1, 3)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, "much", float("nan")])
def test_a_threshold_is_a_share(cell: Cell, threshold: float) -> None:
    with pytest.raises(InvalidInput):
        cell.get_floor_mass(threshold)


def test_removed_members_count_nowhere(cell: Cell, key: Key) -> None:
    cell.apply_balance_updates(spot("ana", "ben", 1_600), key=key())
    cell.remove_member("cleo", key=key())
    assert cell.get_floor_mass() == Fraction(1, 2)
    assert cell.get_member_count() == 2
    assert cell.get_aggregate_capacity() == 4_000


def test_frozen_members_stay_members_but_are_not_active(cell: Cell, key: Key) -> None:
    cell.apply_balance_updates(spot("ana", "ben", 1_600), key=key())
    cell.freeze_member("cleo", key=key())
    assert cell.get_member_count() == 3
    assert cell.get_aggregate_capacity() == 6_000
    assert cell.get_floor_mass() == Fraction(1, 2)
    assert cell.get_balance_variance() == 1_600**2
