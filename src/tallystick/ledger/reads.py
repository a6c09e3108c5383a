"""Reading a ledger: balances, registers, transactions, locks and the trial balance, now or as of a time.

Two times matter: when something was *recorded* and when it took *effect*. ``recorded=T`` answers with what was known
at T; ``as_of=T`` with what had taken effect by T, as known now; both together with what was known at the one about the
other. Reads never raise for an account that was never used: it stands at zero.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal, Self

import msgspec

from tallystick.accounts import Account, check_address, role_of
from tallystick.clock import Clock, parse_time
from tallystick.erasable import is_commitment
from tallystick.errors import Behind, InvalidInput, TransactionNotFound
from tallystick.events import Event
from tallystick.journal import decode_event, leaf_hash
from tallystick.kernel import Lock, Policy, Record, Reversal
from tallystick.kernel.state import changed_policy
from tallystick.ledger.history import late_changes
from tallystick.ledger.openings import Salts, checked_text, opened
from tallystick.ledger.views import (
    AccountView,
    BalanceView,
    EventPage,
    Line,
    Page,
    Transaction,
    TrialBalance,
    TrialRow,
)
from tallystick.stores.base import EMPTY_HEAD, NO_LIMIT, Head, Store, key_number

MAX_LIMIT = 10_000
"""The most items that one call answers."""

EVENTS_LOOKED_AT = 10_000
"""The most events that one call looks at to find some."""

EVENTS_PER_READ = 1_000
"""How many of them are in memory at a time."""

POLL_SECONDS = 0.02
"""How often a replica is asked whether an event has come."""


class Reads:
    """The reading half of a Ledger."""

    def __init__(self, store: Store, name: str, clock: Clock, policy: dict[str, Any], salts: Salts) -> None:
        self._store = store
        self._name = name
        self._clock = clock
        self._salts = salts
        self._first_policy = policy

    # ------------------------------------------------------------ the ledger

    @property
    def name(self) -> str:
        return self._name

    @property
    def head(self) -> Head:
        """Where the ledger stands: ``seq`` is the next sequence number, ``hash`` the last event's."""
        found = self._store.head(self._name)
        return found if found is not None else EMPTY_HEAD

    @property
    def exists(self) -> bool:
        """Whether anything was ever posted."""
        return self._store.head(self._name) is not None

    def at_least(self, seq: int, *, wait_seconds: float = 5.0) -> Self:
        """This ledger, once it holds event number ``seq``: what was posted elsewhere can be read here from then on.

        For a replica, which runs behind: ``replica.at_least(posted.seq).balance(...)``. Raises Behind if the event has
        not come within ``wait_seconds``.
        """
        deadline = time.monotonic() + wait_seconds
        while (head := self.head).seq <= seq:
            if time.monotonic() >= deadline:
                raise Behind(ledger=self._name, stands=head.seq - 1, needed=seq, seconds=wait_seconds)
            time.sleep(min(POLL_SECONDS, max(deadline - time.monotonic(), 0)))
        return self

    @property
    def policy(self) -> Policy:
        """The rules in force; of a ledger that does not exist yet, those that it will begin with."""
        found: Policy | None = self._store.load_objects(self._name, "policy").get("policy")
        return found or msgspec.convert(changed_policy(Policy(), self._first_policy), Policy)

    # ------------------------------------------------------------ balances

    def balances(self, account: str, *, as_of: str | None = None, recorded: str | None = None) -> list[BalanceView]:
        """Every bucket that the account has used, in minor units."""
        check_address(account)
        return self._balances([account], as_of, recorded)

    def balances_of(self, accounts: Sequence[str]) -> tuple[int, dict[str, list[BalanceView]]]:
        """How many events there are, and every bucket that each of these accounts has used, behind just these events.

        One question to the store however many accounts there are, up to 10,000: many reads together cost each of them
        least. An account that was never used has no balances. Raises InvalidInput.
        """
        if len(accounts) > MAX_LIMIT:
            raise InvalidInput(path="accounts", problem=f"{len(accounts)} are more than {MAX_LIMIT}")
        found: dict[str, list[BalanceView]] = {
            check_address(account, f"accounts[{place}]"): [] for place, account in enumerate(accounts)
        }
        seq, rows = self._store.balances_of(self._name, list(found))
        for account, asset, bucket, balance in rows:
            found[account].append(BalanceView(account, asset, bucket, balance.amount, balance.version))
        return seq, found

    def balance(
        self,
        account: str,
        asset: str,
        bucket: str = "available",
        *,
        as_of: str | None = None,
        recorded: str | None = None,
    ) -> int:
        """One balance in minor units; 0 if it was never used."""
        for found in self.balances(account, as_of=as_of, recorded=recorded):
            if found.asset == asset and found.bucket == bucket:
                return found.amount
        return 0

    def available(self, account: str, asset: str) -> int:
        """What the account may still spend, in minor units: what is available and what its limit allows.

        Raises InvalidInput for an account without a floor, such as ``@issuance``, which may spend without end.
        """
        declared = self._declared(account)
        if role_of(account) in ("issuance", "external") or (declared and declared.floorless):
            raise InvalidInput(path="account", problem=f"{account} has no floor")
        limit = declared.limits.get(asset) if declared else None
        amount = self.balance(account, asset)
        if limit is not None and self.policy.commitment_mode != "ESCROWED":
            amount += self.balance(account, asset, "held")
        return max(amount + (limit or 0), 0)

    def trial_balance(self, *, as_of: str | None = None, recorded: str | None = None) -> TrialBalance:
        """Every balance that is not zero, debits and credits apart, and what each asset adds up to (zero)."""
        rows, totals = [], dict[str, int]()
        for found in self._balances(None, as_of, recorded):
            totals[found.asset] = totals.get(found.asset, 0) + found.amount
            if found.amount:
                debit, credit = max(-found.amount, 0), max(found.amount, 0)
                rows.append(TrialRow(found.account, found.asset, found.bucket, debit, credit))
        return TrialBalance(rows, totals)

    def _balances(self, accounts: Sequence[str] | None, as_of: str | None, recorded: str | None) -> list[BalanceView]:
        before = None
        if recorded is not None:
            before = self._store.seq_at(self._name, parse_time(recorded, "recorded"))
        if as_of is None:
            return self._recorded(accounts, before)
        effective = parse_time(as_of, "as_of")
        first = self._store.seq_at(self._name, effective)
        before = self.head.seq if before is None else before
        if before <= first:
            return self._recorded(accounts, before)
        then = {row[:3]: row[3] for row in self._store.balances(self._name, first, accounts)}
        known = self._store.balances(self._name, before, accounts)
        late = late_changes(
            self._store.backdated(self._name, None if accounts is None else [row[3].id for row in known]),
            effective,
            first,
            before,
        )
        found = []
        for account, asset, bucket, balance in known:
            earlier = then.get((account, asset, bucket))
            if earlier or balance.id in late:
                amount = (earlier.amount if earlier else 0) + late.get(balance.id, 0)
                found.append(BalanceView(account, asset, bucket, amount, balance.version))
        return found

    def _recorded(self, accounts: Sequence[str] | None, before: int | None) -> list[BalanceView]:
        return [
            BalanceView(account, asset, bucket, balance.amount, balance.version)
            for account, asset, bucket, balance in self._store.balances(self._name, before, accounts)
        ]

    # ------------------------------------------------------------ accounts and locks

    def account(self, address: str) -> AccountView | None:
        """What is known of an account, or None if it was neither declared nor used."""
        declared = self._declared(address)
        balances = self.balances(address)
        if declared is None and not balances:
            return None
        return AccountView(declared or Account(address=address), balances)

    def accounts(self, prefix: str = "", *, after: str = "", limit: int = 1_000) -> list[str]:
        """Addresses that begin with ``prefix``, in order, after ``after``; at most ``limit``."""
        if not (_is_text(prefix) and _is_text(after)):
            return []
        return self._store.accounts(self._name, prefix, after, _check_limit(limit))

    def accounts_with_balances(
        self,
        prefix: str = "",
        *,
        after: str = "",
        limit: int = 1_000,
        as_of: str | None = None,
        recorded: str | None = None,
    ) -> list[AccountView]:
        """What is known of each account, as ``accounts`` pages them: the last address is the next page's ``after``."""
        addresses = self.accounts(prefix, after=after, limit=limit)
        declared = self._store.load_objects(self._name, "account", addresses)
        found = {address: AccountView(declared.get(address) or Account(address=address), []) for address in addresses}
        for balance in self._balances(addresses, as_of, recorded) if addresses else ():
            found[balance.account].balances.append(balance)
        return list(found.values())

    def members(self, asset: str) -> list[Account]:
        """The declared accounts of holders that have a debt limit in this asset."""
        declared = self._store.load_objects(self._name, "account")
        return [
            account
            for _, account in sorted(declared.items())
            if asset in account.limits and role_of(account.address) == "holder"
        ]

    def hold_by_id(self, id: str) -> Lock | None:
        """A hold, stake, bet or commitment, or None. One whose time has passed reads as expired, swept or not."""
        found = self._store.load_objects(self._name, "lock", [id]).get(id) if _is_text(id) else None
        return None if found is None else _as_of(found, self.now())

    def locks(
        self, *, kind: str = "", account: str = "", state: str = "", after: str = "", limit: int = 1_000
    ) -> list[Lock]:
        """Holds, stakes, bets and commitments (or one ``kind``), oldest first, after the id ``after``.

        ``state`` is active, partially_captured, captured, released, expired, partially_slashed, slashed, settled,
        rolled_back, fulfilled or cancelled.
        """
        _check_limit(limit)
        page_size = MAX_LIMIT if state else limit
        now = self.now()
        found: list[Lock] = []
        while len(found) < limit:
            page = self._store.locks(self._name, kind=kind, account=account, after=after, limit=page_size)
            read = [_as_of(lock, now) for lock in page]
            found += [lock for lock in read if state in ("", lock.state)][: limit - len(found)]
            if len(page) < page_size:
                break
            after = page[-1].id
        return found

    def due_holds(self, now: str, limit: int) -> list[Lock]:
        """Open holds whose time has passed by ``now``, oldest first."""
        return self._store.locks(self._name, kind="hold", due=now, limit=_check_limit(limit))

    def now(self) -> str:
        """The time that the next posting would bear: a clock that went back does not take the ledger with it."""
        return max(self._clock(), self.head.time)

    def _declared(self, address: str) -> Account | None:
        check_address(address)
        found: Account | None = self._store.load_objects(self._name, "account", [address]).get(address)
        return found

    # ------------------------------------------------------------ transactions

    def transaction(self, id: str | int) -> Transaction:
        """The event with this id (``main/12``) or number. Raises TransactionNotFound."""
        seq = id if isinstance(id, int) else self._seq(id)
        body = self._store.event(self._name, seq) if 0 <= seq < 2**63 else None
        if body is None:
            raise TransactionNotFound(transaction=id)
        return _transaction(body)

    def by_key(self, key: str, source: str = "local") -> Transaction | None:
        """The event that this idempotency key brought about, or None."""
        if not (_is_text(key) and _is_text(source)):
            return None
        number = key_number(source, key)
        for seq in self._store.find_keys(self._name, [number]).get(number, ()):
            found = self.transaction(seq)
            if found.key == key and found.source == source:
                return found
        return None

    def by_reference(self, name: str, value: str, *, after: int = -1, limit: int = 1_000) -> list[Transaction]:
        """The events that bear this causal reference with a sequence number above ``after``, oldest first; at most
        ``limit``."""
        _check_limit(limit)
        if not (_is_text(name) and _is_text(value)):
            return []
        found = self._store.references(self._name, name, value, _check_after(after), limit)
        return [self.transaction(seq) for seq in found]

    def reversal_of(self, id: str) -> Reversal | None:
        """How much of a transaction was undone, and by which; None if nothing was."""
        found: Reversal | None = self._store.load_objects(self._name, "reversal", [id]).get(id)
        return found

    def is_final(self, charge_id: str) -> bool:
        """Whether a captured charge was declared final."""
        return charge_id in self._store.load_objects(self._name, "charge", [charge_id])

    def events(self, after: int = -1, limit: int = 1_000) -> list[Transaction]:
        """The events with a sequence number above ``after``, in order; at most ``limit``."""
        return [_transaction(body) for body in self._store.events(self._name, max(after + 1, 0), _check_limit(limit))]

    def events_page(
        self, *, after: int = -1, limit: int = 1_000, types: Collection[str] = (), account: str = ""
    ) -> EventPage:
        """The events above ``after`` of these ``types`` (none: of all) that an ``account`` has to do with: it has an
        entry, or is what the event is about. Up to ``limit``, in order.

        No more than 10,000 events are looked at in a call: what is rare is found page by page, from ``EventPage.after``
        on. Raises InvalidInput.
        """
        _check_limit(limit)
        first = _check_after(after) + 1
        if account:
            check_address(account)
        marks = [_mark("type", type) for type in types if _is_text(type)]
        named = _mark("account", account) if account else b""
        before = min(self.head.seq, first + EVENTS_LOOKED_AT)
        items: list[Transaction] = []
        while first < before and len(items) < limit:
            for body in self._store.events(self._name, first, min(EVENTS_PER_READ, before - first)):
                first += 1
                # What the bytes do not even hold, no event says: few have to be read to be passed over.
                if named in body and (not marks or any(mark in body for mark in marks)):
                    found = _transaction(body)
                    if (not types or found.type in types) and (not account or _concerns(found.event, account)):
                        items.append(found)
                        if len(items) == limit:
                            break
        return EventPage(items, first - 1, first < self.head.seq)

    # ------------------------------------------------------------ erasable texts

    def opening(self, commitment: str) -> str | None:
        """The text that was committed to, or None if it was erased, or never was. Raises LedgerCorrupt."""
        if not is_commitment(commitment):
            return None
        return checked_text(self._store.openings(self._name, [commitment]).get(commitment))

    def opened(self, transaction: Transaction | Event) -> dict[str, str | None]:
        """The erasable texts of an event, by path (``reason``, ``metadata.<name>``); None for one that was erased.

        Raises LedgerCorrupt for a text that is not what the event committed to.
        """
        event = transaction.event if isinstance(transaction, Transaction) else transaction
        return opened(event, lambda commitments: self._store.openings(self._name, commitments))

    def _seq(self, id: str) -> int:
        ledger, _, seq = str(id).rpartition("/")
        return int(seq) if ledger == self._name and seq.isascii() and seq.isdigit() and len(seq) < 19 else -1

    # ------------------------------------------------------------ the register

    def register(
        self,
        account: str,
        *,
        asset: str = "",
        bucket: str = "",
        start: str | None = None,
        end: str | None = None,
        after: str = "",
        limit: int = 1_000,
    ) -> Page:
        """The entries of an account in order, recorded in [start, end), behind the cursor ``after``."""
        check_address(account)
        _check_limit(limit)
        wanted = {
            number.id: (found_asset, found_bucket)
            for _, found_asset, found_bucket, number in self._store.balances(self._name, None, [account])
            if asset in ("", found_asset) and bucket in ("", found_bucket)
        }
        first = 0 if start is None else self._first_at(start, "start")
        before = self.head.seq if end is None else self._first_at(end, "end")
        seq, index = _read_cursor(after)
        first = max(first, seq)
        # The first event's entries, one of each balance, may have been shown before; one past the limit: there is more.
        rows = self._store.entries(self._name, list(wanted), first, before, limit + len(wanted) + 1)
        lines = [
            line
            for event_seq in sorted({row[2] for row in rows})
            for line in self._lines(event_seq, account, set(wanted.values()))
            if (line.seq, line.index) > (seq, index)
        ]
        more = len(lines) > limit
        lines = lines[:limit]
        return Page(lines, f"{lines[-1].seq}.{lines[-1].index}" if more else "")

    def _first_at(self, time: str, path: str) -> int:
        """The number of the first event recorded at this time or later."""
        just_before = parse_time(time, path)[:-1]  # without its Z it sorts before itself and after all that is earlier
        return self._store.seq_at(self._name, just_before)

    def _lines(self, seq: int, account: str, wanted: Iterable[tuple[str, str]]) -> list[Line]:
        found = self.transaction(seq)
        event: Event = found.event
        return [
            Line(
                id=event.id,
                seq=seq,
                index=index,
                hash=found.hash,
                time=event.time,
                effective=event.effective_time,
                type=event.type,
                account=account,
                asset=entry.asset,
                bucket=entry.bucket,
                amount=entry.amount,
                before=entry.before,
                after=entry.after,
                version=entry.version,
                refs=event.refs,
                reason=event.data.get("reason", ""),
            )
            for index, entry in enumerate(event.entries)
            if entry.account == account and (entry.asset, entry.bucket) in wanted
        ]

    # ------------------------------------------------------------ recorded facts

    def records(self, kind: Literal["asset", "type", "reserve"]) -> list[Record]:
        """What the ledger has recorded of one kind, by id, each as it was recorded last."""
        found: dict[str, Record] = self._store.load_objects(self._name, kind)
        return [found[id] for id in sorted(found)]


