"""What goes over the wire of an append: binary values, and statements that are sent together in one trip.

psycopg's own pipeline costs more than the statements themselves when a posting is small; this speaks to libpq through
psycopg's lower layer, with statements prepared once for each connection.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

import psycopg
from psycopg import generators, pq
from psycopg.adapt import Transformer

from tallystick.stores.postgres.connections import Connection, Link
from tallystick.stores.sql import queries

STATEMENTS = {name: text.encode() for name, text in queries("postgres/append.sql").items()}

_BINARY = pq.Format.BINARY
_GOOD = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)
_ARRAY = struct.Struct(">iiiii")
_BYTEA, _INT8, _TEXT = 17, 20, 25  # type numbers of PostgreSQL
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END = b"\xff\xff"

int4 = struct.Struct(">i").pack
int8 = struct.Struct(">q").pack


def int8_array(values: Sequence[int]) -> bytes:
    """A bigint[] in binary."""
    count = len(values)
    flat = [part for value in values for part in (8, value)]
    return _ARRAY.pack(1, 0, _INT8, count, 1) + struct.pack(">" + "iq" * count, *flat)


def text_array(values: Sequence[str | bytes]) -> bytes:
    """A text[] in binary."""
    return _array(_TEXT, values)


def bytes_array(values: Sequence[bytes]) -> bytes:
    """A bytea[] in binary."""
    return _array(_BYTEA, values)


def _array(kind: int, values: Sequence[str | bytes]) -> bytes:
    parts = [_ARRAY.pack(1, 0, kind, len(values), 1)]
    for value in values:
        encoded = value if isinstance(value, bytes) else value.encode()
        parts += (int4(len(encoded)), encoded)
    return b"".join(parts)


def copy_of_numbers(columns: Sequence[tuple[str, Any]], count: int) -> bytes:
    """Rows of numbers as COPY reads them in binary: ``columns`` are (``>i4`` or ``>i8``, one value or an array)."""
    import numpy  # noqa: PLC0415

    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for index, (kind, _) in enumerate(columns):
        fields += [(f"length{index}", ">i4"), (f"value{index}", kind)]
    rows = numpy.empty(count, dtype=numpy.dtype(fields))
    rows["fields"] = len(columns)
    for index, (kind, values) in enumerate(columns):
        rows[f"length{index}"] = int(kind[-1])
        rows[f"value{index}"] = values
    return _COPY_HEADER + rows.tobytes() + _COPY_END


def copy_of(rows: Sequence[Sequence[bytes]]) -> bytes:
    """Rows of encoded values as COPY reads them in binary."""
    parts = [_COPY_HEADER]
    for row in rows:
        parts.append(struct.pack(">h", len(row)))
        for value in row:
            parts += (int4(len(value)), value)
    parts.append(_COPY_END)
    return b"".join(parts)


class Trip:
    """Statements that are sent together, and whose answers come back together."""

    def __init__(self, connection: Link, *, prepared: bool = True) -> None:
        self._connection = connection
        self._commands: list[Callable[[], None]] = []
        self._prepared = prepared and isinstance(connection, Connection)
        if isinstance(connection, Connection) and prepared and not connection.prepared:
            self._prepare()
            connection.prepared = True

    def add(self, name: str, *parameters: bytes) -> None:
        """One statement with its values in binary. On a connection of the caller's nothing is left prepared."""
        pgconn = self._connection.pgconn
        formats = [_BINARY] * len(parameters)
        if self._prepared:
            self._commands.append(partial(pgconn.send_query_prepared, name.encode(), parameters, formats, _BINARY))
        else:
            self._commands.append(
                partial(
                    pgconn.send_query_params,
                    STATEMENTS[name],
                    parameters,
                    param_formats=formats,
                    result_format=_BINARY,
                )
            )

    def send(self) -> list[list[tuple[Any, ...]]]:
        """Send all and wait for all answers: the rows of each statement. Raises psycopg's error of the first statement
        that failed; those behind it were not executed."""
        pgconn = self._connection.pgconn
        pgconn.enter_pipeline_mode()
        for command in self._commands:
            command()
        self._commands = []
        pgconn.pipeline_sync()
        results: list[pq.abc.PGresult] = []
        try:
            failed = self._connection.wait(_take_answers(pgconn, results))
        except BaseException:  # an interrupt: what the server still answers must not be taken for another answer
            self._connection.close()
            raise
        pgconn.exit_pipeline_mode()
        if failed is not None:
            raise psycopg.errors.error_from_result(failed, encoding="utf-8")
        return [self._rows(result) if result.ntuples else [] for result in results]

    def _rows(self, result: pq.abc.PGresult) -> list[tuple[Any, ...]]:
        values = Transformer(self._connection)
        values.set_pgresult(result, format=_BINARY)
        return values.load_rows(0, result.ntuples, tuple)

    def _prepare(self) -> None:
        pgconn = self._connection.pgconn
        for name, text in STATEMENTS.items():
            self._commands.append(partial(pgconn.send_prepare, name.encode(), text))
        self.send()


def _take_answers(pgconn: pq.abc.PGconn, results: list[pq.abc.PGresult]) -> Generator[Any, Any, pq.abc.PGresult | None]:
    """Flush what was sent, and take the answers up to the one to the sync; the first failure among them, if any."""
    yield from generators.send(pgconn)
    failed: pq.abc.PGresult | None = None
    while True:
        for result in (yield from generators.fetch_many(pgconn)):
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                return failed
            if failed is None and result.status not in _GOOD:
                failed = result
            results.append(result)
