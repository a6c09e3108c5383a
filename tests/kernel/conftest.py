"""The ledger that each test of the kernel writes in; when the test is over, its journal is read again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tallystick import commands as c
from tests.support.kernel import Scribe, picture, replayed


@pytest.fixture
def ledger() -> Iterator[Scribe]:
    """A ledger that has just been opened. Whatever the test does to it must be found again by replaying it."""
    scribe = Scribe()
    scribe.do(c.OpenLedger, name="main")
    yield scribe
    assert picture(replayed(scribe)) == picture(scribe.book)
