"""The demo: a real ledger does its main job on real records.

Every request of the Azure LLM traces is billed (freeze, capture, release), every bet of the Bustabit record is staked
and settled, and then the books are checked against the records. Ends with exit code 0 if every check holds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import bets as betting
import inference
import report
from bets import Bet
from inference import Request
from posting import Check, DemoFailed, Progress, amounts_in, check_amounts, count_held
from report import Part
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from workplace import DATABASE, LEDGER, shown, start_afresh

import tallystick
from tallystick import Ledger
from tallystick.errors import TallystickError
from tallystick.ledger.views import Report

EXCERPT_LINES = 14
COLUMNS = (TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


def main() -> int:
    console = Console(highlight=False)
    try:
        requests, bets = inference.read_requests(), betting.read_bets()
        run(console, DATABASE, requests, bets, [*inference.check_records(requests), *betting.check_records(bets)])
    except (DemoFailed, TallystickError) as error:
        console.print(f"[bold red]error:[/] {error}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print(
            "\nStopped. What was posted so far is in the ledger file; the next run starts afresh.", soft_wrap=True
        )
        return 130
    return 0


def run(console: Console, path: Path, requests: Sequence[Request], bets: Sequence[Bet], known: Sequence[Check]) -> None:
    """Post everything into a new ledger file, show it and check it. Raises DemoFailed if a check fails.

    ``known`` are checks of the records themselves, to be shown with those of the books.
    """
    if start_afresh(path):
        console.print(f"Starting afresh: removed {shown(path)}, which an earlier run had made.\n", soft_wrap=True)
    with tallystick.open(path) as database:
        ledger = database.ledger(LEDGER)
        parts = post(console, ledger, requests, bets)
        console.print(f"\nPosted [bold]{len(requests):,} requests[/] and [bold]{len(bets):,} bets[/].\n")
        report.print_trial_balance(console, ledger)
        report.print_register(console, ledger, requests[0].customer, EXCERPT_LINES)
        replayed = replay(console, ledger)
        report.print_replay(console, replayed)
        parts.append(Part("replay check", replayed.events, replayed.events, replayed.seconds))
        checks = [*known, *check_books(ledger, requests, bets), Check("replay: findings", 0, len(replayed.findings))]
    report.print_checks(console, checks)
    report.print_parts(console, parts)
    report.print_next(console, path)
    failed = [check.name for check in checks if not check.ok]
    if failed:
        raise DemoFailed(f"{len(failed)} checks failed: {'; '.join(failed)}")


# ---------------------------------------------------------------- the parts


def post(console: Console, ledger: Ledger, requests: Sequence[Request], bets: Sequence[Bet]) -> list[Part]:
    """Bill the requests, then play the bets."""
    with Bars(*COLUMNS, console=console) as bars:

        def timed(name: str, count: int, work: Callable[[Progress], None]) -> Part:
            task = bars.add_task(name, total=count)
            return time_part(ledger, name, count, lambda: work(lambda done: bars.advance(task, done)))

        return [
            timed("LLM requests", len(requests), lambda tell: inference.post_requests(ledger, requests, tell)),
            timed("bets", len(bets), lambda tell: betting.post_bets(ledger, bets, tell)),
        ]


def time_part(ledger: Ledger, name: str, count: int, work: Callable[[], None]) -> Part:
    """Do some posting, and measure how many events it came to and how long it took."""
    first, begun = ledger.head.seq, time.perf_counter()
    work()
    return Part(name, count, ledger.head.seq - first, time.perf_counter() - begun)


def replay(console: Console, ledger: Ledger) -> Report:
    """Hash the chain again, apply every event to an empty book, and compare that with the live ledger."""
    with Bars(*COLUMNS, console=console) as bars:
        task = bars.add_task("replay check", total=ledger.head.seq)
        return ledger.replay(progress=lambda done, total: bars.update(task, completed=done, total=total))


def check_books(ledger: Ledger, requests: Sequence[Request], bets: Sequence[Bet]) -> list[Check]:
    """The books against plain arithmetic over the records: every account, to the minor unit."""
    amounts = amounts_in(ledger)
    return [
        check_amounts("accounts in CREDIT that agree with the traces", inference.expected_amounts(requests), amounts),
        check_amounts("accounts in BIT that agree with the record", betting.expected_amounts(bets), amounts),
        *inference.check_revenue(requests, amounts),
        Check("balances still held or on game", 0, count_held(ledger)),
        *(Check(f"sum of all {asset}", 0, total) for asset, total in sorted(ledger.trial_balance().totals.items())),
    ]


if __name__ == "__main__":
    sys.exit(main())
