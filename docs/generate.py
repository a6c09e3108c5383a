"""Write docs/events.md, docs/events.schema.json, docs/errors.md and docs/api.md from the registry of event types, the
errors, and the table of operations.

    .venv/bin/python docs/generate.py

They are made, never edited; a test fails when one is not current.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from tallystick import billing, cells, errors
from tallystick.events import EVENT_TYPES, REFERENCES, EventType
from tallystick.schema import schema_text
from tallystick.service.routes import GROUPS, OPERATIONS

FOLDER = Path(__file__).resolve().parent
MADE = "<!-- Made by docs/generate.py; do not edit. -->"


# ---------------------------------------------------------------- events


def events_page() -> str:
    """The page of every event type, in the order of the registry."""
    lines = [
        MADE,
        "",
        "# Event types",
        "",
        f"There are {len(EVENT_TYPES)}. They exclude one another, and together they are every way in which a ledger",
        "can change. An event that moves value is a transaction. *Made by* says what asks for it: `Post` is the",
        "command for any posting; every other event has a command of its own. *Can be reversed*: a `reversal` may",
        "undo it, whole or in part. Buckets stand in brackets.",
        "",
        "[events.schema.json](events.schema.json) is the JSON Schema of an event, with the data of each type.",
        "",
        f"The causal references are `{'`, `'.join(REFERENCES)}`.",
    ]
    for group, rows in groupby(EVENT_TYPES.values(), key=lambda row: row.group):
        lines += ["", f"## {group.capitalize()}"]
        for row in rows:
            lines += ["", *_event(row)]
    return "\n".join(lines) + "\n"


def _event(row: EventType) -> Iterator[str]:
    yield f"### `{row.name}`"
    yield ""
    yield f"{row.summary[0].upper()}{row.summary[1:]}."
    yield ""
    for move in row.moves:
        yield f"- moves value from {move}"
    for group in row.requires:
        yield f"- needs {'one of the references' if len(group) > 1 else 'the reference'} `{'`, `'.join(group)}`"
    for need in row.needs:
        yield f"- needs `{need}`"
    yield f"- made by {'`Post`' if row.by == 'post' else 'a command of its own'}"
    if row.reversible:
        yield "- can be reversed"


# ---------------------------------------------------------------- errors


def errors_page() -> str:
    """The page of every error, as the trees have them: the ledger's own, a cell's and billing's."""
    lines = [
        MADE,
        "",
        "# Errors",
        "",
        "Every error has a stable `code`, a message, and `data`: the names that stand in braces in its message, and",
        "sometimes more. A **refusal** broke a rule: nothing changed, and the idempotency key is still free. A",
        "**fault** is a promise that could not be kept; where *again* says yes, trying again can help.",
    ]
    for title, branch in BRANCHES.items():
        lines += [
            "",
            f"## {title}",
            "",
            "| code | class | message | again |",
            "|---|---|---|---|",
            *(_error(kind) for kind in _below(branch)),
        ]
    return "\n".join(lines) + "\n"


def _below(branch: type[errors.TallystickError]) -> Iterator[type[errors.TallystickError]]:
    yield branch
    for kind in branch.__subclasses__():
        if kind.__module__ == branch.__module__:
            yield from _below(kind)


def _error(kind: type[errors.TallystickError]) -> str:
    message = inspect.getdoc(kind) or ""
    message = re.sub(r"\{(\w+)[^}]*\}", r"{\1}", message.split("\n", 1)[0]).replace("|", "\\|")
    return f"| `{kind.code}` | `{kind.__name__}` | {message} | {'yes' if kind.retryable else ''} |"


# ---------------------------------------------------------------- the API


def api_page() -> str:
    """The page of everything that can be asked of the service, in the order of its table."""
    lines = [
        MADE,
        "",
        "# The HTTP API",
        "",
        f"There are {len(OPERATIONS)} operations. A running service describes them in full at `/openapi.json`",
        "(OpenAPI 3.1), and has a page to try them at `/docs`. *Verb* is what a key must be allowed: in the ledger of",
        "the path, or, where it names none, in all of them. Every request that is no `GET` bears an `Idempotency-Key`.",
    ]
    for group in GROUPS:
        if not group.operations:
            continue
        lines += ["", f"## {group.name}", "", "| | path | verb | |", "|---|---|---|---|"]
        for row in group.operations:
            summary = row.summary.replace("``", "`").replace("|", "\\|")
            lines.append(f"| {row.method} | `{row.path}` | {row.verb or ''} | {summary} |")
    return "\n".join(lines) + "\n"


BRANCHES: dict[str, type[errors.TallystickError]] = {
    "Refusals": errors.Refusal,
    "Faults": errors.Fault,
    "Refusals in the words of a cell": cells.CellError,
    "Refusals of billing": billing.OrderConflict,
}
"""The branches of the page, each with its heading."""

PAGES = {"events.md": events_page, "events.schema.json": schema_text, "errors.md": errors_page, "api.md": api_page}
"""What makes each page, by file name."""


def main() -> None:
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
        print(f"wrote docs/{name}")


if __name__ == "__main__":
    main()
