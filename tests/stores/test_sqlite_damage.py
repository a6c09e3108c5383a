"""One byte of a ledger file is altered: what then may be answered, and what may not.

The journal never answers wrongly: its bytes, order and times are what was written, or the damage is reported at once.
What is derived from it (balances, locks, indexes) is right, or reported where it is read, or at the latest when the
ledger is opened and checked against its journal. No damage is invisible to both.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import tallystick
from tallystick.errors import LedgerCorrupt, NotALedger
from tallystick.stores.sqlite import SqliteStore
from tallystick.stores.sqlite_file import PAGE_SIZE
from tests.support.engine import Engine
from tests.support.story import Questions, ask, questions, tell

JOURNAL = {"ledgers", "end of the journal", "events", "each event", "seq_at"}
"""The questions that the journal answers."""

TABLES = [
    "sqlite_schema",
    "ledger",
    "sqlite_autoindex_ledger_1",
    "event",
    "balance",
    "entry",
    "idempotency",
    "reference",
    "backdated",
    "object",
    "object_by_place",
    "object_by_account",
    "object_by_expiry",
    "sqlite_autoindex_balance_2",
]
Damage = (LedgerCorrupt, NotALedger)
KEPT = bytes(range(200))


class Finished(NamedTuple):
    """A file that tells the whole story, every question about it, and the right answers."""

    content: bytes
    pages: dict[str, list[int]]
    asked: Questions
    answers: dict[str, Any]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    path = tmp_path_factory.mktemp("finished") / "ledger.db"
    store = SqliteStore(path)
    engine = tell(Engine(store))
    store.keep("main", "kept", KEPT)
    asked = questions(engine)
    answers = ask(store, asked)
    store.close()
    return Finished(path.read_bytes(), pages_of(path), asked, answers)


def pages_of(path: Path) -> dict[str, list[int]]:
    """The numbers, from 0, of the pages that begin each table and index, and of all other pages under ``""``."""
    connection = sqlite3.connect(path)
    roots = dict(connection.execute("SELECT name, rootpage - 1 FROM sqlite_schema WHERE rootpage"))
    connection.close()
    every = range(path.stat().st_size // PAGE_SIZE)
    others = [page for page in every if page and page not in roots.values()]
    return {"sqlite_schema": [0], **{name: [page] for name, page in roots.items()}, "": others}


def alterations(content: bytes, pages: list[int], count: int, seed: str) -> Iterator[tuple[int, bytes]]:
    """``count`` positions on these pages, where something is written, each with the content in which it was altered."""
    chance = random.Random(seed)
    used = [place for page in pages for place in range(page * PAGE_SIZE, (page + 1) * PAGE_SIZE) if content[place]]
    for place in chance.sample(used, min(count, len(used))):
        altered = bytearray(content)
        altered[place] ^= chance.randrange(1, 256)
        yield place, bytes(altered)


def wrong_answers(path: Path, finished: Finished) -> set[str]:
    """The questions to which the store at this path gives another answer than the right one, and no error."""
    try:
        store = SqliteStore(path)
    except Damage:
        return set()
    wrong = set()
    for name, question in finished.asked.items():
        try:
            if question(store) != finished.answers[name]:
                wrong.add(name)
        except Damage:
            continue
    store.close()
    return wrong


def is_reported(path: Path) -> bool:
    """Whether opening the ledger, or checking it against its journal, says that something is wrong."""
    try:
        with tallystick.open(path, read_only=True) as database:
            return not database.ledger("main").replay().ok
    except Damage:
        return True


def judge(path: Path, finished: Finished, alteration: tuple[int, bytes]) -> str:
    """What is wrong with how the altered file was met; empty if nothing is."""
    place, content = alteration
    for file in path.parent.iterdir():
        file.unlink()
    path.write_bytes(content)
    wrong = wrong_answers(path, finished)
    if wrong & JOURNAL:
        return f"byte {place}: a wrong answer about {sorted(wrong & JOURNAL)}"
    if wrong and not is_reported(path):
        return f"byte {place}: wrong answers about {sorted(wrong)}, and the check finds nothing"
    return ""


def test_the_file_as_it_was_written_answers_rightly_and_passes_the_check(tmp_path: Path, finished: Finished) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(finished.content)
    assert wrong_answers(path, finished) == set()
    assert not is_reported(path)


@pytest.mark.parametrize("table", [*TABLES, ""], ids=[*TABLES, "pages below"])
def test_an_altered_byte_is_irrelevant_or_reported(tmp_path: Path, finished: Finished, table: str) -> None:
    path = tmp_path / "ledger.db"
    altered = alterations(finished.content, finished.pages[table], 40, table)
    assert [found for alteration in altered if (found := judge(path, finished, alteration))] == []


@pytest.mark.soak
def test_many_altered_bytes_anywhere_are_irrelevant_or_reported(tmp_path: Path, finished: Finished) -> None:
    path = tmp_path / "ledger.db"
    pages = list(range(len(finished.content) // PAGE_SIZE))
    altered = alterations(finished.content, pages, 10_000, "anywhere")
    assert [found for alteration in altered if (found := judge(path, finished, alteration))] == []


def test_every_byte_of_an_event_is_vouched_for(tmp_path: Path, finished: Finished) -> None:
    """An event's own bytes are checked whenever they are read: each of them, altered, is an error at that event."""
    path = tmp_path / "ledger.db"
    body = finished.answers["events"][10]
    begin = finished.content.index(body[:200])
    for offset in range(0, 200, 3):
        altered = bytearray(finished.content)
        altered[begin + offset] ^= 1
        path.write_bytes(altered)
        store = SqliteStore(path)
        with pytest.raises(LedgerCorrupt):
            store.event("main", 10)
        with pytest.raises(LedgerCorrupt):
            store.events("main", 0, 100)
        assert store.event("main", 1) == finished.answers["events"][1]
        store.close()


