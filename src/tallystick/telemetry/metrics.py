"""Metrics: what a process of the service counts and measures, in Prometheus' text form.

Every name begins with ``tallystick_``. Each process exposes its own figures at its own ``/metrics``: counters are added
up over processes by whoever reads them (``sum``), while what is known of the whole ledger (its lags, its last replay)
is the same fact from every process, and is read by ``max`` or ``min``. docs/operations.md lists them all.

The number of series is bounded. A label is a ledger, an operation, an endpoint, a job, or an error's code; what comes
beyond the limit of its kind is counted as ``other``. A ledger gets a name of its own here once it is known to exist,
so that nobody can fill the table by asking for ledgers that are not there.

Counting is done while postings wait for it, so it works on whole batches: it costs a fraction of a microsecond for
each of them, and as many locks as there are different outcomes.
"""

from __future__ import annotations

import importlib.metadata
import threading
import time
from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from itertools import islice
from operator import attrgetter
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from tallystick.errors import Refusal, TallystickError, Unbalanced
from tallystick.telemetry.readings import OTHER, Distribution, Readings, bounded

MAX_LEDGERS = 500
"""Ledgers that are counted by name."""
MAX_OPERATIONS = 300
MAX_ENDPOINTS = 500
MAX_JOBS = 1_000
"""Pairs of a job and a ledger."""
REFRESH_SECONDS = 30.0
"""How often, at most, the operator's records are asked for what all processes show."""
MAX_ASSETS = 1_000
"""Pairs of a ledger and an asset."""

