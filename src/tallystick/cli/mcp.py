"""`tally mcp`: the ledger as tools for agents (Model Context Protocol)."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import click

from tallystick.cli.problems import usage
from tallystick.cli.root import Command
from tallystick.cli.session import Session, pass_session
from tallystick.errors import InvalidInput

TOKEN = "TALLYSTICK_TOKEN"
MAX_TOKEN_FILE = 65_536
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
ANY = ("0.0.0.0", "[::]")


@click.command("mcp", cls=Command)
@click.option("--url", default="", metavar="URL", help="A service that runs.  [default: the ledger file, in here]")
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"The file with the key's token.  [default: the environment variable {TOKEN}]",
)
@click.option("--http", "listen", metavar="HOST:PORT", help="Serve streamable HTTP, not standard input and output.")
@click.option("--allow-host", "names", multiple=True, metavar="NAME", help="A name by which HTTP may be called, too.")
@click.option("--as", "subject", default="mcp", show_default=True, metavar="SUBJECT", help="Who acts, without a token.")
@click.option(
    "--log-home",
    default="",
    envvar="TALLYSTICK_LOGS",
    show_envvar=True,
    metavar="FOLDER",
    help="Where the logs of a ledger file are, for receipts: their homes are FOLDER/LEDGER.",
)
@click.option("--read-only", is_flag=True, help="Offer only the tools that look.")
@click.option(
    "--log-level", default="warning", type=click.Choice(["debug", "info", "warning", "error"]), show_default=True
)
@pass_session
def mcp(
    session: Session,
    url: str,
    token_file: Path | None,
    listen: str | None,
    names: tuple[str, ...],
    subject: str,
    log_home: str,
    read_only: bool,
    log_level: str,
) -> None:
    """Give agents the ledger as tools (Model Context Protocol).

    On standard input and output, for one agent, with the key in TALLYSTICK_TOKEN or --token-file. Without a token, and
    on a ledger file, a key is made for this run only: it may read and post in the ledger, in the name of --as. To hold
    an agent to a mandate, make it a key with `tally keys create`. Over HTTP every agent brings its own token.

    \b
      tally mcp -f ledger.db
      tally mcp --url https://ledger.example --token-file agent.token
      tally mcp --url http://127.0.0.1:8420 --http 127.0.0.1:8421
    """
    token = _token(token_file)
    if url and not token and listen is None:
        raise click.UsageError(f"with --url, give the key's token in {TOKEN} or by --token-file")
    host, port = _address(listen) if listen is not None else ("", 0)
    hosts = _hosts(host, names)
    try:
        import anyio

        from tallystick.agents.running import Run, run_on_standard_input, run_over_http

        place = _place(session, url, token, subject, log_home, not read_only, log_level)
    except ModuleNotFoundError as error:
        needed = "mcp" if url else "mcp,service"
        raise click.UsageError(f"{error.name} is not installed: pip install 'tallystick[{needed}]'") from None
    run = Run(ledger=session.ledger_name, read_only=read_only, hosts=hosts)
    try:
        if listen is None:
            anyio.run(run_on_standard_input, run, place)
        else:
            anyio.run(run_over_http, run, place, host, port, click.echo)
    except InvalidInput as error:
        raise usage(error, {"url": "--url", "subject": "--as"}.get(str(error.data["path"]), "")) from None


def _place(session: Session, url: str, token: str, subject: str, log_home: str, writes: bool, log_level: str) -> Any:
    """Where the tools ask: a service elsewhere, of which nothing is needed here, or the one in this process."""
    if url:
        from tallystick.agents.elsewhere import elsewhere

        logging.basicConfig(level=log_level.upper(), stream=sys.stderr)
        return elsewhere(url, token)
    from tallystick.agents.inside import inside
    from tallystick.service.settings import Settings
    from tallystick.telemetry import logs

    logs.configure(log_level)
    settings = Settings(default_ledger=session.ledger_name, log_home=log_home, access_log=False)
    return inside(session.url, settings, token=token, subject=subject, writes=writes)


def _token(file: Path | None) -> str:
    if file is None:
        return os.environ.get(TOKEN, "").strip()
    with file.open("rb") as opened:
        data = opened.read(MAX_TOKEN_FILE + 1)
    token = data.decode("ascii", "replace").strip()
    if not token or len(token) > MAX_TOKEN_FILE or not token.isascii() or not token.isprintable() or " " in token:
        raise click.BadParameter("it does not hold one token", param_hint="--token-file")
    return token


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        raise click.BadParameter("give a host and a port, such as 127.0.0.1:8421", param_hint="--http")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _hosts(host: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names by which the server may be called: those of this machine alone, unless it is told others."""
    shown = f"[{host}]" if ":" in host else host
    if shown in ANY and not names:
        raise click.UsageError(f"at {shown} anybody may call: say by which names, with --allow-host")
    return (*LOOPBACK, *([shown] if host and shown not in (*ANY, *LOOPBACK) else []), *names)


COMMANDS: tuple[click.Command, ...] = (mcp,)
