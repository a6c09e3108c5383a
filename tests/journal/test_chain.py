"""The chain: each event names the leaf hash of the one before, and the leaf hash is that of RFC 6962."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from tallystick.errors import LedgerCorrupt
from tallystick.events import Event
from tallystick.journal import check_link, decode_event, leaf_hash, seal
from tallystick.journal.chain import GENESIS

REFERENCE = json.loads((Path(__file__).parent.parent / "vectors" / "rfc6962" / "reference_roots.json").read_text())
LEAVES = list(
    zip(REFERENCE["leaf_inputs_hex"], REFERENCE["node_hashes_by_level"][0], strict=True),
)
EVENT = Event(type="asset_defined", ledger="main", seq=0, time="2026-01-01T00:00:00.000000Z", source="s", idem="k")


@pytest.mark.parametrize(("leaf", "hash_"), LEAVES)
def test_the_leaf_hash_is_that_of_rfc_6962(leaf: str, hash_: str):
    assert leaf_hash(bytes.fromhex(leaf)) == hash_


def test_the_root_of_one_leaf_is_its_leaf_hash_and_two_join_into_the_published_root():
    first, second = (bytes.fromhex(hash_) for _, hash_ in LEAVES[:2])
    assert REFERENCE["root_hash_by_size"][1] == first.hex()
    assert REFERENCE["root_hash_by_size"][2] == hashlib.sha256(b"\1" + first + second).hexdigest()


def test_a_leaf_is_never_taken_for_the_plain_hash_of_its_bytes():
    assert leaf_hash(b"") != hashlib.sha256(b"").hexdigest()


def test_sealing_puts_the_hash_before_into_the_bytes_and_returns_their_own():
    body, hash_ = seal(EVENT, GENESIS)
    assert decode_event(body) == msgspec.structs.replace(EVENT, prev=GENESIS)
    assert hash_ == leaf_hash(body)
    following, _ = seal(msgspec.structs.replace(EVENT, seq=1), hash_)
    assert decode_event(following).prev == hash_


def test_a_link_holds_for_the_right_place_behind_the_right_event_alone():
    event = msgspec.structs.replace(EVENT, seq=4, prev="ab" * 32)
    check_link(event, 4, "ab" * 32)
    with pytest.raises(LedgerCorrupt, match="is in its place"):
        check_link(event, 5, "ab" * 32)
    with pytest.raises(LedgerCorrupt, match="the event before is"):
        check_link(event, 4, "ac" * 32)


def test_one_altered_byte_anywhere_breaks_the_chain():
    body, hash_ = seal(msgspec.structs.replace(EVENT, data={"asset": "USD/2", "name": "Dollar"}), GENESIS)
    for place in range(len(body)):
        assert leaf_hash(body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]) != hash_
