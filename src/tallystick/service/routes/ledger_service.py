"""The ledger service's surface: accounts with a type, transactions as debits and credits, in the default ledger.

It is another way to say the same commands, not a second set of books. An account's id says where it stands:

    asset:<name>  expense:<name>  revenue:<name>  equity:<name>     the operator's own books: the clearing account
                                                                    ``@clearing:<id>``, which has no floor
    any other id, such as users:alice or a DID                      a liability, what is owed to somebody: the account
                                                                    of that address, which cannot go below its floor

A *debit* takes from the ledger's account and a *credit* adds to it, whatever its type. What that does to the balance
that is shown depends on the type's **normal side**: assets and expenses stand in debit, so a debit raises their
balance and a credit lowers it; liabilities, revenue and equity stand in credit, so it is the other way round. A
customer who pays in 100 is a debit of ``asset:bank`` and a credit of ``users:alice``, and both balances rise by 100.

The entries of a transaction are matched into movements deterministically: in their order, each debit pays the credits
that are still open, until it is used up. There are never more movements than entries.

To debit a liability needs the verb ``post`` on it; to debit one of the operator's own accounts needs ``issue`` on the
whole ledger, because that is what brings value into it.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal
from weakref import WeakKeyDictionary, WeakValueDictionary

from msgspec import Meta, Struct, field

from tallystick.accounts import CLEARING, MAX_ADDRESS, Bucket, check_address
from tallystick.commands import Leg, OpenAccount, Post, Reverse
from tallystick.errors import AccountExists, AccountNotFound, InvalidInput, Unbalanced
from tallystick.kernel.repair import way_back
from tallystick.ledger.views import BalanceView, Transaction
from tallystick.service.calls import Call, moment
from tallystick.service.operations import Group
from tallystick.service.posting import post_command
from tallystick.service.problems import Refused
from tallystick.service.routes.accounts import Limit
from tallystick.service.routes.transactions import is_visible, visible
from tallystick.wire.amounts import Amount, Digits, minor
from tallystick.wire.answers import Page

LEDGER_SERVICE = Group("Ledger service")

AccountType = Literal["asset", "liability", "revenue", "expense", "equity"]
Direction = Literal["debit", "credit"]

NORMAL_SIDES: dict[AccountType, Direction] = {
    "asset": "debit",
    "expense": "debit",
    "liability": "credit",
    "revenue": "credit",
    "equity": "credit",
}
"""The side on which accounts of each type stand: their balance is what is there more than on the other side."""

_OWN: tuple[AccountType, ...] = ("asset", "expense", "revenue", "equity")

MAX_ENTRIES = 100
"""The most entries of one transaction."""
MAX_NAME = 255

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ADDRESS, examples=["users:alice", "asset:bank"])]


# ---------------------------------------------------------------- ids and addresses


def address_of(id: str, path: str = "account_id") -> str:
    """The address in the ledger of an account of this surface. Raises InvalidInput."""
    if id.startswith("@"):
        raise InvalidInput(path=path, problem=f"{id!r:.80} is one of the ledger's own; it has no id here")
    return check_address(CLEARING + id if type_of(id) in _OWN else id, path)


def id_of(address: str) -> str:
    """The id of an address; one of the ledger's own that has no id here is its own."""
    id = address.removeprefix(CLEARING)
    return id if id != address and type_of(id) in _OWN else address


def type_of(id: str) -> AccountType:
    """The type of an account, which its id says."""
    first, colon, rest = id.partition(":")
    return next((own for own in _OWN if own == first and colon and rest), "liability")


# ---------------------------------------------------------------- accounts


class NewAccount(Struct, frozen=True, forbid_unknown_fields=True):
    """An account that is to be opened. The id of one that is no liability begins with its type and a colon; without an
    ``id`` it gets one. ``metadata``: notes, up to 63."""

    name: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
    type: AccountType
    id: Id | None = None
    metadata: dict[str, str] = field(default_factory=dict)


