"""When to try again: a pure schedule.

The ladder is the one that Standard Webhooks 1.0.0 gives as its example: at once, then after 5 seconds, 5 and 30
minutes, 2, 5, 10, 14, 20 and 24 hours; ten tries in about three days. Each wait is drawn a little longer at random, so
that what failed together does not come back together. Who failed the last rung is dead: it is tried no more unless
asked for.

A receiver that says when to come back (``Retry-After``) is not asked before, within a day; it is never asked sooner
than the ladder says.
"""

from __future__ import annotations

from msgspec import Struct

from tallystick.delivery.transport import Sent
from tallystick.errors import InvalidInput

MAX_RETRY_AFTER_SECONDS = 86_400.0
MAX_TRIES = 100
"""Rungs of a ladder."""


class Ladder(Struct, frozen=True):
    """The wait before each try, in seconds, and by how much of itself each wait may be longer."""

    waits: tuple[float, ...] = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if not 1 <= len(self.waits) <= MAX_TRIES or any(not wait >= 0 for wait in self.waits):
            raise InvalidInput(path="waits", problem=f"a ladder has 1 to {MAX_TRIES} waits, none below 0")
        if not 0 <= self.jitter <= 1:
            raise InvalidInput(path="jitter", problem="the jitter is a part of the wait, 0 to 1")


STANDARD = Ladder()

IMMEDIATE = Ladder(waits=(0.0,) * MAX_TRIES, jitter=0.0)
"""Again at once, a hundred times: for measuring, and for receivers that are a few processes away."""


def wait_before_next(ladder: Ladder, tries: int, sent: Sent, draw: float) -> float | None:
    """Seconds until the next try, after this many; None: there is none. ``draw`` is a random number of [0, 1)."""
    if tries >= len(ladder.waits):
        return None
    wait = ladder.waits[tries] * (1 + ladder.jitter * draw)
    asked = sent.retry_after_seconds
    if asked is None or not asked > 0:
        return wait
    return max(wait, min(asked, MAX_RETRY_AFTER_SECONDS))