@pytest.mark.parametrize("column", ["amount", "before", "after"])
def test_an_entry_that_does_not_add_up_is_reported_where_it_is_read(
    tmp_path: Path, finished: Finished, column: str
) -> None:
    path = altered_by(tmp_path, finished, f"UPDATE entry SET {column} = {column} + 1 WHERE balance = 2")
    store = SqliteStore(path)
    for read in (
        lambda: store.balances("main"),
        lambda: store.balances("main", 20),
        lambda: store.load_accounts("main", ["users:alice"]),
        lambda: store.entries("main", [2], 0, 100, 100),
    ):
        with pytest.raises(LedgerCorrupt, match="does not add up"):
            read()
    store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET amount = amount + 1, after = after + 1 WHERE balance = 2 AND version = 3",
        "UPDATE entry SET version = version + 1000 WHERE balance = 2 AND version = 1",
        "UPDATE entry SET seq = seq + 1 WHERE balance = 2 AND version = 2",
        "DELETE FROM entry WHERE balance = 2 AND version = 1",
        "INSERT OR REPLACE INTO entry SELECT ledger, part, balance, version, seq, 1, before, before + 1 FROM entry",
        "UPDATE balance SET account = 'users:mallory' WHERE account = 'users:alice' AND asset = 'EUR/2'",
        "DELETE FROM balance WHERE id = 2",
        "DELETE FROM idempotency WHERE seq = 9",
        "UPDATE idempotency SET seq = 8 WHERE seq = 9",
        "UPDATE idempotency SET number = number + 1 WHERE seq = 9",
        "DELETE FROM reference WHERE name = 'order'",
        "UPDATE reference SET value = 'o-3' WHERE value = 'o-2'",
        "DELETE FROM backdated",
        "UPDATE backdated SET amount = amount + 1",
        "UPDATE backdated SET effective = '2026-01-01T00:00:03.000000Z'",
        "UPDATE object SET state = 'released' WHERE kind = 'lock' AND state = 'active'",
        "UPDATE object SET account = 'users:mallory' WHERE kind = 'lock'",
        "UPDATE object SET expires = '' WHERE kind = 'lock'",
        "UPDATE object SET expires = '2026-01-01T00:00:00.000000Z' WHERE kind = 'lock'",
        "UPDATE object SET place = 'main/9' || substr(place, 7) WHERE kind = 'lock'",
        "UPDATE object SET body = CAST(replace(CAST(body AS TEXT), '10', '11') AS BLOB) WHERE kind = 'lock'",
        "DELETE FROM object WHERE kind = 'policy'",
        "DELETE FROM object WHERE kind = 'account' AND id = 'members:m1'",
        "UPDATE object SET id = id || '0' WHERE kind = 'reserve'",
        "UPDATE event SET time = '2026-01-01T00:00:00.500000Z' WHERE seq = 9",
        "UPDATE event SET time = '2027-01-01T00:00:00.000000Z' WHERE seq = 9",
        "UPDATE event SET count = count + 1 WHERE seq = 9",
        "UPDATE event SET seq = seq + 1 WHERE seq = (SELECT max(seq) FROM event)",
        "DELETE FROM event WHERE seq = 9",
        "UPDATE event SET hash = 'f' || substr(hash, 2) WHERE hash NOT LIKE 'f%'",
    ],
)
def test_what_was_changed_by_sql_is_found_by_the_check(tmp_path: Path, finished: Finished, statement: str) -> None:
    assert is_reported(altered_by(tmp_path, finished, statement))


