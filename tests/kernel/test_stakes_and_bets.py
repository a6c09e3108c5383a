"""Stakes are bonded and released or slashed; bets are on game until their round is decided or void."""

from __future__ import annotations

from typing import Any

import pytest

from tallystick import commands as c
from tallystick import errors as e
from tests.support.kernel import Scribe

CASE = {"escrow": "esc-1"}
ROUND = {"round": "r-1"}
STAKE = BET = "main/3"


@pytest.fixture
def staked(ledger: Scribe) -> Scribe:
    ledger.mint("alice", 100)
    ledger.mint("@treasury", 1)
    assert ledger.stake("alice", 60) == STAKE
    return ledger


def test_a_stake_is_bonded_and_keeps_its_case(staked: Scribe):
    assert staked.buckets("alice") == {"available": 40, "bonded": 60}
    assert staked.lock(STAKE).refs == CASE


def test_a_stake_is_released_in_parts_and_never_more_than_it_keeps(staked: Scribe):
    staked.do(c.StakeRelease, stake=STAKE, amount=20, refs=CASE)
    staked.refused(e.OverCapture, c.StakeRelease, stake=STAKE, amount=41, refs=CASE)
    staked.do(c.StakeRelease, stake=STAKE, refs=CASE)
    assert staked.buckets("alice") == {"available": 100}
    assert staked.lock(STAKE).state == "released"
    staked.refused(e.HoldNotOpen, c.StakeRelease, stake=STAKE, refs=CASE)


@pytest.mark.parametrize(
    ("target", "bucket"),
    [("bob", "available"), ("@treasury", "available"), ("@clearing:insurance", "available"), ("@fees", "fees")],
)
def test_a_slash_goes_to_the_destination_that_it_names(staked: Scribe, target: str, bucket: str):
    before = staked.balance(target, bucket)
    staked.do(c.StakeSlash, stake=STAKE, to_account=target, to_bucket=bucket, amount=25, refs=CASE)
    assert staked.balance(target, bucket) == before + 25
    lock = staked.lock(STAKE)
    assert (lock.state, lock.remaining, lock.taken) == ("partially_slashed", 35, 25)


def test_burning_a_stake_is_said_in_so_many_words(staked: Scribe):
    issued = staked.balance("@issuance")
    staked.do(c.StakeSlash, stake=STAKE, to_account="@issuance", refs=CASE)
    assert staked.balance("@issuance") == issued + 60
    assert staked.lock(STAKE).state == "slashed"


@pytest.mark.parametrize(
    ("target", "bucket", "error"),
    [
        ("alice", "available", e.SelfTransfer),
        ("@external:bank", "available", e.MoveNotAllowed),
        ("@fees", "available", e.MoveNotAllowed),
        ("bob", "bonded", e.MoveNotAllowed),
        ("", "available", e.InvalidInput),
    ],
)
def test_a_slash_goes_nowhere_else(staked: Scribe, target: str, bucket: str, error: type[e.Refusal]):
    staked.refused(error, c.StakeSlash, stake=STAKE, to_account=target, to_bucket=bucket, refs=CASE)


def test_a_stake_that_was_slashed_and_then_released_stays_known_as_slashed(staked: Scribe):
    staked.do(c.StakeSlash, stake=STAKE, to_account="bob", amount=1, refs={"trial": "t-1"})
    staked.do(c.StakeRelease, stake=STAKE, refs=CASE)
    assert staked.lock(STAKE).state == "slashed"
    staked.refused(e.HoldNotOpen, c.StakeSlash, stake=STAKE, to_account="bob", refs=CASE)


def test_a_slash_can_be_undone_and_comes_back_as_available(staked: Scribe):
    slash = staked.do(c.StakeSlash, stake=STAKE, to_account="@issuance", refs=CASE)
    staked.do(c.Reverse, transaction=slash.id)
    assert staked.buckets("alice") == {"available": 100}


# ---------------------------------------------------------------- bets


