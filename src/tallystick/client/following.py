"""Following: a stream of events that goes on where it broke off, by the rules of server-sent events.

The format is that of the HTML standard (9.2, server-sent events), as the service sends it: lines end with a line feed,
a carriage return, or both; ``id`` is the number of the event. When the stream ends, for whatever reason, it is opened
again with ``Last-Event-ID``, so that no event is missed and none comes twice. One that was open once is tried for
``total_seconds``, however many tries that are: a service may take a while to come back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from tallystick.client.asking import Request
from tallystick.client.refusals import BadAnswer, ClientError, ServiceError, problem_in
from tallystick.client.trying import (
    Attempts,
    Emit,
    Lost,
    Open,
    Pause,
    Read,
    Reply,
    Shut,
    Steps,
    Terms,
    decoder,
    exchange,
    facts,
    may_pass,
    not_answered,
    refused,
)
from tallystick.wire.answers import LedgerAnswer, TransactionAnswer

SILENT_SECONDS = 45.0
"""How long a stream may be silent before it is taken for lost: the service says every 15 seconds that it is there."""
MAX_EVENT_BYTES = 4_194_304
"""The most bytes of one event in a stream. In the journal it has 65,536 at most, and its JSON not many times that."""
MAX_REFUSAL_BYTES = 65_536
LONGEST_RETRY_SECONDS = 600.0
"""The longest wait that a stream may ask for before it is opened again."""

END = "stream.end"
"""The event with which the service ends a stream; its data is the problem."""

_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")  # a carriage return at the very end may still get its line feed


@dataclass(frozen=True)
class ServerEvent:
    """One event of a stream."""

    type: str
    data: bytes
    id: str


class EventLines:
    """Makes events of bytes as they come. Raises BadAnswer for one that is larger than MAX_EVENT_BYTES."""

    def __init__(self) -> None:
        self._rest = b""
        self._type, self._id = b"message", ""
        self._data: list[bytes] = []
        self._size = 0
        self.retry_seconds: float | None = None

    def feed(self, more: bytes) -> Iterator[ServerEvent]:
        """The events that are whole now."""
        *lines, self._rest = _LINE_END.split(self._rest + more)
        for line in lines:
            if not line:
                yield from self._whole()
                continue
            self._size += len(line)
            self._check(self._size)
            self._read(line)
        self._check(self._size + len(self._rest))

    def _check(self, size: int) -> None:
        if size > MAX_EVENT_BYTES:
            raise BadAnswer(problem=f"an event has more than {MAX_EVENT_BYTES} bytes")

    def _read(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._type = value
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")
        elif name == b"retry" and value.isdigit():
            self.retry_seconds = min(int(value[:9]) / 1000, LONGEST_RETRY_SECONDS)

    def _whole(self) -> Iterator[ServerEvent]:
        if self._data:
            yield ServerEvent((self._type or b"message").decode(errors="replace"), b"\n".join(self._data), self._id)
        self._type, self._data, self._size = b"message", [], 0


# ---------------------------------------------------------------- steps


def follow(request: Request[TransactionAnswer], terms: Terms) -> Steps[None]:
    """Events for ever. Raises ClientErrors if the service refuses them, or does not come back."""
    if "after" not in request.query:
        # "from now on" is found out first: were it left to the stream, what happens while it is reopened would be lost
        head = yield from exchange(_head(request), terms)
        request = request.asking(after=str(head.events - 1))
    stream = _Stream(request, terms)
    while True:
        yield from stream.once()
        yield Pause(stream.pause())


def _head(request: Request[Any]) -> Request[LedgerAnswer]:
    """What asks where the ledger of a stream stands."""
    ledger = request.path.removesuffix("/events/stream")
    return Request(method="GET", path=ledger, query={}, body=None, key="", answer=LedgerAnswer)


class _Stream:
    """One stream, through all its connections."""

    def __init__(self, request: Request[TransactionAnswer], terms: Terms) -> None:
        self.request = request
        self.terms = terms
        self.attempts = Attempts(terms)
        self.last = ""
        self.lives = False
        self.retry = terms.retry.first_seconds
        self.error: ClientError | None = None
        self.after = 0.0

    def once(self) -> Steps[None]:
        """Open the stream and hand its events on, until it ends."""
        self.attempts.count += 1
        self.error, self.after = None, 0.0
        headers = {"last-event-id": self.last} if self.last else {}
        try:
            reply: Reply = yield Open(self.request, SILENT_SECONDS, headers)
            if reply.status != 200:
                body = yield from _small_body()
                self.error, self.after = refused(self.request, self.attempts.count, replace(reply, body=body))
            elif not reply.headers.get("content-type", "").startswith("text/event-stream"):
                self.error = self._bad("it is no stream of events", reply)
            else:
                yield from self._hand_on(reply)
        except Lost as lost:
            self.error = not_answered(self.request, self.attempts.count, lost)
        yield Shut()

    def pause(self) -> float:
        """How long to wait before it is opened again. Raises why it is not."""
        if self.error is not None and not may_pass(self.error):
            raise self.error
        if self.lives:
            self.lives = self.attempts.counted = False
            self.attempts.begin()
            self.attempts.count = 1
        seconds = self.attempts.pause(max(self.after, self.retry))
        if seconds is None:
            raise self.error or not_answered(self.request, self.attempts.count, Lost("the stream ends at once"))
        return seconds

    def _hand_on(self, reply: Reply) -> Steps[None]:
        lines = EventLines()
        while chunk := (yield Read()):
            self.lives = True
            try:
                for found in lines.feed(chunk):
                    if found.type == END:
                        self.error = self._ended(found, reply)
                        break
                    event = _decoded(found)
                    self.last = found.id or self.last
                    yield Emit(event)
            except BadAnswer as error:
                self.error = error.noting(**facts(self.request, 1, reply))
            self.retry = lines.retry_seconds if lines.retry_seconds is not None else self.retry
            if self.error is not None:
                return

    def _ended(self, found: ServerEvent, reply: Reply) -> ClientError:
        problem = problem_in(503, found.data, "")
        if problem.code == "http_503":
            return self._bad("the last event of the stream is no problem", reply)
        # its status is not that of the answer, which was well until then
        status = decoder(dict).decode(found.data).get("status", 503)
        problem = msgspec.structs.replace(problem, status=status)
        return ServiceError.of(problem).noting(**{**facts(self.request, 1, reply), "status": status})

    def _bad(self, problem: str, reply: Reply) -> BadAnswer:
        return BadAnswer(problem=problem).noting(**facts(self.request, self.attempts.count, reply))


def _decoded(found: ServerEvent) -> TransactionAnswer:
    try:
        event: TransactionAnswer = decoder(TransactionAnswer).decode(found.data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        problem = f"an event of the stream is not what was to be expected ({type(error).__name__})"
    else:
        return event
    raise BadAnswer(problem=problem)


def _small_body() -> Steps[bytes]:
    """The body of what was opened and is a refusal."""
    body = b""
    while len(body) < MAX_REFUSAL_BYTES and (chunk := (yield Read())):
        body += chunk
    return body
