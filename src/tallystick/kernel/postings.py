"""Postings: from legs to entries, and every rule that a change of balance must keep.

A transaction changes each balance once, by the net of its legs, so two movements of one account in one command count
together. A floor is checked only where the net change is downward: an account under a lowered limit can still be paid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tallystick.accounts import Bucket, check_address, role_of
from tallystick.commands import Condition, Leg
from tallystick.errors import (
    AccountFrozen,
    AccountNotActive,
    AccountNotFound,
    AmountOutOfRange,
    AssetNotFound,
    BackdatedOverdraft,
    BalanceOverflow,
    CeilingExceeded,
    ConditionFailed,
    EmptyTransaction,
    EscrowViolation,
    FloorViolation,
    InsufficientFunds,
    InvalidInput,
    MoveNotAllowed,
    ScaleMismatch,
    SelfTransfer,
    Unbalanced,
)
from tallystick.events import MAX_LEGS, Entry, EventType
from tallystick.kernel.book import Book
from tallystick.money import MAX_AMOUNT, split_asset

Changes = dict[tuple[str, str, Bucket], int]
"""The net change of each balance, by (account, asset, bucket), in the order of first mention."""


def check_amount(amount: int, path: str) -> int:
    """The amount itself if it is 1 to 2^63-1; raises AmountOutOfRange."""
    if type(amount) is not int:
        raise InvalidInput(path=path, problem=f"{amount!r} is not a whole number of minor units")
    if not 0 < amount <= MAX_AMOUNT:
        raise AmountOutOfRange(path=path, amount=amount)
    return amount


def check_asset(book: Book, asset: str, met: dict[str, str] | None = None) -> str:
    """The asset itself if this ledger may use it; raises InvalidInput, AssetNotFound or ScaleMismatch.

    One code has one scale and one spelling, or its value would lie in two balances that never meet. ``met`` keeps the
    codes that the command at hand is the first to use, which the book cannot know yet.
    """
    code, scale = split_asset(asset)
    known = book.scales.get(code)
    if known is None:
        if book.policy.strict:
            raise AssetNotFound(asset=asset)
        if met is not None and met.setdefault(code, asset) != asset:
            raise ScaleMismatch(asset=asset, expected=met[code])
    elif known != scale or (not scale and book.get("asset", code).id != asset):  # there may be USD or USD/0, not both
        raise ScaleMismatch(asset=asset, expected=book.get("asset", code).id)
    return asset


def check_account(book: Book, address: str, path: str, *, accepted: bool = False) -> str:
    """The address itself if it may be used; raises InvalidInput, or AccountNotFound in a strict ledger.

    ``accepted``: it need not be declared, because it came by its value before the ledger was strict.
    """
    check_address(address, path)
    if book.policy.strict and not accepted and role_of(address) == "holder" and book.account(address) is None:
        raise AccountNotFound(account=address)
    return address


def changes_of(book: Book, legs: Iterable[Leg], kind: EventType, path: str = "legs") -> Changes:
    """The net changes that the legs of this type of event make. Raises for every leg that the type does not allow."""
    changes: Changes = {}
    met: dict[str, str] = {}
    count = 0
    for count, leg in enumerate(legs, start=1):
        if count > MAX_LEGS:
            raise InvalidInput(path=path, problem=f"a transaction has at most {MAX_LEGS} legs")
        at = f"{path}[{count - 1}]"
        accepted = leg.from_bucket in ("held", "bonded")  # its owner was accepted when the value was set aside
        check_account(book, leg.from_account, f"{at}.from_account", accepted=accepted)
        check_account(
            book, leg.to_account, f"{at}.to_account", accepted=accepted and leg.to_account == leg.from_account
        )
        check_asset(book, leg.asset, met)
        amount = check_amount(leg.amount, f"{at}.amount")
        if leg.from_account == leg.to_account:
            _check_own(kind, leg)
        _check_move(kind, leg)
        debit = (leg.from_account, leg.asset, leg.from_bucket)
        credit = (leg.to_account, leg.asset, leg.to_bucket)
        changes[debit] = changes.get(debit, 0) - amount
        changes[credit] = changes.get(credit, 0) + amount
    if not count:
        raise EmptyTransaction()
    return changes


def entries_of(
    book: Book,
    changes: Mapping[tuple[str, str, Bucket], int],
    *,
    effective: str = "",
    conditions: Iterable[Condition] = (),
    soft: bool = False,
) -> tuple[Entry, ...]:
    """The entries that make these changes, if every rule allows them; ``soft``: a reserve that need not be covered."""
    entries = []
    totals: dict[str, int] = {}
    for (account, asset, bucket), amount in changes.items():
        totals[asset] = totals.get(asset, 0) + amount
        if amount:
            found = book.balance(account, asset, bucket)
            after = found.amount + amount
            if not (-MAX_AMOUNT <= after <= MAX_AMOUNT and -MAX_AMOUNT <= amount <= MAX_AMOUNT):
                raise BalanceOverflow(account=account, asset=asset, bucket=bucket)
            entries.append(Entry(account, asset, bucket, amount, found.amount, after, found.version + 1))
    for asset, total in totals.items():
        if total:
            raise Unbalanced(asset=asset, expected=0, actual=total)
    if not entries:
        raise EmptyTransaction()
    _check_statuses(book, entries)
    for entry in entries:
        if entry.amount < 0:
            _check_floor(book, entry, effective)
        elif entry.bucket == "available":
            _check_ceiling(book, entry, entries)
    _check_members(book, changes, soft)
    check_conditions(book, conditions, {(e.account, e.asset, e.bucket): e for e in entries})
    return tuple(entries)


def check_conditions(
    book: Book, conditions: Iterable[Condition], entries: Mapping[tuple[str, str, str], Entry]
) -> None:
    """Raises ConditionFailed for the first condition that does not hold."""
    for at, condition in enumerate(conditions):
        check_address(condition.account, f"conditions[{at}].account")
        split_asset(condition.asset)
        name = (condition.account, condition.asset, condition.bucket)
        found = book.balance(*name)
        entry = entries.get(name)
        after = entry.after if entry else found.amount
        judged = (
            ("version", condition.version, found.version, found.version == condition.version),
            ("at_least", condition.at_least, after, condition.at_least is None or after >= condition.at_least),
            ("at_most", condition.at_most, after, condition.at_most is None or after <= condition.at_most),
        )
        for word, expected, actual, holds in judged:
            if expected is not None and not holds:
                raise ConditionFailed(
                    account=name[0], asset=name[1], bucket=name[2], condition=word, expected=expected, actual=actual
                )


def floor_of(book: Book, account: str, asset: str, bucket: str) -> int | None:
    """How low a balance may go: 0, -limit for a member's available, or None for no floor at all."""
    if bucket != "available":
        return 0
    if role_of(account) in ("issuance", "external"):
        return None
    declared = book.account(account)
    if declared is None:
        return 0
    if declared.floorless:
        return None
    return -declared.limits.get(asset, 0)


