"""What the commands about a PostgreSQL database itself share."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import click

from tallystick.cli.session import Session

SHOWN_DIGITS = 12
"""Of a checksum, for people; JSON has all of it."""


def database_url(session: Session, url: str | None, has: str) -> str:
    """The URL of the database, from the argument or from -f; ``has``: what only such a database has."""
    found = url or session.ledger_file
    scheme, separator, _ = found.partition("://")
    if not separator or scheme not in ("postgresql", "postgres"):
        raise click.BadParameter(
            f"only a PostgreSQL database has {has}: give its URL, such as postgresql://user@host/database",
            param_hint="URL",
        )
    return found


def load(name: str) -> ModuleType:
    """A module of the store, which takes an extra. Raises a usage error that says which."""
    try:
        return import_module(f"tallystick.stores.postgres.{name}")
    except ImportError as error:
        raise click.UsageError(f"PostgreSQL needs psycopg: pip install 'tallystick[postgres]' ({error})") from None
