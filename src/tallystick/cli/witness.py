"""A witness for logs, other people's too: it cosigns what extends what it has seen, and nothing else."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tallystick.cli.log import policy_of
from tallystick.cli.output import safe
from tallystick.cli.problems import Reported, usage
from tallystick.cli.root import Group
from tallystick.cli.serving import parse_address, run_server
from tallystick.cli.session import Session, pass_session
from tallystick.errors import InvalidInput, NoteInvalid

if TYPE_CHECKING:
    from tallystick.journal.notes import VerifierKey

_key_option = click.option(
    "--key", "key_file", required=True, type=click.Path(path_type=Path), metavar="FILE", help="Its key; made if absent."
)
_name_option = click.option(
    "--name", default="", metavar="NAME", help="The witness's name, for a new key.  [default: HOST/witness]"
)


@click.group(cls=Group)
def witness() -> None:
    """Cosign the checkpoints of logs, so that nobody can be shown another history."""


@witness.command("serve")
@click.option("--listen", default="127.0.0.1:7380", show_default=True, metavar="HOST:PORT", help="Port 0 takes any.")
@click.option(
    "--state", required=True, type=click.Path(path_type=Path), metavar="FILE", help="What it remembers; never go back."
)
@_key_option
@_name_option
@click.option(
    "--log", "logs", multiple=True, metavar="VKEY[,..]", help="A log by its key; with another origin: 'ORIGIN VKEY'."
)
@click.option("--policy", type=click.Path(path_type=Path), metavar="FILE", help="A tlog-policy that names the logs.")
@pass_session
def serve(
    session: Session, listen: str, state: Path, key_file: Path, name: str, logs: tuple[str, ...], policy: Path | None
) -> None:
    """Answer add-checkpoint requests (C2SP tlog-witness) until it is told to end.

    Plain HTTP: put a proxy with TLS before it where others reach it. The file of --state is what it is trusted for;
    a witness whose state was restored from a copy, or begun anew, can be led back to what it saw then.

    \b
      tally witness serve --state witness.db --key witness.key --log 'example.com/log+1b2c3d4e+AQ...'
    """
    from tallystick.evidence.witness_records import WitnessRecords
    from tallystick.evidence.witness_server import WitnessServer, WitnessService, load_key

    host, port = parse_address(listen)
    known = _logs(logs, policy)
    try:
        key = load_key(key_file, name or _default_name(key_file), known)
    except InvalidInput as error:
        raise usage(error, "--key") from None
    records = WitnessRecords(state)
    try:
        server = WitnessServer(WitnessService(records, [key], known), host, port)
        remembered = records.sizes()
        if session.json:
            session.write({"url": server.url, "vkey": str(key.verifier), "logs": sorted(known), "sizes": remembered})
        else:
            click.echo(f"{key.verifier}")
            click.echo(f"listens on {server.url} for {len(known)} logs, and remembers {len(remembered)}")
        run_server(server)
    finally:
        records.close()


@witness.command("key")
@_key_option
@_name_option
@pass_session
def show_key(session: Session, key_file: Path, name: str) -> None:
    """Show the key that verifies its cosignatures; it is made if there is none."""
    from tallystick.evidence.witness_server import load_key

    key = load_key(key_file, name or _default_name(key_file))
    if session.json:
        session.write({"name": key.verifier.name, "vkey": str(key.verifier)})
    else:
        click.echo(str(key.verifier))


@witness.command("forks")
@click.option(
    "--state",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="What a witness remembers.",
)
@pass_session
def list_forks(session: Session, state: Path) -> None:
    """Show what proves a log dishonest: two notes of one size that it signed; exit code 1 if there are any.

    The first of the two is the one that this witness cosigned.
    """
    from tallystick.evidence.witness_records import WitnessRecords

    records = WitnessRecords(state)
    try:
        found = [(origin, pair) for origin in sorted(records.sizes()) for pair in records.forks(origin)]
    finally:
        records.close()
    if session.json:
        session.write(
            [{"origin": origin, "cosigned": first.decode(), "note": other.decode()} for origin, (first, other) in found]
        )
    elif not found:
        click.echo("no log that it knows has signed two histories")
    else:
        for origin, pair in found:
            click.echo(f"{safe(origin)} has signed two histories:")
            for note in pair:
                click.echo("\n" + "\n".join(safe(line) for line in note.decode().split("\n")))
    if found:
        raise Reported


def _default_name(key_file: Path) -> str:
    """For a new key only: a key that is there has its name."""
    return "" if key_file.exists() else f"{socket.gethostname()}/witness"


def _logs(texts: tuple[str, ...], policy: Path | None) -> dict[str, tuple[VerifierKey, ...]]:
    """The keys of each log by its origin, which is the key's name unless another stands before it. Raises usage
    errors."""
    known = policy_of(policy)
    pairs = [(key.name, key) for key in known.log_keys] if known is not None else []
    pairs += [_parse_log(part.strip()) for text in texts for part in text.split(",")]
    if not pairs:
        raise click.UsageError("name the logs that it is to witness: --log VKEY or --policy FILE")
    found: dict[str, tuple[VerifierKey, ...]] = {}
    for origin, key in pairs:
        found[origin] = (*found.get(origin, ()), key)
    return found


def _parse_log(text: str) -> tuple[str, VerifierKey]:
    from tallystick.journal.notes import VerifierKey

    origin, _, vkey = text.rpartition(" ")
    try:
        key = VerifierKey.parse(vkey)
    except NoteInvalid as error:
        raise click.BadParameter(str(error.data["problem"]), param_hint="--log") from None
    return origin or key.name, key


COMMANDS: tuple[click.Command, ...] = (witness,)
