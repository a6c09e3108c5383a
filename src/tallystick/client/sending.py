"""Sending: the two ways of taking the steps of a request, one that waits and one that is awaited.

All that a client knows of the service is elsewhere; here is only input and output, once in each manner.

Redirects are not followed: the token is for the service, and for nobody whom it, or someone on the way, names. Of what
the network reports only what went wrong is kept, never the request itself, whose headers bear the token.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Generic, TypeVar

import httpx2

from tallystick.client.asking import How, Request
from tallystick.client.terms import Settings
from tallystick.client.trying import (
    MAX_ANSWER_BYTES,
    Emit,
    Lost,
    Open,
    Pause,
    Read,
    Reply,
    Send,
    Step,
    Steps,
    Take,
    Terms,
    emitted,
    exchange,
    pages,
)
from tallystick.wire.answers import Page

Answer = TypeVar("Answer")
Item = TypeVar("Item")


# ---------------------------------------------------------------- what both have in common


def _failure(error: Exception) -> str:
    """What went wrong, in words that repeat nothing of the request."""
    match error:
        case httpx2.PoolTimeout():
            return "no connection was free in time"
        case httpx2.ConnectTimeout():
            return "the connection was not made in time"
        case httpx2.TimeoutException() | TimeoutError():
            return "it did not come in time"
        case httpx2.ConnectError():
            return f"no connection could be made ({error})"
        case httpx2.NetworkError() | httpx2.RemoteProtocolError():
            return "the connection was lost"
    return type(error).__name__


_FAILURES = (httpx2.HTTPError, httpx2.StreamError, OSError, TimeoutError)


def _head(response: httpx2.Response) -> Reply:
    """The head of an answer. Raises Lost for one that is packed: what it unpacks to would have no bound."""
    packed = response.headers.get("content-encoding", "identity")
    if packed != "identity":
        raise Lost("the answer is packed, though none was asked for")
    return Reply(response.status_code, {name.lower(): value for name, value in response.headers.items()})


class _Body:
    """A body as it comes, within bounds of size and time."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        """Raises Lost beyond the bounds."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > MAX_ANSWER_BYTES:
            raise Lost(f"the answer has more than {MAX_ANSWER_BYTES} bytes")
        if time.monotonic() > self._until:
            raise Lost("it did not come in time")

    @property
    def whole(self) -> bytes:
        return b"".join(self._pieces)


def _headers(request: Request[Any], settings: Settings, more: Mapping[str, str] | None) -> dict[str, str]:
    headers = {"accept": request.accept, **(more or {})}
    if request.body is not None:
        headers["content-type"] = request.media_type
    if request.key:
        headers["idempotency-key"] = request.key
        if settings.sign is not None:
            signed = settings.sign(request.method, request.target, request.body or b"", request.key)
            headers.update({name.lower(): value for name, value in signed.items()})
    return headers


