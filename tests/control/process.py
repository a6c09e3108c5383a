"""Another process that uses a store of the operator's records: started by a test, told what to do in lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import to_builtins

from tallystick.control import ApiKey, Attempt, Control, Delivery, Lease, open_control
from tallystick.control.sqlite import _Session

NOON = "2026-11-21T12:00:00.000000Z"


class Process:
    """One process; what it is asked it answers in turn."""

    def __init__(self, url: str) -> None:
        words = [sys.executable, "-m", "tests.control.process", url]
        self._child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, what: str, *values: Any) -> Any:
        self.tell(what, *values)
        return self.hear()

    def tell(self, what: str, *values: Any) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps([what, *values]) + "\n")
        self._child.stdin.flush()

    def hear(self) -> Any:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise EOFError(f"the process ended with {self._child.wait()}")
        return json.loads(line)

    def lease(self, name: str, holder: str, seconds: float) -> Lease | None:
        found = self.ask("acquire", name, holder, seconds)
        return Lease(**found) if found else None

    def kill(self) -> None:
        """Without a chance to say anything."""
        self._child.kill()
        assert self._child.wait() == -signal.SIGKILL

    def wait(self) -> int:
        return self._child.wait(timeout=60)

    def close(self) -> None:
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def processes(url: str, count: int) -> Iterator[list[Process]]:
    """So many processes that have opened the records at a URL; they are ended at the end."""
    started = [Process(url) for _ in range(count)]
    try:
        for one in started:
            assert one.hear() == "open"
        yield started
    finally:
        for one in started:
            one.close()


# ---------------------------------------------------------------- in the other process


def serve(control: Control) -> None:
    for line in sys.stdin:
        what, *values = json.loads(line)
        say(do(control, what, values))


def say(answer: Any) -> None:
    sys.stdout.write(json.dumps(to_builtins(answer)) + "\n")
    sys.stdout.flush()


def do(control: Control, what: str, values: list[Any]) -> Any:
    if what == "add key":
        return control.add_key(ApiKey(id=values[0], secret_hash="0" * 64, subject="shop"))
    if what == "secret":
        return control.secret(values[0]).hex()
    if what == "settle":
        (stale,) = values
        return control.settle("e", cursor=99, deliveries=[Delivery(endpoint="e", seq=5)], lease=Lease(**stale))
    if what == "settle on and on":
        return settle_on_and_on(control)
    if what == "die while settling":
        return die_while_settling(control)
    return getattr(control, what.replace(" ", "_"))(*values)


def settle_on_and_on(control: Control) -> None:
    for seq in range(1_000_000):
        deliveries = [Delivery(endpoint="e", seq=seq), Delivery(endpoint="e", seq=2_000_000, attempts=seq + 1)]
        attempts = [Attempt(endpoint="e", seq=seq, number=1, time=NOON)]
        control.settle("e", cursor=seq + 1, accepted=[seq - 1] if seq else [], deliveries=deliveries, attempts=attempts)
        say(seq)


def die_while_settling(control: Control) -> None:
    """Between two statements of a commit, on SQLite."""
    each = _Session.each

    def die(self: _Session, query: str, rows: list[Any]) -> None:
        if query == "settle_attempt":
            os.kill(os.getpid(), signal.SIGKILL)
        each(self, query, rows)

    _Session.each = die  # type: ignore[method-assign]
    attempts = [Attempt(endpoint="e", seq=1, number=1, time=NOON)]
    control.settle("e", cursor=99, accepted=[0], deliveries=[Delivery(endpoint="e", seq=5)], attempts=attempts)


if __name__ == "__main__":
    opened = open_control(sys.argv[1])
    say("open")
    serve(opened)
