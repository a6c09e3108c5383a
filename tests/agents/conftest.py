"""What the tests of the agents' tools share: an agent with a real client of the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from mcp import StdioServerParameters
from mcp.client.client import Client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult

from tallystick.agents.requests import Desk
from tallystick.agents.running import Run, http_application
from tallystick.agents.server import create_server
from tests.support.service import Served, serving

SECONDS = 60
MCP = "http://127.0.0.1"


class Agent:
    """Someone who calls tools."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def call(self, tool: str, **given: Any) -> CallToolResult:
        return await self.client.call_tool(tool, {name.rstrip("_"): value for name, value in given.items()})

    async def done(self, tool: str, **given: Any) -> Any:
        """What a call that goes through answers; the text says the same."""
        result = await self.call(tool, **given)
        text = result.content[0].text  # type: ignore[union-attr]
        assert not result.is_error, text
        assert json.loads(text) == result.structured_content
        return result.structured_content

    async def refused(self, tool: str, **given: Any) -> str:
        """What a call that does not go through is told."""
        result = await self.call(tool, **given)
        text: str = result.content[0].text  # type: ignore[union-attr]
        assert result.is_error, text
        assert result.structured_content is None
        return text

    async def pay(self, amount: str, key: str, **more: Any) -> Any:
        return await self.done("transfer", **payment(amount, key), **more)

    async def available(self, account: str) -> int:
        found = (await self.done("balance", account=account, asset="USD/2"))["balances"]
        return sum(int(row["amount"]) for row in found if row["bucket"] == "available")


def payment(amount: str, key: str) -> dict[str, str]:
    return {
        "from_account": "users:alice",
        "to_account": "users:bob",
        "asset": "USD/2",
        "amount": amount,
        "idempotency_key": key,
    }


def talk(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a conversation, within SECONDS. What fails in it is raised as it is, out of the groups around it."""
    try:
        asyncio.run(asyncio.wait_for(work(), SECONDS))
    except BaseExceptionGroup as group:
        found: BaseException = group
        while isinstance(found, BaseExceptionGroup) and len(found.exceptions) == 1:
            found = found.exceptions[0]
        raise found from None


@contextlib.asynccontextmanager
async def here_as(served: Served, token: str) -> AsyncIterator[Agent]:
    """An agent in this process, with a token of a service that runs."""
    async with httpx2.AsyncClient(base_url=served.base) as http:
        server = create_server(lambda request: Desk(http, token, "main"))
        async with Client(server) as client:
            yield Agent(client)


@contextlib.asynccontextmanager
async def over_stdio(file: str, folder: Path, *words: str, token: str = "", mode: Any = "auto") -> AsyncIterator[Agent]:
    """An agent whose client has started `tally mcp` as a process of its own."""
    environment = {"TALLYSTICK_TOKEN": token, "PYTHONPATH": os.pathsep.join(sys.path)}
    start = ["-c", "from tallystick.cli import main; main()", "mcp", *(["-f", file] if file else []), *words]
    parameters = StdioServerParameters(command=sys.executable, args=start, env=environment)
    with (folder / "stderr").open("a") as errors:
        async with Client(stdio_client(parameters, errlog=errors), mode=mode) as client:
            yield Agent(client)


@contextlib.asynccontextmanager
async def listening(run: Run, served: Served) -> AsyncIterator[str]:
    """The HTTP transport before a service that runs; its URL."""
    async with httpx2.AsyncClient(base_url=served.base) as http:
        config = uvicorn.Config(http_application(run, http), port=0, log_config=None, access_log=False, ws="none")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:
            assert not task.done()
            await asyncio.sleep(0.01)
        try:
            yield f"{MCP}:{server.servers[0].sockets[0].getsockname()[1]}/mcp"
        finally:
            server.should_exit = True
            await task


@contextlib.asynccontextmanager
async def over_http(url: str, token: str, mode: Any = "auto") -> AsyncIterator[Agent]:
    """An agent that calls the HTTP transport with a token."""
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=SECONDS) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield Agent(client)


@pytest.fixture
def here() -> Iterator[Served]:
    """A running service on a passing store: users:alice has 100,000 and users:bob 50,000 USD/2."""
    with serving("memory://") as found:
        yield found


@pytest.fixture
def on_file(tmp_path: Path) -> Iterator[Served]:
    """A running service on a ledger file."""
    with serving(str(tmp_path / "ledger.db")) as found:
        yield found


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A ledger file that nobody serves, with the same funds."""
    path = str(tmp_path / "ledger.db")
    with serving(path):
        pass
    return path
