"""Erasable texts: free text and personal data that an event only commits to, so that they can be forgotten.

The event holds a commitment; the text and its salt, which open it, lie in a table of their own beside the journal. When
they are erased the event stays as it was, and so does every hash and proof above it. What is left says nothing: without
the salt no guess at the text can be tried.

A commitment is written ``commitment:sha256:`` and 64 lower-case hexadecimal digits: the SHA-256 of these bytes, one
behind the other: the 24 ASCII bytes ``tallystick.commitment.v1``, one zero byte, the salt of 32 random bytes, and the
text in UTF-8. Label and salt have one length each, so no two openings make the same bytes.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from msgspec import Struct

PREFIX = "commitment:sha256:"
"""What every commitment begins with; no plain text may."""

LABEL = b"tallystick.commitment.v1\0"
SALT_BYTES = 32
MAX_ERASABLE = 8_192
"""The most characters of an erasable text; it takes no room in the event."""

_COMMITMENT = re.compile(re.escape(PREFIX) + r"[0-9a-f]{64}\Z")


class Erasable(Struct, frozen=True, forbid_unknown_fields=True, rename={"text": "erasable"}):
    """A text that may be erased later: for ``reason``, or any value of ``metadata``, of any command.

    The event holds a commitment to it. Asking again with the same text under the same key gives the first answer again;
    once the text was erased there is nothing to compare it with, so then any text does.
    """

    text: str

    def __repr__(self) -> str:
        return "Erasable(...)"  # logs and messages outlive an erasure


def commitment_of(text: str, salt: bytes) -> str:
    """The commitment that this salt and text open; see the module for the bytes. Raises ValueError for a short salt."""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
    return PREFIX + hashlib.sha256(LABEL + salt + text.encode()).hexdigest()


def is_commitment(value: object) -> bool:
    """Whether this is a commitment as an event holds it."""
    return isinstance(value, str) and _COMMITMENT.match(value) is not None


def commitments_in(data: dict[str, Any]) -> dict[str, str]:
    """The commitments in an event's data, by path: ``reason`` and ``metadata.<name>``."""
    metadata = data.get("metadata")
    places = {"reason": data.get("reason")}
    if isinstance(metadata, dict):
        places |= {f"metadata.{name}": value for name, value in metadata.items()}
    return {path: value for path, value in places.items() if isinstance(value, str) and is_commitment(value)}
