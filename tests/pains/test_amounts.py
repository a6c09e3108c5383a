"""Pains 14 and 15: overdrafts that can be said, and amounts that stay what they are."""

from __future__ import annotations

import json
from typing import Any

from tests.pains.support import MAIN, USD, Crowd, balance, pay, statuses
from tests.support.service import Served

LARGEST = 2**63 - 1
RATHER_LARGE = (10_000_000, 2**31, 2**53 - 1, 2**53 + 1, 10**17 + 3)
"""Amounts that lost digits elsewhere: above seven digits, above 32 bits, above what a float holds exactly."""


def test_an_overdraft_is_one_field_and_is_kept_under_many_writers(crowd: Crowd) -> None:
    """Pain 14. To let an account go below zero took a script, could not be limited, or was gone in the next major
    version. https://github.com/formancehq/ledger/issues/246 https://github.com/formancehq/ledger/issues/341
    https://github.com/formancehq/ledger/issues/372 https://github.com/formancehq/ledger/issues/379
    https://github.com/formancehq/stack/issues/1597
    """
    crowd.admin.done(f"{MAIN}/accounts", {"account": "members:ann", "limits": {USD: "1000"}})
    answers = crowd.at_once(12, lambda teller, _: teller.post(f"{MAIN}/transfers", pay(150, "members:ann")))

    assert sorted(answer.status_code for answer in answers) == [201] * 6 + [422] * 6
    assert balance(crowd.admin, "members:ann") == -900
    last = crowd.admins[-1].get(f"{MAIN}/accounts/members:ann").json()
    assert last["limits"] == {USD: "1000"}
    left = crowd.admins[-1].get(f"{MAIN}/accounts/members:ann/available", asset=USD).json()
    assert left["available"] == "100"

    crowd.admin.done(f"{MAIN}/accounts/members:ann/limits", {"asset": USD, "limit": "500"})
    under = crowd.admins[-1].post(f"{MAIN}/transfers", pay(1, "members:ann"))
    paid = crowd.admins[-1].post(f"{MAIN}/transfers", pay(1, "users:bob", "members:ann"))
    assert (under.status_code, paid.status_code) == (422, 201)


def test_who_has_no_overdraft_is_refused_and_not_an_error_of_the_server(crowd: Crowd) -> None:
    """Pain 14. Scripts about overdrafts were rejected, or answered with 500.
    https://github.com/formancehq/ledger/issues/1520 https://github.com/formancehq/ledger/issues/1500
    """
    answers = [crowd.admin.post(f"{MAIN}/transfers", pay(amount, "users:nobody")) for amount in (1, 10**17)]
    assert statuses(answers) == {(422, "insufficient_funds"): 2}


def test_amounts_keep_every_digit(crowd: Crowd) -> None:
    """Pain 15. Numbers of more than seven digits came back as floats in the next version of an interface, and amounts
    kept as 64-bit floats had to be rewritten. https://github.com/formancehq/ledger/pull/698
    https://github.com/blnkfinance/blnk/pull/135
    """
    for amount in RATHER_LARGE:
        payee = f"users:{amount}"
        seq = crowd.admin.done(f"{MAIN}/mint", {"account": payee, "asset": USD, "amount": amount})["seq"]
        hold = {"account": payee, "asset": USD, "amount": str(amount)}
        assert crowd.admins[-1].post(f"{MAIN}/holds", {**hold, "amount": str(amount + 1)}).status_code == 422
        crowd.admin.done(f"{MAIN}/holds", hold)
        teller = crowd.admins[-1]
        text = f'"{amount}"'
        for path in (
            f"balances?account={payee}&bucket=held",
            f"entries?account={payee}",
            f"accounts/{payee}",
            f"holds?account={payee}",
            f"transactions/{seq}",
            f"events?account={payee}",
        ):
            shown = teller.http.get(f"{MAIN}/{path}").text
            assert text in shown, shown
            assert "e+" not in shown
            assert not [value for value in numbers_of(json.loads(shown)) if isinstance(value, float)]
    crowd.check_books()


