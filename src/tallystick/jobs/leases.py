"""The leases of one process: taken, renewed in the background, and given back.

A lease holds until the control store's clock says so, but a process that was suspended, or whose disk hung, cannot ask
in time. So the holder counts for itself, from before it asked: it takes its lease for lost when so many seconds have
passed without a renewal, whatever the store would say. Both clocks only need to run equally fast.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection

from tallystick.control.base import Control
from tallystick.control.records import Lease
from tallystick.errors import TallystickError

LEASE_SECONDS = 15.0
"""After a process died, so long nobody does its jobs."""
RENEWALS = 3
"""So many times a lease is renewed before it would run out."""
SAFETY = 0.9
"""The part of a lease's time for which its holder trusts it."""

_logger = logging.getLogger("tallystick.jobs")


class Held:
    """A lease that this process holds, for as long as it may trust it."""

    def __init__(self, lease: Lease, trusted_until: float, monotonic: Callable[[], float]) -> None:
        self.lease = lease
        self._trusted_until = trusted_until
        self._monotonic = monotonic
        self._lost = False

    @property
    def holds(self) -> bool:
        """Whether this process may still do what the lease is for."""
        return not self._lost and self._monotonic() < self._trusted_until

    def renewed(self, lease: Lease | None, trusted_until: float) -> None:
        """What came of asking again. Once lost, it stays lost: somebody may have worked meanwhile."""
        if lease is None or lease.token != self.lease.token or not self.holds:
            self._lost = True
        else:
            self.lease, self._trusted_until = lease, trusted_until


class Leases:
    """Takes leases in the name of one holder, and renews them in a thread of its own while it is started."""

    def __init__(
        self,
        control: Control,
        holder: str,
        *,
        seconds: float = LEASE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = seconds
        self._control = control
        self._holder = holder
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def renew_seconds(self) -> float:
        """How much time lies between two renewals."""
        return self.seconds / RENEWALS

    def take(self, name: str) -> tuple[Held, bool] | None:
        """The lease, and whether it is a new one; None while another holds it. Raises Unavailable."""
        with self._lock:
            found = self._held.get(name)
            if found is not None and found.holds:
                return found, False
            self._held.pop(name, None)
        asked = self._monotonic()
        lease = self._control.acquire(name, self._holder, self.seconds)
        if lease is None:
            return None
        held = Held(lease, asked + self.seconds * SAFETY, self._monotonic)
        with self._lock:
            self._held[name] = held
        return held, True

    def give_back(self, held: Held) -> None:
        """Let another have it at once. If the store does not answer, it runs out by itself."""
        self._forget(held)
        self._release(held.lease)

    def renew(self) -> None:
        """Renew all that are held."""
        with self._lock:
            held = list(self._held.values())
        for one in held:
            asked = self._monotonic()
            try:
                lease = self._control.acquire(one.lease.name, self._holder, self.seconds)
            except TallystickError as error:  # it is trusted until its time is over, and asked for again before
                _logger.warning("the lease %s was not renewed: %s", one.lease.name, error)
                continue
            with self._lock:
                now = self._held.get(one.lease.name)
            if now is one:
                self._take_note(one, lease, asked + self.seconds * SAFETY)
            elif now is None and lease is not None:  # it was given back while it was asked for again
                self._release(lease)

    def _take_note(self, held: Held, lease: Lease | None, trusted_until: float) -> None:
        held.renewed(lease, trusted_until)
        if not held.holds:
            self._forget(held)
            _logger.warning("the lease %s was lost", held.lease.name)

    def _forget(self, held: Held) -> None:
        with self._lock:
            if self._held.get(held.lease.name) is held:
                del self._held[held.lease.name]

    def _release(self, lease: Lease) -> None:
        try:
            self._control.release(lease)
        except TallystickError as error:
            _logger.warning("the lease %s was not given back: %s", lease.name, error)

    # ------------------------------------------------------------ in the background

    def start(self) -> None:
        """Begin to renew what is held."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="tallystick leases", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Renew nothing any more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def give_all_back(self, *, but: Collection[str] = ()) -> None:
        """At the end, all but those of jobs that are still under way."""
        with self._lock:
            held = [held for name, held in self._held.items() if name not in but]
        for one in held:
            self.give_back(one)

    def _run(self) -> None:
        while not self._stop.wait(self.renew_seconds):
            try:
                self.renew()
            except Exception:  # the next beat may do better; what is not renewed is taken for lost
                _logger.exception("leases were not renewed")
