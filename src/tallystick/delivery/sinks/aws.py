"""What the sinks of AWS have in common: batches of ten, limits of size, threads, and what an error means.

boto3 blocks, so calls run in a few threads of the transport's own. A batch call is not all or nothing: AWS answers for
each entry, and an entry that failed where the others did not is sent once more by itself, since that is mostly a
passing fault of one partition. A call that was refused as a whole for what stands in it is taken apart in the same way,
so that one bad message costs only itself. What was throttled is left to the deliverer, which waits before it tries
again.

Needs the extra ``aws`` (boto3) when the first message is sent, not before.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from msgspec import Struct

from tallystick.control.records import Endpoint
from tallystick.delivery.sinks.settings import SinkSettings
from tallystick.delivery.transport import Message, Sent
from tallystick.errors import InvalidInput, TallystickError, Unavailable

BATCH_ENTRIES = 10
"""Of one call; the same for SQS, SNS and EventBridge."""

MAX_BYTES = 256 * 1024
"""Of one entry, and of all entries of a call together. SQS takes more since 2025, SNS and EventBridge do not."""

MAX_ATTRIBUTES = 10
"""Of one message, by SQS."""

CALLS_AT_ONCE = 16
CONNECT_SECONDS = 5
ANSWER_SECONDS = 10
WHOLE_SECONDS = 30
"""For all calls of one batch: what has not been tried by then is not tried."""

MAX_PROBLEM = 300
MAX_ID = 128

_THROTTLED = re.compile(r"(?i)throttl|LimitExceeded|TooManyRequests|SlowDown")
NOT_ITS_CONTENT = re.compile(_THROTTLED.pattern + r"|Denied|Authoriz|Token|Signature|Credential|Kms")
"""Codes of refusals that another message would meet too: sending each by itself would only add load."""

_ID = re.compile(r"[!-~]{1,128}\Z")
_ATTRIBUTE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}\Z")
_UNWANTED = {0xFFFE: "\\ufffe", 0xFFFF: "\\uffff"}
"""Not among the characters that SQS and SNS take. In JSON they stand in strings alone, where they may be escaped."""

_REGION = r"(?P<region>[a-z]{2}(?:-[a-z]+)+-[0-9]+)"
_FIFO_NAME = r"(?P<name>[A-Za-z0-9_-]{1,256}(?:\.fifo)?)"


class Target(Struct, frozen=True):
    """Where an endpoint points: a region, and the resource as the calls name it."""

    region: str
    resource: str
    fifo: bool = False


class Failure(Struct, frozen=True):
    """Why one entry was not taken. ``final``: it would not be taken by itself either."""

    problem: str
    status: int = 0
    final: bool = False

    def sent(self) -> Sent:
        return Sent(accepted=False, status=self.status, problem=self.problem[:MAX_PROBLEM])


Entry = dict[str, Any]
Answers = Sequence[Failure | None]
"""For each entry of a call, in order: why it failed, or None."""


class AwsTransport(ABC):
    """A transport to one service of AWS. ``new_client`` makes its client for a region, for tests."""

    service: ClassVar[str]

    def __init__(self, settings: SinkSettings, *, new_client: Callable[[str], Any] | None = None) -> None:
        self._settings = settings
        self._new_client = new_client or self._boto_client
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix=f"deliver-{self.service}")

    @property
    def batch_size(self) -> int:
        return BATCH_ENTRIES

    async def send(self, endpoint: Endpoint, message: Message) -> Sent:
        """Send one message."""
        return (await self.send_many(endpoint, (message,)))[0]

    async def send_many(self, endpoint: Endpoint, messages: Sequence[Message]) -> Sequence[Sent]:
        """Send each once, in as few calls as the limits allow; one that failed in company once more by itself."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._send_all, endpoint, tuple(messages))

    async def close(self) -> None:
        """Let go of the threads and connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()

    # ------------------------------------------------------------ what a service says

    @abstractmethod
    def target(self, endpoint: Endpoint) -> Target:
        """Where it points. Raises InvalidInput."""

    @abstractmethod
    def entry(self, target: Target, endpoint: Endpoint, message: Message) -> Entry:
        """A message as the entry of a call, without an id."""

    @abstractmethod
    def size(self, entry: Entry) -> int:
        """The bytes of an entry as the service counts them."""

    @abstractmethod
    def call(self, client: Any, target: Target, entries: Sequence[Entry]) -> Answers:
        """One call of the service. Raises what boto3 raises."""

    # ------------------------------------------------------------ sending, in a thread

    def _send_all(self, endpoint: Endpoint, messages: Sequence[Message]) -> list[Sent]:
        try:
            target = self.target(endpoint)
            client = self._client(target.region)
        except TallystickError as error:
            return [Failure(_problem(error)).sent()] * len(messages)
        entries = [self.entry(target, endpoint, message) for message in messages]
        answers = [_too_large(size) if (size := self.size(entry)) > MAX_BYTES else None for entry in entries]
        to_send = [index for index, answer in enumerate(answers) if answer is None]
        until = time.monotonic() + WHOLE_SECONDS
        for part in self._parts(entries, to_send):
            failures = self._try([entries[index] for index in part], client, target, until)
            for index, failure in zip(part, failures, strict=True):
                answers[index] = failure
        return [Sent(accepted=True) if answer is None else answer.sent() for answer in answers]

    def _parts(self, entries: Sequence[Entry], indexes: Sequence[int]) -> Iterator[list[int]]:
        """The entries in as few calls as the limits allow, in their order."""
        part: list[int] = []
        bytes_so_far = 0
        for index in indexes:
            size = self.size(entries[index])
            if part and (len(part) == BATCH_ENTRIES or bytes_so_far + size > MAX_BYTES):
                yield part
                part, bytes_so_far = [], 0
            part.append(index)
            bytes_so_far += size
        if part:
            yield part

    def _try(self, entries: Sequence[Entry], client: Any, target: Target, until: float) -> list[Failure | None]:
        answers = list(self._call(entries, client, target, until))
        if len(entries) == 1:
            return answers
        for index, failure in enumerate(answers):
            if failure is not None and not failure.final:
                answers[index] = self._call([entries[index]], client, target, until)[0]
        return answers

    def _call(self, entries: Sequence[Entry], client: Any, target: Target, until: float) -> Answers:
        from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped] # noqa: PLC0415

        if time.monotonic() > until:
            return [Failure(f"not tried: the calls before took more than {WHOLE_SECONDS} s", final=True)] * len(entries)
        try:
            return self.call(client, target, entries)
        except ClientError as error:
            answer = error.response.get("Error", {})
            code, said = str(answer.get("Code", "?")), str(answer.get("Message", ""))
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            return [failure(code, said, status=status, final=not _is_about_content(status, code))] * len(entries)
        except BotoCoreError as error:
            return [Failure(f"{self.service} cannot be reached: {error}", final=True)] * len(entries)

    def _client(self, region: str) -> Any:
        with self._lock:  # making a client is not safe in several threads, using one is
            if region not in self._clients:
                self._clients[region] = self._new_client(region)
            return self._clients[region]

    def _boto_client(self, region: str) -> Any:
        try:
            import boto3  # type: ignore[import-untyped] # noqa: PLC0415 - an extra: most do without AWS
            from botocore.config import Config  # type: ignore[import-untyped] # noqa: PLC0415
            from botocore.exceptions import BotoCoreError  # noqa: PLC0415
        except ImportError:
            raise InvalidInput(path="kind", problem=f"{self.service} needs the extra `aws` (boto3)") from None
        patience = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=ANSWER_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 1},  # when to try again is the deliverer's
            max_pool_connections=CALLS_AT_ONCE,
        )
        try:
            session = boto3.session.Session(region_name=region)
            return session.client(self.service, endpoint_url=self._settings.aws_endpoint or None, config=patience)
        except BotoCoreError as error:
            raise Unavailable(reason=f"{self.service} cannot be reached: {error}") from None


# ---------------------------------------------------------------- words that the services share


def failure(code: str, said: str, *, status: int = 500, final: bool = False) -> Failure:
    """An error of AWS. Being throttled is told as HTTP tells it, 429, whatever status AWS gives it."""
    if _THROTTLED.search(code):
        status = 429
    return Failure(f"{code}: {said}" if said else code, status, final or bool(NOT_ITS_CONTENT.search(code)))


def batch_failures(entries: Sequence[Entry], answer: dict[str, Any]) -> Answers:
    """The failures in an answer of SQS or SNS. An entry that the answer does not speak of was not accepted."""
    taken = {item["Id"] for item in answer.get("Successful", ())}
    failed = {item["Id"]: item for item in answer.get("Failed", ())}
    found: list[Failure | None] = []
    for number in range(len(entries)):
        id = str(number)
        if id in failed:
            status = 400 if failed[id].get("SenderFault") else 500
            code, said = str(failed[id].get("Code", "?")), str(failed[id].get("Message", ""))
            found.append(failure(code, said, status=status))
        elif id in taken:
            found.append(None)
        else:
            found.append(Failure("the answer does not say whether it was accepted"))
    return found


def parse_arn(service: str, text: str, name: str = _FIFO_NAME) -> re.Match[str] | None:
    """The parts of a resource's ARN: partition, region, account, name."""
    return re.fullmatch(rf"arn:(?P<partition>aws[a-z-]*):{service}:{_REGION}:(?P<account>[0-9]{{12}}):{name}", text)


