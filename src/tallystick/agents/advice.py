"""Advice: what an agent is told when something was refused, or when nobody knows whether it was done.

A problem's code decides what to do next. Three things matter above all: whether anything was done, whether the same
call may be repeated, and with which idempotency key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tallystick.agents.requests import NoAnswer
from tallystick.wire.problems import Problem

MAX_DETAIL = 1_000
UNKNOWN_STATUS = 500
"""From this status on, without a promise that it may be repeated, it is not known whether a write was done."""
WAIT_SECONDS = 1

Arguments = Mapping[str, Any]
Advice = Callable[[dict[str, Any], Arguments], str]

SAME = "Do not repeat the call as it is: the answer would be the same."


class Doubt(Exception):
    """What the service answered does not fit together; nobody should rely on it."""


def _insufficient(data: dict[str, Any], given: Arguments) -> str:
    if "balance" not in data:
        return f"{SAME} Ask whoever owns {data.get('account', 'the account')}."
    there = f"There are {data['balance']} {data['asset']} in {data['bucket']} of {data['account']}, in minor units."
    less = "" if data["balance"] == "0" else "ask for no more than that, or "
    return f"{there} Do not retry with the same amount: {less}wait until the account is funded (`balance` shows it)."


def _limit(data: dict[str, Any], given: Arguments) -> str:
    return (
        f"{SAME} The account {data.get('account', '')} may not go further into debt than {data.get('limit', 'this')}: "
        "look with `balance` (name the asset: `spendable` is what it may still pay), and ask for less."
    )


def _conflict(data: dict[str, Any], given: Arguments) -> str:
    key = data.get("key") or given.get("idempotency_key", "")
    found = data.get("transaction", "")
    return (
        f"The idempotency_key {key!r} was used for another request, which was done as {found}. Look at it with `find` "
        f'({{"transaction_id": "{found}"}}) before you do anything else: if it is what you want, you are done. If you '
        "want something else beside it, use a new key."
    )


def _mandate(data: dict[str, Any], given: Arguments) -> str:
    asked, left, limit = data.get("asked", ""), data.get("left", ""), data.get("limit", "")
    if data.get("per") == "act":
        return (
            f"The mandate of this key allows at most {limit} in one act; {asked} was asked for. Do not split one "
            "payment into several to get around that: ask your principal, or pay no more than that."
        )
    return (
        f"The mandate of this key allows {limit} a day; {left} is left until {data.get('resets', 'tomorrow')}, and "
        f"{asked} was asked for. Ask for at most {left}, or come back after that time, or ask your principal."
    )


def _forbidden(data: dict[str, Any], given: Arguments) -> str:
    return "Do not retry, and do not look for another way: ask the operator of this ledger to allow it, or do without."


def _unknown(data: dict[str, Any], given: Arguments) -> str:
    return (
        "Do not retry. The token of this connection is missing, wrong, expired or revoked: ask the person who runs "
        "you for a new one. Nothing was done."
    )


def _not_open(data: dict[str, Any], given: Arguments) -> str:
    return (
        f"The hold is {data.get('state', 'not open')} already, so nothing is left in it. If you do not know who did "
        "that, look with `find` under the idempotency_key that you used, or with `statement`. To set an amount aside "
        "again, use `freeze`."
    )


def _hold_expired(data: dict[str, Any], given: Arguments) -> str:
    return (
        f"The hold expired at {data.get('expires', 'its time')}, and its amount went back to its owner. It cannot "
        "be captured any more: `freeze` the amount again, with a new idempotency_key."
    )


def _over_capture(data: dict[str, Any], given: Arguments) -> str:
    return (
        f"The hold keeps {data.get('remaining', 'less')}. Ask for at most that, or leave `amount` out to take all that "
        "is left; what costs more needs another `freeze`."
    )


def _missing(data: dict[str, Any], given: Arguments) -> str:
    return (
        "Check the name: an id is `<ledger>/<number>` as a tool answered it, an account is written exactly as it was "
        "opened. It may also be there and not be yours to see. Do not repeat the call as it is."
    )


def _not_covered_yet(data: dict[str, Any], given: Arguments) -> str:
    return "It is done, and its receipt comes with the next checkpoint."


def _no_log(data: dict[str, Any], given: Arguments) -> str:
    return "This ledger keeps no log here, so there are no receipts and checkpoints: do not ask for them again."


def _input(data: dict[str, Any], given: Arguments) -> str:
    return "Nothing was done. Correct what is named, and call again; the same idempotency_key may be used."


def _frozen(data: dict[str, Any], given: Arguments) -> str:
    return f"{SAME} The account may not pay now; its operator can change that."


def _locked(data: dict[str, Any], given: Arguments) -> str:
    return (
        "Another process is writing this ledger file. If it stays so, tell the person who runs you: several agents "
        "share a ledger through one service (`tally serve`, and `tally mcp --url`)."
    )


def _condition(data: dict[str, Any], given: Arguments) -> str:
    return "Others were faster: the balance moved while this was decided. Nothing was done."


_ADVICE: dict[str, Advice] = {
    "insufficient_funds": _insufficient,
    "floor_violation": _limit,
    "escrow_violation": _limit,
    "idempotency_conflict": _conflict,
    "mandate_exceeded": _mandate,
    "forbidden": _forbidden,
    "unauthenticated": _unknown,
    "hold_not_open": _not_open,
    "hold_expired": _hold_expired,
    "over_capture": _over_capture,
    "not_found": _missing,
    "hold_not_found": _missing,
    "transaction_not_found": _missing,
    "account_not_found": _missing,
    "ledger_not_found": _missing,
    "asset_not_found": _missing,
    "not_covered_yet": _not_covered_yet,
    "log_not_found": _no_log,
    "invalid_input": _input,
    "amount_out_of_range": _input,
    "scale_mismatch": _input,
    "self_transfer": _input,
    "account_frozen": _frozen,
    "account_not_active": _frozen,
    "condition_failed": _condition,
    "ledger_locked": _locked,
}


def advise(tool: str, writes: bool, problem: Problem, given: Arguments) -> str:
    """What an agent is told of a problem: what it is, whether anything was done, and what to do next."""
    lines = [f"`{tool}` was not done: {problem.detail[:MAX_DETAIL]}" if writes else problem.detail[:MAX_DETAIL]]
    unsure = writes and not problem.retryable and problem.status >= UNKNOWN_STATUS
    if unsure:
        lines[0] = f"It is not certain whether `{tool}` was done: {problem.detail[:MAX_DETAIL]}"
    told = _ADVICE.get(problem.code)
    if told is not None:
        lines.append(told(problem.data, given))
    if problem.retryable:
        lines.append(_again(writes, problem.retry_after_seconds or WAIT_SECONDS, given))
    elif unsure:
        lines.append(_look(given))
    elif told is None:
        lines.append(SAME)
    lines.append(f"(code {problem.code}{f', request {problem.request_id}' if problem.request_id else ''})")
    return "\n".join(lines)


def advise_on_doubt(doubt: Doubt) -> str:
    """What an agent is told of an answer that nobody should rely on."""
    return (
        f"The ledger's answer does not add up: {doubt}. Nothing was changed. Repeat the call once; if it happens "
        "again, rely on nothing and tell the operator of this ledger."
    )


def advise_unanswered(tool: str, writes: bool, reason: NoAnswer, given: Arguments) -> str:
    """What an agent is told when the service did not answer."""
    if not writes:
        return f"The ledger's service did not answer ({reason}). Nothing was changed.\n" + _again(False, 5, given)
    return (
        f"The ledger's service did not answer ({reason}), so it is not known whether `{tool}` was done.\n"
        f"{_again(True, 5, given)} Or ask `find` with that key whether it was done."
    )


def _again(writes: bool, seconds: int, given: Arguments) -> str:
    wait = f"Wait {seconds} second{'s' if seconds != 1 else ''}, then repeat the same call"
    if not writes:
        return f"{wait}."
    return (
        f"{wait} with the SAME idempotency_key {given.get('idempotency_key', '')!r}: it is then done once, however "
        "often you ask. A new key could do it twice."
    )


def _look(given: Arguments) -> str:
    key = given.get("idempotency_key", "")
    return (
        f"Ask `find` with the idempotency_key {key!r}. If it finds nothing, you may repeat the call once with the SAME "
        "key; if that fails too, tell the operator."
    )
