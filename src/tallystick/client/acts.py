"""Acts: everything that changes a ledger. The names are those of the library's Ledger, and so is what they do.

Each answers a PostedAnswer: ``id`` is the transaction's, and that of the hold, stake or bet that it opened. Where an
act takes such an id, its number in the ledger will do.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from typing import Any, Unpack

from tallystick.accounts import TREASURY, Bucket
from tallystick.client.asking import Ask, Dated, Keyed, Notes, act, command_body, flow, post
from tallystick.client.lines import post_lines
from tallystick.commands import Command, Leg, Split
from tallystick.wire.answers import BatchAnswer, PostedAnswer
from tallystick.wire.batches import LineResult

HERE = "/v1/ledgers/{ledger}"
NDJSON = "application/x-ndjson"

AnyCommand = Command | Mapping[str, Any]
"""A command in a batch or a stream: one of tallystick.commands (an empty key is left to the batch), or its JSON, such
as ``{"command": "transfer", "from_account": ...}``."""


class Movements:
    """Transfers, postings of any type, and their undoing."""

    @post(f"{HERE}/transfers", PostedAnswer)
    def transfer(self, from_account: str, to_account: str, asset: str, amount: int, **notes: Unpack[Notes]) -> Ask:
        """One account pays another."""
        return act(notes, from_account=from_account, to_account=to_account, asset=asset, amount=amount)

    @post(f"{HERE}/transactions", PostedAnswer)
    def transact(self, type: str, legs: Iterable[Leg], *, effective: str = "", **notes: Unpack[Notes]) -> Ask:
        """A transaction of any type that can be posted, with any number of legs and assets."""
        return act(notes, type=type, legs=tuple(legs), effective=effective or None)

    @post(f"{HERE}/transactions/{{transaction}}/reverse", PostedAnswer)
    def reverse(
        self,
        transaction_id: str | int,
        amount: int | None = None,
        *,
        legs: Iterable[Leg] = (),
        **notes: Unpack[Notes],
    ) -> Ask:
        """Undo a transaction, whole or in part; no amount is undone twice."""
        return act(notes, amount=amount, legs=tuple(legs)).at(transaction=transaction_id)

    @post(f"{HERE}/transactions/{{transaction}}/finalize", PostedAnswer)
    def finalize_charge(self, charge_id: str | int, **notes: Unpack[Notes]) -> Ask:
        """Declare a captured charge final."""
        return act(notes).at(transaction=charge_id)

    @post(f"{HERE}/transactions/bulk", BatchAnswer)
    def post_many(self, commands: Iterable[AnyCommand], *, atomic: bool = False, **keyed: Unpack[Keyed]) -> Ask:
        """Post up to 10,000 commands of any kind in one request, each for itself, or all of them or none (``atomic``).

        A command without a key has the batch's, with ``#`` and its index. Each for itself, a refusal stands in its
        place: ``refusal_of(result)`` is its error. Raises BatchAborted for an atomic one that came to nothing.
        """
        body = {"commands": [command_body(command) for command in commands], "atomic": atomic}
        return Ask(body=body, key=keyed.get("key", ""))

    @flow("POST", f"{HERE}/transactions/stream", LineResult, post_lines, media_type=NDJSON, accept=NDJSON)
    def stream(self, commands: Iterable[AnyCommand] | AsyncIterable[AnyCommand], **keyed: Unpack[Keyed]) -> Ask:
        """Post any number of commands, each for itself, and see what becomes of each while the next are being taken.

        A command without a key has the stream's, with ``#`` and its number from 1. What was cut off is sent again with
        the same keys. An asynchronous client takes asynchronous sources too.
        """
        return Ask(key=keyed.get("key", ""), source=commands)


class Holds:
    """Amounts frozen before work is done, paid out after it, or given back."""

    @post(f"{HERE}/holds", PostedAnswer)
    def hold(
        self,
        account: str,
        asset: str,
        amount: int,
        *,
        expires: str = "",
        expires_in_seconds: int | None = None,
        **notes: Unpack[Notes],
    ) -> Ask:
        """Freeze an amount; the answer's ``id`` is the hold's."""
        until = {"expires": expires or None, "expires_in_seconds": expires_in_seconds}
        return act(notes, account=account, asset=asset, amount=amount, **until)

    @post(f"{HERE}/holds/{{hold}}/capture", PostedAnswer)
    def capture(
        self,
        hold_id: str | int,
        splits: Iterable[Split] = (),
        *,
        to_account: str = "",
        amount: int | None = None,
        final: bool = True,
        **notes: Unpack[Notes],
    ) -> Ask:
        """Pay out of an open hold: to ``splits``, or ``amount`` (all that is left, if None) ``to_account``.

        ``final`` gives back what is left in the same event; otherwise the hold stays open for more captures.
        """
        parts = tuple(splits) or (Split(to_account, amount),)
        return act(notes, splits=parts, final=final).at(hold=hold_id)

    @post(f"{HERE}/holds/{{hold}}/release", PostedAnswer)
    def release(self, hold_id: str | int, amount: int | None = None, **notes: Unpack[Notes]) -> Ask:
        """Give an open hold back, whole (no amount) or in part."""
        return act(notes, amount=amount).at(hold=hold_id)

    @post(f"{HERE}/holds/{{hold}}/extend", PostedAnswer)
    def extend(
        self,
        hold_id: str | int,
        *,
        expires: str = "",
        expires_in_seconds: int | None = None,
        **notes: Unpack[Notes],
    ) -> Ask:
        """Give an open hold another expiry."""
        return act(notes, expires=expires or None, expires_in_seconds=expires_in_seconds).at(hold=hold_id)

    @post(f"{HERE}/holds/{{hold}}/top-up", PostedAnswer)
    def top_up(self, hold_id: str | int, amount: int, **notes: Unpack[Notes]) -> Ask:
        """Make an open hold larger."""
        return act(notes, amount=amount).at(hold=hold_id)

    @post(f"{HERE}/holds/{{hold}}/expire", PostedAnswer)
    def expire(self, hold_id: str | int, **notes: Unpack[Notes]) -> Ask:
        """Give back a hold whose time has passed; the service does so by itself, too."""
        return act(notes).at(hold=hold_id)


class Stakes:
    """Amounts bonded for an escrow or a trial; stakes on game; capacity reserved for promises."""

    @post(f"{HERE}/stakes", PostedAnswer)
    def stake_lock(self, account: str, asset: str, amount: int, **notes: Unpack[Notes]) -> Ask:
        """Bond an amount; it needs a reference ``escrow`` or ``trial``. The answer's ``id`` is the stake's."""
        return act(notes, account=account, asset=asset, amount=amount)

    @post(f"{HERE}/stakes/{{stake}}/release", PostedAnswer)
    def stake_release(self, stake_id: str | int, amount: int | None = None, **notes: Unpack[Notes]) -> Ask:
        """Give a bond back, whole or in part."""
        return act(notes, amount=amount).at(stake=stake_id)

    @post(f"{HERE}/stakes/{{stake}}/slash", PostedAnswer)
    def stake_slash(
        self,
        stake_id: str | int,
        to_account: str,
        amount: int | None = None,
        *,
        to_bucket: Bucket = "available",
        **notes: Unpack[Notes],
    ) -> Ask:
        """Take a bond, whole or in part, for a named destination; ``@issuance`` burns it."""
        return act(notes, to_account=to_account, amount=amount, to_bucket=to_bucket).at(stake=stake_id)

    @post(f"{HERE}/bets", PostedAnswer)
    def bet_stake(self, account: str, asset: str, amount: int, **notes: Unpack[Notes]) -> Ask:
        """Put a stake on game; it needs a reference ``round``. The answer's ``id`` is the bet's."""
        return act(notes, account=account, asset=asset, amount=amount)

    @post(f"{HERE}/bets/{{bet}}/settle", PostedAnswer)
    def bet_settle(self, bet_id: str | int, payout: int, *, house: str, **notes: Unpack[Notes]) -> Ask:
        """Decide a bet: the house takes the stake and pays ``payout`` (0 if it is lost)."""
        return act(notes, payout=payout, house=house).at(bet=bet_id)

    @post(f"{HERE}/bets/{{bet}}/rollback", PostedAnswer)
    def bet_rollback(self, bet_id: str | int, **notes: Unpack[Notes]) -> Ask:
        """Void a bet that has not been settled."""
        return act(notes).at(bet=bet_id)

    @post(f"{HERE}/commitments", PostedAnswer)
    def commitment_create(self, member: str, asset: str, amount: int, **notes: Unpack[Notes]) -> Ask:
        """Reserve capacity of a member for the commitment in ``refs``; again for the same one adds to it."""
        return act(notes, member=member, asset=asset, amount=amount)

    @post(f"{HERE}/commitments/fulfil", PostedAnswer)
    def commitment_fulfil(
        self,
        member: str,
        asset: str,
        amount: int | None = None,
        *,
        legs: Iterable[Leg] = (),
        **notes: Unpack[Notes],
    ) -> Ask:
        """Free reserve of the commitment in ``refs``, and pay the promised legs in the same event."""
        return act(notes, member=member, asset=asset, amount=amount, legs=tuple(legs))

    @post(f"{HERE}/commitments/cancel", PostedAnswer)
    def commitment_cancel(self, member: str, asset: str, amount: int | None = None, **notes: Unpack[Notes]) -> Ask:
        """Free reserve of the commitment in ``refs``."""
        return act(notes, member=member, asset=asset, amount=amount)


class Supply:
    """Value that is issued or taken out of issue, that comes and goes over rails; fees and promotional credit."""

    @post(f"{HERE}/mint", PostedAnswer)
    def mint(self, account: str, asset: str, amount: int, **notes: Unpack[Dated]) -> Ask:
        """Issue new value to an account."""
        return act(notes, account=account, asset=asset, amount=amount)

    @post(f"{HERE}/burn", PostedAnswer)
    def burn(self, account: str, asset: str, amount: int, **notes: Unpack[Dated]) -> Ask:
        """Take an account's value out of issue."""
        return act(notes, account=account, asset=asset, amount=amount)

    @post(f"{HERE}/deposits", PostedAnswer)
    def deposit(self, account: str, asset: str, amount: int, *, rail: str = "bank", **notes: Unpack[Dated]) -> Ask:
        """Value arrives over a rail; it needs a reference ``tx_hash`` or ``external_ref``."""
        return act(notes, account=account, asset=asset, amount=amount, rail=rail)

    @post(f"{HERE}/withdrawals", PostedAnswer)
    def withdraw(self, account: str, asset: str, amount: int, *, rail: str = "bank", **notes: Unpack[Dated]) -> Ask:
        """Value leaves over a rail; it needs a reference ``tx_hash`` or ``external_ref``."""
        return act(notes, account=account, asset=asset, amount=amount, rail=rail)

    @post(f"{HERE}/fees", PostedAnswer)
    def fee(
        self, account: str, asset: str, amount: int, *, bucket: Bucket = "available", **notes: Unpack[Dated]
    ) -> Ask:
        """An account pays into the fee pool, from ``available`` or ``promo``."""
        return act(notes, account=account, asset=asset, amount=amount, bucket=bucket)

    @post(f"{HERE}/fees/transfer", PostedAnswer)
    def fee_transfer(self, to_account: str, asset: str, amount: int, **notes: Unpack[Dated]) -> Ask:
        """The fee pool pays out; it needs a reference to where the fees came from."""
        return act(notes, to_account=to_account, asset=asset, amount=amount)

    @post(f"{HERE}/fees/burn", PostedAnswer)
    def fee_burn(self, asset: str, amount: int, **notes: Unpack[Dated]) -> Ask:
        """Take fees out of issue; it needs a reference to where they came from."""
        return act(notes, asset=asset, amount=amount)

    @post(f"{HERE}/promo/mint", PostedAnswer)
    def promo_mint(self, account: str, asset: str, amount: int, **notes: Unpack[Dated]) -> Ask:
        """Issue promotional credit."""
        return act(notes, account=account, asset=asset, amount=amount)

    @post(f"{HERE}/promo/burn", PostedAnswer)
    def promo_burn(self, account: str, asset: str, amount: int, **notes: Unpack[Dated]) -> Ask:
        """Let promotional credit lapse."""
        return act(notes, account=account, asset=asset, amount=amount)

    @post(f"{HERE}/promo/bonus", PostedAnswer)
    def bonus(
        self,
        account: str,
        asset: str,
        amount: int,
        *,
        from_account: str = TREASURY,
        bucket: Bucket = "promo",
        **notes: Unpack[Dated],
    ) -> Ask:
        """Pay a bonus out of an account's own funds, as ``promo`` or ``available``."""
        return act(notes, account=account, asset=asset, amount=amount, from_account=from_account, bucket=bucket)


