"""Mutual-credit cells on the wire: members, their limits, and the changes of their balances and reserves."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from tallystick.wire.amounts import Digits
from tallystick.wire.clearing import FractionAnswer, Sum
from tallystick.wire.fields import Address, Asset, FreeText, MaybeAddress, NotNegative, Signed

HOURS = "HOUR/2"
"""The asset of a cell, if none is named: labour hours, of which 100 are one hour."""

MAX_UPDATES = 1_000
"""The most balance updates of one request."""

Reference = Annotated[str, Meta(max_length=255)]
Direction = Literal[
    "SPOT_TRANSACTION_PAYER",
    "SPOT_TRANSACTION_PAYEE",
    "COMMITMENT_FULFILL_PAYER",
    "COMMITMENT_FULFILL_PAYEE",
    "FEDERATION_IMPORT",
    "FEDERATION_EXPORT",
    "GOVERNANCE_ADJUSTMENT",
]
MemberStatus = Literal["ACTIVE", "FROZEN", "EXCLUDED"]


# ---------------------------------------------------------------- requests


class CellChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every change may carry: the cell's ``asset``, a ``note`` (kept as the event's reason), and the decision or
    event that it rests on (kept as its reference ``external_ref``)."""

    asset: Asset = HOURS
    note: FreeText = ""
    related_event_id: Reference = ""


class MemberRequest(CellChange, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is let in, with a balance of 0. Without a ``limit``: the cell's default."""

    member: Address
    limit: NotNegative | None = None


class LimitRequest(CellChange, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another limit, within the cell's bounds."""

    limit: NotNegative


class RemoveMemberRequest(CellChange, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``settle_to`` takes the balance over; without it the balance must be 0."""

    settle_to: MaybeAddress = ""


class BalanceUpdateRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One change of one member's balance: positive when the member is paid, negative when it pays."""

    member: Address
    delta: Signed
    reason: Direction
    related_event_id: Reference = ""


class ReserveRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One change of one member's reserve for one commitment: positive to reserve more, negative to free."""

    member: Address
    delta: Signed
    reason: Literal["COMMITMENT_CREATE", "COMMITMENT_FULFILL", "COMMITMENT_CANCEL"]
    commitment: Annotated[str, Meta(min_length=1, max_length=255)]


class UpdatesRequest(CellChange, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes of balances that add up to zero, of one kind; all of them happen or none.

    ``clearing``: the other cell of a federated payment, whose clearing account takes the other side. ``reserve``: what
    a commitment's payment frees in the same event.
    """

    updates: Annotated[list[BalanceUpdateRequest], Meta(min_length=1, max_length=MAX_UPDATES)]
    clearing: Annotated[str, Meta(max_length=255)] = ""
    reserve: ReserveRequest | None = None


class ReserveChange(CellChange, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change of one member's reserve."""

    reserve: ReserveRequest


# ---------------------------------------------------------------- answers


class CellParametersAnswer(Struct, frozen=True):
    """The rules of a cell; limits in minor units, the threshold in basis points of a member's limit."""

    limit_min: Digits
    limit_max: Digits
    limit_default: Digits
    commitment_mode: Literal["DISABLED", "SOFT", "ESCROWED"]
    floor_threshold_bps: int


class CellAnswer(Struct, frozen=True):
    """A cell as of ``version`` events. ``capacity`` is the sum of all limits; ``balance_variance`` the mean squared
    balance of the active members, in minor units squared; ``floor_mass`` the share of them that owe at least the
    threshold of their limit."""

    cell: str
    asset: str
    version: int
    parameters: CellParametersAnswer
    members: int
    capacity: Sum
    balance_variance: FractionAnswer
    floor_mass: FractionAnswer


class MemberAnswer(Struct, frozen=True):
    """A member. ``balance`` includes what is reserved; ``available`` is what it may spend now."""

    member: str
    asset: str
    balance: Digits
    limit: Digits
    reserve: Digits
    available: Digits
    status: MemberStatus
    joined_at: str
    last_activity_at: str


class RemovedMemberAnswer(Struct, frozen=True):
    """``balance`` is what was handed over."""

    member: str
    asset: str
    balance: Digits


class CanSpendAnswer(Struct, frozen=True):
    """Whether so much could be paid now."""

    member: str
    asset: str
    amount: Digits
    can_spend: bool


class CellCheckAnswer(Struct, frozen=True):
    """What a full check of a cell found. ``is_sound``: all invariants hold, but for members whose limit was lowered
    under their debt, who stand in ``under_lowered_limit``."""

    cell: str
    asset: str
    version: int
    is_sound: bool
    conservation_holds: bool
    balance_sum: Sum
    floors_hold: bool
    floor_violations: list[str]
    escrow_safety_holds: bool
    escrow_violations: list[str]
    reserves_hold: bool
    negative_reserves: list[str]
    under_lowered_limit: list[str]
