"""Mutual-credit cells: members' payments, commitments, and payments between cells."""

from __future__ import annotations

import click

from tallystick.cli.act import (
    Act,
    LegText,
    act,
    amount_argument,
    asset_argument,
    effective_option,
    from_argument,
    leg_option,
    to_argument,
)
from tallystick.cli.root import Group

member_argument = click.argument("member", metavar="MEMBER")
commitment_option = click.option("--commitment", metavar="ID", help="The commitment.")
domain_option = click.option("--domain", required=True, help="The other cell: @clearing:<domain>.")
external_ref_option = click.option("--external-ref", help="The payment's reference between the cells.")
part_option = click.option("--amount", help="Only this much of the reserve.  [default: all of it]")


@click.group(cls=Group)
def cell() -> None:
    """A mutual-credit cell: payments between members."""


@cell.command()
@from_argument
@to_argument
@amount_argument
@asset_argument
@effective_option
@act
def pay(act: Act, from_account: str, to_account: str, amount: str, asset: str, effective: str | None) -> None:
    """A member pays a member."""
    act.move("spot_payment", act.leg(from_account, to_account, amount, asset), effective)


@cell.command()
@leg_option()
@effective_option
@act
def adjust(act: Act, legs: tuple[LegText, ...], effective: str | None) -> None:
    """Governance moves balances, which still add up to zero; needs --reason."""
    from tallystick.commands import Post

    common = act.common()
    act.post(Post(type="governance_adjustment", legs=act.legs(legs), effective=effective or "", **common))


@click.group(cls=Group)
def commitment() -> None:
    """Commitments: capacity that a member reserves."""


@commitment.command()
@member_argument
@amount_argument
@asset_argument
@commitment_option
@act
def create(act: Act, member: str, amount: str, asset: str, commitment: str | None) -> None:
    """Reserve capacity; again for the same commitment adds to it. Needs --commitment."""
    from tallystick.commands import CommitmentCreate

    units = act.amount(amount, asset)
    act.post(CommitmentCreate(member=member, asset=asset, amount=units, **act.common(commitment=commitment)))


@commitment.command()
@member_argument
@asset_argument
@part_option
@leg_option("What was promised, paid in the same event.")
@commitment_option
@act
def fulfil(
    act: Act, member: str, asset: str, amount: str | None, legs: tuple[LegText, ...], commitment: str | None
) -> None:
    """Keep a commitment: free the reserve and pay what was promised. Needs --commitment."""
    from tallystick.commands import CommitmentFulfil

    part = None if amount is None else act.amount(amount, asset, "--amount")
    common = act.common(commitment=commitment)
    act.post(CommitmentFulfil(member=member, asset=asset, amount=part, legs=act.legs(legs), **common))


@commitment.command()
@member_argument
@asset_argument
@part_option
@commitment_option
@act
def cancel(act: Act, member: str, asset: str, amount: str | None, commitment: str | None) -> None:
    """Drop a commitment: free the reserve. Needs --commitment."""
    from tallystick.commands import CommitmentCancel

    part = None if amount is None else act.amount(amount, asset, "--amount")
    act.post(CommitmentCancel(member=member, asset=asset, amount=part, **act.common(commitment=commitment)))


@click.group(cls=Group)
def federation() -> None:
    """Payments between cells, through a clearing account."""


@federation.command("import")
@member_argument
@amount_argument
@asset_argument
@domain_option
@external_ref_option
@act
def pay_out(act: Act, member: str, amount: str, asset: str, domain: str, external_ref: str | None) -> None:
    """A member pays into another cell; needs --external-ref."""
    leg = act.leg(member, f"@clearing:{domain}", amount, asset)
    act.move("federation_import", leg, external_ref=external_ref)


@federation.command("export")
@member_argument
@amount_argument
@asset_argument
@domain_option
@external_ref_option
@act
def pay_in(act: Act, member: str, amount: str, asset: str, domain: str, external_ref: str | None) -> None:
    """A member is paid from another cell; needs --external-ref."""
    leg = act.leg(f"@clearing:{domain}", member, amount, asset)
    act.move("federation_export", leg, external_ref=external_ref)


@federation.command("rollback")
@from_argument
@to_argument
@amount_argument
@asset_argument
@external_ref_option
@act
def roll_back(act: Act, from_account: str, to_account: str, amount: str, asset: str, external_ref: str | None) -> None:
    """Undo one leg of a federated payment; needs --external-ref."""
    leg = act.leg(from_account, to_account, amount, asset)
    act.move("federation_rollback", leg, external_ref=external_ref)


COMMANDS: tuple[click.Command, ...] = (cell, commitment, federation)
