"""A small witness: the server side of C2SP tlog-witness v1.0.0, which cosigns with C2SP tlog-cosignature.

For each log that it is told of, the witness remembers the newest checkpoint it has cosigned, and cosigns another only
with a proof that it extends that one. Its whole worth is that it never forgets and never takes anything back:

- what is remembered is on the disk before the cosignature leaves,
- reading what is remembered, judging, signing and writing is one transaction that shuts out every other, of other
  threads and of other processes, so that no two requests can roll each other back,
- times never run backwards for a log, even if the machine's clock does.

What it cannot do: notice that its own file was put back to an older copy. Keep it on a disk that is not restored.

A client cannot hang it: a request has a deadline as a whole and a limit in bytes, and at most so many connections are
served at once. It speaks plain HTTP; a proxy before it adds encryption, and limits per address where they are needed.
"""

from __future__ import annotations

import base64
import io
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec

from tallystick.errors import InvalidInput, NoteInvalid, ProofInvalid, Unavailable
from tallystick.evidence.signers import FileSigner
from tallystick.evidence.witness import MAX_PROOF_HASHES, SIZE_TYPE
from tallystick.evidence.witness_records import Record, WitnessRecords
from tallystick.journal.checkpoints import Checkpoint, cosign, open_checkpoint
from tallystick.journal.merkle import EMPTY_ROOT, check_consistency
from tallystick.journal.notes import COSIGNATURE, MAX_SIZE, Note, SecretKey, VerifierKey

MAX_REQUEST_BYTES = 131_072
"""Of a body. Sixteen ML-DSA-44 signatures and 63 hashes, which must be accepted, take 58,000."""

MAX_EXCHANGE_BYTES = 2 * MAX_REQUEST_BYTES
"""Of a request with its head and what frames its chunks."""

MAX_CONNECTIONS = 64
REQUEST_SECONDS = 15.0
"""From waiting for a request to the end of its answer; so also how long a silent connection is kept."""

GOODBYE_SECONDS = 1.0
"""What a client whose request was refused gets to read the answer."""

TEXT_TYPE = "text/plain; charset=utf-8"

_OLD = re.compile(rb"old (0|[1-9][0-9]{0,18})")
_CHECKPOINT_PATH = re.compile(r"/([0-9a-f]{64})/checkpoint")
_LENGTH = re.compile(r"[0-9]{1,10}")
_TURNED_AWAY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_logger = logging.getLogger("tallystick.witness")


# ---------------------------------------------------------------- what is cosigned


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer."""

    status: int
    body: bytes
    content_type: str = TEXT_TYPE


class _Refused(Exception):
    """The request is answered with this, and nothing changes."""

    def __init__(self, status: int, text: str, content_type: str = TEXT_TYPE) -> None:
        super().__init__(text)
        self.answer = Answer(status, text.encode() + b"\n", content_type)


class _Forked(_Refused):
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
    """Decides what is cosigned. ``logs`` has the keys of each log by its origin; ``now`` gives POSIX seconds."""

    def __init__(
        self,
        records: WitnessRecords,
        keys: Sequence[SecretKey],
        logs: Mapping[str, Sequence[VerifierKey]],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._records = records
        self._keys = tuple(keys)
        self._logs = {origin: tuple(found) for origin, found in logs.items()}
        self._now = now

    def add_checkpoint(self, body: bytes) -> Answer:
        """The answer to an add-checkpoint request. Raises Unavailable if the record could not be kept."""
        try:
            request, checkpoint, note = self._open(body)
        except NoteInvalid as error:
            return Answer(400, f"{error}\n".encode())
        except _Refused as refused:
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
        except _Refused as refused:
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

        Raises NoteInvalid for what is malformed, _Refused for an unknown log (404) or a signature that is missing,
        wrong or no signature at all (403).
        """
        request = parse_request(body)
        checkpoint = _read_checkpoint(request.note)
        keys = self._logs.get(checkpoint.origin)
        if keys is None:
            raise _Refused(404, "this witness does not know that log")
        try:
            _, note = open_checkpoint(request.note, keys, checkpoint.origin)
        except NoteInvalid as error:
            raise _Refused(403, str(error)) from None
        signatures = tuple(line for line in note.signatures if any(line.is_by(key) for key in keys))
        return request, checkpoint, Note(text=note.text, signatures=signatures)

    def _cosign(self, note: Note, moment: int) -> tuple[bytes, list[str]]:
        """The note with the cosignatures, and their lines."""
        signed = note.encode()
        fresh = [cosign(signed, key, moment) for key in self._keys]
        whole = Note(text=note.text, signatures=(*note.signatures, *fresh))
        return whole.encode(), [signature.line for signature in fresh]


