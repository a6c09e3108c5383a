"""The same commands at the same times give the same bytes, hashes and answers, on whatever store and however posted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tallystick.events import EVENT_TYPES
from tests.differential.comparison import Comparison, Time
from tests.differential.sides import InTurns, Joined, Side
from tests.support.databases import Databases

STEPS = ["one"] * 12 + ["few"] * 4 + ["atomic"] * 3 + ["dry"] * 2 + ["copied", "swept", "reopened"]
"""What a trial is made of, the usual more often than the rest; ``streamed`` batches have a test of their own."""

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]

NO_SHRINKING = [Phase.explicit, Phase.generate]
"""A trial takes seconds: the soak looks for a shorter one that fails, this says just which one did."""

Compare = Callable[[int], Comparison]

_numbers = count(1)


@pytest.fixture(scope="module")
def urls(databases: Databases) -> Iterator[list[str]]:
    """Three databases for the trials of this file to share: each ledger has its own name."""
    found = [databases.new() for _ in range(3)]
    yield found
    for url in found:
        databases.drop(url)


@pytest.fixture
def compare(urls: list[str], tmp_path: Path) -> Iterator[Compare]:
    """Begins a trial with this seed."""
    begun: list[Comparison] = []

    def begin(seed: int) -> Comparison:
        number = next(_numbers)
        name, time = f"ledger-{number}", Time()
        sides = [
            Side("memory", "memory://", name, time),
            Side("sqlite", tmp_path / f"{number}.db", name, time),
            Side("postgres", urls[0], name, time),
            InTurns("postgres in turns", urls[1], name, time),
            Joined("postgres within a caller's transaction", urls[2], name, time),
        ]
        begun.append(Comparison(sides, name, time, seed))
        return begun[-1]

    yield begin
    for comparison in begun:
        comparison.close()


def run(comparison: Comparison, steps: list[str]) -> None:
    try:
        for step in steps:
            comparison.step(step)
        comparison.compare_all()
    finally:
        comparison.close()


@settings(max_examples=4, deadline=None, derandomize=True, phases=NO_SHRINKING, suppress_health_check=SLOW)
@given(seed=st.integers(0, 2**32), steps=st.lists(st.sampled_from(STEPS), min_size=30, max_size=60))
def test_every_store_and_way_of_posting_gives_the_same_bytes_and_answers(compare: Compare, seed: int, steps: list[str]):
    run(compare(seed), steps)


def test_batches_that_are_copied_and_streamed_give_the_same_bytes_and_answers(compare: Compare):
    seed = 20_260_131
    print(f"seed {seed}")
    comparison = compare(seed)
    run(comparison, ["one", "copied", "streamed", "few", "reopened", "streamed", "atomic", "copied", "one"])
    assert comparison.outcomes["accepted"] > 1_500, comparison.outcomes
    assert comparison.outcomes["replayed"] > 20
    assert comparison.outcomes["erasable"] > 100
    assert len(comparison.outcomes) > 15, f"refusals of many kinds were compared: {comparison.outcomes}"


@pytest.mark.soak
@settings(max_examples=150, deadline=None, suppress_health_check=SLOW)
@given(seed=st.integers(0, 2**32), steps=st.lists(st.sampled_from([*STEPS, "streamed"]), min_size=50, max_size=150))
def test_long_trials_on_every_store_give_the_same_bytes_and_answers(compare: Compare, seed: int, steps: list[str]):
    run(compare(seed), steps)


@pytest.mark.soak
def test_every_type_of_event_has_the_same_bytes_on_every_store(compare: Compare):
    seed = 7
    print(f"seed {seed}")
    comparison = compare(seed)
    run(comparison, [comparison.random.choice(STEPS) for _ in range(3_000)])
    assert comparison.types.keys() >= EVENT_TYPES.keys()
