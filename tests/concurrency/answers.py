"""What the workers were told, held against what the journals say."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from tests.concurrency.plan import ATOMIC, DRY, JOINED, SHARED, UNDONE
from tests.concurrency.proof import Proof

LOCAL = "local"


def compare(notes: list[list[Any]], proofs: dict[str, Proof], orders: set[tuple[str, str]]) -> list[str]:
    """What does not fit; ``orders`` are the rows that callers wrote in the transactions in which they posted."""
    asked = {line[1]: line for line in notes if line[0] == "asked"}
    told = {line[1]: line[2] for line in notes if line[0] == "told"}
    findings: list[str] = []
    fresh: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    may_be: set[tuple[str, str]] = set()
    may_be_ordered: set[tuple[str, str]] = set()
    for number, (_, _, _, kind, ledger, commands) in asked.items():
        events = proofs[ledger]
        keys = [(command.get("source", LOCAL), command["key"]) for command in commands]
        if kind not in (DRY, UNDONE):
            may_be.update((ledger, key) for source, key in keys if source == LOCAL)
        if kind == JOINED:
            may_be_ordered.update((ledger, key) for _, key in keys)
        if kind in (ATOMIC, JOINED):
            findings += _torn(events, keys)
        if kind == DRY or number not in told:
            continue
        for key, answer in zip(keys, told[number], strict=True):
            by_itself = kind == ATOMIC and keys.count(key) > 1  # in conflict with what was taken back with it
            if answer[-1] != "idempotency_conflict" or not by_itself:
                findings += _misleading(events, ledger, key, answer)
            if answer[0] == "posted" and not answer[4]:
                fresh[(ledger, *key)].append(number)
    findings += [f"{key} was posted anew to each of {who}" for key, who in fresh.items() if len(who) > 1]
    for ledger, proof in proofs.items():
        strangers = {key for source, key in proof.keys if source == LOCAL and (ledger, key) not in may_be}
        findings += [f"{ledger}: nobody asked for {key}" for key in strangers]
    joined = {(ledger, key) for ledger, key in may_be_ordered if (LOCAL, key) in proofs[ledger].keys}
    findings += [f"{row} was posted without the caller's row" for row in joined - orders]
    findings += [f"the caller's row {row} has no posting" for row in orders - joined]
    return findings


def _misleading(events: Proof, ledger: str, key: tuple[str, str], answer: list[Any]) -> list[str]:
    """Whether an answer is not what the journal says of its key."""
    source, name = key
    seq = events.keys.get(key)
    if answer[0] == "posted":
        found = None if seq is None else [seq, events.hashes[seq], events.events[seq]["time"]]
        return [] if found == answer[1:4] else [f"{ledger}: {name} was answered {answer}, it is {found}"]
    if seq is not None and source == LOCAL:
        return [f"{ledger}: {name} was answered {answer}, and it is event {seq}"]
    if answer[-1] == "idempotency_conflict" and seq is None:
        return [f"{ledger}: {name} is in conflict with nothing"]
    if answer[-1] == "idempotency_conflict" and source != SHARED:
        return [f"{ledger}: {name} is in conflict, and nobody else uses it"]
    return []


def _torn(events: Proof, keys: list[tuple[str, str]]) -> list[str]:
    """Whether a batch that is all or nothing is partly there, or has strangers between its events."""
    own = [key for key in keys if key[0] == LOCAL]
    seqs = [events.keys[key] for key in own if key in events.keys]
    if not seqs:
        return []
    known = set(keys)
    between = [events.events[seq] for seq in range(min(seqs), max(seqs) + 1)]
    if len(seqs) != len(own) or seqs != sorted(seqs) or any((e["source"], e["idem"]) not in known for e in between):
        return [f"{events.evidence.ledger}: the batch of {own[0][1]} was torn apart"]
    return []
