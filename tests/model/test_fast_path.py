"""The short way for bare transfers gives the same bytes, hashes, rows and book as the general way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick import commands as c
from tallystick.commands import Command, Leg, Transfer
from tallystick.errors import Refusal
from tallystick.events import Event
from tallystick.journal import parse_strict, seal, seal_transfers
from tallystick.kernel import Book, apply, decide, run_transfers
from tallystick.kernel.transfers import Run
from tallystick.money import MAX_AMOUNT

NOW = "2026-01-01T00:00:00.000000Z"
LATER = "2026-01-01T00:00:01.000000Z"
PLAIN = ["users:a", "users:b", "users:c", "did:web:example.com:d"]
OTHERS = ["members:m", "users:frozen", "users:capped", "users:new", "@treasury", "@issuance"]


def furnished() -> Book:
    """A book with plain accounts that have something, and others that the short way must leave alone."""
    book = Book("main", complete=True)
    commands: list[Command] = [c.OpenLedger(key="open", name="main")]
    for index, account in enumerate([*PLAIN, "users:frozen", "users:capped", "@treasury"]):
        leg = Leg("@issuance", account, "USD/2", 100 + index)
        commands.append(c.Post(key=f"mint {account}", type="mint", legs=(leg,)))
    rich = Leg("@issuance", "users:c", "RICH", MAX_AMOUNT)
    commands += [
        c.Post(key="rich", type="mint", legs=(rich,)),
        c.Transfer(key="r", from_account="users:c", to_account="users:a", asset="RICH", amount=MAX_AMOUNT - 5),
        c.OpenAccount(key="member", account="members:m", limits={"USD/2": 500}),
        c.FreezeAccount(key="freeze", account="users:frozen"),
        c.SetLimit(key="ceiling", account="users:capped", asset="USD/2", ceiling=120),
    ]
    for command in commands:
        decide_apply(book, command, NOW)
    book.new_balances.clear()
    book.changed.clear()
    return book


def decide_apply(book: Book, command: Command, now: str) -> tuple[Event, bytes, str]:
    event = decide(book, command, now)
    body, hash = seal(event, book.hash)
    apply(book, event, hash)
    return event, body, hash


odd_text = st.one_of(
    st.text(min_size=1, max_size=20),
    st.sampled_from(
        [
            "k",
            "é",
            '"',
            "\\",
            "\\u0041",
            "日本語",
            "🪵",
            "\x7f",
            "a\u2028b",
            "\ud800",
            "\0",
            "x" * 255,
            "x" * 256,
            "'",
            "</",
        ]
    ),
)
transfers = st.builds(
    Transfer,
    key=st.one_of(st.uuids().map(str), odd_text),
    source=st.sampled_from(["local", "local", "local", "tarmac ✈", '"']),
    actor=st.sampled_from(["", "", "", "agent\\7", "zoë"]),
    from_account=st.sampled_from([*PLAIN, *PLAIN, *PLAIN, *OTHERS]),
    to_account=st.sampled_from([*PLAIN, *PLAIN, *PLAIN, *OTHERS]),
    asset=st.sampled_from(["USD/2", "USD/2", "USD/2", "RICH", "USD", "NEW/4"]),
    amount=st.one_of(st.integers(1, 40), st.sampled_from([0, -1, MAX_AMOUNT, MAX_AMOUNT + 1, True])),
    reason=st.sampled_from(["", "", "", "", "lunch"]),
)


@settings(max_examples=300, deadline=None)
@given(commands=st.lists(transfers, min_size=1, max_size=40))
def test_both_ways_write_the_same_journal_and_leave_the_same_book(commands: list[Transfer]):
    short, general = furnished(), furnished()
    position = 0
    while position < len(commands):
        run = run_transfers(short, commands, position, len(commands))
        if run is None:
            assert outcome(short, commands[position]) == outcome(general, commands[position])
            position += 1
            continue
        assert len(run.moved) >= 1
        check_run(short, general, run, commands[position : position + len(run.moved)])
        position += len(run.moved)
    assert picture(short) == picture(general)


def check_run(short: Book, general: Book, run: Run, commands: Sequence[Transfer]) -> None:
    first = short.seq
    bodies, hashes = seal_transfers(
        run.moved, ledger="main", source=run.source, actor=run.actor, time=LATER, seq=first, prev=short.hash
    )
    short.seq, short.hash, short.time = first + len(bodies), hashes[-1], LATER
    rows = []
    for command, body, hash in zip(commands, bodies, hashes, strict=True):
        event, expected, expected_hash = decide_apply(general, command, LATER)
        assert body == expected
        assert hash == expected_hash
        assert parse_strict(body)["idem"] == command.key
        for entry in event.entries:
            number = general.balance(entry.account, entry.asset, entry.bucket).id
            rows.append((number, entry.version, event.seq, entry.amount, entry.before, entry.after))
    assert run.entries == rows


def outcome(book: Book, command: Command) -> Any:
    try:
        return decide_apply(book, command, LATER)
    except Refusal as refusal:
        return type(refusal), refusal.data


def picture(book: Book) -> Any:
    balances = {pocket: dict(found) for pocket, found in book.pockets.items() if found}
    return book.seq, book.hash, book.time, book.balances_made, balances, book.objects, book.new_balances, book.changed


def test_a_run_that_is_taken_back_leaves_the_book_as_it_was():
    book = furnished()
    before = picture(book)
    commands = [
        Transfer(key=f"k{i}", from_account=PLAIN[i % 3], to_account=PLAIN[(i + 1) % 3], asset="USD/2", amount=7)
        for i in range(20)
    ]
    mark = book.mark()
    run = run_transfers(book, commands, 0, len(commands))
    assert run is not None
    assert len(run.moved) == len(commands)
    assert picture(book) != before
    book.rollback(mark)
    assert picture(book) == before


def test_a_run_ends_before_the_first_transfer_that_its_payer_cannot_afford():
    book = furnished()
    commands = [
        Transfer(key=f"k{i}", from_account="users:a", to_account="users:b", asset="USD/2", amount=30) for i in range(5)
    ]
    run = run_transfers(book, commands, 0, len(commands))
    assert run is not None
    assert len(run.moved) == 3
    assert book.balance("users:a", "USD/2", "available").amount == 10
