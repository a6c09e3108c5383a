"""A witness for logs, other people's too: it cosigns what extends what it has seen, and nothing else."""

from __future__ import annotations

import signal
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tallystick.cli.root import Group
from tallystick.cli.session import Session, pass_session

if TYPE_CHECKING:
    from tallystick.evidence.witness_server import WitnessServer
    from tallystick.journal.notes import VerifierKey

GOODBYE_SECONDS = 5.0
"""What requests that are being answered get when the witness is told to end."""

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

    host, port = _address(listen)
    known = _logs(logs, policy)
    key = load_key(key_file, name or _default_name(key_file))
    records = WitnessRecords(state)
    try:
        server = WitnessServer(WitnessService(records, [key], known), host, port)
        remembered = records.sizes()
        if session.json:
            session.write({"url": server.url, "vkey": str(key.verifier), "logs": sorted(known), "sizes": remembered})
        else:
            click.echo(f"{key.verifier}")
            click.echo(f"listens on {server.url} for {len(known)} logs, and remembers {len(remembered)}")
        _run(server)
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


def _run(server: WitnessServer) -> None:
    """Serve until SIGINT or SIGTERM."""

    def end(*_: object) -> None:
        threading.Thread(target=server.shutdown, daemon=True).start()  # it waits for the loop that this interrupts

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.serve_forever(poll_interval=0.1)
        server.server_close()
        server.wait_for_connections(GOODBYE_SECONDS)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise click.BadParameter("give a host and a port, such as 127.0.0.1:7380", param_hint="--listen")
    return host, int(port)


def _default_name(key_file: Path) -> str:
    """For a new key only: a key that is there has its name."""
    return "" if key_file.exists() else f"{socket.gethostname()}/witness"


def _logs(texts: tuple[str, ...], policy: Path | None) -> dict[str, tuple[VerifierKey, ...]]:
    """The keys of each log by its origin, which is the key's name unless another stands before it."""
    from tallystick.journal.notes import VerifierKey

    pairs = [(key.name, key) for key in _policy_logs(policy)] if policy is not None else []
    for text in (part.strip() for several in texts for part in several.split(",")):
        origin, _, vkey = text.rpartition(" ")
        key = VerifierKey.parse(vkey)
        pairs.append((origin or key.name, key))
    if not pairs:
        raise click.UsageError("name the logs that it is to witness: --log VKEY or --policy FILE")
    found: dict[str, tuple[VerifierKey, ...]] = {}
    for origin, key in pairs:
        found[origin] = (*found.get(origin, ()), key)
    return found


def _policy_logs(path: Path) -> list[VerifierKey]:
    from tallystick.journal.policies import MAX_POLICY_BYTES, Policy

    try:
        with path.open("rb") as file:
            text = file.read(MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise click.BadParameter(f"{path} cannot be read: {error.strerror}", param_hint="--policy") from None
    return list(Policy.parse(text).log_keys)


COMMANDS: tuple[click.Command, ...] = (witness,)
