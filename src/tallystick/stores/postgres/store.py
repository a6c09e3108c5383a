"""The production store: ledgers in a PostgreSQL database.

Any number of processes may write one ledger: an append locks the ledger's head row first and compares it with where
its batch was decided. If the connection is lost while it commits, the outcome is unknown; it is found out before
anything else is done. Bytes are checked against their hashes whenever they are read, entries against their own
arithmetic; what does not add up is reported, never repaired.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from weakref import WeakSet

import psycopg

from tallystick.errors import InvalidInput, LedgerCorrupt, LedgerNotFound, NotPermitted, ReadOnly, Unavailable
from tallystick.stores.base import PART_BITS, Batch, Changes, Claim, Head, HeadMoved, NumberOf, TileRow
from tallystick.stores.postgres import migrations
from tallystick.stores.postgres.append import (
    COPIED_FROM,
    Numbers,
    add_few,
    add_head,
    add_projections,
    copy_events,
    copy_rows,
    follow,
    lock_head,
)
from tallystick.stores.postgres.archived import carry_again, is_archived
from tallystick.stores.postgres.changes import CatchingUp
from tallystick.stores.postgres.connections import (
    MAX_CONNECTIONS,
    RETRIED,
    WAIT_SECONDS,
    Borrowed,
    Connection,
    Link,
    Pool,
    Source,
    is_lost,
)
from tallystick.stores.postgres.periods import later, month_of, period_of
from tallystick.stores.postgres.reading import SQL, Reading
from tallystick.stores.postgres.wire import Trip, int4, int8
from tallystick.stores.sql import statements

ENTRIES_PER_SNAPSHOT = 4
"""A snapshot is due when so many entries per balance were posted since the last one."""
MONTHS_AHEAD = 2
"""So many months' partitions are made before they are needed."""


