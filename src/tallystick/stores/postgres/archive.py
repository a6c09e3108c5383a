"""The archive run: closed periods that are older than the retention policy leave the database for Parquet files.

A period is written to two files, which are read back and checked against themselves and against each other: every event
hashes to what the next one names, and the entries are those that the events say. Only then, in one transaction, is it
written down where the files lie and where the period left each balance, and its partitions are dropped. Whatever stops
a run before that leaves the period where it was, and the run is simply repeated: the files are named by what they hold.

Periods leave oldest first, so of each ledger it is always the beginning that lies in the archive. Keys, references,
balances and records stay in the database: a key that was used in an archived period is never accepted again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import psycopg
from msgspec import Struct
from psycopg import sql

from tallystick.clock import Clock, system_clock
from tallystick.errors import InvalidInput, LedgerCorrupt, NotPermitted, Unavailable
from tallystick.events import GENESIS, Event
from tallystick.journal import check_link, decode_event
from tallystick.stores import chunks
from tallystick.stores.base import PART_BITS
from tallystick.stores.postgres import parquet
from tallystick.stores.postgres.archived import SQL, is_archived
from tallystick.stores.postgres.connections import Link
from tallystick.stores.postgres.parquet import KINDS, Kind
from tallystick.stores.postgres.periods import later, month_of, period_of
from tallystick.stores.postgres.reading import SQL as READING
from tallystick.stores.postgres.store import PostgresStore

MAX_YEARS = 1_000
LOCK_SECONDS = 60.0
"""How long a run tries to have the tables to itself for an instant."""
EVENT_LOCK, ENTRY_LOCK = "300ms", "50ms"
"""How long it waits at a time, with everybody else behind it; for the second table while it holds the first."""

PARTIAL = ".partial"
"""How the name of a file ends that is still being written."""

Progress = Callable[[int, int], None]
"""Told (periods done, of how many)."""

_EntryOfEvent = tuple[str, str, str, int, int, int, int, int]
"""(account, asset, bucket, version, seq, amount, before, after)."""


class File(Struct, frozen=True):
    """A file of the archive, as the database knows it."""

    period: int
    kind: Kind
    path: str
    sha256: str
    rows: int
    bytes: int
    archived: str


class Closed(Struct, frozen=True):
    """A closed period that is still in the database; ``bytes`` is what it takes there."""

    period: int
    ledgers: int
    events: int
    bytes: int


class Plan(Struct, frozen=True):
    """What a run would move: the closed periods before ``before``, by the policy of so many years or as was asked."""

    years: int
    before: int
    periods: list[Closed]


class Stretch(Struct, frozen=True):
    """The events of one ledger in a period, from ``first`` up to ``before``."""

    ledger: str
    first: int
    before: int


class Moved(Struct, frozen=True):
    """What became of the files that were looked for in a new place; ``left``: which were not found there, and why."""

    moved: list[File]
    left: list[tuple[File, str]]


def first_open(now: str, years: int) -> int:
    """The first period that does not lie wholly before ``now`` less so many years."""
    return later(period_of(now), -12 * years)


def parse_month(text: str) -> int:
    """The period of a text such as 2019-11. Raises InvalidInput."""
    year, _, number = text.partition("-")
    if not (text.isascii() and len(text) == 7 and year.isdigit() and number.isdigit() and 1 <= int(number) <= 12):
        raise InvalidInput(path="before", problem=f"{text!r} is not a month such as 2019-11")
    return period_of(text)


class Archiver:
    """The archive of one database. Use it as a context manager, or close it.

    All that changes anything takes the rights of the owner of the tables. Raises what opening a PostgresStore raises.
    """

    def __init__(self, url: str, *, clock: Clock = system_clock) -> None:
        self._store = PostgresStore(url, create=False)
        self._source = self._store._source
        self._clock = clock
        self.lock_seconds = LOCK_SECONDS

    def close(self) -> None:
        self._store.close()

    def __enter__(self) -> Archiver:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ------------------------------------------------------------ what there is

    @property
    def years(self) -> int:
        """The policy: for how many years a period stays in the database at the least."""
        with self._source.using() as connection:
            return int(_rows(connection, "retention")[0][0])

    def set_years(self, years: int) -> None:
        """Change the policy. Raises InvalidInput, NotPermitted."""
        if not 1 <= years <= MAX_YEARS:
            raise InvalidInput(path="retention_years", problem=f"{years} is not 1 to {MAX_YEARS}")
        self._require_owner()
        with self._source.using() as connection:
            connection.execute(SQL["set_retention"], {"years": years, "now": self._clock()})

    def files(self) -> list[File]:
        """The files of the archive, oldest period first."""
        with self._source.using() as connection:
            return [File(*row) for row in _rows(connection, "archived")]

    def plan(self, before: str = "") -> Plan:
        """What a run would move, up to the policy or to an earlier month such as 2019-11. Raises InvalidInput for a
        later one."""
        years = self.years
        limit = first_open(self._clock(), years)
        asked = parse_month(before) if before else limit
        if asked > limit:
            problem = (
                f"{before} is too late: by the policy of {years} years only what is before {month_of(limit)} may go"
            )
            raise InvalidInput(path="before", problem=problem)
        with self._source.using() as connection:
            return Plan(years, asked, [Closed(*row) for row in _rows(connection, "periods", before=asked)])

    def _require_owner(self) -> None:
        with self._source.using() as connection:
            owner, user, may = _rows(connection, "owner")[0]
        if not may:
            reason = f"only {owner}, who owns the tables, may change the archive, and this is {user}"
            raise NotPermitted(url=self._source.name, reason=reason)

    # ------------------------------------------------------------ a run

    def run(self, folder: Path, before: str = "", progress: Progress | None = None) -> list[File]:
        """Move every period of the plan to files in a folder; the files, period by period.

        Raises InvalidInput, NotPermitted, LedgerCorrupt if what is to be moved does not add up, Unavailable if the
        tables were in use all the time. What was moved before that stays moved, and nothing else has changed.
        """
        parquet.require()
        self._require_owner()
        if not folder.is_dir():
            raise InvalidInput(path="to", problem=f"{str(folder)!r} is no folder")
        periods = self.plan(before).periods
        found: list[File] = []
        _sweep(folder)
        for index, closed in enumerate(periods):
            found += self._archive(closed.period, folder.resolve())
            if progress is not None:
                progress(index + 1, len(periods))
        return found

    def _archive(self, period: int, folder: Path) -> list[File]:
        """Move one period. Nothing is in the way of another run that does the same."""
        with contextlib.ExitStack() as held:
            written = {kind: held.enter_context(_partial(folder, f"{kind}-{month_of(period)}")) for kind in KINDS}
            stretches, rows = self._write(period, written)
            if not stretches:
                return []
            self._verify(stretches, written)
            files = [self._name(period, kind, path, rows[kind]) for kind, path in written.items()]
        _flush(folder)
        return files if self._let_go(period, stretches, files) else []

    def _write(self, period: int, written: dict[Kind, Path]) -> tuple[list[Stretch], dict[Kind, int]]:
        """Write the files, from one snapshot; what they must hold, and how many rows each has."""
        rows: dict[Kind, int] = {}
        with self._source.using() as connection:
            connection.execute(READING["begin_reading"])
            _take_time(connection)
            if is_archived(connection, period):
                return [], rows  # another run was quicker
            stretches = [Stretch(*row) for row in _rows(connection, "stretches", period=period)]
            ledgers = {stretch.ledger: [stretch.first, stretch.before] for stretch in stretches}
            about = {"period": month_of(period), "ledgers": ledgers}
            for kind, path in written.items():
                with connection.cursor(f"tallystick_{kind}", binary=True) as cursor:
                    cursor.execute(SQL[kind], {"period": period})
                    rows[kind] = parquet.write(path, kind, about, cursor.fetchmany)
                there = _rows(connection, f"count_{kind}", period=period)[0][0]
                if rows[kind] != there:
                    problem = f"{there - rows[kind]} of its rows are of no known ledger or balance"
                    raise LedgerCorrupt(where=f"{kind} of {month_of(period)}", problem=problem)
            connection.execute("COMMIT")
        return stretches, rows

    def _verify(self, stretches: Sequence[Stretch], written: dict[Kind, Path]) -> None:
        """Read the files back, and see that they are whole, and that what stays goes on where they end."""
        hashes = check(stretches, written["event"], written["entry"])
        for stretch in stretches:
            following = self._store.event(stretch.ledger, stretch.before)
            if following is not None:
                check_link(decode_event(following), stretch.before, hashes[stretch.ledger])

    def _name(self, period: int, kind: Kind, written: Path, rows: int) -> File:
        """Give a file its name, which says what it holds: so no other file can be in its place."""
        sha256, size = parquet.digest(written)
        path = written.with_name(f"{kind}-{month_of(period)}-{sha256[:16]}.parquet")
        written.replace(path)
        return File(period, kind, str(path), sha256, rows, size, self._clock())

    def _let_go(self, period: int, stretches: list[Stretch], files: Sequence[File]) -> bool:
        """Write down where the period lies, and drop it, in one transaction; whether no other run was quicker."""
        with self._source.using() as connection:
            try:
                connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
                _take_time(connection)
                connection.execute(SQL["lock_archive"])
                if is_archived(connection, period):
                    return False
                connection.execute(SQL["carry"], {"period": period})
                for file in files:
                    connection.execute(SQL["add_file"], {name: getattr(file, name) for name in File.__struct_fields__})
                self._drop_undisturbed(connection, period, stretches)
                connection.execute("COMMIT")
                return True
            finally:
                connection.close()  # psycopg let go of what was prepared on it when a table was dropped

    def _drop_undisturbed(self, connection: Link, period: int, stretches: list[Stretch]) -> None:
        """Drop the partitions. While this waits for a lock, everybody waits behind it; so it waits for a moment only,
        time after time."""
        deadline, pause = time.monotonic() + self.lock_seconds, 0.05
        while True:
            connection.execute("SAVEPOINT undisturbed")
            try:
                self._drop(connection, period, stretches)
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                connection.execute("ROLLBACK TO SAVEPOINT undisturbed")
            else:
                return
            if time.monotonic() > deadline:
                reason = f"the tables were in use all the time, so {month_of(period)} stays where it is: try again"
                raise Unavailable(reason=reason)
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    def _drop(self, connection: Link, period: int, stretches: list[Stretch]) -> None:
        """First the table that every writer locks first: who waits for one then holds nothing that this waits for."""
        connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(EVENT_LOCK))
        connection.execute(SQL["lock_event"])
        connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(ENTRY_LOCK))
        connection.execute(SQL["lock_entry"])
        if [Stretch(*row) for row in _rows(connection, "stretches", period=period)] != stretches:
            raise Unavailable(reason=f"{month_of(period)} was posted to while it was being archived: try again")
        for kind in KINDS:
            leaf = sql.Identifier("tallystick", f"{kind}_{period:06}")
            connection.execute(sql.SQL("DROP TABLE {}").format(leaf))

    # ------------------------------------------------------------ another place

    def move(self, folder: Path) -> Moved:
        """Write down that files lie in this folder now, each if it does, unaltered. Raises NotPermitted."""
        self._require_owner()
        moved: list[File] = []
        left: list[tuple[File, str]] = []
        with self._source.using() as connection, connection.transaction():
            connection.execute(SQL["lock_archive"])
            for file in [File(*row) for row in _rows(connection, "archived")]:
                path = folder.resolve() / Path(file.path).name
                problem = _problem(path, file.sha256)
                if problem:
                    left.append((file, problem))
                else:
                    asked = {"period": file.period, "kind": file.kind, "sha256": file.sha256, "path": str(path)}
                    connection.execute(SQL["move_file"], asked)
                    moved.append(File(file.period, file.kind, str(path), *_rest(file)))
        return Moved(moved, left)


def _rest(file: File) -> tuple[str, int, int, str]:
    return file.sha256, file.rows, file.bytes, file.archived


def _problem(path: Path, sha256: str) -> str:
    """Why a file is not the one with this digest; empty if it is."""
    try:
        found, _ = parquet.digest(path)
    except FileNotFoundError:
        return f"there is no {path}"
    except OSError as error:
        return f"{path} cannot be read: {error}"
    return "" if found == sha256 else f"{path} was altered: its SHA-256 is {found}"


def _rows(connection: Link, query: str, **values: Any) -> list[Any]:
    return connection.execute(SQL[query], values).fetchall()


def _take_time(connection: Link) -> None:
    """This transaction may take as long as it needs."""
    for setting in ("statement_timeout", "idle_in_transaction_session_timeout"):
        connection.execute(sql.SQL("SET LOCAL {} = 0").format(sql.Identifier(setting)))


@contextlib.contextmanager
def _partial(folder: Path, name: str) -> Iterator[Path]:
    """A new file, which is removed in the end if it was given no other name. The operating system knows it for ours as
    long as this process lives, so that what a killed run left can be told from what another one is writing."""
    while True:
        path = folder / f".{name}-{secrets.token_hex(4)}{PARTIAL}"
        with path.open("xb") as file:
            with contextlib.suppress(OSError):  # a folder that knows no locks: what is left there stays
                fcntl.flock(file, fcntl.LOCK_EX)
            if not os.fstat(file.fileno()).st_nlink:  # another run took it for a leftover before it was locked
                continue
            try:
                yield path
            finally:
                path.unlink(missing_ok=True)
            return


def _sweep(folder: Path) -> None:
    """Remove what runs left that were killed while they wrote."""
    for kind in KINDS:
        for path in folder.glob(f".{kind}-*{PARTIAL}"):
            with contextlib.suppress(OSError), path.open("r+b") as file:  # it is somebody's, or has just gone
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def _flush(folder: Path) -> None:
    """Have the disk know the names in a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------- checking


