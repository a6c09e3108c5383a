"""What operators and owners work with, on the wire: keys, endpoints, deliveries, jobs and reports."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from tallystick.control.records import ApiKey, Attempt, Delivery, Endpoint, JobRun, KeptReport, Lease, Mandate, Scope
from tallystick.wire.amounts import Digits, minor
from tallystick.wire.fields import (
    Address,
    AddressPrefix,
    Asset,
    FreeText,
    LedgerName,
    LedgerNameOrAll,
    MaybeTime,
    NotNegative,
)

Name = Annotated[str, Meta(min_length=1, max_length=100)]
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class NoMore(Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing more is to be said."""


# ---------------------------------------------------------------- keys


class ScopeRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One permission: a verb, in one ledger (``*``: in all), on accounts that begin with a prefix (empty: on all).

    A prefix is an address, and covers it and all beneath it: ``users:alice`` covers ``users:alice:savings``, and not
    ``users:alice2``; one that ends with a colon covers what is beneath it alone.
    """

    verb: Literal["read", "post", "issue", "govern", "audit", "deliver", "keys"]
    ledger: LedgerNameOrAll = "*"
    account_prefix: AddressPrefix = ""


class MandateRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """What an agent may spend: from one account, in one asset; per act and per UTC day.

    ``payees`` are addresses, or prefixes that end with ``*``; none named: anyone. After ``expires`` nothing goes.
    """

    ledger: LedgerName
    account: Address
    asset: Asset
    max_per_act: NotNegative | None = None
    max_per_day: NotNegative | None = None
    payees: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=255)], ...], Meta(max_length=1_000)] = ()
    expires: MaybeTime = ""


class KeyRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A key that is to be made. ``subject`` is whom it speaks for: the source of its idempotency keys, and the actor of
    its events. ``role`` and ``scopes`` add up. ``signer``: the did:key that must sign its writes."""

    subject: Name
    role: Literal["", "admin", "writer", "reader", "auditor", "public"] = ""
    scopes: Annotated[list[ScopeRequest], Meta(max_length=100)] = field(default_factory=list)
    mandate: MandateRequest | None = None
    signer: Annotated[str, Meta(max_length=255)] = ""
    expires: MaybeTime = ""
    requests_per_second: Annotated[int, Meta(ge=0, le=1_000_000)] = 0


class RotateKeyRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """``keep_seconds``: how long the old key goes on, so that its holders can change over."""

    keep_seconds: Annotated[int, Meta(ge=0, le=31 * 86_400)] = 86_400


class MandateAnswer(Struct, frozen=True):
    """What an agent may spend."""

    ledger: str
    account: str
    asset: str
    max_per_act: Digits | None
    max_per_day: Digits | None
    payees: list[str]
    expires: str


class KeyAnswer(Struct, frozen=True):
    """A key as it is kept: never its secret. ``revoked``: since when it is none any more."""

    id: str
    subject: str
    role: str
    scopes: list[Scope]
    mandate: MandateAnswer | None
    signer: str
    requests_per_second: int
    created: str
    expires: str
    revoked: str


class NewKeyAnswer(KeyAnswer, frozen=True):
    """A key that was made. ``token`` is what its holder sends, and is shown this once: a repeat has none."""

    token: str


def mandate_of(request: MandateRequest | None) -> Mandate | None:
    if request is None:
        return None
    return Mandate(
        request.ledger,
        request.account,
        request.asset,
        _maybe_minor(request.max_per_act, "mandate.max_per_act"),
        _maybe_minor(request.max_per_day, "mandate.max_per_day"),
        request.payees,
        request.expires,
    )


def _maybe_minor(amount: Any, path: str) -> int | None:
    return None if amount is None else minor(amount, path)


def scopes_of(request: KeyRequest) -> list[Scope]:
    return [Scope(scope.verb, scope.ledger, scope.account_prefix) for scope in request.scopes]


def key_answer(key: ApiKey) -> KeyAnswer:
    return KeyAnswer(**_key_fields(key))


def new_key_answer(key: ApiKey, token: str) -> NewKeyAnswer:
    return NewKeyAnswer(token=token, **_key_fields(key))


def _key_fields(key: ApiKey) -> dict[str, Any]:
    names = ("id", "subject", "role", "signer", "requests_per_second", "created", "expires", "revoked")
    found = {name: getattr(key, name) for name in names}
    return {**found, "scopes": list(key.scopes), "mandate": _mandate_answer(key.mandate)}


def _mandate_answer(mandate: Mandate | None) -> MandateAnswer | None:
    if mandate is None:
        return None
    per_act, per_day = (None if limit is None else str(limit) for limit in (mandate.max_per_act, mandate.max_per_day))
    return MandateAnswer(
        ledger=mandate.ledger,
        account=mandate.account,
        asset=mandate.asset,
        max_per_act=per_act,
        max_per_day=per_day,
        payees=list(mandate.payees),
        expires=mandate.expires,
    )


# ---------------------------------------------------------------- endpoints and deliveries