class ServiceAccount(Struct, frozen=True):
    """An account. ``address`` is where it stands in the ledger; ``normal_side`` is the side that raises its balance."""

    id: str
    name: str
    type: AccountType
    normal_side: Direction
    status: str
    address: str
    metadata: dict[str, str]
    created_at: str


@LEDGER_SERVICE.ask(
    "/v1/accounts",
    method="POST",
    verb="govern",
    body=NewAccount,
    answer=ServiceAccount,
    status=201,
    example={"id": "asset:bank", "name": "Bank", "type": "asset"},
)
async def create_service_account(call: Call) -> ServiceAccount:
    """Open an account of a type. An id that is there already is a conflict."""
    body: NewAccount = call.body
    if "name" in body.metadata:
        raise InvalidInput(path="metadata.name", problem="the name has a field of its own")
    id = body.id if body.id is not None else _new_id(call, body.type)
    if type_of(id) != body.type:
        own = body.type in _OWN
        rule = f"begins with {body.type}:" if own else f"does not begin with {type_of(id)}:"
        raise InvalidInput(path="id", problem=f"the id of an account of type {body.type} {rule}")
    command = call.make(
        OpenAccount,
        account=address_of(id, "id"),
        floorless=body.type in _OWN,
        metadata={**body.metadata, "name": body.name},
    )
    try:
        await post_command(call, command)
    except AccountExists:
        raise AccountExists(account=id) from None
    return await call.service.in_thread(_account, call, id)


def _new_id(call: Call, type: AccountType) -> str:
    """An id that is the same when the request is repeated."""
    digest = hashlib.sha256(f"{call.principal.source}\0{call.key}".encode()).hexdigest()[:24]
    return f"{type}:{digest}" if type in _OWN else f"accounts:{digest}"


@LEDGER_SERVICE.read("/v1/accounts/{account}", answer=ServiceAccount)
def get_service_account(call: Call) -> ServiceAccount:
    """An account, by its id. One that was used but never opened is a liability without a name."""
    return _account(call, call.path["account"])


def _account(call: Call, id: str) -> ServiceAccount:
    """Raises AccountNotFound for one that is not there, Forbidden for one that the key may not read."""
    address = call.require_account(address_of(id, "account"))
    found = call.ledger.account(address)
    if found is None:
        raise AccountNotFound(account=id)
    notes = dict(found.declared.metadata)
    name, kind = notes.pop("name", ""), type_of(id)
    return ServiceAccount(id, name, kind, NORMAL_SIDES[kind], found.status, address, notes, found.declared.opened)


class BalanceQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """``currency``: an asset such as ``USD/2``; needed if the account has several. ``as_of``: what had taken effect."""

    currency: str = ""
    as_of: str = ""


class ServiceBalance(Struct, frozen=True):
    """What stands on an account: ``balance`` on its normal side (negative: on the other one), and what of it is
    ``available``, which is not held, bonded or otherwise set aside."""

    account_id: str
    currency: str
    balance: Digits
    available: Digits
    normal_side: Direction
    as_of: str


@LEDGER_SERVICE.read("/v1/accounts/{account}/balance", query=BalanceQuery, answer=ServiceBalance)
def get_service_balance(call: Call) -> ServiceBalance:
    """The balance of an account in one currency, now or as of a time."""
    id, currency = call.path["account"], call.query.currency
    address = call.require_account(address_of(id, "account"))
    now = call.ledger.now()
    as_of = moment(call.query.as_of, "as_of")
    found = call.ledger.balances(address, as_of=as_of)
    if not found and call.ledger.account(address) is None:
        raise AccountNotFound(account=id)
    currencies = sorted({balance.asset for balance in found})
    if not currency and len(currencies) > 1:
        raise InvalidInput(path="currency", problem=f"name one of {', '.join(currencies)}")
    currency = currency or "".join(currencies)
    side = NORMAL_SIDES[type_of(id)]
    balance, available = (
        str(-amount if side == "debit" else amount)
        for amount in (_sum(found, currency), _sum(found, currency, "available"))
    )
    return ServiceBalance(id, currency, balance, available, side, as_of or now)


