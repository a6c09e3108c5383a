"""Running: the server on standard input and output, or over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx2
import uvicorn
from mcp.server.stdio import stdio_server
from msgspec import Struct

from tallystick.agents.door import LOOPBACK, Door, bearer_of, security_of
from tallystick.agents.elsewhere import TokenOf
from tallystick.agents.requests import Desk
from tallystick.agents.server import create_server
from tallystick.agents.tool import Tool
from tallystick.agents.tools import TOOLS

PATH = "/mcp"
MAX_BODY = 1_048_576
"""The largest message over HTTP."""
STOP_SECONDS = 5

Place = AbstractAsyncContextManager[tuple[httpx2.AsyncClient, TokenOf]]
"""Where the tools ask: ``elsewhere`` or ``inside``."""


class Run(Struct, frozen=True, kw_only=True):
    """How a server is run: which ledger is meant where none is named, and by which names HTTP may call it."""

    ledger: str = "main"
    read_only: bool = False
    hosts: tuple[str, ...] = LOOPBACK

    @property
    def tools(self) -> tuple[Tool, ...]:
        return tuple(tool for tool in TOOLS if not (self.read_only and tool.writes))


async def run_on_standard_input(run: Run, place: Place) -> None:
    """Serve one agent until its input ends. Nothing but the protocol is written to standard output."""
    async with place as (http, token_of):
        server = create_server(lambda request: Desk(http, token_of(request), run.ledger), run.tools)
        async with stdio_server() as (received, sent):
            await server.run(received, sent, server.create_initialization_options())


async def run_over_http(run: Run, place: Place, host: str, port: int, say: Callable[[str], object]) -> None:
    """Serve any number of agents over streamable HTTP, each with its own token, until SIGTERM or SIGINT."""
    async with place as (http, _):
        config = uvicorn.Config(
            http_application(run, http),
            host=host,
            port=port,
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        await _Server(config, say).serve()


def http_application(run: Run, http: httpx2.AsyncClient) -> Door:
    """The HTTP transport as an ASGI application. No sessions are kept: each request stands for itself, so any number
    of these may run behind one address."""
    server = create_server(lambda request: Desk(http, _token_in(request), run.ledger), run.tools)
    application = server.streamable_http_app(
        streamable_http_path=PATH,
        json_response=True,
        stateless_http=True,
        max_request_body_size=MAX_BODY,
        transport_security=security_of(run.hosts),
    )
    return Door(application, http, run.ledger)


def _token_in(request: Any) -> str:
    return bearer_of(request.headers.raw) if request is not None else ""


class _Server(uvicorn.Server):
    """Says where it listens, once it does."""

    def __init__(self, config: uvicorn.Config, say: Callable[[str], object]) -> None:
        super().__init__(config)
        self._say = say

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._say(f"serving MCP at http://{f'[{host}]' if ':' in host else host}:{port}{PATH}")
