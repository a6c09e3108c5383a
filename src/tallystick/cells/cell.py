"""The cell: a ledger read and written as a mutual-credit community."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, TypeVar, Unpack

import msgspec

from tallystick.accounts import Account, role_of
from tallystick.cells.documents import CellState, OtherBalance
from tallystick.cells.errors import LimitOutOfBounds, MemberNotFound, in_words_of_cell
from tallystick.cells.updates import Plan, clearing_account, command_of, reserve_command
from tallystick.cells.values import (
    DEFAULT_ASSET,
    BalanceUpdate,
    CellParameters,
    InvariantCheckResult,
    MemberState,
    MemberStatus,
    ReserveUpdate,
)
from tallystick.commands import Command, ExcludeAccount, FreezeAccount, OpenAccount, SetLimit, UnfreezeAccount
from tallystick.errors import IdempotencyConflict, InvalidInput, Refusal, Unavailable
from tallystick.events import Event
from tallystick.money import MAX_AMOUNT, split_asset

if TYPE_CHECKING:
    from tallystick.ledger import Database, Ledger
    from tallystick.ledger.views import AccountView, Posted

_STATUSES: dict[str, MemberStatus] = {
    "active": "ACTIVE",
    "frozen": "FROZEN",
    "excluded": "EXCLUDED",
    "closed": "EXCLUDED",
}
_PRESENT = ("active", "frozen")
_ISSUING = ("issuance", "external")
_PAGE = 1_000
_STEADY_READS = 10

Answer = TypeVar("Answer")


class Note(TypedDict, total=False):
    """What any change may carry: who made it, why, and the decision or event it rests on (kept as external_ref)."""

    actor: str
    reason: str
    related_event_id: str
    dry_run: bool


class Standing(NamedTuple):
    """The balances of one account in the cell's asset, in minor units; ``other`` is what lies in no cell's bucket."""

    available: int = 0
    held: int = 0
    other: int = 0

    @property
    def balance(self) -> int:
        """What a cell calls the balance: reserves included."""
        return self.available + self.held


_NOTHING = Standing()


class Cell:
    """A mutual-credit cell: members owe and are owed, and all their balances add up to zero.

    ``balance`` is what a member is owed (or, below zero, owes), with what it has reserved; ``reserve`` is the part set
    aside for commitments; a member may go down to its limit, so ``balance - reserve >= -limit``. Amounts are whole
    minor units of the cell's one asset. Nothing is issued: value comes into being when one member pays another.

    Every change takes ``key=``, the idempotency key: asking again with the same key gives the first answer again, even
    if the members have changed since. A change is one event of the ledger or nothing; it returns the ledger's Posted.
    Refusals are CellErrors where the cell's interface has a word for them, other Refusals where it has none.
    """

    def __init__(self, ledger: Ledger, *, asset: str = DEFAULT_ASSET, source: str = "local") -> None:
        split_asset(asset)
        self.ledger = ledger
        self.asset = asset
        self.source = source
        self._past = _Past(asset)
        self._met: set[str] = set()
        self._first_rules: CellParameters | None = None

    @classmethod
    def open(
        cls,
        database: Database,
        name: str,
        *,
        asset: str = DEFAULT_ASSET,
        parameters: CellParameters | None = None,
        source: str = "local",
    ) -> Cell:
        """The cell of this name, made with these parameters (or the defaults for the asset) by its first change.

        Raises InvalidInput for a cell that exists with other parameters than those asked for: opening changes nothing.
        """
        rules = parameters or CellParameters.for_asset(asset)
        cell = cls(database.ledger(name, policy=msgspec.structs.asdict(rules)), asset=asset, source=source)
        cell._first_rules = rules
        if parameters is not None and cell.parameters != parameters:
            raise InvalidInput(path="parameters", problem=f"the cell {name} exists with others: {cell.parameters}")
        return cell

    # ------------------------------------------------------------ the cell itself

    @property
    def cell_id(self) -> str:
        """The name of the cell's ledger."""
        return self.ledger.name

    @property
    def version(self) -> int:
        """The number of events so far; it grows by one with every change of any kind."""
        return self.ledger.head.seq

    @property
    def parameters(self) -> CellParameters:
        """The rules in force, or that will be with the first change."""
        if self._first_rules is not None:
            if not self.ledger.exists:
                return self._first_rules
            self._first_rules = None
        policy = self.ledger.policy
        return CellParameters(
            limit_min=policy.limit_min,
            limit_max=policy.limit_max,
            limit_default=policy.limit_default,
            commitment_mode=policy.commitment_mode,
            floor_threshold_bps=policy.floor_threshold_bps,
        )

    # ------------------------------------------------------------ queries

    def get_member_state(self, member_id: str) -> MemberState | None:
        """All that there is of a member, also of one that was removed; None for anyone who never was a member."""
        found = self._known(member_id)
        if found is None:
            return None
        standing = self._standing_of(found)
        self._past.follow(self.ledger)
        return MemberState(
            id=member_id,
            balance=standing.balance,
            limit=found.limits[self.asset],
            reserve=standing.held,
            status=_STATUSES[found.status],
            joined_at=found.opened,
            last_activity_at=self._past.moved.get(member_id, found.opened),
        )

    def get_balance(self, member_id: str) -> int | None:
        """What the member is owed (below zero: owes), reserves included; None for anyone who is no member now."""
        member = self._member(member_id)
        return None if member is None else self._standing_of(member).balance

    def get_available_balance(self, member_id: str) -> int | None:
        """balance - reserve + limit: what the member has left to spend; None for anyone who is no member now."""
        member = self._member(member_id)
        return None if member is None else self._standing_of(member).available + member.limits[self.asset]

    def can_spend(self, member_id: str, amount: int) -> bool:
        """Whether ``amount`` could be paid now: balance - reserve - amount >= -limit, by a member that is active.

        False for a non-member and for a frozen or removed one. What it allows, apply_balance_updates allows; in the
        modes SOFT and DISABLED that allows more, because there a reserve does not bind.
        """
        if type(amount) is not int or amount < 0:
            raise InvalidInput(path="amount", problem=f"{amount!r} is not a whole number of minor units from 0")
        member = self._member(member_id)
        if member is None or member.status != "active":
            return False
        return amount <= self._standing_of(member).available + member.limits[self.asset]

    # ------------------------------------------------------------ statistics

    def get_member_count(self) -> int:
        """How many members there are, frozen ones included: only add_member and remove_member change it."""
        return len(self._members(*_PRESENT))

    def get_aggregate_capacity(self) -> int:
        """Λ, the sum of the limits of all members, frozen ones included."""
        return sum(member.limits[self.asset] for member in self._members(*_PRESENT))

    def get_balance_variance(self) -> Fraction:
        """The mean of the squared balances of the active members, exact, in minor units squared; 0 if there are none.

        The mean balance is taken as 0, as the conservation of the cell makes it.
        """
        members, standings = self._members("active"), self._standings()
        squares = sum(standings.get(member.address, _NOTHING).balance ** 2 for member in members)
        return Fraction(squares, len(members) or 1)

    def get_floor_mass(self, threshold: Fraction | Decimal | float | str | None = None) -> Fraction:
        """The share of the active members that owe at least ``threshold`` of their limit, exact; 0 if there are none.

        ``balance <= -threshold * limit``; without a threshold the cell's own (0.8 by default). A float is read as it
        is written, so that 0.8 is four fifths.
        """
        share = self.parameters.floor_threshold if threshold is None else _exact(threshold)
        members, standings = self._members("active"), self._standings()
        near = sum(
            standings.get(member.address, _NOTHING).balance <= -share * member.limits[self.asset] for member in members
        )
        return Fraction(near, len(members) or 1)

    # ------------------------------------------------------------ changes of balances and reserves

    def apply_balance_updates(
        self,
        updates: Iterable[BalanceUpdate],
        *,
        key: str,
        clearing: str = "",
        reserve: ReserveUpdate | None = None,
        **note: Unpack[Note],
    ) -> Posted:
        """Change balances, all at once in one event, or not at all. The updates of one member count together.

        The updates must add up to exactly zero, or ConservationViolation is raised before anything else is looked at;
        they are of one kind (see UpdateReason) and name one related event at most. Then everyone must be a member,
        whoever pays must not be frozen, and nobody who pays may go below its limit.

        A federated payment goes between members and the clearing account towards another cell: give that cell's name
        as ``clearing``, and the account takes the other side of the updates; or name ``@clearing:<cell>`` in an update
        of its own. It needs a ``related_event_id``: what the other cell knows the payment by. Declare the account with
        open_clearing_account before it may fall below zero.

        A commitment's payment frees no reserve by itself: give ``reserve``, with reason COMMITMENT_FULFILL, to free it
        in the same event (commitment_fulfil), or free it before by apply_reserve_update (then the payment is recorded
        as a spot_payment that names the commitment).
        """
        plan = Plan(updates, clearing, note.get("related_event_id", ""))
        context = {**self._context(key, note), "refs": None}
        command = command_of(plan, reserve, self.asset, context)
        members = plan.members if reserve is None else [*plan.members, reserve.member_id]
        return self._post(command, members, note)

    def apply_reserve_update(self, update: ReserveUpdate, *, key: str, **note: Unpack[Note]) -> Posted:
        """Reserve more for a commitment, or free some of what is reserved for it.

        Raises NegativeReserve if more would be freed than the commitment has, EscrowViolation (in mode ESCROWED) if
        the member has not enough left to reserve, and CommitmentsDisabled if the cell has no commitments.
        """
        command = reserve_command(update, self.asset, self._context(key, note))
        return self._post(command, [update.member_id], note)

    # ------------------------------------------------------------ members and limits

    def set_member_limit(self, member_id: str, new_limit: int, *, key: str, **note: Unpack[Note]) -> Posted:
        """Give a member another limit, within the cell's bounds.

        A limit below the member's debt is allowed: the member can then be paid but not spend, until it is above again.
        """
        self._check_limit(new_limit)
        command = SetLimit(account=member_id, asset=self.asset, limit=new_limit, **self._context(key, note))
        return self._post(command, [member_id], note)

    def add_member(self, member_id: str, initial_limit: int | None = None, *, key: str, **note: Unpack[Note]) -> Posted:
        """Let someone in, with a balance of 0 and this limit, or the cell's default.

        Raises AccountExists for a member, and for one that was removed: leaving is for good.
        """
        if initial_limit is None:
            initial_limit = self._first_limit(member_id, key)
        self._check_limit(initial_limit)
        if role_of(member_id) != "holder":
            raise InvalidInput(path="member_id", problem=f"{member_id} is the ledger's own account, not a member")
        command = OpenAccount(account=member_id, limits={self.asset: initial_limit}, **self._context(key, note))
        return self._post(command, [], note)

    def remove_member(self, member_id: str, *, key: str, settle_to: str = "", **note: Unpack[Note]) -> int:
        """Remove a member for good, and return its final balance: what was handed over to ``settle_to``.

        Without ``settle_to`` (another member, ``@treasury`` or a clearing account) the balance must be 0, or
        AccountNotEmpty is raised; so it is for a member with a reserve. Whoever takes a debt over must be able to
        bear it.
        """
        if settle_to == member_id:
            raise InvalidInput(path="settle_to", problem="name another account that can take the balance over")
        members = [member_id, settle_to] if settle_to and role_of(settle_to) == "holder" else [member_id]
        command = ExcludeAccount(account=member_id, settle_to=settle_to, **self._context(key, note))
        # A balance of 0 asks nothing of whoever takes it over, so the ledger would not notice that they are gone.
        self._met.difference_update(members)
        if note.get("dry_run"):
            balance = self.get_balance(member_id) or 0
            self._post(command, members, note)
            return balance
        posted = self._post(command, members, note)
        entries = self.ledger.transaction(posted.id).entries
        return sum(entry.before for entry in entries if entry.account == member_id)

    def freeze_member(self, member_id: str, *, key: str, **note: Unpack[Note]) -> Posted:
        """Stop a member from paying; it may still be paid. Raises MemberFrozen if it is frozen already."""
        return self._post(FreezeAccount(account=member_id, **self._context(key, note)), [member_id], note)

    def unfreeze_member(self, member_id: str, *, key: str, **note: Unpack[Note]) -> Posted:
        """Let a frozen member pay again. Raises AccountNotActive if it is not frozen."""
        return self._post(UnfreezeAccount(account=member_id, **self._context(key, note)), [member_id], note)

    def open_clearing_account(self, cell: str, cap: int, *, key: str, **note: Unpack[Note]) -> Posted:
        """Declare the clearing account towards another cell: its balance may go from -cap to cap, in minor units."""
        address = clearing_account(cell)
        limits = {self.asset: cap}
        command = OpenAccount(account=address, limits=limits, ceilings=limits, **self._context(key, note))
        return self._post(command, [], note)

    # ------------------------------------------------------------ invariants

    def verify_conservation(self) -> bool:
        """I1: whether the balances of all members and clearing accounts add up to exactly zero."""
        return self.run_full_invariant_check().conservation_holds

    def verify_all_floors(self) -> bool:
        """I2: whether every balance is at least -limit; False also while a member is under a lowered limit."""
        return self.run_full_invariant_check().floors_hold

    def verify_all_escrow_safety(self) -> bool:
        """I3: whether every balance less its reserve is at least -limit (judged in mode ESCROWED alone)."""
        return self.run_full_invariant_check().escrow_safety_holds

    def run_full_invariant_check(self) -> InvariantCheckResult:
        """Judge I1 to I4 over the whole cell, and name every member that breaks one. Reads every balance once."""
        return self._steady(self._check)

    # ------------------------------------------------------------ the state as a document

    def state(self) -> CellState:
        """The whole cell at one place of its journal; ``.to_document()`` is the form that loads for ever.

        Raises Unavailable (try again) if other writers did not leave the cell alone long enough to be read once.
        """
        return self._steady(self._state)

    # ------------------------------------------------------------ inside

    def _context(self, key: str, note: Note) -> dict[str, Any]:
        related = note.get("related_event_id", "")
        return {
            "key": key,
            "source": self.source,
            "actor": note.get("actor", ""),
            "reason": note.get("reason", ""),
            "refs": {"external_ref": related} if related else None,
        }

    def _post(self, command: Command, members: Iterable[str], note: Note) -> Posted:
        members = list(members)
        for member_id in members:
            if not self._was_member(member_id) and not self._asked_before(command.key):
                raise MemberNotFound(member_id=member_id)
        try:
            return self.ledger.post(command, dry_run=note.get("dry_run", False))
        except IdempotencyConflict:
            raise
        except Refusal as refusal:
            gone = next((member_id for member_id in members if self._member(member_id) is None), None)
            in_words = in_words_of_cell(refusal) if gone is None else MemberNotFound(member_id=gone)
            if in_words is refusal:
                raise
            raise in_words from refusal

    def _was_member(self, member_id: str) -> bool:
        """Whether someone is a member, or ever was: whoever was removed since, the ledger itself refuses.

        So the common case reads nothing before it posts.
        """
        if member_id not in self._met:
            if self._member(member_id) is None:
                return False
            self._met.add(member_id)
        return True

    def _asked_before(self, key: str) -> bool:
        """A key that was used goes on to the ledger: it answers as it did then, whatever has changed since."""
        return self.ledger.by_key(key, source=self.source) is not None

    def _first_limit(self, member_id: str, key: str) -> int:
        """The default limit; under a key that was used, the one that the member was given then."""
        earlier = self.ledger.by_key(key, source=self.source)
        if earlier is not None and earlier.event.data.get("account") == member_id:
            return int(earlier.event.data.get("limits", {}).get(self.asset, self.parameters.limit_default))
        return self.parameters.limit_default

    def _check_limit(self, limit: int) -> None:
        """What no policy can allow is out of bounds too, rather than malformed; the rest the ledger judges."""
        if type(limit) is int and not 0 <= limit <= MAX_AMOUNT:
            raise LimitOutOfBounds(limit=limit, min=self.parameters.limit_min, max=self.parameters.limit_max)

    def _member(self, member_id: str) -> AccountView | None:
        """Someone who is a member now, frozen or not."""
        found = self._known(member_id)
        return found if found is not None and found.status in _PRESENT else None

    def _known(self, member_id: str) -> AccountView | None:
        """Someone who is or was a member. What is not even an address is nobody."""
        try:
            found = self.ledger.account(member_id)
        except InvalidInput:
            return None
        if found is None or role_of(member_id) != "holder" or self.asset not in found.limits:
            return None
        return found

    def _members(self, *statuses: str) -> list[Account]:
        return [member for member in self.ledger.members(self.asset) if member.status in statuses]

    def _standing_of(self, account: AccountView) -> Standing:
        return _standing((view.bucket, view.amount) for view in account.balances if view.asset == self.asset)

    def _standings(self) -> dict[str, Standing]:
        """How every account with a balance in the cell's asset stands, read at one instant."""
        amounts: dict[str, list[tuple[str, int]]] = {}
        for row in self.ledger.trial_balance().rows:
            if row.asset == self.asset:
                amounts.setdefault(row.account, []).append((row.bucket, row.credit - row.debit))
        return {account: _standing(found) for account, found in amounts.items()}

    def _check(self) -> InvariantCheckResult:
        standings = self._standings()
        escrowed = self.parameters.commitment_mode == "ESCROWED"
        floors, escrows, reserves, lowered = [], [], [], []
        self._past.follow(self.ledger)
        for member in self._members(*_PRESENT):
            name, limit = member.address, member.limits[self.asset]
            standing = standings.get(name, _NOTHING)
            if standing.balance < -limit:
                floors.append(name)
            if escrowed and standing.available < -limit:
                escrows.append(name)
            if standing.held < 0:
                reserves.append(name)
            bound = standing.available if escrowed else standing.balance
            if -self._past.highest_limit.get(name, limit) <= bound < -limit:
                lowered.append(name)
        total = sum(sum(standing) for name, standing in standings.items() if role_of(name) not in _ISSUING)
        return InvariantCheckResult(
            version=self.version,
            conservation_holds=total == 0,
            balance_sum=total,
            floors_hold=not floors,
            floor_violations=tuple(floors),
            escrow_safety_holds=not escrows,
            escrow_violations=tuple(escrows),
            reserves_hold=not reserves,
            negative_reserves=tuple(reserves),
            under_lowered_limit=tuple(lowered),
        )

    def _state(self) -> CellState:
        head = self.ledger.head
        standings = self._standings()
        members = {member.address for member in self._members(*_STATUSES)}
        states = (self.get_member_state(member) for member in sorted(members))
        others = {
            name: standing.other if name in members else sum(standing) for name, standing in sorted(standings.items())
        }
        return CellState(
            cell_id=self.cell_id,
            asset=self.asset,
            version=head.seq,
            hash=head.hash,
            last_updated_at=head.time,
            parameters=self.parameters,
            members=tuple(state for state in states if state is not None),
            others=tuple(OtherBalance(name, balance) for name, balance in others.items() if balance),
        )

    def _steady(self, read: Callable[[], Answer]) -> Answer:
        """What ``read`` finds while nothing is posted: members and balances of one and the same version."""
        for _ in range(_STEADY_READS):
            version = self.version
            answer = read()
            if self.version == version:
                return answer
        raise Unavailable(reason=f"the cell changed {_STEADY_READS} times while it was read; try again in a moment")


