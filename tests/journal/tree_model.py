"""RFC 6962, section 2.1, word for word: slow, recursive, and written without a look at the code that it judges.

A log is a default leaf for every place but a few. What is the same everywhere in a range need be hashed only once, so
the model answers for logs of 2^63 leaves as well as for small ones whose every leaf is its own.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Mapping, Sequence


def leaf_of(number: int) -> bytes:
    """A leaf hash that no other number has."""
    return hashlib.sha256(b"\0" + number.to_bytes(8, "big")).digest()


LEAVES = [leaf_of(number) for number in range(1100)]


def largest_power_below(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


class Log:
    """``own`` gives the leaf hashes of some places; all others have the same."""

    def __init__(self, own: Mapping[int, bytes] | Sequence[bytes], other: bytes = leaf_of(2**63)) -> None:
        self.own = dict(own) if isinstance(own, Mapping) else dict(enumerate(own))
        self.places = sorted(self.own)
        self.other = other
        self._mth: dict[tuple[int, int], bytes] = {}
        self._same: dict[int, bytes] = {}

    def leaf(self, place: int) -> bytes:
        return self.own.get(place, self.other)

    def mth(self, begin: int, end: int) -> bytes:
        """MTH(D[begin:end])."""
        n = end - begin
        if n == 0:
            return hashlib.sha256().digest()
        if n == 1:
            return self.leaf(begin)
        first = bisect.bisect_left(self.places, begin)
        is_same = first == len(self.places) or self.places[first] >= end
        memory, key = (self._same, n) if is_same else (self._mth, (begin, end))
        if key not in memory:
            k = largest_power_below(n)
            memory[key] = hashlib.sha256(
                b"\x01" + self.mth(begin, begin + k) + self.mth(begin + k, end),
            ).digest()
        return memory[key]

    def path(self, m: int, begin: int, end: int) -> list[bytes]:
        """PATH(m, D[begin:end])."""
        n = end - begin
        if n == 1:
            return []
        k = largest_power_below(n)
        if m < k:
            return [*self.path(m, begin, begin + k), self.mth(begin + k, end)]
        return [*self.path(m - k, begin + k, end), self.mth(begin, begin + k)]

    def subproof(self, m: int, begin: int, end: int, is_known: bool) -> list[bytes]:
        """SUBPROOF(m, D[begin:end], b)."""
        n = end - begin
        if m == n:
            return [] if is_known else [self.mth(begin, end)]
        k = largest_power_below(n)
        if m <= k:
            return [*self.subproof(m, begin, begin + k, is_known), self.mth(begin + k, end)]
        return [*self.subproof(m - k, begin + k, end, False), self.mth(begin, begin + k)]

    def proof(self, old: int, new: int) -> list[bytes]:
        """PROOF(old, D[0:new])."""
        return self.subproof(old, 0, new, True)

    def tile(self, level: int, number: int, width: int) -> bytes:
        """The tile by the formula of tlog-tiles."""
        n, unit = number, 256**level
        return b"".join(self.mth((n * 256 + i) * unit, (n * 256 + i + 1) * unit) for i in range(width))


class Reader:
    """Complete subtrees of a log of ``size`` leaves, and every request that was made for them."""

    def __init__(self, log: Log, size: int) -> None:
        self.log = log
        self.size = size
        self.requests: list[list[tuple[int, int]]] = []

    def __call__(self, nodes: Sequence[tuple[int, int]]) -> list[bytes]:
        self.requests.append(list(nodes))
        assert all((index + 1) << level <= self.size for level, index in nodes)
        assert len(set(nodes)) == len(nodes)
        return [self.log.mth(index << level, (index + 1) << level) for level, index in nodes]
