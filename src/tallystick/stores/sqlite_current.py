"""The current balances of some accounts, by one statement that gives one row: a JSON document.

One statement is a snapshot of its own, and needs no transaction around it. One row, because SQLite's interface lets go
of the interpreter at every row: among threads that compute, each would wait for its turn again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

import msgspec

from tallystick.errors import LedgerCorrupt
from tallystick.kernel import Balance
from tallystick.stores.sqlite_file import SQL

_Row = tuple[int, int, str, str, int | None, int | None, int | None, int | None]
"""(place of the account among those asked for, balance id, asset, bucket, version, before, amount, after)."""

_ROWS = msgspec.json.Decoder(list[_Row])


def current_balances(
    connection: sqlite3.Connection, ledger: int, before: int, last: int, accounts: Sequence[str], where: str
) -> list[tuple[str, str, str, Balance]] | None:
    """(account, asset, bucket, balance) of these accounts, each named once, as they stood before an event number, which
    lies in the part ``last``; None if a balance has no entry before it.

    Raises LedgerCorrupt for an entry that does not add up, and for a row that holds what it never held.
    """
    asked = {"ledger": ledger, "before": before, "last": last, "accounts": json.dumps(accounts)}
    ((document,),) = connection.execute(SQL["current_balances"], asked).fetchall()
    try:
        rows = _ROWS.decode(document)
    except msgspec.DecodeError as error:
        raise LedgerCorrupt(where=f"{where} balances", problem=f"a row holds what it never held: {error}") from None
    found = []
    for place, number, asset, bucket, version, earlier, amount, after in rows:
        if version is None or after is None:
            return None
        if earlier is not None and amount is not None and earlier + amount != after:
            raise LedgerCorrupt(where=f"{where} balance {number}", problem="an entry does not add up")
        found.append((accounts[place], asset, bucket, Balance(number, after, version)))
    return found
