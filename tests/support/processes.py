"""Processes as the system lists them, and the end of a PostgreSQL server that may be another's child."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STOP_SECONDS = 30
REMOVE_SEGMENT = 0
"""IPC_RMID, the same number everywhere."""


def wait_until(true: Callable[[], Any], seconds: float, what: str) -> None:
    """Wait for a condition, at most so long; raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether there is such a process that has not ended; one that nobody has buried yet has ended."""
    return state_and_parent(pid)[0] not in ("", "Z", "X")


def children(pid: int) -> list[int]:
    """The processes that this one has started."""
    proc = Path("/proc/self/stat")
    if proc.exists():
        listed = [name for name in os.listdir("/proc") if name.isdigit()]
    else:
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid="], stdout=subprocess.PIPE, text=True, check=True
        ).stdout.split()
    return [int(other) for other in listed if state_and_parent(int(other))[1] == pid]


def state_and_parent(pid: int) -> tuple[str, int]:
    """A process's state, a letter, and the number of its parent; nothing if there is no such process."""
    if Path("/proc/self/stat").exists():
        words = read_text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    else:
        command = ["ps", "-o", "state=", "-o", "ppid=", "-p", str(pid)]
        words = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout.split()
    return (words[0][0], int(words[1])) if words else ("", 0)


def command_of(pid: int) -> str:
    """The words that a process was started with."""
    if Path("/proc/self/stat").exists():
        return read_text(Path(f"/proc/{pid}/cmdline")).replace("\0", " ")
    command = ["ps", "-o", "args=", "-p", str(pid)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout


def read_text(path: Path) -> str:
    """A file's text; none if it has gone."""
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return ""


# ---------------------------------------------------------------- a PostgreSQL server


def server_of(data: Path) -> int | None:
    """The number of the first process of the server in this folder, if it is running."""
    number = read_text(data / "postmaster.pid").partition("\n")[0]
    found = number.isdigit() and is_alive(int(number)) and str(data) in command_of(int(number))
    return int(number) if found else None


def end_server(folder: Path) -> None:
    """End the server whose data is in this folder, whatever it is doing, and remove the folder."""
    pid = server_of(folder / "data")
    if pid:
        family = [pid, *children(pid)]
        os.kill(pid, signal.SIGQUIT)
        wait_until(lambda: not any(map(is_alive, family)), STOP_SECONDS, f"the end of server {pid}")
    drop_shared_memory(folder / "data")
    shutil.rmtree(folder, ignore_errors=True)


def drop_shared_memory(data: Path) -> None:
    """Remove the one small segment of shared memory that a server leaves behind when it was killed."""
    lines = read_text(data / "postmaster.pid").splitlines()
    words = lines[6].split() if len(lines) > 6 else []
    if len(words) == 2:
        ctypes.CDLL(None).shmctl(int(words[1]), REMOVE_SEGMENT, None)
