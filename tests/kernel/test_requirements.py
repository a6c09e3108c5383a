"""What was asked for, by its id, as far as kernel and journal answer for it."""

from __future__ import annotations

import json

import msgspec
import pytest

from tallystick import commands as c
from tallystick import errors as e
from tallystick.commands import Leg
from tallystick.events import EVENT_TYPES, Event
from tallystick.journal import check_link, leaf_hash, parse_strict
from tallystick.kernel import apply
from tests.kernel.cases import RIGHT
from tests.support.kernel import USD, Scribe, picture, replayed

DID = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"

# ---------------------------------------------------------------- CLD-US-001: create accounts


def test_CLD_US_001_an_account_is_created_on_first_use_and_its_balance_can_be_read(ledger: Scribe):
    assert ledger.book.exists(DID) is False
    assert ledger.balance(DID) == 0
    ledger.mint(DID, 5)
    assert ledger.book.exists(DID) is True
    assert ledger.balance(DID) == 5


def test_CLD_US_001_one_did_is_one_account(ledger: Scribe):
    ledger.do(c.OpenAccount, account=DID)
    ledger.refused(e.AccountExists, c.OpenAccount, account=DID)
    ledger.refused(e.InvalidInput, c.OpenAccount, account="did:key:")


# ---------------------------------------------------------------- CLD-US-002: ledger event writes


@pytest.mark.parametrize("name", ["mint", "burn", "transfer", "hold", "release"])
def test_CLD_US_002_these_event_types_are_written_and_chained(ledger: Scribe, name: str):
    event = ledger.post(RIGHT[name](ledger))
    assert event.type == name
    check_link(event, len(ledger.bodies) - 1, leaf_hash(ledger.bodies[-2]))


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_CLD_US_002_every_command_needs_an_idempotency_key_and_its_event_keeps_it(ledger: Scribe, name: str):
    command = RIGHT[name](ledger)
    with pytest.raises(e.InvalidInput) as caught:
        ledger.sealed(msgspec.structs.replace(command, key=""))
    assert caught.value.data["path"] == "key"
    assert ledger.post(command).idem == command.key


def test_CLD_US_002_the_hash_of_every_event_is_in_the_one_after_it(ledger: Scribe):
    for _ in range(5):
        ledger.mint("alice", 1)
    names = [parse_strict(body)["prev"] for body in ledger.bodies]
    assert names == ["0" * 64, *(leaf_hash(body) for body in ledger.bodies[:-1])]


# ---------------------------------------------------------------- CLD-US-003: hold and release


def test_CLD_US_003_a_hold_is_an_event_and_is_released_or_cancelled(ledger: Scribe):
    ledger.mint("alice", 100)
    first, second = ledger.hold("alice", 30), ledger.hold("alice", 70)
    ledger.do(c.Capture, hold=first, splits=(c.Split("bob", 30),))
    ledger.do(c.Release, hold=second)
    assert [event.type for event in ledger.events[-4:]] == ["hold", "hold", "capture", "release"]
    assert (ledger.balance("alice"), ledger.balance("bob")) == (70, 30)


def test_CLD_US_003_no_balance_goes_below_zero(ledger: Scribe):
    ledger.mint("alice", 100)
    ledger.hold("alice", 100)
    ledger.refused(e.InsufficientFunds, c.Hold, account="alice", asset=USD, amount=1)
    ledger.refused(e.InsufficientFunds, c.Transfer, from_account="alice", to_account="bob", asset=USD, amount=1)


# ---------------------------------------------------------------- CLD-US-007: buckets


def test_CLD_US_007_available_held_bonded_fees_and_promo_are_kept_apart(ledger: Scribe):
    ledger.mint("alice", 100)
    ledger.hold("alice", 20)
    ledger.stake("alice", 30)
    ledger.transact("fee", Leg("alice", "@fees", USD, 5, "available", "fees"))
    ledger.transact("promo_mint", Leg("@issuance", "alice", USD, 7, "available", "promo"))
    assert ledger.buckets("alice") == {"available": 45, "held": 20, "bonded": 30, "promo": 7}
    assert ledger.buckets("@fees") == {"fees": 5}


