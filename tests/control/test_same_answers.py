"""Whatever is settled in whatever order, every store answers what the one in memory answers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.clock import add_seconds
from tallystick.control import Attempt, Control, Delivery, Endpoint, open_control
from tests.support.stores import on_lasting_stores

NOON = "2026-11-21T12:00:00.000000Z"

pytestmark = on_lasting_stores

seqs = st.integers(0, 12)
times = seqs.map(lambda seconds: add_seconds(NOON, seconds))
problems = st.text(max_size=5) | st.sampled_from(["\0", '"', "\\u0000", "{", "%s", ":x"])
lanes = st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=4), max_size=3).map(tuple)
deliveries = st.builds(
    dict,
    seq=seqs,
    state=st.sampled_from(["waiting", "dead"]),
    attempts=st.integers(0, 3),
    due=st.just("") | times,
    problem=problems,
    lanes=lanes,
    redelivery=st.booleans(),
)
attempts = st.builds(
    dict, seq=seqs, number=st.integers(1, 2), time=times, status=st.sampled_from([0, 200, 503]), problem=problems
)
steps = st.one_of(
    st.tuples(
        st.just("settle"),
        st.builds(
            dict,
            cursor=st.none() | seqs,
            accepted=st.lists(seqs, max_size=5),
            deliveries=st.lists(deliveries, max_size=5),
            attempts=st.lists(attempts, max_size=4),
        ),
    ),
    st.tuples(st.just("remove"), st.just({})),
    st.tuples(st.just("add"), st.builds(dict, start=seqs)),
)


@pytest.fixture
def control(url: str) -> Iterator[Control]:
    opened = open_control(url)
    yield opened
    opened.close()


numbers = count()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(steps, max_size=8), st.integers(-1, 12), st.integers(1, 4), times)
def test_every_store_answers_the_same(
    control: Control, taken: list[tuple[str, Any]], after: int, limit: int, before: str
) -> None:
    model = open_control("memory://")
    id = f"e{next(numbers)}"
    for what, values in [("add", {"start": 0}), *taken]:
        assert do(control, id, what, values) == do(model, id, what, values)
    for state in ("", "waiting", "dead"):
        assert control.deliveries(id, state=state) == model.deliveries(id, state=state)
        assert control.deliveries(id, state=state, after=after, limit=limit) == model.deliveries(
            id, state=state, after=after, limit=limit
        )
    for seq in (None, max(after, 0)):
        assert control.attempts(id, seq=seq) == model.attempts(id, seq=seq)
        assert control.attempts(id, seq=seq, before=before, limit=limit) == model.attempts(
            id, seq=seq, before=before, limit=limit
        )
    assert control.endpoint(id) == model.endpoint(id)
    if model.endpoint(id) is not None:
        assert control.cursor(id) == model.cursor(id)
    control.remove_endpoint(id)
    assert control.prune_attempts(before) == model.prune_attempts(before)
    assert control.attempts(id) == model.attempts(id)
    control.prune_attempts(add_seconds(NOON, 60))


def do(control: Control, id: str, what: str, values: dict[str, Any]) -> Any:
    if what == "remove":
        return control.remove_endpoint(id)
    if what == "add":
        if control.endpoint(id) is None:
            control.add_endpoint(Endpoint(id=id, ledger="shop", **values))
        return None
    return control.settle(
        id,
        cursor=values["cursor"],
        accepted=values["accepted"],
        deliveries=[Delivery(endpoint=id, **delivery) for delivery in values["deliveries"]],
        attempts=[Attempt(endpoint=id, **attempt) for attempt in values["attempts"]],
    )
