"""Batches on the wire: many commands in one request, and what became of each line of a stream of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from tallystick.wire.forms import AnyRequest

MAX_BATCH = 10_000
"""The most commands of one batch."""


class BatchRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Commands, to be posted in this order. ``atomic``: all of them or none.

    A command without a ``key`` of its own has ``<idempotency key of the request>#<index>``; the first index is 0.
    """

    commands: Annotated[list[AnyRequest], Meta(min_length=1, max_length=MAX_BATCH)]
    atomic: bool = False


class LineResult(Struct, frozen=True, omit_defaults=True, gc=False):
    """What became of one line of a stream: posted (``id`` and the rest) or refused (``problem``). Lines count from 1.

    ``ended`` is always the last: nothing was answered from this line on, because of ``problem``; the lines from there
    on may be sent again with the same keys.
    """

    line: int
    status: Literal["posted", "refused", "ended"]
    id: str = ""
    seq: int | None = None
    hash: str = ""
    time: str = ""
    replayed: bool = False
    problem: dict[str, Any] | None = None
