"""What the ledger is held against: the raw limit of the same rows, and what a user would write by hand."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from pathlib import Path

from tallystick.stores import chunks
from tallystick.stores.base import PART_BITS, Batch
from tallystick.stores.sql import read
from tallystick.stores.sqlite_file import CACHE_KIB, make_durable


def connect(path: Path) -> sqlite3.Connection:
    """A connection with the settings of the embedded store."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    make_durable(connection)
    return connection


Rows = dict[str, list[tuple[object, ...]]]
"""Rows as tuples, by table."""


class RawWriter:
    """(a) The raw limit: the same rows and bytes into the same tables of the same file, and no ledger logic."""

    def __init__(self, path: Path) -> None:
        self.connection = connect(path)
        self.connection.executescript(f"BEGIN;{read('sqlite/schema.sql')}COMMIT;")

    @staticmethod
    def rows(batch: Batch) -> Rows:
        """The rows of a batch as tuples, made before the clock starts."""
        events: list[tuple[object, ...]] = []
        first = batch.expected.seq
        for index in range(0, len(batch.bodies), chunks.EVENTS_PER_ROW):
            part = batch.bodies[index : index + chunks.EVENTS_PER_ROW]
            events.append((1, first + index, len(part), batch.head.time, "0" * 64, chunks.PLAIN, b"\n".join(part)))
        return {
            "event": events,
            "balance": [(1, *row) for row in batch.balances],
            "entry": [(1, row[2] >> PART_BITS, *row) for row in batch.entries],
            "idempotency": [(1, seq >> PART_BITS, number, seq) for number, seq in batch.keys],
        }

    def write(self, batches: list[Rows]) -> float:
        """Write rows in one transaction; the seconds it took."""
        began = time.perf_counter()
        self.connection.execute("BEGIN IMMEDIATE")
        for rows in batches:
            for table, listed in rows.items():
                if listed:
                    marks = ", ".join("?" * len(listed[0]))
                    self.connection.executemany(f"INSERT INTO {table} VALUES ({marks})", listed)
        self.connection.execute("COMMIT")
        return time.perf_counter() - began


class HandWriter:
    """(b) By hand: one transaction for each transfer, two balance updates, two entries."""

    def __init__(self, path: Path, accounts: int) -> None:
        self.connection = connect(path)
        self.connection.executescript(
            """
            CREATE TABLE balance (account TEXT PRIMARY KEY, amount INTEGER NOT NULL CHECK (amount >= 0)) WITHOUT ROWID;
            CREATE TABLE transfer (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, made TEXT NOT NULL);
            CREATE TABLE entry (
                id INTEGER PRIMARY KEY, transfer INTEGER NOT NULL, account TEXT NOT NULL, amount INTEGER NOT NULL
            );
            CREATE INDEX entry_by_account ON entry (account, id);
            """
        )
        self.connection.execute("BEGIN")
        self.connection.executemany(
            "INSERT INTO balance VALUES (?, ?)", ((f"users:{number}", 10**12) for number in range(accounts))
        )
        self.connection.execute("COMMIT")
        self.accounts = accounts

    def write(self, count: int) -> float:
        """Post so many transfers; the seconds it took."""
        execute = self.connection.execute
        moves = [random.sample(range(self.accounts), 2) for _ in range(count)]
        keys = [os.urandom(16).hex() for _ in range(count)]
        began = time.perf_counter()
        for (payer, payee), key in zip(moves, keys, strict=True):
            execute("BEGIN IMMEDIATE")
            id = execute("INSERT INTO transfer (key, made) VALUES (?, ?)", (key, "2026-01-01T00:00:00Z")).lastrowid
            for account, amount in ((f"users:{payer}", -1), (f"users:{payee}", 1)):
                execute("UPDATE balance SET amount = amount + ? WHERE account = ?", (amount, account))
                execute("INSERT INTO entry (transfer, account, amount) VALUES (?, ?, ?)", (id, account, amount))
            execute("COMMIT")
        return time.perf_counter() - began


def fdatasync_seconds(path: Path, count: int) -> list[float]:
    """How long it takes to overwrite one page of a file and have it on disk, each of so many times."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.pwrite(descriptor, bytes(4096 * 64), 0)
    os.fsync(descriptor)
    took = []
    for number in range(count):
        began = time.perf_counter()
        os.pwrite(descriptor, os.urandom(4096), 4096 * (number % 64))
        os.fdatasync(descriptor)
        took.append(time.perf_counter() - began)
    os.close(descriptor)
    return took
