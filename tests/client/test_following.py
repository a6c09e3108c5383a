"""A stream of events that is followed goes on where it broke off: none is missed, and none comes twice."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.client import BadAnswer, ClientError, NotAnswered, Retry, ServiceError
from tallystick.client import following as module
from tallystick.client.following import EventLines
from tallystick.errors import Forbidden, Unauthenticated
from tallystick.wire.answers import TransactionAnswer
from tests.client.support import ONCE, TOKEN, Asker, CuttingProxy, Script, json, problem
from tests.support.service import Served

URL = "http://ledger.example"
ALICE, BOB, USD = "users:alice", "users:bob", "USD/2"
NO_WAIT = Retry(tries=3, first_seconds=0.0, longest_seconds=0.001, total_seconds=20.0)


def pay(served: Served, times: int, name: str = "t") -> None:
    for number in range(times):
        served.ledger.transfer(ALICE, BOB, USD, 1, key=f"{name}{number}")


def follow(**named: Any) -> Any:
    return lambda client: client.ledger("main").follow(**named)


# ---------------------------------------------------------------- against a service


def test_events_come_in_order_from_where_it_was_asked(here: Served, asker: Asker) -> None:
    pay(here, 5)
    found = asker.ask(here.base, here.admin.token, follow(after=2), most=5)
    assert [event.seq for event in found] == [3, 4, 5, 6, 7]
    assert found[0] == asker.ask(here.base, here.admin.token, lambda client: client.ledger("main").transaction(3))


def test_a_stream_that_is_cut_again_and_again_loses_nothing(
    here: Served, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallystick.service.routes.events.RETRY_MILLISECONDS", 1)
    pay(here, 40)
    with CuttingProxy(here.base, cuts=5, after=6_000) as proxy:
        found = asker.ask(proxy.url, here.admin.token, follow(after=-1), most=43)
    assert [event.seq for event in found] == list(range(43))
    assert proxy.left <= 0


def test_from_now_on_means_from_the_head_and_nothing_is_lost_while_it_is_reopened(asker: Asker) -> None:
    ledger = {"name": "main", "events": 7, "head": "", "time": "", "policy": {}}
    script = Script(json(200, ledger), httpx2.ReadError("cut"), stream(event(7)), httpx2.Response(403))
    with pytest.raises(ServiceError):
        asker.ask(URL, TOKEN, follow(), script, retry=NO_WAIT)
    assert [request.url.params.get("after") for request in script.requests] == [None, "6", "6", "6"]
    assert [request.headers.get("last-event-id") for request in script.requests] == [None, None, None, "7"]


def test_only_what_was_asked_for_comes(here: Served, asker: Asker) -> None:
    pay(here, 2)
    here.ledger.hold(ALICE, USD, 5, key="h", expires_in_seconds=60)
    use = follow(after=-1, types=["hold", "mint"], account=ALICE)
    found = asker.ask(here.base, here.admin.token, use, most=2)
    assert [event.type for event in found] == ["mint", "hold"]


def test_who_may_not_read_is_told_so(here: Served, asker: Asker) -> None:
    nobody = here.caller(role="public")
    with pytest.raises((Forbidden, ClientError)):
        asker.ask(here.base, nobody.token, follow(after=-1), most=1)
    with pytest.raises(Unauthenticated):
        asker.ask(here.base, "tsk_wrong", follow(after=-1), most=1)


# ---------------------------------------------------------------- against a script


def event(seq: int) -> bytes:
    found = TransactionAnswer(f"main/{seq}", "main", seq, "transfer", "", "", "", "", "", "", "", {}, [], {})
    return b"id: %d\nevent: transfer\ndata: %s\n\n" % (seq, msgspec.json.encode(found))


def stream(*pieces: bytes) -> httpx2.Response:
    body = b": events\nretry: 1\n\n" + b"".join(pieces)
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)


def end(status: int, code: str, *, retryable: bool) -> bytes:
    return b"event: stream.end\ndata: %s\n\n" % msgspec.json.encode(problem(status, code, retryable=retryable))


def test_a_stream_that_ends_is_opened_again_behind_its_last_event(asker: Asker) -> None:
    script = Script(stream(event(3), event(4)), stream(), stream(event(5), b'id: 6\nevent: transfer\ndata: {"torn'))
    found = asker.ask(URL, TOKEN, follow(after=2), script, most=3)
    assert [item.seq for item in found] == [3, 4, 5]
    assert [request.headers.get("last-event-id") for request in script.requests] == [None, "4", "4"]
    assert {request.url.params["after"] for request in script.requests} == {"2"}


def test_a_service_that_stops_is_waited_for_and_one_that_refuses_is_not(asker: Asker) -> None:
    script = Script(
        stream(event(3), end(503, "closed", retryable=True)),
        httpx2.Response(503),
        stream(event(4), end(401, "unauthenticated", retryable=False)),
    )
    found: list[Any] = []
    with pytest.raises(Unauthenticated) as caught:
        asker.ask(URL, TOKEN, lambda client: noting(client.ledger("main").follow(after=2), found), script)
    assert [item.seq for item in found] == [3, 4]
    assert isinstance(caught.value, ServiceError)
    assert (caught.value.status, caught.value.request_id) == (401, "r-1")


def noting(walk: Any, found: list[Any]) -> Any:
    """The same walk, with what came of it noted."""
    if hasattr(walk, "__aiter__"):

        async def later() -> Any:
            async for item in walk:
                found.append(item)
                yield item

        return later()

    def now() -> Any:
        for item in walk:
            found.append(item)
            yield item

    return now()


def test_one_that_was_never_there_is_given_up_after_its_tries_and_one_that_was_after_its_time(asker: Asker) -> None:
    never = Script(httpx2.ConnectError("gone"))
    with pytest.raises(NotAnswered):
        asker.ask(URL, TOKEN, follow(after=2), never, retry=NO_WAIT)
    assert len(never.requests) == 3
    gone = Script(stream(event(3)), httpx2.ConnectError("gone"))
    with pytest.raises(NotAnswered):
        asker.ask(URL, TOKEN, follow(after=2), gone, retry=Retry(tries=2, first_seconds=0.001, total_seconds=0.3))
    assert len(gone.requests) > 5


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(200, headers={"content-type": "text/html"}, content=b"<html>"),
        stream(b"data: {}\n\n"),
        stream(b"event: stream.end\ndata: what\n\n"),
        httpx2.Response(302, headers={"location": "http://thief.example"}),
    ],
)
def test_what_is_no_stream_of_events_is_given_up_at_once(asker: Asker, answer: httpx2.Response) -> None:
    script = Script(answer)
    with pytest.raises(BadAnswer):
        asker.ask(URL, TOKEN, follow(after=2), script)
    assert len(script.requests) == 1


def test_an_event_without_bounds_is_given_up(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    body = event(3)
    monkeypatch.setattr(module, "MAX_EVENT_BYTES", len(body))
    assert len(asker.ask(URL, TOKEN, follow(after=2), Script(stream(body)), most=1)) == 1
    for endless in (b"data: " + b"x" * len(body), b"data: x\n" * len(body)):
        with pytest.raises(BadAnswer):
            asker.ask(URL, TOKEN, follow(after=2), Script(stream(endless)), most=1, retry=ONCE)


# ---------------------------------------------------------------- the format

NAMES = st.sampled_from(["data", "event", "id", "retry", "other", ""])
VALUES = st.text(alphabet="ab1: {", max_size=8)
LINES = st.lists(st.one_of(st.just(""), st.builds(lambda name, value: f"{name}: {value}", NAMES, VALUES)), max_size=30)


@given(
    lines=LINES, ends=st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=1), cuts=st.lists(st.integers(0, 200))
)
def test_however_the_bytes_are_cut_and_the_lines_end_the_events_are_the_same(
    lines: list[str], ends: list[str], cuts: list[int]
) -> None:
    lines = [*lines, "", ": the last line is behind every event"]
    text = "".join(line + ends[index % len(ends)] for index, line in enumerate(lines)).encode()
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    reader = EventLines()
    found = [item for first, last in pairwise(places) for item in reader.feed(text[first:last])]
    assert [(item.type, item.data.decode(), item.id) for item in found] == told_by_the_standard(lines)


def told_by_the_standard(lines: list[str]) -> list[tuple[str, str, str]]:
    """The events of whole lines, as the HTML standard interprets them."""
    found, kind, data, id = [], "", [], ""
    for line in lines:
        if line == "":
            if data:
                found.append((kind or "message", "\n".join(data), id))
            kind, data = "", []
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            value = value[1:] if value.startswith(" ") else value
            if name == "event":
                kind = value
            elif name == "data":
                data.append(value)
            elif name == "id":
                id = value
    return found
