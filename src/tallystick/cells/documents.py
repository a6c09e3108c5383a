"""A cell's state as a plain document that outlives the program that wrote it.

Schema version 1.0, one JSON object; amounts are strings of digits in minor units, times are journal times::

    {"schema": "tallystick.cell", "schema_version": "1.0", "cell_id", "asset", "version", "hash", "last_updated_at",
     "parameters": {"limit_min", "limit_max", "limit_default", "commitment_mode", "floor_threshold_bps"},
     "members": [{"id", "balance", "limit", "reserve", "status", "joined_at", "last_activity_at"}],
     "others": [{"account", "balance"}]}

``members`` holds everyone who ever was a member, in the order of their ids; ``others`` every other account with a
balance, such as clearing accounts, so that all balances of the document add up to zero. ``version`` and ``hash`` say
where in the journal the state was taken. A reader keeps every version it ever knew: a 1.0 document loads for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from tallystick.cells.values import CellParameters, CommitmentMode, MemberState, MemberStatus
from tallystick.errors import InvalidInput

SCHEMA = "tallystick.cell"
SCHEMA_VERSION = "1.0"
"""The version that is written."""

MAX_DIGITS = 20


class OtherBalance(Struct, frozen=True):
    """An account that is no member but has a balance: a clearing account, the treasury."""

    account: str
    balance: int


class CellState(Struct, frozen=True, kw_only=True):
    """A whole cell at one place of its journal: ``version`` events had happened, ``hash`` is that of the last."""

    cell_id: str
    asset: str
    version: int
    hash: str
    last_updated_at: str
    parameters: CellParameters
    members: tuple[MemberState, ...]
    others: tuple[OtherBalance, ...] = ()

    @property
    def balance_sum(self) -> int:
        """The sum of all balances in minor units: 0 in a cell that keeps its promise."""
        return sum(member.balance for member in self.members) + sum(other.balance for other in self.others)

    def to_document(self) -> dict[str, Any]:
        """The state as plain data of schema version 1.0, ready for JSON."""
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "cell_id": self.cell_id,
            "asset": self.asset,
            "version": self.version,
            "hash": self.hash,
            "last_updated_at": self.last_updated_at,
            "parameters": {
                "limit_min": str(self.parameters.limit_min),
                "limit_max": str(self.parameters.limit_max),
                "limit_default": str(self.parameters.limit_default),
                "commitment_mode": self.parameters.commitment_mode,
                "floor_threshold_bps": self.parameters.floor_threshold_bps,
            },
            "members": [
                {
                    "id": member.id,
                    "balance": str(member.balance),
                    "limit": str(member.limit),
                    "reserve": str(member.reserve),
                    "status": member.status,
                    "joined_at": member.joined_at,
                    "last_activity_at": member.last_activity_at,
                }
                for member in self.members
            ],
            "others": [{"account": other.account, "balance": str(other.balance)} for other in self.others],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> CellState:
        """The state that a document of any known schema version describes.

        Raises InvalidInput, naming the place, for a document that is not a cell's state, is of a version that this
        program does not know, or whose balances do not add up to zero.
        """
        if not isinstance(document, Mapping) or document.get("schema") != SCHEMA:
            raise InvalidInput(path="schema", problem=f"this is not a document of the schema {SCHEMA}")
        version = document.get("schema_version")
        reader = _READERS.get(version) if isinstance(version, str) else None
        if reader is None:
            raise InvalidInput(path="schema_version", problem=f"{version!r} is not one of {', '.join(_READERS)}")
        state = reader(document)
        if state.balance_sum:
            raise InvalidInput(path="members", problem=f"the balances add up to {state.balance_sum}, not to 0")
        return state


# ---------------------------------------------------------------- schema version 1.0; never to be changed


class _Parameters(Struct, frozen=True, forbid_unknown_fields=True):
    limit_min: str
    limit_max: str
    limit_default: str
    commitment_mode: CommitmentMode
    floor_threshold_bps: int


class _Member(Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    balance: str
    limit: str
    reserve: str
    status: MemberStatus
    joined_at: str
    last_activity_at: str


class _Other(Struct, frozen=True, forbid_unknown_fields=True):
    account: str
    balance: str


class _Document(Struct, frozen=True, forbid_unknown_fields=True):
    schema: str
    schema_version: Literal["1.0"]
    cell_id: str
    asset: str
    version: int
    hash: str
    last_updated_at: str
    parameters: _Parameters
    members: list[_Member]
    others: list[_Other]


def _read_1_0(document: Mapping[str, Any]) -> CellState:
    try:
        found = msgspec.convert(dict(document), _Document)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$.")
        raise InvalidInput(path=path.rstrip("`") or "document", problem=problem) from None
    rules = found.parameters
    return CellState(
        cell_id=found.cell_id,
        asset=found.asset,
        version=found.version,
        hash=found.hash,
        last_updated_at=found.last_updated_at,
        parameters=CellParameters(
            limit_min=_amount(rules.limit_min, "parameters.limit_min"),
            limit_max=_amount(rules.limit_max, "parameters.limit_max"),
            limit_default=_amount(rules.limit_default, "parameters.limit_default"),
            commitment_mode=rules.commitment_mode,
            floor_threshold_bps=rules.floor_threshold_bps,
        ),
        members=tuple(_member(member, f"members[{place}]") for place, member in enumerate(found.members)),
        others=tuple(
            OtherBalance(other.account, _amount(other.balance, f"others[{place}].balance"))
            for place, other in enumerate(found.others)
        ),
    )


def _member(member: _Member, path: str) -> MemberState:
    return MemberState(
        id=member.id,
        balance=_amount(member.balance, f"{path}.balance"),
        limit=_amount(member.limit, f"{path}.limit"),
        reserve=_amount(member.reserve, f"{path}.reserve"),
        status=member.status,
        joined_at=member.joined_at,
        last_activity_at=member.last_activity_at,
    )


def _amount(digits: str, path: str) -> int:
    """Only the one way in which an amount is written is read: ``-0``, ``007`` and ``1_000`` are refused."""
    if len(digits) > MAX_DIGITS or not digits.removeprefix("-").isdecimal() or str(int(digits)) != digits:
        raise InvalidInput(path=path, problem=f"{digits!r} is not a whole number of minor units")
    return int(digits)


_READERS: dict[str, Callable[[Mapping[str, Any]], CellState]] = {"1.0": _read_1_0}
