"""The store in memory, for tests and for ``memory://``: the contract in plain Python, one lock, nothing durable.

It is written to be read beside the contract rather than to be fast. Like every store it checks each event against the
hash that was taken when it was written, and makes a batch ready completely before it changes anything.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tallystick.errors import Closed, InvalidInput, LedgerCorrupt
from tallystick.journal import decode_event, leaf_hash
from tallystick.kernel import Balance, Lock
from tallystick.stores import chunks
from tallystick.stores.base import (
    EMPTY_HEAD,
    NO_LIMIT,
    BalanceRow,
    Batch,
    Claim,
    EntryRow,
    Head,
    HeadMoved,
    Joined,
    LoadedAccount,
    OpeningRow,
    TileRow,
    lock_place,
)


class MemoryStore:
    """Every ledger as lists and dictionaries. Safe for threads: each call holds one lock from start to end."""

    shared = False
    epoch = 0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shelves: dict[str, _Shelf] = {}
        self._kept: dict[tuple[str, str], bytes] = {}
        self._tiles: dict[tuple[str, int, int], bytes] = {}
        self._checkpoints: dict[str, dict[int, bytes]] = {}
        self._closed = False

    # ------------------------------------------------------------ the journal

    def ledgers(self) -> list[str]:
        with self._open():
            return sorted(self._shelves)

    def head(self, ledger: str) -> Head | None:
        with self._open():
            shelf = self._shelves.get(ledger)
            return shelf.head if shelf else None

    def append(self, batches: Iterable[Batch], *, epoch: int | None = None) -> None:
        taken = list(batches)
        if not taken:
            return
        bodies = [body for batch in taken for body in batch.bodies]
        hashes = [leaf_hash(body) for body in bodies]
        rows = _Rows(taken)
        with self._open():
            shelf = self._shelf(taken[0].ledger)
            _check_heads(shelf, taken, hashes)
            shelf.check(rows)
            shelf.bodies += bodies
            shelf.hashes += hashes
            shelf.keep(rows)
            shelf.head = taken[-1].head
            self._shelves[shelf.ledger] = shelf

    def within(self, connection: Any) -> Joined:
        raise InvalidInput(path="connection", problem="only a ledger in PostgreSQL can join a transaction of yours")

    def claim(self, ledger: str, known: Head, **more: Any) -> AbstractContextManager[Claim]:
        raise NotImplementedError("nobody else has this memory")

    def events(self, ledger: str, first: int, limit: int) -> list[bytes]:
        with self._open():
            shelf = self._shelf(ledger)
            first = max(first, 0)
            return [shelf.body(seq) for seq in range(first, min(first + limit, len(shelf.bodies)))]

    def event(self, ledger: str, seq: int) -> bytes | None:
        with self._open():
            shelf = self._shelf(ledger)
            return shelf.body(seq) if 0 <= seq < len(shelf.bodies) else None

    def seq_at(self, ledger: str, time: str) -> int:
        with self._open():
            shelf = self._shelf(ledger)
            places = range(len(shelf.bodies))
            return bisect_right(places, time, key=lambda seq: decode_event(shelf.body(seq)).time)

    # ------------------------------------------------------------ keys and references

    def find_keys(self, ledger: str, numbers: Sequence[int]) -> dict[int, list[int]]:
        with self._open():
            keys = self._shelf(ledger).keys
            return {number: list(keys[number]) for number in numbers if number in keys}

    def key_numbers(self, ledger: str, first: int = 0, before: int | None = None) -> Iterator[tuple[int, int]]:
        with self._open():
            shelf = self._shelf(ledger)
            end = len(shelf.bodies) if before is None else before
            found = [(number, seq) for number, places in shelf.keys.items() for seq in places if first <= seq < end]
        return iter(sorted(found, key=lambda row: row[1]))

    def references(self, ledger: str, name: str, value: str, after: int = -1, limit: int = NO_LIMIT) -> list[int]:
        with self._open():
            found = self._shelf(ledger).references.get((name, value), ())
            return sorted(seq for seq in found if seq > after)[:limit]

    def references_between(self, ledger: str, first: int, before: int) -> list[tuple[str, str, int]]:
        with self._open():
            found = self._shelf(ledger).references.items()
            return [(name, value, seq) for (name, value), seqs in found for seq in seqs if first <= seq < before]

    # ------------------------------------------------------------ balances and entries

    def load_accounts(self, ledger: str, addresses: Sequence[str]) -> dict[str, LoadedAccount]:
        with self._open():
            shelf = self._shelf(ledger)
            declared = shelf.objects.get("account", {})
            return {
                address: LoadedAccount(
                    declared.get(address), [row[1:] for row in shelf.balances(shelf.head.seq, [address])]
                )
                for address in addresses
            }

    def balances(
        self, ledger: str, before: int | None = None, accounts: Sequence[str] | None = None
    ) -> list[tuple[str, str, str, Balance]]:
        with self._open():
            shelf = self._shelf(ledger)
            return shelf.balances(shelf.head.seq if before is None else before, accounts)

    def balances_of(self, ledger: str, accounts: Sequence[str]) -> tuple[int, list[tuple[str, str, str, Balance]]]:
        with self._open():
            shelf = self._shelf(ledger)
            return shelf.head.seq, shelf.balances(shelf.head.seq, accounts)

    def entries(self, ledger: str, balance_ids: Sequence[int], first: int, before: int, limit: int) -> list[EntryRow]:
        with self._open():
            shelf = self._shelf(ledger)
            found = [
                row
                for number in set(balance_ids)
                for row in shelf.entries.get(number, ())
                if first <= _seq(row) < before
            ]
            return sorted(found, key=lambda row: (_seq(row), row[0]))[:limit]

    def backdated(self, ledger: str, balance_ids: Sequence[int] | None = None) -> list[tuple[int, int, str, int]]:
        with self._open():
            rows = self._shelf(ledger).backdated
            return sorted(row for row in rows if balance_ids is None or row[0] in balance_ids)

    def accounts(self, ledger: str, prefix: str, after: str, limit: int) -> list[str]:
        with self._open():
            shelf = self._shelf(ledger)
            addresses = shelf.balance_numbers.keys() | shelf.objects.get("account", {}).keys()
            return sorted(address for address in addresses if address.startswith(prefix) and address > after)[:limit]

    # ------------------------------------------------------------ objects

    def load_objects(self, ledger: str, kind: str, ids: Sequence[str] | None = None) -> dict[str, Any]:
        with self._open():
            found = self._shelf(ledger).objects.get(kind, {})
            return {name: found[name] for name in (found if ids is None else ids) if name in found}

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
        with self._open():
            found: list[Lock] = [
                lock
                for lock in self._shelf(ledger).objects.get("lock", {}).values()
                if kind in ("", lock.kind)
                and account in ("", lock.account)
                and state in ("", lock.state)
                and (not due or (lock.is_open and "" < lock.expires <= due))
                and (not after or lock_place(lock.id) > lock_place(after))
            ]
            return sorted(found, key=lambda lock: lock_place(lock.id))[:limit]

    # ------------------------------------------------------------ the log over the events

    def leaves(self, ledger: str, first: int, prev: bytes, limit: int) -> list[bytes]:
        with self._open():
            shelf = self._shelf(ledger)
            bodies = [shelf.body(seq) for seq in range(first, min(first + limit, len(shelf.bodies)))]
        return chunks.hashed(ledger, first, bodies, leaf_hash(bodies[-1]), prev) if bodies else []

    def tiles(self, ledger: str, places: Sequence[tuple[int, int]]) -> list[bytes]:
        with self._open():
            return [self._tiles.get((ledger, *place), b"") for place in places]

    def checkpoint(self, ledger: str) -> bytes | None:
        with self._open():
            notes = self._checkpoints.get(ledger, {})
            return notes[max(notes)] if notes else None

    def checkpoints(self, ledger: str, after: int = -1, limit: int = 1_000) -> list[tuple[int, bytes]]:
        with self._open():
            return [item for item in sorted(self._checkpoints.get(ledger, {}).items()) if item[0] > after][:limit]

    def keep_log(self, ledger: str, tiles: Sequence[TileRow], size: int, note: bytes) -> None:
        with self._open():
            grown: dict[tuple[str, int, int], bytes] = {}
            for level, number, hashes in tiles:
                known = self._tiles.get((ledger, level, number), b"")
                if len(hashes) > len(known):
                    if not hashes.startswith(known):
                        raise LedgerCorrupt(where=f"tile {level}/{number} of {ledger}", problem="a tile only grows")
                    grown[ledger, level, number] = hashes
            self._tiles.update(grown)
            if note:
                self._checkpoints.setdefault(ledger, {})[size] = note

    # ------------------------------------------------------------ openings

    def openings(self, ledger: str, commitments: Sequence[str]) -> dict[str, OpeningRow]:
        with self._open():
            found = self._shelf(ledger).openings
            return {commitment: found[commitment] for commitment in commitments if commitment in found}

    def openings_between(self, ledger: str, first: int, before: int) -> list[OpeningRow]:
        with self._open():
            found = self._shelf(ledger).openings.values()
            return sorted((row for row in found if first <= row[3] < before), key=lambda row: (row[3], row[0]))

    def erase(self, ledger: str, commitments: Sequence[str]) -> int:
        with self._open():
            found = self._shelf(ledger).openings
            return sum(found.pop(commitment, None) is not None for commitment in set(commitments))

    # ------------------------------------------------------------ upkeep

    def rebuild(self, batches: Iterable[Batch]) -> None:
        taken = list(batches)
        if not taken:
            return
        made = _Shelf(taken[0].ledger)
        rows = _Rows(taken)
        made.check(rows)
        made.keep(rows)
        made.head = taken[-1].head
        with self._open():
            kept = self._shelf(made.ledger)
            if made.head.seq != kept.head.seq:
                raise HeadMoved
            made.bodies, made.hashes, made.openings = kept.bodies, kept.hashes, kept.openings
            self._shelves[made.ledger] = made

    def snapshot(self, ledger: str) -> bool:
        """Nothing to write: every balance is at hand already."""
        with self._open():
            return False

    def kept(self, ledger: str, name: str) -> bytes | None:
        with self._open():
            return self._kept.get((ledger, name))

    def keep(self, ledger: str, name: str, body: bytes) -> None:
        with self._open():
            self._kept[ledger, name] = bytes(body)

    def check(self) -> list[str]:
        """There is no file that could be found wrong."""
        with self._open():
            return []

    def stats(self, ledger: str) -> dict[str, int]:
        with self._open():
            shelf = self._shelf(ledger)
            return {
                "events": len(shelf.bodies),
                "entries": sum(len(rows) for rows in shelf.entries.values()),
                "balances": len(shelf.names),
                "event_bytes": sum(len(body) for body in shelf.bodies),
            }

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._shelves.clear()
            self._kept.clear()

    @contextmanager
    def _open(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise Closed
            yield

    def _shelf(self, ledger: str) -> _Shelf:
        """The ledger's shelf, or an empty one that is not kept."""
        return self._shelves.get(ledger) or _Shelf(ledger)


