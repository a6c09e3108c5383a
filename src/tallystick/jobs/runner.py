"""Runs the jobs of one process: each in threads of its own, each ledger's only while its lease is held.

Nothing that goes wrong in a job, or in the control store, ends the runner: it is written down, and tried again, later
each time. To end it is for ``stop``, which has the jobs end at their next step and gives their leases back, so that
another process need not wait until they run out.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from msgspec import Struct
from msgspec.structs import replace

from tallystick.clock import Clock, system_clock
from tallystick.control.base import Control
from tallystick.control.records import JobRun
from tallystick.errors import Archived, LedgerCorrupt, LogForked, TallystickError, Unavailable
from tallystick.jobs.job import ALL, Alert, Context, Interrupted, Job, LeaseLost, Outcome, StandingJob, Stopped
from tallystick.jobs.lanes import Lane, Target
from tallystick.jobs.leases import LEASE_SECONDS, Held, Leases
from tallystick.jobs.runs import OFTEN_SECONDS, cut
from tallystick.jobs.schedule import retry_seconds, seconds_left
from tallystick.ledger import Database
from tallystick.stores.urls import masked

if TYPE_CHECKING:
    from tallystick.telemetry.metrics import Metrics

LOOK_SECONDS = 1.0
"""So often it is looked for new ledgers, and for the time of day."""
TRY_SECONDS = 5.0
"""A lease that another process holds is asked for again at least so often."""
STATUS_SECONDS = 15.0
"""So often a standing job says how it stands."""
LONG_SECONDS = 60.0
"""A standing job that went on for so long did not fail at once."""
STOP_SECONDS = 30.0
"""What the jobs get to come to the end of their step."""

_logger = logging.getLogger("tallystick.jobs")


class Once(Struct, frozen=True):
    """What one round over all jobs did. ``busy``: (job, ledger) that another process was at."""

    runs: list[JobRun]
    busy: list[tuple[str, str]]


def new_holder() -> str:
    """A name for this process in leases, which no other has."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


