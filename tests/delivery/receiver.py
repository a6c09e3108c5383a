"""A webhook receiver on a real socket, in a thread of its own: it remembers what came, and answers as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import httptools
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec import Struct, field


class Request(Struct, frozen=True):
    """What came. Names of headers are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    number: int
    """0 for the first request."""

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def seq(self) -> int:
        return int(self.id.rpartition("/")[2])

    @property
    def accounts(self) -> set[str]:
        return {entry["account"] for entry in self.event["data"].get("entries", [])}


class Reply(Struct, frozen=True):
    """What to answer. ``raw`` replaces all of it; ``delay_seconds`` comes before, ``drop`` is no answer at all."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    raw: bytes = b""
    delay_seconds: float = 0.0
    drop: bool = False


Behaviour = Callable[[Request], Reply]


class Receiver:
    """Listens from when it is made. ``behaviour`` may be replaced at any time."""

    def __init__(
        self, behaviour: Behaviour | None = None, *, port: int = 0, host: str = "127.0.0.1", tls: Any = None
    ) -> None:
        self.behaviour: Behaviour = behaviour or (lambda request: Reply())
        self.requests: list[Request] = []
        self.accepted: list[Request] = []
        self.connections = self.lost = 0
        """That were opened, and that have ended."""
        self.most_at_once = 0
        self._at_once = 0
        self._host, self._tls = host, tls
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(self._listen(port))
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}/hook"

    @property
    def seqs(self) -> list[int]:
        """The numbers of what was accepted, in the order in which it came, each the first time only."""
        return list(dict.fromkeys(request.seq for request in self.accepted))

    def wait_for(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        """Until it is so. Fails after a time."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"only {len(self.accepted)} of {len(self.requests)} were accepted"
            time.sleep(0.005)

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        with contextlib.suppress(RuntimeError):
            asyncio.run_coroutine_threadsafe(end(), self._loop).result(5)
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        if not self._loop.is_closed():
            self._loop.close()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    async def _listen(self, port: int) -> asyncio.Server:
        return await self._loop.create_server(lambda: _Line(self), self._host, port, ssl=self._tls, reuse_address=True)

    def take(self, request: Request) -> Reply:
        self.requests.append(request)
        reply = self.behaviour(request)
        if not reply.drop and not reply.raw and 200 <= reply.status < 300:
            self.accepted.append(request)
        return reply


class _Line(asyncio.Protocol):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._parser = httptools.HttpRequestParser(self)
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._receiver.connections += 1

    def connection_lost(self, error: Exception | None) -> None:
        self._receiver.lost += 1

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_message_begin(self) -> None:
        self._path, self._headers, self._body = "", dict[str, str](), b""

    def on_url(self, url: bytes) -> None:
        self._path += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        receiver = self._receiver
        request = Request(
            self._parser.get_method().decode(), self._path, self._headers, self._body, len(receiver.requests)
        )
        receiver._at_once += 1
        receiver.most_at_once = max(receiver.most_at_once, receiver._at_once)
        reply = receiver.take(request)
        if reply.delay_seconds:
            task = asyncio.get_running_loop().create_task(self._later(reply))
            self._tasks.add(task)
        else:
            self._answer(reply)

    async def _later(self, reply: Reply) -> None:
        await asyncio.sleep(reply.delay_seconds)
        self._answer(reply)

    def _answer(self, reply: Reply) -> None:
        self._receiver._at_once -= 1
        if reply.drop:
            self._transport.abort()
        elif reply.raw:
            self._transport.write(reply.raw)
        else:
            headers = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
            length = "" if reply.status == 204 else f"content-length: {len(reply.body)}\r\n"
            self._transport.write(f"HTTP/1.1 {reply.status} x\r\n{length}{headers}\r\n".encode() + reply.body)


def self_signed(folder: Any, host: str = "127.0.0.1") -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's side of TLS with a certificate of its own making, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        alternative = x509.DNSName(host)
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "receiver.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cadata=certificate.public_bytes(serialization.Encoding.PEM).decode())
