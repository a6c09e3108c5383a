"""What the PostgreSQL store reads.

A call that takes more than one statement reads in one snapshot of the database, so that its answers fit together.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import psycopg
from psycopg.rows import tuple_row

from tallystick.errors import LedgerCorrupt
from tallystick.kernel import Balance, Lock
from tallystick.stores import chunks
from tallystick.stores.base import (
    NO_LIMIT,
    OBJECT_TYPES,
    PART_BITS,
    EntryRow,
    Head,
    LoadedAccount,
    OpeningRow,
    lock_place,
    object_row,
)
from tallystick.stores.postgres.append import Numbers
from tallystick.stores.postgres.archived import ArchivedReading, recorded_until
from tallystick.stores.postgres.connections import Borrowed, Link, Source
from tallystick.stores.postgres.parquet import EventRow
from tallystick.stores.postgres.standing import LAST, Standing
from tallystick.stores.sql import queries

SQL = queries("postgres/queries.sql")
"""Every statement but those of an append, by name."""

KEY_PART_BITS = 18
"""Keys and references are unique, and are looked for, within parts of 2^18 events."""
LOCKS_PER_FETCH = 500
_BEYOND = "\U0010ffff"


class Reading(ArchivedReading):
    """The reading half of the store."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._ids: dict[str, int] = {}
        self._numbers: dict[int, Numbers] = {}
        self._recent: dict[str, tuple[int, list[bytes]]] = {}  # the row of events last read one by one, checked

    # ------------------------------------------------------------ helpers

    def _rows(self, connection: Link, query: str, **values: Any) -> list[Any]:
        with psycopg.Cursor(connection, row_factory=tuple_row) as cursor:  # whatever the caller's makes
            return cursor.execute(SQL[query], values, binary=True).fetchall()

    def _do(self, connection: Link, query: str, **values: Any) -> None:
        with psycopg.Cursor(connection) as cursor:
            cursor.execute(SQL[query], values)

    def _row(self, connection: Link, query: str, **values: Any) -> Any:
        rows = self._rows(connection, query, **values)
        return rows[0] if rows else None

    def _id(self, connection: Link, ledger: str) -> int | None:
        found = self._ids.get(ledger)
        if found is None and is_text(ledger):
            row = self._row(connection, "ledger_id", name=ledger)
            if row is not None:
                found = self._ids[ledger] = row[0]
        return found

    def _standing(self, connection: Link, ledger: int, before: int | None = None) -> Standing:
        row = self._row(connection, "standing", ledger=ledger, before=before)
        if row is None:
            raise LedgerCorrupt(where=f"ledger {ledger}", problem="it has no head")
        return Standing(Head(*row[:4]), *row[4:])

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Link]:
        """A connection in one snapshot of the database, in which no period leaves for the archive."""
        with self._source.using() as connection:
            if isinstance(self._source, Borrowed):
                self._do(connection, "keep_periods")
                yield connection
            else:
                connection.execute(SQL["begin_reading"])
                yield connection
                connection.execute("COMMIT")

    def _known(self, ledger: int) -> Numbers:
        return self._numbers.setdefault(ledger, Numbers())

    def _learn(self, connection: Link, ledger: int, balances: Iterable[int], numbers: Numbers) -> None:
        """Have these balances among the numbers, if they exist."""
        unknown = numbers.unknown(balances)
        if unknown:
            for balance, stored in self._rows(connection, "balances_by_number", ledger=ledger, numbers=unknown):
                numbers.know(balance, stored)

    # ------------------------------------------------------------ heads and events

    def ledgers(self) -> list[str]:
        with self._source.using() as connection:
            return [name for name, _ in self._rows(connection, "ledgers")]

    def head(self, ledger: str) -> Head | None:
        with self._source.using() as connection:
            id = self._id(connection, ledger)
            return None if id is None else self._head(connection, id)

    def _head(self, connection: Link, ledger: int) -> Head | None:
        row = self._row(connection, "head", ledger=ledger)
        return Head(*row) if row is not None and row[0] else None

    def events(self, ledger: str, first: int, limit: int) -> list[bytes]:
        if limit <= 0:
            return []
        with self._reading() as connection:
            id = self._id(connection, ledger)
            head = None if id is None else self._head(connection, id)
            before = min(first + limit, head.seq if head else 0)
            if id is None or first >= before:
                return []
            found: list[bytes] = []
            expected: int | None = None
            for seq, count, time, hash, encoding, body in self._event_rows(connection, id, max(first, 0), before):
                if (seq > max(first, 0)) if expected is None else (seq != expected):
                    raise LedgerCorrupt(where=f"event {ledger}/{expected or first}", problem="it is missing")
                expected = seq + count
                chunks.check_last(ledger, seq, count, time, hash, body)
                bodies = chunks.unpack(ledger, seq, count, hash, encoding, body)
                found.extend(bodies[max(first - seq, 0) : before - seq])
            if len(found) != before - max(first, 0):
                raise LedgerCorrupt(where=f"event {ledger}/{max(first, 0) + len(found)}", problem="it is missing")
            return found

    def _event_rows(self, connection: Link, ledger: int, first: int, before: int) -> list[EventRow]:
        """The stored rows that hold these events, those in the archive first. Raises Archived."""
        rows = self._rows(connection, "event_rows", ledger=ledger, first=first, before=before)
        begins = rows[0][0] if rows else before
        return rows if begins <= first else [*self._archived_rows(connection, ledger, first, begins), *rows]

    def event(self, ledger: str, seq: int) -> bytes | None:
        first, bodies = self._recent.get(ledger, (0, []))
        if first <= seq < first + len(bodies):
            return bodies[seq - first]
        if not 0 <= seq < LAST:
            return None
        with self._source.using() as connection:
            id = self._id(connection, ledger)
            row = None if id is None else self._row_before(connection, id, seq)
            if id is None or row is None or seq >= row[0] + row[1]:
                head = None if id is None else self._head(connection, id)
                if id is None or head is None or seq >= head.seq:
                    return None
                row = self._archived_row(connection, id, seq)
                if row is None:
                    raise LedgerCorrupt(where=f"event {ledger}/{seq}", problem="it is missing", seq=seq)
        first = int(row[0])
        bodies = chunks.unpack(ledger, first, row[1], *row[3:])
        self._recent[ledger] = (first, bodies)
        return bodies[seq - first]

    def _row_before(self, connection: Link, ledger: int, seq: int) -> Any:
        return self._row(connection, "event_row_before", ledger=ledger, seq=seq)

    def seq_at(self, ledger: str, time: str) -> int:
        with self._reading() as connection:
            id = self._id(connection, ledger)
            head = None if id is None else self._head(connection, id)
            if id is None or head is None:
                return 0
            if not is_text(time) or head.time <= time:
                return head.seq
            standing = self._standing(connection, id)
            archived = self._archived_until(connection, id, standing.boundary, time)
            if archived is not None:
                return archived
            low, high, later = standing.boundary, head.seq, None
            while low < high:
                middle = (low + high) // 2
                row = self._row(connection, "event_time_before", ledger=id, seq=middle)
                if row is None or not low <= row[0] <= middle < row[0] + row[1]:
                    raise LedgerCorrupt(where=f"event {ledger}/{middle}", problem="it is missing", seq=middle)
                seq, count, last = row
                if last <= time:
                    low = seq + count
                else:
                    high = later = seq
            if later is None:
                return low
            return low + recorded_until(ledger, self._row_before(connection, id, later), time)

    # ------------------------------------------------------------ balances and entries

    def load_accounts(self, ledger: str, addresses: Sequence[str]) -> dict[str, LoadedAccount]:
        found = {address: LoadedAccount(None, []) for address in addresses}
        asked = [address for address in found if is_text(address)]
        with self._reading() as connection:
            id = self._id(connection, ledger)
            if id is None or not asked:
                return found
            declared = self._objects(connection, id, "account", asked)
            found.update({address: LoadedAccount(account, []) for address, account in declared.items()})
            standing = self._standing(connection, id)
            for account, asset, bucket, balance in self._balances_of(connection, id, asked, standing, None):
                found[account].balances.append((asset, bucket, balance))
            return found

    def balances(
        self, ledger: str, before: int | None = None, accounts: Sequence[str] | None = None
    ) -> list[tuple[str, str, str, Balance]]:
        with self._reading() as connection:
            id = self._id(connection, ledger)
            if id is None:
                return []
            if accounts is None:
                return self._all_balances(connection, id, before)
            asked = [account for account in accounts if is_text(account)]
            standing = self._standing(connection, id, before)
            return sorted(self._balances_of(connection, id, asked, standing, before), key=lambda row: row[:3])

    def balances_of(self, ledger: str, accounts: Sequence[str]) -> tuple[int, list[tuple[str, str, str, Balance]]]:
        with self._reading() as connection:
            id = self._id(connection, ledger)
            if id is None:
                return 0, []
            asked = [account for account in accounts if is_text(account)]
            standing = self._standing(connection, id)
            found = self._balances_of(connection, id, asked, standing, None)
            return standing.head.seq, sorted(found, key=lambda row: row[:3])

    def _balances_of(
        self, connection: Link, ledger: int, accounts: list[str], standing: Standing, before: int | None
    ) -> list[tuple[str, str, str, Balance]]:
        rows = self._rows(connection, "balances_by_account", ledger=ledger, accounts=accounts)
        if not rows:
            return []
        latest = self._latest(connection, ledger, {row[0]: row[1] for row in rows}, standing, before)
        found = []
        numbers = self._known(ledger)
        for stored, number, account, asset, bucket in rows:
            numbers.know(number, stored)
            if stored in latest:
                version, after = latest[stored]
                found.append((account, asset, bucket, Balance(number, after, version)))
            elif before is None:
                raise LedgerCorrupt(where=f"balance {account} {asset} {bucket}", problem="it has no entry")
        return found

    def _latest(
        self, connection: Link, ledger: int, wanted: dict[int, int], standing: Standing, before: int | None
    ) -> dict[int, tuple[int, int]]:
        """(version, amount) of each stored balance, of which ``wanted`` has the numbers: from the parts since the last
        snapshot or the archive, or else from these."""
        asked = self._tail(standing, before)
        archived = self._long_ago(connection, ledger, standing, before, list(wanted.values()))
        found = {stored: archived[number] for stored, number in wanted.items() if number in archived}
        rows = self._rows(connection, "latest_of", ledger=ledger, balances=list(wanted), **asked)
        for balance, version, earlier, amount, after in rows:
            if earlier + amount != after:
                raise LedgerCorrupt(where=f"balance {balance}", problem="an entry does not add up")
            found[balance] = (version, after)
        missing = [balance for balance in wanted if balance not in found]
        if (standing.snapshot is not None or standing.archived) and missing:
            asked = {"part": standing.snapshot, "carried": asked["carried"], "balances": missing}
            for balance, version, after in self._rows(connection, "snapshot_of", ledger=ledger, **asked):
                found[balance] = (version, after)
        return found

    def _tail(self, standing: Standing, before: int | None) -> dict[str, Any]:
        """The places between the last snapshot, or the archive, and an event number; ``carried``: whether the archive
        left balances somewhere before it."""
        before = standing.head.seq if before is None else before
        boundary = standing.boundary
        periods, parts = standing.places(PART_BITS, max((standing.snapshot or 0) << PART_BITS, boundary), before)
        archive = {"boundary": boundary, "archived": standing.archived, "carried": 0 < boundary <= before}
        return {"periods": periods, "parts": parts, "before": before, **archive}

    def _long_ago(
        self, connection: Link, ledger: int, standing: Standing, before: int | None, balances: list[int] | None
    ) -> dict[int, tuple[int, int]]:
        """What the archive alone knows of these balances: how they stood before an event that lies in it."""
        if before is None or before >= standing.boundary:
            return {}
        return self._archived_latest(connection, ledger, standing.snapshot, before, balances)

    def _all_balances(self, connection: Link, ledger: int, before: int | None) -> list[tuple[str, str, str, Balance]]:
        standing = self._standing(connection, ledger, before)
        asked = {**self._tail(standing, before), "part": standing.snapshot}
        archived = self._long_ago(connection, ledger, standing, before, None)
        self._by_index(connection)
        found = []
        for account, asset, bucket, number, *last, adds_up in self._rows(
            connection, "all_balances", ledger=ledger, **asked
        ):
            version, after = archived.get(number, last)
            if version is None:
                if before is None:
                    raise LedgerCorrupt(where=f"balance {account} {asset} {bucket}", problem="it has no entry")
                continue
            if adds_up is False:
                raise LedgerCorrupt(where=f"balance {account} {asset} {bucket}", problem="an entry does not add up")
            found.append((account, asset, bucket, Balance(number, after, version)))
        return found

    def entries(self, ledger: str, balance_ids: Sequence[int], first: int, before: int, limit: int) -> list[EntryRow]:
        with self._reading() as connection:
            id = self._id(connection, ledger)
            if id is None or not balance_ids or limit <= 0:
                return []
            standing = self._standing(connection, id)
            before = min(before, standing.head.seq)
            archived = min(before, standing.boundary)
            found = self._archived_entries(connection, id, balance_ids, max(first, 0), archived, limit)
            if len(found) == limit:
                return found
            periods, parts = standing.places(PART_BITS, max(first, standing.boundary), before)
            numbers = self._known(id)
            self._learn(connection, id, balance_ids, numbers)
            unknown = set(numbers.unknown(balance_ids))
            balances = {numbers.stored(balance): balance for balance in balance_ids if balance not in unknown}
            asked = {"balances": list(balances), "first": first, "before": before}
            for period, part in zip(reversed(periods), reversed(parts), strict=True):
                # An event has at most one entry of each balance: so many more, and the last event wanted is whole.
                place = {"period": period, "part": part, "limit": limit - len(found) + len(balances)}
                rows = self._rows(connection, "entries", ledger=id, **asked, **place)
                for row in rows:
                    if row[4] + row[3] != row[5]:
                        raise LedgerCorrupt(where=f"event {ledger}/{row[2]}", problem="an entry does not add up")
                ordered = sorted(((balances[row[0]], *row[1:]) for row in rows), key=lambda row: (row[2], row[0]))
                found += ordered[: limit - len(found)]
                if len(found) >= limit:
                    break
            return found

    def backdated(self, ledger: str, balance_ids: Sequence[int] | None = None) -> list[tuple[int, int, str, int]]:
        with self._source.reading() as connection:
            id = self._id(connection, ledger)
            if id is None:
                return []
            if balance_ids is None:
                rows = self._rows(connection, "backdated_of_all", ledger=id)
            else:
                rows = self._rows(connection, "backdated_of", ledger=id, balances=list(balance_ids))
            return rows

    # ------------------------------------------------------------ keys and references

    def find_keys(self, ledger: str, numbers: Sequence[int]) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        with self._source.using() as connection:
            id = self._id(connection, ledger)
            if id is None or not numbers:
                return {}
            for number, seq in self._rows(connection, "keys", ledger=id, numbers=sorted(set(numbers))):
                found.setdefault(number, []).append(seq)
        return found

    def key_numbers(self, ledger: str, first: int = 0, before: int | None = None) -> Iterator[tuple[int, int]]:
        return self._between("keys_between", ledger, first, before)

    def references_between(self, ledger: str, first: int, before: int) -> list[tuple[str, str, int]]:
        return list(self._between("references_between", ledger, first, before))

    def _between(self, query: str, ledger: str, first: int, before: int | None) -> Iterator[Any]:
        """The rows of a partitioned table for a range of events, part by part; no connection is held between parts."""
        with self._source.reading() as connection:
            id = self._id(connection, ledger)
            if id is None:
                return
            standing = self._standing(connection, id)
        before = LAST if before is None else before
        periods, parts = standing.places(KEY_PART_BITS, first, min(before, standing.head.seq))
        for period, part in zip(reversed(periods), reversed(parts), strict=True):
            with self._source.using() as connection:
                asked = {"period": period, "part": part, "first": first, "before": before}
                rows = self._rows(connection, query, ledger=id, **asked)
            yield from rows

    def references(self, ledger: str, name: str, value: str, after: int = -1, limit: int = NO_LIMIT) -> list[int]:
        with self._source.reading() as connection:
            id = self._id(connection, ledger)
            if id is None or not (is_text(name) and is_text(value)):
                return []
            standing = self._standing(connection, id)
            periods, parts = standing.places(KEY_PART_BITS, after + 1, standing.head.seq)
            asked = {"periods": periods, "parts": parts, "name": name, "value": value, "after": after, "limit": limit}
            return [seq for (seq,) in self._rows(connection, "references", ledger=id, **asked)]

    # ------------------------------------------------------------ openings

    def openings(self, ledger: str, commitments: Sequence[str]) -> dict[str, OpeningRow]:
        with self._source.using() as connection:
            asked = {"ledger": self._id(connection, ledger), "commitments": list(filter(is_text, commitments))}
            return {row[0]: _opening(*row) for row in self._rows(connection, "openings", **asked)}

    def openings_between(self, ledger: str, first: int, before: int) -> list[OpeningRow]:
        with self._source.using() as connection:
            asked = {"ledger": self._id(connection, ledger), "first": first, "before": before}
            return [_opening(*row) for row in self._rows(connection, "openings_between", **asked)]

    # ------------------------------------------------------------ the log over the events

    def leaves(self, ledger: str, first: int, prev: bytes, limit: int) -> list[bytes]:
        with self._reading() as connection:
            id = self._id(connection, ledger)
            head = None if id is None else self._head(connection, id)
            found: list[bytes] = []
            if id is None or head is None or first >= head.seq:
                return found
            before = min(first + limit, head.seq)
            for seq, count, _, hash, encoding, body in self._event_rows(connection, id, first, before):
                if seq != first + len(found):
                    raise LedgerCorrupt(where=f"event {ledger}/{first + len(found)}", problem="no row begins there")
                found += chunks.leaves(ledger, seq, count, hash, encoding, body, found[-1] if found else prev)
            return found

    def tiles(self, ledger: str, places: Sequence[tuple[int, int]]) -> list[bytes]:
        with self._source.using() as connection:
            levels, numbers = [level for level, _ in places], [number for _, number in places]
            asked = {"ledger": self._id(connection, ledger), "levels": levels, "numbers": numbers}
            found = {(level, number): hashes for level, number, hashes in self._rows(connection, "tiles", **asked)}
        return [found.get(place, b"") for place in places]

    def checkpoint(self, ledger: str) -> bytes | None:
        with self._source.using() as connection:
            row = self._row(connection, "checkpoint", ledger=self._id(connection, ledger))
        return None if row is None else row[0]

    def checkpoints(self, ledger: str, after: int = -1, limit: int = 1_000) -> list[tuple[int, bytes]]:
        with self._source.using() as connection:
            asked = {"ledger": self._id(connection, ledger), "after": after, "limit": limit}
            return self._rows(connection, "checkpoints", **asked)

    # ------------------------------------------------------------ objects

    def load_objects(self, ledger: str, kind: str, ids: Sequence[str] | None = None) -> dict[str, Any]:
        with self._source.using() as connection:
            id = self._id(connection, ledger)
            return {} if id is None else self._objects(connection, id, kind, ids)

    def _objects(self, connection: Link, ledger: int, kind: str, ids: Sequence[str] | None) -> dict[str, Any]:
        if ids is None:
            rows = self._rows(connection, "objects", ledger=ledger, kind=kind)
        else:
            asked = [id for id in ids if is_text(id)]
            rows = self._rows(connection, "objects_by_id", ledger=ledger, kind=kind, ids=asked) if asked else []
        return {id: decode_object(kind, body) for id, body in rows}

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
        if not all(map(is_text, (kind, account, state, due, after))):
            return []
        query = "locks_due" if due else "locks_of_account" if account else "locks"
        asked = {"after": lock_place(after) if after else "", "state": state, "account": account, "due": due}
        found: list[Lock] = []
        with self._source.reading() as connection:
            id = self._id(connection, ledger)
            with psycopg.ServerCursor(connection, "tallystick_locks", row_factory=tuple_row) as cursor:
                cursor.itersize = LOCKS_PER_FETCH
                cursor.execute(SQL[query], {"ledger": id, **asked}, binary=True)
                for (body,) in cursor:
                    lock: Lock = decode_object("lock", body)
                    if (
                        kind in ("", lock.kind)
                        and account in ("", lock.account)
                        and state in ("", lock.state)
                        and (lock.is_open or not due)
                    ):
                        found.append(lock)
                        if len(found) == limit:
                            break
        return found

    def accounts(self, ledger: str, prefix: str, after: str, limit: int) -> list[str]:
        if not (is_text(prefix) and is_text(after)):
            return []
        with self._source.using() as connection:
            id = self._id(connection, ledger)
            asked = {"prefix": prefix, "beyond": prefix + _BEYOND, "after": after, "limit": limit}
            return [account for (account,) in self._rows(connection, "accounts", ledger=id, **asked)]

    # ------------------------------------------------------------ upkeep

    def kept(self, ledger: str, name: str) -> bytes | None:
        with self._source.using() as connection:
            row = self._row(connection, "cached", ledger=self._id(connection, ledger), name=name)
        if row is None or hashlib.sha256(row[0][32:]).digest() != row[0][:32]:
            return None  # what was damaged is as good as lost, and losing it loses nothing
        return bytes(row[0][32:])

    def check(self) -> list[str]:
        with self._source.reading() as connection:
            return [
                f"{row[0]} {row[1]} of ledger {ledger} is not indexed by what it says"
                for ledger, *row in self._rows(connection, "all_objects")
                if (*row[:-1], row[-1].encode()) != object_row(row[0], row[1], decode_object(row[0], row[-1]))
            ]

    def stats(self, ledger: str) -> dict[str, int]:
        with self._source.reading() as connection:
            id = self._id(connection, ledger)
            head = None if id is None else self._head(connection, id)
            balances, accounts, locks, size = self._row(connection, "counts", ledger=id)
            return {
                "events": head.seq if head else 0,
                "balances": balances,
                "declared_accounts": accounts,
                "locks": locks,
                "file_bytes": size,
            }

    # ------------------------------------------------------------ what others did

    def _by_index(self, connection: Link) -> None:
        """Before all balances are joined, in a transaction of ours. Where PostgreSQL has no statistics yet it expects a
        few rows, and would look each of very many up; where it has, it would rather read all entries than some parts.
        """
        if not isinstance(self._source, Borrowed):
            connection.execute(SQL["by_index"])


def _opening(commitment: str, salt: bytes, text: bytes, seq: int) -> OpeningRow:
    try:
        return commitment, salt, text.decode(), seq
    except UnicodeDecodeError:
        raise LedgerCorrupt(where=f"the opening of {commitment}", problem="its text is damaged", seq=seq) from None


def decode_object(kind: str, body: str) -> Any:
    """An object from its JSON. Raises LedgerCorrupt."""
    try:
        return msgspec.json.decode(body, type=OBJECT_TYPES[kind])
    except (msgspec.DecodeError, UnicodeError, KeyError, TypeError) as error:
        raise LedgerCorrupt(where=f"{kind}", problem=f"it cannot be read: {error}") from None


def is_text(value: Any) -> bool:
    """Whether PostgreSQL can hold this text: what it cannot hold was never written."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
