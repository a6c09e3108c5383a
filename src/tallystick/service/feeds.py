"""Feeds: what is new in a ledger, looked for once in a process however many streams there are.

One poller for each ledger asks the store for events behind those that it knows, makes each into the text that it has in
a stream, and keeps the newest. A stream takes from these at its own speed; one that is further behind reads the store
until it has caught up. Nothing is kept for any one stream, so a slow reader costs no memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, proxy

import msgspec
from msgspec import Struct

from tallystick.ledger import Ledger
from tallystick.ledger.views import Transaction
from tallystick.wire.answers import transaction_answer

if TYPE_CHECKING:
    from tallystick.service.application import Service

POLL_SECONDS = 0.04
"""The longest time between two looks, so that what was posted in this process is shown within about 50 ms."""
EVENTS_TOGETHER = 50
"""The most events that are read, or sent, at a time; each may have 64 KiB."""
MAX_KEPT = 2_048
MAX_KEPT_BYTES = 8_388_608
"""How many events, and how many bytes of them, are kept for streams that keep up."""

_encode = msgspec.json.Encoder().encode


class Item(Struct, frozen=True):
    """An event, and its text in a stream of a key that sees everything."""

    seq: int
    event: Transaction
    text: bytes


def item_of(event: Transaction) -> Item:
    return Item(event.seq, event, event_text(event.seq, event.type, _encode(transaction_answer(event))))


def event_text(seq: int, type: str, data: bytes) -> bytes:
    """An event as the text/event-stream format of the HTML standard has it; JSON has no line breaks in it."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (seq, type.encode(), data)


class Listener:
    """One stream: woken when there is something new, or when it must end."""

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.gone = False

    def leave(self) -> None:
        """Who listened has gone."""
        self.gone = True
        self.news.set()


class Feed:
    """What is new in one ledger. It polls while somebody listens; ``failure`` is why it had to stop.

    ``next`` is the number of the first event that is not known here yet.
    """

    def __init__(self, service: Service, ledger: Ledger) -> None:
        self._service: Service = proxy(service)  # a service that is gone is not kept by what belongs to it
        self._ledger = ledger
        self._listeners: set[Listener] = set()
        self._kept: deque[Item] = deque()
        self._bytes = 0
        self._poller: asyncio.Task[None] | None = None
        self._began = asyncio.Event()
        self.next = 0
        self.failure: Exception | None = None

    async def join(self, listener: Listener) -> None:
        """Listen from now on. Raises Unavailable, and other Faults, if the ledger cannot be read."""
        self._listeners.add(listener)
        if self._poller is None or self._poller.done():
            self.failure = None
            self._began = asyncio.Event()
            self._poller = asyncio.create_task(self._poll(self._began))
        await self._began.wait()
        if self.failure is not None:
            raise self.failure

    def leave(self, listener: Listener) -> None:
        """Listen no more; with the last one, the polling ends."""
        self._listeners.discard(listener)
        if not self._listeners and self._poller is not None:
            self._poller.cancel()
            self._poller = None

    def behind(self, seq: int) -> Sequence[Item] | None:
        """The events behind this number that are kept, up to EVENTS_TOGETHER; None if the store must be asked."""
        if seq + 1 >= self.next:
            return ()
        if not self._kept or seq + 1 < self._kept[0].seq:
            return None
        first = seq + 1 - self._kept[0].seq
        return list(islice(self._kept, first, first + EVENTS_TOGETHER))

    def read(self, seq: int) -> list[Item]:
        """The events behind this number, from the store. Raises Unavailable and other Faults."""
        return [item_of(event) for event in self._ledger.events(seq, EVENTS_TOGETHER)]

    async def _poll(self, began: asyncio.Event) -> None:
        pause = min(POLL_SECONDS, self._service.settings.stream_poll_seconds)
        try:
            self._kept.clear()
            self._bytes, self.next = 0, (await self._service.in_thread(self._head))
            began.set()
            while not self._service.stopping:
                found = await self._service.in_thread(self._look)
                self._keep(found)
                if len(found) < EVENTS_TOGETHER:
                    await asyncio.sleep(pause)
        except Exception as error:  # whatever it is, streams must end rather than silently stand still
            self.failure = error
        finally:
            began.set()
            self._wake()

    def _head(self) -> int:
        return self._ledger.head.seq

    def _look(self) -> list[Item]:
        """What is new; the head alone is asked for where there is nothing."""
        return self.read(self.next - 1) if self._head() > self.next else []

    def _keep(self, found: Sequence[Item]) -> None:
        if not found:
            return
        self._kept.extend(found)
        self._bytes += sum(len(item.text) for item in found)
        self.next = found[-1].seq + 1
        while len(self._kept) > MAX_KEPT or self._bytes > MAX_KEPT_BYTES:
            self._bytes -= len(self._kept.popleft().text)
        self._wake()

    def _wake(self) -> None:
        for listener in self._listeners:
            listener.news.set()


_feeds: WeakKeyDictionary[Service, dict[str, Feed]] = WeakKeyDictionary()


def feed_of(service: Service, ledger: Ledger) -> Feed:
    """The feed of a ledger in this process."""
    feeds = _feeds.setdefault(service, {})
    found = feeds.get(ledger.name)
    if found is None:
        found = feeds[ledger.name] = Feed(service, ledger)
    return found
