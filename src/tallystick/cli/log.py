"""The log over a ledger: checkpoints, publishing, receipts; and the check of what others show."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tallystick.cli.output import safe, write_facts
from tallystick.cli.problems import Reported
from tallystick.cli.root import Command, Group
from tallystick.cli.session import Session, pass_session
from tallystick.errors import InvalidInput, LogForked, NoteInvalid, ProofInvalid, TallystickError
from tallystick.stores.urls import masked

if TYPE_CHECKING:
    from tallystick.evidence.home import LogHome
    from tallystick.evidence.log import Log
    from tallystick.evidence.places import Publication
    from tallystick.evidence.witness import Asked
    from tallystick.journal.notes import VerifierKey
    from tallystick.journal.policies import Policy
    from tallystick.ledger import Ledger

home_option = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="TALLYSTICK_LOG",
    show_envvar=True,
    metavar="FOLDER",
    help="Where the log's key and last checkpoint lie.  [default: FILE.log/LEDGER]",
)
_policy_option = click.option(
    "--policy", "policy_file", type=click.Path(path_type=Path), metavar="FILE", help="A tlog-policy: which witnesses."
)
_kms_option = click.option("--kms", default="", metavar="KEY_ID", help="Sign with this Ed25519 key of AWS KMS.")
_retain_option = click.option(
    "--retain-years", type=click.IntRange(1, 100), metavar="YEARS", help="Lock S3 objects for so long."
)
_key_option = click.option(
    "--key", "keys", multiple=True, metavar="VKEY", help="A verifier key of the log (see tally log key), or its file."
)


def home_of(session: Session, folder: Path | None) -> LogHome:
    """The home that was named, or the one beside the ledger's file."""
    from tallystick.evidence.home import LogHome

    if folder is not None:
        return LogHome(folder)
    if not isinstance(session.url, Path):
        raise click.UsageError("a ledger that is no file has no folder beside it: name the log's with --home")
    return LogHome(session.url.with_name(session.url.name + ".log") / session.ledger_name)


def open_log(session: Session, home: Path | None, *, write: bool) -> Log:
    """The log of the session's ledger. Raises LedgerNotFound, LogNotFound."""
    ledger: Ledger = session.writing() if write else session.reading()
    return home_of(session, home).open(ledger)


def publication_of(text: str, retain_years: int | None = None) -> Publication:
    """``s3://bucket/prefix``, or a folder, where nothing can be locked, and which is not a log's home."""
    from tallystick.evidence.publications import publication_at, refuse_home

    if not text.startswith("s3://"):
        refuse_home(Path(text))
    return publication_at(text, retain_years)


def _places(
    place: str | None, entries: str | None, retain_years: int | None
) -> tuple[Publication | None, Publication | None]:
    """Where to publish, and where the events go if they are to be private. Raises usage errors."""
    if entries is not None and place is None:
        raise click.UsageError("--entries says where the events of a published log go: name its place with --publish")
    if retain_years is not None and not any((text or "").startswith("s3://") for text in (place, entries)):
        raise click.UsageError("--retain-years locks objects in S3; nothing in a folder can be locked")
    found = [None if text is None else publication_of(text, retain_years) for text in (place, entries)]
    return found[0], found[1]


def policy_of(file: Path | None) -> Policy | None:
    """The policy in a file. Raises a usage error for what is none."""
    from tallystick.journal.policies import Policy

    if file is None:
        return None
    try:
        return Policy.parse(read_file(file, "--policy"))
    except NoteInvalid as error:
        raise click.BadParameter(f"{file}: {error.data['problem']}", param_hint="--policy") from None


def keys_of(texts: tuple[str, ...]) -> list[VerifierKey]:
    """Verifier keys as they were typed, or as they stand in files, one a line. Raises usage errors."""
    from tallystick.journal.notes import VerifierKey

    try:
        return [VerifierKey.parse(line) for text in texts for line in _key_lines(text)]
    except NoteInvalid as error:
        raise click.BadParameter(str(error), param_hint="--key") from None


def _key_lines(text: str) -> list[str]:
    if "+" in text and not Path(text).exists():  # a vkey has two pluses
        return [text]
    return read_file(Path(text), "--key").decode("utf-8", "replace").splitlines() or [""]


