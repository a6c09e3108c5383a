"""Assets and amounts.

An *asset* is a code and a scale, written ``USD/2``: the scale says how many decimal digits a minor unit stands for.
An *amount* is a whole number of minor units within ±(2^63-1); there is no float anywhere, and on the wire an amount
is a string of digits. The asset grammar is the one that payment ledgers share (Formance's ``USD/2``).
"""

from __future__ import annotations

import re
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal

from tallystick.errors import InvalidInput

MAX_AMOUNT = 2**63 - 1
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
"""Decimals as long as the text is: the usual 28 digits would round away decimals that must be refused."""
_ASSET = re.compile(r"[A-Z][A-Z0-9_]{0,31}(?:/(?:[0-9]|1[0-8]))?\Z")


def split_asset(asset: str) -> tuple[str, int]:
    """The code and scale of an asset: ``USD/2`` is ``("USD", 2)``, ``TOKEN`` is ``("TOKEN", 0)``.

    Raises InvalidInput when the text is not an asset.
    """
    if not isinstance(asset, str) or not _ASSET.match(asset):
        raise InvalidInput(path="asset", problem=f"{asset!r} is not an asset such as USD/2")
    code, _, scale = asset.partition("/")
    return code, int(scale or 0)


def format_amount(amount: int, asset: str) -> str:
    """An amount in major units for people: ``format_amount(-1234, "USD/2")`` is ``"-12.34"``."""
    scale = split_asset(asset)[1]
    if not scale:
        return str(amount)
    digits = str(abs(amount)).rjust(scale + 1, "0")
    return f"{'-' if amount < 0 else ''}{digits[:-scale]}.{digits[-scale:]}"


def parse_amount(text: str, asset: str) -> int:
    """Major units to minor units, exactly: ``parse_amount("12.34", "USD/2")`` is ``1234``.

    Raises InvalidInput for anything that is not a number, or has more decimals than the asset's scale.
    """
    scale = split_asset(asset)[1]
    try:
        minor = Decimal(text).scaleb(scale, _EXACT)
    except (ArithmeticError, TypeError, ValueError):
        raise InvalidInput(path="amount", problem=f"{text!r} is not a number") from None
    if not minor.is_finite():
        raise InvalidInput(path="amount", problem=f"{text!r} is not a number")
    if minor != minor.to_integral_value():
        raise InvalidInput(path="amount", problem=f"{text!r} has more decimals than {asset} carries")
    if minor.copy_abs() > MAX_AMOUNT:
        raise InvalidInput(path="amount", problem=f"{text!r} is beyond 2^63-1 minor units")
    return int(minor)
