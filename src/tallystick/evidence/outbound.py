"""One request to a program that is not trusted, within bounds: of time as a whole, and of what is read.

A socket's timeout counts from one byte to the next, so a server that sends a byte now and then could hold its caller
for days. Here a watchdog cuts the connection when the time is over, whatever is being waited for. Redirects are not
followed and proxies of the environment are not used: what is to be reached is what was configured.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from tallystick.errors import InvalidInput, Unavailable

MAX_REASON = 200
"""Characters of an error that are passed on."""


class Reply(msgspec.Struct, frozen=True):
    """What came back: any status, the content type in lower case without its parameters, and the whole body."""

    status: int
    content_type: str
    body: bytes


class Endpoint(msgspec.Struct, frozen=True):
    """Where to send to."""

    host: str
    port: int
    path: str
    encrypted: bool


def parse_endpoint(url: str, path: str = "url") -> Endpoint:
    """The endpoint of an http or https URL. Raises InvalidInput, naming ``path``, for any other."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(path=path, problem=f"{url!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(path=path, problem=f"{url!r} is not an http or https URL with a host")
    if parts.username is not None or parts.fragment or not url.isascii() or any(ord(sign) <= 32 for sign in url):
        raise InvalidInput(path=path, problem=f"{url!r} has a user, a fragment or characters that are not allowed")
    encrypted = parts.scheme == "https"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Endpoint(host=parts.hostname, port=port or (443 if encrypted else 80), path=target, encrypted=encrypted)


def post(
    endpoint: Endpoint,
    body: bytes,
    content_type: str,
    *,
    timeout_seconds: float,
    most_bytes: int,
    trust: ssl.SSLContext | None = None,
) -> Reply:
    """Send ``body`` and give what comes back, of whatever status; see ``exchange``."""
    headers = {"Content-Type": content_type}
    return exchange(
        endpoint, "POST", body, headers, timeout_seconds=timeout_seconds, most_bytes=most_bytes, trust=trust
    )


def exchange(
    endpoint: Endpoint,
    method: str,
    body: bytes | None,
    headers: Mapping[str, str],
    *,
    timeout_seconds: float,
    most_bytes: int,
    trust: ssl.SSLContext | None = None,
) -> Reply:
    """Send a request and give what comes back, of whatever status.

    Raises Unavailable if there is no whole answer within the time, or one of more than ``most_bytes``. Resolving the
    host's name is bounded by the system's resolver, not by this, and each address of a host that has several is given
    the whole time to connect. ``trust`` replaces the system's roots.
    """
    deadline = time.monotonic() + timeout_seconds
    try:
        plain = socket.create_connection((endpoint.host, endpoint.port), timeout=timeout_seconds)
    except OSError as error:
        raise Unavailable(reason=f"{endpoint.host}: {_say(error)}") from None
    try:
        line = _encrypt(plain, endpoint, trust) if endpoint.encrypted else plain
    except (OSError, ValueError) as error:
        plain.close()
        raise Unavailable(reason=f"{endpoint.host}: {_say(error)}") from None
    overdue = threading.Event()
    watchdog = threading.Timer(max(deadline - time.monotonic(), 0), _cut, (line, overdue))
    watchdog.daemon = True
    watchdog.start()
    try:
        reply = _exchange(line, endpoint, method, body, headers, most_bytes)
        if overdue.is_set():
            raise OSError  # a cut looks like the end of an answer that does not tell its length
        return reply
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:  # the last two: cut in TLS
        late = overdue.is_set() or isinstance(error, TimeoutError)
        reason = f"no answer within {timeout_seconds:g} seconds" if late else _say(error)
        raise Unavailable(reason=f"{endpoint.host}: {reason}") from None
    finally:
        watchdog.cancel()
        line.close()


def _encrypt(plain: socket.socket, endpoint: Endpoint, trust: ssl.SSLContext | None) -> ssl.SSLSocket:
    """The handshake itself comes later, when the watchdog is there."""
    context = trust or ssl.create_default_context()
    return context.wrap_socket(plain, server_hostname=endpoint.host, do_handshake_on_connect=False)


def _cut(line: socket.socket, overdue: threading.Event) -> None:
    overdue.set()
    try:
        # The descriptor below TLS: a clean goodbye would wait for the other side.
        socket.socket.shutdown(line, socket.SHUT_RDWR)
    except OSError:
        return  # it has ended by itself


def _exchange(
    line: socket.socket,
    endpoint: Endpoint,
    method: str,
    body: bytes | None,
    headers: Mapping[str, str],
    most_bytes: int,
) -> Reply:
    if isinstance(line, ssl.SSLSocket):
        line.do_handshake()
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port)
    if endpoint.encrypted:
        connection.default_port = 443  # of the Host header
    connection.sock = line
    connection.request(method, endpoint.path, body, {**headers, "User-Agent": "tallystick", "Connection": "close"})
    response = connection.getresponse()
    found = response.read(most_bytes + 1)
    if len(found) > most_bytes:
        raise OSError(f"the answer is longer than {most_bytes} bytes")
    if response.length:
        raise OSError("the answer was cut short")
    kind = response.headers.get_content_type() if "Content-Type" in response.headers else ""
    return Reply(status=response.status, content_type=kind, body=found)


def _say(error: BaseException) -> str:
    """An error's text, which may quote what the other side sent."""
    text = str(error) or type(error).__name__
    return "".join(sign if sign.isprintable() else " " for sign in text[:MAX_REASON]).strip()