def check(stretches: Sequence[Stretch], events: Path, entries: Path) -> dict[str, str]:
    """The hash of the last event of each ledger, if these two files hold all of these events, each as its hash says,
    and the entries that the events say and no others. Raises LedgerCorrupt."""
    last: dict[str, str] = {}
    groups = groupby(parquet.read_all(entries, "entry"), key=lambda row: (row[0], row[6] >> PART_BITS))
    group = next(groups, None)
    for ledger, part, expected in _parts(stretches, events, last):
        found: list[_EntryOfEvent] = []
        if group is not None and group[0] == (ledger, part):
            found = [row[2:] for row in group[1]]
            group = next(groups, None)
        wrong = set(found) ^ set(expected)
        if wrong or len(found) != len(expected):
            where = f"event {ledger}/{min((row[4] for row in wrong), default=part << PART_BITS)}"
            raise LedgerCorrupt(where=where, problem="its entries are not what it says")
    if group is not None:
        raise LedgerCorrupt(where=f"entries of {group[0][0]}", problem="they belong to no event")
    return last


def _parts(
    stretches: Sequence[Stretch], events: Path, last: dict[str, str]
) -> Iterator[tuple[str, int, list[_EntryOfEvent]]]:
    """(ledger, part, entries) as the events of a file say, with each ledger's last hash in ``last``."""
    wanted = {stretch.ledger: stretch for stretch in stretches}
    for ledger, rows in groupby(parquet.read_all(events, "event"), key=itemgetter(0)):
        stretch = wanted.pop(ledger, None)
        if stretch is None:
            raise LedgerCorrupt(where=f"events of {ledger}", problem="they are in a period that the ledger is not in")
        part = stretch.first >> PART_BITS
        entries: list[_EntryOfEvent] = []
        for event in _events(stretch, rows, last):
            if event.seq >> PART_BITS != part:
                yield ledger, part, entries
                part, entries = event.seq >> PART_BITS, []
            for e in event.entries:
                entries.append((e.account, e.asset, e.bucket, e.version, event.seq, e.amount, e.before, e.after))
        yield ledger, part, entries
    if wanted:
        missing = wanted[min(wanted)]
        raise LedgerCorrupt(where=f"event {missing.ledger}/{missing.first}", problem="it is missing")


def _events(stretch: Stretch, rows: Iterable[tuple[Any, ...]], last: dict[str, str]) -> Iterator[Event]:
    """The events of one ledger, which must be all of the stretch and each behind the one before."""
    ledger, expected = stretch.ledger, stretch.first
    hash_before = "" if stretch.first else GENESIS
    for _, seq, count, encoding, recorded, hash, body in rows:
        if seq != expected:
            raise LedgerCorrupt(where=f"event {ledger}/{expected}", problem="it is missing")
        chunks.check_last(ledger, seq, count, recorded, hash, body)
        bodies = chunks.unpack(ledger, seq, count, hash, encoding, body)
        events = [decode_event(one) for one in bodies]
        check_link(events[0], seq, hash_before or events[0].prev)
        yield from events
        expected, hash_before = seq + count, hash
    if expected != stretch.before:
        raise LedgerCorrupt(where=f"event {ledger}/{expected}", problem="it is missing")
    last[ledger] = hash_before
