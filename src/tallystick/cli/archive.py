"""The archive: closed periods of a PostgreSQL database that lie in Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tallystick.cli.output import progress_bar, safe, show_time, write_table
from tallystick.cli.postgres import SHOWN_DIGITS, database_url, load
from tallystick.cli.problems import Reported, usage
from tallystick.cli.root import Command
from tallystick.cli.session import Session, pass_session
from tallystick.errors import InvalidInput
from tallystick.stores.postgres.periods import month_of

if TYPE_CHECKING:
    from tallystick.stores.postgres.archive import Archiver, File, Plan

OPTIONS = {"to": "--to", "before": "--before", "retention_years": "--retention-years", "archive": "--to"}


@click.command(cls=Command)
@click.argument("url", required=False, metavar="[URL]")
@click.option("--to", "folder", metavar="FOLDER", help="Move what may go to files in this folder.")
@click.option("--before", metavar="YYYY-MM", default="", help="Only periods before this month.")
@click.option("--plan", "only_plan", is_flag=True, help="Show what may go; change nothing.")
@click.option("--moved-to", "new_folder", metavar="FOLDER", help="The files lie here now: check them, and remember it.")
@click.option("--retention-years", type=int, metavar="YEARS", help="Keep periods here for so long.  [at first: 7]")
@pass_session
def archive(
    session: Session,
    url: str | None,
    folder: str | None,
    before: str,
    only_plan: bool,
    new_folder: str | None,
    retention_years: int | None,
) -> None:
    """Move closed months of a PostgreSQL database to Parquet files, or show what was moved.

    A month may go when all of it is older than the retention policy of the database. Its events and entries are
    written to two files, which are read back and checked before anything is removed. Reads find them there: keep the
    files where they are, or say where they are now with --moved-to. If a run is interrupted, run it again.

    \b
      tally archive postgresql://owner@db.example/books --plan
      tally archive postgresql://owner@db.example/books --to /archive/books
    """
    if new_folder is not None and (folder is not None or only_plan or before):
        raise click.UsageError("--moved-to goes with neither --to nor --plan nor --before")
    if only_plan and retention_years is not None:
        raise click.UsageError("--plan changes nothing: leave out one of --plan and --retention-years")
    if before and folder is None and not only_plan:
        raise click.UsageError("--before says how much is moved: it goes with --to or --plan")
    session.ledger_file = database_url(session, url, "an archive")
    try:
        with _archiver(session) as archiver:
            if retention_years is not None:
                archiver.set_years(retention_years)
            if new_folder is not None:
                _move(session, archiver, Path(new_folder))
            elif only_plan:
                _show_plan(session, archiver.plan(before))
            elif folder is not None:
                _run(session, archiver, Path(folder), before)
            else:
                _show_files(session, archiver)
    except InvalidInput as error:
        raise usage(error, OPTIONS.get(str(error.data.get("path")), "URL")) from None


def _archiver(session: Session) -> Archiver:
    archiver: Archiver = load("archive").Archiver(session.ledger_file)
    return archiver


# ---------------------------------------------------------------- what is done


def _run(session: Session, archiver: Archiver, folder: Path, before: str) -> None:
    plan = archiver.plan(before)
    with progress_bar("archiving") as progress:
        files = archiver.run(folder, before, progress)
    if session.json:
        session.write({**_document(session, plan), "files": [_of(file) for file in files]})
        return
    _write_files(files)
    months = len({file.period for file in files})
    click.echo(f"archived {months} months" if months else _nothing(plan))


def _move(session: Session, archiver: Archiver, folder: Path) -> None:
    found = archiver.move(folder)
    if session.json:
        left = [{**_of(file), "problem": problem} for file, problem in found.left]
        session.write({"database": session.place, "moved": [_of(file) for file in found.moved], "left": left})
    else:
        _write_files(found.moved)
        for file, problem in found.left:
            click.echo(
                f"{month_of(file.period)} {file.kind}: {safe(problem)}; it is still looked for at {safe(file.path)}"
            )
        click.echo(f"{len(found.moved)} files are known to lie there")
    if found.left:
        raise Reported


# ---------------------------------------------------------------- what is shown


def _show_plan(session: Session, plan: Plan) -> None:
    if session.json:
        session.write(_document(session, plan))
        return
    rows = [(month_of(one.period), f"{one.ledgers:,}", f"{one.events:,}", f"{one.bytes:,}") for one in plan.periods]
    columns = ("month", "ledgers", "events", "bytes")
    write_table(columns, rows, right=columns[1:])
    click.echo(
        f"{len(rows)} months may go; the same command with --to FOLDER, without --plan, moves them"
        if rows
        else _nothing(plan)
    )


def _nothing(plan: Plan) -> str:
    return f"there is nothing to move before {month_of(plan.before)}; the retention policy is {plan.years} years"


def _show_files(session: Session, archiver: Archiver) -> None:
    files, years = archiver.files(), archiver.years
    if session.json:
        session.write({"database": session.place, "retention_years": years, "files": [_of(file) for file in files]})
        return
    _write_files(files)
    months = len({file.period for file in files})
    click.echo(f"{months} months are archived; the retention policy is {years} years")


def _write_files(files: list[File]) -> None:
    rows = [
        (
            month_of(f.period),
            f.kind,
            f"{f.rows:,}",
            f"{f.bytes:,}",
            f.sha256[:SHOWN_DIGITS],
            show_time(f.archived),
            f.path,
        )
        for f in files
    ]
    write_table(("month", "kind", "rows", "bytes", "sha256", "archived", "path"), rows, right=("rows", "bytes"))


def _document(session: Session, plan: Plan) -> dict[str, Any]:
    return {
        "database": session.place,
        "retention_years": plan.years,
        "before": month_of(plan.before),
        "months": [
            {"month": month_of(one.period), "ledgers": one.ledgers, "events": one.events, "bytes": one.bytes}
            for one in plan.periods
        ],
    }


def _of(file: File) -> dict[str, Any]:
    fields = {name: getattr(file, name) for name in ("kind", "path", "sha256", "rows", "bytes", "archived")}
    return {"month": month_of(file.period), **fields}


COMMANDS: tuple[click.Command, ...] = (archive,)
