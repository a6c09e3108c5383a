"""Amounts: whole minor units, from 1 to 2^63-1, in balances within ±(2^63-1); one code has one scale."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tallystick import commands as c
from tallystick import errors as e
from tallystick.clock import parse_time
from tallystick.commands import Command, Leg, Split
from tallystick.money import MAX_AMOUNT, format_amount, parse_amount, split_asset
from tests.support.kernel import USD, Scribe

WRONG_TYPES = [1.0, 0.5, float("nan"), True, False, "1", "", None, Decimal(1), (1,), b"1"]
OUT_OF_RANGE = [0, -1, -MAX_AMOUNT, 2**63, 2**64, 10**30]


def test_the_largest_amount_is_2_to_the_63_minus_1():
    assert MAX_AMOUNT == 9_223_372_036_854_775_807


@pytest.mark.parametrize("amount", WRONG_TYPES, ids=repr)
def test_a_transfer_of_anything_but_a_whole_number_is_refused(ledger: Scribe, amount: Any):
    ledger.mint("alice", 100)
    fields = {"from_account": "alice", "to_account": "bob", "asset": USD}
    refusal = ledger.refused(e.InvalidInput, c.Transfer, amount=amount, **fields)
    assert refusal.data["path"] == "amount"


@pytest.mark.parametrize("amount", OUT_OF_RANGE)
def test_a_transfer_outside_1_to_2_to_the_63_minus_1_is_refused(ledger: Scribe, amount: int):
    ledger.mint("alice", 100)
    fields = {"from_account": "alice", "to_account": "bob", "asset": USD}
    refusal = ledger.refused(e.AmountOutOfRange, c.Transfer, amount=amount, **fields)
    assert refusal.data == {"path": "legs[0].amount", "amount": amount}


@pytest.mark.parametrize("amount", [*WRONG_TYPES, *OUT_OF_RANGE], ids=repr)
@pytest.mark.parametrize("kind", ["hold", "top up", "capture", "release", "stake", "slash", "bet", "leg"])
def test_every_amount_of_every_command_is_checked(ledger: Scribe, kind: str, amount: Any):
    ledger.mint("alice", 100)
    hold, stake = ledger.hold("alice", 30), ledger.stake("alice", 30)
    case, own = {"escrow": "esc-1"}, {"account": "alice", "asset": USD, "amount": amount}
    made: dict[str, tuple[type[Command], dict[str, Any]]] = {
        "hold": (c.Hold, own),
        "top up": (c.HoldTopUp, {"hold": hold, "amount": amount}),
        "capture": (c.Capture, {"hold": hold, "splits": (Split("bob", amount), Split("carol", 1))}),
        "release": (c.Release, {"hold": hold, "amount": amount}),
        "stake": (c.StakeLock, {**own, "refs": case}),
        "slash": (c.StakeSlash, {"stake": stake, "to_account": "bob", "amount": amount, "refs": case}),
        "bet": (c.BetStake, {**own, "refs": {"round": "r"}}),
        "leg": (c.Post, {"type": "fee", "legs": (Leg("alice", "@fees", USD, amount, "available", "fees"),)}),
    }
    command, fields = made[kind]
    if amount is None and kind in ("capture", "release", "slash"):  # no amount means all of it, or all of the rest
        assert ledger.do(command, **fields).entries
        return
    error = e.AmountOutOfRange if type(amount) is int else e.InvalidInput
    ledger.refused(error, command, **fields)


def test_a_balance_may_reach_the_largest_amount_and_not_pass_it(ledger: Scribe):
    ledger.mint("alice", MAX_AMOUNT)
    assert ledger.balance("alice") == MAX_AMOUNT
    deposit = {"type": "deposit", "refs": {"tx_hash": "0x1"}}
    refusal = ledger.refused(e.BalanceOverflow, c.Post, legs=(Leg("@external:b", "alice", USD, 1),), **deposit)
    assert refusal.data == {"account": "alice", "asset": USD, "bucket": "available"}
    ledger.do(c.Post, legs=(Leg("@external:b", "bob", USD, 1),), **deposit)
    ledger.refused(e.BalanceOverflow, c.Transfer, from_account="bob", to_account="alice", asset=USD, amount=1)


def test_issuance_may_reach_the_lowest_balance_and_not_pass_it(ledger: Scribe):
    ledger.mint("alice", MAX_AMOUNT - 1)
    ledger.mint("bob", 1)
    assert ledger.balance("@issuance") == -MAX_AMOUNT
    refusal = ledger.refused(e.BalanceOverflow, c.Post, type="mint", legs=(Leg("@issuance", "bob", USD, 1),))
    assert refusal.data["account"] == "@issuance"


def test_several_legs_that_are_each_in_range_may_not_add_up_beyond_it(ledger: Scribe):
    legs = (Leg("@issuance", "alice", USD, MAX_AMOUNT), Leg("@issuance", "bob", USD, 1))
    ledger.refused(e.BalanceOverflow, c.Post, type="mint", legs=legs)


def test_one_change_from_end_to_end_of_the_range_is_refused_for_it_is_no_amount(ledger: Scribe):
    ledger.mint("alice", MAX_AMOUNT)
    deposit = Leg("@external:b", "bob", USD, MAX_AMOUNT)
    ledger.transact("deposit", deposit, refs={"tx_hash": "0x1"})
    legs = (Leg("alice", "@issuance", USD, MAX_AMOUNT), Leg("bob", "@issuance", USD, MAX_AMOUNT))
    ledger.refused(e.BalanceOverflow, c.Post, type="burn", legs=legs)
    ledger.transact("burn", legs[0])
    ledger.transact("burn", legs[1])
    assert ledger.balance("@issuance") == MAX_AMOUNT


@pytest.mark.parametrize("asset", ["USD/3", "USD", "USD/0"])
def test_a_code_keeps_the_scale_that_it_was_first_used_with(ledger: Scribe, asset: str):
    ledger.mint("alice", 1)
    refusal = ledger.refused(e.ScaleMismatch, c.Post, type="mint", legs=(Leg("@issuance", "alice", asset, 1),))
    assert refusal.data == {"asset": asset, "expected": USD}


@pytest.mark.parametrize(("first", "second"), [("JPY", "JPY/0"), ("JPY/0", "JPY")])
def test_a_code_keeps_its_spelling_so_that_its_value_lies_in_one_place(ledger: Scribe, first: str, second: str):
    ledger.mint("alice", 1, first)
    refusal = ledger.refused(e.ScaleMismatch, c.Post, type="mint", legs=(Leg("@issuance", "alice", second, 1),))
    assert refusal.data == {"asset": second, "expected": first}


@pytest.mark.parametrize("second", ["NEW/3", "NEW"])
def test_one_transaction_cannot_bring_in_one_code_with_two_scales(ledger: Scribe, second: str):
    legs = (Leg("@issuance", "alice", "NEW/2", 1), Leg("@issuance", "alice", second, 1))
    ledger.refused(e.ScaleMismatch, c.Post, type="mint", legs=legs)


@pytest.mark.parametrize(
    "asset", ["", "usd/2", "USD/", "USD/19", "USD/02", "1USD", "U" * 33, "USD/2 ", "USD/-1", "ÜSD"]
)
def test_text_that_is_no_asset_is_refused(ledger: Scribe, asset: str):
    refusal = ledger.refused(e.InvalidInput, c.Post, type="mint", legs=(Leg("@issuance", "alice", asset, 1),))
    assert refusal.data["path"] == "asset"


def test_scales_from_0_to_18_and_codes_of_32_characters_are_assets():
    assert split_asset("BTC/18") == ("BTC", 18)
    assert split_asset("JPY/0") == ("JPY", 0)
    assert split_asset("A" * 32) == ("A" * 32, 0)


@pytest.mark.parametrize(
    ("minor", "asset", "major"),
    [
        (1234, USD, "12.34"),
        (-5, USD, "-0.05"),
        (7, "JPY", "7"),
        (1, "BTC/18", "0.000000000000000001"),
        (0, USD, "0.00"),
    ],
)
def test_minor_and_major_units_are_written_for_each_other_exactly(minor: int, asset: str, major: str):
    assert format_amount(minor, asset) == major
    assert parse_amount(major, asset) == minor


@pytest.mark.parametrize("text", ["12.345", "x", "", "NaN", "Infinity", "1e30"])
def test_major_units_that_are_no_amount_of_the_asset_are_refused(text: str):
    with pytest.raises(e.InvalidInput):
        parse_amount(text, USD)


# ---------------------------------------------------------------- times


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_outside_the_calendar_in_utc_is_refused(text: str):
    with pytest.raises(e.InvalidInput):
        parse_time(text)


@pytest.mark.parametrize(
    ("text", "journal"),
    [
        ("2026-11-21", "2026-11-21T00:00:00.000000Z"),
        ("2026-11-21T10:00:00+01:00", "2026-11-21T09:00:00.000000Z"),
        ("2026-11-21T09:00:00.5Z", "2026-11-21T09:00:00.500000Z"),
        ("0999-01-01T00:00:00Z", "0999-01-01T00:00:00.000000Z"),
    ],
)
def test_a_time_with_a_zone_or_a_bare_date_is_written_as_the_journal_does(text: str, journal: str):
    assert parse_time(text) == journal


@pytest.mark.parametrize(
    "text", ["2026-11-21T09:00:00", "2026-02-30", "2026-02-30T00:00:00.000000Z", "now", "", 5, None]
)
def test_a_time_without_zone_or_day_is_refused(text: Any):
    with pytest.raises(e.InvalidInput):
        parse_time(text)


def test_digits_of_other_scripts_are_no_time():
    with pytest.raises(e.InvalidInput):
        parse_time("٢٠٢٦-01-01T00:00:00.000000Z")