class PostgresStore(CatchingUp):
    """The store in a PostgreSQL database; see Store for what each method does.

    ``url`` is a libpq URL; it may name several hosts (``target_session_attrs=read-write`` finds the one that takes
    writes). ``create`` makes the schema where there is none. Raises Unavailable, NotPermitted, SchemaMismatch,
    LedgerNotFound (no schema, and ``create`` is off), InvalidInput.
    """

    shared = True
    epoch = 0

    def __init__(
        self, url: str, *, read_only: bool = False, create: bool = True, connections: int = MAX_CONNECTIONS
    ) -> None:
        super().__init__(Pool(url, connections=connections, on_connect=self._forget))
        self._read_only = read_only
        self._months: set[int] = set()
        self._upkeep: Source = self._source
        self._installation: object = None
        self._met: WeakSet[Link] = WeakSet()  # the callers' connections that lead to this installation
        try:
            with self._source.using() as connection:
                self._check_schema(connection, create=create and not read_only)
        except BaseException:
            self.close()
            raise

    def _check_schema(self, connection: Link, *, create: bool) -> None:
        name = self._source.name
        state = migrations.state(connection)
        if state == "absent" and create:
            migrations.migrate(connection)
        elif state == "absent":
            raise LedgerNotFound(path=name)
        migrations.require_current(connection, name)
        self._installation = self._row(connection, "installation")

    def close(self) -> None:
        self._source.close()

    def within(self, connection: Link) -> PostgresStore:
        """The same store inside a transaction of the caller's, who commits it or rolls it back.

        Raises InvalidInput unless the connection is one that can be used: of psycopg, and in a transaction, which a
        connection without autocommit begins by itself.
        """
        if not isinstance(connection, psycopg.Connection):
            raise InvalidInput(path="connection", problem="it is no psycopg.Connection")
        if connection.closed or connection.pgconn.pipeline_status:
            raise InvalidInput(path="connection", problem="it is closed, or in pipeline mode")
        if connection.info.encoding != "utf-8":
            raise InvalidInput(path="connection", problem="its client_encoding is not UTF8")
        if connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR:
            raise InvalidInput(path="connection", problem="its transaction has failed already: roll it back first")
        if connection.autocommit and connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            raise InvalidInput(path="connection", problem="it is in no transaction: begin one, or turn autocommit off")
        found = copy.copy(self)
        Reading.__init__(found, Borrowed(connection))  # its own connection, and nothing known
        if connection not in self._met:
            with found.savepoint():
                installation = found._row(connection, "installation")
            if installation != self._installation:
                raise InvalidInput(path="connection", problem=f"it leads to another database than {self._source.name}")
            self._met.add(connection)
        return found

    def savepoint(self) -> contextlib.AbstractContextManager[object]:
        assert isinstance(self._source, Borrowed), "only within a transaction of the caller's"
        return self._source.savepoint()

    def lock(self, ledger: str) -> None:
        id = self._place(ledger)
        with self._source.using() as connection:
            trip = Trip(connection)
            lock_head(trip, id)
            trip.send()
            self._do(connection, "keep_periods")
            left = self._row(connection, "archived_since", ledger=id)
        if left is not None:
            raise Unavailable(reason=f"{month_of(left[0])} was archived since this transaction began: begin it anew")

    # ------------------------------------------------------------ appending

    def append(self, batches: Iterable[Batch], *, epoch: int | None = None) -> None:
        following = iter(follow(batches))
        first = next(following, None)
        if first is None:
            return
        ledger = self._place(first.ledger)
        self._make_partitions(period_of(first.head.time))
        if isinstance(self._source, Borrowed):
            with self._source.using() as connection:
                Appending(self, connection, ledger, joins=True).append(chain([first], following))
            return
        with self._appending(ledger, epoch) as appending:
            appending.append(chain([first], following))

    @contextlib.contextmanager
    def claim(
        self, ledger: str, known: Head, *, epoch: int | None = None, number_of: NumberOf | None = None
    ) -> Iterator[Claim]:
        id = self._place(ledger)
        with self._appending(id, epoch) as appending:
            appending.lock(ledger, known, number_of)
            yield appending

    @contextlib.contextmanager
    def _appending(self, ledger: int, epoch: int | None) -> Iterator[Appending]:
        """One append on a connection of the pool's. If its outcome is unknown, it is found out."""
        appending: Appending | None = None
        unknown = False
        with self._source.writing() as connection:
            if epoch not in (None, self.epoch):  # now that there is a connection, and it leads where it leads
                raise HeadMoved
            try:
                appending = Appending(self, connection, ledger)
                yield appending
                appending.commit()
            except psycopg.Error as error:
                if isinstance(connection, Connection) and error.sqlstate == "26000":
                    connection.prepared = False
                unknown = is_lost(connection, error)
                if not unknown:
                    raise (HeadMoved() if _is_moved(error) else error) from error
            finally:
                if appending is None or not appending.done:
                    self._numbers.pop(ledger, None)  # what was numbered for this append came to nothing
        if unknown:
            self._forget()
            if appending is None or appending.last is None or not self._was_kept(ledger, appending.last):
                raise HeadMoved

    def _forget(self) -> None:
        """Keep nothing that was read: another server may have taken the place of the one that said it."""
        self.epoch += 1
        self._recent.clear()
        self._numbers.clear()
        self._ids.clear()

    def _was_kept(self, ledger: int, head: Head) -> bool:
        """Whether the events that lead to this head are in the journal, for good or not at all: whoever could still be
        committing them holds the head's lock, so that is waited for first."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            self._source.check()
            try:
                with self._source.using() as connection, connection.transaction():
                    trip = Trip(connection)
                    lock_head(trip, ledger)
                    trip.add("hash_at", int4(ledger), int8(head.seq))
                    *_, found = trip.send()
                    return found == [(head.hash,)]
            except (Unavailable, ReadOnly) as error:  # not yet back, or not yet promoted
                if time.monotonic() > deadline:
                    raise Unavailable(
                        reason=f"the connection was lost while committing, so ask again with the same keys ({error})"
                    ) from None
                time.sleep(0.1)

    def _check_writable(self) -> None:
        if self._read_only:
            raise ReadOnly(path=self._source.name)

    def _place(self, ledger: str) -> int:
        """The ledger's number; a new one gets it here."""
        self._check_writable()
        found = self._ids.get(ledger)
        if found is not None:
            return found
        with self._source.using() as connection, connection.transaction():
            self._do(connection, "add_ledger", name=ledger)
            row = self._row(connection, "ledger_number", name=ledger)
            self._do(connection, "add_head", ledger=row[0])
        found = self._ids[ledger] = int(row[0])
        return found

    def _make_partitions(self, period: int) -> None:
        """Once for each month, in each process: partitions for this month and the next ones. Raises NotPermitted for a
        month that was archived."""
        if period in self._months:
            return
        with self._upkeep.using() as connection:
            self._do(connection, "make_partitions", period=period)
            if is_archived(connection, period):
                month = month_of(period)
                reason = f"{month} was archived, so nothing more is posted to it: a clock says that it is {month} now"
                raise NotPermitted(url=self._upkeep.name, reason=reason)
            for ahead in range(1, MONTHS_AHEAD + 1):
                try:
                    self._do(connection, "make_partitions", period=later(period, ahead))
                except psycopg.errors.LockNotAvailable:  # somebody is at work on the tables, and there is time
                    break
        self._months.add(period)

    @contextlib.contextmanager
    def partitions(self, period: int) -> Iterator[None]:
        """With what is posted to in a month. If that has left for the archive since it was made, it is found out."""
        self._make_partitions(period)
        try:
            yield
        except psycopg.errors.CheckViolation as error:
            if error.diag.constraint_name is None:  # no partition takes the row
                self._months.discard(period)
                self._make_partitions(period)
            raise

    def _assets(self, connection: Link, ledger: int, batch: Batch, numbers: Numbers) -> list[tuple[int, str]]:
        """Give a batch's new balances their ids; the numbers of the assets among them that are new."""
        known = numbers.at == batch.expected
        if batch.balances and not known:  # others may have made balances since
            rows = self._rows(connection, "assets", ledger=ledger)
            numbers.of_asset = {asset: (number, count) for asset, number, count in rows}
            known = True
        added = [asset for balance, _, asset, _ in batch.balances if numbers.add(balance, asset)]
        numbers.at = batch.head if known else None
        return [(numbers.of_asset[asset][0], asset) for asset in added]

    # ------------------------------------------------------------ projections

    def rebuild(self, batches: Iterable[Batch]) -> None:
        """Takes the owner's rights, and stops all writing to this database until it is done."""
        self._check_writable()
        with self._source.using() as connection:
            try:
                with connection.transaction():
                    self._rebuild(connection, batches)
            finally:
                connection.close()  # psycopg let go of what was prepared on it when a table was altered

    def _rebuild(self, connection: Link, batches: Iterable[Batch]) -> None:
        connection.execute("SET LOCAL statement_timeout = 0")
        connection.execute(SQL["stop_all"])
        ledger: int | None = None
        for batch in batches:
            if ledger is None:
                ledger = self._clear(connection, batch.ledger)
            self._add_again(connection, ledger, batch)
        if ledger is not None:
            self._do(connection, "count_balances", ledger=ledger)
            for table in self._guarded(connection):
                connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")

    def _clear(self, connection: Link, name: str) -> int:
        """Remove what is derived from one ledger's events, with the guards set aside; events stay guarded."""
        ledger = self._id(connection, name)
        if ledger is None:
            raise LedgerNotFound(path=name)
        for table in self._guarded(connection):
            connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        for statement in statements("postgres/clear_projections.sql"):
            connection.execute(statement, {"ledger": ledger})
        self._numbers.pop(ledger, None)
        return ledger

    def _guarded(self, connection: Link) -> list[str]:
        """The tables, with their partitions, whose guards a rebuild sets aside."""
        return [table for (table,) in self._rows(connection, "guarded")]

    def _add_again(self, connection: Link, ledger: int, batch: Batch) -> None:
        """A batch's rows, each in the period in which its event was appended."""
        numbers = self._known(ledger)
        assets = self._assets(connection, ledger, batch, numbers)
        before = batch.head.seq
        standing = self._standing(connection, ledger)
        batch = carry_again(connection, ledger, standing.boundary, batch, numbers)
        for period, first, end in standing.stretches():
            low, high = max(first, batch.expected.seq), min(end, before)
            if low >= high:
                continue
            part = Batch(ledger=batch.ledger, expected=batch.expected, head=batch.head, bodies=[])
            for name, column in (("entries", 2), ("keys", 1), ("references", 2)):
                setattr(part, name, [row for row in getattr(batch, name) if low <= row[column] < high])
            if high == before:
                part.balances, part.backdated, part.objects = batch.balances, batch.backdated, batch.objects
            trip = Trip(connection, prepared=False)
            add_projections(trip, ledger, period, part, numbers, assets if high == before else ())
            trip.send()
            copy_rows(connection, ledger, period, part, numbers)

    def keep_log(self, ledger: str, tiles: Sequence[TileRow], size: int, note: bytes) -> None:
        id = self._place(ledger)
        with self._source.using() as connection, connection.transaction():
            if tiles:
                # Sorted, so that two who write the same tiles do not wait in a circle.
                levels, numbers, hashes = zip(*sorted(tiles), strict=True)
                asked = {"levels": list(levels), "numbers": list(numbers), "hashes": list(hashes)}
                self._do(connection, "put_tiles", ledger=id, **asked)
            if note:
                self._do(connection, "add_checkpoint", ledger=id, size=size, note=note)

    def erase(self, ledger: str, commitments: Sequence[str]) -> int:
        self._check_writable()
        with self._source.using() as connection:
            asked = {"ledger": self._id(connection, ledger), "commitments": list(commitments)}
            return len(self._rows(connection, "erase", **asked))

    def snapshot(self, ledger: str) -> bool:
        self._check_writable()
        with self._source.using() as connection, connection.transaction():
            id = self._id(connection, ledger)
            if id is None:
                return False
            standing = self._standing(connection, id)
            new = standing.head.seq >> PART_BITS
            posted = (new - (standing.snapshot or 0)) << (PART_BITS + 1)
            if new == (standing.snapshot or 0) or posted < ENTRIES_PER_SNAPSHOT * standing.head.balances:
                return False
            asked = {**self._tail(standing, new << PART_BITS), "part": standing.snapshot, "new": new, "ledger": id}
            connection.execute("SET LOCAL statement_timeout = 0")
            self._by_index(connection)
            self._do(connection, "add_snapshot", **asked)
            self._do(connection, "add_snapshot_point", ledger=id, new=new)
        return True

    def keep(self, ledger: str, name: str, body: bytes) -> None:
        self._check_writable()
        with self._source.using() as connection:
            id = self._id(connection, ledger)
            if id is not None:
                kept = hashlib.sha256(body).digest() + body
                self._do(connection, "put_cache", ledger=id, name=name, body=kept)