def test_CLD_US_007_no_bucket_gives_more_than_it_has(ledger: Scribe):
    ledger.mint("alice", 10)
    hold, stake = ledger.hold("alice", 4), ledger.stake("alice", 6)
    ledger.transact("promo_mint", Leg("@issuance", "alice", USD, 7, "available", "promo"))
    ledger.refused(e.InsufficientFunds, c.Post, type="burn", legs=(Leg("alice", "@issuance", USD, 1),))
    ledger.refused(e.OverCapture, c.Release, hold=hold, amount=5)
    ledger.refused(e.OverCapture, c.StakeRelease, stake=stake, amount=7, refs={"escrow": "esc-1"})
    ledger.refused(e.InsufficientFunds, c.Post, type="promo_burn", legs=(Leg("alice", "@issuance", USD, 8, "promo"),))
    ledger.refused(
        e.InsufficientFunds,
        c.Post,
        type="fee_burn",
        legs=(Leg("@fees", "@issuance", USD, 1, "fees"),),
        refs={"order": "o"},
    )


# ---------------------------------------------------------------- CLD-US-008: stake and fee events

STAKE_AND_FEE = ("stake_lock", "stake_slash", "stake_release", "fee_burn", "fee_transfer", "promo_mint", "promo_burn")


@pytest.mark.parametrize("name", STAKE_AND_FEE)
def test_CLD_US_008_each_is_a_type_of_its_own_and_a_link_of_the_chain(ledger: Scribe, name: str):
    event = ledger.post(RIGHT[name](ledger))
    assert event.type == name
    assert event.prev == leaf_hash(ledger.bodies[-2])


@pytest.mark.parametrize("name", [name for name in STAKE_AND_FEE if not name.startswith("promo")])
@pytest.mark.parametrize("reference", ["escrow", "trial"])
def test_CLD_US_008_stake_and_fee_events_link_to_escrow_or_trial(ledger: Scribe, name: str, reference: str):
    command = RIGHT[name](ledger)
    with pytest.raises(e.ReferenceRequired):
        ledger.sealed(msgspec.structs.replace(command, refs=None))
    event = ledger.post(msgspec.structs.replace(command, refs={reference: "case-1"}))
    assert event.refs == {reference: "case-1"}


# ---------------------------------------------------------------- CLD-US-009: clearing accounts


def test_CLD_US_009_each_domain_has_a_clearing_account_made_on_first_use(ledger: Scribe):
    ledger.mint("alice", 100)
    for domain in ("ads", "compute.eu"):
        ledger.pay("alice", f"@clearing:{domain}", 10)
        ledger.pay(f"@clearing:{domain}", "bob", 4)
        assert ledger.balance(f"@clearing:{domain}") == 6


def test_CLD_US_009_a_settlement_stores_its_netting_batch_and_is_refused_without_one(ledger: Scribe):
    ledger.mint("@clearing:ads", 100)
    legs = (Leg("@clearing:ads", "alice", USD, 60), Leg("@clearing:ads", "bob", USD, 40))
    ledger.refused(e.ReferenceRequired, c.Post, type="settlement", legs=legs)
    event = ledger.transact("settlement", *legs, refs={"netting_batch": "net-2026-01"})
    assert parse_strict(ledger.bodies[-1])["refs"] == event.refs == {"netting_batch": "net-2026-01"}


def test_CLD_US_009_a_settlement_goes_through_a_clearing_account(ledger: Scribe):
    ledger.mint("alice", 10)
    legs, refs = (Leg("alice", "bob", USD, 1),), {"netting_batch": "n"}
    ledger.refused(e.MoveNotAllowed, c.Post, type="settlement", legs=legs, refs=refs)


# ---------------------------------------------------------------- the settlement format


@pytest.mark.parametrize("name", sorted(name for name, row in EVENT_TYPES.items() if row.moves))
def test_settlement_format_every_entry_records_the_balance_before_and_after(ledger: Scribe, name: str):
    ledger.post(RIGHT[name](ledger))
    entries = json.loads(ledger.bodies[-1])["entries"]
    assert entries
    for entry in entries:
        assert int(entry["after"]) == int(entry["before"]) + int(entry["amount"])
        assert entry.keys() == {"account", "asset", "bucket", "amount", "before", "after", "version"}


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_settlement_format_every_entry_is_found_in_time_place_account_and_type(ledger: Scribe, name: str):
    event = ledger.post(RIGHT[name](ledger))
    wire = parse_strict(ledger.bodies[-1])
    assert wire["type"] == name
    assert f"{wire['ledger']}/{wire['seq']}" == event.id
    assert wire["time"] == ledger.now


