"""The file sink: whole lines, durable, in files of a bounded size; and what crashes and full disks leave behind."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.delivery.sinks import SinkSettings, file
from tallystick.delivery.sinks.file import MAX_LINE_BYTES, FileTransport, SinkFile
from tallystick.delivery.sinks.settings import MIN_ROTATE_BYTES
from tests.delivery.sink_support import TO_FILE, accepted, close, endpoint, message, of_size, send_all, send_one

TO = TO_FILE


@pytest.fixture
def transport(tmp_path: Path) -> Iterator[FileTransport]:
    made = FileTransport(SinkSettings(file_folder=str(tmp_path), file_rotate_bytes=MIN_ROTATE_BYTES))
    yield made
    close(made)


def _numbers(path: Path) -> list[int]:
    """The events in a file, all of whose lines must be whole."""
    data = path.read_bytes()
    assert not data or data.endswith(b"\n")
    return [int(json.loads(line)["sequence"]) for line in data.splitlines()]


def test_a_message_is_one_line_with_its_body(transport: FileTransport, tmp_path: Path) -> None:
    assert send_one(transport, TO, message(1)).accepted
    assert send_one(transport, TO, message(2, body=b'{\n "sequence": "2"\r\n}')).accepted
    assert (tmp_path / "events.jsonl").read_bytes() == message(1).body + b'\n{  "sequence": "2"  }\n'


def test_the_file_is_its_owners_alone(transport: FileTransport, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        send_one(transport, TO, message(1))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "events.jsonl").stat().st_mode) == 0o600


def test_a_batch_is_synced_once_before_it_counts(
    transport: FileTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_one(transport, TO, message(0))
    synced: list[int] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        fsync(descriptor)
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", note)
    assert all(accepted(send_all(transport, TO, [message(seq) for seq in range(1, 101)])))
    assert synced == [(tmp_path / "events.jsonl").stat().st_size]


def test_a_file_is_moved_aside_before_it_grows_past_its_limit(transport: FileTransport, tmp_path: Path) -> None:
    line = MIN_ROTATE_BYTES // 4 - 1  # and its line break: four fill the file to the byte
    assert all(accepted(send_all(transport, TO, [of_size(line, seq) for seq in range(4)])))
    assert sorted(os.listdir(tmp_path)) == ["events.jsonl"]
    assert all(accepted(send_all(transport, TO, [of_size(line, seq) for seq in range(4, 9)])))
    assert _numbers(tmp_path / "events.jsonl.000001") == [0, 1, 2, 3]
    assert _numbers(tmp_path / "events.jsonl.000002") == [4, 5, 6, 7]
    assert _numbers(tmp_path / "events.jsonl") == [8]
    assert (tmp_path / "events.jsonl.000001").stat().st_size == MIN_ROTATE_BYTES


def test_a_line_longer_than_the_limit_of_a_file_has_one_to_itself(transport: FileTransport, tmp_path: Path) -> None:
    assert all(accepted(send_all(transport, TO, [message(0), of_size(MIN_ROTATE_BYTES + 1, 1), message(2)])))
    assert [_numbers(tmp_path / f"events.jsonl{end}") for end in (".000001", ".000002", "")] == [[0], [1], [2]]


def test_a_line_has_a_limit_and_the_others_go(transport: FileTransport, tmp_path: Path) -> None:
    messages = [of_size(MAX_LINE_BYTES - 1, 1), of_size(MAX_LINE_BYTES, 2), message(3)]
    results = send_all(transport, TO, messages)
    assert accepted(results) == [True, False, True]
    assert results[1].status == 413
    assert _numbers(tmp_path / "events.jsonl.000001") + _numbers(tmp_path / "events.jsonl") == [1, 3]


@pytest.mark.parametrize("tail", [b'{"sequ', b"{", b"\0" * 4096, b'\0\0{"sequence": "9"}\n', b'{"sequence"\0\0\n'])
def test_what_a_crash_left_behind_the_last_whole_line_is_cut_off(
    transport: FileTransport, tmp_path: Path, tail: bytes
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(message(1).body + b"\n" + tail)
    assert send_one(transport, TO, message(2)).accepted
    assert _numbers(path) == [1, 2]


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10_000))
def test_whatever_a_file_was_cut_to_its_whole_lines_stay_and_no_other(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cut.jsonl"
    whole = [message(seq).body + b"\n" for seq in range(5)]
    path.write_bytes(b"".join(whole)[: cut % (sum(map(len, whole)) + 1)])
    size = path.stat().st_size
    left = [seq for seq in range(5) if sum(map(len, whole[: seq + 1])) <= size]
    found = SinkFile(path, MIN_ROTATE_BYTES)
    assert found.append([message(9).body + b"\n"]) == (1, "")
    found.close()
    assert _numbers(path) == [*left, 9]


def test_a_file_without_a_whole_line_in_reach_is_left_alone(
    transport: FileTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "REPAIR_BYTES", 10)
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"{}\n" + b"x" * 10)
    result = send_one(transport, TO, message(1))
    assert "no whole line" in result.problem
    assert path.read_bytes() == b"{}\n" + b"x" * 10
    path.write_bytes(b"{}\n" + b"x" * 9)
    assert send_one(transport, TO, message(1)).accepted


def test_a_file_of_something_else_is_left_as_it_is(transport: FileTransport, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"SQLite format 3")
    result = send_one(transport, TO, message(1))
    assert not result.accepted
    assert "name another file" in result.problem
    assert path.read_bytes() == b"SQLite format 3"


FULL = """
import asyncio, os, resource, sys
from tallystick.delivery.sinks import SinkSettings
from tallystick.delivery.sinks.file import FileTransport
from tests.delivery.sink_support import TO_FILE, message