KEEP_SECONDS = 900.0
"""How long a lag or a depth is shown after it was last measured: alerts wait for 5 minutes, so it must be longer."""

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""Of what ``render`` gives."""

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
OUTCOMES_OF_DELIVERIES = frozenset({"accepted", "failed", "dead", "disabled"})
OUTCOMES_OF_JOBS = frozenset({"done", "failed", "mismatch"})

_STATUSES = frozenset(map(int, HTTPStatus)) | {499}
_is_replayed = attrgetter("replayed")


class _Run(Protocol):
    """Of control's JobRun what is shown."""

    @property
    def job(self) -> str: ...
    @property
    def ledger(self) -> str: ...
    @property
    def finished(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def lag_seconds(self) -> float: ...


class _Checked(Protocol):
    """Of a replay's Report what is shown."""

    @property
    def ok(self) -> bool: ...
    @property
    def findings(self) -> Collection[object]: ...


class _Kept(Protocol):
    """Of control's KeptReport what is shown."""

    @property
    def ok(self) -> bool: ...
    @property
    def body(self) -> Mapping[str, Any]: ...


class _Control(Protocol):
    """Of the operator's records what is asked here."""

    def last_runs(self) -> Iterable[_Run]: ...
    def reports(self, *, ledger: str, limit: int) -> Sequence[_Kept]: ...


class _Known:
    """The values that a label may have: a first so many, and ``other``."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: set[str] = set()

    def admit(self, value: str) -> str:
        """The value itself if there is room for it."""
        if value in self._values:
            return value
        if len(self._values) >= self._limit or bounded(value) == OTHER:
            return OTHER
        self._values.add(value)
        return value


class _Outcomes:
    """The counters of one ledger, at hand."""

    __slots__ = ("by_error", "events", "hits", "ledger", "posted", "replayed", "unbalanced")

    def __init__(self, metrics: Metrics, ledger: str) -> None:
        self.ledger = ledger
        self.events = 0
        self.posted = metrics.postings_total.labels(ledger, "posted", "")
        self.replayed = metrics.postings_total.labels(ledger, "replayed", "")
        self.hits = metrics.idempotency_hits_total.labels(ledger)
        self.unbalanced = metrics.unbalanced_rejects_total.labels(ledger)
        self.by_error: dict[type[TallystickError], Counter] = {}


class Metrics:
    """The metrics of one process. Safe to use from any number of threads.

    They live in a registry of their own unless one is given, so that two services in one process do not mix. The
    names of ledgers, endpoints and jobs are shown to whoever may read ``/metrics``; nothing else of a ledger's
    contents is, but for how many events it has and how well its reserves cover it.
    """

    def __init__(
        self, registry: CollectorRegistry | None = None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for every counter, which says when its process was started
        self._lock = threading.Lock()
        self._monotonic = monotonic
        self._ledgers: dict[str, _Outcomes] = {}
        self._operations = _Known(MAX_OPERATIONS)
        self._endpoints = _Known(MAX_ENDPOINTS)
        self._jobs = _Known(MAX_JOBS)
        self._deliveries: dict[str, dict[str, Counter]] = {}
        self._refreshed: float | None = None
        self._requests: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._codes = _codes_of(TallystickError)
        self._owns_registry = registry is None
        self.registry = CollectorRegistry() if registry is None else registry
        self._make_counters()
        self._make_readings()
        self._rest = _Outcomes(self, OTHER)

    def _make_counters(self) -> None:
        if self._owns_registry:
            ProcessCollector(registry=self.registry)
        Gauge("tallystick_build_info", "1, for each process.", ("version",), registry=self.registry).labels(
            importlib.metadata.version("tallystick")
        ).set(1)
        self.postings_total = self._counter(
            "postings_total", "Commands that were decided, by outcome and error code.", "ledger", "outcome", "code"
        )
        self.posting_latency_seconds = self._distribution(
            "posting_latency_seconds", "How long a call that posts took, until it was durable.", SECONDS
        )
        self.batch_size = self._distribution("batch_size", "Commands in one call that posts.", SIZES)
        self.unbalanced_rejects_total = self._counter(
            "unbalanced_rejects_total", "Commands refused because their legs do not add up.", "ledger"
        )
        self.idempotency_hits_total = self._counter(
            "idempotency_hits_total", "Commands that had been posted before, under the same key.", "ledger"
        )
        self.http_requests_total = self._counter(
            "http_requests_total", "HTTP requests answered.", "operation", "status"
        )
        self.http_request_seconds = self._histogram(
            "http_request_seconds", "How long an HTTP request took.", SECONDS, "operation"
        )
        self.deliveries_total = self._counter(
            "deliveries_total", "Tries to deliver an event, by outcome.", "endpoint", "outcome"
        )
        self.job_runs_total = self._counter("job_runs_total", "Runs of jobs in this process.", "job", "outcome")
        self.log_records_lost_total = self._counter("log_records_lost_total", "Log lines that could not be written.")

    def _make_readings(self) -> None:
        lag: dict[str, Any] = {"fold": max, "keep_seconds": KEEP_SECONDS}
        self.outbox_lag_seconds = self._reading(
            "outbox_lag_seconds",
            "Age of the oldest event that an endpoint has not accepted.",
            ("ledger", "endpoint"),
            limit=MAX_ENDPOINTS,
            **lag,
        )
        self.checkpoint_lag_seconds = self._reading(
            "checkpoint_lag_seconds", "Age of the oldest event under no checkpoint.", ("ledger",), **lag
        )
        self.queue_depth = self._reading(
            "queue_depth", "Commands that wait for a ledger's writer.", ("ledger",), fold=sum, keep_seconds=KEEP_SECONDS
        )
        self.ledger_events_total = self._reading(
            "ledger_events", "Events in a ledger's journal.", ("ledger",), fold=sum, rising=True
        )
        self.ledger_imbalance = self._reading(
            "ledger_imbalance",
            "What all balances of an asset add up to, in minor units; anything but 0 is a defect.",
            ("ledger", "asset"),
            limit=MAX_ASSETS,
            fold=_farthest,
        )
        self.coverage_ratio = self._reading(
            "coverage_ratio", "Eligible reserves over what is outstanding.", ("ledger", "asset"), limit=MAX_ASSETS,
            fold=min,
        )  # fmt: skip
        self.replay_ok = self._reading(
            "replay_ok", "1 if the last replay found nothing, 0 if it did.", ("ledger",), fold=min
        )
        self.replay_findings = self._reading(
            "replay_findings", "What the last replay found to be wrong.", ("ledger",), fold=sum
        )
        self.job_last_success_timestamp = self._reading(
            "job_last_success_timestamp_seconds", "When a job last ended well.", ("job", "ledger"), limit=MAX_JOBS,
            fold=min,
        )  # fmt: skip
        self.job_failing = self._reading(
            "job_failing", "1 if the last run of a job failed, else 0.", ("job", "ledger"), limit=MAX_JOBS, fold=max
        )
        self.job_every_seconds = self._reading(
            "job_every_seconds", "How often a job is meant to run.", ("job",), limit=MAX_JOBS, fold=max
        )
        self.job_lag_seconds = self._reading(
            "job_lag_seconds", "How far behind a job was as it last began.", ("job", "ledger"), limit=MAX_JOBS,
            fold=max,
        )  # fmt: skip

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"tallystick_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"tallystick_{name}", meaning, labels, buckets=buckets, registry=self.registry)

    def _distribution(self, name: str, meaning: str, bounds: Sequence[float]) -> Distribution:
        made = Distribution(f"tallystick_{name}", meaning, bounds)
        self.registry.register(made)
        return made

    def _reading(
        self, name: str, meaning: str, labels: tuple[str, ...], *, limit: int = MAX_LEDGERS, **settings: Any
    ) -> Readings:
        reading = Readings(f"tallystick_{name}", meaning, labels, limit=limit, monotonic=self._monotonic, **settings)
        self.registry.register(reading)
        return reading

    # ------------------------------------------------------------ postings

    def know(self, ledgers: Iterable[str]) -> None:
        """These ledgers exist: what is refused there is counted under their names too."""
        for ledger in ledgers:
            self._admit(ledger)

    def postings(self, ledger: str, results: Sequence[object], seconds: float) -> None:
        """The results (Posted, Refusal, Fault) of one call that posts, and how long it took until they were durable.

        A ledger gets its name as a label with the first result that says it exists.
        """
        self.posting_latency_seconds.observe(seconds)
        self.batch_size.observe(len(results))
        outcomes = self._ledgers.get(ledger)
        if len(results) == 1:
            self._count_one(ledger, outcomes, results[0])
            return
        kinds = Tally(map(type, results))
        if outcomes is None:
            exists = not all(issubclass(kind, TallystickError) for kind in kinds)
            outcomes = self._admit(ledger) if exists else self._rest
        for kind, number in kinds.items():
            if issubclass(kind, TallystickError):
                self._count_errors(outcomes, kind, number)
            else:
                posted = results if number == len(results) else [result for result in results if type(result) is kind]
                self._count_posted(outcomes, posted)

    def failed(self, ledger: str, error: TallystickError, commands: int, seconds: float) -> None:
        """A whole call of so many commands came to nothing."""
        self.posting_latency_seconds.observe(seconds)
        self.batch_size.observe(commands)
        self._count_errors(self._ledgers.get(ledger) or self._rest, type(error), commands)

    def _count_one(self, ledger: str, outcomes: _Outcomes | None, result: Any) -> None:
        """A single result, as most calls have: nothing is gathered for it."""
        if isinstance(result, TallystickError):
            self._count_errors(outcomes or self._rest, type(result), 1)
            return
        outcomes = outcomes or self._admit(ledger)
        if result.replayed:
            outcomes.replayed.inc()
            outcomes.hits.inc()
        else:
            outcomes.posted.inc()
            if result.seq >= outcomes.events:
                outcomes.events = result.seq + 1

    def _count_posted(self, outcomes: _Outcomes, results: Sequence[Any]) -> None:
        replayed = sum(map(_is_replayed, results))
        if replayed:
            outcomes.replayed.inc(replayed)
            outcomes.hits.inc(replayed)
        if replayed == len(results):
            return
        outcomes.posted.inc(len(results) - replayed)
        for result in reversed(results):  # those of one call are in order, so the last new one is the ledger's end
            if not result.replayed:
                outcomes.events = max(outcomes.events, result.seq + 1)
                return

    def _count_errors(self, outcomes: _Outcomes, kind: type[TallystickError], number: int) -> None:
        counter = outcomes.by_error.get(kind)
        if counter is None:
            counter = self._error_counter(outcomes, kind)
        counter.inc(number)
        if kind is Unbalanced:
            outcomes.unbalanced.inc(number)

    def _error_counter(self, outcomes: _Outcomes, kind: type[TallystickError]) -> Counter:
        outcome = "refused" if issubclass(kind, Refusal) else "failed"
        code = kind.code if kind.code in self._codes else OTHER
        counter = outcomes.by_error[kind] = self.postings_total.labels(outcomes.ledger, outcome, code)
        return counter

    def _admit(self, ledger: str) -> _Outcomes:
        """The counters of a ledger that exists; those of all the others, if there is no more room."""
        with self._lock:
            found = self._ledgers.get(ledger)
            if found is not None:
                return found
            if len(self._ledgers) >= MAX_LEDGERS or bounded(ledger) == OTHER or ledger == OTHER:
                return self._rest
            self._ledgers[ledger] = made = _Outcomes(self, ledger)
            return made

    # ------------------------------------------------------------ requests, deliveries, jobs

    def request(self, operation: str, status: int, seconds: float) -> None:
        """An HTTP request was answered. ``operation`` is the operation's id, never a path."""
        found = self._requests.get((operation, status))
        if found is None:
            found = self._request_counters(operation, status)
        found[0].inc()
        found[1].observe(seconds)

    def _request_counters(self, operation: str, status: int) -> tuple[Counter, Histogram]:
        with self._lock:
            name = self._operations.admit(operation)
            text = str(status) if status in _STATUSES else OTHER
            found = (self.http_requests_total.labels(name, text), self.http_request_seconds.labels(name))
            if name == operation and text != OTHER:
                self._requests[operation, status] = found
        return found

    def delivered(self, endpoint: str, outcome: str, number: int = 1) -> None:
        """So many tries ended: ``accepted``, ``failed`` (another follows), ``dead`` (none does), ``disabled``."""
        counters = self._deliveries.get(endpoint)
        if counters is None:
            counters = self._delivery_counters(endpoint)
        counters[outcome if outcome in OUTCOMES_OF_DELIVERIES else OTHER].inc(number)

    def _delivery_counters(self, endpoint: str) -> dict[str, Counter]:
        """All outcomes at once, from 0 on: a series that begins with its first event would not be seen to rise."""
        with self._lock:
            name = self._endpoints.admit(endpoint)
            counters = {
                outcome: self.deliveries_total.labels(name, outcome) for outcome in (*OUTCOMES_OF_DELIVERIES, OTHER)
            }
            if name == endpoint:
                self._deliveries[endpoint] = counters
        return counters

    def job_schedule(self, job: str, every_seconds: float) -> None:
        """How often a job is meant to run, wherever it does: what it is judged by if it did not."""
        self.job_every_seconds.set((job,), every_seconds)

    def job_ended(self, job: str, outcome: str) -> None:
        """A run of a job ended in this process: ``done``, ``failed`` or ``mismatch``."""
        with self._lock:
            name = self._jobs.admit(job)
        self.job_runs_total.labels(name, outcome if outcome in OUTCOMES_OF_JOBS else OTHER).inc()

    def runs(self, runs: Iterable[_Run]) -> None:
        """The newest run of each job and ledger, as ``control.last_runs()`` gives them: every process shows them all.

        A run that is under way changes nothing. One that found a mismatch ended well as a job.
        """
        for run in runs:
            place = (run.job, run.ledger)
            self.job_lag_seconds.set(place, max(run.lag_seconds, 0.0))
            if not run.finished:
                continue
            self.job_failing.set(place, float(run.outcome == "failed"))
            if run.outcome in ("done", "mismatch"):
                self.job_last_success_timestamp.set(place, _unix_seconds(run.finished))

    # ------------------------------------------------------------ what is known of a ledger

    def lag(self, ledger: str, endpoint: str, seconds: float) -> None:
        """How old the oldest event is that an endpoint has not accepted; 0 if it has them all."""
        self.outbox_lag_seconds.set((ledger, endpoint), max(seconds, 0.0))

    def forget_endpoint(self, ledger: str, endpoint: str) -> None:
        """An endpoint was removed or disabled, or another process delivers to it now."""
        self.outbox_lag_seconds.forget(ledger, endpoint)

    def checkpoint_lag(self, ledger: str, seconds: float) -> None:
        """How old the oldest event is that no checkpoint covers; 0 if there is none."""
        self.checkpoint_lag_seconds.set((ledger,), max(seconds, 0.0))

    def queue(self, ledger: str, commands: int) -> None:
        """How many commands wait for a ledger's writer."""
        self.queue_depth.set((ledger,), commands)

    def head(self, ledger: str, events: int) -> None:
        """How many events a ledger has: its next sequence number."""
        self.ledger_events_total.set((ledger,), events)

    def replayed(self, ledger: str, report: _Checked) -> None:
        """A replay has ended. It is shown until the next one ends, in this process."""
        self.replay_result(ledger, ok=report.ok, findings=len(report.findings))

    def replay_result(self, ledger: str, *, ok: bool, findings: int) -> None:
        """The newest result that is kept, so that every process shows it, and a restart does not silence an alert."""
        self.replay_ok.set((ledger,), float(ok))
        self.replay_findings.set((ledger,), findings)

    def refresh(self, control: _Control, ledgers: Iterable[str]) -> bool:
        """Show what the operator's records know: the last runs of jobs, and each ledger's newest replay.

        Called before ``render`` in every process, it makes all of them show the same, and a restart does not silence
        an alert. It asks only every REFRESH_SECONDS, and says whether it did; what ``control`` raises is raised.
        """
        now = self._monotonic()
        with self._lock:
            if self._refreshed is not None and now - self._refreshed < REFRESH_SECONDS:
                return False
            self._refreshed = now
        self.runs(control.last_runs())
        for ledger in islice(ledgers, MAX_LEDGERS):
            for report in control.reports(ledger=ledger, limit=1):
                found = report.body.get("findings", ())
                number = len(found) if isinstance(found, (list, tuple)) else 0
                self.replay_result(ledger, ok=report.ok, findings=number if report.ok else max(number, 1))
        return True

    def trial_balance(self, ledger: str, totals: Mapping[str, int]) -> None:
        """What the balances of each asset add up to; all of them 0 unless there is a defect."""
        for asset, total in totals.items():
            self.ledger_imbalance.set((ledger, asset), float(total))

    def coverage(self, ledger: str, asset: str, ratio: float | None) -> None:
        """Eligible reserves over what is outstanding; None, as with nothing outstanding: it is not shown."""
        if ratio is None:
            self.coverage_ratio.forget(ledger, asset)
        else:
            self.coverage_ratio.set((ledger, asset), ratio)

    def render(self) -> bytes:
        """All of it in Prometheus' text form, of type ``CONTENT_TYPE``."""
        with self._lock:
            ledgers = list(self._ledgers.values())
        for outcomes in ledgers:
            if outcomes.events:
                self.head(outcomes.ledger, outcomes.events)
        return generate_latest(self.registry)


def _codes_of(kind: type[TallystickError]) -> frozenset[str]:
    """The codes of the error tree, as it stands in tallystick.errors."""
    codes = {kind.code} if kind.__module__ == TallystickError.__module__ else set()
    return frozenset(codes.union(*map(_codes_of, kind.__subclasses__())))


def _farthest(values: Iterable[float]) -> float:
    """The value that is farthest from 0."""
    return max(values, key=abs)


def _unix_seconds(time: str) -> float:
    """A journal time as seconds since 1970."""
    return datetime.fromisoformat(time).timestamp()
