"""Asking witnesses to cosign a checkpoint: the client side of C2SP tlog-witness v1.0.0.

A witness remembers, for each log, the newest checkpoint it has cosigned, and cosigns another only with a proof that it
extends that one. A checkpoint with enough cosignatures cannot belong to a history that was rewritten or shown to some
people only, unless enough witnesses take part in the lie. How many are enough is said by a policy (C2SP tlog-policy).

Witnesses are other people's programs, so nothing they send is taken on trust: a cosignature counts once it verifies
with the key that the policy gives for that witness, a size is a hint for one more try, and anything else is "not
cosigned", with the reason. A witness that fails, hangs or lies costs its own cosignature and nobody else's.

Answers that differ between implementations are read as the specification has them: 200 with signature lines, and 409
with content type text/x.tlog.size. Every other answer, whatever its status, means not cosigned.
"""

from __future__ import annotations

import base64
import hashlib
import queue
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from tallystick.errors import InvalidInput, TallystickError, Unavailable
from tallystick.evidence.outbound import Endpoint, Reply, exchange, parse_endpoint, post
from tallystick.journal.checkpoints import cosignature_time, read_checkpoint, with_signatures
from tallystick.journal.notes import (
    COSIGNATURE,
    MAX_NOTE_BYTES,
    MAX_SIZE,
    ML_DSA_44,
    Note,
    NoteSignature,
    VerifierKey,
    open_note,
    signers_of,
)
from tallystick.journal.policies import Policy, PolicyWitness

MAX_PROOF_HASHES = 63
"""Of a consistency proof in a request, by the specification."""

MAX_ANSWER_BYTES = 65_536
"""A witness with sixteen ML-DSA-44 keys answers with 54,000."""

MAX_AT_ONCE = 32
"""Witnesses asked at the same time; more wait for their turn."""

SIZE_TYPE = "text/x.tlog.size"

_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n?")

ProofFrom = Callable[[int], Sequence[bytes]]
"""The consistency proof from a size to that of the checkpoint."""


class Cosigned(msgspec.Struct, frozen=True):
    """The witness cosigned, and the signature is right."""

    signature: NoteSignature


class Stale(msgspec.Struct, frozen=True):
    """The witness has cosigned another size than the one named in the request."""

    size: int


class NotCosigned(msgspec.Struct, frozen=True):
    """There is no cosignature, because of this."""

    reason: str
    answered: bool = True


Outcome = Cosigned | Stale | NotCosigned


class Asked(msgspec.Struct, frozen=True):
    """One witness and how it went. ``size`` is what it has cosigned as far as is known now.

    A ``size`` beyond the checkpoint's is a reason for alarm: unless another process has published meanwhile, the log
    was put back to an older state, as from a copy, and must not go on from there. But it is only said; ``shown`` is
    what a witness that refused then gave as the newest checkpoint that it knows of this log, unchecked.
    """

    witness: PolicyWitness
    outcome: Cosigned | NotCosigned
    size: int
    shown: bytes = b""


class Gathered(msgspec.Struct, frozen=True):
    """The note with the cosignatures that were given, how each witness did, and whether the policy is satisfied."""

    note: bytes
    asked: tuple[Asked, ...]
    quorum_met: bool

    @property
    def sizes(self) -> dict[str, int]:
        """By witness key (as text): the size it has cosigned, to be given to the next gathering."""
        return {str(asked.witness.key): asked.size for asked in self.asked}


