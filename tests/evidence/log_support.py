"""A ledger with its log, in which everything that is signed is remembered, and which dies wherever a test likes."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import tallystick
from tallystick import Database, Ledger
from tallystick.clock import add_seconds
from tallystick.commands import Leg, Post
from tallystick.evidence.log import Log
from tallystick.journal.checkpoints import Checkpoint, open_checkpoint
from tallystick.journal.notes import SecretKey, VerifierKey
from tests.evidence.published import MemoryPublication
from tests.journal import tree_model
from tests.support.engine import START

ORIGIN = "ledger.example/main"
USD = "USD/2"


class Died(Exception):
    """The process ended here."""


class Trap:
    """Dies once, at the step that it is set to: ``<step> begins`` or ``<step> ended``."""

    def __init__(self) -> None:
        self.at = ""
        self.steps: list[str] = []

    def passes(self, step: str) -> None:
        self.steps.append(step)
        if step == self.at:
            self.at = ""
            raise Died(step)


class Home(MemoryPublication):
    """A home in memory, that a trap is set in."""

    def __init__(self) -> None:
        super().__init__()
        self.trap = Trap()

    def replace(self, path: str, data: bytes, *, before: bytes | None) -> None:
        self.trap.passes(f"home {path} begins")
        super().replace(path, data, before=before)
        self.trap.passes(f"home {path} ended")


class Key:
    """A log's signer: remembers every checkpoint that it signed, for whoever."""

    def __init__(self, seed: str = "first", name: str = ORIGIN) -> None:
        self.secret = SecretKey.from_seed(name, hashlib.sha256(seed.encode()).digest())
        self.verifier: VerifierKey = self.secret.verifier
        self.signed: list[Checkpoint] = []
        self.trap = Trap()

    def sign(self, message: bytes) -> bytes:
        self.trap.passes("sign begins")
        signature = self.secret.sign(message)
        if not message.startswith(b"DSSE"):
            self.signed.append(Checkpoint.parse(message.decode()))
        self.trap.passes("sign ended")
        return signature


class Journal:
    """The journal of a log, that a trap is set in."""

    def __init__(self, inner: Any, trap: Trap) -> None:
        self._inner = inner
        self._trap = trap

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def keep(self, tiles: Any, size: int, note: bytes) -> None:
        what = "note" if note else "tiles"
        self._trap.passes(f"keep {what} begins")
        self._inner.keep(tiles, size, note)
        self._trap.passes(f"keep {what} ended")


class Place:
    """A ledger at a URL, its log's home and key, and a clock that moves with each posting."""

    def __init__(self, url: str | Path) -> None:
        self.url = url
        self.trap = Trap()
        self.home = Home()
        self.key = Key()
        self.home.trap = self.key.trap = self.trap
        self.now = START
        self._numbers = count(1)
        self.database: Database = tallystick.open(url, clock=lambda: self.now)

    @property
    def ledger(self) -> Ledger:
        return self.database.ledger("main")

    def log(self, key: Key | None = None, **more: Any) -> Log:
        """The log, opened anew."""
        found = Log(self.ledger, key or self.key, self.home, **more)
        found._journal = Journal(found._journal, self.trap)  # type: ignore[assignment]
        return found

    def post(self, number: int = 1, account: str = "users:zoe") -> None:
        """Post so many events; the first one of a ledger opens it besides."""
        self.now = add_seconds(self.now, 1)
        commands = [
            Post(key=f"key-{next(self._numbers)}", type="mint", legs=(Leg("@issuance", account, USD, 1),))
            for _ in range(number)
        ]
        self.ledger.post_many(commands)

    def post_to(self, size: int) -> None:
        """Post until there are so many events: at least two, for the first posting opens the ledger too."""
        missing = size - self.size - (not self.size)
        if missing > 0:
            self.post(missing)
        assert self.size == size

    @property
    def size(self) -> int:
        return self.ledger.head.seq

    def reopen(self) -> None:
        """Close the database and open it again, if it outlives that."""
        if self.url != "memory://":
            self.close()
            self.database = tallystick.open(self.url, clock=lambda: self.now)

    def close(self) -> None:
        self.database.close()

    def leaves(self) -> list[bytes]:
        return leaves_of(self.ledger)

    def published(self) -> Checkpoint | None:
        """What the home says."""
        note = self.home.read("checkpoint")
        return None if note is None else open_checkpoint(note, [self.key.verifier])[0]


def alter(path: Path, *statements: str) -> None:
    """Run statements on a ledger file as somebody may who has it to himself: its guards are away meanwhile."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        for _, sql in triggers:
            connection.execute(sql)


def leaves_of(ledger: Ledger) -> list[bytes]:
    """The leaf hash of each event, from the definition."""
    bodies = ledger.journal.events(0, 1_000_000)
    return [hashlib.sha256(b"\0" + body).digest() for body in bodies]


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root by the model."""
    return tree_model.Log(leaves).mth(0, len(leaves))


def right(leaves: Sequence[bytes], size: int) -> Checkpoint:
    """The only checkpoint of this size that may be signed."""
    return Checkpoint(ORIGIN, size, root_of(leaves[:size]))


def check_never_forked(signed: Iterable[Checkpoint], leaves: Sequence[bytes]) -> None:
    """Every checkpoint that was ever signed is of the one history, so each extends every smaller one."""
    for checkpoint in set(signed):
        assert checkpoint.size <= len(leaves)
        assert checkpoint == right(leaves, checkpoint.size), f"another root was signed for {checkpoint.size} events"
