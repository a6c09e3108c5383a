"""A ledger's event hashes, and a log service on a port, for the tests of delivery."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from tallystick.evidence.log_service import CursorFile, LogDelivery, LogServiceClient
from tallystick.evidence.log_service_records import LogServiceRecords
from tallystick.evidence.log_service_server import LogServer, LogService
from tallystick.journal.checkpoints import Checkpoint, sign_checkpoint
from tallystick.journal.merkle import root_of
from tests.evidence.witness_support import LOG_KEY, ORIGIN

TOKEN = "a-token-for-tests-0123456789"
PATIENCE_SECONDS = 20.0


def leaf(number: int, salt: str = "") -> bytes:
    return hashlib.sha256(f"{number} {salt}".encode()).digest()


class Source:
    """Event hashes; from ``fork_at`` on they are others; those before ``begin`` cannot be had."""

    def __init__(self, size: int, fork_at: int | None = None, begin: int = 0) -> None:
        self.head_seq = size
        self.fork_at = fork_at
        self.begin = begin

    def leaves(self, first: int, limit: int) -> list[bytes]:
        if first < self.begin:
            return []
        return self.all()[first : first + limit]

    def all(self) -> list[bytes]:
        fork = self.fork_at
        return [leaf(n, "" if fork is None or n < fork else "!") for n in range(self.head_seq)]

    def note(self, size: int) -> bytes:
        return sign_checkpoint(Checkpoint(ORIGIN, size, root_of(self.all()[:size])), LOG_KEY)


@contextmanager
def serving(file: Path, token: str = TOKEN) -> Iterator[tuple[LogServer, LogServiceRecords]]:
    records = LogServiceRecords(file)
    server = LogServer(LogService(records, now=lambda: 1_795_000_000.0), token=token)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server, records
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        records.close()


def client_of(url: str, token: str = TOKEN) -> LogServiceClient:
    return LogServiceClient(url, token=token, timeout_seconds=PATIENCE_SECONDS)


def delivery_of(source: Source, url: str, state: Path, *, batch: int = 100) -> LogDelivery:
    return LogDelivery(source, client_of(url), CursorFile(state), log_id=ORIGIN, batch=batch)