class WitnessClient:
    """Talks to one witness. Raises InvalidInput for a URL or key that no witness can have."""

    def __init__(
        self, url: str, key: VerifierKey, *, timeout_seconds: float = 10.0, trust: ssl.SSLContext | None = None
    ) -> None:
        if key.type not in (COSIGNATURE, ML_DSA_44):
            raise InvalidInput(path="key", problem=f"{key.name} has no key for cosignatures (type {key.type:#04x})")
        if "?" in url:
            raise InvalidInput(path="url", problem=f"{url!r} is no prefix: it has a query")
        self._key = key
        self._prefix = url.rstrip("/")
        self._endpoint: Endpoint = parse_endpoint(self._prefix + "/add-checkpoint")
        self._timeout_seconds = timeout_seconds
        self._trust = trust

    def add_checkpoint(self, old_size: int, proof: Sequence[bytes], note: bytes) -> Outcome:
        """Ask for a cosignature of ``note``, which extends the log of ``old_size`` by ``proof``. Never raises for what
        the witness does.
        """
        try:
            reply = post(
                self._endpoint,
                encode_request(old_size, proof, note),
                "text/plain; charset=utf-8",
                timeout_seconds=self._timeout_seconds,
                most_bytes=MAX_ANSWER_BYTES,
                trust=self._trust,
            )
            return self._read(reply, note)
        except Unavailable as error:
            return NotCosigned(str(error.data["reason"]), answered=False)
        except TallystickError as error:
            return NotCosigned(str(error))

    def checkpoint(self, origin: str) -> bytes:
        """The newest checkpoint of a log that the witness has cosigned, as it gives it; nothing if it gives none. It is
        asked for under the prefix for submissions, where a witness that has another one for monitoring has nothing.
        """
        path = f"/{hashlib.sha256(origin.encode()).hexdigest()}/checkpoint"
        try:
            reply = exchange(
                parse_endpoint(self._prefix + path),
                "GET",
                None,
                {},
                timeout_seconds=self._timeout_seconds,
                most_bytes=MAX_NOTE_BYTES,
                trust=self._trust,
            )
        except TallystickError:
            return b""
        return reply.body if reply.status == 200 else b""

    def _read(self, reply: Reply, note: bytes) -> Outcome:
        if reply.status == 200:
            return self._cosignature(reply.body, note)
        if reply.status == 409 and reply.content_type == SIZE_TYPE:
            match = _SIZE.fullmatch(reply.body)
            if match is None or int(match[1]) > MAX_SIZE:
                return NotCosigned("it answered 409 with something that is no size")
            return Stale(int(match[1]))
        said = reply.body[:200].decode("ascii", "replace").strip()
        return NotCosigned(f"it answered {reply.status}: {said!r}")

    def _cosignature(self, lines: bytes, note: bytes) -> Outcome:
        """The one signature of this witness's key among ``lines``. Raises NoteInvalid if they are none, or it fails."""
        text = Note.parse(note).text
        answer = Note.parse(text.encode() + b"\n" + lines)
        if answer.text != text:  # an empty line among the lines would move the border between text and signatures
            return NotCosigned("its answer is not signature lines alone")
        mine = [line for line in answer.signatures if line.is_by(self._key)]
        if len(mine) != 1:
            return NotCosigned(f"its answer has {len(mine)} cosignatures of {self._key.name}")
        open_note(Note(text=text, signatures=(mine[0],)).encode(), [self._key])
        if cosignature_time(mine[0]) == 0:
            return NotCosigned("its cosignature has no time")
        return Cosigned(mine[0])


def encode_request(old_size: int, proof: Sequence[bytes], note: bytes) -> bytes:
    """The body of an add-checkpoint request. Raises InvalidInput if the proof has more hashes than may be sent."""
    if len(proof) > MAX_PROOF_HASHES:
        raise InvalidInput(path="proof", problem=f"{len(proof)} hashes, the limit is {MAX_PROOF_HASHES}")
    hashes = b"".join(base64.b64encode(item) + b"\n" for item in proof)
    return b"old %d\n%b\n%b" % (old_size, hashes, note)


class _Job(msgspec.Struct, frozen=True):
    place: int
    client: WitnessClient
    old_size: int
    proof: tuple[bytes, ...]


def gather(
    note: bytes,
    policy: Policy,
    proof_from: ProofFrom,
    *,
    known_sizes: Mapping[str, int] | None = None,
    timeout_seconds: float = 10.0,
    trust: ssl.SSLContext | None = None,
) -> Gathered:
    """Ask every witness of ``policy`` that has a URL, all at once, to cosign the checkpoint in ``note``.

    ``known_sizes`` is ``sizes`` of the last gathering; a witness that stands elsewhere says so and is asked once more.
    ``proof_from`` is called in this thread only, and its errors count against the witness whose size asked for it.
    Each request may take ``timeout_seconds``, and the whole three times that for each round of MAX_AT_ONCE witnesses.
    Raises NoteInvalid if ``note`` is no checkpoint or bears a wrong cosignature, and nothing for what witnesses do.
    """
    quorum_met(note, policy)  # raises before anybody is asked
    gathering = _Gathering(note, witnesses_of(policy), proof_from, timeout_seconds, trust)
    asked = gathering.run(known_sizes or {})
    fresh = [entry.outcome.signature for entry in asked if isinstance(entry.outcome, Cosigned)]
    whole = with_signatures(note, fresh) if fresh else note
    return Gathered(note=whole, asked=asked, quorum_met=quorum_met(whole, policy))


