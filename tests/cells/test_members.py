"""Members: joining, limits, freezing, leaving, reserves, and what may be asked of a member (FR-1.1 to FR-1.3, FR-3)."""

from __future__ import annotations

import pytest

import tallystick
from tallystick.cells import (
    Cell,
    CellParameters,
    EscrowViolation,
    FloorViolation,
    LimitOutOfBounds,
    MemberFrozen,
    MemberNotFound,
    NegativeReserve,
)
from tallystick.errors import InvalidInput, Refusal
from tests.cells.conftest import Key, freeing, reserving, spot


class TestState:
    def test_fr_1_1_a_member_has_a_balance_in_hundredths(self, cell: Cell, key: Key) -> None:
        cell.apply_balance_updates(spot("ana", "ben", 1), key=key())
        assert (cell.get_balance("ana"), cell.get_balance("ben")) == (-1, 1)
        assert cell.asset == "HOUR/2"

    def test_fr_1_2_limits_have_bounds_and_a_default(self, cell: Cell, key: Key) -> None:
        assert cell.parameters == CellParameters(limit_min=500, limit_max=5_000, limit_default=2_000)
        cell.add_member("dora", key=key())
        state = cell.get_member_state("dora")
        assert state is not None
        assert state.limit == 2_000

    def test_fr_1_3_a_reserve_is_part_of_the_balance(self, cell: Cell, key: Key) -> None:
        cell.apply_balance_updates(spot("ana", "ben", 100), key=key())
        cell.apply_reserve_update(reserving("ana", 300), key=key())
        state = cell.get_member_state("ana")
        assert state is not None
        assert (state.balance, state.reserve, state.limit, state.status) == (-100, 300, 2_000, "ACTIVE")

    def test_fr_3_1_available_is_balance_less_reserve_plus_limit(self, cell: Cell, key: Key) -> None:
        cell.apply_balance_updates(spot("ana", "ben", 100), key=key())
        cell.apply_reserve_update(reserving("ana", 300), key=key())
        assert cell.get_available_balance("ana") == -100 - 300 + 2_000

    @pytest.mark.parametrize(("amount", "can"), [(0, True), (1_700, True), (1_701, False)])
    def test_fr_3_2_can_spend_is_exact_at_the_floor(self, cell: Cell, key: Key, amount: int, can: bool) -> None:
        cell.apply_reserve_update(reserving("ana", 300), key=key())
        assert cell.can_spend("ana", amount) is can

    def test_fr_3_2_a_frozen_member_can_spend_nothing(self, cell: Cell, key: Key) -> None:
        cell.freeze_member("ana", key=key())
        assert not cell.can_spend("ana", 0)

    @pytest.mark.parametrize("amount", [-1, 1.0, True])
    def test_fr_3_2_asks_for_a_whole_amount(self, cell: Cell, amount: int) -> None:
        with pytest.raises(InvalidInput):
            cell.can_spend("ana", amount)

    def test_the_last_activity_is_the_last_movement(self, cell: Cell, key: Key) -> None:
        before = cell.get_member_state("ana")
        posted = cell.apply_balance_updates(spot("ana", "ben", 1), key=key())
        cell.freeze_member("ana", key=key())
        after = cell.get_member_state("ana")
        assert before is not None
        assert after is not None
        assert before.last_activity_at == before.joined_at
        assert (after.joined_at, after.last_activity_at) == (before.joined_at, posted.time)

    def test_states_are_values_that_cannot_be_changed(self, cell: Cell) -> None:
        with pytest.raises(AttributeError):
            cell.get_member_state("ana").balance = 5  # type: ignore[union-attr,misc]


