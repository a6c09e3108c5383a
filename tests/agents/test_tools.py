"""The tools: what they are called, how they are shown, what they refuse before anything is asked, and what they do."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from mcp.shared.exceptions import MCPError

from tallystick.agents.schemas import Checker
from tallystick.agents.tool import Tool
from tallystick.agents.tools import TOOLS
from tallystick.control import Scope
from tests.agents.conftest import here_as, payment, talk
from tests.support.service import Served

NAMES = ["balance", "transfer", "freeze", "capture", "release", "statement", "verify", "receipt", "find"]
WRITES = {"transfer", "freeze", "capture", "release"}
SPENDS = {"transfer", "capture"}
RIGHT: dict[str, dict[str, Any]] = {
    "balance": {"account": "users:alice", "asset": "USD/2"},
    "transfer": payment("1250", "k-1"),
    "freeze": {"account": "users:alice", "asset": "USD/2", "amount": "500", "idempotency_key": "k-2"},
    "capture": {"hold_id": "main/7", "payee": "users:bob", "amount": "5", "idempotency_key": "k-3"},
    "release": {"hold_id": "main/7", "amount": "5", "idempotency_key": "k-4"},
    "statement": {"account": "users:alice", "from": "2026-01-31", "to": "2026-02-28T12:00:00Z", "limit": 10},
    "verify": {"receipt": "c2sp.org/tlog-proof@v1"},
    "receipt": {"transaction_id": "main/7"},
    "find": {"idempotency_key": "k-1"},
}


def named(name: str) -> Tool:
    return next(tool for tool in TOOLS if tool.name == name)


each = pytest.mark.parametrize("tool", TOOLS, ids=[tool.name for tool in TOOLS])


# ---------------------------------------------------------------- how they are shown


def test_the_tools_are_those_and_none_updates_or_deletes(here: Served) -> None:
    async def work() -> None:
        async with here_as(here, here.admin.token) as agent:
            cards = (await agent.client.list_tools()).tools
            assert [card.name for card in cards] == NAMES
            for card in cards:
                told = card.annotations
                assert told is not None
                assert told.read_only_hint is (card.name not in WRITES)
                assert told.destructive_hint is (card.name in SPENDS)
                assert told.idempotent_hint is True
                assert told.open_world_hint is False
                assert card.title
                assert card.description
                assert told.title == card.title
                assert ("idempotency_key" in card.input_schema["required"]) is (card.name in WRITES)
            assert "minor units" in (agent.client.instructions or "")

    talk(work)


@each
def test_the_schemas_are_strict_to_the_last_object(tool: Tool) -> None:
    def objects(schema: Any) -> list[Any]:
        below = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
        own = [schema] if isinstance(schema, dict) and schema.get("type") == "object" else []
        return [*own, *(found for part in below for found in objects(part))]

    for schema in (tool.asks, tool.answers):
        jsonschema.Draft202012Validator.check_schema(schema)
        assert all("additionalProperties" in found for found in objects(schema))
    assert tool.asks["additionalProperties"] is False
    assert all(rule.get("description") for rule in tool.asks["properties"].values())
    assert not {"oneOf", "anyOf", "allOf"} & tool.asks.keys(), "many clients take none of these at the root"


@each
def test_every_text_that_is_asked_for_has_a_bound(tool: Tool) -> None:
    for name, rule in tool.asks["properties"].items():
        if rule["type"] == "string":
            assert "maxLength" in rule or tool.checker.problem({**RIGHT[tool.name], name: "9" * 500_000}), name


# ---------------------------------------------------------------- what is refused before anything is asked


@each
def test_what_is_right_is_let_through(tool: Tool) -> None:
    assert tool.checker.problem(RIGHT[tool.name]) == ""


@each
def test_an_argument_that_is_not_known_is_named_with_those_that_are(tool: Tool) -> None:
    problem = tool.checker.problem({**RIGHT[tool.name], "force": True})
    assert problem.startswith("There is no argument `force`.")
    assert all(name in problem for name in tool.asks["properties"])


@pytest.mark.parametrize("name", sorted(WRITES))
def test_every_write_needs_a_key(name: str) -> None:
    without = {part: value for part, value in RIGHT[name].items() if part != "idempotency_key"}
    problem = named(name).checker.problem(without)
    assert problem.startswith("`idempotency_key` is missing.")
    assert "SAME key" in problem


@pytest.mark.parametrize(
    ("amount", "told"),
    [
        (1250, '"amount": "1250"'),
        (12.5, "multiply by 10 to the power of the scale"),
        (10**30, '"amount": "1' + "0" * 30),
        (0, "positive whole number"),
        (-5, "positive whole number"),
        (True, "positive whole number"),
        (None, "positive whole number"),
        ("0", "positive whole number"),
        ("-5", "positive whole number"),
        ("+5", "positive whole number"),
        ("12.50", "without point"),
        ("1e3", "positive whole number"),
        ("1_000", "positive whole number"),
        (" 5", "positive whole number"),
        ("5\n", "positive whole number"),
        ("\u0665", "positive whole number"),
        ("007", "positive whole number"),
        ("1" * 20, "positive whole number"),
        ("", "positive whole number"),
        (["5"], "positive whole number"),
    ],
)
@pytest.mark.parametrize("name", sorted(WRITES))
def test_an_amount_that_is_no_string_of_digits_is_refused_with_the_way_to_say_it(
    name: str, amount: Any, told: str
) -> None:
    assert told in named(name).checker.problem({**RIGHT[name], "amount": amount})


@pytest.mark.parametrize("key", ["", " ", "a\n", "a\r\nx-evil: 1", "ä", " a", "a ", "x" * 256, 7, None])
def test_a_key_that_could_not_be_a_header_is_refused(key: Any) -> None:
    assert "`idempotency_key` cannot be" in named("transfer").checker.problem(payment("1", key))


@pytest.mark.parametrize("key", ["a", "a b", "x" * 255, "7f3c-!~"])
def test_a_key_of_printable_characters_is_let_through(key: str) -> None:
    assert named("transfer").checker.problem(payment("1", key)) == ""


@pytest.mark.parametrize("id", ["7", "main", "main/", "main/-1", "main/x", "../7", "main/7/../8", "main/7\n", "a b/7"])
def test_an_id_that_is_none_never_gets_into_a_path(id: str) -> None:
    assert named("release").checker.problem({**RIGHT["release"], "hold_id": id})
    assert named("receipt").checker.problem({"transaction_id": id})


@pytest.mark.parametrize("name", ["..", "a/b", "a?b", "a b", "", "x" * 65, "main\n"])
def test_a_ledger_that_is_none_never_gets_into_a_path(name: str) -> None:
    assert Checker(named("balance").asks).problem({**RIGHT["balance"], "ledger": name})


def test_a_tool_that_does_not_exist_is_an_error_of_the_protocol(here: Served) -> None:
    async def work() -> None:
        async with here_as(here, here.admin.token) as agent:
            for name in ("delete_account", "", "Transfer", "balance\n"):
                with pytest.raises(MCPError, match="There is no tool") as caught:
                    await agent.call(name)
                assert caught.value.code == -32602
                assert "transfer" in caught.value.message

    talk(work)


def test_what_is_refused_here_is_never_asked_of_the_service(here: Served) -> None:
    async def work() -> None:
        async with here_as(here, here.admin.token) as agent:
            text = await agent.refused("transfer", **{**payment("1", "k"), "amount": 1})
            assert text.startswith("Nothing was done. `amount` must be a string")
            assert "no argument `colour`" in await agent.refused("transfer", **payment("1", "k"), colour="red")
            assert not (await agent.done("find", idempotency_key="k"))["found"]

    talk(work)


# ---------------------------------------------------------------- what they do


def test_a_transfer_moves_an_amount_once(here: Served) -> None:
    async def work() -> None:
        async with here_as(here, here.admin.token) as agent:
            first = await agent.pay("1250", "once", reason="lunch", order_id="order-7")
            again = await agent.pay("1250", "once", reason="lunch", order_id="order-7")
            assert again == {**first, "replayed": True}
            assert (await agent.available("users:alice"), await agent.available("users:bob")) == (98_750, 51_250)

    talk(work)
    found = here.ledger.by_reference("order", "order-7")[0]
    assert (found.event.data["reason"], found.event.idem) == ("lunch", "once")


def test_a_balance_says_what_there_is_what_may_be_spent_and_what_there_was(here: Served) -> None:
    async def work() -> None:
        async with here_as(here, here.admin.token) as agent:
            await agent.done("freeze", **RIGHT["freeze"])
            found = await agent.done("balance", account="users:alice", asset="USD/2")
            assert found == {
                "ledger": "main",
                "account": "users:alice",
                "balances": [
                    {"asset": "USD/2", "bucket": "available", "amount": "99500"},
                    {"asset": "USD/2", "bucket": "held", "amount": "500"},
                ],
                "spendable": "99500",
            }
            assert "spendable" not in await agent.done("balance", account="users:alice")
            before = await agent.done("balance", account="users:alice", asset="USD/2", as_of="2020-01-01")
            assert (before["balances"], before["as_of"]) == ([], "2020-01-01T00:00:00.000000Z")

    talk(work)


def test_an_amount_is_frozen_paid_out_in_parts_and_the_rest_given_back(here: Served) -> None:
    async def work() -> None:
        async with here_as(here, here.admin.token) as agent:
            held = await agent.done("freeze", **RIGHT["freeze"], expires_in_seconds=60, reason="gpu", order_id="o-1")
            assert (held["remaining"], held["state"]) == ("500", "active")
            assert held["expires"] > held["time"]
            assert held["hold_id"] == held["transaction_id"]
            hold = held["hold_id"]
            part = await agent.done(
                "capture", hold_id=hold, payee="users:bob", amount="200", final=False, idempotency_key="c-1"
            )
            assert (part["remaining"], part["state"]) == ("300", "partially_captured")
            less = await agent.done("release", hold_id=hold, amount="50", idempotency_key="r-1")
            assert less["remaining"] == "250"
            rest = await agent.done("capture", hold_id=hold, payee="users:carol", amount="100", idempotency_key="c-2")
            assert (rest["remaining"], rest["state"]) == ("0", "captured")
            amounts = [await agent.available(f"users:{name}") for name in ("alice", "bob", "carol")]
            assert amounts == [99_700, 50_200, 100]

    talk(work)


def test_what_is_released_whole_is_all_there_again(here: Served) -> None:
    async def work() -> None:
        async with here_as(here, here.admin.token) as agent:
            hold = (await agent.done("freeze", **RIGHT["freeze"]))["hold_id"]
            done = await agent.done("release", hold_id=hold, idempotency_key="r")
            assert (done["state"], done["remaining"]) == ("released", "0")
            assert await agent.available("users:alice") == 100_000

    talk(work)


def test_a_freeze_by_a_key_that_may_not_read_still_answers_its_hold(here: Served) -> None:
    blind = here.caller(scopes=(Scope("post", "main", "users:alice"),)).token

    async def work() -> None:
        async with here_as(here, blind) as agent:
            held = await agent.done("freeze", **RIGHT["freeze"])
            assert held["hold_id"] == held["transaction_id"]
            assert "expires" not in held

    talk(work)


def test_what_became_of_a_request_is_found_by_its_key_and_by_its_id(here: Served) -> None:
    other = here.caller(role="writer").token

    async def work() -> None:
        async with here_as(here, here.admin.token) as agent, here_as(here, other) as stranger:
            done = await agent.pay("5", "mine")
            found = await agent.done("find", idempotency_key="mine")
            assert found["found"]
            assert found["transaction"]["transaction_id"] == done["transaction_id"]
            assert [entry["amount"] for entry in found["transaction"]["entries"]] == ["-5", "5"]
            assert await agent.done("find", transaction_id=done["transaction_id"]) == found
            assert (await agent.done("find", idempotency_key="never"))["found"] is False
            assert (await stranger.done("find", idempotency_key="mine"))["found"] is False
            assert "Name either" in await agent.refused("find")
            assert "Name either" in await agent.refused("find", idempotency_key="a", transaction_id="main/1")
            assert "leave `ledger` out" in await agent.refused("find", transaction_id="main/1", ledger="other")

    talk(work)
