"""Supply, fees and promotional credit: the types of posting that have a form of their own."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from tallystick.accounts import EXTERNAL, FEES, ISSUANCE, TREASURY, Bucket
from tallystick.commands import Leg, Post
from tallystick.service.calls import Call
from tallystick.service.operations import Group
from tallystick.wire.amounts import minor
from tallystick.wire.fields import Address, Asset, Positive, Rail
from tallystick.wire.forms import Form, form

SUPPLY = Group("Supply, fees and promotional credit")

_HERE = "/v1/ledgers/{ledger}"
_NOTES: Form = form(Post, "type", "legs")


def _request(name: str, doc: str, *fields: Any) -> type[Struct]:
    """The body of a posting with one leg: its own fields, and what every command may carry."""
    return msgspec.defstruct(
        name,
        list(fields),
        bases=(_NOTES.request,),
        kw_only=True,
        frozen=True,
        forbid_unknown_fields=True,
        namespace={"__doc__": doc},
    )


_PAYEE = [("account", Address), ("asset", Asset), ("amount", Positive)]


def _leg(call: Call, type: str, from_account: str, to_account: str, buckets: tuple[Bucket, Bucket]) -> Any:
    """The posting of one leg that a body asks for."""
    body = call.body
    leg = Leg(from_account, to_account, body.asset, minor(body.amount), *buckets)
    return call.permitted(call.of(_NOTES, body, type=type, legs=(leg,)))


PLAIN: tuple[Bucket, Bucket] = ("available", "available")

MintRequest = _request("MintRequest", "Issue new value to an account.", *_PAYEE)
BurnRequest = _request("BurnRequest", "Take an account's value out of issue.", *_PAYEE)
RailRequest = _request("RailRequest", "Value comes or goes over a rail.", *_PAYEE, ("rail", Rail, "bank"))
FeeRequest = _request("FeeRequest", "Pay into the fee pool.", *_PAYEE, ("bucket", Bucket, "available"))
FeePayoutRequest = _request(
    "FeePayoutRequest", "Pay out of the fee pool.", ("to_account", Address), ("asset", Asset), ("amount", Positive)
)
FeeBurnRequest = _request("FeeBurnRequest", "Take fees out of issue.", ("asset", Asset), ("amount", Positive))
PromoRequest = _request("PromoRequest", "Promotional credit of an account.", *_PAYEE)
BonusRequest = _request(
    "BonusRequest",
    "Pay a bonus out of an account's own funds.",
    *_PAYEE,
    ("from_account", Address, TREASURY),
    ("bucket", Bucket, "promo"),
)

_ALICE = {"account": "users:alice", "asset": "USD/2"}


@SUPPLY.act(f"{_HERE}/mint", body=MintRequest, verb="issue", example={**_ALICE, "amount": "100000"})
def mint(call: Call) -> Any:
    """Issue new value to an account."""
    return _leg(call, "mint", ISSUANCE, call.body.account, PLAIN)


@SUPPLY.act(f"{_HERE}/burn", body=BurnRequest, verb="issue", example={**_ALICE, "amount": "10"})
def burn(call: Call) -> Any:
    """Take an account's value out of issue."""
    return _leg(call, "burn", call.body.account, ISSUANCE, PLAIN)


@SUPPLY.act(
    f"{_HERE}/deposits",
    body=RailRequest,
    verb="issue",
    example={**_ALICE, "amount": "5000", "refs": {"external_ref": "bank-1"}},
)
def deposit(call: Call) -> Any:
    """Value arrives over a rail; it needs a reference ``tx_hash`` or ``external_ref``."""
    return _leg(call, "deposit", EXTERNAL + call.body.rail, call.body.account, PLAIN)


@SUPPLY.act(
    f"{_HERE}/withdrawals",
    body=RailRequest,
    verb="issue",
    example={**_ALICE, "amount": "50", "refs": {"external_ref": "bank-2"}},
)
def withdraw(call: Call) -> Any:
    """Value leaves over a rail; it needs a reference ``tx_hash`` or ``external_ref``."""
    return _leg(call, "withdrawal", call.body.account, EXTERNAL + call.body.rail, PLAIN)


@SUPPLY.act(f"{_HERE}/fees", body=FeeRequest, example={**_ALICE, "amount": "25"})
def pay_fee(call: Call) -> Any:
    """An account pays into the fee pool, from ``available`` or ``promo``."""
    return _leg(call, "fee", call.body.account, FEES, (call.body.bucket, "fees"))


@SUPPLY.act(
    f"{_HERE}/fees/transfer",
    body=FeePayoutRequest,
    verb="issue",
    example={"to_account": "users:bob", "asset": "USD/2", "amount": "5", "refs": {"escrow": "escrow-1"}},
)
def transfer_fees(call: Call) -> Any:
    """The fee pool pays out; it needs a reference to where the fees came from."""
    return _leg(call, "fee_transfer", FEES, call.body.to_account, ("fees", "available"))


@SUPPLY.act(
    f"{_HERE}/fees/burn",
    body=FeeBurnRequest,
    verb="issue",
    example={"asset": "USD/2", "amount": "5", "refs": {"escrow": "escrow-1"}},
)
def burn_fees(call: Call) -> Any:
    """Take fees out of issue; it needs a reference to where they came from."""
    return _leg(call, "fee_burn", FEES, ISSUANCE, ("fees", "available"))


@SUPPLY.act(f"{_HERE}/promo/mint", body=PromoRequest, verb="issue", example={**_ALICE, "amount": "200"})
def mint_promo(call: Call) -> Any:
    """Issue promotional credit."""
    return _leg(call, "promo_mint", ISSUANCE, call.body.account, ("available", "promo"))


@SUPPLY.act(f"{_HERE}/promo/burn", body=PromoRequest, verb="issue", example={**_ALICE, "amount": "20"})
def burn_promo(call: Call) -> Any:
    """Let promotional credit lapse."""
    return _leg(call, "promo_burn", call.body.account, ISSUANCE, ("promo", "available"))


@SUPPLY.act(
    f"{_HERE}/promo/bonus",
    body=BonusRequest,
    example={"account": "users:bob", "asset": "USD/2", "amount": "10", "from_account": "users:alice"},
)
def credit_bonus(call: Call) -> Any:
    """Pay a bonus out of an account's own funds, as ``promo`` or ``available``."""
    return _leg(call, "bonus_credit", call.body.from_account, call.body.account, ("available", call.body.bucket))
