"""Operators: what they do beside the books. Endpoints of a ledger and their deliveries; reports; keys and jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Unpack

from tallystick.client.asking import Ask, Keyed, get, listing, post, read, send, write
from tallystick.client.reads import HERE
from tallystick.wire.answers import HealthAnswer, LedgerAnswer, ReadyAnswer
from tallystick.wire.operators import (
    AttemptAnswer,
    DeliveryAnswer,
    EndpointAnswer,
    EndpointSecretsAnswer,
    KeyAnswer,
    Kind,
    LeaseAnswer,
    MandateRequest,
    NewKeyAnswer,
    PingAnswer,
    RedeliveredAnswer,
    RemovedAnswer,
    ReportAnswer,
    ReportSummary,
    RunAnswer,
    ScopeRequest,
)

ENDPOINTS = f"{HERE}/endpoints"
ENDPOINT = f"{ENDPOINTS}/{{endpoint}}"
REPORTS = f"{HERE}/reports"
KEY = "/v1/keys/{key}"

Signature = Literal["v1", "v1a"]


class Endpoints:
    """Who is told of a ledger's events, and what became of it."""

    @post(ENDPOINTS, EndpointSecretsAnswer)
    def create_endpoint(
        self,
        url: str,
        *,
        kind: Kind = "webhook",
        types: Iterable[str] = (),
        account_prefix: str = "",
        mapping: Literal["", "billing"] = "",
        signatures: Sequence[Signature] = ("v1",),
        settings: Mapping[str, str] | None = None,
        start: int | None = None,
        **keyed: Unpack[Keyed],
    ) -> Ask:
        """Have somebody told of the ledger's events, from now on or from event ``start`` on. The answer has the
        secrets that its receiver checks signatures by."""
        filters = {"types": list(types), "account_prefix": account_prefix, "mapping": mapping}
        how = {"signatures": list(signatures), "settings": dict(settings or {}), "start": start}
        return write(keyed, url=url, kind=kind, **filters, **how)

    @listing(ENDPOINTS, EndpointAnswer)
    def endpoints(self, *, limit: int | None = None, cursor: str = "") -> Ask:
        """The endpoints that this key may see."""
        return read(limit=limit, cursor=cursor)

    @get(ENDPOINT, EndpointAnswer)
    def endpoint(self, id: str) -> Ask:
        """An endpoint, and how far it is."""
        return read().at(endpoint=id)

    @send("PATCH", ENDPOINT, EndpointAnswer)
    def change_endpoint(
        self,
        id: str,
        *,
        url: str | None = None,
        types: Iterable[str] | None = None,
        account_prefix: str | None = None,
        settings: Mapping[str, str] | None = None,
        state: Literal["enabled", "disabled"] | None = None,
        **keyed: Unpack[Keyed],
    ) -> Ask:
        """Change an endpoint; what is None stays as it is."""
        filters = {"types": None if types is None else list(types), "account_prefix": account_prefix}
        return write(keyed, url=url, settings=settings, state=state, **filters).at(endpoint=id)

    @send("DELETE", ENDPOINT, RemovedAnswer)
    def remove_endpoint(self, id: str, **keyed: Unpack[Keyed]) -> Ask:
        """Remove an endpoint, with all that waits for it. Raises NotFound for one that was removed before, which may
        have been by an earlier try of this same call."""
        return Ask(key=keyed.get("key", "")).at(endpoint=id)

    @post(f"{ENDPOINT}/enable", EndpointAnswer)
    def enable_endpoint(self, id: str, **keyed: Unpack[Keyed]) -> Ask:
        """Deliver again to an endpoint that was disabled, what waited first."""
        return write(keyed).at(endpoint=id)

    @post(f"{ENDPOINT}/rotate-secret", EndpointSecretsAnswer)
    def rotate_secret(self, id: str, *, signature: Signature = "v1", end: bool = False, **keyed: Unpack[Keyed]) -> Ask:
        """Put a new secret before the present one; both sign until the next rotation, or until ``end``."""
        return write(keyed, signature=signature, end=end).at(endpoint=id)

    @post(f"{ENDPOINT}/ping", PingAnswer)
    def ping_endpoint(self, id: str, **keyed: Unpack[Keyed]) -> Ask:
        """Send a webhook a test message, once."""
        return write(keyed).at(endpoint=id)

    @post(f"{ENDPOINT}/redeliver", RedeliveredAnswer)
    def redeliver(
        self,
        endpoint_id: str,
        *,
        id: str = "",
        first: int | None = None,
        last: int | None = None,
        **keyed: Unpack[Keyed],
    ) -> Ask:
        """Have events told again: the one of an ``id`` such as ``main/12``, or numbers ``first`` to ``last``."""
        return write(keyed, id=id or None, first=first, last=last).at(endpoint=endpoint_id)

    @listing(f"{ENDPOINT}/deliveries", DeliveryAnswer)
    def deliveries(
        self,
        endpoint_id: str,
        *,
        state: Literal["", "waiting", "dead"] = "",
        limit: int | None = None,
        cursor: str = "",
    ) -> Ask:
        """What an endpoint has not accepted, in the order of the journal."""
        return read(state=state, limit=limit, cursor=cursor).at(endpoint=endpoint_id)

    @listing(f"{ENDPOINT}/attempts", AttemptAnswer)
    def attempts(self, endpoint_id: str, *, seq: int | None = None, limit: int | None = None, cursor: str = "") -> Ask:
        """The log of tries, newest first."""
        return read(seq=seq, limit=limit, cursor=cursor).at(endpoint=endpoint_id)


