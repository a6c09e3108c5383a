"""Any event that can be written is read back as it was, and its bytes are the only ones it can have."""

from __future__ import annotations

import json

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.accounts import BUCKETS
from tallystick.events import EVENT_TYPES, REFERENCES, Entry, Event
from tallystick.journal import decode_event, encode_event, leaf_hash, parse_strict, seal
from tallystick.journal.canonical import MAX_INTEGER, is_amount
from tallystick.journal.chain import seal_transfers
from tallystick.money import MAX_AMOUNT

text = st.text(max_size=40)
name = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)
amounts = st.integers(-MAX_AMOUNT, MAX_AMOUNT)
counts = st.integers(0, MAX_INTEGER)
entries = st.builds(
    Entry,
    account=name,
    asset=st.sampled_from(["USD/2", "JPY", "BTC/18"]),
    bucket=st.sampled_from(BUCKETS),
    amount=amounts,
    before=amounts,
    after=amounts,
    version=counts,
)
data = st.dictionaries(
    name,
    st.recursive(
        text | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(name, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)
events = st.builds(
    Event,
    type=st.sampled_from(sorted(EVENT_TYPES)),
    ledger=name,
    seq=counts,
    time=text,
    prev=text,
    effective=text,
    actor=text,
    source=text,
    idem=text,
    refs=st.dictionaries(st.sampled_from(REFERENCES), text, max_size=4),
    entries=st.lists(entries, max_size=4).map(tuple),
    data=data,
    salt=text,
)


@settings(deadline=None)
@given(events)
def test_decoding_what_was_encoded_gives_the_same_event(event: Event):
    body = encode_event(event)
    assert decode_event(body) == event
    assert encode_event(decode_event(body)) == body


@settings(deadline=None)
@given(events)
def test_what_was_encoded_is_in_canonical_form(event: Event):
    body = encode_event(event)
    found = parse_strict(body)
    assert found["seq"] == event.seq
    assert found.get("data", {}) == event.data
    for entry in found.get("entries", []):
        assert all(is_amount(entry[field]) for field in ("amount", "before", "after"))


@settings(deadline=None)
@given(events)
def test_two_encoders_that_share_no_code_agree(event: Event):
    body = encode_event(event)
    assert msgspec.json.encode(json.loads(body), order="deterministic") == body


@settings(deadline=None)
@given(events, events)
def test_two_events_have_the_same_bytes_only_if_they_are_the_same(one: Event, other: Event):
    assert (encode_event(one) == encode_event(other)) == (one == other)


@settings(deadline=None)
@given(events, st.text(alphabet="0123456789abcdef", min_size=64, max_size=64))
def test_a_sealed_event_differs_from_what_was_decided_by_its_link_alone(event: Event, prev: str):
    body, hash_ = seal(event, prev)
    assert decode_event(body) == msgspec.structs.replace(event, prev=prev)
    assert hash_ == leaf_hash(body)


@settings(deadline=None)
@given(events, st.data())
def test_a_flipped_bit_is_no_longer_the_event_that_was_hashed(event: Event, draw: st.DataObject):
    body = encode_event(event)
    place = draw.draw(st.integers(0, len(body) - 1))
    bit = 1 << draw.draw(st.integers(0, 7))
    assert leaf_hash(body[:place] + bytes([body[place] ^ bit]) + body[place + 1 :]) != leaf_hash(body)


moves = st.tuples(
    text.filter(str.isprintable),
    st.sampled_from(["alice", "did:web:example.org%3A3000"]),
    st.sampled_from(["bob", "users:b_1"]),
    st.sampled_from(["USD/2", "JPY"]),
    st.integers(1, MAX_AMOUNT),
    st.integers(0, MAX_AMOUNT),
    counts,
    st.integers(-MAX_AMOUNT, 0),
    counts,
)


@settings(deadline=None)
@given(st.lists(moves, max_size=4), text, text, st.integers(0, 10**9))
def test_a_run_of_transfers_is_sealed_as_each_would_be_by_itself(
    moved: list[tuple[str, str, str, str, int, int, int, int, int]], source: str, actor: str, first: int
):
    time, prev = "2026-01-01T00:00:00.000000Z", "ab" * 32
    bodies, hashes = seal_transfers(moved, ledger="main", source=source, actor=actor, time=time, seq=first, prev=prev)
    assert len(bodies) == len(hashes) == len(moved)
    for place, (key, payer, payee, asset, amount, before, version, before_payee, version_payee) in enumerate(moved):
        event = Event(
            type="transfer",
            ledger="main",
            seq=first + place,
            time=time,
            source=source,
            actor=actor,
            idem=key,
            entries=(
                Entry(payer, asset, "available", -amount, before, before - amount, version),
                Entry(payee, asset, "available", amount, before_payee, before_payee + amount, version_payee),
            ),
        )
        body, prev = seal(event, prev)
        assert (bodies[place], hashes[place]) == (body, prev)
