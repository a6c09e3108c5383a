"""Endpoints: who is told of a ledger's events; what they were told, and what they have not accepted.

These commands work on the operator's records beside the ledgers, which a server and its workers look at all the time:
nothing need be running, and nothing need be told.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from tallystick.cli.output import safe, show_map, show_time, write_facts, write_table
from tallystick.cli.problems import Reported, usage
from tallystick.cli.root import Group
from tallystick.cli.session import Session, pass_session
from tallystick.errors import InvalidInput, LedgerNotFound, NotFound
from tallystick.stores.urls import masked

if TYPE_CHECKING:
    from tallystick.control import Attempt, Control, Delivery, Endpoint
    from tallystick.delivery.transport import Transport

KINDS = ("webhook", "sns", "sqs", "eventbridge", "nats", "file")
PAGE = 1_000
MOST_SHOWN = 10_000

OPTIONS = {
    "kind": "--kind",
    "id": "--id",
    "types": "--type",
    "account_prefix": "--prefix",
    "mapping": "--mapping",
    "signature": "--signature",
    "secrets": "--signature",
    "start": "--start",
    "first": "FIRST",
    "last": "LAST",
    "url": "URL",
}
"""The words of the command line for the fields of an endpoint."""

id_argument = click.argument("id", metavar="ENDPOINT")
allow_private_option = click.option(
    "--allow-private", is_flag=True, help="A private address, or one without TLS, is meant."
)


@click.group(cls=Group, name="endpoints")
def endpoints_group() -> None:
    """Webhooks, queues and files that are told of a ledger's events."""


# ---------------------------------------------------------------- making and looking


@endpoints_group.command()
@click.argument("url", metavar="URL")
@click.option("--kind", type=click.Choice(KINDS), default="webhook", show_default=True, help="How it is told.")
@click.option("--id", default="", metavar="ENDPOINT", help="Its id.  [default: one that is made up]")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Events of this type alone; may be repeated.")
@click.option("--prefix", default="", metavar="ADDRESS", help="Events of accounts that begin so alone.")
@click.option("--mapping", type=click.Choice(["billing"]), help="Tell it in another form than the event's own.")
@click.option(
    "--start",
    default="now",
    show_default=True,
    metavar="NUMBER",
    help="The first event that it is told; now: those to come, 0: all there are.",
)
@click.option(
    "--signature",
    "signatures",
    type=click.Choice(["v1", "v1a"]),
    multiple=True,
    help="How a webhook is signed: v1 by a shared secret, v1a by a key pair.  [default: v1]",
)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="What its kind may be told besides.")
@allow_private_option
@pass_session
def add(session: Session, /, url: str, kind: str, start: str, settings: tuple[str, ...], **more: Any) -> None:
    """Tell URL of the ledger's events from now on. What a receiver needs to check signatures is shown this once.

    \b
      tally endpoints add https://shop.example.com/hooks --type transfer --type capture
      tally endpoints add --kind sqs https://sqs.eu-central-1.amazonaws.com/123456789012/events.fifo
      tally endpoints add --kind nats nats://nats.example.com --set subject=books.{ledger}.{type}
      tally endpoints add --kind file events.jsonl --start 0
    """
    from tallystick.delivery import sinks
    from tallystick.delivery.operations import new_endpoint

    ledger = session.reading()
    chosen = dict(_setting(text) for text in settings)
    with _words():
        if kind != "webhook":
            sinks.check_target(kind, url, chosen, emulator=sinks.settings_from(os.environ).aws_endpoint)
        made = new_endpoint(
            ledger=session.ledger_name,
            url=url,
            kind=kind,
            id=more["id"],
            types=more["types"],
            account_prefix=more["prefix"],
            mapping=more["mapping"] or "",
            signatures=more["signatures"] or ("v1",),
            settings=chosen,
            start=ledger.head.seq if start == "now" else _number(start),
            known_types=_own_types(session, more["types"]),
            allow_private=more["allow_private"],
        )
        with _control(session, create=True) as control:
            control.add_endpoint(made)
    if extra := sinks.missing_extra(kind):
        click.echo(f"whoever delivers to it needs the extra `{extra}`, which is not installed here", err=True)
    _write_with_secrets(session, made)


