"""Pains 16 and 17: a schema that changes, and books that come from elsewhere."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

import tallystick
from tallystick.errors import TallystickError
from tallystick.importing import import_stream
from tallystick.stores.postgres.migrations import known, migrate
from tests.cli.conftest import Tally
from tests.pains.support import MAIN, USD, Crowd, hold, pay
from tests.support.stores import on_files, on_lasting_stores

NEWER = "INSERT INTO tallystick.migration (number, name, sha256) VALUES (9999, 'newer', repeat('0', 64))"


# ---------------------------------------------------------------- 16


def test_many_who_migrate_at_once_make_one_schema(empty_postgres: str) -> None:
    """Pain 16. Migrations ran into each other, or stood still for each other's locks.
    https://github.com/formancehq/ledger/pull/544 https://github.com/formancehq/ledger/pull/604
    """
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(lambda _: migrate(empty_postgres), range(4), timeout=60))
    assert sorted(one.number for some in applied for one in some) == [one.number for one in known()]
    assert migrate(empty_postgres) == []
    with tallystick.open(empty_postgres, create=False) as database:
        database.ledger("main").mint("users:alice", USD, 1, key="1")
        assert database.replay().ok


@on_lasting_stores
def test_a_schema_that_is_newer_than_the_program_is_refused_and_not_touched(url: str) -> None:
    """Pain 16. A program that did not know the schema worked on all the same, and left wrong volumes behind.
    https://github.com/formancehq/ledger/pull/831 https://github.com/formancehq/ledger/pull/957
    """
    with tallystick.open(url) as database:
        database.ledger("main").mint("users:alice", USD, 1, key="1")
    if url.startswith("postgresql:"):
        with psycopg.connect(url, autocommit=True) as hand:
            hand.execute(NEWER)
    else:
        with contextlib.closing(sqlite3.connect(url)) as file:
            file.execute("PRAGMA user_version = 999")
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = None if url.startswith("postgresql:") else Path(url).read_bytes()
    with pytest.raises(TallystickError), tallystick.open(url) as database:
        database.ledger("main").mint("users:alice", USD, 1, key="2")
    if before is not None:
        assert Path(url).read_bytes() == before


def test_what_is_derived_can_be_made_anew_and_no_hash_changes(crowd: Crowd) -> None:
    """Pain 16. Volumes and hashes that had been stored wrongly had to be mended by migrations, one version after the
    other. https://github.com/formancehq/ledger/pull/1321 https://github.com/formancehq/stack/pull/1015

    What is hashed are the very bytes that are kept, so no version of the program can compute another hash of them.
    """
    for number in range(3):
        crowd.admin.done(f"{MAIN}/transfers", pay(1, payee=f"users:{number}", metadata={"note": "naïve €"}))
        hold(crowd.admin, 5)
    events = crowd.admin.get(f"{MAIN}/events", limit=1_000).json()["items"]
    raw = [crowd.admin.get(f"{MAIN}/events/{one['seq']}/raw").content for one in events]
    assert [hashlib.sha256(b"\0" + body).hexdigest() for body in raw] == [one["hash"] for one in events]
    assert [one["prev"] for one in events[1:]] == [one["hash"] for one in events[:-1]]

    trial = crowd.admin.get(f"{MAIN}/trial-balance").json()
    assert crowd.fronts[0].database.rebuild("main").ok
    assert [crowd.admin.get(f"{MAIN}/events/{one['seq']}/raw").content for one in events] == raw
    assert crowd.admins[-1].get(f"{MAIN}/trial-balance").json() == trial
    crowd.check_books()


# ---------------------------------------------------------------- 17


def lines(*commands: dict[str, Any]) -> io.BytesIO:
    return io.BytesIO(b"".join(json.dumps(command).encode() + b"\n" for command in commands))


def moved(number: int, amount: int = 10) -> dict[str, Any]:
    """A payment of last year, as a line of a file."""
    leg = {"from_account": "users:alice", "to_account": f"users:{number}", "asset": USD, "amount": amount}
    return {
        "command": "post",
        "key": f"old:{number}",
        "type": "transfer",
        "effective": f"2025-01-{number:02}T08:00:00Z",
        "legs": [leg],
        "refs": {"external_ref": f"T-{number}"},
    }


def test_an_import_is_whole_or_nothing_keeps_dates_and_ids_and_postings_go_on_after_it(crowd: Crowd) -> None:
    """Pain 17. An import was not one transaction, did not reproduce ids and dates, and left the sequences where they
    were, so that the next posting collided. https://github.com/formancehq/ledger/pull/946
    https://github.com/formancehq/ledger/pull/925 https://github.com/formancehq/ledger/pull/893
    """
    ledger = crowd.ledger
    head = ledger.head.seq
    opening = {**moved(1), "key": "opening", "type": "mint", "refs": {}}
    opening["legs"] = [{"from_account": "@issuance", "to_account": "users:alice", "asset": USD, "amount": 500}]
    rows = [opening, *(moved(number) for number in range(2, 8))]

    bad = import_stream(ledger, lines(*rows, moved(9, amount=10**12)), atomic=True)
    assert (bad.aborted, bad.posted, ledger.head.seq) == (True, 0, head)
    done = import_stream(ledger, lines(*rows), atomic=True)
    assert (done.posted, done.problems) == (7, ())
    again = import_stream(ledger, lines(*rows), atomic=True)
    assert (again.posted, again.replayed, ledger.head.seq) == (0, 7, head + 7)

    for admin in crowd.admins:
        posted = admin.done(f"{MAIN}/transfers", pay(1))
        assert posted["seq"] == ledger.head.seq - 1
    found = crowd.admins[-1].get(f"{MAIN}/transactions", reference="external_ref", value="T-5").json()["items"]
    assert [(one["key"], one["effective"]) for one in found] == [("old:5", "2025-01-05T08:00:00.000000Z")]
    third = crowd.admin.get(f"{MAIN}/balances", account="users:alice", asset=USD, as_of="2025-01-03T09:00:00Z").json()
    assert third["balances"][0]["amount"] == str(500 - 2 * 10)
    crowd.check_books()


@on_files
def test_an_import_that_fails_tells_the_line_and_its_exit_code(url: str, tmp_path: Path) -> None:
    """Pain 17, on the command line. https://github.com/formancehq/ledger/pull/893"""
    tally = Tally(tmp_path, url)
    tally("create")
    tally("mint", "users:alice", "1.00", USD)
    rows = [{**moved(2), "effective": ""}, {**moved(3, amount=10**9), "effective": ""}]
    file = tally.write("rows.jsonl", lines(*rows).getvalue())
    failed = tally.run("import", file, "--atomic", "--json")
    assert failed.exit_code == 1
    report = json.loads(failed.stdout)
    assert (report["posted"], report["aborted"], report["problems"][0]["line"]) == (0, True, 2)
