"""Receipts (C2SP tlog-proof) and acceptances: what they prove, and everything that they must not prove."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.errors import NoteInvalid, ProofInvalid
from tallystick.events import GENESIS, MAX_EVENT_BYTES, Event
from tallystick.journal import leaf_hash, seal
from tallystick.journal.checkpoints import Checkpoint, cosign, sign_checkpoint, with_signatures
from tallystick.journal.dsse import Envelope, sign_envelope
from tallystick.journal.notes import COSIGNATURE, MAX_NOTE_BYTES, ML_DSA_44, SecretKey
from tallystick.journal.policies import Policy
from tallystick.journal.receipts import (
    ACCEPTANCE_TYPE,
    MAX_PROOF_HASHES,
    MAX_RECEIPT_BYTES,
    Acceptance,
    Receipt,
    check_acceptance,
    check_checkpoint,
    check_receipt,
    sign_acceptance,
)

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "c2sp-notes" / "notes.json").read_text())
(EXAMPLE,) = [vector["text"] for vector in VECTORS["checkpoint_examples"] if vector["spec"] == "tlog-proof.md"]
ORIGIN = "ledger.example/log"
KEY = SecretKey.from_seed(ORIGIN, bytes(range(32)))
NEXT_KEY = SecretKey.from_seed(ORIGIN, bytes(range(1, 33)))
OTHER_LOG = SecretKey.from_seed("other.example/log", bytes(range(2, 34)))
WITNESSES = [
    SecretKey.from_seed("w1.example", bytes(range(3, 35)), COSIGNATURE),
    SecretKey.from_seed("w2.example", bytes(range(4, 36)), ML_DSA_44),
]
KEYS = [KEY.verifier]
TIME = 1679315147


# ---------------------------------------------------------------- a log of its own, as plainly as can be


def model_hash(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + model_hash(leaves[:half]) + model_hash(leaves[half:])).digest()


def model_path(index: int, leaves: list[bytes]) -> tuple[bytes, ...]:
    if len(leaves) == 1:
        return ()
    half = 1 << (len(leaves) - 1).bit_length() - 1
    if index < half:
        return (*model_path(index, leaves[:half]), model_hash(leaves[half:]))
    return (*model_path(index - half, leaves[half:]), model_hash(leaves[:half]))


def chained(count: int, ledger: str = "main") -> list[bytes]:
    bodies, prev = [], GENESIS
    for seq in range(count):
        event = Event(
            type="asset_defined", ledger=ledger, seq=seq, time="2026-01-01T00:00:00.000000Z", source="s", idem=f"k{seq}"
        )
        body, prev = seal(event, prev)
        bodies.append(body)
    return bodies


def receipt_of(index: int, bodies: list[bytes], *keys: SecretKey, origin: str = ORIGIN) -> Receipt:
    checkpoint = sign_checkpoint(Checkpoint(origin, len(bodies), model_hash(bodies)), *(keys or (KEY,)))
    return Receipt(index, model_path(index, bodies), checkpoint, bodies[index])


BODIES = chained(7)
RECEIPT = receipt_of(3, BODIES)
DATA = RECEIPT.encode()


# ---------------------------------------------------------------- proving


def test_a_receipt_proves_its_event_its_place_and_its_ledger():
    verified = check_receipt(DATA, KEYS)
    assert verified.body == BODIES[3]
    assert verified.event.seq == verified.index == 3
    assert verified.ledger == "main"
    assert verified.checkpoint == Checkpoint(ORIGIN, 7, model_hash(BODIES))
    assert verified.witnesses == ()
    assert check_receipt(RECEIPT, KEYS, origin=ORIGIN) == verified


def test_every_event_of_logs_of_every_small_size_is_proven():
    for size in range(1, 18):
        bodies = chained(size)
        for index in range(size):
            assert check_receipt(receipt_of(index, bodies).encode(), KEYS).body == bodies[index]


def test_every_single_bit_flip_of_a_receipt_is_refused():
    for place in range(len(DATA) * 8):
        flipped = bytearray(DATA)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises((NoteInvalid, ProofInvalid)):
            check_receipt(bytes(flipped), KEYS)


def test_every_prefix_every_lost_and_every_doubled_byte_of_a_receipt_is_refused():
    for place in range(len(DATA)):
        for altered in (DATA[:place], DATA[:place] + DATA[place + 1 :], DATA[: place + 1] + DATA[place:]):
            with pytest.raises((NoteInvalid, ProofInvalid)):
                check_receipt(altered, KEYS)


def test_a_receipt_in_a_log_of_one_event_has_no_hashes():
    receipt = receipt_of(0, BODIES[:1])
    assert receipt.proof == ()
    assert check_receipt(receipt.encode(), KEYS).index == 0


@pytest.mark.parametrize("index", [0, 1, 2, 4, 5, 6, 7, 8, 2**62])
def test_an_event_is_proven_at_no_other_index(index: int):
    with pytest.raises(ProofInvalid):
        check_receipt(replace(RECEIPT, index=index), KEYS)


@pytest.mark.parametrize(
    "proof",
    [
        RECEIPT.proof[:-1],
        RECEIPT.proof[1:],
        (*RECEIPT.proof, bytes(32)),
        (bytes(32), *RECEIPT.proof),
        RECEIPT.proof[::-1],
        (),
    ],
    ids=["one less", "without the first", "one more", "one more before", "turned round", "none"],
)
def test_another_number_or_order_of_hashes_proves_nothing(proof: tuple[bytes, ...]):
    with pytest.raises(ProofInvalid):
        check_receipt(replace(RECEIPT, proof=proof), KEYS)


def test_another_event_is_not_proven():
    for extra in (BODIES[2], BODIES[3] + b" ", BODIES[3].replace(b"k3", b"k9")):
        with pytest.raises(ProofInvalid):
            check_receipt(replace(RECEIPT, extra=extra), KEYS)


def test_a_receipt_without_the_event_proves_nothing():
    with pytest.raises(ProofInvalid, match="does not have the event"):
        check_receipt(replace(RECEIPT, extra=b""), KEYS)


def test_an_inner_node_is_not_passed_off_as_an_event():
    left, right = (hashlib.sha256(b"\0" + body).digest() for body in BODIES[:2])
    checkpoint = sign_checkpoint(Checkpoint(ORIGIN, 1, model_hash(BODIES[:2])), KEY)
    with pytest.raises(ProofInvalid):
        check_receipt(Receipt(0, (), checkpoint, b"\1" + left + right), KEYS)


def test_an_event_that_is_in_the_log_under_another_number_is_refused():
    bodies = [BODIES[0], BODIES[2], BODIES[1]]
    with pytest.raises(ProofInvalid, match="event 2 is in the place of event 1"):
        check_receipt(receipt_of(1, bodies), KEYS)


NESTED = b'{"data":{"a":' + b"[" * 5000 + b"]" * 5000 + b'},"idem":"k","ledger":"m","prev":"x","seq":0,"source":"s"'
NOT_EVENTS = {
    "text": b"hello",
    "not UTF-8": b"\xff\xfe",
    "an empty object": b"{}",
    "white space": BODIES[0].replace(b'":', b'": ', 1),
    "a field more": BODIES[0][:-1] + b',"x":1}',
    "deep nesting": NESTED + b',"time":"t","type":"t","v":1}',
}


@pytest.mark.parametrize("body", NOT_EVENTS.values(), ids=NOT_EVENTS)
def test_what_is_in_the_log_but_no_event_in_canonical_form_is_refused(body: bytes):
    with pytest.raises(ProofInvalid, match="is not an event"):
        check_receipt(receipt_of(0, [body, BODIES[1]]), KEYS)


# ---------------------------------------------------------------- keys and origins


def test_the_checkpoint_must_be_signed_by_a_key_of_the_log():
    with pytest.raises(NoteInvalid, match="no known key of the log"):
        check_receipt(DATA, [NEXT_KEY.verifier])
    with pytest.raises(NoteInvalid, match="no known key of the log"):
        check_receipt(DATA)


def test_in_a_rotation_either_of_the_two_keys_is_enough():
    keys = [KEY.verifier, NEXT_KEY.verifier]
    for signers in ((KEY,), (NEXT_KEY,), (KEY, NEXT_KEY)):
        assert check_receipt(receipt_of(3, BODIES, *signers).encode(), keys).index == 3


def test_the_log_s_key_is_not_trusted_for_another_origin():
    with pytest.raises(NoteInvalid, match=r"not of other.example/log"):
        check_receipt(DATA, KEYS, origin="other.example/log")
    forged = receipt_of(3, BODIES, OTHER_LOG)
    with pytest.raises(NoteInvalid, match="which it may not"):
        check_receipt(forged, [KEY.verifier, OTHER_LOG.verifier])


# ---------------------------------------------------------------- policies


def policy_of(quorum: str, *logs: SecretKey) -> Policy:
    lines = [f"log {log.verifier}" for log in logs]
    lines += [f"witness W{number} {witness.verifier}" for number, witness in enumerate(WITNESSES, 1)]
    return Policy.parse("\n".join([*lines, "group both all W1 W2", f"quorum {quorum}", ""]))


def witnessed(*witnesses: SecretKey) -> Receipt:
    lines = [cosign(RECEIPT.checkpoint, witness, TIME) for witness in witnesses]
    return replace(RECEIPT, checkpoint=with_signatures(RECEIPT.checkpoint, lines))


def test_a_quorum_of_witnesses_is_needed_if_the_policy_says_so():
    policy = policy_of("both", KEY)
    verified = check_receipt(witnessed(*WITNESSES).encode(), policy=policy)
    assert verified.witnesses == tuple(witness.verifier for witness in WITNESSES)
    for too_few in ([], WITNESSES[:1], WITNESSES[1:]):
        with pytest.raises(NoteInvalid, match="not the policy's quorum"):
            check_receipt(witnessed(*too_few), policy=policy)
    assert check_receipt(witnessed(WITNESSES[0]), policy=policy_of("W1", KEY)).witnesses == (WITNESSES[0].verifier,)


def test_without_a_policy_cosignatures_are_not_counted():
    assert check_receipt(witnessed(*WITNESSES), KEYS).witnesses == ()


def test_every_bit_flip_of_a_checkpoint_with_its_quorum_is_refused():
    policy = policy_of("W1", KEY)
    data = witnessed(WITNESSES[0]).encode()
    for place in range(len(DATA) * 8, len(data) * 8):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises((NoteInvalid, ProofInvalid)):
            check_receipt(bytes(flipped), policy=policy)


def test_a_failing_cosignature_of_a_known_witness_is_refused_even_beyond_the_quorum():
    other = sign_checkpoint(Checkpoint(ORIGIN, 8, bytes(32)), KEY)
    spoiled = with_signatures(witnessed(WITNESSES[0]).checkpoint, [cosign(other, WITNESSES[1], TIME)])
    with pytest.raises(NoteInvalid, match=r"w2.example.* does not hold"):
        check_receipt(replace(RECEIPT, checkpoint=spoiled), policy=policy_of("W1", KEY))


def test_the_log_must_be_known_to_both_the_keys_and_the_policy():
    receipt = witnessed(WITNESSES[0])
    assert check_receipt(receipt, KEYS, policy=policy_of("W1")).index == 3
    assert check_receipt(receipt, KEYS, policy=policy_of("W1", KEY, OTHER_LOG)).index == 3
    for keys, logs in (((), ()), ((), (OTHER_LOG,)), (KEYS, (OTHER_LOG,)), ([OTHER_LOG.verifier], (KEY,))):
        with pytest.raises(NoteInvalid, match="no known key of the log"):
            check_receipt(receipt, keys, policy=policy_of("W1", *logs))


def test_a_policy_binds_each_log_to_the_origin_that_is_its_key_s_name():
    misnamed = receipt_of(3, BODIES, OTHER_LOG)
    assert check_receipt(misnamed, [OTHER_LOG.verifier], origin=ORIGIN, policy=policy_of("none")).index == 3
    for origin in ("", ORIGIN):
        with pytest.raises(NoteInvalid, match="which it may not"):
            check_receipt(misnamed, origin=origin, policy=policy_of("none", OTHER_LOG))
    with pytest.raises(NoteInvalid, match=r"not of other.example/log"):
        check_receipt(RECEIPT, origin="other.example/log", policy=policy_of("none", KEY))


def test_a_checkpoint_is_checked_by_itself_as_well():
    data = witnessed(*WITNESSES).checkpoint
    checkpoint, witnesses = check_checkpoint(data, policy=policy_of("both", KEY))
    assert checkpoint == Checkpoint(ORIGIN, 7, model_hash(BODIES))
    assert witnesses == tuple(witness.verifier for witness in WITNESSES)
    assert check_checkpoint(data, KEYS, origin=ORIGIN) == (checkpoint, ())
    with pytest.raises(NoteInvalid, match="not the policy's quorum"):
        check_checkpoint(RECEIPT.checkpoint, policy=policy_of("both", KEY))


# ---------------------------------------------------------------- the text


def test_a_receipt_is_written_as_the_specification_shows():
    assert Receipt(5, (bytes(32), bytes(range(32))), b"test checkpoint\n").encode() == (
        b"c2sp.org/tlog-proof@v1\nindex 5\n"
        b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
        b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n\ntest checkpoint\n"
    )
    assert Receipt(10, (bytes(32),), b"checkpoint data\n", b"extra information").encode() == (
        b"c2sp.org/tlog-proof@v1\nextra ZXh0cmEgaW5mb3JtYXRpb24=\nindex 10\n"
        b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\ncheckpoint data\n"
    )
    assert Receipt(0, (), b"checkpoint\n").encode() == b"c2sp.org/tlog-proof@v1\nindex 0\n\ncheckpoint\n"


def test_the_published_example_is_read_and_written_back():
    receipt = Receipt.parse(EXAMPLE.encode())
    assert receipt.extra.startswith(b"age-v1.2.1-darwin-arm64.tar.gz")
    assert receipt.index == 73894
    assert len(receipt.proof) == 5
    assert receipt.checkpoint.startswith(b"example.com/fancylog\n109482\n")
    assert receipt.encode() == EXAMPLE.encode()


def test_the_published_example_proves_nothing_for_its_signatures_are_elided():
    with pytest.raises(NoteInvalid):
        check_receipt(EXAMPLE.encode(), KEYS)


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        Receipt,
        index=st.integers(0, 2**63 - 2),
        proof=st.lists(st.binary(min_size=32, max_size=32), max_size=MAX_PROOF_HASHES).map(tuple),
        checkpoint=st.binary(min_size=1, max_size=80),
        extra=st.binary(max_size=80),
    )
)
def test_any_receipt_survives_its_text(receipt: Receipt):
    assert Receipt.parse(receipt.encode()) == receipt


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80), st.integers(0, len(DATA)))
def test_nothing_but_the_two_refusals_comes_of_any_bytes(data: bytes, place: int):
    for candidate in (data, b"c2sp.org/tlog-proof@v1\n" + data + b"\n\n", DATA[:place] + data + DATA[place:]):
        if candidate != DATA:
            with pytest.raises((NoteInvalid, ProofInvalid)):
                check_receipt(candidate, KEYS)


def with_lines(change) -> bytes:
    head, note = DATA.split(b"\n\n", 1)
    return b"\n".join(change(head.split(b"\n"))) + b"\n\n" + note


HASH = base64.b64encode(bytes(32))
MALFORMED = {
    "nothing": b"",
    "another version": DATA.replace(b"proof@v1", b"proof@v2"),
    "a space behind the header": DATA.replace(b"proof@v1", b"proof@v1 "),
    "a header alone": b"c2sp.org/tlog-proof@v1\n\n",
    "no header": DATA.split(b"\n", 1)[1],
    "carriage returns": DATA.replace(b"\n", b"\r\n"),
    "index before extra": with_lines(lambda lines: [lines[0], lines[2], lines[1], *lines[3:]]),
    "two extra lines": with_lines(lambda lines: [lines[0], lines[1], *lines[1:]]),
    "two index lines": with_lines(lambda lines: [*lines[:3], *lines[2:]]),
    "empty extra": with_lines(lambda lines: [lines[0], b"extra ", *lines[2:]]),
    "extra without a space": with_lines(lambda lines: [lines[0], b"extra", *lines[2:]]),
    "extra in capitals": DATA.replace(b"extra", b"Extra"),
    "extra that is not base64": with_lines(lambda lines: [lines[0], b"extra !!notbase64!!", *lines[2:]]),
    "no index": with_lines(lambda lines: [*lines[:2], *lines[3:]]),
    "a leading zero": DATA.replace(b"index 3", b"index 03"),
    "a negative index": DATA.replace(b"index 3", b"index -3"),
    "a signed index": DATA.replace(b"index 3", b"index +3"),
    "a word for an index": DATA.replace(b"index 3", b"index three"),
    "an empty index": DATA.replace(b"index 3", b"index "),
    "a space behind the index": DATA.replace(b"index 3", b"index 3 "),
    "digits of another script": DATA.replace(b"index 3", "index \u0663".encode()),
    "an index of 64 bits": DATA.replace(b"index 3", b"index %d" % 2**63),
    "a hash of 31 bytes": with_lines(lambda lines: [*lines, base64.b64encode(bytes(31))]),
    "a hash of 64 bytes": with_lines(lambda lines: [*lines, base64.b64encode(bytes(64))]),
    "a hash without padding": with_lines(lambda lines: [*lines, HASH.rstrip(b"=")]),
    "a hash of another spelling": with_lines(lambda lines: [*lines, HASH[:-2] + b"B="]),
    "a hash in hex": with_lines(lambda lines: [*lines, b"00" * 32]),
    "a comment": with_lines(lambda lines: [*lines, b"# hello"]),
    "too many hashes": with_lines(lambda lines: [*lines[:3], *[HASH] * (MAX_PROOF_HASHES + 1)]),
    "no checkpoint": DATA.split(b"\n\n", 1)[0] + b"\n\n",
    "no empty line": DATA.replace(b"\n\n", b"\n"),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed_receipts_are_refused(data: bytes):
    assert data != DATA
    with pytest.raises(NoteInvalid):
        Receipt.parse(data)


def test_sizes_have_limits():
    assert Receipt.parse(Receipt(0, (), b"c" * MAX_NOTE_BYTES, b"e" * MAX_EVENT_BYTES).encode()).index == 0
    assert len(Receipt(2**62, (bytes(32),) * 63, b"c" * MAX_NOTE_BYTES, b"e" * 65_535).encode()) <= MAX_RECEIPT_BYTES
    for make in (
        lambda: Receipt(0, (), b"c", b"e" * (MAX_EVENT_BYTES + 1)),
        lambda: Receipt(0, (), b"c" * (MAX_NOTE_BYTES + 1)),
        lambda: Receipt(0, (), b""),
        lambda: Receipt(0, (bytes(32),) * (MAX_PROOF_HASHES + 1), b"c"),
        lambda: Receipt(0, (bytes(31),), b"c"),
        lambda: Receipt(-1, (), b"c"),
        lambda: Receipt(2**63 - 1, (), b"c"),
        lambda: Receipt.parse(DATA + b"\n" * MAX_RECEIPT_BYTES),
    ):
        with pytest.raises(NoteInvalid):
            make()


# ---------------------------------------------------------------- acceptances

ACCEPTANCE = Acceptance(
    origin=ORIGIN,
    seq=3,
    event_hash=leaf_hash(BODIES[3]),
    prev=leaf_hash(BODIES[2]),
    time="2026-01-01T00:00:00.000000Z",
    promise_by="2026-01-01T00:01:00.000000Z",
)


def test_an_acceptance_is_signed_canonical_and_read_back():
    data = sign_acceptance(ACCEPTANCE, KEY)
    assert check_acceptance(data, KEYS) == ACCEPTANCE
    envelope = Envelope.parse(data)
    assert envelope.payload_type == ACCEPTANCE_TYPE == "application/vnd.tallystick.acceptance.v1+json"
    assert list(json.loads(envelope.payload)) == ["event_hash", "origin", "prev", "promise_by", "seq", "time"]
    assert json.loads(envelope.payload)["seq"] == 3


def test_an_acceptance_names_the_event_that_a_receipt_later_proves():
    accepted = check_acceptance(sign_acceptance(ACCEPTANCE, KEY), KEYS)
    verified = check_receipt(RECEIPT, KEYS)
    assert (accepted.origin, accepted.seq) == (verified.checkpoint.origin, verified.index)
    assert accepted.event_hash == leaf_hash(verified.body)
    assert accepted.prev == verified.event.prev


def test_an_acceptance_of_any_other_signer_is_refused():
    with pytest.raises(NoteInvalid, match="no known key signed"):
        check_acceptance(sign_acceptance(ACCEPTANCE, NEXT_KEY), KEYS)
    with pytest.raises(NoteInvalid, match="which it may not"):
        check_acceptance(sign_acceptance(ACCEPTANCE, OTHER_LOG), [*KEYS, OTHER_LOG.verifier])
    assert check_acceptance(sign_acceptance(ACCEPTANCE, OTHER_LOG), [OTHER_LOG.verifier], origin=ORIGIN)
    with pytest.raises(NoteInvalid, match=r"not by other.example/log"):
        check_acceptance(sign_acceptance(ACCEPTANCE, KEY), KEYS, origin="other.example/log")
    assert check_acceptance(sign_acceptance(ACCEPTANCE, NEXT_KEY), [*KEYS, NEXT_KEY.verifier]) == ACCEPTANCE


def test_every_bit_flip_of_the_accepted_payload_or_its_signature_is_refused():
    envelope = Envelope.parse(sign_acceptance(ACCEPTANCE, KEY))
    (line,) = envelope.signatures
    for place in range(len(envelope.payload) * 8):
        flipped = bytearray(envelope.payload)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(NoteInvalid):
            check_acceptance(replace(envelope, payload=bytes(flipped)).encode(), KEYS)
    for place in range(len(line.signature) * 8):
        flipped = bytearray(line.signature)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(NoteInvalid):
            check_acceptance(replace(envelope, signatures=(replace(line, signature=bytes(flipped)),)).encode(), KEYS)


def test_a_signed_payload_of_another_type_is_no_acceptance():
    other = sign_envelope("application/json", ACCEPTANCE.encode(), KEY)
    with pytest.raises(NoteInvalid, match="holds 'application/json'"):
        check_acceptance(other, KEYS)


def test_only_an_ed25519_key_signs_acceptances():
    for witness in WITNESSES:
        with pytest.raises(NoteInvalid, match="does not sign envelopes"):
            sign_acceptance(ACCEPTANCE, witness)


GOOD = ACCEPTANCE.encode()
NOT_ACCEPTANCES = {
    "white space": GOOD.replace(b":", b": ", 1),
    "a field more": GOOD.replace(b'"seq":3', b'"seq":3,"tick":1'),
    "a field less": GOOD.replace(b'"seq":3,', b""),
    "a field twice": GOOD.replace(b'"seq":3', b'"seq":3,"seq":3'),
    "a number in quotes": GOOD.replace(b'"seq":3', b'"seq":"3"'),
    "a number with a point": GOOD.replace(b'"seq":3', b'"seq":3.0'),
    "a truth for a number": GOOD.replace(b'"seq":3', b'"seq":true'),
    "a number for a text": GOOD.replace(b'"origin":"ledger.example/log"', b'"origin":1'),
    "null": GOOD.replace(b'"origin":"ledger.example/log"', b'"origin":null'),
    "a list": b"[]",
    "nothing": b"",
    "not UTF-8": b"\xff",
}


@pytest.mark.parametrize("payload", NOT_ACCEPTANCES.values(), ids=NOT_ACCEPTANCES)
def test_a_signed_payload_in_any_other_form_is_refused(payload: bytes):
    assert payload != GOOD
    with pytest.raises(NoteInvalid):
        check_acceptance(sign_envelope(ACCEPTANCE_TYPE, payload, KEY), KEYS)


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": ""},
        {"origin": "a\nb"},
        {"origin": "\udc80"},
        {"seq": -1},
        {"seq": 2**53},
        {"seq": True},
        {"event_hash": "AB" * 32},
        {"event_hash": "ab" * 31},
        {"prev": "ab" * 32 + "\n"},
        {"time": "2026-01-01"},
        {"time": "2026-01-01T00:00:00Z"},
        {"time": "2026-02-30T00:00:00.000000Z"},
        {"promise_by": "2025-12-31T23:59:59.999999Z"},
        {"promise_by": "2026-01-01T24:00:00.000000Z"},
        {"promise_by": ""},
    ],
    ids=str,
)
def test_an_acceptance_that_says_nothing_sensible_is_not_made(changes: dict):
    with pytest.raises(NoteInvalid):
        replace(ACCEPTANCE, **changes)


def test_an_event_of_another_ledger_is_told_by_the_ledger_that_is_returned():
    bodies = chained(3, "branch")
    assert check_receipt(receipt_of(1, bodies), KEYS).ledger == "branch"
    assert msgspec.json.decode(bodies[1])["ledger"] == "branch"
