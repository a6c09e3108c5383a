"""The book: the state of one ledger in memory, as far as it is in use.

All of it is dictionaries of frozen values, so that taking back what a command did is putting the old values back. The
book knows what it does not know: touching an account, a hold or an old event that was not loaded raises NotLoaded,
and whoever holds the store loads it and asks again. The kernel itself never reads anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from msgspec import Struct, field

from tallystick.accounts import Account, Bucket
from tallystick.events import GENESIS
from tallystick.money import split_asset

Kind = Literal[
    "account",
    "asset",
    "attestation",
    "charge",
    "event",
    "history",
    "ledger",
    "lock",
    "period",
    "policy",
    "reserve",
    "reversal",
    "signing_key",
    "type",
]
Pocket = tuple[str, str]
"""An asset and a bucket."""

ALWAYS_LOADED: tuple[Kind, ...] = ("asset", "ledger", "period", "policy", "signing_key", "type", "attestation")
"""Objects that are few: a book holds all of them or none."""

PASSING: tuple[Kind, ...] = ("event", "history")
"""What is loaded only for the command at hand: old events, and how low a balance stood since a time."""

LOADED_ON_DEMAND: tuple[Kind, ...] = ("account", "charge", "lock", "reserve", "reversal")


class Balance(Struct, frozen=True, gc=False):
    """A balance: its number in this ledger (from 1), amount in minor units, and the count of its entries."""

    id: int
    amount: int
    version: int


NOTHING = Balance(0, 0, 0)


class Policy(Struct, frozen=True, kw_only=True):
    """The rules of a ledger that its users may choose.

    ``strict``: accounts and assets must be declared before use. ``limit_min``, ``limit_max`` and ``limit_default``
    bound debt limits, in minor units. ``commitment_mode``: whether members may reserve capacity, and whether it must be
    covered (see kernel.postings). ``floor_threshold_bps`` is the share of its limit, in basis points, from which a
    member counts in the floor mass. ``hold_expires_in_seconds`` is for holds that name no expiry (7 days).
    """

    strict: bool = False
    limit_min: int = 500
    limit_max: int = 5_000
    limit_default: int = 2_000
    commitment_mode: Literal["DISABLED", "SOFT", "ESCROWED"] = "ESCROWED"
    floor_threshold_bps: int = 8_000
    hold_expires_in_seconds: int = 7 * 86_400


class Lock(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Value set aside in a bucket: a hold, a stake, a bet on game or a member's commitment.

    ``amount`` is all that was ever put in, ``remaining`` what is still there, ``taken`` what was paid out of it (the
    rest went back), all in minor units.
    """

    id: str
    kind: Literal["hold", "stake", "bet", "commitment"]
    account: str
    asset: str
    bucket: Bucket
    amount: int
    remaining: int
    taken: int = 0
    state: str = "active"
    opened: str = ""
    expires: str = ""
    reason: str = ""
    refs: dict[str, str] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        return self.remaining > 0


class Reversal(Struct, frozen=True):
    """How much of a transaction has been undone, per balance (``account asset bucket``), and by which transactions."""

    transaction: str
    amounts: dict[str, int]
    by: tuple[str, ...]


class Record(Struct, frozen=True):
    """A fact that the ledger keeps: its opening, an asset, a type, a closed period, a final charge, a reserve, ..."""

    id: str
    time: str
    data: dict[str, Any]


class NotLoaded(Exception):
    """The book does not hold this yet."""

    def __init__(self, kind: Kind, id: Any) -> None:
        super().__init__(kind, id)
        self.kind: Kind = kind
        self.id = id


class Mark(Struct, frozen=True):
    """A point to return to."""

    undo: int
    scalars: tuple[Any, ...]


