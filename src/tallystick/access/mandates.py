"""Spending mandates: what an agent's key may spend, kept to the last minor unit by the kernel's own conditions.

A mandate names one account and asset, how much may go in one act and in one UTC day, to whom, and until when. What was
spent today is not kept anywhere: it is read from the account's register, so it is as true as the journal. The answer is
only worth something in the instant in which it was read; so the command is *bound* to that instant by a condition on
the version of the balance. Whatever happens in between, in this process or in another, changes the version, and the
kernel refuses the command (ConditionFailed): then it is bound again, to what is true by then. No order of events, and
no number of processes, spends more than the day's limit.

What counts: everything that an event of this actor took from the account's ``available``, on the day of that event. An
amount on hold counts when it is set aside, and not again when it is captured. What is given back of it (a release, an
expiry, the rest of a capture) no longer counts, if it was set aside today and by this actor: a hold of yesterday, or of
someone else, frees nothing of today's limit. A refund is no release, and does not count either way.

The first act of a day reads the account's entries of that day; later ones read what has come since.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from msgspec import Struct, field
from msgspec.structs import replace

from tallystick.access.principal import Principal
from tallystick.accounts import Bucket
from tallystick.clock import END, add_seconds
from tallystick.commands import Capture, Command, Condition, Hold, HoldTopUp, Post, Release, Transfer
from tallystick.control.records import Mandate
from tallystick.errors import (
    ConditionFailed,
    Forbidden,
    HoldNotFound,
    IdempotencyConflict,
    MandateExceeded,
    TransactionNotFound,
)
from tallystick.events import Event
from tallystick.kernel import Lock
from tallystick.kernel.decide import shows_request
from tallystick.ledger import Ledger
from tallystick.ledger.views import Posted

MAX_BINDINGS = 5
"""How often one command is bound before the answer is that others were faster every time."""

MAX_TALLIES = 10_000
"""Spenders whose day is remembered; of more, the one that was away for longest is read anew."""

NEAR_EVENTS = 100
"""So many events of the whole ledger are sooner read than the register of one account."""

_PAGE = 1_000
_DAY_SECONDS = 86_400
_GIVES_BACK = frozenset({"release", "hold_expire", "capture"})


class Standing(Struct, frozen=True):
    """How a mandate stands: what counts as spent today, what is left (None: there is no limit), and until when."""

    spent: int
    left: int | None
    resets: str


class _Tally(Struct):
    """What an actor has spent from one balance today, up to a version of it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    turn: threading.Lock = field(default_factory=threading.Lock)
    day: str = ""
    seen: int = 0
    """All events below this number were looked at."""
    version: int = 0
    cursor: str = ""
    spent: int = 0
    on_hold: dict[str, int] = field(default_factory=dict)
    """By hold: how much of it counts today."""


class _Spend(Struct, frozen=True):
    """What a command asks for: how much goes in this act, how much of it counts today, and to whom; the buckets of the
    account that it changes; and the one that the amount was read from, which may not change until it is posted."""

    moves: int
    takes: int
    changes: tuple[Bucket, ...]
    payees: tuple[str, ...] = ()
    pin: Bucket | None = None


class _Here:
    """How a mandate stands while commands are bound that will be posted together."""

    def __init__(self, book: Ledger, mandate: Mandate, now: str, today: Callable[[str], tuple[int, int]]) -> None:
        self._book = book
        self._mandate = mandate
        self._now = now
        self._today = today
        self._spent: int | None = None
        self._versions: dict[Bucket, int] = {}
        self._changes: Counter[Bucket] = Counter()

    def admit(self, command: Command, spend: _Spend) -> Command:
        """The command with its condition, if the mandate reaches so far. Raises Forbidden and MandateExceeded."""
        mandate = self._mandate
        if mandate.expires and mandate.expires <= self._now:
            raise Forbidden(problem=f"its mandate expired at {mandate.expires}")
        _check_payees(mandate, spend.payees)
        _check_act(mandate, spend.moves)
        pin = spend.pin
        if spend.takes and mandate.max_per_day is not None:
            pin = "available"
            if self._spent is None:
                self._spent, self._versions[pin] = self._today(self._now)
            _check_day(mandate, spend.takes, self._spent, self._now)
            self._spent += spend.takes
        if pin is not None:
            if pin not in self._versions:
                self._versions[pin] = _version_of(self._book, mandate, pin)
            pinned = _version(mandate, pin, self._versions[pin] + self._changes[pin])
            command = replace(command, conditions=(pinned, *command.conditions))
        self._changes.update(spend.changes)
        return command


