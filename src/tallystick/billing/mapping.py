"""From events of the journal to charges and to the events that billing tells others. Pure: nothing is read or kept.

    journal             told as             when
    hold                INTENT_CREATED      an amount was frozen
    capture             ORDER_CREATED       held value was paid out for an order
    charge_finalized    PAYMENT_SUCCEEDED   a captured charge became final

The payload is the *billing extension*, version 1.0: one flat object under one name, ``extension``, so that it may be
carried as it is in any envelope that knows extensions. Amounts are strings of digits in minor units of ``asset``; times
are journal times; a reference that was not given is left out.

    always              extension, stage, hold_id, account, asset, amount
    INTENT_CREATED      stage "frozen": expires, reason; order_id if it was known by then
    ORDER_CREATED       stage "captured": charge_id, order_id, fee, released,
                        settlement [{account, bucket, amount}]: who was paid what, adding up to amount
    PAYMENT_SUCCEEDED   stage "finalized": charge_id, order_id, fee, refunded (what was paid back before it was final)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tallystick.billing.values import BillingEvent, BillingEventType, Charge, Freeze, Settlement
from tallystick.events import Entry, Event

EXTENSION = "urn:tallystick:extension:billing:1.0"
VERSION = "1.0"

TOLD: dict[str, BillingEventType] = {
    "hold": "INTENT_CREATED",
    "capture": "ORDER_CREATED",
    "charge_finalized": "PAYMENT_SUCCEEDED",
}
"""Which event types are told, and as what."""


def freeze_of(event: Event) -> Freeze:
    """What a hold's own event says of it (its expiry may have been moved since)."""
    held = _held(event)
    return Freeze(
        hold_id=event.id,
        expires=event.data["expires"],
        account=held.account,
        asset=held.asset,
        amount=held.amount,
        reason=event.data.get("reason", ""),
        time=event.time,
        trace_id=trace_of(event),
    )


def charge_of(event: Event) -> Charge:
    """What a capture's own event says of it: a charge in its first state."""
    held = _held(event)
    # What the owner has back of its own hold is no payment; the ledger lets nobody be the payee of an own hold.
    parts = [
        Settlement(entry.account, entry.bucket, entry.amount)
        for entry in event.entries
        if entry.amount > 0 and not (entry.account == held.account and entry.bucket == "available")
    ]
    payees = [part.account for part in parts if part.bucket != "fees"]
    return Charge(
        id=event.id,
        hold_id=event.data["hold"],
        order_id=event.refs.get("order", ""),
        account=held.account,
        asset=held.asset,
        amount=int(event.data["taken"]),
        fee=sum(part.amount for part in parts if part.bucket == "fees"),
        payee=payees[0] if payees else "",
        released=int(event.data.get("released", "0")),
        settlement=tuple(parts),
        time=event.time,
        trace_id=trace_of(event),
    )


def refunded_by(event: Event, charge: Charge) -> int:
    """How much of a charge a reversal paid back, in minor units."""
    return sum(entry.amount for entry in event.entries if entry.account == charge.account and entry.amount > 0)


def fee_refunded_by(event: Event) -> int:
    """How much of that the fee pool paid."""
    return -sum(entry.amount for entry in event.entries if entry.bucket == "fees" and entry.amount < 0)


def trace_of(event: Event) -> str:
    """The trace that an event belongs to: the one it names, or else the hold that everything began with."""
    return event.refs.get("trace_id") or event.data.get("hold") or event.id


def tell_intent(event: Event, source: str) -> BillingEvent:
    """INTENT_CREATED, from the event of a hold."""
    freeze = freeze_of(event)
    payload = _payload("frozen", freeze.hold_id, freeze.account, freeze.asset, freeze.amount)
    payload |= {"expires": freeze.expires, "reason": freeze.reason, **_order(event.refs.get("order", ""))}
    return _told(event, source, payload)


def tell_order(event: Event, source: str) -> BillingEvent:
    """ORDER_CREATED, from the event of a capture."""
    charge = charge_of(event)
    payload = _payload("captured", charge.hold_id, charge.account, charge.asset, charge.amount)
    payload |= {
        "charge_id": charge.id,
        **_order(charge.order_id),
        "fee": str(charge.fee),
        "released": str(charge.released),
        "settlement": [
            {"account": part.account, "bucket": part.bucket, "amount": str(part.amount)} for part in charge.settlement
        ],
    }
    return _told(event, source, payload)


def tell_payment(event: Event, captured: Event, reversals: Iterable[Event], source: str) -> BillingEvent:
    """PAYMENT_SUCCEEDED, from the event that made a charge final, the capture it names, and that one's reversals."""
    charge = charge_of(captured)
    refunded = sum(refunded_by(reversal, charge) for reversal in reversals if reversal.seq < event.seq)
    payload = _payload("finalized", charge.hold_id, charge.account, charge.asset, charge.amount)
    payload |= {
        "charge_id": charge.id,
        **_order(charge.order_id),
        "fee": str(charge.fee),
        "refunded": str(refunded),
    }
    return _told(event, source, payload, trace_id=charge.trace_id)


def _told(event: Event, source: str, payload: dict[str, Any], trace_id: str = "") -> BillingEvent:
    return BillingEvent(
        id=event.id,
        source=source,
        type=TOLD[event.type],
        version=VERSION,
        time=event.time,
        sequence=event.seq,
        trace_id=event.refs.get("trace_id") or trace_id or trace_of(event),
        payload=payload,
    )


def _payload(stage: str, hold_id: str, account: str, asset: str, amount: int) -> dict[str, Any]:
    return {
        "extension": EXTENSION,
        "stage": stage,
        "hold_id": hold_id,
        "account": account,
        "asset": asset,
        "amount": str(amount),
    }


def _order(order_id: str) -> dict[str, str]:
    return {"order_id": order_id} if order_id else {}


def _held(event: Event) -> Entry:
    """The entry on the hold's own bucket: up in a hold, down in a capture."""
    return next(entry for entry in event.entries if entry.bucket == "held")
