"""Transactions: transfers and postings of any type, found again, and undone."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from tallystick.commands import FinalizeCharge, Post, Reverse, Transfer
from tallystick.errors import InvalidInput, NotFound, TransactionNotFound
from tallystick.ledger.views import Transaction
from tallystick.service.calls import Call
from tallystick.service.operations import Group
from tallystick.service.routes.accounts import Limit
from tallystick.wire.answers import Page, TransactionAnswer, transaction_answer
from tallystick.wire.fields import Cursor, MaybeKey, MaybePrintable, MaybeReferenceName
from tallystick.wire.forms import form

TRANSACTIONS = Group("Transactions")

_HERE = "/v1/ledgers/{ledger}"
_ONE = _HERE + "/transactions/{transaction}"


@TRANSACTIONS.act(
    f"{_HERE}/transfers",
    form(Transfer),
    example={"from_account": "users:alice", "to_account": "users:bob", "asset": "USD/2", "amount": "1250"},
)
def transfer(call: Call) -> Any:
    """One account pays another."""
    return call.command()


@TRANSACTIONS.act(
    f"{_HERE}/transactions",
    form(Post),
    example={
        "type": "transfer",
        "legs": [
            {"from_account": "users:alice", "to_account": "users:bob", "asset": "USD/2", "amount": "1000"},
            {"from_account": "users:alice", "to_account": "users:carol", "asset": "USD/2", "amount": "500"},
        ],
    },
)
def post_transaction(call: Call) -> Any:
    """Post a transaction of any type, with any number of legs and assets. ``effective`` back-dates it."""
    return call.command()


class TransactionsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Either ``key`` (an idempotency key of this key's own), or ``reference`` and ``value``."""

    key: MaybeKey = ""
    reference: MaybeReferenceName = ""
    value: MaybePrintable = ""
    limit: Limit = 100
    cursor: Cursor = ""


@TRANSACTIONS.read(
    f"{_HERE}/transactions",
    query=TransactionsQuery,
    answer=Page[TransactionAnswer],
    example={"reference": "order", "value": "order-7"},
)
def find_transactions(call: Call) -> Page[TransactionAnswer]:
    """Find transactions by the idempotency key that brought them about, or by a causal reference, oldest first."""
    query = call.query
    filters = {"key": query.key, "reference": query.reference, "value": query.value}
    place = call.page_place(filters, query.cursor, str(call.ledger.head.seq))
    kept = place.filters
    if bool(kept["key"]) == bool(kept["reference"]):
        raise InvalidInput(path="query", problem="name either key, or reference and value")
    if kept["key"]:
        one = call.ledger.by_key(kept["key"], call.principal.source)
        found = [one] if one is not None else []
    else:
        found = call.ledger.by_reference(
            kept["reference"], kept["value"], after=int(place.after or -1), limit=query.limit
        )
    shown = [item for item in found if item.seq < int(place.snapshot) and is_visible(call, item)]
    more = call.cursor(place, str(found[-1].seq)) if kept["reference"] and len(found) == query.limit else ""
    return Page([transaction_answer(item, None if call.sees_all else call.sees) for item in shown], more)


@TRANSACTIONS.read(_ONE, answer=TransactionAnswer)
def get_transaction(call: Call) -> TransactionAnswer:
    """A transaction, with its entries. Balances of accounts that the key may not read are left out."""
    return transaction_answer(visible(call), None if call.sees_all else call.sees)


def visible(call: Call, name: str = "transaction") -> Transaction:
    """The transaction in the path. Raises NotFound, also for one in which no account is the key's to read."""
    missing = NotFound(what=f"transaction {call.place(name)}")
    try:
        found = call.ledger.transaction(call.number(name))
    except TransactionNotFound:
        raise missing from None
    if not is_visible(call, found):
        raise missing
    return found


def is_visible(call: Call, found: Transaction) -> bool:
    """Whether a transaction is one of the key's to read: it may read an account that it is about."""
    if call.sees_all:
        return True
    declared = found.event.data.get("account", "")
    return any(call.sees(entry.account) for entry in found.entries) or bool(declared and call.sees(declared))


@TRANSACTIONS.act(f"{_ONE}/reverse", form(Reverse, "transaction"), example={"reason": "refund"}, looks_up=True)
def reverse_transaction(call: Call) -> Any:
    """Undo a transaction, whole or in part; no amount is undone twice."""
    return call.command(transaction=call.place("transaction"))


@TRANSACTIONS.act(f"{_ONE}/finalize", form(FinalizeCharge, "charge"), example={}, looks_up=True)
def finalize_charge(call: Call) -> Any:
    """Declare a captured charge final."""
    return call.command(charge=call.place("transaction"))
