"""An act: one command to the ledger, with the options that every act takes, and the answer to it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tallystick.cli.output import plain, show_amount, write_facts, write_json, write_table
from tallystick.cli.problems import usage
from tallystick.cli.session import Session
from tallystick.errors import Fault, HoldNotFound, InvalidInput

if TYPE_CHECKING:
    from tallystick.commands import Command, Leg
    from tallystick.ledger import Ledger
    from tallystick.ledger.views import Posted

LegText = tuple[str, str, str, str]
"""From, to, amount and asset, as typed."""

Function = TypeVar("Function", bound=Callable[..., Any])


class Act:
    """What the shared options of an act say."""

    def __init__(self, session: Session, **options: Any) -> None:
        self.session = session
        self.key_was_given = options["key"] is not None
        self.key: str = options["key"] if self.key_was_given else _new_key()
        self.source: str = options["source"]
        self.actor: str = options["actor"]
        self.reason: str = options["reason"]
        self.refs = pairs_of(options["refs"], "--ref")
        self.metadata = pairs_of(options["metadata"], "--meta")
        self.erasable = pairs_of(options["erasable"], "--erasable")
        if both := sorted(self.metadata.keys() & self.erasable.keys()):
            raise click.BadParameter(f"{both[0]!r} is given with --meta as well", param_hint="--erasable")
        self.at_least: Iterable[tuple[str, str, str]] = options["at_least"]
        self.at_most: Iterable[tuple[str, str, str]] = options["at_most"]
        self.version: Iterable[tuple[str, str, int]] = options["version"]
        self.dry_run: bool = options["dry_run"]
        self.minor: bool = options["minor"]

    # ------------------------------------------------------------ what was typed

    @property
    def ledger(self) -> Ledger:
        return self.session.writing()

    def amount(self, text: str, asset: str, name: str = "AMOUNT") -> int:
        """What was typed, in minor units. Raises a usage error."""
        from tallystick.money import parse_amount, split_asset

        try:
            split_asset(asset)
            if not self.minor:
                return parse_amount(text, asset)
            return parse_amount(text, "MINOR")
        except InvalidInput as error:
            path = error.data["path"]
            if self.minor and path == "amount":
                raise click.BadParameter(f"{text!r} is not a whole number of minor units", param_hint=name) from None
            raise usage(error, "ASSET" if path == "asset" else name) from None

    def part_of(self, lock: str, text: str | None, kind: str = "hold") -> int | None:
        """An amount out of a hold, stake or bet; its asset is looked up where it is needed."""
        if text is None:
            return None
        if self.minor:
            return self.amount(text, "MINOR")
        return self.amount(text, self.asset_of(lock, kind))

    def asset_of(self, lock: str, kind: str = "hold") -> str:
        """The asset of a hold, stake or bet. Raises HoldNotFound."""
        found = self.ledger.hold_by_id(lock)
        if found is None:
            raise HoldNotFound(kind=kind, id=lock)
        return found.asset

    def legs(self, written: Iterable[LegText]) -> tuple[Leg, ...]:
        """Legs as typed: FROM TO AMOUNT ASSET, where an account may name its bucket."""
        return tuple(self.leg(*leg) for leg in written)

    def leg(self, from_place: str, to_place: str, amount: str, asset: str, buckets: tuple[str, str] = ("", "")) -> Leg:
        from tallystick.commands import Leg

        from_account, from_bucket = split_place(from_place, buckets[0])
        to_account, to_bucket = split_place(to_place, buckets[1])
        return Leg(from_account, to_account, asset, self.amount(amount, asset), from_bucket, to_bucket)

    def common(self, **refs: str | None) -> dict[str, Any]:
        """The fields that every command has; ``refs`` are references that have an option of their own."""
        from tallystick.erasable import Erasable

        erasable = {name: Erasable(text) for name, text in self.erasable.items()}
        all_refs = {**self.refs, **{name: value for name, value in refs.items() if value}}
        return {
            "key": self.key,
            "source": self.source,
            "actor": self.actor,
            "reason": self.reason,
            "refs": all_refs or None,
            "metadata": {**self.metadata, **erasable} or None,
            "conditions": self._conditions(),
        }

    def _conditions(self) -> tuple[Any, ...]:
        from tallystick.commands import Condition

        found = []
        for name, given in (("at_least", self.at_least), ("at_most", self.at_most)):
            for place, asset, amount in given:
                account, bucket = split_place(place)
                bound = {name: self.amount(amount, asset, f"--if-{name.replace('_', '-')}")}
                found.append(Condition(account, asset, bucket, **bound))
        for place, asset, version in self.version:
            account, bucket = split_place(place)
            found.append(Condition(account, asset, bucket, version=version))
        return tuple(found)

    # ------------------------------------------------------------ posting and answering

    def post(self, command: Command) -> None:
        """Post a command and write the answer."""
        ledger = self.ledger
        try:
            posted = ledger.post(command, dry_run=self.dry_run)
        except Fault as error:
            error.retry_key = self.key  # type: ignore[attr-defined]
            raise
        self.answer(ledger, posted)

    def move(self, event_type: str, leg: Leg, effective: str | None = None, **refs: str | None) -> None:
        """Post one leg of this type."""
        from tallystick.commands import Post

        self.post(Post(type=event_type, legs=(leg,), effective=effective or "", **self.common(**refs)))

    def answer(self, ledger: Ledger, posted: Posted) -> None:
        """Write what came of a command; a dry run left no event to show, unless the command had been posted before."""
        event = None if self.dry_run and not posted.replayed else ledger.transaction(posted.id).event
        if self.session.json:
            write_json(self._document(posted, event))
            return
        state = "posted already" if posted.replayed else "would be posted" if self.dry_run else "posted"
        title = f"{state}: {posted.id}"
        click.echo(f"{title} ({event.type})" if event else f"{title}; nothing was written")
        if event is not None and event.entries:
            write_entries(event.entries)
        if not self.key_was_given and not self.dry_run:
            click.echo(f"key: {self.key} (made here; give it with --key to ask again safely)")

    def _document(self, posted: Posted, event: Any) -> dict[str, Any]:
        document: dict[str, Any] = {
            "id": posted.id,
            "ledger": posted.ledger,
            "seq": posted.seq,
            "hash": posted.hash,
            "time": posted.time,
            "replayed": posted.replayed,
            "dry_run": self.dry_run,
            "key": self.key,
            "source": self.source,
        }
        if event is not None:
            document["type"] = event.type
            document["entries"] = plain(list(event.entries))
        return document


def _new_key() -> str:
    from uuid import uuid4

    return str(uuid4())


def pairs_of(texts: Iterable[str], name: str) -> dict[str, str]:
    """NAME=VALUE arguments as a dictionary. Raises a usage error."""
    pairs = {}
    for text in texts:
        left, equals, right = text.partition("=")
        if not left or not equals:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=name)
        pairs[left] = right
    return pairs


def split_place(place: str, default: str = "") -> tuple[str, Any]:
    """The account and bucket in ``users:alice/promo``; without a bucket the default, which is ``available``."""
    from tallystick.accounts import BUCKETS

    account, slash, bucket = place.partition("/")
    if slash and bucket not in BUCKETS:
        raise click.BadParameter(f"{bucket!r} is not one of {', '.join(BUCKETS)}", param_hint=repr(place))
    return account, bucket or default or "available"


def write_entries(entries: Iterable[Any]) -> None:
    """The entries of a transaction as a table."""
    rows = [
        (
            entry.account,
            entry.bucket,
            entry.asset,
            show_amount(entry.amount, entry.asset),
            show_amount(entry.before, entry.asset),
            show_amount(entry.after, entry.asset),
        )
        for entry in entries
    ]
    write_table(("account", "bucket", "asset", "amount", "before", "after"), rows, right=("amount", "before", "after"))


def write_transaction(transaction: Any, opened: dict[str, str | None]) -> None:
    """A transaction as people read it; ``opened`` are its erasable texts."""
    event = transaction.event
    write_facts(
        (
            ("id", transaction.id),
            ("type", event.type),
            ("time", event.time),
            ("effective", event.effective),
            ("key", f"{event.idem} (source {event.source})"),
            ("actor", event.actor),
            *((f"ref {name}", value) for name, value in event.refs.items()),
            *((name, value) for name, value in event.data.items() if name != "request"),
            *((f"{path} opened", "(erased)" if text is None else text) for path, text in opened.items()),
            ("hash", transaction.hash),
            ("before it", event.prev),
        )
    )
    if event.entries:
        click.echo()
        write_entries(event.entries)


# ---------------------------------------------------------------- decorators


def act(function: Function) -> Function:
    """Give a command the options of an act, and pass them as an Act first."""

    @functools.wraps(function)
    @click.pass_context
    def run(context: click.Context, *args: Any, **options: Any) -> Any:
        own = {name: options.pop(name) for name in _OPTIONS}
        return function(Act(context.ensure_object(Session), **own), *args, **options)

    decorated: Any = run
    for option in reversed(_SHARED):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


_OPTIONS = (
    "key",
    "source",
    "actor",
    "reason",
    "refs",
    "metadata",
    "erasable",
    "at_least",
    "at_most",
    "version",
    "dry_run",
    "minor",
)
_PLACE = "ACCOUNT ASSET"
_SHARED = (
    click.option("--key", help="Idempotency key: asking again with it gives the first answer.  [default: a new one]"),
    click.option(
        "--source", default="local", show_default=True, help="The system that asks; keys are unique within it."
    ),
    click.option("--actor", default="", envvar="TALLYSTICK_ACTOR", show_envvar=True, help="Who asks."),
    click.option("--reason", default="", help="Why, in words."),
    click.option("--ref", "refs", multiple=True, metavar="NAME=VALUE", help="A causal reference, such as order=A-17."),
    click.option("--meta", "metadata", multiple=True, metavar="NAME=VALUE", help="Anything of your own."),
    click.option(
        "--erasable",
        multiple=True,
        metavar="NAME=TEXT",
        help="The same, of which the journal keeps only a commitment: `tally erase` forgets the text.",
    ),
    click.option(
        "--if-at-least",
        "at_least",
        type=(str, str, str),
        multiple=True,
        metavar=f"{_PLACE} AMOUNT",
        help="Only if the balance is at least this afterwards.",
    ),
    click.option(
        "--if-at-most",
        "at_most",
        type=(str, str, str),
        multiple=True,
        metavar=f"{_PLACE} AMOUNT",
        help="Only if the balance is at most this afterwards.",
    ),
    click.option(
        "--if-version",
        "version",
        type=(str, str, int),
        multiple=True,
        metavar=f"{_PLACE} VERSION",
        help="Only if the balance is at this version.",
    ),
    click.option("--dry-run", is_flag=True, help="Give the answer, write nothing."),
    click.option("--minor", is_flag=True, help="Amounts are in minor units."),
)


def leg_option(text: str = "A leg, given once or more.") -> Callable[[Function], Function]:
    return click.option(
        "--leg", "legs", type=(str, str, str, str), multiple=True, metavar="FROM TO AMOUNT ASSET", help=text
    )


effective_option = click.option("--effective", metavar="TIME", help="When it took effect, if before now (ISO 8601).")
account_argument = click.argument("account", metavar="ACCOUNT")
from_argument = click.argument("from_account", metavar="FROM")
to_argument = click.argument("to_account", metavar="TO")
amount_argument = click.argument("amount", metavar="AMOUNT")
asset_argument = click.argument("asset", metavar="ASSET")
optional_amount_argument = click.argument("amount", metavar="[AMOUNT]", required=False)

__all__ = [
    "Act",
    "LegText",
    "account_argument",
    "act",
    "amount_argument",
    "asset_argument",
    "effective_option",
    "from_argument",
    "leg_option",
    "optional_amount_argument",
    "pairs_of",
    "split_place",
    "to_argument",
    "write_entries",
    "write_transaction",
]
