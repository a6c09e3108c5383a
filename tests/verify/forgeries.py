"""Wrong events, each of which breaks one rule in an otherwise faultless journal.

A forgery takes the place of one event of the journey, behind the right hash of the one before. It is told by the
verdict that must fail and the field that must be named; ``tests/vectors/profile1/broken.jsonl`` has the same as bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.verify.bundles import Events, encoded, events_of
from tests.verify.journey import ALICE, BOB, CAROL, EUR, HOUSE, MIA, NOA, USD

Event = dict[str, Any]
Change = Callable[[Events, int], Event]


class Forgery(NamedTuple):
    """What is wrong, which event it replaces, what must be found, and how the event is made from those before."""

    verdict: str
    name: str
    field: str
    type: str
    nth: int
    make: Change

    def place(self, events: Events) -> int:
        """The number of the event that it replaces."""
        return [event["seq"] for event in events if event["type"] == self.type][self.nth]

    def body(self, bodies: list[bytes]) -> tuple[int, bytes]:
        """Its number and its bytes."""
        events = events_of(bodies)
        seq = self.place(events)
        return seq, encoded(self.make(events, seq))


def entries(events: Events, seq: int, *changes: tuple[str, str, str, int]) -> list[dict[str, Any]]:
    """Entries that make these changes to the balances as they stand before event ``seq``."""
    stand: dict[tuple[str, str, str], tuple[int, int]] = {}
    for event in events[:seq]:
        for entry in event.get("entries", ()):
            stand[entry["account"], entry["asset"], entry["bucket"]] = (int(entry["after"]), entry["version"])
    made = []
    for account, asset, bucket, amount in changes:
        before, version = stand.get((account, asset, bucket), (0, 0))
        place = {"account": account, "asset": asset, "bucket": bucket, "version": version + 1}
        made.append({**place, "amount": str(amount), "before": str(before), "after": str(before + amount)})
    return made


def moving(
    payer: str, payee: str, amount: int, asset: str = USD, from_bucket: str = "available", to_bucket: str = "available"
) -> list[tuple[str, str, str, int]]:
    return [(payer, asset, from_bucket, -amount), (payee, asset, to_bucket, amount)]


def fields(**changes: Any) -> Change:
    """The event with these fields set; None takes a field away, and ``data`` and ``refs`` are merged."""

    def make(events: Events, seq: int) -> Event:
        event = dict(events[seq])
        for name, value in changes.items():
            if name in ("data", "refs"):
                merged = {**event.get(name, {}), **value}
                event[name] = {key: item for key, item in merged.items() if item is not None}
            else:
                event[name] = value
        return {name: value for name, value in event.items() if value not in (None, {})}

    return make


def paying(*changes: tuple[str, str, str, int], **others: Any) -> Change:
    """The event with entries that make these changes, and other fields set."""
    return lambda events, seq: fields(**others)(events, seq) | {"entries": entries(events, seq, *changes)}


def entry(number: int, **changes: Any) -> Change:
    """The event with one entry changed: numbers are added, texts replaced."""

    def make(events: Events, seq: int) -> Event:
        found = [dict(one) for one in events[seq]["entries"]]
        for name, value in changes.items():
            if isinstance(value, str):
                found[number][name] = value
            else:
                sum_ = int(found[number][name]) + value
                found[number][name] = sum_ if name == "version" else str(sum_)
        return {**events[seq], "entries": found}

    return make


def _instead(type: str, change: Change | None = None, **data: Any) -> Change:
    """Another event in this place: its type and data, and nothing of what was there."""

    def make(events: Events, seq: int) -> Event:
        kept = {name: events[seq][name] for name in ("idem", "ledger", "prev", "seq", "source", "time", "v")}
        events = [*events[:seq], {**kept, "type": type, **({"data": data} if data else {})}]
        return change(events, seq) if change else events[seq]

    return make


_A, _H, _F = "available", "held", "fees"


def _amount(events: Events, seq: int, amount: int) -> Event:
    first, *others = events[seq]["entries"]
    return {**events[seq], "entries": [{**first, "amount": amount}, *others]}


def _twice(events: Events, seq: int) -> Event:
    made = entries(events, seq, (ALICE, USD, _A, -1), (ALICE, USD, _A, -1), (BOB, USD, _A, 2))
    after = int(made[0]["after"])
    made[1].update(before=str(after), after=str(after - 1), version=made[0]["version"] + 1)
    return {**events[seq], "entries": made}


def _captured(events: Events, seq: int, amount: int) -> Event:
    return paying(*moving(ALICE, BOB, amount, USD, _H), data={"taken": str(amount)})(events, seq)


def _freed(events: Events, seq: int, amount: int) -> Event:
    return paying(*moving(MIA, MIA, amount, USD, _H, _A), data={"freed": str(amount)})(events, seq)


def _promised(events: Events, seq: int, account: str) -> Event:
    data = {"commitment": f"commitment c/7 {account} USD/2"}
    return paying(*moving(account, account, 100, USD, _A, _H), data=data)(events, seq)


def _undone_charge(events: Events, seq: int) -> Event:
    charge = next(event["data"]["charge"] for event in events if event["type"] == "charge_finalized")
    return paying(*moving(CAROL, ALICE, 1), data={"reverses": charge})(events, seq)


def _final_again(events: Events, seq: int) -> Event:
    data = next(event["data"] for event in events if event["type"] == "charge_finalized")
    return _instead("charge_finalized", **data)(events, seq)


def _policy(events: Events, seq: int, **changes: Any) -> Event:
    return fields(data={"policy": {**events[seq]["data"]["policy"], **changes}})(events, seq)


Row = tuple[str, str, str, int, Change]
"""Its name, the field, the type of the event that it replaces, which one of them, and how it is made."""

_BYTES: list[Row] = [
    ("an unknown field", "note", "transfer", 0, fields(note="x")),
    ("a missing field", "idem", "transfer", 0, fields(idem=None)),
    ("an empty field", "actor", "transfer", 0, lambda e, n: {**e[n], "actor": ""}),
    ("an empty list", "entries", "account_opened", 0, lambda e, n: {**e[n], "entries": []}),
    ("another profile", "v", "transfer", 0, fields(v=2)),
    ("a number for an amount", "entries[0].amount", "mint", 0, lambda e, n: _amount(e, n, -10_000)),
    ("an amount with a leading zero", "entries[0].amount", "mint", 0, entry(0, amount="-010000")),
    ("an amount beyond 63 bits", "entries[1].after", "mint", 0, entry(1, after=str(2**63))),
    ("minus nothing", "entries[1].before", "mint", 0, entry(1, before="-0")),
    ("a bucket that is none", "entries[0].bucket", "transfer", 0, entry(0, bucket="pocket")),
    ("an account that is none", "entries[1].account", "transfer", 0, entry(1, account="users::bob")),
    ("an asset that is none", "entries[1].asset", "transfer", 0, entry(1, asset="usd/2")),
    ("a day that is none", "time", "transfer", 0, fields(time="2026-02-30T00:00:00.000000Z")),
    ("a time without its fraction", "time", "transfer", 0, fields(time="2026-03-01T00:00:00Z")),
    ("an unknown reference", "refs.invoice", "deposit", 0, fields(refs={"invoice": "7"})),
    ("a null", "", "policy_set", 0, lambda e, n: {**e[n], "data": {**e[n]["data"], "x": None}}),
    ("a fraction", "", "policy_set", 0, fields(data={"x": 0.5})),
    ("an integer beyond 2^53", "", "policy_set", 0, fields(data={"x": 2**53})),
]

_CHAIN: list[Row] = [
    ("a number left out", "seq", "transfer", 1, lambda e, n: {**e[n], "seq": n + 1}),
    ("a hash of something else", "prev", "transfer", 1, fields(prev="ab" * 32)),
    ("time running backwards", "time", "transfer", 1, fields(time="2026-01-01T00:00:00.000001Z")),
    ("an event of another ledger", "ledger", "transfer", 1, fields(ledger="other")),
]

_ACCOUNTING: list[Row] = [
    # every transaction
    ("entries that do not add up", "entries", "transfer", 0, entry(1, amount=1, after=1)),
    ("a balance before that was not", "entries[0].before", "transfer", 0, entry(0, before=1, after=1)),
    ("a wrong sum of an entry", "entries[1].after", "transfer", 0, entry(1, after=1)),
    ("a version gap", "entries[1].version", "transfer", 0, entry(1, version=1)),
    ("a version used twice", "entries[0].version", "transfer", 1, entry(0, version=-1)),
    ("an overdrawn balance", "entries[0].after", "transfer", 0, paying(*moving(ALICE, BOB, 10_001))),
    ("a balance changed twice", "entries[1]", "transfer", 0, _twice),
    ("a key used again", "idem", "transfer", 1, fields(idem="key-1")),
    ("a type that is none", "type", "transfer", 0, fields(type="teleport")),
    ("a reference left out", "refs", "deposit", 0, fields(refs={"tx_hash": None})),
    ("a reason left out", "data.reason", "governance_adjustment", 0, fields(data={"reason": None})),
    ("an actor left out", "actor", "adjustment", 0, fields(actor=None)),
    ("a transfer out of issue", "entries[0]", "transfer", 0, paying(*moving("@issuance", BOB, 1))),
    ("a fee into available", "entries[1]", "fee", 0, paying(*moving(ALICE, "@fees", 1))),
    ("a transfer of nothing", "entries", "transfer", 0, fields(entries=None)),
    ("value in a state event", "entries", "policy_set", 0, paying(*moving(ALICE, BOB, 1))),
    ("an asset of two scales", "entries[0].asset", "mint", 1, paying(*moving("@issuance", BOB, 1, "USD/3"))),
    ("back-dated to the future", "effective", "transfer", 4, fields(effective="2027-01-01T00:00:00.000000Z")),
    (
        "back-dated to before there was money",
        "effective",
        "transfer",
        4,
        fields(effective="2026-01-01T00:00:01.500000Z"),
    ),
    ("a hold that is back-dated", "effective", "hold", 0, fields(effective="2026-01-01T00:00:02.000000Z")),
    ("into a closed period", "effective", "transfer", -1, fields(effective="2025-12-31T00:00:00.000000Z")),
    # holds, stakes, bets, commitments
    ("a capture beyond its hold", "entries", "capture", 0, lambda e, n: _captured(e, n, 1_201)),
    ("taken is not what left", "data.taken", "capture", 0, fields(data={"taken": "314"})),
    ("a capture for the owner", "entries", "capture", 0, paying(*moving(ALICE, ALICE, 315, USD, _H, _A))),
    ("an expired hold captured", "time", "capture", 0, fields(time="2026-01-01T01:00:00.000000Z")),
    ("a hold that is not there", "data.hold", "release", 0, fields(data={"hold": "main/1"})),
    ("a stake taken for a hold", "data.hold", "stake_release", 0, _instead("release", hold="main/34")),
    ("a release to another", "entries", "release", 0, paying(*moving(ALICE, BOB, 85, USD, _H, _A))),
    ("expired before its time", "time", "hold_expire", 0, lambda e, n: {**e[n], "time": e[n - 1]["time"]}),
    ("expired in part", "entries", "hold_expire", 0, paying(*moving(BOB, BOB, 76, USD, _H, _A))),
    ("a hold without an expiry", "data.expires", "hold", 0, fields(data={"expires": None})),
    (
        "extended into the past",
        "data.expires",
        "hold_extend",
        0,
        fields(data={"expires": "2026-01-01T00:00:00.000000Z"}),
    ),
    ("a slash for the owner", "entries", "stake_slash", 0, paying(*moving(CAROL, CAROL, 250, USD, "bonded", _A))),
    ("a payout that was not paid", "entries", "bet_settlement", 0, fields(data={"payout": "151"})),
    ("a bet on another round", "refs.round", "bet_settlement", 0, fields(refs={"round": "r-9"})),
    ("freed is not what left", "data.freed", "commitment_cancel", 0, fields(data={"freed": "99"})),
    ("more freed than reserved", "data.freed", "commitment_cancel", 0, lambda e, n: _freed(e, n, 501)),
    (
        "another's commitment",
        "data.commitment",
        "commitment_create",
        0,
        fields(data={"commitment": "commitment c/7 members:noa USD/2"}),
    ),
    ("a promise of no member", "entries", "commitment_create", 0, lambda e, n: _promised(e, n, ALICE)),
    # members and accounts
    ("a member beyond its limit", "entries", "spot_payment", 0, paying(*moving(MIA, NOA, 2_001))),
    ("a reserve beyond the limit", "entries", "commitment_create", 0, paying(*moving(MIA, MIA, 1_401, USD, _A, _H))),
    (
        "a ceiling exceeded",
        "entries[1].after",
        "spot_payment",
        0,
        _instead("mint", paying(*moving("@issuance", MIA, 50_001))),
    ),
    ("a frozen account pays", "entries[0]", "transfer", -2, paying(*moving(CAROL, ALICE, 1))),
    ("a closed account is paid", "entries[1]", "transfer", -1, paying(*moving(MIA, HOUSE, 1))),
    ("an account declared twice", "data.account", "account_opened", 1, fields(data={"account": MIA})),
    ("a limit that the policy forbids", "data.limit", "limit_set", 0, fields(data={"limit": "9001"})),
    ("an unknown account frozen", "data.account", "account_frozen", 0, fields(data={"account": "users:eve"})),
    ("an active account unfrozen", "data.account", "account_unfrozen", 0, fields(data={"account": ALICE})),
    ("an account ended with a rest", "data.account", "account_closed", 0, fields(entries=None)),
    ("an undeclared account", "entries[1].account", "transfer", -1, paying(*moving(MIA, "users:eve", 1))),
    ("a holder without a floor", "data.floorless", "account_opened", 0, fields(data={"floorless": True})),
    # repair
    ("more undone than was done", "entries[0].amount", "reversal", 0, paying(*moving(CAROL, ALICE, 501))),
    ("undone in favour of another", "entries[1].amount", "reversal", 0, paying(*moving(CAROL, BOB, 40))),
    ("undone the wrong way round", "entries[0].amount", "reversal", 0, paying(*moving(ALICE, CAROL, 40))),
    ("undone twice", "entries[0].amount", "reversal", 2, paying(*moving(BOB, ALICE, 61))),
    ("a reversal of what cannot be", "data.reverses", "reversal", 0, fields(data={"reverses": "main/27"})),
    ("a reversal of the future", "data.reverses", "reversal", 0, fields(data={"reverses": "main/78"})),
    ("a final charge undone", "data.reverses", "reversal", 1, _undone_charge),
    ("a charge final twice", "data.charge", "hold", 1, _final_again),
    ("another hold's charge", "data.hold", "charge_finalized", 0, fields(data={"hold": "main/1"})),
    ("a correction of nothing", "refs.corrects", "adjustment", 0, fields(refs={"corrects": "main/999"})),
    # records
    ("an opening that comes late", "seq", "policy_set", 0, fields(type="ledger_opened", data={"name": "main"})),
    ("limits out of order", "data.policy", "policy_set", 0, lambda e, n: _policy(e, n, limit_min=9_500)),
    ("a policy left out", "data.policy", "policy_set", 0, fields(data={"policy": None})),
    ("an asset defined twice", "data.asset", "asset_defined", 0, fields(data={"asset": EUR})),
    ("a type out of a capture", "data.base", "type_defined", 0, fields(data={"base": "capture"})),
    ("a type without its reference", "refs", "marketplace_sale", 0, fields(refs={"order": None})),
    ("a haircut beyond the whole", "data.haircut_bps", "reserve_recorded", 0, fields(data={"haircut_bps": 10_001})),
    ("a period closed ahead", "data.until", "period_closed", 0, fields(data={"until": "2030-01-01T00:00:00.000000Z"})),
    ("a digest that is none", "data.digest", "attestation_issued", 0, fields(data={"digest": "AB" * 32})),
]

FORGERIES = [
    Forgery(verdict, *row)
    for verdict, rows in (("bytes", _BYTES), ("chain", _CHAIN), ("accounting", _ACCOUNTING))
    for row in rows
]
