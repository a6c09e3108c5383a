"""Applying: the other half of deciding. Replaying every event from an empty book gives the same book again.

``apply`` reads nothing but the event: what a command meant is in the event, or it is lost. It checks the promises of
the journal (sequence, sums, before and after, versions) and raises LedgerCorrupt where one is broken.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tallystick.accounts import Account
from tallystick.errors import LedgerCorrupt
from tallystick.events import EVENT_TYPES, Event
from tallystick.kernel.book import Book, Lock, Policy, Record, Reversal

_replace = msgspec.structs.replace


def apply(book: Book, event: Event, hash: str = "") -> None:
    """Bring the book past this event. Raises LedgerCorrupt if it cannot be the next one."""
    if event.seq != book.seq:
        raise _corrupt(book, event, f"event {book.seq} was expected")
    if event.time < book.time:
        raise _corrupt(book, event, f"its time {event.time} is before {book.time}")
    if event.ledger != book.name:
        raise _corrupt(book, event, f"it belongs to the ledger {event.ledger}")
    _check_sums(book, event)
    for entry in event.entries:
        before = book.balance(entry.account, entry.asset, entry.bucket)
        if before.amount != entry.before or entry.after != entry.before + entry.amount:
            raise _corrupt(book, event, f"{entry.account} stood at {before.amount}, the entry says {entry.before}")
        if entry.version != before.version + 1:
            raise _corrupt(book, event, f"{entry.account} has version {before.version}, the entry {entry.version}")
        book.set_balance(entry.account, entry.asset, entry.bucket, entry.after, entry.version)
    handler = _HANDLERS.get(event.type)
    if handler is not None:
        handler(book, event)
    elif event.type not in EVENT_TYPES and book.get("type", event.type) is None:
        raise _corrupt(book, event, f"{event.type} is not a type of this ledger")
    book.seq = event.seq + 1
    book.time = event.time
    book.hash = hash


def _check_sums(book: Book, event: Event) -> None:
    """Per asset the entries add up to zero; the common case, two entries of one asset, is told at a glance."""
    entries = event.entries
    if len(entries) == 2 and entries[0].asset == entries[1].asset and entries[0].amount == -entries[1].amount:
        return
    totals: dict[str, int] = {}
    for entry in entries:
        totals[entry.asset] = totals.get(entry.asset, 0) + entry.amount
    for asset, total in totals.items():
        if total:
            raise _corrupt(book, event, f"its entries in {asset} add up to {total}")


def _corrupt(book: Book, event: Event, problem: str) -> LedgerCorrupt:
    return LedgerCorrupt(where=f"event {event.id}", problem=problem, seq=event.seq, ledger=book.name)


# ---------------------------------------------------------------- locks


def _open_lock(book: Book, event: Event) -> None:
    entry = next(entry for entry in event.entries if entry.amount > 0)
    kind = {"hold": "hold", "stake_lock": "stake", "bet_stake": "bet"}[event.type]
    lock = Lock(
        id=event.id,
        kind=kind,  # type: ignore[arg-type]
        account=entry.account,
        asset=entry.asset,
        bucket=entry.bucket,
        amount=entry.amount,
        remaining=entry.amount,
        opened=event.time,
        expires=event.data.get("expires", ""),
        reason=event.data.get("reason", ""),
        refs=event.refs,
    )
    book.put("lock", event.id, lock)


def _top_up(book: Book, event: Event) -> None:
    lock = _lock(book, event, "hold")
    added = sum(entry.amount for entry in event.entries if entry.bucket == lock.bucket)
    book.put("lock", lock.id, _replace(lock, amount=lock.amount + added, remaining=lock.remaining + added))


def _extend(book: Book, event: Event) -> None:
    lock = _lock(book, event, "hold")
    book.put("lock", lock.id, _replace(lock, expires=event.data["expires"]))


def _capture(book: Book, event: Event) -> None:
    _take(book, event, "hold", taken=int(event.data["taken"]), ended="captured", partly="partially_captured")


def _release(book: Book, event: Event) -> None:
    lock = _lock(book, event, "hold")
    _take(book, event, "hold", ended="captured" if lock.taken else "released")


def _expire(book: Book, event: Event) -> None:
    _take(book, event, "hold", ended="expired")


def _stake_release(book: Book, event: Event) -> None:
    lock = _lock(book, event, "stake")
    _take(book, event, "stake", ended="slashed" if lock.taken else "released")


def _stake_slash(book: Book, event: Event) -> None:
    lock = _lock(book, event, "stake")
    _take(book, event, "stake", taken=_leaving(event, lock), ended="slashed", partly="partially_slashed")


def _bet_settlement(book: Book, event: Event) -> None:
    lock = _lock(book, event, "bet")
    _take(book, event, "bet", taken=lock.remaining, ended="settled")


def _bet_rollback(book: Book, event: Event) -> None:
    _take(book, event, "bet", ended="rolled_back")


def _take(book: Book, event: Event, kind: str, *, ended: str, taken: int = 0, partly: str = "") -> None:
    """What left the lock's bucket leaves the lock; ``taken`` of it was paid out, the rest went back."""
    lock = _lock(book, event, kind)
    remaining = lock.remaining - _leaving(event, lock)
    if remaining < 0:
        raise _corrupt(book, event, f"{lock.id} keeps {lock.remaining}, {_leaving(event, lock)} left it")
    state = ended if not remaining else partly or lock.state
    book.put("lock", lock.id, _replace(lock, remaining=remaining, taken=lock.taken + taken, state=state))


