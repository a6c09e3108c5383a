"""Cells over HTTP: what the library's cell does, for those who may."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from tallystick.cells import Cell
from tallystick.control import Mandate, Scope
from tallystick.service.communities import MAX_CELLS, Cells
from tests.support.service import Caller, Served

NORTH = "/v1/ledgers/north"
CELL = f"{NORTH}/cell"
HOURS = "HOUR/2"
PAYER, PAYEE = "SPOT_TRANSACTION_PAYER", "SPOT_TRANSACTION_PAYEE"
RULES = {"limit_min": 500, "limit_max": 5_000, "limit_default": 2_000, "commitment_mode": "ESCROWED"}


def _begun(served: Served) -> Served:
    served.admin.done("/v1/ledgers", {"name": "north", "policy": RULES})
    for member in ("ann", "ben", "cid"):
        served.admin.done(f"{CELL}/members", {"member": f"members:{member}"}, key=f"let in {member}")
    return served


@pytest.fixture
def north(here: Served) -> Served:
    """The cell north, with three members."""
    return _begun(here)


@pytest.fixture
def everywhere(served: Served) -> Served:
    """The same on each kind of store."""
    return _begun(served)


def pay(caller: Caller, payer: str, payee: str, amount: int, *, key: str | None = None, **more: Any) -> Any:
    updates = [
        {"member": f"members:{payer}", "delta": str(-amount), "reason": PAYER},
        {"member": f"members:{payee}", "delta": str(amount), "reason": PAYEE},
    ]
    return caller.post(f"{CELL}/updates", {"updates": updates, **more}, key=key)


def reserve(caller: Caller, member: str, delta: int, reason: str = "COMMITMENT_CREATE") -> Any:
    change = {"member": f"members:{member}", "delta": str(delta), "reason": reason, "commitment": "c-1"}
    return caller.post(f"{CELL}/reserves", {"reserve": change})


def member(served: Served, name: str) -> Any:
    return served.admin.get(f"{CELL}/members/members:{name}").json()


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# ---------------------------------------------------------------- payments


def test_members_pay_each_other_into_debt_and_the_cell_stays_at_zero(everywhere: Served) -> None:
    first = pay(everywhere.admin, "ann", "ben", 1_500, key="once", note="bread")
    again = pay(everywhere.admin, "ann", "ben", 1_500, key="once", note="bread")

    assert first.status_code == again.status_code == 201
    assert again.json() == {**first.json(), "replayed": True}
    assert again.headers["idempotency-replayed"] == "true"
    ann, ben = member(everywhere, "ann"), member(everywhere, "ben")
    assert (ann["balance"], ann["available"], ben["balance"]) == ("-1500", "500", "1500")
    found = everywhere.database.ledger("north").transaction(first.json()["id"])
    assert (found.type, found.actor, found.event.data["reason"]) == ("spot_payment", "key:admin", "bread")
    check = everywhere.admin.get(f"{CELL}/check").json()
    assert (check["is_sound"], check["balance_sum"], check["version"]) == (True, "0", first.json()["seq"] + 1)


def test_a_payment_below_the_limit_is_refused_with_what_was_there(north: Served) -> None:
    answer = pay(north.admin, "ann", "ben", 2_001)
    problem = answer.json()
    assert code(answer) == (422, "cell_floor_violation")
    assert (problem["found"], problem["needed"]) == ("-2001", "a balance of at least -2000")
    assert problem["data"]["member_id"] == "members:ann"
    assert pay(north.admin, "ann", "ben", 2_000).status_code == 201


@pytest.mark.parametrize(
    ("updates", "expected"),
    [
        ([("ann", -5, PAYER), ("ben", 4, PAYEE)], (422, "cell_conservation_violation")),
        ([("ann", -5, PAYER), ("zed", 5, PAYEE)], (404, "cell_member_not_found")),
        ([("ann", 5, PAYER), ("ben", -5, PAYEE)], (422, "invalid_input")),
        ([("ann", -5, PAYER), ("ben", 5, "FEDERATION_EXPORT")], (422, "invalid_input")),
        ([("ann", -5, "BRIBE"), ("ben", 5, PAYEE)], (400, "invalid_input")),
        ([], (400, "invalid_input")),
    ],
)
def test_updates_that_cannot_be_are_refused_whole(
    north: Served, updates: list[tuple[str, int, str]], expected: tuple[int, str]
) -> None:
    before = north.database.ledger("north").head
    body = [{"member": f"members:{name}", "delta": str(delta), "reason": reason} for name, delta, reason in updates]
    assert code(north.admin.post(f"{CELL}/updates", {"updates": body})) == expected
    assert north.database.ledger("north").head == before


def test_a_thousand_updates_are_the_most(north: Served) -> None:
    def asked(count: int) -> int:
        half = [{"member": "members:ann", "delta": "-1", "reason": PAYER}]
        other = [{"member": "members:ben", "delta": "1", "reason": PAYEE}]
        updates = half * (count // 2) + other * (count // 2)
        return north.admin.post(f"{CELL}/updates", {"updates": updates}).status_code

    assert asked(1_000) == 201
    assert asked(1_002) == 400


def test_a_dry_run_writes_nothing(north: Served) -> None:
    before = north.database.ledger("north").head
    updates = [
        {"member": "members:ann", "delta": -1, "reason": PAYER},
        {"member": "members:ben", "delta": 1, "reason": PAYEE},
    ]
    assert north.admin.post(f"{CELL}/updates?dry_run=true", {"updates": updates}).status_code == 201
    assert north.admin.post(f"{CELL}/members?dry_run=true", {"member": "members:dot"}).status_code == 201
    assert north.admin.post(f"{CELL}/members/members:ann/remove?dry_run=true", {}).json()["balance"] == "0"
    assert north.database.ledger("north").head == before


def test_another_cell_is_paid_through_its_clearing_account(north: Served) -> None:
    north.admin.done(f"{NORTH}/clearing/accounts", {"domain": "south"})
    updates = [{"member": "members:ann", "delta": "-300", "reason": "FEDERATION_IMPORT"}]
    body = {"updates": updates, "clearing": "south", "related_event_id": "fed-1"}
    assert north.admin.post(f"{CELL}/updates", body).status_code == 201
    assert north.database.ledger("north").balance("@clearing:south", HOURS) == 300
    assert north.admin.get(f"{CELL}/check").json()["conservation_holds"] is True


# ---------------------------------------------------------------- reserves


def test_what_is_reserved_cannot_be_spent(everywhere: Served) -> None:
    assert reserve(everywhere.admin, "ann", 1_800).status_code == 201
    ann = member(everywhere, "ann")
    assert (ann["balance"], ann["reserve"], ann["available"]) == ("0", "1800", "200")
    place = f"{CELL}/members/members:ann/can-spend"
    assert [everywhere.admin.get(place, amount=amount).json()["can_spend"] for amount in (200, 201)] == [True, False]
    assert code(pay(everywhere.admin, "ann", "ben", 201)) == (422, "cell_escrow_violation")
    assert code(reserve(everywhere.admin, "ann", 201)) == (422, "cell_escrow_violation")
    assert code(reserve(everywhere.admin, "ann", -1_801, "COMMITMENT_CANCEL")) == (422, "cell_negative_reserve")
    assert reserve(everywhere.admin, "ann", -1_800, "COMMITMENT_CANCEL").status_code == 201
    assert member(everywhere, "ann")["available"] == "2000"


def test_a_commitment_is_paid_and_freed_in_one_event(north: Served) -> None:
    reserve(north.admin, "ann", 500)
    updates = [
        {"member": "members:ann", "delta": "-500", "reason": "COMMITMENT_FULFILL_PAYER"},
        {"member": "members:ben", "delta": "500", "reason": "COMMITMENT_FULFILL_PAYEE"},
    ]
    freed = {"member": "members:ann", "delta": "-500", "reason": "COMMITMENT_FULFILL", "commitment": "c-1"}
    before = north.database.ledger("north").head.seq
    assert north.admin.post(f"{CELL}/updates", {"updates": updates, "reserve": freed}).status_code == 201
    assert north.database.ledger("north").head.seq == before + 1
    ann = member(north, "ann")
    assert (ann["balance"], ann["reserve"]) == ("-500", "0")


# ---------------------------------------------------------------- members


def test_a_member_is_let_in_once_with_the_default_limit(everywhere: Served) -> None:
    again = everywhere.admin.post(f"{CELL}/members", {"member": "members:ann"}, key="let in ann")
    assert again.headers["idempotency-replayed"] == "true"
    assert code(everywhere.admin.post(f"{CELL}/members", {"member": "members:ann"})) == (409, "account_exists")
    assert member(everywhere, "ann")["limit"] == "2000"
    assert everywhere.admin.done(f"{CELL}/members", {"member": "members:dot", "limit": 700})
    assert member(everywhere, "dot")["limit"] == "700"
    low = everywhere.admin.post(f"{CELL}/members", {"member": "members:eve", "limit": "499"})
    assert code(low) == (422, "cell_limit_out_of_bounds")
    assert low.json()["needed"] == "500 to 5000"


def test_a_limit_below_a_debt_lets_the_member_be_paid_alone(north: Served) -> None:
    pay(north.admin, "ann", "ben", 1_500)
    north.admin.done(f"{CELL}/members/members:ann/limit", {"limit": "1000"})
    assert code(pay(north.admin, "ann", "ben", 1)) == (422, "cell_floor_violation")
    assert pay(north.admin, "ben", "ann", 100).status_code == 201
    check = north.admin.get(f"{CELL}/check").json()
    assert (check["floors_hold"], check["floor_violations"], check["is_sound"]) == (False, ["members:ann"], True)
    assert check["under_lowered_limit"] == ["members:ann"]


def test_a_frozen_member_is_paid_and_does_not_pay(north: Served) -> None:
    north.admin.done(f"{CELL}/members/members:ann/freeze", {"note": "away"})
    assert member(north, "ann")["status"] == "FROZEN"
    assert code(pay(north.admin, "ann", "ben", 1)) == (422, "cell_member_frozen")
    assert pay(north.admin, "ben", "ann", 1).status_code == 201
    assert north.admin.get(f"{CELL}/members/members:ann/can-spend", amount=0).json()["can_spend"] is False
    north.admin.done(f"{CELL}/members/members:ann/unfreeze", {})
    assert pay(north.admin, "ann", "ben", 1).status_code == 201


def test_a_removed_member_hands_over_what_it_had(everywhere: Served) -> None:
    pay(everywhere.admin, "ben", "ann", 70)
    place = f"{CELL}/members/members:ann/remove"
    assert code(everywhere.admin.post(place, {})) == (422, "account_not_empty")
    gone = everywhere.admin.post(place, {"settle_to": "members:cid"}, key="once")
    again = everywhere.admin.post(place, {"settle_to": "members:cid"}, key="once")
    assert gone.json() == again.json() == {"member": "members:ann", "asset": HOURS, "balance": "70"}
    assert ["idempotency-replayed" in answer.headers for answer in (gone, again)] == [False, True]
    assert member(everywhere, "ann")["status"] == "EXCLUDED"
    assert member(everywhere, "cid")["balance"] == "70"
    assert code(pay(everywhere.admin, "ben", "ann", 1)) == (404, "cell_member_not_found")
    assert everywhere.admin.get(f"{CELL}/members/members:ann/can-spend", amount=1).status_code == 404


def test_members_are_listed_page_by_page(north: Served) -> None:
    north.admin.done(f"{CELL}/members/members:ben/freeze", {})
    seen, more = [], {}
    while True:
        page = north.admin.get(f"{CELL}/members", limit=2, **more).json()
        seen += [(one["member"], one["status"]) for one in page["items"]]
        if not page["cursor"]:
            break
        more = {"cursor": page["cursor"]}
    assert seen == [("members:ann", "ACTIVE"), ("members:ben", "FROZEN"), ("members:cid", "ACTIVE")]
    frozen = north.admin.get(f"{CELL}/members", status="FROZEN").json()["items"]
    assert [one["member"] for one in frozen] == ["members:ben"]
    assert north.admin.get(f"{CELL}/members", asset="USD/2").json()["items"] == []


# ---------------------------------------------------------------- figures


def test_figures_are_exact(everywhere: Served) -> None:
    pay(everywhere.admin, "ann", "ben", 1_600)
    pay(everywhere.admin, "ann", "cid", 1)
    found = everywhere.admin.get(CELL).json()
    cell = Cell(everywhere.database.ledger("north"))

    assert (found["members"], found["capacity"], found["version"]) == (3, "6000", cell.version)
    assert found["floor_mass"] == {"exact": "1/3", "decimal": "0.333333"}
    assert Fraction(found["balance_variance"]["exact"]) == cell.get_balance_variance() == Fraction(5_123_202, 3)
    assert found["parameters"]["limit_default"] == "2000"
    empty = everywhere.admin.get(CELL, asset="USD/2").json()
    assert (empty["members"], empty["floor_mass"]["exact"], empty["capacity"]) == (0, "0/1", "0")


def test_cells_that_are_followed_are_so_many_and_no_more(north: Served) -> None:
    cells, ledger = Cells(), north.database.ledger("north")
    first = cells.kept(ledger, "A0/0")
    assert cells.kept(ledger, "A0/0") is first
    for number in range(MAX_CELLS):
        cells.kept(ledger, f"A{number}/0")
    assert cells.kept(ledger, "A0/0") is first
    cells.kept(ledger, "B/0")
    cells.kept(ledger, "A0/0")
    assert cells.kept(ledger, "A0/0") is first
    for number in range(MAX_CELLS):
        cells.kept(ledger, f"C{number}/0")
    assert cells.kept(ledger, "A0/0") is not first


# ---------------------------------------------------------------- who may


@pytest.fixture
def ann(north: Served) -> Caller:
    """A member's own key."""
    return north.caller(scopes=(Scope("read", "north", "members:ann"), Scope("post", "north", "members:ann")))


