"""Reserves and coverage over HTTP, exact to the last unit."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.clock import add_seconds
from tallystick.control import Scope
from tallystick.service.fractions import fraction_answer
from tests.support.service import Served

MAIN = "/v1/ledgers/main"
USD = "USD/2"


def record(served: Served, reserve: str, value: int, bps: int, asset: str = USD, **more: Any) -> None:
    body = {"reserve": reserve, "asset": asset, "value": str(value), "haircut_bps": bps, **more}
    served.admin.done(f"{MAIN}/reserves", body)


def coverage(served: Served, **query: Any) -> dict[str, Any]:
    return {row["asset"]: row for row in served.admin.get(f"{MAIN}/coverage", **query).json()["items"]}


@pytest.mark.parametrize(
    ("value", "bps", "eligible"),
    [
        (1_000_000, 500, 950_000),
        (1_000_000, 0, 1_000_000),
        (1_000_000, 10_000, 0),
        (1, 1, 0),
        (9_999, 3_333, 6_666),
        (2**63 - 1, 1, (2**63 - 1) * 9_999 // 10_000),
        (0, 0, 0),
    ],
)
def test_what_counts_of_a_reserve_is_rounded_down(here: Served, value: int, bps: int, eligible: int) -> None:
    record(here, "bank:main", value, bps, provider="a bank")
    (found,) = here.admin.get(f"{MAIN}/reserves").json()["items"]
    assert (found["value"], found["haircut_bps"], found["eligible"]) == (str(value), bps, str(eligible))
    assert (found["reserve"], found["asset"], found["provider"]) == ("bank:main", USD, "a bank")


def test_a_reserve_whose_haircut_nobody_knows_counts_nothing(here: Served) -> None:
    here.admin.done(f"{MAIN}/reserves", {"reserve": "gold", "asset": USD, "value": "1000"})
    assert here.admin.get(f"{MAIN}/reserves").json()["items"][0]["eligible"] == "0"


def test_a_value_that_is_out_of_date_counts_nothing(here: Served) -> None:
    now = here.ledger.now()
    record(here, "old", 100, 0, valid_until=add_seconds(now, -1))
    record(here, "new", 70, 0, valid_until=add_seconds(now, 3_600))
    found = {one["reserve"]: one["eligible"] for one in here.admin.get(f"{MAIN}/reserves").json()["items"]}
    assert found == {"old": "0", "new": "70"}
    assert coverage(here)[USD]["eligible"] == "70"


def test_the_newest_record_of_a_reserve_counts(served: Served) -> None:
    record(served, "bank:main", 1, 0)
    record(served, "bank:main", 45_000, 0)
    record(served, "bank:other", 20_000, 2_500)
    record(served, "vault", 5, 0, asset="GOLD/0")

    found = coverage(served)
    assert found[USD]["eligible"] == "60000"
    assert found[USD]["outstanding"] == "150000"
    assert found[USD]["ratio"] == {"exact": "2/5", "decimal": "0.400000"}
    assert found["GOLD/0"] == {"asset": "GOLD/0", "outstanding": "0", "eligible": "5", "ratio": None}
    text = served.admin.get("/metrics").text
    assert 'tallystick_coverage_ratio{asset="USD/2",ledger="main"} 0.4' in text
    assert 'asset="GOLD/0",ledger="main"}' not in "".join(
        line for line in text.splitlines() if line.startswith("tallystick_coverage_ratio")
    )


def test_outstanding_is_what_was_issued_or_came_from_outside_and_has_not_gone_back(here: Served) -> None:
    ledger = here.ledger
    ledger.deposit("users:alice", USD, 1_000, rail="bank", key="1", refs={"external_ref": "x"})
    ledger.burn("users:alice", USD, 300, key="2")
    ledger.transfer("users:alice", "users:bob", USD, 5, key="3")
    record(here, "bank:main", 1, 0)
    found = coverage(here)[USD]
    assert found["outstanding"] == "150700"
    assert found["ratio"] == {"exact": "1/150700", "decimal": "0.000007"}


def test_an_asset_without_reserves_is_not_covered(here: Served) -> None:
    assert coverage(here)[USD]["ratio"] == {"exact": "0/1", "decimal": "0.000000"}


def test_with_nothing_outstanding_there_is_no_ratio(here: Served) -> None:
    record(here, "bank:main", 100, 0)
    here.ledger.burn("users:alice", USD, 100_000, key="1")
    here.ledger.burn("users:bob", USD, 50_000, key="2")
    assert coverage(here)[USD]["ratio"] is None


def test_reserves_and_coverage_are_filtered_and_paged(here: Served) -> None:
    for number in range(5):
        record(here, f"r{number}", 1, 0, asset=f"A{number}/0")
    record(here, "r5", 1, 0, asset="A0/0")

    def listed(path: str, name: str, **query: Any) -> list[str]:
        seen, more = [], {}
        while True:
            page = here.admin.get(f"{MAIN}/{path}", limit=2, **(more or query)).json()
            assert len(page["items"]) <= 2
            seen += [one[name] for one in page["items"]]
            if not page["cursor"]:
                return seen
            more = {"cursor": page["cursor"]}

    assert listed("reserves", "reserve") == [f"r{number}" for number in range(6)]
    assert listed("reserves", "reserve", asset="A0/0") == ["r0", "r5"]
    assert listed("coverage", "asset") == [*(f"A{number}/0" for number in range(5)), USD]
    assert list(coverage(here, asset="A3/0")) == ["A3/0"]


def test_reserves_and_coverage_are_for_who_reads_the_whole_ledger(here: Served) -> None:
    caller = here.caller(scopes=(Scope("read", "main", "users:"),))
    for path in ("reserves", "coverage"):
        assert caller.get(f"{MAIN}/{path}").status_code == 403
        assert here.stranger().get(f"{MAIN}/{path}").status_code == 401


@given(st.fractions())
def test_both_forms_of_a_fraction_are_the_same_number(value: Fraction) -> None:
    found = fraction_answer(value)
    assert Fraction(found.exact) == value
    assert "/" in found.exact
    assert abs(Fraction(found.decimal) - value) <= Fraction(1, 2_000_000)
    assert len(found.decimal.partition(".")[2]) == 6


@pytest.mark.parametrize(
    ("value", "decimal"),
    [
        (Fraction(3, 7), "0.428571"),
        (Fraction(-3, 7), "-0.428571"),
        (Fraction(0), "0.000000"),
        (Fraction(-1, 10**9), "0.000000"),
        (Fraction(10**30), f"{10**30}.000000"),
        (Fraction(5, 10**7), "0.000000"),
        (Fraction(15, 10**7), "0.000002"),
    ],
)
def test_decimals_are_rounded_half_to_even(value: Fraction, decimal: str) -> None:
    assert fraction_answer(value).decimal == decimal
