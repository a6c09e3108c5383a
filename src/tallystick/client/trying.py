"""Trying: what happens between a request and its answer, told in steps and without any input or output.

A generator yields the next step, and is sent what came of it; ``Lost`` is thrown into it where nothing came. Who takes
the steps, synchronously or not, is in sending.py. So there is one place that knows when to try again, and it is tested
without a network and without waiting.

A request is tried again when it was not answered, when the status says that it may pass later (408, 429, 502, 503,
504), and when its problem is retryable: never after any other refusal, and never after a condition that failed. That is
safe for writes because each bears an idempotency key, made before the first try.
"""

from __future__ import annotations

import email.utils
import functools
import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from tallystick.client.asking import Request
from tallystick.client.refusals import BadAnswer, ClientError, NotAnswered, ServiceError, is_retryable, problem_in
from tallystick.errors import InvalidInput
from tallystick.wire.answers import Page

Answer = TypeVar("Answer")
Item = TypeVar("Item")

MAX_ANSWER_BYTES = 134_217_728
"""The largest answer that is read; a page of a thousand events of 64 KiB has half of it."""


class Retry(Struct, frozen=True, kw_only=True):
    """How often a request is tried, and how long all of it may take.

    Before try ``n + 1`` a client waits a random time up to ``first_seconds * 2 ** (n - 1)``, at most
    ``longest_seconds``: random from nothing (full jitter), so that clients which were cut off together do not come back
    together. If the service says how long to wait, that is added: nobody comes back before.
    """

    tries: int = 5
    """How often a request is sent, the first time included; 1 tries nothing again."""
    first_seconds: float = 0.1
    longest_seconds: float = 10.0
    total_seconds: float = 60.0
    """When to give up, waiting included. A wait that would end later is not begun."""

    def __post_init__(self) -> None:
        if not 1 <= self.tries <= 100:
            raise InvalidInput(path="retry.tries", problem="it is 1 to 100")
        for name in ("first_seconds", "longest_seconds", "total_seconds"):
            if not 0 <= getattr(self, name) <= 86_400:
                raise InvalidInput(path=f"retry.{name}", problem="it is 0 to 86400")


@dataclass(frozen=True)
class Terms:
    """On which terms a client asks."""

    retry: Retry
    timeout: float
    now: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random


# ---------------------------------------------------------------- steps


@dataclass(frozen=True)
class Send:
    """Send a request and read its answer, within ``seconds``: a Reply."""

    request: Request[Any]
    seconds: float
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Open:
    """Send a request, and read the head of its answer: a Reply with an empty body. Nothing for ``seconds`` loses it."""

    request: Request[Any]
    seconds: float
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Read:
    """Read more of what was opened: bytes, none at its end."""


@dataclass(frozen=True)
class Shut:
    """Close what was opened."""


@dataclass(frozen=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True)
class Take:
    """Take up to ``most`` more from the source of the request: a list, empty at its end."""

    most: int


@dataclass(frozen=True)
class Emit:
    """Hand this to the caller."""

    item: Any


Step = Send | Open | Read | Shut | Pause | Take | Emit
Steps = Generator[Step, Any, Answer]


@dataclass(frozen=True)
class Reply:
    """What came back. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Lost(Exception):
    """Nothing came back, or not all of it."""


# ---------------------------------------------------------------- one request


class Attempts:
    """How often something was tried, and when again. Where it is not ``counted``, the time alone is a limit."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self.counted = True
        self.begin()

    def begin(self) -> None:
        """Count from nothing again: it went on."""
        self.count = 0
        self._until = self._terms.now() + self._terms.retry.total_seconds

    @property
    def left(self) -> float:
        """The seconds that are left for all tries together."""
        return self._until - self._terms.now()

    def pause(self, at_least: float = 0.0) -> float | None:
        """How long to wait before the next try; None to give up."""
        retry = self._terms.retry
        if self.counted and self.count >= retry.tries:
            return None
        longest = min(retry.longest_seconds, retry.first_seconds * 2.0 ** min(self.count - 1, 60))
        seconds = at_least + self._terms.random() * longest
        return seconds if seconds < self.left else None


