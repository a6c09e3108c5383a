"""Locks: value set aside in a bucket of its owner - holds, stakes, bets on game and members' commitments.

What leaves a lock is paid out or goes back; it never exceeds what is in it. The id of a hold, stake or bet is the id
of the transaction that opened it; a commitment is named by its reference, member and asset.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tallystick.clock import add_seconds, parse_time
from tallystick.commands import (
    BetRollback,
    BetSettlement,
    BetStake,
    Capture,
    CommitmentCancel,
    CommitmentCreate,
    CommitmentFulfil,
    Hold,
    HoldExpire,
    HoldExtend,
    HoldTopUp,
    Leg,
    Release,
    StakeLock,
    StakeRelease,
    StakeSlash,
)
from tallystick.errors import (
    CommitmentsDisabled,
    EmptyTransaction,
    HoldExpired,
    HoldNotExpired,
    HoldNotFound,
    HoldNotOpen,
    InvalidInput,
    MemberNotFound,
    MoveNotAllowed,
    NegativeReserve,
    OverCapture,
    SelfTransfer,
)
from tallystick.events import EVENT_TYPES
from tallystick.kernel.book import Book, Lock
from tallystick.kernel.draft import Draft
from tallystick.kernel.postings import changes_of, check_account, check_amount, check_asset, entries_of

MAX_EXPIRY_SECONDS = 10 * 366 * 86_400


def _lock(book: Book, kind: str, id: str, now: str = "") -> Lock:
    """An open lock; with ``now`` it must not have expired."""
    if not isinstance(id, str) or not id:
        raise InvalidInput(path=kind, problem=f"{id!r} is not the id of a {kind}")
    found: Lock | None = book.get("lock", id)
    if found is None or found.kind != kind:
        raise HoldNotFound(kind=kind, id=id)
    if not found.is_open:
        raise HoldNotOpen(kind=kind, id=id, state=found.state)
    if now and found.expires and found.expires <= now:
        raise HoldExpired(kind=kind, id=id, expires=found.expires)
    return found


def _part(lock: Lock, amount: int | None) -> int:
    """The amount asked for, or all that remains."""
    if amount is None:
        return lock.remaining
    if check_amount(amount, "amount") > lock.remaining:
        raise OverCapture(kind=lock.kind, id=lock.id, remaining=lock.remaining, amount=amount)
    return amount


def _expiry(command: Hold | HoldExtend, now: str, default_seconds: int | None) -> str:
    if command.expires:
        expires = parse_time(command.expires, "expires")
    elif command.expires_in_seconds is not None or default_seconds is not None:
        seconds = command.expires_in_seconds if command.expires_in_seconds is not None else default_seconds
        if not 0 < (seconds or 0) <= MAX_EXPIRY_SECONDS:
            raise InvalidInput(path="expires_in_seconds", problem=f"{seconds} is not 1 to {MAX_EXPIRY_SECONDS}")
        expires = add_seconds(now, seconds or 0)
    else:
        raise InvalidInput(path="expires", problem="say when the hold shall expire")
    if expires <= now:
        raise InvalidInput(path="expires", problem=f"{expires} has passed")
    return expires


def _within(lock: Lock, amount: int, *, into: str, reverse: bool = False) -> Leg:
    """A leg from a lock's bucket to another of the same account; ``reverse``: the other way."""
    ends = (into, lock.bucket) if reverse else (lock.bucket, into)
    return Leg(lock.account, lock.account, lock.asset, amount, *ends)


def _post(
    book: Book, command: Any, type: str, legs: Iterable[Leg], data: dict[str, Any], *, soft: bool = False
) -> Draft:
    entries = entries_of(book, changes_of(book, legs, EVENT_TYPES[type]), conditions=command.conditions, soft=soft)
    return Draft(type, entries, data)


def _check_payee(lock: Lock, account: str, bucket: str) -> None:
    """What is paid out of a lock goes to another account; its owner gets it back by a release."""
    if account == lock.account and bucket == "available":
        raise SelfTransfer(account=account)


# ---------------------------------------------------------------- opening a lock


