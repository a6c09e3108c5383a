"""Appends written by hand in SQL, as a program would that is not ours: one that is right, to be made wrong from."""

from __future__ import annotations

from dataclasses import dataclass

MONTHS = BEFORE, PERIOD, AFTER = 202512, 202601, 202602
"""Months that have partitions; the ledger is in the one in the middle."""
USD, EUR = 1 << 40, 2 << 40
"""What an asset adds to the numbers of its balances, which count from 1."""
ALICE, ISSUER, ALICE_EURO, ISSUER_EURO = USD | 1, USD | 2, EUR | 1, EUR | 2

FIRST_HASH, SECOND_HASH = "1" * 64, "2" * 64

OPENING = f"""
SELECT tallystick.make_partitions({BEFORE}), tallystick.make_partitions({PERIOD}), tallystick.make_partitions({AFTER});
BEGIN;
INSERT INTO tallystick.ledger (name) VALUES ('main');
INSERT INTO tallystick.head (ledger) VALUES (1);
UPDATE tallystick.head SET seq = 3, hash = '{FIRST_HASH}', time = '2026-01-05', balances = 4, period = {PERIOD}
WHERE ledger = 1;
INSERT INTO tallystick.stretch VALUES (1, {PERIOD}, 0);
INSERT INTO tallystick.event VALUES (1, {PERIOD}, 0, 3, 0, '2026-01-05', '{FIRST_HASH}', 'three events');
INSERT INTO tallystick.asset (ledger, number, asset) VALUES (1, 1, 'USD/2'), (1, 2, 'EUR/2');
INSERT INTO tallystick.balance (ledger, id, number, account, asset, bucket) VALUES
    (1, {ALICE}, 1, 'users:alice', 'USD/2', 'available'), (1, {ISSUER}, 2, '@issuance', 'USD/2', 'available'),
    (1, {ALICE_EURO}, 3, 'users:alice', 'EUR/2', 'available'), (1, {ISSUER_EURO}, 4, '@issuance', 'EUR/2', 'available');
INSERT INTO tallystick.entry VALUES
    (1, {PERIOD}, {ALICE}, 1, 1, 100, 0, 100), (1, {PERIOD}, {ISSUER}, 1, 1, -100, 0, -100),
    (1, {PERIOD}, {ALICE_EURO}, 1, 2, 100, 0, 100), (1, {PERIOD}, {ISSUER_EURO}, 1, 2, -100, 0, -100);
INSERT INTO tallystick.idempotency VALUES (1, {PERIOD}, 70, 0, 0), (1, {PERIOD}, 71, 1, 0), (1, {PERIOD}, 72, 2, 0);
COMMIT;
"""
"""A ledger of three events: alice has 100 of each asset."""


def entries(*rows: tuple[int, int, int, int, int], period: int = PERIOD, ledger: int = 1) -> str:
    """(balance, version, seq, amount, before) of each, in one statement."""
    values = ", ".join(
        f"({ledger}, {period}, {balance}, {version}, {seq}, {amount}, {before}, {before + amount})"
        for balance, version, seq, amount, before in rows
    )
    return f"INSERT INTO tallystick.entry VALUES {values};"


def several_entries(*rows: tuple[int, tuple[int, int, int, int, int]]) -> str:
    """(period, entry) of each, in one statement."""
    parts = [entries(row, period=period).partition("VALUES ") for period, row in rows]
    return parts[0][0] + "VALUES " + ", ".join(values.rstrip(";") for _, _, values in parts) + ";"


def event(seq: int, count: int, *, hash: str = SECOND_HASH, period: int = PERIOD, ledger: int = 1) -> str:
    """One stored row of events."""
    values = f"{ledger}, {period}, {seq}, {count}, 0, '2026-01-06', '{hash}', 'some events'"
    return f"INSERT INTO tallystick.event VALUES ({values});"


def several_events(*rows: tuple[int, int]) -> str:
    """(seq, count) of each stored row, in one statement."""
    values = ", ".join(
        f"(1, {PERIOD}, {seq}, {count}, 0, '2026-01-06', '{SECOND_HASH}', 'some events')" for seq, count in rows
    )
    return f"INSERT INTO tallystick.event VALUES {values};"


def balance(id: int, number: int, account: str = "users:eve", asset: str = "USD/2") -> str:
    values = f"1, {id}, {number}, '{account}', '{asset}', 'available'"
    return f"INSERT INTO tallystick.balance (ledger, id, number, account, asset, bucket) VALUES ({values});"


def key(number: int, seq: int, twin: int = 0) -> str:
    return f"INSERT INTO tallystick.idempotency VALUES (1, {PERIOD}, {number}, {seq}, {twin});"


def move(**changes: str) -> str:
    """The head's move past the events 3 and 4, with some of its columns set to other values."""
    columns = {"seq": "5", "hash": f"'{SECOND_HASH}'", "time": "'2026-01-06'", "balances": "4", "period": str(PERIOD)}
    columns |= changes
    return f"UPDATE tallystick.head SET {', '.join(f'{name} = {value}' for name, value in columns.items())};"


@dataclass(frozen=True)
class Append:
    """A second append: events 3 and 4, in which alice pays back 10 of each asset. It is right as it is."""

    move: str = move()
    events: str = event(3, 2)
    entries: str = entries((ALICE, 2, 3, -10, 100), (ISSUER, 2, 3, 10, -100)) + entries(
        (ALICE_EURO, 2, 4, -10, 100), (ISSUER_EURO, 2, 4, 10, -100)
    )
    keys: str = key(73, 3) + key(74, 4)
    last: str = ""

    def __str__(self) -> str:
        return "\n".join(("BEGIN;", self.move, self.events, self.entries, self.keys, self.last, "COMMIT;"))
