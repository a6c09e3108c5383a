"""``make bench``: measure, print a table, write results.json. ``python -m benchmarks batches`` measures one group."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import embedded, evidence, postgres, service, webhooks
from benchmarks.figures import Figure, write

GROUPS = {
    "batches": embedded.batches,
    "singles": embedded.singles,
    "footprint": embedded.footprint,
    "growth": embedded.growth,
    "evidence": evidence.posting,
    "evidence-proofs": evidence.proofs,
    "evidence-verify": evidence.verifying,
    "service": service.embedded,
    "webhooks": webhooks.delivering,
    "postgres-batches": postgres.batches,
    "postgres-singles": postgres.singles,
    "postgres-processes": postgres.processes,
    "postgres-growth": postgres.growth,
    "postgres-evidence": evidence.postgres_posting,
    "postgres-service": service.postgres,
}
RESULTS = Path(__file__).with_name("results.json")


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        print(f"there is no group {unknown[0]}; there are {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a server that was started is stopped
    figures: list[Figure] = []
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="tallystick-bench-", dir=Path.cwd()) as folder:
        for name in names or GROUPS:
            console.print(f"measuring {name} ...")
            figures.extend(GROUPS[name](Path(folder)))
    write(figures, RESULTS)
    Console(width=None if sys.stdout.isatty() else 180).print(table(figures))
    return 0


def table(figures: list[Figure]) -> Table:
    """The figures for people."""
    shown = Table(title="Tallystick")
    for heading in ("figure", "median", "low to high", "runs", "baseline", "ratio", "asked", "met"):
        shown.add_column(heading, justify="left" if heading in ("figure", "asked") else "right")
    for figure in figures:
        spread = f"{figure.lowest:,.4g} to {figure.highest:,.4g}" if figure.lowest is not None else ""
        baseline = f"{figure.baseline:,.4g} {figure.baseline_name}" if figure.baseline is not None else ""
        shown.add_row(
            figure.name,
            f"{figure.value:,.4g} {figure.unit}",
            spread,
            str(figure.runs),
            baseline,
            f"{figure.ratio:.2f}" if figure.ratio is not None else "",
            figure.target,
            {True: "yes", False: "NO", None: ""}[figure.met],
        )
    return shown


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
