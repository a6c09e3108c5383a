"""The billing extension for A2A: its schema accepts what billing tells and nothing else; how it is asked for."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tallystick.billing import EXTENSION, Billing
from tallystick.billing.extension import (
    HEADER,
    MAX_HEADER,
    STAGES,
    carry,
    descriptor,
    extension_schema,
    is_activated,
    schema_text,
)
from tallystick.billing.mapping import TOLD
from tests.billing.conftest import Key

DOCS = Path(__file__).resolve().parents[2] / "docs"
VALIDATOR = jsonschema.Draft202012Validator(extension_schema())


@pytest.fixture
def payloads(billing: Billing, key: Key) -> list[dict[str, Any]]:
    """What is told of charges: with and without an order, a fee, a rest, a refund."""
    hold = billing.freeze("users:ana", 3_000, "inference", key=key(), order_id="order-1")
    charge = billing.capture_hold(hold.hold_id, "order-1", amount=1_000, fee=25)
    billing.refund_charge(charge.id, 100, key=key())
    billing.finalize_charge(charge.id)
    plain = billing.freeze("users:ana", 50, "", key=key())
    billing.capture_hold(plain.hold_id, "order-2")
    return [event.payload for event in billing.events()]


def test_what_billing_tells_is_what_the_schema_says(payloads: list[dict[str, Any]]) -> None:
    jsonschema.Draft202012Validator.check_schema(extension_schema())
    assert {payload["stage"] for payload in payloads} == set(STAGES.values())
    for payload in payloads:
        assert list(VALIDATOR.iter_errors(json.loads(json.dumps(payload)))) == []


def test_an_object_that_is_not_whole_or_has_more_or_other_values_is_none(payloads: list[dict[str, Any]]) -> None:
    for payload in payloads:
        for name in payload:
            missing = {part: value for part, value in payload.items() if part != name}
            assert VALIDATOR.is_valid(missing) is (name == "order_id"), name
            assert not VALIDATOR.is_valid({**payload, name: 5}), name
        assert not VALIDATOR.is_valid({**payload, "more": "x"})
        assert not VALIDATOR.is_valid({**payload, "extension": EXTENSION[:-1] + "1"})
        assert not VALIDATOR.is_valid({**payload, "amount": "-1"})
        others = set(STAGES.values()) - {payload["stage"]}
        assert not any(VALIDATOR.is_valid({**payload, "stage": stage}) for stage in others)
        if "settlement" in payload:
            changed = copy.deepcopy(payload)
            changed["settlement"][0]["more"] = "x"
            assert not VALIDATOR.is_valid(changed)


def test_the_stages_are_those_of_the_mapping(payloads: list[dict[str, Any]], billing: Billing) -> None:
    assert list(STAGES) == list(TOLD.values())
    assert all(STAGES[event.type] == event.payload["stage"] for event in billing.events())


def test_the_schema_that_is_handed_out_is_current() -> None:
    assert (DOCS / "billing-extension.schema.json").read_text() == schema_text()


def test_an_agents_card_declares_it_with_where_it_is_paid() -> None:
    least = descriptor()
    assert least.keys() == {"uri", "description", "required", "params"}
    assert (least["uri"], least["required"]) == (EXTENSION, False)
    assert least["params"] == {"version": "1.0", "stages": ["frozen", "captured", "finalized"]}
    paid = descriptor(required=True, service="https://l.example", ledger="main", payee="agents:x", assets=["USD/2"])
    assert paid["required"] is True
    assert {"service", "ledger", "payee", "assets"} < paid["params"].keys()


@pytest.mark.parametrize(
    ("headers", "active"),
    [
        ({HEADER: EXTENSION}, True),
        ({"a2a-extensions": f"https://x.example/v1, {EXTENSION}"}, True),
        ({"X-A2A-Extensions": f"{EXTENSION},https://x.example/v1"}, True),
        ([("other", EXTENSION), (HEADER, "https://x.example")], False),
        ([(HEADER, "https://x.example"), (HEADER, EXTENSION)], True),
        ({HEADER: EXTENSION.replace("1.0", "1.1")}, False),
        ({HEADER: EXTENSION + "/x"}, False),
        ({HEADER: EXTENSION.upper()}, False),
        ({HEADER: ""}, False),
        ({}, False),
        ({HEADER: EXTENSION + "," + "x" * (MAX_HEADER - len(EXTENSION) - 1)}, True),
        ({HEADER: EXTENSION + "," + "x" * (MAX_HEADER - len(EXTENSION))}, False),
    ],
)
def test_it_is_active_only_if_exactly_this_version_is_asked_for(headers: Any, active: bool) -> None:
    assert is_activated(headers) is active


def test_it_is_carried_under_its_uri_beside_what_else_is_there() -> None:
    metadata = {"trace": "t"}
    assert carry(metadata, {"stage": "frozen"}) == {"trace": "t", EXTENSION: {"stage": "frozen"}}
    assert metadata == {"trace": "t"}
