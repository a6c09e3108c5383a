"""The jobs that a service does, as an operator sets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct, field

from tallystick.errors import InvalidInput
from tallystick.jobs.checkpoints import Checkpoints, homes_in
from tallystick.jobs.deliveries import Deliveries, MakeDeliverer
from tallystick.jobs.expiry import Expiry
from tallystick.jobs.job import Job, StandingJob
from tallystick.jobs.partitions import Partitions
from tallystick.jobs.pruning import Pruning
from tallystick.jobs.reconciliation import AT, Reconciliation
from tallystick.jobs.schedule import check_every
from tallystick.jobs.snapshots import Snapshots
from tallystick.jobs.stores import postgres_of
from tallystick.ledger import Database

JOB_NAMES = ("expiry", "checkpoints", "snapshots", "partitions", "reconciliation", "deliveries", "pruning")


class Options(Struct, frozen=True, kw_only=True):
    """Which jobs, how often, and what they need to know.

    ``names``: these alone (empty: all that there is work for). ``every``: seconds between two runs, by job.
    ``reconcile_at``: the time of day, in UTC. ``log_home``: the folder with the home of each ledger's log; without it
    there are no checkpoints. ``publish`` and ``entries``: see Checkpoints. ``url``: the database's, so that it can be
    opened a second time for reconciliation.
    """

    names: tuple[str, ...] = ()
    every: Mapping[str, float] = field(default_factory=dict)
    reconcile_at: str = AT
    log_home: Path | None = None
    publish: bool = False
    entries: str = ""
    url: str = ""


def standard_jobs(
    database: Database, options: Options, make_deliverer: MakeDeliverer | None = None
) -> list[Job | StandingJob]:
    """The jobs for a database. Raises InvalidInput for a name that no job has, for one that has nothing to work with,
    and for a number of seconds that cannot be."""
    _check_names(options.names, "jobs")
    _check_names(tuple(options.every), "every")
    for name, seconds in options.every.items():
        if name == "deliveries":
            raise InvalidInput(path="every", problem="deliveries are made as events come, not every so often")
        check_every(seconds, f"every.{name}")
    found: dict[str, Job | StandingJob] = {}
    for job in _all(database, options, make_deliverer):
        found[job.name] = job
    for name in options.names:
        if name not in found:
            raise InvalidInput(path="jobs", problem=f"{name}: {_MISSING[name]}")
    return [job for name, job in found.items() if not options.names or name in options.names]


_MISSING = {
    "checkpoints": "it needs the folder with the homes of the logs",
    "partitions": "only PostgreSQL has partitions",
    "deliveries": "there is nobody who delivers",
}


def _all(database: Database, options: Options, make_deliverer: MakeDeliverer | None) -> list[Job | StandingJob]:
    every = options.every
    jobs: list[Job | StandingJob] = [Expiry(every.get("expiry", 2.0))]
    if options.log_home is not None:
        seconds = every.get("checkpoints", 5.0)
        homes = homes_in(options.log_home)
        jobs.append(Checkpoints(homes, seconds, publish=options.publish, entries=options.entries))
    jobs.append(Snapshots(every.get("snapshots", 1_800.0)))
    if postgres_of(database) is not None:
        jobs.append(Partitions(every.get("partitions", 6 * 3_600.0)))
    url = "" if options.url.startswith("memory:") else options.url
    jobs.append(Reconciliation(options.reconcile_at, url=url, every_seconds=every.get("reconciliation", 0.0)))
    if make_deliverer is not None:
        jobs.append(Deliveries(make_deliverer))
    jobs.append(Pruning(every.get("pruning", 3_600.0)))
    return jobs


def _check_names(names: Sequence[str], path: str) -> None:
    for name in names:
        if name not in JOB_NAMES:
            raise InvalidInput(path=path, problem=f"there is no job {name!r}; there are {', '.join(JOB_NAMES)}")
