"""API keys of the service: who may come in, and what he may do.

These commands work on the operator's records beside the ledgers, as whoever may read and write those: no server need be
running, and one that is running notices within a second. This is how the first key of a service is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from tallystick.cli.output import safe, show_amount, show_time, write_facts, write_table
from tallystick.cli.problems import usage
from tallystick.cli.root import Group
from tallystick.cli.session import Session, pass_session
from tallystick.errors import InvalidInput, LedgerNotFound

if TYPE_CHECKING:
    from tallystick.control import ApiKey, Control, Mandate

ROLES = ("admin", "writer", "reader", "auditor", "public")
PAGE = 1_000
MOST_SHOWN = 10_000

OPTIONS = {
    "subject": "SUBJECT",
    "signer": "--signer",
    "expires": "--expires",
    "requests_per_second": "--rate",
    "keep_seconds": "--keep",
    "mandate": "--mandate",
    "mandate.account": "--mandate",
    "account": "--mandate",
    "asset": "--mandate",
    "mandate.max_per_act": "--per-act",
    "mandate.max_per_day": "--per-day",
    "mandate.expires": "--until",
    "amount": "--per-act or --per-day",
}
"""The words of the command line for the fields of a key."""

id_argument = click.argument("id", metavar="KEY")


@click.group(cls=Group, name="keys")
def keys_group() -> None:
    """API keys of the service: who may come in, and what he may do."""


# ---------------------------------------------------------------- making and ending


@keys_group.command()
@click.argument("subject", metavar="SUBJECT")
@click.option("--role", type=click.Choice(ROLES), default=None, help="What it may do in all ledgers.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="SCOPE",
    help="VERB[:LEDGER[:PREFIX]]: what it may do in one ledger, on accounts that begin so; may be repeated.",
)
@click.option("--expires", default="", metavar="TIME", help="When it expires (ISO 8601).  [default: never]")
@click.option("--signer", default="", metavar="DID", help="Whose did:key must sign each of its writes.")
@click.option("--rate", default=0, type=click.IntRange(0), help="Requests a second.  [default: the service's]")
@click.option("--mandate", "purse", type=(str, str), metavar="ACCOUNT ASSET", help="It spends from here alone.")
@click.option("--per-act", metavar="AMOUNT", help="The most that it spends at once.")
@click.option("--per-day", metavar="AMOUNT", help="The most that it spends on one day (UTC).")
@click.option("--payee", "payees", multiple=True, metavar="ADDRESS", help="Whom it may pay; users:* for all such.")
@click.option("--until", default="", metavar="TIME", help="When its mandate ends.")
@click.option("--minor", is_flag=True, help="Amounts are in minor units.")
@pass_session
def create(session: Session, /, subject: str, role: str | None, scopes: tuple[str, ...], **more: Any) -> None:
    """Make a key that speaks for SUBJECT. Its token is shown this once; only a digest of it is kept.

    Verbs are read, post, issue, govern, audit, deliver and keys. A prefix ends where it stands: users:alice covers
    users:alice:savings too, and not users:alice2. A mandate is for the ledger that --ledger names.

    \b
      tally keys create operations --role admin
      tally keys create shop --scope read:main:shops:17: --scope post:main:shops:17:
      tally keys create bot --scope post:main:agents:bot --mandate agents:bot USD/2 --per-act 5 --per-day 50
    """
    from tallystick.access import Keyring, parse_scope

    session.open()  # raises if there are no ledgers, so that a mistyped name leaves no file behind
    with _words():
        token, key = _with(
            session,
            lambda control: Keyring(control).create(
                subject,
                role=role or "",
                scopes=[parse_scope(text) for text in scopes],
                mandate=_mandate(session, more),
                signer=more["signer"],
                expires=more["expires"],
                requests_per_second=more["rate"],
            ),
        )
    _write_made(session, token, key)


@keys_group.command()
@id_argument
@click.option("--keep", default=86_400, show_default=True, metavar="SECONDS", help="How long the old one goes on.")
@pass_session
def rotate(session: Session, id: str, keep: int) -> None:
    """Make a key in the place of KEY, alike in all but its token, which is shown this once."""
    from tallystick.access import Keyring

    with _words():
        token, key = _with(session, lambda control: Keyring(control).rotate(id, keep_seconds=keep), create=False)
    _write_made(session, token, key)


@keys_group.command()
@id_argument
@pass_session
def revoke(session: Session, id: str) -> None:
    """End KEY for good. A server that is running refuses it within a second."""
    from tallystick.access import Keyring

    key = _with(session, lambda control: Keyring(control).revoke(id), create=False)
    if session.json:
        session.write(_document(key))
    else:
        click.echo(f"the key {key.id} of {safe(key.subject)} was revoked at {show_time(key.revoked)}")


# ---------------------------------------------------------------- looking


@keys_group.command("list")
@click.option("--subject", default="", metavar="SUBJECT", help="Those that speak for this one alone.")
@click.option("--all", "with_ended", is_flag=True, help="Those that have ended too.")
@pass_session
def list_keys(session: Session, subject: str, with_ended: bool) -> None:
    """The keys there are, without their secrets, which nobody has but their holders."""
    from tallystick.clock import system_clock

    now = system_clock()
    found = _with(session, lambda control: _all(control, subject), create=False)
    shown = [key for key in found if with_ended or _state(key, now) == "active"]
    if session.json:
        session.write([{**_document(key), "state": _state(key, now)} for key in shown])
        return
    rows = [(key.id, key.subject, key.role, _scopes(key), _limits(key), _state(key, now)) for key in shown]
    write_table(("key", "subject", "role", "scopes", "limits", "state"), rows, empty="No keys.")


def _all(control: Control, subject: str) -> list[ApiKey]:
    found: list[ApiKey] = []
    while len(found) < MOST_SHOWN:
        page = control.keys(subject=subject, after=found[-1].id if found else "", limit=PAGE)
        found += page
        if len(page) < PAGE:
            break
    return found


# ---------------------------------------------------------------- what is shared


@contextmanager
def _words() -> Iterator[None]:
    """A field that is wrong is said by the word for it on the command line."""
    try:
        yield
    except InvalidInput as error:
        path = str(error.data.get("path", ""))
        known = "--payee" if path.startswith("mandate.payees") else "--scope" if path.startswith("scope") else path
        raise usage(error, OPTIONS.get(known, known)) from None


def _with(session: Session, act: Any, *, create: bool = True) -> Any:
    """Do something with the operator's records. Where none were made yet, but ledgers are, there is nothing in them."""
    from tallystick.control import open_control

    try:
        control = open_control(session.url, create=create)
    except LedgerNotFound:
        session.open()  # raises if there are no ledgers either
        control = open_control("memory://")
    try:
        return act(control)
    finally:
        control.close()


