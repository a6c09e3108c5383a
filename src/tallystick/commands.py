"""Commands: what a caller asks of a ledger. Each becomes exactly one event, or is refused.

Every command bears an idempotency ``key``, unique within its ``source``: asking again gives the first answer again.
Amounts are whole minor units. Nothing here is checked on construction; the kernel validates once, completely.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
from msgspec import Struct, field

from tallystick.accounts import Bucket
from tallystick.erasable import Erasable


class Condition(Struct, frozen=True, omit_defaults=True):
    """What must hold of a balance for a command to go through, judged in the same instant as the posting.

    ``version`` is compared with the balance's version before the command; ``at_least`` and ``at_most`` (minor units)
    with its amount after it.
    """

    account: str
    asset: str
    bucket: Bucket = "available"
    version: int | None = None
    at_least: int | None = None
    at_most: int | None = None


class Command(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag_field="command"):
    """What every command carries beside its own fields.

    ``refs`` are the typed causal references. ``metadata`` is free text of the caller's, up to 64 entries of 1,024
    characters; it and ``reason`` may be Erasable, of which the event keeps only a commitment. ``conditions`` are judged
    with the posting, 100 at most.
    """

    event_type: ClassVar[str] = ""

    key: str
    source: str = "local"
    actor: str = ""
    reason: str | Erasable = ""
    refs: dict[str, str] | None = None
    metadata: Mapping[str, str | Erasable] | None = None
    conditions: tuple[Condition, ...] = ()


def request_digest(command: Command) -> str:
    """What tells one request from another under the same key: 128 bits of SHA-256, in hex.

    Equal commands have equal digests, and a field that stands at its default does not count, so that a field added
    later changes no digest.
    """
    return hashlib.sha256(msgspec.json.encode(_with_own_defaults(command), order="deterministic")).hexdigest()[:32]


def _with_own_defaults(value: Any) -> Any:
    """The same value with each field that equals its default holding the default itself.

    The encoder leaves a field out only if it holds the very object that is the default: a "local" that was read from
    somewhere would be written out, and the same request would look like another.
    """
    if isinstance(value, tuple | list):
        return tuple(_with_own_defaults(item) for item in value) if value else value
    if not isinstance(value, Struct):
        return value
    changes = {}
    for name, default in _defaults(type(value)):
        found = getattr(value, name)
        if found is default or found is None:
            continue
        settled = default if type(found) is type(default) and found == default else _with_own_defaults(found)
        if settled is not found:
            changes[name] = settled
    return msgspec.structs.replace(value, **changes) if changes else value


@functools.cache
def _defaults(kind: type[Struct]) -> tuple[tuple[str, Any], ...]:
    """Every field of a struct with its default, or NODEFAULT."""
    return tuple((found.name, found.default) for found in msgspec.structs.fields(kind))


class Transfer(Command, frozen=True, tag="transfer"):
    """One account pays another: the short form of a Post of type transfer with one leg, and the fastest one."""

    event_type = "transfer"

    from_account: str
    to_account: str
    asset: str
    amount: int


class Leg(Struct, frozen=True, omit_defaults=True):
    """An amount that leaves one account's bucket and enters another's."""

    from_account: str
    to_account: str
    asset: str
    amount: int
    from_bucket: Bucket = "available"
    to_bucket: Bucket = "available"


class Post(Command, frozen=True, tag="post"):
    """Any posting: a type of the registry that is made ``by`` post (or one of the ledger's own), and its legs.

    ``effective`` back-dates it (journal time or ISO 8601).
    """

    type: str
    legs: tuple[Leg, ...]
    effective: str = ""


class Hold(Command, frozen=True, tag="hold"):
    """Freeze an amount. It expires at ``expires``, or ``expires_in_seconds`` from now, or by the ledger's policy."""

    event_type = "hold"

    account: str
    asset: str
    amount: int
    expires: str = ""
    expires_in_seconds: int | None = None


class HoldTopUp(Command, frozen=True, tag="hold_top_up"):
    """Make an open hold larger."""

    event_type = "hold_top_up"

    hold: str
    amount: int


class HoldExtend(Command, frozen=True, tag="hold_extend"):
    """Give an open hold another expiry."""

    event_type = "hold_extend"

    hold: str
    expires: str = ""
    expires_in_seconds: int | None = None


class Split(Struct, frozen=True, omit_defaults=True):
    """A part of a capture: how much goes to whom (None: all that the others leave); to a pool, in bucket ``fees``."""

    to_account: str
    amount: int | None = None
    to_bucket: Bucket = "available"


class Capture(Command, frozen=True, tag="capture"):
    """Pay out of an open hold, to one payee or several. ``final`` gives back what is left, in the same event."""

    event_type = "capture"

    hold: str
    splits: tuple[Split, ...]
    final: bool = True


class Release(Command, frozen=True, tag="release"):
    """Give an open hold back, whole (no amount) or in part."""

    event_type = "release"

    hold: str
    amount: int | None = None


class HoldExpire(Command, frozen=True, tag="hold_expire"):
    """Give back a hold whose time has passed."""

    event_type = "hold_expire"

    hold: str


class StakeLock(Command, frozen=True, tag="stake_lock"):
    """Bond an amount; needs a reference to an escrow or a trial."""

    event_type = "stake_lock"

    account: str
    asset: str
    amount: int


class StakeRelease(Command, frozen=True, tag="stake_release"):
    """Give a bond back, whole or in part."""

    event_type = "stake_release"

    stake: str
    amount: int | None = None


class StakeSlash(Command, frozen=True, tag="stake_slash"):
    """Take a bond, whole or in part, for a named destination. Burning is explicit: name ``@issuance``."""

    event_type = "stake_slash"

    stake: str
    to_account: str
    amount: int | None = None
    to_bucket: Bucket = "available"


class BetStake(Command, frozen=True, tag="bet_stake"):
    """Put a stake on game; needs a reference to a round."""

    event_type = "bet_stake"

    account: str
    asset: str
    amount: int


class BetSettlement(Command, frozen=True, tag="bet_settlement"):
    """Decide a bet: the house takes the stake and pays ``payout`` (0 for a lost bet), net of the stake or more."""

    event_type = "bet_settlement"

    bet: str
    house: str
    payout: int


class BetRollback(Command, frozen=True, tag="bet_rollback"):
    """Void a bet that has not been settled."""

    event_type = "bet_rollback"

    bet: str


class CommitmentCreate(Command, frozen=True, tag="commitment_create"):
    """Reserve capacity of a member for the commitment in ``refs``; again for the same one adds to it."""

    event_type = "commitment_create"

    member: str
    asset: str
    amount: int


class CommitmentFulfil(Command, frozen=True, tag="commitment_fulfil"):
    """Free reserve (all, or ``amount``) of the commitment in ``refs``, and pay the promised legs in the same event."""

    event_type = "commitment_fulfil"

    member: str
    asset: str
    amount: int | None = None
    legs: tuple[Leg, ...] = ()


class CommitmentCancel(Command, frozen=True, tag="commitment_cancel"):
    """Free reserve (all, or ``amount``) of the commitment in ``refs``."""

    event_type = "commitment_cancel"

    member: str
    asset: str
    amount: int | None = None


class Reverse(Command, frozen=True, tag="reverse"):
    """Undo a transaction: whole, or ``amount`` of one with a single payer and payee, or just these ``legs``.

    Legs name the way back (from who was paid). No amount is ever reversed twice. Value that had been held, bonded or
    on game comes back as available.
    """

    event_type = "reversal"

    transaction: str
    amount: int | None = None
    legs: tuple[Leg, ...] = ()


class FinalizeCharge(Command, frozen=True, tag="finalize_charge"):
    """Declare a captured charge final."""

    event_type = "charge_finalized"

    charge: str


class OpenAccount(Command, frozen=True, tag="open_account"):
    """Declare an account. ``limits`` make it a member; ``floorless`` is for clearing accounts alone."""

    event_type = "account_opened"

    account: str
    limits: dict[str, int] = field(default_factory=dict)
    ceilings: dict[str, int] = field(default_factory=dict)
    floorless: bool = False
    owner: str = ""


class FreezeAccount(Command, frozen=True, tag="freeze_account"):
    """Stop an account from paying."""

    event_type = "account_frozen"

    account: str


class UnfreezeAccount(Command, frozen=True, tag="unfreeze_account"):
    """Let a frozen account pay again."""

    event_type = "account_unfrozen"

    account: str


class ExcludeAccount(Command, frozen=True, tag="exclude_account"):
    """Remove a member for good. What it owns or owes goes to ``settle_to``; without one it must be at zero."""

    event_type = "account_excluded"

    account: str
    settle_to: str = ""


class CloseAccount(Command, frozen=True, tag="close_account"):
    """End an account for good. What it owns or owes goes to ``settle_to``; without one it must be at zero."""

    event_type = "account_closed"

    account: str
    settle_to: str = ""


class SetLimit(Command, frozen=True, tag="set_limit"):
    """Set an account's debt limit or ceiling in one asset, in minor units; ``clear_ceiling`` lifts a ceiling."""

    event_type = "limit_set"

    account: str
    asset: str
    limit: int | None = None
    ceiling: int | None = None
    clear_ceiling: bool = False


class SetPolicy(Command, frozen=True, tag="set_policy"):
    """Change the ledger's rules: any of the fields of ``tallystick.kernel.Policy``."""

    event_type = "policy_set"

    changes: dict[str, Any]


class DefineAsset(Command, frozen=True, tag="define_asset"):
    """Allow an asset (a ledger that is not strict does so on first use)."""

    event_type = "asset_defined"

    asset: str
    name: str = ""


class DefineType(Command, frozen=True, tag="define_type"):
    """Define a transaction type of this ledger's own, narrower than ``base``: with required references of its own."""

    event_type = "type_defined"

    name: str
    base: str = "transfer"
    requires: tuple[str, ...] = ()
    summary: str = ""


class RecordReserve(Command, frozen=True, tag="record_reserve"):
    """Record a reserve asset's value in minor units and its haircut in basis points (10000 counts nothing)."""

    event_type = "reserve_recorded"

    reserve: str
    asset: str
    value: int
    haircut_bps: int = 10_000
    provider: str = ""
    valid_until: str = ""


class IssueAttestation(Command, frozen=True, tag="issue_attestation"):
    """Record that a signed attestation was issued: its digest (SHA-256, hex) and what it covers."""

    event_type = "attestation_issued"

    digest: str
    statement: dict[str, str] = field(default_factory=dict)


class ClosePeriod(Command, frozen=True, tag="close_period"):
    """Refuse from now on everything that would take effect before ``until``."""

    event_type = "period_closed"

    until: str


class RotateKey(Command, frozen=True, tag="rotate_key"):
    """Record the ledger's new public signing key, as a verifier key or did:key."""

    event_type = "key_rotated"

    public_key: str


class OpenLedger(Command, frozen=True, tag="open_ledger"):
    """The first command of every ledger."""

    event_type = "ledger_opened"

    name: str
    policy: dict[str, Any] = field(default_factory=dict)


AnyCommand = (
    Transfer
    | Post
    | Hold
    | HoldTopUp
    | HoldExtend
    | Capture
    | Release
    | HoldExpire
    | StakeLock
    | StakeRelease
    | StakeSlash
    | BetStake
    | BetSettlement
    | BetRollback
    | CommitmentCreate
    | CommitmentFulfil
    | CommitmentCancel
    | Reverse
    | FinalizeCharge
    | OpenAccount
    | FreezeAccount
    | UnfreezeAccount
    | ExcludeAccount
    | CloseAccount
    | SetLimit
    | SetPolicy
    | DefineAsset
    | DefineType
    | RecordReserve
    | IssueAttestation
    | ClosePeriod
    | RotateKey
    | OpenLedger
)
"""Every command, as one tagged union: ``{"command": "hold", ...}`` on the wire."""
