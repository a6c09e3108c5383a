"""A short journal that uses every event type, always the same to the byte."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import tallystick
from tallystick import Leg, Split
from tallystick import commands as c
from tallystick.clock import add_seconds

USD, EUR = "USD/2", "EUR/2"
ALICE, BOB, CAROL, HOUSE = "users:alice", "users:bob", "did:key:z6MkCarol", "users:house"
MIA, NOA = "members:mia", "members:noa"
START = "2026-01-01T00:00:00.000000Z"


class Told:
    """The ledger that the journey was told to, and what was in it at the end."""

    def __init__(self) -> None:
        self.now = START
        self.bodies: list[bytes] = []
        self.balances: list[dict[str, Any]] = []
        self.locks: list[dict[str, Any]] = []

    def clock(self) -> str:
        self.now = add_seconds(self.now, 1)
        return self.now


def tell() -> Told:
    """Post the whole journey to a ledger in memory."""
    told = Told()
    numbers = count(1)

    def key() -> str:
        return f"key-{next(numbers)}"

    with tallystick.open("memory://", clock=told.clock) as database:
        ledger = database.ledger("main", policy={"limit_max": 9_000})
        for part in (_supply, _movements, _holds, _stakes_and_bets, _cells, _repair, _state):
            part(ledger, key, told)
        assert ledger.replay().ok
        told.bodies = read_bodies(database, "main")
        told.balances = [
            {"account": a, "asset": s, "bucket": b, "amount": str(found.amount), "version": found.version}
            for a, s, b, found in sorted(database._store.balances("main"))
        ]
        told.locks = [
            {
                "id": lock.id,
                "kind": lock.kind,
                "account": lock.account,
                "asset": lock.asset,
                "left": str(lock.remaining),
            }
            for lock in sorted(database._store.locks("main", limit=1_000), key=lambda lock: lock.id)
            if lock.is_open
        ]
    return told


def read_bodies(database: tallystick.Database, name: str) -> list[bytes]:
    """The bytes of every event of a ledger."""
    head = database._store.head(name)
    assert head is not None
    return database._store.events(name, 0, head.seq)


Key = Callable[[], str]


def _supply(ledger: tallystick.Ledger, key: Key, told: Told) -> None:
    for account in (ALICE, BOB, CAROL, HOUSE, "@treasury"):
        ledger.mint(account, USD, 10_000, key=key())
    ledger.deposit(ALICE, EUR, 5_000, refs={"tx_hash": "0xabc", "network": "base"}, key=key())
    ledger.withdraw(ALICE, EUR, 1_000, refs={"external_ref": "wire-7"}, key=key())
    ledger.burn(BOB, USD, 100, key=key())
    ledger.promo_mint(ALICE, USD, 500, key=key())
    ledger.promo_burn(ALICE, USD, 100, key=key())
    ledger.bonus(BOB, USD, 50, key=key())


def _movements(ledger: tallystick.Ledger, key: Key, told: Told) -> None:
    ledger.transfer(ALICE, BOB, USD, 1_200, key=key())
    ledger.transfer(BOB, CAROL, USD, 300, actor="agent:7", key=key())
    more: dict[str, Any] = {
        "refs": {"order": "o-1", "trace_id": "t-1"},
        "metadata": {"note": "naïve café ✓ \U0001f9fe"},
    }
    ledger.transfer(CAROL, ALICE, USD, 25, reason='lunch: "soup",\n\\ bread', key=key(), **more)
    legs = [Leg(ALICE, BOB, USD, 5), Leg(ALICE, CAROL, EUR, 4)]
    ledger.transact("transfer", legs, key=key())
    ledger.transact("transfer", [Leg(BOB, ALICE, USD, 30)], effective="2026-01-01T00:00:15.500000Z", key=key())
    ledger.settle(ALICE, "@clearing:north", USD, 70, netting_batch="n-1", key=key())
    ledger.settle("@clearing:north", BOB, USD, 20, netting_batch="n-1", key=key())
    ledger.fee(ALICE, USD, 100, key=key())
    ledger.fee(ALICE, USD, 10, bucket="promo", key=key())
    ledger.fee_transfer("@treasury", USD, 30, refs={"order": "o-1"}, key=key())
    ledger.fee_burn(USD, 5, refs={"trial": "t-9"}, key=key())


def _holds(ledger: tallystick.Ledger, key: Key, told: Told) -> None:
    hold = ledger.hold(ALICE, USD, 1_000, expires_in_seconds=600, key=key())
    ledger.top_up(hold.id, 200, key=key())
    ledger.extend(hold.id, expires_in_seconds=900, key=key())
    ledger.capture(hold.id, [Split(BOB, 300), Split("@fees", 15, "fees")], final=False, key=key())
    ledger.release(hold.id, 85, key=key())
    charge = ledger.capture(hold.id, to_account=CAROL, amount=500, key=key())
    ledger.reverse(charge.id, 40, key=key())
    ledger.finalize_charge(charge.id, key=key())
    late = ledger.hold(BOB, USD, 77, expires_in_seconds=5, key=key())
    told.now = add_seconds(told.now, 60)
    ledger.expire(late.id, key=key())
    ledger.hold(CAROL, USD, 33, expires="2027-01-01T00:00:00Z", key=key())


def _stakes_and_bets(ledger: tallystick.Ledger, key: Key, told: Told) -> None:
    case = {"escrow": "e-1"}
    stake = ledger.stake_lock(CAROL, USD, 900, refs=case, key=key())
    ledger.stake_release(stake.id, 100, refs=case, key=key())
    ledger.stake_slash(stake.id, "@treasury", 250, refs=case, key=key())
    ledger.stake_slash(stake.id, "@issuance", 50, refs=case, key=key())
    won = ledger.bet_stake(ALICE, USD, 60, round="r-1", key=key())
    ledger.bet_settle(won.id, 150, house=HOUSE, round="r-1", key=key())
    lost = ledger.bet_stake(ALICE, USD, 60, round="r-2", key=key())
    ledger.bet_settle(lost.id, 0, house=HOUSE, round="r-2", key=key())
    even = ledger.bet_stake(BOB, USD, 40, round="r-3", key=key())
    ledger.bet_settle(even.id, 40, house=HOUSE, round="r-3", key=key())
    void = ledger.bet_stake(BOB, USD, 10, round="r-4", key=key())
    ledger.bet_rollback(void.id, round="r-4", key=key())


def _cells(ledger: tallystick.Ledger, key: Key, told: Told) -> None:
    promise = {"commitment": "c/7"}
    for member in (MIA, NOA):
        ledger.open_account(member, limits={USD: 2_000}, ceilings={USD: 50_000}, key=key())
    ledger.open_account("@clearing:cell-b", floorless=True, key=key())
    ledger.transact("spot_payment", [Leg(MIA, NOA, USD, 600)], key=key())
    create = c.CommitmentCreate(key=key(), member=MIA, asset=USD, amount=900, refs=promise)
    ledger.post(create)
    legs = (Leg(MIA, NOA, USD, 350),)
    ledger.post(c.CommitmentFulfil(key=key(), member=MIA, asset=USD, amount=400, legs=legs, refs=promise))
    ledger.post(c.CommitmentCancel(key=key(), member=MIA, asset=USD, amount=100, refs=promise))
    away = {"refs": {"external_ref": "cell-b/4"}}
    ledger.transact("federation_import", [Leg(NOA, "@clearing:cell-b", USD, 80)], key=key(), **away)
    ledger.transact("federation_export", [Leg("@clearing:cell-b", MIA, USD, 120)], key=key(), **away)
    ledger.transact("federation_rollback", [Leg("@clearing:cell-b", NOA, USD, 80)], key=key(), **away)
    ledger.transact("governance_adjustment", [Leg(NOA, MIA, USD, 10)], reason="decision 12", key=key())


def _repair(ledger: tallystick.Ledger, key: Key, told: Told) -> None:
    paid = ledger.transfer(ALICE, BOB, USD, 90, key=key())
    ledger.reverse(paid.id, 30, key=key())
    ledger.reverse(paid.id, key=key())
    legs = [Leg(BOB, "@fees", USD, 3, "available", "fees")]
    ledger.adjust(legs, corrects=paid.id, reason="booked twice", actor="ops:carol", key=key())


def _state(ledger: tallystick.Ledger, key: Key, told: Told) -> None:
    ledger.set_limit(MIA, USD, 1_500, ceiling=40_000, key=key())
    ledger.set_limit(NOA, USD, clear_ceiling=True, key=key())
    ledger.define_asset("GOLD/4", name="Gold", key=key())
    ledger.define_type("marketplace_sale", requires=["order"], summary="a sale", key=key())
    ledger.transact("marketplace_sale", [Leg(ALICE, HOUSE, USD, 7)], refs={"order": "o-2"}, key=key())
    ledger.record_reserve("vault:1", USD, 10**15, haircut_bps=250, provider="B", valid_until="2027-01-01", key=key())
    ledger.post(c.IssueAttestation(key=key(), digest="ab" * 32, statement={"covered": "yes"}))
    ledger.post(c.RotateKey(key=key(), public_key="ledger.example/main+00000000+AQ=="))
    ledger.freeze(CAROL, key=key())
    ledger.transfer(ALICE, CAROL, USD, 1, key=key())
    ledger.unfreeze(CAROL, key=key())
    ledger.freeze(HOUSE, key=key())
    ledger.close_account(HOUSE, settle_to=ALICE, key=key())
    ledger.exclude(NOA, settle_to=MIA, key=key())
    ledger.close_period(START, key=key())
    ledger.set_policy({"commitment_mode": "SOFT", "strict": True}, key=key())
    ledger.open_account("users:late", key=key())
    ledger.transfer(MIA, "users:late", USD, 1, key=key())
