"""What the two sides of a log service share: how hashes and names of logs are written. See ``log_service``."""

from __future__ import annotations

import re
from typing import Any

from tallystick.clock import parse_time
from tallystick.errors import InvalidInput
from tallystick.journal.notes import MAX_SIZE

JSON_TYPE = "application/json"
MAX_HASHES = 1_000
"""In one request, which takes 67,000 bytes then."""

EMPTY = b""
"""Stands for the hash before the first."""

_LOG_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~:-]*(/[A-Za-z0-9][A-Za-z0-9._~:-]*)*")
_MAX_LOG_ID = 200
_HASH = re.compile(r"[0-9a-f]{64}")


def check_log_id(log_id: Any) -> str:
    """The name itself. Raises InvalidInput unless it is one that can stand in a URL as it is."""
    if not isinstance(log_id, str) or len(log_id) > _MAX_LOG_ID or not _LOG_ID.fullmatch(log_id):
        problem = f"a log's name is up to {_MAX_LOG_ID} letters, digits and . _ ~ : -, in parts between single /"
        raise InvalidInput(path="log_id", problem=problem)
    return log_id


def decode_hash(text: Any, *, empty: bool = False) -> bytes:
    """The hash in 64 hex digits; with ``empty``, also "" for the hash before the first. Raises InvalidInput."""
    if empty and text == "":
        return EMPTY
    if not isinstance(text, str) or not _HASH.fullmatch(text):
        raise InvalidInput(path="hash", problem="a hash is 64 hex digits in lower case")
    return bytes.fromhex(text)


def check_size(value: Any) -> int:
    """The number itself. Raises InvalidInput unless it is a whole number that a log can have as size or index."""
    if type(value) is not int or not 0 <= value <= MAX_SIZE:  # a bool is an int too
        raise InvalidInput(path="size", problem=f"not a whole number from 0 to {MAX_SIZE}")
    return value


def check_date(value: Any) -> str:
    """The date itself. Raises InvalidInput unless it is one such as 2026-11-21."""
    if not isinstance(value, str) or parse_time(value, "date")[:10] != value:
        raise InvalidInput(path="date", problem="not a date such as 2026-11-21")
    return value
