"""Tiles: the Merkle tree cut into files that never change, laid out as the C2SP specification tlog-tiles says.

A tile is a row of up to 256 hashes, written end to end. At level 0 they are the leaf hashes of 256 events; each hash at
level L + 1 is the root of one *full* tile of level L. The last tile of a level may be partial; it is never hashed
upwards, and a level whose last tile is full has no partial one. The levels of the tree in between are not kept: they
are a few hundred hashes to compute. Beside the tiles lie entry bundles, with the bytes of the same 256 events.

``Growth`` makes the tiles of a growing log from its right edge alone; ``hash_reader`` serves proofs from tiles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct

from tallystick.errors import LedgerCorrupt, NoteInvalid, ProofInvalid
from tallystick.journal.merkle import EMPTY_ROOT, HASH_BYTES, MAX_SIZE, HashReader, hash_pairs, root_of

__all__ = [
    "MAX_ENTRY_BYTES",
    "MAX_LEVEL",
    "WIDTH",
    "Bundle",
    "Growth",
    "Tile",
    "TileSource",
    "decode_bundle",
    "encode_bundle",
    "hash_reader",
    "parse_path",
]

HEIGHT = 8
WIDTH = 1 << HEIGHT
MAX_LEVEL = 63
"""The highest level that a path may name. No log of 64-bit size reaches above level 7."""
MAX_ENTRY_BYTES = 65_535
"""An entry's length is written in two bytes."""

_TILE_BYTES = WIDTH * HASH_BYTES
_LEVELS = MAX_SIZE.bit_length() // HEIGHT + 1


class Tile(Struct, frozen=True):
    """The tile ``number`` of a level, ``width`` hashes wide; a partial one if narrower than 256."""

    level: int
    number: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Where it lies under the log's prefix: ``tile/0/x001/067``, or ``tile/0/x001/067.p/5`` if partial."""
        return f"tile/{self.level}/{_number_path(self.number, self.width)}"


class Bundle(Struct, frozen=True):
    """The entry bundle ``number``: the bytes of the ``width`` events whose leaf hashes level 0's tile holds."""

    number: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Where it lies under the log's prefix: ``tile/entries/x001/067``."""
        return f"tile/entries/{_number_path(self.number, self.width)}"


TileSource = Callable[[Sequence[Tile]], list[bytes]]
"""Gives the hashes of each tile asked for; it may give more than its width, such as the full tile of a later day."""


# ---------------------------------------------------------------- paths


_PATH = re.compile(r"tile/(entries|[0-9]{1,2})/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([0-9]{1,3}))?")
_MAX_PATH = 64


def _number_path(number: int, width: int) -> str:
    path = f"{number % 1000:03d}"
    while number := number // 1000:
        path = f"x{number % 1000:03d}/{path}"
    return path if width == WIDTH else f"{path}.p/{width}"


def parse_path(path: str) -> Tile | Bundle:
    """The tile or bundle with this path. Raises NoteInvalid for a path that is not written as the specification says.

    Each has one way to be written: no needless zeros, and a width only if it is partial.
    """
    match = _PATH.fullmatch(path) if len(path) <= _MAX_PATH else None
    if match is None:
        raise NoteInvalid(problem=f"{path[:_MAX_PATH]!r} is not the path of a tile")
    level, digits, partial = match.groups()
    number, width = int(digits.replace("/", "").replace("x", "")), int(partial or WIDTH)
    parsed = Bundle(number, width) if level == "entries" else Tile(int(level), number, width)
    # Written again it must be the same, which catches leading zeros; a partial tile of 256 or 0 is none.
    if parsed.path != path or not 1 <= width <= WIDTH or number > MAX_SIZE:
        raise NoteInvalid(problem=f"{path!r} is not the path of a tile")
    if isinstance(parsed, Tile) and parsed.level > MAX_LEVEL:
        raise NoteInvalid(problem=f"{path!r} is above level {MAX_LEVEL}")
    return parsed


# ---------------------------------------------------------------- entry bundles


