"""Archive runs: whatever stops one loses nothing, whatever does not add up stops one, and nobody else has to stop."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

import tallystick
from tallystick import commands as c
from tallystick.errors import InsufficientFunds, InvalidInput, LedgerCorrupt, NotPermitted, Unavailable
from tallystick.stores.postgres import archive, migrations, parquet
from tallystick.stores.postgres.archive import Archiver
from tallystick.stores.postgres.store import PostgresStore
from tests.conftest import NewDatabase
from tests.postgres.test_archive import (
    EUR,
    MONTHS,
    NOW,
    USD,
    Books,
    Time,
    alter,
    archived,
    books,
    folder,
    glance,
    hide,
    partitions,
    query,
)

__all__ = ["archived", "books", "folder"]

PATIENCE = 60.0
"""How long a test waits for what must come, in seconds."""


class Stopped(BaseException):
    """Stands in for whatever ends a run."""


def state(url: str) -> list[Any]:
    """What is written down of the archive, and what it left."""
    return [
        query(url, "SELECT period, kind, path, sha256, rows FROM tallystick.archive ORDER BY period, kind"),
        query(url, "SELECT * FROM tallystick.carried ORDER BY ledger, balance"),
        sorted(partitions(url)),
    ]


# ---------------------------------------------------------------- a run that is stopped

STEPS = {
    "before anything is written": ("_write", "before"),
    "when the files are written": ("_write", "after"),
    "when they are read back": ("_verify", "after"),
    "when they have their names": ("_let_go", "before"),
    "when the archive is written down": ("_drop_undisturbed", "before"),
    "when the partitions are dropped": ("_drop_undisturbed", "after"),
    "when all is done": ("_let_go", "after"),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_run_that_is_stopped_loses_nothing_and_is_repeated(
    books: Books, folder: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = glance(books)
    books.archive(folder, "2018-02")
    name, when = STEPS[step]
    real: Callable[..., Any] = getattr(Archiver, name)

    def stop(*arguments: Any) -> Any:
        if when == "after":
            real(*arguments)
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(Archiver, name, stop)
        with pytest.raises(Stopped):
            books.archive(folder)
    done = step == "when all is done"
    assert [row[0] for row in state(books.url)[0]] == [201801] * 2 + [201802] * 2 * done
    assert len(partitions(books.url)) == 2 * (len(MONTHS) - done)
    assert glance(books) == before
    assert {file.period for file in books.archive(folder)} == set(MONTHS[1 + done :])
    assert glance(books) == before
    assert len(list(folder.iterdir())) == 2 * len(MONTHS), "each file once, by the name of what it holds"


@pytest.mark.parametrize("step", ["_verify", "_let_go", "_drop"])
def test_a_run_that_is_killed_loses_nothing_and_is_repeated(books: Books, folder: Path, step: str) -> None:
    before = glance(books)
    script = f"""
        import os, signal
        from pathlib import Path
        from tallystick.stores.postgres.archive import Archiver

        def die(*arguments):
            real(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        real, Archiver.{step} = Archiver.{step}, die
        Archiver({books.url!r}, clock=lambda: {NOW!r}).run(Path({str(folder)!r}))
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, timeout=PATIENCE)
    assert ended.returncode == -signal.SIGKILL
    assert glance(books) == before
    assert len(list(folder.glob(".*.partial"))) == (2 if step == "_verify" else 0)
    books.archive(folder)
    assert glance(books) == before
    assert len(partitions(books.url)) == 2
    assert list(folder.glob(".*")) == []


