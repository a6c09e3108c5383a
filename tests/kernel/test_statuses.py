"""Statuses: a frozen account may be paid and cannot pay; an excluded or closed one does neither."""

from __future__ import annotations

import pytest

from tallystick import commands as c
from tallystick import errors as e
from tallystick.commands import Leg, Split
from tests.support.kernel import EUR, USD, Scribe


@pytest.fixture
def frozen(ledger: Scribe) -> Scribe:
    """Alice holds 40 available, 30 held and 30 bonded, and is frozen."""
    ledger.mint("alice", 100)
    ledger.hold("alice", 30, expires_in_seconds=60)
    ledger.stake("alice", 30)
    ledger.do(c.FreezeAccount, account="alice")
    ledger.mint("bob", 100)
    return ledger


HOLD, STAKE = "main/2", "main/3"
CASE = {"escrow": "esc-1"}


def test_a_frozen_account_may_be_paid(frozen: Scribe):
    frozen.pay("bob", "alice", 10)
    assert frozen.balance("alice") == 50


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (c.Transfer, {"from_account": "alice", "to_account": "bob", "asset": USD, "amount": 1}),
        (c.Post, {"type": "burn", "legs": (Leg("alice", "@issuance", USD, 1),)}),
        (c.Hold, {"account": "alice", "asset": USD, "amount": 1}),
        (c.HoldTopUp, {"hold": HOLD, "amount": 1}),
        (c.StakeLock, {"account": "alice", "asset": USD, "amount": 1, "refs": CASE}),
        (c.BetStake, {"account": "alice", "asset": USD, "amount": 1, "refs": {"round": "r"}}),
        (c.Capture, {"hold": HOLD, "splits": (Split("bob", 1),)}),
        (c.StakeSlash, {"stake": STAKE, "to_account": "bob", "refs": CASE}),
    ],
)
def test_a_frozen_account_cannot_pay_nor_set_aside(frozen: Scribe, kind: type[c.Command], fields: dict[str, object]):
    assert frozen.refused(e.AccountFrozen, kind, **fields).data == {"account": "alice"}


def test_what_a_frozen_account_has_set_aside_may_come_back(frozen: Scribe):
    frozen.do(c.Release, hold=HOLD, amount=10)
    frozen.wait(60)
    frozen.do(c.HoldExpire, hold=HOLD)
    frozen.do(c.StakeRelease, stake=STAKE, refs=CASE)
    assert frozen.buckets("alice") == {"available": 100}


def test_a_frozen_account_that_ends_a_command_with_more_than_before_was_paid(frozen: Scribe):
    frozen.transact("transfer", Leg("alice", "carol", USD, 5), Leg("bob", "alice", USD, 6))
    assert frozen.balance("alice") == 41


def test_a_credit_in_one_asset_does_not_excuse_a_debit_in_another(frozen: Scribe):
    frozen.mint("bob", 100, EUR)
    legs = (Leg("bob", "alice", EUR, 100), Leg("alice", "bob", USD, 1))
    frozen.refused(e.AccountFrozen, c.Post, type="transfer", legs=legs)


def test_an_unfrozen_account_pays_again(frozen: Scribe):
    frozen.do(c.UnfreezeAccount, account="alice")
    frozen.pay("alice", "bob", 40)


def test_freezing_twice_is_refused(frozen: Scribe):
    refusal = frozen.refused(e.AccountNotActive, c.FreezeAccount, account="alice")
    assert refusal.data == {"account": "alice", "status": "frozen"}


@pytest.fixture(params=["excluded", "closed"])
def ended(ledger: Scribe, request: pytest.FixtureRequest) -> Scribe:
    ledger.member("mia")
    kind = c.ExcludeAccount if request.param == "excluded" else c.CloseAccount
    ledger.do(kind, account="mia")
    ledger.mint("bob", 100)
    return ledger


def test_an_ended_account_is_neither_paid_nor_pays(ended: Scribe):
    status = ended.book.account("mia").status
    for leg in (Leg("bob", "mia", USD, 1), Leg("mia", "bob", USD, 1)):
        refusal = ended.refused(e.AccountNotActive, c.Post, type="transfer", legs=(leg,))
        assert refusal.data == {"account": "mia", "status": status}
    ended.refused(e.AccountNotActive, c.Hold, account="mia", asset=USD, amount=1)


def test_an_ended_account_stays_ended(ended: Scribe):
    for kind in (c.FreezeAccount, c.UnfreezeAccount, c.ExcludeAccount, c.CloseAccount):
        ended.refused(e.AccountNotActive, kind, account="mia")
    ended.refused(e.AccountExists, c.OpenAccount, account="mia")
    ended.refused(e.AccountNotActive, c.SetLimit, account="mia", asset=USD, limit=600)


