"""What operators do with endpoints."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tallystick.delivery import operations
from tallystick.delivery.ladder import Ladder
from tallystick.delivery.operations import (
    MAX_REDELIVERED,
    MAX_TYPES,
    Asked,
    change_url,
    disable,
    enable,
    end_rotation,
    new_endpoint,
    ping,
    redeliver,
    rotate_secret,
)
from tallystick.delivery.signatures import new_secret, new_signing_key, public_key, verify
from tallystick.delivery.transport import Sent
from tallystick.errors import InvalidInput, NotFound, ProofInvalid
from tests.delivery.receiver import Receiver, Reply
from tests.delivery.scenes import Scene, running

URL = "https://hooks.example/in"

# ---------------------------------------------------------------- a new endpoint


def test_a_webhook_gets_an_id_and_a_secret_of_its_own() -> None:
    one, two = new_endpoint(ledger="main", url=URL), new_endpoint(ledger="main", url=URL)
    assert one.id != two.id
    assert one.secrets != two.secrets
    assert one.secrets[0].startswith("whsec_")
    assert (one.kind, one.state, one.start, one.types) == ("webhook", "enabled", 0, ())
    assert one.created


def test_it_may_be_signed_by_a_key_pair_or_in_both_ways() -> None:
    both = new_endpoint(ledger="main", url=URL, signatures=["v1", "v1a"])
    assert [secret.partition("_")[0] for secret in both.secrets] == ["whsec", "whsk"]
    given = (new_secret(os.urandom), new_signing_key(os.urandom))
    assert new_endpoint(ledger="main", url=URL, secrets=given).secrets == given


def test_a_sink_has_no_secrets() -> None:
    assert new_endpoint(ledger="main", kind="file", url="/var/log/events 1").secrets == ()
    with pytest.raises(InvalidInput):
        new_endpoint(ledger="main", kind="file", url="/x", secrets=[new_secret(os.urandom)])


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"ledger": "no/ledger"}, "ledger"),
        ({"kind": "carrier pigeon"}, "kind"),
        ({"id": "a b"}, "id"),
        ({"id": "a" * 65}, "id"),
        ({"start": -1}, "start"),
        ({"start": 2**63}, "start"),
        ({"start": True}, "start"),
        ({"url": "http://hooks.example/"}, "url"),
        ({"url": "https://127.0.0.1/"}, "url"),
        ({"url": "https://user:pass@hooks.example/"}, "url"),
        ({"url": "", "kind": "sns"}, "url"),
        ({"url": "a b", "kind": "nats"}, "url"),
        ({"mapping": "xml"}, "mapping"),
        ({"types": ["transfers"]}, "types"),
        ({"types": "transfer"}, "types"),
        ({"types": ["transfer"], "mapping": "billing"}, "types"),
        ({"types": ["x"] * (MAX_TYPES + 1)}, "types"),
        ({"account_prefix": "a b"}, "account_prefix"),
        ({"account_prefix": "a" * 256}, "account_prefix"),
        ({"settings": {"order": "random"}}, "settings.order"),
        ({"settings": {"A": "b"}}, "settings"),
        ({"settings": {"a": "b\r\nc"}}, "settings.a"),
        ({"settings": {"a": "b" * 1_025}}, "settings.a"),
        ({"settings": {f"a{i}": "" for i in range(21)}}, "settings"),
        ({"secrets": ["hunter2"]}, "secrets"),
        ({"secrets": [new_secret(os.urandom) for _ in range(3)]}, "secrets"),
        ({"signatures": ["v3"]}, "signature"),
        ({"signatures": []}, "secrets"),
    ],
)
def test_what_an_endpoint_cannot_be_is_refused(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        new_endpoint(**{"ledger": "main", "url": URL, **changes})
    assert refusal.value.data["path"] == path
    assert "hunter2" not in str(refusal.value)
    assert "pass@" not in str(refusal.value)


def test_what_it_can_be_is_taken() -> None:
    found = new_endpoint(
        ledger="main",
        url=URL,
        id="a" * 64,
        types=["transfer", "hold", "sale", "hold"],
        known_types=["sale"],
        account_prefix="users:",
        start=2**63 - 1,
        settings={"order": "holder", "a": "b" * 1_024},
        owner="team",
    )
    assert found.types == ("hold", "sale", "transfer")
    assert new_endpoint(ledger="main", url=URL, mapping="billing", types=["ORDER_CREATED", "hold"]).mapping == "billing"


# ---------------------------------------------------------------- asking again


def test_an_event_that_was_accepted_is_delivered_again_under_its_id(scene: Scene, receiver: Receiver) -> None:
    scene.fund(3)
    endpoint = scene.endpoint(receiver.url)
    a, b, c = scene.pay((0, 1), (1, 2), (0, 2))
    with scene.deliverer() as deliverer:
        deliverer.run_once(endpoint.id)
        assert redeliver(scene.control, scene.ledger, endpoint.id, b) == Asked(1, 0, 0)
        (row,) = scene.control.deliveries(endpoint.id)
        assert (row.seq, row.redelivery, row.lanes) == (b, True, ("users:1", "users:2"))
        deliverer.run_once(endpoint.id)
        assert [request.seq for request in receiver.requests] == [a, b, c, b]
        assert receiver.requests[1].id == receiver.requests[3].id
        assert redeliver(scene.control, scene.ledger, endpoint.id, a, c).asked == 3
        deliverer.run_once(endpoint.id)
    assert [request.seq for request in receiver.requests] == [a, b, c, b, a, b, c]
    assert scene.control.deliveries(endpoint.id) == []


def test_a_dead_letter_is_delivered_again_from_its_first_rung(scene: Scene, receiver: Receiver) -> None:
    scene.fund(2)
    endpoint = scene.endpoint(receiver.url)
    (seq,) = scene.pay((0, 1))
    receiver.behaviour = lambda request: Reply(500)
    with scene.deliverer(ladder=Ladder(waits=(0, 0), jitter=0)) as deliverer:
        deliverer.run_once(endpoint.id)
        assert [row.seq for row in scene.control.deliveries(endpoint.id, state="dead")] == [seq]
        assert redeliver(scene.control, scene.ledger, endpoint.id, seq).asked == 1
        deliverer.run_once(endpoint.id)
        assert len(receiver.requests) == 4
        assert [row.state for row in scene.control.deliveries(endpoint.id)] == ["dead"]
        receiver.behaviour = lambda request: Reply()
        redeliver(scene.control, scene.ledger, endpoint.id, seq)
        deliverer.run_once(endpoint.id)
    assert receiver.seqs == [seq]
    assert scene.control.deliveries(endpoint.id) == []


def test_a_running_deliverer_takes_up_what_is_asked_for(scene: Scene, receiver: Receiver) -> None:
    scene.fund(3)
    endpoint = scene.endpoint(receiver.url)
    seqs = scene.pay((0, 1), (1, 2), (0, 2))
    replies = iter([Reply(500)])
    receiver.behaviour = lambda request: next(replies, Reply())
    with scene.deliverer(ladder=Ladder(waits=(0, 3_600), jitter=0)) as deliverer, running(deliverer):
        receiver.wait_for(lambda: [row.attempts for row in scene.control.deliveries(endpoint.id)] == [1, 0, 0])
        redeliver(scene.control, scene.ledger, endpoint.id, seqs[0])
        receiver.wait_for(lambda: receiver.seqs == seqs and scene.control.deliveries(endpoint.id) == [])
        redeliver(scene.control, scene.ledger, endpoint.id, seqs[1])
        receiver.wait_for(lambda: [request.seq for request in receiver.accepted] == [*seqs, seqs[1]])


def test_what_is_still_to_come_is_not_asked_for_twice(scene: Scene, receiver: Receiver) -> None:
    scene.fund(3)
    endpoint = scene.endpoint(receiver.url, types=["transfer"])
    first, *_ = scene.pay((0, 1), (1, 2))
    scene.ledger.freeze("users:2", key="f")
    assert redeliver(scene.control, scene.ledger, endpoint.id, first, first + 2) == Asked(0, 1, 2)
    assert scene.control.deliveries(endpoint.id) == []


def test_what_cannot_be_asked_for_is_refused(scene: Scene, receiver: Receiver) -> None:
    scene.fund(1)
    endpoint = scene.endpoint(receiver.url)
    with pytest.raises(NotFound, match="endpoint"):
        redeliver(scene.control, scene.ledger, "nothing", 0)
    with pytest.raises(NotFound, match="event"):
        redeliver(scene.control, scene.ledger, endpoint.id, 1_000)
    with pytest.raises(InvalidInput, match="main"):
        redeliver(scene.control, scene.database.ledger("other"), endpoint.id, 0)
    for first, last in ((-1, 0), (1, 0), (0, MAX_REDELIVERED), (True, True), ("0", "1")):
        with pytest.raises(InvalidInput):
            redeliver(scene.control, scene.ledger, endpoint.id, first, last)  # type: ignore[arg-type]
    redeliver(scene.control, scene.ledger, endpoint.id, 0, MAX_REDELIVERED - 1)


# ---------------------------------------------------------------- secrets


def test_during_a_rotation_receivers_with_either_secret_can_verify(scene: Scene, receiver: Receiver) -> None:
    scene.fund(2)
    endpoint = scene.endpoint(receiver.url)
    (old,) = endpoint.secrets
    (new, kept) = rotate_secret(scene.control, endpoint.id).secrets
    assert kept == old
    with scene.deliverer() as deliverer:
        scene.pay((0, 1))
        deliverer.run_once(endpoint.id)
        for secret in (old, new):
            verify(secret, receiver.requests[0].headers, receiver.requests[0].body)
        assert end_rotation(scene.control, endpoint.id).secrets == (new,)
        scene.pay((0, 1))
        deliverer.run_once(endpoint.id)
    verify(new, receiver.requests[1].headers, receiver.requests[1].body)
    with pytest.raises(ProofInvalid):
        verify(old, receiver.requests[1].headers, receiver.requests[1].body)


def test_of_each_kind_two_secrets_are_kept_and_the_other_kind_is_left_alone(scene: Scene) -> None:
    endpoint = scene.endpoint("http://127.0.0.1:1/")
    for _ in range(3):
        rotate_secret(scene.control, endpoint.id)
        found = rotate_secret(scene.control, endpoint.id, signature="v1a")
    kinds = [secret.partition("_")[0] for secret in found.secrets]
    assert kinds == ["whsk", "whsk", "whsec", "whsec"]
    assert end_rotation(scene.control, endpoint.id).secrets == (found.secrets[0], found.secrets[2])
    public_key(found.secrets[0])
    with pytest.raises(InvalidInput):
        rotate_secret(scene.control, endpoint.id, signature="v2")
    sink = scene.endpoint("somewhere", kind="file")
    with pytest.raises(InvalidInput, match="no secrets"):
        rotate_secret(scene.control, sink.id)


# ---------------------------------------------------------------- on, off, elsewhere, test


def test_a_disabled_endpoint_is_told_later_what_came_meanwhile(scene: Scene, receiver: Receiver) -> None:
    scene.fund(2)
    endpoint = scene.endpoint(receiver.url)
    assert disable(scene.control, endpoint.id, "moving house").reason == "moving house"
    seqs = scene.pay((0, 1), (1, 0))
    with scene.deliverer() as deliverer:
        assert deliverer.run_once(endpoint.id).problem == "moving house"
        assert receiver.requests == []
        found = enable(scene.control, endpoint.id)
        assert (found.state, found.reason) == ("enabled", "")
        deliverer.run_once(endpoint.id)
    assert receiver.seqs == seqs


def test_a_new_url_is_checked_as_the_first_one_was(scene: Scene) -> None:
    endpoint = scene.endpoint("http://127.0.0.1:1/")
    with pytest.raises(InvalidInput):
        change_url(scene.control, endpoint.id, "https://10.0.0.1/")
    assert change_url(scene.control, endpoint.id, URL).url == URL


def test_an_endpoint_can_be_tested_by_itself(receiver: Receiver) -> None:
    endpoint = new_endpoint(ledger="main", url=receiver.url, allow_private=True)
    assert ping(endpoint, allow_private=True) == Sent(accepted=True, status=204)
    assert not ping(endpoint).accepted
    assert len(receiver.requests) == 1
    with pytest.raises(InvalidInput, match="transport"):
        ping(new_endpoint(ledger="main", kind="sqs", url=URL))


@pytest.mark.parametrize("name", ["enable", "disable", "rotate_secret", "end_rotation"])
def test_an_endpoint_that_is_not_there_is_said_to_be(scene: Scene, name: str) -> None:
    with pytest.raises(NotFound):
        getattr(operations, name)(scene.control, "nothing")
