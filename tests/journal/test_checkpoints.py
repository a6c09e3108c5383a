"""Checkpoints and cosignatures, to the letter of C2SP tlog-checkpoint and tlog-cosignature."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.errors import NoteInvalid
from tallystick.journal.checkpoints import (
    Checkpoint,
    cosign,
    cosignature_time,
    open_checkpoint,
    sign_checkpoint,
    with_signatures,
)
from tallystick.journal.notes import (
    COSIGNATURE,
    ML_DSA_44,
    Note,
    NoteSignature,
    SecretKey,
    VerifierKey,
    cosigned_message,
    open_note,
    signers_of,
)

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "c2sp-notes" / "notes.json").read_text())
EXAMPLES = {vector["spec"]: vector["text"] for vector in VECTORS["checkpoint_examples"]}
ORIGIN = "ledger.example/log"
CHECKPOINT = Checkpoint(ORIGIN, 20852163, bytes(range(32)))
KEY = SecretKey.from_seed(ORIGIN, bytes(range(32)))
NEXT_KEY = SecretKey.from_seed(ORIGIN, bytes(range(1, 33)))
OTHER_LOG = SecretKey.from_seed("other.example/log", bytes(range(2, 34)))
WITNESS = SecretKey.from_seed("witness.example/w1", bytes(range(3, 35)), COSIGNATURE)
QUANTUM_WITNESS = SecretKey.from_seed("witness.example/w2", bytes(range(4, 36)), ML_DSA_44)
QUANTUM_KEY = SecretKey.from_seed(ORIGIN, bytes(range(5, 37)), ML_DSA_44)
NOTE = sign_checkpoint(CHECKPOINT, KEY)
KEYS = [KEY.verifier]
TIME = 1679315147


def note_of(text: str, *keys: SecretKey) -> bytes:
    return Note(text, tuple(key.sign_note(text) for key in keys)).encode()


# ---------------------------------------------------------------- the text


def test_the_published_checkpoints_are_read_and_written_back():
    for name in ("tlog-checkpoint.md", "tlog-cosignature.md"):
        note = Note.parse(EXAMPLES[name].encode())
        checkpoint = Checkpoint.parse(note.text)
        assert checkpoint.origin == "example.com/behind-the-sofa"
        assert checkpoint.size == 20852163
        assert base64.b64encode(checkpoint.root) == b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
        assert checkpoint.text == note.text
        assert note.encode() == EXAMPLES[name].encode()


def test_the_published_cosignature_bears_its_time():
    log, witness = Note.parse(EXAMPLES["tlog-cosignature.md"].encode()).signatures
    assert cosignature_time(witness) == 1679315147
    with pytest.raises(NoteInvalid, match="bears no time"):
        cosignature_time(log)


def test_a_checkpoint_is_three_lines():
    assert CHECKPOINT.text == f"{ORIGIN}\n20852163\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"


@settings(max_examples=80, deadline=None)
@given(
    st.builds(
        Checkpoint,
        origin=st.text(st.characters(min_codepoint=0x20, exclude_categories=("Cs",)), min_size=1, max_size=30),
        size=st.integers(0, 2**63 - 1),
        root=st.binary(min_size=32, max_size=32),
        extensions=st.lists(st.sampled_from(["x", "a b", "ü", "\u2028"]), max_size=3).map(tuple),
    )
)
def test_any_checkpoint_survives_its_text_and_its_note(checkpoint: Checkpoint):
    assert Checkpoint.parse(checkpoint.text) == checkpoint
    opened, note = open_checkpoint(sign_checkpoint(checkpoint, KEY), KEYS, checkpoint.origin)
    assert opened == checkpoint
    assert note.text == checkpoint.text


ROOT = base64.b64encode(bytes(range(32))).decode()
MALFORMED = {
    "nothing": "",
    "one line": "o\n",
    "two lines": "o\n1\n",
    "no last newline": f"o\n1\n{ROOT}",
    "no origin": f"\n1\n{ROOT}\n",
    "no size": f"o\n\n{ROOT}\n",
    "a leading zero": f"o\n01\n{ROOT}\n",
    "two zeros": f"o\n00\n{ROOT}\n",
    "a negative size": f"o\n-1\n{ROOT}\n",
    "a plus": f"o\n+1\n{ROOT}\n",
    "a fraction": f"o\n1.0\n{ROOT}\n",
    "an underscore": f"o\n1_0\n{ROOT}\n",
    "a space before": f"o\n 1\n{ROOT}\n",
    "a space behind": f"o\n1 \n{ROOT}\n",
    "digits of another script": f"o\n\u0661\n{ROOT}\n",
    "a size of 64 bits": f"o\n{2**63}\n{ROOT}\n",
    "an enormous size": f"o\n{'9' * 5000}\n{ROOT}\n",
    "a root in hex": f"o\n1\n{'00' * 32}\n",
    "a root of 31 bytes": f"o\n1\n{base64.b64encode(bytes(31)).decode()}\n",
    "a root of 33 bytes": f"o\n1\n{base64.b64encode(bytes(33)).decode()}\n",
    "a root without padding": f"o\n1\n{ROOT[:-1]}\n",
    "a root of another spelling": f"o\n1\n{ROOT[:-2]}9=\n",
    "a root in URL-safe base64": f"o\n1\n{base64.urlsafe_b64encode(bytes([255] * 32)).decode()}\n",
    "an empty extension line": f"o\n1\n{ROOT}\n\n",
    "an empty line between extension lines": f"o\n1\n{ROOT}\na\n\nb\n",
    "a carriage return": f"o\r\n1\r\n{ROOT}\r\n",
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_malformed_checkpoints_are_refused(text: str):
    with pytest.raises(NoteInvalid):
        Checkpoint.parse(text)


@pytest.mark.parametrize(
    "fields",
    [
        ("", 1, bytes(32)),
        ("a\nb", 1, bytes(32)),
        ("\udc80", 1, bytes(32)),
        ("o", -1, bytes(32)),
        ("o", 2**63, bytes(32)),
        ("o", 1, bytes(31)),
        ("o", 1, bytes(32), ("",)),
        ("o", 1, bytes(32), ("a\nb",)),
    ],
)
def test_a_checkpoint_that_could_not_be_read_back_is_not_made(fields: tuple):
    with pytest.raises(NoteInvalid):
        Checkpoint(*fields)


def test_size_zero_and_extension_lines_are_read():
    text = f"o\n0\n{ROOT}\nfirst\nsecond\n"
    assert Checkpoint.parse(text) == Checkpoint("o", 0, bytes(range(32)), ("first", "second"))


# ---------------------------------------------------------------- opening


def test_a_signed_checkpoint_opens_with_the_log_s_key():
    assert open_checkpoint(NOTE, KEYS)[0] == CHECKPOINT
    assert open_checkpoint(NOTE, KEYS, ORIGIN)[0] == CHECKPOINT


def test_every_single_bit_flip_of_a_signed_checkpoint_is_refused():
    for place in range(len(NOTE) * 8):
        flipped = bytearray(NOTE)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(NoteInvalid):
            open_checkpoint(bytes(flipped), KEYS)


def test_a_checkpoint_of_another_log_is_refused():
    with pytest.raises(NoteInvalid, match=r"not of other.example/log"):
        open_checkpoint(NOTE, KEYS, "other.example/log")


def test_the_key_of_one_log_does_not_speak_for_another():
    forged = sign_checkpoint(CHECKPOINT, OTHER_LOG)
    with pytest.raises(NoteInvalid, match="which it may not"):
        open_checkpoint(forged, [KEY.verifier, OTHER_LOG.verifier])
    assert open_checkpoint(forged, [OTHER_LOG.verifier], ORIGIN)[0] == CHECKPOINT


def test_in_a_rotation_both_keys_are_known_and_either_or_both_may_sign():
    keys = [KEY.verifier, NEXT_KEY.verifier]
    for signers in ((KEY,), (NEXT_KEY,), (KEY, NEXT_KEY)):
        assert open_checkpoint(sign_checkpoint(CHECKPOINT, *signers), keys)[0] == CHECKPOINT
    with pytest.raises(NoteInvalid, match="no known key of the log signed it"):
        open_checkpoint(sign_checkpoint(CHECKPOINT, NEXT_KEY), [KEY.verifier])


def test_a_witness_alone_is_not_the_log():
    alone = Note(CHECKPOINT.text, (cosign(NOTE, WITNESS, TIME),)).encode()
    with pytest.raises(NoteInvalid, match="no known key of the log signed it"):
        open_checkpoint(alone, KEYS, witnesses=[WITNESS.verifier])


def test_a_failing_cosignature_of_a_known_witness_spoils_the_checkpoint():
    wrong = cosign(sign_checkpoint(Checkpoint(ORIGIN, 1, bytes(32)), KEY), WITNESS, TIME)
    data = with_signatures(NOTE, [wrong])
    assert open_checkpoint(data, KEYS)[0] == CHECKPOINT
    with pytest.raises(NoteInvalid, match=r"witness.example/w1.* does not hold"):
        open_checkpoint(data, KEYS, witnesses=[WITNESS.verifier])


def test_a_signed_note_that_is_no_checkpoint_is_refused():
    with pytest.raises(NoteInvalid, match="at least three lines"):
        open_checkpoint(note_of("hello\n", KEY), KEYS)


# ---------------------------------------------------------------- cosignatures


def test_an_ed25519_cosignature_signs_the_header_the_time_and_the_text():
    line = cosign(NOTE, WITNESS, TIME)
    assert line.signature[:8] == TIME.to_bytes(8, "big")
    message = f"cosignature/v1\ntime {TIME}\n{CHECKPOINT.text}".encode()
    Ed25519PublicKey.from_public_bytes(WITNESS.verifier.key).verify(line.signature[8:], message)
    assert cosignature_time(line) == TIME


def test_an_ml_dsa_cosignature_signs_the_published_structure():
    line = cosign(NOTE, QUANTUM_WITNESS, TIME)
    message = (
        b"subtree/v1\n\0"
        + bytes([len(b"witness.example/w2")])
        + b"witness.example/w2"
        + TIME.to_bytes(8, "big")
        + bytes([len(ORIGIN)])
        + ORIGIN.encode()
        + bytes(8)
        + (20852163).to_bytes(8, "big")
        + bytes(range(32))
    )
    assert len(line.signature) == 8 + 2420
    MLDSA44PublicKey.from_public_bytes(QUANTUM_WITNESS.verifier.key).verify(line.signature[8:], message)
    assert cosignature_time(line) == TIME


@pytest.mark.parametrize("witness", [WITNESS, QUANTUM_WITNESS], ids=["Ed25519", "ML-DSA-44"])
def test_a_cosignature_holds_for_its_time_its_checkpoint_and_its_key_alone(witness: SecretKey):
    line = cosign(NOTE, witness, TIME)
    data = with_signatures(NOTE, [line])
    checkpoint, note = open_checkpoint(data, KEYS, witnesses=[witness.verifier])
    assert checkpoint == CHECKPOINT
    assert signers_of(note, [witness.verifier]) == (witness.verifier,)

    later = NoteSignature(line.name, line.key_id, (TIME + 1).to_bytes(8, "big") + line.signature[8:])
    grown = sign_checkpoint(Checkpoint(ORIGIN, CHECKPOINT.size + 1, CHECKPOINT.root), KEY)
    for altered in (with_signatures(NOTE, [later]), with_signatures(grown, [line])):
        with pytest.raises(NoteInvalid, match="does not hold"):
            signers_of(Note.parse(altered), [witness.verifier])


@pytest.mark.parametrize("witness", [WITNESS, QUANTUM_WITNESS], ids=["Ed25519", "ML-DSA-44"])
def test_bit_flips_of_a_cosigned_checkpoint_are_refused_by_who_asks_for_the_witness(witness: SecretKey):
    data = Note(CHECKPOINT.text, (cosign(NOTE, witness, TIME),)).encode()
    stride = 1 if witness is WITNESS else 29
    for place in range(0, len(data) * 8, stride):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(NoteInvalid):
            open_note(bytes(flipped), [witness.verifier])


def test_a_plain_key_s_signature_is_not_a_cosignature_though_the_key_is_the_same():
    timed = VerifierKey(KEY.name, COSIGNATURE, KEY.verifier.key)
    right = KEY.sign_note(CHECKPOINT.text)
    dressed = NoteSignature(right.name, timed.id, bytes(8) + right.signature)
    with pytest.raises(NoteInvalid, match="does not hold"):
        open_note(Note(CHECKPOINT.text, (dressed,)).encode(), [timed])


@pytest.mark.parametrize("time_seconds", [-1, 0, 2**63])
def test_a_time_that_is_none_is_not_signed(time_seconds: int):
    with pytest.raises(NoteInvalid, match="is no time for a cosignature"):
        cosign(NOTE, WITNESS, time_seconds)


def test_the_latest_time_is_signed_and_one_beyond_is_refused_though_rightly_signed():
    for witness in (WITNESS, QUANTUM_WITNESS):
        key = witness.verifier
        assert cosignature_time(cosign(NOTE, witness, 2**63 - 1)) == 2**63 - 1
        raw = witness.sign(cosigned_message(key, CHECKPOINT.text, 2**63))
        beyond = NoteSignature(key.name, key.id, (2**63).to_bytes(8, "big") + raw)
        with pytest.raises(NoteInvalid, match="beyond"):
            cosignature_time(beyond)
        with pytest.raises(NoteInvalid, match="does not hold"):
            open_note(Note(CHECKPOINT.text, (beyond,)).encode(), [key])


def test_a_plain_key_does_not_cosign():
    with pytest.raises(NoteInvalid, match="does not make cosignatures"):
        cosign(NOTE, KEY, TIME)


@pytest.mark.parametrize("witness", [WITNESS, QUANTUM_WITNESS], ids=["Ed25519", "ML-DSA-44"])
def test_only_a_checkpoint_is_cosigned(witness: SecretKey):
    with pytest.raises(NoteInvalid, match="at least three lines"):
        cosign(note_of("hello\n", KEY), witness, TIME)


def test_ml_dsa_does_not_cover_extension_lines_so_neither_makes_nor_verifies_any():
    extended = note_of(CHECKPOINT.text + "an extension\n", KEY)
    assert cosignature_time(cosign(extended, WITNESS, TIME)) == TIME
    with pytest.raises(NoteInvalid, match="does not cover extension lines"):
        cosign(extended, QUANTUM_WITNESS, TIME)
    smuggled = with_signatures(extended, [cosign(NOTE, QUANTUM_WITNESS, TIME)])
    with pytest.raises(NoteInvalid, match="does not cover extension lines"):
        open_checkpoint(smuggled, KEYS, witnesses=[QUANTUM_WITNESS.verifier])


def test_names_and_origins_longer_than_ml_dsa_s_structure_are_refused():
    longest = Checkpoint("o" * 255, 1, bytes(32))
    assert cosign(sign_checkpoint(longest, KEY), QUANTUM_WITNESS, TIME)
    with pytest.raises(NoteInvalid, match="allows 255"):
        cosign(sign_checkpoint(Checkpoint("o" * 256, 1, bytes(32)), KEY), QUANTUM_WITNESS, TIME)
    with pytest.raises(NoteInvalid, match="allows 255"):
        cosign(NOTE, SecretKey.from_seed("ü" * 128, bytes(32), ML_DSA_44), TIME)


def test_a_log_may_sign_with_ed25519_and_ml_dsa_and_either_key_opens_it():
    data = sign_checkpoint(CHECKPOINT, KEY, QUANTUM_KEY)
    for keys in ([KEY.verifier], [QUANTUM_KEY.verifier], [KEY.verifier, QUANTUM_KEY.verifier]):
        assert open_checkpoint(data, keys)[0] == CHECKPOINT
    assert [cosignature_time(line) for line in Note.parse(data).signatures[1:]] == [0]
    timed = sign_checkpoint(CHECKPOINT, QUANTUM_KEY, time_seconds=TIME)
    assert cosignature_time(Note.parse(timed).signatures[0]) == TIME


# ---------------------------------------------------------------- adding signatures


def test_added_signatures_stand_behind_and_replace_those_of_the_same_key():
    first, second = cosign(NOTE, WITNESS, TIME), cosign(NOTE, WITNESS, TIME + 60)
    other = cosign(NOTE, QUANTUM_WITNESS, TIME)
    log = Note.parse(NOTE).signatures[0]
    data = with_signatures(NOTE, [first, other])
    assert Note.parse(data).signatures == (log, first, other)
    assert Note.parse(with_signatures(data, [second])).signatures == (log, other, second)
    assert with_signatures(data, []) == data
    assert with_signatures(data, [first, other]) == data


def test_more_signatures_than_a_note_may_have_are_not_added():
    strangers = [NoteSignature(f"w{number}", bytes(4), b"x") for number in range(100)]
    assert len(Note.parse(with_signatures(NOTE, strangers[:99])).signatures) == 100
    with pytest.raises(NoteInvalid):
        with_signatures(NOTE, strangers)


@pytest.mark.parametrize("use", [lambda data: cosign(data, WITNESS, TIME), lambda data: with_signatures(data, [])])
def test_what_is_no_note_is_neither_cosigned_nor_added_to(use):
    with pytest.raises(NoteInvalid):
        use(CHECKPOINT.text.encode())
