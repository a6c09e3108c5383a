"""The operator's records in PostgreSQL: who may make them, what is refused, and what a lost connection leaves."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import quote

import psycopg
import pytest

from tallystick.clock import add_seconds, system_clock
from tallystick.control import ApiKey, Control, Delivery, Endpoint, Lease, open_control
from tallystick.control.postgres import SQL, PostgresControl
from tallystick.errors import LedgerNotFound, NotPermitted, SchemaMismatch, Unavailable
from tests.control.process import processes
from tests.support.processes import wait_until

KEY = ApiKey(id="k", secret_hash="0" * 64, subject="shop")


@pytest.fixture
def place(empty_postgres: str) -> str:
    """A database with no ledger in it, which the records do not need."""
    return empty_postgres


@pytest.fixture
def server(place: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(place, autocommit=True) as connection:
        yield connection


@pytest.fixture
def control(place: str) -> Iterator[Control]:
    opened = open_control(place)
    opened.add_endpoint(Endpoint(id="e", ledger="shop"))
    yield opened
    opened.close()


@pytest.fixture
def role(server: psycopg.Connection) -> Iterator[str]:
    """A role that may log in and is nobody."""
    name = f"somebody_{secrets.token_hex(4)}"
    server.execute(f"CREATE ROLE {name} LOGIN")
    yield name
    server.execute(f"DROP OWNED BY {name} CASCADE")
    server.execute(f"DROP ROLE {name}")


def as_role(url: str, role: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}options={quote(f'-c role={role}')}"


def end_connections(server: psycopg.Connection) -> None:
    """End those that there are; the pool may be making another one meanwhile."""
    ended = server.execute(
        "SELECT array_agg(pid) FROM (SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
        "datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend') AS ended"
    ).fetchone()
    left = "SELECT FROM pg_stat_activity WHERE pid = ANY (%s)"
    wait_until(lambda: not server.execute(left, ended).fetchall(), 10, "they are gone")


def is_waiting(server: psycopg.Connection) -> bool:
    """Whether somebody waits for a lock in this database."""
    found = server.execute(
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(found.fetchall())


# ---------------------------------------------------------------- the schema


def test_nothing_is_made_when_nothing_is_to_be_made(place: str, server: psycopg.Connection) -> None:
    with pytest.raises(LedgerNotFound):
        open_control(place, create=False)
    assert server.execute("SELECT to_regnamespace('tallystick_service')").fetchone() == (None,)


def test_what_is_kept_is_there_when_it_is_opened_again(place: str, control: Control) -> None:
    control.add_key(KEY)
    again = open_control(place, create=False)
    assert again.key("k") == KEY
    again.close()


def test_a_newer_schema_is_refused(place: str, control: Control, server: psycopg.Connection) -> None:
    server.execute("INSERT INTO tallystick_service.migration (number, name, sha256) VALUES (999, 'later', '')")
    with pytest.raises(SchemaMismatch, match="use a newer Tallystick"):
        open_control(place)


def test_a_schema_that_was_made_otherwise_is_refused(place: str, control: Control, server: psycopg.Connection) -> None:
    server.execute("UPDATE tallystick_service.migration SET sha256 = 'other'")
    with pytest.raises(SchemaMismatch, match="0001_records"):
        open_control(place)


def test_a_schema_of_somebody_elses_tables_is_refused_and_left_as_it_is(place: str, server: psycopg.Connection) -> None:
    server.execute("CREATE SCHEMA tallystick_service")
    server.execute("CREATE TABLE tallystick_service.secret (theirs text)")
    with pytest.raises(SchemaMismatch, match="none of ours"):
        open_control(place)
    tables = server.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'tallystick_service'")
    assert tables.fetchall() == [("secret",)]


def test_a_schema_that_somebody_else_laid_out_is_not_trusted(place: str, server: psycopg.Connection, role: str) -> None:
    server.execute(f"CREATE SCHEMA tallystick_service AUTHORIZATION {role}")
    with pytest.raises(NotPermitted, match="somebody else"):
        open_control(place)


def test_who_may_not_make_the_schema_is_told_so(place: str, role: str) -> None:
    with pytest.raises(NotPermitted):
        open_control(as_role(place, role))


def test_who_is_nobody_sees_nothing_and_who_is_given_the_tables_needs_no_more(
    place: str, control: Control, server: psycopg.Connection, role: str
) -> None:
    with pytest.raises(NotPermitted):
        open_control(as_role(place, role))
    server.execute(f"GRANT USAGE ON SCHEMA tallystick_service TO {role}")
    server.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA tallystick_service TO {role}")
    opened = open_control(as_role(place, role))
    lease = opened.acquire("deliver:e", "me", 60)
    assert opened.settle("e", cursor=3, deliveries=[Delivery(endpoint="e", seq=1)], lease=lease)
    opened.add_key(KEY)
    opened.keep_report("shop", system_clock(), True, {})
    opened.remove_endpoint("e")
    opened.close()


# ---------------------------------------------------------------- connections


def test_a_connection_that_died_is_unavailable_at_most_once(control: Control, server: psycopg.Connection) -> None:
    for cursor in range(1, 4):
        end_connections(server)
        with suppress(Unavailable):  # unless it was seen in time that it is dead
            control.settle("e", cursor=cursor)
        assert control.settle("e", cursor=cursor)
        assert control.cursor("e") == cursor


def test_a_connection_that_dies_while_it_settles_leaves_nothing(
    control: Control, place: str, server: psycopg.Connection
) -> None:
    with psycopg.connect(place) as another, ThreadPoolExecutor(1) as threads:
        another.execute("SELECT FROM tallystick_service.progress FOR UPDATE")
        settling = threads.submit(control.settle, "e", cursor=9, deliveries=[Delivery(endpoint="e", seq=5)])
        wait_until(lambda: is_waiting(server), 10, "it waits for the row")
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        with pytest.raises(Unavailable):
            settling.result(timeout=30)
    assert control.cursor("e") == 0
    assert control.deliveries("e") == []
    assert control.settle("e", cursor=9)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        open_control("postgresql://127.0.0.1:1/none?connect_timeout=2")


def test_a_password_is_never_told() -> None:
    with pytest.raises(Unavailable) as caught:
        open_control("postgresql://me:hunter2@127.0.0.1:1/none?connect_timeout=2")
    assert "hunter2" not in str(caught.value)


def test_statements_that_come_again_are_prepared(control: Control) -> None:
    assert isinstance(control, PostgresControl)
    for cursor in range(8):
        control.settle("e", cursor=cursor)
    with control._pool.using() as connection:
        prepared = connection.execute("SELECT statement FROM pg_prepared_statements").fetchall()
    assert any("tallystick_service.progress" in statement for (statement,) in prepared)


# ---------------------------------------------------------------- leases


def test_a_lease_ends_by_the_servers_clock(place: str) -> None:
    control = open_control(place, clock=lambda: "1999-12-31T23:59:59.000000Z")
    lease = control.acquire("job", "me", 60)
    assert lease is not None
    assert add_seconds(system_clock(), 30) < lease.until < add_seconds(system_clock(), 90)
    assert control.acquire("job", "another", 60) is None
    control.close()


def test_who_takes_over_waits_until_what_is_being_settled_is_kept(
    control: Control, place: str, server: psycopg.Connection
) -> None:
    lease = control.acquire("deliver:e", "slow", 0.3)
    assert lease is not None
    with psycopg.connect(place) as slow, ThreadPoolExecutor(1) as threads:
        assert slow.execute(SQL["settle"], settle_values(lease, cursor=7)).fetchall() == [("e",)]
        wait_until(lambda: server.execute("SELECT FROM tallystick_service.lease WHERE until < now()").rowcount, 10, "")
        taking = threads.submit(control.acquire, "deliver:e", "quick", 60)
        wait_until(lambda: is_waiting(server), 10, "it waits for the lease")
        assert control.cursor("e") == 0
        slow.commit()
        taken = taking.result(timeout=30)
    assert taken is not None
    assert taken.token > lease.token
    assert control.cursor("e") == 7


def test_who_settles_while_it_is_being_taken_over_keeps_nothing(
    control: Control, place: str, server: psycopg.Connection
) -> None:
    lease = control.acquire("deliver:e", "slow", 60)
    assert lease is not None
    with psycopg.connect(place) as quick, ThreadPoolExecutor(1) as threads:
        quick.execute("UPDATE tallystick_service.lease SET holder = 'quick', token = token + 1")
        settling = threads.submit(
            control.settle, "e", cursor=9, deliveries=[Delivery(endpoint="e", seq=5)], lease=lease
        )
        wait_until(lambda: is_waiting(server), 10, "it waits for the lease")
        quick.commit()
        assert settling.result(timeout=30) is False
    assert control.cursor("e") == 0
    assert control.deliveries("e") == []


def test_who_settles_an_endpoint_that_is_being_removed_keeps_nothing(
    control: Control, place: str, server: psycopg.Connection
) -> None:
    with psycopg.connect(place) as remover, ThreadPoolExecutor(1) as threads:
        remover.execute(SQL["remove_progress"], {"id": "e"})
        settling = threads.submit(control.settle, "e", cursor=9, deliveries=[Delivery(endpoint="e", seq=5)])
        wait_until(lambda: is_waiting(server), 10, "it waits for the endpoint")
        remover.execute(SQL["remove_deliveries"], {"id": "e"})
        remover.execute(SQL["remove_endpoint"], {"id": "e"})
        remover.commit()
        assert settling.result(timeout=30) is False
    assert control.deliveries("e") == []


def test_a_process_that_is_killed_while_it_waits_to_settle_leaves_all_of_it_or_nothing(
    control: Control, place: str, server: psycopg.Connection
) -> None:
    lease = control.acquire("deliver:e", "me", 60)
    assert lease is not None
    asked = {"name": lease.name, "holder": lease.holder, "until": lease.until, "token": lease.token}
    with processes(place, 1) as (other,), psycopg.connect(place) as another:
        another.execute("SELECT FROM tallystick_service.progress FOR UPDATE")
        other.tell("settle", asked)
        wait_until(lambda: is_waiting(server), 10, "it waits for the row")
        other.kill()
        another.rollback()
    wait_until(lambda: not is_waiting(server), 10, "the server is done with it")
    control.settle("e")  # behind it, if it is still at work
    assert (control.cursor("e"), len(control.deliveries("e"))) in ((0, 0), (99, 1))


def settle_values(lease: Lease, cursor: int) -> dict[str, object]:
    return {
        "endpoint": "e",
        "cursor": cursor,
        "accepted": [],
        "deliveries": "[]",
        "attempts": "[]",
        "name": lease.name,
        "holder": lease.holder,
        "token": lease.token,
    }
