"""Amounts on the wire: minor units as a string of digits, so that no reader's floating point can touch them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from tallystick.errors import AmountOutOfRange
from tallystick.money import MAX_AMOUNT

_DIGITS = r"^-?(0|[1-9][0-9]{0,18})$(?!\n)"

Amount = (
    Annotated[str, Meta(pattern=_DIGITS, description="Minor units, as decimal digits.", examples=["1250"])]
    | Annotated[int, Meta(ge=-MAX_AMOUNT, le=MAX_AMOUNT, description="Minor units; a string is safer.")]
)
"""An amount in a request: a string of digits, or an integer."""

Digits = Annotated[str, Meta(pattern=_DIGITS, description="Minor units, as decimal digits.", examples=["1250"])]
"""An amount in an answer: always a string."""


def minor(amount: str | int, path: str = "amount") -> int:
    """The integer of an amount. Raises AmountOutOfRange beyond ±(2^63-1): nineteen digits may say more than that."""
    number = int(amount)
    if not -MAX_AMOUNT <= number <= MAX_AMOUNT:
        raise AmountOutOfRange(path=path, amount=str(amount))
    return number
