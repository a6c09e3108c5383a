"""Export bundles: a folder that *is* a static tiled log, with all that a stranger needs to check it alone.

The layout is that of PROFILE.md, section 2, which goes with every bundle, as do the JSON Schema of its events and the
verifier. A bundle holds the whole log, or the events of a window behind an opening that says how everything stood
before it; the hashes of the whole log are in both. The opening comes from replaying the events before the window, for
no projection says how limits, locks and policy stood at an earlier event: a late window of a long ledger takes its
time, and memory for what balances, accounts and open locks take.

Everything that is written is checked on the way: the events hash to the stored hashes, these to the root that the log
signed. What does not is LedgerCorrupt, and no bundle. No bytes of a bundle depend on when it is made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from tallystick.errors import InvalidInput, LedgerCorrupt
from tallystick.events import GENESIS, PROFILE, Event
from tallystick.evidence.bundle_files import Draft, Stream, new_folder
from tallystick.evidence.derived import Reports
from tallystick.evidence.log import Log
from tallystick.journal import check_link, decode_event, leaf_hash
from tallystick.journal.checkpoints import Checkpoint, open_checkpoint
from tallystick.journal.merkle import HASH_BYTES
from tallystick.journal.notes import ED25519, Note, VerifierKey, signers_of
from tallystick.journal.policies import Policy
from tallystick.journal.tiles import WIDTH, Bundle, Growth, Tile, decode_bundle
from tallystick.kernel import Book, NotLoaded, apply
from tallystick.ledger.openings import checked_text
from tallystick.schema import schema_text

FORMAT = "tallystick.bundle.v1"
CHECKPOINTS_PER_READ = 1_000
ROWS_PER_TILES = WIDTH
"""After so many rows of leaf hashes the tiles above them are written, to bound the memory."""

Progress = Callable[[int, int], None]
"""Told (events done, of how many) from time to time."""


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What was exported: the events with first <= number < end of a log of ``size``, and how large the bundle is."""

    folder: str
    ledger: str
    origin: str
    size: int
    root: str
    first: int
    end: int
    files: int
    bytes: int


def export(
    log: Log,
    folder: Path | str,
    *,
    first: int = 0,
    end: int | None = None,
    openings: bool = False,
    policy: str | bytes | None = None,
    sign: bool = True,
    progress: Progress | None = None,
) -> Exported:
    """Write a bundle of a log, or of its window [first, end), into a new or an empty folder.

    It ends at the newest signed checkpoint; one is made first if the ledger has news, unless ``sign`` is false (which
    suits a database that is open for reading). ``openings``: with the erasable texts that are still there. ``policy``:
    a tlog-policy that names the witnesses.

    The folder appears when all of it is there. Raises InvalidInput for a folder with things in it, for a window that
    is none and if nothing was signed yet; NoteInvalid for a policy or checkpoint that is none; LedgerCorrupt or
    LogForked if events are not what was signed, Archived if they are away; Unavailable if the folder or the database
    does not work, or the disk is full.
    """
    text = policy.encode() if isinstance(policy, str) else policy
    if text is not None:
        Policy.parse(text)
    with new_folder(Path(folder)) as draft:
        if sign:
            log.checkpoint()
        note = log.note
        if note is None:
            raise InvalidInput(path="log", problem="nothing of it was signed yet, so there is nothing to export")
        checkpoint, _ = open_checkpoint(note, log.keys, log.origin)
        window = _window(first, checkpoint.size if end is None else end, checkpoint.size)
        _write_notes(draft, log, note, checkpoint)
        _write_keys(draft, log, note)
        if text is not None:
            draft.write("policy", text)
        _write_spec(draft)
        _Walk(log, draft, checkpoint, *window, progress).write()
        if openings:
            _write_openings(draft, log, *window)
        _write_manifest(draft, log, checkpoint, *window)
    return Exported(
        folder=str(folder),
        ledger=log.journal.ledger,
        origin=log.origin,
        size=checkpoint.size,
        root=checkpoint.root.hex(),
        first=window[0],
        end=window[1],
        files=len(draft.digests),
        bytes=draft.bytes,
    )


def _window(first: int, end: int, size: int) -> tuple[int, int]:
    if not 0 <= first < size:
        raise InvalidInput(path="first", problem=f"{first} is none of the {size} events that were signed")
    if not first < end <= size:
        raise InvalidInput(path="end", problem=f"{end} is not from {first + 1} to {size}, the events that were signed")
    return first, end


# ---------------------------------------------------------------- what goes with the events


