"""Pains 21 to 23: balances that are never stale, cannot drift unseen, and stay cheap."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tallystick
from tallystick.commands import Transfer
from tallystick.ledger import Ledger
from tallystick.stores.sqlite_file import SqliteFile
from tests.cli.conftest import Tally
from tests.ledger.test_audit import unguarded
from tests.pains.support import MAIN, USD, Crowd, Teller, balance, pay
from tests.support.stores import on_files, on_lasting_stores

ALTER = "UPDATE entry SET amount = amount + 1, after = after + 1 WHERE seq = (SELECT max(seq) FROM entry)"


def test_everyone_reads_what_he_has_just_written(crowd: Crowd) -> None:
    """Pain 21. Cached balances were stale: missing, or negative where there was money.
    https://github.com/flash-oss/medici/issues/119

    Each user pays into an account of his own, and asks the other service what is there: it is exactly what he paid.
    """

    def save(teller: Teller, number: int) -> list[int]:
        other = crowd.admins[(number + 1) % len(crowd.admins)]
        found = []
        for _ in range(4):
            teller.done(f"{MAIN}/transfers", pay(1, payee=f"pockets:{number}"))
            found.append(balance(other, f"pockets:{number}"))
        return found

    assert crowd.at_once(6, save) == [[1, 2, 3, 4]] * 6
    crowd.check_books()


def test_voiding_a_back_dated_transaction_leaves_no_snapshot_behind_the_times(crowd: Crowd) -> None:
    """Pain 21. After a void that was dated back, the stored snapshot no longer fitted the journal.
    https://github.com/flash-oss/medici/issues/117
    """
    start = crowd.admin.get(MAIN).json()["time"]
    for number in range(3):
        crowd.admin.done(f"{MAIN}/transfers", pay(1 + number))
    body = {"type": "transfer", "legs": [pay(500)], "effective": start}
    back = crowd.admin.done(f"{MAIN}/transactions", body)
    assert balance(crowd.admins[-1], "users:alice", as_of=start) == 99_500
    void = crowd.admins[-1].done(f"{MAIN}/transactions/{back['seq']}/reverse", {})

    for admin in crowd.admins:
        assert balance(admin, "users:alice") == 99_994
        assert balance(admin, "users:alice", as_of=start) == 99_500
        assert balance(admin, "users:alice", as_of=void["time"]) == 99_994
        assert balance(admin, "users:alice", recorded=start) == 100_000
    assert crowd.fronts[0].database.rebuild("main").ok
    assert [balance(admin, "users:alice", as_of=start) for admin in crowd.admins] == [99_500] * len(crowd.admins)
    crowd.check_books()


@on_lasting_stores
def test_a_balance_that_somebody_changed_is_found_and_named(url: str, tmp_path: Path) -> None:
    """Pain 22. Stored balances had drifted from the entries; nobody knew since when, or why, and no command said so by
    its exit code. https://github.com/envato/double_entry/issues/168
    https://github.com/adamcharnock/django-hordak/pull/142
    """
    tally = Tally(tmp_path, url)
    tally("create")
    tally("mint", "users:alice", "10.00", USD)
    tally("transfer", "users:alice", "users:bob", "1.00", USD)
    assert tally.run("replay").exit_code == 0
    with unguarded(url) as hand:
        hand.execute(ALTER)

    found = tally.run("replay", "--json")
    assert found.exit_code == 1
    findings = json.loads(found.stdout)["findings"]
    assert any("users:bob" in str(one) or "2" in one["where"] for one in findings), findings
    assert tally.run("check").exit_code == 1
    tally("rebuild")
    assert tally.run("replay").exit_code == 0


READS: dict[str, Callable[[Ledger], Any]] = {
    "trial balance": lambda ledger: ledger.trial_balance(),
    "one transaction": lambda ledger: ledger.transaction(2),
    "by key": lambda ledger: ledger.by_key("first"),
    "balances": lambda ledger: ledger.balances("users:alice"),
    "available": lambda ledger: ledger.available("users:alice", USD),
    "many balances": lambda ledger: ledger.balances_of(["users:alice", "users:bob"]),
}


@on_files
def test_reading_takes_no_more_steps_when_there_is_more(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pain 23. Balances were summed from all entries, by triggers or in reports, and took minutes as the books grew.
    https://github.com/adamcharnock/django-hordak/pull/76 https://github.com/adamcharnock/django-hordak/issues/40
    https://github.com/frappe/erpnext/pull/43435 https://github.com/openMF/Deprecated-mifosx/pull/1330

    What is counted are the steps of SQLite's machine, which do not depend on how busy this one is.
    """
    with tallystick.open(url) as database:
        ledger = database.ledger("main")
        ledger.mint("users:alice", USD, 1_000_000, key="mint")
        ledger.transfer("users:alice", "users:bob", USD, 1, key="first")
    steps = count_steps(monkeypatch)
    few = {name: counted(url, steps, read) for name, read in READS.items()}
    with tallystick.open(url) as database:
        ledger = database.ledger("main")
        for part in range(20):
            payments = [
                Transfer(
                    from_account="users:alice", to_account="users:bob", asset=USD, amount=1, key=f"{part}.{number}"
                )
                for number in range(200)
            ]
            ledger.post_many(payments)
    many = {name: counted(url, steps, read) for name, read in READS.items()}
    assert all(count > 0 for count in few.values())
    grown = {name: (few[name], many[name]) for name in READS if many[name] > few[name] + 400}
    assert not grown, f"steps with 2 and with 4,002 transactions: {grown}"


def count_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A counter of the steps that reading connections take from now on."""
    steps = [0]
    connect = SqliteFile._connect

    def watched(self: SqliteFile, *, read_only: bool) -> sqlite3.Connection:
        connection = connect(self, read_only=read_only)
        if read_only:
            connection.set_progress_handler(step, 1)
        return connection

    def step() -> int:
        steps[0] += 1
        return 0

    monkeypatch.setattr(SqliteFile, "_connect", watched)
    return steps


def counted(url: str, steps: list[int], read: Callable[[Ledger], Any]) -> int:
    """How many steps a read takes, when the ledger has just been opened."""
    with tallystick.open(url, read_only=True) as database:
        ledger = database.ledger("main")
        steps[0] = 0
        read(ledger)
        return steps[0]
