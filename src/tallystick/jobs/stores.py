"""What jobs need of a database beneath its ledgers: the store, and which kind it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallystick.ledger import Database
from tallystick.stores.base import Store

if TYPE_CHECKING:
    from tallystick.stores.postgres.store import PostgresStore


def store_of(database: Database) -> Store:
    """The store of a database."""
    return database._store


def postgres_of(database: Database) -> PostgresStore | None:
    """The store, if it is in PostgreSQL."""
    store = store_of(database)
    if not store.shared:  # the others need no psycopg, which is an extra
        return None
    from tallystick.stores.postgres.store import PostgresStore  # noqa: PLC0415

    return store if isinstance(store, PostgresStore) else None
