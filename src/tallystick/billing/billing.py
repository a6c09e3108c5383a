"""Billing: a ledger used to freeze an amount before work is done, charge what it cost, and give the rest back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from tallystick import commands
from tallystick.accounts import FEES, role_of
from tallystick.billing.mapping import (
    TOLD,
    charge_of,
    fee_refunded_by,
    freeze_of,
    refunded_by,
    tell_intent,
    tell_order,
    tell_payment,
)
from tallystick.billing.values import (
    BillingEvent,
    Charge,
    Freeze,
    Movement,
    OrderConflict,
    Reconciliation,
    Refund,
    Release,
)
from tallystick.clock import BEGINNING, END, add_seconds, parse_time
from tallystick.commands import Command, Leg, Split
from tallystick.errors import ChargeNotOpen, HoldNotFound, HoldNotOpen, InvalidInput, TransactionNotFound
from tallystick.events import Event
from tallystick.kernel.postings import check_amount
from tallystick.money import split_asset

if TYPE_CHECKING:
    from datetime import datetime

    from tallystick.kernel import Lock
    from tallystick.ledger import Ledger
    from tallystick.ledger.views import Line

MAX_ORDER_ID = 240
"""An order's id is the better part of an idempotency key, which has 255 characters."""

_PAGE = 1_000
_INSTANT_SECONDS = 0.000001


