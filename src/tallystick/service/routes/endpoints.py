"""Endpoints: who is told of a ledger's events, by webhook or through a queue, and what became of it.

An endpoint is its maker's: keys of the same subject see it, and keys whose verb ``deliver`` reaches the whole ledger;
to all others it looks like none. Its secrets are in the answers to those who make it and replace them, and nowhere
else.
"""

from __future__ import annotations

import secrets as randomness
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct

from tallystick.clock import add_seconds
from tallystick.control.records import Endpoint
from tallystick.delivery import operations
from tallystick.delivery.messages import ping_message
from tallystick.delivery.signatures import new_secret, new_signing_key, public_key
from tallystick.delivery.sinks import check_target
from tallystick.delivery.webhooks import WebhookTransport
from tallystick.errors import Forbidden, IdempotencyConflict, InvalidInput, NotFound
from tallystick.service.calls import MAX_NUMBER, Call
from tallystick.service.operations import Group
from tallystick.service.problems import Refused
from tallystick.service.repeats import Request, request_of
from tallystick.service.routes.accounts import Limit
from tallystick.wire.answers import Page
from tallystick.wire.fields import Cursor
from tallystick.wire.operators import (
    AttemptAnswer,
    DeliveryAnswer,
    EndpointAnswer,
    EndpointChange,
    EndpointRequest,
    EndpointSecretsAnswer,
    NoMore,
    PingAnswer,
    RedeliveredAnswer,
    RedeliverRequest,
    RemovedAnswer,
    RotateSecretRequest,
    attempt_answer,
    delivery_answer,
    endpoint_fields,
)

ENDPOINTS = Group("Endpoints and deliveries")

_HERE = "/v1/ledgers/{ledger}/endpoints"
_ONE = _HERE + "/{endpoint}"
_AT_ONCE = 1_000

MAX_ENDPOINTS = 100
"""The most endpoints that one subject keeps in one ledger."""
_MARK_LENGTH = 16


# ---------------------------------------------------------------- made, shown, changed


@ENDPOINTS.write(
    _HERE,
    verb="deliver",
    body=EndpointRequest,
    answer=EndpointSecretsAnswer,
    status=201,
    example={"url": "https://hooks.example.com/ledger", "types": ["transfer", "hold"]},
)
def create_endpoint(call: Call) -> EndpointSecretsAnswer:
    """Have somebody told of the ledger's events, from now on or from an event of the past.

    An event is told with the balances of everyone in it. So a key that may not read the whole ledger makes endpoints
    for the mapping ``billing`` alone, which tells no balances, and for accounts that it may read. Queues take messages
    in the service's own name: they need the verb in all ledgers. The same request under the same idempotency key makes
    no second endpoint.
    """
    body: EndpointRequest = call.body
    _check_reach(call, body.kind, body.account_prefix, body.mapping)
    request = request_of(call)
    id = _id_of(request)
    made = _made_before(call, id)
    if made is None:
        _check_number(call)
        made = operations.new_endpoint(
            ledger=call.ledger_name,
            url=body.url,
            kind=body.kind,
            id=id,
            types=body.types,
            account_prefix=body.account_prefix,
            mapping=body.mapping,
            signatures=body.signatures,
            settings=_checked_settings(body.kind, body.url, body.settings),
            owner=call.principal.source,
            start=call.ledger.head.seq if body.start is None else body.start,
            known_types=_own_types(call),
            allow_private=call.service.settings.allow_private,
            clock=call.service.clock,
            random=_random_of(request),
        )
        made = _added(call, made)
    return _with_secrets(call, made)


class EndpointsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """By id."""

    limit: Limit = 100
    cursor: Cursor = ""


@ENDPOINTS.read(_HERE, verb="deliver", query=EndpointsQuery, answer=Page[EndpointAnswer])
def list_endpoints(call: Call) -> Page[EndpointAnswer]:
    """The endpoints that this key may see."""
    place, limit = call.page_place({}, call.query.cursor, ""), call.query.limit
    shown: list[Endpoint] = []
    for endpoint in _endpoints(call, place.after):
        if _sees(call, endpoint):
            shown.append(endpoint)
            if len(shown) > limit:
                break
    more = call.cursor(place, shown[limit - 1].id) if len(shown) > limit else ""
    return Page([_answer(call, endpoint) for endpoint in shown[:limit]], more)


