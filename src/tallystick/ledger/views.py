"""What a ledger answers: frozen values with amounts in minor units and journal times."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from tallystick.accounts import Account, Status
from tallystick.events import Entry, Event


class Posted(Struct, frozen=True, gc=False):
    """A command became an event. ``replayed``: it had before, under the same key, and this is that answer again.

    ``time`` is when it was recorded, ``hash`` the event's leaf hash.
    """

    ledger: str
    seq: int
    hash: str
    time: str
    replayed: bool = False

    @property
    def id(self) -> str:
        """``<ledger>/<seq>``: the id of the transaction, and of the hold, stake or bet that it opened."""
        return f"{self.ledger}/{self.seq}"


class Transaction(Struct, frozen=True):
    """An event of the journal with its leaf hash."""

    event: Event
    hash: str

    @property
    def id(self) -> str:
        return self.event.id

    @property
    def seq(self) -> int:
        return self.event.seq

    @property
    def type(self) -> str:
        return self.event.type

    @property
    def time(self) -> str:
        return self.event.time

    @property
    def effective(self) -> str:
        """When it took effect: its own time unless it was back-dated."""
        return self.event.effective_time

    @property
    def entries(self) -> tuple[Entry, ...]:
        return self.event.entries

    @property
    def refs(self) -> dict[str, str]:
        return self.event.refs

    @property
    def data(self) -> dict[str, Any]:
        return self.event.data

    @property
    def key(self) -> str:
        return self.event.idem

    @property
    def source(self) -> str:
        return self.event.source

    @property
    def actor(self) -> str:
        return self.event.actor


class BalanceView(Struct, frozen=True):
    """The amount in one bucket, and how many entries made it."""

    account: str
    asset: str
    bucket: str
    amount: int
    version: int


class EventPage(Struct, frozen=True):
    """Events that were looked for, as far as was looked: the next page begins ``after`` this sequence number. ``more``:
    there are events behind it, which nobody looked at; a page may be empty and yet have more behind it."""

    items: list[Transaction]
    after: int
    more: bool


class AccountView(Struct, frozen=True):
    """What was declared of an account, with its balances."""

    declared: Account
    balances: list[BalanceView]

    @property
    def address(self) -> str:
        return self.declared.address

    @property
    def status(self) -> Status:
        return self.declared.status

    @property
    def limits(self) -> dict[str, int]:
        return self.declared.limits

    @property
    def ceilings(self) -> dict[str, int]:
        return self.declared.ceilings

    @property
    def owner(self) -> str:
        return self.declared.owner

    @property
    def metadata(self) -> dict[str, str]:
        return self.declared.metadata

    @property
    def opened(self) -> str:
        return self.declared.opened


class Line(Struct, frozen=True):
    """One line of a register: an entry and what it belongs to. ``index`` is its place in the transaction."""

    id: str
    seq: int
    index: int
    hash: str
    time: str
    effective: str
    type: str
    account: str
    asset: str
    bucket: str
    amount: int
    before: int
    after: int
    version: int
    refs: dict[str, str]
    reason: str


class Page(Struct, frozen=True):
    """Lines in order, and the cursor behind which the next page begins; it is empty on the last page."""

    items: list[Line]
    cursor: str


class TrialRow(Struct, frozen=True):
    """A balance in a trial balance: a negative one is a debit, a positive one a credit."""

    account: str
    asset: str
    bucket: str
    debit: int
    credit: int


class TrialBalance(Struct, frozen=True):
    """Every balance that is not zero, and per asset what they add up to, which is zero."""

    rows: list[TrialRow]
    totals: dict[str, int]

    @property
    def is_balanced(self) -> bool:
        return not any(self.totals.values())


class Finding(Struct, frozen=True):
    """Something that is not as it must be."""

    where: str
    problem: str


class Report(Struct, frozen=True):
    """What a check of the whole ledger found. ``seconds`` is how long it took."""

    ledger: str
    events: int
    entries: int
    balances: int
    seconds: float
    head: str
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.findings
