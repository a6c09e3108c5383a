"""Export bundles: handing the log to somebody who trusts nobody, and checking what somebody handed over."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tallystick.cli.log import home_option, open_log, policy_of, read_file
from tallystick.cli.output import progress_bar
from tallystick.cli.problems import Reported, usage
from tallystick.cli.root import Command
from tallystick.cli.session import Session, pass_session
from tallystick.errors import InvalidInput, LedgerLocked

if TYPE_CHECKING:
    from tallystick.evidence.bundle import Exported, Progress

OPTIONS = {"first": "--from", "end": "--to"}
EXIT_USAGE = 2


@click.command("export", cls=Command)
@click.argument("folder", type=click.Path(path_type=Path), metavar="FOLDER")
@home_option
@click.option("--from", "first", type=click.IntRange(0), default=0, metavar="SEQ", help="From this event on.  [all]")
@click.option("--to", "end", type=click.IntRange(1), metavar="SEQ", help="Up to, but without, this event.  [all]")
@click.option("--openings", is_flag=True, help="With the erasable texts that are still there.")
@click.option(
    "--policy", "policy_file", type=click.Path(path_type=Path), metavar="FILE", help="A tlog-policy to go with it."
)
@pass_session
def export_bundle(
    session: Session,
    folder: Path,
    home: Path | None,
    first: int,
    end: int | None,
    openings: bool,
    policy_file: Path | None,
) -> None:
    """Write a bundle that anyone can check alone into FOLDER, which is new or empty.

    It holds the log's events and hashes, checkpoints and keys, the format's description and the verifier. Who gets it
    checks it with `tally verify bundle`, or with a verify.py from elsewhere than you, whose SHA-256 is told here; not
    with the one in the bundle. With --from and --to it holds a part of the events, behind the balances that it opens
    with. News are signed first, unless another process is writing to the ledger.

    \b
      tally export bundle/
      tally export january/ --from 0 --to 51200
    """
    from tallystick.evidence.bundle import export

    policy_of(policy_file)  # says what is wrong with it
    policy = read_file(policy_file, "--policy") if policy_file is not None else None
    log = open_log(session, home, write=True)

    def run(sign: bool, progress: Progress) -> Exported:
        more = {"first": first, "end": end, "openings": openings, "policy": policy}
        return export(log, folder, sign=sign, progress=progress, **more)  # type: ignore[arg-type]

    try:
        with progress_bar("exporting") as progress:
            try:
                done = run(True, progress)
            except LedgerLocked:
                done = run(False, progress)
    except InvalidInput as error:
        raise usage(error, OPTIONS.get(str(error.data.get("path")), "FOLDER")) from None
    if session.json:
        session.write(done)
    else:
        what = "all" if (done.first, done.end) == (0, done.size) else f"{done.first:,} to {done.end - 1:,}"
        click.echo(f"exported {done.end - done.first:,} events ({what} of {done.size:,}), {done.files:,} files")
        digest = hashlib.sha256((folder / "spec" / "verify.py").read_bytes()).hexdigest()
        click.echo(f"its verify.py has the SHA-256 {digest}: who checks takes it from elsewhere, and compares")
        click.echo(f"check it with: tally verify bundle {folder} --key KEY, where KEY did not come with the bundle")


@click.command("bundle", cls=Command)
@click.argument("source", metavar="FOLDER|URL")
@click.option("--key", "keys", multiple=True, metavar="VKEY", help="The log's verifier key, or its file.")
@click.option("--policy", metavar="FILE", help="A tlog-policy: the witnesses that you trust.")
@click.option("--checkpoint", "checkpoints", multiple=True, metavar="FILE", help="Seen of this log before.")
@click.option("--receipt", "receipts", multiple=True, metavar="FILE", help="A receipt (.tlog-proof).")
@click.option("--token-file", metavar="FILE", help="Holds a bearer token, for a URL; or set TALLYSTICK_TOKEN.")
@click.option("--deadline", type=float, metavar="SECONDS", help="For all of it.  [a URL: an hour]")
@click.option("--require", metavar="VERDICT,...", help="Exit with 1 if one of these was not checked.")
@pass_session
def verify_bundle(
    session: Session,
    source: str,
    keys: tuple[str, ...],
    policy: str | None,
    checkpoints: tuple[str, ...],
    receipts: tuple[str, ...],
    token_file: str | None,
    deadline: float | None,
    require: str | None,
) -> None:
    """Check an export bundle, or a published log at a URL, with the verifier of this installation.

    Six verdicts: bytes, chain, tree, outside, accounting, attestation. Give the log's key, and what you have of the log
    from elsewhere: without, it can only be said that the bundle agrees with itself. What lies in the bundle itself does
    not count as brought. Exit code 1 if something is wrong, or was not checked though --require names it.
    """
    from tallystick import verify

    given: list[tuple[str, tuple[str | None, ...]]]
    given = [("key", keys), ("checkpoint", checkpoints), ("receipt", receipts)]
    given += [("policy", (policy,)), ("token-file", (token_file,)), ("require", (require,))]
    given += [("deadline", (None if deadline is None else str(deadline),))]
    words = [f"--{name}={value}" for name, values in given for value in values if value]
    code = verify.main([*words, *(["--json"] if session.json else []), "--", source])
    if code == EXIT_USAGE:
        click.get_current_context().exit(EXIT_USAGE)
    if code:
        raise Reported


COMMANDS: tuple[click.Command, ...] = (export_bundle,)
