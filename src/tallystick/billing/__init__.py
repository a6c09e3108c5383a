"""Billing: freeze an amount before work is done, charge what it cost, give the rest back, and tell others of it.

``Billing`` is the interface; what it answers are the frozen values beside it. The events INTENT_CREATED, ORDER_CREATED
and PAYMENT_SUCCEEDED, and their payload, are described in tallystick.billing.mapping.
"""

from tallystick.billing.billing import Billing
from tallystick.billing.mapping import EXTENSION
from tallystick.billing.values import (
    BillingEvent,
    Charge,
    Freeze,
    Movement,
    OrderConflict,
    Reconciliation,
    Refund,
    Release,
    Settlement,
)

__all__ = [
    "EXTENSION",
    "Billing",
    "BillingEvent",
    "Charge",
    "Freeze",
    "Movement",
    "OrderConflict",
    "Reconciliation",
    "Refund",
    "Release",
    "Settlement",
]
