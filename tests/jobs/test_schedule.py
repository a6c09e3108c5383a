"""When a job is due: arithmetic alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.clock import add_seconds
from tallystick.control import JobRun
from tallystick.errors import InvalidInput
from tallystick.jobs.schedule import (
    FIRST_RETRY_SECONDS,
    LEAST_EVERY_SECONDS,
    LONGEST_RETRY_SECONDS,
    MOST_EVERY_SECONDS,
    check_at,
    check_every,
    latest,
    retry_seconds,
    seconds_left,
)
from tests.jobs.support import NOON, journal_time

THREE = "2026-11-21T03:00:00.000000Z"


def run(started: str, outcome: str = "done", finished: str = "") -> JobRun:
    return JobRun(job="j", ledger="main", started=started, finished=finished or started, outcome=outcome)


def test_a_job_that_was_never_done_is_due() -> None:
    assert seconds_left(60, "", None, NOON) == 0


def test_a_job_is_due_again_when_its_time_has_passed_since_it_ended() -> None:
    last = run(add_seconds(NOON, -90), finished=add_seconds(NOON, -20))
    assert seconds_left(60, "", last, NOON) == pytest.approx(40)
    assert seconds_left(20, "", last, NOON) == 0


def test_a_clock_that_went_back_costs_one_interval_at_most() -> None:
    assert seconds_left(60, "", run(add_seconds(NOON, 3_600)), NOON) == 60


@pytest.mark.parametrize("outcome", ["failed", "running"])
@pytest.mark.parametrize("at", ["", "03:00"])
def test_what_failed_or_died_is_due(outcome: str, at: str) -> None:
    assert seconds_left(60, at, run(add_seconds(NOON, -1), outcome), NOON) == 0


def test_a_nightly_job_is_due_once_a_night() -> None:
    assert seconds_left(86_400, "03:00", run(add_seconds(THREE, -60)), NOON) == 0
    left = seconds_left(86_400, "03:00", run(add_seconds(THREE, 60)), NOON)
    assert left == pytest.approx(15 * 3_600)  # noon to three
    assert seconds_left(86_400, "03:00", run(THREE), NOON) > 0


def test_a_mismatch_is_a_result_and_is_not_tried_again_the_same_night() -> None:
    assert seconds_left(86_400, "03:00", run(add_seconds(THREE, 60), "mismatch"), NOON) > 0


def test_a_ledger_that_is_younger_than_the_night_waits_for_the_next_one() -> None:
    assert seconds_left(86_400, "03:00", None, NOON, since=add_seconds(NOON, -60)) > 0
    assert seconds_left(86_400, "03:00", None, NOON, since=add_seconds(NOON, -86_400)) == 0
    assert seconds_left(86_400, "03:00", None, NOON) == 0


@given(st.integers(10**9, 4 * 10**9), st.integers(0, 23), st.integers(0, 59))
def test_the_last_time_of_day_is_within_the_last_day_and_bears_its_hour(second: int, hour: int, minute: int) -> None:
    now = datetime.fromtimestamp(second, UTC)
    found = datetime.fromisoformat(latest(f"{hour:02}:{minute:02}", journal_time(now)))
    assert timedelta(0) <= now - found < timedelta(days=1)
    assert (found.hour, found.minute, found.second, found.microsecond) == (hour, minute, 0, 0)


def test_retries_come_later_each_time_up_to_a_limit() -> None:
    waits = [retry_seconds(3_600, failures) for failures in range(1, 12)]
    assert waits[:3] == [FIRST_RETRY_SECONDS, 2 * FIRST_RETRY_SECONDS, 4 * FIRST_RETRY_SECONDS]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_RETRY_SECONDS
    assert retry_seconds(3_600, 10**9) == LONGEST_RETRY_SECONDS


def test_a_job_that_runs_often_is_tried_again_as_soon_as_it_would_run() -> None:
    assert retry_seconds(2, 1) == 2


@pytest.mark.parametrize("seconds", [LEAST_EVERY_SECONDS, MOST_EVERY_SECONDS])
def test_the_limits_of_an_interval_are_allowed(seconds: float) -> None:
    assert check_every(seconds) == seconds


@pytest.mark.parametrize("seconds", [LEAST_EVERY_SECONDS * 0.99, MOST_EVERY_SECONDS * 1.01, 0, -1, float("nan")])
def test_an_interval_beyond_its_limits_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidInput):
        check_every(seconds)


@pytest.mark.parametrize("text", ["24:00", "3:00", "03:60", "03:00:00", "", "noon", "03:00\n"])
def test_what_is_no_time_of_day_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        check_at(text)


@pytest.mark.parametrize("text", ["00:00", "03:00", "23:59"])
def test_a_time_of_day_is_taken(text: str) -> None:
    assert check_at(text) == text