def _open(book: Book, command: Any, account: str, bucket: Any, data: dict[str, Any], *, soft: bool = False) -> Draft:
    check_account(book, account, "account")
    check_asset(book, command.asset)
    check_amount(command.amount, "amount")
    leg = Leg(account, account, command.asset, command.amount, "available", bucket)
    return _post(book, command, command.event_type, [leg], data, soft=soft)


def decide_hold(book: Book, command: Hold, now: str) -> Draft:
    expires = _expiry(command, now, book.policy.hold_expires_in_seconds)
    return _open(book, command, command.account, "held", {"expires": expires})


def decide_stake_lock(book: Book, command: StakeLock, now: str) -> Draft:
    return _open(book, command, command.account, "bonded", {})


def decide_bet_stake(book: Book, command: BetStake, now: str) -> Draft:
    return _open(book, command, command.account, "held", {})


# ---------------------------------------------------------------- holds


def decide_top_up(book: Book, command: HoldTopUp, now: str) -> Draft:
    lock = _lock(book, "hold", command.hold, now)
    check_amount(command.amount, "amount")
    leg = _within(lock, command.amount, into="available", reverse=True)
    return _post(book, command, "hold_top_up", [leg], {"hold": lock.id})


def decide_extend(book: Book, command: HoldExtend, now: str) -> Draft:
    lock = _lock(book, "hold", command.hold, now)
    return Draft("hold_extend", (), {"hold": lock.id, "expires": _expiry(command, now, None)})


def decide_capture(book: Book, command: Capture, now: str) -> Draft:
    lock = _lock(book, "hold", command.hold, now)
    for split in command.splits:
        _check_payee(lock, split.to_account, split.to_bucket)
    amounts = _amounts(command, lock)
    taken = sum(amounts)
    if taken > lock.remaining:
        raise OverCapture(kind="hold", id=lock.id, remaining=lock.remaining, amount=taken)
    legs = [
        Leg(lock.account, split.to_account, lock.asset, amount, lock.bucket, split.to_bucket)
        for split, amount in zip(command.splits, amounts, strict=True)
    ]
    data: dict[str, Any] = {"hold": lock.id, "taken": str(taken)}
    rest = lock.remaining - taken
    if command.final and rest:
        legs.append(_within(lock, rest, into="available"))
        data["released"] = str(rest)
    return _post(book, command, "capture", legs, data)


def _amounts(command: Capture, lock: Lock) -> list[int]:
    """The amount of each split; the one that names none gets what the others leave."""
    if not command.splits:
        raise EmptyTransaction()
    named = [
        check_amount(split.amount, f"splits[{index}].amount")
        for index, split in enumerate(command.splits)
        if split.amount is not None
    ]
    if len(named) < len(command.splits) - 1:
        raise InvalidInput(path="splits", problem="only one split may take what the others leave")
    rest = lock.remaining - sum(named)
    if len(named) < len(command.splits) and rest <= 0:
        raise OverCapture(kind="hold", id=lock.id, remaining=lock.remaining, amount=sum(named) + 1)
    return [rest if split.amount is None else split.amount for split in command.splits]


def decide_release(book: Book, command: Release, now: str) -> Draft:
    lock = _lock(book, "hold", command.hold)
    part = _part(lock, command.amount)
    return _post(book, command, "release", [_within(lock, part, into="available")], {"hold": lock.id})


def decide_expire(book: Book, command: HoldExpire, now: str) -> Draft:
    lock = _lock(book, "hold", command.hold)
    if not lock.expires or lock.expires > now:
        raise HoldNotExpired(kind="hold", id=lock.id, expires=lock.expires)
    return _post(book, command, "hold_expire", [_within(lock, lock.remaining, into="available")], {"hold": lock.id})


# ---------------------------------------------------------------- stakes


def decide_stake_release(book: Book, command: StakeRelease, now: str) -> Draft:
    lock = _lock(book, "stake", command.stake)
    part = _part(lock, command.amount)
    return _post(book, command, "stake_release", [_within(lock, part, into="available")], {"stake": lock.id})


