"""What the model knows, in plain dictionaries, and the rules that all commands share.

Back-dating is judged by adding up all that ever happened; floors, statuses and ceilings on a balance's net change.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tallystick import commands as c
from tallystick.accounts import role_of
from tallystick.commands import Command, Leg
from tallystick.events import EVENT_TYPES, EventType

MAX = 2**63 - 1
PARTIES = ("holder", "treasury", "clearing")
LOCKED_IN = {"hold": "held", "stake": "bonded", "bet": "held", "commitment": "held"}

Name = tuple[str, str, str]


class Broken(Exception):
    """A rule is broken and nothing further can be judged."""


@dataclass(frozen=True)
class Opened:
    """What was declared of an account."""

    status: str = "active"
    limits: dict[str, int] = field(default_factory=dict)
    ceilings: dict[str, int] = field(default_factory=dict)
    floorless: bool = False


@dataclass(frozen=True)
class Kept:
    """A lock: a hold, stake, bet or commitment."""

    kind: str
    account: str
    asset: str
    amount: int
    remaining: int
    taken: int = 0
    state: str = "active"
    expires: str = ""
    round: str = ""


@dataclass(frozen=True)
class Happened:
    """An event as far as the model needs to remember it."""

    type: str
    effective: str
    changes: dict[Name, int]
    hold: str = ""


class Rules:
    """What is known of one ledger, and the rules that all its commands share."""

    def __init__(self, policy: dict[str, Any]) -> None:
        self.policy = policy
        self.balances: dict[Name, int] = defaultdict(int)
        self.versions: dict[Name, int] = defaultdict(int)
        self.accounts: dict[str, Opened] = {}
        self.locks: dict[str, Kept] = {}
        self.events: list[Happened] = []
        self.of_balance: dict[Name, list[int]] = defaultdict(list)
        self.keys: dict[tuple[str, str], tuple[Command, str]] = {}
        self.undone: dict[str, dict[Name, int]] = {}
        self.final: set[str] = set()
        self.assets: dict[str, str] = {}
        self.types: dict[str, EventType] = {}
        self.closed = ""
        self.broken: set[str] = set()

    def save(self) -> dict[str, Any]:
        """All that is known, to come back to."""
        kept = {name: copy.copy(value) for name, value in vars(self).items()}
        kept["of_balance"] = {name: len(seqs) for name, seqs in self.of_balance.items()}
        return kept

    def restore(self, kept: dict[str, Any]) -> None:
        lengths = kept.pop("of_balance")
        for name, seqs in self.of_balance.items():
            del seqs[lengths.get(name, 0) :]
        vars(self).update(kept)

    # ------------------------------------------------------------ rules that all share

    def _wrong(self, code: str, is_wrong: bool = True) -> None:
        if is_wrong:
            self.broken.add(code)

    def _stop(self, code: str, is_wrong: bool = True) -> None:
        if is_wrong:
            self.broken.add(code)
            raise Broken

    def _type(self, command: Command) -> EventType:
        name = command.type if isinstance(command, c.Post) else command.event_type
        kind = EVENT_TYPES.get(name) or self.types.get(name)
        self._stop("type_not_found", kind is None or (isinstance(command, c.Post) and kind.by != "post"))
        assert kind is not None
        for group in kind.requires:
            self._wrong("reference_required", not any((command.refs or {}).get(name) for name in group))
        for need in kind.needs:
            self._wrong("invalid_input", not getattr(command, need))
        return kind

    def _account(self, address: str) -> None:
        undeclared = role_of(address) == "holder" and address not in self.accounts
        self._wrong("account_not_found", self.policy["strict"] and undeclared)

    def _asset(self, asset: str) -> None:
        code = asset.partition("/")[0]
        known = self.assets.get(code)
        self._wrong("asset_not_found", known is None and self.policy["strict"])
        self._wrong("scale_mismatch", known is not None and known != asset)

    def _amount(self, amount: int) -> None:
        self._stop("amount_out_of_range", not 0 < amount <= MAX)

    def _legs(self, legs: Iterable[Leg], kind: EventType) -> dict[Name, int]:
        changes: dict[Name, int] = {}
        for leg in legs:
            set_aside = leg.from_bucket in ("held", "bonded")  # whose owner was accepted when it was set aside
            if not set_aside:
                self._account(leg.from_account)
            if not (set_aside and leg.to_account == leg.from_account):
                self._account(leg.to_account)
            self._asset(leg.asset)
            self._amount(leg.amount)
            same = leg.from_account == leg.to_account
            within = kind.group == "repair" or any(move.same_account for move in kind.moves)
            clearing = role_of(leg.from_account) == "clearing"
            self._wrong("self_transfer", same and (leg.from_bucket == leg.to_bucket or not (within or clearing)))
            allowed = any(
                role_of(leg.from_account) in move.from_roles
                and role_of(leg.to_account) in move.to_roles
                and leg.from_bucket in move.from_buckets
                and leg.to_bucket in move.to_buckets
                and (same or not move.same_account)
                for move in kind.moves
            )
            self._wrong("move_not_allowed", not allowed)
            debit, credit = (leg.from_account, leg.asset, leg.from_bucket), (leg.to_account, leg.asset, leg.to_bucket)
            changes[debit] = changes.get(debit, 0) - leg.amount
            changes[credit] = changes.get(credit, 0) + leg.amount
        self._stop("empty_transaction", not changes)
        return changes

    def _judge(
        self, changes: dict[Name, int], command: Command, *, effective: str = "", soft: bool = False, ending: str = ""
    ) -> None:
        """Invariant 2, statuses, ceilings and conditions, for net changes; an account's end overrides its freeze."""
        self._stop("empty_transaction", not any(changes.values()))
        for name, change in changes.items():
            after = self.balances.get(name, 0) + change
            self._wrong("balance_overflow", abs(after) > MAX or abs(change) > MAX)
            if change < 0:
                self._floor(name, change, after, effective)
        for account, asset in {name[:2] for name in changes}:
            self._member(account, asset, changes, soft)
            opened = self.accounts.get(account, Opened())
            own = {name: change for name, change in changes.items() if name[:2] == (account, asset) and change}
            self._wrong("account_not_active", bool(own) and opened.status in ("excluded", "closed"))
            pays = sum(own.values()) < 0 or own.get((account, asset, "available"), 0) < 0
            self._wrong("account_frozen", opened.status == "frozen" and pays and account != ending)
            arrives, ceiling = own.get((account, asset, "available"), 0), opened.ceilings.get(asset)
            if arrives > 0 and ceiling is not None and sum(own.values()) > 0:
                after = self.balances.get((account, asset, "available"), 0) + arrives
                self._wrong("ceiling_exceeded", after > ceiling)
        self._conditions(command, changes)

    def _floor(self, name: Name, change: int, after: int, effective: str) -> None:
        account, asset, bucket = name
        opened = self.accounts.get(account, Opened())
        floor, limit = 0, None
        if bucket == "available":
            if role_of(account) in ("issuance", "external") or opened.floorless:
                return
            limit = opened.limits.get(asset)
            floor = -(limit or 0)
        self._wrong("insufficient_funds", after < floor and limit is None)
        if effective:
            self._wrong("backdated_overdraft", self.lowest(name, effective) + change < floor)

    def lowest(self, name: Name, effective: str) -> int:
        """The lowest that a balance stood at, at ``effective`` or any instant after it."""
        moved = [(self.events[seq].effective, self.events[seq].changes[name]) for seq in self.of_balance.get(name, ())]
        amount = lowest = sum(change for time, change in moved if time <= effective)
        later: dict[str, int] = defaultdict(int)
        for time, change in moved:
            if time > effective:
                later[time] += change
        for _, change in sorted(later.items()):
            amount += change
            lowest = min(lowest, amount)
        return lowest

    def _member(self, account: str, asset: str, changes: dict[Name, int], soft: bool) -> None:
        limit = self.accounts.get(account, Opened()).limits.get(asset)
        if limit is None:
            return
        available, held = (changes.get((account, asset, bucket), 0) for bucket in ("available", "held"))
        new_available = self.balances.get((account, asset, "available"), 0) + available
        new_total = new_available + self.balances.get((account, asset, "held"), 0) + held
        self._wrong("floor_violation", available + held < 0 and new_total < -limit)
        covered = self.policy["commitment_mode"] == "ESCROWED" or (held > 0 and not soft)
        self._wrong("escrow_violation", covered and available < 0 and new_available < -limit)

    def _conditions(self, command: Command, changes: dict[Name, int]) -> None:
        for wanted in command.conditions:
            name = (wanted.account, wanted.asset, wanted.bucket)
            after = self.balances.get(name, 0) + changes.get(name, 0)
            self._wrong(
                "condition_failed",
                (wanted.version is not None and self.versions.get(name, 0) != wanted.version)
                or (wanted.at_least is not None and after < wanted.at_least)
                or (wanted.at_most is not None and after > wanted.at_most),
            )

    def _happen(self, type: str, now: str, changes: dict[Name, int] | None = None, hold: str = "") -> str:
        """Write it down, unless a rule is broken; the new transaction's id."""
        if self.broken:
            raise Broken
        seq = len(self.events)
        changes = {name: change for name, change in (changes or {}).items() if change}
        for name, change in changes.items():
            self.balances[name] += change
            self.versions[name] += 1
            self.of_balance[name].append(seq)
            self.assets.setdefault(name[1].partition("/")[0], name[1])
        self.events.append(Happened(type, now, changes, hold))
        return f"main/{seq}"

    def _seq(self, id: str) -> int | None:
        digits = id.removeprefix("main/")
        return (
            int(digits) if digits.isdigit() and int(digits) < len(self.events) and id == f"main/{int(digits)}" else None
        )
