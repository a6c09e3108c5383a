"""What was moved to the archive is answered from its files as it was from the database, or it is said where it lies."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

import tallystick
from tallystick import Ledger, Split
from tallystick.clock import BEGINNING, END
from tallystick.errors import (
    Archived,
    IdempotencyConflict,
    InsufficientFunds,
    InvalidInput,
    LedgerCorrupt,
    TransactionNotFound,
)
from tallystick.ledger import Database
from tallystick.stores import chunks
from tallystick.stores.postgres import parquet
from tallystick.stores.postgres.archive import Archiver, File, first_open
from tallystick.stores.postgres.store import PostgresStore
from tests.support.engine import Engine
from tests.support.story import ask, questions, tell

NOW = "2026-11-21T09:00:00.000000Z"
"""By the policy of 7 years, what was recorded before November 2019 may go."""
USD, EUR = "USD/2", "EUR/2"
MONTHS = (201801, 201802, 201811, 201903)
"""The closed periods of the old books; one of them is without the ledger ``shop``, one without ``main``."""


class Time:
    """A clock that says what it was last told, and a second more each time that it is asked."""

    def __init__(self, now: str = "2018-01-10T08:00:00.000000Z") -> None:
        self.now = now

    def __call__(self) -> str:
        moment = datetime.fromisoformat(self.now)
        self.now = datetime.fromtimestamp(moment.timestamp() + 1, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return self.now


class Books:
    """A database with two ledgers that were begun in 2018 and are in use in 2026."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.time = Time()
        self.keys = 0

    def open(self, **more: Any) -> Database:
        return tallystick.open(self.url, clock=self.time, **more)

    def key(self) -> str:
        self.keys += 1
        return f"k{self.keys}"

    def archiver(self, now: str = NOW) -> Archiver:
        return Archiver(self.url, clock=lambda: now)

    def archive(self, folder: Path, before: str = "", now: str = NOW) -> list[File]:
        with self.archiver(now) as archiver:
            return archiver.run(folder, before)

    # ------------------------------------------------------------ what happened

    def write(self) -> None:
        with self.open() as database:
            main, shop = database.ledger("main"), database.ledger("shop", policy={"limit_max": 1_000_000})
            self._january_2018(main, shop)
            self.time.now = "2018-02-03T00:00:00.000000Z"
            self._pay(main, 5, order="o-2")
            self.time.now = "2018-11-30T23:59:50.000000Z"
            shop.transfer("users:zoe", "users:yan", EUR, 40, key=self.key(), refs={"order": "o-1"})
            self.time.now = "2019-03-01T00:00:00.000000Z"
            shop.mint("users:xenia", EUR, 9, key=self.key())
            self._pay(main, 3, order="o-3")
            self.time.now = "2026-01-05T12:00:00.000000Z"
            self._in_2026(main, shop)

    def _january_2018(self, main: Ledger, shop: Ledger) -> None:
        key = self.key
        for name in ("alice", "bob", "carol"):
            main.mint(f"users:{name}", USD, 10_000, key=key(), refs={"trace_id": "t-0"})
        main.open_account("members:m", limits={USD: 500}, key=key())
        main.transfer("members:m", "users:bob", USD, 120, key=key())
        main.hold("users:alice", USD, 700, key=key(), expires="2030-01-01T00:00:00Z", refs={"order": "o-1"})
        main.hold("users:bob", USD, 300, key=key(), expires="2018-06-01T00:00:00Z")
        main.stake_lock("users:carol", USD, 250, key=key(), refs={"escrow": "e-1"})
        main.transfer("users:alice", "users:dormant", USD, 11, key=key())
        shop.mint("users:zoe", EUR, 500, key=key())
        late = "2018-01-10T08:00:02Z"
        main.transfer("users:alice", "users:bob", USD, 20, key=key(), effective=late)
        self._pay(main, 40, order="o-1")

    def _pay(self, ledger: Ledger, count: int, **refs: str) -> None:
        for index in range(count):
            payer, payee = ("alice", "bob", "carol")[index % 3], ("bob", "carol", "alice")[index % 3]
            ledger.transfer(f"users:{payer}", f"users:{payee}", USD, 5 + index, key=self.key(), refs=refs)

    def _in_2026(self, main: Ledger, shop: Ledger) -> None:
        self._pay(main, 6, order="o-4")
        hold = main.locks(kind="hold", account="users:alice")[0]
        main.capture(hold.id, [Split("users:carol", 200)], key=self.key(), final=False)
        main.reverse("main/16", key=self.key())
        main.transfer("users:carol", "users:alice", USD, 2, key=self.key(), effective="2026-01-05T12:00:01Z")
        shop.transfer("users:zoe", "users:yan", EUR, 3, key=self.key())


