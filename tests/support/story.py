"""A short history with something of everything, and every question that a store can be asked about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tallystick import commands as c
from tallystick.clock import BEGINNING, END
from tallystick.commands import Leg, Post, Split
from tallystick.kernel import Lock
from tallystick.stores.base import OBJECT_TYPES, Head, Store, key_number
from tests.support.engine import START, Engine

EUR, USD = "EUR/2", "USD/2"
PEOPLE = ("users:alice", "users:bob", "users:carol", "did:key:z6MkAgent", "members:m1", "members:m2")


def tell(engine: Engine) -> Engine:
    """Post the whole story to the engine's store, in batches of different sizes."""
    engine.post(engine.open())
    engine.post(
        *(engine.mint(person, 10_000 + i, asset) for i, person in enumerate(PEOPLE[:4]) for asset in (USD, EUR))
    )
    _movements(engine)
    _holds(engine)
    _stakes_and_bets(engine)
    _members(engine)
    _state(engine)
    return engine


def _movements(engine: Engine) -> None:
    alice, bob, carol, agent = PEOPLE[:4]
    engine.post(engine.pay(alice, bob, 500, refs={"order": "o-1", "trace_id": "t-1"}))
    engine.post(
        engine.pay(bob, carol, 250, refs={"order": "o-2"}, reason="lunch", metadata={"note": "naïve café ✓"}),
        engine.pay(carol, agent, 125, refs={"order": "o-1"}),
        _post(engine, "fee", Leg(alice, "@fees", USD, 40, "available", "fees")),
        _post(engine, "deposit", Leg("@external:bank", bob, USD, 900), refs={"external_ref": "wire-1"}),
        _post(engine, "promo_mint", Leg("@issuance", carol, USD, 77, "available", "promo")),
        _post(engine, "transfer", Leg(alice, bob, USD, 5), Leg(bob, alice, EUR, 4)),
    )
    engine.post(_post(engine, "transfer", Leg(bob, alice, USD, 30), effective="2026-01-01T00:00:02.500000Z"))
    engine.post(c.Reverse(key=engine.key(), transaction=f"main/{engine.book.seq - 1}"))


def _holds(engine: Engine) -> None:
    alice, bob = PEOPLE[:2]
    for i in range(12):
        seconds = 30 + 60 * (11 - i)
        engine.post(
            c.Hold(key=engine.key(), account=PEOPLE[i % 3], asset=USD, amount=100 + i, expires_in_seconds=seconds)
        )
    holds = [lock.id for lock in locks_of(engine)]
    engine.post(
        c.Capture(key=engine.key(), hold=holds[0], splits=(Split(bob, 60), Split("@fees", 5, "fees")), final=False),
        c.Release(key=engine.key(), hold=holds[1]),
        c.HoldTopUp(key=engine.key(), hold=holds[2], amount=11),
        c.HoldExtend(key=engine.key(), hold=holds[3], expires="2026-06-01T00:00:00Z"),
    )
    capture = c.Capture(key=engine.key(), hold=holds[4], splits=(Split(alice, 50),))
    engine.post(capture)
    engine.post(c.FinalizeCharge(key=engine.key(), charge=f"main/{engine.book.seq - 1}"))
    engine.post(c.HoldExpire(key=engine.key(), hold=holds[11]), at="2026-01-01T00:01:00.000000Z")


def _stakes_and_bets(engine: Engine) -> None:
    alice, bob, carol, agent = PEOPLE[:4]
    case, game = {"escrow": "e-1"}, {"round": "r-1"}
    engine.post(
        c.StakeLock(key=engine.key(), account=agent, asset=USD, amount=300, refs=case),
        c.StakeLock(key=engine.key(), account=agent, asset=EUR, amount=200, refs=case),
        c.BetStake(key=engine.key(), account=carol, asset=EUR, amount=70, refs=game),
        c.BetStake(key=engine.key(), account=bob, asset=EUR, amount=80, refs=game),
    )
    stakes = [lock.id for lock in locks_of(engine, "stake")]
    bets = [lock.id for lock in locks_of(engine, "bet")]
    engine.post(
        c.StakeSlash(key=engine.key(), stake=stakes[0], to_account="@treasury", amount=100, refs=case),
        c.StakeRelease(key=engine.key(), stake=stakes[1], refs=case),
        c.BetSettlement(key=engine.key(), bet=bets[0], house=alice, payout=140, refs=game),
        c.BetRollback(key=engine.key(), bet=bets[1], refs=game),
    )


def _members(engine: Engine) -> None:
    one, two = PEOPLE[4:]
    promise = {"commitment": "c/7"}
    engine.post(*(c.OpenAccount(key=engine.key(), account=member, limits={USD: 1_000}) for member in (one, two)))
    engine.post(
        c.CommitmentCreate(key=engine.key(), member=one, asset=USD, amount=400, refs=promise),
        c.CommitmentFulfil(
            key=engine.key(), member=one, asset=USD, amount=150, legs=(Leg(one, two, USD, 150),), refs=promise
        ),
        c.CommitmentCancel(key=engine.key(), member=one, asset=USD, amount=50, refs=promise),
        _post(engine, "spot_payment", Leg(two, one, USD, 25)),
    )


