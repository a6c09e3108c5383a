"""When it is tried again."""

from __future__ import annotations

import pytest

from tallystick.delivery.ladder import MAX_TRIES, STANDARD, Ladder, wait_before_next
from tallystick.delivery.pace import SILENT_TRIES, Pace
from tallystick.delivery.transport import Sent
from tallystick.errors import InvalidInput

NO = Sent(accepted=False, status=500)


def test_the_ladder_is_the_one_of_the_specification() -> None:
    waits = [wait_before_next(STANDARD, tries, NO, 0.0) for tries in range(1, 11)]
    assert waits == [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400, None]
    assert sum(STANDARD.waits) == 75 * 3600 + 35 * 60 + 5


def test_each_wait_is_a_little_longer_at_random_and_never_shorter() -> None:
    assert wait_before_next(STANDARD, 2, NO, 0.5) == 315
    assert wait_before_next(STANDARD, 2, NO, 0.0) == 300


@pytest.mark.parametrize(
    ("asked", "wait"),
    [(None, 5), (0.0, 5), (-3.0, 5), (4.0, 5), (60.0, 60), (86_400.0, 86_400), (1e12, 86_400), (float("nan"), 5)],
)
def test_retry_after_is_honoured_within_a_day_and_never_shortens(asked: float | None, wait: float) -> None:
    sent = Sent(accepted=False, status=429, retry_after_seconds=asked)
    assert wait_before_next(STANDARD, 1, sent, 0.0) == wait


def test_retry_after_does_not_lengthen_the_ladder() -> None:
    assert wait_before_next(STANDARD, 10, Sent(accepted=False, retry_after_seconds=5.0), 0.0) is None


def test_a_ladder_has_bounds() -> None:
    Ladder(waits=(0.0,) * MAX_TRIES)
    for waits in ((), (0.0,) * (MAX_TRIES + 1), (-1.0,), (float("nan"),)):
        with pytest.raises(InvalidInput):
            Ladder(waits=waits)
    with pytest.raises(InvalidInput):
        Ladder(jitter=1.5)


def test_a_receiver_that_is_down_is_asked_one_by_one_and_ever_less_often() -> None:
    pace = Pace(64, max_pause_seconds=10)
    silence = Sent(accepted=False, status=0)
    for _ in range(SILENT_TRIES - 1):
        pace.refused(silence, 100.0)
    assert (pace.limit, pace.not_before) == (64, 100.0)
    pauses = []
    for _ in range(12):
        pace.refused(silence, 100.0)
        pauses.append(pace.not_before - 100.0)
    assert pace.limit == 1
    assert pauses == sorted(pauses)
    assert pauses[-1] == 10
    limits = []
    for _ in range(7):
        pace.accepted(64)
        limits.append(pace.limit)
    assert limits == [2, 4, 8, 16, 32, 64, 64]


def test_a_receiver_that_refuses_is_there() -> None:
    pace = Pace(64)
    for number in range(1_000):
        pace.refused(Sent(accepted=False, status=500 if number % 10 else 503), 100.0)
    assert (pace.limit, pace.not_before) == (64, 100.0)


def test_an_overloaded_receiver_says_how_long_it_is_left_alone() -> None:
    pace = Pace(64)
    pace.refused(Sent(accepted=False, status=503, retry_after_seconds=120.0), 100.0)
    assert pace.not_before == 220.0
    pace.refused(Sent(accepted=False, status=400, retry_after_seconds=900.0), 100.0)
    assert pace.not_before == 220.0
