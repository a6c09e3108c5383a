"""Who may do what: the ready roles give each exactly what it needs."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

import tallystick
from tallystick.errors import NotPermitted, SchemaMismatch
from tallystick.stores.postgres import migrations
from tallystick.stores.postgres.store import PostgresStore
from tests.postgres.by_hand import OPENING, PERIOD
from tests.postgres.conftest import AUDITOR, OWNER, READER, SUPERUSER, WRITER, Psql, all_of_it
from tests.support import story
from tests.support.engine import Engine
from tests.support.postgres import HASTY, Server

ROLES = (OWNER, WRITER, READER, AUDITOR)

APPENDED_TO = {
    "asset": "ledger, number, asset",
    "backdated": "",
    "balance": "",
    "cache": "",
    "checkpoint": "",
    "entry": "",
    "event": "",
    "head": "ledger",
    "idempotency": "",
    "ledger": "name",
    "log_tile": "",
    "object": "",
    "opening": "",
    "reference": "",
    "snapshot": "",
    "snapshot_point": "",
    "stretch": "",
}
"""What a writer may add rows to, and which columns of it: none named, all of them."""

CHANGED = {
    "cache": "body",
    "head": "seq, hash, time, balances, period",
    "log_tile": "hashes",  # a tile grows, and its guard refuses all else
    "ledger": "name",  # the right to lock a row; the guard refuses the change itself
    "object": "seq, place, account, state, expires, body",
}
"""What a writer may change, and which columns of it."""

MAY = """
SELECT oid::regclass::text, relkind::text, relispartition FROM pg_class
WHERE relnamespace = 'tallystick'::regnamespace AND relkind IN ('r', 'p', 'v')
"""


@pytest.fixture
def connection(psql: Psql) -> Iterator[psycopg.Connection[Any]]:
    """A superuser's connection, to ask who may do what."""
    psql(OPENING)
    with psycopg.connect(psql.dsn, autocommit=True) as found:
        yield found


@pytest.fixture
def login(postgres: str) -> Iterator[str]:
    """A role with a password."""
    name = f"tallystick_test_{secrets.token_hex(4)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'geheim'".encode())
        yield name
        connection.execute(f"DROP ROLE {name}".encode())


def as_login(dsn: str, login: str) -> str:
    """The URL of the same database for another who logs in."""
    place = urlsplit(dsn)
    return place._replace(netloc=f"{login}:geheim@{place.netloc.rpartition('@')[2]}").geturl()


def relations(connection: psycopg.Connection[Any]) -> list[tuple[str, str, bool]]:
    return [(name.removeprefix("tallystick."), kind, leaf) for name, kind, leaf in connection.execute(MAY)]


def allowed(connection: psycopg.Connection[Any], role: str, what: str) -> dict[str, str]:
    """The relations that a role may do this to, with the columns if not all of them."""
    query = """
    SELECT has_table_privilege(%(role)s, %(table)s, %(what)s),
        (SELECT coalesce(string_agg(attname, ', ' ORDER BY attnum), '') FROM pg_attribute
         WHERE attrelid = %(table)s::regclass AND attnum > 0 AND %(what)s <> 'DELETE' AND %(what)s <> 'TRUNCATE'
           AND has_column_privilege(%(role)s, attrelid, attnum, CASE %(what)s WHEN 'DELETE' THEN 'SELECT'
               WHEN 'TRUNCATE' THEN 'SELECT' ELSE %(what)s END))
    """
    found = {}
    for name, _, _ in relations(connection):
        asked = {"role": role, "table": f"tallystick.{name}", "what": what}
        whole, columns = connection.execute(query, asked).fetchone() or (False, "")
        if whole or columns:
            found[name] = "" if whole else columns
    return found


def test_nobody_can_log_in_as_a_role(connection: psycopg.Connection[Any]) -> None:
    query = "SELECT rolcanlogin OR rolsuper OR rolcreatedb OR rolcreaterole FROM pg_roles WHERE rolname = ANY(%s)"
    assert connection.execute(query, [list(ROLES)]).fetchall() == [(False,)] * 4


def test_everything_belongs_to_the_owner_and_so_do_partitions_that_a_writer_has_made(psql: Psql) -> None:
    psql(f"SELECT tallystick.make_partitions({PERIOD})")
    query = """
    SELECT DISTINCT owner::regrole FROM (
        SELECT relowner FROM pg_class WHERE relnamespace = 'tallystick'::regnamespace
        UNION SELECT proowner FROM pg_proc WHERE pronamespace = 'tallystick'::regnamespace
        UNION SELECT nspowner FROM pg_namespace WHERE nspname = 'tallystick') AS made (owner)
    """
    assert psql(query) == OWNER


