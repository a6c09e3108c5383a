"""`tally serve` as its operator sees it: what keeps it from starting, and what it goes on through."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

import tallystick
from tallystick.access.keys import REVOKED_WITHIN_SECONDS, Keyring
from tallystick.control import open_control
from tests.support.postgres import HASTY
from tests.support.postgres import Server as Postgres
from tests.support.processes import wait_until
from tests.support.serve import PROGRAM, Server, server
from tests.support.stores import on_files

SECONDS = 60
PATIENCE_SECONDS = 9
"""In which an answer is given also while the database is away."""
TRANSFERS = "/v1/ledgers/main/transfers"
PAY = {"from_account": "users:alice", "to_account": "users:bob", "asset": "USD/2", "amount": "1"}
INTERNAL = ("sqlite", "postgres", "psycopg", "127.0.0.1", "traceback", "disk", "/tmp", ".db")
"""Nothing of this is any caller's business."""


def prepared(url: str) -> str:
    """Make a ledger with funds at a place; the token of someone who may write it."""
    with tallystick.open(url) as database:
        database.ledger("main").mint("users:alice", "USD/2", 10**9, key="funds")
    control = open_control(url)
    token, _ = Keyring(control).create("load", role="writer")
    control.close()
    return token


def tally(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=SECONDS, check=False, **more)


def refused(*words: str, code: int, **more: Any) -> str:
    """What is said by a service that does not start."""
    done = tally(*words, **more)
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stdout == ""
    return done.stderr


@contextlib.contextmanager
def caller(found: Server, token: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=found.base, headers={"authorization": f"Bearer {token}"}, timeout=SECONDS) as http:
        yield http


def pay(http: httpx2.Client, key: str) -> httpx2.Response:
    return http.post(TRANSFERS, json=PAY, headers={"idempotency-key": key})


def check_says_nothing(answer: httpx2.Response, *more: str) -> None:
    """A problem that may pass, and that tells a caller nothing of what stands behind the service."""
    problem = answer.json()
    assert answer.status_code == 503, answer.text
    assert problem["retryable"]
    assert answer.headers["retry-after"]
    assert not [word for word in (*INTERNAL, *more) if word in answer.text.lower()], answer.text


# ---------------------------------------------------------------- what keeps it from starting


@on_files
def test_it_does_not_start_where_no_ledger_was_made_and_makes_none(url: str) -> None:
    assert "tally create" in refused("-f", url, "serve", code=3)
    assert not Path(url).exists()


@on_files
def test_it_does_not_start_at_an_address_that_cannot_be_listened_at(url: str) -> None:
    prepared(url)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused("-f", url, "serve", "--port", str(port), code=2)
        assert f"--port: http://127.0.0.1:{port}" in said
        assert "in use" in said
    assert "--host" in refused("-f", url, "serve", "--host", "192.0.2.1", code=2)
    assert "--host" in refused("-f", url, "serve", "--host", "no host", code=2)
    assert "--port" in refused("-f", url, "serve", "--port", "65536", code=2)


@on_files
def test_it_does_not_start_on_a_file_that_is_no_ledger(url: str) -> None:
    Path(url).write_text("a text\n" * 100)
    assert "not a Tallystick file" in refused("-f", url, "serve", "--port", "0", code=3)
    assert Path(url).read_text().startswith("a text")


@on_files
def test_it_does_not_start_with_a_folder_of_logs_that_cannot_be_read(url: str, tmp_path: Path) -> None:
    prepared(url)
    for home in (tmp_path / "none", Path(url)):
        assert "--log-home" in refused("-f", url, "serve", "--port", "0", "--log-home", str(home), code=2)


@on_files
def test_it_does_not_start_with_settings_that_can_let_nobody_in(url: str) -> None:
    prepared(url)
    serve = ("-f", url, "serve", "--port", "0")
    assert "--oidc-issuer" in refused(*serve, "--oidc-issuer", "http://id.example", code=2)
    assert "--oidc-audience" in refused(*serve, "--oidc-issuer", "https://id.example", code=2)
    assert "--traces" in refused(*serve, "--traces", "id.example", code=2)


