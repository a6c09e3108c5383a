"""Many balances in one question, and references and events page by page: the answers that one by one would give."""

from __future__ import annotations

import threading
from itertools import count

import pytest

from tallystick import Ledger
from tallystick.commands import Transfer
from tallystick.errors import Closed, InvalidInput
from tallystick.ledger import reads
from tallystick.ledger.views import Transaction
from tests.ledger.conftest import Book

USD, EUR = "USD/2", "EUR/2"
PEOPLE = [f"users:{number}" for number in range(12)]
MINTED = 1_000


@pytest.fixture
def ledger(book: Book) -> Ledger:
    """Everybody has some USD, some have EUR and holds; each order was paid for three times."""
    ledger = book.ledger
    for place, person in enumerate(PEOPLE):
        ledger.mint(person, USD, MINTED, key=book.key())
        if place % 3 == 0:
            ledger.mint(person, EUR, 50 + place, key=book.key())
        if place % 4 == 0:
            ledger.hold(person, USD, 10, key=book.key())
    for number in range(12):
        refs = {"order": f"o-{number % 4}"}
        ledger.transfer(PEOPLE[number], PEOPLE[number - 1], USD, 1 + number, key=book.key(), refs=refs)
    ledger.freeze(PEOPLE[3], key=book.key())
    ledger.unfreeze(PEOPLE[3], key=book.key())
    return ledger


# ---------------------------------------------------------------- balances of many


def test_balances_of_many_are_those_of_each_behind_all_events(book: Book, ledger: Ledger) -> None:
    asked = [*PEOPLE, "@issuance", "users:nobody"]
    expected = (ledger.head.seq, {account: ledger.balances(account) for account in asked})
    assert ledger.balances_of(asked) == expected
    assert list(ledger.balances_of(asked)[1]) == asked
    again = book.reopen()  # nothing is known from writing any more
    assert again.balances_of(asked) == expected


def test_an_account_that_was_never_used_has_no_balances_and_one_named_twice_is_answered_once(ledger: Ledger) -> None:
    seq, found = ledger.balances_of(["users:nobody", PEOPLE[0], "users:nobody", PEOPLE[0]])
    assert found == {"users:nobody": [], PEOPLE[0]: ledger.balances(PEOPLE[0])}
    assert ledger.balances_of([]) == (seq, {})


def test_a_ledger_without_events_has_no_balances_behind_no_events(book: Book) -> None:
    assert book.ledger.balances_of(["users:alice"]) == (0, {"users:alice": []})


def test_what_was_answered_is_read_at_once(book: Book, ledger: Ledger) -> None:
    for number in range(20):
        posted = ledger.transfer(PEOPLE[0], f"users:new:{number}", USD, 1, key=book.key())
        seq, found = ledger.balances_of([f"users:new:{number}"])
        assert seq == posted.seq + 1 == ledger.head.seq
        assert [view.amount for view in found[f"users:new:{number}"]] == [1]
        assert ledger.balance(f"users:new:{number}", USD) == 1


def test_the_largest_amounts_come_back_to_the_unit(book: Book) -> None:
    largest = 2**63 - 1
    did = "did:example:a%3Ab:c"
    book.ledger.mint(did, USD, largest, key=book.key())
    _, found = book.ledger.balances_of([did, "@issuance"])
    assert [views[0].amount for views in found.values()] == [largest, -largest]


def test_a_refused_posting_moves_nothing(book: Book, ledger: Ledger) -> None:
    before = ledger.balances_of(PEOPLE), ledger.head
    with pytest.raises(Exception, match="available"):
        ledger.transfer(PEOPLE[0], PEOPLE[1], USD, 10**9, key=book.key())
    assert (ledger.balances_of(PEOPLE), ledger.head) == before


def test_ten_thousand_accounts_can_be_asked_for_and_no_more(ledger: Ledger) -> None:
    many = [f"users:{number}" for number in range(10_000)]
    seq, found = ledger.balances_of(many)
    assert (seq, len(found)) == (ledger.head.seq, 10_000)
    assert {account for account, views in found.items() if views} == set(PEOPLE)
    with pytest.raises(InvalidInput, match="10001 are more than 10000"):
        ledger.balances_of([*many, "users:more"])


@pytest.mark.parametrize("address", ["", "no address", "users:\ud800", "@unknown", 7, None])
def test_what_is_no_address_is_refused_with_its_place(book: Book, address: object) -> None:
    with pytest.raises(InvalidInput, match=r"accounts\[1\]"):
        book.ledger.balances_of(["users:alice", address])  # type: ignore[list-item]


