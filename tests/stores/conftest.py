"""Stores for the contract suite: each test runs over every kind of store there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tallystick.stores.base import Batch, Store
from tallystick.stores.memory import MemoryStore
from tallystick.stores.postgres.store import PostgresStore
from tallystick.stores.sqlite import SqliteStore
from tests.conftest import NewUrl
from tests.support.databases import Databases
from tests.support.engine import Engine
from tests.support.stores import KINDS, LASTING

ACCOUNTS = 40
LONG = 2**16 + 2_000
"""Events in the long ledger: two whole parts and the beginning of a third."""

MakeStore = Callable[[], Store]


def store_at(url: str) -> Store:
    """The store behind a URL, whatever its kind."""
    if url == "memory://":
        return MemoryStore()
    return PostgresStore(url) if url.startswith("postgresql:") else SqliteStore(Path(url))


@pytest.fixture(params=KINDS)
def make_store(request: pytest.FixtureRequest, new_url: NewUrl) -> Iterator[MakeStore]:
    """Makes a new, empty store with each call, and closes them all in the end."""
    made: list[Store] = []

    def make() -> Store:
        made.append(store_at(new_url(request.param)))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make_store: MakeStore) -> Store:
    """A new, empty store."""
    return make_store()


@pytest.fixture
def engine(store: Store) -> Engine:
    """An engine whose ledger ``main`` is open in the store and holds nothing else yet."""
    engine = Engine(store)
    engine.post(engine.open())
    return engine


@pytest.fixture(scope="session")
def long_ledger() -> tuple[Engine, list[Batch]]:
    """A ledger of more than two parts, made once: the engine that knows it, and its batches."""
    engine = Engine()
    batches = [engine.batch(engine.open(), *(engine.mint(f"users:{i:02}", 1_000_000) for i in range(ACCOUNTS)))]
    while engine.book.seq < LONG:
        payments = []
        for i in range(engine.book.seq, min(engine.book.seq + 4_096, LONG)):
            payer, step = i % (ACCOUNTS - 1), 1 + i // ACCOUNTS % (ACCOUNTS - 2)
            payee = (payer + step) % (ACCOUNTS - 1)
            payments.append(engine.pay(f"users:{payer:02}", f"users:{payee:02}", 1 + i % 7))
        batches.append(engine.batch(*payments))
    return engine, batches


@pytest.fixture(scope="module", params=[*KINDS, *(f"{kind} with snapshots" for kind in LASTING)])
def long_store(
    request: pytest.FixtureRequest, long_ledger: tuple[Engine, list[Batch]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """A store that holds the long ledger."""
    kind, _, snapshots = request.param.partition(" ")
    url = "memory://" if kind == "memory" else str(tmp_path_factory.mktemp("long") / "ledger.db")
    with ExitStack() as in_the_end:
        if kind == "postgres":
            databases: Databases = request.getfixturevalue("databases")
            url = databases.new()
            in_the_end.callback(databases.drop, url)
        store = store_at(url)
        in_the_end.callback(store.close)
        written = 0
        for batch in long_ledger[1]:
            store.append([batch])
            if snapshots:
                written += store.snapshot("main")
        assert written == (2 if snapshots else 0)
        yield store
