"""Two ways to find the latest balances in a part - looking them up and reading it through - and one answer."""

from __future__ import annotations

from pathlib import Path

import pytest

import tallystick
from tallystick.commands import Transfer
from tallystick.stores import base, sqlite
from tallystick.stores.sqlite import SqliteStore

USD = "USD/2"


def test_reading_parts_through_and_looking_balances_up_give_the_same_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for module in (base, sqlite):
        monkeypatch.setattr(module, "PART_BITS", 4)  # sixteen events to a part
    with tallystick.open(tmp_path / "book.db") as database:
        ledger = database.ledger("main")
        for number in range(30):
            ledger.mint(f"users:{number}", USD, 100, key=f"mint {number}")
        ledger.post_many(
            [
                Transfer(
                    key=f"pay {number}",
                    from_account=f"users:{number % 7}",
                    to_account=f"users:{7 + number % 5}",
                    asset=USD,
                    amount=1,
                )
                for number in range(60)
            ]
        )
    store = SqliteStore(tmp_path / "book.db")
    answers = []
    for looked_up in (0, 1_000):
        monkeypatch.setattr(sqlite, "LOOKED_UP", looked_up)
        answers.append([store.balances("main", before) for before in (None, 1, 15, 16, 17, 40, 91)])
    assert answers[0] == answers[1]
    monkeypatch.setattr(sqlite, "ENTRIES_PER_SNAPSHOT", 1)
    assert store.snapshot("main")
    for looked_up in (0, 1_000):
        monkeypatch.setattr(sqlite, "LOOKED_UP", looked_up)
        assert store.balances("main") == answers[0][0]
    store.close()
