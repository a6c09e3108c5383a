"""Files that SQLite has open in this process, and how to look into one without taking its locks away.

POSIX drops every lock that a process has on a file when it closes any descriptor of that file (fcntl(2)), also one that
SQLite knows nothing of. Another process would then take itself for the last one that uses the file, and remove the log
of writes under those that are still at work: what they write from then on is lost. So whoever looks into such a file
himself keeps his descriptor until nothing here has the file open any more.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

_Place = tuple[int, int]

_lock = threading.Lock()
_users: dict[_Place, int] = {}
_kept: dict[_Place, list[int]] = {}


def hold(path: Path, user: object) -> Callable[[], object]:
    """Say that ``user`` has connections to this file, before it makes the first: what ends that, once they are closed.

    It ends with the user too, if it is forgotten. Raises OSError if there is no such file.
    """
    found = path.stat()
    place = (found.st_dev, found.st_ino)
    with _lock:
        _users[place] = _users.get(place, 0) + 1
    return weakref.finalize(user, _release, place)


def look_into(path: Path, count: int) -> tuple[bytes, int]:
    """The first ``count`` bytes of a file, and its size. Raises OSError."""
    with _lock:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        found = os.fstat(descriptor)
        place = (found.st_dev, found.st_ino)
        try:
            return os.pread(descriptor, count, 0), found.st_size
        finally:
            if _users.get(place):
                _kept.setdefault(place, []).append(descriptor)
            else:
                os.close(descriptor)


def _release(place: _Place) -> None:
    with _lock:
        _users[place] -= 1
        if not _users[place]:
            del _users[place]
            for descriptor in _kept.pop(place, ()):
                os.close(descriptor)
