"""How the schema comes into a database, and what keeps a runner from touching one that it does not understand."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

import tallystick
from tallystick.errors import InvalidInput, NotPermitted, SchemaMismatch, Unavailable
from tallystick.stores.postgres import migrations
from tallystick.stores.postgres.migrations import Migration, known, migrate, plan, require_current, state
from tests.postgres.conftest import all_of_it
from tests.support.databases import Databases
from tests.support.processes import wait_until

SECONDS = 30


def migration(number: int, sql: str) -> Migration:
    return Migration(number, f"made_{number}", sql, hashlib.sha256(sql.encode()).hexdigest())


def standing(dsn: str) -> str:
    with psycopg.connect(dsn) as connection:
        return state(connection)


def execute(dsn: str, statement: str) -> Any:
    with psycopg.connect(dsn) as connection:
        found = connection.execute(statement.encode())
        return found.fetchone() if found.description else None


# ---------------------------------------------------------------- the files


def test_the_files_are_numbered_from_one_without_a_gap() -> None:
    assert [one.number for one in known()] == list(range(1, len(known()) + 1))
    assert [one.name for one in known()][:3] == ["ledger", "partitions_and_guards", "views"]


def test_a_checksum_is_of_the_whole_file() -> None:
    for one in known():
        assert one.sha256 == hashlib.sha256(one.sql.encode()).hexdigest()
        assert one.sql.startswith("--")


# ---------------------------------------------------------------- applying


def test_an_empty_database_gets_all_of_them_in_order(empty_postgres: str) -> None:
    assert standing(empty_postgres) == "absent"
    assert migrate(empty_postgres) == list(known())
    assert standing(empty_postgres) == "current"
    with psycopg.connect(empty_postgres) as connection:
        rows = connection.execute("SELECT number, name, sha256, applied <= now() FROM tallystick.migration ORDER BY 1")
        assert rows.fetchall() == [(one.number, one.name, one.sha256, True) for one in known()]


def test_a_second_time_there_is_nothing_to_do(empty_postgres: str) -> None:
    migrate(empty_postgres)
    before = all_of_it(empty_postgres)
    assert migrate(empty_postgres) == []
    assert all_of_it(empty_postgres) == before


def test_what_is_missing_is_applied_and_no_more(empty_postgres: str) -> None:
    assert migrate(empty_postgres, known()[:2]) == list(known()[:2])
    assert standing(empty_postgres) == "behind"
    assert migrate(empty_postgres) == list(known()[2:])


def test_a_plan_changes_nothing(empty_postgres: str) -> None:
    steps = plan(empty_postgres)
    assert [(step.number, step.name, step.sha256) for step in steps] == [
        (one.number, one.name, one.sha256) for one in known()
    ]
    assert {(step.status, step.applied) for step in steps} == {("due", "")}
    assert execute(empty_postgres, "SELECT to_regnamespace('tallystick')") == (None,)


def test_a_plan_says_what_was_applied_and_when(empty_postgres: str) -> None:
    migrate(empty_postgres, known()[:2])
    first, second, third, *_ = plan(empty_postgres)
    assert (first.status, second.status, third.status) == ("applied", "applied", "due")
    assert "2026" <= first.applied <= second.applied
    assert (first.applied[10], first.applied[-1], third.applied) == ("T", "Z", "")


def test_the_first_ones_are_applied_together_or_not_at_all(empty_postgres: str) -> None:
    first = migration(1, "CREATE TABLE tallystick.first (a integer)")
    broken = migration(2, "SELECT * FROM tallystick.nowhere")
    with pytest.raises(SchemaMismatch):
        migrate(empty_postgres, [first, broken])
    assert execute(empty_postgres, "SELECT to_regclass('tallystick.first')") == (None,)


def test_many_may_open_an_empty_database_at_once(empty_postgres: str) -> None:
    """Two services that start together must not find the tables half made."""
    together = threading.Barrier(4)

    def open_it() -> list[str]:
        together.wait(60)
        with tallystick.open(empty_postgres) as database:
            return database.ledgers()

    with ThreadPoolExecutor(4) as pool:
        assert [opened.result(60) for opened in [pool.submit(open_it) for _ in range(4)]] == [[]] * 4


def test_one_that_fails_leaves_nothing_of_it_behind(empty_postgres: str) -> None:
    first = migration(1, "CREATE TABLE tallystick.first (a integer)")
    broken = migration(2, "CREATE TABLE tallystick.second (a integer); SELECT * FROM tallystick.nowhere")
    migrate(empty_postgres, [first])
    with pytest.raises(SchemaMismatch, match=r"0002_made_2 cannot be applied: relation .* does not exist"):
        migrate(empty_postgres, [first, broken])
    assert execute(empty_postgres, "SELECT to_regclass('tallystick.first'), to_regclass('tallystick.second')") == (
        "tallystick.first",
        None,
    )
    assert execute(empty_postgres, "SELECT array_agg(number) FROM tallystick.migration") == ([1],)
    mended = migration(2, "CREATE TABLE tallystick.second (a integer)")
    assert migrate(empty_postgres, [first, mended]) == [mended]


def test_tables_that_nobody_accounts_for_are_left_alone(empty_postgres: str) -> None:
    execute(empty_postgres, "CREATE SCHEMA tallystick; CREATE TABLE tallystick.ledger (a integer)")
    before = all_of_it(empty_postgres)
    with pytest.raises(SchemaMismatch, match="already exists"):
        migrate(empty_postgres)
    assert all_of_it(empty_postgres) == before


# ---------------------------------------------------------------- what is refused

PUT_WRONG = {
    "another checksum": ("UPDATE tallystick.migration SET sha256 = 'x' WHERE number = 2", "altered", "0002_partitions"),
    "a gap": ("DELETE FROM tallystick.migration WHERE number = 2", "altered", "later ones were applied, but not this"),
    "more than we know": ("INSERT INTO tallystick.migration VALUES (99, 'new', 'x')", "ahead", "use a newer"),
    "both": (
        "INSERT INTO tallystick.migration VALUES (99, 'new', 'x'); UPDATE tallystick.migration SET sha256 = 'x'",
        "altered",
        "another file",
    ),
}


@pytest.mark.parametrize(("statement", "expected", "message"), PUT_WRONG.values(), ids=PUT_WRONG)
def test_a_database_that_is_not_understood_is_left_alone(
    postgres: str, statement: str, expected: str, message: str
) -> None:
    execute(postgres, statement)
    before = all_of_it(postgres)
    assert standing(postgres) == expected
    for act in (migrate, migrations.apply_roles):
        with pytest.raises(SchemaMismatch, match=message) as caught:
            act(postgres)
        assert caught.value.data["state"] == expected
    assert all_of_it(postgres) == before


def test_a_newer_database_is_left_alone_even_if_something_is_missing(empty_postgres: str) -> None:
    migrate(empty_postgres, [*known()[:2], *(migration(n, "SELECT 1") for n in range(len(known()) + 1, 20))])
    assert standing(empty_postgres) == "altered"
    with pytest.raises(SchemaMismatch):
        migrate(empty_postgres)


def test_the_plan_names_what_is_wrong(postgres: str) -> None:
    execute(postgres, "UPDATE tallystick.migration SET sha256 = 'x' WHERE number = 1")
    execute(postgres, "DELETE FROM tallystick.migration WHERE number = 2")
    execute(postgres, "INSERT INTO tallystick.migration VALUES (99, 'new', 'x')")
    steps = {step.number: (step.name, step.status, bool(step.applied)) for step in plan(postgres)}
    assert steps[1] == ("ledger", "altered", True)
    assert steps[2] == ("partitions_and_guards", "missing", False)
    assert steps[3] == ("views", "applied", True)
    assert steps[99] == ("new", "unknown", True)


@pytest.fixture
def latin1(databases: Databases) -> Iterator[str]:
    """A database that cannot hold every text."""
    dsn = databases.new(empty=True)
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    databases.drop(dsn)
    with psycopg.connect(make_conninfo(dsn, dbname="postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    yield dsn
    databases.drop(dsn)


def test_a_database_that_cannot_hold_every_text_is_refused(latin1: str) -> None:
    with pytest.raises(SchemaMismatch, match="its encoding is LATIN1: make a database with ENCODING 'UTF8'"):
        migrate(latin1)
    assert standing(latin1) == "absent"


def test_a_server_that_is_too_old_is_refused(empty_postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "OLDEST_VERSION", 990_000)
    with pytest.raises(SchemaMismatch, match="PostgreSQL 13 or newer is needed, this is"):
        migrate(empty_postgres)
    assert standing(empty_postgres) == "absent"


# ---------------------------------------------------------------- several at once


@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
def test_runners_at_the_same_time_apply_each_once(empty_postgres: str, isolation: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(empty_postgres)["dbname"]
    execute(empty_postgres, f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
    execute(empty_postgres, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    barrier = threading.Barrier(4)

    def run(_: int) -> list[Migration]:
        barrier.wait(SECONDS)
        return migrate(empty_postgres)

    with ThreadPoolExecutor(4) as pool:
        applied = [one.number for done in pool.map(run, range(4)) for one in done]
    assert sorted(applied) == [one.number for one in known()]
    assert standing(empty_postgres) == "current"


def waiting(connection: psycopg.Connection[Any]) -> bool:
    query = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
    return bool(connection.execute(query).fetchone()[0])  # type: ignore[index]


def test_a_second_runner_waits_and_then_finds_nothing_to_do(empty_postgres: str) -> None:
    with (
        psycopg.connect(empty_postgres) as first,
        psycopg.connect(empty_postgres, autocommit=True) as watch,
        ThreadPoolExecutor(1) as pool,
    ):
        first.execute(migrations.SQL["lock"].encode())
        second = pool.submit(migrate, empty_postgres)
        wait_until(lambda: waiting(watch), SECONDS, "the second runner's wait")
        assert not second.done()
        for one in known():  # in the first runner's transaction, which is still open
            if one.number == 1:
                first.execute(b"CREATE SCHEMA tallystick; " + migrations.SQL["make_table"].encode())
            first.execute(one.sql.encode())
            first.execute(
                migrations.SQL["add"].encode(), {"number": one.number, "name": one.name, "sha256": one.sha256}
            )
        first.commit()
        assert second.result(SECONDS) == []


def test_a_runner_does_not_wait_for_ever(empty_postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "LOCK_MILLISECONDS", 50)
    with psycopg.connect(empty_postgres) as first:
        first.execute(migrations.SQL["lock"].encode())
        started = time.monotonic()
        with pytest.raises(Unavailable, match="lock timeout") as caught:
            migrate(empty_postgres)
        assert caught.value.retryable
        assert time.monotonic() - started < SECONDS
    assert migrate(empty_postgres) == list(known())


# ---------------------------------------------------------------- connections


@pytest.mark.parametrize("autocommit", [False, True])
def test_a_connection_is_left_as_it_was(empty_postgres: str, autocommit: bool) -> None:
    settings = "SELECT name, setting FROM pg_settings WHERE name !~ '^transaction_|[.]' ORDER BY name"
    with psycopg.connect(empty_postgres, autocommit=autocommit, row_factory=dict_row) as connection:
        before = connection.execute(settings).fetchall()
        connection.commit()
        assert migrate(connection) == list(known())
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert connection.execute(settings).fetchall() == before


def test_a_connection_in_a_transaction_is_refused(empty_postgres: str) -> None:
    with psycopg.connect(empty_postgres) as connection:
        connection.execute("SELECT 1")
        with pytest.raises(InvalidInput, match="it is in a transaction"):
            migrate(connection)
    assert standing(empty_postgres) == "absent"


def test_the_state_is_asked_for_without_ending_a_transaction(empty_postgres: str) -> None:
    with psycopg.connect(empty_postgres) as connection:
        connection.execute("CREATE TABLE mine (a integer)")
        assert state(connection) == "absent"
        connection.execute("INSERT INTO mine VALUES (1)")
    assert execute(empty_postgres, "SELECT a FROM mine") == (1,)


def test_the_state_takes_one_query(postgres: str) -> None:
    asked = []

    class Counting(psycopg.Cursor[Any]):
        def execute(self, query: Any, *arguments: Any, **more: Any) -> Any:
            asked.append(query)
            return super().execute(query, *arguments, **more)

    with psycopg.connect(postgres, autocommit=True, cursor_factory=Counting) as connection:
        assert state(connection) == "current"
    assert len(asked) == 1


def test_what_a_store_needs_is_asked_for_by_name(empty_postgres: str) -> None:
    with psycopg.connect(empty_postgres, autocommit=True) as connection:
        with pytest.raises(SchemaMismatch, match=r"books cannot be used as it is: it has none of Tallystick's tables"):
            require_current(connection, "books")
        migrate(connection, known()[:1])
        needed = rf"its tables are at migration 1, this program needs {len(known())}: run `tally migrate`"
        with pytest.raises(SchemaMismatch, match=needed):
            require_current(connection, "books")
        migrate(connection)
        require_current(connection, "books")


# ---------------------------------------------------------------- whose it is


@pytest.fixture
def role(databases: Databases, empty_postgres: str) -> Iterator[str]:
    """A role that may log in, and no more."""
    name = f"tallystick_test_{secrets.token_hex(4)}"
    execute(empty_postgres, f"CREATE ROLE {name} LOGIN PASSWORD 'geheim'")
    yield name
    execute(empty_postgres, f"DROP OWNED BY {name}")
    execute(empty_postgres, f"DROP ROLE {name}")


def owners(dsn: str) -> set[str]:
    statement = """
    SELECT array_agg(DISTINCT owner::regrole::text) FROM (
        SELECT relowner FROM pg_class WHERE relnamespace = 'tallystick'::regnamespace
        UNION SELECT proowner FROM pg_proc WHERE pronamespace = 'tallystick'::regnamespace
        UNION SELECT nspowner FROM pg_namespace WHERE nspname = 'tallystick'
    ) AS made (owner)
    """
    return set(execute(dsn, statement)[0])


def test_what_is_made_belongs_to_the_owner_of_the_schema(empty_postgres: str, role: str) -> None:
    execute(empty_postgres, f"ALTER ROLE {role} NOLOGIN")
    execute(empty_postgres, f"CREATE SCHEMA tallystick AUTHORIZATION {role}")
    with psycopg.connect(empty_postgres, autocommit=True) as connection:
        assert migrate(connection) == list(known())
        assert connection.execute("SELECT current_user = session_user").fetchone() == (True,)
        connection.execute("SELECT tallystick.make_partitions(202601)")
    assert owners(empty_postgres) == {role}


def test_nobody_migrates_in_a_schema_that_another_user_made(empty_postgres: str, role: str) -> None:
    """Its tables could act, in triggers, with the rights of whoever migrates."""
    execute(empty_postgres, f"CREATE SCHEMA tallystick AUTHORIZATION {role}")
    with pytest.raises(NotPermitted, match="belongs to"):
        migrate(empty_postgres)


def test_whoever_was_given_a_schema_needs_no_right_to_make_one(empty_postgres: str, role: str) -> None:
    dsn = make_conninfo(empty_postgres, user=role, password="geheim")
    with pytest.raises(NotPermitted, match="permission denied for database"):
        migrate(dsn)
    execute(empty_postgres, f"CREATE SCHEMA tallystick AUTHORIZATION {role}")
    assert migrate(dsn) == list(known())


def test_a_url_may_leave_everything_to_the_environment(empty_postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = psycopg.conninfo.conninfo_to_dict(empty_postgres)
    for name, variable in (("host", "PGHOST"), ("port", "PGPORT"), ("user", "PGUSER"), ("dbname", "PGDATABASE")):
        if name in found:
            monkeypatch.setenv(variable, str(found[name]))
    if "password" in found:
        monkeypatch.setenv("PGPASSWORD", str(found["password"]))
    assert migrate("postgresql://") == list(known())
    assert standing(empty_postgres) == "current"


# ---------------------------------------------------------------- passwords

URLS = [
    "postgresql://eve:geheim@127.0.0.1:1/books",
    "postgresql://eve:geheim@@127.0.0.1:1/books",
    "postgresql://eve:ge@heim@127.0.0.1:1/books",
    "postgresql://eve:ge/heim@127.0.0.1:1/books",
    "postgresql://eve:ge%zzheim@127.0.0.1:1/books",
    "postgresql://eve:ge:heim@127.0.0.1:1/books",
    "postgresql://eve@127.0.0.1:1/books?password=geheim",
    "postgresql://eve@127.0.0.1:1/books?password=geheim&nonsense=1",
    "host=127.0.0.1 port=1 password=geheim",
    "host=127.0.0.1 port=1 password = 'ge heim'",
]


@pytest.mark.parametrize("url", URLS)
def test_no_password_is_ever_told(url: str) -> None:
    for act in (migrate, plan, migrations.apply_roles):
        with pytest.raises((Unavailable, InvalidInput)) as caught:
            act(url)
        told = f"{caught.value} {caught.value.to_dict()} {caught.value!r}"
        assert "heim" not in told
        assert "ge/" not in told
        assert "'ge'" not in told
        assert '"ge"' not in told
