"""NATS JetStream: each message is published to a subject, and counts as accepted once a stream has acknowledged it.

The subject is the setting ``subject``, in which ``{ledger}`` and ``{type}`` stand for the ledger and the event's type;
by default ``tallystick.{ledger}.{type}``, such as ``tallystick.main.transfer``. The setting ``stream`` names the stream
that must take it, so that it does not end in another's. Streams are the operator's: none is made here.

Each message bears ``Nats-Msg-Id``, by which a stream drops what it was given twice within its window (two minutes
unless it says otherwise). The id is the endpoint's own, because a stream has one window for all its subjects: without
that, of two endpoints whose subjects lie in one stream the second would lose what the first was told.

One connection a server, made when it is needed; after a break the next message makes another. Nothing is published by a
client that reconnects behind the deliverer's back. Needs the extra ``nats`` (nats-py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from tallystick.control.records import Endpoint
from tallystick.delivery.addresses import is_public
from tallystick.delivery.sinks.settings import SinkSettings
from tallystick.delivery.transport import Message, Sent
from tallystick.errors import InvalidInput, TallystickError, Unavailable
from tallystick.stores.urls import masked

if TYPE_CHECKING:
    from nats.aio.client import Client

BATCH_MESSAGES = 256
"""Published at once; each is acknowledged by itself."""

CONNECT_SECONDS = 5
ACK_SECONDS = 5.0
CLOSE_SECONDS = 0.5
MAX_CONNECTIONS = 64
MAX_SUBJECT = 255
MAX_PROBLEM = 300
PORT = 4222
SUBJECT = "tallystick.{ledger}.{type}"

_TOKEN = r"[A-Za-z0-9_@:+=/-]+"
_SUBJECT = re.compile(rf"{_TOKEN}(\.{_TOKEN})*\Z")
_STREAM = re.compile(r"[A-Za-z0-9_-]{1,255}\Z")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}\Z")
_NOT_IN_TOKENS = re.compile(r"[^A-Za-z0-9_@:+=/-]")
_RESERVED = ("$", "_INBOX")


class Target(Struct, frozen=True):
    """Where an endpoint points."""

    url: str
    host: str
    port: int
    subject: str
    stream: str

    def subject_of(self, message: Message) -> str:
        """The subject of a message. A dot in a ledger's name would part it in two, so it becomes ``_``."""
        kind = message.type.removeprefix("tallystick.").removesuffix(".v1")
        said = {"ledger": _NOT_IN_TOKENS.sub("_", message.ledger), "type": _NOT_IN_TOKENS.sub("_", kind)}
        return self.subject.replace("{ledger}", said["ledger"]).replace("{type}", said["type"])


def target_of(url: str, settings: dict[str, str]) -> Target:
    """A server's URL and an endpoint's settings as a target. Raises InvalidInput."""
    parts = _split(url)
    if parts is None:
        problem = f"{masked(url)!r} is no NATS server such as nats://nats.example.com:4222 or tls://nats.example.com"
        raise InvalidInput(path="url", problem=problem)
    subject = settings.get("subject", SUBJECT)
    example = subject.replace("{ledger}", "main").replace("{type}", "transfer")
    if len(subject) > MAX_SUBJECT or not _SUBJECT.match(example) or example.startswith(_RESERVED):
        problem = f"{subject!r} is no subject to publish to, such as {SUBJECT}"
        raise InvalidInput(path="settings.subject", problem=problem)
    stream = settings.get("stream", "")
    if stream and not _STREAM.match(stream):
        raise InvalidInput(path="settings.stream", problem=f"{stream!r} is no stream's name")
    return Target(url, str(parts.hostname), parts.port or PORT, subject, stream)


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    right = parts.scheme in ("nats", "tls") and parts.hostname and port != 0 and re.fullmatch(r"[!-~]+", url)
    return parts if right and not (parts.path.strip("/") or parts.query or parts.fragment) else None