@pytest.fixture
def game(ledger: Scribe) -> Scribe:
    """Alice has staked 60 of her 100; the house has 1,000."""
    ledger.mint("alice", 100)
    ledger.mint("house", 1_000)
    assert ledger.bet("alice", 60) == BET
    return ledger


def settle(ledger: Scribe, payout: int) -> c.Command:
    return ledger.command(c.BetSettlement, bet=BET, house="house", payout=payout, refs=ROUND)


def test_a_stake_on_game_is_held(game: Scribe):
    assert game.buckets("alice") == {"available": 40, "held": 60}
    assert game.lock(BET).kind == "bet"


@pytest.mark.parametrize(
    ("payout", "alice", "house"),
    [(0, 40, 1_060), (59, 99, 1_001), (60, 100, 1_000), (61, 101, 999), (90, 130, 970), (1_060, 1_100, 0)],
    ids=["lost", "nearly even", "even", "just won", "won", "all the house has"],
)
def test_a_round_takes_the_stake_to_the_house_and_the_payout_to_the_player(
    game: Scribe, payout: int, alice: int, house: int
):
    event = game.post(settle(game, payout))
    assert (game.buckets("alice"), game.balance("house")) == ({"available": alice}, house)
    assert event.data["payout"] == str(payout)
    assert (game.lock(BET).state, game.lock(BET).taken) == ("settled", 60)


def test_a_house_cannot_pay_what_it_has_not_got_counting_the_stake(game: Scribe):
    with pytest.raises(e.InsufficientFunds):
        game.sealed(settle(game, 1_061))


def test_a_bet_is_settled_once(game: Scribe):
    game.post(settle(game, 60))
    with pytest.raises(e.HoldNotOpen):
        game.sealed(settle(game, 60))
    game.refused(e.HoldNotOpen, c.BetRollback, bet=BET, refs=ROUND)


def test_a_void_bet_gives_the_stake_back_and_is_not_settled_afterwards(game: Scribe):
    game.do(c.BetRollback, bet=BET, refs=ROUND)
    assert game.buckets("alice") == {"available": 100}
    assert game.lock(BET).state == "rolled_back"
    with pytest.raises(e.HoldNotOpen):
        game.sealed(settle(game, 60))


@pytest.mark.parametrize("refs", [{"round": "r-2"}, {"order": "r-1"}, None])
def test_a_bet_is_decided_only_by_its_own_round(game: Scribe, refs: dict[str, str] | None):
    error = e.InvalidInput if refs == {"round": "r-2"} else e.ReferenceRequired
    game.refused(error, c.BetSettlement, bet=BET, house="house", payout=0, refs=refs)
    game.refused(error, c.BetRollback, bet=BET, refs=refs)


def test_a_player_is_not_his_own_house(game: Scribe):
    game.refused(e.SelfTransfer, c.BetSettlement, bet=BET, house="alice", payout=0, refs=ROUND)


@pytest.mark.parametrize("payout", [-1, 1.0, True, "1", None])
def test_a_payout_is_a_whole_number_from_zero(game: Scribe, payout: Any):
    refusal = game.refused(e.InvalidInput, c.BetSettlement, bet=BET, house="house", payout=payout, refs=ROUND)
    assert refusal.data["path"] == "payout"


@pytest.mark.parametrize(("payout", "way_back"), [(0, 60), (90, -30), (20, 40)])
def test_a_settlement_undone_returns_stake_and_payout(game: Scribe, payout: int, way_back: int):
    event = game.post(settle(game, payout))
    before = game.balance("alice")
    game.do(c.Reverse, transaction=event.id)
    assert game.balance("alice") == before + way_back == 100
    assert game.balance("house") == 1_000


def test_a_settlement_that_broke_even_has_nothing_to_undo(game: Scribe):
    event = game.post(settle(game, 60))
    refusal = game.refused(e.AlreadyReversed, c.Reverse, transaction=event.id)
    assert refusal.data["remaining"] == 0
    game.refused(e.AlreadyReversed, c.Reverse, transaction=event.id, amount=1)
