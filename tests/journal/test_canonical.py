"""Canonical bytes: one way to write an event, and a parser that takes no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tallystick.errors import EventTooLarge, LedgerCorrupt
from tallystick.events import MAX_EVENT_BYTES, MAX_EVENT_DEPTH, Entry, Event
from tallystick.journal import decode_event, encode_event, parse_strict
from tallystick.journal.canonical import MAX_INTEGER, is_amount

VECTORS = Path(__file__).parent.parent / "vectors" / "rfc8785-jcs"
EVENT = Event(
    type="transfer",
    ledger="main",
    seq=7,
    prev="0f" * 32,
    time="2026-01-01T00:00:00.000000Z",
    source="local",
    idem="k-1",
    entries=(
        Entry("alice", "USD/2", "available", -5, 12, 7, 3),
        Entry("bob", "USD/2", "available", 5, -(2**63 - 1), -(2**63 - 6), 1),
    ),
)


# ---------------------------------------------------------------- RFC 8785's published pairs


def pair(name: str) -> tuple[bytes, bytes]:
    return (VECTORS / "input" / name).read_bytes(), (VECTORS / "output" / name).read_bytes()


@pytest.mark.parametrize("name", ["structures.json", "unicode.json"])
def test_published_canonical_forms_within_the_profile_are_accepted_and_their_sources_are_not(name: str):
    source, canonical = pair(name)
    assert parse_strict(canonical) == json.loads(source)
    with pytest.raises(LedgerCorrupt):
        parse_strict(source)


@pytest.mark.parametrize("name", ["structures.json", "unicode.json"])
def test_an_events_data_is_written_as_published(name: str):
    canonical = pair(name)[1]
    body = encode_event(msgspec.structs.replace(EVENT, data=dict(reversed(json.loads(canonical).items()))))
    assert b'"data":' + canonical + b',"entries":' in body


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("arrays.json", "null"),
        ("french.json", "not ASCII"),
        ("values.json", "not a whole number"),
        ("weird.json", "not ASCII"),
    ],
)
def test_published_canonical_forms_outside_the_profile_are_refused(name: str, problem: str):
    with pytest.raises(LedgerCorrupt, match=problem):
        parse_strict(pair(name)[1])


def test_the_published_string_is_written_with_the_published_escapes():
    text = json.loads(pair("values.json")[0])["string"]
    start = pair("values.json")[1].index(b'"string":')
    written = encode_event(msgspec.structs.replace(EVENT, data={"string": text}))
    assert pair("values.json")[1][start:-1] in written


# ---------------------------------------------------------------- writing


def test_an_event_is_one_object_with_sorted_keys_and_amounts_as_digit_strings():
    assert encode_event(EVENT) == (
        b'{"entries":[{"account":"alice","after":"7","amount":"-5","asset":"USD/2","before":"12","bucket":"available",'
        b'"version":3},{"account":"bob","after":"-9223372036854775802","amount":"5","asset":"USD/2",'
        b'"before":"-9223372036854775807","bucket":"available","version":1}],"idem":"k-1","ledger":"main",'
        b'"prev":"' + b"0f" * 32 + b'","seq":7,"source":"local","time":"2026-01-01T00:00:00.000000Z",'
        b'"type":"transfer","v":1}'
    )


def test_what_is_empty_is_left_out_and_comes_back_as_empty():
    bare = msgspec.structs.replace(EVENT, entries=())
    body = encode_event(bare)
    assert sorted(parse_strict(body)) == ["idem", "ledger", "prev", "seq", "source", "time", "type", "v"]
    assert decode_event(body) == bare


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("\x00\x1f\x7f", b'"\\u0000\\u001f\x7f"'),
        ("\b\t\n\f\r", b'"\\b\\t\\n\\f\\r"'),
        ('"\\/', b'"\\"\\\\/"'),
        ("\u2028\u2029", b'"\xe2\x80\xa8\xe2\x80\xa9"'),
        ("é漢🙂", "\"é漢🙂\"".encode()),
    ],
    ids=ascii,
)  # fmt: skip
def test_text_is_escaped_only_where_json_demands_it(text: str, written: bytes):
    body = encode_event(msgspec.structs.replace(EVENT, data={"note": text}))
    assert b'{"note":' + written + b"}" in body
    assert parse_strict(body)["data"]["note"] == text


def test_an_event_of_65535_bytes_is_written_and_read_and_one_byte_more_is_not():
    room = MAX_EVENT_BYTES - len(encode_event(msgspec.structs.replace(EVENT, salt="x"))) + 1
    body = encode_event(msgspec.structs.replace(EVENT, salt="x" * room))
    assert len(body) == MAX_EVENT_BYTES
    assert parse_strict(body)["salt"] == "x" * room
    with pytest.raises(EventTooLarge):
        encode_event(msgspec.structs.replace(EVENT, salt="x" * (room + 1)))
    with pytest.raises(LedgerCorrupt, match="65536 bytes"):
        parse_strict(body.replace(b'"salt":"', b'"salt":"x'))


# ---------------------------------------------------------------- reading strictly


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"b":1,"a":1}',
        b'{ "a":1}',
        b'{"a": 1}',
        b'{"a":1}\n',
        b'\n{"a":1}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":1E3}',
        b'{"a":-0}',
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":null}',
        b'{"a":[null]}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":9007199254740992}',
        b'{"a":-9007199254740992}',
        b'{"a":' + b"9" * 5_000 + b"}",
        b'{"a":"\\u0061"}',
        b'{"a":"\\u00e9"}',
        b'{"a":"\\/"}',
        b'{"a":"\\u000A"}',
        b'{"a":"\\n\\u000a"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xff"}',
        b'{"a":"\n"}',
        '{"ä":1}'.encode(),
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":1}{}',
        b'{"a":1}//',
        b"[]",
        b"1",
        b'"a"',
        b"null",
        b"",
        b"{",
        b'{"a":True}',
    ],
    ids=lambda body: ascii(body[:24]),
)
def test_any_other_way_to_write_it_is_refused(body: bytes):
    with pytest.raises(LedgerCorrupt):
        parse_strict(body)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"":0}',
        b'{"a":true,"b":false}',
        b'{"a":9007199254740991,"b":-9007199254740991}',
        b'{"A":1,"a":[{},[],""]}',
        '{"a":"é漢🙂\u2028"}'.encode(),
    ],
    ids=ascii,
)
def test_the_one_way_is_accepted(body: bytes):
    assert json.dumps(parse_strict(body), separators=(",", ":"), ensure_ascii=False).encode() == body


def test_integers_end_at_2_to_the_53_minus_1():
    assert MAX_INTEGER == 9_007_199_254_740_991


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


def test_sixteen_levels_are_allowed_and_seventeen_are_not():
    assert parse_strict(nested(MAX_EVENT_DEPTH))
    with pytest.raises(LedgerCorrupt, match="deeper than 16"):
        parse_strict(nested(MAX_EVENT_DEPTH + 1))


@pytest.mark.parametrize("body", [b"[" * 60_000, b'{"a":' * 12_000, nested(9_000)], ids=["arrays", "open", "objects"])
def test_nesting_without_end_is_refused_and_not_a_crash(body: bytes):
    with pytest.raises(LedgerCorrupt):
        parse_strict(body)


# ---------------------------------------------------------------- reading an event


def altered(**change: Any) -> bytes:
    fields = json.loads(encode_event(EVENT))
    fields |= change
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


@pytest.mark.parametrize(
    "change",
    [
        {"seq": ...}, {"seq": "7"}, {"seq": 7.5},
        {"v": ...}, {"type": ...}, {"type": 1}, {"source": ...}, {"stranger": 1},
        {"refs": {"order": 1}}, {"refs": []}, {"entries": {}}, {"entries": [{}]}, {"data": []},
    ],
    ids=repr,
)  # fmt: skip
def test_bytes_that_hold_no_event_are_corruption(change: dict[str, Any]):
    with pytest.raises(LedgerCorrupt, match="cannot be read"):
        decode_event(altered(**change))


@pytest.mark.parametrize("amount", ["", "x", "1.0", "--1", "1e3", "9" * 5_000], ids=lambda amount: amount[:8])
def test_an_amount_that_is_no_number_is_corruption(amount: str):
    entry = json.loads(encode_event(EVENT))["entries"][0] | {"amount": amount}
    with pytest.raises(LedgerCorrupt, match="cannot be read"):
        decode_event(altered(entries=[entry]))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'{"data":' + b"[" * 60_000])
def test_bytes_that_are_no_object_are_corruption(body: bytes):
    with pytest.raises(LedgerCorrupt, match="cannot be read"):
        decode_event(body)


@pytest.mark.parametrize("text", ["0", "1", "-1", "9223372036854775807", "-9223372036854775807"])
def test_an_amount_has_one_way_to_be_written(text: str):
    assert is_amount(text)


@pytest.mark.parametrize(
    "text", ["", "-0", "+1", "01", "-01", "1.0", "1e3", " 1", "1\n", "1_0", "٣", "9" * 20, 1, None, True]
)
def test_any_other_way_to_write_an_amount_is_none(text: Any):
    assert not is_amount(text)
