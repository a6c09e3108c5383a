"""Holds: value set aside, paid out in parts, given back, and given back by itself when its time has come."""

from __future__ import annotations

import pytest

from tallystick import commands as c
from tallystick import errors as e
from tallystick.clock import add_seconds
from tallystick.commands import Leg, Split
from tallystick.kernel.locks import MAX_EXPIRY_SECONDS
from tests.support.kernel import START, USD, Scribe


@pytest.fixture
def held(ledger: Scribe) -> Scribe:
    """Alice had 100 and has 60 of it on hold for a minute, as main/2."""
    ledger.mint("alice", 100)
    assert ledger.hold("alice", 60, expires_in_seconds=60, reason="job 1") == HOLD
    return ledger


HOLD = "main/2"


def test_a_hold_moves_value_from_available_to_held_and_says_until_when(held: Scribe):
    lock = held.lock(HOLD)
    assert held.buckets("alice") == {"available": 40, "held": 60}
    assert (lock.amount, lock.remaining, lock.taken, lock.state) == (60, 60, 0, "active")
    assert (lock.opened, lock.expires, lock.reason) == (START, add_seconds(START, 60), "job 1")


def test_a_hold_that_names_no_expiry_gets_that_of_the_policy(ledger: Scribe):
    ledger.mint("alice", 100)
    assert ledger.lock(ledger.hold("alice", 1)).expires == "2026-01-08T00:00:00.000000Z"
    ledger.policy(hold_expires_in_seconds=5)
    assert ledger.lock(ledger.hold("alice", 1)).expires == "2026-01-01T00:00:05.000000Z"


@pytest.mark.parametrize(
    "expiry",
    [
        {"expires": START},
        {"expires": "2025-12-31"},
        {"expires": "tomorrow"},
        {"expires_in_seconds": 0},
        {"expires_in_seconds": -1},
        {"expires_in_seconds": MAX_EXPIRY_SECONDS + 1},
        {"expires_in_seconds": 1.5},
    ],
)
def test_an_expiry_that_has_passed_or_is_no_time_is_refused(ledger: Scribe, expiry: dict[str, object]):
    ledger.mint("alice", 100)
    refusal = ledger.refused(e.InvalidInput, c.Hold, account="alice", asset=USD, amount=1, **expiry)
    assert refusal.data["path"] in ("expires", "expires_in_seconds")


def test_a_hold_may_last_one_second_or_ten_years(ledger: Scribe):
    ledger.mint("alice", 100)
    ledger.hold("alice", 1, expires_in_seconds=1)
    ledger.hold("alice", 1, expires_in_seconds=MAX_EXPIRY_SECONDS)
    ledger.hold("alice", 1, expires="2026-01-01T00:00:00.000001Z")


# ---------------------------------------------------------------- capture


def test_a_final_capture_pays_out_a_part_and_gives_the_rest_back_in_one_event(held: Scribe):
    event = held.do(c.Capture, hold=HOLD, splits=(Split("bob", 45),))
    assert held.buckets("alice") == {"available": 55}
    assert held.balance("bob") == 45
    assert event.data["taken"] == "45"
    assert event.data["released"] == "15"
    lock = held.lock(HOLD)
    assert (lock.state, lock.remaining, lock.taken) == ("captured", 0, 45)


def test_a_capture_that_is_not_final_leaves_the_rest_for_another(held: Scribe):
    held.do(c.Capture, hold=HOLD, splits=(Split("bob", 20),), final=False)
    assert (held.lock(HOLD).state, held.lock(HOLD).remaining) == ("partially_captured", 40)
    held.do(c.Capture, hold=HOLD, splits=(Split("bob", 30),), final=False)
    held.do(c.Capture, hold=HOLD, splits=(Split("bob", 1),), final=True)
    assert held.buckets("alice") == {"available": 49}
    assert (held.lock(HOLD).state, held.lock(HOLD).taken) == ("captured", 51)


@pytest.mark.parametrize("final", [True, False])
def test_a_capture_of_all_of_it_ends_the_hold_final_or_not(held: Scribe, final: bool):
    event = held.do(c.Capture, hold=HOLD, splits=(Split("bob", 60),), final=final)
    assert held.lock(HOLD).state == "captured"
    assert "released" not in event.data
    held.refused(e.HoldNotOpen, c.Capture, hold=HOLD, splits=(Split("bob", 1),))


