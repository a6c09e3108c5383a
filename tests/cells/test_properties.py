"""L-P1 to L-P4: random operations against the model, which says of each whether it must be taken, and if not, why."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tallystick
from tallystick.cells import BalanceUpdate, Cell, CellError, ReserveUpdate
from tallystick.errors import Refusal
from tests.cells.model import Model

NAMES = ["ana", "ben", "cleo", "dora", "emil", "fay"]
COMMITMENTS = ["c1", "c2"]
OPERATIONS = 10_000
RUNS = 5

names = st.sampled_from(NAMES)
amounts = st.integers(1, 2_500)
limits = st.integers(400, 5_100)
operations = st.one_of(
    st.tuples(st.just("add"), names, limits),
    st.tuples(st.just("pay"), st.lists(st.tuples(names, names, amounts), min_size=1, max_size=3), st.just(0)),
    st.tuples(st.just("pay"), st.lists(st.tuples(names, names, amounts), min_size=1, max_size=3), st.integers(-1, 1)),
    st.tuples(st.just("reserve"), names, amounts, st.sampled_from(COMMITMENTS)),
    st.tuples(st.just("free"), names, amounts, st.sampled_from(COMMITMENTS)),
    st.tuples(st.just("limit"), names, limits),
    st.tuples(st.just("freeze"), names, st.booleans()),
    st.tuples(st.just("remove"), names, st.sampled_from(["", *NAMES])),
)


class Pair:
    """The cell and the model, given the same operations; whatever they do not agree on fails."""

    def __init__(self, database: tallystick.Database, name: str = "random") -> None:
        self.cell = Cell.open(database, name)
        self.model = Model()
        self.keys = count(1)

    def do(self, operation: tuple[Any, ...]) -> bool:
        """Whether the operation was taken; the version and the member count move as they must (L-P3, L-P4)."""
        version, members = self.cell.version, self.cell.get_member_count()
        kind, *arguments = operation
        expected, call = getattr(self, kind)(*arguments)
        word = self._word(call)
        assert word in expected if expected else word == "", (operation, word, expected)
        gained = {"add": 1, "remove": -1}.get(kind, 0) if not word else 0
        assert self.cell.get_member_count() == members + gained, "L-P3"
        # The first change of all is the second event: the ledger itself comes first.
        assert self.cell.version == version + (0 if word else 1 if version else 2), "L-P4"
        return not word

    def _word(self, call: Callable[[str], Any]) -> str:
        try:
            call(f"key-{next(self.keys)}")
        except CellError as refusal:
            return refusal.type
        except Refusal as refusal:
            return refusal.code
        return ""

    def add(self, name: str, limit: int) -> Any:
        return self.model.add(name, limit), lambda key: self.cell.add_member(name, limit, key=key)

    def limit(self, name: str, limit: int) -> Any:
        return self.model.set_limit(name, limit), lambda key: self.cell.set_member_limit(name, limit, key=key)

    def freeze(self, name: str, frozen: bool) -> Any:
        act = self.cell.freeze_member if frozen else self.cell.unfreeze_member
        return self.model.freeze(name, frozen), lambda key: act(name, key=key)

    def pay(self, payments: list[tuple[str, str, int]], error: int) -> Any:
        updates = [update for payer, payee, amount in payments for update in ((payer, -amount), (payee, amount))]
        updates[-1] = (updates[-1][0], updates[-1][1] + error)
        asked = [BalanceUpdate(name, delta, "GOVERNANCE_ADJUSTMENT") for name, delta in updates]
        return self.model.pay(updates), lambda key: self.cell.apply_balance_updates(asked, key=key)

    def reserve(self, name: str, amount: int, commitment: str) -> Any:
        update = ReserveUpdate(name, amount, "COMMITMENT_CREATE", commitment)
        return self.model.reserve(name, amount, commitment), lambda key: self.cell.apply_reserve_update(update, key=key)

    def free(self, name: str, amount: int, commitment: str) -> Any:
        update = ReserveUpdate(name, -amount, "COMMITMENT_CANCEL", commitment)
        expected = self.model.reserve(name, -amount, commitment)
        return expected, lambda key: self.cell.apply_reserve_update(update, key=key)

    def remove(self, name: str, heir: str) -> Any:
        return self.model.remove(name, heir), lambda key: self.cell.remove_member(name, settle_to=heir, key=key)

    def agree(self) -> None:
        """Every member stands as the model says, and the invariants hold (L-P1, L-P2)."""
        for name, person in self.model.people.items():
            state = self.cell.get_member_state(name)
            assert state is not None
            assert (state.balance, state.reserve, state.limit) == (person.balance, person.reserve, person.limit)
            assert state.status == ("EXCLUDED" if person.gone else "FROZEN" if person.frozen else "ACTIVE")
            assert state.balance - state.reserve >= -person.highest, "L-P2: below every limit that it ever had"
        checked = self.cell.run_full_invariant_check()
        assert checked.balance_sum == 0, "L-P1"
        assert checked.is_sound, "L-P2: only a lowered limit explains a balance below it"
        assert set(checked.floor_violations) == {
            name for name, person in self.model.people.items() if person.balance < -person.limit and not person.gone
        }


@settings(max_examples=150, deadline=None)
@given(st.lists(operations, max_size=40))
def test_l_p1_to_l_p4_any_sequence_of_operations_is_taken_or_refused_as_the_model_says(
    sequence: list[tuple[Any, ...]],
) -> None:
    with tallystick.open("memory://") as database:
        play(Pair(database), sequence)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=st.lists(operations, max_size=40))
def test_l_p1_to_l_p4_hold_in_postgresql_as_well(postgres: str, sequence: list[tuple[Any, ...]]) -> None:
    """Each example has a cell of its own in one database."""
    with tallystick.open(postgres) as database:
        play(Pair(database, f"random-{len(database.ledgers())}"), sequence)


def play(pair: Pair, sequence: list[tuple[Any, ...]]) -> None:
    """The operations one by one, with a look at everybody after each."""
    for operation in (("add", "ana", 2_000), ("add", "ben", 1_000), *sequence):
        pair.do(operation)
        pair.agree()


@settings(max_examples=RUNS, deadline=None, database=None)
@given(st.integers(0, 2**32))
def test_l_p1_and_l_p2_hold_after_ten_thousand_random_operations(seed: int) -> None:
    """Long runs in one cell, 10,000 operations in all; agreement is looked at after every hundredth."""
    with tallystick.open("memory://") as database:
        play_at_random(Pair(database), Random(seed), OPERATIONS // RUNS)


def test_l_p1_and_l_p2_hold_after_a_thousand_random_operations_in_postgresql(postgres: str) -> None:
    with tallystick.open(postgres) as database:
        play_at_random(Pair(database), Random(20_261_121), 1_000)


def play_at_random(pair: Pair, random: Random, number: int) -> None:
    for name in NAMES:
        pair.do(("add", name, 2_000))
    taken = 0
    for index in range(number):
        taken += pair.do(drawn(random))
        if index % 100 == 0:
            pair.agree()
    pair.agree()
    assert taken > number // 5, "most of the run must not be refusals"
    assert pair.cell.ledger.replay().ok


def drawn(random: Random) -> tuple[Any, ...]:
    """One operation: mostly payments and reserves, so that the members are not all frozen or gone at once."""
    kind = random.choices(
        ["pay", "reserve", "free", "limit", "freeze", "unfreeze", "remove"], [60, 12, 12, 6, 3, 6.5, 0.5]
    )[0]
    name, amount = random.choice(NAMES), random.randint(1, 900)
    if kind == "pay":
        payments = [(*random.sample(NAMES, 2), random.randint(1, 900)) for _ in range(random.randint(1, 3))]
        return kind, payments, random.choices([0, 1], [19, 1])[0]
    if kind in ("reserve", "free"):
        return kind, name, amount, random.choice(COMMITMENTS)
    if kind == "limit":
        return kind, name, random.randint(400, 5_100)
    if kind in ("freeze", "unfreeze"):
        return "freeze", name, kind == "freeze"
    return kind, name, ""
