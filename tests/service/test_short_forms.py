"""Short forms: the default ledger without its name, and the shapes of agent markets."""

from __future__ import annotations

from typing import Any

import pytest

from tallystick.control import Mandate, Scope
from tallystick.service.settings import Settings
from tests.support.service import Caller, Served, serving

PAY = {"from_account": "users:alice", "to_account": "users:bob", "asset": "USD/2", "amount": "1250"}


def move(**more: Any) -> dict[str, Any]:
    """A transfer from alice to bob as agent markets write it."""
    return {
        "currency": "USD/2",
        "from": {"account": "users:alice", "bucket": "A"},
        "to": {"account": "users:bob", "bucket": "A"},
        "amount_minor": "5000",
        **more,
    }


def limited(served: Served, account: str, **more: Any) -> Caller:
    return served.caller(scopes=(Scope("read", "main", account), Scope("post", "main", account)), **more)


# ---------------------------------------------------------------- the ledger's own shapes


def test_the_short_forms_are_those_of_the_default_ledger(served: Served) -> None:
    posted = served.admin.done("/transfers", PAY, key="once")
    again = served.admin.post("/v1/ledgers/main/transfers", PAY, key="once")

    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["id"] == posted["id"]
    short = served.admin.get("/balances", account="users:alice")
    assert short.json() == served.admin.get("/v1/ledgers/main/balances", account="users:alice").json()
    assert short.json()["balances"][0]["amount"] == "98750"


def test_the_default_ledger_is_a_setting() -> None:
    with serving("memory://", Settings(default_ledger="cell")) as here:
        assert here.admin.get("/balances", account="users:alice").status_code == 404
        here.database.ledger("cell").mint("users:alice", "USD/2", 7, key="alice")
        found = here.admin.get("/balances", account="users:alice").json()
        assert (found["ledger"], found["balances"][0]["amount"]) == ("cell", "7")
        assert here.admin.get("/v1/balances", did="users:alice").json()["buckets"]["A"] == "7"


@pytest.mark.parametrize(("path", "name"), [("/balances", "account"), ("/v1/balances", "did")])
def test_balances_are_for_keys_that_may_read_them(here: Served, path: str, name: str) -> None:
    query = {name: "users:alice"}
    assert here.stranger().get(path, **query).status_code == 401
    assert limited(here, "users:bob").get(path, **query).status_code == 403
    assert limited(here, "users:alice").get(path, **query).status_code == 200
    assert here.caller(scopes=(Scope("read", "other"),)).get(path, **query).status_code in (403, 404)


@pytest.mark.parametrize(("path", "body"), [("/transfers", PAY), ("/v1/transfers", move())])
def test_transfers_are_for_keys_that_may_post_them(here: Served, path: str, body: dict[str, Any]) -> None:
    assert here.stranger().post(path, body).status_code == 401
    assert limited(here, "users:bob").post(path, body).status_code == 403
    assert here.caller(role="reader").post(path, body).status_code == 403
    assert here.caller(scopes=(Scope("post", "other"),)).post(path, body).status_code in (403, 404)
    assert here.ledger.balance("users:bob", "USD/2") == 50_000
    assert limited(here, "users:alice").post(path, body).status_code == 201


# ---------------------------------------------------------------- the shapes of agent markets


def test_balances_show_every_bucket_by_its_letter(served: Served) -> None:
    served.ledger.hold("users:alice", "USD/2", 500, key="hold")
    served.ledger.stake_lock("users:alice", "USD/2", 300, refs={"escrow": "e"}, key="stake")
    served.ledger.promo_mint("users:alice", "USD/2", 20, key="promo")
    found = served.admin.get("/v1/balances", did="users:alice").json()

    assert found == {
        "did": "users:alice",
        "currency": "USD/2",
        "buckets": {"A": "99200", "H": "500", "B": "300", "F": "0", "P": "20"},
        "as_of": served.ledger.head.time,
    }


def test_an_account_that_was_never_used_stands_at_zero(here: Served) -> None:
    found = here.admin.get("/v1/balances", did="did:key:z6Mkfriend", currency="USD").json()
    assert (found["currency"], set(found["buckets"].values())) == ("USD", {"0"})


def test_of_several_currencies_one_has_to_be_named(here: Served) -> None:
    here.ledger.mint("users:alice", "EUR/2", 7, key="euro")
    refused = here.admin.get("/v1/balances", did="users:alice")

    assert refused.json()["path"] == "currency"
    for currency in ("EUR", "EUR/2"):
        found = here.admin.get("/v1/balances", did="users:alice", currency=currency).json()
        assert (found["currency"], found["buckets"]["A"]) == ("EUR/2", "7")


