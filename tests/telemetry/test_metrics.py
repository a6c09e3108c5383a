"""Metrics: what is counted is what happened, the number of series is bounded, and counting costs next to nothing."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct, field
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import tallystick
from tallystick import Posted
from tallystick.commands import Transfer
from tallystick.control.records import JobRun, KeptReport
from tallystick.errors import InsufficientFunds, Overloaded, Refusal, TallystickError, Unavailable, Unbalanced
from tallystick.ledger.views import Finding, Report
from tallystick.telemetry import metrics as module
from tallystick.telemetry import readings
from tallystick.telemetry.metrics import KEEP_SECONDS, MAX_LEDGERS, MAX_OPERATIONS, REFRESH_SECONDS, Metrics
from tallystick.telemetry.readings import MAX_LABEL_CHARACTERS, Readings

MAX_MICROSECONDS_PER_POSTING = 2.0


class Time:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What Prometheus would read."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((f"tallystick_{name}", frozenset(labels.items())))


def posted(seq: int, *, replayed: bool = False) -> Posted:
    return Posted("main", seq, "0" * 64, "2026-01-01T00:00:00.000000Z", replayed)


def test_each_outcome_is_counted_with_its_code() -> None:
    metrics = Metrics()
    results = [posted(1), posted(2), posted(0, replayed=True), InsufficientFunds(account="a"), Unbalanced()]
    metrics.postings("main", [*results, Unavailable(reason="gone")], 0.02)
    postings = "postings_total"
    assert value(metrics, postings, ledger="main", outcome="posted", code="") == 2
    assert value(metrics, postings, ledger="main", outcome="replayed", code="") == 1
    assert value(metrics, postings, ledger="main", outcome="refused", code="insufficient_funds") == 1
    assert value(metrics, postings, ledger="main", outcome="refused", code="unbalanced") == 1
    assert value(metrics, postings, ledger="main", outcome="failed", code="unavailable") == 1
    assert value(metrics, "unbalanced_rejects_total", ledger="main") == 1
    assert value(metrics, "idempotency_hits_total", ledger="main") == 1
    assert value(metrics, "ledger_events_total", ledger="main") == 3
    assert value(metrics, "posting_latency_seconds_count") == 1
    assert value(metrics, "posting_latency_seconds_sum") == pytest.approx(0.02)
    assert value(metrics, "batch_size_sum") == 6


RESULTS = st.lists(
    st.one_of(
        st.builds(posted, st.integers(0, 99), replayed=st.booleans()),
        st.sampled_from([InsufficientFunds(account="a"), Unbalanced(), Unavailable(reason="gone")]),
    ),
    max_size=12,
)


@given(st.lists(RESULTS, max_size=6))
def test_batches_of_any_make_are_counted_as_one_by_one(batches: list[list[Any]]) -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.know(["main"])
    expected: dict[tuple[str, str], int] = {}
    for batch in batches:
        metrics.postings("main", batch, 0.001)
        for result in batch:
            if isinstance(result, Posted):
                outcome = ("replayed" if result.replayed else "posted", "")
            else:
                outcome = ("refused" if isinstance(result, Refusal) else "failed", result.code)
            expected[outcome] = expected.get(outcome, 0) + 1
    found = {
        (dict(labels)["outcome"], dict(labels)["code"]): int(number)
        for (name, labels), number in samples(metrics).items()
        if name == "tallystick_postings_total" and number
    }
    assert found == expected


def test_a_call_that_came_to_nothing_counts_all_its_commands() -> None:
    metrics = Metrics()
    metrics.know(["main"])
    metrics.failed("main", Overloaded(queued=1, limit=1), 7, 0.001)
    assert value(metrics, "postings_total", ledger="main", outcome="failed", code="overloaded") == 7


def test_real_results_of_a_ledger_are_counted() -> None:
    metrics = Metrics()
    with tallystick.open("memory://") as database:
        ledger = database.ledger()
        ledger.mint("users:alice", "USD/2", 100, key="mint")
        commands = [
            Transfer(key=key, from_account="users:alice", to_account="users:bob", asset="USD/2", amount=60)
            for key in ("a", "a", "b")
        ]
        metrics.postings("main", ledger.post_many(commands), 0.001)
        stats = ledger.stats()
    assert value(metrics, "postings_total", ledger="main", outcome="posted", code="") == 1
    assert value(metrics, "postings_total", ledger="main", outcome="replayed", code="") == 1
    assert value(metrics, "postings_total", ledger="main", outcome="refused", code="insufficient_funds") == 1
    assert value(metrics, "ledger_events_total", ledger="main") == stats["events"]


def test_counting_a_batch_costs_less_than_two_microseconds_a_posting() -> None:
    metrics = Metrics()
    batch = [posted(seq) for seq in range(900)] + [posted(seq, replayed=True) for seq in range(60)]
    batch += [InsufficientFunds(account="a")] * 40  # type: ignore[list-item]
    best = float("inf")
    for _ in range(20):
        began = time.thread_time()
        metrics.postings("main", batch, 0.01)
        best = min(best, time.thread_time() - began)
    assert best / len(batch) * 1e6 < MAX_MICROSECONDS_PER_POSTING


def test_threads_lose_no_count() -> None:
    metrics = Metrics()
    batch = [posted(1), posted(2), InsufficientFunds(account="a")]

    def count() -> None:
        for _ in range(300):
            metrics.postings("main", batch, 0.001)
            metrics.request("post", 200, 0.001)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(metrics, "postings_total", ledger="main", outcome="posted", code="") == 2_400
    refused = sum(n for (name, labels), n in samples(metrics).items() if dict(labels).get("outcome") == "refused")
    assert refused == 1_200
    assert value(metrics, "http_requests_total", operation="post", status="200") == 1_200


# ---------------------------------------------------------------- bounded labels


def test_ledgers_beyond_the_limit_are_counted_as_other() -> None:
    metrics = Metrics()
    for number in range(MAX_LEDGERS + 5):
        metrics.postings(f"ledger-{number}", [posted(0)], 0.001)
    found = samples(metrics)
    ledgers = {dict(labels)["ledger"] for name, labels in found if name == "tallystick_postings_total"}
    assert len(ledgers) == MAX_LEDGERS + 1
    assert f"ledger-{MAX_LEDGERS - 1}" in ledgers
    assert value(metrics, "postings_total", ledger="other", outcome="posted", code="") == 5


def test_a_ledger_that_is_not_known_to_exist_gets_no_label() -> None:
    metrics = Metrics()
    for number in range(50):
        metrics.postings(f"guess-{number}", [InsufficientFunds(account="a")], 0.001)
        metrics.failed(f"guess-{number}", Unavailable(reason="gone"), 1, 0.001)
        metrics.postings(f"guess-{number}", [InsufficientFunds(account="a"), Unbalanced()], 0.001)
    assert value(metrics, "postings_total", ledger="other", outcome="refused", code="insufficient_funds") == 100
    assert b"guess" not in metrics.render()


def test_a_code_outside_the_error_tree_is_other() -> None:
    class Strange(Refusal):
        """strange"""

        code = "strange_{}"

    metrics = Metrics()
    metrics.know(["main"])
    metrics.postings("main", [Strange()], 0.001)
    assert value(metrics, "postings_total", ledger="main", outcome="refused", code="other") == 1
    assert b"strange" not in metrics.render()


def test_every_code_of_the_error_tree_is_counted_by_its_name() -> None:
    def kinds(kind: type[TallystickError]) -> list[type[TallystickError]]:
        found = [kind, *(more for child in kind.__subclasses__() for more in kinds(child))]
        return [kind for kind in found if kind.__module__ == "tallystick.errors"]

    metrics = Metrics()
    metrics.know(["main"])
    metrics.postings("main", [kind() for kind in kinds(TallystickError)], 0.001)
    codes = {dict(labels)["code"] for name, labels in samples(metrics) if name == "tallystick_postings_total"}
    assert codes == {"", *(kind.code for kind in kinds(TallystickError))}


def test_operations_and_statuses_beyond_the_limit_are_other() -> None:
    metrics = Metrics()
    for number in range(MAX_OPERATIONS):
        metrics.request(f"operation_{number}", 200, 0.001)
    metrics.request("one_more", 200, 0.001)
    metrics.request("operation_0", 799, 0.001)
    assert value(metrics, "http_requests_total", operation=f"operation_{MAX_OPERATIONS - 1}", status="200") == 1
    assert value(metrics, "http_requests_total", operation="other", status="200") == 1
    assert value(metrics, "http_requests_total", operation="operation_0", status="other") == 1


def test_endpoints_and_jobs_beyond_the_limit_are_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENDPOINTS", 2)
    monkeypatch.setattr(module, "MAX_JOBS", 1)
    metrics = Metrics()
    for endpoint in ("e1", "e2", "e3"):
        metrics.delivered(endpoint, "accepted", 3)
    metrics.delivered("e1", "what is this")
    metrics.job_ended("expiry", "done")
    metrics.job_ended("pruning", "mismatch")
    metrics.job_ended("expiry", "exploded")
    assert value(metrics, "deliveries_total", endpoint="e2", outcome="accepted") == 3
    assert value(metrics, "deliveries_total", endpoint="e2", outcome="dead") == 0  # so that its first one is a rise
    assert value(metrics, "deliveries_total", endpoint="other", outcome="accepted") == 3
    assert value(metrics, "deliveries_total", endpoint="e1", outcome="other") == 1
    assert value(metrics, "job_runs_total", job="expiry", outcome="done") == 1
    assert value(metrics, "job_runs_total", job="other", outcome="mismatch") == 1
    assert value(metrics, "job_runs_total", job="expiry", outcome="other") == 1


@pytest.mark.parametrize("length", [MAX_LABEL_CHARACTERS, MAX_LABEL_CHARACTERS + 1])
def test_a_label_has_so_many_characters_at_most(length: int) -> None:
    metrics = Metrics()
    metrics.request("x" * length, 200, 0.001)
    assert (b"x" * length in metrics.render()) is (length <= MAX_LABEL_CHARACTERS)


@given(st.text(max_size=20))
def test_a_hostile_label_breaks_no_line(name: str) -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.lag(name, 'a"} 1\nb', 3.0)
    metrics.request(name, 200, 0.1)
    assert value(metrics, "outbox_lag_seconds", ledger=name, endpoint='a"} 1\nb') == 3.0


# ---------------------------------------------------------------- readings


def test_a_lag_that_nobody_measures_any_more_is_not_shown() -> None:
    clock = Time()
    metrics = Metrics(monotonic=clock)
    metrics.lag("main", "e1", 400.0)
    metrics.replay_result("main", ok=False, findings=2)
    clock.now = KEEP_SECONDS
    assert value(metrics, "outbox_lag_seconds", ledger="main", endpoint="e1") == 400.0
    clock.now = KEEP_SECONDS + 0.1
    assert value(metrics, "outbox_lag_seconds", ledger="main", endpoint="e1") is None
    assert value(metrics, "replay_ok", ledger="main") == 0.0  # what was found does not mend itself


def test_a_removed_endpoint_has_no_lag() -> None:
    metrics = Metrics()
    metrics.lag("main", "e1", 5.0)
    metrics.lag("main", "e2", 6.0)
    metrics.forget_endpoint("main", "e1")
    assert value(metrics, "outbox_lag_seconds", ledger="main", endpoint="e1") is None
    assert value(metrics, "outbox_lag_seconds", ledger="main", endpoint="e2") == 6.0


def test_no_lag_is_below_zero() -> None:
    metrics = Metrics()
    metrics.lag("main", "e1", -0.5)
    metrics.checkpoint_lag("main", -2.0)
    assert value(metrics, "outbox_lag_seconds", ledger="main", endpoint="e1") == 0.0
    assert value(metrics, "checkpoint_lag_seconds", ledger="main") == 0.0


def make(limit: int, fold: Any = max, **settings: Any) -> Readings:
    return Readings("tallystick_test", "Test.", ("ledger",), limit=limit, fold=fold, **settings)


def test_readings_beyond_the_limit_are_folded_into_the_worst_of_them() -> None:
    found = make(2)
    for number, lag in enumerate([5.0, 6.0, 9.0, 7.0]):
        found.set((f"l{number}",), lag)
    assert found.shown() == {("l0",): 5.0, ("l1",): 6.0, ("other",): 9.0}
    found.set(("l2",), 1.0)
    assert found.shown()["other",] == 7.0  # it gets better as they do
    found.forget("l0")
    assert found.shown() == {("l1",): 6.0, ("l2",): 1.0, ("other",): 7.0}


def test_a_ledger_that_is_called_other_makes_no_second_series_of_that_name() -> None:
    found = make(2, sum)
    found.set(("other",), 4.0)
    found.set(("l1",), 1.0)
    assert found.shown() == {("l1",): 1.0, ("other",): 4.0}
    found.set(("other",), 2.0)
    assert found.shown()["other",] == 2.0
    metrics = Metrics()
    metrics.postings("other", [posted(1)], 0.001)
    assert value(metrics, "postings_total", ledger="other", outcome="posted", code="") == 1


@pytest.mark.parametrize("fold", [max, sum])
def test_beyond_what_is_remembered_the_worst_stands_for_all(monkeypatch: pytest.MonkeyPatch, fold: Any) -> None:
    monkeypatch.setattr(readings, "MAX_READINGS", 2)
    found = make(5, fold)
    for name, lag in [("l1", 1.0), ("l2", 2.0), ("l3", 9.0), ("l4", 3.0), ("l4", 3.0), ("l2", 1.0)]:
        found.set((name,), lag)
    assert found.shown() == {("l1",): 1.0, ("l2",): 1.0, ("other",): 9.0}


def test_what_only_rises_never_falls() -> None:
    metrics = Metrics()
    metrics.head("main", 10)
    metrics.head("main", 7)
    metrics.postings("main", [posted(3)], 0.001)
    assert value(metrics, "ledger_events_total", ledger="main") == 10
    metrics.postings("main", [posted(11), posted(12), posted(3, replayed=True)], 0.001)
    metrics.postings("main", [posted(8), posted(9)], 0.001)  # of a call that was answered later
    metrics.postings("main", [posted(10)], 0.001)
    assert value(metrics, "ledger_events_total", ledger="main") == 13


def test_coverage_that_is_not_known_is_not_shown() -> None:
    metrics = Metrics()
    metrics.coverage("main", "USD/2", 0.98)
    assert value(metrics, "coverage_ratio", ledger="main", asset="USD/2") == 0.98
    metrics.coverage("main", "USD/2", None)
    assert value(metrics, "coverage_ratio", ledger="main", asset="USD/2") is None


def test_an_imbalance_of_any_size_is_seen() -> None:
    metrics = Metrics()
    metrics.trial_balance("main", {"USD/2": 0, "EUR/2": -1, "BIG/0": 2**63 + 1})
    assert value(metrics, "ledger_imbalance", ledger="main", asset="USD/2") == 0
    assert value(metrics, "ledger_imbalance", ledger="main", asset="EUR/2") == -1
    assert value(metrics, "ledger_imbalance", ledger="main", asset="BIG/0") == 2.0**63


def test_a_replays_report_is_shown() -> None:
    metrics = Metrics()
    bad = Report("main", 3, 6, 2, 0.1, "0" * 64, [Finding("balance", "it is not what the journal says")])
    metrics.replayed("main", bad)
    assert value(metrics, "replay_ok", ledger="main") == 0
    assert value(metrics, "replay_findings", ledger="main") == 1
    metrics.replayed("main", Report("main", 3, 6, 2, 0.1, "0" * 64))
    assert value(metrics, "replay_ok", ledger="main") == 1
    assert value(metrics, "replay_findings", ledger="main") == 0


def run(job: str, outcome: str, finished: str = "2026-01-02T00:00:00.500000Z") -> JobRun:
    return JobRun(
        job=job,
        ledger="main",
        started="2026-01-02T00:00:00.000000Z",
        finished=finished,
        outcome=outcome,
        lag_seconds=3.5,
    )


def test_the_last_runs_of_jobs_are_shown() -> None:
    metrics = Metrics()
    metrics.runs(
        [run("expiry", "done"), run("pruning", "failed"), run("replay", "mismatch"), run("now", "running", "")]
    )
    success, failing = "job_last_success_timestamp_seconds", "job_failing"
    assert value(metrics, success, job="expiry", ledger="main") == 1_767_312_000.5
    assert value(metrics, failing, job="expiry", ledger="main") == 0
    assert value(metrics, "job_lag_seconds", job="expiry", ledger="main") == 3.5
    assert value(metrics, success, job="pruning", ledger="main") is None
    assert value(metrics, failing, job="pruning", ledger="main") == 1
    assert value(metrics, success, job="replay", ledger="main") is not None
    assert value(metrics, failing, job="now", ledger="main") is None


def test_a_failure_leaves_the_last_success_where_it_was() -> None:
    metrics = Metrics()
    metrics.runs([run("expiry", "done")])
    metrics.runs([run("expiry", "failed", "2026-01-03T00:00:00.000000Z")])
    assert value(metrics, "job_last_success_timestamp_seconds", job="expiry", ledger="main") == 1_767_312_000.5
    assert value(metrics, "job_failing", job="expiry", ledger="main") == 1


class Records(Struct):
    """The operator's records, as far as they are asked."""

    found: list[JobRun] = field(default_factory=list)
    kept: list[KeptReport] = field(default_factory=list)
    asked: int = 0

    def last_runs(self) -> list[JobRun]:
        self.asked += 1
        return self.found

    def reports(self, *, ledger: str = "", before: int = 0, limit: int = 100) -> list[KeptReport]:
        newest = sorted((report for report in self.kept if report.ledger == ledger), key=lambda report: -report.id)
        return newest[:limit]


