"""Several processes before one PostgreSQL database: any of them answers, and one that dies is missed by nobody."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

import tallystick
from tallystick.access.keys import Keyring
from tallystick.clock import add_seconds, system_clock
from tallystick.control import Mandate, Scope, open_control
from tallystick.ledger import Ledger
from tallystick.ledger.views import Transaction
from tests.delivery.receiver import Receiver
from tests.service.test_stopping import ACKNOWLEDGED_BEFORE, CALLERS, Load
from tests.support.databases import Databases
from tests.support.processes import wait_until
from tests.support.serve import PROGRAM, Server, server
from tests.support.service import Caller

SECONDS = 60
REVOKED_SECONDS = 2.0
"""Within which a key that was revoked through one process is refused at the others."""
MAIN = "/v1/ledgers/main"
TRANSFERS = f"{MAIN}/transfers"
PAY = {"from_account": "users:alice", "to_account": "users:bob", "asset": "USD/2", "amount": "100"}


class Cluster:
    """Processes that serve one database, and the operator who looks into it himself."""

    def __init__(self, url: str, servers: Sequence[Server]) -> None:
        self.url = url
        self.servers = servers
        self.database = tallystick.open(url)
        self.ledger = self.database.ledger("main")
        self.control = open_control(url)
        self.keyring = Keyring(self.control)
        self._callers: list[Caller] = []
        self._admin = self.key("admin", role="admin")

    def key(self, subject: str, **more: Any) -> str:
        token, _ = self.keyring.create(subject, **more)
        return token

    def at(self, number: int, token: str = "") -> Caller:
        """Someone who asks one of the processes; an admin if nobody else."""
        self._callers.append(Caller(self.servers[number].base, token or self._admin))
        return self._callers[-1]

    def close(self) -> None:
        for caller in self._callers:
            caller.http.close()
        self.control.close()
        self.database.close()


@contextlib.contextmanager
def cluster(url: str, folder: Path, *options: str) -> Iterator[Cluster]:
    """Two servers for a new ledger."""
    with tallystick.open(url) as database:
        database.ledger("main").mint("users:alice", "USD/2", 10**9, key="funds")
    open_control(url).close()
    with contextlib.ExitStack() as stack:
        servers = []
        for name in ("first", "second"):
            (folder / name).mkdir()
            servers.append(stack.enter_context(server(url, folder / name, options=options or ("--no-jobs",))))
        found = Cluster(url, servers)
        stack.callback(found.close)
        yield found


@pytest.fixture(scope="module")
def two(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """For the tests that kill nobody; each pays an account of its own."""
    dsn = databases.new()
    with cluster(dsn, tmp_path_factory.mktemp("servers")) as found:
        yield found
    databases.drop(dsn)


def payment(to_account: str) -> dict[str, str]:
    return {**PAY, "to_account": to_account}


def transfers_of(ledger: Ledger) -> Iterator[Transaction]:
    after = -1
    while found := ledger.events(after, 10_000):
        yield from (event for event in found if event.type == "transfer")
        after = found[-1].seq


@contextlib.contextmanager
def worker(url: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`tally worker`, with leases that run out soon."""
    command = [PROGRAM, "-f", url, "worker", "--allow-private", "--lease", "2", "--every", "expiry=0.2"]
    out = folder / "worker.out"
    with out.open("ab") as stdout, (folder / "worker.log").open("ab") as stderr:
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(SECONDS)


def balance(caller: Caller, account: str, bucket: str = "available") -> int:
    found = caller.get(f"{MAIN}/balances", account=account, bucket=bucket).json()["balances"]
    return int(found[0]["amount"]) if found else 0


# ---------------------------------------------------------------- one ledger


def test_the_same_key_sent_to_both_at_the_same_time_posts_once(two: Cluster) -> None:
    token = two.key("shop", role="writer")
    callers = [two.at(number, token) for number in (0, 1)]
    start = threading.Barrier(2)

    def ask(number: int) -> list[httpx2.Response]:
        found = []
        for turn in range(20):
            start.wait(SECONDS)
            found.append(callers[number].post(TRANSFERS, payment("users:once"), key=f"order-{turn}"))
        return found

    with ThreadPoolExecutor(2) as pool:
        pairs = list(zip(*pool.map(ask, (0, 1)), strict=True))

    for one, other in pairs:
        assert (one.status_code, other.status_code) == (201, 201), (one.text, other.text)
        assert one.json()["id"] == other.json()["id"]
        replayed = [answer.headers.get("idempotency-replayed") for answer in (one, other)]
        assert sorted(replayed, key=str) == [None, "true"]
    assert two.ledger.balance("users:once", "USD/2") == 20 * 100