def test_what_another_run_is_writing_is_left_to_it(books: Books, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole run goes by while the files of another one are being checked; others' files are nobody's business."""
    before = glance(books)
    others = [folder / ".partial", folder / ".event-2018-01-0000.parquet", folder / "event-2018-01-0000.partial"]
    for path in others:
        path.write_bytes(b"another one's")
    verify = Archiver._verify

    def meanwhile(self: Archiver, *arguments: Any) -> None:
        monkeypatch.setattr(Archiver, "_verify", verify)
        script = f"""
            from pathlib import Path
            from tallystick.stores.postgres.archive import Archiver
            Archiver({books.url!r}, clock=lambda: {NOW!r}).run(Path({str(folder)!r}), "2018-02")
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=PATIENCE)
        assert len(list(folder.glob(".*.partial"))) == 2
        verify(self, *arguments)

    monkeypatch.setattr(Archiver, "_verify", meanwhile)
    assert {file.period for file in books.archive(folder)} == set(MONTHS[1:])
    assert glance(books) == before
    for path in others:
        path.unlink()


def test_a_run_whose_connection_is_cut_while_it_commits_is_repeated(books: Books, folder: Path) -> None:
    before = glance(books)
    books.time.now = NOW
    with books.archiver() as archiver:
        drop = archiver._drop

        def cut(connection: Any, *arguments: Any) -> None:
            drop(connection, *arguments)
            query(books.url, f"SELECT pg_terminate_backend({connection.info.backend_pid})")

        archiver._drop = cut  # type: ignore[method-assign]
        with pytest.raises(Unavailable) as raised:
            archiver.run(folder)
        assert raised.value.retryable
        archiver._drop = drop  # type: ignore[method-assign]
        assert glance(books) == before
        archiver.run(folder)
    assert glance(books) == before
    assert len(partitions(books.url)) == 2


def test_two_runs_at_once_move_each_period_once(books: Books, folder: Path) -> None:
    before = glance(books)

    def run() -> int:
        while True:
            try:
                with books.archiver() as archiver:
                    return len(archiver.run(folder))
            except Unavailable:
                continue

    with ThreadPoolExecutor(2) as pool:
        counts = [future.result(PATIENCE) for future in [pool.submit(run), pool.submit(run)]]
    assert sum(counts) <= 2 * len(MONTHS)
    assert len(state(books.url)[0]) == 2 * len(MONTHS)
    assert glance(books) == before


def test_the_same_period_makes_the_same_files(books: Books, new_database: NewDatabase, tmp_path: Path) -> None:
    twin = Books(new_database())
    twin.write()
    made = []
    for one, name in ((books, "one"), (twin, "other")):
        place = tmp_path / name
        place.mkdir()
        one.archive(place)
        made.append({path.name: path.read_bytes() for path in place.iterdir()})
    assert made[0] == made[1]


def test_a_file_that_is_in_the_place_of_one_is_replaced(books: Books, folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "trial"
    elsewhere.mkdir()
    with books.archiver() as archiver, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Archiver, "_let_go", lambda *_: True)
        names = [Path(file.path).name for file in archiver.run(elsewhere, "2018-02")]
    for name in names:
        (folder / name).write_bytes(b"half of a copy")
    before = glance(books)
    books.archive(folder)
    assert glance(books) == before


# ---------------------------------------------------------------- what does not add up


def replaced(period: int, seq: int, old: str, new: str) -> str:
    """Puts another event, with its own hash, in the place of one."""
    return f"""
        UPDATE tallystick.event_{period} SET (body, hash) = (
            SELECT made, encode(sha256('\\x00'::bytea || made), 'hex')
            FROM (SELECT regexp_replace(convert_from(body, 'UTF8'), '{old}', '{new}')::bytea AS made) AS other
        ) WHERE seq = {seq}"""


