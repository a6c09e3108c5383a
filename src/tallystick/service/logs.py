"""The logs of a service's ledgers, for receipts and proofs: opened once each, and never to sign.

The homes of the logs lie in one folder, each under its ledger's name, where the job that signs checkpoints has them
too. What is read here is the name and the verifier keys alone: a process that answers requests holds no secret key of
a log, and a home whose key is with KMS asks nobody for it.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from tallystick.errors import LogNotFound, NotFound, ReadOnly
from tallystick.evidence.directory import DirectoryPublication
from tallystick.evidence.home import LogHome
from tallystick.evidence.log import Log
from tallystick.jobs.checkpoints import homes_in
from tallystick.journal.checkpoints import read_checkpoint
from tallystick.journal.notes import VerifierKey
from tallystick.ledger import Ledger

if TYPE_CHECKING:
    from tallystick.service.application import Service


class _Reader:
    """Stands where a log has its signer, and signs nothing."""

    def __init__(self, verifier: VerifierKey) -> None:
        self.verifier = verifier

    def sign(self, message: bytes) -> bytes:
        """Raises ReadOnly."""
        raise ReadOnly()


class Logs:
    """The logs of one service that are open. Safe for threads."""

    def __init__(self, folder: str) -> None:
        self._home_of = homes_in(Path(folder)) if folder else None
        self._lock = threading.Lock()
        self._open: dict[str, Log] = {}

    def log(self, ledger: Ledger) -> Log:
        """The log of a ledger. Raises LogNotFound, Unavailable."""
        with self._lock:
            found = self._open.get(ledger.name)
            if found is None:
                found = self._open[ledger.name] = self._opened(ledger)
            return found

    def _opened(self, ledger: Ledger) -> Log:
        folder = self._home_of(ledger.name) if self._home_of is not None else None
        if folder is None:
            raise LogNotFound(path="")
        origin = LogHome(folder).settings.origin
        files = DirectoryPublication(folder)
        lines = (files.read("keys") or b"").decode(errors="replace").splitlines()
        own = [key for key in map(VerifierKey.parse, lines) if key.name == origin]
        if not own:
            raise LogNotFound(path=str(folder))  # it was begun, and not to its end
        return Log(ledger, _Reader(own[-1]), files)


_logs: WeakKeyDictionary[Service, Logs] = WeakKeyDictionary()
_making = threading.Lock()


def log_of(service: Service, ledger: Ledger) -> Log:
    """The log of a ledger. Raises LogNotFound, Unavailable."""
    with _making:
        found = _logs.get(service)
        if found is None:
            found = _logs[service] = Logs(service.settings.log_home)
    return found.log(ledger)


def public_log(service: Service, name: str) -> Log:
    """The log of a ledger, for whoever asks: a ledger without a log looks like one that is not there.

    Raises NotFound.
    """
    missing = NotFound(what=f"a log of the ledger {name[:80]}")
    try:
        return log_of(service, service.existing(name))
    except (NotFound, LogNotFound):
        raise missing from None


def signed_size(log: Log) -> int:
    """How many events the newest checkpoint covers."""
    note = log.note
    return 0 if note is None else read_checkpoint(note).size
