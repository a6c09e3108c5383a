"""The deliverer: every endpoint's events to the endpoint, by whichever process holds its lease.

One event loop in one thread carries all endpoints of a process; reading the journal and keeping records happens in a
few more threads, as both wait for disks and databases. What one endpoint's deliveries do is told in ``courier``.

Any number of processes may run deliverers on one database: each endpoint is delivered to by the one that holds the
lease ``deliver:<endpoint>``. The lease is renewed while the process lives. When it runs out, sending ends (also what is
on its way is given up), and nothing more is kept; whoever takes it over begins at what was kept last.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
from collections.abc import Awaitable, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import msgspec

from tallystick.clock import Clock, system_clock
from tallystick.control.base import Control
from tallystick.control.records import Endpoint
from tallystick.delivery.courier import Courier, Telemetry, Tenure, Work
from tallystick.delivery.ladder import STANDARD, Ladder
from tallystick.delivery.messages import ping_message
from tallystick.delivery.outbox import Outbox
from tallystick.delivery.pace import MAX_PAUSE_SECONDS
from tallystick.delivery.transport import Sent, Transport
from tallystick.delivery.webhooks import WebhookTransport
from tallystick.errors import InvalidInput, NotFound, TallystickError
from tallystick.ledger import Database

CONCURRENCY = 64
"""Messages of one endpoint that are on their way at once."""

MAX_ON_THE_WAY = 1_024
"""Messages of all endpoints together that are on their way at once: each endpoint has its share."""

MAX_ENDPOINTS = 2_000
"""Endpoints that one process delivers to at a time; more are for other processes."""

LEASE_SECONDS = 30.0
"""How long an endpoint waits for a process that has died. It is renewed three times as often."""

LOOK_SECONDS = 0.1
"""How often ledgers are asked whether there is something new."""

LEDGERS_PER_SECOND = 1_000
"""That are asked so, at most: with more, each is asked less often."""

REFRESHED_PER_SECOND = 100
"""Endpoints whose records are looked at for what others have asked for, at most."""

LIST_SECONDS = 1.0
"""How often endpoints are listed, and leases that others hold are asked for."""

LAG_SECONDS = 5.0
"""How often lags are reported."""

STOP_SECONDS = 20.0
"""How long an ending deliverer waits for what is on its way: a little longer than a try may take."""

THREADS = 8

Result = TypeVar("Result")


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How one endpoint stands. ``state``:

    delivering      this process delivers to it, or has just done so
    elsewhere       another process does
    stopped         the ledger or the control store does not do its part: ``problem`` says why
    disabled        it is switched off, by hand or because it answered 410
    """

    endpoint: str
    state: str
    problem: str = ""
    cursor: int = 0
    waiting: int = 0
    """Messages that were taken up and are not accepted."""
    accepted: int = 0
    """Tries since this process began with it, and how they ended."""
    failed: int = 0
    dead: int = 0
    lag_seconds: float = 0.0


