"""Bundles for tests: real events of a real ledger, or altered ones, laid out and signed as an export is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tallystick import verify
from tallystick.journal import merkle
from tallystick.journal.checkpoints import Checkpoint, cosign, sign_checkpoint, with_signatures
from tallystick.journal.notes import COSIGNATURE, ED25519, SecretKey
from tallystick.journal.receipts import Receipt
from tallystick.journal.tiles import Growth, encode_bundle
from tests.support.tiles import bundles_of, tiles_of

ORIGIN = "ledger.example/main"
KEY = SecretKey.from_seed(ORIGIN, b"\1" * 32, ED25519)
OTHER_KEY = SecretKey.from_seed(ORIGIN, b"\2" * 32, ED25519)
WITNESS = SecretKey.from_seed("witness.example/w1", b"\3" * 32, COSIGNATURE)
VKEY = str(KEY.verifier)
NOON = 1_800_000_000

Events = list[dict[str, Any]]


def leaves_of(bodies: Iterable[bytes]) -> list[bytes]:
    return [merkle.hash_leaf(body) for body in bodies]


def checkpoint_of(bodies: Sequence[bytes], key: SecretKey = KEY, *, origin: str = ORIGIN) -> bytes:
    """The signed checkpoint of a log of just these events."""
    return sign_checkpoint(Checkpoint(origin, len(bodies), merkle.root_of(leaves_of(bodies))), key)


def cosigned(note: bytes, witness: SecretKey = WITNESS) -> bytes:
    return with_signatures(note, [cosign(note, witness, NOON)])


def receipt_of(bodies: Sequence[bytes], seq: int, key: SecretKey = KEY) -> bytes:
    """The receipt of one event under the checkpoint of these."""
    leaves = leaves_of(bodies)

    def read(nodes: Sequence[tuple[int, int]]) -> list[bytes]:
        return [merkle.root_of(leaves[index << level : (index + 1) << level]) for level, index in nodes]

    proof = tuple(merkle.inclusion_proof(seq, len(leaves), read))
    return Receipt(seq, proof, checkpoint_of(bodies, key), bodies[seq]).encode()


def events_of(bodies: Iterable[bytes]) -> Events:
    return [json.loads(body) for body in bodies]


def encoded(event: dict[str, Any]) -> bytes:
    return json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def rechained(events: Events) -> list[bytes]:
    """The events written anew, each behind the hash of the one before: all that a forger with the database can do."""
    bodies: list[bytes] = []
    prev = "0" * 64
    for event in events:
        event["prev"] = prev
        bodies.append(encoded(event))
        prev = hashlib.sha256(b"\0" + bodies[-1]).hexdigest()
    return bodies


def forged(bodies: Iterable[bytes], change: Callable[[Events], object]) -> list[bytes]:
    """These events after a change, with a chain that holds."""
    events = events_of(bodies)
    change(events)
    return rechained(events)


def write_bundle(
    folder: Path,
    bodies: Sequence[bytes],
    *,
    ledger: str = "main",
    key: SecretKey = KEY,
    checkpoint: bytes = b"",
    window: tuple[int, int] | None = None,
    opening: dict[str, Any] | None = None,
    kept: Sequence[int] = (),
    files: dict[str, bytes] | None = None,
) -> Path:
    """Lay a bundle of these events out in a folder; ``kept``: the sizes of older checkpoints."""
    first, end = window or (0, len(bodies))
    checkpoint = checkpoint or checkpoint_of(bodies, key)
    vkey = f"{key.verifier}\n".encode()
    written = {"checkpoint": checkpoint, "log.vkey": vkey, f"keys/{ORIGIN.replace('/', '_')}.vkey": vkey}
    written |= _log_files(bodies, first, end)
    written |= {f"checkpoints/{size}": checkpoint_of(bodies[:size], key) for size in kept}
    if opening is not None:
        written["opening.json"] = encoded(opening)
    written |= files or {}
    manifest = {
        "format": "tallystick.bundle.v1",
        "ledger": ledger,
        "origin": ORIGIN,
        "profile": 1,
        "size": len(bodies),
        "root": merkle.root_of(leaves_of(bodies)).hex(),
        "window": {"first": first, "end": end},
        "files": {path: hashlib.sha256(data).hexdigest() for path, data in written.items()},
    }
    written["manifest.json"] = encoded(manifest)
    for path, data in written.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def _log_files(bodies: Sequence[bytes], first: int, end: int) -> dict[str, bytes]:
    growth = Growth()
    growth.extend(leaves_of(bodies))
    files = {tile.path: data for tile, data in growth.take()}
    assert sorted(files) == sorted(tile.path for tile in tiles_of(len(bodies)))
    for bundle in bundles_of(len(bodies)):
        begin = bundle.number * 256
        if begin < end and begin + bundle.width > first:
            files[bundle.path] = encode_bundle(bodies[begin : begin + bundle.width])
    return files


def opening_of(bodies: Sequence[bytes], first: int) -> dict[str, Any]:
    """The balances and open holds before an event, summed up from the entries alone."""
    balances: dict[tuple[str, str, str], tuple[str, int]] = {}
    holds: dict[str, dict[str, Any]] = {}
    for event in events_of(bodies[:first]):
        for entry in event.get("entries", ()):
            balances[entry["account"], entry["asset"], entry["bucket"]] = (entry["after"], entry["version"])
        if event["type"] == "hold":
            held = next(entry for entry in event["entries"] if entry["bucket"] == "held")
            id_ = f"{event['ledger']}/{event['seq']}"
            lock = {"id": id_, "kind": "hold", "account": held["account"], "asset": held["asset"]}
            holds[id_] = {**lock, "left": held["amount"], "expires": event["data"]["expires"]}
        assert event["type"] in ("hold", "mint", "transfer", "ledger_opened", "account_opened", "commitment_create")
    rows = [
        {"account": account, "asset": asset, "bucket": bucket, "amount": amount, "version": version}
        for (account, asset, bucket), (amount, version) in sorted(balances.items())
    ]
    return {"first": first, "balances": rows, "locks": list(holds.values())}


def judged(
    folder: Path,
    *,
    keys: Sequence[str] = (VKEY,),
    policy: bytes = b"",
    checkpoints: Sequence[bytes] = (),
    receipts: Sequence[bytes] = (),
) -> dict[str, Any]:
    """The report about a bundle, as JSON, with the words of its verdicts by name under ``words``."""
    evidence = verify.Evidence([verify.parse_key(key) for key in keys])
    evidence.policy = verify.parse_policy(policy) if policy else None
    evidence.checkpoints = [(f"older {number}", note) for number, note in enumerate(checkpoints)]
    evidence.receipts = [(f"receipt {number}", receipt) for number, receipt in enumerate(receipts)]
    report: dict[str, Any] = verify.verify(verify.Folder(str(folder)), str(folder), evidence).as_json()
    report["words"] = {name: verdict["verdict"] for name, verdict in report["verdicts"].items()}
    return report


def failures(report: dict[str, Any], verdict: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = report["verdicts"][verdict].get("failures", [])
    return found
