"""Answering: what every request passes, in this order.

A name is given to it; who asks is found out; how often he asks is counted; what he asks is read, within limits of size
and time, and refused if it is not exactly what the operation knows; then the handler does its part; and what comes of
it, an answer or a problem, is sent, counted and logged.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Awaitable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from tallystick.access.principal import Principal
from tallystick.access.signatures import as_first_signed, require_signer
from tallystick.commands import Command
from tallystick.errors import (
    Fault,
    Forbidden,
    InvalidInput,
    NotFound,
    RateLimited,
    Refusal,
    TallystickError,
    Unauthenticated,
    Unavailable,
)
from tallystick.service.calls import Call
from tallystick.service.operations import Operation
from tallystick.service.problems import Refused, place_of, problem_of
from tallystick.telemetry.tracing import span
from tallystick.wire.answers import posted_answer
from tallystick.wire.problems import MEDIA_TYPE, Problem

if TYPE_CHECKING:
    from tallystick.service.application import Service

Answer = TypeVar("Answer")

NOBODY = Principal("", ())
"""Who asks without a key."""

MAX_QUERY = 4_096
MAX_REQUEST_ID = 100
IDENTIFIED_WITHIN_SECONDS = 5.0
"""How long it may take to find out who asks; more, and the store, or the issuer of his token, is away."""
ANSWERED_WITHIN_SECONDS = 5.0
"""How long a read may take that anyone may ask for."""

_encode = msgspec.json.Encoder().encode
_PROCESS = secrets.token_hex(4)
_numbers = itertools.count(1)

Headers = list[tuple[bytes, bytes]]


async def answer(service: Service, operation: Operation, scope: Any, receive: Any, send: Any) -> None:
    """Answer one request."""
    began = time.perf_counter()
    headers: dict[bytes, bytes] = dict(scope["headers"])
    request_id = request_id_of(headers)
    call = Call(service, operation, NOBODY, scope.get("path_params") or {}, headers, request_id)
    status, problem = 500, None
    sent = _Sent(send)
    try:
        if not service.begin():
            raise _busy(service)
        try:
            if len(headers) != len(scope["headers"]):
                _check_once(scope["headers"])
            trace = headers.get(b"traceparent", b"").decode("latin-1")
            with span(operation.id, kind="server", traceparent=trace, request_id=request_id):
                status = await _pass(call, scope, receive, sent)
        finally:
            service.end()
    except Refused as refused:
        problem = refused.problem(request_id)
        status = await _send_problem(sent, problem, [*refused.headers, *_more_headers(problem, refused.headers)])
    except TallystickError as error:
        problem = shown_to(problem_of(error, request_id, understood=call.understood), error, call)
        status = await _send_problem(sent, problem, _more_headers(problem))
        if isinstance(error, Fault) and status >= 500:
            service.log_fault(call, error)
    except ConnectionResetError:
        status = 499  # who asked has gone, and nobody is left to be told
    except (asyncio.CancelledError, ConnectionError):
        status = 499
        raise
    except Exception as error:
        service.log_surprise(call, error)
        problem = Refused(500, "surprise", "an error that nobody expected; its operator has been told").problem(
            request_id
        )
        status = await _send_problem(sent, problem, ())
    finally:
        service.note_request(call, status, time.perf_counter() - began, problem)


def _busy(service: Service) -> Refused:
    if service.stopping:
        return Refused(503, "stopping", "the service is stopping; ask again with the same key, and another will answer")
    return Refused(503, "overloaded", "too many requests are under way: try again in a moment")


_ONCE = frozenset(
    {b"authorization", b"idempotency-key", b"content-type", b"content-length", b"last-event-id", b"content-encoding"}
)


def _check_once(headers: Headers) -> None:
    """Raises InvalidInput for a header that means something here and comes twice: nobody guesses which one counts."""
    names = [name for name, _ in headers if name in _ONCE]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(path=name.decode("latin-1"), problem="the header is given twice")


async def _pass(call: Call, scope: Any, receive: Any, send: Any) -> int:
    service, operation = call.service, call.operation
    await _admit(call, scope)
    call.query = _query(call, scope["query_string"])
    if operation.verb is not None:
        await _meet_ledger(call)
    if operation.kind == "stream":
        call.receive, call.send = receive, send
        _require(call)
        if operation.writes:
            _read_key(call)
            await _check_signature(call, scope, b"")
        return int(await operation.handler(call) or operation.status)
    body = await read_body(call, receive)
    if operation.writes:
        _read_key(call)
        await _check_signature(call, scope, body)
    _require(call)
    if operation.body is not None:
        call.body = service.decode(operation, body)
    call.understood = True
    found = await _carry_out(call)
    headers: Headers = [(b"idempotency-replayed", b"true")] if call.replayed else []
    raw = found if isinstance(found, bytes) else _encode(found)
    await send_answer(send, operation.status, raw, operation.media_type.encode(), call.request_id, headers)
    return operation.status


# ---------------------------------------------------------------- who asks


async def _admit(call: Call, scope: Any) -> None:
    """Find out who asks, and count it."""
    service = call.service
    token = token_of(call.headers)
    client = str((scope.get("client") or ("unknown",))[0])
    found = await _who(call, token, client) if token else None
    if found is not None:
        call.principal = found
        wait = service.limits.take(found.source, found.requests_per_second)
    else:
        if call.operation.verb is not None:
            raise Unauthenticated(problem="there is no Authorization header with a bearer token")
        wait = service.public_limits.take(client)
    if wait:
        raise RateLimited(retry_after_seconds=round(wait, 3))


async def _who(call: Call, token: str, client: str) -> Principal | None:
    """Who comes with a token. Raises Unauthenticated; RateLimited if too many that are not known come from there;
    Unavailable if that cannot be found out, but where everyone is answered alike without a store (None then): a process
    is not to be taken for dead because its database is away."""
    service, operation = call.service, call.operation
    found = service.recognize(token)
    if found is not None:
        return found
    wait = 0.0 if service.keyring.has_met(token) else service.unknown_limits.take(client)
    if wait:
        raise RateLimited(retry_after_seconds=round(wait, 3))
    try:
        return await _within(IDENTIFIED_WITHIN_SECONDS, service.identify(token))
    except Unavailable:
        if operation.verb is None and operation.kind == "ask":
            return None
        raise


async def _within(seconds: float, work: Awaitable[Answer]) -> Answer:
    """What comes of some work, or Unavailable: a store that is away is waited for as long as it may take to come back,
    which is longer than most who ask will wait."""
    try:
        async with asyncio.timeout(seconds) as waiting:
            return await work
    except TimeoutError:
        if waiting.expired():
            raise Unavailable(reason=f"no answer within {seconds:g} s") from None
        raise


def token_of(headers: Mapping[bytes, bytes]) -> str:
    given = headers.get(b"authorization")
    if given is None:
        return ""
    scheme, _, token = given.decode("latin-1").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated(problem="the Authorization header is not `Bearer <token>`")
    return token.strip()


def _require(call: Call) -> None:
    """The operation's verb, in the ledger of the path. A ledger where the key may do nothing looks like none."""
    operation = call.operation
    if operation.verb is None or operation.kind == "act":
        return  # of an act, the command itself says what it needs
    if "ledger" in operation.parameters:
        _ = call.ledger
    if operation.any_ledger:
        if not any(scope.verb == operation.verb for scope in call.principal.scopes):
            raise Forbidden(problem=f"it has no scope {operation.verb} in any ledger")
        return
    ledger = call.ledger_name if operation.in_ledger else "*"
    if operation.whole:
        call.principal.require_whole(operation.verb, ledger)
    else:
        call.principal.require(operation.verb, ledger)


