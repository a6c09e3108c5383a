"""Logging and tracing are one per process: after each test they are as they were."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from tallystick.telemetry import logs, tracing


class Written(io.StringIO):
    """Where log lines are written to, and read from."""

    def lines(self) -> list[dict[str, Any]]:
        """Each line as the JSON object that it is."""
        return [json.loads(line) for line in self.getvalue().splitlines()]

    def line(self) -> dict[str, Any]:
        (only,) = self.lines()
        return only


@pytest.fixture
def untouched_logging() -> Iterator[None]:
    names = [None, *logs.ROUTED, *logs.QUIET]
    before = [(found, found.level, list(found.handlers), found.propagate) for found in map(logging.getLogger, names)]
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.captureWarnings(False)
    for found, level, handlers, propagate in before:
        found.setLevel(level)
        found.handlers[:] = handlers
        found.propagate = propagate


@pytest.fixture
def written(untouched_logging: None) -> Written:
    """Logging is configured, and this is where it goes."""
    stream = Written()
    logs.configure("debug", stream=stream)
    return stream


@pytest.fixture
def no_tracing() -> Iterator[None]:
    yield
    tracing.shutdown()
