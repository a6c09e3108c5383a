"""Checkpoints: the logs over the ledgers are signed, cosigned and published every few seconds.

A log lives in a folder of its own (see evidence/home.py), which ``homes`` names for each ledger; a ledger without one
has no log, and nothing is done for it. What the home remembers counts: where the log is published, which is looked at
before each signature, and which witnesses are asked. To publish is only done when it is asked for, as it shows the
events to whoever may read there; and never to a place where only their hashes were published so far.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from tallystick.errors import InvalidInput, LogNotFound, NoteInvalid, Unavailable
from tallystick.evidence.home import LogHome, Settings
from tallystick.evidence.keeper import Kept, LogKeeper
from tallystick.evidence.places import Publication
from tallystick.evidence.publications import publication_at
from tallystick.jobs.job import Context, Outcome, seconds_between
from tallystick.journal.checkpoints import read_checkpoint
from tallystick.journal.policies import Policy
from tallystick.journal.tiles import WIDTH, Bundle
from tallystick.ledger import Ledger

LOOK_SECONDS = 60.0
"""While nothing is posted, home, database and publication are compared so often."""

HomeOf = Callable[[str], Path | None]
"""The folder of a ledger's log; None: it has none."""


def homes_in(folder: Path) -> HomeOf:
    """``folder/<ledger>`` for each ledger, as `tally log init` has it beside a ledger file."""
    return lambda ledger: folder / ledger


class _Opened:
    """A log that was opened, and how things stood when all of a round was done."""

    def __init__(self, settings: Settings, keeper: LogKeeper) -> None:
        self.settings = settings
        self.keeper = keeper
        self.done_seq = -1
        self.done_at = ""


class Checkpoints:
    """Keeps the log of each ledger that has one. Its lag is the age of the oldest event under no checkpoint.

    ``publish``: publish too, where the home says; with ``entries`` (a folder, or ``s3://bucket/prefix``) the events of
    each ledger go to ``entries/<ledger>`` and only their hashes to the publication.
    """

    name = "checkpoints"
    at = ""
    writes = True
    whole = False
    at_once = 4

    def __init__(self, homes: HomeOf, every_seconds: float = 5.0, *, publish: bool = False, entries: str = "") -> None:
        if entries and not publish:
            raise InvalidInput(path="entries", problem="it says where events are published, and nothing is published")
        self.every_seconds = every_seconds
        self._homes = homes
        self._publish = publish
        self._entries = entries
        self._lock = threading.Lock()
        self._opened: dict[str, _Opened] = {}

    def run(self, context: Context) -> Outcome:
        folder = self._homes(context.ledger_name)
        home = None if folder is None else LogHome(folder)
        settings = None if home is None else _settings(home)
        if home is None or settings is None:
            return Outcome("it has no log", worked=False)
        ledger = context.ledger
        now, seq = ledger.now(), ledger.head.seq
        lag = _lag(ledger, seq, now)
        opened = self._open(ledger, home, settings)
        if opened.done_seq == seq and seconds_between(opened.done_at, now) < LOOK_SECONDS:
            self._measure(context, 0.0)
            return Outcome(worked=False)
        context.check()
        try:
            kept = opened.keeper.keep()
        except BaseException:
            self._forget(ledger.name)  # the next run begins with what lies in the home by then
            self._measure(context, lag)
            raise
        if kept.quorum_met is not False:
            opened.done_seq, opened.done_at = seq, now
        self._measure(context, _lag(ledger, ledger.head.seq, ledger.now()))
        return Outcome(_said(kept), lag, worked=kept.signed or kept.quorum_met is False)

    def _measure(self, context: Context, lag: float) -> None:
        if context.metrics is not None:
            context.metrics.checkpoint_lag(context.ledger_name, lag)

    # ------------------------------------------------------------ the logs that are open

    def _open(self, ledger: Ledger, home: LogHome, settings: Settings) -> _Opened:
        """The log as it was opened before, unless its home has changed since, as by a rotation of its key."""
        with self._lock:
            found = self._opened.get(ledger.name)
        if found is not None and found.settings == settings:
            return found
        publication, entries = self._places(ledger.name, settings)
        log = home.open(ledger)
        keeper = LogKeeper(log, publication=publication, entries=entries, policy=_policy(settings))
        found = _Opened(settings, keeper)
        with self._lock:
            self._opened[ledger.name] = found
        return found

    def _forget(self, ledger: str) -> None:
        with self._lock:
            self._opened.pop(ledger, None)

    def _places(self, ledger: str, settings: Settings) -> tuple[Publication | None, Publication | None]:
        if not self._publish or not settings.publication:
            return None, None
        publication = publication_at(settings.publication)
        if self._entries:
            return publication, publication_at(f"{self._entries.rstrip('/')}/{ledger}")
        if _is_private(publication):
            problem = f"{settings.publication} has hashes alone so far: say where the events of {ledger} go"
            raise InvalidInput(path="entries", problem=problem)
        return publication, None


def _settings(home: LogHome) -> Settings | None:
    try:
        return home.settings
    except LogNotFound:
        return None


def _policy(settings: Settings) -> Policy | None:
    if not settings.policy:
        return None
    try:
        return Policy.parse(Path(settings.policy).read_bytes())
    except OSError as error:
        raise Unavailable(reason=f"the policy {settings.policy} cannot be read: {error.strerror}") from None
    except NoteInvalid as error:
        raise InvalidInput(path=settings.policy, problem=str(error.data.get("problem"))) from None


def _is_private(publication: Publication) -> bool:
    """Whether hashes are published there and events are not."""
    note = publication.read("checkpoint")
    size = 0 if note is None else read_checkpoint(note).size
    if not size:
        return False
    return publication.read(Bundle(number=(size - 1) // WIDTH, width=(size - 1) % WIDTH + 1).path) is None


def _lag(ledger: Ledger, seq: int, now: str) -> float:
    """The age of the oldest event that the newest checkpoint does not cover."""
    note = ledger.journal.checkpoint()
    size = 0 if note is None else read_checkpoint(note).size
    if size >= seq:
        return 0.0
    return seconds_between(ledger.transaction(size).time, now)


def _said(kept: Kept) -> str:
    parts = ["signed a checkpoint" if kept.signed else "nothing new was signed"]
    if kept.quorum_met is False:
        parts.append(f"too few witnesses cosigned: {'; '.join(kept.missing) or 'none was asked'}")
    elif kept.quorum_met:
        parts.append("it was cosigned")
    if kept.published:
        parts.append("it is published")
    return ", ".join(parts)