def test_settlement_format_an_entry_is_never_changed_corrections_are_new_entries_that_name_it(ledger: Scribe):
    ledger.mint("alice", 10)
    payment = ledger.pay("alice", "bob", 10)
    written = list(ledger.bodies)
    reversal = ledger.do(c.Reverse, transaction=payment.id)
    fix = {"refs": {"corrects": payment.id}, "reason": "wrong payee", "actor": "ops"}
    ledger.transact("adjustment", Leg("alice", "carol", USD, 10), **fix)
    assert ledger.bodies[: len(written)] == written
    assert reversal.data["reverses"] == payment.id
    with pytest.raises(AttributeError):
        payment.type = "mint"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("deposit", "tx_hash"), ("withdrawal", "external_ref"), ("bet_stake", "round"), ("bet_settlement", "round"),
        ("bet_rollback", "round"), ("settlement", "netting_batch"), ("adjustment", "corrects"),
        ("stake_slash", "trial"),
        ("commitment_create", "commitment"), ("commitment_fulfil", "commitment"), ("commitment_cancel", "commitment"),
        ("federation_import", "external_ref"), ("federation_export", "external_ref"),
    ],
)  # fmt: skip
def test_settlement_format_a_causal_reference_is_required_and_stored(ledger: Scribe, name: str, cause: str):
    command = RIGHT[name](ledger)
    with pytest.raises(e.ReferenceRequired):
        ledger.sealed(msgspec.structs.replace(command, refs=None))
    with pytest.raises(e.ReferenceRequired):
        ledger.sealed(msgspec.structs.replace(command, refs={"trace_id": "t-1"}))
    assert cause in ledger.post(command).refs


def test_settlement_format_event_types_are_exclusive_and_exhaustive(ledger: Scribe):
    for name in ("account_fee", "TRANSFER", "bet settlement", ""):
        ledger.refused(e.TypeNotFound, c.Post, type=name, legs=(Leg("a", "b", USD, 1),))
        stray = Event(type=name, ledger="main", seq=ledger.book.seq, time=ledger.now)
        with pytest.raises(e.LedgerCorrupt, match="is not a type of this ledger"):
            apply(ledger.book, stray)
    assert all(row.name == name and row.summary for name, row in EVENT_TYPES.items())


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_settlement_format_the_same_commands_in_the_same_order_make_the_same_bytes(name: str):
    def written() -> list[bytes]:
        scribe = Scribe()
        scribe.do(c.OpenLedger, name="main")
        scribe.post(RIGHT[name](scribe))
        return scribe.bodies

    assert written() == written()


def test_settlement_format_replay_in_order_gives_the_same_books_and_out_of_order_is_refused(ledger: Scribe):
    ledger.mint("alice", 10)
    ledger.pay("alice", "bob", 10)
    ledger.pay("bob", "carol", 10)
    assert picture(replayed(ledger)) == picture(ledger.book)
    ledger.bodies[2], ledger.bodies[3] = ledger.bodies[3], ledger.bodies[2]
    with pytest.raises(e.LedgerCorrupt, match="event 2 was expected"):
        replayed(ledger)
    ledger.bodies[2], ledger.bodies[3] = ledger.bodies[3], ledger.bodies[2]


def test_settlement_format_no_entry_depends_on_what_comes_later(ledger: Scribe):
    ledger.refused(e.InsufficientFunds, c.Transfer, from_account="alice", to_account="bob", asset=USD, amount=1)
    ledger.mint("alice", 1)
    ledger.pay("alice", "bob", 1)


def test_settlement_format_time_never_runs_backwards(ledger: Scribe):
    ledger.wait(60)
    ledger.mint("alice", 1)
    ledger.now = "2026-01-01T00:00:59.999999Z"
    event, _, _ = ledger.sealed(ledger.command(c.DefineAsset, asset="JPY"))
    with pytest.raises(e.LedgerCorrupt, match="is before"):
        apply(ledger.book, event)
