"""What every place of publication promises, and the paths that all of them take."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NoReturn, Protocol, TypeVar

from tallystick.errors import InvalidInput, LogForked, Unavailable

MAX_PATH_BYTES = 512

# A name that begins with a dot is a place's own (".new", ".lock"); so ".." is no name either.
_PATH = re.compile(r"(?!\.)[A-Za-z0-9_.\-]+(/(?!\.)[A-Za-z0-9_.\-]+)*")

_Item = TypeVar("_Item")


class Publication(Protocol):
    """A place for the files of a log. Paths are those of tlog-tiles, relative, with ``/``.

    All raise InvalidInput for a path that is none, and Unavailable if the place does not take or give the bytes now;
    what was there stays as it was.
    """

    def read(self, path: str) -> bytes | None:
        """The file's bytes; None if there is none."""
        ...

    def write(self, path: str, data: bytes, *, immutable: bool) -> None:
        """Write one file, whole or not at all; it is durable on return. An ``immutable`` file is never written anew:
        with the same bytes nothing happens, with others LogForked is raised."""
        ...

    def write_many(self, files: Iterable[tuple[str, bytes]]) -> int:
        """Write immutable files, much faster than one by one; all are durable on return. Returns how many it was given.
        After an error some of them may be there, each of them whole."""
        ...

    def replace(self, path: str, data: bytes, *, before: bytes | None) -> None:
        """Write a file that changes, if it still is what was read ``before`` (None: if there is none); Unavailable if
        someone else has written it meanwhile."""
        ...


def check_path(path: str) -> tuple[str, ...]:
    """The parts of a path. Raises InvalidInput for one that is absolute, climbs, or has unusual characters."""
    if len(path) > MAX_PATH_BYTES or not _PATH.fullmatch(path):
        problem = "not a relative path of plain names (letters, digits, dot, dash, underscore)"
        raise InvalidInput(path=repr(path[:MAX_PATH_BYTES]), problem=problem)
    return tuple(path.split("/"))


def batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """The items in lists of ``size``, the last one shorter."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


def refuse_rewrite(place: str, path: str) -> NoReturn:
    """Raises LogForked: an immutable file has other bytes."""
    raise LogForked(origin=place, problem=f"{path} was published with other bytes")


def refuse_overtaken(place: str, path: str) -> NoReturn:
    """Raises Unavailable: the next try finds what the other wrote, and judges it."""
    raise Unavailable(reason=f"{path} in {place} was written by someone else meanwhile; read it again first")
