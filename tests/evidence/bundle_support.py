"""Logs to export: over a ledger that was told a journal, or over any other."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tallystick.evidence.directory import DirectoryPublication
from tallystick.evidence.log import Log
from tallystick.journal import decode_event, leaf_hash
from tallystick.journal.notes import Signer
from tallystick.kernel import Book, apply
from tallystick.ledger import Database, Ledger
from tallystick.stores.base import Batch, Head
from tallystick.stores.memory import MemoryStore
from tests.support.engine import derive
from tests.verify.bundles import KEY, encoded, judged

VKEY = str(KEY.verifier)
INSIDE = ("bytes", "chain", "tree", "accounting")
BATCH = 100


def open_log(ledger: Ledger, home: Path, signer: Signer = KEY, **more: Any) -> Log:
    return Log(ledger, signer, DirectoryPublication(home), **more)


@contextmanager
def ledger_of(bodies: Sequence[bytes]) -> Iterator[Ledger]:
    """A ledger in memory whose journal has just these events."""
    store, book = MemoryStore(), Book("main", complete=True)
    for first in range(0, len(bodies), BATCH):
        expected = Head(book.seq, book.hash, book.time, book.balances_made)
        some = list(bodies[first : first + BATCH])
        events = [decode_event(body) for body in some]
        for event, body in zip(events, some, strict=True):
            apply(book, event, leaf_hash(body))
        head = Head(book.seq, book.hash, book.time, book.balances_made)
        made = derive(book, events)
        store.append([Batch(ledger="main", expected=expected, head=head, bodies=some, **made)])
    with Database(store) as database:
        yield database.ledger("main")


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its path in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def run_verifier(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and report of the bundle's own verifier, in a Python that has nothing but its standard library."""
    command = [sys.executable, "-I", "-S", "spec/verify.py", "--json", "--key", VKEY, *words, "."]
    done = subprocess.run(command, cwd=folder, env={}, capture_output=True, text=True, check=False, timeout=120)
    assert not done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def passed(folder: Path, *more: str, keys: Sequence[str] = (VKEY,), **outside: Any) -> dict[str, Any]:
    """The report about a bundle in which these verdicts passed, and no other failed."""
    report = judged(folder, keys=keys, **outside)
    assert report["ok"], report["verdicts"]
    found = {name for name, word in report["words"].items() if word == "passed"}
    assert found == {*INSIDE, *more}, report["words"]
    return report


def change_file(folder: Path, path: str, change: Callable[[bytes], bytes]) -> None:
    """Change one file, and make the manifest fit."""
    data = change((folder / path).read_bytes())
    (folder / path).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"][path] = hashlib.sha256(data).hexdigest()
    (folder / "manifest.json").write_bytes(encoded(manifest))
