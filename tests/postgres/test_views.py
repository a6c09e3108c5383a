"""The views for people say what the journal says, in plain SQL, and cost no more than what is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tallystick import commands as c
from tallystick.events import Event
from tallystick.journal import encode_event, leaf_hash
from tallystick.kernel import Lock
from tallystick.stores.base import PART_BITS
from tallystick.stores.postgres import migrations
from tallystick.stores.postgres.store import PostgresStore
from tests.postgres.conftest import AUDITOR, READER, WRITER
from tests.support import story
from tests.support.databases import Databases
from tests.support.engine import Engine

NUL = "before\0after \\u0000 \\\\u0000 naïve ✓"
"""What a text may hold that PostgreSQL's JSON may not, and what only looks like it."""


class Books:
    """A database with two ledgers, and what their journals hold."""

    def __init__(self, dsn: str, engines: list[Engine]) -> None:
        self.dsn = dsn
        self.engines = {engine.book.name: engine for engine in engines}

    def rows(self, query: str, role: str = READER, **values: Any) -> list[tuple[Any, ...]]:
        """What a role is answered."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute(f"SET ROLE {role}".encode())
            return connection.execute(query.encode(), values or None).fetchall()

    def plan(self, query: str, *settings: str) -> str:
        """How PostgreSQL would go about a query, as a superuser."""
        with psycopg.connect(self.dsn) as connection:
            for setting in settings:
                connection.execute(f"SET {setting}".encode())
            return "\n".join(line for (line,) in connection.execute(f"EXPLAIN (VERBOSE, COSTS off) {query}".encode()))

    @property
    def history(self) -> list[Event]:
        return [event for engine in self.engines.values() for event in engine.history]


@pytest.fixture(scope="module")
def books(databases: Databases) -> Iterator[Books]:
    """The story in one ledger; in another as many events as fill several parts and months, with a snapshot."""
    dsn = databases.new()
    migrations.apply_roles(dsn)
    with closing(PostgresStore(dsn, create=False)) as store:
        first = story.tell(Engine(store))
        first.post(
            c.Transfer(
                key=first.key(), from_account="users:alice", to_account="users:bob", asset="USD/2", amount=1,
                metadata={"note": NUL}, reason=NUL, actor="did:key:z6MkAgent",
                refs={"trace_id": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
            )
        )  # fmt: skip
        first.post(c.OpenAccount(key=first.key(), account="users:nul", metadata={"note": NUL}))
        second = Engine(store, "second")
        fill(second, "2026-01-10T00:00:00.000000Z", 15_000, awake=300)
        fill(second, "2026-02-10T00:00:00.000000Z", 2**PART_BITS, awake=200)
        assert store.snapshot("second")
        fill(second, "2026-03-10T00:00:00.000000Z", 33_600, awake=100)
        second.post(second.mint("users:new", 5, "USD/2"))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ANALYZE")
    yield Books(dsn, [first, second])
    databases.drop(dsn)


def fill(engine: Engine, time: str, until: int, awake: int) -> None:
    """Post transfers at one time until there are so many events, among the first accounts; the others rest."""
    if not engine.book.seq:
        engine.post(engine.open(), at=time)
        engine.post(*(engine.mint(f"users:{number}", 10**9, "USD/2") for number in range(awake)), at=time)
    while engine.book.seq < until:
        numbers = range(engine.book.seq, min(engine.book.seq + 4_000, until))
        engine.post(*(engine.pay(f"users:{n % awake}", f"users:{(n + 1) % awake}", 1) for n in numbers), at=time)


def moment(time: str) -> datetime | None:
    return datetime.fromisoformat(time) if time else None


# ---------------------------------------------------------------- what they say


def test_every_event_is_a_transaction_of_the_view(books: Books) -> None:
    query = """
    SELECT ledger, transaction, seq, time, effective, type, actor, source, idempotency_key, hash, period
    FROM tallystick.ledger_transactions ORDER BY ledger, seq
    """
    expected = [
        (
            event.ledger,
            event.id,
            event.seq,
            moment(event.time),
            moment(event.effective_time),
            event.type,
            event.actor,
            event.source,
            event.idem,
            leaf_hash(encode_event(event)),
            int(event.time[:4] + event.time[5:7]),
        )
        for event in books.history
    ]
    assert books.rows(query) == expected


def test_what_belongs_to_an_event_is_there_as_json(books: Books) -> None:
    query = """
    SELECT seq, refs, data, event FROM tallystick.ledger_transactions WHERE ledger = 'main' ORDER BY seq
    """
    for (seq, refs, data, whole), event in zip(books.rows(query), books.engines["main"].history, strict=True):
        shown = json.loads(encode_event(event).replace(b"before\\u0000", "before\ufffd".encode()))
        assert (seq, whole) == (event.seq, shown)
        assert (refs, data) == (shown.get("refs", {}), shown.get("data", {}))


def test_a_text_that_postgresql_cannot_hold_is_shown_as_near_as_can_be(books: Books) -> None:
    query = """
    SELECT data ->> 'reason', data -> 'metadata' ->> 'note' FROM tallystick.ledger_transactions
    WHERE ledger = 'main' AND data ? 'metadata' AND refs ? 'trace_id'
    """
    assert books.rows(query) == [(NUL.replace("\0", "\ufffd"),) * 2]
    query = "SELECT metadata ->> 'note' FROM tallystick.ledger_accounts WHERE account = 'users:nul'"
    assert books.rows(query) == [(NUL.replace("\0", "\ufffd"),)]


def test_every_entry_is_in_the_view(books: Books) -> None:
    query = """
    SELECT ledger, transaction, seq, account, asset, bucket, amount, before, after, version, period, part
    FROM tallystick.ledger_entries
    """
    expected = {
        (
            event.ledger,
            event.id,
            event.seq,
            entry.account,
            entry.asset,
            entry.bucket,
            entry.amount,
            entry.before,
            entry.after,
            entry.version,
            int(event.time[:4] + event.time[5:7]),
            event.seq >> PART_BITS,
        )
        for event in books.history
        for entry in event.entries
    }
    found = books.rows(query)
    assert len(found) == len(expected)
    assert set(found) == expected


def test_an_entry_knows_the_time_and_the_type_of_its_event(books: Books) -> None:
    query = "SELECT ledger, seq, time, type FROM tallystick.ledger_entries WHERE ledger = 'main' OR seq % 97 = 0"
    events = {(event.ledger, event.seq): event for event in books.history}
    found = books.rows(query)
    assert {period for _, seq, _, _ in found if (period := seq >> PART_BITS)} == {1}
    for ledger, seq, time, kind in found:
        event = events[ledger, seq]
        assert (time, kind) == (moment(event.time), event.type)


def test_every_balance_stands_where_its_last_entry_left_it(books: Books) -> None:
    query = "SELECT ledger, account, asset, bucket, balance, version FROM tallystick.ledger_balances"
    expected = {
        (name, account, asset, bucket, balance.amount, balance.version)
        for name, engine in books.engines.items()
        for (asset, bucket), pocket in engine.book.pockets.items()
        for account, balance in pocket.items()
    }
    found = books.rows(query)
    assert len(found) == len(expected)
    assert set(found) == expected


def test_the_balances_of_the_view_come_from_the_snapshot_and_from_what_was_posted_since(books: Books) -> None:
    """Otherwise the test before says too little."""
    rested, new = (
        "account = 'users:250' AND seq >= 32768",
        "account = 'users:new' AND seq < 32768",
    )
    for part in (rested, new):
        query = f"SELECT count(*) FROM tallystick.ledger_entries WHERE ledger = 'second' AND {part}"
        assert books.rows(query) == [(0,)]
    assert books.rows("SELECT array_agg(part) FROM tallystick.snapshot_point WHERE part > 0", AUDITOR) == [([1],)]


def test_every_hold_stake_bet_and_commitment_is_there(books: Books) -> None:
    query = """
    SELECT id, kind, account, asset, bucket, amount, remaining, taken, state, opened, expires, reason, refs
    FROM tallystick.ledger_holds WHERE ledger = 'main' ORDER BY id
    """
    locks = [value for (kind, _), value in books.engines["main"].book.objects.items() if kind == "lock"]
    assert {lock.kind for lock in locks} == {"hold", "stake", "bet", "commitment"}
    assert books.rows(query) == [hold_row(lock) for lock in sorted(locks, key=lambda lock: lock.id)]


def hold_row(lock: Lock) -> tuple[Any, ...]:
    return (
        lock.id,
        lock.kind,
        lock.account,
        lock.asset,
        lock.bucket,
        lock.amount,
        lock.remaining,
        lock.taken,
        lock.state,
        moment(lock.opened),
        moment(lock.expires),
        lock.reason,
        lock.refs,
    )


def test_every_account_that_was_declared_or_used_is_there(books: Books) -> None:
    query = """
    SELECT account, declared, status, limits, ceilings, floorless, owner, metadata, opened, changed
    FROM tallystick.ledger_accounts WHERE ledger = 'main' ORDER BY account
    """
    book = books.engines["main"].book
    used = {account for pocket in book.pockets.values() for account in pocket}
    declared = {id: value for (kind, id), value in book.objects.items() if kind == "account" and value is not None}
    expected: list[tuple[Any, ...]] = []
    for account in sorted(used | declared.keys()):
        one = declared.get(account)
        if one is None:
            expected.append((account, False, "active", {}, {}, False, "", {}, None, None))
        else:
            metadata = {name: text.replace("\0", "\ufffd") for name, text in one.metadata.items()}
            times = (moment(one.opened), moment(one.changed))
            expected.append(
                (account, True, one.status, one.limits, one.ceilings, one.floorless, one.owner, metadata, *times)
            )
    assert books.rows(query) == expected
    assert {"active", "closed"} <= {row[2] for row in expected}


def test_the_outbox_is_what_debezium_expects(books: Books) -> None:
    query = """
    SELECT column_name, data_type FROM information_schema.columns
    WHERE table_schema = 'tallystick' AND table_name = 'ledger_outbox' ORDER BY ordinal_position LIMIT 7
    """
    assert books.rows(query) == [
        ("id", "uuid"),
        ("aggregatetype", "text"),
        ("aggregateid", "text"),
        ("type", "text"),
        ("payload", "jsonb"),
        ("timestamp", "timestamp without time zone"),
        ("tracingspancontext", "text"),
    ]


def test_the_outbox_has_one_message_for_each_event(books: Books) -> None:
    query = """
    SELECT id, aggregatetype, aggregateid, type, timestamp, seq FROM tallystick.ledger_outbox ORDER BY ledger, seq
    """
    assert books.rows(query) == [
        (
            UUID(leaf_hash(encode_event(event))[:32]),
            "ledger",
            event.ledger,
            event.type,
            datetime.fromisoformat(event.time).replace(tzinfo=None),
            event.seq,
        )
        for event in books.history
    ]
    assert books.rows("SELECT count(*) = count(DISTINCT id) FROM tallystick.ledger_outbox") == [(True,)]
    query = "SELECT count(*) FROM tallystick.ledger_outbox JOIN tallystick.ledger_transactions USING (ledger, seq) "
    assert books.rows(query + "WHERE payload = event AND ledger = 'main'") == [(len(books.engines["main"].history),)]
    query = "SELECT tracingspancontext FROM tallystick.ledger_outbox WHERE tracingspancontext IS NOT NULL"
    assert books.rows(query) == [("traceparent=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",)]


def test_a_poller_goes_on_from_where_it_was(books: Books) -> None:
    query = """
    SELECT seq FROM tallystick.ledger_outbox
    WHERE ledger = 'second' AND seq > %(last)s AND chunk >= %(last)s - 255 ORDER BY seq LIMIT 100
    """
    for last in (-1, 0, 255, 14_998, 32_767, 33_590):
        end = min(last + 101, len(books.engines["second"].history))
        assert books.rows(query, last=last) == [(seq,) for seq in range(last + 1, end)]


def test_the_ranges_of_the_journal_are_those_that_each_month_has_a_share_in(books: Books) -> None:
    query = """
    SELECT name, period, part FROM tallystick.ledger_parts JOIN tallystick.ledger ON id = ledger ORDER BY 1, 2, 3
    """
    second = [("second", 202601, 0), ("second", 202602, 0), ("second", 202603, 1)]
    assert books.rows(query, AUDITOR) == [("main", 202601, 0), *second]


# ---------------------------------------------------------------- for whom


@pytest.mark.parametrize("role", [READER, WRITER, AUDITOR])
def test_every_role_may_read_every_column_of_every_view(books: Books, role: str) -> None:
    views = books.rows("SELECT table_name FROM information_schema.views WHERE table_schema = 'tallystick'", role)
    assert {"ledger_transactions", "ledger_entries", "ledger_balances", "ledger_holds"} <= {name for (name,) in views}
    for (name,) in views:
        books.rows(f"SELECT * FROM tallystick.{name} LIMIT 3", role)


def test_every_view_and_every_column_of_it_is_explained(books: Books) -> None:
    query = """
    SELECT relname, attname, coalesce(col_description(oid, attnum), ''), coalesce(obj_description(oid), '')
    FROM pg_class JOIN pg_attribute ON attrelid = oid AND attnum > 0
    WHERE relnamespace = 'tallystick'::regnamespace AND relkind = 'v'
    """
    found = books.rows(query)
    assert len(found) > 60
    assert [row[:2] for row in found if not row[2].endswith(".") or not row[3].endswith(".")] == []


# ---------------------------------------------------------------- what they cost


def test_what_is_not_asked_for_is_not_read(books: Books) -> None:
    """The time and the type of an entry are looked up in the journal; the JSON and the hash of an event are made."""
    entries = "SELECT {} FROM tallystick.ledger_entries WHERE ledger = 'second'"
    assert "event_2026" not in books.plan(entries.format("account, amount, seq"))
    assert "event_2026" in books.plan(entries.format("time"))
    events = "SELECT {} FROM tallystick.ledger_transactions WHERE ledger = 'second'"
    made = "Output: (CASE WHEN (strpos("  # how the function that makes JSON of an event begins, in a step of its own
    assert "strpos" not in books.plan(events.format("seq, transaction"))
    assert "sha256" not in books.plan(events.format("type, event"))
    assert books.plan(events.format("type, event, time, refs, actor")).count(made) == 1
    assert "sha256" in books.plan(events.format("hash"))


@pytest.mark.parametrize("view", ["ledger_transactions", "ledger_entries", "ledger_outbox"])
def test_a_filter_on_the_period_reads_that_month_alone(books: Books, view: str) -> None:
    plan = books.plan(f"SELECT seq FROM tallystick.{view} WHERE period = 202602")
    assert "_202602" in plan
    assert not [month for month in ("_202601", "_202603", "_202604") if month in plan]


FILTERS = {
    "the entries of an account": (
        "SELECT amount FROM tallystick.ledger_entries WHERE ledger = 'second' AND account = 'users:7'",
        ["balance.account = 'users:7'", "_version on tallystick.entry_202601", ".balance = balance.id)"],
    ),
    "the entries of one event": (
        "SELECT amount FROM tallystick.ledger_entries WHERE ledger = 'second' AND seq = 7 AND part = 7 / 32768",
        ["_version on tallystick.entry_202601", "::integer = 0)"],
    ),
    "one event": (
        "SELECT event FROM tallystick.ledger_transactions WHERE ledger = 'main' AND seq = 9 AND chunk BETWEEN 0 AND 9",
        ["event_202601_pkey", "(stored_1.seq >= 0) AND (stored_1.seq <= 9)"],
    ),
    "the events of one ledger": (
        "SELECT event FROM tallystick.ledger_transactions WHERE ledger = 'main'",
        ["event_202601_pkey", "(stored_1.ledger = ledger.id)"],
    ),
    "the balances of an account": (
        "SELECT balance FROM tallystick.ledger_balances WHERE ledger = 'second' AND account = 'users:7'",
        ["balance.account = 'users:7'", "_version on tallystick.entry_202601", "snapshot_pkey"],
    ),
    "the holds of an account": (
        "SELECT amount FROM tallystick.ledger_holds WHERE ledger = 'main' AND account = 'users:bob'",
        ["object_by_account", "object.account = 'users:bob'"],
    ),
}


@pytest.mark.parametrize(("query", "expected"), FILTERS.values(), ids=FILTERS)
def test_a_filter_can_use_an_index(books: Books, query: str, expected: list[str]) -> None:
    plan = books.plan(query, "enable_seqscan = off", "enable_bitmapscan = off")
    conditions = "\n".join(line for line in plan.splitlines() if "Index" in line)
    assert [part for part in expected if part not in conditions] == []


def test_the_entries_of_an_account_are_looked_up_rather_than_read_through(books: Books) -> None:
    """With the planner free to choose, at 67,000 entries: range after range of the journal, by the index."""
    plan = books.plan("SELECT amount FROM tallystick.ledger_entries WHERE ledger = 'second' AND account = 'users:7'")
    assert "Seq Scan on tallystick.entry_202601" not in plan
    assert "_version on tallystick.entry_202601" in plan
