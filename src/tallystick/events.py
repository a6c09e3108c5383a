"""The event types: one registry from which the kernel's checks and docs/events.md are made.

An event is one record of the journal. A *transaction* is an event with entries. Types are mutually exclusive, and
together they are every way in which a ledger can change: the kernel refuses to start if one has no handler.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from tallystick.accounts import Bucket, Role

PROFILE = 1
"""The version of the event format (field ``v``)."""

GENESIS = "0" * 64
"""What the first event names as the hash before it."""

MAX_EVENT_BYTES = 65_535
MAX_EVENT_DEPTH = 16
MAX_LEGS = 100

Group = Literal["supply", "movement", "holds", "stakes", "promo", "betting", "cells", "repair", "state"]

REFERENCES = (
    "escrow",
    "trial",
    "order",
    "round",
    "tx_hash",
    "network",
    "netting_batch",
    "commitment",
    "corrects",
    "external_ref",
    "trace_id",
)


class Entry(Struct, frozen=True):
    """One signed change of one balance. Amounts in minor units; ``version`` counts the balance's entries from 1."""

    account: str
    asset: str
    bucket: Bucket
    amount: int
    before: int
    after: int
    version: int


class Event(Struct, frozen=True, kw_only=True):
    """What happened. ``effective`` is empty unless it differs from ``time``; ``prev`` is set by sealing."""

    type: str
    ledger: str
    seq: int
    time: str
    prev: str = ""
    effective: str = ""
    actor: str = ""
    source: str = ""
    idem: str = ""
    refs: dict[str, str] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
    salt: str = ""
    v: int = PROFILE

    @property
    def id(self) -> str:
        """The event's place, ``<ledger>/<seq>``: the id of a transaction, and of the hold or stake that it opens."""
        return f"{self.ledger}/{self.seq}"

    @property
    def effective_time(self) -> str:
        return self.effective or self.time


class Move(Struct, frozen=True):
    """One allowed direction of value: which accounts and buckets it leaves, and which it enters."""

    from_roles: tuple[Role, ...]
    from_buckets: tuple[Bucket, ...]
    to_roles: tuple[Role, ...]
    to_buckets: tuple[Bucket, ...]
    same_account: bool = False

    def __str__(self) -> str:
        source = f"{' or '.join(self.from_roles)} [{', '.join(self.from_buckets)}]"
        target = "the same account" if self.same_account else " or ".join(self.to_roles)
        return f"{source} to {target} [{', '.join(self.to_buckets)}]"


class EventType(Struct, frozen=True, kw_only=True):
    """One row of the registry.

    ``moves`` are the allowed directions of value (empty: the event has no entries). Of each group in ``requires`` at
    least one reference must be given; ``needs`` are fields of the command that may not be empty. ``by`` says how it
    comes about: ``post`` through any posting, or by the command of that name. ``reversible``: a reversal may undo it.
    """

    name: str
    group: Group
    summary: str
    moves: tuple[Move, ...] = ()
    requires: tuple[tuple[str, ...], ...] = ()
    needs: tuple[str, ...] = ()
    by: Literal["post", "command"] = "command"
    reversible: bool = False


_HOLDER: tuple[Role, ...] = ("holder", "treasury")
_PARTY: tuple[Role, ...] = ("holder", "treasury", "clearing")
_ANY: tuple[Role, ...] = ("holder", "issuance", "fees", "treasury", "clearing", "external")
_A: tuple[Bucket, ...] = ("available",)
_H: tuple[Bucket, ...] = ("held",)
_B: tuple[Bucket, ...] = ("bonded",)
_F: tuple[Bucket, ...] = ("fees",)
_P: tuple[Bucket, ...] = ("promo",)
_ALL: tuple[Bucket, ...] = ("available", "held", "bonded", "fees", "promo")
_POOL: tuple[Role, ...] = ("fees", "clearing")

_LOCK = Move(_PARTY, _A, _PARTY, _H, same_account=True)
_UNLOCK = Move(_PARTY, _H, _PARTY, _A, same_account=True)
_BOND = Move(_PARTY, _A, _PARTY, _B, same_account=True)
_UNBOND = Move(_PARTY, _B, _PARTY, _A, same_account=True)
_PAID_FROM_HELD = (Move(_PARTY, _H, _PARTY, _A), Move(_PARTY, _H, _POOL, _F))
_BETWEEN_PARTIES = Move(_PARTY, _A, _PARTY, _A)
_CASE = (("escrow", "trial"),)
_ORIGIN = (("escrow", "trial", "order", "netting_batch", "external_ref"),)
_FUNDING = (("tx_hash", "external_ref"),)


def _post(name: str, group: Group, summary: str, *moves: Move, **more: Any) -> EventType:
    return EventType(name=name, group=group, summary=summary, moves=moves, by="post", reversible=True, **more)


def _act(name: str, group: Group, summary: str, *moves: Move, **more: Any) -> EventType:
    return EventType(name=name, group=group, summary=summary, moves=moves, **more)


