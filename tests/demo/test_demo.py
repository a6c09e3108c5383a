"""The demo on a small sample: the first 200 requests and the first 200 bets."""

from __future__ import annotations

import io
import shlex
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import bets as betting
import inference
import pytest
import run
from bets import Bet
from inference import Request
from posting import Check, DemoFailed, amounts_in, check_amounts
from rich.console import Console
from workplace import next_commands, start_afresh

import tallystick
from tallystick import Ledger

SAMPLE = 200


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    return inference.read_requests()


@pytest.fixture(scope="module")
def bets() -> list[Bet]:
    return betting.read_bets()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "demo ledger.db"


@pytest.fixture(scope="module")
def output(path: Path, requests: list[Request], bets: list[Bet]) -> str:
    """What the demo prints on the sample; the ledger is left at ``path``."""
    console = Console(file=io.StringIO(), width=120)
    run.run(console, path, requests[:SAMPLE], bets[:SAMPLE], [])
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def ledger(output: str, path: Path) -> Iterator[Ledger]:
    with tallystick.open(path, read_only=True) as database:
        yield database.ledger("main")


# ---------------------------------------------------------------- the records


def test_the_traces_are_those_that_were_published(requests: list[Request]) -> None:
    checks = inference.check_records(requests)
    assert len(requests) == 28_185
    assert [check for check in checks if not check.ok] == []


def test_the_bets_are_those_that_were_published(bets: list[Bet]) -> None:
    checks = betting.check_records(bets)
    assert len(bets) == 50_000
    assert [check for check in checks if not check.ok] == []


def test_every_request_stays_within_its_bound(requests: list[Request]) -> None:
    assert [request for request in requests if not 0 < request.price < request.bound] == []


def test_no_bet_is_parted_from_its_round_by_a_batch(bets: list[Bet]) -> None:
    parts = list(betting.whole_rounds(bets, 1_000))
    rounds = [{bet.round for bet in part} for part in parts]
    assert [bet for part in parts for bet in part] == bets
    assert max(len(part) for part in parts) <= 1_000
    assert sum(len(found) for found in rounds) == 42_152


# ---------------------------------------------------------------- the books


def test_every_request_and_bet_became_its_events(ledger: Ledger) -> None:
    types = Counter(transaction.type for transaction in ledger.events(limit=10_000))
    assert types["hold"] == types["capture"] == types["release"] == SAMPLE
    assert types["bet_stake"] == types["bet_settlement"] == SAMPLE


def test_the_customers_paid_what_their_tokens_cost(ledger: Ledger, requests: list[Request]) -> None:
    sample = requests[:SAMPLE]
    due = 3 * sum(request.context for request in sample) + 15 * sum(request.generated for request in sample)
    fees = sum(request.price * 250 // 10_000 for request in sample)
    assert ledger.balance("@fees", "CREDIT/6", "fees") == fees
    assert ledger.balance("providers:code", "CREDIT/6") == due - fees


def test_the_house_is_left_with_its_bankroll_less_what_the_players_gained(ledger: Ledger, bets: list[Bet]) -> None:
    won = sum(bet.profit for bet in bets[:SAMPLE] if bet.profit is not None)
    lost = sum(bet.stake for bet in bets[:SAMPLE] if bet.profit is None)
    assert ledger.balance("house", "BIT/2") == betting.BANKROLL - won + lost


def test_the_books_add_up_to_zero(ledger: Ledger) -> None:
    assert ledger.trial_balance().totals == {"BIT/2": 0, "CREDIT/6": 0}


def test_a_request_too_small_for_a_fee_is_captured_whole() -> None:
    request = Request("conv", 0, "2023-11-16 18:15:46", context=2, generated=7)
    with tallystick.open("memory://") as database:
        ledger = database.ledger("main")
        inference.post_requests(ledger, [request])
        assert request.fee == 0
        assert ledger.balance("providers:conv", "CREDIT/6") == 30
        assert inference.expected_amounts([request])["@fees", "CREDIT/6"] == 0
        assert amounts_in(ledger)[request.customer, "CREDIT/6"] == inference.DEPOSIT - 30


# ---------------------------------------------------------------- what it prints


def test_it_names_its_counts_and_its_verdict(output: str) -> None:
    assert "Posted 200 requests and 200 bets." in output
    assert "0 findings: internally consistent, not witnessed." in output
    assert "WRONG" not in output


def test_the_commands_to_try_next_work_as_printed(output: str, path: Path) -> None:
    commands = next_commands(path)
    assert len(commands) == 3
    for command in commands:
        assert command in output
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


def test_a_check_that_fails_fails_the_demo(tmp_path: Path, requests: list[Request], bets: list[Bet]) -> None:
    console = Console(file=io.StringIO())
    with pytest.raises(DemoFailed, match="1 checks failed: moons"):
        run.run(console, tmp_path / "demo.db", requests[:2], bets[:2], [Check("moons", 1, 2)])


def test_it_ends_with_exit_code_1_if_it_cannot_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_the_way = tmp_path / "demo.db"
    in_the_way.write_text("somebody's notes")
    monkeypatch.setattr(run, "DATABASE", in_the_way)
    assert run.main() == 1


def test_an_account_that_is_off_by_one_unit_is_seen(ledger: Ledger, requests: list[Request]) -> None:
    expected = inference.expected_amounts(requests[:SAMPLE])
    amounts = amounts_in(ledger)
    assert check_amounts("accounts", expected, amounts).ok
    amounts["@fees", "CREDIT/6"] += 1
    assert not check_amounts("accounts", expected, amounts).ok


# ---------------------------------------------------------------- starting afresh


def post_request(path: Path, source: str) -> None:
    with tallystick.open(path) as database:
        database.ledger("main").mint("users:alice", "USD/2", 100, key="first", source=source)


def test_a_rerun_starts_afresh(tmp_path: Path) -> None:
    path = tmp_path / "demo.db"
    post_request(path, "demo")
    assert start_afresh(path) is True
    assert not path.exists()
    assert start_afresh(path) is False


@pytest.mark.parametrize("content", ["somebody's notes", ""])
def test_a_file_that_is_no_ledger_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "demo.db"
    path.write_text(content)
    with pytest.raises(DemoFailed, match="Move it elsewhere"):
        start_afresh(path)
    assert path.read_text() == content


def test_a_ledger_into_which_somebody_else_posted_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "demo.db"
    post_request(path, "demo")
    post_request(path, "local")
    with pytest.raises(DemoFailed, match="did not post"):
        start_afresh(path)
    with tallystick.open(path) as database:
        assert database.ledger("main").balance("users:alice", "USD/2") == 200


def test_a_ledger_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "demo.db"
    with tallystick.open(path) as database:
        database.ledger("main").mint("users:alice", "USD/2", 100, key="first", source="demo")
        with pytest.raises(DemoFailed, match="is being written"):
            start_afresh(path)
        assert path.exists()
