"""Movements: transfers, postings of several legs, value that enters and leaves, and putting errors right."""

from __future__ import annotations

import click

from tallystick.cli.act import (
    Act,
    LegText,
    account_argument,
    act,
    amount_argument,
    asset_argument,
    effective_option,
    from_argument,
    leg_option,
    to_argument,
)
from tallystick.cli.root import Command

rail_option = click.option("--rail", default="bank", show_default=True, help="Which way: @external:<rail>.")
tx_hash_option = click.option("--tx-hash", help="The transaction on a chain.")
external_ref_option = click.option("--external-ref", help="The reference of the outside system.")


@click.command(cls=Command)
@from_argument
@to_argument
@amount_argument
@asset_argument
@effective_option
@act
def transfer(act: Act, from_account: str, to_account: str, amount: str, asset: str, effective: str | None) -> None:
    """One account pays another.

    For example: tally transfer users:alice users:bob 12.34 USD/2
    """
    from tallystick.commands import Transfer

    leg = act.leg(from_account, to_account, amount, asset)
    if effective or (leg.from_bucket, leg.to_bucket) != ("available", "available"):
        act.move("transfer", leg, effective)
    else:
        act.post(
            Transfer(
                from_account=leg.from_account,
                to_account=leg.to_account,
                asset=leg.asset,
                amount=leg.amount,
                **act.common(),
            )
        )


@click.command(cls=Command)
@click.argument("event_type", metavar="TYPE")
@leg_option()
@effective_option
@act
def post(act: Act, event_type: str, legs: tuple[LegText, ...], effective: str | None) -> None:
    """Post legs of any type, all of them or none.

    For example: tally post transfer --leg users:alice users:bob 10 USD/2 --leg users:alice users:carol 5 USD/2
    """
    from tallystick.commands import Post

    act.post(Post(type=event_type, legs=act.legs(legs), effective=effective or "", **act.common()))


@click.command(cls=Command)
@account_argument
@amount_argument
@asset_argument
@effective_option
@act
def mint(act: Act, account: str, amount: str, asset: str, effective: str | None) -> None:
    """Issue new value to an account."""
    act.move("mint", act.leg("@issuance", account, amount, asset), effective)


@click.command(cls=Command)
@account_argument
@amount_argument
@asset_argument
@effective_option
@act
def burn(act: Act, account: str, amount: str, asset: str, effective: str | None) -> None:
    """Take value out of issue."""
    act.move("burn", act.leg(account, "@issuance", amount, asset), effective)


@click.command(cls=Command)
@account_argument
@amount_argument
@asset_argument
@rail_option
@tx_hash_option
@external_ref_option
@effective_option
@act
def deposit(
    act: Act,
    account: str,
    amount: str,
    asset: str,
    rail: str,
    tx_hash: str | None,
    external_ref: str | None,
    effective: str | None,
) -> None:
    """Value arrives from outside; needs --tx-hash or --external-ref."""
    leg = act.leg(f"@external:{rail}", account, amount, asset)
    act.move("deposit", leg, effective, tx_hash=tx_hash, external_ref=external_ref)


@click.command(cls=Command)
@account_argument
@amount_argument
@asset_argument
@rail_option
@tx_hash_option
@external_ref_option
@effective_option
@act
def withdraw(
    act: Act,
    account: str,
    amount: str,
    asset: str,
    rail: str,
    tx_hash: str | None,
    external_ref: str | None,
    effective: str | None,
) -> None:
    """Value leaves to outside; needs --tx-hash or --external-ref."""
    leg = act.leg(account, f"@external:{rail}", amount, asset)
    act.move("withdrawal", leg, effective, tx_hash=tx_hash, external_ref=external_ref)


@click.command(cls=Command)
@from_argument
@to_argument
@amount_argument
@asset_argument
@click.option("--netting-batch", help="The batch that came to this amount.")
@effective_option
@act
def settle(
    act: Act,
    from_account: str,
    to_account: str,
    amount: str,
    asset: str,
    netting_batch: str | None,
    effective: str | None,
) -> None:
    """Settle a netted amount through a clearing account.

    For example: tally settle @clearing:north users:alice 12.34 USD/2 --netting-batch 2026-11-21
    """
    leg = act.leg(from_account, to_account, amount, asset)
    act.move("settlement", leg, effective, netting_batch=netting_batch)


@click.command(cls=Command)
@click.argument("transaction", metavar="TRANSACTION")
@click.option("--amount", help="Only this much, of a transaction with one payer and one payee.")
@leg_option("Only this way back, given once or more.")
@act
def reverse(act: Act, transaction: str, amount: str | None, legs: tuple[LegText, ...]) -> None:
    """Undo a transaction, whole or in part; no amount is reversed twice."""
    from tallystick.commands import Reverse

    part = None
    if amount is not None:
        part = act.amount(amount, "MINOR" if act.minor else _asset_of(act, transaction), "--amount")
    act.post(Reverse(transaction=transaction, amount=part, legs=act.legs(legs), **act.common()))


def _asset_of(act: Act, transaction: str) -> str:
    assets = sorted({entry.asset for entry in act.ledger.transaction(transaction).event.entries})
    if len(assets) != 1:
        raise click.BadParameter(
            f"{transaction} moves {', '.join(assets) or 'no value'}; say which way back with --leg",
            param_hint="--amount",
        )
    return assets[0]


@click.command(cls=Command)
@click.option("--corrects", help="The transaction that was wrong.")
@leg_option()
@effective_option
@act
def adjust(act: Act, corrects: str | None, legs: tuple[LegText, ...], effective: str | None) -> None:
    """Put an error right; needs --corrects, --reason and --actor."""
    from tallystick.commands import Post

    act.post(Post(type="adjustment", legs=act.legs(legs), effective=effective or "", **act.common(corrects=corrects)))


COMMANDS: tuple[click.Command, ...] = (transfer, post, mint, burn, deposit, withdraw, settle, reverse, adjust)