def _transaction(body: bytes) -> Transaction:
    return Transaction(decode_event(body), leaf_hash(body))


def _mark(name: str, value: str) -> bytes:
    """How a member is written in every event that has it."""
    return f'"{name}":'.encode() + msgspec.json.encode(value)


def _concerns(event: Event, account: str) -> bool:
    return event.data.get("account") == account or any(entry.account == account for entry in event.entries)


def _as_of(lock: Lock, now: str) -> Lock:
    if lock.is_open and lock.expires and lock.expires <= now:
        return msgspec.structs.replace(lock, state="expired")
    return lock


def _read_cursor(cursor: str) -> tuple[int, int]:
    if not cursor:
        return -1, -1
    seq, _, index = cursor.partition(".")
    if not (seq.isdigit() and index.isdigit() and cursor.isascii() and len(cursor) < 30):
        raise InvalidInput(path="after", problem=f"{cursor!r} is not a cursor")
    return int(seq), int(index)


def _check_after(after: int) -> int:
    if type(after) is not int or not -1 <= after < NO_LIMIT:
        raise InvalidInput(path="after", problem=f"{after!r} is not the number of an event, nor -1")
    return after


def _check_limit(limit: int) -> int:
    if type(limit) is not int or not 0 < limit <= MAX_LIMIT:
        raise InvalidInput(path="limit", problem=f"{limit!r} is not 1 to {MAX_LIMIT}")
    return limit


def _is_text(value: object) -> bool:
    """Whether anything stored could equal this: text without lone surrogates."""
    return isinstance(value, str) and not any(0xD800 <= ord(character) <= 0xDFFF for character in value)
