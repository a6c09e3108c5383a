"""What the deliverer hands to whoever carries messages, and what it wants back.

A transport carries one message to one endpoint and says how it went. It decides nothing: when to try again, what waits
behind what, and when to give up is the deliverer's. So it keeps no queue, tries nothing twice, and lets no exception
out for what the other side does. One that is let out all the same counts as a failed try.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct, field

from tallystick.control.records import Endpoint


class Message(Struct, frozen=True, kw_only=True):
    """One event in the form in which it is told to one endpoint.

    ``id`` is the same for every try, every redelivery and every endpoint: receivers know a duplicate by it. ``lanes``
    are the accounts that the event is about, sorted; a message without any is about the whole ledger. ``seq`` is the
    event's number; a test message, which is no event, has -1.
    """

    id: str
    endpoint: str
    ledger: str
    seq: int
    type: str
    """The CloudEvents type, such as ``tallystick.transfer.v1``."""
    time: str
    """When the event was recorded: journal time."""
    body: bytes
    """The CloudEvent, structured JSON."""
    content_type: str = "application/cloudevents+json; charset=utf-8"
    lanes: tuple[str, ...] = ()
    attempt: int = 1
    """1 for the first try."""
    headers: dict[str, str] = field(default_factory=dict)
    """More to be said beside the body, such as ``traceparent``, where a transport has a place for it."""


class Sent(Struct, frozen=True):
    """How one try went.

    ``accepted``: the endpoint has taken charge of it, durably as far as it says. ``status`` is the HTTP status, or 0.
    ``problem`` says why it was not accepted, without any secret. ``retry_after_seconds``: not before that.
    ``gone``: the endpoint wants nothing any more and is to be disabled.
    """

    accepted: bool
    status: int = 0
    problem: str = ""
    retry_after_seconds: float | None = None
    gone: bool = False


class Transport(Protocol):
    """Carries messages of one kind of endpoint. All calls come from one event loop; several run at once, also for one
    endpoint, but never two about the same account of an endpoint. A call may be cancelled.
    """

    async def send(self, endpoint: Endpoint, message: Message) -> Sent:
        """Try once, within the transport's own time limit, and say how it went."""
        ...

    async def close(self) -> None:
        """Let go of connections. Closing twice is no error."""
        ...


@runtime_checkable
class BatchTransport(Transport, Protocol):
    """A transport that carries several messages in one call."""

    @property
    def batch_size(self) -> int:
        """How many messages ``send_many`` takes at most."""
        ...

    async def send_many(self, endpoint: Endpoint, messages: Sequence[Message]) -> Sequence[Sent]:
        """Try each once; one answer for each message, in the order of the messages. No two share an account."""
        ...
