"""Reports that are derived from the events of a bundle, for spreadsheets and audit tools. Nobody need trust them.

``entries.csv`` has the columns of GL_Detail in AICPA's Audit Data Standards as far as they fit, then the ledger's own.
A debit is value that leaves a balance, a credit what enters one, as seen by whoever keeps the ledger: to them what a
holder has is a liability. Amounts are in major units of their asset; columns that end in ``_Minor`` are in minor ones.

Spreadsheets take a text that begins with ``=``, ``+``, ``-`` or ``@`` for a formula. So free text that does gets an
apostrophe in front; account addresses do not, for none of their characters can make a formula do anything.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tallystick.accounts import Account, role_of
from tallystick.events import Event
from tallystick.evidence.bundle_files import Draft, Stream
from tallystick.evidence.places import batches
from tallystick.kernel import Book
from tallystick.money import format_amount, split_asset

TRIAL_BALANCE_FORMAT = "tallystick.trial_balance.v1"
ROWS_AT_ONCE = 1_000

ENTRY_COLUMNS = (
    "Journal_ID",
    "Journal_ID_Line_Number",
    "JE_Header_Description",
    "JE_Line_Description",
    "Source",
    "Business_Unit_Code",
    "Effective_Date",
    "Fiscal_Year",
    "Period",
    "GL_Account_Number",
    "Amount",
    "Amount_Credit_Debit_Indicator",
    "Amount_Currency",
    "Entered_By",
    "Entered_Date",
    "Entered_Time",
    "Asset",
    "Bucket",
    "Amount_Minor",
    "Balance_Minor",
    "Version",
)
TRIAL_BALANCE_COLUMNS = (
    "GL_Account_Number",
    "Asset",
    "Bucket",
    "Amount_Beginning",
    "Debits",
    "Credits",
    "Amount_Ending",
    "Amount_Currency",
    "Amount_Ending_Minor",
    "Version",
)
ACCOUNT_COLUMNS = (
    "GL_Account_Number",
    "Account_Type",
    "Status",
    "Declared",
    "Opened",
    "Owner",
    "Floorless",
    "Limits_Minor",
    "Ceilings_Minor",
)

Place = tuple[str, str, str]


class Reports:
    """The reports of one window, which are filled as its events go by."""

    def __init__(self, ledger: str, entries: Stream) -> None:
        self._ledger = ledger
        self._entries = entries
        self._turnover: dict[Place, list[int]] = {}
        self.lines = 0
        entries.write(_csv([ENTRY_COLUMNS]))

    def add(self, events: Sequence[Event]) -> None:
        """Take the next events of the window."""
        rows = [row for event in events for row in self._rows(event)]
        self.lines += len(rows)
        self._entries.write(_csv(rows))

    def _rows(self, event: Event) -> Iterator[tuple[Any, ...]]:
        effective = event.effective or event.time
        head = (_plain(event.type), _plain(str(event.data.get("reason", ""))), _plain(event.source), self._ledger)
        when = (effective[:10], effective[:4], int(effective[5:7]))
        entered = (_plain(event.actor or event.source), event.time[:10], event.time[11:19])
        for number, entry in enumerate(event.entries, 1):
            place = (entry.account, entry.asset, entry.bucket)
            turnover = self._turnover.get(place)
            if turnover is None:
                turnover = self._turnover[place] = [0, 0]
            turnover[entry.amount > 0] += abs(entry.amount)
            amount = (format_amount(abs(entry.amount), entry.asset), "C" if entry.amount > 0 else "D")
            own = (entry.asset, entry.bucket, entry.amount, entry.after, entry.version)
            code = split_asset(entry.asset)[0]
            yield (event.id, number, *head, *when, entry.account, *amount, code, *entered, *own)

    def finish(self, draft: Draft, book: Book, first: int, end: int) -> None:
        """Write the trial balance and the accounts, as the book stands behind the last event of the window."""
        self._write_trial_balance(draft, book, first, end)
        with draft.stream("derived/accounts.csv") as stream:
            stream.write(_csv([ACCOUNT_COLUMNS]))
            for rows in batches(_account_rows(book), ROWS_AT_ONCE):
                stream.write(_csv(rows))

    def _balances(self, book: Book) -> Iterator[tuple[Place, int, int, int, int, int]]:
        """Each balance's place, what it opened with, debits, credits, what it ends with and its version."""
        places = sorted((account, *pocket) for pocket, found in book.pockets.items() for account in found)
        for account, asset, bucket in places:
            balance = book.pockets[asset, bucket][account]
            debits, credits_ = self._turnover.get((account, asset, bucket), (0, 0))
            opened = balance.amount + debits - credits_
            yield (account, asset, bucket), opened, debits, credits_, balance.amount, balance.version

    def _write_trial_balance(self, draft: Draft, book: Book, first: int, end: int) -> None:
        totals: dict[str, list[int]] = {}
        with draft.stream("derived/trial_balance.csv") as table, draft.stream("derived/trial_balance.json") as document:
            document.write(b'{"balances":[')
            comma = b""
            table.write(_csv([TRIAL_BALANCE_COLUMNS]))
            for (account, asset, bucket), opened, debits, credits_, ends, version in self._balances(book):
                total = totals.setdefault(asset, [0, 0, 0, 0])
                for at, amount in enumerate((opened, debits, credits_, ends)):
                    total[at] += amount
                major = [format_amount(amount, asset) for amount in (opened, debits, credits_, ends)]
                table.write(_csv([(account, asset, bucket, *major, split_asset(asset)[0], ends, version)]))
                row = {"account": account, "asset": asset, "bucket": bucket, "version": version}
                document.write(comma + _json({**row, **_sums((opened, debits, credits_, ends))}))
                comma = b","
            document.write(b'],"end":%d,"first":%d,"format":%s' % (end, first, _json(TRIAL_BALANCE_FORMAT)))
            sums = {asset: _sums(total) for asset, total in sorted(totals.items())}
            document.write(b',"ledger":%s,"totals":%s}' % (_json(self._ledger), _json(sums)))


def _sums(amounts: Sequence[int]) -> dict[str, str]:
    names = ("opening", "debits", "credits", "closing")
    return {name: str(amount) for name, amount in zip(names, amounts, strict=True)}


def _account_rows(book: Book) -> Iterator[tuple[Any, ...]]:
    """Every account that was declared or used."""
    declared = {id for kind, id in book.objects if kind == "account"}
    used = {account for found in book.pockets.values() for account in found}
    for address in sorted(declared | used):
        account = book.objects.get(("account", address)) or Account(address=address)
        yield (
            address,
            role_of(address),
            account.status,
            "yes" if address in declared else "no",
            account.opened,
            _plain(account.owner),
            "yes" if account.floorless else "no",
            _amounts(account.limits),
            _amounts(account.ceilings),
        )


def _amounts(amounts: dict[str, int]) -> str:
    return " ".join(f"{asset}={amount}" for asset, amount in sorted(amounts.items()))


def _plain(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else text


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _csv(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
