"""A figure: a number, what it is held against, and whether it reaches what was asked."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import statistics
from pathlib import Path

from msgspec import Struct, to_builtins

from benchmarks import server


class Figure(Struct, frozen=True, kw_only=True):
    """``ratio`` is value / baseline; ``target`` is what it must reach, or ``value`` where there is no baseline."""

    name: str
    value: float
    unit: str
    runs: int
    baseline: float | None = None
    baseline_name: str = ""
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    lowest: float | None = None
    highest: float | None = None


def compared(
    name: str,
    values: list[float],
    unit: str,
    *,
    baselines: list[float],
    baseline_name: str,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Figure:
    """The median of the runs, and the median of the ratios of the pairs of runs."""
    ratio = statistics.median(value / baseline for value, baseline in zip(values, baselines, strict=True))
    return Figure(
        name=name,
        value=statistics.median(values),
        unit=unit,
        runs=len(values),
        baseline=statistics.median(baselines),
        baseline_name=baseline_name,
        ratio=ratio,
        target=_words("x baseline", at_least, at_most),
        met=_reaches(ratio, at_least, at_most),
        lowest=min(values),
        highest=max(values),
    )


def alone(
    name: str, values: list[float], unit: str, *, at_least: float | None = None, at_most: float | None = None
) -> Figure:
    """The median of the runs, held against a number."""
    value = statistics.median(values)
    return Figure(
        name=name,
        value=value,
        unit=unit,
        runs=len(values),
        target=_words(unit, at_least, at_most),
        met=_reaches(value, at_least, at_most),
        lowest=min(values),
        highest=max(values),
    )


def _words(unit: str, at_least: float | None, at_most: float | None) -> str:
    if at_least is not None:
        return f"at least {at_least:g} {unit}"
    return f"at most {at_most:g} {unit}" if at_most is not None else ""


def _reaches(value: float, at_least: float | None, at_most: float | None) -> bool | None:
    if at_least is not None:
        return value >= at_least
    return value <= at_most if at_most is not None else None


def machine() -> dict[str, str | int]:
    """What the figures were measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "processor": model,
        "cores": os.cpu_count() or 0,
        "system": platform.system(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "postgresql": server.version(),
    }


def write(figures: list[Figure], path: Path) -> None:
    """The figures as JSON, those measured now in place of older ones of the same name."""
    known = json.loads(path.read_text())["figures"] if path.exists() else []
    fresh = {figure.name: to_builtins(figure) for figure in figures}
    kept = [figure for figure in known if figure["name"] not in fresh]
    path.write_text(json.dumps({"machine": machine(), "figures": [*fresh.values(), *kept]}, indent=1) + "\n")
