"""Which connections of a caller's can be posted through: any, however it is set up, or it is said why not."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import rows
from psycopg.types.numeric import FloatLoader

import tallystick
from tallystick import Database, Ledger
from tallystick.commands import Transfer
from tallystick.errors import InvalidInput, NotPermitted, ReadOnly, SchemaMismatch, Unavailable
from tallystick.stores.postgres import migrations
from tests.support.callers import USD, ask, seen_by_others

ALICE, BOB = "users:alice", "users:bob"
NAME = "caf\u00e9 ✓"
SETTINGS = "SELECT name, setting FROM pg_catalog.pg_settings WHERE strpos(name, '.') = 0 ORDER BY name"
"""But those of extensions, which are known only once these have been used."""
MANY = 200
"""So many commands are copied into the tables."""


@pytest.fixture
def database(postgres: str) -> Iterator[Database]:
    with tallystick.open(postgres) as found:
        found.ledger("main").mint(ALICE, USD, 1_000, key="mint")
        yield found


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return database.ledger("main")


def post_all(ledger: Ledger, caller: psycopg.Connection[Any]) -> None:
    """One posting of each kind in which the statements differ, and the text that is not ASCII."""
    hold = ledger.hold(ALICE, USD, 100, refs={"order": NAME}, reason=NAME, key=f"hold {NAME}", connection=caller)
    ledger.capture(hold.id, to_account=BOB, amount=40, final=False, key="capture", connection=caller)
    commands = [Transfer(key=f"{n}", from_account=ALICE, to_account=BOB, asset=USD, amount=1) for n in range(MANY)]
    ledger.post_many(commands, connection=caller)
    assert ledger.hold(
        ALICE, USD, 100, refs={"order": NAME}, reason=NAME, key=f"hold {NAME}", connection=caller
    ).replayed


def check(ledger: Ledger, url: str) -> None:
    assert seen_by_others(url) == ["mint", f"hold {NAME}", "capture", *(str(number) for number in range(MANY))]
    assert [found.key for found in ledger.by_reference("order", NAME)] == [f"hold {NAME}"]
    assert ledger.locks()[0].remaining == 60
    assert ledger.balance(BOB, USD) == 40 + MANY


# ---------------------------------------------------------------- however it is set up


class LoudCursor(psycopg.Cursor[Any]):
    """A cursor of the caller's own, which the ledger has no business with."""

    def execute(self, *arguments: Any, **more: Any) -> Any:
        raise AssertionError(f"it was asked for {arguments}")


@pytest.mark.parametrize("factory", [rows.dict_row, rows.namedtuple_row, rows.class_row(dict), rows.kwargs_row(dict)])
def test_a_connection_whose_rows_are_of_another_kind(ledger: Ledger, postgres: str, factory: Any):
    with psycopg.connect(postgres, row_factory=factory) as caller:
        post_all(ledger, caller)
    check(ledger, postgres)


@pytest.mark.parametrize("factory", [psycopg.ClientCursor, psycopg.RawCursor, LoudCursor])
def test_a_connection_whose_cursors_are_of_another_kind(ledger: Ledger, postgres: str, factory: Any):
    with psycopg.connect(postgres, cursor_factory=factory) as caller:
        post_all(ledger, caller)
    check(ledger, postgres)


def test_a_connection_that_reads_numbers_in_its_own_way(ledger: Ledger, postgres: str):
    with psycopg.connect(postgres) as caller:
        for name in ("int4", "int8"):
            caller.adapters.register_loader(name, FloatLoader)
        post_all(ledger, caller)
    check(ledger, postgres)


@pytest.mark.parametrize("threshold", [0, 1, None])
def test_a_connection_that_prepares_at_once_or_never_and_has_nothing_of_ours_left_on_it(
    ledger: Ledger, postgres: str, threshold: int | None
):
    with psycopg.connect(postgres, prepare_threshold=threshold) as caller:
        post_all(ledger, caller)
        caller.commit()
        names = [name for (name,) in caller.execute("SELECT name FROM pg_prepared_statements")]
    assert not [name for name in names if not name.startswith("_pg3_")], "only what psycopg itself keeps there"
    check(ledger, postgres)


