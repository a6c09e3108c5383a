"""The operator's records in memory, for ``memory://`` and for tests: one lock, nothing durable.

It is written to be read beside the interface rather than to be fast. Records are kept as JSON, as the other stores keep
them, so that nobody can change one from outside.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tallystick.clock import Clock, add_seconds, system_clock
from tallystick.control.checking import (
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
    settlement,
)
from tallystick.control.records import ApiKey, Attempt, Delivery, Endpoint, JobRun, KeptReport, Lease
from tallystick.errors import Closed, InvalidInput, NotFound

WHERE = "memory"


class MemoryControl:
    """The operator's records as dictionaries; see Control for what each method does."""

    def __init__(self, clock: Clock = system_clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, str] = {}
        self._keys_version = 0
        self._endpoints: dict[str, str] = {}
        self._cursors: dict[str, int] = {}
        self._deliveries: dict[str, dict[int, Delivery]] = {}
        self._attempts: dict[str, dict[tuple[str, int, int], Attempt]] = {}
        self._leases: dict[str, Lease] = {}
        self._runs: dict[tuple[str, str, str], str] = {}
        self._reports: list[tuple[str, str, bool, str]] = []
        self._secrets: dict[str, bytes] = {}
        self._closed = False

    # ------------------------------------------------------------ keys

    def add_key(self, key: ApiKey) -> None:
        check_name(key.id, "id")
        check_name(key.subject, "subject")
        body = encode(key, "key")
        with self._open():
            if key.id in self._keys:
                raise InvalidInput(path="id", problem=f"there is a key {key.id} already")
            self._keys[key.id] = body
            self._keys_version += 1

    def key(self, id: str) -> ApiKey | None:
        with self._open():
            body = self._keys.get(id)
            return None if body is None else decode(body, ApiKey, WHERE)

    def keys(self, *, subject: str = "", after: str = "", limit: int = 1_000) -> list[ApiKey]:
        check_name(subject, "subject", empty=True)
        check_name(after, "after", empty=True)
        check_limit(limit)
        with self._open():
            found = (decode(body, ApiKey, WHERE) for id, body in sorted(self._keys.items()) if id > after)
            return [key for key in found if subject in ("", key.subject)][:limit]

    def replace_key(self, key: ApiKey) -> None:
        check_name(key.id, "id")
        check_name(key.subject, "subject")
        body = encode(key, "key")
        with self._open():
            if key.id not in self._keys:
                raise InvalidInput(path="id", problem=f"there is no key {key.id}")
            self._keys[key.id] = body
            self._keys_version += 1

    def keys_version(self) -> int:
        with self._open():
            return self._keys_version

    # ------------------------------------------------------------ endpoints and deliveries

    def add_endpoint(self, endpoint: Endpoint) -> None:
        check_name(endpoint.id, "id")
        check_name(endpoint.ledger, "ledger")
        check_number(endpoint.start, "start")
        body = encode(endpoint, "endpoint")
        with self._open():
            if endpoint.id in self._endpoints:
                raise InvalidInput(path="id", problem=f"there is an endpoint {endpoint.id} already")
            self._endpoints[endpoint.id] = body
            self._cursors[endpoint.id] = endpoint.start
            self._deliveries[endpoint.id] = {}

    def endpoint(self, id: str) -> Endpoint | None:
        with self._open():
            body = self._endpoints.get(id)
            return None if body is None else decode(body, Endpoint, WHERE)

    def endpoints(self, *, ledger: str = "", after: str = "", limit: int = 1_000) -> list[Endpoint]:
        check_name(ledger, "ledger", empty=True)
        check_name(after, "after", empty=True)
        check_limit(limit)
        with self._open():
            found = (decode(body, Endpoint, WHERE) for id, body in sorted(self._endpoints.items()) if id > after)
            return [endpoint for endpoint in found if ledger in ("", endpoint.ledger)][:limit]

    def replace_endpoint(self, endpoint: Endpoint) -> None:
        check_name(endpoint.id, "id")
        check_name(endpoint.ledger, "ledger")
        check_number(endpoint.start, "start")
        body = encode(endpoint, "endpoint")
        with self._open():
            if endpoint.id not in self._endpoints:
                raise InvalidInput(path="id", problem=f"there is no endpoint {endpoint.id}")
            self._endpoints[endpoint.id] = body

    def remove_endpoint(self, id: str) -> None:
        check_name(id, "id")
        with self._open():
            self._endpoints.pop(id, None)
            self._cursors.pop(id, None)
            self._deliveries.pop(id, None)

    def cursor(self, endpoint: str) -> int:
        check_name(endpoint, "endpoint")
        with self._open():
            if endpoint not in self._cursors:
                raise NotFound(what=f"endpoint {endpoint}")
            return self._cursors[endpoint]

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
        with self._open():
            if endpoint not in self._cursors or not (lease is None or self._holds(lease)):
                return False
            if taken.cursor is not None:
                self._cursors[endpoint] = taken.cursor
            waiting = self._deliveries[endpoint]
            for seq in taken.accepted:
                waiting.pop(seq, None)
            waiting.update((delivery.seq, delivery) for delivery in taken.deliveries)
            log = self._attempts.setdefault(endpoint, {})
            for attempt in taken.attempts:
                log.setdefault((attempt.time, attempt.seq, attempt.number), attempt)
            return True

    def deliveries(self, endpoint: str, *, state: str = "", after: int = -1, limit: int = 1_000) -> list[Delivery]:
        check_name(endpoint, "endpoint")
        check_state(state)
        check_number(after, "after", least=-1)
        check_limit(limit)
        with self._open():
            waiting = sorted(self._deliveries.get(endpoint, {}).items())
            return [found for seq, found in waiting if seq > after and state in ("", found.state)][:limit]

    def attempts(self, endpoint: str, *, seq: int | None = None, before: str = "", limit: int = 1_000) -> list[Attempt]:
        check_name(endpoint, "endpoint")
        if seq is not None:
            check_number(seq, "seq")
        before = before_time(before)
        check_limit(limit)
        with self._open():
            log = sorted(self._attempts.get(endpoint, {}).items(), reverse=True)
            found = [attempt for _, attempt in log if seq in (None, attempt.seq)]
            return [attempt for attempt in found if not before or attempt.time < before][:limit]

    def prune_attempts(self, before: str) -> int:
        check_time(before, "before")
        with self._open():
            count = 0
            for log in self._attempts.values():
                old = [place for place in log if place[0] < before]
                count += len(old)
                for place in old:
                    del log[place]
            return count

    # ------------------------------------------------------------ leases and jobs

    def acquire(self, name: str, holder: str, seconds: float) -> Lease | None:
        check_name(name, "name")
        check_name(holder, "holder")
        check_seconds(seconds)
        with self._open():
            now = self._clock()
            found = self._leases.get(name, Lease(name, "", "", 0))
            token = found.token
            if not (found.holder and now < found.until):
                token += 1
            elif found.holder != holder:
                return None
            self._leases[name] = Lease(name, holder, add_seconds(now, seconds), token)
            return self._leases[name]

    def _holds(self, lease: Lease) -> bool:
        found = self._leases.get(lease.name)
        same = found is not None and (found.holder, found.token) == (lease.holder, lease.token)
        return same and found is not None and self._clock() < found.until

    def release(self, lease: Lease) -> None:
        check_lease(lease)
        with self._open():
            found = self._leases.get(lease.name)
            if found is not None and (found.holder, found.token) == (lease.holder, lease.token):
                self._leases[lease.name] = Lease(lease.name, "", self._clock(), lease.token)

    def leases(self) -> list[Lease]:
        with self._open():
            return sorted(self._leases.values(), key=lambda lease: lease.name)

    def keep_run(self, run: JobRun) -> None:
        check_name(run.job, "job")
        check_name(run.ledger, "ledger", empty=True)
        check_time(run.started, "started")
        body = encode(run, "run")
        with self._open():
            self._runs[run.started, run.job, run.ledger] = body

    def runs(self, *, job: str = "", ledger: str = "", limit: int = 100) -> list[JobRun]:
        check_name(job, "job", empty=True)
        check_name(ledger, "ledger", empty=True)
        check_limit(limit)
        with self._open():
            places = sorted(self._runs, reverse=True)
            found = [place for place in places if job in ("", place[1]) and ledger in ("", place[2])]
            return [decode(self._runs[place], JobRun, WHERE) for place in found[:limit]]

    def last_runs(self) -> list[JobRun]:
        with self._open():
            return [decode(self._runs[place], JobRun, WHERE) for place in self._newest()]

    def _newest(self) -> list[tuple[str, str, str]]:
        newest = {(job, ledger): started for started, job, ledger in sorted(self._runs)}
        return [(started, job, ledger) for (job, ledger), started in sorted(newest.items())]

    def prune_runs(self, before: str) -> int:
        check_time(before, "before")
        with self._open():
            newest = set(self._newest())
            old = [place for place in self._runs if place[0] < before and place not in newest]
            for place in old:
                del self._runs[place]
            return len(old)

    def keep_report(self, ledger: str, time: str, ok: bool, body: dict[str, object]) -> int:
        check_name(ledger, "ledger")
        check_time(time, "time")
        text = encode(body, "body")
        with self._open():
            self._reports.append((ledger, time, bool(ok), text))
            return len(self._reports)

    def reports(self, *, ledger: str = "", before: int = 0, limit: int = 100) -> list[KeptReport]:
        check_name(ledger, "ledger", empty=True)
        check_number(before, "before")
        check_limit(limit)
        with self._open():
            ids = range(min(before - 1, len(self._reports)) if before else len(self._reports), 0, -1)
            found = [id for id in ids if ledger in ("", self._reports[id - 1][0])]
            return [self._report(id) for id in found[:limit]]

    def report(self, id: int) -> KeptReport | None:
        check_number(id, "id")
        with self._open():
            return self._report(id) if 0 < id <= len(self._reports) else None

    def _report(self, id: int) -> KeptReport:
        ledger, time, ok, body = self._reports[id - 1]
        return KeptReport(id=id, ledger=ledger, time=time, ok=ok, body=decode(body, dict, WHERE))

    # ------------------------------------------------------------ the rest

    def secret(self, name: str) -> bytes:
        check_name(name, "name")
        with self._open():
            return self._secrets.setdefault(name, secrets.token_bytes(32))

    def close(self) -> None:
        self._closed = True

    @contextmanager
    def _open(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise Closed()
            yield