def queue_url(text: str) -> re.Match[str] | None:
    """The parts of a queue's URL at Amazon: region, account, name."""
    pattern = rf"https://sqs\.{_REGION}\.amazonaws\.com(?:\.cn)?/(?P<account>[0-9]{{12}})/{_FIFO_NAME}"
    return re.fullmatch(pattern, text)


def check_group(settings: dict[str, str]) -> None:
    """Refuse a setting ``group`` that means nothing. Raises InvalidInput."""
    if settings.get("group", "ledger") not in ("ledger", "account"):
        raise InvalidInput(path="settings.group", problem=f"{settings['group']!r} is neither ledger nor account")


def fifo_fields(endpoint: Endpoint, message: Message) -> Entry:
    """The group and the deduplication id of a message to a FIFO queue or topic.

    Order is kept within a group, so one group for the ledger is what keeps the order of every account that an event is
    about; the setting ``group=account`` gives each event the group of its first account, which is faster to consume and
    keeps the order of that account only. The id is the endpoint's own: two endpoints that share a queue tell the same
    events twice, perhaps in two forms.
    """
    group = message.ledger
    if endpoint.settings.get("group") == "account" and message.lanes:
        group = message.lanes[0]
    return {
        "MessageGroupId": short_id(group),
        "MessageDeduplicationId": short_id(f"{endpoint.id}:{message.id}"),
    }


