"""Rules: assets, types of transaction, reserves and closed periods."""

from __future__ import annotations

from typing import Any

from tallystick.commands import ClosePeriod, DefineAsset, DefineType, RecordReserve
from tallystick.service.calls import Call
from tallystick.service.operations import Group
from tallystick.wire.forms import form

RULES = Group("Rules")

_HERE = "/v1/ledgers/{ledger}"


@RULES.act(
    f"{_HERE}/assets", form(DefineAsset), verb="govern", whole=True, example={"asset": "POINT/0", "name": "points"}
)
def define_asset(call: Call) -> Any:
    """Allow an asset. A ledger that is not strict does so on first use."""
    return call.command()


@RULES.act(
    f"{_HERE}/types",
    form(DefineType),
    verb="govern",
    whole=True,
    example={"name": "rent", "base": "transfer", "requires": ["external_ref"], "summary": "a tenant pays"},
)
def define_type(call: Call) -> Any:
    """Define a transaction type of this ledger's own, narrower than its base."""
    return call.command()


@RULES.act(
    f"{_HERE}/reserves",
    form(RecordReserve),
    verb="govern",
    whole=True,
    example={"reserve": "bank:main", "asset": "USD/2", "value": "1000000", "haircut_bps": 500, "provider": "bank"},
)
def record_reserve(call: Call) -> Any:
    """Record a reserve asset's value and its haircut in basis points; a haircut of 10000 counts nothing of it."""
    return call.command()


@RULES.act(
    f"{_HERE}/periods/close",
    form(ClosePeriod),
    verb="govern",
    whole=True,
    example={"until": "2026-01-01T00:00:00Z"},
)
def close_period(call: Call) -> Any:
    """Let nothing take effect before ``until`` any more."""
    return call.command()
