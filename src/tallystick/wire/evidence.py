"""Evidence on the wire: receipts, proofs, checkpoints, and what a check of them comes to."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

MAX_KEYS = 100
"""The most verifier keys that one check may name."""
MAX_TEXT = 262_144
"""The most characters of a receipt or a policy that is sent in."""

Hash = Annotated[str, Meta(description="A SHA-256 hash, in base64.", min_length=44, max_length=44)]


class ReceiptAnswer(Struct, frozen=True):
    """The receipt of one event: a C2SP tlog-proof as text, best kept in a file ``.tlog-proof``.

    ``size`` is how many events the checkpoint in it covers. It can be checked offline, with the log's key alone.
    """

    transaction: str
    origin: str
    size: int
    receipt: str


class LogAnswer(Struct, frozen=True):
    """A ledger's log: its name, and the verifier keys that it has had, the newest last."""

    ledger: str
    origin: str
    keys: list[str]


class CheckpointAnswer(Struct, frozen=True):
    """A signed checkpoint: how many events it covers, and the note itself (C2SP tlog-checkpoint)."""

    size: int
    checkpoint: str


class InclusionAnswer(Struct, frozen=True):
    """The hashes from event ``seq`` up to the root of the first ``size``, the leaf's sibling first (RFC 6962)."""

    seq: int
    size: int
    hashes: list[Hash]


class ConsistencyAnswer(Struct, frozen=True):
    """What shows that the first ``old`` of the first ``new`` events are what they were (RFC 6962)."""

    old: int
    new: int
    hashes: list[Hash]


class VerifyRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A receipt (or an acceptance), and whom to trust: ``keys`` of a log, a C2SP tlog-policy, or, if neither is named,
    the keys of this ledger's own log. ``origin``: the log that it must be of."""

    receipt: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
    keys: Annotated[list[str], Meta(max_length=MAX_KEYS)] = field(default_factory=list)
    policy: Annotated[str, Meta(max_length=MAX_TEXT)] = ""
    origin: str = ""


class VerdictAnswer(Struct, frozen=True, omit_defaults=True):
    """What a receipt proves.

    ``included``: the event is in the log; ``witnesses`` names the policy's witnesses that cosigned the checkpoint.
    ``accepted``: the log promises to include it by ``promise_by``, and nothing more. ``refused``: it proves nothing,
    because of ``problem``.
    """

    verdict: Literal["included", "accepted", "refused"]
    problem: str = ""
    origin: str = ""
    transaction: str = ""
    seq: int | None = None
    type: str = ""
    time: str = ""
    hash: str = ""
    size: int | None = None
    witnesses: list[str] = field(default_factory=list)
    promise_by: str = ""


class EraseRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Either ``transaction``, all of whose erasable texts go, or the ``commitment`` of a single text."""

    transaction: str = ""
    commitment: str = ""


class ErasedAnswer(Struct, frozen=True):
    """How many texts there still were, and are no more."""

    erased: int
