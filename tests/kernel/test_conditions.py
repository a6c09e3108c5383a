"""Conditions: what a caller asks of a balance is judged in the same instant as the posting."""

from __future__ import annotations

import pytest

from tallystick import commands as c
from tallystick import errors as e
from tallystick.commands import Condition
from tallystick.kernel.decide import MAX_CONDITIONS
from tests.support.kernel import USD, Scribe

PAY = {"from_account": "alice", "to_account": "bob", "asset": USD, "amount": 30}


@pytest.fixture
def funded(ledger: Scribe) -> Scribe:
    """Alice has 100 at version 1; Carol, a bystander, has 7."""
    ledger.mint("alice", 100)
    ledger.mint("carol", 7)
    return ledger


@pytest.mark.parametrize(
    "condition",
    [
        Condition("alice", USD, version=1),
        Condition("bob", USD, version=0),
        Condition("alice", USD, at_least=70),
        Condition("alice", USD, at_most=70),
        Condition("bob", USD, at_least=30, at_most=30, version=0),
        Condition("carol", USD, version=1, at_least=7, at_most=7),
        Condition("nobody", USD, version=0, at_least=0, at_most=0),
        Condition("alice", USD, "held", at_most=0),
    ],
)
def test_a_condition_that_holds_lets_the_command_through(funded: Scribe, condition: Condition):
    funded.do(c.Transfer, **PAY, conditions=(condition,))
    assert funded.balance("bob") == 30


@pytest.mark.parametrize(
    ("condition", "word", "expected", "actual"),
    [
        (Condition("alice", USD, version=0), "version", 0, 1),
        (Condition("alice", USD, version=2), "version", 2, 1),
        (Condition("alice", USD, at_least=71), "at_least", 71, 70),
        (Condition("alice", USD, at_most=69), "at_most", 69, 70),
        (Condition("bob", USD, at_most=29), "at_most", 29, 30),
        (Condition("carol", USD, at_least=8), "at_least", 8, 7),
        (Condition("carol", USD, version=0), "version", 0, 1),
        (Condition("nobody", USD, at_least=1), "at_least", 1, 0),
    ],
)
def test_a_condition_that_does_not_hold_refuses_with_what_was_found(
    funded: Scribe, condition: Condition, word: str, expected: int, actual: int
):
    refusal = funded.refused(e.ConditionFailed, c.Transfer, **PAY, conditions=(condition,))
    assert refusal.data == {
        "account": condition.account, "asset": USD, "bucket": "available",
        "condition": word, "expected": expected, "actual": actual,
    }  # fmt: skip


def test_all_conditions_must_hold(funded: Scribe):
    conditions = (Condition("alice", USD, version=1), Condition("carol", USD, at_least=8))
    funded.refused(e.ConditionFailed, c.Transfer, **PAY, conditions=conditions)


def test_the_version_is_that_before_the_command_and_amounts_are_those_after_it(funded: Scribe):
    funded.do(c.Transfer, **PAY, conditions=(Condition("alice", USD, version=1, at_least=70, at_most=70),))
    funded.do(c.Transfer, **PAY, conditions=(Condition("alice", USD, version=2, at_least=40, at_most=40),))


def test_commands_that_move_no_value_have_conditions_too(funded: Scribe):
    broke = (Condition("alice", USD, at_most=99),)
    funded.refused(e.ConditionFailed, c.FreezeAccount, account="alice", conditions=broke)
    funded.refused(e.ConditionFailed, c.SetPolicy, changes={"limit_min": 1}, conditions=broke)
    funded.do(c.FreezeAccount, account="alice", conditions=(Condition("alice", USD, at_least=100),))


def test_conditions_on_locks_see_the_balance_after_the_move(funded: Scribe):
    held = Condition("alice", USD, "held", at_most=40)
    funded.refused(e.ConditionFailed, c.Hold, account="alice", asset=USD, amount=41, conditions=(held,))
    funded.do(c.Hold, account="alice", asset=USD, amount=40, conditions=(held,))


@pytest.mark.parametrize(
    ("condition", "path"),
    [
        (Condition("no spaces", USD), "conditions[0].account"),
        (Condition("alice", "usd"), "asset"),
        (Condition("alice", USD, version=1.0), "conditions[0].version"),  # type: ignore[arg-type]
        (Condition("alice", USD, at_least=True), "conditions[0].at_least"),
        (Condition("alice", USD, "pocket"), "conditions[0].bucket"),  # type: ignore[arg-type]
    ],
)
def test_a_condition_that_makes_no_sense_is_refused_by_its_path(funded: Scribe, condition: Condition, path: str):
    refusal = funded.refused(e.InvalidInput, c.Transfer, **PAY, conditions=(condition,))
    assert refusal.data["path"] == path


def test_there_may_be_a_hundred_conditions_and_no_more(funded: Scribe):
    many = tuple(Condition(f"u:{number}", USD, version=0) for number in range(MAX_CONDITIONS + 1))
    refusal = funded.refused(e.InvalidInput, c.Transfer, **PAY, conditions=many)
    assert refusal.data["path"] == "conditions"
    funded.do(c.Transfer, **PAY, conditions=many[:MAX_CONDITIONS])
