"""Every act by its name, once: a wrong field name in any of them would show here."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

import tallystick
from tallystick import Leg, Split
from tallystick.events import EVENT_TYPES

USD = "USD/2"
ALICE, BOB, HOUSE = "users:alice", "users:bob", "users:house"
CASE = {"escrow": "esc-1"}
ORIGIN = {"order": "o-1"}


@pytest.fixture
def ledger() -> Iterator[tallystick.Ledger]:
    with tallystick.open("memory://") as database:
        yield database.ledger("main")


@pytest.fixture
def key() -> Iterator[str]:
    return (f"k{number}" for number in count())


def test_every_way_to_bring_value_in_move_it_and_take_it_out(ledger: tallystick.Ledger, key: Iterator[str]):
    ledger.mint(ALICE, USD, 10_000, key=next(key))
    ledger.burn(ALICE, USD, 10, key=next(key))
    ledger.deposit(ALICE, USD, 100, refs={"external_ref": "in"}, key=next(key))
    ledger.withdraw(ALICE, USD, 50, refs={"external_ref": "out"}, key=next(key))
    ledger.transfer(ALICE, BOB, USD, 40, key=next(key))
    ledger.settle(ALICE, "@clearing:north", USD, 5, netting_batch="n-1", key=next(key))
    ledger.fee(ALICE, USD, 100, key=next(key))
    ledger.fee_transfer(BOB, USD, 10, refs=ORIGIN, key=next(key))
    ledger.fee_burn(USD, 5, refs=ORIGIN, key=next(key))
    ledger.promo_mint(ALICE, USD, 50, key=next(key))
    ledger.promo_burn(ALICE, USD, 20, key=next(key))
    ledger.mint("@treasury", USD, 100, key=next(key))
    ledger.bonus(BOB, USD, 10, key=next(key))
    assert ledger.balance(ALICE, USD) == 10_000 - 10 + 100 - 50 - 40 - 5 - 100
    assert ledger.balance(ALICE, USD, "promo") == 30
    assert ledger.balance(BOB, USD) == 50
    assert ledger.balance(BOB, USD, "promo") == 10
    assert ledger.balance("@fees", USD, "fees") == 85
    assert ledger.balance("@treasury", USD) == 90
    assert ledger.replay().ok


def test_every_way_to_set_value_aside_and_what_becomes_of_it(ledger: tallystick.Ledger, key: Iterator[str]):
    ledger.mint(ALICE, USD, 1_000, key=next(key))
    ledger.mint(HOUSE, USD, 100, key=next(key))
    hold = ledger.hold(ALICE, USD, 100, key=next(key))
    ledger.top_up(hold.id, 10, key=next(key))
    ledger.extend(hold.id, expires_in_seconds=99, key=next(key))
    ledger.capture(hold.id, to_account=BOB, amount=40, final=False, key=next(key))
    ledger.release(hold.id, 5, key=next(key))
    charge = ledger.capture(hold.id, [Split(BOB)], key=next(key))
    ledger.reverse(charge.id, 1, key=next(key))
    ledger.finalize_charge(charge.id, key=next(key))
    stake = ledger.stake_lock(ALICE, USD, 30, refs=CASE, key=next(key))
    ledger.stake_release(stake.id, 10, refs=CASE, key=next(key))
    ledger.stake_slash(stake.id, BOB, refs=CASE, key=next(key))
    won = ledger.bet_stake(ALICE, USD, 10, round="r-1", key=next(key))
    ledger.bet_settle(won.id, 25, house=HOUSE, round="r-1", key=next(key))
    void = ledger.bet_stake(ALICE, USD, 10, round="r-2", key=next(key))
    ledger.bet_rollback(void.id, round="r-2", key=next(key))
    assert ledger.balance(BOB, USD) == 40 + 65 - 1 + 20
    assert ledger.balance(HOUSE, USD) == 100 - 15
    assert ledger.balance(ALICE, USD) == 1_000 - 124 + 15
    assert ledger.balance(ALICE, USD, "held") == ledger.balance(ALICE, USD, "bonded") == 0
    assert ledger.is_final(charge.id)
    undone = ledger.reversal_of(charge.id)
    assert undone is not None
    assert undone.amounts[f"{ALICE} {USD} available"] == 1
    assert ledger.due_holds(ledger.head.time, 10) == []
    assert ledger.replay().ok


def test_every_way_to_set_the_rules_and_put_right(ledger: tallystick.Ledger, key: Iterator[str]):
    first = ledger.mint(ALICE, USD, 100, key=next(key))
    ledger.adjust([Leg(ALICE, BOB, USD, 1)], corrects=first.id, reason="miskeyed", actor="ops", key=next(key))
    ledger.open_account("members:m", limits={USD: 1_000}, ceilings={USD: 5}, owner="did:key:z6Mk", key=next(key))
    ledger.set_limit("members:m", USD, 2_000, key=next(key))
    ledger.freeze("members:m", key=next(key))
    ledger.unfreeze("members:m", key=next(key))
    ledger.exclude("members:m", key=next(key))
    ledger.close_account(BOB, settle_to=ALICE, key=next(key))
    ledger.set_policy({"limit_max": 9_000}, key=next(key))
    ledger.define_asset("EUR/2", name="Euro", key=next(key))
    ledger.define_type("sale", requires=["order"], key=next(key))
    ledger.transact("sale", [Leg(ALICE, "users:shop", USD, 7)], refs=ORIGIN, key=next(key))
    ledger.record_reserve("vault:1", USD, 100, haircut_bps=5_000, key=next(key))
    ledger.close_period("2020-01-01", key=next(key))
    assert [transaction.type for transaction in ledger.events()][1:] == [
        "mint",
        "adjustment",
        "account_opened",
        "limit_set",
        "account_frozen",
        "account_unfrozen",
        "account_excluded",
        "account_closed",
        "policy_set",
        "asset_defined",
        "type_defined",
        "sale",
        "reserve_recorded",
        "period_closed",
    ]
    assert ledger.balance(ALICE, USD) == 93
    assert ledger.policy.limit_max == 9_000
    assert "sale" not in EVENT_TYPES
    assert ledger.replay().ok
