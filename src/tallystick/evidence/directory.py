"""A log in a folder of this machine."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tallystick.errors import InvalidInput, Unavailable
from tallystick.evidence.durable import sync_folder
from tallystick.evidence.places import batches, check_path, refuse_overtaken, refuse_rewrite

LOCK_SECONDS = 30.0
FILES_AT_ONCE = 64
"""Files that are written before they are brought to the disk. Each is open meanwhile, and so are the folders it lies
in: together they stay under the 256 descriptors that some systems give a process."""

_DRAFTS = ".new"
_LOCK = ".lock"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class DirectoryPublication:
    """A log in a folder of this machine, which is made if it is not there. Works with several processes at once.

    Each file is written under ``.new/`` in the folder, brought to the disk, and then given its name, so that a name
    leads to a whole file even after a power cut. Below the folder no symbolic link is followed.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def __repr__(self) -> str:
        return f"DirectoryPublication({str(self.folder)!r})"

    def read(self, path: str) -> bytes | None:
        """The file's bytes; None if there is none."""
        *parents, name = check_path(path)
        with self._faults(path):
            try:
                folders = _Folders(self.folder)
            except FileNotFoundError:
                return None
            try:
                return _read_file(folders.open(parents, make=False), name)
            except FileNotFoundError:
                return None
            finally:
                folders.close()

    def write(self, path: str, data: bytes, *, immutable: bool) -> None:
        """Write one file; see ``Publication``."""
        check_path(path)
        if immutable:
            self.write_many([(path, data)])
            return
        with self._faults(path), self._exclusive() as folders:
            _write_drafts(folders, {path: data})

    def write_many(self, files: Iterable[tuple[str, bytes]]) -> int:
        """Write immutable files; see ``Publication``. They are written a batch at a time, and each batch is brought to
        the disk at once, which costs less than file after file."""
        count = 0
        for batch in batches(files, FILES_AT_ONCE):
            count += len(batch)
            for path, _ in batch:
                check_path(path)
            where = batch[0][0] if len(batch) == 1 else f"{batch[0][0]} or one of the {len(batch) - 1} files after it"
            with self._faults(where), self._exclusive() as folders:
                _write_drafts(folders, self._unwritten(folders, batch))
        return count

    def _unwritten(self, folders: _Folders, batch: list[tuple[str, bytes]]) -> dict[str, bytes]:
        fresh: dict[str, bytes] = {}
        for path, data in batch:
            *parents, name = path.split("/")
            with self._faults(path):
                found = fresh.get(path)
                if found is None:
                    with suppress(FileNotFoundError):
                        found = _read_file(folders.open(parents, make=True), name)
            if found is None:
                fresh[path] = data
            elif found != data:
                refuse_rewrite(str(self.folder), path)
        return fresh

    def replace(self, path: str, data: bytes, *, before: bytes | None) -> None:
        """Write a file that changes; see ``Publication``."""
        *parents, name = check_path(path)
        with self._faults(path), self._exclusive() as folders:
            found = None
            with suppress(FileNotFoundError):
                found = _read_file(folders.open(parents, make=True), name)
            if found not in (before, data):
                refuse_overtaken(str(self.folder), path)
            _write_drafts(folders, {} if found == data else {path: data})

    @contextmanager
    def _exclusive(self) -> Iterator[_Folders]:
        """The open folder, while no other process or thread writes to it."""
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True, exist_ok=True)
            sync_folder(self.folder.parent)
        folders = _Folders(self.folder)
        lock = -1
        try:
            lock = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644, dir_fd=folders.root)
            self._take(lock)
            yield folders
        finally:
            if lock >= 0:
                os.close(lock)  # which lets go of it
            folders.close()

    def _take(self, lock: int) -> None:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    reason = f"another process has been writing to {self.folder} for {LOCK_SECONDS:g} seconds"
                    raise Unavailable(reason=reason) from None
                time.sleep(0.01)
            else:
                return

    @contextmanager
    def _faults(self, path: str) -> Iterator[None]:
        try:
            yield
        except _NotPlain as error:
            problem = f"{error.name} in {self.folder} is no plain file or folder, and links are not followed"
            raise InvalidInput(path=path, problem=problem) from None
        except OSError as error:
            reason = f"{path} in {self.folder} cannot be read or written: {error.strerror or error}"
            raise Unavailable(reason=reason) from None


class _NotPlain(Exception):
    """A symbolic link, or another thing that is neither a file nor a folder, where one of these should be."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Folders:
    """The folders below ``root`` by their descriptors: each step is taken from an open folder and follows no link, so
    that nobody can lead a write out of the root between the check and the write."""

    def __init__(self, root: Path) -> None:
        self.root = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        self._open: dict[tuple[str, ...], int] = {(): self.root}

    def open(self, parts: Sequence[str], *, make: bool) -> int:
        """The folder at ``parts``. Raises FileNotFoundError if it is not there and not to be made."""
        place = tuple(parts)
        found = self._open.get(place)
        if found is None:
            found = self._open[place] = self._step(self.open(place[:-1], make=make), place[-1], make=make)
        return found

    def _step(self, parent: int, name: str, *, make: bool) -> int:
        try:
            return os.open(name, _FOLDER, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise _NotPlain(name) from None
            if error.errno != errno.ENOENT or not make:
                raise
        with suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=parent)
        return os.open(name, _FOLDER, dir_fd=parent)

    def sync(self) -> None:
        """Make the names in every folder that was opened durable, parents last. Also in those where nothing is new now:
        whoever made the names may have died before this."""
        for place in sorted(self._open, key=len, reverse=True):
            os.fsync(self._open[place])

    def close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open = {}


def _read_file(folder: int, name: str) -> bytes:
    try:
        # Without O_NONBLOCK a pipe of that name would hold the process until somebody writes to it.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _NotPlain(name) from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _NotPlain(name)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def _write_drafts(folders: _Folders, files: dict[str, bytes]) -> None:
    """Write these files, whatever was there, and bring them and their names to the disk.

    Drafts have numbers for names: leavings of a process that died are written over by the next.
    """
    drafts = folders.open([_DRAFTS], make=True)
    opened: list[int] = []
    named = 0
    try:
        for number, data in enumerate(files.values()):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
            opened.append(os.open(str(number), flags, 0o644, dir_fd=drafts))
            with os.fdopen(opened[-1], "wb", closefd=False) as file:
                file.write(data)
        for descriptor in opened:  # only now: the disk has been busy with the first while the last were written
            os.fsync(descriptor)
        for number, path in enumerate(files):
            *parents, name = path.split("/")
            os.rename(str(number), name, src_dir_fd=drafts, dst_dir_fd=folders.open(parents, make=True))
            named += 1
        folders.sync()
    finally:
        for number, descriptor in enumerate(opened):
            os.close(descriptor)
            if number >= named:
                with suppress(OSError):  # the disk may be full: leave nothing behind that fills it
                    os.unlink(str(number), dir_fd=drafts)
