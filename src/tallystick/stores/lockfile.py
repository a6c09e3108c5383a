"""The lock file: one process at a time writes a ledger file, and the file beside it says who."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from tallystick.errors import LedgerLocked, Unavailable


class LockFile:
    """An exclusive lock of the operating system on ``<path>.lock``; it ends with the process, however that ends."""

    def __init__(self, path: Path) -> None:
        self._ledger = path
        self._path = path.with_name(path.name + ".lock")
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, once. Raises LedgerLocked if another process has it."""
        if self._descriptor is not None:
            return
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise Unavailable(reason=f"the lock file cannot be opened: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise LedgerLocked(path=str(self._ledger), holder=holder) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go. The file stays: removing it would let two processes lock two files of the same name."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
