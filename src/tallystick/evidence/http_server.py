"""An HTTP server that no client can hang: the ground on which the witness and the other small servers stand.

A request has a deadline as a whole and a limit in bytes, an answer has a deadline of its own, and at most so many
connections are served at once; more are turned away with 503 and without a thread. Connections are kept between
requests, and closed where the rest of a refused request could be taken for the next one. It speaks plain HTTP; a proxy
before it adds encryption, and limits per address where they are needed.

A server is a ``BoundedServer`` with an ``answer`` of its own.
"""

from __future__ import annotations

import hmac
import io
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import msgspec

from tallystick.errors import InvalidInput, Unavailable

MAX_REQUEST_BYTES = 131_072
"""Of a body."""

MAX_EXCHANGE_BYTES = 2 * MAX_REQUEST_BYTES
"""Of a request with its head and what frames its chunks."""

MAX_CONNECTIONS = 64
REQUEST_SECONDS = 15.0
"""From waiting for a request to its last byte; so also how long a silent connection is kept."""

ANSWER_SECONDS = 15.0
"""What a client gets to take an answer."""

GOODBYE_SECONDS = 1.0
"""What a client whose request was refused gets to read the answer."""

TEXT_TYPE = "text/plain; charset=utf-8"

MIN_TOKEN_CHARACTERS = 16

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_LENGTH = re.compile(r"[0-9]{1,10}")
_TURNED_AWAY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer. ``headers`` come beside the content's type and length."""

    status: int
    body: bytes
    content_type: str = TEXT_TYPE
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)


