"""Stakes and bets: value that is bonded or on game."""

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
    to_argument,
)
from tallystick.cli.root import Group

escrow_option = click.option("--escrow", help="The escrow that it belongs to.")
trial_option = click.option("--trial", help="The trial that it belongs to.")
round_option = click.option("--round", "game_round", help="The round.")
stake_argument = click.argument("stake_id", metavar="STAKE")
bet_argument = click.argument("bet_id", metavar="BET")


@click.group(cls=Group)
def stake() -> None:
    """Stakes: an amount bonded for an escrow or a trial."""


@stake.command()
@account_argument
@amount_argument
@asset_argument
@escrow_option
@trial_option
@act
def lock(act: Act, account: str, amount: str, asset: str, escrow: str | None, trial: str | None) -> None:
    """Bond an amount; needs --escrow or --trial. The id that is answered is the stake's."""
    from tallystick.commands import StakeLock

    units = act.amount(amount, asset)
    act.post(StakeLock(account=account, asset=asset, amount=units, **act.common(escrow=escrow, trial=trial)))


@stake.command()
@stake_argument
@optional_amount_argument
@escrow_option
@trial_option
@act
def release(act: Act, stake_id: str, amount: str | None, escrow: str | None, trial: str | None) -> None:
    """Give a bond back, whole or in part; needs --escrow or --trial."""
    from tallystick.commands import StakeRelease

    part = act.part_of(stake_id, amount, "stake")
    act.post(StakeRelease(stake=stake_id, amount=part, **act.common(escrow=escrow, trial=trial)))


@stake.command()
@stake_argument
@to_argument
@optional_amount_argument
@escrow_option
@trial_option
@act
def slash(act: Act, stake_id: str, to_account: str, amount: str | None, escrow: str | None, trial: str | None) -> None:
    """Take a bond for a named destination; to burn it name @issuance. Needs --escrow or --trial."""
    from tallystick.commands import StakeSlash

    account, bucket = split_place(to_account)
    part = act.part_of(stake_id, amount, "stake")
    refs = act.common(escrow=escrow, trial=trial)
    act.post(StakeSlash(stake=stake_id, to_account=account, to_bucket=bucket, amount=part, **refs))


@click.group(cls=Group)
def bet() -> None:
    """Bets: stakes on game, settled or void."""


@bet.command("stake")
@account_argument
@amount_argument
@asset_argument
@round_option
@act
def stake_bet(act: Act, account: str, amount: str, asset: str, game_round: str | None) -> None:
    """Put a stake on game; needs --round. The id that is answered is the bet's."""
    from tallystick.commands import BetStake

    units = act.amount(amount, asset)
    act.post(BetStake(account=account, asset=asset, amount=units, **act.common(round=game_round)))


@bet.command("settle")
@bet_argument
@click.argument("payout", metavar="PAYOUT")
@click.option("--house", required=True, metavar="ACCOUNT", help="Who takes the stake and pays.")
@round_option
@act
def settle_bet(act: Act, bet_id: str, payout: str, house: str, game_round: str | None) -> None:
    """Decide a bet: the house takes the stake and pays PAYOUT (0 if it was lost); needs --round."""
    from tallystick.commands import BetSettlement

    units = act.part_of(bet_id, payout, "bet") or 0
    act.post(BetSettlement(bet=bet_id, house=house, payout=units, **act.common(round=game_round)))


@bet.command("rollback")
@bet_argument
@round_option
@act
def roll_back_bet(act: Act, bet_id: str, game_round: str | None) -> None:
    """Void a bet: the stake goes back; needs --round."""
    from tallystick.commands import BetRollback

    act.post(BetRollback(bet=bet_id, **act.common(round=game_round)))


COMMANDS: tuple[click.Command, ...] = (stake, bet)
