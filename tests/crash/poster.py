"""The process that is killed. Run as a program it forks posting children on demand; the parent kills those.

Each line on stdin starts a child: ``<path> <run> <seed> <kind>``. The children report on stdout, one line of JSON for
each answer, and only for what the ledger has acknowledged. When a child has died, however that came about, the line
``"dead"`` follows; nothing of it comes after that.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from random import Random
from typing import Any

import tallystick
from tallystick import Ledger
from tallystick.commands import Command, Hold, Leg, Post, Transfer

USD = "USD/2"
PEOPLE = [f"users:{number}" for number in range(50)]
PIPE_BYTES = 4_000
"""A write of so many bytes to a pipe is whole or absent (PIPE_BUF is 4,096)."""
THREADS = 3
LONG = 2_100
"""A batch of so many commands is stored while it is decided."""
BRIEF = 60
"""Postings of a child whose log of writes is to stay unfolded."""


def report(lines: list[list[Any]]) -> None:
    """Write lines to stdout in pieces that a kill cannot tear."""
    piece = b""
    for line in lines:
        body = json.dumps(line).encode() + b"\n"
        if len(piece) + len(body) > PIPE_BYTES:
            os.write(1, piece)
            piece = b""
        piece += body
    if piece:
        os.write(1, piece)


class Poster:
    """One child's work on the ledger."""

    def __init__(self, ledger: Ledger, run: str, seed: int) -> None:
        self.ledger = ledger
        self.run = run
        self.seed = seed

    def fund(self) -> None:
        """The same keys in every run: only the first run posts them."""
        legs = [Leg("@issuance", person, USD, 10_000_000) for person in PEOPLE]
        commands = [Post(key=f"mint {leg.to_account}", type="mint", legs=(leg,)) for leg in legs]
        self.ledger.post_many(commands, atomic=True)
        report([["funded", "", ""]])

    def post(self, command: Command) -> None:
        posted = self.ledger.post(command)
        report([[command.key, posted.seq, posted.hash]])

    def post_many(self, commands: list[Command], *, atomic: bool) -> None:
        answers = self.ledger.post_many(commands, atomic=atomic)
        lines = [
            [c.key, p.seq, p.hash] for c, p in zip(commands, answers, strict=True) if isinstance(p, tallystick.Posted)
        ]
        report(lines)

    def command(self, random: Random, key: str) -> Command:
        payer, payee = random.sample(PEOPLE, 2)
        if random.random() < 0.1:
            return Hold(key=key, account=payer, asset=USD, amount=1 + random.randrange(9), refs={"order": key})
        return Transfer(key=key, from_account=payer, to_account=payee, asset=USD, amount=1 + random.randrange(9))

    def mixed(self, thread: int) -> None:
        """Single postings and small batches of both kinds, until the end of the world."""
        random = Random(f"{self.seed} {thread}")
        number = 0
        while True:
            number += 1
            key = f"{self.run}.{thread}.{number}"
            size = random.choice([1, 1, 1, 1, 1, 2, 10, 40])
            if size == 1:
                self.post(self.command(random, f"{key} s"))
                continue
            kind = random.choice(["a", "i"])
            commands = [self.command(random, f"{key} {kind} {size} {index}") for index in range(size)]
            self.post_many(commands, atomic=kind == "a")

    def long(self, thread: int) -> None:
        """Batches that are stored while they are decided; each of them is one commit."""
        random = Random(f"{self.seed} {thread}")
        number = 0
        while True:
            number += 1
            key = f"{self.run}.{thread}.{number}"
            commands = [self.command(random, f"{key} l {LONG} {index}") for index in range(LONG)]
            self.post_many(commands, atomic=False)

    def brief(self, thread: int) -> None:
        """A few postings, then wait to be killed, with nothing folded into the file."""
        random = Random(f"{self.seed} {thread}")
        for number in range(BRIEF):
            self.post(self.command(random, f"{self.run}.{thread}.{number} s"))
        report([["idle", "", ""]])
        threading.Event().wait()


def work(path: str, run: str, seed: int, kind: str) -> None:
    """Post until killed."""
    poster = Poster(tallystick.open(path).ledger("main"), run, seed)
    poster.fund()
    if kind == "brief":
        poster.brief(0)
        return
    acts = [poster.mixed] * THREADS if kind == "mixed" else [poster.long, poster.mixed]
    for thread, act in enumerate(acts):
        threading.Thread(target=act, args=(thread,), daemon=True).start()
    threading.Event().wait()


def main() -> None:
    for line in sys.stdin:
        path, run, seed, kind = json.loads(line)
        child = os.fork()
        if not child:
            try:
                work(path, run, seed, kind)
            finally:
                os._exit(1)
        report([["child", child, ""]])
        os.waitpid(child, 0)
        report([["dead", "", ""]])


if __name__ == "__main__":
    main()
