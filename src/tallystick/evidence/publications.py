"""Where a log is published: files of C2SP tlog-tiles in a folder or an S3 bucket, which any web server can hand out.

A published log is a set of files that never change (tiles, entry bundles, ``checkpoints/<size>``) and one that does,
``checkpoint``. What never changes is written first and is safe before ``checkpoint`` is: a reader, or whoever comes
after a crash, finds under every checkpoint all that it covers. ``publish`` keeps that order, and refuses to take back
or to contradict what is published already.

Partial tiles are kept when the full one is there. The specification would let them go; a few kilobytes for each
checkpoint buy that every checkpoint ever published can be checked with the very files it was published with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from tallystick.errors import InvalidInput, LedgerCorrupt, LogForked, NoteInvalid, ProofInvalid
from tallystick.evidence.bucket import S3Publication
from tallystick.evidence.directory import DirectoryPublication
from tallystick.evidence.places import Publication, batches
from tallystick.journal.checkpoints import Checkpoint, open_checkpoint
from tallystick.journal.merkle import check_consistency, consistency_proof, hash_leaf, tree_root
from tallystick.journal.notes import VerifierKey
from tallystick.journal.tiles import WIDTH, Bundle, Tile, TileSource, decode_bundle, hash_reader

__all__ = [
    "BundleSource",
    "DirectoryPublication",
    "Publication",
    "Published",
    "S3Publication",
    "changed_tiles",
    "publication_at",
    "publish",
    "refuse_home",
]

BundleSource = Callable[[Sequence[Bundle]], list[bytes]]
"""The encoded bundles asked for, each of exactly the width asked for."""


@dataclass(frozen=True)
class Published:
    """What a call of ``publish`` found and did: the size that was published before (0: nothing was), the size that is
    now, and how many tiles and bundles were written."""

    before: int
    size: int
    files: int


@dataclass(frozen=True)
class _Mark:
    """The checkpoint that a publication has: everything up to its size is there."""

    note: bytes | None
    size: int


def publication_at(text: str, retain_years: int | None = None) -> Publication:
    """``s3://bucket/prefix``, or a folder, where nothing can be locked. Raises InvalidInput."""
    if not text.startswith("s3://"):
        return DirectoryPublication(text)
    bucket, _, prefix = text.removeprefix("s3://").partition("/")
    return S3Publication(bucket, prefix, retain_years=retain_years)


def refuse_home(folder: Path) -> None:
    """Raises InvalidInput if this is the home of a log: its key must never lie where a web server looks."""
    for name in ("log.json", "key"):
        if (folder / name).is_file():
            raise InvalidInput(path="publication", problem=f"{folder} has a file `{name}`: it is the home of a log")


def publish(
    publication: Publication,
    note: bytes,
    *,
    keys: Sequence[VerifierKey],
    tiles: TileSource,
    bundles: BundleSource,
    entries: Publication | None = None,
    published: int = 0,
    origin: str = "",
) -> Published:
    """Publish the log up to the checkpoint in ``note``: what is new of entry bundles and tiles, a copy of the note as
    ``checkpoints/<size>``, and at last ``checkpoint``. Can be called again after any failure.

    With ``entries`` the log is private: its bundles go there and not to ``publication``, which then has hashes alone;
    ``entries`` gets a ``checkpoint`` too, which says how far it is. A log that turns private or public, or gets another
    place for its entries, has all its bundles written there at the next call.

    ``keys`` are the log's verifier keys, old ones too: both the note and the published checkpoint must be signed with
    one of them, which bears the origin as its name unless ``origin`` says which log this is. ``published`` is the size
    that the caller remembers to have published: a place that has less was emptied or taken back, and is not filled
    anew unless 0 is given. Of several notes for one size (with other cosignatures) ``checkpoints/<size>`` keeps the
    first, ``checkpoint`` has the last.

    The bytes of a bundle are checked against the tile above them; that the tiles belong together and to the events is
    the self-check of whoever signs, before. Raises LogForked if the tree in the tiles is not the checkpoint's, or the
    checkpoint does not extend what is published; LedgerCorrupt if a tile or bundle is not what it should be;
    NoteInvalid for a note that is none of this log's; InvalidInput for the home of a log; Unavailable.
    """
    for place in (publication, entries):
        if isinstance(place, DirectoryPublication):
            refuse_home(place.folder)
    checkpoint = open_checkpoint(note, keys, origin)[0]
    tiles = partial(_read_tiles, tiles)
    if tree_root(checkpoint.size, hash_reader(tiles, checkpoint.size)) != checkpoint.root:
        raise LogForked(origin=checkpoint.origin, problem="the tiles have another root than the checkpoint to publish")
    mark = _find_mark(publication, checkpoint, keys, tiles, published)
    if entries is None:
        begin = mark.size if _has_bundles(publication, mark.size) else 0
        files = publication.write_many(_new_bundles(begin, checkpoint.size, tiles, bundles))
    else:
        held = _find_mark(entries, checkpoint, keys, tiles, 0)
        files = entries.write_many(_new_bundles(held.size, checkpoint.size, tiles, bundles))
        entries.replace("checkpoint", note, before=held.note)
    files += publication.write_many(_new_tiles(mark.size, checkpoint.size, tiles))
    _keep(publication, note, checkpoint, keys)
    publication.replace("checkpoint", note, before=mark.note)
    return Published(before=mark.size, size=checkpoint.size, files=files)


