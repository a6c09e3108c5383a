"""The values of a cell: what is asked of it and what it answers. All frozen; all amounts whole minor units."""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction
from typing import Literal

from msgspec import Struct

from tallystick.money import split_asset

CommitmentMode = Literal["DISABLED", "SOFT", "ESCROWED"]
MemberStatus = Literal["ACTIVE", "FROZEN", "EXCLUDED"]

DEFAULT_ASSET = "HOUR/2"
"""Labour hours with two decimals: an amount of 100 is one hour."""

BASIS_POINTS = 10_000


class UpdateReason(StrEnum):
    """Why a balance changes. All updates of one call are of one kind, and each kind is one event type:

    ``SPOT_TRANSACTION_*`` spot_payment, ``COMMITMENT_FULFILL_*`` commitment_fulfil, ``FEDERATION_IMPORT``
    federation_import (a member pays into another cell), ``FEDERATION_EXPORT`` federation_export (a member is paid from
    another cell), ``GOVERNANCE_ADJUSTMENT`` governance_adjustment.
    """

    SPOT_TRANSACTION_PAYER = "SPOT_TRANSACTION_PAYER"
    SPOT_TRANSACTION_PAYEE = "SPOT_TRANSACTION_PAYEE"
    COMMITMENT_FULFILL_PAYER = "COMMITMENT_FULFILL_PAYER"
    COMMITMENT_FULFILL_PAYEE = "COMMITMENT_FULFILL_PAYEE"
    FEDERATION_IMPORT = "FEDERATION_IMPORT"
    FEDERATION_EXPORT = "FEDERATION_EXPORT"
    GOVERNANCE_ADJUSTMENT = "GOVERNANCE_ADJUSTMENT"


class ReserveReason(StrEnum):
    """Why a reserve changes: it grows by ``COMMITMENT_CREATE`` and shrinks by the other two."""

    COMMITMENT_CREATE = "COMMITMENT_CREATE"
    COMMITMENT_FULFILL = "COMMITMENT_FULFILL"
    COMMITMENT_CANCEL = "COMMITMENT_CANCEL"


class BalanceUpdate(Struct, frozen=True):
    """One change of one member's balance: ``delta`` is positive when the member is paid, negative when it pays.

    ``related_event_id`` is kept as the event's reference: the commitment of a commitment's payment, the transfer of a
    federated one (which needs it), the approval of an adjustment. All updates of one call name the same one, or none.
    """

    member_id: str
    delta: int
    reason: UpdateReason | str
    related_event_id: str = ""


class ReserveUpdate(Struct, frozen=True):
    """One change of one member's reserve for one commitment: positive to reserve more, negative to free."""

    member_id: str
    delta: int
    reason: ReserveReason | str
    commitment_id: str


class MemberState(Struct, frozen=True, kw_only=True):
    """A member as it stands. ``balance`` includes what is reserved; ``available`` is what may be spent now.

    ``last_activity_at`` is the time of the last event that moved the member's balance or reserve, or of its joining.
    """

    id: str
    balance: int
    limit: int
    reserve: int
    status: MemberStatus
    joined_at: str
    last_activity_at: str

    @property
    def available(self) -> int:
        """balance - reserve + limit; below zero for one whose limit was cut below its debt, 0 for a removed one."""
        return 0 if self.status == "EXCLUDED" else self.balance - self.reserve + self.limit


class CellParameters(Struct, frozen=True, kw_only=True):
    """The rules of a cell. Limits in minor units; ``floor_threshold_bps`` in basis points of a member's limit.

    The defaults suit an asset of scale 2: limits from 5 to 50 units, 20 for a new member, floor mass counted from 80%.
    """

    limit_min: int = 500
    limit_max: int = 5_000
    limit_default: int = 2_000
    commitment_mode: CommitmentMode = "ESCROWED"
    floor_threshold_bps: int = 8_000

    @property
    def floor_threshold(self) -> Fraction:
        """The threshold as the share of its limit that a member must owe to count in the floor mass."""
        return Fraction(self.floor_threshold_bps, BASIS_POINTS)

    @classmethod
    def for_asset(cls, asset: str) -> CellParameters:
        """The default rules in an asset of any scale: 5, 50 and 20 whole units."""
        unit = 10 ** split_asset(asset)[1]
        return cls(limit_min=5 * unit, limit_max=50 * unit, limit_default=20 * unit)


class InvariantCheckResult(Struct, frozen=True, kw_only=True):
    """What a full check found. Each invariant is judged to the letter, with tolerance 0.

    I1 conservation: ``balance_sum`` is over every account of the cell except those through which value is issued or
    comes from outside, so it is zero exactly when the members and clearing accounts owe each other all that there is.
    I2 floors: balance >= -limit. I3 escrow safety: balance - reserve >= -limit; judged in mode ESCROWED alone, because
    SOFT reserves bind nobody. I4: no reserve below zero.

    A limit may be cut below a member's debt. Such a member breaks I2 until it is paid, and stands in
    ``under_lowered_limit`` too: it once had a limit that allowed what it owes.
    """

    version: int
    conservation_holds: bool
    balance_sum: int
    floors_hold: bool
    floor_violations: tuple[str, ...]
    escrow_safety_holds: bool
    escrow_violations: tuple[str, ...]
    reserves_hold: bool
    negative_reserves: tuple[str, ...]
    under_lowered_limit: tuple[str, ...]

    @property
    def is_sound(self) -> bool:
        """True when all invariants hold but for members whose limit was lowered under their debt."""
        unexplained = {*self.floor_violations, *self.escrow_violations} - set(self.under_lowered_limit)
        return self.conservation_holds and self.reserves_hold and not unexplained
