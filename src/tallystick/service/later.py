"""What is refused now, and goes through soon."""

from __future__ import annotations

import msgspec

from tallystick.service.problems import Refused
from tallystick.wire.problems import Problem

SOON_SECONDS = 5
"""When to ask again, if nothing is said of it."""


class NotYet(Refused):
    """The same request goes through a little later, though nothing is wrong with the service."""

    def __init__(self, status: int, code: str, detail: str, *, seconds: int = SOON_SECONDS) -> None:
        super().__init__(status, code, detail, headers=((b"retry-after", str(seconds).encode()),))
        self.seconds = seconds

    def problem(self, request_id: str) -> Problem:
        """As a document that says so."""
        return msgspec.structs.replace(super().problem(request_id), retryable=True, retry_after_seconds=self.seconds)
