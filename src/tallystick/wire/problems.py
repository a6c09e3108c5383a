"""Problems: what went wrong, as a document of RFC 9457 (``application/problem+json``)."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

MEDIA_TYPE = "application/problem+json"


class Problem(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What went wrong. ``code`` is stable for ever, and names the error of docs/errors.md.

    ``path`` is the field it is about; ``needed`` and ``found`` say what was needed and what was there. ``retryable``:
    the same request, with the same idempotency key, may go through later (after ``retry_after_seconds``, if given).
    ``data`` is all that the error knows, with amounts as strings.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str = ""
    retryable: bool
    path: str = ""
    needed: str = ""
    found: str = ""
    retry_after_seconds: int = 0
    data: dict[str, Any] = field(default_factory=dict)
