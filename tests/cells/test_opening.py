"""Opening a cell: its rules, its asset, its file, its errors, and many hands at once."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

import tallystick
from tallystick import cells
from tallystick.cells import Cell, CellError, CellParameters, FloorViolation, MemberNotFound
from tallystick.errors import InvalidInput, Refusal, Unavailable
from tests.cells.conftest import Key, freeing, spot, with_members
from tests.support.stores import on_lasting_stores


def test_opening_a_cell_writes_nothing(database: tallystick.Database) -> None:
    cell = Cell.open(database, "north")
    assert (database.ledgers(), cell.version) == ([], 0)
    assert cell.run_full_invariant_check().is_sound


def test_the_rules_are_those_it_was_opened_with(database: tallystick.Database, key: Key) -> None:
    rules = CellParameters(limit_min=0, limit_max=100, limit_default=60, commitment_mode="SOFT")
    cell = Cell.open(database, "north", parameters=rules)
    assert cell.parameters == rules
    cell.add_member("ana", key=key())
    assert cell.get_available_balance("ana") == 60
    assert Cell(database.ledger("north")).parameters == rules


def test_an_existing_cell_is_not_given_other_rules_by_opening_it(database: tallystick.Database, key: Key) -> None:
    Cell.open(database, "north").add_member("ana", key=key())
    assert Cell.open(database, "north").get_member_count() == 1
    with pytest.raises(InvalidInput):
        Cell.open(database, "north", parameters=CellParameters(limit_max=9_000))


@pytest.mark.parametrize(("asset", "limit"), [("HOUR/2", 2_000), ("TOKEN", 20), ("HOUR/4", 200_000)])
def test_the_default_limit_is_twenty_units_of_any_asset(
    database: tallystick.Database, key: Key, asset: str, limit: int
) -> None:
    cell = Cell.open(database, "north", asset=asset)
    cell.add_member("ana", key=key())
    assert cell.get_aggregate_capacity() == limit


@on_lasting_stores
def test_a_cell_outlives_its_process(url: str, key: Key) -> None:
    with tallystick.open(url) as database:
        cell = with_members(Cell.open(database, "north"), key)
        cell.apply_balance_updates(spot("ana", "ben", 700), key=key())
        cell.remove_member("cleo", key=key())
        before = cell.state()
    with tallystick.open(url) as database:
        cell = Cell.open(database, "north")
        assert cell.state() == before
        assert cell.run_full_invariant_check().is_sound


def test_many_threads_never_take_a_member_below_its_limit(cell: Cell) -> None:
    def spend(number: int) -> bool:
        try:
            cell.apply_balance_updates(spot("ana", "ben", 300), key=f"spend {number}")
        except FloorViolation:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(spend, range(40))) == 2_000 // 300
    assert cell.get_balance("ana") == -1_800
    assert cell.run_full_invariant_check().is_sound


def test_what_one_hand_does_another_sees(cell: Cell, database: tallystick.Database, key: Key) -> None:
    """Two views of one cell, as two parts of a program or two processes have them."""
    other = Cell.open(database, "north")
    other.apply_balance_updates([*spot("cleo", "ben", 5), *spot("ben", "cleo", 4)], key=key())
    cell.apply_balance_updates(spot("ben", "cleo", 1), key=key())
    cell.remove_member("cleo", key=key())
    with pytest.raises(MemberNotFound) as refused:
        other.apply_balance_updates(spot("ben", "cleo", 1), key=key())
    assert refused.value.member_id == "cleo"
    with pytest.raises(MemberNotFound):
        other.apply_reserve_update(freeing("cleo", 1), key=key())
    with pytest.raises(MemberNotFound):
        other.remove_member("ana", settle_to="cleo", key=key())
    assert other.get_member_count() == 2


def test_a_read_that_others_never_leave_alone_says_so(cell: Cell, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    standings = cell._standings

    def standings_while_others_pay() -> object:
        cell.apply_balance_updates(spot("ana", "ben", 1), key=key())
        return standings()

    monkeypatch.setattr(cell, "_standings", standings_while_others_pay)
    with pytest.raises(Unavailable) as failed:
        cell.run_full_invariant_check()
    assert failed.value.retryable


def test_every_word_of_the_interface_has_its_class() -> None:
    classes = {error.type: error for error in CellError.__subclasses__()}
    assert {word: tuple(error.__annotations__) for word, error in classes.items()} == {
        "CONSERVATION_VIOLATION": ("expected", "actual"),
        "FLOOR_VIOLATION": ("member_id", "balance", "limit"),
        "ESCROW_VIOLATION": ("member_id", "available", "limit"),
        "MEMBER_NOT_FOUND": ("member_id",),
        "MEMBER_FROZEN": ("member_id",),
        "LIMIT_OUT_OF_BOUNDS": ("limit", "min", "max"),
        "NEGATIVE_RESERVE": ("member_id", "reserve"),
    }


def test_an_error_is_a_refusal_that_says_what_and_whom(cell: Cell, key: Key) -> None:
    with pytest.raises(Refusal) as refused:
        cell.apply_balance_updates(spot("ana", "ben", 2_001), key=key())
    error = refused.value
    assert error.to_dict() == {
        "type": "FLOOR_VIOLATION",
        "code": "cell_floor_violation",
        "message": "ana would stand at -2001, below its limit of 2000",
        "retryable": False,
        "member_id": "ana",
        "balance": -2_001,
        "limit": 2_000,
    }
    assert error.__cause__ is not None
    assert pickle.loads(pickle.dumps(error)) == error


def test_errors_of_different_members_differ() -> None:
    assert MemberNotFound(member_id="ana") != MemberNotFound(member_id="ben")


def test_the_face_is_complete() -> None:
    assert all(hasattr(cells, name) for name in cells.__all__)