class Deliverer:
    """Delivers. Use it as a context manager, or close it. Its methods may be called from any thread.

    ``transports`` are by kind of endpoint, and are used from one event loop only; without one for ``webhook`` there is
    the usual one. ``allow_private`` lets that one reach private addresses. ``ladder`` says when to try again.
    """

    def __init__(
        self,
        database: Database,
        control: Control,
        *,
        holder: str = "",
        clock: Clock = system_clock,
        transports: Mapping[str, Transport] | None = None,
        ladder: Ladder = STANDARD,
        allow_private: bool = False,
        concurrency: int = CONCURRENCY,
        lease_seconds: float = LEASE_SECONDS,
        look_seconds: float = LOOK_SECONDS,
        max_pause_seconds: float = MAX_PAUSE_SECONDS,
        telemetry: Telemetry | None = None,
    ) -> None:
        if not 1 <= concurrency <= MAX_ON_THE_WAY:
            raise InvalidInput(path="concurrency", problem=f"{concurrency!r} is not 1 to {MAX_ON_THE_WAY}")
        self._database = database
        self._control = control
        self._holder = holder or f"{os.uname().nodename}:{os.getpid()}:{secrets.token_hex(4)}"
        self._transports = dict(transports or {})
        self._transports.setdefault("webhook", WebhookTransport(allow_private=allow_private))
        self._lease_seconds = lease_seconds
        self._look_seconds = look_seconds
        self._telemetry = telemetry
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="tallystick delivery")
        self._work = Work(
            control,
            self._executor,
            clock,
            ladder,
            concurrency=concurrency,
            max_pause_seconds=max_pause_seconds,
            telemetry=telemetry,
        )
        self._concurrency = concurrency
        self._couriers: dict[str, Courier | None] = {}
        """By endpoint: None while a lease is asked for."""
        self._states: dict[str, Standing] = {}
        self._not_before: dict[str, float] = {}
        """When an endpoint that another process holds, or that could not be begun with, may be asked for again."""
        self._problem = ""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._calls: set[Future[Any]] = set()
        """What is being done for callers."""

    # ------------------------------------------------------------ for callers

    @property
    def problem(self) -> str:
        """Why endpoints cannot even be listed; empty if they can."""
        return self._problem

    def run_once(self, endpoint_id: str) -> Standing:
        """Deliver to one endpoint all that can be delivered now, and say how it stands; what failed and is not due yet
        waits. Raises NotFound, InvalidInput for a kind without a transport, and what the control store raises.
        """
        return self._call(self._once(endpoint_id))

    def run(self, stop: threading.Event) -> None:
        """Deliver to all endpoints until told to stop; then finish what is on its way. Never raises for a store that
        does not answer: ``problem`` and ``states`` say so, and it goes on when the store does."""
        self._call(self._run(stop))

    def ping(self, endpoint_id: str) -> Sent:
        """Send a test message once, whatever else is under way. It is no event, and is neither logged nor repeated.
        Raises NotFound, InvalidInput.
        """
        return self._call(self._ping(endpoint_id))

    def states(self) -> list[Standing]:
        """How each endpoint that is known here stands, by id."""
        found = dict(self._states)
        for id, courier in list(self._couriers.items()):
            if courier is not None:
                found[id] = _state_of(courier, found.get(id))
        return [found[id] for id in sorted(found)]

    def close(self) -> None:
        """Finish what is on its way, end ``run``, and let go of everything. Closing twice is no error."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            loop, thread, calls = self._loop, self._thread, list(self._calls)
        for call in wait(calls, STOP_SECONDS).not_done:
            call.cancel()
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(self._close_transports(), loop).result(STOP_SECONDS)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
        self._executor.shutdown()

    def __enter__(self) -> Deliverer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ------------------------------------------------------------ the loop

    def _call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Have it done by the one loop that transports belong to."""
        with self._lock:
            if self._closed:
                work.close()
                raise InvalidInput(path="deliverer", problem="it was closed")
            if self._loop is None:
                self._loop = _new_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="tallystick delivery", daemon=True)
                self._thread.start()
            call = asyncio.run_coroutine_threadsafe(work, self._loop)
            self._calls.add(call)
        try:
            return call.result()
        finally:
            self._calls.discard(call)

    async def _close_transports(self) -> None:
        await asyncio.gather(*(transport.close() for transport in self._transports.values()), return_exceptions=True)

    # ------------------------------------------------------------ one endpoint

    async def _ping(self, id: str) -> Sent:
        endpoint = await self._endpoint(id)
        message = ping_message(endpoint, secrets.token_hex(8), self._work.clock)
        return await self._transport(endpoint).send(endpoint, message)

    async def _once(self, id: str) -> Standing:
        endpoint = await self._endpoint(id)
        if endpoint.state != "enabled":
            return Standing(endpoint=id, state="disabled", problem=endpoint.reason)
        self._transport(endpoint)
        if id in self._couriers:
            return self._states.get(id) or Standing(endpoint=id, state="delivering")
        return await self._serve(endpoint, once=True)

    async def _serve(self, endpoint: Endpoint, *, once: bool = False, stop: asyncio.Event | None = None) -> Standing:
        """Hold the lease of an endpoint and deliver to it."""
        id = endpoint.id
        self._couriers[id] = None
        try:
            tenure = await self._acquire(id)
            if tenure is None:
                standing = Standing(endpoint=id, state="elsewhere")
            else:
                standing = await self._serve_with(endpoint, tenure, once, stop)
        finally:
            del self._couriers[id]
        self._states[id] = standing
        return standing

    async def _serve_with(self, endpoint: Endpoint, tenure: Tenure, once: bool, stop: asyncio.Event | None) -> Standing:
        id = endpoint.id
        outbox = await self._outbox(endpoint)
        courier = self._couriers[id] = Courier(self._work, endpoint, outbox, self._transport(endpoint), tenure)
        renewing = asyncio.create_task(self._renew(tenure, courier))
        try:
            await courier.drive(once=once, stop=stop)
            lag = await self._quietly(courier.lag_seconds()) or 0.0
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            if tenure.is_valid:
                await self._quietly(self._work.call(self._control.release, tenure.lease))
        if courier.gone:
            await self._disable(id, courier.gone)
            return msgspec.structs.replace(_state_of(courier), state="disabled", problem=courier.gone)
        if (tenure.is_lost or courier.is_lost) and not courier.problem:
            return msgspec.structs.replace(_state_of(courier), state="elsewhere")
        return msgspec.structs.replace(_state_of(courier), lag_seconds=lag)

    async def _endpoint(self, id: str) -> Endpoint:
        found = await self._work.call(self._control.endpoint, id)
        if found is None:
            raise NotFound(what=f"endpoint {id}")
        return found

    def _transport(self, endpoint: Endpoint) -> Transport:
        found = self._transports.get(endpoint.kind)
        if found is None:
            raise InvalidInput(path="kind", problem=_no_transport(endpoint.kind))
        return found

    async def _outbox(self, endpoint: Endpoint) -> Outbox:
        return Outbox(await self._work.call(self._database.ledger, endpoint.ledger), endpoint)

    async def _disable(self, id: str, reason: str) -> None:
        def write() -> None:
            found = self._control.endpoint(id)
            if found is not None:
                self._control.replace_endpoint(msgspec.structs.replace(found, state="disabled", reason=reason))

        await self._work.call(write)

    # ------------------------------------------------------------ leases

    async def _acquire(self, id: str) -> Tenure | None:
        began = time.monotonic()  # before it is asked for, so that it ends here no later than there
        lease = await self._work.call(self._control.acquire, f"deliver:{id}", self._holder, self._lease_seconds)
        return None if lease is None else Tenure(lease, began + self._lease_seconds)

    async def _renew(self, tenure: Tenure, courier: Courier) -> None:
        """Renew until told to end. A store that does not answer is asked until the lease has run out."""
        every = self._lease_seconds / 3
        while not tenure.is_lost:
            await asyncio.sleep(every)
            began = time.monotonic()
            try:
                lease = await self._work.call(
                    self._control.acquire, tenure.lease.name, self._holder, self._lease_seconds
                )
            except (TallystickError, OSError):
                every = min(every, 0.5)
                tenure.is_lost = not tenure.is_valid
            else:
                every = self._lease_seconds / 3
                if lease is None or lease.token != tenure.lease.token:
                    tenure.is_lost = True
                else:
                    tenure.until = began + self._lease_seconds
        courier.changed.set()

    # ------------------------------------------------------------ all endpoints

    async def _run(self, stop: threading.Event) -> None:
        ending = asyncio.Event()
        serving: dict[str, asyncio.Task[Standing]] = {}
        reporting = asyncio.create_task(self._report())
        listed = 0.0
        try:
            while not (stop.is_set() or self._closed):
                now = time.monotonic()
                try:
                    if now - listed >= LIST_SECONDS:
                        await self._list(serving, ending)
                        listed = now
                    asked = await self._look()
                    self._problem = ""
                except (TallystickError, OSError) as error:
                    self._problem = str(error)
                    asked = 0
                await asyncio.sleep(max(self._look_seconds, asked / LEDGERS_PER_SECOND))
        finally:
            reporting.cancel()
            await self._end(serving, ending)

    async def _list(self, serving: dict[str, asyncio.Task[Standing]], ending: asyncio.Event) -> None:
        """Begin with endpoints that are new, or free; end with those that are disabled or gone; follow changes."""
        now = time.monotonic()
        for id in [id for id, task in serving.items() if task.done()]:
            self._harvest(id, serving.pop(id))
        found = {endpoint.id: endpoint for endpoint in await self._work.call(self._enabled)}
        for id in [id for id in self._states if id not in found and id not in serving]:
            del self._states[id]
            self._not_before.pop(id, None)
        self._work.concurrency = max(1, min(self._concurrency, MAX_ON_THE_WAY // max(len(found), 1)))
        self._work.refresh_seconds = len(found) / REFRESHED_PER_SECOND
        for id, endpoint in found.items():
            courier = self._couriers.get(id)
            if endpoint.kind not in self._transports:
                self._states[id] = Standing(endpoint=id, state="stopped", problem=_no_transport(endpoint.kind))
            elif id not in self._couriers and len(serving) < MAX_ENDPOINTS and now >= self._not_before.get(id, 0.0):
                self._not_before[id] = now + self._lease_seconds / 6
                serving[id] = asyncio.create_task(self._serve(endpoint, stop=ending))
            elif courier is not None and courier.endpoint != endpoint:
                courier.follow(endpoint, await self._outbox(endpoint))
        for id in serving:
            courier = self._couriers.get(id)
            if id not in found and courier is not None:
                courier.leave()

    def _enabled(self) -> list[Endpoint]:
        found: list[Endpoint] = []
        after = ""
        while page := self._control.endpoints(after=after, limit=1_000):
            found += [endpoint for endpoint in page if endpoint.state == "enabled"]
            after = page[-1].id
            if len(page) < 1_000:
                break
        return found

    def _harvest(self, id: str, task: asyncio.Task[Standing]) -> None:
        """An endpoint's deliveries have ended. Whatever ended them by surprise is told; it is begun with again."""
        error = task.exception()
        if error is not None:
            self._states[id] = Standing(endpoint=id, state="stopped", problem=str(error) or type(error).__name__)

    async def _look(self) -> int:
        """Ask each ledger once how far it is, and tell its endpoints; how many were asked."""
        by_ledger: dict[str, list[Courier]] = {}
        for courier in self._couriers.values():
            if courier is not None:
                by_ledger.setdefault(courier.endpoint.ledger, []).append(courier)
        if not by_ledger:
            return 0
        heads = await self._work.call(self._heads, list(by_ledger))
        for name, couriers in by_ledger.items():
            for courier in couriers:
                courier.see_head(heads.get(name, 0))
        return len(by_ledger)

    def _heads(self, names: list[str]) -> dict[str, int]:
        return {name: self._database.ledger(name).head.seq for name in names}

    async def _report(self) -> None:
        """Tell how old the oldest undelivered events are."""
        while self._telemetry is not None:
            await asyncio.sleep(LAG_SECONDS)
            for id, courier in list(self._couriers.items()):
                if courier is not None:
                    lag = await self._quietly(courier.lag_seconds())
                    if lag is not None:
                        self._states[id] = msgspec.structs.replace(_state_of(courier), lag_seconds=lag)
                        self._telemetry.lag(courier.endpoint.ledger, id, lag)

    async def _end(self, serving: dict[str, asyncio.Task[Standing]], ending: asyncio.Event) -> None:
        ending.set()
        for courier in self._couriers.values():
            if courier is not None:
                courier.changed.set()
        if serving:
            _, late = await asyncio.wait(serving.values(), timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*serving.values(), return_exceptions=True)

    async def _quietly(self, work: Awaitable[Result]) -> Result | None:
        """What cannot be done now is done without."""
        try:
            return await work
        except (TallystickError, OSError):
            return None


def _state_of(courier: Courier, before: Standing | None = None) -> Standing:
    problem = courier.problem
    return Standing(
        endpoint=courier.endpoint.id,
        state="stopped" if problem else "delivering",
        problem=problem,
        cursor=courier.cursor,
        waiting=courier.waiting,
        accepted=courier.accepted,
        failed=courier.failed,
        dead=courier.died,
        lag_seconds=before.lag_seconds if before is not None else 0.0,
    )


def _no_transport(kind: str) -> str:
    return f"nothing here delivers to endpoints of the kind {kind!r}"


def _new_loop() -> asyncio.AbstractEventLoop:
    """The fastest loop that there is."""
    try:
        import uvloop  # noqa: PLC0415 - comes with the service
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
