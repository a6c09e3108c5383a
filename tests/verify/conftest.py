"""The journals that these tests verify: the journey through every event type, and a longer one of plain business."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import tallystick
from tallystick.clock import add_seconds
from tallystick.commands import Command, Hold, OpenAccount, Post, Transfer
from tests.verify import bundles
from tests.verify.journey import EUR, START, USD, Told, read_bodies, tell

Write = Callable[..., Path]


@pytest.fixture(scope="session")
def told() -> Told:
    return tell()


@pytest.fixture(scope="session")
def journey(told: Told) -> list[bytes]:
    """The bytes of every event of the journey."""
    return told.bodies


@pytest.fixture(scope="session")
def trade() -> list[bytes]:
    """The bytes of 700 events, a quarter of a second apart: mints, transfers, holds, a member, a back-dated payment."""
    now = START

    def clock() -> str:
        nonlocal now
        now = add_seconds(now, 0.25)
        return now

    with tallystick.open("memory://", clock=clock) as database:
        ledger = database.ledger("main")
        for command in _business(699):
            ledger.post(command)
        assert ledger.replay().ok
        return read_bodies(database, "main")


def _business(count: int) -> list[Command]:
    people = [f"users:u{number}" for number in range(10)]
    commands: list[Command] = [
        Post(key=f"m{number}-{asset}", type="mint", legs=(tallystick.Leg("@issuance", person, asset, 10_000),))
        for number, person in enumerate(people)
        for asset in (USD, EUR)
    ]
    commands.append(OpenAccount(key="member", account="members:m", limits={USD: 2_000}))
    commands.append(Transfer(key="debt", from_account="members:m", to_account=people[0], asset=USD, amount=700))
    for number in range(len(commands), count):
        payer, payee = people[number % 10], people[(number * 7 + 3) % 10]
        if number == 640:
            legs = (tallystick.Leg(people[1], people[2], USD, 3),)
            commands.append(Post(key="late", type="transfer", legs=legs, effective="2026-01-01T00:01:20Z"))
        elif number % 50 == 0 or payer == payee:
            commands.append(Hold(key=f"h{number}", account=payer, asset=USD, amount=5, expires_in_seconds=9_999))
        else:
            asset, key = (EUR if number % 3 else USD), f"order-{number}" if number % 9 else f"ord£r-{number}"
            amount = number % 13 + 1
            more: dict[str, Any] = {}
            if number % 4 == 0:
                more = {"refs": {"order": f"o-{number}", "trace_id": "t"}, "metadata": {"b": "2", "a": '"quoted"'}}
            elif number % 7 == 0:
                more = {"reason": f"for {number} reasons", "actor": "agent:7"}
            legs = {"from_account": payer, "to_account": payee, "asset": asset, "amount": amount}
            commands.append(Transfer(key=key, **legs, **more))
    return commands


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """With each call, a new folder with a bundle of these events."""
    made = 0

    def write_one(bodies: Sequence[bytes], **more: Any) -> Path:
        nonlocal made
        made += 1
        return bundles.write_bundle(tmp_path / f"bundle{made}", bodies, **more)

    return write_one
