"""Statements: the entries of an account in a period, between an opening and a closing balance, page by page.

The first page fixes the end of the period, at the last event that there is then, and the cursor carries it: what is
posted while an agent turns the pages falls outside. Every page is added up before it is shown; one that does not go
from its first balance to its last is an error, never an answer.
"""

from __future__ import annotations

import asyncio
from typing import Any

from tallystick.agents.advice import Doubt
from tallystick.agents.reading import Misused
from tallystick.agents.requests import Desk
from tallystick.agents.schemas import (
    ASSET,
    COUNT,
    CURSOR,
    DIGITS,
    LEDGER,
    MAX_LINES,
    TEXT,
    TEXTS,
    account,
    list_of,
    object_of,
    text,
    time,
)
from tallystick.agents.tool import Answer, Tool
from tallystick.clock import BEGINNING, add_seconds, parse_time
from tallystick.errors import InvalidInput

_INSTANT = 0.000001
_LINES = 100

Amounts = dict[tuple[str, str], int]


async def _statement(desk: Desk, given: dict[str, Any]) -> Answer:
    name, asset, ledger = given["account"], given.get("asset", ""), given.get("ledger", "")
    start, end, cursor = await _period(desk, given)
    opening, closing, page = await asyncio.gather(
        _balances(desk, ledger, name, asset, start),
        _balances(desk, ledger, name, asset, end),
        desk.get(
            desk.path(ledger, "entries"),
            account=name,
            asset=asset,
            limit=str(given.get("limit", _LINES)),
            cursor=cursor,
            **{"from": "" if start == BEGINNING else start, "to": end},
        ),
    )
    lines, more = page["items"], page["cursor"]
    movements = _movements(lines)
    _check_ends(movements, None if cursor else opening, None if more else closing)
    return {
        "account": name,
        "from": "" if start == BEGINNING else start,
        "to": end,
        "opening": _rows(opening),
        "closing": _rows(closing),
        "movements": [
            {"asset": asset, "bucket": bucket, **{part: str(amount) for part, amount in movement.items()}}
            for (asset, bucket), movement in sorted(movements.items())
        ],
        "entries": [_entry(line) for line in lines],
        "cursor": f"{start}~{end}~{more}" if more else "",
    }


# ---------------------------------------------------------------- the period


async def _period(desk: Desk, given: dict[str, Any]) -> tuple[str, str, str]:
    """Start and end (which is outside), and the service's own cursor. Raises Misused."""
    if given.get("cursor"):
        start, _, rest = given["cursor"].partition("~")
        end, _, cursor = rest.partition("~")
        try:
            if cursor and {parse_time(start), parse_time(end)} == {start, end}:
                return start, end, cursor
        except InvalidInput:
            pass
        raise Misused("`cursor` is not one that `statement` answered: give it exactly as it was, or leave it out.")
    try:
        start = parse_time(given["from"], "from") if given.get("from") else BEGINNING
        asked = parse_time(given["to"], "to") if given.get("to") else ""
    except InvalidInput as error:
        raise Misused(str(error)) from None
    head = (await desk.get(desk.path(given.get("ledger", ""), "").rstrip("/")))["time"]
    last = add_seconds(head or BEGINNING, _INSTANT)
    end = min(asked, last) if asked else last
    if asked and asked < start:
        raise Misused(f"`to` ({asked}) is before `from` ({start}): swap them.")
    return start, max(start, end), ""


async def _balances(desk: Desk, ledger: str, name: str, asset: str, before: str) -> Amounts:
    """The account's balances as they had been recorded before an instant."""
    if before == BEGINNING:
        return {}
    recorded = add_seconds(before, -_INSTANT)
    found = await desk.get(desk.path(ledger, "balances"), account=name, asset=asset, recorded=recorded)
    return {(row["asset"], row["bucket"]): int(row["amount"]) for row in found["balances"]}


# ---------------------------------------------------------------- adding up


