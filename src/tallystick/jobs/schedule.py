"""When a job is due: pure arithmetic on journal times."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from tallystick.clock import format_time
from tallystick.control.records import JobRun
from tallystick.errors import InvalidInput
from tallystick.jobs.job import seconds_between

FIRST_RETRY_SECONDS = 5.0
"""After a failure, or sooner if the job runs oftener; then twice as long each time."""
LONGEST_RETRY_SECONDS = 300.0

LEAST_EVERY_SECONDS = 0.05
MOST_EVERY_SECONDS = 31 * 86_400.0

_AT = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])\Z")


def check_at(text: str) -> str:
    """A time of day such as ``03:00``, as it was given. Raises InvalidInput."""
    if not _AT.match(text):
        raise InvalidInput(path="at", problem=f"{text!r} is no time of day in UTC such as 03:00")
    return text


def check_every(seconds: float, path: str = "every") -> float:
    """A number of seconds that may lie between two runs. Raises InvalidInput."""
    if not LEAST_EVERY_SECONDS <= seconds <= MOST_EVERY_SECONDS:  # false for what is no number, too
        problem = f"{seconds:g} seconds are not between {LEAST_EVERY_SECONDS:g} and {MOST_EVERY_SECONDS:,.0f}"
        raise InvalidInput(path=path, problem=problem)
    return seconds


def latest(at: str, now: str) -> str:
    """When it was this time of day last: a journal time, not after ``now``."""
    moment = datetime.fromisoformat(now).astimezone(UTC)
    hour, minute = map(int, at.split(":"))
    found = moment.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return format_time(found if found <= moment else found - timedelta(days=1))


def seconds_left(every_seconds: float, at: str, last: JobRun | None, now: str, *, since: str = "") -> float:
    """How long until a job is due, 0 if it is. ``last`` is its newest run.

    A job that was never done is due at once; one with a time of day is not before the first such time after ``since``,
    when its ledger began. One that failed, or whose process died over it, is due again at once: whoever tries again and
    again waits in between by himself.
    """
    if at:
        before = latest(at, now)
        done = since if last is None or last.outcome in ("failed", "running") else last.started
        if not done or done < before:
            return 0.0
        return max(86_400.0 - seconds_between(before, now), 0.001)
    if last is None or last.outcome in ("failed", "running"):
        return 0.0
    passed = seconds_between(max(last.started, last.finished), now)  # a clock that went back costs one interval at most
    return max(every_seconds - passed, 0.0)


def retry_seconds(every_seconds: float, failures: int) -> float:
    """How long to wait after so many failures in a row."""
    first = min(every_seconds, FIRST_RETRY_SECONDS)
    return min(first * 2.0 ** min(failures - 1, 60), LONGEST_RETRY_SECONDS)
