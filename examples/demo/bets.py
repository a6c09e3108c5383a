"""Betting on the Bustabit record: every bet a stake, every round settled with the profit that was recorded.

Amounts are read as exact decimals into minor units of ``BIT/2``: stakes in the record are whole, profits have at most
two decimals. The recorded profit already contains the bonus.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from posting import BATCH, DATA, SOURCE, Amounts, Check, Progress, post_all

from tallystick import Ledger
from tallystick.commands import BetSettlement, BetStake, Leg, Post
from tallystick.money import parse_amount

ASSET = "BIT/2"
HOUSE = "house"
BANKROLL = 5_000_000_000
"""What the house brings, in minor units: 50 million bits, more than all recorded profits together."""

PUBLISHED = {"bets": 50_000, "rounds": 42_152, "players": 4_149, "lost bets": 21_266}


class Bet(NamedTuple):
    """One bet. Amounts in minor units; ``profit`` is None for a lost bet."""

    id: int
    round: int
    player: str
    stake: int
    profit: int | None

    @property
    def account(self) -> str:
        return f"players:{self.player}"

    @property
    def payout(self) -> int:
        """What the player gets back: stake and profit, or nothing."""
        return 0 if self.profit is None else self.stake + self.profit

    @property
    def gain(self) -> int:
        """What the bet changes for the player; the house's change is the opposite."""
        return self.payout - self.stake


def read_bets() -> list[Bet]:
    """Every bet of the record, in the order of the rounds."""
    with gzip.open(DATA / "bustabit" / "bustabit.csv.gz", "rt", encoding="utf-8", newline="") as lines:
        return sorted(map(_bet, csv.DictReader(lines)), key=lambda bet: (bet.round, bet.id))


def _bet(row: dict[str, str]) -> Bet:
    profit = None if row["Profit"] == "NA" else parse_amount(row["Profit"], ASSET)
    return Bet(int(row["Id"]), int(row["GameID"]), row["Username"], parse_amount(row["Bet"], ASSET), profit)


# ---------------------------------------------------------------- posting


def post_bets(ledger: Ledger, bets: Sequence[Bet], progress: Progress = lambda done: None) -> None:
    """Fund the house and the players, then stake and settle round by round."""
    deposits = {HOUSE: BANKROLL, **_staked(bets)}
    post_all(ledger, [_deposit(account, amount) for account, amount in deposits.items()])
    for part in whole_rounds(bets, BATCH):
        stakes = post_all(ledger, [_stake(bet) for bet in part])
        post_all(ledger, [_settle(bet, stake.id) for bet, stake in zip(part, stakes, strict=True)])
        progress(len(part))


def whole_rounds(bets: Sequence[Bet], size: int) -> Iterator[list[Bet]]:
    """The bets in runs of about ``size`` that never part the bets of one round."""
    part: list[Bet] = []
    for _, group in groupby(bets, key=lambda bet: bet.round):
        own = list(group)
        if part and len(part) + len(own) > size:
            yield part
            part = []
        part += own
    if part:
        yield part


def _staked(bets: Sequence[Bet]) -> dict[str, int]:
    """What each player stakes in all, which is what each pays in beforehand."""
    staked: dict[str, int] = {}
    for bet in bets:
        staked[bet.account] = staked.get(bet.account, 0) + bet.stake
    return staked


def _deposit(account: str, amount: int) -> Post:
    return Post(
        type="deposit",
        legs=(Leg("@external:bank", account, ASSET, amount),),
        refs={"external_ref": f"buy-in {account}"},
        key=f"buy-in {account}",
        source=SOURCE,
    )


def _stake(bet: Bet) -> BetStake:
    return BetStake(
        account=bet.account,
        asset=ASSET,
        amount=bet.stake,
        refs={"round": str(bet.round)},
        key=f"bet {bet.id} stake",
        source=SOURCE,
    )


def _settle(bet: Bet, stake: str) -> BetSettlement:
    return BetSettlement(
        bet=stake,
        house=HOUSE,
        payout=bet.payout,
        refs={"round": str(bet.round)},
        key=f"bet {bet.id} settlement",
        source=SOURCE,
    )


# ---------------------------------------------------------------- what must come out


def expected_amounts(bets: Sequence[Bet]) -> Amounts:
    """Where plain arithmetic over the record puts every account."""
    expected: Amounts = {(account, ASSET): staked for account, staked in _staked(bets).items()}
    expected["@external:bank", ASSET] = -BANKROLL - sum(expected.values())
    expected[HOUSE, ASSET] = BANKROLL
    for bet in bets:
        expected[bet.account, ASSET] += bet.gain
        expected[HOUSE, ASSET] -= bet.gain
    return expected


def check_records(bets: Sequence[Bet]) -> list[Check]:
    """The record against its published facts."""
    found = {
        "bets": len({bet.id for bet in bets}),
        "rounds": len({bet.round for bet in bets}),
        "players": len({bet.player for bet in bets}),
        "lost bets": sum(bet.profit is None for bet in bets),
    }
    return [Check(name, expected, found[name]) for name, expected in PUBLISHED.items()]
