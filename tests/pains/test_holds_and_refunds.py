"""Pains 5, 6 and 10: what was set aside, and what was given back."""

from __future__ import annotations

from tests.pains.support import MAIN, USD, Crowd, Teller, balance, hold, pay, statuses
from tests.support.service import serving
from tests.support.stores import on_lasting_stores

TO_BOB = [{"to_account": "users:bob"}]


def available(teller: Teller, account: str = "users:alice") -> int:
    return int(teller.get(f"{MAIN}/accounts/{account}/available", asset=USD).json()["available"])


def test_a_hold_is_no_longer_available(crowd: Crowd) -> None:
    """Pain 5. Amounts that were on hold still counted as available, so the same money could be held or spent again.
    https://github.com/blnkfinance/blnk/issues/181
    """
    hold(crowd.admin, 60_000)

    for admin in crowd.admins:
        assert (balance(admin, "users:alice"), balance(admin, "users:alice", "held")) == (40_000, 60_000)
        assert available(admin) == 40_000
        spent = admin.post(f"{MAIN}/transfers", pay(40_001))
        assert (spent.status_code, spent.json()["found"]) == (422, "40000 USD/2")
        again = admin.post(f"{MAIN}/holds", {"account": "users:alice", "asset": USD, "amount": "40001"})
        assert again.json()["code"] == "insufficient_funds"
    crowd.check_books()


def test_holds_and_payments_that_come_together_never_take_more_than_there_is(crowd: Crowd) -> None:
    """Pain 5, with many at once. https://github.com/blnkfinance/blnk/issues/181"""

    def take(teller: Teller, number: int) -> object:
        if number % 2:
            return teller.post(f"{MAIN}/transfers", pay(15_000))
        return teller.post(f"{MAIN}/holds", {"account": "users:alice", "asset": USD, "amount": "15000"})

    answers = crowd.at_once(16, take)
    assert statuses(answers) == {(201, ""): 6, (422, "insufficient_funds"): 10}  # type: ignore[arg-type]
    assert balance(crowd.admin, "users:alice") == 10_000
    crowd.check_books()


def test_a_hold_that_was_refused_or_given_back_cannot_be_captured(crowd: Crowd) -> None:
    """Pain 6. A hold that had been rejected could still be committed. https://github.com/blnkfinance/blnk/issues/182"""
    refused = crowd.admin.post(f"{MAIN}/holds", {"account": "users:alice", "asset": USD, "amount": "100001"})
    assert refused.status_code == 422
    head = crowd.admin.get(MAIN).json()["events"]
    assert crowd.admin.post(f"{MAIN}/holds/{head}/capture", {"splits": TO_BOB}).status_code == 404

    given_back = hold(crowd.admin, 500)
    crowd.admin.done(f"{MAIN}/holds/{given_back}/release", {})
    for act, body in [("capture", {"splits": TO_BOB}), ("release", {}), ("top-up", {"amount": "5"})]:
        for admin in crowd.admins:
            answer = admin.post(f"{MAIN}/holds/{given_back}/{act}", body)
            assert (answer.status_code, answer.json()["code"]) == (409, "hold_not_open"), act
    assert balance(crowd.admin, "users:bob") == 50_000
    crowd.check_books()


@on_lasting_stores
def test_an_expired_hold_cannot_be_captured_even_before_anybody_swept_it(url: str) -> None:
    """Pain 6. What counts is the time of the capture, not whether some job has passed by.
    https://github.com/blnkfinance/blnk/issues/182
    """
    now = ["2026-01-01T00:00:00.000000Z"]
    with serving(url, clock=lambda: now[0]) as served, Crowd(url, [served]) as crowd:
        found = hold(crowd.admin, 500, expires_in_seconds=60)
        now[0] = "2026-01-01T00:01:00.000000Z"
        late = crowd.admin.post(f"{MAIN}/holds/{found}/capture", {"splits": TO_BOB})
        assert (late.status_code, late.json()["code"]) == (409, "hold_expired")
        assert crowd.admin.get(f"{MAIN}/holds/{found}").json()["state"] == "expired"
        crowd.admin.done(f"{MAIN}/holds/{found}/expire", {})
        assert balance(crowd.admin, "users:alice") == 100_000


