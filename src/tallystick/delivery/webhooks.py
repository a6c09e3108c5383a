"""Webhooks: a message as one signed HTTP request.

Accepted is what a receiver answers with 2xx, and nothing else; a redirect is not followed (what was checked is the URL
that was given, and a moved endpoint is for its owner to mend). 410 means that nothing is wanted any more. The request
is bounded as a whole, from resolving the name to the end of the answer, in time (15 seconds) and in what is read (64
KiB).

The body is a CloudEvent in structured form; the headers are those of Standard Webhooks.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from functools import lru_cache

from tallystick.control.records import Endpoint
from tallystick.delivery.addresses import Target, parse_target
from tallystick.delivery.connections import Answer, Connections, Resolve, Unreachable, resolve
from tallystick.delivery.signatures import sign, webhook_id
from tallystick.delivery.transport import Message, Sent
from tallystick.errors import InvalidInput

TIMEOUT_SECONDS = 15.0
"""For one try as a whole: the shortest that Standard Webhooks advises."""

USER_AGENT = "tallystick"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9\-]{0,63}\Z")
_VALUE = re.compile(r"[ -~]{0,2048}\Z")
_SECONDS = re.compile(r"[0-9]{1,10}\Z")

_OURS = frozenset(
    ("host", "content-type", "content-length", "connection", "transfer-encoding", "user-agent", "upgrade", "expect")
)
"""Headers that a message cannot bring along, nor any that begins with ``webhook-``."""


class WebhookTransport:
    """Sends messages to webhooks. Private addresses, plain http and the ports of a machine's own services are refused
    unless ``allow_private``. ``trust`` replaces the system's roots, ``resolve`` the system's resolver.
    """

    def __init__(
        self,
        *,
        allow_private: bool = False,
        timeout_seconds: float = TIMEOUT_SECONDS,
        trust: ssl.SSLContext | None = None,
        resolve: Resolve = resolve,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._allow_private = allow_private
        self._timeout_seconds = timeout_seconds
        self._now = now
        self._connections = Connections(allow_private=allow_private, trust=trust, resolve=resolve)

    async def send(self, endpoint: Endpoint, message: Message) -> Sent:
        """Send once. Never raises for what the endpoint is or does."""
        try:
            target = _target(endpoint.url, self._allow_private)
            request = encode_request(target, endpoint, message, int(self._now()))
        except InvalidInput as error:
            return Sent(accepted=False, problem=str(error))
        deadline = asyncio.get_running_loop().time() + self._timeout_seconds
        try:
            answer = await self._connections.exchange(target, request, deadline)
        except TimeoutError:
            return Sent(accepted=False, problem=f"no answer within {self._timeout_seconds:g} seconds")
        except Unreachable as error:
            return Sent(accepted=False, problem=str(error))
        except ssl.SSLError as error:
            return Sent(accepted=False, problem=f"no secure connection: {_say(error)}")
        except (OSError, UnicodeError) as error:
            return Sent(accepted=False, problem=f"no connection: {_say(error)}")
        return read_answer(answer, self._now())

    async def close(self) -> None:
        """Let go of connections. Closing twice is no error."""
        await self._connections.close()


def encode_request(target: Target, endpoint: Endpoint, message: Message, timestamp: int) -> bytes:
    """The bytes of the request. Raises InvalidInput for a header that could be read as two."""
    signed = sign(endpoint.secrets, webhook_id(message.id), timestamp, message.body)
    lines = [
        f"POST {target.path} HTTP/1.1\r\nhost: {target.authority}\r\nuser-agent: {USER_AGENT}\r\n",
        f"content-type: {_checked('content-type', message.content_type)}\r\ncontent-length: {len(message.body)}\r\n",
    ]
    lines += [f"{name}: {value}\r\n" for name, value in signed.items()]
    for name, value in message.headers.items():
        if name.lower() in _OURS or name.lower().startswith("webhook-"):
            raise InvalidInput(path=f"headers.{name[:64]}", problem="this header is not a message's to set")
        lines.append(f"{name}: {_checked(name, value)}\r\n")
    return "".join(lines).encode("ascii") + b"\r\n" + message.body


def read_answer(answer: Answer, now: float) -> Sent:
    """What an answer means."""
    status = answer.status
    if 200 <= status < 300:
        return Sent(accepted=True, status=status)
    problem = f"it answered {status}" + (", a redirect, which is not followed" if 300 <= status < 400 else "")
    return Sent(
        accepted=False,
        status=status,
        problem=problem,
        retry_after_seconds=_retry_after(answer.retry_after, now),
        gone=status == 410,
    )


def _checked(name: str, value: str) -> str:
    if not _NAME.match(name) or not _VALUE.match(value):
        raise InvalidInput(path=f"headers.{name[:64]!r}", problem="it is not a header of visible ASCII characters")
    return value


@lru_cache(maxsize=1_024)
def _target(url: str, allow_private: bool) -> Target:
    return parse_target(url, allow_private=allow_private)


def _retry_after(text: str, now: float) -> float | None:
    """Seconds from now; RFC 9110 section 10.2.3 has a number of seconds, or a date."""
    text = text.strip()
    if _SECONDS.match(text):
        return float(text)
    try:
        return max(parsedate_to_datetime(text).timestamp() - now, 0.0)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _say(error: BaseException) -> str:
    """What went wrong, in this program's words or the system's: never what the other side sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not right ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return error.reason or "the handshake failed"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