class _Sender:
    """What the senders of both manners know: where, and on which terms."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.terms = Terms(settings.retry, settings.timeout)

    def asked(self, http: httpx2.Client | httpx2.AsyncClient, step: Send | Open) -> httpx2.Request:
        request, patience = step.request, min(step.seconds, self.settings.timeout)
        return http.build_request(
            request.method,
            self.settings.url + request.target,
            content=request.body,
            headers=_headers(request, self.settings, step.headers),
            timeout=httpx2.Timeout(step.seconds, connect=patience, pool=patience),
        )


# ---------------------------------------------------------------- the one that waits


class Sender(_Sender):
    """Takes steps, and waits for what comes of them."""

    def __init__(self, settings: Settings, transport: httpx2.BaseTransport | None) -> None:
        super().__init__(settings)
        self.http = httpx2.Client(**settings.options(), transport=transport)

    def drive(self, steps: Steps[Any], source: Iterator[Any]) -> Iterator[Any]:
        """Take steps to their end, and yield what is emitted."""
        performer = _Performer(self, source)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Emit):
                    yield step.item
                    step = steps.send(None)
                    continue
                try:
                    outcome = performer.perform(step)
                except Lost as lost:
                    step = steps.throw(lost)
                else:
                    step = steps.send(outcome)
        except StopIteration:
            return
        finally:
            steps.close()
            performer.shut()


class _Performer:
    """Performs the steps of one request, or of one stream."""

    def __init__(self, sender: Sender, source: Iterator[Any]) -> None:
        self._sender = sender
        self._source = source
        self._opened: httpx2.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def perform(self, step: Step) -> Any:
        """What comes of a step. Raises Lost, without the error of the network: that knows the token."""
        match step:
            case Pause():
                return time.sleep(step.seconds)
            case Take():
                return list(itertools.islice(self._source, step.most))
        try:
            return self._exchange(step)
        except _FAILURES as error:
            failure = _failure(error)
        raise Lost(failure)

    def _exchange(self, step: Step) -> Any:
        match step:
            case Send():
                return self._send(step)
            case Open():
                self._opened = self._sender.http.send(self._sender.asked(self._sender.http, step), stream=True)
                self._chunks = self._opened.iter_bytes()
                return _head(self._opened)
            case Read():
                return next((chunk for chunk in self._chunks if chunk), b"")
        return self.shut()

    def _send(self, step: Send) -> Reply:
        http = self._sender.http
        response = http.send(self._sender.asked(http, step), stream=True)
        try:
            head, body = _head(response), _Body(step.seconds)
            for piece in response.iter_bytes():
                body.add(piece)
            return Reply(head.status, head.headers, body.whole)
        finally:
            response.close()

    def shut(self) -> None:
        """Close what was opened."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


class Caller:
    """Whoever calls and waits: a client, or a ledger of it. ``names`` are what it stands for in paths."""

    def __init__(self, sender: Sender, names: Mapping[str, str]) -> None:
        self._sender = sender
        self.names = names

    def answer(self, request: Request[Answer]) -> Answer:
        """The answer to a request. Raises ClientErrors."""
        answer: Answer
        (answer,) = self._sender.drive(emitted(exchange(request, self._sender.terms)), iter(()))
        return answer

    def pages(self, request: Request[Page[Item]]) -> Pages[Item]:
        """The list that a request asks for."""
        return Pages(self._sender, request)

    def flow(self, how: How, request: Request[Any]) -> Iterator[Any]:
        """What a request answers, one by one."""
        return self._sender.drive(how(request, self._sender.terms), iter(request.source or ()))


class Pages(Generic[Item]):
    """A list of the service's: its items, asked for page by page as they are wanted. It can be walked again."""

    def __init__(self, sender: Sender, request: Request[Page[Item]]) -> None:
        self._sender = sender
        self._request = request

    def __iter__(self) -> Iterator[Item]:
        for page in self.pages():
            yield from page.items

    def pages(self) -> Iterator[Page[Item]]:
        """The pages as they are; the cursor of one, given to the same call, goes on behind it."""
        return self._sender.drive(pages(self._request, self._sender.terms), iter(()))

    def first(self) -> Page[Item]:
        """The first page alone."""
        page: Page[Item]
        (page,) = self._sender.drive(emitted(exchange(self._request, self._sender.terms)), iter(()))
        return page


# ---------------------------------------------------------------- the one that is awaited


class AsyncSender(_Sender):
    """Takes steps, and awaits what comes of them."""

    def __init__(self, settings: Settings, transport: httpx2.AsyncBaseTransport | None) -> None:
        super().__init__(settings)
        self.http = httpx2.AsyncClient(**settings.options(), transport=transport)

    async def drive(self, steps: Steps[Any], source: Any) -> AsyncIterator[Any]:
        """Take steps to their end, and yield what is emitted."""
        performer = _AsyncPerformer(self, source)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Emit):
                    yield step.item
                    step = steps.send(None)
                    continue
                try:
                    outcome = await performer.perform(step)
                except Lost as lost:
                    step = steps.throw(lost)
                else:
                    step = steps.send(outcome)
        except StopIteration:
            return
        finally:
            steps.close()
            await performer.shut()