def read_file(file: Path, name: str) -> bytes:
    """The bytes of a file that was named. Raises a usage error."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise click.BadParameter(f"{file}: {error.strerror}", param_hint=name) from None


def _write(file: Path, data: bytes) -> None:
    try:
        file.write_bytes(data)
    except OSError as error:
        raise click.BadParameter(f"{file}: {error.strerror}", param_hint="--out") from None


# ---------------------------------------------------------------- keeping the log


@click.group(cls=Group)
def log() -> None:
    """The transparency log over a ledger: what strangers can check it by."""


@log.command("init")
@click.option(
    "--origin", required=True, metavar="NAME", help="The log's name for ever, such as books.example.com/main."
)
@click.option("--publish", "place", metavar="FOLDER|s3://...", help="Where it will be published; looked at ever after.")
@_policy_option
@home_option
@_kms_option
@pass_session
def init(
    session: Session, origin: str, place: str | None, policy_file: Path | None, home: Path | None, kms: str
) -> None:
    """Begin a log: make its key, record that in the ledger, and sign the first checkpoint.

    The origin names a domain that is yours, without https://. Keep a copy of the key elsewhere, and the folder itself
    on another disk than the ledger: the last checkpoint that lies there is what shows that the ledger was taken back.
    With --publish and --policy it is written down where the log is published and who its witnesses are: whatever is
    published then must be extended too, and `tally log checkpoint` and `tally log keep` ask those witnesses.
    """
    if place is not None:
        publication_of(place)
    policy_of(policy_file)
    living = home_of(session, home)
    begun = living.begin(session.writing(), origin, kms=kms)
    living.remember(publication=place or "", policy=str(policy_file or ""))
    begun = living.open(session.writing())
    begun.checkpoint()
    _show(session, begun, living)


@log.command("status")
@home_option
@pass_session
def status(session: Session, home: Path | None) -> None:
    """How far the log is, its verifier key, and whether it extends what its home and its publication have.

    Exit code 1 if it does not.
    """
    shown = open_log(session, home, write=False)
    forked = ""
    try:
        shown.check()
    except LogForked as error:
        forked = str(error.data["problem"])
    _show(session, shown, home_of(session, home), forked)
    if forked:
        raise Reported


def _show(session: Session, shown: Log, place: LogHome, forked: str = "") -> None:
    from tallystick.journal.checkpoints import read_checkpoint

    note = shown.note
    size = 0 if note is None else read_checkpoint(note).size
    facts: dict[str, Any] = {
        "origin": shown.origin,
        "key": str(shown.verifier),
        "events": session.reading().head.seq,
        "signed": size,
        "home": str(place.folder),
    }
    retired = [str(key) for key in shown.retired_keys]
    if session.json:
        more = {"retired": retired, "forked": forked or None, "checkpoint": None if note is None else note.decode()}
        session.write({**facts, **more})
        return
    lines = [(name, f"{value:,}" if isinstance(value, int) else value) for name, value in facts.items()]
    lines += [("retired key", key) for key in retired]
    write_facts([*lines, ("forked", safe(forked))] if forked else lines)


@log.command("key")
@click.option("--all", "all_keys", is_flag=True, help="The retired ones too, before it: for old checkpoints alone.")
@home_option
@pass_session
def show_keys(session: Session, all_keys: bool, home: Path | None) -> None:
    """The verifier key that signs now: what to give to whoever checks.

    A retired key is good for what was signed while it was in use, and for nothing newer: whoever has stolen it since
    can sign what he likes.
    """
    opened = open_log(session, home, write=False)
    key, retired = str(opened.verifier), [str(key) for key in opened.retired_keys]
    if session.json:
        session.write({"key": key, "retired": retired})
    else:
        click.echo("\n".join([*retired, key] if all_keys else [key]))


@log.command("checkpoint")
@home_option
@_policy_option
@pass_session
def checkpoint(session: Session, home: Path | None, policy_file: Path | None) -> None:
    """Sign what is new, and have it cosigned if there is a policy; write the newest checkpoint.

    The new events are read and hashed anew before. Exit code 1 if the witnesses' quorum was not met, 3 if a witness
    shows that the log has signed another history.
    """
    policy = policy_of(policy_file)
    signed = open_log(session, home, write=True)
    policy = policy or _remembered_policy(session, home)
    signed.checkpoint()
    gathered = signed.cosign(policy) if policy is not None else None
    note = (signed.note or b"").decode()
    asked = [] if gathered is None else [_witness_facts(one) for one in gathered.asked]
    if session.json:
        met = None if gathered is None else gathered.quorum_met
        session.write({"checkpoint": note, "quorum_met": met, "witnesses": asked})
    else:
        click.echo(note, nl=False)
        for one in asked:
            if not one["cosigned"]:
                click.echo(f"not cosigned by {safe(one['name'])}: {safe(one['reason'])}", err=True)
    if gathered is not None and not gathered.quorum_met:
        raise Reported


def _remembered_policy(session: Session, home: Path | None) -> Policy | None:
    text = home_of(session, home).settings.policy
    return policy_of(Path(text)) if text else None


def _witness_facts(asked: Asked) -> dict[str, Any]:
    """One witness and how it went; ``size`` is what it says that it has cosigned."""
    reason = getattr(asked.outcome, "reason", "")
    return {"name": asked.witness.key.name, "cosigned": not reason, "size": asked.size, "reason": reason or None}


@log.command("publish")
@click.argument("place", metavar="FOLDER|s3://BUCKET/PREFIX")
@click.option("--entries", metavar="FOLDER|s3://...", help="Put the events here alone; PLACE has hashes only.")
@_retain_option
@home_option
@pass_session
def publish(session: Session, place: str, entries: str | None, retain_years: int | None, home: Path | None) -> None:
    """Publish the newest checkpoint and all it covers, as C2SP tlog-tiles; any web server can hand the files out.

    The first place is written down in the log's home: from then on nothing is signed that does not extend what is
    published there. `tally log init --publish` names another.
    """
    public, private = _places(place, entries, retain_years)
    opened = open_log(session, home, write=False)
    done = opened.publish(public, private) if public is not None else None
    if done is None:
        raise click.UsageError("there is no checkpoint yet: tally log checkpoint")
    _remember(home_of(session, home), place)
    if session.json:
        session.write({"size_before": done.before, "size": done.size, "files": done.files})
    else:
        click.echo(f"published {done.size:,} events ({done.before:,} before), {done.files:,} files, in {place}")


def _remember(home: LogHome, place: str | None) -> None:
    if place is not None and not home.settings.publication:
        home.remember(publication=place)


@log.command("keep")
@click.option("--every", type=click.FloatRange(0.1, 3_600), default=5.0, show_default=True, metavar="SECONDS")
@click.option("--publish", "place", metavar="FOLDER|s3://...", help="Publish each checkpoint here.")
@click.option("--entries", metavar="FOLDER|s3://...", help="Put the events here alone.")
@_retain_option
@_policy_option
@home_option
@pass_session
def keep(
    session: Session,
    every: float,
    place: str | None,
    entries: str | None,
    retain_years: int | None,
    policy_file: Path | None,
    home: Path | None,
) -> None:
    """Sign, have cosigned and publish every few seconds until it is told to end.

    For a ledger in PostgreSQL. A ledger file has one writing process: keep its log there, with
    tallystick.evidence.keeper.LogKeeper. Exit code 3 if the log was found to be forked.
    """
    from tallystick.evidence.keeper import LogKeeper

    public, private = _places(place, entries, retain_years)
    policy = policy_of(policy_file)
    opened = open_log(session, home, write=True)
    policy = policy or _remembered_policy(session, home)
    _remember(home_of(session, home), place)
    ended = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: ended.set())
    keeper = LogKeeper(
        opened,
        every_seconds=every,
        publication=public,
        entries=private,
        policy=policy,
        on_failure=lambda error: click.echo(f"{_mishap(error)}: {safe(masked(str(error)))}", err=True),
    )
    with keeper:
        while keeper.is_alive and not ended.wait(0.2):
            pass
    if keeper.failure is not None:
        raise keeper.failure


def _mishap(error: Exception) -> str:
    from tallystick.evidence.keeper import QuorumMissed

    return "not witnessed" if isinstance(error, QuorumMissed) else "not kept"


@log.command("rotate")
@home_option
@_kms_option
@pass_session
def rotate(session: Session, home: Path | None, kms: str) -> None:
    """Go on under a new key. The ledger records it, and the checkpoint that covers the record bears both keys."""
    place = home_of(session, home)
    opened = place.open(session.writing())
    place.rotate(opened, kms=kms)
    _show(session, opened, place)


@log.command("adopt")
@home_option
@pass_session
def adopt(session: Session, home: Path | None) -> None:
    """Trust the database's newest checkpoint where the home lost its own. Only after you have looked into why."""
    place = home_of(session, home)
    opened = place.open(session.reading())
    opened.adopt()
    _show(session, opened, place)


