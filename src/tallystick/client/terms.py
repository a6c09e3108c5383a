"""Terms: where a client asks, with which token, how patiently, and who signs what it writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from tallystick.client.trying import Retry
from tallystick.errors import InvalidInput

USER_AGENT = "tallystick-python"
DEFAULT_TIMEOUT = 30.0

_TOKEN = re.compile(r"[!-~]+\Z")

Sign = Callable[[str, str, bytes, str], Mapping[str, str]]
"""Makes the headers of a signed request, of its method, its path with the query, its body and its idempotency key."""


class Settings:
    """What a client was told. The token is never shown."""

    def __init__(self, url: str, token: str, timeout: float, retry: Retry, sign: Sign | None) -> None:
        self.url = _checked_url(url)
        if token and not _TOKEN.match(token):
            raise InvalidInput(path="token", problem="it is not printable ASCII without spaces")
        if not 0 < timeout <= 86_400:
            raise InvalidInput(path="timeout", problem="it is more than 0 and at most 86400 seconds")
        self.timeout = float(timeout)
        self.retry = retry
        self.sign = sign
        self._token = token

    def options(self) -> dict[str, Any]:
        """How a client of httpx2 is to be made. The headers are its own, which do not show the token either."""
        headers = {"user-agent": USER_AGENT, "accept-encoding": "identity"}
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        return {"headers": headers, "follow_redirects": False, "timeout": self.timeout}

    def __repr__(self) -> str:
        return f"Settings({self.url!r})"


def _checked_url(url: str) -> str:
    """The URL without a slash at its end. Raises InvalidInput, which does not repeat what may be a password."""
    try:
        found = urlsplit(url)
        port = found.port
    except ValueError:
        raise InvalidInput(path="url", problem="it is no URL") from None
    if found.scheme not in ("http", "https") or not found.hostname or port == 0:
        raise InvalidInput(path="url", problem="it is not http://... or https://... with a host")
    if found.username is not None or found.password is not None or found.query or found.fragment:
        raise InvalidInput(path="url", problem="it bears a user, a query or a fragment; the token is given by itself")
    return url.rstrip("/")