class Runner:
    """Runs jobs over every ledger of a database until it is stopped. Use it as a context manager, or start and stop it.

    ``writable`` is False where the ledgers were opened for reading, or another process writes them: then the jobs that
    write are left out (``left_out`` names them). ``ledgers`` names those that it is about; None: all, and those that
    are made later. ``on_alert`` is told of what people must look into, after it was logged.
    """

    def __init__(
        self,
        database: Database,
        control: Control,
        jobs: Sequence[Job | StandingJob],
        *,
        writable: bool = True,
        ledgers: Sequence[str] | None = None,
        holder: str = "",
        clock: Clock = system_clock,
        monotonic: Callable[[], float] = time.monotonic,
        lease_seconds: float = LEASE_SECONDS,
        metrics: Metrics | None = None,
        on_alert: Callable[[Alert], None] | None = None,
    ) -> None:
        self.holder = holder or new_holder()
        self.left_out = [job.name for job in jobs if job.writes and not writable]
        self._database = database
        self._control = control
        self._only = None if ledgers is None else set(ledgers)
        self._clock = clock
        self._monotonic = monotonic
        self._metrics = metrics
        self._tell = on_alert
        self._leases = Leases(control, self.holder, seconds=lease_seconds, monotonic=monotonic)
        done = [job for job in jobs if job.name not in self.left_out]
        self._lanes = [Lane(job, self.holder, monotonic) for job in done if isinstance(job, Job)]
        self._standing = [job for job in done if not isinstance(job, Job)]
        self._since: dict[str, str] = {}  # when each standing job began
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def names(self) -> list[str]:
        """The jobs that it does."""
        return [*(lane.job.name for lane in self._lanes), *(job.name for job in self._standing)]

    # ------------------------------------------------------------ starting and ending

    def start(self) -> Runner:
        """Begin, in the background."""
        if self._threads:
            return self
        self._stop.clear()
        self._leases.start()
        self._begin(self._watch, "ledgers")
        for lane in self._lanes:
            for _ in range(lane.job.at_once):
                self._begin(partial(self._work, lane), lane.job.name)
        for job in self._standing:
            self._begin(partial(self._stand, job), job.name)
        return self

    def _begin(self, work: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=work, name=f"tallystick job {name}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def stop(self, timeout_seconds: float = STOP_SECONDS) -> bool:
        """Have every job end at its next step, and give the leases back; whether all ended in time. The leases of those
        that did not run out by themselves."""
        self._stop.set()
        for lane in self._lanes:
            lane.wake()
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))
        ended = not any(thread.is_alive() for thread in self._threads)
        self._leases.stop()
        busy = set[str]().union(*(lane.busy() for lane in self._lanes)) if not ended else set[str]()
        for lane in self._lanes:
            for target in lane.targets():
                if target.lease_name not in busy and (row := target.folded.end()) is not None:
                    self._keep(row)
        self._leases.give_all_back(but=busy)
        self._threads = []
        return ended

    def __enter__(self) -> Runner:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    # ------------------------------------------------------------ what there is to do

    def _ledgers(self) -> list[str]:
        return [name for name in self._database.ledgers() if self._only is None or name in self._only]

    def _watch(self) -> None:
        """Look for new ledgers, and write down how the standing jobs stand."""
        written = self._monotonic()
        while True:
            try:
                self._look()
                if self._monotonic() - written >= STATUS_SECONDS:
                    written = self._monotonic()
                    self._keep_status()
            except Exception as error:  # the next look may do better
                self._mention("it was not looked for new ledgers", error)
            if self._stop.wait(LOOK_SECONDS):
                return

    def _look(self) -> None:
        ledgers = self._ledgers()
        for lane in self._lanes:
            lane.add([ALL] if lane.job.whole else ledgers)

    def _work(self, lane: Lane) -> None:
        """What each thread of a lane does."""
        while (target := lane.take(self._stop)) is not None:
            wait = LOOK_SECONDS
            try:
                wait = self._turn(target)
            except Exception as error:
                target.failures += 1
                wait = retry_seconds(LOOK_SECONDS, target.failures)
                self._mention(f"the job {target.job.name} had no turn for {target.ledger}", error)
            finally:
                lane.give_back(target, wait)

    # ------------------------------------------------------------ one turn

    def _turn(self, target: Target) -> float:
        """Do the job if it is due and no other process does it; how long until the next turn."""
        job = target.job
        if job.at and target.is_known and (left := self._left(target)) > 0:
            return min(left, LOOK_SECONDS)
        taken = self._leases.take(target.lease_name)
        if taken is None:
            return min(self._leases.renew_seconds, TRY_SECONDS)
        held, is_new = taken
        keeps = job.every_seconds < OFTEN_SECONDS and not job.at
        try:
            if is_new and (left := self._take_over(target, held)) > 0:
                return min(left, LOOK_SECONDS) if job.at else left
            outcome = self._run(target, held)
            if outcome is None:
                keeps = False  # another process may have more luck
                return retry_seconds(job.every_seconds, target.failures)
            if outcome.more:
                keeps = True
                return 0.0
            return LOOK_SECONDS if job.at else job.every_seconds
        except LeaseLost:
            _logger.warning("the lease %s was lost while the job was done", target.lease_name)
            return self._leases.renew_seconds
        except Stopped:
            return LOOK_SECONDS
        except BaseException:
            keeps = False
            raise
        finally:
            if not keeps:
                self._leases.give_back(held)

    def _left(self, target: Target) -> float:
        job = target.job
        if job.at and target.last is None and not target.since:
            target.since = self._beginning(target.ledger)
        return seconds_left(job.every_seconds, job.at, target.last, self._clock(), since=target.since)

    def _beginning(self, ledger: str) -> str:
        """When a ledger began: what is younger than a day need not be checked before the night. Nothing if that cannot
        be read, which is a reason to check it now."""
        if ledger == ALL:
            return ""
        try:
            first = self._database.ledger(ledger).events(limit=1)
        except (LedgerCorrupt, Archived):
            return ""
        return first[0].time if first else ""

    def _take_over(self, target: Target, held: Held) -> float:
        """Look what others did before; how long until the job is due. A run that is still under way there is none: its
        process died, or it would hold the lease."""
        newest = self._control.runs(job=target.job.name, ledger=target.ledger, limit=1)
        target.last = newest[0] if newest else None
        target.is_known = True
        if target.last is not None and target.last.outcome == "running":
            detail = cut(f"{target.last.holder or 'its process'} ended, or lost the lease, before the run was over")
            target.last = replace(target.last, outcome="failed", finished=self._clock(), detail=detail)
            self._control.keep_run(target.last)
        return self._left(target)

    def _run(self, target: Target, held: Held) -> Outcome | None:
        """One run, written down, which is the target's ``last`` then; None: it failed. Raises Interrupted."""
        job = target.job
        run = JobRun(job=job.name, ledger=target.ledger, started=self._clock(), holder=self.holder)
        shown = job.every_seconds >= OFTEN_SECONDS or bool(job.at)
        if shown:
            self._control.keep_run(run)
        outcome: Outcome | None = None
        try:
            outcome = job.run(self._context(job.name, target.ledger, lambda: held.holds))
        except Stopped as stopped:
            if shown:
                self._keep(replace(run, outcome="failed", finished=self._clock(), detail=cut(str(stopped))))
            raise
        except LeaseLost:
            target.folded.end()
            raise
        except Exception as error:
            run = self._failed(target, run, error)
        else:
            target.failures = 0
            run = replace(
                run,
                outcome=outcome.outcome,
                finished=self._clock(),
                detail=cut(outcome.detail),
                lag_seconds=round(outcome.lag_seconds, 3),
            )
        target.last = run
        if self._metrics is not None:
            self._metrics.job_ended(job.name, run.outcome)
        if outcome is None or shown:
            if (row := target.folded.end()) is not None:
                self._keep(row)
            self._keep(run)
        elif (row := target.folded.add(run, idle=not outcome.worked)) is not None:
            self._keep(row)
        return outcome

    def _failed(self, target: Target, run: JobRun, error: Exception) -> JobRun:
        target.failures += 1
        said = masked(str(error) or repr(error))
        self._mention(f"the job {run.job} failed for {run.ledger}", error)
        if target.failures == 1 and isinstance(error, (LedgerCorrupt, LogForked)):
            kind: Literal["fork", "damage"] = "fork" if isinstance(error, LogForked) else "damage"
            self._alert(Alert(kind, run.job, run.ledger, self._clock(), said, {"code": error.code}))
        return replace(run, outcome="failed", finished=self._clock(), detail=cut(said))

    def _context(self, job: str, ledger: str, may_go_on: Callable[[], bool] = lambda: True) -> Context:
        return Context(
            self._database,
            self._control,
            job,
            ledger,
            clock=self._clock,
            holder=self.holder,
            stop=self._stop,
            may_go_on=may_go_on,
            metrics=self._metrics,
            on_alert=self._alert,
        )

    # ------------------------------------------------------------ what is written down and told

    def _keep(self, run: JobRun) -> None:
        """A run that was done is done, also if that cannot be written down."""
        try:
            self._control.keep_run(run)
        except Exception as error:
            self._mention(f"a run of the job {run.job} for {run.ledger} was not written down", error)

    def _mention(self, what: str, error: Exception) -> None:
        surprise = None if isinstance(error, TallystickError) else error
        level = logging.WARNING if isinstance(error, Unavailable) else logging.ERROR
        _logger.log(level, "%s: %s", what, masked(str(error) or repr(error)), exc_info=surprise)

    def _alert(self, alert: Alert) -> None:
        _logger.critical("ALERT %s in %s: %s", alert.kind, alert.ledger, alert.summary)
        if self._tell is not None:
            try:
                self._tell(alert)
            except Exception as error:  # who cannot be told does not keep others from being told
                self._mention("an alert was not passed on", error)

    # ------------------------------------------------------------ standing jobs

    def _stand(self, job: StandingJob) -> None:
        failures = 0
        while not self._stop.is_set():
            began, started = self._monotonic(), self._clock()
            run = JobRun(job=job.name, ledger=ALL, started=started, holder=self.holder)
            self._since[job.name] = started
            self._keep(run)
            outcome, detail = "done", "it was told to end"
            try:
                job.stand(self._context(job.name, ALL))
            except Interrupted:
                pass
            except Exception as error:
                self._mention(f"the job {job.name} failed", error)
                outcome, detail = "failed", masked(str(error) or repr(error))
            failures = failures + 1 if self._monotonic() - began < LONG_SECONDS else 1
            del self._since[job.name]
            self._keep(replace(run, outcome=outcome, finished=self._clock(), detail=cut(detail)))
            if self._metrics is not None:
                self._metrics.job_ended(job.name, outcome)
            self._stop.wait(retry_seconds(LOOK_SECONDS, failures))

    def _keep_status(self) -> None:
        for job in self._standing:
            started = self._since.get(job.name)
            if started is None:
                continue
            found = job.status(self._context(job.name, ALL))
            if self._since.get(job.name) == started:
                run = JobRun(job=job.name, ledger=ALL, started=started, holder=self.holder)
                self._keep(replace(run, detail=cut(found.detail), lag_seconds=round(found.lag_seconds, 3)))

    # ------------------------------------------------------------ once

    def run_once(self) -> Once:
        """Do every job once, now, here, whether it is due or not; what another process is at is left to it.

        Raises Unavailable if the control store or the database does not answer at all.
        """
        done: list[JobRun] = []
        busy: list[tuple[str, str]] = []
        self._stop.clear()
        self._leases.start()
        try:
            self._look()
            for lane in self._lanes:
                for target in lane.targets():
                    run = self._do_now(target)
                    if run is None:
                        busy.append((target.job.name, target.ledger))
                    else:
                        done.append(run)
            done += [self._do_standing(job) for job in self._standing]
        except Stopped:
            pass
        finally:
            self._leases.stop()
            self._leases.give_all_back()
        return Once(done, busy)

    def interrupt(self) -> None:
        """Have ``run_once`` end at the next step of its job."""
        self._stop.set()

    def _do_now(self, target: Target) -> JobRun | None:
        if self._stop.is_set():
            raise Stopped("the process was told to end")
        taken = self._leases.take(target.lease_name)
        if taken is None:
            return None
        held, _ = taken
        try:
            self._take_over(target, held)
            outcome = self._run(target, held)
            while outcome is not None and outcome.more:
                outcome = self._run(target, held)
            return target.last
        except LeaseLost:
            return None
        finally:
            self._leases.give_back(held)

    def _do_standing(self, job: StandingJob) -> JobRun:
        run = JobRun(job=job.name, ledger=ALL, started=self._clock(), holder=self.holder)
        try:
            found = job.run(self._context(job.name, ALL))
        except Interrupted:
            raise
        except Exception as error:
            self._mention(f"the job {job.name} failed", error)
            run = replace(run, outcome="failed", detail=cut(masked(str(error) or repr(error))))
        else:
            run = replace(run, outcome=found.outcome, detail=cut(found.detail), lag_seconds=found.lag_seconds)
        run = replace(run, finished=self._clock())
        self._keep(run)
        return run
