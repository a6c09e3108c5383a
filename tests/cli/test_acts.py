"""Every kind of act has its command."""

from __future__ import annotations

import tallystick
from tallystick.clock import add_seconds, system_clock
from tallystick.events import EVENT_TYPES
from tests.cli.conftest import Tally

DIGEST = "ab" * 32


def _id(tally: Tally, *words: str) -> str:
    posted: str = tally.json(*words)["id"]
    return posted


def test_every_event_type_can_be_brought_about(tally: Tally) -> None:
    _movements(tally)
    _holds(tally)
    _stakes_and_bets(tally)
    _cells(tally)
    _state(tally)
    types = {line["event"]["type"] for line in tally.lines("events")}
    assert types == {*EVENT_TYPES, "sale"}
    assert tally.json("trial-balance")["balanced"]
    assert tally.json("replay")["ok"]


def _movements(tally: Tally) -> None:
    tally("deposit", "users:alice", "50", "USD/2", "--rail", "wire", "--external-ref", "D1")
    tally("withdraw", "users:alice", "1", "USD/2", "--tx-hash", "0x1")
    tally("burn", "users:alice", "1", "USD/2")
    moved = _id(tally, "transfer", "users:alice", "users:bob", "10", "USD/2")
    tally("settle", "users:alice", "@clearing:north", "1", "USD/2", "--netting-batch", "N1")
    tally("fee", "pay", "users:alice", "2", "USD/2")
    tally("fee", "transfer", "users:bob", "1", "USD/2", "--ref", "order=A")
    tally("fee", "burn", "1", "USD/2", "--ref", "order=A")
    tally("promo", "mint", "users:alice", "3", "USD/2")
    tally("promo", "burn", "users:alice", "1", "USD/2")
    tally("transfer", "users:alice", "@treasury", "1", "USD/2")
    tally("promo", "bonus", "users:bob/promo", "1", "USD/2")
    tally("reverse", moved, "--amount", "4")
    leg = ("--leg", "users:bob", "users:alice", "1", "USD/2")
    tally("adjust", "--corrects", moved, "--reason", "typing error", "--actor", "ops", *leg)


def _holds(tally: Tally) -> None:
    hold = _id(tally, "hold", "create", "users:alice", "10", "USD/2", "--expires-in", "3600")
    tally("hold", "top-up", hold, "2")
    tally("hold", "extend", hold, "--expires-in", "7200")
    capture = _id(tally, "hold", "capture", hold, "--to", "shops:x", "3", "--to", "@fees/fees", "1", "--keep-open")
    tally("hold", "release", hold)
    tally("charge", "finalize", capture)
    assert tally.available("shops:x") == {"USD/2": "300"}
    _expire(tally, _id(tally, "hold", "create", "users:alice", "1", "USD/2", "--expires-in", "3600"))


def _expire(tally: Tally, hold: str) -> None:
    """The command refuses before its time; an hour later, by another clock, the same act goes through."""
    assert tally.refused("hold", "expire", hold)["code"] == "hold_not_expired"
    with tallystick.open(tally.file, clock=lambda: add_seconds(system_clock(), 3600)) as book:
        assert not book.ledger("main").expire(hold, key="swept").replayed


def _stakes_and_bets(tally: Tally) -> None:
    stake = _id(tally, "stake", "lock", "users:alice", "5", "USD/2", "--escrow", "E1")
    tally("stake", "slash", stake, "users:bob", "2", "--escrow", "E1")
    tally("stake", "release", stake, "--escrow", "E1")
    bet = _id(tally, "bet", "stake", "users:alice", "2", "USD/2", "--round", "R1")
    tally("bet", "settle", bet, "0", "--house", "house", "--round", "R1")
    void = _id(tally, "bet", "stake", "users:alice", "2", "USD/2", "--round", "R2")
    tally("bet", "rollback", void, "--round", "R2")


def _cells(tally: Tally) -> None:
    tally("account", "open", "members:a", "--limit", "1000", "CRED")
    tally("account", "open", "members:b", "--limit", "1000", "CRED")
    tally("cell", "pay", "members:a", "members:b", "300", "CRED")
    tally("commitment", "create", "members:a", "100", "CRED", "--commitment", "C1")
    promised = ("--leg", "members:a", "members:b", "50", "CRED")
    tally("commitment", "fulfil", "members:a", "CRED", "--amount", "60", "--commitment", "C1", *promised)
    tally("commitment", "cancel", "members:a", "CRED", "--commitment", "C1")
    tally("federation", "import", "members:b", "10", "CRED", "--domain", "south", "--external-ref", "F1")
    tally("federation", "export", "members:b", "5", "CRED", "--domain", "south", "--external-ref", "F2")
    tally("federation", "rollback", "members:b", "@clearing:south", "5", "CRED", "--external-ref", "F2")
    tally("cell", "adjust", "--reason", "vote 7", "--leg", "members:b", "members:a", "5", "CRED")


