"""Ledgers: which there are, where they stand, and how one is made."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from tallystick.commands import SetPolicy
from tallystick.ledger import Ledger
from tallystick.service.calls import Call
from tallystick.service.operations import Group
from tallystick.wire.answers import LedgerAnswer, Page
from tallystick.wire.fields import LedgerName, Rules, rules_of
from tallystick.wire.forms import form

LEDGERS = Group("Ledgers")

_HERE = "/v1/ledgers/{ledger}"


class NewLedger(Struct, frozen=True, forbid_unknown_fields=True):
    """A ledger that is to be made, with the rules that differ from the usual ones."""

    name: LedgerName
    policy: Rules = Rules()


@LEDGERS.read("/v1/ledgers", answer=Page[str], in_ledger=False, any_ledger=True)
def list_ledgers(call: Call) -> Page[str]:
    """The ledgers in which this key may read."""
    return Page([name for name in call.service.database.ledgers() if call.principal.may("read", name)])


@LEDGERS.write(
    "/v1/ledgers",
    verb="govern",
    whole=True,
    in_ledger=False,
    body=NewLedger,
    answer=LedgerAnswer,
    status=201,
    example={"name": "cell-north", "policy": {"commitment_mode": "SOFT"}},
)
def create_ledger(call: Call) -> LedgerAnswer:
    """Make a ledger, or find it as it is.

    It is there with its first event, ``ledger_opened``. Asking again for a ledger that is there changes nothing.
    """
    name = call.body.name
    if name in call.service.database.ledgers():
        call.replayed = True
        return ledger_answer(call.service.database.ledger(name))
    made = call.service.database.ledger(name, policy=rules_of(call.body.policy))
    made.set_policy(
        {"strict": made.policy.strict}, key=call.key, source=call.principal.source, actor=call.principal.actor
    )
    return ledger_answer(made)


@LEDGERS.read(_HERE, answer=LedgerAnswer)
def get_ledger(call: Call) -> LedgerAnswer:
    """Where a ledger stands, and its rules."""
    return ledger_answer(call.ledger)


@LEDGERS.act(
    f"{_HERE}/policy",
    form(SetPolicy),
    verb="govern",
    whole=True,
    example={"changes": {"hold_expires_in_seconds": 3600}},
)
def set_policy(call: Call) -> Any:
    """Change rules of the ledger: fields of its policy, by name."""
    return call.command()


def ledger_answer(ledger: Ledger) -> LedgerAnswer:
    head = ledger.head
    return LedgerAnswer(ledger.name, head.seq, head.hash, head.time, msgspec.to_builtins(ledger.policy))