def decide_stake_slash(book: Book, command: StakeSlash, now: str) -> Draft:
    lock = _lock(book, "stake", command.stake)
    part = _part(lock, command.amount)
    leg = Leg(lock.account, command.to_account, lock.asset, part, lock.bucket, command.to_bucket)
    return _post(book, command, "stake_slash", [leg], {"stake": lock.id})


# ---------------------------------------------------------------- bets


def _bet(book: Book, command: BetSettlement | BetRollback) -> Lock:
    """An open bet of the round that the command names."""
    lock = _lock(book, "bet", command.bet)
    if (command.refs or {}).get("round") != lock.refs["round"]:
        raise InvalidInput(path="refs.round", problem=f"{lock.id} is a bet on round {lock.refs['round']}")
    return lock


def decide_bet_settlement(book: Book, command: BetSettlement, now: str) -> Draft:
    lock = _bet(book, command)
    _check_payee(lock, command.house, "available")
    if type(command.payout) is not int or command.payout < 0:
        raise InvalidInput(path="payout", problem=f"{command.payout!r} is not a whole number from 0")
    legs = [Leg(lock.account, command.house, lock.asset, lock.remaining, lock.bucket, "available")]
    if command.payout:
        legs.append(Leg(command.house, lock.account, lock.asset, command.payout))
    return _post(book, command, "bet_settlement", legs, {"bet": lock.id, "payout": str(command.payout)})


def decide_bet_rollback(book: Book, command: BetRollback, now: str) -> Draft:
    lock = _bet(book, command)
    return _post(book, command, "bet_rollback", [_within(lock, lock.remaining, into="available")], {"bet": lock.id})


# ---------------------------------------------------------------- commitments


def commitment_id(reference: str, member: str, asset: str) -> str:
    """The lock that keeps a member's reserve for a commitment."""
    return f"commitment {reference} {member} {asset}"


def _commitment(book: Book, command: CommitmentFulfil | CommitmentCancel) -> tuple[Lock, int]:
    check_account(book, command.member, "member")
    id = commitment_id((command.refs or {}).get("commitment", ""), command.member, command.asset)
    found: Lock | None = book.get("lock", id)
    remaining = found.remaining if found else 0
    amount = remaining if command.amount is None else check_amount(command.amount, "amount")
    if found is None or amount > remaining or not remaining:
        raise NegativeReserve(account=command.member, reserve=remaining - max(amount, 1))
    return found, amount


def decide_commitment_create(book: Book, command: CommitmentCreate, now: str) -> Draft:
    check_account(book, command.member, "member")
    declared = book.account(command.member)
    if declared is None or command.asset not in declared.limits:
        raise MemberNotFound(account=command.member)
    if book.policy.commitment_mode == "DISABLED":
        raise CommitmentsDisabled()
    id = commitment_id((command.refs or {}).get("commitment", ""), command.member, command.asset)
    book.get("lock", id)  # applying the event adds to an open one, and so must find it in the book
    soft = book.policy.commitment_mode == "SOFT"
    return _open(book, command, command.member, "held", {"commitment": id}, soft=soft)


def decide_commitment_fulfil(book: Book, command: CommitmentFulfil, now: str) -> Draft:
    lock, amount = _commitment(book, command)
    for leg in command.legs:
        if leg.from_bucket != "available":  # held value belongs to some lock, which would not know that it left
            raise MoveNotAllowed(
                type="commitment_fulfil",
                from_account=leg.from_account,
                from_bucket=leg.from_bucket,
                to_account=leg.to_account,
                to_bucket=leg.to_bucket,
            )
    legs = [_within(lock, amount, into="available"), *command.legs]
    return _post(book, command, "commitment_fulfil", legs, {"commitment": lock.id, "freed": str(amount)})


def decide_commitment_cancel(book: Book, command: CommitmentCancel, now: str) -> Draft:
    lock, amount = _commitment(book, command)
    leg = _within(lock, amount, into="available")
    return _post(book, command, "commitment_cancel", [leg], {"commitment": lock.id, "freed": str(amount)})
