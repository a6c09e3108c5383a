"""What was asked for by name: each of these must be found, and by the verdict that answers for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.journal.tiles import encode_bundle
from tests.verify.bundles import (
    OTHER_KEY,
    VKEY,
    Events,
    checkpoint_of,
    encoded,
    events_of,
    failures,
    forged,
    judged,
    opening_of,
    receipt_of,
    rechained,
    write_bundle,
)
from tests.verify.conftest import Write
from tests.verify.forgeries import FORGERIES

INSIDE = ("bytes", "chain", "tree", "accounting")


def test_a_faultless_bundle_passes_and_says_that_nobody_witnessed_it(write: Write, trade: list[bytes]):
    report = judged(write(trade, kept=(1, 256, 300, 699)))
    assert report["ok"], report
    assert [report["words"][name] for name in INSIDE] == ["passed"] * 4
    assert report["words"]["outside"] == report["words"]["attestation"] == "not checked"
    assert report["conclusion"] == "internally consistent, not witnessed"
    assert report["events"] == 700


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory, trade: list[bytes], journey: list[bytes]) -> list[Path]:
    """Bundles in which one byte at a time is flipped and put back."""
    trusted = {"policy": b"quorum none\n", "derived/accounts.csv": b"account\nusers:alice\n"}
    return [
        write_bundle(tmp_path_factory.mktemp("trade"), trade, kept=(300,), files=trusted),
        write_bundle(
            tmp_path_factory.mktemp("journey"), journey, kept=(50,), files={"spec/PROFILE.md": b"# Profile\n"}
        ),
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_flipped_byte_anywhere_is_found(standing: list[Path], data: st.DataObject):
    folder = data.draw(st.sampled_from(standing), label="bundle")
    file = data.draw(st.sampled_from(sorted(p for p in folder.rglob("*") if p.is_file())), label="file")
    good = file.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1), label="position")
    mask = data.draw(st.integers(1, 255), label="mask")
    try:
        file.write_bytes(good[:at] + bytes([good[at] ^ mask]) + good[at + 1 :])
        report = judged(folder)
    finally:
        file.write_bytes(good)
    assert not report["ok"]
    assert not [
        f for name in report["verdicts"] for f in failures(report, name) if "unexpected: the bundle" in f["problem"]
    ]


def test_an_altered_event_is_found_at_its_number_by_the_tree_and_the_chain(write: Write, journey: list[bytes]):
    altered = journey[12].replace(b"-1200", b"-1300")
    folder = write(journey)
    (folder / "tile/entries/000.p/79").write_bytes(encode_bundle([*journey[:12], altered, *journey[13:]]))
    report = judged(folder)
    assert failures(report, "tree")[0]["seq"] == 12
    assert [(f["seq"], f["field"]) for f in failures(report, "chain")] == [(13, "prev")]
    assert failures(report, "accounting")[0]["seq"] == 12


def test_an_altered_event_with_tiles_and_manifest_made_to_fit_leads_to_another_root(write: Write, journey: list[bytes]):
    for at in range(0, len(journey[78]), 29):
        body = bytearray(journey[78])
        body[at] ^= 1
        report = judged(write([*journey[:78], bytes(body)], checkpoint=checkpoint_of(journey)))
        assert [failure["field"] for failure in failures(report, "tree")] == ["root"]


def test_a_dropped_last_event_is_found_by_the_checkpoint_or_by_an_older_one(write: Write, trade: list[bytes]):
    cut = write(trade[:-1], checkpoint=checkpoint_of(trade))
    assert judged(cut)["words"]["tree"] == "failed"
    signed_anew = write(trade[:-1])
    assert judged(signed_anew)["ok"]  # nothing inside can show it
    report = judged(signed_anew, checkpoints=[checkpoint_of(trade)])
    assert failures(report, "outside")[0]["field"] == "size"
    assert judged(signed_anew, receipts=[receipt_of(trade, 5)])["words"]["outside"] == "failed"


def test_an_event_dropped_from_its_bundle_is_found_at_its_place(write: Write, trade: list[bytes]):
    folder = write(trade)
    (folder / "tile/entries/002.p/188").write_bytes(encode_bundle(trade[512:699]))
    report = judged(folder)
    assert [failure["seq"] for failure in failures(report, "chain")] == [699]
    assert report["words"]["bytes"] == "failed"


def test_a_reordered_pair_is_found(write: Write, trade: list[bytes]):
    swapped = [*trade[:400], trade[401], trade[400], *trade[402:]]
    report = judged(write(swapped))
    assert {(f["seq"], f["field"]) for f in failures(report, "chain")} >= {(400, "seq"), (400, "prev"), (401, "seq")}
    report = judged(write(swapped, checkpoint=checkpoint_of(trade)))
    assert report["words"]["tree"] == "failed"


def rewritten(trade: list[bytes]) -> list[bytes]:
    """All of it chained anew from one event on that names another key; no rule of the books is broken."""

    def change(events: Events) -> None:
        events[350]["idem"] = "order-another"

    return forged(trade, change)


def test_a_rewrite_that_is_chained_and_signed_anew_is_found_from_outside_alone(write: Write, trade: list[bytes]):
    folder = write(rewritten(trade))
    assert judged(folder)["ok"]
    older = judged(folder, checkpoints=[checkpoint_of(trade[:500])])
    assert failures(older, "outside")[0]["field"] == "root"
    assert judged(folder, checkpoints=[checkpoint_of(trade[:350])])["words"]["outside"] == "passed"
    assert judged(folder, receipts=[receipt_of(trade[:600], 350)])["words"]["outside"] == "failed"
    assert judged(write(rewritten(trade), key=OTHER_KEY))["words"]["tree"] == "failed"


def test_a_rewrite_is_found_by_the_checkpoints_that_were_kept(write: Write, trade: list[bytes]):
    folder = write(rewritten(trade), files={"checkpoints/500": checkpoint_of(trade[:500])})
    assert [failure["path"] for failure in failures(judged(folder), "tree")] == ["checkpoints/500"]


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("entries that do not add up", "accounting"),
        ("a version gap", "accounting"),
        ("an overdrawn balance", "accounting"),
        ("a key used again", "accounting"),
        ("a capture beyond its hold", "accounting"),
        ("more undone than was done", "accounting"),
    ],
)
def test_a_forgery_in_a_log_that_is_chained_and_signed_anew_is_found_where_it_is(
    write: Write, journey: list[bytes], name: str, verdict: str
):
    forgery = next(forgery for forgery in FORGERIES if forgery.name == name)
    seq, body = forgery.body(journey)
    bodies = rechained([*events_of(journey[:seq]), *events_of([body]), *events_of(journey[seq + 1 :])])
    report = judged(write(bodies))
    assert {name: word for name, word in report["words"].items() if word == "failed"} == {verdict: "failed"}
    assert failures(report, verdict)[0]["seq"] == seq
    assert forgery.field in [failure["field"] for failure in failures(report, verdict) if failure["seq"] == seq]


def _link(folder: Path) -> None:
    (folder / "checkpoint").rename(folder / "elsewhere")
    (folder / "checkpoint").symlink_to("elsewhere")


def _respace(manifest: Path) -> None:
    manifest.write_bytes(manifest.read_bytes().replace(b'","', b'", "', 1))


@pytest.mark.parametrize("tile", ["tile/0/001", "tile/0/002.p/188", "tile/1/000.p/2"])
def test_a_tile_of_other_hashes_is_found_though_the_manifest_was_made_to_fit(
    write: Write, trade: list[bytes], tile: str
):
    good = (write(trade) / tile).read_bytes()
    report = judged(write(trade, files={tile: good[:-1] + bytes([good[-1] ^ 1])}))
    assert {name for name, word in report["words"].items() if word == "failed"} == {"tree"}
    assert failures(report, "tree")[0]["path"] == tile
    short = judged(write(trade, files={tile: good[:-32]}))
    assert short["words"]["tree"] == "failed"


def test_a_key_that_stands_twice_in_an_event_is_not_canonical(write: Write, journey: list[bytes]):
    doubled = journey[78].replace(b'"idem":', b'"idem":"other","idem":')
    report = judged(write([*journey[:78], doubled]))
    assert {name: word for name, word in report["words"].items() if word == "failed"} == {"bytes": "failed"}
    assert failures(report, "bytes")[0]["seq"] == 78


def test_a_bundle_with_more_in_it_than_its_events_is_damaged(write: Write, journey: list[bytes]):
    more = encode_bundle(journey) + b"\0"
    report = judged(write(journey, files={"tile/entries/000.p/79": more}))
    assert report["words"]["bytes"] == "failed"
    assert report["words"]["tree"] == "passed"


def test_a_payment_that_is_back_dated_to_before_the_money_came_is_found(write: Write, trade: list[bytes]):
    late = next(event for event in events_of(trade) if "effective" in event)

    def back_date(events: Events) -> None:
        events[late["seq"]]["effective"] = "2026-01-01T00:00:00.300000Z"

    assert late["effective"] < events_of(trade)[400]["time"]
    report = judged(write(forged(trade, back_date)))
    assert [(failure["seq"], failure["field"]) for failure in failures(report, "accounting")] == [
        (late["seq"], "effective")
    ]
    opening = opening_of(trade, 600)
    assert judged(write(trade, window=(600, 700), opening=opening))["notes"][-1].startswith(
        "accounting left open: back-dated"
    )
    assert not any("left open" in note for note in judged(write(trade))["notes"])


def _link_more(folder: Path) -> None:
    (folder / "more").symlink_to("/")


@pytest.mark.parametrize("tile", ["tile/0/000.p/3", "tile/entries/002", "tile/entries/9", "tile/2/000.p/1"])
def test_a_tile_that_the_log_does_not_have_fails_though_the_manifest_names_it(
    write: Write, trade: list[bytes], tile: str
):
    report = judged(write(trade, files={tile: bytes(96)}))
    assert [failure["path"] for failure in failures(report, "bytes")] == [tile]


def test_a_link_fails_without_a_manifest_too(write: Write, trade: list[bytes]):
    folder = write(trade)
    (folder / "manifest.json").unlink()
    report = judged(folder)
    assert report["ok"]
    assert "no manifest: files were not compared" in report["verdicts"]["bytes"]["detail"]
    _link_more(folder)
    assert [failure["path"] for failure in failures(judged(folder), "bytes")] == ["more"]


SABOTAGE: dict[str, Callable[[Path], object]] = {
    "a file that is missing": lambda folder: (folder / "tile/entries/001").unlink(),
    "a hash tile that is missing": lambda folder: (folder / "tile/0/001").unlink(),
    "a checkpoint that is missing": lambda folder: (folder / "checkpoint").unlink(),
    "a key that is missing": lambda folder: (folder / "log.vkey").unlink(),
    "a file that nobody named": lambda folder: (folder / "more.txt").write_bytes(b"x"),
    "a link": _link,
    "a link to a folder": _link_more,
    "a manifest that is no longer canonical": lambda folder: _respace(folder / "manifest.json"),
}


@pytest.mark.parametrize("sabotage", SABOTAGE.values(), ids=SABOTAGE)
def test_a_bundle_that_is_not_whole_fails(write: Write, trade: list[bytes], sabotage: Callable[[Path], object]):
    folder = write(trade)
    sabotage(folder)
    assert not judged(folder, keys=[VKEY])["ok"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("ledger", "other"), ("origin", "ledger.example/other"), ("size", 701), ("root", "ab" * 32), ("profile", 2)],
)
def test_a_manifest_that_says_something_else_fails(write: Write, trade: list[bytes], field: str, value: object):
    folder = write(trade)
    manifest = events_of([(folder / "manifest.json").read_bytes()])[0]
    (folder / "manifest.json").write_bytes(encoded({**manifest, field: value}))
    report = judged(folder)
    assert not report["ok"]
    assert field == "ledger" or field in [failure.get("field") for failure in failures(report, "bytes")]
