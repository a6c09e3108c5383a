"""The file of the operator's records: whose it is, what it may hold, and what becomes of it when things go wrong."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import tallystick
from tallystick.control import ApiKey, Attempt, Control, Delivery, Endpoint, open_control
from tallystick.control.sql import migrations
from tallystick.control.sqlite import SQL
from tallystick.errors import (
    InvalidInput,
    KeyFileUnsafe,
    LedgerCorrupt,
    LedgerNotFound,
    NotALedger,
    TallystickError,
    Unavailable,
)
from tests.control.process import NOON, processes

KEY = ApiKey(id="k", secret_hash="0" * 64, subject="shop")


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "shop.db"


@pytest.fixture
def path(ledger: Path) -> Path:
    """The file beside it."""
    return ledger.with_name("shop.db-service")


@pytest.fixture
def control(ledger: Path) -> Iterator[Control]:
    opened = open_control(ledger)
    opened.add_endpoint(Endpoint(id="e", ledger="shop"))
    yield opened
    opened.close()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---------------------------------------------------------------- where it is, and whose


def test_it_lies_beside_the_ledger_file_whatever_leads_there(ledger: Path, path: Path, tmp_path: Path) -> None:
    with tallystick.open(ledger):
        pass
    link = tmp_path / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(ledger)
    for url in (ledger, str(ledger), f"sqlite:///{ledger}", link):
        opened = open_control(url)
        opened.secret("shared")
        opened.close()
    assert path.exists()
    assert list(link.parent.iterdir()) == [link]


def test_it_is_nobodys_but_its_owners_whatever_the_umask(ledger: Path, path: Path) -> None:
    before = os.umask(0)
    try:
        control = open_control(ledger)
        control.secret("a")
        names = sorted(file.name for file in path.parent.iterdir())
        assert names == ["shop.db-service", "shop.db-service-shm", "shop.db-service-wal"]
        assert {mode_of(file) for file in path.parent.iterdir()} == {0o600}
        control.close()
    finally:
        os.umask(before)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_may_read_or_write_is_not_used(ledger: Path, path: Path, mode: int) -> None:
    open_control(ledger).close()
    path.chmod(mode)
    with pytest.raises(KeyFileUnsafe, match="chmod 600"):
        open_control(ledger)
    assert mode_of(path) == mode, "what was open to others is for its owner to judge"
    path.chmod(0o600)
    open_control(ledger).close()


def test_what_is_no_file_is_not_used(ledger: Path, path: Path) -> None:
    path.mkdir(mode=0o700)
    with pytest.raises(KeyFileUnsafe, match="not a file"):
        open_control(ledger)


def test_nothing_is_made_when_nothing_is_to_be_made(ledger: Path, path: Path) -> None:
    with pytest.raises(LedgerNotFound):
        open_control(ledger, create=False)
    assert not path.exists()
    path.touch(mode=0o600)
    with pytest.raises(LedgerNotFound):
        open_control(ledger, create=False)
    assert path.stat().st_size == 0


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be made"):
        open_control(tmp_path / "none" / "shop.db")


def test_what_is_kept_is_there_when_it_is_opened_again(ledger: Path) -> None:
    control = open_control(ledger)
    control.add_key(KEY)
    secret = control.secret("cursors")
    control.close()
    again = open_control(ledger, create=False)
    assert again.key("k") == KEY
    assert again.secret("cursors") == secret
    again.close()


def test_it_survives_a_power_cut(ledger: Path, path: Path, tmp_path: Path, control: Control) -> None:
    control.add_key(KEY)
    copies = tmp_path / "copy"
    copies.mkdir()
    for file in (path, path.with_name(path.name + "-wal")):  # as it lies there, never closed
        shutil.copy(file, copies / file.name)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    found = open_control(copies / "shop.db")
    assert found.key("k") == KEY
    found.close()


def test_every_connection_waits_for_the_disk(ledger: Path, control: Control) -> None:
    with control._writing() as connection:  # type: ignore[attr-defined]
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (5_000,)


# ---------------------------------------------------------------- what may be in it


def test_another_programs_file_is_refused_and_left_as_it_is(ledger: Path, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
        connection.commit()
    path.chmod(0o600)
    before = path.read_bytes()
    with pytest.raises(NotALedger, match="another program"):
        open_control(ledger)
    assert path.read_bytes() == before


def test_a_ledger_file_is_no_file_of_records(ledger: Path, path: Path) -> None:
    with tallystick.open(ledger):
        pass
    shutil.copy(ledger, path)
    path.chmod(0o600)
    with pytest.raises(NotALedger):
        open_control(ledger)


def test_a_text_is_no_file_of_records(ledger: Path, path: Path) -> None:
    path.touch(mode=0o600)
    path.write_text("not a database\n" * 100)
    with pytest.raises(NotALedger, match="not an SQLite database"):
        open_control(ledger)


def test_a_newer_version_is_refused_and_left_as_it_is(ledger: Path, path: Path) -> None:
    open_control(ledger).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(migrations('sqlite')) + 1}")
    with pytest.raises(NotALedger, match="use a newer Tallystick"):
        open_control(ledger)


def test_tables_that_were_altered_are_refused(ledger: Path, path: Path) -> None:
    open_control(ledger).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP INDEX attempt_by_event")
        connection.commit()
    with pytest.raises(LedgerCorrupt):
        open_control(ledger)


def test_a_file_that_was_cut_short_is_refused(ledger: Path, path: Path) -> None:
    open_control(ledger).close()
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(LedgerCorrupt, match="cut short"):
        open_control(ledger)


def test_damage_anywhere_is_an_error_of_ours_or_none(ledger: Path, path: Path) -> None:
    control = open_control(ledger)
    control.add_endpoint(Endpoint(id="e", ledger="shop"))
    for number in range(50):
        control.add_key(ApiKey(id=f"k{number}", secret_hash="0" * 64, subject="shop"))
    control.settle("e", deliveries=[Delivery(endpoint="e", seq=seq, lanes=("a",)) for seq in range(50)])
    control.close()
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 997):
        path.write_bytes(whole[:place] + bytes(64) + whole[place + 64 :])
        try:
            opened = open_control(ledger)
            opened.keys()
            opened.deliveries("e")
            opened.settle("e", cursor=1)
            opened.close()
        except TallystickError:
            refused += 1
        for left in ("-wal", "-shm"):
            path.with_name(path.name + left).unlink(missing_ok=True)
    assert refused > 5


def test_a_record_that_was_damaged_is_named(ledger: Path, path: Path, control: Control) -> None:
    control.add_key(KEY)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE api_key SET body = '{\"id\":5}'")
        connection.commit()
    with pytest.raises(LedgerCorrupt, match="ApiKey is damaged"):
        control.key("k")


@pytest.mark.parametrize("left", ["empty", "written ahead"])
def test_what_a_maker_that_died_left_is_made_whole(ledger: Path, path: Path, left: str) -> None:
    path.touch(mode=0o600)
    if left == "written ahead":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
    control = open_control(ledger)
    control.add_key(KEY)
    control.close()


# ---------------------------------------------------------------- what goes wrong while it is open


def test_a_file_that_stays_busy_is_unavailable_and_then_is_not(
    ledger: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallystick.control.sqlite.BUSY_MILLISECONDS", 50)
    control = open_control(ledger)
    with closing(sqlite3.connect(path, isolation_level=None)) as another:
        another.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable):
            control.add_key(KEY)
        assert control.key("k") is None, "reading goes on"
        another.execute("ROLLBACK")
    control.add_key(KEY)
    control.close()


def test_a_full_disk_is_unavailable_and_nothing_is_half_kept(control: Control) -> None:
    with control._writing() as connection:  # type: ignore[attr-defined]
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
    deliveries = [Delivery(endpoint="e", seq=seq, problem="x" * 900) for seq in range(500)]
    with pytest.raises(Unavailable, match="full"):
        control.settle("e", cursor=500, deliveries=deliveries)
    assert control.cursor("e") == 0
    assert control.deliveries("e") == []
    assert control.settle("e", cursor=500, deliveries=deliveries), "another connection, when there is room again"


def test_a_file_that_was_moved_away_is_written_no_more(path: Path, control: Control) -> None:
    path.rename(path.with_name("moved"))
    with pytest.raises(Unavailable, match="moved away"):
        control.add_key(KEY)
    path.touch(mode=0o600)
    with pytest.raises(Unavailable, match="replaced"):
        control.add_key(KEY)


def test_a_process_that_dies_between_two_statements_leaves_nothing(ledger: Path, control: Control) -> None:
    control.settle("e", cursor=1, deliveries=[Delivery(endpoint="e", seq=0)])
    with processes(str(ledger), 1) as (other,):
        other.tell("die while settling")
        assert other.wait() == -signal.SIGKILL
    assert control.cursor("e") == 1
    assert control.deliveries("e") == [Delivery(endpoint="e", seq=0)]
    assert control.attempts("e") == []
    assert control.settle("e", cursor=2)


def test_an_error_between_two_statements_leaves_nothing(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SQL, "settle_attempt", "SELECT nothing, of, no, such, column")
    with pytest.raises(TallystickError):
        control.settle(
            "e",
            cursor=9,
            deliveries=[Delivery(endpoint="e", seq=5)],
            attempts=[Attempt(endpoint="e", seq=1, number=1, time=NOON)],
        )
    assert control.cursor("e") == 0
    assert control.deliveries("e") == []


def test_a_forked_child_is_told_to_open_it_itself(control: Control) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        try:
            control.keys()
        except Unavailable as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading) as pipe:
        assert "forked" in pipe.read()


def test_the_clock_that_was_given_says_when_a_lease_ends(ledger: Path) -> None:
    now = [NOON]
    control = open_control(ledger, clock=lambda: now[0])
    first = control.acquire("job", "first", 10)
    assert first is not None
    assert first.until == "2026-11-21T12:00:10.000000Z"
    now[0] = "2026-11-21T12:00:09.999999Z"
    assert control.acquire("job", "second", 10) is None
    now[0] = "2026-11-21T12:00:10.000000Z"
    second = control.acquire("job", "second", 10)
    assert second is not None
    assert second.token == first.token + 1
    control.close()


@pytest.mark.parametrize("url", ["", "mysql://somewhere/x", "sqlite://"])
def test_a_url_that_names_no_place_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="url"):
        open_control(url)
