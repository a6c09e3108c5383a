"""What tests of deliveries begin with: a ledger, its records, an endpoint, and a deliverer that may reach this
machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tallystick
from tallystick import commands as c
from tallystick.control import Control, open_control
from tallystick.control.records import Endpoint
from tallystick.delivery.engine import Deliverer
from tallystick.delivery.ladder import IMMEDIATE, Ladder
from tallystick.delivery.operations import new_endpoint
from tallystick.ledger import Ledger

USD = "USD/2"
QUICK = Ladder(waits=(0.0, 0.02, 0.05, 0.1), jitter=0.0)


class Scene:
    """A database with one ledger, ``main``, and the records beside it."""

    def __init__(self, url: str = "memory://") -> None:
        self.url = url
        self.database = tallystick.open(url)
        self.control: Control = open_control(url)
        self.ledger: Ledger = self.database.ledger("main")

    def fund(self, accounts: int, amount: int = 1_000_000) -> int:
        """Open some accounts with money, ``users:0`` and on; the number of the next event."""
        self.ledger.post_many(
            [
                c.Post(type="mint", legs=(c.Leg("@issuance", f"users:{i}", USD, amount),), key=f"fund {i}")
                for i in range(accounts)
            ]
        )
        return self.ledger.head.seq

    def pay(self, *pairs: tuple[int, int]) -> list[int]:
        """Payments from user to user; their numbers."""
        first = self.ledger.head.seq
        posted = self.ledger.post_many(
            [
                c.Transfer(
                    from_account=f"users:{a}", to_account=f"users:{b}", asset=USD, amount=1, key=f"pay {first + i}"
                )
                for i, (a, b) in enumerate(pairs)
            ]
        )
        return [one.seq for one in posted]  # type: ignore[union-attr]

    def endpoint(self, url: str, **more: Any) -> Endpoint:
        """An endpoint of everything that comes from now on, unless a start is given."""
        more.setdefault("start", self.ledger.head.seq)
        endpoint = new_endpoint(ledger="main", url=url, allow_private=True, **more)
        self.control.add_endpoint(endpoint)
        return endpoint

    def deliverer(self, **more: Any) -> Deliverer:
        more = {"ladder": IMMEDIATE, "allow_private": True, "look_seconds": 0.01, **more}
        return Deliverer(self.database, self.control, **more)

    def close(self) -> None:
        self.database.close()
        self.control.close()


@contextmanager
def running(deliverer: Deliverer) -> Iterator[Callable[[], None]]:
    """A deliverer at work; what is given back stops it and waits for its end."""
    stop = threading.Event()
    thread = threading.Thread(target=deliverer.run, args=(stop,), daemon=True)
    thread.start()

    def end() -> None:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()

    try:
        yield end
    finally:
        end()
