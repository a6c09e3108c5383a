"""State: accounts, limits, policy and the records that a ledger keeps; no value moves, except when an account ends."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from tallystick.accounts import Account, check_address, role_of
from tallystick.clock import parse_time
from tallystick.commands import (
    CloseAccount,
    ClosePeriod,
    DefineAsset,
    DefineType,
    ExcludeAccount,
    FreezeAccount,
    IssueAttestation,
    OpenAccount,
    OpenLedger,
    RecordReserve,
    RotateKey,
    SetLimit,
    SetPolicy,
    UnfreezeAccount,
)
from tallystick.errors import (
    AccountExists,
    AccountNotActive,
    AccountNotEmpty,
    AccountNotFound,
    InvalidInput,
    LimitOutOfBounds,
)
from tallystick.events import EVENT_TYPES, REFERENCES, Entry
from tallystick.kernel.book import Book, Policy
from tallystick.kernel.draft import Draft
from tallystick.kernel.postings import Changes, check_account, check_asset, entries_of
from tallystick.money import MAX_AMOUNT, split_asset

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_LEDGER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}\Z")
_RESERVE = re.compile(r"[A-Za-z0-9_.:\-]{1,128}\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_PARTIES = ("holder", "treasury", "clearing")


def check_ledger_name(name: str) -> str:
    """The name itself if it may name a ledger; raises InvalidInput."""
    if not isinstance(name, str) or not _LEDGER.match(name):
        raise InvalidInput(path="ledger", problem=f"{name!r} is not a name of letters, digits, _ . - (64 at most)")
    return name


def decide_ledger_opened(book: Book, command: OpenLedger, now: str) -> Draft:
    if book.seq:
        raise InvalidInput(path="name", problem="the ledger is open already")
    if check_ledger_name(command.name) != book.name:
        raise InvalidInput(path="name", problem=f"this is the book of {book.name}")
    return Draft("ledger_opened", (), {"name": command.name, "policy": changed_policy(Policy(), command.policy)})


def decide_policy(book: Book, command: SetPolicy, now: str) -> Draft:
    if not command.changes:
        raise InvalidInput(path="changes", problem="name at least one rule to change")
    return Draft("policy_set", (), {"policy": changed_policy(book.policy, command.changes)})


def changed_policy(policy: Policy, changes: dict[str, Any]) -> dict[str, Any]:
    """The fields of a policy with these changes. Raises InvalidInput, naming the rule that is wrong."""
    fields = msgspec.structs.asdict(policy)
    for name, value in changes.items():
        if name not in fields:
            raise InvalidInput(path=f"policy.{name}", problem=f"there is no such rule; there are {', '.join(fields)}")
        fields[name] = value
    try:
        new = msgspec.convert(fields, Policy)
    except msgspec.ValidationError as error:
        raise InvalidInput(path="policy", problem=str(error)) from None
    numbers = {name: value for name, value in fields.items() if type(value) is int}
    for name, value in numbers.items():
        if not 0 <= value <= 2**53 - 1:
            raise InvalidInput(path=f"policy.{name}", problem=f"{value} is not 0 to 2^53-1")
    if not new.limit_min <= new.limit_default <= new.limit_max:
        raise InvalidInput(path="policy.limit_default", problem="limit_min <= limit_default <= limit_max must hold")
    return fields


# ---------------------------------------------------------------- accounts


def decide_open(book: Book, command: OpenAccount, now: str) -> Draft:
    address = check_address(command.account)
    if book.account(address) is not None:
        raise AccountExists(account=address)
    if command.floorless and role_of(address) != "clearing":
        raise InvalidInput(path="floorless", problem="only a clearing account may be declared without a floor")
    data: dict[str, Any] = {"account": address}
    for asset, limit in command.limits.items():
        _check_limit(book, address, check_asset(book, asset), limit)
    for asset, ceiling in command.ceilings.items():
        check_asset(book, asset)
        _check_size(ceiling, f"ceilings.{asset}")
    for name in ("limits", "ceilings"):
        if getattr(command, name):
            data[name] = {asset: str(value) for asset, value in getattr(command, name).items()}
    if command.floorless:
        data["floorless"] = True
    if command.owner:
        data["owner"] = command.owner
    return Draft("account_opened", (), data)


def decide_freeze(book: Book, command: FreezeAccount, now: str) -> Draft:
    _in_status(book, command.account, "active")
    return Draft("account_frozen", (), {"account": command.account})


def decide_unfreeze(book: Book, command: UnfreezeAccount, now: str) -> Draft:
    _in_status(book, command.account, "frozen")
    return Draft("account_unfrozen", (), {"account": command.account})


def decide_end(book: Book, command: ExcludeAccount | CloseAccount, now: str) -> Draft:
    declared = _in_status(book, command.account, "active", "frozen")
    if command.settle_to:
        check_account(book, command.settle_to, "settle_to")
        if command.settle_to == command.account or role_of(command.settle_to) not in _PARTIES:
            raise InvalidInput(path="settle_to", problem="name another account that can take the balance over")
    changes: Changes = {}
    for asset, bucket, balance in book.balances_of(command.account):
        if not balance.amount:
            continue
        if bucket != "available" or not command.settle_to or role_of(command.account) not in _PARTIES:
            raise AccountNotEmpty(account=command.account, balance=balance.amount, asset=asset, bucket=bucket)
        changes[command.account, asset, "available"] = -balance.amount
        changes[command.settle_to, asset, "available"] = balance.amount
    entries = _settle(book, command, declared, changes) if changes else ()
    return Draft(command.event_type, entries, {"account": command.account})


def _settle(
    book: Book, command: ExcludeAccount | CloseAccount, declared: Account, changes: Changes
) -> tuple[Entry, ...]:
    """A frozen account cannot pay, but ending it settles it: the freeze is over in the same event."""
    if declared.status != "frozen":
        return entries_of(book, changes, conditions=command.conditions)
    was_keeping, mark = book.undo is not None, book.mark()
    try:
        book.put("account", declared.address, msgspec.structs.replace(declared, status="active"))
        return entries_of(book, changes, conditions=command.conditions)
    finally:
        book.rollback(mark)
        if not was_keeping:
            book.keep()


def decide_limit(book: Book, command: SetLimit, now: str) -> Draft:
    check_account(book, command.account, "account")
    declared = book.account(command.account)
    if declared is not None and declared.status in ("excluded", "closed"):
        raise AccountNotActive(account=command.account, status=declared.status)
    check_asset(book, command.asset)
    data: dict[str, Any] = {"account": command.account, "asset": command.asset}
    if command.limit is not None:
        _check_limit(book, command.account, command.asset, command.limit)
        data["limit"] = str(command.limit)
    if command.ceiling is not None:
        data["ceiling"] = str(_check_size(command.ceiling, f"ceilings.{command.asset}"))
    elif command.clear_ceiling:
        data["clear_ceiling"] = True
    if not data.keys() & {"limit", "ceiling", "clear_ceiling"}:
        raise InvalidInput(path="limit", problem="give a limit, a ceiling or clear_ceiling")
    return Draft("limit_set", (), data)


def _in_status(book: Book, address: str, *statuses: str) -> Account:
    """What is declared of an account that exists and is in one of these statuses."""
    check_address(address)
    if not book.exists(address):
        raise AccountNotFound(account=address)
    declared = book.account(address) or Account(address=address)
    if declared.status not in statuses:
        raise AccountNotActive(account=address, status=declared.status)
    return declared


def _check_limit(book: Book, address: str, asset: str, limit: int) -> None:
    """A member's limit lies within the policy's bounds; a clearing account's, which caps its position, need not."""
    _check_size(limit, f"limits.{asset}")
    role = role_of(address)
    if role == "clearing":
        return
    if role != "holder":
        raise InvalidInput(path=f"limits.{asset}", problem=f"{address} can have no debt limit")
    if not book.policy.limit_min <= limit <= book.policy.limit_max:
        raise LimitOutOfBounds(limit=limit, min=book.policy.limit_min, max=book.policy.limit_max)


