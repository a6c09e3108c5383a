"""What an agent is told when something is refused: whether it was done, what to do next, and with which key."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import msgspec
import pytest
from mcp.client.client import Client

from tallystick import errors
from tallystick.agents.advice import advise
from tallystick.agents.requests import Desk
from tallystick.agents.server import PROBLEM, create_server
from tallystick.service.problems import problem_of
from tallystick.wire.problems import Problem
from tests.agents.conftest import Agent, here_as, payment, talk
from tests.support.service import Served

FREEZE = {"account": "users:alice", "asset": "USD/2", "amount": "500"}
KEY = "the-key-7"


# ---------------------------------------------------------------- as the service refuses


def test_too_little_there_says_how_much_there_is_and_not_to_try_the_same_again(here: Served) -> None:
    async def work() -> None:
        async with here_as(here, here.admin.token) as agent:
            text = await agent.refused("transfer", **payment("100001", KEY))
            assert text.startswith("`transfer` was not done")
            assert "There are 100000 USD/2 in available of users:alice" in text
            assert "Do not retry with the same amount: ask for no more" in text
            assert "insufficient_funds" in text
            empty = await agent.refused("freeze", **{**FREEZE, "account": "users:none"}, idempotency_key="k")
            assert "There are 0 USD/2" in empty
            assert "ask for no more" not in empty
            await agent.pay("100000", KEY)  # the key is still free

    talk(work)


def test_a_key_that_was_used_for_something_else_says_where_to_look(here: Served) -> None:
    async def work() -> None:
        async with here_as(here, here.admin.token) as agent:
            done = (await agent.pay("5", KEY))["transaction_id"]
            for text in (
                await agent.refused("transfer", **payment("6", KEY)),
                await agent.refused("freeze", **FREEZE, idempotency_key=KEY),
            ):
                assert f"was used for another request, which was done as {done}" in text
                assert f'`find` ({{"transaction_id": "{done}"}})' in text
                assert "use a new key" in text
            assert (await agent.done("find", transaction_id=done))["transaction"]["idempotency_key"] == KEY

    talk(work)


def test_of_a_hold_that_is_spent_expired_too_small_or_not_there_it_is_said_what_to_do(here: Served) -> None:
    async def work() -> None:
        async with here_as(here, here.admin.token) as agent:
            hold = (await agent.done("freeze", **FREEZE, idempotency_key="h"))["hold_id"]
            pay: dict[str, Any] = {"payee": "users:bob", "idempotency_key": KEY}
            more = await agent.refused("capture", hold_id=hold, amount="501", **pay)
            assert "keeps 500. Ask for at most that" in more
            await agent.done("release", hold_id=hold, idempotency_key="r")
            gone = await agent.refused("capture", hold_id=hold, **pay)
            assert "is released already" in gone
            assert "`freeze`" in gone
            missing = await agent.refused("capture", hold_id="main/999", **pay)
            assert "Check the name" in missing
            assert "Check the name" in await agent.refused("release", hold_id="nowhere/1", idempotency_key="k")
            brief = (await agent.done("freeze", **FREEZE, idempotency_key="b", expires_in_seconds=1))["hold_id"]
            for _ in range(400):
                text = await agent.refused("capture", hold_id=brief, amount="501", **pay)
                if "hold_expired" in text:
                    break
                await asyncio.sleep(0.01)
            assert "`freeze` the amount again, with a new idempotency_key" in text

    talk(work)


def test_who_is_not_known_and_who_may_not_are_told_to_ask_a_person(here: Served) -> None:
    reader = here.caller(role="reader").token

    async def work() -> None:
        async with here_as(here, reader) as agent:
            assert "ask the operator" in await agent.refused("transfer", **payment("1", KEY))
            assert await agent.available("users:alice") == 100_000
        for token in ("", "tsk_no", "tsk_aaaaaaaaaaaa_" + "b" * 43):
            async with here_as(here, token) as agent:
                text = await agent.refused("transfer", **payment("1", KEY))
                assert "missing, wrong, expired or revoked" in text
                assert token not in text or not token

    talk(work)


def test_what_is_malformed_for_the_service_alone_names_the_field(here: Served) -> None:
    async def work() -> None:
        async with here_as(here, here.admin.token) as agent:
            text = await agent.refused("transfer", **{**payment("1", KEY), "from_account": "users::alice"})
            assert "from_account" in text
            assert "Correct what is named" in text
            big = await agent.refused("transfer", **payment("9" * 19, KEY))
            assert "9223372036854775807" in big
            assert "Correct what is named" in await agent.refused("transfer", **{**payment("1", KEY), "asset": "USD/3"})

    talk(work)


def test_a_receipt_that_cannot_be_had_is_not_asked_for_again(here: Served) -> None:
    async def work() -> None:
        async with here_as(here, here.admin.token) as agent:
            assert "keeps no log" in await agent.refused("receipt", transaction_id="main/1")
            assert "shows no log here" in await agent.refused("verify")

    talk(work)


def test_the_problem_document_is_there_for_programs(here: Served) -> None:
    async def work() -> None:
        async with here_as(here, here.admin.token) as agent:
            result = await agent.call("transfer", **payment("100001", KEY))
            assert result.meta is not None
            assert result.meta[PROBLEM]["code"] == "insufficient_funds"
            assert result.meta[PROBLEM]["data"]["balance"] == "100000"

    talk(work)


def test_a_rate_limit_says_how_long_to_wait_and_to_keep_the_key(here: Served) -> None:
    slow = here.caller(role="writer", requests_per_second=1).token

    async def work() -> None:
        async with here_as(here, slow) as agent:
            for _ in range(20):
                result = await agent.call("transfer", **payment("1", KEY))
                if result.is_error:
                    break
            text = result.content[0].text  # type: ignore[union-attr]
            assert "Wait 1 second, then repeat the same call with the SAME idempotency_key 'the-key-7'" in text
            assert "A new key could do it twice" in text

    talk(work)


# ---------------------------------------------------------------- as it may fail


@contextlib.asynccontextmanager
async def before(answer: Any) -> AsyncIterator[Agent]:
    """An agent before a service that answers everything alike: with a response, or by raising."""

    async def reply(request: httpx2.Request) -> httpx2.Response:
        if isinstance(answer, Exception):
            raise answer
        status, headers, body = answer
        return httpx2.Response(status, headers=headers, content=body)

    async with (
        httpx2.AsyncClient(transport=httpx2.MockTransport(reply), base_url="http://ledger") as http,
        Client(create_server(lambda request: Desk(http, "t", "main"))) as client,
    ):
        yield Agent(client)


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.ConnectError("no"),
        httpx2.ReadTimeout("slow"),
        httpx2.RemoteProtocolError("cut"),
        ConnectionResetError("gone"),
        RuntimeError("a mistake of ours"),
        (200, {}, b"<html>"),
        (201, {}, b"{}"),
    ],
    ids=str,
)
def test_no_answer_means_that_nobody_knows_and_the_key_is_kept(answer: Any) -> None:
    async def work() -> None:
        async with before(answer) as agent:
            text = await agent.refused("transfer", **payment("1", KEY))
            assert "it is not known whether `transfer` was done" in text
            assert f"with the SAME idempotency_key '{KEY}'" in text
            assert "Or ask `find`" in text
            looked = await agent.refused("balance", account="users:alice")
            assert "Nothing was changed" in looked
            assert "idempotency_key" not in looked

    talk(work)


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (503, {"retry-after": "7"}, "Wait 7 seconds"),
        (502, {}, "Wait 1 second"),
        (429, {"retry-after": "x"}, "Wait 1 s"),
    ],
)
def test_an_answer_of_something_in_between_is_repeated_with_the_same_key(
    status: int, headers: dict[str, str], wait: str
) -> None:
    async def work() -> None:
        async with before((status, headers, b"upstream")) as agent:
            text = await agent.refused("capture", hold_id="main/1", payee="users:bob", idempotency_key=KEY)
            assert wait in text
            assert f"SAME idempotency_key '{KEY}'" in text

    talk(work)


def test_a_fault_that_may_not_be_repeated_is_looked_into_first() -> None:
    async def work() -> None:
        async with before((500, {}, b"")) as agent:
            text = await agent.refused("transfer", **payment("1", KEY))
            assert text.startswith("It is not certain whether `transfer` was done")
            assert f"Ask `find` with the idempotency_key '{KEY}'" in text

    talk(work)


def test_a_redirect_is_no_answer_and_is_not_followed() -> None:
    async def work() -> None:
        async with before((302, {"location": "http://evil.example/"}, b"")) as agent:
            assert "HTTP status 302" in await agent.refused("balance", account="users:alice")

    talk(work)


# ---------------------------------------------------------------- every error there is


def every_error() -> list[errors.TallystickError]:
    """One of each class of the tree, with something for each name in its message."""

    class Anything(dict[str, Any]):
        def __missing__(self, name: str) -> str:
            return "1"

    def below(kind: type[errors.TallystickError]) -> list[type[errors.TallystickError]]:
        return [kind, *(found for child in kind.__subclasses__() for found in below(child))]

    names = [
        "path",
        "problem",
        "account",
        "asset",
        "bucket",
        "balance",
        "change",
        "floor",
        "limit",
        "asked",
        "left",
        "resets",
        "key",
        "transaction",
        "what",
        "id",
        "kind",
        "state",
        "expires",
        "remaining",
        "amount",
        "seconds",
        "retry_after_seconds",
        "queued",
        "needed",
        "stands",
        "ledger",
        "condition",
        "expected",
        "actual",
        "reason",
        "type",
    ]
    return [
        kind(**dict.fromkeys(names, "1"))
        for kind in below(errors.TallystickError)
        if kind.__module__ == errors.__name__
    ]


@pytest.mark.parametrize("error", every_error(), ids=lambda error: str(error.code))
def test_every_error_says_what_to_do_next(error: errors.TallystickError) -> None:
    try:
        problem = problem_of(error, "r-1")
    except KeyError:
        pytest.skip("it needs more than this to be shown")
    given = payment("5", KEY)
    text = advise("transfer", True, problem, given)
    assert text.endswith(f"(code {problem.code}, request r-1)")
    assert len(text.splitlines()) >= 3
    again = f"SAME idempotency_key '{KEY}'" in text
    assert again is problem.retryable
    looked = advise("balance", False, problem, {"account": "a"})
    assert "SAME idempotency_key" not in looked
    assert ("repeat the same call." in looked) is problem.retryable


@pytest.mark.parametrize("data", [{}, {"account": "users:bob"}])
def test_what_a_key_may_not_see_is_not_needed_for_the_advice(data: dict[str, Any]) -> None:
    for error in every_error():
        try:
            full = problem_of(error)
        except KeyError:
            continue
        hidden: Problem = msgspec.structs.replace(full, data=data, needed="", found="")
        assert advise("freeze", True, hidden, {})
