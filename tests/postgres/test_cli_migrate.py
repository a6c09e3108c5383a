"""`tally migrate`, and the whole command line on a PostgreSQL database."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from tallystick.cli import main
from tallystick.stores.postgres import migrations
from tests.postgres.conftest import all_of_it
from tests.postgres.test_migrations import URLS, execute, standing


def tally(*words: str) -> Result:
    """`tally` in this process."""
    result = CliRunner().invoke(main, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def answer(*words: str, code: int = 0) -> Any:
    """The JSON that a command writes to standard output."""
    result = tally(*words, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def with_password(dsn: str) -> str:
    """The same URL with a password, which is shown to nobody (and asked for by nobody where everyone is trusted)."""
    user, _, rest = dsn.removeprefix("postgresql://").partition("@")
    return f"postgresql://{user}:geheim@{rest}" if ":" not in user else dsn


def test_it_makes_the_tables_and_says_which_files_it_applied(empty_postgres: str) -> None:
    result = tally("migrate", empty_postgres)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [f"applied {one.number:04d}_{one.name}" for one in migrations.known()]
    assert standing(empty_postgres) == "current"


def test_a_second_time_it_says_that_there_was_nothing_to_do(postgres: str) -> None:
    before = all_of_it(postgres)
    result = tally("migrate", postgres)
    assert (result.exit_code, result.stdout) == (0, f"{postgres} is up to date; nothing was applied\n")
    assert all_of_it(postgres) == before


@pytest.mark.parametrize("words", [["-f", "{}", "migrate"], ["migrate", "-f", "{}"], ["migrate", "{}"]])
def test_the_database_may_be_named_in_every_way(empty_postgres: str, words: list[str]) -> None:
    assert tally(*(word.format(empty_postgres) for word in words)).exit_code == 0
    assert standing(empty_postgres) == "current"


def test_the_database_may_come_from_the_environment(empty_postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYSTICK_FILE", empty_postgres)
    assert tally("migrate").exit_code == 0
    assert standing(empty_postgres) == "current"


# ---------------------------------------------------------------- the plan


def test_the_plan_shows_what_would_be_done_and_does_nothing(empty_postgres: str) -> None:
    migrations.migrate(empty_postgres, migrations.known()[:2])
    before = all_of_it(empty_postgres)
    result = tally("migrate", empty_postgres, "--plan")
    assert result.exit_code == 0
    header, first, second, third, *_, last = result.stdout.splitlines()
    assert header.split() == ["migration", "sha256", "status", "applied"]
    assert first.split()[:3] == ["0001_ledger", migrations.known()[0].sha256[:12], "applied"]
    assert second.split()[2] == "applied"
    assert third.split() == ["0003_views", migrations.known()[2].sha256[:12], "due"]
    assert last == f"{empty_postgres}: the same command without --plan applies what is due"
    assert all_of_it(empty_postgres) == before


def test_the_plan_is_there_for_programs(empty_postgres: str) -> None:
    migrations.migrate(empty_postgres, migrations.known()[:1])
    document = answer("migrate", empty_postgres, "--plan")
    assert (document["database"], document["state"]) == (empty_postgres, "behind")
    first, second, *_ = document["migrations"]
    assert first.pop("applied").endswith("Z")
    assert first == {"number": 1, "name": "ledger", "sha256": migrations.known()[0].sha256, "status": "applied"}
    assert (second["number"], second["status"], second["applied"]) == (2, "due", "")


@pytest.mark.parametrize(
    ("statement", "state"),
    [
        ("SELECT 1", "current"),
        ("DROP SCHEMA tallystick CASCADE", "absent"),
        ("DELETE FROM tallystick.migration WHERE number > 1", "behind"),
        ("UPDATE tallystick.migration SET sha256 = 'x'", "altered"),
        ("INSERT INTO tallystick.migration VALUES (99, 'new', 'x')", "ahead"),
    ],
)
def test_the_plan_names_the_state_and_fails_if_nothing_can_be_done(postgres: str, statement: str, state: str) -> None:
    execute(postgres, statement)
    code = 1 if state in ("altered", "ahead") else 0
    assert answer("migrate", postgres, "--plan", code=code)["state"] == state
    result = tally("migrate", postgres, "--plan")
    assert (result.exit_code, result.stderr) == (code, "")
    assert result.stdout.splitlines()[-1].startswith(f"{postgres}: ")


def test_what_cannot_be_applied_is_a_fault_and_changes_nothing(postgres: str) -> None:
    execute(postgres, "UPDATE tallystick.migration SET sha256 = 'x' WHERE number = 2")
    before = all_of_it(postgres)
    result = tally("migrate", postgres, "--json")
    error = json.loads(result.stderr)["error"]
    assert (result.exit_code, result.stdout, error["code"], error["state"]) == (3, "", "schema_mismatch", "altered")
    assert "0002_partitions_and_guards" in tally("migrate", postgres).stderr
    assert all_of_it(postgres) == before


# ---------------------------------------------------------------- roles


def test_it_makes_the_roles_if_asked_to(empty_postgres: str) -> None:
    document = answer("migrate", empty_postgres, "--roles")
    assert document["roles"] is True
    assert document["newly_applied"] == [one.number for one in migrations.known()]
    query = "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'tallystick'"
    assert execute(empty_postgres, query) == ("tallystick_owner",)
    result = tally("migrate", empty_postgres, "--roles")
    assert result.exit_code == 0
    assert "tallystick_owner, tallystick_writer, tallystick_reader and tallystick_auditor are there" in result.stdout


def test_it_makes_no_roles_unless_asked_to(empty_postgres: str) -> None:
    assert answer("migrate", empty_postgres)["roles"] is False
    query = "SELECT nspowner::regrole::text = session_user FROM pg_namespace WHERE nspname = 'tallystick'"
    assert execute(empty_postgres, query) == (True,)


def test_it_says_when_the_roles_lag_behind_the_tables(empty_postgres: str) -> None:
    due = "the roles may not use all of it yet: run the same command with --roles"
    assert answer("migrate", empty_postgres)["roles_due"] is False, "nobody has asked for roles in this database"
    assert due not in tally("migrate", empty_postgres, "--roles").stdout
    execute(empty_postgres, "CREATE TABLE tallystick.of_a_later_migration (number integer)")
    assert tally("migrate", empty_postgres).stdout.splitlines()[-1] == due
    assert answer("migrate", empty_postgres)["roles_due"] is True
    assert answer("migrate", empty_postgres, "--roles")["roles_due"] is False
    assert due not in tally("migrate", empty_postgres).stdout


def test_a_plan_makes_no_roles(empty_postgres: str) -> None:
    result = tally("migrate", empty_postgres, "--plan", "--roles")
    assert result.exit_code == 2
    assert "leave out one of --plan and --roles" in result.stderr
    assert standing(empty_postgres) == "absent"


# ---------------------------------------------------------------- what is wrong


@pytest.mark.parametrize("url", ["books.db", "sqlite:///books.db", "mysql://host/books", ""])
def test_only_a_postgresql_database_has_migrations(url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = tally("migrate", *([url] if url else []))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "only a PostgreSQL database has migrations" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_can_be_asked_again() -> None:
    result = tally("migrate", "postgresql://eve@127.0.0.1:1/books", "--json")
    error = json.loads(result.stderr)["error"]
    assert (result.exit_code, error["code"], error["retryable"]) == (3, "unavailable", True)


# ---------------------------------------------------------------- the other commands


def test_every_command_takes_the_url_of_a_database(empty_postgres: str) -> None:
    url = with_password(empty_postgres)
    file = ("-f", url)
    told = [
        tally(*file, "create"),
        tally(*file, "create"),
        tally(*file, "-l", "second", "create", "--json"),
        tally("mint", "users:alice", "100", "USD/2", *file, "--key", "m"),
        tally(*file, "transfer", "users:alice", "users:bob", "12.34", "USD/2"),
        tally(*file, "hold", "create", "users:alice", "5", "USD/2"),
        tally(*file, "balances"),
        tally(*file, "ledgers"),
        tally(*file, "events"),
        tally(*file, "stats"),
        tally(*file, "check"),
        tally(*file, "replay"),
        tally(*file, "rebuild"),
        tally("migrate", url),
        tally("migrate", url, "--plan"),
        tally("migrate", url, "--plan", "--json"),
    ]
    assert [(result.exit_code, result.stderr) for result in told if result.exit_code] == []
    assert "geheim" not in "".join(result.output for result in told)
    assert "users:bob" in told[6].stdout
    with psycopg.connect(empty_postgres) as connection:
        query = "SELECT balance FROM tallystick.ledger_balances WHERE account = 'users:bob'"
        assert connection.execute(query).fetchone() == (1234,)


def test_what_goes_wrong_shows_no_password(empty_postgres: str) -> None:
    url = with_password(empty_postgres)
    told = [
        tally("-f", url, "balances"),
        tally("-f", url, "balances", "--json"),
        tally("-f", url, "-l", "none", "balances"),
        tally("-f", url + "_not_there", "balances", "--json"),
        tally("ledgers", url),
        tally("ledgers", url, "--json"),
        tally("migrate", url, "--nonsense"),
        tally("migrate", url, url),
        tally("-f", url, url),
        tally("-f", url.replace("postgresql", "mysql"), "balances"),
    ]
    assert all(result.exit_code for result in told)
    assert "geheim" not in "".join(result.output + result.stderr for result in told)
    assert "***" in told[0].stderr


@pytest.mark.parametrize("url", [url for url in URLS if "://" in url])
@pytest.mark.parametrize("words", [["migrate"], ["migrate", "--plan"], ["-f", "{}", "balances"]])
def test_no_password_is_ever_shown(url: str, words: list[str]) -> None:
    result = tally(*(word.format(url) for word in words), *([] if "-f" in words else [url]))
    assert result.exit_code
    assert "heim" not in result.output + result.stderr
    assert "ge/" not in result.output + result.stderr
    assert '"ge"' not in result.output + result.stderr