def test_many_balances_are_read_at_one_position_while_others_post(book: Book, ledger: Ledger) -> None:
    """Between these accounts value only moves, two entries an event: any other position would show in the sums."""
    base, found = ledger.balances_of(PEOPLE)
    versions = sum(view.version for views in found.values() for view in views)
    total = sum(view.amount for views in found.values() for view in views)
    stop, failures, numbers = threading.Event(), list[BaseException](), count()

    def pay() -> None:
        try:
            while not stop.is_set():
                number = next(numbers)
                if number % 3:
                    ledger.transfer(PEOPLE[number % 12], PEOPLE[(number + 5) % 12], USD, 1, key=f"one {number}")
                else:
                    pairs = [(PEOPLE[place], PEOPLE[place - 1]) for place in range(12)]
                    ledger.post_many(
                        [
                            Transfer(
                                key=f"many {number} {payer}", from_account=payer, to_account=payee, asset=USD, amount=1
                            )
                            for payer, payee in pairs
                        ]
                    )
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=pay) for _ in range(2)]
    for writer in writers:
        writer.start()
    last = base
    for _ in range(150):
        durable = ledger.head.seq
        seq, found = ledger.balances_of(PEOPLE)
        views = [view for views in found.values() for view in views]
        assert sum(view.amount for view in views) == total
        assert sum(view.version for view in views) == versions + 2 * (seq - base)
        assert seq >= durable >= last
        last = seq
    stop.set()
    for writer in writers:
        writer.join()
    assert failures == []
    assert ledger.replay().ok


def test_a_closed_ledger_answers_no_head_from_memory(book: Book, ledger: Ledger) -> None:
    assert ledger.head.seq
    book.database.close()
    for read in (lambda: ledger.head, lambda: ledger.balances_of(PEOPLE), lambda: ledger.balance(PEOPLE[0], USD)):
        with pytest.raises(Closed):
            read()


# ---------------------------------------------------------------- references


def test_the_events_of_a_reference_are_read_page_by_page(ledger: Ledger) -> None:
    whole = ledger.by_reference("order", "o-2")
    assert [found.refs for found in whole] == [{"order": "o-2"}] * 3
    met: list[Transaction] = []
    while page := ledger.by_reference("order", "o-2", after=met[-1].seq if met else -1, limit=2):
        met += page
    assert met == whole
    assert ledger.by_reference("order", "o-2", limit=1) == whole[:1]
    assert ledger.by_reference("order", "o-2", after=whole[0].seq - 1) == whole
    assert ledger.by_reference("order", "o-2", after=whole[-1].seq) == []
    assert ledger.by_reference("order", "o-2", after=2**40) == []


def test_a_page_of_references_has_a_size_and_a_place(ledger: Ledger) -> None:
    assert len(ledger.by_reference("order", "o-1", limit=10_000)) == 3
    for limit in (0, 10_001, True, "1"):
        with pytest.raises(InvalidInput, match="limit"):
            ledger.by_reference("order", "o-1", limit=limit)  # type: ignore[arg-type]
    for after in (-2, 2**62, "1", None):
        with pytest.raises(InvalidInput, match="after"):
            ledger.by_reference("order", "o-1", after=after)  # type: ignore[arg-type]
    assert ledger.by_reference("\ud800", "o-1") == []


# ---------------------------------------------------------------- events that are looked for


@pytest.mark.parametrize("types", [(), ("transfer",), ("mint", "hold"), ("account_frozen",), ("never",), ("\ud800",)])
@pytest.mark.parametrize("account", ["", PEOPLE[3], "users:1", "users:nobody"])
@pytest.mark.parametrize("limit", [1, 3, 1_000])
def test_events_of_types_and_of_an_account_are_found_page_by_page(
    ledger: Ledger, types: tuple[str, ...], account: str, limit: int
) -> None:
    expected = [
        found
        for found in ledger.events()
        if (not types or found.type in types)
        and (
            not account or found.data.get("account") == account or account in [entry.account for entry in found.entries]
        )
    ]
    met, after, more = list[Transaction](), -1, True
    while more:
        page = ledger.events_page(after=after, limit=limit, types=types, account=account)
        assert len(page.items) <= limit
        assert page.after > after
        met, after, more = met + page.items, page.after, page.more
    assert met == expected
    assert after < ledger.head.seq


def test_one_call_looks_at_no_more_than_so_many_events(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "EVENTS_LOOKED_AT", 10)
    monkeypatch.setattr(reads, "EVENTS_PER_READ", 4)
    page = ledger.events_page(types=["account_unfrozen"])
    assert (page.items, page.after, page.more) == ([], 9, True)
    pages = 1
    while page.more:
        page = ledger.events_page(after=page.after, types=["account_unfrozen"])
        pages += 1
    assert [found.type for found in page.items] == ["account_unfrozen"]
    assert pages == -(-ledger.head.seq // 10)


def test_a_page_behind_the_last_event_is_empty_and_stays_where_it_is(book: Book, ledger: Ledger) -> None:
    last = ledger.head.seq - 1
    page = ledger.events_page(after=last, types=["mint"])
    assert (page.items, page.after, page.more) == ([], last, False)
    posted = ledger.mint(PEOPLE[0], USD, 1, key=book.key())
    page = ledger.events_page(after=page.after, types=["mint"])
    assert ([found.seq for found in page.items], page.after, page.more) == ([posted.seq], posted.seq, False)


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": 10_001}, {"after": -2}, {"account": "no address"}])
def test_a_page_that_cannot_be_is_refused(book: Book, wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        book.ledger.events_page(**wrong)  # type: ignore[arg-type]