def test_what_was_written_through_one_is_read_at_the_other_at_once(two: Cluster) -> None:
    one, other = two.at(0), two.at(1)
    for turn in range(1, 11):
        paid = one.done(TRANSFERS, payment("users:read"))
        assert balance(other, "users:read") == turn * 200 - 100
        assert other.get(f"{MAIN}/transactions/{paid['seq']}").json()["id"] == paid["id"]
        other.done(TRANSFERS, payment("users:read"))
        assert balance(one, "users:read") == turn * 200


def test_writers_at_both_share_what_there_is_and_nobody_is_told_a_fault(two: Cluster) -> None:
    two.ledger.mint("users:carol", "USD/2", 1_000, key="carol")
    callers = [two.at(number % 2) for number in range(8)]

    def spend(caller: Caller) -> list[int]:
        return [caller.post(TRANSFERS, {**PAY, "from_account": "users:carol"}).status_code for _ in range(4)]

    with ThreadPoolExecutor(8) as pool:
        seen = Counter(status for found in pool.map(spend, callers) for status in found)
    assert seen == {201: 10, 422: 22}
    assert two.ledger.balance("users:carol", "USD/2") == 0


def test_a_mandate_holds_across_processes(two: Cluster) -> None:
    """Spenders at two processes do not take turns; whoever loses too often is told that he may ask again."""
    scopes = (Scope("post", "main", "users:alice"),)
    token = two.key("agent", scopes=scopes, mandate=Mandate("main", "users:alice", "USD/2", max_per_day=1_000))
    callers = [two.at(number % 2, token) for number in range(8)]

    def spend(number: int) -> list[httpx2.Response]:
        found = []
        for turn in range(4):
            answer = callers[number].post(TRANSFERS, payment("users:paid"), key=f"{number}-{turn}")
            deadline = time.monotonic() + SECONDS
            while answer.status_code == 412 and time.monotonic() < deadline:
                assert answer.json()["retryable"]
                answer = callers[number].post(TRANSFERS, payment("users:paid"), key=f"{number}-{turn}")
            found.append(answer)
        return found

    with ThreadPoolExecutor(8) as pool:
        answers = [answer for found in pool.map(spend, range(8)) for answer in found]
    assert Counter(answer.status_code for answer in answers) == {201: 10, 422: 22}, [found.text for found in answers]
    assert two.ledger.balance("users:paid", "USD/2") == 1_000


# ---------------------------------------------------------------- keys


def test_a_key_revoked_through_one_is_refused_at_the_other_within_two_seconds(two: Cluster) -> None:
    token = two.key("shop", role="writer")
    other = two.at(1, token)
    assert other.get(f"{MAIN}/accounts").is_success

    revoked = two.at(0).post(f"/v1/keys/{token.split('_')[1]}/revoke", {})
    assert revoked.is_success, revoked.text
    began = time.monotonic()
    while (answer := other.get(f"{MAIN}/accounts")).is_success:
        assert time.monotonic() - began < REVOKED_SECONDS
    assert answer.status_code == 401
    assert two.at(0, token).get(f"{MAIN}/accounts").status_code == 401


def test_a_key_made_through_one_opens_the_other(two: Cluster) -> None:
    assert two.at(1, "tsk_aaaaaaaaaaaa_" + "a" * 43).get(f"{MAIN}/accounts").status_code == 401
    made = two.at(0).done("/v1/keys", {"subject": "shop", "role": "reader"})
    began = time.monotonic()
    while not two.at(1, made["token"]).get(f"{MAIN}/accounts").is_success:
        assert time.monotonic() - began < REVOKED_SECONDS


def test_a_page_begun_at_one_goes_on_at_the_other(two: Cluster) -> None:
    one, other = two.at(0), two.at(1)
    for _ in range(3):
        one.done(TRANSFERS, payment("users:page"))
    first = one.get(f"{MAIN}/entries", account="users:page", limit=2).json()
    rest = other.get(f"{MAIN}/entries", cursor=first["cursor"], limit=2).json()
    assert len(first["items"]) + len(rest["items"]) == 3


# ---------------------------------------------------------------- events


