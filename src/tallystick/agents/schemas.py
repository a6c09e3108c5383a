"""Schemas of what tools are asked and what they answer, and the one check of what they are asked.

Nothing is guessed: an argument that is not named is refused, a number is no amount, and a pattern speaks of the whole
text. What is wrong is said in words that tell how it is done right, as the reader may be a language model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from jsonschema.exceptions import ValidationError, best_match  # type: ignore[import-untyped]
from jsonschema.validators import extend  # type: ignore[import-untyped]

Schema = dict[str, Any]

MAX_REASON = 500
MAX_RECEIPT = 400_000
"""A receipt's text: an event of 64 KiB in base64, and a checkpoint with its cosignatures."""
MAX_KEYS = 16
MAX_LINES = 1_000
"""The most entries of one page of a statement."""
_SHOWN = 80


def object_of(properties: Mapping[str, Schema], *, optional: tuple[str, ...] = ()) -> Schema:
    """An object with these properties and no others; all must be there but the optional ones."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def text(description: str, pattern: str = "", **more: Any) -> Schema:
    """A text; ``pattern`` speaks of all of it."""
    return {"type": "string", "description": description, **({"pattern": pattern} if pattern else {}), **more}


def list_of(item: Schema, description: str, **more: Any) -> Schema:
    return {"type": "array", "description": description, "items": item, **more}


# ---------------------------------------------------------------- what is asked

_LEDGER = r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}"
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ][0-9:.,]{2,20}([Zz]|[+\-][0-9:]{2,6}))?$"

LEDGER = text("The ledger. Without it: the one that this server was started for.", f"^{_LEDGER}$")
ASSET = text(
    "The asset as CODE/SCALE: USD/2 is counted in cents, JPY in whole yen.",
    r"^[A-Z][A-Z0-9_]{0,31}(/([0-9]|1[0-8]))?$",
    examples=["USD/2"],
)
AMOUNT = text(
    'How much, in minor units of the asset, as a string of digits: "1250" is 12.50 in USD/2. Never a JSON number.',
    r"^[1-9][0-9]{0,18}$",
    examples=["1250"],
)
KEY = text(
    "A new unique text for each thing that you want done, such as a UUID. If you do not know whether a call was done, "
    "repeat it with the SAME key: it is never done twice. Never use a key for something else.",
    r"^[!-~]([ -~]{0,253}[!-~])?$",
    examples=["order-1842-transfer"],
)
REASON = text("What it is for, kept in the journal for good.", maxLength=MAX_REASON)
ORDER = text("The order that it belongs to, kept in the journal as a reference.", r"^[!-~]{1,240}$")
HOLD = text("The hold_id that freeze answered.", f"^{_LEDGER}/[0-9]{{1,19}}$", examples=["main/42"])
TRANSACTION = text("The id of a transaction.", f"^{_LEDGER}/[0-9]{{1,19}}$", examples=["main/42"])
SECONDS = {
    "type": "integer",
    "minimum": 1,
    "maximum": 3_153_600_000,
    "description": "How long it stays frozen. Without it: as the ledger's policy says.",
}
CURSOR = text("The cursor of the page before; leave it out for the first page.", r"^[A-Za-z0-9_.~:=\-]{1,8192}$")


def account(description: str) -> Schema:
    """An account's address."""
    return text(description, r"^[A-Za-z0-9_.:%@\-]{1,255}$", examples=["users:alice"])


def time(description: str) -> Schema:
    return text(f"{description} ISO 8601 with a zone, or a date (UTC).", _TIME, examples=["2026-01-31T12:00:00Z"])


# ---------------------------------------------------------------- what is answered

DIGITS = text("Minor units, as decimal digits.", r"^-?(0|[1-9][0-9]{0,18})$")
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
TEXT: Schema = {"type": "string"}
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}

POSTED: dict[str, Schema] = {
    "transaction_id": text("The transaction, by which `find` and `receipt` know it."),
    "ledger": TEXT,
    "seq": COUNT,
    "hash": text("The leaf hash of its event, by which anyone recognizes it."),
    "time": TEXT,
    "replayed": {"type": "boolean", "description": "It was done before under this key, and this is that answer."},
}


# ---------------------------------------------------------------- the check


def _whole_pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """As the patterns of ECMAScript: ``$`` is the end of the text, not the place before a last newline."""
    if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_Validator: Any = extend(Draft202012Validator, {"pattern": _whole_pattern})


class Checker:
    """Checks the arguments of one tool."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._validator = _Validator(schema)

    def problem(self, arguments: Mapping[str, Any]) -> str:
        """What is wrong with these arguments, and how it is done right; empty if nothing is."""
        error = best_match(self._validator.iter_errors(dict(arguments)))
        return "" if error is None else self._told(error, arguments)

    def _told(self, error: ValidationError, arguments: Mapping[str, Any]) -> str:
        known = self._schema["properties"]
        if error.validator == "additionalProperties":
            strange = ", ".join(f"`{name:.40}`" for name in sorted(arguments.keys() - known.keys()))
            return f"There is no argument {strange}. This tool knows: {', '.join(known)}."
        if error.validator == "required":
            missing = next(name for name in self._schema["required"] if name not in arguments)
            return f"`{missing}` is missing. {known[missing]['description']}"
        path = str(error.absolute_path[0]) if error.absolute_path else "arguments"
        rule = known.get(path, {})
        if rule is AMOUNT:
            return _about_amount(path, error.instance)
        shown = json.dumps(error.instance, default=str)[:_SHOWN]
        example = f" For example: {json.dumps(rule['examples'][0])}." if "examples" in rule else ""
        return f"`{path}` cannot be {shown}. {rule.get('description', error.message[:_SHOWN])}{example}"


def _about_amount(path: str, given: Any) -> str:
    if type(given) is int and given > 0:
        return (
            f"`{path}` must be a string, not a JSON number, so that no digit is ever lost. "
            f'Amounts are minor units: if you mean {given} minor units, send "{path}": "{given}".'
        )
    if isinstance(given, float):
        return (
            f"`{path}` must be a string of whole minor units, not the number {given!r}. "
            'In USD/2, 12.50 dollars are "1250": multiply by 10 to the power of the scale, and send the digits.'
        )
    return (
        f"`{path}` cannot be {json.dumps(given, default=str)[:_SHOWN]}: it is a positive whole number of minor units, "
        'as a string of digits without point, sign or spaces. 12.50 in USD/2 is "1250".'
    )