class Reports:
    """Reconciliations: the journal replayed, and compared with what the books say."""

    @post(REPORTS, ReportAnswer)
    def reconcile(self, **keyed: Unpack[Keyed]) -> Ask:
        """Replay the whole ledger now, and keep the report. Give it time: see the client's ``timeout``."""
        return Ask(key=keyed.get("key", ""))

    @listing(REPORTS, ReportSummary)
    def reports(self, *, limit: int | None = None, cursor: str = "") -> Ask:
        """The reconciliations of the ledger, newest first."""
        return read(limit=limit, cursor=cursor)

    @get(f"{REPORTS}/latest", ReportAnswer)
    def latest_report(self) -> Ask:
        """The newest report, whole."""
        return read()

    @get(f"{REPORTS}/{{report}}", ReportAnswer)
    def report(self, id: int) -> Ask:
        """A report, whole."""
        return read().at(report=id)


# ---------------------------------------------------------------- of the service as a whole


class Ledgers:
    """Which ledgers there are."""

    @listing("/v1/ledgers", str)
    def ledgers(self) -> Ask:
        """The ledgers in which this key may read."""
        return read()

    @post("/v1/ledgers", LedgerAnswer)
    def create_ledger(self, name: str, *, policy: Mapping[str, Any] | None = None, **keyed: Unpack[Keyed]) -> Ask:
        """Make a ledger, or find it as it is."""
        return write(keyed, name=name, policy=dict(policy or {}))


class Keys:
    """API keys. Nobody gives away more than he has."""

    @post("/v1/keys", NewKeyAnswer)
    def create_key(
        self,
        subject: str,
        *,
        role: Literal["", "admin", "writer", "reader", "auditor", "public"] = "",
        scopes: Sequence[ScopeRequest] = (),
        mandate: MandateRequest | None = None,
        signer: str = "",
        expires: str = "",
        requests_per_second: int = 0,
        **keyed: Unpack[Keyed],
    ) -> Ask:
        """Make a key. ``token`` is in the answer, this once: if the first answer was lost on its way and the client
        asked again, it is empty, and the key is to be rotated or revoked."""
        whom = {"subject": subject, "role": role, "scopes": list(scopes), "mandate": mandate, "signer": signer}
        return write(keyed, **whom, expires=expires, requests_per_second=requests_per_second)

    @listing("/v1/keys", KeyAnswer)
    def keys(self, *, subject: str = "", limit: int | None = None, cursor: str = "") -> Ask:
        """The keys that this key may manage; revoked and expired ones too."""
        return read(subject=subject, limit=limit, cursor=cursor)

    @get(KEY, KeyAnswer)
    def get_key(self, id: str) -> Ask:
        """A key as it is kept, without its secret."""
        return read().at(key=id)

    @post(f"{KEY}/rotate", NewKeyAnswer)
    def rotate_key(self, id: str, *, keep_seconds: int | None = None, **keyed: Unpack[Keyed]) -> Ask:
        """Make a key in the place of another, which goes on for ``keep_seconds`` (None: a day). Of ``token`` the same
        holds as for ``create_key``."""
        return write(keyed, keep_seconds=keep_seconds).at(key=id)

    @post(f"{KEY}/revoke", KeyAnswer)
    def revoke_key(self, id: str, **keyed: Unpack[Keyed]) -> Ask:
        """End a key, for good."""
        return write(keyed).at(key=id)


class Jobs:
    """What runs beside the requests."""

    @listing("/v1/jobs", RunAnswer)
    def jobs(self, *, job: str = "", limit: int | None = None, cursor: str = "") -> Ask:
        """The newest run of each job over each ledger that this key may audit as a whole."""
        return read(job=job, limit=limit, cursor=cursor)

    @listing("/v1/jobs/leases", LeaseAnswer)
    def leases(self, *, limit: int | None = None, cursor: str = "") -> Ask:
        """Which process does what, of all that share the store."""
        return read(limit=limit, cursor=cursor)


class Itself:
    """The service itself."""

    @get("/health", HealthAnswer)
    def health(self) -> Ask:
        """Whether the process lives. It needs no token."""
        return read()

    @get("/ready", ReadyAnswer)
    def ready(self) -> Ask:
        """Whether requests should be sent there; it needs no token. Raises a Fault if not so, after all tries."""
        return read()

    @get("/v1/extensions/billing", dict[str, Any])
    def billing_extension(self) -> Ask:
        """The billing extension for agents: its URI, descriptor, stages and schema. It needs no token."""
        return read()

    @get("/metrics", str, accept="text/plain")
    def metrics(self) -> Ask:
        """The metrics of the process that answers, for Prometheus."""
        return read()

    @get("/openapi.json", dict[str, Any])
    def openapi(self) -> Ask:
        """The OpenAPI document of everything that can be asked."""
        return read()