class _Rows:
    """The rows of batches, read out completely: whatever is wrong with them shows before anything was changed."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self.entries: list[EntryRow] = []
        self.balances: list[BalanceRow] = []
        self.keys: list[tuple[int, int]] = []
        self.objects: list[tuple[str, str, Any]] = []
        self.references: list[tuple[str, str, int]] = []
        self.backdated: list[tuple[int, int, str, int]] = []
        self.openings: list[OpeningRow] = []
        for batch in batches:
            for name, rows in vars(self).items():
                rows.extend(tuple(row) for row in getattr(batch, name))


class _Shelf:
    """All that is kept of one ledger."""

    def __init__(self, ledger: str) -> None:
        self.ledger = ledger
        self.head = EMPTY_HEAD
        self.bodies: list[bytes] = []
        self.hashes: list[str] = []
        self.names: dict[int, tuple[str, str, str]] = {}
        self.balance_numbers: dict[str, list[int]] = {}
        self.entries: dict[int, list[EntryRow]] = {}
        self.keys: dict[int, list[int]] = {}
        self.objects: dict[str, dict[str, Any]] = {}
        self.references: dict[tuple[str, str], list[int]] = {}
        self.backdated: list[tuple[int, int, str, int]] = []
        self.openings: dict[str, OpeningRow] = {}

    def check(self, rows: _Rows) -> None:
        """Raises LedgerCorrupt for rows that do not follow from what is here: no balance may be spent twice."""
        named = self.names.keys() | {row[0] for row in rows.balances}
        if len(named) != len(self.names) + len(rows.balances):
            raise LedgerCorrupt(where=f"ledger {self.ledger}", problem="a balance was made twice", ledger=self.ledger)
        opened = self.openings.keys() | {row[0] for row in rows.openings}
        if len(opened) != len(self.openings) + len(rows.openings):
            raise LedgerCorrupt(where=f"ledger {self.ledger}", problem="a commitment has two openings")
        latest: dict[int, EntryRow] = {}
        for row in rows.entries:
            number, version, seq, amount, before, after = row
            earlier = latest.get(number) or self.latest(number)
            if number not in named or (version, before) != (earlier[1] + 1, earlier[5]) or after != before + amount:
                raise LedgerCorrupt(
                    where=f"event {self.ledger}/{seq}",
                    problem=f"version {version} of balance {number} does not follow version {earlier[1]}",
                    seq=seq,
                    ledger=self.ledger,
                )
            latest[number] = row

    def latest(self, number: int) -> EntryRow:
        """The last entry of a balance; one of nothing if there is none."""
        rows = self.entries.get(number)
        return rows[-1] if rows else (number, 0, -1, 0, 0, 0)

    def keep(self, rows: _Rows) -> None:
        """Put rows in their places; nothing here can fail."""
        for number, account, asset, bucket in rows.balances:
            self.names[number] = (account, asset, bucket)
            self.balance_numbers.setdefault(account, []).append(number)
        for row in rows.entries:
            self.entries.setdefault(row[0], []).append(row)
        for key_number, seq in rows.keys:
            self.keys.setdefault(key_number, []).append(seq)
        for kind, name, value in rows.objects:
            self.objects.setdefault(kind, {})[name] = value
        for name, text, seq in rows.references:
            self.references.setdefault((name, text), []).append(seq)
        self.backdated += rows.backdated
        self.openings |= {row[0]: row for row in rows.openings}

    def body(self, seq: int) -> bytes:
        """The bytes of an event, checked against their hash."""
        body = self.bodies[seq]
        if leaf_hash(body) != self.hashes[seq]:
            raise LedgerCorrupt(
                where=f"event {self.ledger}/{seq}",
                problem="its bytes do not have the hash that they were written with",
                seq=seq,
                ledger=self.ledger,
            )
        return body

    def balances(self, before: int, accounts: Sequence[str] | None) -> list[tuple[str, str, str, Balance]]:
        """Balances that were used before event number ``before``, sorted by name."""
        numbers: Iterable[int] = self.names
        if accounts is not None:
            numbers = [number for address in set(accounts) for number in self.balance_numbers.get(address, ())]
        found = []
        for number in numbers:
            rows = self.entries.get(number, [])
            count = bisect_left(rows, before, key=_seq)
            if count:
                _, version, _, _, _, after = rows[count - 1]
                found.append((*self.names[number], Balance(number, after, version)))
        return sorted(found, key=lambda row: row[:3])


def _seq(row: EntryRow) -> int:
    return row[2]


def _check_heads(shelf: _Shelf, batches: Iterable[Batch], hashes: Sequence[str]) -> None:
    """Raises HeadMoved unless each batch follows the one before, LedgerCorrupt unless its events lead to its head."""
    head = shelf.head
    count = 0
    for batch in batches:
        if batch.ledger != shelf.ledger or batch.expected != head:
            raise HeadMoved
        count += len(batch.bodies)
        if not batch.bodies or batch.head.seq != shelf.head.seq + count or batch.head.hash != hashes[count - 1]:
            raise LedgerCorrupt(
                where=f"ledger {shelf.ledger}",
                problem=f"the batch's events do not lead to its head, event {batch.head.seq - 1}",
                ledger=shelf.ledger,
            )
        head = batch.head