def _check_own(kind: EventType, leg: Leg) -> None:
    """Between its own buckets an account moves value only by a type made for it, or its promo would become money.

    A clearing account holds its domain's fees too, and repair may undo anything.
    """
    made_for_it = kind.group == "repair" or any(move.same_account for move in kind.moves)
    if leg.from_bucket == leg.to_bucket or not (made_for_it or role_of(leg.from_account) == "clearing"):
        raise SelfTransfer(account=leg.from_account)


def _check_move(kind: EventType, leg: Leg) -> None:
    source, target = role_of(leg.from_account), role_of(leg.to_account)
    for move in kind.moves:
        if (
            source in move.from_roles
            and leg.from_bucket in move.from_buckets
            and target in move.to_roles
            and leg.to_bucket in move.to_buckets
            and (not move.same_account or leg.from_account == leg.to_account)
        ):
            return
    raise MoveNotAllowed(
        type=kind.name,
        from_account=leg.from_account,
        from_bucket=leg.from_bucket,
        to_account=leg.to_account,
        to_bucket=leg.to_bucket,
    )


def _check_statuses(book: Book, entries: Iterable[Entry]) -> None:
    """Frozen: nothing may leave (within the account it may move back). Excluded and closed: nothing at all."""
    frozen: dict[str, list[Entry]] = {}
    for entry in entries:
        declared = book.account(entry.account)
        if declared is None or declared.status == "active":
            continue
        if declared.status != "frozen":
            raise AccountNotActive(account=entry.account, status=declared.status)
        frozen.setdefault(entry.account, []).append(entry)
    for account, own in frozen.items():
        for asset in {entry.asset for entry in own}:
            if sum(entry.amount for entry in own if entry.asset == asset) < 0:
                raise AccountFrozen(account=account)
        if any(entry.amount < 0 and entry.bucket == "available" for entry in own):
            raise AccountFrozen(account=account)


