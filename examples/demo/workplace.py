"""Where the demo keeps its ledger, and how it starts afresh without harming anything that it did not make."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from posting import SOURCE, DemoFailed

import tallystick
from tallystick.errors import TallystickError
from tallystick.stores.lockfile import LockFile

LEDGER = "main"
DATABASE = Path(__file__).resolve().parents[2] / "build" / "demo-ledger.db"


def start_afresh(path: Path) -> bool:
    """Remove the ledger file of an earlier run, if there is one; whether there was.

    Raises DemoFailed, and removes nothing, if the file holds anything that the demo did not post.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return False
    lock = LockFile(path)
    try:
        lock.acquire()
        if not _holds_a_demo(path):
            return False
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except TallystickError as error:
        raise DemoFailed(f"{shown(path)} is in the way: {error}. Move it elsewhere and run the demo again.") from None
    finally:
        lock.release()
    return True


def _holds_a_demo(path: Path) -> bool:
    """False for a ledger file with nothing in it. Raises DemoFailed if somebody else posted into it."""
    with tallystick.open(path, read_only=True, create=False) as database:
        names = database.ledgers()
        if not names:
            return False
        if names == [LEDGER]:
            ledger = database.ledger(LEDGER)
            # The demo posts right behind the opening, and refuses to touch a file in which others posted last.
            if {ledger.transaction(seq).source for seq in (1, ledger.head.seq - 1)} == {SOURCE}:
                return True
    raise DemoFailed(f"{shown(path)} holds what this demo did not post. Move it elsewhere and run the demo again.")


def shown(path: Path) -> str:
    """The path as it can be typed from here."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith(os.pardir) else relative)


def size(path: Path) -> int:
    """Bytes of the ledger file."""
    return path.stat().st_size


def next_commands(path: Path) -> list[str]:
    """Three commands that show more of the ledger file, as they can be typed from here."""
    tally = f"{shown(Path(sys.executable).with_name('tally'))} --ledger-file {shown(path)}"
    return [
        f"{tally} transaction --ref order=code-0",
        f"{tally} register house --limit 20",
        f"{tally} replay",
    ]
