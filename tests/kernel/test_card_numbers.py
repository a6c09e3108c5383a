"""The ledger keeps no card numbers: a text that holds what looks like one is refused, and the number not repeated."""

from __future__ import annotations

import hashlib
import uuid
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick import commands as c
from tallystick import errors as e
from tallystick.kernel.texts import holds_card_number
from tests.support.kernel import USD, Scribe

PAY = {"from_account": "alice", "to_account": "bob", "asset": USD, "amount": 1}
PAN = "4242 4242 4242 4242"

CARDS = [
    PAN, "4242424242424242", "5555-5555-5555-4444", "5555555555554444", "378282246310005", "3782 822463 10005",
    "371449635398431", "6011111111111117", "3056 930902 5904", "30569309025904", "3566002020360505",
    "6200 0000 0000 0005", "2223003122003222", "4222222222222", "4000056655665556", "6304 0000 0000 0000 000",
    "paid with 4242424242424242.", "card=4242424242424242;exp=12/30", "(5555-5555-5555-4444)", "naïve:4242424242424242",
    "on 2026-11-21 4242 4242 4242 4242", "room 5 4242 4242 4242 4242 7", "5-4242-4242-4242-4242",
    "1 4242424242424242 x9", "4242424242424242\n", "\u00a04242424242424242\u00a0", "DE00 4242 4242 4242 4242",
]  # fmt: skip
"""The numbers that card schemes and payment providers publish for tests, bare and in company."""

NO_CARDS = [
    "", "4242 4242 4242 4243", "4242424242424241", "1234567812345670", "7992739871300000003", "0000000000000000",
    "424242424242", "42424242424242424242", "4242  4242  4242  4242", "4242_4242_4242_4242", "4242 4242-4242 4242",
    "a4242424242424242", "4242424242424242a", "0x4242424242424242", "x4242-4242-4242-4242", "4242.4242.4242.4242",
    "550e8400-e29b-41d4-a716-446655440000", "00000000-0000-4242-4242-424242424242",
    hashlib.sha256(b"x").hexdigest(), "2026-11-21T09:00:00.000000Z", "1763733600000", "1763733600000000000",
    "DE89 3704 0044 0532 0130 00", "DE89370400440532013000", "GB82 WEST 1234 5698 7654 32",
    "FR14 2004 1010 0505 0001 3M02 606", "+49 30 901820", "users:4242", "12,345.67", "4242",
]  # fmt: skip


@pytest.mark.parametrize("text", CARDS)
def test_what_looks_like_a_card_number_is_found(text: str):
    assert holds_card_number(text)


@pytest.mark.parametrize("text", NO_CARDS)
def test_what_only_resembles_a_card_number_is_let_through(text: str):
    assert not holds_card_number(text)


# ---------------------------------------------------------------- where it is looked for


TEXTS = {
    "reason": (c.Transfer, {**PAY, "reason": PAN}, "reason"),
    "metadata": (c.Transfer, {**PAY, "metadata": {"note": PAN}}, "metadata.note"),
    "a name in metadata": (c.Transfer, {**PAY, "metadata": {PAN: "x"}}, "metadata"),
    "a long name in metadata": (c.Transfer, {**PAY, "metadata": {f"{PAN} {'x' * 64}": "x"}}, "metadata"),
    "a reference": (c.Transfer, {**PAY, "refs": {"order": "4242424242424242"}}, "refs.order"),
    "an owner": (c.OpenAccount, {"account": "mia", "owner": PAN}, "owner"),
    "an asset's name": (c.DefineAsset, {"asset": "JPY", "name": PAN}, "name"),
    "a type's summary": (c.DefineType, {"name": "sale", "summary": PAN}, "summary"),
    "a provider": (c.RecordReserve, {"reserve": "b", "asset": USD, "value": 1, "provider": PAN}, "provider"),
    "a statement": (c.IssueAttestation, {"digest": "0f" * 32, "statement": {"by": PAN}}, "statement.by"),
    "a name in a statement": (c.IssueAttestation, {"digest": "0f" * 32, "statement": {PAN: "x"}}, "statement"),
}


@pytest.mark.parametrize(("kind", "fields", "path"), TEXTS.values(), ids=TEXTS)
def test_every_text_is_looked_through_and_the_refusal_names_the_place_but_not_the_number(
    ledger: Scribe, kind: type[c.Command], fields: dict[str, Any], path: str
):
    ledger.mint("alice", 100)
    refusal = ledger.refused(e.CardNumber, kind, **fields)
    assert refusal.data == {"path": path}
    assert str(refusal) == f"{path} holds what looks like a card number; the ledger keeps none"
    assert refusal.code == "card_number"


