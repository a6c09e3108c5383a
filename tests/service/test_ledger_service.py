"""The ledger service's surface: types of accounts, debits and credits, and the same ledger behind it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.control import Mandate, Scope
from tallystick.errors import InvalidInput
from tallystick.service.routes.ledger_service import NORMAL_SIDES, NewEntry, address_of, id_of, legs_of, type_of
from tests.support.service import Caller, Served

ACCOUNTS, TRANSACTIONS, ENTRIES = "/v1/accounts", "/v1/transactions", "/v1/entries"


def entry(account: str, direction: str, amount: object) -> dict[str, Any]:
    return {"account_id": account, "direction": direction, "amount": amount}


def post(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"currency": "USD/2", "entries": list(entries), **more}


PAID = post(entry("users:alice", "debit", "300"), entry("users:bob", "credit", "300"))


def opened(served: Served, id: str, type: str) -> dict[str, Any]:
    found: dict[str, Any] = served.admin.done(ACCOUNTS, {"id": id, "type": type, "name": id.title()})
    return found


def balance(served: Served, id: str, **query: Any) -> int:
    return int(served.admin.get(f"{ACCOUNTS}/{id}/balance", **query).json()["balance"])


def limited(served: Served, account: str, *verbs: Any, **more: Any) -> Caller:
    scopes = tuple(Scope(verb, "main", account) for verb in verbs or ("read", "post"))
    return served.caller(scopes=scopes, **more)


# ---------------------------------------------------------------- accounts


@pytest.mark.parametrize(
    ("id", "type", "side", "address"),
    [
        ("asset:bank", "asset", "debit", "@clearing:asset:bank"),
        ("expense:rent", "expense", "debit", "@clearing:expense:rent"),
        ("revenue:fees", "revenue", "credit", "@clearing:revenue:fees"),
        ("equity:opening", "equity", "credit", "@clearing:equity:opening"),
        ("users:carol", "liability", "credit", "users:carol"),
        ("did:key:z6Mkcarol", "liability", "credit", "did:key:z6Mkcarol"),
    ],
)
def test_an_account_has_a_type_and_its_normal_side(here: Served, id: str, type: str, side: str, address: str) -> None:
    made = here.admin.post(ACCOUNTS, {"id": id, "type": type, "name": "A name", "metadata": {"team": "x"}})
    found = here.admin.get(f"{ACCOUNTS}/{id}").json()

    assert made.status_code == 201
    assert made.json() == found
    assert (found["id"], found["type"], found["normal_side"], found["address"]) == (id, type, side, address)
    assert (found["name"], found["metadata"], found["status"]) == ("A name", {"team": "x"}, "active")
    account = here.ledger.account(address)
    assert account is not None
    assert account.declared.floorless is (type != "liability")


def test_an_account_without_an_id_gets_the_same_one_when_asked_again(served: Served) -> None:
    body = {"type": "asset", "name": "Bank"}
    first = served.admin.post(ACCOUNTS, body, key="once")
    again = served.admin.post(ACCOUNTS, body, key="once")
    other = served.admin.done(ACCOUNTS, body)

    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert first.json()["id"].startswith("asset:")
    assert other["id"] != first.json()["id"]
    assert type_of(served.admin.done(ACCOUNTS, {"type": "liability", "name": "x"})["id"]) == "liability"


def test_an_account_that_is_there_is_a_conflict(here: Served) -> None:
    opened(here, "asset:bank", "asset")
    again = here.admin.post(ACCOUNTS, {"id": "asset:bank", "type": "asset", "name": "Other"})
    assert (again.status_code, again.json()["code"]) == (409, "account_exists")
    assert "asset:bank" in again.json()["detail"]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"id": "bank"}, "id"),
        ({"id": "expense:bank"}, "id"),
        ({"id": "asset:bank", "type": "liability"}, "id"),
        ({"id": "@clearing:x", "type": "liability"}, "id"),
        ({"id": "asset:a b"}, "id"),
        ({"id": "asset:" + "x" * 250}, "id"),
        ({"id": "asset:"}, "id"),
        ({"type": "cash"}, "type"),
        ({"name": ""}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"metadata": {"name": "x"}}, "metadata.name"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_an_account_that_is_not_exactly_what_is_known_is_refused(
    here: Served, change: dict[str, Any], path: str
) -> None:
    answer = here.admin.post(ACCOUNTS, {"id": "asset:bank", "type": "asset", "name": "Bank", **change})
    assert answer.status_code in (400, 422)
    assert answer.json()["path"] == path


def test_an_account_that_is_not_there_is_not_found(here: Served) -> None:
    for path in (f"{ACCOUNTS}/users:nobody", f"{ACCOUNTS}/asset:nothing/balance"):
        answer = here.admin.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "account_not_found")
    assert here.admin.get(f"{ACCOUNTS}/users:alice").json()["type"] == "liability"  # used, never opened


@given(st.text(alphabet="abz:.-_", min_size=1, max_size=12), st.sampled_from(["", "asset:", "equity:", "revenue:"]))
def test_every_id_has_one_address_and_every_address_one_id(text: str, prefix: str) -> None:
    id = prefix + text
    try:
        address = address_of(id)
    except InvalidInput:
        return
    assert id_of(address) == id
    assert (address != id) is (type_of(id) != "liability")


# ---------------------------------------------------------------- debits and credits


def test_a_deposit_raises_both_balances_on_their_normal_sides(served: Served) -> None:
    opened(served, "asset:bank", "asset")
    opened(served, "users:carol", "liability")
    posted = served.admin.done(
        TRANSACTIONS, post(entry("asset:bank", "debit", "100"), entry("users:carol", "credit", "100"))
    )

    assert [(e["account_id"], e["direction"], e["amount"]) for e in posted["entries"]] == [
        ("asset:bank", "debit", "100"),
        ("users:carol", "credit", "100"),
    ]
    assert (balance(served, "asset:bank"), balance(served, "users:carol")) == (100, 100)
    assert served.ledger.balance("@clearing:asset:bank", "USD/2") == -100
    assert served.ledger.trial_balance().is_balanced


@pytest.mark.parametrize("type", list(NORMAL_SIDES))
def test_a_debit_and_a_credit_do_to_each_type_what_its_normal_side_says(here: Served, type: Any) -> None:
    id = "users:carol" if type == "liability" else f"{type}:one"
    opened(here, id, type)
    opened(here, "equity:other", "equity")
    here.admin.done(TRANSACTIONS, post(entry(id, "credit", "70"), entry("equity:other", "debit", "70")))
    here.admin.done(TRANSACTIONS, post(entry(id, "debit", "50"), entry("equity:other", "credit", "50")))

    assert balance(here, id) == (-20 if NORMAL_SIDES[type] == "debit" else 20)
    found = here.admin.get(f"{ACCOUNTS}/{id}/balance").json()
    assert (found["normal_side"], found["currency"]) == (NORMAL_SIDES[type], "USD/2")


def test_a_transaction_whose_sides_differ_is_unbalanced_and_tells_both_sums(here: Served) -> None:
    answer = here.admin.post(
        TRANSACTIONS,
        post(entry("users:alice", "debit", "10"), entry("users:alice", "debit", "5"), entry("users:bob", "credit", 14)),
    )
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "unbalanced")
    assert (problem["data"]["debits"], problem["data"]["credits"]) == ("15", "14")
    assert here.ledger.balance("users:bob", "USD/2") == 50_000
    one_sided = here.admin.post(TRANSACTIONS, post(*[entry("users:alice", "debit", "10")] * 2))
    assert (one_sided.status_code, one_sided.json()["code"]) == (422, "unbalanced")


def test_many_debits_are_matched_with_many_credits_in_their_order(here: Served) -> None:
    for name in ("carol", "dave", "erin"):
        opened(here, f"users:{name}", "liability")
    posted = here.admin.done(
        TRANSACTIONS,
        post(
            entry("users:carol", "credit", "4"),
            entry("users:alice", "debit", "10"),
            entry("users:dave", "credit", "9"),
            entry("users:bob", "debit", "5"),
            entry("users:erin", "credit", "2"),
        ),
    )

    moved = {found["account_id"]: (found["direction"], found["amount"]) for found in posted["entries"]}
    assert moved == {
        "users:alice": ("debit", "10"),
        "users:bob": ("debit", "5"),
        "users:carol": ("credit", "4"),
        "users:dave": ("credit", "9"),
        "users:erin": ("credit", "2"),
    }


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.lists(st.integers(1, 50), min_size=1, max_size=12))
def test_matching_moves_just_what_was_asked_in_as_few_movements_as_entries(debit: list[int], credit: list[int]) -> None:
    gap = sum(debit) - sum(credit)
    (credit if gap > 0 else debit).append(abs(gap)) if gap else None
    entries = [NewEntry(f"d:{n}", "debit", amount) for n, amount in enumerate(debit)]
    entries += [NewEntry(f"c:{n}", "credit", str(amount)) for n, amount in enumerate(credit)]
    legs = legs_of(entries, "USD/2")

    moved: dict[str, int] = {}
    for leg in legs:
        assert leg.amount > 0
        moved[leg.from_account] = moved.get(leg.from_account, 0) + leg.amount
        moved[leg.to_account] = moved.get(leg.to_account, 0) + leg.amount
    assert moved == {found.account_id: int(found.amount) for found in entries}
    assert len(legs) < len(entries)
    assert legs == legs_of(entries, "USD/2")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (post(entry("users:alice", "debit", "0"), entry("users:bob", "credit", "0")), "entries[0].amount"),
        (post(entry("users:alice", "debit", "-1"), entry("users:bob", "credit", "-1")), "entries[0].amount"),
        (post(entry("users:alice", "debit", 1.5), entry("users:bob", "credit", "1")), "entries[0].amount"),
        (post(entry("users:alice", "both", "1"), entry("users:bob", "credit", "1")), "entries[0].direction"),
        (post(entry("users alice", "debit", "1"), entry("users:bob", "credit", "1")), "entries[0].account_id"),
        (post(entry("users:alice", "debit", "1"), entry("@issuance", "credit", "1")), "entries[1].account_id"),
        (post(entry("users:alice", "debit", "1"), entry("users:alice", "credit", "1")), "entries"),
        (post(entry("users:alice", "debit", "1")), "entries"),
        ({**PAID, "memo": "x"}, "memo"),
        ({**PAID, "external_ref": ""}, "external_ref"),
        ({**PAID, "effective_at": "yesterday"}, "effective"),
    ],
)
def test_a_transaction_that_is_not_exactly_what_is_known_is_refused(
    here: Served, body: dict[str, Any], path: str
) -> None:
    answer = here.admin.post(TRANSACTIONS, body)
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["path"] == path
    assert here.ledger.balance("users:bob", "USD/2") == 50_000


def test_a_transaction_has_a_hundred_entries_at_most(here: Served) -> None:
    def body(number: int) -> dict[str, Any]:
        return post(
            entry("users:alice", "debit", str(number)), *[entry("users:bob", "credit", "1") for _ in range(number)]
        )

    assert here.admin.post(TRANSACTIONS, body(99)).status_code == 201
    assert here.admin.post(TRANSACTIONS, body(100)).status_code == 400
    assert here.ledger.balance("users:bob", "USD/2") == 50_099


def test_an_account_that_is_not_there_is_not_opened_by_a_transaction(here: Served) -> None:
    answer = here.admin.post(
        TRANSACTIONS, post(entry("users:alice", "debit", "1"), entry("users:nobody", "credit", "1"))
    )
    assert (answer.status_code, answer.json()["code"]) == (404, "account_not_found")
    assert here.ledger.account("users:nobody") is None


def test_an_account_that_is_closed_takes_part_in_nothing(here: Served) -> None:
    opened(here, "users:carol", "liability")
    here.ledger.close_account("users:carol", key="close")
    answer = here.admin.post(
        TRANSACTIONS, post(entry("users:alice", "debit", "1"), entry("users:carol", "credit", "1"))
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "account_not_active")
    assert here.admin.get(f"{ACCOUNTS}/users:carol").json()["status"] == "closed"


def test_a_liability_is_not_overdrawn(here: Served) -> None:
    body = post(entry("users:alice", "debit", "100001"), entry("users:bob", "credit", "100001"))
    assert here.admin.post(TRANSACTIONS, body).json()["code"] == "insufficient_funds"


def test_the_same_key_gives_the_same_transaction(served: Served) -> None:
    body = {**PAID, "external_ref": "invoice-7", "description": "rent", "metadata": {"note": "x"}}
    first = served.admin.post(TRANSACTIONS, body, key="once")
    again = served.admin.post(TRANSACTIONS, body, key="once")
    other = served.admin.post(TRANSACTIONS, {**body, "description": "other"}, key="once")

    assert first.status_code == 201
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    found = first.json()
    assert (found["external_ref"], found["description"], found["metadata"]) == ("invoice-7", "rent", {"note": "x"})
    assert (found["status"], found["type"], found["reversed_by"]) == ("posted", "transfer", [])
    assert found["hash"] == served.ledger.transaction(int(found["id"])).hash
    assert served.admin.get(f"{TRANSACTIONS}/{found['id']}").json() == found


def test_an_external_reference_is_used_once(served: Served) -> None:
    body = {**PAID, "external_ref": "invoice-7"}
    served.admin.done(TRANSACTIONS, body)
    again = served.admin.post(TRANSACTIONS, body)
    assert (again.status_code, again.json()["code"]) == (409, "duplicate_external_ref")

    codes: list[int] = []
    callers = [served.caller(role="writer") for _ in range(4)]

    def ask(caller: Caller) -> None:
        codes.append(caller.post(TRANSACTIONS, {**PAID, "external_ref": "invoice-8"}).status_code)

    threads = [threading.Thread(target=ask, args=(caller,)) for caller in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(codes) == [201, 409, 409, 409]


def test_an_external_reference_of_another_tenant_is_neither_shown_nor_in_the_way(here: Served) -> None:
    opened(here, "users:carol", "liability")
    here.admin.done(
        TRANSACTIONS,
        post(entry("users:alice", "debit", "9"), entry("users:carol", "credit", "9"), external_ref="invoice-7"),
    )
    tenant = limited(here, "users:bob")
    mine = post(entry("users:bob", "debit", "1"), entry("users:carol", "credit", "1"), external_ref="invoice-7")
    assert tenant.post(TRANSACTIONS, mine).status_code == 201
    assert tenant.post(TRANSACTIONS, mine).json()["code"] == "duplicate_external_ref"


def test_a_transaction_is_reversed_once_and_reads_as_reversed(served: Served) -> None:
    posted = served.admin.done(TRANSACTIONS, PAID)
    place = f"{TRANSACTIONS}/{posted['id']}/reverse"
    undone = served.admin.post(place, {"description": "billed twice"}, key="undo")
    again = served.admin.post(place, {"description": "billed twice"}, key="undo")
    twice = served.admin.post(place, {})

    assert undone.status_code == 201
    assert (undone.json()["reverses"], undone.json()["description"]) == (posted["id"], "billed twice")
    assert again.json() == undone.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert (twice.status_code, twice.json()["code"]) == (409, "already_reversed")
    found = served.admin.get(f"{TRANSACTIONS}/{posted['id']}").json()
    assert (found["status"], found["reversed_by"]) == ("reversed", [undone.json()["id"]])
    assert served.ledger.balance("users:alice", "USD/2") == 100_000
    assert served.admin.post(f"{TRANSACTIONS}/999/reverse", {}).status_code == 404


def test_a_transaction_that_was_undone_in_part_is_still_posted(here: Served) -> None:
    posted = here.admin.done(TRANSACTIONS, PAID)
    here.ledger.reverse(f"main/{posted['id']}", amount=100, key="part")
    found = here.admin.get(f"{TRANSACTIONS}/{posted['id']}").json()
    assert (found["status"], len(found["reversed_by"])) == ("posted", 1)
    here.admin.done(f"{TRANSACTIONS}/{posted['id']}/reverse", {})
    assert here.admin.get(f"{TRANSACTIONS}/{posted['id']}").json()["status"] == "reversed"


# ---------------------------------------------------------------- entries and balances


def test_entries_are_listed_page_by_page_in_their_order(served: Served) -> None:
    posted = [served.admin.done(TRANSACTIONS, PAID) for _ in range(4)]
    seen, page = [], served.admin.get(ENTRIES, account_id="users:alice", limit=2).json()
    served.admin.done(TRANSACTIONS, PAID)
    while True:
        seen += page["items"]
        if not page["cursor"]:
            break
        page = served.admin.get(ENTRIES, cursor=page["cursor"], limit=2).json()

    assert [(found["direction"], found["amount"]) for found in seen] == [("credit", "100000")] + [("debit", "300")] * 4
    assert [found["transaction_id"] for found in seen[1:]] == [found["id"] for found in posted]
    between = served.admin.get(
        ENTRIES, account_id="users:alice", from_=posted[1]["created_at"], to=posted[3]["created_at"]
    ).json()["items"]
    assert [found["transaction_id"] for found in between] == [found["id"] for found in posted[1:3]]
    assert served.admin.get(ENTRIES).status_code in (400, 422)
    assert served.admin.get(ENTRIES, account_id="users:alice", cursor="x").status_code == 400


def test_a_balance_is_shown_as_of_a_time(served: Served) -> None:
    first = served.admin.done(TRANSACTIONS, PAID)
    served.admin.done(TRANSACTIONS, PAID)
    served.admin.done(TRANSACTIONS, {**PAID, "effective_at": first["created_at"]})

    assert balance(served, "users:alice") == 100_000 - 900
    assert balance(served, "users:alice", as_of=first["created_at"]) == 100_000 - 600
    assert served.admin.get(f"{ACCOUNTS}/users:alice/balance", as_of="soon").status_code in (400, 422)


def test_what_is_held_is_part_of_the_balance_and_not_available(here: Served) -> None:
    here.ledger.hold("users:alice", "USD/2", 500, key="hold")
    found = here.admin.get(f"{ACCOUNTS}/users:alice/balance").json()
    assert (found["balance"], found["available"]) == ("100000", "99500")


def test_of_several_currencies_one_has_to_be_named(here: Served) -> None:
    here.ledger.mint("users:alice", "EUR/2", 7, key="euro")
    assert here.admin.get(f"{ACCOUNTS}/users:alice/balance").json()["path"] == "currency"
    assert balance(here, "users:alice", currency="EUR/2") == 7
    entries = here.admin.get(ENTRIES, account_id="users:alice", currency="EUR/2").json()["items"]
    assert [found["amount"] for found in entries] == ["7"]


# ---------------------------------------------------------------- boundaries


def test_a_key_reaches_only_the_accounts_it_is_for(here: Served) -> None:
    opened(here, "users:carol", "liability")
    opened(here, "asset:bank", "asset")
    theirs = here.admin.done(
        TRANSACTIONS, post(entry("users:alice", "debit", "9"), entry("users:carol", "credit", "9"))
    )
    caller = limited(here, "users:bob", "read", "post", "govern")
    for path in (f"{ACCOUNTS}/users:alice", f"{ACCOUNTS}/users:nobody", f"{ACCOUNTS}/asset:bank/balance"):
        assert caller.get(path).status_code == 403
    assert caller.get(ENTRIES, account_id="users:alice").status_code == 403
    assert caller.get(f"{TRANSACTIONS}/{theirs['id']}").status_code == 404
    assert caller.post(f"{TRANSACTIONS}/{theirs['id']}/reverse", {}).status_code == 404
    for debited in ("users:alice", "asset:bank", "users:nobody"):
        body = post(entry(debited, "debit", "1"), entry("users:bob", "credit", "1"))
        assert caller.post(TRANSACTIONS, body).status_code == 403
    for id, type in (("users:dave", "liability"), ("asset:other", "asset")):
        assert caller.post(ACCOUNTS, {"id": id, "type": type, "name": "x"}).status_code == 403

    mine = caller.done(TRANSACTIONS, post(entry("users:bob", "debit", "1"), entry("users:alice", "credit", "1")))
    assert "before" not in str(mine)
    assert caller.get(f"{TRANSACTIONS}/{mine['id']}").status_code == 200
    assert caller.post(f"{TRANSACTIONS}/{mine['id']}/reverse", {}).status_code == 403  # it would take from alice
    assert caller.get(f"{ACCOUNTS}/users:bob/balance").status_code == 200


def test_without_a_key_or_a_scope_nothing_answers(here: Served) -> None:
    reads = (f"{ACCOUNTS}/users:alice", f"{ACCOUNTS}/users:alice/balance", ENTRIES, f"{TRANSACTIONS}/1")
    writes = ((ACCOUNTS, {"type": "asset", "name": "x"}), (TRANSACTIONS, PAID), (f"{TRANSACTIONS}/1/reverse", {}))
    elsewhere = here.caller(scopes=(Scope("read", "other"), Scope("post", "other"), Scope("govern", "other")))
    for path in reads:
        assert here.stranger().get(path).status_code == 401
        assert elsewhere.get(path).status_code in (403, 404)
    for path, body in writes:
        assert here.stranger().post(path, body).status_code == 401
        assert here.caller(role="reader").post(path, body).status_code == 403
        assert elsewhere.post(path, body).status_code in (403, 404)
        assert here.admin.http.post(path, json=body).json()["path"] == "Idempotency-Key"


def test_a_mandate_holds_for_transactions(here: Served) -> None:
    agent = limited(here, "users:alice", mandate=Mandate("main", "users:alice", "USD/2", None, 500, (), ""))
    first = agent.post(TRANSACTIONS, PAID, key="one")
    assert first.status_code == 201
    assert agent.post(TRANSACTIONS, PAID).json()["code"] == "mandate_exceeded"
    assert agent.post(TRANSACTIONS, PAID, key="one").json() == first.json()
    assert agent.post(f"{TRANSACTIONS}/{first.json()['id']}/reverse", {}).status_code == 403
