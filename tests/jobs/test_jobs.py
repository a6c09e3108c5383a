"""What each job does, on every kind of store."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import tallystick
from tallystick.clock import add_seconds
from tallystick.control import Attempt, Delivery, Endpoint, JobRun
from tallystick.control.memory import MemoryControl
from tallystick.errors import InvalidInput, Unavailable
from tallystick.jobs import Context, Runner, standard_jobs
from tallystick.jobs import Options as JobOptions
from tallystick.jobs.deliveries import ENDPOINTS_PER_READ, Deliveries, enabled_endpoints
from tallystick.jobs.expiry import Expiry
from tallystick.jobs.partitions import MONTHS_AHEAD, Partitions
from tallystick.jobs.pruning import ATTEMPT_DAYS, RUN_DAYS, Pruning
from tallystick.jobs.snapshots import Snapshots
from tallystick.jobs.stores import postgres_of
from tallystick.ledger import Database
from tallystick.stores.postgres.periods import later, period_of
from tests.jobs.support import NOON, Time, eventually, run_once

USD = "USD/2"


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def database(url: str, time: Time) -> Iterator[Database]:
    """users:alice has 100.00 in the ledger main."""
    with tallystick.open(url, clock=time) as found:
        found.ledger("main").mint("users:alice", USD, 10_000, key="mint")
        yield found


# ---------------------------------------------------------------- expiry


def test_holds_whose_time_has_passed_are_given_back_and_others_stay(database: Database, time: Time) -> None:
    ledger = database.ledger("main")
    short = ledger.hold("users:alice", USD, 100, expires_in_seconds=10, key="short").id
    longer = ledger.hold("users:alice", USD, 200, expires_in_seconds=1_000, key="long").id
    time.move(60)
    found, _ = run_once(database, Expiry(), clock=time)
    assert [(hold.id, hold.state) for hold in ledger.locks()] == [(short, "expired"), (longer, "active")]
    assert (ledger.balance("users:alice", USD), ledger.balance("users:alice", USD, "held")) == (9_800, 200)
    assert found.runs[0].lag_seconds == pytest.approx(50, abs=1)
    assert "1 holds" in found.runs[0].detail


def test_expiry_goes_round_until_nothing_is_due(
    database: Database, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallystick.jobs.expiry.HOLDS_PER_ROUND", 2)
    monkeypatch.setattr("tallystick.jobs.expiry.ROUNDS_PER_RUN", 2)
    ledger = database.ledger("main")
    for number in range(7):
        ledger.hold("users:alice", USD, 1, expires_in_seconds=1, key=f"h{number}")
    time.move(60)
    run_once(database, Expiry(), clock=time)
    assert ledger.balance("users:alice", USD, "held") == 0
    assert ledger.due_holds(ledger.now(), 10) == []


def test_the_lag_is_that_of_the_hold_that_is_longest_overdue(database: Database, time: Time) -> None:
    ledger = database.ledger("main")
    ledger.hold("users:alice", USD, 1, expires_in_seconds=900, key="opened first")
    ledger.hold("users:alice", USD, 1, expires_in_seconds=100, key="opened second")
    time.move(1_000)
    found, _ = run_once(database, Expiry(), clock=time)
    assert found.runs[0].lag_seconds == pytest.approx(900, abs=1)


def test_expiry_of_nothing_writes_nothing(database: Database, time: Time) -> None:
    before = database.ledger("main").head
    found, _ = run_once(database, Expiry(), clock=time)
    assert database.ledger("main").head == before
    assert found.runs[0].lag_seconds == 0


def test_two_sweeps_at_once_give_a_hold_back_once(url: str, time: Time) -> None:
    with tallystick.open(url, clock=time) as database:
        ledger = database.ledger("main")
        ledger.mint("users:alice", USD, 100, key="mint")
        ledger.hold("users:alice", USD, 40, expires_in_seconds=1, key="h")
        time.move(60)
        run_once(database, Expiry(), clock=time, control=MemoryControl())
        run_once(database, Expiry(), clock=time, control=MemoryControl())  # it knows nothing of the first one's leases
        assert [event.type for event in ledger.events() if event.type == "hold_expire"] == ["hold_expire"]


# ---------------------------------------------------------------- snapshots, partitions, pruning


def test_a_snapshot_is_written_when_enough_was_posted(
    database: Database, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    store = database._store

    def snapshot(ledger: str) -> bool:
        asked.append(ledger)
        return len(asked) == 1

    monkeypatch.setattr(store, "snapshot", snapshot)
    first, _ = run_once(database, Snapshots(), clock=time)
    second, _ = run_once(database, Snapshots(), clock=time)
    assert asked == ["main", "main"]
    assert [run.detail for run in (*first.runs, *second.runs)] == ["wrote a snapshot", "none was due"]


def test_snapshots_run_on_every_store(database: Database, time: Time) -> None:
    found, _ = run_once(database, Snapshots(), clock=time)
    assert [run.outcome for run in found.runs] == ["done"]


def test_the_months_to_come_have_their_tables_before_they_begin(postgres: str) -> None:
    time = Time("2031-05-15T12:00:00.000000Z")
    with tallystick.open(postgres, clock=time) as database:
        store = postgres_of(database)
        assert store is not None
        found, _ = run_once(database, Partitions(), clock=time)
        assert found.runs[0].detail == "made 2031-05, 2031-06, 2031-07, 2031-08"
        assert found.runs[0].lag_seconds > 14 * 86_400  # the month was half over
        with store._source.using() as connection:
            for ahead in range(MONTHS_AHEAD + 1):
                period = later(period_of(time.now), ahead)
                assert connection.execute("SELECT to_regclass(%s)", [f"tallystick.entry_{period}"]).fetchone() != (
                    None,
                )
        again, _ = run_once(database, Partitions(), clock=time)
        assert again.runs[0].detail == "there are tables up to 2031-08"
        assert again.runs[0].lag_seconds == 0
        time.move(31 * 86_400)
        moved, _ = run_once(database, Partitions(), clock=time)
        assert (moved.runs[0].detail, moved.runs[0].lag_seconds) == ("made 2031-09", 0)


def test_there_are_no_partitions_elsewhere() -> None:
    with tallystick.open("memory://") as database:
        assert "partitions" not in [job.name for job in standard_jobs(database, JobOptions())]
        found, _ = run_once(database, Partitions())
        assert found.runs[0].outcome == "failed"


def test_what_is_old_is_forgotten_and_the_rest_stays() -> None:
    time = Time()
    control = MemoryControl(time)
    day = 86_400
    control.add_endpoint(Endpoint(id="e", ledger="main"))
    old, young = add_seconds(NOON, -(ATTEMPT_DAYS + 1) * day), add_seconds(NOON, -(ATTEMPT_DAYS - 1) * day)
    control.settle("e", attempts=[Attempt(endpoint="e", seq=n, number=1, time=t) for n, t in enumerate((old, young))])
    for days in (RUN_DAYS + 2, RUN_DAYS + 1, RUN_DAYS - 1):
        control.keep_run(JobRun(job="j", ledger="main", started=add_seconds(NOON, -days * day), outcome="done"))
    with tallystick.open("memory://", clock=time) as database:
        found, _ = run_once(database, Pruning(), control=control)
    assert [attempt.time for attempt in control.attempts("e")] == [young]
    assert len(control.runs(job="j")) == 1
    assert found.runs[0].detail == "forgot 1 tries to deliver and 2 runs"


# ---------------------------------------------------------------- deliveries


class Deliverer:
    """Says what it was asked to deliver."""

    problem = ""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.stood = False
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def run(self, stop: threading.Event) -> None:
        self.stood = True
        stop.wait()

    def run_once(self, endpoint_id: str) -> None:
        self.asked.append(endpoint_id)
        if endpoint_id == "broken":
            raise Unavailable(reason="no answer")


def test_deliveries_run_the_deliverer_until_the_end() -> None:
    deliverer = Deliverer()
    with (
        tallystick.open("memory://") as database,
        Runner(database, MemoryControl(), [Deliveries(lambda context: deliverer)]),
    ):
        eventually(lambda: deliverer.stood)
    assert deliverer.closed


def test_once_every_enabled_endpoint_has_its_turn_and_one_in_trouble_harms_no_other() -> None:
    deliverer, control = Deliverer(), MemoryControl()
    for id in ("broken", "good"):
        control.add_endpoint(Endpoint(id=id, ledger="main"))
    control.add_endpoint(Endpoint(id="off", ledger="main", state="disabled"))
    with tallystick.open("memory://") as database:
        found, _ = run_once(database, Deliveries(lambda context: deliverer), control=control)
    assert deliverer.asked == ["broken", "good"]
    assert "2 endpoints" in found.runs[0].detail
    assert "broken: the store did not answer: no answer" in found.runs[0].detail


def test_the_lag_of_deliveries_is_the_age_of_the_oldest_event_that_was_not_accepted() -> None:
    time = Time()
    control = MemoryControl(time)
    with tallystick.open("memory://", clock=time) as database:
        ledger = database.ledger("main")
        for number in range(3):
            ledger.mint("users:alice", USD, 1, key=f"{number}")
            time.move(100)
        context = Context(database, control, "deliveries", "*", clock=time, holder="h", stop=threading.Event())
        job = Deliveries(lambda context: Deliverer())
        head = ledger.head.seq
        control.add_endpoint(Endpoint(id="a", ledger="main", start=head))
        assert job.status(context).lag_seconds == 0
        control.add_endpoint(Endpoint(id="b", ledger="main", start=head - 1))
        assert job.status(context).lag_seconds == pytest.approx(100, abs=1)
        control.settle("a", deliveries=[Delivery(endpoint="a", seq=head - 2, lanes=("x",))])
        assert job.status(context).lag_seconds == pytest.approx(200, abs=1)
        assert job.status(context).detail == "2 endpoints, 2 behind"


def test_all_endpoints_are_found_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.jobs.deliveries.ENDPOINTS_PER_READ", 2)
    assert ENDPOINTS_PER_READ > 2
    for count in range(6):
        control = MemoryControl()
        for number in range(count):
            control.add_endpoint(Endpoint(id=f"e{number}", ledger="main"))
        assert len(list(enabled_endpoints(control))) == count


# ---------------------------------------------------------------- choosing


def test_the_jobs_that_there_is_work_for_are_chosen(database: Database) -> None:
    names = [job.name for job in standard_jobs(database, JobOptions(), lambda context: Deliverer())]
    always = ["expiry", "snapshots", "reconciliation", "deliveries", "pruning"]
    assert sorted(names) == sorted([*always, *(["partitions"] if postgres_of(database) else [])])


def test_those_that_were_named_are_chosen() -> None:
    with tallystick.open("memory://") as database:
        options = JobOptions(names=("pruning", "expiry"), every={"expiry": 9.0, "reconciliation": 70.0})
        assert [(job.name, getattr(job, "every_seconds", 0)) for job in standard_jobs(database, options)] == [
            ("expiry", 9.0),
            ("pruning", 3_600.0),
        ]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (JobOptions(names=("dusting",)), "there is no job 'dusting'"),
        (JobOptions(names=("checkpoints",)), "the folder with the homes"),
        (JobOptions(names=("partitions",)), "only PostgreSQL"),
        (JobOptions(names=("deliveries",)), "nobody who delivers"),
        (JobOptions(every={"dusting": 1.0}), "there is no job 'dusting'"),
        (JobOptions(every={"expiry": 0.0}), "are not between"),
        (JobOptions(every={"deliveries": 1.0}), "as events come"),
        (JobOptions(reconcile_at="25:00"), "no time of day"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_runs(options: JobOptions, problem: str) -> None:
    with tallystick.open("memory://") as database, pytest.raises(InvalidInput, match=problem):
        standard_jobs(database, options)