def short_id(text: str) -> str:
    """A text as AWS takes it for an id: itself if it is printable ASCII of at most MAX_ID characters, else its hash."""
    return text if _ID.match(text) else hashlib.sha256(text.encode()).hexdigest()


def text_of(message: Message) -> str:
    """The body without characters that SQS and SNS refuse; the same JSON value."""
    return message.body.decode().translate(_UNWANTED)


def attributes_of(message: Message) -> dict[str, dict[str, str]]:
    """What is said beside the body, for filter policies and consumers that do not open it."""
    said = {"type": message.type, "ledger": message.ledger, "id": message.id, "contenttype": message.content_type}
    more = {name: value for name, value in message.headers.items() if _ATTRIBUTE.match(name) and name not in said}
    chosen = [*said.items(), *more.items()][:MAX_ATTRIBUTES]
    return {name: {"DataType": "String", "StringValue": value} for name, value in chosen if value}


def attribute_bytes(attributes: dict[str, dict[str, str]]) -> int:
    """What attributes add to the size of a message: names, types and values count."""
    return sum(
        len(name.encode()) + len(value["DataType"]) + len(value["StringValue"].encode())
        for name, value in attributes.items()
    )


def _is_about_content(status: int, code: str) -> bool:
    return status in (400, 413) and not NOT_ITS_CONTENT.search(code) and not re.search(r"Exist|NotFound", code)


def _too_large(size: int) -> Failure:
    return Failure(f"the message has {size:,} bytes, the limit is {MAX_BYTES:,}", 413, final=True)


def _problem(error: TallystickError) -> str:
    return str(error.data.get("problem") or error.data.get("reason") or error)
