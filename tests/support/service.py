"""A service that really listens, in a thread of the test's process, and the keys to get in."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import uvicorn
from litestar import Litestar

import tallystick
from tallystick.clock import Clock, system_clock
from tallystick.control import Control, Mandate, Scope, open_control
from tallystick.ledger import Database, Ledger
from tallystick.service.application import Service, create_application
from tallystick.service.connections import GuardedProtocol
from tallystick.service.settings import Settings
from tests.support.processes import wait_until

START_SECONDS = 30
REQUEST_SECONDS = 30

_numbers = itertools.count(1)


class Caller:
    """Someone with a token (or none): asks over HTTP, with a new idempotency key for each write that names none."""

    def __init__(self, base: str, token: str = "") -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self.token = token
        self.http = httpx2.Client(base_url=base, headers=headers, timeout=REQUEST_SECONDS, verify=False)  # no TLS here

    def get(self, path: str, **query: Any) -> httpx2.Response:
        return self.http.get(path, params={name.rstrip("_"): value for name, value in query.items()})

    def post(self, path: str, body: Any = None, *, key: str | None = None, **headers: str) -> httpx2.Response:
        return self.send("POST", path, body, key=key, **headers)

    def send(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, **headers: str
    ) -> httpx2.Response:
        """A write; underscores in headers' names stand for hyphens."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given["idempotency-key"] = key if key is not None else f"key-{next(_numbers)}"
        return self.http.request(method, path, json=body, headers=given)

    def done(self, path: str, body: Any, *, key: str | None = None) -> Any:
        """What a write that goes through answers."""
        answer = self.post(path, body, key=key)
        assert answer.is_success, answer.text
        return answer.json()


class Served:
    """A running service: where it listens, its parts, and an admin."""

    def __init__(self, service: Service, base: str) -> None:
        self.service = service
        self.base = base
        self._callers: list[Caller] = []
        self.admin = self.caller(role="admin", subject="admin")

    @property
    def database(self) -> Database:
        return self.service.database

    @property
    def control(self) -> Control:
        return self.service.control

    @property
    def ledger(self) -> Ledger:
        """The ledger ``main``."""
        return self.service.database.ledger("main")

    def caller(
        self,
        *,
        subject: str = "",
        role: str = "",
        scopes: tuple[Scope, ...] = (),
        mandate: Mandate | None = None,
        **more: Any,
    ) -> Caller:
        """Someone with a new key."""
        name = subject or f"caller-{next(_numbers)}"
        token, _ = self.service.keyring.create(name, role=role, scopes=scopes, mandate=mandate, **more)
        return self._known(Caller(self.base, token))

    def stranger(self, token: str = "") -> Caller:
        """Someone without a key, or with a token that was made elsewhere."""
        return self._known(Caller(self.base, token))

    def _known(self, caller: Caller) -> Caller:
        self._callers.append(caller)
        return caller

    def close(self) -> None:
        for caller in self._callers:
            caller.http.close()


_applications: list[Litestar] = []
"""Those that serve nobody now: making the routes takes longer than most tests do."""


def _application(service: Service) -> Litestar:
    if not _applications:
        return create_application(service)
    found = _applications.pop()
    found.state.service = service
    return found


@contextlib.contextmanager
def serving(url: str, settings: Settings | None = None, *, clock: Clock = system_clock) -> Iterator[Served]:
    """Serve the ledgers at a URL; ``main`` is there, with funds in USD/2: users:alice 100,000, users:bob 50,000."""
    database = tallystick.open(url, clock=clock)
    control = open_control(url)
    ledger = database.ledger("main")
    if not ledger.exists:
        ledger.mint("users:alice", "USD/2", 100_000, key="alice")
        ledger.mint("users:bob", "USD/2", 50_000, key="bob")
    service = Service(database, control, settings, clock=clock)
    application = _application(service)
    config = uvicorn.Config(
        application, port=0, http=GuardedProtocol, log_config=None, access_log=False, ws="none", lifespan="on"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started or not thread.is_alive(), START_SECONDS, "the service's start")
    served = Served(service, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
    try:
        yield served
    finally:
        served.close()
        server.should_exit = True
        thread.join(START_SECONDS)
        _applications.append(application)
        control.close()
        database.close()
