"""The JSON Schema of an event: what every event of profile 1 looks like on the wire, made from the registry.

JSON Schema, draft 2020-12. Each type has its own rule, chosen by the field ``type``: which fields it has, what its data
holds, which buckets its entries touch, which references it needs. A name that is not in the registry is a type that the
ledger defined for itself, which is posted as any other.

A schema looks at one event by itself. What it cannot say is said elsewhere: the canonical bytes (journal.canonical),
the chain (journal.chain), that entries add up, and that an event follows from the books (kernel).
"""

from __future__ import annotations

import json
from typing import Any

from tallystick.accounts import BUCKETS, MAX_ADDRESS
from tallystick.clock import PATTERN as TIME_PATTERN
from tallystick.erasable import PREFIX
from tallystick.events import EVENT_TYPES, PROFILE, REFERENCES, EventType
from tallystick.kernel.texts import MAX_KEY, MAX_TEXT

Schema = dict[str, Any]

MAX_INTEGER = 2**53 - 1
_SEGMENT = r"[A-Za-z0-9_.\-]+"
_ADDRESS = "|".join(
    (
        r"did:[a-z0-9]+:(?:[A-Za-z0-9._:\-]|%[0-9A-Fa-f]{2})*(?:[A-Za-z0-9._\-]|%[0-9A-Fa-f]{2})",
        rf"(?!did:){_SEGMENT}(?::{_SEGMENT})*",
        r"@(?:issuance|fees|treasury|clearing:[A-Za-z0-9_.:\-]+|external:[A-Za-z0-9_.:\-]+)",
    )
)
_LEDGER = r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}"


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _text(pattern: str, **more: Any) -> Schema:
    return {"type": "string", "pattern": f"^(?:{pattern})$", **more}


def _object(properties: Schema, required: list[str], **more: Any) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(required),
        "additionalProperties": False,
        **more,
    }


def _map(names: Schema, values: Schema, **more: Any) -> Schema:
    return {"type": "object", "propertyNames": names, "additionalProperties": values, **more}