class TestJoining:
    @pytest.mark.parametrize("limit", [500, 5_000])
    def test_a_limit_at_the_bounds_is_accepted(self, cell: Cell, key: Key, limit: int) -> None:
        cell.add_member("dora", limit, key=key())
        assert cell.get_available_balance("dora") == limit

    @pytest.mark.parametrize("limit", [499, 5_001, -1, 2**63])
    def test_a_limit_beyond_them_is_out_of_bounds(self, cell: Cell, key: Key, limit: int) -> None:
        with pytest.raises(LimitOutOfBounds) as refused:
            cell.add_member("dora", limit, key=key())
        assert refused.value.type == "LIMIT_OUT_OF_BOUNDS"
        assert (refused.value.limit, refused.value.min, refused.value.max) == (limit, 500, 5_000)
        assert cell.get_member_count() == 3

    def test_nobody_joins_twice(self, cell: Cell, key: Key) -> None:
        with pytest.raises(Refusal) as refused:
            cell.add_member("ana", key=key())
        assert refused.value.code == "account_exists"

    def test_the_ledgers_own_accounts_do_not_join(self, cell: Cell, key: Key) -> None:
        with pytest.raises(InvalidInput):
            cell.add_member("@treasury", key=key())

    def test_joining_again_under_the_same_key_is_the_same_joining(self, cell: Cell, key: Key) -> None:
        first = cell.add_member("dora", key="join")
        cell.ledger.set_policy({"limit_default": 1_000}, key=key())
        assert cell.add_member("dora", key="join").id == first.id

    def test_a_did_may_be_a_member(self, cell: Cell, key: Key) -> None:
        cell.add_member("did:key:z6MkhaXgBZDvotDkL5257", key=key())
        assert cell.get_balance("did:key:z6MkhaXgBZDvotDkL5257") == 0


class TestLimits:
    def test_a_higher_limit_lets_a_member_spend_more(self, cell: Cell, key: Key) -> None:
        cell.set_member_limit("ana", 3_000, key=key(), related_event_id="vote-3")
        cell.apply_balance_updates(spot("ana", "ben", 3_000), key=key())
        assert cell.get_balance("ana") == -3_000
        assert cell.ledger.by_reference("external_ref", "vote-3")[0].type == "limit_set"

    @pytest.mark.parametrize("limit", [499, 5_001, -1])
    def test_limits_stay_within_the_bounds(self, cell: Cell, key: Key, limit: int) -> None:
        with pytest.raises(LimitOutOfBounds):
            cell.set_member_limit("ana", limit, key=key())

    def test_setting_a_limit_makes_nobody_a_member(self, cell: Cell, key: Key) -> None:
        with pytest.raises(MemberNotFound):
            cell.set_member_limit("zoe", 1_000, key=key())
        assert cell.get_member_count() == 3

    def test_under_a_lowered_limit_a_member_is_paid_but_cannot_spend(self, cell: Cell, key: Key) -> None:
        cell.apply_balance_updates(spot("ana", "ben", 1_800), key=key())
        cell.set_member_limit("ana", 1_000, key=key())
        assert cell.get_available_balance("ana") == -800
        assert not cell.can_spend("ana", 0)
        with pytest.raises(FloorViolation):
            cell.apply_balance_updates(spot("ana", "ben", 1), key=key())
        cell.apply_balance_updates(spot("ben", "ana", 500), key=key())
        assert cell.get_balance("ana") == -1_300