async def main():
    transport = FileTransport(SinkSettings(file_folder=sys.argv[1]))
    path = os.path.join(sys.argv[1], "events.jsonl")
    assert (await transport.send(TO_FILE, message(1))).accepted
    whole = os.path.getsize(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (whole + 50, resource.RLIM_INFINITY))
    results = await transport.send_many(TO_FILE, [message(2), message(3)])
    assert [result.accepted for result in results] == [False, False], results
    assert os.path.getsize(path) == whole, os.path.getsize(path)
    print(results[0].problem)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert (await transport.send(TO_FILE, message(4))).accepted
    await transport.close()

asyncio.run(main())
"""


def test_a_full_disk_refuses_the_batch_and_leaves_no_half_line(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, cwd=root, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "File too large" in done.stdout
    assert _numbers(tmp_path / "events.jsonl") == [1, 4]


@pytest.mark.parametrize("step", ["write", "fsync"])
def test_an_error_of_the_disk_leaves_the_file_as_it_was(
    transport: FileTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    send_one(transport, TO, message(1))
    real: Callable[..., Any] = getattr(os, step)
    calls: list[int] = []

    def fail(descriptor: int, *arguments: Any) -> Any:
        calls.append(descriptor)
        if step == "write":
            if len(calls) == 1:
                return real(descriptor, arguments[0][:7])
            raise OSError(28, "No space left on device")
        if len(calls) == 1:
            raise OSError(5, "Input/output error")
        return real(descriptor)

    monkeypatch.setattr(os, step, fail)
    results = send_all(transport, TO, [message(2), message(3)])
    monkeypatch.undo()
    assert accepted(results) == [False, False]
    assert results[0].problem in ("No space left on device", "Input/output error")
    assert _numbers(tmp_path / "events.jsonl") == [1]
    assert send_one(transport, TO, message(4)).accepted
    assert _numbers(tmp_path / "events.jsonl") == [1, 4]


def test_what_was_written_before_the_disk_was_full_counts(
    transport: FileTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = MIN_ROTATE_BYTES // 2
    real = SinkFile._write

    def fail(self: SinkFile, data: bytes) -> None:
        if b"main/2" in data:
            raise OSError(28, "No space left on device")
        real(self, data)

    monkeypatch.setattr(SinkFile, "_write", fail)
    results = send_all(transport, TO, [of_size(size, 1), of_size(size, 2), of_size(size, 3)])
    assert accepted(results) == [True, False, False]
    assert _numbers(tmp_path / "events.jsonl.000001") == [1]


def test_a_file_moved_away_by_hand_is_begun_anew(transport: FileTransport, tmp_path: Path) -> None:
    send_one(transport, TO, message(1))
    (tmp_path / "events.jsonl").rename(tmp_path / "old.jsonl")
    send_one(transport, TO, message(2))
    (tmp_path / "events.jsonl").unlink()
    send_one(transport, TO, message(3))
    assert (_numbers(tmp_path / "old.jsonl"), _numbers(tmp_path / "events.jsonl")) == ([1], [3])


def test_several_writers_of_one_file_lose_and_mix_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "LOCK_SECONDS", 60)
    chosen = SinkSettings(file_folder=str(tmp_path), file_rotate_bytes=MIN_ROTATE_BYTES)

    failures: list[str] = []

    def write(first: int) -> None:
        transport = FileTransport(chosen)
        for seq in range(first, first + 60, 3):
            results = send_all(transport, TO, [of_size(900, seq + more) for more in range(3)])
            failures.extend(result.problem for result in results if not result.accepted)
        close(transport)

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 60, 120, 180)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [number for path in tmp_path.iterdir() for number in _numbers(path)]
    assert failures == []
    assert sorted(found) == list(range(240))
    assert all(path.stat().st_size <= MIN_ROTATE_BYTES for path in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == 4


def test_a_file_that_another_process_does_not_let_go_is_a_problem(
    transport: FileTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "LOCK_SECONDS", 0.02)
    with (tmp_path / "events.jsonl").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        result = send_one(transport, TO, message(1))
        assert not result.accepted
        assert "another process" in result.problem
        fcntl.flock(other, fcntl.LOCK_UN)
        assert send_one(transport, TO, message(1)).accepted


# ---------------------------------------------------------------- where it may write


@pytest.mark.parametrize(
    "url", ["../events.jsonl", "/etc/events.jsonl", "file:///tmp/events.jsonl", "out/events.jsonl"]
)
def test_nothing_outside_the_folder_is_written(tmp_path: Path, url: str) -> None:
    folder = tmp_path / "sinks"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path)
    transport = FileTransport(SinkSettings(file_folder=str(folder)))
    result = send_one(transport, endpoint("file", url), message(1))
    assert not result.accepted
    assert result.problem
    assert not (tmp_path / "events.jsonl").exists()


def test_a_file_in_a_folder_below_may_be_named_in_full(transport: FileTransport, tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    for url in ("books/a.jsonl", f"{tmp_path}/books/a.jsonl", f"file://{tmp_path}/books/a.jsonl"):
        assert send_one(transport, endpoint("file", url), message(1)).accepted
    assert _numbers(tmp_path / "books" / "a.jsonl") == [1, 1, 1]


def test_no_folder_named_is_no_file_written() -> None:
    result = send_one(FileTransport(SinkSettings()), TO, message(1))
    assert not result.accepted
    assert "TALLYSTICK_SINK_FOLDER" in result.problem


def test_links_pipes_and_missing_folders_are_problems(transport: FileTransport, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "pipe.jsonl")
    problems = [
        send_one(transport, endpoint("file", url), message(1)).problem
        for url in ("link.jsonl", "pipe.jsonl", "missing/a.jsonl")
    ]
    assert "symbolic link" in problems[0]
    assert "not a plain file" in problems[1]
    assert "No such file" in problems[2]
    assert (tmp_path / "target").read_bytes() == b""


def test_only_so_many_files_are_open_at_once(
    transport: FileTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "MAX_FILES", 2)
    for _ in range(2):
        for name in "abcd":
            assert send_one(transport, endpoint("file", f"{name}.jsonl"), message(1)).accepted
    assert len(transport._files) == 2
    assert [_numbers(tmp_path / f"{name}.jsonl") for name in "abcd"] == [[1, 1]] * 4


def test_a_file_that_was_closed_in_between_is_closed_again_after_it_was_written(tmp_path: Path) -> None:
    found = SinkFile(tmp_path / "events.jsonl", MIN_ROTATE_BYTES)
    found.close()
    assert found.append([b"{}\n"]) == (1, "")
    assert found._descriptor == -1
