"""Supply, fees and promotional credit: where value comes from, and what must be said when it comes or goes."""

from __future__ import annotations

import pytest

from tallystick import commands as c
from tallystick import errors as e
from tallystick.commands import Leg
from tests.support.kernel import USD, Scribe


def test_minting_and_burning_move_what_is_in_issue(ledger: Scribe):
    ledger.mint("alice", 100)
    ledger.transact("burn", Leg("alice", "@issuance", USD, 40))
    assert (ledger.balance("@issuance"), ledger.balance("alice")) == (-60, 60)
    ledger.refused(e.InsufficientFunds, c.Post, type="burn", legs=(Leg("alice", "@issuance", USD, 61),))


@pytest.mark.parametrize("reference", ["tx_hash", "external_ref"])
def test_a_deposit_and_a_withdrawal_name_the_payment_outside(ledger: Scribe, reference: str):
    refs = {reference: "0xabc"}
    ledger.transact("deposit", Leg("@external:bank", "alice", USD, 100), refs=refs)
    ledger.transact("withdrawal", Leg("alice", "@external:bank", USD, 30), refs=refs)
    assert ledger.balance("@external:bank") == -70


@pytest.mark.parametrize("refs", [None, {}, {"order": "o-1"}, {"network": "btc"}], ids=repr)
@pytest.mark.parametrize("name", ["deposit", "withdrawal"])
def test_without_such_a_reference_no_value_arrives_or_leaves(ledger: Scribe, name: str, refs: dict[str, str] | None):
    ledger.mint("alice", 5)
    ends = ("@external:bank", "alice") if name == "deposit" else ("alice", "@external:bank")
    refusal = ledger.refused(e.ReferenceRequired, c.Post, type=name, legs=(Leg(*ends, USD, 5),), refs=refs)
    assert refusal.data == {"type": name, "references": "tx_hash, external_ref"}


def test_a_rail_may_hold_more_than_it_brought(ledger: Scribe):
    ledger.mint("alice", 50)
    ledger.transact("withdrawal", Leg("alice", "@external:bank", USD, 50), refs={"tx_hash": "0x1"})
    assert ledger.balance("@external:bank") == 50


def test_fees_are_pooled_paid_out_and_burned_and_never_more_than_the_pool_has(ledger: Scribe):
    ledger.mint("alice", 100)
    ledger.transact("fee", Leg("alice", "@fees", USD, 30, "available", "fees"))
    origin = {"refs": {"escrow": "esc-1"}}
    ledger.transact("fee_transfer", Leg("@fees", "@treasury", USD, 10, "fees"), **origin)
    ledger.transact("fee_transfer", Leg("@fees", "@clearing:ads", USD, 5, "fees", "fees"), **origin)
    ledger.transact("fee_burn", Leg("@fees", "@issuance", USD, 14, "fees"), **origin)
    assert ledger.buckets("@fees") == {"fees": 1}
    ledger.refused(
        e.InsufficientFunds, c.Post, type="fee_burn", legs=(Leg("@fees", "@issuance", USD, 2, "fees"),), **origin
    )


def test_a_fee_may_be_paid_out_of_promotional_credit(ledger: Scribe):
    ledger.transact("promo_mint", Leg("@issuance", "alice", USD, 30, "available", "promo"))
    ledger.transact("fee", Leg("alice", "@fees", USD, 10, "promo", "fees"))
    assert (ledger.buckets("alice"), ledger.buckets("@fees")) == ({"promo": 20}, {"fees": 10})


def test_promotional_credit_lapses_and_never_more_than_there_is(ledger: Scribe):
    ledger.transact("promo_mint", Leg("@issuance", "alice", USD, 30, "available", "promo"))
    ledger.transact("promo_burn", Leg("alice", "@issuance", USD, 30, "promo"))
    ledger.refused(e.InsufficientFunds, c.Post, type="promo_burn", legs=(Leg("alice", "@issuance", USD, 1, "promo"),))
    assert ledger.balance("@issuance") == 0


@pytest.mark.parametrize("kind", [c.Hold, c.StakeLock, c.BetStake])
def test_promotional_credit_is_not_set_aside(ledger: Scribe, kind: type[c.Command]):
    ledger.transact("promo_mint", Leg("@issuance", "alice", USD, 30, "available", "promo"))
    refs = {"escrow": "e", "round": "r"}
    ledger.refused(e.InsufficientFunds, kind, account="alice", asset=USD, amount=1, refs=refs)


@pytest.mark.parametrize("bucket", ["available", "promo"])
def test_a_bonus_is_paid_by_somebody_into_either_bucket(ledger: Scribe, bucket: str):
    ledger.mint("@treasury", 10)
    ledger.transact("bonus_credit", Leg("@treasury", "alice", USD, 10, "available", bucket))
    assert ledger.buckets("alice") == {bucket: 10}
    ledger.refused(e.InsufficientFunds, c.Post, type="bonus_credit", legs=(Leg("@treasury", "alice", USD, 1),))