def exchange(request: Request[Answer], terms: Terms) -> Steps[Answer]:
    """Ask until there is an answer. Raises ClientErrors."""
    attempts = Attempts(terms)
    while True:
        attempts.count += 1
        error: ClientError
        after = 0.0
        try:
            reply: Reply = yield Send(request, max(min(terms.timeout, attempts.left), 0.001))
            if 200 <= reply.status < 300:
                return noted(request, attempts, reply, lambda found: decoded(request, found))
            error, after = refused(request, attempts.count, reply)
        except Lost as lost:
            error = not_answered(request, attempts.count, lost)
        seconds = attempts.pause(after) if may_pass(error) else None
        if seconds is None:
            raise error
        yield Pause(seconds)


def emitted(steps: Steps[Any]) -> Steps[None]:
    """The same steps, with what they return emitted."""
    yield Emit((yield from steps))


def may_pass(error: ClientError) -> bool:
    """Whether to ask again."""
    return isinstance(error, NotAnswered) or (isinstance(error, ServiceError) and is_retryable(error))


def noted(request: Request[Any], attempts: Attempts, reply: Reply, read: Callable[[Reply], Answer]) -> Answer:
    """What is read of a reply. Raises BadAnswer with all that is known of the request."""
    try:
        return read(reply)
    except BadAnswer as error:
        raise error.noting(**facts(request, attempts.count, reply)) from None


def decoded(request: Request[Answer], reply: Reply) -> Answer:
    """The answer in a reply. Raises BadAnswer for one that is none."""
    if request.answer is bytes or request.answer is str:
        return reply.body if request.answer is bytes else reply.body.decode(errors="replace")  # type: ignore[return-value]
    try:
        return decoder(request.answer).decode(reply.body)  # type: ignore[no-any-return, arg-type]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        problem = f"its body is not what was to be expected ({type(error).__name__})"
    raise BadAnswer(problem=problem)


@functools.lru_cache(maxsize=256)
def decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """What reads answers of a type."""
    return msgspec.json.Decoder(kind)


def refused(request: Request[Any], tries: int, reply: Reply) -> tuple[ClientError, float]:
    """The error of a reply that is no answer, and how long it says to wait."""
    known = facts(request, tries, reply)
    if reply.status < 400:
        what = "it leads elsewhere, and is not followed" if 300 <= reply.status < 400 else "nobody asked for that"
        return BadAnswer(problem=f"status {reply.status}: {what}").noting(**known), 0.0
    problem = problem_in(reply.status, reply.body, known["request_id"])
    after = wait_of(reply.headers.get("retry-after", "")) or float(problem.retry_after_seconds)
    return ServiceError.of(problem).noting(**known), after


def not_answered(request: Request[Any], tries: int, lost: Lost) -> NotAnswered:
    return NotAnswered(reason=str(lost)).noting(key=request.key, request=request.name, tries=tries)


def facts(request: Request[Any], tries: int, reply: Reply) -> dict[str, Any]:
    """What an error tells of its request."""
    request_id = reply.headers.get("x-request-id", "")[:100]
    return {
        "key": request.key,
        "request": request.name,
        "tries": tries,
        "status": reply.status,
        "request_id": request_id,
    }


def wait_of(retry_after: str) -> float:
    """The seconds that a Retry-After says, in either form of RFC 9110 10.2.3; 0 for one that says nothing."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:10])
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max(moment.timestamp() - time.time(), 0.0)


# ---------------------------------------------------------------- pages


def pages(request: Request[Page[Item]], terms: Terms) -> Steps[None]:
    """Every page of a list. Raises ClientErrors."""
    while True:
        page = yield from exchange(request, terms)
        yield Emit(page)
        if not page.cursor:
            return
        if page.cursor == request.query.get("cursor"):
            raise BadAnswer(problem="the page leads to itself").noting(key="", request=request.name, tries=1)
        request = request.asking(cursor=page.cursor)