class Rules:
    """Accounts and what they may do; assets, types, reserves, periods and the ledger's policy."""

    @post(f"{HERE}/accounts", PostedAnswer)
    def open_account(
        self,
        account: str,
        *,
        limits: Mapping[str, int] | None = None,
        ceilings: Mapping[str, int] | None = None,
        floorless: bool = False,
        owner: str = "",
        **notes: Unpack[Notes],
    ) -> Ask:
        """Declare an account. ``limits`` (minor units by asset) make it a member that may go into debt so far."""
        bounds = {"limits": limits, "ceilings": ceilings, "floorless": floorless or None, "owner": owner or None}
        return act(notes, account=account, **bounds)

    @post(f"{HERE}/accounts/{{account}}/freeze", PostedAnswer)
    def freeze(self, account: str, **notes: Unpack[Notes]) -> Ask:
        """Stop an account from paying; it may still be paid."""
        return act(notes).at(account=account)

    @post(f"{HERE}/accounts/{{account}}/unfreeze", PostedAnswer)
    def unfreeze(self, account: str, **notes: Unpack[Notes]) -> Ask:
        """Let a frozen account pay again."""
        return act(notes).at(account=account)

    @post(f"{HERE}/accounts/{{account}}/exclude", PostedAnswer)
    def exclude(self, account: str, *, settle_to: str = "", **notes: Unpack[Notes]) -> Ask:
        """Remove a member for good; what it owns or owes goes to ``settle_to``."""
        return act(notes, settle_to=settle_to or None).at(account=account)

    @post(f"{HERE}/accounts/{{account}}/close", PostedAnswer)
    def close_account(self, account: str, *, settle_to: str = "", **notes: Unpack[Notes]) -> Ask:
        """End an account for good; what it owns or owes goes to ``settle_to``."""
        return act(notes, settle_to=settle_to or None).at(account=account)

    @post(f"{HERE}/accounts/{{account}}/limits", PostedAnswer)
    def set_limit(
        self,
        account: str,
        asset: str,
        limit: int | None = None,
        *,
        ceiling: int | None = None,
        clear_ceiling: bool = False,
        **notes: Unpack[Notes],
    ) -> Ask:
        """Set an account's debt limit or ceiling in one asset, in minor units."""
        bounds = {"limit": limit, "ceiling": ceiling, "clear_ceiling": clear_ceiling or None}
        return act(notes, asset=asset, **bounds).at(account=account)

    @post(f"{HERE}/policy", PostedAnswer)
    def set_policy(self, changes: Mapping[str, Any], **notes: Unpack[Notes]) -> Ask:
        """Change rules of the ledger: fields of its policy, by name."""
        return act(notes, changes=dict(changes))

    @post(f"{HERE}/assets", PostedAnswer)
    def define_asset(self, asset: str, *, name: str = "", **notes: Unpack[Notes]) -> Ask:
        """Allow an asset; a ledger that is not strict does so on first use."""
        return act(notes, asset=asset, name=name or None)

    @post(f"{HERE}/types", PostedAnswer)
    def define_type(
        self,
        name: str,
        *,
        base: str = "transfer",
        requires: Sequence[str] = (),
        summary: str = "",
        **notes: Unpack[Notes],
    ) -> Ask:
        """Define a transaction type of this ledger's own, narrower than its base."""
        return act(notes, name=name, base=base, requires=list(requires), summary=summary or None)

    @post(f"{HERE}/reserves", PostedAnswer)
    def record_reserve(
        self,
        reserve: str,
        asset: str,
        value: int,
        *,
        haircut_bps: int = 10_000,
        provider: str = "",
        valid_until: str = "",
        **notes: Unpack[Notes],
    ) -> Ask:
        """Record a reserve asset's value; a haircut of 10000 basis points counts nothing of it."""
        more = {"haircut_bps": haircut_bps, "provider": provider or None, "valid_until": valid_until or None}
        return act(notes, reserve=reserve, asset=asset, value=value, **more)

    @post(f"{HERE}/periods/close", PostedAnswer)
    def close_period(self, until: str, **notes: Unpack[Notes]) -> Ask:
        """Let nothing take effect before ``until`` any more."""
        return act(notes, until=until)
