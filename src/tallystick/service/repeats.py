"""Repeats of writes that are no postings: an id made of the request, by which the same request finds what it made.

A posting is remembered by the ledger itself. A key or an endpoint is not, so its id says which request it was made by:
its first part is made of who asked, for what, and under which idempotency key; the second of all that was asked. So a
repeat finds its own, whichever process it comes to, and another request under the same key is seen to be another.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import NamedTuple

import msgspec

from tallystick.service.calls import Call

_SECRET = "repeats"


class Request(NamedTuple):
    """A request as 32 bytes each: ``mark`` for its idempotency key, ``rest`` for what it asks."""

    mark: bytes
    rest: bytes

    def bytes_for(self, what: str, length: int) -> bytes:
        """Bytes that this request gives whenever it is asked, for something that it makes; at most 64."""
        return hashlib.sha512(b"\0".join((what.encode(), self.mark, self.rest))).digest()[:length]


def request_of(call: Call) -> Request:
    """What tells this request from all others. Nobody without the service's secret can know it beforehand."""
    secret = call.service.control.secret(_SECRET)
    who = [call.operation.id, call.principal.source, call.path.get("ledger", ""), call.key]
    asked = [sorted(call.path.items()), call.body]
    return Request(_digest(secret, who), _digest(secret, [*who, *asked]))


def _digest(secret: bytes, value: object) -> bytes:
    return hmac.digest(secret, msgspec.json.encode(value, order="deterministic"), "sha256")
