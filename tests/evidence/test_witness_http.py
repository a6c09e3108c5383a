"""The witness on a port: the answers as HTTP has them, and clients that are slow, many or malicious."""

from __future__ import annotations

import http.client
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from tallystick.errors import Unavailable
from tallystick.evidence.http_server import MAX_REQUEST_BYTES
from tallystick.evidence.witness import encode_request
from tallystick.evidence.witness_records import WitnessRecords, hash_origin
from tallystick.evidence.witness_server import WitnessServer, WitnessService
from tallystick.journal.notes import Note, open_note
from tests.evidence.witness_support import LOG_KEY, ORIGIN, WITNESS_KEY, Log, logs_by_origin

PATIENCE_SECONDS = 20.0


@contextmanager
def serving(
    folder: Path, *, most_connections: int = 64, request_seconds: float = PATIENCE_SECONDS
) -> Iterator[WitnessServer]:
    records = WitnessRecords(folder / "witness.db")
    service = WitnessService(records, [WITNESS_KEY], logs_by_origin([LOG_KEY.verifier]))
    server = WitnessServer(service, most_connections=most_connections, request_seconds=request_seconds)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        records.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WitnessServer]:
    with serving(tmp_path) as found:
        yield found


def line_to(server: WitnessServer) -> http.client.HTTPConnection:
    host, port = server.server_address[:2]
    return http.client.HTTPConnection(str(host), int(port), timeout=PATIENCE_SECONDS)


def ask(
    line: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None
) -> tuple[int, str | None, bytes]:
    line.request(method, path, body)
    response = line.getresponse()
    return response.status, response.getheader("Content-Type"), response.read()


def speak(server: WitnessServer, *parts: bytes) -> bytes:
    """What is answered to these bytes until the witness closes."""
    with socket.create_connection(server.server_address[:2], timeout=PATIENCE_SECONDS) as line:
        for part in parts:
            line.sendall(part)
        line.shutdown(socket.SHUT_WR)
        return read_all(line)


def read_all(line: socket.socket) -> bytes:
    found = b""
    try:
        while part := line.recv(65_536):
            found += part
    except ConnectionResetError:
        pass
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---------------------------------------------------------------- answers


def test_one_connection_carries_many_requests(server: WitnessServer) -> None:
    line, log = line_to(server), Log()
    status, kind, body = ask(line, "POST", "/add-checkpoint", log.request(0, 3))
    assert (status, kind) == (200, "text/plain; charset=utf-8")
    assert re.fullmatch("— witness[.]example/w1 [A-Za-z0-9+/]{100,}=*\n", body.decode())
    open_note(Note.parse(log.note(3)).text.encode() + b"\n" + body, [WITNESS_KEY.verifier])
    used = line.sock
    assert ask(line, "POST", "/add-checkpoint", log.request(0, 5)) == (409, "text/x.tlog.size", b"3\n")
    assert ask(line, "POST", "/add-checkpoint", encode_request(3, [], log.note(5)))[0] == 422
    assert ask(line, "POST", "/add-checkpoint", encode_request(7, [], log.note(5)))[0] == 400
    assert ask(line, "POST", "/add-checkpoint", Log("else.example").request(0, 5))[0] == 404
    assert ask(line, "POST", "/add-checkpoint", log.request(3, 5))[0] == 200
    assert line.sock is used


def test_monitors_can_fetch_what_was_cosigned(server: WitnessServer) -> None:
    line = line_to(server)
    path = f"/{hash_origin(ORIGIN)}/checkpoint"
    assert ask(line, "GET", path)[0] == 404
    _, _, cosignatures = ask(line, "POST", "/add-checkpoint", Log().request(0, 3))
    status, kind, body = ask(line_to(server), "GET", path)
    assert (status, kind) == (200, "text/plain; charset=utf-8")
    assert body == Log().note(3) + cosignatures


def test_other_paths_and_methods_are_refused(server: WitnessServer) -> None:
    for method, path, expected in [
        ("GET", "/", 404),
        ("GET", "/add-checkpoint", 405),
        ("GET", f"/{hash_origin(ORIGIN).upper()}/checkpoint", 404),
        ("POST", "/sign-subtree", 404),
        ("POST", "/add-checkpoint/", 404),
        ("PUT", "/add-checkpoint", 501),
    ]:
        assert ask(line_to(server), method, path, b"")[0] == expected, (method, path)


