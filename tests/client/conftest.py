"""What the tests of the client share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.support import Asker, Async, Sync
from tests.support.service import Served, serving


@pytest.fixture
def here() -> Iterator[Served]:
    """A running service on a passing store: what it does with its stores is shown elsewhere."""
    with serving("memory://") as found:
        yield found


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def asker(request: pytest.FixtureRequest) -> Asker:
    """Both clients in turn."""
    found: Asker = request.param()
    return found
