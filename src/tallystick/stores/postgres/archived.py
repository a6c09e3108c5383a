"""Reading what lies in the archive: the store's questions about events that left the database, answered from files.

A question reads the files that it needs and no others. If one of them is not there, or is not what was recorded, the
question is answered by Archived, which says where the file should be; never by less than the whole answer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from tallystick.errors import LedgerCorrupt
from tallystick.stores import chunks
from tallystick.stores.base import PART_BITS, Batch, EntryRow
from tallystick.stores.postgres import parquet
from tallystick.stores.postgres.append import Numbers
from tallystick.stores.postgres.connections import Link
from tallystick.stores.postgres.periods import month_of
from tallystick.stores.sql import queries

SQL = queries("postgres/archive.sql")
"""Every statement that changes the archive, by name."""


class ArchivedReading:
    """What the store reads from the archive; part of Reading. ``boundary`` is the first event that is not there."""

    def _rows(self, connection: Link, query: str, **values: Any) -> list[Any]:
        raise NotImplementedError

    def _files(
        self, connection: Link, ledger: int, kind: parquet.Kind, first: int, before: int
    ) -> list[parquet.ArchivedFile]:
        """The files in which these events lie, or their entries, oldest first."""
        if first >= before:
            return []
        asked = {"kind": kind, "first": first, "before": before}
        rows = self._rows(connection, "archived_files", ledger=ledger, **asked)
        return [parquet.ArchivedFile(name, kind, *row) for name, *row in rows]

    def _archived_rows(self, connection: Link, ledger: int, first: int, before: int) -> list[parquet.EventRow]:
        """The stored rows that hold these events, in order."""
        files = self._files(connection, ledger, "event", first, before)
        return [row for file in files for row in parquet.event_rows(file, first, before)]

    def _archived_row(self, connection: Link, ledger: int, seq: int) -> parquet.EventRow | None:
        """The stored row that holds an event, if it lies in the archive."""
        files = self._files(connection, ledger, "event", seq, seq + 1)
        return parquet.event_row(files[0], seq) if files else None

    def _archived_until(self, connection: Link, ledger: int, boundary: int, time: str) -> int | None:
        """How many events were recorded up to a time; None if the answer does not lie in the archive.

        A period holds nothing that was recorded after it: only files of the time's own month and later ones are asked.
        """
        for file in self._files(connection, ledger, "event", 0, boundary):
            if time[:7] <= month_of(file.period):
                seq = parquet.rows_until(file, time)
                if seq < file.before:
                    row = parquet.event_row(file, seq)
                    if row is None:
                        raise LedgerCorrupt(where=f"event {file.ledger}/{seq}", problem="it is missing", seq=seq)
                    return seq + recorded_until(file.ledger, row, time)
        return None

    def _archived_latest(
        self, connection: Link, ledger: int, snapshot: int | None, before: int, balances: list[int] | None
    ) -> dict[int, tuple[int, int]]:
        """(version, amount) of each of these balances, or of all, by number, as it stood before an event that lies in
        the archive; those that were not posted to between the last snapshot and that event are left out."""
        found: dict[int, tuple[int, int]] = {}
        first = (snapshot or 0) << PART_BITS
        for file in reversed(self._files(connection, ledger, "entry", first, before)):
            wanted = None if balances is None else [balance for balance in balances if balance not in found]
            if wanted == []:
                break
            for balance, version, after, adds_up in parquet.latest(file, wanted, first, before):
                if not adds_up:
                    raise LedgerCorrupt(where=f"balance {balance}", problem="an entry does not add up")
                found.setdefault(balance, (version, after))
        return found

    def _archived_entries(
        self, connection: Link, ledger: int, balances: Sequence[int], first: int, before: int, limit: int
    ) -> list[EntryRow]:
        """Entries of these balances with first <= seq < before, in order of (seq, balance), up to ``limit``."""
        found: list[EntryRow] = []
        for file in self._files(connection, ledger, "entry", first, before):
            if len(found) >= limit:
                break
            found += parquet.entries(file, balances, first, before, limit - len(found))
        for row in found:
            if row[4] + row[3] != row[5]:
                raise LedgerCorrupt(where=f"event {row[2]}", problem="an entry does not add up")
        return found[:limit]


def is_archived(connection: Link, period: int) -> bool:
    """Whether a period was moved to the archive."""
    return bool(connection.execute(SQL["is_archived"], {"period": period}).fetchall()[0][0])


def recorded_until(ledger: str, row: parquet.EventRow, time: str) -> int:
    """How many events of a stored row were recorded up to a time."""
    seq, count, last, hash, encoding, body = row
    chunks.check_last(ledger, seq, count, last, hash, body)
    return bisect_right(chunks.unpack(ledger, seq, count, hash, encoding, body), time, key=chunks.time_of)


def carry_again(connection: Link, ledger: int, boundary: int, batch: Batch, numbers: Numbers) -> Batch:
    """A rebuild's batch without the entries of archived periods: these stay in their files, and where they left each
    balance is carried. Batches come in the order of the journal, so a later one has the last word."""
    if batch.expected.seq >= boundary:
        return batch
    last = {numbers.stored(row[0]): (row[1], row[5]) for row in batch.entries if row[2] < boundary}
    versions, afters = [version for version, _ in last.values()], [after for _, after in last.values()]
    asked = {"ledger": ledger, "balances": list(last), "versions": versions, "afters": afters}
    connection.execute(SQL["carry_again"], asked)
    return replace(batch, entries=[row for row in batch.entries if row[2] >= boundary])