class Book:
    """See the module. ``complete`` says that what is not here does not exist, so nothing needs loading."""

    def __init__(self, name: str, *, complete: bool = False) -> None:
        self.name = name
        self.complete = complete
        self.seq = 0
        self.hash = GENESIS
        self.time = ""
        self.balances_made = 0
        self.policy = Policy()
        self.pockets: dict[Pocket, dict[str, Balance]] = {}
        self.objects: dict[tuple[Kind, Any], Any] = {}
        self.passing: dict[tuple[Kind, Any], Any] = {}
        self.known: dict[str, None] = {}
        self.restricted: set[str] = set()
        self.scales: dict[str, int] = {}
        self.undo: list[tuple[dict[Any, Any], Any, Any]] | None = None
        self.new_balances: list[tuple[int, str, str, str]] = []
        self.changed: dict[tuple[Kind, Any], None] = {}

    # ------------------------------------------------------------ reading

    def balance(self, account: str, asset: str, bucket: str) -> Balance:
        """The balance, or nothing if it was never used. Raises NotLoaded."""
        found = self.pockets.get((asset, bucket), _EMPTY).get(account)
        if found is not None:
            return found
        if not self.complete and account not in self.known:
            raise NotLoaded("account", account)
        return NOTHING

    def account(self, address: str) -> Account | None:
        """What was declared of an account, or None. Raises NotLoaded."""
        if not self.complete and address not in self.known:
            raise NotLoaded("account", address)
        found: Account | None = self.objects.get(("account", address))
        return found

    def get(self, kind: Kind, id: Any) -> Any:
        """An object of this kind, or None. Raises NotLoaded."""
        try:
            return (self.passing if kind in PASSING else self.objects)[kind, id]
        except KeyError:
            if kind in ALWAYS_LOADED or (self.complete and kind in LOADED_ON_DEMAND):
                return None
            raise NotLoaded(kind, id) from None

    def balances_of(self, account: str) -> list[tuple[str, str, Balance]]:
        """Every balance that the account has used, as (asset, bucket, balance)."""
        self.account(account)
        return [(*pocket, found[account]) for pocket, found in sorted(self.pockets.items()) if account in found]

    def exists(self, account: str) -> bool:
        """Whether the account was declared or used."""
        return self.account(account) is not None or any(account in found for found in self.pockets.values())

    # ------------------------------------------------------------ what applying an event changes

    def set_balance(self, account: str, asset: str, bucket: str, amount: int, version: int) -> None:
        """Set a balance; one that is new gets its number, and the store writes that with the batch."""
        pocket = self.pockets.setdefault((asset, bucket), {})
        before = pocket.get(account)
        if self.undo is not None:
            self.undo.append((pocket, account, before))
        if before is None:
            self.balances_made += 1
            self.new_balances.append((self.balances_made, account, asset, bucket))
            self._meet_asset(asset)
            if account.startswith("@"):
                self.restricted.add(account)
            pocket[account] = Balance(self.balances_made, amount, version)
        else:
            pocket[account] = Balance(before.id, amount, version)

    def put(self, kind: Kind, id: Any, value: Any) -> None:
        """Set an object; the store writes it with the batch."""
        if self.undo is not None:
            self.undo.append((self.objects, (kind, id), self.objects.get((kind, id), _ABSENT)))
        self.objects[kind, id] = value
        self.changed[kind, id] = None
        self._derive(kind, id, value)

    # ------------------------------------------------------------ what is loaded

    def remember(self, kind: Kind, id: Any, value: Any) -> None:
        """Keep something that was loaded; it is no change."""
        if kind in PASSING:
            self.passing[kind, id] = value
        else:
            self.objects[kind, id] = value
            self._derive(kind, id, value)

    def know(self, address: str, account: Account | None, balances: Iterable[tuple[str, str, Balance]]) -> None:
        """Keep all that there is of an account."""
        self.known[address] = None
        if account is not None:
            self.remember("account", address, account)
        elif address.startswith("@"):
            self.restricted.add(address)
        for asset, bucket, balance in balances:
            self.pockets.setdefault((asset, bucket), {})[address] = balance

    # ------------------------------------------------------------ taking back

    def mark(self) -> Mark:
        """Begin to keep what is needed to return here."""
        if self.undo is None:
            self.undo = []
        return Mark(
            len(self.undo),
            (
                self.seq,
                self.hash,
                self.time,
                self.balances_made,
                self.policy,
                dict(self.scales),
                len(self.new_balances),
                dict(self.changed),
            ),
        )

    def rollback(self, mark: Mark) -> None:
        """Put everything back as it was at the mark."""
        assert self.undo is not None, "rollback without mark"
        while len(self.undo) > mark.undo:
            holder, key, before = self.undo.pop()
            if (before is None and holder is not self.objects) or before is _ABSENT:
                holder.pop(key, None)
            else:
                holder[key] = before
            if holder is self.objects and key[0] == "account":
                self._derive("account", key[1], None if before is _ABSENT else before)
        self.seq, self.hash, self.time, self.balances_made, self.policy, scales, new, changed = mark.scalars
        self.scales, self.changed = dict(scales), dict(changed)  # the mark may be returned to again
        del self.new_balances[new:]

    def keep(self) -> None:
        """Stop keeping the way back."""
        self.undo = None

    # ------------------------------------------------------------ derived

    def _derive(self, kind: Kind, id: Any, value: Any) -> None:
        if kind == "account":
            if id.startswith("@") or (value is not None and not value.is_plain):
                self.restricted.add(id)
            else:
                self.restricted.discard(id)
        elif kind == "asset" and value is not None:
            self.scales[id] = split_asset(value.id)[1]
        elif kind == "policy" and value is not None:
            self.policy = value

    def _meet_asset(self, asset: str) -> None:
        code = split_asset(asset)[0]
        if code not in self.scales:
            self.put("asset", code, Record(asset, "", {}))


_EMPTY: dict[str, Balance] = {}
_ABSENT: Any = object()
