"""Records for tests: with what matters to a test, and something plain for the rest."""

from __future__ import annotations

from typing import Any

from tallystick.clock import add_seconds
from tallystick.control import ApiKey, Attempt, Delivery, Endpoint

NOON = "2026-11-21T12:00:00.000000Z"


def later(seconds: float) -> str:
    return add_seconds(NOON, seconds)


def key(id: str = "k", subject: str = "shop", **more: Any) -> ApiKey:
    return ApiKey(id=id, secret_hash="0" * 64, subject=subject, **more)


def endpoint(id: str = "e", ledger: str = "shop", **more: Any) -> Endpoint:
    return Endpoint(id=id, ledger=ledger, **more)


def delivery(seq: int, endpoint: str = "e", **more: Any) -> Delivery:
    return Delivery(endpoint=endpoint, seq=seq, **more)


def attempt(seq: int, number: int = 1, time: str = NOON, endpoint: str = "e", **more: Any) -> Attempt:
    return Attempt(endpoint=endpoint, seq=seq, number=number, time=time, **more)


def numbers(deliveries: list[Delivery]) -> list[int]:
    return [found.seq for found in deliveries]
