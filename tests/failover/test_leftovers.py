"""The servers that tests start end with them, even if nobody is left to end them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.postgres import HASTY, ROOT, Server
from tests.support.processes import is_alive, server_of, wait_until

PROGRAM = """
import threading
from tests.support.postgres import HASTY, Server
server = Server(settings=HASTY).init().start()
print(server.folder, server.pid, flush=True)
threading.Event().wait()
"""


def test_a_server_ends_when_the_process_that_started_it_is_killed():
    with subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout
        folder, pid = maker.stdout.readline().split()
        assert server_of(Path(folder, "data")) == int(pid)
        maker.kill()
    wait_until(lambda: not Path(folder).exists(), 30, "the folder to be gone")
    assert not is_alive(int(pid))


def test_a_server_that_is_closed_leaves_nothing_even_after_it_was_killed():
    server = Server(settings=HASTY).init().start()
    pid = server.pid
    assert pid
    server.kill()
    assert server.pid is None
    server.close()
    assert not server.folder.exists()
    assert not is_alive(pid)
