"""A ledger made of nothing but the kernel and the journal, and as suspicious as can be.

``Scribe`` takes one command through decide, seal, decode and apply, on a book that holds everything. What the kernel
asks for beyond that (an old event, the lowest that a balance stood at) it finds by reading all events from the first.
After every step it checks what must hold of any ledger, by sums that share no code with the kernel.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from string import Formatter
from typing import Any, TypeVar

import pytest

from tallystick import commands as c
from tallystick.accounts import BUCKETS, role_of
from tallystick.clock import add_seconds
from tallystick.commands import Command, Leg
from tallystick.errors import Refusal
from tallystick.events import Event
from tallystick.journal import decode_event, parse_strict, seal
from tallystick.kernel import Book, Lock, NotLoaded, apply, decide

START = "2026-01-01T00:00:00.000000Z"
USD = "USD/2"
EUR = "EUR/2"

R = TypeVar("R", bound=Refusal)


class Scribe:
    """One ledger, its events and the time, which moves only when ``wait`` is called."""

    def __init__(self, name: str = "main") -> None:
        self.book = Book(name, complete=True)
        self.events: list[Event] = []
        self.bodies: list[bytes] = []
        self.now = START
        self._keys = 0

    # ------------------------------------------------------------ acting

    def do(self, kind: type[Command], **fields: Any) -> Event:
        """Post a command of this kind under a key of its own."""
        return self.post(self.command(kind, **fields))

    def command(self, kind: type[Command], **fields: Any) -> Command:
        self._keys += 1
        return kind(**{"key": f"key-{self._keys}", **fields})

    def post(self, command: Command) -> Event:
        """Decide, seal, decode and apply one command; every promise of the ledger is checked on the way."""
        event, body, hash_ = self.sealed(command)
        mark = self.book.mark()
        before = picture(self.book)
        apply(self.book, event, hash_)
        after = picture(self.book)
        self.book.rollback(mark)
        assert picture(self.book) == before, "taking an event back restores the book exactly"
        apply(self.book, event, hash_)
        assert picture(self.book) == after
        self.book.keep()
        self.events.append(event)
        self.bodies.append(body)
        check_ledger(self)
        return event

    def sealed(self, command: Command) -> tuple[Event, bytes, str]:
        """The event that a command comes to, its bytes and hash; the book is as it was, whatever comes of it."""
        before = picture(self.book)
        try:
            body, hash_ = seal(self._decide(command), self.book.hash)
        finally:
            assert picture(self.book) == before, "deciding changes nothing"
        assert parse_strict(body)["seq"] == len(self.events)
        return decode_event(body), body, hash_

    def refused(self, error: type[R], kind: type[Command], **fields: Any) -> R:
        """The refusal, of just this class, that a command of this kind meets with."""
        with pytest.raises(Refusal) as caught:
            self.sealed(self.command(kind, **fields))
        assert type(caught.value) is error, repr(caught.value)
        message = (error.__doc__ or "").strip().partition("\n")[0]
        named = {name.partition("!")[0] for _, name, _, _ in Formatter().parse(message) if name}
        assert named <= caught.value.data.keys(), f"a blank in the message: {caught.value}"
        return caught.value

    def wait(self, seconds: float) -> str:
        self.now = add_seconds(self.now, seconds)
        return self.now

    # ------------------------------------------------------------ acts that tests use often

    def mint(self, account: str, amount: int, asset: str = USD) -> Event:
        return self.do(c.Post, type="mint", legs=(Leg("@issuance", account, asset, amount),))

    def pay(self, payer: str, payee: str, amount: int, asset: str = USD, **more: Any) -> Event:
        return self.do(c.Transfer, from_account=payer, to_account=payee, asset=asset, amount=amount, **more)

    def transact(self, name: str, *legs: Leg, **more: Any) -> Event:
        return self.do(c.Post, type=name, legs=legs, **more)

    def hold(self, account: str, amount: int, asset: str = USD, **more: Any) -> str:
        """Freeze an amount; the hold's id."""
        return self.do(c.Hold, account=account, asset=asset, amount=amount, **more).id

    def stake(self, account: str, amount: int, asset: str = USD) -> str:
        return self.do(c.StakeLock, account=account, asset=asset, amount=amount, refs={"escrow": "esc-1"}).id

    def bet(self, account: str, amount: int, asset: str = USD, round_id: str = "r-1") -> str:
        return self.do(c.BetStake, account=account, asset=asset, amount=amount, refs={"round": round_id}).id

    def member(self, account: str, limit: int = 2_000, asset: str = USD) -> str:
        self.do(c.OpenAccount, account=account, limits={asset: limit})
        return account

    def policy(self, **changes: Any) -> Event:
        return self.do(c.SetPolicy, changes=changes)

    # ------------------------------------------------------------ reading

    def balance(self, account: str, bucket: str = "available", asset: str = USD) -> int:
        return self.book.balance(account, asset, bucket).amount

    def buckets(self, account: str, asset: str = USD) -> dict[str, int]:
        """The balances of an account that are not zero, by bucket."""
        found = {bucket: self.balance(account, bucket, asset) for bucket in BUCKETS}
        return {bucket: amount for bucket, amount in found.items() if amount}

    def lock(self, lock_id: str) -> Lock:
        found: Lock = self.book.get("lock", lock_id)
        return found

    # ------------------------------------------------------------ what a complete book still asks for

    def _decide(self, command: Command) -> Event:
        try:
            while True:
                try:
                    return decide(self.book, command, self.now)
                except NotLoaded as missing:
                    self.book.remember(missing.kind, missing.id, self._find(missing))
        finally:
            self.book.passing.clear()

    def _find(self, missing: NotLoaded) -> Any:
        if missing.kind == "event":
            return self.events[missing.id]
        assert missing.kind == "history", missing
        return lowest_since(self.events, *missing.id)


