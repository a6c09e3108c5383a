"""The application: the service's parts put together, and its operations as routes of an ASGI application."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
import structlog
from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.enums import HttpMethod
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Receive, Scope, Send

from tallystick.access.keys import Keyring
from tallystick.access.limits import RateLimits
from tallystick.access.mandates import Mandates
from tallystick.access.oidc import OidcVerifier
from tallystick.access.principal import Principal
from tallystick.access.signatures import require_signer, verify
from tallystick.accounts import check_address
from tallystick.clock import Clock, system_clock
from tallystick.commands import Command
from tallystick.control.base import Control
from tallystick.errors import Fault, InvalidInput, NotFound, Refusal, TallystickError, Unauthenticated
from tallystick.ledger import Database, Ledger
from tallystick.ledger.views import BalanceView, Posted
from tallystick.service.answering import answer, request_id_of
from tallystick.service.bodies import check_names
from tallystick.service.calls import Call
from tallystick.service.cursors import Cursors
from tallystick.service.gathering import Gatherer
from tallystick.service.operations import Operation
from tallystick.service.problems import Refused, place_of
from tallystick.service.routes import OPERATIONS
from tallystick.service.settings import Settings
from tallystick.telemetry import logs
from tallystick.telemetry.metrics import Metrics
from tallystick.telemetry.tracing import current_trace_id, is_configured
from tallystick.wire.problems import MEDIA_TYPE, Problem

Answer = TypeVar("Answer")

READING_THREADS = 8
"""Threads that read, and that do what is no gathered posting; a slow report leaves the others."""
LOGGED_WITHIN_SECONDS = 0.05
"""How long the lines about requests are gathered before they are written."""
ISSUER_THREADS = 2
"""Threads that ask the issuer of tokens for its keys: one that does not answer keeps nobody else waiting."""
POSTING_THREADS = 4
"""Threads that post, each for one ledger at a time; a thread is busy only while its round is decided and stored."""

_log = structlog.get_logger("tallystick.service")


class Service:
    """What the operations work with. It lives in one event loop; open and close it with the application's lifespan."""

    def __init__(
        self,
        database: Database,
        control: Control,
        settings: Settings | None = None,
        *,
        metrics: Metrics | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self.database = database
        self.control = control
        self.settings = settings or Settings()
        self.metrics = metrics or Metrics()
        self.clock = clock
        self.keyring = Keyring(control, clock)
        self.oidc = _oidc(self.settings)
        self.limits = RateLimits(self.settings.requests_per_second)
        self.public_limits = RateLimits(self.settings.public_requests_per_second)
        self.unknown_limits = RateLimits(self.settings.unknown_tokens_per_second)
        self.mandates = Mandates(database.ledger)
        self.cursors = Cursors(control.secret("cursors"))
        self.under_way = 0
        self.streams = 0
        self.stopping = False
        self._readers = ThreadPoolExecutor(READING_THREADS, thread_name_prefix="tallystick reading")
        self._issuers = ThreadPoolExecutor(ISSUER_THREADS, thread_name_prefix="tallystick issuer")
        self._posters = ThreadPoolExecutor(POSTING_THREADS, thread_name_prefix="tallystick posting")
        self._lines = logs.RequestLines()
        self._ledgers: dict[str, Ledger] = {}
        self._decoders: dict[str, msgspec.json.Decoder[Any]] = {}
        self._postings: dict[str, Gatherer[Command, Posted | Refusal]] = {}
        self._balances: dict[str, Gatherer[str, list[BalanceView]]] = {}

    # ------------------------------------------------------------ requests under way

    def begin(self) -> bool:
        """One more request; False if there are too many, or no more are taken."""
        if self.stopping or self.under_way >= self.settings.max_requests:
            return False
        self.under_way += 1
        return True

    def end(self) -> None:
        """A request is over."""
        self.under_way -= 1

    async def stop(self) -> None:
        """Take no more requests, and finish those under way, within the settings' time."""
        self.stopping = True
        deadline = asyncio.get_running_loop().time() + self.settings.stop_seconds
        while self.under_way and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        self._lines.write()
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._posters.shutdown(wait=False)
        self._issuers.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------ who asks

    def recognize(self, token: str) -> Principal | None:
        """Who comes with a token, if that is known without asking anyone. Raises Unauthenticated."""
        if token.startswith("tsk_"):
            return self.keyring.cached(token)
        return self.oidc.cached(token) if self.oidc is not None else None

    def authenticate(self, token: str) -> Principal:
        """Who comes with a token; it may ask the store, or the issuer. Raises Unauthenticated, Unavailable."""
        if token.startswith("tsk_"):
            return self.keyring.authenticate(token)
        if self.oidc is None:
            raise Unauthenticated(problem="the token is no key of this service, and it trusts no other issuer")
        return self.oidc.authenticate(token)

    async def identify(self, token: str) -> Principal:
        """The same, away from the event loop."""
        pool = self._readers if token.startswith("tsk_") else self._issuers
        return await asyncio.get_running_loop().run_in_executor(pool, self.authenticate, token)

    def check_signature(self, call: Call, scope: Any, body: bytes) -> dict[str, str]:
        """What a signed request adds to the metadata. Raises Unauthenticated."""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        raw = scope.get("raw_path") or scope["path"].encode()
        path = raw.decode("latin-1").partition("?")[0]
        if scope["query_string"]:
            path += "?" + scope["query_string"].decode("latin-1")
        if call.operation.kind != "act":
            raise InvalidInput(path="Signature", problem="only single postings can be signed")
        signed = verify(headers, call.operation.method, path, body=body, now=self.clock())
        require_signer(call.principal.signer, signed)
        return signed.metadata(body)

    # ------------------------------------------------------------ ledgers

    def ledger(self, name: str, principal: Principal) -> Ledger:
        """A ledger that is there and that the principal may do something in. Raises NotFound."""
        if not any(scope.ledger in ("*", name) for scope in principal.scopes):
            raise NotFound(what=f"ledger {name[:80]}")
        return self.existing(name)

    def existing(self, name: str) -> Ledger:
        """A ledger that is there. Raises NotFound."""
        found = self._ledgers.get(name)
        if found is None:
            if name not in self.database.ledgers():
                raise NotFound(what=f"ledger {name[:80]}")
            found = self._ledgers[name] = self.database.ledger(name)
        return found

    async def meet(self, name: str) -> None:
        """Open a ledger away from the event loop, so that from then on it is at hand. Raises NotFound."""
        if name not in self._ledgers:
            await self.in_thread(self.existing, name)

    async def post(self, ledger: Ledger, command: Command) -> Posted:
        """Post a command with what others ask at the same time. Raises its Refusal, Overloaded, and other Faults."""
        gatherer = self._postings.get(ledger.name)
        if gatherer is None:
            carry_out = functools.partial(self.post_all, ledger)
            gatherer = Gatherer("post", carry_out, self._posters, self.settings.max_waiting)
            self._postings[ledger.name] = gatherer
        result = await gatherer.ask(command)
        if isinstance(result, Refusal):
            raise result
        return result

    def post_all(self, ledger: Ledger, commands: Sequence[Command], *, atomic: bool = False) -> list[Posted | Refusal]:
        """Post commands in one call of the engine, and count what becomes of them."""
        began = time.perf_counter()
        try:
            results = ledger.post_many(commands, atomic=atomic)
        except TallystickError as error:
            self.metrics.failed(ledger.name, error, len(commands), time.perf_counter() - began)
            raise
        self.metrics.postings(ledger.name, results, time.perf_counter() - began)
        return results

    def post_alone(self, ledger: Ledger, principal: Principal, command: Command, dry_run: bool) -> Posted:
        """Post a command by itself: one that only tries things out, or one of a key that is held to a mandate."""
        began = time.perf_counter()
        try:
            posted = self.mandates.post(principal, ledger.name, command, dry_run=dry_run)
        except TallystickError as error:
            self.metrics.postings(ledger.name, [error], time.perf_counter() - began)
            raise
        if not dry_run:
            self.metrics.postings(ledger.name, [posted], time.perf_counter() - began)
        return posted

    async def balances(self, ledger: Ledger, account: str) -> list[BalanceView]:
        """An account's balances, read with what others ask at the same time. Raises InvalidInput for no address."""
        check_address(account)  # here, where it fails nobody else
        gatherer = self._balances.get(ledger.name)
        if gatherer is None:

            def carry_out(accounts: Sequence[str]) -> list[list[BalanceView]]:
                found = ledger.balances_of(list(dict.fromkeys(accounts)))[1]
                return [found[account] for account in accounts]

            gatherer = Gatherer("read balances", carry_out, self._readers, self.settings.max_waiting)
            self._balances[ledger.name] = gatherer
        return await gatherer.ask(account)

    @property
    def queued(self) -> dict[str, int]:
        """How many postings wait, by ledger."""
        return {name: gatherer.waiting for name, gatherer in self._postings.items()}

    # ------------------------------------------------------------ the work of a request

    async def in_thread(self, work: Callable[..., Answer], *given: Any) -> Answer:
        """Do something that may wait, away from the event loop."""
        if is_configured():  # what is done there belongs to the trace that is under way here
            given, work = (work, *given), contextvars.copy_context().run
        return await asyncio.get_running_loop().run_in_executor(self._readers, work, *given)

    def decode(self, operation: Operation, body: bytes) -> Any:
        """The body of a request, exactly as its operation knows it. Raises InvalidInput."""
        decoder = self._decoders.get(operation.id)
        if decoder is None:
            decoder = self._decoders[operation.id] = msgspec.json.Decoder(operation.body)
        try:
            decoded = decoder.decode(body)
            if not operation.is_batch:
                check_names(body)
            return decoded
        except msgspec.ValidationError as error:
            path, problem = place_of(str(error), operation.body)
            raise InvalidInput(path=path, problem=problem) from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise InvalidInput(path="body", problem=f"it is not JSON: {error}") from None

    # ------------------------------------------------------------ telling the operator

    def note_request(self, call: Call, status: int, seconds: float, problem: Problem | None) -> None:
        """Count a request, and log it."""
        self.metrics.request(call.operation.id, status, seconds)
        if problem is None and not self.settings.access_log:
            return
        is_first = self._lines.add(
            logs.Request(
                time=self.clock(),
                request_id=call.request_id,
                key=call.principal.subject,
                ledger=call.path.get("ledger", ""),
                trace_id=current_trace_id(),
                operation=call.operation.id,
                status=status,
                idempotency_key=call.key,
                code=problem.code if problem is not None else "",
                milliseconds=round(seconds * 1_000, 3),
            )
        )
        if is_first:
            asyncio.get_running_loop().call_later(LOGGED_WITHIN_SECONDS, self._lines.write)

    def log_fault(self, call: Call, error: Fault) -> None:
        """A promise could not be kept."""
        _log.error(
            "fault", request_id=call.request_id, operation=call.operation.id, code=error.code, problem=str(error)
        )

    def log_surprise(self, call: Call, error: Exception) -> None:
        """What nobody expected."""
        _log.exception("surprise", request_id=call.request_id, operation=call.operation.id, exc_info=error)


def _oidc(settings: Settings) -> OidcVerifier | None:
    if not settings.oidc_issuer:
        return None
    return OidcVerifier(settings.oidc_issuer, settings.oidc_audience)


# ---------------------------------------------------------------- routes


def create_application(service: Service, operations: Sequence[Operation] = OPERATIONS) -> Litestar:
    """The service as an ASGI application. Another service may take its place later, as ``state.service``."""

    @asynccontextmanager
    async def lifespan(application: Litestar) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await application.state.service.stop()

    return Litestar(
        # OPTIONS first: where there is none yet, one is made that knows only the first of a path's methods.
        route_handlers=[*_options(operations), *(_route(operation) for operation in operations)],
        exception_handlers={HTTPException: _on_no_route, Exception: _on_no_route},
        lifespan=[lifespan],
        state=State({"service": service}, deep_copy=False),
        openapi_config=None,
        logging_config=None,
    )


def _route(operation: Operation) -> HTTPRouteHandler:
    """The route of one operation: it hands the request on as it came, body unread."""

    async def pass_on(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(scope["litestar_app"].state.service, operation, scope, receive, send)

    async def serve() -> ASGIApp:
        return pass_on

    path = operation.path.replace("}", ":str}")
    method = HttpMethod(operation.method)
    return HTTPRouteHandler(path, http_method=[method], status_code=operation.status, name=operation.id)(serve)


def _options(operations: Sequence[Operation]) -> list[HTTPRouteHandler]:
    """OPTIONS of every path: which methods it knows."""
    methods: dict[str, list[str]] = {}
    for operation in operations:
        methods.setdefault(operation.path, []).append(operation.method)

    def route(path: str, known: list[str]) -> HTTPRouteHandler:
        async def options() -> Response[bytes]:
            return Response(b"", status_code=204, headers={"allow": ", ".join(sorted({*known, "OPTIONS"}))})

        name = f"OPTIONS {path}"
        return HTTPRouteHandler(path.replace("}", ":str}"), http_method=[HttpMethod.OPTIONS], name=name)(options)

    return [route(path, known) for path, known in methods.items()]


def _on_no_route(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """A path that is none, in the form of all other problems."""
    status = getattr(error, "status_code", 500)
    request_id = request_id_of(dict(request.scope["headers"]))
    if status >= 500:
        _log.exception("surprise", path=request.url.path, request_id=request_id, exc_info=error)
    code, detail = _NO_ROUTE.get(status, ("refused", "it cannot be asked like this"))
    body = msgspec.json.encode(Refused(status, code, detail).problem(request_id))
    headers = {
        **(getattr(error, "headers", None) or {}),
        "x-request-id": request_id,
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
    }
    return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


_NO_ROUTE = {
    404: ("not_found", "there is no such path"),
    405: ("method_not_allowed", "this path is there, but not for this method"),
    500: ("surprise", "an error that nobody expected; its operator has been told"),
}
