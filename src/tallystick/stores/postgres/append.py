"""Appending: how a batch becomes rows, in one trip if it is small and by COPY if it is large.

Why no deadlock is possible: an append locks ONE row that another append could want, the head of its ledger, and locks
it first; everything else that it writes lies behind that lock. Whoever waits for the head holds nothing, but for the
turn to be next, which nobody asks for who holds the head. (A caller who
posts inside a transaction of his own holds the head until that ends. If he posts to several ledgers in one transaction,
or locks rows of his own, the order is his to keep; PostgreSQL then breaks a circle by refusing one of its members.)
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg

from tallystick.stores import chunks
from tallystick.stores.base import Batch, Head, HeadMoved, object_row
from tallystick.stores.postgres.connections import Link
from tallystick.stores.postgres.periods import period_of
from tallystick.stores.postgres.wire import (
    Trip,
    bytes_array,
    copy_of,
    copy_of_numbers,
    int4,
    int8,
    int8_array,
    text_array,
)

ROW_BYTES = 7_900
"""Events share a row up to this size, so that it fits into a page as it is."""
COPIED_FROM = 128
"""From so many rows on they are copied; fewer go in one trip with all else."""

BALANCE_BITS = 40
"""A balance's id in the tables: its asset's number above these bits, and below them which of the asset's it is."""


class Numbers:
    """The ids of one ledger's balances in the tables, by the numbers that the kernel gives them."""

    def __init__(self) -> None:
        self.of_asset: dict[str, tuple[int, int]] = {}
        """(number, how many balances there are) of each asset, as at the head ``at``."""
        self.at: Head | None = None
        self._stored = array("q")
        self._growing = threading.Lock()  # an array that NumPy looks at cannot grow

    def know(self, balance: int, stored: int) -> None:
        """Remember the id of a balance."""
        if balance >= len(self._stored):
            with self._growing:
                self._stored.frombytes(bytes(8 * max(balance + 1 - len(self._stored), 1_024)))
        self._stored[balance] = stored

    def add(self, balance: int, asset: str) -> bool:
        """Give a new balance its id; whether its asset is new as well."""
        found = self.of_asset.get(asset)
        number, count = found or (len(self.of_asset) + 1, 0)
        self.of_asset[asset] = (number, count + 1)
        self.know(balance, number << BALANCE_BITS | count + 1)
        return found is None

    def unknown(self, balances: Iterable[int]) -> list[int]:
        """Those whose id is not known."""
        known = self._stored
        return [balance for balance in balances if balance >= len(known) or not known[balance]]

    def stored(self, balance: int) -> int:
        """The id of a balance."""
        return self._stored[balance]

    def all_stored(self, balances: Any) -> Any:
        """The ids of an array of balances."""
        import numpy  # noqa: PLC0415

        with self._growing:
            return numpy.frombuffer(self._stored, dtype=numpy.int64)[balances]


def follow(batches: Iterable[Batch]) -> Iterable[Batch]:
    """The batches, each behind the one before, or HeadMoved."""
    last: tuple[str, Head] | None = None
    for batch in batches:
        if last is not None and (batch.ledger, batch.expected) != last:
            raise HeadMoved
        last = (batch.ledger, batch.head)
        yield batch


def lock_head(trip: Trip, ledger: int) -> None:
    """Keep all others from appending, in the order of who asked; the last answer is where the head stands."""
    trip.add("take_turn", int4(ledger))
    trip.add("lock_head", int4(ledger))


def add_head(trip: Trip, ledger: int, batch: Batch) -> None:
    """Lock the ledger, compare, and move its head."""
    expected, head = batch.expected, batch.head
    period = period_of(head.time)
    trip.add(
        "move_head",
        int4(ledger),
        int8(expected.seq),
        expected.hash.encode(),
        expected.time.encode(),
        int8(expected.balances),
        int8(head.seq),
        head.hash.encode(),
        head.time.encode(),
        int8(head.balances),
        int4(period),
        batch.ledger.encode(),
    )
    if period != period_of(expected.time):
        trip.add("add_stretch", int4(ledger), int4(period), int8(expected.seq))


