"""Reserves and coverage: what stands behind what is outstanding.

Coverage is for those who may read the whole ledger: it adds up every balance. What may be shown to everybody is a
*signed* statement of it, which is another matter.
"""

from __future__ import annotations

from fractions import Fraction

from msgspec import Struct

from tallystick.accounts import role_of
from tallystick.kernel import Record
from tallystick.service.calls import Call
from tallystick.service.fractions import fraction_answer
from tallystick.service.operations import Group
from tallystick.service.routes.accounts import Limit
from tallystick.wire.answers import Page
from tallystick.wire.clearing import CoverageAnswer, ReserveAnswer
from tallystick.wire.fields import Cursor, MaybeAsset

RESERVES = Group("Reserves and coverage")

_HERE = "/v1/ledgers/{ledger}"
BASIS_POINTS = 10_000
_ISSUING = ("issuance", "external")


class ReservesQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """``asset``: only reserves of this one."""

    asset: MaybeAsset = ""
    limit: Limit = 100
    cursor: Cursor = ""


@RESERVES.read(f"{_HERE}/reserves", whole=True, query=ReservesQuery, answer=Page[ReserveAnswer])
def list_reserves(call: Call) -> Page[ReserveAnswer]:
    """The reserves that were recorded, each as it was recorded last, by id."""
    limit = call.query.limit
    place = call.page_place({"asset": call.query.asset}, call.query.cursor, "")
    asset, now = place.filters["asset"], call.ledger.now()
    found = [
        record
        for record in call.ledger.records("reserve")
        if record.id > place.after and asset in ("", record.data["asset"])
    ]
    more = call.cursor(place, found[limit - 1].id) if len(found) > limit else ""
    return Page([_answer(record, now) for record in found[:limit]], more)


def eligible(record: Record, now: str) -> int:
    """What of a reserve counts, in minor units: floor(value x (10000 - haircut) / 10000), exact at any size.

    A value that was given up to a time says nothing after it.
    """
    until = record.data.get("valid_until", "")
    if until and until <= now:
        return 0
    return int(record.data["value"]) * (BASIS_POINTS - int(record.data["haircut_bps"])) // BASIS_POINTS


def _answer(record: Record, now: str) -> ReserveAnswer:
    data = record.data
    return ReserveAnswer(
        reserve=record.id,
        asset=data["asset"],
        value=data["value"],
        haircut_bps=int(data["haircut_bps"]),
        eligible=str(eligible(record, now)),
        provider=data.get("provider", ""),
        valid_until=data.get("valid_until", ""),
        recorded=record.time,
    )


class CoverageQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """``asset``: only this one."""

    asset: MaybeAsset = ""
    limit: Limit = 100
    cursor: Cursor = ""


@RESERVES.read(f"{_HERE}/coverage", whole=True, query=CoverageQuery, answer=Page[CoverageAnswer])
def get_coverage(call: Call) -> Page[CoverageAnswer]:
    """By asset: the eligible reserves over what is outstanding, as an exact fraction.

    Outstanding is all that was issued or came from outside and has not gone back: what everybody else has, less what
    they owe. With nothing outstanding the ratio is null. No statement of it is signed here.
    """
    limit = call.query.limit
    place = call.page_place({"asset": call.query.asset}, call.query.cursor, "")
    asset = place.filters["asset"]
    covered = _coverage(call)
    found = [row for name, row in sorted(covered.items()) if name > place.after and asset in ("", name)]
    more = call.cursor(place, found[limit - 1].asset) if len(found) > limit else ""
    return Page(found[:limit], more)


def _coverage(call: Call) -> dict[str, CoverageAnswer]:
    """The coverage of every asset, which is measured too."""
    now = call.ledger.now()
    behind, outstanding = dict[str, int](), dict[str, int]()
    for record in call.ledger.records("reserve"):
        asset = record.data["asset"]
        behind[asset] = behind.get(asset, 0) + eligible(record, now)
    for row in call.ledger.trial_balance().rows:
        outstanding.setdefault(row.asset, 0)
        if role_of(row.account) in _ISSUING:
            outstanding[row.asset] += row.debit - row.credit
    found = {}
    for asset in {*behind, *outstanding}:
        owed, has = outstanding.get(asset, 0), behind.get(asset, 0)
        ratio = Fraction(has, owed) if owed > 0 else None
        shown = None if ratio is None else fraction_answer(ratio)
        found[asset] = CoverageAnswer(asset, str(owed), str(has), shown)
        call.service.metrics.coverage(call.ledger_name, asset, None if ratio is None else float(ratio))
    return found