def test_a_capture_never_exceeds_what_the_hold_keeps(held: Scribe):
    over = held.refused(e.OverCapture, c.Capture, hold=HOLD, splits=(Split("bob", 61),))
    assert over.data == {"kind": "hold", "id": HOLD, "remaining": 60, "amount": 61}
    held.refused(e.OverCapture, c.Capture, hold=HOLD, splits=(Split("bob", 60), Split("carol", 1)))
    held.do(c.Capture, hold=HOLD, splits=(Split("bob", 59),), final=False)
    held.refused(e.OverCapture, c.Capture, hold=HOLD, splits=(Split("bob", 2),))


def test_a_capture_is_split_between_payees_and_the_fee_pool(held: Scribe):
    splits = (Split("bob", 50), Split("@fees", 4, "fees"), Split("carol", 1))
    held.do(c.Capture, hold=HOLD, splits=splits)
    assert (held.balance("bob"), held.balance("@fees", "fees"), held.balance("carol")) == (50, 4, 1)
    assert held.buckets("alice") == {"available": 45}


def test_two_splits_to_one_payee_are_one_entry(held: Scribe):
    event = held.do(c.Capture, hold=HOLD, splits=(Split("bob", 5), Split("bob", 6)), final=False)
    assert [(entry.account, entry.amount) for entry in event.entries] == [("alice", -11), ("bob", 11)]


@pytest.mark.parametrize(
    ("split", "error"),
    [
        (Split("alice", 5), e.SelfTransfer),
        (Split("@issuance", 5), e.MoveNotAllowed),
        (Split("@external:bank", 5), e.MoveNotAllowed),
        (Split("@fees", 5), e.MoveNotAllowed),
        (Split("bob", 5, "fees"), e.MoveNotAllowed),
        (Split("bob", 5, "promo"), e.MoveNotAllowed),
        (Split("bob", 5, "held"), e.MoveNotAllowed),
        (Split("no spaces", 5), e.InvalidInput),
    ],
)
def test_a_capture_pays_other_parties_and_fee_pools_alone(held: Scribe, split: Split, error: type[e.Refusal]):
    held.refused(error, c.Capture, hold=HOLD, splits=(split,))


def test_a_capture_without_splits_is_no_capture(held: Scribe):
    held.refused(e.EmptyTransaction, c.Capture, hold=HOLD, splits=())


# ---------------------------------------------------------------- release, top-up, extension


def test_a_release_gives_back_a_part_or_all(held: Scribe):
    held.do(c.Release, hold=HOLD, amount=10)
    assert (held.lock(HOLD).state, held.lock(HOLD).remaining) == ("active", 50)
    held.do(c.Release, hold=HOLD)
    assert held.buckets("alice") == {"available": 100}
    assert held.lock(HOLD).state == "released"


def test_a_hold_is_not_released_twice_nor_by_more_than_it_keeps(held: Scribe):
    held.refused(e.OverCapture, c.Release, hold=HOLD, amount=61)
    held.do(c.Release, hold=HOLD)
    refusal = held.refused(e.HoldNotOpen, c.Release, hold=HOLD)
    assert refusal.data == {"kind": "hold", "id": HOLD, "state": "released"}


def test_a_hold_that_was_partly_captured_and_then_released_counts_as_captured(held: Scribe):
    held.do(c.Capture, hold=HOLD, splits=(Split("bob", 20),), final=False)
    held.do(c.Release, hold=HOLD)
    assert (held.lock(HOLD).state, held.lock(HOLD).taken) == ("captured", 20)


def test_a_top_up_makes_a_hold_larger_out_of_available(held: Scribe):
    held.do(c.HoldTopUp, hold=HOLD, amount=40)
    assert held.buckets("alice") == {"held": 100}
    assert (held.lock(HOLD).amount, held.lock(HOLD).remaining) == (100, 100)
    held.do(c.Capture, hold=HOLD, splits=(Split("bob", 100),))


def test_an_extension_moves_the_expiry_and_no_value(held: Scribe):
    event = held.do(c.HoldExtend, hold=HOLD, expires_in_seconds=600)
    assert event.entries == ()
    held.wait(599)
    held.do(c.Capture, hold=HOLD, splits=(Split("bob", 1),))


# ---------------------------------------------------------------- expiry