def test_a_process_that_was_just_started_shows_what_others_found() -> None:
    clock = Time()
    metrics = Metrics(monotonic=clock)
    time = "2026-01-02T00:00:00.000000Z"
    records = Records(
        [run("expiry", "done")],
        [
            KeptReport(id=1, ledger="main", time=time, ok=True, body={"findings": []}),
            KeptReport(id=2, ledger="main", time=time, ok=False, body={"findings": [{}, {}]}),
            KeptReport(id=3, ledger="second", time=time, ok=False, body={}),
        ],
    )
    assert metrics.refresh(records, ["main", "second", "third"])
    assert value(metrics, "replay_ok", ledger="main") == 0
    assert value(metrics, "replay_findings", ledger="main") == 2
    assert value(metrics, "replay_findings", ledger="second") == 1
    assert value(metrics, "replay_ok", ledger="third") is None
    clock.now = REFRESH_SECONDS - 0.1
    assert not metrics.refresh(records, ["main"])
    records.kept.append(KeptReport(id=4, ledger="main", time=time, ok=True, body={"findings": []}))
    clock.now = REFRESH_SECONDS
    assert metrics.refresh(records, ["main"])
    assert value(metrics, "replay_ok", ledger="main") == 1
    assert records.asked == 2


# ---------------------------------------------------------------- as a whole


