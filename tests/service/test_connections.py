"""Connections: how long, how large and how many, before anybody has shown a key."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from tallystick.service import connections
from tallystick.service.connections import GuardedProtocol, most_connections
from tests.support.processes import wait_until

SECONDS = 20
LARGE = 16 * 1_048_576


class Guarded(GuardedProtocol):
    """The same, sooner."""

    head_seconds = 0.3
    head_bytes = 4_096
    stall_seconds = 0.2
    most = 20


class Echo:
    """Answers with the names of the headers it got, or with much; ``under_way`` counts what is being answered."""

    def __init__(self) -> None:
        self.under_way = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.under_way += 1
        try:
            while (message := await receive()).get("more_body"):
                pass
            assert message["type"] == "http.request"
            body = b" ".join(sorted(name for name, _ in scope["headers"]))
            if scope["path"] == "/large":
                body = b"x" * LARGE
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
            )
            for start in range(0, len(body), 65_536):
                await send({"type": "http.response.body", "body": body[start : start + 65_536], "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self.under_way -= 1


class Listening:
    """A server that listens with the guarded protocol."""

    def __init__(self, server: uvicorn.Server, echo: Echo) -> None:
        self.server = server
        self.echo = echo
        self.address = server.servers[0].sockets[0].getsockname()

    @contextlib.contextmanager
    def connected(self) -> Iterator[socket.socket]:
        with socket.create_connection(self.address, timeout=SECONDS) as found:
            yield found

    def raw(self, *pieces: bytes) -> bytes:
        with self.connected() as connection:
            for piece in pieces:
                with contextlib.suppress(ConnectionError):
                    connection.sendall(piece)
            return everything(connection)

    @property
    def open(self) -> int:
        return len(self.server.server_state.connections)


def everything(connection: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65_536):
            found += piece
    return found


@pytest.fixture(scope="module")
def listening() -> Iterator[Listening]:
    echo = Echo()
    server = uvicorn.Server(
        uvicorn.Config(echo, port=0, log_config=None, access_log=False, lifespan="off", ws="none", http=Guarded)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, SECONDS, "the server's start")
    yield Listening(server, echo)
    server.should_exit = True
    thread.join(SECONDS)


GET = b"GET / HTTP/1.1\r\nHost: x\r\n"


def test_a_plain_request_is_answered_and_so_is_the_next_one(listening: Listening) -> None:
    with listening.connected() as connection:
        for _ in range(3):
            connection.sendall(GET + b"\r\n")
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        connection.sendall((GET + b"\r\n") * 3 + GET + b"Connection: close\r\n\r\n")
        assert everything(connection).count(b"HTTP/1.1 200") == 4


@pytest.mark.parametrize("first", [b"", b"\r\n", b"G", GET, GET + b"X: " + b"y" * 100], ids=range(5))
def test_a_head_that_does_not_come_is_not_waited_for(listening: Listening, first: bytes) -> None:
    began = time.monotonic()
    assert listening.raw(first) == b""
    assert Guarded.head_seconds * 0.9 <= time.monotonic() - began < SECONDS / 2
    wait_until(lambda: listening.open == 0, SECONDS, "the end of the connection")


def test_nor_is_the_next_one_of_a_connection_that_had_one(listening: Listening) -> None:
    assert listening.raw(GET + b"\r\n" + GET).count(b"HTTP/1.1") == 1
    with listening.connected() as connection:
        connection.sendall(GET + b"\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"\r\n")  # which ends the server's own patience, and begins nothing
        assert everything(connection) == b""


def test_a_head_that_drips_is_not_waited_for(listening: Listening) -> None:
    deadline = time.monotonic() + SECONDS
    with listening.connected() as connection, contextlib.suppress(ConnectionError):
        connection.sendall(GET)
        connection.settimeout(0.02)
        while time.monotonic() < deadline:
            connection.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                assert connection.recv(1) == b""
                return
    assert time.monotonic() < deadline


def test_a_head_of_the_limit_is_taken_and_a_larger_one_is_not(listening: Listening) -> None:
    most = Guarded.head_bytes
    start, end = GET + b"Connection: close\r\nX: ", b"\r\n\r\n"
    room = most - len(start) - len(end)
    assert listening.raw(start + b"y" * room + end).startswith(b"HTTP/1.1 200")
    assert listening.raw(start + b"y" * (most + 1) + end).startswith(b"HTTP/1.1 400")
    assert listening.raw(start + b"y" * (most + 1)).startswith(b"HTTP/1.1 431")
    many = b"".join(b"X-%d: y\r\n" % number for number in range(most // 4))
    assert listening.raw(GET + many)[:12] in (b"HTTP/1.1 431", b"HTTP/1.1 400", b"")


def test_a_head_without_an_end_takes_no_memory(listening: Listening) -> None:
    with listening.connected() as connection, contextlib.suppress(ConnectionError):
        connection.sendall(GET + b"X: ")
        for _ in range(1_000):
            connection.sendall(b"y" * 65_536)
        pytest.fail("64 MiB of one header were taken")


def test_large_bodies_are_no_heads(listening: Listening) -> None:
    body = b"z" * (Guarded.head_bytes * 40)
    asked = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert listening.raw(asked, body).startswith(b"HTTP/1.1 200")
    assert listening.raw(asked + body).startswith(b"HTTP/1.1 200")


def test_what_stands_behind_a_body_is_no_header(listening: Listening) -> None:
    asked = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = listening.raw(asked + b"1\r\nz\r\n0\r\nAuthorization: Bearer x\r\nX-Late: y\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"connection host transfer-encoding")


def test_a_reader_who_takes_nothing_is_cut_off(listening: Listening) -> None:
    with listening.connected() as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: listening.echo.under_way == 1, SECONDS, "the beginning of the answer")
        wait_until(lambda: listening.open == 0, SECONDS, "the end of the connection")
        wait_until(lambda: listening.echo.under_way == 0, SECONDS, "the end of the answer")


def test_a_reader_who_takes_it_slowly_gets_all_of_it(listening: Listening) -> None:
    """For longer than anyone may take nothing."""
    began, found = time.monotonic(), 0
    with listening.connected() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while piece := connection.recv(524_288):
            found += len(piece)
            if time.monotonic() - began < Guarded.stall_seconds * 3:
                time.sleep(0.01)
    assert found > LARGE


def test_too_many_connections_are_refused_and_the_others_go_on(listening: Listening) -> None:
    wait_until(lambda: listening.open == 0, SECONDS, "the end of all connections")
    found = [socket.create_connection(listening.address, timeout=SECONDS) for _ in range(Guarded.most)]
    try:
        for connection in found:
            connection.sendall(GET + b"\r\n")
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        assert listening.raw().startswith(b"HTTP/1.1 503")
        found[0].sendall(GET + b"\r\n")
        assert found[0].recv(65_536).startswith(b"HTTP/1.1 200")
    finally:
        for connection in found:
            connection.close()
    wait_until(lambda: listening.open == 0, SECONDS, "the end of all connections")
    assert listening.raw(GET + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("files", "most"),
    [(1_024, 768), (1_048_576, connections.MAX_CONNECTIONS), (-1, connections.MAX_CONNECTIONS), (1, 1)],
)
def test_file_descriptors_are_left_for_the_service_itself(
    monkeypatch: pytest.MonkeyPatch, files: int, most: int
) -> None:
    monkeypatch.setattr(connections.resource, "getrlimit", lambda _: (files, files))
    assert most_connections() == most
