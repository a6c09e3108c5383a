"""Lines: any number of commands, sent some hundred at a time, with what became of each.

Each bears an idempotency key of its own: the one it has, or one made of the key of the whole and its number. So what
was sent when a connection broke off is sent again, and posted once. (Of such a line the answer may say ``replayed``,
since it had been posted at the first try.)

The service answers while lines are still being sent, and slows down who does not read. This client reads when it has
sent, so it sends no more at a time than the service takes in without being read: MAX_LINES, and MAX_BYTES.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import msgspec

from tallystick.client.asking import MAX_KEY, Request, check_key, command_body
from tallystick.client.refusals import BadAnswer, ClientError, ServiceError, refusal_of
from tallystick.client.trying import (
    Attempts,
    Emit,
    Lost,
    Pause,
    Reply,
    Send,
    Steps,
    Take,
    Terms,
    facts,
    may_pass,
    not_answered,
    noted,
    refused,
)
from tallystick.errors import InvalidInput
from tallystick.wire.batches import LineResult

MAX_LINES = 500
"""The most lines that are sent at a time; the service takes in a thousand without being read."""
MAX_BYTES = 524_288
"""The most bytes that are sent at a time, unless one line alone has more; the service takes in a mebibyte."""
LONGEST_NUMBER = 20
"""Room for ``#`` and a number behind the key of the whole."""

_decoder = msgspec.json.Decoder(LineResult)
_encode = msgspec.json.Encoder().encode

Line = tuple[int, bytes]
"""The number of a command, from 1, and its line."""


def post_lines(request: Request[LineResult], terms: Terms) -> Steps[None]:
    """What becomes of each command, in their order. Raises ClientErrors: what was not answered was not posted, or may
    be sent again with the same key."""
    if len(request.key) > MAX_KEY - LONGEST_NUMBER:
        raise InvalidInput(path="key", problem=f"the key of a stream has at most {MAX_KEY - LONGEST_NUMBER} characters")
    waiting: deque[Line] = deque()
    attempts = Attempts(terms)
    number = 0
    while True:
        if len(waiting) < MAX_LINES:
            for command in (yield Take(MAX_LINES - len(waiting))):
                number += 1
                waiting.append((number, _line(request.key, number, command)))
        if not waiting:
            return
        if not attempts.count:
            attempts.begin()  # however long the commands took to come
        sent = _some(waiting)
        results, error, after = yield from _send(request, terms, attempts, sent)
        for result in results:
            waiting.popleft()
            yield Emit(result)
        if results or error is None:
            attempts.begin()
        if error is not None:
            attempts.count = max(attempts.count, 1)
            seconds = attempts.pause(after) if may_pass(error) else None
            if seconds is None:
                raise error
            yield Pause(seconds)


def _line(key: str, number: int, command: Any) -> bytes:
    body = command_body(command)
    if not body.get("key"):
        body["key"] = f"{key}#{number}"
    check_key(body["key"])
    return bytes(_encode(body))


def _some(waiting: deque[Line]) -> list[Line]:
    """The first lines that wait, as many as are sent at a time."""
    some: list[Line] = []
    size = 0
    for line in waiting:
        size += len(line[1]) + 1
        if some and (size > MAX_BYTES or len(some) == MAX_LINES):
            break
        some.append(line)
    return some


def _send(
    request: Request[LineResult], terms: Terms, attempts: Attempts, lines: list[Line]
) -> Steps[tuple[list[LineResult], ClientError | None, float]]:
    """Send some lines once: what became of the first of them, why there is no more, and how long to wait."""
    attempts.count += 1
    body = b"".join(line + b"\n" for _, line in lines)
    try:
        reply: Reply = yield Send(replace(request, body=body), max(min(terms.timeout, attempts.left), 0.001))
        if reply.status != 200:
            return [], *refused(request, attempts.count, reply)
        results, error = noted(request, attempts, reply, lambda found: _results(request, found, lines))
        if error is None and len(results) < len(lines):
            raise Lost("the answers broke off")
        return results, error, 0.0
    except Lost as lost:
        return [], not_answered(request, attempts.count, lost), 0.0


def _results(request: Request[Any], reply: Reply, lines: list[Line]) -> tuple[list[LineResult], ClientError | None]:
    """The results in a reply, by the numbers of this stream, and why it ended before the last of them."""
    results: list[LineResult] = []
    try:
        found = [_decoder.decode(text) for text in reply.body.split(b"\n") if text.strip()]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = []
        broken = True
    else:
        broken = False
    if broken:
        raise BadAnswer(problem="a line of it is not what was to be expected")
    for result in found:
        if result.status == "ended":
            refusal: ServiceError | None = refusal_of(result)
            if refusal is not None:
                status = refusal.problem.status
                return results, refusal.noting(**{**facts(request, 1, reply), "status": status})
            break
        if len(results) == len(lines) or result.line != len(results) + 1:
            raise BadAnswer(problem="it answers lines that were not sent")
        results.append(msgspec.structs.replace(result, line=lines[result.line - 1][0]))
    return results, None
