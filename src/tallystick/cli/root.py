"""The root command: the options that every command shares, and the one place where errors become messages."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import IO, Any, NoReturn

import click

from tallystick.cli.problems import EXIT_REFUSED, Reported, report_error, report_surprise, report_usage
from tallystick.cli.session import Session
from tallystick.errors import TallystickError


def _set(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep a shared option on the session; given again behind the command's name, it counts there."""
    if value is not None and value is not False and parameter.name is not None:
        setattr(context.ensure_object(Session), parameter.name, value)


def shared_options(*, hidden: bool) -> list[click.Parameter]:
    """The options that may stand before or behind a command's name."""
    environment: dict[str, Any] = {} if hidden else {"envvar": "TALLYSTICK_FILE", "show_envvar": True}
    return [
        click.Option(
            ["--ledger-file", "--file", "-f", "ledger_file"],
            metavar="FILE",
            help="The ledger file, or a URL such as postgresql://user@host/database.  [default: ./ledger.db]",
            callback=_set,
            expose_value=False,
            hidden=hidden,
            **environment,
        ),
        click.Option(
            ["--ledger", "-l", "ledger_name"],
            metavar="NAME",
            help="The ledger in it.  [default: main]",
            callback=_set,
            expose_value=False,
            hidden=hidden,
        ),
        click.Option(
            ["--json", "json"],
            is_flag=True,
            help="Write JSON for programs; amounts are strings of minor units.",
            callback=_set,
            expose_value=False,
            hidden=hidden,
        ),
    ]


class Command(click.Command):
    """A command that takes the shared options behind its name too."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.params.extend(shared_options(hidden=True))


class Group(click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type


EXIT_INTERRUPTED = 130


class _ReaderGone(Exception):
    """Whoever read the output has had enough."""


class Tally(Group):
    """The root: turns what goes wrong into a message of a line or two, and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        args = list(sys.argv[1:] if args is None else args)
        as_json = "--json" in args
        for stream in (sys.stdout, sys.stderr):
            _never_fail_to_encode(stream)
        try:
            code = super().main(args, prog_name or "tally", complete_var, standalone_mode=False, **extra)
            sys.stdout.flush()
        except Reported:
            code = EXIT_REFUSED
        except TallystickError as error:
            code = report_error(error, as_json)
        except click.ClickException as error:
            code = report_usage(error, as_json)
        except (click.Abort, KeyboardInterrupt):
            click.echo("interrupted", err=True)
            code = EXIT_INTERRUPTED
        except (_ReaderGone, BrokenPipeError):
            _close_quietly()
            code = 0
        except Exception as error:
            if os.environ.get("TALLYSTICK_DEBUG"):
                raise
            code = report_surprise(error, as_json)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except BrokenPipeError:
            raise _ReaderGone from None  # click would take it for a failure


def _never_fail_to_encode(stream: IO[str]) -> None:
    """A terminal that cannot show a character gets its number instead of a traceback."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _close_quietly() -> None:
    """The reader has had enough. What is still buffered goes nowhere, so that closing does not complain again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())


EPILOG = """
Amounts are in major units of their asset ("12.34" with USD/2) unless --minor is given. An account in a movement may
name a bucket: users:alice/promo. Exit codes: 0 done, 1 refused or something was found, 2 wrong usage, 3 a fault.
"""


class _Sections(Tally):
    """The root with its commands listed by what they are for."""

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        left = dict(self.commands)
        for title, names in SECTIONS:
            rows = [(name, left.pop(name).get_short_help_str(150)) for name in names if name in left]
            with formatter.section(title):
                formatter.write_dl(rows)
        if left:
            with formatter.section("More"):
                formatter.write_dl([(name, command.get_short_help_str(150)) for name, command in sorted(left.items())])


SECTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Begin", ("create", "import", "ledgers")),
    ("Look", ("balances", "accounts", "register", "holds", "trial-balance", "events", "transaction", "stats")),
    ("Move value", ("transfer", "post", "mint", "burn", "deposit", "withdraw", "fee", "settle", "promo")),
    ("Set value aside", ("hold", "charge", "stake", "bet")),
    ("Cells", ("cell", "commitment", "federation")),
    ("Put right", ("reverse", "adjust")),
    ("Set the rules", ("account", "policy", "asset", "type", "reserve", "period", "attestation", "key")),
    ("Show it to others", ("log", "receipt", "export", "verify", "witness")),
    ("Serve it", ("serve", "worker", "mcp", "jobs", "keys", "endpoints")),
    ("Keep the books whole", ("check", "replay", "rebuild", "erase", "migrate", "archive")),
)


@click.group(
    cls=_Sections, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="tallystick", prog_name="tally")
@click.pass_context
def tally(context: click.Context) -> None:
    """A double-entry ledger whose every movement is chained.

    Begin with `tally create`; every other command works on a ledger that is there.
    """
    context.ensure_object(Session)


tally.params.extend(shared_options(hidden=False))