def test_a_members_key_pays_and_reserves_for_that_member_alone(north: Served, ann: Caller) -> None:
    assert pay(ann, "ann", "ben", 10).status_code == 201
    assert reserve(ann, "ann", 10).status_code == 201
    assert code(pay(ann, "ben", "ann", 10)) == (403, "forbidden")
    assert code(reserve(ann, "ben", 10)) == (403, "forbidden")
    assert member(north, "ben")["balance"] == "10"


def test_whether_somebody_is_a_member_is_not_told_by_paying_out_of_his_account(north: Served, ann: Caller) -> None:
    assert (
        pay(ann, "ben", "ann", 1).json()["detail"].replace("ben", "zed") == pay(ann, "zed", "ann", 1).json()["detail"]
    )


def test_governance_takes_its_own_verb(north: Served, ann: Caller) -> None:
    updates = [
        {"member": "members:ann", "delta": "-10", "reason": "GOVERNANCE_ADJUSTMENT"},
        {"member": "members:ben", "delta": "10", "reason": "GOVERNANCE_ADJUSTMENT"},
    ]
    assert ann.post(f"{CELL}/updates", {"updates": updates}).status_code == 403
    assert north.caller(role="writer").post(f"{CELL}/updates", {"updates": updates}).status_code == 403
    assert north.admin.post(f"{CELL}/updates", {"updates": updates}).status_code == 201
    for act, body in (("limit", {"limit": "3000"}), ("freeze", {}), ("unfreeze", {}), ("remove", {})):
        assert code(ann.post(f"{CELL}/members/members:ann/{act}", body)) == (403, "forbidden")
    assert code(ann.post(f"{CELL}/members", {"member": "members:ann2"})) == (403, "forbidden")
    steward = north.caller(scopes=(Scope("govern", "north", "members:ann"),))
    assert steward.post(f"{CELL}/members/members:ann/limit", {"limit": "3000"}).status_code == 201
    assert code(steward.post(f"{CELL}/members/members:ben/limit", {"limit": "3000"})) == (403, "forbidden")
    assert code(steward.post(f"{CELL}/members/members:ann/remove", {"settle_to": "members:ben"})) == (403, "forbidden")


