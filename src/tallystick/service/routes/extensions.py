"""The billing extension for agents that speak A2A: what it is, for everyone, and its object, for who may read it."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, field

from tallystick.billing.extension import HEADER, STAGES, descriptor, extension_schema, is_activated
from tallystick.billing.mapping import (
    EXTENSION,
    TOLD,
    VERSION,
    charge_of,
    tell_intent,
    tell_order,
    tell_payment,
)
from tallystick.billing.values import BillingEvent
from tallystick.errors import NotFound
from tallystick.service.calls import Call
from tallystick.service.operations import Group
from tallystick.service.routes.transactions import visible

EXTENSIONS = Group("Extensions for agents")


class DescriptorAnswer(Struct, frozen=True):
    """The extension as an A2A agent's card has it in ``capabilities.extensions``."""

    uri: str
    description: str
    required: bool
    params: dict[str, Any]


class ExtensionAnswer(Struct, frozen=True):
    """An extension: its URI, which names its version; its descriptor, which an agent completes by where it is paid;
    the JSON Schema of its object; and by which event each stage of a charge is told."""

    uri: str
    version: str
    header: str
    descriptor: DescriptorAnswer
    stages: dict[str, str]
    object_schema: dict[str, Any] = field(name="schema")


@EXTENSIONS.read("/v1/extensions/billing", verb=None, in_ledger=False, answer=ExtensionAnswer)
def get_billing_extension(call: Call) -> ExtensionAnswer:
    """The billing extension for A2A: one versioned object under one URI.

    An agent that is paid by a ledger declares the descriptor in its card. A client that sends the URI in the header
    ``A2A-Extensions`` is told, in the metadata of messages under that URI, what was frozen, captured and paid.
    """
    return ExtensionAnswer(
        EXTENSION, VERSION, HEADER, DescriptorAnswer(**descriptor()), dict(STAGES), extension_schema()
    )


@EXTENSIONS.stream("/v1/ledgers/{ledger}/transactions/{transaction}/billing", answer=BillingEvent)
async def get_billing_event(call: Call) -> int:
    """What billing tells of a transaction: a hold, a capture, or a charge that became final.

    ``payload`` is the object of the billing extension, to be carried in a message as it is. Of other transactions
    there is none (404). If the request activates the extension by the header ``A2A-Extensions``, so does the answer.
    """
    found = await call.service.in_thread(_told, call)
    body = msgspec.json.encode(found)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", call.request_id.encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"vary", HEADER.encode()),
    ]
    given = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in call.headers.items()]
    if is_activated(given):
        headers.append((HEADER.lower().encode(), EXTENSION.encode()))
    await call.send({"type": "http.response.start", "status": 200, "headers": headers})
    await call.send({"type": "http.response.body", "body": body})
    return 200


def _told(call: Call) -> BillingEvent:
    """What is told of the transaction in the path. Raises NotFound, also for one that the key may not see."""
    found, source = visible(call), f"tallystick:{call.ledger_name}"
    if found.type not in TOLD:
        raise NotFound(what=f"billing event of transaction {found.id}")
    if found.type == "hold":
        return tell_intent(found.event, source)
    if found.type == "capture":
        return tell_order(found.event, source)
    captured = call.ledger.transaction(found.event.data["charge"]).event
    done = call.ledger.reversal_of(charge_of(captured).id)
    reversals = [call.ledger.transaction(place).event for place in done.by] if done else []
    return tell_payment(found.event, captured, reversals, source)
