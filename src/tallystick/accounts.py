"""Accounts: addresses, buckets, statuses and what a ledger knows of each.

An address is one or more segments joined by colons, such as ``users:alice``, or a DID (W3C DID Core 3.1).
Addresses that begin with ``@`` are the ledger's own and carry the other side of value that enters or leaves it.
"""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct, field

from tallystick.errors import InvalidInput

Bucket = Literal["available", "held", "bonded", "fees", "promo"]
BUCKETS: tuple[Bucket, ...] = ("available", "held", "bonded", "fees", "promo")

Status = Literal["active", "frozen", "excluded", "closed"]

MAX_ADDRESS = 255

ISSUANCE = "@issuance"
FEES = "@fees"
TREASURY = "@treasury"
CLEARING = "@clearing:"
EXTERNAL = "@external:"

_SEGMENTS = re.compile(r"[A-Za-z0-9_.\-]+(?::[A-Za-z0-9_.\-]+)*\Z")
_DID = re.compile(r"did:[a-z0-9]+:(?:[A-Za-z0-9._:\-]|%[0-9A-Fa-f]{2})*(?:[A-Za-z0-9._\-]|%[0-9A-Fa-f]{2})\Z")
_SYSTEM = re.compile(r"@(?:issuance|fees|treasury|clearing:[A-Za-z0-9_.:\-]+|external:[A-Za-z0-9_.:\-]+)\Z")

Role = Literal["holder", "issuance", "fees", "treasury", "clearing", "external"]


def check_address(address: str, path: str = "account") -> str:
    """The address itself if it is well formed; raises InvalidInput, naming ``path``, if not."""
    if not isinstance(address, str):
        raise InvalidInput(path=path, problem=f"{address!r} is not text")
    if len(address) > MAX_ADDRESS:
        raise InvalidInput(path=path, problem=f"an address has at most {MAX_ADDRESS} characters")
    if address.startswith("@"):
        if not _SYSTEM.match(address):
            raise InvalidInput(
                path=path,
                problem=f"{address!r} is not one of @issuance, @fees, @treasury, @clearing:<domain>, @external:<rail>",
            )
    elif address.startswith("did:"):
        if not _DID.match(address):
            raise InvalidInput(path=path, problem=f"{address!r} is not a DID such as did:key:z6Mk...")
    elif not _SEGMENTS.match(address):
        raise InvalidInput(path=path, problem=f"{address!r} is not an address such as users:alice")
    return address


def role_of(address: str) -> Role:
    """What part an address plays: the ledger's own accounts by name, everyone else is a holder."""
    if not address.startswith("@"):
        return "holder"
    if address.startswith(CLEARING):
        return "clearing"
    if address.startswith(EXTERNAL):
        return "external"
    return address[1:]  # type: ignore[return-value]


def is_under(address: str, beginning: str) -> bool:
    """Whether an address is this one, or one beneath it: ``users:alice`` and ``users:alice:savings`` are under
    ``users:alice``, ``users:alice2`` is not. Under ``users:`` is all that begins so; everything is under nothing."""
    if not beginning or beginning.endswith(":"):
        return address.startswith(beginning)
    return address == beginning or address.startswith(beginning + ":")


class Account(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What was declared of one account. An account that was only used, never declared, has none of this.

    ``limits`` is the debt limit per asset (a balance may go to -limit), in minor units: it makes the account a
    *member*. ``ceilings`` is the highest available balance per asset. ``floorless`` is for clearing accounts alone.
    """

    address: str
    status: Status = "active"
    limits: dict[str, int] = field(default_factory=dict)
    ceilings: dict[str, int] = field(default_factory=dict)
    floorless: bool = False
    owner: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    opened: str = ""
    changed: str = ""

    @property
    def is_plain(self) -> bool:
        """True when nothing declared can refuse a movement: active, no limit, no ceiling, a floor of zero."""
        return self.status == "active" and not self.limits and not self.ceilings and not self.floorless
