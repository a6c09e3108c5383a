"""Repair: a transaction is undone by another, whole or in part, and never more of it than there was."""

from __future__ import annotations

import pytest

from tallystick import commands as c
from tallystick import errors as e
from tallystick.commands import Leg, Split
from tests.support.kernel import EUR, USD, Scribe


@pytest.fixture
def paid(ledger: Scribe) -> Scribe:
    """Alice paid Bob 60 of her 100, as main/2."""
    ledger.mint("alice", 100)
    assert ledger.pay("alice", "bob", 60).id == PAYMENT
    return ledger


PAYMENT = "main/2"


def test_a_reversal_gives_everything_back_and_names_what_it_undoes(paid: Scribe):
    event = paid.do(c.Reverse, transaction=PAYMENT)
    assert (paid.balance("alice"), paid.balance("bob")) == (100, 0)
    assert event.data["reverses"] == PAYMENT
    assert paid.book.get("reversal", PAYMENT).by == (event.id,)


def test_nothing_is_reversed_twice(paid: Scribe):
    paid.do(c.Reverse, transaction=PAYMENT)
    paid.mint("bob", 60)
    for more in ({}, {"amount": 1}, {"legs": (Leg("bob", "alice", USD, 1),)}):
        refusal = paid.refused(e.AlreadyReversed, c.Reverse, transaction=PAYMENT, **more)
        assert refusal.data["remaining"] == 0


def test_parts_are_reversed_up_to_the_whole_and_not_one_unit_more(paid: Scribe):
    paid.do(c.Reverse, transaction=PAYMENT, amount=25)
    assert paid.refused(e.AlreadyReversed, c.Reverse, transaction=PAYMENT, amount=36).data["remaining"] == 35
    paid.do(c.Reverse, transaction=PAYMENT, amount=30)
    paid.do(c.Reverse, transaction=PAYMENT)
    assert paid.balance("alice") == 100
    assert len(paid.book.get("reversal", PAYMENT).by) == 3


@pytest.fixture
def multi(ledger: Scribe) -> Scribe:
    """Alice pays Bob 30 and Carol 20 in one asset, and Bob pays Alice 9 in another, as main/3."""
    ledger.mint("alice", 100)
    ledger.mint("bob", 9, EUR)
    legs = (Leg("alice", "bob", USD, 30), Leg("alice", "carol", USD, 20), Leg("bob", "alice", EUR, 9))
    assert ledger.transact("transfer", *legs).id == "main/3"
    return ledger


def test_a_transaction_of_many_legs_is_undone_whole(multi: Scribe):
    multi.do(c.Reverse, transaction="main/3")
    assert (multi.balance("alice"), multi.balance("bob"), multi.balance("carol")) == (100, 0, 0)
    assert (multi.balance("alice", asset=EUR), multi.balance("bob", asset=EUR)) == (0, 9)


def test_a_transaction_of_many_legs_is_undone_in_part_by_naming_legs(multi: Scribe):
    refusal = multi.refused(e.InvalidInput, c.Reverse, transaction="main/3", amount=5)
    assert refusal.data["path"] == "amount"
    multi.do(c.Reverse, transaction="main/3", legs=(Leg("bob", "alice", USD, 10), Leg("alice", "bob", EUR, 9)))
    assert (multi.balance("bob"), multi.balance("bob", asset=EUR)) == (20, 9)
    multi.refused(e.AlreadyReversed, c.Reverse, transaction="main/3", legs=(Leg("bob", "alice", USD, 21),))
    multi.refused(e.AlreadyReversed, c.Reverse, transaction="main/3", legs=(Leg("alice", "bob", EUR, 1),))
    multi.do(c.Reverse, transaction="main/3")
    assert (multi.balance("alice"), multi.balance("bob"), multi.balance("carol")) == (100, 0, 0)


@pytest.mark.parametrize(
    "leg",
    [
        Leg("alice", "bob", USD, 1),
        Leg("bob", "carol", USD, 1),
        Leg("bob", "mallory", USD, 1),
        Leg("bob", "alice", EUR, 1),
        Leg("bob", "alice", USD, 31),
        Leg("bob", "alice", USD, 1, "available", "promo"),
    ],
    ids=["same direction", "sideways", "stranger", "asset the wrong way", "too much", "other bucket"],
)
def test_legs_that_are_not_on_the_way_back_are_refused(multi: Scribe, leg: Leg):
    multi.refused(e.AlreadyReversed, c.Reverse, transaction="main/3", legs=(leg,))


def test_legs_and_an_amount_together_are_refused(multi: Scribe):
    leg = Leg("bob", "alice", USD, 1)
    assert (
        multi.refused(e.InvalidInput, c.Reverse, transaction="main/3", amount=1, legs=(leg,)).data["path"] == "amount"
    )


def test_a_payee_who_has_spent_it_cannot_give_it_back(paid: Scribe):
    paid.pay("bob", "carol", 1)
    paid.refused(e.InsufficientFunds, c.Reverse, transaction=PAYMENT)
    paid.do(c.Reverse, transaction=PAYMENT, amount=59)


def test_a_reversal_is_not_reversed(paid: Scribe):
    reversal = paid.do(c.Reverse, transaction=PAYMENT, amount=1)
    refusal = paid.refused(e.NotReversible, c.Reverse, transaction=reversal.id)
    assert refusal.data == {"transaction": reversal.id, "type": "reversal"}


