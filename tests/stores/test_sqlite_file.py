"""A ledger file meets the world: cut short, overwritten, locked by another, on a full disk, poked at with SQL.

What happened is said clearly, nothing is repaired silently, and what was acknowledged is still there afterwards.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tallystick.errors import (
    LedgerCorrupt,
    LedgerLocked,
    LedgerNotFound,
    NotALedger,
    ReadOnly,
    Unavailable,
)
from tallystick.stores.sqlite import SqliteStore
from tests.support.engine import Engine, rebuilt
from tests.support.story import Questions, ask, questions, tell

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def told(path: Path) -> Iterator[Engine]:
    """An engine that has told the whole story to a file; the store is still open."""
    store = SqliteStore(path)
    yield tell(Engine(store))
    store.close()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, bytes]:
    """The engine, and the bytes of the file that its store left behind when it was closed."""
    path = tmp_path_factory.mktemp("finished") / "ledger.db"
    engine = tell(Engine(SqliteStore(path)))
    assert engine.store is not None
    engine.store.close()
    return engine, path.read_bytes()


def run(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Another Python process, with the project and its tests at hand."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def outcome(process: subprocess.Popen[str]) -> str:
    """What the process printed, once it has ended well."""
    printed, complaint = process.communicate(timeout=60)
    assert process.returncode == 0, complaint
    return printed


# ---------------------------------------------------------------- opening and closing


def test_what_was_written_is_there_after_closing_and_opening_again(told: Engine, path: Path) -> None:
    asked = questions(told)
    assert told.store is not None
    before = ask(told.store, asked)
    told.store.close()
    assert [file.name for file in path.parent.glob("*-wal")] == []
    for read_only in (False, True):
        again = SqliteStore(path, read_only=read_only)
        assert ask(again, asked) == before
        again.close()


def test_a_file_that_is_not_there_is_made_only_if_asked_for(path: Path) -> None:
    with pytest.raises(LedgerNotFound):
        SqliteStore(path, create=False)
    with pytest.raises(LedgerNotFound):
        SqliteStore(path, read_only=True)
    assert list(path.parent.iterdir()) == []
    SqliteStore(path).close()
    SqliteStore(path, create=False).close()


def test_a_folder_that_is_not_there_is_a_clear_error(path: Path) -> None:
    with pytest.raises(Unavailable):
        SqliteStore(path / "deeper" / "ledger.db")


def test_a_folder_is_not_a_ledger(path: Path) -> None:
    path.mkdir()
    with pytest.raises((Unavailable, NotALedger)):
        SqliteStore(path)


def test_a_store_for_reading_only_writes_nothing(told: Engine, path: Path) -> None:
    assert told.store is not None
    told.store.close()
    before = path.read_bytes()
    store = SqliteStore(path, read_only=True)
    with pytest.raises(ReadOnly):
        store.append([told.batch(told.mint("users:alice", 1))])
    with pytest.raises(ReadOnly):
        store.keep("main", "keys", b"")
    store.close()
    assert path.read_bytes() == before


def test_a_reader_sees_what_a_writer_in_another_store_has_committed(told: Engine, path: Path) -> None:
    reader = SqliteStore(path, read_only=True)
    assert reader.head("main") == told.head
    told.post(told.mint("users:zoe", 7))
    assert reader.head("main") == told.head
    assert reader.load_accounts("main", ["users:zoe"])["users:zoe"].balances[0][2].amount == 7
    reader.close()


# ---------------------------------------------------------------- not a ledger


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"Once upon a time there was a ledger.\n" * 500,
        b"\0" * 8192,
        b"SQLite format 2\0" + b"\0" * 4080,
        b"PK\x03\x04" + bytes(range(256)) * 40,
    ],
    ids=["one byte", "a text", "zeros", "another format", "an archive"],
)
def test_a_file_that_is_no_database_is_not_a_ledger_and_stays_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for read_only in (False, True):
        with pytest.raises(NotALedger, match=r"is not a Tallystick file"):
            SqliteStore(path, read_only=read_only)
    assert path.read_bytes() == content


def test_another_program_s_database_is_not_a_ledger_and_stays_as_it_is(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE event (ledger, seq, body)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(NotALedger, match="another program"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_a_file_of_a_later_version_is_not_touched(finished: tuple[Engine, bytes], path: Path) -> None:
    path.write_bytes(finished[1])
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(NotALedger, match="99"):
        SqliteStore(path)


def test_a_file_of_an_earlier_version_is_not_touched(finished: tuple[Engine, bytes], path: Path) -> None:
    path.write_bytes(finished[1])
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    before = path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(NotALedger, match="its schema is version 1, of a Tallystick that was never released"):
            SqliteStore(path, read_only=read_only)
    assert path.read_bytes() == before


def test_an_empty_file_becomes_a_ledger(path: Path) -> None:
    """That is what is left if a process dies in the instant after it made the file."""
    path.touch()
    store = SqliteStore(path)
    engine = Engine(store)
    engine.post(engine.open())
    assert store.head("main") == engine.head
    store.close()


# ---------------------------------------------------------------- cut short


@pytest.mark.parametrize("part", [0.999, 0.9, 0.75, 0.5, 0.25, 0.1])
def test_a_file_that_was_cut_short_is_reported(finished: tuple[Engine, bytes], path: Path, part: float) -> None:
    content = finished[1]
    path.write_bytes(content[: int(len(content) * part)])
    for read_only in (False, True):
        with pytest.raises(LedgerCorrupt, match="cut short"):
            SqliteStore(path, read_only=read_only)
    assert path.stat().st_size == int(len(content) * part)


@pytest.mark.parametrize("pages", [1, 2, 5])
def test_whole_pages_that_are_missing_are_reported(finished: tuple[Engine, bytes], path: Path, pages: int) -> None:
    path.write_bytes(finished[1][: -4096 * pages])
    with pytest.raises(LedgerCorrupt, match="cut short"):
        SqliteStore(path)


@pytest.mark.parametrize("size", [1, 15, 16, 50, 99])
def test_less_than_a_header_is_not_a_ledger(finished: tuple[Engine, bytes], path: Path, size: int) -> None:
    path.write_bytes(finished[1][:size])
    with pytest.raises((LedgerCorrupt, NotALedger)):
        SqliteStore(path)


# ---------------------------------------------------------------- a second writer


SECOND_WRITER = """
import sys
from pathlib import Path
from tallystick.errors import LedgerLocked
from tallystick.stores.sqlite import SqliteStore
from tests.support.engine import Engine, rebuilt