@pytest.mark.parametrize(
    "setting",
    [
        "search_path = decoy",
        "search_path = ''",
        "bytea_output = 'escape'",
        "timezone = 'Asia/Tokyo'",
        "datestyle = 'German'",
        "lc_messages = 'C'",
        "client_min_messages = 'debug1'",
        "default_transaction_read_only = on",
        "enable_seqscan = off",
        "synchronous_commit = off",
        "statement_timeout = '20s'",
        "plan_cache_mode = force_generic_plan",
    ],
)
def test_a_connection_with_settings_of_its_own(ledger: Ledger, postgres: str, setting: str):
    ask(postgres, "CREATE SCHEMA decoy")
    for table in ("head", "event", "ledger", "entry"):
        ask(postgres, f"CREATE TABLE decoy.{table} (ledger integer, id integer, name text, seq bigint)")
    with psycopg.connect(postgres, autocommit=True) as caller:
        caller.execute(f"SET {setting}")
        caller.execute("BEGIN READ WRITE")
        before = caller.execute(SETTINGS).fetchall()
        post_all(ledger, caller)
        after = caller.execute(SETTINGS).fetchall()
        caller.execute("COMMIT")
    assert before == after, "it is the caller's connection, and is left as it was"
    check(ledger, postgres)


def test_a_connection_of_a_role_that_may_only_post(ledger: Ledger, postgres: str):
    migrations.apply_roles(postgres)
    with psycopg.connect(postgres) as caller:
        caller.execute("SET ROLE tallystick_writer")
        post_all(ledger, caller)
    check(ledger, postgres)


def test_a_connection_of_a_role_that_may_not_post_is_told_so_and_its_transaction_goes_on(ledger: Ledger, postgres: str):
    migrations.apply_roles(postgres)
    with psycopg.connect(postgres) as caller:
        caller.execute("SET ROLE tallystick_auditor")
        with pytest.raises(NotPermitted, match="permission denied"):
            ledger.transfer(ALICE, BOB, USD, 1, key="k", connection=caller)
        assert caller.execute("SELECT 1").fetchone() == (1,)
    assert seen_by_others(postgres) == ["mint"]


def test_a_transaction_that_may_only_read_is_told_so_and_goes_on(ledger: Ledger, postgres: str):
    with psycopg.connect(postgres) as caller:
        caller.read_only = True
        with pytest.raises(ReadOnly):
            ledger.transfer(ALICE, BOB, USD, 1, key="k", connection=caller)
        assert caller.execute("SELECT 1").fetchone() == (1,)
    assert seen_by_others(postgres) == ["mint"]


@pytest.mark.parametrize(("name", "reason"), [("statement_timeout", "statement timeout"), ("lock_timeout", "lock")])
def test_the_callers_own_limits_hold_while_somebody_else_has_the_ledger(
    ledger: Ledger, postgres: str, name: str, reason: str
):
    with psycopg.connect(postgres) as other, psycopg.connect(postgres) as caller:
        ledger.transfer(ALICE, BOB, USD, 1, key="other", connection=other)
        caller.execute(f"SET LOCAL {name} = '50ms'")
        with pytest.raises(Unavailable, match=reason) as caught:
            ledger.transfer(ALICE, BOB, USD, 1, key="caller", connection=caller)
        assert caught.value.retryable
        other.commit()
        assert ledger.transfer(ALICE, BOB, USD, 1, key="caller", connection=caller).seq == 3, "in the same transaction"
    assert seen_by_others(postgres) == ["mint", "other", "caller"]


# ---------------------------------------------------------------- those that cannot be used


def refused(ledger: Ledger, connection: Any) -> str:
    """Why a connection is refused; nothing is posted."""
    with pytest.raises(InvalidInput) as caught:
        ledger.transfer(ALICE, BOB, USD, 1, key="k", connection=connection)
    assert caught.value.data["path"] == "connection"
    assert ledger.by_key("k") is None
    return str(caught.value.data["problem"])


