"""The tools that look: balance, find and receipt. Statements and checks have files of their own."""

from __future__ import annotations

from typing import Any

from tallystick.agents.requests import Desk
from tallystick.agents.schemas import (
    ASSET,
    COUNT,
    DIGITS,
    FLAG,
    KEY,
    LEDGER,
    TEXT,
    TEXTS,
    TRANSACTION,
    account,
    list_of,
    object_of,
    text,
    time,
)
from tallystick.agents.tool import Answer, Tool


class Misused(Exception):
    """What was asked is well formed, and makes no sense."""


# ---------------------------------------------------------------- balance


async def _balance(desk: Desk, given: dict[str, Any]) -> Answer:
    name, asset, as_of = given["account"], given.get("asset", ""), given.get("as_of", "")
    ledger = given.get("ledger", "")
    found = await desk.get(desk.path(ledger, "balances"), account=name, asset=asset, as_of=as_of)
    answer: Answer = {
        "ledger": found["ledger"],
        "account": name,
        "balances": [{part: balance[part] for part in ("asset", "bucket", "amount")} for balance in found["balances"]],
    }
    if as_of:
        answer["as_of"] = found["as_of"]
    elif asset:
        answer["spendable"] = (await desk.get(desk.account(ledger, name, "available"), asset=asset))["available"]
    return answer


BUCKETS = text(
    "available: can be spent; held: set aside by holds; bonded: staked; promo: only for what it was given; fees.",
    enum=["available", "held", "bonded", "fees", "promo"],
)

BALANCE = Tool(
    name="balance",
    title="Look at a balance",
    description=(
        "What an account has, by asset and bucket, in minor units. Name the asset to learn also what it may spend now "
        "(`spendable`: what is available and, where it has a credit limit, what that allows). An account that was "
        "never used has no balances."
    ),
    asks=object_of(
        {
            "account": account("Whose balance."),
            "asset": ASSET,
            "as_of": time("As it was at this time."),
            "ledger": LEDGER,
        },
        optional=("asset", "as_of", "ledger"),
    ),
    answers=object_of(
        {
            "ledger": TEXT,
            "account": TEXT,
            "balances": list_of(object_of({"asset": TEXT, "bucket": BUCKETS, "amount": DIGITS}), "One each."),
            "spendable": {**DIGITS, "description": "What may be spent of the asset that was named, in minor units."},
            "as_of": TEXT,
        },
        optional=("spendable", "as_of"),
    ),
    work=_balance,
)


# ---------------------------------------------------------------- find


async def _find(desk: Desk, given: dict[str, Any]) -> Answer:
    key, id = given.get("idempotency_key", ""), given.get("transaction_id", "")
    if bool(key) == bool(id):
        raise Misused("Name either `idempotency_key` (of a call of yours) or `transaction_id`, and not both.")
    if id:
        if "ledger" in given and id.partition("/")[0] != given["ledger"]:
            raise Misused(f"The transaction {id} is not of the ledger {given['ledger']}: leave `ledger` out.")
        return {"found": True, "transaction": _shown(await desk.get(desk.place(id, "transactions")))}
    page = await desk.get(desk.path(given.get("ledger", ""), "transactions"), key=key)
    if not page["items"]:
        return {
            "found": False,
            "advice": "Nothing was done under this key by this token's owner. A call that may still be under way can "
            "be repeated with the same key: it is never done twice.",
        }
    return {"found": True, "transaction": _shown(page["items"][0])}


_ENTRY = object_of(
    {"account": TEXT, "asset": TEXT, "bucket": TEXT, "amount": DIGITS, "before": DIGITS, "after": DIGITS},
    optional=("before", "after"),
)


def _shown(found: Any) -> Answer:
    names = ("ledger", "seq", "type", "time", "hash", "actor", "source")
    return {
        "transaction_id": found["id"],
        **{name: found[name] for name in names},
        "idempotency_key": found["key"],
        "refs": found["refs"],
        "entries": [
            {name: entry[name] for name in _ENTRY["properties"] if entry.get(name) is not None}
            for entry in found["entries"]
        ],
    }


FIND = Tool(
    name="find",
    title="Find out what happened to a request",
    description=(
        "What became of a call: by its idempotency_key, when no answer came or the answer was lost; or a transaction "
        "by its id. `found` false means that nothing was done under that key. Keys of others are not found."
    ),
    asks=object_of(
        {
            "idempotency_key": {**KEY, "description": "The idempotency_key of the call that you ask about."},
            "transaction_id": TRANSACTION,
            "ledger": LEDGER,
        },
        optional=("idempotency_key", "transaction_id", "ledger"),
    ),
    answers=object_of(
        {
            "found": FLAG,
            "transaction": object_of(
                {
                    "transaction_id": TEXT,
                    "ledger": TEXT,
                    "seq": COUNT,
                    "type": TEXT,
                    "time": TEXT,
                    "hash": TEXT,
                    "actor": TEXT,
                    "source": TEXT,
                    "idempotency_key": TEXT,
                    "refs": TEXTS,
                    "entries": list_of(_ENTRY, "What it changed, entry by entry; what is paid out is negative."),
                }
            ),
            "advice": TEXT,
        },
        optional=("transaction", "advice"),
    ),
    work=_find,
)


# ---------------------------------------------------------------- receipt


async def _receipt(desk: Desk, given: dict[str, Any]) -> Answer:
    found = await desk.get(desk.place(given["transaction_id"], "transactions", "/receipt"))
    return {
        "transaction_id": found["transaction"],
        "origin": found["origin"],
        "size": found["size"],
        "receipt": found["receipt"],
    }


RECEIPT = Tool(
    name="receipt",
    title="Get the receipt of a transaction",
    description=(
        "The receipt of a transaction: its bytes, and the proof that a checkpoint which the log has signed covers them "
        "(C2SP tlog-proof). Keep it, or hand it to whoever needs proof: anyone can check it offline with the log's "
        "key, or by `verify`. Just after a transaction there is none yet."
    ),
    asks=object_of({"transaction_id": TRANSACTION}),
    answers=object_of(
        {
            "transaction_id": TEXT,
            "origin": text("The log's name."),
            "size": {**COUNT, "description": "How many events its checkpoint covers."},
            "receipt": text("The receipt itself; keep every character."),
        }
    ),
    work=_receipt,
)
