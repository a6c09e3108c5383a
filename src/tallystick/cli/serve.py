"""`tally serve`: the ledgers over HTTP."""

from __future__ import annotations

import click

from tallystick.cli.problems import usage
from tallystick.cli.root import Command
from tallystick.cli.session import Session, pass_session
from tallystick.errors import InvalidInput

DEFAULT_PORT = 8_420

OPTIONS = {
    "host": "--host",
    "port": "--port",
    "log_home": "--log-home",
    "issuer": "--oidc-issuer",
    "audience": "--oidc-audience",
    "endpoint": "--traces",
}
"""The words of the command line for what is wrong with a setting."""


@click.command("serve", cls=Command)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at; 0.0.0.0 or :: for all.")
@click.option(
    "--port",
    default=DEFAULT_PORT,
    show_default=True,
    type=click.IntRange(0, 65_535),
    metavar="NUMBER",
    help="The port; 0: any free one.",
)
@click.option("--jobs/--no-jobs", "with_jobs", default=True, show_default=True, help="Do the jobs in this process too.")
@click.option(
    "--log-home",
    default="",
    envvar="TALLYSTICK_LOGS",
    show_envvar=True,
    metavar="FOLDER",
    help="Keep the logs whose homes are FOLDER/LEDGER, and give receipts and proofs.",
)
@click.option("--log-publish", is_flag=True, help="Publish the logs where their homes say, events included.")
@click.option("--oidc-issuer", default="", metavar="URL", help="Trust the tokens of this issuer.")
@click.option("--oidc-audience", default="", metavar="TEXT", help="The audience that its tokens must name.")
@click.option(
    "--rate",
    default=0,
    type=click.IntRange(0, 1_000_000),
    metavar="NUMBER",
    show_default=True,
    help="Requests a second of a key that names no rate; 0: no limit.",
)
@click.option("--allow-private", is_flag=True, help="Let webhooks go to private addresses, and without TLS.")
@click.option("--access-log/--no-access-log", default=True, show_default=True, help="Log every request.")
@click.option("--traces", default="", metavar="URL", help="Send spans to this OTLP endpoint (the extra otel).")
@click.option(
    "--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]), show_default=True
)
@pass_session
def serve(
    session: Session,
    host: str,
    port: int,
    with_jobs: bool,
    log_home: str,
    log_publish: bool,
    oidc_issuer: str,
    oidc_audience: str,
    rate: int,
    allow_private: bool,
    access_log: bool,
    traces: str,
    log_level: str,
) -> None:
    """Serve the ledgers over HTTP, until it is told to end.

    Nobody gets in without a key: make the first one with `tally keys create`. The default ledger, of the paths that
    name none, is the one that --ledger names. It speaks plain HTTP: put a proxy with TLS before it.

    A ledger file is written by this one process: a second server on it does not start. Before PostgreSQL any number
    may run, and share the jobs. SIGTERM finishes what was accepted, refuses the rest, and ends with exit code 0.

    \b
      tally create && tally keys create ops --role admin && tally serve
      tally serve -f postgresql://writer@db.example/books --host 0.0.0.0 --log-home /secure/logs
    """
    try:
        from tallystick.service.serving import serve as serve_forever
        from tallystick.service.settings import Settings
    except ImportError as error:
        needed = "the service takes the extra service: pip install 'tallystick[service]'"
        raise click.UsageError(f"{needed} ({error})") from None

    settings = Settings(
        default_ledger=session.ledger_name,
        log_home=log_home,
        log_publish=log_publish,
        oidc_issuer=oidc_issuer,
        oidc_audience=oidc_audience,
        requests_per_second=rate,
        allow_private=allow_private,
        access_log=access_log,
        traces=traces,
    )
    try:
        serve_forever(
            session.url, settings, host=host, port=port, with_jobs=with_jobs, log_level=log_level, say=click.echo
        )
    except InvalidInput as error:
        name = OPTIONS.get(str(error.data.get("path")))
        if name is None:
            raise
        raise usage(error, name) from None


COMMANDS: tuple[click.Command, ...] = (serve,)
