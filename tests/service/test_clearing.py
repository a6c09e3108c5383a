"""Clearing over HTTP: accounts towards other domains, and what a netting batch comes to."""

from __future__ import annotations

from typing import Any

import pytest

from tallystick.control import Scope
from tests.support.service import Caller, Served

MAIN = "/v1/ledgers/main"
ACCOUNTS = f"{MAIN}/clearing/accounts"
USD = "USD/2"
NORTH = "@clearing:north.example"


def settle(caller: Caller, payer: str, payee: str, amount: int, batch: str = "b-1", **more: Any) -> Any:
    body = {"from_account": payer, "to_account": payee, "asset": USD, "amount": str(amount), "netting_batch": batch}
    return caller.post(f"{MAIN}/settlements", {**body, **more})


@pytest.fixture
def cleared(here: Served) -> Served:
    """With an account towards north."""
    here.admin.done(ACCOUNTS, {"domain": "north.example"})
    return here


def test_a_clearing_account_may_go_into_debt_without_end(served: Served) -> None:
    posted = served.admin.done(ACCOUNTS, {"domain": "north.example"}, key="once")
    assert served.admin.done(ACCOUNTS, {"domain": "north.example"}, key="once") == {**posted, "replayed": True}

    (account,) = served.admin.get(ACCOUNTS).json()["items"]
    assert (account["address"], account["floorless"]) == (NORTH, True)
    assert settle(served.admin, NORTH, "users:alice", 1_000_000).status_code == 201
    (account,) = served.admin.get(ACCOUNTS).json()["items"]
    assert [balance["amount"] for balance in account["balances"]] == ["-1000000"]


@pytest.mark.parametrize("domain", ["", "a b", "north/example", "x" * 250, "@clearing:north"])
def test_what_is_no_domain_is_refused(here: Served, domain: str) -> None:
    assert here.admin.post(ACCOUNTS, {"domain": domain}).status_code == 400
    assert here.admin.get(ACCOUNTS).json()["items"] == []


def test_a_clearing_account_is_declared_by_who_governs_it(here: Served) -> None:
    caller = here.caller(
        scopes=(Scope("govern", "main", "@clearing:north.example"), Scope("read", "main", "@clearing:north.example"))
    )
    assert caller.post(ACCOUNTS, {"domain": "north.example"}).status_code == 201
    assert caller.post(ACCOUNTS, {"domain": "south.example"}).status_code == 403
    here.admin.done(ACCOUNTS, {"domain": "south.example"})
    assert [account["address"] for account in caller.get(ACCOUNTS).json()["items"]] == [NORTH]
    assert here.caller(scopes=(Scope("read", "main", "users:"),)).get(ACCOUNTS).status_code == 403


def test_clearing_accounts_are_listed_page_by_page_as_of_the_first(here: Served) -> None:
    for name in "edcba":
        here.admin.done(ACCOUNTS, {"domain": name})
    here.admin.done(f"{MAIN}/accounts", {"account": "users:carol"})
    seen, more = [], {}
    while True:
        page = here.admin.get(ACCOUNTS, limit=2, **more).json()
        seen += page["items"]
        if not page["cursor"]:
            break
        settle(here.admin, "users:alice", "@clearing:e", 1)
        more = {"cursor": page["cursor"]}
    assert [account["address"] for account in seen] == [f"@clearing:{name}" for name in "abcde"]
    assert all(account["balances"] == [] for account in seen)


def test_a_settlement_goes_through_a_clearing_account(cleared: Served) -> None:
    posted = settle(cleared.admin, "users:alice", NORTH, 100, reason="January").json()
    found = cleared.ledger.transaction(posted["id"])
    assert (found.type, found.event.refs) == ("settlement", {"netting_batch": "b-1"})
    assert settle(cleared.admin, "users:alice", "users:bob", 1).json()["code"] == "move_not_allowed"
    assert settle(cleared.admin, "users:alice", NORTH, 0).status_code == 400
    assert settle(cleared.admin, "users:alice", NORTH, 1, batch="").status_code == 400


