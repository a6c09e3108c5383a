"""Nightly reconciliation: the whole ledger is replayed from its events and compared with all that is derived from them.

The report is kept whatever it says, and can be written out as one JSON document. What was found is a ``mismatch``, of
which people are told; a replay that could not be done (the store does not answer, or it is posted to faster than it can
be replayed) is a failure, which is tried again.

A replay keeps a processor busy for minutes. In the process of a service that would make everybody wait, so it is done
in a process of its own where the store can be opened twice.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tallystick.errors import TallystickError
from tallystick.jobs.job import Context, Outcome, seconds_between
from tallystick.jobs.replaying import replay_apart
from tallystick.jobs.runs import cut
from tallystick.jobs.schedule import check_at
from tallystick.ledger.audit import MAX_FINDINGS
from tallystick.ledger.views import Report

REPORT_FORMAT = "tallystick.reconciliation.v1"
AT = "03:00"
"""UTC."""
MAX_FINDING_CHARACTERS = 2_000
SHOWN_FINDINGS = 3
_DAY_SECONDS = 86_400.0


class Reconciliation:
    """Replays each ledger every day at a time of UTC, one after the other.

    With the ``url`` of the database it is done in a process of its own. Its lag is how long ago the ledger was last
    reconciled, less a day.
    """

    name = "reconciliation"
    every_seconds = _DAY_SECONDS
    writes = False
    whole = False
    at_once = 1

    def __init__(self, at: str = AT, *, url: str = "", every_seconds: float = 0.0) -> None:
        self.at = "" if every_seconds else check_at(at)
        self.every_seconds = every_seconds or _DAY_SECONDS
        self._url = url

    def run(self, context: Context) -> Outcome:
        name, began = context.ledger_name, context.clock()
        lag = self._lag(context, began)
        report = self._replay(context)
        context.check()  # else another process will report
        body = document_of(report, began, context.clock())
        id = context.control.keep_report(name, began, report.ok, body)
        if context.metrics is not None:
            context.metrics.replayed(name, report)
            self._measure_balances(context)
        counts = f"{report.events:,} events, {report.entries:,} entries, {report.balances:,} balances"
        if report.ok:
            return Outcome(f"report {id}: {counts}, all as the journal says", lag)
        first = "; ".join(f"{cut(one.where)}: {cut(one.problem)}" for one in report.findings[:SHOWN_FINDINGS])
        count = f"{len(report.findings)} findings" + (" or more" if len(report.findings) >= MAX_FINDINGS else "")
        summary = f"report {id}: {count} in {counts}: {first}"
        context.alert("mismatch", summary, report=id, findings=len(report.findings))
        return Outcome(summary, lag, "mismatch")

    def _replay(self, context: Context) -> Report:
        if self._url:
            return replay_apart(self._url, context.ledger_name, context.check)
        return context.database.replay(context.ledger_name, lambda done, total: context.check())

    def _lag(self, context: Context, now: str) -> float:
        kept = context.control.reports(ledger=context.ledger_name, limit=1)
        return max(seconds_between(kept[0].time, now) - self.every_seconds, 0.0) if kept else 0.0

    def _measure_balances(self, context: Context) -> None:
        """That the balances of each asset add up to zero, as they are read."""
        try:
            totals = context.ledger.trial_balance().totals
        except TallystickError:
            return  # the report says what is wrong
        if context.metrics is not None:
            context.metrics.trial_balance(context.ledger_name, totals)


def document_of(report: Report, began: str, ended: str) -> dict[str, Any]:
    """A report as the JSON document that is kept and written out.

    ``head`` is where the ledger stood: how many events it had, and the leaf hash of the last, by which anybody who has
    the journal, a receipt or a checkpoint knows what was checked. At most ``findings_limit`` findings are listed.
    """
    findings = [
        {"where": cut(finding.where, MAX_FINDING_CHARACTERS), "problem": cut(finding.problem, MAX_FINDING_CHARACTERS)}
        for finding in report.findings[:MAX_FINDINGS]
    ]
    body = {
        "format": REPORT_FORMAT,
        "ledger": report.ledger,
        "began": began,
        "ended": ended,
        "ok": report.ok,
        "head": {"seq": report.events, "hash": report.head},
        "counts": {"events": report.events, "entries": report.entries, "balances": report.balances},
        "seconds": round(report.seconds, 3),
        "findings": findings,
        "findings_limit": MAX_FINDINGS,
    }
    found: dict[str, Any] = msgspec.to_builtins(body)
    return found
