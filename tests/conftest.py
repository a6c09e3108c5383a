"""What every test may ask for: a place for its ledgers on each kind of store, and PostgreSQL databases."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.support.databases import Databases, begin_run, end_run
from tests.support.stores import KINDS

NewDatabase = Callable[[], str]
NewUrl = Callable[[str], str]


def is_first_process() -> bool:
    """Whether this is the process that was started by hand, and no worker of it."""
    return "PYTEST_XDIST_WORKER" not in os.environ


def pytest_configure() -> None:
    if is_first_process():
        begin_run()


def pytest_unconfigure() -> None:
    if is_first_process():
        end_run()


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """What a test has routed to its own logs is not written into the next one's output."""
    yield
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if type(handler).__module__ == "tallystick.telemetry.logs"]:
        root.removeHandler(handler)
    if "structlog" in sys.modules:
        sys.modules["structlog"].reset_defaults()


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """Makes and drops databases, for fixtures that keep one for longer than a test."""
    found = Databases()
    yield found
    found.close()


@pytest.fixture
def new_database(databases: Databases) -> Iterator[NewDatabase]:
    """With each call, the URL of a new database with the schema in it; they are dropped after the test."""
    made: list[str] = []

    def make() -> str:
        made.append(databases.new())
        return made[-1]

    yield make
    for dsn in made:
        databases.drop(dsn)


@pytest.fixture
def postgres(new_database: NewDatabase) -> str:
    """The URL of a database of the test's own, with the schema in it."""
    return new_database()


@pytest.fixture
def empty_postgres(databases: Databases) -> Iterator[str]:
    """The URL of a database of the test's own, with nothing in it."""
    dsn = databases.new(empty=True)
    yield dsn
    databases.drop(dsn)


@pytest.fixture
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> NewUrl:
    """With each call, the URL of a new and empty place for ledgers on a store of this kind."""

    def make(kind: str) -> str:
        if kind == "memory":
            return "memory://"
        if kind == "sqlite":
            return str(tmp_path / f"{next(numbers)}.db")
        if kind == "empty postgres":
            empty: str = request.getfixturevalue("empty_postgres")
            return empty
        new: NewDatabase = request.getfixturevalue("new_database")  # only here, so that others start no server
        return new()

    numbers = count()
    return make


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, new_url: NewUrl) -> str:
    """A new and empty place for ledgers; a test that asks for it runs once on each kind of store."""
    return new_url(request.param)
