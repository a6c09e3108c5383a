"""The values of billing: what it answers. All frozen; amounts in minor units, times as the journal writes them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from tallystick.accounts import Bucket
from tallystick.errors import Refusal

ChargeState = Literal["captured", "finalized", "refunded"]
BillingEventType = Literal["INTENT_CREATED", "ORDER_CREATED", "PAYMENT_SUCCEEDED"]


class OrderConflict(Refusal):
    """the hold {hold} was captured already, for another order: the order {order} cannot capture it again"""

    code = "order_conflict"


class Freeze(Struct, frozen=True, kw_only=True):
    """An amount was frozen: the id of its hold, and when that expires unless it is extended."""

    hold_id: str
    expires: str
    account: str
    asset: str
    amount: int
    reason: str
    time: str
    trace_id: str


class Settlement(Struct, frozen=True):
    """A part of a charge: how much went to whom, into which bucket."""

    account: str
    bucket: Bucket
    amount: int


class Charge(Struct, frozen=True, kw_only=True):
    """A captured amount. Its id is the id of the transaction that captured it.

    ``amount`` is what the account paid, all told; ``fee`` the part of it that went into a fee pool, and ``payee`` who
    took the rest; ``released`` is what the same event gave back. ``refunded`` is how much of ``amount`` was paid back.

    States: ``captured``, then ``finalized`` or ``refunded`` (wholly), which are the end of it. A charge of which a part
    was refunded is still captured, and may be finalized.
    """

    id: str
    hold_id: str
    order_id: str
    account: str
    asset: str
    amount: int
    fee: int
    payee: str
    released: int
    settlement: tuple[Settlement, ...]
    time: str
    trace_id: str
    state: ChargeState = "captured"
    refunded: int = 0


class Release(Struct, frozen=True, kw_only=True):
    """Held value went back to its owner."""

    id: str
    hold_id: str
    account: str
    asset: str
    amount: int
    time: str


class Refund(Struct, frozen=True, kw_only=True):
    """A charge, or a part of it, was paid back; ``fee`` is the part that the fee pool gave back."""

    id: str
    charge_id: str
    order_id: str
    account: str
    asset: str
    amount: int
    fee: int
    time: str


class Movement(Struct, frozen=True, kw_only=True):
    """One balance over a period. ``credits`` came in and ``debits`` went out, in ``entries`` entries.

    ``opening`` and ``closing`` are read as the balance stood at either end; the movements are added up from the
    register. ``ok`` says that the two agree: opening + credits - debits = closing.
    """

    account: str
    asset: str
    bucket: str
    opening: int
    credits: int
    debits: int
    closing: int
    entries: int

    @property
    def difference(self) -> int:
        """What opening and movements leave unexplained of the closing balance: 0."""
        return self.closing - self.opening - self.credits + self.debits

    @property
    def ok(self) -> bool:
        return self.difference == 0


class Reconciliation(Struct, frozen=True):
    """Every balance of one account, or of all, over the period [start, end)."""

    start: str
    end: str
    movements: list[Movement]

    @property
    def ok(self) -> bool:
        """True when opening and movements explain every closing balance."""
        return all(movement.ok for movement in self.movements)


class BillingEvent(Struct, frozen=True, kw_only=True):
    """What billing tells others of one event of the journal. See tallystick.billing.mapping for the payloads.

    ``id`` is unique within ``source``, and the same each time the event is told; ``sequence`` is the journal's, by
    which a reader resumes; ``trace_id`` is one for a hold and all that comes of it; ``version`` is the payload's.
    """

    id: str
    source: str
    type: BillingEventType
    version: str
    time: str
    sequence: int
    trace_id: str
    payload: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The event as plain data, ready for JSON."""
        return msgspec.structs.asdict(self)
