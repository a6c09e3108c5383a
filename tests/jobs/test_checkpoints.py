"""Checkpoints: every log that has a home is signed, and published where that is asked for, but never by mistake."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import tallystick
from tallystick.control.memory import MemoryControl
from tallystick.errors import InvalidInput
from tallystick.evidence.home import LogHome
from tallystick.jobs import Alert, Runner
from tallystick.jobs.checkpoints import LOOK_SECONDS, Checkpoints, homes_in
from tallystick.journal.checkpoints import read_checkpoint
from tallystick.ledger import Database, Ledger
from tallystick.telemetry.metrics import Metrics
from tests.jobs.support import SOON, Time, eventually, run_once

USD = "USD/2"


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def database(url: str, time: Time, tmp_path: Path) -> Iterator[Database]:
    """The ledger main with a log, whose home is homes/main, and the ledger other without one."""
    with tallystick.open(url, clock=time) as found:
        for name in ("main", "other"):
            found.ledger(name).mint("users:alice", USD, 100, key="1")
        LogHome(tmp_path / "homes" / "main").begin(found.ledger("main"), "books.example/main")
        yield found


@pytest.fixture
def job(tmp_path: Path) -> Checkpoints:
    return Checkpoints(homes_in(tmp_path / "homes"))


def signed(ledger: Ledger) -> int:
    note = ledger.journal.checkpoint()
    return 0 if note is None else read_checkpoint(note).size


def said(database: Database, job: Checkpoints, time: Time, **more: object) -> dict[str, tuple[str, str, float]]:
    found, _ = run_once(database, job, clock=time, **more)
    return {run.ledger: (run.outcome, run.detail, run.lag_seconds) for run in found.runs}


def test_what_is_new_is_signed_and_a_ledger_without_a_log_is_left_alone(
    database: Database, job: Checkpoints, time: Time
) -> None:
    found = said(database, job, time)
    assert signed(database.ledger("main")) == database.ledger("main").head.seq
    assert found["main"][:2] == ("done", "signed a checkpoint")
    assert found["other"] == ("done", "it has no log", 0)
    assert signed(database.ledger("other")) == 0


def test_the_lag_is_the_age_of_the_oldest_event_under_no_checkpoint(
    database: Database, job: Checkpoints, time: Time
) -> None:
    ledger = database.ledger("main")
    said(database, job, time)
    for number in range(3):
        ledger.mint("users:alice", USD, 1, key=f"more {number}")
        time.move(100)
    metrics = Metrics()
    assert said(database, job, time, metrics=metrics)["main"][2] == pytest.approx(300, abs=1)
    assert said(database, job, time)["main"][2] == 0
    assert b'tallystick_checkpoint_lag_seconds{ledger="main"} 0.0' in metrics.render()


def test_while_nothing_is_posted_the_log_is_looked_at_now_and_then(
    database: Database, job: Checkpoints, time: Time, tmp_path: Path
) -> None:
    said(database, job, time)
    (tmp_path / "homes" / "main" / "checkpoint").write_bytes(b"nonsense")
    assert said(database, job, time)["main"][0] == "done"
    time.move(LOOK_SECONDS + 1)
    assert said(database, job, time)["main"][0] == "failed"


def test_a_fork_is_told_to_people_and_nothing_is_signed(
    database: Database, job: Checkpoints, time: Time, tmp_path: Path
) -> None:
    ledger = database.ledger("main")
    said(database, job, time)
    before = ledger.journal.checkpoint()
    ledger.mint("users:alice", USD, 1, key="more")
    (tmp_path / "homes" / "main" / "forked").write_text("a witness shows another history\n")
    found, alerts = run_once(database, job, clock=time)
    assert [run.outcome for run in found.runs if run.ledger == "main"] == ["failed"]
    assert [(alert.kind, alert.ledger) for alert in alerts] == [("fork", "main")]
    assert "another history" in alerts[0].summary
    assert ledger.journal.checkpoint() == before


def test_a_key_that_was_rotated_by_another_process_is_taken_up(
    database: Database, job: Checkpoints, time: Time, tmp_path: Path
) -> None:
    ledger, home = database.ledger("main"), LogHome(tmp_path / "homes" / "main")
    said(database, job, time)
    home.rotate(home.open(ledger))
    ledger.mint("users:alice", USD, 1, key="more")
    assert said(database, job, time)["main"][0] == "done"
    note = ledger.journal.checkpoint()
    assert note is not None
    new = home.open(ledger).verifier
    assert any(line.is_by(new) for line in tallystick.journal.notes.Note.parse(note).signatures)


def test_nothing_is_published_unless_that_is_asked_for(
    database: Database, job: Checkpoints, time: Time, tmp_path: Path
) -> None:
    LogHome(tmp_path / "homes" / "main").remember(publication=str(tmp_path / "published"))
    (tmp_path / "published").mkdir()
    said(database, job, time)
    assert signed(database.ledger("main")) > 0
    assert not (tmp_path / "published" / "checkpoint").exists()


def test_what_is_asked_for_is_published_with_its_events(database: Database, time: Time, tmp_path: Path) -> None:
    LogHome(tmp_path / "homes" / "main").remember(publication=str(tmp_path / "published"))
    job = Checkpoints(homes_in(tmp_path / "homes"), publish=True)
    assert "it is published" in said(database, job, time)["main"][1]
    assert (tmp_path / "published" / "checkpoint").read_bytes() == database.ledger("main").journal.checkpoint()
    assert (tmp_path / "published" / "tile" / "entries").exists()


def test_the_events_of_a_private_log_are_never_published_by_mistake(
    database: Database, time: Time, tmp_path: Path
) -> None:
    LogHome(tmp_path / "homes" / "main").remember(publication=str(tmp_path / "published"))
    private = Checkpoints(homes_in(tmp_path / "homes"), publish=True, entries=str(tmp_path / "entries"))
    assert said(database, private, time)["main"][0] == "done"
    assert (tmp_path / "entries" / "main" / "tile" / "entries").exists()
    assert not (tmp_path / "published" / "tile" / "entries").exists()
    database.ledger("main").mint("users:alice", USD, 1, key="more")
    careless = Checkpoints(homes_in(tmp_path / "homes"), publish=True)
    outcome, detail, _ = said(database, careless, time)["main"]
    assert outcome == "failed"
    assert "hashes alone" in detail
    assert not (tmp_path / "published" / "tile" / "entries").exists()


def test_entries_without_publishing_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        Checkpoints(homes_in(tmp_path), entries="somewhere")


def test_a_policy_that_cannot_be_read_is_a_failure_that_is_tried_again(
    database: Database, job: Checkpoints, time: Time, tmp_path: Path
) -> None:
    LogHome(tmp_path / "homes" / "main").remember(policy=str(tmp_path / "policy"))
    assert said(database, job, time)["main"][0] == "failed"
    (tmp_path / "policy").write_text("quorum none\n")
    assert said(database, job, time)["main"][0] == "done"


def test_in_the_background_what_is_posted_is_soon_signed(url: str, tmp_path: Path) -> None:
    with tallystick.open(url) as database:
        ledger = database.ledger("main")
        ledger.mint("users:alice", USD, 100, key="1")
        LogHome(tmp_path / "homes" / "main").begin(ledger, "books.example/main")
        alerts: list[Alert] = []
        job = Checkpoints(homes_in(tmp_path / "homes"), 0.05)
        with Runner(database, MemoryControl(), [job], on_alert=alerts.append):
            poster = threading.Thread(
                target=lambda: [ledger.mint("users:alice", USD, 1, key=f"more {n}") for n in range(50)]
            )
            poster.start()
            poster.join(SOON)
            eventually(lambda: signed(ledger) == ledger.head.seq)
        assert alerts == []
