"""A published log before a judge that nobody here wrote: Go's own note and tlog packages.

Needs Go and its module sources: on Debian the packages golang-go and golang-golang-x-mod-dev.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import tallystick
from tallystick.commands import Transfer
from tallystick.evidence.home import LogHome
from tallystick.evidence.publications import DirectoryPublication

SOURCES = Path("/usr/share/gocode")
JUDGE = Path(__file__).with_name("judge") / "main.go"
STEPS = (1, 3, 252, 1, 255, 1_000, 66_000, 5)
"""How many transfers come between checkpoints: around full tiles, and past a full tile of the second level."""

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(
        shutil.which("go") is None or not (SOURCES / "src/golang.org/x/mod/sumdb/tlog").is_dir(),
        reason="Go or its packages are not installed",
    ),
]


def test_gos_packages_accept_a_published_log_and_refuse_an_altered_one(tmp_path: Path) -> None:
    place = tmp_path / "published"
    with tallystick.open(tmp_path / "ledger.db") as database:
        ledger = database.ledger("main")
        ledger.mint("users:alice", "USD/2", 10**9, key="mint")
        log = LogHome(tmp_path / "home").begin(ledger, "books.example.com/main")
        for step, count in enumerate(STEPS):
            ledger.post_many(
                [
                    Transfer(
                        key=f"{step}-{number}",
                        from_account="users:alice",
                        to_account=f"users:{number % 100}",
                        asset="USD/2",
                        amount=1,
                    )
                    for number in range(count)
                ]
            )
            log.checkpoint()
            log.publish(DirectoryPublication(place))
        key, events = str(log.keys[-1]), ledger.head.seq
    judge = tmp_path / "judge"
    go = {**os.environ, "GO111MODULE": "off", "GOPATH": str(SOURCES), "GOCACHE": str(tmp_path / "cache")}
    subprocess.run(["go", "build", "-o", judge, JUDGE], env=go, check=True, timeout=300)

    def judged() -> str:
        return subprocess.run([judge, place, key], capture_output=True, text=True, check=False, timeout=300).stdout

    assert judged() == f"ok {events} events, {len(STEPS)} checkpoints\n"
    for altered in ("tile/entries/001", "tile/0/002", "tile/1/000", "checkpoint"):
        file = place / altered
        whole = file.read_bytes()
        middle = len(whole) // 2
        file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        assert judged().startswith("REFUSED"), altered
        file.write_bytes(whole)
    assert judged().startswith("ok")