_ROWS = (
    _post("mint", "supply", "new value is issued", Move(("issuance",), _A, _PARTY, _A)),
    _post("burn", "supply", "value is taken out of issue", Move(_PARTY, _A, ("issuance",), _A)),
    _post("deposit", "supply", "value arrives from outside", Move(("external",), _A, _PARTY, _A), requires=_FUNDING),
    _post("withdrawal", "supply", "value leaves to outside", Move(_PARTY, _A, ("external",), _A), requires=_FUNDING),
    _post(
        "transfer",
        "movement",
        "one account pays another",
        _BETWEEN_PARTIES,
        Move(_HOLDER, _P, _PARTY, _A),
    ),
    _post(
        "settlement",
        "movement",
        "a netted amount is settled through a clearing account",
        Move(("clearing",), _A, _PARTY, _A),
        Move(_PARTY, _A, ("clearing",), _A),
        requires=(("netting_batch",),),
    ),
    _post("fee", "movement", "an account pays into the fee pool", Move(_PARTY, ("available", "promo"), _POOL, _F)),
    _post(
        "fee_transfer",
        "movement",
        "the fee pool pays out",
        Move(_POOL, _F, _PARTY, _A),
        Move(_POOL, _F, _POOL, _F),
        requires=_ORIGIN,
    ),
    _post("fee_burn", "movement", "fees are taken out of issue", Move(_POOL, _F, ("issuance",), _A), requires=_ORIGIN),
    _act("hold", "holds", "an amount is frozen until it is captured, released or expires", _LOCK),
    _act("hold_top_up", "holds", "a hold is made larger", _LOCK),
    _act("hold_extend", "holds", "a hold expires at another time"),
    _act("capture", "holds", "held value is paid out", *_PAID_FROM_HELD, _UNLOCK, reversible=True),
    _act("release", "holds", "held value goes back to its owner", _UNLOCK),
    _act("hold_expire", "holds", "an expired hold goes back to its owner", _UNLOCK),
    _act("stake_lock", "stakes", "an amount is bonded", _BOND, requires=_CASE),
    _act("stake_release", "stakes", "a bond goes back to its owner", _UNBOND, requires=_CASE),
    _act(
        "stake_slash",
        "stakes",
        "a bond is taken and given to a named destination",
        Move(_PARTY, _B, (*_PARTY, "issuance"), _A),
        Move(_PARTY, _B, _POOL, _F),
        requires=_CASE,
        reversible=True,
    ),
    _post("promo_mint", "promo", "promotional credit is issued", Move(("issuance",), _A, _HOLDER, _P)),
    _post("promo_burn", "promo", "promotional credit lapses", Move(_HOLDER, _P, ("issuance",), _A)),
    _post("bonus_credit", "promo", "a bonus is paid", Move(_PARTY, _A, _HOLDER, ("available", "promo"))),
    _act("bet_stake", "betting", "a stake is on game", _LOCK, requires=(("round",),)),
    _act(
        "bet_settlement",
        "betting",
        "a round is decided: the stake goes to the house and the winnings to the player",
        *_PAID_FROM_HELD,
        _UNLOCK,
        _BETWEEN_PARTIES,
        requires=(("round",),),
        reversible=True,
    ),
    _act("bet_rollback", "betting", "a bet is void: the stake goes back", _UNLOCK, requires=(("round",),)),
    _post("spot_payment", "cells", "a member pays a member", Move(("holder",), _A, ("holder",), _A)),
    _act("commitment_create", "cells", "a member reserves capacity", _LOCK, requires=(("commitment",),)),
    _act(
        "commitment_fulfil",
        "cells",
        "a commitment is kept: reserve is freed, and the promised amount paid",
        _UNLOCK,
        _BETWEEN_PARTIES,
        requires=(("commitment",),),
    ),
    _act(
        "commitment_cancel",
        "cells",
        "a commitment is dropped: reserve is freed",
        _UNLOCK,
        requires=(("commitment",),),
    ),
    _post(
        "federation_import",
        "cells",
        "a member pays into another cell",
        Move(("holder",), _A, ("clearing",), _A),
        requires=(("external_ref",),),
    ),
    _post(
        "federation_export",
        "cells",
        "a member is paid from another cell",
        Move(("clearing",), _A, ("holder",), _A),
        requires=(("external_ref",),),
    ),
    _post(
        "federation_rollback",
        "cells",
        "one leg of a federated payment is undone",
        Move(("holder",), _A, ("clearing",), _A),
        Move(("clearing",), _A, ("holder",), _A),
        requires=(("external_ref",),),
    ),
    _post(
        "governance_adjustment",
        "cells",
        "governance moves balances; they still add up to zero",
        _BETWEEN_PARTIES,
        needs=("reason",),
    ),
    _act("reversal", "repair", "an earlier transaction is undone, whole or in part", Move(_ANY, _ALL, _ANY, _ALL)),
    _post(
        "adjustment",
        "repair",
        "an error is put right",
        Move(_ANY, ("available", "fees", "promo"), _ANY, ("available", "fees", "promo")),
        requires=(("corrects",),),
        needs=("reason", "actor"),
    ),
    _act("ledger_opened", "state", "the ledger begins"),
    _act("asset_defined", "state", "an asset may be used"),
    _act("account_opened", "state", "an account is declared"),
    _act("account_frozen", "state", "an account may be paid but cannot pay"),
    _act("account_unfrozen", "state", "an account is active again"),
    _act("account_excluded", "state", "a member leaves; what is left goes to a named account", _BETWEEN_PARTIES),
    _act("account_closed", "state", "an account ends; what is left goes to a named account", _BETWEEN_PARTIES),
    _act("limit_set", "state", "an account's debt limit or ceiling changes"),
    _act("policy_set", "state", "the ledger's rules change"),
    _act("type_defined", "state", "a transaction type of this ledger's own is defined"),
    _act("reserve_recorded", "state", "a reserve asset is recorded with its value and haircut"),
    _act("attestation_issued", "state", "a signed statement of coverage is issued"),
    _act("period_closed", "state", "nothing may take effect before this time any more"),
    _act("key_rotated", "state", "the ledger's signing key changes"),
    _act("charge_finalized", "state", "a captured charge is final"),
)

EVENT_TYPES: dict[str, EventType] = {row.name: row for row in _ROWS}
"""Every event type by name."""

if len(EVENT_TYPES) != len(_ROWS):  # pragma: no cover - a mistake in this file
    raise AssertionError("an event type stands twice in the registry")
