"""Streaming: what all answers that are sent piece by piece have in common.

They outlive the moment in which the key was looked at, so it is looked at again; and a reader who no longer reads is
not waited for, nor written to without bound.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from tallystick.service.answering import token_of
from tallystick.service.calls import Call
from tallystick.service.problems import Refused

if TYPE_CHECKING:
    from tallystick.service.application import Service

STALL_SECONDS = 30.0
"""How long a reader may read nothing of what waits for him, before he is cut off."""
STANDING_SECONDS = 15.0
"""How old the last look at a stream's key may be."""


def stopping() -> Refused:
    """Why streams end when the service does."""
    return Refused(503, "stopping", "the service is stopping; what was not answered is safe to ask again")


def check_open(service: Service) -> None:
    """Raises Refused if the service is stopping: a stream would keep it from doing so."""
    if service.stopping:
        raise stopping()


async def begin(call: Call, media_type: str) -> None:
    """Send the head of the answer. The connection ends with it, so that where it breaks off can be seen."""
    headers = [
        (b"content-type", media_type.encode()),
        (b"x-request-id", call.request_id.encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-accel-buffering", b"no"),  # a proxy that gathers would keep events back
        (b"connection", b"close"),
    ]
    await call.send({"type": "http.response.start", "status": 200, "headers": headers})


async def send_within(call: Call, piece: bytes) -> None:
    """Send a piece of the answer. Raises ConnectionError if it is not taken within STALL_SECONDS."""
    message = {"type": "http.response.body", "body": piece, "more_body": True}
    try:
        await asyncio.wait_for(call.send(message), STALL_SECONDS)
    except TimeoutError:
        raise ConnectionAbortedError(f"nothing was read for {STALL_SECONDS:g} seconds") from None


class Standing:
    """Whether the key that a stream came with still stands."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._token = token_of(call.headers)
        self._looked = time.monotonic()

    async def check(self) -> None:
        """Look at the key again if the last look is old. Raises Unauthenticated, Unavailable."""
        now = time.monotonic()
        if now - self._looked < STANDING_SECONDS:
            return
        self._call.principal = await self._call.service.in_thread(self._call.service.authenticate, self._token)
        self._looked = now
