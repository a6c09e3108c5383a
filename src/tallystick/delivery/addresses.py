"""Where a webhook may go: URLs that mean one thing only, and addresses that are nobody's inside.

A URL that a customer gives makes the operator's own machine send a request, from inside the operator's network. So a
webhook goes to public addresses alone. What counts is the address that is connected to, not the name: names are
resolved once, every address found is judged, and the connection is made to one of these, so that an answer that changes
between the check and the connection ("DNS rebinding") changes nothing. One private address among several refuses them
all.

IPv6 addresses that carry an IPv4 address (mapped, 6to4, Teredo, NAT64) lead wherever that one does, by machines that
nobody here knows: they are judged private, but for mapped ones, which are judged as what they carry.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from msgspec import Struct

from tallystick.errors import InvalidInput

MAX_URL = 2_048
MAX_HOST = 253

OPEN_PORTS = (80, 443)
"""Of the ports below 1,024, where a machine's own services listen, those that a webhook may name."""

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_\-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?\Z")
_NETLOC = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\[\]:@]+)(?::[0-9]{1,5})?\Z")
_NUMBER = re.compile(r"(?:[0-9]+|0[xX][0-9A-Fa-f]*)\Z")
_VISIBLE = re.compile(r"[!-~]+\Z")

_CARRIERS = tuple(
    ipaddress.IPv6Network(text) for text in ("2002::/16", "2001::/32", "64:ff9b::/96", "64:ff9b:1::/48", "::/96")
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Target(Struct, frozen=True):
    """Where a webhook's URL leads. ``host`` is without brackets; ``path`` has the query."""

    host: str
    port: int
    path: str
    encrypted: bool

    @property
    def authority(self) -> str:
        """The Host header: with the port, unless it goes without saying."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.encrypted else 80) else f"{host}:{self.port}"


def parse_target(url: str, *, allow_private: bool = False, path: str = "url") -> Target:
    """Where a URL leads. Raises InvalidInput, naming ``path``, for one that could be read in two ways, that carries a
    user or a fragment, that is not encrypted, or that names a private address or a port of the machine's own services;
    the last three are allowed with ``allow_private``.
    """
    if not isinstance(url, str) or not 0 < len(url) <= MAX_URL or not _VISIBLE.match(url) or "\\" in url:
        raise InvalidInput(
            path=path, problem=f"a URL is 1 to {MAX_URL} visible ASCII characters, without spaces or backslashes"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(path=path, problem=f"it is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not url.startswith(f"{parts.scheme}://"):
        raise InvalidInput(path=path, problem="it does not begin with https://")
    if "@" in parts.netloc or "#" in url:
        raise InvalidInput(path=path, problem="it has a user or a fragment")
    if not _NETLOC.match(parts.netloc):
        raise InvalidInput(path=path, problem=f"{parts.netloc!r} is not a host with or without a port")
    host = _check_host(parts.hostname or "", parts.netloc, allow_private, path)
    encrypted = parts.scheme == "https"
    if not encrypted and not allow_private:
        raise InvalidInput(path=path, problem="it does not begin with https://")
    port = (443 if encrypted else 80) if port is None else port
    if port == 0 or (port < 1_024 and port not in OPEN_PORTS and not allow_private):
        raise InvalidInput(path=path, problem=f"port {port} is not allowed")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(host=host, port=port, path=target, encrypted=encrypted)


def is_public(text: str) -> bool:
    """Whether an IP address is one of the open internet; text that is no address is not."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return _is_public(mapped or address)


def _is_public(address: Address) -> bool:
    if address.is_multicast or address.is_reserved or address.is_unspecified or not address.is_global:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        return not address.is_site_local and not any(address in network for network in _CARRIERS)
    return True


def _check_host(host: str, netloc: str, allow_private: bool, path: str) -> str:
    if netloc.startswith("["):
        try:
            found: Address = ipaddress.IPv6Address(host)
        except ValueError:
            raise InvalidInput(path=path, problem=f"{host!r} is not an IPv6 address") from None
    elif not _HOST.match(host) or len(host) > MAX_HOST:
        raise InvalidInput(path=path, problem=f"{host!r} is not the name of a host")
    elif _NUMBER.match(host.rstrip(".").rpartition(".")[2]):
        # 2130706433, 0x7f.1 and 0177.0.0.1 are 127.0.0.1 to some programs and names to others.
        try:
            found = ipaddress.IPv4Address(host)
        except ValueError:
            raise InvalidInput(path=path, problem=f"{host!r} is not an IPv4 address in its usual form") from None
    else:
        return host
    if not allow_private and not is_public(str(found)):
        raise InvalidInput(path=path, problem=f"{host} is a private address")
    return host
