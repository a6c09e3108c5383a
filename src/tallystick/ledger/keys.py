"""Which idempotency keys may have been used: the answer "surely not", without asking the store.

Every new command must be shown to bear a new key, for ever. Asking an index of all keys ever used costs more the
larger it grows; a Bloom filter in memory (blocked: a key sets six bits of one 64-bit word, two keys to a word) answers
almost every time. It never says "no" wrongly, and says "maybe" wrongly about once in a thousand times; only then is
the store asked. Filters grow eightfold; full ones never change.
"""

from __future__ import annotations

import functools
import struct
import sys
from array import array
from collections.abc import Sequence
from typing import Any

FIRST_CAPACITY = 4_096
GROWTH = 8
KEYS_PER_WORD = 2
VECTOR = 128
"""From so many keys on, NumPy does the arithmetic."""

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
        if len(numbers) >= VECTOR:
            found.update(self._vector_suspects(numbers))
            return found
        for index, number in enumerate(numbers):
            wanted = _bits(number)
            if any(segment.words[number & segment.mask] & wanted == wanted for segment in self._segments):
                found.add(index)
        return found

    def add(self, numbers: Sequence[int]) -> None:
        """Remember these numbers."""
        start = 0
        while start < len(numbers):
            segment = self._segments[-1]
            room = segment.capacity - segment.count
            if not room:
                self._segments.append(_Segment(segment.capacity * GROWTH))
                continue
            part = numbers[start : start + room]
            if len(part) >= VECTOR:
                _vector_add(segment, part)
            else:
                words, mask = segment.words, segment.mask
                for number in part:
                    words[number & mask] |= _bits(number)
            segment.count += len(part)
            start += len(part)

    def _vector_suspects(self, numbers: Sequence[int]) -> list[int]:
        numpy = _numpy()
        vector = numpy.array(numbers, dtype=numpy.uint64)
        wanted = _vector_bits(numpy, vector)
        hits = numpy.zeros(len(numbers), dtype=bool)
        for segment in self._segments:
            words = numpy.frombuffer(segment.words, dtype=numpy.uint64)
            hits |= (words[(vector & numpy.uint64(segment.mask)).astype(numpy.intp)] & wanted) == wanted
        positions: list[int] = numpy.flatnonzero(hits).tolist()
        return positions

    # ------------------------------------------------------------ keeping

    @property
    def capacity(self) -> int:
        """How many keys the last segment can hold."""
        return self._segments[-1].capacity

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


class NoFilter(KeyFilter):
    """For a desk that lives for one call: to ask the store for each key is quicker than to load a filter."""

    def suspects(self, numbers: Sequence[int]) -> set[int]:
        return set(range(len(numbers)))

    def add(self, numbers: Sequence[int]) -> None:
        """There is nothing to remember."""


def _bits(number: int) -> int:
    """The bits that a key sets in its word."""
    return _PAIRS[number >> 51] | _PAIRS[number >> 39 & 4_095] | _PAIRS[number >> 27 & 4_095]


def _vector_bits(numpy: Any, vector: Any) -> Any:
    """The same for many keys at once."""
    pairs, twelve = _vector_pairs(), numpy.uint64(4_095)
    return (
        pairs[(vector >> numpy.uint64(51)).astype(numpy.intp)]
        | pairs[(vector >> numpy.uint64(39) & twelve).astype(numpy.intp)]
        | pairs[(vector >> numpy.uint64(27) & twelve).astype(numpy.intp)]
    )


def _vector_add(segment: _Segment, numbers: Sequence[int]) -> None:
    numpy = _numpy()
    vector = numpy.array(numbers, dtype=numpy.uint64)
    words = numpy.frombuffer(segment.words, dtype=numpy.uint64)
    places = (vector & numpy.uint64(segment.mask)).astype(numpy.intp)
    numpy.bitwise_or.at(words, places, _vector_bits(numpy, vector))


@functools.cache
def _vector_pairs() -> Any:
    numpy = _numpy()
    return numpy.array(_PAIRS, dtype=numpy.uint64)


def _numpy() -> Any:
    """NumPy, at the first batch that is worth it: a program that posts one at a time never pays for its import."""
    import numpy  # noqa: PLC0415

    return numpy


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