async def _meet_ledger(call: Call) -> None:
    """Have the ledger at hand before anything asks for it on the event loop. One that is none of the key's is not even
    looked for. Raises NotFound."""
    if call.operation.in_ledger and any(scope.ledger in ("*", call.ledger_name) for scope in call.principal.scopes):
        await call.service.meet(call.ledger_name)


async def _check_signature(call: Call, scope: Any, body: bytes) -> None:
    """A signed request is checked, and its signature kept with what it brings about; some keys must sign."""
    if b"signature" not in call.headers and b"signature-input" not in call.headers:
        require_signer(call.principal.signer, None)
        return
    call.evidence = await call.service.in_thread(call.service.check_signature, call, scope, body)


# ---------------------------------------------------------------- what he asks


def _query(call: Call, raw: bytes) -> Any:
    operation = call.operation
    if not raw:
        return _no_query(operation)
    if len(raw) > MAX_QUERY:
        raise InvalidInput(path="query", problem=f"it has more than {MAX_QUERY} bytes")
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:
        raise InvalidInput(path="query", problem="it is not name=value&name=value") from None
    given: dict[str, str] = {}
    for name, value in pairs:
        if name in given:
            raise InvalidInput(path=name, problem="it is given twice")
        given[name] = value
    if given.get("cursor") and "limit" not in given and (kept := call.service.cursors.read(given["cursor"]).limit):
        given["limit"] = str(kept)  # the next page is as long as the one before, unless something else is asked for
    try:
        return msgspec.convert(given, operation.query, strict=False)
    except msgspec.ValidationError as error:
        path, problem = place_of(str(error), operation.query)
        raise InvalidInput(path="query" if path == "body" else path, problem=problem) from None


