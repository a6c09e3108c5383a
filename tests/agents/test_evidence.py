"""Receipts and checkpoints through the tools: what is genuine is known as such, and nothing else is."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

import tallystick
from tallystick.evidence.home import LogHome
from tallystick.evidence.log import Log
from tallystick.service.settings import Settings
from tests.agents.conftest import here_as, talk
from tests.support.service import Served, serving

ORIGIN = "books.example/main"


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[tuple[Served, Log]]:
    """A ledger with a log, and a checkpoint over all there is."""
    with serving("memory://", Settings(log_home=str(tmp_path / "homes"))) as served:
        log = LogHome(tmp_path / "homes" / "main").begin(served.ledger, ORIGIN)
        log.checkpoint()
        yield served, log


def test_a_receipt_is_there_with_the_next_checkpoint_and_proves_what_happened(kept: tuple[Served, Log]) -> None:
    served, log = kept

    async def work() -> None:
        async with here_as(served, served.admin.token) as agent:
            done = await agent.pay("5", "k")
            soon = await agent.refused("receipt", transaction_id=done["transaction_id"])
            assert "its receipt comes with the next checkpoint" in soon
            assert "Wait 5 seconds, then repeat the same call." in soon
            log.checkpoint()
            found = await agent.done("receipt", transaction_id=done["transaction_id"])
            assert (found["origin"], found["size"]) == (ORIGIN, served.ledger.head.seq)
            for keys, trusted in (({}, "service itself"), ({"keys": [str(log.verifier)]}, "were named")):
                verdict = await agent.done("verify", receipt=found["receipt"], **keys)
                assert (verdict["verdict"], verdict["transaction_id"]) == ("included", done["transaction_id"])
                assert verdict["hash"] == done["hash"]
                assert trusted in verdict["trusted"]

    talk(work)


def test_a_receipt_that_was_changed_or_is_of_another_log_proves_nothing(
    kept: tuple[Served, Log], tmp_path: Path
) -> None:
    served, log = kept
    other = LogHome(tmp_path / "other").begin(served.database.ledger("other", policy={}), "other.example/log")
    receipt = log.receipt(1)
    assert receipt is not None
    text = receipt.encode().decode()
    extra = text.split("\n")[1].removeprefix("extra ")
    forged = base64.b64encode(base64.b64decode(extra).replace(b"alice", b"alike")).decode()
    assert forged != extra

    async def work() -> None:
        async with here_as(served, served.admin.token) as agent:
            assert (await agent.done("verify", receipt=text))["verdict"] == "included"
            for wrong in (text.replace(extra, forged), text[:-20], text.replace("index 1", "index 0"), "no receipt"):
                verdict = await agent.done("verify", receipt=wrong)
                assert verdict["verdict"] == "refused"
                assert verdict["problem"]
            stranger = await agent.done("verify", receipt=text, keys=[str(other.verifier)])
            assert stranger["verdict"] == "refused"
            assert "keys" in await agent.refused("verify", receipt=text, keys=["no key"])
            assert "Name either" in await agent.refused("verify", receipt=text, checkpoint=text)

    talk(work)


def test_a_checkpoint_is_checked_for_who_signed_it_and_whether_the_log_still_begins_so(
    kept: tuple[Served, Log], tmp_path: Path
) -> None:
    served, log = kept
    older = (log.note or b"").decode()
    served.ledger.mint("users:carol", "USD/2", 1, key="more")
    log.checkpoint()
    with tallystick.open("memory://") as database:
        ledger = database.ledger("main")
        ledger.mint("users:carol", "USD/2", 1, key="more")
        elsewhere = LogHome(tmp_path / "elsewhere").begin(ledger, ORIGIN)
        elsewhere.checkpoint()
        fork = (elsewhere.note or b"").decode()
    both = [str(log.verifier), str(elsewhere.verifier)]

    async def work() -> None:
        async with here_as(served, served.admin.token) as agent:
            newest = await agent.done("verify")
            assert (newest["verdict"], newest["origin"]) == ("signed", ORIGIN)
            assert newest["size"] == served.ledger.head.seq
            kept_then = await agent.done("verify", checkpoint=older, keys=[str(log.verifier)])
            assert (kept_then["verdict"], kept_then["checkpoint"]) == ("signed", older)
            forked = await agent.done("verify", checkpoint=fork, keys=both)
            assert forked["verdict"] == "refused", "it is signed, and the log does not begin with it"
            unknown = await agent.done("verify", checkpoint=fork)
            assert unknown["verdict"] == "refused"
            assert (await agent.done("verify", checkpoint="x"))["verdict"] == "refused"
            assert "keys" in await agent.refused("verify", checkpoint=older, keys=["no key"])

    talk(work)
