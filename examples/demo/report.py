"""What the demo prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from posting import Check
from rich.console import Console
from rich.table import Table
from workplace import next_commands, shown, size

from tallystick import Ledger
from tallystick.ledger.views import Report
from tallystick.money import format_amount

VERDICTS = {True: "internally consistent, not witnessed", False: "the ledger does not agree with itself"}


class Part(NamedTuple):
    """One part of the demo: what was done how often, in how many events, and how long it took."""

    name: str
    number: int
    events: int
    seconds: float


class Kind(NamedTuple):
    """All accounts of one kind in one asset. Amounts in minor units."""

    asset: str
    name: str
    accounts: int
    debit: int
    credit: int


def kinds_of(ledger: Ledger) -> list[Kind]:
    """The trial balance, summarised by asset and first segment of the address."""
    kinds: dict[tuple[str, str], tuple[set[str], int, int]] = {}
    for row in ledger.trial_balance().rows:
        name = row.account.partition(":")[0]
        accounts, debit, credit = kinds.get((row.asset, name), (set(), 0, 0))
        kinds[row.asset, name] = (accounts | {row.account}, debit + row.debit, credit + row.credit)
    return [Kind(asset, name, len(found[0]), *found[1:]) for (asset, name), found in sorted(kinds.items())]


def print_trial_balance(console: Console, ledger: Ledger) -> None:
    table = _table("Trial balance, without what is at zero", "asset", "kind", ">accounts", ">debit", ">credit")
    for asset, total in sorted(ledger.trial_balance().totals.items()):
        kinds = [kind for kind in kinds_of(ledger) if kind.asset == asset]
        for kind in kinds:
            debit, credit = (_amount(amount, asset) for amount in (kind.debit, kind.credit))
            table.add_row(asset, kind.name, f"{kind.accounts:,}", debit, credit)
        sums = [_amount(sum(amounts), asset) for amounts in zip(*((k.debit, k.credit) for k in kinds), strict=True)]
        table.add_row(asset, f"total {format_amount(total, asset)}", "", *sums, style="bold", end_section=True)
    console.print(table, "")


def print_register(console: Console, ledger: Ledger, account: str, lines: int) -> None:
    table = _table(f"Register of {account}", ">event", "type", "bucket", ">amount", ">before", ">after")
    for line in ledger.register(account, limit=lines).items:
        amounts = (format_amount(amount, line.asset) for amount in (line.amount, line.before, line.after))
        table.add_row(str(line.seq), line.type, line.bucket, *amounts)
    console.print(table, "")


def print_replay(console: Console, report: Report) -> None:
    console.print("[bold]Replay check[/]")
    console.print(
        f"Hashed {report.events:,} events again, applied them with their {report.entries:,} entries to an empty book, "
        f"and compared its {report.balances:,} balances and everything else with the live ledger."
    )
    for finding in report.findings[:10]:
        console.print(f"[bold red]{finding.where}: {finding.problem}[/]", soft_wrap=True)
    console.print(f"{len(report.findings)} findings: {VERDICTS[report.ok]}.\n")


def print_checks(console: Console, checks: Iterable[Check]) -> None:
    table = _table("Checks", "what", ">expected", ">found", "")
    for check in checks:
        verdict = "[green]ok[/]" if check.ok else "[bold red]WRONG[/]"
        table.add_row(check.name, f"{check.expected:,}", f"{check.found:,}", verdict)
    console.print(table, "")


def print_parts(console: Console, parts: Sequence[Part]) -> None:
    table = _table("How long it took", "part", ">number", ">events", ">seconds", ">events/s")
    for part in parts:
        speed = f"{part.events / part.seconds:,.0f}" if part.seconds else ""
        table.add_row(part.name, f"{part.number:,}", f"{part.events:,}", f"{part.seconds:.2f}", speed)
    console.print(table, "")


def print_next(console: Console, path: Path) -> None:
    console.print(f"The ledger is in {shown(path)}, {size(path) / 2**20:,.1f} MiB. To look around:\n")
    for command in next_commands(path):
        console.print(f"    {command}", soft_wrap=True, markup=False)


def _table(title: str, *columns: str) -> Table:
    """A table; a column whose name begins with ``>`` is of numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", no_wrap=True)
    return table


def _amount(amount: int, asset: str) -> str:
    """An amount that is not negative, in major units with commas."""
    major, point, minor = format_amount(amount, asset).partition(".")
    return f"{int(major):,}{point}{minor}"
