"""What a store must do: keep the journal for ever, find its projections, and promise nothing that it cannot keep.

A store knows no accounting. It is given a batch of sealed events with the rows derived from them, and makes all of it
durable in one step or none of it. One contract suite runs over every store.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Protocol

import msgspec
from msgspec import Struct, field

from tallystick.accounts import Account
from tallystick.events import GENESIS
from tallystick.kernel import Balance, Lock, Policy, Record, Reversal
from tallystick.kernel.book import Kind

PART_BITS = 15
"""Entries and keys are partitioned by sequence range, 2^15 events a part: the index being written stays small."""

NO_LIMIT = 2**62
"""More than there ever are."""

OBJECT_TYPES: dict[str, Any] = {
    "account": Account,
    "asset": Record,
    "attestation": Record,
    "charge": Record,
    "ledger": Record,
    "lock": Lock,
    "period": Record,
    "policy": Policy,
    "reserve": Record,
    "reversal": Reversal,
    "signing_key": Record,
    "type": Record,
}
"""What an object of each kind is."""


class Head(Struct, frozen=True):
    """Where a ledger stands: the next sequence number, the last event's hash and time, and the balances made so far."""

    seq: int
    hash: str
    time: str
    balances: int


EMPTY_HEAD = Head(0, GENESIS, "", 0)
"""Where a ledger stands before its first event."""

EntryRow = tuple[int, int, int, int, int, int]
"""(balance id, version, seq, amount, before, after)."""

BalanceRow = tuple[int, str, str, str]
"""(balance id, account, asset, bucket)."""


OpeningRow = tuple[str, bytes, str, int]
"""(commitment, salt, text, seq): what opens a commitment of an event. It may be erased, and nothing else with it."""


TileRow = tuple[int, int, bytes]
"""(level, number, hashes): a tile of the Merkle tree over the events, as far as it goes."""


class Batch(Struct, kw_only=True):
    """Sealed events and all that is derived from them, to be kept in one step behind ``expected``."""

    ledger: str
    expected: Head
    head: Head
    bodies: list[bytes]
    entries: list[EntryRow] = field(default_factory=list)
    balances: list[BalanceRow] = field(default_factory=list)
    keys: list[tuple[int, int]] = field(default_factory=list)
    """(key_number, seq) of each event."""
    objects: list[tuple[str, str, Any]] = field(default_factory=list)
    """(kind, id, value): the new value of each object that changed."""
    references: list[tuple[str, str, int]] = field(default_factory=list)
    """(name, value, seq) of each causal reference."""
    backdated: list[tuple[int, int, str, int]] = field(default_factory=list)
    """(balance id, seq, effective time, amount) of each entry that took effect before it was recorded."""
    openings: list[OpeningRow] = field(default_factory=list)
    """Of each commitment of these events. They follow from nothing: a rebuild brings none, and keeps what is there."""


def joined(batches: Sequence[Batch]) -> Batch:
    """Batches that follow one another as one."""
    if len(batches) == 1:
        return batches[0]
    whole = Batch(ledger=batches[0].ledger, expected=batches[0].expected, head=batches[-1].head, bodies=[])
    for name in ("bodies", "entries", "balances", "keys", "objects", "references", "backdated", "openings"):
        getattr(whole, name).extend(row for batch in batches for row in getattr(batch, name))
    return whole


class Changes(Struct, frozen=True):
    """What other writers did to a ledger since a head."""

    head: Head
    balances: list[tuple[str, str, str, Balance]]
    """(account, asset, bucket, balance) of every balance that was posted to."""
    objects: list[tuple[Kind, str, Any]]
    """(kind, id, value) of every object that was set."""
    keys: list[int] | None
    """The numbers of the keys that were used; None: they are to be asked for."""


class HeadMoved(Exception):
    """Another writer appended first: read its events and decide again."""


class NotAtHand(HeadMoved):
    """What a store was asked for takes long to be had, and others wait: ``get`` it while nobody does, and ask again."""

    def __init__(self, what: str, get: Callable[[], object]) -> None:
        super().__init__(what)
        self.what = what
        self.get = get


OTHERS_WAIT: ContextVar[bool] = ContextVar("OTHERS_WAIT", default=False)
"""Whether others cannot post before what is done here is done: then NotAtHand is raised for what would take long."""


@contextlib.contextmanager
def while_others_wait() -> Iterator[None]:
    """Others cannot post before this is done."""
    token = OTHERS_WAIT.set(True)
    try:
        yield
    finally:
        OTHERS_WAIT.reset(token)


