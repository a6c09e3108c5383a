"""Cells of mutual credit: balances add up to zero, debts stay within limits, reserves within what is there."""

from __future__ import annotations

from typing import Any

import pytest

from tallystick import commands as c
from tallystick import errors as e
from tallystick.commands import Leg
from tests.support.kernel import EUR, USD, Scribe

PROMISE = {"commitment": "c-1"}
PAY = {"from_account": "mia", "to_account": "noa", "asset": USD}


@pytest.fixture
def cell(ledger: Scribe) -> Scribe:
    """Two members who may each owe 2,000; nobody issues anything."""
    ledger.member("mia")
    ledger.member("noa")
    return ledger


def reserve(cell: Scribe, amount: int, member: str = "mia", refs: dict[str, str] | None = None) -> str:
    event = cell.do(c.CommitmentCreate, member=member, asset=USD, amount=amount, refs=refs or PROMISE)
    return event.data["commitment"]


# ---------------------------------------------------------------- limits


def test_a_member_may_owe_exactly_its_limit_and_not_one_unit_more(cell: Scribe):
    refusal = cell.refused(e.FloorViolation, c.Transfer, **PAY, amount=2_001)
    assert refusal.data == {"account": "mia", "asset": USD, "balance": -2_001, "limit": 2_000}
    cell.pay("mia", "noa", 2_000)
    assert cell.balance("mia") + cell.balance("noa") == 0


def test_two_movements_of_one_member_are_judged_by_their_sum(cell: Scribe):
    cell.member("ola")
    cell.pay("mia", "noa", 2_000)
    legs = (Leg("mia", "ola", USD, 300), Leg("noa", "mia", USD, 300))
    cell.transact("spot_payment", *legs)
    assert cell.balance("mia") == -2_000
    less = (Leg("mia", "ola", USD, 300), Leg("noa", "mia", USD, 299))
    cell.refused(e.FloorViolation, c.Post, type="spot_payment", legs=less)


def test_a_limit_is_for_one_asset(cell: Scribe):
    cell.refused(e.InsufficientFunds, c.Transfer, **{**PAY, "asset": EUR}, amount=1)


def test_a_limit_cut_below_the_debt_is_allowed_the_member_is_paid_and_cannot_spend(cell: Scribe):
    cell.pay("mia", "noa", 1_500)
    cell.do(c.SetLimit, account="mia", asset=USD, limit=500)
    cell.refused(e.FloorViolation, c.Transfer, **PAY, amount=1)
    cell.pay("noa", "mia", 100)
    assert cell.balance("mia") == -1_400


@pytest.mark.parametrize(("limit", "allowed"), [(499, False), (500, True), (5_000, True), (5_001, False), (0, False)])
def test_limits_lie_within_the_bounds_of_the_policy(cell: Scribe, limit: int, allowed: bool):
    for kind, fields in (
        (c.SetLimit, {"account": "mia", "asset": USD, "limit": limit}),
        (c.OpenAccount, {"account": "ola", "limits": {USD: limit}}),
    ):
        if allowed:
            cell.do(kind, **fields)
        else:
            refusal = cell.refused(e.LimitOutOfBounds, kind, **fields)
            assert refusal.data == {"limit": limit, "min": 500, "max": 5_000}


@pytest.mark.parametrize("limit", [-1, 2**63, 500.0, True, "500"])
def test_a_limit_is_a_whole_number_from_zero(cell: Scribe, limit: Any):
    cell.refused(e.InvalidInput, c.SetLimit, account="mia", asset=USD, limit=limit)
    cell.refused(e.InvalidInput, c.SetLimit, account="mia", asset=USD, ceiling=limit)


@pytest.mark.parametrize("account", ["@issuance", "@fees", "@treasury", "@external:bank"])
def test_the_ledgers_own_accounts_have_no_debt_limit(cell: Scribe, account: str):
    cell.refused(e.InvalidInput, c.SetLimit, account=account, asset=USD, limit=600)


def test_setting_no_limit_at_all_is_refused(cell: Scribe):
    cell.refused(e.InvalidInput, c.SetLimit, account="mia", asset=USD)


# ---------------------------------------------------------------- commitments