def test_a_transfer_between_buckets_is_posted_once(served: Served) -> None:
    body = move(metadata={"reason": "delivery", "escrow_id": "escrow-1", "note": "thanks"})
    answer = served.admin.post("/v1/transfers", body, key="once")
    again = served.admin.post("/v1/transfers", body, key="once")

    assert (answer.status_code, answer.json()["status"]) == (201, "posted")
    assert again.json() == answer.json()
    assert again.headers["idempotency-replayed"] == "true"
    found = served.ledger.transaction(answer.json()["event_id"])
    assert (found.type, found.refs, found.data["reason"]) == ("transfer", {"escrow": "escrow-1"}, "delivery")
    assert found.data["metadata"] == {"note": "thanks"}
    assert served.ledger.balance("users:bob", "USD/2") == 55_000


def test_the_key_in_the_body_agrees_with_the_header(here: Served) -> None:
    good = here.admin.post("/v1/transfers", move(idempotency_key="mine"), key="mine")
    other = here.admin.post("/v1/transfers", move(idempotency_key="mine"), key="yours")

    assert good.status_code == 201
    assert other.json()["path"] == "idempotency_key"
    assert other.status_code in (400, 422)
    assert here.ledger.balance("users:bob", "USD/2") == 55_000


def test_a_currency_without_its_scale_is_the_one_that_the_payer_has(here: Served) -> None:
    assert here.admin.post("/v1/transfers", move(currency="USD")).status_code == 201
    nothing = here.admin.post("/v1/transfers", move(currency="EUR"))
    assert (nothing.status_code, nothing.json()["code"]) == (422, "insufficient_funds")
    wrong = here.admin.post("/v1/transfers", move(currency="not a currency"))
    assert wrong.status_code in (400, 422)


@pytest.mark.parametrize(
    ("change", "type"),
    [
        ({"to": {"account": "@fees", "bucket": "F"}}, "fee"),
        ({"to": {"account": "users:bob", "bucket": "P"}}, "bonus_credit"),
        ({"to": {"account": "clearing:cuts", "bucket": "A"}}, "transfer"),
        ({"to": {"account": "clearing:cuts", "bucket": "A"}, "metadata": {"netting_batch_id": "n-1"}}, "settlement"),
        ({"to": {"account": "clearing:cuts", "bucket": "F"}}, "fee"),
        ({"to": {"account": "users:bob"}, "from": {"account": "users:alice"}}, "transfer"),
    ],
)
def test_the_buckets_say_what_kind_of_transfer_it_is(here: Served, change: dict[str, Any], type: str) -> None:
    answer = here.admin.done("/v1/transfers", move(**change))

    found = here.ledger.transaction(answer["event_id"])
    assert found.type == type
    assert sum(entry.amount for entry in found.entries) == 0


def test_fees_are_paid_out_with_their_origin(here: Served) -> None:
    here.admin.done("/v1/transfers", move(to={"account": "@fees", "bucket": "F"}))
    out = move(**{"from": {"account": "@fees", "bucket": "F"}, "amount_minor": 100})
    without = here.admin.post("/v1/transfers", out)
    assert (without.status_code, without.json()["code"]) == (422, "reference_required")
    done = here.admin.done("/v1/transfers", {**out, "metadata": {"escrow_id": "e-1"}})
    assert here.ledger.transaction(done["event_id"]).type == "fee_transfer"
    assert limited(here, "users:").post("/v1/transfers", {**out, "metadata": {"escrow_id": "e-1"}}).status_code == 403


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"from": {"account": "users:alice", "bucket": "H"}}, "from.bucket"),
        ({"to": {"account": "users:bob", "bucket": "B"}}, "to.bucket"),
        ({"to": {"account": "users:bob", "bucket": "X"}}, "to.bucket"),
        ({"to": {"account": "users bob"}}, "to.account"),
        ({"amount_minor": 1.5}, "amount_minor"),
        ({"amount_minor": "9" * 19}, "amount_minor"),
        ({"metadata": {"escrow": "a", "escrow_id": "b"}}, "metadata.escrow_id"),
        ({"metadata": {"n": 7}}, "metadata[...]"),
        ({"colour": "red"}, "colour"),
        ({"idempotency_key": ""}, "idempotency_key"),
    ],
)
def test_a_transfer_that_is_not_exactly_what_is_known_is_refused(
    here: Served, change: dict[str, Any], path: str
) -> None:
    answer = here.admin.post("/v1/transfers", move(**change))

    assert answer.status_code in (400, 422)
    assert answer.json()["path"] == path
    assert here.ledger.balance("users:bob", "USD/2") == 50_000


def test_a_mandate_holds_for_the_short_forms(here: Served) -> None:
    agent = limited(here, "users:alice", mandate=Mandate("main", "users:alice", "USD/2", None, 6_000, (), ""))
    first = agent.post("/v1/transfers", move(), key="one")
    assert first.status_code == 201
    over = agent.post("/v1/transfers", move())
    assert (over.status_code, over.json()["code"]) == (422, "mandate_exceeded")
    assert agent.post("/v1/transfers", move(), key="one").json() == first.json()
    assert agent.post("/transfers", PAY).json()["code"] == "mandate_exceeded"
