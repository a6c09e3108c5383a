"""The verifier as a program: alone in one file, from a folder and over HTTP, with its report and exit codes."""

from __future__ import annotations

import ast
import base64
import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tallystick import verify
from tallystick.journal.checkpoints import Checkpoint, sign_checkpoint
from tests.verify.bundles import KEY, ORIGIN, OTHER_KEY, VKEY, WITNESS, checkpoint_of, cosigned, receipt_of
from tests.verify.conftest import Write

SCRIPT = Path(verify.__file__)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv(verify.TOKEN, raising=False)


def test_it_imports_nothing_but_the_standard_library():
    imported = set()
    for node in ast.walk(ast.parse(SCRIPT.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or ".").partition(".")[0])
    assert imported <= sys.stdlib_module_names | {"__future__"}


def test_a_copy_of_the_one_file_verifies_without_anything_installed(write: Write, tmp_path: Path, trade: list[bytes]):
    copy = tmp_path / "alone" / "verify.py"
    copy.parent.mkdir()
    copy.write_bytes(SCRIPT.read_bytes())
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(copy), str(write(trade)), "--key", VKEY, "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["conclusion"] == "internally consistent, not witnessed"


def test_the_report_for_people_has_one_line_for_each_verdict_and_one_for_each_failure(
    write: Write, trade: list[bytes], capsys: pytest.CaptureFixture[str]
):
    folder = write(trade)
    assert verify.main([str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("internally consistent, not witnessed")
    assert [line.split()[0] for line in lines[2:8]] == list(verify.VERDICTS)
    (folder / "log.vkey").write_bytes(b"nonsense\n")
    assert verify.main([str(folder)]) == 1
    out = capsys.readouterr().out
    assert "bytes failed: log.vkey" in out
    for word in ("tamper-proof", "audited"):
        assert word not in out + SCRIPT.read_text().lower()


def test_evidence_is_read_from_files(write: Write, tmp_path: Path, trade: list[bytes]):
    folder = write(trade, checkpoint=cosigned(checkpoint_of(trade)))
    (tmp_path / "key").write_text(f"{VKEY}\n")
    (tmp_path / "older").write_bytes(checkpoint_of(trade[:99]))
    (tmp_path / "receipt").write_bytes(receipt_of(trade, 9))
    (tmp_path / "policy").write_text(f"log {VKEY}\nwitness w {WITNESS.verifier}\nquorum w\n")
    given = ["--key", str(tmp_path / "key"), "--checkpoint", str(tmp_path / "older")]
    given += ["--receipt", str(tmp_path / "receipt"), "--policy", str(tmp_path / "policy")]
    assert verify.main([str(folder), *given]) == 0
    (tmp_path / "older").write_bytes(checkpoint_of([*trade[:98], b"{}"]))
    assert verify.main([str(folder), *given]) == 1


@pytest.mark.parametrize(
    "arguments",
    [["/nowhere/at/all"], ["{folder}", "--key", "x+y+z"], ["{folder}", "--policy", "/nowhere"], ["{empty}"]],
)
def test_a_wrong_call_ends_with_two(write: Write, tmp_path: Path, journey: list[bytes], arguments: list[str]):
    (tmp_path / "empty").mkdir()
    places = {"folder": str(write(journey)), "empty": str(tmp_path / "empty")}
    assert verify.main([argument.format(**places) for argument in arguments]) == 2


# ---------------------------------------------------------------- over HTTP

Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves a folder; ``token`` closes the entry bundles, ``zipped`` compresses all; ``endless`` has more tiles."""
    servers = []

    def start(
        folder: Path,
        *,
        token: str = "",
        basic: str = "",
        zipped: bool = False,
        moved: bool = False,
        endless: bool = False,
        asked: list[str] | None = None,
    ) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                file = folder / self.path.lstrip("/")
                if asked is not None:
                    asked.append(self.path)
                if endless and self.path.startswith("/tile/") and not file.is_file():
                    file = folder / "tile/0/000" if self.path.startswith("/tile/0") else folder / "none"
                    if self.path.startswith("/tile/entries/002"):
                        file = folder / "tile/entries/001"
                said = self.headers["Authorization"]
                closed = token and "entries" in self.path and said != f"Bearer {token}"
                closed = closed or (basic and said != f"Basic {base64.b64encode(basic.encode()).decode()}")
                if moved:
                    self.send_response(302)
                    self.send_header("Location", f"/other{self.path}")
                    self.end_headers()
                    return
                status = 403 if closed else 200 if file.is_file() else 404
                body = file.read_bytes() if status == 200 else b""
                self.send_response(status)
                if zipped:
                    body = gzip.compress(body)
                    self.send_header("Content-Encoding", "gzip")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("zipped", [False, True])
def test_a_bundle_is_read_over_http(write: Write, serve: Serve, trade: list[bytes], zipped: bool):
    folder = write(trade, kept=(300,))
    assert verify.main([serve(folder, zipped=zipped), "--key", VKEY]) == 0
    (folder / "tile/0/001").write_bytes(bytes(8_192))
    assert verify.main([serve(folder, zipped=zipped), "--key", VKEY]) == 1


def test_a_published_log_that_has_grown_past_its_partial_tiles_is_read(write: Write, serve: Serve, trade: list[bytes]):
    folder = write(trade)
    (folder / "manifest.json").unlink()
    (folder / "checkpoint").write_bytes(checkpoint_of(trade[:300]))  # whose tiles 001.p/44 are replaced by full ones
    assert verify.main([serve(folder), "--key", VKEY]) == 1  # the partial tile of level 1 is not there
    (folder / "tile/1/000.p/1").write_bytes((folder / "tile/1/000.p/2").read_bytes()[:32])
    assert verify.main([serve(folder), "--key", VKEY]) == 0


def test_events_behind_a_token_are_not_checked_without_it(
    write: Write,
    serve: Serve,
    trade: list[bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    folder = write(trade)
    (folder / "manifest.json").unlink()
    url = serve(folder, token="secret")
    (tmp_path / "token").write_text("secret\n")
    assert verify.main([url, "--key", VKEY, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    words = {name: verdict["verdict"] for name, verdict in report["verdicts"].items()}
    assert words["tree"] == "passed"
    assert [words[name] for name in ("bytes", "chain", "accounting")] == ["not checked"] * 3
    assert "not checked: bytes, chain, accounting" in report["conclusion"]
    assert verify.main([url, "--key", VKEY, "--require", "tree,accounting"]) == 1
    assert "not checked: bytes, chain, accounting" in capsys.readouterr().out
    assert verify.main([url, "--key", VKEY, "--token-file", str(tmp_path / "token"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["verdicts"]["accounting"]["verdict"] == "passed"
    monkeypatch.setenv(verify.TOKEN, "secret")
    assert verify.main([url, "--key", VKEY, "--require", "tree,accounting"]) == 0


def test_redirects_are_not_followed_with_a_token(
    write: Write, serve: Serve, journey: list[bytes], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(verify.TOKEN, "secret")
    assert verify.main([serve(write(journey), moved=True), "--key", VKEY]) == 1


def test_a_password_in_the_url_is_sent_and_not_shown(
    write: Write, serve: Serve, journey: list[bytes], capsys: pytest.CaptureFixture[str]
):
    url = serve(write(journey), basic="me:secret").replace("//", "//me:secret@")
    assert verify.main([url, "--key", VKEY, "--require", "accounting"]) == 0
    assert verify.main([url.replace("secret", "secre7"), "--key", VKEY]) == 1
    said = capsys.readouterr()
    assert "//***@127.0.0.1" in said.out
    assert "secre" not in said.out + said.err


def test_a_server_that_no_trusted_key_speaks_for_is_asked_for_no_tile(
    write: Write, serve: Serve, trade: list[bytes], capsys: pytest.CaptureFixture[str]
):
    asked: list[str] = []
    folder = write(trade, key=OTHER_KEY)
    assert verify.main([serve(folder, asked=asked), "--key", VKEY]) == 1
    assert asked
    assert not [path for path in asked if "/tile/" in path]
    assert "nothing was read" in capsys.readouterr().out
    (folder / "log.vkey").unlink()
    (folder / "manifest.json").unlink()
    assert verify.main([serve(folder, asked=asked), "--require", "tree"]) == 1
    assert not [path for path in asked if "/tile/" in path]


def test_a_server_that_has_no_bundles_is_not_asked_without_end(write: Write, serve: Serve, trade: list[bytes]):
    folder = write(trade)
    (folder / "manifest.json").unlink()
    (folder / "checkpoint").write_bytes(sign_checkpoint(Checkpoint(ORIGIN, 2**62, bytes(32)), KEY))
    asked: list[str] = []
    assert verify.main([serve(folder, asked=asked, endless=True), "--key", VKEY]) == 1
    assert len([path for path in asked if "/entries/" in path]) == 3 + verify.MAX_MISSING


def test_there_is_an_end_to_all_of_it(
    write: Write, serve: Serve, trade: list[bytes], capsys: pytest.CaptureFixture[str]
):
    url = serve(write(trade))
    assert verify.main([url, "--key", VKEY, "--deadline", "0.000001"]) == 1
    assert "0 seconds in all (see --deadline)" in capsys.readouterr().out
    assert verify.main([url, "--key", VKEY, "--deadline", "0"]) == 0


def test_a_manifest_that_would_only_fill_the_memory_is_not_decoded(
    write: Write, serve: Serve, journey: list[bytes], monkeypatch: pytest.MonkeyPatch
):
    folder = write(journey)
    monkeypatch.setattr(verify, "parse_strict", None)  # to call it would be a failure of another kind
    for rest in (b"{}," * 100_000, b'"a":"",' * 100_000, b"[[]," * 100_000):
        (folder / "manifest.json").write_bytes(b'{"files":' + rest)
        report = verify.verify(verify.Site(serve(folder, zipped=True)), "x")
        assert "it holds other things" in report.verdicts["bytes"].failures[0].problem
    large = b" " * (verify.MAX_MANIFEST + 1)
    (folder / "manifest.json").write_bytes(large)
    report = verify.verify(verify.Site(serve(folder, zipped=True)), "x")
    assert "larger than" in report.verdicts["bytes"].failures[0].problem


def test_what_lies_in_the_bundle_does_not_count_as_brought(
    write: Write, trade: list[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = write(trade, kept=(300,), files={"policy": b"quorum none\n"})
    (tmp_path / "link").symlink_to(folder)
    given = ["--checkpoint", f"{tmp_path}/link/checkpoints/300", "--key", f"{folder}/log.vkey"]
    assert verify.main([str(folder), *given, "--policy", f"{folder}/policy", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["verdicts"]["outside"]["verdict"] == "not checked"
    assert "a key that came from the bundle itself" in report["verdicts"]["tree"]["detail"]
    assert len([note for note in report["notes"] if "does not count as brought" in note]) == 2
    assert any("the operator chose its witnesses" in note for note in report["notes"])
    (tmp_path / "saved").write_bytes((folder / "checkpoints/300").read_bytes())
    assert verify.main([str(folder), "--checkpoint", str(tmp_path / "saved"), "--require", "outside,tree"]) == 0


def test_what_is_required_must_be_checked(write: Write, trade: list[bytes], capsys: pytest.CaptureFixture[str]):
    folder = str(write(trade))
    assert verify.main([folder, "--require", "bytes,chain,tree,accounting"]) == 0
    assert verify.main([folder, "--require", "bytes,outside", "--json"]) == 1
    said = capsys.readouterr().out
    assert '"ok": false' in said
    assert "nothing wrong was found, but not checked: outside" in said
    assert verify.main([folder, "--require", "nonsense"]) == 2


def test_a_server_that_is_not_there_is_a_failure_and_no_crash():
    assert verify.main(["http://127.0.0.1:9/"]) == 1


def test_a_file_that_is_larger_than_its_limit_is_not_read(write: Write, serve: Serve, journey: list[bytes]):
    folder = write(journey)
    (folder / "tile/0/000.p/79").write_bytes(bytes(100_000))
    for zipped in (False, True):
        assert verify.main([serve(folder, zipped=zipped), "--key", VKEY]) == 1
    assert verify.main([str(folder), "--key", VKEY]) == 1
