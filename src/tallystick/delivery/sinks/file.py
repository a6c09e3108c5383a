"""Files: one message a line, JSON lines, durable before they count as accepted.

A batch is one write and one fsync. What cannot be written whole is cut off again, so that a reader never meets half a
line that stays; what a crash left half written is cut off when the file is next opened, and is sent again, because it
was never acknowledged. A file that would grow past its limit is moved aside to ``<name>.000001`` and so on, and is
never deleted: that is for whoever reads them.

Several processes may write one file: each append holds a lock on it (flock), and looks anew at a file that another has
moved or written. So a message can be there twice, by the same id, but not half.

Files are made with mode 0600, below the folder that the operator named, never through a symbolic link.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import re
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tallystick.control.records import Endpoint
from tallystick.delivery.sinks.settings import FOLDER_VARIABLE, SinkSettings
from tallystick.delivery.transport import Message, Sent
from tallystick.errors import InvalidInput

BATCH_LINES = 256
MAX_LINE_BYTES = 1024 * 1024
REPAIR_BYTES = 64 * 1024 * 1024
"""How far back from the end a crash can have left a mess: more than the largest batch of ordinary events."""

LOCK_SECONDS = 5.0
THREADS = 4
MAX_FILES = 256
"""Open at a time."""

_ROTATED = re.compile(r"\.([0-9]{6,})\Z")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\Z")


def path_of(url: str) -> Path:
    """The path that an endpoint names, relative to the folder for sinks or absolute. Raises InvalidInput."""
    text = url.removeprefix("file://")
    path = Path(text)
    if "\0" in text or ".." in path.parts or not _NAME.match(path.name) or _ROTATED.search(path.name):
        problem = f"{url!r} is no file for events, such as events.jsonl: no `..`, letters, digits, `_`, `.`, `-`"
        raise InvalidInput(path="url", problem=problem)
    return path


class FileTransport:
    """Appends messages to files below ``settings.file_folder``."""

    def __init__(self, settings: SinkSettings) -> None:
        self._folder = settings.file_folder
        self._rotate_bytes = settings.file_rotate_bytes
        self._files: dict[Path, SinkFile] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="deliver-file")

    @property
    def batch_size(self) -> int:
        return BATCH_LINES

    async def send(self, endpoint: Endpoint, message: Message) -> Sent:
        """Append one line."""
        return (await self.send_many(endpoint, (message,)))[0]

    async def send_many(self, endpoint: Endpoint, messages: Sequence[Message]) -> Sequence[Sent]:
        """Append all lines, with one fsync unless the file is full in between."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._append, endpoint, tuple(messages))

    async def close(self) -> None:
        """Close the files."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            files, self._files = list(self._files.values()), {}
        for file in files:
            file.close()

    def _append(self, endpoint: Endpoint, messages: Sequence[Message]) -> list[Sent]:
        lines = [_line(message) for message in messages]
        fitting = [line for line in lines if len(line) <= MAX_LINE_BYTES]
        problem, written = "", 0
        try:
            written, problem = self._file(endpoint).append(fitting)
        except InvalidInput as error:
            problem = str(error.data["problem"])
        except OSError as error:
            problem = _said(error)
        results = iter([Sent(accepted=True)] * written + [Sent(accepted=False, problem=problem)] * len(fitting))
        too_long = f"the line has more than {MAX_LINE_BYTES:,} bytes"
        return [
            next(results) if len(line) <= MAX_LINE_BYTES else Sent(accepted=False, status=413, problem=too_long)
            for line in lines
        ]

    def _file(self, endpoint: Endpoint) -> SinkFile:
        """The file of an endpoint; endpoints that name the same one share it. Raises InvalidInput, OSError."""
        if not self._folder:
            problem = f"this process writes no files: no folder for them was named ({FOLDER_VARIABLE})"
            raise InvalidInput(path="url", problem=problem)
        folder = Path(self._folder).resolve()
        named = folder / path_of(endpoint.url)
        path = named.parent.resolve() / named.name
        if not path.is_relative_to(folder):
            raise InvalidInput(path="url", problem=f"{path} is not below the folder for sinks, {folder}")
        with self._lock:
            if path not in self._files:
                if len(self._files) >= MAX_FILES:
                    self._files.pop(next(iter(self._files))).close()
                self._files[path] = SinkFile(path, self._rotate_bytes)
            return self._files[path]


class SinkFile:
    """One file that lines are appended to. Safe to use from several threads and processes."""

    def __init__(self, path: Path, rotate_bytes: int) -> None:
        self.path = path
        self._rotate_bytes = rotate_bytes
        self._descriptor = -1
        self._size = 0
        """What the file had when it was last known to end with a whole line."""
        self._lock = threading.Lock()
        self._retired = False

    def append(self, lines: Sequence[bytes]) -> tuple[int, str]:
        """Append lines in their order: how many of them are on the disk now, and why not the others."""
        with self._lock:
            written = 0
            try:
                while written < len(lines):
                    with self._held():
                        if self._size and self._size + len(lines[written]) > self._rotate_bytes:
                            self._move_aside()
                            continue  # the new file is whoever's comes first
                        count = self._fitting(lines[written:])
                        self._write(b"".join(lines[written : written + count]))
                        written += count
            except InvalidInput as error:
                return written, str(error.data["problem"])
            except OSError as error:
                return written, _said(error)
            finally:
                if self._retired:
                    self._let_go()
            return written, ""

    def close(self) -> None:
        """Close the file, also after whoever is about to write to it. Closing twice is no error."""
        with self._lock:
            self._retired = True
            self._let_go()

    def _fitting(self, lines: Sequence[bytes]) -> int:
        """How many of the lines the file has room for; one at least, so that a long line finds its place."""
        total = self._size
        for count, line in enumerate(lines):
            total += len(line)
            if count and total > self._rotate_bytes:
                return count
        return len(lines)

    def _write(self, data: bytes) -> None:
        """Write and sync. Whatever goes wrong, what was begun is cut off again."""
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(self._descriptor, left) :]
            os.fsync(self._descriptor)
        except BaseException:
            try:
                os.ftruncate(self._descriptor, self._size)
                os.fsync(self._descriptor)
            finally:  # after a failed sync nobody knows what the disk has: look anew before the next line
                self._let_go()
            raise
        self._size += len(data)

    # ------------------------------------------------------------ opening, locking

    @contextmanager
    def _held(self) -> Iterator[None]:
        """The file, open, locked and ending with a whole line. Raises OSError, InvalidInput."""
        until = time.monotonic() + LOCK_SECONDS
        while True:
            if self._descriptor < 0:
                self._descriptor, self._size = _open(self.path), -1
            if not _lock(self._descriptor):
                if time.monotonic() > until:
                    problem = f"another process has been writing {self.path} for {LOCK_SECONDS:g} s"
                    raise InvalidInput(path="url", problem=problem)
                time.sleep(0.005)
                continue
            if _is_at(self._descriptor, self.path):
                break
            self._let_go()  # it was moved aside by another process, or by hand
        try:
            if os.fstat(self._descriptor).st_size != self._size:
                try:
                    self._size = _repair(self._descriptor, self.path)
                except BaseException:
                    self._let_go()
                    raise
            yield
        finally:
            if self._descriptor >= 0:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _move_aside(self) -> None:
        """Give the file another name. Only who has its lock does that."""
        aside = self.path.with_name(f"{self.path.name}.{_last_number(self.path) + 1:06d}")
        self.path.rename(aside)
        self._let_go()

    def _let_go(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _line(message: Message) -> bytes:
    """A message as one line. A raw line break in JSON stands between its parts, where a blank does as well."""
    return message.body.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n"


def _open(path: Path) -> int:
    """Open or make the file, its name on the disk. Raises OSError; InvalidInput for what is no plain file."""
    # Without O_NONBLOCK a pipe of that name would hold the thread until somebody reads from it.
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InvalidInput(path="url", problem=f"{path} is a symbolic link") from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidInput(path="url", problem=f"{path} is not a plain file")
        _sync_folder(path.parent)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one of this name."""
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _repair(descriptor: int, path: Path) -> int:
    """Cut off what a crash left behind the last whole line; the size then.

    A crash of the machine can leave zeros where data was to come, also before data that did come: from the first zero
    on nothing counts. Raises InvalidInput for a file that no sink has written, which is left as it is.
    """
    size = os.fstat(descriptor).st_size
    if not size:
        return 0
    begin = max(0, size - REPAIR_BYTES)
    tail = os.pread(descriptor, size - begin, begin)
    if os.pread(descriptor, 1, 0) not in (b"{", b"\0"):
        raise InvalidInput(path="url", problem=f"{path} is there already and has no events in it; name another file")
    zero = tail.find(b"\0")
    end = begin + tail.rfind(b"\n", 0, len(tail) if zero < 0 else zero) + 1
    if begin and end == begin:
        raise InvalidInput(path="url", problem=f"{path} has no whole line in its last {REPAIR_BYTES:,} bytes")
    if end != size:
        os.ftruncate(descriptor, end)
        os.fsync(descriptor)
    return end


def _last_number(path: Path) -> int:
    """The number of the newest file that was moved aside; 0 if there is none."""
    prefix = path.name
    numbers = [
        int(found[1])
        for name in os.listdir(path.parent)
        if name.startswith(prefix) and (found := _ROTATED.fullmatch(name[len(prefix) :]))
    ]
    return max(numbers, default=0)


def _said(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
