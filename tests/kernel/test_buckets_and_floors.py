"""Balances: five buckets, each with a floor, and the one way to go below it."""

from __future__ import annotations

import pytest

from tallystick import commands as c
from tallystick import errors as e
from tallystick.accounts import BUCKETS
from tallystick.commands import Leg
from tallystick.kernel.postings import floor_of
from tests.support.kernel import EUR, USD, Scribe


def test_an_account_opens_on_first_use_and_stands_at_what_it_was_paid(ledger: Scribe):
    assert ledger.buckets("alice") == {}
    ledger.mint("alice", 100)
    assert ledger.buckets("alice") == {"available": 100}
    assert ledger.balance("@issuance") == -100


def test_an_account_may_spend_to_zero_and_not_one_unit_further(ledger: Scribe):
    ledger.mint("alice", 100)
    refusal = ledger.refused(
        e.InsufficientFunds, c.Transfer, from_account="alice", to_account="bob", asset=USD, amount=101
    )
    assert refusal.data == {
        "account": "alice", "asset": USD, "bucket": "available", "balance": 100, "change": -101, "floor": 0,
    }  # fmt: skip
    ledger.pay("alice", "bob", 100)
    assert ledger.balance("alice") == 0


@pytest.mark.parametrize("bucket", [bucket for bucket in BUCKETS if bucket != "available"])
@pytest.mark.parametrize("account", ["alice", "@issuance", "@external:bank", "@clearing:x", "@fees"])
def test_only_available_can_ever_be_below_zero(ledger: Scribe, bucket: str, account: str):
    assert floor_of(ledger.book, account, USD, bucket) == 0


def test_only_issuance_and_external_accounts_have_no_floor_of_themselves(ledger: Scribe):
    floors = {
        account: floor_of(ledger.book, account, USD, "available")
        for account in ("alice", "@issuance", "@external:bank", "@clearing:x", "@fees", "@treasury")
    }
    assert floors == {
        "alice": 0, "@issuance": None, "@external:bank": None, "@clearing:x": 0, "@fees": 0, "@treasury": 0,
    }  # fmt: skip


def test_a_clearing_account_may_be_declared_without_a_floor(ledger: Scribe):
    settle = {"type": "settlement", "legs": (Leg("@clearing:x", "bob", USD, 5),), "refs": {"netting_batch": "n"}}
    ledger.refused(e.InsufficientFunds, c.Post, **settle)
    ledger.do(c.OpenAccount, account="@clearing:x", floorless=True)
    ledger.do(c.Post, **settle)
    assert ledger.balance("@clearing:x") == -5


@pytest.mark.parametrize("account", ["alice", "@treasury", "@fees", "@issuance", "did:web:example.org"])
def test_no_other_account_may_be_declared_without_a_floor(ledger: Scribe, account: str):
    refusal = ledger.refused(e.InvalidInput, c.OpenAccount, account=account, floorless=True)
    assert refusal.data["path"] == "floorless"


def test_two_movements_of_one_account_count_together_and_make_one_entry(ledger: Scribe):
    ledger.mint("bob", 30)
    event = ledger.transact("transfer", Leg("alice", "carol", USD, 20), Leg("bob", "alice", USD, 30))
    assert ledger.balance("alice") == 10
    assert [(entry.account, entry.amount) for entry in event.entries] == [("alice", 10), ("carol", 20), ("bob", -30)]


def test_movements_that_cancel_out_wholly_are_no_transaction(ledger: Scribe):
    ledger.mint("alice", 30)
    legs = (Leg("alice", "bob", USD, 5), Leg("bob", "alice", USD, 5))
    ledger.refused(e.EmptyTransaction, c.Post, type="transfer", legs=legs)


def test_an_account_that_only_passes_value_on_needs_none_of_its_own(ledger: Scribe):
    ledger.mint("alice", 30)
    event = ledger.transact("transfer", Leg("alice", "bob", USD, 30), Leg("bob", "carol", USD, 30))
    assert [entry.account for entry in event.entries] == ["alice", "carol"]


