"""Back-dating through the store: the lowest that a balance stood at is found again by adding up every instant."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tallystick
from tallystick.commands import Leg, Post
from tallystick.errors import Refusal
from tallystick.events import Event
from tallystick.journal import decode_event
from tallystick.ledger.desk import Desk
from tallystick.stores.memory import MemoryStore
from tests.support.kernel import USD, lowest_since

MINUTE = [f"2026-01-01T00:{minute:02}:00.000000Z" for minute in range(60)]
PAYERS = ("alice", "bob")

steps = st.tuples(
    st.booleans(),
    st.integers(1, 60),
    st.integers(0, 3),
    st.one_of(st.none(), st.integers(1, 12)),
)
"""Who pays, how much, minutes since the step before, and how many minutes ago it took effect."""


def pay(key: int, alice_pays: bool, amount: int, effective: str = "") -> Post:
    payer, payee = PAYERS if alice_pays else reversed(PAYERS)
    return Post(key=f"k-{key}", type="transfer", legs=(Leg(payer, payee, USD, amount),), effective=effective)


def mint(account: str) -> Post:
    return Post(key=f"mint-{account}", type="mint", legs=(Leg("@issuance", account, USD, 100),))


def allowed(events: list[Event], command: Post, now: str) -> bool:
    """Whether the payer can pay this at its effective time, at every instant since."""
    leg = command.legs[0]
    return lowest_since(events, leg.from_account, USD, "available", command.effective or now) >= leg.amount


@settings(deadline=None)
@given(st.lists(steps, min_size=3, max_size=25))
def test_a_payment_goes_through_exactly_if_the_payer_could_have_paid_at_every_instant_since(
    acts: list[tuple[bool, int, int, int | None]],
):
    pay_all("memory://", acts)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=st.lists(steps, min_size=3, max_size=25))
def test_back_dated_payments_go_through_in_postgresql_exactly_if_they_do_in_memory(
    postgres: str, acts: list[tuple[bool, int, int, int | None]]
):
    pay_all(postgres, acts)


def pay_all(url: str, acts: list[tuple[bool, int, int, int | None]]) -> None:
    """The payments of these acts, in a ledger of their own; each goes through or not, as it must."""
    minute = 10
    with tallystick.open(url, clock=lambda: MINUTE[min(minute, 59)]) as book:
        ledger = book.ledger(f"book-{len(book.ledgers())}")
        for account in PAYERS:
            ledger.post(mint(account))
        for number, (alice_pays, amount, later, ago) in enumerate(acts):
            minute = min(minute + later, 59)
            events = [found.event for found in ledger.events()]
            command = pay(number, alice_pays, amount, MINUTE[max(minute - ago, 0)] if ago else "")
            try:
                ledger.post(command)
                went_through = True
            except Refusal:
                went_through = False
            assert went_through == allowed(events, command, MINUTE[minute])


def test_what_is_decided_but_not_stored_yet_counts_at_its_own_time():
    now = MINUTE[10]
    store = MemoryStore()
    desk = Desk(store, "main", lambda: now, {})
    desk.begin()
    desk.open_ledger()
    desk.decide([mint("alice"), mint("bob")])
    store.append([first := desk.take()])
    desk.stored(first.head.seq)

    now = MINUTE[20]
    desk.begin()
    desk.decide([pay(1, True, 100)])
    in_flight = desk.take()

    now = MINUTE[40]
    desk.begin()
    late = pay(2, False, 50, MINUTE[30])
    too_much, enough = pay(3, True, 1, MINUTE[15]), pay(4, True, 50, MINUTE[35])
    results = desk.decide([late, too_much, enough])
    assert [isinstance(result, Refusal) for result in results] == [False, True, False]

    last = desk.take()
    bodies = [*first.bodies, *in_flight.bodies, *last.bodies]
    events = [decode_event(body) for body in bodies]
    assert lowest_since(events, "alice", USD, "available", MINUTE[10]) == 0
