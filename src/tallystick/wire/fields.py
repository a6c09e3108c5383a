"""Fields: what each kind of field may hold on the wire, as types that both check it and describe it.

The patterns are in the common part of the regular expressions of Python and of ECMA-262, which JSON Schema refers to;
``$(?!\\n)`` is the very end of a text in both. What they refuse the kernel would refuse too: here it is refused
earlier, with the field's path, and the OpenAPI document can say so.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from tallystick.accounts import EXTERNAL, MAX_ADDRESS
from tallystick.commands import Command, DefineType
from tallystick.erasable import Erasable
from tallystick.events import REFERENCES
from tallystick.kernel.book import Policy
from tallystick.kernel.decide import MAX_METADATA
from tallystick.kernel.locks import MAX_EXPIRY_SECONDS
from tallystick.kernel.texts import MAX_KEY, MAX_TEXT
from tallystick.money import MAX_AMOUNT

MAX_RULE = 2**53 - 1
"""The largest number in a ledger's rules."""
MAX_TYPES = 100
"""The most types that one list or stream may be filtered by."""

_END = r"$(?!\n)"
_ADDRESS = (
    r"(?:(?!did:)[A-Za-z0-9_.\-]+(?::[A-Za-z0-9_.\-]+)*"
    r"|did:[a-z0-9]+:(?:[A-Za-z0-9._:\-]|%[0-9A-Fa-f]{2})*(?:[A-Za-z0-9._\-]|%[0-9A-Fa-f]{2})"
    r"|@(?:issuance|fees|treasury|(?:clearing|external):[A-Za-z0-9_.:\-]+))"
)
_ASSET = r"[A-Z][A-Z0-9_]{0,31}(?:/(?:[0-9]|1[0-8]))?"
_TIME = (
    r"(?!0000)[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
    r"(?:T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
    r"(?:Z|[+\-](?:[01][0-9]|2[0-3]):[0-5][0-9]))?"
)
_UP_TO_MAX = (  # nineteen digits may say more than 2^63-1
    "[1-9][0-9]{0,17}|[1-8][0-9]{18}|9[01][0-9]{17}|92[01][0-9]{16}|922[0-2][0-9]{15}|9223[0-2][0-9]{14}"
    "|92233[0-6][0-9]{13}|922337[01][0-9]{12}|92233720[0-2][0-9]{10}|922337203[0-5][0-9]{9}|9223372036[0-7][0-9]{8}"
    "|92233720368[0-4][0-9]{7}|922337203685[0-3][0-9]{6}|9223372036854[0-6][0-9]{5}|92233720368547[0-6][0-9]{4}"
    "|922337203685477[0-4][0-9]{3}|9223372036854775[0-7][0-9]{2}|922337203685477580[0-7]"
)

HINTS: dict[str, str] = {}
"""What a text that does not match a pattern should have looked like, by pattern."""


def text(pattern: str, hint: str, *, most: int | None = None, example: str = "", optional: bool = False) -> Any:
    """A text that matches a pattern as a whole; ``hint`` says in words what it should look like."""
    whole = f"^(?:{pattern})?{_END}" if optional else f"^(?:{pattern}){_END}"
    HINTS[whole] = hint
    examples = [example] if example else None
    return Annotated[
        str, Meta(pattern=whole, max_length=most, description=hint[0].upper() + hint[1:], examples=examples)
    ]


def _amount(digits: str, least: int, hint: str) -> Any:
    """An amount from ``least`` on: a string of digits, or an integer."""
    whole = f"^(?:{digits}){_END}"
    HINTS[whole] = hint
    return (
        Annotated[str, Meta(pattern=whole, description="Minor units, as decimal digits.", examples=["1250"])]
        | Annotated[int, Meta(ge=least, le=MAX_AMOUNT, description="Minor units; a string is safer.")]
    )


# ---------------------------------------------------------------- single fields

Positive: Any = _amount(_UP_TO_MAX, 1, "a whole number of minor units, 1 to 9223372036854775807, as digits")
NotNegative: Any = _amount(f"0|{_UP_TO_MAX}", 0, "a whole number of minor units, 0 to 9223372036854775807, as digits")
Signed: Any = _amount(f"0|-?(?:{_UP_TO_MAX})", -MAX_AMOUNT, "a whole number of minor units, up to ±(2^63-1), as digits")

_LIKE_ADDRESS = "an address such as users:alice, a DID, or one of the ledger's own such as @fees"
Address = text(_ADDRESS, _LIKE_ADDRESS, most=MAX_ADDRESS, example="users:alice")
MaybeAddress = text(_ADDRESS, f"{_LIKE_ADDRESS}, or empty", most=MAX_ADDRESS, optional=True)
AddressPrefix = text(
    r"[A-Za-z0-9_.:%@\-]*", "the beginning of an address, such as users:", most=MAX_ADDRESS, example="users:"
)
Rail = text(
    r"[A-Za-z0-9_.:\-]+",
    "the name of a rail: letters, digits, _ . : -",
    most=MAX_ADDRESS - len(EXTERNAL),
    example="bank",
)

