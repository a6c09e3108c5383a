"""Refusals: what a client raises. What the service refuses is raised as the class that the library raises for it.

    try:
        ledger.transfer("users:alice", "users:bob", "USD/2", 1250)
    except InsufficientFunds as error:      # of tallystick.errors, with its ``data``
        ...
    except ClientError as error:            # anything else; ``error.key`` asks again, safely
        ...

Every error is a ClientError too, so both handlers catch the first one. Integers in ``data`` are strings, as they are on
the wire: it is JSON, whose readers may not be trusted with sixty-four bits. What is missing is not ``data`` that the
service keeps to itself (of a store that failed, say): that is in its operator's log, under ``request_id``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import msgspec

from tallystick import errors
from tallystick.errors import Fault, Refusal, TallystickError, Unavailable
from tallystick.wire.answers import BatchResult
from tallystick.wire.batches import LineResult
from tallystick.wire.problems import Problem

RETRIED_STATUSES = frozenset({408, 429, 502, 503, 504})
"""Statuses after which the same request may go through, whatever the body says."""
CONDITION_FAILED = 412
"""Never tried again by itself: what the caller believed of a balance is no longer so, and he must look again."""


class ClientError(TallystickError):
    """{problem}"""

    code = "client_error"
    key: str = ""
    """The idempotency key of the write: the same call with this key is the same request. Empty for reads."""
    request: str = ""
    """What was asked: method and path."""
    tries: int = 0
    """How often it was sent."""
    status: int = 0
    """The status of the last answer; 0 if there was none."""
    request_id: str = ""
    """What the service calls the request, in its answers and in its log."""

    def noting(self, *, key: str, request: str, tries: int, status: int = 0, request_id: str = "") -> Self:
        """The error itself, with what is known of its request."""
        self.key, self.request, self.tries, self.status = key, request, tries, status
        self.request_id = self.request_id or request_id
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._kind(), self.args, vars(self))

    def _kind(self) -> type[TallystickError]:
        return type(self)


class NotAnswered(Unavailable, ClientError):
    """there was no answer: {reason}. The request may have been carried out; with the same key it is safe to repeat"""


class BadAnswer(Fault, ClientError):
    """the answer is not one of this service's: {problem}"""

    code = "bad_answer"


class ServiceError(ClientError):
    """{problem}"""

    problem: Problem
    """The whole problem document."""

    @classmethod
    def of(cls, problem: Problem) -> ServiceError:
        """The error of a problem document: of the library's class for its code, if it has one."""
        kind: type[ServiceError]
        known = _KNOWN.get(problem.code)
        if known is not None:
            kind = _answered(known)
        else:
            kind = UnknownFault if _may_pass(problem) or problem.status >= 500 else UnknownRefusal
        error = kind()
        error.data = dict(problem.data)
        # code and retryable belong to classes; of what the service alone knows, they are this problem's
        vars(error).update(
            problem=problem,
            code=problem.code,
            retryable=problem.retryable,
            status=problem.status,
            request_id=problem.request_id,
        )
        error.args = (problem.detail or problem.title,)
        return error

    @property
    def path(self) -> str:
        """The field of the request that it is about."""
        return self.problem.path

    @property
    def needed(self) -> str:
        """What was needed."""
        return self.problem.needed

    @property
    def found(self) -> str:
        """What was there."""
        return self.problem.found

    @property
    def retry_after_seconds(self) -> int:
        """How long to wait before asking again; 0 if nothing was said."""
        return self.problem.retry_after_seconds

    def _kind(self) -> type[TallystickError]:
        return _KNOWN.get(self.code, type(self))


class UnknownRefusal(Refusal, ServiceError):
    """the service refused the request"""


class UnknownFault(Fault, ServiceError):
    """the service could not answer the request"""


_KNOWN: Mapping[str, type[TallystickError]] = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, (Refusal, Fault)) and kind not in (Refusal, Fault)
}


_ANSWERED: dict[str, type[ServiceError]] = {}


def _answered(known: type[TallystickError]) -> type[ServiceError]:
    """The library's class of an error, as one that a service answered."""
    found = _ANSWERED.get(known.code)
    if found is None:
        # Of two threads that make it at a time, both get the one that was first.
        made = type(known.__name__, (known, ServiceError), {"__doc__": known.__doc__, "__module__": __name__})
        found = _ANSWERED.setdefault(known.code, made)
    return found


def _restore(kind: type[TallystickError], args: tuple[Any, ...], found: dict[str, Any]) -> TallystickError:
    """What was pickled."""
    error = (kind if issubclass(kind, ClientError) else _answered(kind))()
    error.args = args
    vars(error).update(found)
    return error


def is_retryable(error: ServiceError) -> bool:
    """Whether a client asks again by itself."""
    return _may_pass(error.problem)


def _may_pass(problem: Problem) -> bool:
    return problem.status in RETRIED_STATUSES or (problem.retryable and problem.status != CONDITION_FAILED)


def refusal_of(result: BatchResult | LineResult) -> ServiceError | None:
    """Why one command of a batch or stream was refused; None if it was posted."""
    if result.problem is None:
        return None
    return ServiceError.of(msgspec.convert(result.problem, Problem))


def problem_in(status: int, body: bytes, request_id: str) -> Problem:
    """The problem of an answer that is none of the usual ones: its document, or what its status says.

    Nothing of a body that is no problem document is repeated: who knows what a stranger on the way put there.
    """
    try:
        found = msgspec.json.decode(body, type=Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Problem(
            type="about:blank",
            title=f"Status {status}",
            status=status,
            detail=f"status {status}, and no problem document: something else than the service may have answered",
            code=f"http_{status}",
            retryable=status in RETRIED_STATUSES,
            request_id=request_id,
        )
    return msgspec.structs.replace(found, status=status, request_id=found.request_id or request_id)
