"""The operator's records in tables, whatever database they are in: what SQLite and PostgreSQL have in common.

Both have the same tables, and statements of the same names that take the same values. What differs is how a statement
is run and committed, how much is settled in one statement, and whose clock says when a lease ends.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from tallystick.control.checking import (
    MAX_NUMBER,
    PRUNED_AT_ONCE,
    Settlement,
    before_time,
    check_lease,
    check_limit,
    check_name,
    check_number,
    check_seconds,
    check_state,
    check_time,
    decode,
    encode,
    is_name,
    settlement,
)
from tallystick.control.records import ApiKey, Attempt, Delivery, Endpoint, JobRun, KeptReport, Lease
from tallystick.errors import InvalidInput, LedgerCorrupt, NotFound

Answer = TypeVar("Answer")
Record = TypeVar("Record")
Row = tuple[Any, ...]

LATEST = "~"
"""Behind every journal time."""


class Session(Protocol):
    """One commit in the making."""

    def rows(self, query: str, **values: Any) -> list[Row]:
        """Run a statement; the rows that it answers."""

    def count(self, query: str, **values: Any) -> int:
        """Run a statement; how many rows it changed."""


class Tables(ABC):
    """The records in a database; see Control for what each method does."""

    name: str
    """Where the records are, for people."""

    # ------------------------------------------------------------ what each database does in its own way

    @abstractmethod
    def _rows(self, query: str, **values: Any) -> list[Row]:
        """What a single statement reads."""

    @abstractmethod
    def _commit(self, work: Callable[[Session], Answer], *, single: bool = False) -> Answer:
        """Do some work in one commit; ``single``: it is one statement. It may be done more than once, if the database
        says that it must be."""

    @abstractmethod
    def _moment(self, seconds: float = 0.0) -> dict[str, Any]:
        """What statements about leases take for the time now, and for the time so many seconds from now."""

    @abstractmethod
    def _settle(self, endpoint: str, taken: Settlement, lease: Lease | None) -> bool:
        """Keep what is settled, unless there is no such endpoint or the lease is not held."""

    # ------------------------------------------------------------ keys

    def add_key(self, key: ApiKey) -> None:
        if not self._change_key("add_key", key):
            raise InvalidInput(path="id", problem=f"there is a key {key.id} already")

    def replace_key(self, key: ApiKey) -> None:
        if not self._change_key("replace_key", key):
            raise InvalidInput(path="id", problem=f"there is no key {key.id}")

    def _change_key(self, query: str, key: ApiKey) -> bool:
        check_name(key.id, "id")
        check_name(key.subject, "subject")
        body = encode(key, "key")

        def change(session: Session) -> bool:
            changed = session.rows(query, id=key.id, subject=key.subject, body=body)
            return bool(changed and session.rows("count_key_change"))

        return self._commit(change)

    def key(self, id: str) -> ApiKey | None:
        rows = self._rows("key", id=id) if is_name(id) else []
        return self._record(rows, ApiKey)

    def keys(self, *, subject: str = "", after: str = "", limit: int = 1_000) -> list[ApiKey]:
        check_name(subject, "subject", empty=True)
        check_name(after, "after", empty=True)
        check_limit(limit)
        if subject:
            return self._records(self._rows("keys_of_subject", subject=subject, after=after, limit=limit), ApiKey)
        return self._records(self._rows("keys", after=after, limit=limit), ApiKey)

    def keys_version(self) -> int:
        rows = self._rows("keys_version")
        if len(rows) != 1:
            raise LedgerCorrupt(where=self.name, problem="the count of changes of keys is lost")
        return int(rows[0][0])

    # ------------------------------------------------------------ endpoints and deliveries

    def add_endpoint(self, endpoint: Endpoint) -> None:
        values = _endpoint_values(endpoint)

        def add(session: Session) -> bool:
            added = session.rows("add_endpoint", **values)
            return bool(added and session.rows("add_progress", id=endpoint.id, start=endpoint.start))

        if not self._commit(add):
            raise InvalidInput(path="id", problem=f"there is an endpoint {endpoint.id} already")

    def replace_endpoint(self, endpoint: Endpoint) -> None:
        values = _endpoint_values(endpoint)
        if not self._commit(lambda session: session.rows("replace_endpoint", **values), single=True):
            raise InvalidInput(path="id", problem=f"there is no endpoint {endpoint.id}")

    def remove_endpoint(self, id: str) -> None:
        check_name(id, "id")

        def remove(session: Session) -> None:
            for query in ("remove_progress", "remove_deliveries", "remove_endpoint"):
                session.count(query, id=id)

        self._commit(remove)

    def endpoint(self, id: str) -> Endpoint | None:
        rows = self._rows("endpoint", id=id) if is_name(id) else []
        return self._record(rows, Endpoint)

    def endpoints(self, *, ledger: str = "", after: str = "", limit: int = 1_000) -> list[Endpoint]:
        check_name(ledger, "ledger", empty=True)
        check_name(after, "after", empty=True)
        check_limit(limit)
        if ledger:
            return self._records(self._rows("endpoints_of_ledger", ledger=ledger, after=after, limit=limit), Endpoint)
        return self._records(self._rows("endpoints", after=after, limit=limit), Endpoint)

    def cursor(self, endpoint: str) -> int:
        check_name(endpoint, "endpoint")
        for (cursor,) in self._rows("cursor", endpoint=endpoint):
            return int(cursor)
        raise NotFound(what=f"endpoint {endpoint}")

    def settle(
        self,
        endpoint: str,
        *,
        cursor: int | None = None,
        accepted: Sequence[int] = (),
        deliveries: Sequence[Delivery] = (),
        attempts: Sequence[Attempt] = (),
        lease: Lease | None = None,
    ) -> bool:
        taken = settlement(endpoint, cursor, accepted, deliveries, attempts)
        if lease is not None:
            check_lease(lease)
        return self._settle(endpoint, taken, lease)

    def deliveries(self, endpoint: str, *, state: str = "", after: int = -1, limit: int = 1_000) -> list[Delivery]:
        check_name(endpoint, "endpoint")
        check_state(state)
        check_number(after, "after", least=-1)
        check_limit(limit)
        if state:
            rows = self._rows("deliveries_in_state", endpoint=endpoint, after=after, limit=limit, state=state)
        else:
            rows = self._rows("deliveries", endpoint=endpoint, after=after, limit=limit)
        return [self._delivery(row) for row in rows]

    def _delivery(self, row: Row) -> Delivery:
        endpoint, seq, state, attempts, due, problem, lanes, redelivery = row
        return Delivery(
            endpoint=endpoint,
            seq=seq,
            state=state,
            attempts=attempts,
            due=due,
            problem=problem,
            lanes=decode(lanes, tuple[str, ...], self.name) if lanes != "[]" else (),
            redelivery=bool(redelivery),
        )

    def attempts(self, endpoint: str, *, seq: int | None = None, before: str = "", limit: int = 1_000) -> list[Attempt]:
        check_name(endpoint, "endpoint")
        before = before_time(before) or LATEST
        check_limit(limit)
        if seq is None:
            rows = self._rows("attempts", endpoint=endpoint, before=before, limit=limit)
        else:
            check_number(seq, "seq")
            rows = self._rows("attempts_of_event", endpoint=endpoint, seq=seq, before=before, limit=limit)
        return [_attempt(row) for row in rows]

    def prune_attempts(self, before: str) -> int:
        check_time(before, "before")
        count = 0
        for (endpoint,) in self._rows("endpoints_tried"):
            while pruned := self._prune_attempts(endpoint, before):
                count += pruned
        return count

    def _prune_attempts(self, endpoint: str, before: str) -> int:
        values = {"endpoint": endpoint, "before": before, "count": PRUNED_AT_ONCE - 1}
        return self._commit(lambda session: session.count("prune_attempts", **values), single=True)

    # ------------------------------------------------------------ leases and jobs

    def acquire(self, name: str, holder: str, seconds: float) -> Lease | None:
        check_name(name, "name")
        check_name(holder, "holder")
        check_seconds(seconds)
        if self._rows("held_by_another", name=name, holder=holder, **self._moment()):
            return None  # seen without a lock: whoever only waits for it keeps nobody from working

        def take(session: Session) -> list[Row]:
            return session.rows("acquire", name=name, holder=holder, **self._moment(seconds))

        rows = self._commit(take, single=True)
        return Lease(*rows[0]) if rows else None

    def release(self, lease: Lease) -> None:
        check_lease(lease)

        def let_go(session: Session) -> int:
            values = {"name": lease.name, "holder": lease.holder, "token": lease.token}
            return session.count("release", **values, **self._moment())

        self._commit(let_go, single=True)

    def leases(self) -> list[Lease]:
        return [Lease(*row) for row in self._rows("leases")]

    def keep_run(self, run: JobRun) -> None:
        check_name(run.job, "job")
        check_name(run.ledger, "ledger", empty=True)
        check_time(run.started, "started")
        values = {"job": run.job, "ledger": run.ledger, "started": run.started, "body": encode(run, "run")}
        self._commit(lambda session: session.rows("keep_run", **values), single=True)

    def runs(self, *, job: str = "", ledger: str = "", limit: int = 100) -> list[JobRun]:
        check_name(job, "job", empty=True)
        check_name(ledger, "ledger", empty=True)
        check_limit(limit)
        query = "runs_of_one" if job and ledger else "runs"
        return self._records(self._rows(query, job=job, ledger=ledger, limit=limit), JobRun)

    def last_runs(self) -> list[JobRun]:
        return self._records(self._rows("last_runs"), JobRun)

    def prune_runs(self, before: str) -> int:
        check_time(before, "before")
        return self._commit(lambda session: session.count("prune_runs", before=before), single=True)

    def keep_report(self, ledger: str, time: str, ok: bool, body: dict[str, object]) -> int:
        check_name(ledger, "ledger")
        check_time(time, "time")
        values = {"ledger": ledger, "time": time, "ok": bool(ok), "body": encode(body, "body")}
        rows = self._commit(lambda session: session.rows("keep_report", **values), single=True)
        return int(rows[0][0])

    def reports(self, *, ledger: str = "", before: int = 0, limit: int = 100) -> list[KeptReport]:
        check_name(ledger, "ledger", empty=True)
        check_number(before, "before")
        check_limit(limit)
        before = before or MAX_NUMBER
        if ledger:
            rows = self._rows("reports_of_ledger", ledger=ledger, before=before, limit=limit)
        else:
            rows = self._rows("reports", before=before, limit=limit)
        return [self._report(row) for row in rows]

    def report(self, id: int) -> KeptReport | None:
        check_number(id, "id")
        for row in self._rows("report", id=id):
            return self._report(row)
        return None

    def _report(self, row: Row) -> KeptReport:
        id, ledger, time, ok, body = row
        return KeptReport(id=id, ledger=ledger, time=time, ok=bool(ok), body=decode(body, dict[str, Any], self.name))

    # ------------------------------------------------------------ the rest

    def secret(self, name: str) -> bytes:
        check_name(name, "name")
        if rows := self._rows("secret", name=name):
            return bytes(rows[0][0])

        def make(session: Session) -> list[Row]:
            session.count("make_secret", name=name, value=secrets.token_bytes(32))
            return session.rows("secret", name=name)  # another process's, if it was first

        return bytes(self._commit(make)[0][0])

    # ------------------------------------------------------------ helpers

    def _record(self, rows: Iterable[Row], kind: type[Record]) -> Record | None:
        for (body,) in rows:
            return decode(body, kind, self.name)
        return None

    def _records(self, rows: Iterable[Row], kind: type[Record]) -> list[Record]:
        return [decode(body, kind, self.name) for (body,) in rows]


def _endpoint_values(endpoint: Endpoint) -> dict[str, str]:
    check_name(endpoint.id, "id")
    check_name(endpoint.ledger, "ledger")
    check_number(endpoint.start, "start")
    return {"id": endpoint.id, "ledger": endpoint.ledger, "body": encode(endpoint, "endpoint")}


def _attempt(row: Row) -> Attempt:
    endpoint, seq, number, time, status, problem, milliseconds = row
    return Attempt(
        endpoint=endpoint,
        seq=seq,
        number=number,
        time=time,
        status=status,
        problem=problem,
        milliseconds=milliseconds,
    )
