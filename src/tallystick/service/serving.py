"""Serving: the process around the application. It opens the stores, listens, runs the jobs, and stops gracefully."""

from __future__ import annotations

import contextlib
import errno
import gc
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import uvicorn

import tallystick
from tallystick.control import Control, open_control
from tallystick.errors import InvalidInput, LedgerLocked
from tallystick.jobs import Job, Options, Runner, StandingJob, standard_jobs
from tallystick.jobs.deliveries import deliverer_for
from tallystick.jobs.stores import store_of
from tallystick.ledger import Database
from tallystick.service.application import Service, create_application
from tallystick.service.connections import GuardedProtocol
from tallystick.service.settings import Settings
from tallystick.stores.urls import masked
from tallystick.telemetry import logs, tracing
from tallystick.telemetry.metrics import Metrics

SWITCH_SECONDS = 0.000_5
GARBAGE_THRESHOLDS = (50_000, 20, 100)
"""So many new objects, and so many rounds of the generation before, begin a search for garbage among them."""
BACKLOG = 2_048
KEEP_ALIVE_SECONDS = 75
MOST_FILES = 16_384
"""So many files a process lets itself open, where the system lets it: more connections than it takes, and the rest."""
LAST_SECONDS = 2.0
"""What jobs get to come to an end if the requests took all of the time to stop."""
LOCK_SECONDS = 2.0
"""How long another process that writes the ledger file is waited for at the start: a command, not another server."""


class _Server(uvicorn.Server):
    """A server that stops taking requests the moment it is told to stop, and then finishes those it has."""

    def __init__(self, config: uvicorn.Config, service: Service, started: Callable[[str], object]) -> None:
        super().__init__(config)
        self._service = service
        self._started = started
        self._told: float | None = None

    @property
    def seconds_left(self) -> float:
        """How much there is left of the time that a stopping service may take."""
        told = self._told if self._told is not None else time.monotonic()
        return told + self._service.settings.stop_seconds - time.monotonic()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except OSError as error:  # somebody else has begun to listen there since it was bound
            raise _cannot_listen(sockets[0].getsockname() if sockets else (), error) from None
        if self.started:
            self._started(place_of(self.servers[0].sockets[0].getsockname()))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A stop that was asked for is no failure: the signal is not raised again at the end, so the exit code is 0."""
        self._service.stopping = True
        if not self.should_exit:
            self._told = time.monotonic()
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


def serve(
    url: str | Path,
    settings: Settings,
    *,
    host: str,
    port: int,
    with_jobs: bool = True,
    log_level: str = "info",
    say: Callable[[str], object] = print,
) -> None:
    """Serve until SIGTERM or SIGINT.

    What cannot be served is known before the first request is answered. Raises InvalidInput for an address that cannot
    be listened at and for a folder of logs that cannot be read, LedgerNotFound for a place where no ledger was ever
    made, LedgerLocked if another process writes the ledger file, and what else opening the stores raises.
    """
    metrics = Metrics()
    logs.configure(log_level, on_lost=metrics.log_records_lost_total.inc)
    _check_log_home(settings)
    _open_more_files()
    with _bound(host, port) as listener, _opened(url) as (database, control):
        metrics.know(database.ledgers())
        if settings.traces:
            tracing.configure(settings.traces)
            tracing.instrument(database)
        service = Service(database, control, settings, metrics=metrics)
        config = uvicorn.Config(
            create_application(service),
            loop="uvloop",
            http=GuardedProtocol,
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=True,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(settings.stop_seconds) + 1,
        )
        _share_the_interpreter()
        server = _Server(config, service, lambda where: say(f"serving {masked(str(url))} at {where}"))
        if with_jobs:
            runner = Runner(database, control, _jobs(database, url, settings), metrics=metrics)
            with _working(runner, lambda: server.seconds_left):
                server.run([listener])
        else:
            server.run([listener])


def _share_the_interpreter() -> None:
    """The threads that post and the loop that answers take turns at the interpreter every half millisecond, not every
    five: a loop that waits so long after each of its waits answers a third less. And the many objects that stay, such
    as routes and schemas, are not gone through again and again in search of garbage: that stopped all for 60 ms."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


@contextlib.contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket at this address, which nobody can connect to yet: a service that opens its stores takes no requests."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise InvalidInput(path="host", problem=f"{host!r:.255} is no address of this machine: {error}") from None
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise _cannot_listen(address, error) from None
        yield listener


def _cannot_listen(address: tuple[object, ...], error: OSError) -> InvalidInput:
    problem = f"{place_of(address)} cannot be listened at: {(error.strerror or str(error)).lower()}"
    return InvalidInput(path="port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "host", problem=problem)


def place_of(address: tuple[object, ...]) -> str:
    """Where a socket listens, as a URL."""
    host, port = address[:2]
    return f"http://[{host}]:{port}" if ":" in str(host) else f"http://{host}:{port}"


@contextlib.contextmanager
def _opened(url: str | Path) -> Iterator[tuple[Database, Control]]:
    """The ledgers, to be written by this process, and the operator's records. A ledger file that another process writes
    is refused now, and not with the first posting."""
    with tallystick.open(url, create=str(url).startswith("memory:")) as database:
        _begin_writing(database)
        control = open_control(url)
        try:
            yield database, control
        finally:
            control.close()


def _begin_writing(database: Database) -> None:
    store = store_of(database)
    if store.shared:
        return  # any number of processes write it
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            store.append(())  # nothing, but as the one who writes
        except LedgerLocked:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _open_more_files() -> None:
    """Have the system let this process open as many files as it ever will: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _check_log_home(settings: Settings) -> None:
    """Raises InvalidInput for a folder of logs that cannot be read: no receipt would ever come of it."""
    if not settings.log_home:
        return
    try:
        for _ in Path(settings.log_home).iterdir():
            break
    except OSError as error:
        raise InvalidInput(path="log_home", problem=f"{settings.log_home} cannot be read: {error.strerror}") from None


@contextlib.contextmanager
def _working(runner: Runner, seconds_left: Callable[[], float]) -> Iterator[None]:
    """The jobs, while this lasts; at its end they have what the requests left them of the time to stop."""
    runner.start()
    try:
        yield
    finally:
        runner.stop(max(seconds_left(), LAST_SECONDS))


def _jobs(database: Database, url: str | Path, settings: Settings) -> list[Job | StandingJob]:
    """The jobs that this process does beside answering, or shares with others that do them too."""
    home = Path(settings.log_home) if settings.log_home else None
    options = Options(log_home=home, publish=settings.log_publish, url=str(url))
    return standard_jobs(database, options, deliverer_for(allow_private=settings.allow_private))
