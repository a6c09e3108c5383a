"""Every act through the ledger: what is tried and what is meant come to the same, and trying changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

import tallystick
from tallystick import commands as c
from tallystick.commands import Command, Condition
from tallystick.errors import ConditionFailed, IdempotencyConflict, InvalidInput, Refusal
from tallystick.events import EVENT_TYPES, Event
from tests.kernel.cases import RIGHT, WRONG
from tests.ledger.conftest import Book
from tests.support.kernel import USD, Scribe
from tests.support.stores import on_lasting_stores

ACTS = sorted(EVENT_TYPES.keys() - {"ledger_opened"})


class Recorder(Scribe):
    """A scribe that keeps the commands which it posted, each with its time."""

    def __init__(self) -> None:
        super().__init__()
        self.posted: list[tuple[str, Command]] = []
        self.do(c.OpenLedger, name="main")
        self.posted.clear()

    def post(self, command: Command) -> Event:
        event = super().post(command)
        self.posted.append((self.now, command))
        return event


def prepared(book: Book, case: Any) -> tuple[Recorder, Any]:
    """The ledger in the state that a case of the kernel's specification asks for, and the case's outcome."""
    recorder = Recorder()
    outcome = case(recorder)
    for now, command in recorder.posted:
        book.time.now = now
        book.ledger.post(command)
    if not recorder.posted:
        book.ledger.mint("users:first", USD, 1, key="first")
        recorder.mint("users:first", 1)
    book.time.now = recorder.now
    return recorder, outcome


@pytest.mark.parametrize("name", ACTS)
def test_a_dry_run_of_every_act_gives_the_very_answer_and_changes_nothing(book: Book, name: str):
    _, command = prepared(book, RIGHT[name])
    before = book.picture()
    tried = book.ledger.post(command, dry_run=True)
    assert book.ledger.post_many([command], atomic=True, dry_run=True) == [tried]
    assert book.picture() == before
    assert book.ledger.by_key(command.key) is None
    meant = book.ledger.post(command)
    assert meant == tried, "the same id, time and hash"
    assert book.ledger.transaction(meant.seq).type == name
    again = book.reopen().post(command)
    assert again.replayed
    assert (again.id, again.hash, again.time) == (meant.id, meant.hash, meant.time)
    assert book.ledger.replay().ok


@pytest.mark.parametrize("name", ACTS)
def test_a_refusal_is_the_same_when_it_is_tried_and_uses_up_no_key(book: Book, name: str):
    _, (command, error) = prepared(book, WRONG[name])
    before = book.picture()
    for dry_run in (True, False, True):
        with pytest.raises(Refusal) as caught:
            book.ledger.post(command, dry_run=dry_run)
        assert type(caught.value) is error
    assert book.picture() == before
    assert not book.ledger.mint("users:first", USD, 1, key=command.key).replayed


def test_the_first_posting_that_is_tried_or_refused_makes_no_ledger(book: Book):
    ledger = book.ledger
    assert ledger.mint("users:0", USD, 1, key="k", dry_run=True).id == "main/1"
    with pytest.raises(Refusal):
        ledger.transfer("users:0", "users:1", USD, 1, key="k")
    assert [type(found) for found in ledger.post_many([c.HoldExpire(key="x", hold="main/1")])] == [
        tallystick.errors.HoldNotFound
    ]
    assert not ledger.exists
    assert book.database.ledgers() == []
    assert ledger.mint("users:0", USD, 1, key="k").id == "main/1"
    assert book.database.ledgers() == ["main"]


def test_an_expected_version_lets_only_the_first_of_two_through(book: Book):
    ledger = book.ledger
    ledger.mint("users:0", USD, 100, key="m")
    seen = Condition("users:0", USD, version=1)
    ledger.transfer("users:0", "users:1", USD, 10, key="a", conditions=(seen,))
    with pytest.raises(ConditionFailed) as caught:
        ledger.transfer("users:0", "users:1", USD, 10, key="b", conditions=(seen,))
    assert (caught.value.data["expected"], caught.value.data["actual"]) == (1, 2)
    results = ledger.post_many(
        [
            c.Transfer(
                key=f"c{n}",
                from_account="users:0",
                to_account="users:1",
                asset=USD,
                amount=30,
                conditions=(Condition("users:0", USD, at_least=30), Condition("users:1", USD, at_most=70)),
            )
            for n in range(3)
        ]
    )
    assert [getattr(result, "code", "posted") for result in results] == ["posted", "posted", "condition_failed"]


def test_one_key_in_two_sources_is_two_keys(book: Book):
    ledger = book.ledger
    first = ledger.mint("users:0", USD, 1, key="k", source="shop")
    second = ledger.mint("users:0", USD, 2, key="k", source="till")
    assert first.id != second.id
    with pytest.raises(IdempotencyConflict):
        ledger.mint("users:0", USD, 2, key="k", source="shop")
    assert book.reopen().mint("users:0", USD, 2, key="k", source="till") == tallystick.Posted(
        "main", second.seq, second.hash, second.time, True
    )


def test_every_act_needs_a_key(book: Book):
    with pytest.raises(InvalidInput, match="key"):
        book.ledger.mint("users:0", USD, 1)
    with pytest.raises(InvalidInput, match="key"):
        book.ledger.mint("users:0", USD, 1, key="")


@on_lasting_stores
def test_nothing_can_be_posted_to_a_ledger_that_was_opened_for_reading(url: str):
    with tallystick.open(url) as database:
        database.ledger("main").mint("users:0", USD, 1, key="k")
    with tallystick.open(url, read_only=True) as database:
        ledger = database.ledger("main")
        with pytest.raises(tallystick.errors.ReadOnly):
            ledger.mint("users:0", USD, 1, key="other")
        assert ledger.mint("users:0", USD, 1, key="k").replayed, "an old answer can still be read"
        assert ledger.balance("users:0", USD) == 1
