"""What operators and owners do with endpoints: make one, switch it on and off, replace its secrets, ask again.

Everything is checked completely here, so that what is kept can be worked with. Deliverers need not be told: they look
at the records.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets as randomness
from collections.abc import Callable, Collection, Mapping

import msgspec

from tallystick.billing.mapping import TOLD
from tallystick.clock import Clock, system_clock
from tallystick.control.base import Control
from tallystick.control.records import Delivery, Endpoint
from tallystick.delivery.addresses import parse_target
from tallystick.delivery.messages import BILLING, MAPPINGS, ping_message
from tallystick.delivery.outbox import ORDERS, Outbox
from tallystick.delivery.signatures import check_secret, new_secret, new_signing_key
from tallystick.delivery.transport import Sent, Transport
from tallystick.delivery.webhooks import WebhookTransport
from tallystick.errors import InvalidInput, NotFound
from tallystick.events import EVENT_TYPES
from tallystick.kernel.state import check_ledger_name
from tallystick.ledger import Ledger

KINDS = ("webhook", "sns", "sqs", "eventbridge", "nats", "file")

MAX_TYPES = 100
MAX_PREFIX = 255
MAX_SETTINGS = 20
MAX_SETTING_CHARACTERS = 1_024
MAX_SINK_URL = 2_048
MAX_START = 2**63 - 1
MAX_REDELIVERED = 10_000
"""Events that one call asks to be delivered again."""

KEPT_OF_A_KIND = 2
"""Secrets of one kind that sign during a rotation: the new one, and the one before."""

_ID = re.compile(r"[A-Za-z0-9_\-]{1,64}\Z")
_PREFIX = re.compile(r"@?[A-Za-z0-9_.:%\-]*\Z")
_SETTING = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_PRINTABLE = re.compile(r"[!-~]+\Z")


class Asked(msgspec.Struct, frozen=True):
    """What was asked to be delivered again: how many events, how many the filter leaves out, and how many will be told
    in any case, because the endpoint has not come to them yet."""

    asked: int
    filtered: int
    still_to_come: int


def new_endpoint(
    *,
    ledger: str,
    url: str,
    kind: str = "webhook",
    id: str = "",
    types: Collection[str] = (),
    account_prefix: str = "",
    mapping: str = "",
    signatures: Collection[str] = ("v1",),
    secrets: Collection[str] = (),
    settings: Mapping[str, str] | None = None,
    owner: str = "",
    start: int = 0,
    known_types: Collection[str] = (),
    allow_private: bool = False,
    clock: Clock = system_clock,
    random: Callable[[int], bytes] = os.urandom,
) -> Endpoint:
    """An endpoint with all of it checked, to be given to ``control.add_endpoint``. Raises InvalidInput.

    ``start`` is the number of the first event that it is told: 0 for all there are, the ledger's head for those to
    come. A webhook gets a secret for each of ``signatures`` (``v1`` shared, ``v1a`` a key pair), unless ``secrets`` are
    given. ``known_types`` are types of the ledger's own, which may be named beside the usual ones.
    """
    check_ledger_name(ledger)
    if kind not in KINDS:
        raise InvalidInput(path="kind", problem=f"{kind!r} is not one of {', '.join(KINDS)}")
    if id and not _ID.match(id):
        raise InvalidInput(path="id", problem=f"{id!r} is not 1 to 64 letters, digits, _ and -")
    if type(start) is not int or not 0 <= start <= MAX_START:
        raise InvalidInput(path="start", problem=f"{start!r} is not the number of an event")
    _check_url(url, kind, allow_private)
    if mapping not in MAPPINGS:
        raise InvalidInput(path="mapping", problem=f"{mapping!r} is not {BILLING!r}, or left out")
    _check_types(types, mapping, known_types)
    if len(account_prefix) > MAX_PREFIX or not _PREFIX.match(account_prefix):
        raise InvalidInput(path="account_prefix", problem=f"{account_prefix!r} does not begin any account's address")
    return Endpoint(
        id=id or f"ep_{randomness.token_hex(8)}",
        ledger=ledger,
        kind=kind,
        url=url,
        types=tuple(sorted(set(types))),
        account_prefix=account_prefix,
        mapping=mapping,
        secrets=_secrets(kind, signatures, secrets, random),
        settings=_settings(settings or {}),
        owner=owner,
        start=start,
        created=clock(),
    )


def redeliver(control: Control, ledger: Ledger, endpoint_id: str, first: int, last: int | None = None) -> Asked:
    """Ask for events to be delivered again, whatever became of them: accepted, waiting, or dead. They keep their ids,
    and queue behind what is waiting for their accounts now; one that waits itself is tried at once, and what was
    accepted a tenth of a second ago, and is not settled yet, counts as that. A disabled endpoint gets them when it is
    enabled.

    ``first`` to ``last`` (or ``first`` alone), at most MAX_REDELIVERED. Raises NotFound, InvalidInput.
    """
    endpoint = _endpoint(control, endpoint_id)
    if endpoint.ledger != ledger.name:
        raise InvalidInput(path="ledger", problem=f"{endpoint_id} is told of {endpoint.ledger}, not of {ledger.name}")
    last = first if last is None else last
    if not (type(first) is int and type(last) is int) or not 0 <= first <= last:
        raise InvalidInput(path="first", problem=f"{first!r} to {last!r} are no events")
    if last - first >= MAX_REDELIVERED:
        raise InvalidInput(path="last", problem=f"at most {MAX_REDELIVERED} events at once")
    if first >= ledger.head.seq:
        raise NotFound(what=f"event {ledger.name}/{first}")
    cursor = control.cursor(endpoint_id)
    records = control.deliveries(endpoint_id, after=first - 1, limit=MAX_REDELIVERED)
    kept = {row.seq for row in records}
    taken = Outbox(ledger, endpoint).take(first, last - first + 1)
    rows = [
        Delivery(endpoint=endpoint_id, seq=message.seq, lanes=message.lanes, redelivery=True)
        for message in taken.messages
        if message.seq < cursor or message.seq in kept
    ]
    if rows and not control.settle(endpoint_id, deliveries=rows):
        raise NotFound(what=f"endpoint {endpoint_id}")
    told = len(taken.messages)
    return Asked(asked=len(rows), filtered=taken.next - first - told, still_to_come=told - len(rows))


def ping(
    endpoint: Endpoint,
    *,
    transport: Transport | None = None,
    allow_private: bool = False,
    clock: Clock = system_clock,
) -> Sent:
    """Send a test message once, by itself: it is no event, and is neither logged nor repeated. Without a ``transport``
    only webhooks can be tested."""
    if transport is None:
        if endpoint.kind != "webhook":
            raise InvalidInput(path="kind", problem=f"a {endpoint.kind} needs a transport to be tested by")
        transport = WebhookTransport(allow_private=allow_private)
    carrier = transport

    async def once() -> Sent:
        try:
            return await carrier.send(endpoint, ping_message(endpoint, randomness.token_hex(8), clock))
        finally:
            await carrier.close()

    return asyncio.run(once())


def rotate_secret(
    control: Control, endpoint_id: str, *, signature: str = "v1", random: Callable[[int], bytes] = os.urandom
) -> Endpoint:
    """Put a new secret before the present one of its kind; both sign until ``end_rotation``, or the next rotation. Also
    how an endpoint gets its first secret of the other kind. The answer holds the new secret first. Raises NotFound.
    """
    endpoint = _endpoint(control, endpoint_id)
    if endpoint.kind != "webhook":
        raise InvalidInput(path="kind", problem=f"a {endpoint.kind} has no secrets: nothing is signed")
    new = _new_secret(signature, random)
    kind = new.partition("_")[0]
    same = [secret for secret in endpoint.secrets if secret.startswith(kind)]
    others = [secret for secret in endpoint.secrets if not secret.startswith(kind)]
    return _replace(control, endpoint, secrets=(new, *same[: KEPT_OF_A_KIND - 1], *others))


def end_rotation(control: Control, endpoint_id: str) -> Endpoint:
    """Sign with the newest secret of each kind alone. Raises NotFound."""
    endpoint = _endpoint(control, endpoint_id)
    newest: dict[str, str] = {}
    for secret in endpoint.secrets:
        newest.setdefault(secret.partition("_")[0], secret)
    return _replace(control, endpoint, secrets=tuple(newest.values()))


def enable(control: Control, endpoint_id: str) -> Endpoint:
    """Deliver again: what was waiting first. Raises NotFound."""
    return _replace(control, _endpoint(control, endpoint_id), state="enabled", reason="")


def disable(control: Control, endpoint_id: str, reason: str = "by hand") -> Endpoint:
    """Deliver nothing until it is enabled; what comes meanwhile waits in the journal. Raises NotFound."""
    return _replace(control, _endpoint(control, endpoint_id), state="disabled", reason=reason)


def change_url(control: Control, endpoint_id: str, url: str, *, allow_private: bool = False) -> Endpoint:
    """Deliver to another place from now on. Raises NotFound, InvalidInput."""
    endpoint = _endpoint(control, endpoint_id)
    _check_url(url, endpoint.kind, allow_private)
    return _replace(control, endpoint, url=url)


def _endpoint(control: Control, id: str) -> Endpoint:
    found = control.endpoint(id)
    if found is None:
        raise NotFound(what=f"endpoint {id}")
    return found


def _replace(control: Control, endpoint: Endpoint, **changes: object) -> Endpoint:
    changed = msgspec.structs.replace(endpoint, **changes)
    control.replace_endpoint(changed)
    return changed


def _check_url(url: str, kind: str, allow_private: bool) -> None:
    if kind == "webhook":
        parse_target(url, allow_private=allow_private)
    elif not isinstance(url, str) or not 0 < len(url) <= MAX_SINK_URL:
        raise InvalidInput(path="url", problem=f"where a {kind} is takes 1 to {MAX_SINK_URL} characters")
    elif kind != "file" and not _PRINTABLE.match(url):
        raise InvalidInput(path="url", problem="it holds spaces, or characters that are not ASCII")


def _check_types(types: Collection[str], mapping: str, known_types: Collection[str]) -> None:
    if isinstance(types, str) or len(types) > MAX_TYPES:
        raise InvalidInput(path="types", problem=f"it is not a list of at most {MAX_TYPES} types")
    for name in types:
        if mapping == BILLING:
            if name not in TOLD and name not in TOLD.values():
                raise InvalidInput(path="types", problem=f"billing tells nothing of the type {name!r}")
        elif name not in EVENT_TYPES and name not in known_types:
            raise InvalidInput(path="types", problem=f"{name!r} is not a type of event")


def _settings(settings: Mapping[str, str]) -> dict[str, str]:
    if len(settings) > MAX_SETTINGS:
        raise InvalidInput(path="settings", problem=f"there are at most {MAX_SETTINGS}")
    for name, value in settings.items():
        if not (isinstance(name, str) and _SETTING.match(name)):
            raise InvalidInput(path="settings", problem=f"{name!r} is not the name of a setting")
        if not isinstance(value, str) or len(value) > MAX_SETTING_CHARACTERS or not value.isprintable():
            raise InvalidInput(path=f"settings.{name}", problem=f"it is not text of {MAX_SETTING_CHARACTERS} at most")
    order = settings.get("order", "account")
    if order not in ORDERS:
        raise InvalidInput(path="settings.order", problem=f"{order!r} is not one of {', '.join(ORDERS)}")
    return dict(settings)


def _secrets(
    kind: str, signatures: Collection[str], given: Collection[str], random: Callable[[int], bytes]
) -> tuple[str, ...]:
    if kind != "webhook":
        if given:
            raise InvalidInput(path="secrets", problem=f"a {kind} has no secrets: nothing is signed")
        return ()
    if isinstance(given, str) or isinstance(signatures, str):
        raise InvalidInput(path="secrets", problem="it is not a list")
    if given:
        found = tuple(check_secret(secret, "secrets") for secret in given)
    else:
        found = tuple(_new_secret(signature, random) for signature in dict.fromkeys(signatures))
    kinds = [secret.partition("_")[0] for secret in found]
    if not found or any(kinds.count(one) > KEPT_OF_A_KIND for one in kinds):
        raise InvalidInput(path="secrets", problem=f"a webhook has 1 to {KEPT_OF_A_KIND} secrets of a kind")
    return found


def _new_secret(signature: str, random: Callable[[int], bytes]) -> str:
    if signature == "v1":
        return new_secret(random)
    if signature == "v1a":
        return new_signing_key(random)
    raise InvalidInput(path="signature", problem=f"{signature!r} is not v1 or v1a")
