"""Any statement or commit may fail: callers are told to ask again, and asking again makes everything just once."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

import tallystick
from tests.crash.faults import Outage
from tests.crash.scenario import Caller, check, make_rounds_small, pay, play


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Outage:
    """Failures in SQLite at will, and a writer for which small rounds are large."""
    found = Outage()
    monkeypatch.setattr(sqlite3, "connect", found.connect)
    make_rounds_small(monkeypatch)
    return found


def statements_of(path: Path, outage: Outage) -> tuple[int, int]:
    """How many statements and commits the scenario takes when nothing fails."""
    caller = Caller(path, outage)
    answers = play(caller)
    taken = outage.seen, outage.commits
    check(caller, answers)
    assert caller.unavailable == 0
    return taken


def test_whichever_statement_fails_once_everything_is_posted_exactly_once(tmp_path: Path, outage: Outage):
    total, _ = statements_of(tmp_path / "calm.db", outage)
    assert total > 100
    failed = 0
    for number in range(1, total + 1):
        outage.begin()
        outage.fail_at = number
        caller = Caller(tmp_path / f"{number}.db", outage)
        check(caller, play(caller))
        failed += outage.failures
    assert failed > total * 0.9, "nearly every statement has had its turn"


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
def test_after_an_outage_that_lasts_everything_is_posted_exactly_once(share: float, tmp_path: Path, outage: Outage):
    total, _ = statements_of(tmp_path / "calm.db", outage)
    outage.begin()
    outage.fail_at, outage.lasting = int(total * share), True
    caller = Caller(tmp_path / "outage.db", outage)
    check(caller, play(caller))
    assert outage.failures >= (3 if share < 0.5 else 1), "callers at the same time may end with fewer statements"


def test_a_commit_whose_answer_was_lost_is_found_again_by_its_keys(tmp_path: Path, outage: Outage):
    _, commits = statements_of(tmp_path / "calm.db", outage)
    assert commits >= 10
    lost = replayed = 0
    for number in range(1, commits + 1):
        outage.begin()
        outage.lose_commit = number
        caller = Caller(tmp_path / f"{number}.db", outage)
        answers = play(caller)
        lost += outage.failures
        replayed += any(answer.replayed for answer in answers.values())
        check(caller, answers)
    assert lost >= commits - 3, "callers at the same time may share a commit, so that there are fewer"
    assert replayed >= 10, "what had been committed was answered again, not posted again"


def test_a_full_disk_does_not_keep_a_ledger_from_being_closed(tmp_path: Path, outage: Outage):
    caller = Caller(tmp_path / "book.db", outage)
    answers = play(caller)
    outage.begin()
    outage.fail_at, outage.lasting = 1, True
    caller.database.close()
    outage.heal()
    with tallystick.open(tmp_path / "book.db") as again:
        ledger = again.ledger("main")
        assert {key: answer.id for key, answer in answers.items()} == {
            event.key: event.id for event in ledger.events(after=0)
        }
        assert not ledger.post(pay("after", 0)).replayed
