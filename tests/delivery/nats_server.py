"""A real nats-server with JetStream, on a free port and in a folder of its own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path

PATIENCE_SECONDS = 30.0


def find_server() -> str | None:
    """The program, also where an ordinary user's PATH has no /usr/sbin."""
    return shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")


class NatsServer:
    """One server. It keeps its port and its streams when it is stopped and started again."""

    def __init__(self, program: str, folder: Path, *words: str) -> None:
        self._program = program
        self._folder = folder
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers. The first time it picks a port that is free."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for old in self._folder.glob("*.ports"):
            old.unlink()
        command = [self._program, "-a", "127.0.0.1", "-p", str(self.port or -1), "-js", "-sd", str(self._folder)]
        with (self._folder / "server.log").open("ab") as log:
            words = [*command, "--ports_file_dir", str(self._folder), *self._words]
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                said = (self._folder / "server.log").read_text()
                self.stop()
                raise TimeoutError(f"nats-server did not come up: {said}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            if not self.port:
                (found,) = self._folder.glob("*.ports")
                self.port = int(json.loads(found.read_text())["nats"][0].rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except (ValueError, KeyError, OSError):
            return False
