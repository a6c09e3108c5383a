"""A replay in a process of its own, which reads the ledger beside the one that writes it.

The child is told what to do on its standard input, so that a password in a URL stands in no list of processes, and
answers with JSON lines on its standard output. It ends when its input does: with its parent, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import IO

import msgspec

from tallystick.errors import Unavailable
from tallystick.ledger.views import Report
from tallystick.stores.urls import masked

CHECK_SECONDS = 0.2
"""So often it is asked whether to go on."""
NICENESS = 10
"""Those who post go first."""
END_SECONDS = 5.0
MAX_SAID = 1_000
"""Characters of what a child said before it died."""


class _Task(msgspec.Struct, frozen=True):
    url: str
    ledger: str


class _Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    report: Report | None = None
    problem: str = ""


def replay_apart(url: str, ledger: str, check: Callable[[], None]) -> Report:
    """Replay a ledger in a process of its own. ``check`` is called from time to time; what it raises ends the child.

    Raises Unavailable if the replay could not be done.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "tallystick.jobs.replaying"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # what interrupts the parent at a terminal is for the parent to pass on
    ) as child:
        try:
            answer, said = _ask(child, msgspec.json.encode(_Task(url, ledger)) + b"\n", check)
        finally:
            _end(child)
    if answer is None or answer.report is None:
        reason = (answer.problem if answer else "") or said.strip()[-MAX_SAID:] or f"it ended with {child.returncode}"
        raise Unavailable(reason=f"{ledger} could not be replayed: {masked(reason)}")
    return answer.report


def _ask(child: subprocess.Popen[bytes], task: bytes, check: Callable[[], None]) -> tuple[_Answer | None, str]:
    """The child's answer, if it gave one, and what else it said."""
    assert child.stdin is not None
    lines: SimpleQueue[bytes] = SimpleQueue()
    said: list[bytes] = []
    readers = [
        threading.Thread(target=_read, args=(child.stdout, lines.put), daemon=True),
        threading.Thread(target=_read, args=(child.stderr, said.append), daemon=True),
    ]
    for reader in readers:
        reader.start()
    with contextlib.suppress(BrokenPipeError):  # it died at once: what it said tells why
        child.stdin.write(task)
        child.stdin.flush()
    answer: _Answer | None = None
    while answer is None:
        check()
        try:
            answer = msgspec.json.decode(lines.get(timeout=CHECK_SECONDS), type=_Answer)
        except msgspec.DecodeError:
            continue
        except Empty:
            if not any(reader.is_alive() for reader in readers) and lines.empty():
                break
    return answer, b"".join(said).decode(errors="replace")


def _read(stream: IO[bytes] | None, take: Callable[[bytes], None]) -> None:
    for line in stream or ():
        take(line)


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
    try:
        child.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


# ---------------------------------------------------------------- the child


def main() -> None:
    """What the child does."""
    import tallystick  # noqa: PLC0415 - the whole library, which the parent's import of this module need not wait for
    from tallystick.errors import TallystickError  # noqa: PLC0415

    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    task = msgspec.json.decode(sys.stdin.buffer.readline(), type=_Task)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with tallystick.open(task.url, read_only=True, create=False) as database:
            answer = _Answer(report=database.replay(task.ledger))
    except TallystickError as error:
        answer = _Answer(problem=str(error))
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


def _end_with_parent() -> None:
    """The input ends with the parent; what it would have been told is of no use to anybody then."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    main()