def _check_size(value: int, path: str) -> int:
    """The value itself if it is an amount that may be zero; raises InvalidInput."""
    if type(value) is not int or not 0 <= value <= MAX_AMOUNT:
        raise InvalidInput(path=path, problem=f"{value!r} is not 0 to 2^63-1 minor units")
    return value


# ---------------------------------------------------------------- records


def decide_asset(book: Book, command: DefineAsset, now: str) -> Draft:
    code, scale = split_asset(command.asset)
    if code in book.scales:
        raise InvalidInput(path="asset", problem=f"{code}/{book.scales[code]} is defined already")
    return Draft(
        "asset_defined", (), {"asset": f"{code}/{scale}" if "/" in command.asset else code, "name": command.name}
    )


def decide_type(book: Book, command: DefineType, now: str) -> Draft:
    if not _NAME.match(command.name):
        raise InvalidInput(path="name", problem=f"{command.name!r} is not a name such as marketplace_sale")
    if command.name in EVENT_TYPES or book.get("type", command.name) is not None:
        raise InvalidInput(path="name", problem=f"{command.name} is defined already")
    base = EVENT_TYPES.get(command.base)
    if base is None or base.by != "post":
        raise InvalidInput(path="base", problem=f"{command.base!r} is not a type that can be posted")
    unknown = [name for name in command.requires if name not in REFERENCES]
    if unknown:
        raise InvalidInput(path="requires", problem=f"{unknown[0]!r} is not one of {', '.join(REFERENCES)}")
    data = {"name": command.name, "base": command.base, "requires": list(command.requires), "summary": command.summary}
    return Draft("type_defined", (), data)


