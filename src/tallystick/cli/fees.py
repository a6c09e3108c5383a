"""Fees: into the pool, out of the pool, out of issue."""

from __future__ import annotations

import click

from tallystick.cli.act import (
    Act,
    account_argument,
    act,
    amount_argument,
    asset_argument,
    effective_option,
    to_argument,
)
from tallystick.cli.root import Group

pool_option = click.option(
    "--pool", default="@fees", show_default=True, help="The fee pool: @fees or @clearing:<domain>."
)
AVAILABLE_TO_FEES = ("available", "fees")
FEES_TO_AVAILABLE = ("fees", "available")


@click.group(cls=Group)
def fee() -> None:
    """Fees: paid in, paid out, burned."""


@fee.command()
@account_argument
@amount_argument
@asset_argument
@pool_option
@effective_option
@act
def pay(act: Act, account: str, amount: str, asset: str, pool: str, effective: str | None) -> None:
    """An account pays a fee; from promotional credit as users:alice/promo."""
    act.move("fee", act.leg(account, pool, amount, asset, AVAILABLE_TO_FEES), effective)


@fee.command()
@to_argument
@amount_argument
@asset_argument
@pool_option
@effective_option
@act
def transfer(act: Act, to_account: str, amount: str, asset: str, pool: str, effective: str | None) -> None:
    """The pool pays out; needs a reference, such as --ref order=A-17."""
    act.move("fee_transfer", act.leg(pool, to_account, amount, asset, FEES_TO_AVAILABLE), effective)


@fee.command()
@amount_argument
@asset_argument
@pool_option
@effective_option
@act
def burn(act: Act, amount: str, asset: str, pool: str, effective: str | None) -> None:
    """Take fees out of issue; needs a reference, such as --ref order=A-17."""
    act.move("fee_burn", act.leg(pool, "@issuance", amount, asset, FEES_TO_AVAILABLE), effective)


COMMANDS: tuple[click.Command, ...] = (fee,)
