"""Cursors: where a list goes on. Opaque and signed, and they carry the filters and the moment of their first page."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import msgspec
from msgspec import Struct

from tallystick.errors import InvalidInput

MAX_CURSOR = 2_048
"""The most characters of a cursor."""
_SIGNATURE_BYTES = 16


class Place(Struct, frozen=True, array_like=True):
    """Where a list stands: whose, with which filters, behind what, and as of which moment it was begun."""

    operation: str
    subject: str
    ledger: str
    filters: dict[str, Any]
    after: str
    snapshot: str = ""
    limit: int = 0
    """How many items its pages have, unless a request names another number."""


class Cursors:
    """Writes and reads cursors with one secret, which all processes of a service share."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._decoder = msgspec.json.Decoder(Place)

    def write(self, place: Place) -> str:
        """A cursor that leads to this place."""
        body = msgspec.json.encode(place)
        return base64.urlsafe_b64encode(self._sign(body) + body).rstrip(b"=").decode()

    def read(self, cursor: str) -> Place:
        """The place of a cursor. Raises InvalidInput for one that was not written here."""
        wrong = InvalidInput(path="cursor", problem="it is none of this service's; take it from a page as it is")
        if not 0 < len(cursor) <= MAX_CURSOR:
            raise wrong
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            signature, body = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
            if not hmac.compare_digest(signature, self._sign(body)):
                raise wrong
            return self._decoder.decode(body)
        except (ValueError, msgspec.MsgspecError):
            raise wrong from None

    def _sign(self, body: bytes) -> bytes:
        return hmac.digest(self._secret, b"tallystick cursor v1\0" + body, hashlib.sha256)[:_SIGNATURE_BYTES]
