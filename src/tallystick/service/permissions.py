"""Permissions: what a command takes value from, and which verb that needs.

Whoever may pay out of an account may pay anyone; what a key must cover is every account that a command takes from or
decides about, and every account that its conditions look at. Value that comes into or goes out of issue, and the
ledger's own accounts, need the verb ``issue``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tallystick import commands as c
from tallystick.access.principal import Principal
from tallystick.access.signatures import check_metadata
from tallystick.commands import Command, Leg
from tallystick.control.records import Verb
from tallystick.errors import NotFound, TransactionNotFound
from tallystick.ledger import Ledger

_GOVERN: tuple[type[Command], ...] = (
    c.OpenAccount,
    c.FreezeAccount,
    c.UnfreezeAccount,
    c.ExcludeAccount,
    c.CloseAccount,
    c.SetLimit,
)
_GOVERN_WHOLE: tuple[type[Command], ...] = (
    c.SetPolicy,
    c.DefineAsset,
    c.DefineType,
    c.RecordReserve,
    c.IssueAttestation,
    c.ClosePeriod,
    c.RotateKey,
)
_OF_LOCK = {
    c.HoldTopUp: "hold",
    c.HoldExtend: "hold",
    c.Capture: "hold",
    c.Release: "hold",
    c.HoldExpire: "hold",
    c.StakeRelease: "stake",
    c.StakeSlash: "stake",
    c.BetSettlement: "bet",
    c.BetRollback: "bet",
}
_OF_ISSUE = ("@issuance", "@external:")


class Needed:
    """What a command needs: verbs, each with the accounts that it must cover; ``whole``: verbs on the whole ledger."""

    def __init__(self) -> None:
        self.accounts: dict[Verb, set[str]] = {}
        self.whole: set[Verb] = set()

    def add(self, verb: Verb, *accounts: str) -> None:
        self.accounts.setdefault(verb, set()).update(accounts)

    def takes_from(self, account: str) -> None:
        """Value leaves an account: its own, or one of the ledger's."""
        if account.startswith("@"):
            self.whole.add("issue")
        else:
            self.add("post", account)

    def pays(self, account: str) -> None:
        """Value enters an account; anyone may be paid, but value that goes out of issue is another matter."""
        if account.startswith(_OF_ISSUE):
            self.whole.add("issue")


def check_command(principal: Principal, ledger: Ledger, command: Command) -> None:
    """Raises Forbidden unless the principal may have this command carried out; NotFound for a hold or a transaction
    that is not there, or that is none of his; InvalidInput for metadata that only a signature may bring."""
    name = ledger.name
    if command.metadata:
        check_metadata(command.metadata)
    if type(command) is c.Transfer and not command.conditions:  # the most frequent one, at little cost
        if command.from_account.startswith("@") or command.to_account.startswith(_OF_ISSUE):
            principal.require_whole("issue", name)
        else:
            principal.require("post", name, (command.from_account,))
        return
    needed = needs_of(command, ledger, principal)
    for verb in needed.whole:
        principal.require_whole(verb, name)
    for verb, accounts in needed.accounts.items():
        principal.require(verb, name, accounts)


def needs_of(command: Command, ledger: Ledger, principal: Principal) -> Needed:
    """What a command needs."""
    needed = Needed()
    kind = type(command)
    if kind in _GOVERN_WHOLE:
        needed.whole.add("govern")
    elif kind in _GOVERN:
        needed.add("govern", command.account)  # type: ignore[attr-defined]
        _add_settlement(needed, getattr(command, "settle_to", ""))
    elif kind in _OF_LOCK:
        _add_lock(needed, ledger, principal, getattr(command, _OF_LOCK[kind]))
        _add_payees(needed, command)
    elif isinstance(command, (c.Reverse, c.FinalizeCharge)):
        _add_transaction(needed, ledger, principal, command)
    else:
        _add_parties(needed, command)
    for condition in command.conditions:
        needed.add("read", condition.account)
    return needed


def _add_parties(needed: Needed, command: Command) -> None:
    """Of a posting, a hold, a stake, a bet or a commitment."""
    for name in ("from_account", "account", "member"):
        account = getattr(command, name, "")
        if account:
            needed.takes_from(account)
    _add_legs(needed, getattr(command, "legs", ()))
    if getattr(command, "to_account", ""):
        needed.pays(command.to_account)  # type: ignore[attr-defined]
    if not needed.accounts and not needed.whole:
        needed.add("post")  # nothing that anybody owns: the kernel will say what is wrong with it


def _add_legs(needed: Needed, legs: Iterable[Leg]) -> None:
    for leg in legs:
        needed.takes_from(leg.from_account)
        needed.pays(leg.to_account)


def _add_payees(needed: Needed, command: Any) -> None:
    for split in getattr(command, "splits", ()):
        needed.pays(split.to_account)
    if getattr(command, "to_account", ""):
        needed.pays(command.to_account)
    if getattr(command, "house", ""):
        needed.takes_from(command.house)


def _add_settlement(needed: Needed, settle_to: str) -> None:
    """What an account that ends still owes is paid by the account that it is settled to."""
    if settle_to:
        needed.takes_from(settle_to)


def _add_lock(needed: Needed, ledger: Ledger, principal: Principal, id: str) -> None:
    if principal.covers("post", ledger.name, ""):
        needed.add("post")
        return
    found = ledger.hold_by_id(id)
    if found is None or not principal.covers("post", ledger.name, found.account):
        raise NotFound(what=f"hold, stake or bet {id}")  # one that is another's looks like one that is not there
    needed.add("post", found.account)


def _add_transaction(
    needed: Needed, ledger: Ledger, principal: Principal, command: c.Reverse | c.FinalizeCharge
) -> None:
    """A reversal takes from whoever was paid; a charge is made final by whoever may post for him who paid it."""
    id = command.transaction if isinstance(command, c.Reverse) else command.charge
    name = ledger.name
    if principal.covers("post", name, "") and principal.covers("issue", name, ""):
        needed.add("post")
        return
    try:
        entries = ledger.transaction(id).entries
    except TransactionNotFound:
        raise NotFound(what=f"transaction {id}") from None
    if not any(principal.covers("post", name, entry.account) for entry in entries):
        raise NotFound(what=f"transaction {id}")
    took = [entry for entry in entries if (entry.amount > 0) == isinstance(command, c.Reverse)]
    for entry in took:
        needed.takes_from(entry.account)
    for entry in entries:
        needed.pays(entry.account)