def numbers_of(found: Any) -> list[Any]:
    """Every number in a document."""
    if isinstance(found, dict):
        return [number for value in found.values() for number in numbers_of(value)]
    if isinstance(found, list):
        return [number for value in found for number in numbers_of(value)]
    return [found] if isinstance(found, (int, float)) and not isinstance(found, bool) else []


def test_the_largest_amount_is_taken_and_one_more_is_refused(crowd: Crowd) -> None:
    """Pain 15, at the edge: no wrap-around and no rounding. https://github.com/blnkfinance/blnk/pull/135"""
    big = {"account": "users:rich", "asset": "BIG/0", "amount": str(LARGEST)}
    assert crowd.admin.post(f"{MAIN}/mint", {**big, "amount": str(LARGEST + 1)}).status_code == 400
    crowd.admin.done(f"{MAIN}/mint", big)
    more = crowd.admin.post(f"{MAIN}/mint", {**big, "amount": "1"})
    assert (more.status_code, more.json()["code"]) == (422, "balance_overflow")
    assert balance(crowd.admin, "users:rich", asset="BIG/0") == LARGEST
    assert balance(crowd.admin, "@issuance", asset="BIG/0") == -LARGEST


def test_what_is_no_whole_amount_is_refused_and_never_rounded(here: Served) -> None:
    """Pain 15. Both as a text and, where it is one, as a number of JSON. https://github.com/blnkfinance/blnk/pull/135"""

    def post(amount: str) -> Any:
        body = json.dumps(pay()).replace('"amount": "1"', f'"amount": {amount}')
        headers = {"content-type": "application/json", "idempotency-key": "k"}
        return here.admin.http.post(f"{MAIN}/transfers", content=body.encode(), headers=headers)

    for amount in ("1.0", "1e3", "0.1", "1,000", " 1", "+1", "0x10", "-5", "0", "", "NaN", "Infinity", "\u0661"):
        answer = post(json.dumps(amount))
        assert (answer.status_code, answer.json()["path"]) == (400, "amount"), amount
    for amount in ("1.0", "1e3", "0.1", "-5", "0", "NaN", "1.00000000000000000001", "1E-400", "true", "null", "[1]"):
        assert post(amount).status_code == 400, amount
    assert balance(here.admin, "users:alice") == 100_000


def test_every_leg_keeps_its_own_asset(crowd: Crowd) -> None:
    """Pain 15. A leg in another asset was silently taken as one in the transaction's. Here each asset must add up by
    itself, and a code with another scale is no asset of this ledger. https://github.com/blnkfinance/blnk/issues/55
    """
    crowd.admin.done(f"{MAIN}/mint", {"account": "users:carol", "asset": "EUR/2", "amount": "900"})
    exchange = [pay(1_000, "users:alice", "users:carol"), {**pay(900, "users:carol", "users:alice"), "asset": "EUR/2"}]
    crowd.admin.done(f"{MAIN}/transactions", {"type": "transfer", "legs": exchange})

    teller = crowd.admins[-1]
    assert [balance(teller, "users:carol", asset=asset) for asset in (USD, "EUR/2")] == [1_000, 0]
    assert [balance(teller, "users:alice", asset=asset) for asset in (USD, "EUR/2")] == [99_000, 900]
    assert teller.get(f"{MAIN}/trial-balance").json()["totals"] == {USD: "0", "EUR/2": "0"}
    scaled = teller.post(f"{MAIN}/transfers", {**pay(), "asset": "USD/3"})
    assert (scaled.status_code, scaled.json()["code"]) == (422, "scale_mismatch")
    bare = teller.post(f"{MAIN}/transfers", {**pay(), "asset": "USD"})
    assert (bare.status_code, bare.json()["code"]) == (422, "scale_mismatch")
    for wrong in ("usd/2", "USD/2 ", "US D/2", ""):
        assert teller.post(f"{MAIN}/transfers", {**pay(), "asset": wrong}).status_code == 400, wrong
    crowd.check_books()
