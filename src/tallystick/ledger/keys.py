"""Which idempotency keys may have been used: the answer "surely not", without asking the store.

Every new command must be shown to bear a new key, for ever. Asking an index of all keys ever used costs more the
larger it grows; a Bloom filter in memory (blocked: one 64-bit word per key, 32 bits of it for each key) answers almost
every time. It never says "no" wrongly, and says "maybe" wrongly about once in ten thousand times; only then is the store
asked. Filters grow eightfold; full ones never change.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Sequence

FIRST_CAPACITY = 4_096
GROWTH = 8
KEYS_PER_WORD = 2

# Two bits of a 64-bit word for each 12-bit number; a key sets three such pairs.
_PAIRS = [1 << (number & 63) | 1 << (number >> 6) for number in range(4_096)]
_HEADER = struct.Struct("<QQ")


class _Segment:
    """A filter of fixed size."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0
        self.mask = capacity // KEYS_PER_WORD - 1
        self.words = array("Q", bytes(8 * (self.mask + 1)))


class KeyFilter:
    """The keys of one ledger, as 63-bit numbers."""

    def __init__(self) -> None:
        self._segments = [_Segment(FIRST_CAPACITY)]

    def suspects(self, numbers: Sequence[int]) -> set[int]:
        """The positions of the numbers that may have been used before, here or earlier in ``numbers``."""
        found = _repeats(numbers)
        bits = [_PAIRS[number >> 51] | _PAIRS[number >> 39 & 4_095] | _PAIRS[number >> 27 & 4_095] for number in numbers]
        for segment in self._segments:
            words, mask = segment.words, segment.mask
            hits = [
                index
                for index, (number, wanted) in enumerate(zip(numbers, bits, strict=True))
                if words[number & mask] & wanted == wanted
            ]
            if hits:
                found.update(hits)
        return found

    def add(self, numbers: Iterable[int]) -> None:
        """Remember these numbers."""
        segment = self._segments[-1]
        words, mask, count = segment.words, segment.mask, segment.count
        for number in numbers:
            if count >= segment.capacity:
                segment.count = count
                segment = _Segment(segment.capacity * GROWTH)
                self._segments.append(segment)
                words, mask, count = segment.words, segment.mask, 0
            words[number & mask] |= _PAIRS[number >> 51] | _PAIRS[number >> 39 & 4_095] | _PAIRS[number >> 27 & 4_095]
            count += 1
        segment.count = count

    # ------------------------------------------------------------ keeping

    @property
    def sizes(self) -> list[int]:
        """How many keys each segment holds; only the last one still grows."""
        return [segment.count for segment in self._segments]

    def dump(self, index: int) -> bytes:
        """One segment as bytes."""
        segment = self._segments[index]
        words = array("Q", segment.words)
        if sys.byteorder == "big":
            words.byteswap()
        return _HEADER.pack(segment.capacity, segment.count) + words.tobytes()

    @classmethod
    def load(cls, bodies: Sequence[bytes]) -> KeyFilter | None:
        """The filter that was dumped as these segments, or None if they are not such."""
        loaded = cls()
        if not bodies:
            return loaded
        loaded._segments = []
        capacity = FIRST_CAPACITY
        for body in bodies:
            segment = _Segment(capacity)
            if len(body) != _HEADER.size + 8 * len(segment.words):
                return None
            found, segment.count = _HEADER.unpack_from(body)
            if found != capacity or segment.count > capacity:
                return None
            segment.words = array("Q", body[_HEADER.size :])
            if sys.byteorder == "big":
                segment.words.byteswap()
            loaded._segments.append(segment)
            capacity *= GROWTH
        return loaded


def _repeats(numbers: Sequence[int]) -> set[int]:
    if len(set(numbers)) == len(numbers):
        return set()
    seen: set[int] = set()
    found = set()
    for index, number in enumerate(numbers):
        if number in seen:
            found.add(index)
        seen.add(number)
    return found
