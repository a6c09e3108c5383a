"""Many commands at once: a batch in one request, and a stream of lines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from tallystick.commands import Command
from tallystick.errors import EventTooLarge, Fault, InvalidInput, Refusal, TallystickError
from tallystick.service.answering import read_body, send_answer
from tallystick.service.batches import (
    Outcome,
    check_prefix,
    post_batch,
    post_each,
    problem_in_batch,
    refuse_signed,
    result_of,
    room_of,
)
from tallystick.service.calls import Call
from tallystick.service.lines import IDLE_SECONDS, LINES_TOGETHER, Line, Lines
from tallystick.service.operations import Group
from tallystick.service.permissions import check_command
from tallystick.service.problems import Refused, place_of, problem_of
from tallystick.service.streaming import Standing, begin, check_open, send_within, stopping
from tallystick.wire.answers import BatchAnswer
from tallystick.wire.batches import BatchRequest, LineResult
from tallystick.wire.forms import AnyRequest, command_of
from tallystick.wire.problems import Problem

BULK = Group("Batches")

_HERE = "/v1/ledgers/{ledger}/transactions"
_PAY = {"command": "transfer", "from_account": "users:alice", "to_account": "users:bob", "asset": "USD/2"}
NDJSON = "application/x-ndjson"

_encode = msgspec.json.Encoder()
_line_decoder = msgspec.json.Decoder(AnyRequest)


# ---------------------------------------------------------------- a batch in one request


@BULK.stream(
    f"{_HERE}/bulk",
    method="POST",
    verb="post",
    body=BatchRequest,
    answer=BatchAnswer,
    is_batch=True,
    example={"commands": [{**_PAY, "amount": "10"}, {**_PAY, "amount": "20", "refs": {"order": "order-8"}}]},
)
async def post_bulk(call: Call) -> int:
    """Post up to 10,000 commands of any kind, each for itself or all of them or none.

    A command may bear its own idempotency ``key``; one that does not has the request's, with ``#`` and its index. Each
    for itself, the answer has one result for each command, in their order: posted, or refused with its problem.
    ``atomic``: if one is refused nothing is posted, and the problem ``batch_aborted`` says which and why. A command
    that the key does not allow refuses the whole batch before anything is posted. ``Idempotency-Replayed: true`` says
    that every one of them had been posted before.
    """
    refuse_signed(call)
    room = room_of(call.service)
    with room.batches.one():
        body = await read_body(call, call.receive)
        async with room.turns:
            answer, replayed = await call.service.in_thread(_work, call, body)
    more = [(b"idempotency-replayed", b"true")] if replayed else []
    await send_answer(call.send, 200, answer, b"application/json", call.request_id, more)
    return 200


def _work(call: Call, body: bytes) -> tuple[bytes, bool]:
    """The answer to a batch, and whether it was given before."""
    request: BatchRequest = call.service.decode(call.operation, body)
    call.understood = True
    results = [result_of(call, found) for found in post_batch(call, request.commands, atomic=request.atomic)]
    return _encode.encode(BatchAnswer(results)), all(result.replayed for result in results)


# ---------------------------------------------------------------- a stream of lines


@BULK.stream(
    f"{_HERE}/stream",
    method="POST",
    verb="post",
    body=AnyRequest,
    request_type=NDJSON,
    answer=LineResult,
    media_type=NDJSON,
    is_batch=True,
    example={**_PAY, "amount": "10"},
)
async def post_stream(call: Call) -> int:
    """Post commands line by line, and read line by line what becomes of them, while more are being sent.

    ``application/x-ndjson``: each line of the request is one command of any kind, each line of the answer says what
    became of one, in their order, once it is durable. A line without a ``key`` of its own has the request's idempotency
    key, with ``#`` and its number; the first line is 1. Each line is for itself: one that is malformed, too long or
    refused gets its problem, and the others go on. A line of status ``ended`` says from which line on nothing was
    answered, and why; send those again with the same keys. Read while you send: who does not is slowed down.
    """
    refuse_signed(call)
    check_prefix(call.key)
    if call.headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != NDJSON.encode():
        raise Refused(415, "unsupported_media_type", f"the body must be {NDJSON}", path="Content-Type")
    with room_of(call.service).streams.one():
        service = call.service
        longest = service.settings.max_batch_body // LINES_TOGETHER
        lines = Lines(call.receive, longest, lambda: service.stopping)
        await begin(call, NDJSON)
        reader = asyncio.create_task(lines.read())
        try:
            await _answer_lines(call, lines)
        finally:
            reader.cancel()
    return 200


async def _answer_lines(call: Call, lines: Lines) -> None:
    """Answer the lines as they come, group by group. Raises ConnectionError for a client that stopped reading."""
    standing, service = Standing(call), call.service
    while taken := await lines.take():
        first = taken[0][0]
        try:
            check_open(service)
            await standing.check()
            async with room_of(service).turns:
                answer = await service.in_thread(_work_lines, call, taken)
        except Refused as refused:
            await _end(call, first, refused.problem(call.request_id))
            return
        except TallystickError as error:
            if isinstance(error, Fault):
                service.log_fault(call, error)
            await _end(call, first, problem_of(error, call.request_id))
            return
        await send_within(call, answer)
    if lines.ended == "stopping":
        await _end(call, lines.number + 1, stopping().problem(call.request_id))
    elif lines.ended == "idle":
        idle = Refused(408, "request_timeout", f"nothing came for {IDLE_SECONDS:g} seconds")
        await _end(call, lines.number + 1, idle.problem(call.request_id))
    else:
        await call.send({"type": "http.response.body", "body": b""})


async def _end(call: Call, line: int, problem: Problem) -> None:
    """Say from which line on nothing was answered, and why; and end."""
    last = LineResult(line, "ended", problem=msgspec.to_builtins(problem))
    await send_within(call, _encode.encode_lines([last]))
    await call.send({"type": "http.response.body", "body": b""})


def _work_lines(call: Call, lines: Sequence[Line]) -> bytes:
    """What becomes of some lines. Raises Faults: then nobody knows, and asking again with the same keys tells."""
    results: dict[int, LineResult] = {}
    commands, numbers = [], []
    for number, text in lines:
        understood = False
        try:
            request = _request_in(call, text)
            understood = True
            commands.append(_command_of(call, number, request))
            numbers.append(number)
        except Refusal as refusal:
            results[number] = _line_result(call, number, refusal, understood=understood)
    if commands:
        for number, outcome in zip(numbers, post_each(call, commands), strict=True):
            results[number] = _line_result(call, number, outcome)
    return _encode.encode_lines([results[number] for number, _ in lines])


def _request_in(call: Call, text: bytes | None) -> Any:
    """What a line says. Raises InvalidInput, EventTooLarge."""
    if text is None:
        limit = call.service.settings.max_batch_body // LINES_TOGETHER
        raise EventTooLarge(size=f"more than {limit}", limit=limit, path="line")
    try:
        return _line_decoder.decode(text)
    except msgspec.ValidationError as error:
        path, problem = place_of(str(error), AnyRequest)
        raise InvalidInput(path="line" if path == "body" else path, problem=problem) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput(path="line", problem=f"it is not JSON: {error}") from None


def _command_of(call: Call, number: int, request: Any) -> Command:
    """The command that a line asks for. Raises AmountOutOfRange, Forbidden, NotFound."""
    principal = call.principal
    key = request.key or f"{call.key}#{number}"
    command = command_of(request, key=key, source=principal.source, actor=principal.actor)
    check_command(principal, call.ledger, command)
    return command


def _line_result(call: Call, number: int, outcome: Outcome, *, understood: bool = True) -> LineResult:
    if isinstance(outcome, Refusal):
        return LineResult(number, "refused", problem=problem_in_batch(call, outcome, understood=understood))
    return LineResult(number, "posted", outcome.id, outcome.seq, outcome.hash, outcome.time, outcome.replayed)
