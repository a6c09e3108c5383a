"""Stakes: amounts bonded for an escrow or a trial, given back, or taken."""

from __future__ import annotations

from typing import Any

from tallystick.commands import StakeLock, StakeRelease, StakeSlash
from tallystick.service.calls import Call
from tallystick.service.operations import Group
from tallystick.service.routes.holds import LocksQuery, lock, locks
from tallystick.wire.answers import LockAnswer, Page
from tallystick.wire.forms import form

STAKES = Group("Stakes")

_HERE = "/v1/ledgers/{ledger}/stakes"
_ONE = _HERE + "/{stake}"


@STAKES.act(
    _HERE,
    form(StakeLock),
    example={"account": "users:alice", "asset": "USD/2", "amount": "300", "refs": {"escrow": "escrow-1"}},
)
def lock_stake(call: Call) -> Any:
    """Bond an amount; it needs a reference to an escrow or a trial. The answer's ``id`` is the stake's."""
    return call.command()


@STAKES.read(_HERE, query=LocksQuery, answer=Page[LockAnswer])
def list_stakes(call: Call) -> Page[LockAnswer]:
    """Stakes, oldest first."""
    return locks(call, "stake")


@STAKES.read(_ONE, answer=LockAnswer)
def get_stake(call: Call) -> LockAnswer:
    """A stake: what it keeps, and what was taken of it."""
    return lock(call, "stake")


@STAKES.act(f"{_ONE}/release", form(StakeRelease, "stake"), example={"refs": {"escrow": "escrow-1"}}, looks_up=True)
def release_stake(call: Call) -> Any:
    """Give a bond back, whole or in part."""
    return call.command(stake=call.place("stake"))


@STAKES.act(
    f"{_ONE}/slash",
    form(StakeSlash, "stake"),
    example={
        "to_account": "users:bob",
        "amount": "100",
        "reason": "missed its deadline",
        "refs": {"escrow": "escrow-1"},
    },
    looks_up=True,
)
def slash_stake(call: Call) -> Any:
    """Take a bond, whole or in part, for a named destination; ``@issuance`` burns it."""
    return call.command(stake=call.place("stake"))
