"""The tool that checks evidence: a receipt that somebody shows, or where the ledger itself stands.

A receipt is checked by the service, which also knows whether its log extends the receipt's checkpoint. A checkpoint is
checked here: who signed it, and, if it is an older one, that the log as it stands now begins with what it covers.
Whoever names no key trusts the service to say which its keys are, and the answer says so.
"""

from __future__ import annotations

import base64
import uuid
from typing import Any

from tallystick.agents.reading import Misused
from tallystick.agents.requests import Desk, Refused
from tallystick.agents.schemas import COUNT, LEDGER, MAX_KEYS, MAX_RECEIPT, TEXT, list_of, object_of, text
from tallystick.agents.tool import Answer, Tool
from tallystick.errors import NoteInvalid, ProofInvalid
from tallystick.journal.merkle import check_consistency
from tallystick.journal.notes import VerifierKey
from tallystick.journal.receipts import check_checkpoint

NOT_FOUND = 404


async def _verify(desk: Desk, given: dict[str, Any]) -> Answer:
    if "receipt" in given and "checkpoint" in given:
        raise Misused("Name either `receipt` or `checkpoint`; without both, the ledger's newest checkpoint is checked.")
    trusted = "the keys that were named" if given.get("keys") else "the keys that the service itself names"
    if "receipt" in given:
        return {**await _check_receipt(desk, given), "trusted": trusted}
    return {**await _check_checkpoint(desk, given), "trusted": trusted}


async def _check_receipt(desk: Desk, given: dict[str, Any]) -> Answer:
    body = {"receipt": given["receipt"], "keys": given.get("keys", [])}
    found = await desk.post(desk.path(given.get("ledger", ""), "verify"), body, f"verify-{uuid.uuid4()}")
    answer = {name: found[name] for name in _FOUND if name in found}
    if "transaction" in found:
        answer["transaction_id"] = found["transaction"]
    return answer


async def _check_checkpoint(desk: Desk, given: dict[str, Any]) -> Answer:
    ledger = given.get("ledger", "")
    try:
        keys = [_key(line) for line in given.get("keys") or (await desk.get(desk.path(ledger, "log")))["keys"]]
        newest = await desk.get(desk.path(ledger, "checkpoints/latest"))
    except Refused as refused:
        if refused.problem.status != NOT_FOUND:
            raise
        problem = "This ledger shows no log here, or no checkpoint yet; only receipts can be checked."
        raise Misused(problem) from None
    try:
        now, _ = check_checkpoint(newest["checkpoint"].encode(), keys)
        if "checkpoint" not in given:
            return _signed(now, newest["checkpoint"])
        then, _ = check_checkpoint(given["checkpoint"].encode(), keys)
        if then.origin != now.origin:
            return _refused(f"it is of the log {then.origin}, and this ledger's is {now.origin}")
        if then.size > now.size:
            return _refused(f"it covers {then.size} events, and the ledger's newest checkpoint only {now.size}")
        if then.size:
            query = {"old": str(then.size), "new": str(now.size)}
            found = await desk.get(desk.path(ledger, "proofs/consistency"), **query)
            hashes = [base64.b64decode(text) for text in found["hashes"]]
            check_consistency(then.size, now.size, then.root, now.root, hashes)
        return _signed(then, given["checkpoint"])
    except (NoteInvalid, ProofInvalid) as error:
        return _refused(str(error))


def _key(line: str) -> VerifierKey:
    try:
        return VerifierKey.parse(line)
    except NoteInvalid as error:
        raise Misused(f"`keys`: {error}") from None


def _signed(found: Any, note: str) -> Answer:
    return {"verdict": "signed", "origin": found.origin, "size": found.size, "checkpoint": note}


def _refused(problem: str) -> Answer:
    return {"verdict": "refused", "problem": problem}


_FOUND = {
    "verdict": text(
        "included: the transaction is in the log. accepted: the log only promises to include it. signed: the "
        "checkpoint is the log's, and the log still begins with what it covers. refused: it "
        "proves nothing, do not rely on it.",
        enum=["included", "accepted", "signed", "refused"],
    ),
    "problem": text("Why it was refused."),
    "origin": text("The log's name."),
    "seq": COUNT,
    "type": TEXT,
    "time": TEXT,
    "hash": TEXT,
    "size": {**COUNT, "description": "How many events the checkpoint covers."},
    "promise_by": text("When the log will have included it."),
}

VERIFY = Tool(
    name="verify",
    title="Check a receipt or a checkpoint",
    description=(
        "Check a receipt that somebody shows, an older checkpoint, or (with neither) the ledger's newest checkpoint. "
        "Name the log's `keys` if you have them from a source that you trust; else the service's own word is taken for "
        "them, and `trusted` says so. Only a verdict other than `refused` proves anything."
    ),
    asks=object_of(
        {
            "receipt": text("A receipt's text, every character of it.", minLength=1, maxLength=MAX_RECEIPT),
            "checkpoint": text("A checkpoint's text, every character of it.", minLength=1, maxLength=MAX_RECEIPT),
            "keys": list_of(
                text("A verifier key, as name+id+base64."),
                "Whom to trust: the log's verifier keys.",
                minItems=1,
                maxItems=MAX_KEYS,
            ),
            "ledger": LEDGER,
        },
        optional=("receipt", "checkpoint", "keys", "ledger"),
    ),
    answers=object_of(
        {**_FOUND, "transaction_id": TEXT, "checkpoint": TEXT, "trusted": text("Whose keys were trusted.")},
        optional=tuple(name for name in (*_FOUND, "transaction_id", "checkpoint") if name != "verdict"),
    ),
    work=_verify,
)
