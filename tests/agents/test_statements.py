"""Statements: opening balance, entries and closing balance add up, on one page and on many, while others write."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from tallystick.agents.advice import Doubt
from tallystick.agents.statements import _check_ends, _movements
from tests.agents.conftest import Agent, here_as, talk
from tests.support.service import Served


def amounts(rows: list[dict[str, str]]) -> dict[tuple[str, str], int]:
    return {(row["asset"], row["bucket"]): int(row["amount"]) for row in rows}


def added_up(pages: list[Any]) -> dict[tuple[str, str], int]:
    """The opening balance and all entries, as whoever reads them would add them up."""
    found = defaultdict(int, amounts(pages[0]["opening"]))
    for page in pages:
        for entry in page["entries"]:
            found[entry["asset"], entry["bucket"]] += int(entry["amount"])
    return dict(found)


async def statement(agent: Agent, **given: Any) -> list[Any]:
    pages = [await agent.done("statement", account="users:alice", **given)]
    while pages[-1]["cursor"]:
        pages.append(await agent.done("statement", account="users:alice", **given, cursor=pages[-1]["cursor"]))
        assert len(pages) < 100
    return pages


def do_much(served: Served) -> list[str]:
    """Payments and holds; the times of the payments."""
    times = []
    for number in range(1, 8):
        times.append(served.ledger.transfer("users:alice", "users:bob", "USD/2", number, key=f"t{number}").time)
        hold = served.ledger.hold("users:alice", "USD/2", 10 * number, key=f"h{number}").id
        if number % 2:
            served.ledger.release(hold, key=f"r{number}")
    served.ledger.mint("users:alice", "EUR/2", 77, key="euros")
    return times


@pytest.mark.parametrize("limit", [1, 2, 5, 1_000])
def test_the_pages_of_a_statement_add_up_however_long_they_are(here: Served, limit: int) -> None:
    do_much(here)

    async def work() -> None:
        async with here_as(here, here.admin.token) as agent:
            pages = await statement(agent, limit=limit)
            assert pages[0]["opening"] == []
            assert pages[0]["from"] == ""
            assert added_up(pages) == amounts(pages[-1]["closing"])
            now = await agent.done("balance", account="users:alice")
            assert added_up(pages) == amounts(now["balances"])
            assert all(len(page["entries"]) == limit for page in pages[:-1])
            assert {(page["from"], page["to"]) for page in pages} == {("", pages[0]["to"])}
            for page in pages:
                for row in page["movements"]:
                    assert int(row["opening"]) + int(row["credits"]) - int(row["debits"]) == int(row["closing"])

    talk(work)


def test_a_statement_of_a_period_begins_and_ends_with_its_balances(here: Served) -> None:
    times = do_much(here)

    async def work() -> None:
        async with here_as(here, here.admin.token) as agent:
            for first, last in ((0, 3), (2, 6), (4, 4)):
                given = {"from_": times[first], "to": times[last], "asset": "USD/2"}
                pages = await statement(agent, **given, limit=3)
                assert added_up(pages) == amounts(pages[0]["closing"]) == amounts(pages[-1]["closing"])
                kept = [entry["time"] for page in pages for entry in page["entries"]]
                assert all(times[first] <= time < times[last] for time in kept)
            before = await statement(agent, to=times[0])
            after = await statement(agent, from_=times[0])
            assert before[-1]["closing"] == after[0]["opening"]

    talk(work)


def test_what_is_posted_while_pages_are_turned_falls_outside(here: Served) -> None:
    do_much(here)

    async def work() -> None:
        async with here_as(here, here.admin.token) as agent:
            first = await agent.done("statement", account="users:alice", limit=3)
            await agent.pay("4000", "meanwhile")
            pages = [first]
            while pages[-1]["cursor"]:
                given = {"account": "users:alice", "limit": 3, "cursor": pages[-1]["cursor"]}
                pages.append(await agent.done("statement", **given))
            assert added_up(pages) == amounts(first["closing"]) == amounts(pages[-1]["closing"])
            assert "4000" not in {entry["amount"].lstrip("-") for page in pages for entry in page["entries"]}

    talk(work)


def test_a_period_in_the_future_or_before_everything_is_empty_and_one_that_is_turned_round_is_refused(
    here: Served,
) -> None:
    async def work() -> None:
        async with here_as(here, here.admin.token) as agent:
            (later,) = await statement(agent, from_="2090-01-01")
            assert later["entries"] == []
            assert later["opening"] == later["closing"] != []
            (never,) = await statement(agent, to="2001-01-01")
            assert (never["entries"], never["opening"], never["closing"]) == ([], [], [])
            text = await agent.refused("statement", account="users:alice", from_="2026-02-01", to="2026-01-01")
            assert "swap them" in text
            assert "calendar" in await agent.refused(
                "statement", account="users:alice", from_="2026-02-30T00:00:00.000000Z"
            )
            (nobody,) = [await agent.done("statement", account="users:nobody")]
            assert (nobody["entries"], nobody["closing"]) == ([], [])

    talk(work)


def test_a_cursor_that_was_changed_or_belongs_to_another_list_is_refused(here: Served) -> None:
    do_much(here)

    async def work() -> None:
        async with here_as(here, here.admin.token) as agent:
            cursor = (await agent.done("statement", account="users:alice", limit=1))["cursor"]
            start, end, own = cursor.split("~")
            for wrong in ("x", "~~", f"{start}~{end}~", f"{end}~{start}~{own}", f"{start}~{start}~{own}", cursor + "x"):
                assert await agent.refused("statement", account="users:alice", limit=1, cursor=wrong)
            assert await agent.refused("statement", account="users:bob", limit=1, cursor=cursor)
            assert await agent.refused("statement", account="users:alice", asset="EUR/2", limit=1, cursor=cursor)

    talk(work)


# ---------------------------------------------------------------- what does not add up is no answer


def line(amount: int, before: int, after: int) -> dict[str, str]:
    shown = {"amount": str(amount), "before": str(before), "after": str(after)}
    return {"id": "main/1", "asset": "USD/2", "bucket": "available", **shown}


@pytest.mark.parametrize("lines", [[line(5, 0, 6)], [line(5, 0, 5), line(1, 4, 5)], [line(5, 0, 5), line(1, 6, 7)]])
def test_entries_that_do_not_follow_on_each_other_are_doubted(lines: list[Any]) -> None:
    with pytest.raises(Doubt):
        _movements(lines)


def test_entries_that_do_not_lead_from_one_end_to_the_other_are_doubted() -> None:
    place = ("USD/2", "available")
    found = _movements([line(5, 1, 6), line(-2, 6, 4)])
    assert found == {place: {"opening": 1, "credits": 5, "debits": 2, "closing": 4}}
    _check_ends(found, {place: 1}, {place: 4})
    _check_ends(found, None, None)
    for opening, closing in (({place: 2}, None), ({}, None), (None, {place: 5}), (None, {}), ({place: 1}, {place: 3})):
        with pytest.raises(Doubt):
            _check_ends(found, opening, closing)
    with pytest.raises(Doubt):
        _check_ends({}, {place: 1}, {place: 2})
