"""Clearing: the accounts towards other domains, and the settlement of what was netted with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from tallystick.accounts import CLEARING, MAX_ADDRESS
from tallystick.commands import Leg, OpenAccount, Post
from tallystick.errors import InvalidInput, NotFound
from tallystick.ledger.views import Transaction
from tallystick.service.calls import Call
from tallystick.service.operations import Group
from tallystick.service.routes.accounts import Limit, readable_prefix
from tallystick.service.routes.transactions import is_visible
from tallystick.wire.amounts import minor
from tallystick.wire.answers import AccountAnswer, Page, account_answer, transaction_answer
from tallystick.wire.clearing import NettedTotal, NettingBatchAnswer
from tallystick.wire.fields import Address, Asset, Cursor, Positive, Reference, text
from tallystick.wire.forms import Form, form

CLEARINGS = Group("Clearing")

_HERE = "/v1/ledgers/{ledger}"
BATCH = "netting_batch"

MAX_NETTED = 10_000
"""A netting batch of more postings has no totals."""
_AT_ONCE = 1_000

Domain = text(
    r"[A-Za-z0-9_.:\-]+",
    "the name of another ledger or cell: letters, digits, _ . : -",
    most=MAX_ADDRESS - len(CLEARING),
    example="north.example",
)


def _request(name: str, doc: str, notes: Form, *fields: Any) -> type[Struct]:
    """A body with fields of its own, and what every command of the form may carry."""
    return msgspec.defstruct(
        name,
        list(fields),
        bases=(notes.request,),
        kw_only=True,
        frozen=True,
        forbid_unknown_fields=True,
        namespace={"__doc__": doc},
    )


# ---------------------------------------------------------------- accounts

_OPENING: Form = form(OpenAccount, "account", "floorless", "limits")

ClearingAccountRequest = _request(
    "ClearingAccountRequest",
    "The clearing account towards another domain. It may go into debt without end, unless a ceiling is set there.",
    _OPENING,
    ("domain", Domain),
)


@CLEARINGS.act(
    f"{_HERE}/clearing/accounts", body=ClearingAccountRequest, verb="govern", example={"domain": "north.example"}
)
def open_clearing_account(call: Call) -> Any:
    """Declare the clearing account towards a domain, ``@clearing:<domain>``."""
    return call.permitted(call.of(_OPENING, call.body, account=CLEARING + call.body.domain, floorless=True))


class ClearingAccountsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """By domain."""

    limit: Limit = 100
    cursor: Cursor = ""


@CLEARINGS.read(f"{_HERE}/clearing/accounts", query=ClearingAccountsQuery, answer=Page[AccountAnswer])
def list_clearing_accounts(call: Call) -> Page[AccountAnswer]:
    """The clearing accounts, with their balances as of the first page."""
    query = call.query
    place = call.page_place({}, query.cursor, call.ledger.head.time)
    found = call.ledger.accounts_with_balances(
        readable_prefix(call, CLEARING), after=place.after, limit=query.limit, recorded=place.snapshot or None
    )
    more = call.cursor(place, found[-1].address) if len(found) == query.limit else ""
    return Page([account_answer(account) for account in found], more)


# ---------------------------------------------------------------- settlements

_NOTES: Form = form(Post, "type", "legs")

SettlementRequest = _request(
    "SettlementRequest",
    "A netted amount is settled; one of the two accounts is a clearing account.",
    _NOTES,
    ("from_account", Address),
    ("to_account", Address),
    ("asset", Asset),
    ("amount", Positive),
    ("netting_batch", Reference),
)


@CLEARINGS.act(
    f"{_HERE}/settlements",
    body=SettlementRequest,
    example={
        "from_account": "users:alice",
        "to_account": "@clearing:north.example",
        "asset": "USD/2",
        "amount": "100",
        "netting_batch": "2026-01-31",
    },
)
def settle(call: Call) -> Any:
    """Settle a netted amount through a clearing account. Out of a clearing account it takes the verb ``issue``."""
    body = call.body
    refs = dict(body.refs or {})
    if refs.setdefault(BATCH, body.netting_batch) != body.netting_batch:
        raise InvalidInput(path=f"refs.{BATCH}", problem="it is another batch than netting_batch names")
    leg = Leg(body.from_account, body.to_account, body.asset, minor(body.amount))
    command = call.of(_NOTES, body, type="settlement", legs=(leg,))
    return call.permitted(msgspec.structs.replace(command, refs=refs))


class BatchQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """The pages show what had been recorded when the first one was asked for."""

    limit: Limit = 100
    cursor: Cursor = ""


@CLEARINGS.read(f"{_HERE}/clearing/batches/{{batch}}", query=BatchQuery, answer=NettingBatchAnswer)
def get_netting_batch(call: Call) -> NettingBatchAnswer:
    """What bears a netting batch's reference (settlements, and what undid them), and what it comes to."""
    query, batch = call.query, call.path["batch"]
    place = call.page_place({"batch": batch}, query.cursor, str(call.ledger.head.seq))
    before = int(place.snapshot)
    if place.after:
        found = list(_bearing(call, batch, int(place.after), before, query.limit))
        totals = None
    else:
        found = list(_bearing(call, batch, -1, before, max(MAX_NETTED + 1, query.limit)))
        if not any(is_visible(call, item) for item in found):
            raise NotFound(what=f"netting batch {batch[:80]}")
        totals = _totals(call, found) if len(found) <= MAX_NETTED else None
    page = found[: query.limit]
    shown = [transaction_answer(item, None if call.sees_all else call.sees) for item in page if is_visible(call, item)]
    more = call.cursor(place, str(page[-1].seq)) if len(page) == query.limit else ""
    return NettingBatchAnswer(batch, totals, shown, more)


def _bearing(call: Call, batch: str, after: int, before: int, most: int) -> Iterator[Transaction]:
    """Up to so many postings that bear the reference, in (after, before)."""
    while most > 0:
        limit = min(most, _AT_ONCE)
        found = call.ledger.by_reference(BATCH, batch, after=after, limit=limit)
        yield from (item for item in found if item.seq < before)
        if len(found) < limit:
            return
        after, most = found[-1].seq, most - limit


def _totals(call: Call, found: Sequence[Transaction]) -> list[NettedTotal]:
    sums: dict[tuple[str, str], list[int]] = {}
    for item in found:
        for entry in item.entries:
            if call.sees(entry.account):
                total = sums.setdefault((entry.account, entry.asset), [0, 0])
                total[entry.amount < 0] += abs(entry.amount)
    return [
        NettedTotal(account, asset, str(received), str(paid), str(received - paid))
        for (account, asset), (received, paid) in sorted(sums.items())
    ]
