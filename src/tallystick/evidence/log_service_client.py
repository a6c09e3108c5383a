"""The client of a log service: one request, one answer, and nothing believed that does not make sense.

The wire is described in ``log_service``, which also decides what to send.
"""

from __future__ import annotations

import json
import ssl
from typing import Any

import msgspec

from tallystick.errors import InvalidInput, NotPermitted, Unavailable
from tallystick.evidence.http_server import check_token
from tallystick.evidence.log_service_wire import EMPTY, JSON_TYPE, check_date, check_log_id, check_size, decode_hash
from tallystick.evidence.outbound import Reply, exchange, parse_endpoint

MAX_ANSWER_BYTES = 65_536


class Standing(msgspec.Struct, frozen=True):
    """Where the service stands: how many hashes it has, and the newest (nothing if there is none)."""

    size: int
    last: bytes


class Inserted(msgspec.Struct, frozen=True):
    """The service has them."""

    standing: Standing


class OutOfOrder(msgspec.Struct, frozen=True):
    """The service does not have what comes before."""

    standing: Standing


class Forked(msgspec.Struct, frozen=True):
    """The service has another hash at ``index``."""

    index: int


class DailyRoot(msgspec.Struct, frozen=True):
    """The root of the tree over the first ``size`` events, delivered for a day."""

    date: str
    size: int
    root: bytes


class RootKept(msgspec.Struct, frozen=True):
    """The service has the root."""


class RootTaken(msgspec.Struct, frozen=True):
    """The service has this root, for that day or a later one or of more events, and takes no other."""

    root: DailyRoot


class LogServiceClient:
    """Talks to one log service. Raises InvalidInput for a URL or token that none can have.

    Its methods raise Unavailable if there is no answer in time or none that makes sense, NotPermitted if the token is
    not accepted.
    """

    def __init__(
        self, url: str, *, token: str = "", timeout_seconds: float = 10.0, trust: ssl.SSLContext | None = None
    ) -> None:
        if "?" in url:
            raise InvalidInput(path="url", problem=f"{url!r} is no prefix: it has a query")
        self.url = url.rstrip("/")
        parse_endpoint(self.url)
        self._headers = {"Accept": JSON_TYPE}
        if token:
            self._headers["Authorization"] = f"Bearer {check_token(token)}"
        self._timeout_seconds = timeout_seconds
        self._trust = trust

    def standing(self, log_id: str) -> Standing:
        """Where the service stands with this log; a log it does not know is empty."""
        reply = self._send("GET", f"/logs/{check_log_id(log_id)}", None)
        if reply.status != 200:
            raise self._strange(reply)
        return self._standing(self._fields(reply))

    def insert(self, log_id: str, first: int, prev: bytes, hashes: list[bytes]) -> Inserted | OutOfOrder | Forked:
        """Deliver these hashes, which are those from number ``first`` on, behind the hash ``prev``."""
        body = {"log_id": check_log_id(log_id), "first": first, "prev": prev.hex(), "hashes": [h.hex() for h in hashes]}
        reply = self._send("POST", "/entries", body)
        fields = self._fields(reply)
        if reply.status == 409:
            return self._refusal(fields, reply)
        standing = self._standing(fields)
        end = first + len(hashes)
        if reply.status != 200 or standing.size < end or (standing.size == end and standing.last != hashes[-1]):
            raise self._strange(reply)
        return Inserted(standing)

    def insert_root(self, log_id: str, root: DailyRoot, note: bytes) -> RootKept | RootTaken | OutOfOrder | Forked:
        """Deliver the root of a day with its checkpoint's ``note``."""
        body = {"log_id": check_log_id(log_id), "date": root.date, "size": root.size, "root": root.root.hex()}
        reply = self._send("POST", "/roots", {**body, "checkpoint": note.decode()})
        fields = self._fields(reply)
        if reply.status == 409 and fields.get("problem") == "taken":
            return RootTaken(self._root(fields, reply))
        if reply.status == 409:
            return self._refusal(fields, reply)
        if reply.status != 200 or self._root(fields, reply) != root:
            raise self._strange(reply)
        return RootKept()

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> Reply:
        headers = self._headers if body is None else {**self._headers, "Content-Type": JSON_TYPE}
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        reply = exchange(
            parse_endpoint(self.url + path),
            method,
            data,
            headers,
            timeout_seconds=self._timeout_seconds,
            most_bytes=MAX_ANSWER_BYTES,
            trust=self._trust,
        )
        if reply.status in (401, 403):
            raise NotPermitted(url=self.url, reason=f"it answered {reply.status} to the token")
        return reply

    def _fields(self, reply: Reply) -> dict[str, Any]:
        try:
            fields = json.loads(reply.body.decode())
        except (ValueError, RecursionError):
            raise self._strange(reply) from None
        if reply.status not in (200, 409) or not isinstance(fields, dict):
            raise self._strange(reply)
        return fields

    def _standing(self, fields: dict[str, Any]) -> Standing:
        try:
            size, last = check_size(fields.get("size")), decode_hash(fields.get("last"), empty=True)
            if (size == 0) != (last == EMPTY):
                raise InvalidInput(path="last", problem="only an empty log has no last hash")
        except InvalidInput as error:
            raise Unavailable(reason=f"{self.url}: its answer makes no sense: {error}") from None
        return Standing(size, last)

    def _root(self, fields: dict[str, Any], reply: Reply) -> DailyRoot:
        try:
            return DailyRoot(
                check_date(fields.get("date")), check_size(fields.get("size")), decode_hash(fields.get("root"))
            )
        except InvalidInput:
            raise self._strange(reply) from None

    def _refusal(self, fields: dict[str, Any], reply: Reply) -> OutOfOrder | Forked:
        if fields.get("problem") == "out_of_order":
            return OutOfOrder(self._standing(fields))
        try:
            if fields.get("problem") == "fork":
                return Forked(check_size(fields.get("index")))
        except InvalidInput:
            pass
        raise self._strange(reply)

    def _strange(self, reply: Reply) -> Unavailable:
        said = reply.body[:200].decode("ascii", "replace")
        said = "".join(sign if sign.isprintable() else " " for sign in said).strip()
        return Unavailable(reason=f"{self.url}: it answered {reply.status}: {said!r}")