def _mandate(session: Session, given: dict[str, Any]) -> Mandate | None:
    from tallystick.control import Mandate
    from tallystick.money import parse_amount

    limits = {name: given[name] for name in ("per_act", "per_day")}
    if given["purse"] is None:
        if given["payees"] or given["until"] or any(text is not None for text in limits.values()):
            raise click.UsageError("--per-act, --per-day, --payee and --until go with --mandate ACCOUNT ASSET")
        return None
    account, asset = given["purse"]
    amounts = {
        name: None if text is None else parse_amount(text, asset.partition("/")[0] if given["minor"] else asset)
        for name, text in limits.items()
    }
    return Mandate(
        ledger=session.ledger_name,
        account=account,
        asset=asset,
        max_per_act=amounts["per_act"],
        max_per_day=amounts["per_day"],
        payees=given["payees"],
        expires=given["until"],
    )


def _state(key: ApiKey, now: str) -> str:
    if key.revoked:
        return "revoked"
    return "expired" if key.expires and key.expires <= now else "active"


def _scopes(key: ApiKey) -> str:
    from tallystick.access import format_scope

    return " ".join(map(format_scope, key.scopes))


def _limits(key: ApiKey) -> str:
    """What else holds a key: its mandate, its signer, its rate, its end."""
    found = []
    if mandate := key.mandate:
        found.append(f"spends {mandate.asset} of {mandate.account} in {mandate.ledger}")
        found += [
            f"{show_amount(limit, mandate.asset)} {words}"
            for limit, words in ((mandate.max_per_act, "at once"), (mandate.max_per_day, "a day"))
            if limit is not None
        ]
        found += [f"to {' '.join(mandate.payees)}"] if mandate.payees else []
        found += [f"until {show_time(mandate.expires)}"] if mandate.expires else []
    found += [f"signed by {key.signer}"] if key.signer else []
    found += [f"{key.requests_per_second} requests a second"] if key.requests_per_second else []
    found += [f"expires {show_time(key.expires)}"] if key.expires else []
    return ", ".join(found)


def _document(key: ApiKey) -> dict[str, Any]:
    """A key as JSON: everything but the digest of its secret. A mandate's limits are amounts, and so texts."""
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(key)
    del found["secret_hash"]
    for name in ("max_per_act", "max_per_day"):
        if name in found.get("mandate", {}):
            found["mandate"][name] = str(found["mandate"][name])
    return found


def _write_made(session: Session, token: str, key: ApiKey) -> None:
    if session.json:
        session.write({"token": token, **_document(key)})
        return
    write_facts(
        (
            ("key", key.id),
            ("subject", key.subject),
            ("role", key.role),
            ("scopes", _scopes(key)),
            ("limits", _limits(key)),
            ("token", token),
        )
    )
    if not key.role and not key.scopes:
        click.echo("It may do nothing: give it a --role or a --scope.", err=True)
    click.echo("The token is not kept, and cannot be shown again.", err=True)


COMMANDS: tuple[click.Command, ...] = (keys_group,)
