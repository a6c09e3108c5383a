"""What callers do while statements fail and connections are cut: a scenario with a bit of everything, and its check.

They ask again with the same keys whenever they are told to, and everything must be there just once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

import tallystick
from tallystick import Database, Ledger, Posted
from tallystick import commands as c
from tallystick.commands import Command, Leg, Split
from tallystick.errors import Unavailable
from tallystick.ledger import desk, writer

T = TypeVar("T")

USD = "USD/2"
PEOPLE = ("users:a", "users:b", "users:c")
STREAMED = 48
THREADS = 4
TRIES = 40


class Trouble(Protocol):
    """Whatever makes things fail."""

    def heal(self) -> None:
        """No more failures from here on."""


def make_rounds_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that streams, overlaps and keeps house already with small rounds."""
    monkeypatch.setattr(writer, "STREAMED_FROM", STREAMED)
    monkeypatch.setattr(writer, "PART", 12)
    monkeypatch.setattr(writer, "OVERLAPPED_FROM", 1)
    monkeypatch.setattr(writer, "PART_BITS", 4)
    monkeypatch.setattr(desk, "KEYS_PER_SAVE", 16)


class Caller:
    """Someone who asks again, with the same keys, as long as the answer is Unavailable.

    An outage is over when it has been met with three times.
    """

    def __init__(self, url: str | Path, outage: Trouble, name: str = "main") -> None:
        self.url = url
        self.name = name
        self.outage = outage
        self.unavailable = 0
        self.database: Database = self.insist(lambda: tallystick.open(url))
        self.ledger: Ledger = self.insist(lambda: self.database.ledger(name))

    def insist(self, act: Callable[[], T]) -> T:
        for _ in range(TRIES):
            try:
                return act()
            except Unavailable:
                self.unavailable += 1
                if self.unavailable == 3:
                    self.outage.heal()
        raise AssertionError("it never became available again")

    def post(self, command: Command) -> Posted:
        return self.insist(lambda: self.ledger.post(command))

    def post_many(self, commands: Sequence[Command], *, atomic: bool = False) -> list[Posted]:
        answers = self.insist(lambda: self.ledger.post_many(commands, atomic=atomic))
        assert all(isinstance(answer, Posted) for answer in answers), answers
        return answers  # type: ignore[return-value]


def pay(key: str, number: int) -> c.Transfer:
    payer, payee = PEOPLE[number % 3], PEOPLE[(number + 1) % 3]
    return c.Transfer(key=key, from_account=payer, to_account=payee, asset=USD, amount=1 + number % 5)


def play(caller: Caller) -> dict[str, Posted]:
    """The scenario: single postings, a hold, batches of both kinds, a streamed batch, callers at the same time."""
    answers: dict[str, Posted] = {}
    for person in PEOPLE:
        leg = Leg("@issuance", person, USD, 10_000)
        answers[f"mint {person}"] = caller.post(c.Post(key=f"mint {person}", type="mint", legs=(leg,)))
    hold = caller.post(c.Hold(key="hold", account=PEOPLE[0], asset=USD, amount=500, refs={"order": "o-1"}))
    capture = c.Capture(key="capture", hold=hold.id, splits=(Split(PEOPLE[1], 200),), final=False)
    answers |= {"hold": hold, "capture": caller.post(capture)}
    for name, size, atomic in (("apart", 7, False), ("atomic", 5, True), ("streamed", STREAMED + 5, False)):
        commands = [pay(f"{name} {number}", number) for number in range(size)]
        posted = caller.post_many(commands, atomic=atomic)
        answers |= {command.key: answer for command, answer in zip(commands, posted, strict=True)}
    with ThreadPoolExecutor(THREADS) as pool:
        together = [pay(f"thread {number}", number) for number in range(3 * THREADS)]
        answers |= zip((command.key for command in together), pool.map(caller.post, together), strict=True)
        batches = [[pay(f"batch {index}.{number}", number) for number in range(STREAMED)] for index in range(2)]
        for commands, posted in zip(batches, pool.map(caller.post_many, batches), strict=True):
            answers |= {command.key: answer for command, answer in zip(commands, posted, strict=True)}
    assert caller.insist(lambda: caller.ledger.balance("@issuance", USD)) == -30_000
    return answers


def check(caller: Caller, answers: dict[str, Posted]) -> None:
    """Everything is there exactly once, as it was answered; the book in memory is what a fresh opening finds."""
    caller.outage.heal()
    ledger = caller.ledger
    report = ledger.replay()
    assert report.ok, report.findings
    events = ledger.events()
    assert Counter(event.key for event in events) == Counter(["ledger_opened", *answers])
    for event in events[1:]:
        assert (answers[event.key].id, answers[event.key].hash) == (event.id, event.hash)
    last = caller.post(pay("last", 0))
    book = ledger._writer._desk.book
    assert (book.seq, book.hash) == (last.seq + 1, last.hash)
    in_memory = {
        (account, asset, bucket): (balance.amount, balance.version)
        for (asset, bucket), pocket in book.pockets.items()
        for account, balance in pocket.items()
    }
    caller.database.close()
    with tallystick.open(caller.url, create=False) as again:
        ledger = again.ledger(caller.name)
        assert ledger.head.hash == last.hash
        accounts = {account for account, _, _ in in_memory}
        found = [view for account in accounts for view in ledger.balances(account)]
        assert {(v.account, v.asset, v.bucket): (v.amount, v.version) for v in found} == in_memory
        assert [lock.remaining for lock in ledger.locks()] == [300]