def _leaving(event: Event, lock: Lock) -> int:
    return -sum(
        entry.amount for entry in event.entries if entry.account == lock.account and entry.bucket == lock.bucket
    )


def _lock(book: Book, event: Event, kind: str) -> Lock:
    found: Lock | None = book.get("lock", event.data[kind])
    if found is None:
        raise _corrupt(book, event, f"there is no {kind} {event.data[kind]}")
    return found


def _commitment_create(book: Book, event: Event) -> None:
    entry = next(entry for entry in event.entries if entry.amount > 0)
    id = event.data["commitment"]
    lock: Lock | None = book.get("lock", id)
    if lock is None or not lock.is_open:
        lock = Lock(
            id=id,
            kind="commitment",
            account=entry.account,
            asset=entry.asset,
            bucket=entry.bucket,
            amount=entry.amount,
            remaining=entry.amount,
            opened=event.time,
            refs=event.refs,
        )
    else:
        lock = _replace(lock, amount=lock.amount + entry.amount, remaining=lock.remaining + entry.amount)
    book.put("lock", id, lock)


def _commitment_less(book: Book, event: Event) -> None:
    lock = _lock(book, event, "commitment")
    freed = int(event.data["freed"])
    kept = event.type == "commitment_fulfil"
    ended = ("fulfilled" if kept else "cancelled") if freed == lock.remaining else lock.state
    taken = lock.taken + (freed if kept else 0)
    book.put("lock", lock.id, _replace(lock, remaining=lock.remaining - freed, taken=taken, state=ended))


# ---------------------------------------------------------------- repair


def _reversal(book: Book, event: Event) -> None:
    id = event.data["reverses"]
    done: Reversal | None = book.get("reversal", id)
    amounts = dict(done.amounts) if done else {}
    for entry in event.entries:
        name = f"{entry.account} {entry.asset} {entry.bucket}"
        amounts[name] = amounts.get(name, 0) + entry.amount
    book.put("reversal", id, Reversal(id, amounts, (*(done.by if done else ()), event.id)))


def _finalize(book: Book, event: Event) -> None:
    book.put("charge", event.data["charge"], _record(event, event.data["charge"]))


# ---------------------------------------------------------------- accounts


