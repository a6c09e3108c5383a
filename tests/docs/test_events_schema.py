"""The JSON Schema accepts every event that a ledger makes, of every type, and no event that is not whole."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

import tallystick
from tallystick import Erasable
from tallystick.clock import PATTERN
from tallystick.events import EVENT_TYPES, REFERENCES
from tallystick.journal import encode_event
from tallystick.kernel import Policy
from tallystick.schema import DATA, DEFINITIONS, events_schema, schema_text
from tests.kernel.cases import RIGHT
from tests.support.engine import Engine
from tests.support.kernel import START, USD, Scribe
from tests.support.story import tell

ALL = sorted(EVENT_TYPES)
VALIDATOR = jsonschema.Draft202012Validator(json.loads(schema_text()))
OPTIONAL = {"effective", "actor", "refs", "entries", "data", "salt"}


class Told:
    """A store that keeps nothing: the story's events are in its engine."""

    def append(self, batches: Any, *, epoch: int | None = None) -> None:
        list(batches)


def problems(event: dict[str, Any]) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(event)]


def made(name: str) -> dict[str, Any]:
    """An event of this type, as it is on the wire."""
    scribe = Scribe()
    if name != "ledger_opened":
        scribe.do(tallystick.commands.OpenLedger, name="main")
    body: dict[str, Any] = json.loads(scribe.sealed(RIGHT[name](scribe))[1])
    return body


@pytest.fixture(scope="module")
def events() -> dict[str, dict[str, Any]]:
    """One event of each type."""
    return {name: made(name) for name in ALL}


def test_the_schema_itself_is_a_schema_and_speaks_of_every_type_and_no_other():
    jsonschema.Draft202012Validator.check_schema(events_schema())
    types = events_schema()["$defs"]["types"]
    assert [name for name in types if name != "of_its_own"] == list(EVENT_TYPES)
    assert DATA.keys() <= EVENT_TYPES.keys()
    assert DEFINITIONS["policy"]["properties"].keys() == set(Policy.__struct_fields__)
    assert DEFINITIONS["policy"]["required"] == sorted(Policy.__struct_fields__)


@pytest.mark.parametrize("name", ALL)
def test_an_event_of_every_type_is_accepted(events: dict[str, dict[str, Any]], name: str):
    assert problems(events[name]) == []


def test_every_event_of_a_whole_story_is_accepted():
    engine = tell(Engine(Told()))  # type: ignore[arg-type]
    assert len(engine.history) > 60
    for event in engine.history:
        assert problems(json.loads(encode_event(event))) == [], event


def test_erasable_texts_back_dating_odd_texts_and_a_type_of_its_own_are_accepted():
    with tallystick.open("memory://", clock=lambda: START) as database:
        ledger = database.ledger("a.b-c_1")
        more = {"reason": Erasable("x"), "metadata": {"who": Erasable("y"), "odd ~": '漢\0\n"\\'}, "actor": "ops 🪵"}
        more |= {"refs": {"tx_hash": "0x1"}, "effective": "2025-12-01"}
        ledger.deposit("did:web:example.org%3A80", USD, 2**62, key="1", **more)
        ledger.transfer("did:web:example.org%3A80", "@clearing:a:b", USD, 1, key="2", effective="2025-12-31")
        ledger.define_type("sale", base="deposit", requires=["order", "round"], key="3")
        ledger.transact(
            "sale",
            [tallystick.Leg("@external:card", "users:a", "TOKEN", 5)],
            refs=dict.fromkeys(REFERENCES, "r"),
            key="4",
        )
        ledger.transfer("users:a", "users:b", "TOKEN", 1, key="5")
        ledger.open_account("members:m", limits={USD: 700}, ceilings={"TOKEN": 0}, owner="did:key:z6", key="6")
        ledger.set_limit("members:m", USD, ceiling=9, key="7")
        ledger.set_limit("members:m", USD, clear_ceiling=True, key="8")
        ledger.close_account("users:b", settle_to="users:a", key="9")
        ledger.record_reserve("r", USD, 0, provider="bank", valid_until=START, key="10")
        for transaction in ledger.events():
            assert problems(json.loads(encode_event(transaction.event))) == [], transaction.event


# ---------------------------------------------------------------- broken ones

SHARED: list[tuple[str, Any]] = [
    ("v", 2), ("v", "1"), ("ledger", ""), ("ledger", "a/b"), ("ledger", "x" * 65), ("seq", -1), ("seq", "1"),
    ("seq", 1.5), ("seq", 2**53), ("prev", ""), ("prev", "A" * 64), ("prev", "a" * 63), ("time", "2026-01-01"),
    ("time", "2026-13-01T00:00:00.000000Z"), ("time", "2026-01-01T00:00:00.000000+00:00"),
    ("type", "Mint"), ("type", ""), ("source", ""), ("source", "x" * 256), ("idem", ""), ("idem", None),
    ("actor", ""), ("actor", 5),
    ("effective", "now"), ("refs", {}), ("refs", {"invoice": "1"}), ("refs", {"order": ""}), ("refs", {"order": 1}),
    ("entries", []), ("entries", {}), ("data", {}), ("data", []), ("salt", ""), ("hash", "0" * 64), ("Type", "mint"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), SHARED, ids=lambda value: repr(value)[:30])
def test_a_wrong_value_in_a_field_that_all_events_have_is_refused(
    events: dict[str, dict[str, Any]], field: str, value: Any
):
    assert problems({**events["mint"], field: value})


