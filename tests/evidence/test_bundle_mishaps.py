"""A bundle is whole or it is not there, whatever happens while it is written."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tallystick
from tallystick import Ledger
from tallystick.errors import InvalidInput, Unavailable
from tallystick.evidence import bundle_files, durable
from tallystick.evidence.bundle import export
from tallystick.evidence.log import Log
from tests.evidence.bundle_support import files_of, ledger_of, open_log, passed
from tests.verify.conftest import trade

__all__ = ["trade"]

ALICE, BOB, USD = "users:alice", "users:bob", "USD/2"


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with tallystick.open("memory://") as database:
        found = database.ledger("main")
        found.mint(ALICE, USD, 10_000, key="fund")
        yield found


@pytest.fixture
def log(ledger: Ledger, tmp_path: Path) -> Log:
    return open_log(ledger, tmp_path / "home")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_with_something_in_it_is_refused_and_left_as_it_was(tmp_path: Path, log: Log):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / ".hidden").write_bytes(b"mine")
    with pytest.raises(InvalidInput, match="things in it"):
        export(log, tmp_path / "bundle")
    (tmp_path / "file").write_bytes(b"mine too")
    with pytest.raises(InvalidInput, match="no folder"):
        export(log, tmp_path / "file")
    assert files_of(tmp_path / "bundle") == {".hidden": b"mine"}
    assert (tmp_path / "file").read_bytes() == b"mine too"
    assert names(tmp_path) == ["bundle", "file", "home"]
    assert log.note is None  # nothing was signed for it either


def test_an_empty_folder_is_taken_as_it_is_also_behind_a_link(tmp_path: Path, log: Log):
    (tmp_path / "bundle").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("bundle")
    export(log, tmp_path / "link")
    passed(tmp_path / "bundle")
    assert (tmp_path / "bundle").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "link").is_symlink()


def test_folders_above_the_bundle_are_made(tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    export(log, "exports/2026/january")
    passed(tmp_path / "exports/2026/january")
    assert names(tmp_path / "exports/2026") == ["january"]


class FullDisk:
    """The module ``os`` on a disk that takes no more after so many calls."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __getattr__(self, name: str) -> Any:
        return self._failing(getattr(os, name)) if name in ("open", "fdopen", "fsync") else getattr(os, name)

    def _failing(self, real: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments, **more)

        return call


@pytest.mark.parametrize("calls", range(0, 56, 5))
def test_a_disk_that_is_full_at_any_moment_leaves_nothing_behind(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch, calls: int
):
    log.checkpoint()
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        disk = FullDisk(calls)
        for module in (bundle_files, durable):
            patch.setattr(module, "os", disk)
        with pytest.raises(Unavailable, match="No space left"):
            export(log, tmp_path / "bundle", sign=False)
    assert names(tmp_path) == ["home"]
    assert len(os.listdir("/proc/self/fd")) == before
    export(log, tmp_path / "bundle")
    passed(tmp_path / "bundle")


def test_a_write_that_does_not_reach_the_disk_leaves_nothing_behind(tmp_path: Path, trade: list[bytes]):
    """A real limit, not a pretended one: no file of the process may grow beyond 64 kB."""
    program = """
import resource, signal, sys
from pathlib import Path
from tallystick.errors import Unavailable
from tallystick.evidence.bundle import export
from tests.evidence.bundle_support import ledger_of, open_log
folder = Path(sys.argv[1])
bodies = [line for line in (folder / "bodies").read_bytes().split(b"\\n") if line]
with ledger_of(bodies) as ledger:
    log = open_log(ledger, folder / "home")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))
    try:
        export(log, folder / "bundle")
    except Unavailable as error:
        print(error)
"""
    (tmp_path / "bodies").write_bytes(b"\n".join(trade))
    done = run_python(program, tmp_path)
    assert "File too large" in done.stdout, done.stderr
    assert names(tmp_path) == ["bodies", "home"]


def test_a_process_that_dies_in_the_middle_leaves_no_bundle(tmp_path: Path, trade: list[bytes]):
    program = """
import os, signal, sys
from pathlib import Path
from tallystick.evidence.bundle import export
from tests.evidence.bundle_support import ledger_of, open_log
folder = Path(sys.argv[1])
bodies = [line for line in (folder / "bodies").read_bytes().split(b"\\n") if line]
def die(done, total):
    if done >= 512:
        os.kill(os.getpid(), signal.SIGKILL)
with ledger_of(bodies) as ledger:
    export(open_log(ledger, folder / "home"), folder / "bundle", progress=die)
"""
    (tmp_path / "bodies").write_bytes(b"\n".join(trade))
    done = run_python(program, tmp_path)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = [path for path in tmp_path.iterdir() if path.name not in ("bodies", "home")]
    assert len(left) == 1
    assert left[0].name.startswith(".bundle.")
    assert left[0].name.endswith(".unfinished")
    assert not (left[0] / "manifest.json").exists()
    with ledger_of(trade) as again:
        export(open_log(again, tmp_path / "other home"), tmp_path / "bundle")
    passed(tmp_path / "bundle")


def run_python(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_an_interruption_leaves_nothing_behind(tmp_path: Path, log: Log):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(log, tmp_path / "bundle", progress=interrupt)
    assert names(tmp_path) == ["home"]


def test_what_came_into_the_place_meanwhile_is_not_written_over(tmp_path: Path, log: Log):
    def come_between(done: int, total: int) -> None:
        (tmp_path / "bundle").mkdir()
        (tmp_path / "bundle" / "theirs").write_bytes(b"theirs")

    with pytest.raises(Unavailable):
        export(log, tmp_path / "bundle", progress=come_between)
    assert files_of(tmp_path / "bundle") == {"theirs": b"theirs"}
    assert names(tmp_path) == ["bundle", "home"]


def test_what_is_posted_meanwhile_does_not_touch_the_bundle(tmp_path: Path, log: Log, ledger: Ledger):
    for number in range(300):
        ledger.transfer(ALICE, BOB, USD, 1, key=f"t{number}")

    def post(done: int, total: int) -> None:
        ledger.transfer(ALICE, BOB, USD, 1, key=f"meanwhile {done}")
        log.checkpoint()

    export(log, tmp_path / "bundle", progress=post)
    assert passed(tmp_path / "bundle")["size"] == 302


def test_progress_goes_up_to_the_size_of_the_log(tmp_path: Path, trade: list[bytes]):
    seen: list[tuple[int, int]] = []
    with ledger_of(trade) as told_again:
        export(
            open_log(told_again, tmp_path / "home"),
            tmp_path / "bundle",
            end=300,
            progress=lambda done, total: seen.append((done, total)),
        )
    assert seen == [(256, 700), (512, 700), (700, 700)]


def test_a_book_does_not_keep_what_is_over(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    """The memory of an export is that of balances, accounts and open locks, not of the journal."""
    from tallystick.evidence import bundle  # noqa: PLC0415 - beside its only use

    for number in range(20):
        hold = ledger.hold(ALICE, USD, 10, expires_in_seconds=600, key=f"h{number}")
        charge = ledger.capture(hold.id, to_account=BOB, amount=10, key=f"c{number}")
        ledger.reverse(charge.id, 4, key=f"r{number}")
    kept: list[set[str]] = []
    real = bundle._forget
    monkeypatch.setattr(
        bundle, "_forget", lambda book: (real(book), kept.append({kind for kind, _ in book.objects}))[0]
    )
    export(open_log(ledger, tmp_path / "home"), tmp_path / "bundle")
    assert kept == [{"ledger", "policy", "asset"}]
    passed(tmp_path / "bundle")
