"""A service that is stopped or killed under load: what was acknowledged is there, the rest can be asked again."""

from __future__ import annotations

import signal
import socket
import threading
from pathlib import Path

import httpx2
import pytest

import tallystick
from tallystick.access.keys import Keyring
from tallystick.control import open_control
from tests.support.processes import wait_until
from tests.support.serve import server
from tests.support.stores import on_lasting_stores

CALLERS = 8
ACKNOWLEDGED_BEFORE = 200
"""The signal is sent once so many were acknowledged."""
SECONDS = 60
TRANSFERS = "/v1/ledgers/main/transfers"


class Load:
    """Callers who post one unit each time, each time under a new key, until they get no answer or are told to stop."""

    def __init__(self, base: str, token: str) -> None:
        self.base = base
        self.token = token
        self.acknowledged: dict[str, str] = {}
        self.open: list[str] = []
        """The keys of which nothing is known: no answer, or an answer that something may be tried again."""
        self.statuses: set[int] = set()
        self._threads = [threading.Thread(target=self._post, args=(number,)) for number in range(CALLERS)]

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        for thread in self._threads:
            thread.join(SECONDS)
            assert not thread.is_alive()

    def _post(self, caller: int) -> None:
        with httpx2.Client(base_url=self.base, timeout=SECONDS) as http:
            number = 0
            while True:
                number += 1
                key = f"{caller}-{number}"
                try:
                    answer = http.post(TRANSFERS, json=body(caller), headers=headers(self.token, key))
                except httpx2.TransportError:
                    self.open.append(key)
                    return
                self.statuses.add(answer.status_code)
                if answer.status_code != 201:
                    assert answer.json()["retryable"], answer.text
                    self.open.append(key)
                    return
                self.acknowledged[key] = answer.json()["id"]


def body(caller: int) -> dict[str, str]:
    return {"from_account": "users:alice", "to_account": f"users:{caller}", "asset": "USD/2", "amount": "1"}


def headers(token: str, key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}", "idempotency-key": key}


@on_lasting_stores
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_acknowledged_is_there_and_the_rest_can_be_asked_again(
    url: str, tmp_path: Path, end: signal.Signals
) -> None:
    with tallystick.open(url) as database:
        database.ledger("main").mint("users:alice", "USD/2", 10**9, key="funds")
    control = open_control(url)
    token, _ = Keyring(control).create("load", role="writer")
    control.close()

    with server(url, tmp_path) as first:
        load = Load(first.base, token)
        load.begin()
        wait_until(lambda: len(load.acknowledged) >= ACKNOWLEDGED_BEFORE, SECONDS, "the load")
        first.tell(end)
        load.end()
        code = first.wait()
    assert code == (0 if end is signal.SIGTERM else -signal.SIGKILL), first.log.read_text()
    assert load.statuses <= {201, 503}
    assert len(load.open) == CALLERS

    with server(url, tmp_path) as second, httpx2.Client(base_url=second.base, timeout=SECONDS) as http:
        for key, id in load.acknowledged.items():
            assert _again(http, token, key) == (id, "true")
        asked = {key: _again(http, token, key)[0] for key in load.open}
        assert {key: _again(http, token, key) for key in load.open} == {key: (id, "true") for key, id in asked.items()}
        second.tell(signal.SIGTERM)
        assert second.wait() == 0

    with tallystick.open(url) as database:
        ledger = database.ledger("main")
        posted = len(load.acknowledged) + len(load.open)
        assert sum(ledger.balance(f"users:{caller}", "USD/2") for caller in range(CALLERS)) == posted
        assert ledger.replay().ok


def _again(http: httpx2.Client, token: str, key: str) -> tuple[str, str]:
    answer = http.post(TRANSFERS, json=body(int(key.partition("-")[0])), headers=headers(token, key))
    assert answer.status_code == 201, answer.text
    return answer.json()["id"], answer.headers.get("idempotency-replayed", "")


def test_a_stopping_service_answers_what_it_accepted_and_refuses_what_comes_then(tmp_path: Path) -> None:
    """A request whose body is still on its way when the signal comes is answered; a new one is told to ask again."""
    url = str(tmp_path / "ledger.db")
    with tallystick.open(url) as database:
        database.ledger("main").mint("users:alice", "USD/2", 10**9, key="funds")
    control = open_control(url)
    token, _ = Keyring(control).create("load", role="writer")
    control.close()

    with server(url, tmp_path) as found:
        host, _, port = found.base.removeprefix("http://").partition(":")
        raw = b'{"from_account":"users:alice","to_account":"users:1","asset":"USD/2","amount":"1"}'
        head = (
            f"POST {TRANSFERS} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
            f"Idempotency-Key: slow\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n"
            "Expect: 100-continue\r\n\r\n"
        ).encode()
        with socket.create_connection((host, int(port)), SECONDS) as slow:
            slow.sendall(head)
            assert slow.recv(1_024).startswith(b"HTTP/1.1 100 ")  # it was accepted, and its body is waited for
            slow.sendall(raw[:10])
            found.tell(signal.SIGTERM)
            wait_until(lambda: _refuses(found.base), SECONDS, "the refusal")
            slow.sendall(raw[10:])
            answer = slow.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 201 "), answer
        assert found.wait() == 0
    with tallystick.open(url, read_only=True) as database:
        assert database.ledger("main").balance("users:1", "USD/2") == 1


def _refuses(base: str) -> bool:
    try:
        return httpx2.get(f"{base}/health", timeout=SECONDS).status_code == 503
    except httpx2.TransportError:
        return True