def _no_query(operation: Operation) -> Any:
    """The query of a request that has none. Raises InvalidInput if something must be given."""
    try:
        return msgspec.convert({}, operation.query)
    except msgspec.ValidationError as error:
        path, problem = place_of(str(error), operation.query)
        raise InvalidInput(path="query" if path == "body" else path, problem=problem) from None


async def read_body(call: Call, receive: Any) -> bytes:
    """The body, whole. Raises Refused if there is one where there must be none, if it is too large or too slow."""
    headers, operation, settings = call.headers, call.operation, call.service.settings
    most = settings.max_batch_body if operation.is_batch else settings.max_body
    length = headers.get(b"content-length")
    if operation.body is None:
        if (length is not None and length != b"0") or b"transfer-encoding" in headers:
            raise Refused(400, "invalid_input", f"{operation.method} takes no body here", path="body")
        return b""
    if length is not None and int(length) > most:
        raise _too_large(most)
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise Refused(415, "unsupported_media_type", "the body must be application/json", path="Content-Type")
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise Refused(
            415, "unsupported_media_type", "a body is taken as it is, not compressed", path="Content-Encoding"
        )
    message = _at_hand(receive)
    if message is not None and not message.get("more_body"):
        return _piece(message, 0, most)
    try:
        async with asyncio.timeout(settings.body_seconds):
            return await _whole(message, receive, most)
    except TimeoutError:
        raise Refused(
            408,
            "request_timeout",
            f"the body took more than {settings.body_seconds:g} s to arrive",
            headers=((b"connection", b"close"),),
        ) from None


def _at_hand(receive: Any) -> Any:
    """The next message, if it came with the headers, as that of a small request does; else None, and nothing is lost.

    So the most frequent request needs no timer, which would cost more than all else that is done about its body.
    """
    waiting = receive()
    try:
        waiting.send(None)
    except StopIteration as found:
        return found.value
    waiting.close()
    return None


async def _whole(message: Any, receive: Any, most: int) -> bytes:
    """All pieces of a body, of which ``message`` may be the first."""
    pieces, size, more = [], 0, True
    while more:
        if message is None:
            message = await receive()
        pieces.append(_piece(message, size, most))
        size += len(pieces[-1])
        more, message = message.get("more_body", False), None
    return b"".join(pieces)


def _piece(message: Any, size: int, most: int) -> bytes:
    """A piece of a body behind ``size`` bytes of it. Raises ConnectionError if who asked has gone: what he sent until
    then is no request."""
    if message["type"] == "http.disconnect":
        raise ConnectionResetError("who asked has gone")
    piece: bytes = message.get("body", b"")
    if size + len(piece) > most:
        raise _too_large(most)
    return piece


def _too_large(most: int) -> Refused:
    return Refused(413, "too_large", f"a body has at most {most} bytes here", headers=((b"connection", b"close"),))


