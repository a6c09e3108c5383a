"""The database defends the books itself: whoever has the writer's password, and nothing of ours but psql, may append
what is right and change nothing that was written.

Every way to cheat is tried twice. It is refused, by the guard that stands against it, and changes nothing; and it goes
through once that guard has been taken away, so that what refused it was that guard and no accident.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.postgres.by_hand import (
    AFTER,
    ALICE,
    ALICE_EURO,
    BEFORE,
    ISSUER,
    MONTHS,
    OPENING,
    PERIOD,
    USD,
    Append,
    balance,
    entries,
    event,
    key,
    move,
    several_entries,
    several_events,
)
from tests.postgres.conftest import SUPERUSER, WRITER, Psql, all_of_it

RIGHT = Append()
TRANSFER = ((ALICE, 2, 3, -10, 100), (ISSUER, 2, 3, 10, -100))
EVENT, ENTRY, KEY = (f"{name}_{PERIOD}" for name in ("event", "entry", "idempotency"))
"""Partitions, by their own names."""

UNBALANCED = "the entries of each transaction sum to zero in each asset"
STRAY_ENTRIES = "entries are appended only behind the head, by the transaction that moves it, to its balances"
STRAY_EVENTS = "events are appended only behind the head, by the transaction that moves it"
NOT_LED_TO = "the events of ledger 1 do not lead to its head, event"
CANNOT_MOVE = "the head of ledger 1 cannot move from event 3 to event"


RIGHT_COPIED = replace(
    RIGHT,
    entries=f"COPY tallystick.entry FROM STDIN;\n1\t{PERIOD}\t{ALICE}\t2\t3\t-10\t100\t90\n"
    f"1\t{PERIOD}\t{ISSUER}\t2\t3\t10\t-100\t-90\n\\.\n",
)
RIGHT_APPENDS = {
    "two events": RIGHT,
    "entries copied": RIGHT_COPIED,
    "one event alone": replace(
        RIGHT, move=move(seq="4"), events=event(3, 1), entries=entries(*TRANSFER), keys=key(73, 3)
    ),
    "events without entries": replace(RIGHT, entries="", keys=""),
    "events in several statements": replace(RIGHT, move=move(seq="9"), events=event(3, 2) + event(5, 3) + event(8, 1)),
    "events in several rows": replace(RIGHT, move=move(seq="9"), events=several_events((8, 1), (3, 2), (5, 3))),
    "as many events in a row as may be": replace(RIGHT, move=move(seq="259"), events=event(3, 256)),
    "two moves in one transaction": replace(RIGHT, last=move(seq="6") + event(5, 1)),
    "after another was taken back": replace(
        RIGHT, move=f"SAVEPOINT one; {move(seq='4')} {event(3, 1)} ROLLBACK TO one; {RIGHT.move}"
    ),
    "in the next month": replace(
        RIGHT,
        move=move(period=str(AFTER)),
        events=event(3, 2, period=AFTER),
        entries=entries(*TRANSFER, period=AFTER),
    ),
    "the head checked early": replace(RIGHT, last="SET CONSTRAINTS ALL IMMEDIATE;"),
}
"""What must be accepted, so that the refusals below are for the cheating."""


@dataclass(frozen=True)
class Cheat:
    """Who tries it, with which script, the message that refuses it, and what takes away the guard that does."""

    script: object
    message: str
    without: str = ""
    role: str = WRITER


# ---------------------------------------------------------------- what takes each guard away


def drop(trigger: str, *tables: str) -> str:
    return "".join(f"DROP TRIGGER {trigger} ON tallystick.{table};" for table in tables)


def grant(what: str, table: str) -> str:
    return f"GRANT {what} ON tallystick.{table} TO {WRITER};"


def give(*tables: str) -> str:
    return "".join(f"ALTER TABLE tallystick.{table} OWNER TO {WRITER};" for table in tables)


SUMS = drop("entries_sum_to_zero", "entry")
FOLLOWS = drop("events_follow_the_head", "event")
LED_TO = drop("head_is_led_to", "head")
MOVES_ON = drop("head_moves_on", "head")
MAY_CREATE = f"GRANT CREATE ON SCHEMA tallystick TO {WRITER};"

# ---------------------------------------------------------------- what was written stays


def both(table: str, what: str, script: str, triggers: str) -> tuple[Cheat, Cheat]:
    """The same tried by the writer, who may not, and by a superuser, who may do all that no trigger refuses."""
    return (
        Cheat(script, f"permission denied for table {table}", grant(what, table) + triggers),
        Cheat(script, f"is append-only: {what} is refused", triggers, SUPERUSER),
    )


def change(table: str, column: str = "") -> dict[str, tuple[Cheat, ...]]:
    """Every way to change what stands in a table or a partition."""
    parent = table.removesuffix(f"_{PERIOD}")
    changed = drop(f"{parent}_is_never_changed", parent)
    partitions = [f"{parent}_{month}" for month in MONTHS] if parent not in ("balance", "head") else []
    truncated = drop(f"{parent}_is_never_truncated", *([parent, *partitions] if table == parent else [table]))
    ways = {"TRUNCATE": (f"TRUNCATE tallystick.{table};", truncated)}
    if column:
        ways["UPDATE"] = (f"UPDATE tallystick.{table} SET {column};", changed)
        ways["DELETE"] = (f"DELETE FROM tallystick.{table};", changed)
    return {f"{what} of {table}": both(table, what, script, triggers) for what, (script, triggers) in ways.items()}


RENAMED = "UPDATE tallystick.ledger SET name = 'another';"

STAYS = {
    **change("event", "body = 'another'"),
    "UPDATE of ledger": tuple(  # to be allowed to lock the row, a writer has the right
        Cheat(RENAMED, "is append-only: UPDATE is refused", drop("ledger_is_never_changed", "ledger"), role)
        for role in (WRITER, SUPERUSER)
    ),
    **change("entry", "seq = 0"),
    **change("idempotency", "twin = 9"),
    **change("balance", "account = account || '0'"),
    **change("head"),
    **change(EVENT, "body = 'another'"),
    **change(ENTRY, "seq = 0"),
    **change(KEY, "twin = 9"),
    "DELETE of head": both("head", "DELETE", "DELETE FROM tallystick.head;", drop("head_is_never_deleted", "head")),
}

# ---------------------------------------------------------------- what is appended is right

OLD_ROWS = entries((ALICE, 2, 2, -10, 100), (ISSUER, 2, 2, 10, -100))
WRONG_AFTER = (
    f"INSERT INTO tallystick.entry VALUES (1, {PERIOD}, {ALICE}, 2, 3, -10, 100, 95), "
    f"(1, {PERIOD}, {ISSUER}, 2, 3, 10, -100, -95);"
)
OTHER_LEDGER = f"""
INSERT INTO tallystick.ledger (name) VALUES ('other');
INSERT INTO tallystick.head (ledger) SELECT id FROM tallystick.ledger WHERE name = 'other';
INSERT INTO tallystick.asset (ledger, number, asset) SELECT id, 1, 'USD/2' FROM tallystick.ledger WHERE name = 'other';
INSERT INTO tallystick.balance (ledger, id, number, account, asset, bucket)
SELECT id, {USD | 1}, 1, 'users:eve', 'USD/2', 'available' FROM tallystick.ledger WHERE name = 'other';
INSERT INTO tallystick.entry SELECT id, {PERIOD}, {USD | 1}, 1, 0, 0, 0, 0 FROM tallystick.ledger WHERE name = 'other';
"""
COPIED = f"COPY tallystick.entry FROM STDIN;\n1\t{PERIOD}\t{ALICE}\t2\t3\t1000\t100\t1100\n\\.\n"

ENTRIES = {
    "one entry alone": Cheat(replace(RIGHT, entries=entries((ALICE, 2, 3, 1000, 100))), UNBALANCED, SUMS),
    "one entry alone, copied": Cheat(replace(RIGHT, entries=COPIED), UNBALANCED, SUMS),
    "entries that sum to zero over two transactions alone": Cheat(
        replace(RIGHT, entries=entries((ALICE, 2, 3, 10, 100), (ISSUER, 2, 4, -10, -100))), UNBALANCED, SUMS
    ),
    "entries that sum to zero over two assets alone": Cheat(
        replace(RIGHT, entries=entries((ALICE, 2, 3, -10, 100), (ALICE_EURO, 2, 3, 10, 100))), UNBALANCED, SUMS
    ),
    "an entry that lies about the asset of its balance": Cheat(
        replace(RIGHT, entries=entries((ALICE, 2, 3, -10, 100), (USD | 3, 2, 3, 10, 100))), STRAY_ENTRIES, SUMS
    ),
    "a balance that lies about its asset": Cheat(
        balance(USD | 3, 5, asset="EUR/2"),
        "violates foreign key constraint",
        "ALTER TABLE tallystick.balance DROP CONSTRAINT balance_ledger_asset_number_asset_fkey;",
    ),
    "two ids for one balance": Cheat(
        balance(USD | 3, 5, "users:alice"),
        'violates unique constraint "balance_ledger_account_asset_bucket_key"',
        "ALTER TABLE tallystick.balance DROP CONSTRAINT balance_ledger_account_asset_bucket_key;",
    ),
    "two balances with one number": Cheat(
        balance(USD | 3, 1),
        'violates unique constraint "balance_ledger_number_key"',
        "ALTER TABLE tallystick.balance DROP CONSTRAINT balance_ledger_number_key;",
    ),
    "a balance beyond the next of its asset": Cheat(
        balance(USD | 4, 5),
        "balances are numbered one after the other within their asset",
        drop("balances_are_counted", "balance"),
    ),
    "balances with one left out between them": Cheat(
        balance(USD | 3, 5).replace(";", f", (1, {USD | 5}, 6, 'users:fred', 'USD/2', 'available');"),
        "balances are numbered one after the other within their asset",
        drop("balances_are_counted", "balance"),
    ),
    "an asset with balances that are not there": Cheat(
        "INSERT INTO tallystick.asset (ledger, number, asset, balances) VALUES (1, 3, 'GBP/2', 9);",
        "permission denied for table asset",
        grant("INSERT", "asset"),
    ),
    "more balances in an asset than there are": Cheat(
        "UPDATE tallystick.asset SET balances = 9;", "permission denied for table asset", grant("UPDATE", "asset")
    ),
    "an after that is not before and amount": Cheat(
        replace(RIGHT, entries=WRONG_AFTER),
        'violates check constraint "entry_adds_up"',
        "ALTER TABLE tallystick.entry DROP CONSTRAINT entry_adds_up;",
    ),
    "a version of a balance twice": Cheat(
        replace(RIGHT, entries=entries((ALICE, 1, 3, -10, 100), (ISSUER, 2, 3, 10, -100))),
        f'violates unique constraint "{ENTRY}_version"',
        f"DROP INDEX tallystick.{ENTRY}_version;",
    ),
    "entries without moving the head": Cheat(replace(RIGHT, move="", events="", keys=""), STRAY_ENTRIES, SUMS),
    "entries of the last move, later": Cheat(OLD_ROWS, STRAY_ENTRIES, SUMS),
    "entries of an earlier event, with a move that is right": Cheat(
        replace(RIGHT, entries=RIGHT.entries + OLD_ROWS.replace(", 2, 2,", ", 3, 2,")), STRAY_ENTRIES, SUMS
    ),
    "entries beyond the head": Cheat(
        replace(RIGHT, entries=entries((ALICE, 2, 5, -10, 100), (ISSUER, 2, 5, 10, -100))), STRAY_ENTRIES, SUMS
    ),
    "entries in another month than the head": Cheat(
        replace(RIGHT, entries=entries(*TRANSFER, period=AFTER)), STRAY_ENTRIES, SUMS
    ),
    "one entry in a later month than the head": Cheat(
        replace(RIGHT, entries=several_entries((PERIOD, TRANSFER[0]), (AFTER, TRANSFER[1]))), STRAY_ENTRIES, SUMS
    ),
    "one entry in an earlier month than the head": Cheat(
        replace(RIGHT, entries=several_entries((PERIOD, TRANSFER[0]), (BEFORE, TRANSFER[1]))), STRAY_ENTRIES, SUMS
    ),
    "an entry of a balance with the number 0": Cheat(
        replace(RIGHT, entries=entries((USD, 1, 3, -10, 0), (ALICE, 2, 3, 10, 100))), STRAY_ENTRIES, SUMS
    ),
    "entries of another ledger than the one that moves": Cheat(replace(RIGHT, last=OTHER_LEDGER), STRAY_ENTRIES, SUMS),
    "entries after the head's move was taken back": Cheat(
        replace(RIGHT, move=f"SAVEPOINT one; {RIGHT.move} ROLLBACK TO one;", events="", keys=""), STRAY_ENTRIES, SUMS
    ),
    "entries behind a head of one's own": Cheat(
        "CREATE TEMPORARY TABLE head AS SELECT 1 AS ledger, 9 AS seq, 0 AS since, 9 AS balances, "
        f"{PERIOD} AS period, pg_current_xact_id() AS moved_by;" + OLD_ROWS,
        STRAY_ENTRIES,
        SUMS,
    ),
    "entries into their partition": Cheat(
        replace(RIGHT, entries=RIGHT.entries.replace("tallystick.entry", f"tallystick.{ENTRY}")),
        f"permission denied for table {ENTRY}",
        grant("INSERT", ENTRY),
    ),
    "entries that do not balance into their partition": Cheat(
        f"INSERT INTO tallystick.{ENTRY} VALUES (1, {PERIOD}, {ALICE}, 2, 2, 10, 100, 110);",
        UNBALANCED,
        drop("entries_sum_to_zero", ENTRY),
        SUPERUSER,
    ),
    "stray entries into their partition": Cheat(
        OLD_ROWS.replace("tallystick.entry", f"tallystick.{ENTRY}"),
        STRAY_ENTRIES,
        drop("entries_sum_to_zero", ENTRY),
        SUPERUSER,
    ),
}

EVENTS = {
    "events without moving the head": Cheat(replace(RIGHT, move="", entries="", keys=""), STRAY_EVENTS, FOLLOWS),
    "an event before the head's move": Cheat(replace(RIGHT, events=event(1, 1) + RIGHT.events), STRAY_EVENTS, FOLLOWS),
    "events beyond the head": Cheat(replace(RIGHT, events=RIGHT.events + event(5, 1)), STRAY_EVENTS, FOLLOWS),
    "events with a gap": Cheat(
        replace(RIGHT, move=move(seq="6"), events=event(3, 1) + event(5, 1)), STRAY_EVENTS, FOLLOWS
    ),
    "events with a gap, in one statement": Cheat(
        replace(RIGHT, move=move(seq="6"), events=several_events((3, 1), (5, 1))), STRAY_EVENTS, FOLLOWS
    ),
    "events that overlap": Cheat(
        replace(RIGHT, move=move(seq="6"), events=event(3, 2) + event(4, 2)), STRAY_EVENTS, FOLLOWS
    ),
    "events that overlap as much as they leave out": Cheat(
        replace(RIGHT, move=move(seq="9"), events=several_events((3, 2), (4, 2), (7, 2))), STRAY_EVENTS, FOLLOWS
    ),
    "one more event, once the head was checked": Cheat(
        replace(RIGHT, last="SET CONSTRAINTS ALL IMMEDIATE;" + event(4, 1)), STRAY_EVENTS, FOLLOWS
    ),
    "events in another month than the head": Cheat(
        replace(RIGHT, events=event(3, 2, period=AFTER)), STRAY_EVENTS, FOLLOWS + LED_TO
    ),
    "an event twice": Cheat(
        replace(RIGHT, last=event(3, 2)),
        f'violates unique constraint "{EVENT}_pkey"',
        FOLLOWS + f"ALTER TABLE tallystick.{EVENT} DROP CONSTRAINT {EVENT}_pkey;",
    ),
    "a row of no events": Cheat(
        replace(RIGHT, events=event(3, 2) + event(4, 0)),
        'violates check constraint "event_count_check"',
        FOLLOWS + "ALTER TABLE tallystick.event DROP CONSTRAINT event_count_check;",
    ),
    "stray events into their partition": Cheat(
        event(3, 1).replace("tallystick.event", f"tallystick.{EVENT}"),
        STRAY_EVENTS,
        drop("events_follow_the_head", EVENT),
        SUPERUSER,
    ),
    "events into their partition": Cheat(
        replace(RIGHT, events=event(3, 2).replace("tallystick.event", f"tallystick.{EVENT}")),
        f"permission denied for table {EVENT}",
        grant("INSERT", EVENT),
    ),
    "a key twice": Cheat(
        replace(RIGHT, keys=key(70, 3)),
        f'violates unique constraint "{KEY}_number"',
        f"DROP INDEX tallystick.{KEY}_number;",
    ),
}

HEADS = {
    "a head that moves back": Cheat(move(seq="1"), CANNOT_MOVE, MOVES_ON + LED_TO),
    "a head that stays": Cheat(move(seq="3"), CANNOT_MOVE, MOVES_ON + LED_TO),
    "a head whose time goes back": Cheat(
        replace(RIGHT, move=move(time="'2025'")), CANNOT_MOVE, MOVES_ON + SUMS + FOLLOWS
    ),
    "a head with fewer balances": Cheat(
        replace(RIGHT, move=move(balances="3")), CANNOT_MOVE, MOVES_ON + SUMS + FOLLOWS + LED_TO
    ),
    "a head that moves to an earlier month": Cheat(move(period=str(PERIOD - 1)), CANNOT_MOVE, MOVES_ON + LED_TO),
    "a head of another ledger": Cheat(
        "UPDATE tallystick.head SET ledger = 2;",
        "permission denied for table head",
        grant("UPDATE", "head") + MOVES_ON + LED_TO + "INSERT INTO tallystick.ledger (name) VALUES ('other');",
    ),
    "a head of another ledger, by a superuser": Cheat(
        f"BEGIN; INSERT INTO tallystick.ledger (id, name) OVERRIDING SYSTEM VALUE VALUES (2, 'other');"
        f"{move(ledger='2')} COMMIT;",
        CANNOT_MOVE,
        MOVES_ON + LED_TO,
        SUPERUSER,
    ),
    "a head that moves without events": Cheat(replace(RIGHT, events="", entries="", keys=""), NOT_LED_TO, LED_TO),
    "a head that moves past more than its events": Cheat(replace(RIGHT, move=move(seq="6")), NOT_LED_TO, LED_TO),
    "a head that moves by one without an event": Cheat(move(seq="4"), NOT_LED_TO, LED_TO),
    "a head with another hash than its last event": Cheat(
        replace(RIGHT, move=move(hash="repeat('f', 64)")), NOT_LED_TO, LED_TO
    ),
    "a head that moves by one, with another hash": Cheat(
        replace(RIGHT, move=move(seq="4", hash="repeat('f', 64)"), events=event(3, 1), entries="", keys=""),
        NOT_LED_TO,
        LED_TO,
    ),
    "a head that moves twice past one row of events": Cheat(
        replace(RIGHT, move=RIGHT.move + move(seq="6"), events=event(5, 1), entries="", keys=""), NOT_LED_TO, LED_TO
    ),
    "a head whose last move is told differently": Cheat(
        "UPDATE tallystick.head SET since = 0, moved_by = pg_current_xact_id();",
        "permission denied for table head",
        grant("UPDATE", "head") + MOVES_ON + LED_TO,
    ),
    "a ledger that begins in the middle": Cheat(
        "BEGIN; INSERT INTO tallystick.ledger (name) VALUES ('other'); "
        "INSERT INTO tallystick.head (ledger, seq) SELECT id, 7 FROM tallystick.ledger WHERE name = 'other'; COMMIT;",
        "permission denied for table head",
        grant("INSERT", "head") + drop("head_begins_at_nothing", "head"),
    ),
    "a ledger that begins in the middle, by a superuser": Cheat(
        "BEGIN; INSERT INTO tallystick.ledger (name) VALUES ('other'); "
        "INSERT INTO tallystick.head (ledger, seq) SELECT id, 7 FROM tallystick.ledger WHERE name = 'other'; COMMIT;",
        "a ledger begins at event 0",
        drop("head_begins_at_nothing", "head"),
        SUPERUSER,
    ),
    "a ledger that begins with another hash": Cheat(
        "BEGIN; INSERT INTO tallystick.ledger (name) VALUES ('other'); "
        "INSERT INTO tallystick.head (ledger, hash) SELECT id, '' FROM tallystick.ledger WHERE name = 'other'; COMMIT;",
        "a ledger begins at event 0",
        drop("head_begins_at_nothing", "head"),
        SUPERUSER,
    ),
}

# ---------------------------------------------------------------- the guards stay

GUARDS = {
    "disabling a trigger": Cheat(
        "ALTER TABLE tallystick.entry DISABLE TRIGGER entries_sum_to_zero;",
        "must be owner of table entry",
        give("entry"),
    ),
    "dropping a trigger": Cheat(SUMS, "must be owner of relation entry", give("entry")),
    "dropping a constraint": Cheat(
        "ALTER TABLE tallystick.entry DROP CONSTRAINT entry_adds_up;",
        "must be owner of table entry",
        give("entry", *(f"entry_{month}" for month in MONTHS)),
    ),
    "turning triggers off": Cheat(
        "SET session_replication_role = replica;" + OLD_ROWS,
        'permission denied to set parameter "session_replication_role"',
    ),
    "dropping a partition": Cheat(f"DROP TABLE tallystick.{ENTRY};", f"must be owner of table {ENTRY}", give(ENTRY)),
    "dropping a table": Cheat("DROP TABLE tallystick.cache;", "must be owner of table cache", give("cache")),
    "detaching a partition": Cheat(
        f"ALTER TABLE tallystick.entry DETACH PARTITION tallystick.{ENTRY};",
        "must be owner of table entry",
        give("entry", ENTRY),
    ),
    "attaching a partition": Cheat(
        "CREATE TEMPORARY TABLE mine (LIKE tallystick.entry);"
        "ALTER TABLE tallystick.entry ATTACH PARTITION mine FOR VALUES FROM (209901) TO (209902);",
        "must be owner of table entry",
    ),
    "making a table in the schema": Cheat(
        "CREATE TABLE tallystick.mine (a integer);", "permission denied for schema tallystick", MAY_CREATE
    ),
    "replacing a guard": Cheat(
        "CREATE OR REPLACE FUNCTION tallystick.check_entries() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN RETURN NULL; END';",
        "permission denied for schema tallystick",
        MAY_CREATE + f"ALTER FUNCTION tallystick.check_entries() OWNER TO {WRITER};",
    ),
    "taking more rights": Cheat(grant("INSERT", ENTRY), f"permission denied for table {ENTRY}", give(ENTRY)),
    "becoming the owner": Cheat("SET ROLE tallystick_owner;", "permission denied to set role"),
    "saying that the schema is newer": Cheat(
        "INSERT INTO tallystick.migration VALUES (99, 'new', '');",
        "permission denied for table migration",
        grant("INSERT", "migration"),
    ),
    "saying that a month lies elsewhere": Cheat(
        "INSERT INTO tallystick.archive VALUES (202601, 'event', '', '', 0, 0, '');",
        "permission denied for table archive",
        grant("INSERT", "archive"),
    ),
    "deleting an object": Cheat(
        "DELETE FROM tallystick.object;", "permission denied for table object", grant("DELETE", "object")
    ),
    "a month that is none": Cheat("SELECT tallystick.make_partitions(202613);", "202613 is no period such as 202601"),
}


# ---------------------------------------------------------------- the tests


def params(*groups: dict[str, Any]) -> list[Any]:
    found = []
    for group in groups:
        for name, one in group.items():
            listed = one if isinstance(one, tuple) else (one,)
            found += [
                pytest.param(cheat, id=f"{name}{' by a superuser' if len(listed) > 1 and not cheat.role else ''}")
                for cheat in listed
            ]
    return found


@pytest.fixture
def books(psql: Psql) -> Psql:
    """A ledger of three events that the writer has written by hand."""
    psql(OPENING)
    return psql


@pytest.mark.parametrize("append", [pytest.param(one, id=name) for name, one in RIGHT_APPENDS.items()])
def test_what_is_right_is_accepted_from_plain_psql(books: Psql, append: Append) -> None:
    before = books("SELECT seq FROM tallystick.head")
    books(str(append))
    assert (before, int(books("SELECT seq FROM tallystick.head"))) > ("3", 3)
    assert books("SELECT sum(count) = (SELECT seq FROM tallystick.head) FROM tallystick.event") == "t"


@pytest.mark.parametrize("cheat", params(STAYS, ENTRIES, EVENTS, HEADS, GUARDS))
def test_a_cheat_is_refused_by_its_guard_and_changes_nothing(books: Psql, cheat: Cheat) -> None:
    before = all_of_it(books.dsn)
    assert cheat.message in books.refused(str(cheat.script), cheat.role)
    assert all_of_it(books.dsn) == before
    if cheat.without:
        books(cheat.without, SUPERUSER)
        books(str(cheat.script), cheat.role)
