"""Handing out a published log over HTTP."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tallystick.cli.root import Command
from tallystick.cli.session import Session, pass_session

if TYPE_CHECKING:
    from tallystick.evidence.http_server import BoundedServer

GOODBYE_SECONDS = 5.0
"""What requests that are being answered get when a server is told to end."""

_folder = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command("serve", cls=Command)
@click.argument("folder", type=_folder)
@click.option("--listen", default="127.0.0.1:7381", show_default=True, metavar="HOST:PORT", help="Port 0 takes any.")
@click.option("--entries", type=_folder, metavar="FOLDER", help="Where the entries of a private log are.")
@click.option(
    "--token-file", type=click.Path(path_type=Path), metavar="FILE", help="Entries only for who bears this token."
)
@pass_session
def serve_log(session: Session, folder: Path, listen: str, entries: Path | None, token_file: Path | None) -> None:
    """Hand out the published log in FOLDER (C2SP tlog-tiles) until it is told to end.

    Checkpoints and tiles are for everybody. So are the entries, unless there is a token; those of a private log need
    one. Plain HTTP: put a proxy with TLS before it where others reach it.

    \b
      tally log serve published/ --listen 127.0.0.1:7381
      tally log serve published/ --entries private/ --token-file reader.token
    """
    from tallystick.evidence.directory import DirectoryPublication
    from tallystick.evidence.publications import refuse_home
    from tallystick.evidence.serving import LogFiles, TileServer, load_token

    for place in (folder, entries):
        if place is not None:
            refuse_home(place)
    if entries is not None and token_file is None:
        raise click.UsageError("entries that are kept apart are not for everybody: give --token-file")
    host, port = parse_address(listen)
    token = load_token(token_file) if token_file is not None else ""
    private = DirectoryPublication(entries) if entries is not None else None
    server = TileServer(LogFiles(DirectoryPublication(folder), private, token), host, port)
    if session.json:
        session.write({"url": server.url, "token": bool(token)})
    else:
        click.echo(f"serves {folder} on {server.url}, the entries {'with the token alone' if token else 'too'}")
    run_server(server)


def run_server(server: BoundedServer) -> None:
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


def parse_address(listen: str) -> tuple[str, int]:
    """Host and port of ``--listen``. Raises a usage error."""
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise click.BadParameter("give a host and a port, such as 127.0.0.1:7381", param_hint="--listen")
    return host, int(port)


COMMANDS: tuple[click.Command, ...] = (serve_log,)
"""More commands of the group log."""
