"""A database: the ledgers of one file, of one PostgreSQL database, or of memory, opened by a URL."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tallystick.clock import Clock, system_clock
from tallystick.errors import Archived, Closed, InvalidInput, LedgerCorrupt
from tallystick.journal import check_link, decode_event, leaf_hash
from tallystick.kernel import Policy
from tallystick.kernel.state import changed_policy, check_ledger_name
from tallystick.ledger import audit
from tallystick.ledger.audit import Progress
from tallystick.ledger.ledger import Ledger
from tallystick.ledger.openings import Salts, random_salt
from tallystick.ledger.views import Report
from tallystick.stores.base import Store
from tallystick.stores.memory import MemoryStore
from tallystick.stores.sqlite import SqliteStore
from tallystick.stores.urls import place_of

EVENTS_CHECKED_ON_OPENING = 1_024
"""How many of a ledger's last events are checked against its balances when it is first used."""


def open(
    url: str | Path,
    *,
    read_only: bool = False,
    create: bool = True,
    clock: Clock = system_clock,
    salts: Salts = random_salt,
) -> Database:
    """Open the ledgers at a URL: a path or ``sqlite:///path`` for a file, ``postgresql://user@host/name`` for a
    PostgreSQL database (which takes the extra ``postgres``), ``memory://`` for a passing one.

    ``clock`` says the time, and ``salts`` makes the salts of erasable texts, which nobody may guess.

    A file that is not there is made, unless ``create`` is False or it is ``read_only``; so are the tables in a
    database without any. Raises LedgerNotFound, NotALedger, LedgerCorrupt, LedgerLocked (when it is first written),
    InvalidInput; of a database Unavailable, NotPermitted, SchemaMismatch.
    """
    return Database(_store(url, read_only=read_only, create=create), clock, salts)


def _store(url: str | Path, *, read_only: bool, create: bool) -> Store:
    kind, place = place_of(url)
    if kind == "memory":
        return MemoryStore()
    if kind == "postgres":
        return _postgres(place, read_only=read_only, create=create)
    return SqliteStore(Path(place), read_only=read_only, create=create)


def _postgres(url: str, *, read_only: bool, create: bool) -> Store:
    try:
        from tallystick.stores.postgres.store import PostgresStore  # noqa: PLC0415 - psycopg is an extra
    except ImportError as error:
        raise InvalidInput(
            path="url", problem=f"PostgreSQL needs psycopg: pip install 'tallystick[postgres]' ({error})"
        ) from None
    return PostgresStore(url, read_only=read_only, create=create)


class Database:
    """Ledgers in one store. Use it as a context manager, or close it."""

    def __init__(self, store: Store, clock: Clock = system_clock, salts: Salts = random_salt) -> None:
        self._store = store
        self._clock = clock
        self._salts = salts
        self._lock = threading.Lock()
        self._ledgers: dict[str, Ledger] = {}
        self._closed = False
        self._background = ThreadPoolExecutor(1, thread_name_prefix="tallystick upkeep")

    def ledgers(self) -> list[str]:
        """The names of the ledgers, sorted."""
        return self._store.ledgers()

    def ledger(self, name: str = "main", *, policy: dict[str, Any] | None = None) -> Ledger:
        """The ledger of this name. It comes into being with its first posting, under ``policy``.

        Raises InvalidInput for a name or a policy that cannot be one, LedgerCorrupt if its end is damaged.
        """
        check_ledger_name(name)
        changed_policy(Policy(), policy or {})
        with self._lock:
            if self._closed:
                raise Closed()
            found = self._ledgers.get(name)
            if found is None:
                check_tail(self._store, name)
                found = Ledger(self._store, name, self._clock, policy or {}, self._background, self._salts)
                self._ledgers[name] = found
            return found

    def replay(self, name: str = "main", progress: Progress | None = None) -> Report:
        """Check a whole ledger against its events, as Ledger.replay does; even one too damaged to be opened."""
        return audit.replay(self._store, check_ledger_name(name), progress)

    def rebuild(self, name: str = "main", progress: Progress | None = None) -> Report:
        """Make a ledger's projections again from its events; even of one whose end does not add up."""
        with self._lock:
            found = self._ledgers.get(check_ledger_name(name))
        return audit.rebuild(self._store, name, progress) if found is None else found.rebuild(progress)

    def close(self) -> None:
        """Answer what is under way, then let go of the file or the database."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        for ledger in self._ledgers.values():
            ledger.close()
        self._background.shutdown()
        self._store.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _tail(store: Store, name: str, before: int) -> tuple[int, list[bytes]]:
    """The last events before a number, and which is the first of them; fewer if those before it are in the archive, and
    cannot be read there: a file that is away keeps nobody from posting."""
    first = max(before - EVENTS_CHECKED_ON_OPENING, 0)
    while True:
        try:
            return first, store.events(name, first, before - first)  # and no more: another process may be writing
        except Archived as away:
            first = away.data["last"] + 1


def check_tail(store: Store, name: str) -> None:
    """Raises LedgerCorrupt unless the last events are whole, chained, and end where the balances stand.

    The whole ledger is checked by ``replay``; this is what an opening can afford.
    """
    head = store.head(name)
    if head is None:
        return
    first, bodies = _tail(store, name, head.seq)
    if len(bodies) != head.seq - first:
        raise LedgerCorrupt(
            where=f"ledger {name}", problem=f"{head.seq - first - len(bodies)} of its last events are missing"
        )
    last: dict[tuple[str, str, str], tuple[int, int]] = {}
    before = ""
    for seq, body in enumerate(bodies, first):
        event = decode_event(body)
        check_link(event, seq, before or event.prev)
        before = leaf_hash(body)
        for entry in event.entries:
            last[entry.account, entry.asset, entry.bucket] = (entry.after, entry.version)
    live = {row[:3]: row[3] for row in store.balances(name, head.seq, sorted({account for account, _, _ in last}))}
    for place, (after, version) in last.items():
        balance = live.get(place)
        if balance is None or (balance.amount, balance.version) != (after, version):
            raise LedgerCorrupt(where=f"balance {' '.join(place)}", problem="it is not what the journal says")
    beyond = next(store.key_numbers(name, head.seq), None)
    if beyond is not None and store.head(name) == head:
        raise LedgerCorrupt(where=f"event {name}/{beyond[1]}", problem="its key is there, but it is missing")
