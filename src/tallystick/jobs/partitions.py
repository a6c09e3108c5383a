"""Partition upkeep in PostgreSQL: the tables of the months to come are made before anything is posted to them.

A writer makes them as well, with its first posting in a month. This job makes them while nobody waits: where the first
posting of a month would otherwise make tables, or fail because somebody has locked them. To move
closed months into an archive is for `tally archive`, which needs a folder and the owner's rights.
"""

from __future__ import annotations

from datetime import datetime

from tallystick.errors import InvalidInput
from tallystick.jobs.job import Context, Outcome
from tallystick.jobs.stores import postgres_of
from tallystick.stores.postgres.periods import later, month_of, period_of

MONTHS_AHEAD = 3
"""One more than a writer makes, so that a writer finds them there."""


class Partitions:
    """Makes the partitions of this month and the next ones."""

    name = "partitions"
    at = ""
    writes = True
    whole = True
    at_once = 1

    def __init__(self, every_seconds: float = 6 * 3_600.0) -> None:
        self.every_seconds = every_seconds

    def run(self, context: Context) -> Outcome:
        """Raises InvalidInput for another store, Unavailable while somebody has the tables locked, NotPermitted."""
        store = postgres_of(context.database)
        if store is None:
            raise InvalidInput(path="jobs", problem="only PostgreSQL has partitions")
        from tallystick.stores.postgres.reading import SQL  # noqa: PLC0415 - psycopg is an extra

        now = context.clock()
        this = period_of(now)
        made: list[str] = []
        for ahead in range(MONTHS_AHEAD + 1):
            context.check()
            period = later(this, ahead)
            with store._upkeep.using() as connection:
                row = connection.execute(SQL["make_partitions"], {"period": period}).fetchone()
            if row is not None and row[0]:
                made.append(month_of(period))
        detail = f"made {', '.join(made)}" if made else f"there are tables up to {month_of(later(this, MONTHS_AHEAD))}"
        return Outcome(detail, _lag(this, made, now), worked=bool(made))


def _lag(this: int, made: list[str], now: str) -> float:
    """How late the first of these months was made: a month's tables should be there before it begins."""
    if month_of(this) not in made:
        return 0.0
    moment = datetime.fromisoformat(now)
    return (moment - moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)).total_seconds()
