"""What a ledger file keeps beside the journal and its projections: openings, the log over the events, and bytes that
serve speed alone."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from tallystick.stores.base import OpeningRow, TileRow
from tallystick.stores.sqlite_file import SQL, SqliteFile


class SqliteBeside(SqliteFile):
    """A ledger file that knows the numbers of its ledgers; see Store for what each method does."""

    def __init__(self, path: Path | str, *, read_only: bool = False, create: bool = True) -> None:
        self._ids: dict[str, int] = {}
        super().__init__(path, read_only=read_only, create=create)

    def _id(self, connection: sqlite3.Connection, ledger: str) -> int | None:
        found = self._ids.get(ledger)
        if found is None:
            self._ids.update(connection.execute(SQL["ledgers"]))
            found = self._ids.get(ledger)
        return found

    # ------------------------------------------------------------ openings

    def openings(self, ledger: str, commitments: Sequence[str]) -> dict[str, OpeningRow]:
        with self._reading() as connection:
            asked = (self._id(connection, ledger), json.dumps(list(commitments)))
            rows = connection.execute(SQL["openings"], asked).fetchall()
            return {row[0]: _opening(*row) for row in rows}

    def openings_between(self, ledger: str, first: int, before: int) -> list[OpeningRow]:
        with self._reading() as connection:
            asked = (self._id(connection, ledger), first, before)
            return [_opening(*row) for row in connection.execute(SQL["openings_between"], asked)]

    def erase(self, ledger: str, commitments: Sequence[str]) -> int:
        with self._writing() as connection:
            asked = (self._id(connection, ledger), json.dumps(list(commitments)))
            erased = connection.execute(SQL["erase"], asked).rowcount
        self._empty_log()
        return erased

    # ------------------------------------------------------------ the log over the events

    def tiles(self, ledger: str, places: Sequence[tuple[int, int]]) -> list[bytes]:
        with self._reading() as connection:
            id = self._id(connection, ledger)
            rows = [connection.execute(SQL["tile"], (id, *place)).fetchone() for place in places]
        return [b"" if row is None else row[0] for row in rows]

    def checkpoint(self, ledger: str) -> bytes | None:
        with self._reading() as connection:
            row = connection.execute(SQL["checkpoint"], (self._id(connection, ledger),)).fetchone()
        return None if row is None else row[0]

    def checkpoints(self, ledger: str, after: int = -1, limit: int = 1_000) -> list[tuple[int, bytes]]:
        with self._reading() as connection:
            rows = connection.execute(SQL["checkpoints"], (self._id(connection, ledger), after, limit))
            return [(size, note) for size, note, _ in rows]

    def keep_log(self, ledger: str, tiles: Sequence[TileRow], size: int, note: bytes) -> None:
        with self._writing() as connection:
            id = self._id(connection, ledger)
            connection.executemany(SQL["put_tile"], [(id, *tile) for tile in tiles])
            if note:
                connection.execute(SQL["add_checkpoint"], {"ledger": id, "size": size, "note": note})

    # ------------------------------------------------------------ for speed alone

    def kept(self, ledger: str, name: str) -> bytes | None:
        with self._reading() as connection:
            row = connection.execute(SQL["cached"], (self._id(connection, ledger), name)).fetchone()
        if row is None or hashlib.sha256(row[0][32:]).digest() != row[0][:32]:
            return None  # what was damaged is as good as lost, and losing it loses nothing
        return bytes(row[0][32:])

    def keep(self, ledger: str, name: str, body: bytes) -> None:
        with self._writing() as connection:
            id = self._id(connection, ledger)
            if id is not None:
                connection.execute(SQL["put_cache"], (id, name, hashlib.sha256(body).digest() + body))


def _opening(commitment: str, salt: bytes, text: bytes, seq: int) -> OpeningRow:
    return commitment, bytes(salt), bytes(text).decode(), seq  # damaged text is what the reader reports as such
