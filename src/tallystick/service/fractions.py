"""Fractions as answers: exact, and as a decimal beside it."""

from __future__ import annotations

from fractions import Fraction

from tallystick.wire.clearing import FractionAnswer

PLACES = 6


def fraction_answer(value: Fraction) -> FractionAnswer:
    """A fraction in both forms. The decimal is rounded to six places, half to even, without any floating point."""
    scaled = round(value * 10**PLACES)
    whole, rest = divmod(abs(scaled), 10**PLACES)
    sign = "-" if scaled < 0 else ""
    return FractionAnswer(f"{value.numerator}/{value.denominator}", f"{sign}{whole}.{rest:0{PLACES}d}")
