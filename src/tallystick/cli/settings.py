"""Making a ledger, and its rules: policy, assets, types of its own, closed periods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tallystick.cli.act import Act, act, asset_argument, pairs_of
from tallystick.cli.output import write_facts
from tallystick.cli.root import Command, Group
from tallystick.cli.session import Session, pass_session


@click.command(cls=Command)
@click.option("--strict", is_flag=True, help="Accounts and assets must be declared before use.")
@click.option("--set", "rules", multiple=True, metavar="RULE=VALUE", help="A rule, as in: tally policy show.")
@pass_session
def create(session: Session, strict: bool, rules: tuple[str, ...]) -> None:
    """Make a ledger, and its file (or the tables in its database) if there is none."""
    policy = rules_of(rules)
    if strict:
        policy["strict"] = True
    opened = _open_ledger(session, policy)
    if session.json:
        session.write(opened)
        return
    if opened["created"]:
        click.echo(f"made the ledger {opened['ledger']} in {opened['file']}")
        click.echo("  Put value in with: tally mint ACCOUNT AMOUNT ASSET, as in: tally mint users:alice 100.00 USD/2")
    else:
        click.echo(f"the ledger {opened['ledger']} is in {opened['file']} already; nothing was changed")


def _open_ledger(session: Session, policy: dict[str, Any]) -> dict[str, Any]:
    import tallystick
    from tallystick.commands import OpenLedger
    from tallystick.ledger.desk import OPENING_KEY, OPENING_SOURCE

    if isinstance(session.url, Path) and not session.url.parent.is_dir():
        raise click.BadParameter(f"there is no folder {session.url.parent}", param_hint="--ledger-file")
    name = session.ledger_name
    # A ledger opens itself with its first posting; asking for its first event answers that very event again.
    opening = OpenLedger(key=OPENING_KEY, source=OPENING_SOURCE, name=name, policy=policy)
    with tallystick.open("memory://") as rehearsal:  # what is refused must not leave a file behind
        rehearsal.ledger(name, policy=policy).post(opening)
    ledger = session.open(write=True, create=True).ledger(name, policy=policy)
    created = not ledger.exists
    if created:
        ledger.post(opening)
    elif policy:
        raise click.UsageError("the ledger is there already; change its rules with: tally policy set RULE=VALUE")
    return {"ledger": session.ledger_name, "file": session.place, "created": created}


def rules_of(texts: tuple[str, ...], name: str = "--set") -> dict[str, Any]:
    """RULE=VALUE arguments: whole numbers and true or false as such, everything else as text."""
    words: dict[str, Any] = {"true": True, "false": False}
    rules: dict[str, Any] = {}
    for rule, text in pairs_of(texts, name).items():
        rules[rule] = int(text) if text.removeprefix("-").isdecimal() else words.get(text, text)
    return rules


@click.group(cls=Group)
def policy() -> None:
    """The rules that the users of a ledger may choose."""


@policy.command("show")
@pass_session
def show_policy(session: Session) -> None:
    """The rules as they stand; limits are in minor units."""
    import msgspec

    rules = session.reading().policy
    if session.json:
        session.write(rules)
    else:
        write_facts((name, _word(value)) for name, value in msgspec.structs.asdict(rules).items())


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@policy.command("set")
@click.argument("rules", nargs=-1, required=True, metavar="RULE=VALUE...")
@act
def set_policy(act: Act, rules: tuple[str, ...]) -> None:
    """Change rules, as in: tally policy set strict=true limit_max=10000"""
    from tallystick.commands import SetPolicy

    act.post(SetPolicy(changes=rules_of(rules, "RULE=VALUE"), **act.common()))


@click.group(cls=Group)
def asset() -> None:
    """Assets: a code and a scale, as USD/2."""


@asset.command("define")
@asset_argument
@click.option("--name", default="", help="Its name in words.")
@act
def define_asset(act: Act, asset: str, name: str) -> None:
    """Allow an asset; a ledger that is not strict does so on first use."""
    from tallystick.commands import DefineAsset

    act.post(DefineAsset(asset=asset, name=name, **act.common()))


@click.group(cls=Group, name="type")
def type_group() -> None:
    """Transaction types of the ledger's own."""


@type_group.command("define")
@click.argument("name", metavar="NAME")
@click.option("--base", default="transfer", show_default=True, help="The type that it is a kind of.")
@click.option("--requires", multiple=True, metavar="REFERENCE", help="A reference that it needs.")
@click.option("--summary", default="", help="What it is, in words.")
@act
def define_type(act: Act, name: str, base: str, requires: tuple[str, ...], summary: str) -> None:
    """Define a type of the ledger's own, narrower than its base."""
    from tallystick.commands import DefineType

    act.post(DefineType(name=name, base=base, requires=requires, summary=summary, **act.common()))


@click.group(cls=Group)
def period() -> None:
    """Closed periods."""


@period.command("close")
@click.argument("until", metavar="TIME")
@act
def close_period(act: Act, until: str) -> None:
    """Refuse from now on everything that would take effect before TIME."""
    from tallystick.commands import ClosePeriod

    act.post(ClosePeriod(until=until, **act.common()))


COMMANDS: tuple[click.Command, ...] = (create, policy, asset, type_group, period)
