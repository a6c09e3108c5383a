"""Amazon SNS: each message is published to a topic, its body the CloudEvent.

The attributes ``type`` and ``ledger`` are there for subscriptions' filter policies. A topic whose name ends with
``.fifo`` gets a group and a deduplication id as a queue does (see sqs). Needs sns:Publish.
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
    text_of,
)
from tallystick.delivery.transport import Message
from tallystick.errors import InvalidInput


def target_of(url: str, settings: dict[str, str]) -> Target:
    """A topic's ARN as a target. Raises InvalidInput."""
    check_group(settings)
    if found := parse_arn("sns", url):
        return Target(found["region"], url, found["name"].endswith(".fifo"))
    raise InvalidInput(path="url", problem=f"{url!r} is no topic such as arn:aws:sns:eu-central-1:123456789012:events")


class SnsTransport(AwsTransport):
    """Publishes to topics."""

    service: ClassVar[str] = "sns"

    def target(self, endpoint: Endpoint) -> Target:
        """The topic. Raises InvalidInput."""
        return target_of(endpoint.url, endpoint.settings)

    def entry(self, target: Target, endpoint: Endpoint, message: Message) -> Entry:
        """A notification."""
        entry: Entry = {"Message": text_of(message), "MessageAttributes": attributes_of(message)}
        return entry | fifo_fields(endpoint, message) if target.fifo else entry

    def size(self, entry: Entry) -> int:
        """The body and the attributes count."""
        return len(entry["Message"].encode()) + attribute_bytes(entry["MessageAttributes"])

    def call(self, client: Any, target: Target, entries: Sequence[Entry]) -> Answers:
        """PublishBatch."""
        numbered = [{"Id": str(number), **entry} for number, entry in enumerate(entries)]
        answer = client.publish_batch(TopicArn=target.resource, PublishBatchRequestEntries=numbered)
        return batch_failures(entries, answer)