class Connection:
    """A connection to one server, which ends when it breaks; what waits for an answer then is told at once."""

    def __init__(self, client: Client) -> None:
        self.problem = ""
        """What the server last complained of, such as a subject that this login may not publish to."""
        self._client = client
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_open(self) -> bool:
        return self._client.is_connected and not self._ended.done()

    @property
    def max_payload(self) -> int:
        """What the server takes of one message, in bytes."""
        return self._client.max_payload

    async def open(self, url: str, options: dict[str, Any]) -> None:
        """Connect, once: the client's own trying again would hide why it fails. Raises InvalidInput, Unavailable."""
        opening = asyncio.ensure_future(
            self._client.connect(
                url,
                name="tallystick",
                allow_reconnect=False,
                connect_timeout=CONNECT_SECONDS,
                error_cb=self._note,
                closed_cb=self._end,
                **options,
            )
        )
        try:
            await asyncio.wait({opening, self._failed}, timeout=CONNECT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                opening.result()
                return
        except ImportError as error:
            await self.close()
            problem = f"a .creds file needs the library {error.name}, which comes with nats-py[nkeys]"
            raise InvalidInput(path="nats_credentials", problem=problem) from None
        except Exception as error:  # a wrong file of credentials raises whatever its parser does
            await self.close()
            raise Unavailable(reason=str(error) or type(error).__name__) from None
        except asyncio.CancelledError:
            await self.close()
            raise
        finally:
            opening.cancel()
        await self.close()
        raise Unavailable(reason=self.problem or f"it did not answer within {CONNECT_SECONDS} s")

    async def request(self, subject: str, body: bytes, headers: dict[str, str]) -> bytes:
        """The answer to a message. Raises TimeoutError, and what nats-py raises."""
        from nats.errors import ConnectionClosedError  # noqa: PLC0415 - an extra

        asking = asyncio.ensure_future(self._client.request(subject, body, timeout=ACK_SECONDS, headers=headers))
        try:
            either: set[asyncio.Future[Any]] = {asking, self._ended}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise ConnectionClosedError
            return asking.result().data
        finally:
            asking.cancel()

    async def close(self) -> None:
        """Close it. Closing twice is no error."""
        # One that never came to connect cannot be closed, and says so; one whose encryption was not agreed on never
        # ends closing.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._client.close()
        await self._end()

    async def _note(self, error: Exception) -> None:
        self.problem = str(error) or type(error).__name__
        if not self._failed.done():
            self._failed.set_result(None)

    async def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


class NatsTransport:
    """Publishes to JetStream. One that has been closed may be used again."""

    def __init__(self, settings: SinkSettings) -> None:
        self._settings = settings
        self._connections: dict[str, Connection] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    @property
    def batch_size(self) -> int:
        return BATCH_MESSAGES

    async def send_many(self, endpoint: Endpoint, messages: Sequence[Message]) -> Sequence[Sent]:
        """Publish all, and wait for every acknowledgement."""
        return await asyncio.gather(*(self.send(endpoint, message) for message in messages))

    async def send(self, endpoint: Endpoint, message: Message) -> Sent:
        """Publish one message, and wait until a stream has it."""
        try:
            target = target_of(endpoint.url, endpoint.settings)
            connection = await self._connection(target)
            return await self._publish(connection, target, endpoint, message)
        except TallystickError as error:
            problem = str(error.data.get("problem") or error.data.get("reason") or error)
            return Sent(accepted=False, problem=masked(problem)[:MAX_PROBLEM])

    async def close(self) -> None:
        """Let go of the connections."""
        open_now, self._connections, self._locks = list(self._connections.values()), {}, {}
        for connection in open_now:
            await connection.close()

    # ------------------------------------------------------------ publishing

    async def _publish(self, connection: Connection, target: Target, endpoint: Endpoint, message: Message) -> Sent:
        import nats.errors  # noqa: PLC0415 - an extra

        subject = target.subject_of(message)
        headers = {
            name: value for name, value in message.headers.items() if _HEADER.match(name) and value.isprintable()
        }
        headers |= {"Content-Type": message.content_type, "Nats-Msg-Id": f"{endpoint.id}:{message.id}"}
        if target.stream:
            headers["Nats-Expected-Stream"] = target.stream
        size = len(message.body) + _header_bytes(headers)
        if size > connection.max_payload:  # it would cut off the connection, and with it what else is under way
            problem = f"the message has {size:,} bytes with its headers, the server takes {connection.max_payload:,}"
            return Sent(accepted=False, status=413, problem=problem)
        try:
            reply = await connection.request(subject, message.body, headers)
        except nats.errors.NoRespondersError:
            stream = f"the stream {target.stream}" if target.stream else "a stream"
            return Sent(accepted=False, status=503, problem=f"no stream takes {subject}: make {stream} for it")
        except TimeoutError:
            await self._drop(target, connection)  # who does not answer is asked anew over another connection
            said = f" ({connection.problem})" if connection.problem else ""
            return Sent(accepted=False, problem=f"no acknowledgement within {ACK_SECONDS:g} s{said}"[:MAX_PROBLEM])
        except (nats.errors.Error, OSError) as error:
            await self._drop(target, connection)
            return Sent(accepted=False, problem=masked(f"the connection broke: {error}")[:MAX_PROBLEM])
        return _read_ack(reply)

    async def _connection(self, target: Target) -> Connection:
        """The connection to a server. Raises InvalidInput, Unavailable."""
        lock = self._locks.setdefault(target.url, asyncio.Lock())
        async with lock:
            found = self._connections.get(target.url)
            if found is not None and found.is_open:
                return found
            if found is not None:
                await self._drop(target, found)
            if len(self._connections) >= MAX_CONNECTIONS:
                oldest = next(iter(self._connections))
                await self._connections.pop(oldest).close()
            self._connections[target.url] = made = await self._connect(target)
            return made

    async def _drop(self, target: Target, connection: Connection) -> None:
        if self._connections.get(target.url) is connection:
            del self._connections[target.url]
        await connection.close()

    async def _connect(self, target: Target) -> Connection:
        try:
            from nats.aio.client import Client  # noqa: PLC0415 - an extra: most do without NATS
        except ImportError:
            raise InvalidInput(path="kind", problem="nats needs the extra `nats` (nats-py)") from None
        trusted = self._is_named(target)
        url = target.url if trusted or self._settings.allow_private else await _public_url(target)
        options: dict[str, Any] = {"tls_hostname": target.host} if target.url.startswith("tls:") else {}
        if trusted and self._settings.nats_credentials:
            options["user_credentials"] = self._settings.nats_credentials
        made = Connection(Client())
        try:
            await made.open(url, options)
        except Unavailable as error:
            reason = f"{target.host}:{target.port} cannot be reached: {error.data['reason']}"
            raise Unavailable(reason=reason) from None
        return made

    def _is_named(self, target: Target) -> bool:
        """Whether the operator named this server."""
        named = {server.lower() for server in self._settings.nats_servers}
        return target.host in named or f"{target.host}:{target.port}" in named


def _header_bytes(headers: dict[str, str]) -> int:
    """What headers add to a message: a line each, behind the line of the protocol's name, and an empty one."""
    return len("NATS/1.0\r\n\r\n") + sum(len(f"{name}: {value}\r\n".encode()) for name, value in headers.items())


def _read_ack(data: bytes) -> Sent:
    """What a stream answered. A duplicate was accepted before."""
    try:
        answer = json.loads(data)
        error = answer.get("error")
        if error is None and "stream" in answer and "seq" in answer:
            return Sent(accepted=True)
        status, said = int((error or {}).get("code", 0)), str((error or {}).get("description", "no acknowledgement"))
    except (ValueError, AttributeError, TypeError):
        status, said = 0, "what answered is no stream: something else listens on the subject"
    return Sent(accepted=False, status=status, problem=said[:MAX_PROBLEM])


async def _public_url(target: Target) -> str:
    """The server's URL with an address in place of its name, so that what was checked is what is connected to.

    Raises InvalidInput unless all its addresses are public, Unavailable if the name has none.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        raise Unavailable(reason=f"{target.host} has no address") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not all(is_public(address) for address in addresses):
        problem = f"{target.host} is at an address that is not public; the operator may name it as a server"
        raise InvalidInput(path="url", problem=problem)
    parts = urlsplit(target.url)
    login, at, _ = parts.netloc.rpartition("@")
    host = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
    return f"{parts.scheme}://{login}{at}{host}:{target.port}"
