"""Writing: tables for people, JSON for programs. Amounts in JSON are strings of minor units, as in the journal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

AMOUNTS = frozenset(
    {
        "actual",
        "after",
        "amount",
        "at_least",
        "at_most",
        "available",
        "balance",
        "before",
        "ceiling",
        "change",
        "credit",
        "debit",
        "expected",
        "floor",
        "limit",
        "limit_default",
        "limit_max",
        "limit_min",
        "max",
        "min",
        "payout",
        "remaining",
        "reserve",
        "taken",
        "value",
    }
)
"""Fields that hold amounts."""

AMOUNTS_BY_NAME = frozenset({"limits", "ceilings", "totals"})
"""Fields that hold amounts by asset."""


# ---------------------------------------------------------------- JSON


def plain(value: Any) -> Any:
    """A value as plain JSON data, its amounts as strings."""
    import msgspec

    return _with_text_amounts(msgspec.to_builtins(value, enc_hook=_encode_other))


def _encode_other(value: Any) -> Any:
    from tallystick.errors import TallystickError

    if isinstance(value, TallystickError):
        return value.to_dict()
    return str(value)


def _with_text_amounts(value: Any, is_amount: bool = False) -> Any:
    if isinstance(value, dict):
        return {
            name: _with_text_amounts(item, is_amount or name in AMOUNTS or name in AMOUNTS_BY_NAME)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_with_text_amounts(item) for item in value]
    return str(value) if is_amount and type(value) is int else value


def write_json(value: Any, *, err: bool = False) -> None:
    """One JSON document on one line."""
    import json

    click.echo(json.dumps(value, ensure_ascii=False), err=err)


# ---------------------------------------------------------------- text


def show_amount(amount: int, asset: str) -> str:
    """An amount in major units with its thousands apart: 12,345.67."""
    from tallystick.money import format_amount

    whole, dot, fraction = format_amount(amount, asset).partition(".")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    return f"{sign}{int(digits):,}{dot}{fraction}"


def show_time(time: str) -> str:
    """A journal time as people read it, to the second."""
    return f"{time[:10]} {time[11:19]}Z" if time else ""


def show_map(values: dict[str, Any] | None) -> str:
    return " ".join(f"{name}={value}" for name, value in (values or {}).items())


def safe(text: Any) -> str:
    """Text without the characters that steer a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(text))


# ---------------------------------------------------------------- tables

NARROWEST_COLUMN = 11
"""How far a column of text may be folded on a narrow terminal, in characters."""


def write_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    right: Sequence[str] = (),
    header: bool = True,
    empty: str = "",
) -> None:
    """A table whose ``right`` columns are aligned to the right and never folded; ``empty`` if it has no rows."""
    lines = [[safe(cell) for cell in row] for row in rows]
    if not lines:
        if empty:
            click.echo(empty)
    elif not sys.stdout.isatty():
        _write_plain(columns, lines, right, header)
    else:
        _write_rich(columns, lines, right, header)


def _widths(columns: Sequence[str], lines: list[list[str]]) -> list[int]:
    return [max(len(line[index]) for line in (list(columns), *lines)) for index in range(len(columns))]


def _write_plain(columns: Sequence[str], lines: list[list[str]], right: Sequence[str], header: bool) -> None:
    """For a pipe or a file: as wide as it needs to be, so that every row is one line."""
    widths = _widths(columns, lines)
    aligned = [str.rjust if name in right else str.ljust for name in columns]
    for line in [list(columns), *lines] if header else lines:
        cells = (align(cell, width) for align, cell, width in zip(aligned, line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _write_rich(columns: Sequence[str], lines: list[list[str]], right: Sequence[str], header: bool) -> None:
    """For a terminal: texts are folded where it is narrow, amounts never; where that will not do, one fact a line."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    table = Table(box=None, show_header=header, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    least = 0
    for name, width in zip(columns, _widths(columns, lines), strict=True):
        is_right = name in right
        narrowest = width if is_right else min(width, NARROWEST_COLUMN)
        least += narrowest + 2
        table.add_column(
            name, justify="right" if is_right else "left", no_wrap=is_right, min_width=narrowest, overflow="fold"
        )
    if least - 2 > console.width:
        for line in lines:
            write_facts(zip(columns, line, strict=True))
            click.echo()
        return
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))
    console.print(table)


def write_facts(facts: Iterable[tuple[str, Any]]) -> None:
    """Names and values, one pair a line; pairs without a value are left out."""
    pairs = [(name, safe(value)) for name, value in facts if value not in ("", None)]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        click.echo(f"{name.ljust(width)}  {value}")


# ---------------------------------------------------------------- progress


@contextmanager
def progress_bar(title: str, unit: str = "") -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error while something long runs; nothing where that is not a terminal.

    Gives a function to call with how much is done and how much there is (0: not known).
    """
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)