def _state(tally: Tally) -> None:
    tally("asset", "define", "EUR/2", "--name", "euro")
    tally("account", "freeze", "members:a")
    tally("account", "unfreeze", "members:a")
    tally("account", "limit", "members:a", "CRED", "2000", "--ceiling", "9000")
    tally("account", "exclude", "members:a", "--settle-to", "members:b")
    tally("account", "open", "users:zoe")
    tally("account", "close", "users:zoe")
    tally("policy", "set", "limit_max=9000", "commitment_mode=SOFT")
    tally("type", "define", "sale", "--requires", "order")
    tally("post", "sale", "--leg", "users:alice", "shops:x", "1", "USD/2", "--ref", "order=A")
    tally("reserve", "record", "bonds", "1000", "USD/2", "--haircut-bps", "500")
    tally("attestation", "issue", DIGEST, "--statement", "covers=2026")
    tally("key", "rotate", "did:key:z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH")
    tally("period", "close", "2026-01-01")


def test_a_movement_may_name_a_bucket_behind_the_account(tally: Tally) -> None:
    tally("promo", "mint", "users:alice", "3", "USD/2")
    tally("transfer", "users:alice/promo", "users:bob", "3", "USD/2")
    assert tally.available("users:bob") == {"USD/2": "300"}


def test_legs_post_together_or_not_at_all(tally: Tally) -> None:
    first = ("--leg", "users:alice", "users:bob", "10", "USD/2")
    tally("post", "transfer", *first, "--leg", "users:alice", "users:carol", "5.50", "USD/2")
    assert tally.available("users:carol") == {"USD/2": "550"}
    tally.refused("post", "transfer", *first, "--leg", "users:alice", "users:carol", "500", "USD/2")
    assert tally.available("users:bob") == {"USD/2": "1000"}


def test_an_effective_time_dates_a_movement_back(tally: Tally) -> None:
    tally("mint", "users:dora", "5", "USD/2", "--effective", "2026-01-02T00:00:00Z")
    then = tally.json("balances", "users:dora", "--as-of", "2026-02-01")
    assert [row["amount"] for row in then] == ["500"]
    assert tally.json("balances", "users:dora", "--as-of", "2026-01-01") == []


def test_a_capture_pays_several_and_gives_back_the_rest(tally: Tally) -> None:
    hold = _id(tally, "hold", "create", "users:alice", "10", "USD/2")
    tally("hold", "capture", hold, "--to", "shops:x", "6", "--to", "@fees/fees", "0.50")
    assert tally.available("users:alice") == {"USD/2": "9350"}
    assert tally.json("holds", "--state", "captured")["id"] == hold


def test_the_last_payee_of_a_capture_may_get_the_rest(tally: Tally) -> None:
    hold = _id(tally, "hold", "create", "users:alice", "10", "USD/2")
    tally("hold", "capture", hold, "--to", "@fees/fees", "0.50", "--to", "shops:x", "rest")
    assert tally.available("shops:x") == {"USD/2": "950"}


def test_conditions_are_judged_with_the_posting(tally: Tally) -> None:
    pay = ("transfer", "users:alice", "users:bob", "60", "USD/2")
    assert tally.refused(*pay, "--if-at-least", "users:alice", "USD/2", "50")["code"] == "condition_failed"
    assert tally.refused(*pay, "--if-version", "users:alice", "USD/2", "7")["code"] == "condition_failed"
    assert tally.refused(*pay, "--if-at-most", "users:bob", "USD/2", "59.99")["code"] == "condition_failed"
    met = ("--if-at-least", "users:alice", "USD/2", "40", "--if-version", "users:alice", "USD/2", "1")
    assert tally.json(*pay, *met)["replayed"] is False


def test_holds_whose_time_has_passed_are_swept_together(tally: Tally) -> None:
    tally("hold", "create", "users:alice", "10", "USD/2", "--expires-in", "3600")
    assert tally.json("hold", "sweep") == {"expired": [], "refused": []}
    assert "given back: 0" in tally("hold", "sweep")


def test_a_stake_that_is_not_there_is_called_a_stake(tally: Tally) -> None:
    refusal = tally.refused("stake", "release", "main/99", "5", "--escrow", "e-1")
    assert refusal["message"] == "there is no stake main/99"
