"""The kernel: pure rules. ``decide`` turns a command into an event, ``apply`` brings a book past one."""

from tallystick.kernel.apply import apply
from tallystick.kernel.book import Balance, Book, Lock, NotLoaded, Policy, Record, Reversal
from tallystick.kernel.decide import decide, is_bare, shows_request
from tallystick.kernel.transfers import Run, run_transfers

__all__ = [
    "Balance",
    "Book",
    "Lock",
    "NotLoaded",
    "Policy",
    "Record",
    "Reversal",
    "Run",
    "apply",
    "decide",
    "is_bare",
    "run_transfers",
    "shows_request",
]
