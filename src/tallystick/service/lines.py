"""Lines: the body of a request as lines, read while those before them are being answered.

What waits is bounded. While it is full nothing more is read, so that a sender who is faster than the ledger is slowed
down by the network itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

LINES_TOGETHER = 1_000
"""The most lines that are answered together."""
MAX_BYTES_WAITING = 1_048_576
"""Bytes of lines that may wait; then no more are read."""
IDLE_SECONDS = 60.0
"""How long a sender may send nothing before the stream is ended."""

TICK_SECONDS = 0.25
"""How often whoever waits for lines asks whether the service is stopping."""

Line = tuple[int, bytes | None]
"""The number of a line, from 1, and its text; None for one that was too long to be kept."""


class Lines:
    """The lines of one body. ``read`` runs beside whoever takes them; ``ended`` says why there will be no more:
    ``whole`` (the body is at its end), ``gone`` (the sender is), ``idle`` or ``stopping`` (the service is).

    A line without an end is a line only where the body is whole: one that was torn by a lost connection is none.
    """

    def __init__(self, receive: Any, longest: int, is_stopping: Callable[[], bool]) -> None:
        self._receive = receive
        self._longest = longest
        self._is_stopping = is_stopping
        self._waiting: deque[Line] = deque()
        self._bytes = 0
        self._rest = b""
        self._too_long = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self.number = 0
        self.ended = ""

    async def read(self) -> None:
        """Read until the body ends, the sender goes, or nothing comes any more."""
        while not self.ended:
            try:
                message = await asyncio.wait_for(self._receive(), IDLE_SECONDS)
            except TimeoutError:
                self._end("idle")
                return
            if message["type"] == "http.disconnect":
                self._end("gone")
                return
            self._split(message.get("body", b""))
            if not message.get("more_body"):
                if self._rest or self._too_long:
                    self._add(self._rest)
                self._end("whole")
                return
            while len(self._waiting) >= LINES_TOGETHER or self._bytes >= MAX_BYTES_WAITING:
                self._room.clear()
                await self._room.wait()

    async def take(self) -> list[Line]:
        """The lines that wait, up to LINES_TOGETHER; none if there will be no more."""
        while not self._waiting and not self.ended:
            self._news.clear()
            if self._is_stopping():
                self._end("stopping")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), TICK_SECONDS)
        taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), LINES_TOGETHER))]
        self._bytes -= sum(len(text) for _, text in taken if text is not None)
        self._room.set()
        return taken

    def _split(self, more: bytes) -> None:
        *whole, rest = (self._rest + more).split(b"\n")
        for text in whole:
            self._add(text)
        if len(rest) > self._longest:
            self._too_long, rest = True, b""
        self._rest = rest
        if self._waiting:
            self._news.set()

    def _add(self, text: bytes) -> None:
        """One more line; an empty one is counted, and that is all."""
        self.number += 1
        too_long, self._too_long = self._too_long or len(text) > self._longest, False
        if too_long:
            self._waiting.append((self.number, None))
        elif text.strip():
            self._waiting.append((self.number, text))
            self._bytes += len(text)

    def _end(self, why: str) -> None:
        self.ended = why
        self._news.set()
