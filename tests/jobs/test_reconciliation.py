"""Nightly reconciliation: what was altered is found, kept in a report, and told."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

import tallystick
from tallystick.control import open_control
from tallystick.control.memory import MemoryControl
from tallystick.errors import InvalidInput, Unavailable
from tallystick.jobs import Context, Outcome, Stopped
from tallystick.jobs.reconciliation import MAX_FINDING_CHARACTERS, REPORT_FORMAT, Reconciliation, document_of
from tallystick.jobs.replaying import replay_apart
from tallystick.ledger import Database
from tallystick.ledger.audit import MAX_FINDINGS
from tallystick.ledger.views import Finding, Report
from tallystick.telemetry.metrics import Metrics
from tests.jobs.support import NOON, Time, run_once
from tests.ledger.test_audit import unguarded
from tests.support.stores import on_files, on_lasting_stores

USD = "USD/2"
ALTER = "UPDATE entry SET amount = amount + 1, after = after + 1 WHERE seq = (SELECT max(seq) FROM entry)"


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def database(url: str, time: Time) -> Iterator[Database]:
    with tallystick.open(url, clock=time) as found:
        ledger = found.ledger("main")
        ledger.mint("users:alice", USD, 100, key="1")
        ledger.transfer("users:alice", "users:bob", USD, 5, key="2")
        yield found


@pytest.fixture
def altered(url: str, time: Time) -> Iterator[Database]:
    """A ledger whose last entries somebody has altered behind its back."""
    with tallystick.open(url, clock=time) as database:
        ledger = database.ledger("main")
        ledger.mint("users:alice", USD, 100, key="1")
        ledger.transfer("users:alice", "users:bob", USD, 5, key="2")
    with unguarded(url) as hand:
        hand.execute(ALTER)
    with tallystick.open(url, clock=time) as database:
        yield database


def test_sound_books_get_a_report_that_says_what_was_checked(database: Database, time: Time) -> None:
    control = MemoryControl()
    found, alerts = run_once(database, Reconciliation(), control=control, clock=time)
    assert [(run.outcome, run.ledger) for run in found.runs] == [("done", "main")]
    (kept,) = control.reports()
    head = database.ledger("main").head
    assert kept.ok
    assert kept.body["format"] == REPORT_FORMAT
    assert kept.body["head"] == {"seq": head.seq, "hash": head.hash}
    assert kept.body["counts"]["events"] == head.seq
    assert kept.body["counts"]["entries"] > 0
    assert kept.body["findings"] == []
    assert NOON < kept.time == kept.body["began"] < kept.body["ended"]
    assert alerts == []
    assert f"report {kept.id}" in found.runs[0].detail


@on_lasting_stores
def test_what_was_altered_is_a_mismatch_that_people_are_told_of(
    altered: Database, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    control, metrics = MemoryControl(), Metrics()
    found, alerts = run_once(altered, Reconciliation(), control=control, clock=time, metrics=metrics)
    (run,) = found.runs
    (kept,) = control.reports()
    assert run.outcome == "mismatch"
    assert not kept.ok
    assert kept.body["findings"]
    assert [(alert.kind, alert.ledger, alert.data["report"]) for alert in alerts] == [("mismatch", "main", kept.id)]
    assert any(record.levelno == logging.CRITICAL for record in caplog.records)
    assert b'tallystick_replay_ok{ledger="main"} 0.0' in metrics.render()
    assert b'tallystick_job_runs_total{job="reconciliation",outcome="mismatch"} 1.0' in metrics.render()


def test_the_metrics_say_that_all_is_well(database: Database, time: Time) -> None:
    metrics = Metrics()
    run_once(database, Reconciliation(), clock=time, metrics=metrics)
    shown = metrics.render()
    assert b'tallystick_replay_ok{ledger="main"} 1.0' in shown
    assert b'tallystick_ledger_imbalance{asset="USD/2",ledger="main"} 0.0' in shown


def test_a_report_is_one_json_document_of_bounded_size() -> None:
    findings = [Finding("x" * 10**6, "y" * 10**6)] * (MAX_FINDINGS * 2)
    body = document_of(Report("main", 1, 2, 3, 0.5, "ab" * 32, findings), NOON, NOON)
    assert json.loads(json.dumps(body)) == body
    assert len(body["findings"]) == MAX_FINDINGS == body["findings_limit"]
    assert {len(text) for finding in body["findings"] for text in finding.values()} == {MAX_FINDING_CHARACTERS}
    assert not body["ok"]


def test_a_report_of_what_was_damaged_beyond_reading_can_be_kept(url: str) -> None:
    body = document_of(Report("main", 1, 2, 3, 0.5, "ab" * 32, [Finding("\x00", "\ud800\x1b")]), NOON, NOON)
    with closing(open_control(url)) as control:
        kept = control.report(control.keep_report("main", NOON, False, body))
        assert kept is not None
        assert kept.body == body


def test_the_lag_is_how_late_it_is_since_the_last_report(database: Database, time: Time) -> None:
    control = MemoryControl()
    run_once(database, Reconciliation(), control=control, clock=time)
    time.move(86_400 + 500)
    found, _ = run_once(database, Reconciliation(), control=control, clock=time)
    assert found.runs[0].lag_seconds == pytest.approx(500, abs=1)


@pytest.mark.parametrize("url", ["memory", "sqlite"], indirect=True)
def test_a_replay_ends_when_the_process_is_to_end(database: Database, time: Time) -> None:
    control, stop = MemoryControl(), threading.Event()
    stop.set()
    context = Context(database, control, "reconciliation", "main", clock=time, holder="h", stop=stop)
    with pytest.raises(Stopped):
        Reconciliation().run(context)
    assert control.reports() == []


def test_a_time_of_day_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput):
        Reconciliation("25:00")


# ---------------------------------------------------------------- in a process of its own


@on_lasting_stores
def test_apart_it_finds_what_it_finds_here(database: Database, url: str) -> None:
    here = database.replay("main")
    apart = replay_apart(url, "main", lambda: None)
    assert msgspec.structs.replace(apart, seconds=0) == msgspec.structs.replace(here, seconds=0)


@on_lasting_stores
def test_apart_it_finds_what_was_altered(altered: Database, url: str, time: Time) -> None:
    control = MemoryControl()
    found, alerts = run_once(altered, Reconciliation(url=url), control=control, clock=time)
    assert [run.outcome for run in found.runs] == ["mismatch"]
    assert len(alerts) == 1


@on_files
def test_apart_it_reads_beside_the_process_that_writes(database: Database, url: str) -> None:
    ledger = database.ledger("main")
    ledger.mint("users:alice", USD, 1, key="this process has the lock")
    assert replay_apart(url, "main", lambda: None).events == ledger.head.seq


def test_a_replay_that_cannot_be_done_says_why_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="there is no ledger at"):
        replay_apart(str(tmp_path / "none.db"), "main", lambda: None)
    with pytest.raises(Unavailable) as failed:
        replay_apart("postgresql://me:hush-hush@127.0.0.1:1/books", "main", lambda: None)
    assert "hush-hush" not in str(failed.value)


@on_files
def test_apart_it_ends_at_once_when_it_must_not_go_on(database: Database, url: str) -> None:
    def check() -> None:
        raise Stopped("enough")

    with pytest.raises(Stopped):
        replay_apart(url, "main", check)


def test_the_child_ends_with_its_parent(tmp_path: Path) -> None:
    """Its input ends while it is at work: it is told a fifo, which nobody opens, and waits there for ever."""
    program = (
        "import tallystick, threading, sys\n"
        "tallystick.open = lambda *a, **m: threading.Event().wait()\n"
        "from tallystick.jobs.replaying import main\n"
        "main()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
    assert child.stdin is not None
    child.stdin.write(b'{"url":"x","ledger":"main"}\n')
    child.stdin.close()
    assert child.wait(20) == 1


def test_a_mismatch_outcome_is_kept_apart_from_success() -> None:
    assert Outcome(outcome="mismatch") != Outcome()
