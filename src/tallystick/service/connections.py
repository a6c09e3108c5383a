"""Connections: what a peer may do before it has asked anything, and after it has been answered.

The server that carries the application (uvicorn, with httptools) bounds neither how long a request's head may take to
arrive nor how large it may be, and waits for a reader for ever. Nobody needs a key for any of that. Here a connection

- has HEAD_SECONDS for the head of its first request, and of each that has begun to arrive;
- is answered 431 if a head has more than HEAD_BYTES;
- is cut off if it takes nothing of what waits for it for STALL_SECONDS; that frees the memory too;
- is answered 503 if there are ``most_connections()`` already, so that the process keeps file descriptors for its work;
- has the fields behind a chunked body (trailers, RFC 9110, 6.5.1) left out: they are no headers.

Use it as ``uvicorn.Config(..., http=GuardedProtocol)``. A request that comes in one piece costs nothing more.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
HEAD_BYTES = 32_768
STALL_SECONDS = 30.0
MAX_CONNECTIONS = 8_192
_SPARE = 4
"""One of so many file descriptors is kept for stores, logs and what the service itself asks others."""

_TOO_LARGE = b"431 Request Header Fields Too Large"
_TOO_MANY = b"503 Service Unavailable"


_AT_ONCE = 65_536
"""A piece of so many bytes does not wait for the end of the turn."""


def most_connections() -> int:
    """How many connections a process takes: MAX_CONNECTIONS, or what its limit of open files leaves."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MAX_CONNECTIONS if files < 0 else max(min(MAX_CONNECTIONS, files - files // _SPARE), 1)


class Gathered:
    """A transport that writes once in a turn of the loop: the head and the body of an answer leave together, and the
    reader is woken once. All else is the transport's."""

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write before this turn of the loop is over; what is too much to wait, at once."""
        self._pieces.append(data)
        if len(self._pieces) == 1:
            self._loop.call_soon(self._flush)
        if len(data) > _AT_ONCE:
            self._flush()

    def get_write_buffer_size(self) -> int:
        """How many bytes the reader has not taken."""
        return int(self._transport.get_write_buffer_size()) + sum(map(len, self._pieces))

    def close(self) -> None:
        """Write what waits, and close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._pieces:
            pieces, self._pieces = self._pieces, []
            self._transport.write(b"".join(pieces))


class GuardedProtocol(HttpToolsProtocol):
    """One connection, within limits."""

    head_seconds = HEAD_SECONDS
    head_bytes = HEAD_BYTES
    stall_seconds = STALL_SECONDS
    most: int = 0

    _head_open = False
    _in_trailers = False
    _size = 0
    _waits_for_head: asyncio.TimerHandle | None = None
    _waits_for_reader: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------ opened and closed

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or refuse it."""
        super().connection_made(Gathered(transport, self.loop))  # type: ignore[arg-type]
        if len(self.connections) > (self.most or most_connections()):
            self._refuse(_TOO_MANY, b"retry-after: 1\r\n")
            return
        self._begin_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over, and so is all waiting for it."""
        self._end_waiting()
        if self._waits_for_reader is not None:
            self._waits_for_reader.cancel()
            self._waits_for_reader = None
        super().connection_lost(exc)

    def _refuse(self, status: bytes, more: bytes = b"") -> None:
        """Answer in a few words, and close."""
        self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n" + more + b"\r\n")
        self.transport.close()

    # ------------------------------------------------------------ heads

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request, or of several."""
        if self.transport.is_closing():
            return
        self._size += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._head_open and self._size > self.head_bytes:
            self._refuse(_TOO_LARGE)
        elif self._head_open or self.cycle is None or self.cycle.response_complete:
            self._begin_waiting()

    def on_message_begin(self) -> None:
        """A head begins; what came before it in the same piece is counted with it, which is no more than a piece."""
        self._head_open, self._in_trailers = True, False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of a head; one of a trailer is left out."""
        if not self._in_trailers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there. Raises ValueError for one that is too large, which is answered with 400."""
        self._end_waiting()
        self._head_open, self._in_trailers = False, True
        if self._size > self.head_bytes:
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > self.head_bytes:
                raise ValueError(f"a head of {size} bytes")
        self._size = 0
        super().on_headers_complete()

    def _begin_waiting(self) -> None:
        if self._waits_for_head is None:
            self._waits_for_head = self.loop.call_later(self.head_seconds, self._too_slow)

    def _end_waiting(self) -> None:
        if self._waits_for_head is not None:
            self._waits_for_head.cancel()
            self._waits_for_head = None

    def _too_slow(self) -> None:
        self._waits_for_head = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._begin_waiting()  # the request before is still being answered
        elif not self.transport.is_closing():
            self.transport.close()

    # ------------------------------------------------------------ readers

    def pause_writing(self) -> None:
        """More waits than the reader takes."""
        super().pause_writing()
        self._watch(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """He has taken it."""
        if self._waits_for_reader is not None:
            self._waits_for_reader.cancel()
            self._waits_for_reader = None
        super().resume_writing()

    def _watch(self, waited: int) -> None:
        self._waits_for_reader = self.loop.call_later(self.stall_seconds, self._look, waited)

    def _look(self, waited: int) -> None:
        """Cut off a reader who has taken nothing since the last look."""
        waits = self.transport.get_write_buffer_size()
        if waits >= waited:
            self._waits_for_reader = None
            self.transport.abort()
        else:
            self._watch(waits)
