"""A file that is open twice in one process keeps its locks: another process must not take itself for the last user."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import tallystick
from tallystick.control import open_control
from tallystick.stores import open_files

OTHER = """
import sys, tallystick
with tallystick.open(sys.argv[1]) as database:
    database.ledger("main").transfer("users:alice", "users:bob", "USD/2", 1, key="other")
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "ledger.db"
    with tallystick.open(found) as database:
        database.ledger("main").mint("users:alice", "USD/2", 1_000, key="mint")
    return found


def test_what_is_written_behind_another_process_is_there_for_the_next(path: Path) -> None:
    with tallystick.open(path, read_only=True) as first:
        assert first.ledger("main").balance("users:alice", "USD/2") == 1_000
        with tallystick.open(path) as second:
            ledger = second.ledger("main")
            assert ledger.balance("users:alice", "USD/2") == 1_000
            subprocess.run([sys.executable, "-c", OTHER, str(path)], check=True)
            ledger.transfer("users:alice", "users:bob", "USD/2", 10, key="own")
            assert ledger.balance("users:bob", "USD/2") == 11
            assert first.ledger("main").balance("users:bob", "USD/2") == 11
    with tallystick.open(path, read_only=True) as later:
        assert later.ledger("main").balance("users:bob", "USD/2") == 11
        assert later.ledger("main").replay().ok


def test_a_log_of_writes_stays_while_somebody_here_reads(path: Path) -> None:
    with tallystick.open(path, read_only=True) as first:
        _ = first.ledger("main").head
        with tallystick.open(path, read_only=True):
            pass
        subprocess.run([sys.executable, "-c", OTHER, str(path)], check=True)
        assert path.with_name(path.name + "-wal").exists()


def test_descriptors_are_kept_while_the_file_is_open_and_no_longer(path: Path) -> None:
    def opened() -> int:
        return sum(
            os.path.realpath(f"/proc/self/fd/{name}") == str(path.resolve()) for name in os.listdir("/proc/self/fd")
        )

    if not Path("/proc/self/fd").exists():
        pytest.skip("this system does not list a process's files")
    with tallystick.open(path) as database:
        _ = database.ledger("main").head
        open_control(path).close()
        assert opened()
    assert opened() == 0
    assert not open_files._kept


def test_a_file_that_is_refused_is_let_go(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.db"
    wrong.write_bytes(b"no database" * 20)
    with pytest.raises(tallystick.TallystickError):
        tallystick.open(wrong)
    assert not open_files._users


def test_a_key_behind_the_end_of_the_journal_is_damage_and_not_looked_for_without_end(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO idempotency (ledger, part, number, seq) SELECT id, 1 << 40, 1, 1 FROM ledger")
    with tallystick.open(path, read_only=True) as database, pytest.raises(tallystick.TallystickError) as caught:
        database.ledger("main").by_key("mint")
    assert caught.value.code == "ledger_corrupt"
