"""Mandates: what an agent may spend, and not one minor unit more, whoever races with whom."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tallystick
from tallystick.access import Mandates, Principal, mandates
from tallystick.commands import (
    Capture,
    Command,
    Condition,
    Hold,
    HoldExpire,
    HoldExtend,
    HoldTopUp,
    Leg,
    Post,
    Release,
    Reverse,
    SetPolicy,
    Split,
    StakeLock,
    Transfer,
)
from tallystick.control import Mandate, Scope
from tallystick.errors import (
    ConditionFailed,
    Forbidden,
    HoldNotFound,
    IdempotencyConflict,
    InsufficientFunds,
    MandateExceeded,
    Refusal,
    Unavailable,
)
from tallystick.ledger import Database, Ledger
from tests.access.conftest import Hands
from tests.conftest import NewUrl
from tests.support.stores import LASTING

AGENT, USD = "agents:a", "USD/2"


@pytest.fixture
def database(url: str, clock: Hands) -> Iterator[Database]:
    with tallystick.open(url, clock=clock) as found:
        yield found


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return funded(database)


@pytest.fixture
def mandated(database: Database) -> Mandates:
    return Mandates(database.ledger)


@pytest.fixture
def quick(clock: Hands) -> Iterator[Database]:
    """A passing database, for rules that are no matter of the store."""
    with tallystick.open("memory://", clock=clock) as found:
        funded(found)
        yield found


def funded(database: Database) -> Ledger:
    ledger = database.ledger("main")
    ledger.mint(AGENT, USD, 10_000, key="mint")
    ledger.mint("shops:a", USD, 10_000, key="mint shop")
    return ledger


def agent(subject: str = "bot", **changes: object) -> Principal:
    fields: dict[str, object] = {"ledger": "main", "account": AGENT, "asset": USD, **changes}
    return Principal(subject, (Scope("post"), Scope("read")), "k" * 12, Mandate(**fields))  # type: ignore[arg-type]


keys = iter(range(10**9))


def pay(amount: int, to: str = "shops:a", key: str = "", **more: object) -> Transfer:
    fields: dict[str, object] = {"from_account": AGENT, "to_account": to, "asset": USD, "amount": amount, **more}
    return Transfer(key=key or f"k{next(keys)}", **fields)  # type: ignore[arg-type]


def freeze(amount: int, key: str = "") -> Hold:
    return Hold(key=key or f"k{next(keys)}", account=AGENT, asset=USD, amount=amount, expires_in_seconds=3_600)


def exceeded(found: Mandates, who: Principal, command: Command) -> dict[str, object]:
    with pytest.raises(MandateExceeded) as caught:
        found.post(who, "main", command)
    return caught.value.data


# ---------------------------------------------------------------- limits


def test_an_act_may_be_as_large_as_the_mandate_says_and_no_larger(ledger: Ledger, mandated: Mandates) -> None:
    who = agent(max_per_act=100)
    posted = mandated.post(who, "main", pay(100))
    event = ledger.transaction(posted.id).event
    assert (event.actor, event.source) == ("key:bot", "bot")
    assert exceeded(mandated, who, pay(101)) == {
        "limit": 100,
        "asked": 101,
        "left": 100,
        "resets": "9999-12-31T23:59:59.999999Z",
        "per": "act",
    }
    legs = (Leg(AGENT, "shops:a", USD, 60), Leg(AGENT, "shops:b", USD, 41))
    exceeded(mandated, who, Post(key="two legs", type="transfer", legs=legs))
    exceeded(mandated, who, freeze(101))


def test_a_day_ends_its_limit_and_begins_another(ledger: Ledger, mandated: Mandates, clock: Hands) -> None:
    who = agent(max_per_day=250)
    mandated.post(who, "main", pay(200))
    assert exceeded(mandated, who, pay(51)) == {
        "limit": 250,
        "asked": 51,
        "left": 50,
        "resets": "2026-11-22T00:00:00.000000Z",
        "per": "day",
    }
    mandated.post(who, "main", pay(50))
    exceeded(mandated, who, pay(1))
    clock.time = "2026-11-21T23:59:59.999999Z"
    exceeded(mandated, who, pay(1))
    clock.time = "2026-11-22T00:00:00.000000Z"
    mandated.post(who, "main", pay(250))
    exceeded(mandated, who, pay(1))
    assert ledger.balance(AGENT, USD) == 9_500


def test_what_was_spent_is_read_from_the_ledger_not_remembered(ledger: Ledger, mandated: Mandates) -> None:
    who = agent(max_per_day=250)
    mandated.post(who, "main", pay(200))
    anew = Mandates(lambda name: ledger)
    assert exceeded(anew, who, pay(51))["left"] == 50


def test_a_reading_that_fails_half_way_is_begun_anew(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    found, who = Mandates(lambda name: ledger), agent(max_per_day=500)
    for _ in range(5):
        found.post(who, "main", pay(10))
    anew, transaction, reads = Mandates(lambda name: ledger), ledger.transaction, []

    def failing(id: str | int) -> object:
        reads.append(id)
        if len(reads) == 3:
            raise Unavailable(reason="gone")
        return transaction(id)

    monkeypatch.setattr(ledger, "transaction", failing)
    with pytest.raises(Unavailable):
        anew.standing(who)
    assert anew.standing(who).spent == 50
    assert anew.post(who, "main", pay(450))
    exceeded(anew, who, pay(1))


@pytest.mark.parametrize("near", [0, 1, 50])
def test_much_or_little_may_have_happened_since(quick: Database, near: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mandates, "NEAR_EVENTS", near)
    found, who, ledger = Mandates(quick.ledger), agent(max_per_day=500), quick.ledger("main")
    for round in range(3):
        found.post(who, "main", pay(10))
        for number in range(round * 25):
            ledger.transfer("shops:a", "shops:b" if number % 2 else AGENT, USD, 1, key=f"{round}.{number}")
        assert found.standing(who).spent == (round + 1) * 10
        assert found.post(who, "main", pay(490 - round * 10), dry_run=True)
        exceeded(found, who, pay(491 - round * 10))


def test_only_what_this_actor_took_counts(ledger: Ledger, mandated: Mandates) -> None:
    who = agent(max_per_day=100)
    ledger.transfer(AGENT, "shops:a", USD, 500, key="operator", actor="key:operator")
    ledger.transfer("shops:a", AGENT, USD, 300, key="refund")
    mandated.post(agent("other", max_per_day=100), "main", pay(100))
    mandated.post(who, "main", pay(100))
    exceeded(mandated, who, pay(1))
    assert mandated.standing(who).spent == mandated.standing(agent("other", max_per_day=100)).spent == 100


def test_a_mandate_gives_no_money(ledger: Ledger, mandated: Mandates) -> None:
    with pytest.raises(InsufficientFunds):
        mandated.post(agent(max_per_day=10**9), "main", pay(10_001))


def test_the_standing_of_a_mandate_can_be_asked(ledger: Ledger, mandated: Mandates, clock: Hands) -> None:
    who = agent(max_per_day=100)
    assert mandated.standing(who) == mandates.Standing(0, 100, "2026-11-22T00:00:00.000000Z")
    mandated.post(who, "main", pay(30))
    assert mandated.standing(who).left == 70
    assert mandated.standing(agent()).left is None
    assert mandated.standing(agent(max_per_day=10)).left == 0  # it was lowered since
    with pytest.raises(Forbidden):
        mandated.standing(Principal("x", ()))


# ---------------------------------------------------------------- holds


def test_a_hold_counts_when_it_is_set_aside_and_not_when_it_is_captured(ledger: Ledger, mandated: Mandates) -> None:
    who = agent(max_per_day=100)
    hold = mandated.post(who, "main", freeze(100)).id
    exceeded(mandated, who, pay(1))
    mandated.post(who, "main", Capture(key="c", hold=hold, splits=(Split("shops:a", 100),)))
    exceeded(mandated, who, pay(1))


def test_what_a_hold_gives_back_can_be_spent_again(ledger: Ledger, mandated: Mandates, clock: Hands) -> None:
    who = agent(max_per_day=100)
    first = mandated.post(who, "main", freeze(60)).id
    mandated.post(who, "main", HoldTopUp(key="t", hold=first, amount=40))
    exceeded(mandated, who, pay(1))
    mandated.post(who, "main", Release(key="r", hold=first, amount=30))
    assert mandated.standing(who).spent == 70
    mandated.post(who, "main", Capture(key="c", hold=first, splits=(Split("shops:a", 50),)))  # 20 come back
    assert mandated.standing(who).spent == 50
    second = mandated.post(who, "main", freeze(50)).id
    exceeded(mandated, who, pay(1))
    clock.forward(3_601)
    ledger.expire(second, key="sweep")
    assert mandated.standing(who).spent == 50
    mandated.post(who, "main", pay(50))
    exceeded(mandated, who, pay(1))


def test_a_hold_of_yesterday_frees_nothing_today(ledger: Ledger, mandated: Mandates, clock: Hands) -> None:
    who = agent(max_per_day=100)
    clock.time = "2026-11-21T23:59:00.000000Z"
    hold = mandated.post(who, "main", freeze(100)).id
    clock.time = "2026-11-22T00:00:00.000000Z"
    mandated.post(who, "main", HoldTopUp(key="t", hold=hold, amount=30))
    mandated.post(who, "main", pay(70))
    mandated.post(who, "main", Release(key="r", hold=hold, amount=20))
    assert mandated.standing(who).spent == 80
    for part in (20, 50, 40):
        mandated.post(who, "main", Release(key=f"r{part}", hold=hold, amount=part))
        assert mandated.standing(who).spent == 70  # of the 130 only the 30 were of today


def test_another_ones_hold_frees_nothing(ledger: Ledger, mandated: Mandates) -> None:
    who = agent(max_per_day=100)
    hold = ledger.hold(AGENT, USD, 1_000, expires_in_seconds=60, key="operator's").id
    mandated.post(who, "main", pay(100))
    ledger.release(hold, key="r")
    exceeded(mandated, who, pay(1))


def test_another_ones_hold_is_not_touched(ledger: Ledger, mandated: Mandates) -> None:
    who = agent(payees=("shops:*",))
    others = ledger.hold(AGENT, USD, 1_000, expires_in_seconds=60, key="operator's").id
    shops = ledger.hold("shops:a", USD, 10, expires_in_seconds=60, key="shop's", actor="key:bot").id
    for hold in (others, shops):
        for command in (
            Capture(key="c", hold=hold, splits=(Split("shops:b"),)),
            Release(key="c", hold=hold),
            HoldTopUp(key="c", hold=hold, amount=1),
        ):
            with pytest.raises(Forbidden):
                mandated.post(who, "main", command)


def test_a_hold_that_is_not_there_yet_is_refused_before_it_is(ledger: Ledger, mandated: Mandates) -> None:
    soon = f"main/{ledger.head.seq}"
    for hold in (soon, "main/0", "", "other/1", "main/99999999999999999999"):
        with pytest.raises(HoldNotFound):
            mandated.bind(agent(), "main", Capture(key="c", hold=hold, splits=(Split("shops:b"),)))


def test_a_capture_of_the_rest_is_held_to_the_act(ledger: Ledger, mandated: Mandates) -> None:
    who = agent(max_per_act=60)
    hold = mandated.post(who, "main", freeze(60)).id
    rest = Capture(key="c", hold=hold, splits=(Split("shops:a"),))
    bound = mandated.bind(who, "main", rest)
    ledger.top_up(hold, 40, key="operator")
    with pytest.raises(ConditionFailed):
        ledger.post(bound)
    assert exceeded(mandated, who, rest)["asked"] == 100
    parts = tuple(Split(f"shops:{name}", 31) for name in "ab")
    exceeded(mandated, who, Capture(key="d", hold=hold, splits=parts))
    mandated.post(who, "main", Capture(key="e", hold=hold, splits=(Split("shops:a", 60),), final=False))
    first = mandated.post(who, "main", Capture(key="f", hold=hold, splits=(Split("shops:a"),)))
    again = mandated.post(who, "main", Capture(key="f", hold=hold, splits=(Split("shops:a"),)))
    assert (again.id, again.replayed) == (first.id, True)


# ---------------------------------------------------------------- payees, expiry, and what is out of reach


@pytest.mark.parametrize(
    ("payee", "allowed"),
    [
        ("shops:a", True),
        ("shops:a2", False),
        ("shops:", False),
        ("kiosks:x", True),
        ("kiosks", False),
        ("Shops:a", False),
        ("@fees", False),
        ("*", False),
        ("kiosks:*", True),
    ],
)
def test_payees_are_addresses_or_beginnings_of_them(quick: Database, payee: str, allowed: bool) -> None:
    found, who = Mandates(quick.ledger), agent(payees=("shops:a", "kiosks:*"))
    hold = found.post(who, "main", freeze(10)).id
    commands: list[Command] = [
        pay(1, payee),
        Capture(key="c", hold=hold, splits=(Split("shops:a", 1), Split(payee, 1))),
        Post(key="p", type="transfer", legs=(Leg(AGENT, "shops:a", USD, 1), Leg(AGENT, payee, USD, 1))),
    ]
    for command in commands:
        if allowed:
            assert found.bind(who, "main", command)
        else:
            with pytest.raises(Forbidden):
                found.bind(who, "main", command)


def test_nothing_goes_from_the_instant_in_which_a_mandate_expires(quick: Database, clock: Hands) -> None:
    found, who = Mandates(quick.ledger), agent(expires="2026-11-21T10:00:00.000000Z")
    clock.time = "2026-11-21T09:59:59.999999Z"
    hold = found.post(who, "main", freeze(10)).id
    clock.time = "2026-11-21T10:00:00.000000Z"
    for command in (pay(1), freeze(1), Release(key="r", hold=hold)):
        with pytest.raises(Forbidden, match="expired"):
            found.post(who, "main", command)


@pytest.mark.parametrize(
    "command",
    [
        Transfer(key="x", from_account="shops:a", to_account=AGENT, asset=USD, amount=1),
        Transfer(key="x", from_account=AGENT, to_account="shops:a", asset="EUR/2", amount=1),
        Transfer(key="x", from_account="agents:a2", to_account="shops:a", asset=USD, amount=1),
        Hold(key="x", account="shops:a", asset=USD, amount=1, expires_in_seconds=60),
        Post(key="x", type="transfer", legs=(Leg("shops:a", AGENT, USD, 1),)),
        Post(key="x", type="transfer", legs=(Leg(AGENT, "shops:a", USD, 1), Leg("shops:a", "eve", USD, 1))),
        Post(key="x", type="transfer", legs=(Leg(AGENT, "shops:a", USD, 1, "promo"),)),
        Post(key="x", type="transfer", legs=(Leg(AGENT, "shops:a", USD, 1),), effective="2026-11-20"),
        Post(key="x", type="mint", legs=(Leg("@issuance", AGENT, USD, 1),)),
        Post(key="x", type="fee", legs=(Leg(AGENT, "@fees", USD, 1, "available", "fees"),)),
        Post(key="x", type="withdrawal", legs=(Leg(AGENT, "@external:bank", USD, 1),), refs={"tx_hash": "x"}),
        HoldExtend(key="x", hold="main/3", expires_in_seconds=60),
        HoldExpire(key="x", hold="main/3"),
        StakeLock(key="x", account=AGENT, asset=USD, amount=1, refs={"escrow": "x"}),
        Reverse(key="x", transaction="main/3"),
        SetPolicy(key="x", changes={"strict": True}),
    ],
)
def test_everything_else_is_out_of_reach(quick: Database, command: Command) -> None:
    head = quick.ledger("main").head
    with pytest.raises(Forbidden):
        Mandates(quick.ledger).post(agent(), "main", command)
    assert quick.ledger("main").head == head


def test_a_mandate_is_for_its_ledger(quick: Database) -> None:
    with pytest.raises(Forbidden, match="ledger main"):
        Mandates(quick.ledger).post(agent(), "other", pay(1))


def test_who_has_no_mandate_only_gets_his_name(quick: Database) -> None:
    free = Principal("acme", (), "k" * 12)
    mint = Post(key="m", type="mint", legs=(Leg("@issuance", AGENT, USD, 1),), source="x", actor="y")
    bound = Mandates(quick.ledger).bind(free, "other", mint)
    assert (bound.source, bound.actor, bound.conditions) == ("acme", "key:acme", ())


def test_an_amount_that_is_none_is_left_to_the_ledger(quick: Database) -> None:
    for amount in (-5, 0, True, 2**63):
        with pytest.raises(Refusal):
            Mandates(quick.ledger).post(agent(max_per_day=100), "main", pay(amount))
    assert Mandates(quick.ledger).standing(agent()).spent == 0


# ---------------------------------------------------------------- asking again


def test_asking_again_gives_the_first_answer_when_nothing_is_left(
    ledger: Ledger, mandated: Mandates, clock: Hands
) -> None:
    who = agent(max_per_day=100, expires="2026-11-21T12:00:00.000000Z")
    commands = [pay(60, key="p"), freeze(40, key="h")]
    first = [mandated.post(who, "main", command) for command in commands]
    ledger.mint(AGENT, USD, 1, key="more")
    clock.forward(5 * 3_600)  # the mandate has expired by now
    again = [mandated.post(who, "main", command) for command in commands]
    assert [(found.id, found.replayed) for found in again] == [(found.id, True) for found in first]
    changed = agent(max_per_act=1)  # another mandate since
    assert mandated.post(changed, "main", commands[0]).id == first[0].id
    with pytest.raises(IdempotencyConflict):
        mandated.post(who, "main", pay(61, key="p"))


def test_a_dry_run_is_judged_and_spends_nothing(ledger: Ledger, mandated: Mandates) -> None:
    who = agent(max_per_day=100)
    mandated.post(who, "main", pay(100), dry_run=True)
    with pytest.raises(MandateExceeded):
        mandated.post(who, "main", pay(101), dry_run=True)
    assert mandated.standing(who).spent == 0


def test_the_callers_own_conditions_are_judged_too(ledger: Ledger, mandated: Mandates) -> None:
    own = (Condition(AGENT, USD, at_least=9_950),)
    who = agent(max_per_day=100)
    with pytest.raises(ConditionFailed) as caught:
        mandated.post(who, "main", pay(60, conditions=own))
    assert caught.value.data["condition"] == "at_least"
    assert mandated.post(who, "main", pay(50, conditions=own))


# ---------------------------------------------------------------- together


def test_commands_that_are_posted_together_count_together(ledger: Ledger, mandated: Mandates) -> None:
    who = agent(max_per_day=100)
    commands: list[Command] = [pay(30), freeze(30), pay(40)]
    with pytest.raises(MandateExceeded):
        mandated.bind_all(who, "main", [*commands, pay(1)])
    for atomic in (True, False):
        results = ledger.post_many(mandated.bind_all(who, "main", commands), atomic=atomic)
        assert not any(isinstance(result, Refusal) for result in results), results
    assert mandated.standing(who).spent == 100  # the second time the keys were known


def test_a_batch_may_mix_holds_and_payments(ledger: Ledger, mandated: Mandates) -> None:
    who = agent(max_per_act=50, max_per_day=200)
    hold = mandated.post(who, "main", freeze(50)).id
    twin = pay(10)
    commands: list[Command] = [
        freeze(10),
        Capture(key="c", hold=hold, splits=(Split("shops:a", 20),), final=False),
        Capture(key="d", hold=hold, splits=(Split("shops:a"),), final=False),
        twin,
        twin,
        freeze(5),
    ]
    results = ledger.post_many(mandated.bind_all(who, "main", commands), atomic=True)
    assert len(results) == 6
    assert mandated.standing(who).spent == 75


def test_a_capture_that_gives_back_is_reckoned_with(ledger: Ledger, mandated: Mandates) -> None:
    who = agent(max_per_day=200)
    hold = mandated.post(who, "main", freeze(50)).id
    commands: list[Command] = [
        pay(10),
        Capture(key="c", hold=hold, splits=(Split("shops:a", 20),)),
        pay(10),
    ]
    ledger.post_many(mandated.bind_all(who, "main", commands), atomic=True)
    assert mandated.standing(who).spent == 40


# ---------------------------------------------------------------- races


def test_what_happened_in_between_refuses_what_was_bound_before(ledger: Ledger, mandated: Mandates) -> None:
    who = agent(max_per_day=100)
    first, second = (mandated.bind(who, "main", pay(60)) for _ in range(2))
    ledger.post(first)
    with pytest.raises(ConditionFailed):
        ledger.post(second)


def spent_on(ledger: Ledger, actor: str, day: str) -> int:
    """By the journal: what the actor took out of the account on a day, less what came back from holds."""
    total = 0
    for found in ledger.events(limit=10_000):
        for entry in found.entries:
            counts = found.actor == actor or (entry.amount > 0 and found.type in ("release", "capture"))
            place = (entry.account, entry.asset, entry.bucket, found.time[:10])
            if counts and place == (AGENT, USD, "available", day):
                total -= entry.amount
    return total


@pytest.mark.parametrize("near", [0, mandates.NEAR_EVENTS], ids=["register", "events"])
@pytest.mark.parametrize("kind", LASTING)
def test_eight_threads_never_spend_more_than_the_day_allows(
    kind: str, near: int, new_url: NewUrl, clock: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without taking turns: each binds and posts by himself, on two handles of a database where there may be two."""
    monkeypatch.setattr(mandates, "NEAR_EVENTS", near)
    url = new_url(kind)
    who = agent(max_per_act=50, max_per_day=500)
    with tallystick.open(url, clock=clock) as one:
        ledger = funded(one)
        other = tallystick.open(url, clock=clock) if kind == "postgres" else one
        places = [(Mandates(found.ledger), found.ledger("main")) for found in (one, other)]
        begin = threading.Barrier(8)

        def spend(number: int) -> tuple[int, int]:
            found, book = places[number % 2]
            chance, done, exhausted = random.Random(number), 0, 0
            begin.wait()
            for step in range(12):
                amount = chance.randint(1, 50)
                command = (freeze if chance.random() < 0.3 else pay)(amount, key=f"{number}.{step}")
                while True:
                    try:
                        book.post(found.bind(who, "main", command))
                        done += amount
                    except ConditionFailed:
                        continue
                    except MandateExceeded:
                        exhausted += 1
                    break
            return done, exhausted

        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(spend, range(8)))
        spent = sum(done for done, _ in results)
        assert spent <= 500
        assert spent > 450  # each was refused only if his amount did not fit any more
        assert sum(exhausted for _, exhausted in results) > 0
        assert spent_on(ledger, "key:bot", "2026-11-21") == spent == places[0][0].standing(who).spent
        if other is not one:
            other.close()


