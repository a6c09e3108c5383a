"""What billing tells others: INTENT_CREATED, ORDER_CREATED, PAYMENT_SUCCEEDED, mapped from the journal alone."""

from __future__ import annotations

import json

import pytest

import tallystick
from tallystick.billing import EXTENSION, Billing, BillingEvent
from tallystick.clock import add_seconds
from tests.billing.conftest import ASSET, START, Key


@pytest.fixture
def told(billing: Billing, key: Key) -> list[BillingEvent]:
    """The events of one charge from beginning to end, with a second hold that came to nothing."""
    hold = billing.freeze("users:ana", 3_000, "inference", key=key(), expires_in_seconds=60, trace_id="trace-7")
    spare = billing.freeze("users:ana", 50, "spare", key=key())
    charge = billing.capture_hold(hold.hold_id, "order-1", amount=1_000, fee=25)
    billing.release_hold(spare.hold_id)
    billing.refund_charge(charge.id, 100, key=key())
    billing.finalize_charge(charge.id)
    return list(billing.events())


def test_each_step_is_told_once_and_in_order(told: list[BillingEvent]) -> None:
    assert [event.type for event in told] == ["INTENT_CREATED", "INTENT_CREATED", "ORDER_CREATED", "PAYMENT_SUCCEEDED"]
    assert [event.sequence for event in told] == sorted({event.sequence for event in told})
    assert len({event.id for event in told}) == len(told)
    assert {(event.source, event.version, event.time) for event in told} == {("tallystick:compute", "1.0", START)}


def test_a_hold_is_an_intent(told: list[BillingEvent]) -> None:
    intent = told[0]
    assert intent.payload == {
        "extension": EXTENSION,
        "stage": "frozen",
        "hold_id": intent.id,
        "account": "users:ana",
        "asset": ASSET,
        "amount": "3000",
        "expires": add_seconds(START, 60),
        "reason": "inference",
    }


def test_a_capture_is_an_order_with_its_settlement(told: list[BillingEvent]) -> None:
    order = told[2]
    assert order.payload == {
        "extension": EXTENSION,
        "stage": "captured",
        "hold_id": told[0].id,
        "account": "users:ana",
        "asset": ASSET,
        "amount": "1000",
        "charge_id": order.id,
        "order_id": "order-1",
        "fee": "25",
        "released": "2000",
        "settlement": [
            {"account": "providers:gpu", "bucket": "available", "amount": "975"},
            {"account": "@fees", "bucket": "fees", "amount": "25"},
        ],
    }


def test_a_final_charge_is_a_payment(told: list[BillingEvent]) -> None:
    assert told[3].payload == {
        "extension": EXTENSION,
        "stage": "finalized",
        "hold_id": told[0].id,
        "account": "users:ana",
        "asset": ASSET,
        "amount": "1000",
        "charge_id": told[2].id,
        "order_id": "order-1",
        "fee": "25",
        "refunded": "100",
    }


def test_one_trace_runs_through_all_that_comes_of_a_hold(told: list[BillingEvent]) -> None:
    assert [event.trace_id for event in told] == ["trace-7", told[1].id, "trace-7", "trace-7"]


def test_without_a_trace_of_ones_own_it_is_the_hold(billing: Billing, key: Key) -> None:
    hold = billing.freeze("users:ana", 5, "work", key=key()).hold_id
    billing.finalize_charge(billing.capture_hold(hold, "order-1").id)
    assert {event.trace_id for event in billing.events()} == {hold}


def test_reading_resumes_behind_any_event(billing: Billing, told: list[BillingEvent]) -> None:
    for place, event in enumerate(told):
        assert list(billing.events(after=event.sequence)) == told[place + 1 :]
    assert list(billing.events(limit=2)) == told[:2]
    assert list(billing.events(after=told[1].sequence, limit=1)) == [told[2]]


def test_they_are_the_same_whenever_they_are_read(
    billing: Billing, ledger: tallystick.Ledger, told: list[BillingEvent], key: Key
) -> None:
    ledger.transfer("users:ana", "users:bob", ASSET, 1, key=key())
    assert list(Billing(ledger, asset="USD/2").events()) == told


def test_events_behind_many_others_are_found(billing: Billing, ledger: tallystick.Ledger, key: Key) -> None:
    commands = [
        tallystick.commands.Transfer(
            key=f"t{number}", from_account="users:ana", to_account="users:bob", asset=ASSET, amount=1
        )
        for number in range(2_500)
    ]
    ledger.post_many(commands)
    hold = billing.freeze("users:ana", 5, "work", key=key()).hold_id
    assert [event.id for event in billing.events()] == [hold]


def test_they_are_plain_json(told: list[BillingEvent]) -> None:
    for event in told:
        assert json.loads(json.dumps(event.to_dict()))["payload"] == event.payload


def test_holds_and_captures_that_billing_did_not_make_are_told_too(ledger: tallystick.Ledger, key: Key) -> None:
    hold = ledger.hold("users:ana", ASSET, 40, key=key()).id
    ledger.capture(hold, to_account="users:bob", amount=30, key=key())
    intent, order = Billing(ledger, asset=ASSET).events()
    assert intent.payload["reason"] == ""
    assert "order_id" not in order.payload
    assert (order.payload["amount"], order.payload["released"]) == ("30", "10")


def test_events_survive_a_rebuild(billing: Billing, ledger: tallystick.Ledger, told: list[BillingEvent]) -> None:
    assert ledger.rebuild().ok
    assert list(billing.events()) == told
