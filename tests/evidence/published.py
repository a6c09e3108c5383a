"""A log to publish, computed from its entries by definition, and a place in memory that can fail at any write."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tallystick.errors import LogForked, Unavailable
from tallystick.evidence.publications import Publication, publish
from tallystick.journal.checkpoints import Checkpoint, open_checkpoint, sign_checkpoint
from tallystick.journal.notes import SecretKey
from tallystick.journal.tiles import Bundle, Tile, encode_bundle
from tests.support.tiles import bundles_of, tiles_of

ORIGIN = "ledger.example/log"
BUCKET = "evidence"
KEY = SecretKey.from_seed(ORIGIN, bytes(32))


# ---------------------------------------------------------------- a log, computed from its entries by definition


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def mth(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word, over leaf hashes."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"")
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + mth(leaves[:split]) + mth(leaves[split:]))


class Log:
    """A log whose tiles are cut from the definition; ``change`` makes it another log from that event on."""

    def __init__(self, size: int, change: int | None = None) -> None:
        self.bodies = [f"event {n}{' changed' * (change is not None and n >= change)}".encode() for n in range(size)]
        self.leaves = [sha256(b"\x00" + body) for body in self.bodies]
        self.asked: list[Tile | Bundle] = []
        self.tile, self.checkpoint, self.note = cache(self.tile), cache(self.checkpoint), cache(self.note)

    def tiles(self, wanted: Sequence[Tile]) -> list[bytes]:
        self.asked += wanted
        return [self.tile(tile) for tile in wanted]

    def tile(self, tile: Tile) -> bytes:
        span = 256**tile.level
        first = tile.number * 256
        return b"".join(mth(self.leaves[n * span : (n + 1) * span]) for n in range(first, first + tile.width))

    def bundles(self, wanted: Sequence[Bundle]) -> list[bytes]:
        self.asked += wanted
        return [self.bundle(bundle) for bundle in wanted]

    def bundle(self, bundle: Bundle) -> bytes:
        first = bundle.number * 256
        return encode_bundle(self.bodies[first : first + bundle.width])

    def checkpoint(self, size: int) -> Checkpoint:
        return Checkpoint(origin=ORIGIN, size=size, root=mth(self.leaves[:size]))

    def note(self, size: int) -> bytes:
        return sign_checkpoint(self.checkpoint(size), KEY)

    def publish(self, publication: Publication, size: int, **options: Any) -> Any:
        options = {"tiles": self.tiles, "bundles": self.bundles, "keys": [KEY.verifier], **options}
        return publish(publication, options.pop("note", None) or self.note(size), **options)


LOG = Log(66_000)
FORK = Log(700, change=250)


def check_readable(publication: Publication, log: Log = LOG, entries: Publication | None = None) -> int:
    """Read the log as a stranger would: every file that the checkpoint covers is there and right. Returns its size."""
    note = publication.read("checkpoint")
    size = 0 if note is None else open_checkpoint(note, [KEY.verifier])[0].size
    if note is not None:
        assert open_checkpoint(note, [KEY.verifier])[0] == log.checkpoint(size)
        assert publication.read(f"checkpoints/{size}") is not None
    for tile in tiles_of(size):
        assert publication.read(tile.path) == log.tile(tile), tile.path
    for bundle in bundles_of(size):
        assert (entries or publication).read(bundle.path) == log.bundle(bundle), bundle.path
    return size


# ---------------------------------------------------------------- the places


class MemoryPublication:
    """The protocol in a dictionary. ``fail_at`` is the write that dies, counted from 0."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.writes: list[str] = []
        self.fail_at = fail_at

    def read(self, path: str) -> bytes | None:
        return self.files.get(path)

    def write(self, path: str, data: bytes, *, immutable: bool) -> None:
        found = self.files.get(path)
        if immutable and found is not None:
            if found != data:
                raise LogForked(origin="memory", problem=path)
            return
        if len(self.writes) == self.fail_at:
            raise Unavailable(reason="it died")
        self.writes.append(path)
        self.files[path] = data

    def write_many(self, files: Iterable[tuple[str, bytes]]) -> int:
        count = 0
        for path, data in files:
            self.write(path, data, immutable=True)
            count += 1
        return count

    def replace(self, path: str, data: bytes, *, before: bytes | None) -> None:
        if self.files.get(path) not in (before, data):
            raise Unavailable(reason="overtaken")
        if self.files.get(path) != data:
            self.write(path, data, immutable=False)


def published(size: int, log: Log = LOG) -> MemoryPublication:
    place = MemoryPublication()
    log.publish(place, size)
    return place


def names_in(folder: Path) -> set[str]:
    """The files below a folder, without the lock."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {".lock"}
