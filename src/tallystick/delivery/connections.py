"""Connections to webhooks: a small HTTP/1.1 client for one kind of request, to servers that nobody trusts.

It exists because general clients cost several times what a delivery may cost, resolve names where nobody can judge the
addresses, and read answers without end. What it does: POST, keep-alive, one request at a time on a connection. What it
does not: redirects, proxies of the environment, cookies, compression, authentication, reading of bodies beyond counting
their bytes.

A server's answer is its status and ``Retry-After``; nothing else of it is kept or shown, so an address inside that
should be reached in spite of everything tells nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import httptools
from msgspec import Struct

from tallystick.delivery.addresses import Target, is_public

MAX_ANSWER_BYTES = 65_536
"""Of an answer, headers included: what comes after is cut off, and the connection with it."""

MAX_IDLE = 64
"""Connections to one server that are kept while nothing is sent; others are closed."""

MAX_SERVERS = 1_024
"""Servers to which idle connections are kept."""

MAX_ADDRESSES = 4
"""Of one host, that are tried one after another."""

IDLE_SECONDS = 15.0
"""How long a connection is kept unused: shorter than what servers usually allow."""

LIFE_SECONDS = 300.0
"""How long a connection is used: a name that leads elsewhere by then is followed."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a host's name and port to its addresses."""


class Answer(Struct, frozen=True):
    """A status, and the text of ``Retry-After``. ``cut``: more came than is read."""

    status: int
    retry_after: str = ""
    cut: bool = False