def test_a_settlement_names_one_batch(cleared: Served) -> None:
    assert settle(cleared.admin, "users:alice", NORTH, 1, refs={"netting_batch": "b-1", "order": "o"}).is_success
    wrong = settle(cleared.admin, "users:alice", NORTH, 1, refs={"netting_batch": "b-2"})
    assert (wrong.status_code, wrong.json()["path"]) == (422, "refs.netting_batch")


def test_out_of_a_clearing_account_takes_the_verb_issue(cleared: Served) -> None:
    payer = cleared.caller(scopes=(Scope("post", "main", "users:alice"),))
    assert settle(payer, "users:alice", NORTH, 1).status_code == 201
    assert settle(payer, "users:bob", NORTH, 1).status_code == 403
    assert settle(payer, NORTH, "users:alice", 1).status_code == 403
    writer = cleared.caller(role="writer")
    assert settle(writer, NORTH, "users:alice", 1).status_code == 201


def test_a_batch_is_added_up_by_account_and_asset(served: Served) -> None:
    served.admin.done(ACCOUNTS, {"domain": "north.example"})
    settle(served.admin, "users:alice", NORTH, 100)
    settle(served.admin, NORTH, "users:bob", 30)
    settle(served.admin, "users:alice", NORTH, 7)
    settle(served.admin, "users:alice", NORTH, 999, batch="b-2")

    found = served.admin.get(f"{MAIN}/clearing/batches/b-1").json()
    assert [one["type"] for one in found["items"]] == ["settlement"] * 3
    assert [tuple(total.values()) for total in found["totals"]] == [
        (NORTH, USD, "107", "30", "77"),
        ("users:alice", USD, "0", "107", "-107"),
        ("users:bob", USD, "30", "0", "30"),
    ]
    assert sum(int(total["net"]) for total in found["totals"]) == 0
    assert served.admin.get(f"{MAIN}/clearing/batches/b-3").status_code == 404


def test_a_batch_is_shown_page_by_page_as_it_was_at_first(cleared: Served) -> None:
    seqs = [settle(cleared.admin, "users:alice", NORTH, 1).json()["seq"] for _ in range(5)]
    place = f"{MAIN}/clearing/batches/b-1"
    first = cleared.admin.get(place, limit=2).json()
    settle(cleared.admin, "users:alice", NORTH, 1)
    seen, page = list(first["items"]), first
    while page["cursor"]:
        page = cleared.admin.get(place, limit=2, cursor=page["cursor"]).json()
        assert page["totals"] is None
        seen += page["items"]
    assert [one["seq"] for one in seen] == seqs
    assert first["totals"][0]["received"] == "5"
    other = cleared.admin.get(f"{MAIN}/clearing/batches/b-2", cursor=first["cursor"])
    assert other.status_code == 400


def test_a_batch_shows_each_only_his_own(cleared: Served) -> None:
    settle(cleared.admin, "users:alice", NORTH, 100)
    settle(cleared.admin, "users:bob", NORTH, 30)
    place = f"{MAIN}/clearing/batches/b-1"

    alice = cleared.caller(scopes=(Scope("read", "main", "users:alice"),)).get(place).json()
    assert [total["account"] for total in alice["totals"]] == ["users:alice"]
    (one,) = alice["items"]
    shown = {entry["account"]: entry["after"] for entry in one["entries"]}
    assert shown == {"users:alice": "99900", NORTH: None}
    carol = cleared.caller(scopes=(Scope("read", "main", "users:carol"),)).get(place)
    nobody = cleared.admin.get(f"{MAIN}/clearing/batches/b-9")
    assert carol.status_code == nobody.status_code == 404
    assert carol.json()["detail"].replace("b-1", "b-9") == nobody.json()["detail"]


def test_what_was_undone_is_in_the_batch_if_it_bears_its_reference(cleared: Served) -> None:
    cleared.admin.done(f"{MAIN}/accounts", {"account": "users:carol"})
    settle(cleared.admin, "users:alice", NORTH, 100)
    cleared.ledger.transfer("users:bob", "users:alice", USD, 40, key="back", refs={"netting_batch": "b-1"})
    found = cleared.admin.get(f"{MAIN}/clearing/batches/b-1").json()
    nets = {total["account"]: total["net"] for total in found["totals"]}
    assert nets == {NORTH: "100", "users:alice": "-60", "users:bob": "-40"}