NO_TEXTS = {
    "a key": (c.Transfer, {**PAY, "key": "4242424242424242"}),
    "an address": (c.Transfer, {**PAY, "to_account": "users:4242424242424242"}),
    "a bare address": (c.Transfer, {**PAY, "to_account": "4242424242424242"}),
    "an amount": (c.Post, {"type": "mint", "legs": (c.Leg("@issuance", "alice", USD, 4242424242424242),)}),
    "a digest": (c.IssueAttestation, {"digest": "4242424242424242" * 4}),
    "a reserve": (c.RecordReserve, {"reserve": "4242424242424242", "asset": USD, "value": 4242424242424242}),
    "a public key": (c.RotateKey, {"public_key": "4242424242424242"}),
    "an actor": (c.Transfer, {**PAY, "actor": "4242424242424242"}),
}


@pytest.mark.parametrize(("kind", "fields"), NO_TEXTS.values(), ids=NO_TEXTS)
def test_keys_addresses_digests_and_amounts_are_not_looked_through(
    ledger: Scribe, kind: type[c.Command], fields: dict[str, Any]
):
    ledger.mint("alice", 100)
    ledger.do(kind, **fields)


# ---------------------------------------------------------------- any number at all


DOUBLED = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]


def check_digit(digits: str) -> str:
    """The digit that makes these a card number, by the table of doubled digits."""
    total = sum(DOUBLED[int(d)] if place % 2 == 0 else int(d) for place, d in enumerate(reversed(digits)))
    return str(-total % 10)


@st.composite
def numbers(draw: st.DrawFn) -> str:
    first = draw(st.sampled_from("23456"))
    digits = first + draw(st.text("0123456789", min_size=11, max_size=17))
    return digits + check_digit(digits)


@st.composite
def printed(draw: st.DrawFn) -> str:
    """A number in any groups, with one separator."""
    number = draw(numbers())
    cuts = draw(st.sets(st.integers(1, len(number) - 1), max_size=6))
    ends = [0, *sorted(cuts), len(number)]
    return draw(st.sampled_from([" ", "-"])).join(number[a:b] for a, b in pairwise(ends))


BESIDE = st.text("abc .,;:!?()/\n\tßé漢🪵", max_size=12)


@given(before=BESIDE, number=printed(), after=BESIDE)
def test_any_card_number_is_found_in_any_groups_and_company(before: str, number: str, after: str):
    assert holds_card_number(f"{before}|{number}|{after}")
    assert holds_card_number(f"{before}\n{number}")


@given(number=numbers(), step=st.integers(1, 9))
def test_a_number_with_another_check_digit_is_no_card_number(number: str, step: int):
    assert not holds_card_number(number[:-1] + str((int(number[-1]) + step) % 10))


@given(number=numbers(), first=st.sampled_from("01789"))
def test_a_number_that_begins_otherwise_is_no_card_number(number: str, first: str):
    digits = first + number[1:-1]
    assert not holds_card_number(digits + check_digit(digits))


@given(number=numbers(), letter=st.sampled_from("azAZfF"), ahead=st.booleans())
def test_digits_beside_a_letter_are_part_of_something_else(number: str, letter: str, ahead: bool):
    assert not holds_card_number(letter + number if ahead else number + letter)


@given(st.uuids(), st.binary(max_size=8))
def test_no_uuid_and_no_digest_is_taken_for_a_card_number(id_: uuid.UUID, seed: bytes):
    digest = hashlib.sha256(seed).hexdigest()
    assert not holds_card_number(f"{id_} {str(id_).upper()} {digest}")


@given(st.integers(1_000_000_000_000, 1_999_999_999_999))
def test_no_time_in_milliseconds_up_to_the_year_2033_is_taken_for_a_card_number(milliseconds: int):
    assert not holds_card_number(str(milliseconds))


@given(bank=st.text("0123456789", min_size=12, max_size=26), country=st.sampled_from(["DE", "ES", "PL", "CH"]))
def test_no_valid_iban_is_taken_for_a_card_number(bank: str, country: str):
    letters = "".join(str(ord(letter) - 55) for letter in country)
    iban = f"{country}{98 - int(bank + letters + '00') % 97:02}{bank}"
    groups = " ".join(iban[start : start + 4] for start in range(0, len(iban), 4))
    assert not holds_card_number(f"to {iban} or {groups}.")


@given(st.text("0123456789 -xäDE", max_size=200))
def test_looking_through_any_text_comes_to_an_end(text: str):
    assert holds_card_number(text) in (True, False)


@pytest.mark.parametrize("text", ["4" * 1_024, "4 " * 512, "4-" * 512, "4242 " * 204 + "x", "1" * 1_023 + "a"])
def test_the_worst_texts_take_no_time_to_speak_of(text: str):
    for _ in range(100):
        holds_card_number(text)
