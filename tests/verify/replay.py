"""Replaying events with the verifier's own book, without a bundle around them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from tallystick import verify

FAR = 2**63


class Bodies:
    """The past as a list."""

    def __init__(self, bodies: Sequence[bytes]) -> None:
        self.bodies = bodies

    def event_at(self, seq: int) -> dict[str, Any]:
        return verify.parse_event(self.bodies[seq])[0]

    def events_since(self, moment: str, before: int, account: str) -> Iterator[dict[str, Any]]:
        events = (json.loads(body) for body in self.bodies[:before])
        return (event for event in events if not verify.check_fields(event) and event["time"] > moment)


def replay(bodies: Sequence[bytes]) -> tuple[verify.Report, verify.Book]:
    """What the verifier says of the bytes, chain and accounting of these events, and the book that they make."""
    report = verify.Report("events")
    book = verify.Book(report.verdicts["accounting"], Bodies(bodies))
    journal = verify.Journal(report, book, (0, FAR))
    for first in range(0, len(bodies), verify.WIDTH):
        journal.read(bodies[first : first + verify.WIDTH], first)
    if not report.failed:
        book.check_end()
    return report, book