@pytest.mark.parametrize("kind", [c.ExcludeAccount, c.CloseAccount])
def test_an_account_with_something_in_it_ends_only_by_settling_to_a_named_account(
    ledger: Scribe, kind: type[c.Command]
):
    ledger.mint("alice", 10)
    ledger.mint("alice", 20, EUR)
    refusal = ledger.refused(e.AccountNotEmpty, kind, account="alice")
    assert refusal.data["balance"] in (10, 20)
    event = ledger.do(kind, account="alice", settle_to="bob")
    assert {(entry.account, entry.asset, entry.amount) for entry in event.entries} == {
        ("alice", USD, -10), ("bob", USD, 10), ("alice", EUR, -20), ("bob", EUR, 20),
    }  # fmt: skip
    assert ledger.buckets("alice") == {}


def test_a_debt_is_taken_over_only_by_one_who_can_bear_it(ledger: Scribe):
    ledger.member("mia")
    ledger.member("noa")
    ledger.pay("mia", "noa", 2_000)
    ledger.refused(e.InsufficientFunds, c.ExcludeAccount, account="mia", settle_to="pauper")
    ledger.do(c.ExcludeAccount, account="mia", settle_to="noa")
    assert (ledger.balance("mia"), ledger.balance("noa")) == (0, 0)


def test_a_frozen_account_can_be_settled_and_ended_in_one_event(frozen: Scribe):
    frozen.do(c.Release, hold=HOLD)
    frozen.do(c.StakeRelease, stake=STAKE, refs=CASE)
    frozen.do(c.CloseAccount, account="alice", settle_to="bob")
    assert frozen.balance("bob") == 200
    assert frozen.book.account("alice").status == "closed"
    assert frozen.book.undo is None


@pytest.mark.parametrize("what", ["held", "bonded", "promo"])
def test_an_account_with_something_outside_available_cannot_end(ledger: Scribe, what: str):
    ledger.mint("alice", 10)
    if what == "held":
        ledger.hold("alice", 10)
    elif what == "bonded":
        ledger.stake("alice", 10)
    else:
        ledger.transact("bonus_credit", Leg("alice", "carol", USD, 10, "available", "promo"))
    account = "carol" if what == "promo" else "alice"
    refusal = ledger.refused(e.AccountNotEmpty, c.CloseAccount, account=account, settle_to="bob")
    assert refusal.data["bucket"] == what


@pytest.mark.parametrize("target", ["alice", "@issuance", "@external:bank", "@fees", "no spaces", "@nobody"])
def test_a_bad_account_to_settle_to_is_refused_even_when_nothing_is_left(ledger: Scribe, target: str):
    ledger.member("alice")
    refusal = ledger.refused(e.InvalidInput, c.CloseAccount, account="alice", settle_to=target)
    assert refusal.data["path"] == "settle_to"


def test_issuance_cannot_be_ended_by_laying_its_debt_on_somebody(ledger: Scribe):
    ledger.mint("@treasury", 100)
    ledger.refused(e.AccountNotEmpty, c.CloseAccount, account="@issuance", settle_to="@treasury")


def test_a_credit_to_an_account_that_is_settled_to_respects_its_status_and_ceiling(ledger: Scribe):
    ledger.mint("alice", 10)
    ledger.do(c.OpenAccount, account="bob", ceilings={USD: 9})
    ledger.refused(e.CeilingExceeded, c.CloseAccount, account="alice", settle_to="bob")
    ledger.do(c.CloseAccount, account="bob")
    ledger.refused(e.AccountNotActive, c.CloseAccount, account="alice", settle_to="bob")


def test_a_hold_is_not_captured_for_an_ended_payee_and_goes_back_instead(ended: Scribe):
    hold = ended.hold("bob", 10)
    ended.refused(e.AccountNotActive, c.Capture, hold=hold, splits=(Split("mia", 10),))
    stake = ended.stake("bob", 10)
    ended.refused(e.AccountNotActive, c.StakeSlash, stake=stake, to_account="mia", refs=CASE)
    ended.do(c.Release, hold=hold)
    ended.do(c.StakeRelease, stake=stake, refs=CASE)
    assert ended.buckets("bob") == {"available": 100}


def test_a_frozen_player_is_paid_a_win_and_does_not_pay_for_a_loss_before_he_is_unfrozen(ledger: Scribe):
    ledger.mint("alice", 100)
    ledger.mint("house", 100)
    won, lost = ledger.bet("alice", 10), ledger.bet("alice", 10)
    ledger.do(c.FreezeAccount, account="alice")
    settle = {"house": "house", "refs": {"round": "r-1"}}
    ledger.do(c.BetSettlement, bet=won, payout=25, **settle)
    ledger.refused(e.AccountFrozen, c.BetSettlement, bet=lost, payout=0, **settle)
    ledger.do(c.UnfreezeAccount, account="alice")
    ledger.do(c.BetSettlement, bet=lost, payout=0, **settle)
    assert ledger.balance("alice") == 105


def test_what_was_set_aside_before_a_ledger_became_strict_still_comes_back(ledger: Scribe):
    ledger.mint("alice", 100)
    ledger.hold("alice", 30, expires_in_seconds=60)
    ledger.do(c.SetPolicy, changes={"strict": True})
    ledger.refused(e.AccountNotFound, c.Hold, account="alice", asset=USD, amount=1)
    ledger.do(c.Release, hold=HOLD)
    assert ledger.balance("alice") == 100
