"""Handing out a published log: what is served, to whom, with what headers, and nothing else."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from tallystick.errors import InvalidInput, KeyFileUnsafe, Unavailable
from tallystick.evidence.publications import DirectoryPublication, publish
from tallystick.evidence.serving import LogFiles, TileServer, load_token
from tallystick.journal.checkpoints import Checkpoint, open_checkpoint, sign_checkpoint
from tallystick.journal.merkle import hash_leaf, root_of
from tallystick.journal.tiles import WIDTH, Bundle, Tile, decode_bundle, encode_bundle
from tests.evidence.witness_support import LOG_KEY, ORIGIN

TOKEN = "a-token-for-tests-0123456789"
SIZE = 300
PATIENCE_SECONDS = 20.0
FOR_EVER = "max-age=31536000, immutable"

BODIES = [b"event %d of the log" % number for number in range(SIZE)]
LEAVES = [hash_leaf(body) for body in BODIES]


def tiles(wanted: list[Tile]) -> list[bytes]:
    rows = [LEAVES, [root_of(LEAVES[:WIDTH])]]
    return [b"".join(rows[tile.level][tile.number * WIDTH :][: tile.width]) for tile in wanted]


def bundles(wanted: list[Bundle]) -> list[bytes]:
    return [encode_bundle(BODIES[item.number * WIDTH :][: item.width]) for item in wanted]


def published(folder: Path, entries: Path | None = None) -> LogFiles:
    note = sign_checkpoint(Checkpoint(ORIGIN, SIZE, root_of(LEAVES)), LOG_KEY)
    place = DirectoryPublication(folder)
    private = DirectoryPublication(entries) if entries else None
    publish(place, note, keys=[LOG_KEY.verifier], tiles=tiles, bundles=bundles, entries=private)  # type: ignore[arg-type]
    return LogFiles(place, private, TOKEN if entries else "")


@contextmanager
def serving(files: LogFiles, **more: Any) -> Iterator[TileServer]:
    server = TileServer(files, **more)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def public(tmp_path: Path) -> Iterator[TileServer]:
    with serving(published(tmp_path / "log")) as server:
        yield server


@pytest.fixture
def private(tmp_path: Path) -> Iterator[TileServer]:
    with serving(published(tmp_path / "log", tmp_path / "entries")) as server:
        yield server


def ask(
    server: TileServer, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    host, port = server.server_address[:2]
    line = http.client.HTTPConnection(str(host), int(port), timeout=PATIENCE_SECONDS)
    try:
        line.request(method, path, headers=headers or {})
        answer = line.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        line.close()


def with_token(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# ---------------------------------------------------------------- what is served


def test_a_checkpoint_is_text_that_is_not_cached_for_long(public: TileServer) -> None:
    status, headers, body = ask(public, "/checkpoint")
    assert status == 200
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["cache-control"] == "public, max-age=2"
    assert open_checkpoint(body, [LOG_KEY.verifier])[0].size == SIZE


def test_tiles_entries_and_old_checkpoints_are_served_for_ever(public: TileServer) -> None:
    for path, expected, kind in [
        ("/tile/0/000", b"".join(LEAVES[:WIDTH]), "application/octet-stream"),
        ("/tile/0/001.p/44", b"".join(LEAVES[WIDTH:]), "application/octet-stream"),
        ("/tile/1/000.p/1", root_of(LEAVES[:WIDTH]), "application/octet-stream"),
        ("/tile/entries/001.p/44", encode_bundle(BODIES[WIDTH:]), "application/octet-stream"),
        (f"/checkpoints/{SIZE}", ask(public, "/checkpoint")[2], "text/plain; charset=utf-8"),
    ]:
        status, headers, body = ask(public, path)
        assert (status, body) == (200, expected), path
        assert headers["content-type"] == kind
        assert headers["cache-control"] == f"public, {FOR_EVER}"


def test_keys_and_policy_are_served_if_they_are_there(public: TileServer, tmp_path: Path) -> None:
    for path in ("log.vkey", "keys/example.com_log.vkey", "policy"):
        assert ask(public, f"/{path}")[0] == 404
        (tmp_path / "log" / path).parent.mkdir(exist_ok=True)
        (tmp_path / "log" / path).write_text(path)
        assert ask(public, f"/{path}")[2] == path.encode()


def test_bundles_are_compressed_for_who_takes_it(public: TileServer) -> None:
    plain = encode_bundle(BODIES[:WIDTH])
    for accept in ("gzip", "deflate, GZIP;q=0.5", "br;q=1.0, gzip;q=1", "x-gzip"):
        _, headers, body = ask(public, "/tile/entries/000", {"Accept-Encoding": accept})
        assert headers["content-encoding"] == "gzip", accept
        assert headers["vary"] == "Accept-Encoding"
        assert len(body) < len(plain)
        assert decode_bundle(gzip.decompress(body), WIDTH) == BODIES[:WIDTH]
    for accept in ("", "identity", "gzip;q=0", "gzip; q=0.000", "notgzip", "br"):
        _, headers, body = ask(public, "/tile/entries/000", {"Accept-Encoding": accept})
        assert "content-encoding" not in headers, accept
        assert body == plain
    assert "content-encoding" not in ask(public, "/tile/0/000", {"Accept-Encoding": "gzip"})[1]


def test_head_gives_the_headers_alone(public: TileServer) -> None:
    status, headers, body = ask(public, "/tile/0/000", method="HEAD")
    assert (status, headers["content-length"], body) == (200, "8192", b"")
    assert ask(public, "/nothing", method="HEAD")[::2] == (404, b"")


def test_one_connection_carries_many_requests(public: TileServer) -> None:
    host, port = public.server_address[:2]
    line = http.client.HTTPConnection(str(host), int(port), timeout=PATIENCE_SECONDS)
    line.connect()
    used = line.sock
    for path in ("/checkpoint", "/tile/0/000", "/checkpoint"):
        line.request("GET", path)
        assert len(line.getresponse().read()) > 100
    assert line.sock is used
    line.close()


def test_what_was_published_meanwhile_is_found(tmp_path: Path) -> None:
    with serving(LogFiles(DirectoryPublication(tmp_path / "log"))) as server:
        status, headers, _ = ask(server, "/checkpoint")
        assert (status, headers["cache-control"]) == (404, "no-store")
        published(tmp_path / "log")
        assert ask(server, "/checkpoint")[0] == 200


# ---------------------------------------------------------------- nothing else is


SECRET = b"nobody is to see this"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "///checkpoint/",
        "checkpoint",
        "/checkpoint/",
        "/checkpoint?x",
        "/Checkpoint",
        "/%63heckpoint",
        "/../secret",
        "/tile/../../secret",
        "/tile/0/../../../secret",
        "/tile/%2e%2e/%2e%2e/secret",
        "/checkpoints/../checkpoint",
        "/checkpoints/0300",
        "/checkpoints/-1",
        "/checkpoints/99999999999999999999",
        "/checkpoints/",
        "/.lock",
        "/.new/0",
        "/.new",
        "/keys/.hidden.vkey",
        "/keys/../secret.vkey",
        "/keys/a/b.vkey",
        "/keys/secret",
        "/secret",
        "/manifest.json",
        "/openings.jsonl",
        "/opening.json",
        "/tile/0/0",
        "/tile/0/000.p/0",
        "/tile/0/000.p/256",
        "/tile/00/000",
        "/tile/64/000",
        "/tile/0/x000/000",
        "/tile/0/999",
        "/tile/0",
        "/tile/entries",
        "/tile/entries/.new",
        "/" + "a" * 5_000,
        "http://else.example/checkpoint",
        "*",
    ],
)
def test_other_paths_are_not_found(public: TileServer, tmp_path: Path, path: str) -> None:
    log = tmp_path / "log"
    (log / "keys").mkdir()
    for place in (
        tmp_path / "secret",
        tmp_path / "secret.vkey",
        *(log / name for name in ("secret", "manifest.json", "openings.jsonl", "opening.json", ".new/0")),
        *(log / "keys" / name for name in (".hidden.vkey", "secret")),
    ):
        place.write_bytes(SECRET)
    status, headers, body = ask(public, path)
    assert (status, headers["cache-control"]) == (404, "no-store")
    assert SECRET not in body


def test_links_folders_and_pipes_are_not_served(public: TileServer, tmp_path: Path) -> None:
    log = tmp_path / "log"
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "7").write_bytes(SECRET)
    (log / "checkpoint").unlink()
    (log / "checkpoint").symlink_to(tmp_path / "secret")
    (log / "policy").mkdir()
    os.mkfifo(log / "log.vkey")
    (log / "keys").symlink_to(tmp_path / "outside")
    for path in ("/checkpoint", "/policy", "/log.vkey", "/keys/7.vkey"):
        status, _, body = ask(public, path)
        assert status == 404, path
        assert SECRET not in body


def test_it_can_only_be_read(public: TileServer) -> None:
    status, headers, _ = ask(public, "/checkpoint", method="POST")
    assert (status, headers["allow"]) == (405, "GET, HEAD")
    assert ask(public, "/checkpoint", method="DELETE")[0] == 501


# ---------------------------------------------------------------- private entries


def test_entries_of_a_private_log_need_the_token_and_nothing_else_does(private: TileServer) -> None:
    for path in ("/tile/entries/000", "/tile/entries/001.p/44"):
        status, headers, body = ask(private, path)
        assert (status, headers["www-authenticate"], headers["cache-control"]) == (401, "Bearer", "no-store")
        assert b"event" not in body
        status, headers, body = ask(private, path, with_token())
        assert (status, headers["cache-control"]) == (200, f"private, {FOR_EVER}")
        assert b"event" in body
    for path in ("/checkpoint", "/tile/0/000", f"/checkpoints/{SIZE}"):
        assert ask(private, path)[0] == 200


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN.upper()}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer \xff\xfe",
    ],
)
def test_no_other_token_will_do(private: TileServer, value: str) -> None:
    assert ask(private, "/tile/entries/000", {"Authorization": value})[0] == 401


def test_two_tokens_are_none(private: TileServer) -> None:
    with socket.create_connection(private.server_address[:2], timeout=PATIENCE_SECONDS) as line:
        head = f"Authorization: Bearer {TOKEN}\r\n"
        line.sendall(f"GET /tile/entries/000 HTTP/1.1\r\n{head}{head}\r\n".encode())
        assert line.recv(100).startswith(b"HTTP/1.1 401 ")


def test_who_has_no_token_does_not_learn_which_entries_there_are(private: TileServer) -> None:
    assert ask(private, "/tile/entries/000")[2] == ask(private, "/tile/entries/777")[2]
    assert ask(private, "/tile/entries/777")[0] == 401
    assert ask(private, "/tile/entries/777", with_token())[0] == 404


def test_entries_are_not_taken_from_the_public_folder_of_a_private_log(private: TileServer, tmp_path: Path) -> None:
    assert not (tmp_path / "log" / "tile" / "entries").exists()
    (tmp_path / "entries" / "policy").write_bytes(SECRET)
    assert ask(private, "/policy")[0] == 404  # and nothing but entries from the other


def test_a_token_can_guard_the_entries_of_a_log_in_one_folder(tmp_path: Path) -> None:
    published(tmp_path / "log")
    with serving(LogFiles(DirectoryPublication(tmp_path / "log"), token=TOKEN)) as server:
        assert ask(server, "/tile/entries/000")[0] == 401
        assert ask(server, "/tile/entries/000", with_token())[0] == 200
        assert ask(server, "/tile/0/000")[0] == 200


def test_entries_kept_apart_without_a_token_are_refused(tmp_path: Path) -> None:
    place = DirectoryPublication(tmp_path)
    with pytest.raises(InvalidInput):
        LogFiles(place, place)
    with pytest.raises(InvalidInput):
        LogFiles(place, token="short")


# ---------------------------------------------------------------- slow, many, at fault


def test_a_client_that_does_not_read_loses_its_place(tmp_path: Path) -> None:
    with serving(published(tmp_path / "log"), most_connections=1, request_seconds=5.0, answer_seconds=0.2) as server:
        # More than every buffer on the way takes.
        (tmp_path / "log" / "tile" / "0" / "000").unlink()
        (tmp_path / "log" / "tile" / "0" / "000").write_bytes(b"x" * 16_000_000)
        with socket.create_connection(server.server_address[:2], timeout=PATIENCE_SECONDS) as line:
            line.sendall(b"GET /tile/0/000 HTTP/1.1\r\n\r\n")
            assert line.recv(1)
            assert server._places.acquire(timeout=PATIENCE_SECONDS)  # the one place, which the client had
            server._places.release()
        assert ask(server, "/checkpoint")[0] == 200


def test_a_place_that_cannot_be_read_is_said_to_be_unavailable() -> None:
    class Broken(DirectoryPublication):
        def read(self, path: str) -> bytes | None:
            raise Unavailable(reason=f"{path}: the disk is on fire")

    with serving(LogFiles(Broken("x"))) as server:
        status, _, body = ask(server, "/checkpoint")
        assert status == 503
        assert b"fire" not in body


# ---------------------------------------------------------------- the token's file


def test_a_token_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(KeyFileUnsafe, match="no such file"):
        load_token(path)
    path.write_text(TOKEN + "\n")
    for mode in (0o644, 0o640, 0o602):
        path.chmod(mode)
        with pytest.raises(KeyFileUnsafe):
            load_token(path)
    path.chmod(0o600)
    assert load_token(path) == TOKEN


@pytest.mark.parametrize("text", [b"", b"\n", b"short\n", b"two tokens 0123456789\n", b"\xff" * 20, b"x" * 5_000])
def test_a_token_file_with_something_else_is_refused_and_not_shown(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(KeyFileUnsafe) as caught:
        load_token(path)
    assert "two tokens" not in str(caught.value)


def test_a_token_file_is_a_plain_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(0o700)
    for name in ("pipe", "folder"):
        with pytest.raises(KeyFileUnsafe, match="plain"):
            load_token(tmp_path / name)


def test_a_token_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, link = tmp_path / "token", tmp_path / "link"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    link.symlink_to(path)
    assert load_token(link) == TOKEN
    real, stranger = os.fstat, os.geteuid() + 4711
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", lambda fd: SimpleNamespace(st_mode=real(fd).st_mode, st_uid=stranger))
        with pytest.raises(KeyFileUnsafe, match="another user"):
            load_token(path)


# ---------------------------------------------------------------- the command


COMMAND = (sys.executable, "-c", "from tallystick.cli.serving import serve_log; serve_log()")


def test_the_command_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    published(tmp_path / "log", tmp_path / "entries")
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    options = ["--listen", "127.0.0.1:0", "--entries", str(tmp_path / "entries")]
    process = subprocess.Popen(
        [*COMMAND, str(tmp_path / "log"), *options, "--token-file", str(tmp_path / "token"), "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert said["token"] is True
        host, port = said["url"].removeprefix("http://").split(":")
        line = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_SECONDS)
        line.request("GET", "/tile/entries/000", headers=with_token())
        answer = line.getresponse()
        assert decode_bundle(answer.read(), WIDTH) == BODIES[:WIDTH]
        line.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_SECONDS)


@pytest.mark.parametrize("options", [("--entries", "."), ("--listen", "7381"), ("--listen", "h:99999")])
def test_a_wrong_command_line_serves_nothing(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = subprocess.run(
        [*COMMAND, str(tmp_path), *options], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert done.returncode == 2
    assert "Usage" in done.stderr
