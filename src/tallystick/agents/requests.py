"""Requests: what a tool asks of the service, by one caller with one token."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx2
import msgspec

from tallystick.wire.problems import Problem

REQUEST_SECONDS = 30.0
"""How long the service may take to answer."""


class Refused(Exception):
    """The service answered with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class NoAnswer(Exception):
    """The service did not answer, so it is not known whether it did what it was asked."""


class Desk:
    """Where one caller asks. ``ledger`` is the one that is meant where none is named; the token may be none."""

    def __init__(self, http: httpx2.AsyncClient, token: str, ledger: str) -> None:
        self._http = http
        self._token = token
        self._ledger = ledger

    def path(self, ledger: str, rest: str) -> str:
        """The path of something in a ledger."""
        return f"/v1/ledgers/{quote(ledger or self._ledger, safe='')}/{rest}"

    def account(self, ledger: str, name: str, rest: str) -> str:
        """The path of something about an account."""
        return self.path(ledger, f"accounts/{quote(name, safe='')}/{rest}")

    def place(self, id: str, kind: str, rest: str = "") -> str:
        """The path of a hold or a transaction, whose id is ``<ledger>/<seq>``."""
        ledger, _, seq = id.partition("/")
        return self.path(ledger, f"{kind}/{seq}{rest}")

    async def get(self, path: str, **query: str) -> Any:
        """Raises Refused and NoAnswer."""
        return await self._ask("GET", path, params={name: value for name, value in query.items() if value})

    async def post(self, path: str, body: Any, key: str) -> Any:
        """Raises Refused and NoAnswer."""
        return await self._ask("POST", path, json=body, headers={"idempotency-key": key})

    async def _ask(self, method: str, path: str, *, headers: dict[str, str] | None = None, **more: Any) -> Any:
        given = dict(headers or {})
        if self._token:
            given["authorization"] = f"Bearer {self._token}"
        try:
            answer = await self._http.request(method, path, headers=given, **more)
        except (httpx2.TransportError, OSError) as error:
            raise NoAnswer(type(error).__name__) from error
        if answer.is_success:
            try:
                return msgspec.json.decode(answer.content)
            except msgspec.DecodeError:
                raise NoAnswer("an answer that is no JSON") from None
        raise Refused(_problem(answer))


def _problem(answer: httpx2.Response) -> Problem:
    """The problem document; of an answer that has none (a proxy's, say) what can be said of it."""
    try:
        return msgspec.json.decode(answer.content, type=Problem)
    except (msgspec.DecodeError, msgspec.ValidationError):
        status = answer.status_code
        after = answer.headers.get("retry-after", "")
        return Problem(
            type="about:blank",
            title="Something else than the service answered",
            status=status,
            detail=f"the answer was an HTTP status {status} without an explanation",
            code=f"http_{status}",
            retryable=status in (408, 429, 502, 503, 504),
            retry_after_seconds=int(after) if after.isascii() and after.isdigit() and len(after) < 7 else 0,
        )