def picture(books: Books) -> dict[str, Any]:
    """Everything that the library answers about both ledgers."""
    with books.open(read_only=True) as database:
        return {name: picture_of(database.ledger(name), books.keys) for name in database.ledgers()}


def picture_of(ledger: Ledger, keys: int) -> dict[str, Any]:
    events = ledger.events(limit=10_000)
    accounts = [*ledger.accounts(), "nobody"]
    references = sorted({pair for found in events for pair in found.event.refs.items()})
    times = sorted({*(found.event.time for found in events), BEGINNING, END, "2018-01-31T23:59:59Z", "2018-08-08"})
    some = times[:: max(len(times) // 6, 1)]
    few = ["users:bob", "users:dormant", "users:zoe"]
    report = ledger.replay()
    return {
        "events": events,
        "head": ledger.head,
        "pages": [ledger.events(after=after, limit=7) for after in range(-1, len(events), 6)],
        "each": [ledger.transaction(found.event.id) for found in reversed(events)],
        "by key": [ledger.by_key(f"k{number}") for number in range(keys + 2)],
        "by reference": [ledger.by_reference(*pair) for pair in references],
        "accounts": [ledger.account(account) for account in accounts],
        "registers": [whole_register(ledger, account) for account in accounts],
        "between": [ledger.register("users:bob", start=start, end=some[-1]) for start in some[1:]],
        "holds": [ledger.hold_by_id(lock.id) for lock in ledger.locks()],
        "policy": ledger.policy,
        "trial": ledger.trial_balance(),
        "recorded": [ledger.trial_balance(recorded=time) for time in some],
        "as of": [ledger.trial_balance(as_of=time) for time in some],
        "both": [ledger.trial_balance(as_of=some[1], recorded=time) for time in some],
        "balances then": [[ledger.balances(account, as_of=time) for account in few] for time in some],
        "balances recorded": [[ledger.balances(account, recorded=time) for account in few] for time in some],
        "replay": (report.ok, report.events, report.entries, report.balances, report.head, report.findings),
        "stats": {name: count for name, count in ledger.stats().items() if name != "file_bytes"},
    }


def glance(books: Books) -> list[Any]:
    """Answers that between them take every event and entry, and balances before each event."""
    store = PostgresStore(books.url, read_only=True)
    found: list[Any] = []
    for name in store.ledgers():
        head = store.head(name)
        assert head is not None
        events = store.events(name, 0, head.seq)
        balances = [balance.id for _, _, _, balance in store.balances(name)]
        found += [head, events, store.balances(name), store.entries(name, balances, 0, head.seq, 10_000)]
        found += [store.balances(name, seq) for seq in range(0, head.seq, 3)]
        found += [store.seq_at(name, chunks.time_of(event)) for event in events[::7]]
        found += sorted(store.key_numbers(name))
    store.close()
    return found


def whole_register(ledger: Ledger, account: str) -> list[Any]:
    """The register page by page, and at once: they must be the same."""
    lines: list[Any] = []
    cursor = ""
    while True:
        page = ledger.register(account, after=cursor, limit=3)
        lines += page.items
        cursor = page.cursor
        if not cursor:
            assert ledger.register(account, limit=10_000).items == lines
            return lines


def partitions(url: str) -> set[str]:
    """The partitions of events and entries that are left, of the months of the old books."""
    with psycopg.connect(url) as connection:
        query = (
            "SELECT relname FROM pg_class WHERE relispartition AND relname ~ '^(event|entry)_[0-9]+$' AND relkind = 'r'"
        )
        names = {name for (name,) in connection.execute(query)}
    return {name for name in names if int(name[-6:]) in (*MONTHS, 202601)}


def query(url: str, text: str) -> list[Any]:
    """What a statement finds, asked behind the library's back."""
    with psycopg.connect(url) as connection:
        return connection.execute(text.encode()).fetchall()


@pytest.fixture
def books(postgres: str) -> Books:
    found = Books(postgres)
    found.write()
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "archive"
    found.mkdir()
    return found


@pytest.fixture
def archived(books: Books, folder: Path) -> Books:
    """The old books with everything that the policy lets go in the archive."""
    books.archive(folder)
    return books


# ---------------------------------------------------------------- answers


def test_everything_is_answered_as_before_when_the_files_are_at_hand(books: Books, folder: Path) -> None:
    before = picture(books)
    files = books.archive(folder)
    assert [(file.period, file.kind) for file in files] == [(m, kind) for m in MONTHS for kind in ("event", "entry")]
    assert partitions(books.url) == {"event_202601", "entry_202601"}
    after = picture(books)
    for name, answers in before.items():
        for question, answer in answers.items():
            assert after[name][question] == answer, (name, question)


def test_every_step_of_the_archive_answers_alike(books: Books, folder: Path) -> None:
    before = glance(books)
    for step, month in enumerate(("2018-02", "2018-03", "2018-12", "2019-04"), 1):
        assert {file.period for file in books.archive(folder, month)} == {MONTHS[step - 1]}
        assert glance(books) == before, month
        assert len(partitions(books.url)) == 2 * (len(MONTHS) + 1 - step)


def test_the_store_answers_every_question_about_a_story_as_before(postgres: str, folder: Path) -> None:
    """The story is of January 2026, so this archive is of the year 2041."""
    store = PostgresStore(postgres)
    engine = tell(Engine(store))
    for month in ("2026-02", "2026-03", "2040-12"):
        engine.post(*(engine.pay("users:alice", "users:bob", 3) for _ in range(5)), at=f"{month}-04T10:00:00.000000Z")
    asked = questions(engine)
    before = ask(store, asked)
    with Archiver(postgres, clock=lambda: "2041-06-01T00:00:00.000000Z") as archiver:
        assert {file.period for file in archiver.run(folder)} == {202601, 202602, 202603}
    fresh = PostgresStore(postgres)
    for reader in (store, fresh):
        after = ask(reader, asked)
        for question, answer in before.items():
            assert after[question] == answer, question
        reader.close()


def test_a_ledger_that_lies_in_the_archive_as_a_whole_answers_and_goes_on(postgres: str, folder: Path) -> None:
    books = Books(postgres)
    with books.open() as database:
        database.ledger().mint("users:alice", USD, 100, key="k1")
    books.archive(folder)
    with books.open() as database:
        ledger = database.ledger()
        assert ledger.balance("users:alice", USD) == 100
        assert ledger.replay().ok
        books.time.now = NOW
        with pytest.raises(InsufficientFunds):
            ledger.transfer("users:alice", "users:bob", USD, 101, key="k2")
        assert ledger.transfer("users:alice", "users:bob", USD, 60, key="k2").seq == 2
        assert ledger.balance("users:alice", USD) == 40
        assert ledger.balance("users:alice", USD, recorded="2020-01-01") == 100
        assert [line.after for line in ledger.register("users:alice").items] == [100, 40]
        assert ledger.replay().ok


def test_a_balance_that_was_not_used_since_is_carried(archived: Books) -> None:
    with archived.open() as database:
        ledger = database.ledger()
        assert ledger.balance("users:dormant", USD) == 11
        ledger.transfer("users:dormant", "users:alice", USD, 11, key="last")
        assert [found.version for found in ledger.balances("users:dormant")] == [2]
        assert ledger.replay().ok


def test_holds_of_an_archived_period_are_captured_released_and_reversed(archived: Books) -> None:
    with archived.open() as database:
        ledger = database.ledger()
        alice = ledger.locks(kind="hold", account="users:alice")[0]
        ledger.capture(alice.id, [Split("users:bob", 500)], key="capture")
        bob = ledger.locks(kind="hold", account="users:bob")[0]
        assert bob.state == "expired"
        ledger.expire(bob.id, key="expire")
        ledger.reverse("main/20", key="reverse")
        assert ledger.replay().ok


def test_what_is_back_dated_into_an_archived_period_is_checked_against_it(archived: Books) -> None:
    with archived.open() as database:
        ledger = database.ledger()
        ledger.transfer("users:alice", "users:bob", USD, 1, key="late", effective="2018-01-20T00:00:00Z")
        with pytest.raises(tallystick.Refusal, match="would have stood at"):
            ledger.transfer("users:dormant", "users:alice", USD, 11, key="early", effective="2018-01-10T08:00:05Z")
        assert ledger.replay().ok


def test_snapshots_and_the_archive_do_not_get_in_each_others_way(
    books: Books, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With parts of 2^15 events a snapshot would take as many; so one is written by hand where one could stand."""
    with psycopg.connect(books.url) as connection:
        connection.execute(
            "INSERT INTO tallystick.snapshot SELECT ledger, 0, id, 0, 0 FROM tallystick.balance"
        )  # nothing stood anywhere before event 0
        connection.execute("INSERT INTO tallystick.snapshot_point SELECT id, 0 FROM tallystick.ledger")
    with books.open(read_only=True) as database:
        balances = database.ledger().trial_balance()
    books.archive(folder)
    with books.open(read_only=True) as database:
        assert database.ledger().trial_balance() == balances
        assert database.ledger().balance("users:dormant", USD) == 11
    store = PostgresStore(books.url)
    assert store.snapshot("main") is False
    store.close()


# ---------------------------------------------------------------- keys


def test_a_key_of_an_archived_period_gives_the_first_answer_again(archived: Books) -> None:
    with archived.open() as database:
        ledger = database.ledger()
        first = ledger.by_key("k12")
        assert first is not None
        again = ledger.transfer("users:alice", "users:bob", USD, 5, key="k12", refs={"order": "o-1"})
        assert (again.seq, again.hash, again.replayed) == (first.event.seq, first.hash, True)
        with pytest.raises(IdempotencyConflict):
            ledger.transfer("users:alice", "users:bob", USD, 6, key="k12", refs={"order": "o-1"})


def test_a_key_of_an_archived_period_is_never_accepted_again_while_its_file_is_away(
    archived: Books, folder: Path
) -> None:
    hide(folder)
    with archived.open() as database:
        ledger = database.ledger()
        head = ledger.head
        for reference in ("o-1", "another"):
            with pytest.raises(Archived) as raised:
                ledger.transfer("users:alice", "users:bob", USD, 5, key="k12", refs={"order": reference})
            assert raised.value.data["kind"] == "event"
        assert ledger.head == head
        ledger.transfer("users:alice", "users:bob", USD, 5, key="new")


def test_a_key_of_an_archived_period_is_found_within_a_transaction_of_the_callers(archived: Books) -> None:
    with archived.open() as database, psycopg.connect(archived.url) as connection:
        ledger = database.ledger()
        again = ledger.transfer(
            "users:alice", "users:bob", USD, 5, key="k12", refs={"order": "o-1"}, connection=connection
        )
        assert again.replayed
        assert not ledger.transfer("users:alice", "users:bob", USD, 5, key="new", connection=connection).replayed


# ---------------------------------------------------------------- files that are away


def hide(folder: Path, kind: str = "*", month: str = "*") -> list[Path]:
    """Take files away; where they are now."""
    found = sorted(folder.glob(f"{kind}-{month}-*.parquet"))
    assert found
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    return [path.rename(elsewhere / path.name) for path in found]


def alter(path: Path) -> None:
    """Change one byte in the middle, and keep the size and the time of the last change."""
    status = path.stat()
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


ONLY_FROM_FILES: dict[str, tuple[str, str, Callable[[Ledger], Any]]] = {
    "an event": ("event", "2018-01", lambda ledger: ledger.transaction("main/3")),
    "events": ("event", "2018-01", lambda ledger: ledger.events(limit=1_000)),
    "a page that ends here": ("event", "2019-03", lambda ledger: ledger.events(after=56, limit=8)),
    "a key": ("event", "2018-01", lambda ledger: ledger.by_key("k3")),
    "a reference": ("event", "2018-02", lambda ledger: ledger.by_reference("order", "o-2")),
    "a register": ("entry", "2018-02", lambda ledger: ledger.register("users:alice")),
    "the text of a register": ("event", "2018-02", lambda ledger: ledger.register("users:alice")),
    "what was recorded": ("entry", "2018-02", lambda ledger: ledger.trial_balance(recorded="2018-02-03T00:00:04Z")),
    "when that was": ("event", "2018-02", lambda ledger: ledger.trial_balance(recorded="2018-02-03T00:00:04Z")),
    "what had taken effect": ("entry", "2018-01", lambda ledger: ledger.balances("users:bob", as_of="2018-01-15")),
    "a back-dated posting": (
        "entry",
        "2018-01",
        lambda ledger: ledger.transfer("users:bob", "users:carol", USD, 1, key="x", effective="2018-01-10T08:00:30Z"),
    ),
    "a reversal": ("event", "2018-01", lambda ledger: ledger.reverse("main/20", key="x")),
}


@pytest.mark.parametrize("question", ONLY_FROM_FILES)
@pytest.mark.parametrize("how", ["missing", "altered"])
def test_what_only_a_missing_or_altered_file_knows_is_answered_by_where_it_should_be(
    books: Books, folder: Path, question: str, how: str
) -> None:
    kind, month, asked = ONLY_FROM_FILES[question]
    files = {(file.kind, file.period): file for file in books.archive(folder)}
    file = files[kind, int(month.replace("-", ""))]  # type: ignore[index]
    if how == "missing":
        hide(folder, kind, month)
    else:
        alter(Path(file.path))
    with books.open() as database:
        ledger = database.ledger()
        with pytest.raises(Archived) as raised:
            asked(ledger)
        error = raised.value
    stretch = query(
        books.url,
        f"SELECT first_seq, last_seq FROM tallystick.ledger_archive WHERE ledger = 'main' AND period = {file.period}",
    )[0]
    found = {
        name: error.data[name] for name in ("ledger", "first", "last", "period", "kind", "path", "sha256", "archived")
    }
    assert found == {
        "ledger": "main",
        "first": stretch[0],
        "last": stretch[1],
        "period": file.period,
        "kind": kind,
        "path": file.path,
        "sha256": file.sha256,
        "archived": NOW,
    }
    assert file.path in str(error)
    assert file.sha256 in str(error)
    assert ("there is no such file" if how == "missing" else "the file was altered") in str(error)
    assert not error.retryable


def test_what_the_database_still_knows_is_answered_without_the_files(books: Books, folder: Path) -> None:
    def asked(ledger: Ledger) -> list[Any]:
        since = "2026-01-01T00:00:00Z"
        return [
            ledger.head,
            ledger.trial_balance(),
            [ledger.account(account) for account in ledger.accounts()],
            ledger.locks(),
            ledger.policy,
            ledger.trial_balance(recorded=since),
            ledger.trial_balance(as_of="2026-01-05T12:00:03Z"),
            ledger.balances("users:dormant", recorded="2019-11-01"),
            [ledger.register(account, start=since) for account in ledger.accounts()],
            ledger.by_reference("order", "o-4"),
            ledger.transaction(ledger.head.seq - 1),
            ledger.by_key("never used"),
        ]

    with books.open(read_only=True) as database:
        before = [asked(database.ledger(name)) for name in database.ledgers()]
    books.archive(folder)
    hide(folder)
    with books.open() as database:  # it opens, though the last 1,024 events reach into the archive
        assert [asked(database.ledger(name)) for name in database.ledgers()] == before
        main = database.ledger()
        main.transfer("users:alice", "users:bob", USD, 5, key="goes on")
        assert main.by_key("goes on") is not None


def test_the_end_of_a_ledger_is_still_checked_as_far_as_it_is_here(archived: Books, folder: Path) -> None:
    hide(folder)
    with psycopg.connect(archived.url) as connection:
        connection.execute("ALTER TABLE tallystick.entry_202601 DISABLE TRIGGER USER")
        connection.execute(
            "UPDATE tallystick.entry_202601 SET after = after + 1, amount = amount + 1 "
            "WHERE (ledger, seq) = (SELECT ledger, seq - 1 FROM tallystick.head WHERE ledger = 1)"
        )
    with archived.open() as database, pytest.raises(LedgerCorrupt):
        database.ledger()


def test_replay_says_which_file_it_lacks(archived: Books, folder: Path) -> None:
    where = hide(folder, "event", "2018-02")
    with archived.open(read_only=True) as database:
        report = database.ledger().replay()
        assert not report.ok
        assert [finding.where for finding in report.findings] == ["events main/51 to 55"]
        assert str(folder / where[0].name) in report.findings[0].problem
        assert database.replay("shop").ok, "that ledger has nothing in that month"


def test_a_file_that_comes_back_is_read_again(archived: Books, folder: Path) -> None:
    hidden = hide(folder, "event", "2018-01")
    with archived.open(read_only=True) as database:
        ledger = database.ledger()
        with pytest.raises(Archived):
            ledger.transaction(3)
        hidden[0].rename(folder / hidden[0].name)
        assert ledger.transaction(3).event.seq == 3


def test_a_file_is_believed_once_and_looked_at_anew_when_it_changes(
    archived: Books, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    look = parquet._look
    monkeypatch.setattr(parquet, "_look", lambda arrow, path: (looked.append(path), look(arrow, path))[1])
    with archived.open(read_only=True) as database:
        ledger = database.ledger()
        ledger.events(limit=1_000)
        ledger.events(limit=1_000)
        assert len(looked) == len(set(looked))
        (path,) = folder.glob("event-2018-01-*")
        alter(path)
        with pytest.raises(Archived):
            ledger.events(limit=1_000)
        assert looked[-1] == str(path)


def test_without_pyarrow_the_error_says_what_to_install(archived: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(parquet, "import_module", fail)
    with archived.open(read_only=True) as database:
        with pytest.raises(Archived, match=re.escape("pip install 'tallystick[archive]'")):
            database.ledger().transaction(3)
        assert database.ledger().balance("users:dormant", USD) == 11
    with archived.archiver() as archiver, pytest.raises(InvalidInput, match=re.escape("'tallystick[archive]'")):
        archiver.run(Path("/"))


def test_an_event_that_never_was_is_not_taken_for_an_archived_one(archived: Books, folder: Path) -> None:
    hide(folder)
    with archived.open(read_only=True) as database, pytest.raises(TransactionNotFound):
        database.ledger().transaction("main/5000")


# ---------------------------------------------------------------- for SQL


def test_the_view_of_balances_is_whole_and_the_archive_has_one_of_its_own(archived: Books) -> None:
    with archived.open(read_only=True) as database:
        expected = {
            (name, account, found.asset, found.bucket): (found.amount, found.version)
            for name in database.ledgers()
            for account in database.ledger(name).accounts()
            for found in database.ledger(name).balances(account)
        }
    rows = query(
        archived.url, "SELECT ledger, account, asset, bucket, balance, version FROM tallystick.ledger_balances"
    )
    assert {tuple(row[:4]): tuple(row[4:]) for row in rows} == expected
    shown = query(
        archived.url,
        "SELECT ledger, period, first_seq, last_seq FROM tallystick.ledger_archive "
        "WHERE kind = 'event' ORDER BY ledger, period",
    )
    assert [tuple(row[:2]) for row in shown] == [
        ("main", 201801),
        ("main", 201802),
        ("main", 201903),
        ("shop", 201801),
        ("shop", 201811),
        ("shop", 201903),
    ]
    main = [row for row in shown if row[0] == "main"]
    assert [row[2] for row in main] == [0, *(row[3] + 1 for row in main[:-1])]


# ---------------------------------------------------------------- policy


def test_a_period_is_closed_when_all_of_it_is_older_than_the_policy() -> None:
    assert first_open("2026-11-21T09:00:00.000000Z", 7) == 201911
    assert first_open("2026-11-01T00:00:00.000000Z", 7) == 201911
    assert first_open("2026-10-31T23:59:59.999999Z", 7) == 201910
    assert first_open("2026-01-01T00:00:00.000000Z", 1) == 202501


def test_nothing_younger_than_the_policy_is_moved(books: Books, folder: Path) -> None:
    assert books.archive(folder, now="2025-01-31T23:59:59.999999Z") == []
    assert {file.period for file in books.archive(folder, now="2025-02-01T00:00:00.000000Z")} == {201801}
    for month in ("2018-03", "2026-02"):
        with pytest.raises(InvalidInput, match="policy of 7 years only what is before 2018-02 may go"):
            books.archive(folder, month, now="2025-02-01T00:00:00.000000Z")
    assert len(partitions(books.url)) == 2 * len(MONTHS)


def test_the_policy_is_kept_in_the_database(books: Books, folder: Path) -> None:
    with books.archiver() as archiver:
        assert archiver.years == 7
        archiver.set_years(8)
    with books.archiver() as archiver:
        assert archiver.years == 8
        assert [found.period for found in archiver.plan().periods] == [201801, 201802]
        for years in (0, -1, 1_001):
            with pytest.raises(InvalidInput):
                archiver.set_years(years)
        archiver.set_years(1_000)
        assert archiver.plan().periods == []
    assert query(books.url, "SELECT years, changed, changed_by <> '' FROM tallystick.retention") == [(1000, NOW, True)]


@pytest.mark.parametrize("month", ["2019-1", "2019", "201901", "2019-13", "2019-00", "tomorrow", "19-01-01", "²019-01"])
def test_a_month_that_is_none_is_refused(books: Books, month: str) -> None:
    with books.archiver() as archiver, pytest.raises(InvalidInput, match="is not a month such as 2019-11"):
        archiver.plan(month)


def test_the_plan_says_what_would_go_and_changes_nothing(books: Books, folder: Path) -> None:
    with books.archiver() as archiver:
        plan = archiver.plan("2018-12")
        assert (plan.years, plan.before) == (7, 201812)
        assert [(found.period, found.ledgers, found.events) for found in plan.periods] == [
            (201801, 2, 53),
            (201802, 1, 5),
            (201811, 1, 1),
        ]
        assert all(found.bytes > 0 for found in plan.periods)
        assert archiver.files() == []
    assert len(partitions(books.url)) == 2 * len(MONTHS) + 2


# ---------------------------------------------------------------- rebuild


def test_a_rebuild_over_archived_periods_makes_all_as_it_was(archived: Books) -> None:
    before = glance(archived)
    carried = query(archived.url, "SELECT * FROM tallystick.carried ORDER BY ledger, balance")
    with psycopg.connect(archived.url) as connection:
        connection.execute("UPDATE tallystick.carried SET after = after + 1, version = version + 1 WHERE ledger = 1")
    with archived.open() as database:
        assert not database.replay("main").ok
        assert database.rebuild("main").ok
        assert database.replay("main").ok
    assert query(archived.url, "SELECT * FROM tallystick.carried ORDER BY ledger, balance") == carried
    assert glance(archived) == before


def test_a_rebuild_without_the_files_says_where_they_should_be_and_changes_nothing(
    archived: Books, folder: Path
) -> None:
    before = glance(archived)
    hidden = hide(folder, "event", "2018-02")
    with archived.open() as database:
        report = database.rebuild("main")
    assert not report.ok
    assert hidden[0].name in report.findings[0].problem
    hidden[0].rename(folder / hidden[0].name)
    assert glance(archived) == before


@pytest.fixture(autouse=True)
def _nothing_is_left_in_the_folder(folder: Path) -> Iterator[None]:
    yield
    assert [path for path in folder.iterdir() if path.suffix != ".parquet"] == []
