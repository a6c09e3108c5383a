#!/usr/bin/env python3
"""A stand-alone verifier of ledgers written in event profile 1: one file, the standard library, nothing else.

    python verify.py DIRECTORY_OR_URL [--key VKEY] [--policy FILE] [--checkpoint FILE] [--receipt FILE] [--json]

Take this file from elsewhere than from whom you check (every bundle holds a copy, which could have been altered).
It reads an export bundle (or a published log) and gives six verdicts, each passed, failed or not checked:

    bytes        every event is the one canonical form of itself, every file is what the manifest says
    chain        numbers have no gaps, each event names the hash of the one before, time never runs backwards
    tree         the Merkle tree over the events has the root that the log's key signed
    outside      witnesses, older checkpoints or receipts that came from elsewhere agree with this log
    accounting   replaying the events keeps every rule of the books (spec/PROFILE.md)
    attestation  statements of liabilities in the bundle are signed, and say what the events say

What the verdicts rest on: SHA-256, Ed25519, the verifier key (give it with --key: one that is taken from the bundle
shows only that the bundle agrees with itself), and what you bring from outside. Without that the operator could have
written the whole log anew; the report then says "internally consistent, not witnessed". A key leads to the key that
came after it if an event ``key_rotated`` names that one, under a checkpoint that both signed; not the other way round.

It shares no code with the ledger, and follows RFC 6962 and RFC 8785 and C2SP's signed-note, tlog-checkpoint,
tlog-tiles, tlog-proof, tlog-cosignature (type 0x04) and tlog-policy. Exit code: 0 all that was checked passed, 1
something failed, 2 it was called wrongly. Memory: about 120 MB for a million events (a digest of every idempotency
key), and what balances, accounts and open holds take; events are read and forgotten, 256 at a time.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import bisect
import datetime
import hashlib
import json
import os
import re
import stat
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

VERDICTS = ("bytes", "chain", "tree", "outside", "accounting", "attestation")
MAX_FAILURES = 100
"""How many failures of each verdict are listed; the others are counted."""

PROFILE = 1
GENESIS = "0" * 64
WIDTH = 256
MAX_EVENT_BYTES = 65_535
MAX_DEPTH = 16
MAX_INTEGER = 2**53 - 1
MAX_AMOUNT = 2**63 - 1
MAX_NAME = 255
MAX_TEXT = 16_000_000
"""Bytes of a checkpoint, key, policy, receipt, opening or attestation file."""
MAX_MANIFEST = 64_000_000
MAX_OPENING = 512_000_000
MAX_RESPONSE = 64_000_000
"""Bytes, inflated, of a file that is taken from a server into memory."""
MAX_DOWNLOAD = 64_000_000_000
"""Bytes, inflated, of a file of a server that is only hashed."""
MAX_KEYS = 1_000
MAX_MISSING = 8
"""After so many bundles in a row that a server does not have, it is asked for no more."""
MAX_BUNDLE = WIDTH * (MAX_EVENT_BYTES + 2)
MAX_LOOKED_AT = 10_000_000
"""How many events are read again, in all, for the floors of back-dated payments."""
MAX_SIGNATURES = 100
MAX_POLICY = 1_000_000
MAX_DEFINITIONS = 256
REQUEST_SECONDS = 30.0
RESPONSE_SECONDS = 300.0
TOTAL_SECONDS = 3_600.0

# ---------------------------------------------------------------- the table of event types

BUCKETS = {"A": "available", "H": "held", "B": "bonded", "F": "fees", "P": "promo"}
ROLES = {"h": "holder", "i": "issuance", "f": "fees", "t": "treasury", "c": "clearing", "x": "external"}
REFERENCES = (
    "escrow",
    "trial",
    "order",
    "round",
    "tx_hash",
    "network",
    "netting_batch",
    "commitment",
    "corrects",
    "external_ref",
    "trace_id",
)

TABLE = """
mint pr i:A>htc:A
burn pr htc:A>i:A
deposit pr x:A>htc:A +tx_hash|external_ref
withdrawal pr htc:A>x:A +tx_hash|external_ref
transfer pr htc:A>htc:A ht:P>htc:A
settlement pr c:A>htc:A htc:A>c:A +netting_batch
fee pr htc:AP>fc:F
fee_transfer pr fc:F>htc:A fc:F>fc:F +escrow|trial|order|netting_batch|external_ref
fee_burn pr fc:F>i:A +escrow|trial|order|netting_batch|external_ref
hold c- htc:A=htc:H
hold_top_up c- htc:A=htc:H
hold_extend c-
capture cr htc:H>htc:A htc:H>fc:F htc:H=htc:A
release c- htc:H=htc:A
hold_expire c- htc:H=htc:A
stake_lock c- htc:A=htc:B +escrow|trial
stake_release c- htc:B=htc:A +escrow|trial
stake_slash cr htc:B>htci:A htc:B>fc:F +escrow|trial
promo_mint pr i:A>ht:P
promo_burn pr ht:P>i:A
bonus_credit pr htc:A>ht:AP
bet_stake c- htc:A=htc:H +round
bet_settlement cr htc:H>htc:A htc:H>fc:F htc:H=htc:A htc:A>htc:A +round
bet_rollback c- htc:H=htc:A +round
spot_payment pr h:A>h:A
commitment_create c- htc:A=htc:H +commitment
commitment_fulfil c- htc:H=htc:A htc:A>htc:A +commitment
commitment_cancel c- htc:H=htc:A +commitment
federation_import pr h:A>c:A +external_ref
federation_export pr c:A>h:A +external_ref
federation_rollback pr h:A>c:A c:A>h:A +external_ref
governance_adjustment pr htc:A>htc:A !reason
reversal c- hiftcx:AHBFP>hiftcx:AHBFP
adjustment pr hiftcx:AFP>hiftcx:AFP +corrects !reason !actor
ledger_opened c-
asset_defined c-
account_opened c-
account_frozen c-
account_unfrozen c-
account_excluded c- htc:A>htc:A
account_closed c- htc:A>htc:A
limit_set c-
policy_set c-
type_defined c-
reserve_recorded c-
attestation_issued c-
period_closed c-
key_rotated c-
charge_finalized c-
"""
"""One event type a line: name; p(osted) or c(ommand of its own); r(eversible) or -; the moves ``roles:buckets>roles:
buckets`` (= instead of >: within one account); +references of which one is needed; !fields that are needed."""

Event = dict[str, Any]
Place = tuple[str, str, str]
"""An account, an asset and a bucket: where a balance is."""


class Kind(NamedTuple):
    """What an event type allows: which (role, bucket) value may leave and enter, and what must be given."""

    name: str
    posted: bool
    reversible: bool
    debits: frozenset[tuple[str, str]]
    credits: frozenset[tuple[str, str]]
    requires: tuple[tuple[str, ...], ...]
    needs: tuple[str, ...]


def _read_row(line: str) -> Kind:
    name, flags, *words = line.split()
    sides: tuple[set[tuple[str, str]], set[tuple[str, str]]] = (set(), set())
    for word in words:
        if word[0] not in "+!":
            for end, side in zip(re.split("[>=]", word), sides, strict=True):
                roles, buckets = end.split(":")
                side.update((ROLES[role], BUCKETS[bucket]) for role in roles for bucket in buckets)
    requires = tuple(tuple(word[1:].split("|")) for word in words if word[0] == "+")
    needs = tuple(word[1:] for word in words if word[0] == "!")
    return Kind(name, flags[0] == "p", flags[1] == "r", frozenset(sides[0]), frozenset(sides[1]), requires, needs)


KINDS = {kind.name: kind for kind in map(_read_row, TABLE.split("\n")[1:-1])}
MAY_BE_EMPTY = ("account_excluded", "account_closed")

# ---------------------------------------------------------------- findings and the report


class Bad(Exception):
    """What was read is not what it should be: one failure, with what was expected and found."""

    def __init__(self, problem: str, where: str = "", expected: Any = None, found: Any = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.where = where
        self.expected = expected
        self.found = found


class Usage(Exception):
    """The verifier was called wrongly."""


class Late(Exception):
    """The time for all of it is over."""


@dataclass
class Failure:
    """One thing that is wrong: at which event (``seq``), or in which file (``path``), and in which field."""

    problem: str
    seq: int | None = None
    field: str = ""
    expected: Any = None
    found: Any = None
    path: str = ""

    def as_json(self) -> dict[str, Any]:
        values = {"seq": self.seq, "path": self.path, "field": self.field, "problem": self.problem}
        values.update(expected=_short(self.expected), found=_short(self.found))
        return {name: value for name, value in values.items() if value not in (None, "")}

    def __str__(self) -> str:
        place = [f"event {self.seq}"] if self.seq is not None else []
        place += [part for part in (_plain(self.path), _plain(self.field)) if part]
        text = f"{', '.join(place)}: {_plain(self.problem)}" if place else _plain(self.problem)
        if self.expected is not None:
            text += f"; expected {_short(self.expected)}"
        if self.found is not None:
            text += f", found {_short(self.found)}" if self.expected is not None else f"; found {_short(self.found)}"
        return text


def _short(value: Any) -> str | None:
    if value is None:
        return None
    return _plain(value if isinstance(value, str) else repr(value))


def _plain(text: str, limit: int = 300) -> str:
    """Text that may come from anyone, made fit for a terminal and a report."""
    text = text if len(text) <= limit else text[:limit] + "..."
    return text if text.isprintable() else ascii(text)[1:-1]


@dataclass
class Verdict:
    """One of the six: failed if there is any failure, else passed if it was checked, else why it was not."""

    name: str
    checked: bool = False
    detail: str = ""
    failures: list[Failure] = field(default_factory=list)
    count: int = 0

    @property
    def word(self) -> str:
        return "failed" if self.count else "passed" if self.checked else "not checked"

    @property
    def ordered(self) -> list[Failure]:
        """The failures that are listed, by event; those of whole files come last."""
        return sorted(self.failures, key=lambda failure: (failure.seq is None, failure.seq or 0))

    def fail(self, problem: str, **where: Any) -> None:
        self.count += 1
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(Failure(problem, **where))

    def fail_as(self, bad: Bad, **where: Any) -> None:
        self.fail(bad.problem, expected=bad.expected, found=bad.found, **{"field": bad.where, **where})

    def as_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {"verdict": self.word, "detail": self.detail}
        if self.count:
            values["failures"] = [failure.as_json() for failure in self.ordered]
            values["failures_left_out"] = self.count - len(self.failures)
        return values


@dataclass
class Report:
    """All that was found."""

    source: str
    verdicts: dict[str, Verdict] = field(default_factory=lambda: {name: Verdict(name) for name in VERDICTS})
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    required: Sequence[str] = ()
    part: str = ""
    """Which events were replayed, if not all."""

    @property
    def failed(self) -> bool:
        return any(verdict.count for verdict in self.verdicts.values())

    @property
    def lacking(self) -> list[str]:
        """What had to be checked, and was not."""
        return [name for name in self.required if self.verdicts[name].word == "not checked"]

    @property
    def conclusion(self) -> str:
        if self.failed:
            return "does not hold"
        inside = ("bytes", "chain", "tree", "accounting")
        open_ = [name for name in inside if not self.verdicts[name].checked]
        open_ += [name for name in self.lacking if name not in open_]
        part = f" ({self.part})" if self.part else ""
        if open_:
            return f"nothing wrong was found, but not checked: {', '.join(open_)}{part}"
        if self.verdicts["outside"].checked:
            return f"internally consistent, and consistent with what was shown from outside{part}"
        return f"internally consistent, not witnessed{part}"

    def note(self, text: str) -> None:
        if text not in self.notes and len(self.notes) < MAX_FAILURES:
            self.notes.append(text)

    def as_json(self) -> dict[str, Any]:
        return {
            "format": "tallystick.verification.v1",
            "source": self.source,
            "ok": not self.failed and not self.lacking,
            "conclusion": self.conclusion,
            **self.facts,
            "verdicts": {name: verdict.as_json() for name, verdict in self.verdicts.items()},
            "notes": [_plain(note) for note in self.notes],
        }

    def as_text(self) -> str:
        lines = [f"{_plain(self.source)}: {self.conclusion}"]
        lines.append("  " + ", ".join(f"{name} {_plain(str(value))}" for name, value in self.facts.items()))
        for verdict in self.verdicts.values():
            tail = f" {_plain(verdict.detail)}" if verdict.detail else ""
            if verdict.count:
                first = verdict.ordered[0].seq
                place = f", the first at event {first}" if first is not None else ""
                tail = f" {verdict.count} failure{'s' * (verdict.count != 1)}{place}.{tail}"
            lines.append(f"  {verdict.name:<12} {verdict.word:<12}{tail}")
        for verdict in self.verdicts.values():
            lines += [f"  {verdict.name} failed: {failure}" for failure in verdict.ordered]
            if verdict.count > len(verdict.failures):
                lines.append(f"  {verdict.name} failed: and {verdict.count - len(verdict.failures)} more")
        lines += [f"  note: {_plain(note)}" for note in self.notes]
        return "\n".join(lines)


# ---------------------------------------------------------------- Ed25519 (RFC 8032, verifying only, strict)

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_ROOT = pow(2, (_P - 1) // 4, _P)
Point = tuple[int, int, int, int]
_ZERO: Point = (0, 1, 1, 0)


def _add(p: Point, q: Point) -> Point:
    a = (p[1] - p[0]) * (q[1] - q[0]) % _P
    b = (p[1] + p[0]) * (q[1] + q[0]) % _P
    c = 2 * p[3] * q[3] * _D % _P
    d = 2 * p[2] * q[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _decode_point(data: bytes) -> Point | None:
    """The point in its one canonical encoding, or None."""
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & (2**255 - 1)
    if y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT % _P
    if (x * x - square) % _P or (not x and sign):
        return None
    x = _P - x if x & 1 != sign else x
    return (x, y, 1, x * y % _P)


def _encode_point(p: Point) -> bytes:
    inverse = pow(p[2], -1, _P)
    x, y = p[0] * inverse % _P, p[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


_BASE = _decode_point((4 * pow(5, -1, _P) % _P).to_bytes(32, "little")) or _ZERO


def check_ed25519(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether this is a signature of the message: canonical encodings only, no key of small order, no cofactor."""
    if len(key) != 32 or len(signature) != 64:
        return False
    scalar = int.from_bytes(signature[32:], "little")
    point = _decode_point(key)
    if scalar >= _ORDER or point is None:
        return False
    eightfold = point
    for _ in range(3):
        eightfold = _add(eightfold, eightfold)
    if eightfold[0] == 0:
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % _ORDER
    minus = (_P - point[0], point[1], 1, _P - point[3])
    choices = (_ZERO, _BASE, minus, _add(_BASE, minus))
    total = _ZERO
    for bit in range(max(scalar.bit_length(), challenge.bit_length()) - 1, -1, -1):
        total = _add(total, total)
        choice = (scalar >> bit & 1) | (challenge >> bit & 1) << 1
        if choice:
            total = _add(total, choices[choice])
    return _encode_point(total) == signature[:32]


# ---------------------------------------------------------------- the Merkle tree (RFC 6962)


def hash_leaf(body: bytes) -> bytes:
    return hashlib.sha256(b"\0" + body).digest()


