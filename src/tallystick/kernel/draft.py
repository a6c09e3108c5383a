"""A draft: what a command comes to, before it has a place in the journal."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from tallystick.events import Entry


class Draft(Struct, frozen=True):
    """The type, entries and data of the event to be; ``effective`` only for a back-dated one."""

    type: str
    entries: tuple[Entry, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
    effective: str = ""