def _find_mark(
    publication: Publication, checkpoint: Checkpoint, keys: Sequence[VerifierKey], tiles: TileSource, published: int
) -> _Mark:
    """What is published; LogForked if ``checkpoint`` does not extend it."""

    def refuse(problem: str) -> NoReturn:
        raise LogForked(origin=checkpoint.origin, problem=f"{publication!r}: {problem}")

    note = publication.read("checkpoint")
    if note is None:
        if published:
            refuse(f"there is no checkpoint, though one of size {published} was published")
        return _Mark(note=None, size=0)
    try:
        old = open_checkpoint(note, keys, checkpoint.origin)[0]
    except NoteInvalid as error:
        refuse(f"the published checkpoint is not of this log: {error.data.get('problem')}")
    if old.size < published:
        refuse(f"the published checkpoint has size {old.size}, though one of size {published} was published")
    if old.size > checkpoint.size:
        refuse(f"size {old.size} is published, {checkpoint.size} would take events back")
    proof = consistency_proof(old.size, checkpoint.size, hash_reader(tiles, checkpoint.size))
    try:
        check_consistency(old.size, checkpoint.size, old.root, checkpoint.root, proof)
    except ProofInvalid:
        refuse(f"the first {old.size} events are not those that were published")
    return _Mark(note=note, size=old.size)


def _has_bundles(publication: Publication, size: int) -> bool:
    """Whether the entries are there too, up to this size: they are not if the log was private until now."""
    if not size:
        return True
    last = Bundle(number=(size - 1) // WIDTH, width=(size - 1) % WIDTH + 1)
    return publication.read(last.path) is not None


def _keep(publication: Publication, note: bytes, checkpoint: Checkpoint, keys: Sequence[VerifierKey]) -> None:
    path = f"checkpoints/{checkpoint.size}"
    kept = publication.read(path)
    if kept is None:
        publication.write(path, note, immutable=True)
        return
    try:
        same = open_checkpoint(kept, keys, checkpoint.origin)[0] == checkpoint
    except NoteInvalid:
        same = False
    if not same:
        raise LogForked(origin=checkpoint.origin, problem=f"{publication!r}: {path} is of another tree")


def changed_tiles(old: int, new: int) -> Iterator[Tile]:
    """The tiles of a log of the size ``new`` that one of the size ``old`` does not have, levels up, numbers up."""
    level = 0
    while new:
        if new != old:
            for number in range(old // WIDTH, new // WIDTH):
                yield Tile(level=level, number=number)
            if new % WIDTH:
                yield Tile(level=level, number=new // WIDTH, width=new % WIDTH)
        old, new, level = old // WIDTH, new // WIDTH, level + 1


def _new_tiles(old: int, new: int, tiles: TileSource) -> Iterator[tuple[str, bytes]]:
    for batch in batches(changed_tiles(old, new), WIDTH):
        for tile, hashes in zip(batch, tiles(batch), strict=True):
            yield tile.path, hashes


def _new_bundles(old: int, new: int, tiles: TileSource, bundles: BundleSource) -> Iterator[tuple[str, bytes]]:
    """Level 0 and the bundles go hand in hand: each bundle's entries are the leaves of the tile of its number."""
    leaves = (tile for tile in changed_tiles(old, new) if tile.level == 0)
    for batch in batches(leaves, WIDTH // 8):  # a full bundle may have 16 MiB
        wanted = [Bundle(number=tile.number, width=tile.width) for tile in batch]
        for bundle, data, hashes in zip(wanted, bundles(wanted), tiles(batch), strict=True):
            try:
                found = b"".join(map(hash_leaf, decode_bundle(data, bundle.width)))
            except NoteInvalid as error:
                raise LedgerCorrupt(where=bundle.path, problem=str(error.data.get("problem"))) from None
            if found != hashes:
                raise LedgerCorrupt(where=bundle.path, problem="its entries are not the leaves of the tile above them")
            yield bundle.path, data


def _read_tiles(tiles: TileSource, wanted: Sequence[Tile]) -> list[bytes]:
    """The hashes of these tiles, cut to their widths: a source may give a tile as it has grown since."""
    found = []
    for tile, hashes in zip(wanted, tiles(wanted), strict=True):
        if len(hashes) < tile.width * 32:
            problem = f"{len(hashes) // 32} hashes were found, {tile.width} should be there"
            raise LedgerCorrupt(where=tile.path, problem=problem)
        found.append(hashes[: tile.width * 32])
    return found