@ENDPOINTS.read(_ONE, verb="deliver", answer=EndpointAnswer)
def get_endpoint(call: Call) -> EndpointAnswer:
    """An endpoint, and how far it is."""
    return _answer(call, _visible(call))


@ENDPOINTS.write(
    _ONE, method="PATCH", verb="deliver", body=EndpointChange, answer=EndpointAnswer, example={"types": ["transfer"]}
)
def change_endpoint(call: Call) -> EndpointAnswer:
    """Change an endpoint; what is not named stays as it is. What was waiting is told in the new way."""
    old, body = _visible(call), call.body
    changes = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not UNSET}
    state = changes.pop("state", old.state)
    wanted: dict[str, Any] = {
        "url": old.url,
        "types": old.types,
        "account_prefix": old.account_prefix,
        "settings": old.settings,
    }
    wanted.update(changes)
    _check_reach(call, old.kind, wanted["account_prefix"], old.mapping)
    if old.kind == "file" and wanted["url"] != old.url:
        raise Forbidden(problem="which file the service writes is said at its own machine: tally endpoints")
    checked = operations.new_endpoint(
        ledger=old.ledger,
        kind=old.kind,
        id=old.id,
        mapping=old.mapping,
        secrets=old.secrets,
        known_types=_own_types(call),
        allow_private=call.service.settings.allow_private,
        **{**wanted, "settings": _checked_settings(old.kind, wanted["url"], wanted["settings"])},
    )
    reason = "" if state == "enabled" else old.reason or "by hand"
    changed = msgspec.structs.replace(
        checked, owner=old.owner, start=old.start, created=old.created, state=state, reason=reason
    )
    call.service.control.replace_endpoint(changed)
    return _answer(call, changed)


@ENDPOINTS.write(_ONE, method="DELETE", verb="deliver", answer=RemovedAnswer)
def remove_endpoint(call: Call) -> RemovedAnswer:
    """Remove an endpoint, with all that waits for it."""
    endpoint = _visible(call)
    call.service.control.remove_endpoint(endpoint.id)
    return RemovedAnswer(endpoint.id)


@ENDPOINTS.write(f"{_ONE}/enable", verb="deliver", body=NoMore, answer=EndpointAnswer, example={})
def enable_endpoint(call: Call) -> EndpointAnswer:
    """Deliver again to an endpoint that was disabled, what waited first."""
    endpoint = _visible(call)
    call.replayed = endpoint.state == "enabled"
    return _answer(call, operations.enable(call.service.control, endpoint.id))


@ENDPOINTS.write(
    f"{_ONE}/rotate-secret", verb="deliver", body=RotateSecretRequest, answer=EndpointSecretsAnswer, example={}
)
def rotate_secret(call: Call) -> EndpointSecretsAnswer:
    """Put a new secret before the present one of its kind. Both sign, until the next rotation or until ``end``.

    A repeat under the same idempotency key puts no other.
    """
    endpoint, body = _visible(call), call.body
    if body.end:
        return _with_secrets(call, operations.end_rotation(call.service.control, endpoint.id))
    random = _random_of(request_of(call))
    new = new_secret(random) if body.signature == "v1" else new_signing_key(random)
    call.replayed = new in endpoint.secrets
    if not call.replayed:
        endpoint = operations.rotate_secret(
            call.service.control,
            endpoint.id,
            signature=body.signature,
            random=_random_of(request_of(call)),
        )
    return _with_secrets(call, endpoint)


# ---------------------------------------------------------------- deliveries


