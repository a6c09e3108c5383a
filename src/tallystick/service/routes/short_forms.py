"""Short forms: balances and transfers of the default ledger, without its name in the path.

`/balances` and `/transfers` are those of the ledger, in the same shapes. `/v1/balances` and `/v1/transfers` speak as
ledgers of agent markets do: accounts are DIDs, the buckets have letters, and a transfer says in its ``metadata`` what
it is for. Both are the same commands of the same ledger.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from tallystick.accounts import CLEARING, Bucket, check_address, role_of
from tallystick.commands import Leg, Post, Transfer
from tallystick.errors import InvalidInput
from tallystick.events import REFERENCES
from tallystick.ledger.views import BalanceView
from tallystick.service.calls import Call
from tallystick.service.operations import Group
from tallystick.service.posting import post_command
from tallystick.service.routes.balances import BalancesQuery, get_balances
from tallystick.wire.amounts import Amount, Digits, minor
from tallystick.wire.answers import BalancesAnswer
from tallystick.wire.forms import form

SHORT_FORMS = Group("Short forms")

Letter = Literal["A", "H", "B", "F", "P"]

BUCKETS_BY_LETTER: dict[Letter, Bucket] = {"A": "available", "H": "held", "B": "bonded", "F": "fees", "P": "promo"}
"""The letters that buckets have here: available, held, bonded, fees and promotional."""

_PAY = {"from_account": "users:alice", "to_account": "users:bob", "asset": "USD/2", "amount": "1250"}


# ---------------------------------------------------------------- the ledger's own shapes


@SHORT_FORMS.ask("/balances", query=BalancesQuery, answer=BalancesAnswer, example={"account": "users:alice"})
async def get_default_balances(call: Call) -> BalancesAnswer:
    """The balances of an account in the default ledger, bucket by bucket."""
    found: BalancesAnswer = await get_balances(call)
    return found


@SHORT_FORMS.act("/transfers", form(Transfer), example=_PAY)
def transfer_by_default(call: Call) -> Any:
    """One account pays another, in the default ledger."""
    return call.command()


# ---------------------------------------------------------------- the shapes of agent markets


class DidQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """``did``: the account. ``currency``: an asset such as ``USD/2``, or its code; needed if it has several."""

    did: str
    currency: str = ""


class BucketsAnswer(Struct, frozen=True):
    """What stands in each bucket, by its letter, as of the last event of the ledger."""

    did: str
    currency: str
    buckets: dict[Letter, Digits]
    as_of: str


@SHORT_FORMS.read("/v1/balances", query=DidQuery, answer=BucketsAnswer, example={"did": "users:alice"})
def get_buckets(call: Call) -> BucketsAnswer:
    """The balances of an account in one currency: A available, H held, B bonded, F fees, P promotional."""
    did = call.require_account(check_address(call.query.did, "did"))
    as_of = call.ledger.head.time
    found = call.ledger.balances(did)
    assets = sorted({balance.asset for balance in found if _is_of(balance.asset, call.query.currency)})
    if len(assets) > 1:
        raise InvalidInput(path="currency", problem=f"name one of {', '.join(assets)}")
    asset = assets[0] if assets else call.query.currency
    amounts = {balance.bucket: balance.amount for balance in found if balance.asset == asset}
    buckets = {letter: str(amounts.get(bucket, 0)) for letter, bucket in BUCKETS_BY_LETTER.items()}
    return BucketsAnswer(did, asset, buckets, as_of)


def _is_of(asset: str, currency: str) -> bool:
    """Whether an asset is the currency that is meant: itself, or its code (one code has one scale in a ledger)."""
    return currency in ("", asset, asset.partition("/")[0])


class Place(Struct, frozen=True, forbid_unknown_fields=True):
    """An account and the letter of its bucket. ``clearing:<domain>`` is the clearing account of a domain."""

    account: str
    bucket: Letter = "A"


class MarketTransfer(Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """A transfer between two buckets. ``metadata`` may hold ``reason``; ``escrow_id``, ``trial_id``, ``order_id`` and
    the like, which become causal references; and notes of any other name.

    ``idempotency_key`` repeats the header Idempotency-Key; if it says another, the request is refused.
    """

    currency: str
    from_: Place
    to: Place
    amount_minor: Amount
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    metadata: dict[str, str] = field(default_factory=dict)


class MarketTransferAnswer(Struct, frozen=True):
    """``event_id`` is the transaction's id; ``status`` is ``posted`` when the transfer is durable."""

    event_id: str
    status: Literal["posted"]


