"""Posting beside the archive: what lies there, or is away, is the affair of those alone who ask for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import IsolationLevel

from tallystick import Ledger, Posted, TallystickError
from tallystick.commands import Command, Leg, Post, Reverse, Transfer
from tallystick.errors import Archived, BatchAborted, NotPermitted, Unavailable
from tallystick.ledger import writer
from tallystick.stores.postgres import parquet
from tests.postgres.test_archive import NOW, USD, Books, archived, books, folder, glance, hide
from tests.support.processes import wait_until

__all__ = ["archived", "books", "folder"]

PATIENCE = 60.0
"""How long a test waits for what must come, in seconds."""


def pay(key: str, amount: int = 1, **more: Any) -> Transfer:
    return Transfer(key=key, from_account="users:alice", to_account="users:bob", asset=USD, amount=amount, **more)


OLD = pay("k12", 5, refs={"order": "o-1"})
"""What was posted in January 2018, asked again."""
RESTS_ON_THE_PAST: dict[str, Command] = {
    "a key that was used": OLD,
    "a reversal": Reverse(key="reversal", transaction="main/20"),
    "a back-dated posting": Post(
        key="late", type="transfer", legs=(Leg("users:alice", "users:bob", USD, 1),), effective="2018-01-10T08:00:30Z"
    ),
}


def in_one_round(url: str, ledger: Ledger, acts: Sequence[Callable[[], Any]]) -> list[Any]:
    """What several callers are answered, or what they are told, whose commands are decided together."""

    def answer(act: Callable[[], Any]) -> Any:
        try:
            return act()
        except TallystickError as error:
            return error

    with psycopg.connect(url) as lock, ThreadPoolExecutor(len(acts) + 1) as pool:
        lock.execute("SELECT FROM tallystick.head FOR UPDATE")
        first = pool.submit(ledger.post, pay("first"))
        wait_until(lambda: ledger._writer._begun > ledger._writer._finished, PATIENCE, "a round that waits")
        answers = [pool.submit(answer, act) for act in acts]
        wait_until(lambda: len(ledger._writer._queue) == len(acts), PATIENCE, "those who wait for it")
        lock.rollback()
        assert first.result(PATIENCE)
        return [one.result(PATIENCE) for one in answers]


# ---------------------------------------------------------------- files that are away


@pytest.mark.parametrize("claims", [False, True], ids=["alone", "among others"])
@pytest.mark.parametrize("what", RESTS_ON_THE_PAST)
def test_what_rests_on_a_file_that_is_away_fails_alone(archived: Books, folder: Path, what: str, claims: bool) -> None:
    hide(folder)
    with archived.open() as database:
        ledger = database.ledger()
        if claims:
            ledger._writer._claims = 5
        acts = [
            lambda: ledger.post(RESTS_ON_THE_PAST[what]),
            *(lambda n=n: ledger.post(pay(f"n{n}")) for n in range(3)),
        ]
        wrong, *right = in_one_round(archived.url, ledger, acts)
        assert isinstance(wrong, Archived)
        assert all(isinstance(answer, Posted) and not answer.replayed for answer in right), right
        assert ledger.transfer("users:alice", "users:bob", USD, 1, key="goes on").seq == right[0].seq + 3


def test_of_an_independent_batch_all_else_is_posted_and_answered_when_the_file_is_back(
    archived: Books, folder: Path
) -> None:
    hidden = hide(folder)
    batch = [pay("n1"), OLD, pay("n2"), pay("k13", 6, refs={"order": "o-1"}), pay("n3")]
    with archived.open() as database:
        ledger = database.ledger()
        end = ledger.head.seq
        with pytest.raises(Archived):
            ledger.post_many(batch)
        assert [event.key for event in ledger.events(after=end - 1)] == ["n1", "n2", "n3"]
        for path in hidden:
            path.rename(folder / path.name)
        answers = ledger.post_many(batch)
        assert [isinstance(answer, Posted) and answer.replayed for answer in answers[:3]] == [True] * 3
        assert ledger.head.seq == end + 3


def test_an_atomic_batch_posts_nothing_and_says_why(archived: Books, folder: Path) -> None:
    hide(folder)
    with archived.open() as database:
        ledger = database.ledger()
        head = ledger.head
        with pytest.raises(Archived):
            ledger.post_many([pay("n1"), OLD, pay("too much", 10**9)], atomic=True)
        with pytest.raises(BatchAborted) as raised:
            ledger.post_many([pay("n1"), pay("too much", 10**9), OLD], atomic=True)
        assert raised.value.data["index"] == 1
        with pytest.raises(Archived):
            ledger.post_many([pay("n1"), OLD], dry_run=True)
        assert ledger.head == head


def test_a_call_within_a_transaction_of_the_callers_takes_back_all_that_it_wrote(archived: Books, folder: Path) -> None:
    hide(folder)
    with archived.open() as database, psycopg.connect(archived.url) as connection:
        ledger = database.ledger()
        end = ledger.head.seq
        ledger.post(pay("before"), connection=connection)
        with pytest.raises(Archived):
            ledger.post_many([pay("n1"), OLD, pay("n2")], connection=connection)
        ledger.post(pay("behind"), connection=connection)
        connection.commit()
        assert [event.key for event in ledger.events(after=end - 1)] == ["before", "behind"]


def test_a_writer_that_slept_through_the_archive_posts_though_what_it_knew_last_is_away(
    books: Books, folder: Path
) -> None:
    """It must know the keys that others used since; whether its own memory still counts, only that file could tell."""
    with books.open() as sleeping, books.open() as awake:
        old, new = sleeping.ledger(), awake.ledger()
        for number in range(2):
            old.post(pay(f"old {number}"))
            new.post(pay(f"new {number}"))
        books.time.now = "2041-01-01T00:00:00.000000Z"
        books.archive(folder, now=books.time.now)
        hide(folder)
        assert not old.post(pay("goes on")).replayed
        with pytest.raises(Archived):
            old.post(pay("new 1"))
        assert not old.post(pay("and on")).replayed


# ---------------------------------------------------------------- a clock that is far behind


LONG_AGO = "2018-02-20T00:00:00.000000Z"
"""In a month that was archived."""

WAYS: dict[str, Callable[[Ledger, psycopg.Connection[Any]], Any]] = {
    "alone": lambda ledger, _: ledger.mint("users:late", USD, 5, key="late"),
    "copied": lambda ledger, _: ledger.post_many([mint(f"late {number}") for number in range(1_000)]),
    "in the caller's transaction": lambda ledger, caller: ledger.mint("users:late", USD, 5, key="l", connection=caller),
}


def mint(key: str) -> Post:
    return Post(key=key, type="mint", legs=(Leg("@issuance", "users:late", USD, 5),))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("meanwhile", "claims"),
    [(False, False), (True, False), (True, True)],
    ids=["before", "meanwhile", "meanwhile, among others"],
)
def test_a_posting_in_an_archived_month_is_told_so_and_goes_on_when_the_clock_is_right(
    books: Books, folder: Path, way: str, meanwhile: bool, claims: bool
) -> None:
    books.time.now = LONG_AGO
    with books.open() as database, psycopg.connect(books.url) as caller:
        ledger = database.ledger("late")
        if meanwhile:  # this process has made sure of the month's partitions
            ledger.mint("users:late", USD, 5, key="first")
        books.archive(folder)
        before = glance(books)
        if claims:
            ledger._writer._claims = 1
        with pytest.raises(NotPermitted, match="2018-02 was archived, so nothing more is posted to it: a clock says"):
            WAYS[way](ledger, caller)
        assert glance(books) == before
        books.time.now = NOW
        assert WAYS[way](ledger, caller)
        caller.commit()
        assert database.replay("late").ok


@pytest.mark.parametrize("claims", [False, True], ids=["alone", "among others"])
def test_a_ledger_whose_last_month_was_archived_is_not_posted_to_by_a_clock_that_stands_there(
    books: Books, folder: Path, claims: bool
) -> None:
    books.time.now = LONG_AGO
    with books.open() as database:
        ledger = database.ledger("late")
        ledger.mint("users:late", USD, 5, key="first")
        ledger._writer._claims = 3 * claims
        books.archive(folder)
        with pytest.raises(NotPermitted):
            ledger.mint("users:late", USD, 5, key="late")
        books.time.now = NOW
        assert ledger.mint("users:late", USD, 5, key="late").seq == 2


# ---------------------------------------------------------------- a snapshot of before


SNAPSHOTS = [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE]
NEEDS_THE_PAST: dict[str, Command] = {
    **RESTS_ON_THE_PAST,
    "a balance that was not used since": Transfer(
        key="last", from_account="users:dormant", to_account="users:bob", asset=USD, amount=11
    ),
    "a balance that has none left": Transfer(
        key="none", from_account="users:dormant", to_account="users:bob", asset=USD, amount=12
    ),
    "nothing of it": pay("new"),
}


def answer_to(ledger: Ledger, command: Command, connection: psycopg.Connection[Any]) -> Any:
    """What a command comes to, but for what differs from time to time."""
    try:
        posted = ledger.post(command, connection=connection)
        return posted.seq, posted.replayed
    except TallystickError as error:
        return error.to_dict()


@pytest.mark.parametrize("level", SNAPSHOTS, ids=str)
@pytest.mark.parametrize("what", NEEDS_THE_PAST)
@pytest.mark.parametrize("away", [False, True], ids=["files at hand", "files away"])
def test_a_transaction_that_began_before_a_month_was_archived_is_to_be_begun_again(
    books: Books, folder: Path, level: IsolationLevel, what: str, away: bool
) -> None:
    with books.open() as database, psycopg.connect(books.url) as connection:
        ledger = database.ledger()
        expected = answer_to(ledger, NEEDS_THE_PAST[what], connection)
        connection.rollback()
        connection.isolation_level = level
        connection.execute("SELECT 1 FROM tallystick.ledger")
        books.archive(folder)
        if away:
            hide(folder)
        with pytest.raises(Unavailable, match="2018-01 was archived since this transaction began: begin it anew"):
            ledger.post(NEEDS_THE_PAST[what], connection=connection)
        connection.execute("SELECT 1")
        connection.rollback()
        found = answer_to(ledger, NEEDS_THE_PAST[what], connection)
        assert found == expected or (away and what in RESTS_ON_THE_PAST and found["code"] == "archived")


@pytest.mark.parametrize("level", SNAPSHOTS, ids=str)
def test_a_transaction_that_began_before_a_month_of_other_ledgers_was_archived_goes_on(
    books: Books, folder: Path, level: IsolationLevel
) -> None:
    with books.open() as database, psycopg.connect(books.url) as connection:
        database.ledger("young").mint("users:alice", USD, 5, key="first")
        connection.isolation_level = level
        connection.execute("SELECT 1 FROM tallystick.ledger")
        books.archive(folder)
        database.ledger("young").post(pay("new"), connection=connection)
        connection.commit()
        assert database.replay("young").ok


@pytest.mark.parametrize("level", SNAPSHOTS, ids=str)
def test_a_transaction_that_posted_before_keeps_the_months_where_they_are(
    books: Books, folder: Path, level: IsolationLevel
) -> None:
    with books.open() as database, psycopg.connect(books.url) as connection:
        ledger = database.ledger()
        connection.isolation_level = level
        ledger.post(pay("one"), connection=connection)
        with books.archiver() as archiver:
            archiver.lock_seconds = 0.5
            with pytest.raises(Unavailable, match="the tables were in use all the time"):
                archiver.run(folder)
        ledger.post(RESTS_ON_THE_PAST["a reversal"], connection=connection)
        connection.commit()
        assert ledger.replay().ok


def test_a_transaction_without_a_snapshot_sees_what_was_archived_meanwhile(books: Books, folder: Path) -> None:
    with books.open() as database, psycopg.connect(books.url) as connection:
        ledger = database.ledger()
        connection.execute("SELECT 1 FROM tallystick.ledger")
        books.archive(folder)
        for command in NEEDS_THE_PAST.values():
            answer = answer_to(ledger, command, connection)
            assert isinstance(answer, tuple) or answer["code"] == "insufficient_funds", answer
        connection.commit()
        assert ledger.replay().ok


# ---------------------------------------------------------------- files that nobody has used yet


NEAR_THE_END = "tallystick.ledger.database.EVENTS_CHECKED_ON_OPENING"
"""So many of the last events are read when a ledger is first used: here none that are in the archive."""


class Gate:
    """Keeps whoever looks at a file for the first time until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = threading.Event()
        self.looking: list[str] = []
        look = parquet._look

        def wait_and_look(arrow: Any, path: str) -> Any:
            self.looking.append(path)
            assert self.opened.wait(PATIENCE)
            return look(arrow, path)

        monkeypatch.setattr(parquet, "_look", wait_and_look)
        monkeypatch.setattr(parquet, "DIGESTED_AT_ONCE", 0)
        monkeypatch.setattr(NEAR_THE_END, 4)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


