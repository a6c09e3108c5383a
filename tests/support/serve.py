"""The command `tally serve` as a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.processes import wait_until

PROGRAM = str(Path(sys.executable).with_name("tally"))
START_SECONDS = 60
STOP_SECONDS = 60
_PLACE = re.compile(r"serving .* at (http://\S+)")


class Server:
    """A process that serves; ``base`` is where."""

    def __init__(self, process: subprocess.Popen[bytes], base: str, log: Path) -> None:
        self.process = process
        self.base = base
        self.log = log

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(STOP_SECONDS)


@contextlib.contextmanager
def server(url: str, folder: Path, *, port: int = 0, options: Sequence[str] = ("--no-jobs",)) -> Iterator[Server]:
    """`tally serve` for the ledgers at a URL, until the end of the block; what it writes is kept in the folder."""
    out, log = folder / "serve.out", folder / "serve.log"
    command = [PROGRAM, "--file", url, "serve", "--port", str(port), *options]
    with out.open("wb") as stdout, log.open("ab") as stderr:
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        wait_until(lambda: b" at http" in out.read_bytes() or process.poll() is not None, START_SECONDS, "the start")
        found = _PLACE.search(out.read_text())
        assert found is not None, log.read_text()
        yield Server(process, found[1], log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(STOP_SECONDS)
