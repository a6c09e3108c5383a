"""The log kept in the background: signed when there is news, cosigned by witnesses, published."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from tallystick.errors import LogForked, NoteInvalid, TallystickError
from tallystick.evidence.log import Log
from tallystick.evidence.places import Publication
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


class LogKeeper:
    """Keeps a log every few seconds, in a thread of its own once it is started. Use it as a context manager.

    ``publication`` gets each checkpoint and all it covers, ``entries`` the events if they are to be private. A round
    that fails is logged, stands in ``failure``, and is tried again; only a fork of the log (LogForked) stops the
    keeper, for nothing mends that but people. ``on_failure`` is told of each. Before its first signature it looks at
    what is published, and signs nothing that does not extend that.
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
        self._entries = entries
        self._policy = policy
        self._on_failure = on_failure
        self._seen: bytes | None = None  # the note that went through the whole of a round
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.failure: Exception | None = None

    def keep(self) -> Kept:
        """One round. What an earlier one left undone is done as well. Raises what signing and publishing raise."""
        if self._seen is None and self._publication is not None:
            self._check_published(self._publication)
        signed = self._log.checkpoint() is not None
        quorum_met: bool | None = None
        if self._log.note == self._seen:
            return Kept(signed)
        if self._policy is not None:
            gathered = self._log.cosign(self._policy)
            quorum_met = gathered is not None and gathered.quorum_met
        if self._publication is not None:
            self._log.publish(self._publication, self._entries)
        if quorum_met is not False:  # else the witnesses are asked again
            self._seen = self._log.note
        return Kept(signed, quorum_met, None if self._publication is None else self._log.note is not None)

    def _check_published(self, publication: Publication) -> None:
        """What was published is a second memory, for a database and a home that were taken back together. It is looked
        at before the first signature: that would be a second history under the same key."""
        note = publication.read("checkpoint")
        if note is None:
            return
        try:
            self._log.check_older(note)
        except NoteInvalid as error:
            problem = f"{publication!r} has a checkpoint of another log: {error.data['problem']}"
            raise LogForked(origin=self._log.origin, problem=problem) from None

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
            self.keep()
            self.failure = None
        except Exception as error:  # also one that nobody was prepared for: the next round may do better
            self.failure = error
            surprise = None if isinstance(error, TallystickError) else error
            _logger.error("the log %s was not kept: %s", self._log.origin, error, exc_info=surprise)
            if self._on_failure is not None:
                self._on_failure(error)
        return not isinstance(self.failure, LogForked)

    def __enter__(self) -> LogKeeper:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()
