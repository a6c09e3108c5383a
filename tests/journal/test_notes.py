"""Signed notes, to the letter of C2SP signed-note, and refusing whatever Go's note package refuses."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.errors import NoteInvalid
from tallystick.journal.notes import (
    COSIGNATURE,
    ED25519,
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    ML_DSA_44,
    Note,
    NoteSignature,
    SecretKey,
    VerifierKey,
    open_note,
    sign_note,
    signers_of,
)

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "c2sp-notes" / "notes.json").read_text())
JUDGED = [vector for vector in VECTORS["note_vectors"] if vector["valid"] is not None]
SIGNER = VECTORS["other"]["signer_key"]
TEXT = "one line\n\nanother, behind an empty one: ü\n"
KEY = SecretKey.from_seed("ledger.example/log", bytes(range(32)))
NEXT_KEY = SecretKey.from_seed("ledger.example/log", bytes(range(1, 33)))
STRANGER = SecretKey.from_seed("stranger.example", bytes(range(2, 34)))
NOTE = Note(TEXT, (KEY.sign_note(TEXT),)).encode()
LINE = KEY.sign_note(TEXT).line


def signed(*keys: SecretKey, text: str = TEXT) -> bytes:
    return Note(text, tuple(key.sign_note(text) for key in keys)).encode()


# ---------------------------------------------------------------- published vectors


@pytest.mark.parametrize("vector", JUDGED, ids=[vector["name"] for vector in JUDGED])
def test_published_notes_are_judged_as_published(vector: dict):
    keys = [VerifierKey.parse(key) for key in vector.get("vkeys") or [vector["vkey"]]]
    data = vector["note"].encode()
    if not vector["valid"]:
        with pytest.raises(NoteInvalid):
            open_note(data, keys)
        return
    note, signers = open_note(data, keys)
    assert set(signers) == set(keys)
    assert note.encode() == data


def test_a_published_note_whose_key_is_not_given_is_read_but_not_trusted():
    (vector,) = [vector for vector in VECTORS["note_vectors"] if vector["valid"] is None]
    note = Note.parse(vector["note"].encode())
    assert note.text.endswith("ed è subito sera.\n")
    assert note.encode() == vector["note"].encode()
    with pytest.raises(NoteInvalid, match="no known key signed it"):
        open_note(vector["note"].encode(), [KEY.verifier])


def test_go_s_secret_key_gives_its_verifier_key_and_its_signature_line():
    key = SecretKey.parse(SIGNER["skey"])
    assert key.encode() == SIGNER["skey"]
    assert str(key.verifier) == SIGNER["vkey"]
    assert key.sign_note(SIGNER["text"]).line == SIGNER["expected_signature_line"]


@pytest.mark.parametrize("text", VECTORS["other"]["bad_vkeys"])
def test_published_bad_verifier_keys_are_refused(text: str):
    with pytest.raises(NoteInvalid):
        VerifierKey.parse(text)


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize("type_", [ED25519, COSIGNATURE, ML_DSA_44])
def test_keys_of_every_type_survive_their_text(type_: int):
    secret = SecretKey.from_seed("ledger.example/log", bytes(range(32)), type_)
    assert SecretKey.parse(secret.encode()) == secret
    assert VerifierKey.parse(str(secret.verifier)) == secret.verifier
    expected = hashlib.sha256(b"ledger.example/log\n" + bytes([type_]) + secret.verifier.key).digest()[:4]
    assert secret.verifier.id == expected


def test_the_id_differs_by_type_so_one_key_cannot_stand_for_another():
    plain = SecretKey.from_seed("x", bytes(32)).verifier
    timed = SecretKey.from_seed("x", bytes(32), COSIGNATURE).verifier
    assert plain.key == timed.key
    assert plain.id != timed.id


def test_every_single_bit_flip_of_a_verifier_key_is_refused():
    text = str(KEY.verifier).encode()
    for place in range(len(text) * 8):
        flipped = bytearray(text)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises((NoteInvalid, UnicodeDecodeError)):
            VerifierKey.parse(flipped.decode())


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.upper(),
        lambda text: text.replace("+", " ", 1),
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text + "=",
        lambda text: text.rsplit("+", 1)[0],
        lambda text: text.rsplit("+", 1)[0] + "+",
        lambda text: "",
        lambda text: "+".join(["", *text.split("+")[1:]]),
    ],
)
def test_a_verifier_key_has_one_spelling(change):
    with pytest.raises(NoteInvalid):
        VerifierKey.parse(change(str(KEY.verifier)))


def test_an_id_in_capital_letters_is_refused():
    name, id_, material = str(KEY.verifier).split("+", 2)
    assert id_.upper() != id_
    with pytest.raises(NoteInvalid):
        VerifierKey.parse(f"{name}+{id_.upper()}+{material}")


@pytest.mark.parametrize("type_", [0x00, 0x02, 0x03, 0x05, 0x07, 0xFF])
def test_other_types_of_key_are_refused(type_: int):
    for make in (VerifierKey, SecretKey):
        with pytest.raises(NoteInvalid, match="is not known here"):
            make("x", type_, bytes(32))


@pytest.mark.parametrize("length", [0, 31, 33, 1312])
def test_keys_and_seeds_of_another_length_are_refused(length: int):
    with pytest.raises(NoteInvalid):
        VerifierKey("x", ED25519, bytes(length))
    with pytest.raises(NoteInvalid):
        SecretKey("x", ED25519, bytes(length))


NAMES = ["", "a b", "a+b", "a\u00a0b", "a\u2003b", "a\u3000b", "a\u2028b", "a\u0085b", "a\nb", "a\x01b", "\udc80"]


@pytest.mark.parametrize("name", NAMES)
def test_a_key_name_is_not_empty_and_has_no_spaces_pluses_or_control_characters(name: str):
    for make in (
        lambda: VerifierKey(name, ED25519, KEY.verifier.key),
        lambda: SecretKey.from_seed(name, bytes(32)),
        lambda: NoteSignature(name, bytes(4), bytes(64)),
    ):
        with pytest.raises(NoteInvalid):
            make()


def test_a_secret_key_that_belongs_to_another_id_is_refused_and_never_shown():
    seed_text = base64.b64encode(bytes([ED25519]) + KEY.seed).decode()
    for text in (KEY.encode().replace(KEY.verifier.id.hex(), "00000000"), "PRIVATE+" + seed_text, seed_text):
        with pytest.raises(NoteInvalid) as refusal:
            SecretKey.parse(text)
        assert seed_text not in str(refusal.value)
    assert KEY.seed.hex() not in repr(KEY)
    assert "seed" not in repr(KEY)


# ---------------------------------------------------------------- notes


def test_a_note_signed_is_a_note_opened():
    note, signers = open_note(NOTE, [KEY.verifier])
    assert note.text == TEXT
    assert signers == (KEY.verifier,)


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(st.characters(min_codepoint=0x20, exclude_categories=("Cs",)) | st.just("\n"), max_size=60),
    strangers=st.lists(
        st.tuples(st.sampled_from(["w1", "é/ü", "oid/1.3"]), st.binary(min_size=4, max_size=4), st.binary(min_size=1)),
        max_size=4,
    ),
    place=st.integers(0, 4),
)
def test_any_text_with_any_strangers_survives_encoding_and_is_signed_by_its_key(text, strangers, place):
    text += "\n"
    lines = [NoteSignature(*stranger) for stranger in strangers]
    lines.insert(place, KEY.sign_note(text))
    written = Note(text, tuple(lines))
    opened, signers = open_note(written.encode(), [KEY.verifier, STRANGER.verifier])
    assert opened == written
    assert opened.encode() == written.encode()
    assert signers == (KEY.verifier,)


def test_every_single_bit_flip_of_a_signed_note_is_refused():
    for place in range(len(NOTE) * 8):
        flipped = bytearray(NOTE)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(NoteInvalid):
            open_note(bytes(flipped), [KEY.verifier])


def test_every_prefix_and_every_lost_byte_of_a_signed_note_is_refused():
    for place in range(len(NOTE)):
        for altered in (NOTE[:place], NOTE[:place] + NOTE[place + 1 :], NOTE[:place] + b"\n" + NOTE[place:]):
            if altered != NOTE:
                with pytest.raises(NoteInvalid):
                    open_note(altered, [KEY.verifier])


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_nothing_but_note_invalid_comes_of_any_bytes(data: bytes):
    for candidate in (data, b"t\n\n" + data, b"t\n\n\xe2\x80\x94 " + data + b"\n", data + NOTE):
        try:
            note = Note.parse(candidate)
        except NoteInvalid:
            continue
        assert note.encode() == candidate


MALFORMED = {
    "no signatures": TEXT.encode(),
    "an empty signature block": TEXT.encode() + b"\n",
    "nothing": b"",
    "no text": LINE.encode(),
    "no last newline": NOTE[:-1],
    "trailing data": NOTE + b"Unexpected line.\n",
    "a trailing empty line": NOTE + b"\n",
    "a trailing space": NOTE[:-1] + b" \n",
    "a control character": b"\x01" + NOTE,
    "a tab": b"a\t" + NOTE,
    "a carriage return": NOTE.replace(b"\n", b"\r\n"),
    "a null": NOTE.replace(b"one", b"o\0e"),
    "invalid UTF-8": b"\xff" + NOTE,
    "an encoded surrogate": b"\xed\xa0\x80" + NOTE,
    "an overlong encoding": b"\xc0\x80" + NOTE,
    "a hyphen for the dash": NOTE.replace("—".encode(), b"-"),
    "no space behind the dash": NOTE.replace("— ".encode(), "—".encode()),
    "two spaces behind the dash": NOTE.replace("— ".encode(), "—  ".encode()),
    "two spaces behind the name": NOTE.replace(b"log ", b"log  "),
    "a name with a space": NOTE.replace(b"ledger.example/log", b"Bad Name"),
    "a name with a no-break space": NOTE.replace(b"example/log", "example\u00a0log".encode()),
    "a name with a plus": NOTE.replace(b"example/log", b"example+log"),
    "no name": NOTE.replace(b" ledger.example/log ", b"  "),
    "no base64": NOTE.replace(LINE.split(" ")[2].encode(), b"\n"),
    "no padding": NOTE.replace(b"=", b""),
    "URL-safe base64": (TEXT + "\n— x " + base64.urlsafe_b64encode(b"\xff" * 68).decode() + "\n").encode(),
    "a signature of no bytes": (TEXT + "\n— x " + base64.b64encode(b"1234").decode() + "\n").encode(),
    "a key id of three bytes": (TEXT + "\n— x " + base64.b64encode(b"123").decode() + "\n").encode(),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed_notes_are_refused(data: bytes):
    assert data != NOTE
    with pytest.raises(NoteInvalid):
        Note.parse(data)


def test_base64_with_unused_bits_set_is_another_spelling_and_refused():
    encoded = LINE.split(" ")[2].strip()
    assert encoded.endswith("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    body, last = encoded.rstrip("=")[:-1], encoded.rstrip("=")[-1]
    padding = encoded[len(body) + 1 :]
    other = body + alphabet[alphabet.index(last) + 1] + padding
    assert base64.b64decode(other) == base64.b64decode(encoded)
    with pytest.raises(NoteInvalid, match="not canonical base64"):
        Note.parse(NOTE.replace(encoded.encode(), other.encode()))


def test_the_last_empty_line_parts_text_and_signatures():
    text = "a\n\n" + LINE + "\n"
    note, _ = open_note(signed(KEY, text=text), [KEY.verifier])
    assert note.text == text
    assert len(note.signatures) == 1


def test_a_text_may_be_a_single_newline():
    note, _ = open_note(signed(KEY, text="\n"), [KEY.verifier])
    assert note.text == "\n"


def test_lines_of_unicode_are_not_lines_of_a_note():
    text = "a\u2028b\u0085c\x7fd\n"
    assert open_note(signed(KEY, text=text), [KEY.verifier])[0].text == text


def test_as_many_signatures_as_in_go_are_read_and_not_one_more():
    unknown = STRANGER.sign_note(TEXT).line
    for count in (16, MAX_SIGNATURES):
        data = (TEXT + "\n" + unknown * (count - 1) + LINE).encode()
        assert open_note(data, [KEY.verifier])[1] == (KEY.verifier,)
    assert MAX_SIGNATURES == 100
    with pytest.raises(NoteInvalid, match="more than 100 signatures"):
        open_note((TEXT + "\n" + LINE + unknown * MAX_SIGNATURES).encode(), [KEY.verifier])
    with pytest.raises(NoteInvalid, match="not from 1 to 100"):
        Note(TEXT, (KEY.sign_note(TEXT),) * (MAX_SIGNATURES + 1))
    with pytest.raises(NoteInvalid, match="not from 1 to 100"):
        Note(TEXT, ())


def test_a_note_has_a_largest_size():
    text = "a" * (MAX_NOTE_BYTES - len(LINE.encode()) - 2) + "\n"
    data = signed(KEY, text=text)
    assert len(data) == MAX_NOTE_BYTES
    assert open_note(data, [KEY.verifier])[0].text == text
    for attempt in (lambda: signed(KEY, text="a" + text), lambda: Note.parse(b"a" + data)):
        with pytest.raises(NoteInvalid, match="bytes are more than"):
            attempt()


# ---------------------------------------------------------------- who signed


def test_in_a_rotation_both_keys_are_known_and_either_is_enough():
    keys = [KEY.verifier, NEXT_KEY.verifier]
    assert open_note(signed(KEY), keys)[1] == (KEY.verifier,)
    assert open_note(signed(NEXT_KEY), keys)[1] == (NEXT_KEY.verifier,)
    assert open_note(signed(NEXT_KEY, KEY), keys)[1] == (NEXT_KEY.verifier, KEY.verifier)
    with pytest.raises(NoteInvalid, match="no known key signed it"):
        open_note(signed(NEXT_KEY), [KEY.verifier])


def test_a_failing_signature_of_a_known_key_spoils_the_note_though_another_holds():
    wrong = STRANGER.sign_note("something else\n")
    data = Note(TEXT, (KEY.sign_note(TEXT), wrong)).encode()
    with pytest.raises(NoteInvalid, match=r"the signature of stranger.example\+.* does not hold"):
        open_note(data, [KEY.verifier, STRANGER.verifier])
    assert open_note(data, [KEY.verifier])[1] == (KEY.verifier,)


def test_a_name_or_an_id_alone_does_not_make_a_line_that_of_a_known_key():
    right = KEY.sign_note(TEXT)
    same_name = NoteSignature(right.name, b"\0\1\2\3", b"not a signature")
    same_id = NoteSignature("other.example", right.key_id, b"not a signature")
    data = Note(TEXT, (same_name, same_id, right)).encode()
    assert open_note(data, [KEY.verifier])[1] == (KEY.verifier,)
    with pytest.raises(NoteInvalid, match="no known key signed it"):
        open_note(Note(TEXT, (same_name, same_id)).encode(), [KEY.verifier])


def test_a_repeated_line_counts_once_and_a_wrong_second_one_is_not_passed_over():
    right = KEY.sign_note(TEXT)
    assert open_note(Note(TEXT, (right, right)).encode(), [KEY.verifier])[1] == (KEY.verifier,)
    wrong = NoteSignature(right.name, right.key_id, right.signature[:-1] + b"\0")
    with pytest.raises(NoteInvalid, match="does not hold"):
        open_note(Note(TEXT, (right, wrong)).encode(), [KEY.verifier])


@pytest.mark.parametrize("signature", [b"\0", bytes(63), bytes(64), bytes(65)])
def test_a_signature_of_the_wrong_length_or_of_nothing_does_not_hold(signature: bytes):
    right = KEY.sign_note(TEXT)
    with pytest.raises(NoteInvalid, match="does not hold"):
        open_note(Note(TEXT, (NoteSignature(right.name, right.key_id, signature),)).encode(), [KEY.verifier])


def test_a_signature_with_trailing_bytes_does_not_hold():
    right = KEY.sign_note(TEXT)
    longer = NoteSignature(right.name, right.key_id, right.signature + b"\0")
    with pytest.raises(NoteInvalid, match="does not hold"):
        open_note(Note(TEXT, (longer,)).encode(), [KEY.verifier])


def test_a_signature_with_the_group_order_added_to_it_does_not_hold():
    order = 2**252 + 27742317777372353535851937790883648493
    right = KEY.sign_note(TEXT)
    scalar = int.from_bytes(right.signature[32:], "little") + order
    malleable = NoteSignature(right.name, right.key_id, right.signature[:32] + scalar.to_bytes(32, "little"))
    with pytest.raises(NoteInvalid, match="does not hold"):
        open_note(Note(TEXT, (malleable,)).encode(), [KEY.verifier])


def test_no_keys_open_nothing_and_the_same_key_twice_is_one():
    with pytest.raises(NoteInvalid, match="no known key signed it"):
        open_note(NOTE, [])
    assert open_note(NOTE, [KEY.verifier, KEY.verifier])[1] == (KEY.verifier,)
    assert signers_of(Note.parse(NOTE), [STRANGER.verifier]) == ()


def test_two_known_keys_of_one_name_and_id_are_ambiguous(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(VerifierKey, "id", property(lambda key: b"same"))
    with pytest.raises(NoteInvalid, match="two of the known keys"):
        open_note(NOTE, [KEY.verifier, NEXT_KEY.verifier])


# ---------------------------------------------------------------- signing


@pytest.mark.parametrize("text", ["", "no newline", "a\rb\n", "a\0\n", "a\tb\n", "\udc80\n"])
def test_what_would_not_be_a_note_is_not_signed(text: str):
    with pytest.raises(NoteInvalid):
        sign_note(text, KEY)


@pytest.mark.parametrize("type_", [COSIGNATURE, ML_DSA_44])
def test_a_key_for_cosignatures_does_not_sign_a_bare_text(type_: int):
    with pytest.raises(NoteInvalid, match="need a checkpoint and a time"):
        sign_note(TEXT, SecretKey.from_seed("w", bytes(32), type_))


def test_a_signer_that_holds_another_key_than_it_says_is_found_out():
    class Wrong:
        verifier = KEY.verifier

        def sign(self, message: bytes) -> bytes:
            return STRANGER.sign(message)

    with pytest.raises(NoteInvalid, match="its own key does not verify"):
        sign_note(TEXT, Wrong())


def test_a_library_without_ml_dsa_is_named(monkeypatch: pytest.MonkeyPatch):
    verifier = SecretKey.from_seed("w", bytes(32), ML_DSA_44).verifier
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.mldsa", None)
    with pytest.raises(NoteInvalid, match="cannot do ML-DSA-44"):
        SecretKey.from_seed("w", bytes(32), ML_DSA_44).verifier  # noqa: B018 - the property derives the key
    head = "o\n1\n" + base64.b64encode(bytes(32)).decode() + "\n"
    data = Note(head, (NoteSignature("w", verifier.id, bytes(2428)),)).encode()
    with pytest.raises(NoteInvalid, match="cannot do ML-DSA-44"):
        open_note(data, [verifier])


def test_reading_keys_and_notes_does_not_load_the_cryptographic_library():
    program = (
        "import sys; from tallystick.journal import notes, checkpoints, receipts, policies, dsse;"
        f"notes.VerifierKey.parse({str(KEY.verifier)!r}); notes.Note.parse({NOTE!r});"
        "print(any(name.split('.')[0] == 'cryptography' for name in sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout == "False\n"


# ---------------------------------------------------------------- keys that anybody can sign with

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P


def add(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """The sum of two points of Ed25519, by its definition (RFC 8032, 5.1)."""
    (a, b), (c, d) = one, other
    e = D * a * b * c * d % P
    return (a * d + b * c) * pow(1 + e, -1, P) % P, (b * d + a * c) * pow(1 - e, -1, P) % P


def points_of_small_order() -> set[tuple[int, int]]:
    """L times a point is in the subgroup of order 8; the multiples of one that generates it are all of it."""
    order, root = 2**252 + 27742317777372353535851937790883648493, pow(2, (P - 1) // 4, P)
    for y in range(2, 200):
        square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
        x = pow(square, (P + 3) // 8, P)
        x = x if (x * x - square) % P == 0 else x * root % P
        if (x * x - square) % P:
            continue
        found, base = (0, 1), (x, y)
        for bit in bin(order)[2:]:
            found = add(found, found)
            found = add(found, base) if bit == "1" else found
        group = {(0, 1)}
        multiple = found
        while multiple not in group:
            group.add(multiple)
            multiple = add(multiple, found)
        if len(group) == 8:
            return group
    raise AssertionError


@pytest.mark.parametrize("kind", [ED25519, COSIGNATURE])
def test_a_key_of_small_order_is_refused(kind: int):
    points = points_of_small_order()
    assert len({y for _, y in points}) == 5
    for x, y in points:
        for sign in (x & 1, 1 - (x & 1)):
            key = (y | sign << 255).to_bytes(32, "little")
            with pytest.raises(NoteInvalid, match="small order"):
                VerifierKey("ledger.example/log", kind, key)
    for y in (P, P + 1, P + 4, 2**255 - 1):
        with pytest.raises(NoteInvalid, match="small order"):
            VerifierKey("ledger.example/log", kind, y.to_bytes(32, "little"))