store = SqliteStore(Path(sys.argv[1]))
engine = Engine(store)
engine.catch_up()
try:
    engine.post(engine.mint("users:second", 1) if engine.book.seq else engine.open())
    print("written")
except LedgerLocked as locked:
    print(locked.code, locked.retryable, locked)
print(store.head("main"))
store.close()
"""

HOLDER = """
import sys
from pathlib import Path
from tallystick.stores.sqlite import SqliteStore
from tests.support.engine import Engine, rebuilt

store = SqliteStore(Path(sys.argv[1]))
engine = Engine(store)
engine.post(engine.open(), engine.mint("users:first", 5))
print("holding", flush=True)
sys.stdin.readline()
store.close()
"""


def test_a_second_writing_process_is_told_who_writes_and_may_still_read(told: Engine, path: Path) -> None:
    before = path.read_bytes()
    printed = outcome(run(SECOND_WRITER, str(path)))
    assert printed.startswith("ledger_locked True")
    assert f"process {os.getpid()}" in printed
    assert str(path) in printed
    assert str(told.head) in printed
    assert told.store is not None
    assert told.store.head("main") == told.head
    assert path.read_bytes() == before


def test_this_process_is_told_when_another_one_writes(path: Path) -> None:
    holder = run(HOLDER, str(path))
    assert holder.stdout is not None
    assert holder.stdout.readline() == "holding\n"
    store = SqliteStore(path)
    engine = Engine(store)
    engine.catch_up()
    with pytest.raises(LedgerLocked, match=f"process {holder.pid}"):
        engine.post(engine.mint("users:second", 1))
    assert store.head("main").seq == 2  # type: ignore[union-attr]
    holder.communicate("\n", timeout=60)
    again = Engine(store)
    again.catch_up()
    again.post(again.mint("users:second", 1))
    assert store.head("main") == again.head
    store.close()


def test_the_file_is_free_as_soon_as_its_writer_has_closed_it(told: Engine, path: Path) -> None:
    assert told.store is not None
    told.store.close()
    assert outcome(run(SECOND_WRITER, str(path))).startswith("written")


def test_the_file_is_free_and_whole_when_its_writer_was_killed(path: Path) -> None:
    holder = run(HOLDER, str(path))
    assert holder.stdout is not None
    assert holder.stdout.readline() == "holding\n"
    holder.send_signal(signal.SIGKILL)
    holder.communicate(timeout=60)
    store = SqliteStore(path)
    engine = Engine(store)
    engine.catch_up()
    assert engine.head == store.head("main")
    assert engine.book.balance("users:first", "USD/2", "available").amount == 5
    engine.post(engine.mint("users:second", 1))
    assert store.check() == []
    store.close()


# ---------------------------------------------------------------- a full disk


def test_a_full_disk_is_unavailable_and_leaves_nothing_half_written(told: Engine) -> None:
    store = told.store
    assert isinstance(store, SqliteStore)
    asked = questions(told)
    before = ask(store, asked)
    writer = store._writer
    assert writer is not None
    used = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {used + 2}")
    large = told.batch(*(told.pay("users:alice", "users:bob", 1) for _ in range(500)))
    for _ in range(3):
        with pytest.raises(Unavailable) as refused:
            store.append([large])
        assert refused.value.retryable
        assert "full" in str(refused.value)
        assert ask(store, asked) == before
    writer.execute("PRAGMA max_page_count = 1000000")
    store.append([large])
    assert store.head("main") == told.head
    assert store.check() == []


FULL_DISK = """
import resource, sys
from pathlib import Path
from tallystick.errors import Unavailable
from tallystick.stores.sqlite import SqliteStore
from tests.support.engine import Engine, rebuilt
from tests.support.story import ask, questions, tell

