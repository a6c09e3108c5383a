"""Rows: from the bytes of a file to one value per row, each with the line it begins on.

Nothing here raises for what a row holds: a row that cannot be read comes out as Malformed, and reading goes on with
the next line. Lines and quoted fields have limits, so that a file without line ends cannot fill the memory.
"""

from __future__ import annotations

import codecs
import csv
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import IO, Any

import msgspec
from msgspec import Struct

from tallystick.errors import InvalidInput

MAX_LINE_BYTES = 1_048_576
"""The longest line, in bytes. A longer one is reported and skipped."""

Find = Callable[[str, str], str]
"""The id of the transaction that bears (source, key)."""


class Row(Struct, frozen=True):
    """The values of one row by column, and what else a template may name."""

    line: int
    values: dict[str, Any]
    file: str = ""


class Malformed(Struct, frozen=True):
    """A row that cannot be read, and why."""

    line: int
    reason: str


class LineReader:
    """The lines of a binary stream, numbered from 1; None stands for one that is too long. ``position`` is in bytes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.position = 0
        self.number = 0

    def __iter__(self) -> Iterator[tuple[int, bytes | None]]:
        while line := self._read():
            self.number += 1
            if len(line) <= MAX_LINE_BYTES:
                yield self.number, line
                continue
            while line and not line.endswith(b"\n"):
                line = self._read()
            yield self.number, None

    def _read(self) -> bytes:
        try:
            line = self.stream.readline(MAX_LINE_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise InvalidInput(path=f"line {self.number + 1}", problem=f"the file cannot be read: {error}") from None
        self.position += len(line)
        return line


TOO_LONG = f"the line is longer than {MAX_LINE_BYTES} bytes"


# ---------------------------------------------------------------- JSON lines


def decode_object(decoder: msgspec.json.Decoder[Any], line: bytes) -> dict[str, Any]:
    """The JSON object on a line. Raises ValueError, saying what is wrong."""
    try:
        found = decoder.decode(line)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    except msgspec.DecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    except (UnicodeDecodeError, RecursionError):
        raise ValueError("it is not JSON: it is not UTF-8, or nested too deep") from None
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    return found


def read_json(lines: LineReader, file: str, float_hook: Callable[[str], Any] = str) -> Iterator[Row | Malformed]:
    """One row per line that is not blank. A number with a fraction keeps its digits, as text."""
    decoder = msgspec.json.Decoder(float_hook=float_hook)
    for number, line in lines:
        if line is None:
            yield Malformed(number, TOO_LONG)
            continue
        text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not text.strip():
            continue
        try:
            yield Row(number, decode_object(decoder, text), file)
        except ValueError as error:
            yield Malformed(number, str(error))


# ---------------------------------------------------------------- CSV


class _Feed:
    """Lines as text for a CSV reader, which can be given back: after a bad record reading goes on one line later."""

    def __init__(self, lines: LineReader, encoding: str) -> None:
        self.source = iter(lines)
        self.encoding = encoding
        self.back: deque[tuple[int, str | None]] = deque()
        self.taken: list[tuple[int, str | None]] = []

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        item = self.back.popleft() if self.back else self._decode(*next(self.source))
        self.taken.append(item)
        return "" if item[1] is None else item[1]

    def give_back(self) -> int:
        """Take only the first line of this record; the number of that line."""
        self.back.extendleft(reversed(self.taken[1:]))
        return self.taken[0][0]

    def _decode(self, number: int, line: bytes | None) -> tuple[int, str | None]:
        if line is None:
            return number, None
        text = line.decode(self.encoding, "surrogateescape")
        return number, text.removeprefix("\ufeff") if number == 1 else text


def check_encoding(encoding: str) -> str:
    """The encoding itself if a line end in it is one byte. Raises InvalidInput."""
    try:
        if "\n".encode(encoding) == b"\n" and "a,b".encode(encoding) == b"a,b":
            return encoding
    except LookupError:
        pass
    raise InvalidInput(path="encoding", problem=f"{encoding!r} is not an encoding such as utf-8, cp1252 or latin-1")


def read_csv(lines: LineReader, file: str, *, delimiter: str, encoding: str) -> Iterator[Row | Malformed]:
    """One row per record after the header. A record with too few or too many fields is malformed.

    Raises InvalidInput if the header cannot be read or names a column twice.
    """
    feed = _Feed(lines, check_encoding(encoding))
    records = _read_records(feed, delimiter)
    header = _read_header(next(records, None))
    width = len(header)
    yield Row(0, dict.fromkeys(header, ""), file)
    for record in records:
        if isinstance(record, Malformed):
            yield record
            continue
        number, fields = record
        problem = _problem_of(feed, fields, width)
        yield Malformed(number, problem) if problem else Row(number, dict(zip(header, fields, strict=True)), file)


def _read_header(first: Malformed | tuple[int, list[str]] | None) -> list[str]:
    if first is None:
        raise InvalidInput(path="line 1", problem="the file is empty; a CSV file begins with the names of its columns")
    if isinstance(first, Malformed):
        raise InvalidInput(path=f"line {first.line}", problem=f"the names of the columns: {first.reason}")
    number, header = first
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise InvalidInput(path=f"line {number}", problem=f"there are two columns named {twice[0]!r}")
    return header


def _read_records(feed: _Feed, delimiter: str) -> Iterator[Malformed | tuple[int, list[str]]]:
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        feed.taken.clear()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reader = csv.reader(feed, delimiter=delimiter, strict=True)
            yield Malformed(feed.give_back(), f"it is not CSV: {error}")
            continue
        if fields or feed.taken[0][1] is None:
            yield feed.taken[0][0], fields


def _problem_of(feed: _Feed, fields: list[str], width: int) -> str:
    if any(text is None for _, text in feed.taken):
        return TOO_LONG
    if len(fields) != width:
        return f"it has {len(fields)} fields, the header has {width}"
    for field in fields:
        if not field.isascii() and any("\ud800" <= character <= "\udfff" for character in field):
            return f"it is not {feed.encoding}"
    return ""