def test_what_is_posted_through_one_comes_in_the_stream_of_the_other(two: Cluster) -> None:
    writer, reader = two.at(0), two.at(1)
    with reader.http.stream("GET", f"{MAIN}/events/stream", params={"account": "users:told"}) as stream:
        assert stream.status_code == 200
        posted = [writer.done(TRANSFERS, payment("users:told"))["seq"] for _ in range(5)]
        seen: list[int] = []
        for line in stream.iter_lines():
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                seen += [event["seq"]] if event["type"] == "transfer" else []
            if len(seen) == len(posted):
                break
    assert seen == posted


# ---------------------------------------------------------------- jobs


@pytest.mark.soak
def test_a_hold_that_expires_is_given_back_exactly_once_whoever_does_it(postgres: str, tmp_path: Path) -> None:
    """Two servers with jobs and a worker share them, and one of them is killed meanwhile."""
    with cluster(postgres, tmp_path, "--jobs") as two, worker(postgres, tmp_path):
        soon = add_seconds(system_clock(), 1.5)
        for _ in range(10):
            hold = {"account": "users:alice", "asset": "USD/2", "amount": "100", "expires": soon}
            two.at(0).done(f"{MAIN}/holds", hold)
        assert two.ledger.balance("users:alice", "USD/2", "held") == 1_000
        two.servers[0].tell(signal.SIGKILL)
        wait_until(lambda: not two.ledger.balance("users:alice", "USD/2", "held"), SECONDS, "the end of the holds")
        time.sleep(0.5)  # so that a second one would be seen
        given_back = Counter(
            event.data["hold"] for event in two.ledger.events(-1, 1_000) if event.type == "hold_expire"
        )
        assert len(given_back) == 10
        assert set(given_back.values()) == {1}
        assert two.ledger.balance("users:alice", "USD/2") == 10**9


# ---------------------------------------------------------------- a process that dies


def test_a_process_killed_under_load_loses_nothing_and_the_other_goes_on(postgres: str, tmp_path: Path) -> None:
    with cluster(postgres, tmp_path) as two:
        _kill_one_under_load(two)


def _kill_one_under_load(two: Cluster) -> None:
    token = two.key("load", role="writer")
    loads = [Load(found.base, token) for found in two.servers]
    for load in loads:
        load.begin()
    wait_until(lambda: len(loads[0].acknowledged) >= ACKNOWLEDGED_BEFORE, SECONDS, "the load")
    two.servers[0].tell(signal.SIGKILL)
    loads[0].end()
    seen = len(loads[1].acknowledged)
    wait_until(lambda: len(loads[1].acknowledged) >= seen + ACKNOWLEDGED_BEFORE, SECONDS, "the other one's load")
    two.servers[1].tell(signal.SIGTERM)
    loads[1].end()
    assert two.servers[1].wait() == 0

    ids = {event.id for event in transfers_of(two.ledger)}
    acknowledged = [set(load.acknowledged.values()) for load in loads]
    assert acknowledged[0] | acknowledged[1] <= ids
    unknown = {key for load in loads for key in load.open}
    assert len(ids) <= len(acknowledged[0] | acknowledged[1]) + len(unknown)
    # Both loads use the same keys: what one was answered the other was answered too.
    for key in loads[0].acknowledged.keys() & loads[1].acknowledged.keys():
        assert loads[0].acknowledged[key] == loads[1].acknowledged[key]
    assert sum(two.ledger.balance(f"users:{caller}", "USD/2") for caller in range(CALLERS)) == len(ids)
    assert two.ledger.replay().ok


@pytest.mark.soak
def test_webhooks_go_on_when_the_process_that_serves_them_is_killed(postgres: str, tmp_path: Path) -> None:
    with (
        Receiver() as receiver,
        cluster(postgres, tmp_path, "--jobs", "--allow-private") as two,
    ):
        maker = two.at(0)
        made = maker.done(f"{MAIN}/endpoints", {"url": receiver.url, "types": ["transfer"]})
        posted = [maker.done(TRANSFERS, PAY)["seq"] for _ in range(5)]
        receiver.wait_for(lambda: set(posted) <= set(receiver.seqs), SECONDS)
        holder = next(lease.holder for lease in two.control.leases() if lease.name == f"deliver:{made['id']}")
        serves = next(number for number in (0, 1) if f":{two.servers[number].process.pid}:" in holder)
        two.servers[serves].tell(signal.SIGKILL)

        left = two.at(1 - serves)
        posted += [left.done(TRANSFERS, PAY)["seq"] for _ in range(5)]
        receiver.wait_for(lambda: set(posted) <= set(receiver.seqs), SECONDS)
        assert receiver.seqs == posted
        assert left.get(f"{MAIN}/endpoints/{made['id']}").json()["id"] == made["id"]
