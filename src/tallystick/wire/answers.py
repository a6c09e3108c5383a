"""Answers: what the ledger says, in the form that it has on the wire. Amounts are strings of digits."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from msgspec import Struct, field

from tallystick.accounts import Account, Bucket, Status
from tallystick.ledger.views import AccountView, BalanceView, Line, Posted, Transaction, TrialBalance
from tallystick.wire.amounts import Digits

Item = TypeVar("Item")


class Page(Struct, Generic[Item], frozen=True):
    """Some of a list, in order. ``cursor`` leads to the next page, with the same filters; it is empty on the last."""

    items: list[Item]
    cursor: str = ""


class PostedAnswer(Struct, frozen=True, gc=False):
    """A command became an event: ``id`` is the transaction's, and that of the hold, stake or bet that it opened.

    ``replayed``: it had before, under the same idempotency key, and this is that answer again.
    """

    id: str
    ledger: str
    seq: int
    hash: str
    time: str
    replayed: bool = False


class EntryAnswer(Struct, frozen=True):
    """One signed change of one balance, with the balance before and after it. ``version`` counts from 1.

    Of an account that the key may not see, ``before``, ``after`` and ``version`` are left out.
    """

    account: str
    asset: str
    bucket: Bucket
    amount: Digits
    before: Digits | None = None
    after: Digits | None = None
    version: int | None = None


class TransactionAnswer(Struct, frozen=True):
    """An event of the journal. ``effective`` is when it took effect, ``hash`` its leaf hash, ``prev`` its
    predecessor's."""

    id: str
    ledger: str
    seq: int
    type: str
    time: str
    effective: str
    hash: str
    prev: str
    actor: str
    source: str
    key: str
    refs: dict[str, str]
    entries: list[EntryAnswer]
    data: dict[str, Any]


class BalanceAnswer(Struct, frozen=True):
    """The amount in one bucket, and how many entries made it."""

    account: str
    asset: str
    bucket: Bucket
    amount: Digits
    version: int


class BalancesAnswer(Struct, frozen=True):
    """The balances of one account, bucket by bucket; one that was never used stands at zero and is not listed."""

    ledger: str
    account: str
    balances: list[BalanceAnswer]
    as_of: str = ""
    recorded: str = ""


class AccountAnswer(Struct, frozen=True):
    """What was declared of an account, with its balances. An account that was only used has declared nothing."""

    address: str
    status: Status
    balances: list[BalanceAnswer]
    limits: dict[str, Digits] = field(default_factory=dict)
    ceilings: dict[str, Digits] = field(default_factory=dict)
    floorless: bool = False
    owner: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    opened: str = ""
    changed: str = ""


class LineAnswer(Struct, frozen=True):
    """One line of a register: an entry and its transaction, whose id is ``id``; ``index`` is its place in it."""

    id: str
    seq: int
    index: int
    hash: str
    time: str
    effective: str
    type: str
    account: str
    asset: str
    bucket: Bucket
    amount: Digits
    before: Digits
    after: Digits
    version: int
    refs: dict[str, str]
    reason: str


class LockAnswer(Struct, frozen=True):
    """A hold, stake, bet or commitment: all that was ever put in, what remains, what was taken out of it."""

    id: str
    kind: Literal["hold", "stake", "bet", "commitment"]
    account: str
    asset: str
    bucket: Bucket
    amount: Digits
    remaining: Digits
    taken: Digits
    state: str
    opened: str
    expires: str = ""
    reason: str = ""
    refs: dict[str, str] = field(default_factory=dict)


class TrialRowAnswer(Struct, frozen=True):
    """A balance in a trial balance: a negative one is a debit, a positive one a credit."""

    account: str
    asset: str
    bucket: Bucket
    debit: Digits
    credit: Digits


class TrialBalanceAnswer(Struct, frozen=True):
    """Every balance that is not zero, and per asset what they add up to, which is zero."""

    ledger: str
    rows: list[TrialRowAnswer]
    totals: dict[str, Digits]
    balanced: bool


