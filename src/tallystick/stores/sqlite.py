"""The embedded store: ledgers in one SQLite file.

Bytes are checked against their hashes whenever they are read, entries against their own arithmetic; what does not add
up is reported, never repaired.
"""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec

from tallystick.errors import InvalidInput, LedgerCorrupt, LedgerNotFound
from tallystick.kernel import Balance, Lock
from tallystick.stores import chunks
from tallystick.stores.base import (
    EMPTY_HEAD,
    NO_LIMIT,
    OBJECT_TYPES,
    PART_BITS,
    Batch,
    Claim,
    EntryRow,
    Head,
    HeadMoved,
    Joined,
    LoadedAccount,
    lock_place,
    object_row,
)
from tallystick.stores.sql import statements
from tallystick.stores.sqlite_beside import SqliteBeside
from tallystick.stores.sqlite_current import current_balances
from tallystick.stores.sqlite_file import SQL

ENTRIES_PER_SNAPSHOT = 32
"""A snapshot is due when so many entries per balance were posted since the last one."""

LOOKED_UP = 8_192
"""So many balances or more are looked for by reading a part of the entries through."""

_LAST = 2**62


class SqliteStore(SqliteBeside):
    """The store in a ledger file; see Store for what each method does."""

    shared = False
    epoch = 0

    def __init__(self, path: Path | str, *, read_only: bool = False, create: bool = True) -> None:
        # After the last commit of this process, which alone may write from then on until it closes the file.
        self._heads: dict[str, Head] = {}
        self._recent: dict[str, tuple[int, list[bytes]]] = {}  # the row of events last read one by one, checked
        super().__init__(path, read_only=read_only, create=create)

    # ------------------------------------------------------------ writing

    def append(self, batches: Iterable[Batch], *, epoch: int | None = None) -> None:
        ledger: int | None = None
        follows: tuple[str, Head] | None = None
        with self._write_lock:
            try:
                with self._writing() as connection:
                    for batch in batches:
                        if ledger is None:
                            ledger = self._claim(connection, batch)
                        elif (batch.ledger, batch.expected) != follows:
                            raise HeadMoved
                        follows = (batch.ledger, batch.head)
                        self._add_events(connection, ledger, batch)
                        self._add_openings(connection, ledger, batch)
                        self._add_projections(connection, ledger, batch)
            except BaseException:
                if follows is not None:
                    self._heads.pop(follows[0], None)  # how it ended, only the file can tell
                raise
            if follows is not None:
                self._heads[follows[0]] = follows[1]

    def within(self, connection: Any) -> Joined:
        raise InvalidInput(path="connection", problem="only a ledger in PostgreSQL can join a transaction of yours")

    def claim(self, ledger: str, known: Head, **more: Any) -> AbstractContextManager[Claim]:
        raise NotImplementedError("one process at a time writes a file, so nobody else ever comes first")

    def _claim(self, connection: sqlite3.Connection, batch: Batch) -> int:
        """The ledger's number, if the ledger stands where the batch expects it."""
        known = self._heads.get(batch.ledger)
        if known is None:
            self._ids.pop(batch.ledger, None)
        ledger = self._id(connection, batch.ledger)
        if ledger is None:
            ledger = connection.execute(SQL["add_ledger"], (batch.ledger,)).lastrowid or 0
        if (known or self._head(connection, ledger)) != batch.expected:
            raise HeadMoved
        return ledger

    def _add_events(self, connection: sqlite3.Connection, ledger: int, batch: Batch) -> None:
        bodies, places = chunks.pack(batch.expected.seq, batch.bodies)
        if len(places) == 1:  # a posting of its own, or a few: the plain statement is quicker
            seq, count, hash, encoding, _, _, time = places[0]
            connection.execute(SQL["add_event"], (ledger, seq, count, time, hash, encoding, bodies))
        else:
            rows = msgspec.json.encode(places).decode()
            connection.execute(SQL["add_events"], {"ledger": ledger, "bodies": bodies, "rows": rows})

    def _add_openings(self, connection: sqlite3.Connection, ledger: int, batch: Batch) -> None:
        if batch.openings:
            rows = [(ledger, seq, commitment, salt, text.encode()) for commitment, salt, text, seq in batch.openings]
            connection.executemany(SQL["add_opening"], rows)

    def _add_projections(self, connection: sqlite3.Connection, ledger: int, batch: Batch) -> None:
        """Each kind of row goes in by one statement: SQLite works through all of them without Python in between, so
        that other threads run meanwhile, and busy ones cannot hold it up at every row."""
        for name, rows in (("add_balances", batch.balances), ("add_backdated", batch.backdated)):
            if rows:
                connection.execute(SQL[name], {"ledger": ledger, "rows": msgspec.json.encode(rows).decode()})
        partitioned: tuple[tuple[str, Sequence[Any], Callable[[Any], int]], ...] = (
            ("add_entries", batch.entries, itemgetter(2)),
            ("add_keys", batch.keys, itemgetter(1)),
            ("add_references", batch.references, itemgetter(2)),
        )
        for name, ordered, seq in partitioned:
            for part, listed in _by_part(ordered, seq):
                document = msgspec.json.encode(listed).decode()
                connection.execute(SQL[name], {"ledger": ledger, "part": part, "rows": document})
        if batch.objects:
            connection.executemany(SQL["put_object"], [(ledger, *object_row(*item)) for item in batch.objects])

    def rebuild(self, batches: Iterable[Batch]) -> None:
        with self._writing() as connection:
            cleared: int | None = None
            for batch in batches:
                ledger = self._id(connection, batch.ledger)
                if ledger is None:
                    raise LedgerNotFound(path=f"{self.path} {batch.ledger}")
                if cleared is None:
                    self._heads.pop(batch.ledger, None)  # how many balances there are is about to be counted anew
                    for statement in statements("sqlite/clear_projections.sql"):
                        connection.execute(statement, {"ledger": ledger} if ":ledger" in statement else {})
                    cleared = ledger
                self._add_projections(connection, ledger, batch)

    def snapshot(self, ledger: str) -> bool:
        with self._reading() as connection:
            id = self._id(connection, ledger)
            if id is None:
                return False
            head = self._head(connection, id)
            part = head.seq >> PART_BITS
            last = connection.execute(SQL["snapshot_part"], (id, part)).fetchone()[0] or 0
            posted = (part - last) << (PART_BITS + 1)
            if part == last or posted < ENTRIES_PER_SNAPSHOT * head.balances:
                return False
            found = self._latest(connection, id, None, part << PART_BITS)
        with self._writing() as connection:
            rows = sorted((id, part, balance, version, after) for balance, (version, after) in found.items())
            connection.executemany(SQL["add_snapshot"], rows)
            connection.execute(SQL["add_snapshot_point"], (id, part))
        return True

    # ------------------------------------------------------------ reading: heads and events

    def ledgers(self) -> list[str]:
        with self._reading() as connection:
            return [name for name, _ in connection.execute(SQL["ledgers"])]

    def head(self, ledger: str) -> Head | None:
        known = self._known_head(ledger)
        if known is not None:
            return known
        with self._reading() as connection:
            id = self._id(connection, ledger)
            return None if id is None else self._head(connection, id, ledger)

    def _known_head(self, ledger: str) -> Head | None:
        """Where the ledger stands, if this process made the last commit: durable, and right without a look at the file.

        To be asked for before a snapshot begins, which then holds at least as much: what came since is left out.
        """
        return None if self._closed else self._heads.get(ledger)

    def _head(self, connection: sqlite3.Connection, ledger: int, name: str = "") -> Head:
        """Where a ledger stands; with its ``name``, checked against its last event."""
        row = connection.execute(SQL["head"], (ledger,)).fetchone()
        if row is not None and name:
            seq, count, last, hash, _, body = connection.execute(SQL["event_row_before"], (ledger, row[0])).fetchone()
            chunks.check_last(name, seq, count, last, hash, body)
        made: int = connection.execute(SQL["balances_made"], (ledger,)).fetchone()[0]
        return Head(row[0], row[1], row[2], made) if row else EMPTY_HEAD

    def events(self, ledger: str, first: int, limit: int) -> list[bytes]:
        known = self._known_head(ledger)
        if known is not None:
            limit = min(limit, known.seq - first)
            if limit <= 0:
                return []
        with self._reading() as connection:
            id = self._id(connection, ledger)
            if id is None or limit <= 0:
                return []
            asked = {"ledger": id, "first": first, "before": first + limit}
            found: list[bytes] = []
            expected: int | None = None
            for seq, count, time, hash, encoding, body in connection.execute(SQL["event_rows"], asked):
                if (seq > first) if expected is None else (seq != expected):
                    raise LedgerCorrupt(where=f"event {ledger}/{expected or first}", problem="it is missing")
                expected = seq + count
                chunks.check_last(ledger, seq, count, time, hash, body)
                bodies = chunks.unpack(ledger, seq, count, hash, encoding, body)
                found.extend(bodies[max(first - seq, 0) : first + limit - seq])
            head = known or self._head(connection, id, ledger)
            if len(found) != max(min(first + limit, head.seq) - max(first, 0), 0):
                raise LedgerCorrupt(where=f"event {ledger}/{first + len(found)}", problem="it is missing")
            return found

    def leaves(self, ledger: str, first: int, prev: bytes, limit: int) -> list[bytes]:
        with self._reading() as connection:
            id = self._id(connection, ledger)
            found: list[bytes] = []
            asked = {"ledger": id, "first": first, "before": first + limit}
            for seq, count, _, hash, encoding, body in connection.execute(SQL["event_rows"], asked):
                if seq + count <= first:  # the last row before: so nothing is missing in between
                    continue
                if seq != first + len(found):
                    raise LedgerCorrupt(where=f"event {ledger}/{first + len(found)}", problem="no row begins there")
                found += chunks.leaves(ledger, seq, count, hash, encoding, body, found[-1] if found else prev)
            return found

    def event(self, ledger: str, seq: int) -> bytes | None:
        first, bodies = self._recent.get(ledger, (0, []))
        if first <= seq < first + len(bodies):
            return bodies[seq - first]
        known = self._known_head(ledger)
        with self._reading() as connection:
            id = self._id(connection, ledger)
            if id is None or seq < 0:
                return None
            row = connection.execute(SQL["event_row_before"], (id, seq)).fetchone()
            if row is None or seq >= row[0] + row[1]:
                if seq < (known or self._head(connection, id, ledger)).seq:
                    raise LedgerCorrupt(where=f"event {ledger}/{seq}", problem="it is missing", seq=seq)
                return None
        first = int(row[0])
        bodies = chunks.unpack(ledger, first, row[1], row[3], row[4], row[5])
        self._recent[ledger] = (first, bodies)
        return bodies[seq - first]

    def seq_at(self, ledger: str, time: str) -> int:
        known = self._known_head(ledger)
        if known is not None and known.time <= time:
            return known.seq
        with self._reading() as connection:
            id = self._id(connection, ledger)
            if id is None:
                return 0
            low, high, later = 0, (known or self._head(connection, id)).seq, None
            while low < high:
                middle = (low + high) // 2
                row = connection.execute(SQL["event_row_before"], (id, middle)).fetchone()
                if row is None or not low <= row[0] <= middle < row[0] + row[1]:
                    raise LedgerCorrupt(where=f"event {ledger}/{middle}", problem="it is missing", seq=middle)
                seq, count, last, hash, encoding, body = row
                chunks.check_last(ledger, seq, count, last, hash, body)
                if last <= time:
                    low = seq + count
                else:
                    high, later = seq, (seq, count, hash, encoding, body)
            if later is None:
                return low
            return low + bisect_right(chunks.unpack(ledger, *later), time, key=chunks.time_of)

    # ------------------------------------------------------------ reading: balances and entries

    def load_accounts(self, ledger: str, addresses: Sequence[str]) -> dict[str, LoadedAccount]:
        known = self._known_head(ledger)
        with self._reading() as connection:
            id = self._id(connection, ledger)
            if id is None:
                return {address: LoadedAccount(None, []) for address in addresses}
            found = {address: LoadedAccount(None, []) for address in addresses}
            for address, account in self._objects(connection, id, "account", addresses).items():
                found[address] = LoadedAccount(account, [])
            for address, asset, bucket, balance in self._current(connection, id, known, list(found))[1]:
                found[address].balances.append((asset, bucket, balance))
            return found

    def balances_of(self, ledger: str, accounts: Sequence[str]) -> tuple[int, list[tuple[str, str, str, Balance]]]:
        wanted = list(dict.fromkeys(accounts))
        known, id = self._known_head(ledger), self._ids.get(ledger)
        if known is not None and id is not None:
            with self._asking() as connection:
                found = self._before(connection, id, known.seq, wanted)
            if found is not None:
                return known.seq, found
        with self._reading() as connection:
            id = self._id(connection, ledger)
            return (0, []) if id is None else self._current(connection, id, None, wanted)

    def _current(
        self, connection: sqlite3.Connection, ledger: int, known: Head | None, accounts: list[str]
    ) -> tuple[int, list[tuple[str, str, str, Balance]]]:
        """The balances of accounts at the head that is known or, if one has come since, at that of the snapshot."""
        if known is not None:
            found = self._before(connection, ledger, known.seq, accounts)
            if found is not None:
                return known.seq, found
        seq = self._head(connection, ledger).seq
        found = self._before(connection, ledger, seq, accounts)
        if found is None:
            raise LedgerCorrupt(where=f"{self.path} {', '.join(accounts):.80}", problem="a balance has no entry")
        return seq, found

    def _before(
        self, connection: sqlite3.Connection, ledger: int, before: int, accounts: list[str]
    ) -> list[tuple[str, str, str, Balance]] | None:
        """The balances of accounts before an event number, sorted; None if one has no entry before it."""
        last = max(before - 1, 0) >> PART_BITS
        found = current_balances(connection, ledger, before, last, accounts, str(self.path))
        return found and sorted(found, key=itemgetter(0, 1, 2))

    def balances(
        self, ledger: str, before: int | None = None, accounts: Sequence[str] | None = None
    ) -> list[tuple[str, str, str, Balance]]:
        if before is None and accounts is not None:
            return self.balances_of(ledger, accounts)[1]
        with self._reading() as connection:
            id = self._id(connection, ledger)
            if id is None:
                return []
            if accounts is None:
                rows = connection.execute(SQL["all_balances"], (id,)).fetchall()
                latest = self._latest(connection, id, None, before)
            else:
                asked = {"ledger": id, "accounts": json.dumps(list(dict.fromkeys(accounts)))}
                rows = connection.execute(SQL["balances_by_account"], asked).fetchall()
                latest = self._latest(connection, id, [row[0] for row in rows], before)
            found = []
            for number, account, asset, bucket in rows:
                if number in latest:
                    version, after = latest[number]
                    found.append((account, asset, bucket, Balance(number, after, version)))
                elif before is None:
                    raise LedgerCorrupt(where=f"{self.path} balance {number}", problem="it has no entry")
            return sorted(found, key=lambda item: item[:3])

    def _latest(
        self, connection: sqlite3.Connection, ledger: int, wanted: Sequence[int] | None, before: int | None
    ) -> dict[int, tuple[int, int]]:
        """(version, amount) of each balance: from the parts since the last snapshot, newest first, then from that."""
        head = self._head(connection, ledger)
        before = head.seq if before is None else before
        last = max(before - 1, 0) >> PART_BITS
        snapshot = connection.execute(SQL["snapshot_part"], (ledger, last)).fetchone()[0]
        found: dict[int, tuple[int, int]] = {}
        missing = set(range(1, head.balances + 1) if wanted is None else wanted)
        for part in range(last, (snapshot or 0) - 1, -1):
            if not missing:
                return found
            asked: dict[str, Any] = {"ledger": ledger, "part": part, "before": before}
            query = SQL["latest_of_all"]  # to read a part through is quicker than to look many balances up in it
            if len(missing) < LOOKED_UP:
                query, asked["balances"] = SQL["latest_of"], json.dumps(sorted(missing))
            for balance, version, earlier, amount, after in connection.execute(query, asked):
                if balance in missing:
                    if earlier + amount != after:
                        raise LedgerCorrupt(where=f"{self.path} balance {balance}", problem="an entry does not add up")
                    found[balance] = (version, after)
            missing.difference_update(found)
        if snapshot is not None and missing:
            query, asked = SQL["snapshot_of_all"], {"ledger": ledger, "part": snapshot}
            if len(missing) < LOOKED_UP:
                query, asked["balances"] = SQL["snapshot_of"], json.dumps(sorted(missing))
            for balance, version, after in connection.execute(query, asked):
                if balance in missing:
                    found[balance] = (version, after)
        return found

    def entries(self, ledger: str, balance_ids: Sequence[int], first: int, before: int, limit: int) -> list[EntryRow]:
        found: list[EntryRow] = []
        known = self._known_head(ledger)
        with self._reading() as connection:
            id = self._id(connection, ledger)
            if id is None:
                return []
            before = min(before, (known or self._head(connection, id)).seq)
            for part in range(max(first, 0) >> PART_BITS, (before >> PART_BITS) + 1):
                if len(found) >= limit:
                    break
                asked = {
                    "ledger": id,
                    "part": part,
                    "balances": json.dumps(list(balance_ids)),
                    "first": first,
                    "before": before,
                    "limit": limit - len(found),
                }
                found.extend(connection.execute(SQL["entries_in_part"], asked))
            for row in found:
                if row[4] + row[3] != row[5]:
                    raise LedgerCorrupt(where=f"{self.path} event {row[2]}", problem="an entry does not add up")
            return found

    def backdated(self, ledger: str, balance_ids: Sequence[int] | None = None) -> list[tuple[int, int, str, int]]:
        with self._reading() as connection:
            id = self._id(connection, ledger)
            if balance_ids is None:
                return connection.execute(SQL["backdated_of_all"], (id,)).fetchall()
            return connection.execute(SQL["backdated_of"], (id, json.dumps(list(balance_ids)))).fetchall()

    # ------------------------------------------------------------ reading: keys, references, objects

    def find_keys(self, ledger: str, numbers: Sequence[int]) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        known = self._known_head(ledger) or EMPTY_HEAD
        with self._reading() as connection:
            id = self._id(connection, ledger)
            if id is None or not numbers:
                return {}
            last = connection.execute(SQL["last_part_of_keys"], (id,)).fetchone()[0]
            if last > known.seq >> PART_BITS and last > self._head(connection, id).seq >> PART_BITS:
                # To ask all parts up to a number that only damage can have made would take for ever.
                raise LedgerCorrupt(where=str(self.path), problem=f"there are keys of part {last}, and no such events")
            asked = {"ledger": id, "last": last, "numbers": json.dumps(sorted(set(numbers)))}
            for number, seq in connection.execute(SQL["keys"], asked):
                found.setdefault(number, []).append(seq)
        return found

    def key_numbers(self, ledger: str, first: int = 0, before: int | None = None) -> Iterator[tuple[int, int]]:
        with self._reading() as connection:
            yield from self._between(connection, "keys_between", ledger, first, before)

    def references_between(self, ledger: str, first: int, before: int) -> list[tuple[str, str, int]]:
        with self._reading() as connection:
            return list(self._between(connection, "references_between", ledger, first, before))

    def _between(
        self, connection: sqlite3.Connection, query: str, ledger: str, first: int, before: int | None
    ) -> Iterator[Any]:
        """The rows of a partitioned table for a range of events, part by part."""
        id = self._id(connection, ledger)
        if id is None:
            return
        last = max(self._head(connection, id).seq, first)
        if before is not None:
            last = min(last, before - 1)
        for part in range(first >> PART_BITS, (last >> PART_BITS) + 1):
            for row in connection.execute(SQL[query], (id, part, first, _LAST if before is None else before)):
                if type(row[-1]) is not int or not isinstance(row[0], int | str):
                    raise LedgerCorrupt(where=f"{self.path} part {part}", problem="a row holds what it never held")
                yield row

    def references(self, ledger: str, name: str, value: str, after: int = -1, limit: int = NO_LIMIT) -> list[int]:
        found: list[int] = []
        known = self._known_head(ledger)
        with self._reading() as connection:
            id = self._id(connection, ledger)
            if id is None:
                return []
            last = (known or self._head(connection, id)).seq >> PART_BITS
            for part in range((after + 1) >> PART_BITS, last + 1):
                asked = (id, part, name, value, after, limit - len(found))
                found.extend(seq for (seq,) in connection.execute(SQL["references_in_part"], asked))
                if len(found) >= limit:
                    break
        return found

    def load_objects(self, ledger: str, kind: str, ids: Sequence[str] | None = None) -> dict[str, Any]:
        with self._reading() as connection:
            id = self._id(connection, ledger)
            return {} if id is None else self._objects(connection, id, kind, ids)

    def _objects(
        self, connection: sqlite3.Connection, ledger: int, kind: str, ids: Sequence[str] | None
    ) -> dict[str, Any]:
        if ids is None:
            rows = connection.execute(SQL["objects"], (ledger, kind))
        else:
            rows = connection.execute(SQL["objects_by_id"], (ledger, kind, json.dumps(list(ids))))
        return {id: self._decode(kind, body) for id, body in rows}

    def _decode(self, kind: str, body: bytes) -> Any:
        try:
            return msgspec.json.decode(body, type=OBJECT_TYPES[kind])
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise LedgerCorrupt(where=f"{self.path} {kind}", problem=f"it cannot be read: {error}") from None

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
        query = SQL["locks_due"] if due else SQL["locks_of_account"] if account else SQL["locks"]
        found: list[Lock] = []
        with self._reading() as connection:
            id = self._id(connection, ledger)
            asked = {
                "ledger": id,
                "after": lock_place(after) if after else "",
                "state": state,
                "account": account,
                "due": due,
            }
            for (body,) in connection.execute(query, asked):
                lock: Lock = self._decode("lock", body)
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
        with self._reading() as connection:
            asked = {"ledger": self._id(connection, ledger), "prefix": prefix, "after": after, "limit": limit}
            return [account for (account,) in connection.execute(SQL["accounts"], asked)]

    # ------------------------------------------------------------ upkeep

    def check(self) -> list[str]:
        with self._write_lock, self._reading() as connection:  # nobody posts meanwhile
            moved = [name for name, head in self._heads.items() if self._file_head(connection, name) != head]
            for name in moved:
                del self._heads[name]  # from here on the file is asked
        with self._reading() as connection:
            found = [f"ledger {name} does not end where this process left it" for name in moved]
            found += [row[0] for row in connection.execute("PRAGMA integrity_check(100)") if row[0] != "ok"]
            for ledger, *row in connection.execute(SQL["all_objects"]):
                if tuple(row) != object_row(row[0], row[1], self._decode(row[0], row[-1])):
                    found.append(f"{row[0]} {row[1]} of ledger {ledger} is not indexed by what it says")
        return found

    def _file_head(self, connection: sqlite3.Connection, ledger: str) -> Head | None:
        id = self._id(connection, ledger)
        return None if id is None else self._head(connection, id)

    def stats(self, ledger: str) -> dict[str, int]:
        with self._reading() as connection:
            id = self._id(connection, ledger)
            counts = {
                "events": 0 if id is None else self._head(connection, id).seq,
                "balances": connection.execute(SQL["count_balances"], (id,)).fetchone()[0],
                "declared_accounts": connection.execute(SQL["count_objects"], (id, "account")).fetchone()[0],
                "locks": connection.execute(SQL["count_objects"], (id, "lock")).fetchone()[0],
            }
        files = [self.path, self.path.with_name(self.path.name + "-wal")]
        counts["file_bytes"] = sum(file.stat().st_size for file in files if file.exists())
        return counts


def _by_part(rows: Sequence[Any], seq: Callable[[Any], int]) -> Iterator[tuple[int, Sequence[Any]]]:
    """Rows in order of their events, part by part."""
    start = 0
    while start < len(rows):
        part = seq(rows[start]) >> PART_BITS
        end = bisect_left(rows, (part + 1) << PART_BITS, start, key=seq)
        yield part, rows[start:end] if start or end < len(rows) else rows
        start = end