class Unreachable(Exception):
    """There was no answer. The text says why, and holds nothing that the other side sent."""

    def __init__(self, reason: str, *, untouched: bool = False) -> None:
        super().__init__(reason)
        self.untouched = untouched
        """Nothing came back on a connection that had been kept: it had most likely ended before."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, by the system's resolver. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(row[4][0]) for row in found))


class Connections:
    """Connections by server, kept for the next request. For one event loop."""

    def __init__(
        self, *, allow_private: bool = False, trust: ssl.SSLContext | None = None, resolve: Resolve = resolve
    ) -> None:
        self._allow_private = allow_private
        self._trust = trust
        self._resolve = resolve
        self._idle: dict[tuple[str, int, bool], deque[_Connection]] = {}
        self._open: set[_Connection] = set()
        self._sweeping: asyncio.TimerHandle | None = None

    async def exchange(self, target: Target, request: bytes, deadline: float) -> Answer:
        """Send a request and wait for the answer until the loop's clock says ``deadline``. Raises Unreachable,
        TimeoutError, ssl.SSLError or OSError.
        """
        kept = self._kept(target)
        if kept is not None:
            try:
                return await self._ask(target, kept, request, deadline)
            except Unreachable as gone:
                if not gone.untouched:
                    raise
        async with asyncio.timeout_at(deadline):
            made = await self._connect(target)
        return await self._ask(target, made, request, deadline)

    async def close(self) -> None:
        """Close every connection."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for connection in list(self._open):
            connection.abort()
        self._open.clear()
        self._idle.clear()

    def _kept(self, target: Target) -> _Connection | None:
        idle = self._idle.get((target.host, target.port, target.encrypted))
        now = asyncio.get_running_loop().time()
        while idle:
            found = idle.pop()
            if found.is_usable and now - found.used < IDLE_SECONDS and now - found.born < LIFE_SECONDS:
                return found
            found.abort()
        return None

    async def _ask(self, target: Target, connection: _Connection, request: bytes, deadline: float) -> Answer:
        try:
            answer = await connection.ask(request, deadline)
        except BaseException:
            connection.abort()
            raise
        if connection.is_usable:
            self._keep(target, connection)
        else:
            connection.abort()
        return answer

    def _keep(self, target: Target, connection: _Connection) -> None:
        server = (target.host, target.port, target.encrypted)
        idle = self._idle.get(server)
        if idle is None:
            if len(self._idle) >= MAX_SERVERS:
                for forgotten in self._idle.pop(next(iter(self._idle))):
                    forgotten.abort()
            idle = self._idle[server] = deque()
        connection.used = asyncio.get_running_loop().time()
        idle.append(connection)
        if len(idle) > MAX_IDLE:
            idle.popleft().abort()
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Close what was not used for long."""
        loop = asyncio.get_running_loop()
        for server, idle in list(self._idle.items()):
            while idle and not (idle[0].is_usable and loop.time() - idle[0].used < IDLE_SECONDS):
                idle.popleft().abort()
            if not idle:
                del self._idle[server]
        self._sweeping = loop.call_later(IDLE_SECONDS, self._sweep) if self._idle else None

    async def _connect(self, target: Target) -> _Connection:
        loop = asyncio.get_running_loop()
        problem: OSError = OSError("the host has no address")
        for address in await self._addresses(target):
            try:
                _, connection = await loop.create_connection(
                    lambda: _Connection(self._open),
                    address,
                    target.port,
                    ssl=self._context() if target.encrypted else None,
                    server_hostname=target.host.rstrip(".") if target.encrypted else None,
                )
            except ssl.SSLError:
                raise
            except OSError as error:
                problem = error
                continue
            if not self._allow_private and not is_public(connection.peer):
                connection.abort()
                raise Unreachable("its address is a private one")
            return connection
        raise problem

    async def _addresses(self, target: Target) -> Sequence[str]:
        """The addresses to connect to, all of them judged. The loop is given these and no name, so that nothing is
        resolved a second time."""
        found = list(await self._resolve(target.host, target.port))
        if not self._allow_private and not all(is_public(address) for address in found):
            raise Unreachable("its address is a private one")
        return found[:MAX_ADDRESSES]

    def _context(self) -> ssl.SSLContext:
        if self._trust is None:
            self._trust = ssl.create_default_context()
        return self._trust


class _Connection(asyncio.Protocol):
    """One connection; it carries one request at a time."""

    def __init__(self, all_open: set[_Connection]) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._all_open = all_open
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None
        self._requests = 0
        self.born = self.used = loop.time()
        self.peer = ""
        self.is_usable = False
        self._forget()

    def _forget(self) -> None:
        """Nothing is known of the next answer."""
        self._received = 0
        self._status = 0
        self._retry_after = ""

    async def ask(self, request: bytes, deadline: float) -> Answer:
        """Send, and wait for the whole answer, or for as much of it as is read, or as there is time for."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise Unreachable("the connection was closed", untouched=self._requests > 0)
        self._forget()
        self.is_usable = False
        self._requests += 1
        self._waiting = self._loop.create_future()
        transport.write(request)
        overdue = self._loop.call_at(deadline, self._expire)
        try:
            return await self._waiting
        finally:
            overdue.cancel()
            self._waiting = None

    def abort(self) -> None:
        """Close at once."""
        self.is_usable = False
        self._all_open.discard(self)
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------ called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._all_open.add(self)
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if peer else ""

    def connection_lost(self, error: Exception | None) -> None:
        self.is_usable = False
        self._all_open.discard(self)
        if self._status:
            self._answer(Answer(self._status, self._retry_after))  # an answer may end with its connection
        untouched = self._requests > 1 and not self._received
        self._fail("the connection ended before an answer", untouched=untouched)

    def data_received(self, data: bytes) -> None:
        if self._waiting is None:  # nobody asked: what it sends would be taken for the answer to the next request
            self.abort()
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("its answer is not HTTP/1.1")
            self.abort()
            return
        if self._received > MAX_ANSWER_BYTES and self._waiting is not None and not self._waiting.done():
            self.abort()
            if self._status:
                self._answer(Answer(self._status, self._retry_after, cut=True))
            self._fail(f"the headers of its answer are longer than {MAX_ANSWER_BYTES} bytes")

    # ------------------------------------------------------------ called by the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after":
            self._retry_after = value[:64].decode("ascii", "replace")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self._status = status

    def on_message_begin(self) -> None:
        if self._waiting is None or self._waiting.done():
            self.abort()  # a second answer to one request

    def on_message_complete(self) -> None:
        if not self._status:
            return  # an interim answer (1xx): the answer is still to come
        self.is_usable = self._parser.should_keep_alive()
        self._answer(Answer(self._status, self._retry_after))

    def _expire(self) -> None:
        if self._status:  # it has said yes or no, and merely does not come to an end
            self._answer(Answer(self._status, self._retry_after, cut=True))
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(TimeoutError())
        self.abort()

    def _answer(self, answer: Answer) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)

    def _fail(self, reason: str, *, untouched: bool = False) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(Unreachable(reason, untouched=untouched))
