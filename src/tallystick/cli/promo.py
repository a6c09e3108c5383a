"""Promotional credit and bonuses."""

from __future__ import annotations

import click

from tallystick.cli.act import Act, account_argument, act, amount_argument, asset_argument, effective_option
from tallystick.cli.root import Group


@click.group(cls=Group)
def promo() -> None:
    """Promotional credit: issued, lapsed, and bonuses."""


@promo.command()
@account_argument
@amount_argument
@asset_argument
@effective_option
@act
def mint(act: Act, account: str, amount: str, asset: str, effective: str | None) -> None:
    """Issue promotional credit."""
    act.move("promo_mint", act.leg("@issuance", account, amount, asset, ("available", "promo")), effective)


@promo.command()
@account_argument
@amount_argument
@asset_argument
@effective_option
@act
def burn(act: Act, account: str, amount: str, asset: str, effective: str | None) -> None:
    """Let promotional credit lapse."""
    act.move("promo_burn", act.leg(account, "@issuance", amount, asset, ("promo", "available")), effective)


@promo.command()
@account_argument
@amount_argument
@asset_argument
@click.option("--from", "payer", default="@treasury", show_default=True, metavar="ACCOUNT", help="Who pays it.")
@effective_option
@act
def bonus(act: Act, account: str, amount: str, asset: str, payer: str, effective: str | None) -> None:
    """Pay a bonus; as promotional credit to users:alice/promo."""
    act.move("bonus_credit", act.leg(payer, account, amount, asset), effective)


COMMANDS: tuple[click.Command, ...] = (promo,)
