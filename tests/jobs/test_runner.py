"""The runner: every job over every ledger, one leader each, and nothing that goes wrong ends it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

import tallystick
from tallystick.clock import add_seconds
from tallystick.control import JobRun, Lease
from tallystick.control.memory import MemoryControl
from tallystick.errors import LedgerCorrupt, LogForked, Unavailable
from tallystick.jobs import Alert, Context, LeaseLost, Outcome, Runner, Stopped
from tallystick.jobs.job import ALL
from tallystick.ledger import Database
from tests.jobs.support import NOON, Standing, Time, Told, eventually, run_once

USD = "USD/2"


@pytest.fixture
def database() -> Iterator[Database]:
    """Two ledgers, a and b."""
    with tallystick.open("memory://") as found:
        for name in ("a", "b"):
            found.ledger(name).mint("users:alice", USD, 100, key="1")
        yield found


@pytest.fixture
def control() -> MemoryControl:
    return MemoryControl()


def test_a_job_runs_for_every_ledger_again_and_again(database: Database, control: MemoryControl) -> None:
    job = Told()
    with Runner(database, control, [job]):
        eventually(lambda: job.ran.count("a") > 3 and job.ran.count("b") > 3)


def test_a_ledger_that_is_made_later_is_picked_up(database: Database, control: MemoryControl) -> None:
    job = Told()
    with Runner(database, control, [job]):
        eventually(lambda: job.ran)
        database.ledger("later").mint("users:alice", USD, 100, key="1")
        eventually(lambda: "later" in job.ran)


def test_only_the_ledgers_that_were_named_have_their_turn(database: Database, control: MemoryControl) -> None:
    job = Told()
    with Runner(database, control, [job], ledgers=["b"]):
        eventually(lambda: len(job.ran) > 3)
    assert set(job.ran) == {"b"}


def test_a_job_for_the_whole_database_runs_once_for_all(database: Database, control: MemoryControl) -> None:
    job = Told(whole=True)
    with Runner(database, control, [job]):
        eventually(lambda: len(job.ran) > 2)
    assert set(job.ran) == {ALL}


def test_of_two_runners_one_leads_and_the_other_takes_over_when_it_ends(
    database: Database, control: MemoryControl
) -> None:
    first, second = Told(), Told()
    leader = Runner(database, control, [first], ledgers=["a"], lease_seconds=6.0).start()
    eventually(lambda: len(first.ran) > 3)
    with Runner(database, control, [second], ledgers=["a"], lease_seconds=6.0):
        so_far = len(first.ran)
        eventually(lambda: len(first.ran) > so_far + 10)
        assert second.ran == []
        assert leader.stop()
        stopped = len(first.ran)
        eventually(lambda: len(second.ran) > 3)
        assert len(first.ran) == stopped


def test_a_run_is_written_down_with_its_result_and_lag(database: Database, control: MemoryControl) -> None:
    job = Told(lambda context: Outcome("did it", 12.5))
    found, _ = run_once(database, job, control=control)
    kept = {run.ledger: run for run in control.last_runs()}
    assert set(kept) == {"a", "b"}
    assert kept["a"] in found.runs
    assert (kept["a"].outcome, kept["a"].detail, kept["a"].lag_seconds) == ("done", "did it", 12.5)
    assert kept["a"].holder == "here"
    assert kept["a"].finished >= kept["a"].started


def test_a_failure_is_written_down_and_tried_again_and_harms_nobody_else(
    database: Database, control: MemoryControl
) -> None:
    def act(context: Context) -> Outcome:
        if context.ledger_name == "a" and job.ran.count("a") < 3:
            raise Unavailable(reason="the moon is full")
        return Outcome("well done")

    job = Told(act)
    with Runner(database, control, [job]):
        eventually(lambda: [run.outcome for run in control.runs(ledger="a")][:1] == ["done"])
    failed = [run for run in control.runs(ledger="a") if run.outcome == "failed"]
    assert len(failed) == 2
    assert "the moon is full" in failed[0].detail
    assert all(run.outcome == "done" for run in control.runs(ledger="b"))


def test_even_an_error_that_nobody_was_prepared_for_is_a_failure(database: Database, control: MemoryControl) -> None:
    def act(context: Context) -> Outcome:
        raise ZeroDivisionError

    found, _ = run_once(database, Told(act), control=control)
    assert {run.outcome for run in found.runs} == {"failed"}
    assert "ZeroDivisionError" in found.runs[0].detail


def test_who_failed_gives_the_lease_back_so_that_another_may_have_more_luck(
    database: Database, control: MemoryControl
) -> None:
    def fail(context: Context) -> Outcome:
        raise Unavailable(reason="no home here")

    unlucky, lucky = Told(fail, every_seconds=30), Told(every_seconds=30)
    with Runner(database, control, [unlucky]):
        eventually(lambda: set(unlucky.ran) == {"a", "b"})
        with Runner(database, control, [lucky]):
            eventually(lambda: set(lucky.ran) == {"a", "b"})


def test_a_password_in_an_error_is_not_written_down(
    database: Database, control: MemoryControl, caplog: pytest.LogCaptureFixture
) -> None:
    def act(context: Context) -> Outcome:
        raise Unavailable(reason="postgresql://me:hush-hush@db/books does not answer")

    found, _ = run_once(database, Told(act), control=control)
    assert "hush" not in found.runs[0].detail
    assert "hush" not in caplog.text


def test_a_control_store_that_is_away_ends_nothing(database: Database) -> None:
    class Moody(MemoryControl):
        away = False

        def keep_run(self, run: JobRun) -> None:
            if self.away:
                raise Unavailable(reason="it is away")
            super().keep_run(run)

    control = Moody()
    job = Told(every_seconds=70)  # one that is written down before it runs, too
    control.away = True
    with Runner(database, control, [job]):
        control.away = False
        eventually(lambda: len(control.last_runs()) == 2)


def test_what_runs_for_long_is_seen_while_it_runs(database: Database, control: MemoryControl) -> None:
    go = threading.Event()

    def act(context: Context) -> Outcome:
        go.wait(20)
        return Outcome()

    with Runner(database, control, [Told(act, every_seconds=3_600)], ledgers=["a"]):
        eventually(lambda: [run.outcome for run in control.last_runs()] == ["running"])
        go.set()
        eventually(lambda: [run.outcome for run in control.last_runs()] == ["done"])
    assert len(control.runs()) == 1


def test_a_run_whose_process_died_is_closed_by_the_next(database: Database, control: MemoryControl) -> None:
    control.keep_run(JobRun(job="told", ledger="a", started=NOON, holder="the late"))
    job = Told(every_seconds=3_600)
    with Runner(database, control, [job], ledgers=["a"]):
        eventually(lambda: len(control.runs()) == 2)
    first = control.runs()[-1]
    assert (first.started, first.outcome) == (NOON, "failed")
    assert "the late" in first.detail


def test_what_another_process_has_just_done_is_not_done_again(database: Database, control: MemoryControl) -> None:
    clock = Time()
    control.keep_run(JobRun(job="told", ledger="a", started=NOON, finished=NOON, outcome="done"))
    job = Told(every_seconds=3_600)
    with Runner(database, control, [job], clock=clock):
        eventually(lambda: "b" in job.ran)
    assert "a" not in job.ran


def test_a_nightly_job_runs_when_its_time_has_come_and_once_a_night(
    control: MemoryControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallystick.jobs.runner.LOOK_SECONDS", 0.05)
    clock = Time(NOON)
    with tallystick.open("memory://", clock=clock) as database:
        database.ledger("a").mint("users:alice", USD, 100, key="1")
        often, job = Told(), Told(name="nightly", at="03:00", every_seconds=86_400)
        with Runner(database, control, [job, often], clock=clock):
            eventually(lambda: len(often.ran) > 20)
            assert job.ran == []  # the ledger is younger than the night
            clock.move(15 * 3_600 + 60)
            eventually(lambda: job.ran == ["a"])
            so_far = len(often.ran)
            eventually(lambda: len(often.ran) > so_far + 10)  # several looks at the clock
            assert job.ran == ["a"]
            clock.move(86_400)
            eventually(lambda: job.ran == ["a", "a"])


def test_waiting_for_the_night_asks_the_control_store_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.jobs.runner.LOOK_SECONDS", 0.01)

    class Counting(MemoryControl):
        asked = 0

        def acquire(self, name: str, holder: str, seconds: float) -> Lease | None:
            self.asked += "nightly" in name
            return super().acquire(name, holder, seconds)

    clock, control = Time(NOON), Counting()
    with tallystick.open("memory://", clock=clock) as database:
        database.ledger("a").mint("users:alice", USD, 100, key="1")
        often, job = Told(), Told(name="nightly", at="03:00", every_seconds=86_400)
        with Runner(database, control, [job, often], clock=clock):
            eventually(lambda: len(often.ran) > 10)
    assert (job.ran, control.asked) == ([], 1)


def test_what_is_left_to_do_is_done_without_a_pause(database: Database, control: MemoryControl) -> None:
    job = Told(lambda context: Outcome(more=len(job.ran) < 5), every_seconds=3_600)
    with Runner(database, control, [job], ledgers=["a"]):
        eventually(lambda: len(job.ran) == 5)


def test_to_stop_has_jobs_end_at_their_next_step_and_gives_the_leases_back(
    database: Database, control: MemoryControl
) -> None:
    steps = []

    def act(context: Context) -> Outcome:
        while True:
            context.check()
            steps.append(context.ledger_name)

    runner = Runner(database, control, [Told(act, every_seconds=3_600)], ledgers=["a"]).start()
    eventually(lambda: len(steps) > 10)
    assert runner.stop()
    assert control.acquire("job:told:a", "another", 10) is not None
    assert [run.outcome for run in control.last_runs()] == ["failed"]
    assert "told to end" in control.last_runs()[0].detail


def test_a_job_that_does_not_end_keeps_its_lease_until_it_runs_out(database: Database, control: MemoryControl) -> None:
    go = threading.Event()

    def act(context: Context) -> Outcome:
        go.wait(20)
        return Outcome()

    job = Told(act, every_seconds=3_600)
    runner = Runner(database, control, [job], ledgers=["a"]).start()
    eventually(lambda: job.ran)
    assert not runner.stop(0.05)
    assert control.acquire("job:told:a", "another", 10) is None
    go.set()


def test_a_leader_that_lost_its_lease_stops_at_the_next_step(database: Database, control: MemoryControl) -> None:
    ended: list[type[BaseException]] = []
    steps = []

    def act(context: Context) -> Outcome:
        try:
            while True:
                context.check()
                steps.append(1)
        except BaseException as error:
            ended.append(type(error))
            raise

    class Losing(MemoryControl):
        lost = False

        def acquire(self, name: str, holder: str, seconds: float) -> Lease | None:
            return None if self.lost else super().acquire(name, holder, seconds)

    control = Losing()
    with Runner(database, control, [Told(act)], ledgers=["a"], lease_seconds=0.3):
        eventually(lambda: steps)
        control.lost = True
        eventually(lambda: ended)
        assert set(ended) == {LeaseLost}
    assert control.runs() == []  # what it left undone is the next leader's to tell


def test_jobs_that_write_are_left_out_where_nothing_may_be_written(database: Database, control: MemoryControl) -> None:
    writing, reading = Told(name="writing", writes=True), Told(name="reading")
    runner = Runner(database, control, [writing, reading], writable=False)
    assert (runner.left_out, runner.names) == (["writing"], ["reading"])
    with runner:
        eventually(lambda: reading.ran)
    assert writing.ran == []


def test_people_are_told_of_damage_and_forks_once(
    database: Database, control: MemoryControl, caplog: pytest.LogCaptureFixture
) -> None:
    errors = {
        "a": LedgerCorrupt(where="event a/0", problem="it was altered"),
        "b": LogForked(origin="books.example/b", problem="another history"),
    }
    told: list[Alert] = []

    def act(context: Context) -> Outcome:
        raise errors[context.ledger_name]

    job = Told(act)
    with Runner(database, control, [job], on_alert=told.append):
        eventually(lambda: job.ran.count("a") > 2 and job.ran.count("b") > 2)
    assert sorted((alert.kind, alert.ledger) for alert in told) == [("damage", "a"), ("fork", "b")]
    critical = [record.getMessage() for record in caplog.records if record.levelno == logging.CRITICAL]
    assert len(critical) == 2
    assert "it was altered" in "".join(critical)


def test_who_cannot_be_told_does_not_end_the_job(database: Database, control: MemoryControl) -> None:
    def act(context: Context) -> Outcome:
        context.alert("mismatch", "look at this")
        return Outcome("went on")

    def deaf(alert: Alert) -> None:
        raise OSError("nobody is there")

    job = Told(act)
    with Runner(database, control, [job], ledgers=["a"], on_alert=deaf):
        run = eventually(control.runs)[0]
    assert (run.outcome, run.detail) == ("done", "went on")


# ---------------------------------------------------------------- standing jobs


def test_a_standing_job_stands_until_the_end_and_says_how_it_stands(
    database: Database, control: MemoryControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallystick.jobs.runner.STATUS_SECONDS", 0.0)
    monkeypatch.setattr("tallystick.jobs.runner.LOOK_SECONDS", 0.05)
    job = Standing()
    job.lag = 7.0
    with Runner(database, control, [job]):
        run = eventually(lambda: [run for run in control.runs(job="standing") if run.lag_seconds])[0]
        assert (run.outcome, run.detail, run.lag_seconds, run.ledger) == ("running", "it stands", 7.0, ALL)
    assert job.began == 1
    assert [run.outcome for run in control.runs(job="standing")] == ["done"]


def test_a_standing_job_that_fails_begins_anew(
    database: Database, control: MemoryControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallystick.jobs.runner.LOOK_SECONDS", 0.05)
    job = Standing()
    job.failing = Unavailable(reason="no way out")
    with Runner(database, control, [job]):
        eventually(lambda: job.began >= 2)
        job.failing = None
        eventually(lambda: [run.outcome for run in control.last_runs()] == ["running"])
    assert "no way out" in next(run.detail for run in control.runs() if run.outcome == "failed")


# ---------------------------------------------------------------- once


def test_once_does_everything_whether_it_is_due_or_not(database: Database, control: MemoryControl) -> None:
    for _ in range(2):
        found, _ = run_once(database, Told(at="03:00", every_seconds=86_400), control=control)
        assert sorted(run.ledger for run in found.runs) == ["a", "b"]
    found, _ = run_once(database, Standing(), control=control)
    assert [run.detail for run in found.runs] == ["it stood"]


def test_once_leaves_alone_what_another_process_is_at(database: Database, control: MemoryControl) -> None:
    assert control.acquire("job:told:a", "another", 60) is not None
    found, _ = run_once(database, Told(), control=control)
    assert [run.ledger for run in found.runs] == ["b"]
    assert found.busy == [("told", "a")]


def test_once_can_be_interrupted(database: Database, control: MemoryControl) -> None:
    def act(context: Context) -> Outcome:
        runner.interrupt()
        context.check()
        return Outcome()

    job = Told(act)
    runner = Runner(database, control, [job])
    assert runner.run_once().runs == []
    assert len(job.ran) == 1
    assert control.acquire("job:told:a", "another", 10) is not None


def test_a_context_lets_nobody_go_on_who_may_not(database: Database, control: MemoryControl) -> None:
    stop = threading.Event()
    may = True
    context = Context(database, control, "j", "a", clock=lambda: NOON, holder="h", stop=stop, may_go_on=lambda: may)
    context.check()
    may = False
    with pytest.raises(LeaseLost):
        context.check()
    stop.set()
    with pytest.raises(Stopped):
        context.check()


def test_runs_are_folded_as_they_come(database: Database, control: MemoryControl) -> None:
    job = Told(lambda context: Outcome(worked=False))
    with Runner(database, control, [job], ledgers=["a"]):
        eventually(lambda: len(job.ran) > 20)
    runs = control.runs()
    assert len(runs) == 1
    assert runs[0].finished > add_seconds(runs[0].started, 0.5)
