"""The operator's records: frozen values. Times are journal times (UTC, microseconds), amounts minor units."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

Verb = Literal["read", "post", "issue", "govern", "audit", "deliver", "keys"]
"""What a key may do: read; move value; bring value in and out of issue; declare accounts and rules; read evidence and
reports and run checks; keep webhooks and sinks; make and end keys."""


class Scope(Struct, frozen=True, forbid_unknown_fields=True):
    """One permission: a verb, in one ledger (``*``: in all), on accounts that begin with a prefix (empty: on all).

    A prefix is an address, and covers it and all beneath it: ``users:alice`` covers ``users:alice:savings``, and not
    ``users:alice2``; one that ends with a colon covers what is beneath it alone.
    """

    verb: Verb
    ledger: str = "*"
    account_prefix: str = ""


class Mandate(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What an agent may spend: from one account of one ledger, in one asset, minor units; per act and per UTC day.

    ``payees`` are addresses, or prefixes that end with ``*``; none named: anyone. After ``expires`` nothing goes.
    """

    ledger: str
    account: str
    asset: str
    max_per_act: int | None = None
    max_per_day: int | None = None
    payees: tuple[str, ...] = ()
    expires: str = ""


class ApiKey(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An API key as it is kept: never the secret, only its SHA-256.

    ``subject`` is who it speaks for, and stays the same through rotations: it is the ``source`` of idempotency keys
    and, as ``key:<subject>``, the actor of events. ``id`` is what is looked up: the part of the token before its
    secret.
    """

    id: str
    secret_hash: str
    subject: str
    role: str = ""
    scopes: tuple[Scope, ...] = ()
    mandate: Mandate | None = None
    signer: str = ""
    """The did:key that must sign this key's writes; empty: none has to."""
    requests_per_second: int = 0
    """0: the service's default."""
    created: str = ""
    expires: str = ""
    revoked: str = ""


class Endpoint(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who is told of a ledger's events: a webhook, or a sink (``sns``, ``sqs``, ``eventbridge``, ``nats``, ``file``).

    ``types`` and ``account_prefix`` filter what it is told (empty: everything); ``mapping`` names another form than the
    event itself (``billing``). ``secrets`` are the signing secrets, newest first: all of them sign during a rotation.
    ``start`` is the number of the first event that it is told.
    """

    id: str
    ledger: str
    kind: str = "webhook"
    url: str = ""
    types: tuple[str, ...] = ()
    account_prefix: str = ""
    mapping: str = ""
    secrets: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    state: Literal["enabled", "disabled"] = "enabled"
    reason: str = ""
    owner: str = ""
    """The subject of the key that made it."""
    start: int = 0
    created: str = ""


class Attempt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One try at a delivery, for the log: when, how it ended, and how long it took."""

    endpoint: str
    seq: int
    number: int
    """1 for the first try."""
    time: str
    status: int = 0
    """The HTTP status; 0: there was no answer, or the sink has none."""
    problem: str = ""
    """Why it failed; empty: it was accepted."""
    milliseconds: int = 0


class Delivery(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event that its endpoint has not accepted yet, or that was asked for again.

    The events below an endpoint's cursor that are not among these were accepted, or its filter left them out. ``lanes``
    are the accounts that it is about: a later event of the same account waits behind it.
    """

    endpoint: str
    seq: int
    state: Literal["waiting", "dead"] = "waiting"
    attempts: int = 0
    due: str = ""
    """Not before this time; empty: now."""
    problem: str = ""
    lanes: tuple[str, ...] = ()
    redelivery: bool = False


class Lease(Struct, frozen=True):
    """The right of one process to do a job, until it ends. ``token`` grows whenever it is taken anew, and stays as it
    is while it is renewed. One that was let go of has no ``holder``."""

    name: str
    holder: str
    until: str
    token: int


class JobRun(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run of a job over one ledger: ``outcome`` is ``running``, ``done``, ``failed`` or ``mismatch``.

    ``lag_seconds`` is how far behind it was when it began (how old the oldest thing was that it had to do).
    """

    job: str
    ledger: str
    started: str
    finished: str = ""
    outcome: str = "running"
    detail: str = ""
    lag_seconds: float = 0.0
    holder: str = ""


class KeptReport(Struct, frozen=True, kw_only=True):
    """The report of a reconciliation, as it was written: one JSON document."""

    id: int
    ledger: str
    time: str
    ok: bool
    body: dict[str, Any]