@endpoints_group.command("list")
@click.option("--all", "all_ledgers", is_flag=True, help="Those of every ledger.")
@pass_session
def list_endpoints(session: Session, all_ledgers: bool) -> None:
    """The ledger's endpoints, and how each stands."""
    with _control(session) as control:
        found = list(_endpoints(control, "" if all_ledgers else session.ledger_name))
        standings = [_standing(control, endpoint) for endpoint in found]
    if session.json:
        session.write([_document(one, standing) for one, standing in zip(found, standings, strict=True)])
        return
    rows = [
        (one.id, one.ledger, one.kind, masked(one.url), one.state, s["cursor"], s["waiting"], s["dead"])
        for one, s in zip(found, standings, strict=True)
    ]
    columns = ("id", "ledger", "kind", "url", "state", "cursor", "waiting", "dead")
    write_table(columns, rows, right=("cursor", "waiting", "dead"), empty="nobody is told")


@endpoints_group.command()
@id_argument
@pass_session
def show(session: Session, id: str) -> None:
    """One endpoint, but for its secrets, and how it stands."""
    with _control(session) as control:
        endpoint = _endpoint(control, id)
        standing = _standing(control, endpoint)
    if session.json:
        session.write(_document(endpoint, standing))
    else:
        write_facts(_facts(endpoint, standing))


@endpoints_group.command()
@id_argument
@pass_session
def remove(session: Session, id: str) -> None:
    """Forget an endpoint and what it has not accepted. What it was told stays in the log of tries."""
    with _control(session) as control:
        endpoint = _endpoint(control, id)
        standing = _standing(control, endpoint)
        control.remove_endpoint(id)
    if session.json:
        session.write({"removed": id, **standing})
        return
    click.echo(f"{id} is removed; {standing['waiting']:,} events were waiting for it, {standing['dead']:,} were dead")


@endpoints_group.command()
@id_argument
@pass_session
def enable(session: Session, id: str) -> None:
    """Deliver again: first what was waiting."""
    from tallystick.delivery import operations

    with _control(session) as control:
        _say(session, operations.enable(control, id))


@endpoints_group.command()
@id_argument
@click.option("--reason", default="by hand", show_default=True, help="Why, for whoever looks.")
@pass_session
def disable(session: Session, id: str, reason: str) -> None:
    """Deliver nothing until it is enabled. What comes meanwhile waits in the journal; nothing is lost."""
    from tallystick.delivery import operations

    with _control(session) as control:
        _say(session, operations.disable(control, id, safe(reason)[:200]))


# ---------------------------------------------------------------- delivering


@endpoints_group.command()
@id_argument
@allow_private_option
@pass_session
def ping(session: Session, id: str, allow_private: bool) -> None:
    """Send a test message from here, once; it is no event. Exit code 1 if it was not accepted.

    Sinks go where the environment lets them, as with `tally worker`: TALLYSTICK_SINK_FOLDER, TALLYSTICK_NATS_SERVERS.
    """
    from tallystick.delivery import operations

    with _control(session) as control:
        endpoint = _endpoint(control, id)
    with _words():
        began = time.monotonic()
        sent = operations.ping(endpoint, transport=_transport(endpoint, allow_private), allow_private=allow_private)
        milliseconds = int((time.monotonic() - began) * 1000)
    if session.json:
        session.write({"endpoint": id, "milliseconds": milliseconds, **session.document(sent)})
    elif sent.accepted:
        click.echo(f"accepted in {milliseconds:,} ms" + (f" with status {sent.status}" if sent.status else ""))
    else:
        status = f" (status {sent.status})" if sent.status else ""
        click.echo(f"not accepted{status}: {safe(sent.problem)}", err=True)
    if not sent.accepted:
        raise Reported


def _transport(endpoint: Endpoint, allow_private: bool) -> Transport | None:
    """What a sink is pinged by; webhooks have their own."""
    from tallystick.delivery import sinks

    if endpoint.kind == "webhook":
        return None
    return sinks.transports(sinks.settings_from(os.environ, allow_private=allow_private))[endpoint.kind]


