"""The session of one command: which ledger it is about, and how it answers. Reading never makes a file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tallystick.errors import LedgerNotFound
from tallystick.stores.urls import masked

if TYPE_CHECKING:
    from tallystick.ledger import Database, Ledger


class Session:
    """The shared options, and the database once it is open."""

    def __init__(self) -> None:
        self.ledger_file = "ledger.db"
        self.ledger_name = "main"
        self.json = False
        self._database: Database | None = None

    @property
    def url(self) -> str | Path:
        """The file or URL. Raises a usage error for a folder."""
        if "://" in self.ledger_file or self.ledger_file.startswith("sqlite:"):
            return self.ledger_file
        path = Path(self.ledger_file)
        if path.is_dir():
            raise click.BadParameter(f"{str(path)!r} is a folder; name a file in it", param_hint="--ledger-file")
        return path

    @property
    def place(self) -> str:
        """The file or URL as it may be shown: without a password."""
        return masked(self.ledger_file)

    def open(self, *, write: bool = False, create: bool = False) -> Database:
        """The database, closed when the command ends. Raises LedgerNotFound unless it is there or ``create`` is set."""
        if self._database is None:
            import tallystick

            logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # it warns of what the store mends itself
            self._database = tallystick.open(self.url, create=create, read_only=not write)
            click.get_current_context().find_root().call_on_close(self._database.close)
        return self._database

    def reading(self) -> Ledger:
        """The ledger, to be read. Raises LedgerNotFound."""
        return self._existing(write=False)

    def writing(self) -> Ledger:
        """The ledger, to be written. Raises LedgerNotFound: only `tally create` makes one."""
        return self._existing(write=True)

    def _existing(self, *, write: bool) -> Ledger:
        return self.database(write=write).ledger(self.ledger_name)

    def database(self, *, write: bool) -> Database:
        """The file or database in which the ledger exists; its end is not looked at. Raises LedgerNotFound."""
        database = self.open(write=write)
        ledgers = database.ledgers()
        if self.ledger_name not in ledgers:
            there = ", ".join(ledgers) or "none"
            raise LedgerNotFound(path=f"{self.place} named {self.ledger_name} (there: {there})")
        return database

    def write(self, value: Any) -> None:
        """A value as one JSON document, on one line."""
        from tallystick.cli.output import write_json

        write_json(self.document(value))

    def document(self, value: Any) -> Any:
        """A value as plain JSON data."""
        from tallystick.cli.output import plain

        return plain(value)


pass_session = click.make_pass_decorator(Session, ensure=True)
