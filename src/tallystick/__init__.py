"""Tallystick: a double-entry ledger whose every movement is written once, chained, and can be checked by strangers."""

from tallystick.commands import Condition, Leg, Split
from tallystick.erasable import Erasable
from tallystick.errors import Fault, Refusal, TallystickError
from tallystick.ledger import Database, Ledger, open
from tallystick.ledger.views import Posted

__version__ = "0.1.0"

__all__ = [
    "Condition",
    "Database",
    "Erasable",
    "Fault",
    "Ledger",
    "Leg",
    "Posted",
    "Refusal",
    "Split",
    "TallystickError",
    "open",
]
