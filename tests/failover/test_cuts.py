"""The line is cut around a commit, or at any message at all: the outcome is found out, and nothing is posted twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import count

import pytest

import tallystick
from tallystick import Posted
from tests.crash.scenario import Caller, check, make_rounds_small, pay, play
from tests.support.postgres import HASTY, Server
from tests.support.proxy import CUTS, Cutter

MESSAGE_RUNS = 40
"""So many runs, each cut at another message, spread over the whole scenario."""
TURNS = 4

_numbers = count(1)


@pytest.fixture(scope="module")
def backend() -> Iterator[Server]:
    with Server(settings=HASTY) as found:
        found.init().start()
        tallystick.open(found.dsn()).close()
        yield found


@pytest.fixture
def proxy(backend: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cutter]:
    """In front of the server; and a writer for which small rounds are large."""
    make_rounds_small(monkeypatch)
    with Cutter(backend.port) as found:
        yield found


def url_of(proxy: Cutter) -> str:
    return f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres?sslmode=disable&gssencmode=disable"


def new_caller(proxy: Cutter) -> Caller:
    """Somebody with a ledger of his own."""
    return Caller(url_of(proxy), proxy, f"ledger-{next(_numbers)}")


def counted(proxy: Cutter) -> tuple[int, int]:
    """How many messages and commits the scenario takes when nothing is cut."""
    proxy.begin()
    caller = new_caller(proxy)
    answers = play(caller)
    taken = proxy.messages, proxy.commits
    check(caller, answers)
    assert caller.unavailable == 0
    return taken


@pytest.mark.parametrize("where", CUTS)
def test_whichever_commit_is_cut_off_its_outcome_is_found_out_without_the_caller(proxy: Cutter, where: str):
    _, commits = counted(proxy)
    assert commits >= 10
    cuts = 0
    for number in range(1, commits + 1):
        proxy.begin()
        proxy.cut_commit, proxy.where = number, where
        caller = new_caller(proxy)
        answers = play(caller)
        assert caller.unavailable == 0, "the writer asks the server what became of it, and nobody else need know"
        cuts += proxy.cuts
        check(caller, answers)
    assert cuts >= commits - 3, "callers at the same time may share a commit, so that there are fewer"


@pytest.mark.parametrize("where", CUTS)
def test_whichever_commit_is_cut_off_between_two_processes_both_go_on(backend: Server, proxy: Cutter, where: str):
    """A rival, who has a line of its own to the server, posts between any two postings of the caller."""
    for number in range(1, 2 * TURNS):
        proxy.begin()
        caller = new_caller(proxy)
        with tallystick.open(backend.dsn()) as others:
            rival = others.ledger(caller.name)
            answers: dict[str, Posted] = {}
            answers["mint"] = caller.ledger.mint("users:a", "USD/2", 1_000, key="mint")
            answers["rival's mint"] = rival.mint("users:b", "USD/2", 1_000, key="rival's mint")
            answers["mint c"] = caller.ledger.mint("users:c", "USD/2", 1_000, key="mint c")
            proxy.cut_commit, proxy.where = proxy.commits + 1 + number % TURNS, where
            for turn in range(TURNS):
                key, other = f"turn {turn}", f"rival's turn {turn}"
                answers[key] = caller.post(pay(key, turn))
                answers[other] = rival.post(pay(other, turn + 1))
            again = {key: caller.post(pay(key, turn)) for turn, key in enumerate(f"turn {t}" for t in range(TURNS))}
        assert proxy.cuts == 1
        assert caller.unavailable == 0
        for key, answer in again.items():
            assert (answer.id, answer.hash, answer.replayed) == (answers[key].id, answers[key].hash, True)
        events = {event.key: event for event in caller.ledger.events(after=0)}
        assert {key: (event.id, event.hash) for key, event in events.items()} == {
            key: (answer.id, answer.hash) for key, answer in answers.items()
        }
        assert caller.ledger.replay().ok
        caller.database.close()


def test_whichever_message_is_the_last_before_the_line_is_cut_everything_is_posted_exactly_once(proxy: Cutter):
    messages, _ = counted(proxy)
    cuts = Counter[bool]()
    for run in range(MESSAGE_RUNS):
        proxy.begin()
        proxy.cut_message = 1 + run * messages // MESSAGE_RUNS
        caller = new_caller(proxy)
        check(caller, play(caller))
        cuts[bool(proxy.cuts)] += 1
    assert cuts[True] >= MESSAGE_RUNS * 0.9, "nearly every run was cut somewhere"
