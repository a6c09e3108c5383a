"""Each rule of the profile is broken once, in an otherwise faultless journal, and found at that event and field."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tallystick import verify
from tallystick.events import EVENT_TYPES, REFERENCES, EventType
from tallystick.journal import decode_event
from tests.verify.bundles import VKEY, Events, events_of, failures, forged, judged
from tests.verify.conftest import Write
from tests.verify.forgeries import FORGERIES, Forgery, entries, moving
from tests.verify.journey import Told
from tests.verify.replay import replay

ROLES = {name: letter for letter, name in verify.ROLES.items()}
BUCKETS = {name: letter for letter, name in verify.BUCKETS.items()}


def row_of(kind: EventType) -> str:
    """The line of the verifier's table that this row of the registry must come to."""
    words = [kind.name, ("p" if kind.by == "post" else "c") + ("r" if kind.reversible else "-")]
    for move in kind.moves:
        ends = ((move.from_roles, move.from_buckets), (move.to_roles, move.to_buckets))
        sides = [
            "".join(ROLES[r] for r in roles) + ":" + "".join(BUCKETS[b] for b in buckets) for roles, buckets in ends
        ]
        words.append(("=" if move.same_account else ">").join(sides))
    words += ["+" + "|".join(group) for group in kind.requires]
    return " ".join(words + [f"!{need}" for need in kind.needs])


def test_the_verifiers_table_of_types_is_the_registry():
    assert verify.TABLE.strip().split("\n") == [row_of(kind) for kind in EVENT_TYPES.values()]
    assert tuple(verify.REFERENCES) == REFERENCES


def test_the_table_in_the_profile_is_the_registry():
    text = (Path(__file__).parents[2] / "docs/PROFILE.md").read_text()
    lines = [line for line in text.split("### The table")[1].split("\n") if line.startswith("| ")]
    found = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:4]] for line in lines[1:]]
    rows = [row_of(kind).split() for kind in EVENT_TYPES.values()]
    assert [row[0] for row in rows] == [line[0] for line in found]
    for (_, flags, *words), (_, letters, cell) in zip(rows, found, strict=True):
        assert letters == flags.replace("c", "").replace("-", "")
        assert (
            cell.replace("\\|", "|").replace(" > ", ">").replace(" = ", "=").replace(";", "").replace(",", "").split()
            == words
        )
    assert len(text.split()) < 2_800


def test_the_journey_uses_every_event_type_and_keeps_every_rule(told: Told):
    assert {event["type"] for event in events_of(told.bodies)} >= EVENT_TYPES.keys()
    report, book = replay(told.bodies)
    assert not report.failed, report.as_text()
    found = {(a, s, b): balance for (s, b), pocket in book.pockets.items() for a, balance in pocket.items()}
    assert found == {(r["account"], r["asset"], r["bucket"]): (int(r["amount"]), r["version"]) for r in told.balances}
    assert {id_: str(lock.left) for id_, lock in book.locks.items()} == {row["id"]: row["left"] for row in told.locks}


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.name)
def test_a_broken_rule_is_found_at_its_event_and_field(journey: list[bytes], forgery: Forgery):
    seq, body = forgery.body(journey)
    report, _ = replay([*journey[:seq], body])
    found = [(failure.seq, failure.field) for failure in report.verdicts[forgery.verdict].failures]
    assert (seq, forgery.field) in found, report.as_text()
    before, _ = replay(journey[:seq])
    assert not before.failed
    if forgery.verdict != "bytes":
        assert not report.verdicts["bytes"].count
        assert decode_event(body).entries is not None


def test_one_wrong_entry_is_reported_once_and_not_with_every_later_one(write: Write, trade: list[bytes]):
    def grow(events: Events) -> None:
        entry = next(e for e in events[300:] if e["type"] == "transfer")["entries"][0]
        entry["version"] += 1

    report = judged(write(forged(trade, grow)))
    assert failures(report, "accounting")[0]["field"] == "entries[0].version"
    assert len(failures(report, "accounting")) == 2  # where it is, and where the balance goes on from the right version


def test_what_is_held_must_be_what_open_holds_keep(journey: list[bytes]):
    report, book = replay(journey)
    book.locks.clear()
    book.check_end()
    assert {failure.problem.partition(" of ")[0] for failure in report.verdicts["accounting"].failures} == {
        "held",
        "bonded",
    }


def test_an_overdrawn_plain_transfer_is_found_in_the_short_way_too(trade: list[bytes]):
    events = events_of(trade)
    seq = next(e["seq"] for e in events if e["type"] == "transfer" and e["seq"] > 300)
    payer, payee = (entry["account"] for entry in events[seq]["entries"])
    changed = {**events[seq], "entries": entries(events, seq, *moving(payer, payee, 10**6))}
    report, _ = replay([*trade[:seq], verify._ENCODER.encode(changed).encode()])
    assert [(f.seq, f.field) for f in report.verdicts["accounting"].failures] == [(seq, "entries[0].after")]


def test_more_failures_than_are_listed_are_counted(write: Write, trade: list[bytes]):
    def reuse(events: Events) -> None:
        for event in events:
            event["idem"] = "same"

    report = judged(write(forged(trade, reuse)), keys=[VKEY])
    assert len(failures(report, "accounting")) == verify.MAX_FAILURES
    assert (
        report["verdicts"]["accounting"]["failures_left_out"] == 698 - verify.MAX_FAILURES
    )  # all of one source, but the first
    assert failures(report, "accounting")[0]["seq"] == 2