def altered_by(tmp_path: Path, finished: Finished, statement: str) -> Path:
    """The file after somebody took away its guards and changed it."""
    path = tmp_path / "ledger.db"
    path.write_bytes(finished.content)
    connection = sqlite3.connect(path)
    guards = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    for name, _ in guards:
        connection.execute(f"DROP TRIGGER {name}")
    assert connection.execute(statement).rowcount > 0
    for _, sql in guards:
        connection.execute(sql)
    connection.commit()
    connection.close()
    return path


def test_kept_bytes_that_were_altered_are_not_given_back(tmp_path: Path, finished: Finished) -> None:
    """A filter of used keys with one bit lost would let a key be used twice; no filter at all is only slower."""
    path = tmp_path / "ledger.db"
    begin = finished.content.index(KEPT)
    for offset in range(0, len(KEPT), 17):
        altered = bytearray(finished.content)
        altered[begin + offset] ^= 0x10
        path.write_bytes(altered)
        store = SqliteStore(path)
        try:
            assert store.kept("main", "kept") is None
        except LedgerCorrupt:
            continue
        finally:
            store.close()


def test_a_ledger_file_whose_schema_was_changed_is_reported(tmp_path: Path, finished: Finished) -> None:
    path = tmp_path / "ledger.db"
    for statement in (
        "DROP TRIGGER event_is_never_deleted",
        "DROP INDEX object_by_expiry",
        "ALTER TABLE entry ADD x INT",
    ):
        path.write_bytes(finished.content)
        connection = sqlite3.connect(path)
        connection.execute(statement)
        connection.commit()
        connection.close()
        with pytest.raises(Damage):
            SqliteStore(path)


def test_an_altered_log_leads_back_to_an_earlier_state_and_never_to_a_wrong_one(tmp_path: Path) -> None:
    """After a crash the last commits are in the log beside the file; a damaged log ends where it is damaged."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    store = SqliteStore(source / "ledger.db")
    engine = Engine(store)
    engine.post(engine.open())
    states = {engine.head: [engine.history[0].id]}
    for i in range(30):
        engine.post(engine.mint(f"users:{i % 7}", 10 + i))
        states[engine.head] = [event.id for event in engine.history]
    files = {file.name: file.read_bytes() for file in source.iterdir() if file.suffix != ".lock"}
    bodies = store.events("main", 0, 100)
    store.close()
    chance = random.Random(7)
    log = files["ledger.db-wal"]
    lost = 0
    for _ in range(60):
        place = chance.randrange(len(log))
        altered = bytearray(log)
        altered[place] ^= chance.randrange(1, 256)
        for file in target.iterdir():
            file.unlink()
        (target / "ledger.db").write_bytes(files["ledger.db"])
        (target / "ledger.db-wal").write_bytes(altered)
        try:
            again = SqliteStore(target / "ledger.db")
        except Damage:
            lost += 1
            continue
        head = again.head("main")
        if head is not None:
            assert head in states
            assert again.events("main", 0, 100) == bodies[: head.seq]
            assert sum(row[3].amount for row in again.balances("main")) == 0
        lost += head != engine.head
        again.close()
    assert lost