def test_a_commitment_reserves_out_of_what_the_member_may_spend(cell: Scribe):
    promise = reserve(cell, 1_500)
    assert cell.buckets("mia") == {"available": -1_500, "held": 1_500}
    assert cell.lock(promise).refs == PROMISE
    refusal = cell.refused(e.EscrowViolation, c.Transfer, **PAY, amount=501)
    assert refusal.data == {"account": "mia", "asset": USD, "available": -2_001, "limit": 2_000}
    cell.pay("mia", "noa", 500)


def test_a_second_reserve_for_one_commitment_adds_to_it(cell: Scribe):
    assert reserve(cell, 100) == reserve(cell, 50)
    assert cell.lock("commitment c-1 mia USD/2").remaining == 150
    assert reserve(cell, 5, refs={"commitment": "c-2"}) != reserve(cell, 5, member="noa")


def test_a_commitment_is_kept_by_freeing_reserve_and_paying_in_one_event(cell: Scribe):
    promise = reserve(cell, 1_500)
    legs = (Leg("mia", "noa", USD, 1_000),)
    cell.do(c.CommitmentFulfil, member="mia", asset=USD, amount=1_000, legs=legs, refs=PROMISE)
    assert cell.buckets("mia") == {"available": -1_500, "held": 500}
    assert (cell.lock(promise).state, cell.lock(promise).taken) == ("active", 1_000)
    cell.do(c.CommitmentFulfil, member="mia", asset=USD, refs=PROMISE)
    assert (cell.lock(promise).state, cell.lock(promise).remaining) == ("fulfilled", 0)
    assert cell.buckets("mia") == {"available": -1_000}


def test_a_commitment_is_dropped_in_parts_and_no_reserve_goes_below_zero(cell: Scribe):
    promise = reserve(cell, 100)
    cell.do(c.CommitmentCancel, member="mia", asset=USD, amount=40, refs=PROMISE)
    refusal = cell.refused(e.NegativeReserve, c.CommitmentCancel, member="mia", asset=USD, amount=61, refs=PROMISE)
    assert refusal.data == {"account": "mia", "reserve": -1}
    cell.do(c.CommitmentCancel, member="mia", asset=USD, refs=PROMISE)
    assert cell.lock(promise).state == "cancelled"
    for kind in (c.CommitmentCancel, c.CommitmentFulfil):
        cell.refused(e.NegativeReserve, kind, member="mia", asset=USD, refs=PROMISE)


def test_a_commitment_may_be_made_again_after_it_ended(cell: Scribe):
    promise = reserve(cell, 100)
    cell.do(c.CommitmentCancel, member="mia", asset=USD, refs=PROMISE)
    assert reserve(cell, 7) == promise
    assert (cell.lock(promise).amount, cell.lock(promise).state) == (7, "active")


def test_keeping_a_commitment_never_touches_what_other_locks_hold(cell: Scribe):
    reserve(cell, 100)
    cell.hold("mia", 50)
    for leg in (Leg("mia", "mia", USD, 50, "held"), Leg("mia", "noa", USD, 50, "held")):
        cell.refused(e.MoveNotAllowed, c.CommitmentFulfil, member="mia", asset=USD, legs=(leg,), refs=PROMISE)
    assert cell.balance("mia", "held") == 150


def test_a_commitments_reserve_is_freed_by_its_own_commands_alone(cell: Scribe):
    promise = reserve(cell, 100)
    cell.refused(e.HoldNotFound, c.Release, hold=promise)
    cell.refused(e.HoldNotFound, c.Capture, hold=promise, splits=(c.Split("noa", 1),))


def test_only_a_member_in_this_asset_can_make_a_commitment(cell: Scribe):
    for member, asset in (("pia", USD), ("mia", EUR)):
        command = {"member": member, "asset": asset, "amount": 5, "refs": PROMISE}
        assert cell.refused(e.MemberNotFound, c.CommitmentCreate, **command).data == {"account": member}


def test_a_frozen_member_makes_no_commitment_and_may_drop_one(cell: Scribe):
    reserve(cell, 100)
    cell.do(c.FreezeAccount, account="mia")
    create = {"member": "mia", "asset": USD, "amount": 5, "refs": PROMISE}
    cell.refused(e.AccountFrozen, c.CommitmentCreate, **create)
    legs = (Leg("mia", "noa", USD, 100),)
    cell.refused(e.AccountFrozen, c.CommitmentFulfil, member="mia", asset=USD, legs=legs, refs=PROMISE)
    cell.do(c.CommitmentCancel, member="mia", asset=USD, refs=PROMISE)


# ---------------------------------------------------------------- the three modes