def test_locks_and_events_without_entries_are_not_reversed(paid: Scribe):
    hold, stake = paid.hold("alice", 10), paid.stake("alice", 10)
    extend = paid.do(c.HoldExtend, hold=hold, expires_in_seconds=9).id
    release = paid.do(c.Release, hold=hold).id
    for stranger in (hold, stake, extend, release, "main/0"):
        paid.refused(e.NotReversible, c.Reverse, transaction=stranger)


@pytest.mark.parametrize(
    "stranger", ["main/3", "main/-1", "main/02", "main/", "2", "", "other/2", "main/٢", "main/2/2", "main/x"]
)
def test_a_transaction_that_is_not_there_is_not_found(paid: Scribe, stranger: str):
    assert paid.refused(e.TransactionNotFound, c.Reverse, transaction=stranger).data == {"transaction": stranger}


def test_a_capture_undone_comes_back_as_available_and_its_hold_stays_captured(ledger: Scribe):
    ledger.mint("alice", 100)
    hold = ledger.hold("alice", 60)
    capture = ledger.do(c.Capture, hold=hold, splits=(Split("bob", 40), Split("@fees", 5, "fees")))
    ledger.do(c.Reverse, transaction=capture.id)
    assert ledger.buckets("alice") == {"available": 100}
    assert ledger.buckets("@fees") == {}
    assert ledger.lock(hold).state == "captured"


def test_only_what_a_final_capture_paid_comes_back_not_what_it_released(ledger: Scribe):
    ledger.mint("alice", 100)
    capture = ledger.do(c.Capture, hold=ledger.hold("alice", 60), splits=(Split("bob", 40),))
    ledger.refused(e.AlreadyReversed, c.Reverse, transaction=capture.id, amount=41)
    ledger.do(c.Reverse, transaction=capture.id, amount=40)
    assert ledger.buckets("alice") == {"available": 100}


def test_a_mint_a_deposit_and_a_fee_are_undone_against_the_ledgers_own_accounts(ledger: Scribe):
    mint = ledger.mint("alice", 100)
    deposit = ledger.transact("deposit", Leg("@external:bank", "alice", USD, 5), refs={"tx_hash": "0x1"})
    fee = ledger.transact("fee", Leg("alice", "@fees", USD, 7, "available", "fees"))
    for event in (fee, deposit, mint):
        ledger.do(c.Reverse, transaction=event.id)
    for account in ("alice", "@issuance", "@external:bank", "@fees"):
        assert ledger.buckets(account) == {}


def test_a_frozen_payee_is_not_made_to_pay_back(paid: Scribe):
    paid.do(c.FreezeAccount, account="bob")
    paid.refused(e.AccountFrozen, c.Reverse, transaction=PAYMENT)


# ---------------------------------------------------------------- adjustments


FIX = {"refs": {"corrects": PAYMENT}, "reason": "wrong payee", "actor": "ops:carol"}


def test_an_adjustment_says_what_it_corrects_why_and_who(paid: Scribe):
    event = paid.transact("adjustment", Leg("bob", "carol", USD, 60), **FIX)
    assert event.refs == {"corrects": PAYMENT}
    assert (event.actor, event.data["reason"]) == ("ops:carol", "wrong payee")


@pytest.mark.parametrize(
    ("without", "error"),
    [("refs", e.ReferenceRequired), ("reason", e.InvalidInput), ("actor", e.InvalidInput)],
)
def test_an_adjustment_without_one_of_them_is_refused(paid: Scribe, without: str, error: type[e.Refusal]):
    needs = {name: value for name, value in FIX.items() if name != without}
    paid.refused(error, c.Post, type="adjustment", legs=(Leg("bob", "carol", USD, 60),), **needs)


@pytest.mark.parametrize("stranger", ["main/9", "other/1", "nonsense"])
def test_an_adjustment_corrects_something_that_is_there(paid: Scribe, stranger: str):
    needs = {**FIX, "refs": {"corrects": stranger}}
    legs = (Leg("bob", "carol", USD, 60),)
    paid.refused(e.TransactionNotFound, c.Post, type="adjustment", legs=legs, **needs)
    paid.do(c.DefineType, name="write_off", base="adjustment")
    paid.refused(e.TransactionNotFound, c.Post, type="write_off", legs=legs, **needs)


# ---------------------------------------------------------------- charges


def test_a_charge_is_finalized_once_and_only_if_something_of_it_is_left(ledger: Scribe):
    ledger.mint("alice", 100)
    capture = ledger.do(c.Capture, hold=ledger.hold("alice", 60), splits=(Split("bob", 40),))
    ledger.do(c.Reverse, transaction=capture.id, amount=39)
    event = ledger.do(c.FinalizeCharge, charge=capture.id)
    assert event.data["charge"] == capture.id
    refusal = ledger.refused(e.ChargeNotOpen, c.FinalizeCharge, charge=capture.id)
    assert refusal.data["state"] == "finalized"


def test_a_refunded_charge_is_not_finalized(ledger: Scribe):
    ledger.mint("alice", 100)
    capture = ledger.do(c.Capture, hold=ledger.hold("alice", 60), splits=(Split("bob", 40),))
    ledger.do(c.Reverse, transaction=capture.id)
    assert ledger.refused(e.ChargeNotOpen, c.FinalizeCharge, charge=capture.id).data["state"] == "refunded"


def test_only_a_capture_is_a_charge(paid: Scribe):
    paid.refused(e.NotReversible, c.FinalizeCharge, charge=PAYMENT)
    paid.refused(e.TransactionNotFound, c.FinalizeCharge, charge="main/77")