class Mandates:
    """Holds keys to their mandates; safe to use from any number of threads."""

    def __init__(self, ledger_of: Callable[[str], Ledger]) -> None:
        self._ledger_of = ledger_of
        self._lock = threading.Lock()
        self._tallies: OrderedDict[tuple[str, str, str, str], _Tally] = OrderedDict()

    def bind(self, principal: Principal, ledger: str, command: Command) -> Command:
        """The command as this principal may post it: in his name, and with the condition that nothing has happened
        since his mandate was looked at. Without a mandate it only gets his name.

        If it is refused then (ConditionFailed, or IdempotencyConflict when the same request was under way twice), bind
        it again: if that gives another command, post that one; if it gives the same, the refusal stands.

        A command whose key was used already is not judged again, but bound as it was then, so that asking again gives
        the first answer also when the day's limit is used up. Raises MandateExceeded, Forbidden, HoldNotFound.
        """
        return self.bind_all(principal, ledger, (command,))[0]

    def bind_all(self, principal: Principal, ledger: str, commands: Sequence[Command]) -> list[Command]:
        """The same for commands that are posted together in this order: each is bound to what the ones before it leave.

        Raises for the first that cannot be; of an independent batch, those behind a refused one have to be bound again.
        """
        mine = [replace(command, actor=principal.actor, source=principal.source) for command in commands]
        mandate = principal.mandate
        if mandate is None:
            return mine
        if ledger != mandate.ledger:
            raise Forbidden(problem=f"its mandate is for ledger {mandate.ledger}")
        book = self._ledger_of(ledger)
        standing = _Here(book, mandate, book.now(), lambda now: self._today(principal, mandate, book, now))
        bound: list[Command] = []
        by_key: dict[str, tuple[Command, Command]] = {}
        for command in mine:
            twin = by_key.get(command.key)
            earlier = None if twin else book.by_key(command.key, command.source)
            if twin is not None:  # the same request twice, or a conflict, which is for the ledger to say
                bound.append(twin[1] if twin[0] == command else command)
            elif earlier is not None:
                bound.append(_as_then(command, earlier.event, mandate))
            else:
                bound.append(standing.admit(command, _spend(book, principal, mandate, command)))
            by_key.setdefault(command.key, (command, bound[-1]))
        return bound

    def post(self, principal: Principal, ledger: str, command: Command, *, dry_run: bool = False) -> Posted:
        """Bind a command and post it, again while others are faster, MAX_BINDINGS times at most. Callers of this
        process take turns at one mandate, so it is only other processes that they can lose against.

        Raises what ``bind`` and ``Ledger.post`` raise.
        """
        book = self._ledger_of(ledger)
        with self._turn(principal):
            bound = self.bind(principal, ledger, command)
            for _ in range(MAX_BINDINGS - 1):
                try:
                    return book.post(bound, dry_run=dry_run)
                except (ConditionFailed, IdempotencyConflict):
                    before, bound = bound, self.bind(principal, ledger, command)
                    if bound == before:
                        raise
            return book.post(bound, dry_run=dry_run)

    def standing(self, principal: Principal) -> Standing:
        """How the principal's mandate stands now. Raises Forbidden if he has none."""
        mandate = principal.mandate
        if mandate is None:
            raise Forbidden(problem="it has no mandate")
        book = self._ledger_of(mandate.ledger)
        now = book.now()
        spent, _ = self._today(principal, mandate, book, now)
        left = None if mandate.max_per_day is None else max(mandate.max_per_day - spent, 0)
        return Standing(spent, left, _midnight_after(now))

    # ------------------------------------------------------------ what was spent today

    def _today(self, principal: Principal, mandate: Mandate, book: Ledger, now: str) -> tuple[int, int]:
        """What counts as spent today, and the version of the balance up to which that was read."""
        tally = self._tally(principal, mandate)
        with tally.lock:
            _catch_up(tally, book, mandate, principal.actor, now)
            return tally.spent, tally.version

    def _tally(self, principal: Principal, mandate: Mandate) -> _Tally:
        name = (mandate.ledger, mandate.account, mandate.asset, principal.actor)
        with self._lock:
            found = self._tallies.setdefault(name, _Tally())
            self._tallies.move_to_end(name)
            if len(self._tallies) > MAX_TALLIES:
                self._tallies.popitem(last=False)
        return found

    @contextmanager
    def _turn(self, principal: Principal) -> Iterator[None]:
        if principal.mandate is None:
            yield
        else:
            with self._tally(principal, principal.mandate).turn:
                yield


