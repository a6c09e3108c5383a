"""Back-dating: a movement may take effect earlier, if the books would have allowed it at every instant since."""

from __future__ import annotations

import pytest

from tallystick import commands as c
from tallystick import errors as e
from tallystick.commands import Leg
from tests.support.kernel import START, USD, Scribe, lowest_since

MINUTE = [f"2026-01-01T00:{minute:02}:00.000000Z" for minute in range(60)]


def pay(amount: int, effective: str, payer: str = "alice", payee: str = "bob") -> dict[str, object]:
    return {"type": "transfer", "legs": (Leg(payer, payee, USD, amount),), "effective": effective}


@pytest.fixture
def history(ledger: Scribe) -> Scribe:
    """Alice stands at 100 from minute 10, at 30 from minute 20, at 90 from minute 30; it is minute 40."""
    ledger.now = MINUTE[10]
    ledger.mint("alice", 100)
    ledger.now = MINUTE[20]
    ledger.pay("alice", "bob", 70)
    ledger.now = MINUTE[30]
    ledger.mint("alice", 60)
    ledger.now = MINUTE[40]
    return ledger


@pytest.mark.parametrize(
    ("minute", "most"), [(9, 0), (10, 30), (15, 30), (20, 30), (29, 30), (30, 90), (39, 90)], ids=str
)
def test_a_back_dated_payment_is_bounded_by_the_lowest_that_the_balance_stood_at_since(
    history: Scribe, minute: int, most: int
):
    refusal = history.refused(e.BackdatedOverdraft, c.Post, **pay(most + 1, MINUTE[minute])) if most < 90 else None
    if refusal:
        assert refusal.data["balance"] == -1
        assert refusal.data["effective"] == MINUTE[minute]
    else:
        history.refused(e.InsufficientFunds, c.Post, **pay(91, MINUTE[minute]))
    if most:
        event = history.do(c.Post, **pay(most, MINUTE[minute]))
        assert (event.time, event.effective) == (MINUTE[40], MINUTE[minute])
        assert lowest_since(history.events, "alice", USD, "available", START) == 0


def test_a_second_back_dated_payment_counts_the_first(history: Scribe):
    history.do(c.Post, **pay(20, MINUTE[15]))
    history.refused(e.BackdatedOverdraft, c.Post, **pay(11, MINUTE[25]))
    history.do(c.Post, **pay(10, MINUTE[25]))


def test_a_back_dated_receipt_makes_room_for_a_back_dated_payment(history: Scribe):
    history.mint("bob", 50)
    history.refused(e.BackdatedOverdraft, c.Post, **pay(50, MINUTE[12]))
    history.do(c.Post, **pay(20, MINUTE[21], "bob", "alice"))
    history.do(c.Post, **pay(50, MINUTE[21]))


def test_what_is_held_since_is_not_there_to_be_spent_earlier(history: Scribe):
    history.hold("alice", 90)
    history.refused(e.InsufficientFunds, c.Post, **pay(1, MINUTE[30]))


def test_a_member_may_have_owed_up_to_its_limit(history: Scribe):
    history.member("mia", 2_000)
    history.do(c.Post, **pay(2_000, MINUTE[5], "mia"))
    assert history.refused(e.BackdatedOverdraft, c.Post, **pay(1, MINUTE[5], "mia")).data["floor"] == -2_000


def test_issuance_may_be_back_dated_without_bound(history: Scribe):
    history.do(c.Post, type="mint", legs=(Leg("@issuance", "carol", USD, 10**9),), effective="1999-12-31")


def test_now_is_not_back_dated_and_later_is_refused(history: Scribe):
    assert history.do(c.Post, **pay(1, MINUTE[40])).effective == ""
    refusal = history.refused(e.EffectiveInFuture, c.Post, **pay(1, "2026-01-01T00:40:00.000001Z"))
    assert refusal.data["now"] == MINUTE[40]


@pytest.mark.parametrize("effective", ["yesterday", "2026-01-01T00:10:00", "0001-01-01T00:00:00+14:00"])
def test_an_effective_time_that_is_none_is_refused(history: Scribe, effective: str):
    history.refused(e.InvalidInput, c.Post, **pay(1, effective))


# ---------------------------------------------------------------- closing


def test_nothing_takes_effect_before_a_closed_period_ends_and_its_last_instant_is_open(history: Scribe):
    history.do(c.ClosePeriod, until=MINUTE[30])
    refusal = history.refused(e.PeriodClosed, c.Post, **pay(1, "2026-01-01T00:29:59.999999Z"))
    assert refusal.data["closed"] == MINUTE[30]
    history.do(c.Post, **pay(1, MINUTE[30]))
    history.pay("alice", "bob", 1)


def test_a_period_closes_forward_only_and_not_beyond_now(history: Scribe):
    history.refused(e.InvalidInput, c.ClosePeriod, until="2026-01-01T00:40:00.000001Z")
    history.do(c.ClosePeriod, until=MINUTE[30])
    for until in (MINUTE[29], MINUTE[30], "nonsense"):
        history.refused(e.InvalidInput, c.ClosePeriod, until=until)
    history.do(c.ClosePeriod, until=MINUTE[40])