_ASSETS: Schema = {
    "asset": _text(r"[A-Z][A-Z0-9_]{0,31}(?:/(?:[0-9]|1[0-8]))?"),
}
_WHOLE: Schema = {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER}
_PLAIN: Schema = {"type": "string"}
_NAME_OF_OWN: Schema = {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[ -~]+$"}

DEFINITIONS: dict[str, Schema] = {
    **_ASSETS,
    "address": _text(_ADDRESS, maxLength=MAX_ADDRESS),
    "amount": _text("[1-9][0-9]{0,18}", description="Minor units, above zero."),
    "amount_or_zero": _text("0|[1-9][0-9]{0,18}", description="Minor units."),
    "change": _text("-?[1-9][0-9]{0,18}", description="Minor units, signed and never zero."),
    "balance": _text("0|-?[1-9][0-9]{0,18}", description="Minor units, signed."),
    "bucket": {"enum": list(BUCKETS)},
    "hash": _text("[0-9a-f]{64}", description="SHA-256 in lower-case hexadecimal."),
    "id": _text(rf"{_LEDGER}/(?:0|[1-9][0-9]{{0,15}})", description="The place of an event: ledger/seq."),
    "name": {"type": "string", "minLength": 1, "maxLength": MAX_KEY},
    "text": {
        "type": "string",
        "maxLength": MAX_TEXT,
        "if": {"pattern": f"^{PREFIX}"},
        "then": _text(f"{PREFIX}[0-9a-f]{{64}}"),
        "description": "Free text, or the commitment to an erasable one.",
    },
    "time": _text(TIME_PATTERN, description="UTC with microseconds."),
    "type_name": _text("[a-z][a-z0-9_]{0,63}"),
    "reason": {**_ref("text"), "minLength": 1},
    "metadata": _map(_NAME_OF_OWN, _ref("text"), minProperties=1, maxProperties=64),
    "request": _text("[0-9a-f]{32}", description="128 bits of the SHA-256 of what was asked; only a replay needs it."),
    "entry": _object(
        {
            "account": _ref("address"),
            "asset": _ref("asset"),
            "bucket": _ref("bucket"),
            "amount": _ref("change"),
            "before": _ref("balance"),
            "after": _ref("balance"),
            "version": {"type": "integer", "minimum": 1, "maximum": MAX_INTEGER},
        },
        ["account", "asset", "bucket", "amount", "before", "after", "version"],
    ),
    "policy": _object(
        {
            "strict": {"type": "boolean"},
            "limit_min": _WHOLE,
            "limit_max": _WHOLE,
            "limit_default": _WHOLE,
            "commitment_mode": {"enum": ["DISABLED", "SOFT", "ESCROWED"]},
            "floor_threshold_bps": _WHOLE,
            "hold_expires_in_seconds": _WHOLE,
        },
        [
            "strict",
            "limit_min",
            "limit_max",
            "limit_default",
            "commitment_mode",
            "floor_threshold_bps",
            "hold_expires_in_seconds",
        ],
    ),
    "amounts_by_asset": _map(_ref("asset"), _ref("amount_or_zero"), minProperties=1),
}

_HOLD: Schema = {"hold": _ref("id")}
_RESERVED: Schema = {"commitment": {"type": "string", "pattern": "^commitment "}, "freed": _ref("amount")}
_ACCOUNT: Schema = {"account": _ref("address")}

DATA: dict[str, tuple[Schema, tuple[str, ...]]] = {
    "hold": ({"expires": _ref("time")}, ()),
    "hold_top_up": (_HOLD, ()),
    "hold_extend": ({**_HOLD, "expires": _ref("time")}, ()),
    "capture": ({**_HOLD, "taken": _ref("amount"), "released": _ref("amount")}, ("released",)),
    "release": (_HOLD, ()),
    "hold_expire": (_HOLD, ()),
    "stake_release": ({"stake": _ref("id")}, ()),
    "stake_slash": ({"stake": _ref("id")}, ()),
    "bet_settlement": ({"bet": _ref("id"), "payout": _ref("amount_or_zero")}, ()),
    "bet_rollback": ({"bet": _ref("id")}, ()),
    "commitment_create": ({"commitment": _RESERVED["commitment"]}, ()),
    "commitment_fulfil": (_RESERVED, ()),
    "commitment_cancel": (_RESERVED, ()),
    "reversal": ({"reverses": _ref("id")}, ()),
    "charge_finalized": ({"charge": _ref("id"), **_HOLD}, ()),
    "ledger_opened": ({"name": _text(_LEDGER), "policy": _ref("policy")}, ()),
    "policy_set": ({"policy": _ref("policy")}, ()),
    "account_opened": (
        {
            **_ACCOUNT,
            "limits": _ref("amounts_by_asset"),
            "ceilings": _ref("amounts_by_asset"),
            "floorless": {"const": True},
            "owner": {"type": "string", "minLength": 1},
        },
        ("limits", "ceilings", "floorless", "owner"),
    ),
    "account_frozen": (_ACCOUNT, ()),
    "account_unfrozen": (_ACCOUNT, ()),
    "account_excluded": (_ACCOUNT, ()),
    "account_closed": (_ACCOUNT, ()),
    "limit_set": (
        {
            **_ACCOUNT,
            "asset": _ref("asset"),
            "limit": _ref("amount_or_zero"),
            "ceiling": _ref("amount_or_zero"),
            "clear_ceiling": {"const": True},
        },
        ("limit", "ceiling", "clear_ceiling"),
    ),
    "asset_defined": ({"asset": _ref("asset"), "name": _PLAIN}, ()),
    "type_defined": (
        {
            "name": _ref("type_name"),
            "base": {"enum": [name for name, row in EVENT_TYPES.items() if row.by == "post"]},
            "requires": {"type": "array", "items": {"enum": list(REFERENCES)}},
            "summary": _PLAIN,
        },
        (),
    ),
    "reserve_recorded": (
        {
            "reserve": _text(r"[A-Za-z0-9_.:\-]{1,128}"),
            "asset": _ref("asset"),
            "value": _ref("amount_or_zero"),
            "haircut_bps": {"type": "integer", "minimum": 0, "maximum": 10_000},
            "provider": {"type": "string", "minLength": 1},
            "valid_until": _ref("time"),
        },
        ("provider", "valid_until"),
    ),
    "attestation_issued": ({"digest": _ref("hash"), "statement": _map(_NAME_OF_OWN, _PLAIN)}, ()),
    "period_closed": ({"until": _ref("time")}, ()),
    "key_rotated": ({"public_key": {"type": "string", "minLength": 1, "maxLength": 4_096}}, ()),
}
"""What the data of a type holds beside reason, metadata and request: its fields, and which of them may be absent. A
type that is not here has none."""

MAY_BE_EMPTY = frozenset({"account_excluded", "account_closed"})
"""Types that move value only if there is any."""


def events_schema() -> Schema:
    """The schema of one event, as data."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:tallystick:event:{PROFILE}",
        "title": f"Tallystick event, profile {PROFILE}",
        "description": "Made from the registry of event types; do not edit. It says what one event looks like; "
        "PROFILE.md says what its bytes are and what it means.",
        **_object(
            {
                "v": {"const": PROFILE},
                "ledger": _text(_LEDGER),
                "seq": _WHOLE,
                "prev": _ref("hash"),
                "time": _ref("time"),
                "effective": _ref("time"),
                "type": _ref("type_name"),
                "actor": _ref("name"),
                "source": _ref("name"),
                "idem": _ref("name"),
                "refs": _map({"enum": list(REFERENCES)}, _ref("name"), minProperties=1),
                "entries": {"type": "array", "items": _ref("entry"), "minItems": 2},
                "data": {"type": "object", "minProperties": 1},
                "salt": {"type": "string", "minLength": 1},
            },
            ["v", "ledger", "seq", "prev", "time", "type", "source", "idem"],
        ),
        "allOf": [
            *({"if": _is_type({"const": name}), "then": _ref(f"types/{name}")} for name in EVENT_TYPES),
            {"if": {"not": _is_type({"enum": list(EVENT_TYPES)})}, "then": _ref("types/of_its_own")},
        ],
        "$defs": {
            **DEFINITIONS,
            "types": {**{row.name: _rule(row) for row in EVENT_TYPES.values()}, "of_its_own": _own_rule()},
        },
    }


def schema_text() -> str:
    """The same as the file that is published: docs/events.schema.json."""
    return json.dumps(events_schema(), indent=1, ensure_ascii=False) + "\n"


def _is_type(names: Schema) -> Schema:
    return {"properties": {"type": names}, "required": ["type"]}


def _rule(row: EventType) -> Schema:
    """What an event of one type has beyond what all have."""
    fields, optional = DATA.get(row.name, ({}, ()))
    required = [name for name in fields if name not in optional]
    properties: Schema = {"data": _data(fields, [*required, "request", *(n for n in row.needs if n == "reason")])}
    needed = ["data"]
    if row.name == "transfer":
        needed = []  # a bare one shows its whole request by itself
    if not row.moves:
        properties["entries"] = False
    else:
        buckets = {bucket for move in row.moves for bucket in (*move.from_buckets, *move.to_buckets)}
        listed = {"enum": [bucket for bucket in BUCKETS if bucket in buckets]}
        properties["entries"] = {"items": {"properties": {"bucket": listed}}}
        if row.name not in MAY_BE_EMPTY:
            needed.append("entries")
    if row.by != "post":
        properties["effective"] = False
    needed += [name for name in row.needs if name == "actor"]
    rule: Schema = {"title": row.summary, "properties": properties}
    if row.requires:
        needed.append("refs")
        rule["allOf"] = [
            {"properties": {"refs": {"anyOf": [{"required": [name]} for name in group]}}} for group in row.requires
        ]
    if row.name == "limit_set":
        change = [{"required": [name]} for name in ("limit", "ceiling", "clear_ceiling")]
        rule["allOf"] = [{"properties": {"data": {"anyOf": change}}}]
    rule["required"] = sorted(needed)
    return rule


def _own_rule() -> Schema:
    """A type that this ledger defined: its event type_defined says which references it needs beside its base's."""
    return {
        "title": "a transaction type of this ledger's own",
        "properties": {"data": _data({}, ["request"])},
        "required": ["data", "entries"],
    }


def _data(fields: Schema, required: list[str]) -> Schema:
    shared = {name: _ref(name) for name in ("reason", "metadata", "request")}
    return _object({**fields, **shared}, required)