Kind = Literal["webhook", "sns", "sqs", "eventbridge", "nats"]
Url = Annotated[str, Meta(min_length=1, max_length=2_048)]
Types = Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(max_length=100)]
Setting = Annotated[str, Meta(max_length=1_024)]
Settings = Annotated[dict[Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$(?!\n)")], Setting], Meta(max_length=20)]


class EndpointRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Who is to be told of a ledger's events.

    ``types`` and ``account_prefix`` filter what it is told (empty: everything); ``mapping`` ``billing`` tells of holds
    and charges alone, in a form of their own. ``signatures``: ``v1`` by a shared secret, ``v1a`` by a key pair.
    ``start`` is the number of the first event (none: only what comes from now on). ``settings`` are the kind's own.
    """

    url: Url
    kind: Kind = "webhook"
    types: Types = field(default_factory=list)
    account_prefix: AddressPrefix = ""
    mapping: Literal["", "billing"] = ""
    signatures: Annotated[list[Literal["v1", "v1a"]], Meta(min_length=1, max_length=2)] = field(
        default_factory=lambda: ["v1"]
    )
    settings: Settings = field(default_factory=dict)
    start: Count | None = None


class EndpointChange(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is to be different: what is not named stays as it is. ``disabled``: what comes meanwhile waits."""

    url: Url | UnsetType = UNSET
    types: Types | UnsetType = UNSET
    account_prefix: AddressPrefix | UnsetType = UNSET
    settings: Settings | UnsetType = UNSET
    state: Literal["enabled", "disabled"] | UnsetType = UNSET


class RotateSecretRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """``signature``: which kind of secret. ``end``: no new one; from now on the newest of each kind alone signs."""

    signature: Literal["v1", "v1a"] = "v1"
    end: bool = False


class RedeliverRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Either an ``id`` such as ``main/12``, or ``first`` to ``last`` (without a ``last``: the first alone)."""

    id: FreeText = ""
    first: Count | None = None
    last: Count | None = None


class EndpointAnswer(Struct, frozen=True):
    """Who is told of a ledger's events. ``cursor`` is the number of the first event that was not taken up yet;
    ``reason`` is why it is disabled. Secrets are not shown; ``public_keys`` are the halves that receivers check by."""

    id: str
    ledger: str
    kind: str
    url: str
    types: list[str]
    account_prefix: str
    mapping: str
    settings: dict[str, str]
    state: Literal["enabled", "disabled"]
    reason: str
    owner: str
    start: int
    cursor: int
    created: str
    public_keys: list[str]


class EndpointSecretsAnswer(EndpointAnswer, frozen=True):
    """An endpoint, and its secrets, the newest first: what its receiver checks signatures by."""

    secrets: list[str]


class RemovedAnswer(Struct, frozen=True):
    """What was removed."""

    id: str


class PingAnswer(Struct, frozen=True):
    """How a test message was received. ``status`` is the receiver's HTTP status, 0 if there was no answer."""

    accepted: bool
    status: int
    problem: str


class RedeliveredAnswer(Struct, frozen=True):
    """How many events are told again, how many the filter leaves out, and how many will be told in any case."""

    asked: int
    filtered: int
    still_to_come: int


class DeliveryAnswer(Struct, frozen=True):
    """An event that was not accepted yet: ``waiting`` for its next try at ``due``, or ``dead`` after its last."""

    id: str
    seq: int
    state: Literal["waiting", "dead"]
    attempts: int
    due: str
    problem: str
    redelivery: bool


class AttemptAnswer(Struct, frozen=True):
    """One try: when, how it ended (``problem`` is empty if it was accepted), and how long it took."""

    id: str
    seq: int
    number: int
    time: str
    status: int
    problem: str
    milliseconds: int


def endpoint_fields(endpoint: Endpoint, cursor: int, public_keys: list[str]) -> dict[str, Any]:
    """What an answer shows of an endpoint, secrets apart."""
    names = ("id", "ledger", "kind", "url", "account_prefix", "mapping", "settings", "state", "reason", "owner")
    found = {name: getattr(endpoint, name) for name in (*names, "start", "created")}
    return {**found, "types": list(endpoint.types), "cursor": cursor, "public_keys": public_keys}


def delivery_answer(ledger: str, row: Delivery) -> DeliveryAnswer:
    id = f"{ledger}/{row.seq}"
    return DeliveryAnswer(id, row.seq, row.state, row.attempts, row.due, row.problem, row.redelivery)


def attempt_answer(ledger: str, row: Attempt) -> AttemptAnswer:
    id = f"{ledger}/{row.seq}"
    return AttemptAnswer(id, row.seq, row.number, row.time, row.status, row.problem, row.milliseconds)


# ---------------------------------------------------------------- jobs and reports


class RunAnswer(Struct, frozen=True):
    """A run of a job over a ledger (``*``: over none in particular). ``outcome`` is ``running``, ``done``, ``failed``
    or ``mismatch``; ``lag_seconds`` is how far behind it was when it began."""

    job: str
    ledger: str
    started: str
    finished: str
    outcome: str
    detail: str
    lag_seconds: float
    holder: str


class LeaseAnswer(Struct, frozen=True):
    """Which process does a job, until when; one that was given back has no ``holder``."""

    name: str
    holder: str
    until: str
    token: int


class ReportSummary(Struct, frozen=True):
    """A reconciliation: when it began, and whether the books are what the journal says."""

    id: int
    ledger: str
    time: str
    ok: bool


class ReportAnswer(ReportSummary, frozen=True):
    """A reconciliation, with the whole ``report`` as it was written."""

    report: dict[str, Any]


def run_answer(run: JobRun) -> RunAnswer:
    return RunAnswer(
        run.job, run.ledger, run.started, run.finished, run.outcome, run.detail, run.lag_seconds, run.holder
    )


def lease_answer(lease: Lease) -> LeaseAnswer:
    return LeaseAnswer(lease.name, lease.holder, lease.until, lease.token)


def report_summary(found: KeptReport) -> ReportSummary:
    return ReportSummary(found.id, found.ledger, found.time, found.ok)


def report_answer(found: KeptReport) -> ReportAnswer:
    return ReportAnswer(found.id, found.ledger, found.time, found.ok, found.body)
