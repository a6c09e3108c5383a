"""Keys, witnesses, older checkpoints, receipts and attestations: what is brought from outside, and how it counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick import verify
from tallystick.journal.checkpoints import Checkpoint, sign_checkpoint
from tallystick.journal.dsse import sign_envelope
from tallystick.journal.merkle import EMPTY_ROOT
from tallystick.journal.notes import COSIGNATURE, ED25519, SecretKey
from tests.verify.bundles import (
    KEY,
    ORIGIN,
    OTHER_KEY,
    VKEY,
    WITNESS,
    checkpoint_of,
    cosigned,
    encoded,
    failures,
    judged,
    opening_of,
    receipt_of,
)
from tests.verify.conftest import Write
from tests.verify.journey import Told

SECOND = SecretKey.from_seed("witness.example/w2", b"\4" * 32, COSIGNATURE)


def policy(quorum: str, *witnesses: SecretKey) -> bytes:
    lines = [f"witness w{number} {witness.verifier}" for number, witness in enumerate(witnesses)]
    names = " ".join(f"w{number}" for number in range(len(witnesses)))
    return "\n".join([f"log {VKEY}", *lines, f"group g {quorum} {names}", "quorum g", ""]).encode()


def test_without_a_key_the_report_says_that_the_key_came_from_the_bundle(write: Write, trade: list[bytes]):
    folder = write(trade, key=OTHER_KEY)
    report = judged(folder, keys=[])
    assert report["words"]["tree"] == "passed"
    assert "a key that came from the bundle itself" in report["verdicts"]["tree"]["detail"]
    assert judged(folder, keys=[VKEY])["words"]["tree"] == "failed"


def test_a_key_of_another_name_cannot_speak_for_this_log(write: Write, trade: list[bytes]):
    stranger = SecretKey.from_seed("ledger.example/other", b"\1" * 32, ED25519)
    folder = write(trade, checkpoint=checkpoint_of(trade, stranger))
    assert judged(folder, keys=[str(stranger.verifier)])["words"]["tree"] == "failed"


def test_a_quorum_of_witnesses_passes_outside(write: Write, trade: list[bytes]):
    folder = write(trade, checkpoint=cosigned(cosigned(checkpoint_of(trade)), SECOND))
    report = judged(folder, keys=[], policy=policy("all", WITNESS, SECOND))
    assert report["words"]["outside"] == "passed"
    assert report["conclusion"] == "internally consistent, and consistent with what was shown from outside"


def test_a_quorum_that_is_not_met_fails_outside(write: Write, trade: list[bytes]):
    folder = write(trade, checkpoint=cosigned(checkpoint_of(trade)))
    assert judged(folder, policy=policy("any", WITNESS, SECOND))["words"]["outside"] == "passed"
    assert judged(folder, policy=policy("all", WITNESS, SECOND))["words"]["outside"] == "failed"
    assert judged(folder, policy=policy("1", SECOND))["words"]["outside"] == "failed"


def test_a_cosignature_that_does_not_verify_spoils_the_checkpoint(write: Write, trade: list[bytes]):
    impostor = SecretKey.from_seed(WITNESS.name, b"\3" * 32, COSIGNATURE)
    wrong = cosigned(checkpoint_of(trade[:-1]), impostor).splitlines()[-1]
    folder = write(trade, checkpoint=checkpoint_of(trade) + wrong + b"\n")
    assert judged(folder, policy=policy("all", WITNESS))["words"]["outside"] == "failed"


def test_a_policy_that_asks_for_no_witness_shows_nothing(write: Write, trade: list[bytes]):
    report = judged(write(trade), policy=f"log {VKEY}\nquorum none\n".encode())
    assert report["words"]["outside"] == "not checked"
    assert report["conclusion"] == "internally consistent, not witnessed"


def test_the_policy_in_the_bundle_itself_does_not_count(write: Write, trade: list[bytes]):
    folder = write(trade, checkpoint=cosigned(checkpoint_of(trade)), files={"policy": policy("any", WITNESS)})
    assert judged(folder)["words"]["outside"] == "not checked"


def test_a_checkpoint_of_nothing_shows_nothing(write: Write, trade: list[bytes]):
    empty = sign_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT), KEY)
    assert judged(write(trade), checkpoints=[empty])["words"]["outside"] == "not checked"
    wrong = sign_checkpoint(Checkpoint(ORIGIN, 0, bytes(32)), KEY)
    assert judged(write(trade), checkpoints=[wrong])["words"]["outside"] == "failed"


@pytest.mark.parametrize("size", [1, 255, 256, 257, 512, 699, 700])
def test_a_log_extends_its_checkpoints_of_every_size(write: Write, trade: list[bytes], size: int):
    assert judged(write(trade), checkpoints=[checkpoint_of(trade[:size])])["words"]["outside"] == "passed"


@pytest.mark.parametrize("seq", [0, 255, 256, 511, 512, 680])
def test_a_receipt_is_found_in_the_log(write: Write, trade: list[bytes], seq: int):
    report = judged(write(trade), receipts=[receipt_of(trade[:681], seq)])
    assert report["words"]["outside"] == "passed"


def test_a_receipt_for_another_event_is_refused(write: Write, trade: list[bytes]):
    body = receipt_of(trade, 5).replace(b"index 5\n", b"index 6\n")
    report = judged(write(trade), receipts=[body])
    assert failures(report, "outside")[0]["field"] == "proof"


@pytest.mark.parametrize(
    "garbage", [b"", b"x", b"\xff\n\n", b"a\n1\nb\n\n\xe2\x80\x94 a b\n", b"c2sp.org/tlog-proof@v1\n\n"]
)
def test_what_is_no_checkpoint_or_receipt_fails_and_does_not_crash(write: Write, journey: list[bytes], garbage: bytes):
    folder = write(journey)
    assert judged(folder, checkpoints=[garbage])["words"]["outside"] == "failed"
    assert judged(folder, receipts=[garbage])["words"]["outside"] == "failed"


def test_an_older_checkpoint_by_a_key_that_was_rotated_counts_if_that_key_is_known(write: Write, trade: list[bytes]):
    older = checkpoint_of(trade[:300], OTHER_KEY)
    assert judged(write(trade), checkpoints=[older])["words"]["outside"] == "failed"
    kept = write(trade, files={"keys/older.vkey": f"{OTHER_KEY.verifier}\n".encode()})
    assert judged(kept, checkpoints=[older])["words"]["outside"] == "passed"


# ---------------------------------------------------------------- attestations


def attestation(told: Told, key: SecretKey = KEY, **changes: object) -> bytes:
    owed: dict[str, int] = {}
    for row in told.balances:
        if not row["account"].startswith("@"):
            owed[row["asset"]] = owed.get(row["asset"], 0) + max(int(row["amount"]), 0)
    statement = {
        "ledger": "main",
        "size": len(told.bodies),
        "liabilities": {a: str(n) for a, n in owed.items()},
        **changes,
    }
    return sign_envelope(verify.ATTESTATION, encoded(statement), key)


def test_an_attestation_whose_liabilities_are_those_of_the_events_passes(write: Write, told: Told):
    report = judged(write(told.bodies, files={"attestations/1.json": attestation(told)}))
    assert report["words"]["attestation"] == "passed"


@pytest.mark.parametrize(
    "changes",
    [
        {"liabilities": {"USD/2": "1"}},
        {"size": 12},
        {"size": 80},
        {"ledger": "other"},
        {"liabilities": []},
        {"size": -1},
    ],
)
def test_an_attestation_that_says_something_else_fails(write: Write, told: Told, changes: dict[str, object]):
    report = judged(write(told.bodies, files={"attestations/1.json": attestation(told, **changes)}))
    assert report["words"]["attestation"] == "failed"


def test_an_attestation_that_nobody_known_signed_fails(write: Write, told: Told):
    report = judged(write(told.bodies, files={"attestations/1.json": attestation(told, OTHER_KEY)}))
    assert report["words"]["attestation"] == "failed"
    garbage = judged(write(told.bodies, files={"attestations/1.json": b'{"payload":1}'}))
    assert garbage["words"]["attestation"] == "failed"


# ---------------------------------------------------------------- windows


@pytest.mark.parametrize("window", [(1, 700), (256, 512), (300, 301), (511, 513), (600, 700)])
def test_a_window_is_verified_with_the_balances_that_it_opens_with(
    write: Write, trade: list[bytes], window: tuple[int, int]
):
    folder = write(trade, window=window, opening=opening_of(trade, window[0]))
    report = judged(folder)
    assert report["ok"], report
    assert [report["words"][name] for name in ("bytes", "chain", "tree", "accounting")] == ["passed"] * 4
    assert any("taken on trust" in note for note in report["notes"])
    assert report["window"] == f"{window[0]} to {window[1]}"


def test_a_window_whose_opening_balances_are_wrong_fails_where_they_are_used(write: Write, trade: list[bytes]):
    opening = opening_of(trade, 300)
    for row in opening["balances"]:
        row["amount"] = str(int(row["amount"]) + 1)
    report = judged(write(trade, window=(300, 700), opening=opening))
    assert failures(report, "accounting")[0]["field"] == "entries[0].before"


@pytest.mark.parametrize(
    "opening", [None, {"first": 299, "balances": [], "locks": []}, {"first": 300, "balances": [1]}]
)
def test_a_window_without_its_opening_fails(write: Write, trade: list[bytes], opening: dict[str, object] | None):
    assert judged(write(trade, window=(300, 700), opening=opening))["words"]["accounting"] == "failed"


def test_the_first_event_of_a_window_must_follow_the_hash_before_it(write: Write, trade: list[bytes]):
    folder = write(trade, window=(512, 700), opening=opening_of(trade, 512))
    tile = folder / "tile/0/001"
    tile.write_bytes(tile.read_bytes()[:-1] + b"\0")
    report = judged(folder)
    assert [(failure["seq"], failure["field"]) for failure in failures(report, "chain")] == [(512, "prev")]
    assert report["words"]["tree"] == "failed"


def test_an_opening_that_tells_of_policy_and_accounts_leaves_nothing_open(write: Write, trade: list[bytes]):
    opening = {
        **opening_of(trade, 300),
        "policy": vars(verify.Rules()),
        "accounts": [{"account": "members:m", "limits": {"USD/2": "2000"}}],
    }
    report = judged(write(trade, window=(300, 700), opening=opening))
    assert report["ok"], report
    opening["accounts"] = []
    assert judged(write(trade, window=(300, 700), opening=opening))["ok"]


def test_a_log_of_nothing_is_a_log(tmp_path: Path, write: Write):
    empty = sign_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT), KEY)
    report = judged(write([], checkpoint=empty))
    assert report["ok"], report
