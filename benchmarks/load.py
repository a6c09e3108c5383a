"""Load over HTTP from a process of its own: many connections, each asking again as soon as it is answered.

Reads one JSON object from its standard input (see ``Work``), and prints one: how many answers of each status came in
how many seconds, and how long they took. It parses no more of an answer than it must, so that the server is measured.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from typing import Any

import uvloop
from msgspec import Struct
from msgspec import json as codec

RETRY_SECONDS = 0.05
"""How long a connection that was refused (503) waits, as its Retry-After asks for at least."""


class Work(Struct):
    """What to ask: ``transfer``, ``bulk`` (of ``size``), ``balance`` or ``health``, over so many connections."""

    host: str
    port: int
    token: str
    what: str
    connections: int
    seconds: float
    warm_seconds: float = 1.0
    size: int = 1_000
    accounts: int = 1_000
    run: str = ""


class Tally:
    """What came back while it counted."""

    def __init__(self) -> None:
        self.counts = False
        self.statuses: dict[int, int] = {}
        self.milliseconds: list[float] = []

    def note(self, status: int, seconds: float) -> None:
        if self.counts:
            self.statuses[status] = self.statuses.get(status, 0) + 1
            if status < 300:
                self.milliseconds.append(seconds * 1_000)


class Connection(asyncio.Protocol):
    """One connection that asks, waits for the whole answer, and asks again."""

    def __init__(self, requests: itertools.count[int], work: Work, tally: Tally) -> None:
        self._numbers = requests
        self._work = work
        self._tally = tally
        self._buffer = b""
        self._needs = 0
        self._asked = 0.0
        self.transport: Any = None
        self.closed = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        if self.closed or self.transport.is_closing():
            return
        self._buffer, self._needs = b"", 0
        self._asked = time.perf_counter()
        self.transport.write(request(self._work, next(self._numbers)))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._needs:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._buffer[:end].lower()
            at = head.index(b"content-length:") + 15
            length = int(head[at : (head.find(b"\r", at) + 1 or len(head) + 1) - 1])
            self._needs = end + 4 + length
        if len(self._buffer) < self._needs:
            return
        status = int(self._buffer[9:12])
        self._tally.note(status, time.perf_counter() - self._asked)
        if status == 503:
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self.ask)
        else:
            self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True


def request(work: Work, number: int) -> bytes:
    """One request, ready to be sent."""
    account = f"users:{number % work.accounts}"
    if work.what == "balance":
        return _head(work, "GET", f"/v1/ledgers/main/balances?account={account}")
    if work.what == "health":
        return _head(work, "GET", "/health")
    if work.what == "transfer":
        body = (
            f'{{"from_account":"{account}","to_account":"users:{(number * 7 + 1) % work.accounts}"'
            ',"asset":"USD/2","amount":"1"}'
        ).encode()
        return _head(work, "POST", "/v1/ledgers/main/transfers", body, f"{work.run}-{number}")
    commands = [
        {
            "command": "transfer",
            "from_account": f"users:{(number * 31 + index) % work.accounts}",
            "to_account": f"users:{(number * 31 + index * 7 + 1) % work.accounts}",
            "asset": "USD/2",
            "amount": "1",
        }
        for index in range(work.size)
        if (number * 31 + index) % work.accounts != (number * 31 + index * 7 + 1) % work.accounts
    ]
    body = codec.encode({"commands": commands})
    return _head(work, "POST", "/v1/ledgers/main/transactions/bulk", body, f"{work.run}-{number}")


def _head(work: Work, method: str, path: str, body: bytes = b"", key: str = "") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: {work.host}\r\nAuthorization: Bearer {work.token}\r\n"
    if body:
        head += f"Idempotency-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


async def run(work: Work) -> dict[str, Any]:
    """Ask for as long as the work says."""
    tally, numbers = Tally(), itertools.count(1)
    loop = asyncio.get_running_loop()
    connections = []
    for _ in range(work.connections):
        _, connection = await loop.create_connection(lambda: Connection(numbers, work, tally), work.host, work.port)
        connections.append(connection)
    await asyncio.sleep(work.warm_seconds)
    tally.counts, began = True, time.perf_counter()
    await asyncio.sleep(work.seconds)
    tally.counts, took = False, time.perf_counter() - began
    lost = sum(connection.closed for connection in connections)
    for connection in connections:
        connection.closed = True
        connection.transport.abort()
    times = sorted(tally.milliseconds) or [0.0]
    return {
        "seconds": took,
        "statuses": tally.statuses,
        "p50": times[len(times) // 2],
        "p99": times[int(len(times) * 0.99)],
        "lost": lost,
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(codec.decode(sys.stdin.buffer.read(), type=Work)))))
