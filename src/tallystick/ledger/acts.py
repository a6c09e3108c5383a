"""The acts: one method for each thing that a user does to a ledger.

Every act takes an idempotency ``key``, and may take ``source`` (who asks), ``actor``, ``reason``, ``refs`` (typed
causal references), ``metadata``, ``conditions`` and ``dry_run``. It answers with Posted, or raises the Refusal.
Amounts are whole minor units. A reason, or a value of the metadata, may be ``Erasable("text")``.

With ``connection``, a psycopg connection in a transaction to the same PostgreSQL database, an act is part of that
transaction: it is there once the caller commits, and never if he rolls back. The ledger is locked for all others until
then, so keep such a transaction short; and post to one ledger in it, or always to several in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict, Unpack

from tallystick import commands as c
from tallystick.accounts import EXTERNAL, FEES, ISSUANCE, TREASURY, Bucket
from tallystick.clock import parse_time
from tallystick.commands import Command, Condition, Leg, Split
from tallystick.erasable import Erasable
from tallystick.errors import InvalidInput, Refusal
from tallystick.ledger.desk import Desk
from tallystick.ledger.joined import JoinedWriter
from tallystick.ledger.reads import Reads
from tallystick.ledger.views import Posted
from tallystick.ledger.writer import Writer


class Envelope(TypedDict, total=False):
    """What every act may be given beside its own arguments. ``key`` is required."""

    key: str
    source: str
    actor: str
    reason: str | Erasable
    refs: dict[str, str] | None
    metadata: Mapping[str, str | Erasable] | None
    conditions: tuple[Condition, ...]
    dry_run: bool
    connection: Any


class Acts(Reads):
    """The writing half of a Ledger."""

    _writer: Writer

    # ------------------------------------------------------------ any command

    def post(self, command: Command, *, dry_run: bool = False, connection: Any = None) -> Posted:
        """Post one command, or raise its Refusal. ``dry_run``: the same answer, and nothing is written."""
        result = self._writer_for(connection).submit([command], dry_run=dry_run)[0]
        if isinstance(result, Refusal):
            raise result
        return result

    def post_many(
        self, commands: Iterable[Command], *, atomic: bool = False, dry_run: bool = False, connection: Any = None
    ) -> list[Posted | Refusal]:
        """Post commands in order, each on the book as the ones before left it; one result each.

        Independent (the default): a refusal stands in its place, the others go through. ``atomic``: all or none;
        raises BatchAborted, which names the first that was refused.

        Raises Archived if a command repeats the key of an event, or rests on one, whose file is away: of an independent
        batch the others were posted, so asking again with the same keys, when the file is back, gives all answers.
        """
        listed: Sequence[Command] = commands if isinstance(commands, (list, tuple)) else list(commands)
        return self._writer_for(connection).submit(listed, atomic=atomic, dry_run=dry_run) if listed else []

    def _writer_for(self, connection: Any) -> Writer | JoinedWriter:
        if connection is None:
            return self._writer
        store = self._store.within(connection)
        desk = Desk(store, self._name, self._clock, self._first_policy, salts=self._salts, passing=True)
        return JoinedWriter(store, desk)

    def _act(self, kind: type[Command], fields: dict[str, Any], envelope: Envelope) -> Posted:
        if "key" not in envelope:
            raise InvalidInput(path="key", problem="every command needs an idempotency key")
        fields.update({name: value for name, value in envelope.items() if name not in ("dry_run", "connection")})
        try:
            command = kind(**fields)
        except TypeError as error:
            raise InvalidInput(path=kind.event_type or "command", problem=str(error)) from None
        return self.post(command, dry_run=envelope.get("dry_run", False), connection=envelope.get("connection"))

    # ------------------------------------------------------------ movements

    def transfer(
        self,
        from_account: str,
        to_account: str,
        asset: str,
        amount: int,
        *,
        effective: str = "",
        **more: Unpack[Envelope],
    ) -> Posted:
        """One account pays another. ``effective`` back-dates it."""
        if effective:
            return self.transact(
                "transfer", [Leg(from_account, to_account, asset, amount)], effective=effective, **more
            )
        fields = {"from_account": from_account, "to_account": to_account, "asset": asset, "amount": amount}
        return self._act(c.Transfer, fields, more)

    def transact(self, type: str, legs: Iterable[Leg], *, effective: str = "", **more: Unpack[Envelope]) -> Posted:
        """A transaction of any type that can be posted, with any number of legs and assets."""
        return self._act(c.Post, {"type": type, "legs": tuple(legs), "effective": effective}, more)

    def mint(self, account: str, asset: str, amount: int, **more: Unpack[Envelope]) -> Posted:
        """Issue new value to an account."""
        return self.transact("mint", [Leg(ISSUANCE, account, asset, amount)], **more)

    def burn(self, account: str, asset: str, amount: int, **more: Unpack[Envelope]) -> Posted:
        """Take an account's value out of issue."""
        return self.transact("burn", [Leg(account, ISSUANCE, asset, amount)], **more)

    def deposit(
        self,
        account: str,
        asset: str,
        amount: int,
        *,
        rail: str = "bank",
        effective: str = "",
        **more: Unpack[Envelope],
    ) -> Posted:
        """Value arrives over a rail; needs a reference ``tx_hash`` or ``external_ref``."""
        return self.transact("deposit", [Leg(EXTERNAL + rail, account, asset, amount)], effective=effective, **more)

    def withdraw(
        self,
        account: str,
        asset: str,
        amount: int,
        *,
        rail: str = "bank",
        effective: str = "",
        **more: Unpack[Envelope],
    ) -> Posted:
        """Value leaves over a rail; needs a reference ``tx_hash`` or ``external_ref``."""
        return self.transact("withdrawal", [Leg(account, EXTERNAL + rail, asset, amount)], effective=effective, **more)

    def settle(
        self,
        from_account: str,
        to_account: str,
        asset: str,
        amount: int,
        *,
        netting_batch: str,
        **more: Unpack[Envelope],
    ) -> Posted:
        """Settle a netted amount; one side is a clearing account (``@clearing:<domain>``, made on first use)."""
        more["refs"] = {**(more.get("refs") or {}), "netting_batch": netting_batch}
        return self.transact("settlement", [Leg(from_account, to_account, asset, amount)], **more)

    def fee(
        self, account: str, asset: str, amount: int, *, bucket: Bucket = "available", **more: Unpack[Envelope]
    ) -> Posted:
        """An account pays into the fee pool, from ``available`` or ``promo``."""
        return self.transact("fee", [Leg(account, FEES, asset, amount, bucket, "fees")], **more)

    def fee_transfer(self, to_account: str, asset: str, amount: int, **more: Unpack[Envelope]) -> Posted:
        """The fee pool pays out; needs a reference to where the fees came from."""
        return self.transact("fee_transfer", [Leg(FEES, to_account, asset, amount, "fees")], **more)

    def fee_burn(self, asset: str, amount: int, **more: Unpack[Envelope]) -> Posted:
        """Take fees out of issue; needs a reference to where they came from."""
        return self.transact("fee_burn", [Leg(FEES, ISSUANCE, asset, amount, "fees")], **more)

    def promo_mint(self, account: str, asset: str, amount: int, **more: Unpack[Envelope]) -> Posted:
        """Issue promotional credit."""
        return self.transact("promo_mint", [Leg(ISSUANCE, account, asset, amount, "available", "promo")], **more)

    def promo_burn(self, account: str, asset: str, amount: int, **more: Unpack[Envelope]) -> Posted:
        """Let promotional credit lapse."""
        return self.transact("promo_burn", [Leg(account, ISSUANCE, asset, amount, "promo")], **more)

    def bonus(
        self,
        account: str,
        asset: str,
        amount: int,
        *,
        from_account: str = TREASURY,
        bucket: Bucket = "promo",
        **more: Unpack[Envelope],
    ) -> Posted:
        """Pay a bonus out of an account's own funds, as ``promo`` or ``available``."""
        return self.transact("bonus_credit", [Leg(from_account, account, asset, amount, "available", bucket)], **more)

    # ------------------------------------------------------------ holds

    def hold(
        self,
        account: str,
        asset: str,
        amount: int,
        *,
        expires: str = "",
        expires_in_seconds: int | None = None,
        **more: Unpack[Envelope],
    ) -> Posted:
        """Freeze an amount; the answer's ``id`` is the hold's."""
        fields: dict[str, Any] = {"account": account, "asset": asset, "amount": amount}
        return self._act(c.Hold, {**fields, "expires": expires, "expires_in_seconds": expires_in_seconds}, more)

    def top_up(self, hold_id: str, amount: int, **more: Unpack[Envelope]) -> Posted:
        """Make an open hold larger."""
        return self._act(c.HoldTopUp, {"hold": hold_id, "amount": amount}, more)

    def extend(
        self, hold_id: str, *, expires: str = "", expires_in_seconds: int | None = None, **more: Unpack[Envelope]
    ) -> Posted:
        """Give an open hold another expiry."""
        fields = {"hold": hold_id, "expires": expires, "expires_in_seconds": expires_in_seconds}
        return self._act(c.HoldExtend, fields, more)

    def capture(
        self,
        hold_id: str,
        splits: Iterable[Split] = (),
        *,
        to_account: str = "",
        amount: int | None = None,
        final: bool = True,
        **more: Unpack[Envelope],
    ) -> Posted:
        """Pay out of an open hold: to ``splits``, or ``amount`` (all that is left, if None) ``to_account``.

        ``final`` gives back what is left in the same event; otherwise the hold stays open for more captures.
        """
        parts = tuple(splits) or (Split(to_account, amount),)
        return self._act(c.Capture, {"hold": hold_id, "splits": parts, "final": final}, more)

    def release(self, hold_id: str, amount: int | None = None, **more: Unpack[Envelope]) -> Posted:
        """Give an open hold back, whole or in part."""
        return self._act(c.Release, {"hold": hold_id, "amount": amount}, more)

    def expire(self, hold_id: str, **more: Unpack[Envelope]) -> Posted:
        """Give back a hold whose time has passed."""
        return self._act(c.HoldExpire, {"hold": hold_id}, more)

    def expire_due(self, now: str | None = None, *, limit: int = 1_000) -> list[Posted | Refusal]:
        """Give back the holds whose time has passed (by ``now``, which may not lie ahead); safe to run twice."""
        moment = self.now() if now is None else min(parse_time(now, "now"), self.now())
        due = self.due_holds(moment, limit)
        return self.post_many([c.HoldExpire(key=f"expire:{lock.id}", source="sweep", hold=lock.id) for lock in due])

    # ------------------------------------------------------------ stakes and bets

    def stake_lock(self, account: str, asset: str, amount: int, **more: Unpack[Envelope]) -> Posted:
        """Bond an amount; needs a reference ``escrow`` or ``trial``. The answer's ``id`` is the stake's."""
        return self._act(c.StakeLock, {"account": account, "asset": asset, "amount": amount}, more)

    def stake_release(self, stake_id: str, amount: int | None = None, **more: Unpack[Envelope]) -> Posted:
        """Give a bond back, whole or in part."""
        return self._act(c.StakeRelease, {"stake": stake_id, "amount": amount}, more)

    def stake_slash(
        self,
        stake_id: str,
        to_account: str,
        amount: int | None = None,
        *,
        to_bucket: Bucket = "available",
        **more: Unpack[Envelope],
    ) -> Posted:
        """Take a bond, whole or in part, for a named destination; ``@issuance`` burns it."""
        fields = {"stake": stake_id, "to_account": to_account, "amount": amount, "to_bucket": to_bucket}
        return self._act(c.StakeSlash, fields, more)

    def bet_stake(self, account: str, asset: str, amount: int, *, round: str, **more: Unpack[Envelope]) -> Posted:
        """Put a stake on game. The answer's ``id`` is the bet's."""
        more["refs"] = {**(more.get("refs") or {}), "round": round}
        return self._act(c.BetStake, {"account": account, "asset": asset, "amount": amount}, more)

    def bet_settle(self, bet_id: str, payout: int, *, house: str, round: str, **more: Unpack[Envelope]) -> Posted:
        """Decide a bet: the house takes the stake and pays ``payout`` (0 if lost)."""
        more["refs"] = {**(more.get("refs") or {}), "round": round}
        return self._act(c.BetSettlement, {"bet": bet_id, "payout": payout, "house": house}, more)

    def bet_rollback(self, bet_id: str, *, round: str, **more: Unpack[Envelope]) -> Posted:
        """Void a bet that has not been settled."""
        more["refs"] = {**(more.get("refs") or {}), "round": round}
        return self._act(c.BetRollback, {"bet": bet_id}, more)

    # ------------------------------------------------------------ repair

    def reverse(
        self, transaction_id: str, amount: int | None = None, *, legs: Iterable[Leg] = (), **more: Unpack[Envelope]
    ) -> Posted:
        """Undo a transaction, whole or in part; no amount is undone twice."""
        return self._act(c.Reverse, {"transaction": transaction_id, "amount": amount, "legs": tuple(legs)}, more)

    def adjust(self, legs: Iterable[Leg], *, corrects: str, **more: Unpack[Envelope]) -> Posted:
        """Put an error right; needs ``actor`` (who does it), ``reason`` (why), and which transaction was wrong."""
        more["refs"] = {**(more.get("refs") or {}), "corrects": corrects}
        return self.transact("adjustment", legs, **more)

    def finalize_charge(self, charge_id: str, **more: Unpack[Envelope]) -> Posted:
        """Declare a captured charge final."""
        return self._act(c.FinalizeCharge, {"charge": charge_id}, more)

    # ------------------------------------------------------------ accounts and rules

    def open_account(
        self,
        account: str,
        *,
        limits: dict[str, int] | None = None,
        ceilings: dict[str, int] | None = None,
        floorless: bool = False,
        owner: str = "",
        **more: Unpack[Envelope],
    ) -> Posted:
        """Declare an account. ``limits`` (minor units by asset) make it a member that may go into debt so far."""
        fields = {"account": account, "limits": limits or {}, "ceilings": ceilings or {}, "floorless": floorless}
        return self._act(c.OpenAccount, {**fields, "owner": owner}, more)

    def freeze(self, account: str, **more: Unpack[Envelope]) -> Posted:
        """Stop an account from paying; it may still be paid."""
        return self._act(c.FreezeAccount, {"account": account}, more)

    def unfreeze(self, account: str, **more: Unpack[Envelope]) -> Posted:
        """Let a frozen account pay again."""
        return self._act(c.UnfreezeAccount, {"account": account}, more)

    def exclude(self, account: str, *, settle_to: str = "", **more: Unpack[Envelope]) -> Posted:
        """Remove a member for good; what it owns or owes goes to ``settle_to``."""
        return self._act(c.ExcludeAccount, {"account": account, "settle_to": settle_to}, more)

    def close_account(self, account: str, *, settle_to: str = "", **more: Unpack[Envelope]) -> Posted:
        """End an account for good; what it owns or owes goes to ``settle_to``."""
        return self._act(c.CloseAccount, {"account": account, "settle_to": settle_to}, more)

    def set_limit(
        self,
        account: str,
        asset: str,
        limit: int | None = None,
        *,
        ceiling: int | None = None,
        clear_ceiling: bool = False,
        **more: Unpack[Envelope],
    ) -> Posted:
        """Set an account's debt limit or ceiling in one asset, in minor units."""
        fields = {
            "account": account,
            "asset": asset,
            "limit": limit,
            "ceiling": ceiling,
            "clear_ceiling": clear_ceiling,
        }
        return self._act(c.SetLimit, fields, more)

    def set_policy(self, changes: dict[str, Any], **more: Unpack[Envelope]) -> Posted:
        """Change rules of the ledger: fields of ``Policy`` by name."""
        return self._act(c.SetPolicy, {"changes": changes}, more)

    def define_asset(self, asset: str, *, name: str = "", **more: Unpack[Envelope]) -> Posted:
        """Allow an asset."""
        return self._act(c.DefineAsset, {"asset": asset, "name": name}, more)

    def define_type(
        self,
        name: str,
        *,
        base: str = "transfer",
        requires: Iterable[str] = (),
        summary: str = "",
        **more: Unpack[Envelope],
    ) -> Posted:
        """Define a transaction type of this ledger's own."""
        return self._act(
            c.DefineType, {"name": name, "base": base, "requires": tuple(requires), "summary": summary}, more
        )

    def record_reserve(
        self,
        reserve: str,
        asset: str,
        value: int,
        *,
        haircut_bps: int = 10_000,
        provider: str = "",
        valid_until: str = "",
        **more: Unpack[Envelope],
    ) -> Posted:
        """Record a reserve asset's value; a haircut of 10000 basis points counts nothing of it."""
        fields = {"reserve": reserve, "asset": asset, "value": value, "haircut_bps": haircut_bps}
        return self._act(c.RecordReserve, {**fields, "provider": provider, "valid_until": valid_until}, more)

    def close_period(self, until: str, **more: Unpack[Envelope]) -> Posted:
        """Let nothing take effect before ``until`` any more."""
        return self._act(c.ClosePeriod, {"until": until}, more)
