"""The engine: databases, ledgers, the writer and the reads."""

from tallystick.ledger.database import Database, open
from tallystick.ledger.ledger import Ledger

__all__ = ["Database", "Ledger", "open"]
