"""One right and one wrong use of every event type.

A right use is a function that brings a fresh ledger to where the event can happen, and returns the command that makes
it. A wrong use does the same, and returns the refusal that the command must meet with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tallystick import commands as c
from tallystick import errors as e
from tallystick.commands import Command, Leg, Split
from tests.support.kernel import USD, Scribe

Right = Callable[[Scribe], Command]
Wrong = Callable[[Scribe], tuple[Command, type[e.Refusal]]]

RIGHT: dict[str, Right] = {}
WRONG: dict[str, Wrong] = {}


def right(function: Right) -> Right:
    RIGHT[function.__name__.removeprefix("right_")] = function
    return function


def wrong(function: Wrong) -> Wrong:
    WRONG[function.__name__.removeprefix("wrong_")] = function
    return function


# ---------------------------------------------------------------- by posting: legs and what they need

POSTED: dict[str, tuple[Leg, dict[str, Any]]] = {
    "mint": (Leg("@issuance", "alice", USD, 10), {}),
    "burn": (Leg("alice", "@issuance", USD, 10), {}),
    "deposit": (Leg("@external:bank", "alice", USD, 10), {"refs": {"tx_hash": "0xabc"}}),
    "withdrawal": (Leg("alice", "@external:bank", USD, 10), {"refs": {"external_ref": "wire-7"}}),
    "transfer": (Leg("alice", "bob", USD, 10), {}),
    "settlement": (Leg("@clearing:ads", "bob", USD, 10), {"refs": {"netting_batch": "net-1"}}),
    "fee": (Leg("alice", "@fees", USD, 10, "available", "fees"), {}),
    "fee_transfer": (Leg("@fees", "@treasury", USD, 10, "fees", "available"), {"refs": {"order": "o-1"}}),
    "fee_burn": (Leg("@fees", "@issuance", USD, 10, "fees", "available"), {"refs": {"trial": "t-1"}}),
    "promo_mint": (Leg("@issuance", "alice", USD, 10, "available", "promo"), {}),
    "promo_burn": (Leg("alice", "@issuance", USD, 10, "promo", "available"), {}),
    "bonus_credit": (Leg("@treasury", "alice", USD, 10, "available", "promo"), {}),
    "spot_payment": (Leg("alice", "bob", USD, 10), {}),
    "federation_import": (Leg("alice", "@clearing:ads", USD, 10), {"refs": {"external_ref": "cell-b/4"}}),
    "federation_export": (Leg("@clearing:ads", "alice", USD, 10), {"refs": {"external_ref": "cell-b/5"}}),
    "federation_rollback": (Leg("@clearing:ads", "alice", USD, 10), {"refs": {"external_ref": "cell-b/4"}}),
    "governance_adjustment": (Leg("alice", "bob", USD, 10), {"reason": "decision 12"}),
    "adjustment": (
        Leg("alice", "@fees", USD, 10, "available", "fees"),
        {"refs": {"corrects": "main/1"}, "reason": "booked twice", "actor": "ops:carol"},
    ),
}
"""One leg that the type allows, and the references and words that it needs."""

BROKEN: dict[str, tuple[dict[str, Any], type[e.Refusal]]] = {
    "mint": ({"legs": (Leg("@treasury", "alice", USD, 10),)}, e.MoveNotAllowed),
    "burn": ({"legs": (Leg("alice", "@fees", USD, 10),)}, e.MoveNotAllowed),
    "deposit": ({"refs": {"order": "o-1"}}, e.ReferenceRequired),
    "withdrawal": ({"refs": None}, e.ReferenceRequired),
    "transfer": ({"legs": (Leg("alice", "@issuance", USD, 10),)}, e.MoveNotAllowed),
    "settlement": ({"refs": {"order": "o-1"}}, e.ReferenceRequired),
    "fee": ({"legs": (Leg("alice", "bob", USD, 10, "available", "fees"),)}, e.MoveNotAllowed),
    "fee_transfer": ({"refs": None}, e.ReferenceRequired),
    "fee_burn": ({"refs": {"round": "r-1"}}, e.ReferenceRequired),
    "promo_mint": ({"legs": (Leg("@issuance", "alice", USD, 10),)}, e.MoveNotAllowed),
    "promo_burn": ({"legs": (Leg("alice", "@issuance", USD, 10),)}, e.MoveNotAllowed),
    "bonus_credit": ({"legs": (Leg("@issuance", "alice", USD, 10),)}, e.MoveNotAllowed),
    "spot_payment": ({"legs": (Leg("alice", "@treasury", USD, 10),)}, e.MoveNotAllowed),
    "federation_import": ({"refs": None}, e.ReferenceRequired),
    "federation_export": ({"legs": (Leg("bob", "alice", USD, 10),)}, e.MoveNotAllowed),
    "federation_rollback": ({"refs": {"trace_id": "t"}}, e.ReferenceRequired),
    "governance_adjustment": ({"reason": ""}, e.InvalidInput),
    "adjustment": ({"actor": ""}, e.InvalidInput),
}
"""What is changed in the row above to make it wrong, and the refusal."""


def furnish(ledger: Scribe) -> None:
    """Give everybody something in every bucket that a posting can take from."""
    for account in ("alice", "bob", "@treasury", "@clearing:ads"):
        ledger.mint(account, 1_000)
    ledger.transact("fee", Leg("bob", "@fees", USD, 100, "available", "fees"))
    ledger.transact("promo_mint", Leg("@issuance", "alice", USD, 100, "available", "promo"))


def _posted(name: str) -> None:
    leg, needs = POSTED[name]
    broken, error = BROKEN[name]

    def right_use(ledger: Scribe) -> Command:
        furnish(ledger)
        return ledger.command(c.Post, type=name, legs=(leg,), **needs)

    def wrong_use(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
        furnish(ledger)
        return ledger.command(c.Post, **{"type": name, "legs": (leg,), **needs, **broken}), error

    RIGHT[name], WRONG[name] = right_use, wrong_use


for _name in POSTED:
    _posted(_name)


# ---------------------------------------------------------------- holds


def _with_hold(ledger: Scribe, amount: int = 60) -> str:
    ledger.mint("alice", 100)
    return ledger.hold("alice", amount, expires_in_seconds=60)


@right
def right_hold(ledger: Scribe) -> Command:
    ledger.mint("alice", 100)
    return ledger.command(c.Hold, account="alice", asset=USD, amount=60, reason="job 1")


@wrong
def wrong_hold(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    ledger.mint("alice", 100)
    return ledger.command(c.Hold, account="alice", asset=USD, amount=101), e.InsufficientFunds


@right
def right_hold_top_up(ledger: Scribe) -> Command:
    return ledger.command(c.HoldTopUp, hold=_with_hold(ledger), amount=40)


@wrong
def wrong_hold_top_up(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    return ledger.command(c.HoldTopUp, hold=_with_hold(ledger), amount=41), e.InsufficientFunds


@right
def right_hold_extend(ledger: Scribe) -> Command:
    return ledger.command(c.HoldExtend, hold=_with_hold(ledger), expires_in_seconds=600)


@wrong
def wrong_hold_extend(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    return ledger.command(c.HoldExtend, hold=_with_hold(ledger)), e.InvalidInput


@right
def right_capture(ledger: Scribe) -> Command:
    return ledger.command(c.Capture, hold=_with_hold(ledger), splits=(Split("bob", 20),))


@wrong
def wrong_capture(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    return ledger.command(c.Capture, hold=_with_hold(ledger), splits=(Split("bob", 61),)), e.OverCapture


@right
def right_release(ledger: Scribe) -> Command:
    return ledger.command(c.Release, hold=_with_hold(ledger))


@wrong
def wrong_release(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    hold = _with_hold(ledger)
    ledger.do(c.Release, hold=hold)
    return ledger.command(c.Release, hold=hold), e.HoldNotOpen


@right
def right_hold_expire(ledger: Scribe) -> Command:
    hold = _with_hold(ledger)
    ledger.wait(60)
    return ledger.command(c.HoldExpire, hold=hold)


@wrong
def wrong_hold_expire(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    return ledger.command(c.HoldExpire, hold=_with_hold(ledger)), e.HoldNotExpired


# ---------------------------------------------------------------- stakes

CASE = {"trial": "t-9"}


def _with_stake(ledger: Scribe) -> str:
    ledger.mint("alice", 100)
    return ledger.stake("alice", 60)


@right
def right_stake_lock(ledger: Scribe) -> Command:
    ledger.mint("alice", 100)
    return ledger.command(c.StakeLock, account="alice", asset=USD, amount=60, refs=CASE)


@wrong
def wrong_stake_lock(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    ledger.mint("alice", 100)
    return ledger.command(c.StakeLock, account="alice", asset=USD, amount=60), e.ReferenceRequired


@right
def right_stake_release(ledger: Scribe) -> Command:
    return ledger.command(c.StakeRelease, stake=_with_stake(ledger), refs=CASE)


@wrong
def wrong_stake_release(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    return ledger.command(c.StakeRelease, stake=_with_stake(ledger), amount=61, refs=CASE), e.OverCapture


@right
def right_stake_slash(ledger: Scribe) -> Command:
    return ledger.command(c.StakeSlash, stake=_with_stake(ledger), to_account="@treasury", amount=20, refs=CASE)


@wrong
def wrong_stake_slash(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    return ledger.command(c.StakeSlash, stake=_with_stake(ledger), to_account="alice", refs=CASE), e.SelfTransfer


# ---------------------------------------------------------------- bets

ROUND = {"round": "r-1"}


def _with_bet(ledger: Scribe) -> str:
    ledger.mint("alice", 100)
    ledger.mint("house", 1_000)
    return ledger.bet("alice", 60)


@right
def right_bet_stake(ledger: Scribe) -> Command:
    ledger.mint("alice", 100)
    return ledger.command(c.BetStake, account="alice", asset=USD, amount=60, refs=ROUND)


@wrong
def wrong_bet_stake(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    ledger.mint("alice", 100)
    return ledger.command(c.BetStake, account="alice", asset=USD, amount=60), e.ReferenceRequired


@right
def right_bet_settlement(ledger: Scribe) -> Command:
    return ledger.command(c.BetSettlement, bet=_with_bet(ledger), house="house", payout=90, refs=ROUND)


@wrong
def wrong_bet_settlement(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    other = {"round": "r-2"}
    return ledger.command(c.BetSettlement, bet=_with_bet(ledger), house="house", payout=90, refs=other), e.InvalidInput


@right
def right_bet_rollback(ledger: Scribe) -> Command:
    return ledger.command(c.BetRollback, bet=_with_bet(ledger), refs=ROUND)


@wrong
def wrong_bet_rollback(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    bet = _with_bet(ledger)
    ledger.do(c.BetSettlement, bet=bet, house="house", payout=0, refs=ROUND)
    return ledger.command(c.BetRollback, bet=bet, refs=ROUND), e.HoldNotOpen


# ---------------------------------------------------------------- commitments

PROMISE = {"commitment": "c-1"}


def _with_commitment(ledger: Scribe) -> None:
    ledger.member("mia")
    ledger.member("noa")
    ledger.do(c.CommitmentCreate, member="mia", asset=USD, amount=500, refs=PROMISE)


@right
def right_commitment_create(ledger: Scribe) -> Command:
    ledger.member("mia")
    return ledger.command(c.CommitmentCreate, member="mia", asset=USD, amount=500, refs=PROMISE)


@wrong
def wrong_commitment_create(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    command = ledger.command(c.CommitmentCreate, member="mia", asset=USD, amount=500, refs=PROMISE)
    return command, e.MemberNotFound


@right
def right_commitment_fulfil(ledger: Scribe) -> Command:
    _with_commitment(ledger)
    legs = (Leg("mia", "noa", USD, 500),)
    return ledger.command(c.CommitmentFulfil, member="mia", asset=USD, legs=legs, refs=PROMISE)


@wrong
def wrong_commitment_fulfil(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    _with_commitment(ledger)
    return ledger.command(c.CommitmentFulfil, member="mia", asset=USD, amount=501, refs=PROMISE), e.NegativeReserve


@right
def right_commitment_cancel(ledger: Scribe) -> Command:
    _with_commitment(ledger)
    return ledger.command(c.CommitmentCancel, member="mia", asset=USD, refs=PROMISE)


@wrong
def wrong_commitment_cancel(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    _with_commitment(ledger)
    other = {"commitment": "c-2"}
    return ledger.command(c.CommitmentCancel, member="mia", asset=USD, refs=other), e.NegativeReserve


# ---------------------------------------------------------------- repair


@right
def right_reversal(ledger: Scribe) -> Command:
    ledger.mint("alice", 100)
    return ledger.command(c.Reverse, transaction=ledger.pay("alice", "bob", 30).id, amount=10)


@wrong
def wrong_reversal(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    ledger.mint("alice", 100)
    return ledger.command(c.Reverse, transaction=ledger.pay("alice", "bob", 30).id, amount=31), e.AlreadyReversed


@right
def right_charge_finalized(ledger: Scribe) -> Command:
    charge = ledger.do(c.Capture, hold=_with_hold(ledger), splits=(Split("bob", 20),))
    return ledger.command(c.FinalizeCharge, charge=charge.id)


@wrong
def wrong_charge_finalized(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    charge = ledger.do(c.Capture, hold=_with_hold(ledger), splits=(Split("bob", 20),))
    ledger.do(c.FinalizeCharge, charge=charge.id)
    return ledger.command(c.FinalizeCharge, charge=charge.id), e.ChargeNotOpen


# ---------------------------------------------------------------- accounts


@right
def right_account_opened(ledger: Scribe) -> Command:
    return ledger.command(
        c.OpenAccount,
        account="mia",
        limits={USD: 2_000},
        ceilings={USD: 9_000},
        owner="did:key:z6Mk",
        metadata={"a": "b"},
    )


@wrong
def wrong_account_opened(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    ledger.member("mia")
    return ledger.command(c.OpenAccount, account="mia"), e.AccountExists


@right
def right_account_frozen(ledger: Scribe) -> Command:
    ledger.mint("alice", 1)
    return ledger.command(c.FreezeAccount, account="alice")


@wrong
def wrong_account_frozen(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    return ledger.command(c.FreezeAccount, account="alice"), e.AccountNotFound


@right
def right_account_unfrozen(ledger: Scribe) -> Command:
    ledger.member("mia")
    ledger.do(c.FreezeAccount, account="mia")
    return ledger.command(c.UnfreezeAccount, account="mia")


@wrong
def wrong_account_unfrozen(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    ledger.member("mia")
    return ledger.command(c.UnfreezeAccount, account="mia"), e.AccountNotActive


@right
def right_account_excluded(ledger: Scribe) -> Command:
    ledger.member("mia")
    ledger.member("noa")
    ledger.pay("mia", "noa", 70)
    return ledger.command(c.ExcludeAccount, account="mia", settle_to="noa")


@wrong
def wrong_account_excluded(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    ledger.member("mia")
    ledger.member("noa")
    ledger.pay("mia", "noa", 70)
    return ledger.command(c.ExcludeAccount, account="mia"), e.AccountNotEmpty


@right
def right_account_closed(ledger: Scribe) -> Command:
    ledger.mint("alice", 70)
    ledger.do(c.FreezeAccount, account="alice")
    return ledger.command(c.CloseAccount, account="alice", settle_to="@treasury")


@wrong
def wrong_account_closed(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    _with_hold(ledger)
    return ledger.command(c.CloseAccount, account="alice", settle_to="@treasury"), e.AccountNotEmpty


@right
def right_limit_set(ledger: Scribe) -> Command:
    ledger.member("mia")
    return ledger.command(c.SetLimit, account="mia", asset=USD, limit=600, ceiling=50)


@wrong
def wrong_limit_set(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    return ledger.command(c.SetLimit, account="mia", asset=USD, limit=499), e.LimitOutOfBounds


# ---------------------------------------------------------------- records


@right
def right_ledger_opened(ledger: Scribe) -> Command:
    fresh = Scribe()
    vars(ledger).update(vars(fresh))
    return ledger.command(c.OpenLedger, name="main", policy={"strict": True, "limit_max": 9_999})


@wrong
def wrong_ledger_opened(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    return ledger.command(c.OpenLedger, name="main"), e.InvalidInput


@right
def right_policy_set(ledger: Scribe) -> Command:
    return ledger.command(c.SetPolicy, changes={"commitment_mode": "SOFT", "limit_default": 700})


@wrong
def wrong_policy_set(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    return ledger.command(c.SetPolicy, changes={"limit_default": 5_001}), e.InvalidInput


@right
def right_asset_defined(ledger: Scribe) -> Command:
    return ledger.command(c.DefineAsset, asset="JPY", name="Yen")


@wrong
def wrong_asset_defined(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    ledger.mint("alice", 1)
    return ledger.command(c.DefineAsset, asset="USD/3"), e.InvalidInput


@right
def right_type_defined(ledger: Scribe) -> Command:
    return ledger.command(c.DefineType, name="tip", base="transfer", requires=("order",), summary="a tip")


@wrong
def wrong_type_defined(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    return ledger.command(c.DefineType, name="tip", base="capture"), e.InvalidInput


@right
def right_reserve_recorded(ledger: Scribe) -> Command:
    return ledger.command(
        c.RecordReserve, reserve="bank:1", asset=USD, value=5, haircut_bps=500, provider="B", valid_until="2027-01-01"
    )


@wrong
def wrong_reserve_recorded(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    return ledger.command(c.RecordReserve, reserve="bank:1", asset=USD, value=5, haircut_bps=10_001), e.InvalidInput


@right
def right_attestation_issued(ledger: Scribe) -> Command:
    return ledger.command(c.IssueAttestation, digest="0f" * 32, statement={"coverage": "3/2"})


@wrong
def wrong_attestation_issued(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    return ledger.command(c.IssueAttestation, digest="0F" * 32), e.InvalidInput


@right
def right_period_closed(ledger: Scribe) -> Command:
    return ledger.command(c.ClosePeriod, until=ledger.now)


@wrong
def wrong_period_closed(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    return ledger.command(c.ClosePeriod, until="2026-01-01T00:00:00.000001Z"), e.InvalidInput


@right
def right_key_rotated(ledger: Scribe) -> Command:
    return ledger.command(c.RotateKey, public_key="did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK")


@wrong
def wrong_key_rotated(ledger: Scribe) -> tuple[Command, type[e.Refusal]]:
    return ledger.command(c.RotateKey, public_key=""), e.InvalidInput
