"""Where users of a service stand: before one process with a file, or before two with one PostgreSQL database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import NewUrl
from tests.pains.support import Crowd
from tests.support.service import Served, serving
from tests.support.stores import LASTING


@pytest.fixture(params=LASTING)
def crowd(request: pytest.FixtureRequest, new_url: NewUrl) -> Iterator[Crowd]:
    """Many users at once: before one service with a SQLite file, and before two that share a PostgreSQL database.

    The two have nothing in common but the database: each has its own connections, books and writers, as two processes.
    """
    url = new_url(request.param)
    with ExitStack() as stack:
        fronts = [stack.enter_context(serving(url)) for _ in range(2 if request.param == "postgres" else 1)]
        yield stack.enter_context(Crowd(url, fronts))


@pytest.fixture
def shared(postgres: str) -> Iterator[Crowd]:
    """Two services that share a PostgreSQL database, for what only happens there."""
    with serving(postgres) as one, serving(postgres) as other, Crowd(postgres, [one, other]) as found:
        yield found


@pytest.fixture
def here() -> Iterator[Served]:
    """One service on a passing store, for what depends on no store."""
    with serving("memory://") as found:
        yield found
