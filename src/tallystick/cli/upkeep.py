"""Keeping the books whole: import, check, replay, rebuild."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from tallystick.cli.output import progress_bar, safe, show_amount, write_facts, write_json
from tallystick.cli.problems import Reported
from tallystick.cli.root import Command
from tallystick.cli.session import Session, pass_session
from tallystick.errors import InvalidInput, LedgerCorrupt

if TYPE_CHECKING:
    from tallystick.importing import ImportReport, Mapping, Problem
    from tallystick.ledger import Ledger

SHOWN_PROBLEMS = 20
"""Problems that people are shown one by one; the rest are counted."""


@click.command(cls=Command, name="import")
@click.argument("file", metavar="FILE")
@click.option("--mapping", "-m", metavar="FILE", help="Which command each row becomes (TOML or JSON).")
@click.option("--atomic", is_flag=True, help="Post every row or none.")
@click.option("--dry-run", is_flag=True, help="Give the answers, write nothing.")
@pass_session
def import_rows(session: Session, file: str, mapping: str | None, atomic: bool, dry_run: bool) -> None:
    """Post the rows of a file of CSV or JSON lines; - reads standard input.

    Keys come from the rows, so an import that was interrupted is simply run again. A row that cannot be read or is
    refused is reported with its line, and the others are posted.

    \b
    A mapping says which command a row becomes, for example:
      command = "transfer"
      key = "bank:{Reference}"
      [fields]
      from_account = "users:{Payer}"
      to_account = "users:{Payee}"
      asset = "EUR/2"
      amount = { column = "Amount", decimal = "," }
      effective = { column = "Day", format = "%d.%m.%Y", zone = "UTC" }

    \b
    Without a mapping every line is a whole command, its amount in minor units:
      {"command": "transfer", "key": "a-1", "from_account": "users:alice",
       "to_account": "users:bob", "asset": "USD/2", "amount": "1234"}
    (on one line).
    """
    from tallystick.importing import read_mapping

    try:
        rules = read_mapping(mapping) if mapping is not None else None
    except InvalidInput as error:
        raise _wrong(error, "--mapping") from None
    if rules is None and file.lower().removesuffix(".gz").endswith(".csv"):
        raise click.UsageError("a CSV file needs a mapping that says which command a row becomes: --mapping FILE")
    try:
        report = _run_import(session, file, rules, atomic, dry_run)
    except InvalidInput as error:
        raise _wrong(error, "FILE") from None
    _write_import(session, report)
    if not report.ok:
        raise Reported


def _wrong(error: InvalidInput, name: str) -> click.BadParameter:
    return click.BadParameter(f"{error.data['path']}: {error.data['problem']}", param_hint=name)


def _run_import(session: Session, file: str, mapping: Mapping | None, atomic: bool, dry_run: bool) -> ImportReport:
    from tallystick.importing import import_file, import_stream

    ledger = session.writing()
    show = _ProblemList(quiet=session.json)
    with progress_bar("importing") as progress:
        if file == "-":
            return import_stream(
                ledger,
                sys.stdin.buffer,
                mapping,
                name="-",
                atomic=atomic,
                dry_run=dry_run,
                progress=progress,
                on_problem=show,
            )
        return import_file(ledger, file, mapping, atomic=atomic, dry_run=dry_run, progress=progress, on_problem=show)


class _ProblemList:
    """Writes the first problems as they come."""

    def __init__(self, *, quiet: bool) -> None:
        self.left = 0 if quiet else SHOWN_PROBLEMS

    def __call__(self, problem: Problem) -> None:
        if self.left:
            self.left -= 1
            what = "malformed" if problem.code == "malformed" else "refused"
            click.echo(f"line {problem.line}: {what}: {safe(problem.reason)}", err=True)


def _write_import(session: Session, report: ImportReport) -> None:
    if session.json:
        session.write({**_fields(report), "ok": report.ok})
        return
    hidden = report.refused + report.malformed - SHOWN_PROBLEMS
    if hidden > 0:
        click.echo(f"and {hidden:,} more; --json lists up to 1,000", err=True)
    if report.aborted:
        click.echo("nothing was posted, because not every row could be")
    elif report.dry_run:
        click.echo("nothing was written: this was a dry run")
    write_facts(
        (
            ("rows", f"{report.rows:,}"),
            ("posted", f"{report.posted:,}"),
            ("replayed", f"{report.replayed:,}"),
            ("refused", f"{report.refused:,}"),
            ("malformed", f"{report.malformed:,}"),
            ("skipped", f"{report.skipped:,}"),
            ("seconds", f"{report.seconds:.1f}"),
        )
    )


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__}


@click.command(cls=Command)
@pass_session
def replay(session: Session) -> None:
    """Replay every event from the first, and compare with the live books; exit code 1 if anything differs.

    Hashes are computed anew, so an altered byte anywhere in the journal is found.
    """
    database = session.database(write=False)
    with progress_bar("replaying") as progress:
        report = database.replay(session.ledger_name, progress)
    well = "internally consistent, not witnessed: the live books are what the journal says"
    _write_report(session, report, "replayed", well)


def _write_damage(session: Session, error: LedgerCorrupt) -> None:
    """The damage that an opening already finds."""
    finding = {"where": error.data.get("where", "ledger"), "problem": error.data.get("problem", str(error))}
    if session.json:
        write_json({"ledger": session.ledger_name, "ok": False, "findings": [finding]})
    else:
        click.echo(f"{finding['where']}: {safe(finding['problem'])}")
        click.echo("  Nothing was changed; see all of it with: tally replay", err=True)


@click.command(cls=Command)
@pass_session
def check(session: Session) -> None:
    """Look at the end of the journal, the sums, and who is under its limit; quick, where replay is thorough."""
    try:
        ledger = session.reading()
    except LedgerCorrupt as error:
        _write_damage(session, error)
        raise Reported from None
    trial = ledger.trial_balance()
    findings = [
        {"where": f"asset {asset}", "problem": f"its balances add up to {total} minor units, not to 0"}
        for asset, total in trial.totals.items()
        if total
    ]
    notices = [notice for asset in trial.totals for notice in _under_limit(ledger, asset)]
    if session.json:
        write_json({"ledger": session.ledger_name, "ok": not findings, "findings": findings, "notices": notices})
    else:
        for one in (*findings, *notices):
            click.echo(f"{one['where']}: {one['problem']}")
        click.echo(
            f"{len(findings)} findings" if findings else f"well: {ledger.head.seq:,} events, every asset adds up to 0"
        )
    if findings:
        raise Reported


def _under_limit(ledger: Ledger, asset: str) -> list[dict[str, str]]:
    """Members whose limit was cut below what they owe: allowed, but they cannot spend."""
    found = []
    for member in ledger.members(asset):
        balance, floor = ledger.balance(member.address, asset), -member.limits[asset]
        if balance < floor:
            problem = (
                f"it stands at {show_amount(balance, asset)} {asset}, under its limit of {show_amount(floor, asset)}"
            )
            found.append({"where": f"account {member.address}", "problem": problem})
    return found


@click.command(cls=Command)
@pass_session
def rebuild(session: Session) -> None:
    """Make everything that is derived from the journal anew; the journal itself is not touched."""
    database = session.database(write=True)
    with progress_bar("rebuilding") as progress:
        report = database.rebuild(session.ledger_name, progress)
    _write_report(session, report, "rebuilt", "everything derived from the journal was made anew")


@click.command(cls=Command)
@click.argument("transaction", metavar="TRANSACTION")
@pass_session
def erase(session: Session, transaction: str) -> None:
    """Forget the erasable texts of a transaction, by its id (main/7 or 7) or by one commitment; for good.

    No event, hash or proof changes. Backups and copies are not reached.
    """
    ledger = session.writing()
    is_number = transaction.isascii() and transaction.isdigit()
    erased = ledger.erase(int(transaction) if is_number else transaction)
    if session.json:
        write_json({"ledger": session.ledger_name, "erased": erased})
    else:
        click.echo(f"erased: {erased} text{'' if erased == 1 else 's'}" if erased else "nothing was left to erase")


def _write_report(session: Session, report: Any, done: str, well: str) -> None:
    if session.json:
        write_json({**session.document(report), "ok": report.ok})
    else:
        click.echo(f"{done} {report.events:,} events with {report.entries:,} entries in {report.seconds:.1f} s")
        for finding in report.findings:
            click.echo(f"{finding.where}: {safe(finding.problem)}")
        click.echo(well if report.ok else f"{len(report.findings)} findings")
    if not report.ok:
        if not session.json and done == "replayed":
            click.echo("  If the journal itself is whole, mend what is derived from it with: tally rebuild", err=True)
        raise Reported


COMMANDS: tuple[click.Command, ...] = (import_rows, check, replay, rebuild, erase)
