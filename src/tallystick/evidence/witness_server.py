"""A small witness: the server side of C2SP tlog-witness v1.0.0, which cosigns with C2SP tlog-cosignature.

For each log that it is told of, the witness remembers the newest checkpoint it has cosigned, and cosigns another only
with a proof that it extends that one. Its whole worth is that it never forgets and never takes anything back:

- what is remembered is on the disk before the cosignature leaves,
- reading what is remembered, judging, signing and writing is one transaction that shuts out every other, of other
  threads and of other processes, so that no two requests can roll each other back,
- times never run backwards for a log, even if the machine's clock does.

What it cannot do: notice that its own file was put back to an older copy. Keep it on a disk that is not restored.

A client cannot hang it (see ``http_server``), and a body may have MAX_REQUEST_BYTES: sixteen ML-DSA-44 signatures and
63 hashes, which must be accepted, take 58,000.
"""

from __future__ import annotations

import base64
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from tallystick.errors import InvalidInput, NoteInvalid, ProofInvalid
from tallystick.evidence import http_server
from tallystick.evidence.http_server import (
    MAX_CONNECTIONS,
    REQUEST_SECONDS,
    Answer,
    BoundedServer,
    Refused,
)
from tallystick.evidence.signers import FileSigner
from tallystick.evidence.witness import MAX_PROOF_HASHES, SIZE_TYPE
from tallystick.evidence.witness_records import Record, WitnessRecords
from tallystick.journal.checkpoints import Checkpoint, cosign, open_checkpoint
from tallystick.journal.merkle import EMPTY_ROOT, check_consistency
from tallystick.journal.notes import COSIGNATURE, MAX_SIZE, Note, SecretKey, VerifierKey

_OLD = re.compile(rb"old (0|[1-9][0-9]{0,18})")
_CHECKPOINT_PATH = re.compile(r"/([0-9a-f]{64})/checkpoint")
_logger = logging.getLogger("tallystick.witness")

Logs = Mapping[str, Sequence[VerifierKey]]
"""The keys of each log by its origin."""


# ---------------------------------------------------------------- what is cosigned


class _Forked(Refused):
    """The log has signed two roots for one size."""

    def __init__(self, cosigned: bytes) -> None:
        super().__init__(422, "another root than the one cosigned for this size")
        self.cosigned = cosigned


class Request(msgspec.Struct, frozen=True):
    """The body of an add-checkpoint request."""

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes


def parse_request(body: bytes) -> Request:
    """Raises NoteInvalid for what is not an old size line, at most 63 hashes, an empty line, and more."""
    head, separator, note = body.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    old = _OLD.fullmatch(first)
    if not separator or old is None or int(old[1]) > MAX_SIZE:
        raise NoteInvalid(problem="the request does not begin with an old size line and what follows it")
    if len(lines) > MAX_PROOF_HASHES:
        raise NoteInvalid(problem=f"the proof has {len(lines)} hashes, the limit is {MAX_PROOF_HASHES}")
    return Request(old_size=int(old[1]), proof=tuple(_parse_hash(line) for line in lines), note=note)


def _parse_hash(line: bytes) -> bytes:
    try:
        found = base64.b64decode(line, validate=True)
    except ValueError:
        found = b""
    if len(found) != 32 or base64.b64encode(found) != line:
        raise NoteInvalid(problem="a line of the proof is not a hash in base64")
    return found


def _read_checkpoint(note: bytes) -> Checkpoint:
    """What a note says, before its signatures are looked at, so that a log is told that it is unknown in any case."""
    text, separator, _ = note.rpartition(b"\n\n")
    try:
        return Checkpoint.parse((text + separator[:1]).decode())
    except UnicodeDecodeError:
        raise NoteInvalid(problem="it is not UTF-8") from None


