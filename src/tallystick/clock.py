"""Time as the journal writes it: UTC with microseconds, ``2026-11-21T09:00:00.000000Z``.

The fixed width makes text order equal to time order, so times are compared and stored as text. Nothing in the kernel
reads a clock: the time of a command comes in from outside.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tallystick.errors import InvalidInput

Clock = Callable[[], str]

PATTERN = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z"
"""What journal time looks like, as a regular expression for whole texts."""

_TIME = re.compile(PATTERN + r"\Z")
BEGINNING = "0001-01-01T00:00:00.000000Z"
END = "9999-12-31T23:59:59.999999Z"


def system_clock() -> str:
    """The time now."""
    return datetime.now(UTC).isoformat(timespec="microseconds")[:26] + "Z"


def format_time(moment: datetime) -> str:
    """An aware datetime as journal time. Raises InvalidInput for a naive one: a time without a zone is a guess."""
    if moment.tzinfo is None:
        raise InvalidInput(path="time", problem=f"{moment!r} has no time zone")
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(path="time", problem=f"{moment} is not between the years 1 and 9999 in UTC") from None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f").rjust(26, "0") + "Z"


def parse_time(text: str | datetime, path: str = "time") -> str:
    """Any ISO 8601 time with a zone (or a bare date, taken as midnight UTC) as journal time.

    Raises InvalidInput, naming ``path``, for anything else.
    """
    if isinstance(text, datetime):
        return format_time(text)
    if isinstance(text, str) and _TIME.match(text):
        return _checked(text, path)
    try:
        moment = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        raise InvalidInput(path=path, problem=f"{text!r} is not a time such as 2026-11-21T09:00:00Z") from None
    if len(text) == len("2026-11-21"):
        moment = moment.replace(tzinfo=UTC)
    if moment.tzinfo is None:
        raise InvalidInput(path=path, problem=f"{text!r} has no time zone")
    return format_time(moment)


def _checked(text: str, path: str) -> str:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(path=path, problem=f"{text!r} is not a day of the calendar") from None
    return text


def add_seconds(time: str, seconds: float) -> str:
    """Journal time plus a number of seconds; stops at the last instant of the year 9999."""
    try:
        return format_time(datetime.fromisoformat(time) + timedelta(seconds=seconds))
    except OverflowError:
        return END
