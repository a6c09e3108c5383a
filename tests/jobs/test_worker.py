"""`tally worker` and `tally jobs`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import tallystick
from tallystick.control import Endpoint, open_control
from tallystick.evidence.home import LogHome
from tallystick.jobs import Options, Runner, standard_jobs
from tests.cli.conftest import Tally
from tests.conftest import NewUrl
from tests.jobs.support import eventually
from tests.ledger.test_audit import unguarded
from tests.support.stores import LASTING

USD = "USD/2"
PROGRAM = str(Path(sys.executable).with_name("tally"))


@pytest.fixture(params=LASTING)
def url(request: pytest.FixtureRequest, tmp_path: Path, new_url: NewUrl) -> str:
    return str(tmp_path / "books.db") if request.param == "sqlite" else new_url(request.param)


on_files = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("url", ["postgres"], indirect=True)


@pytest.fixture
def tally(url: str, tmp_path: Path) -> Tally:
    """A ledger in which users:alice has 100.00."""
    with tallystick.open(url) as database:
        database.ledger("main").mint("users:alice", USD, 10_000, key="mint")
    return Tally(tmp_path, url)


class Worker:
    """`tally worker` as a process."""

    def __init__(self, tally: Tally, *words: str) -> None:
        self._errors = tally.folder / f"errors-{os.urandom(4).hex()}"
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [PROGRAM, "-f", tally.file, "worker", "--json", *words],
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert said, self.errors
        self.facts = json.loads(said)

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def bury(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def start(tally: Tally) -> Iterator[object]:
    made: list[Worker] = []

    def begin(*words: str) -> Worker:
        made.append(Worker(tally, *words))
        return made[-1]

    yield begin
    for worker in made:
        worker.bury()


# ---------------------------------------------------------------- once


def test_once_does_every_job_and_says_how_it_went(tally: Tally) -> None:
    found = tally.json("worker", "--once")
    outcomes = {run["job"]: run["outcome"] for run in found["runs"]}
    assert set(outcomes.values()) == {"done"}
    is_file = "://" not in tally.file
    writing = {"expiry", "snapshots"} | (set() if is_file else {"partitions"})
    assert set(outcomes) == {"reconciliation", "deliveries", "pruning"} | (set() if is_file else writing)
    assert set(found["left_out"]) == (writing if is_file else set())


def test_once_with_a_mismatch_is_exit_code_1_and_the_report_can_be_written_out(tally: Tally) -> None:
    with unguarded(tally.file) as hand:
        hand.execute("UPDATE entry SET amount = amount + 1, after = after + 1 WHERE seq = (SELECT max(seq) FROM entry)")
    done = tally.run("worker", "--once", "--jobs", "reconciliation")
    assert done.exit_code == 1
    assert "mismatch" in done.stdout
    told = [json.loads(line) for line in done.stderr.splitlines() if "ALERT" in line]
    assert [line["level"] for line in told] == ["critical"]
    assert tally.run("jobs", "status").exit_code == 1
    out = tally.folder / "report.json"
    tally("jobs", "report", "--out", str(out))
    document = json.loads(out.read_text())
    assert (document["ok"], document["ledger"]) == (False, "main")
    assert document["findings"]
    assert tally.json("jobs", "report", str(document["report"])) == document
    assert [row["ok"] for row in tally.json("jobs", "reports")] == [False]
    assert tally.refused("jobs", "report", "999")["code"] == "not_found"


def test_the_last_runs_are_shown(tally: Tally) -> None:
    tally("worker", "--once", "--jobs", "pruning,reconciliation")
    assert {(run["job"], run["ledger"]) for run in tally.json("jobs", "status")} == {
        ("pruning", "*"),
        ("reconciliation", "main"),
    }
    assert "reconciliation" in tally("jobs", "status")
    assert [run["job"] for run in tally.json("jobs", "runs", "--job", "pruning")] == ["pruning"]


@on_files
def test_beside_a_server_nothing_is_written_to_the_file_and_that_is_said(tally: Tally) -> None:
    done = tally.run("worker", "--once")
    assert done.exit_code == 0
    assert "written by one process" in done.stderr
    assert "expiry" in done.stderr
    refused = tally.run("worker", "--once", "--jobs", "expiry")
    assert refused.exit_code == 2
    assert "--write" in refused.stderr


@on_files
def test_where_there_is_no_server_a_worker_may_write_the_file(tally: Tally) -> None:
    found = tally.json("worker", "--once", "--write", "--jobs", "expiry")
    assert [run["outcome"] for run in found["runs"]] == ["done"]


@on_files
@pytest.mark.parametrize(
    "words",
    [
        ["--jobs", "dusting"],
        ["--every", "expiry"],
        ["--every", "expiry=soon"],
        ["--every", "expiry=0"],
        ["--every", "dusting=5"],
        ["--reconcile-at", "25:00"],
        ["--jobs", "checkpoints"],
        ["--jobs", "partitions"],
        ["--log-home", "homes", "--log-entries", "x"],
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(tally: Tally, words: list[str]) -> None:
    done = tally.run("worker", "--once", *words)
    assert done.exit_code == 2, done.output
    assert "error:" in done.stderr


@on_files
def test_where_there_is_no_ledger_nothing_is_made(tmp_path: Path, url: str) -> None:
    assert Tally(tmp_path, url).run("worker", "--once").exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_logs_are_kept_from_their_homes(tally: Tally) -> None:
    with tallystick.open(tally.file) as database:
        LogHome(tally.folder / "homes" / "main").begin(database.ledger("main"), "books.example/main")
    tally("worker", "--once", "--jobs", "checkpoints", "--write", "--log-home", str(tally.folder / "homes"))
    with tallystick.open(tally.file) as database:
        assert database.ledger("main").journal.checkpoint() is not None


# ---------------------------------------------------------------- in the background


@on_postgres
def test_workers_share_the_jobs_and_one_that_is_killed_is_followed(tally: Tally, start: type[Worker]) -> None:
    words = ("--jobs", "expiry", "--every", "expiry=0.05", "--lease", "1")
    workers = {worker.facts["holder"]: worker for worker in (start(*words), start(*words))}
    with tallystick.open(tally.file) as database:
        ledger = database.ledger("main")
        later = database.ledger("later")

        def freeze_and_wait(key: str) -> None:
            later.mint("users:bob", USD, 100, key=f"mint {key}")
            for number in range(20):
                ledger.hold("users:alice", USD, 1, expires_in_seconds=1, key=f"{key} {number}")
            later.hold("users:bob", USD, 1, expires_in_seconds=1, key=f"hold {key}")
            eventually(lambda: not ledger.locks(state="active") and not ledger.balance("users:alice", USD, "held"))
            eventually(lambda: not later.balance("users:bob", USD, "held"))

        freeze_and_wait("before")
        control = open_control(tally.file)
        leader = next(lease.holder for lease in control.leases() if lease.name == "job:expiry:main")
        workers[leader].process.send_signal(signal.SIGKILL)
        freeze_and_wait("after")
        (other,) = (worker for holder, worker in workers.items() if holder != leader)
        control.close()
        assert ledger.replay().ok
        expired = [event for event in ledger.events(limit=1_000) if event.type == "hold_expire"]
        assert len(expired) == 40
        assert other.end() == 0, other.errors


def test_told_to_end_a_worker_ends_well_and_gives_its_leases_back(tally: Tally, start: type[Worker]) -> None:
    worker = start("--every", "pruning=0.1", "--lease", "600")
    control = open_control(tally.file)
    eventually(lambda: [run for run in control.last_runs() if run.job == "pruning"])
    assert worker.end() == 0, worker.errors
    assert control.acquire("job:pruning:*", "another", 5) is not None
    control.close()


@on_files
def test_a_worker_beside_the_process_that_writes_the_file_does_the_reading(tally: Tally, start: type[Worker]) -> None:
    with tallystick.open(tally.file) as database, closing(open_control(tally.file)) as control:
        ledger = database.ledger("main")
        with Runner(database, control, standard_jobs(database, Options(names=("expiry",), every={"expiry": 0.05}))):
            worker = start("--every", "reconciliation=0.2")
            assert set(worker.facts["left_out"]) == {"expiry", "snapshots"}
            for number in range(30):
                ledger.hold("users:alice", USD, 1, expires_in_seconds=1, key=f"{number}")
            eventually(lambda: not ledger.balance("users:alice", USD, "held"))
            end = ledger.head.seq
            report = eventually(lambda: [one for one in control.reports() if one.body["head"]["seq"] == end])[0]
            assert report.ok
            assert worker.end() == 0, worker.errors
        jobs = {run.job: run for run in control.last_runs()}
    assert f":{worker.process.pid}:" in jobs["reconciliation"].holder
    assert f":{os.getpid()}:" in jobs["expiry"].holder


class Receiver(ThreadingHTTPServer):
    """Accepts every event, and remembers its number."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.sequences: list[int] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.sequences.append(int(body["sequence"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Nothing."""


def test_an_endpoint_that_is_added_later_is_delivered_to(tally: Tally, start: type[Worker]) -> None:
    receiver = Receiver()
    worker = start("--jobs", "deliveries", "--allow-private")
    control = open_control(tally.file)
    host, port = receiver.server_address[:2]
    secret = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    control.add_endpoint(Endpoint(id="e", ledger="main", url=f"http://{host!s}:{port}/", secrets=(secret,)))
    with tallystick.open(tally.file, read_only=True) as database:
        head = database.ledger("main").head.seq
    eventually(lambda: set(receiver.sequences) == set(range(head)))
    assert worker.end() == 0, worker.errors
    control.close()
    receiver.shutdown()
    receiver.server_close()
