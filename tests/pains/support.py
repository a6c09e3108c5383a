"""Many users at once, each with a connection of his own, and what must be true of the books when they have done."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import httpx2

import tallystick
from tests.support.service import REQUEST_SECONDS, Caller, Served

MAIN = "/v1/ledgers/main"
USD = "USD/2"
SECONDS = 60
"""What a crowd gets to be answered; it takes a second or two."""

Answer = TypeVar("Answer")


class Teller(Caller):
    """A caller of whom there are many: it makes no TLS context, which takes longer than all that it asks."""

    def __init__(self, base: str, token: str) -> None:
        self.token = token
        headers = {"authorization": f"Bearer {token}"}
        self.http = httpx2.Client(base_url=base, headers=headers, timeout=REQUEST_SECONDS, verify=False)


class Crowd(AbstractContextManager["Crowd"]):
    """The users of some services that serve the same ledgers."""

    def __init__(self, url: str, fronts: list[Served]) -> None:
        self.url = url
        self.fronts = fronts
        self._tellers: list[Teller] = []
        self.admins = [self.teller(index) for index in range(len(fronts))]

    @property
    def is_postgres(self) -> bool:
        return self.url.startswith("postgresql:")

    @property
    def admin(self) -> Teller:
        """Somebody at the first service who may do everything."""
        return self.admins[0]

    @property
    def ledger(self) -> Any:
        return self.fronts[0].ledger

    def teller(self, number: int) -> Teller:
        """One more connection, to the services in turn; all come with one key, so they share their idempotency keys."""
        found = Teller(self.fronts[number % len(self.fronts)].base, self.fronts[0].admin.token)
        self._tellers.append(found)
        return found

    def at_once(self, size: int, act: Callable[[Teller, int], Answer]) -> list[Answer]:
        """What each of so many users gets, who all begin in the same moment. Fails if they are not answered in time."""
        tellers = [self.teller(number) for number in range(size)]
        start = threading.Barrier(size)
        found: dict[int, Answer] = {}
        failed: list[BaseException] = []

        def run(number: int) -> None:
            try:
                start.wait(SECONDS)
                found[number] = act(tellers[number], number)
            except BaseException as error:  # it is raised where it is seen
                failed.append(error)

        threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        if failed:
            raise failed[0]
        assert len(found) == size, f"{size - len(found)} of {size} were not answered within {SECONDS} s"
        return [found[number] for number in range(size)]

    def check_books(self) -> None:
        """Everything adds up: for those who serve it, and for somebody else who reads the whole journal."""
        with tallystick.open(self.url, read_only=True) as database:
            for name in database.ledgers():
                ledger = database.ledger(name)
                report = ledger.replay()
                assert report.ok, report.findings
                assert ledger.trial_balance().is_balanced
        for admin in self.admins:
            found = admin.get(f"{MAIN}/trial-balance").json()
            assert found["balanced"]
            assert all(row["account"].startswith("@") for row in found["rows"] if row["debit"] != "0"), found["rows"]

    def __exit__(self, *exception: object) -> None:
        for teller in self._tellers:
            teller.http.close()


def pay(amount: int = 1, payer: str = "users:alice", payee: str = "users:bob", **more: Any) -> dict[str, Any]:
    """The body of a transfer."""
    return {"from_account": payer, "to_account": payee, "asset": USD, "amount": str(amount), **more}


def transfer(amount: int = 1, payer: str = "users:alice", payee: str = "users:bob", **more: Any) -> dict[str, Any]:
    """A transfer as a command of a batch."""
    return {"command": "transfer", **pay(amount, payer, payee), **more}


def balance(caller: Caller, account: str, bucket: str = "available", asset: str = USD, **more: Any) -> int:
    """What stands in a bucket."""
    answer = caller.get(f"{MAIN}/balances", account=account, asset=asset, bucket=bucket, **more)
    assert answer.status_code == 200, answer.text
    found = answer.json()["balances"]
    return int(found[0]["amount"]) if found else 0


def hold(caller: Caller, amount: int, account: str = "users:alice", **more: Any) -> str:
    """The number of a new hold, as paths name it."""
    body = {"account": account, "asset": USD, "amount": str(amount), **more}
    return str(caller.done(f"{MAIN}/holds", body)["seq"])


def statuses(answers: list[httpx2.Response]) -> Counter[tuple[int, str]]:
    """How many answers were what: the status, and a problem's code."""
    return Counter((answer.status_code, answer.json().get("code", "")) for answer in answers)
