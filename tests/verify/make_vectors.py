"""Writes tests/vectors/profile1: ``python -m tests.verify.make_vectors``. A test holds the files against the ledger.

Everything in them follows from the journey, a clock that starts at 2026-01-01, and keys made of known seeds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tallystick.journal import merkle
from tests.verify.bundles import (
    KEY,
    WITNESS,
    checkpoint_of,
    cosigned,
    events_of,
    leaves_of,
    receipt_of,
)
from tests.verify.forgeries import FORGERIES
from tests.verify.journey import tell

FOLDER = Path(__file__).parents[1] / "vectors" / "profile1"
RECEIPT_OF = 13


def files() -> dict[str, bytes]:
    """The vectors, by file name."""
    told = tell()
    leaves = leaves_of(told.bodies)
    events = events_of(told.bodies)
    expected = {
        "profile": 1,
        "ledger": "main",
        "events": [
            {"seq": event["seq"], "type": event["type"], "hash": leaf.hex()}
            for event, leaf in zip(events, leaves, strict=True)
        ],
        "roots": [merkle.root_of(leaves[:size]).hex() for size in range(len(leaves) + 1)],
        "balances": told.balances,
        "locks": told.locks,
    }
    return {
        "journal.jsonl": b"".join(body + b"\n" for body in told.bodies),
        "expected.json": _pretty(expected),
        "broken.jsonl": b"".join(_line(row) for row in broken(told.bodies)),
        "checkpoint": cosigned(checkpoint_of(told.bodies)),
        "log.vkey": f"{KEY.verifier}\n".encode(),
        "policy": f"log {KEY.verifier}\nwitness w1 {WITNESS.verifier}\nquorum w1\n".encode(),
        "event.tlog-proof": receipt_of(told.bodies, RECEIPT_OF),
    }


def broken(bodies: list[bytes]) -> list[dict[str, Any]]:
    """For each rule an event that breaks it, in the place of event ``seq`` and behind the events before that."""
    rows = []
    for forgery in FORGERIES:
        seq, body = forgery.body(bodies)
        row = {"name": forgery.name, "seq": seq, "event": body.decode()}
        rows.append({**row, "fails": forgery.verdict, "field": forgery.field})
    return rows


def _pretty(value: Any) -> bytes:
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True)
    return f"{text}\n".encode()


def _line(value: Any) -> bytes:
    return f"{json.dumps(value, sort_keys=True, ensure_ascii=True)}\n".encode()


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, data in files().items():
        (FOLDER / name).write_bytes(data)


if __name__ == "__main__":
    main()
