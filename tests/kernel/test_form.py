"""The form of a command: every text, reference and size is checked once, and the refusal says where it is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from tallystick import commands as c
from tallystick import errors as e
from tallystick.accounts import check_address, role_of
from tallystick.commands import Leg
from tallystick.events import MAX_EVENT_BYTES, REFERENCES
from tallystick.kernel import is_bare, shows_request
from tests.support.kernel import USD, Scribe

PAY = {"from_account": "alice", "to_account": "bob", "asset": USD, "amount": 1}


@pytest.fixture
def funded(ledger: Scribe) -> Scribe:
    ledger.mint("alice", 100)
    return ledger


# ---------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("field", "limit"),
    [("key", 255), ("source", 255), ("actor", 255), ("reason", 1_024)],
    ids=["key", "source", "actor", "reason"],
)
def test_a_text_may_be_as_long_as_its_limit_and_not_longer(funded: Scribe, field: str, limit: int):
    refusal = funded.refused(e.InvalidInput, c.Transfer, **PAY, **{field: "x" * (limit + 1)})
    assert refusal.data["path"] == field
    funded.do(c.Transfer, **PAY, **{field: "x" * limit})


@pytest.mark.parametrize("field", ["key", "source"])
def test_key_and_source_are_never_empty(funded: Scribe, field: str):
    assert funded.refused(e.InvalidInput, c.Transfer, **PAY, **{field: ""}).data["path"] == field


@pytest.mark.parametrize("text", ["a\nb", "a\x00", "a\x7f", "a\u2028b", "\u200b", "\ufeff", "\ue000"], ids=ascii)
@pytest.mark.parametrize("field", ["key", "source", "actor", "refs"])
def test_names_hold_no_character_that_cannot_be_printed(funded: Scribe, field: str, text: str):
    value = {"order": text} if field == "refs" else text
    path = "refs.order" if field == "refs" else field
    assert funded.refused(e.InvalidInput, c.Transfer, **PAY, **{field: value}).data["path"] == path


def test_free_text_may_hold_control_characters_and_any_script(funded: Scribe):
    text = "line one\nline two\t\x00\x1f\x7f «ÄΩ漢字🙂» \u2028"
    event = funded.do(c.Transfer, **PAY, reason=text, metadata={"note": text})
    assert event.data["reason"] == event.data["metadata"]["note"] == text


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"], ids=ascii)
@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (c.Transfer, {**PAY, "key": "{}"}),
        (c.Transfer, {**PAY, "reason": "{}"}),
        (c.Transfer, {**PAY, "metadata": {"note": "{}"}}),
        (c.Transfer, {**PAY, "refs": {"order": "{}"}}),
        (c.OpenAccount, {"account": "mia", "owner": "{}"}),
        (c.DefineAsset, {"asset": "JPY", "name": "{}"}),
        (c.RecordReserve, {"reserve": "bank:1", "asset": USD, "value": 1, "provider": "{}"}),
        (c.IssueAttestation, {"digest": "0f" * 32, "statement": {"coverage": "{}"}}),
        (c.Release, {"hold": "{}"}),
    ],
    ids=["key", "reason", "metadata", "refs", "owner", "name", "provider", "statement", "hold"],
)
def test_a_lone_surrogate_is_no_text_anywhere(funded: Scribe, kind: type[c.Command], fields: dict[str, Any], text: str):
    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: filled(item) for name, item in value.items()}
        return text if value == "{}" else value

    funded.refused(e.InvalidInput, kind, **filled(fields))


# ---------------------------------------------------------------- references and metadata


@pytest.mark.parametrize("name", REFERENCES)
def test_every_reference_of_the_registry_may_be_given_and_is_kept(funded: Scribe, name: str):
    assert funded.do(c.Transfer, **PAY, refs={name: "r" * 255}).refs == {name: "r" * 255}
    assert funded.refused(e.InvalidInput, c.Transfer, **PAY, refs={name: "r" * 256}).data["path"] == f"refs.{name}"
    assert funded.refused(e.InvalidInput, c.Transfer, **PAY, refs={name: ""}).data["path"] == f"refs.{name}"


def test_a_reference_that_the_registry_does_not_know_is_refused(funded: Scribe):
    assert funded.refused(e.InvalidInput, c.Transfer, **PAY, refs={"invoice": "1"}).data["path"] == "refs.invoice"


def test_metadata_has_64_entries_of_1024_characters_at_most(funded: Scribe):
    full = {f"name-{number}": "x" * 8 for number in range(64)}
    funded.do(c.Transfer, **PAY, metadata=full)
    funded.do(c.Transfer, **PAY, metadata={"n" * 64: "x" * 1_024})
    for metadata in ({**full, "more": "x"}, {"n" * 65: "x"}, {"": "x"}, {"ä": "x"}, {"a\n": "x"}, {"n": "x" * 1_025}):
        refusal = funded.refused(e.InvalidInput, c.Transfer, **PAY, metadata=metadata)
        assert refusal.data["path"].startswith("metadata")


@pytest.mark.parametrize("junk", [{1: "x"}, {"n": 1}, {"n": None}, [], "x", float("nan"), 0], ids=repr)
@pytest.mark.parametrize("field", ["metadata", "refs"])
def test_metadata_and_references_of_the_wrong_kind_are_refused(funded: Scribe, field: str, junk: Any):
    funded.refused(e.InvalidInput, c.Transfer, **PAY, **{field: junk})


@pytest.mark.parametrize(
    "value", [5, None, 1.5, ["alice"], {"a": 1}, True, float("nan"), object()], ids=lambda value: type(value).__name__
)
@pytest.mark.parametrize("field", ["key", "source", "actor", "reason", "from_account", "to_account", "asset"])
def test_a_value_of_the_wrong_kind_is_refused_in_every_field(funded: Scribe, field: str, value: Any):
    funded.refused(e.InvalidInput, c.Transfer, **{**PAY, field: value})


def test_an_event_may_not_be_larger_than_65535_bytes(funded: Scribe):
    def pay(size: int) -> c.Command:
        metadata = {f"{number:02}": "🙂" * 252 for number in range(64)}
        return c.Transfer(key="big", **PAY, reason="x" * size, metadata=metadata)

    room = MAX_EVENT_BYTES - len(funded.sealed(pay(1))[1])
    assert 0 < room < 1_000
    _, body, _ = funded.sealed(pay(1 + room))
    assert len(body) == MAX_EVENT_BYTES
    with pytest.raises(e.EventTooLarge) as caught:
        funded.sealed(pay(2 + room))
    assert caught.value.data == {"size": MAX_EVENT_BYTES + 1, "limit": MAX_EVENT_BYTES}


# ---------------------------------------------------------------- addresses


GOOD = [
    "alice", "users:alice", "a:b:c:d:e:f:g:h:i:j", "A.b-c_9", "0", "x" * 255,
    "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK", "did:web:example.org", "did:web:example.org%3A3000",
    "did:example:a:b:c", "did:example::x", "@issuance", "@fees", "@treasury", "@clearing:ads.eu", "@external:bank:1",
]  # fmt: skip
BAD = [
    "", " ", "a b", "a:", ":a", "a::b", "a/b", "a@b", "ü", "a\n", "alice\x00", "x" * 256, "a:*", "+1",
    "did:", "did:key:", "did:KEY:z6", "did:key:z6:", "did:key:z6#frag", "did:key:z6?q", "did:web:a%3",
    "did:web:a%zz", "did:key:é",
    "@", "@Issuance", "@issuance:x", "@fees:x", "@clearing", "@clearing:", "@external:", "@external:a b",
    "@clearing:ü", "@mint",
]  # fmt: skip


@pytest.mark.parametrize("address", GOOD)
def test_a_good_address_or_did_holds_value(ledger: Scribe, address: str):
    assert check_address(address) == address
    if role_of(address) in ("holder", "treasury", "clearing"):
        ledger.mint(address, 1)
        assert ledger.balance(address) == 1


@pytest.mark.parametrize("address", BAD, ids=ascii)
def test_a_bad_address_or_did_is_refused_by_its_path(ledger: Scribe, address: str):
    legs = (Leg("@issuance", "alice", USD, 1), Leg("@issuance", address, USD, 1))
    assert ledger.refused(e.InvalidInput, c.Post, type="mint", legs=legs).data["path"] == "legs[1].to_account"
    ledger.refused(e.InvalidInput, c.OpenAccount, account=address)
    ledger.refused(e.InvalidInput, c.Hold, account=address, asset=USD, amount=1)


# ---------------------------------------------------------------- the request that an event shows


def test_a_bare_transfer_shows_its_whole_request_and_keeps_no_digest(funded: Scribe):
    command = c.Transfer(key="k", actor="agent:7", **PAY)
    event = funded.post(command)
    assert is_bare(command)
    assert event.data == {}
    assert shows_request(event, command) is True


@pytest.mark.parametrize("empty", [{"refs": {}}, {"metadata": {}}, {"conditions": ()}], ids=repr)
def test_nothing_said_in_other_words_is_the_same_request(funded: Scribe, empty: dict[str, Any]):
    event = funded.post(c.Transfer(key="k", **PAY))
    assert shows_request(event, c.Transfer(key="k", **PAY, **empty)) is True


@pytest.mark.parametrize(
    "other",
    [
        {"amount": 2}, {"to_account": "carol"}, {"from_account": "carol"}, {"asset": "EUR/2"}, {"actor": "x"},
        {"source": "x"}, {"key": "other"}, {"reason": "x"}, {"refs": {"order": "1"}}, {"metadata": {"a": "b"}},
    ],
    ids=repr,
)  # fmt: skip
def test_any_other_word_makes_it_another_request(funded: Scribe, other: dict[str, Any]):
    bare = funded.post(c.Transfer(key="k", **PAY))
    full = funded.post(c.Transfer(key="k", **PAY, reason="because"))
    assert shows_request(bare, c.Transfer(**{"key": "k", **PAY, **other})) is False
    assert shows_request(full, c.Transfer(**{"key": "k", **PAY, "reason": "because"})) is True
    if "reason" not in other:
        assert shows_request(full, c.Transfer(**{"key": "k", **PAY, "reason": "because", **other})) is False


def test_another_command_that_comes_to_the_same_entries_is_another_request(funded: Scribe):
    event = funded.post(c.Transfer(key="k", **PAY))
    same = c.Post(key="k", type="transfer", legs=(Leg("alice", "bob", USD, 1),))
    assert shows_request(event, same) is False
