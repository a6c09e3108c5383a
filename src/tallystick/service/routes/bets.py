"""Bets: stakes on game, decided or void."""

from __future__ import annotations

from typing import Any

from tallystick.commands import BetRollback, BetSettlement, BetStake
from tallystick.service.calls import Call
from tallystick.service.operations import Group
from tallystick.service.routes.holds import LocksQuery, lock, locks
from tallystick.wire.answers import LockAnswer, Page
from tallystick.wire.forms import form

BETS = Group("Bets")

_HERE = "/v1/ledgers/{ledger}/bets"
_ONE = _HERE + "/{bet}"


@BETS.act(
    _HERE,
    form(BetStake),
    example={"account": "users:alice", "asset": "USD/2", "amount": "50", "refs": {"round": "round-1"}},
)
def stake_bet(call: Call) -> Any:
    """Put a stake on game; it needs a reference to a round. The answer's ``id`` is the bet's."""
    return call.command()


@BETS.read(_HERE, query=LocksQuery, answer=Page[LockAnswer])
def list_bets(call: Call) -> Page[LockAnswer]:
    """Bets, oldest first."""
    return locks(call, "bet")


@BETS.read(_ONE, answer=LockAnswer)
def get_bet(call: Call) -> LockAnswer:
    """A bet: what is on game, or how it ended."""
    return lock(call, "bet")


@BETS.act(
    f"{_ONE}/settle",
    form(BetSettlement, "bet"),
    example={"house": "house:main", "payout": "0", "refs": {"round": "round-1"}},
    looks_up=True,
)
def settle_bet(call: Call) -> Any:
    """Decide a bet: the house takes the stake and pays ``payout`` (0 if it is lost)."""
    return call.command(bet=call.place("bet"))


@BETS.act(f"{_ONE}/rollback", form(BetRollback, "bet"), example={"refs": {"round": "round-1"}}, looks_up=True)
def roll_back_bet(call: Call) -> Any:
    """Void a bet that has not been settled."""
    return call.command(bet=call.place("bet"))