def decide_reserve(book: Book, command: RecordReserve, now: str) -> Draft:
    if not _RESERVE.match(command.reserve):
        raise InvalidInput(
            path="reserve", problem=f"{command.reserve!r} is not an id of 1 to 128 letters, digits, _.:-"
        )
    check_asset(book, command.asset)
    _check_size(command.value, "value")
    if type(command.haircut_bps) is not int or not 0 <= command.haircut_bps <= 10_000:
        raise InvalidInput(path="haircut_bps", problem=f"{command.haircut_bps!r} is not 0 to 10000 basis points")
    data: dict[str, Any] = {
        "reserve": command.reserve,
        "asset": command.asset,
        "value": str(command.value),
        "haircut_bps": command.haircut_bps,
    }
    if command.provider:
        data["provider"] = command.provider
    if command.valid_until:
        data["valid_until"] = parse_time(command.valid_until, "valid_until")
    return Draft("reserve_recorded", (), data)


def decide_attestation(book: Book, command: IssueAttestation, now: str) -> Draft:
    if not _DIGEST.match(command.digest):
        raise InvalidInput(path="digest", problem="a digest is 64 hexadecimal digits (SHA-256)")
    for name in command.statement:
        if not name.isascii() or not name.isprintable() or not 0 < len(name) <= 64:
            raise InvalidInput(path="statement", problem=f"{name!r} is not a name of 1 to 64 ASCII characters")
    return Draft("attestation_issued", (), {"digest": command.digest, "statement": dict(command.statement)})


def decide_period(book: Book, command: ClosePeriod, now: str) -> Draft:
    until = parse_time(command.until, "until")
    if until > now:
        raise InvalidInput(path="until", problem=f"{until} is later than now, {now}")
    closed = book.get("period", "closed")
    if closed is not None and until <= closed.id:
        raise InvalidInput(path="until", problem=f"the books are closed up to {closed.id} already")
    return Draft("period_closed", (), {"until": until})


def decide_key(book: Book, command: RotateKey, now: str) -> Draft:
    if not command.public_key or not command.public_key.isascii() or len(command.public_key) > 4_096:
        raise InvalidInput(path="public_key", problem="a key is 1 to 4096 ASCII characters")
    return Draft("key_rotated", (), {"public_key": command.public_key})
