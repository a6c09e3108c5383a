"""Policy, assets, types and the records that a ledger keeps for others."""

from __future__ import annotations

from typing import Any

import pytest

from tallystick import commands as c
from tallystick import errors as e
from tallystick.commands import Leg
from tallystick.kernel import Policy
from tests.support.kernel import USD, Scribe


def test_a_ledger_is_opened_once_under_its_own_name():
    scribe = Scribe("cell-a")
    scribe.refused(e.InvalidInput, c.OpenLedger, name="cell-b")
    scribe.do(c.OpenLedger, name="cell-a", policy={"strict": True})
    scribe.refused(e.InvalidInput, c.OpenLedger, name="cell-a")
    assert scribe.book.policy == Policy(strict=True)


@pytest.mark.parametrize("name", ["", ".a", "a b", "a/b", "a" * 65, "ü", "@a"])
def test_a_name_that_cannot_name_a_ledger_is_refused(name: str):
    Scribe(name).refused(e.InvalidInput, c.OpenLedger, name=name)


def test_a_policy_changes_by_event_and_what_is_not_named_stays(ledger: Scribe):
    ledger.policy(limit_max=9_000)
    ledger.policy(commitment_mode="SOFT", hold_expires_in_seconds=60)
    assert ledger.book.policy == Policy(limit_max=9_000, commitment_mode="SOFT", hold_expires_in_seconds=60)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"no_such_rule": 1},
        {"limit_min": 2_001},
        {"limit_default": 499},
        {"limit_max": 1_999},
        {"limit_min": -1},
        {"limit_max": 2**53},
        {"limit_min": 500.0},
        {"limit_min": True},
        {"limit_min": "500"},
        {"limit_min": None},
        {"limit_min": {"a": [1]}},
        {"strict": 1},
        {"strict": "yes"},
        {"commitment_mode": "HARD"},
        {"commitment_mode": "escrowed"},
    ],
    ids=repr,
)
def test_a_policy_that_makes_no_sense_is_refused(ledger: Scribe, changes: dict[str, Any]):
    ledger.refused(e.InvalidInput, c.SetPolicy, changes=changes)


def test_the_widest_policy_is_allowed(ledger: Scribe):
    ledger.policy(limit_min=0, limit_default=0, limit_max=2**53 - 1)
    ledger.member("mia", 0)
    ledger.member("noa", 2**53 - 1)


# ---------------------------------------------------------------- assets


def test_an_asset_is_defined_by_hand_or_by_first_use_and_then_stays(ledger: Scribe):
    ledger.do(c.DefineAsset, asset=USD, name="Dollar")
    ledger.mint("alice", 1)
    ledger.mint("alice", 1, "EUR/2")
    assert ledger.book.scales == {"USD": 2, "EUR": 2}
    for asset in (USD, "USD/3", "EUR/2", "EUR"):
        ledger.refused(e.InvalidInput, c.DefineAsset, asset=asset)


# ---------------------------------------------------------------- types of the ledger's own


def test_a_type_of_the_ledgers_own_moves_as_its_base_does_and_needs_its_own_references_as_well(ledger: Scribe):
    ledger.do(c.DefineType, name="payout", base="withdrawal", requires=("order", "trace_id"))
    ledger.mint("alice", 10)
    legs = (Leg("alice", "@external:bank", USD, 10),)
    refs = {"tx_hash": "0x1", "order": "o-1", "trace_id": "t-1"}
    for missing in refs:
        some = {name: value for name, value in refs.items() if name != missing}
        ledger.refused(e.ReferenceRequired, c.Post, type="payout", legs=legs, refs=some)
    ledger.refused(e.MoveNotAllowed, c.Post, type="payout", legs=(Leg("alice", "bob", USD, 1),), refs=refs)
    event = ledger.transact("payout", *legs, refs=refs)
    assert event.type == "payout"
    ledger.do(c.Reverse, transaction=event.id)
    assert ledger.balance("alice") == 10


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "transfer"},
        {"name": "Tip"},
        {"name": ""},
        {"name": "9tip"},
        {"name": "t" * 65},
        {"base": "hold"},
        {"base": "nothing"},
        {"base": "reversal"},
        {"requires": ("invoice",)},
    ],
    ids=repr,
)
def test_a_type_that_makes_no_sense_is_refused(ledger: Scribe, fields: dict[str, Any]):
    ledger.refused(e.InvalidInput, c.DefineType, **{"name": "tip", **fields})


def test_a_type_is_defined_once_and_is_no_base_for_another(ledger: Scribe):
    ledger.do(c.DefineType, name="tip")
    ledger.refused(e.InvalidInput, c.DefineType, name="tip")
    ledger.refused(e.InvalidInput, c.DefineType, name="big_tip", base="tip")


@pytest.mark.parametrize("name", ["tip", "", "hold", "capture", "reversal", "account_opened", "policy_set", "TRANSFER"])
def test_a_type_that_is_not_posted_cannot_be_posted(ledger: Scribe, name: str):
    refusal = ledger.refused(e.TypeNotFound, c.Post, type=name, legs=(Leg("a", "b", USD, 1),))
    assert refusal.data == {"type": name}


# ---------------------------------------------------------------- records


@pytest.mark.parametrize(("haircut", "allowed"), [(-1, False), (0, True), (10_000, True), (10_001, False)])
def test_a_haircut_is_0_to_10000_basis_points(ledger: Scribe, haircut: int, allowed: bool):
    fields = {"reserve": "bank:1", "asset": USD, "value": 0, "haircut_bps": haircut}
    if allowed:
        assert ledger.do(c.RecordReserve, **fields).data["haircut_bps"] == haircut
    else:
        ledger.refused(e.InvalidInput, c.RecordReserve, **fields)


def test_a_reserve_without_a_known_haircut_counts_nothing(ledger: Scribe):
    assert ledger.do(c.RecordReserve, reserve="bank:1", asset=USD, value=5).data["haircut_bps"] == 10_000


@pytest.mark.parametrize(
    "fields",
    [{"value": -1}, {"value": 2**63}, {"value": 1.0}, {"reserve": ""}, {"reserve": "a b"}, {"valid_until": "soon"}],
    ids=repr,
)
def test_a_reserve_that_makes_no_sense_is_refused(ledger: Scribe, fields: dict[str, Any]):
    ledger.refused(e.InvalidInput, c.RecordReserve, **{"reserve": "bank:1", "asset": USD, "value": 5, **fields})


@pytest.mark.parametrize("name", ["Überdeckung", "", "n" * 65, "a\n"])
def test_names_in_a_statement_are_ascii_for_the_journals_keys_are(ledger: Scribe, name: str):
    refusal = ledger.refused(e.InvalidInput, c.IssueAttestation, digest="0f" * 32, statement={name: "1"})
    assert refusal.data["path"] == "statement"


@pytest.mark.parametrize("key", ["k" * 4_097, "schlüssel", ""])
def test_a_signing_key_is_1_to_4096_ascii_characters(ledger: Scribe, key: str):
    ledger.refused(e.InvalidInput, c.RotateKey, public_key=key)
    ledger.do(c.RotateKey, public_key="k" * 4_096)