def lowest_since(events: list[Event], account: str, asset: str, bucket: str, effective: str) -> int:
    """The lowest that a balance stood at, at ``effective`` or any instant later: every instant is added up afresh."""
    moved = [
        (event.effective_time, entry.amount)
        for event in events
        for entry in event.entries
        if (entry.account, entry.asset, entry.bucket) == (account, asset, bucket)
    ]
    instants = {effective, *(time for time, _ in moved if time > effective)}
    return min(sum(amount for time, amount in moved if time <= instant) for instant in instants)


def picture(book: Book) -> dict[str, Any]:
    """All that a book knows, to be compared. An empty pocket is no pocket; ``@`` accounts are always restricted."""
    seen = copy.deepcopy({name: value for name, value in vars(book).items() if name not in ("undo", "passing")})
    seen["pockets"] = {name: pocket for name, pocket in seen["pockets"].items() if pocket}
    seen["restricted"] = {address for address in seen["restricted"] if not address.startswith("@")}
    seen["keeps a way back"] = book.undo is not None
    return seen


def replayed(scribe: Scribe) -> Book:
    """A new book that has read the same journal from its bytes alone."""
    book = Book(scribe.book.name, complete=True)
    for body in scribe.bodies:
        event = decode_event(body)
        apply(book, event, seal(event, event.prev)[1])
    return book


# ---------------------------------------------------------------- what holds of every ledger


def check_ledger(scribe: Scribe) -> None:
    """Raises AssertionError where an invariant is broken, by sums over the events alone."""
    balances: dict[tuple[str, str, str], int] = defaultdict(int)
    versions: dict[tuple[str, str, str], int] = defaultdict(int)
    for event in scribe.events:
        sums: dict[str, int] = defaultdict(int)
        for entry in event.entries:
            name = (entry.account, entry.asset, entry.bucket)
            assert entry.amount, "an entry changes something"
            assert entry.before == balances[name]
            assert entry.after == entry.before + entry.amount
            assert entry.version == versions[name] + 1
            balances[name], versions[name] = entry.after, entry.version
            sums[entry.asset] += entry.amount
        assert not any(sums.values()), f"{event.id} adds up to {dict(sums)}"
    in_book = {
        (account, asset, bucket): (balance.amount, balance.version)
        for (asset, bucket), pocket in scribe.book.pockets.items()
        for account, balance in pocket.items()
    }
    assert in_book == {name: (amount, versions[name]) for name, amount in balances.items()}
    _check_floors(scribe.book, balances)
    _check_locks(scribe.book, balances)


def _check_floors(book: Book, balances: dict[tuple[str, str, str], int]) -> None:
    for (account, asset, bucket), amount in balances.items():
        assert -(2**63) < amount < 2**63
        declared = book.account(account)
        if bucket != "available" or (
            role_of(account) not in ("issuance", "external")
            and not (declared and (declared.floorless or asset in declared.limits))
        ):
            assert amount >= 0, (account, asset, bucket, amount)


def _check_locks(book: Book, balances: dict[tuple[str, str, str], int]) -> None:
    kept: dict[tuple[str, str, str], int] = defaultdict(int)
    for (kind, _), lock in book.objects.items():
        if kind == "lock":
            assert 0 <= lock.remaining <= lock.amount, lock
            assert 0 <= lock.taken <= lock.amount - lock.remaining, lock
            kept[lock.account, lock.asset, lock.bucket] += lock.remaining
    for name, amount in balances.items():
        if name[2] in ("held", "bonded"):
            assert amount == kept[name], f"{name} is {amount}, its open locks keep {kept[name]}"
    assert {name for name, amount in kept.items() if amount} <= balances.keys()