@endpoints_group.command()
@id_argument
@click.argument("first", type=click.IntRange(0))
@click.argument("last", type=click.IntRange(0), required=False)
@pass_session
def redeliver(session: Session, id: str, first: int, last: int | None) -> None:
    """Deliver event FIRST again, or FIRST to LAST, whatever became of them: accepted, waiting or dead.

    They keep their ids, so that a receiver knows them, and queue behind what waits for their accounts.
    """
    from tallystick.delivery import operations

    with _control(session) as control, _words():
        endpoint = _endpoint(control, id)
        session.ledger_name = endpoint.ledger
        asked = operations.redeliver(control, session.reading(), id, first, last)
    if session.json:
        session.write({"endpoint": id, **session.document(asked)})
        return
    click.echo(f"to be delivered again: {asked.asked:,}")
    if asked.filtered:
        click.echo(f"left out by its filter: {asked.filtered:,}")
    if asked.still_to_come:
        click.echo(f"still to come in any case: {asked.still_to_come:,}")


@endpoints_group.command()
@id_argument
@click.option("--state", type=click.Choice(["waiting", "dead"]), help="What is in this state alone.")
@click.option("--log", "log_of_tries", is_flag=True, help="Every try instead, newest first.")
@click.option("--event", "seq", type=click.IntRange(-1), metavar="NUMBER", help="Of this event alone.")
@click.option("--limit", type=click.IntRange(1, MOST_SHOWN), default=100, show_default=True, help="At most this many.")
@pass_session
def deliveries(session: Session, id: str, state: str | None, log_of_tries: bool, seq: int | None, limit: int) -> None:
    """What an endpoint has not accepted: what waits to be tried again, and what is dead; or the log of tries.

    The log of an endpoint that was removed is there until it is pruned.
    """
    if log_of_tries and state:
        raise click.UsageError("--state is of deliveries, --log of tries")
    with _control(session) as control:
        if log_of_tries:
            _write_tries(session, control.attempts(id, seq=seq, limit=limit))
            return
        _endpoint(control, id)
        after = -1 if seq is None else seq - 1
        found = control.deliveries(id, state=state or "", after=after, limit=limit if seq is None else 1)
    _write_deliveries(session, [one for one in found if seq is None or one.seq == seq])


@endpoints_group.command("rotate-secret")
@id_argument
@click.option("--signature", type=click.Choice(["v1", "v1a"]), default="v1", show_default=True, help="Which kind.")
@click.option("--end", is_flag=True, help="End the rotation: sign with the newest secrets alone.")
@pass_session
def rotate_secret(session: Session, id: str, signature: str, end: bool) -> None:
    """Make a webhook a new secret, which is shown this once. Both sign, until the rotation is ended with --end."""
    from tallystick.delivery import operations

    with _control(session) as control, _words():
        if end:
            _say(session, operations.end_rotation(control, id))
            return
        changed = operations.rotate_secret(control, id, signature=signature)
    _write_with_secrets(session, changed, newest=True)


# ---------------------------------------------------------------- the records


@contextmanager
def _control(session: Session, *, create: bool = False) -> Iterator[Control]:
    """The operator's records. Where none were made yet, but ledgers are, there is nothing in them."""
    from tallystick.control import open_control

    try:
        control = open_control(session.url, create=create)
    except LedgerNotFound:
        session.open()  # raises if there are no ledgers either
        control = open_control("memory://")
    try:
        yield control
    finally:
        control.close()


@contextmanager
def _words() -> Iterator[None]:
    """A field that is wrong is said by the word for it on the command line."""
    try:
        yield
    except InvalidInput as error:
        path = str(error.data.get("path", ""))
        raise usage(error, "--set" if path.startswith("settings") else OPTIONS.get(path, path)) from None


def _endpoint(control: Control, id: str) -> Endpoint:
    found = control.endpoint(id)
    if found is None:
        raise NotFound(what=f"endpoint {id}")
    return found


def _endpoints(control: Control, ledger: str) -> Iterator[Endpoint]:
    after = ""
    while page := control.endpoints(ledger=ledger, after=after, limit=PAGE):
        yield from page
        after = page[-1].id


def _standing(control: Control, endpoint: Endpoint) -> dict[str, int]:
    """How far an endpoint is, and how much it has not accepted (MOST_SHOWN at most is counted)."""
    counts = {
        state: len(control.deliveries(endpoint.id, state=state, limit=MOST_SHOWN)) for state in ("waiting", "dead")
    }
    return {"cursor": control.cursor(endpoint.id), **counts}


