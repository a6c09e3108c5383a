"""The transports: a process on standard input and output, and streamable HTTP, each with the real client."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import httpx2
import pytest
from click.testing import CliRunner
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError

import tallystick
from tallystick.access import Keyring
from tallystick.agents.door import KNOWN_SECONDS, bearer_of
from tallystick.agents.elsewhere import elsewhere
from tallystick.agents.inside import RUN_KEY_SECONDS, RunKey, inside
from tallystick.agents.requests import Desk
from tallystick.agents.running import MAX_BODY, Run
from tallystick.agents.server import create_server
from tallystick.cli import main
from tallystick.clock import add_seconds
from tallystick.control import Mandate, Scope, open_control
from tallystick.errors import InvalidInput
from tallystick.service.settings import Settings
from tests.agents.conftest import Agent, listening, over_http, over_stdio, payment, talk
from tests.support.service import Served

GIVEN_UP = 12
JSON = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


async def everything(agent: Agent) -> None:
    """Every tool once, as an agent may use them for one piece of work, and what may go wrong on the way."""
    assert await agent.available("users:alice") == 100_000
    await agent.pay("1000", "paid")
    lost = await agent.done("find", idempotency_key="paid")
    assert lost["found"]
    assert "Do not retry with the same amount" in await agent.refused("transfer", **payment("100000", "too-much"))
    held = await agent.done(
        "freeze", account="users:alice", asset="USD/2", amount="500", idempotency_key="held", expires_in_seconds=600
    )
    hold = held["hold_id"]
    await agent.done("capture", hold_id=hold, payee="users:bob", amount="200", final=False, idempotency_key="some")
    await agent.done("release", hold_id=hold, idempotency_key="rest")
    (page,) = [await agent.done("statement", account="users:alice")]
    closing = {row["bucket"]: row["amount"] for row in page["closing"]}
    assert closing == {"available": "98800", "held": "0"}
    assert "keeps no log" in await agent.refused("receipt", transaction_id=held["transaction_id"])
    assert "no log here" in await agent.refused("verify")
    assert "must be a string" in await agent.refused("transfer", **{**payment("1", "k"), "amount": 1})
    with pytest.raises(MCPError, match="no tool"):
        await agent.call("delete")


async def the_same_again(agent: Agent) -> None:
    """The same with the same keys changes nothing."""
    done = await agent.pay("1000", "paid")
    assert done["replayed"]


async def give_up(agent: Agent) -> None:
    """Give up on calls, each a little later than the one before: each is found if it was done, and is done once."""
    for number in range(GIVEN_UP):
        with anyio.move_on_after(0.0005 * number):
            await agent.pay("100", f"given-up-{number}")
    for number in range(GIVEN_UP):
        key = f"given-up-{number}"
        before = (await agent.done("find", idempotency_key=key))["found"]
        again = await agent.pay("100", key)
        assert again["replayed"] or not before


# ---------------------------------------------------------------- standard input and output


def test_a_process_serves_every_tool_on_a_ledger_file(file: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with over_stdio(file, tmp_path) as agent:
            await everything(agent)
        async with over_stdio(file, tmp_path, mode="legacy") as agent:  # a client of before, and keys last between runs
            await the_same_again(agent)
            await give_up(agent)

    talk(work)
    assert (tmp_path / "stderr").read_text() == ""
    with tallystick.open(file, read_only=True) as database:
        assert database.ledger("main").balance("users:bob", "USD/2") == 51_200 + GIVEN_UP * 100
        assert database.ledger("main").replay().ok
    runs = open_control(file).keys(subject="mcp")
    assert len(runs) == 2
    assert all(key.revoked for key in runs), "a key of a run ends with it"
    assert {scope.verb for key in runs for scope in key.scopes} == {"read", "post"}


def test_a_process_with_a_mandated_key_keeps_to_it(file: str, tmp_path: Path) -> None:
    control = open_control(file)
    scopes = (Scope("read", "main", "users:alice"), Scope("post", "main", "users:alice"))
    mandate = Mandate("main", "users:alice", "USD/2", 100, 150, ("users:bob",))
    token, _ = Keyring(control).create("bot", scopes=scopes, mandate=mandate)
    (tmp_path / "token").write_text(token + "\n")

    async def work() -> None:
        async with over_stdio(file, tmp_path, "--token-file", str(tmp_path / "token")) as agent:
            await agent.pay("100", "a")
            assert "50 is left" in await agent.refused("transfer", **payment("100", "b"))
            assert "in one act" in await agent.refused("transfer", **payment("101", "c"))

    talk(work)
    assert control.keys(subject="mcp") == []
    assert [found.revoked for found in control.keys(subject="bot")] == [""]


def test_beside_a_process_that_writes_the_file_it_reads_and_is_told_how_to_share(file: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with over_stdio(file, tmp_path) as agent:
            with tallystick.open(file) as database:
                database.ledger("main").transfer("users:alice", "users:bob", "USD/2", 7_000, key="k")
                assert await agent.available("users:alice") == 93_000
                text = await agent.refused("transfer", **payment("1000", "k"))
                assert "several agents share a ledger through one service" in text
                assert "SAME idempotency_key 'k'" in text
            assert not (await agent.pay("1000", "k"))["replayed"]
            assert await agent.available("users:alice") == 92_000

    talk(work)


def test_several_processes_before_one_service_spend_each_amount_once(on_file: Served, tmp_path: Path) -> None:
    async def work() -> None:
        words, token = ("--url", on_file.base), on_file.caller(role="writer").token
        async with (
            over_stdio("", tmp_path, *words, token=token) as one,
            over_stdio("", tmp_path, *words, token=token) as two,
        ):
            calls = [agent.call("transfer", **payment("7000", f"k-{n}")) for n in range(10) for agent in (one, two)]
            results = await asyncio.gather(*calls)
            assert sum(not result.is_error for result in results) == 20, "each of the ten was asked for twice"
            more = [agent.call("transfer", **payment("7000", f"{n}")) for n in range(10) for agent in (one, two)]
            done = [result.structured_content for result in await asyncio.gather(*more) if not result.is_error]
            assert len({found["transaction_id"] for found in done}) == 4

    talk(work)
    assert on_file.ledger.balance("users:alice", "USD/2") == 2_000


def test_an_agent_that_may_only_look_is_offered_only_that_and_its_key_allows_no_more(file: str) -> None:
    assert {tool.name for tool in Run(read_only=True).tools} == {"balance", "statement", "verify", "receipt", "find"}

    async def work() -> None:
        async with (
            inside(file, Settings(access_log=False), writes=False) as (http, token_of),
            Client(create_server(lambda request: Desk(http, token_of(request), "main"))) as client,
        ):
            agent = Agent(client)
            assert await agent.available("users:alice") == 100_000
            assert "ask the operator" in await agent.refused("transfer", **payment("1", "k"))

    talk(work)
    (key,) = open_control(file).keys(subject="mcp")
    assert key.revoked


# ---------------------------------------------------------------- HTTP


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_over_http_every_agent_acts_with_its_own_token(on_file: Served, mode: str) -> None:
    reader = on_file.caller(role="reader", subject="reader").token

    async def work() -> None:
        async with (
            listening(Run(), on_file) as url,
            over_http(url, on_file.admin.token, mode) as agent,
            over_http(url, reader, mode) as other,
        ):
            await everything(agent)
            assert await other.available("users:alice") == 98_800
            assert "ask the operator" in await other.refused("transfer", **payment("1", "k"))
            assert not (await other.done("find", idempotency_key="paid"))["found"]

    talk(work)
    assert on_file.ledger.by_key("paid", "admin") is not None


def test_two_agents_at_once_get_their_own_answers(on_file: Served) -> None:
    tokens = [on_file.caller(role="writer", subject=f"agent-{number}").token for number in range(2)]

    async def work() -> None:
        async with (
            listening(Run(), on_file) as url,
            over_http(url, tokens[0]) as one,
            over_http(url, tokens[1]) as two,
        ):
            calls = [agent.pay(str(n), f"same-{n}") for n in range(1, 21) for agent in (one, two)]
            answers = await asyncio.gather(*calls)
            assert len({answer["transaction_id"] for answer in answers}) == 40, "keys of two agents are two keys"
            assert not any(answer["replayed"] for answer in answers)

    talk(work)
    assert on_file.ledger.balance("users:bob", "USD/2") == 50_000 + 2 * sum(range(1, 21))


def test_nobody_gets_in_without_a_token_that_is_known(on_file: Served) -> None:
    lister = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}

    async def work() -> None:
        async with listening(Run(), on_file) as url, httpx2.AsyncClient() as http:
            for token in (None, "Bearer", "Basic abc", "Bearer tsk_no", "Bearer tsk_aaaaaaaaaaaa_" + "b" * 43):
                headers = {**JSON, **({"authorization": token} if token else {})}
                answer = await http.post(url, json=lister, headers=headers)
                assert answer.status_code == 401, token
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert answer.json()["code"] == "unauthenticated"
                assert "transfer" not in answer.text
                for method in ("GET", "DELETE", "OPTIONS"):
                    assert (await http.request(method, url, headers=headers)).status_code == 401
            public = {"authorization": f"Bearer {on_file.caller(role='public').token}"}
            assert (await http.post(url, json=lister, headers={**JSON, **public})).status_code == 200

    talk(work)


def test_a_revoked_token_is_refused_within_a_moment(on_file: Served) -> None:
    token = on_file.caller(role="writer").token

    async def work() -> None:
        async with listening(Run(), on_file) as url, httpx2.AsyncClient() as http:
            lister = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
            headers = {**JSON, "authorization": f"Bearer {token}"}
            assert (await http.post(url, json=lister, headers=headers)).status_code == 200
            on_file.service.keyring.revoke(token.split("_")[1])
            deadline = asyncio.get_running_loop().time() + KNOWN_SECONDS + 10
            while (await http.post(url, json=lister, headers=headers)).status_code != 401:
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.05)

    talk(work)


def test_a_page_in_a_browser_cannot_reach_it_by_another_name(on_file: Served) -> None:
    """DNS rebinding: the name in the request, and the page that it comes from, must be those that were allowed."""
    lister = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    admin = {**JSON, "authorization": f"Bearer {on_file.admin.token}"}

    async def work() -> None:
        run = Run(hosts=("127.0.0.1", "ledger.example"))
        async with listening(run, on_file) as url, httpx2.AsyncClient() as http:
            for headers, status in (
                ({}, 200),
                ({"host": "ledger.example"}, 200),
                ({"host": "ledger.example:8421"}, 200),
                ({"origin": "https://ledger.example"}, 200),
                ({"host": "evil.example"}, 421),
                ({"host": "ledger.example.evil.example"}, 421),
                ({"host": "127.0.0.1.evil.example:80"}, 421),
                ({"origin": "https://evil.example"}, 403),
                ({"origin": "null"}, 403),
            ):
                answer = await http.post(url, json=lister, headers={**admin, **headers})
                assert answer.status_code == status, headers

    talk(work)


def test_a_message_that_is_too_large_is_refused(on_file: Served) -> None:
    async def work() -> None:
        async with listening(Run(), on_file) as url, httpx2.AsyncClient() as http:
            headers = {**JSON, "authorization": f"Bearer {on_file.admin.token}"}
            answer = await http.post(url, content=b" " * (MAX_BODY + 1), headers=headers)
            assert answer.status_code == 413

    talk(work)


def test_a_process_listens_says_where_and_stops_when_told(file: str, tmp_path: Path) -> None:
    token, _ = Keyring(open_control(file)).create("writer", role="writer")
    words = ["-c", "from tallystick.cli import main; main()", "mcp", "-f", file, "--http", "127.0.0.1:0"]
    with (tmp_path / "stderr").open("w") as errors:
        process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]

        async def work() -> None:
            async with over_http(url, token) as agent:
                await everything(agent)

        talk(work)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)
    assert open_control(file).keys(subject="mcp") == [], "over HTTP no key is made for the run"


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ([(b"authorization", b"Bearer abc")], "abc"),
        ([(b"Authorization", b"bearer  abc ")], "abc"),
        ([(b"authorization", b"Basic abc")], ""),
        ([(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")], ""),
        ([], ""),
    ],
)
def test_a_token_is_read_once_or_not_at_all(headers: list[tuple[bytes, bytes]], token: str) -> None:
    assert bearer_of(headers) == token


# ---------------------------------------------------------------- giving up on a call


def test_a_call_over_http_that_is_given_up_is_done_once_or_not_at_all(on_file: Served) -> None:
    async def work() -> None:
        async with listening(Run(), on_file) as url, over_http(url, on_file.admin.token) as agent:
            await give_up(agent)

    talk(work)
    assert on_file.ledger.balance("users:bob", "USD/2") == 50_000 + GIVEN_UP * 100


# ---------------------------------------------------------------- the key of a run


def test_the_key_of_a_run_is_renewed_at_half_its_time_and_revoked_at_the_end() -> None:
    now = ["2026-11-21T09:00:00.000000Z"]
    control = open_control("memory://")
    keyring = Keyring(control, lambda: now[0])
    run = RunKey(keyring, "mcp", "main", clock=lambda: now[0])
    first = run.token()
    now[0] = add_seconds(now[0], RUN_KEY_SECONDS / 2 - 1)
    assert run.token() == first
    now[0] = add_seconds(now[0], 1)
    second = run.token()
    assert second != first
    assert keyring.authenticate(second).may("post", "main")
    assert not keyring.authenticate(second).may("issue", "main")
    assert not keyring.authenticate(second).may("read", "other")
    run.end()
    assert [bool(key.revoked) for key in control.keys(subject="mcp")] == [True, True]
    run.end()


@pytest.mark.parametrize(
    "url", ["", "ledger.example", "ftp://x", "http://", "http://a:b@x", "http://x?y=1", "http://[::"]
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    async def work() -> None:
        with pytest.raises(InvalidInput):
            async with elsewhere(url, ""):
                pass

    talk(work)


def test_what_the_command_line_cannot_mean_is_said(file: str, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")

    def told(*words: str) -> str:
        result = CliRunner(env={"TALLYSTICK_TOKEN": ""}).invoke(main, ["--json", "mcp", *words])
        assert result.exit_code in (1, 2, 3), result.output
        assert result.stdout == ""
        return str(json.loads(result.stderr)["error"])

    assert "TALLYSTICK_TOKEN" in told("--url", "http://127.0.0.1:1")
    assert "--allow-host" in told("-f", file, "--http", "0.0.0.0:0")
    assert "host and a port" in told("-f", file, "--http", "8421")
    assert "one token" in told("-f", file, "--token-file", str(tmp_path / "empty"))
    assert "there is no ledger" in told("-f", str(tmp_path / "none.db"))
    assert "named other" in told("-f", file, "--ledger", "other")
    assert not (tmp_path / "none.db").exists()
