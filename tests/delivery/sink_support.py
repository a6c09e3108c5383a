"""Messages and endpoints as sinks meet them, and calls of a transport from a test that is no coroutine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from tallystick.control.records import Endpoint
from tallystick.delivery.transport import BatchTransport, Message, Sent


def message(seq: int, text: str = "", **more: Any) -> Message:
    """The message of an event, with so much text in it."""
    id = f"main/{seq}"
    body = json.dumps({"specversion": "1.0", "id": id, "sequence": f"{seq:020}", "data": {"text": text}})
    common: dict[str, Any] = {
        "id": id,
        "endpoint": "ep_1",
        "ledger": "main",
        "seq": seq,
        "type": "tallystick.transfer.v1",
        "time": "2026-11-21T09:00:00.000000Z",
        "body": body.encode(),
        "lanes": ("users:alice", "users:bob"),
    }
    return Message(**(common | more))


def of_size(size: int, seq: int = 0, **more: Any) -> Message:
    """A message whose body has exactly so many bytes."""
    bare = len(message(seq).body)
    found = message(seq, "x" * (size - bare), **more)
    assert len(found.body) == size
    return found


def endpoint(kind: str, url: str, id: str = "ep_1", **settings: str) -> Endpoint:
    return Endpoint(id=id, ledger="main", kind=kind, url=url, settings=settings)


def send_all(transport: BatchTransport, to: Endpoint, messages: Sequence[Message]) -> list[Sent]:
    """One call of ``send_many``."""
    return list(asyncio.run(transport.send_many(to, messages)))


def send_one(transport: BatchTransport, to: Endpoint, one: Message) -> Sent:
    """One call of ``send``."""
    return asyncio.run(transport.send(to, one))


def close(transport: BatchTransport) -> None:
    asyncio.run(transport.close())


def accepted(results: Sequence[Sent]) -> list[bool]:
    return [result.accepted for result in results]


TO_FILE = endpoint("file", "events.jsonl")