@on_files
def test_without_its_extra_it_says_which_one_it_takes(url: str) -> None:
    prepared(url)
    program = "import sys; sys.modules['litestar'] = None; from tallystick.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, "-f", url, "serve", "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 2
    assert "pip install 'tallystick[service]'" in done.stderr
    assert "Traceback" not in done.stderr


@on_files
def test_a_second_server_on_one_file_does_not_start_and_leaves_the_first_alone(url: str, tmp_path: Path) -> None:
    token = prepared(url)
    with server(url, tmp_path) as found, caller(found, token) as http:
        said = refused("-f", url, "serve", "--port", "0", code=3)
        assert f"process {found.process.pid}" in said
        assert pay(http, "order-1").status_code == 201
        assert tally("-f", url, "mint", "users:alice", "1.00", "USD/2").returncode == 3
        assert tally("-f", url, "balances", "users:bob").returncode == 0  # reading is for anyone


@on_files
def test_a_command_that_is_just_writing_the_file_is_waited_for(url: str, tmp_path: Path) -> None:
    prepared(url)
    database = tallystick.open(url)
    database.ledger("main").mint("users:alice", "USD/2", 1, key="more")
    closing = threading.Timer(1.0, database.close)
    closing.start()
    with server(url, tmp_path) as found:
        assert httpx2.get(f"{found.base}/ready").is_success
    closing.join()


def test_it_does_not_start_without_its_database_and_keeps_the_password_to_itself() -> None:
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    said = refused("-f", f"postgresql://writer:geheim@127.0.0.1:{port}/books", "serve", "--port", "0", code=3)
    assert "did not answer" in said
    assert "geheim" not in said
    assert time.monotonic() - began < SECONDS


def test_the_help_names_every_option_and_how_to_begin() -> None:
    said = tally("serve", "--help").stdout
    for word in ("--host", "--port", "--no-jobs", "--log-home", "tally keys create", "SIGTERM", "PostgreSQL"):
        assert word in said
    assert max(map(len, said.splitlines())) <= 100


# ---------------------------------------------------------------- a database that goes away


def test_while_its_database_is_away_it_says_so_and_it_recovers_by_itself(tmp_path: Path) -> None:
    with Postgres(settings=HASTY) as postgres:
        postgres.init().start()
        url = postgres.dsn().replace("postgres@", "postgres:geheim@")
        assert "geheim" in url
        token = prepared(url)
        with server(url, tmp_path, options=()) as found, caller(found, token) as http:
            assert pay(http, "order-0").status_code == 201
            assert http.get("/ready").is_success

            postgres.stop("immediate")
            time.sleep(REVOKED_WITHIN_SECONDS)  # by then nobody is let in without a look at his key
            began = time.monotonic()
            for answer in (http.get("/ready"), pay(http, "order-1"), http.get("/v1/ledgers/main/accounts")):
                check_says_nothing(answer, "geheim")
            assert time.monotonic() - began < 3 * PATIENCE_SECONDS
            assert http.get("/health").is_success

            postgres.start()
            wait_until(lambda: http.get("/ready").is_success, SECONDS, "readiness")
            wait_until(lambda: pay(http, "order-1").status_code == 201, SECONDS, "a posting")
            assert pay(http, "order-1").headers["idempotency-replayed"] == "true"
            balances = http.get("/v1/ledgers/main/balances", params={"account": "users:bob"}).json()["balances"]
            assert [balance["amount"] for balance in balances] == ["2"]
            found.tell(signal.SIGTERM)
            assert found.wait() == 0
        assert "geheim" not in found.log.read_text()
        assert "geheim" not in (tmp_path / "serve.out").read_text()


