"""The chain: each event names the leaf hash of the one before.

The leaf hash is that of RFC 6962, SHA-256(0x00 || bytes), so the chain is level 0 of the Merkle tree over the same
events, and the two can never disagree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from json.encoder import encode_basestring as quoted

import msgspec

from tallystick.errors import LedgerCorrupt
from tallystick.events import GENESIS, Event
from tallystick.journal.canonical import encode_event

__all__ = ["GENESIS", "check_link", "leaf_hash", "seal", "seal_transfers"]


def leaf_hash(body: bytes) -> str:
    """The hash of an event's bytes, in lower-case hex."""
    return hashlib.sha256(b"\0" + body).hexdigest()


def seal(event: Event, prev: str) -> tuple[bytes, str]:
    """The event's canonical bytes behind the hash of the one before, and their own hash. Raises EventTooLarge."""
    body = encode_event(msgspec.structs.replace(event, prev=prev))
    return body, leaf_hash(body)


def seal_transfers(
    moved: Iterable[tuple[str, str, str, str, int, int, int, int, int]],
    *,
    ledger: str,
    source: str,
    actor: str,
    time: str,
    seq: int,
    prev: str,
) -> tuple[list[bytes], list[str]]:
    """The canonical bytes and hashes of a run of bare transfers, from number ``seq`` on behind ``prev``.

    Each is (key, payer, payee, asset, amount, payer's balance before, its version, payee's balance before, its
    version). Written out by hand because it is most of the journal; a test holds it against ``seal``.
    """
    sha256 = hashlib.sha256
    begin = f'{{"actor":{quoted(actor)},' if actor else "{"
    tail = f',"source":{quoted(source)},"time":"{time}","type":"transfer","v":1}}'
    bodies, hashes = [], []
    for key, payer, payee, asset, amount, before, version, before_payee, version_payee in moved:
        body = (
            f'{begin}"entries":[{{"account":"{payer}","after":"{before - amount}","amount":"-{amount}",'
            f'"asset":"{asset}","before":"{before}","bucket":"available","version":{version}}},{{"account":"{payee}",'
            f'"after":"{before_payee + amount}","amount":"{amount}","asset":"{asset}","before":"{before_payee}",'
            f'"bucket":"available","version":{version_payee}}}],"idem":{quoted(key)},"ledger":"{ledger}",'
            f'"prev":"{prev}","seq":{seq}{tail}'
        ).encode()
        prev = sha256(b"\0" + body).hexdigest()
        bodies.append(body)
        hashes.append(prev)
        seq += 1
    return bodies, hashes


def check_link(event: Event, seq: int, prev: str) -> None:
    """Raises LedgerCorrupt unless this event is number ``seq`` and names ``prev``."""
    if event.seq != seq:
        raise LedgerCorrupt(where=f"event {seq}", problem=f"event {event.seq} is in its place", seq=seq)
    if event.prev != prev:
        raise LedgerCorrupt(
            where=f"event {seq}",
            problem=f"it names {event.prev[:16]}..., but the event before is {prev[:16]}...",
            seq=seq,
        )
