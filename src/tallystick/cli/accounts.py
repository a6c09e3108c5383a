"""Accounts: declared, limited, frozen and ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tallystick.cli.act import Act, account_argument, act, asset_argument
from tallystick.cli.output import show_amount, show_map, show_time, write_facts, write_table
from tallystick.cli.problems import Reported
from tallystick.cli.root import Group
from tallystick.cli.session import Session, pass_session

if TYPE_CHECKING:
    from tallystick.ledger.views import AccountView, BalanceView

settle_to_option = click.option("--settle-to", default="", metavar="ACCOUNT", help="Who takes over what is left.")


@click.group(cls=Group)
def account() -> None:
    """Accounts: open, show, limit, freeze, end."""


@account.command("open")
@account_argument
@click.option("--limit", "limits", type=(str, str), multiple=True, metavar="AMOUNT ASSET", help="May owe this much.")
@click.option(
    "--ceiling", "ceilings", type=(str, str), multiple=True, metavar="AMOUNT ASSET", help="May own this much."
)
@click.option("--owner", default="", help="Whose it is.")
@click.option("--floorless", is_flag=True, help="May owe without limit; for clearing accounts alone.")
@act
def open_account(
    act: Act,
    account: str,
    limits: tuple[tuple[str, str], ...],
    ceilings: tuple[tuple[str, str], ...],
    owner: str,
    floorless: bool,
) -> None:
    """Declare an account."""
    from tallystick.commands import OpenAccount

    act.post(
        OpenAccount(
            account=account,
            limits={asset: act.amount(amount, asset, "--limit") for amount, asset in limits},
            ceilings={asset: act.amount(amount, asset, "--ceiling") for amount, asset in ceilings},
            owner=owner,
            floorless=floorless,
            **act.common(),
        )
    )


@account.command()
@account_argument
@act
def freeze(act: Act, account: str) -> None:
    """Stop an account from paying."""
    from tallystick.commands import FreezeAccount

    act.post(FreezeAccount(account=account, **act.common()))


@account.command()
@account_argument
@act
def unfreeze(act: Act, account: str) -> None:
    """Let a frozen account pay again."""
    from tallystick.commands import UnfreezeAccount

    act.post(UnfreezeAccount(account=account, **act.common()))


@account.command()
@account_argument
@settle_to_option
@act
def exclude(act: Act, account: str, settle_to: str) -> None:
    """Remove a member for good."""
    from tallystick.commands import ExcludeAccount

    act.post(ExcludeAccount(account=account, settle_to=settle_to, **act.common()))


@account.command()
@account_argument
@settle_to_option
@act
def close(act: Act, account: str, settle_to: str) -> None:
    """End an account for good."""
    from tallystick.commands import CloseAccount

    act.post(CloseAccount(account=account, settle_to=settle_to, **act.common()))


@account.command()
@account_argument
@asset_argument
@click.argument("limit", metavar="[LIMIT]", required=False)
@click.option("--ceiling", help="The most that it may own.")
@click.option("--clear-ceiling", is_flag=True, help="Let it own any amount.")
@act
def limit(act: Act, account: str, asset: str, limit: str | None, ceiling: str | None, clear_ceiling: bool) -> None:
    """Set how much an account may owe, or own."""
    from tallystick.commands import SetLimit

    act.post(
        SetLimit(
            account=account,
            asset=asset,
            limit=None if limit is None else act.amount(limit, asset, "LIMIT"),
            ceiling=None if ceiling is None else act.amount(ceiling, asset, "--ceiling"),
            clear_ceiling=clear_ceiling,
            **act.common(),
        )
    )


@account.command()
@account_argument
@pass_session
def show(session: Session, account: str) -> None:
    """What the ledger knows of an account; exit code 1 if nothing."""
    found = session.reading().account(account)
    if found is None:
        if session.json:
            session.write(None)
        else:
            click.echo(f"{account} was never declared or used. See what there is with: tally accounts", err=True)
        raise Reported
    if session.json:
        session.write({**_described(found), "balances": found.balances})
        return
    write_facts(
        (
            ("account", found.address),
            ("status", found.status),
            ("owner", found.owner),
            ("opened", show_time(found.opened)),
            ("limits", show_map(_in_major_units(found.limits))),
            ("ceilings", show_map(_in_major_units(found.ceilings))),
            ("metadata", show_map(found.metadata)),
        )
    )
    click.echo()
    write_balances(found.balances, empty="It has no balances.")


def _described(found: AccountView) -> dict[str, Any]:
    names = ("address", "status", "owner", "opened", "limits", "ceilings", "metadata")
    return {name: getattr(found, name) for name in names}


def _in_major_units(amounts: dict[str, int]) -> dict[str, str]:
    return {asset: show_amount(amount, asset) for asset, amount in amounts.items()}


def write_balances(balances: list[BalanceView], *, header: bool = True, empty: str = "No balances.") -> None:
    """Balances as a table."""
    rows = [
        (view.account, view.bucket, view.asset, show_amount(view.amount, view.asset), view.version) for view in balances
    ]
    write_table(
        ("account", "bucket", "asset", "amount", "version"),
        rows,
        right=("amount", "version"),
        header=header,
        empty=empty if header else "",
    )


COMMANDS: tuple[click.Command, ...] = (account,)