class LoadedAccount(Struct, frozen=True):
    """All that a book must know of an account."""

    declared: Account | None
    balances: list[tuple[str, str, Balance]]


NumberOf = Callable[[str, str, str], int | None]
"""The number of the balance of (account, asset, bucket); 0 for one that nobody needs to learn of, None: it must be
asked for."""


class Claim(Protocol):
    """A ledger that nobody else can append to until the claim ends."""

    changes: Changes | None
    """What happened since the head that was known; None: nothing."""

    def append(self, batches: Iterable[Batch]) -> None:
        """Keep batches that follow one another, once the claim ends well."""


class Store(Protocol):
    """The interface of every store. Times are journal times, amounts minor units, sequence numbers from 0.

    Methods raise Unavailable when a retry can help and LedgerCorrupt when what is stored is not what was written.
    """

    shared: bool
    """Whether other processes may write the same ledgers at the same time."""

    epoch: int
    """Changes when what was read may come from another server than what is read next."""

    def ledgers(self) -> list[str]:
        """The names of the ledgers here, sorted."""

    def head(self, ledger: str) -> Head | None:
        """Where the ledger stands, or None if there is no such ledger."""

    def append(self, batches: Iterable[Batch], *, epoch: int | None = None) -> None:
        """Keep batches that follow one another, durably, all of them or none, in one commit.

        They are taken one by one as they come, so that the next can be decided while one is being written. Raises
        HeadMoved if the ledger is not at the first one's ``expected``, or the store is not in ``epoch`` any more; what
        the iterable raises leaves nothing behind.
        """

    def claim(
        self, ledger: str, known: Head, *, epoch: int | None = None, number_of: NumberOf | None = None
    ) -> AbstractContextManager[Claim]:
        """Keep all others from appending, and say what they did since ``known``; at the end it is one commit.

        ``number_of`` saves to ask for what is known already. Only a shared store does this. Raises HeadMoved if all
        must be decided anew, as in another ``epoch``.
        """

    def within(self, connection: Any) -> Joined:
        """The same store inside a transaction of the caller's. Raises InvalidInput if it has no such thing."""

    def load_accounts(self, ledger: str, addresses: Sequence[str]) -> dict[str, LoadedAccount]:
        """All of these accounts as they stand; one that was never used or declared has neither record nor balances."""

    def load_objects(self, ledger: str, kind: str, ids: Sequence[str] | None = None) -> dict[str, Any]:
        """Objects of one kind by id: these, or all. What does not exist is left out."""

    def find_keys(self, ledger: str, numbers: Sequence[int]) -> dict[int, list[int]]:
        """For each of these key numbers that was used, the sequence numbers of the events that bear it."""

    def key_numbers(self, ledger: str, first: int = 0, before: int | None = None) -> Iterator[tuple[int, int]]:
        """(key number, seq) of every event with first <= seq < before, in no promised order."""

    def events(self, ledger: str, first: int, limit: int) -> list[bytes]:
        """The bytes of up to ``limit`` events from number ``first``, checked against their hashes."""

    def event(self, ledger: str, seq: int) -> bytes | None:
        """The bytes of one event, checked against their hash, or None if there is none."""

    def seq_at(self, ledger: str, time: str) -> int:
        """How many events were recorded up to and including this time."""

    def balances(
        self, ledger: str, before: int | None = None, accounts: Sequence[str] | None = None
    ) -> list[tuple[str, str, str, Balance]]:
        """(account, asset, bucket, balance) sorted, as it stood before event number ``before`` (None: now)."""

    def balances_of(self, ledger: str, accounts: Sequence[str]) -> tuple[int, list[tuple[str, str, str, Balance]]]:
        """How many events there are, and (account, asset, bucket, balance), sorted, of these accounts, all of them as
        they stood behind just these events."""

    def entries(self, ledger: str, balance_ids: Sequence[int], first: int, before: int, limit: int) -> list[EntryRow]:
        """Entries of these balances with first <= seq < before, in order of (seq, balance id), up to ``limit``."""

    def backdated(self, ledger: str, balance_ids: Sequence[int] | None = None) -> list[tuple[int, int, str, int]]:
        """(balance id, seq, effective, amount) of every back-dated entry of these balances (None: of all)."""

    def references(self, ledger: str, name: str, value: str, after: int = -1, limit: int = NO_LIMIT) -> list[int]:
        """The sequence numbers above ``after`` of the events with this causal reference, ascending, up to ``limit``."""

    def references_between(self, ledger: str, first: int, before: int) -> list[tuple[str, str, int]]:
        """(name, value, seq) of each causal reference of the events with first <= seq < before, in any order."""

    def locks(
        self,
        ledger: str,
        *,
        kind: str = "",
        account: str = "",
        state: str = "",
        due: str = "",
        after: str = "",
        limit: int,
    ) -> list[Lock]:
        """Locks in the order of their ids' places, after the id ``after``; ``due``: open ones that expire by then."""

    def accounts(self, ledger: str, prefix: str, after: str, limit: int) -> list[str]:
        """Addresses that were declared or used, that begin with ``prefix``, sorted, after ``after``."""

    def leaves(self, ledger: str, first: int, prev: bytes, limit: int) -> list[bytes]:
        """The leaf hashes of about ``limit`` events from number ``first`` on, where a stored row begins: read and
        hashed anew. The first event must name ``prev``, the leaf hash of the one before (zeros: there is none)."""

    def tiles(self, ledger: str, places: Sequence[tuple[int, int]]) -> list[bytes]:
        """The hashes of the Merkle tree's tiles at these (level, number), as far as they go; empty for none."""

    def checkpoint(self, ledger: str) -> bytes | None:
        """The signed note of the largest size that is kept, the last of several; None if there is none."""

    def checkpoints(self, ledger: str, after: int = -1, limit: int = 1_000) -> list[tuple[int, bytes]]:
        """(size, signed note) of each size after one, ascending; of several notes of a size the last."""

    def keep_log(self, ledger: str, tiles: Sequence[TileRow], size: int, note: bytes) -> None:
        """Keep tiles, of which one that is there may only grow, and the note that was signed of them, in one commit;
        an empty note: none was signed yet."""

    def openings(self, ledger: str, commitments: Sequence[str]) -> dict[str, OpeningRow]:
        """The openings of these commitments, as they are stored; one that was erased, or never was, is left out."""

    def openings_between(self, ledger: str, first: int, before: int) -> list[OpeningRow]:
        """The openings that are there of the events with first <= seq < before, in order of (seq, commitment)."""

    def erase(self, ledger: str, commitments: Sequence[str]) -> int:
        """Erase the openings of these commitments, durably; how many there were. Erasing twice is no error.

        What cannot be reached from here, such as copies of the file and backups, keeps them.
        """

    def rebuild(self, batches: Iterable[Batch]) -> None:
        """Replace every projection of one ledger by what these batches say (their events and openings are kept)."""

    def snapshot(self, ledger: str) -> bool:
        """Write a snapshot of the balances if enough was posted since the last; whether one was written."""

    def kept(self, ledger: str, name: str) -> bytes | None:
        """Bytes that were kept under this name, or None."""

    def keep(self, ledger: str, name: str, body: bytes) -> None:
        """Keep bytes for speed alone, in place of those before; losing them loses nothing."""

    def check(self) -> list[str]:
        """What the storage engine itself finds wrong with its file; empty when all is well."""

    def stats(self, ledger: str) -> dict[str, int]:
        """Counts and bytes, for people."""

    def close(self) -> None:
        """Let go of everything. Closing twice is no error."""


