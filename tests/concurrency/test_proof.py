"""The proof finds whatever is broken: each rule is broken once in a ledger that keeps all the others."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

import tallystick
from tallystick.commands import Split
from tests.concurrency.answers import compare
from tests.concurrency.evidence import Evidence, read_evidence
from tests.concurrency.plan import ATOMIC, DRY, JOINED, SINGLE, UNDONE
from tests.concurrency.proof import GENESIS, Proof, key_number
from tests.support.databases import Databases

USD = "USD/2"
CONFLICT = "idempotency_conflict"
Events = list[dict[str, Any]]
Notes = list[list[Any]]


@pytest.fixture(scope="module")
def original(databases: Databases) -> Iterator[Evidence]:
    """Of a small ledger in which a bit of everything has happened."""
    url = databases.new()
    with tallystick.open(url) as database:
        ledger = database.ledger("main")
        ledger.mint("users:a", USD, 1_000, key="k1")
        ledger.open_account("members:m", limits={USD: 500}, key="k2")
        ledger.transfer("members:m", "users:b", USD, 400, key="k3", refs={"order": "o-1"})
        hold = ledger.hold("users:a", USD, 300, key="k4")
        ledger.capture(hold.id, [Split("users:b", 100)], final=False, key="k5")
        ledger.freeze("members:m", key="k6")
        ledger.reverse("main/3", 50, key="k7")
        ledger.release(hold.id, 20, key="k8")
        ledger.transfer("users:a", "users:c", USD, 10, key="k9")
    with psycopg.connect(url) as connection:
        yield read_evidence(connection, "main")
    databases.drop(url)


@pytest.fixture
def evidence(original: Evidence) -> Evidence:
    """The same, for the test to alter."""
    return copy.deepcopy(original)


def events_of(evidence: Evidence) -> Events:
    return [json.loads(body) for _, _, _, bodies in evidence.rows for body in bodies.split(b"\n")]


def sealed(evidence: Evidence, events: Events) -> Evidence:
    """A ledger of these events: chained, and with every table that is derived from them, but not put right."""
    found, last, rows = copy.deepcopy(evidence), GENESIS, []
    for seq, event in enumerate(events):
        event["prev"] = last
        body = json.dumps(event).encode()
        last = hashlib.sha256(b"\0" + body).hexdigest()
        rows.append((seq, 1, last, body))
    entries = [(seq, entry) for seq, event in enumerate(events) for entry in event.get("entries", ())]
    found.rows = rows
    found.entries = [
        (seq, e["account"], e["asset"], e["bucket"], e["version"], int(e["amount"]), int(e["before"]), int(e["after"]))
        for seq, e in entries
    ]
    found.balances = sorted({(e["account"], e["asset"], e["bucket"]) for _, e in entries})
    found.keys = [(key_number(event["source"], event["idem"]), seq) for seq, event in enumerate(events)]
    found.head = (len(events), last, events[-1]["time"], len(found.balances))
    return found


def test_a_ledger_that_keeps_all_rules_has_no_findings(evidence: Evidence):
    assert Proof(evidence).find() == []
    assert Proof(sealed(evidence, events_of(evidence))).find() == []


# ---------------------------------------------------------------- events that break a rule


def lift(events: Events, seq: int, index: int, amount: int) -> None:
    """Change one entry's amount, and what it comes to."""
    entry = events[seq]["entries"][index]
    entry["amount"] = str(int(entry["amount"]) + amount)
    entry["after"] = str(int(entry["after"]) + amount)


def unbalance(events: Events) -> None:
    lift(events, 9, 1, 5)


def not_add_up(events: Events) -> None:
    events[9]["entries"][1]["after"] = "11"


def skip_a_version(events: Events) -> None:
    events[9]["entries"][0]["version"] += 1


def forget_what_was_before(events: Events) -> None:
    for field in ("before", "after"):
        events[9]["entries"][1][field] = str(int(events[9]["entries"][1][field]) + 1)


def overdraw(events: Events) -> None:
    lift(events, 3, 0, -200)
    lift(events, 3, 1, 200)


def let_the_frozen_pay(events: Events) -> None:
    events[6]["data"]["account"] = "users:a"


def take_more_than_is_held(events: Events) -> None:
    lift(events, 5, 0, -250)
    lift(events, 5, 1, 250)


def move_what_is_held(events: Events) -> None:
    events[8]["type"], events[8]["data"] = "transfer", {}


def keep_a_part_for_oneself(events: Events) -> None:
    lift(events, 5, 1, -7)


