"""The derived reports add up, and say what the events say."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import tallystick
from tallystick.evidence.bundle import export
from tests.evidence.bundle_support import files_of, ledger_of, open_log, passed
from tests.verify.bundles import events_of
from tests.verify.conftest import journey, told
from tests.verify.journey import Told

__all__ = ["journey", "told"]

ALICE, BOB, USD = "users:alice", "users:bob", "USD/2"
Rows = list[dict[str, str]]


def table(folder: Path, name: str) -> Rows:
    with (folder / "derived" / name).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def bundle(tmp_path: Path, journey: list[bytes]) -> Path:
    with ledger_of(journey) as told_again:
        export(open_log(told_again, tmp_path / "home"), tmp_path / "bundle", first=30)
    return tmp_path / "bundle"


def test_every_entry_of_the_window_is_a_line(bundle: Path, journey: list[bytes]):
    rows = table(bundle, "entries.csv")
    events = events_of(journey)[30:]
    expected = [
        (f"main/{event['seq']}", str(number), entry["account"], entry["bucket"], entry["amount"], entry["after"])
        for event in events
        for number, entry in enumerate(event.get("entries", ()), 1)
    ]
    found = [
        (
            row["Journal_ID"],
            row["Journal_ID_Line_Number"],
            row["GL_Account_Number"],
            row["Bucket"],
            row["Amount_Minor"],
            row["Balance_Minor"],
        )
        for row in rows
    ]
    assert found == expected
    assert all((row["Amount_Credit_Debit_Indicator"] == "D") == row["Amount_Minor"].startswith("-") for row in rows)


def test_debits_and_credits_of_every_event_are_the_same_per_asset(bundle: Path):
    sums: dict[tuple[str, str], int] = {}
    for row in table(bundle, "entries.csv"):
        cents = int(row["Amount"].replace(".", ""))
        sign = 1 if row["Amount_Credit_Debit_Indicator"] == "C" else -1
        place = row["Journal_ID"], row["Asset"]
        sums[place] = sums.get(place, 0) + sign * cents
    assert sums
    assert set(sums.values()) == {0}


def test_the_trial_balance_ends_with_the_balances_and_opens_with_the_opening(bundle: Path, told: Told):
    document: dict[str, Any] = json.loads((bundle / "derived/trial_balance.json").read_bytes())
    opening = json.loads((bundle / "opening.json").read_bytes())
    assert (document["first"], document["end"], document["ledger"]) == (30, 79, "main")
    rows = document["balances"]
    place = ("account", "asset", "bucket")
    assert {tuple(row[name] for name in place): (row["closing"], row["version"]) for row in rows} == {
        tuple(row[name] for name in place): (row["amount"], row["version"]) for row in told.balances
    }
    opened = {tuple(row[name] for name in place): row["amount"] for row in opening["balances"]}
    assert {tuple(row[name] for name in place): row["opening"] for row in rows if row["opening"] != "0"} == {
        key: amount for key, amount in opened.items() if amount != "0"
    }
    assert all(int(row["opening"]) - int(row["debits"]) + int(row["credits"]) == int(row["closing"]) for row in rows)
    for total in document["totals"].values():
        assert (total["opening"], total["closing"]) == ("0", "0")
        assert total["debits"] == total["credits"]
    assert [
        (row["GL_Account_Number"], row["Asset"], row["Bucket"], row["Amount_Ending_Minor"])
        for row in table(bundle, "trial_balance.csv")
    ] == [(row["account"], row["asset"], row["bucket"], row["closing"]) for row in rows]


def test_the_accounts_are_those_declared_or_used_as_they_stand_at_the_end(bundle: Path, journey: list[bytes]):
    rows = {row["GL_Account_Number"]: row for row in table(bundle, "accounts.csv")}
    used = {entry["account"] for event in events_of(journey) for entry in event.get("entries", ())}
    assert used <= rows.keys()
    assert rows["members:mia"]["Limits_Minor"] == "USD/2=1500"
    assert rows["members:noa"]["Status"] == "excluded"
    assert (rows["@clearing:cell-b"]["Account_Type"], rows["@clearing:cell-b"]["Floorless"]) == ("clearing", "yes")
    assert (rows["users:late"]["Declared"], rows[BOB]["Declared"]) == ("yes", "no")


def test_amounts_are_in_major_units_and_dates_those_of_the_effective_time(tmp_path: Path):
    with tallystick.open("memory://", clock=lambda: "2026-03-01T10:20:30.400000Z") as database:
        ledger = database.ledger("main")
        ledger.mint(ALICE, USD, 123_456, key="fund", reason='said "so",\nand so')
        log = open_log(ledger, tmp_path / "home")
        export(log, tmp_path / "bundle")
    _, row = table(tmp_path / "bundle", "entries.csv")
    assert (row["Amount"], row["Amount_Currency"], row["Amount_Credit_Debit_Indicator"]) == ("1234.56", "USD", "C")
    assert (row["Effective_Date"], row["Fiscal_Year"], row["Period"]) == ("2026-03-01", "2026", "3")
    assert (row["Entered_Date"], row["Entered_Time"]) == ("2026-03-01", "10:20:30")
    assert row["JE_Line_Description"] == 'said "so",\nand so'


def test_free_text_is_no_formula_to_a_spreadsheet(tmp_path: Path):
    with tallystick.open("memory://") as database:
        ledger = database.ledger("main")
        ledger.mint(ALICE, USD, 5, key="fund", reason="=HYPERLINK(1)", actor="@SUM(A1)")
        export(open_log(ledger, tmp_path / "home"), tmp_path / "bundle")
    _, row = table(tmp_path / "bundle", "entries.csv")
    assert (row["JE_Line_Description"], row["Entered_By"]) == ("'=HYPERLINK(1)", "'@SUM(A1)")


def test_reports_are_never_trusted(bundle: Path):
    """A verdict about the books does not depend on a report, only that of the manifest does."""
    for path in files_of(bundle):
        if path.startswith("derived/"):
            (bundle / path).write_bytes(b"all is well\n")
    (bundle / "manifest.json").unlink()
    passed(bundle)