def test_legs_in_several_assets_balance_each_by_itself(ledger: Scribe):
    ledger.mint("alice", 100)
    ledger.mint("bob", 90, EUR)
    event = ledger.transact("transfer", Leg("alice", "bob", USD, 100), Leg("bob", "alice", EUR, 90))
    for asset in (USD, EUR):
        assert sum(entry.amount for entry in event.entries if entry.asset == asset) == 0
    assert (ledger.balance("alice", asset=EUR), ledger.balance("bob")) == (90, 100)


def test_value_in_one_asset_does_not_cover_a_debt_in_another(ledger: Scribe):
    ledger.mint("alice", 100)
    legs = (Leg("alice", "bob", USD, 100), Leg("alice", "bob", EUR, 1))
    ledger.refused(e.InsufficientFunds, c.Post, type="transfer", legs=legs)
    assert ledger.balance("alice") == 100


def test_a_hundred_legs_are_allowed_and_one_more_is_not(ledger: Scribe):
    ledger.mint("alice", 200)
    legs = tuple(Leg("alice", f"u:{number}", USD, 1) for number in range(101))
    refusal = ledger.refused(e.InvalidInput, c.Post, type="transfer", legs=legs)
    assert refusal.data["path"] == "legs"
    ledger.transact("transfer", *legs[:100])
    assert ledger.balance("alice") == 100


def test_no_legs_at_all_are_no_transaction(ledger: Scribe):
    ledger.refused(e.EmptyTransaction, c.Post, type="transfer", legs=())


@pytest.mark.parametrize("name", ["transfer", "governance_adjustment", "spot_payment"])
def test_nobody_pays_himself(ledger: Scribe, name: str):
    ledger.mint("alice", 10)
    ledger.refused(e.SelfTransfer, c.Post, type=name, legs=(Leg("alice", "alice", USD, 1),), reason="x")
    ledger.refused(e.SelfTransfer, c.Transfer, from_account="alice", to_account="alice", asset=USD, amount=1)


def test_promotional_credit_can_be_spent_on_others_and_never_cashed_in(ledger: Scribe):
    ledger.transact("promo_mint", Leg("@issuance", "alice", USD, 10, "available", "promo"))
    own = Leg("alice", "alice", USD, 10, "promo", "available")
    ledger.refused(e.SelfTransfer, c.Post, type="transfer", legs=(own,))
    ledger.do(c.DefineType, name="cash_in", base="transfer")
    ledger.refused(e.SelfTransfer, c.Post, type="cash_in", legs=(own,))
    ledger.transact("transfer", Leg("alice", "shop", USD, 10, "promo", "available"))
    assert ledger.buckets("shop") == {"available": 10}


def test_a_bonus_is_no_way_to_turn_money_into_promotional_credit_of_ones_own(ledger: Scribe):
    ledger.mint("alice", 10)
    own = Leg("alice", "alice", USD, 10, "available", "promo")
    ledger.refused(e.SelfTransfer, c.Post, type="bonus_credit", legs=(own,))


def test_an_adjustment_may_move_value_between_an_accounts_own_buckets(ledger: Scribe):
    ledger.mint("alice", 10)
    own = Leg("alice", "alice", USD, 10, "available", "promo")
    ledger.transact("adjustment", own, refs={"corrects": "main/1"}, reason="was a gift", actor="ops")
    assert ledger.buckets("alice") == {"promo": 10}


def test_a_clearing_account_may_pay_into_its_own_domains_fee_pool(ledger: Scribe):
    ledger.mint("@clearing:x", 10)
    ledger.transact("fee", Leg("@clearing:x", "@clearing:x", USD, 4, "available", "fees"))
    assert ledger.buckets("@clearing:x") == {"available": 6, "fees": 4}


@pytest.mark.parametrize("bucket", ["held", "bonded"])
@pytest.mark.parametrize("name", ["transfer", "fee", "burn", "adjustment", "governance_adjustment", "reversal"])
def test_what_is_set_aside_is_reached_through_its_lock_alone(ledger: Scribe, name: str, bucket: str):
    ledger.mint("alice", 100)
    ledger.hold("alice", 40)
    ledger.stake("alice", 40)
    target = {"fee": ("@fees", "fees"), "burn": ("@issuance", "available")}.get(name, ("bob", "available"))
    leg = Leg("alice", target[0], USD, 1, bucket, target[1])
    if name == "reversal":
        transaction = ledger.pay("alice", "bob", 1).id
        ledger.refused(e.AlreadyReversed, c.Reverse, transaction=transaction, legs=(leg,))
        return
    more = {"refs": {"corrects": "main/1"}, "reason": "x", "actor": "ops"}
    ledger.refused(e.MoveNotAllowed, c.Post, type=name, legs=(leg,), **more)


