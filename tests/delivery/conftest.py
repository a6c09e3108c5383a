"""A scene and a receiver for each test that asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tallystick.delivery import courier, engine
from tests.delivery.receiver import Receiver
from tests.delivery.scenes import Scene


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoints and records are looked at more often than usual, so that tests need not wait."""
    monkeypatch.setattr(engine, "LIST_SECONDS", 0.1)
    monkeypatch.setattr(courier, "REFRESH_SECONDS", 0.1)


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Ledger and records in memory."""
    found = Scene()
    yield found
    found.close()


@pytest.fixture
def filed(tmp_path: Path) -> Iterator[Scene]:
    """Ledger and records in files."""
    found = Scene(str(tmp_path / "ledger.db"))
    yield found
    found.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as found:
        yield found