class _Past:
    """What only the journal tells of members: when each was last moved, and the highest limit it ever had.

    It follows the journal by a cursor, so each event is read once, and only when somebody asks.
    """

    def __init__(self, asset: str) -> None:
        self.asset = asset
        self.moved: dict[str, str] = {}
        self.highest_limit: dict[str, int] = {}
        self._after = -1
        self._lock = threading.Lock()

    def follow(self, ledger: Ledger) -> None:
        """Read what was posted since the last time."""
        with self._lock:
            while page := ledger.events(after=self._after, limit=_PAGE):
                for transaction in page:
                    self._see(transaction.event)
                    self._after = transaction.event.seq

    def _see(self, event: Event) -> None:
        for entry in event.entries:
            if entry.asset == self.asset:
                self.moved[entry.account] = event.time
        if event.type == "account_opened":
            limit = event.data.get("limits", {}).get(self.asset)
        elif event.type == "limit_set" and event.data["asset"] == self.asset:
            limit = event.data.get("limit")
        else:
            return
        if limit is not None:
            account = event.data["account"]
            self.highest_limit[account] = max(self.highest_limit.get(account, 0), int(limit))


def _standing(amounts: Iterable[tuple[str, int]]) -> Standing:
    parts = {"available": 0, "held": 0, "other": 0}
    for bucket, amount in amounts:
        parts[bucket if bucket in parts else "other"] += amount
    return Standing(**parts)


def _exact(threshold: Fraction | Decimal | float | str) -> Fraction:
    try:
        share = Fraction(str(threshold))
    except (ValueError, ZeroDivisionError, InvalidOperation):
        raise InvalidInput(path="threshold", problem=f"{threshold!r} is not a number") from None
    if not 0 <= share <= 1:
        raise InvalidInput(path="threshold", problem=f"{threshold} is not between 0 and 1")
    return share
