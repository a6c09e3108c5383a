"""A ledger's journal as bytes, and what is kept of the log over it: what evidence is made of."""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.errors import InvalidInput, TransactionNotFound
from tallystick.stores.base import EMPTY_HEAD, Head, OpeningRow, Store, TileRow

MAX_NUMBER = 2**63 - 1
"""The largest number that every store can be asked for."""


class Journal:
    """The events of one ledger, exactly as they are stored, and the tiles and signed notes that are kept of them.

    Whoever reads here gets bytes that were checked against their hashes; see the store's methods for each.
    """

    def __init__(self, store: Store, ledger: str) -> None:
        self._store = store
        self.ledger = ledger

    @property
    def head(self) -> Head:
        """Where the journal stands: how many events there are, and the hash of the last."""
        return self._store.head(self.ledger) or EMPTY_HEAD

    @property
    def head_seq(self) -> int:
        """How many events there are."""
        return self.head.seq

    def event(self, seq: int) -> bytes:
        """The bytes of one event. Raises TransactionNotFound."""
        body = self._store.event(self.ledger, seq) if 0 <= seq <= MAX_NUMBER else None
        if body is None:
            raise TransactionNotFound(transaction=f"{self.ledger}/{seq}")
        return body

    def events(self, first: int, limit: int) -> list[bytes]:
        """The bytes of up to ``limit`` events from number ``first``."""
        limit = min(limit, MAX_NUMBER - first)
        if limit <= 0:
            return []
        return self._store.events(self.ledger, first, limit)

    def leaves(self, first: int, prev: bytes, limit: int) -> list[bytes]:
        """The leaf hashes of about ``limit`` events from ``first`` on, read and hashed anew, behind ``prev``."""
        return self._store.leaves(self.ledger, first, prev, limit)

    def tiles(self, places: Sequence[tuple[int, int]]) -> list[bytes]:
        """The hashes of the kept tiles at these (level, number). Raises InvalidInput for numbers that no tile has."""
        for level, number in places:
            if not (0 <= level < 64 and 0 <= number <= MAX_NUMBER):
                raise InvalidInput(path="tile", problem=f"there is no tile {number} of level {level} in any log")
        return self._store.tiles(self.ledger, places)

    def checkpoint(self) -> bytes | None:
        """The newest signed note that is kept."""
        return self._store.checkpoint(self.ledger)

    def checkpoints(self, after: int = -1, limit: int = 1_000) -> list[tuple[int, bytes]]:
        """(size, signed note) of each size after one, ascending."""
        return self._store.checkpoints(self.ledger, after, limit)

    def keep(self, tiles: Sequence[TileRow], size: int, note: bytes) -> None:
        """Keep tiles and the note that was signed of them in one commit."""
        self._store.keep_log(self.ledger, tiles, size, note)

    def openings(self, first: int, before: int) -> list[OpeningRow]:
        """The openings that are there of the events with first <= seq < before."""
        return self._store.openings_between(self.ledger, first, before)

    @property
    def recorded_key(self) -> str:
        """The key that the ledger recorded last (``key_rotated``); nothing if it has recorded none."""
        found = self._store.load_objects(self.ledger, "signing_key", ["current"])
        return str(found["current"].id) if "current" in found else ""

    def neighbours(self) -> list[Journal]:
        """The journals of the other ledgers in the same database."""
        return [Journal(self._store, name) for name in self._store.ledgers() if name != self.ledger]
