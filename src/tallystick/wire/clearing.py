"""Clearing, reserves and coverage on the wire."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from tallystick.wire.answers import TransactionAnswer

Sum = Annotated[
    str,
    Meta(pattern=r"^-?(0|[1-9][0-9]*)$", description="Minor units, as decimal digits; sums may pass 2^63."),
]
Exact = Annotated[
    str,
    Meta(pattern=r"^-?(0|[1-9][0-9]*)/[1-9][0-9]*$", description="A fraction in lowest terms.", examples=["3/7"]),
]
Decimal = Annotated[
    str,
    Meta(pattern=r"^-?[0-9]+\.[0-9]{6}$", description="Rounded to six places, half to even.", examples=["0.428571"]),
]


class FractionAnswer(Struct, frozen=True):
    """A number that need not be whole. ``exact`` is what counts; ``decimal`` is for people and charts."""

    exact: Exact
    decimal: Decimal


class NettedTotal(Struct, frozen=True):
    """What a netting batch comes to for one account: what it received, what it paid, and the difference."""

    account: str
    asset: str
    received: Sum
    paid: Sum
    net: Sum


class NettingBatchAnswer(Struct, frozen=True):
    """The postings that bear a netting batch's reference, oldest first, and what they come to by account and asset.

    ``totals`` come with the first page, over the whole batch, and are null on the others and for a batch of more than
    10,000 postings. Of accounts that the key may not read there are none.
    """

    batch: str
    totals: list[NettedTotal] | None
    items: list[TransactionAnswer]
    cursor: str = ""


class ReserveAnswer(Struct, frozen=True):
    """A reserve as it was recorded last. ``eligible`` is what of its value counts: the value less the haircut, rounded
    down, and nothing once ``valid_until`` has passed."""

    reserve: str
    asset: str
    value: Sum
    haircut_bps: int
    eligible: Sum
    provider: str
    valid_until: str
    recorded: str


class CoverageAnswer(Struct, frozen=True):
    """Of one asset: what is outstanding, the eligible reserves, and their ratio; null if nothing is outstanding."""

    asset: str
    outstanding: Sum
    eligible: Sum
    ratio: FractionAnswer | None
