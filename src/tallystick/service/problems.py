"""From errors to problem documents: which status each error has, and what it tells."""

from __future__ import annotations

import math
import re
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from msgspec import Struct

from tallystick.errors import Fault, TallystickError
from tallystick.wire.fields import HINTS
from tallystick.wire.problems import Problem

STATUSES: dict[str, int] = {
    # the request cannot be understood
    "invalid_input": 400,
    "amount_out_of_range": 400,
    "empty_transaction": 400,
    # who asks
    "unauthenticated": 401,
    "forbidden": 403,
    # what is not there
    "not_found": 404,
    "account_not_found": 404,
    "member_not_found": 404,
    "cell_member_not_found": 404,
    "hold_not_found": 404,
    "transaction_not_found": 404,
    "ledger_not_found": 404,
    "log_not_found": 404,
    # what stands against it: the key, or the state of the thing
    "idempotency_conflict": 409,
    "account_exists": 409,
    "hold_not_open": 409,
    "hold_expired": 409,
    "hold_not_expired": 409,
    "already_reversed": 409,
    "charge_not_open": 409,
    # a condition of the caller's
    "condition_failed": 412,
    "event_too_large": 413,
    "rate_limited": 429,
    # what may go through later
    "unavailable": 503,
    "overloaded": 503,
    "ledger_locked": 503,
    "behind": 503,
    "closed": 503,
    "archived": 503,
}
"""The HTTP status of each code; another refusal is 422 (a rule, or the books, do not allow it), another fault 500."""

TITLES: dict[int, str] = {
    400: "The request cannot be understood",
    401: "Who asks is not known",
    403: "The key does not allow it",
    404: "There is no such thing",
    405: "Not to be asked like this",
    408: "The request took too long to arrive",
    409: "Something stands against it",
    412: "A condition does not hold",
    413: "The request is too large",
    415: "The body is not of a known type",
    422: "The ledger refused it",
    429: "Too many requests",
    500: "The service could not keep a promise",
    503: "Not now",
}

RETRY_AFTER_SECONDS = 1

_TELLING: dict[str, tuple[str, str]] = {
    "insufficient_funds": ("{needed} {asset} available in {bucket} of {account}", "{balance} {asset}"),
    "floor_violation": ("a balance of at least -{limit} {asset}", "{balance} {asset}"),
    "escrow_violation": ("at least -{limit} {asset} after reserves", "{available} {asset}"),
    "ceiling_exceeded": ("a balance of at most {ceiling} {asset}", "{balance} {asset}"),
    "cell_floor_violation": ("a balance of at least -{limit}", "{balance}"),
    "cell_escrow_violation": ("at least -{limit} after reserves", "{available}"),
    "cell_conservation_violation": ("{expected}", "{actual}"),
    "cell_limit_out_of_bounds": ("{min} to {max}", "{limit}"),
    "condition_failed": ("{condition} {expected}", "{actual}"),
    "over_capture": ("at most {remaining}", "{amount}"),
    "already_reversed": ("at most {remaining} {asset}", "nothing more is left to reverse"),
    "mandate_exceeded": ("at most {left}", "{asked}"),
    "unbalanced": ("{expected} {asset}", "{actual} {asset}"),
    "amount_out_of_range": ("1 to 9223372036854775807", "{amount}"),
    "hold_not_open": ("an open {kind}", "{state}"),
    "reference_required": ("one of {references}", "none"),
    "limit_out_of_bounds": ("{min} to {max}", "{limit}"),
}
"""What was needed and what was found, by code, in terms of the error's data."""

_PLACE = re.compile(r" - at (?:`(key)` in )?`\$\.?(.*)`\Z")
_UNKNOWN = re.compile(r"unknown field `(.*?)`")
_MISSING = re.compile(r"missing required field `(.*?)`")
_REGEX = re.compile(r"matching regex (.*)\Z", re.DOTALL)
_SIZE = re.compile(r"`(str|array|object)` of length (>=|<=) ([0-9]+)\Z")
_STEP = re.compile(r"[^.\[\]]+|\[[^\]]*\]")
_HINTS = {repr(pattern): hint for pattern, hint in HINTS.items()}