DAMAGES = {
    "an entry that was altered": "UPDATE tallystick.entry_201802 SET amount = amount + 1, after = after + 1 "
    "WHERE seq = 53 AND amount < 0",
    "an entry of another balance": "UPDATE tallystick.entry_201802 SET balance = balance + 1 "
    "WHERE (seq, balance) = (SELECT max(seq), max(balance) FROM tallystick.entry_201802)",
    "an entry too few": "DELETE FROM tallystick.entry_201802 WHERE seq = 53 AND amount < 0",
    "an entry too many": "INSERT INTO tallystick.entry_201802 "
    "SELECT ledger, period, balance, version + 50, seq, amount, before, after FROM tallystick.entry_201802 LIMIT 1",
    "an entry of no known balance": "UPDATE tallystick.entry_201802 SET balance = 99 WHERE seq = 53 AND amount < 0",
    "an event that was altered": "UPDATE tallystick.event_201802 "
    "SET body = overlay(body PLACING 'X' FROM 20) WHERE seq = 53",
    "an event with another hash": "UPDATE tallystick.event_201802 SET hash = repeat('0', 64) WHERE seq = 53",
    "an event that is missing": "DELETE FROM tallystick.event_201802 WHERE seq = 53",
    "the last event missing": "DELETE FROM tallystick.event_201802 WHERE seq = 55",
    "the first event missing": "DELETE FROM tallystick.event_201802 WHERE seq = 51",
    "all events missing": "DELETE FROM tallystick.event_201802",
    "an event twice": "INSERT INTO tallystick.event_201802 SELECT ledger, period, seq + 1000, count, encoding, time, "
    "hash, body FROM tallystick.event_201802 WHERE seq = 53",
    "an event of another ledger": "INSERT INTO tallystick.event_201802 SELECT ledger + 1, period, seq, count, "
    "encoding, time, hash, body FROM tallystick.event_201802 WHERE seq = 53",
    "an event of no ledger": "INSERT INTO tallystick.event_201802 SELECT 99, period, seq, count, encoding, time, hash, "
    "body FROM tallystick.event_201802 WHERE seq = 53",
    "an event that what follows does not name": "UPDATE tallystick.event_201802 SET (time, hash, body) = "
    "(SELECT time, hash, body FROM tallystick.event_201802 WHERE seq = 54) WHERE seq = 55",
    "an event that was replaced": replaced(201802, 53, '"k54"', '"x54"'),
    "the last event replaced": replaced(201802, 55, '"k56"', '"x56"'),
    "a following event that names another": replaced(201903, 56, '"prev":"....', '"prev":"0000'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_period_that_does_not_add_up_stays_where_it_is(books: Books, folder: Path, damage: str) -> None:
    books.archive(folder, "2018-02")
    with psycopg.connect(books.url) as connection:
        for table in ("event_201802", "entry_201802", "event_201903"):
            connection.execute(f"ALTER TABLE tallystick.{table} DISABLE TRIGGER USER".encode())
        assert connection.execute(DAMAGES[damage].encode()).rowcount
    before = state(books.url)
    with pytest.raises(LedgerCorrupt):
        books.archive(folder, "2018-03")
    assert state(books.url) == before
    with pytest.raises(LedgerCorrupt):
        books.archive(folder)
    assert state(books.url) == before, "nothing younger goes before it"


@pytest.mark.parametrize(("seq", "last"), [(0, 0), (2, 2), (3, 3), (0, 3)])
def test_events_without_entries_are_missed_too(books: Books, folder: Path, seq: int, last: int) -> None:
    with tallystick.open(books.url, clock=Time("2018-02-20T00:00:00.000000Z")) as database:
        for name in ("one", "two", "three"):
            database.ledger("quiet").open_account(f"users:{name}", key=name)
    with psycopg.connect(books.url) as connection:
        connection.execute("ALTER TABLE tallystick.event_201802 DISABLE TRIGGER USER")
        quiet = "(SELECT id FROM tallystick.ledger WHERE name = 'quiet')"
        delete = f"DELETE FROM tallystick.event_201802 WHERE seq BETWEEN {seq} AND {last} AND ledger = {quiet}"
        assert connection.execute(delete.encode()).rowcount
    with pytest.raises(LedgerCorrupt, match=f"event quiet/{seq}: it is missing"):
        books.archive(folder)
    assert [row[0] for row in state(books.url)[0]] == [201801] * 2


@pytest.mark.parametrize("kind", ["event", "entry"])
def test_what_was_written_wrongly_is_noticed_before_anything_is_dropped(
    books: Books, folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = parquet.write

    def wrong(path: Path, of: parquet.Kind, about: Any, fetch: Callable[[int], Any]) -> int:
        count = write(path, of, about, fetch)
        if of == kind:
            alter(path)
        return count

    before = state(books.url)
    monkeypatch.setattr(parquet, "write", wrong)
    with pytest.raises((LedgerCorrupt, OSError)):
        books.archive(folder)
    assert state(books.url) == before


def test_a_folder_that_is_none_is_refused(books: Books, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for place in (tmp_path / "nowhere", file):
        with pytest.raises(InvalidInput, match="is no folder"):
            books.archive(place)
    assert len(partitions(books.url)) == 2 * (len(MONTHS) + 1)


# ---------------------------------------------------------------- others at work


@contextmanager
def going_on(work: Callable[[], None]) -> Iterator[list[float]]:
    """Have a thread do something again and again meanwhile; how long each time took. What it raises fails the test."""
    seconds: list[float] = []
    failures: list[BaseException] = []
    enough = threading.Event()

    def go_on() -> None:
        try:
            while not enough.is_set():
                began = time.monotonic()
                work()
                seconds.append(time.monotonic() - began)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield seconds
    finally:
        enough.set()
        thread.join(PATIENCE)
    assert failures == []


def test_posting_and_reading_go_on_while_periods_are_archived(books: Books, folder: Path) -> None:
    with books.open() as writing, books.open() as other, books.open(read_only=True) as reading:
        ledger = reading.ledger()
        expected = whole(ledger)
        posted: list[int] = []
        other.ledger("main")

        def post() -> None:
            for database in (writing, other):
                key = f"meanwhile-{len(posted)}"
                posted.append(database.ledger().transfer("users:alice", "users:bob", USD, 1, key=key).seq)
                database.ledger("shop").mint("users:zoe", EUR, 1, key=key)

        def read() -> None:
            assert whole(ledger) == expected
            assert ledger.trial_balance().is_balanced
            assert ledger.balance("users:dormant", USD) == 11

        with going_on(post), going_on(read):
            for month in ("2018-02", "2018-03", "2018-12", "2019-04"):
                done = len(posted)
                books.archive(folder, month)
                deadline = time.monotonic() + PATIENCE
                while len(posted) < done + 4 and time.monotonic() < deadline:
                    time.sleep(0.01)
        assert len(partitions(books.url)) == 2
        assert sorted(posted) == list(range(posted[0], posted[0] + len(posted)))
        assert all(database.replay(name).ok for database in (writing, reading) for name in ("main", "shop"))


def whole(ledger: tallystick.Ledger) -> list[Any]:
    """Answers about the past, which no posting changes."""
    past = "2020-01-01T00:00:00Z"
    return [
        ledger.events(limit=59),
        ledger.register("users:bob", end=past),
        ledger.trial_balance(recorded=past),
        ledger.balances("users:carol", recorded="2018-01-10T08:00:30Z"),
    ]


def test_a_run_waits_for_whoever_reads_and_keeps_nobody_waiting_long(books: Books, folder: Path) -> None:
    store = PostgresStore(books.url)
    before = glance(books)
    with books.open() as database:
        ledger = database.ledger()
        with store._reading(), books.archiver() as archiver:
            archiver.lock_seconds = 1.0
            numbers = iter(range(1_000_000))

            def post() -> None:
                ledger.mint("users:x", USD, 1, key=f"x-{next(numbers)}")

            with going_on(post) as seconds, pytest.raises(Unavailable, match="stays where it is") as raised:
                archiver.run(folder)
            assert raised.value.retryable
            assert len(seconds) > 3
            assert max(seconds) < 5, "each attempt lets go of what it has after a moment"
            assert len(partitions(books.url)) == 2 * (len(MONTHS) + 1)
        books.archive(folder)
        assert glance(books)[1][:59] == before[1][:59]
        assert ledger.replay().ok
    store.close()


def test_a_read_that_began_before_a_period_left_still_finds_it(books: Books, folder: Path) -> None:
    """A snapshot alone would not do: it does not show what was written down, while the partition is gone."""
    store = PostgresStore(books.url)
    began, go_on = threading.Event(), threading.Event()
    standing = store._standing

    def slowly(*arguments: Any, **more: Any) -> Any:
        found = standing(*arguments, **more)
        began.set()
        assert go_on.wait(PATIENCE)
        return found

    store._standing = slowly  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as pool:
        reading = pool.submit(store.balances, "main", 58)
        assert began.wait(PATIENCE)
        running = pool.submit(books.archive, folder)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not query(
            books.url, "SELECT FROM pg_locks WHERE NOT granted AND relation = 'tallystick.event'::regclass"
        ):
            time.sleep(0.01)
        go_on.set()
        found = reading.result(PATIENCE)
        running.result(PATIENCE)
    store._standing = standing  # type: ignore[method-assign]
    assert len(partitions(books.url)) == 2
    assert found == store.balances("main", 58)
    store.close()


def test_a_writer_that_slept_through_the_archive_learns_where_balances_stand(books: Books, folder: Path) -> None:
    """Its book is of before, and what others posted since is in the archive by now. It knows that there are others, so
    it asks what they did before it decides."""
    with books.open() as sleeping, books.open() as awake:
        old, new = sleeping.ledger(), awake.ledger()
        old.transfer("users:dormant", "users:carol", USD, 1, key="old-1")
        new.transfer("users:carol", "users:bob", USD, 9, key="new-1")
        old.transfer("users:carol", "users:bob", USD, 1, key="old-2")
        new.transfer("users:dormant", "users:carol", USD, 9, key="new-2")
        new.hold("users:carol", USD, 1, key="new-3")
        books.time.now = "2041-01-01T00:00:00.000000Z"
        books.archive(folder, now=books.time.now)
        assert partitions(books.url) == set()
        with pytest.raises(InsufficientFunds) as raised:
            old.transfer("users:dormant", "users:carol", USD, 2, key="old-3")
        assert raised.value.data["balance"] == 1
        old.transfer("users:dormant", "users:carol", USD, 1, key="old-4")
        assert old.replay().ok


def test_a_snapshot_that_meets_the_archive_is_whole_or_is_not_written(books: Books, folder: Path) -> None:
    store = PostgresStore(books.url)
    with store._source.using() as connection:
        standing = store._standing(connection, 1)
        asked = {**store._tail(standing, 65), "part": None, "new": 7, "ledger": 1}
        books.archive(folder)
        store._do(connection, "add_snapshot", **asked)
        store._do(connection, "add_snapshot_point", ledger=1, new=7)
    assert query(books.url, "SELECT FROM tallystick.snapshot_point") == []
    store.close()


# ---------------------------------------------------------------- a clock that is far behind


def test_a_period_that_is_posted_to_meanwhile_is_left_for_the_next_run(
    books: Books, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def post(key: str) -> None:
        with tallystick.open(books.url, clock=Time("2018-11-20T00:00:00.000000Z")) as database:
            database.ledger("late").mint("users:late", USD, 5, key=key)

    post("late-1")
    real = Archiver._let_go

    def slow(self: Archiver, period: int, *arguments: Any) -> bool:
        if period == 201811:
            post("late-2")
        return real(self, period, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Archiver, "_let_go", slow)
        with pytest.raises(Unavailable, match="2018-11 was posted to while it was being archived"):
            books.archive(folder)
    assert len(partitions(books.url)) == 6
    books.archive(folder)
    with books.open() as database:
        assert database.ledger("late").balance("users:late", USD) == 10
        assert database.ledger("late").replay().ok


def test_nothing_is_posted_to_an_archived_period(archived: Books) -> None:
    with tallystick.open(archived.url, clock=Time("2018-02-20T00:00:00.000000Z")) as database:
        with pytest.raises(NotPermitted, match="2018-02 was archived"):
            database.ledger("late").mint("users:late", USD, 5, key="late")
        assert not database.ledger("late").exists
    with tallystick.open(archived.url, clock=Time("2018-03-20T00:00:00.000000Z")) as database:
        database.ledger("late").mint("users:late", USD, 5, key="late")  # a month that has left nothing behind
        assert database.ledger("late").replay().ok


def test_a_late_ledger_is_archived_after_the_others(archived: Books, folder: Path) -> None:
    with tallystick.open(archived.url, clock=Time("2018-03-20T00:00:00.000000Z")) as database:
        database.ledger("late").mint("users:late", USD, 5, key="late")
    assert {file.period for file in archived.archive(folder)} == {201803}
    with archived.open() as database:
        assert database.ledger("late").balance("users:late", USD) == 5
        assert all(database.replay(name).ok for name in database.ledgers())


# ---------------------------------------------------------------- rights


def as_role(url: str, role: str) -> str:
    return f"{url}?options=-c%20role%3Dtallystick_{role}"


def test_only_the_owner_archives_and_whoever_may_read_reads_it(books: Books, folder: Path) -> None:
    migrations.apply_roles(books.url)
    before = glance(books)
    for role in ("writer", "auditor"):
        with Archiver(as_role(books.url, role), clock=lambda: NOW) as archiver:
            assert len(archiver.plan().periods) == len(MONTHS)
            for act in (lambda: archiver.run(folder), lambda: archiver.set_years(1), lambda: archiver.move(folder)):
                with pytest.raises(NotPermitted, match="only tallystick_owner, who owns the tables"):
                    act()
    assert list(folder.iterdir()) == []
    with Archiver(as_role(books.url, "owner"), clock=lambda: NOW) as archiver:
        archiver.run(folder)
    for role in ("writer", "auditor"):
        same = Books(as_role(books.url, role))
        assert glance(same) == before
    with tallystick.open(as_role(books.url, "writer"), clock=books.time) as database:
        again = database.ledger().transfer("users:alice", "users:bob", USD, 5, key="k12", refs={"order": "o-1"})
        assert again.replayed
        database.ledger().transfer("users:dormant", "users:bob", USD, 5, key="new")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM tallystick.archive",
        "TRUNCATE tallystick.archive",
        "UPDATE tallystick.archive SET sha256 = repeat('0', 64)",
        "UPDATE tallystick.archive SET period = 201701 WHERE period = 201801",
        "DELETE FROM tallystick.carried",
        "TRUNCATE tallystick.carried",
        "DELETE FROM tallystick.retention",
        "TRUNCATE tallystick.retention",
        "INSERT INTO tallystick.retention (years) VALUES (1)",
        "UPDATE tallystick.retention SET years = 0",
    ],
)
def test_the_database_keeps_what_is_written_down_of_the_archive(archived: Books, statement: str) -> None:
    with psycopg.connect(archived.url) as connection, pytest.raises(psycopg.errors.IntegrityError):
        connection.execute(statement.encode())


# ---------------------------------------------------------------- another place


def test_files_that_were_moved_are_found_in_their_new_place(archived: Books, folder: Path) -> None:
    before = glance(archived)
    hidden = hide(folder)
    with archived.archiver() as archiver:
        found = archiver.move(hidden[0].parent)
        assert found.left == []
        assert [file.path for file in found.moved] == [file.path for file in archiver.files()]
        assert {Path(file.path) for file in archiver.files()} == set(hidden)
    assert glance(archived) == before


def test_a_file_that_is_not_there_or_was_altered_is_looked_for_where_it_was(archived: Books, folder: Path) -> None:
    new = folder.parent / "new"
    new.mkdir()
    kept = {path.name: path for path in folder.iterdir()}
    for name, path in kept.items():
        (new / name).write_bytes(path.read_bytes())
    missing, altered, *_ = sorted(new.iterdir())
    missing.unlink()
    alter(altered)
    with archived.archiver() as archiver:
        found = archiver.move(new)
        problems = {Path(file.path).name: problem for file, problem in found.left}
        assert "there is no" in problems.pop(missing.name)
        assert "was altered" in problems.pop(altered.name)
        assert problems == {}
        places = {Path(file.path).name: Path(file.path).parent for file in archiver.files()}
    assert places == {name: folder if name in (missing.name, altered.name) else new for name in kept}


# ---------------------------------------------------------------- more than one part


MANY = 36_000
"""Events, so that a ledger has a whole part of 32,768 and the beginning of another."""


@pytest.fixture
def long(postgres: str) -> Books:
    """A ledger whose periods and parts begin in different places."""
    found = Books(postgres)
    accounts = [f"users:{number:02}" for number in range(30)]
    with found.open() as database:
        ledger = database.ledger()
        ledger.post_many([c.Post(key=a, type="mint", legs=(c.Leg("@issuance", a, USD, 10**6),)) for a in accounts])
        for month, until in (("2018-01", 10_000), ("2018-02", 33_000), ("2019-03", 34_500), ("2026-01", MANY)):
            found.time.now = f"{month}-02T00:00:00.000000Z"
            while (first := ledger.head.seq) < until:
                ledger.post_many(
                    [
                        c.Transfer(
                            key=str(seq),
                            from_account=accounts[seq % 29],
                            to_account=accounts[(seq + 1 + seq // 29 % 28) % 29],
                            asset=USD,
                            amount=1 + seq % 7,
                        )
                        for seq in range(first, min(first + 8_192, until))
                    ]
                )
    return found


def long_answers(books: Books) -> dict[str, Any]:
    places = (0, 1, 31, 9_999, 10_000, 32_767, 32_768, 32_769, 33_000, 34_499, 34_500, MANY)
    store = PostgresStore(books.url, read_only=True)
    numbers = [balance.id for _, _, _, balance in store.balances("main")]
    bodies = store.events("main", 0, MANY)
    times = [archive.chunks.time_of(bodies[seq]) for seq in places[:-1]]
    spans = [(0, 100, 7), (9_990, 10_010, 1_000), (32_700, 33_100, 700), (0, 2**62, 20), (0, 2**62, 2**62)]
    answers = {
        "balances": [store.balances("main", seq) for seq in places],
        "of some": [store.balances("main", seq, ["users:03", "users:29"]) for seq in places],
        "entries": [store.entries("main", numbers, first, before, limit) for first, before, limit in spans],
        "entries of one": [store.entries("main", numbers[3:4], first, before, limit) for first, before, limit in spans],
        "events": [bodies, *(store.events("main", seq - 300, 700) for seq in places)],
        "each": [store.event("main", seq) for seq in places],
        "seq at": [store.seq_at("main", time) for time in times],
        "now": store.balances("main"),
    }
    store.close()
    return answers


def snapshots(url: str) -> list[int]:
    """The snapshots that are whole."""
    return [part for (part,) in query(url, "SELECT part FROM tallystick.snapshot_point")]


def write_snapshot(url: str) -> None:
    """Have a snapshot written now, and none be left but of before event 0."""
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM tallystick.snapshot_point WHERE part > 0")
        connection.execute("DELETE FROM tallystick.snapshot WHERE part > 0")
    store = PostgresStore(url)
    store.snapshot("main")
    store.close()


def test_ledgers_of_more_than_one_part_are_answered_as_before(long: Books, folder: Path) -> None:
    write_snapshot(long.url)
    assert snapshots(long.url) == [1]
    expected = long_answers(long)
    for month in ("2018-03", "2019-04"):
        long.archive(folder, month)
        found = long_answers(long)
        for question, answer in expected.items():
            assert found[question] == answer, (month, question)


def test_a_snapshot_rests_on_what_was_carried_and_is_of_no_place_in_the_archive(long: Books, folder: Path) -> None:
    with psycopg.connect(long.url) as connection:  # before event 0 nothing stood anywhere
        connection.execute("INSERT INTO tallystick.snapshot SELECT ledger, 0, id, 0, 0 FROM tallystick.balance")
        connection.execute("INSERT INTO tallystick.snapshot_point VALUES (1, 0)")
    expected = long_answers(long)
    for month, written in (("2018-02", [0, 1]), ("2019-04", [0])):
        long.archive(folder, month)
        write_snapshot(long.url)
        assert snapshots(long.url) == written
        found = long_answers(long)
        for question, answer in expected.items():
            assert found[question] == answer, (month, question)