def _check_growth(request: Request, checkpoint: Checkpoint, record: Record) -> None:
    """Raises _Refused unless the checkpoint extends the recorded one, in the order of the specification."""
    if request.old_size > checkpoint.size:
        raise _Refused(400, "the old size is beyond that of the checkpoint")
    if request.old_size != record.size:
        raise _Refused(409, str(record.size), SIZE_TYPE)
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        raise _Refused(422, "the root of an empty tree is another")
    if record.size and checkpoint.size == record.size and checkpoint.root != record.root:
        raise _Forked(record.note)
    try:
        check_consistency(record.size, checkpoint.size, record.root, checkpoint.root, request.proof)
    except ProofInvalid as error:
        raise _Refused(422, str(error)) from None


# ---------------------------------------------------------------- HTTP


class _RequestOver(TimeoutError):
    """The request took too long or too much. http.server closes a connection on TimeoutError."""


class _BoundedReader(io.RawIOBase):
    """A socket's bytes, up to a deadline and a number of bytes that are set for each request."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._deadline = 0.0
        self._bytes_left = 0

    def begin(self, seconds: float, most_bytes: int) -> None:
        self._deadline = time.monotonic() + seconds
        self._bytes_left = most_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        seconds = self._deadline - time.monotonic()
        if seconds <= 0 or self._bytes_left <= 0:
            raise _RequestOver("the request is too slow or too long")
        self._connection.settimeout(seconds)
        count = self._connection.recv_into(memoryview(buffer)[: self._bytes_left])
        self._bytes_left -= count
        return count


class _Handler(BaseHTTPRequestHandler):
    """One connection, request by request."""

    protocol_version = "HTTP/1.1"  # connections are kept, as the specification asks
    server_version = "tallystick-witness"
    sys_version = ""
    disable_nagle_algorithm = True
    server: WitnessServer

    def setup(self) -> None:
        super().setup()
        self._bounded = _BoundedReader(self.connection)
        self.rfile: io.BufferedReader = io.BufferedReader(self._bounded, 16_384)

    def handle_one_request(self) -> None:
        self._bounded.begin(self.server.request_seconds, MAX_EXCHANGE_BYTES)
        try:
            super().handle_one_request()
        except OSError as error:  # it went away, or was too slow
            _logger.debug("%s: %s", self.address_string(), error)
            self.close_connection = True

    def do_POST(self) -> None:
        if self.path != "/add-checkpoint":
            self._refuse(404, "not found")
            return
        try:
            self._answer(self.server.service.add_checkpoint(self._body()))
        except _Refused as refused:
            self._refuse(refused.answer.status, str(refused))
        except OSError:
            raise  # the connection's
        except Unavailable as error:
            _logger.error("%s", error)
            self._refuse(503, "the record could not be kept; nothing was cosigned")
        except Exception:
            _logger.exception("a request failed")
            self._refuse(500, "a fault of the witness; nothing was cosigned")

    def do_GET(self) -> None:
        match = _CHECKPOINT_PATH.fullmatch(self.path)
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # a body that nobody reads would be taken for the next request
        if self.path == "/add-checkpoint":
            self._refuse(405, "POST it", {"Allow": "POST"})
        elif match is None:
            self._refuse(404, "not found")
        else:
            try:
                self._answer(self.server.service.checkpoint(match[1]))
            except Unavailable as error:
                _logger.error("%s", error)
                self._refuse(503, "the record could not be read")

    def _body(self) -> bytes:
        """The body. Raises _Refused for its size or its framing."""
        lengths = self.headers.get_all("Content-Length", [])
        codings = self.headers.get_all("Transfer-Encoding", [])
        if codings:
            if lengths or [coding.strip().lower() for coding in codings] != ["chunked"]:
                raise _Refused(400, "a body of unclear length")
            return self._chunks()
        if not lengths:
            raise _Refused(411, "a body with a Content-Length is wanted")
        if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
            raise _Refused(400, "a body of unclear length")
        length = int(lengths[0])
        if length > MAX_REQUEST_BYTES:
            raise _Refused(413, f"the limit is {MAX_REQUEST_BYTES} bytes")
        body = self.rfile.read(length)
        if len(body) != length:
            raise _Refused(400, "the body ended early")
        return body

    def _chunks(self) -> bytes:
        """A body in chunks, without extensions or trailers (RFC 9112, 7.1)."""
        body = b""
        while True:
            line = self.rfile.readline(20)
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}\r\n", line):
                raise _Refused(400, "a malformed chunk")
            size = int(line, 16)
            if len(body) + size > MAX_REQUEST_BYTES:
                raise _Refused(413, f"the limit is {MAX_REQUEST_BYTES} bytes")
            body += self.rfile.read(size)
            if self.rfile.read(2) != b"\r\n":
                raise _Refused(400, "a malformed chunk")
            if size == 0:
                return body

    def _refuse(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        """Answer, and close the connection: what is left of the request would be read as the next one."""
        self.close_connection = True
        self._answer(Answer(status, text.encode() + b"\n"), {"Connection": "close", **(headers or {})})
        # Closing on what was not read resets the connection, and the client might never see the answer.
        self.connection.shutdown(socket.SHUT_WR)
        self._bounded.begin(GOODBYE_SECONDS, MAX_EXCHANGE_BYTES)
        while self.rfile.read1(16_384):
            pass

    def _answer(self, answer: Answer, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        _logger.debug("%s " + format, self.address_string(), *args)


class WitnessServer(HTTPServer):
    """The witness on a port: each connection in a thread, and never more of them than ``most_connections``.

    Raises Unavailable if the port cannot be had. Port 0 takes any; ``url`` says which.
    """

    allow_reuse_address = True
    request_queue_size = 128

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
        self.request_seconds = request_seconds
        self._places = threading.BoundedSemaphore(most_connections)
        self._most_connections = most_connections
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise Unavailable(reason=f"{host}:{port}: {error.strerror or error}") from None

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        name = str(host)
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def server_bind(self) -> None:
        """Without the base class's look-up of the host's name, which can take long and is used for nothing."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self._turn_away(request)
            return
        try:
            threading.Thread(target=self._serve, args=(request, client_address), daemon=True).start()
        except BaseException:
            self._places.release()
            raise

    def _serve(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception:
            _logger.debug("a connection failed", exc_info=True)
        finally:
            self._places.release()
            self.shutdown_request(request)

    def _turn_away(self, request: socket.socket) -> None:
        """Too many connections: say so without waiting for anything."""
        request.settimeout(0)
        try:
            request.send(_TURNED_AWAY)
        except OSError as error:
            _logger.debug("turned away without a word: %s", error)
        self.shutdown_request(request)

    def wait_for_connections(self, seconds: float) -> None:
        """After ``shutdown``: let the requests that are being answered end, for at most so long."""
        deadline = time.monotonic() + seconds
        for _ in range(self._most_connections):
            if not self._places.acquire(timeout=max(deadline - time.monotonic(), 0)):
                return


def logs_by_origin(keys: Iterable[VerifierKey]) -> dict[str, tuple[VerifierKey, ...]]:
    """The logs that these keys are of: a key's name is the origin of its log (tlog-policy)."""
    found: dict[str, tuple[VerifierKey, ...]] = {}
    for key in keys:
        found[key.name] = (*found.get(key.name, ()), key)
    return found


def load_key(path: Path | str, name: str = "") -> SecretKey:
    """The key for cosignatures in the file ``path``, made if it is not there, which needs a ``name``.

    The file is that of a FileSigner. Its seed is used for cosignatures alone: a witness signs nothing else.
    Raises KeyFileUnsafe, NoteInvalid, Unavailable as FileSigner does, and InvalidInput for a new key without a name.
    """
    path = Path(path)
    name = name or _name_in(path)
    if not name:
        raise InvalidInput(path="name", problem=f"there is no key in {path} yet: a new one needs a name")
    signer = FileSigner(path, name)
    return SecretKey.from_seed(signer.verifier.name, signer.secret.seed, COSIGNATURE)


def _name_in(path: Path) -> str:
    """The name of the key in a file, which FileSigner wants to be told. Nothing if there is no file."""
    if not path.is_file():
        return ""
    try:
        return SecretKey.parse(path.read_bytes()[:4096].decode().removesuffix("\n")).name
    except (NoteInvalid, UnicodeDecodeError, OSError):
        return "unknown"  # FileSigner says what is wrong with it