def _state(engine: Engine) -> None:
    key = engine.key
    engine.post(
        c.SetLimit(key=key(), account=PEOPLE[4], asset=USD, limit=2_000, ceiling=5_000),
        c.SetPolicy(key=key(), changes={"limit_max": 9_000}),
        c.DefineAsset(key=key(), asset="GOLD/4", name="Gold"),
        c.DefineType(key=key(), name="marketplace_sale", requires=("order",)),
        c.RecordReserve(key=key(), reserve="vault:1", asset=USD, value=10**15, haircut_bps=250),
        c.IssueAttestation(key=key(), digest="ab" * 32, statement={"covered": "yes"}),
        c.RotateKey(key=key(), public_key="did:key:z6MkLedger"),
        c.OpenAccount(key=key(), account="users:dormant", owner="did:key:z6MkOwner"),
        c.FreezeAccount(key=key(), account="users:carol"),
        c.UnfreezeAccount(key=key(), account="users:carol"),
        c.CloseAccount(key=key(), account="users:dormant"),
    )
    engine.post(c.ClosePeriod(key=key(), until=START))


def _post(engine: Engine, event_type: str, *legs: Leg, **more: Any) -> Post:
    return Post(key=engine.key(), type=event_type, legs=legs, **more)


def locks_of(engine: Engine, kind: str = "hold") -> list[Lock]:
    """The locks of one kind in the engine's book, in the order in which they were opened."""
    return [value for (what, _), value in engine.book.objects.items() if what == "lock" and value.kind == kind]


# ---------------------------------------------------------------- what can be asked

Questions = dict[str, Callable[[Store], Any]]


def questions(engine: Engine, some: Sequence[int] = ()) -> Questions:
    """Every question about this engine's ledger that any store must answer alike, by a name for it.

    In a long ledger ``some`` events stand for all of them where each would be asked about.
    """
    ledger, events = engine.book.name, engine.history
    count = len(events)
    each = some or range(count + 1)
    addresses = sorted(
        {e.account for event in events for e in event.entries} | set(PEOPLE) | {"users:dormant", "nobody"}
    )
    numbers = [key_number(event.source, event.idem) for event in events]
    references = sorted({pair for event in events for pair in event.refs.items()})
    times = sorted({events[seq].time for seq in each if seq < count} | {BEGINNING, START, END})
    balances = list(range(1, engine.book.balances_made + 1))
    asked: Questions = {
        "ledgers": lambda store: store.ledgers(),
        "head": lambda store: store.head(ledger),
        "end of the journal": lambda store: end_of(store.head(ledger)),
        "events": lambda store: store.events(ledger, 0, count),
        "each event": lambda store: [store.event(ledger, seq) for seq in each],
        "accounts": lambda store: store.accounts(ledger, "", "", 1_000),
        "load_accounts": lambda store: _by_name(store, ledger, addresses),
        "find_keys": lambda store: store.find_keys(ledger, numbers),
        "key_numbers": lambda store: sorted(store.key_numbers(ledger)),
        "seq_at": lambda store: [store.seq_at(ledger, time) for time in times],
        "balances": lambda store: store.balances(ledger),
        "balances of some": lambda store: store.balances(ledger, None, addresses[::2]),
        "balances before": lambda store: [store.balances(ledger, seq) for seq in each],
        "entries": lambda store: store.entries(ledger, balances, 0, count, 1_000_000),
        "entries of each": lambda store: [store.entries(ledger, [id_], 0, count, 1_000_000) for id_ in balances],
        "backdated": lambda store: sorted(store.backdated(ledger)),
        "references": lambda store: [store.references(ledger, *pair) for pair in references],
        "locks": lambda store: store.locks(ledger, limit=1_000),
        "locks due": lambda store: store.locks(ledger, due=END, limit=1_000),
        "open locks": lambda store: store.locks(ledger, state="active", limit=1_000),
        "locks of each": lambda store: [store.locks(ledger, account=address, limit=1_000) for address in addresses],
    }
    for kind in OBJECT_TYPES:
        asked[f"objects {kind}"] = lambda store, kind=kind: store.load_objects(ledger, kind)
    return asked


def end_of(head: Head | None) -> tuple[int, str, str] | None:
    """What the journal alone says of a head; the count of balances is derived."""
    return head and (head.seq, head.hash, head.time)


def ask(store: Store, asked: Questions) -> dict[str, Any]:
    """The answers to all of these questions."""
    return {name: question(store) for name, question in asked.items()}


def _by_name(store: Store, ledger: str, addresses: list[str]) -> dict[str, Any]:
    loaded = store.load_accounts(ledger, addresses)
    return {
        address: (account.declared, sorted(account.balances, key=lambda row: row[:2]))
        for address, account in loaded.items()
    }
