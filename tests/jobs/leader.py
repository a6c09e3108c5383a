"""A process with one job that goes on for ever, and writes down each of its steps: started by test_leadership.

Its words: the URL, the file for its steps, how long a lease lasts. It ends when its standard input does.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing

import tallystick
from tallystick.control import open_control
from tallystick.jobs import Context, LeaseLost, Outcome, Runner


class Stepping:
    """Does a step, which takes a moment, whenever it may."""

    name = "stepping"
    every_seconds = 3_600.0
    at = ""
    writes = False
    whole = True
    at_once = 1

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def run(self, context: Context) -> Outcome:
        self._note("leads")
        try:
            while True:
                context.check()
                self._note("step")
                time.sleep(0.0003)  # several steps in the time that it takes to ask the store
        except LeaseLost:
            self._note("lost")
            raise

    def _note(self, what: str) -> None:
        os.write(self._file, f"{os.getpid()} {what} {time.monotonic()}\n".encode())


def main() -> None:
    url, path, lease = sys.argv[1:]
    with (
        tallystick.open(url, read_only=True, create=False) as database,
        closing(open_control(url)) as control,
        Runner(database, control, [Stepping(path)], lease_seconds=float(lease)),
    ):
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
