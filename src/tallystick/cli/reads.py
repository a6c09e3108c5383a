"""Reads: what is in the books. None of these changes anything or makes a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from tallystick.cli.accounts import write_balances
from tallystick.cli.act import write_transaction
from tallystick.cli.output import show_amount, show_map, show_time, write_facts, write_json, write_table
from tallystick.cli.problems import Reported
from tallystick.cli.root import Command
from tallystick.cli.session import Session, pass_session

if TYPE_CHECKING:
    from tallystick.ledger import Ledger

PAGE = 1_000
"""Rows that are read at a time."""

PEOPLE = 100
"""Rows that people are shown unless they ask for more."""

as_of_option = click.option("--as-of", metavar="TIME", help="As it took effect up to this time (ISO 8601).")
recorded_option = click.option("--recorded", metavar="TIME", help="As it was recorded up to this time (ISO 8601).")
limit_option = click.option(
    "--limit", type=click.IntRange(0), help=f"At most this many; 0 for all.  [default: {PEOPLE}, with --json all]"
)
after_option = click.option("--after", default="", help="Go on behind this one, which the page before ended with.")


class _Pages:
    """Rows page by page, up to the limit; says at the end how to go on."""

    def __init__(self, session: Session, limit: int | None) -> None:
        self.session = session
        self.left = limit if limit is not None else 0 if session.json else PEOPLE
        self.endless = not self.left

    def write(
        self,
        read: Callable[[str, int], tuple[list[Any], str]],
        after: str,
        show: Callable[[list[Any], bool], None],
        document: Callable[[Any], str | None] | None = None,
    ) -> None:
        """Write every page that ``read`` gives behind a cursor: to ``show``, or as JSON lines."""
        first = True
        while first or (after and (self.endless or self.left > 0)):
            items, after = read(after, PAGE if self.endless else min(PAGE, self.left))
            self.left -= len(items)
            if self.session.json:
                for item in items:
                    self._write_line(item, document)
            else:
                show(items, first)
            first = False
        if after and not self.session.json:
            click.echo(f"there are more; go on with: --after {after} (or --limit 0 for all)", err=True)

    def _write_line(self, item: Any, document: Callable[[Any], str | None] | None) -> None:
        if document is None:
            self.session.write(item)
        else:
            click.echo(document(item))


@click.command(cls=Command)
@pass_session
def ledgers(session: Session) -> None:
    """The ledgers in the file."""
    names = session.open().ledgers()
    if session.json:
        session.write(names)
    else:
        for name in names:
            click.echo(name)


@click.command(cls=Command)
@click.argument("accounts", nargs=-1, metavar="[ACCOUNT]...")
@click.option("--prefix", default="", help="Every account that begins so.")
@as_of_option
@recorded_option
@pass_session
def balances(session: Session, accounts: tuple[str, ...], prefix: str, as_of: str | None, recorded: str | None) -> None:
    """The balances of these accounts, or of all."""
    ledger = session.reading()
    found = []
    for account in accounts or _every_account(ledger, prefix):
        found += ledger.balances(account, as_of=as_of, recorded=recorded)
    if session.json:
        session.write(found)
    else:
        write_balances(found)


def _every_account(ledger: Ledger, prefix: str) -> Iterator[str]:
    after = ""
    while page := ledger.accounts(prefix, after=after, limit=PAGE):
        yield from page
        after = page[-1]


@click.command(cls=Command)
@click.argument("prefix", default="", metavar="[PREFIX]")
@limit_option
@after_option
@pass_session
def accounts(session: Session, prefix: str, limit: int | None, after: str) -> None:
    """The accounts that were declared or used, sorted; see one with: tally account show."""
    ledger = session.reading()

    def read(after: str, count: int) -> tuple[list[str], str]:
        page = ledger.accounts(prefix, after=after, limit=count)
        return page, page[-1] if len(page) == count else ""

    def show(page: list[str], first: bool) -> None:
        if not page and first:
            click.echo("No accounts.")
        for address in page:
            click.echo(address)

    _Pages(session, limit).write(read, after, show)


@click.command(cls=Command)
@click.argument("account", metavar="ACCOUNT")
@click.option("--asset", default="", help="Only this asset.")
@click.option("--bucket", default="", help="Only this bucket.")
@click.option("--from", "start", metavar="TIME", help="Recorded from this time on (ISO 8601).")
@click.option("--to", "end", metavar="TIME", help="Recorded before this time.")
@limit_option
@after_option
@pass_session
def register(
    session: Session,
    account: str,
    asset: str,
    bucket: str,
    start: str | None,
    end: str | None,
    limit: int | None,
    after: str,
) -> None:
    """Every change of an account's balances, in order, with the balance before and after."""
    ledger = session.reading()

    def read(after: str, count: int) -> tuple[list[Any], str]:
        page = ledger.register(account, asset=asset, bucket=bucket, start=start, end=end, after=after, limit=count)
        return page.items, page.cursor

    _Pages(session, limit).write(read, after, _show_lines)


