"""Accounts: declared, listed, frozen, limited and ended."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from tallystick.commands import CloseAccount, ExcludeAccount, FreezeAccount, OpenAccount, SetLimit, UnfreezeAccount
from tallystick.errors import Forbidden, NotFound
from tallystick.service.calls import Call, moment
from tallystick.service.operations import Group
from tallystick.service.settings import MAX_ITEMS
from tallystick.wire.answers import AccountAnswer, Page, account_answer
from tallystick.wire.fields import AddressPrefix, Cursor, MaybeTime
from tallystick.wire.forms import form

ACCOUNTS = Group("Accounts")

_HERE = "/v1/ledgers/{ledger}/accounts"

Limit = Annotated[int, Meta(ge=1, le=MAX_ITEMS, description="The most items of a page.")]


class AccountsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """``prefix``: only addresses that begin so. ``as_of``: balances as they had taken effect by then."""

    prefix: AddressPrefix = ""
    as_of: MaybeTime = ""
    limit: Limit = 100
    cursor: Cursor = ""


@ACCOUNTS.read(_HERE, query=AccountsQuery, answer=Page[AccountAnswer])
def list_accounts(call: Call) -> Page[AccountAnswer]:
    """The accounts that were declared or used, by address, with their balances.

    All pages show the balances as of the moment of the first one.
    """
    query = call.query
    place = call.page_place({"prefix": query.prefix, "as_of": query.as_of}, query.cursor, call.ledger.head.time)
    prefix = readable_prefix(call, place.filters["prefix"])
    found = call.ledger.accounts_with_balances(
        prefix,
        after=place.after,
        limit=query.limit,
        as_of=moment(place.filters["as_of"], "as_of"),
        recorded=place.snapshot or None,
    )
    more = call.cursor(place, found[-1].address) if len(found) == query.limit else ""
    return Page([account_answer(account) for account in found if call.sees(account.address)], more)


def readable_prefix(call: Call, asked: str) -> str:
    """What is asked for, if the key may read it all; what it may read, if nothing was asked for. Raises Forbidden."""
    may = call.principal.prefixes("read", call.ledger_name) or ()
    if call.sees(asked):
        return asked
    narrower = [prefix for prefix in may if prefix.startswith(asked)]
    if len(narrower) == 1:
        return narrower[0]
    raise Forbidden(problem=f"name a prefix that it may read: {', '.join(may)}")


@ACCOUNTS.act(
    _HERE,
    form(OpenAccount),
    verb="govern",
    example={"account": "members:amy", "limits": {"CREDIT/2": "2000"}, "owner": "did:web:amy.example"},
)
def open_account(call: Call) -> Any:
    """Declare an account. Limits make it a member, which may go into debt so far."""
    return call.command()


@ACCOUNTS.read(f"{_HERE}/{{account}}", answer=AccountAnswer)
def get_account(call: Call) -> AccountAnswer:
    """What is known of an account, with its balances."""
    address = call.require_account(call.path["account"])
    found = call.ledger.account(address)
    if found is None:
        raise NotFound(what=f"account {address}")
    return account_answer(found)


@ACCOUNTS.act(f"{_HERE}/{{account}}/freeze", form(FreezeAccount, "account"), verb="govern", example={"reason": "fraud"})
def freeze_account(call: Call) -> Any:
    """Stop an account from paying; it may still be paid."""
    return call.command(account=call.path["account"])


@ACCOUNTS.act(f"{_HERE}/{{account}}/unfreeze", form(UnfreezeAccount, "account"), verb="govern", example={})
def unfreeze_account(call: Call) -> Any:
    """Let a frozen account pay again."""
    return call.command(account=call.path["account"])


@ACCOUNTS.act(f"{_HERE}/{{account}}/exclude", form(ExcludeAccount, "account"), verb="govern", example={})
def exclude_account(call: Call) -> Any:
    """Remove a member for good; what it owns or owes goes to ``settle_to``."""
    return call.command(account=call.path["account"])


@ACCOUNTS.act(f"{_HERE}/{{account}}/close", form(CloseAccount, "account"), verb="govern", example={})
def close_account(call: Call) -> Any:
    """End an account for good; what it owns or owes goes to ``settle_to``."""
    return call.command(account=call.path["account"])


@ACCOUNTS.act(
    f"{_HERE}/{{account}}/limits",
    form(SetLimit, "account"),
    verb="govern",
    example={"asset": "CREDIT/2", "limit": "2500"},
)
def set_limit(call: Call) -> Any:
    """Set an account's debt limit or ceiling in one asset."""
    return call.command(account=call.path["account"])
