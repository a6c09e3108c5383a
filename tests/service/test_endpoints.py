"""Endpoints over HTTP: made once, seen by their owners, told what they may know, and asked how they are."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tallystick.control import Attempt, Delivery, Endpoint, Scope
from tallystick.delivery.engine import Deliverer
from tallystick.delivery.signatures import verify
from tallystick.service.routes.endpoints import MAX_ENDPOINTS
from tallystick.service.settings import Settings
from tests.delivery.receiver import Receiver, Reply
from tests.support.service import Caller, Served, serving

MAIN = "/v1/ledgers/main"
ENDPOINTS = f"{MAIN}/endpoints"
HOOK = {"url": "https://hooks.example.com/ledger"}
USD = "USD/2"


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


@pytest.fixture
def inside() -> Iterator[Served]:
    """A service that may reach the receivers of these tests."""
    with serving("memory://", Settings(allow_private=True)) as found:
        yield found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as found:
        yield found


def made(caller: Caller, **more: Any) -> Any:
    return caller.done(ENDPOINTS, {**HOOK, **more})


# ---------------------------------------------------------------- made once


def test_an_endpoint_is_told_what_happens_from_now_on(inside: Served, receiver: Receiver) -> None:
    endpoint = made(inside.admin, url=receiver.url, types=["transfer"])
    seqs = [inside.ledger.transfer("users:alice", "users:bob", USD, 1, key=str(key)).seq for key in range(3)]

    with Deliverer(inside.database, inside.control, allow_private=True) as deliverer:
        deliverer.run_once(endpoint["id"])
    assert receiver.seqs == seqs
    for request in receiver.requests:
        verify(endpoint["secrets"][0], request.headers, request.body)
    assert inside.admin.get(f"{ENDPOINTS}/{endpoint['id']}").json()["cursor"] == inside.ledger.head.seq


def test_secrets_are_shown_to_who_makes_them_and_nowhere_else(served: Served) -> None:
    endpoint = made(served.admin, signatures=["v1", "v1a"])
    shared, pair = endpoint["secrets"]

    assert (shared[:6], pair[:5]) == ("whsec_", "whsk_")
    assert [key[:5] for key in endpoint["public_keys"]] == ["whpk_"]
    for place in (ENDPOINTS, f"{ENDPOINTS}/{endpoint['id']}"):
        shown = served.admin.get(place)
        assert endpoint["public_keys"][0] in shown.text
        assert shared not in shown.text
        assert pair not in shown.text


def test_a_repeat_makes_no_second_endpoint_and_no_second_secret(served: Served) -> None:
    first = served.admin.post(ENDPOINTS, HOOK, key="once")
    served.ledger.mint("users:alice", USD, 1, key="meanwhile")
    again = served.admin.post(ENDPOINTS, HOOK, key="once")

    assert (first.status_code, again.status_code) == (201, 201)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()
    assert len(served.control.endpoints()) == 1


def test_many_repeats_at_once_make_one_endpoint(served: Served) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: served.admin.done(ENDPOINTS, HOOK, key="once"), range(8)))
    assert len({(answer["id"], *answer["secrets"]) for answer in answers}) == 1
    assert len(served.control.endpoints()) == 1


def test_two_endpoints_have_two_secrets(here: Served) -> None:
    first, second = made(here.admin, signatures=["v1", "v1a"]), made(here.admin, signatures=["v1", "v1a"])
    assert first["id"] != second["id"]
    assert not set(first["secrets"]) & set(second["secrets"])


def test_another_endpoint_under_the_same_key_is_a_conflict(here: Served) -> None:
    first = here.admin.done(ENDPOINTS, HOOK, key="once")
    other = here.admin.post(ENDPOINTS, {**HOOK, "types": ["hold"]}, key="once")
    assert code(other) == (409, "idempotency_conflict")
    assert first["id"] in other.json()["detail"]


@pytest.mark.parametrize(
    "change",
    [
        {"url": "http://hooks.example.com/"},
        {"url": "https://127.0.0.1/"},
        {"url": "https://169.254.169.254/latest"},
        {"url": "https://user@hooks.example.com/"},
        {"url": "nonsense"},
        {"url": ""},
        {"kind": "file", "url": "/tmp/events.jsonl"},
        {"kind": "pigeon"},
        {"kind": "sqs", "url": "nonsense"},
        {"types": ["transfers"]},
        {"types": ["transfer"] * 101},
        {"account_prefix": "users*"},
        {"mapping": "other"},
        {"mapping": "billing", "types": ["transfer"]},
        {"signatures": []},
        {"signatures": ["v2"]},
        {"settings": {"order": "random"}},
        {"settings": {"colour": "red"}},
        {"start": -1},
        {"secrets": ["whsec_x"]},
    ],
)
def test_what_cannot_be_an_endpoint_is_refused(here: Served, change: dict[str, Any]) -> None:
    answer = here.admin.post(ENDPOINTS, {**HOOK, **change})
    assert answer.status_code in (400, 422), answer.text
    assert here.control.endpoints() == []


def test_a_type_of_the_ledgers_own_may_be_named(here: Served) -> None:
    assert here.admin.post(ENDPOINTS, {**HOOK, "types": ["rent"]}).status_code == 422
    here.ledger.define_type("rent", base="transfer", key="rent")
    assert made(here.admin, types=["rent"])["types"] == ["rent"]


def test_one_subject_has_so_many_endpoints_and_no_more(here: Served) -> None:
    for number in range(MAX_ENDPOINTS - 1):
        here.control.add_endpoint(Endpoint(id=f"ep_{number}", ledger="main", url=HOOK["url"], owner="admin"))
    here.control.add_endpoint(Endpoint(id="ep_other", ledger="main", url=HOOK["url"], owner="other"))
    last = here.admin.post(ENDPOINTS, HOOK, key="last")
    assert last.status_code == 201
    assert code(here.admin.post(ENDPOINTS, HOOK)) == (422, "too_many_endpoints")
    assert here.admin.post(ENDPOINTS, HOOK, key="last").json() == last.json(), "a repeat makes none"


# ---------------------------------------------------------------- whose they are


@pytest.fixture
def tenant(here: Served) -> Caller:
    """Who may be told of his own accounts alone."""
    return here.caller(
        subject="tenant", scopes=(Scope("deliver", "main", "users:alice"), Scope("read", "main", "users:alice"))
    )


def test_an_endpoint_of_another_looks_like_none(here: Served, tenant: Caller) -> None:
    own = made(tenant, account_prefix="users:alice", mapping="billing")["id"]
    others = made(here.admin)["id"]
    here.database.ledger("other").mint("users:alice", USD, 1, key="1")
    elsewhere = here.admin.done("/v1/ledgers/other/endpoints", HOOK)["id"]

    assert [one["id"] for one in tenant.get(ENDPOINTS).json()["items"]] == [own]
    for id in (others, elsewhere, "ep_nothing", "x" * 128):
        place = f"{ENDPOINTS}/{id}"
        answers = [tenant.get(place), tenant.get(f"{place}/deliveries"), tenant.get(f"{place}/attempts")]
        answers += [tenant.post(f"{place}/{act}", {}) for act in ("ping", "enable", "rotate-secret")]
        answers += [tenant.post(f"{place}/redeliver", {"first": 0}), tenant.send("DELETE", place)]
        answers += [tenant.send("PATCH", place, {"state": "disabled"})]
        for answer in answers:
            assert code(answer) == (404, "not_found")
            assert answer.json()["detail"] == f"there is no endpoint {id[:80]}"
    assert here.control.endpoint(others).state == "enabled"  # type: ignore[union-attr]
    assert here.admin.get(f"{ENDPOINTS}/{elsewhere}").status_code == 404, "it is in another ledger"


def test_who_keeps_the_whole_ledgers_endpoints_sees_those_of_others(here: Served, tenant: Caller) -> None:
    id = made(tenant, account_prefix="users:alice", mapping="billing")["id"]
    keeper = here.caller(scopes=(Scope("deliver", "main"),))
    assert keeper.get(f"{ENDPOINTS}/{id}").json()["owner"] == "tenant"
    second = here.caller(subject="tenant", scopes=(Scope("deliver", "main", "users:alice"),))
    assert second.get(f"{ENDPOINTS}/{id}").is_success


def test_nobody_is_told_what_he_may_not_read(here: Served, tenant: Caller) -> None:
    """Events are told with the balances of everyone in them."""
    for body in (
        {},
        {"account_prefix": "users:"},
        {"account_prefix": "users:b", "mapping": "billing"},
        {"account_prefix": "", "mapping": "billing"},
        {"account_prefix": "users:alice"},
    ):
        assert code(tenant.post(ENDPOINTS, {**HOOK, **body})) == (403, "forbidden")
    id = made(tenant, account_prefix="users:alice", mapping="billing")["id"]
    for change in ({"account_prefix": "users:"}, {"account_prefix": ""}):
        assert code(tenant.send("PATCH", f"{ENDPOINTS}/{id}", change)) == (403, "forbidden")
    reader = here.caller(scopes=(Scope("deliver", "main", "users:"), Scope("read", "main")))
    assert made(reader)["account_prefix"] == ""
    deaf = here.caller(scopes=(Scope("deliver", "main"),))
    assert code(deaf.post(ENDPOINTS, HOOK)) == (403, "forbidden")


def test_queues_are_for_those_who_deliver_in_all_ledgers(here: Served) -> None:
    queue = {"kind": "nats", "url": "nats://queue.example.com:4222", "settings": {"subject": "events"}}
    limited = here.caller(scopes=(Scope("deliver", "main"), Scope("read", "main")))
    assert code(limited.post(ENDPOINTS, queue)) == (403, "forbidden")
    answer = here.admin.post(ENDPOINTS, queue)
    assert answer.status_code == 201, answer.text
    assert answer.json()["secrets"] == []


def test_which_file_is_written_is_not_said_over_http(here: Served) -> None:
    here.control.add_endpoint(Endpoint(id="ep_file", ledger="main", kind="file", url="/var/events.jsonl"))
    answer = here.admin.send("PATCH", f"{ENDPOINTS}/ep_file", {"url": "/etc/passwd"})
    assert code(answer) == (403, "forbidden")
    assert here.admin.send("PATCH", f"{ENDPOINTS}/ep_file", {"types": ["hold"]}).json()["types"] == ["hold"]


def test_endpoints_need_their_verb(here: Served) -> None:
    for role in ("writer", "reader", "auditor"):
        caller = here.caller(role=role)
        assert caller.get(ENDPOINTS).status_code == 403
        assert caller.post(ENDPOINTS, HOOK).status_code == 403


def test_endpoints_are_listed_page_by_page(here: Served, tenant: Caller) -> None:
    own = {made(tenant, account_prefix="users:alice", mapping="billing")["id"] for _ in range(5)}
    for _ in range(5):
        made(here.admin)

    def listed(caller: Caller) -> list[str]:
        seen, more = [], {}
        while True:
            page = caller.get(ENDPOINTS, limit=2, **more).json()
            assert len(page["items"]) <= 2
            seen += [one["id"] for one in page["items"]]
            if not page["cursor"]:
                return seen
            more = {"cursor": page["cursor"]}

    assert listed(tenant) == sorted(own)
    assert len(listed(here.admin)) == 10


# ---------------------------------------------------------------- changed


def test_what_is_named_changes_and_the_rest_stays(served: Served) -> None:
    before = made(served.admin, types=["transfer"], account_prefix="users:")
    place = f"{ENDPOINTS}/{before['id']}"

    changed = served.admin.send("PATCH", place, {"url": "https://other.example.com/"}).json()
    assert changed == {**{k: v for k, v in before.items() if k != "secrets"}, "url": "https://other.example.com/"}
    assert served.control.endpoint(before["id"]).secrets == tuple(before["secrets"])  # type: ignore[union-attr]
    assert served.admin.send("PATCH", place, {"types": []}).json()["types"] == []
    off = served.admin.send("PATCH", place, {"state": "disabled"}).json()
    assert (off["state"], off["reason"]) == ("disabled", "by hand")
    on = served.admin.send("PATCH", place, {"state": "enabled"}).json()
    assert (on["state"], on["reason"]) == ("enabled", "")


@pytest.mark.parametrize(
    "change",
    [{"url": "http://127.0.0.1/"}, {"types": ["x"]}, {"state": "dead"}, {"settings": {"a": "b"}}, {"owner": "me"}],
)
def test_a_change_to_what_cannot_be_is_refused(here: Served, change: dict[str, Any]) -> None:
    id = made(here.admin)["id"]
    before = here.control.endpoint(id)
    assert here.admin.send("PATCH", f"{ENDPOINTS}/{id}", change).status_code in (400, 422)
    assert here.control.endpoint(id) == before


def test_an_endpoint_that_was_disabled_is_enabled_again(here: Served) -> None:
    id = made(here.admin)["id"]
    here.admin.send("PATCH", f"{ENDPOINTS}/{id}", {"state": "disabled"})
    first = here.admin.post(f"{ENDPOINTS}/{id}/enable", {})
    again = here.admin.post(f"{ENDPOINTS}/{id}/enable", {})
    assert first.json()["state"] == again.json()["state"] == "enabled"
    assert ["idempotency-replayed" in answer.headers for answer in (first, again)] == [False, True]


def test_a_removed_endpoint_is_gone(served: Served) -> None:
    id = made(served.admin)["id"]
    gone = served.admin.send("DELETE", f"{ENDPOINTS}/{id}")
    assert (gone.status_code, gone.json()) == (200, {"id": id})
    assert served.admin.get(f"{ENDPOINTS}/{id}").status_code == 404
    assert served.admin.send("DELETE", f"{ENDPOINTS}/{id}").status_code == 404


def test_a_new_secret_signs_beside_the_old_one_until_it_is_ended(served: Served) -> None:
    endpoint = made(served.admin, signatures=["v1", "v1a"])
    place = f"{ENDPOINTS}/{endpoint['id']}/rotate-secret"

    first = served.admin.post(place, {}, key="once")
    again = served.admin.post(place, {}, key="once")
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    new, old, pair = first.json()["secrets"]
    assert [old, pair] == endpoint["secrets"]
    assert new not in endpoint["secrets"]
    assert served.admin.done(place, {"signature": "v1a"})["secrets"][1:] == [pair, new, old]
    ended = served.admin.done(place, {"end": True})["secrets"]
    assert len(ended) == 2
    assert new in ended


# ---------------------------------------------------------------- deliveries


def test_a_ping_says_how_it_was_received(inside: Served) -> None:
    with Receiver() as receiver:
        endpoint = made(inside.admin, url=receiver.url)
        place = f"{ENDPOINTS}/{endpoint['id']}/ping"
        assert inside.admin.done(place, {}) == {"accepted": True, "status": 204, "problem": ""}
        (request,) = receiver.requests
        assert request.event["type"] == "tallystick.ping.v1"
        verify(endpoint["secrets"][0], request.headers, request.body)
        receiver.behaviour = lambda request: Reply(status=500)
        failed = inside.admin.done(place, {})
        assert (failed["accepted"], failed["status"]) == (False, 500)
    gone = inside.admin.done(place, {})
    assert (gone["accepted"], gone["status"]) == (False, 0)
    assert gone["problem"]


def test_a_ping_reaches_nobody_inside(here: Served, receiver: Receiver) -> None:
    """Whatever the endpoint's record says, as one that was made while it was allowed."""
    here.control.add_endpoint(Endpoint(id="ep_inside", ledger="main", url=receiver.url, owner="admin"))
    answer = here.admin.done(f"{ENDPOINTS}/ep_inside/ping", {})
    assert answer["accepted"] is False
    assert receiver.requests == []