class Refused(Exception):
    """The service itself refuses a request: before, or beside, anything that a ledger could say."""

    def __init__(
        self, status: int, code: str, detail: str, *, path: str = "", headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.path = path
        self.headers = headers

    def problem(self, request_id: str) -> Problem:
        """As a document."""
        return Problem(
            type=_type(self.code),
            title=TITLES.get(self.status, "Refused"),
            status=self.status,
            detail=self.detail,
            code=self.code,
            retryable=self.status in (408, 429, 503),
            path=self.path,
            request_id=request_id,
            retry_after_seconds=RETRY_AFTER_SECONDS if self.status in (429, 503) else 0,
        )


def status_of(error: TallystickError, *, understood: bool = False) -> int:
    """The HTTP status of an error.

    ``understood``: the request had been read by then, and was all that its operation's schema asks for. What is wrong
    with it now only the ledger could know, such as a time that has passed: that is no longer 400. A cursor is, because
    nobody but the service says what is one.
    """
    found = STATUSES.get(error.code)
    if found is None:
        return 500 if isinstance(error, Fault) else 422
    return 422 if found == 400 and understood and error.data.get("path") != "cursor" else found


def problem_of(error: TallystickError, request_id: str = "", *, understood: bool = False) -> Problem:
    """An error as a document. What a fault knows of files and databases is for the operator's log alone."""
    status = status_of(error, understood=understood)
    hidden = isinstance(error, Fault) and error.code not in ("rate_limited", "overloaded", "behind", "archived")
    data = {} if hidden else {name: _plain(value) for name, value in error.data.items()}
    needed, found = _telling(error, data)
    return Problem(
        type=_type(error.code),
        title=TITLES.get(status, "Refused"),
        status=status,
        detail=_HIDDEN.get(error.code, "something is wrong with the ledger; its operator has been told")
        if hidden
        else str(error),
        code=error.code,
        retryable=error.retryable or error.code in ("condition_failed", "closed"),
        path=str(error.data.get("path", "")) if not hidden else "",
        needed=needed,
        found=found,
        request_id=request_id,
        retry_after_seconds=_retry_after(error, status),
        data=data,
    )


_HIDDEN = {
    "unavailable": "the store did not answer; with the same idempotency key the request is safe to repeat",
    "ledger_locked": "another process is writing the ledger; the request is safe to repeat",
    "closed": "the service is stopping; the request is safe to repeat",
    "ledger_not_found": "there is no such ledger",
    "log_not_found": "this ledger keeps no log here",
    "read_only": "this service was opened for reading only",
}


def place_of(message: str, kind: Any = None) -> tuple[str, str]:
    """(path, problem) of a message about a value that is not of its type: ``Expected `int` - at `$.amount```.

    The problem is said in words that help: of a text, what it should look like; of a field that is not known, which
    there are (``kind`` is the type that was expected of the whole).
    """
    found = _PLACE.search(message)
    problem = message[: found.start()] if found is not None else message
    key, path = (found[1], found[2]) if found is not None else (None, "")
    unknown = _UNKNOWN.search(problem)
    if unknown is not None:
        fields = fields_at(kind, path)
        there = f"; there are {', '.join(fields)}" if fields else ""
        return (f"{path}.{unknown[1]}" if path else unknown[1]), f"there is no such field{there}"
    missing = _MISSING.search(problem)
    if missing is not None:
        return (f"{path}.{missing[1]}" if path else missing[1]), "it is missing"
    return path or "body", _in_words(problem, is_name=key is not None)


def _in_words(problem: str, *, is_name: bool) -> str:
    pattern = _REGEX.search(problem)
    subject = "one of its names" if is_name else "it"
    if pattern is not None and pattern[1] in _HINTS:
        return f"{subject} is not {_HINTS[pattern[1]]}"
    size = _SIZE.search(problem)
    if size is None:
        return problem
    what = {"str": "characters", "array": "items", "object": "entries"}.get(size[1])
    least = "at least" if size[2] == ">=" else "at most"
    return f"{subject} has {least} {size[3]} {what}" if what is not None else problem


def fields_at(kind: Any, path: str) -> tuple[str, ...]:
    """The names of the fields that there are at a place of a type; none if they cannot be known from the path alone."""
    for step in _STEP.findall(path):
        kind = _below(_only(kind), step)
    kind = _only(kind)
    return kind.__struct_encode_fields__ if isinstance(kind, type) and issubclass(kind, Struct) else ()


def _below(kind: Any, step: str) -> Any:
    """The type of what stands behind one step of a path."""
    if step.startswith("["):
        return get_args(kind)[-1 if get_origin(kind) is dict else 0] if get_args(kind) else None
    if isinstance(kind, type) and issubclass(kind, Struct):
        return next((found.type for found in msgspec.structs.fields(kind) if found.encode_name == step), None)
    return None


def _only(kind: Any) -> Any:
    """The one type with parts in a type that may be noted, or nothing."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) not in (Union, UnionType):
        return kind
    found = [_only(one) for one in get_args(kind) if one is not type(None)]
    return found[0] if len(found) == 1 else None


def _telling(error: TallystickError, data: dict[str, Any]) -> tuple[str, str]:
    if error.code not in _TELLING:
        return "", ""
    known = {**data, "needed": str(abs(int(error.data.get("change", 0))))} if "change" in error.data else data
    needed, found = _TELLING[error.code]
    try:
        return needed.format_map(known), found.format_map(known)
    except (KeyError, ValueError):
        return "", ""


def _retry_after(error: TallystickError, status: int) -> int:
    given = error.data.get("retry_after_seconds")
    if given is not None:
        return max(math.ceil(float(given)), 1)
    return RETRY_AFTER_SECONDS if status in (429, 503) and error.retryable else 0


def _plain(value: Any) -> Any:
    """Data as JSON that loses nothing: integers that may be amounts become strings."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value)


def _type(code: str) -> str:
    return f"urn:tallystick:problem:{code}"
