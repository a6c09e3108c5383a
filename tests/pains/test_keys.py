"""Pain 12: the same request again."""

from __future__ import annotations

from tests.pains.support import MAIN, USD, Crowd, balance, hold, pay, statuses, transfer

BULK = f"{MAIN}/transactions/bulk"


def test_one_key_used_by_many_at_once_posts_once_and_answers_all(crowd: Crowd) -> None:
    """Pain 12. The second request under a key met the first one's row, and was answered with 500.
    https://github.com/formancehq/ledger/pull/1601 https://github.com/formancehq/ledger/pull/921
    """
    answers = crowd.at_once(16, lambda teller, _: teller.post(f"{MAIN}/transfers", pay(10), key="once"))

    assert statuses(answers) == {(201, ""): 16}
    assert len({answer.json()["hash"] for answer in answers}) == 1
    assert [answer.headers.get("idempotency-replayed", "") for answer in answers].count("true") == 15
    assert balance(crowd.admin, "users:alice") == 99_990
    crowd.check_books()


def test_one_key_for_two_requests_at_once_is_a_conflict_and_no_server_error(crowd: Crowd) -> None:
    """Pain 12. https://github.com/formancehq/ledger/pull/1601"""
    answers = crowd.at_once(
        12, lambda teller, number: teller.post(f"{MAIN}/transfers", pay(10 + number // 2 % 2), key="shared")
    )

    assert statuses(answers) == {(201, ""): 6, (409, "idempotency_conflict"): 6}
    assert 100_000 - balance(crowd.admin, "users:alice") in (10, 11)
    crowd.check_books()


def test_a_key_that_stands_twice_in_one_batch_is_answered(crowd: Crowd) -> None:
    """Pain 12. The same key twice in one batch crashed the server. https://github.com/formancehq/stack/pull/1633"""
    for atomic in (True, False):
        before = balance(crowd.admin, "users:alice")
        same = [transfer(10, key=f"twice {atomic}"), transfer(5), transfer(10, key=f"twice {atomic}")]
        results = crowd.admin.done(BULK, {"commands": same, "atomic": atomic})["results"]
        assert [found["status"] for found in results] == ["posted"] * 3
        assert (results[2]["id"], results[2]["replayed"]) == (results[0]["id"], True)
        assert balance(crowd.admin, "users:alice") == before - 15

        other = [transfer(1, key=f"again {atomic}"), transfer(2, key=f"again {atomic}")]
        answer = crowd.admin.post(BULK, {"commands": other, "atomic": atomic})
        assert answer.status_code == (422 if atomic else 200), answer.text
        assert "idempotency_conflict" in answer.text
        assert balance(crowd.admin, "users:alice") == before - (15 if atomic else 16)
    crowd.check_books()


def test_an_answer_is_the_same_again_whatever_has_happened_since(crowd: Crowd) -> None:
    """Pain 12. A retry was judged anew, on what the books had become, and answered with a conflict.
    https://github.com/formancehq/ledger/pull/1560
    """
    admin = crowd.admin
    body = {"account": "users:alice", "asset": USD, "amount": "100000"}
    first = [
        admin.post(f"{MAIN}/transfers", pay(50_000, "users:bob", "users:carol"), key="pay"),
        admin.post(f"{MAIN}/holds", body, key="hold"),
    ]
    number = first[1].json()["seq"]
    first.append(admin.post(f"{MAIN}/holds/{number}/release", {}, key="release"))
    admin.done(f"{MAIN}/transfers", pay(100_000, payee="users:carol"))
    admin.done(f"{MAIN}/accounts/users:bob/freeze", {})

    for teller in crowd.admins:
        again = [
            teller.post(f"{MAIN}/transfers", pay(50_000, "users:bob", "users:carol"), key="pay"),
            teller.post(f"{MAIN}/holds", body, key="hold"),
            teller.post(f"{MAIN}/holds/{number}/release", {}, key="release"),
        ]
        assert [one.status_code for one in again] == [201] * 3, [one.text for one in again]
        assert [one.json()["hash"] for one in again] == [one.json()["hash"] for one in first]
        assert all(one.headers["idempotency-replayed"] == "true" for one in again)
    crowd.check_books()


def test_a_refusal_does_not_use_up_its_key(crowd: Crowd) -> None:
    """Pain 12. What failed was remembered as the answer, or blocked its key, though the request could go through by
    then. https://github.com/formancehq/ledger/pull/921
    """
    asked = pay(5, "users:poor")
    assert crowd.admin.post(f"{MAIN}/transfers", asked, key="later").status_code == 422
    crowd.admin.done(f"{MAIN}/transfers", pay(5, payee="users:poor"))
    answer = crowd.admins[-1].post(f"{MAIN}/transfers", asked, key="later")
    assert (answer.status_code, answer.json()["replayed"]) == (201, False)


def test_a_repeated_capture_takes_nothing_more(crowd: Crowd) -> None:
    """Pain 12. https://github.com/formancehq/ledger/pull/1601"""
    found = hold(crowd.admin, 1_000)
    part = {"splits": [{"to_account": "users:bob", "amount": "200"}], "final": False}
    answers = crowd.at_once(6, lambda teller, _: teller.post(f"{MAIN}/holds/{found}/capture", part, key="part"))
    assert statuses(answers) == {(201, ""): 6}
    assert crowd.admin.get(f"{MAIN}/holds/{found}").json()["remaining"] == "800"
