"""The tables of a PostgreSQL database: making them, bringing them up to date, and the roles that may use them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from tallystick.cli.output import show_time, write_table
from tallystick.cli.postgres import SHOWN_DIGITS, database_url, load
from tallystick.cli.problems import Reported
from tallystick.cli.root import Command
from tallystick.cli.session import Session, pass_session

if TYPE_CHECKING:
    from tallystick.stores.postgres.migrations import Step

MEANINGS = {
    "absent": "it has none of Tallystick's tables; the same command without --plan makes them",
    "behind": "the same command without --plan applies what is due",
    "current": "there is nothing to apply",
    "ahead": "a newer Tallystick has been here; use that",
    "altered": "nothing can be applied before that is put right",
}
"""What each state of a database asks for."""


@click.command(cls=Command)
@click.argument("url", required=False, metavar="[URL]")
@click.option("--plan", "only_plan", is_flag=True, help="Show what is applied and what would be; change nothing.")
@click.option("--roles", is_flag=True, help="Make the roles owner, writer, reader and auditor, too.")
@pass_session
def migrate(session: Session, url: str | None, only_plan: bool, roles: bool) -> None:
    """Make the tables in a PostgreSQL database, or bring them up to date.

    Each migration is applied once, whole or not at all; several runs at once do no harm. With --plan the exit code
    is 1 if nothing could be applied before something is put right.

    \b
      tally migrate postgresql://ops@db.example/books --plan
    """
    url = session.ledger_file = database_url(session, url, "migrations")
    if only_plan and roles:
        raise click.UsageError("--plan changes nothing, so it makes no roles: leave out one of --plan and --roles")
    migrations = load("migrations")
    if only_plan:
        _show_plan(session, migrations.plan(url))
        return
    applied = migrations.migrate(url)
    if roles:
        migrations.apply_roles(url)
    roles_due = migrations.are_roles_due(url)
    if session.json:
        document = _document(session, migrations.plan(url))
        newly = [migration.number for migration in applied]
        session.write({**document, "newly_applied": newly, "roles": roles, "roles_due": roles_due})
        return
    for migration in applied:
        click.echo(f"applied {migration.number:04d}_{migration.name}")
    if not applied:
        click.echo(f"{session.place} is up to date; nothing was applied")
    if roles:
        click.echo("the roles tallystick_owner, tallystick_writer, tallystick_reader and tallystick_auditor are there")
        click.echo("  Give one to a login with: GRANT tallystick_writer TO the_login")
    if roles_due:
        click.echo("the roles may not use all of it yet: run the same command with --roles")


def _document(session: Session, steps: Sequence[Step]) -> dict[str, Any]:
    return {"database": session.place, "state": load("migrations").state_of(steps), "migrations": steps}


def _show_plan(session: Session, steps: Sequence[Step]) -> None:
    document = _document(session, steps)
    state = document["state"]
    if session.json:
        session.write(document)
    else:
        columns = ("migration", "sha256", "status", "applied")
        rows = [
            (f"{step.number:04d}_{step.name}", step.sha256[:SHOWN_DIGITS], step.status, show_time(step.applied))
            for step in steps
        ]
        write_table(columns, rows)
        click.echo(f"{session.place}: {MEANINGS[state]}")
    if state in ("ahead", "altered"):
        raise Reported


COMMANDS: tuple[click.Command, ...] = (migrate,)