def _sum(balances: Sequence[BalanceView], asset: str, bucket: str = "") -> int:
    return sum(found.amount for found in balances if found.asset == asset and bucket in ("", found.bucket))


# ---------------------------------------------------------------- transactions


class NewEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """A debit or a credit of one account, in minor units, above zero."""

    account_id: Id
    direction: Direction
    amount: Amount


class NewTransaction(Struct, frozen=True, forbid_unknown_fields=True):
    """Debits and credits in one currency, an asset such as ``USD/2``, which add up to the same. ``external_ref`` is
    used once. ``effective_at`` back-dates it. ``metadata``: notes."""

    currency: str
    entries: Annotated[list[NewEntry], Meta(min_length=2, max_length=MAX_ENTRIES)]
    external_ref: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    effective_at: str = ""
    description: str = ""
    metadata: dict[str, str] = field(default_factory=dict)


class ServiceEntry(Struct, frozen=True):
    """A debit or a credit. ``id`` is its transaction's and its place in it; several of one account are one entry."""

    id: str
    transaction_id: str
    account_id: str
    direction: Direction
    amount: Digits
    currency: str
    bucket: Bucket
    recorded_at: str
    effective_at: str


class ServiceTransaction(Struct, frozen=True):
    """A transaction. ``status``: ``reversed`` once all of it was undone, by the transactions in ``reversed_by``.

    ``id`` is the number of the event in the ledger, ``hash`` its hash.
    """

    id: str
    status: Literal["posted", "reversed"]
    type: str
    external_ref: str
    description: str
    entries: list[ServiceEntry]
    created_at: str
    effective_at: str
    reverses: str
    reversed_by: list[str]
    metadata: dict[str, Any]
    hash: str


@LEDGER_SERVICE.ask(
    "/v1/transactions",
    method="POST",
    verb="post",
    body=NewTransaction,
    answer=ServiceTransaction,
    status=201,
    example={
        "currency": "USD/2",
        "external_ref": "invoice-7",
        "entries": [
            {"account_id": "users:alice", "direction": "debit", "amount": "300"},
            {"account_id": "users:bob", "direction": "credit", "amount": "300"},
        ],
    },
)
async def post_service_transaction(call: Call) -> ServiceTransaction:
    """Post debits and credits that add up to the same; otherwise the problem is ``unbalanced``, with both sums.

    The accounts must be there, opened or used. An ``external_ref`` that another transaction has is a conflict (409);
    one that this key may not see does not count.
    The answer shows for each account the direction that it was asked with; docs of this group say what they mean.
    """
    body: NewTransaction = call.body
    refs = {"external_ref": body.external_ref} if body.external_ref is not None else None
    command = call.make(
        Post,
        type="transfer",
        legs=legs_of(body.entries, body.currency),
        effective=body.effective_at,
        reason=body.description,
        refs=refs,
        metadata=body.metadata or None,
    )
    async with _alone(call, body.external_ref):
        await call.service.in_thread(_check_new, call, body)
        posted = await post_command(call, command)
    return await call.service.in_thread(_transaction, call, posted.seq)


def legs_of(entries: Sequence[NewEntry], currency: str) -> tuple[Leg, ...]:
    """The movements of a transaction: each debit, in their order, pays the credits that are still open.

    Raises Unbalanced with both sums; InvalidInput for an amount that is not above zero, and for an account on both
    sides, which would pay itself.
    """
    payers, payees = _side(entries, "debit"), _side(entries, "credit")
    debits, credited = sum(amount for _, amount in payers), sum(amount for _, amount in payees)
    if debits != credited or not payers:
        raise Unbalanced(asset=currency, expected=debits, actual=credited, debits=debits, credits=credited)
    both = {account for account, _ in payers} & {account for account, _ in payees}
    if both:
        raise InvalidInput(path="entries", problem=f"{id_of(min(both))} is debited and credited; leave the smaller out")
    return tuple(_matched(payers, payees, currency))


