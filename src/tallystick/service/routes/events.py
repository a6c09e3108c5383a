"""Events: the journal as it is, page by page, as a stream that can be resumed, and byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from tallystick.accounts import check_address
from tallystick.errors import Fault, InvalidInput, Overloaded, TallystickError, Unavailable
from tallystick.ledger.views import Transaction
from tallystick.service.calls import Call
from tallystick.service.feeds import Feed, Item, Listener, event_text, feed_of
from tallystick.service.operations import Group
from tallystick.service.problems import Refused, problem_of
from tallystick.service.routes.transactions import is_visible
from tallystick.service.streaming import Standing, begin, check_open, send_within
from tallystick.wire.answers import Page, TransactionAnswer, transaction_answer
from tallystick.wire.fields import MAX_TYPES, Cursor, EventTypes, MaybeAddress
from tallystick.wire.problems import Problem

EVENTS = Group("Events")

_HERE = "/v1/ledgers/{ledger}/events"
EVENT_STREAM = "text/event-stream"

MAX_EVENTS = 1_000
"""The most events of one page; each may have 64 KiB."""
HEARTBEAT_SECONDS = 15.0
"""How long a stream is silent before it says that it is still there."""
RETRY_MILLISECONDS = 1_000
"""When a reader whose stream has ended should come back."""
REFUSED_RETRY_MILLISECONDS = 60_000
"""When he should, if he was turned away."""

_TYPE = "[a-z][a-z0-9_]{0,63}"

Types = Annotated[
    str,
    Meta(
        pattern=f"^({_TYPE}(,{_TYPE}){{0,{MAX_TYPES - 1}}})?$",
        description=f"Names of event types, separated by commas; {MAX_TYPES} at most.",
    ),
]

MAX_AFTER = 2**62 - 1
"""The largest number that an event is looked for behind."""

Number = Annotated[int, Meta(ge=-1, le=MAX_AFTER, description="The number of an event; -1 is before the first one.")]

_encode = msgspec.json.Encoder().encode


# ---------------------------------------------------------------- which events


def _types(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def _account(call: Call, account: str) -> str:
    """The account whose events are wanted, if any. Raises InvalidInput, Forbidden."""
    return call.require_account(check_address(account)) if account else ""


def _wanted(call: Call, types: Sequence[str], account: str) -> Callable[[Transaction], bool]:
    """What tells the events that are asked for, and that the key may read, from the others."""

    def is_wanted(found: Transaction) -> bool:
        if types and found.type not in types:
            return False
        if account and found.data.get("account") != account and account not in {e.account for e in found.entries}:
            return False
        return is_visible(call, found)

    return is_wanted


# ---------------------------------------------------------------- page by page


class EventsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """``types``: only these, separated by commas. ``account``: only events that change its balances, or that are about
    it. ``after``: only events with a higher number."""

    types: EventTypes = ""
    account: MaybeAddress = ""
    after: Number | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_EVENTS, description="The most items of a page.")] = 100
    cursor: Cursor = ""


@EVENTS.read(_HERE, query=EventsQuery, answer=Page[TransactionAnswer], example={"types": "transfer,hold", "limit": 10})
def list_events(call: Call) -> Page[TransactionAnswer]:
    """The events of the journal in their order.

    A page looks at 10,000 events at most: where few of them are wanted it may hold fewer than asked for, or none, and
    still have a cursor to the next one. The pages end where the journal ended when the first one was asked for.
    """
    query = call.query
    filters = {"types": query.types, "account": query.account, "after": query.after}
    place = call.page_place(filters, query.cursor, str(call.ledger.head.seq))
    kept, before = place.filters, int(place.snapshot)
    first = kept["after"] if kept["after"] is not None else -1
    types, account = _types(kept["types"]), _account(call, kept["account"])
    found = call.ledger.events_page(
        after=int(place.after) if place.after else first, limit=query.limit, types=types, account=account
    )
    shown = [item for item in found.items if item.seq < before and is_visible(call, item)]
    more = found.more and found.after + 1 < before
    sees = None if call.sees_all else call.sees
    return Page(
        [transaction_answer(item, sees) for item in shown], call.cursor(place, str(found.after)) if more else ""
    )


@EVENTS.read(f"{_HERE}/{{event}}/raw", verb="audit", whole=True, answer=msgspec.Raw)
def get_event_bytes(call: Call) -> bytes:
    """The exact bytes of an event in the journal: SHA-256 of a zero byte and these is its hash."""
    return call.ledger.journal.event(call.number("event"))


# ---------------------------------------------------------------- as a stream


class StreamQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """``after``: from the event behind this one on; without it, from now on. ``types``, ``account``: as in the list."""

    types: EventTypes = ""
    account: MaybeAddress = ""
    after: Number | None = None


@EVENTS.stream(
    f"{_HERE}/stream",
    query=StreamQuery,
    answer=TransactionAnswer,
    media_type=EVENT_STREAM,
    example={"after": -1, "types": "transfer"},
)
async def stream_events(call: Call) -> int:
    """Events as they happen, as server-sent events: ``id`` is the event's number, ``event`` its type, ``data`` the
    event as the list has it.

    Resume with the header ``Last-Event-ID``, or with ``after``; the header counts if there are both. A comment every 15
    seconds says that the stream is still there. If the service has to end it, because it stops, because the key no
    longer stands, or because the store does not answer, the last event is ``stream.end``, which has no ``id``; its data
    is the problem. A reader who takes nothing is cut off within a minute.
    """
    service, query = call.service, call.query
    wanted = _wanted(call, _types(query.types), _account(call, query.account))
    after = _resumed(call)
    if service.streams >= service.settings.max_streams:
        raise Overloaded(queued=service.streams, limit=service.settings.max_streams)
    feed, listener = feed_of(service, call.ledger), Listener()
    service.streams += 1
    watching = asyncio.create_task(_watch(call, listener))
    try:
        await feed.join(listener)
        start = await _start(call, feed, after)
        await begin(call, EVENT_STREAM)
        await _send_events(call, feed, listener, start, wanted)
    finally:
        service.streams -= 1
        feed.leave(listener)
        watching.cancel()
    return 200


def _resumed(call: Call) -> int | None:
    """The number of the event that the reader saw last, if he says so. Raises InvalidInput."""
    given = call.headers.get(b"last-event-id")
    if not given:
        after: int | None = call.query.after
        return after
    text = given.decode("latin-1")
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= MAX_AFTER):
        raise InvalidInput(path="Last-Event-ID", problem=f"{text!r:.40} is not the number of an event")
    return int(text)


async def _start(call: Call, feed: Feed, after: int | None) -> int:
    """The event behind which the stream begins. Raises InvalidInput for one that is not there: its reader would wait in
    silence for a number that may be another event's by then."""
    if after is None:
        return feed.next - 1
    if after >= feed.next:
        head = await call.service.in_thread(lambda: call.ledger.head.seq)
        if after >= head:
            raise InvalidInput(path="after", problem=f"there is no event {after}: the ledger has {head}")
    return after