class Refused(Exception):
    """The request is answered with this, and nothing changes."""

    def __init__(
        self, status: int, text: str, content_type: str = TEXT_TYPE, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(text)
        self.answer = Answer(status, text.encode() + b"\n", content_type, headers or {})


class Request(msgspec.Struct, frozen=True):
    """What a client asks. The body is read when ``read_body`` is called, which raises Refused for its size or framing;
    the path is as it was sent, undecoded. ``header`` gives all values of a header, by any case of its name.
    """

    method: str
    path: str
    header: Callable[[str], list[str]]
    read_body: Callable[[], bytes]


def check_token(token: str) -> str:
    """The bearer token (RFC 6750) itself. Raises InvalidInput if it is none, or so short that it could be guessed."""
    if len(token) < MIN_TOKEN_CHARACTERS or not _TOKEN.fullmatch(token):
        problem = f"a token has {MIN_TOKEN_CHARACTERS} or more letters, digits and . _ ~ + / -"
        raise InvalidInput(path="token", problem=problem)
    return token


def require_token(request: Request, token: str) -> None:
    """Raises Refused (401) unless the request bears this token. How long it takes tells nothing of the token."""
    given = request.header("Authorization")
    scheme, _, found = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    right = hmac.compare_digest(found.strip(" ").encode(errors="surrogateescape"), token.encode())
    if not right or scheme.lower() != "bearer":
        headers = {"WWW-Authenticate": "Bearer", "Cache-Control": "no-store"}
        raise Refused(401, "a bearer token is needed for this", headers=headers)


class _RequestOver(TimeoutError):
    """The request took too long or too much. http.server closes a connection on TimeoutError."""


class _BoundedReader(io.RawIOBase):
    """A socket's bytes, up to a deadline and a number of bytes that are set for each request."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._deadline = 0.0
        self._bytes_left = 0

    def begin(self, seconds: float, most_bytes: int) -> None:
        self._deadline = time.monotonic() + seconds
        self._bytes_left = most_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        seconds = self._deadline - time.monotonic()
        if seconds <= 0 or self._bytes_left <= 0:
            raise _RequestOver("the request is too slow or too long")
        self._connection.settimeout(seconds)
        count = self._connection.recv_into(memoryview(buffer)[: self._bytes_left])
        self._bytes_left -= count
        return count


class _Handler(BaseHTTPRequestHandler):
    """One connection, request by request."""

    protocol_version = "HTTP/1.1"
    sys_version = ""
    disable_nagle_algorithm = True
    server: BoundedServer

    def setup(self) -> None:
        super().setup()
        self.server_version = self.server.name
        self._bounded = _BoundedReader(self.connection)
        self.rfile: io.BufferedReader = io.BufferedReader(self._bounded, 16_384)

    def handle_one_request(self) -> None:
        self._bounded.begin(self.server.request_seconds, MAX_EXCHANGE_BYTES)
        try:
            super().handle_one_request()
        except OSError as error:  # it went away, or was too slow
            self.server.logger.debug("%s: %s", self.address_string(), error)
            self.close_connection = True

    def do_POST(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # a body that nobody reads would be taken for the next request
        self._handle()

    def do_HEAD(self) -> None:
        self.do_GET()

    def _handle(self) -> None:
        request = Request(self.command, self.path, lambda name: self.headers.get_all(name, []), self._body)
        try:
            self._answer(self.server.answer(request))
        except Refused as refused:
            self._refuse(refused.answer)
        except OSError:
            raise  # the connection's
        except Unavailable as error:
            self.server.logger.error("%s", error)
            self._refuse(Answer(503, self.server.when_unavailable.encode() + b"\n"))
        except Exception:
            self.server.logger.exception("a request failed")
            self._refuse(Answer(500, self.server.when_at_fault.encode() + b"\n"))

    def _body(self) -> bytes:
        """The body. Raises Refused for its size or its framing."""
        lengths = self.headers.get_all("Content-Length", [])
        codings = self.headers.get_all("Transfer-Encoding", [])
        if codings:
            if lengths or [coding.strip().lower() for coding in codings] != ["chunked"]:
                raise Refused(400, "a body of unclear length")
            return self._chunks()
        if not lengths:
            raise Refused(411, "a body with a Content-Length is wanted")
        if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
            raise Refused(400, "a body of unclear length")
        length = int(lengths[0])
        if length > MAX_REQUEST_BYTES:
            raise Refused(413, f"the limit is {MAX_REQUEST_BYTES} bytes")
        body = self.rfile.read(length)
        if len(body) != length:
            raise Refused(400, "the body ended early")
        return body

    def _chunks(self) -> bytes:
        """A body in chunks, without extensions or trailers (RFC 9112, 7.1)."""
        body = b""
        while True:
            line = self.rfile.readline(20)
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}\r\n", line):
                raise Refused(400, "a malformed chunk")
            size = int(line, 16)
            if len(body) + size > MAX_REQUEST_BYTES:
                raise Refused(413, f"the limit is {MAX_REQUEST_BYTES} bytes")
            body += self.rfile.read(size)
            if self.rfile.read(2) != b"\r\n":
                raise Refused(400, "a malformed chunk")
            if size == 0:
                return body

    def _refuse(self, answer: Answer) -> None:
        """Answer, and close the connection: what is left of the request would be read as the next one."""
        self.close_connection = True
        self._answer(msgspec.structs.replace(answer, headers={**answer.headers, "Connection": "close"}))
        # Closing on what was not read resets the connection, and the client might never see the answer.
        self.connection.shutdown(socket.SHUT_WR)
        self._bounded.begin(GOODBYE_SECONDS, MAX_EXCHANGE_BYTES)
        while self.rfile.read1(16_384):
            pass

    def _answer(self, answer: Answer) -> None:
        # For everything that is written from here on: sendall takes the timeout as that of the whole.
        self.connection.settimeout(self.server.answer_seconds)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        self.server.logger.debug("%s " + format, self.address_string(), *args)


class BoundedServer(HTTPServer):
    """A server on a port: each connection in a thread, and never more of them than ``most_connections``.

    Raises Unavailable if the port cannot be had. Port 0 takes any; ``url`` says which.
    """

    name = "tallystick"
    logger = logging.getLogger("tallystick.http")
    when_unavailable = "it cannot be done now"
    when_at_fault = "a fault of the server"
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        most_connections: int = MAX_CONNECTIONS,
        request_seconds: float = REQUEST_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self.request_seconds = request_seconds
        self.answer_seconds = answer_seconds
        self._places = threading.BoundedSemaphore(most_connections)
        self._most_connections = most_connections
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise Unavailable(reason=f"{host}:{port}: {error.strerror or error}") from None

    def answer(self, request: Request) -> Answer:
        """The answer to a GET, HEAD or POST; the body of an answer to HEAD is not sent. In many threads at once.

        Raises Refused for what ends the connection too, and Unavailable.
        """
        raise NotImplementedError

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        name = str(host)
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def server_bind(self) -> None:
        """Without the base class's look-up of the host's name, which can take long and is used for nothing."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self._turn_away(request)
            return
        try:
            threading.Thread(target=self._serve, args=(request, client_address), daemon=True).start()
        except BaseException:
            self._places.release()
            raise

    def _serve(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception:
            self.logger.debug("a connection failed", exc_info=True)
        finally:
            self._places.release()
            self.shutdown_request(request)

    def _turn_away(self, request: socket.socket) -> None:
        """Too many connections: say so without waiting for anything."""
        request.settimeout(0)
        try:
            request.send(_TURNED_AWAY)
        except OSError as error:
            self.logger.debug("turned away without a word: %s", error)
        self.shutdown_request(request)

    def wait_for_connections(self, seconds: float) -> None:
        """After ``shutdown``: let the requests that are being answered end, for at most so long."""
        deadline = time.monotonic() + seconds
        for _ in range(self._most_connections):
            if not self._places.acquire(timeout=max(deadline - time.monotonic(), 0)):
                return