class Appending:
    """An append under way: everything that it does is one transaction on one connection.

    ``joins``: it is part of the caller's transaction, which the caller ends.
    """

    changes: Changes | None = None

    def __init__(self, store: PostgresStore, connection: Link, ledger: int, *, joins: bool = False) -> None:
        self._store = store
        self._connection = connection
        self._ledger = ledger
        self._begun = joins
        self.done = joins
        self.last: Head | None = None
        """The head that the last batch led to."""

    def lock(self, name: str, known: Head, number_of: NumberOf | None = None) -> None:
        """Keep all others from appending, and read what they did."""
        trip = Trip(self._connection)
        trip.add("begin")
        lock_head(trip, self._ledger)
        self._begun = True
        *_, found = trip.send()
        if not found:
            raise HeadMoved
        head = Head(*found[0])
        if head != known:
            self.changes = self._store._changes(self._connection, name, self._ledger, known, head, number_of)
            if self.changes is None:
                self._store._forget()  # another history has taken this one's place: all must be read anew
                raise HeadMoved

    def append(self, batches: Iterable[Batch]) -> None:
        following = iter(batches)
        batch = next(following, None)
        while batch is not None:
            with self._store.partitions(period_of(batch.head.time)):  # a claim may last into another month
                if len(batch.bodies) >= COPIED_FROM:
                    self._copy(batch)
                    self.last, batch = batch.head, next(following, None)
                else:
                    after = next(following, None)
                    self._send(batch, ends=after is None)
                    self.last, batch = batch.head, after

    def _trip(self, batch: Batch, *, whole: bool = False) -> tuple[Trip, Numbers]:
        """A trip that moves the head; unless it is the whole append, it begins the transaction if nothing has."""
        connection, ledger = self._connection, self._ledger
        numbers = self._store._known(ledger)
        assets = self._store._assets(connection, ledger, batch, numbers)
        touched = {row[0] for row in batch.entries} | {row[0] for row in batch.backdated}
        self._store._learn(connection, ledger, touched, numbers)
        if numbers.unknown(touched):  # the batch stands on what is not here
            self._check_head(batch)
        trip = Trip(connection)
        if not self._begun and not whole:
            trip.add("begin")
            self._begun = True
        add_head(trip, ledger, batch)
        add_projections(trip, ledger, period_of(batch.head.time), batch, numbers, assets)
        return trip, numbers

    def _check_head(self, batch: Batch) -> None:
        """Raises HeadMoved if the ledger is elsewhere, else LedgerCorrupt: the batch names a balance never made."""
        row = self._store._row(self._connection, "head", ledger=self._ledger)
        if row is None or Head(*row) != batch.expected:
            raise HeadMoved
        raise LedgerCorrupt(where=f"ledger {batch.ledger}", problem="a batch names a balance that was never made")

    def _send(self, batch: Batch, *, ends: bool) -> None:
        """A small batch in one trip, with the commit if it is the last. If it is the whole append, the trip is the
        transaction: what is sent together is one, if nothing in it begins another."""
        trip, numbers = self._trip(batch, whole=ends and not self._begun)
        add_few(trip, self._ledger, period_of(batch.head.time), batch, numbers)
        if ends and self._begun and not self.done:
            trip.add("commit")
        if ends:
            self.last = batch.head
        trip.send()
        self.done = ends or self.done

    def _copy(self, batch: Batch) -> None:
        trip, numbers = self._trip(batch)
        trip.send()
        period = period_of(batch.head.time)
        copy_events(self._connection, self._ledger, period, batch)
        copy_rows(self._connection, self._ledger, period, batch, numbers)

    def commit(self) -> None:
        """Make it durable."""
        if self._begun and not self.done:
            self._connection.execute("COMMIT")
            self.done = True


def _is_moved(error: psycopg.Error) -> bool:
    """Whether the head was elsewhere, or the database asks for another try."""
    if error.sqlstate in RETRIED:
        return True
    return error.sqlstate == "23502" and error.diag.table_name == "head" and error.diag.column_name == "seq"
