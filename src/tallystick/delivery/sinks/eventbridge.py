"""Amazon EventBridge: each message becomes an event on a bus; its detail is the CloudEvent, its detail type the type.

EventBridge keeps no order and drops no duplicates: consumers that need either go by ``sequence`` and ``id`` in the
detail. The event's source is ``tallystick``, or the setting ``source``. Needs events:PutEvents.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

from tallystick.control.records import Endpoint
from tallystick.delivery.sinks.aws import Answers, AwsTransport, Entry, Failure, Target, failure, parse_arn
from tallystick.delivery.transport import Message
from tallystick.errors import InvalidInput

SOURCE = "tallystick"
TIME_BYTES = 14
"""What an entry's time counts, by the documentation of PutEvents."""

MAX_TYPE = 128


def target_of(url: str, settings: dict[str, str]) -> Target:
    """A bus's ARN as a target. Raises InvalidInput."""
    source = settings.get("source", SOURCE)
    if not 1 <= len(source) <= 256 or source.startswith("aws."):
        raise InvalidInput(path="settings.source", problem=f"{source!r} is no source; those of `aws.` are Amazon's own")
    if found := parse_arn("events", url, r"event-bus/(?P<name>[A-Za-z0-9._/-]{1,256})"):
        return Target(found["region"], url)
    problem = f"{url!r} is no event bus such as arn:aws:events:eu-central-1:123456789012:event-bus/default"
    raise InvalidInput(path="url", problem=problem)


class EventBridgeTransport(AwsTransport):
    """Puts events on buses."""

    service: ClassVar[str] = "events"

    def target(self, endpoint: Endpoint) -> Target:
        """The bus. Raises InvalidInput."""
        return target_of(endpoint.url, endpoint.settings)

    def entry(self, target: Target, endpoint: Endpoint, message: Message) -> Entry:
        """An event of the bus."""
        entry: Entry = {
            "EventBusName": target.resource,
            "Source": endpoint.settings.get("source", SOURCE),
            "DetailType": message.type[:MAX_TYPE],
            "Detail": message.body.decode(),
        }
        return entry | {"Time": datetime.fromisoformat(message.time)} if message.time else entry

    def size(self, entry: Entry) -> int:
        """Source, type, detail and time count."""
        texts = (entry["Source"], entry["DetailType"], entry["Detail"])
        return sum(len(text.encode()) for text in texts) + TIME_BYTES

    def call(self, client: Any, target: Target, entries: Sequence[Entry]) -> Answers:
        """PutEvents; its answers stand in the order of the entries."""
        answers = client.put_events(Entries=list(entries)).get("Entries", [])
        found: list[Failure | None] = [
            failure(str(answer["ErrorCode"]), str(answer.get("ErrorMessage", ""))) if answer.get("ErrorCode") else None
            for answer in answers[: len(entries)]
        ]
        missing = len(entries) - len(found)
        return found + [Failure("the answer does not say whether it was accepted")] * missing