# ---------------------------------------------------------------- bodies


def test_a_body_in_chunks_is_read(server: WitnessServer) -> None:
    request = Log().request(0, 3)
    line = line_to(server)
    line.request("POST", "/add-checkpoint", iter([request[:10], request[10:]]), encode_chunked=True)
    assert line.getresponse().status == 200


def test_a_body_that_is_too_long_is_refused(server: WitnessServer) -> None:
    assert ask(line_to(server), "POST", "/add-checkpoint", b"x" * MAX_REQUEST_BYTES)[0] == 400
    assert ask(line_to(server), "POST", "/add-checkpoint", b"x" * (MAX_REQUEST_BYTES + 1))[0] == 413
    line = line_to(server)
    line.request("POST", "/add-checkpoint", iter([b"x" * MAX_REQUEST_BYTES, b"x"]), encode_chunked=True)
    assert line.getresponse().status == 413


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (b"", b"411"),
        (b"Content-Length: -1\r\n", b"400"),
        (b"Content-Length: 1e3\r\n", b"400"),
        (b"Content-Length: 99999999999\r\n", b"400"),
        (b"Content-Length: 4\r\nContent-Length: 4\r\n", b"400"),
        (b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"400"),
        (b"Transfer-Encoding: gzip\r\n", b"400"),
        (b"Transfer-Encoding: chunked\r\n", b"400"),
        (b"Content-Length: 100\r\n", b"400"),
    ],
)
def test_a_body_of_unclear_length_is_refused(server: WitnessServer, headers: bytes, expected: bytes) -> None:
    answer = speak(server, b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\n" + headers + b"\r\nold 0\n")
    assert answer.startswith(b"HTTP/1.1 " + expected)
    assert answer.count(b"HTTP/1.1") == 1  # what is left is not read as a second request


# ---------------------------------------------------------------- slow and many


@pytest.mark.parametrize(
    "begun", [b"", b"POST /add-check", b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 9\r\n\r\nold"]
)
def test_a_client_that_stops_is_cut_off(tmp_path: Path, begun: bytes) -> None:
    with (
        serving(tmp_path, request_seconds=0.2) as server,
        socket.create_connection(server.server_address[:2], timeout=PATIENCE_SECONDS) as line,
    ):
        line.sendall(begun)
        assert b"200" not in read_all(line)


def test_a_client_that_drips_is_cut_off(tmp_path: Path) -> None:
    """Each byte comes soon after the one before; the request as a whole takes too long."""
    with (
        serving(tmp_path, request_seconds=0.4) as server,
        socket.create_connection(server.server_address[:2], timeout=PATIENCE_SECONDS) as line,
    ):
        line.sendall(b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")

        def cut() -> bool:
            try:
                line.send(b"x")
            except OSError:
                return True
            return False

        wait_until(cut)


def test_connections_beyond_the_limit_are_turned_away_and_the_rest_are_served(tmp_path: Path) -> None:
    with serving(tmp_path, most_connections=2) as server:
        address = server.server_address[:2]
        idle = [socket.create_connection(address, timeout=PATIENCE_SECONDS) for _ in range(2)]
        try:
            turned_away = speak(server, b"")
            assert turned_away.startswith(b"HTTP/1.1 503 ")
            assert b"Retry-After" in turned_away
        finally:
            for line in idle:
                line.close()
        wait_until(lambda: served(server))


def test_silent_connections_lose_their_places(tmp_path: Path) -> None:
    with serving(tmp_path, most_connections=2, request_seconds=0.3) as server:
        idle = [socket.create_connection(server.server_address[:2], timeout=PATIENCE_SECONDS) for _ in range(2)]
        wait_until(lambda: served(server))
        for line in idle:
            line.close()


def served(server: WitnessServer) -> bool:
    try:
        return ask(line_to(server), "POST", "/add-checkpoint", Log().request(0, 3))[0] in (200, 409)
    except (OSError, http.client.HTTPException):
        return False


def test_a_port_in_use_is_reported(server: WitnessServer) -> None:
    with pytest.raises(Unavailable):
        WitnessServer(server.service, port=int(server.server_address[1]))


def test_a_record_that_cannot_be_kept_is_no_cosignature(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.service._records.close()
        status, _, body = ask(line_to(server), "POST", "/add-checkpoint", Log().request(0, 3))
        assert status == 503
        assert "—".encode() not in body
