"""The billing extension for agents that speak A2A: one versioned object under one URI.

An agent declares it in its card, a client asks for it by a header, and the object that billing tells of a hold, a
capture or a final charge is carried, as it is, in the metadata of a message or an artifact under that URI. The object
itself is made by tallystick.billing.mapping; here is how it is declared, activated, carried, and what it looks like.

A2A 1.0: extensions are declared in ``capabilities.extensions``, asked for by the header ``A2A-Extensions`` (in drafts
before it ``X-A2A-Extensions``), a list of URIs with commas, and confirmed by the same header in the answer. A version
that is not known is ignored, never replaced by another: a change of the object has a new URI.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tallystick.accounts import BUCKETS, MAX_ADDRESS
from tallystick.billing.mapping import EXTENSION, TOLD, VERSION
from tallystick.clock import PATTERN

HEADER = "A2A-Extensions"
HEADERS = (HEADER, "X-A2A-Extensions")
MAX_HEADER = 8_192
"""The longest header that is read; a longer one activates nothing."""

DESCRIPTION = (
    "Tells in messages and artifacts what was frozen, captured and finally paid for the work of an agent, as one "
    "object of the ledger that keeps the account."
)
STAGES = {"INTENT_CREATED": "frozen", "ORDER_CREATED": "captured", "PAYMENT_SUCCEEDED": "finalized"}
"""What each event says of the charge."""


# ---------------------------------------------------------------- declared, activated, carried


def descriptor(
    *, required: bool = False, service: str = "", ledger: str = "", payee: str = "", assets: Sequence[str] = ()
) -> dict[str, Any]:
    """The extension as an agent's card has it in ``capabilities.extensions``.

    ``service``, ``ledger``, ``payee`` and ``assets`` say where an agent that is paid is paid, and in what; one that
    only pays leaves them out. An agent that does no work without a hold says ``required``.
    """
    params: dict[str, Any] = {"version": VERSION, "stages": [STAGES[told] for told in TOLD.values()]}
    given: dict[str, Any] = {"service": service, "ledger": ledger, "payee": payee, "assets": list(assets)}
    params.update({name: value for name, value in given.items() if value})
    return {"uri": EXTENSION, "description": DESCRIPTION, "required": required, "params": params}


def is_activated(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> bool:
    """Whether a request asks for this extension, in exactly this version."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    known = {name.lower() for name in HEADERS}
    values = [value for name, value in pairs if name.lower() in known and len(value) <= MAX_HEADER]
    return any(uri.strip() == EXTENSION for value in values for uri in value.split(","))


def carry(metadata: Mapping[str, Any], payload: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a message or an artifact, with the object under its URI."""
    return {**metadata, EXTENSION: dict(payload)}


# ---------------------------------------------------------------- what it looks like


def _text(pattern: str, description: str) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^(?:{pattern})$", "description": description}


_AMOUNT = r"0|[1-9][0-9]{0,18}"
_ID = r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}/[0-9]{1,19}"
_ACCOUNT = {"type": "string", "minLength": 1, "maxLength": MAX_ADDRESS, "description": "An account of the ledger."}


def _amount(description: str) -> dict[str, Any]:
    return _text(_AMOUNT, f"{description} Minor units of the asset, as decimal digits.")


_ALWAYS: dict[str, Any] = {
    "extension": {"const": EXTENSION, "description": "The URI of this version of the object."},
    "stage": {"enum": list(STAGES.values()), "description": "How far the charge has come."},
    "hold_id": _text(_ID, "The hold with which everything began."),
    "account": {**_ACCOUNT, "description": "Who pays."},
    "asset": _text(r"[A-Z][A-Z0-9_]{0,31}(?:/(?:[0-9]|1[0-8]))?", "CODE/SCALE: USD/2 is counted in cents."),
    "amount": _amount("What was frozen or paid, all told."),
}
_ORDER = {"order_id": {"type": "string", "minLength": 1, "description": "The order, if there is one."}}
_CHARGE = {
    "charge_id": _text(_ID, "The transaction that captured the amount."),
    "fee": _amount("The part of the amount that went into a fee pool."),
}
_PARTS: dict[str, dict[str, Any]] = {
    "frozen": {
        "expires": _text(PATTERN, "When it goes back by itself, unless it is extended."),
        "reason": {"type": "string", "description": "What it is for; may be empty."},
    },
    "captured": {
        **_CHARGE,
        "released": _amount("What the same event gave back."),
        "settlement": {
            "type": "array",
            "minItems": 1,
            "description": "Who was paid what, adding up to the amount.",
            "items": {
                "type": "object",
                "properties": {
                    "account": _ACCOUNT,
                    "bucket": {"enum": list(BUCKETS)},
                    "amount": _amount("His part."),
                },
                "required": ["account", "bucket", "amount"],
                "additionalProperties": False,
            },
        },
    },
    "finalized": {**_CHARGE, "refunded": _amount("What was paid back before it became final.")},
}


def _stage(name: str) -> dict[str, Any]:
    """The object at one stage: which fields it must have, and none besides."""
    properties = {**_ALWAYS, "stage": {"const": name}, **_PARTS[name]}
    return {
        "title": name,
        "type": "object",
        "properties": {**properties, **_ORDER},
        "required": list(properties),
        "additionalProperties": False,
    }


def extension_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the object."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{EXTENSION}:schema",
        "title": f"Billing extension {VERSION}",
        "description": DESCRIPTION,
        "oneOf": [_stage(name) for name in STAGES.values()],
    }


def schema_text() -> str:
    """The schema as docs/billing-extension.schema.json has it."""
    return json.dumps(extension_schema(), indent=2, ensure_ascii=False) + "\n"
