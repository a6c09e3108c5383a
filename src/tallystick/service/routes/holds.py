"""Holds: amounts frozen before work is done, paid out after it, or given back."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from tallystick.commands import Capture, Hold, HoldExpire, HoldExtend, HoldTopUp, Release
from tallystick.errors import Forbidden, NotFound
from tallystick.service.calls import Call
from tallystick.service.operations import Group
from tallystick.service.routes.accounts import Limit
from tallystick.wire.answers import LockAnswer, Page, lock_answer
from tallystick.wire.fields import Cursor, MaybeAddress
from tallystick.wire.forms import form

HOLDS = Group("Holds")

_HERE = "/v1/ledgers/{ledger}/holds"
_ONE = _HERE + "/{hold}"

LockState = Literal[
    "active",
    "partially_captured",
    "captured",
    "released",
    "expired",
    "partially_slashed",
    "slashed",
    "settled",
    "rolled_back",
    "fulfilled",
    "cancelled",
]


class LocksQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """``account``: only of this account."""

    account: MaybeAddress = ""
    state: LockState | None = None
    limit: Limit = 100
    cursor: Cursor = ""


@HOLDS.act(
    _HERE,
    form(Hold),
    example={"account": "users:alice", "asset": "USD/2", "amount": "500", "expires_in_seconds": 3600},
)
def create_hold(call: Call) -> Any:
    """Freeze an amount; the answer's ``id`` is the hold's."""
    return call.command()


@HOLDS.read(_HERE, query=LocksQuery, answer=Page[LockAnswer])
def list_holds(call: Call) -> Page[LockAnswer]:
    """Holds, oldest first. One whose time has passed reads as expired, swept or not."""
    return locks(call, "hold")


@HOLDS.read(_ONE, answer=LockAnswer)
def get_hold(call: Call) -> LockAnswer:
    """A hold: what it keeps, what was captured of it, and what it is waiting for."""
    return lock(call, "hold")


@HOLDS.act(f"{_ONE}/capture", form(Capture, "hold"), example={"splits": [{"to_account": "users:bob"}]}, looks_up=True)
def capture_hold(call: Call) -> Any:
    """Pay out of an open hold, to one payee or several.

    ``final`` (the default) gives back what is left in the same event; otherwise the hold stays open for more captures.
    """
    return call.command(hold=call.place("hold"))


@HOLDS.act(f"{_ONE}/release", form(Release, "hold"), example={}, looks_up=True)
def release_hold(call: Call) -> Any:
    """Give an open hold back, whole (no amount) or in part."""
    return call.command(hold=call.place("hold"))


@HOLDS.act(f"{_ONE}/extend", form(HoldExtend, "hold"), example={"expires_in_seconds": 7200}, looks_up=True)
def extend_hold(call: Call) -> Any:
    """Give an open hold another expiry."""
    return call.command(hold=call.place("hold"))


@HOLDS.act(f"{_ONE}/top-up", form(HoldTopUp, "hold"), example={"amount": "100"}, looks_up=True)
def top_up_hold(call: Call) -> Any:
    """Make an open hold larger."""
    return call.command(hold=call.place("hold"))


@HOLDS.act(f"{_ONE}/expire", form(HoldExpire, "hold"), example={}, looks_up=True)
def expire_hold(call: Call) -> Any:
    """Give back a hold whose time has passed. The service does so by itself, too."""
    return call.command(hold=call.place("hold"))


# ---------------------------------------------------------------- for holds, stakes and bets alike


def locks(call: Call, kind: str) -> Page[LockAnswer]:
    """A page of locks of one kind that the key may see."""
    query = call.query
    place = call.page_place({"account": query.account, "state": query.state or ""}, query.cursor, "")
    account = place.filters["account"]
    if account:
        call.require_account(account)
    elif not call.sees_all:
        raise Forbidden(problem="name an account that it may read")
    found = call.ledger.locks(
        kind=kind, account=account, state=place.filters["state"], after=place.after, limit=query.limit
    )
    more = call.cursor(place, found[-1].id) if len(found) == query.limit else ""
    return Page([lock_answer(item) for item in found], more)


def lock(call: Call, kind: str) -> LockAnswer:
    """The lock in the path. Raises NotFound, also for one of an account that the key may not see."""
    id = call.place(kind)
    found = call.ledger.hold_by_id(id)
    if found is None or found.kind != kind or not call.sees(found.account):
        raise NotFound(what=f"{kind} {id}")
    return lock_answer(found)