@SHORT_FORMS.ask(
    "/v1/transfers",
    method="POST",
    verb="post",
    body=MarketTransfer,
    answer=MarketTransferAnswer,
    status=201,
    example={
        "currency": "USD/2",
        "from": {"account": "users:alice", "bucket": "A"},
        "to": {"account": "users:bob", "bucket": "A"},
        "amount_minor": "1250",
        "metadata": {"reason": "delivery", "escrow_id": "escrow-1"},
    },
)
async def transfer_between_buckets(call: Call) -> MarketTransferAnswer:
    """Move an amount from one account's bucket to another's.

    Into F it is a fee, out of F a fee transfer (which names its escrow, trial or order); from A into P a bonus; with a
    clearing account and a ``netting_batch_id`` a settlement; otherwise a transfer, from A or P. Held and bonded value
    is moved by the operations of holds and stakes alone.
    """
    body: MarketTransfer = call.body
    if body.idempotency_key is not None and call.key and body.idempotency_key != call.key:
        raise InvalidInput(path="idempotency_key", problem="it is not the one in the header Idempotency-Key")
    posted = await post_command(call, await call.service.in_thread(_command, call, body))
    return MarketTransferAnswer(posted.id, "posted")


def _command(call: Call, body: MarketTransfer) -> Any:
    """The posting that is asked for. Raises InvalidInput, Forbidden."""
    payer, payee = _address(body.from_, "from"), _address(body.to, "to")
    buckets = _bucket(body.from_, "from"), _bucket(body.to, "to")
    reason, refs, notes = _said(body.metadata)
    who: dict[str, Any] = {"reason": reason, "refs": refs or None, "metadata": notes or None}
    clears = "clearing" in (role_of(payer), role_of(payee)) and "netting_batch" in refs
    kind = _type(buckets, settles=clears)
    call.principal.require(
        "post", call.ledger_name, () if payer.startswith("@") else (payer,)
    )  # before it is looked at
    asset = _asset(call.ledger.balances(payer), body.currency)
    leg = Leg(payer, payee, asset, minor(body.amount_minor, "amount_minor"), *buckets)
    return call.make(Post, type=kind, legs=(leg,), **who)


def _address(place: Place, path: str) -> str:
    account = place.account
    if account.startswith("clearing:"):
        account = CLEARING + account.removeprefix("clearing:")
    return check_address(account, f"{path}.account")


def _bucket(place: Place, path: str) -> Bucket:
    if place.bucket in ("H", "B"):
        raise InvalidInput(
            path=f"{path}.bucket", problem="held and bonded value is moved by the operations of holds and stakes"
        )
    return BUCKETS_BY_LETTER[place.bucket]


def _type(buckets: tuple[Bucket, Bucket], *, settles: bool) -> str:
    if buckets[0] == "fees":
        return "fee_transfer"
    if buckets[1] == "fees":
        return "fee"
    if buckets[1] == "promo":
        return "bonus_credit"
    return "settlement" if settles else "transfer"


def _said(metadata: dict[str, str]) -> tuple[str, dict[str, str], dict[str, str]]:
    """The reason, the causal references and the other notes in the metadata."""
    notes = dict(metadata)
    reason = notes.pop("reason", "")
    refs = {}
    for name in REFERENCES:
        for said in (name, f"{name}_id"):
            if said in notes:
                if name in refs:
                    raise InvalidInput(path=f"metadata.{said}", problem=f"{name} is said twice")
                refs[name] = notes.pop(said)
    return reason, refs, notes


def _asset(balances: list[BalanceView], currency: str) -> str:
    """The asset of a currency: what the payer has of that code, if it was said without its scale."""
    if not currency or "/" in currency:
        return currency
    return next((found.asset for found in balances if _is_of(found.asset, currency)), currency)
