"""The digest of a request: what tells it from another one under the same key."""

from __future__ import annotations

from typing import Any

import pytest

from tallystick import commands as c
from tallystick.commands import Command, Leg, Split, request_digest


def read(text: str) -> str:
    """The same text as another object, as it comes from a file or a socket."""
    return "".join(list(text))


CAPTURE: dict[str, Any] = {"key": "k", "hold": "main/1", "refs": {"order": "o"}}
PAIRS = [
    (
        c.Capture(**CAPTURE, splits=(Split("payee", 5),)),
        c.Capture(**CAPTURE, splits=(Split("payee", 5, read("available")),), source=read("local")),  # type: ignore[arg-type]
    ),
    (
        c.Post(key="k", type="transfer", legs=(Leg("a", "b", "T", 1),)),
        c.Post(key="k", type="transfer", legs=(Leg("a", "b", "T", 1, read("available"), read("available")),)),  # type: ignore[arg-type]
    ),
    (
        c.RecordReserve(key="k", reserve="r", asset="T", value=1),
        c.RecordReserve(key="k", reserve="r", asset="T", value=1, haircut_bps=int("10000")),
    ),
    (
        c.Hold(key="k", account="a", asset="T", amount=1, refs={"order": "o", "trace_id": "t"}),
        c.Hold(key="k", account="a", asset="T", amount=1, refs={"trace_id": "t", "order": "o"}),
    ),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_equal_requests_have_equal_digests_whatever_objects_they_are_made_of(one: Command, other: Command) -> None:
    assert one == other
    assert request_digest(one) == request_digest(other)


def test_a_value_beside_the_default_counts() -> None:
    final = c.Capture(**CAPTURE, splits=(Split("payee", 5),))
    assert request_digest(final) != request_digest(c.Capture(**CAPTURE, splits=(Split("payee", 5),), final=False))
    assert request_digest(final) != request_digest(c.Capture(**CAPTURE, splits=(Split("payee", 5, "fees"),)))
