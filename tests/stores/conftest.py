"""Stores for the contract suite: each test runs over every kind of store there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tallystick.stores.base import Batch, Store
from tallystick.stores.memory import MemoryStore
from tallystick.stores.sqlite import SqliteStore
from tests.support.engine import Engine

ACCOUNTS = 40
LONG = 2**16 + 2_000
"""Events in the long ledger: two whole parts and the beginning of a third."""

MakeStore = Callable[[], Store]


@pytest.fixture(params=["memory", "sqlite"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeStore]:
    """Makes a new, empty store with each call, and closes them all in the end."""
    numbers = count()
    made: list[Store] = []

    def make() -> Store:
        kind: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / f"{next(numbers)}.db")
        made.append(kind)
        return kind

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


@pytest.fixture(scope="module", params=["memory", "sqlite", "sqlite with snapshots"])
def long_store(
    request: pytest.FixtureRequest, long_ledger: tuple[Engine, list[Batch]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """A store that holds the long ledger."""
    path = tmp_path_factory.mktemp("long") / "ledger.db"
    store: Store = MemoryStore() if request.param == "memory" else SqliteStore(path)
    written = 0
    for batch in long_ledger[1]:
        store.append([batch])
        if "snapshots" in request.param:
            written += store.snapshot("main")
    assert written == (2 if "snapshots" in request.param else 0)
    yield store
    store.close()
