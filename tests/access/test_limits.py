"""Rate limits: a burst, then the rate, for each caller by himself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tallystick.access import RateLimits, limits
from tallystick.errors import InvalidInput
from tests.access.conftest import Hands


def taken(found: RateLimits, name: str, rate: int, tries: int) -> int:
    return sum(found.take(name, rate) == 0.0 for _ in range(tries))


def test_a_quiet_caller_has_a_burst_and_then_his_rate(clock: Hands) -> None:
    found = RateLimits(10, 2.0, monotonic=clock.monotonic)
    assert taken(found, "a", 0, 50) == 20
    clock.forward(1.0)
    assert taken(found, "a", 0, 50) == 10
    clock.forward(3_600.0)
    assert taken(found, "a", 0, 50) == 20  # what was not used does not add up beyond the burst


def test_who_is_refused_is_told_how_long_to_wait_and_nothing_is_taken(clock: Hands) -> None:
    found = RateLimits(10, 1.0, monotonic=clock.monotonic)
    assert taken(found, "a", 0, 10) == 10
    waits = [found.take("a", 0) for _ in range(5)]
    assert waits == [pytest.approx(0.1)] * 5
    clock.forward(0.05)
    assert found.take("a", 0) == pytest.approx(0.05)
    clock.forward(0.05)
    assert found.take("a", 0) == 0.0


def test_callers_do_not_use_up_each_others_rate(clock: Hands) -> None:
    found = RateLimits(1, 1.0, monotonic=clock.monotonic)
    assert taken(found, "a", 0, 5) == 1
    assert taken(found, "b", 0, 5) == 1


def test_a_caller_may_have_a_rate_of_his_own(clock: Hands) -> None:
    found = RateLimits(1, 1.0, monotonic=clock.monotonic)
    assert taken(found, "a", 100, 500) == 100
    assert taken(RateLimits(0), "a", 0, 500) == 500  # no default: no limit
    assert taken(RateLimits(0, 1.0, monotonic=clock.monotonic), "a", 5, 500) == 5


def test_a_burst_shorter_than_one_request_still_lets_one_through(clock: Hands) -> None:
    found = RateLimits(1, 0.01, monotonic=clock.monotonic)
    assert taken(found, "a", 0, 3) == 1
    clock.forward(1.0)
    assert taken(found, "a", 0, 3) == 1


def test_only_so_many_callers_are_remembered(clock: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_BUCKETS", 3)
    found = RateLimits(1, 1.0, monotonic=clock.monotonic)
    for name in "abcabd":
        found.take(name, 0)
    assert len(found) == 3
    assert found.take("a", 0) > 0  # c came first, and so went first
    assert found.take("c", 0) == 0


def test_threads_together_take_no_more_than_the_burst(clock: Hands) -> None:
    found = RateLimits(500, 1.0, monotonic=clock.monotonic)
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: taken(found, "a", 0, 200), range(8))) == 500


@pytest.mark.parametrize(("rate", "burst"), [(-1, 2.0), (limits.MAX_RATE + 1, 2.0), (1, 0.0), (1, 3_601.0)])
def test_a_limit_that_makes_no_sense_is_refused(rate: int, burst: float) -> None:
    with pytest.raises(InvalidInput):
        RateLimits(rate, burst)
