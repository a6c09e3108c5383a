"""A small log service: the other side of ``log_service``, to be run by somebody who does not run the ledger.

It takes event hashes in their order and nothing else: what leaves something out is refused and kept as an alarm with
the exact gap, what contradicts what is there is refused and kept as an alarm with the hash that was offered. A daily
root is taken if it is the root over the hashes that are here, which the service computes: half a microsecond for each.

Beside the wire of ``log_service``, for whoever watches:

    GET /entries/<log_id>   {"hashes": [...]}, the last 1,000
    GET /roots/<log_id>     {"roots": [{"date", "size", "root"}...]}, the newest first
    GET /alarms/<log_id>    {"alarms": [{"kind", "first", "last", "offered", "time", "open", "repair"}...]}, likewise

Reading is open to everybody, who learns hashes and numbers; writing needs the token, if there is one. It does not look
at the signatures of checkpoints, for it knows no keys. It is a reference and a help for tests: plain HTTP, one file.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from tallystick.errors import InvalidInput, NoteInvalid
from tallystick.evidence.http_server import (
    MAX_CONNECTIONS,
    REQUEST_SECONDS,
    Answer,
    BoundedServer,
    Refused,
    Request,
    check_token,
    require_token,
)
from tallystick.evidence.log_service_client import DailyRoot, Forked, OutOfOrder, RootTaken, Standing
from tallystick.evidence.log_service_records import GAP, Alarm, LogServiceRecords
from tallystick.evidence.log_service_wire import (
    JSON_TYPE,
    MAX_HASHES,
    check_date,
    check_log_id,
    check_size,
    decode_hash,
)
from tallystick.evidence.places import batches
from tallystick.journal.checkpoints import read_checkpoint
from tallystick.journal.notes import MAX_SIZE
from tallystick.journal.tiles import Growth

MAX_LISTED = 1_000
_SURROGATE = re.compile("[\ud800-\udfff]")
_logger = logging.getLogger("tallystick.log_service")


class LogService:
    """Decides what is taken. ``now`` gives POSIX seconds, for alarms."""

    def __init__(self, records: LogServiceRecords, now: Callable[[], float] = time.time) -> None:
        self._records = records
        self._now = now

    def insert(self, body: bytes) -> Answer:
        """The answer to hashes. Raises Refused for what is malformed, Unavailable."""
        fields = _read_fields(body, {"log_id", "first", "prev", "hashes"})
        with _Malformed():
            log_id, first = check_log_id(fields["log_id"]), check_size(fields["first"])
            prev = decode_hash(fields["prev"], empty=first == 0)
            if first == 0 and prev:
                raise InvalidInput(path="prev", problem="there is none before the first")
            hashes = fields["hashes"]
            if not isinstance(hashes, list) or not 1 <= len(hashes) <= MAX_HASHES or first > MAX_SIZE - len(hashes):
                raise InvalidInput(path="hashes", problem=f"not a list of 1 to {MAX_HASHES} hashes")
            found = [decode_hash(item) for item in hashes]
        outcome = self._records.insert(log_id, first, prev, found, int(self._now()))
        if isinstance(outcome, Forked):
            return self._forked(log_id, outcome)
        if isinstance(outcome, OutOfOrder):
            return self._out_of_order(log_id, outcome)
        return _answer(200, _say(outcome.standing))

    def insert_root(self, body: bytes) -> Answer:
        """The answer to a daily root. Raises Refused for what is malformed, Unavailable."""
        log_id, root, note = _read_root(body)
        over = self._root_over(log_id, root.size) if root.size <= self._records.standing(log_id).size else None
        outcome = self._records.insert_root(log_id, root, note, int(self._now()), over=over)
        if isinstance(outcome, Forked):
            return self._forked(log_id, outcome)
        if isinstance(outcome, OutOfOrder):
            return self._out_of_order(log_id, outcome)
        if isinstance(outcome, RootTaken):
            return _answer(409, {"problem": "taken", **_say_root(outcome.root)})
        return _answer(200, _say_root(root))

    def read(self, kind: str, log_id: str) -> Answer:
        """The answer to a reader. Raises Refused, Unavailable."""
        with _Malformed(404):
            check_log_id(log_id)
        if kind == "logs":
            return _answer(200, _say(self._records.standing(log_id)))
        if kind == "entries":
            first = max(self._records.standing(log_id).size - MAX_LISTED, 0)
            return _answer(200, {"hashes": [item.hex() for item in self._records.hashes(log_id, first, MAX_LISTED)]})
        if kind == "roots":
            return _answer(200, {"roots": [_say_root(root) for root in self._records.roots(log_id, MAX_LISTED)]})
        if kind == "alarms":
            return _answer(200, {"alarms": [_say_alarm(alarm) for alarm in self._records.alarms(log_id, MAX_LISTED)]})
        raise Refused(404, "not found")

    def _root_over(self, log_id: str, size: int) -> bytes:
        """The root over the first hashes, which are there and never change."""
        growth = Growth()
        for leaves in batches(self._records.leaves(log_id, size), 65_536):
            growth.extend(leaves)
            growth.take()  # which would else be kept
        return growth.root()

    def _forked(self, log_id: str, outcome: Forked) -> Answer:
        _logger.error("%s: entry %d was contradicted", log_id, outcome.index)
        said = _say(self._records.standing(log_id))
        return _answer(409, {"problem": "fork", "index": outcome.index, **said})

    def _out_of_order(self, log_id: str, outcome: OutOfOrder) -> Answer:
        _logger.error("%s: what follows entry %d was left out", log_id, outcome.standing.size - 1)
        return _answer(409, {"problem": "out_of_order", **_say(outcome.standing)})


class LogServer(BoundedServer):
    """The service on a port. With a ``token``, only who bears it may write.

    Raises InvalidInput for a token that is none, Unavailable if the port cannot be had.
    """

    name = "tallystick-log-service"
    logger = _logger
    when_unavailable = "the record could not be kept or read; nothing was taken"
    when_at_fault = "a fault of the service"

    def __init__(
        self,
        service: LogService,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        token: str = "",
        most_connections: int = MAX_CONNECTIONS,
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        self.service = service
        self._token = check_token(token) if token else ""
        super().__init__(host, port, most_connections=most_connections, request_seconds=request_seconds)

    def answer(self, request: Request) -> Answer:
        if request.method != "POST":
            kind, _, log_id = request.path.removeprefix("/").partition("/")
            return self.service.read(kind, log_id)
        if request.path not in ("/entries", "/roots"):
            raise Refused(404, "not found")
        if self._token:
            require_token(request, self._token)
        body = request.read_body()
        return self.service.insert(body) if request.path == "/entries" else self.service.insert_root(body)


# ---------------------------------------------------------------- reading


class _Malformed:
    """Turns what is wrong with a request into the refusal of it."""

    def __init__(self, status: int = 400) -> None:
        self._status = status

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InvalidInput | NoteInvalid):
            raise Refused(self._status, str(error)) from None


def _read_fields(body: bytes, names: set[str]) -> dict[str, Any]:
    try:
        fields = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON") from None
    if not isinstance(fields, dict) or fields.keys() != names:
        raise Refused(400, f"the body has not exactly the fields {', '.join(sorted(names))}")
    return fields


def _read_root(body: bytes) -> tuple[str, DailyRoot, bytes]:
    fields = _read_fields(body, {"log_id", "date", "size", "root", "checkpoint"})
    with _Malformed():
        log_id = check_log_id(fields["log_id"])
        root = DailyRoot(check_date(fields["date"]), check_size(fields["size"]), decode_hash(fields["root"]))
        text = fields["checkpoint"]
        if not isinstance(text, str) or _SURROGATE.search(text):
            raise InvalidInput(path="checkpoint", problem="not a text")
        note = text.encode()
        checkpoint = read_checkpoint(note)
        if (checkpoint.size, checkpoint.root) != (root.size, root.root):
            raise InvalidInput(path="checkpoint", problem="it is of another size or root")
    return log_id, root, note


# ---------------------------------------------------------------- saying


def _answer(status: int, fields: Mapping[str, Any]) -> Answer:
    body = json.dumps(fields, separators=(",", ":")).encode() + b"\n"
    return Answer(status, body, JSON_TYPE, {"Cache-Control": "no-store"})


def _say(standing: Standing) -> dict[str, Any]:
    return {"size": standing.size, "last": standing.last.hex()}


def _say_root(root: DailyRoot) -> dict[str, Any]:
    return {"date": root.date, "size": root.size, "root": root.root.hex()}


def _say_alarm(alarm: Alarm) -> dict[str, Any]:
    repair = "do not go on: compare the ledger with this log at that entry, and find out who rewrote which"
    if alarm.kind == GAP:
        repair = f"deliver entries {alarm.first} to {alarm.last}" if alarm.open else "none: they came later"
    return {
        "kind": alarm.kind,
        "first": alarm.first,
        "last": alarm.last,
        "offered": alarm.offered.hex(),
        "time": alarm.time,
        "open": alarm.open,
        "repair": repair,
    }
