"""Damage to anything that is derived from the journal is found by replay, and made good by rebuilding."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

import tallystick
from tallystick.commands import Leg
from tallystick.errors import LedgerCorrupt, OverCapture
from tallystick.journal import leaf_hash
from tallystick.ledger import database as opening
from tests.conftest import NewUrl
from tests.ledger.conftest import Book
from tests.support.kernel import START, USD
from tests.support.stores import LASTING

HOLD = "main/3"


@pytest.fixture(params=LASTING)
def url(request: pytest.FixtureRequest, new_url: NewUrl) -> str:
    """A ledger with something in every table, then closed."""
    made = new_url(request.param)
    book = Book(made)
    ledger, key = book.ledger, book.key
    ledger.mint("users:a", USD, 10_000, key=key())
    ledger.open_account("members:m", limits={USD: 1_000}, key=key())
    assert ledger.hold("users:a", USD, 500, key=key(), refs={"order": "o-1"}).id == HOLD
    book.time.wait(60)
    ledger.transfer("users:a", "users:b", USD, 70, key=key(), effective=START)
    ledger.reverse("main/4", 20, key=key())
    for number in range(300):
        book.time.wait(1)
        ledger.transfer("users:a", "members:m", USD, 1 + number % 3, key=key())
    book.database.close()
    return made


class Hand:
    """Somebody's hand in the tables. A statement is written for both kinds of store, with these words in the places
    where they differ."""

    def __init__(self, connection: Any, mark: str, words: dict[str, str]) -> None:
        self._connection = connection
        self._words = {"?": mark, **words}

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        for word, meant in self._words.items():
            statement = statement.replace(word, meant)
        return self._connection.execute(statement, values)


@contextmanager
def unguarded(url: str) -> Iterator[Hand]:
    """The tables in the hands of somebody who sets the guards aside, and puts them back afterwards."""
    if url.startswith("postgresql:"):
        with psycopg.connect(url, autocommit=True) as session:
            if session.info.parameter_status("is_superuser") != "on":
                pytest.skip("only a superuser can set a database's guards aside")
            session.execute("SET session_replication_role = replica")  # no trigger fires here
            session.execute("SET search_path = tallystick, pg_catalog")
            yield Hand(
                session,
                "%s",
                {"PART": "period", "TEXT_TYPE": "text", "SEQ_TOO": "seq,", ", TWIN": ", twin", ", NO_TWIN": ", 0"},
            )
        return
    with closing(sqlite3.connect(url, isolation_level=None)) as connection:
        guards = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in guards:
            connection.execute(f"DROP TRIGGER {name}")
        yield Hand(connection, "?", {"PART": "part", "TEXT_TYPE": "BLOB", "SEQ_TOO": "", ", TWIN": "", ", NO_TWIN": ""})
        for _, statement in guards:
            connection.execute(statement)


def questions(url: str) -> Any:
    with tallystick.open(url, create=False) as database:
        ledger = database.ledger("main")
        people = ledger.accounts()
        return (
            [ledger.register(person, limit=10_000).items for person in people],
            [ledger.account(person) for person in people],
            ledger.locks(),
            ledger.trial_balance(as_of=START),
            ledger.by_reference("order", "o-1"),
            [ledger.by_key(f"key-{number}") for number in range(1, 20)],
        )


def damage(table: str, where: str, **values: Any) -> str:
    changes = ", ".join(f"{name} = {value}" for name, value in values.items())
    return f"UPDATE {table} SET {changes} WHERE {where}"


def rewritten(old: str, new: str, where: str) -> str:
    return f"UPDATE object SET body = CAST(replace(body, '{old}', '{new}') AS TEXT_TYPE) WHERE {where}"


DAMAGES = {
    "an entry that moved more": damage("entry", "seq = 1", amount="amount + 1", after="after + 1"),
    "half of a pair of entries": damage("entry", "seq = 1 AND amount > 0", amount="amount + 1", after="after + 1"),
    "an entry in another event": damage("entry", "seq = 3", seq="2"),
    "an entry that is gone": "DELETE FROM entry WHERE seq = 4 AND amount > 0",
    "an entry too many": "INSERT INTO entry (ledger, PART, balance, version, seq, amount, before, after) "
    "SELECT ledger, PART, balance, 9000 + version, seq, amount, before, after FROM entry WHERE seq = 4",
    "a key that is gone": "DELETE FROM idempotency WHERE seq = 2",
    "a key that names another event": damage("idempotency", "seq = 2", seq="5"),
    "a key too many": "INSERT INTO idempotency (ledger, PART, number, seq, TWIN) "
    "SELECT ledger, PART, 12345, 6, NO_TWIN FROM idempotency WHERE seq = 2",
    "a reference that is gone": "DELETE FROM reference",
    "a reference too many": "INSERT INTO reference (ledger, PART, name, value, seq) "
    "SELECT ledger, PART, name, 'o-9', 2 FROM reference",
    "a back-dating that is gone": "DELETE FROM backdated",
    "a back-dating to another time": damage("backdated", "true", effective="'2026-01-01T00:00:30.000000Z'"),
    "a hold that keeps more": rewritten('"remaining":500', '"remaining":501', "kind = 'lock'"),
    "a hold that is gone": "DELETE FROM object WHERE kind = 'lock'",
    "a limit that was raised": rewritten("1000", "9000", "id = 'members:m'"),
    "a rule that was changed": rewritten("ESCROWED", "SOFT", "kind = 'policy'"),
    "a reversal that is gone": "DELETE FROM object WHERE kind = 'reversal'",
    "a period that was never closed": "INSERT INTO object "
    "(ledger, kind, id, place, account, state, expires, SEQ_TOO body) "
    "SELECT ledger, 'period', 'closed', 'closed', '', '', '', SEQ_TOO "
    'CAST(\'{"id":"2026-01-01T00:00:10.000000Z","time":"2026-01-01T00:00:10.000000Z","data":{}}\' AS TEXT_TYPE) '
    "FROM object WHERE kind = 'policy'",
    "a balance of another account": damage("balance", "account = 'users:b'", account="'users:c'"),
    "a balance in another bucket": damage("balance", "account = 'users:b'", bucket="'promo'"),
    "a balance that is gone": "DELETE FROM balance WHERE account = 'users:b'",
}


@pytest.mark.parametrize("name", DAMAGES)
def test_replay_finds_every_damage_and_rebuilding_makes_it_good(url: str, name: str):
    before = questions(url)
    with unguarded(url) as connection:
        assert connection.execute(DAMAGES[name]).rowcount >= 1
    with tallystick.open(url, create=False) as database:
        report = database.replay("main")
        assert not report.ok, "the damage was overlooked"
        assert all(finding.where and finding.problem for finding in report.findings)
        assert database.rebuild("main").ok
        assert database.replay("main").ok
    assert questions(url) == before


def test_an_undamaged_ledger_replays_without_findings_and_counts_what_it_holds(url: str):
    seen: list[tuple[int, int]] = []
    with tallystick.open(url, create=False) as database:
        report = database.ledger("main").replay(progress=lambda done, total: seen.append((done, total)))
        head = database.ledger("main").head
    assert report.ok
    assert (report.ledger, report.events, report.head) == ("main", head.seq, head.hash)
    assert report.entries == 2 * (head.seq - 2)
    assert seen[-1] == (report.events, report.events)


@pytest.mark.parametrize("whose", ["the ledger's own", "the database's"])
def test_rebuilding_takes_effect_on_a_ledger_that_is_open(url: str, whose: str):
    with unguarded(url) as connection:
        connection.execute(DAMAGES["a hold that keeps more"].replace("501", "5"))
    with tallystick.open(url, create=False, clock=lambda: "2026-01-02T00:00:00.000000Z") as database:
        ledger = database.ledger("main")
        with pytest.raises(OverCapture):
            ledger.capture(HOLD, to_account="users:b", amount=100, key="capture")
        assert (ledger.rebuild() if whose == "the ledger's own" else database.rebuild("main")).ok
        ledger.capture(HOLD, to_account="users:b", amount=100, key="capture")
        assert ledger.replay().ok


# ---------------------------------------------------------------- opening


def opens(url: str) -> None:
    with tallystick.open(url, create=False) as database:
        database.ledger("main")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET amount = amount + 1, after = after + 1 WHERE seq = (SELECT max(seq) FROM entry)",
        "DELETE FROM entry WHERE seq = (SELECT max(seq) FROM entry)",
        "DELETE FROM event WHERE seq = (SELECT max(seq) FROM event)",
        "DELETE FROM event WHERE seq = (SELECT max(seq) - 1 FROM event)",
        "UPDATE balance SET account = 'users:thief' WHERE account = 'members:m'",
    ],
)
def test_damage_at_the_end_of_a_ledger_is_told_when_it_is_opened(url: str, statement: str):
    with unguarded(url) as connection:
        assert connection.execute(statement).rowcount >= 1
    with pytest.raises(LedgerCorrupt):
        opens(url)


def test_an_event_that_was_rewritten_with_its_hash_does_not_fit_the_chain(url: str):
    """Somebody who writes another amount, balances that add up and the new event's own hash is betrayed by the next."""
    with unguarded(url) as connection:
        (seq,) = connection.execute("SELECT max(seq) - 5 FROM event").fetchone()
        (body,) = connection.execute("SELECT body FROM event WHERE seq = ?", (seq,)).fetchone()
        other = json.loads(body)
        other["source"] = "elsewhere"
        rewritten = json.dumps(other, sort_keys=True, separators=(",", ":")).encode()
        hash = leaf_hash(rewritten)
        connection.execute("UPDATE event SET body = ?, hash = ? WHERE seq = ?", (rewritten, hash, seq))
    with pytest.raises(LedgerCorrupt):
        opens(url)
    with tallystick.open(url, create=False) as database:
        report = database.replay("main")
        assert not report.ok
        assert not database.rebuild("main").ok, "what the journal does not vouch for is not made"


def test_only_the_end_is_checked_on_opening_and_the_rest_by_replay(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(opening, "EVENTS_CHECKED_ON_OPENING", 10)
    with unguarded(url) as connection:
        connection.execute("DELETE FROM idempotency WHERE seq = 2")
    opens(url)
    with tallystick.open(url, create=False) as database:
        assert [finding.where for finding in database.ledger("main").replay().findings] == ["event main/2"]


def test_rebuilding_leaves_the_events_as_they_were(url: str):
    with tallystick.open(url, create=False) as database:
        ledger = database.ledger("main")
        events, head = ledger.events(limit=10_000), ledger.head
        assert ledger.rebuild().ok
        assert (ledger.events(limit=10_000), ledger.head) == (events, head)
        ledger.transact("transfer", [Leg("users:a", "users:b", USD, 1)], key="after")
        assert ledger.replay().ok
