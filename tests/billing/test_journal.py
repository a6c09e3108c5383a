"""The ordered journal of an account, and the proof that opening + movements = closing."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest

import tallystick
from tallystick.billing import Billing, Movement
from tallystick.clock import BEGINNING, add_seconds
from tallystick.errors import InvalidInput
from tests.billing.conftest import ASSET, START, Key, SetClock


@pytest.fixture
def busy(billing: Billing, clock: SetClock, key: Key) -> Billing:
    """A hold at +10 s, its capture at +20 s, a refund of a part at +30 s."""
    clock.move(10)
    hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
    clock.move(10)
    charge = billing.capture_hold(hold, "order-1", amount=1_000, fee=25)
    clock.move(10)
    billing.refund_charge(charge.id, 400, key=key())
    clock.move(10)
    return billing


class TestListing:
    def test_entries_come_in_the_order_of_the_journal(self, busy: Billing) -> None:
        lines = busy.list_ledger_entries("users:ana")
        assert [(line.type, line.bucket, line.amount) for line in lines] == [
            ("mint", "available", 100_000),
            ("hold", "available", -3_000),
            ("hold", "held", 3_000),
            ("capture", "held", -3_000),
            ("capture", "available", 2_000),
            ("reversal", "available", 400),
        ]
        assert [(line.seq, line.index) for line in lines] == sorted((line.seq, line.index) for line in lines)
        assert all(line.after == line.before + line.amount for line in lines)

    @pytest.mark.parametrize(
        ("start", "end", "types"),
        [
            (10, 20, ["hold", "hold"]),
            (10, 20.000001, ["hold", "hold", "capture", "capture"]),
            (10.000001, 30, ["capture", "capture"]),
            (20, 20, []),
            (None, 10, ["mint"]),
            (30, None, ["reversal"]),
        ],
    )
    def test_the_range_takes_its_start_and_not_its_end(
        self, busy: Billing, start: float | None, end: float | None, types: list[str]
    ) -> None:
        from_ts = None if start is None else add_seconds(START, start)
        to_ts = None if end is None else add_seconds(START, end)
        assert [line.type for line in busy.list_ledger_entries("users:ana", from_ts, to_ts)] == types

    def test_times_may_be_datetimes(self, busy: Billing) -> None:
        lines = busy.list_ledger_entries("users:ana", datetime(2026, 11, 21, 9, 0, 25, tzinfo=UTC))
        assert [line.type for line in lines] == ["reversal"]

    def test_a_long_journal_is_listed_whole(self, billing: Billing, ledger: tallystick.Ledger) -> None:
        for number in range(1_300):
            ledger.transfer("users:ana", "users:bob", ASSET, 1, key=f"t{number}")
        assert [line.after for line in billing.list_ledger_entries("users:bob")] == list(range(1, 1_301))

    def test_an_unknown_account_has_none(self, billing: Billing) -> None:
        assert billing.list_ledger_entries("users:nobody") == []


class TestReconciling:
    def test_opening_and_movements_make_the_closing_balance(self, busy: Billing) -> None:
        found = busy.reconcile(add_seconds(START, 20), add_seconds(START, 30), account="users:ana")
        assert found.ok
        assert found.movements == [
            Movement(
                account="users:ana",
                asset=ASSET,
                bucket="available",
                opening=97_000,
                credits=2_000,
                debits=0,
                closing=99_000,
                entries=1,
            ),
            Movement(
                account="users:ana",
                asset=ASSET,
                bucket="held",
                opening=3_000,
                credits=0,
                debits=3_000,
                closing=0,
                entries=1,
            ),
        ]

    def test_it_covers_every_account_of_the_ledger(self, busy: Billing) -> None:
        found = busy.reconcile()
        assert found.ok
        assert found.start == BEGINNING
        assert {(movement.account, movement.bucket, movement.closing) for movement in found.movements} == {
            ("@fees", "fees", 25),
            ("@issuance", "available", -100_000),
            ("providers:gpu", "available", 575),
            ("users:ana", "available", 99_400),
            ("users:ana", "held", 0),
        }
        assert sum(movement.closing for movement in found.movements) == 0

    def test_neighbouring_periods_join_without_a_gap(self, busy: Billing) -> None:
        times = [add_seconds(START, seconds) for seconds in (0, 10, 20, 30, 31)]
        periods = [busy.reconcile(*pair, account="users:ana") for pair in pairwise(times)]
        for earlier, later in pairwise(periods):
            opening = {movement.bucket: movement.opening for movement in later.movements}
            for movement in earlier.movements:
                assert movement.closing == opening[movement.bucket]

    def test_a_period_without_movements_keeps_its_balances(self, busy: Billing) -> None:
        found = busy.reconcile(add_seconds(START, 11), add_seconds(START, 12), account="users:ana")
        assert [(m.opening, m.closing, m.entries) for m in found.movements] == [(97_000, 97_000, 0), (3_000, 3_000, 0)]

    def test_it_speaks_of_nothing_that_has_not_happened(self, busy: Billing, ledger: tallystick.Ledger) -> None:
        found = busy.reconcile(START, "2030-01-01T00:00:00Z")
        assert found.end == add_seconds(ledger.head.time, 0.000001)

    def test_an_empty_ledger_reconciles(self) -> None:
        with tallystick.open("memory://") as database:
            assert Billing(database.ledger("empty"), asset=ASSET).reconcile().ok

    def test_a_period_does_not_end_before_it_begins(self, billing: Billing) -> None:
        with pytest.raises(InvalidInput):
            billing.reconcile(add_seconds(START, 1), START)

    def test_a_difference_is_shown_with_its_amount(self) -> None:
        movement = Movement(
            account="a", asset=ASSET, bucket="available", opening=10, credits=5, debits=3, closing=13, entries=2
        )
        assert (movement.difference, movement.ok) == (1, False)