class _Gathering:
    """One round through the witnesses: threads do the waiting, the caller's thread everything else."""

    def __init__(
        self,
        note: bytes,
        witnesses: Sequence[PolicyWitness],
        proof_from: ProofFrom,
        timeout_seconds: float,
        trust: ssl.SSLContext | None,
    ) -> None:
        self._note = note
        checkpoint = read_checkpoint(note)
        self._origin, self._size = checkpoint.origin, checkpoint.size
        self._witnesses = witnesses
        self._proof_from = proof_from
        self._timeout_seconds = timeout_seconds
        self._trust = trust
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[_Job, Outcome, bytes]] = queue.SimpleQueue()
        self._proofs: dict[int, tuple[bytes, ...]] = {0: (), self._size: ()}
        self._ends: dict[int, Asked] = {}

    def run(self, known_sizes: Mapping[str, int]) -> tuple[Asked, ...]:
        for place, witness in enumerate(self._witnesses):
            known = known_sizes.get(str(witness.key), 0)
            self._begin(place, known if 0 <= known <= self._size else 0)
        workers = min(len(self._witnesses), MAX_AT_ONCE)
        for _ in range(workers):
            # Daemons: a resolver that hangs must not keep the process from ending.
            threading.Thread(target=self._work, name="tallystick-witness-client", daemon=True).start()
        self._collect(time.monotonic() + self._longest(workers))
        for _ in range(workers):
            self._jobs.put(None)
        return tuple(self._ends[place] for place in range(len(self._witnesses)))

    def _longest(self, workers: int) -> float:
        rounds = -(-len(self._witnesses) // workers) if workers else 0
        return 3 * rounds * self._timeout_seconds + 1

    def _begin(self, place: int, old_size: int) -> None:
        witness = self._witnesses[place]
        try:
            client = WitnessClient(witness.url, witness.key, timeout_seconds=self._timeout_seconds, trust=self._trust)
            self._jobs.put(_Job(place, client, old_size, self._proof(old_size)))
        except Exception as error:
            self._end(place, NotCosigned(f"it was not asked: {error}"), old_size)

    def _proof(self, old_size: int) -> tuple[bytes, ...]:
        if old_size not in self._proofs:
            self._proofs[old_size] = tuple(self._proof_from(old_size))
        return self._proofs[old_size]

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            outcome: Outcome
            shown = b""
            try:
                outcome = job.client.add_checkpoint(job.old_size, job.proof, self._note)
                if self._is_refusal(outcome):
                    shown = job.client.checkpoint(self._origin)
            except Exception as error:  # what is wrong with one witness is that one's alone
                outcome = NotCosigned(f"asking it failed: {error!r}")
            self._answers.put((job, outcome, shown))

    def _is_refusal(self, outcome: Outcome) -> bool:
        """Whether the witness may know of another history: then it is asked to show it."""
        if isinstance(outcome, Stale):
            return outcome.size > self._size
        return isinstance(outcome, NotCosigned) and outcome.answered

    def _collect(self, deadline: float) -> None:
        retried: set[int] = set()
        while len(self._ends) < len(self._witnesses):
            try:
                job, outcome, shown = self._answers.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                break
            if isinstance(outcome, Stale) and self._may_retry(job, outcome, retried):
                retried.add(job.place)
                self._begin(job.place, outcome.size)
            else:
                self._end(job.place, outcome, job.old_size, shown)
        for place in range(len(self._witnesses)):
            if place not in self._ends:
                self._end(place, NotCosigned("no answer in time"), 0)

    def _may_retry(self, job: _Job, stale: Stale, retried: set[int]) -> bool:
        return job.place not in retried and stale.size != job.old_size and stale.size <= self._size

    def _end(self, place: int, outcome: Outcome, old_size: int, shown: bytes = b"") -> None:
        size = old_size
        if isinstance(outcome, Cosigned):
            size = self._size
        elif isinstance(outcome, Stale):
            size = outcome.size
            outcome = NotCosigned(self._say_stale(outcome.size, old_size))
        self._ends[place] = Asked(self._witnesses[place], outcome, size, shown)

    def _say_stale(self, size: int, old_size: int) -> str:
        if size > self._size:
            return f"it has cosigned size {size} already, which is beyond this checkpoint's {self._size}"
        if size == old_size:
            return f"it says that it stands at size {size}, which is what it was told, and refuses"
        return f"it moved on to size {size} meanwhile"


def witnesses_of(policy: Policy) -> tuple[PolicyWitness, ...]:
    """The witnesses of ``policy`` that can be asked: those with a URL, which is their submission prefix."""
    return tuple(witness for witness in policy.witnesses if witness.url)


def quorum_met(note: bytes, policy: Policy) -> bool:
    """Whether the cosignatures on ``note`` satisfy the quorum of ``policy``. Raises NoteInvalid if one fails."""
    return policy.satisfied_by(signers_of(Note.parse(note), policy.witness_keys))
