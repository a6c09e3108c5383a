"""The command as a process of its own: pipes, exit codes, what it loads, and other writers."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tallystick
from tallystick.importing import MAX_BATCH
from tests.cli.conftest import Tally
from tests.support.stores import on_files

PROGRAM = str(Path(sys.executable).with_name("tally"))


def _run(tally: Tally, *words: str, **more: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TALLYSTICK_FILE": tally.file}
    return subprocess.run(
        [PROGRAM, *words], env=environment, capture_output=True, text=True, check=False, timeout=60, **more
    )  # type: ignore[call-overload,no-any-return]


def test_the_exit_codes_tell_done_refused_wrong_and_faulty(tally: Tally) -> None:
    pay = ("transfer", "users:alice", "users:bob")
    assert _run(tally, *pay, "1", "USD/2").returncode == 0
    assert _run(tally, *pay, "1000", "USD/2").returncode == 1
    assert _run(tally, *pay, "much", "USD/2").returncode == 2
    assert _run(tally, "-f", "missing.db", *pay, "1", "USD/2", cwd=tally.folder).returncode == 3
    assert not (tally.folder / "missing.db").exists()


def test_an_error_is_two_lines_without_a_traceback(tally: Tally) -> None:
    done = _run(tally, "transfer", "users:alice", "users:bob", "1000", "USD/2")
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 2
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_had_enough_is_no_error(tally: Tally) -> None:
    rows = "".join(
        json.dumps(
            {
                "command": "transfer",
                "key": f"k{number}",
                "from_account": "users:alice",
                "to_account": "users:bob",
                "asset": "USD/2",
                "amount": 1,
            }
        )
        + "\n"
        for number in range(3_000)
    )
    tally("import", "-", stdin=rows.encode())
    command = f'"{PROGRAM}" -f "{tally.file}" events --limit 0 --json | head -n 1; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    first, code = done.stdout.splitlines()
    assert json.loads(first)["id"] == "main/0"
    assert (code, done.stderr) == ("0", "")


def test_an_import_that_was_killed_is_simply_run_again(tally: Tally) -> None:
    mapping = tally.write(
        "mapping.toml",
        """
command = "transfer"
key = "row:{Id}"
[fields]
from_account = "users:alice"
to_account = "users:bob"
asset = "USD/2"
amount = "0.01"
""",
    )
    rows = "Id\n" + "".join(f"{number}\n" for number in range(MAX_BATCH + 500))
    with subprocess.Popen([PROGRAM, "-f", tally.file, "import", "-", "-m", mapping], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(rows.encode())
        process.stdin.flush()  # but not closed: the import waits for more when it is killed
        while _events(tally) < MAX_BATCH:
            assert process.poll() is None
        process.kill()
    report = tally.json("import", tally.write("rows.csv", rows), "-m", mapping)
    assert (report["posted"], report["replayed"]) == (500, MAX_BATCH)
    assert tally.available("users:bob") == {"USD/2": str(MAX_BATCH + 500)}
    assert tally.json("replay")["ok"]


def _events(tally: Tally) -> int:
    with tallystick.open(tally.file, read_only=True) as book:
        return book.ledger("main").head.seq


@on_files
def test_a_ledger_that_another_process_writes_is_told_so(tally: Tally) -> None:
    with tallystick.open(tally.file) as book:
        book.ledger("main").mint("users:alice", "USD/2", 1, key="here")
        done = _run(tally, "mint", "users:alice", "1", "USD/2", "--json")
        assert done.returncode == 3
        error = json.loads(done.stderr)["error"]
        assert (error["code"], error["retryable"]) == ("ledger_locked", True)
        assert error["key"]
        assert _run(tally, "balances", "users:alice").returncode == 0


def test_nothing_is_drawn_where_there_is_no_terminal(tally: Tally) -> None:
    for words in (("replay",), ("rebuild",), ("balances",)):
        done = _run(tally, *words)
        assert done.returncode == 0
        assert done.stderr == ""
        assert "\x1b" not in done.stdout


def test_help_loads_neither_the_engine_nor_the_drawing() -> None:
    probe = "import sys, tallystick.cli; print('rich' in sys.modules, 'tallystick.importing' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "False"]


def test_a_character_that_the_output_cannot_show_is_no_traceback(tally: Tally) -> None:
    tally("transfer", "users:alice", "users:bob", "1", "USD/2", "--reason", "Gebühr für Ω")
    done = subprocess.run(
        [PROGRAM, "-f", tally.file, "register", "users:bob"],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0
    assert b"\\u03a9" in done.stdout


@on_files
@pytest.mark.parametrize("words", [("--version",), ("--help",), ("hold", "--help"), ("import", "--help")])
def test_help_and_version_need_no_ledger(empty: Tally, words: tuple[str, ...]) -> None:
    assert _run(empty, *words).returncode == 0
    assert list(empty.folder.iterdir()) == []


def _on_a_terminal(tally: Tally, columns: int, *words: str) -> str:
    """What a terminal of this width is sent, without its control sequences."""
    here, there = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns), "LINES": "40"}
    with subprocess.Popen(
        [PROGRAM, "-f", tally.file, *words], env=environment, stdin=there, stdout=there, stderr=there
    ) as process:
        os.close(there)
        sent = b""
        while chunk := _read(here):
            sent += chunk
        process.wait(timeout=60)
    os.close(here)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent.decode()).replace("\r\n", "\n")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # how a terminal says that the other end is closed
        return b""


def test_a_wide_terminal_gets_a_table_and_a_narrow_one_a_fact_a_line(tally: Tally) -> None:
    tally("mint", "users:rich", "1234567.89", "USD/2")
    wide = _on_a_terminal(tally, 120, "register", "users:rich").splitlines()
    assert wide[0].split() == ["id", "time", "type", "bucket", "asset", "amount", "before", "after", "note"]
    assert "1,234,567.89" in wide[1]
    narrow = _on_a_terminal(tally, 40, "register", "users:rich").splitlines()
    assert "amount  1,234,567.89" in narrow
    assert max(len(line) for line in narrow) <= 40


def test_a_terminal_sees_how_far_long_work_is(tally: Tally) -> None:
    assert "replaying" in _on_a_terminal(tally, 80, "replay")
