"""Runs that follow one another share a record, so that a job that runs all the time does not fill the store."""

from __future__ import annotations

from tallystick.clock import add_seconds
from tallystick.control import JobRun
from tallystick.jobs.runs import IDLE_SECONDS, MAX_DETAIL, SAVED_SECONDS, WORKED_SECONDS, FoldedRuns, cut
from tests.jobs.support import NOON


def run(second: float, lag: float = 0.0, outcome: str = "done") -> JobRun:
    started = add_seconds(NOON, second)
    return JobRun(job="j", ledger="main", started=started, finished=started, outcome=outcome, lag_seconds=lag)


def test_a_day_of_idle_runs_leaves_a_record_an_hour() -> None:
    folded, kept = FoldedRuns(), {}
    for second in range(0, 86_400, 2):
        if (row := folded.add(run(second), idle=True)) is not None:
            kept[row.started] = row
    assert len(kept) == 86_400 / IDLE_SECONDS


def test_idle_runs_are_written_down_now_and_then() -> None:
    folded = FoldedRuns()
    written = sum(folded.add(run(second), idle=True) is not None for second in range(0, 600, 2))
    assert written <= 600 / SAVED_SECONDS + 1


def test_the_last_idle_runs_are_written_down_in_the_end() -> None:
    folded = FoldedRuns()
    assert folded.add(run(0), idle=True) is not None
    assert folded.end() is None
    folded.add(run(2), idle=True)
    folded.add(run(4), idle=True)
    row = folded.end()
    assert row is not None
    assert (row.started, row.finished) == (run(2).started, run(4).finished)
    assert folded.end() is None


def test_runs_that_worked_are_written_down_at_once_in_a_record_a_minute_with_the_worst_lag() -> None:
    folded, kept = FoldedRuns(), {}
    for second, lag in ((0, 1.0), (2, 9.0), (4, 2.0), (WORKED_SECONDS, 3.0)):
        row = folded.add(run(second, lag), idle=False)
        assert row is not None
        kept[row.started] = row
    first, second_row = kept.values()
    assert (first.lag_seconds, first.finished) == (9.0, run(4).finished)
    assert second_row.lag_seconds == 3.0


def test_work_after_idle_runs_has_a_record_of_its_own() -> None:
    folded = FoldedRuns()
    folded.add(run(0), idle=True)
    row = folded.add(run(2), idle=False)
    assert row is not None
    assert row.started == run(2).started


def test_what_is_no_success_is_never_folded_in() -> None:
    folded = FoldedRuns()
    folded.add(run(0), idle=False)
    row = folded.add(run(2, outcome="mismatch"), idle=False)
    assert row is not None
    assert row.started == run(2).started


def test_a_clock_that_goes_back_begins_a_new_record() -> None:
    folded = FoldedRuns()
    folded.add(run(100), idle=True)
    row = folded.add(run(50), idle=True)
    assert row is not None
    assert row.started == run(50).started


def test_a_detail_is_cut_at_its_limit() -> None:
    assert cut("x" * MAX_DETAIL) == "x" * MAX_DETAIL
    assert cut("x" * (MAX_DETAIL + 1)) == cut("x" * 10 * MAX_DETAIL) == "x" * (MAX_DETAIL - 3) + "..."


def test_a_detail_is_rid_of_what_cannot_be_kept_or_shown() -> None:
    assert cut("a\x00b\ud800c\x1b[2Jd\ne") == "a\ufffdb\ufffdc\ufffd[2Jd\ufffde"
