"""From balance updates to one command: the checks that need no book, and the pairing of debits with credits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from tallystick.accounts import CLEARING, role_of
from tallystick.cells.errors import ConservationViolation
from tallystick.cells.values import BalanceUpdate, ReserveReason, ReserveUpdate, UpdateReason
from tallystick.commands import Command, CommitmentCancel, CommitmentCreate, CommitmentFulfil, Leg, Post
from tallystick.errors import InvalidInput

Kind = Literal["spot_payment", "commitment_fulfil", "federation_import", "federation_export", "governance_adjustment"]

_KINDS: dict[UpdateReason, Kind] = {
    UpdateReason.SPOT_TRANSACTION_PAYER: "spot_payment",
    UpdateReason.SPOT_TRANSACTION_PAYEE: "spot_payment",
    UpdateReason.COMMITMENT_FULFILL_PAYER: "commitment_fulfil",
    UpdateReason.COMMITMENT_FULFILL_PAYEE: "commitment_fulfil",
    UpdateReason.FEDERATION_IMPORT: "federation_import",
    UpdateReason.FEDERATION_EXPORT: "federation_export",
    UpdateReason.GOVERNANCE_ADJUSTMENT: "governance_adjustment",
}
_FEDERATED: tuple[Kind, ...] = ("federation_import", "federation_export")

MAX_UPDATES = 1_000
"""How many updates one call may hold; they may name up to 101 accounts, which is what the legs of one event reach."""


class Plan:
    """What the updates of one call come to: their kind, the net change of each account, and the event they refer to.

    Raises ConservationViolation, before anything else is looked at, if the updates do not add up to zero; then
    InvalidInput if they are not of one kind or contradict themselves. It depends on the request alone, so the same
    request under the same key always makes the same command.
    """

    def __init__(self, updates: Iterable[BalanceUpdate], clearing: str = "", related: str = "") -> None:
        given = tuple(updates)
        if len(given) > MAX_UPDATES:
            raise InvalidInput(path="updates", problem=f"there may be {MAX_UPDATES} at most")
        for place, update in enumerate(given):
            if type(update.delta) is not int:
                raise InvalidInput(
                    path=f"updates[{place}].delta", problem=f"{update.delta!r} is not a whole number of minor units"
                )
        total = sum(update.delta for update in given)
        if total and not clearing:
            raise ConservationViolation(expected=0, actual=total)
        self.kind = _kind_of(given)
        self.related = _related([related, *(update.related_event_id for update in given)])
        self.changes: dict[str, int] = {}
        for update in given:
            self.changes[update.member_id] = self.changes.get(update.member_id, 0) + update.delta
        if clearing:
            self._balance_with(clearing_account(clearing), total)

    def _balance_with(self, account: str, total: int) -> None:
        if self.kind not in _FEDERATED:
            raise InvalidInput(path="clearing", problem="only a federated payment goes through a clearing account")
        self.changes[account] = self.changes.get(account, 0) - total

    @property
    def members(self) -> list[str]:
        """The accounts that must be members: all but the ledger's own, where the kind may touch those."""
        own_allowed = self.kind in (*_FEDERATED, "governance_adjustment")
        return [account for account in self.changes if not (own_allowed and account.startswith("@"))]

    def legs(self, asset: str) -> tuple[Leg, ...]:
        """The changes as legs: debits and credits in the order of their accounts, each debit spent on the next credit.

        n accounts need n-1 legs at most, whatever the order in which the updates were given.
        """
        return pair(self.changes, asset)


def pair(changes: dict[str, int], asset: str) -> tuple[Leg, ...]:
    """Legs that make these net changes, which add up to zero; always the same legs for the same changes."""
    rows = sorted(changes.items())
    payers = [(account, -amount) for account, amount in rows if amount < 0]
    payees = [(account, amount) for account, amount in rows if amount > 0]
    legs, left = [], 0
    payee = ""
    waiting = iter(payees)
    for payer, debt in payers:
        owed = debt
        while owed:
            if not left:
                payee, left = next(waiting)
            amount = min(owed, left)
            legs.append(Leg(payer, payee, asset, amount))
            owed -= amount
            left -= amount
    return tuple(legs)


