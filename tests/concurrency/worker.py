"""A process that posts: started by a fleet, with its orders on stdin. It ends when stdin does, or when it is killed.

It writes down every call before it is made and every answer as soon as it has come, so that whoever takes the place of
a worker that was killed can ask again for what was not answered.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from msgspec import Struct

import tallystick
from tallystick import Database, Posted, Refusal
from tallystick.commands import AnyCommand, Command
from tallystick.errors import BatchAborted, Unavailable
from tests.concurrency.plan import ATOMIC, DRY, JOINED, SINGLE, UNDONE, Call, Planner, funding

TRIES = 200
PAUSE_SECONDS = 0.02
LOOK_EVERY = 12
"""After so many calls a thread looks at the holds that others have made."""

Answer = list[Any]
"""What a worker was told: ["posted", seq, hash, time, replayed], ["refused", code], or ["rolled back"]."""


class Orders(Struct):
    """What a worker is to do. ``inherited``: what the one whose place it takes has written."""

    url: str
    folder: str
    name: str
    seed: int
    threads: int
    calls: int
    ledgers: list[str]
    inherited: str = ""


class Notes:
    """The file that a worker writes: one line of JSON for each call and each answer."""

    def __init__(self, path: Path, last: int) -> None:
        """``last``: the highest number that was given to a call before."""
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._numbers = last
        self._lock = threading.Lock()

    def asked(self, thread: int, call: Call, number: int = 0) -> int:
        """A call is about to be made; returns its number, which it may have from another worker."""
        if not number:
            with self._lock:
                self._numbers += 1
                number = self._numbers
        commands = [msgspec.to_builtins(command) for command in call.commands]
        self._write(["asked", number, thread, call.kind, call.ledger, commands])
        return number

    def told(self, number: int, answers: list[Answer]) -> None:
        self._write(["told", number, answers])

    def say(self, *words: Any) -> None:
        self._write(list(words))

    def _write(self, line: list[Any]) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")


def read_notes(path: Path) -> list[list[Any]]:
    """The lines that a worker has written; the last may have been torn when it was killed."""
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [json.loads(line) for line in whole.splitlines()]


def call_of(line: list[Any]) -> Call:
    """The call in a line that begins with "asked"."""
    return Call(line[3], line[4], [msgspec.convert(command, AnyCommand) for command in line[5]])


def unanswered(lines: list[list[Any]]) -> dict[int, tuple[int, Call]]:
    """(thread, call) of each call that has no answer, by its number."""
    told = {line[1] for line in lines if line[0] == "told"}
    return {line[1]: (line[2], call_of(line)) for line in lines if line[0] == "asked" and line[1] not in told}


class Thread:
    """One thread of a worker. Whoever is told Unavailable asks again, with the same keys."""

    def __init__(self, orders: Orders, number: int, database: Database, notes: Notes, first: int) -> None:
        self.orders = orders
        self.number = number
        self.database = database
        self.notes = notes
        self.first = first
        self.planner = Planner(orders.seed, f"{orders.name}.{number}", orders.ledgers, first)
        self.unavailable = 0
        self._connection: psycopg.Connection | None = None

    def run(self, inherited: dict[int, Call]) -> None:
        if not inherited and not self.first:
            for ledger in self.orders.ledgers:
                self.make(Call(ATOMIC, ledger, funding()))
        for number, call in inherited.items():
            self.make(call, number)
        for turn in range(self.first, self.orders.calls):
            if turn % LOOK_EVERY == 0:
                self._look()
            self.make(self.planner.call())
        if self._connection is not None:
            self._connection.close()

    def make(self, call: Call, number: int = 0) -> None:
        """Make a call until it is answered."""
        number = self.notes.asked(self.number, call, number)
        answers = self._insist(lambda: self._make(call))
        self.notes.told(number, answers)
        for command, answer in zip(call.commands, answers, strict=True):
            if answer[0] == "posted" and call.kind != DRY:
                self.planner.learn(call.ledger, command, f"{call.ledger}/{answer[1]}")

    def _look(self) -> None:
        ledger = self.planner.random.choice(self.orders.ledgers)
        found = self._insist(lambda: self.database.ledger(ledger).locks(kind="hold", state="active", limit=5))
        self.planner.learn_holds(ledger, [lock.id for lock in found])

    def _insist(self, act: Callable[[], Any]) -> Any:
        for _ in range(TRIES):
            try:
                return act()
            except (Unavailable, psycopg.OperationalError) as error:
                self.unavailable += 1
                reason = str(error)
                time.sleep(PAUSE_SECONDS)  # the connection was cut; whoever waits a little spares the server
        raise RuntimeError(f"no answer after {TRIES} tries: {reason}")

    # ------------------------------------------------------------ one try

    def _make(self, call: Call) -> list[Answer]:
        ledger, commands = self.database.ledger(call.ledger), call.commands
        if call.kind == SINGLE:
            return [self._answer(lambda: ledger.post(commands[0]))]
        if call.kind in (JOINED, UNDONE):
            return self._joined(call)
        try:
            answers = ledger.post_many(commands, atomic=call.kind == ATOMIC, dry_run=call.kind == DRY)
        except BatchAborted as aborted:
            return _aborted(commands, aborted)
        return [_told(answer) for answer in answers]

    def _answer(self, act: Callable[[], Posted]) -> Answer:
        try:
            return _told(act())
        except Refusal as refusal:
            return _told(refusal)

    def _joined(self, call: Call) -> list[Answer]:
        """A row of the caller's own for each command, and the postings, in one transaction."""
        connection = self._caller()
        ledger, commands = self.database.ledger(call.ledger), call.commands
        try:
            for command in commands:
                row = [call.ledger, command.key]
                connection.execute("INSERT INTO orders VALUES (%s, %s) ON CONFLICT DO NOTHING", row)
            answers = [_told(one) for one in ledger.post_many(commands, atomic=True, connection=connection)]
            if call.kind == UNDONE:
                connection.rollback()
                return [["rolled back"]] * len(commands)
            connection.commit()
        except BatchAborted as aborted:
            connection.rollback()
            return _aborted(commands, aborted)
        except (Unavailable, psycopg.OperationalError):
            connection.close()
            raise
        return answers

    def _caller(self) -> psycopg.Connection:
        """This thread's own connection."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self.orders.url, application_name="caller")
        return self._connection


def _told(answer: Posted | Refusal) -> Answer:
    if isinstance(answer, Refusal):
        return ["refused", answer.code]
    return ["posted", answer.seq, answer.hash, answer.time, answer.replayed]


def _aborted(commands: list[Command], aborted: BatchAborted) -> list[Answer]:
    """Nothing of the batch was posted; one of its commands is named as the reason."""
    answers: list[Answer] = [["refused", "batch_aborted"] for _ in commands]
    answers[aborted.data["index"]] = ["refused", aborted.data["refusal"]["code"]]
    return answers


def end_with_stdin() -> None:
    """The fleet holds the other end: when it is gone, so is the worker."""
    sys.stdin.buffer.read()
    os._exit(2)


def main() -> None:
    orders = msgspec.json.decode(sys.stdin.buffer.readline(), type=Orders)
    threading.Thread(target=end_with_stdin, daemon=True).start()
    lines = read_notes(Path(orders.inherited)) if orders.inherited else []
    last = max((line[1] for line in lines if line[0] == "asked"), default=0)
    notes = Notes(Path(orders.folder) / f"{orders.name}.notes", last)
    waiting = unanswered(lines)
    made = [sum(line[0] == "asked" and line[2] == thread for line in lines) for thread in range(orders.threads)]
    database = tallystick.open(orders.url)
    threads = [Thread(orders, number, database, notes, made[number]) for number in range(orders.threads)]
    failed: list[BaseException] = []

    def run(thread: Thread) -> None:
        try:
            thread.run({number: call for number, (whose, call) in waiting.items() if whose == thread.number})
        except BaseException as error:
            failed.append(error)
            raise

    running = [threading.Thread(target=run, args=(thread,)) for thread in threads]
    for one in running:
        one.start()
    for one in running:
        one.join()
    database.close()
    notes.say("ended", sum(thread.unavailable for thread in threads))
    os._exit(1 if failed else 0)


if __name__ == "__main__":
    main()