def _catch_up(tally: _Tally, book: Ledger, mandate: Mandate, actor: str, now: str) -> None:
    """Bring a tally to where the ledger stands, or beyond."""
    head = book.head.seq
    if tally.day == now[:10] and head - tally.seen <= NEAR_EVENTS:
        if head > tally.seen:
            _read_events(tally, book, mandate, actor)
        return
    if tally.day != now[:10]:
        tally.version, tally.cursor, tally.spent = 0, "", 0
        tally.on_hold.clear()
    tally.seen, tally.day = head, now[:10]
    try:
        _read_register(tally, book, mandate, actor)
    except BaseException:
        tally.day = ""  # half a reading is none
        raise


def _read_events(tally: _Tally, book: Ledger, mandate: Mandate, actor: str) -> None:
    """All that happened since, when it is little: most often it is just this spender's own last act."""
    for found in book.events(after=tally.seen - 1, limit=2 * NEAR_EVENTS):
        for index, entry in enumerate(found.entries):
            if (entry.account, entry.asset, entry.bucket) == (mandate.account, mandate.asset, "available"):
                if found.time[:10] >= tally.day:  # another process may still write yesterday
                    _count(tally, found.event, entry.amount, actor)
                tally.cursor, tally.version = f"{found.seq}.{index}", entry.version
        tally.seen = found.seq + 1


def _read_register(tally: _Tally, book: Ledger, mandate: Mandate, actor: str) -> None:
    """What the account's register has since, of today.

    The version is read before the entries, so what comes in between is read too, and has a version of its own.
    """
    version = _version_of(book, mandate, "available")
    more = True
    while more:
        page = book.register(
            mandate.account,
            asset=mandate.asset,
            bucket="available",
            start=f"{tally.day}T00:00:00.000000Z",
            after=tally.cursor,
            limit=_PAGE,
        )
        for line in page.items:
            _count(tally, book.transaction(line.seq).event, line.amount, actor)
            tally.cursor, version = f"{line.seq}.{line.index}", line.version
            tally.seen = max(tally.seen, line.seq + 1)
        more = bool(page.cursor)
    tally.version = version


def _count(tally: _Tally, event: Event, amount: int, actor: str) -> None:
    """Count one event that changed the account's ``available`` by this amount."""
    if amount < 0 and event.actor == actor:
        tally.spent -= amount
        if event.type in ("hold", "hold_top_up"):
            hold = event.data.get("hold", event.id)
            tally.on_hold[hold] = tally.on_hold.get(hold, 0) - amount
    elif amount > 0 and event.type in _GIVES_BACK:
        hold = event.data.get("hold", "")
        back = min(amount, tally.on_hold.get(hold, 0))
        if back:
            tally.spent -= back
            tally.on_hold[hold] -= back
            if not tally.on_hold[hold]:
                del tally.on_hold[hold]


# ---------------------------------------------------------------- what a command asks for


def _spend(book: Ledger, principal: Principal, mandate: Mandate, command: Command) -> _Spend:
    """What a command would spend. Raises Forbidden for everything that a mandate does not reach."""
    match command:
        case Transfer():
            _check_payer(mandate, command.from_account, command.asset)
            amount = _whole(command.amount)
            return _Spend(amount, amount, ("available",), (command.to_account,))
        case Post():
            return _spend_of_legs(mandate, command)
        case Hold():
            _check_payer(mandate, command.account, command.asset)
            return _Spend(_whole(command.amount), _whole(command.amount), ("available", "held"))
        case HoldTopUp():
            _own_hold(book, principal, mandate, command.hold)
            return _Spend(_whole(command.amount), _whole(command.amount), ("available", "held"))
        case Release():
            _own_hold(book, principal, mandate, command.hold)
            return _Spend(0, 0, ("available", "held"))
        case Capture():
            return _spend_of_capture(mandate, command, _own_hold(book, principal, mandate, command.hold))
    raise Forbidden(problem=f"its mandate is for transfers and holds, not for {command.event_type or 'this'}")


def _spend_of_legs(mandate: Mandate, command: Post) -> _Spend:
    if command.type != "transfer" or command.effective:
        raise Forbidden(problem=f"its mandate is for transfers that take effect now, not for this {command.type:.80}")
    for leg in command.legs:
        _check_payer(mandate, leg.from_account, leg.asset)
        if leg.from_bucket != "available":
            raise Forbidden(problem=f"its mandate is for what is available, not for {leg.from_bucket}")
    amount = sum(_whole(leg.amount) for leg in command.legs)
    return _Spend(amount, amount, ("available",), tuple(leg.to_account for leg in command.legs))


