"""Where a ledger stands, and in which partitions and parts its rows lie."""

from __future__ import annotations

from msgspec import Struct

from tallystick.stores.base import Head

LAST = 2**62
"""Beyond every event number."""


class Standing(Struct, frozen=True):
    """Where a ledger stands, which periods its events lie in and from which event on, the last whole snapshot, and how
    many of the oldest periods are in the archive."""

    head: Head
    periods: list[int]
    firsts: list[int]
    snapshot: int | None
    archived: int = 0

    @property
    def boundary(self) -> int:
        """The first event that is not in the archive."""
        return [*self.firsts, self.head.seq][self.archived] if self.archived else 0

    def stretches(self) -> list[tuple[int, int, int]]:
        """(period, first event, event behind the last) of each period, oldest first."""
        ends = [*self.firsts, LAST][1:] if self.firsts else []
        return list(zip(self.periods, self.firsts, ends, strict=True))

    def places(self, bits: int, first: int, before: int) -> tuple[list[int], list[int]]:
        """The periods and parts (of 2^bits events) that hold events with first <= seq < before, newest first."""
        periods, parts = [], []
        for period, begins, end in reversed(self.stretches()):
            low, high = max(first, begins), min(before, end) - 1
            for part in range(high >> bits, (low >> bits) - 1, -1) if low <= high else ():
                periods.append(period)
                parts.append(part)
        return periods, parts