def test_escrowed_a_reserve_is_covered_to_the_last_unit(cell: Scribe):
    create = {"member": "mia", "asset": USD, "refs": PROMISE}
    cell.refused(e.EscrowViolation, c.CommitmentCreate, **create, amount=2_001)
    cell.do(c.CommitmentCreate, **create, amount=2_000)


def test_soft_a_reserve_is_recorded_and_only_the_whole_balance_is_checked(cell: Scribe):
    cell.policy(commitment_mode="SOFT")
    reserve(cell, 9_000)
    cell.pay("mia", "noa", 2_000)
    refusal = cell.refused(e.FloorViolation, c.Transfer, **PAY, amount=1)
    assert refusal.data["balance"] == -2_001


@pytest.mark.parametrize("mode", ["SOFT", "DISABLED", "ESCROWED"])
def test_in_no_mode_is_value_put_on_hold_or_on_game_that_is_not_there(cell: Scribe, mode: str):
    cell.policy(commitment_mode=mode)
    hold, bet = {"account": "mia", "asset": USD}, {"account": "mia", "asset": USD, "refs": {"round": "r-1"}}
    cell.refused(e.EscrowViolation, c.Hold, **hold, amount=2_001)
    cell.refused(e.EscrowViolation, c.BetStake, **bet, amount=2_001)
    cell.refused(e.FloorViolation, c.StakeLock, **hold, amount=2_001, refs={"escrow": "e"})
    cell.do(c.BetStake, **bet, amount=2_000)


def test_disabled_no_reserve_is_made_and_those_there_are_can_be_freed(cell: Scribe):
    reserve(cell, 100)
    cell.policy(commitment_mode="DISABLED")
    create = {"member": "mia", "asset": USD, "amount": 1, "refs": PROMISE}
    cell.refused(e.CommitmentsDisabled, c.CommitmentCreate, **create)
    cell.pay("mia", "noa", 2_000)
    cell.do(c.CommitmentCancel, member="mia", asset=USD, refs=PROMISE)
    cell.refused(e.FloorViolation, c.Transfer, **PAY, amount=1)


# ---------------------------------------------------------------- governance and federation


def test_governance_moves_balances_that_still_add_up_to_zero(cell: Scribe):
    cell.pay("mia", "noa", 900)
    event = cell.transact("governance_adjustment", Leg("noa", "mia", USD, 900), reason="debt forgiven")
    assert event.data["reason"] == "debt forgiven"
    assert (cell.balance("mia"), cell.balance("noa")) == (0, 0)


def test_governance_keeps_to_limits_too(cell: Scribe):
    cell.refused(
        e.FloorViolation, c.Post, type="governance_adjustment", legs=(Leg("mia", "noa", USD, 2_001),), reason="x"
    )


def test_a_payment_between_cells_goes_over_a_clearing_account_with_a_limit_of_its_own(cell: Scribe):
    cell.do(c.OpenAccount, account="@clearing:cell-b", limits={USD: 100_000})
    export = {"type": "federation_export", "refs": {"external_ref": "cell-b/7"}}
    cell.do(c.Post, legs=(Leg("@clearing:cell-b", "mia", USD, 100_000),), **export)
    refusal = cell.refused(e.FloorViolation, c.Post, legs=(Leg("@clearing:cell-b", "mia", USD, 1),), **export)
    assert refusal.data["account"] == "@clearing:cell-b"
    back = {"refs": {"external_ref": "cell-b/7"}}
    cell.transact("federation_rollback", Leg("mia", "@clearing:cell-b", USD, 40_000), **back)
    cell.transact("federation_import", Leg("mia", "@clearing:cell-b", USD, 60_000), refs={"external_ref": "cell-b/8"})
    assert (cell.balance("mia"), cell.balance("@clearing:cell-b")) == (0, 0)


def test_a_clearing_account_without_limit_or_declaration_cannot_owe(cell: Scribe):
    legs = (Leg("@clearing:cell-b", "mia", USD, 1),)
    cell.refused(e.InsufficientFunds, c.Post, type="federation_export", legs=legs, refs={"external_ref": "x"})


def test_a_spot_payment_is_between_members_alone(cell: Scribe):
    cell.transact("spot_payment", Leg("mia", "noa", USD, 5))
    for target in ("@treasury", "@clearing:x", "@fees"):
        cell.refused(e.MoveNotAllowed, c.Post, type="spot_payment", legs=(Leg("mia", target, USD, 5),))