# ---------------------------------------------------------------- receipts


@click.command(cls=Command)
@click.argument("transaction", metavar="TRANSACTION")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write it here.")
@home_option
@pass_session
def receipt(session: Session, transaction: str, out: Path | None, home: Path | None) -> None:
    """The receipt of a transaction: its bytes, and the proof that a signed checkpoint covers them (C2SP tlog-proof).

    Before the next checkpoint it is a signed promise instead (a DSSE envelope), with the time by which it will be kept.
    """
    opened = open_log(session, home, write=False)
    seq = _seq(transaction, session.ledger_name)
    found = opened.receipt(seq)
    data = opened.accept(seq) if found is None else found.encode()
    if out is not None:
        _write(out, data)
    if session.json:
        kind = "acceptance" if found is None else "receipt"
        session.write({"transaction": f"{session.ledger_name}/{seq}", "kind": kind, kind: data.decode()})
    elif out is not None:
        click.echo(f"wrote {'an acceptance' if found is None else 'the receipt'} of {transaction} to {out}")
    else:
        click.echo(data, nl=False)


def _seq(transaction: str, ledger: str) -> int:
    name, _, number = transaction.rpartition("/")
    if (name and name != ledger) or not number.isascii() or not number.isdigit() or len(number) > 18:
        raise InvalidInput(path="transaction", problem=f"{transaction!r} is not a transaction such as {ledger}/17")
    return int(number)


