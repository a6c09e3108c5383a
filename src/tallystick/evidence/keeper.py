"""The log kept in the background: signed when there is news, cosigned by witnesses, published."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from tallystick.errors import LogForked, TallystickError
from tallystick.evidence.log import Log
from tallystick.evidence.places import Publication
from tallystick.evidence.witness import Gathered, NotCosigned
from tallystick.journal.policies import Policy

EVERY_SECONDS = 5.0
_logger = logging.getLogger("tallystick.log")


@dataclass(frozen=True)
class Kept:
    """What one round did: whether a checkpoint was signed, whether the witnesses' quorum was met (None: nobody was
    asked), and whether the newest checkpoint is published (None: it is published nowhere)."""

    signed: bool
    quorum_met: bool | None = None
    published: bool | None = None
    missing: tuple[str, ...] = ()
    """The witnesses that did not cosign, and why."""


class QuorumMissed(Exception):
    """What ``on_failure`` is told when too few witnesses cosigned a checkpoint."""


class LogKeeper:
    """Keeps a log every few seconds, in a thread of its own once it is started. Use it as a context manager.

    ``publication`` gets each checkpoint and all it covers, ``entries`` the events if they are to be private. A round
    that fails is logged, stands in ``failure``, and is tried again; only a fork of the log (LogForked) stops the
    keeper, for nothing mends that but people. ``on_failure`` is told of each, and (QuorumMissed) of a round in which
    the witnesses' quorum was not met; that one has signed and published all the same, unless a witness showed a fork.
    Nothing is signed that does not extend what is published.
    """

    def __init__(
        self,
        log: Log,
        *,
        every_seconds: float = EVERY_SECONDS,
        publication: Publication | None = None,
        entries: Publication | None = None,
        policy: Policy | None = None,
        on_failure: Callable[[Exception], None] | None = None,
    ) -> None:
        self._log = log
        self._every_seconds = every_seconds
        self._publication = publication
        if publication is not None:
            log.compare_with(publication)
        self._entries = entries
        self._policy = policy
        self._on_failure = on_failure
        self._seen: bytes | None = None  # the note that went through the whole of a round
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.failure: Exception | None = None

    def keep(self) -> Kept:
        """One round. What an earlier one left undone is done as well. Raises what signing and publishing raise."""
        signed = self._log.checkpoint() is not None
        quorum_met: bool | None = None
        if self._log.note == self._seen:
            return Kept(signed)
        gathered: Gathered | None = None
        if self._policy is not None:
            gathered = self._log.cosign(self._policy)
            quorum_met = gathered is not None and gathered.quorum_met
        if self._publication is not None:
            self._log.publish(self._publication, self._entries)
        if quorum_met is not False:  # else the witnesses are asked again
            self._seen = self._log.note
        published = None if self._publication is None else self._log.note is not None
        return Kept(signed, quorum_met, published, _missing(gathered))

    def start(self) -> LogKeeper:
        """Begin to keep the log in the background; nothing happens if it is being kept."""
        if self.is_alive:
            return self
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="tallystick log", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """End after one last round, so that nothing that was posted before is left unsigned."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None

    @property
    def is_alive(self) -> bool:
        """Whether it is still keeping the log: not before it is started, nor after a fork."""
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        while self._keep_quietly() and not self._stop.wait(self._every_seconds):
            pass
        if not isinstance(self.failure, LogForked):
            self._keep_quietly()

    def _keep_quietly(self) -> bool:
        """One round; whether there may be another."""
        try:
            kept = self.keep()
            self.failure = None
            if kept.quorum_met is False:
                self._report(QuorumMissed(f"too few witnesses cosigned: {'; '.join(kept.missing) or 'none was asked'}"))
        except Exception as error:  # also one that nobody was prepared for: the next round may do better
            self.failure = error
            self._report(error)
        return not isinstance(self.failure, LogForked)

    def _report(self, error: Exception) -> None:
        surprise = None if isinstance(error, (TallystickError, QuorumMissed)) else error
        _logger.error("the log %s was not kept: %s", self._log.origin, error, exc_info=surprise)
        if self._on_failure is not None:
            self._on_failure(error)

    def __enter__(self) -> LogKeeper:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()


def _missing(gathered: Gathered | None) -> tuple[str, ...]:
    asked = () if gathered is None else gathered.asked
    return tuple(
        f"{one.witness.key.name}: {one.outcome.reason}" for one in asked if isinstance(one.outcome, NotCosigned)
    )
