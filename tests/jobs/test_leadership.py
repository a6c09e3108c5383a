"""One leader at a time, in real processes: one that is killed, suspended or told to end is followed by another."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tallystick
from tallystick.control import JobRun, open_control
from tests.jobs.support import eventually
from tests.support.stores import on_lasting_stores

LEASE_SECONDS = 2.0
STEPS_BESIDE = 1
"""A leader may be in the middle of a step when its lease ends."""
ROOT = Path(__file__).parents[2]


class Leader:
    """A process that leads when it may."""

    def __init__(self, url: str, notes: Path, errors: Path, lease: float) -> None:
        self._notes = notes
        self._errors = errors.open("ab")
        words = [sys.executable, "-m", "tests.jobs.leader", url, str(notes), str(lease)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, cwd=ROOT
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n", errors.read_text()

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def noted(self, what: str) -> list[int]:
        """The places of its notes of a kind among those of all."""
        wanted = f"{self.pid} {what} "
        text = self._notes.read_text() if self._notes.exists() else ""
        return [place for place, line in enumerate(text.splitlines()) if line.startswith(wanted)]

    def leads(self) -> bool:
        return bool(self.noted("step"))

    def end(self) -> None:
        """Tell it to end, and see that it did."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(20) == 0

    def bury(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


class Stage:
    """Where leaders meet."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._folder = folder
        self._leaders: list[Leader] = []
        with tallystick.open(url) as database:
            database.ledger("main").mint("users:alice", "USD/2", 1, key="1")

    def enter(self, lease: float = LEASE_SECONDS) -> Leader:
        leader = Leader(self.url, self._folder / "notes", self._folder / "errors", lease)
        self._leaders.append(leader)
        return leader

    def runs(self) -> list[JobRun]:
        control = open_control(self.url)
        try:
            return control.runs(job="stepping")
        finally:
            control.close()

    def check_one_at_a_time(self) -> None:
        """Nobody did a step after another had begun to lead, but for the one that he was in the middle of. Nothing is
        said of who leads: on a busy machine any process may be late to renew."""
        leads, beside = "", 0
        for line in (self._folder / "notes").read_text().splitlines():
            who, what, _ = line.split()
            if what == "leads":
                leads, beside = who, 0
            elif what == "step" and who != leads:
                beside += 1
            assert beside <= STEPS_BESIDE, line

    def clear(self) -> None:
        for leader in self._leaders:
            leader.bury()


@pytest.fixture
def stage(url: str, tmp_path: Path) -> Iterator[Stage]:
    made = Stage(url, tmp_path)
    yield made
    made.clear()


@on_lasting_stores
def test_a_leader_that_is_killed_is_followed_by_another(stage: Stage) -> None:
    first = stage.enter()
    eventually(first.leads)
    second = stage.enter()
    steps = len(first.noted("step"))
    eventually(lambda: len(first.noted("step")) > steps + 50)
    first.signal(signal.SIGKILL)
    eventually(second.leads)
    second.end()
    stage.check_one_at_a_time()
    closed = [run for run in stage.runs() if f":{first.pid}:" in run.holder]
    assert {run.outcome for run in closed} == {"failed"}
    assert str(first.pid) in closed[0].detail
    assert all(run.outcome != "running" for run in stage.runs())


@on_lasting_stores
def test_a_leader_that_was_suspended_does_no_step_beside_the_next(stage: Stage) -> None:
    first = stage.enter()
    eventually(first.leads)
    second = stage.enter()
    first.signal(signal.SIGSTOP)
    eventually(second.leads)
    first.signal(signal.SIGCONT)
    eventually(lambda: first.noted("lost"))
    steps = len(second.noted("step"))
    eventually(lambda: len(second.noted("step")) > steps + 50)
    second.end()
    last = second.noted("step")[-1]
    eventually(lambda: first.noted("step")[-1] > last)
    first.end()
    stage.check_one_at_a_time()


@on_lasting_stores
def test_a_leader_that_ends_gives_its_lease_back(stage: Stage) -> None:
    first = stage.enter(lease=600.0)
    eventually(first.leads)
    first.end()
    second = stage.enter(lease=600.0)
    eventually(second.leads)  # long before the lease would have run out
    second.end()
    stage.check_one_at_a_time()


def test_the_check_finds_steps_beside_another_leader(tmp_path: Path) -> None:
    """The check of the check."""
    stage = Stage("memory://", tmp_path)
    (tmp_path / "notes").write_text("1 leads 0\n1 step 0\n2 leads 0\n1 step 0\n2 step 0\n")
    stage.check_one_at_a_time()
    with (tmp_path / "notes").open("a") as notes:
        notes.write("1 step 0\n")
    with pytest.raises(AssertionError):
        stage.check_one_at_a_time()
