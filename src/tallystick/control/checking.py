"""What a store of the operator's records takes: its limits, the checks before anything is kept, and records as JSON.

Every store checks in the same way, here, so that one refuses what the others refuse. Inside, a store trusts its input.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from tallystick.clock import PATTERN, parse_time
from tallystick.control.records import Attempt, Delivery, Lease
from tallystick.errors import InvalidInput, LedgerCorrupt

MAX_LISTED = 10_000
"""Records that one call answers."""
MAX_SETTLED = 50_000
"""Numbers, deliveries or tries that one call settles, each counted apart."""
MAX_NAME_CHARACTERS = 255
"""In ids, subjects, names of ledgers, jobs, leases, holders and secrets: two of them fit into a row of an index."""
MAX_LANES = 1_000
"""Accounts that one delivery is about."""
MAX_LANE_CHARACTERS = 1_000
MAX_RECORD_BYTES = 65_536
"""A key, an endpoint or a run as JSON."""
MAX_REPORT_BYTES = 16 * 2**20
"""A report's body as JSON."""
MAX_PROBLEM_CHARACTERS = 1_000
"""What is kept of why a delivery failed; the rest is cut off, for a receiver may say what it likes."""
MAX_LEASE_SECONDS = 86_400.0
MAX_NUMBER = 2**63 - 1

PRUNED_AT_ONCE = 10_000
"""Rows that are forgotten in one commit, so that others need not wait long for theirs."""

Record = TypeVar("Record")

_TIME = re.compile(PATTERN + r"\Z")


class Settlement(NamedTuple):
    """What one call of ``settle`` keeps: checked, and each number once."""

    cursor: int | None
    accepted: list[int]
    deliveries: list[Delivery]
    attempts: list[Attempt]


# ---------------------------------------------------------------- checks, each raises InvalidInput


def check_name(name: str, path: str, *, empty: bool = False) -> None:
    """A text that something is found by."""
    if not isinstance(name, str):
        raise InvalidInput(path=path, problem="it is no text")
    if not (name or empty):
        raise InvalidInput(path=path, problem="it is empty")
    if len(name) > MAX_NAME_CHARACTERS:
        raise InvalidInput(path=path, problem=f"{len(name)} characters are too many: at most {MAX_NAME_CHARACTERS}")
    if not _is_storable(name):
        raise InvalidInput(path=path, problem="it holds a character that cannot be kept")


def is_name(name: str) -> bool:
    """Whether anything can be found by it: whoever looks for what cannot be kept finds nothing."""
    return isinstance(name, str) and len(name) <= MAX_NAME_CHARACTERS and _is_storable(name)


def check_lease(lease: Lease) -> None:
    """A lease that somebody hands in."""
    check_name(lease.name, "lease.name")
    check_name(lease.holder, "lease.holder")
    check_number(lease.token, "lease.token")


def check_limit(limit: int) -> None:
    """How many records a call asks for."""
    if type(limit) is not int or not 1 <= limit <= MAX_LISTED:
        raise InvalidInput(path="limit", problem=f"{limit!r} is not a number from 1 to {MAX_LISTED}")


def check_number(number: int, path: str, least: int = 0) -> None:
    """A number of an event, of a try, of a token."""
    if type(number) is not int or not least <= number <= MAX_NUMBER:
        raise InvalidInput(path=path, problem=f"{number!r} is not a number from {least} to {MAX_NUMBER}")


