"""Inside: the application of the service runs in this process, for the ledgers of a file or a database.

It is the same application, asked in the same way, with no socket in between. Who asks has the token
that was configured, or one that is made for this run only: it may read and post in one ledger, lasts an hour, is made
anew while the run goes on, and is revoked when it ends. After a crash nobody has it, and it expires.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx2

import tallystick
from tallystick.access.keys import Keyring
from tallystick.agents.elsewhere import TokenOf
from tallystick.agents.requests import REQUEST_SECONDS
from tallystick.clock import Clock, add_seconds, system_clock
from tallystick.control import Scope, open_control
from tallystick.errors import LedgerNotFound
from tallystick.service.application import Service, create_application
from tallystick.service.settings import Settings
from tallystick.stores.urls import masked

RUN_KEY_SECONDS = 3_600.0
"""How long a key of a run lasts; it is renewed when half of that is over."""

_NAMELESS = "http://tallystick"


@asynccontextmanager
async def inside(
    store: str | Path, settings: Settings, *, token: str = "", subject: str = "mcp", writes: bool = True
) -> AsyncIterator[tuple[httpx2.AsyncClient, TokenOf]]:
    """The service of a file or a database; its jobs are not done here. Without a token, a key is made for this run."""
    with tallystick.open(store, create=False) as database:
        if settings.default_ledger not in database.ledgers():
            raise LedgerNotFound(path=f"{masked(str(store))} named {settings.default_ledger}")
        control = open_control(store)
        try:
            service = Service(database, control, settings)
            transport = httpx2.ASGITransport(app=cast(Any, create_application(service)))
            key = RunKey(service.keyring, subject, settings.default_ledger, writes=writes)
            async with httpx2.AsyncClient(transport=transport, base_url=_NAMELESS, timeout=REQUEST_SECONDS) as http:
                try:
                    yield http, lambda request: token or key.token()
                finally:
                    await service.stop()
                    key.end()
        finally:
            control.close()


class RunKey:
    """The key of one run. ``subject`` is also whose idempotency keys they are: the same from run to run."""

    def __init__(
        self, keyring: Keyring, subject: str, ledger: str, *, writes: bool = True, clock: Clock = system_clock
    ) -> None:
        self._keyring = keyring
        self._subject = subject
        self._scopes = tuple(Scope(verb, ledger) for verb in (("read", "post") if writes else ("read",)))
        self._clock = clock
        self._lock = threading.Lock()
        self._token = ""
        self._id = ""
        self._renew = ""

    def token(self) -> str:
        """The token; a new one if this one is half over."""
        with self._lock:
            now = self._clock()
            if now >= self._renew:
                old = self._id
                expires = add_seconds(now, RUN_KEY_SECONDS)
                self._token, key = self._keyring.create(self._subject, scopes=self._scopes, expires=expires)
                self._id, self._renew = key.id, add_seconds(now, RUN_KEY_SECONDS / 2)
                if old:
                    self._keyring.revoke(old)
            return self._token

    def end(self) -> None:
        """The run is over."""
        with self._lock:
            if self._id:
                self._keyring.revoke(self._id)
                self._token = self._id = self._renew = ""