class Billing:
    """The billing of one ledger. See the methods for the life of a charge: freeze, capture, then finalize or refund.

    ``asset`` and ``payee`` are what is meant where a call names none. Every change has an idempotency key: ``freeze``
    is given one; a capture's is its order, so an order captures one hold once; a whole release, a whole refund and
    ``finalize_charge`` have the one that their hold or charge makes, unless another is given. The keys live in
    ``source``, apart from those of other systems. Asking again gives an equal answer again.
    """

    def __init__(
        self, ledger: Ledger, *, asset: str, payee: str = "", fee_account: str = FEES, source: str = "billing"
    ) -> None:
        split_asset(asset)
        if role_of(fee_account) not in ("fees", "clearing"):
            raise InvalidInput(
                path="fee_account", problem=f"{fee_account} is no fee pool; @fees and @clearing:<domain> are"
            )
        self.ledger = ledger
        self.asset = asset
        self.payee = payee
        self.fee_account = fee_account
        self.source = source

    # ------------------------------------------------------------ the life of a charge

    def freeze(
        self,
        account: str,
        amount: int,
        reason: str,
        *,
        key: str,
        asset: str = "",
        expires_in_seconds: int | None = None,
        order_id: str = "",
        trace_id: str = "",
        actor: str = "",
    ) -> Freeze:
        """Freeze an amount of what the account has available, until it is captured, released or expires.

        It expires after ``expires_in_seconds``, or by the ledger's policy (7 days). Raises InsufficientFunds.
        """
        command = commands.Hold(
            account=account,
            asset=asset or self.asset,
            amount=amount,
            expires_in_seconds=expires_in_seconds,
            key=key,
            source=self.source,
            actor=actor,
            reason=reason,
            refs=_refs(order=order_id, trace_id=trace_id),
        )
        return freeze_of(self._post(command))

    def capture_hold(
        self,
        hold_id: str,
        order_id: str,
        *,
        amount: int | None = None,
        payee: str = "",
        fee: int | None = None,
        final: bool = True,
        actor: str = "",
    ) -> Charge:
        """Charge an order to a hold: all that it keeps, or ``amount`` of it; ``fee`` of that goes to the fee pool.

        A final capture gives the rest back in the same event. With ``final=False`` the rest stays frozen, for other
        orders or a release. The same order again gives the same charge again. Raises OrderConflict for another order
        on a hold that was captured, IdempotencyConflict for an order that was charged in another way (another hold,
        amount, payee, fee), HoldExpired, OverCapture, and HoldNotOpen for a hold that was released.
        """
        _check_order(order_id)
        command = commands.Capture(
            hold=hold_id,
            splits=self._splits(amount, payee or self.payee, fee),
            final=final,
            key=f"order {order_id}",
            source=self.source,
            actor=actor,
            refs=_refs(order=order_id, trace_id=self._hold(hold_id).refs.get("trace_id", "")),
        )
        try:
            return charge_of(self._post(command))
        except HoldNotOpen as refusal:
            if refusal.data["state"] != "captured":
                raise
            raise OrderConflict(hold=hold_id, order=order_id) from refusal

    def release_hold(self, hold_id: str, *, amount: int | None = None, key: str = "", actor: str = "") -> Release:
        """Give back all that a hold still keeps, or ``amount`` of it; a part needs a ``key`` of its own.

        Raises HoldNotOpen if nothing is left, and OverCapture if less is.
        """
        if amount is not None and not key:
            raise InvalidInput(path="key", problem="releasing a part needs a key: it may be meant more than once")
        hold = self._hold(hold_id)
        event = self._post(
            commands.Release(
                hold=hold_id,
                amount=amount,
                key=key or f"release {hold_id}",
                source=self.source,
                actor=actor,
                refs=_refs(trace_id=hold.refs.get("trace_id", "")),
            )
        )
        freed = next(entry for entry in event.entries if entry.amount > 0)
        return Release(
            id=event.id,
            hold_id=hold_id,
            account=freed.account,
            asset=freed.asset,
            amount=freed.amount,
            time=event.time,
        )

    def finalize_charge(self, charge_id: str, *, key: str = "", actor: str = "") -> Charge:
        """Make a captured charge final: it cannot be refunded any more. What was refunded before stays so.

        Raises ChargeNotOpen for one that was refunded wholly, or (under another key) is final already.
        """
        charge = self._charge(charge_id)
        event = self._post(
            commands.FinalizeCharge(
                charge=charge.id,
                key=key or f"finalize {charge.id}",
                source=self.source,
                actor=actor,
                refs=self._refs_of(charge),
            )
        )
        reversals = [found for found in self._reversals(charge) if found.seq < event.seq]
        refunded = sum(refunded_by(found, charge) for found in reversals)
        return msgspec.structs.replace(charge, state="finalized", refunded=refunded)

    def refund_charge(
        self,
        charge_id: str,
        amount: int | None = None,
        *,
        fee: int = 0,
        key: str = "",
        reason: str = "",
        actor: str = "",
    ) -> Refund:
        """Pay a charge back: what is left of it, or ``amount``, of which ``fee`` comes out of the fee pool.

        A part needs a ``key`` of its own. Raises ChargeNotOpen for a charge that is final (pay its amount back by a
        new transfer), AlreadyReversed if less is left than is asked for, and InsufficientFunds if the payee has spent
        it.
        """
        if amount is not None and not key:
            raise InvalidInput(path="key", problem="refunding a part needs a key: it may be meant more than once")
        charge = self._charge(charge_id)
        key = key or f"refund {charge.id}"
        if self.ledger.by_key(key, source=self.source) is None and self.ledger.is_final(charge.id):
            raise ChargeNotOpen(charge=charge.id, state="finalized")
        event = self._post(
            commands.Reverse(
                transaction=charge.id,
                legs=self._way_back(charge, amount, fee),
                key=key,
                source=self.source,
                actor=actor,
                reason=reason,
                refs=self._refs_of(charge),
            )
        )
        return Refund(
            id=event.id,
            charge_id=charge.id,
            order_id=charge.order_id,
            account=charge.account,
            asset=charge.asset,
            amount=refunded_by(event, charge),
            fee=fee_refunded_by(event),
            time=event.time,
        )

    # ------------------------------------------------------------ reads

    def get_charge(self, charge_id: str) -> Charge | None:
        """A charge as it stands now, or None if there is none of this id."""
        try:
            charge = self._charge(charge_id)
        except HoldNotFound:
            return None
        refunded = sum(refunded_by(event, charge) for event in self._reversals(charge))
        if self.ledger.is_final(charge.id):
            return msgspec.structs.replace(charge, state="finalized", refunded=refunded)
        state = "refunded" if refunded == charge.amount else "captured"
        return msgspec.structs.replace(charge, state=state, refunded=refunded)

    def list_ledger_entries(
        self, account: str, from_ts: str | datetime | None = None, to_ts: str | datetime | None = None
    ) -> list[Line]:
        """The account's lines of the journal recorded in [from_ts, to_ts), in order, with before and after.

        All assets and buckets; the order is the journal's, so lines of one instant have one order too. Without a time
        the end is open. For an account with very many, page through ``ledger.register``.
        """
        start = parse_time(from_ts, "from_ts") if from_ts else None
        end = parse_time(to_ts, "to_ts") if to_ts else None
        return list(self._lines(account, start, end))

    def reconcile(
        self, start: str | datetime | None = None, end: str | datetime | None = None, *, account: str = ""
    ) -> Reconciliation:
        """Show for the period [start, end) that opening balance + movements = closing balance, for each balance.

        Of one account, or of every account of the ledger. Without a time the period is open at that end; it never goes
        beyond the last event, so the ``end`` of the answer is the instant that it speaks of.
        """
        first = parse_time(start, "start") if start else BEGINNING
        last = parse_time(end, "end") if end else END
        if last < first:
            raise InvalidInput(path="end", problem=f"{last} is before {first}")
        # The period ends with the last event that there is now, so that postings made meanwhile fall outside it.
        last = max(first, min(last, add_seconds(self.ledger.head.time or BEGINNING, _INSTANT_SECONDS)))
        accounts = [account] if account else list(self._accounts())
        movements = [movement for name in accounts for movement in self._movements(name, first, last)]
        return Reconciliation(first, last, movements)

    def events(self, after: int = -1, limit: int = 1_000) -> Iterator[BillingEvent]:
        """Up to ``limit`` billing events of the journal behind the sequence number ``after``, in order.

        A pure mapping of the journal: the same events with the same ids, whenever and as often as they are read. To
        resume, give the last ``sequence`` that was dealt with.
        """
        told, cursor = 0, after
        while told < limit and (page := self.ledger.events(after=cursor, limit=_PAGE)):
            for transaction in page:
                cursor = transaction.seq
                if transaction.type in TOLD:
                    yield self._tell(transaction.event)
                    told += 1
                    if told == limit:
                        return

    # ------------------------------------------------------------ inside

    def _post(self, command: Command) -> Event:
        """The event that the command came to, now or when it was first asked."""
        return self.ledger.transaction(self.ledger.post(command).id).event

    def _hold(self, hold_id: str) -> Lock:
        found = self.ledger.hold_by_id(hold_id)
        if found is None or found.kind != "hold":
            raise HoldNotFound(kind="hold", id=hold_id)
        return found

    def _splits(self, amount: int | None, payee: str, fee: int | None) -> tuple[Split, ...]:
        """Who gets what; without an amount the payee gets all that the fee leaves, as the ledger finds it."""
        share = fee or 0
        if amount is not None:
            check_amount(amount, "amount")
        if type(share) is not int or share < 0 or (amount is not None and share > amount):
            raise InvalidInput(path="fee", problem=f"{fee!r} is not 0 to the amount that is captured")
        splits = []
        if amount is None or amount > share:
            if not payee:
                raise InvalidInput(path="payee", problem="say who is paid, here or when Billing is made")
            splits.append(Split(payee, None if amount is None else amount - share))
        if share:
            splits.append(Split(self.fee_account, share, "fees"))
        return tuple(splits)

    def _way_back(self, charge: Charge, amount: int | None, fee: int) -> tuple[Leg, ...]:
        """The legs of a part's refund; none for all that is left, which the ledger works out itself."""
        if amount is None:
            if fee:
                raise InvalidInput(
                    path="fee", problem="all that is left includes the fee; give an amount to refund a part"
                )
            return ()
        check_amount(amount, "amount")
        if type(fee) is not int or not 0 <= fee <= amount:
            raise InvalidInput(path="fee", problem=f"{fee!r} is not 0 to {amount}, the amount that is refunded")
        pools = [part for part in charge.settlement if part.bucket == "fees"]
        payees = [part for part in charge.settlement if part.bucket != "fees"]
        legs = []
        for parts, part_amount, path in ((payees, amount - fee, "amount"), (pools, fee, "fee")):
            if not part_amount:
                continue
            if len(parts) != 1:
                raise InvalidInput(
                    path=path, problem=f"the charge has {len(parts)} such payees; reverse it by naming legs"
                )
            legs.append(Leg(parts[0].account, charge.account, charge.asset, part_amount, from_bucket=parts[0].bucket))
        return tuple(legs)

    def _charge(self, charge_id: str) -> Charge:
        try:
            found = self.ledger.transaction(charge_id)
        except TransactionNotFound:
            raise HoldNotFound(kind="charge", id=charge_id) from None
        if found.type != "capture":
            raise HoldNotFound(kind="charge", id=charge_id)
        return charge_of(found.event)

    def _refs_of(self, charge: Charge) -> dict[str, str] | None:
        trace_id = charge.trace_id if charge.trace_id != charge.hold_id else ""
        return _refs(order=charge.order_id, trace_id=trace_id)

    def _reversals(self, charge: Charge) -> list[Event]:
        """What undid the charge or a part of it, in order, whoever asked for it."""
        done = self.ledger.reversal_of(charge.id)
        return [self.ledger.transaction(place).event for place in done.by] if done else []

    def _lines(self, account: str, start: str | None, end: str | None) -> Iterator[Line]:
        cursor = ""
        while True:
            page = self.ledger.register(account, start=start, end=end, after=cursor, limit=_PAGE)
            yield from page.items
            cursor = page.cursor
            if not cursor:
                return

    def _accounts(self) -> Iterator[str]:
        after = ""
        while page := self.ledger.accounts(after=after, limit=_PAGE):
            yield from page
            after = page[-1]

    def _movements(self, account: str, start: str, end: str) -> Iterator[Movement]:
        """One movement for each balance that the account had at the end of the period."""
        moved: dict[tuple[str, str], list[int]] = {}
        for line in self._lines(account, start, end):
            moved.setdefault((line.asset, line.bucket), []).append(line.amount)
        opening = self._amounts(account, start)
        closing = self._amounts(account, end)
        for asset, bucket in sorted({*moved, *opening, *closing}):
            amounts = moved.get((asset, bucket), [])
            yield Movement(
                account=account,
                asset=asset,
                bucket=bucket,
                opening=opening.get((asset, bucket), 0),
                credits=sum(amount for amount in amounts if amount > 0),
                debits=-sum(amount for amount in amounts if amount < 0),
                closing=closing.get((asset, bucket), 0),
                entries=len(amounts),
            )

    def _amounts(self, account: str, before: str) -> dict[tuple[str, str], int]:
        """The account's balances as they had been recorded before an instant."""
        if before == BEGINNING:
            return {}
        views = self.ledger.balances(account, recorded=add_seconds(before, -_INSTANT_SECONDS))
        return {(view.asset, view.bucket): view.amount for view in views}

    def _tell(self, event: Event) -> BillingEvent:
        source = f"tallystick:{self.ledger.name}"
        if event.type == "hold":
            return tell_intent(event, source)
        if event.type == "capture":
            return tell_order(event, source)
        captured = self.ledger.transaction(event.data["charge"]).event
        return tell_payment(event, captured, self._reversals(charge_of(captured)), source)


def _refs(**given: str) -> dict[str, str] | None:
    """The references that were given."""
    return {name: value for name, value in given.items() if value} or None


def _check_order(order_id: str) -> None:
    if not isinstance(order_id, str) or not 0 < len(order_id) <= MAX_ORDER_ID:
        raise InvalidInput(path="order_id", problem=f"{order_id!r} is not an id of 1 to {MAX_ORDER_ID} characters")
