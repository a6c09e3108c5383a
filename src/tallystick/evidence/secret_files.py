"""Files that are nobody's but their owner's: the key of a log or a witness, the token of a reader."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tallystick.errors import KeyFileUnsafe, Unavailable

MAX_BYTES = 4_096

_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_secret(path: Path) -> bytes:
    """The file's bytes, judged by the open file itself, which nobody can exchange between the look and the reading.

    Raises KeyFileUnsafe for a file that is not there, that others may read, write or exchange, that is not a plain file
    or that has more than MAX_BYTES; Unavailable if it cannot be read.
    """
    try:
        _check_link(path)
        # Without O_NONBLOCK a pipe of that name would hold the process until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            _check_file(path, os.fstat(descriptor))
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise KeyFileUnsafe(path=str(path), problem="there is no such file") from None
    except IsADirectoryError:
        raise KeyFileUnsafe(path=str(path), problem="it is not a plain file") from None
    except OSError as error:
        raise Unavailable(reason=f"the file {path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise KeyFileUnsafe(path=str(path), problem=f"it has more than {MAX_BYTES} bytes")
    return data


def _check_link(path: Path) -> None:
    """A symbolic link of another user leads wherever that user likes. Root's are as good as one's own."""
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode) and found.st_uid not in (os.geteuid(), 0):
        raise KeyFileUnsafe(path=str(path), problem="it is a symbolic link of another user")


def _check_file(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        problem = "it is not a plain file"
    elif found.st_uid not in (os.geteuid(), 0):
        problem = f"it belongs to another user ({found.st_uid})"
    elif found.st_mode & _OF_OTHERS:
        problem = f"others than its owner may use it (mode {stat.S_IMODE(found.st_mode):04o}); `chmod 600` it"
    else:
        return
    raise KeyFileUnsafe(path=str(path), problem=problem)