def _show_lines(lines: list[Any], first: bool) -> None:
    rows = [
        (
            line.id,
            show_time(line.time),
            line.type,
            line.bucket,
            line.asset,
            show_amount(line.amount, line.asset),
            show_amount(line.before, line.asset),
            show_amount(line.after, line.asset),
            line.reason or show_map(line.refs),
        )
        for line in lines
    ]
    columns = ("id", "time", "type", "bucket", "asset", "amount", "before", "after", "note")
    empty = "No entries." if first else ""
    write_table(columns, rows, right=("amount", "before", "after"), header=first, empty=empty)


@click.command(cls=Command)
@click.option("--kind", type=click.Choice(["hold", "stake", "bet", "commitment"]), default=None, help="Only these.")
@click.option("--account", default="", help="Only of this account.")
@click.option("--state", default="", help="Only in this state, such as active or expired.")
@limit_option
@after_option
@pass_session
def holds(session: Session, kind: str | None, account: str, state: str, limit: int | None, after: str) -> None:
    """Holds, stakes, bets and commitments."""
    ledger = session.reading()

    def read(after: str, count: int) -> tuple[list[Any], str]:
        page = ledger.locks(kind=kind or "", account=account, state=state, after=after, limit=count)
        return page, page[-1].id if len(page) == count else ""

    _Pages(session, limit).write(read, after, _show_locks)


def _show_locks(locks: list[Any], first: bool) -> None:
    rows = [
        (
            lock.id,
            lock.kind,
            lock.account,
            lock.asset,
            show_amount(lock.remaining, lock.asset),
            show_amount(lock.amount, lock.asset),
            lock.state,
            show_time(lock.expires),
            lock.reason or show_map(lock.refs),
        )
        for lock in locks
    ]
    columns = ("id", "kind", "account", "asset", "remaining", "amount", "state", "expires", "note")
    empty = "No holds." if first else ""
    write_table(columns, rows, right=("remaining", "amount"), header=first, empty=empty)


@click.command(cls=Command, name="trial-balance")
@as_of_option
@recorded_option
@pass_session
def trial_balance(session: Session, as_of: str | None, recorded: str | None) -> None:
    """Every balance as debit or credit, and what they add up to: zero, or exit code 1."""
    trial = session.reading().trial_balance(as_of=as_of, recorded=recorded)
    if session.json:
        session.write({"rows": trial.rows, "totals": trial.totals, "balanced": trial.is_balanced})
    else:
        rows = [
            (
                row.account,
                row.bucket,
                row.asset,
                _unless_zero(row.debit, row.asset),
                _unless_zero(row.credit, row.asset),
            )
            for row in trial.rows
        ]
        rows += _sums(trial.rows)
        columns = ("account", "bucket", "asset", "debit", "credit")
        write_table(columns, rows, right=("debit", "credit"), empty="Every balance is zero.")
        for asset, total in trial.totals.items():
            if total:
                click.echo(f"{asset} does not add up: {show_amount(total, asset)} is left over", err=True)
    if not trial.is_balanced:
        raise Reported


def _unless_zero(amount: int, asset: str) -> str:
    return show_amount(amount, asset) if amount else ""


def _sums(rows: Iterable[Any]) -> list[tuple[str, str, str, str, str]]:
    sums: dict[str, list[int]] = {}
    for row in rows:
        both = sums.setdefault(row.asset, [0, 0])
        both[0] += row.debit
        both[1] += row.credit
    return [
        ("total", "", asset, show_amount(debit, asset), show_amount(credit, asset))
        for asset, (debit, credit) in sums.items()
    ]


