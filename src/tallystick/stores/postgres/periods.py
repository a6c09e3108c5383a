"""Periods: the months by which the tables are divided, each a number such as 202601."""

from __future__ import annotations


def period_of(time: str) -> int:
    """The month of a journal time; 0 for none."""
    return int(time[:4] + time[5:7]) if time else 0


def month_of(period: int) -> str:
    """A period as people write it, and as journal times begin: 2018-01."""
    return f"{period // 100:04}-{period % 100:02}"


def later(period: int, months: int) -> int:
    """The period so many months later, or earlier if they are negative."""
    year, month = divmod(period // 100 * 12 + period % 100 - 1 + months, 12)
    return year * 100 + month + 1
