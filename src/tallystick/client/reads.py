"""Reads: what can be asked of a ledger. Amounts in answers are strings of digits; ``minor(text)`` is the integer.

What answers Pages is walked item by item, over as many pages as there are; all of them show one moment. ``limit`` is
the most items of one page, and ``cursor`` goes on where a page of an earlier walk ended. Times are ISO 8601.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Unpack

from tallystick.accounts import Bucket
from tallystick.client.asking import Ask, Keyed, flow, get, listing, post, read, write
from tallystick.client.following import follow
from tallystick.wire.answers import (
    AccountAnswer,
    AvailableAnswer,
    BalancesAnswer,
    LedgerAnswer,
    LineAnswer,
    LockAnswer,
    TransactionAnswer,
    TrialBalanceAnswer,
)
from tallystick.wire.evidence import (
    CheckpointAnswer,
    ConsistencyAnswer,
    ErasedAnswer,
    InclusionAnswer,
    LogAnswer,
    ReceiptAnswer,
    VerdictAnswer,
)

HERE = "/v1/ledgers/{ledger}"
EVENT_STREAM = "text/event-stream"


class Reads:
    """Balances, entries, accounts and transactions."""

    @get(HERE, LedgerAnswer)
    def standing(self) -> Ask:
        """Where the ledger stands, and its rules."""
        return read()

    @get(f"{HERE}/balances", BalancesAnswer)
    def balances(
        self, account: str, *, asset: str = "", bucket: Bucket | None = None, as_of: str = "", recorded: str = ""
    ) -> Ask:
        """The balances of an account. ``as_of``: what had taken effect by then; ``recorded``: what was known then."""
        return read(account=account, asset=asset, bucket=bucket, as_of=as_of, recorded=recorded)

    @get(f"{HERE}/accounts/{{account}}/available", AvailableAnswer)
    def available(self, account: str, asset: str) -> Ask:
        """What an account may still spend: what is available and what its limit allows."""
        return read(asset=asset).at(account=account)

    @get(f"{HERE}/trial-balance", TrialBalanceAnswer)
    def trial_balance(self, *, as_of: str = "", recorded: str = "") -> Ask:
        """Every balance that is not zero, debits and credits apart, and what each asset adds up to, which is zero."""
        return read(as_of=as_of, recorded=recorded)

    @listing(f"{HERE}/entries", LineAnswer)
    def entries(
        self,
        account: str,
        *,
        asset: str = "",
        bucket: Bucket | None = None,
        start: str = "",
        end: str = "",
        limit: int | None = None,
        cursor: str = "",
    ) -> Ask:
        """The entries of an account, each with the balance before and after it; recorded in [``start``, ``end``)."""
        span = {"from": start, "to": end}
        return read(account=account, asset=asset, bucket=bucket, limit=limit, cursor=cursor, **span)

    @listing(f"{HERE}/accounts", AccountAnswer)
    def accounts(self, prefix: str = "", *, as_of: str = "", limit: int | None = None, cursor: str = "") -> Ask:
        """The accounts that were declared or used, by address, with their balances."""
        return read(prefix=prefix, as_of=as_of, limit=limit, cursor=cursor)

    @get(f"{HERE}/accounts/{{account}}", AccountAnswer)
    def account(self, address: str) -> Ask:
        """What is known of an account, with its balances. Raises NotFound."""
        return read().at(account=address)

    @get(f"{HERE}/transactions/{{transaction}}", TransactionAnswer)
    def transaction(self, id: str | int) -> Ask:
        """A transaction, by its id or number. Raises NotFound."""
        return read().at(transaction=id)

    @listing(f"{HERE}/transactions", TransactionAnswer)
    def find(
        self, *, key: str = "", reference: str = "", value: str = "", limit: int | None = None, cursor: str = ""
    ) -> Ask:
        """The transactions of an idempotency key of this API key's own, or those with a causal reference."""
        return read(key=key, reference=reference, value=value, limit=limit, cursor=cursor)

    @get(f"{HERE}/transactions/{{transaction}}/billing", dict[str, Any])
    def billing_event(self, id: str | int) -> Ask:
        """What billing tells of a hold, a capture or a final charge: its ``payload`` is the object of the billing
        extension. Raises NotFound for other transactions."""
        return read().at(transaction=id)