def _write_notes(draft: Draft, log: Log, note: bytes, checkpoint: Checkpoint) -> None:
    """The newest checkpoint, and every one that was kept up to it."""
    draft.write("checkpoint", note)
    after = -1
    while rows := log.journal.checkpoints(after, CHECKPOINTS_PER_READ):
        for size, kept in rows:
            if size <= checkpoint.size:
                draft.write(f"checkpoints/{size}", note if size == checkpoint.size else kept)
        after = rows[-1][0]


def _write_keys(draft: Draft, log: Log, note: bytes) -> None:
    """The key that leads the newest checkpoint, and all that the log has had by their names."""
    keys = log.keys
    signers = signers_of(Note.parse(note), keys)
    current = next(key for key in signers if key.type == ED25519 and key.name == log.origin)
    draft.write("log.vkey", f"{current}\n".encode())
    files: dict[str, list[VerifierKey]] = {}
    for key in keys:
        files.setdefault(re.sub(r"[^A-Za-z0-9_.\-]", "_", key.name), []).append(key)
    for name, lines in files.items():
        draft.write(f"keys/{name}.vkey", "".join(f"{key}\n" for key in lines).encode())


def _write_spec(draft: Draft) -> None:
    package = resources.files("tallystick")
    draft.write("spec/PROFILE.md", (package / "spec" / "PROFILE.md").read_bytes())
    draft.write("spec/events.schema.json", schema_text().encode())
    draft.write("spec/verify.py", (package / "verify.py").read_bytes())


def _write_openings(draft: Draft, log: Log, first: int, end: int) -> None:
    """The erasable texts of the window that are still there, each with what shows that its event committed to it."""
    with draft.stream("openings.jsonl", private=True) as stream:
        for begin in range(first, end, WIDTH):
            rows = log.journal.openings(begin, min(begin + WIDTH, end))
            for row in sorted(rows, key=lambda row: (row[3], row[0])):
                opening = {"commitment": row[0], "salt": row[1].hex(), "text": checked_text(row)}
                stream.write(_json(opening) + b"\n")


def _write_manifest(draft: Draft, log: Log, checkpoint: Checkpoint, first: int, end: int) -> None:
    manifest = {
        "format": FORMAT,
        "ledger": log.journal.ledger,
        "origin": checkpoint.origin,
        "profile": PROFILE,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "window": {"first": first, "end": end},
        "files": dict(draft.digests),
    }
    draft.write("manifest.json", _json(manifest))


