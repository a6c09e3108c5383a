"""Holds: freeze an amount, capture of it, give it back; and charges, which are captures declared final."""

from __future__ import annotations

import click

from tallystick.cli.act import (
    Act,
    account_argument,
    act,
    amount_argument,
    asset_argument,
    optional_amount_argument,
    split_place,
)
from tallystick.cli.problems import Reported
from tallystick.cli.root import Group

hold_argument = click.argument("hold", metavar="HOLD")
expires_option = click.option("--expires", metavar="TIME", help="When it expires (ISO 8601).")
expires_in_option = click.option("--expires-in", type=int, metavar="SECONDS", help="In how many seconds it expires.")


@click.group(cls=Group, name="hold")
def hold_group() -> None:
    """Holds: an amount frozen until it is captured, released or expires."""


@hold_group.command()
@account_argument
@amount_argument
@asset_argument
@expires_option
@expires_in_option
@act
def create(act: Act, account: str, amount: str, asset: str, expires: str | None, expires_in: int | None) -> None:
    """Freeze an amount; the id that is answered is the hold's."""
    from tallystick.commands import Hold

    act.post(
        Hold(
            account=account,
            asset=asset,
            amount=act.amount(amount, asset),
            expires=expires or "",
            expires_in_seconds=expires_in,
            **act.common(),
        )
    )


@hold_group.command()
@hold_argument
@click.option(
    "--to",
    "splits",
    type=(str, str),
    multiple=True,
    required=True,
    metavar="ACCOUNT AMOUNT",
    help="Whom to pay; AMOUNT may be rest.",
)
@click.option("--keep-open", is_flag=True, help="Keep what is left on hold, for another capture.")
@act
def capture(act: Act, hold: str, splits: tuple[tuple[str, str], ...], keep_open: bool) -> None:
    """Pay out of a hold, to one or several; what is left goes back.

    For example: tally hold capture main/7 --to shops:books 9.50 --to @fees/fees 0.50
    """
    from tallystick.commands import Capture, Split

    asset = "MINOR" if act.minor else act.asset_of(hold)
    parts = []
    for place, amount in splits:
        account, bucket = split_place(place)
        units = None if amount == "rest" else act.amount(amount, asset, "--to")
        parts.append(Split(account, units, bucket))
    act.post(Capture(hold=hold, splits=tuple(parts), final=not keep_open, **act.common()))


@hold_group.command()
@hold_argument
@optional_amount_argument
@act
def release(act: Act, hold: str, amount: str | None) -> None:
    """Give a hold back, whole or in part."""
    from tallystick.commands import Release

    act.post(Release(hold=hold, amount=act.part_of(hold, amount), **act.common()))


@hold_group.command()
@hold_argument
@expires_option
@expires_in_option
@act
def extend(act: Act, hold: str, expires: str | None, expires_in: int | None) -> None:
    """Give a hold another expiry."""
    from tallystick.commands import HoldExtend

    act.post(HoldExtend(hold=hold, expires=expires or "", expires_in_seconds=expires_in, **act.common()))


@hold_group.command("top-up")
@hold_argument
@amount_argument
@act
def top_up(act: Act, hold: str, amount: str) -> None:
    """Make a hold larger."""
    from tallystick.commands import HoldTopUp

    act.post(HoldTopUp(hold=hold, amount=act.part_of(hold, amount) or 0, **act.common()))


@hold_group.command()
@hold_argument
@act
def expire(act: Act, hold: str) -> None:
    """Give back a hold whose time has passed."""
    from tallystick.commands import HoldExpire

    act.post(HoldExpire(hold=hold, **act.common()))


@hold_group.command()
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="At most this many.")
@click.pass_context
def sweep(context: click.Context, limit: int) -> None:
    """Give back every hold whose time has passed."""
    from tallystick.cli.session import Session
    from tallystick.errors import Refusal

    session = context.ensure_object(Session)
    results = session.writing().expire_due(limit=limit)
    refused = [result for result in results if isinstance(result, Refusal)]
    expired = [result.id for result in results if not isinstance(result, Refusal)]
    if session.json:
        session.write({"expired": expired, "refused": refused})
    else:
        click.echo(f"holds that had expired and were given back: {len(expired)}")
        for refusal in refused:
            click.echo(f"refused: {refusal}", err=True)
    if refused:
        raise Reported


@click.group(cls=Group)
def charge() -> None:
    """Charges: captures, declared final."""


@charge.command()
@click.argument("charge", metavar="TRANSACTION")
@act
def finalize(act: Act, charge: str) -> None:
    """Declare a captured charge final."""
    from tallystick.commands import FinalizeCharge

    act.post(FinalizeCharge(charge=charge, **act.common()))


COMMANDS: tuple[click.Command, ...] = (hold_group, charge)