def _setting(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--set")
    return name.strip(), value


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise click.BadParameter(f"{text!r} is neither now nor the number of an event", param_hint="--start")
    return int(text)


def _own_types(session: Session, named: tuple[str, ...]) -> set[str]:
    """The ledger's own types among those that were named."""
    from tallystick.events import EVENT_TYPES

    if all(name in EVENT_TYPES for name in named):
        return set()
    ledger = session.reading()
    found: set[str] = set()
    page = ledger.events_page(types=("type_defined",))
    while True:
        found |= {str(one.data.get("name", "")) for one in page.items}
        if not page.more:
            return found
        page = ledger.events_page(after=page.after, types=("type_defined",))


# ---------------------------------------------------------------- writing


def _kinds_of_secrets(endpoint: Endpoint) -> list[str]:
    """How it is signed, newest first: what may be said of secrets."""
    return ["v1a" if secret.startswith("whsk_") else "v1" for secret in endpoint.secrets]


def _public_keys(endpoint: Endpoint) -> list[str]:
    from tallystick.delivery.signatures import public_key

    return [public_key(secret) for secret in endpoint.secrets if secret.startswith("whsk_")]


def _document(endpoint: Endpoint, standing: dict[str, int]) -> dict[str, Any]:
    from msgspec import to_builtins
    from msgspec.structs import asdict

    document: dict[str, Any] = {name: to_builtins(value) for name, value in asdict(endpoint).items()}
    del document["secrets"]
    document["url"] = masked(endpoint.url)
    return {**document, "signatures": _kinds_of_secrets(endpoint), "public_keys": _public_keys(endpoint), **standing}


def _facts(endpoint: Endpoint, standing: dict[str, int]) -> list[tuple[str, Any]]:
    return [
        ("endpoint", endpoint.id),
        ("ledger", endpoint.ledger),
        ("kind", endpoint.kind),
        ("url", masked(endpoint.url)),
        ("types", ", ".join(endpoint.types)),
        ("prefix", endpoint.account_prefix),
        ("mapping", endpoint.mapping),
        ("settings", show_map(endpoint.settings)),
        ("signatures", ", ".join(_kinds_of_secrets(endpoint))),
        *(("public key", key) for key in _public_keys(endpoint)),
        ("state", endpoint.state),
        ("reason", endpoint.reason),
        ("owner", endpoint.owner),
        ("created", show_time(endpoint.created)),
        ("start", endpoint.start),
        *((name, f"{count:,}") for name, count in standing.items()),
    ]


def _write_with_secrets(session: Session, endpoint: Endpoint, *, newest: bool = False) -> None:
    """An endpoint with what a receiver needs: a shared secret, or the public half of a key pair."""
    from tallystick.delivery.signatures import public_key

    secrets = endpoint.secrets[:1] if newest else endpoint.secrets
    given = [public_key(secret) if secret.startswith("whsk_") else secret for secret in secrets]
    if session.json:
        session.write({"id": endpoint.id, "ledger": endpoint.ledger, "start": endpoint.start, "secrets": given})
        return
    write_facts([("endpoint", endpoint.id), *(("secret", secret) for secret in given)])


def _say(session: Session, endpoint: Endpoint) -> None:
    if session.json:
        signatures = _kinds_of_secrets(endpoint)
        document = {"id": endpoint.id, "state": endpoint.state, "reason": endpoint.reason, "signatures": signatures}
        session.write(document)
    else:
        click.echo(f"{endpoint.id} is {endpoint.state}" + (f": {safe(endpoint.reason)}" if endpoint.reason else ""))


def _write_deliveries(session: Session, found: list[Delivery]) -> None:
    if session.json:
        session.write(found)
        return
    rows = [
        (one.seq, one.state, one.attempts, show_time(one.due), "yes" if one.redelivery else "", one.problem)
        for one in found
    ]
    columns = ("event", "state", "tries", "due", "again", "problem")
    write_table(columns, rows, right=("event", "tries"), empty="it has accepted all that it was told")


def _write_tries(session: Session, found: list[Attempt]) -> None:
    if session.json:
        session.write(found)
        return
    rows = [
        (one.seq, show_time(one.time), one.number, one.status or "", one.milliseconds, one.problem or "accepted")
        for one in found
    ]
    columns = ("event", "time", "try", "status", "ms", "result")
    write_table(columns, rows, right=("event", "try", "status", "ms"), empty="nothing was tried")


COMMANDS: tuple[click.Command, ...] = (endpoints_group,)