def _side(entries: Sequence[NewEntry], direction: Direction) -> list[tuple[str, int]]:
    """(address, amount) of the entries of one direction."""
    found = []
    for index, entry in enumerate(entries):
        if entry.direction == direction:
            amount = minor(entry.amount, f"entries[{index}].amount")
            if amount <= 0:
                raise InvalidInput(path=f"entries[{index}].amount", problem="it is not above zero")
            found.append((address_of(entry.account_id, f"entries[{index}].account_id"), amount))
    return found


def _matched(payers: Sequence[tuple[str, int]], payees: Sequence[tuple[str, int]], asset: str) -> Iterator[Leg]:
    """Movements from each payer to the payees that still wait; both sides add up to the same."""
    waiting = iter(payees)
    payee, wanted = next(waiting)
    for payer, amount in payers:
        left = amount
        while left:
            if not wanted:
                payee, wanted = next(waiting)
            moved = min(left, wanted)
            yield Leg(payer, payee, asset, moved)
            left, wanted = left - moved, wanted - moved


# ---------------------------------------------------------------- what is looked at before a transaction is posted

MAX_KNOWN = 100_000
"""Accounts that are remembered to be there; none is ever taken away again."""

MAX_SAME_REFERENCE = 100
"""Transactions with the same external reference that are looked at: other tenants may use it too."""

_known: WeakKeyDictionary[Any, set[tuple[str, str]]] = WeakKeyDictionary()
_turns: WeakKeyDictionary[Any, WeakValueDictionary[tuple[str, str], asyncio.Lock]] = WeakKeyDictionary()


@asynccontextmanager
async def _alone(call: Call, external_ref: str | None) -> AsyncIterator[None]:
    """One request at a time for each external reference: between two processes it is the reader of both who sees it."""
    if external_ref is None:
        yield
        return
    turns = _turns.setdefault(call.service, WeakValueDictionary())
    name = (call.ledger_name, external_ref)
    turn = turns.get(name)
    if turn is None:
        turn = turns[name] = asyncio.Lock()
    async with turn:
        yield


def _check_new(call: Call, body: NewTransaction) -> None:
    """Raises AccountNotFound, and Refused for an external reference that another transaction has."""
    known = _known.setdefault(call.service, set())
    for entry in body.entries:
        name = (call.ledger_name, address_of(entry.account_id))
        if name in known:
            continue
        if call.ledger.account(name[1]) is None:
            raise AccountNotFound(account=entry.account_id)
        if len(known) >= MAX_KNOWN:
            known.clear()
        known.add(name)
    if body.external_ref is not None:
        for found in call.ledger.by_reference("external_ref", body.external_ref, limit=MAX_SAME_REFERENCE):
            if (found.key, found.source) == (call.key, call.principal.source):
                return  # this very request, again
            if found.source == call.principal.source or is_visible(call, found):
                raise Refused(
                    409, "duplicate_external_ref", "another transaction has this external_ref", path="external_ref"
                )


# ---------------------------------------------------------------- reading and undoing transactions

_ONE = "/v1/transactions/{transaction}"


@LEDGER_SERVICE.read(_ONE, answer=ServiceTransaction)
def get_service_transaction(call: Call) -> ServiceTransaction:
    """A transaction, by its number, with its debits and credits and whether it was reversed."""
    return _shown(call, visible(call))


class ReverseRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Why a transaction is undone, and notes."""

    description: str = ""
    metadata: dict[str, str] = field(default_factory=dict)


@LEDGER_SERVICE.ask(
    f"{_ONE}/reverse",
    method="POST",
    verb="post",
    body=ReverseRequest,
    answer=ServiceTransaction,
    status=201,
    example={"description": "billed twice"},
)
async def reverse_service_transaction(call: Call) -> ServiceTransaction:
    """Undo a transaction by a new one, which is the answer; the first one stays, and reads as reversed."""
    body: ReverseRequest = call.body
    make = functools.partial(
        call.make,
        Reverse,
        transaction=call.place("transaction"),
        reason=body.description,
        metadata=body.metadata or None,
    )
    posted = await post_command(call, await call.service.in_thread(make))
    return await call.service.in_thread(_transaction, call, posted.seq)


def _transaction(call: Call, seq: int) -> ServiceTransaction:
    return _shown(call, call.ledger.transaction(seq))


def _shown(call: Call, found: Transaction) -> ServiceTransaction:
    event = found.event
    undone = call.ledger.reversal_of(found.id)
    back = {" ".join(name): amount for name, amount in way_back(event).items()}
    whole = undone is not None and all(undone.amounts.get(name) == amount for name, amount in back.items())
    return ServiceTransaction(
        id=str(found.seq),
        status="reversed" if whole else "posted",
        type=found.type,
        external_ref=found.refs.get("external_ref", ""),
        description=str(event.data.get("reason", "")),
        entries=[_entry(found, index) for index in range(len(found.entries))],
        created_at=found.time,
        effective_at=found.effective,
        reverses=_number(event.data.get("reverses", "")),
        reversed_by=[_number(id) for id in undone.by] if undone is not None else [],
        metadata=event.data.get("metadata", {}),
        hash=found.hash,
    )


def _entry(found: Transaction, index: int) -> ServiceEntry:
    entry = found.entries[index]
    return ServiceEntry(
        id=f"{found.seq}.{index}",
        transaction_id=str(found.seq),
        account_id=id_of(entry.account),
        direction="debit" if entry.amount < 0 else "credit",
        amount=str(abs(entry.amount)),
        currency=entry.asset,
        bucket=entry.bucket,
        recorded_at=found.time,
        effective_at=found.effective,
    )


def _number(id: str) -> str:
    return id.rpartition("/")[2]


# ---------------------------------------------------------------- entries


class ServiceEntriesQuery(Struct, frozen=True, forbid_unknown_fields=True, rename={"start": "from", "end": "to"}):
    """Recorded in [``from``, ``to``)."""

    account_id: str = ""
    currency: str = ""
    start: str = ""
    end: str = ""
    limit: Limit = 100
    cursor: str = ""


@LEDGER_SERVICE.read(
    "/v1/entries", query=ServiceEntriesQuery, answer=Page[ServiceEntry], example={"account_id": "users:alice"}
)
def list_service_entries(call: Call) -> Page[ServiceEntry]:
    """The debits and credits of an account in their order, as they were recorded when the first page was asked for."""
    query = call.query
    filters = {"account_id": query.account_id, "currency": query.currency, "from": query.start, "to": query.end}
    place = call.page_place(filters, query.cursor, str(call.ledger.head.seq))
    kept = place.filters
    if not kept["account_id"]:
        raise InvalidInput(path="account_id", problem="name the account whose entries are wanted")
    found = call.ledger.register(
        call.require_account(address_of(kept["account_id"])),
        asset=kept["currency"],
        start=moment(kept["from"], "from"),
        end=moment(kept["to"], "to"),
        after=place.after,
        limit=query.limit,
    )
    lines = [line for line in found.items if line.seq < int(place.snapshot)]
    entries = [
        ServiceEntry(
            id=f"{line.seq}.{line.index}",
            transaction_id=str(line.seq),
            account_id=kept["account_id"],
            direction="debit" if line.amount < 0 else "credit",
            amount=str(abs(line.amount)),
            currency=line.asset,
            bucket=line.bucket,  # type: ignore[arg-type]
            recorded_at=line.time,
            effective_at=line.effective,
        )
        for line in lines
    ]
    more = found.cursor and len(lines) == len(found.items)
    return Page(entries, call.cursor(place, found.cursor) if more else "")
