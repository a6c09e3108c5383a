"""The short way for bare transfers gives the very events that the general way gives, or leaves them to it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick import commands as c
from tallystick.commands import Condition, Transfer
from tallystick.errors import Refusal
from tallystick.events import Entry
from tallystick.kernel import apply, decide, run_transfers
from tallystick.money import MAX_AMOUNT
from tests.support.kernel import EUR, START, USD, Scribe

ACCOUNTS = ("alice", "bob", "carol", "mia", "frozen", "@treasury", "stranger")


def town() -> Scribe:
    """Plain accounts, a member, a frozen account and the treasury."""
    scribe = Scribe()
    for account in ("alice", "bob", "carol", "frozen", "@treasury"):
        scribe.mint(account, 100)
    scribe.mint("carol", MAX_AMOUNT - 700, USD)
    scribe.mint("alice", 9, EUR)
    scribe.member("mia", 500)
    scribe.pay("mia", "bob", 5)
    scribe.do(c.FreezeAccount, account="frozen")
    return scribe


TOWN = town().book
transfers = st.builds(
    Transfer,
    key=st.sampled_from(["k-1", "k-2", "k" * 255, "k" * 256, "", "a\n"]),
    source=st.sampled_from(["local", "local", "local", "api"]),
    actor=st.sampled_from(["", "", "agent"]),
    reason=st.sampled_from(["", "", "", "because"]),
    from_account=st.sampled_from(ACCOUNTS),
    to_account=st.sampled_from(ACCOUNTS),
    asset=st.sampled_from([USD, USD, USD, EUR, "USD/3"]),
    amount=st.sampled_from([0, -1, 1, 40, 100, 101, 2**63, True, MAX_AMOUNT]),
)


@settings(deadline=None)
@given(st.lists(transfers, min_size=1, max_size=12))
def test_whatever_the_short_way_takes_the_general_way_decides_alike(commands: list[Transfer]):
    short, general = copy.deepcopy(TOWN), copy.deepcopy(TOWN)
    run = run_transfers(short, commands, 0, len(commands))
    taken = len(run.moved) if run else 0
    for index in range(taken):
        event = decide(general, commands[index], START)
        key, payer, payee, asset, amount, before, version, before_payee, version_payee = run.moved[index]
        assert (event.idem, event.source, event.actor) == (key, run.source, run.actor)
        assert event.data == {}
        assert event.entries == (
            Entry(payer, asset, "available", -amount, before, before - amount, version),
            Entry(payee, asset, "available", amount, before_payee, before_payee + amount, version_payee),
        )
        apply(general, event)
    assert short.pockets == general.pockets
    assert run is None or len(run.entries) == 2 * taken


PLAIN: dict[str, Any] = {"from_account": "alice", "to_account": "bob", "asset": USD, "amount": 1}


def test_plain_transfers_take_the_short_way():
    scribe = town()
    run = run_transfers(scribe.book, [Transfer(key=f"k-{number}", **PLAIN) for number in range(9)], 0, 9)
    assert len(run.moved) == 9
    assert scribe.balance("alice") == 91


@pytest.mark.parametrize(
    "change",
    [
        {"from_account": "frozen"}, {"to_account": "mia"}, {"to_account": "@treasury"}, {"to_account": "stranger"},
        {"to_account": "alice"}, {"amount": 101}, {"amount": 0}, {"amount": 1.0}, {"amount": True}, {"asset": "USD/3"},
        {"key": ""}, {"key": "k" * 256}, {"key": 5}, {"source": ""}, {"actor": 5}, {"actor": None},
        {"refs": {"order": "1"}},
        {"metadata": {"a": "b"}}, {"reason": "x"}, {"conditions": (Condition("alice", USD, version=9),)},
        {"from_account": []}, {"amount": "1"}, {"amount": None},
    ],
    ids=repr,
)  # fmt: skip
def test_anything_out_of_the_ordinary_is_left_to_the_general_way(change: dict[str, Any]):
    scribe = town()
    before = dict(scribe.book.pockets[USD, "available"])
    command = Transfer(**{"key": "k", **PLAIN, **change})
    assert run_transfers(scribe.book, [command], 0, 1) is None
    assert scribe.book.pockets[USD, "available"] == before


def test_a_ledger_that_became_strict_refuses_undeclared_accounts_by_either_way():
    scribe = town()
    scribe.policy(strict=True)
    command = Transfer(key="k", **PLAIN)
    assert run_transfers(scribe.book, [command], 0, 1) is None
    with pytest.raises(Refusal):
        decide(scribe.book, command, scribe.now)


def test_a_run_is_taken_back_with_everything_else():
    scribe = town()
    mark = scribe.book.mark()
    before = dict(scribe.book.pockets[USD, "available"])
    assert run_transfers(scribe.book, [Transfer(key="k", **PLAIN)], 0, 1) is not None
    scribe.book.rollback(mark)
    assert scribe.book.pockets[USD, "available"] == before
