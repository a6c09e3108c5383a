"""Freeze, capture, release; finalize or refund: the life of a charge."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

import tallystick
from tallystick.billing import Billing, OrderConflict, Settlement
from tallystick.clock import add_seconds
from tallystick.errors import (
    AlreadyReversed,
    ChargeNotOpen,
    HoldExpired,
    HoldNotFound,
    HoldNotOpen,
    IdempotencyConflict,
    InsufficientFunds,
    InvalidInput,
    OverCapture,
    Refusal,
    SelfTransfer,
)
from tests.billing.conftest import ASSET, START, Key, SetClock


def held(ledger: tallystick.Ledger) -> int:
    return ledger.balance("users:ana", ASSET, "held")


class TestFreezing:
    def test_it_answers_with_a_hold_and_its_expiry(self, billing: Billing, ledger: tallystick.Ledger) -> None:
        frozen = billing.freeze("users:ana", 3_000, "inference", key="f1", expires_in_seconds=60)
        assert frozen.expires == add_seconds(START, 60)
        assert (frozen.account, frozen.asset, frozen.amount, frozen.reason) == ("users:ana", ASSET, 3_000, "inference")
        hold = ledger.hold_by_id(frozen.hold_id)
        assert hold is not None
        assert (hold.remaining, hold.expires) == (3_000, frozen.expires)
        assert (ledger.balance("users:ana", ASSET), held(ledger)) == (97_000, 3_000)

    def test_without_an_expiry_the_ledgers_policy_counts(self, billing: Billing) -> None:
        assert billing.freeze("users:ana", 1, "work", key="f1").expires == add_seconds(START, 7 * 86_400)

    def test_nobody_freezes_what_is_not_there(self, billing: Billing) -> None:
        with pytest.raises(InsufficientFunds):
            billing.freeze("users:ana", 100_001, "work", key="f1")

    def test_the_same_key_gives_an_equal_answer(self, billing: Billing, ledger: tallystick.Ledger) -> None:
        first = billing.freeze("users:ana", 3_000, "work", key="f1")
        ledger.extend(first.hold_id, expires_in_seconds=9_000_000, key="later")
        assert billing.freeze("users:ana", 3_000, "work", key="f1") == first
        assert held(ledger) == 3_000

    def test_another_freeze_under_the_key_is_a_conflict(self, billing: Billing) -> None:
        billing.freeze("users:ana", 3_000, "work", key="f1")
        with pytest.raises(IdempotencyConflict):
            billing.freeze("users:ana", 3_001, "work", key="f1")

    @pytest.mark.parametrize("amount", [0, -1, 1.5, "1"])
    def test_an_amount_is_a_positive_integer(self, billing: Billing, amount: int) -> None:
        with pytest.raises(Refusal):
            billing.freeze("users:ana", amount, "work", key="f1")


class TestCapturing:
    def test_a_whole_hold_is_charged(self, billing: Billing, ledger: tallystick.Ledger, key: Key) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        charge = billing.capture_hold(hold, "order-1")
        assert (charge.amount, charge.released, charge.fee, charge.state) == (3_000, 0, 0, "captured")
        assert (charge.hold_id, charge.order_id, charge.payee) == (hold, "order-1", "providers:gpu")
        assert ledger.balance("providers:gpu", ASSET) == 3_000
        assert held(ledger) == 0

    def test_what_was_not_used_goes_back_in_the_same_event(
        self, billing: Billing, ledger: tallystick.Ledger, key: Key
    ) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        seq = ledger.head.seq
        charge = billing.capture_hold(hold, "order-1", amount=1_200)
        assert ledger.head.seq == seq + 1
        assert (charge.amount, charge.released) == (1_200, 1_800)
        assert (ledger.balance("users:ana", ASSET), held(ledger)) == (98_800, 0)

    def test_a_fee_is_part_of_the_amount(self, billing: Billing, ledger: tallystick.Ledger, key: Key) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        charge = billing.capture_hold(hold, "order-1", amount=1_000, fee=25, payee="providers:cpu")
        assert charge.settlement == (
            Settlement("providers:cpu", "available", 975),
            Settlement("@fees", "fees", 25),
        )
        assert (charge.amount, charge.fee, charge.payee) == (1_000, 25, "providers:cpu")
        assert ledger.balance("@fees", ASSET, "fees") == 25

    def test_the_whole_amount_may_be_a_fee(self, billing: Billing, key: Key) -> None:
        hold = billing.freeze("users:ana", 10, "work", key=key()).hold_id
        charge = billing.capture_hold(hold, "order-1", amount=10, fee=10)
        assert charge.settlement == (Settlement("@fees", "fees", 10),)

    @pytest.mark.parametrize("fee", [-1, 3_001, 1.0, True, "1"])
    def test_a_fee_lies_within_the_amount(self, billing: Billing, key: Key, fee: int) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        with pytest.raises(InvalidInput) as refused:
            billing.capture_hold(hold, "order-1", amount=3_000, fee=fee)
        assert refused.value.data["path"] == "fee"

    def test_the_same_order_again_is_the_same_charge(
        self, billing: Billing, ledger: tallystick.Ledger, key: Key
    ) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        whole = billing.capture_hold(hold, "order-1")
        assert billing.capture_hold(hold, "order-1") == whole
        billing.finalize_charge(whole.id)
        assert billing.capture_hold(hold, "order-1") == whole
        assert ledger.balance("providers:gpu", ASSET) == 3_000

    def test_another_order_on_a_captured_hold_is_a_conflict(self, billing: Billing, key: Key) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        billing.capture_hold(hold, "order-1", amount=10)
        with pytest.raises(OrderConflict) as refused:
            billing.capture_hold(hold, "order-2", amount=10)
        assert refused.value.data == {"hold": hold, "order": "order-2"}

    def test_an_order_is_not_charged_to_two_holds(self, billing: Billing, key: Key) -> None:
        one = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        two = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        billing.capture_hold(one, "order-1")
        with pytest.raises(IdempotencyConflict):
            billing.capture_hold(two, "order-1")

    @pytest.mark.parametrize("more", [{}, {"amount": 11}, {"amount": 10, "fee": 1}, {"amount": 10, "payee": "x"}])
    def test_an_order_is_not_charged_in_two_ways(self, billing: Billing, key: Key, more: dict) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        billing.capture_hold(hold, "order-1", amount=10, final=False)
        with pytest.raises(IdempotencyConflict):
            billing.capture_hold(hold, "order-1", final=False, **more)

    def test_several_orders_are_charged_until_one_is_final(
        self, billing: Billing, ledger: tallystick.Ledger, key: Key
    ) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        first = billing.capture_hold(hold, "order-1", amount=1_000, final=False)
        second = billing.capture_hold(hold, "order-2", amount=500, final=False)
        assert billing.capture_hold(hold, "order-1", amount=1_000, final=False) == first
        last = billing.capture_hold(hold, "order-3", amount=200)
        assert (first.released, second.released, last.released) == (0, 0, 1_300)
        assert ledger.balance("providers:gpu", ASSET) == 1_700
        with pytest.raises(OrderConflict):
            billing.capture_hold(hold, "order-4", amount=1)

    def test_nobody_captures_more_than_is_held(self, billing: Billing, key: Key) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        with pytest.raises(OverCapture):
            billing.capture_hold(hold, "order-1", amount=3_001)

    def test_capturing_nothing_is_refused(self, billing: Billing, key: Key) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        with pytest.raises(Refusal):
            billing.capture_hold(hold, "order-1", amount=0)

    def test_nobody_is_the_payee_of_an_own_hold(self, billing: Billing, key: Key) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        with pytest.raises(SelfTransfer):
            billing.capture_hold(hold, "order-1", payee="users:ana")

    def test_without_an_amount_the_payee_gets_what_the_fee_leaves(self, billing: Billing, key: Key) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        charge = billing.capture_hold(hold, "order-1", fee=25)
        assert [part.amount for part in charge.settlement] == [2_975, 25]

    def test_an_expired_hold_is_not_captured(self, billing: Billing, clock: SetClock, key: Key) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key(), expires_in_seconds=60).hold_id
        clock.move(60)
        with pytest.raises(HoldExpired):
            billing.capture_hold(hold, "order-1")

    def test_an_order_charged_in_time_is_answered_after_the_expiry(
        self, billing: Billing, clock: SetClock, key: Key
    ) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key(), expires_in_seconds=60).hold_id
        charge = billing.capture_hold(hold, "order-1", amount=10, final=False)
        clock.move(60)
        assert billing.capture_hold(hold, "order-1", amount=10, final=False) == charge

    def test_a_released_hold_is_not_captured(self, billing: Billing, key: Key) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        billing.release_hold(hold)
        with pytest.raises(HoldNotOpen) as refused:
            billing.capture_hold(hold, "order-1")
        assert refused.value.data["state"] == "released"

    def test_there_must_be_such_a_hold(self, billing: Billing) -> None:
        with pytest.raises(HoldNotFound):
            billing.capture_hold("compute/999", "order-1")

    def test_a_stake_is_no_hold(self, billing: Billing, ledger: tallystick.Ledger) -> None:
        stake = ledger.stake_lock("users:ana", ASSET, 10, refs={"escrow": "e"}, key="stake").id
        with pytest.raises(HoldNotFound):
            billing.capture_hold(stake, "order-1")

    @pytest.mark.parametrize("order", ["", "x" * 241, None])
    def test_an_order_has_an_id(self, billing: Billing, key: Key, order: str) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        with pytest.raises(InvalidInput) as refused:
            billing.capture_hold(hold, order)
        assert refused.value.data["path"] == "order_id"

    def test_an_id_of_the_longest_length_is_taken(self, billing: Billing, key: Key) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        assert billing.capture_hold(hold, "x" * 240).order_id == "x" * 240

    def test_somebody_must_be_paid(self, ledger: tallystick.Ledger, key: Key) -> None:
        billing = Billing(ledger, asset=ASSET)
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        with pytest.raises(InvalidInput) as refused:
            billing.capture_hold(hold, "order-1")
        assert refused.value.data["path"] == "payee"

    def test_many_threads_charge_an_order_once(self, billing: Billing, ledger: tallystick.Ledger, key: Key) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        with ThreadPoolExecutor(8) as threads:
            charges = set(threads.map(lambda _: billing.capture_hold(hold, "order-1", amount=700).id, range(24)))
        assert len(charges) == 1
        assert ledger.balance("providers:gpu", ASSET) == 700


class TestReleasing:
    def test_all_of_it_goes_back(self, billing: Billing, ledger: tallystick.Ledger, key: Key) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        released = billing.release_hold(hold)
        assert (released.hold_id, released.account, released.amount) == (hold, "users:ana", 3_000)
        assert (ledger.balance("users:ana", ASSET), held(ledger)) == (100_000, 0)
        assert billing.release_hold(hold) == released

    def test_a_second_release_under_another_key_is_refused(self, billing: Billing, key: Key) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        billing.release_hold(hold)
        with pytest.raises(HoldNotOpen):
            billing.release_hold(hold, key="again")

    def test_a_part_needs_a_key_of_its_own(self, billing: Billing, ledger: tallystick.Ledger, key: Key) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        with pytest.raises(InvalidInput):
            billing.release_hold(hold, amount=1_000)
        assert billing.release_hold(hold, amount=1_000, key=key()).amount == 1_000
        assert held(ledger) == 2_000

    def test_the_rest_of_a_partly_captured_hold_goes_back(
        self, billing: Billing, ledger: tallystick.Ledger, key: Key
    ) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        billing.capture_hold(hold, "order-1", amount=1_000, final=False)
        assert billing.release_hold(hold).amount == 2_000
        assert (ledger.balance("users:ana", ASSET), held(ledger)) == (99_000, 0)


class TestFinalizing:
    def test_a_final_charge_stays_as_it_is(self, billing: Billing, key: Key) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        charge = billing.capture_hold(hold, "order-1")
        final = billing.finalize_charge(charge.id)
        assert (final.state, final.amount) == ("finalized", 3_000)
        assert billing.get_charge(charge.id) == final
        assert billing.finalize_charge(charge.id) == final
        with pytest.raises(ChargeNotOpen) as refused:
            billing.finalize_charge(charge.id, key="again")
        assert refused.value.data["state"] == "finalized"
        with pytest.raises(ChargeNotOpen):
            billing.refund_charge(charge.id)

    def test_a_refunded_charge_is_not_finalized(self, billing: Billing, key: Key) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        charge = billing.capture_hold(hold, "order-1")
        billing.refund_charge(charge.id)
        with pytest.raises(ChargeNotOpen) as refused:
            billing.finalize_charge(charge.id)
        assert refused.value.data["state"] == "refunded"

    def test_a_partly_refunded_charge_may_be(self, billing: Billing, key: Key) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        charge = billing.capture_hold(hold, "order-1")
        refund = billing.refund_charge(charge.id, 1_000, key="part")
        final = billing.finalize_charge(charge.id)
        assert (final.state, final.refunded) == ("finalized", 1_000)
        assert billing.refund_charge(charge.id, 1_000, key="part") == refund

    @pytest.mark.parametrize("charge_id", ["compute/999", "compute/1", "nonsense", ""])
    def test_there_must_be_such_a_charge(self, billing: Billing, charge_id: str) -> None:
        assert billing.get_charge(charge_id) is None
        with pytest.raises(HoldNotFound) as refused:
            billing.finalize_charge(charge_id)
        assert refused.value.data["kind"] == "charge"


class TestRefunding:
    def test_all_of_it_is_paid_back_with_its_fee(self, billing: Billing, ledger: tallystick.Ledger, key: Key) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        charge = billing.capture_hold(hold, "order-1", amount=1_000, fee=25)
        refund = billing.refund_charge(charge.id)
        assert (refund.charge_id, refund.order_id) == (charge.id, "order-1")
        assert (refund.account, refund.amount, refund.fee) == ("users:ana", 1_000, 25)
        assert ledger.balance("users:ana", ASSET) == 100_000
        assert (ledger.balance("providers:gpu", ASSET), ledger.balance("@fees", ASSET, "fees")) == (0, 0)
        found = billing.get_charge(charge.id)
        assert found is not None
        assert (found.state, found.refunded) == ("refunded", 1_000)
        assert billing.refund_charge(charge.id) == refund

    def test_parts_add_up_and_never_exceed_it(self, billing: Billing, key: Key) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        charge = billing.capture_hold(hold, "order-1", amount=1_000, fee=25)
        billing.refund_charge(charge.id, 400, fee=10, key=key())
        found = billing.get_charge(charge.id)
        assert found is not None
        assert (found.state, found.refunded) == ("captured", 400)
        with pytest.raises(AlreadyReversed):
            billing.refund_charge(charge.id, 586, key=key())
        rest = billing.refund_charge(charge.id)
        assert (rest.amount, rest.fee) == (600, 15)
        with pytest.raises(AlreadyReversed):
            billing.refund_charge(charge.id, 1, key=key())

    def test_a_part_needs_a_key_of_its_own(self, billing: Billing, key: Key) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        charge = billing.capture_hold(hold, "order-1")
        with pytest.raises(InvalidInput) as refused:
            billing.refund_charge(charge.id, 10)
        assert refused.value.data["path"] == "key"

    @pytest.mark.parametrize(("amount", "fee"), [(10, 11), (10, -1), (None, 5), (10, 5)])
    def test_a_fee_comes_back_only_out_of_a_fee(self, billing: Billing, key: Key, amount: int | None, fee: int) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        charge = billing.capture_hold(hold, "order-1")
        with pytest.raises(InvalidInput) as refused:
            billing.refund_charge(charge.id, amount, fee=fee, key=key())
        assert refused.value.data["path"] == "fee"

    def test_what_the_payee_has_spent_does_not_come_back(
        self, billing: Billing, ledger: tallystick.Ledger, key: Key
    ) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        charge = billing.capture_hold(hold, "order-1")
        ledger.transfer("providers:gpu", "suppliers:power", ASSET, 2_500, key=key())
        with pytest.raises(InsufficientFunds):
            billing.refund_charge(charge.id)
        assert billing.refund_charge(charge.id, 500, key=key()).amount == 500

    def test_a_reversal_that_billing_did_not_ask_for_counts_too(
        self, billing: Billing, ledger: tallystick.Ledger, key: Key
    ) -> None:
        hold = billing.freeze("users:ana", 3_000, "work", key=key()).hold_id
        charge = billing.capture_hold(hold, "order-1")
        ledger.reverse(charge.id, key=key())
        found = billing.get_charge(charge.id)
        assert found is not None
        assert (found.state, found.refunded) == ("refunded", 3_000)


def test_fees_go_to_a_fee_pool(ledger: tallystick.Ledger) -> None:
    with pytest.raises(InvalidInput) as refused:
        Billing(ledger, asset=ASSET, fee_account="users:bob")
    assert refused.value.data["path"] == "fee_account"