@click.command(cls=Command)
@click.option("--after", type=int, default=-1, metavar="SEQ", help="Only events behind this number.")
@limit_option
@pass_session
def events(session: Session, after: int, limit: int | None) -> None:
    """The journal in order; with --json one event a line, exactly as it was hashed."""
    ledger = session.reading()

    def read(cursor: str, count: int) -> tuple[list[Any], str]:
        page = ledger.events(after=int(cursor), limit=count)
        return page, str(page[-1].seq) if len(page) == count else ""

    _Pages(session, limit).write(read, str(after), _show_events, _event_line)


def _event_line(transaction: Any, opened: dict[str, str | None] | None = None) -> str:
    """The event's bytes as they are; beside them its erasable texts, null if erased."""
    import json

    from tallystick.journal.canonical import encode_event

    event = encode_event(transaction.event).decode()
    texts = f',"opened":{json.dumps(opened, ensure_ascii=False)}' if opened else ""
    return f'{{"id":"{transaction.id}","hash":"{transaction.hash}","event":{event}{texts}}}'


def _show_events(transactions: list[Any], first: bool) -> None:
    rows = [(one.id, show_time(one.time), one.type, _gist(one.event), one.event.idem) for one in transactions]
    write_table(("id", "time", "type", "what", "key"), rows, header=first, empty="No events." if first else "")


def _gist(event: Any) -> str:
    """What an event did, in a few words."""
    out = [entry for entry in event.entries if entry.amount < 0]
    into = [entry for entry in event.entries if entry.amount > 0]
    if len(out) == len(into) == 1:
        amount = f"{show_amount(into[0].amount, into[0].asset)} {into[0].asset}"
        if out[0].account == into[0].account:
            return f"{out[0].account}: {amount} {out[0].bucket} -> {into[0].bucket}"
        return f"{out[0].account} -> {into[0].account}: {amount}"
    if event.entries:
        return f"{len(event.entries)} entries"
    facts = {name: value for name, value in event.data.items() if isinstance(value, str) and name != "request"}
    return show_map(facts)


@click.command(cls=Command)
@click.argument("transaction", required=False, metavar="[ID]")
@click.option("--key", help="The one that bears this idempotency key.")
@click.option("--source", default="local", show_default=True, help="The source of that key.")
@click.option("--ref", metavar="NAME=VALUE", help="Every one with this causal reference.")
@pass_session
def transaction(session: Session, transaction: str | None, key: str | None, source: str, ref: str | None) -> None:
    """One event whole, by id (main/7 or 7), by key, or by reference."""
    if [transaction, key, ref].count(None) != 2:
        raise click.UsageError("give an id, or --key, or --ref")
    ledger = session.reading()
    for index, one in enumerate(_find(ledger, transaction, key, source, ref)):
        opened = ledger.opened(one)
        if session.json:
            click.echo(_event_line(one, opened))
            continue
        if index:
            click.echo()
        write_transaction(one, opened)


def _find(ledger: Ledger, place: str | None, key: str | None, source: str, ref: str | None) -> list[Any]:
    from tallystick.errors import TransactionNotFound

    if place is not None:
        return [ledger.transaction(int(place) if place.isascii() and place.isdigit() else place)]
    if key is not None:
        found = ledger.by_key(key, source=source)
        if found is None:
            raise TransactionNotFound(transaction=f"with the key {key!r} of {source!r}")
        return [found]
    name, equals, value = (ref or "").partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{ref!r} is not NAME=VALUE", param_hint="--ref")
    listed: list[Any] = []
    while page := ledger.by_reference(name, value, after=listed[-1].seq if listed else -1):
        listed += page
    return listed


@click.command(cls=Command)
@pass_session
def stats(session: Session) -> None:
    """Counts and sizes."""
    found = session.reading().stats()
    if session.json:
        write_json(found)
    else:
        write_facts((name.replace("_", " "), _counted(value)) for name, value in found.items())


def _counted(value: Any) -> str:
    return f"{value:,}" if type(value) is int else str(value)


COMMANDS: tuple[click.Command, ...] = (
    ledgers,
    balances,
    accounts,
    register,
    holds,
    trial_balance,
    events,
    transaction,
    stats,
)
