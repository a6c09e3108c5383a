"""The verifier's own cryptography and formats, held against those of others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tallystick import errors, verify
from tallystick.journal import decode_strict, merkle, notes, policies
from tallystick.journal.tiles import Bundle, Tile
from tests.verify.bundles import VKEY, leaves_of, receipt_of

ORDER = 2**252 + 27742317777372353535851937790883648493


def accepted(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def test_the_vectors_of_rfc_8032_verify():
    for key, message, signature in (
        (
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ):  # fmt: skip
        assert verify.check_ed25519(bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature))


@settings(max_examples=25, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=80), st.integers(0, 511), st.integers(0, 255))
def test_a_signature_verifies_and_no_bit_of_it_or_its_key_can_change(seed: bytes, message: bytes, bit: int, other: int):
    private = Ed25519PrivateKey.from_private_bytes(seed)
    key, signature = private.public_key().public_bytes_raw(), private.sign(message)
    assert verify.check_ed25519(key, message, signature)
    flipped = bytearray(signature)
    flipped[bit // 8] ^= 1 << bit % 8
    assert not verify.check_ed25519(key, message, bytes(flipped))
    changed = bytearray(key)
    changed[other // 8] ^= 1 << other % 8
    assert not verify.check_ed25519(bytes(changed), message, signature)
    assert not verify.check_ed25519(key, message + b"x", signature)


def test_a_signature_with_a_scalar_beyond_the_order_is_refused():
    private = Ed25519PrivateKey.from_private_bytes(b"\7" * 32)
    key, signature = private.public_key().public_bytes_raw(), private.sign(b"m")
    scalar = int.from_bytes(signature[32:], "little") + ORDER
    assert not verify.check_ed25519(key, b"m", signature[:32] + scalar.to_bytes(32, "little"))


@pytest.mark.parametrize("key", [b"\1" + bytes(31), bytes(32), b"\xec" + b"\xff" * 30 + b"\x7f", b"\xff" * 32])
def test_keys_of_small_order_and_keys_that_are_no_point_are_refused(key: bytes):
    assert not verify.check_ed25519(key, b"m", b"\1" + bytes(63))


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64))
def test_random_keys_and_signatures_are_judged_as_by_another_implementation(key: bytes, signature: bytes):
    assert verify.check_ed25519(key, b"m", signature) == accepted(key, b"m", signature)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 9, 255, 256, 257, 519])
def test_roots_and_proofs_are_those_of_the_ledger(size: int):
    leaves = leaves_of(bytes([n % 256, n // 256]) for n in range(size))
    peaks = verify.Peaks()
    for leaf in leaves:
        peaks.add(leaf)
    assert peaks.root() == verify.Peaks().root_with(leaves) == merkle.root_of(leaves)

    def read(nodes: list[tuple[int, int]]) -> list[bytes]:
        return [merkle.root_of(leaves[index << level : (index + 1) << level]) for level, index in nodes]

    for index in {0, 1, size // 2, size - 1} & set(range(size)):
        proof = merkle.inclusion_proof(index, size, read)
        assert verify.root_from_proof(index, size, leaves[index], proof) == peaks.root()
        for wrong in (proof[:-1], [*proof, bytes(32)]):
            if wrong != proof:
                with pytest.raises(verify.Bad):
                    verify.root_from_proof(index, size, leaves[index], wrong)
    with pytest.raises(verify.Bad):
        verify.root_from_proof(size, size, bytes(32), [])


@given(st.integers(0, 2**40), st.integers(1, 256), st.integers(0, 7))
@example(1_234_067, 256, 0)
@example(999, 1, 1)
@example(1_000, 255, 2)
def test_paths_are_those_of_the_tiled_log(number: int, width: int, level: int):
    assert verify.path_of(f"tile/{level}", number, width) == Tile(level, number, width).path
    assert verify.path_of("tile/entries", number, width) == Bundle(number, width).path


# ---------------------------------------------------------------- canonical bytes

_TEXT = st.text(max_size=6)
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**54), 2**54), st.floats(), _TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_TEXT, inner, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_an_event_is_canonical_here_if_and_only_if_it_is_for_the_ledger(data: st.DataObject):
    event = json.loads(data.draw(st.sampled_from(EVENTS)))
    if data.draw(st.booleans()):
        event["data"] = data.draw(st.dictionaries(_TEXT, _JSON, min_size=1, max_size=3))
    separators = data.draw(st.sampled_from([(",", ":")] * 5 + [(", ", ":")]))
    ascii_, sort = data.draw(st.sampled_from([(False, True)] * 4 + [(True, True), (False, False)]))
    try:
        body = json.dumps(event, sort_keys=sort, separators=separators, ensure_ascii=ascii_).encode()
    except UnicodeEncodeError:
        return
    try:
        decode_strict(body)
        right = True
    except errors.LedgerCorrupt:
        right = False
    try:
        parsed, found = verify.parse_event(body)
        found += verify.check_fields(parsed)
    except verify.Bad:
        found = [verify.Failure("no event")]
    assert (not found) == right, (body, found)


EVENTS = [
    line.decode()
    for line in (Path(__file__).parents[1] / "vectors/profile1/journal.jsonl").read_bytes().split(b"\n")
    if line
]


@given(st.text(max_size=40))
@example("did:key:z6Mk%41")
@example("did:key:")
@example("@clearing:")
@example("@issuance")
@example("a:b\n")
@example("users:" + "a" * 250)
def test_addresses_and_times_are_those_of_the_ledger(text: str):
    from tallystick.accounts import check_address  # noqa: PLC0415
    from tallystick.clock import _TIME  # noqa: PLC0415

    try:
        check_address(text)
        right = True
    except errors.InvalidInput:
        right = False
    assert verify.is_address(text) == right
    assert verify.is_time(text) <= (_TIME.match(text) is not None)


# ---------------------------------------------------------------- keys, policies, receipts


@pytest.mark.parametrize(
    "text", ["", "+", "a+b", "a+00000000+AQ==", VKEY + "x", VKEY.upper(), VKEY.replace("+", " +", 1), "a+b+c+d", "é"]
)
def test_what_is_no_key_is_refused(text: str):
    with pytest.raises(verify.Bad):
        verify.parse_key(text)
    with pytest.raises(errors.NoteInvalid):
        notes.VerifierKey.parse(text)


W = [str(notes.SecretKey.from_seed(f"w{n}", bytes([n]) * 32, notes.COSIGNATURE).verifier) for n in range(3)]


@pytest.mark.parametrize(
    "text",
    [
        "quorum none",
        f"log {VKEY}\nquorum none",
        f"log {VKEY} https://x\nwitness a {W[0]}\nquorum a",
        f"# hello\n\n\twitness a {W[0]} https://w\nwitness b {W[1]}\ngroup g 2 a b\nquorum g",
        f"witness a {W[0]}\nwitness b {W[1]}\nwitness c {W[2]}\ngroup g any a b\ngroup h all g c\nquorum h",
    ],
)
def test_policies_that_are_right_are_read_as_by_the_ledger(text: str):
    text += "\n"
    ours, theirs = verify.parse_policy(text.encode()), policies.Policy.parse(text.encode())
    keys = [verify.parse_key(key) for key in W]
    for chosen in range(8):
        some = {key for number, key in enumerate(keys) if chosen >> number & 1}
        same = [key for number, key in enumerate(W) if chosen >> number & 1]
        wanted = theirs.satisfied_by([notes.VerifierKey.parse(key) for key in same])
        known = {key for key in some if key in ours.witnesses.values()}
        assert ours.holds(known) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "quorum a",
        "quorum none\nquorum none",
        f"witness none {W[0]}\nquorum none",
        f"witness a {W[0]}\nwitness b {W[0]}\nquorum a",
        f"witness a {W[0]}\nwitness a {W[1]}\nquorum a",
        f"witness a {W[0]}\ngroup g 2 a\nquorum g",
        f"witness a {W[0]}\ngroup g 0 a\nquorum g",
        f"witness a {W[0]}\ngroup g 01 a\nquorum g",
        f"witness a {W[0]}\ngroup g any a\ngroup h any a\nquorum h",
        f"group g any a\nwitness a {W[0]}\nquorum g",
        f"log {VKEY}\nlog {VKEY}\nquorum none",
        "quorum none\rx",
        "hello\nquorum none",
        "log\nquorum none",
    ],
)
def test_policies_that_are_wrong_are_refused(text: str):
    for whole in (text, f"{text}\n"):
        with pytest.raises(verify.Bad):
            verify.parse_policy(whole.encode())
        with pytest.raises(errors.NoteInvalid):
            policies.Policy.parse(whole.encode())


def test_a_receipt_without_the_event_is_refused(trade: list[bytes]):
    lines = receipt_of(trade, 3).split(b"\n")
    with pytest.raises(verify.Bad):
        verify.parse_receipt(b"\n".join([lines[0], *lines[2:]]))
    assert verify.parse_receipt(b"\n".join(lines)).body == trade[3]