def command_of(plan: Plan, reserve: ReserveUpdate | None, asset: str, context: dict[str, Any]) -> Command:
    """The one command that a plan comes to; with ``reserve`` it frees that reserve in the same event."""
    legs = plan.legs(asset)
    if plan.kind == "commitment_fulfil" and reserve is not None:
        if plan.related not in ("", reserve.commitment_id):
            raise InvalidInput(path="reserve.commitment_id", problem=f"the updates belong to {plan.related}")
        freeing = reserve_command(reserve, asset, context)
        if not isinstance(freeing, CommitmentFulfil):
            raise InvalidInput(path="reserve.reason", problem="a payment frees its reserve by COMMITMENT_FULFILL")
        return CommitmentFulfil(
            member=freeing.member, asset=asset, amount=freeing.amount, legs=legs, **_with(context, freeing.refs)
        )
    if reserve is not None:
        raise InvalidInput(path="reserve", problem="only a commitment's payment frees a reserve")
    if plan.kind == "commitment_fulfil":
        # The ledger's commitment_fulfil frees a reserve by its nature; without one it is a payment that names it.
        return Post(type="spot_payment", legs=legs, **_with(context, _refs("commitment", plan.related)))
    if plan.kind == "governance_adjustment" and not context.get("reason"):
        context = {**context, "reason": plan.related or UpdateReason.GOVERNANCE_ADJUSTMENT.value}
    return Post(type=plan.kind, legs=legs, **_with(context, _refs("external_ref", plan.related)))


def reserve_command(update: ReserveUpdate, asset: str, context: dict[str, Any]) -> Command:
    """The command that changes one reserve. Raises InvalidInput if sign and reason contradict each other."""
    try:
        reason = ReserveReason(update.reason)
    except ValueError:
        raise InvalidInput(
            path="reason", problem=f"{update.reason!r} is not one of {', '.join(ReserveReason)}"
        ) from None
    if type(update.delta) is not int or not update.delta:
        raise InvalidInput(path="delta", problem=f"{update.delta!r} is not a whole number of minor units but zero")
    if (update.delta > 0) != (reason is ReserveReason.COMMITMENT_CREATE):
        direction = "up" if reason is ReserveReason.COMMITMENT_CREATE else "down"
        raise InvalidInput(path="delta", problem=f"{reason} takes a reserve {direction}, not by {update.delta}")
    if not update.commitment_id:
        raise InvalidInput(path="commitment_id", problem="a reserve belongs to a commitment")
    classes = {
        ReserveReason.COMMITMENT_CREATE: CommitmentCreate,
        ReserveReason.COMMITMENT_FULFILL: CommitmentFulfil,
        ReserveReason.COMMITMENT_CANCEL: CommitmentCancel,
    }
    refs = {"commitment": update.commitment_id}
    made: Command = classes[reason](
        member=update.member_id, asset=asset, amount=abs(update.delta), **_with(context, refs)
    )
    return made


def clearing_account(name: str) -> str:
    """The address of the clearing account towards another cell, from the cell's name or the address itself."""
    return name if role_of(name) == "clearing" else f"{CLEARING}{name}"


def _kind_of(updates: Sequence[BalanceUpdate]) -> Kind:
    kinds: dict[Kind, None] = {}
    for place, update in enumerate(updates):
        try:
            reason = UpdateReason(update.reason)
        except ValueError:
            raise InvalidInput(
                path=f"updates[{place}].reason", problem=f"{update.reason!r} is not one of {', '.join(UpdateReason)}"
            ) from None
        kinds[_KINDS[reason]] = None
        if (reason.endswith("_PAYER") and update.delta > 0) or (reason.endswith("_PAYEE") and update.delta < 0):
            raise InvalidInput(
                path=f"updates[{place}].delta", problem=f"{reason} goes the other way than {update.delta:+}"
            )
    if len(kinds) != 1:
        found = f"these are {' and '.join(kinds)}" if kinds else "there are none"
        raise InvalidInput(path="updates", problem=f"the updates of one call are of one kind; {found}")
    return next(iter(kinds))


def _related(ids: Iterable[str]) -> str:
    found = list(dict.fromkeys(named for named in ids if named))
    if len(found) > 1:
        raise InvalidInput(path="updates", problem=f"they name different related events: {', '.join(map(str, found))}")
    return found[0] if found else ""


def _refs(name: str, value: str) -> dict[str, str]:
    return {name: value} if value else {}


def _with(context: dict[str, Any], refs: dict[str, str] | None) -> dict[str, Any]:
    """What a command carries beside its own fields, with these references added to the caller's."""
    merged = {**(context.get("refs") or {}), **(refs or {})}
    return {**context, "refs": merged or None}
