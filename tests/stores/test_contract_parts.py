"""The store contract over a long ledger: entries and keys lie in parts of 2^15 events, and nothing shows of it.

The answers are worked out here from the events alone, in the plainest way, and compared at and around every seam.
Each store is asked with and without snapshots: a snapshot never changes an answer.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from msgspec.structs import replace

from tallystick.clock import add_seconds
from tallystick.events import Event
from tallystick.kernel import Balance
from tallystick.stores.base import PART_BITS, Batch, EntryRow, Store, key_number
from tests.stores.conftest import LONG, MakeStore
from tests.support.engine import Engine
from tests.support.story import PEOPLE, ask, questions, tell

PART = 1 << PART_BITS
SEAMS = (0, 1, 41, 42, PART - 1, PART, PART + 1, 2 * PART - 1, 2 * PART, 2 * PART + 1, LONG - 1, LONG)
EVERYTHING = 1_000_000
IDLE = "users:39"
"""An account that was paid once, at the beginning, and never again."""

Ledger = tuple[Engine, list[Batch]]


@pytest.fixture(scope="session")
def events(long_ledger: Ledger) -> list[Event]:
    return long_ledger[0].history


@pytest.fixture(scope="session")
def entries(long_ledger: Ledger) -> list[EntryRow]:
    """Every entry of the long ledger in order of (seq, balance id)."""
    rows = [row for batch in long_ledger[1] for row in batch.entries]
    return sorted(rows, key=lambda row: (row[2], row[0]))


@pytest.fixture(scope="session")
def balances_at(events: list[Event]) -> dict[int, list[tuple[str, str, str, int, int]]]:
    """(account, asset, bucket, amount, version) of every balance before each of the seams."""
    standing: dict[tuple[str, str, str], tuple[int, int]] = {}
    found = {}
    for first, last in pairwise((0, *SEAMS)):
        for event in events[first:last]:
            for entry in event.entries:
                standing[entry.account, entry.asset, entry.bucket] = (entry.after, entry.version)
        found[last] = sorted((*name, *amount) for name, amount in standing.items())
    return found


def plain(rows: list[tuple[str, str, str, Balance]]) -> list[tuple[str, str, str, int, int]]:
    return [(*name, balance.amount, balance.version) for *name, balance in rows]  # type: ignore[misc]


def test_the_long_ledger_spans_three_parts(long_store: Store, long_ledger: Ledger) -> None:
    assert LONG > 2 * PART
    assert long_store.head("main") == long_ledger[0].head
    assert long_store.stats("main")["events"] == LONG


@pytest.mark.parametrize("before", SEAMS)
def test_balances_as_of_an_event_number(
    long_store: Store, balances_at: dict[int, list[tuple[str, str, str, int, int]]], before: int
) -> None:
    assert plain(long_store.balances("main", before)) == balances_at[before]
    some = ["users:03", IDLE, "@issuance", "nobody"]
    assert plain(long_store.balances("main", before, some)) == [row for row in balances_at[before] if row[0] in some]


def test_balances_now_are_those_before_the_next_event(long_store: Store) -> None:
    assert long_store.balances("main") == long_store.balances("main", LONG) == long_store.balances("main", LONG + 5)


def test_an_idle_balance_is_found_however_long_ago_it_was_used(long_store: Store, events: list[Event]) -> None:
    number = next(event.seq for event in events if any(entry.account == IDLE for entry in event.entries))
    assert plain(long_store.balances("main", number, [IDLE])) == []
    expected = [(IDLE, "USD/2", "available", 1_000_000, 1)]
    for before in (number + 1, PART, PART + 1, 2 * PART, None):
        assert plain(long_store.balances("main", before, [IDLE])) == expected
    assert [row[2].amount for row in long_store.load_accounts("main", [IDLE])[IDLE].balances] == [1_000_000]


def test_load_accounts_gives_the_latest_balances(long_store: Store, long_ledger: Ledger) -> None:
    book = long_ledger[0].book
    everyone = [f"users:{i:02}" for i in range(40)]
    found = long_store.load_accounts("main", everyone)
    assert {address: found[address].balances for address in everyone} == {
        address: book.balances_of(address) for address in everyone
    }


@pytest.mark.parametrize(
    ("first", "before"),
    [(0, LONG), (PART - 5, PART + 5), (PART, 2 * PART), (PART - 1, 2 * PART + 1), (2 * PART, LONG + 9), (50, 50)],
)
def test_entries_of_some_balances_between_two_events(
    long_store: Store, entries: list[EntryRow], first: int, before: int
) -> None:
    wanted = [5, 2, 17, 99]
    expected = [row for row in entries if row[0] in wanted and first <= row[2] < before]
    assert long_store.entries("main", wanted, first, before, EVERYTHING) == expected
    assert long_store.entries("main", wanted, first, before, 3) == expected[:3]
    assert long_store.entries("main", wanted, first, before, 0) == []


def test_a_limit_counts_across_the_seam_of_two_parts(long_store: Store, entries: list[EntryRow]) -> None:
    everyone = list(range(1, 42))
    expected = [row for row in entries if row[2] >= PART - 10]
    for limit in (19, 20, 21, 40):
        assert long_store.entries("main", everyone, PART - 10, LONG, limit) == expected[:limit]


def test_entries_of_no_balance_are_none(long_store: Store) -> None:
    assert long_store.entries("main", [], 0, LONG, 10) == []
    assert long_store.entries("main", [10_000], 0, LONG, 10) == []


def test_paging_through_a_register_meets_every_entry_once(long_store: Store, entries: list[EntryRow]) -> None:
    expected = [row for row in entries if row[0] == 7]
    met: list[EntryRow] = []
    while page := long_store.entries("main", [7], met[-1][2] + 1 if met else 0, LONG, 500):
        met += page
    assert met == expected
    for earlier, later in pairwise(met):
        assert (later[1], later[4]) == (earlier[1] + 1, earlier[5])


def test_keys_are_found_in_every_part(long_store: Store, events: list[Event]) -> None:
    wanted = {key_number("local", events[seq].idem): [seq] for seq in SEAMS[:-1]}
    assert long_store.find_keys("main", [*wanted, 12345]) == wanted
    many = {key_number("local", event.idem): [event.seq] for event in events[PART - 3_000 : PART + 3_000]}
    assert long_store.find_keys("main", list(many)) == many


@pytest.mark.parametrize("first", SEAMS)
def test_key_numbers_begin_at_an_event_and_never_go_back_a_part(
    long_store: Store, events: list[Event], first: int
) -> None:
    found = list(long_store.key_numbers("main", first))
    parts = [seq >> PART_BITS for _, seq in found]
    assert parts == sorted(parts)
    assert sorted(seq for _, seq in found) == list(range(first, LONG))
    assert all(number == key_number("local", events[seq].idem) for number, seq in found[::997])


def test_events_are_read_across_parts(long_store: Store, long_ledger: Ledger) -> None:
    bodies = [body for batch in long_ledger[1] for body in batch.bodies]
    for seam in SEAMS[4:]:
        assert long_store.events("main", seam - 300, 700) == bodies[seam - 300 : seam + 400]
        assert long_store.event("main", seam) == (bodies[seam] if seam < LONG else None)


@pytest.mark.parametrize("seq", SEAMS[:-1])
def test_seq_at_finds_its_place_among_many(long_store: Store, events: list[Event], seq: int) -> None:
    time = events[seq].time
    assert long_store.seq_at("main", time) == sum(event.time <= time for event in events)


def test_references_and_back_dated_entries_are_found_in_every_part(store: Store) -> None:
    """A history goes on for longer than a part: what is of the first part and what is of the second are one answer."""
    told = tell(Engine(store))
    alice, bob = PEOPLE[:2]
    of_the_story = [event.seq for event in told.history if event.refs.get("order") == "o-1"]
    backdated, balances = sorted(store.backdated("main")), store.balances("main")
    while told.book.seq < PART + 10:
        told.post(*(told.pay(*((alice, bob) if i % 2 else (bob, alice)), 1) for i in range(4_096)))
    late = told.post(
        told.pay(alice, bob, 1, refs={"order": "o-1"}),
        replace(told.mint(alice, 9), effective=add_seconds(told.now, -5)),
    )
    asked = questions(told, some=[0, 62, 63, PART - 1, PART, PART + 1])
    before = ask(store, asked)
    assert store.references("main", "order", "o-1") == [*of_the_story, late.expected.seq]
    assert sorted(store.backdated("main")) == sorted([*backdated, *late.backdated])
    number = late.backdated[0][0]
    assert sorted(store.backdated("main", [number])) == sorted(
        row for row in [*backdated, *late.backdated] if row[0] == number
    )
    assert store.backdated("main", []) == []
    assert store.balances("main", 63) == balances
    store.snapshot("main")
    assert ask(store, asked) == before


def test_a_snapshot_changes_no_answer_and_is_made_when_enough_was_posted(
    make_store: MakeStore, long_ledger: Ledger
) -> None:
    store, (engine, batches) = make_store(), long_ledger
    for batch in batches:
        store.append([batch])
    everyone = [f"users:{i:02}" for i in range(40)]

    def answers() -> list[object]:
        return [
            store.head("main"),
            [store.balances("main", before) for before in (PART, 2 * PART + 1, None)],
            [store.balances("main", before, everyone[::3]) for before in SEAMS],
            store.load_accounts("main", everyone),
            store.entries("main", [3, 4], PART - 50, PART + 50, 100),
            store.accounts("main", "", "", 100),
        ]

    before = answers()
    while store.snapshot("main"):
        assert answers() == before
    assert store.snapshot("main") is False
    assert answers() == before
    assert store.head("main") == engine.head
