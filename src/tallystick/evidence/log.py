"""One ledger's transparency log: its Merkle tree grown, its checkpoints signed, its proofs and receipts given out.

What a log signs can never be taken back, so three things are checked before each signature: the new events are read
from the store and hashed anew; the tree that is kept has the root that was signed last; and both extend the checkpoint
that lies *outside* the database, in the log's home. A database that was brought back from an old copy, or altered and
chained anew, is thereby refused (LogForked) and not signed over.

The home is a folder of its own, best on another disk or machine than the database: ``checkpoint``, the last that was
signed, and ``keys``, every verifier key that this log has had, the current one last.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from tallystick.clock import format_time, parse_time
from tallystick.commands import RotateKey
from tallystick.errors import InvalidInput, LedgerCorrupt, LogForked, NoteInvalid, ProofInvalid
from tallystick.events import GENESIS
from tallystick.evidence.places import Publication
from tallystick.evidence.publications import Published, publish
from tallystick.evidence.witness import Gathered, gather
from tallystick.journal.canonical import decode_event
from tallystick.journal.chain import leaf_hash
from tallystick.journal.checkpoints import Checkpoint, open_checkpoint, sign_checkpoint
from tallystick.journal.merkle import (
    HashReader,
    check_consistency,
    check_inclusion,
    consistency_proof,
    hash_leaf,
    inclusion_proof,
    tree_root,
)
from tallystick.journal.notes import Signer, VerifierKey
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
HASH_BYTES = 32


class Log:
    """The log over one ledger, signed by ``signer``, whose name is the log's origin. Safe for threads.

    ``more`` sign each checkpoint too (an ML-DSA-44 key, for example). Several processes may have the same log open.
    Raises InvalidInput for a home of another key; to go on under another one is for ``rotate``.
    """

    def __init__(self, ledger: Ledger, signer: Signer, home: Publication, *, more: Sequence[Signer] = ()) -> None:
        self._ledger = ledger
        self._journal = ledger.journal
        self._signer = signer
        self._more = tuple(more)
        self._home = home
        self._growth: Growth | None = None
        self._lock = threading.RLock()
        self._witness_sizes: Mapping[str, int] = {}
        if (known := self.keys) and signer.verifier not in known:
            raise InvalidInput(path="signer", problem=f"the log in this home never had the key {signer.verifier}")
        self._remember_keys()

    @property
    def origin(self) -> str:
        """The log's name, in every checkpoint."""
        return self._signer.verifier.name

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
        stored = self._journal.checkpoint()  # before the home: what is there then is never behind this
        outside = self._home.read("checkpoint")
        published = self._open(outside, "the checkpoint in the home")
        signed = self._open(stored, "the checkpoint in the database")
        if outside is None and stored is not None:
            raise self._forked("the home has no checkpoint, though the database has; see adopt()")
        growth = self._begin(signed)
        self._check_extends(published, signed.size)
        size, known = self._journal.head.seq, max(published.size, signed.size)
        if size < known:
            raise self._forked(f"{known} events were signed, and there are {size}")
        self._grow(growth, size, published)
        if size == signed.size:
            if stored is None or published == signed:
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

    def adopt(self) -> None:
        """Take the newest checkpoint in the database for the published one, where the home was lost or is new.

        This gives up what the home is there for, so it is for a person to decide. Raises LogForked if there is one.
        """
        if self._home.read("checkpoint") is not None:
            raise self._forked("the home has a checkpoint already")
        stored = self._journal.checkpoint()
        if stored is not None:
            self._open(stored, "the checkpoint in the database")
            self._home.replace("checkpoint", stored, before=None)

    def rotate(self, signer: Signer, *, key: str) -> bytes | None:
        """Go on under another key: the ledger records it, and the checkpoint that covers the record bears both.

        ``key`` is the idempotency key of the event. If this fails, the old key goes on signing until it is called again
        with the same ``key``. Raises InvalidInput unless the signer has the log's name, and what ``checkpoint`` raises.
        """
        if signer.verifier.name != self.origin:
            raise InvalidInput(path="signer", problem=f"it is named {signer.verifier.name}, the log {self.origin}")
        with self._lock:
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

    # ------------------------------------------------------------ the tree

    def _begin(self, signed: Checkpoint) -> Growth:
        """The right edge of the tree that was signed last, from the tiles that are kept."""
        growth = self._growth
        if growth is None or growth.size != signed.size:
            tiles = Growth.edge_tiles(signed.size)
            growth = Growth(signed.size, {tile.level: row for tile, row in zip(tiles, self.tiles(tiles), strict=True)})
            self._growth = growth
        if growth.root() != signed.root:
            raise self._forked(f"the tiles of its first {signed.size} events have another root than was signed")
        return growth

    def _check_extends(self, published: Checkpoint, size: int) -> None:
        """Whether the kept tree, if it reaches so far, has the root that was published."""
        if 0 < published.size <= size and tree_root(published.size, self._reader(published.size)) != published.root:
            raise self._forked(f"its first {published.size} events are not those that were published")

    def _grow(self, growth: Growth, size: int, published: Checkpoint) -> None:
        """Read and hash the events up to ``size`` anew. If what was published is ahead, the tree must pass by it."""
        last = self._last_leaf(growth.size)
        begun = growth.size
        while growth.size < size:
            wanted = size - growth.size
            leaves = self._journal.leaves(growth.size, last, min(EVENTS_PER_READ, wanted))[:wanted]
            if not leaves:
                raise LedgerCorrupt(where=f"event {self._journal.ledger}/{growth.size}", problem="it is missing")
            last = leaves[-1]
            if growth.size < published.size <= growth.size + len(leaves):
                within = published.size - growth.size
                growth.extend(leaves[:within])
                if growth.root() != published.root:
                    raise self._forked(f"its first {published.size} events are not those that were published")
                leaves = leaves[within:]
            growth.extend(leaves)
            if growth.size - begun >= EVENTS_PER_KEEP:
                begun = growth.size
                self._journal.keep(_rows(growth), growth.size, b"")

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

        Raises TransactionNotFound, and NoteInvalid if the log's key is none of Ed25519.
        """
        body = self._journal.event(seq)
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

        None if there is no checkpoint yet. Raises what ``publications.publish`` raises.
        """
        note = self.note
        if note is None:
            return None
        return publish(
            publication,
            note,
            keys=self.keys,
            tiles=self.tiles,
            bundles=self.bundles,
            entries=entries,
            origin=self.origin,
        )

    def cosign(self, policy: Policy, *, timeout_seconds: float = 10.0) -> Gathered | None:
        """Have the newest checkpoint cosigned by the witnesses of a policy, and keep it so; None: there is none yet."""
        with self._lock:
            note = self.note
            if note is None:
                return None
            size = self._open(note, "the checkpoint in the database").size
            gathered = gather(
                note,
                policy,
                lambda old: self.prove_consistency(old, size),
                known_sizes=self._witness_sizes,
                timeout_seconds=timeout_seconds,
            )
            self._witness_sizes = gathered.sizes
            if gathered.note != note:
                self._journal.keep([], size, gathered.note)
            return gathered

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