@pytest.mark.parametrize("what", RESTS_ON_THE_PAST)
@pytest.mark.parametrize("way", ["alone", "among others", "in the caller's transaction", "in a long batch"])
def test_while_a_file_is_read_for_the_first_time_everybody_else_posts(
    archived: Books, gate: Gate, what: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "STREAMED_FROM", 4)
    with (
        archived.open() as ours,
        archived.open() as theirs,
        psycopg.connect(archived.url) as caller,
        ThreadPoolExecutor(3) as pool,
    ):
        ledger, other = ours.ledger(), theirs.ledger()
        ledger._writer._claims = 5 * (way == "among others")

        def ask() -> Any:
            if way == "in a long batch":
                return ledger.post_many([pay("b1"), RESTS_ON_THE_PAST[what], pay("b2"), pay("b3")])[1]
            return ledger.post(RESTS_ON_THE_PAST[what], connection=caller if way.startswith("in the") else None)

        answer = pool.submit(ask)
        try:
            wait_until(lambda: gate.looking, PATIENCE, "somebody who reads a file")
            for number in range(3):
                mine, others = (pool.submit(one.post, pay(f"{one is other} {number}")) for one in (ledger, other))
                assert mine.result(PATIENCE).seq != others.result(PATIENCE).seq
        finally:
            gate.opened.set()
        posted = answer.result(PATIENCE)
        assert isinstance(posted, Posted)
        assert posted.replayed == (RESTS_ON_THE_PAST[what] is OLD)
        caller.commit()
        assert ledger.replay().ok


