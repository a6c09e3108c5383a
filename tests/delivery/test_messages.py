"""What an endpoint is told, and of what."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tallystick.billing import Billing
from tallystick.control.records import Endpoint
from tallystick.delivery.messages import ping_message
from tallystick.delivery.outbox import Outbox
from tallystick.delivery.transport import Message
from tallystick.erasable import Erasable
from tests.delivery.scenes import USD, Scene

EVERYTHING = Endpoint(id="e", ledger="main")


def told(scene: Scene, endpoint: Endpoint = EVERYTHING, **changes: Any) -> list[Message]:
    return Outbox(scene.ledger, msgspec.structs.replace(endpoint, **changes)).take(0, 1_000).messages


def test_an_event_is_a_cloudevent_with_the_journals_own_bytes(scene: Scene) -> None:
    scene.fund(1)
    message = told(scene)[-1]
    event = json.loads(message.body)
    posted = scene.ledger.transaction(message.id)
    assert {name: value for name, value in event.items() if name != "data"} == {
        "specversion": "1.0",
        "id": f"main/{message.seq}",
        "source": "/v1/ledgers/main",
        "type": "tallystick.mint.v1",
        "time": posted.event.time,
        "subject": f"main/{message.seq}",
        "datacontenttype": "application/json",
        "sequence": f"{message.seq:020d}",
        "ledgerhash": posted.hash,
    }
    assert message.body.endswith(b'"data":' + scene.ledger.journal.event(message.seq) + b"}")
    assert event["data"]["entries"][0]["amount"].lstrip("-").isdigit()
    assert (message.type, message.time, message.ledger) == (event["type"], event["time"], "main")


def test_the_sequence_as_text_is_in_the_journals_order(scene: Scene) -> None:
    scene.fund(12)
    sequences = [json.loads(message.body)["sequence"] for message in told(scene)]
    assert sequences == sorted(sequences)
    assert [int(sequence) for sequence in sequences] == list(range(scene.ledger.head.seq))


def test_an_erasable_text_is_not_told(scene: Scene) -> None:
    scene.fund(2)
    scene.ledger.transfer("users:0", "users:1", USD, 1, key="k", reason=Erasable("for the diagnosis"))
    assert b"diagnosis" not in told(scene)[-1].body


def test_types_are_a_filter(scene: Scene) -> None:
    scene.fund(2)
    scene.pay((0, 1))
    assert {message.type for message in told(scene, types=("transfer",))} == {"tallystick.transfer.v1"}
    assert told(scene, types=("burn",)) == []


def test_an_account_prefix_is_a_filter_on_any_of_the_accounts(scene: Scene) -> None:
    scene.fund(12)
    pay = scene.pay((1, 2), (3, 4), (10, 3), (5, 1))
    found = {message.seq for message in told(scene, account_prefix="users:1", types=("transfer",))}
    assert found == {pay[0], pay[3]}  # users:10 is somebody else
    assert {message.seq for message in told(scene, account_prefix="users:1:")} == set()


def test_the_lanes_are_the_accounts(scene: Scene) -> None:
    scene.fund(2)
    scene.pay((1, 0))
    assert told(scene)[-1].lanes == ("users:0", "users:1")
    assert told(scene, types=("mint",))[0].lanes == ("@issuance", "users:0")


def test_an_event_without_entries_is_about_the_account_that_it_names(scene: Scene) -> None:
    scene.fund(2)
    scene.ledger.freeze("users:1", key="f")
    assert told(scene)[-1].lanes == ("users:1",)


def test_a_hold_that_is_extended_and_a_charge_that_is_final_are_about_their_accounts(scene: Scene) -> None:
    scene.fund(1)
    hold = scene.ledger.hold("users:0", USD, 50, key="h")
    scene.ledger.extend(hold.id, expires_in_seconds=99_999, key="x")
    assert told(scene)[-1].lanes == ("users:0",)
    charge = scene.ledger.capture(hold.id, to_account="users:shop", key="c")
    scene.ledger.finalize_charge(charge.id, key="f")
    assert told(scene)[-1].type == "tallystick.charge_finalized.v1"
    assert told(scene)[-1].lanes == ("users:0", "users:shop")


def test_what_is_about_the_whole_ledger_has_no_lane(scene: Scene) -> None:
    scene.fund(1)
    scene.ledger.define_asset("EUR/2", key="a")
    assert told(scene)[-1].lanes == ()


@pytest.mark.parametrize(
    ("order", "lanes"), [("account", ("@issuance", "users:0")), ("holder", ("users:0",)), ("ledger", ())]
)
def test_an_endpoint_may_ask_for_another_order(scene: Scene, order: str, lanes: tuple[str, ...]) -> None:
    scene.fund(1)
    assert told(scene, settings={"order": order}, types=("mint",))[0].lanes == lanes


def test_billing_is_told_as_billing_tells_it(scene: Scene) -> None:
    scene.fund(2)
    billing = Billing(scene.ledger, asset=USD, payee="users:shop")
    freeze = billing.freeze("users:0", 500, "render", key="k")
    charge = billing.capture_hold(freeze.hold_id, "order 1", amount=300, fee=30)
    billing.refund_charge(charge.id, 20, key="r")
    billing.finalize_charge(charge.id)
    messages = told(scene, mapping="billing")
    events = list(billing.events())
    assert [message.type for message in messages] == ["INTENT_CREATED", "ORDER_CREATED", "PAYMENT_SUCCEEDED"]
    assert [json.loads(message.body)["data"] for message in messages] == [event.payload for event in events]
    assert [message.id for message in messages] == [event.id for event in events]
    assert json.loads(messages[2].body)["data"]["refunded"] == "20"
    assert messages[2].lanes == messages[1].lanes == ("@fees", "users:0", "users:shop")
    assert [message.type for message in told(scene, mapping="billing", types=("ORDER_CREATED",))] == ["ORDER_CREATED"]
    assert [message.type for message in told(scene, mapping="billing", types=("hold",))] == ["INTENT_CREATED"]


def test_a_ping_is_no_event(scene: Scene) -> None:
    message = ping_message(EVERYTHING, "abc", lambda: "2026-01-01T00:00:00.000000Z")
    event = json.loads(message.body)
    assert (message.seq, message.id, event["id"]) == (-1, "main/ping-abc", "main/ping-abc")
    assert (event["type"], event["data"]) == ("tallystick.ping.v1", {"endpoint": "e"})
    assert "sequence" not in event