def add_projections(
    trip: Trip, ledger: int, period: int, batch: Batch, numbers: Numbers, assets: Sequence[tuple[int, str]]
) -> None:
    """Everything but events, entries and keys. ``assets`` are those that are new, and their numbers."""
    if assets:
        trip.add(
            "add_assets", int4(ledger), int8_array([row[0] for row in assets]), text_array([row[1] for row in assets])
        )
    if batch.balances:
        ids, accounts, codes, buckets = zip(*batch.balances, strict=True)
        trip.add(
            "add_balances",
            int4(ledger),
            int8_array([numbers.stored(id) for id in ids]),
            int8_array(ids),
            *map(text_array, (accounts, codes, buckets)),
        )
    if batch.references:
        names, values, seqs = zip(*batch.references, strict=True)
        trip.add("add_references", int4(ledger), int4(period), int8_array(seqs), text_array(names), text_array(values))
    if batch.backdated:
        ids, seqs, effective, amounts = zip(*batch.backdated, strict=True)
        stored = int8_array([numbers.stored(id) for id in ids])
        trip.add("add_backdated", int4(ledger), stored, int8_array(seqs), text_array(effective), int8_array(amounts))
    if batch.openings:
        commitments, salts, texts, seqs = zip(*batch.openings, strict=True)
        opened = bytes_array(salts), bytes_array([text.encode() for text in texts])
        trip.add("add_openings", int4(ledger), text_array(commitments), *opened, int8_array(seqs))
    if batch.objects:
        rows = {(kind, id): object_row(kind, id, value) for kind, id, value in batch.objects}
        columns = zip(*rows.values(), strict=True)
        trip.add("put_objects", int4(ledger), int8(batch.head.seq), *map(text_array, columns))


def add_few(trip: Trip, ledger: int, period: int, batch: Batch, numbers: Numbers) -> None:
    """Events, entries and keys of a small batch, in the same trip."""
    place = int4(ledger), int4(period)
    for row in chunks.rows_of(batch.expected.seq, batch.bodies, ROW_BYTES):
        trip.add("add_event", *place, *_encoded(row))
    if batch.entries:
        ids, *columns = zip(*batch.entries, strict=True)
        trip.add("add_entries", *place, int8_array([numbers.stored(id) for id in ids]), *map(int8_array, columns))
    if batch.keys:
        trip.add("add_keys", *place, *map(int8_array, zip(*with_twins(batch.keys), strict=True)))


def copy_events(connection: Link, ledger: int, period: int, batch: Batch) -> None:
    """The events of a large batch."""
    place = int4(ledger), int4(period)
    rows = chunks.rows_of(batch.expected.seq, batch.bodies, ROW_BYTES)
    columns = "ledger, period, seq, count, encoding, time, hash, body"
    _copy(connection, f"event ({columns})", copy_of([(*place, *_encoded(row)) for row in rows]))


def copy_rows(connection: Link, ledger: int, period: int, batch: Batch, numbers: Numbers) -> None:
    """Entries and keys of a large batch."""
    import numpy  # noqa: PLC0415

    if batch.entries:
        entries = numpy.array(batch.entries, dtype=numpy.int64)
        balance = numbers.all_stored(entries[:, 0])
        order = numpy.argsort(balance, kind="stable")  # as the index has them, which is written the faster
        entries, balance = entries[order], balance[order]
        rest = [(">i8", entries[:, column]) for column in range(1, 6)]
        rows = copy_of_numbers([(">i4", ledger), (">i4", period), (">i8", balance), *rest], len(entries))
        _copy(connection, "entry (ledger, period, balance, version, seq, amount, before, after)", rows)
    if batch.keys:
        keys = numpy.array(with_twins(batch.keys), dtype=numpy.int64)
        keys = keys[numpy.argsort(keys[:, 0], kind="stable")]
        rest = [(">i8", keys[:, 0]), (">i8", keys[:, 1]), (">i4", keys[:, 2])]
        rows = copy_of_numbers([(">i4", ledger), (">i4", period), *rest], len(keys))
        _copy(connection, "idempotency (ledger, period, number, seq, twin)", rows)


def _copy(connection: Link, table: str, rows: bytes) -> None:
    with (
        psycopg.Cursor(connection) as cursor,
        cursor.copy(f"COPY tallystick.{table} FROM STDIN (FORMAT binary)") as copy,
    ):
        copy.write(rows)


def _encoded(row: chunks.Row) -> tuple[bytes, ...]:
    return (
        int8(row.seq),
        int4(row.count),
        int4(chunks.PLAIN),
        row.time.encode(),
        row.hash.encode(),
        row.body,
    )


def with_twins(keys: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Keys with which of their number they are: 0, but for two that have the same number by chance."""
    if len({number for number, _ in keys}) == len(keys):
        return [(number, seq, 0) for number, seq in keys]
    seen: dict[int, int] = {}
    rows = []
    for number, seq in keys:
        rows.append((number, seq, seen.get(number, 0)))
        seen[number] = seen.get(number, 0) + 1
    return rows
