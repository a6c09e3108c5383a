"""Every read answers what adding up all events by hand gives: now, as of a time, as known at a time, page by page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise, product
from random import Random
from typing import Any

import pytest

from tallystick import Ledger, Refusal
from tallystick.commands import Leg, Split
from tallystick.errors import HoldExpired, InvalidInput, PeriodClosed, TransactionNotFound
from tallystick.events import Event
from tests.ledger.conftest import Book
from tests.support.kernel import EUR, START, USD

PEOPLE = [f"users:{number}" for number in range(5)]


def live(book: Book, seed: int, steps: int = 160) -> list[Event]:
    """A random history with back-dating, several assets and buckets, and many events at one instant."""
    random, ledger, time = Random(seed), book.ledger, book.time
    for person, asset in product(PEOPLE, (USD, EUR)):
        ledger.mint(person, asset, 1_000, key=book.key())
    for _ in range(steps):
        time.wait(random.choice([0, 0, 0.5, 60]))
        payer, payee = random.sample(PEOPLE, 2)
        asset, amount, key = random.choice([USD, EUR]), random.randint(1, 200), book.key()
        refs = {"order": f"o-{random.randint(1, 20)}", "trace_id": f"t-{random.randint(1, 5)}"}
        effective = max(time.now[:-8] + "0000000Z", START) if random.random() < 0.3 else ""
        if effective and random.random() < 0.5:
            effective = random.choice([START, *(found.time for found in ledger.events()[-30:])])
        try:
            match random.randint(0, 5):
                case 0:
                    ledger.hold(payer, asset, amount, key=key, refs=refs, reason="job")
                case 1:
                    ledger.fee(payer, asset, amount, key=key, refs=refs)
                case 2:
                    legs = [Leg(payer, payee, USD, amount), Leg(payee, payer, EUR, amount + 1)]
                    ledger.transact("transfer", legs, key=key, effective=effective, refs=refs)
                case _:
                    ledger.transfer(payer, payee, asset, amount, key=key, effective=effective, refs=refs, reason="pay")
        except Refusal:
            continue
    return [found.event for found in ledger.events(limit=10_000)]


def added_up(events: Iterable[Event], as_of: str = "9", recorded: str = "9") -> dict[tuple[str, str, str], int]:
    """Balances by brute force: what was recorded by one time of what had taken effect by the other."""
    balances: dict[tuple[str, str, str], int] = defaultdict(int)
    for event in events:
        if event.time <= recorded and event.effective_time <= as_of:
            for entry in event.entries:
                balances[entry.account, entry.asset, entry.bucket] += entry.amount
    return balances


def shown(views: Iterable[Any]) -> dict[tuple[str, str, str], int]:
    return {(view.account, view.asset, view.bucket): view.amount for view in views if view.amount}


# ---------------------------------------------------------------- balances in time


@pytest.mark.parametrize("seed", [1, 2])
def test_balances_as_of_any_times_are_what_the_events_add_up_to(book: Book, seed: int):
    events = live(book, seed)
    assert any(event.effective for event in events), "some were back-dated"
    ledger = book.reopen()
    moments = sorted({time for event in events for time in (event.time, event.effective_time)})
    random = Random(seed)
    some = [START[:-2] + "0Z", *random.sample(moments, 14), moments[-1], "2027-01-01T00:00:00.000000Z"]
    for as_of, recorded in product([None, *some], [None, *some]):
        expected = added_up(events, as_of or "9", recorded or "9")
        everything = ledger.trial_balance(as_of=as_of, recorded=recorded)
        found = {(row.account, row.asset, row.bucket): row.credit - row.debit for row in everything.rows}
        assert found == {name: amount for name, amount in expected.items() if amount}, (as_of, recorded)
        assert everything.is_balanced
        person = random.choice(PEOPLE)
        own = {name: amount for name, amount in expected.items() if name[0] == person and amount}
        assert shown(ledger.balances(person, as_of=as_of, recorded=recorded)) == own
        assert ledger.balance(person, USD, as_of=as_of, recorded=recorded) == own.get((person, USD, "available"), 0)


def test_times_may_be_given_in_any_zone_but_not_without_one(book: Book):
    book.ledger.mint("users:0", USD, 5, key="m")
    assert book.ledger.balance("users:0", USD, as_of="2026-01-01T01:00:00+01:00") == 5
    assert book.ledger.balance("users:0", USD, as_of="2026-01-01T00:59:59+01:00") == 0
    for word in ("as_of", "recorded"):
        with pytest.raises(InvalidInput, match="time zone"):
            book.ledger.balance("users:0", USD, **{word: "2026-01-01T00:00:00"})


def test_nobody_has_nothing_and_asking_makes_nothing(book: Book):
    ledger = book.ledger
    assert not ledger.exists
    assert ledger.balances("users:nobody") == []
    assert ledger.balance("users:nobody", USD) == 0
    assert ledger.available("users:nobody", USD) == 0
    assert ledger.account("users:nobody") is None
    assert ledger.register("users:nobody").items == []
    assert ledger.trial_balance().rows == []
    assert ledger.events() == ledger.locks() == ledger.accounts() == []
    assert ledger.head.seq == 0
    assert not ledger.exists
    assert ledger.replay().ok


# ---------------------------------------------------------------- the register


def lines_of(events: Iterable[Event], account: str, **wanted: str) -> list[tuple[int, int]]:
    """The (seq, index) of every entry of an account, by brute force."""
    return [
        (event.seq, index)
        for event in events
        for index, entry in enumerate(event.entries)
        if entry.account == account
        and wanted.get("asset", "") in ("", entry.asset)
        and wanted.get("bucket", "") in ("", entry.bucket)
        and wanted.get("start", "") <= event.time < wanted.get("end", "9")
    ]


def paged(ledger: Ledger, account: str, limit: int, **wanted: str) -> list[Any]:
    found, cursor = [], ""
    while True:
        page = ledger.register(account, limit=limit, after=cursor, **wanted)
        assert len(page.items) <= limit
        found += page.items
        cursor = page.cursor
        if not cursor:
            return found
        assert page.items, "only the last page may be short of a cursor"


def test_a_register_is_the_account_s_entries_in_order_however_it_is_paged(book: Book):
    events = live(book, 3)
    ledger = book.reopen()
    times = sorted({event.time for event in events})
    spans: list[dict[str, str]] = [{}, {"asset": USD}, {"asset": EUR, "bucket": "held"}, {"bucket": "available"}]
    spans += [{"start": times[3], "end": times[-4]}, {"start": times[5]}, {"end": times[5]}]
    spans += [{"start": times[4], "end": times[4]}, {"start": times[6], "end": times[2]}]
    for wanted, limit, person in product(spans, (1, 2, 3, 7, 1_000), [PEOPLE[0], "@issuance", "@fees"]):
        lines = paged(ledger, person, limit, **wanted)
        assert [(line.seq, line.index) for line in lines] == lines_of(events, person, **wanted)
        for line in lines:
            event = events[line.seq]
            entry = event.entries[line.index]
            assert (line.id, line.time, line.type, line.refs) == (event.id, event.time, event.type, event.refs)
            assert line.effective == event.effective_time
            assert (line.amount, line.before, line.after) == (entry.amount, entry.before, entry.after)
            assert (line.asset, line.bucket, line.version) == (entry.asset, entry.bucket, entry.version)
            assert line.hash == ledger.transaction(line.seq).hash


def test_a_register_s_intervals_are_half_open_so_that_neighbours_share_no_line(book: Book):
    events = live(book, 4)
    ledger = book.ledger
    times = sorted({event.time for event in events})
    cuts = ["2025-01-01T00:00:00.000000Z", *times[::5], "2027-01-01T00:00:00.000000Z"]
    parts = [line for start, end in pairwise(cuts) for line in ledger.register(PEOPLE[1], start=start, end=end).items]
    assert parts == ledger.register(PEOPLE[1]).items
    assert parts


def test_a_cursor_stays_where_it_is_while_others_post(book: Book):
    ledger = book.ledger
    for number in range(10):
        ledger.mint("users:0", USD, number + 1, key=book.key())
    first = ledger.register("users:0", limit=4)
    ledger.mint("users:0", USD, 100, key=book.key())
    rest = ledger.register("users:0", after=first.cursor)
    assert [line.amount for line in first.items + rest.items] == [*range(1, 11), 100]
    for nonsense in ("x", "1", "1.", ".1", "-1.0", "1.0.0", "٣.1"):
        with pytest.raises(InvalidInput):
            ledger.register("users:0", after=nonsense)
    for limit in (0, -1, 10_001, True, 1.5):
        with pytest.raises(InvalidInput):
            ledger.register("users:0", limit=limit)  # type: ignore[arg-type]


# ---------------------------------------------------------------- one event


def test_every_event_is_found_by_its_id_number_key_and_references(book: Book):
    events = live(book, 5, steps=60)
    ledger = book.reopen()
    by_reference: dict[tuple[str, str], list[str]] = defaultdict(list)
    for event in events:
        assert ledger.transaction(event.id).event == ledger.transaction(event.seq).event == event
        found = ledger.by_key(event.idem, event.source)
        assert found is not None
        assert found.event == event
        for reference in event.refs.items():
            by_reference[reference].append(event.id)
    assert len(by_reference) > 10
    for (name, value), ids in by_reference.items():
        assert [found.id for found in ledger.by_reference(name, value)] == ids
    assert ledger.by_reference("order", "o-none") == []
    assert ledger.by_key("no such key") is None
    assert ledger.by_key(events[1].idem, "another source") is None
    for id in (f"main/{len(events)}", "main/-1", "main/01x", "other/1", "main/", "", "main/99999999999999999999"):
        with pytest.raises(TransactionNotFound):
            ledger.transaction(id)
    for number in (-1, len(events), 2**63, 2**80):
        with pytest.raises(TransactionNotFound):
            ledger.transaction(number)


def test_events_come_in_order_after_any_number(book: Book):
    events = live(book, 6, steps=40)
    ledger = book.ledger
    for after in (-1, 0, 1, len(events) // 2, len(events) - 2, len(events) - 1, len(events) + 5):
        for limit in (1, 3, 10_000):
            found = [found.event for found in ledger.events(after=after, limit=limit)]
            assert found == events[after + 1 : after + 1 + limit]


# ---------------------------------------------------------------- locks and their expiry


def test_locks_are_found_by_kind_account_and_state_oldest_first_and_page_by_page(book: Book):
    ledger, key = book.ledger, book.key
    for person in PEOPLE[:2]:
        ledger.mint(person, USD, 1_000, key=key())
    holds = [ledger.hold(PEOPLE[n % 2], USD, 10, key=key(), expires_in_seconds=60 + n).id for n in range(12)]
    stake = ledger.stake_lock(PEOPLE[0], USD, 5, refs={"escrow": "e"}, key=key()).id
    bet = ledger.bet_stake(PEOPLE[1], USD, 5, round="r", key=key()).id
    ledger.capture(holds[0], to_account=PEOPLE[1], key=key())
    ledger.capture(holds[1], [Split(PEOPLE[0], 3)], final=False, key=key())
    ledger.release(holds[2], key=key())
    ledger.stake_slash(stake, "@treasury", 2, refs={"escrow": "e"}, key=key())
    ledger = book.reopen()
    assert [lock.id for lock in ledger.locks()] == [*holds, stake, bet]
    assert [lock.id for lock in ledger.locks(kind="hold")] == holds
    assert [lock.id for lock in ledger.locks(kind="bet")] == [bet]
    assert [lock.id for lock in ledger.locks(account=PEOPLE[1])] == [*holds[1::2], bet]
    states = {
        "captured": [holds[0]],
        "partially_captured": [holds[1]],
        "released": [holds[2]],
        "partially_slashed": [stake],
        "active": [*holds[3:], bet],
        "expired": [],
    }
    assert {state: [lock.id for lock in ledger.locks(state=state)] for state in states} == states
    after, found = "", []
    while page := ledger.locks(kind="hold", after=after, limit=5):
        found += [lock.id for lock in page]
        after = page[-1].id
    assert found == holds
    assert ledger.hold_by_id("main/999") is None


def test_a_hold_reads_as_expired_from_its_time_on_and_a_sweep_gives_it_back_once(book: Book):
    ledger, key, time = book.ledger, book.key, book.time
    ledger.mint("users:0", USD, 1_000, key=key())
    soon = ledger.hold("users:0", USD, 100, key=key(), expires_in_seconds=60).id
    partly = ledger.hold("users:0", USD, 200, key=key(), expires_in_seconds=60).id
    later = ledger.hold("users:0", USD, 300, key=key(), expires_in_seconds=61).id
    ledger.capture(partly, to_account="users:1", amount=50, final=False, key=key())
    time.wait(59.999999)
    assert ledger.expire_due() == []
    assert ledger.locks(state="expired") == []
    time.wait(0.000001)
    assert [lock.id for lock in ledger.locks(state="expired")] == [soon, partly]
    with pytest.raises(HoldExpired):
        ledger.capture(soon, to_account="users:1", key=key())
    assert ledger.balance("users:0", USD, "held") == 550, "reading as expired moves nothing"
    assert ledger.expire_due(now=START) == [], "nothing was due then"
    swept = ledger.expire_due(now="2027-01-01T00:00:00Z")
    assert len(swept) == 2, "a time that lies ahead counts as now"
    assert ledger.balance("users:0", USD) == 1_000 - 300 - 50
    assert ledger.expire_due() == []
    locks = [ledger.hold_by_id(id) for id in (soon, partly, later)]
    assert [lock and lock.state for lock in locks] == ["expired", "expired", "active"]
    time.wait(1)
    ledger = book.reopen()
    assert [ledger.transaction(posted.seq).data["hold"] for posted in ledger.expire_due()] == [later]  # type: ignore[union-attr]
    assert ledger.balance("users:0", USD, "held") == 0
    assert ledger.replay().ok


# ---------------------------------------------------------------- closed periods


def test_nothing_takes_effect_in_a_closed_period_any_more(book: Book):
    ledger, key, time = book.ledger, book.key, book.time
    ledger.mint("users:0", USD, 100, key=key())
    closed = time.wait(3_600)
    time.wait(3_600)
    ledger.transfer("users:0", "users:1", USD, 1, key=key(), effective=START)
    ledger.close_period(closed, key=key())
    with pytest.raises(PeriodClosed):
        ledger.transfer("users:0", "users:1", USD, 1, key=key(), effective="2026-01-01T00:59:59.999999Z")
    ledger.transfer("users:0", "users:1", USD, 1, key=key(), effective=closed)
    ledger = book.reopen()
    with pytest.raises(PeriodClosed):
        ledger.transfer("users:0", "users:1", USD, 1, key=key(), effective=START)
    for until in (closed, START, "2026-01-01T02:00:00.000001Z"):
        with pytest.raises(InvalidInput):
            ledger.close_period(until, key=key())
    assert ledger.balance("users:1", USD, as_of=START) == 1
    assert ledger.balance("users:1", USD, as_of=closed) == 2


def test_a_page_of_accounts_says_what_each_account_says_alone(book: Book) -> None:
    live(book, seed=5, steps=40)
    book.ledger.open_account("users:declared", key=book.key())
    ledger = book.ledger
    everything = ledger.accounts_with_balances()
    assert [view.address for view in everything] == ledger.accounts()
    assert [ledger.account(view.address) for view in everything] == everything
    first = ledger.accounts_with_balances("users:", limit=2)
    rest = ledger.accounts_with_balances("users:", after=first[-1].address)
    assert first + rest == [view for view in everything if view.address.startswith("users:")]
    before = {view.address: view.balances for view in ledger.accounts_with_balances(recorded=START)}
    assert all(before[person] == ledger.balances(person, recorded=START) for person in PEOPLE)