@ENDPOINTS.ask(f"{_ONE}/ping", method="POST", verb="deliver", body=NoMore, answer=PingAnswer, example={})
async def ping_endpoint(call: Call) -> PingAnswer:
    """Send a webhook a test message, once. It is no event, and is neither logged nor repeated."""
    endpoint = await call.service.in_thread(_visible, call)
    if endpoint.kind != "webhook":
        raise InvalidInput(path="endpoint", problem="only webhooks can be tested from here")
    transport = WebhookTransport(allow_private=call.service.settings.allow_private)
    try:
        sent = await transport.send(endpoint, ping_message(endpoint, randomness.token_hex(8), call.service.clock))
    finally:
        await transport.close()
    return PingAnswer(sent.accepted, sent.status, sent.problem)


@ENDPOINTS.write(
    f"{_ONE}/redeliver", verb="deliver", body=RedeliverRequest, answer=RedeliveredAnswer, example={"first": 1}
)
def redeliver(call: Call) -> RedeliveredAnswer:
    """Have events told again, whatever became of them: up to 10,000. They keep their ids, so receivers know them."""
    endpoint, body = _visible(call), call.body
    if bool(body.id) == (body.first is not None) or (body.id and body.last is not None):
        raise InvalidInput(path="body", problem="name either an id, or first and perhaps last")
    first = _number(call, body.id) if body.id else body.first
    asked = operations.redeliver(call.service.control, call.ledger, endpoint.id, first, body.last)
    return RedeliveredAnswer(asked.asked, asked.filtered, asked.still_to_come)


def _number(call: Call, id: str) -> int:
    ledger, _, number = id.rpartition("/")
    is_number = number.isascii() and number.isdigit() and len(number) < 20 and int(number) <= MAX_NUMBER
    if ledger != call.ledger_name or not is_number:
        raise NotFound(what=f"event {id[:80]}")
    return int(number)


class DeliveriesQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """``state``: only those that wait, or those that were given up."""

    state: Literal["", "waiting", "dead"] = ""
    limit: Limit = 100
    cursor: Cursor = ""


@ENDPOINTS.read(f"{_ONE}/deliveries", verb="deliver", query=DeliveriesQuery, answer=Page[DeliveryAnswer])
def list_deliveries(call: Call) -> Page[DeliveryAnswer]:
    """What an endpoint has not accepted, in the order of the journal."""
    endpoint = _visible(call)
    place = call.page_place({"state": call.query.state, "endpoint": endpoint.id}, call.query.cursor, "")
    found = call.service.control.deliveries(
        endpoint.id, state=place.filters["state"], after=int(place.after or -1), limit=call.query.limit
    )
    more = call.cursor(place, str(found[-1].seq)) if len(found) == call.query.limit else ""
    return Page([delivery_answer(endpoint.ledger, row) for row in found], more)


class AttemptsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """``seq``: only tries of this event."""

    seq: Annotated[int, Meta(ge=0, le=MAX_NUMBER)] | None = None
    limit: Limit = 100
    cursor: Cursor = ""


@ENDPOINTS.read(f"{_ONE}/attempts", verb="deliver", query=AttemptsQuery, answer=Page[AttemptAnswer])
def list_attempts(call: Call) -> Page[AttemptAnswer]:
    """The log of tries, newest first."""
    endpoint, query = _visible(call), call.query
    seq = "" if query.seq is None else str(query.seq)
    place = call.page_place({"seq": seq, "endpoint": endpoint.id}, query.cursor, "")
    time, _, passed = place.after.partition("|")
    shown = int(passed or 0)  # so many tries of that very microsecond were on pages before
    found = call.service.control.attempts(
        endpoint.id,
        seq=int(place.filters["seq"]) if place.filters["seq"] else None,
        before=add_seconds(time, 0.000_001) if time else "",
        limit=min(shown + query.limit, 10_000),
    )
    rows = found[shown:]
    more = ""
    if len(rows) == query.limit:
        last = rows[-1].time
        more = call.cursor(place, f"{last}|{sum(row.time == last for row in found)}")
    return Page([attempt_answer(endpoint.ledger, row) for row in rows], more)


# ---------------------------------------------------------------- who may, and what


def _sees(call: Call, endpoint: Endpoint) -> bool:
    own = bool(endpoint.owner) and endpoint.owner == call.principal.source
    return endpoint.ledger == call.ledger_name and (own or call.principal.covers("deliver", call.ledger_name, ""))