def test_value_out_of_a_clearing_account_takes_the_verb_issue(north: Served, ann: Caller) -> None:
    north.admin.done(f"{NORTH}/clearing/accounts", {"domain": "south"})
    updates = [{"member": "members:ann", "delta": "300", "reason": "FEDERATION_EXPORT"}]
    body = {"updates": updates, "clearing": "south", "related_event_id": "fed-1"}
    assert code(ann.post(f"{CELL}/updates", body)) == (403, "forbidden")
    assert north.caller(role="writer").post(f"{CELL}/updates", body).status_code == 201


def test_a_member_sees_itself_and_no_other(north: Served, ann: Caller) -> None:
    assert ann.get(f"{CELL}/members/members:ann").is_success
    assert ann.get(f"{CELL}/members/members:ann/can-spend", amount=1).is_success
    assert [one["member"] for one in ann.get(f"{CELL}/members").json()["items"]] == ["members:ann"]
    for path in ("", "/can-spend?amount=1"):
        hidden, none = (ann.http.get(f"{CELL}/members/members:{name}{path}") for name in ("ben", "zed"))
        assert code(hidden) == code(none) == (404, "not_found")
        assert hidden.json()["detail"].replace("ben", "zed") == none.json()["detail"]
    for path in (CELL, f"{CELL}/check"):
        assert ann.get(path).status_code == 403


def test_what_a_key_may_not_read_is_not_told_by_a_refusal(north: Served) -> None:
    blind = north.caller(scopes=(Scope("post", "north", "members:ann"),))
    answer = pay(blind, "ann", "ben", 2_001)
    assert code(answer) == (422, "cell_floor_violation")
    assert "2001" not in answer.text
    assert "2000" not in answer.text


def test_a_key_with_a_mandate_changes_no_cell(north: Served) -> None:
    scopes = (Scope("post", "north", "members:ann"), Scope("read", "north", "members:ann"))
    agent = north.caller(scopes=scopes, mandate=Mandate("north", "members:ann", HOURS, 1, 1))
    assert code(pay(agent, "ann", "ben", 1)) == (403, "forbidden")
    assert member(north, "ann")["balance"] == "0"


def test_postings_of_cells_are_counted(north: Served) -> None:
    pay(north.admin, "ann", "ben", 1)
    pay(north.admin, "ann", "ben", 9_999)
    text = north.admin.get("/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("tallystick_postings_total") and '"north"' in line]
    assert any('outcome="posted"' in line for line in lines)
    assert any('outcome="refused"' in line for line in lines)