Asset = text(_ASSET, "an asset such as USD/2: a code and a scale", example="USD/2")
MaybeAsset = text(_ASSET, "an asset such as USD/2, or empty", optional=True)

_LIKE_TIME = "a time such as 2026-11-21T09:00:00Z (RFC 3339), or a date"
Time = text(_TIME, _LIKE_TIME, example="2026-01-01T00:00:00Z")
MaybeTime = text(_TIME, f"{_LIKE_TIME}, or empty", optional=True)

TypeName = text(r"[a-z][a-z0-9_]{0,63}", "a name such as transfer: small letters, digits, _", example="transfer")
LedgerName = text(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}", "a name of letters, digits, _ . - (64 at most)", example="main")
LedgerNameOrAll = text(
    r"\*|[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}", "the name of a ledger, or * for all of them", example="main"
)
ReserveId = text(r"[A-Za-z0-9_.:\-]{1,128}", "an id of 1 to 128 letters, digits, _ . : -", example="bank:main")
Digest = text(r"[0-9a-f]{64}", "a digest of 64 hexadecimal digits (SHA-256)")
PublicKey = text(r"[ -~]{1,4096}", "a key of 1 to 4096 ASCII characters")
LockId = text(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}/(?:0|[1-9][0-9]{0,17})", "an id such as main/12", example="main/12")
ReferenceName = text("|".join(REFERENCES), f"one of {', '.join(REFERENCES)}", example="order")
MaybeReferenceName = text("|".join(REFERENCES), f"one of {', '.join(REFERENCES)}, or empty", optional=True)
NoteName = text(r"[ -~]{1,64}", "a name of 1 to 64 printable ASCII characters", example="note")
MaybeKey = text(r"[!-~](?:[ -~]{0,253}[!-~])?", "a key of 1 to 255 printable ASCII characters, or empty", optional=True)
MaybePrintable = text(r"[^\x00-\x1f\x7f]{1,255}", "up to 255 printable characters", optional=True)
Cursor = text(r"[A-Za-z0-9_\-]{0,2048}", "the cursor of a page, as it was given")

EventTypes = text(
    rf"[a-z][a-z0-9_]{{0,63}}(?:,[a-z][a-z0-9_]{{0,63}}){{0,{MAX_TYPES - 1}}}",
    f"names of event types, {MAX_TYPES} at most, separated by commas",
    example="transfer,hold",
    optional=True,
)

FreeText = Annotated[str, Meta(max_length=MAX_TEXT)]
Reason = FreeText | Erasable
Reference = Annotated[str, Meta(min_length=1, max_length=MAX_KEY)]
References = dict[ReferenceName, Reference]  # type: ignore[valid-type]
Metadata = Annotated[dict[NoteName, Reason], Meta(max_length=MAX_METADATA)]  # type: ignore[valid-type]
Seconds = Annotated[int, Meta(ge=1, le=MAX_EXPIRY_SECONDS)]
BasisPoints = Annotated[int, Meta(ge=0, le=10_000)]
Version = Annotated[int, Meta(ge=0, le=MAX_AMOUNT)]
Number = Annotated[int, Meta(ge=0, le=MAX_RULE)]

FIELDS: dict[str, Any] = {
    "reason": Reason,
    "refs": References | None,
    "metadata": Metadata | None,
    **dict.fromkeys(("account", "from_account", "to_account", "member", "house"), Address),
    "settle_to": MaybeAddress,
    "asset": Asset,
    **dict.fromkeys(("effective", "expires", "valid_until"), MaybeTime),
    "until": Time,
    "expires_in_seconds": Seconds | None,
    "type": TypeName,
    "base": TypeName,
    "requires": Annotated[tuple[ReferenceName, ...], Meta(max_length=len(REFERENCES))],  # type: ignore[valid-type]
    **dict.fromkeys(("name", "owner", "summary", "provider"), FreeText),
    "reserve": ReserveId,
    "haircut_bps": BasisPoints,
    "digest": Digest,
    "statement": dict[NoteName, FreeText],  # type: ignore[valid-type]
    "public_key": PublicKey,
    "version": Version | None,
    **dict.fromkeys(("hold", "stake", "bet", "transaction", "charge"), LockId),
}
"""What the fields of commands may hold, by name; amounts, parts and rules are in forms."""


# ---------------------------------------------------------------- the rules of a ledger

Rules: Any = msgspec.defstruct(
    "Rules",
    [
        (found.name, (Number if found.type is int else found.type) | UnsetType, UNSET)
        for found in msgspec.structs.fields(Policy)
    ],
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    namespace={"__doc__": Policy.__doc__},
)
"""Rules of a ledger that are to differ from what they are."""


def rules_of(rules: Any) -> dict[str, Any]:
    """The rules that are named, by name."""
    return {name: value for name, value in msgspec.structs.asdict(rules).items() if value is not UNSET}


def field_of(command: type[Command], name: str) -> Any:
    """What a field of a command may hold; None if its own type says it all."""
    return TypeName if (command, name) == (DefineType, "name") else FIELDS.get(name)
