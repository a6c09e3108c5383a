"""What is written down of runs.

A job that runs every two seconds would leave 43,200 records a day for each ledger. So its runs are folded: those of the
same kind that follow one another in one process share a record, which says when the first began and the last ended,
how the last one went, and how far behind the worst of them was. A failure has a record of its own.
"""

from __future__ import annotations

from msgspec.structs import replace

from tallystick.control.records import JobRun
from tallystick.jobs.job import seconds_between

OFTEN_SECONDS = 60.0
"""A job that runs oftener keeps its lease in between, and its runs are folded."""
WORKED_SECONDS, IDLE_SECONDS = 60.0, 3_600.0
"""So long a record goes on, of runs that found something to do and of those that did not."""
SAVED_SECONDS = 15.0
"""Idle runs are written down so often."""
MAX_DETAIL = 1_000
"""Characters; what is longer is cut."""


class FoldedRuns:
    """The record that is being extended, of one job over one ledger."""

    def __init__(self) -> None:
        self._row: JobRun | None = None
        self._idle = False
        self._saved = ""  # the time up to which it was written down

    def add(self, run: JobRun, *, idle: bool) -> JobRun | None:
        """Fold a run in; the record that is to be written down now, if it is."""
        row = self._row
        if row is None or idle is not self._idle or not self._goes_on(row, run):
            self._row, self._idle, self._saved = run, idle, run.finished
            return run
        lag = max(row.lag_seconds, run.lag_seconds)
        self._row = replace(run, started=row.started, lag_seconds=lag)
        if idle and seconds_between(self._saved, run.finished) < SAVED_SECONDS:
            return None
        self._saved = run.finished
        return self._row

    def end(self) -> JobRun | None:
        """Begin a new record with the next run; what is still to be written down of this one."""
        row, self._row = self._row, None
        return row if row is not None and row.finished != self._saved else None

    def _goes_on(self, row: JobRun, run: JobRun) -> bool:
        longest = IDLE_SECONDS if self._idle else WORKED_SECONDS
        same = row.outcome == run.outcome == "done"
        return same and row.started <= run.started and seconds_between(row.started, run.started) < longest


def cut(text: str, most: int = MAX_DETAIL) -> str:
    """A text as it is kept: not too long, and without what no store can keep and no terminal should be shown. What was
    damaged may be quoted in it."""
    text = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text[: most + 1]
    )
    return text if len(text) <= most else text[: most - 3] + "..."
