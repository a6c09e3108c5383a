"""SQS, SNS and EventBridge: what arrives there, in how many calls, and what is said of what did not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws
from moto.events.utils import EventTemplateParser

from tallystick.delivery.sinks import SinkSettings, aws
from tallystick.delivery.sinks.aws import MAX_BYTES, AwsTransport
from tallystick.delivery.sinks.eventbridge import EventBridgeTransport
from tallystick.delivery.sinks.sns import SnsTransport
from tallystick.delivery.sinks.sqs import SqsTransport
from tests.delivery.sink_support import accepted, close, endpoint, message, of_size, send_all, send_one

REGION = "eu-central-1"


class Spy:
    """A client of moto that notes its calls, and that can be told to fail some."""

    def __init__(self, client: Any, name: str, entries: str) -> None:
        self._client = client
        self._entries = entries
        self.calls: list[list[dict[str, Any]]] = []
        self.before: Callable[[list[dict[str, Any]]], None] = lambda entries: None
        """May raise instead of the call."""
        self.fails: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda entry: None
        """What the answer says of an entry that is not to be taken."""
        setattr(self, name, lambda **arguments: self._call(name, arguments))

    def _call(self, name: str, arguments: dict[str, Any]) -> Any:
        entries = arguments[self._entries]
        self.calls.append(entries)
        self.before(entries)
        failed = [{**said, "Id": entry["Id"]} for entry in entries if (said := self.fails(entry))]
        lost = {item["Id"] for item in failed}
        left = [entry for entry in entries if entry.get("Id") not in lost]
        answer = getattr(self._client, name)(**{**arguments, self._entries: left}) if left else {}
        return {**answer, "Failed": [*answer.get("Failed", []), *failed]} if failed else answer

    def close(self) -> None:
        self._client.close()

    @property
    def sizes(self) -> list[int]:
        return [len(entries) for entries in self.calls]


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with mock_aws():
        yield


@pytest.fixture(autouse=True)
def _without_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    """moto passes events through a library for templates, which nothing else needs, even where there is no template."""
    monkeypatch.setattr(EventTemplateParser, "parse", lambda event, **template: dict(event))


@pytest.fixture
def sqs() -> Any:
    return boto3.client("sqs", REGION)


def _queue(sqs: Any, name: str = "events") -> str:
    attributes = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
    return str(sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])


def _received(sqs: Any, url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        more = sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], AttributeNames=["All"]
        ).get("Messages", [])
        if not more:
            return found
        found += more
        for one in more:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])


def _spied(sqs: Any) -> tuple[SqsTransport, Spy]:
    spy = Spy(sqs, "send_message_batch", "Entries")
    return SqsTransport(SinkSettings(), new_client=lambda region: spy), spy


def _error(code: str, status: int, said: str = "no") -> ClientError:
    response = {"Error": {"Code": code, "Message": said}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "SendMessageBatch")  # type: ignore[arg-type]


# ---------------------------------------------------------------- SQS


def test_a_queue_receives_the_body_as_it_is_and_what_filters_need_beside_it(sqs: Any) -> None:
    url = _queue(sqs)
    transport = SqsTransport(SinkSettings())
    sent = send_one(transport, endpoint("sqs", url), message(7, "für Alice", headers={"traceparent": "00-ab-cd-01"}))
    close(transport)
    (found,) = _received(sqs, url)
    assert sent.accepted
    assert found["Body"].encode() == message(7, "für Alice").body
    values = {name: value["StringValue"] for name, value in found["MessageAttributes"].items()}
    assert values == {
        "type": "tallystick.transfer.v1",
        "ledger": "main",
        "id": "main/7",
        "contenttype": "application/cloudevents+json; charset=utf-8",
        "traceparent": "00-ab-cd-01",
    }


def test_a_queue_may_be_named_by_its_arn(sqs: Any) -> None:
    url = _queue(sqs)
    to = endpoint("sqs", f"arn:aws:sqs:{REGION}:123456789012:events")
    assert send_one(SqsTransport(SinkSettings()), to, message(1)).accepted
    assert len(_received(sqs, url)) == 1


def test_eleven_messages_take_two_calls_and_ten_take_one(sqs: Any) -> None:
    url = _queue(sqs)
    transport, spy = _spied(sqs)
    assert all(accepted(send_all(transport, endpoint("sqs", url), [message(seq) for seq in range(10)])))
    assert spy.sizes == [10]
    assert all(accepted(send_all(transport, endpoint("sqs", url), [message(seq) for seq in range(10, 21)])))
    assert spy.sizes == [10, 10, 1]
    assert {json.loads(one["Body"])["id"] for one in _received(sqs, url)} == {f"main/{seq}" for seq in range(21)}


def test_a_call_holds_256_kib_and_not_a_byte_more(sqs: Any) -> None:
    url = _queue(sqs)
    transport, spy = _spied(sqs)
    beside = aws.attribute_bytes(aws.attributes_of(message(1)))
    half = MAX_BYTES // 2 - beside
    send_all(transport, endpoint("sqs", url), [of_size(half, 1), of_size(half, 2)])
    assert spy.sizes == [2]
    send_all(transport, endpoint("sqs", url), [of_size(half, 3), of_size(half + 1, 4)])
    assert spy.sizes == [2, 1, 1]
    assert len(_received(sqs, url)) == 4


def test_a_message_too_large_is_refused_and_the_others_go(sqs: Any) -> None:
    url = _queue(sqs)
    transport, spy = _spied(sqs)
    most = MAX_BYTES - aws.attribute_bytes(aws.attributes_of(message(1)))
    results = send_all(transport, endpoint("sqs", url), [of_size(most, 1), of_size(most + 1, 2), message(3)])
    assert accepted(results) == [True, False, True]
    assert "262,145 bytes, the limit is 262,144" in results[1].problem
    assert spy.sizes == [1, 1]
    assert sorted(json.loads(one["Body"])["id"] for one in _received(sqs, url)) == ["main/1", "main/3"]


def test_an_entry_that_fails_among_others_is_sent_once_more_by_itself(sqs: Any) -> None:
    url = _queue(sqs)
    transport, spy = _spied(sqs)
    spy.fails = lambda entry: (
        {"Code": "InternalError", "Message": "later"} if len(spy.calls) == 1 and entry["Id"] == "1" else None
    )
    assert accepted(send_all(transport, endpoint("sqs", url), [message(seq) for seq in range(3)])) == [True] * 3
    assert spy.sizes == [3, 1]
    assert sorted(json.loads(one["Body"])["id"] for one in _received(sqs, url)) == ["main/0", "main/1", "main/2"]


def test_an_entry_that_fails_by_itself_too_is_not_accepted_and_costs_no_other(sqs: Any) -> None:
    url = _queue(sqs)
    transport, spy = _spied(sqs)
    spy.fails = lambda entry: (
        {"Code": "InternalError", "Message": "later"} if "main/1" in entry["MessageBody"] else None
    )
    results = send_all(transport, endpoint("sqs", url), [message(seq) for seq in range(3)])
    assert accepted(results) == [True, False, True]
    assert results[1].problem == "InternalError: later"
    assert spy.sizes == [3, 1]


def test_a_throttled_entry_is_left_to_the_deliverer(sqs: Any) -> None:
    url = _queue(sqs)
    transport, spy = _spied(sqs)
    spy.fails = lambda entry: {"Code": "RequestThrottled", "Message": "slow"} if entry["Id"] == "0" else None
    results = send_all(transport, endpoint("sqs", url), [message(0), message(1)])
    assert [(result.accepted, result.status) for result in results] == [(False, 429), (True, 0)]
    assert spy.sizes == [2]


def test_a_call_refused_for_one_of_its_messages_is_taken_apart(sqs: Any) -> None:
    url = _queue(sqs)
    transport, spy = _spied(sqs)

    def refuse(entries: list[dict[str, Any]]) -> None:
        if any("main/1" in entry["MessageBody"] for entry in entries):
            raise _error("InvalidMessageContents", 400, "a character")

    spy.before = refuse
    results = send_all(transport, endpoint("sqs", url), [message(seq) for seq in range(3)])
    assert accepted(results) == [True, False, True]
    assert (results[1].status, results[1].problem) == (400, "InvalidMessageContents: a character")
    assert spy.sizes == [3, 1, 1, 1]


@pytest.mark.parametrize(
    ("code", "said", "status"), [("AccessDenied", 403, 403), ("ThrottlingException", 400, 429), ("Down", 503, 503)]
)
def test_a_refusal_that_every_message_would_meet_is_not_asked_for_again(
    sqs: Any, code: str, said: int, status: int
) -> None:
    transport, spy = _spied(sqs)

    def refuse(entries: list[dict[str, Any]]) -> None:
        raise _error(code, said)

    spy.before = refuse
    results = send_all(transport, endpoint("sqs", _queue(sqs)), [message(seq) for seq in range(3)])
    assert [(result.accepted, result.status) for result in results] == [(False, status)] * 3
    assert spy.sizes == [3]


def test_an_answer_that_does_not_speak_of_an_entry_is_no_acceptance(sqs: Any) -> None:
    transport, spy = _spied(sqs)
    answers = iter([{"Successful": [{"Id": "0"}]}, {}])
    spy.send_message_batch = lambda **arguments: next(answers)  # type: ignore[attr-defined]
    assert accepted(send_all(transport, endpoint("sqs", _queue(sqs)), [message(0), message(1)])) == [True, False]


def test_a_queue_that_is_not_there_and_one_that_cannot_be_reached_are_problems(sqs: Any) -> None:
    missing = f"https://sqs.{REGION}.amazonaws.com/123456789012/missing"
    results = send_all(SqsTransport(SinkSettings()), endpoint("sqs", missing), [message(0), message(1)])
    assert accepted(results) == [False, False]
    assert "NonExistentQueue" in results[0].problem or "DoesNotExist" in results[0].problem
    transport, spy = _spied(sqs)

    def fail(entries: list[dict[str, Any]]) -> None:
        raise EndpointConnectionError(endpoint_url="https://sqs")

    spy.before = fail
    result = send_one(transport, endpoint("sqs", missing), message(0))
    assert not result.accepted
    assert result.problem.startswith("sqs cannot be reached")


def test_a_fifo_queue_keeps_the_order_of_the_ledger_and_drops_what_comes_twice(sqs: Any) -> None:
    url = _queue(sqs, "events.fifo")
    transport = SqsTransport(SinkSettings())
    to = endpoint("sqs", url)
    for _ in range(2):
        assert all(accepted(send_all(transport, to, [message(seq) for seq in range(12)])))
    found = _received(sqs, url)
    assert [json.loads(one["Body"])["id"] for one in found] == [f"main/{seq}" for seq in range(12)]
    assert {one["Attributes"]["MessageGroupId"] for one in found} == {"main"}
    assert found[3]["Attributes"]["MessageDeduplicationId"] == "ep_1:main/3"


def test_two_endpoints_of_one_fifo_queue_do_not_drop_each_others_messages(sqs: Any) -> None:
    url = _queue(sqs, "events.fifo")
    transport = SqsTransport(SinkSettings())
    for id in ("ep_1", "ep_2"):
        assert send_one(transport, endpoint("sqs", url, id), message(5)).accepted
    assert len(_received(sqs, url)) == 2


def test_groups_by_account_are_the_first_account(sqs: Any) -> None:
    url = _queue(sqs, "events.fifo")
    to = endpoint("sqs", url, group="account")
    odd = "users:" + "é" * 100
    send_all(SqsTransport(SinkSettings()), to, [message(1), message(2, lanes=()), message(3, lanes=(odd,))])
    groups = [one["Attributes"]["MessageGroupId"] for one in _received(sqs, url)]
    assert groups[:2] == ["users:alice", "main"]
    assert len(groups[2]) == 64


@given(st.text(st.characters(codec="utf-8")))
def test_characters_that_queues_refuse_are_escaped_and_mean_the_same(text: str) -> None:
    one = message(1, body=json.dumps({"text": text}, ensure_ascii=False).encode())
    shown = aws.text_of(one)
    assert json.loads(shown) == {"text": text}
    assert not {"\ufffe", "\uffff"} & set(shown)


def test_ids_are_themselves_up_to_128_printable_characters() -> None:
    assert aws.short_id("a" * 128) == "a" * 128
    assert len(aws.short_id("a" * 129)) == 64
    assert len(aws.short_id("a b")) == 64
    assert aws.short_id("a" * 129) != aws.short_id("a" * 130)


def test_a_message_has_ten_attributes_at_most_and_none_that_is_no_name(sqs: Any) -> None:
    url = _queue(sqs)
    headers = {"bad name": "x", "a.b": "x", "type": "other", **{f"more{number}": "x" for number in range(6)}}
    transport = SqsTransport(SinkSettings())
    assert send_one(transport, endpoint("sqs", url), message(1, headers={**headers, "more6": "x"})).accepted
    (found,) = _received(sqs, url)
    assert sorted(found["MessageAttributes"]) == sorted(
        ["type", "ledger", "id", "contenttype", *(f"more{number}" for number in range(6))]
    )
    assert found["MessageAttributes"]["type"]["StringValue"] == "tallystick.transfer.v1"


def test_a_problem_is_told_in_300_characters(sqs: Any) -> None:
    transport, spy = _spied(sqs)

    def refuse(entries: list[dict[str, Any]]) -> None:
        raise _error("Down", 503, "x" * 1_000)

    spy.before = refuse
    assert len(send_one(transport, endpoint("sqs", _queue(sqs)), message(1)).problem) == 300


# ---------------------------------------------------------------- SNS


def _subscribed(sqs: Any, topic: str, queue: str, **attributes: str) -> None:
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    boto3.client("sns", REGION).subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=attributes)


def test_a_subscription_receives_the_body_and_may_filter_by_type(sqs: Any) -> None:
    topic = boto3.client("sns", REGION).create_topic(Name="events")["TopicArn"]
    every, fees = _queue(sqs, "every"), _queue(sqs, "fees")
    _subscribed(sqs, topic, every, RawMessageDelivery="true")
    policy = json.dumps({"type": ["tallystick.fee.v1"]})
    _subscribed(sqs, topic, fees, RawMessageDelivery="true", FilterPolicy=policy)
    messages = [message(seq, type="tallystick.fee.v1" if seq == 3 else "tallystick.hold.v1") for seq in range(11)]
    transport = SnsTransport(SinkSettings())
    assert all(accepted(send_all(transport, endpoint("sns", topic), messages)))
    close(transport)
    assert sorted(one["Body"].encode() for one in _received(sqs, every)) == sorted(one.body for one in messages)
    assert [json.loads(one["Body"])["id"] for one in _received(sqs, fees)] == ["main/3"]


def test_a_fifo_topic_is_given_group_and_id() -> None:
    sns = boto3.client("sns", REGION)
    topic = sns.create_topic(Name="events.fifo", Attributes={"FifoTopic": "true"})["TopicArn"]
    spy = Spy(sns, "publish_batch", "PublishBatchRequestEntries")
    transport = SnsTransport(SinkSettings(), new_client=lambda region: spy)
    assert accepted(send_all(transport, endpoint("sns", topic), [message(1), message(2)])) == [True, True]
    ids = [(entry["MessageGroupId"], entry["MessageDeduplicationId"]) for entry in spy.calls[0]]
    assert ids == [("main", "ep_1:main/1"), ("main", "ep_1:main/2")]


def test_a_topic_call_is_kept_within_256_kib_and_retried_one_by_one(sqs: Any) -> None:
    sns = boto3.client("sns", REGION)
    topic = sns.create_topic(Name="events")["TopicArn"]
    queue = _queue(sqs)
    _subscribed(sqs, topic, queue, RawMessageDelivery="true")
    spy = Spy(sns, "publish_batch", "PublishBatchRequestEntries")
    spy.fails = lambda entry: {"Code": "InternalError"} if len(spy.calls) == 1 and entry["Id"] == "2" else None
    transport = SnsTransport(SinkSettings(), new_client=lambda region: spy)
    results = send_all(transport, endpoint("sns", topic), [of_size(60_000, seq) for seq in range(10)])
    assert all(accepted(results))
    assert spy.sizes == [4, 1, 4, 2]
    assert len(_received(sqs, queue)) == 10


def test_a_topic_that_is_not_there_is_a_problem() -> None:
    result = send_one(
        SnsTransport(SinkSettings()), endpoint("sns", f"arn:aws:sns:{REGION}:123456789012:no"), message(1)
    )
    assert (result.accepted, result.status) == (False, 404)
    assert result.problem.startswith("NotFound")


# ---------------------------------------------------------------- EventBridge


def _bus(sqs: Any) -> tuple[Any, str, str]:
    """A client, a bus, and a queue that receives what is put on it by `tallystick`."""
    events = boto3.client("events", REGION)
    arn = events.create_event_bus(Name="ledgers")["EventBusArn"]
    queue = _queue(sqs)
    target = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = json.dumps({"source": ["tallystick"]})
    events.put_rule(Name="all", EventBusName="ledgers", EventPattern=pattern, State="ENABLED")
    events.put_targets(Rule="all", EventBusName="ledgers", Targets=[{"Id": "queue", "Arn": target}])
    return events, arn, queue


def test_a_bus_receives_the_event_as_detail_and_its_type_as_detail_type(sqs: Any) -> None:
    _, arn, queue = _bus(sqs)
    transport = EventBridgeTransport(SinkSettings())
    assert all(accepted(send_all(transport, endpoint("eventbridge", arn), [message(seq) for seq in range(11)])))
    close(transport)
    found = [json.loads(one["Body"]) for one in _received(sqs, queue)]
    assert sorted(one["detail"]["id"] for one in found) == sorted(f"main/{seq}" for seq in range(11))
    assert {(one["source"], one["detail-type"]) for one in found} == {("tallystick", "tallystick.transfer.v1")}


def test_a_failed_entry_of_a_bus_is_put_once_more_by_itself(sqs: Any) -> None:
    events, arn, queue = _bus(sqs)

    class Failing(Spy):
        def _call(self, name: str, arguments: dict[str, Any]) -> Any:
            entries = arguments["Entries"]
            self.calls.append(entries)
            if len(self.calls) > 1:
                return events.put_events(Entries=entries)
            done = events.put_events(Entries=[entries[0], *entries[2:]])["Entries"]
            failed = {"ErrorCode": "InternalFailure", "ErrorMessage": "later"}
            return {"FailedEntryCount": 1, "Entries": [done[0], failed, *done[1:]]}

    spy = Failing(events, "put_events", "Entries")
    transport = EventBridgeTransport(SinkSettings(), new_client=lambda region: spy)
    assert all(accepted(send_all(transport, endpoint("eventbridge", arn), [message(seq) for seq in range(3)])))
    assert spy.sizes == [3, 1]
    ids = sorted(json.loads(one["Body"])["detail"]["id"] for one in _received(sqs, queue))
    assert ids == ["main/0", "main/1", "main/2"]


def test_an_entry_of_a_bus_is_counted_as_the_documentation_counts_it(sqs: Any) -> None:
    events, arn, _ = _bus(sqs)
    spy = Spy(events, "put_events", "Entries")
    transport = EventBridgeTransport(SinkSettings(), new_client=lambda region: spy)
    most = MAX_BYTES - len("tallystick") - len("tallystick.transfer.v1") - 14
    results = send_all(transport, endpoint("eventbridge", arn), [of_size(most, 1), of_size(most + 1, 2)])
    assert [(result.accepted, result.status) for result in results] == [(True, 0), (False, 413)]


def test_what_is_no_json_is_refused_by_the_bus_and_costs_no_other(sqs: Any) -> None:
    _, arn, _ = _bus(sqs)
    results = send_all(
        EventBridgeTransport(SinkSettings()), endpoint("eventbridge", arn), [message(1), message(2, body=b"{no")]
    )
    assert accepted(results) == [True, False]
    assert results[1].problem.startswith("MalformedDetail")


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("make", [SqsTransport, SnsTransport, EventBridgeTransport])
def test_a_target_of_another_kind_is_a_problem_of_every_message(make: Callable[..., AwsTransport]) -> None:
    results = send_all(make(SinkSettings()), endpoint("sqs", "https://example.com/queue"), [message(0), message(1)])
    assert accepted(results) == [False, False]
    assert "is no " in results[0].problem


def test_what_was_not_tried_in_time_is_not_accepted(sqs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws, "WHOLE_SECONDS", -1)
    transport, spy = _spied(sqs)
    results: Sequence[Any] = send_all(transport, endpoint("sqs", _queue(sqs)), [message(0), message(1)])
    assert accepted(results) == [False, False]
    assert "not tried" in results[0].problem
    assert spy.calls == []
