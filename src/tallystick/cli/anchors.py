"""Anchors: what was signed, left with others who have no reason to alter it: a log service, a timestamp authority."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tallystick.cli.log import home_of, home_option, open_log, read_file
from tallystick.cli.output import write_facts
from tallystick.cli.problems import Reported
from tallystick.cli.root import Command
from tallystick.cli.session import Session, pass_session
from tallystick.errors import ProofInvalid

if TYPE_CHECKING:
    from tallystick.evidence.log import Log
    from tallystick.evidence.timestamps import Timestamp

_roots_option = click.option(
    "--roots",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The authority's root certificates (PEM).",
)


@click.command("deliver", cls=Command)
@click.argument("url", metavar="URL")
@click.option(
    "--token-file", type=click.Path(path_type=Path), metavar="FILE", help="The token that the service asks for."
)
@home_option
@pass_session
def deliver(session: Session, url: str, token_file: Path | None, home: Path | None) -> None:
    """Deliver the hash of each signed event, and a root a day, to a log service, from where it stands.

    What the service lacks is sent, what it has is compared; if they contradict each other that is an alarm (exit
    code 3). Run it as often as you like, from cron for example.
    """
    from tallystick.evidence.log_service import CursorFile, LogDelivery, TileLeaves
    from tallystick.evidence.log_service_client import LogServiceClient
    from tallystick.evidence.serving import load_token

    log = open_log(session, home, write=False)
    size, note = newest(log)
    ledger = session.reading()
    client = LogServiceClient(url, token="" if token_file is None else load_token(token_file))
    state = CursorFile(home_of(session, home).folder / "delivered.json")
    delivery = LogDelivery(TileLeaves(ledger.journal.tiles, lambda: size), client, state, log_id=log.origin)
    sent = delivery.deliver()
    root = delivery.deliver_root(note, ledger.now())
    gaps = [*sent.gaps, *root.gaps]
    if session.json:
        found = [{"first": gap.first, "last": gap.last, "filled": gap.filled} for gap in gaps]
        session.write({"size": sent.size, "sent": sent.sent, "root": root.root, "gaps": found})
        return
    click.echo(f"sent {sent.sent:,} hashes; the service has {sent.size:,}")
    for gap in gaps:
        click.echo(
            f"it lacked {gap.first} to {gap.last}; they were {'sent again' if gap.filled else 'not sent'}", err=True
        )


@click.command("timestamp", cls=Command)
@click.argument("url", metavar="URL")
@_roots_option
@home_option
@pass_session
def timestamp(session: Session, url: str, roots: Path, home: Path | None) -> None:
    """Have the newest checkpoint timestamped by an authority (RFC 3161), and keep its answer in the log's home.

    It shows that the checkpoint, with all it covers, existed then. Gather cosignatures before: it is over the very
    bytes of the note, which is kept beside it as timestamps/SIZE.checkpoint.
    """
    from tallystick.evidence.directory import DirectoryPublication
    from tallystick.evidence.timestamps import (
        TimestampClient,
        parse_roots,
        save_timestamp,
        timestamp_path,
        verify_timestamp,
    )

    log = open_log(session, home, write=False)
    size, note = newest(log)
    trusted = parse_roots(read_file(roots, "--roots"))
    place = DirectoryPublication(home_of(session, home).folder)
    response = place.read(timestamp_path(size))
    if response is None:
        response = TimestampClient(url, trusted).stamp(note)
        place.write(timestamp_path(size).replace(".tsr", ".checkpoint"), note, immutable=True)
        save_timestamp(place, size, response)
    else:
        note = place.read(timestamp_path(size).replace(".tsr", ".checkpoint")) or note
    _show(session, verify_timestamp(response, note, trusted), size)


@click.command("timestamp", cls=Command)
@click.argument("response", type=click.Path(path_type=Path), metavar="RESPONSE")
@click.argument("checkpoint", type=click.Path(path_type=Path), metavar="CHECKPOINT")
@_roots_option
@pass_session
def verify_kept(session: Session, response: Path, checkpoint: Path, roots: Path) -> None:
    """Check an authority's timestamp (RFC 3161) of a checkpoint; exit code 1 if it does not hold."""
    from tallystick.evidence.timestamps import parse_roots, verify_timestamp
    from tallystick.journal.checkpoints import read_checkpoint

    note = read_file(checkpoint, "CHECKPOINT")
    try:
        found = verify_timestamp(read_file(response, "RESPONSE"), note, parse_roots(read_file(roots, "--roots")))
    except ProofInvalid as error:
        click.echo(f"not valid: {error}")
        raise Reported from None
    _show(session, found, read_checkpoint(note).size)


def _show(session: Session, found: Timestamp, size: int) -> None:
    facts = {"events": size, "time": found.time.isoformat(), "serial": found.serial, "policy": found.policy}
    if session.json:
        session.write(facts)
    else:
        write_facts(facts.items())


def newest(log: Log) -> tuple[int, bytes]:
    """The newest checkpoint and its size. Raises a usage error if there is none."""
    from tallystick.journal.checkpoints import read_checkpoint

    note = log.note
    if note is None:
        raise click.UsageError("there is no checkpoint yet: tally log checkpoint")
    return read_checkpoint(note).size, note


COMMANDS: tuple[click.Command, ...] = (deliver, timestamp)
"""More commands of the group log."""