class TestFreezing:
    def test_an_unfrozen_member_pays_again(self, cell: Cell, key: Key) -> None:
        cell.freeze_member("ana", key=key())
        assert cell.get_member_state("ana").status == "FROZEN"  # type: ignore[union-attr]
        cell.unfreeze_member("ana", key=key())
        cell.apply_balance_updates(spot("ana", "ben", 5), key=key())
        assert cell.get_balance("ana") == -5

    def test_freezing_twice_says_that_it_is_frozen(self, cell: Cell, key: Key) -> None:
        cell.freeze_member("ana", key=key())
        with pytest.raises(MemberFrozen):
            cell.freeze_member("ana", key=key())

    def test_only_a_frozen_member_is_unfrozen(self, cell: Cell, key: Key) -> None:
        with pytest.raises(Refusal) as refused:
            cell.unfreeze_member("ana", key=key())
        assert refused.value.code == "account_not_active"

    def test_only_members_are_frozen(self, cell: Cell, key: Key) -> None:
        with pytest.raises(MemberNotFound):
            cell.freeze_member("zoe", key=key())
        with pytest.raises(MemberNotFound):
            cell.unfreeze_member("zoe", key=key())

    def test_a_frozen_member_reserves_nothing_but_may_free(self, cell: Cell, key: Key) -> None:
        cell.apply_reserve_update(reserving("ana", 300), key=key())
        cell.freeze_member("ana", key=key())
        with pytest.raises(MemberFrozen):
            cell.apply_reserve_update(reserving("ana", 1), key=key())
        cell.apply_reserve_update(freeing("ana", 300), key=key())
        assert cell.get_member_state("ana").reserve == 0  # type: ignore[union-attr]


class TestLeaving:
    def test_a_member_at_zero_leaves(self, cell: Cell, key: Key) -> None:
        assert cell.remove_member("cleo", key=key()) == 0
        state = cell.get_member_state("cleo")
        assert state is not None
        assert (state.status, state.available) == ("EXCLUDED", 0)
        assert (cell.get_balance("cleo"), cell.get_member_count()) == (None, 2)

    @pytest.mark.parametrize(("leaver", "final"), [("ana", -700), ("ben", 700)])
    def test_a_balance_is_handed_over_and_told(self, cell: Cell, key: Key, leaver: str, final: int) -> None:
        cell.apply_balance_updates(spot("ana", "ben", 700), key=key())
        assert cell.remove_member(leaver, settle_to="cleo", key="leave") == final
        assert cell.get_balance("cleo") == final
        assert cell.verify_conservation()
        assert cell.remove_member(leaver, settle_to="cleo", key="leave") == final

    def test_a_balance_that_nobody_takes_over_keeps_a_member(self, cell: Cell, key: Key) -> None:
        cell.apply_balance_updates(spot("ana", "ben", 700), key=key())
        with pytest.raises(Refusal) as refused:
            cell.remove_member("ben", key=key())
        assert refused.value.code == "account_not_empty"
        assert cell.get_member_count() == 3

    def test_a_reserve_keeps_a_member(self, cell: Cell, key: Key) -> None:
        cell.apply_reserve_update(reserving("ana", 300), key=key())
        with pytest.raises(Refusal) as refused:
            cell.remove_member("ana", settle_to="ben", key=key())
        assert refused.value.code == "account_not_empty"

    def test_a_debt_goes_only_to_one_who_can_bear_it(self, cell: Cell, key: Key) -> None:
        cell.apply_balance_updates(spot("cleo", "ben", 1_500), key=key())
        cell.apply_balance_updates(spot("ana", "ben", 700), key=key())
        with pytest.raises(FloorViolation) as refused:
            cell.remove_member("ana", settle_to="cleo", key=key())
        assert refused.value.member_id == "cleo"

    def test_it_goes_to_a_member_or_an_account_of_the_ledger(self, cell: Cell, key: Key) -> None:
        cell.apply_balance_updates(spot("ana", "ben", 700), key=key())
        with pytest.raises(MemberNotFound):
            cell.remove_member("ben", settle_to="zoe", key=key())
        assert cell.remove_member("ben", settle_to="@treasury", key=key()) == 700
        assert cell.verify_conservation()

    def test_a_frozen_member_may_be_removed(self, cell: Cell, key: Key) -> None:
        cell.apply_balance_updates(spot("ana", "ben", 700), key=key())
        cell.freeze_member("ana", key=key())
        assert cell.remove_member("ana", settle_to="cleo", key=key()) == -700

    def test_leaving_is_for_good(self, cell: Cell, key: Key) -> None:
        cell.remove_member("cleo", key=key())
        with pytest.raises(MemberNotFound):
            cell.remove_member("cleo", key=key())
        with pytest.raises(Refusal):
            cell.add_member("cleo", key=key())

    def test_a_dry_run_tells_the_balance_and_removes_nobody(self, cell: Cell, key: Key) -> None:
        cell.apply_balance_updates(spot("ana", "ben", 700), key=key())
        assert cell.remove_member("ben", settle_to="cleo", key=key(), dry_run=True) == 700
        assert cell.get_member_count() == 3


