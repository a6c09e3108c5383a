"""Random commands of every kind, ten thousand a run, against a model that anybody can check by eye."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.events import EVENT_TYPES
from tests.model.trial import Trial
from tests.support.stores import on_lasting_stores

CHECKPOINTS = 4


def run(trial: Trial, operations: int) -> None:
    """That many commands, with a full check at every quarter."""
    checked = 0
    while trial.operations < operations:
        trial.step()
        if trial.operations >= (checked + 1) * operations // CHECKPOINTS:
            trial.checkpoint()
            checked += 1
    trial.checkpoint()
    trial.close()


@pytest.mark.parametrize("seed", [20_260_101, 7])
def test_ten_thousand_random_commands_are_answered_as_the_model_answers_them(seed: int):
    print(f"seed {seed}")
    trial = Trial("memory://", seed, reopen=False)
    run(trial, 10_000)
    assert trial.journal.types.keys() >= EVENT_TYPES.keys(), "every type of event has happened"
    assert trial.outcomes["accepted"] > 3_000, trial.outcomes
    assert trial.outcomes["replayed"] > 50
    assert trial.outcomes["aborted"] > 50
    assert len(trial.outcomes) > 25, f"refusals of many kinds were tried: {trial.outcomes}"


@on_lasting_stores
def test_a_ledger_that_lasts_answers_like_the_model_however_often_it_is_opened_again(url: str):
    seed = 1_844
    print(f"seed {seed}")
    trial = Trial(url, seed, reopen=True)
    run(trial, 2_500)
    assert trial.outcomes["accepted"] > 800, trial.outcomes


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 110))
def test_many_long_runs_are_answered_as_the_model_answers_them(url: str, seed: int):
    print(f"{url}, seed {seed}")
    trial = Trial(url, seed, reopen=url != "memory://")
    run(trial, 20_000)
    assert trial.journal.types.keys() >= EVENT_TYPES.keys()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 25))
def test_short_runs_from_an_empty_ledger_are_answered_as_the_model_answers_them(seed: int, steps: int):
    trial = Trial("memory://", seed, reopen=False)
    run_steps(trial, steps)


@pytest.mark.parametrize("seed", range(6))
def test_short_runs_in_postgresql_are_answered_as_the_model_answers_them(postgres: str, seed: int):
    run_steps(Trial(postgres, seed, reopen=True), 25)


def run_steps(trial: Trial, steps: int) -> None:
    for _ in range(steps):
        trial.step()
    if trial.model.events:
        trial.checkpoint()
    trial.close()
