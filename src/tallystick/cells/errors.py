"""The refusals of a cell, one class for each word of its interface, and how the ledger's refusals become them.

    CellError
    ├── ConservationViolation   CONSERVATION_VIOLATION   expected, actual
    ├── FloorViolation          FLOOR_VIOLATION          member_id, balance, limit
    ├── EscrowViolation         ESCROW_VIOLATION         member_id, available, limit
    ├── MemberNotFound          MEMBER_NOT_FOUND         member_id
    ├── MemberFrozen            MEMBER_FROZEN            member_id
    ├── LimitOutOfBounds        LIMIT_OUT_OF_BOUNDS      limit, min, max
    └── NegativeReserve         NEGATIVE_RESERVE         member_id, reserve

Every field is an attribute and a key of ``data``; amounts are minor units. A refusal that a cell has no word for
(a key used for another request, an account that still keeps a reserve) comes through as the ledger gave it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from tallystick import errors
from tallystick.errors import Refusal


class CellError(Refusal):
    """The cell refused the change."""

    code = "cell_refused"
    type: ClassVar[str] = ""

    def __init__(self, **data: Any) -> None:
        super().__init__(**data)
        self.__dict__.update(data)

    def to_dict(self) -> dict[str, Any]:
        """The error as plain data: ``{"type", "code", "message", "retryable", ...fields}``."""
        return {"type": self.type, **super().to_dict()}


class ConservationViolation(CellError):
    """the changes add up to {actual}, not to {expected}"""

    code = "cell_conservation_violation"
    type = "CONSERVATION_VIOLATION"
    expected: int
    actual: int


class FloorViolation(CellError):
    """{member_id} would stand at {balance}, below its limit of {limit}"""

    code = "cell_floor_violation"
    type = "FLOOR_VIOLATION"
    member_id: str
    balance: int
    limit: int


class EscrowViolation(CellError):
    """{member_id} would have {available} after its reserve, below its limit of {limit}"""

    code = "cell_escrow_violation"
    type = "ESCROW_VIOLATION"
    member_id: str
    available: int
    limit: int


class MemberNotFound(CellError):
    """{member_id} is not a member of this cell"""

    code = "cell_member_not_found"
    type = "MEMBER_NOT_FOUND"
    member_id: str


class MemberFrozen(CellError):
    """{member_id} is frozen: it may be paid but cannot pay"""

    code = "cell_member_frozen"
    type = "MEMBER_FROZEN"
    member_id: str


class LimitOutOfBounds(CellError):
    """a limit of {limit} is outside {min} to {max}"""

    code = "cell_limit_out_of_bounds"
    type = "LIMIT_OUT_OF_BOUNDS"
    limit: int
    min: int
    max: int


class NegativeReserve(CellError):
    """the reserve of {member_id} for this commitment would be {reserve}"""

    code = "cell_negative_reserve"
    type = "NEGATIVE_RESERVE"
    member_id: str
    reserve: int


def in_words_of_cell(refusal: Refusal) -> Refusal:
    """The cell's own error for a refusal of the ledger; the refusal itself where the cell has no word for it."""
    data = refusal.data
    match refusal:
        case errors.Unbalanced():
            return ConservationViolation(expected=data["expected"], actual=data["actual"])
        case errors.FloorViolation():
            return FloorViolation(member_id=data["account"], balance=data["balance"], limit=data["limit"])
        case errors.EscrowViolation():
            return EscrowViolation(member_id=data["account"], available=data["available"], limit=data["limit"])
        case errors.MemberNotFound() | errors.AccountNotFound():
            return MemberNotFound(member_id=data["account"])
        case errors.AccountFrozen():
            return MemberFrozen(member_id=data["account"])
        case errors.AccountNotActive() if data["status"] == "frozen":
            return MemberFrozen(member_id=data["account"])
        case errors.AccountNotActive() if data["status"] in ("excluded", "closed"):
            return MemberNotFound(member_id=data["account"])
        case errors.LimitOutOfBounds():
            return LimitOutOfBounds(limit=data["limit"], min=data["min"], max=data["max"])
        case errors.NegativeReserve():
            return NegativeReserve(member_id=data["account"], reserve=data["reserve"])
    return refusal
