"""A stream of commands: each is posted once whatever happens on the way, and what became of it is told in its order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import msgspec
import pytest

from tallystick.client import BadAnswer, NotAnswered, Retry, ServiceError, refusal_of
from tallystick.client import lines as module
from tallystick.commands import Transfer
from tallystick.errors import InsufficientFunds, InvalidInput, Unauthenticated
from tests.client.support import TOKEN, Asker, Async, CuttingProxy, Script, problem
from tests.support.service import Served

URL = "http://ledger.example"


def pays(times: int, amount: int = 1, key: str = "") -> Iterator[Transfer]:
    for number in range(times):
        own = f"{key}{number}" if key else ""
        yield Transfer(key=own, from_account="users:alice", to_account="users:bob", asset="USD/2", amount=amount)


def send(commands: Any, **named: Any) -> Any:
    return lambda client: client.ledger("main").stream(commands, **named)


@pytest.mark.parametrize("times", [0, 1, module.MAX_LINES, module.MAX_LINES + 1])
def test_any_number_of_commands_is_posted_in_order(here: Served, asker: Asker, times: int) -> None:
    found = asker.ask(here.base, here.admin.token, send(pays(times)))
    assert [result.line for result in found] == list(range(1, times + 1))
    assert [result.seq for result in found] == list(range(3, times + 3))
    assert {result.status for result in found} <= {"posted"}


@pytest.mark.parametrize("after", [0, 200, 20_000])
def test_a_connection_that_is_cut_on_the_way_posts_each_once(
    here: Served, asker: Asker, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LINES", 100)
    with CuttingProxy(here.base, cuts=3, after=after) as proxy:
        found = asker.ask(proxy.url, here.admin.token, send(pays(250)))
    assert [result.line for result in found] == list(range(1, 251))
    assert sorted(result.seq for result in found) == list(range(3, 253))
    assert here.ledger.balance("users:alice", "USD/2") == 100_000 - 250


def test_the_same_stream_under_the_same_key_posts_nothing_more(here: Served, asker: Asker) -> None:
    first = asker.ask(here.base, here.admin.token, send(pays(3), key="night"))
    again = asker.ask(here.base, here.admin.token, send(pays(3), key="night"))
    assert [result.id for result in again] == [result.id for result in first]
    assert all(result.replayed for result in again)
    assert here.ledger.by_key("night#3", "admin") is not None


def test_a_key_of_its_own_is_the_commands_key(here: Served, asker: Asker) -> None:
    asker.ask(here.base, here.admin.token, send(pays(2, key="own-")))
    assert here.ledger.by_key("own-1", "admin") is not None


def test_a_refused_line_stands_in_its_place_and_the_others_go_on(here: Served, asker: Asker) -> None:
    commands = [*pays(1), *pays(1, amount=10**9), {"command": "nothing"}, *pays(1)]
    found = asker.ask(here.base, here.admin.token, send(commands))
    assert [result.status for result in found] == ["posted", "refused", "refused", "posted"]
    assert isinstance(refusal_of(found[1]), InsufficientFunds)
    assert isinstance(refusal_of(found[2]), InvalidInput)
    assert refusal_of(found[0]) is None


def test_a_source_that_is_awaited_can_be_sent(here: Served) -> None:
    async def commands() -> AsyncIterator[Transfer]:
        for command in pays(module.MAX_LINES + 3):
            yield command

    assert len(Async().ask(here.base, here.admin.token, send(commands()))) == module.MAX_LINES + 3


def test_what_says_who_asks_is_refused_before_anything_is_sent(asker: Asker) -> None:
    script = Script(httpx2.Response(500))
    stranger = Transfer(key="k", source="me", from_account="a", to_account="b", asset="USD/2", amount=1)
    for bad in (stranger, Transfer(key=" k", from_account="a", to_account="b", asset="USD/2", amount=1)):
        with pytest.raises(InvalidInput):
            asker.ask(URL, TOKEN, send([bad]), script)
    with pytest.raises(InvalidInput):
        asker.ask(URL, TOKEN, send(pays(1), key="x" * 236), script)
    assert script.requests == []


# ---------------------------------------------------------------- against a script


def results(*pieces: dict[str, Any]) -> httpx2.Response:
    return httpx2.Response(200, content=b"".join(msgspec.json.encode(piece) + b"\n" for piece in pieces))


def posted(line: int) -> dict[str, Any]:
    return {"line": line, "status": "posted", "id": f"main/{line}", "seq": line}


def ended(line: int, status: int, *, retryable: bool) -> dict[str, Any]:
    return {"line": line, "status": "ended", "problem": problem(status, "unauthenticated", retryable=retryable)}


def test_what_was_not_answered_is_sent_again_with_the_same_keys(asker: Asker) -> None:
    script = Script(results(posted(1), ended(2, 503, retryable=True)), results(posted(1), posted(2)))
    found = asker.ask(URL, TOKEN, send(pays(3), key="k"), script)
    assert [(result.line, result.seq) for result in found] == [(1, 1), (2, 1), (3, 2)]
    assert keys_of(script.requests[0]) == ["k#1", "k#2", "k#3"]
    assert keys_of(script.requests[1]) == ["k#2", "k#3"]


def keys_of(request: httpx2.Request) -> list[str]:
    return [msgspec.json.decode(line)["key"] for line in request.content.splitlines()]


def test_a_stream_that_is_ended_for_good_raises_why(asker: Asker) -> None:
    script = Script(results(posted(1), ended(2, 401, retryable=False)))
    with pytest.raises(Unauthenticated) as caught:
        asker.ask(URL, TOKEN, send(pays(3), key="k"), script)
    assert isinstance(caught.value, ServiceError)
    assert (len(script.requests), caught.value.key, caught.value.status) == (1, "k", 401)


@pytest.mark.parametrize(
    "answer", [results(posted(2)), results(posted(1), posted(1)), httpx2.Response(200, content=b"<html>\n")]
)
def test_answers_to_what_was_not_sent_are_none(asker: Asker, answer: httpx2.Response) -> None:
    with pytest.raises(BadAnswer):
        asker.ask(URL, TOKEN, send(pays(2)), Script(answer))


def test_tries_without_any_progress_are_bounded(asker: Asker) -> None:
    for answer in (httpx2.ReadError("cut"), httpx2.Response(200, content=b""), httpx2.Response(503)):
        script = Script(answer)
        with pytest.raises((NotAnswered, ServiceError)):
            asker.ask(URL, TOKEN, send(pays(2)), script, retry=Retry(tries=3, first_seconds=0.0))
        assert len(script.requests) == 3


def test_no_more_is_sent_at_a_time_than_the_service_takes_in_unread(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = len(msgspec.json.encode({**msgspec.to_builtins(next(pays(1))), "key": "k#1"}))
    monkeypatch.setattr(module, "MAX_BYTES", 2 * line)
    sizes: list[int] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        count = len(keys_of(request))
        sizes.append(count)
        return results(*(posted(number + 1) for number in range(count)))

    assert len(asker.ask(URL, TOKEN, send(pays(5), key="k"), answer)) == 5
    assert max(sizes) <= 2
    assert sum(sizes) == 5
