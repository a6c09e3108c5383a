"""How many messages a receiver is asked to take at once, and when it is left alone.

A receiver that does not answer at all, or says that it is overloaded, many times in a row, is taken to be down: it is
asked by one message at a time, less and less often, until it accepts one; then by twice as many each time. So being
down uses up a few rungs of a few messages, not all those of ten thousand, and coming back is not a stampede. One that
refuses with any other status is there, and is asked as before.
"""

from __future__ import annotations

from tallystick.delivery.ladder import MAX_RETRY_AFTER_SECONDS
from tallystick.delivery.transport import Sent

SILENT_TRIES = 20
"""Tries in a row without an answer, or with one of OVERLOADED, after which a receiver is taken to be down."""

OVERLOADED = (429, 502, 503, 504)

ASKS_FOR_PAUSE = (429, 503)
"""With these, ``Retry-After`` is about the receiver, not about one message."""

FIRST_PAUSE_SECONDS = 0.05
MAX_PAUSE_SECONDS = 60.0
"""How long a receiver that is down is left alone at most, unless it asks for more."""


class Pace:
    """Of one receiver. Times are of the monotonic clock."""

    def __init__(self, most: int, max_pause_seconds: float = MAX_PAUSE_SECONDS) -> None:
        self.limit = most
        """Messages that may be on their way at once."""
        self.not_before = 0.0
        self._max_pause_seconds = max_pause_seconds
        self._silent = 0

    def accepted(self, most: int) -> None:
        """It took a message; ``most`` is what it may be asked to take at once."""
        self._silent = 0
        self.limit = min(max(self.limit, 1) * 2, most)

    def refused(self, sent: Sent, now: float) -> None:
        """It did not."""
        if sent.status and sent.status not in OVERLOADED:
            self._silent = 0
            return
        self._silent += 1
        pause = 0.0
        if self._silent >= SILENT_TRIES:
            self.limit = 1
            pause = min(FIRST_PAUSE_SECONDS * 2 ** min(self._silent - SILENT_TRIES, 20), self._max_pause_seconds)
        if sent.status in ASKS_FOR_PAUSE and sent.retry_after_seconds:
            pause = max(pause, min(sent.retry_after_seconds, MAX_RETRY_AFTER_SECONDS))
        self.not_before = max(self.not_before, now + pause)
