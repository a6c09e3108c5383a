"""The billing extension over HTTP: its description for everyone, its object for who may read the transaction."""

from __future__ import annotations

from typing import Any

import jsonschema

from tallystick.billing import EXTENSION, Billing
from tallystick.billing.extension import descriptor, extension_schema
from tallystick.control import Scope
from tests.support.service import Served

MAIN = "/v1/ledgers/main"


def charged(served: Served) -> list[Any]:
    """What billing tells of a charge from beginning to end."""
    billing = Billing(served.ledger, asset="USD/2", payee="users:bob")
    hold = billing.freeze("users:alice", 500, "gpu", key="k", order_id="o-1")
    charge = billing.capture_hold(hold.hold_id, "o-1", amount=300)
    billing.refund_charge(charge.id, 50, key="r")
    billing.finalize_charge(charge.id)
    return list(billing.events())


def test_everyone_may_know_what_the_extension_is(here: Served) -> None:
    found = here.stranger().get("/v1/extensions/billing")

    assert found.status_code == 200
    assert (found.json()["uri"], found.json()["version"], found.json()["header"]) == (
        EXTENSION,
        "1.0",
        "A2A-Extensions",
    )
    assert found.json()["descriptor"] == descriptor()
    assert found.json()["schema"] == extension_schema()


def test_the_object_of_a_transaction_is_what_billing_tells_of_it(served: Served) -> None:
    for event in charged(served):
        found = served.admin.get(f"{MAIN}/transactions/{event.sequence}/billing")
        assert found.json() == event.to_dict()
        assert "a2a-extensions" not in found.headers
        jsonschema.validate(found.json()["payload"], extension_schema())


def test_the_answer_confirms_the_extension_if_exactly_this_version_was_asked_for(here: Served) -> None:
    path = f"{MAIN}/transactions/{charged(here)[0].sequence}/billing"
    for name in ("A2A-Extensions", "X-A2A-Extensions"):
        found = here.admin.http.get(path, headers={name: f"https://x.example/v1, {EXTENSION}"})
        assert found.headers["a2a-extensions"] == EXTENSION
    other = here.admin.http.get(path, headers={"A2A-Extensions": EXTENSION.replace("1.0", "2.0")})
    assert other.status_code == 200
    assert "a2a-extensions" not in other.headers


def test_of_what_is_no_charge_or_not_the_keys_to_read_there_is_none(here: Served) -> None:
    seq = charged(here)[0].sequence
    bob = here.caller(scopes=(Scope("read", "main", "users:bob"),))

    assert here.admin.get(f"{MAIN}/transactions/1/billing").status_code == 404
    assert here.admin.get(f"{MAIN}/transactions/999/billing").status_code == 404
    hidden, absent = bob.get(f"{MAIN}/transactions/{seq}/billing"), bob.get(f"{MAIN}/transactions/999/billing")
    assert (
        (hidden.status_code, hidden.json()["code"]) == (absent.status_code, absent.json()["code"]) == (404, "not_found")
    )
    assert here.stranger().get(f"{MAIN}/transactions/{seq}/billing").status_code == 401
