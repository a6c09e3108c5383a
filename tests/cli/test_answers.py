"""Answers: what people and programs are told, when it went well and when it did not."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from tallystick.cli.problems import ADVICE
from tallystick.cli.root import tally as root
from tallystick.errors import TallystickError
from tests.cli.conftest import Tally

PAY = ("transfer", "users:alice", "users:bob", "12.34", "USD/2")


def test_amounts_are_in_major_units_unless_minor_is_given(tally: Tally) -> None:
    tally(*PAY)
    tally("transfer", "users:alice", "users:bob", "66", "USD/2", "--minor")
    assert tally.available("users:bob") == {"USD/2": "1300"}


def test_json_shows_amounts_as_text_in_minor_units(tally: Tally) -> None:
    answer = tally.json(*PAY, "--key", "k")
    assert answer["id"] == "main/2"
    assert answer["replayed"] is False
    assert answer["entries"][0] == {
        "account": "users:alice",
        "asset": "USD/2",
        "bucket": "available",
        "amount": "-1234",
        "before": "10000",
        "after": "8766",
        "version": 2,
    }


def test_tables_keep_thousands_apart(tally: Tally) -> None:
    tally("mint", "users:rich", "1234567.89", "USD/2")
    assert "1,234,567.89" in tally("balances", "users:rich")


def test_a_key_is_made_and_told_when_none_is_given(tally: Tally) -> None:
    key = tally.json(*PAY)["key"]
    assert tally.json(*PAY, "--key", key)["replayed"] is True
    assert "key: " in tally(*PAY)
    assert "key: " not in tally(*PAY, "--key", "mine")


def test_the_same_key_with_another_request_is_a_conflict(tally: Tally) -> None:
    tally(*PAY, "--key", "k")
    error = tally.refused("transfer", "users:alice", "users:bob", "1", "USD/2", "--key", "k")
    assert error["code"] == "idempotency_conflict"
    assert "main/2" in error["advice"]


def test_a_dry_run_answers_and_writes_nothing(tally: Tally) -> None:
    answer = tally.json(*PAY, "--dry-run")
    assert (answer["id"], answer["dry_run"]) == ("main/2", True)
    assert "nothing was written" in tally(*PAY, "--dry-run")
    assert (
        tally.refused("transfer", "users:alice", "users:bob", "101", "USD/2", "--dry-run")["code"]
        == "insufficient_funds"
    )
    assert len(tally.lines("events")) == 2


def test_a_refusal_says_what_to_do_in_major_units(tally: Tally) -> None:
    result = tally.run("transfer", "users:alice", "users:bob", "1000", "USD/2")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "error: users:alice has 100.00 USD/2 in available: -1,000.00 would take it below 0.00",
        "  See what it has with: tally balances users:alice",
    ]


def test_a_refusal_as_json_bears_code_data_and_advice(tally: Tally) -> None:
    error = tally.refused("transfer", "users:alice", "users:bob", "1000", "USD/2")
    assert (error["code"], error["balance"], error["change"]) == ("insufficient_funds", "10000", "-100000")
    assert error["retryable"] is False


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("transfer", "users:alice", "users:bob", "x", "USD/2"), "not a number"),
        (("transfer", "users:alice", "users:bob", "1.234", "USD/2"), "more decimals"),
        (("transfer", "users:alice", "users:bob", "1.00000000000000000000000000001", "USD/2"), "more decimals"),
        (("transfer", "users:alice", "users:bob", "1e999999", "USD/2"), "beyond 2^63-1"),
        (("transfer", "users:alice", "users:bob", "1.5", "USD/2", "--minor"), "whole number of minor units"),
        (("transfer", "users:alice", "users:bob", "1", "usd"), "not an asset"),
        (("transfer", "users:alice/purse", "users:bob", "1", "USD/2"), "not one of available"),
        ((*PAY, "--ref", "order"), "NAME=VALUE"),
        (("transfer", "users:alice"), "Missing argument"),
        (("transfr",), "transfer"),
        (("reverse", "main/0", "--amount", "1"), "moves no value"),
        (("transaction",), "give an id"),
    ],
)
def test_a_wrong_command_line_is_told_with_exit_code_2(tally: Tally, words: tuple[str, ...], told: str) -> None:
    result = tally.run(*words)
    assert result.exit_code == 2
    assert told in result.stderr
    assert len(result.stderr.splitlines()) <= 2
    error = tally.refused(*words, code=2)
    assert error["code"] == "usage"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("transfer", "users:alice", "users:alice", "1", "USD/2"), "self_transfer"),
        (("transfer", "users:alice", "users bob", "1", "USD/2"), "invalid_input"),
        (("transfer", "users:alice", "users:bob", "1", "USD/3"), "scale_mismatch"),
        (("transfer", "users:alice", "users:bob", "0", "USD/2"), "amount_out_of_range"),
        (("post", "transfer"), "empty_transaction"),
        (("post", "hold", "--leg", "users:alice", "users:bob", "1", "USD/2"), "type_not_found"),
        (("deposit", "users:alice", "1", "USD/2"), "reference_required"),
        (("hold", "release", "main/99", "1"), "hold_not_found"),
        (("transaction", "main/99"), "transaction_not_found"),
        (("transaction", "--key", "nobody's"), "transaction_not_found"),
        (("account", "open", "users:m", "--limit", "1", "USD/2"), "limit_out_of_bounds"),
        (("mint", "users:alice", "92233720368547758.07", "USD/2"), "balance_overflow"),
        ((*PAY, "--ref", "oder=A"), "invalid_input"),
        ((*PAY, "--effective", "2999-01-01T00:00:00Z"), "effective_in_future"),
    ],
)
def test_a_refusal_has_its_code_and_exit_code_1(tally: Tally, words: tuple[str, ...], code: str) -> None:
    assert tally.refused(*words)["code"] == code
    assert len(tally.lines("events")) == 2


def test_the_shared_options_may_stand_behind_the_command(tally: Tally) -> None:
    front = tally.run("--json", "balances", "users:alice").stdout
    assert json.loads(front) == tally.json("balances", "users:alice")


def test_the_ledger_file_may_come_from_the_environment(tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYSTICK_FILE", tally.file)
    result = CliRunner().invoke(root, ["balances", "users:alice"])
    assert "100.00" in result.output


def test_control_characters_in_the_books_do_not_reach_the_terminal(tally: Tally) -> None:
    tally(*PAY, "--reason", "\x1b[31mred\x07")
    assert "\x1b" not in tally("register", "users:alice")
    assert "\x1b" not in tally("transaction", "main/2")


def test_every_piece_of_advice_belongs_to_an_error() -> None:
    codes = set()
    waiting = [TallystickError]
    while waiting:
        kind = waiting.pop()
        codes.add(kind.code)
        waiting += kind.__subclasses__()
    assert set(ADVICE) <= codes


def test_every_command_explains_itself_and_takes_each_option_once() -> None:
    waiting = [((name,), command) for name, command in root.commands.items()]
    seen = 0
    while waiting:
        path, command = waiting.pop()
        assert command.help, path
        names = [parameter.name for parameter in command.params]
        assert len(names) == len(set(names)), path
        waiting += [((*path, name), one) for name, one in getattr(command, "commands", {}).items()]
        seen += 1
    assert seen > 60


def test_the_help_lists_every_command_under_a_title(empty: Tally) -> None:
    text = empty("--help")
    assert all(f"  {name}" in text for name in root.commands)
    assert "More:" not in text


def test_a_surprise_is_a_fault_of_two_lines_unless_debugging(tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("the disk is on fire")

    monkeypatch.setattr("tallystick.ledger.Ledger.balances", fail)
    result = tally.run("balances", "users:alice")
    assert result.exit_code == 3
    assert result.stderr.splitlines()[0] == "error: OSError: the disk is on fire"
    monkeypatch.setenv("TALLYSTICK_DEBUG", "1")
    with pytest.raises(AssertionError, match="OSError"):
        tally.run("balances", "users:alice")