def _spend_of_capture(mandate: Mandate, command: Capture, lock: Lock) -> _Spend:
    """A capture was counted when it was set aside. One that takes what is left is judged by what is left now, so the
    account's holds must not change before it."""
    payees = tuple(split.to_account for split in command.splits)
    if any(split.amount is None for split in command.splits):
        return _Spend(lock.remaining, 0, ("held",), payees, None if mandate.max_per_act is None else "held")
    named = sum(_whole(split.amount) for split in command.splits)
    gives_back = command.final and named < lock.remaining
    return _Spend(named, 0, ("available", "held") if gives_back else ("held",), payees)


def _own_hold(book: Ledger, principal: Principal, mandate: Mandate, id: str) -> Lock:
    """The hold, which must be one that this actor opened on the mandate's account.

    One that is not there is refused here and not left to the kernel: its id can be guessed before it is given away, and
    it might be somebody else's by the time that the kernel looks.
    """
    lock = book.hold_by_id(id)
    if lock is None or lock.kind != "hold":
        raise HoldNotFound(kind="hold", id=id)
    _check_payer(mandate, lock.account, lock.asset)
    try:
        opener = book.transaction(lock.id).actor
    except TransactionNotFound:
        opener = ""
    if opener != principal.actor:
        raise Forbidden(problem=f"its mandate is for holds of its own, and {lock.id} is not")
    return lock


def _whole(amount: object) -> int:
    """An amount as far as it is one; what is none is refused by the kernel."""
    return amount if type(amount) is int and amount > 0 else 0


# ---------------------------------------------------------------- limits


def _check_payer(mandate: Mandate, account: str, asset: str) -> None:
    if account != mandate.account:
        raise Forbidden(problem=f"its mandate is for {mandate.account}, not for {account!s:.255}")
    if asset != mandate.asset:
        raise Forbidden(problem=f"its mandate is for {mandate.asset}, not for {asset!s:.80}")


def _check_payees(mandate: Mandate, payees: Iterable[str]) -> None:
    for payee in payees if mandate.payees else ():
        if not any(
            payee.startswith(allowed[:-1]) if allowed.endswith("*") else payee == allowed for allowed in mandate.payees
        ):
            raise Forbidden(problem=f"its mandate does not let it pay {payee!s:.255}")


def _check_act(mandate: Mandate, asked: int) -> None:
    limit = mandate.max_per_act
    if limit is not None and asked > limit:
        raise MandateExceeded(limit=limit, asked=asked, left=limit, resets=mandate.expires or END, per="act")


def _check_day(mandate: Mandate, asked: int, spent: int, now: str) -> None:
    limit = mandate.max_per_day
    if limit is not None and asked > limit - spent:
        left = max(limit - spent, 0)
        raise MandateExceeded(limit=limit, asked=asked, left=left, resets=_midnight_after(now), per="day")


def _midnight_after(now: str) -> str:
    return add_seconds(f"{now[:10]}T00:00:00.000000Z", _DAY_SECONDS)


# ---------------------------------------------------------------- conditions


def _version_of(book: Ledger, mandate: Mandate, bucket: str) -> int:
    return next(
        (
            found.version
            for found in book.balances(mandate.account)
            if (found.asset, found.bucket) == (mandate.asset, bucket)
        ),
        0,
    )


def _version(mandate: Mandate, bucket: Bucket, version: int) -> Condition:
    return Condition(mandate.account, mandate.asset, bucket, version=version)


def _as_then(command: Command, event: Event, mandate: Mandate) -> Command:
    """The command as it was bound when it brought about this event, whose entries show the versions of then.

    What tells one request from another covers conditions. A request that the event does not show is left as it is, for
    the ledger to call it a conflict; so is one with erasable texts under a mandate that has changed since.
    """
    then: list[Command] = [
        replace(command, conditions=(_version(mandate, entry.bucket, entry.version - 1), *command.conditions))
        for entry in event.entries
        if entry.account == mandate.account and entry.asset == mandate.asset and entry.bucket in ("available", "held")
    ]
    for candidate in (*then, command):
        if shows_request(event, candidate):
            return candidate
    takes = isinstance(command, Transfer | Post | Hold | HoldTopUp) and mandate.max_per_day is not None
    return then[0] if then and takes else command
