"""What a store of the operator's records must do. Every method is one commit, durable when it returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tallystick.control.records import ApiKey, Attempt, Delivery, Endpoint, JobRun, KeptReport, Lease


class Control(Protocol):
    """The operator's records; safe to use from any number of threads, and from any number of processes at once.

    Lists are answered in ascending order of id, at most ``limit`` (of at most 10,000), behind ``after``. Methods raise
    InvalidInput for what is beyond the limits of control/checking.py, LedgerCorrupt for what was damaged, Closed, and
    Unavailable when a retry can help; nobody knows then whether it was kept, and asking for the same again does no harm
    (but that ``add_key`` and ``add_endpoint`` may find their own, and ``keep_report`` may keep a second one).
    """

    # ------------------------------------------------------------ keys

    def add_key(self, key: ApiKey) -> None:
        """Keep a new key. Raises InvalidInput if there is one with its id."""

    def key(self, id: str) -> ApiKey | None:
        """The key with this id."""

    def keys(self, *, subject: str = "", after: str = "", limit: int = 1_000) -> list[ApiKey]:
        """All keys, or a subject's."""

    def replace_key(self, key: ApiKey) -> None:
        """Keep what has changed of a key. Raises InvalidInput if there is none with its id."""

    def keys_version(self) -> int:
        """Changes whenever a key was added or replaced, by whatever process: what caches of keys are judged by."""

    # ------------------------------------------------------------ endpoints and deliveries

    def add_endpoint(self, endpoint: Endpoint) -> None:
        """Keep a new endpoint, its cursor at ``start``. Raises InvalidInput if there is one with its id."""

    def endpoint(self, id: str) -> Endpoint | None:
        """The endpoint with this id."""

    def endpoints(self, *, ledger: str = "", after: str = "", limit: int = 1_000) -> list[Endpoint]:
        """All endpoints, or a ledger's."""

    def replace_endpoint(self, endpoint: Endpoint) -> None:
        """Keep what has changed of an endpoint. Raises InvalidInput if there is none with its id."""

    def remove_endpoint(self, id: str) -> None:
        """Forget an endpoint, its cursor and its deliveries; its log of attempts stays. Removing twice is no error."""

    def cursor(self, endpoint: str) -> int:
        """The number of the first event that the endpoint's deliverer has not taken up yet. Raises NotFound if there is
        no such endpoint."""

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
        """Keep in one commit how far an endpoint has come: its new cursor (None: as it was), the numbers of deliveries
        that were accepted and are forgotten, those that are new or have changed, and the tries for the log. Of what is
        both accepted and changed the change counts. Settling the same again changes nothing. Of a problem the first
        1,000 characters are kept.

        With a lease: only if it has not run out and is still held by the same holder with the same token. False if it
        is not, or if there is no such endpoint (any more), and then nothing was kept.
        """

    def deliveries(self, endpoint: str, *, state: str = "", after: int = -1, limit: int = 1_000) -> list[Delivery]:
        """What an endpoint has not accepted, by sequence number, or what of it is in one state."""

    def attempts(self, endpoint: str, *, seq: int | None = None, before: str = "", limit: int = 1_000) -> list[Attempt]:
        """The log of tries, newest first, made before a time (empty: all), or those of one event."""

    def prune_attempts(self, before: str) -> int:
        """Forget tries older than a time; how many there were. It takes several commits, so that nobody waits long."""

    # ------------------------------------------------------------ leases and jobs

    def acquire(self, name: str, holder: str, seconds: float) -> Lease | None:
        """The lease, if it is free, has run out, or is held by ``holder`` already (then it is renewed, with the same
        token; once it has run out it is taken anew, with the next one); None while another holds it. Time is the
        database's where it has one, so that clocks need not agree. At most a day."""

    def release(self, lease: Lease) -> None:
        """Let go of a lease, if it is still this one: it then has no holder."""

    def leases(self) -> list[Lease]:
        """All leases that anybody ever held, as they stand."""

    def keep_run(self, run: JobRun) -> None:
        """Keep a run of a job, in place of the one of the same (job, ledger, started)."""

    def runs(self, *, job: str = "", ledger: str = "", limit: int = 100) -> list[JobRun]:
        """Runs, newest first."""

    def last_runs(self) -> list[JobRun]:
        """The newest run of each (job, ledger)."""

    def prune_runs(self, before: str) -> int:
        """Forget runs that began before a time, but the newest of each (job, ledger); how many there were."""

    def keep_report(self, ledger: str, time: str, ok: bool, body: dict[str, object]) -> int:
        """Keep a report; its id."""

    def reports(self, *, ledger: str = "", before: int = 0, limit: int = 100) -> list[KeptReport]:
        """Reports, newest first, with an id below ``before`` (0: from the newest on)."""

    def report(self, id: int) -> KeptReport | None:
        """One report."""

    # ------------------------------------------------------------ the rest

    def secret(self, name: str) -> bytes:
        """32 random bytes that were made when this name was first asked for, the same for every process ever after."""

    def close(self) -> None:
        """Let go of everything. Closing twice is no error."""
