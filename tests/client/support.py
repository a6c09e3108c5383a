"""What the tests of the client share: both clients asked in the same way, and networks that fail."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2
import msgspec

from tallystick.client import AsyncClient, Client, Pages, Retry
from tallystick.wire.answers import PostedAnswer

SECONDS = 30
QUICK = Retry(first_seconds=0.001, longest_seconds=0.01, total_seconds=20.0)
"""Tries again without waiting long."""
ONCE = Retry(tries=1)

TOKEN = "tsk_abcdefghijkl_theSecretThatNobodyMaySee"
POSTED = msgspec.json.encode(PostedAnswer("main/3", "main", 3, "00", "2026-01-01T00:00:00.000000Z"))

Handler = Callable[[httpx2.Request], httpx2.Response]


class Session:
    """Asks with one client, in either manner, and answers in the same one."""

    def __init__(self, client: Any, wait: Callable[[Any], Any]) -> None:
        self._client = client
        self._wait = wait

    def ask(self, use: Callable[[Any], Any], most: int | None = None) -> Any:
        """What a call answers; of one that answers many things, a list of ``most`` of them."""
        found = use(self._client)
        if hasattr(found, "__aiter__"):
            return self._wait(_gather(found, most))
        if inspect.isawaitable(found):
            return self._wait(found)
        if not isinstance(found, Iterator | Pages):
            return found
        walk: Any = iter(found)
        with contextlib.closing(walk):
            return list(islice(walk, most))


async def _gather(found: Any, most: int | None) -> list[Any]:
    items: list[Any] = []
    walk: Any = aiter(found)
    async with contextlib.aclosing(walk):
        async for item in walk:
            items.append(item)
            if len(items) == most:
                break
    return items


class Sync:
    """Asks with the client that waits."""

    @contextlib.contextmanager
    def session(self, url: str, token: str, handler: Handler | None = None, **more: Any) -> Iterator[Session]:
        """Asks with one client; a handler answers in the place of a network."""
        transport = httpx2.MockTransport(handler) if handler is not None else None
        with Client(url, token, transport=transport, **{"retry": QUICK, **more}) as client:
            yield Session(client, lambda found: found)

    def ask(self, url: str, token: str, use: Callable[[Any], Any], handler: Handler | None = None, **more: Any) -> Any:
        """What one call answers, with a client of its own."""
        most = more.pop("most", None)
        with self.session(url, token, handler, **more) as session:
            return session.ask(use, most)


class Async(Sync):
    """Asks with the client that is awaited."""

    @contextlib.contextmanager
    def session(self, url: str, token: str, handler: Handler | None = None, **more: Any) -> Iterator[Session]:
        """Asks with one client; a handler answers in the place of a network."""
        transport = httpx2.MockTransport(handler) if handler is not None else None
        with asyncio.Runner() as runner:
            client = AsyncClient(url, token, transport=transport, **{"retry": QUICK, **more})
            try:
                yield Session(client, lambda found: runner.run(_awaited(found)))
            finally:
                runner.run(client.close())


async def _awaited(found: Any) -> Any:
    return await found


Asker = Sync


class Script:
    """Answers requests one after another with what it was given; the last one again and again."""

    def __init__(self, *answers: httpx2.Response | Exception) -> None:
        self._answers = list(answers)
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        request.read() if isinstance(request.stream, httpx2.SyncByteStream) else None
        self.requests.append(request)
        answer = self._answers[min(len(self.requests), len(self._answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content)

    @property
    def keys(self) -> list[str]:
        """The idempotency keys that came."""
        return [request.headers["idempotency-key"] for request in self.requests]


def json(status: int, body: Any, **headers: str) -> httpx2.Response:
    """An answer with a JSON body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(
        status, headers={"content-type": "application/json", **named}, content=msgspec.json.encode(body)
    )


def problem(status: int, code: str, **more: Any) -> dict[str, Any]:
    """A problem document."""
    retryable = more.pop("retryable", False)
    return {
        "type": f"urn:tallystick:problem:{code}",
        "title": "No",
        "status": status,
        "detail": f"it is {code}",
        "code": code,
        "retryable": retryable,
        "request_id": "r-1",
        **more,
    }


class CuttingProxy:
    """Passes everything on to a server, and cuts the first connections when so many bytes of an answer came back."""

    def __init__(self, base: str, *, cuts: int, after: int = 0) -> None:
        found = urlsplit(base)
        self._server = (found.hostname or "", found.port or 0)
        self._after = after
        self.left = cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._ends: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._ends:
            _cut(end)
        self._thread.join(SECONDS)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            self._ends += [client, server]
            cuts, self.left = self.left > 0, self.left - 1
            threading.Thread(target=_pass, args=(client, server, None), daemon=True).start()
            threading.Thread(target=_pass, args=(server, client, self._after if cuts else None), daemon=True).start()


def _pass(source: socket.socket, target: socket.socket, most: int | None) -> None:
    """Pass bytes on; after ``most`` of them, no more."""
    passed = 0
    with contextlib.suppress(OSError):
        while piece := source.recv(65_536):
            if most is not None and passed + len(piece) > most:
                target.sendall(piece[: most - passed])
                break
            target.sendall(piece)
            passed += len(piece)
    _cut(source)
    _cut(target)


def _cut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """A server that takes every connection, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def closed_port() -> str:
    """The URL of a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def took(do: Callable[[], Any]) -> float:
    """How many seconds something took."""
    began = time.monotonic()
    do()
    return time.monotonic() - began
