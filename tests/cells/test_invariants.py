"""Invariants I1 to I4: what the full check says of a sound cell, and of one that is not."""

from __future__ import annotations

import pytest

import tallystick
from tallystick.cells import Cell, InvariantCheckResult
from tests.cells.conftest import Key, reserving, spot


def test_a_new_cell_is_sound(cell: Cell) -> None:
    assert cell.run_full_invariant_check() == InvariantCheckResult(
        version=cell.version,
        conservation_holds=True,
        balance_sum=0,
        floors_hold=True,
        floor_violations=(),
        escrow_safety_holds=True,
        escrow_violations=(),
        reserves_hold=True,
        negative_reserves=(),
        under_lowered_limit=(),
    )
    assert cell.run_full_invariant_check().is_sound


def test_i1_issued_value_breaks_conservation_by_its_exact_amount(cell: Cell, key: Key) -> None:
    """A ledger may issue; a cell does not. Whoever does it past the cell is found out."""
    cell.ledger.mint("ana", cell.asset, 1, key=key())
    checked = cell.run_full_invariant_check()
    assert (checked.conservation_holds, checked.balance_sum, checked.is_sound) == (False, 1, False)
    assert not cell.verify_conservation()


def test_i2_a_lowered_limit_is_listed_and_explained(cell: Cell, key: Key) -> None:
    cell.apply_balance_updates(spot("ana", "ben", 1_800), key=key())
    cell.set_member_limit("ana", 1_000, key=key())
    checked = cell.run_full_invariant_check()
    assert checked.floor_violations == checked.under_lowered_limit == ("ana",)
    assert (checked.floors_hold, checked.is_sound) == (False, True)
    assert not cell.verify_all_floors()
    cell.apply_balance_updates(spot("ben", "ana", 800), key=key())
    assert cell.verify_all_floors()
    assert cell.run_full_invariant_check().under_lowered_limit == ()


def test_i3_a_reserve_under_a_lowered_limit_is_listed_and_explained(cell: Cell, key: Key) -> None:
    cell.apply_reserve_update(reserving("ana", 1_500), key=key())
    cell.set_member_limit("ana", 1_000, key=key())
    checked = cell.run_full_invariant_check()
    assert (checked.floors_hold, checked.escrow_safety_holds) == (True, False)
    assert checked.escrow_violations == checked.under_lowered_limit == ("ana",)
    assert checked.is_sound
    assert not cell.verify_all_escrow_safety()


def test_i3_binds_only_where_reserves_do(soft_cell: Cell, key: Key) -> None:
    soft_cell.apply_reserve_update(reserving("ana", 1_900), key=key())
    soft_cell.apply_balance_updates(spot("ana", "ben", 2_000), key=key())
    assert soft_cell.verify_all_escrow_safety()


def test_i3_reserves_that_no_limit_ever_allowed_are_unsound(soft_cell: Cell, key: Key) -> None:
    soft_cell.apply_reserve_update(reserving("ana", 1_900), key=key())
    soft_cell.apply_balance_updates(spot("ana", "ben", 2_000), key=key())
    soft_cell.ledger.set_policy({"commitment_mode": "ESCROWED"}, key=key())
    checked = soft_cell.run_full_invariant_check()
    assert checked.escrow_violations == ("ana",)
    assert not checked.is_sound


def test_i4_no_operation_leaves_a_reserve_below_zero(cell: Cell, key: Key) -> None:
    cell.apply_reserve_update(reserving("ana", 100), key=key())
    checked = cell.run_full_invariant_check()
    assert checked.reserves_hold
    assert checked.negative_reserves == ()


def test_the_state_is_recoverable_from_the_event_log(cell: Cell, key: Key) -> None:
    cell.apply_balance_updates(spot("ana", "ben", 700), key=key())
    cell.apply_reserve_update(reserving("ben", 300), key=key())
    before = cell.state()
    assert cell.ledger.replay().ok
    assert cell.ledger.rebuild().ok
    assert cell.state() == before


def test_cells_of_one_database_know_nothing_of_each_other(cell: Cell, database: tallystick.Database, key: Key) -> None:
    other = Cell.open(database, "south")
    other.add_member("ana", 500, key=key())
    cell.apply_balance_updates(spot("ana", "ben", 700), key=key())
    assert other.get_balance("ana") == 0
    assert (cell.cell_id, other.cell_id) == ("north", "south")


@pytest.mark.parametrize("member", ["ana", "ben", "cleo"])
def test_every_change_of_any_kind_raises_the_version(cell: Cell, key: Key, member: str) -> None:
    changes = [
        lambda: cell.apply_reserve_update(reserving(member, 10), key=key()),
        lambda: cell.set_member_limit(member, 3_000, key=key()),
        lambda: cell.freeze_member(member, key=key()),
        lambda: cell.unfreeze_member(member, key=key()),
    ]
    for change in changes:
        version = cell.version
        change()
        assert cell.version == version + 1
