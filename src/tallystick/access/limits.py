"""Rate limits: how many requests a second each caller may make, with room for bursts.

Each caller has one number: the time at which his requests would be used up at his rate (the generic cell rate
algorithm of ITU-T I.371, which is a token bucket kept as one time). The limits hold in one process: of n processes
behind one address a caller gets up to n times his rate.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from tallystick.errors import InvalidInput

MAX_BUCKETS = 65_536
"""Callers that are remembered; of more, the one that was away for longest begins anew."""

MAX_RATE = 1_000_000

_ROUNDING_SECONDS = 1e-9
"""What sums of floats may be off."""


class RateLimits:
    """Who may ask how often; safe to use from any number of threads.

    ``default_per_second`` is for callers without a rate of their own (0: they have no limit); a caller who was quiet
    may spend ``burst_seconds`` worth of requests at once, and one request at any rate. Raises InvalidInput.
    """

    def __init__(
        self, default_per_second: int, burst_seconds: float = 2.0, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        if not 0 <= default_per_second <= MAX_RATE:
            raise InvalidInput(path="default_per_second", problem=f"{default_per_second} is not 0 to {MAX_RATE}")
        if not 0 < burst_seconds <= 3_600:
            raise InvalidInput(path="burst_seconds", problem=f"{burst_seconds} is not above 0 and up to 3,600")
        self._default = default_per_second
        self._burst = burst_seconds
        self._now = monotonic
        self._lock = threading.Lock()
        self._used_until: OrderedDict[str, float] = OrderedDict()

    def take(self, name: str, rate: int = 0) -> float:
        """Take one request of a caller's; 0.0 if he may go on, or how many seconds he has to wait, and then nothing was
        taken. ``rate`` is his own, in requests a second (0: the default)."""
        rate = rate or self._default
        if rate <= 0:
            return 0.0
        cost = 1.0 / rate
        with self._lock:
            now = self._now()
            used_until = max(self._used_until.get(name, now), now) + cost
            wait = used_until - now - max(self._burst, cost)
            if wait > _ROUNDING_SECONDS:
                self._used_until.move_to_end(name)  # who keeps on asking is not forgotten for it
                return wait
            self._used_until[name] = used_until
            self._used_until.move_to_end(name)
            if len(self._used_until) > MAX_BUCKETS:
                self._used_until.popitem(last=False)
        return 0.0

    def __len__(self) -> int:
        """How many callers are remembered."""
        return len(self._used_until)
