"""The operator's records of a place for ledgers, found by the same URL."""

from __future__ import annotations

import os
from pathlib import Path

from tallystick.clock import Clock, system_clock
from tallystick.control.base import Control
from tallystick.control.memory import MemoryControl
from tallystick.errors import InvalidInput
from tallystick.stores.urls import place_of

SUFFIX = "-service"
"""What a ledger file's name is followed by in the name of the file of its operator's records."""


def open_control(url: str | Path, *, create: bool = True, clock: Clock = system_clock) -> Control:
    """Open the operator's records beside the ledgers at a URL, which is one that ``tallystick.open`` takes.

    Of a ledger file they are in ``<path>-service`` beside it, of a PostgreSQL database in its schema
    ``tallystick_service``, for ``memory://`` in a passing place of their own. What is not there is made, unless
    ``create`` is False; tables of an older version are brought up to date. ``clock`` says when a lease ends, but on
    PostgreSQL, which asks its own.

    Raises InvalidInput, LedgerNotFound (nothing there, and not to be made), NotALedger (a file of another kind or of a
    newer version), LedgerCorrupt, KeyFileUnsafe (others may read or write the file), Unavailable; of a database
    NotPermitted and SchemaMismatch.
    """
    kind, place = place_of(url)
    if kind == "memory":
        return MemoryControl(clock)
    return _postgres(place, create=create) if kind == "postgres" else _sqlite(Path(place), create=create, clock=clock)


def beside(path: Path) -> Path:
    """The file of the operator's records of a ledger file: beside the file itself, whatever leads to it."""
    return Path(os.path.realpath(path) + SUFFIX)


def _sqlite(path: Path, *, create: bool, clock: Clock) -> Control:
    from tallystick.control.sqlite import SqliteControl  # noqa: PLC0415 - takes none of it for a passing one

    return SqliteControl(beside(path), create=create, clock=clock)


def _postgres(url: str, *, create: bool) -> Control:
    try:
        from tallystick.control.postgres import PostgresControl  # noqa: PLC0415 - psycopg is an extra
    except ImportError as error:
        raise InvalidInput(
            path="url", problem=f"PostgreSQL needs psycopg: pip install 'tallystick[postgres]' ({error})"
        ) from None
    return PostgresControl(url, create=create)
