"""Elsewhere: the service that the tools ask runs somewhere, at a URL. Nothing of the service is needed here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from tallystick.agents.requests import REQUEST_SECONDS
from tallystick.errors import InvalidInput

TokenOf = Callable[[Any], str]
"""The token of whoever makes a request that brings none."""


@asynccontextmanager
async def elsewhere(url: str, token: str) -> AsyncIterator[tuple[httpx2.AsyncClient, TokenOf]]:
    """A service that runs at this URL. Redirects are not followed: a token goes where it was meant to go."""
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError):
        parsed = httpx2.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo or parsed.query:
        raise InvalidInput(path="url", problem="it is not http(s)://host[:port][/path]")
    async with httpx2.AsyncClient(base_url=parsed, timeout=REQUEST_SECONDS) as http:
        yield http, lambda request: token