# ---------------------------------------------------------------- ceilings


def test_a_ceiling_may_be_reached_and_not_passed(ledger: Scribe):
    ledger.do(c.OpenAccount, account="alice", ceilings={USD: 100})
    ledger.mint("alice", 100)
    mint = {"type": "mint", "legs": (Leg("@issuance", "alice", USD, 1),)}
    refusal = ledger.refused(e.CeilingExceeded, c.Post, **mint)
    assert refusal.data == {"account": "alice", "asset": USD, "balance": 101, "ceiling": 100}
    ledger.mint("alice", 500, EUR)


def test_a_ceiling_below_the_balance_lets_value_out_and_none_in(ledger: Scribe):
    ledger.mint("alice", 100)
    ledger.do(c.SetLimit, account="alice", asset=USD, ceiling=10)
    ledger.pay("alice", "bob", 50)
    ledger.refused(e.CeilingExceeded, c.Transfer, from_account="bob", to_account="alice", asset=USD, amount=1)
    ledger.do(c.SetLimit, account="alice", asset=USD, clear_ceiling=True)
    ledger.pay("bob", "alice", 1)


@pytest.mark.parametrize("way_back", ["release", "expire", "final capture", "rollback"])
def test_a_ceiling_never_keeps_an_accounts_own_value_from_coming_back(ledger: Scribe, way_back: str):
    ledger.do(c.OpenAccount, account="alice", ceilings={USD: 100})
    ledger.mint("alice", 100)
    if way_back == "rollback":
        bet = ledger.bet("alice", 60)
        ledger.mint("alice", 60)
        ledger.do(c.BetRollback, bet=bet, refs={"round": "r-1"})
    else:
        hold = ledger.hold("alice", 60, expires_in_seconds=60)
        ledger.mint("alice", 60)
        if way_back == "release":
            ledger.do(c.Release, hold=hold)
        elif way_back == "expire":
            ledger.wait(60)
            ledger.do(c.HoldExpire, hold=hold)
        else:
            ledger.do(c.Capture, hold=hold, splits=(c.Split("bob", 1),))
    assert ledger.balance("alice") > 100
    assert ledger.balance("alice", "held") == 0


# ---------------------------------------------------------------- strict ledgers


@pytest.fixture
def strict(ledger: Scribe) -> Scribe:
    ledger.policy(strict=True)
    return ledger


def test_a_strict_ledger_knows_no_account_and_no_asset_that_was_not_declared(strict: Scribe):
    mint = {"type": "mint", "legs": (Leg("@issuance", "alice", USD, 1),)}
    assert strict.refused(e.AccountNotFound, c.Post, **mint).data == {"account": "alice"}
    strict.do(c.OpenAccount, account="alice")
    assert strict.refused(e.AssetNotFound, c.Post, **mint).data == {"asset": USD}
    strict.do(c.DefineAsset, asset=USD)
    strict.do(c.Post, **mint)
    assert strict.balance("alice") == 1


def test_a_strict_ledger_refuses_an_account_that_was_used_before_it_became_strict(ledger: Scribe):
    ledger.mint("alice", 5)
    ledger.do(c.OpenAccount, account="bob")
    ledger.policy(strict=True)
    ledger.refused(e.AccountNotFound, c.Transfer, from_account="alice", to_account="bob", asset=USD, amount=1)


def test_the_ledgers_own_accounts_need_no_declaration(strict: Scribe):
    strict.do(c.DefineAsset, asset=USD)
    strict.mint("@treasury", 5)
    strict.mint("@clearing:x", 5)


def test_limits_and_locks_of_undeclared_accounts_are_refused_too(strict: Scribe):
    strict.do(c.DefineAsset, asset=USD)
    strict.refused(e.AccountNotFound, c.SetLimit, account="alice", asset=USD, limit=600)
    strict.refused(e.AccountNotFound, c.Hold, account="alice", asset=USD, amount=6)
    strict.refused(e.AssetNotFound, c.OpenAccount, account="alice", limits={EUR: 600})