@given(st.lists(st.one_of(st.sampled_from(module.SECONDS), st.floats(0, 20)), max_size=20))
def test_latencies_are_spread_as_prometheus_clients_own_histogram_spreads_them(seconds: list[float]) -> None:
    judge = CollectorRegistry()
    expected = Histogram("tallystick_posting_latency_seconds", "Test.", buckets=module.SECONDS, registry=judge)
    metrics = Metrics(CollectorRegistry())
    for value in seconds:
        expected.observe(value)
        metrics.posting_latency_seconds.observe(value)
    prefix = b"tallystick_posting_latency_seconds_"
    found = [line for line in metrics.render().splitlines() if line.startswith(prefix)]
    assert found == [line for line in generate_latest(judge).splitlines() if line.startswith(prefix)]


def test_two_services_in_one_process_do_not_mix() -> None:
    first, second = Metrics(), Metrics()
    first.postings("main", [posted(0)], 0.001)
    assert value(second, "postings_total", ledger="main", outcome="posted", code="") is None


def test_every_name_begins_alike_and_none_says_when_it_was_made() -> None:
    metrics = Metrics()
    metrics.request("get", 200, 0.1)
    names = {name for name, _ in samples(metrics)}
    assert all(re.fullmatch(r"(tallystick|process)_[a-z0-9_]+", name) for name in names)
    assert not [name for name in names if name.endswith("_created")]
