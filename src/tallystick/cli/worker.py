"""The jobs apart from the server, and what is known of them: last runs, and the reports of reconciliations."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tallystick.cli.output import safe, show_time, write_table
from tallystick.cli.problems import Reported, usage
from tallystick.cli.root import Command, Group
from tallystick.cli.session import Session, pass_session
from tallystick.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from tallystick.control import Control, JobRun
    from tallystick.jobs import Options
    from tallystick.jobs.runner import Once, Runner

OPTIONS = {"jobs": "--jobs", "at": "--reconcile-at", "entries": "--log-entries"}


@click.command(cls=Command)
@click.option("--jobs", "names", default="", metavar="A,B", help="These jobs alone.  [default: all there is work for]")
@click.option("--only", "ledgers", multiple=True, metavar="LEDGER", help="These ledgers alone, deliveries apart.")
@click.option("--once", is_flag=True, help="Do each job once, now, and end.")
@click.option("--every", multiple=True, metavar="NAME=SECONDS", help="How much time lies between two runs of a job.")
@click.option("--reconcile-at", default="03:00", show_default=True, metavar="HH:MM", help="When, in UTC.")
@click.option(
    "--log-home",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="TALLYSTICK_LOGS",
    show_envvar=True,
    metavar="FOLDER",
    help="Keep the logs whose homes are FOLDER/LEDGER.",
)
@click.option("--log-publish", is_flag=True, help="Publish the logs where their homes say, events included.")
@click.option("--log-entries", default="", metavar="FOLDER|s3://...", help="Put the events here alone.")
@click.option("--allow-private", is_flag=True, help="Deliver to private addresses too, and without TLS.")
@click.option("--write", is_flag=True, help="Write a ledger file: only where no server does.")
@click.option(
    "--lease", type=click.FloatRange(1, 3_600), default=15.0, show_default=True, metavar="SECONDS",
    help="After a process died, so long nobody does its jobs.",
)  # fmt: skip
@click.option(
    "--stop-within", type=click.FloatRange(0, 3_600), default=30.0, show_default=True, metavar="SECONDS",
    help="What the jobs get to come to an end.",
)  # fmt: skip
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
@pass_session
def worker(session: Session, /, names: str, ledgers: tuple[str, ...], once: bool, write: bool, **more: Any) -> None:
    """Do the jobs of a service: expiry, checkpoints, snapshots, partitions, reconciliation, deliveries, pruning.

    For every ledger of the file or database, those that are made later too, until it is told to end. Any number of
    workers and servers share the jobs: each is done by one of them, and by another when that one dies.

    A ledger file has one writing process, its server: a worker beside it reads the file, and does the jobs that write
    nothing to it. With --once the exit code is 1 if a job failed or found a mismatch.

    \b
      tally worker -f postgresql://writer@db.example/books --log-home /secure/logs
      tally worker -f books.db --jobs reconciliation --once
    """
    from tallystick.telemetry import logs

    try:
        options = _options(session, names, more)
        logs.configure(level=more["log_level"])
        with _runner(session, options, ledgers, more, write=write) as runner:
            if once:
                _do_once(session, runner)
            else:
                _do_until_told(session, runner, more["stop_within"])
    except InvalidInput as error:
        path = str(error.data.get("path"))
        raise usage(error, OPTIONS.get(path) or ("--every" if path.startswith("every") else path)) from None


def _options(session: Session, names: str, more: dict[str, Any]) -> Options:
    from tallystick.jobs import Options

    return Options(
        names=tuple(name.strip() for name in names.split(",") if name.strip()),
        every=dict(map(_interval, more["every"])),
        reconcile_at=more["reconcile_at"],
        log_home=more["log_home"],
        publish=more["log_publish"],
        entries=more["log_entries"],
        url=str(session.url),
    )


def _interval(text: str) -> tuple[str, float]:
    name, _, seconds = text.partition("=")
    try:
        return name.strip(), float(seconds)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not NAME=SECONDS", param_hint="--every") from None


@contextmanager
def _runner(
    session: Session, options: Options, ledgers: tuple[str, ...], more: dict[str, Any], *, write: bool
) -> Iterator[Runner]:
    """The runner, not started. What writes to a ledger file that is only read is left out, and that is said."""
    from tallystick.control import open_control
    from tallystick.jobs import Runner, standard_jobs
    from tallystick.jobs.deliveries import deliverer_for

    is_file = isinstance(session.url, Path) or str(session.url).startswith("sqlite:")
    writable = write or not is_file
    database = session.open(write=writable)
    control = open_control(session.url)
    try:
        jobs = standard_jobs(database, options, deliverer_for(allow_private=more["allow_private"]))
        runner = Runner(
            database,
            control,
            jobs,
            writable=writable,
            ledgers=ledgers or None,
            lease_seconds=more["lease"],
        )
        if runner.left_out:
            left = ", ".join(runner.left_out)
            reason = f"{session.place} is written by one process, its server, and only read here"
            if len(runner.left_out) == len(jobs):
                raise click.UsageError(f"{reason}: there is nobody to do {left} but the server, or --write")
            click.echo(f"{reason}: left out are {left}", err=True)
        yield runner
    finally:
        control.close()


def _do_once(session: Session, runner: Runner) -> None:
    with _signals(runner.interrupt) as told:
        found = runner.run_once()
    _write_once(session, runner, found)
    if told.is_set() or any(run.outcome in ("failed", "mismatch") for run in found.runs):
        raise Reported


def _write_once(session: Session, runner: Runner, found: Once) -> None:
    if session.json:
        busy = [{"job": job, "ledger": ledger} for job, ledger in found.busy]
        session.write({"runs": found.runs, "busy": busy, "left_out": runner.left_out})
        return
    _write_runs(found.runs)
    for job, ledger in found.busy:
        click.echo(f"{job} of {safe(ledger)} is being done by another process", err=True)


def _do_until_told(session: Session, runner: Runner, stop_seconds: float) -> None:
    with _signals() as told:
        runner.start()
        if session.json:
            session.write({"holder": runner.holder, "jobs": runner.names, "left_out": runner.left_out})
        else:
            click.echo(f"{runner.holder} does {', '.join(runner.names)}")
        told.wait()
        ended = runner.stop(stop_seconds)
    if not ended:
        click.echo(f"not every job came to an end within {stop_seconds:g} seconds; their leases run out", err=True)
        raise Reported


@contextmanager
def _signals(act: Any = None) -> Iterator[threading.Event]:
    """Set when the process is told to end; told again, it ends at once."""
    told = threading.Event()
    before: dict[int, Any] = {}

    def end(*_: object) -> None:
        told.set()
        if act is not None:
            act()
        for number in before:
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, end)
    try:
        yield told
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


# ---------------------------------------------------------------- what is known of jobs


@click.group(cls=Group, name="jobs")
def jobs_group() -> None:
    """What the jobs of the service did and found."""


@contextmanager
def _control(session: Session) -> Iterator[Control]:
    from tallystick.control import open_control

    control = open_control(session.url, create=False)
    try:
        yield control
    finally:
        control.close()


@jobs_group.command()
@pass_session
def status(session: Session) -> None:
    """The newest run of each job and ledger. Exit code 1 if one of them failed or found a mismatch."""
    with _control(session) as control:
        runs = control.last_runs()
    if session.json:
        session.write(runs)
    else:
        _write_runs(runs)
    if any(run.outcome in ("failed", "mismatch") for run in runs):
        raise Reported


@jobs_group.command("runs")
@click.option("--job", default="", metavar="NAME", help="Of this job alone.")
@click.option("--only", "ledger", default="", metavar="LEDGER", help="Of this ledger alone.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True)
@pass_session
def list_runs(session: Session, job: str, ledger: str, limit: int) -> None:
    """Runs, newest first."""
    with _control(session) as control:
        runs = control.runs(job=job, ledger=ledger, limit=limit)
    if session.json:
        session.write(runs)
    else:
        _write_runs(runs)


@jobs_group.command()
@click.option("--limit", type=click.IntRange(1, 1_000), default=30, show_default=True)
@pass_session
def reports(session: Session, limit: int) -> None:
    """The reports of reconciliations, newest first."""
    with _control(session) as control:
        found = control.reports(limit=limit)
    if session.json:
        session.write([{"id": one.id, "ledger": one.ledger, "time": one.time, "ok": one.ok} for one in found])
        return
    rows = [
        (one.id, one.ledger, show_time(one.time), "ok" if one.ok else f"{len(one.body.get('findings', ()))} findings")
        for one in found
    ]
    write_table(("id", "ledger", "time", "result"), rows, right=("id",), empty="there are no reports")


@jobs_group.command()
@click.argument("id", type=click.IntRange(1), required=False)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write it here.")
@pass_session
def report(session: Session, id: int | None, out: Path | None) -> None:
    """One report as a JSON document; without an id the newest of the ledger."""
    with _control(session) as control:
        if id is not None:
            found = control.report(id)
        else:
            found = next(iter(control.reports(ledger=session.ledger_name, limit=1)), None)
    if found is None:
        raise NotFound(what=f"report {id}" if id is not None else f"report of {session.ledger_name}")
    document = {"report": found.id, **found.body}
    text = json.dumps(document, ensure_ascii=False, indent=None if session.json else 2) + "\n"
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.BadParameter(f"{out}: {error.strerror}", param_hint="--out") from None


def _write_runs(runs: list[JobRun]) -> None:
    rows = [
        (run.job, run.ledger, run.outcome, f"{run.lag_seconds:g}", show_time(run.finished or run.started), run.detail)
        for run in runs
    ]
    write_table(("job", "ledger", "outcome", "lag", "time", "detail"), rows, right=("lag",), empty="nothing was done")


COMMANDS: tuple[click.Command, ...] = (worker, jobs_group)
