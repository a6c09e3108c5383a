"""Cells: a ledger as a mutual-credit community, with zero-sum balances, debt limits and reserves.

``Cell`` is the whole interface; what goes in and out of it are the frozen values beside it, and its refusals are
CellErrors, one class for each word (``FLOOR_VIOLATION`` is FloorViolation).
"""

from tallystick.cells.cell import Cell
from tallystick.cells.documents import SCHEMA_VERSION, CellState, OtherBalance
from tallystick.cells.errors import (
    CellError,
    ConservationViolation,
    EscrowViolation,
    FloorViolation,
    LimitOutOfBounds,
    MemberFrozen,
    MemberNotFound,
    NegativeReserve,
)
from tallystick.cells.values import (
    BalanceUpdate,
    CellParameters,
    InvariantCheckResult,
    MemberState,
    ReserveReason,
    ReserveUpdate,
    UpdateReason,
)

__all__ = [
    "SCHEMA_VERSION",
    "BalanceUpdate",
    "Cell",
    "CellError",
    "CellParameters",
    "CellState",
    "ConservationViolation",
    "EscrowViolation",
    "FloorViolation",
    "InvariantCheckResult",
    "LimitOutOfBounds",
    "MemberFrozen",
    "MemberNotFound",
    "MemberState",
    "NegativeReserve",
    "OtherBalance",
    "ReserveReason",
    "ReserveUpdate",
    "UpdateReason",
]