@pytest.mark.parametrize("name", ALL)
def test_no_field_that_must_be_there_may_be_away_and_no_other_may_be_there(
    events: dict[str, dict[str, Any]], name: str
):
    event, row = events[name], EVENT_TYPES[name]
    required = [field for field in event if field not in OPTIONAL]
    required += ["entries"] if row.moves and name not in ("account_excluded", "account_closed") else []
    required += ["refs"] if row.requires else []
    required += [need for need in row.needs if need != "reason"]
    required += ["data"] if name != "transfer" else []
    for field in required:
        assert problems({key: value for key, value in event.items() if key != field}), field
    assert problems({**event, "more": 1})
    if not row.moves:
        assert problems({**event, "entries": events["mint"]["entries"]}), "it moves no value"
    if row.by != "post":
        assert problems({**event, "effective": START}), "it cannot be back-dated"
    for group in row.requires:
        others = [reference for reference in REFERENCES if reference not in group]
        assert problems({**event, "refs": dict.fromkeys(others, "x")}), group


@pytest.mark.parametrize("name", ALL)
def test_no_data_of_a_type_may_be_away_of_another_kind_or_anothers(events: dict[str, dict[str, Any]], name: str):
    event = events[name]
    data = event.get("data", {"request": "0" * 32})
    fields, optional = DATA.get(name, ({}, ()))
    for field in data:
        broken = copy.deepcopy(event) | {"data": {key: value for key, value in data.items() if key != field}}
        is_needed = (
            (field in fields and field not in optional) or field in EVENT_TYPES[name].needs or field == "request"
        )
        assert bool(problems(broken)) == is_needed, field
    for field in [*fields, "reason", "metadata", "request"]:
        for wrong in (None, 1.5, [1], {"a": 1}, -1):
            assert problems({**event, "data": {**data, field: wrong}}), field
    assert problems({**event, "data": {**data, "more": "x"}})
    foreign = {field for other, (theirs, _) in DATA.items() for field in theirs if other != name} - fields.keys()
    for field in foreign:
        assert problems({**event, "data": {**data, field: "x"}}), field


@pytest.mark.parametrize("name", [name for name in ALL if EVENT_TYPES[name].moves])
def test_an_entry_must_be_whole_and_in_a_bucket_that_the_type_touches(events: dict[str, dict[str, Any]], name: str):
    event = events[name]
    for broken in _broken_entries(event["entries"][0]):
        assert problems({**event, "entries": [broken, *event["entries"][1:]]}), broken
    assert problems({**event, "entries": event["entries"][:1]}), "one entry alone adds up to nothing"
    touched = {bucket for move in EVENT_TYPES[name].moves for bucket in (*move.from_buckets, *move.to_buckets)}
    for bucket in ("available", "held", "bonded", "fees", "promo"):
        other = {**event["entries"][0], "bucket": bucket}
        assert bool(problems({**event, "entries": [other, *event["entries"][1:]]})) == (bucket not in touched)


def _broken_entries(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for field in entry:
        yield {key: value for key, value in entry.items() if key != field}
    yield {**entry, "more": 1}
    for amount in ("0", "-0", "007", "+1", "1.0", "", " 1", "1" * 20, 5, None, "\u0661"):
        yield {**entry, "amount": amount}
    for balance in ("-0", "00", "x", 0, "1" * 20):
        yield {**entry, "before": balance}
        yield {**entry, "after": balance}
    for version in (0, -1, "1", 1.5):
        yield {**entry, "version": version}
    for account in ("", "a b", "@mint", "did:", "did:key:", "x" * 256, "users:", ":a", "ü"):
        yield {**entry, "account": account}
    for asset in ("", "usd", "USD/19", "USD/02", "1USD", "USD/"):
        yield {**entry, "asset": asset}


@pytest.mark.parametrize(
    "data",
    [
        {"reason": ""}, {"reason": "x" * 1_025}, {"reason": "commitment:sha256:abc"}, {"metadata": {}},
        {"metadata": {"": "x"}}, {"metadata": {"é": "x"}}, {"metadata": {"n" * 65: "x"}}, {"metadata": {"n": 1}},
        {"metadata": {"n": "commitment:sha256:" + "F" * 64}}, {"metadata": {"n": "x" * 1_025}},
        {"metadata": {f"n{number}": "x" for number in range(65)}}, {"request": "0" * 31}, {"request": "G" * 32},
    ],
    ids=lambda data: repr(data)[:40],
)  # fmt: skip
def test_texts_that_no_ledger_keeps_are_refused(events: dict[str, dict[str, Any]], data: dict[str, Any]):
    event = events["mint"]
    assert problems({**event, "data": {**event["data"], **data}})


def test_a_change_of_nothing_is_no_limit(events: dict[str, dict[str, Any]]):
    data = {key: events["limit_set"]["data"][key] for key in ("account", "asset", "request")}
    assert problems({**events["limit_set"], "data": data})


def test_a_type_of_a_ledgers_own_is_a_posting(events: dict[str, dict[str, Any]]):
    own = {**events["mint"], "type": "my_sale"}
    assert problems(own) == []
    assert problems({**own, "data": {**own["data"], "hold": "main/1"}})
    assert problems({key: value for key, value in own.items() if key != "entries"})
    assert problems({key: value for key, value in own.items() if key != "data"})


def test_patterns_mean_the_same_to_other_programs():
    """No construct that only Python's expressions have."""
    text = schema_text()
    for construct in ("\\\\Z", "\\\\A", "(?P", "\\\\d", "(?i", "(?<"):
        assert construct not in text, construct
    assert PATTERN in json.loads(text)["$defs"]["time"]["pattern"]