def hash_children(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def subtree_root(hashes: Sequence[bytes]) -> bytes:
    """The root over a power of two of hashes."""
    while len(hashes) > 1:
        hashes = [hash_children(hashes[i], hashes[i + 1]) for i in range(0, len(hashes), 2)]
    return hashes[0]


class Peaks:
    """The roots of the complete subtrees that a tree of any size is made of, from left to right."""

    def __init__(self, peaks: Iterable[tuple[int, bytes]] = ()) -> None:
        self.peaks = list(peaks)

    def add(self, hash: bytes, size: int = 1) -> None:
        """Add a complete subtree on the right; it may not be larger than the last one."""
        while self.peaks and self.peaks[-1][0] == size:
            hash, size = hash_children(self.peaks.pop()[1], hash), size * 2
        self.peaks.append((size, hash))

    def root(self) -> bytes:
        if not self.peaks:
            return hashlib.sha256(b"").digest()
        root = self.peaks[-1][1]
        for _, hash in reversed(self.peaks[:-1]):
            root = hash_children(hash, root)
        return root

    def root_with(self, leaves: Sequence[bytes]) -> bytes:
        """The root when these leaves come next."""
        more = Peaks(self.peaks)
        for leaf in leaves:
            more.add(leaf)
        return more.root()


def root_from_proof(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """The root that an inclusion proof leads to (RFC 9162, 2.1.3.2). Raises Bad for one of another shape."""
    if not 0 <= index < size:
        raise Bad("the index lies beyond the tree", "index", f"0 to {size - 1}", index)
    node, last, hash = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise Bad("the proof is too long", "proof")
        if node & 1 or node == last:
            hash = hash_children(sibling, hash)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            hash = hash_children(hash, sibling)
        node, last = node >> 1, last >> 1
    if last:
        raise Bad("the proof is too short", "proof")
    return hash


def path_of(prefix: str, number: int, width: int = WIDTH) -> str:
    """The path of a tile or entry bundle: ``tile/0/x001/067.p/5``."""
    digits = f"{number:03d}"
    digits = digits.rjust(-(-len(digits) // 3) * 3, "0")
    groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
    name = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
    return f"{prefix}/{name}" + (f".p/{width}" if width < WIDTH else "")


# ---------------------------------------------------------------- notes, keys, checkpoints, receipts, policies (C2SP)

ED25519, COSIGNATURE, ML_DSA_44 = 1, 4, 6
KEY_BYTES = {ED25519: 32, COSIGNATURE: 32, ML_DSA_44: 1_312}
_NAME = re.compile(r"[^\s+]+\Z")


class Key(NamedTuple):
    """A verifier key: name, type (1 a log's, 4 a witness's Ed25519) and the public key."""

    name: str
    type: int
    key: bytes

    @property
    def id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.type]) + self.key).digest()[:4]


class Checkpoint(NamedTuple):
    """A signed note's text, read as a checkpoint; ``signatures`` are (name, key id, signature)."""

    origin: str
    size: int
    root: bytes
    text: str
    signatures: tuple[tuple[str, bytes, bytes], ...]


class Receipt(NamedTuple):
    """A tlog-proof with the event's bytes in its ``extra`` line."""

    body: bytes
    seq: int
    proof: tuple[bytes, ...]
    checkpoint: Checkpoint


@dataclass
class Policy:
    """A tlog-policy: logs, witnesses and groups by name, and what the quorum is.

    It may name keys of types that are not checked here: what they sign does not count.
    """

    logs: list[Key] = field(default_factory=list)
    witnesses: dict[str, Key] = field(default_factory=dict)
    groups: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    quorum: str = ""

    def holds(self, cosigned: set[Key]) -> bool:
        return self.quorum == "none" or self._met(self.quorum, cosigned)

    def _met(self, name: str, cosigned: set[Key]) -> bool:
        if name in self.witnesses:
            return self.witnesses[name] in cosigned
        least, members = self.groups[name]
        return sum(self._met(member, cosigned) for member in members) >= least


def _base64(text: Any, what: str) -> bytes:
    if not isinstance(text, str):
        raise Bad(f"{what} is not text", found=text)
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise Bad(f"{what} is not base64", found=text) from None
    if base64.b64encode(data).decode() != text:
        raise Bad(f"{what} is not in the one form of base64", found=text)
    return data


def _text_of(data: bytes, what: str) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Bad(f"{what} is not UTF-8") from None
    if any(ord(character) < 32 and character != "\n" for character in text):
        raise Bad(f"{what} holds a control character")
    return text


def _is_text(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def parse_key(text: str) -> Key:
    """A verifier key ``name+id+base64``. Raises Bad."""
    name, _, rest = text.partition("+")
    identity, _, material = rest.partition("+")
    data = _base64(material, "the key")
    if not _NAME.match(name) or not _is_text(name) or len(data) < 2:
        raise Bad("this is not a verifier key", found=text)
    key = Key(name, data[0], data[1:])
    if len(key.key) != KEY_BYTES.get(key.type, len(key.key)):
        raise Bad("the key has not the length of its type", found=text)
    if identity != key.id.hex():
        raise Bad("the key's id is not that of its name and bytes", expected=key.id.hex(), found=identity)
    return key


def parse_checkpoint(data: bytes) -> Checkpoint:
    """A signed note that is a checkpoint; no signature is checked. Raises Bad."""
    note = _text_of(data, "the checkpoint")
    at = note.rfind("\n\n")
    if at < 0 or not note.endswith("\n"):
        raise Bad("this is no signed note")
    text, signatures = note[: at + 1], []
    for line in note[at + 2 : -1].split("\n"):
        words = line.split(" ")
        if len(words) != 3 or words[0] != "\u2014" or not _NAME.match(words[1]):
            raise Bad("a line of the note is no signature", found=line)
        signed = _base64(words[2], "a signature")
        if len(signed) < 5:
            raise Bad("a signature is too short", found=line)
        signatures.append((words[1], signed[:4], signed[4:]))
        if len(signatures) > MAX_SIGNATURES:
            raise Bad(f"the note has more than {MAX_SIGNATURES} signatures")
    lines = text[:-1].split("\n")
    if len(lines) < 3 or not all(lines):
        raise Bad("a checkpoint has an origin, a size and a root")
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", lines[1]):
        raise Bad("the size is not a number without leading zeros", "size", found=lines[1])
    root = _base64(lines[2], "the root")
    if len(root) != 32:
        raise Bad("a root has 32 bytes", "root", 32, len(root))
    return Checkpoint(lines[0], int(lines[1]), root, text, tuple(signatures))


def signers_of(checkpoint: Checkpoint, keys: Iterable[Key]) -> list[Key]:
    """Which of these keys signed or cosigned it. Raises Bad if a signature of one of them does not verify."""
    found = []
    for key in dict.fromkeys(keys):
        for name, identity, signature in checkpoint.signatures:
            if name == key.name and identity == key.id:
                if not _is_signed(checkpoint, key, signature):
                    raise Bad(f"the signature of {key.name} does not verify", "signature")
                found.append(key)
    return list(dict.fromkeys(found))


def _is_signed(checkpoint: Checkpoint, key: Key, signature: bytes) -> bool:
    message = checkpoint.text.encode()
    if key.type == ED25519:
        return check_ed25519(key.key, message, signature)
    if key.type == COSIGNATURE and len(signature) == 72:
        moment = int.from_bytes(signature[:8], "big")
        head = f"cosignature/v1\ntime {moment}\n".encode()
        return moment < 2**63 and check_ed25519(key.key, head + message, signature[8:])
    return False


def parse_receipt(data: bytes) -> Receipt:
    """A tlog-proof. Raises Bad."""
    head, found, note = data.partition(b"\n\n")
    lines = _text_of(head, "the receipt").split("\n")
    if not found or lines[0] != "c2sp.org/tlog-proof@v1":
        raise Bad("this is no tlog-proof")
    body = b""
    if len(lines) > 1 and lines[1].startswith("extra "):
        body = _base64(lines.pop(1)[6:], "the extra line")
    if not body:
        raise Bad("the receipt does not hold the event's bytes", "extra")
    index = re.fullmatch(r"index (0|[1-9][0-9]{0,18})", lines[1] if len(lines) > 1 else "")
    if index is None:
        raise Bad("the receipt names no index", "index")
    proof = tuple(_base64(line, "a hash of the proof") for line in lines[2:])
    if len(proof) > 63 or any(len(hash) != 32 for hash in proof):
        raise Bad("a proof has at most 63 hashes of 32 bytes", "proof")
    return Receipt(body, int(index[1]), proof, parse_checkpoint(note))


def parse_policy(data: bytes) -> Policy:
    """A tlog-policy. Raises Bad."""
    policy = Policy()
    if len(data) > MAX_POLICY:
        raise Bad(f"the policy has more than {MAX_POLICY} bytes")
    if any(byte < 32 and byte not in (9, 10) for byte in data) or 127 in data:
        raise Bad("the policy holds a control character")
    if not data.endswith(b"\n"):
        raise Bad("the policy breaks off: its last line has no newline")
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
        words = [word for word in re.split("[ \t]+", line) if word]
        if words and not words[0].startswith("#"):
            try:
                _read_policy_line(policy, words)
            except Bad as bad:
                raise Bad(f"line {number} of the policy: {bad}", found=line) from None
    if not policy.quorum:
        raise Bad("the policy has no quorum line")
    return policy


def _read_policy_line(policy: Policy, words: list[str]) -> None:
    keyword, *rest = words
    if keyword == "log" and len(rest) in (1, 2):
        key = parse_key(rest[0])
        _require(key.key not in [log.key for log in policy.logs], "the key is that of a log before it")
        policy.logs.append(key)
    elif keyword == "quorum" and len(rest) == 1:
        _require(not policy.quorum, "there is a quorum line already")
        _require(rest[0] in {"none", *policy.witnesses, *policy.groups}, "the quorum is not defined before it")
        policy.quorum = rest[0]
    elif keyword == "witness" and len(rest) in (2, 3):
        key = parse_key(rest[1])
        _require(key.type in (COSIGNATURE, ML_DSA_44), f"a key of type {key.type} makes no cosignatures")
        others = [witness.key for witness in policy.witnesses.values()]
        _require(key.key not in others, "the key is that of a witness before it")
        _check_free(policy, rest[0])
        policy.witnesses[rest[0]] = key
    elif keyword == "group" and len(rest) >= 3:
        _read_group(policy, rest[0], rest[1], rest[2:])
    else:
        raise Bad("this line says nothing that a policy says")
    most = max(len(policy.logs), len(policy.witnesses), len(policy.groups))
    _require(most <= MAX_DEFINITIONS, f"there are more than {MAX_DEFINITIONS} {keyword} lines")


def _check_free(policy: Policy, name: str) -> None:
    _require(name not in {"none", *policy.witnesses, *policy.groups}, "this name is taken, or not a name")


def _read_group(policy: Policy, name: str, rule: str, members: list[str]) -> None:
    _check_free(policy, name)
    least = {"any": 1, "all": len(members)}.get(rule) or _whole(rule)
    taken = [member for _, others in policy.groups.values() for member in others]
    once = len({*members, *taken}) == len(members) + len(taken)
    _require(once and least <= len(members), "each member is in one group, and the threshold is 1 to their number")
    _require(set(members) <= {*policy.witnesses, *policy.groups}, "a member is not defined before it")
    policy.groups[name] = (least, members)


def _whole(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text):
        raise Bad("this is not a number")
    return int(text)


# ---------------------------------------------------------------- where a bundle is read from


class Unreadable(Exception):
    """Something is there, but cannot be read."""


class Source(Protocol):
    """A place with files: a folder or a web server."""

    def read(self, path: str, limit: int) -> bytes | None:
        """The bytes at this path, None if nothing is there. Raises Unreadable."""

    def digest(self, path: str) -> bytes | None:
        """The SHA-256 of what is at this path, however large."""

    def files(self) -> list[str] | None:
        """Every path, links too, or None if the place cannot say."""

    def links(self) -> list[str]:
        """The paths of links."""


def _is_inside(path: str) -> bool:
    return bool(path) and "\0" not in path and "\\" not in path and not set(path.split("/")) & {"", ".", ".."}


class Folder:
    """A bundle in a directory. Links and anything but plain files are not followed."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._checked: set[str] = {""}

    def _open(self, path: str) -> int | None:
        if not _is_inside(path):
            raise Unreadable("the path leads out of the bundle")
        try:
            parts = path.split("/")
            for depth in range(1, len(parts)):
                above = "/".join(parts[:depth])
                if above not in self._checked:
                    if stat.S_ISLNK(os.lstat(os.path.join(self.root, above)).st_mode):
                        raise Unreadable("it lies behind a link")
                    self._checked.add(above)
            full = os.path.join(self.root, path)
            if not stat.S_ISREG(os.lstat(full).st_mode):
                raise Unreadable("it is not a plain file")
            return os.open(full, os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise Unreadable(str(error)) from None

    def read(self, path: str, limit: int) -> bytes | None:
        handle = self._open(path)
        if handle is None:
            return None
        with open(handle, "rb", buffering=0) as file:
            size = os.fstat(handle).st_size
            if size > limit:
                raise Unreadable(f"it is larger than {limit} bytes")
            return file.readall()[: limit + 1]

    def digest(self, path: str) -> bytes | None:
        handle = self._open(path)
        if handle is None:
            return None
        with open(handle, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    def files(self) -> list[str] | None:
        found = []
        for folder, folders, names in os.walk(self.root):
            inside = os.path.relpath(folder, self.root).replace(os.sep, "/")
            names += [name for name in folders if os.path.islink(os.path.join(folder, name))]
            found += [name if inside == "." else f"{inside}/{name}" for name in names]
        return sorted(found)

    def links(self) -> list[str]:
        return [path for path in self.files() or () if os.path.islink(os.path.join(self.root, path))]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could carry the token elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Site:
    """A bundle or a published log at a URL, with limits on size and time; ``user:password@`` in it is sent as such."""

    def __init__(self, url: str, token: str = "") -> None:
        parts = urllib.parse.urlsplit(url)
        user, at, host = parts.netloc.rpartition("@")
        self.url = urllib.parse.urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self._headers = {"Accept-Encoding": "gzip, identity", "User-Agent": "tallystick-verify"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        elif at:
            self._headers["Authorization"] = f"Basic {base64.b64encode(urllib.parse.unquote_to_bytes(user)).decode()}"
        self._opener = urllib.request.build_opener(_NoRedirect)

    def read(self, path: str, limit: int) -> bytes | None:
        body = bytearray()
        return bytes(body) if self._take(path, min(limit, MAX_RESPONSE), body.extend) else None

    def digest(self, path: str) -> bytes | None:
        digest = hashlib.sha256()
        return digest.digest() if self._take(path, MAX_DOWNLOAD, digest.update) else None

    def _take(self, path: str, limit: int, take: Callable[[bytes], object]) -> bool:
        """Hand over the body piece by piece; False if nothing is there. Raises Unreadable."""
        if not _is_inside(path):
            raise Unreadable("the path leads out of the bundle")
        request = urllib.request.Request(f"{self.url}/{urllib.parse.quote(path)}", headers=self._headers)
        try:
            with self._opener.open(request, timeout=REQUEST_SECONDS) as response:
                for piece in _pieces(response, limit):
                    take(piece)
                return True
        except urllib.error.HTTPError as error:
            if error.code in (404, 410):
                return False
            raise Unreadable(f"the server answers {error.code}") from None
        except Unreadable:
            raise
        except Exception as error:  # http.client and ssl have errors of their own
            raise Unreadable(f"the server does not answer: {error}") from None

    def files(self) -> list[str] | None:
        return None

    def links(self) -> list[str]:
        return []


def _pieces(response: Any, limit: int) -> Iterator[bytes]:
    """The body of an answer, inflated, at most ``limit`` bytes of it. Raises Unreadable."""
    ends, size = time.monotonic() + RESPONSE_SECONDS, 0
    inflate = zlib.decompressobj(31) if response.headers.get("Content-Encoding", "") == "gzip" else None
    while rest := response.read1(65_536):
        while rest:
            piece = inflate.decompress(rest, 1_000_000) if inflate else rest
            rest = inflate.unconsumed_tail if inflate else b""
            size += len(piece)
            if size > limit:
                raise Unreadable(f"it is larger than {limit} bytes")
            if time.monotonic() > ends:
                raise Unreadable(f"it takes longer than {RESPONSE_SECONDS:.0f} seconds")
            yield piece
    if inflate and not inflate.eof:
        raise Unreadable("its compression breaks off")


# ---------------------------------------------------------------- the bytes of an event


def _no_float(text: str) -> Any:
    raise ValueError(f"{text[:40]} is not a whole number")


_DECODER = json.JSONDecoder(parse_float=_no_float, parse_constant=_no_float)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_AMOUNT = re.compile(r"0|-?[1-9][0-9]{0,18}")
_HASH = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(
    r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z"
)
_LEDGER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")
_ASSET = re.compile(r"[A-Z][A-Z0-9_]{0,31}(?:/(?:[0-9]|1[0-8]))?")
_WORD = r"[A-Za-z0-9_.\-]+"
_ADDRESS = re.compile(
    rf"@(?:issuance|fees|treasury|(?:clearing|external):[A-Za-z0-9_.:\-]+)"
    r"|did:[a-z0-9]+:(?:[A-Za-z0-9._:\-]|%[0-9A-Fa-f]{2})*(?:[A-Za-z0-9._\-]|%[0-9A-Fa-f]{2})"
    rf"|(?!did:){_WORD}(?::{_WORD})*"
)
_FIELDS: dict[str, type] = {
    "actor": str,
    "data": dict,
    "effective": str,
    "entries": list,
    "idem": str,
    "ledger": str,
    "prev": str,
    "refs": dict,
    "salt": str,
    "seq": int,
    "source": str,
    "time": str,
    "type": str,
    "v": int,
}
_REQUIRED = ("idem", "ledger", "prev", "seq", "source", "time", "type", "v")
_ENTRY = {
    "account": str,
    "after": str,
    "amount": str,
    "asset": str,
    "before": str,
    "bucket": str,
    "version": int,
}
_WORDS = ("account", "asset", "bucket", "amount", "before", "after")
_SMALL = r"(?:0|-?[1-9][0-9]{0,17})"
_USUAL = re.compile(
    rf"(?:{_ADDRESS.pattern}) {_ASSET.pattern} (?:{'|'.join(BUCKETS.values())}) {_SMALL} {_SMALL} {_SMALL}"
)

_T = r"([ !#-\[\]-~]{1,255})"  # ASCII text that is written without escapes
_N = r"(0|[1-9][0-9]{0,18})"
_BALANCE = (
    rf'"account":"([A-Za-z0-9_.:%-]{{1,255}})","after":"{_N}","amount":"SIGN([1-9][0-9]{{0,18}})","asset":"([A-Z0-9_/]+)",'
    rf'"before":"{_N}","bucket":"available","version":([1-9][0-9]{{0,15}})'
)
_DEBIT, _CREDIT = _BALANCE.replace("SIGN", "-"), _BALANCE.replace("SIGN", "")
_PLAIN_TRANSFER = re.compile(
    rf'{{(?:"actor":"{_T}",)?(?:"data":({{.*?}}),)?"entries":\[{{{_DEBIT}}},{{{_CREDIT}}}\],"idem":"{_T}",'
    rf'"ledger":"([^"]+)","prev":"([0-9a-f]{{64}})",(?:"refs":({{[^{{}}]*}}),)?"seq":(0|[1-9][0-9]{{0,15}}),'
    rf'"source":"{_T}","time":"({_TIME.pattern})","type":"transfer","v":1}}'
)
"""The canonical bytes of most of a busy journal: a transfer between two holders. What matches is canonical if ``data``
and ``refs`` are, and every field that a rule needs is a group; what does not match is read the general way."""


def _is_canonical(text: str, names: Sequence[str] = ()) -> bool:
    """Whether this is an object in canonical form, on level 2 and not empty; with ``names``: of references."""
    try:
        found = _DECODER.decode(text)
        _check_values(found, 2)
        same = bool(found) and type(found) is dict and _ENCODER.encode(found) == text
    except (ValueError, RecursionError):
        return False
    return same and (not names or all(_is_reference(name, value) for name, value in found.items()))


def _is_reference(name: str, value: Any) -> bool:
    return name in REFERENCES and type(value) is str and 0 < len(value) <= MAX_NAME


def parse_event(body: bytes) -> tuple[dict[str, Any], list[Failure]]:
    """As parse_strict, for an event: only ``data`` is searched; for all other fields check_fields knows the types."""
    return parse_strict(body, "data")


def parse_strict(body: bytes, searched: str = "") -> tuple[dict[str, Any], list[Failure]]:
    """The object in these bytes, and what keeps them from being its canonical form. Raises Bad if there is none."""
    try:
        found = _DECODER.decode(body.decode())
        if not isinstance(found, dict):
            raise Bad("it is not a JSON object")
        if searched:
            _check_values(found.get(searched, {}), 2)
        else:
            _check_values(found, 1)
        again = _ENCODER.encode(found).encode()
    except UnicodeDecodeError:
        raise Bad("it is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise Bad(f"it is not JSON of the profile: {error}") from None
    failures = []
    if again != body:
        at = next((i for i, (a, b) in enumerate(zip(again, body, strict=False)) if a != b), min(len(again), len(body)))
        expected, seen = again[at : at + 20].decode(errors="replace"), body[at : at + 20].decode(errors="replace")
        failures.append(Failure(f"not canonical from byte {at} on", expected=expected, found=seen))
    return found, failures


def _check_values(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        for key, item in value.items():
            if not key.isascii():
                raise ValueError("a key is not ASCII")
            _check_values(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_values(item, depth + 1)
    elif value is None:
        raise ValueError("there is a null")
    elif type(value) is int and abs(value) > MAX_INTEGER:
        raise ValueError("a number is beyond 2^53-1")


def check_fields(event: Event) -> list[Failure]:
    """What is wrong with the fields of an event, each for itself; an empty list lets the rules rely on their types."""
    failures = [Failure("it is missing", field=name) for name in _REQUIRED if name not in event]
    for name, value in event.items():
        kind = _FIELDS.get(name)
        if kind is None:
            failures.append(Failure("the profile has no such field", field=name))
        elif type(value) is not kind:
            failures.append(Failure("it has the wrong type", field=name, expected=kind.__name__, found=value))
        elif value in ("", {}, []):
            failures.append(Failure("an empty field is left out", field=name))
    if failures:
        return failures
    if event["v"] != PROFILE:
        failures.append(Failure("another profile", field="v", expected=PROFILE, found=event["v"]))
    if not 0 <= event["seq"] <= MAX_INTEGER:
        failures.append(Failure("it is not 0 to 2^53-1", field="seq", found=event["seq"]))
    for name in ("time", "effective"):
        if name in event and not is_time(event[name]):
            failures.append(Failure("it is no time", field=name, found=event[name]))
    for name, pattern in (("prev", _HASH), ("ledger", _LEDGER)):
        if not pattern.fullmatch(event[name]):
            failures.append(Failure("it is not well formed", field=name, found=event[name]))
    for name in ("actor", "idem", "source"):
        if len(event.get(name, "")) > MAX_NAME:
            failures.append(Failure(f"it is longer than {MAX_NAME} characters", field=name))
    for name, value in event.get("refs", {}).items():
        if not _is_reference(name, value):
            failures.append(Failure("it is no reference of the profile", field=f"refs.{name}", found=value))
    for number, entry in enumerate(event.get("entries", ())):
        if not _is_usual(entry):
            failures += [
                Failure(problem, field=f"entries[{number}].{name}", found=found) for name, problem, found in _bad(entry)
            ]
    return failures


def _is_usual(entry: Any) -> bool:
    """Whether an entry is well formed, told at a glance; if not, or if it is of an unusual kind, _bad says what is."""
    try:
        version, words = entry["version"], " ".join([entry[name] for name in _WORDS])
        return len(entry) == 7 and type(version) is int and 0 < version <= MAX_INTEGER and _is_plain(words)
    except (KeyError, TypeError):
        return False


def _is_plain(words: str) -> bool:
    return len(words) <= MAX_NAME and _USUAL.fullmatch(words) is not None


def _bad(entry: Any) -> Iterator[tuple[str, str, Any]]:
    """Fields of an entry that are not well formed."""
    if not isinstance(entry, dict) or entry.keys() != _ENTRY.keys():
        yield "", "an entry has just the seven fields of the profile", entry
        return
    wrong = [name for name, kind in _ENTRY.items() if type(entry[name]) is not kind]
    yield from ((name, "it has the wrong type", entry[name]) for name in wrong)
    if wrong:
        return
    for name in ("amount", "before", "after"):
        if not is_amount(entry[name]):
            yield name, "it is no amount", entry[name]
    if not is_address(entry["account"]):
        yield "account", "it is no address", entry["account"]
    if not _ASSET.fullmatch(entry["asset"]):
        yield "asset", "it is no asset", entry["asset"]
    if entry["bucket"] not in BUCKETS.values():
        yield "bucket", "there is no such bucket", entry["bucket"]
    if not 0 < entry["version"] <= MAX_INTEGER:
        yield "version", "versions count from 1 to 2^53-1", entry["version"]


def is_amount(text: Any) -> bool:
    return isinstance(text, str) and _AMOUNT.fullmatch(text) is not None and abs(int(text)) <= MAX_AMOUNT


def is_address(text: Any) -> bool:
    return isinstance(text, str) and len(text) <= MAX_NAME and _ADDRESS.fullmatch(text) is not None


def is_time(text: Any) -> bool:
    return isinstance(text, str) and _TIME.fullmatch(text) is not None and is_day(text[:10])


def is_day(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def role_of(address: str) -> str:
    if not address.startswith("@"):
        return "holder"
    return address[1:].partition(":")[0]


# ---------------------------------------------------------------- accounting: the state that events make


class Entry(NamedTuple):
    """One change of one balance, as numbers."""

    account: str
    asset: str
    bucket: str
    amount: int
    before: int
    after: int
    version: int

    @property
    def place(self) -> Place:
        return self.account, self.asset, self.bucket


Check = Callable[[Kind | None, Event, list[Entry]], None]
"""A rule that every event must keep, as a method of the book. Raises Bad."""


@dataclass
class Lock:
    """Value set aside: a hold, stake, bet or commitment. ``reference``: a bet's round, None if it is not known."""

    kind: str
    account: str
    asset: str
    bucket: str
    left: int
    expires: str = ""
    reference: str | None = None


@dataclass
class Account:
    """What was declared of an account."""

    status: str = "active"
    limits: dict[str, int] = field(default_factory=dict)
    ceilings: dict[str, int] = field(default_factory=dict)
    floorless: bool = False

    @property
    def is_plain(self) -> bool:
        return self.status == "active" and not self.limits and not self.ceilings and not self.floorless


@dataclass
class Rules:
    """The ledger's policy, as far as a rule of the books depends on it."""

    strict: bool = False
    limit_min: int = 500
    limit_max: int = 5_000
    limit_default: int = 2_000
    commitment_mode: str = "ESCROWED"
    floor_threshold_bps: int = 8_000
    hold_expires_in_seconds: int = 604_800


LOCK_KINDS = {"hold": ("hold", "held"), "stake_lock": ("stake", "bonded"), "bet_stake": ("bet", "held")}


class Past(Protocol):
    """The events before the one at hand, which the book asks for again when something refers to them."""

    def event_at(self, seq: int) -> dict[str, Any]:
        """One event. Raises Bad if it cannot be had."""

    def events_since(self, moment: str, before: int, account: str) -> Iterator[dict[str, Any]] | None:
        """Those recorded after a moment, up to number ``before``, that name an account; None if that is not known."""


def text_in(data: dict[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value:
        raise Bad("it must be given, as text", f"data.{name}", found=value)
    return value


def amount_in(data: dict[str, Any], name: str, least: int = 0) -> int:
    value = data.get(name)
    if not is_amount(value) or int(value) < least:  # type: ignore[arg-type]
        raise Bad(f"it must be an amount from {least}", f"data.{name}", found=value)
    return int(value)  # type: ignore[arg-type]


def entries_of(event: Event) -> list[Entry]:
    """The entries of an event whose fields were checked."""
    return [
        Entry(
            e["account"],
            e["asset"],
            e["bucket"],
            int(e["amount"]),
            int(e["before"]),
            int(e["after"]),
            e["version"],
        )
        for e in event.get("entries", ())
    ]


def _require(truth: bool, problem: str, where: str = "", expected: Any = None, found: Any = None) -> None:
    if not truth:
        raise Bad(problem, where, expected, found)


class Book:
    """The state of a ledger, brought past one event after the other; every broken rule is a failure.

    After a failure the state is what the events say, so that one wrong entry is not reported with each later one again.
    ``partial``: it began at a window whose opening does not tell of accounts and policy; what depends on them is left
    open then, and counted in ``open``.
    """

    def __init__(self, verdict: Verdict, past: Past) -> None:
        self.verdict = verdict
        self.past = past
        self.name = ""
        self.first = 0
        self.partial = False
        self.pockets: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
        self.accounts: dict[str, Account] = {}
        self.restricted: set[str] = set()
        self.locks: dict[str, Lock] = {}
        self.rules = Rules()
        self.assets: dict[str, str] = {}
        self.types: dict[str, Kind] = {}
        self.closed_until = ""
        self.reversed: dict[int, dict[Place, int]] = {}
        self.final: set[int] = set()
        self.keys: set[bytes] = set()
        self.entries = 0
        self.open: dict[str, int] = {}
        self.handlers: dict[str, Callable[[dict[str, Any], list[Entry]], None]] = {
            name.removeprefix("_on_"): getattr(self, name) for name in dir(self) if name.startswith("_on_")
        }
        self.handlers.update(dict.fromkeys(LOCK_KINDS, self._open_lock))
        self.checks: tuple[Check, ...] = (
            self._check_key,
            self._check_kind,
            self._check_effective,
            self._check_sums,
            self._check_assets,
            self._check_statuses,
            self._check_floors,
            self._check_ceilings,
        )

    # ------------------------------------------------------------ one event

    def apply(self, seq: int, event: Event) -> None:
        """Check the event against every rule, and bring the state past it."""
        entries = entries_of(event)
        self.entries += len(entries)
        kind = self._kind(seq, event)
        for check in self.checks:
            self._try(check, seq, kind, event, entries)
        self._move(seq, entries)
        handler = self.handlers.get(event["type"])
        if handler is not None:
            self._try(handler, seq, event, entries)

    def _try(self, check: Callable[..., None], seq: int, *arguments: Any) -> None:
        try:
            check(*arguments)
        except Bad as bad:
            self.verdict.fail_as(bad, seq=seq)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
            self.verdict.fail(f"the event cannot be applied: {type(error).__name__} {error}", seq=seq, field="data")

    def _leave_open(self, what: str) -> None:
        self.open[what] = self.open.get(what, 0) + 1

    def _move(self, seq: int, entries: list[Entry]) -> None:
        """Versions without gaps, before as the balance stood, after = before + amount; now it stands at ``after``."""
        for number, entry in enumerate(entries):
            pocket = self.pockets.setdefault((entry.asset, entry.bucket), {})
            amount, version = pocket.get(entry.account, (0, 0))
            where = f"entries[{number}]"
            if entry.before != amount:
                self._differs(seq, f"{where}.before", "it is not what the balance was", amount, entry.before)
            if entry.after != entry.before + entry.amount:
                expected = entry.before + entry.amount
                self._differs(seq, f"{where}.after", "before and amount do not come to it", expected, entry.after)
            if entry.version != version + 1:
                self._differs(seq, f"{where}.version", "versions have no gaps", version + 1, entry.version)
            pocket[entry.account] = (entry.after, entry.version)
            self.assets.setdefault(entry.asset.partition("/")[0], entry.asset)

    def _differs(self, seq: int, where: str, problem: str, expected: Any, found: Any) -> None:
        self.verdict.fail(problem, seq=seq, field=where, expected=str(expected), found=str(found))

    # ------------------------------------------------------------ rules of every event

    def _kind(self, seq: int, event: Event) -> Kind | None:
        kind = KINDS.get(event["type"]) or self.types.get(event["type"])
        if kind is None and self.partial:
            self._leave_open("types that may have been defined before the window")
        elif kind is None:
            self.verdict.fail("there is no such type in this ledger", seq=seq, field="type", found=event["type"])
        return kind

    def _check_key(self, kind: Kind | None, event: Event, entries: list[Entry]) -> None:
        digest = key_digest(key_prefix(event["source"]), event["idem"])
        if digest in self.keys:
            raise Bad("the key was used before by this source", "idem", found=event["idem"])
        self.keys.add(digest)

    def _check_kind(self, kind: Kind | None, event: Event, entries: list[Entry]) -> None:
        if kind is None:
            return
        refs, data = event.get("refs", {}), event.get("data", {})
        for group in kind.requires:
            if not any(refs.get(name) for name in group):
                raise Bad("a reference that the type needs is missing", "refs", expected=" or ".join(group))
        for need in kind.needs:
            if not (event.get("actor") if need == "actor" else data.get(need)):
                raise Bad("the type needs it", need if need == "actor" else f"data.{need}")
        if "corrects" in refs and any("corrects" in group for group in kind.requires):
            self._seq_of(refs["corrects"], event["seq"], "refs.corrects")
        if not kind.debits:
            _require(not entries, "this type moves no value", "entries", 0, len(entries))
        elif kind.name not in MAY_BE_EMPTY:
            _require(bool(entries), "this type moves value", "entries", found=0)
        for number, entry in enumerate(entries):
            side = kind.debits if entry.amount < 0 else kind.credits
            if entry.amount == 0 or (role_of(entry.account), entry.bucket) not in side:
                way = "leave" if entry.amount < 0 else "enter"
                problem = f"a {kind.name} lets no value {way} here" if entry.amount else "an entry of nothing"
                raise Bad(problem, f"entries[{number}]", found=f"{entry.account} {entry.bucket} {entry.amount}")

    def _check_effective(self, kind: Kind | None, event: Event, entries: list[Entry]) -> None:
        effective = event.get("effective")
        if effective is None:
            return
        _require(kind is None or kind.posted, "only a posting may be back-dated", "effective", found=effective)
        _require(effective < event["time"], "it is not before its time", "effective", found=effective)
        if effective < self.closed_until:
            raise Bad("the books are closed up to a later time", "effective", f">= {self.closed_until}", effective)
        for entry in entries:
            if entry.amount < 0:
                self._check_back_dated(event, entry)

    def _check_back_dated(self, event: Event, entry: Entry) -> None:
        """A back-dated payment may at no time since then have taken the balance below its floor, as is now known."""
        floor = self._floor(entry.place)
        if floor is None:
            return
        lowest = self._lowest_since(event, entry)
        if lowest is None or (lowest + entry.amount < 0 and self.partial and entry.account not in self.accounts):
            self._leave_open("back-dated payments whose floor at that time was not replayed")
        elif lowest + entry.amount < floor:
            problem = f"{entry.account} would have been overdrawn then"
            raise Bad(problem, "effective", f">= {floor}", str(lowest + entry.amount))

    def _floor(self, place: Place) -> int | None:
        account, asset, bucket = place
        declared = self.accounts.get(account, Account())
        if bucket != "available":
            return 0
        free = role_of(account) in ("issuance", "external") or declared.floorless
        return None if free else -declared.limits.get(asset, 0)

    def _lowest_since(self, event: Event, entry: Entry) -> int | None:
        """The lowest that a balance stood at since the effective time; what happens at one instant counts together."""
        effective = event["effective"]
        events = self.past.events_since(effective, event["seq"], entry.account)
        if events is None:
            return None
        changes: dict[str, int] = {}
        stood = entry.before
        for earlier in events:
            moment = earlier.get("effective", earlier["time"])
            for other in entries_of(earlier) if moment > effective else ():
                if other.place == entry.place:
                    changes[moment] = changes.get(moment, 0) + other.amount
                    stood -= other.amount
        lowest = stood
        for moment in sorted(changes):
            stood += changes[moment]
            lowest = min(lowest, stood)
        return lowest

    def _check_sums(self, kind: Kind | None, event: Event, entries: list[Entry]) -> None:
        if len(entries) == 2 and _is_pair(*entries):
            return
        totals: dict[str, int] = {}
        places: set[Place] = set()
        for number, entry in enumerate(entries):
            totals[entry.asset] = totals.get(entry.asset, 0) + entry.amount
            _require(entry.place not in places, "a balance has two entries in one event", f"entries[{number}]")
            places.add(entry.place)
        for asset, total in totals.items():
            _require(not total, f"the entries in {asset} do not add up", "entries", "0", str(total))

    def _check_assets(self, kind: Kind | None, event: Event, entries: list[Entry]) -> None:
        strict = self.rules.strict and not self.partial and event["type"] != "reversal"
        accepted = {entry.account for entry in entries if entry.amount < 0 and entry.bucket in ("held", "bonded")}
        met: dict[str, str] = {}
        for number, entry in enumerate(entries):
            code = entry.asset.partition("/")[0]
            known = self.assets.get(code) or met.setdefault(code, entry.asset)
            _require(known == entry.asset, "one asset has one scale", f"entries[{number}].asset", known, entry.asset)
            if strict and code not in self.assets:
                raise Bad("a strict ledger declares an asset first", f"entries[{number}].asset", found=entry.asset)
            unknown = entry.account not in self.accounts and entry.account not in accepted
            if strict and role_of(entry.account) == "holder" and unknown:
                raise Bad(
                    "a strict ledger declares an account first", f"entries[{number}].account", found=entry.account
                )

    def _check_statuses(self, kind: Kind | None, event: Event, entries: list[Entry]) -> None:
        """Frozen: nothing may leave; within the account value may move back. Excluded and closed: nothing at all."""
        if all(entry.account not in self.restricted for entry in entries):
            return
        ending = event.get("data", {}).get("account") if event["type"] in MAY_BE_EMPTY else None
        for number, entry in enumerate(entries):
            status = self.accounts[entry.account].status if entry.account in self.accounts else "active"
            if status == "active" or (status == "frozen" and entry.account == ending):
                continue
            _require(status == "frozen", f"the account is {status}", f"entries[{number}]", found=entry.account)
            own = sum(e.amount for e in entries if (e.account, e.asset) == (entry.account, entry.asset))
            if own < 0 or (entry.amount < 0 and entry.bucket == "available"):
                raise Bad("the account is frozen", f"entries[{number}]", found=entry.account)

    def _check_floors(self, kind: Kind | None, event: Event, entries: list[Entry]) -> None:
        members: dict[tuple[str, str], None] = {}
        for number, entry in enumerate(entries):
            account = self.accounts.get(entry.account)
            if account is not None and entry.asset in account.limits:
                members[entry.account, entry.asset] = None
            if entry.amount >= 0 or entry.after >= 0:
                continue
            role, available = role_of(entry.account), entry.bucket == "available"
            if available and (role in ("issuance", "external") or (account and account.floorless)):
                continue
            if available and (entry.account, entry.asset) in members:
                continue  # judged below, over available and held
            if available and self.partial and role in ("holder", "clearing"):
                self._leave_open("balances below zero, of accounts whose limits were set before the window")
                continue
            raise Bad("the balance is overdrawn", f"entries[{number}].after", ">= 0", str(entry.after))
        for account_name, asset in members:
            self._check_member(account_name, asset, event, entries)

    def _check_member(self, account: str, asset: str, event: Event, entries: list[Entry]) -> None:
        """A member's balance is available + held. ESCROWED: available stays above -limit; else only the whole does."""
        limit = self.accounts[account].limits[asset]
        change = {e.bucket: e.amount for e in entries if (e.account, e.asset) == (account, asset)}
        moved = change.get("available", 0), change.get("held", 0)
        available = self._balance(account, asset, "available") + moved[0]
        total = available + self._balance(account, asset, "held") + moved[1]
        if total < -limit and sum(moved) < 0:
            raise Bad(f"the member {account} is beyond its limit", "entries", f">= {-limit}", str(total))
        soft = event["type"] == "commitment_create" and self.rules.commitment_mode == "SOFT"
        covered = self.rules.commitment_mode == "ESCROWED" or (moved[1] > 0 and not soft)
        if covered and available < -limit and moved[0] < 0 and not self.partial:
            raise Bad(f"what {account} has available is beyond its limit", "entries", f">= {-limit}", str(available))

    def _balance(self, account: str, asset: str, bucket: str) -> int:
        return self.pockets.get((asset, bucket), {}).get(account, (0, 0))[0]

    def _check_ceilings(self, kind: Kind | None, event: Event, entries: list[Entry]) -> None:
        if all(entry.account not in self.restricted for entry in entries):
            return
        for number, entry in enumerate(entries):
            account = self.accounts.get(entry.account)
            ceiling = account.ceilings.get(entry.asset) if account else None
            if ceiling is None or entry.bucket != "available" or entry.amount < 0 or entry.after <= ceiling:
                continue
            if sum(e.amount for e in entries if (e.account, e.asset) == (entry.account, entry.asset)) > 0:
                raise Bad(
                    "the account's ceiling is exceeded", f"entries[{number}].after", f"<= {ceiling}", str(entry.after)
                )

    # ------------------------------------------------------------ locks

    def _changes(self, entries: list[Entry]) -> dict[Place, int]:
        return {entry.place: entry.amount for entry in entries}

    def _only(self, entries: list[Entry], expected: dict[Place, int]) -> None:
        """The entries are just these changes."""
        expected = {place: amount for place, amount in expected.items() if amount}
        found = self._changes(entries)
        if found != expected:
            raise Bad(
                "the entries are not what this event means", "entries", _changes_text(expected), _changes_text(found)
            )

    def _open_lock(self, event: Event, entries: list[Entry]) -> None:
        kind, bucket = LOCK_KINDS[event["type"]]
        entry = next((entry for entry in entries if entry.amount > 0), None)
        _require(entry is not None, "nothing is set aside", "entries")
        assert entry is not None
        expires = text_in(event.get("data", {}), "expires") if kind == "hold" else ""
        lock = Lock(kind, entry.account, entry.asset, bucket, entry.amount, expires, event.get("refs", {}).get("round"))
        self.locks[f"{self.name}/{event['seq']}"] = lock
        _require(not expires or (is_time(expires) and expires > event["time"]), "it is not later", "data.expires")
        self._only(entries, self._within(lock, -entry.amount))

    def _within(self, lock: Lock, amount: int) -> dict[Place, int]:
        """What frees an amount: out of the lock's bucket, into what is available (negative: the other way)."""
        return {(lock.account, lock.asset, lock.bucket): -amount, (lock.account, lock.asset, "available"): amount}

    def _lock(self, event: Event, kind: str, *, alive: bool = False) -> tuple[str, Lock]:
        id = text_in(event.get("data", {}), kind)
        lock = self.locks.get(id)
        if lock is None or lock.kind != kind:
            raise Bad(f"there is no open {kind} of this id", f"data.{kind}", found=id)
        if alive and lock.expires and lock.expires <= event["time"]:
            raise Bad(f"the {kind} had expired", "time", f"< {lock.expires}", event["time"])
        return id, lock

    def _take(self, id: str, lock: Lock, amount: int, where: str = "entries") -> None:
        """What leaves a lock is never more than it keeps."""
        left, lock.left = lock.left, lock.left - amount
        if lock.left <= 0:
            del self.locks[id]
        _require(
            0 < amount <= left, f"more leaves the {lock.kind} {id} than it keeps", where, f"<= {left}", str(amount)
        )

    def _out_of(self, lock: Lock, entries: list[Entry]) -> int:
        return -self._changes(entries).get((lock.account, lock.asset, lock.bucket), 0)

    def _on_hold_top_up(self, event: Event, entries: list[Entry]) -> None:
        _, lock = self._lock(event, "hold", alive=True)
        amount = -self._out_of(lock, entries)
        lock.left += max(amount, 0)
        _require(amount > 0, "nothing is added to the hold", "entries")
        self._only(entries, self._within(lock, -amount))

    def _on_hold_extend(self, event: Event, entries: list[Entry]) -> None:
        _, lock = self._lock(event, "hold", alive=True)
        expires = text_in(event["data"], "expires")
        lock.expires = expires
        _require(is_time(expires) and expires > event["time"], "it is not later", "data.expires", found=expires)

    def _on_capture(self, event: Event, entries: list[Entry]) -> None:
        id, lock = self._lock(event, "hold", alive=True)
        taken = amount_in(event["data"], "taken", 1)
        freed = amount_in(event["data"], "released", 1) if "released" in event["data"] else 0
        kept = lock.left
        self._take(id, lock, self._out_of(lock, entries))
        _require(self._out_of(lock, entries) == taken + freed, "taken and released are not what left", "data.taken")
        _require(not freed or taken + freed == kept, "a final capture releases all that is left", "data.released")
        changes = self._changes(entries)
        own = changes.get((lock.account, lock.asset, "available"), 0)
        _require(own == freed, "what was taken went to the hold's owner", "entries", str(freed), str(own))
        self._no_other_debit(lock, entries)

    def _no_other_debit(self, lock: Lock, entries: list[Entry]) -> None:
        for number, entry in enumerate(entries):
            if entry.asset != lock.asset or (entry.amount < 0 and entry.account != lock.account):
                raise Bad(f"this is not paid out of the {lock.kind}", f"entries[{number}]", found=entry.account)

    def _give_back(self, event: Event, entries: list[Entry], kind: str) -> tuple[Lock, int, int]:
        """A release: what left went back to its owner. The lock, what it kept and what left."""
        id, lock = self._lock(event, kind)
        kept, amount = lock.left, self._out_of(lock, entries)
        self._take(id, lock, amount)
        self._only(entries, self._within(lock, amount))
        return lock, kept, amount

    def _on_release(self, event: Event, entries: list[Entry]) -> None:
        self._give_back(event, entries, "hold")

    def _on_hold_expire(self, event: Event, entries: list[Entry]) -> None:
        lock, kept, amount = self._give_back(event, entries, "hold")
        _require(amount == kept, "an expired hold goes back whole", "entries", str(kept), str(amount))
        if not lock.expires or lock.expires > event["time"]:
            raise Bad("the hold had not expired", "time", f">= {lock.expires}", event["time"])

    def _on_stake_release(self, event: Event, entries: list[Entry]) -> None:
        self._give_back(event, entries, "stake")

    def _on_stake_slash(self, event: Event, entries: list[Entry]) -> None:
        id, lock = self._lock(event, "stake")
        self._take(id, lock, self._out_of(lock, entries))
        _require(len(entries) == 2, "a slash has one destination", "entries", 2, len(entries))
        own = self._changes(entries).get((lock.account, lock.asset, "available"), 0)
        _require(own == 0, "a slash went to the stake's owner", "entries")
        self._no_other_debit(lock, entries)

    def _bet(self, event: Event) -> tuple[str, Lock]:
        id, lock = self._lock(event, "bet")
        named = event.get("refs", {}).get("round")
        _require(lock.reference in (None, named), "the bet is on another round", "refs.round", lock.reference, named)
        return id, lock

    def _on_bet_settlement(self, event: Event, entries: list[Entry]) -> None:
        id, lock = self._bet(event)
        kept, payout = lock.left, amount_in(event["data"], "payout")
        self._take(id, lock, self._out_of(lock, entries))
        owner = {(lock.account, lock.asset, lock.bucket): -kept, (lock.account, lock.asset, "available"): payout}
        others = [entry for entry in entries if entry.place not in owner]
        house = {others[0].place: kept - payout} if len(others) == 1 and others[0].bucket == "available" else {}
        self._only(entries, {**owner, **house})

    def _on_bet_rollback(self, event: Event, entries: list[Entry]) -> None:
        id, lock = self._bet(event)
        kept = lock.left
        self._take(id, lock, self._out_of(lock, entries))
        self._only(entries, self._within(lock, kept))

    def _on_commitment_create(self, event: Event, entries: list[Entry]) -> None:
        entry = next((entry for entry in entries if entry.amount > 0), None)
        _require(entry is not None, "nothing is reserved", "entries")
        assert entry is not None
        id = self._commitment_id(event, entry.account, entry.asset)
        lock = self.locks.setdefault(id, Lock("commitment", entry.account, entry.asset, "held", 0))
        lock.left += entry.amount
        self._only(entries, self._within(lock, -entry.amount))
        declared = self.accounts.get(entry.account)
        if not self.partial and (declared is None or entry.asset not in declared.limits):
            raise Bad("only a member can commit", "entries", found=entry.account)
        if self.rules.commitment_mode == "DISABLED" and not self.partial:
            raise Bad("the policy allows no commitments", "type")

    def _commitment_id(self, event: Event, account: str, asset: str) -> str:
        id, reference = text_in(event["data"], "commitment"), event.get("refs", {}).get("commitment")
        expected = f"commitment {reference} {account} {asset}"
        _require(id == expected, "it is not the reference, the member and the asset", "data.commitment", expected, id)
        return id

    def _free(self, event: Event, entries: list[Entry]) -> tuple[Lock, int]:
        id, lock = self._lock(event, "commitment")
        freed = amount_in(event["data"], "freed", 1)
        self._take(id, lock, freed, "data.freed")
        self._commitment_id(event, lock.account, lock.asset)
        _require(self._out_of(lock, entries) == freed, "freed is not what left", "data.freed")
        return lock, freed

    def _on_commitment_fulfil(self, event: Event, entries: list[Entry]) -> None:
        lock, _ = self._free(event, entries)
        held = [entry for entry in entries if entry.bucket == "held" and entry.account != lock.account]
        _require(not held, "the reserve of another is touched", "entries")
        wrong = [entry for entry in entries if entry.bucket == "held" and entry.asset != lock.asset]
        _require(not wrong, "the reserve in another asset is touched", "entries")

    def _on_commitment_cancel(self, event: Event, entries: list[Entry]) -> None:
        lock, freed = self._free(event, entries)
        self._only(entries, self._within(lock, freed))

    # ------------------------------------------------------------ repair

    def _seq_of(self, id: Any, now: int, where: str) -> int:
        """The number in the id of an earlier event of this ledger."""
        ledger, _, number = str(id).rpartition("/")
        if ledger != self.name or not re.fullmatch(r"0|[1-9][0-9]{0,15}", number) or int(number) >= now:
            raise Bad("it is not the id of an earlier event", where, found=id)
        return int(number)

    def _original(self, event: Event, name: str) -> tuple[int, dict[str, Any] | None]:
        seq = self._seq_of(text_in(event["data"], name), event["seq"], f"data.{name}")
        if seq < self.first:
            self._leave_open("repairs of events before the window")
            return seq, None
        return seq, self.past.event_at(seq)

    def _on_reversal(self, event: Event, entries: list[Entry]) -> None:
        """Per balance never more than the original, in the other direction; what was set aside comes back available."""
        seq, original = self._original(event, "reverses")
        if original is None:
            return
        kind = KINDS.get(original["type"]) or self.types.get(original["type"])
        done = self.reversed.setdefault(seq, {})
        whole = way_back(original)
        left = {place: amount - done.get(place, 0) for place, amount in whole.items()}
        for place, amount in self._changes(entries).items():
            done[place] = done.get(place, 0) + amount
        if kind is None or not kind.reversible or not original.get("entries"):
            raise Bad("this type cannot be reversed", "data.reverses", found=original["type"])
        _require(seq not in self.final, "a final charge is not reversed", "data.reverses")
        for number, entry in enumerate(entries):
            room = left.get(entry.place, 0)
            if not (0 < entry.amount <= room or room <= entry.amount < 0):
                problem = f"it is no way back of event {seq}, or more than is left of it"
                raise Bad(problem, f"entries[{number}].amount", str(room), str(entry.amount))

    def _on_charge_finalized(self, event: Event, entries: list[Entry]) -> None:
        seq, original = self._original(event, "charge")
        before = seq in self.final
        self.final.add(seq)
        _require(not before, "the charge is final already", "data.charge")
        if original is None:
            return
        _require(original["type"] == "capture", "it is no charge", "data.charge", "capture", original["type"])
        hold = original.get("data", {}).get("hold")
        _require(event["data"].get("hold") == hold, "it is another hold", "data.hold", hold, event["data"].get("hold"))
        done = self.reversed.get(seq)
        if done is not None and {place: amount for place, amount in done.items() if amount} == way_back(original):
            raise Bad("the charge was refunded", "data.charge")

    # ------------------------------------------------------------ accounts

    def _declare(self, address: str, account: Account) -> None:
        self.accounts[address] = account
        if account.is_plain:
            self.restricted.discard(address)
        else:
            self.restricted.add(address)

    def _exists(self, address: str) -> bool:
        return address in self.accounts or any(address in pocket for pocket in self.pockets.values()) or self.partial

    def _on_account_opened(self, event: Event, entries: list[Entry]) -> None:
        data = event["data"]
        address = text_in(data, "account")
        _require(is_address(address), "it is no address", "data.account", found=address)
        limits = {asset: amount_in(data["limits"], asset) for asset in data.get("limits", {})}
        ceilings = {asset: amount_in(data["ceilings"], asset) for asset in data.get("ceilings", {})}
        known, floorless = address in self.accounts, data.get("floorless", False)
        self._declare(address, Account("active", limits, ceilings, floorless is True))
        _require(not known, "the account is declared already", "data.account", found=address)
        _require(floorless is False or role_of(address) == "clearing", "only clearing has no floor", "data.floorless")
        for asset, limit in limits.items():
            self._check_limit(address, asset, limit, f"data.limits.{asset}")
        for asset in ceilings:
            self._check_asset(asset, f"data.ceilings.{asset}")

    def _check_asset(self, asset: str, where: str) -> None:
        _require(_ASSET.fullmatch(asset) is not None, "it is no asset", where)
        known = self.assets.get(asset.partition("/")[0])
        _require(known in (None, asset), "one asset has one scale", where, known, asset)
        if self.rules.strict and not self.partial:
            _require(known is not None, "a strict ledger declares an asset first", where)

    def _check_limit(self, address: str, asset: str, limit: int, where: str) -> None:
        self._check_asset(asset, where)
        role = role_of(address)
        _require(role in ("holder", "clearing"), "such an account has no limit", where)
        if role == "holder" and not self.partial:
            low, high = self.rules.limit_min, self.rules.limit_max
            _require(low <= limit <= high, "the policy does not allow this limit", where, f"{low} to {high}", limit)

    def _set_status(self, event: Event, status: str, *allowed: str) -> str:
        address = text_in(event["data"], "account")
        exists, account = self._exists(address), self.accounts.get(address, Account())
        found = "unknown" if self.partial and address not in self.accounts else account.status
        self._declare(address, Account(status, account.limits, account.ceilings, account.floorless))
        _require(exists, "there is no such account", "data.account", found=address)
        _require(found in (*allowed, "unknown"), f"the account is {found}", "data.account", " or ".join(allowed), found)
        return address

    def _on_account_frozen(self, event: Event, entries: list[Entry]) -> None:
        self._set_status(event, "frozen", "active")

    def _on_account_unfrozen(self, event: Event, entries: list[Entry]) -> None:
        self._set_status(event, "active", "frozen")

    def _end(self, event: Event, entries: list[Entry], status: str) -> None:
        address = self._set_status(event, status, "active", "frozen")
        for (asset, bucket), pocket in self.pockets.items():
            left = pocket.get(address, (0, 0))[0]
            _require(not left, f"it ends with {asset} {bucket}", "data.account", "0", str(left))
        others = {entry.account for entry in entries} - {address}
        _require(len(others) <= 1, "it is settled to more than one account", "entries", found=len(others))

    def _on_account_excluded(self, event: Event, entries: list[Entry]) -> None:
        self._end(event, entries, "excluded")

    def _on_account_closed(self, event: Event, entries: list[Entry]) -> None:
        self._end(event, entries, "closed")

    def _on_limit_set(self, event: Event, entries: list[Entry]) -> None:
        data = event["data"]
        address, asset = text_in(data, "account"), text_in(data, "asset")
        _require(is_address(address), "it is no address", "data.account", found=address)
        was = self.accounts.get(address, Account())
        limits, ceilings = dict(was.limits), dict(was.ceilings)
        if "limit" in data:
            limits[asset] = amount_in(data, "limit")
        if "ceiling" in data:
            ceilings[asset] = amount_in(data, "ceiling")
        elif "clear_ceiling" in data:
            ceilings.pop(asset, None)
        self._declare(address, Account(was.status, limits, ceilings, was.floorless))
        _require(was.status in ("active", "frozen"), f"the account is {was.status}", "data.account", found=address)
        if "limit" in data:
            self._check_limit(address, asset, limits[asset], "data.limit")
        _require(bool(data.keys() & {"limit", "ceiling", "clear_ceiling"}), "nothing is set", "data")

    # ------------------------------------------------------------ records

    def _on_ledger_opened(self, event: Event, entries: list[Entry]) -> None:
        _require(event["seq"] == 0, "a ledger opens once, with its first event", "seq", 0, event["seq"])
        self._on_policy_set(event, entries)
        name = text_in(event["data"], "name")
        _require(name == event["ledger"], "it is the opening of another ledger", "data.name", event["ledger"], name)

    def _on_policy_set(self, event: Event, entries: list[Entry]) -> None:
        found = event["data"].get("policy")
        _require(isinstance(found, dict), "it must be given, as an object", "data.policy")
        defaults = vars(Rules())
        for name, default in defaults.items():
            value = found.get(name)
            right = type(value) is type(default) and (type(value) is not int or value >= 0)
            right = right and (name != "commitment_mode" or value in ("DISABLED", "SOFT", "ESCROWED"))
            _require(right, "it is no value of this rule", f"data.policy.{name}", found=value)
        _require(found.keys() == defaults.keys(), "there is a rule that the profile does not know", "data.policy")
        self.rules = Rules(**found)
        rules = self.rules
        _require(
            rules.limit_min <= rules.limit_default <= rules.limit_max, "the limits are not in order", "data.policy"
        )

    def _on_asset_defined(self, event: Event, entries: list[Entry]) -> None:
        asset = text_in(event["data"], "asset")
        _require(_ASSET.fullmatch(asset) is not None, "it is no asset", "data.asset", found=asset)
        known = self.assets.setdefault(asset.partition("/")[0], asset)
        _require(known is asset, "the asset is defined already", "data.asset", found=known)

    def _on_type_defined(self, event: Event, entries: list[Entry]) -> None:
        data = event["data"]
        name, base = text_in(data, "name"), KINDS.get(text_in(data, "base"))
        requires = data.get("requires")
        _require(base is not None and base.posted, "it is no type that can be posted", "data.base")
        assert base is not None
        _require(
            isinstance(requires, list) and all(r in REFERENCES for r in requires), "no references", "data.requires"
        )
        known = name in KINDS or name in self.types
        _require(not known and re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name) is not None, "no new name", "data.name")
        groups = (*base.requires, *((reference,) for reference in requires))
        self.types[name] = base._replace(name=name, posted=True, reversible=True, requires=groups)

    def _on_reserve_recorded(self, event: Event, entries: list[Entry]) -> None:
        data = event["data"]
        text_in(data, "reserve")
        amount_in(data, "value")
        haircut = data.get("haircut_bps")
        _require(
            type(haircut) is int and 0 <= haircut <= 10_000, "it is not 0 to 10000", "data.haircut_bps", found=haircut
        )
        self._check_asset(text_in(data, "asset"), "data.asset")

    def _on_attestation_issued(self, event: Event, entries: list[Entry]) -> None:
        _require(_HASH.fullmatch(text_in(event["data"], "digest")) is not None, "it is no SHA-256", "data.digest")

    def _on_period_closed(self, event: Event, entries: list[Entry]) -> None:
        until, before = text_in(event["data"], "until"), self.closed_until
        _require(is_time(until) and until <= event["time"], "it lies in the future", "data.until", found=until)
        self.closed_until = max(until, before)
        _require(until > before, "the books are closed up to there already", "data.until", f"> {before}", until)

    def _on_key_rotated(self, event: Event, entries: list[Entry]) -> None:
        text_in(event["data"], "public_key")

    # ------------------------------------------------------------ at the end, and in between

    def check_end(self) -> None:
        """Over the ledger every asset sums to zero, and what is held and bonded is what open locks keep."""
        totals: dict[str, int] = {}
        kept: dict[Place, int] = {}
        for lock in self.locks.values():
            place = (lock.account, lock.asset, lock.bucket)
            kept[place] = kept.get(place, 0) + lock.left
        for (asset, bucket), pocket in self.pockets.items():
            totals[asset] = totals.get(asset, 0) + sum(amount for amount, _ in pocket.values())
            for account, (amount, _) in pocket.items() if bucket in ("held", "bonded") else ():
                if kept.get((account, asset, bucket), 0) != amount:
                    problem = f"{bucket} of {account} in {asset} is not what its open locks keep"
                    self.verdict.fail(problem, expected=str(kept.get((account, asset, bucket), 0)), found=str(amount))
        for asset, total in totals.items():
            if total:
                self.verdict.fail(f"all balances of {asset} do not sum to zero", expected="0", found=str(total))

    def liabilities(self) -> dict[str, int]:
        """Per asset what is owed to holders: the sum of their balances above zero in all buckets; nothing is netted."""
        totals: dict[str, int] = {}
        for (asset, _), pocket in self.pockets.items():
            owed = sum(amount for account, (amount, _) in pocket.items() if amount > 0 and account[0] != "@")
            if owed:
                totals[asset] = totals.get(asset, 0) + owed
        return totals

    def read_opening(self, opening: Any, first: int) -> None:
        """Take the state before a window from opening.json, on trust. Raises Bad."""
        _require(
            isinstance(opening, dict) and opening.get("first") == first, "it is not of this window", "first", first
        )
        for number, row in enumerate(_rows(opening, "balances")):
            where = f"balances[{number}]"
            entry = [("account", is_address), ("asset", _is_asset), ("bucket", _is_bucket), ("amount", is_amount)]
            for name, test in entry:
                _require(test(row.get(name)), "it is not well formed", f"{where}.{name}", found=row.get(name))
            version: Any = row.get("version")
            _require(type(version) is int and version > 0, "it is not well formed", f"{where}.version", found=version)
            pocket = self.pockets.setdefault((row["asset"], row["bucket"]), {})
            pocket[row["account"]] = (int(row["amount"]), version)
            self.assets.setdefault(row["asset"].partition("/")[0], row["asset"])
        for number, row in enumerate(_rows(opening, "locks")):
            right = is_address(row.get("account")) and _is_asset(row.get("asset")) and is_amount(row.get("left"))
            _require(right and isinstance(row.get("id"), str), "it is not well formed", f"locks[{number}]")
            bucket = "bonded" if row.get("kind") == "stake" else "held"
            lock = Lock(str(row.get("kind")), row["account"], row["asset"], bucket, int(row["left"]))
            lock.expires = str(row.get("expires", ""))
            self.locks[row["id"]] = lock
        self.first = first
        self.partial = "policy" not in opening
        if not self.partial:
            self._read_state(opening)

    def _read_state(self, opening: dict[str, Any]) -> None:
        """What an opening may tell beside balances and locks: policy, accounts, types, assets, closed_until."""
        self._on_policy_set({"data": opening}, [])
        for row in _rows(opening, "accounts"):
            limits = {asset: amount_in(row["limits"], asset) for asset in row.get("limits", {})}
            ceilings = {asset: amount_in(row["ceilings"], asset) for asset in row.get("ceilings", {})}
            account = Account(row.get("status", "active"), limits, ceilings, row.get("floorless") is True)
            self._declare(text_in(row, "account"), account)
        for row in _rows(opening, "types"):
            self._on_type_defined({"data": row}, [])
        for asset in opening.get("assets", []):
            self.assets.setdefault(str(asset).partition("/")[0], str(asset))
        self.closed_until = str(opening.get("closed_until", ""))


def _is_pair(one: Entry, two: Entry) -> bool:
    """The common case of entries that add up: two of one asset, in different places."""
    return one.amount == -two.amount and one.asset == two.asset and one.place != two.place


def _is_asset(text: Any) -> bool:
    return isinstance(text, str) and _ASSET.fullmatch(text) is not None


def _is_bucket(text: Any) -> bool:
    return isinstance(text, str) and text in BUCKETS.values()


def _rows(found: dict[str, Any], name: str) -> list[dict[str, Any]]:
    rows = found.get(name, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Bad("it is not a list of objects", name)
    return rows


def _changes_text(changes: dict[Place, int]) -> str:
    return ", ".join(f"{' '.join(place)} {amount:+}" for place, amount in sorted(changes.items()))


def way_back(original: dict[str, Any]) -> dict[Place, int]:
    """The changes that undo an event wholly."""
    changes: dict[Place, int] = {}
    for entry in entries_of(original):
        bucket = "available" if entry.bucket in ("held", "bonded") else entry.bucket
        place = (entry.account, entry.asset, bucket)
        changes[place] = changes.get(place, 0) - entry.amount
    return {place: amount for place, amount in changes.items() if amount}


def key_prefix(source: str) -> bytes:
    data = source.encode()
    return len(data).to_bytes(4, "big") + data


def key_digest(prefix: bytes, idem: str) -> bytes:
    """What stands for (source, idem) in memory: 128 bits, so that two keys never look alike by chance."""
    return hashlib.blake2b(prefix + idem.encode(), digest_size=16).digest()


# ---------------------------------------------------------------- reading a journal: bytes, chain, and on to accounting


class Journal:
    """Takes the events in order: their bytes, their chain, and those of the window into the book."""

    def __init__(self, report: Report, book: Book, window: tuple[int, int]) -> None:
        self.bytes = report.verdicts["bytes"]
        self.chain = report.verdicts["chain"]
        self.accounting = report.verdicts["accounting"]
        self.book = book
        self.window = window
        self.events = 0
        self.prev = GENESIS
        self.time = ""
        self.days: set[str] = set()
        self.sources: dict[str, bytes] = {}
        self.snapshots: dict[int, dict[str, int]] = {}
        """Liabilities after as many events, for the sizes that attestations name."""
        self.rotations: dict[Key, int] = {}
        """The first event that names a key as the log's next one."""

    def read(self, bodies: Sequence[bytes], first: int) -> list[bytes]:
        """Check these events, the first of which has the number ``first``; their leaf hashes.

        The loop is the short way for plain transfers between plain accounts: where everything is as it should be it
        does all that the general way would do, and where anything is not it leaves the event to the general way.
        """
        book, keys, restricted, pockets = self.book, self.book.keys, self.book.restricted, self.book.pockets
        match, blake2b, sha256, sources, days = (
            _PLAIN_TRANSFER.fullmatch,
            hashlib.blake2b,
            hashlib.sha256,
            self.sources,
            self.days,
        )
        whole = self.window[0] <= first and first + len(bodies) <= self.window[1]
        plain = whole and not any(first < size <= first + len(bodies) for size in self.snapshots)
        leaves: list[bytes] = []
        for seq, body in enumerate(bodies, first):
            leaf = sha256(b"\0" + body).digest()
            leaves.append(leaf)
            found = match(body.decode()) if plain and not book.rules.strict and body.isascii() else None
            if found is not None:
                (_, data, payer, after1, amount1, asset, before1, version1, payee, after2, amount2, asset2, before2,
                 version2, idem, ledger, prev, refs, number, source, moment) = found.groups()  # fmt: skip
                pocket = pockets.get((asset, "available"), {})
                one, two, prefix = pocket.get(payer), pocket.get(payee), sources.get(source)
                if (
                    one is not None
                    and two is not None
                    and prefix is not None
                    and prev == self.prev
                    and number == str(seq)
                    and ledger == book.name
                    and moment >= self.time
                    and moment[:10] in days
                    and asset == asset2
                    and amount1 == amount2
                    and payer != payee
                    and payer not in restricted
                    and payee not in restricted
                    and (data is None or _is_canonical(data))
                    and (refs is None or _is_canonical(refs, REFERENCES))
                ):
                    amount = int(amount1)
                    left, got = one[0] - amount, two[0] + amount
                    digest = blake2b(prefix + idem.encode(), digest_size=16).digest()
                    if (
                        left >= 0
                        and got <= MAX_AMOUNT
                        and int(before1) == one[0]
                        and int(before2) == two[0]
                        and int(after1) == left
                        and int(after2) == got
                        and int(version1) == one[1] + 1
                        and int(version2) == two[1] + 1
                        and digest not in keys
                    ):
                        keys.add(digest)
                        pocket[payer] = (left, one[1] + 1)
                        pocket[payee] = (got, two[1] + 1)
                        book.entries += 2
                        self.time = moment
                        self.prev = leaf.hex()
                        continue
            self._read(seq, body)
            self.prev = leaf.hex()
        self.events += len(bodies)
        return leaves

    def _read(self, seq: int, body: bytes) -> None:
        """The general way: any event, whatever is wrong with it."""
        inside = self.window[0] <= seq < self.window[1]
        try:
            event, failures = parse_event(body)
        except Bad as bad:
            self.bytes.fail_as(bad, seq=seq)
            if inside:
                self.accounting.fail("the event cannot be read, so it was not replayed", seq=seq)
            return
        wrong = check_fields(event)
        for failure in failures + wrong:
            failure.seq = seq
            self.bytes.fail(**vars(failure))
        self._link(seq, event)
        if not wrong and (key := next_key(event)) is not None:
            self.rotations.setdefault(key, seq)
        if wrong and inside:
            self.accounting.fail("its fields are not those of the profile, so it was not replayed", seq=seq)
        elif inside:
            if event["seq"] != seq:
                event = {**event, "seq": seq}
            if seq == 0 and event["type"] != "ledger_opened":
                problem = "the first event opens the ledger"
                self.accounting.fail(problem, seq=0, field="type", expected="ledger_opened", found=event["type"])
            self.book.apply(seq, event)
            self.days.add(event["time"][:10])
            if len(self.sources) > 10_000:
                self.sources.clear()
            self.sources[event["source"]] = key_prefix(event["source"])
        if seq + 1 in self.snapshots:
            self.snapshots[seq + 1] = self.book.liabilities()

    def _link(self, seq: int, event: Event) -> None:
        fail = self.chain.fail
        if event.get("seq") != seq:
            fail("another number stands in this place", seq=seq, field="seq", expected=seq, found=event.get("seq"))
        if self.prev and event.get("prev") != self.prev:
            problem = "it does not name the hash of the event before"
            fail(problem, seq=seq, field="prev", expected=self.prev, found=event.get("prev"))
        if not self.book.name and isinstance(event.get("ledger"), str):
            self.book.name = event["ledger"]
        if event.get("ledger") != self.book.name:
            problem = "the event is of another ledger"
            fail(problem, seq=seq, field="ledger", expected=self.book.name, found=event.get("ledger"))
        moment = event.get("time")
        if isinstance(moment, str):
            if moment < self.time:
                fail("time runs backwards", seq=seq, field="time", expected=f">= {self.time}", found=moment)
            self.time = max(self.time, moment)


def next_key(event: Event) -> Key | None:
    """The key that an event says the log goes on with."""
    if event.get("type") != "key_rotated":
        return None
    try:
        return parse_key(str(event.get("data", {}).get("public_key", "")))
    except Bad:
        return None


def split_bundle(data: bytes, count: int) -> tuple[list[bytes], str]:
    """The entries of a bundle (each behind two bytes that tell its length), and what is wrong, if anything."""
    bodies: list[bytes] = []
    at, size = 0, len(data)
    while at < size:
        if len(bodies) == count:
            return bodies, f"there is more in it than {count} events"
        ends = at + 2 + (data[at] << 8 | data[at + 1] if at + 1 < size else 0)
        if ends > size or ends == at + 2:
            return bodies, f"it breaks off at its event {len(bodies)}"
        bodies.append(data[at + 2 : ends])
        at = ends
    return bodies, "" if len(bodies) == count else f"it holds {len(bodies)} events instead of {count}"


class Tree:
    """The Merkle tree over leaf hashes that come tile by tile; every tile of the bundle is held against it."""

    def __init__(self, verdict: Verdict, read_tile: Callable[[int, int, int], list[bytes] | None]) -> None:
        self.verdict = verdict
        self.read_tile = read_tile
        self.peaks = Peaks()
        self.levels: list[tuple[int, list[bytes]]] = []
        self.size = 0
        self.roots: dict[int, bytes] = {}
        """For the sizes that were asked for; filled as the tree grows past them."""
        self.leaves: dict[int, bytes] = {}

    def add(self, leaves: Sequence[bytes]) -> None:
        first, ends = self.size, self.size + len(leaves)
        for size in self.roots:
            if first < size <= ends or size == first == 0:
                self.roots[size] = self.peaks.root_with(leaves[: size - first])
        for index in self.leaves:
            if first <= index < ends:
                self.leaves[index] = leaves[index - first]
        self.size = ends
        if len(leaves) == WIDTH:
            root = subtree_root(leaves)
            self.peaks.add(root, WIDTH)
            self._rise(1, root)
        else:
            for leaf in leaves:
                self.peaks.add(leaf)

    def _rise(self, level: int, hash: bytes) -> None:
        if len(self.levels) < level:
            self.levels.append((0, []))
        number, hashes = self.levels[level - 1]
        hashes.append(hash)
        if len(hashes) == WIDTH:
            self._compare(level, number, hashes)
            self.levels[level - 1] = (number + 1, [])
            self._rise(level + 1, subtree_root(hashes))

    def finish(self) -> bytes:
        """Hold the last tiles of every level against the tree; its root."""
        for level, (number, hashes) in enumerate(self.levels, 1):
            if hashes:
                self._compare(level, number, hashes)
        return self.peaks.root()

    def _compare(self, level: int, number: int, hashes: list[bytes]) -> None:
        found = self.read_tile(level, number, len(hashes))
        if found is not None and found != hashes:
            at = next(index for index, hash in enumerate(hashes) if found[index] != hash)
            path = path_of(f"tile/{level}", number, len(hashes))
            self.verdict.fail(f"its hash {at} is not that of the tile below", path=path)


# ---------------------------------------------------------------- the run


@dataclass
class Evidence:
    """What the caller brings: keys that are trusted, and what was seen of this log elsewhere."""

    keys: list[Key] = field(default_factory=list)
    policy: Policy | None = None
    checkpoints: list[tuple[str, bytes]] = field(default_factory=list)
    receipts: list[tuple[str, bytes]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was brought and does not count, for the report."""
    seconds: float = 0.0
    """How long all of it may take; 0: for ever."""


class Brought(NamedTuple):
    """A checkpoint from outside, maybe that of a receipt, and which known keys signed it."""

    name: str
    checkpoint: Checkpoint
    signers: list[Key]
    receipt: Receipt | None


class Verifier:
    """One run over one bundle."""

    def __init__(self, source: Source, name: str, evidence: Evidence) -> None:
        self.source = source
        self.evidence = evidence
        self.report = Report(name)
        self.of = self.report.verdicts
        self.manifest: dict[str, Any] | None = None
        self.unseen: dict[str, str] = {}
        self.has_manifest = False
        self.size: int | None = None
        self.window = (0, 2**63)
        self.checkpoint: Checkpoint | None = None
        self.trusted: list[Key] = []
        self.given = False
        """Whether the caller said whom to trust; if not, the bundle's own key is taken."""
        self.known: list[Key] = []
        self.signers: list[Key] = []
        """The keys of the log, trusted or not, that signed the newest checkpoint."""
        self.links: list[tuple[Checkpoint, list[Key]]] = []
        """Checkpoints that several keys of the log signed: where one key may lead to another."""
        self.kept: dict[int, Checkpoint] = {}
        self.digests: dict[int, bytes] = {}
        self.cached: tuple[int, list[bytes]] = (-1, [])
        self.starts: list[tuple[int, str]] = []
        """Of each bundle that was read, its number and the time of the event before it."""
        self.looked_at = 0
        self.closed = ""
        self.book = Book(self.of["accounting"], self)
        self.tree = Tree(self.of["tree"], self._read_tile)
        self.outside: list[Brought] = []
        self.statements: list[tuple[str, dict[str, Any], list[Key]]] = []
        self.rotations: dict[Key, int] = {}
        self.ends = time.monotonic() + evidence.seconds if evidence.seconds else float("inf")

    def run(self) -> Report:
        self._read_manifest()
        self._read_keys()
        self._read_checkpoint()
        self._read_outside()
        self._read_kept()
        if isinstance(self.source, Site) and not self._reached(self.trusted, proven=False) & {*self.signers}:
            self._refuse()
            return self.report
        self._read_statements()
        stated = self.window
        self._widen_window()
        journal = Journal(self.report, self.book, self.window)
        self._open_window(journal)
        journal.snapshots = {statement["size"]: {} for _, statement, _ in self.statements}
        self.rotations = journal.rotations
        self._read_log(journal)
        self._judge_inside(journal, stated)
        self._judge_tree()
        self._judge_statements(journal)
        self._judge_files()
        self._judge_outside()
        return self.report

    def _refuse(self) -> None:
        """A server that nobody trusted speaks for is asked for no more: it could go on without end."""
        why = "nothing was read: no trusted key signed the newest checkpoint"
        self.report.facts = {"origin": self.checkpoint.origin if self.checkpoint else "", "size": self.size or 0}
        self._judge_signature()
        for verdict in self.of.values():
            verdict.detail = verdict.detail or why

    def _watch(self) -> None:
        if time.monotonic() > self.ends:
            raise Late(f"it takes longer than {self.evidence.seconds:.0f} seconds in all (see --deadline)")

    # ------------------------------------------------------------ files

    def _read(self, path: str, limit: int = MAX_TEXT, verdict: str = "bytes") -> bytes | None:
        """A file of the bundle, held against the manifest; None if it is not there or cannot be read."""
        self._watch()
        try:
            data = self.source.read(path, limit)
        except Unreadable as error:
            self.unseen.pop(path, None)
            self.of[verdict].fail(f"it cannot be read: {error}", path=path)
            return None
        if data is not None and path in self.unseen:
            self._compare(path, hashlib.sha256(data).hexdigest())
        return data

    def _compare(self, path: str, found: str) -> None:
        expected = self.unseen.pop(path)
        if found != expected:
            self.of["bytes"].fail("the file is not what the manifest says", path=path, expected=expected, found=found)

    def _listed(self, folder: str) -> list[str]:
        """The paths of the bundle's files in this folder."""
        paths: Iterable[str] = self.unseen if self.manifest is not None else self.source.files() or ()
        return sorted(path for path in paths if path.startswith(folder))

    def _read_manifest(self) -> None:
        try:
            data = self.source.read("manifest.json", MAX_MANIFEST)
        except Unreadable as error:
            self.has_manifest = True
            self.of["bytes"].fail(f"it cannot be read: {error}", path="manifest.json")
            return
        if data is None:
            self.report.note("there is no manifest.json: this is read as a published log, not as an export bundle")
            return
        self.has_manifest = True
        try:
            # It has three objects, and for each comma the 64 digits of a hash; more would only fill the memory.
            right = data.count(b"{") + data.count(b"[") <= 20 and data.count(b",") <= 20 + len(data) // 64
            _require(right, "it is no manifest: it holds other things than files and their hashes")
            manifest, failures = parse_strict(data)
            _check_manifest(manifest)
        except Bad as bad:
            self.of["bytes"].fail_as(bad, path="manifest.json")
            return
        for failure in failures:
            self.of["bytes"].fail(failure.problem, path="manifest.json", expected=failure.expected, found=failure.found)
        self.manifest, self.unseen = manifest, dict(manifest["files"])
        self.book.name = manifest["ledger"]
        self.size = manifest["size"]
        self.window = (manifest["window"]["first"], manifest["window"]["end"])

    def _judge_files(self) -> None:
        """Every file that the manifest names and nothing has read yet, and every file that it does not name."""
        verdict = self.of["bytes"]
        for path in self.source.links():
            verdict.fail("it is a link, which a bundle does not hold", path=path)
        if self.manifest is None:
            return
        whole = self.tree.size == self.size and not self.closed
        for path in list(self.unseen):
            self._watch()
            try:
                found = self.source.digest(path)
            except Unreadable as error:
                verdict.fail(f"it cannot be read: {error}", path=path)
                continue
            if found is None:
                verdict.fail("the file is missing", path=path)
                continue
            self._compare(path, found.hex())
            if whole and path.startswith("tile/"):
                verdict.fail("a log of this size and window has no such tile", path=path)
        for path in self.source.files() or ():
            if path not in self.manifest["files"] and path != "manifest.json":
                verdict.fail("the manifest does not name this file", path=path)

    # ------------------------------------------------------------ keys and checkpoints

    def _read_keys(self) -> None:
        current: list[Key] = []
        for path in ["log.vkey", *self._listed("keys/")]:
            data = self._read(path)
            if data is None:
                if path == "log.vkey" and self.has_manifest:
                    self.of["bytes"].fail("the file is missing", path=path)
                continue
            try:
                found = [parse_key(line) for line in _text_of(data, "the file").split("\n") if line]
            except Bad as bad:
                self.of["bytes"].fail_as(bad, path=path)
                continue
            self.known = list(dict.fromkeys([*self.known, *found]))
            if len(self.known) > MAX_KEYS:
                self.known = self.known[:MAX_KEYS]
                self.of["bytes"].fail(f"there are more than {MAX_KEYS} keys", path=path)
                break
            current += found[:1] if path == "log.vkey" else []
        given, policy = self.evidence.keys, self.evidence.policy
        for note in self.evidence.notes:
            self.report.note(note)
        if policy is not None and policy.logs:  # as everywhere: valid under a policy is what one of its logs signed
            given = [key for key in policy.logs if not given or key in given]
            others = [key.name for key in policy.logs if key.type != ED25519]
            if others:
                self.report.note(f"keys of logs of a type that is not checked here do not count: {', '.join(others)}")
        self.given = bool(self.evidence.keys or given)
        self.trusted = given if self.given else current
        if current and self.given and current[0] not in given:
            self.report.note(f"the bundle names another key than the one given: {current[0].name}")

    def _read_checkpoint(self) -> None:
        verdict = self.of["tree"]
        data = self._read("checkpoint", verdict="tree")
        if data is None:
            if not self.has_manifest and not verdict.count:
                raise Usage("there is neither a checkpoint nor a manifest.json: this is no bundle and no published log")
            verdict.fail("there is no checkpoint", path="checkpoint")
            return
        try:
            self.checkpoint = parse_checkpoint(data)
        except Bad as bad:
            verdict.fail_as(bad, path="checkpoint")
            return
        stated = {"size": self.checkpoint.size, "root": self.checkpoint.root.hex(), "origin": self.checkpoint.origin}
        for name, value in stated.items() if self.manifest else ():
            if self.manifest and self.manifest[name] != value:
                problem = "it is not what the checkpoint says"
                found = self.manifest[name]
                self.of["bytes"].fail(problem, path="manifest.json", field=name, expected=value, found=found)
        self.size = self.checkpoint.size
        self.window = (self.window[0], min(self.window[1], self.size))
        self.tree.roots[self.size] = b""
        try:
            self.signers = self._signed(self.checkpoint)
        except Bad as bad:
            verdict.fail_as(bad, path="checkpoint")

    def _judge_signature(self) -> None:
        """Whether a trusted key signed the newest checkpoint, or one that key rotations lead to from it."""
        verdict, policy = self.of["tree"], self.evidence.policy
        if self.checkpoint is None:
            return
        reached = self._reached(self.trusted)
        allowed = {*self.trusted} if policy is not None and policy.logs else reached
        right = [key for key in self.signers if key in allowed]
        if right:
            origin = "the key that was given" if self.given else "a key that came from the bundle itself"
            if right[0] not in self.trusted:
                origin = f"a key that {origin} leads to, by event {self.rotations[right[0]]} and the signatures of both"
                self.report.note(f"the log has gone over to another key: {key_text(right[0])}")
            verdict.detail = f"{self.size} events, signed by {right[0].name} with {origin}"
            verdict.checked = True
        elif not self.trusted and not self.given:
            verdict.detail = "there is no key to check the checkpoint with; give one with --key"
        elif self._reached(self.trusted, proven=False) & {*self.signers}:
            problem = "no key that is trusted signed it: what would lead to its key, an event key_rotated under a"
            verdict.fail(f"{problem} checkpoint of both keys, is not here; give the new key", path="checkpoint")
        else:
            verdict.fail(f"no {'given key' if self.given else 'key of the bundle'} signed it", path="checkpoint")

    def _reached(self, keys: Iterable[Key], *, proven: bool = True) -> set[Key]:
        """These keys, and those that they lead to by key rotations: the events are in the log, under a checkpoint that
        the old key signed and the new one.

        Not ``proven``: all that are tied to them by signatures, before the events are read. Anyone can add his own to
        a checkpoint, so this only tells a history that could be honest from one that cannot.
        """
        found, before = set(keys), -1
        while before != len(found):
            before = len(found)
            for checkpoint, signers in self.links:
                if not found.isdisjoint(signers) and (not proven or self._agrees(checkpoint)):
                    beyond = checkpoint.size
                    found.update(key for key in signers if not proven or self.rotations.get(key, beyond) < beyond)
        return found

    def _agrees(self, checkpoint: Checkpoint) -> bool:
        return checkpoint.size <= self.tree.size and self.tree.roots.get(checkpoint.size) == checkpoint.root

    def _signed(self, checkpoint: Checkpoint) -> list[Key]:
        """The known keys that signed this as the log that it names, trusted ones first. Raises Bad."""
        keys = [*self.trusted, *self.known]
        found = signers_of(checkpoint, (key for key in keys if key.type == ED25519 and key.name == checkpoint.origin))
        if len(found) > 1:
            self.links.append((checkpoint, found))
        return found

    def _read_kept(self) -> None:
        """Older checkpoints of the bundle: signed by a key of the log, and on the way to the newest one."""
        signed = []
        for path in self._listed("checkpoints/"):
            data = self._read(path, verdict="tree")
            if data is None:
                continue
            try:
                kept = parse_checkpoint(data)
                _require(
                    path == f"checkpoints/{kept.size}", "the file is named for another size", "size", found=kept.size
                )
                self._check_same_log(kept)
                signed.append((path, self._signed(kept)))
            except Bad as bad:
                self.of["tree"].fail_as(bad, path=path)
                continue
            self.kept[kept.size] = kept
            self.tree.roots[kept.size] = b""
        tied = self._reached(self.trusted, proven=False)  # a key given after a rotation does not lead back
        for path, signers in signed:
            if tied.isdisjoint(signers):
                self.of["tree"].fail("no trusted key signed it, nor one that signed together with it", path=path)

    def _check_same_log(self, other: Checkpoint) -> None:
        if self.checkpoint is not None and other.origin != self.checkpoint.origin:
            raise Bad("it is of another log", "origin", self.checkpoint.origin, other.origin)

    def _read_outside(self) -> None:
        for name, data in self.evidence.checkpoints:
            self._take_outside(name, lambda data=data: (parse_checkpoint(data), None))  # type: ignore[misc]
        for name, data in self.evidence.receipts:
            self._take_outside(name, lambda data=data: _opened(parse_receipt(data)))  # type: ignore[misc]

    def _take_outside(self, name: str, read: Callable[[], tuple[Checkpoint, Receipt | None]]) -> None:
        try:
            checkpoint, receipt = read()
            self._check_same_log(checkpoint)
            signers = self._signed(checkpoint)
            _require(bool(signers), "no key of this log signed it")
            if receipt is not None:
                leaf = hash_leaf(receipt.body)
                root = root_from_proof(receipt.seq, checkpoint.size, leaf, receipt.proof)
                _require(root == checkpoint.root, "its proof does not lead to its checkpoint", "proof")
                self.tree.leaves[receipt.seq] = b""
        except Bad as bad:
            self.of["outside"].fail_as(bad, path=name)
            return
        self.tree.roots[checkpoint.size] = b""
        self.outside.append(Brought(name, checkpoint, signers, receipt))

    # ------------------------------------------------------------ the log

    def _widen_window(self) -> None:
        """Where the events before the window are here as well, all is replayed and nothing taken on trust."""
        numbers = range(self.window[0] // WIDTH + 1 if self.window[0] else 0)
        paths = (path_of("tile/entries", n, min(WIDTH, (self.size or 0) - n * WIDTH)) for n in numbers)
        if numbers and all(path in self.unseen for path in paths):
            self.report.note("the events before the window are here: they were replayed, and opening.json was not used")
            self.window = (0, self.window[1])

    def _open_window(self, journal: Journal) -> None:
        first = self.window[0]
        start = first // WIDTH * WIDTH
        if start:
            journal.prev = ""
        if not first:
            return
        data = self._read("opening.json", MAX_OPENING, "accounting") or b""
        try:
            _require(bool(data), "a window needs the balances that it opens with")
            # Its rows have their length; what has many more values would only fill the memory.
            right = data.count(b"{") <= 20 + len(data) // 24 and data.count(b",") <= 20 + len(data) // 6
            _require(right and data.count(b"[") <= 20 + len(data) // 24, "it has too many values for its size")
            opening, _ = parse_strict(data)
            self.book.read_opening(opening, first)
        except (Bad, ValueError, TypeError, KeyError, AttributeError) as error:
            self.book.partial, self.book.first = True, first
            problem = error.problem if isinstance(error, Bad) else f"it cannot be read: {error}"
            self.of["accounting"].fail(problem, path="opening.json", field=getattr(error, "where", ""))
        self.report.note(
            f"balances before event {first} are taken on trust from opening.json; keys used before are unknown"
        )

    def _read_log(self, journal: Journal) -> None:
        """Tile by tile: events where there are any, and their hashes, which both must be the same."""
        number = missing = 0
        while self.size is None or number * WIDTH < self.size:
            first = number * WIDTH
            width = WIDTH if self.size is None else min(WIDTH, self.size - first)
            tile = self._read_tile(0, number, width)
            wanted = first < self.window[1] and first + width > self.window[0] and not self.closed
            bodies = self._bodies(number, width) if wanted else None
            if bodies is None and tile is None:
                self.of["tree"].fail(f"the log breaks off: from event {first} on there is nothing", seq=first)
                break
            missing = missing + 1 if wanted and bodies is None and not self.closed else 0
            if missing == MAX_MISSING and isinstance(self.source, Site):
                self.tree.verdict.fail(f"stopped: {missing} bundles in a row are not there", seq=first)
                break
            if bodies is not None:
                self.starts.append((number, journal.time))
            leaves = journal.read(bodies, first) if bodies is not None else []
            self._add_leaves(first, width, leaves, tile)
            if tile is not None and len(leaves) < width:
                journal.prev = tile[-1].hex()  # what comes next is linked to what should have been here
            number += 1

    def _add_leaves(self, first: int, width: int, leaves: list[bytes], tile: list[bytes] | None) -> None:
        """What the events hash to counts; the tile stands in only for events that are not here."""
        for at, (leaf, hash) in enumerate(zip(leaves, tile or (), strict=False)):
            if leaf != hash:
                path = path_of("tile/0", first // WIDTH, width)
                problem = "the event is not the one whose hash is in the tree"
                self.of["tree"].fail(problem, seq=first + at, path=path, expected=hash.hex(), found=leaf.hex())
                break
        known = leaves + (tile or [])[len(leaves) :]
        if len(known) < width and self.size is not None:
            self.of["tree"].fail("its hash is missing", seq=first + len(known))
        self.tree.add(known)

    def _bodies(self, number: int, width: int) -> list[bytes] | None:
        """The events of a bundle, as many as can be read."""
        data, held, path = self._fetch("tile/entries", number, width, MAX_BUNDLE, "bytes")
        first = number * WIDTH
        if data is None:
            if not self.closed:
                for name in ("bytes", "chain", "accounting"):
                    self.of[name].fail("events are missing from here on", seq=max(first, self.window[0]), path=path)
            return None
        self.digests[number] = hashlib.sha256(data).digest()
        bodies, problem = split_bundle(data, held)
        if problem and len(bodies) < width:
            for name in ("bytes", "chain", "accounting"):
                self.of[name].fail(f"the bundle is damaged: {problem}", seq=first + len(bodies), path=path)
        elif problem:
            self.of["bytes"].fail(f"the bundle is damaged: {problem}", path=path)
        self.cached = (number, bodies[:width])
        return bodies[:width]

    def _bodies_again(self, number: int) -> list[bytes]:
        """The events of a bundle that was read before; the same bytes, or Bad."""
        if self.cached[0] == number:
            return self.cached[1]
        width = WIDTH if self.size is None else min(WIDTH, self.size - number * WIDTH)
        data, held, path = self._fetch("tile/entries", number, width, MAX_BUNDLE, "bytes")
        if data is None or hashlib.sha256(data).digest() != self.digests.get(number):
            raise Bad(f"{path} was not the same when it was read again")
        return split_bundle(data, held)[0]

    def _fetch(self, prefix: str, number: int, width: int, limit: int, verdict: str) -> tuple[bytes | None, int, str]:
        """A tile or bundle, how wide it is and where it was; a log may have kept only the full one of a partial."""
        self._watch()
        path = path_of(prefix, number, width)
        for wide in (width, WIDTH) if width < WIDTH else (WIDTH,):
            place = path_of(prefix, number, wide)
            try:
                data = self.source.read(place, limit)
            except Unreadable as error:
                if prefix == "tile/entries" and isinstance(self.source, Site) and str(error).endswith((" 401", " 403")):
                    self.closed = f"the server does not give events to this caller ({error})"
                else:
                    self.unseen.pop(place, None)
                    self.of[verdict].fail(f"it cannot be read: {error}", path=place)
                return None, wide, place
            if data is not None:
                if place in self.unseen:
                    self._compare(place, hashlib.sha256(data).hexdigest())
                return data, wide, place
        return None, width, path

    def _read_tile(self, level: int, number: int, width: int) -> list[bytes] | None:
        data, held, path = self._fetch(f"tile/{level}", number, width, 32 * WIDTH, "tree")
        if data is None:
            if self.size is not None:
                self.of["tree"].fail("the tile is missing", path=path)
            return None
        if len(data) != 32 * held:
            self.of["tree"].fail("the tile has not its length", path=path, expected=32 * held, found=len(data))
            return None
        return [data[at : at + 32] for at in range(0, 32 * width, 32)]

    def event_at(self, seq: int) -> dict[str, Any]:
        """An event that was read before. Raises Bad."""
        bodies = self._bodies_again(seq // WIDTH)
        if seq % WIDTH >= len(bodies):
            raise Bad(f"event {seq} is not there")
        event, _ = parse_event(bodies[seq % WIDTH])
        if check_fields(event):
            raise Bad(f"event {seq} is not well formed")
        return event

    def events_since(self, moment: str, before: int, account: str) -> Iterator[dict[str, Any]] | None:
        """See Past. A log of many back-dated payments is not read again without end: all of them have one limit."""
        at = bisect.bisect_right(self.starts, moment, key=lambda start: start[1]) - 1
        first = self.starts[max(at, 0)][0]
        self.looked_at += before - first * WIDTH
        if (at <= 0 and self.window[0]) or self.looked_at > MAX_LOOKED_AT:
            return None
        return self._events_between(first, moment, before, account.encode())

    def _events_between(self, number: int, moment: str, before: int, account: bytes) -> Iterator[dict[str, Any]]:
        for at in range(number, -(-before // WIDTH)):
            for seq, body in enumerate(self._bodies_again(at), at * WIDTH):
                if seq < before and account in body:
                    event, _ = parse_event(body)
                    if not check_fields(event) and event["time"] > moment:
                        yield event

    # ------------------------------------------------------------ verdicts

    def _judge_inside(self, journal: Journal, stated: tuple[int, int]) -> None:
        first, end = self.window[0], min(self.window[1], self.tree.size)
        size = self.size if self.size is not None else self.tree.size
        self.report.facts = {
            "ledger": self.book.name,
            "origin": self.checkpoint.origin if self.checkpoint else "",
            "size": size,
            "root": self.checkpoint.root.hex() if self.checkpoint else "",
            "window": f"{stated[0]} to {max(end, stated[0])}",
            "events": journal.events,
            "entries": self.book.entries,
        }
        names = ("bytes", "chain", "accounting")
        if first or end < size:
            trust = ", opening taken on trust" if first else ""
            self.report.part = f"events {first} to {end - 1} of {size}{trust}"
        if not journal.events and not self.closed:
            self.closed = "there is no event to look at"
        if self.closed:
            for name in names:
                self.of[name].detail = self.closed
            return
        if not self.of["accounting"].count:
            self.book.check_end()
        for name in names:
            self.of[name].checked = True
        balances = sum(len(pocket) for pocket in self.book.pockets.values())
        files = f", {len(self.manifest['files'])} files" if self.manifest else "; no manifest: files were not compared"
        self.of["bytes"].detail = f"{journal.events} events{files}"
        self.of["chain"].detail = f"events {first} to {end - 1}" if end > first else "no events"
        part = f"; {self.report.part}" if self.report.part else ""
        self.of["accounting"].detail = f"{self.book.entries} entries, {balances} balances{part}"
        for what, count in self.book.open.items():
            self.report.note(f"accounting left open: {what} ({count})")

    def _judge_tree(self) -> None:
        verdict, root = self.of["tree"], self.tree.finish()
        if self.checkpoint is None:
            return
        if self.tree.size == self.checkpoint.size and root != self.checkpoint.root:
            expected = self.checkpoint.root.hex()
            verdict.fail("the root is not the one in the checkpoint", field="root", expected=expected, found=root.hex())
        for size, kept in self.kept.items():
            self._check_extends(verdict, f"checkpoints/{size}", kept)
        for _, checkpoint, _, receipt in self.outside:  # a receipt may hold the event that a window leaves out
            key = next_key(_event_of(receipt))
            if receipt is not None and key is not None and self._agrees(checkpoint):
                self.rotations.setdefault(key, receipt.seq)
        self._judge_signature()

    def _check_extends(self, verdict: Verdict, name: str, older: Checkpoint) -> bool:
        """Whether this log, at the size of the other checkpoint, has its root."""
        if older.size > self.tree.size:
            problem = "the log ends before this checkpoint: it was cut, or the bundle is the older one"
            verdict.fail(problem, path=name, field="size", expected=f">= {older.size}", found=self.tree.size)
            return False
        found = self.tree.roots.get(older.size, b"") if older.size else hash_empty()
        if found != older.root:
            problem = f"the log does not extend it: its first {older.size} events have another root"
            verdict.fail(problem, path=name, field="root", expected=older.root.hex(), found=found.hex())
            return False
        return True

    def _judge_outside(self) -> None:
        verdict, shown, strange = self.of["outside"], [], []
        for name, checkpoint, signers, receipt in self.outside:
            if not self._check_extends(verdict, name, checkpoint):
                continue
            if receipt is not None and self.tree.leaves[receipt.seq] != hash_leaf(receipt.body):
                verdict.fail("the event of the receipt is not in this log", path=name, seq=receipt.seq)
                continue
            if not checkpoint.size:  # every log extends the empty one: that shows nothing
                continue
            # What comes after it counts only if whoever signed it, or the key's successor, signed that as well.
            if self._reached(signers).isdisjoint(self.signers):
                strange.append(name)
            else:
                shown.append(f"extends {name} ({checkpoint.size} events)")
        policy = self.evidence.policy
        if policy is not None:
            shown += self._judge_quorum(policy)
        verdict.checked = bool(shown)
        if strange:
            problem = "the newest checkpoint is not signed by the key of what you brought"
            self.report.note(f"{problem}: {', '.join(strange)}")
            shown = shown or [problem]
        if not shown and not verdict.count:
            inside = "not witnessed" if self.report.failed else "internally consistent, not witnessed"
            why = "give --policy, --checkpoint or --receipt"
            if policy is not None:
                asks = policy.quorum != "none"
                why = "the log's own signature does not hold" if asks else "the policy asks for no witness"
            shown = [f"{inside}: {why}"]
        verdict.detail = "; ".join(shown)

    def _judge_quorum(self, policy: Policy) -> list[str]:
        verdict = self.of["outside"]
        if policy.quorum == "none":
            return []
        if self.checkpoint is None:
            verdict.fail("there is no checkpoint that a witness could have cosigned", path="checkpoint")
            return []
        if not self.of["tree"].checked:  # valid under a policy is only what a log signed
            return []
        witnesses = list(policy.witnesses.values())
        try:
            cosigned = signers_of(self.checkpoint, [key for key in witnesses if key.type == COSIGNATURE])
        except Bad as bad:
            verdict.fail_as(bad, path="checkpoint")
            return []
        others = [key.name for key in witnesses if key.type != COSIGNATURE]
        if others:
            self.report.note(f"cosignatures of a type that is not checked here do not count: {', '.join(others)}")
        names = ", ".join(key.name for key in cosigned) or "nobody"
        if policy.holds(set(cosigned)):
            return [f"cosigned by {names}"]
        verdict.fail("the quorum of the policy is not met", path="checkpoint", expected=policy.quorum, found=names)
        return []

    # ------------------------------------------------------------ attestations

    def _read_statements(self) -> None:
        """Reserve attestations: DSSE envelopes around a statement of liabilities at a size of this log."""
        for path in self._listed("attestations/"):
            data = self._read(path, verdict="attestation")
            if data is None:
                continue
            try:
                origin = self.checkpoint.origin if self.checkpoint else ""
                tied = self._reached(self.trusted, proven=False)
                keys = [key for key in (*self.trusted, *self.known) if key in tied and key.name == origin]
                statement, signers = open_envelope(data, keys)
            except (Bad, ValueError, TypeError, KeyError, RecursionError) as error:
                bad = error if isinstance(error, Bad) else Bad("it is no DSSE envelope with a statement")
                self.of["attestation"].fail_as(bad, path=path)
                continue
            self.statements.append((path, statement, signers))

    def _judge_statements(self, journal: Journal) -> None:
        verdict = self.of["attestation"]
        if not self.statements:
            verdict.detail = "" if verdict.count else "the bundle holds none"
            return
        if self.closed:
            verdict.detail = self.closed
            return
        reached, before = self._reached(self.trusted), 0
        names: set[str] = set()
        for path, statement, signers in self.statements:
            ours = [key.name for key in signers if key in reached]
            if not ours:
                before += 1
                self.report.note(f"{path} was not checked: the trusted key does not lead to the one that signed it")
                continue
            names.update(ours)
            size = statement["size"]
            if not self.window[0] < size <= self.tree.size:
                verdict.fail("it is about events that are not here", path=path, field="size", found=size)
                continue
            if statement["ledger"] != self.book.name:
                verdict.fail("it is about another ledger", path=path, field="ledger", found=statement["ledger"])
            counted, stated = journal.snapshots[size], statement["liabilities"]
            for asset in sorted(counted.keys() | stated.keys()):
                right = str(counted.get(asset, 0))
                if stated.get(asset, "0") != right:
                    place = {"path": path, "field": f"liabilities.{asset}", "seq": size - 1}
                    verdict.fail(
                        "the events come to another sum", expected=right, found=stated.get(asset, "0"), **place
                    )
        verdict.checked = bool(names)
        verdict.detail = f"{len(self.statements) - before} of {len(self.statements)} are signed by a trusted key"
        if names:
            verdict.detail += (
                f" ({', '.join(sorted(names))}): liabilities recomputed from the events, reserves not checked"
            )


def hash_empty() -> bytes:
    return hashlib.sha256(b"").digest()


def key_text(key: Key) -> str:
    return f"{key.name}+{key.id.hex()}+{base64.b64encode(bytes([key.type]) + key.key).decode()}"


def _event_of(receipt: Receipt | None) -> Event:
    try:
        event, failures = parse_event(receipt.body if receipt else b"{}")
    except Bad:
        return {}
    return {} if failures or check_fields(event) else event


def _opened(receipt: Receipt) -> tuple[Checkpoint, Receipt]:
    return receipt.checkpoint, receipt


def _check_manifest(manifest: dict[str, Any]) -> None:
    """Raises Bad unless these are the fields of a bundle's manifest."""
    kinds = {"format": str, "ledger": str, "origin": str, "profile": int, "size": int, "root": str}
    kinds.update(window=dict, files=dict)
    for name, kind in kinds.items():
        _require(type(manifest.get(name)) is kind, "it is missing or of the wrong type", name, found=manifest.get(name))
    _require(manifest.keys() == kinds.keys(), "there is a field that the format does not know")
    _require(manifest["format"] == "tallystick.bundle.v1", "another format", "format", found=manifest["format"])
    _require(manifest["profile"] == PROFILE, "another profile", "profile", PROFILE, manifest["profile"])
    window, size = manifest["window"], manifest["size"]
    right = window.keys() == {"first", "end"} and all(type(number) is int for number in window.values())
    _require(
        right and 0 <= window["first"] <= window["end"] <= size, "it is no window of the log", "window", found=window
    )
    _require(window["first"] < window["end"] or not size, "it is empty, and the log is not", "window", found=window)
    for path, digest in manifest["files"].items():
        right = isinstance(digest, str) and _HASH.fullmatch(digest) is not None and _is_inside(path)
        _require(right, "it is no path with its SHA-256", "files", found=path)


ATTESTATION = "application/vnd.tallystick.attestation.v1+json"


def open_envelope(data: bytes, keys: Iterable[Key]) -> tuple[dict[str, Any], list[Key]]:
    """The statement in a DSSE envelope, and which of these keys signed it: one at least. Raises Bad."""
    envelope = json.loads(data.decode(), object_pairs_hook=_without_twins)
    _require(isinstance(envelope, dict), "it is no DSSE envelope")
    _require(isinstance(envelope.get("payloadType"), str), "it is no DSSE envelope", "payloadType")
    payload, kind = _base64(envelope["payload"], "the payload"), envelope["payloadType"]
    _require(kind == ATTESTATION, "it is no attestation that this verifier knows", "payloadType", ATTESTATION, kind)
    head = f"DSSEv1 {len(kind.encode())} {kind} {len(payload)} ".encode()
    signatures = [_base64(signature["sig"], "a signature") for signature in envelope["signatures"][:16]]
    logs = [key for key in dict.fromkeys(keys) if key.type == ED25519][:16]
    signers = [key for key in logs if any(check_ed25519(key.key, head + payload, one) for one in signatures)]
    _require(bool(signers), "no trusted key of the log signed it", "signatures")
    statement, failures = parse_strict(payload)
    _require(not failures, "the statement is not in canonical form", "payload")
    for name, type_ in (("ledger", str), ("size", int), ("liabilities", dict)):
        _require(type(statement.get(name)) is type_, "it is missing or of the wrong type", name)
    for asset, amount in statement["liabilities"].items():
        right = isinstance(amount, str) and re.fullmatch("0|[1-9][0-9]{0,37}", amount) is not None
        _require(right, "it is no amount", f"liabilities.{asset}", found=amount)
    return statement, signers


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    _require(len(found) == len(pairs), "a key stands twice in it")
    return found


def verify(source: Source, name: str, evidence: Evidence | None = None) -> Report:
    """Verify a bundle or published log. Raises Usage if there is none.

    What comes from outside is read by its bytes: that they do not lie in the bundle itself is for the caller to see to.
    """
    verifier = Verifier(source, name, evidence or Evidence())
    try:
        return verifier.run()
    except Usage:
        raise
    except Exception as error:
        # A bundle comes from anyone: whatever was not foreseen in reading it counts against it, and is no crash.
        known = str(error) if isinstance(error, Late) else f"unexpected: the bundle: {type(error).__name__}: {error}"
        for verdict in verifier.of.values():
            verdict.checked, verdict.detail = False, ""
        verifier.of["bytes"].fail(f"it could not be read to its end: {known}")
        return verifier.report


# ---------------------------------------------------------------- the command line


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="verify.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", metavar="DIRECTORY_OR_URL", help="an export bundle, or a published log")
    parser.add_argument(
        "--key", action="append", default=[], metavar="VKEY", help="the log's verifier key, or its file"
    )
    parser.add_argument("--policy", metavar="FILE", help="a tlog-policy: the witnesses that you trust")
    parser.add_argument("--checkpoint", action="append", default=[], metavar="FILE", help="seen of this log before")
    parser.add_argument("--receipt", action="append", default=[], metavar="FILE", help="a receipt (.tlog-proof)")
    parser.add_argument("--token-file", metavar="FILE", help=f"holds a bearer token, for a URL; or set {TOKEN}")
    parser.add_argument("--deadline", type=float, metavar="SECONDS", help="for all of it; a URL has an hour, 0: no end")
    parser.add_argument("--require", default="", metavar="VERDICT,...", help="exit with 1 if one was not checked")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser.parse_args(arguments)


TOKEN = "TALLYSTICK_TOKEN"


def _file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_TEXT + 1)
    except (OSError, ValueError) as error:
        raise Usage(f"{path}: {error}") from None
    if len(data) > MAX_TEXT:
        raise Usage(f"{path} is larger than {MAX_TEXT} bytes")
    return data


def _evidence(options: argparse.Namespace) -> Evidence:
    evidence = Evidence()

    def counts(path: str, why: str = "so it does not count as brought") -> bool:
        inside = os.path.realpath(path).startswith(os.path.join(os.path.realpath(options.source), ""))
        if inside:
            evidence.notes.append(f"{path} comes from the bundle itself, {why}")
        return not inside

    try:
        for given in options.key:
            plain = given.count("+") >= 2 and not os.path.exists(given)
            if plain or counts(given):
                text = given if plain else _text_of(_file(given), given)
                evidence.keys += [parse_key(line) for line in text.split("\n") if line]
        if options.policy:
            counts(options.policy, "so the operator chose its witnesses: it is for you to know them")
            evidence.policy = parse_policy(_file(options.policy))
    except Bad as bad:
        raise Usage(str(bad)) from None
    evidence.checkpoints = [(path, _file(path)) for path in options.checkpoint if counts(path)]
    evidence.receipts = [(path, _file(path)) for path in options.receipt if counts(path)]
    evidence.seconds = options.deadline if options.deadline is not None else TOTAL_SECONDS * _is_url(options.source)
    return evidence


def _is_url(source: str) -> bool:
    return re.match("https?://", source) is not None


def _source(options: argparse.Namespace) -> tuple[Source, str]:
    """Where to read, and its name without what is secret in it."""
    name = options.source
    if _is_url(name):
        token = os.environ.get(TOKEN, "")
        if options.token_file:
            token = _text_of(_file(options.token_file), options.token_file).strip()
        return Site(name, token), re.sub("//[^/?#]*@", "//***@", name)
    if not os.path.isdir(name):
        raise Usage(f"{name} is no directory")
    return Folder(name), name


def _required(options: argparse.Namespace) -> list[str]:
    names = [name for name in options.require.split(",") if name]
    if not set(names) <= set(VERDICTS):
        raise Usage(f"--require takes names of verdicts: {', '.join(VERDICTS)}")
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    options = _arguments(arguments)
    try:
        required = _required(options)
        report = verify(*_source(options), _evidence(options))
        report.required = required
    except (Usage, Bad) as error:
        print(f"verify.py: {_plain(str(error))}", file=sys.stderr)
        return 2
    try:
        print(json.dumps(report.as_json(), indent=2) if options.json else report.as_text(), flush=True)
    except BrokenPipeError:  # whoever reads has read enough; the exit code still tells
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1 if report.failed or report.lacking else 0


if __name__ == "__main__":
    sys.exit(main())
