"""When a request is tried again, and when not: told in steps, without a network and without waiting."""

from __future__ import annotations

import email.utils
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.client.asking import Request
from tallystick.client.refusals import BadAnswer, ClientError, NotAnswered, ServiceError
from tallystick.client.trying import Lost, Pause, Reply, Retry, Send, Terms, exchange, wait_of
from tallystick.errors import InvalidInput
from tallystick.wire.answers import PostedAnswer
from tests.client.support import POSTED, json, problem

REQUEST = Request(method="POST", path="/v1/x", query={}, body=b"{}", key="order-7", answer=PostedAnswer)
DONE = Reply(201, {}, POSTED)
LOST = Lost("the connection was lost")


class Play:
    """Takes the steps of a request, with these outcomes; the last one again and again. Time passes in pauses alone."""

    def __init__(self, *outcomes: Any, retry: Retry | None = None, luck: float = 1.0, seconds: float = 0.0) -> None:
        self.now = 1_000.0
        self.sent: list[Send] = []
        self.pauses: list[float] = []
        self.answer: Any = None
        self.error: ClientError | None = None
        terms = Terms(retry or Retry(), 30.0, now=lambda: self.now, random=lambda: luck)
        try:
            self.answer = self._play(exchange(REQUEST, terms), outcomes, seconds)
        except ClientError as error:
            self.error = error

    def _play(self, steps: Any, outcomes: Any, seconds: float) -> Any:
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    self.now += step.seconds
                    step = next(steps)
                    continue
                outcome = outcomes[min(len(self.sent), len(outcomes) - 1)]
                self.sent.append(step)
                self.now += seconds
                step = steps.throw(outcome) if isinstance(outcome, Exception) else steps.send(outcome)
        except StopIteration as stop:
            return stop.value


def refusal(status: int, code: str, headers: dict[str, str] | None = None, **more: Any) -> Reply:
    return Reply(status, headers or {}, json(status, problem(status, code, **more)).content)


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_what_may_pass_later_is_tried_again_whatever_its_body(status: int) -> None:
    for body in (b"<html>", b"", refusal(status, "x").body):
        play = Play(Reply(status, {}, body), DONE)
        assert (play.answer.id, len(play.sent)) == ("main/3", 2)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 413, 415, 422, 500, 501])
def test_no_other_refusal_is_tried_again(status: int) -> None:
    play = Play(refusal(status, "x"), DONE)
    assert isinstance(play.error, ServiceError)
    assert (len(play.sent), play.error.status, play.error.tries) == (1, status, 1)


def test_a_problem_that_is_retryable_is_tried_again() -> None:
    assert Play(refusal(404, "not_yet", retryable=True), DONE).answer is not None


def test_a_condition_that_failed_is_not_tried_again_though_it_may_hold_later() -> None:
    play = Play(refusal(412, "condition_failed", retryable=True), DONE)
    assert isinstance(play.error, ServiceError)
    assert (len(play.sent), play.error.retryable) == (1, True)


def test_what_was_not_answered_is_tried_again_and_every_try_is_the_same_request() -> None:
    play = Play(LOST, LOST, DONE)
    assert play.answer.id == "main/3"
    assert [step.request for step in play.sent] == [REQUEST] * 3


def test_waits_grow_up_to_a_limit_and_each_is_random_from_nothing() -> None:
    retry = Retry(tries=6, first_seconds=1.0, longest_seconds=5.0, total_seconds=100.0)
    assert Play(LOST, retry=retry).pauses == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert Play(LOST, retry=retry, luck=0.0).pauses == [0.0] * 5
    assert Play(LOST, retry=retry, luck=0.5).pauses == [0.5, 1.0, 2.0, 2.5, 2.5]


def test_tries_are_bounded() -> None:
    for tries in (1, 2, 7):
        play = Play(LOST, retry=Retry(tries=tries))
        assert isinstance(play.error, NotAnswered)
        assert (len(play.sent), play.error.tries, play.error.key) == (tries, tries, "order-7")


def test_no_wait_is_begun_that_would_end_too_late() -> None:
    retry = Retry(tries=100, first_seconds=1.0, longest_seconds=1.0, total_seconds=10.0)
    play = Play(LOST, retry=retry)
    assert (len(play.sent), sum(play.pauses)) == (10, 9.0)


def test_a_try_has_no_more_time_than_is_left() -> None:
    retry = Retry(tries=100, first_seconds=0.0, total_seconds=50.0)
    play = Play(LOST, retry=retry, seconds=30.0)
    assert [step.seconds for step in play.sent] == [30.0, 20.0]


def test_nobody_comes_back_before_he_was_told_to() -> None:
    play = Play(Reply(503, {"retry-after": "7"}, b""), DONE, luck=0.0)
    assert play.pauses == [7.0]
    play = Play(refusal(429, "rate_limited", retry_after_seconds=3), DONE, luck=0.0)
    assert play.pauses == [3.0]
    play = Play(Reply(503, {"retry-after": "7"}, b""), DONE, luck=1.0)
    assert play.pauses == [7.1]


def test_who_is_told_to_come_back_too_late_is_told_so_at_once() -> None:
    play = Play(refusal(503, "overloaded", {"retry-after": "61"}, retry_after_seconds=61), DONE)
    assert isinstance(play.error, ServiceError)
    assert (len(play.sent), play.pauses, play.error.retry_after_seconds) == (1, [], 61)


def test_a_retry_after_is_seconds_or_a_date() -> None:
    assert wait_of(" 12 ") == 12.0
    assert wait_of("") == wait_of("soon") == wait_of("-3") == wait_of("1.5") == 0.0
    assert 8 < wait_of(email.utils.formatdate(time.time() + 10, usegmt=True)) <= 11
    assert wait_of("Thu, 01 Jan 1970 00:00:00 GMT") == 0.0


@pytest.mark.parametrize("reply", [Reply(200, {}, b"<html>"), Reply(200, {}, b"[]"), Reply(302, {}, b"")])
def test_an_answer_that_is_none_is_not_asked_for_again_and_names_the_key(reply: Reply) -> None:
    play = Play(reply, DONE)
    assert isinstance(play.error, BadAnswer)
    assert (len(play.sent), play.error.key, play.error.status) == (1, "order-7", reply.status)


@pytest.mark.parametrize(
    "given", [{"tries": 0}, {"tries": 101}, {"first_seconds": -0.1}, {"total_seconds": 86_401}, {"longest_seconds": -1}]
)
def test_terms_that_make_no_sense_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Retry(**given)


OUTCOMES = st.sampled_from(
    [LOST, DONE, Reply(503, {}, b""), Reply(429, {"retry-after": "2"}, b""), refusal(422, "x"), Reply(200, {}, b"?")]
)


@given(
    outcomes=st.lists(OUTCOMES, min_size=1, max_size=12),
    tries=st.integers(1, 8),
    total=st.floats(0.5, 20),
    luck=st.floats(0, 1),
)
def test_whatever_comes_the_bounds_hold_and_the_first_end_is_the_end(
    outcomes: list[Any], tries: int, total: float, luck: float
) -> None:
    play = Play(*outcomes, retry=Retry(tries=tries, total_seconds=total), luck=luck)
    assert len(play.sent) <= tries
    assert sum(play.pauses) < total
    assert len(play.pauses) == len(play.sent) - 1
    came = [outcomes[min(index, len(outcomes) - 1)] for index in range(len(play.sent))]
    ends = [item for item in came if isinstance(item, Reply) and item.status not in (429, 503)]
    assert ends == ([came[-1]] if came[-1] in ends else [])
    assert (play.error is None) == (came[-1] is DONE)
