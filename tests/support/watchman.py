"""Ends a PostgreSQL server when the tests that it was made for are no more: `python -m tests.support.watchman`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.support.processes import end_server, is_alive

LOOK_EVERY_SECONDS = 0.25


def watch(pid: int, folder: Path) -> None:
    """Wait until the process has ended, and end the server in the folder; or until somebody else has done so."""
    while folder.exists():
        if not is_alive(pid):
            end_server(folder)
            return
        time.sleep(LOOK_EVERY_SECONDS)


if __name__ == "__main__":
    watch(int(sys.argv[1]), Path(sys.argv[2]))
