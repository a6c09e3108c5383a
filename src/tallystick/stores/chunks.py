"""Chunks: how several events share one stored row, and how they are read back and checked.

A row holds up to 256 consecutive events, joined by line feeds; canonical JSON holds none. The row keeps the hash of
its last event, and each event names the hash of the one before, so every byte of a row is vouched for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from msgspec import Struct

from tallystick.errors import LedgerCorrupt
from tallystick.journal import leaf_hash

EVENTS_PER_ROW = 256
PLAIN = 0
_PREV = b'"prev":"'


Place = tuple[int, int, str, int, int, int, str]
"""(first seq, count, hash of the last, encoding, start from 1, length, time of the last): a row, and where it lies."""


def pack(first: int, bodies: list[bytes]) -> tuple[bytes, list[Place]]:
    """One blob of events from number ``first`` on, and where its rows lie in it."""
    places: list[Place] = []
    start, packed = 1, []
    for index in range(0, len(bodies), EVENTS_PER_ROW):
        part = bodies[index : index + EVENTS_PER_ROW]
        body = b"\n".join(part)
        places.append((first + index, len(part), leaf_hash(part[-1]), PLAIN, start, len(body), time_of(part[-1])))
        packed.append(body)
        start += len(body)
    return b"".join(packed), places


class Row(Struct, frozen=True):
    """Consecutive events as they are stored together: ``time`` and ``hash`` are those of the last."""

    seq: int
    count: int
    time: str
    hash: str
    body: bytes


def rows_of(first: int, bodies: list[bytes], limit: int) -> Iterator[Row]:
    """Events from number ``first`` on in rows of up to ``limit`` bytes; a larger event has a row of its own."""
    start, size = 0, -1
    for index, body in enumerate(bodies):
        size += len(body) + 1
        if (size > limit and index > start) or index - start == EVENTS_PER_ROW:
            yield _row(first + start, bodies[start:index])
            start, size = index, len(body)
    if start < len(bodies):
        yield _row(first + start, bodies[start:])


def _row(seq: int, bodies: list[bytes]) -> Row:
    return Row(seq, len(bodies), time_of(bodies[-1]), leaf_hash(bodies[-1]), b"\n".join(bodies))


def unpack(ledger: str, seq: int, count: int, hash: str, encoding: int, body: bytes) -> list[bytes]:
    """The events of a row, each checked against the next one's ``prev``, the last against the row's hash."""
    bodies = _split(ledger, seq, count, encoding, body)
    hashed(ledger, seq, bodies, hash)
    return bodies


def leaves(ledger: str, seq: int, count: int, hash: str, encoding: int, body: bytes, prev: bytes) -> list[bytes]:
    """The leaf hashes of a row's events, computed anew and checked as ``unpack`` does; the first event must name
    ``prev``, the leaf hash of the event before the row."""
    return hashed(ledger, seq, _split(ledger, seq, count, encoding, body), hash, prev)


def hashed(ledger: str, seq: int, bodies: list[bytes], hash: str, prev: bytes = b"") -> list[bytes]:
    """The leaf hashes of events from number ``seq`` on, if they are in their place, each names the one before, and the
    last has this hash; the first must name ``prev``, if that is given."""
    if prev and _names(bodies[0]) != prev.hex():
        raise _altered(ledger, max(seq - 1, 0))
    digests = [hashing.digest() for hashing in map(hashlib.sha256, [b"\0" + body for body in bodies])]
    # All names of a row are compared at once; which event was altered is asked only if one was.
    following = bodies[1:]
    named = b"".join([body[(start := body.rfind(_PREV) + len(_PREV)) : start + 64] for body in following])
    if named != b"".join(digests[:-1]).hex().encode():
        for number, (digest, body) in enumerate(zip(digests, following, strict=False), seq):
            if _names(body) != digest.hex():
                raise _altered(ledger, number)
    if digests[-1].hex() != hash:
        raise _altered(ledger, seq + len(bodies) - 1)
    _check_place(ledger, seq, bodies[0])
    return digests


def check_last(ledger: str, seq: int, count: int, time: str, hash: str, body: bytes) -> None:
    """Raises LedgerCorrupt unless a row's place, time and hash are those of the last event in it."""
    _check_bytes(ledger, seq, body)
    last = body[body.rfind(b"\n") + 1 :]
    if leaf_hash(last) != hash or time_of(last) != time:
        raise _altered(ledger, seq + count - 1)
    _check_place(ledger, seq + count - 1, last)


def time_of(body: bytes) -> str:
    """When an event was recorded; after ``time`` its keys are only ``type`` and ``v``."""
    start = body.rfind(b'"time":"') + 8
    return body[start : start + 27].decode("ascii", "replace")


def _names(body: bytes) -> str:
    """The hash that an event names as the one before: ``prev`` is its last key but a few, and appears once as such."""
    start = body.rfind(_PREV) + len(_PREV)
    return body[start : start + 64].decode("ascii", "replace")


def _check_place(ledger: str, seq: int, body: bytes) -> None:
    """Raises LedgerCorrupt if an event stands at another number than its own, or in another ledger's journal."""
    place = body.rfind(b'"seq":')
    if not body[place:].startswith(f'"seq":{seq},'.encode()) or f'"ledger":"{ledger}"'.encode() not in body:
        raise LedgerCorrupt(where=f"event {ledger}/{seq}", problem="another event is in its place", seq=seq)


def _split(ledger: str, seq: int, count: int, encoding: int, body: bytes) -> list[bytes]:
    _check_bytes(ledger, seq, body)
    bodies = body.split(b"\n")
    if encoding != PLAIN or len(bodies) != count:
        raise LedgerCorrupt(where=f"event {ledger}/{seq}", problem=f"its row does not hold {count} events", seq=seq)
    return bodies


def _check_bytes(ledger: str, seq: int, body: object) -> None:
    """Raises LedgerCorrupt for a row whose very type was altered."""
    if not isinstance(body, bytes):
        raise LedgerCorrupt(where=f"event {ledger}/{seq}", problem="its row holds no bytes", seq=seq)


def _altered(ledger: str, seq: int) -> LedgerCorrupt:
    return LedgerCorrupt(where=f"event {ledger}/{seq}", problem="its bytes do not match its hash", seq=seq)