def test_captures_that_come_together_never_take_more_than_was_held(crowd: Crowd) -> None:
    """Pain 6. Captures at the same time committed more than the hold. https://github.com/blnkfinance/blnk/pull/171"""
    found = hold(crowd.admin, 1_000)
    part = {"splits": [{"to_account": "users:bob", "amount": "300"}], "final": False}
    answers = crowd.at_once(12, lambda teller, _: teller.post(f"{MAIN}/holds/{found}/capture", part))

    assert statuses(answers) == {(201, ""): 3, (422, "over_capture"): 9}
    shown = crowd.admin.get(f"{MAIN}/holds/{found}").json()
    assert (shown["taken"], shown["remaining"]) == ("900", "100")
    assert balance(crowd.admin, "users:alice", "held") == 100
    assert balance(crowd.admin, "users:bob") == 50_900
    crowd.check_books()


def test_of_a_capture_and_a_release_that_come_together_one_wins(crowd: Crowd) -> None:
    """Pain 6. Whatever the order, a hold is paid out or given back, never both.
    https://github.com/blnkfinance/blnk/issues/182
    """
    for _ in range(4):
        before = balance(crowd.admin, "users:alice"), balance(crowd.admin, "users:bob")
        found = hold(crowd.admin, 700)
        acts = [("capture", {"splits": TO_BOB}), ("release", {})]

        def end(teller: Teller, number: int, found: str = found, acts: list[tuple[str, object]] = acts) -> object:  # type: ignore[assignment]
            act, body = acts[number // 2 % 2]
            return teller.post(f"{MAIN}/holds/{found}/{act}", body)

        answers = crowd.at_once(4, end)
        assert statuses(answers) == {(201, ""): 1, (409, "hold_not_open"): 3}  # type: ignore[arg-type]
        paid = 700 if balance(crowd.admin, "users:bob") > before[1] else 0
        after = balance(crowd.admin, "users:alice"), balance(crowd.admin, "users:bob")
        assert after == (before[0] - paid, before[1] + paid)
        assert balance(crowd.admin, "users:alice", "held") == 0
    crowd.check_books()


def test_nothing_is_refunded_twice(crowd: Crowd) -> None:
    """Pain 10. The same transaction could be refunded again and again. https://github.com/blnkfinance/blnk/issues/152"""
    sale = crowd.admin.done(f"{MAIN}/transfers", pay(1_000))["seq"]
    answers = crowd.at_once(10, lambda teller, _: teller.post(f"{MAIN}/transactions/{sale}/reverse", {}))

    assert statuses(answers) == {(201, ""): 1, (409, "already_reversed"): 9}
    assert balance(crowd.admin, "users:alice") == 100_000
    crowd.check_books()


def test_refunds_in_parts_never_exceed_what_was_paid(crowd: Crowd) -> None:
    """Pain 10. Nor do parts add up to more than the whole, whoever asks for them at once, nor is a refund refunded.
    https://github.com/blnkfinance/blnk/issues/152
    """
    sale = crowd.admin.done(f"{MAIN}/transfers", pay(1_000))["seq"]
    path = f"{MAIN}/transactions/{sale}/reverse"
    answers = crowd.at_once(10, lambda teller, _: teller.post(path, {"amount": "300"}))

    assert statuses(answers) == {(201, ""): 3, (409, "already_reversed"): 7}
    assert balance(crowd.admin, "users:alice") == 99_900
    part = next(answer.json()["seq"] for answer in answers if answer.status_code == 201)
    again = crowd.admin.post(f"{MAIN}/transactions/{part}/reverse", {})
    assert (again.status_code, again.json()["code"]) == (422, "not_reversible")
    crowd.admin.done(path, {})
    assert balance(crowd.admin, "users:alice") == 100_000
    assert crowd.admin.post(path, {"amount": "1"}).json()["code"] == "already_reversed"
    crowd.check_books()
