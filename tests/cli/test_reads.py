"""Reads: the books as tables and as JSON, page by page, and never with a side effect."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from tallystick.journal import leaf_hash
from tests.cli.conftest import Tally
from tests.support.stores import before_there_is_a_store, on_files

READS = (
    ("balances",),
    ("accounts",),
    ("account", "show", "users:alice"),
    ("register", "users:alice"),
    ("holds",),
    ("trial-balance",),
    ("events",),
    ("transaction", "1"),
    ("stats",),
    ("ledgers",),
    ("policy", "show"),
    ("check",),
    ("replay",),
)


def is_nothing_at(url: str) -> bool:
    """Whether there is still neither a file nor any table there."""
    if not url.startswith("postgresql:"):
        return not Path(url).exists()
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT to_regnamespace('tallystick')").fetchone() == (None,)


@before_there_is_a_store
@pytest.mark.parametrize("words", READS)
def test_a_read_never_makes_a_ledger_store(empty: Tally, words: tuple[str, ...]) -> None:
    error = empty.refused(*words, code=3)
    assert error["code"] == "ledger_not_found"
    assert "tally create" in error["advice"]
    assert list(empty.folder.iterdir()) == []
    assert is_nothing_at(empty.file)


@before_there_is_a_store
def test_an_act_never_makes_a_ledger_store_either(empty: Tally) -> None:
    assert empty.refused("mint", "users:alice", "1", "USD/2", code=3)["code"] == "ledger_not_found"
    assert list(empty.folder.iterdir()) == []
    assert is_nothing_at(empty.file)


@before_there_is_a_store
def test_create_makes_what_is_missing(empty: Tally) -> None:
    assert empty.json("create")["created"] is True
    assert not is_nothing_at(empty.file)
    empty("mint", "users:alice", "1", "USD/2")
    assert empty.available("users:alice") == {"USD/2": "100"}


@pytest.mark.parametrize("words", READS)
def test_a_read_of_another_ledger_in_the_file_says_what_is_there(tally: Tally, words: tuple[str, ...]) -> None:
    if words == ("ledgers",):
        assert tally.json("ledgers") == ["main"]
        return
    error = tally.refused(*words, "--ledger", "other", code=3)
    assert "there: main" in error["message"]


@pytest.mark.parametrize("words", READS)
def test_every_read_answers_people_and_programs(tally: Tally, words: tuple[str, ...]) -> None:
    assert tally(*words)
    assert all(json.loads(line) is not None for line in tally(*words, "--json").splitlines())


@on_files
def test_a_file_that_is_no_ledger_is_told(empty: Tally) -> None:
    empty.write("ledger.db", "Dear diary, nothing to see here. " * 200)
    assert empty.refused("balances", code=3)["code"] == "not_a_ledger"


def test_create_can_be_said_twice_and_changes_nothing(tally: Tally) -> None:
    assert tally.json("create")["created"] is False
    assert tally.run("create", "--strict").exit_code == 2
    assert tally.json("policy", "show")["strict"] is False


def test_create_sets_the_rules_of_the_ledger(empty: Tally) -> None:
    empty("create", "--strict", "--set", "limit_max=9000")
    rules = empty.json("policy", "show")
    assert (rules["strict"], rules["limit_max"]) == (True, "9000")
    assert empty.refused("mint", "users:alice", "1", "USD/2")["code"] in ("asset_not_found", "account_not_found")


@before_there_is_a_store
def test_create_with_a_rule_that_is_not_one_makes_no_ledger(empty: Tally) -> None:
    assert empty.refused("create", "--set", "limit_top=9000")["code"] == "invalid_input"
    assert empty.refused("create", "-l", "no/name")["code"] == "invalid_input"
    assert list(empty.folder.iterdir()) == []
    assert is_nothing_at(empty.file)


@on_files
def test_create_in_a_folder_that_is_not_there_is_wrong_usage(empty: Tally) -> None:
    missing = str(empty.folder / "missing" / "ledger.db")
    assert empty.run("create", "-f", missing).exit_code == 2
    for folder in ("", ".", str(empty.folder)):
        assert empty.run("create", "-f", folder).exit_code == 2


def test_one_file_holds_several_ledgers(tally: Tally) -> None:
    tally("create", "-l", "second")
    tally("mint", "users:alice", "1", "USD/2", "-l", "second")
    assert tally.json("ledgers") == ["main", "second"]
    assert tally.available("users:alice") == {"USD/2": "10000"}


def test_an_event_as_json_holds_the_very_bytes_that_were_hashed(tally: Tally) -> None:
    for line in tally("events", "--json").splitlines():
        body = line[line.index('"event":') + len('"event":') : -1]
        assert leaf_hash(body.encode()) == json.loads(line)["hash"]


def test_a_long_list_is_shown_in_pages_that_meet(tally: Tally) -> None:
    for number in range(5):
        tally("transfer", "users:alice", "users:bob", str(number + 1), "USD/2")
    first = tally.run("register", "users:alice", "--limit", "4")
    cursor = first.stderr.split("--after ")[1].split()[0]
    assert len(first.stdout.splitlines()) == 1 + 4
    rest = tally.lines("register", "users:alice", "--after", cursor)
    assert [line["after"] for line in rest] == ["9000", "8500"]
    assert tally.run("events", "--limit", "0").stderr == ""
    assert [line["event"]["seq"] for line in tally.lines("events", "--after", "4")] == [5, 6]


def test_a_trial_balance_adds_up_both_sides(tally: Tally) -> None:
    assert tally("trial-balance").splitlines()[-1].split() == ["total", "USD/2", "100.00", "100.00"]


def test_a_transaction_is_found_by_number_id_key_and_reference(tally: Tally) -> None:
    tally("transfer", "users:alice", "users:bob", "1", "USD/2", "--key", "k", "--ref", "order=A-17")
    found = [
        tally.json("transaction", *words)["id"]
        for words in (("2",), ("main/2",), ("--key", "k"), ("--ref", "order=A-17"))
    ]
    assert found == ["main/2"] * 4


def test_an_account_that_was_never_seen_is_a_finding(tally: Tally) -> None:
    assert tally.run("account", "show", "users:nobody").exit_code == 1
    assert tally.json("balances", "users:nobody") == []


def test_check_names_members_under_a_limit_that_was_cut(tally: Tally) -> None:
    for member in ("members:a", "members:b"):
        tally("account", "open", member, "--limit", "2000", "CRED")
    tally("cell", "pay", "members:a", "members:b", "1500", "CRED")
    tally("account", "limit", "members:a", "CRED", "1000")
    result = tally.json("check")
    assert result["ok"] is True
    assert [notice["where"] for notice in result["notices"]] == ["account members:a"]


def test_rebuild_changes_no_answer(tally: Tally) -> None:
    before = tally("events", "--json"), tally("balances", "--json")
    assert tally.json("rebuild")["ok"] is True
    assert (tally("events", "--json"), tally("balances", "--json")) == before


@on_files
def test_an_altered_file_is_a_finding_of_replay_with_exit_code_1(tally: Tally) -> None:
    assert tally("replay").splitlines()[-1] == (
        "internally consistent, not witnessed: the live books are what the journal says"
    )
    _alter(Path(tally.file), b"users:alice", b"users:alicf")
    result = tally.run("replay", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["ok"] is False
    assert report["findings"]


def _alter(file: Path, before: bytes, after: bytes) -> None:
    content = file.read_bytes()
    assert before in content
    file.write_bytes(content.replace(before, after, 1))