def check_seconds(seconds: float) -> None:
    """How long a lease lasts."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= MAX_LEASE_SECONDS:
        raise InvalidInput(path="seconds", problem=f"{seconds!r} is not more than 0 and at most {MAX_LEASE_SECONDS}")


def check_time(time: str, path: str) -> None:
    """A journal time, which is compared as text."""
    if not (isinstance(time, str) and _TIME.match(time)):
        raise InvalidInput(path=path, problem=f"{time!r} is not a time such as 2026-11-21T09:00:00.000000Z")


def before_time(before: str) -> str:
    """Any time with a zone as journal time; empty stays empty."""
    return parse_time(before, "before") if before else ""


def check_state(state: str) -> None:
    """A state of deliveries, or none."""
    if state not in ("", "waiting", "dead"):
        raise InvalidInput(path="state", problem=f"{state!r} is neither waiting nor dead")


def settlement(
    endpoint: str,
    cursor: int | None,
    accepted: Sequence[int],
    deliveries: Sequence[Delivery],
    attempts: Sequence[Attempt],
) -> Settlement:
    """What is to be settled, checked. Of deliveries with one number the last one counts, also over ``accepted``."""
    check_name(endpoint, "endpoint")
    if cursor is not None:
        check_number(cursor, "cursor")
    for what, given in (("accepted", accepted), ("deliveries", deliveries), ("attempts", attempts)):
        if len(given) > MAX_SETTLED:
            raise InvalidInput(path=what, problem=f"{len(given)} at once are too many: at most {MAX_SETTLED}")
    for seq in accepted:
        check_number(seq, "accepted")
    kept = {delivery.seq: _delivery(endpoint, delivery) for delivery in deliveries}
    gone = [seq for seq in dict.fromkeys(accepted) if seq not in kept]
    return Settlement(cursor, gone, list(kept.values()), [_attempt(endpoint, attempt) for attempt in attempts])


def _delivery(endpoint: str, delivery: Delivery) -> Delivery:
    if delivery.endpoint != endpoint:
        raise InvalidInput(path="deliveries", problem=f"one is of {delivery.endpoint!r}, not of {endpoint!r}")
    check_number(delivery.seq, "deliveries.seq")
    check_number(delivery.attempts, "deliveries.attempts")
    if delivery.state not in ("waiting", "dead"):
        raise InvalidInput(path="deliveries.state", problem=f"{delivery.state!r} is neither waiting nor dead")
    if delivery.due:
        check_time(delivery.due, "deliveries.due")
    if len(delivery.lanes) > MAX_LANES:
        raise InvalidInput(path="deliveries.lanes", problem=f"{len(delivery.lanes)} are too many: at most {MAX_LANES}")
    for lane in delivery.lanes:
        if not isinstance(lane, str) or len(lane) > MAX_LANE_CHARACTERS or not _is_storable(lane):
            raise InvalidInput(path="deliveries.lanes", problem="one is no text that can be kept, or too long")
    if delivery.problem:
        return msgspec.structs.replace(delivery, problem=_told(delivery.problem))
    return delivery


def _attempt(endpoint: str, attempt: Attempt) -> Attempt:
    if attempt.endpoint != endpoint:
        raise InvalidInput(path="attempts", problem=f"one is of {attempt.endpoint!r}, not of {endpoint!r}")
    check_number(attempt.seq, "attempts.seq")
    check_number(attempt.number, "attempts.number")
    check_time(attempt.time, "attempts.time")
    check_number(attempt.status, "attempts.status")
    check_number(attempt.milliseconds, "attempts.milliseconds")
    if attempt.problem:
        return msgspec.structs.replace(attempt, problem=_told(attempt.problem))
    return attempt


def _told(problem: str) -> str:
    """What a receiver or a library said, as text that every store can keep: a lost reason is no reason to lose more."""
    cut = problem[:MAX_PROBLEM_CHARACTERS]
    return cut if _is_storable(cut) else cut.encode("utf-8", "replace").decode().replace("\0", "?")


def _is_storable(text: str) -> bool:
    """Whether it can be written as UTF-8, without the one character that PostgreSQL does not keep."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# ---------------------------------------------------------------- records as JSON


def encode(record: Any, path: str) -> str:
    """A record as JSON that ``decode`` makes the same record of. Raises InvalidInput for one that is too large, or is
    not what its type says."""
    try:
        body = msgspec.json.encode(record)
        same = msgspec.json.decode(body, type=type(record)) == record
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInput(path=path, problem=f"it cannot be kept: {error}") from None
    if not same:
        raise InvalidInput(path=path, problem="it holds what JSON does not keep as it is")
    limit = MAX_REPORT_BYTES if isinstance(record, dict) else MAX_RECORD_BYTES
    if len(body) > limit:
        raise InvalidInput(path=path, problem=f"it takes {len(body)} bytes, the limit is {limit}")
    return body.decode()


def decode(body: str | bytes, kind: type[Record], where: str) -> Record:
    """The record that a store has kept. Raises LedgerCorrupt if it was damaged."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        problem = f"the record of a {kind.__name__} is damaged: {error}"
        raise LedgerCorrupt(where=where, problem=problem) from None
