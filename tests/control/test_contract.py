"""What every store of the operator's records does, on each of them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from msgspec.structs import replace

from tallystick.clock import add_seconds, system_clock
from tallystick.control import (
    ApiKey,
    Control,
    Endpoint,
    JobRun,
    Lease,
    Mandate,
    Scope,
)
from tallystick.control.checking import MAX_PROBLEM_CHARACTERS
from tallystick.errors import Closed, InvalidInput, NotFound, TallystickError
from tests.control.making import NOON, attempt, delivery, endpoint, key, later, numbers
from tests.support.processes import wait_until

# ---------------------------------------------------------------- keys


def test_a_key_comes_back_as_it_was_kept(control: Control) -> None:
    whole = ApiKey(
        id="abc",
        secret_hash="f" * 64,
        subject="agents:näher",
        role="writer",
        scopes=(Scope("post", "shop", "users:alice:"), Scope("read")),
        mandate=Mandate("shop", "users:alice", "USD/2", 100, 2**63, ("shops:*",), NOON),
        signer="did:key:z6Mk",
        requests_per_second=7,
        created=NOON,
        expires=later(60),
        revoked=later(30),
    )
    control.add_key(whole)
    assert control.key("abc") == whole
    assert control.keys() == [whole]


def test_what_nobody_kept_is_not_there(control: Control) -> None:
    assert control.key("none") is None
    assert control.endpoint("none") is None
    assert control.report(1) is None
    assert control.keys() == []
    assert control.endpoints() == []
    assert control.deliveries("none") == []
    assert control.attempts("none") == []
    assert control.leases() == []
    assert control.runs() == []
    assert control.last_runs() == []
    assert control.reports() == []


def test_looking_for_what_cannot_be_there_finds_nothing(control: Control) -> None:
    control.add_key(key())
    for hostile in ("", "a\0b", "\ud800", "x" * 100_000, "' OR 1=1 --", "%s", "🙂"):
        assert control.key(hostile) is None
        assert control.endpoint(hostile) is None


def test_keys_are_listed_by_id_in_pages_and_by_subject(control: Control) -> None:
    for id in ("b", "a", "B", "é", "c"):
        control.add_key(key(id, "odd" if id in "Bc" else "even"))
    assert [found.id for found in control.keys(after="")] == ["B", "a", "b", "c", "é"]
    assert [found.id for found in control.keys(after="a", limit=2)] == ["b", "c"]
    assert [found.id for found in control.keys(subject="odd")] == ["B", "c"]
    assert [found.id for found in control.keys(subject="odd", after="B")] == ["c"]
    assert control.keys(subject="nobody") == []


def test_a_key_is_added_once(control: Control) -> None:
    control.add_key(key())
    version = control.keys_version()
    with pytest.raises(InvalidInput):
        control.add_key(key(subject="thief"))
    assert control.key("k") == key()
    assert control.keys_version() == version


def test_a_key_that_is_replaced_is_found_by_its_new_subject(control: Control) -> None:
    control.add_key(key())
    control.replace_key(key(subject="other", revoked=NOON))
    assert control.keys(subject="shop") == []
    assert control.keys(subject="other") == [key(subject="other", revoked=NOON)]


def test_a_key_that_is_not_there_cannot_be_replaced(control: Control) -> None:
    version = control.keys_version()
    with pytest.raises(InvalidInput):
        control.replace_key(key())
    assert control.key("k") is None
    assert control.keys_version() == version


def test_the_version_of_the_keys_changes_with_each_change_and_only_then(control: Control) -> None:
    seen = [control.keys_version()]
    control.add_key(key())
    seen.append(control.keys_version())
    control.replace_key(key(revoked=NOON))
    seen.append(control.keys_version())
    control.add_endpoint(endpoint())
    assert control.keys_version() == seen[-1]
    assert len(set(seen)) == 3


# ---------------------------------------------------------------- endpoints


def test_an_endpoint_comes_back_as_it_was_kept(control: Control) -> None:
    whole = Endpoint(
        id="ep_1",
        ledger="shop",
        kind="sqs",
        url="https://example.org/ä",
        types=("transfer", "hold"),
        account_prefix="users:",
        mapping="billing",
        secrets=("whsec_new", "whsec_old"),
        settings={"region": "eu-central-1", "odd": 'a"\0b'},
        state="disabled",
        reason="gone",
        owner="shop",
        start=41,
        created=NOON,
    )
    control.add_endpoint(whole)
    assert control.endpoint("ep_1") == whole
    assert control.cursor("ep_1") == 41


def test_a_kept_endpoint_cannot_be_changed_from_outside(control: Control) -> None:
    settings = {"region": "here"}
    control.add_endpoint(endpoint(settings=settings))
    settings["region"] = "there"
    found = control.endpoint("e")
    assert found is not None
    found.settings["region"] = "elsewhere"
    assert control.endpoint("e") == endpoint(settings={"region": "here"})


def test_endpoints_are_listed_by_id_in_pages_and_by_ledger(control: Control) -> None:
    for id, ledger in (("b", "two"), ("a", "one"), ("c", "one")):
        control.add_endpoint(endpoint(id, ledger))
    assert [found.id for found in control.endpoints()] == ["a", "b", "c"]
    assert [found.id for found in control.endpoints(after="a", limit=1)] == ["b"]
    assert [found.id for found in control.endpoints(ledger="one")] == ["a", "c"]
    assert [found.id for found in control.endpoints(ledger="one", after="a")] == ["c"]


def test_an_endpoint_is_added_once_and_replaced_only_if_it_is_there(told: Control) -> None:
    told.settle("e", cursor=9)
    with pytest.raises(InvalidInput):
        told.add_endpoint(endpoint(start=3))
    assert told.cursor("e") == 9
    with pytest.raises(InvalidInput):
        told.replace_endpoint(endpoint("other"))
    told.replace_endpoint(endpoint(ledger="moved", state="disabled", start=5))
    assert told.endpoints(ledger="moved") == [endpoint(ledger="moved", state="disabled", start=5)]
    assert told.cursor("e") == 9, "where it stands is not where it began"


def test_the_cursor_of_no_endpoint_is_an_error(control: Control) -> None:
    with pytest.raises(NotFound):
        control.cursor("none")


def test_a_removed_endpoint_leaves_only_its_log(told: Control) -> None:
    told.add_endpoint(endpoint("other"))
    told.settle("other", deliveries=[delivery(1, "other")])
    told.settle("e", cursor=5, deliveries=[delivery(1)], attempts=[attempt(1)])
    told.remove_endpoint("e")
    told.remove_endpoint("e")
    assert told.endpoint("e") is None
    assert told.deliveries("e") == []
    assert told.attempts("e") == [attempt(1)]
    assert numbers(told.deliveries("other")) == [1]
    told.add_endpoint(endpoint("e", start=2))
    assert told.cursor("e") == 2
    assert told.deliveries("e") == []


def test_nothing_is_settled_for_an_endpoint_that_was_removed(told: Control) -> None:
    told.remove_endpoint("e")
    assert not told.settle("e", cursor=3, deliveries=[delivery(1)], attempts=[attempt(1)])
    assert told.deliveries("e") == []
    assert told.attempts("e") == []


# ---------------------------------------------------------------- settling


def test_what_is_settled_is_kept_together(told: Control) -> None:
    changed = delivery(7, state="dead", attempts=3, due=later(5), problem="503", lanes=("a:b", "ü"), redelivery=True)
    tries = [attempt(7, 2, later(1), status=503, problem="503", milliseconds=12), attempt(8)]
    assert told.settle("e", cursor=9, deliveries=[changed, delivery(8)], attempts=tries)
    assert told.cursor("e") == 9
    assert told.deliveries("e") == [changed, delivery(8)]
    assert told.attempts("e") == tries
    assert told.settle("e", accepted=[8, 8, 99], deliveries=[replace(changed, state="waiting", lanes=())])
    assert told.cursor("e") == 9, "None leaves the cursor where it was"
    assert told.deliveries("e") == [replace(changed, state="waiting", lanes=())]


def test_settling_nothing_is_no_error(told: Control) -> None:
    assert told.settle("e")
    assert told.cursor("e") == 0


def test_what_is_settled_again_is_there_once(told: Control) -> None:
    for _ in range(2):
        told.settle("e", cursor=2, deliveries=[delivery(1)], attempts=[attempt(1), attempt(1)])
    assert told.attempts("e") == [attempt(1)]
    assert told.deliveries("e") == [delivery(1)]


def test_a_delivery_that_is_accepted_and_asked_for_again_is_kept(told: Control) -> None:
    told.settle("e", deliveries=[delivery(1), delivery(2)])
    again = delivery(1, redelivery=True)
    told.settle("e", accepted=[1], deliveries=[delivery(1, attempts=9), again])
    assert told.deliveries("e") == [again, delivery(2)]


def test_endpoints_do_not_see_each_others_deliveries(told: Control) -> None:
    told.add_endpoint(endpoint("f"))
    told.settle("e", deliveries=[delivery(1)], attempts=[attempt(1)])
    told.settle("f", deliveries=[delivery(1, "f")], attempts=[attempt(1, endpoint="f")])
    told.settle("e", accepted=[1])
    assert told.deliveries("e") == []
    assert told.deliveries("f") == [delivery(1, "f")]
    assert told.attempts("f") == [attempt(1, endpoint="f")]


def test_deliveries_are_listed_by_number_in_pages_and_by_state(told: Control) -> None:
    told.settle("e", deliveries=[delivery(seq, state="dead" if seq % 2 else "waiting") for seq in (10, 9, 2, 1, 0)])
    assert numbers(told.deliveries("e")) == [0, 1, 2, 9, 10]
    assert numbers(told.deliveries("e", after=0, limit=2)) == [1, 2]
    assert numbers(told.deliveries("e", state="dead")) == [1, 9]
    assert numbers(told.deliveries("e", state="waiting", after=2)) == [10]


def test_tries_are_listed_newest_first(told: Control) -> None:
    tries = [attempt(5, 3, later(9)), attempt(6, 1, later(2)), attempt(5, 2, later(2)), attempt(5, 1, later(1))]
    told.settle("e", attempts=sorted(tries, key=lambda found: found.number))
    assert told.attempts("e") == tries
    assert told.attempts("e", limit=2) == tries[:2]
    assert told.attempts("e", before=later(2)) == tries[3:]
    assert told.attempts("e", seq=5) == [tries[0], tries[2], tries[3]]
    assert told.attempts("e", seq=5, before="2026-11-21T13:00:09+01:00") == [tries[2], tries[3]]


def test_old_tries_are_forgotten(told: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.control.tables.PRUNED_AT_ONCE", 3)
    told.add_endpoint(endpoint("f"))
    told.settle("e", attempts=[attempt(seq, time=later(seq)) for seq in range(10)])
    told.settle("f", attempts=[attempt(seq, time=later(seq), endpoint="f") for seq in range(8)])
    told.remove_endpoint("f")
    assert told.prune_attempts(later(7)) == 14
    assert [found.seq for found in told.attempts("e")] == [9, 8, 7]
    assert [found.seq for found in told.attempts("f")] == [7]
    assert told.prune_attempts(later(7)) == 0


def test_what_a_receiver_says_never_keeps_the_rest_from_being_kept(told: Control) -> None:
    said = "\0\ud800" + "é" * 2 * MAX_PROBLEM_CHARACTERS
    assert told.settle("e", cursor=4, deliveries=[delivery(1, problem=said)], attempts=[attempt(1, problem=said)])
    kept = "??" + "é" * (MAX_PROBLEM_CHARACTERS - 2)
    assert told.deliveries("e") == [delivery(1, problem=kept)]
    assert told.attempts("e") == [attempt(1, problem=kept)]
    assert told.cursor("e") == 4


# ---------------------------------------------------------------- leases


def run_out(control: Control, name: str = "job", holder: str = "first") -> Lease:
    """A lease that has run out."""
    lease = control.acquire(name, holder, 0.001)
    assert lease is not None
    wait_until(lambda: system_clock() > add_seconds(lease.until, 0.05), 5, "the lease runs out")
    return lease


def test_a_lease_is_held_by_one(control: Control) -> None:
    first = control.acquire("job", "first", 60)
    assert first is not None
    assert (first.name, first.holder) == ("job", "first")
    assert control.acquire("job", "second", 60) is None
    assert control.leases() == [first]
    assert control.acquire("other", "second", 60) is not None


def test_a_lease_ends_when_it_says(control: Control) -> None:
    lease = control.acquire("job", "first", 100)
    assert lease is not None
    assert add_seconds(system_clock(), 90) < lease.until < add_seconds(system_clock(), 110)


def test_renewing_keeps_the_token_and_moves_the_end(control: Control) -> None:
    first = control.acquire("job", "first", 30)
    again = control.acquire("job", "first", 60)
    assert first is not None
    assert again is not None
    assert again.token == first.token
    assert again.until > add_seconds(first.until, 20)
    assert control.leases() == [again]


def test_a_lease_that_ran_out_is_taken_over_with_a_higher_token(control: Control) -> None:
    first = run_out(control)
    second = control.acquire("job", "second", 60)
    assert second is not None
    assert second.token > first.token
    assert control.acquire("job", "first", 60) is None


def test_taking_a_lease_anew_is_no_renewal(control: Control) -> None:
    first = run_out(control)
    again = control.acquire("job", "first", 60)
    assert again is not None
    assert again.token > first.token


def test_a_released_lease_is_free_and_its_token_still_grows(control: Control) -> None:
    first = control.acquire("job", "first", 60)
    assert first is not None
    control.release(first)
    control.release(first)
    (free,) = control.leases()
    assert (free.name, free.holder, free.token) == ("job", "", first.token)
    second = control.acquire("job", "second", 60)
    assert second is not None
    assert second.token > first.token


def test_who_lost_a_lease_cannot_release_it(control: Control) -> None:
    first = run_out(control)
    second = control.acquire("job", "second", 60)
    assert second is not None
    control.release(first)
    control.release(replace(second, holder="first"))
    assert control.leases() == [second]


def test_settling_with_a_held_lease_is_kept(told: Control) -> None:
    lease = told.acquire("deliver:e", "me", 60)
    assert told.settle("e", cursor=3, lease=lease)
    told.acquire("deliver:e", "me", 60)
    assert told.settle("e", cursor=4, lease=lease), "renewed since, it is still the same lease"
    assert told.cursor("e") == 4


def stale_leases(control: Control) -> dict[str, Lease]:
    held = control.acquire("held", "me", 60)
    released = control.acquire("released", "me", 60)
    taken = run_out(control, "taken")
    assert held is not None
    assert released is not None
    control.release(released)
    assert control.acquire("taken", "another", 60) is not None
    return {
        "run out": run_out(control, "out"),
        "released": released,
        "taken over": taken,
        "of another holder": replace(held, holder="another"),
        "of another token": replace(held, token=held.token + 1),
        "of no name": replace(held, name="unheard of"),
    }


def test_settling_with_a_stale_lease_keeps_nothing(told: Control) -> None:
    told.settle("e", cursor=1, deliveries=[delivery(0)])
    for why, stale in stale_leases(told).items():
        kept = told.settle("e", cursor=9, accepted=[0], deliveries=[delivery(5)], attempts=[attempt(1)], lease=stale)
        assert not kept, why
        assert told.cursor("e") == 1, why
        assert told.deliveries("e") == [delivery(0)], why
        assert told.attempts("e") == [], why


def test_of_many_threads_one_gets_the_lease(control: Control) -> None:
    start = threading.Barrier(8)

    def take(number: int) -> Lease | None:
        start.wait()
        return control.acquire("job", f"holder {number}", 60)

    with ThreadPoolExecutor(8) as threads:
        taken = [lease for lease in threads.map(take, range(8)) if lease is not None]
    assert taken == control.leases()


# ---------------------------------------------------------------- jobs and reports


def run(job: str, ledger: str, second: float, **more: Any) -> JobRun:
    return JobRun(job=job, ledger=ledger, started=later(second), **more)


def test_a_run_is_kept_in_place_of_itself(control: Control) -> None:
    control.keep_run(run("expiry", "shop", 1, holder="me", lag_seconds=2.5))
    done = run("expiry", "shop", 1, holder="me", lag_seconds=2.5, outcome="done", finished=later(3), detail="ä\0")
    control.keep_run(done)
    assert control.runs() == [done]


def test_runs_are_listed_newest_first(control: Control) -> None:
    kept = [run("a", "one", 3), run("b", "one", 2), run("a", "two", 1), run("a", "one", 0)]
    for one in reversed(kept):
        control.keep_run(one)
    assert control.runs() == kept
    assert control.runs(limit=2) == kept[:2]
    assert control.runs(job="a") == [kept[0], kept[2], kept[3]]
    assert control.runs(ledger="one") == [kept[0], kept[1], kept[3]]
    assert control.runs(job="a", ledger="one", limit=1) == [kept[0]]
    assert control.last_runs() == [kept[0], kept[2], kept[1]]


def test_old_runs_are_forgotten_but_the_newest_of_each(control: Control) -> None:
    for one in (run("a", "one", 1), run("a", "one", 2), run("b", "", 1), run("c", "one", 1), run("c", "one", 9)):
        control.keep_run(one)
    assert control.prune_runs(later(5)) == 2
    assert control.runs() == [run("c", "one", 9), run("a", "one", 2), run("b", "", 1)]
    assert control.prune_runs(later(5)) == 0


def test_reports_are_kept_as_they_were_written(control: Control) -> None:
    body: dict[str, object] = {"findings": [{"what": "ü\0", "amount": "5"}], "head": 7, "part": 1.5, "none": None}
    first = control.keep_report("shop", NOON, False, body)
    second = control.keep_report("other", later(1), True, {})
    third = control.keep_report("shop", later(2), True, {})
    assert 0 < first < second < third
    kept = control.report(first)
    assert kept is not None
    assert (kept.id, kept.ledger, kept.time, kept.ok, kept.body) == (first, "shop", NOON, False, body)
    assert [found.id for found in control.reports()] == [third, second, first]
    assert [found.id for found in control.reports(limit=1)] == [third]
    assert [found.id for found in control.reports(before=third)] == [second, first]
    assert [found.id for found in control.reports(ledger="shop")] == [third, first]
    assert [found.id for found in control.reports(ledger="shop", before=third)] == [first]
    assert control.reports(before=first) == []


# ---------------------------------------------------------------- the rest


def test_a_secret_is_made_once_for_each_name(control: Control) -> None:
    first = control.secret("cursors")
    assert len(first) == 32
    assert control.secret("cursors") == first
    assert control.secret("other") != first


def test_of_many_threads_all_get_the_same_secret(control: Control) -> None:
    start = threading.Barrier(8)

    def ask(_: int) -> bytes:
        start.wait()
        return control.secret("cursors")

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(ask, range(8)))) == 1


def test_threads_may_settle_and_read_at_once(told: Control) -> None:
    for number in range(4):
        told.add_endpoint(endpoint(f"e{number}"))

    def work(number: int) -> int:
        own = f"e{number}"
        for seq in range(10):
            told.settle(own, cursor=seq + 1, deliveries=[delivery(seq, own)], attempts=[attempt(seq, endpoint=own)])
            assert told.cursor(own) == seq + 1
        return len(told.deliveries(own)) + len(told.attempts(own))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, range(4))) == [20] * 4


def test_five_hundred_of_each_are_settled_in_a_moment(told: Control) -> None:
    lease = told.acquire("deliver:e", "me", 60)
    best = 60.0
    for first in range(0, 5_000, 500):
        seqs = range(first, first + 500)
        changed = [delivery(seq, attempts=2, due=NOON, problem="503", lanes=("users:a", "users:b")) for seq in seqs]
        tries = [attempt(seq, status=503, milliseconds=3) for seq in seqs]
        accepted = range(max(first - 500, 0), first)
        began = time.perf_counter()
        assert told.settle("e", cursor=first, accepted=accepted, deliveries=changed, attempts=tries, lease=lease)
        best = min(best, time.perf_counter() - began)
    assert best < 0.1, "2,000 a second are wanted; it takes about 10 ms where nothing else runs"


def test_a_closed_store_says_so(control: Control) -> None:
    control.close()
    control.close()
    for use in (control.keys, control.leases, lambda: control.secret("a"), lambda: control.acquire("a", "b", 1)):
        with pytest.raises(Closed):
            use()


def test_every_error_can_be_told(told: Control) -> None:
    with pytest.raises(TallystickError) as caught:
        told.settle("e", cursor=-1)
    assert caught.value.to_dict()["code"] == "invalid_input"