def _check_floor(book: Book, entry: Entry, effective: str) -> None:
    floor = floor_of(book, entry.account, entry.asset, entry.bucket)
    if floor is None:
        return
    if entry.after < floor and not (
        entry.bucket == "available" and _limit_of(book, entry.account, entry.asset) is not None
    ):
        raise InsufficientFunds(
            account=entry.account,
            asset=entry.asset,
            bucket=entry.bucket,
            balance=entry.before,
            change=entry.amount,
            floor=floor,
        )
    if effective:
        lowest = book.get("history", (entry.account, entry.asset, entry.bucket, effective)) + entry.amount
        if lowest < floor:
            raise BackdatedOverdraft(
                account=entry.account, asset=entry.asset, balance=lowest, effective=effective, floor=floor
            )


def _limit_of(book: Book, account: str, asset: str) -> int | None:
    declared = book.account(account)
    return declared.limits.get(asset) if declared else None


def _check_members(book: Book, changes: Mapping[tuple[str, str, Bucket], int], soft: bool) -> None:
    """A member's balance is available + held, its reserve the held part.

    ESCROWED: what is available may not go below -limit. SOFT and DISABLED: only the whole balance may not, except that
    value is put on hold or on game only if it is there: an uncovered commitment is a promise, an uncovered bet is not.
    A change upward is always allowed.
    """
    for account, asset in dict.fromkeys((account, asset) for account, asset, _ in changes):
        limit = _limit_of(book, account, asset)
        if limit is None:
            continue
        available_change = changes.get((account, asset, "available"), 0)
        held_change = changes.get((account, asset, "held"), 0)
        change = available_change + held_change
        available = book.balance(account, asset, "available").amount + available_change
        total = available - available_change + book.balance(account, asset, "held").amount + change
        if total < -limit and change < 0:
            raise FloorViolation(account=account, asset=asset, balance=total, limit=limit)
        covered = book.policy.commitment_mode == "ESCROWED" or (held_change > 0 and not soft)
        if covered and available < -limit and available_change < 0:
            raise EscrowViolation(account=account, asset=asset, available=available, limit=limit)


def _check_ceiling(book: Book, entry: Entry, entries: Iterable[Entry]) -> None:
    """A ceiling stops what arrives; what was the account's own already, such as an expired hold, always comes back."""
    declared = book.account(entry.account)
    ceiling = declared.ceilings.get(entry.asset) if declared else None
    if ceiling is None or entry.after <= ceiling:
        return
    if sum(other.amount for other in entries if (other.account, other.asset) == (entry.account, entry.asset)) > 0:
        raise CeilingExceeded(account=entry.account, asset=entry.asset, balance=entry.after, ceiling=ceiling)