def test_events_are_told_again_by_number_and_by_id(inside: Served, receiver: Receiver) -> None:
    endpoint = made(inside.admin, url=receiver.url, start=0)
    with Deliverer(inside.database, inside.control, allow_private=True) as deliverer:
        deliverer.run_once(endpoint["id"])
        told = len(receiver.requests)
        assert told == inside.ledger.head.seq
        place = f"{ENDPOINTS}/{endpoint['id']}/redeliver"
        asked = inside.admin.done(place, {"first": 0, "last": told - 1})
        assert asked == {"asked": told, "filtered": 0, "still_to_come": 0}
        waiting = inside.admin.get(f"{ENDPOINTS}/{endpoint['id']}/deliveries").json()["items"]
        assert [(row["id"], row["redelivery"]) for row in waiting] == [(f"main/{seq}", True) for seq in range(told)]
        deliverer.run_once(endpoint["id"])
        assert inside.admin.done(place, {"id": "main/1"})["asked"] == 1
        deliverer.run_once(endpoint["id"])
    assert [request.seq for request in receiver.requests][-1] == 1
    assert len(receiver.requests) == 2 * told + 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"id": "main/1", "first": 1}, 422),
        ({"id": "main/1", "last": 1}, 422),
        ({"last": 1}, 422),
        ({"first": 2, "last": 1}, 422),
        ({"first": 0, "last": 10_000}, 422),
        ({"first": -1}, 400),
        ({"first": 99}, 404),
        ({"id": "other/1"}, 404),
        ({"id": "main/x"}, 404),
        ({"id": "1"}, 404),
        ({"id": f"main/{2**63}"}, 404),
    ],
)
def test_what_cannot_be_told_again_is_said(here: Served, body: dict[str, Any], status: int) -> None:
    id = made(here.admin)["id"]
    assert here.admin.post(f"{ENDPOINTS}/{id}/redeliver", body).status_code == status


