"""The same commands at the same times to every side, and everything that can be asked of them compared.

The commands are those of the model's tests, which call their ledger ``main``; here each trial has a ledger of its own,
so that trials can share one database, and the ids in the commands are made to name it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec

from tallystick import Ledger, Posted, Refusal
from tallystick.accounts import BUCKETS
from tallystick.clock import add_seconds
from tallystick.commands import AnyCommand, Command, HoldExpire
from tallystick.erasable import Erasable
from tallystick.errors import BatchAborted
from tallystick.journal import leaf_hash
from tallystick.kernel import Policy
from tallystick.stores.base import key_number
from tests.differential.sides import Answers, Side
from tests.model.choices import ASSETS, EVERYONE, Chooser
from tests.model.model import Model

BEGIN = "2026-01-31T22:00:00.000000Z"
"""Two hours before a month ends, so that trials cross into the next."""

WAITS = [0, 0, 0, 0.000001, 1, 30, 600, 7_200, 90_000]
SIZES = {"few": 12, "copied": 300, "streamed": 2_100}
"""Commands of a batch; of the longer ones the stores keep the rows in other ways."""
PAGE = 7


class Time:
    """The one clock of all sides."""

    def __init__(self) -> None:
        self.now = BEGIN

    def __call__(self) -> str:
        return self.now


class Comparison:
    """One trial. ``sides`` are all empty, call their ledger ``name``, and tell the time by ``time``."""

    def __init__(self, sides: Sequence[Side], name: str, time: Time, seed: int) -> None:
        self.sides = sides
        self.name = name
        self.time = time
        self.random = Random(seed)
        self.model = Model(msgspec.structs.asdict(Policy()))
        self.chooser = Chooser(self.random, self.model, BEGIN)
        self.outcomes: Counter[str] = Counter()
        self.types: Counter[str] = Counter()
        self.times = [BEGIN]
        self.seen = 0

    def close(self) -> None:
        for side in self.sides:
            side.close()

    # ------------------------------------------------------------ steps

    def step(self, kind: str) -> None:
        """One act on every side, and what it changed compared."""
        self.time.now = add_seconds(self.time.now, self.random.choice(WAITS))
        self.times.append(self.time.now)
        getattr(self, kind)()
        self._compare_news()

    def one(self) -> None:
        self._post([self.chooser.command(self.time.now)])

    def few(self) -> None:
        self._post(self._batch("few"))

    def copied(self) -> None:
        self._post(self._batch("copied"))

    def streamed(self) -> None:
        self._post(self._batch("streamed"))

    def atomic(self) -> None:
        self._post(self._batch("few")[: self.random.randint(1, 4)], atomic=True)

    def dry(self) -> None:
        self._post(self._batch("few"), atomic=self.random.random() < 0.5, dry_run=True)

    def swept(self) -> None:
        """The holds that are due, given back."""
        due = self._same("due holds", lambda ledger: ledger.due_holds(self.time.now, 1_000))
        commands = [HoldExpire(key=f"expire:{lock.id}", source="sweep", hold=lock.id) for lock in due]
        if commands:
            self._post(commands, ours=False)

    def reopened(self) -> None:
        for side in self.sides:
            side.reopen()

    def _batch(self, size: str) -> list[Command]:
        """Commands for one call; at times one stands in it twice, or its key does."""
        count = self.random.randint(SIZES[size] // 2, SIZES[size])
        commands = [self.chooser.command(self.time.now) for _ in range(count)]
        for _ in range(self.random.randint(0, 2)):
            again = self.random.choice(commands)
            if self.random.random() < 0.4:
                again = msgspec.structs.replace(again, reason="another request")
            commands.insert(self.random.randint(0, len(commands)), again)
        return commands

    def _post(
        self, commands: Sequence[Command], *, atomic: bool = False, dry_run: bool = False, ours: bool = True
    ) -> None:
        """``ours``: they come from the chooser, in whose ids the ledger is called main."""
        named = [self._named(command) for command in commands] if ours else list(commands)
        answers = [side.post(named, atomic=atomic, dry_run=dry_run) for side in self.sides]
        for side, answer in zip(self.sides, answers, strict=True):
            assert answer == answers[0], f"{side.kind} and {self.sides[0].kind} answer {named} otherwise"
        self._count(answers[0])
        if not dry_run and not isinstance(answers[0], BatchAborted):
            for command in commands:
                self.model.post(command if ours else self._unnamed(command), self.time.now)

    def _named(self, command: Command) -> Command:
        return _renamed(_with_erasable(command), "main", self.name)

    def _unnamed(self, command: Command) -> Command:
        return _renamed(command, self.name, "main")

    def _count(self, answers: Answers) -> None:
        if isinstance(answers, BatchAborted):
            self.outcomes["aborted"] += 1
            return
        for answer in answers:
            if isinstance(answer, Refusal):
                self.outcomes[answer.code] += 1
            else:
                self.outcomes["replayed" if answer.replayed else "accepted"] += 1

    # ------------------------------------------------------------ comparing

    def _same(self, what: str, ask: Any) -> Any:
        """What every side answers to a question."""
        answers = [ask(side.ledger) for side in self.sides]
        for side, answer in zip(self.sides, answers, strict=True):
            assert answer == answers[0], f"{what}: {side.kind} and {self.sides[0].kind} differ"
        return answers[0]

    def _compare_news(self) -> None:
        """The bytes of what happened since the last time, the head, and what the events touched."""
        first = self.seen
        head = self._same("head", lambda ledger: ledger.head)
        bodies = self._same("bytes", lambda ledger: ledger._store.events(self.name, first, 1_000_000))
        assert first + len(bodies) == head.seq
        if not bodies:
            return
        assert leaf_hash(bodies[-1]) == head.hash
        openings = self._same("openings", lambda ledger: ledger._store.openings_between(self.name, first, head.seq))
        self.outcomes["erasable"] += len(openings)
        events = self._same("events", lambda ledger: ledger.events(after=max(first, head.seq - 50) - 1))
        self.types.update(event.type for event in events)
        self.seen = head.seq
        for account in sorted({entry.account for event in events[-10:] for entry in event.entries}):
            self._same(account, lambda ledger, account=account: ledger.balances(account))

    def compare_all(self) -> None:
        """Everything that can be asked, now and as of some times."""
        self._same("trial balance", Ledger.trial_balance)
        self._same("policy", lambda ledger: ledger.policy)
        self._same("members", lambda ledger: [ledger.members(asset) for asset in sorted(set(ASSETS))])
        accounts = self._same("accounts", lambda ledger: ledger.accounts())
        for account in accounts:
            self._same(account, lambda ledger, account=account: ledger.account(account))
        self._same("accounts in pages", _accounts_in_pages)
        self._compare_locks()
        self._compare_times()
        for account in self.random.sample(EVERYONE, 4):
            self._compare_registers(account)
        self._compare_lookups()
        self._erase()
        for side in self.sides:
            report = side.ledger.replay()
            assert report.ok, (side.kind, report.findings)
        self._same("replay", lambda ledger: msgspec.structs.replace(ledger.replay(), seconds=0))

    def _erase(self) -> None:
        """Every second text."""
        openings = self._same("all openings", lambda ledger: ledger._store.openings_between(self.name, 0, self.seen))
        for commitment, _, _, seq in openings[::2]:
            assert self._same("erased", lambda ledger, one=commitment: ledger.erase(one)) == 1
            self._same("opened", lambda ledger, seq=seq: ledger.opened(ledger.transaction(seq)))
        left = self._same("what is left", lambda ledger: ledger._store.openings_between(self.name, 0, self.seen))
        assert left == openings[1::2]

    def _compare_locks(self) -> None:
        locks = self._same("locks", _locks_in_pages)
        for kind, state in [("hold", ""), ("stake", "active"), ("", "expired"), ("commitment", "")]:
            self._same(f"{kind} {state}", lambda ledger, k=kind, s=state: ledger.locks(kind=k, state=s, limit=50))
        for lock in self.random.sample(locks, min(5, len(locks))):
            self._same(lock.id, lambda ledger, id=lock.id: ledger.hold_by_id(id))
            self._same(lock.account, lambda ledger, account=lock.account: ledger.locks(account=account))
        self._same("due", lambda ledger: ledger.due_holds(self.time.now, 1_000))

    def _compare_times(self) -> None:
        for _ in range(3):
            as_of, recorded = (add_seconds(self.random.choice(self.times), 0) for _ in range(2))
            for times in ({"as_of": as_of}, {"recorded": recorded}, {"as_of": as_of, "recorded": recorded}):
                self._same(f"trial balance {times}", lambda ledger, t=times: ledger.trial_balance(**t))
                account = self.random.choice(EVERYONE)
                self._same(f"{account} {times}", lambda ledger, a=account, t=times: ledger.balances(a, **t))

    def _compare_registers(self, account: str) -> None:
        start, end = sorted(self.random.sample(self.times, 2) if len(self.times) > 1 else [BEGIN, BEGIN])
        bucket, asset = self.random.choice(BUCKETS), self.random.choice(ASSETS)
        for asked in ({}, {"bucket": bucket}, {"asset": asset}, {"start": start}, {"start": start, "end": end}):
            self._same(f"register {account} {asked}", lambda ledger, q=asked: ledger.register(account, limit=PAGE, **q))
        self._same(f"register {account}", lambda ledger: _register_in_pages(ledger, account))

    def _compare_lookups(self) -> None:
        commands = [command for command, _ in self.model.keys.values()]
        for command in self.random.sample(commands, min(10, len(commands))):
            found = self._same(command.key, lambda ledger, c=command: ledger.by_key(c.key, c.source))
            assert found.key == command.key
            self._same(found.id, lambda ledger, id=found.id: (ledger.transaction(id), ledger.reversal_of(id)))
            for name, value in found.refs.items():
                self._same(f"{name} {value}", lambda ledger, n=name, v=value: ledger.by_reference(n, v))
        self._same("no key", lambda ledger: ledger.by_key("never used"))


def _with_erasable(command: Command) -> Command:
    """Some commands, which their keys choose, get an erasable text that no other one has."""
    if type(command.key) is not str or command.metadata or key_number(command.source, command.key) % 5:
        return command
    text = Erasable(f"of {command.source} {command.key} \0 🪵")
    return msgspec.structs.replace(command, metadata={"who": text, "what": "plain"})


def _renamed(command: Command, old: str, new: str) -> Command:
    """The command with its ids, and the name of the ledger that it opens, in another ledger."""
    body = msgspec.json.encode(command).replace(f'"{old}/'.encode(), f'"{new}/'.encode())
    body = body.replace(f'"name":"{old}"'.encode(), f'"name":"{new}"'.encode())
    return msgspec.json.decode(body, type=AnyCommand)


def _accounts_in_pages(ledger: Ledger) -> list[list[str]]:
    pages = [ledger.accounts("users:", limit=PAGE)]
    while pages[-1]:
        pages.append(ledger.accounts("users:", after=pages[-1][-1], limit=PAGE))
    return pages


def _locks_in_pages(ledger: Ledger) -> list[Any]:
    locks = ledger.locks(limit=PAGE)
    while page := ledger.locks(after=locks[-1].id if locks else "", limit=500):
        locks += page
    return locks


def _register_in_pages(ledger: Ledger, account: str) -> list[Any]:
    page = ledger.register(account, limit=PAGE)
    lines = list(page.items)
    while page.cursor and len(lines) < 30 * PAGE:
        page = ledger.register(account, after=page.cursor, limit=PAGE * 5)
        lines += page.items
    return lines


__all__ = ["BEGIN", "Comparison", "Posted", "Time"]
