"""Stores of the operator's records, one of each kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tallystick.control import Control, open_control
from tests.control.making import endpoint


@pytest.fixture
def control(url: str) -> Iterator[Control]:
    opened = open_control(url)
    yield opened
    opened.close()


@pytest.fixture
def told(control: Control) -> Control:
    """With an endpoint ``e``."""
    control.add_endpoint(endpoint("e"))
    return control