def encode_bundle(bodies: Sequence[bytes]) -> bytes:
    """The entry bundle of these events' bytes: each behind its length in two bytes, the high one first.

    Raises NoteInvalid for no events, more than 256, or one of more than 65,535 bytes.
    """
    if not 1 <= len(bodies) <= WIDTH:
        raise NoteInvalid(problem=f"an entry bundle holds 1 to {WIDTH} entries, not {len(bodies)}")
    parts = []
    for body in bodies:
        if len(body) > MAX_ENTRY_BYTES:
            raise NoteInvalid(problem=f"an entry takes {len(body)} bytes, the limit is {MAX_ENTRY_BYTES}")
        parts += [len(body).to_bytes(2, "big"), body]
    return b"".join(parts)


def decode_bundle(data: bytes, width: int) -> list[bytes]:
    """The bytes of the ``width`` events in an entry bundle. Raises NoteInvalid unless it holds those and no more."""
    if not 1 <= width <= WIDTH:
        raise NoteInvalid(problem=f"an entry bundle holds 1 to {WIDTH} entries, not {width}")
    bodies = []
    at = 0
    for entry in range(width):
        begin = at + 2
        at = begin + int.from_bytes(data[at:begin], "big")
        if at > len(data):  # a slice beyond the end is short without a word
            raise NoteInvalid(problem=f"the entry bundle ends within entry {entry} of {width}")
        bodies.append(data[begin:at])
    if at != len(data):
        raise NoteInvalid(problem=f"the entry bundle has {len(data) - at} bytes behind its {width} entries")
    return bodies


# ---------------------------------------------------------------- reading the tree from tiles


def hash_reader(source: TileSource, size: int) -> HashReader:
    """Gives complete subtrees from the tiles of a log of this size, asking once for the tiles that are needed.

    It does not check the tiles: who checks the proof made from them does. It raises ProofInvalid for a subtree that is
    not within the log, and for a tile that is too short or not whole hashes.
    """

    def read(nodes: Sequence[tuple[int, int]]) -> list[bytes]:
        places = [_place_of(level, index, size) for level, index in nodes]
        tiles = list(dict.fromkeys(tile for tile, _, _ in places))
        rows = dict(zip(tiles, _read_tiles(source, tiles), strict=True))
        return [_subtree_root(rows[tile][begin:end]) for tile, begin, end in places]

    return read


def _place_of(level: int, index: int, size: int) -> tuple[Tile, int, int]:
    """The tile that holds a complete subtree, and the part of its bytes that make it up."""
    if level < 0 or index < 0 or (index + 1) << level > size:
        raise ProofInvalid(problem=f"a log of {size} events has no complete subtree {index} at level {level}")
    tile_level, height = divmod(level, HEIGHT)
    number, first = divmod(index << height, WIDTH)
    width = min(WIDTH, (size >> (tile_level * HEIGHT)) - number * WIDTH)
    return Tile(tile_level, number, width), first * HASH_BYTES, (first + (1 << height)) * HASH_BYTES


def _read_tiles(source: TileSource, tiles: Sequence[Tile]) -> list[bytes]:
    rows = source(tiles) if tiles else []
    if len(rows) != len(tiles):
        raise ProofInvalid(problem=f"{len(tiles)} tiles were asked for and {len(rows)} came")
    for tile, row in zip(tiles, rows, strict=True):
        if not tile.width * HASH_BYTES <= len(row) <= _TILE_BYTES or len(row) % HASH_BYTES:
            raise ProofInvalid(problem=f"{tile.path} has {len(row)} bytes")
    return rows


def _subtree_root(row: bytes) -> bytes:
    """The root over a row of hashes whose number is a power of two."""
    while len(row) > HASH_BYTES:
        row = hash_pairs(row)
    return row


# ---------------------------------------------------------------- growing


