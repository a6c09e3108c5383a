"""One trial: the same commands to a real ledger and to the model, and every invariant checked after each step."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec

import tallystick
from tallystick import Database, Ledger, Posted, Refusal
from tallystick.accounts import role_of
from tallystick.clock import add_seconds
from tallystick.commands import Command, HoldExpire
from tallystick.errors import BatchAborted
from tallystick.events import Entry
from tallystick.journal import leaf_hash, seal
from tallystick.kernel import Policy
from tallystick.ledger.views import Transaction
from tests.model.choices import Chooser
from tests.model.model import Model
from tests.model.rules import MAX, Kept, Name

BEGIN = "2026-01-01T00:00:00.000000Z"
MAX_BATCH = 24


class Trial:
    """A ledger at ``url`` beside the model of it. ``reopen`` says whether the ledger outlives its database object."""

    def __init__(self, url: str, seed: int, *, reopen: bool) -> None:
        self.url = url
        self.random = Random(seed)
        self.now = BEGIN
        self.model = Model(msgspec.structs.asdict(Policy()))
        self.chooser = Chooser(self.random, self.model, BEGIN)
        self.can_reopen = reopen
        self.database: Database = tallystick.open(url, clock=lambda: self.now)
        self.ledger: Ledger = self.database.ledger("main")
        self.journal = Journal()
        self.operations = 0
        self.outcomes: Counter[str] = Counter()

    def close(self) -> None:
        self.database.close()

    # ------------------------------------------------------------ steps

    def step(self) -> None:
        """One act of any kind."""
        self.now = add_seconds(self.now, self.random.choice([0, 0, 0.000001, 1, 30, 600, 7_200]))
        acts: list[tuple[int, Callable[[], None]]] = [
            (60, self.post),
            (14, self.post_independent),
            (6, self.post_atomic),
            (6, self.post_dry),
            (2, self.sweep),
        ]
        self.random.choices([act for _, act in acts], [weight for weight, _ in acts])[0]()
        self.journal.catch_up(self.ledger, self.model, self.now)

    def post(self) -> None:
        self._post_one(self.chooser.command(self.now))

    def _post_one(self, command: Command, *, dry_run: bool = False) -> None:
        known = (command.source, command.key) in self.model.keys
        expected = self.model.post(command, self.now)
        try:
            answer: Posted | Refusal = self.ledger.post(command, dry_run=dry_run)
        except Refusal as refusal:
            answer = refusal
        self._compare(command, answer, expected, known)

    def _batch(self) -> list[Command]:
        """Commands for one call; at times one stands in it twice, or its key does."""
        commands = [self.chooser.command(self.now) for _ in range(self.random.randint(1, MAX_BATCH))]
        if self.random.random() < 0.3:
            again = self.random.choice(commands)
            if self.random.random() < 0.4:
                again = msgspec.structs.replace(again, reason="another request")
            commands.insert(self.random.randint(0, len(commands)), again)
        return commands

    def _post_batch(self, commands: Sequence[Command], *, dry_run: bool = False) -> None:
        answers = self.ledger.post_many(commands, dry_run=dry_run)
        assert len(answers) == len(commands)
        for command, answer in zip(commands, answers, strict=True):
            known = (command.source, command.key) in self.model.keys
            self._compare(command, answer, self.model.post(command, self.now), known)

    def post_independent(self) -> None:
        self._post_batch(self._batch())

    def post_atomic(self) -> None:
        commands = self._batch()[: self.random.choice([2, 3, 6])]
        saved = self.model.save()
        known = [(command.source, command.key) in self.model.keys for command in commands]
        expected = []
        for command in commands:
            expected.append(self.model.post(command, self.now))
            if isinstance(expected[-1], set):
                break
        dry_run = self.random.random() < 0.2
        before = self._picture()
        answers = self._post_atomic(commands, dry_run)
        if isinstance(answers, BatchAborted):
            self.outcomes["aborted"] += 1
            last = expected[-1]
            assert isinstance(last, set), f"only the model accepts {commands}: {answers}"
            assert answers.data["index"] == len(expected) - 1
            assert answers.data["refusal"]["code"] in last
            assert self._picture() == before
            self.model.restore(saved)
            return
        assert not isinstance(expected[-1], set), f"the model refuses {commands[len(expected) - 1]}: {expected[-1]}"
        seen: set[tuple[str, str]] = set()
        for command, answer, wanted, old in zip(commands, answers, expected, known, strict=True):
            key = (command.source, command.key)
            self._compare(command, answer, wanted, old or key in seen)
            seen.add(key)
        if dry_run:
            assert self._picture() == before
            self.model.restore(saved)

    def _post_atomic(self, commands: Sequence[Command], dry_run: bool) -> list[Posted | Refusal] | BatchAborted:
        try:
            return self.ledger.post_many(commands, atomic=True, dry_run=dry_run)
        except BatchAborted as aborted:
            return aborted

    def post_dry(self) -> None:
        """The same answer as if it were meant, and nothing changes."""
        saved, before = self.model.save(), self._picture()
        if self.random.random() < 0.7:
            self._post_one(self.chooser.command(self.now), dry_run=True)
        else:
            self._post_batch(self._batch(), dry_run=True)
        assert self._picture() == before
        self.model.restore(saved)

    def sweep(self) -> None:
        """Expiry gives back just the holds whose time has passed, and a second sweep finds nothing."""
        due = {
            id
            for id, kept in self.model.locks.items()
            if kept.kind == "hold" and kept.remaining and kept.expires <= self.now
        }
        answers = self.ledger.expire_due()
        found = [self.journal.event(self.ledger, answer.seq) for answer in answers if isinstance(answer, Posted)]
        swept = set()
        for event in found:
            id = event.data["hold"]
            command = HoldExpire(key=f"expire:{id}", source="sweep", hold=id)
            assert self.model.post(command, self.now) == event.id
            swept.add(id)
        refused = {answer.code for answer in answers if isinstance(answer, Refusal)}
        assert swept <= due
        if not refused:
            assert swept == due
            assert self.ledger.expire_due() == []
        assert refused <= {"account_not_found", "balance_overflow"}, refused

    # ------------------------------------------------------------ comparing

    def _compare(self, command: Command, answer: Posted | Refusal, expected: str | set[str], known: bool) -> None:
        self.operations += 1
        if isinstance(answer, Refusal):
            self.outcomes[answer.code] += 1
            assert isinstance(expected, set), f"only the ledger refuses {command}: {answer!r}"
            assert answer.code in expected, f"{command}: {answer!r}, but the model says {expected}"
            return
        self.outcomes["replayed" if answer.replayed else "accepted"] += 1
        assert not isinstance(expected, set), f"only the model refuses {command}: {expected}"
        assert answer.id == expected, command
        assert answer.replayed == known, command

    def _picture(self) -> tuple[Any, Any]:
        return self.ledger.head, self.ledger.trial_balance()

    def checkpoint(self) -> None:
        """Everything at once: replay finds nothing, reopening changes no answer, all balances and locks are right."""
        report = self.ledger.replay()
        assert report.ok, report.findings
        assert report.events == len(self.model.events)
        self._check_all()
        if self.can_reopen:
            before = self._picture()
            self.database.close()
            self.database = tallystick.open(self.url, clock=lambda: self.now)
            self.ledger = self.database.ledger("main")
            assert self._picture() == before
            self._check_all()
        self._ask_again()

    def _check_all(self) -> None:
        trial = self.ledger.trial_balance()
        assert not any(trial.totals.values())
        live = {(row.account, row.asset, row.bucket): row.credit - row.debit for row in trial.rows}
        assert live == {name: amount for name, amount in self.model.balances.items() if amount}
        held: dict[Name, int] = defaultdict(int)
        after, locks = "", {}
        while page := self.ledger.locks(after=after):
            locks.update({lock.id: lock for lock in page})
            after = page[-1].id
        assert locks.keys() == self.model.locks.keys()
        for id, lock in locks.items():
            check_lock(lock, self.model.locks[id], self.now)
            held[lock.account, lock.asset, lock.bucket] += lock.remaining
        for name, amount in self.model.balances.items():
            if name[2] in ("held", "bonded"):
                assert amount == held[name], name

    def _ask_again(self) -> None:
        """Old keys give their first answers again, for ever."""
        for command, id in self.random.sample(list(self.model.keys.values()), min(20, len(self.model.keys))):
            first = self.journal.event(self.ledger, int(id.partition("/")[2]))
            answer = self.ledger.post(command)
            assert (answer.id, answer.hash, answer.time, answer.replayed) == (id, first.hash, first.time, True)


class Journal:
    """What was read of the ledger so far, and what must hold of everything that comes after it."""

    def __init__(self) -> None:
        self.seq = 0
        self.hash = "0" * 64
        self.time = ""
        self.types: Counter[str] = Counter()
        self.latest: dict[Name, Entry] = {}
        self.remaining: dict[str, tuple[Name, int]] = {}
        self.held: dict[Name, int] = defaultdict(int)

    def event(self, ledger: Ledger, seq: int) -> Transaction:
        return ledger.transaction(seq)

    def catch_up(self, ledger: Ledger, model: Model, now: str) -> None:
        """Read the events since the last time and check them, then what they touched."""
        touched: set[str] = set()
        locks: set[str] = set()
        for found in ledger.events(after=self.seq - 1):
            self._check_link(found)
            self._check_entries(found, model)
            touched.update(entry.account for entry in found.entries)
            locks.update(id for id in _locks_of(found) if id in model.locks)
        for account in touched:
            for view in ledger.balances(account):
                name = (view.account, view.asset, view.bucket)
                assert (view.amount, view.version) == (model.balances[name], model.versions[name]), name
        for id in locks:
            lock = ledger.hold_by_id(id)
            check_lock(lock, model.locks[id], now)
            self._keep(lock)
        for account in touched:
            for name, entry in self.latest.items():
                if name[0] == account and name[2] in ("held", "bonded"):
                    assert entry.after == self.held[name], f"{name} is not what its open locks keep"
        assert self.seq == len(model.events)

    def _check_link(self, found: Transaction) -> None:
        event = found.event
        body, hash = seal(event, event.prev)
        assert (event.seq, event.prev) == (self.seq, self.hash)
        assert found.hash == hash == leaf_hash(body)
        assert event.time >= self.time
        self.seq, self.hash, self.time = event.seq + 1, found.hash, event.time
        self.types[event.type] += 1

    def _check_entries(self, found: Transaction, model: Model) -> None:
        sums: dict[str, int] = defaultdict(int)
        for entry in found.entries:
            name = (entry.account, entry.asset, entry.bucket)
            before = self.latest.get(name)
            assert entry.amount
            assert entry.after == entry.before + entry.amount
            assert entry.before == (before.after if before else 0)
            assert entry.version == (before.version + 1 if before else 1)
            self.latest[name] = entry
            sums[entry.asset] += entry.amount
            assert abs(entry.after) <= MAX
            may_owe = role_of(entry.account) in ("issuance", "external", "clearing") or entry.account in model.accounts
            assert entry.after >= 0 or entry.amount > 0 or (entry.bucket == "available" and may_owe), entry
        assert not any(sums.values())
        changes = {(entry.account, entry.asset, entry.bucket): entry.amount for entry in found.entries}
        assert changes == model.events[found.seq].changes

    def _keep(self, lock: Any) -> None:
        name, was = self.remaining.get(lock.id, ((lock.account, lock.asset, lock.bucket), 0))
        self.held[name] += lock.remaining - was
        self.remaining[lock.id] = (name, lock.remaining)


def _locks_of(found: Transaction) -> list[str]:
    return [found.id, *(found.data[kind] for kind in ("hold", "stake", "bet", "commitment") if kind in found.data)]


def check_lock(lock: Any, kept: Kept, now: str) -> None:
    """A lock reads as the model keeps it; one whose time has passed reads as expired, swept or not."""
    state = "expired" if kept.remaining and "" < kept.expires <= now else kept.state
    shown = (lock.kind, lock.account, lock.asset, lock.amount, lock.remaining, lock.taken, lock.state, lock.expires)
    assert shown == (kept.kind, kept.account, kept.asset, kept.amount, kept.remaining, kept.taken, state, kept.expires)
    assert 0 <= lock.taken <= lock.amount - lock.remaining <= lock.amount
