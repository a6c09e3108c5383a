"""A process that delivers until it is told to stop: ``python -m tests.delivery.worker <url> <lease seconds>``.

SIGUSR1 leaves its files no room to grow, as a full disk does; SIGUSR2 gives it back.
"""

from __future__ import annotations

import resource
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import tallystick
from tallystick.control import open_control
from tallystick.delivery.engine import Deliverer
from tallystick.delivery.ladder import IMMEDIATE


def main(url: str, lease_seconds: float) -> None:
    stop = threading.Event()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(number: int, frame: FrameType | None) -> None:
        size = max(path.stat().st_size for path in Path(url).parent.glob("*-service-wal"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    signal.signal(signal.SIGUSR1, fill)
    signal.signal(signal.SIGUSR2, lambda number, frame: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard)))
    with (
        tallystick.open(url, read_only=True) as database,
        Deliverer(
            database,
            open_control(url),
            ladder=IMMEDIATE,
            allow_private=True,
            lease_seconds=lease_seconds,
            look_seconds=0.01,
        ) as deliverer,
    ):
        print("ready", flush=True)
        thread = threading.Thread(target=deliverer.run, args=(stop,))
        thread.start()
        while thread.is_alive():  # signals are heard in the main thread, and only while it does something
            thread.join(0.05)
            for standing in deliverer.states():
                print(standing.state, standing.problem, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