def _read_key(call: Call) -> None:
    given = call.headers.get(b"idempotency-key")
    if given is None:
        raise InvalidInput(path="Idempotency-Key", problem="every write needs this header, with a key of its own")
    key = given.decode("latin-1")
    if not 0 < len(key) <= 255 or not key.isascii() or not key.isprintable():
        raise InvalidInput(path="Idempotency-Key", problem="it is not 1 to 255 printable ASCII characters")
    call.key = key


# ---------------------------------------------------------------- carrying it out


async def _carry_out(call: Call) -> Any:
    operation = call.operation
    if operation.kind == "act":
        return await _act(call)
    if operation.kind == "ask":
        return await operation.handler(call)
    work = call.service.in_thread(operation.handler, call)
    return await (_within(ANSWERED_WITHIN_SECONDS, work) if operation.verb is None else work)


async def _act(call: Call) -> Any:
    """Post the command that the handler makes of the request, with what others ask at the same time."""
    service = call.service
    _ = call.ledger  # a ledger that is not there is none, whatever the key may do elsewhere
    made = await _made(call)
    if call.evidence:
        made = await service.in_thread(_with_evidence, call, made)
    if call.query.dry_run or call.principal.mandate is not None:
        posted = await service.in_thread(service.post_alone, call.ledger, call.principal, made, call.query.dry_run)
    else:
        posted = await service.post(call.ledger, made)
    call.replayed = posted.replayed
    if call.operation.answer_of is not None:
        return await service.in_thread(call.operation.answer_of, call, posted)
    return posted_answer(posted)


async def _made(call: Call) -> Any:
    """The command; in a thread if the ledger must be read to know whether this key may have it carried out."""
    if call.operation.looks_up and not call.reaches_all:
        return await call.service.in_thread(call.operation.handler, call)
    return call.operation.handler(call)


def _with_evidence(call: Call, made: Command) -> Command:
    """The command with what its signature adds to the metadata; one that was asked before is asked as it was then."""
    evidence = call.evidence
    found = call.ledger.by_key(made.key, made.source)
    if found is not None:
        evidence = as_first_signed(evidence, found.event)
    return msgspec.structs.replace(made, metadata={**(made.metadata or {}), **evidence})


# ---------------------------------------------------------------- sending


class _Sent:
    """Sends, and remembers whether an answer has begun: then no problem can follow it."""

    __slots__ = ("begun", "send")

    def __init__(self, send: Any) -> None:
        self.send = send
        self.begun = False

    async def __call__(self, message: Any) -> None:
        self.begun = True
        await self.send(message)


async def send_answer(send: Any, status: int, body: bytes, media_type: bytes, request_id: str, more: Headers) -> None:
    headers: Headers = [
        (b"content-type", media_type),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id.encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_problem(send: _Sent, problem: Problem, more: Any) -> int:
    if not send.begun:
        await send_answer(send, problem.status, _encode(problem), MEDIA_TYPE.encode(), problem.request_id, list(more))
    return problem.status


def _more_headers(problem: Problem, given: Iterable[tuple[bytes, bytes]] = ()) -> Headers:
    """The headers that say what a problem says, apart from those that are given."""
    headers: Headers = []
    if problem.retry_after_seconds:
        headers.append((b"retry-after", str(problem.retry_after_seconds).encode()))
    if problem.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="tallystick"'))
    names = {name for name, _ in given}
    return [header for header in headers if header[0] not in names]


def shown_to(problem: Problem, error: TallystickError, call: Call) -> Problem:
    """A refusal may be about an account that the key may not see, such as a payee at its ceiling: then what stands
    there is not told."""
    account = error.data.get("account") if isinstance(error, Refusal) else None
    if not isinstance(account, str) or isinstance(error, (NotFound,)) or call.sees(account):
        return problem
    return msgspec.structs.replace(problem, detail=problem.title, needed="", found="", data={"account": account})


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """The name that who asks gave his request, if it is a plain one; else one of ours."""
    given = headers.get(b"x-request-id")
    if given is not None and len(given) <= MAX_REQUEST_ID:
        text = given.decode("latin-1")
        if text.isascii() and text.replace("-", "").replace("_", "").replace(".", "").isalnum():
            return text
    return f"{_PROCESS}-{next(_numbers):x}"
