"""Balances: what stands where, now or as of a time, and everything together as a trial balance."""

from __future__ import annotations

from msgspec import Struct

from tallystick.accounts import Bucket
from tallystick.errors import InvalidInput
from tallystick.service.calls import Call, moment
from tallystick.service.operations import Group
from tallystick.service.routes.accounts import Limit
from tallystick.wire.answers import (
    AvailableAnswer,
    BalancesAnswer,
    LineAnswer,
    Page,
    TrialBalanceAnswer,
    balance_answer,
    line_answer,
    trial_balance_answer,
)
from tallystick.wire.fields import Address, Asset, Cursor, MaybeAddress, MaybeAsset, MaybeTime

BALANCES = Group("Balances and entries")

_HERE = "/v1/ledgers/{ledger}"


class BalancesQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """``as_of``: what had taken effect by then; ``recorded``: what was known then; both together are allowed."""

    account: Address
    asset: MaybeAsset = ""
    bucket: Bucket | None = None
    as_of: MaybeTime = ""
    recorded: MaybeTime = ""


@BALANCES.ask(f"{_HERE}/balances", query=BalancesQuery, answer=BalancesAnswer, example={"account": "users:alice"})
async def get_balances(call: Call) -> BalancesAnswer:
    """The balances of an account, bucket by bucket."""
    query = call.query
    account = call.require_account(query.account)
    as_of, recorded = moment(query.as_of, "as_of"), moment(query.recorded, "recorded")
    if as_of is None and recorded is None:
        found = await call.service.balances(call.ledger, account)
    else:
        found = await call.service.in_thread(lambda: call.ledger.balances(account, as_of=as_of, recorded=recorded))
    return BalancesAnswer(
        call.ledger_name,
        account,
        [
            balance_answer(balance)
            for balance in found
            if query.asset in ("", balance.asset) and query.bucket in (None, balance.bucket)
        ],
        as_of or "",
        recorded or "",
    )


class AvailableQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """In which asset."""

    asset: Asset


@BALANCES.read(
    f"{_HERE}/accounts/{{account}}/available", query=AvailableQuery, answer=AvailableAnswer, example={"asset": "USD/2"}
)
def get_available(call: Call) -> AvailableAnswer:
    """What an account may still spend: what is available and what its limit allows."""
    account = call.require_account(call.path["account"])
    return AvailableAnswer(account, call.query.asset, str(call.ledger.available(account, call.query.asset)))


class EntriesQuery(Struct, frozen=True, forbid_unknown_fields=True, rename={"start": "from", "end": "to"}):
    """Recorded in [``from``, ``to``)."""

    account: MaybeAddress = ""
    asset: MaybeAsset = ""
    bucket: Bucket | None = None
    start: MaybeTime = ""
    end: MaybeTime = ""
    limit: Limit = 100
    cursor: Cursor = ""


@BALANCES.read(f"{_HERE}/entries", query=EntriesQuery, answer=Page[LineAnswer], example={"account": "users:alice"})
def list_entries(call: Call) -> Page[LineAnswer]:
    """The entries of an account in the order of the journal, each with the balance before and after it.

    The pages show what had been recorded when the first one was asked for.
    """
    query = call.query
    filters = {
        "account": query.account,
        "asset": query.asset,
        "bucket": query.bucket or "",
        "from": query.start,
        "to": query.end,
    }
    place = call.page_place(filters, query.cursor, str(call.ledger.head.seq))
    kept = place.filters
    if not kept["account"]:
        raise InvalidInput(path="account", problem="name the account whose entries are wanted")
    found = call.ledger.register(
        call.require_account(kept["account"]),
        asset=kept["asset"],
        bucket=kept["bucket"],
        start=moment(kept["from"], "from"),
        end=moment(kept["to"], "to"),
        after=place.after,
        limit=query.limit,
    )
    lines = [line_answer(line) for line in found.items if line.seq < int(place.snapshot)]
    more = found.cursor and len(lines) == len(found.items)
    return Page(lines, call.cursor(place, found.cursor) if more else "")


class TrialBalanceQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """``as_of``: what had taken effect by then; ``recorded``: what was known then."""

    as_of: MaybeTime = ""
    recorded: MaybeTime = ""


@BALANCES.read(f"{_HERE}/trial-balance", query=TrialBalanceQuery, answer=TrialBalanceAnswer, whole=True)
def get_trial_balance(call: Call) -> TrialBalanceAnswer:
    """Every balance that is not zero, debits and credits apart, and what each asset adds up to, which is zero."""
    found = call.ledger.trial_balance(
        as_of=moment(call.query.as_of, "as_of"), recorded=moment(call.query.recorded, "recorded")
    )
    return trial_balance_answer(call.ledger_name, found)