def _movements(lines: list[Any]) -> dict[tuple[str, str], dict[str, int]]:
    """What this page did to each balance. Raises Doubt if an entry does not follow on the one before it."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    for line in lines:
        amount, before, after = int(line["amount"]), int(line["before"]), int(line["after"])
        place = (line["asset"], line["bucket"])
        movement = found.setdefault(place, {"opening": before, "credits": 0, "debits": 0, "closing": before})
        if movement["closing"] != before or before + amount != after:
            raise Doubt(f"the entry {line['id']} does not follow on the balance before it")
        movement["credits" if amount > 0 else "debits"] += abs(amount)
        movement["closing"] = after
    return found


def _check_ends(
    movements: dict[tuple[str, str], dict[str, int]], opening: Amounts | None, closing: Amounts | None
) -> None:
    """Raises Doubt if the entries do not lead from the opening to the closing balance. Pages in the middle show only
    that they hang together; the first must begin with the one, the last end with the other."""
    for place, movement in movements.items():
        if opening is not None and movement["opening"] != opening.get(place, 0):
            raise Doubt(f"the first entry in {place} does not follow on the opening balance")
        if closing is not None and movement["closing"] != closing.get(place, 0):
            raise Doubt(f"the last entry in {place} does not lead to the closing balance")
    if opening is None or closing is None:
        return
    unmoved = (opening.keys() | closing.keys()) - movements.keys()
    if any(opening.get(place, 0) != closing.get(place, 0) for place in unmoved):
        raise Doubt("a balance changed without an entry")


def _rows(amounts: Amounts) -> list[Answer]:
    return [
        {"asset": asset, "bucket": bucket, "amount": str(amount)} for (asset, bucket), amount in sorted(amounts.items())
    ]


def _entry(line: Any) -> Answer:
    names = ("seq", "time", "type", "asset", "bucket", "amount", "before", "after", "reason", "refs")
    return {"transaction_id": line["id"], **{name: line[name] for name in names}}


# ---------------------------------------------------------------- the tool

_BALANCE = object_of({"asset": TEXT, "bucket": TEXT, "amount": DIGITS})
_MOVEMENT = object_of(
    {"asset": TEXT, "bucket": TEXT, "opening": DIGITS, "credits": DIGITS, "debits": DIGITS, "closing": DIGITS}
)
_LINE = object_of(
    {
        "transaction_id": TEXT,
        "seq": COUNT,
        "time": TEXT,
        "type": TEXT,
        "asset": TEXT,
        "bucket": TEXT,
        "amount": DIGITS,
        "before": DIGITS,
        "after": DIGITS,
        "reason": TEXT,
        "refs": TEXTS,
    }
)

STATEMENT = Tool(
    name="statement",
    title="Get a statement of an account",
    description=(
        "The entries of an account recorded in [from, to), in order, each with the balance before and after it, and "
        "the opening and closing balances of the period: opening plus entries is closing. `movements` adds up this "
        "page. If `cursor` is not empty, call again with it and the same other arguments for the next page."
    ),
    asks=object_of(
        {
            "account": account("Whose statement."),
            "asset": ASSET,
            "from": time("From this time on."),
            "to": time("Up to, and without, this time."),
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_LINES,
                "description": f"The most entries of a page, 1 to {MAX_LINES}; {_LINES} without it.",
            },
            "cursor": CURSOR,
            "ledger": LEDGER,
        },
        optional=("asset", "from", "to", "limit", "cursor", "ledger"),
    ),
    answers=object_of(
        {
            "account": TEXT,
            "from": text("Where the period begins; empty: at the beginning of the ledger."),
            "to": text("Where it ends: never behind the last event."),
            "opening": list_of(_BALANCE, "As the period began; what is not listed was never used."),
            "closing": list_of(_BALANCE, "As it ended."),
            "movements": list_of(_MOVEMENT, "What the entries of this page come to, balance by balance."),
            "entries": list_of(_LINE, "In the order of the journal."),
            "cursor": text("For the next page; empty on the last one."),
        }
    ),
    work=_statement,
)
