"""A folder that comes to be whole or not at all: written beside its place, brought to the disk, then given its name.

A process that dies leaves a folder ``.NAME.xxxxxxxx.unfinished`` beside the place, which nobody can take for a bundle:
its manifest would be the last of its files. It may be deleted.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from tallystick.errors import InvalidInput, Unavailable
from tallystick.evidence.durable import sync_folder

FILES_AT_ONCE = 64
"""Files that are written before they are brought to the disk: it is busy with the first while the last are written."""


class Draft:
    """The folder while it is written. ``digests`` has the SHA-256 of every file that was written, in hex."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.digests: dict[str, str] = {}
        self.bytes = 0
        self._unsynced: list[int] = []
        self._folders: set[Path] = {folder}

    def write(self, path: str, data: bytes) -> None:
        """Write one file; its folders are made."""
        with self.stream(path) as stream:
            stream.write(data)

    def stream(self, path: str, *, private: bool = False) -> Stream:
        """A file to be written piece by piece; ``private``: for nobody but its owner. It counts once it is closed."""
        place = self.folder / path
        if place.parent not in self._folders:
            place.parent.mkdir(parents=True, exist_ok=True)
            self._folders.update((place.parent, *list(place.parents)[: path.count("/")]))
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
        try:
            return Stream(self, path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    def count(self, path: str, digest: str, size: int, descriptor: int) -> None:
        """Take a file that is written; it is brought to the disk with others."""
        self.digests[path] = digest
        self.bytes += size
        self._unsynced.append(descriptor)
        if len(self._unsynced) >= FILES_AT_ONCE:
            self.sync()

    def sync(self) -> None:
        """Bring what was written to the disk."""
        while self._unsynced:
            os.fsync(self._unsynced[-1])
            os.close(self._unsynced.pop())

    def sync_folders(self) -> None:
        """Bring the names to the disk too, those of the innermost folders first."""
        for folder in sorted(self._folders, key=lambda folder: -len(folder.parts)):
            sync_folder(folder)

    def close(self) -> None:
        while self._unsynced:
            os.close(self._unsynced.pop())


class Stream:
    """One file while it is written."""

    def __init__(self, draft: Draft, path: str, descriptor: int) -> None:
        self._draft = draft
        self._path = path
        self._descriptor = descriptor
        self._file: BinaryIO = os.fdopen(descriptor, "wb", closefd=False)
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._size += len(data)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self._file.close()
        except OSError:
            os.close(self._descriptor)
            raise
        if kind is None:
            self._draft.count(self._path, self._hash.hexdigest(), self._size, self._descriptor)
        else:
            os.close(self._descriptor)


@contextmanager
def new_folder(folder: Path) -> Iterator[Draft]:
    """A draft that becomes ``folder`` when the block ends; if it ends with an error, nothing is left of it.

    Raises InvalidInput unless there is nothing, or an empty folder, in that place; Unavailable if the disk is full or
    does not take the files, or if something came into the place meanwhile.
    """
    place = Path(os.path.realpath(folder))
    draft: Draft | None = None
    try:
        _check_free(place, folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        unfinished = place.parent / f".{place.name[:40]}.{secrets.token_hex(4)}.unfinished"
        unfinished.mkdir()
        draft = Draft(unfinished)
        yield draft
        draft.sync()
        if place.exists():
            shutil.copymode(place, unfinished)
        draft.sync_folders()
        unfinished.rename(place)  # onto an empty folder too, and onto nothing else
        draft = None
        sync_folder(place.parent)
    except OSError as error:
        reason = f"the bundle could not be written to {folder}: {error.strerror or error}"
        raise Unavailable(reason=reason) from None
    finally:
        if draft is not None:
            draft.close()
            shutil.rmtree(draft.folder, ignore_errors=True)


def _check_free(place: Path, folder: Path) -> None:
    try:
        found = os.listdir(place)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise InvalidInput(path=str(folder), problem="it is no folder") from None
    if found:
        raise InvalidInput(path=str(folder), problem="there are things in it; a bundle needs a new or an empty folder")
