"""The state as a document: schema version 1.0 is written exactly so, and loads for ever."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tallystick.cells import SCHEMA_VERSION, Cell, CellParameters, CellState, MemberState, OtherBalance
from tallystick.errors import InvalidInput
from tests.cells.conftest import Key, reserving, spot

FIXTURE = Path(__file__).parent / "fixtures" / "cell_state_v1_0.json"
"""Written by schema version 1.0. It is never to be changed: that it still loads is what it is for."""


@pytest.fixture
def document() -> dict[str, Any]:
    return json.loads(FIXTURE.read_text())


def test_the_fixture_of_version_1_0_loads(document: dict[str, Any]) -> None:
    state = CellState.from_document(document)
    assert state.cell_id == "north"
    assert state.asset == "HOUR/2"
    assert state.version == 11
    assert state.hash == "acc19e51832822406a8a232bb78b1314cbbf8eaabcbd3a428090ce18b3184dd4"
    assert state.last_updated_at == "2026-11-21T09:00:09.000000Z"
    assert state.parameters == CellParameters(
        limit_min=500, limit_max=5_000, limit_default=2_000, commitment_mode="ESCROWED", floor_threshold_bps=8_000
    )
    assert state.members[1] == MemberState(
        id="ben",
        balance=600,
        limit=1_500,
        reserve=300,
        status="ACTIVE",
        joined_at="2026-11-21T09:00:01.000000Z",
        last_activity_at="2026-11-21T09:00:07.000000Z",
    )
    assert [(member.id, member.balance, member.status) for member in state.members] == [
        ("ana", -725, "FROZEN"),
        ("ben", 600, "ACTIVE"),
        ("cleo", 0, "EXCLUDED"),
        ("did:key:z6MkhaXgBZDvotDkL5257", 0, "ACTIVE"),
    ]
    assert state.others == (OtherBalance("@clearing:south", 125),)
    assert state.balance_sum == 0


def test_what_version_1_0_wrote_it_would_write_again(document: dict[str, Any]) -> None:
    assert SCHEMA_VERSION == "1.0", "a new version needs a fixture and a reader of its own beside this one"
    assert CellState.from_document(document).to_document() == document


def test_a_cells_state_comes_back_from_its_document(cell: Cell, key: Key) -> None:
    cell.apply_balance_updates(spot("ana", "ben", 700), key=key())
    cell.apply_reserve_update(reserving("ben", 300), key=key())
    state = cell.state()
    assert state.version == cell.version
    assert state.hash == cell.ledger.head.hash
    assert CellState.from_document(json.loads(json.dumps(state.to_document()))) == state


def test_a_members_other_buckets_are_told_apart(cell: Cell, key: Key) -> None:
    """A bond is no part of what a cell calls the balance; the document still adds up to zero."""
    cell.apply_balance_updates(spot("ana", "ben", 700), key=key())
    cell.ledger.stake_lock("ben", cell.asset, 200, refs={"escrow": "e1"}, key=key())
    state = cell.state()
    assert state.others == (OtherBalance("ben", 200),)
    assert state.balance_sum == 0
    assert cell.verify_conservation()


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The document with another value at this dotted path."""
    copy = deepcopy(document)
    place: Any = copy
    *steps, last = (int(step) if step.isdigit() else step for step in path.split("."))
    for step in steps:
        place = place[step]
    place[last] = value
    return copy


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("schema", "something.else", "schema"),
        ("schema_version", "2.0", "schema_version"),
        ("schema_version", 1.0, "schema_version"),
        ("version", "11", "version"),
        ("members.1.balance", 600, "members[1].balance"),
        ("members.1.balance", "600.0", "members[1].balance"),
        ("members.1.balance", "0600", "members[1].balance"),
        ("members.0.balance", "-0", "members[0].balance"),
        ("members.1.balance", "٦٠٠", "members[1].balance"),
        ("members.1.balance", "", "members[1].balance"),
        ("members.1.balance", "9" * 5_000, "members[1].balance"),
        ("members.1.balance", "601", "members"),
        ("members.1.status", "SLEEPING", "members[1].status"),
        ("parameters.commitment_mode", "HARD", "parameters.commitment_mode"),
        ("surplus", 1, "document"),
    ],
)
def test_a_document_that_is_not_what_it_says_is_refused(
    document: dict[str, Any], path: str, value: Any, named: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        CellState.from_document(changed(document, path, value))
    assert refused.value.data["path"] == named


@pytest.mark.parametrize("document", [None, [], "1.0", {}])
def test_what_is_no_document_is_refused(document: Any) -> None:
    with pytest.raises(InvalidInput):
        CellState.from_document(document)