class AvailableAnswer(Struct, frozen=True):
    """What an account may still spend: what is available and what its limit allows."""

    account: str
    asset: str
    available: Digits


class LedgerAnswer(Struct, frozen=True):
    """Where a ledger stands, and its rules. ``events`` is also the number of the next event."""

    name: str
    events: int
    head: str
    time: str
    policy: dict[str, Any]


class BatchResult(Struct, frozen=True, omit_defaults=True, gc=False):
    """What became of one command of a batch: posted (``id`` and the rest) or refused (``problem``)."""

    status: Literal["posted", "refused"]
    id: str = ""
    seq: int | None = None
    hash: str = ""
    time: str = ""
    replayed: bool = False
    problem: dict[str, Any] | None = None


class BatchAnswer(Struct, frozen=True):
    """What became of a batch: one result for each command, in their order."""

    results: list[BatchResult]


class HealthAnswer(Struct, frozen=True):
    """``alive``: the process answers."""

    status: str


class ReadyAnswer(Struct, frozen=True):
    """What was tried, each ``ok``."""

    status: str
    checks: dict[str, str]


def posted_answer(posted: Posted) -> PostedAnswer:
    return PostedAnswer(posted.id, posted.ledger, posted.seq, posted.hash, posted.time, posted.replayed)


def balance_answer(found: BalanceView) -> BalanceAnswer:
    return BalanceAnswer(found.account, found.asset, found.bucket, str(found.amount), found.version)  # type: ignore[arg-type]


def account_answer(found: AccountView) -> AccountAnswer:
    declared: Account = found.declared
    return AccountAnswer(
        address=declared.address,
        status=declared.status,
        balances=[balance_answer(balance) for balance in found.balances],
        limits={asset: str(value) for asset, value in declared.limits.items()},
        ceilings={asset: str(value) for asset, value in declared.ceilings.items()},
        floorless=declared.floorless,
        owner=declared.owner,
        metadata=declared.metadata,
        opened=declared.opened,
        changed=declared.changed,
    )


def line_answer(line: Line) -> LineAnswer:
    return LineAnswer(
        line.id,
        line.seq,
        line.index,
        line.hash,
        line.time,
        line.effective,
        line.type,
        line.account,
        line.asset,
        line.bucket,  # type: ignore[arg-type]
        str(line.amount),
        str(line.before),
        str(line.after),
        line.version,
        line.refs,
        line.reason,
    )


def lock_answer(lock: Any) -> LockAnswer:
    return LockAnswer(
        id=lock.id,
        kind=lock.kind,
        account=lock.account,
        asset=lock.asset,
        bucket=lock.bucket,
        amount=str(lock.amount),
        remaining=str(lock.remaining),
        taken=str(lock.taken),
        state=lock.state,
        opened=lock.opened,
        expires=lock.expires,
        reason=lock.reason,
        refs=lock.refs,
    )


def transaction_answer(found: Transaction, sees: Any = None) -> TransactionAnswer:
    """``sees`` says of an account whether its balances may be shown (None: all may)."""
    event = found.event
    return TransactionAnswer(
        id=event.id,
        ledger=event.ledger,
        seq=event.seq,
        type=event.type,
        time=event.time,
        effective=event.effective_time,
        hash=found.hash,
        prev=event.prev,
        actor=event.actor,
        source=event.source,
        key=event.idem,
        refs=event.refs,
        entries=[
            EntryAnswer(
                entry.account,
                entry.asset,
                entry.bucket,
                str(entry.amount),
                *((str(entry.before), str(entry.after), entry.version) if sees is None or sees(entry.account) else ()),
            )
            for entry in event.entries
        ],
        data=event.data,
    )


def trial_balance_answer(ledger: str, found: TrialBalance) -> TrialBalanceAnswer:
    return TrialBalanceAnswer(
        ledger=ledger,
        rows=[
            TrialRowAnswer(row.account, row.asset, row.bucket, str(row.debit), str(row.credit))  # type: ignore[arg-type]
            for row in found.rows
        ],
        totals={asset: str(total) for asset, total in found.totals.items()},
        balanced=found.is_balanced,
    )
