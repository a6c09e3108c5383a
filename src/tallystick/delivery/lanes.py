"""Who waits for whom: a pure structure of queues.

Every account is a lane, a queue of what was taken up and is not accepted yet. Whatever stands first in all of its lanes
is free to be sent. Lanes are only ever added to at the end, so all of them agree on one order, and nothing can wait in
a circle.
"""

from __future__ import annotations

from collections import deque

from tallystick.control.records import Delivery
from tallystick.delivery.transport import Message

NOBODY = ("",)
"""The lane of what is about no account."""


class Item:
    """A message on its way: what is known of it besides the message itself, which may have to be read again."""

    __slots__ = (
        "attempts",
        "blocked",
        "dead",
        "done",
        "due",
        "is_kept",
        "lanes",
        "message",
        "redelivery",
        "sending",
        "seq",
    )

    def __init__(self, seq: int, lanes: tuple[str, ...], message: Message | None) -> None:
        self.seq = seq
        self.lanes = lanes or NOBODY
        self.message = message
        self.attempts = 0
        self.due = 0.0
        """Not before this time of the monotonic clock."""
        self.blocked = 0
        """In how many of its lanes something stands before it."""
        self.sending = False
        self.is_kept = False
        """The control store has a record of it: the cursor may pass over it."""
        self.done = False
        """It was accepted; what remains is to keep that."""
        self.dead = False
        self.redelivery = False

    def become(self, record: Delivery, due: float) -> None:
        """What the control store says of it."""
        self.is_kept = True
        self.attempts = record.attempts
        self.redelivery = record.redelivery
        self.due = due


class Lanes:
    """The queues of one endpoint."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Item]] = {}

    def __len__(self) -> int:
        return len(self._queues)

    def add(self, item: Item) -> bool:
        """Put it at the end of its lanes; whether it is free."""
        for lane in item.lanes:
            queue = self._queues.get(lane)
            if queue is None:
                self._queues[lane] = deque((item,))
            else:
                queue.append(item)
                item.blocked += 1
        return not item.blocked

    def remove(self, item: Item) -> list[Item]:
        """Take away what stood first in all of its lanes; what is free now that was not before."""
        freed = []
        for lane in item.lanes:
            queue = self._queues[lane]
            queue.popleft()
            if not queue:
                del self._queues[lane]
                continue
            first = queue[0]
            first.blocked -= 1
            if not first.blocked:
                freed.append(first)
        return freed

    def waits_for_kept(self, item: Item) -> bool:
        """Whether something stands before it that may take long, because it failed."""
        return any(self._queues[lane][0] is not item and self._queues[lane][0].is_kept for lane in item.lanes)
