"""The tools that change something: transfer, freeze, capture and release. Nothing is updated, and nothing deleted."""

from __future__ import annotations

from typing import Any

from tallystick.agents.requests import Desk, NoAnswer, Refused
from tallystick.agents.schemas import (
    AMOUNT,
    ASSET,
    DIGITS,
    FLAG,
    HOLD,
    KEY,
    LEDGER,
    ORDER,
    POSTED,
    REASON,
    SECONDS,
    TEXT,
    account,
    object_of,
    text,
)
from tallystick.agents.tool import Answer, Tool

_STATE = text("active, partially_captured, captured, released or expired.")
_HOLD_NOW = {"remaining": DIGITS, "state": _STATE}


def _posted(found: Any) -> Answer:
    return {"transaction_id": found["id"], **{name: found[name] for name in POSTED if name != "transaction_id"}}


def _about(given: dict[str, Any], *names: str) -> dict[str, Any]:
    """What was given of these, with an order as the reference that it is in the journal."""
    body = {name: given[name] for name in names if name in given}
    if "order_id" in given:
        body["refs"] = {"order": given["order_id"]}
    return body


async def _hold_now(desk: Desk, id: str) -> Any:
    """The hold as it stands, as far as this caller may see it: what was done is done, whatever is said of it now."""
    try:
        return await desk.get(desk.place(id, "holds"))
    except (Refused, NoAnswer):
        return {}


# ---------------------------------------------------------------- transfer


async def _transfer(desk: Desk, given: dict[str, Any]) -> Answer:
    body = _about(given, "from_account", "to_account", "asset", "amount", "reason")
    found = await desk.post(desk.path(given.get("ledger", ""), "transfers"), body, given["idempotency_key"])
    return _posted(found)


TRANSFER = Tool(
    name="transfer",
    title="Pay from one account to another",
    description=(
        "Move an amount from one account to another, at once and for good: only whoever was paid can give it back. If "
        "the work is not done yet, or its price not certain, use freeze and capture instead. Answers the transaction."
    ),
    asks=object_of(
        {
            "from_account": account("Who pays."),
            "to_account": account("Who is paid."),
            "asset": ASSET,
            "amount": AMOUNT,
            "idempotency_key": KEY,
            "reason": REASON,
            "order_id": ORDER,
            "ledger": LEDGER,
        },
        optional=("reason", "order_id", "ledger"),
    ),
    answers=object_of(POSTED),
    work=_transfer,
    writes=True,
    spends=True,
)


# ---------------------------------------------------------------- freeze


async def _freeze(desk: Desk, given: dict[str, Any]) -> Answer:
    body = _about(given, "account", "asset", "amount", "reason", "expires_in_seconds")
    found = await desk.post(desk.path(given.get("ledger", ""), "holds"), body, given["idempotency_key"])
    now = await _hold_now(desk, found["id"])
    return {"hold_id": found["id"], **_posted(found), **_kept(now, "expires", "remaining", "state")}


def _kept(found: Any, *names: str) -> Answer:
    return {name: found[name] for name in names if name in found}


FREEZE = Tool(
    name="freeze",
    title="Set an amount aside",
    description=(
        "Set an amount of an account aside before work is done, so that it cannot be spent on anything else. Nobody is "
        "paid yet. Afterwards `capture` pays what it came to and gives the rest back, or `release` gives it all back; "
        "if neither is asked for, the hold expires and everything goes back by itself. Answers the hold_id, and when "
        "it expires."
    ),
    asks=object_of(
        {
            "account": account("Whose amount is set aside."),
            "asset": ASSET,
            "amount": AMOUNT,
            "idempotency_key": KEY,
            "reason": REASON,
            "order_id": ORDER,
            "expires_in_seconds": SECONDS,
            "ledger": LEDGER,
        },
        optional=("reason", "order_id", "expires_in_seconds", "ledger"),
    ),
    answers=object_of(
        {
            "hold_id": text("By which capture and release know it."),
            **POSTED,
            "expires": text("When it goes back by itself; left out if this key may not see it."),
            **_HOLD_NOW,
        },
        optional=("expires", "remaining", "state"),
    ),
    work=_freeze,
    writes=True,
)


# ---------------------------------------------------------------- capture and release


async def _capture(desk: Desk, given: dict[str, Any]) -> Answer:
    split = {"to_account": given["payee"], **_kept(given, "amount")}
    body = {"splits": [split], "final": given.get("final", True), **_about(given, "reason")}
    hold = given["hold_id"]
    found = await desk.post(desk.place(hold, "holds", "/capture"), body, given["idempotency_key"])
    now = await _hold_now(desk, hold)
    return {"hold_id": hold, **_posted(found), **_kept(now, "remaining", "state")}


CAPTURE = Tool(
    name="capture",
    title="Pay out of what was set aside",
    description=(
        "Pay a payee out of a hold, once the work is done: `amount`, or all that is left. Unless `final` is false, "
        "what remains goes back to its owner in the same moment, and the hold is closed. With `final` false it "
        "stays open for further captures, as when several are paid."
    ),
    asks=object_of(
        {
            "hold_id": HOLD,
            "payee": account("Who is paid."),
            "amount": AMOUNT,
            "final": {**FLAG, "description": "Close the hold and give back the rest. Without it: true."},
            "idempotency_key": KEY,
            "order_id": ORDER,
            "reason": REASON,
        },
        optional=("amount", "final", "order_id", "reason"),
    ),
    answers=object_of({"hold_id": TEXT, **POSTED, **_HOLD_NOW}, optional=("remaining", "state")),
    work=_capture,
    writes=True,
    spends=True,
)


async def _release(desk: Desk, given: dict[str, Any]) -> Answer:
    hold = given["hold_id"]
    body = _about(given, "amount", "reason")
    found = await desk.post(desk.place(hold, "holds", "/release"), body, given["idempotency_key"])
    now = await _hold_now(desk, hold)
    return {"hold_id": hold, **_posted(found), **_kept(now, "remaining", "state")}


RELEASE = Tool(
    name="release",
    title="Give back what was set aside",
    description=(
        "Give what a hold keeps back to its owner, all of it or `amount`. Nobody is paid. Use it as soon as it is "
        "clear that nothing will be charged."
    ),
    asks=object_of(
        {"hold_id": HOLD, "amount": AMOUNT, "idempotency_key": KEY, "reason": REASON}, optional=("amount", "reason")
    ),
    answers=object_of({"hold_id": TEXT, **POSTED, **_HOLD_NOW}, optional=("remaining", "state")),
    work=_release,
    writes=True,
)
