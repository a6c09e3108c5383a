"""Jobs: what the service does by itself, how it went last, and the reports of reconciliations."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from tallystick.control.base import Control
from tallystick.control.records import KeptReport, Lease
from tallystick.errors import Closed, NotFound, Unavailable
from tallystick.jobs.reconciliation import document_of
from tallystick.service.calls import Call
from tallystick.service.later import NotYet
from tallystick.service.operations import Group
from tallystick.service.routes.accounts import Limit
from tallystick.wire.answers import Page
from tallystick.wire.fields import Cursor
from tallystick.wire.operators import (
    LeaseAnswer,
    ReportAnswer,
    ReportSummary,
    RunAnswer,
    lease_answer,
    report_answer,
    report_summary,
    run_answer,
)

JOBS = Group("Jobs and reports")

_REPORTS = "/v1/ledgers/{ledger}/reports"

LEASE_SECONDS = 60.0
"""After a process died, so long its reconciliation stands in the way of another."""
RENEW_SECONDS = 10.0
REPEATS_LOOKED_AT = 100
"""Among so many of the newest reports a repeated request finds its own."""

_at_work = threading.Lock()


# ---------------------------------------------------------------- jobs


class RunsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """``job``: only runs of this one."""

    job: str = ""
    limit: Limit = 100
    cursor: Cursor = ""


@JOBS.read("/v1/jobs", verb="audit", in_ledger=False, any_ledger=True, query=RunsQuery, answer=Page[RunAnswer])
def list_jobs(call: Call) -> Page[RunAnswer]:
    """The newest run of each job over each ledger that this key may audit as a whole."""
    place = call.page_place({"job": call.query.job}, call.query.cursor, "")
    job = place.filters["job"]
    runs = sorted(
        (f"{run.job}\n{run.ledger}", run)
        for run in call.service.control.last_runs()
        if job in ("", run.job) and call.principal.covers("audit", run.ledger, "")
    )
    found = [(name, run) for name, run in runs if name > place.after][: call.query.limit + 1]
    more = call.cursor(place, found[-2][0]) if len(found) > call.query.limit else ""
    return Page([run_answer(run) for _, run in found[: call.query.limit]], more)


class LeasesQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """By name."""

    limit: Limit = 100
    cursor: Cursor = ""


@JOBS.read("/v1/jobs/leases", verb="audit", whole=True, in_ledger=False, query=LeasesQuery, answer=Page[LeaseAnswer])
def list_leases(call: Call) -> Page[LeaseAnswer]:
    """Which process does what, of all that share the store."""
    place = call.page_place({}, call.query.cursor, "")
    behind = (lease for lease in call.service.control.leases() if lease.name > place.after)
    found = sorted(behind, key=lambda lease: lease.name)[: call.query.limit + 1]
    more = call.cursor(place, found[-2].name) if len(found) > call.query.limit else ""
    return Page([lease_answer(lease) for lease in found[: call.query.limit]], more)


# ---------------------------------------------------------------- reports


@JOBS.write(_REPORTS, verb="audit", whole=True, answer=ReportAnswer, status=201)
def reconcile(call: Call) -> ReportAnswer:
    """Replay the whole ledger now, compare it with all that is derived from it, and keep the report.

    It takes about as long as the ledger is large; one is done at a time, and another meanwhile is refused with
    ``reconciliation_under_way``. Repeated under the same idempotency key it answers the same report.
    """
    control, name = call.service.control, call.ledger_name
    asked = {"by": call.principal.source, "key": call.key}
    made = _made_before(control, name, asked)
    if made is not None:
        call.replayed = True
        return report_answer(made)
    with _alone(control, name) as lease:
        made = _made_before(control, name, asked)  # it may have ended just now
        if made is not None:
            call.replayed = True
            return report_answer(made)
        began = call.service.clock()
        report = call.service.database.replay(name, _Progress(call, lease).report)
        body = {**document_of(report, began, call.service.clock()), "asked": asked}
        id = control.keep_report(name, began, report.ok, body)
    call.service.metrics.replayed(name, report)
    return report_answer(KeptReport(id=id, ledger=name, time=began, ok=report.ok, body=body))


def _made_before(control: Control, ledger: str, asked: dict[str, str]) -> KeptReport | None:
    found = control.reports(ledger=ledger, limit=REPEATS_LOOKED_AT)
    return next((report for report in found if report.body.get("asked") == asked), None)


@contextmanager
def _alone(control: Control, ledger: str) -> Iterator[Lease]:
    """While no other reconciliation of the ledger is under way, nor any in this process. Raises NotYet."""
    busy = NotYet(409, "reconciliation_under_way", "another reconciliation is under way: ask again when it has ended")
    if not _at_work.acquire(blocking=False):
        raise busy
    try:
        lease = control.acquire(f"job:reconciliation:{ledger}", f"request {secrets.token_hex(8)}", LEASE_SECONDS)
        if lease is None:
            raise busy
        try:
            yield lease
        finally:
            control.release(lease)
    finally:
        _at_work.release()


class _Progress:
    """Renews the lease while a replay goes on, and ends the replay when the service stops."""

    def __init__(self, call: Call, lease: Lease) -> None:
        self._service = call.service
        self._lease = lease
        self._renewed = time.monotonic()

    def report(self, done: int, total: int) -> None:
        """Raises Closed, Unavailable."""
        if self._service.stopping:
            raise Closed()
        now = time.monotonic()
        if now - self._renewed >= RENEW_SECONDS:
            held = self._service.control.acquire(self._lease.name, self._lease.holder, LEASE_SECONDS)
            if held is None or held.token != self._lease.token:
                raise Unavailable(reason="another process is reconciling the ledger by now")
            self._renewed = now


class ReportsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Newest first."""

    limit: Limit = 100
    cursor: Cursor = ""


@JOBS.read(_REPORTS, verb="audit", whole=True, query=ReportsQuery, answer=Page[ReportSummary])
def list_reports(call: Call) -> Page[ReportSummary]:
    """The reconciliations of a ledger, newest first."""
    place, limit = call.page_place({}, call.query.cursor, ""), call.query.limit
    found = call.service.control.reports(ledger=call.ledger_name, before=int(place.after or 0), limit=limit)
    more = call.cursor(place, str(found[-1].id)) if len(found) == limit and found[-1].id > 1 else ""
    return Page([report_summary(report) for report in found], more)


@JOBS.read(f"{_REPORTS}/latest", verb="audit", whole=True, answer=ReportAnswer)
def get_latest_report(call: Call) -> ReportAnswer:
    """The newest report, whole: one JSON document."""
    found = call.service.control.reports(ledger=call.ledger_name, limit=1)
    if not found:
        raise NotFound(what="a report")
    return report_answer(found[0])


@JOBS.read(f"{_REPORTS}/{{report}}", verb="audit", whole=True, answer=ReportAnswer)
def get_report(call: Call) -> ReportAnswer:
    """A report, whole: one JSON document."""
    id = call.number("report")
    found = call.service.control.report(id)
    if found is None or found.ledger != call.ledger_name:
        raise NotFound(what=f"report {id}")
    return report_answer(found)
