"""The door of the HTTP transport: every caller brings a token of the service, and one that is not known stays outside.

Tools are asked for with the caller's own token, so the service judges each request by itself. The door is there so that
nothing else answers strangers either: not the list of tools, and no session.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import httpx2
import msgspec
from mcp.server.transport_security import TransportSecuritySettings

from tallystick.agents.requests import Desk, NoAnswer, Refused
from tallystick.wire.problems import MEDIA_TYPE, Problem

KNOWN_SECONDS = 1.0
"""How long a token that was known a moment ago is not asked about again: as long as a revoked key may last."""
MAX_KNOWN = 1_000
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def bearer_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The bearer token in these headers; empty if there is none, or more than one."""
    given = [value for name, value in headers if name.lower() == b"authorization"]
    if len(given) != 1:
        return ""
    scheme, _, token = given[0].decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def security_of(hosts: Iterable[str]) -> TransportSecuritySettings:
    """What keeps pages in a browser out (DNS rebinding): requests must name one of these hosts, with any port."""
    names = list(dict.fromkeys(hosts))
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[form for name in names for form in (name, f"{name}:*")],
        allowed_origins=[
            form for name in names for scheme in ("http", "https") for form in _origins(f"{scheme}://{name}")
        ],
    )


def _origins(origin: str) -> tuple[str, str]:
    return origin, f"{origin}:*"


class Door:
    """An ASGI application around another one."""

    def __init__(self, application: Any, http: httpx2.AsyncClient, ledger: str) -> None:
        self._application = application
        self._http = http
        self._ledger = ledger
        self._known: OrderedDict[bytes, float] = OrderedDict()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            token = bearer_of(scope["headers"])
            refusal = _NO_TOKEN if not token else await self._refusal(token)
            if refusal is not None:
                await _send(send, refusal)
                return
        await self._application(scope, receive, send)

    async def _refusal(self, token: str) -> Problem | None:
        """Why who brings this token stays outside; None if it is known, whatever it may do."""
        name = hashlib.sha256(token.encode("latin-1", "replace")).digest()
        if time.monotonic() < self._known.get(name, 0.0):
            return None
        try:
            await Desk(self._http, token, self._ledger).get("/v1/ledgers")
        except Refused as refused:
            if refused.problem.status not in (403, 429):
                return refused.problem
        except NoAnswer:
            return _NOBODY_THERE
        self._known[name] = time.monotonic() + KNOWN_SECONDS
        self._known.move_to_end(name)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return None


_NO_TOKEN = Problem(
    type="urn:tallystick:problem:unauthenticated",
    title="Who asks is not known",
    status=401,
    detail="there is no Authorization header with a bearer token of the ledger's service",
    code="unauthenticated",
    retryable=False,
)
_NOBODY_THERE = Problem(
    type="urn:tallystick:problem:unavailable",
    title="Not now",
    status=503,
    detail="the ledger's service does not answer",
    code="unavailable",
    retryable=True,
    retry_after_seconds=5,
)


async def _send(send: Any, problem: Problem) -> None:
    body = msgspec.json.encode(problem)
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if problem.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="tallystick"'))
    if problem.retry_after_seconds:
        headers.append((b"retry-after", str(problem.retry_after_seconds).encode()))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