class Locks:
    """Holds, stakes, bets and commitments, oldest first."""

    @listing(f"{HERE}/holds", LockAnswer)
    def holds(self, account: str = "", *, state: str = "", limit: int | None = None, cursor: str = "") -> Ask:
        """Holds. One whose time has passed reads as expired, swept or not."""
        return read(account=account, state=state, limit=limit, cursor=cursor)

    @get(f"{HERE}/holds/{{hold}}", LockAnswer)
    def get_hold(self, id: str | int) -> Ask:
        """A hold: what it keeps, what was captured of it, and what it is waiting for."""
        return read().at(hold=id)

    @listing(f"{HERE}/stakes", LockAnswer)
    def stakes(self, account: str = "", *, state: str = "", limit: int | None = None, cursor: str = "") -> Ask:
        """Stakes."""
        return read(account=account, state=state, limit=limit, cursor=cursor)

    @get(f"{HERE}/stakes/{{stake}}", LockAnswer)
    def get_stake(self, id: str | int) -> Ask:
        """A stake: what it keeps, and what was taken of it."""
        return read().at(stake=id)

    @listing(f"{HERE}/bets", LockAnswer)
    def bets(self, account: str = "", *, state: str = "", limit: int | None = None, cursor: str = "") -> Ask:
        """Bets."""
        return read(account=account, state=state, limit=limit, cursor=cursor)

    @get(f"{HERE}/bets/{{bet}}", LockAnswer)
    def get_bet(self, id: str | int) -> Ask:
        """A bet: what is on game, or how it ended."""
        return read().at(bet=id)

    @listing(f"{HERE}/commitments", LockAnswer)
    def commitments(self, account: str = "", *, state: str = "", limit: int | None = None, cursor: str = "") -> Ask:
        """Commitments."""
        return read(account=account, state=state, limit=limit, cursor=cursor)


class Events:
    """The journal: page by page, as it goes on, and byte by byte."""

    @listing(f"{HERE}/events", TransactionAnswer)
    def events(
        self,
        *,
        types: Iterable[str] = (),
        account: str = "",
        after: int | None = None,
        limit: int | None = None,
        cursor: str = "",
    ) -> Ask:
        """The events of the journal in their order, up to where it ended when the first page was asked for."""
        return read(types=",".join(types), account=account, after=after, limit=limit, cursor=cursor)

    @flow("GET", f"{HERE}/events/stream", TransactionAnswer, follow, accept=EVENT_STREAM)
    def follow(self, *, after: int | None = None, types: Iterable[str] = (), account: str = "") -> Ask:
        """Events as they happen, for as long as they are taken: behind event ``after``, or from now on.

        A stream that breaks off is opened again where it was, so none is missed and none comes twice. Raises what the
        service refuses it with, and NotAnswered if it does not come back. To end it, leave the loop; an asynchronous
        one is best put into ``contextlib.aclosing``.
        """
        return read(types=",".join(types), account=account, after=after)

    @get(f"{HERE}/events/{{event}}/raw", bytes)
    def event_bytes(self, id: str | int) -> Ask:
        """The exact bytes of an event in the journal: SHA-256 of a zero byte and these is its hash."""
        return read().at(event=id)


class Evidence:
    """Receipts and proofs; see docs/evidence.md. What is shown here is worth checking with ``tally verify``."""

    @get(f"{HERE}/transactions/{{transaction}}/receipt", ReceiptAnswer)
    def receipt(self, id: str | int) -> Ask:
        """The receipt of a transaction. While no checkpoint covers it yet, the client waits and asks again."""
        return read().at(transaction=id)

    @get(f"{HERE}/log", LogAnswer)
    def log(self) -> Ask:
        """The log over the ledger: its name, and its verifier keys."""
        return read()

    @get(f"{HERE}/proofs/inclusion", InclusionAnswer)
    def prove_inclusion(self, seq: int, *, size: int | None = None) -> Ask:
        """The proof that an event is in the log, as of the checkpoint of ``size`` events (None: the newest)."""
        return read(seq=seq, size=size)

    @get(f"{HERE}/proofs/consistency", ConsistencyAnswer)
    def prove_consistency(self, old: int, *, new: int | None = None) -> Ask:
        """The proof that the log of ``old`` events is the beginning of that of ``new`` (None: the newest)."""
        return read(old=old, new=new)

    @listing(f"{HERE}/checkpoints", CheckpointAnswer)
    def checkpoints(self, *, limit: int | None = None, cursor: str = "") -> Ask:
        """Every checkpoint that is kept, smallest first."""
        return read(limit=limit, cursor=cursor)

    @get(f"{HERE}/checkpoints/latest", CheckpointAnswer)
    def latest_checkpoint(self) -> Ask:
        """The newest checkpoint, with the cosignatures that witnesses gave."""
        return read()

    @get(f"{HERE}/checkpoint", str, accept="text/plain")
    def checkpoint_note(self) -> Ask:
        """The newest checkpoint as a signed note: the ``checkpoint`` of C2SP tlog-tiles."""
        return read()

    @post(f"{HERE}/verify", VerdictAnswer)
    def verify(
        self,
        receipt: str,
        *,
        keys: Iterable[str] = (),
        policy: str = "",
        origin: str = "",
        **keyed: Unpack[Keyed],
    ) -> Ask:
        """Have a receipt or an acceptance checked that somebody shows. It changes nothing."""
        more = {"keys": list(keys), "policy": policy or None, "origin": origin or None}
        return write(keyed, receipt=receipt, **more)

    @post(f"{HERE}/erase", ErasedAnswer)
    def erase(self, *, transaction: str = "", commitment: str = "", **keyed: Unpack[Keyed]) -> Ask:
        """Erase erasable texts, for good: those of a transaction, or the one of a commitment."""
        return write(keyed, transaction=transaction or None, commitment=commitment or None)