def _opened(book: Book, event: Event) -> None:
    data = event.data
    account = Account(
        address=data["account"],
        limits={asset: int(limit) for asset, limit in data.get("limits", {}).items()},
        ceilings={asset: int(ceiling) for asset, ceiling in data.get("ceilings", {}).items()},
        floorless=data.get("floorless", False),
        owner=data.get("owner", ""),
        metadata=data.get("metadata", {}),
        opened=event.time,
        changed=event.time,
    )
    book.put("account", account.address, account)


def _declared(book: Book, event: Event) -> Account:
    address = event.data["account"]
    return book.account(address) or Account(address=address, opened=event.time)


def _status(status: str) -> Callable[[Book, Event], None]:
    def handler(book: Book, event: Event) -> None:
        account = _replace(_declared(book, event), status=status, changed=event.time)
        book.put("account", account.address, account)

    return handler


def _limit(book: Book, event: Event) -> None:
    data, account = event.data, _declared(book, event)
    limits, ceilings = dict(account.limits), dict(account.ceilings)
    if "limit" in data:
        limits[data["asset"]] = int(data["limit"])
    if "ceiling" in data:
        ceilings[data["asset"]] = int(data["ceiling"])
    elif "clear_ceiling" in data:
        ceilings.pop(data["asset"], None)
    book.put("account", account.address, _replace(account, limits=limits, ceilings=ceilings, changed=event.time))


# ---------------------------------------------------------------- records


def _policy(book: Book, event: Event) -> None:
    book.put("policy", "policy", msgspec.convert(event.data["policy"], Policy))
    if event.type == "ledger_opened":
        book.put("ledger", "opened", _record(event, event.data["name"]))


def _asset(book: Book, event: Event) -> None:
    book.put("asset", event.data["asset"].partition("/")[0], _record(event, event.data["asset"]))


def _type(book: Book, event: Event) -> None:
    book.put("type", event.data["name"], _record(event, event.data["name"]))


def _reserve(book: Book, event: Event) -> None:
    book.put("reserve", event.data["reserve"], _record(event, event.data["reserve"]))


def _attestation(book: Book, event: Event) -> None:
    book.put("attestation", "latest", _record(event, event.data["digest"]))


def _period(book: Book, event: Event) -> None:
    book.put("period", "closed", _record(event, event.data["until"]))


def _key(book: Book, event: Event) -> None:
    book.put("signing_key", "current", _record(event, event.data["public_key"]))


def _record(event: Event, id: str) -> Record:
    return Record(id, event.time, event.data)


_HANDLERS: dict[str, Callable[[Book, Event], None] | None] = {
    **{name: None for name, row in EVENT_TYPES.items() if row.by == "post"},
    "hold": _open_lock,
    "hold_top_up": _top_up,
    "hold_extend": _extend,
    "capture": _capture,
    "release": _release,
    "hold_expire": _expire,
    "stake_lock": _open_lock,
    "stake_release": _stake_release,
    "stake_slash": _stake_slash,
    "bet_stake": _open_lock,
    "bet_settlement": _bet_settlement,
    "bet_rollback": _bet_rollback,
    "commitment_create": _commitment_create,
    "commitment_fulfil": _commitment_less,
    "commitment_cancel": _commitment_less,
    "reversal": _reversal,
    "charge_finalized": _finalize,
    "ledger_opened": _policy,
    "asset_defined": _asset,
    "account_opened": _opened,
    "account_frozen": _status("frozen"),
    "account_unfrozen": _status("active"),
    "account_excluded": _status("excluded"),
    "account_closed": _status("closed"),
    "limit_set": _limit,
    "policy_set": _policy,
    "type_defined": _type,
    "reserve_recorded": _reserve,
    "attestation_issued": _attestation,
    "period_closed": _period,
    "key_rotated": _key,
}

_missing = EVENT_TYPES.keys() - _HANDLERS.keys()
if _missing:  # pragma: no cover - a mistake in this file
    raise ImportError(f"no way to replay: {', '.join(sorted(_missing))}")
