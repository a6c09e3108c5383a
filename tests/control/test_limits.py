"""The limits of what a store of the operator's records takes, from both sides, on each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tallystick.control import ApiKey, Control, JobRun
from tallystick.control.checking import (
    MAX_LANE_CHARACTERS,
    MAX_LANES,
    MAX_LEASE_SECONDS,
    MAX_LISTED,
    MAX_NAME_CHARACTERS,
    MAX_NUMBER,
    MAX_RECORD_BYTES,
    MAX_REPORT_BYTES,
    MAX_SETTLED,
)
from tallystick.errors import InvalidInput
from tests.control.making import NOON, attempt, delivery, endpoint, key


def test_a_list_is_as_long_as_its_limit_and_no_longer(told: Control) -> None:
    told.settle("e", deliveries=[delivery(seq) for seq in range(MAX_LISTED + 1)])
    assert len(told.deliveries("e", limit=MAX_LISTED)) == MAX_LISTED
    assert len(told.deliveries("e")) == 1_000


def test_a_limit_out_of_bounds_is_refused(told: Control) -> None:
    lists: list[Callable[[Any], object]] = [
        lambda limit: told.keys(limit=limit),
        lambda limit: told.endpoints(limit=limit),
        lambda limit: told.deliveries("e", limit=limit),
        lambda limit: told.attempts("e", limit=limit),
        lambda limit: told.runs(limit=limit),
        lambda limit: told.reports(limit=limit),
    ]
    for listed in lists:
        for limit in (0, -1, MAX_LISTED + 1, 1.5, True, "9", None):
            with pytest.raises(InvalidInput, match="limit"):
                listed(limit)


def test_the_bounds_of_a_limit_are_allowed(told: Control) -> None:
    for bound in (1, MAX_LISTED):
        assert told.keys(limit=bound) == []
        assert told.attempts("e", limit=bound) == []
        assert told.runs(limit=bound) == []
        assert told.reports(limit=bound) == []


def test_as_much_as_the_limits_allow_is_kept(told: Control) -> None:
    name = "ü" * MAX_NAME_CHARACTERS
    told.add_key(key(name, name))
    told.add_endpoint(endpoint(name, name))
    told.keep_run(JobRun(job=name, ledger=name, started=NOON))
    assert told.acquire(name, name, MAX_LEASE_SECONDS) is not None
    assert len(told.secret(name)) == 32
    largest = delivery(MAX_NUMBER, attempts=MAX_NUMBER, lanes=("x" * MAX_LANE_CHARACTERS, *["y"] * (MAX_LANES - 1)))
    told.settle("e", cursor=MAX_NUMBER, accepted=range(MAX_SETTLED), deliveries=[largest])
    assert told.deliveries("e") == [largest]
    assert told.cursor("e") == MAX_NUMBER
    empty = len('{"id":"full","secret_hash":"","subject":"s"}')
    told.add_key(ApiKey(id="full", secret_hash="h" * (MAX_RECORD_BYTES - empty), subject="s"))
    assert (
        told.report(told.keep_report("shop", NOON, True, {"": "r" * (MAX_REPORT_BYTES - len('{"":""}'))})) is not None
    )


BEYOND: dict[str, Callable[[Any], object]] = {
    "a name too long": lambda control: control.add_key(key("x" * (MAX_NAME_CHARACTERS + 1))),
    "no name": lambda control: control.add_key(key("")),
    "no subject": lambda control: control.add_key(key("k", "")),
    "a name that cannot be kept": lambda control: control.add_endpoint(endpoint("a\0b")),
    "a name that is half a character": lambda control: control.add_endpoint(endpoint("a", "\ud800")),
    "a name that is no text": lambda control: control.acquire(5, "me", 1),
    "a record too large": lambda control: control.add_key(key("k", role="x" * MAX_RECORD_BYTES)),
    "a record not of its type": lambda control: control.add_key(key("k", role=7)),
    "a start below 0": lambda control: control.add_endpoint(endpoint("f", start=-1)),
    "a cursor below 0": lambda control: control.settle("e", cursor=-1),
    "a cursor too large": lambda control: control.settle("e", cursor=MAX_NUMBER + 1),
    "a cursor that is no number": lambda control: control.settle("e", cursor="1"),
    "too many at once": lambda control: control.settle("e", accepted=range(MAX_SETTLED + 1)),
    "a number below 0": lambda control: control.settle("e", accepted=[-1]),
    "another endpoint's delivery": lambda control: control.settle("e", deliveries=[delivery(1, "f")]),
    "another endpoint's try": lambda control: control.settle("e", attempts=[attempt(1, endpoint="f")]),
    "no such state": lambda control: control.settle("e", deliveries=[delivery(1, state="lost")]),
    "too many lanes": lambda control: control.settle("e", deliveries=[delivery(1, lanes=("a",) * (MAX_LANES + 1))]),
    "a lane too long": lambda control: control.settle(
        "e", deliveries=[delivery(1, lanes=("a" * (MAX_LANE_CHARACTERS + 1),))]
    ),
    "a lane that cannot be kept": lambda control: control.settle("e", deliveries=[delivery(1, lanes=("\0",))]),
    "due at no time": lambda control: control.settle("e", deliveries=[delivery(1, due="soon")]),
    "tried at no time": lambda control: control.settle("e", attempts=[attempt(1, time="2026-11-21")]),
    "a lease for no time": lambda control: control.acquire("a", "me", 0),
    "a lease for too long": lambda control: control.acquire("a", "me", MAX_LEASE_SECONDS + 1),
    "a lease for not a number": lambda control: control.acquire("a", "me", float("nan")),
    "a lease of nobody": lambda control: control.acquire("a", "", 1),
    "a state that there is not": lambda control: control.deliveries("e", state="lost"),
    "before no time": lambda control: control.attempts("e", before="yesterday"),
    "pruned before no time": lambda control: control.prune_attempts(""),
    "runs pruned before no time": lambda control: control.prune_runs("now"),
    "a run that began at no time": lambda control: control.keep_run(JobRun(job="j", ledger="l", started="")),
    "a report too large": lambda control: control.keep_report("l", NOON, True, {"": "r" * MAX_REPORT_BYTES}),
    "a report that is no JSON": lambda control: control.keep_report("l", NOON, True, {"a": object()}),
    "a report that JSON changes": lambda control: control.keep_report("l", NOON, True, {"a": (1, 2)}),
    "a report of no ledger": lambda control: control.keep_report("", NOON, True, {}),
    "a secret without a name": lambda control: control.secret(""),
}


def test_what_is_beyond_the_limits_is_refused_and_changes_nothing(told: Control) -> None:
    told.settle("e", cursor=3, deliveries=[delivery(0)])
    for what, ask in BEYOND.items():
        try:
            ask(told)
        except InvalidInput:
            continue
        pytest.fail(f"{what} was taken")
    assert told.cursor("e") == 3
    assert told.deliveries("e") == [delivery(0)]
    assert told.attempts("e") == []
    assert told.keys() == []
    assert told.leases() == []
    assert told.runs() == []
    assert told.reports() == []
    assert told.endpoints() == [endpoint("e")]