def test_the_public_may_do_nothing(connection: psycopg.Connection[Any]) -> None:
    connection.execute("SELECT tallystick.make_partitions(202707)")
    query = """
    SELECT name, privilege_type FROM (
        SELECT relname, coalesce(relacl, acldefault('r', relowner)) FROM pg_class
        WHERE relnamespace = 'tallystick'::regnamespace
        UNION ALL SELECT proname, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc
        WHERE pronamespace = 'tallystick'::regnamespace
        UNION ALL SELECT nspname, coalesce(nspacl, acldefault('n', nspowner)) FROM pg_namespace
        WHERE nspname = 'tallystick'
    ) AS made (name, acl), aclexplode(acl) WHERE grantee = 0
    """
    assert connection.execute(query).fetchall() == []


def test_a_function_that_the_owner_makes_later_is_not_for_the_public(connection: psycopg.Connection[Any]) -> None:
    connection.execute(f"SET ROLE {OWNER}")
    connection.execute("CREATE FUNCTION tallystick.later() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
    query = "SELECT has_function_privilege('public', 'tallystick.later()', 'EXECUTE')"
    assert connection.execute(query).fetchone() == (False,)


def test_no_function_looks_for_names_where_others_could_put_theirs(connection: psycopg.Connection[Any]) -> None:
    query = """
    SELECT proname FROM pg_proc WHERE pronamespace = 'tallystick'::regnamespace
      AND NOT coalesce(proconfig @> '{"search_path=pg_catalog, pg_temp"}', false)
    """
    # This one is made part of each query that names it, which a setting would prevent; it names its parts in full.
    assert connection.execute(query).fetchall() == [("readable_json",)]


# ---------------------------------------------------------------- the writer


def test_a_writer_reads_everything_through_its_parent_alone(connection: psycopg.Connection[Any]) -> None:
    assert allowed(connection, WRITER, "SELECT") == {name: "" for name, _, leaf in relations(connection) if not leaf}


def test_a_writer_appends_where_the_store_does_and_changes_only_what_moves(
    connection: psycopg.Connection[Any],
) -> None:
    assert allowed(connection, WRITER, "INSERT") == APPENDED_TO
    assert allowed(connection, WRITER, "UPDATE") == CHANGED
    assert allowed(connection, WRITER, "DELETE") == {"opening": ""}, "what may be erased, and nothing else"
    assert allowed(connection, WRITER, "TRUNCATE") == {}


def test_a_partition_of_a_later_month_is_nobody_elses(connection: psycopg.Connection[Any]) -> None:
    connection.execute(f"SET ROLE {WRITER}")
    connection.execute("SELECT tallystick.make_partitions(202707)")
    connection.execute("RESET ROLE")
    for role in (WRITER, READER):
        assert not [name for name in allowed(connection, role, "SELECT") if name.endswith("_202707")]
    assert [name for name in allowed(connection, AUDITOR, "SELECT") if name == "event_202707"]


def test_a_writer_needs_nothing_but_its_role_to_run_a_ledger(psql: Psql, login: str) -> None:
    psql(f"GRANT {WRITER} TO {login}", SUPERUSER)
    store = PostgresStore(as_login(psql.dsn, login), create=False)
    with contextlib.closing(store):
        engine = story.tell(Engine(store))
        store.keep("main", "filter", b"some bytes")
        store.keep("main", "filter", b"other bytes")
        store.snapshot("main")
        asked = story.questions(engine)
        answers = story.ask(store, asked)
    with contextlib.closing(PostgresStore(psql.dsn, create=False)) as everything:
        assert answers == story.ask(everything, asked)
        assert everything.kept("main", "filter") == b"other bytes"


def test_a_rebuild_takes_more_than_a_writer(psql: Psql, login: str) -> None:
    psql(f"GRANT {WRITER} TO {login}", SUPERUSER)
    with tallystick.open(as_login(psql.dsn, login)) as database:
        database.ledger("main").mint("users:alice", "USD/2", 1_000, key="m")
        before = all_of_it(psql.dsn)
        with pytest.raises(NotPermitted):
            database.rebuild("main")
        assert all_of_it(psql.dsn) == before
    psql(f"GRANT {OWNER} TO {login}", SUPERUSER)
    with tallystick.open(as_login(psql.dsn, login)) as database:
        assert database.rebuild("main").ok
        assert database.ledger("main").balance("users:alice", "USD/2") == 1_000


def test_a_reader_may_not_open_a_ledger_as_a_program_does(psql: Psql, login: str) -> None:
    psql(f"GRANT {READER} TO {login}", SUPERUSER)
    with pytest.raises(NotPermitted, match="permission denied for table migration"):
        tallystick.open(as_login(psql.dsn, login))


# ---------------------------------------------------------------- the reader and the auditor


def test_a_reader_sees_the_views_and_nothing_else(connection: psycopg.Connection[Any]) -> None:
    assert allowed(connection, READER, "SELECT") == {name: "" for name, kind, _ in relations(connection) if kind == "v"}
    for what in ("INSERT", "UPDATE", "DELETE", "TRUNCATE"):
        assert allowed(connection, READER, what) == {}


def test_an_auditor_sees_everything_and_changes_nothing(connection: psycopg.Connection[Any]) -> None:
    assert allowed(connection, AUDITOR, "SELECT") == {name: "" for name, _, _ in relations(connection)}
    for what in ("INSERT", "UPDATE", "DELETE", "TRUNCATE"):
        assert allowed(connection, AUDITOR, what) == {}


def test_only_a_writer_may_make_partitions(psql: Psql) -> None:
    for role in (READER, AUDITOR):
        assert "permission denied for function make_partitions" in psql.refused(
            "SELECT tallystick.make_partitions(202601)", role
        )
    assert psql("SELECT tallystick.make_partitions(202601)") == "t"
    assert psql("SELECT tallystick.make_partitions(202601)") == "f"


# ---------------------------------------------------------------- again and again


def test_a_second_time_nothing_changes(psql: Psql) -> None:
    psql(OPENING)
    before = all_of_it(psql.dsn)
    migrations.apply_roles(psql.dsn)
    assert all_of_it(psql.dsn) == before


def test_what_was_given_besides_is_taken_back(psql: Psql) -> None:
    psql(OPENING)
    before = all_of_it(psql.dsn)
    psql(
        f"GRANT DELETE ON tallystick.object TO {WRITER}; GRANT UPDATE (body) ON tallystick.event TO {WRITER};"
        f"GRANT INSERT ON tallystick.event_{PERIOD} TO {WRITER}; GRANT SELECT ON tallystick.event TO {READER}, PUBLIC;"
        f"GRANT EXECUTE ON FUNCTION tallystick.make_partitions(integer) TO PUBLIC;"
        f"GRANT CREATE ON SCHEMA tallystick TO {WRITER};",
        SUPERUSER,
    )
    assert all_of_it(psql.dsn) != before
    migrations.apply_roles(psql.dsn)
    assert all_of_it(psql.dsn) == before
    assert "permission denied" in psql.refused("UPDATE tallystick.event SET body = 'x'")
    assert "permission denied" in psql.refused("CREATE TABLE tallystick.mine (a integer)")


def test_roles_wait_for_the_migrations(empty_postgres: str) -> None:
    migrations.migrate(empty_postgres, migrations.known()[:2])
    with pytest.raises(SchemaMismatch, match="run `tally migrate`"):
        migrations.apply_roles(empty_postgres)


def test_an_administrator_who_is_no_superuser_can_do_it_all_on_a_new_server() -> None:
    """As on a managed service; and in several databases at once, though roles are the server's."""
    with Server(settings=HASTY) as server:
        server.init().start()
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE ROLE admin LOGIN CREATEROLE CREATEDB")
        names = [f"books_{number}" for number in range(3)]
        with psycopg.connect(server.dsn(user="admin"), autocommit=True) as connection:
            for name in names:
                connection.execute(f"CREATE DATABASE {name}".encode())
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda name: migrations.migrate(server.dsn(name, "admin")), names))
            list(pool.map(lambda name: migrations.apply_roles(server.dsn(name, "admin")), names))
        migrations.apply_roles(server.dsn(names[0], "admin"))
        with psycopg.connect(server.dsn(names[0], "admin"), autocommit=True) as connection:
            connection.execute("DELETE FROM tallystick.migration WHERE number = 99")  # as a member of the owner
            connection.execute("CREATE ROLE shop LOGIN")
            connection.execute(f"GRANT {WRITER} TO shop".encode())
        with tallystick.open(server.dsn(names[0], "shop")) as database:
            database.ledger("main").mint("users:alice", "USD/2", 1_000, key="m")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), psycopg.connect(server.dsn(names[0], "shop")) as shop:
            shop.execute("UPDATE tallystick.event SET body = ''")
        more = migrations.Migration(len(migrations.known()) + 1, "more", "CREATE TABLE tallystick.more (a int)", "x")
        migrations.migrate(server.dsn(names[0], "admin"), [*migrations.known(), more])
        with psycopg.connect(server.dsn(names[0], "admin")) as connection:
            query = "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'more'"
            assert connection.execute(query).fetchone() == (OWNER,)
