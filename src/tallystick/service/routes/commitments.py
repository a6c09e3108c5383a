"""Commitments: a member's capacity reserved for a promise, which is kept or dropped."""

from __future__ import annotations

from typing import Any

from tallystick.commands import CommitmentCancel, CommitmentCreate, CommitmentFulfil
from tallystick.service.calls import Call
from tallystick.service.operations import Group
from tallystick.service.routes.holds import LocksQuery, locks
from tallystick.wire.answers import LockAnswer, Page
from tallystick.wire.forms import form

COMMITMENTS = Group("Commitments")

_HERE = "/v1/ledgers/{ledger}/commitments"
_PROMISE = {"member": "members:ben", "asset": "CREDIT/2", "refs": {"commitment": "promise-1"}}


@COMMITMENTS.act(_HERE, form(CommitmentCreate), example={**_PROMISE, "amount": "100"})
def create_commitment(call: Call) -> Any:
    """Reserve capacity of a member for the commitment in ``refs``; again for the same one adds to it."""
    return call.command()


@COMMITMENTS.read(_HERE, query=LocksQuery, answer=Page[LockAnswer])
def list_commitments(call: Call) -> Page[LockAnswer]:
    """Commitments, oldest first."""
    return locks(call, "commitment")


@COMMITMENTS.act(f"{_HERE}/fulfil", form(CommitmentFulfil), example={**_PROMISE, "amount": "40"})
def fulfil_commitment(call: Call) -> Any:
    """Free reserve of the commitment in ``refs``, and pay the promised legs in the same event."""
    return call.command()


@COMMITMENTS.act(f"{_HERE}/cancel", form(CommitmentCancel), example=_PROMISE)
def cancel_commitment(call: Call) -> Any:
    """Free reserve of the commitment in ``refs``."""
    return call.command()