def key_numbers(source: str, keys: Iterable[str]) -> list[int]:
    """The 63-bit numbers under which (source, key) is indexed; equal numbers are told apart by reading the events."""
    blake2b, from_bytes, prefix = hashlib.blake2b, int.from_bytes, f"{source}\0".encode()
    return [from_bytes(blake2b(prefix + key.encode(), digest_size=8).digest(), "big") >> 1 for key in keys]


def key_number(source: str, key: str) -> int:
    """The number of one key."""
    return key_numbers(source, (key,))[0]


def lock_place(id: str) -> str:
    """A lock's id in an order that follows the journal: by the sequence number where the id has one."""
    prefix, _, seq = id.rpartition("/")
    return f"{prefix}/{int(seq):019d}" if seq.isascii() and seq.isdigit() and len(seq) < 20 else id


def object_row(kind: str, id: str, value: Any) -> tuple[str, str, str, str, str, str, bytes]:
    """(kind, id, place, account, state, expires, body): an object, and what it is found by."""
    account, state, expires, place = "", "", "", id
    if isinstance(value, Lock):
        account, state, place = value.account, value.state, lock_place(id)
        expires = value.expires if value.is_open else ""
    return kind, id, place, account, state, expires, msgspec.json.encode(value)


class Joined(Store, Protocol):
    """A store inside a transaction of the caller's."""

    def savepoint(self) -> AbstractContextManager[object]:
        """What fails inside leaves the caller's transaction as it was."""

    def lock(self, ledger: str) -> None:
        """Keep all others from appending to the ledger until the caller's transaction ends."""