def test_a_connection_with_autocommit_and_in_no_transaction_is_refused(ledger: Ledger, postgres: str):
    with psycopg.connect(postgres, autocommit=True) as caller:
        assert "transaction" in refused(ledger, caller)
        assert caller.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_a_connection_that_is_closed_or_lost_is_refused(ledger: Ledger, postgres: str):
    caller = psycopg.connect(postgres)
    caller.close()
    assert "closed" in refused(ledger, caller)


def test_a_connection_in_pipeline_mode_is_refused(ledger: Ledger, postgres: str):
    with psycopg.connect(postgres) as caller, caller.pipeline():
        assert "pipeline" in refused(ledger, caller)


def test_a_transaction_that_has_failed_is_refused_because_nothing_can_be_done_in_it(ledger: Ledger, postgres: str):
    with psycopg.connect(postgres) as caller:
        with pytest.raises(psycopg.errors.DivisionByZero):
            caller.execute("SELECT 1 / 0")
        assert "failed" in refused(ledger, caller)
        caller.rollback()
        ledger.transfer(ALICE, BOB, USD, 1, key="k", connection=caller)
    assert seen_by_others(postgres) == ["mint", "k"]


@pytest.mark.parametrize("encoding", ["latin1", "sql_ascii", "euc_jp"])
def test_a_connection_with_another_encoding_is_refused_since_texts_would_be_garbled(
    ledger: Ledger, postgres: str, encoding: str
):
    with psycopg.connect(postgres, client_encoding=encoding) as caller:
        assert "client_encoding" in refused(ledger, caller)
        caller.execute("SET client_encoding = 'utf8'")
        ledger.hold(ALICE, USD, 1, refs={"order": NAME}, key="k", connection=caller)
    assert [found.key for found in ledger.by_reference("order", NAME)] == ["k"]
    assert ledger.replay().ok


@pytest.mark.parametrize(
    "connection", [object(), "postgresql://", 7, sqlite3], ids=["object", "url", "number", "module"]
)
def test_what_is_no_connection_of_psycopg_is_refused(ledger: Ledger, connection: Any):
    assert "psycopg" in refused(ledger, connection)


def test_an_asynchronous_connection_is_refused(ledger: Ledger, postgres: str):
    async def try_it() -> str:
        async with await psycopg.AsyncConnection.connect(postgres) as caller:
            return refused(ledger, caller)

    assert "psycopg" in asyncio.run(try_it())


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_ledger_that_is_not_in_postgresql_takes_no_connection(
    kind: str, postgres: str, new_url: Callable[[str], str]
):
    with tallystick.open(new_url(kind)) as database, psycopg.connect(postgres) as caller:
        refused(database.ledger("main"), caller)


def test_a_connection_to_another_database_is_refused_and_nothing_is_posted_in_either(
    ledger: Ledger, new_database: Callable[[], str]
):
    elsewhere = new_database()
    with tallystick.open(elsewhere) as database:
        database.ledger("main").mint(ALICE, USD, 7, key="theirs")
    for _ in range(2):
        with psycopg.connect(elsewhere) as caller:
            assert "another database" in refused(ledger, caller)
            caller.commit()
    assert seen_by_others(elsewhere) == ["theirs"]


def test_a_connection_to_a_database_without_a_ledger_is_refused_and_its_transaction_goes_on(
    ledger: Ledger, empty_postgres: str
):
    with psycopg.connect(empty_postgres) as caller:
        caller.execute("CREATE TABLE orders (id integer)")
        with pytest.raises((InvalidInput, SchemaMismatch)):
            ledger.transfer(ALICE, BOB, USD, 1, key="k", connection=caller)
        assert caller.execute("SELECT count(*) FROM orders").fetchone() == (0,)
    assert ask(empty_postgres, "SELECT to_regclass('orders') IS NOT NULL") == [(True,)]


def test_a_database_that_was_opened_for_reading_only_posts_through_no_connection(ledger: Ledger, postgres: str):
    with tallystick.open(postgres, read_only=True) as database, psycopg.connect(postgres) as caller:
        with pytest.raises(ReadOnly):
            database.ledger("main").transfer(ALICE, BOB, USD, 1, key="k", connection=caller)
        assert caller.execute("SELECT 1").fetchone() == (1,)
    assert seen_by_others(postgres) == ["mint"]
