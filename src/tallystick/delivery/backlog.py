"""What one endpoint has not accepted: who may be sent, who waits, and how far the cursor may move. Nothing here waits
or writes; times are of the monotonic clock and come in from outside.

Events come in by the journal's order (``take``) and as records of an earlier process or of somebody's asking
(``take_record``). An event holds the cursor back until it is accepted, or is a record of its own: because it failed, or
because it waits behind one that did (``park``).

Memory is bounded by WINDOW messages, and HELD_BYTES of those that are held; the others are read again at their turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable
from heapq import heappop, heappush

from tallystick.control.records import Delivery
from tallystick.delivery.lanes import Item, Lanes
from tallystick.delivery.transport import Message

WINDOW = 10_000
"""Messages of one endpoint that wait in memory. When so many do, nothing more is taken up."""

HELD_BYTES = 16 * 2**20
"""Of the bodies of one endpoint's messages that are held in memory."""

MAX_AHEAD = 1_000
"""Messages that may be accepted behind one that holds the cursor back, before that becomes a record."""

MAX_PARKED_AT_ONCE = 2_000
"""Messages that become records at once because they wait."""


class Backlog:
    """The messages of one endpoint that were taken up."""

    def __init__(self, cursor: int, dead: Iterable[Delivery] = ()) -> None:
        self.next = cursor
        """The number of the event to be taken up next."""
        self._lanes = Lanes()
        self._items: dict[int, Item] = {}
        self._line: deque[Item] = deque()
        """What was taken from the journal and holds the cursor back, in order."""
        self._free: deque[Item] = deque()
        self._later: list[tuple[float, int, Item]] = []
        self._known = {record.seq: (record, 0.0) for record in dead}
        """Records of events that were not taken up yet: how often they were tried before a crash, or that they are
        dead."""
        self._held = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def room(self) -> int:
        """How many more may be taken up."""
        return max(WINDOW - len(self._items), 0)

    @property
    def free(self) -> int:
        """About how many may be sent."""
        return len(self._free)

    @property
    def next_due(self) -> float | None:
        """When something will be due."""
        return self._later[0][0] if self._later else None

    def oldest(self) -> tuple[int, Message | None]:
        """The number of the first event that was not accepted, and its message if that is held."""
        waiting = [item for item in self._items.values() if not item.done]
        first = min(waiting, key=lambda item: item.seq, default=None)
        return (self.next, None) if first is None else (first.seq, first.message)

    # ------------------------------------------------------------ taking up

    def take(self, message: Message, now: float) -> None:
        """Take up the message of an event of the journal."""
        if message.seq in self._items:
            return
        record, due = self._known.pop(message.seq, (None, 0.0))
        if record is not None and record.state == "dead":
            return
        item = Item(message.seq, message.lanes, message)
        if record is not None:
            item.become(record, due)
        if self._held + len(message.body) > HELD_BYTES:
            item.message = None
        else:
            self._held += len(message.body)
        self._line.append(item)
        self._add(item, now)

    def take_record(self, record: Delivery, due: float, now: float) -> None:
        """Take up a record that waits, if it is not known; or try at once what was asked for again."""
        item = self._items.get(record.seq)
        if item is not None:
            if record.redelivery and not record.due and not item.sending and item.due > now:
                item.become(record, 0.0)
                if not item.blocked:
                    self._free.append(item)
        elif record.seq >= self.next:
            self._known[record.seq] = (record, due)
        elif self.room:
            item = Item(record.seq, record.lanes, None)
            item.become(record, due)
            self._add(item, now)

    def _add(self, item: Item, now: float) -> None:
        self._items[item.seq] = item
        if self._lanes.add(item):
            self._release(item, now)

    # ------------------------------------------------------------ sending

    def wake(self, now: float) -> None:
        """Free what is due by now."""
        while self._later and self._later[0][0] <= now:
            item = heappop(self._later)[2]
            if _may_go(item, now):
                self._free.append(item)

    def pop(self, now: float) -> Item | None:
        """Something to be sent now; it counts as on its way until something is said of it."""
        while self._free:
            item = self._free.popleft()
            if _may_go(item, now):  # it may stand here twice, after it was asked for again
                item.sending = True
                return item
        return None

    def accept(self, item: Item, now: float) -> None:
        """It was accepted: who waited for it is free."""
        item.sending = False
        item.done = True
        self._drop(item)
        self._let_go(item, now)

    def postpone(self, item: Item, due: float, now: float, *, drop: bool = False) -> None:
        """It is to be tried again; ``drop``: not so soon that its message should be held."""
        item.sending = False
        item.due = due
        if drop:
            self._drop(item)
        self._release(item, now)

    def bury(self, item: Item) -> None:
        """It is dead. Who waited for it still does, until it is forgotten."""
        item.sending = False
        item.dead = True
        self._drop(item)

    def forget(self, ended: Iterable[Item], now: float) -> None:
        """What was accepted or died is kept as such."""
        for item in ended:
            del self._items[item.seq]
            if item.dead:
                self._let_go(item, now)

    def _let_go(self, item: Item, now: float) -> None:
        for freed in self._lanes.remove(item):
            self._release(freed, now)

    def _release(self, item: Item, now: float) -> None:
        """It stands first in its lanes."""
        if item.due > now:
            heappush(self._later, (item.due, item.seq, item))
        else:
            self._free.append(item)

    def _drop(self, item: Item) -> None:
        if item.message is not None:
            self._held -= len(item.message.body)
            item.message = None

    # ------------------------------------------------------------ the cursor

    def park(self, changed: Container[int]) -> list[Item]:
        """Let the cursor pass over what waits behind a record, and over what is slow while much behind it was accepted:
        these are to become records. ``changed`` are numbers that become records in any case.
        """
        parked: list[Item] = []
        ahead = sum(item.done for item in self._line)
        for item in self._line:
            if item.done:
                ahead -= 1
            elif item.is_kept or item.dead or item.seq in changed:
                continue
            elif len(parked) < MAX_PARKED_AT_ONCE and (ahead > MAX_AHEAD or self._lanes.waits_for_kept(item)):
                item.is_kept = True
                parked.append(item)
            else:
                break
        return parked

    def cursor(self) -> int:
        """The number of the first event that is not accepted, not dead, and no record."""
        line = self._line
        while line and (line[0].done or line[0].dead or line[0].is_kept):
            line.popleft()
        return line[0].seq if line else self.next


def _may_go(item: Item, now: float) -> bool:
    return not (item.sending or item.done or item.dead or item.blocked or item.due > now)