def test_what_waits_and_what_was_given_up_is_listed(served: Served) -> None:
    id = made(served.admin)["id"]
    rows = [Delivery(endpoint=id, seq=seq, state="dead" if seq % 2 else "waiting", attempts=1) for seq in range(7)]
    served.control.settle(id, deliveries=rows)

    def listed(**query: Any) -> list[int]:
        seen, more = [], {}
        while True:
            page = served.admin.get(f"{ENDPOINTS}/{id}/deliveries", limit=2, **(more or query)).json()
            seen += [row["seq"] for row in page["items"]]
            if not page["cursor"]:
                return seen
            more = {"cursor": page["cursor"]}

    assert listed() == list(range(7))
    assert listed(state="dead") == [1, 3, 5]
    assert served.admin.get(f"{ENDPOINTS}/{id}/deliveries", state="lost").status_code == 400


def test_no_try_is_lost_between_pages_though_many_were_at_the_same_time(served: Served) -> None:
    id = made(served.admin)["id"]
    times = ["2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:00.000001Z", "2026-01-02T00:00:00.000000Z"]
    tries = [
        Attempt(endpoint=id, seq=seq, number=1, time=times[seq % 3 if seq < 9 else 0], status=200) for seq in range(14)
    ]
    served.control.settle(id, attempts=tries)

    def listed(**query: Any) -> list[tuple[str, int]]:
        seen, more = [], {}
        while True:
            page = served.admin.get(f"{ENDPOINTS}/{id}/attempts", limit=2, **(more or query)).json()
            seen += [(row["time"], row["seq"]) for row in page["items"]]
            if not page["cursor"]:
                return seen
            more = {"cursor": page["cursor"]}

    assert listed() == sorted(((row.time, row.seq) for row in tries), reverse=True)
    assert listed(seq=4) == [(times[1], 4)]


def test_a_cursor_of_one_endpoints_deliveries_is_of_no_use_at_anothers(here: Served) -> None:
    first, second = made(here.admin)["id"], made(here.admin)["id"]
    here.control.settle(first, deliveries=[Delivery(endpoint=first, seq=seq) for seq in range(3)])
    cursor = here.admin.get(f"{ENDPOINTS}/{first}/deliveries", limit=1).json()["cursor"]
    assert here.admin.get(f"{ENDPOINTS}/{second}/deliveries", limit=1, cursor=cursor).status_code == 400
