"""Many processes and threads post at once, are killed and cut off; then every invariant is proved from the events."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import psycopg
import pytest

import tallystick
from tallystick import Ledger
from tallystick.ledger.writer import STREAMED_FROM
from tests.concurrency.answers import LOCAL, compare
from tests.concurrency.evidence import read_evidence
from tests.concurrency.fleet import Fleet, Size
from tests.concurrency.plan import JOINED, SHARED, SINGLE
from tests.concurrency.proof import Proof
from tests.concurrency.worker import call_of

SMALL = Size(processes=3, threads=3, calls=90, kills=3, cuts=15, ledgers=3, seconds=240)
LARGE = Size(processes=4, threads=6, calls=1_500, kills=25, cuts=300, ledgers=4, seconds=3_600)
ASKED_AGAIN = 40


def test_many_processes_that_are_killed_and_cut_off_break_no_rule(postgres: str, tmp_path: Path):
    check(postgres, tmp_path, 20_261_121, SMALL)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3))
def test_many_more_break_no_rule_either(postgres: str, tmp_path: Path, seed: int):
    check(postgres, tmp_path, seed, LARGE)


def check(url: str, folder: Path, seed: int, size: Size) -> None:
    print(f"seed {seed}")
    with Fleet(url, folder, seed, size) as fleet:
        fleet.run()
        notes = fleet.notes()
    with psycopg.connect(url) as connection:
        proofs = {ledger: Proof(read_evidence(connection, ledger)) for ledger in fleet.ledgers}
        orders = set(connection.execute("SELECT ledger, key FROM orders").fetchall())
    findings = [finding for proof in proofs.values() for finding in proof.find()]
    findings += compare(notes, proofs, orders)
    assert not findings, findings[:20]
    with tallystick.open(url, create=False) as database:
        for name, proof in proofs.items():
            check_reads(database.ledger(name), proof)
        ask_again(database, notes, Random(seed))
    check_variety(fleet, notes, proofs)


def check_reads(ledger: Ledger, proof: Proof) -> None:
    """The library finds nothing wrong, and reads what was proved."""
    report = ledger.replay()
    assert report.ok, report.findings
    assert report.events == len(proof.events)
    assert (ledger.head.seq, ledger.head.hash) == (len(proof.events), proof.hashes[-1])
    live = {(row.account, row.asset, row.bucket): row.credit - row.debit for row in ledger.trial_balance().rows}
    assert live == {name: amount for name, (_, amount) in proof.latest.items() if amount}
    locks = {}
    while page := ledger.locks(
        after=max(locks, key=lambda id: int(id.partition("/")[2])) if locks else "", limit=5_000
    ):
        locks.update({lock.id: lock.remaining for lock in page})
    assert locks == {id: kept for id, (_, kept) in proof.holds.items()}


def ask_again(database: tallystick.Database, notes: list[list[object]], random: Random) -> None:
    """A key gives its first answer for ever, whoever asks."""
    told = {line[1]: line[2] for line in notes if line[0] == "told"}
    posted = [line for line in notes if line[0] == "asked" and line[3] in (SINGLE, JOINED) and line[1] in told]
    for line in random.sample(posted, min(ASKED_AGAIN, len(posted))):
        call = call_of(line)
        for command, answer in zip(call.commands, told[line[1]], strict=True):  # type: ignore[call-overload]
            if answer[0] == "posted":
                again = database.ledger(call.ledger).post(command)
                assert [again.seq, again.hash, again.time, again.replayed] == [*answer[1:4], True]


def check_variety(fleet: Fleet, notes: list[list[object]], proofs: dict[str, Proof]) -> None:
    """Everything that is to be tried was tried, and mattered."""
    calls = Counter(line[3] for line in notes if line[0] == "asked")
    sizes = [len(line[5]) for line in notes if line[0] == "asked"]  # type: ignore[arg-type]
    answers = [answer for line in notes if line[0] == "told" for answer in line[2]]  # type: ignore[attr-defined]
    refused = Counter(answer[1] for answer in answers if answer[0] == "refused")
    replayed = sum(answer[0] == "posted" and answer[4] for answer in answers)
    types = Counter(event["type"] for proof in proofs.values() for event in proof.events)
    unavailable = sum(line[1].split()[-1] != "0" for line in notes if line[0] == "ended")  # type: ignore[attr-defined]
    print(f"{sum(types.values())} events: {types}\n{calls}\nrefused: {refused}\n{replayed} replayed")
    print(f"{fleet.kills} kills, {fleet.cuts} cuts, {unavailable} workers were told to ask again")
    assert fleet.kills == fleet.size.kills
    assert fleet.cuts >= fleet.size.cuts * 0.8
    assert len(calls) == 6
    assert max(sizes) > STREAMED_FROM
    assert replayed > 20
    assert {"transfer", "hold", "capture", "release", "reversal", "hold_top_up", "limit_set"} <= types.keys()
    assert {"idempotency_conflict", "insufficient_funds", "hold_not_open", "batch_aborted"} <= refused.keys()
    assert all(any(source == SHARED for source, _ in proof.keys) for proof in proofs.values())
    assert all(any(source == LOCAL for source, _ in proof.keys) for proof in proofs.values())
