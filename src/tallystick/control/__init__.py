"""The operator's records beside the ledgers: who may come in, who is told, which process does what, and what it found.

None of it is money and none of it is evidence: the ledgers stand without it. It is kept where the ledgers are, in a
file of its own beside a ledger file, or in a schema of its own in the same PostgreSQL database.
"""

from tallystick.control.base import Control
from tallystick.control.opening import open_control
from tallystick.control.records import (
    ApiKey,
    Attempt,
    Delivery,
    Endpoint,
    JobRun,
    KeptReport,
    Lease,
    Mandate,
    Scope,
)

__all__ = [
    "ApiKey",
    "Attempt",
    "Control",
    "Delivery",
    "Endpoint",
    "JobRun",
    "KeptReport",
    "Lease",
    "Mandate",
    "Scope",
    "open_control",
]