def test_a_file_that_is_read_for_the_first_time_keeps_nobody_from_reading_others(archived: Books, gate: Gate) -> None:
    with archived.open(read_only=True) as database, ThreadPoolExecutor(2) as pool:
        gate.opened.set()
        expected = database.ledger().transaction("main/52")
        gate.opened.clear()
        gate.looking.clear()
        slow = pool.submit(database.ledger().transaction, "main/3")
        try:
            wait_until(lambda: gate.looking, PATIENCE, "somebody who reads a file")
            assert pool.submit(database.ledger().transaction, "main/52").result(PATIENCE) == expected
        finally:
            gate.opened.set()
        assert slow.result(PATIENCE).seq == 3


def test_a_file_that_goes_or_changes_while_it_is_read_is_told_of(
    archived: Books, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "DIGESTED_AT_ONCE", 0)
    monkeypatch.setattr(NEAR_THE_END, 4)
    look = parquet._look
    (path,) = folder.glob("event-2018-01-*")

    def look_and_touch(arrow: Any, name: str) -> Any:
        found = look(arrow, name)
        os.utime(name, ns=(1, found.signature[3] + 1))
        return found

    with archived.open() as ours:
        ledger = ours.ledger()
        head = ledger.head
        with monkeypatch.context() as patch:
            patch.setattr(parquet, "_look", look_and_touch)
            with pytest.raises(Unavailable, match="was changed after it was read") as raised:
                ledger.post(OLD)
        assert raised.value.retryable
        with monkeypatch.context() as patch:
            patch.setattr(parquet, "_look", lambda *_: path.unlink())
            with pytest.raises(Archived, match="there is no such file"):
                ledger.post(OLD)
        assert ledger.head == head
        assert ledger.post(pay("goes on")).seq == head.seq


def test_a_file_that_cannot_be_read_fails_those_alone_who_need_it(
    archived: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "DIGESTED_AT_ONCE", 0)
    monkeypatch.setattr(NEAR_THE_END, 4)

    def fail(*_: object) -> None:
        raise OSError("input/output error")

    with archived.open() as database:
        ledger = database.ledger()
        with monkeypatch.context() as patch:
            patch.setattr(parquet, "_look", fail)
            answers = in_one_round(archived.url, ledger, [lambda: ledger.post(OLD), lambda: ledger.post(pay("n1"))])
            assert isinstance(answers[0], Archived)
            assert "it cannot be read: input/output error" in str(answers[0])
            assert isinstance(answers[1], Posted)
        monkeypatch.setattr(parquet, "FAILED_SECONDS", 0)
        assert ledger.post(OLD).replayed
