"""A small SQLite file whose commits outlive a loss of power, and whose transactions shut out all others."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tallystick.errors import NotALedger, Unavailable
from tallystick.evidence import durable
from tallystick.evidence.durable import DurableFile, sync_folder

KIND = 0x74657374
TABLES = ("CREATE TABLE IF NOT EXISTS number (value INTEGER NOT NULL) STRICT",)


def opened(path: Path, application: int = KIND) -> DurableFile:
    return DurableFile(path, application, "a test", TABLES)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[DurableFile]:
    found = opened(tmp_path / "file.db")
    yield found
    found.close()


def numbers(file: DurableFile) -> list[int]:
    with file.reading() as connection:
        return [row[0] for row in connection.execute("SELECT value FROM number ORDER BY value")]


def test_a_commit_is_synced(file: DurableFile) -> None:
    # A loss of power cannot be had here; these settings are what SQLite promises durability for.
    with file.reading() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_the_name_of_the_file_is_brought_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(durable, "sync_folder", synced.append)
    opened(tmp_path / "file.db").close()
    assert synced == [tmp_path]


def test_syncing_a_folder_syncs_that_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[bool, int]] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: synced.append((stat.S_ISDIR(os.fstat(fd).st_mode), os.fstat(fd).st_ino)))
        sync_folder(tmp_path)
    assert synced == [(True, tmp_path.stat().st_ino)]
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        sync_folder(tmp_path / "file")


def test_what_ends_with_an_error_is_undone(file: DurableFile) -> None:
    with file.writing() as connection:
        connection.execute("INSERT INTO number VALUES (1)")
    with pytest.raises(Unavailable, match="NOT NULL"), file.writing() as connection:
        connection.executemany("INSERT INTO number VALUES (?)", [(2,), (None,)])
    assert numbers(file) == [1]
    with file.writing() as connection:  # and the next can begin
        connection.execute("INSERT INTO number VALUES (3)")
    assert numbers(file) == [1, 3]


def test_a_transaction_shuts_out_other_threads_and_other_openers(file: DurableFile) -> None:
    """Each adds one to the largest number it has read: none may read what another is about to change."""

    def count(shared: DurableFile) -> None:
        for _ in range(20):
            with shared.writing() as connection:
                (most,) = connection.execute("SELECT coalesce(max(value), 0) FROM number").fetchone()
                connection.execute("INSERT INTO number VALUES (?)", (most + 1,))

    other = opened(file.path)
    threads = [threading.Thread(target=count, args=(each,)) for each in (file, file, other, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert numbers(file) == list(range(1, 81))


def test_what_sqlite_cannot_do_is_unavailable(file: DurableFile) -> None:
    with pytest.raises(Unavailable, match="no such table"), file.reading() as connection:
        connection.execute("SELECT * FROM other")
    with pytest.raises(Unavailable, match=r"missing/file\.db"):
        opened(file.path.parent / "missing" / "file.db")


def test_a_file_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    opened(path, KIND + 1).close()
    before = path.read_bytes()
    with pytest.raises(NotALedger, match="not of a test"):
        opened(path)
    with sqlite3.connect(tmp_path / "plain.db") as plain:
        plain.execute("CREATE TABLE event (seq INTEGER)")
    plain.close()
    with pytest.raises(NotALedger, match="not of a test"):
        opened(tmp_path / "plain.db")
    (tmp_path / "text").write_bytes(b"not a database" * 100)
    with pytest.raises(NotALedger, match="no SQLite file"):
        opened(tmp_path / "text")
    assert path.read_bytes() == before
