"""Handing out a published log: the read interface of C2SP tlog-tiles, from wherever the log is published.

A published log is a set of files, so any web server will do. This one is for those who have none, and it knows which
files are for everybody and which are not:

    checkpoint, tile/<L>/<N>[.p/<W>], checkpoints/<size>      for everybody
    log.vkey, keys/<name>.vkey, policy                        for everybody, if they are there: what checks need
    tile/entries/<N>[.p/<W>]                                  the events themselves: with a token, if one is set

Nothing else is served, whatever lies in the folder: a path has to be one of these, spelt in the one way it can be. So
no request leaves the folder, and names that begin with a dot are never looked at. What never changes may be cached for
ever, and what needs a token by its reader alone. Bundles are compressed for who takes gzip, as the specification asks.

A client cannot hang it: see ``http_server``. An answer is in memory while it is sent; a bundle has 16 MiB at most.
"""

from __future__ import annotations

import gzip
import logging
import re
from pathlib import Path

from tallystick.errors import InvalidInput, KeyFileUnsafe, NoteInvalid
from tallystick.evidence.http_server import (
    REQUEST_SECONDS,
    TEXT_TYPE,
    Answer,
    BoundedServer,
    Refused,
    Request,
    check_token,
    require_token,
)
from tallystick.evidence.places import Publication
from tallystick.evidence.secret_files import read_secret
from tallystick.journal.notes import MAX_SIZE
from tallystick.journal.tiles import Bundle, Tile, parse_path

MAX_CONNECTIONS = 32
ANSWER_SECONDS = 60.0

BYTES_TYPE = "application/octet-stream"
JUST_NOW = "public, max-age=2"
FOR_EVER = "max-age=31536000, immutable"

_CHECKPOINT = re.compile(r"checkpoints/(0|[1-9][0-9]{0,18})")
_KEY = re.compile(r"log\.vkey|keys/(?!\.)[A-Za-z0-9_.\-]{1,200}\.vkey|policy")
_GZIP = re.compile(r"\s*(?:gzip|x-gzip)\s*(?:;\s*q\s*=\s*(0\.[0-9]{0,2}[1-9]|1(?:\.0{0,3})?)\s*)?", re.IGNORECASE)
_logger = logging.getLogger("tallystick.serving")


class LogFiles:
    """Which file answers which request. ``entries`` is where the bundles are if they are not with the rest; such a log
    is private, so that needs a ``token``. Raises InvalidInput without one, or for a token that is none.
    """

    def __init__(self, publication: Publication, entries: Publication | None = None, token: str = "") -> None:
        if entries is not None and not token:
            raise InvalidInput(path="token", problem="entries that are kept apart are not for everybody: set a token")
        self._publication = publication
        self._entries = entries or publication
        self._token = check_token(token) if token else ""

    def answer(self, request: Request) -> Answer:
        """The answer to a GET or HEAD. Raises Refused, Unavailable."""
        if request.method not in ("GET", "HEAD"):
            raise Refused(405, "this can only be read", headers={"Allow": "GET, HEAD"})
        slash, path = request.path[:1], request.path[1:]
        if slash != "/":
            raise _not_found()
        if path.startswith("tile/"):
            return self._tile(path, request)
        if path == "checkpoint":
            return self._file(path, TEXT_TYPE, JUST_NOW)
        number = _CHECKPOINT.fullmatch(path)
        if number is not None and int(number[1]) <= MAX_SIZE:
            return self._file(path, TEXT_TYPE, f"public, {FOR_EVER}")
        if _KEY.fullmatch(path):
            return self._file(path, TEXT_TYPE, JUST_NOW)
        raise _not_found()

    def _tile(self, path: str, request: Request) -> Answer:
        try:
            place: Tile | Bundle = parse_path(path)
        except NoteInvalid:
            raise _not_found() from None
        if isinstance(place, Tile):
            return self._file(path, BYTES_TYPE, f"public, {FOR_EVER}")
        if self._token:  # before it is looked whether there is such a bundle: that is not for everybody either
            require_token(request, self._token)
        data = _read(self._entries, path)
        reach = "private" if self._token else "public"
        headers = {"Cache-Control": f"{reach}, {FOR_EVER}", "Vary": "Accept-Encoding"}
        if _takes_gzip(request):
            data = gzip.compress(data, 6, mtime=0)
            headers["Content-Encoding"] = "gzip"
        return Answer(200, data, BYTES_TYPE, {**headers, **_SAFE})

    def _file(self, path: str, content_type: str, caching: str) -> Answer:
        return Answer(200, _read(self._publication, path), content_type, {"Cache-Control": caching, **_SAFE})


_SAFE = {"X-Content-Type-Options": "nosniff"}


def _read(publication: Publication, path: str) -> bytes:
    try:
        data = publication.read(path)
    except InvalidInput as error:  # a link, or a folder, where a file should be
        _logger.warning("%s is not served: %s", path, error)
        data = None
    if data is None:
        raise _not_found()
    return data


def _not_found() -> Refused:
    return Refused(404, "not found", headers={"Cache-Control": "no-store"})  # it may be published in a moment


def _takes_gzip(request: Request) -> bool:
    codings = ",".join(request.header("Accept-Encoding")).split(",")
    return any(_GZIP.fullmatch(coding) for coding in codings)


class TileServer(BoundedServer):
    """A published log on a port. Raises Unavailable if the port cannot be had."""

    name = "tallystick-log"
    logger = _logger
    when_unavailable = "the files cannot be read now"

    def __init__(
        self,
        files: LogFiles,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        most_connections: int = MAX_CONNECTIONS,
        request_seconds: float = REQUEST_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self.files = files
        super().__init__(
            host,
            port,
            most_connections=most_connections,
            request_seconds=request_seconds,
            answer_seconds=answer_seconds,
        )

    def answer(self, request: Request) -> Answer:
        return self.files.answer(request)


def load_token(path: Path | str) -> str:
    """The token in a file: one line. Raises KeyFileUnsafe for a file that is not its owner's alone, is none or has no
    token, Unavailable if it cannot be read. No error shows the token."""
    path = Path(path)
    try:
        return check_token(read_secret(path).decode("ascii").removesuffix("\n"))
    except (InvalidInput, UnicodeDecodeError) as error:
        problem = error.data["problem"] if isinstance(error, InvalidInput) else "it is not ASCII"
        raise KeyFileUnsafe(path=str(path), problem=problem) from None
