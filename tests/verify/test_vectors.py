"""The published vectors of profile 1 are what the ledger makes today, and the verifier judges them as they say."""

from __future__ import annotations

import json

import pytest

from tallystick import verify
from tests.verify.make_vectors import FOLDER, files
from tests.verify.replay import replay


@pytest.fixture(scope="module")
def journal() -> list[bytes]:
    return (FOLDER / "journal.jsonl").read_bytes().split(b"\n")[:-1]


def test_the_files_are_what_the_ledger_makes_today():
    made = files()
    assert sorted(made) == sorted(file.name for file in FOLDER.iterdir())
    for name, data in made.items():
        assert (FOLDER / name).read_bytes() == data, (
            f"{name}: run python -m tests.verify.make_vectors, if this is meant"
        )


def test_the_journal_has_the_hashes_roots_and_balances_that_the_vectors_name(journal: list[bytes]):
    expected = json.loads((FOLDER / "expected.json").read_text())
    report, book = replay(journal)
    assert not report.failed
    peaks = verify.Peaks()
    assert expected["roots"][0] == peaks.root().hex()
    for body, row, root in zip(journal, expected["events"], expected["roots"][1:], strict=True):
        assert verify.hash_leaf(body).hex() == row["hash"]
        peaks.add(verify.hash_leaf(body))
        assert peaks.root().hex() == root
    found = {(a, s, b, amount, version) for (s, b), p in book.pockets.items() for a, (amount, version) in p.items()}
    rows = expected["balances"]
    assert found == {(r["account"], r["asset"], r["bucket"], int(r["amount"]), r["version"]) for r in rows}
    assert {row["id"]: row["left"] for row in expected["locks"]} == {
        i: str(lock.left) for i, lock in book.locks.items()
    }


def test_every_broken_event_fails_where_the_vectors_say(journal: list[bytes]):
    rows = [json.loads(line) for line in (FOLDER / "broken.jsonl").read_bytes().split(b"\n")[:-1]]
    assert len(rows) > 90
    for row in rows:
        report, _ = replay([*journal[: row["seq"]], row["event"].encode()])
        found = [(failure.seq, failure.field) for failure in report.verdicts[row["fails"]].failures]
        assert (row["seq"], row["field"]) in found, row["name"]


def test_the_checkpoint_is_signed_and_witnessed_and_the_receipt_leads_to_it(journal: list[bytes]):
    checkpoint = verify.parse_checkpoint((FOLDER / "checkpoint").read_bytes())
    key = verify.parse_key((FOLDER / "log.vkey").read_text().rstrip("\n"))
    policy = verify.parse_policy((FOLDER / "policy").read_bytes())
    assert verify.signers_of(checkpoint, [key]) == [key]
    assert policy.holds(set(verify.signers_of(checkpoint, policy.witnesses.values())))
    receipt = verify.parse_receipt((FOLDER / "event.tlog-proof").read_bytes())
    assert receipt.body == journal[receipt.seq]
    leaf = verify.hash_leaf(receipt.body)
    assert verify.root_from_proof(receipt.seq, checkpoint.size, leaf, receipt.proof) == checkpoint.root