@click.group(cls=Group)
def verify() -> None:
    """Check what somebody shows you; no ledger is needed."""


@verify.command("receipt")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@_key_option
@_policy_option
@click.option("--origin", default="", metavar="NAME", help="The log that it must be of.")
@pass_session
def verify_receipt(session: Session, file: Path, keys: tuple[str, ...], policy_file: Path | None, origin: str) -> None:
    """Check a receipt, or an acceptance, with the log's key; exit code 1 if it does not hold.

    With a policy the checkpoint must bear the cosignatures of its quorum of witnesses; an acceptance, which no witness
    has seen, then holds only if the quorum is none.
    """
    from tallystick.journal.receipts import check_acceptance, check_receipt

    data = read_file(file, "FILE")
    policy = policy_of(policy_file)
    known = [*keys_of(keys), *(policy.log_keys if policy else ())]
    if not known:
        raise click.UsageError("whose receipt is it? Name the log's key with --key, or a policy that does")
    try:
        if data.lstrip().startswith(b"{"):
            accepted = check_acceptance(data, known, origin=origin)
            if policy is not None and not policy.satisfied_by(()):
                raise NoteInvalid(problem="it is an acceptance, and the policy asks for witnesses, who see checkpoints")
            facts: dict[str, Any] = {
                "verdict": "accepted, not proven: the log promises to include it",
                "origin": accepted.origin,
                "event": accepted.seq,
                "hash": accepted.event_hash,
                "promise by": accepted.promise_by,
            }
        else:
            facts = _receipt_facts(check_receipt(_parsed(data), known, origin=origin, policy=policy))
    except (NoteInvalid, ProofInvalid) as error:
        _refuse(session, error)
    if session.json:
        session.write({"ok": True, **{name.replace(" ", "_"): value for name, value in facts.items()}})
    else:
        write_facts(facts.items())


def _parsed(data: bytes) -> Any:
    from tallystick.journal.receipts import Receipt

    return Receipt.parse(data)


def _receipt_facts(found: Any) -> dict[str, Any]:
    witnesses = [key.name for key in found.witnesses]
    event = found.event
    return {
        "verdict": "included" + (f", witnessed by {', '.join(witnesses)}" if witnesses else ", not witnessed"),
        "origin": found.checkpoint.origin,
        "event": event.id,
        "type": event.type,
        "time": event.time,
        "covered by": f"a checkpoint of {found.checkpoint.size} events",
    }


def _refuse(session: Session, error: TallystickError) -> None:
    if session.json:
        session.write({"ok": False, "error": error.to_dict()})
    else:
        click.echo(f"not valid: {safe(str(error))}")
    raise Reported


COMMANDS: tuple[click.Command, ...] = (log, receipt, verify)