def _visible(call: Call) -> Endpoint:
    """The endpoint in the path. Raises NotFound, also for one that is another's."""
    id = call.path["endpoint"]
    found = call.service.control.endpoint(id)
    if found is None or not _sees(call, found):
        raise NotFound(what=f"endpoint {id[:80]}")
    return found


def _endpoints(call: Call, after: str) -> Iterator[Endpoint]:
    """All endpoints of the ledger behind an id."""
    while found := call.service.control.endpoints(ledger=call.ledger_name, after=after, limit=_AT_ONCE):
        yield from found
        if len(found) < _AT_ONCE:
            return
        after = found[-1].id


def _check_reach(call: Call, kind: str, account_prefix: str, mapping: str) -> None:
    """Raises Forbidden for an endpoint that would be told more than this key may know, or in the service's name."""
    principal, ledger = call.principal, call.ledger_name
    if kind != "webhook":
        principal.require_whole("deliver", "*")
    if call.sees_all:
        return
    principal.require("read", ledger, (account_prefix,))
    if mapping != "billing":
        raise Forbidden(
            problem="events are told with the balances of everyone in them, and it may not read them all: "
            "only the mapping billing tells none"
        )


def _check_number(call: Call) -> None:
    own = sum(endpoint.owner == call.principal.source for endpoint in _endpoints(call, ""))
    if own >= MAX_ENDPOINTS:
        raise Refused(422, "too_many_endpoints", f"there are {own} already, and {MAX_ENDPOINTS} are the most")


def _checked_settings(kind: str, url: str, settings: Mapping[str, str]) -> dict[str, str]:
    if kind != "webhook":
        check_target(kind, url, settings)
    elif unknown := sorted(settings.keys() - {"order"}):
        raise InvalidInput(path=f"settings.{unknown[0]}", problem="a webhook has no such setting (there: order)")
    return dict(settings)


def _own_types(call: Call) -> set[str]:
    """The types that the ledger has defined for itself."""
    return {record.id for record in call.ledger.records("type")}


# ---------------------------------------------------------------- repeats


def _id_of(request: Request) -> str:
    return f"ep_{request.mark.hex()[:_MARK_LENGTH]}{request.rest.hex()[:_MARK_LENGTH]}"


def _made_before(call: Call, id: str) -> Endpoint | None:
    """The endpoint that this request has made. Raises IdempotencyConflict if another one made one under its key."""
    mark = id[: len("ep_") + _MARK_LENGTH]
    near = call.service.control.endpoints(ledger=call.ledger_name, after=mark, limit=1)
    if not near or not near[0].id.startswith(mark):
        return None
    if near[0].id != id:
        raise IdempotencyConflict(key=call.key, transaction=f"which made the endpoint {near[0].id}")
    call.replayed = True
    return near[0]


def _added(call: Call, endpoint: Endpoint) -> Endpoint:
    try:
        call.service.control.add_endpoint(endpoint)
    except InvalidInput:  # the same request, at the same time
        found = call.service.control.endpoint(endpoint.id)
        if found is None:
            raise
        call.replayed = True
        return found
    return endpoint


def _random_of(request: Request) -> Callable[[int], bytes]:
    """Bytes that nobody can guess, and that are the same for a repeat: so it makes no other secret."""
    drawn = 0

    def random(length: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return request.bytes_for(f"secret {drawn}", length)

    return random


# ---------------------------------------------------------------- answers


def _fields(call: Call, endpoint: Endpoint) -> dict[str, Any]:
    keys = [public_key(secret) for secret in endpoint.secrets if secret.startswith("whsk_")]
    return endpoint_fields(endpoint, call.service.control.cursor(endpoint.id), keys)


def _answer(call: Call, endpoint: Endpoint) -> EndpointAnswer:
    return EndpointAnswer(**_fields(call, endpoint))


def _with_secrets(call: Call, endpoint: Endpoint) -> EndpointSecretsAnswer:
    return EndpointSecretsAnswer(**_fields(call, endpoint), secrets=list(endpoint.secrets))
