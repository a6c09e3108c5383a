"""What both parts of the demo share: posting in batches, and checks that compare the books with the record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tallystick import Ledger
from tallystick.errors import Refusal

SOURCE = "demo"
"""The source that every command of the demo bears; keys are unique within it."""

BATCH = 8_192
"""Commands per batch: one commit each."""

DATA = Path(__file__).resolve().parent / "data"

Item = TypeVar("Item")
Progress = Callable[[int], Any]
"""Is told how many more requests or bets are done."""

Amounts = dict[tuple[str, str], int]
"""Minor units by (account, asset)."""


class DemoFailed(Exception):
    """The demo cannot go on; the text says why, and what to do."""


class Check(NamedTuple):
    """A number that is known beforehand, and what was found."""

    name: str
    expected: int
    found: int

    @property
    def ok(self) -> bool:
        return self.expected == self.found


def post_all(ledger: Ledger, commands: Sequence[Any]) -> list[Any]:
    """Post every command, BATCH at a time, and give what was posted. Raises DemoFailed for the first refusal."""
    posted: list[Any] = []
    for batch in slices(commands, BATCH):
        for command, result in zip(batch, ledger.post_many(batch), strict=True):
            if isinstance(result, Refusal):
                raise DemoFailed(f"{command.key} was refused: {result}")
            posted.append(result)
    return posted


def slices(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """The items in runs of ``size``; the last may be shorter."""
    for first in range(0, len(items), size):
        yield items[first : first + size]


def amounts_in(ledger: Ledger) -> Amounts:
    """What every account has in all its buckets together, by (account, asset)."""
    found: Amounts = {}
    for row in ledger.trial_balance().rows:
        name = (row.account, row.asset)
        found[name] = found.get(name, 0) + row.credit - row.debit
    return found


def count_held(ledger: Ledger) -> int:
    """How many balances outside ``available`` and ``fees`` are not at zero."""
    return sum(row.bucket not in ("available", "fees") for row in ledger.trial_balance().rows)


def check_amounts(name: str, expected: Mapping[tuple[str, str], int], found: Amounts) -> Check:
    """How many accounts stand exactly where plain arithmetic over the records puts them."""
    right = sum(found.get(account, 0) == amount for account, amount in expected.items())
    return Check(name, len(expected), right)