def test_a_hold_is_open_to_the_last_microsecond_and_expired_at_the_exact_instant(held: Scribe):
    capture = {"hold": HOLD, "splits": (Split("bob", 1),), "final": False}
    held.now = "2026-01-01T00:00:59.999999Z"
    held.refused(e.HoldNotExpired, c.HoldExpire, hold=HOLD)
    held.do(c.Capture, **capture)
    held.now = "2026-01-01T00:01:00.000000Z"
    refusal = held.refused(e.HoldExpired, c.Capture, **capture)
    assert refusal.data["expires"] == held.now
    held.refused(e.HoldExpired, c.HoldTopUp, hold=HOLD, amount=1)
    held.refused(e.HoldExpired, c.HoldExtend, hold=HOLD, expires_in_seconds=60)
    held.do(c.HoldExpire, hold=HOLD)
    assert held.buckets("alice") == {"available": 99}
    assert held.lock(HOLD).state == "expired"


def test_an_expired_hold_may_still_be_released_by_hand(held: Scribe):
    held.wait(61)
    held.do(c.Release, hold=HOLD)
    held.refused(e.HoldNotOpen, c.HoldExpire, hold=HOLD)


def test_a_hold_expires_once(held: Scribe):
    held.wait(60)
    held.do(c.HoldExpire, hold=HOLD)
    for kind, more in ((c.HoldExpire, {}), (c.Release, {}), (c.Capture, {"splits": (Split("bob", 1),)})):
        held.refused(e.HoldNotOpen, kind, hold=HOLD, **more)


# ---------------------------------------------------------------- which lock


@pytest.mark.parametrize("stranger", ["main/99", "main/0", "main/1", "other/2", "x", "commitment c alice USD/2"])
def test_a_hold_that_is_not_there_is_not_found(held: Scribe, stranger: str):
    for kind in (c.Release, c.HoldExpire):
        assert held.refused(e.HoldNotFound, kind, hold=stranger).data == {"kind": "hold", "id": stranger}


def test_a_hold_without_an_id_is_refused(held: Scribe):
    assert held.refused(e.InvalidInput, c.Release, hold="").data["path"] == "hold"


def test_stakes_and_bets_are_no_holds_and_the_other_way_round(held: Scribe):
    stake, bet = held.stake("alice", 10), held.bet("alice", 10)
    for other in (stake, bet):
        held.refused(e.HoldNotFound, c.Release, hold=other)
        held.refused(e.HoldNotFound, c.Capture, hold=other, splits=(Split("bob", 1),))
    held.refused(e.HoldNotFound, c.StakeRelease, stake=HOLD, refs={"escrow": "e"})
    held.refused(e.HoldNotFound, c.BetRollback, bet=HOLD, refs={"round": "r-1"})


def test_two_holds_of_one_account_do_not_touch_each_other(held: Scribe):
    other = held.hold("alice", 40)
    held.do(c.Capture, hold=HOLD, splits=(Split("bob", 60),))
    assert held.lock(other).remaining == 40
    assert held.buckets("alice") == {"held": 40}


def test_what_is_held_cannot_be_spent(held: Scribe):
    held.refused(e.InsufficientFunds, c.Transfer, from_account="alice", to_account="bob", asset=USD, amount=41)
    held.refused(e.InsufficientFunds, c.Hold, account="alice", asset=USD, amount=41)
    held.refused(e.MoveNotAllowed, c.Post, type="transfer", legs=(Leg("alice", "bob", USD, 1, "held"),))


@pytest.mark.parametrize("account", ["@issuance", "@external:bank", "@fees"])
def test_the_ledgers_own_accounts_hold_nothing(ledger: Scribe, account: str):
    ledger.refused(e.MoveNotAllowed, c.Hold, account=account, asset=USD, amount=1)


# ---------------------------------------------------------------- a split without an amount


def test_one_split_may_take_what_the_others_leave(held: Scribe):
    held.do(c.Capture, hold=HOLD, splits=(Split("bob"), Split("@fees", 6, "fees")))
    assert (held.balance("bob"), held.balance("@fees", "fees")) == (54, 6)
    assert held.lock(HOLD).taken == 60


def test_only_one_split_may_do_so_and_only_if_something_is_left(held: Scribe):
    held.refused(e.InvalidInput, c.Capture, hold=HOLD, splits=(Split("bob"), Split("carol")))
    held.refused(e.OverCapture, c.Capture, hold=HOLD, splits=(Split("bob"), Split("carol", 60)))
    held.refused(e.OverCapture, c.Capture, hold=HOLD, splits=(Split("bob"), Split("carol", 61)))
