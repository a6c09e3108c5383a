"""One ledger's transparency log: its Merkle tree grown, its checkpoints signed, its proofs and receipts given out.

What a log signs can never be taken back, so three things are checked before each signature: the new events are read
from the store and hashed anew; the tree that is kept has the root that was signed last; and both extend what lies
*outside* the database: the checkpoint in the log's home and, where the log knows of a publication, the one that is
published. A database that was brought back from an old copy, or altered and chained anew, is thereby refused
(LogForked) and not signed over.

The home is a folder of its own, best on another disk or machine than the database: ``checkpoint``, the last that was
signed, and ``keys``, every verifier key that this log has had. Where the home and the database agree, and only
a publication or a witness shows that the log signed something else (both were taken back together), that is written
down in the home as ``forked``: whoever showed it may not be there the next time. While that file is there nothing is
signed, and no program removes it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from tallystick.clock import format_time, parse_time
from tallystick.commands import RotateKey
from tallystick.errors import (
    InvalidInput,
    LedgerCorrupt,
    LogForked,
    NoteInvalid,
    ProofInvalid,
    TallystickError,
    Unavailable,
)
from tallystick.events import GENESIS
from tallystick.evidence.places import Publication
from tallystick.evidence.publications import Published, publish
from tallystick.evidence.witness import Gathered, gather
from tallystick.journal.canonical import decode_event
from tallystick.journal.chain import leaf_hash
from tallystick.journal.checkpoints import Checkpoint, open_checkpoint, sign_checkpoint, with_signatures
from tallystick.journal.merkle import (
    HASH_BYTES,
    HashReader,
    check_consistency,
    check_inclusion,
    consistency_proof,
    hash_leaf,
    inclusion_proof,
    tree_root,
)
from tallystick.journal.notes import Note, Signer, VerifierKey
from tallystick.journal.policies import Policy
from tallystick.journal.receipts import Acceptance, Receipt, sign_acceptance
from tallystick.journal.tiles import WIDTH, Bundle, Growth, Tile, encode_bundle, hash_reader
from tallystick.ledger import Ledger
from tallystick.ledger.journal import Journal

EVENTS_PER_READ = 8_192
EVENTS_PER_KEEP = 262_144
"""When so many events are behind, the tiles of each so many are kept before the signature, to bound the memory."""
PROMISE_SECONDS = 60
"""An acceptance promises that its event will be under a checkpoint within so long."""
FORKED = "forked"
"""The file of a home that says which fork was shown."""


@dataclass(frozen=True)
class _Standing:
    """How things stand before a signature: the notes in the database and in the home, the checkpoint of the first, and
    every checkpoint from outside that the tree must pass by, with who has it (nothing: the home)."""

    stored: bytes | None
    outside: bytes | None
    signed: Checkpoint
    known: tuple[tuple[Checkpoint, str], ...]

    @property
    def home(self) -> Checkpoint:
        """The checkpoint in the home, which is looked at before all others."""
        return self.known[0][0]

    @property
    def size(self) -> int:
        """So many events were signed, as far as is known."""
        return max(self.signed.size, *(checkpoint.size for checkpoint, _ in self.known))


class Log:
    """The log over one ledger, signed by ``signer``, whose name is the log's origin. Safe for threads.

    ``more`` sign each checkpoint too (an ML-DSA-44 key, for example). Several processes may have the same log open.
    ``published`` is where it is published: another memory of what was signed, see ``compare_with``. Raises
    InvalidInput for a home of another key; to go on under another one is for ``rotate``.
    """

    def __init__(
        self,
        ledger: Ledger,
        signer: Signer,
        home: Publication,
        *,
        more: Sequence[Signer] = (),
        published: Publication | None = None,
    ) -> None:
        self._ledger = ledger
        self._journal = ledger.journal
        self._signer = signer
        self._more = tuple(more)
        self._home = home
        self._growth: Growth | None = None
        self._lock = threading.RLock()
        self._witness_sizes: Mapping[str, int] = {}
        self._publications: dict[str, Publication] = {}
        self._seen: set[str] = set()  # publications that have answered
        if published is not None:
            self.compare_with(published)
        if (known := self.keys) and signer.verifier not in known:
            raise InvalidInput(path="signer", problem=f"the log in this home never had the key {signer.verifier}")
        self._remember_keys()

    @property
    def origin(self) -> str:
        """The log's name, in every checkpoint."""
        return self._signer.verifier.name

    @property
    def verifier(self) -> VerifierKey:
        """The key that signs now."""
        return self._signer.verifier

    @property
    def retired_keys(self) -> tuple[VerifierKey, ...]:
        """The keys that it had and that do not sign any more: good for old checkpoints alone."""
        current = [signer.verifier for signer in (self._signer, *self._more)]
        return tuple(key for key in self.keys if key not in current)

    @property
    def journal(self) -> Journal:
        """The journal that it is over."""
        return self._journal

    @property
    def keys(self) -> tuple[VerifierKey, ...]:
        """Every verifier key that this log has had, the current ones last."""
        text = (self._home.read("keys") or b"").decode(errors="replace")
        return tuple(VerifierKey.parse(line) for line in text.splitlines())

    def _remember_keys(self) -> None:
        kept = self._home.read("keys")
        known = [] if kept is None else kept.decode().splitlines()
        new = [line for line in (str(signer.verifier) for signer in (self._signer, *self._more)) if line not in known]
        if new:
            self._home.replace("keys", "".join(f"{line}\n" for line in [*known, *new]).encode(), before=kept)

    # ------------------------------------------------------------ checkpoints

    @property
    def note(self) -> bytes | None:
        """The newest signed checkpoint, with the cosignatures that were gathered; None if there is none yet."""
        return self._journal.checkpoint()

    def checkpoint(self, *signers: Signer) -> bytes | None:
        """Sign what is new since the last checkpoint; None if nothing is. ``signers`` sign this one too.

        Raises LogForked, and signs nothing, if what is stored does not extend the checkpoint in the home; LedgerCorrupt
        if the bytes of new events are not what their hashes say, or tiles of others stand in the way; NoteInvalid if a
        signature is wrong; ReadOnly; Unavailable, also if another process signed meanwhile.
        """
        with self._lock:
            try:
                return self._checkpoint(signers)
            except BaseException:
                self._growth = None  # what it holds may not be what is kept
                raise

    def _checkpoint(self, signers: Sequence[Signer]) -> bytes | None:
        try:
            standing, growth, size = self._prepare()
        except LogForked as error:
            raise self._forked(f"{error.data['problem']}; nothing was signed") from None
        stored, outside = standing.stored, standing.outside
        if size == standing.signed.size:
            if stored is None or standing.home == standing.signed:
                return None
            self._home.replace("checkpoint", stored, before=outside)  # the home is an older one
            return stored
        checkpoint = Checkpoint(self.origin, size, growth.root())
        self._journal.keep(_rows(growth), size, b"")
        if tree_root(size, self._reader(size)) != checkpoint.root:  # tiles that were there already are left alone
            raise LedgerCorrupt(where=f"the log of {self._journal.ledger}", problem="its tiles are of other events")
        note = self._sign(checkpoint, signers)
        # First the home: a note in the database may be handed out at once, and must be known outside by then.
        self._home.replace("checkpoint", note, before=outside)
        self._journal.keep([], size, note)
        return note

    def _prepare(self) -> tuple[_Standing, Growth, int]:
        """The tree grown over every event there is, and found to extend all that is known from outside."""
        standing = self._look()
        growth = self._begin(standing.signed)
        size = self._check_known(standing)
        self._grow(growth, size, standing, keep=True)
        return standing, growth, size

    def check(self) -> None:
        """Whether the ledger and its log extend what the home has, and what is published: nothing is written or signed.

        Raises LogForked if they do not, or if a fork was shown before; Unavailable; LedgerCorrupt.
        """
        with self._lock:
            self._check(self._look())

    def _check(self, standing: _Standing) -> None:
        growth = self._edge(standing.signed)
        self._check_known(standing)
        self._grow(growth, standing.size, standing, keep=False)

    def compare_with(self, publication: Publication) -> None:
        """From now on sign nothing that does not extend what is published there."""
        self._publications[repr(publication)] = publication

    def adopt(self) -> None:
        """Take the newest checkpoint in the database for the published one, where the home was lost or is new, and the
        keys that the ledger says the log has had.

        This gives up what the home is there for, so it is for a person to decide. Raises LogForked if there is one.
        """
        self._check_unmarked()
        if self._home.read("checkpoint") is not None:
            raise self._forked("the home has a checkpoint already")
        stored = self._journal.checkpoint()
        if stored is not None:
            self._open(stored, "the checkpoint in the database")
            self._adopt_keys()
            self._home.replace("checkpoint", stored, before=None)

    def _adopt_keys(self) -> None:
        """Old checkpoints open with old keys, and others hold such checkpoints."""
        kept = self._home.read("keys")
        known = (kept or b"").decode().splitlines()
        recorded = [line for line in _recorded_keys(self._journal, self.origin) if line not in known]
        if recorded:
            self._home.replace("keys", "".join(f"{line}\n" for line in [*recorded, *known]).encode(), before=kept)

    def rotate(self, signer: Signer, *, key: str) -> bytes | None:
        """Go on under another key: the ledger records it, and the checkpoint that covers the record bears both.

        ``key`` is the idempotency key of the event. If this fails, the old key goes on signing until it is called again
        with the same ``key``. Raises InvalidInput unless the signer has the log's name, and what ``checkpoint`` raises.
        """
        if signer.verifier.name != self.origin:
            raise InvalidInput(path="signer", problem=f"it is named {signer.verifier.name}, the log {self.origin}")
        with self._lock:
            self.check()  # before anything is recorded of it
            self._ledger.post(RotateKey(key=key, source="log", public_key=str(signer.verifier)))
            before, self._signer = self._signer, signer
            try:
                self._remember_keys()
                return self.checkpoint(*(() if before.verifier == signer.verifier else (before,)))
            except BaseException:
                self._signer = before  # a checkpoint under the new key alone would have nothing that leads to it
                raise

    def _sign(self, checkpoint: Checkpoint, signers: Sequence[Signer]) -> bytes:
        seconds = int(datetime.fromisoformat(parse_time(self._ledger.now())).timestamp())
        note = sign_checkpoint(checkpoint, self._signer, *self._more, *signers, time_seconds=seconds)
        if self._open(note, "the checkpoint that was just signed") != checkpoint:
            raise self._forked("the signer signed another checkpoint")
        return note

    def _open(self, note: bytes | None, what: str) -> Checkpoint:
        """A checkpoint of this log; of none, that of an empty one."""
        if note is None:
            return Checkpoint(self.origin, 0, Growth().root())
        try:
            return open_checkpoint(note, self.keys, self.origin)[0]
        except NoteInvalid as error:
            raise self._forked(f"{what} is none of this log's: {error.data.get('problem')}") from None

    def _forked(self, problem: str) -> LogForked:
        return LogForked(origin=self.origin, problem=problem)

    def _shown(self, problem: str) -> LogForked:
        """The same, of a fork that somebody outside has shown: it is written down."""
        with suppress(TallystickError):  # also if another was written down before: it is raised in any case
            self._home.replace(FORKED, f"{problem}\n".encode(), before=None)
        return self._forked(problem)

    def _check_unmarked(self) -> None:
        found = self._home.read(FORKED)
        if found is not None:
            said = found.decode(errors="replace").strip()
            raise self._forked(f"{said} (so says the file `{FORKED}` in its home, until a person removes it)")

    # ------------------------------------------------------------ what is known from outside

    def _look(self, *, again: bool = True) -> _Standing:
        """Read all memories, in an order in which each is never behind the one before. Without ``again`` publications
        that were looked at before are not asked."""
        self._check_unmarked()
        shown = [
            (self._open_published(place, note), name)
            for name, place in self._publications.items()
            if (again or name not in self._seen) and (note := self._read_published(name, place))
        ]
        stored = self._journal.checkpoint()
        outside = self._home.read("checkpoint")
        published = self._open(outside, "the checkpoint in the home")
        signed = self._open(stored, "the checkpoint in the database")
        if outside is None and stored is not None:
            raise self._forked("the home has no checkpoint, though the database has; see adopt()")
        return _Standing(stored, outside, signed, ((published, ""), *shown))

    def _read_published(self, name: str, place: Publication) -> bytes | None:
        try:
            note = place.read("checkpoint")
        except Unavailable:
            if name in self._seen:  # it is a second memory: that it is away for an hour must not stop the log
                return None
            raise
        self._seen.add(name)
        return note

    def _open_published(self, place: Publication, note: bytes) -> Checkpoint:
        try:
            return open_checkpoint(note, self.keys, self.origin)[0]
        except NoteInvalid as error:
            raise self._forked(f"{place!r} has a checkpoint of another log: {error.data['problem']}") from None

    def _refuse(self, standing: _Standing, known: Checkpoint, who: str, problem: str) -> LogForked:
        """Where the home and the database do not agree they will say so again, and it may be another ledger's home:
        only what is shown in spite of both is written down."""
        if not who:
            return self._forked(problem)
        problem = f"{who} shows what was signed, and {problem}"
        agreed = standing.home.size <= max(known.size, standing.signed.size)
        return self._shown(problem) if agreed else self._forked(problem)

    def _check_known(self, standing: _Standing) -> int:
        """How many events there are: not fewer than were signed, and of those in the tree none is another."""
        for known, who in standing.known:
            if known.size > standing.signed.size:
                continue
            if known.size and tree_root(known.size, self._reader(known.size)) != known.root:
                raise self._refuse(
                    standing, known, who, f"its first {known.size} events are not those that were published"
                )
        size = self._journal.head.seq
        for known, who in ((standing.signed, ""), *standing.known):
            if size < known.size:
                raise self._refuse(standing, known, who, f"{known.size} events were signed, and there are {size}")
        return size

    # ------------------------------------------------------------ the tree

    def _begin(self, signed: Checkpoint) -> Growth:
        """The right edge of the tree that was signed last, as it was left by the last checkpoint, or from the tiles."""
        growth = self._growth
        if growth is None or growth.size != signed.size or growth.root() != signed.root:
            growth = self._growth = self._edge(signed)
        return growth

    def _edge(self, signed: Checkpoint) -> Growth:
        tiles = Growth.edge_tiles(signed.size)
        growth = Growth(signed.size, {tile.level: row for tile, row in zip(tiles, self.tiles(tiles), strict=True)})
        if growth.root() != signed.root:
            raise self._forked(f"the tiles of its first {signed.size} events have another root than was signed")
        return growth

    def _grow(self, growth: Growth, size: int, standing: _Standing, *, keep: bool) -> None:
        """Read and hash the events up to ``size`` anew. Where others know of more than was signed here, the tree must
        pass by that."""
        ahead = sorted((point for point in standing.known if point[0].size > growth.size), key=lambda it: it[0].size)
        last = self._last_leaf(growth.size)
        begun = growth.size
        while growth.size < size:
            wanted = size - growth.size
            leaves = self._journal.leaves(growth.size, last, min(EVENTS_PER_READ, wanted))[:wanted]
            if not leaves:
                raise LedgerCorrupt(where=f"event {self._journal.ledger}/{growth.size}", problem="it is missing")
            last = leaves[-1]
            while ahead and ahead[0][0].size <= growth.size + len(leaves):
                known, who = ahead.pop(0)
                within = known.size - growth.size
                growth.extend(leaves[:within])
                leaves = leaves[within:]
                if growth.root() != known.root:
                    raise self._refuse(
                        standing, known, who, f"its first {known.size} events are not those that were published"
                    )
            growth.extend(leaves)
            if growth.size - begun >= EVENTS_PER_KEEP:
                begun = growth.size
                rows = _rows(growth)
                if keep:
                    self._journal.keep(rows, growth.size, b"")

    def _last_leaf(self, size: int) -> bytes:
        if not size:
            return bytes.fromhex(GENESIS)
        (row,) = self.tiles([Tile(0, (size - 1) // WIDTH, (size - 1) % WIDTH + 1)])
        return row[-HASH_BYTES:]

    def _reader(self, size: int) -> HashReader:
        return hash_reader(self.tiles, size)

    def tiles(self, wanted: Sequence[Tile]) -> list[bytes]:
        """The hashes of these tiles, each of exactly its width. Raises LedgerCorrupt for one that is not there."""
        rows = self._journal.tiles([(tile.level, tile.number) for tile in wanted])
        for tile, row in zip(wanted, rows, strict=True):
            if len(row) < tile.width * HASH_BYTES:
                raise LedgerCorrupt(where=tile.path, problem=f"only {len(row) // HASH_BYTES} of its hashes are kept")
        return [row[: tile.width * HASH_BYTES] for tile, row in zip(wanted, rows, strict=True)]

    def bundles(self, wanted: Sequence[Bundle]) -> list[bytes]:
        """The entry bundles: the events themselves, as tlog-tiles has them."""
        found = []
        for bundle in wanted:
            bodies = self._journal.events(bundle.number * WIDTH, bundle.width)
            if len(bodies) != bundle.width:
                raise LedgerCorrupt(where=bundle.path, problem=f"only {len(bodies)} of its events are there")
            found.append(encode_bundle(bodies))
        return found

    # ------------------------------------------------------------ proofs and receipts

    def prove_inclusion(self, seq: int, size: int) -> list[bytes]:
        """The path from event ``seq`` to the root of the first ``size`` events. Raises ProofInvalid."""
        return inclusion_proof(seq, size, self._reader(size))

    def prove_consistency(self, old: int, new: int) -> list[bytes]:
        """The proof that the first ``old`` of the first ``new`` events are what they were. Raises ProofInvalid."""
        return consistency_proof(old, new, self._reader(new))

    def receipt(self, seq: int) -> Receipt | None:
        """The receipt of an event: its bytes, and the proof that the newest checkpoint covers it; None: none does yet.

        It is checked before it is given out. Raises TransactionNotFound; LedgerCorrupt if the event, or the tree over
        it, is not what was signed.
        """
        body = self._journal.event(seq)
        note = self.note
        checkpoint = self._open(note, "the checkpoint in the database")
        if note is None or seq >= checkpoint.size:
            return None
        proof = self.prove_inclusion(seq, checkpoint.size)
        try:
            check_inclusion(seq, checkpoint.size, hash_leaf(body), proof, checkpoint.root)
        except ProofInvalid:
            where, problem = f"event {self._journal.ledger}/{seq}", "it, or the tiles over it, are not what was signed"
            raise LedgerCorrupt(where=where, problem=problem, seq=seq) from None
        return Receipt(index=seq, proof=tuple(proof), checkpoint=note, extra=body)

    def accept(self, seq: int) -> bytes:
        """The log's signed promise that an event will be under a checkpoint soon: evidence, if it never is.

        Raises TransactionNotFound; LogForked if the ledger does not extend what was signed; Unavailable if the home has
        a checkpoint over the event already, and the database not yet; NoteInvalid if the log's key is none of Ed25519.
        """
        body = self._journal.event(seq)
        with self._lock:
            standing = self._look(again=False)
            self._check(standing)
        if standing.signed.size <= seq < standing.size:
            raise Unavailable(reason=f"{self._journal.ledger}/{seq} was signed already, its receipt comes soon")
        event = decode_event(body)
        promise = datetime.fromisoformat(event.time) + timedelta(seconds=PROMISE_SECONDS)
        now = datetime.fromisoformat(parse_time(self._ledger.now())) + timedelta(seconds=PROMISE_SECONDS)
        acceptance = Acceptance(
            origin=self.origin,
            seq=seq,
            event_hash=leaf_hash(body),
            prev=event.prev,
            time=event.time,
            promise_by=format_time(max(promise, now)),
        )
        return sign_acceptance(acceptance, self._signer)

    # ------------------------------------------------------------ for others to see

    def publish(self, publication: Publication, entries: Publication | None = None) -> Published | None:
        """Publish the newest checkpoint and all that it covers; with ``entries`` the events go there alone.

        None if there is no checkpoint yet. Raises what ``publications.publish`` raises, and LogForked if a fork was
        shown before.
        """
        self._check_unmarked()
        note = self.note
        if note is None:
            return None
        try:
            return publish(
                publication,
                note,
                keys=self.keys,
                tiles=self.tiles,
                bundles=self.bundles,
                entries=entries,
                origin=self.origin,
            )
        except LogForked:
            self._take_notice(publication.read("checkpoint"), repr(publication))
            raise

    def cosign(self, policy: Policy, *, timeout_seconds: float = 10.0) -> Gathered | None:
        """Have the newest checkpoint cosigned by the witnesses of a policy, and keep it so; None: there is none yet.

        Raises LogForked if a witness that refuses shows a checkpoint, signed by a key of this log, that the log does
        not extend. What a witness merely says is no proof: it stands in ``asked``, and stops nobody.
        """
        note = self.note
        if note is None:
            return None
        size = self._open(note, "the checkpoint in the database").size
        gathered = gather(  # without the lock: others need not wait for witnesses
            note,
            policy,
            lambda old: self.prove_consistency(old, size),
            known_sizes=self._witness_sizes,
            timeout_seconds=timeout_seconds,
        )
        for asked in gathered.asked:
            self._take_notice(asked.shown or None, f"the witness {asked.witness.key.name}")
        with self._lock:
            self._witness_sizes = gathered.sizes
            if gathered.note != note:
                self._journal.keep([], size, self._with_those_of_others(gathered.note))
        return gathered

    def _with_those_of_others(self, note: bytes) -> bytes:
        """A cosigned note, and the cosignatures that another process may have gathered for it meanwhile."""
        found, now = Note.parse(note), self.note
        if now is None or (other := Note.parse(now)).text != found.text:
            return note
        mine = {(line.name, line.key_id) for line in found.signatures}
        more = [line for line in other.signatures if (line.name, line.key_id) not in mine]
        return with_signatures(note, more) if more else note

    def _take_notice(self, note: bytes | None, who: str) -> None:
        """Raises LogForked, and has it remembered, if this note is one of this log's that the log does not extend."""
        if note is None:
            return
        try:
            self.check_older(note)
        except NoteInvalid:
            return  # anybody can write such a thing
        except LogForked as error:
            raise self._shown(f"{who} shows it: {error.data['problem']}") from None

    def check_older(self, note: bytes) -> None:
        """Whether the log extends a checkpoint that somebody kept. Raises LogForked, NoteInvalid."""
        old = open_checkpoint(note, self.keys, self.origin)[0]
        new = self._open(self.note, "the checkpoint in the database")
        if old.size > new.size:
            raise self._forked(f"somebody has a checkpoint of {old.size} events, and the newest here covers {new.size}")
        try:
            check_consistency(old.size, new.size, old.root, new.root, self.prove_consistency(old.size, new.size))
        except ProofInvalid:
            raise self._forked(
                f"its first {old.size} events are not those of the checkpoint that somebody has"
            ) from None


def _rows(growth: Growth) -> list[tuple[int, int, bytes]]:
    return [(tile.level, tile.number, hashes) for tile, hashes in growth.take()]


def _recorded_keys(journal: Journal, origin: str) -> list[str]:
    """The keys of this name that the ledger has recorded, oldest first."""
    found: dict[str, None] = {}
    for first in range(0, journal.head.seq, EVENTS_PER_READ):
        for body in journal.events(first, EVENTS_PER_READ):
            if b'"key_rotated"' not in body or (event := decode_event(body)).type != "key_rotated":
                continue
            with suppress(NoteInvalid):  # a ledger may record other keys than a log's
                key = VerifierKey.parse(str(event.data["public_key"]))
                if key.name == origin:
                    found[str(key)] = None
    return list(found)
