"""The clients: ``Client`` waits, ``AsyncClient`` is awaited; what can be asked of them is the same."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import httpx2

from tallystick.client import acts, cells, operators, reads
from tallystick.client.sending import AsyncCaller, AsyncSender, Caller, Sender
from tallystick.client.terms import DEFAULT_TIMEOUT, Settings, Sign
from tallystick.client.trying import Retry


class LedgerCalls(
    acts.Movements,
    acts.Holds,
    acts.Stakes,
    acts.Supply,
    acts.Rules,
    reads.Reads,
    reads.Locks,
    reads.Events,
    reads.Evidence,
    cells.Cells,
    cells.Clearing,
    operators.Endpoints,
    operators.Reports,
):
    """Everything that can be asked of one ledger."""


class ServiceCalls(operators.Ledgers, operators.Keys, operators.Jobs, operators.Itself):
    """Everything that can be asked of a service as a whole."""


class Ledger(LedgerCalls, Caller):
    """One ledger of a service."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.names["ledger"]

    def __repr__(self) -> str:
        return f"Ledger({self.name!r})"


class AsyncLedger(LedgerCalls, AsyncCaller):
    """One ledger of a service."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.names["ledger"]

    def __repr__(self) -> str:
        return f"AsyncLedger({self.name!r})"


class Client(ServiceCalls, Caller):
    """A service, asked and waited for. It keeps connections, and may be used by many threads; close it at the end.

    ``token`` is an API key (``tsk_...``) or a token of an issuer that the service trusts; it is never shown, and goes
    nowhere but to ``url``. ``timeout`` is the seconds that one try may take, ``retry`` how often and how long it tries.
    ``sign`` makes the headers of signed requests (of method, path, body and idempotency key), for keys that must sign.
    ``transport`` replaces the network, and with it what httpx2 knows of proxies and certificates.

        with Client("https://ledger.example.com", token) as client:
            client.ledger("main").transfer("users:alice", "users:bob", "USD/2", 1250, key="order-7")
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        timeout: float = DEFAULT_TIMEOUT,
        retry: Retry | None = None,
        sign: Sign | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        settings = Settings(url, token, timeout, retry or Retry(), sign)
        super().__init__(Sender(settings, transport), {})

    def ledger(self, name: str = "main") -> Ledger:
        """A ledger of the service. Nothing is asked yet."""
        return Ledger(self._sender, {"ledger": name})

    def close(self) -> None:
        """Close all connections."""
        self._sender.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._sender.settings.url!r})"


class AsyncClient(ServiceCalls, AsyncCaller):
    """A service, asked and awaited, in one event loop of asyncio. What is said of Client holds here too.

    async with AsyncClient("https://ledger.example.com", token) as client:
        await client.ledger("main").transfer("users:alice", "users:bob", "USD/2", 1250, key="order-7")
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        timeout: float = DEFAULT_TIMEOUT,
        retry: Retry | None = None,
        sign: Sign | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        settings = Settings(url, token, timeout, retry or Retry(), sign)
        super().__init__(AsyncSender(settings, transport), {})

    def ledger(self, name: str = "main") -> AsyncLedger:
        """A ledger of the service. Nothing is asked yet."""
        return AsyncLedger(self._sender, {"ledger": name})

    async def close(self) -> None:
        """Close all connections."""
        await self._sender.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self._sender.settings.url!r})"
