"""What goes wrong, said so that the reader knows what to do next."""

from __future__ import annotations

from typing import Any

import click

from tallystick.cli.output import AMOUNTS, plain, write_json
from tallystick.errors import Fault, InvalidInput, TallystickError
from tallystick.stores.urls import masked

EXIT_REFUSED = 1
EXIT_FAULT = 3


class Reported(Exception):
    """What was found, or was not there, has been said already: exit code 1."""


ADVICE: dict[str, str] = {
    "account_exists": "See it with: tally account show {account}",
    "account_frozen": "Let it pay again with: tally account unfreeze {account}",
    "account_not_active": "See it with: tally account show {account}",
    "account_not_empty": "Say who takes the balance over: --settle-to ACCOUNT",
    "account_not_found": "See what there is with: tally accounts; or open it with: tally account open {account}",
    "asset_not_found": "Define it with: tally asset define {asset}",
    "archived": "Put the file back, or say where it is now with: tally archive URL --moved-to FOLDER",
    "already_reversed": "See the transaction with: tally transaction {transaction}",
    "charge_not_open": "See the transaction with: tally transaction {charge}",
    "commitments_disabled": "Allow them with: tally policy set commitment_mode=ESCROWED",
    "fault": "Find out what is wrong with: tally check",
    "hold_expired": "Give it back with: tally hold expire {id}",
    "hold_not_expired": "Give it back before its time with: tally hold release {id}",
    "hold_not_found": "See what there is with: tally holds",
    "hold_not_open": "See what is open with: tally holds --state active",
    "idempotency_conflict": "For another request give another --key; to see the first: tally transaction {transaction}",
    "insufficient_funds": "See what it has with: tally balances {account}",
    "ledger_corrupt": "Find out how far it goes with: tally replay",
    "ledger_locked": "Wait until that process has ended, and try again",
    "ledger_not_found": "Make it with: tally create; or name another with -f FILE and -l NAME",
    "limit_out_of_bounds": "See the bounds with: tally policy show; change them with: tally policy set",
    "key_file_unsafe": "A secret is its owner's alone: chmod go= {path}",
    "log_forked": "Find out why before anything more is signed: tally replay, and docs/evidence.md",
    "log_not_found": "Begin one with: tally log init --origin NAME; or name its folder with --home",
    "member_not_found": "Make it a member with: tally account limit {account} ASSET LIMIT",
    "move_not_allowed": "A bucket is named behind the account, as in users:alice/promo or @fees/fees",
    "not_a_ledger": "Name another file with -f FILE",
    "not_permitted": "Give the login a role that may; the ready ones are made with: tally migrate URL --roles",
    "over_capture": "Make it larger with: tally hold top-up {id} AMOUNT",
    "overloaded": "Try again in a moment, with the same --key",
    "period_closed": "Leave out --effective, or give a later time",
    "reference_required": "Give it with: --ref NAME=VALUE",
    "transaction_not_found": "See what there is with: tally events",
    "type_not_found": "Define it with: tally type define {type} --base transfer",
    "unavailable": "Try again in a moment: what was done is not done twice",
}


class _Named(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return key.upper()


def advise(error: TallystickError) -> str:
    """What to do about an error, or nothing."""
    advice = ADVICE.get(error.code, ADVICE["fault"] if type(error) is Fault else "")
    if error.code == "unavailable" and hasattr(error, "retry_key"):  # something was to be posted
        advice = "Try again with the same --key: nothing is posted twice"
    return advice.format_map(_Named(error.data))


def for_people(error: TallystickError) -> str:
    """An error's message with its amounts in major units, where its asset is known."""
    from tallystick.cli.output import show_amount

    asset = error.data.get("asset")
    if not isinstance(asset, str) or error.data.get("condition") == "version":
        return str(error)
    data = {
        name: show_amount(value, asset) if name in AMOUNTS and type(value) is int else value
        for name, value in error.data.items()
    }
    return str(type(error)(**data))


def report_error(error: TallystickError, as_json: bool) -> int:
    """Write an error to standard error; the exit code."""
    key = getattr(error, "retry_key", "")
    if as_json:
        found = {**plain(error.to_dict()), "advice": advise(error)}
        document = {name: masked(value) if isinstance(value, str) else value for name, value in found.items()}
        write_json({"error": {**document, "key": key} if key else document}, err=True)
    else:
        click.echo(f"error: {masked(for_people(error))}", err=True)
        if advice := advise(error):
            click.echo(f"  {advice}", err=True)
        if key:
            click.echo(f"  If it is not certain that it was posted, ask again with: --key {key}", err=True)
    return EXIT_FAULT if isinstance(error, Fault) else EXIT_REFUSED


def report_usage(error: click.ClickException, as_json: bool) -> int:
    """Write a mistake on the command line to standard error; the exit code."""
    if as_json:
        document = {"code": "usage", "message": masked(error.format_message()), "retryable": False}
        write_json({"error": document}, err=True)
    else:
        click.echo(f"error: {masked(error.format_message())}", err=True)
        context = getattr(error, "ctx", None)
        if context is not None:
            click.echo(f"  See: {context.command_path} --help", err=True)
    return error.exit_code


def report_surprise(error: Exception, as_json: bool) -> int:
    """Write that something went wrong for which nobody was prepared; the exit code."""
    message = masked(f"{type(error).__name__}: {error}")
    advice = "This is a mistake in Tallystick or its surroundings; TALLYSTICK_DEBUG=1 shows where it came from"
    if as_json:
        write_json({"error": {"code": "fault", "message": message, "retryable": False, "advice": advice}}, err=True)
    else:
        click.echo(f"error: {message}\n  {advice}", err=True)
    return EXIT_FAULT


def usage(error: InvalidInput, name: str = "") -> click.BadParameter:
    """Something on the command line that is wrong in itself."""
    return click.BadParameter(str(error.data.get("problem", error)), param_hint=name or str(error.data.get("path", "")))