def undo_too_much(events: Events) -> None:
    for index in (0, 1):
        lift(events, 7, index, 9 * int(events[7]["entries"][index]["amount"]))


def go_back_in_time(events: Events) -> None:
    events[9]["time"] = "2020-01-01T00:00:00.000000Z"


def use_a_key_twice(events: Events) -> None:
    events[9]["idem"] = "k1"


def leave_one_out(events: Events) -> None:
    del events[6]


BROKEN: dict[str, tuple[Callable[[Events], None], str]] = {
    "a sum": (unbalance, "main/9: its entries in USD/2 sum to 5"),
    "the sum of all": (unbalance, "main: USD/2 sums to 5"),
    "an addition": (not_add_up, "main/9: after is not before + amount"),
    "a version": (skip_a_version, "main/9: version 5 of ('users:a', 'USD/2', 'available') follows version 3"),
    "a balance before": (forget_what_was_before, "main/9: ('users:c', 'USD/2', 'available') was 0 before, not 1"),
    "a floor": (overdraw, "main/3: ('members:m', 'USD/2', 'available') goes to -600, below its floor of -500"),
    "a freeze": (let_the_frozen_pay, "main/9: users:a is frozen, and pays"),
    "a hold": (take_more_than_is_held, "main/5: main/4 gives more than it has"),
    "a hold from outside": (move_what_is_held, "main/8: a transfer changes what is set aside"),
    "what is held": (move_what_is_held, "main: ('users:a', 'USD/2', 'held') is 180, its holds keep 200"),
    "a capture": (keep_a_part_for_oneself, "main/5: main/4 gives 100, and 93 arrives"),
    "a reversal": (undo_too_much, "main/7: it undoes"),
    "time": (go_back_in_time, "main/9: time ran backwards"),
    "a key": (use_a_key_twice, "main/9: its key ('local', 'k1') is that of event 1"),
    "the order": (leave_one_out, "main/6: it says it is main/7"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_events_that_break_a_rule_are_found_however_well_they_are_chained(evidence: Evidence, what: str):
    breaking, expected = BROKEN[what]
    events = events_of(evidence)
    breaking(events)
    findings = Proof(sealed(evidence, events)).find()
    assert any(finding.startswith(expected) for finding in findings), findings


# ---------------------------------------------------------------- tables that do not fit


def alter_a_byte(found: Evidence) -> None:
    index = next(index for index, row in enumerate(found.rows) if row[0] == 3)
    seq, count, hash, body = found.rows[index]
    found.rows[index] = (seq, count, hash, body.replace(b"o-1", b"o-2"))


def lose_a_row(found: Evidence) -> None:
    found.rows = [row for row in found.rows if row[0] != 4]


def alter_an_entry(found: Evidence) -> None:
    found.entries[0] = (*found.entries[0][:5], *(number + 1 for number in found.entries[0][5:]))


def enter_twice(found: Evidence) -> None:
    found.entries.append(found.entries[0])


def lose_a_key(found: Evidence) -> None:
    found.keys.pop()


def misplace_a_key(found: Evidence) -> None:
    found.keys[1] = (found.keys[1][0], 5)


def add_a_balance(found: Evidence) -> None:
    found.balances.append(("users:z", USD, "held"))


def lose_a_reference(found: Evidence) -> None:
    found.references.clear()


def alter_a_lock(found: Evidence) -> None:
    found.locks["main/4"]["remaining"] += 1


def move_the_head(found: Evidence) -> None:
    found.head = (found.head[0] + 1, *found.head[1:])


def alter_a_snapshot(found: Evidence) -> None:
    found.snapshots.append((0, "users:a", USD, "available", 1, 5))


ALTERED: dict[str, tuple[Callable[[Evidence], None], str]] = {
    "a byte": (alter_a_byte, "main/3: its row names another hash"),
    "a link": (alter_a_byte, "main/4: it names another hash"),
    "a row": (lose_a_row, "main/5: its row of 1 events does not begin behind event 3"),
    "an entry": (alter_an_entry, "main: the table of entries"),
    "an entry twice": (enter_twice, "main: the table of entries has"),
    "a key": (lose_a_key, "main: the table of keys lacks"),
    "a key's place": (misplace_a_key, "main: the table of keys"),
    "a balance": (add_a_balance, "main: the table of balances has"),
    "a reference": (lose_a_reference, "main: the table of references lacks ('order', 'o-1', 3)"),
    "a lock": (alter_a_lock, "main: the table of locks has ('main/4', 181)"),
    "the head": (move_the_head, "main: the table of heads has"),
    "a snapshot": (alter_a_snapshot, "main: the table of snapshots has"),
}


@pytest.mark.parametrize("what", ALTERED)
def test_tables_that_say_something_else_than_the_events_are_found(evidence: Evidence, what: str):
    alter, expected = ALTERED[what]
    alter(evidence)
    findings = Proof(evidence).find()
    assert any(finding.startswith(expected) for finding in findings), findings


# ---------------------------------------------------------------- answers that do not fit


def asked(number: str, kind: str, *keys: str) -> list[Any]:
    return ["asked", number, 0, kind, "main", [{"key": key} for key in keys]]


@pytest.fixture
def proof(evidence: Evidence) -> Proof:
    found = Proof(evidence)
    assert found.find() == []
    return found


@pytest.fixture
def notes(proof: Proof) -> Notes:
    """What somebody would have written who posted all of the ledger, one by one but for the last two."""
    found: Notes = []
    for seq in range(1, 8):
        found += [asked(f"w {seq}", SINGLE, f"k{seq}"), ["told", f"w {seq}", [posted(proof, seq)]]]
    found += [asked("w 8", JOINED, "k8", "k9"), ["told", "w 8", [posted(proof, 8), posted(proof, 9)]]]
    return found


def posted(proof: Proof, seq: int, *, replayed: bool = False) -> list[Any]:
    return ["posted", seq, proof.hashes[seq], proof.events[seq]["time"], replayed]


ROWS = {("main", "k8"), ("main", "k9")}


def test_answers_that_fit_the_journal_have_no_findings(proof: Proof, notes: Notes):
    assert compare(notes, {"main": proof}, ROWS) == []


@pytest.mark.parametrize(
    ("notes_too", "expected"),
    [
        ([asked("x", SINGLE, "lost"), ["told", "x", [["posted", 3, "00", "then", False]]]], "main: lost was answered"),
        ([["told", "w 1", [["refused", "insufficient_funds"]]]], "main: k1 was answered ['refused'"),
        ([asked("x", SINGLE, "n"), ["told", "x", [["refused", CONFLICT]]]], "main: n is in conflict"),
        ([asked("x", ATOMIC, "k1", "never")], "main: the batch of k1 was torn apart"),
        ([asked("x", ATOMIC, "k5", "k7")], "main: the batch of k5 was torn apart"),
        ([asked("x", ATOMIC, "k7", "k6")], "main: the batch of k7 was torn apart"),
    ],
    ids=["lost", "refused and posted", "conflict", "half", "strangers between", "order"],
)
def test_answers_that_do_not_fit_the_journal_are_found(proof: Proof, notes: Notes, notes_too: Notes, expected: str):
    findings = compare([*notes, *notes_too], {"main": proof}, ROWS)
    assert any(finding.startswith(expected) for finding in findings), findings


def test_a_batch_that_stands_in_its_own_way_is_no_conflict_with_nothing(proof: Proof, notes: Notes):
    notes += [asked("x", ATOMIC, "new", "new"), ["told", "x", [["refused", "batch_aborted"], ["refused", CONFLICT]]]]
    assert compare(notes, {"main": proof}, ROWS) == []
    notes[-2] = asked("x", ATOMIC, "new", "other")
    assert compare(notes, {"main": proof}, ROWS) == ["main: other is in conflict with nothing"]


def test_a_key_that_was_posted_anew_for_two_is_found(proof: Proof, notes: Notes):
    notes += [asked("x", SINGLE, "k3"), ["told", "x", [posted(proof, 3)]]]
    assert any("was posted anew to each of" in finding for finding in compare(notes, {"main": proof}, ROWS))
    notes[-1] = ["told", "x", [posted(proof, 3, replayed=True)]]
    assert compare(notes, {"main": proof}, ROWS) == []


@pytest.mark.parametrize("kind", [DRY, UNDONE])
def test_what_was_only_tried_out_or_rolled_back_and_is_there_is_found(proof: Proof, notes: Notes, kind: str):
    notes[0] = asked("w 1", kind, "k1")
    notes[1] = ["told", "w 1", [["rolled back"]]]
    assert "main: nobody asked for k1" in compare(notes, {"main": proof}, ROWS)


def test_a_posting_without_the_row_of_its_caller_is_found_and_a_row_without_its_posting(proof: Proof, notes: Notes):
    assert compare(notes, {"main": proof}, ROWS - {("main", "k9")}) == [
        "('main', 'k9') was posted without the caller's row"
    ]
    assert compare(notes, {"main": proof}, ROWS | {("main", "k10")}) == [
        "the caller's row ('main', 'k10') has no posting"
    ]
