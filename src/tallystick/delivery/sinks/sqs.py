"""Amazon SQS: each message becomes one message of a queue, its body the CloudEvent.

A queue whose name ends with ``.fifo`` gets a group (see ``fifo_fields``) and a deduplication id, by which SQS drops
what was sent again within five minutes: a deliberate redelivery within that time too. Other queues keep no order. Needs
sqs:SendMessage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tallystick.control.records import Endpoint
from tallystick.delivery.sinks.aws import (
    Answers,
    AwsTransport,
    Entry,
    Target,
    attribute_bytes,
    attributes_of,
    batch_failures,
    check_group,
    fifo_fields,
    parse_arn,
    queue_url,
    text_of,
)
from tallystick.delivery.transport import Message
from tallystick.errors import InvalidInput


def target_of(url: str, settings: dict[str, str], *, emulator: str = "") -> Target:
    """A queue's URL or ARN as a target. Raises InvalidInput."""
    check_group(settings)
    if found := queue_url(url):
        return Target(found["region"], url, found["name"].endswith(".fifo"))
    if (found := parse_arn("sqs", url)) and not emulator:
        suffix = ".cn" if found["partition"] == "aws-cn" else ""
        place = f"https://sqs.{found['region']}.amazonaws.com{suffix}/{found['account']}/{found['name']}"
        return Target(found["region"], place, found["name"].endswith(".fifo"))
    if emulator and url.startswith(emulator.rstrip("/") + "/"):
        return Target("us-east-1", url, url.endswith(".fifo"))
    problem = f"{url!r} is no queue such as https://sqs.eu-central-1.amazonaws.com/123456789012/events"
    raise InvalidInput(path="url", problem=problem)


class SqsTransport(AwsTransport):
    """Sends to queues."""

    service: ClassVar[str] = "sqs"

    def target(self, endpoint: Endpoint) -> Target:
        """The queue. Raises InvalidInput."""
        return target_of(endpoint.url, endpoint.settings, emulator=self._settings.aws_endpoint)

    def entry(self, target: Target, endpoint: Endpoint, message: Message) -> Entry:
        """A message of the queue."""
        entry: Entry = {"MessageBody": text_of(message), "MessageAttributes": attributes_of(message)}
        return entry | fifo_fields(endpoint, message) if target.fifo else entry

    def size(self, entry: Entry) -> int:
        """The body and the attributes count."""
        return len(entry["MessageBody"].encode()) + attribute_bytes(entry["MessageAttributes"])

    def call(self, client: Any, target: Target, entries: Sequence[Entry]) -> Answers:
        """SendMessageBatch."""
        numbered = [{"Id": str(number), **entry} for number, entry in enumerate(entries)]
        return batch_failures(entries, client.send_message_batch(QueueUrl=target.resource, Entries=numbered))
