"""A receiver of webhooks in a process of its own: refuses a share of them at random, and keeps what it accepted.

``python -m benchmarks.receiver SHARE`` prints its port; at SIGTERM it prints one JSON object: how many messages it
accepted, and of those how many were events that an account had already been told something later of.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from typing import Any

import httptools
import uvloop


class Kept:
    """What was accepted: which events, and the last one of each account."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.random = random.Random(7)
        self.asked = 0
        self.seen: set[int] = set()
        self.last: dict[str, int] = {}
        self.disordered = 0

    def accept(self, body: bytes) -> bool:
        self.asked += 1
        if self.random.random() < self.share:
            return False
        message = json.loads(body)
        seq = int(message["sequence"])
        if seq in self.seen:
            return True  # once more, as after a crash
        self.seen.add(seq)
        for account in {entry["account"] for entry in message["data"].get("entries", ())}:
            self.disordered += self.last.get(account, -1) > seq
            self.last[account] = max(seq, self.last.get(account, -1))
        return True


class Connection(asyncio.Protocol):
    """One connection of a deliverer."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._parser = httptools.HttpRequestParser(self)
        self._pieces: list[bytes] = []
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        accepted = self._kept.accept(b"".join(self._pieces))
        self._pieces.clear()
        self.transport.write(
            b"HTTP/1.1 204 No Content\r\n\r\n" if accepted else b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
        )


async def main(share: float) -> None:
    kept, over = Kept(share), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    listening = await loop.create_server(lambda: Connection(kept), "127.0.0.1", 0)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await over.wait()
    found = {"asked": kept.asked, "accepted": len(kept.seen), "disordered": kept.disordered}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    uvloop.run(main(float(sys.argv[1])))