class Growth:
    """The right edge of a growing tree: all that must be in memory to add leaves, make tiles and know the root.

    It holds the partial tile of each level, less than 8 KiB for each, and the tiles filled since the last ``take``. It
    costs about half a microsecond a leaf. For one thread at a time; if what was taken could not be written, begin anew
    from the tiles that were.
    """

    def __init__(self, size: int = 0, edge: Mapping[int, bytes] | None = None) -> None:
        """Goes on from a log of ``size`` events, given the hashes of its ``edge_tiles`` by level.

        Raises LedgerCorrupt if these are not the edge of a log of this size.
        """
        edge = edge or {}
        tiles = self.edge_tiles(size)
        if unknown := edge.keys() - {tile.level for tile in tiles}:
            raise LedgerCorrupt(
                where=f"tile level {min(unknown)}", problem=f"a log of {size} events has no partial tile there"
            )
        self._size = size
        self._rows: list[bytes] = []  # of each level, the hashes that are in no full tile yet
        for tile in tiles:
            row = edge.get(tile.level, b"")
            if len(row) != tile.width * HASH_BYTES:
                raise LedgerCorrupt(where=tile.path, problem=f"it has {len(row) / HASH_BYTES:g} hashes")
            self._rows += [b""] * (tile.level - len(self._rows)) + [row]
        self._full: list[tuple[Tile, bytes]] = []
        self._changed: set[int] = set()

    @staticmethod
    def edge_tiles(size: int) -> list[Tile]:
        """The partial tiles of a log of this size, lowest level first: what must be read to go on from there."""
        if not 0 <= size <= MAX_SIZE:
            raise LedgerCorrupt(where="tree", problem=f"no log has {size} events")
        counts = [(level, size >> (level * HEIGHT)) for level in range(_LEVELS)]
        return [Tile(level, count // WIDTH, count % WIDTH) for level, count in counts if count % WIDTH]

    @property
    def size(self) -> int:
        """How many leaves the tree has."""
        return self._size

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Adds these leaf hashes.

        Raises ProofInvalid, and adds none, if one is not of 32 bytes or they are more than a tree can have.
        """
        added = list(leaves)
        lengths = set(map(len, added))
        if lengths and lengths != {HASH_BYTES}:
            raise ProofInvalid(problem=f"leaf hashes have {HASH_BYTES} bytes, not {max(lengths - {HASH_BYTES})}")
        if self._size + len(added) > MAX_SIZE:
            raise ProofInvalid(problem=f"no tree has {self._size + len(added)} leaves")
        arriving = b"".join(added)
        level = 0
        while arriving:
            arriving = self._extend_level(level, arriving)
            level += 1
        self._size += len(added)

    def _extend_level(self, level: int, arriving: bytes) -> bytes:
        """Adds hashes to a level and returns the roots of the tiles that it filled, for the level above."""
        if level == len(self._rows):
            self._rows.append(b"")
        row = self._rows[level] + arriving
        filled = len(row) - len(row) % _TILE_BYTES
        number = self._size >> ((level + 1) * HEIGHT)
        for at in range(0, filled, _TILE_BYTES):
            self._full.append((Tile(level, number), row[at : at + _TILE_BYTES]))
            number += 1
        self._rows[level] = row[filled:]
        self._changed.add(level)
        roots = row[:filled]
        for _ in range(HEIGHT):  # every tile at once, row by row
            roots = hash_pairs(roots)
        return roots

    def take(self) -> list[tuple[Tile, bytes]]:
        """The tiles to write: those filled since the last take, and the partial ones that changed, as they stand.

        Ordered by level, then number. A partial tile written before is superseded by the wider one of the same number.
        """
        taken = self._full
        for level in self._changed:
            if row := self._rows[level]:
                number = self._size >> ((level + 1) * HEIGHT)
                taken.append((Tile(level, number, len(row) // HASH_BYTES), row))
        self._full, self._changed = [], set()
        return sorted(taken, key=lambda pair: (pair[0].level, pair[0].number))

    def root(self) -> bytes:
        """The root of the tree as it stands."""
        # To the tree above it, what lies below a level's partial tile is one more, ragged, hash at its right.
        below: list[bytes] = []
        for row in self._rows:
            hashes = [row[at : at + HASH_BYTES] for at in range(0, len(row), HASH_BYTES)] + below
            below = [root_of(hashes)] if hashes else []
        return below[0] if below else EMPTY_ROOT
