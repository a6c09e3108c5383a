"""The journal as an outbox: which events an endpoint is told, in what form, and whom each is about.

There is no second table to be filled in step with the journal: an event is told because it is there. What an endpoint
has been told is a number, its cursor, and the few events before it that it has not accepted yet.

An event is about the accounts of its entries, or the one that it names; the end of a charge and the extension of a hold
are about the accounts of the event that they refer to. These are its *lanes*: events that share one are told in the
order of the journal. ``settings["order"]`` of an endpoint may say otherwise:

    account     (usual) every account, also the ledger's own, such as @fees: an account that is in everything makes one
                message wait for the last
    holder      the ledger's own accounts, whose address begins with @, order nothing
    ledger      one lane: the journal's order for everything
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tallystick.accounts import is_under
from tallystick.billing.mapping import TOLD, charge_of, tell_intent, tell_order, tell_payment
from tallystick.control.records import Endpoint
from tallystick.delivery.messages import BILLING, Glance, billing_message, event_message, glance_at
from tallystick.delivery.transport import Message
from tallystick.errors import TransactionNotFound

if TYPE_CHECKING:
    from tallystick.ledger import Ledger

ORDERS = ("account", "holder", "ledger")

MAX_KNOWN = 4_096
"""Events referred to whose accounts are remembered."""


class Taken(msgspec.Struct, frozen=True):
    """Events that were read: those to be told, and the number behind the last one that was looked at."""

    messages: list[Message]
    next: int


class Outbox:
    """One endpoint's view of a ledger. Safe to use from any number of threads."""

    def __init__(self, ledger: Ledger, endpoint: Endpoint) -> None:
        self._ledger = ledger
        self._journal = ledger.journal
        self._endpoint = endpoint
        self._types = frozenset(endpoint.types)
        self._order = endpoint.settings.get("order", "account")
        self._known: dict[int, tuple[str, ...]] = {}

    def head(self) -> int:
        """How many events there are."""
        return self._journal.head_seq

    def take(self, first: int, limit: int) -> Taken:
        """Look at up to ``limit`` events from number ``first``. Raises Unavailable, LedgerCorrupt, Archived."""
        bodies = self._journal.events(first, limit)
        found = (self.told(seq, body) for seq, body in enumerate(bodies, first))
        return Taken([message for message in found if message is not None], first + len(bodies))

    def message(self, seq: int) -> Message | None:
        """The message of one event, or None if this endpoint is not told of it. Raises TransactionNotFound."""
        return self.told(seq, self._journal.event(seq))

    def time_of(self, seq: int) -> str | None:
        """When an event was recorded; None if there is none."""
        bodies = self._journal.events(seq, 1)
        return glance_at(bodies[0]).time if bodies else None

    def told(self, seq: int, body: bytes) -> Message | None:
        """The message of an event's bytes, or None if this endpoint is not told of it."""
        glance = glance_at(body)
        endpoint = self._endpoint
        if self._types and glance.type not in self._types and TOLD.get(glance.type) not in self._types:
            return None
        if endpoint.mapping == BILLING and glance.type not in TOLD:
            return None
        accounts = self._accounts(glance)
        if endpoint.account_prefix and not any(is_under(account, endpoint.account_prefix) for account in accounts):
            return None
        lanes = self._lanes(accounts)
        if endpoint.mapping == BILLING:
            return billing_message(endpoint, seq, body, self._billing(seq), lanes)
        return event_message(endpoint, seq, body, glance, lanes)

    def _lanes(self, accounts: Sequence[str]) -> tuple[str, ...]:
        if self._order == "ledger":
            return ()
        if self._order == "holder":
            return tuple(account for account in accounts if not account.startswith("@"))
        return tuple(accounts)

    def _accounts(self, glance: Glance) -> tuple[str, ...]:
        """The accounts that an event is about, sorted."""
        if glance.entries:
            return tuple(sorted({entry.account for entry in glance.entries}))
        data = glance.data
        if data is None:
            return ()
        if isinstance(data.account, str):
            return (data.account,)
        referred = data.charge or data.hold
        return self._accounts_at(referred) if isinstance(referred, str) else ()

    def _accounts_at(self, id: str) -> tuple[str, ...]:
        """The accounts of the event that another refers to by its id."""
        number = id.rpartition("/")[2]
        if not (number.isascii() and number.isdigit() and len(number) < 19):
            return ()
        seq = int(number)
        found = self._known.get(seq)
        if found is None:
            try:
                entries = glance_at(self._journal.event(seq)).entries
            except TransactionNotFound:
                return ()
            found = tuple(sorted({entry.account for entry in entries}))
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[seq] = found
        return found

    def _billing(self, seq: int) -> tuple[str, str, dict[str, Any]]:
        """What billing tells of an event: type, time and payload."""
        source = f"/v1/ledgers/{self._ledger.name}"
        event = self._ledger.transaction(f"{self._ledger.name}/{seq}").event
        if event.type == "hold":
            told = tell_intent(event, source)
        elif event.type == "capture":
            told = tell_order(event, source)
        else:
            captured = self._ledger.transaction(event.data["charge"]).event
            undone = self._ledger.reversal_of(charge_of(captured).id)
            reversals = [self._ledger.transaction(place).event for place in undone.by] if undone else []
            told = tell_payment(event, captured, reversals, source)
        return told.type, told.time, told.payload
