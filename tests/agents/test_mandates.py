"""An agent whose key has a mandate: it spends what it may, and no tool leads around it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tallystick.control import Mandate, Scope
from tests.agents.conftest import Agent, here_as, payment, talk
from tests.support.service import Served

PER_ACT, PER_DAY = 1_000, 2_500


@pytest.fixture
def token(here: Served) -> str:
    """A key that may spend from users:alice: 1,000 at once, 2,500 a day, to users:bob and to services."""
    mandate = Mandate("main", "users:alice", "USD/2", PER_ACT, PER_DAY, ("users:bob", "services:*"))
    scopes = (Scope("read", "main", "users:alice"), Scope("post", "main", "users:alice"))
    return here.caller(subject="bot", scopes=scopes, mandate=mandate).token


def hold(amount: str, key: str) -> dict[str, str]:
    return {"account": "users:alice", "asset": "USD/2", "amount": amount, "idempotency_key": key}


def test_it_spends_what_it_may_and_is_told_what_is_left_until_when(here: Served, token: str) -> None:
    async def work() -> None:
        async with here_as(here, token) as agent:
            await agent.pay("1000", "a")
            await agent.done("freeze", **hold("1000", "b"))
            text = await agent.refused("transfer", **payment("501", "c"))
            assert "allows 2500 a day; 500 is left until " in text
            assert "Ask for at most 500" in text
            act = await agent.refused("transfer", **payment("1001", "d"))
            assert "at most 1000 in one act; 1001 was asked for" in act
            await agent.pay("500", "c")
            assert "0 is left" in await agent.refused("freeze", **hold("1", "e"))
            assert (await agent.pay("1000", "a"))["replayed"]

    talk(work)


def test_no_tool_leads_around_it(here: Served, token: str) -> None:
    """Each call here would take value that the mandate does not reach; afterwards nothing has moved."""
    theirs = here.ledger.hold("users:bob", "USD/2", 300, key="bobs").id
    admins = here.ledger.hold("users:alice", "USD/2", 300, key="admins").id
    elsewhere = here.database.ledger("elsewhere")
    elsewhere.mint("users:alice", "USD/2", 5_000, key="m")
    to: dict[str, Any] = {"payee": "users:mallory", "idempotency_key": "x"}

    async def tries(agent: Agent) -> list[str]:
        own = (await agent.done("freeze", **hold("900", "own")))["hold_id"]
        return [
            await agent.refused("transfer", **{**payment("1", "t1"), "to_account": "users:mallory"}),
            await agent.refused("transfer", **{**payment("1", "t2"), "from_account": "users:bob"}),
            await agent.refused("transfer", **{**payment("1", "t3"), "from_account": "@issuance"}),
            await agent.refused("transfer", **{**payment("1", "t4"), "to_account": "@external:bank"}),
            await agent.refused("transfer", **{**payment("1", "t5"), "asset": "EUR/2"}),
            await agent.refused("transfer", **payment("1", "t6"), ledger="elsewhere"),
            await agent.refused("transfer", **payment(str(PER_ACT + 1), "t7")),
            await agent.refused("transfer", **{**payment("1", "t8"), "to_account": "users:bobby"}),
            await agent.refused("freeze", **{**hold("1", "f1"), "account": "users:bob"}),
            await agent.refused("freeze", **hold(str(PER_ACT + 1), "f2")),
            await agent.refused("freeze", **hold("1", "f3"), ledger="elsewhere"),
            await agent.refused("capture", hold_id=own, **to),
            await agent.refused("capture", hold_id=own, amount="1", final=False, **to),
            await agent.refused("capture", hold_id=theirs, payee="users:bob", idempotency_key="c1"),
            await agent.refused("capture", hold_id=admins, payee="users:bob", idempotency_key="c2"),
            await agent.refused("capture", hold_id="elsewhere/1", payee="users:bob", idempotency_key="c3"),
            await agent.refused("release", hold_id=theirs, idempotency_key="r1"),
            await agent.refused("release", hold_id=admins, idempotency_key="r2"),
            await agent.refused("balance", account="users:bob"),
            await agent.refused("statement", account="users:bob"),
            await agent.refused("find", transaction_id=theirs),
            await agent.refused("balance", account="users:alice", ledger="elsewhere"),
        ]

    async def work() -> None:
        async with here_as(here, token) as agent:
            for text in await tries(agent):
                assert "50000" not in text, "another's balance"
                assert "SAME idempotency_key" not in text, "none of these is to be repeated"

    talk(work)
    assert here.ledger.balance("users:bob", "USD/2") == 49_700
    assert here.ledger.balance("users:alice", "USD/2") == 100_000 - 300 - 900
    assert elsewhere.balance("users:alice", "USD/2") == 5_000


def test_two_agents_with_one_mandate_spend_no_more_together_than_it_allows(here: Served, token: str) -> None:
    async def work() -> None:
        async with here_as(here, token) as one, here_as(here, token) as two:
            calls = [
                agent.call("transfer", **payment("250", f"{name}-{number}"))
                for number in range(10)
                for name, agent in (("one", one), ("two", two))
            ]
            results = await asyncio.gather(*calls)
            done = [result for result in results if not result.is_error]
            assert 1 <= len(done) <= PER_DAY // 250
            for number in range(20):  # those who lost a race, with the same or a new key, get the rest and no more
                await one.call("transfer", **payment("250", f"late-{number}"))

    talk(work)
    assert here.ledger.balance("users:alice", "USD/2") == 100_000 - PER_DAY


def test_an_expired_or_revoked_key_ends_it_at_once(here: Served, token: str) -> None:
    async def work() -> None:
        async with here_as(here, token) as agent:
            await agent.pay("1", "a")
            here.service.keyring.revoke(token.split("_")[1])
            assert "revoked" in await agent.refused("transfer", **payment("1", "b"))

    talk(work)
