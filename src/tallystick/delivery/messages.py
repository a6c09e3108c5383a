"""From an event of the journal to what an endpoint is told: CloudEvents 1.0, structured JSON.

    attribute         value
    id, subject       <ledger>/<seq>: the same for every endpoint and every try
    source            /v1/ledgers/<ledger>
    type              tallystick.<event type>.v1; by the mapping ``billing`` INTENT_CREATED, ORDER_CREATED,
                      PAYMENT_SUCCEEDED
    time              when the event was recorded
    sequence          the event's number, 20 digits, so that text order is the journal's order
    ledgerhash        the event's leaf hash: what the next event names, and what receipts are about
    data              the event as it stands in the journal, byte for byte; by a mapping what that makes of it

Texts that can be erased are not told: the event only commits to them, and what was told cannot be erased.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from tallystick.clock import Clock
from tallystick.control.records import Endpoint
from tallystick.delivery.transport import Message
from tallystick.errors import LedgerCorrupt
from tallystick.journal import leaf_hash

BILLING = "billing"
MAPPINGS = ("", BILLING)
"""The forms in which an endpoint may be told of events."""

PING_TYPE = "tallystick.ping.v1"


class Glance(msgspec.Struct, frozen=True):
    """The few fields of an event by which it is filtered and put in order."""

    type: str
    time: str
    entries: tuple[GlanceEntry, ...] = ()
    data: GlanceData | None = None


class GlanceEntry(msgspec.Struct, frozen=True):
    account: str


class GlanceData(msgspec.Struct, frozen=True):
    """What says whom an event without entries is about."""

    account: Any = None
    hold: Any = None
    charge: Any = None


_DECODER = msgspec.json.Decoder(Glance)


def glance_at(body: bytes) -> Glance:
    """The fields of an event's bytes, which were checked against their hash. Raises LedgerCorrupt."""
    try:
        return _DECODER.decode(body)
    except msgspec.DecodeError as error:
        raise LedgerCorrupt(where="an event", problem=f"it cannot be read: {error}") from None


def event_message(endpoint: Endpoint, seq: int, body: bytes, glance: Glance, lanes: tuple[str, ...]) -> Message:
    """An event as it is."""
    kind = f"tallystick.{glance.type}.v1"
    return _message(endpoint, seq, kind, glance.time, leaf_hash(body), body, lanes)


def billing_message(
    endpoint: Endpoint, seq: int, body: bytes, told: tuple[str, str, dict[str, Any]], lanes: tuple[str, ...]
) -> Message:
    """An event as billing tells it: (type, time, payload)."""
    kind, time, payload = told
    data = json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()
    return _message(endpoint, seq, kind, time, leaf_hash(body), data, lanes)


def ping_message(endpoint: Endpoint, nonce: str, clock: Clock) -> Message:
    """A test message: no event, no number. ``nonce`` makes its id one of its own."""
    id, time = f"{endpoint.ledger}/ping-{nonce}", clock()
    body = (
        f'{{"specversion":"1.0","id":"{id}","source":"/v1/ledgers/{endpoint.ledger}","type":"{PING_TYPE}",'
        f'"time":"{time}","subject":"{id}","datacontenttype":"application/json","data":'
    ).encode() + json.dumps({"endpoint": endpoint.id}).encode()
    return Message(
        id=id,
        endpoint=endpoint.id,
        ledger=endpoint.ledger,
        seq=-1,
        type=PING_TYPE,
        time=time,
        body=body + b"}",
    )


def _message(
    endpoint: Endpoint, seq: int, kind: str, time: str, hash: str, data: bytes, lanes: tuple[str, ...]
) -> Message:
    # Names of ledgers and types, times and hashes need no escaping in JSON.
    ledger = endpoint.ledger
    head = (
        f'{{"specversion":"1.0","id":"{ledger}/{seq}","source":"/v1/ledgers/{ledger}","type":"{kind}",'
        f'"time":"{time}","subject":"{ledger}/{seq}","datacontenttype":"application/json",'
        f'"sequence":"{seq:020d}","ledgerhash":"{hash}","data":'
    )
    return Message(
        id=f"{ledger}/{seq}",
        endpoint=endpoint.id,
        ledger=ledger,
        seq=seq,
        type=kind,
        time=time,
        body=b"%s%s}" % (head.encode(), data),
        lanes=lanes,
    )
