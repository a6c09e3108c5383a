"""The routes of accounts, balances, transactions and holds: they answer what the library answers."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tallystick.service.settings import Settings
from tests.support.service import Caller, Served, serving

MAIN = "/v1/ledgers/main"
PAY = {"from_account": "users:alice", "to_account": "users:bob", "asset": "USD/2", "amount": "1250"}


def balance(caller: Caller, account: str, bucket: str = "available") -> int:
    found = caller.get(f"{MAIN}/balances", account=account, asset="USD/2", bucket=bucket).json()["balances"]
    return int(found[0]["amount"]) if found else 0


def test_a_transfer_is_posted_and_its_balances_are_read(served: Served) -> None:
    posted = served.admin.post(f"{MAIN}/transfers", PAY)

    assert posted.status_code == 201
    assert balance(served.admin, "users:alice") == 98_750
    assert balance(served.admin, "users:bob") == 51_250
    found = served.ledger.transaction(posted.json()["id"])
    assert (found.hash, found.actor, found.source) == (posted.json()["hash"], "key:admin", "admin")


def test_the_same_key_gives_the_same_answer_marked_as_replayed(served: Served) -> None:
    first = served.admin.post(f"{MAIN}/transfers", PAY, key="once")
    again = served.admin.post(f"{MAIN}/transfers", PAY, key="once")

    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.status_code == 201
    assert {**again.json(), "replayed": False} == first.json()
    assert balance(served.admin, "users:alice") == 98_750


def test_the_same_key_with_another_request_is_a_conflict(here: Served) -> None:
    first = here.admin.done(f"{MAIN}/transfers", PAY, key="once")
    other = here.admin.post(f"{MAIN}/transfers", {**PAY, "amount": "1"}, key="once")

    assert other.status_code == 409
    assert other.json()["code"] == "idempotency_conflict"
    assert other.json()["data"]["transaction"] == first["id"]


def test_two_keys_of_one_service_do_not_share_idempotency_keys(here: Served) -> None:
    other = here.caller(role="writer")
    first = here.admin.done(f"{MAIN}/transfers", PAY, key="once")

    assert other.done(f"{MAIN}/transfers", PAY, key="once")["id"] != first["id"]


def test_a_write_without_a_key_is_refused(here: Served) -> None:
    answer = here.admin.http.post(f"{MAIN}/transfers", json=PAY)

    assert answer.status_code == 400
    assert answer.json()["path"] == "Idempotency-Key"


def test_what_was_needed_and_what_was_there_is_told(here: Served) -> None:
    answer = here.admin.post(f"{MAIN}/transfers", {**PAY, "amount": "100001"})

    problem = answer.json()
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["code"] == "insufficient_funds"
    assert problem["found"] == "100000 USD/2"
    assert "100001 USD/2" in problem["needed"]
    assert problem["retryable"] is False
    assert problem["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"amount": 12.5}, "amount"),
        ({"amount": "1.5"}, "amount"),
        ({"amount": "01"}, "amount"),
        ({"amount": True}, "amount"),
        ({"amount": None}, "amount"),
        ({"amount": "9" * 19}, "amount"),
        ({"colour": "red"}, "colour"),
        ({"from_account": 7}, "from_account"),
        ({"refs": {"order": 7}}, "refs[...]"),
    ],
)
def test_a_body_that_is_not_exactly_what_is_known_is_refused_with_its_path(
    here: Served, change: dict[str, Any], path: str
) -> None:
    answer = here.admin.post(f"{MAIN}/transfers", {**PAY, **change})

    assert answer.status_code == 400, answer.text
    assert answer.json()["path"] == path
    assert here.ledger.balance("users:alice", "USD/2") == 100_000


def test_integers_are_accepted_as_amounts_and_strings_are_answered(here: Served) -> None:
    here.admin.done(f"{MAIN}/transfers", {**PAY, "amount": 1})

    found = here.admin.get(f"{MAIN}/balances", account="users:bob").json()
    assert found["balances"][0]["amount"] == "50001"


@pytest.mark.parametrize("query", [{"colour": "red"}, {"account": "users:alice", "sort": "up"}])
def test_an_unknown_filter_is_refused_and_not_ignored(here: Served, query: dict[str, str]) -> None:
    assert here.admin.get(f"{MAIN}/balances", **query).status_code == 400


def test_a_filter_that_is_given_twice_is_refused(here: Served) -> None:
    answer = here.admin.http.get(f"{MAIN}/balances?account=users:alice&account=users:bob")
    assert (answer.status_code, answer.json()["path"]) == (400, "account")


def test_no_get_takes_a_body(here: Served) -> None:
    answer = here.admin.http.request("GET", f"{MAIN}/balances?account=users:alice", json={"account": "users:bob"})
    assert answer.status_code == 400


def test_a_dry_run_answers_and_writes_nothing(served: Served) -> None:
    answer = served.admin.post(f"{MAIN}/transfers?dry_run=true", PAY)

    assert answer.status_code == 201
    assert served.ledger.balance("users:bob", "USD/2") == 50_000


def test_a_hold_is_captured_in_part_and_given_back(served: Served) -> None:
    admin = served.admin
    hold = admin.done(f"{MAIN}/holds", {"account": "users:alice", "asset": "USD/2", "amount": "500"})
    place = f"{MAIN}/holds/{hold['seq']}"

    assert balance(admin, "users:alice", "held") == 500
    admin.done(f"{place}/capture", {"splits": [{"to_account": "users:bob", "amount": "200"}], "final": False})
    admin.done(f"{place}/top-up", {"amount": "50"})
    assert admin.get(place).json()["remaining"] == "350"
    admin.done(f"{place}/release", {})

    found = admin.get(place).json()
    assert (found["state"], found["taken"], found["remaining"]) == ("captured", "200", "0")
    assert balance(admin, "users:alice") == 99_800
    late = admin.post(f"{place}/capture", {"splits": [{"to_account": "users:bob"}]})
    assert (late.status_code, late.json()["code"]) == (409, "hold_not_open")


def test_a_transaction_is_undone_once(served: Served) -> None:
    admin = served.admin
    paid = admin.done(f"{MAIN}/transfers", PAY)
    place = f"{MAIN}/transactions/{paid['seq']}/reverse"

    admin.done(place, {"amount": "1000", "reason": "refund"})
    again = admin.post(place, {"amount": "1000"})
    assert (again.status_code, again.json()["code"]) == (409, "already_reversed")
    assert "250" in again.json()["needed"]
    assert balance(admin, "users:alice") == 99_750


def test_pages_carry_their_filters_and_show_one_moment(served: Served) -> None:
    admin = served.admin
    for number in range(5):
        admin.done(f"{MAIN}/transfers", {**PAY, "amount": str(number + 1)})
    first = admin.get(f"{MAIN}/entries", account="users:alice", bucket="available", limit=2).json()
    admin.done(f"{MAIN}/transfers", PAY)

    seen, cursor = list(first["items"]), first["cursor"]
    while cursor:
        page = admin.get(f"{MAIN}/entries", cursor=cursor).json()
        assert len(page["items"]) <= 2  # as long as the first one was
        seen += page["items"]
        cursor = page["cursor"]
    assert [line["amount"] for line in seen] == ["100000", "-1", "-2", "-3", "-4", "-5"]
    assert {line["account"] for line in seen} == {"users:alice"}


def test_a_cursor_is_good_for_its_own_list_and_filters_only(here: Served) -> None:
    here.admin.done(f"{MAIN}/transfers", PAY)
    cursor = here.admin.get(f"{MAIN}/entries", account="users:alice", limit=1).json()["cursor"]

    assert here.admin.get(f"{MAIN}/entries", cursor=cursor, account="users:bob").status_code == 400
    assert here.admin.get(f"{MAIN}/accounts", cursor=cursor).status_code == 400
    assert here.admin.get(f"{MAIN}/entries", cursor=cursor[:-2] + "AA").status_code == 400
    assert here.caller(role="reader").get(f"{MAIN}/entries", cursor=cursor).status_code == 400


def test_a_path_that_is_none_and_a_method_that_is_none_are_problems_too(here: Served) -> None:
    nowhere = here.admin.get("/v1/nowhere")
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "not_found")
    wrong = here.admin.send("DELETE", f"{MAIN}/transfers")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert "POST" in wrong.headers["allow"]


def test_without_a_key_nothing_answers(here: Served) -> None:
    for caller in (here.stranger(), here.stranger("tsk_aaaaaaaaaaaa_" + "a" * 43), here.stranger("nonsense")):
        answer = caller.get(f"{MAIN}/balances", account="users:alice")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_tokens_that_nobody_knows_are_looked_up_so_often_and_then_refused_unseen() -> None:
    with serving("memory://", Settings(unknown_tokens_per_second=5)) as found:
        assert found.admin.get(f"{MAIN}/balances", account="users:alice").status_code == 200
        strange = [found.stranger(f"tsk_{number:012d}_" + "a" * 43) for number in range(30)]
        answers = [caller.get(f"{MAIN}/balances", account="users:alice") for caller in strange]
        statuses = [answer.status_code for answer in answers]
        assert statuses[:5] == [401] * 5
        assert 429 in statuses
        assert int(answers[statuses.index(429)].headers["retry-after"]) >= 1
        assert found.admin.get(f"{MAIN}/balances", account="users:alice").status_code == 200  # who is known goes on


def test_a_ledger_is_never_looked_for_on_the_event_loop(here: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a store is slow, whoever asks for a ledger that was not met yet must keep nobody else waiting."""
    asked: list[str] = []
    ledgers = here.database.ledgers

    def watched() -> list[str]:
        asked.append(threading.current_thread().name)
        return ledgers()

    monkeypatch.setattr(here.database, "ledgers", watched)
    here.database.ledger("second").mint("users:alice", "USD/2", 1, key="1")
    for name, status in (("second", 200), ("second", 200), ("nowhere", 404)):
        assert here.admin.get(f"/v1/ledgers/{name}/balances", account="users:alice").status_code == status
    assert len(asked) == 2
    assert all(name.startswith("tallystick reading") for name in asked)
