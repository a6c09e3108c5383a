"""The log over a ledger, held against the events as they are replayed: every kept tile, and every signed root."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tallystick.errors import NoteInvalid
from tallystick.journal.checkpoints import read_checkpoint
from tallystick.journal.merkle import hash_leaf
from tallystick.journal.tiles import HEIGHT, WIDTH, Growth, Tile
from tallystick.ledger.views import Finding
from tallystick.stores.base import Store


class LogAudit:
    """The tree grows with the events that pass by. A chain that was altered and made anew all through is shown by this,
    and by nothing else within the ledger: its tiles and its signed roots are those of other events. Signatures are not
    looked at here."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._growth = Growth()
        self._signed = _checkpoints(store, name)
        self._next = next(self._signed, None)
        self._kept = _size_of(store.checkpoint(name))

    def pass_by(self, bodies: Sequence[bytes]) -> Iterator[Finding]:
        """What differs up to the last of these events, which follow those before."""
        if not self._kept:
            return
        leaves = [hash_leaf(body) for body in bodies]
        first = self._growth.size
        while self._next is not None and self._next[0] <= first + len(leaves):
            size, note = self._next
            self._growth.extend(leaves[self._growth.size - first : size - first])
            yield from self._compare_root(size, note)
            self._next = next(self._signed, None)
        self._growth.extend(leaves[self._growth.size - first :])
        yield from self._compare_tiles(self._growth.take())

    def end(self) -> Iterator[Finding]:
        """What was signed and is not there."""
        if self._next is not None:
            yield Finding(self._named(self._next[0]), f"there are only {self._growth.size} events")

    def _compare_root(self, size: int, note: bytes) -> Iterator[Finding]:
        try:
            checkpoint = read_checkpoint(note)
        except NoteInvalid as error:
            yield Finding(self._named(size), str(error))
            return
        if (checkpoint.size, checkpoint.root) != (size, self._growth.root()):
            yield Finding(self._named(size), "the events have another root than was signed")

    def _compare_tiles(self, tiles: Sequence[tuple[Tile, bytes]]) -> Iterator[Finding]:
        rows = self._store.tiles(self._name, [(tile.level, tile.number) for tile, _ in tiles])
        for (tile, hashes), row in zip(tiles, rows, strict=True):
            common = min(len(row), len(hashes))
            if row[:common] != hashes[:common]:
                yield Finding(f"{tile.path} of {self._name}", "its hashes are not those of the events")
            elif len(row) < len(hashes) and self._covered(tile):
                yield Finding(f"{tile.path} of {self._name}", "some of its hashes are missing")

    def _covered(self, tile: Tile) -> bool:
        """Whether what was signed needs all of this tile."""
        return (tile.number * WIDTH + tile.width) << (HEIGHT * tile.level) <= self._kept

    def _named(self, size: int) -> str:
        return f"checkpoint {size} of {self._name}"


def _checkpoints(store: Store, name: str) -> Iterator[tuple[int, bytes]]:
    after = -1
    while page := store.checkpoints(name, after):
        yield from page
        after = page[-1][0]


def _size_of(note: bytes | None) -> int:
    try:
        return 0 if note is None else read_checkpoint(note).size
    except NoteInvalid:
        return 1  # looked at, and found, when its size comes
