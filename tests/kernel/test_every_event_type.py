"""Every row of the registry is used rightly and wrongly, replays, and can be taken back."""

from __future__ import annotations

import msgspec
import pytest

from tallystick.errors import LedgerCorrupt, Refusal
from tallystick.events import EVENT_TYPES, Event
from tallystick.kernel import apply
from tests.kernel.cases import RIGHT, WRONG
from tests.support.kernel import Scribe, picture

ALL = sorted(EVENT_TYPES)


def test_there_is_a_right_and_a_wrong_use_of_every_event_type_and_of_nothing_else():
    assert sorted(RIGHT) == ALL
    assert sorted(WRONG) == ALL


@pytest.mark.parametrize("name", ALL)
def test_right_use_makes_an_event_of_this_type_with_the_moves_and_references_of_its_row(ledger: Scribe, name: str):
    command = RIGHT[name](ledger)
    event = ledger.post(command)
    row = EVENT_TYPES[name]
    assert event.type == name
    assert event.refs == (command.refs or {})
    assert all(any(event.refs.get(reference) for reference in group) for group in row.requires)
    buckets = {bucket for move in row.moves for bucket in (*move.from_buckets, *move.to_buckets)}
    assert {entry.bucket for entry in event.entries} <= buckets


@pytest.mark.parametrize("name", ALL)
def test_wrong_use_is_refused_with_its_reason_and_changes_nothing(ledger: Scribe, name: str):
    command, error = WRONG[name](ledger)
    before = picture(ledger.book)
    with pytest.raises(Refusal) as caught:
        ledger.sealed(command)
    assert type(caught.value) is error, repr(caught.value)
    assert picture(ledger.book) == before


@pytest.mark.parametrize("name", ALL)
def test_nested_marks_take_back_exactly_what_came_after_each(ledger: Scribe, name: str):
    event, _, hash_ = ledger.sealed(RIGHT[name](ledger))
    book = ledger.book
    outer = book.mark()
    at_outer = picture(book)
    apply(book, event, hash_)
    inner = book.mark()
    at_inner = picture(book)
    for _ in range(2):  # the inner mark serves twice
        follow_up = Event(type="policy_set", ledger="main", seq=book.seq, time=book.time, data={"policy": {}})
        apply(book, follow_up)
        book.set_balance("@fees", "NEW/4", "fees", 1, 1)
        book.rollback(inner)
        assert picture(book) == at_inner
    book.rollback(outer)
    assert picture(book) == at_outer
    book.keep()


@pytest.mark.parametrize("name", ALL)
def test_an_event_out_of_its_place_is_corruption_and_changes_nothing(ledger: Scribe, name: str):
    event, _, _ = ledger.sealed(RIGHT[name](ledger))
    before = picture(ledger.book)
    for wrong_place in ({"seq": event.seq + 1}, {"seq": event.seq - 1}, {"ledger": "other"}, {"time": ""}):
        if wrong_place == {"time": ""} and event.seq == 0:
            continue  # before the first event there is no time to run back from
        with pytest.raises(LedgerCorrupt):
            apply(ledger.book, msgspec.structs.replace(event, **wrong_place))
        assert picture(ledger.book) == before


@pytest.mark.parametrize("name", sorted(name for name, row in EVENT_TYPES.items() if row.moves))
def test_an_event_whose_entries_do_not_follow_from_the_books_is_corruption(ledger: Scribe, name: str):
    event, _, _ = ledger.sealed(RIGHT[name](ledger))
    first, *others = event.entries
    for change in ("amount", "before", "after", "version"):
        altered = msgspec.structs.replace(first, **{change: getattr(first, change) + 1})
        with pytest.raises(LedgerCorrupt):
            apply(ledger.book, msgspec.structs.replace(event, entries=(altered, *others)))