class TestReserves:
    def test_reserving_to_exactly_the_limit_is_allowed(self, cell: Cell, key: Key) -> None:
        cell.apply_reserve_update(reserving("ana", 2_000), key=key())
        assert cell.get_available_balance("ana") == 0

    def test_i3_reserving_beyond_it_is_an_escrow_violation(self, cell: Cell, key: Key) -> None:
        with pytest.raises(EscrowViolation) as refused:
            cell.apply_reserve_update(reserving("ana", 2_001), key=key())
        assert refused.value.available == -2_001

    def test_i4_freeing_more_than_is_reserved_is_a_negative_reserve(self, cell: Cell, key: Key) -> None:
        cell.apply_reserve_update(reserving("ana", 300), key=key())
        with pytest.raises(NegativeReserve) as refused:
            cell.apply_reserve_update(freeing("ana", 301), key=key())
        assert refused.value.type == "NEGATIVE_RESERVE"
        assert (refused.value.member_id, refused.value.reserve) == ("ana", -1)

    def test_i4_one_commitment_does_not_free_another(self, cell: Cell, key: Key) -> None:
        cell.apply_reserve_update(reserving("ana", 300, "c1"), key=key())
        cell.apply_reserve_update(reserving("ana", 300, "c2"), key=key())
        with pytest.raises(NegativeReserve):
            cell.apply_reserve_update(freeing("ana", 301, "c1"), key=key())

    def test_a_cancelled_commitment_frees_its_reserve(self, cell: Cell, key: Key) -> None:
        cell.apply_reserve_update(reserving("ana", 300), key=key())
        cell.apply_reserve_update(freeing("ana", 300, reason="COMMITMENT_CANCEL"), key=key())
        assert cell.get_available_balance("ana") == 2_000
        assert cell.ledger.events()[-1].type == "commitment_cancel"

    @pytest.mark.parametrize(
        "update",
        [
            freeing("ana", 5, reason="COMMITMENT_CREATE"),
            freeing("ana", -5),
            freeing("ana", 0),
            freeing("ana", 5, ""),
            freeing("ana", 5, reason="TIP"),
        ],
    )
    def test_an_update_that_contradicts_itself_is_refused(self, cell: Cell, key: Key, update: object) -> None:
        with pytest.raises(InvalidInput):
            cell.apply_reserve_update(update, key=key())  # type: ignore[arg-type]

    def test_only_members_reserve(self, cell: Cell, key: Key) -> None:
        with pytest.raises(MemberNotFound):
            cell.apply_reserve_update(reserving("zoe", 5), key=key())

    def test_soft_reserves_are_recorded_and_bind_nobody(self, soft_cell: Cell, key: Key) -> None:
        soft_cell.apply_reserve_update(reserving("ana", 1_900), key=key())
        soft_cell.apply_balance_updates(spot("ana", "ben", 2_000), key=key())
        state = soft_cell.get_member_state("ana")
        assert state is not None
        assert (state.balance, state.reserve) == (-2_000, 1_900)
        with pytest.raises(FloorViolation):
            soft_cell.apply_balance_updates(spot("ana", "ben", 1), key=key())

    def test_a_cell_may_have_no_commitments(self, database: tallystick.Database, key: Key) -> None:
        cell = Cell.open(database, "plain", parameters=CellParameters(commitment_mode="DISABLED"))
        cell.add_member("ana", key=key())
        with pytest.raises(Refusal) as refused:
            cell.apply_reserve_update(reserving("ana", 5), key=key())
        assert refused.value.code == "commitments_disabled"
