"""What the tests of the service share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.service import Served, serving


@pytest.fixture
def served(url: str) -> Iterator[Served]:
    """A running service, on each kind of store in turn."""
    with serving(url) as found:
        yield found


@pytest.fixture
def here() -> Iterator[Served]:
    """A running service on a passing store, for what does not depend on the store."""
    with serving("memory://") as found:
        yield found