path = Path(sys.argv[1])
store = SqliteStore(path)
engine = tell(Engine(store))
asked = questions(engine)
before = ask(store, asked)
size = max(file.stat().st_size for file in path.parent.iterdir())
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
failures = 0
for room in (0, 1, 5_000, 50_000, 100_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, hard))
    large = engine.batch(*(engine.pay("users:alice", "users:bob", 1) for _ in range(500)))
    try:
        store.append([large])
    except Unavailable as error:
        assert error.retryable, error
        failures += 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ask(store, asked) == before
    store.append([large])
    assert store.head("main") == engine.head
    asked = questions(engine, some=[0, 63, engine.book.seq - 1])
    before = ask(store, asked)
    size = max(file.stat().st_size for file in path.parent.iterdir())
assert failures == 5, failures
assert store.check() == []
store.close()
again = SqliteStore(path)
assert ask(again, asked) == before
again.close()
print("whole")
"""


def test_a_limit_of_the_system_on_writing_is_unavailable_and_passes(path: Path) -> None:
    """Writes stop at different places in the file: at once, within a page, between pages, late in the batch."""
    assert outcome(run(FULL_DISK, str(path))) == "whole\n"


def test_a_new_ledger_on_a_full_disk_leaves_no_trace_that_hinders_a_second_try(path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from tallystick.errors import Unavailable
from tallystick.stores.sqlite import SqliteStore

path = Path(sys.argv[1])
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for room in (100, 5_000, 20_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        SqliteStore(path)
    except Unavailable as error:
        print("unavailable")
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
store = SqliteStore(path)
print(store.ledgers(), store.check())
"""
    assert outcome(run(code, str(path))) == "unavailable\n" * 3 + "[] []\n"


# ---------------------------------------------------------------- guarded by the database itself


@pytest.mark.parametrize("table", ["event", "entry"])
@pytest.mark.parametrize(
    "act", ["UPDATE {table} SET seq = seq + 1", "DELETE FROM {table}", "DELETE FROM {table} WHERE seq IN (50, 51)"]
)
def test_the_database_refuses_to_change_or_delete_what_is_written(
    finished: tuple[Engine, bytes], path: Path, table: str, act: str
) -> None:
    path.write_bytes(finished[1])
    connection = sqlite3.connect(path)
    rows = connection.execute(f"SELECT * FROM {table}").fetchall()
    assert len(rows) > 5
    with pytest.raises(sqlite3.IntegrityError, match=f"an {table} is never (changed|deleted)"):
        connection.execute(act.format(table=table))
    assert connection.execute(f"SELECT * FROM {table}").fetchall() == rows
    connection.close()


def test_the_database_refuses_to_replace_an_event(finished: tuple[Engine, bytes], path: Path) -> None:
    """INSERT OR REPLACE deletes without asking the guard on deleting; no event may go that way either."""
    path.write_bytes(finished[1])
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT * FROM event").fetchall()
    with pytest.raises(sqlite3.IntegrityError, match="an event is never replaced"):
        connection.execute(
            "INSERT OR REPLACE INTO event (ledger, seq, count, time, hash, encoding, body)"
            " SELECT ledger, seq, count, time, hash, encoding, x'00' FROM event"
        )
    assert connection.execute("SELECT * FROM event").fetchall() == rows
    connection.close()


def test_the_guards_stand_again_after_a_rebuild(told: Engine, path: Path) -> None:
    assert told.store is not None
    told.store.rebuild(rebuilt(told))
    told.store.close()
    connection = sqlite3.connect(path)
    for table in ("event", "entry"):
        with pytest.raises(sqlite3.IntegrityError, match="never deleted"):
            connection.execute(f"DELETE FROM {table}")
        with pytest.raises(sqlite3.IntegrityError, match="never changed"):
            connection.execute(f"UPDATE {table} SET seq = 0")
    connection.close()


def copy(path: Path, target: Path) -> None:
    """The file with whatever stands beside it, as a copy made while a ledger is in use would be."""
    for file in path.parent.glob(path.name + "*"):
        shutil.copy(file, target / file.name)


def test_a_copy_of_all_files_is_the_same_ledger(told: Engine, path: Path, tmp_path: Path) -> None:
    asked: Questions = questions(told)
    assert told.store is not None
    target = tmp_path / "copy"
    target.mkdir()
    copy(path, target)
    again = SqliteStore(target / path.name)
    assert ask(again, asked) == ask(told.store, asked)
    again.close()


def test_a_main_file_copied_without_its_log_never_answers_wrongly(told: Engine, path: Path, tmp_path: Path) -> None:
    """What was not copied is missing; what is there must still be an earlier state of the ledger, or an error."""
    target = tmp_path / "copy"
    target.mkdir()
    shutil.copy(path, target / path.name)
    bodies = told.store.events("main", 0, 100) if told.store else []
    try:
        again = SqliteStore(target / path.name)
    except (LedgerCorrupt, NotALedger):
        return
    found = again.events("main", 0, 100)
    assert found == bodies[: len(found)]
    again.close()
