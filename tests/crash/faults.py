"""SQLite connections that fail where they are told to: at the n-th statement, or from it on until they are healed."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any

CONNECT = sqlite3.connect


class Outage:
    """When to fail: at the statement ``fail_at`` (``lasting``: from it on), or behind the COMMIT ``lose_commit``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.begin()

    def begin(self) -> None:
        """Count from nothing again, and fail nowhere."""
        self.seen = 0
        self.commits = 0
        self.failures = 0
        self.fail_at = 0
        self.lasting = False
        self.lose_commit = 0

    def heal(self) -> None:
        """No more failures from here on."""
        with self._lock:
            self.fail_at = self.lose_commit = 0

    def before(self, statement: str) -> None:
        """Raises what SQLite raises on a full disk, if it is this statement's turn; taking back never fails."""
        if statement.startswith("ROLLBACK"):
            return
        with self._lock:
            self.seen += 1
            due = self.fail_at and (self.seen >= self.fail_at if self.lasting else self.seen == self.fail_at)
            self.failures += bool(due)
        if due:
            raise failure("database or disk is full", "SQLITE_FULL")

    def after(self, statement: str) -> None:
        """Raises behind a COMMIT that was carried out, if it is the one to be lost."""
        if statement != "COMMIT":
            return
        with self._lock:
            self.commits += 1
            due = self.commits == self.lose_commit
            self.failures += due
        if due:
            raise failure("disk I/O error", "SQLITE_IOERR")

    def connect(self, *arguments: Any, **more: Any) -> sqlite3.Connection:
        """Stands in for ``sqlite3.connect``."""
        connection: Failing = CONNECT(*arguments, factory=Failing, **more)
        connection.outage = self
        return connection


class Failing(sqlite3.Connection):
    """A connection that asks the outage before and after each statement."""

    outage: Outage

    def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
        self.outage.before(statement)
        cursor = super().execute(statement, *arguments)
        self.outage.after(statement)
        return cursor

    def executemany(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
        self.outage.before(statement)
        return super().executemany(statement, *arguments)

    def executescript(self, script: str) -> sqlite3.Cursor:
        self.outage.before(script)
        return super().executescript(script)


def failure(message: str, name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(message)
    error.sqlite_errorname = name  # type: ignore[misc]
    return error