async def _watch(call: Call, listener: Listener) -> None:
    """Wait until who listens has gone."""
    while (await call.receive())["type"] != "http.disconnect":
        pass
    listener.leave()


async def _send_events(
    call: Call, feed: Feed, listener: Listener, after: int, wanted: Callable[[Transaction], bool]
) -> None:
    """Send what there is, and what comes, until somebody ends it. Raises ConnectionError for who no longer reads."""
    standing = Standing(call)
    await send_within(call, b": events\nretry: %d\n\n" % RETRY_MILLISECONDS)
    sent = time.monotonic()
    while not listener.gone:
        listener.news.clear()
        try:
            _check_open(call, feed)
            await standing.check()
            items = feed.behind(after)
            if items is None:
                items = await call.service.in_thread(feed.read, after)
        except Refused as refused:
            await _end(call, refused.problem(call.request_id))
            return
        except TallystickError as error:
            if isinstance(error, Fault):
                call.service.log_fault(call, error)
            await _end(call, problem_of(error, call.request_id))
            return
        piece = _piece(call, [item for item in items if wanted(item.event)])
        after = items[-1].seq if items else after
        if not piece and time.monotonic() - sent >= HEARTBEAT_SECONDS:
            piece = b": still here\n\n"
        if piece:
            await send_within(call, piece)
            sent = time.monotonic()
        if not items:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(listener.news.wait(), max(sent + HEARTBEAT_SECONDS - time.monotonic(), 0.0))


def _piece(call: Call, items: Sequence[Item]) -> bytes:
    if call.sees_all:
        return b"".join(item.text for item in items)
    return b"".join(
        event_text(item.seq, item.event.type, _encode(transaction_answer(item.event, call.sees))) for item in items
    )


def _check_open(call: Call, feed: Feed) -> None:
    """Raises what ends all streams of a ledger."""
    check_open(call.service)
    if feed.failure is not None:
        failure = feed.failure
        raise failure if isinstance(failure, TallystickError) else Unavailable(reason=type(failure).__name__)


async def _end(call: Call, problem: Problem) -> None:
    """Say why the stream ends, and when to come back, and end it."""
    retry = RETRY_MILLISECONDS if problem.retryable else REFUSED_RETRY_MILLISECONDS
    await send_within(call, b"retry: %d\nevent: stream.end\ndata: %s\n\n" % (retry, _encode(problem)))
    await call.send({"type": "http.response.body", "body": b""})
