"""The store in memory: what holds for it beside the contract."""

from __future__ import annotations

import pytest

from tallystick.errors import LedgerCorrupt
from tallystick.stores.memory import MemoryStore
from tests.support.engine import Engine
from tests.support.story import tell


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def test_an_event_whose_bytes_were_altered_is_reported_wherever_it_is_read(store: MemoryStore) -> None:
    told = tell(Engine(store))
    bodies = store._shelves["main"].bodies
    bodies[7] = bodies[7].replace(b'"amount":"1', b'"amount":"9')
    for read in (
        lambda: store.event("main", 7),
        lambda: store.events("main", 0, 100),
        lambda: store.events("main", 7, 1),
        lambda: [store.seq_at("main", event.time) for event in told.history],
    ):
        with pytest.raises(LedgerCorrupt, match="event main/7"):
            read()
    assert store.event("main", 6) == bodies[6]
    assert store.events("main", 8, 2) == bodies[8:10]


def test_events_that_do_not_lead_to_the_batch_s_head_are_refused(store: MemoryStore) -> None:
    engine = Engine(store)
    batch = engine.batch(engine.open(), engine.mint("users:alice", 1))
    batch.bodies.pop()
    with pytest.raises(LedgerCorrupt, match="do not lead to its head"):
        store.append([batch])
    assert store.ledgers() == []


def test_two_stores_share_nothing(store: MemoryStore) -> None:
    tell(Engine(store))
    assert MemoryStore().ledgers() == []