def _json(value: Any) -> bytes:
    """An object in the form of PROFILE.md, section 1."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


# ---------------------------------------------------------------- the events and their tree


class _Walk:
    """One way through the log, 256 events at a time: tiles, entry bundles, opening and reports are written on it."""

    def __init__(
        self, log: Log, draft: Draft, checkpoint: Checkpoint, first: int, end: int, progress: Progress | None
    ) -> None:
        self.log = log
        self.draft = draft
        self.checkpoint = checkpoint
        self.first = first
        self.end = end
        self.progress = progress
        self.book = Book(log.journal.ledger, complete=True)
        self.prev = GENESIS
        self.growth = Growth()
        self.partial: dict[tuple[int, int], tuple[Tile, bytes]] = {}

    def write(self) -> None:
        with self.draft.stream("derived/entries.csv") as entries:
            reports = Reports(self.book.name, entries)
            for number in range(-(-self.checkpoint.size // WIDTH)):
                self._write_row(number, reports)
                if number % ROWS_PER_TILES == ROWS_PER_TILES - 1:
                    self._write_tiles()
        self._write_tiles()
        for tile, hashes in self.partial.values():
            self.draft.write(tile.path, hashes)
        if self.growth.root() != self.checkpoint.root:
            raise LedgerCorrupt(
                where=f"the log {self.log.origin}",
                problem=f"the hashes that are kept of its first "
                f"{self.checkpoint.size} events have another root than was signed",
            )
        reports.finish(self.draft, self.book, self.first, self.end)

    def _write_row(self, number: int, reports: Reports) -> None:
        """The next 256 events: their hashes, and the events themselves as far as they are asked for."""
        begin = number * WIDTH
        bundle = Bundle(number, min(WIDTH, self.checkpoint.size - begin))
        (hashes,) = self.log.tiles([Tile(0, number, bundle.width)])
        self.growth.extend(hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES))
        if begin < self.end:
            (data,) = self.log.bundles([bundle])
            self._replay(decode_bundle(data, bundle.width), begin, hashes, reports)
            if begin + bundle.width > self.first:
                self.draft.write(bundle.path, data)
        if self.progress is not None:
            self.progress(begin + bundle.width, self.checkpoint.size)

    def _write_tiles(self) -> None:
        """Tiles that are full now; those that are not may still grow, and the last state of each is remembered."""
        for tile, hashes in self.growth.take():
            self.partial.pop((tile.level, tile.number), None)
            if tile.width == WIDTH:
                self.draft.write(tile.path, hashes)
            else:
                self.partial[tile.level, tile.number] = tile, hashes

    def _replay(self, bodies: list[bytes], begin: int, hashes: bytes, reports: Reports) -> None:
        found: list[Event] = []
        for at, body in enumerate(bodies):
            seq, hash_ = begin + at, leaf_hash(body)
            if bytes.fromhex(hash_) != hashes[at * HASH_BYTES : (at + 1) * HASH_BYTES]:
                raise LedgerCorrupt(
                    where=f"event {self.book.name}/{seq}", problem="it is not the one in the log's tree"
                )
            if seq >= self.end:
                continue  # it shares a bundle with events of the window
            event = decode_event(body)
            check_link(event, seq, self.prev)
            if 0 < seq == self.first:
                with self.draft.stream("opening.json") as stream:
                    _write_opening(stream, self.book, seq)
            self._apply(event, hash_)
            self.prev = hash_
            if seq >= self.first:
                found.append(event)
        reports.add(found)
        _forget(self.book)

    def _apply(self, event: Event, hash_: str) -> None:
        try:
            apply(self.book, event, hash_)
        except (NotLoaded, KeyError, ValueError, StopIteration, msgspec.ValidationError) as error:
            raise LedgerCorrupt(where=f"event {event.id}", problem=f"it cannot be applied: {error!r}") from None


def _forget(book: Book) -> None:
    """Let go of what neither a later event nor an opening needs, so that the book does not grow with the journal."""
    for kind, id in book.changed:
        value = book.objects.get((kind, id))
        if kind in ("charge", "reserve", "reversal") or (kind == "lock" and value is not None and not value.is_open):
            book.objects.pop((kind, id), None)
    book.changed = {}
    book.new_balances = []


# ---------------------------------------------------------------- how things stood


def _write_opening(stream: Stream, book: Book, first: int) -> None:
    """How everything stood before event ``first``, in the form of PROFILE.md, section 2, row by row."""
    closed = book.get("period", "closed")
    values: dict[str, bytes | Iterator[dict[str, Any]]] = {
        "accounts": _account_rows(book),
        "assets": _json(sorted(value.id for (kind, _), value in book.objects.items() if kind == "asset")),
        "balances": _balance_rows(book),
        "closed_until": _json(closed.id if closed else ""),
        "first": _json(first),
        "locks": _lock_rows(book),
        "policy": _json(msgspec.structs.asdict(book.policy)),
        "types": (book.objects["type", id].data for kind, id in sorted(book.objects, key=str) if kind == "type"),
    }
    before = b"{"
    for name, value in values.items():
        stream.write(before + _json(name) + b":")
        if isinstance(value, bytes):
            stream.write(value)
        else:
            _write_rows(stream, value)
        before = b","
    stream.write(b"}")


def _write_rows(stream: Stream, rows: Iterator[dict[str, Any]]) -> None:
    before = b"["
    for row in rows:
        stream.write(before + _json(row))
        before = b","
    stream.write(b"[]" if before == b"[" else b"]")


def _balance_rows(book: Book) -> Iterator[dict[str, Any]]:
    for account, asset, bucket in sorted((a, *pocket) for pocket, found in book.pockets.items() for a in found):
        found = book.pockets[asset, bucket][account]
        place = {"account": account, "asset": asset, "bucket": bucket}
        yield {**place, "amount": str(found.amount), "version": found.version}


def _account_rows(book: Book) -> Iterator[dict[str, Any]]:
    for address in sorted(id for kind, id in book.objects if kind == "account"):
        account = book.objects["account", address]
        yield {
            "account": address,
            "status": account.status,
            "limits": {asset: str(limit) for asset, limit in account.limits.items()},
            "ceilings": {asset: str(ceiling) for asset, ceiling in account.ceilings.items()},
            "floorless": account.floorless,
        }


def _lock_rows(book: Book) -> Iterator[dict[str, Any]]:
    for id in sorted(id for kind, id in book.objects if kind == "lock"):
        lock = book.objects["lock", id]
        if lock.is_open:
            row = {"id": id, "kind": lock.kind, "account": lock.account, "asset": lock.asset}
            yield {**row, "left": str(lock.remaining), "expires": lock.expires}