def test_it_can_be_stopped_while_its_database_is_away(tmp_path: Path) -> None:
    with Postgres(settings=HASTY) as postgres:
        postgres.init().start()
        token = prepared(postgres.dsn())
        with server(postgres.dsn(), tmp_path, options=("--no-jobs",)) as found, caller(found, token) as http:
            assert pay(http, "order-0").status_code == 201
            postgres.stop("immediate")
            time.sleep(REVOKED_WITHIN_SECONDS)
            check_says_nothing(pay(http, "order-1"))
            found.tell(signal.SIGTERM)
            assert found.wait() == 0


# ---------------------------------------------------------------- a full disk


@on_files
def test_on_a_full_disk_nothing_acknowledged_is_lost_and_it_goes_on_when_there_is_room(
    url: str, tmp_path: Path
) -> None:
    """The process may not make any file larger than its log of writes is now, as on a disk without room."""
    token = prepared(url)
    with server(url, tmp_path, options=("--no-jobs", "--no-access-log")) as found, caller(found, token) as http:
        acknowledged = {f"before-{number}" for number in range(50) if pay(http, f"before-{number}").is_success}
        wal = Path(f"{url}-wal")
        soft, hard = resource.prlimit(found.process.pid, resource.RLIMIT_FSIZE)
        room = max(wal.stat().st_size, Path(url).stat().st_size) + 20_000
        resource.prlimit(found.process.pid, resource.RLIMIT_FSIZE, (room, hard))

        refusals = 0
        for number in range(500):
            answer = pay(http, f"full-{number}")
            if answer.status_code == 201:
                acknowledged.add(f"full-{number}")
                continue
            check_says_nothing(answer)
            refusals += 1
            if refusals == 5:
                break
        assert refusals == 5
        assert http.get("/v1/ledgers/main/balances", params={"account": "users:bob"}).is_success
        assert http.get("/health").is_success

        resource.prlimit(found.process.pid, resource.RLIMIT_FSIZE, (soft, hard))
        wait_until(lambda: pay(http, f"full-{number}").status_code == 201, SECONDS, "room")
        acknowledged.add(f"full-{number}")
        for key in acknowledged:
            assert pay(http, key).headers["idempotency-replayed"] == "true"
        found.tell(signal.SIGTERM)
        assert found.wait() == 0

    with tallystick.open(url, read_only=True) as database:
        ledger = database.ledger("main")
        keys = {event.key for event in ledger.events(-1, 1_000)}
        assert acknowledged <= keys
        assert ledger.replay().ok


# ---------------------------------------------------------------- many who only hold on

IDLE = 2_000
MOST_MEGABYTES = 60
"""For so many connections, on each of which something was asked before."""


@on_files
def test_two_thousand_idle_connections_cost_little_and_keep_nobody_out(url: str, tmp_path: Path) -> None:
    token = prepared(url)
    _allow_files(IDLE + 500)
    with server(url, tmp_path, options=("--no-jobs", "--no-access-log")) as found, caller(found, token) as http:
        assert pay(http, "order-0").status_code == 201
        host, _, port = found.base.removeprefix("http://").partition(":")
        before = _resident_megabytes(found)
        request = f"GET /v1/ledgers HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        with contextlib.ExitStack() as stack:
            for _ in range(IDLE):
                line = stack.enter_context(socket.create_connection((host, int(port)), SECONDS))
                line.sendall(request)
                assert line.recv(65_536).startswith(b"HTTP/1.1 200 ")
            assert pay(http, "order-1").status_code == 201
            assert _resident_megabytes(found) - before < MOST_MEGABYTES
            found.tell(signal.SIGTERM)  # nobody who only holds on keeps it from stopping
            assert found.wait() == 0


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
    if min(count, hard) < count:
        pytest.skip(f"this system lets nobody open {count} files")


def _resident_megabytes(found: Server) -> float:
    pages = int(Path(f"/proc/{found.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