def test_callers_of_one_process_take_turns(ledger: Ledger, mandated: Mandates) -> None:
    who = agent(max_per_day=500)
    outcomes: list[str] = []

    def spend(number: int) -> None:
        for _ in range(10):
            try:
                mandated.post(who, "main", pay(10))
                outcomes.append("posted")
            except MandateExceeded:
                outcomes.append("exceeded")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(spend, range(8)))
    assert (outcomes.count("posted"), outcomes.count("exceeded")) == (50, 30)


def test_the_same_request_at_the_same_time_is_one_payment(ledger: Ledger, mandated: Mandates) -> None:
    who, command = agent(max_per_day=500), pay(10, key="once")
    others = Mandates(lambda name: ledger)  # as in another process: they take no turns with the first
    begin = threading.Barrier(8)

    def ask(number: int) -> str:
        begin.wait()
        found = (mandated, others)[number % 2]
        for asked in (pay(1), command):
            while True:
                with suppress(ConditionFailed):  # the others may be faster any number of times
                    id = found.post(who, "main", asked).id
                    break
        return id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert mandated.standing(who).spent == 18


def test_after_so_many_bindings_the_refusal_stands(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else is faster every time."""
    found = Mandates(lambda name: ledger)
    bindings = []
    bind = found.bind

    def slow(*words: object) -> Command:
        bound = bind(*words)  # type: ignore[arg-type]
        bindings.append(bound)
        ledger.mint(AGENT, USD, 1, key=f"faster {len(bindings)}")
        return bound

    monkeypatch.setattr(found, "bind", slow)
    with pytest.raises(ConditionFailed):
        found.post(agent(max_per_day=100), "main", pay(1))
    assert len(bindings) == mandates.MAX_BINDINGS


# ---------------------------------------------------------------- against a model

acts = st.lists(
    st.tuples(
        st.sampled_from(["pay", "freeze", "top_up", "release", "capture", "operator", "refund", "tomorrow"]),
        st.integers(1, 30),
        st.integers(0, 5),
    ),
    min_size=15,
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(acts, st.sampled_from([0, 1, mandates.NEAR_EVENTS]))
def test_any_story_spends_what_a_plain_reckoning_says(story: list[tuple[str, int, int]], near: int) -> None:
    """The model keeps its own books: a day's spending, and how much of each hold was set aside on that day."""
    clock = Hands()
    with tallystick.open("memory://", clock=clock) as database, pytest.MonkeyPatch.context() as patch:
        patch.setattr(mandates, "NEAR_EVENTS", near)
        ledger = funded(database)
        found, who = Mandates(database.ledger), agent(max_per_day=100)
        spent, holds = 0, dict[str, list[int]]()  # by id: [left, of which set aside today]
        for word, amount, pick in story:
            hold = list(holds)[pick % len(holds)] if holds else ""
            left, today = holds.get(hold, [0, 0])
            if word == "tomorrow":
                clock.forward(86_400 - 3_600 * 9 if "T09" in clock.time else 86_400)
                spent = 0
                holds = {id: [kept, 0] for id, (kept, _) in holds.items()}
            elif word == "operator":
                ledger.transfer(AGENT, "shops:a", USD, amount, key=f"o{next(keys)}")
            elif word == "refund":
                ledger.transfer("shops:a", AGENT, USD, amount, key=f"o{next(keys)}")
            elif word in ("pay", "freeze") or (word == "top_up" and hold):
                top_up = HoldTopUp(key=f"k{next(keys)}", hold=hold, amount=amount)
                command = {"pay": pay(amount), "freeze": long_freeze(amount), "top_up": top_up}[word]
                if spent + amount > 100:
                    assert exceeded(found, who, command)["left"] == 100 - spent
                    continue
                id = found.post(who, "main", command).id
                spent += amount
                if word == "freeze":
                    holds[id] = [amount, amount]
                elif word == "top_up":
                    holds[hold] = [left + amount, today + amount]
            elif hold:
                part = min(amount, left)
                back = part if word == "release" else left - part
                if word == "release":
                    found.post(who, "main", Release(key=f"k{next(keys)}", hold=hold, amount=part))
                    holds[hold] = [left - part, today - min(back, today)]
                else:
                    splits = (Split("shops:a", part),)
                    found.post(who, "main", Capture(key=f"k{next(keys)}", hold=hold, splits=splits))
                    holds[hold] = [0, 0]
                spent -= min(back, today)
                if not holds[hold][0]:
                    del holds[hold]
            assert found.standing(who).spent == spent
        assert Mandates(database.ledger).standing(who).spent == spent


def long_freeze(amount: int) -> Hold:
    return Hold(key=f"k{next(keys)}", account=AGENT, asset=USD, amount=amount, expires_in_seconds=10**8)