class _AsyncPerformer:
    """Performs the steps of one request, or of one stream."""

    def __init__(self, sender: AsyncSender, source: Any) -> None:
        self._sender = sender
        self._source = source
        self._opened: httpx2.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def perform(self, step: Step) -> Any:
        """What comes of a step. Raises Lost, without the error of the network: that knows the token."""
        match step:
            case Pause():
                return await asyncio.sleep(step.seconds)
            case Take():
                return await self._take(step.most)
        try:
            return await self._exchange(step)
        except _FAILURES as error:
            failure = _failure(error)
        raise Lost(failure)

    async def _exchange(self, step: Step) -> Any:
        match step:
            case Send():
                async with asyncio.timeout(step.seconds):
                    return await self._send(step)
            case Open():
                http = self._sender.http
                self._opened = await http.send(self._sender.asked(http, step), stream=True)
                self._chunks = aiter(self._opened.aiter_bytes())
                return _head(self._opened)
            case Read() if self._chunks is not None:
                async for chunk in self._chunks:
                    if chunk:
                        return chunk
                return b""
        return await self.shut()

    async def _send(self, step: Send) -> Reply:
        http = self._sender.http
        response = await http.send(self._sender.asked(http, step), stream=True)
        try:
            head, body = _head(response), _Body(step.seconds)
            async for piece in response.aiter_bytes():
                body.add(piece)
            return Reply(head.status, head.headers, body.whole)
        finally:
            await response.aclose()

    async def _take(self, most: int) -> list[Any]:
        if isinstance(self._source, Iterator):
            return list(itertools.islice(self._source, most))
        taken: list[Any] = []
        async for command in self._source:
            taken.append(command)
            if len(taken) == most:
                break
        return taken

    async def shut(self) -> None:
        """Close what was opened."""
        if self._opened is not None:
            opened, self._opened = self._opened, None
            await opened.aclose()


class AsyncCaller:
    """Whoever calls and awaits: a client, or a ledger of it. ``names`` are what it stands for in paths."""

    def __init__(self, sender: AsyncSender, names: Mapping[str, str]) -> None:
        self._sender = sender
        self.names = names

    async def answer(self, request: Request[Answer]) -> Answer:
        """The answer to a request. Raises ClientErrors."""
        found = [item async for item in self._sender.drive(emitted(exchange(request, self._sender.terms)), iter(()))]
        answer: Answer = found[0]
        return answer

    def pages(self, request: Request[Page[Item]]) -> AsyncPages[Item]:
        """The list that a request asks for."""
        return AsyncPages(self._sender, request)

    def flow(self, how: How, request: Request[Any]) -> AsyncIterator[Any]:
        """What a request answers, one by one."""
        source = request.source if request.source is not None else ()
        given = aiter(source) if hasattr(source, "__aiter__") else iter(source)
        return self._sender.drive(how(request, self._sender.terms), given)


class AsyncPages(Generic[Item]):
    """A list of the service's: its items, asked for page by page as they are wanted. It can be walked again."""

    def __init__(self, sender: AsyncSender, request: Request[Page[Item]]) -> None:
        self._sender = sender
        self._request = request

    async def __aiter__(self) -> AsyncIterator[Item]:
        async for page in self.pages():
            for item in page.items:
                yield item

    def pages(self) -> AsyncIterator[Page[Item]]:
        """The pages as they are; the cursor of one, given to the same call, goes on behind it."""
        return self._sender.drive(pages(self._request, self._sender.terms), iter(()))

    async def first(self) -> Page[Item]:
        """The first page alone."""
        request: Request[Page[Item]] = self._request
        found = [page async for page in self._sender.drive(emitted(exchange(request, self._sender.terms)), iter(()))]
        page: Page[Item] = found[0]
        return page
