"""Several processes with the same records, one of which may be killed at any moment."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tallystick.control import Control, Delivery, Endpoint, Lease, open_control
from tests.control.process import Process, processes
from tests.support.processes import wait_until
from tests.support.stores import on_lasting_stores

pytestmark = on_lasting_stores


@pytest.fixture
def control(url: str) -> Iterator[Control]:
    opened = open_control(url)
    opened.add_endpoint(Endpoint(id="e", ledger="shop"))
    yield opened
    opened.close()


@pytest.fixture
def other(control: Control, url: str) -> Iterator[Process]:
    with processes(url, 1) as (one,):
        yield one


def test_processes_that_open_at_once_all_find_the_records(url: str) -> None:
    with processes(url, 4) as started:
        assert len({one.ask("keys_version") for one in started}) == 1


def test_of_many_processes_one_gets_the_lease(url: str) -> None:
    with processes(url, 4) as started:
        for one in started:
            one.tell("acquire", "job", f"holder {id(one)}", 60)
        taken = [found for found in (one.hear() for one in started) if found]
    assert len(taken) == 1
    with_all = open_control(url)
    assert with_all.leases() == [Lease(**taken[0])]
    with_all.close()


def test_the_lease_of_a_killed_process_is_taken_over_when_it_has_run_out(control: Control, other: Process) -> None:
    dead = other.lease("job", "dead", 0.5)
    renewed = other.lease("job", "dead", 0.5)
    assert dead is not None
    assert renewed is not None
    assert renewed.token == dead.token
    other.kill()
    assert control.leases()[0].holder == "dead"
    wait_until(lambda: control.acquire("job", "heir", 60), 10, "the lease runs out")
    (heir,) = control.leases()
    assert heir.holder == "heir"
    assert heir.token > dead.token
    assert not control.settle("e", cursor=99, lease=renewed)
    assert control.settle("e", cursor=7, lease=heir)
    assert control.cursor("e") == 7


def test_who_was_taken_over_meanwhile_keeps_nothing(control: Control, other: Process) -> None:
    slow = other.lease("deliver:e", "slow", 0.05)
    assert slow is not None
    wait_until(lambda: control.acquire("deliver:e", "quick", 60), 10, "the lease runs out")
    assert other.ask("settle", {"name": slow.name, "holder": "slow", "until": slow.until, "token": slow.token}) is False
    assert control.cursor("e") == 0
    assert control.deliveries("e") == []


def test_a_change_of_a_key_is_seen_by_the_others_at_once(control: Control, other: Process) -> None:
    before = control.keys_version()
    other.ask("add key", "made there")
    assert control.keys_version() != before
    assert control.key("made there") is not None
    assert other.ask("keys_version") == control.keys_version()


def test_changes_of_keys_by_many_are_all_counted(control: Control, url: str) -> None:
    before = control.keys_version()
    with processes(url, 3) as started:
        for number in range(5):
            for one in started:
                one.tell("add key", f"{id(one)} {number}")
        for _ in range(5):
            for one in started:
                one.hear()
    assert control.keys_version() == before + 15
    assert len(control.keys()) == 15


def test_processes_that_ask_for_a_secret_at_once_get_one_value(control: Control, url: str) -> None:
    with processes(url, 4) as started:
        for name in ("a", "b", "c"):
            for one in started:
                one.tell("secret", name)
            assert {one.hear() for one in started} == {control.secret(name).hex()}


def test_a_process_that_is_killed_while_it_settles_leaves_all_of_it_or_nothing(
    control: Control, other: Process
) -> None:
    other.tell("settle on and on")
    told = 0
    while told < 20:
        told = other.hear()
    other.kill()
    cursor = control.cursor("e")
    assert cursor > told, "what was answered is kept"
    assert [found.seq for found in control.attempts("e", limit=10_000)] == list(range(cursor - 1, -1, -1))
    assert control.deliveries("e") == [
        Delivery(endpoint="e", seq=cursor - 1),
        Delivery(endpoint="e", seq=2_000_000, attempts=cursor),
    ]
    assert control.settle("e", cursor=cursor + 1), "nobody is kept from settling on"


def test_processes_settle_different_endpoints_at_once(control: Control, url: str) -> None:
    for number in range(3):
        control.add_endpoint(Endpoint(id=f"e{number}", ledger="shop"))

    def settle(number: int) -> None:
        own = open_control(url)
        for seq in range(20):
            assert own.settle(f"e{number}", cursor=seq + 1, deliveries=[Delivery(endpoint=f"e{number}", seq=seq)])
        own.close()

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(settle, range(3)))
    assert [control.cursor(f"e{number}") for number in range(3)] == [20] * 3
    assert [len(control.deliveries(f"e{number}")) for number in range(3)] == [20] * 3