class WitnessService:
    """Decides what is cosigned, of which ``logs``; ``now`` gives POSIX seconds.

    Raises InvalidInput for a key that is one of the logs', or has the name of one.
    """

    def __init__(
        self,
        records: WitnessRecords,
        keys: Sequence[SecretKey],
        logs: Logs,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._records = records
        self._keys = tuple(keys)
        self._logs = {origin: tuple(found) for origin, found in logs.items()}
        self._now = now
        for key in self._keys:
            _check_apart(key.verifier, self._logs)

    def add_checkpoint(self, body: bytes) -> Answer:
        """The answer to an add-checkpoint request. Raises Unavailable if the record could not be kept."""
        try:
            request, checkpoint, note = self._open(body)
        except NoteInvalid as error:
            return Answer(400, f"{error}\n".encode())
        except Refused as refused:
            return refused.answer
        lines: list[str] = []

        def judge(record: Record) -> Record:
            nonlocal lines
            _check_growth(request, checkpoint, record)
            moment = max(int(self._now()), record.time, 1)
            cosigned, lines = self._cosign(note, moment)
            return Record(size=checkpoint.size, root=checkpoint.root, time=moment, note=cosigned)

        try:
            self._records.advance(checkpoint.origin, judge)
        except _Forked as refused:
            _logger.error("%s signed two roots for size %d", checkpoint.origin, checkpoint.size)
            self._records.keep_fork(checkpoint.origin, checkpoint, int(self._now()), refused.cosigned, note.encode())
            return refused.answer
        except Refused as refused:
            return refused.answer
        except NoteInvalid as error:  # more signatures, or a longer origin, than a cosigned note can have
            return Answer(400, f"{error}\n".encode())
        return Answer(200, "".join(lines).encode())

    def checkpoint(self, origin_hash: str) -> Answer:
        """The newest cosigned checkpoint of a log, for monitors."""
        note = self._records.note_of(origin_hash)
        if note is None:
            return Answer(404, b"no checkpoint of that log was cosigned\n")
        return Answer(200, note)

    def _open(self, body: bytes) -> tuple[Request, Checkpoint, Note]:
        """The request, and its checkpoint with the log's own signatures alone.

        Raises NoteInvalid for what is malformed, Refused for an unknown log (404) or a signature that is missing,
        wrong or no signature at all (403).
        """
        request = parse_request(body)
        checkpoint = _read_checkpoint(request.note)
        keys = self._logs.get(checkpoint.origin)
        if keys is None:
            raise Refused(404, "this witness does not know that log")
        try:
            _, note = open_checkpoint(request.note, keys, checkpoint.origin)
        except NoteInvalid as error:
            raise Refused(403, str(error)) from None
        signatures = tuple(line for line in note.signatures if any(line.is_by(key) for key in keys))
        return request, checkpoint, Note(text=note.text, signatures=signatures)

    def _cosign(self, note: Note, moment: int) -> tuple[bytes, list[str]]:
        """The note with the cosignatures, and their lines."""
        signed = note.encode()
        fresh = [cosign(signed, key, moment) for key in self._keys]
        whole = Note(text=note.text, signatures=(*note.signatures, *fresh))
        return whole.encode(), [signature.line for signature in fresh]


def _check_growth(request: Request, checkpoint: Checkpoint, record: Record) -> None:
    """Raises Refused unless the checkpoint extends the recorded one, in the order of the specification."""
    if request.old_size > checkpoint.size:
        raise Refused(400, "the old size is beyond that of the checkpoint")
    if request.old_size != record.size:
        raise Refused(409, str(record.size), SIZE_TYPE)
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        raise Refused(422, "the root of an empty tree is another")
    if record.size and checkpoint.size == record.size and checkpoint.root != record.root:
        raise _Forked(record.note)
    try:
        check_consistency(record.size, checkpoint.size, record.root, checkpoint.root, request.proof)
    except ProofInvalid as error:
        raise Refused(422, str(error)) from None


# ---------------------------------------------------------------- HTTP


class WitnessServer(BoundedServer):
    """The witness on a port. Raises Unavailable if the port cannot be had. Port 0 takes any; ``url`` says which."""

    name = "tallystick-witness"
    logger = _logger
    when_unavailable = "the record could not be kept or read; nothing was cosigned"
    when_at_fault = "a fault of the witness; nothing was cosigned"

    def __init__(
        self,
        service: WitnessService,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        most_connections: int = MAX_CONNECTIONS,
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        self.service = service
        super().__init__(host, port, most_connections=most_connections, request_seconds=request_seconds)

    def answer(self, request: http_server.Request) -> Answer:
        match = _CHECKPOINT_PATH.fullmatch(request.path)
        if request.method == "POST" and request.path == "/add-checkpoint":
            return self.service.add_checkpoint(request.read_body())
        if request.method != "POST" and request.path == "/add-checkpoint":
            raise Refused(405, "POST it", headers={"Allow": "POST"})
        if request.method == "POST" or match is None:
            raise Refused(404, "not found")
        return self.service.checkpoint(match[1])


# ---------------------------------------------------------------- keys


def load_key(path: Path | str, name: str = "", logs: Logs | None = None) -> SecretKey:
    """The key for cosignatures in the file ``path``, made if it is not there, which needs a ``name``.

    The file is that of a FileSigner. Its seed is used for cosignatures alone: a witness signs nothing else.
    Raises KeyFileUnsafe, NoteInvalid, Unavailable as FileSigner does, and InvalidInput for a new key without a name, or
    a key that is not apart from those of the ``logs``: it is neither of their name nor one of them.
    """
    path = Path(path)
    name = name or _name_in(path)
    if not name:
        raise InvalidInput(path="name", problem=f"there is no key in {path} yet: a new one needs a name")
    _check_name(name, logs or {})  # before a key of that name is made
    signer = FileSigner(path, name)
    key = SecretKey.from_seed(signer.verifier.name, signer.secret.seed, COSIGNATURE)
    _check_apart(key.verifier, logs or {})
    return key


def _check_name(name: str, logs: Logs) -> None:
    if any(name == known.name for several in logs.values() for known in several):
        raise InvalidInput(path="key", problem=f"{name} is the name of a log's key; a witness needs a name of its own")


def _check_apart(key: VerifierKey, logs: Logs) -> None:
    """A log that cosigns itself is no witness, and a name that two have does not say who signed."""
    _check_name(key.name, logs)
    for known in (known for several in logs.values() for known in several):
        if key.key == known.key:  # whatever each is for: the same seed gives the same Ed25519 key
            raise InvalidInput(path="key", problem=f"it is the key of the log {known.name}; a witness needs its own")


def _name_in(path: Path) -> str:
    """The name of the key in a file, which FileSigner wants to be told. Nothing if there is no file."""
    if not path.is_file():
        return ""
    try:
        return SecretKey.parse(path.read_bytes()[:4096].decode().removesuffix("\n")).name
    except (NoteInvalid, UnicodeDecodeError, OSError):
        return "unknown"  # FileSigner says what is wrong with it
