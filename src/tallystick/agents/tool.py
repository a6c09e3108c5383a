"""A tool: one row of the table of what an agent may do, and how it is shown to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from mcp_types import Tool as ToolCard
from mcp_types import ToolAnnotations

from tallystick.agents.requests import Desk
from tallystick.agents.schemas import Checker, Schema

Answer = dict[str, Any]
Work = Callable[[Desk, dict[str, Any]], Awaitable[Answer]]


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One thing that an agent may do.

    ``writes``: it changes the ledger, once for each idempotency key. ``spends``: value leaves the account for good, as
    far as this caller's tools reach; the journal only ever grows, but a person would want to be asked.
    """

    name: str
    title: str
    description: str
    asks: Schema
    answers: Schema
    work: Work
    writes: bool = False
    spends: bool = False
    checker: Checker = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "checker", Checker(self.asks))

    def card(self) -> ToolCard:
        """The tool as the protocol shows it. Every tool may be repeated without harm, and none leaves the ledger."""
        return ToolCard(
            name=self.name,
            title=self.title,
            description=self.description,
            input_schema=self.asks,
            output_schema=self.answers,
            annotations=ToolAnnotations(
                title=self.title,
                read_only_hint=not self.writes,
                destructive_hint=self.spends,
                idempotent_hint=True,
                open_world_hint=False,
            ),
        )
