"""Canonical bytes: an event as one JSON object in RFC 8785 form, narrowed so that there is only one way to write it.

ASCII keys, sorted; no floats, no nulls; integers within ±(2^53-1); amounts as digit strings; at most 65,535 bytes and
16 levels. With these narrowings the standard library's encoder already writes RFC 8785. What is hashed, stored and
exported are these bytes; everything else is derived from them.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from tallystick.errors import EventTooLarge, LedgerCorrupt
from tallystick.events import MAX_EVENT_BYTES, MAX_EVENT_DEPTH, Entry, Event

MAX_INTEGER = 2**53 - 1
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_AMOUNT = re.compile(r"(?:0|-?[1-9][0-9]{0,18})\Z")


class _WireEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    account: str
    asset: str
    bucket: str
    amount: str
    before: str
    after: str
    version: int


class _WireEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    v: int
    ledger: str
    seq: int
    prev: str
    time: str
    type: str
    source: str
    idem: str
    effective: str = ""
    actor: str = ""
    refs: dict[str, str] = {}
    entries: list[_WireEntry] = []
    data: dict[str, Any] = {}
    salt: str = ""


_DECODER = msgspec.json.Decoder(_WireEvent)


def encode_event(event: Event) -> bytes:
    """The canonical bytes of a sealed event. Raises EventTooLarge."""
    fields: dict[str, Any] = {
        "v": event.v,
        "ledger": event.ledger,
        "seq": event.seq,
        "prev": event.prev,
        "time": event.time,
        "type": event.type,
        "source": event.source,
        "idem": event.idem,
    }
    for name in ("effective", "actor", "refs", "data", "salt"):
        value = getattr(event, name)
        if value:
            fields[name] = value
    if event.entries:
        fields["entries"] = [
            {
                "account": entry.account,
                "asset": entry.asset,
                "bucket": entry.bucket,
                "amount": str(entry.amount),
                "before": str(entry.before),
                "after": str(entry.after),
                "version": entry.version,
            }
            for entry in event.entries
        ]
    body = _ENCODER.encode(fields).encode()
    if len(body) > MAX_EVENT_BYTES:
        raise EventTooLarge(size=len(body), limit=MAX_EVENT_BYTES)
    return body


def decode_event(body: bytes) -> Event:
    """The event in these bytes, which were checked against their hash. Raises LedgerCorrupt if they hold none."""
    try:
        wire = _DECODER.decode(body)
        entries = tuple(
            Entry(e.account, e.asset, e.bucket, int(e.amount), int(e.before), int(e.after), e.version)  # type: ignore[arg-type]
            for e in wire.entries
        )
    except (msgspec.DecodeError, ValueError) as error:
        raise LedgerCorrupt(where="an event", problem=f"it cannot be read: {error}") from None
    return Event(
        v=wire.v,
        ledger=wire.ledger,
        seq=wire.seq,
        prev=wire.prev,
        time=wire.time,
        type=wire.type,
        source=wire.source,
        idem=wire.idem,
        effective=wire.effective,
        actor=wire.actor,
        refs=wire.refs,
        entries=entries,
        data=wire.data,
        salt=wire.salt,
    )


def decode_strict(body: bytes) -> Event:
    """The event in these bytes if, and only if, they are its canonical form. Raises LedgerCorrupt."""
    event = decode_event(body)
    try:
        _check(event.data, 2)
        canonical = encode_event(event) == body
    except (ValueError, RecursionError, EventTooLarge) as error:
        raise _refused(str(error)) from None
    if not canonical:
        parse_strict(body)  # says what is wrong, if it is wrong as JSON; else a field is
        raise _refused("it is not in canonical form")
    return event


def parse_strict(body: bytes) -> dict[str, Any]:
    """The object in these bytes if, and only if, they are its canonical form. Raises LedgerCorrupt.

    Refuses what a lenient parser lets through: duplicate or unsorted keys, white space, floats, nulls, NaN, huge
    integers, deep nesting, other spellings of a string.
    """
    if len(body) > MAX_EVENT_BYTES:
        raise _refused(f"{len(body)} bytes are more than {MAX_EVENT_BYTES}")
    try:
        found = json.loads(body.decode(), parse_float=_no_float, parse_constant=_no_float)
        _check(found, 1)
        again = _ENCODER.encode(found).encode()
    except (ValueError, RecursionError) as error:
        raise _refused(str(error)) from None
    if not isinstance(found, dict) or again != body:
        raise _refused("it is not in canonical form")
    return found


def is_amount(text: Any) -> bool:
    """Whether this is the one way to write an amount: digits without leading zeros, within 19 places."""
    return isinstance(text, str) and _AMOUNT.match(text) is not None


def _check(value: Any, depth: int) -> None:
    if depth > MAX_EVENT_DEPTH:
        raise ValueError(f"it is nested deeper than {MAX_EVENT_DEPTH}")
    if isinstance(value, dict):
        for key, item in value.items():
            if not key.isascii():
                raise ValueError(f"the key {key!r} is not ASCII")
            _check(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)
    elif value is None:
        raise ValueError("there is a null")
    elif type(value) is float:
        raise ValueError(f"{value} is not a whole number")
    elif type(value) is int and abs(value) > MAX_INTEGER:
        raise ValueError(f"{value} is beyond 2^53-1")


def _no_float(text: str) -> Any:
    raise ValueError(f"{text} is not a whole number")


def _refused(problem: str) -> LedgerCorrupt:
    return LedgerCorrupt(where="an event", problem=problem)
