"""Balance updates: L-01 to L-08, the reasons, and what a call must be to be taken at all."""

from __future__ import annotations

import pytest

from tallystick.cells import (
    BalanceUpdate,
    Cell,
    CellError,
    ConservationViolation,
    EscrowViolation,
    FloorViolation,
    MemberFrozen,
    MemberNotFound,
    UpdateReason,
)
from tallystick.errors import IdempotencyConflict, InvalidInput, ReferenceRequired, Refusal
from tallystick.events import Event
from tests.cells.conftest import Key, freeing, fulfilment, reserving, spot


def the_event(cell: Cell, place: int = -1) -> Event:
    """The event at this place from the end of the cell's journal."""
    return cell.ledger.events()[place].event


class TestTheSpecifiedCases:
    def test_l_01_a_balanced_update_succeeds_and_conserves(self, cell: Cell, key: Key) -> None:
        cell.apply_balance_updates(spot("ana", "ben", 1_000), key=key())
        assert (cell.get_balance("ana"), cell.get_balance("ben")) == (-1_000, 1_000)
        assert cell.verify_conservation()

    def test_l_02_an_unbalanced_update_is_a_conservation_violation(self, cell: Cell, key: Key) -> None:
        with pytest.raises(ConservationViolation) as refused:
            cell.apply_balance_updates([BalanceUpdate("ana", 1_000, "SPOT_TRANSACTION_PAYEE")], key=key())
        assert refused.value.type == "CONSERVATION_VIOLATION"
        assert (refused.value.expected, refused.value.actual) == (0, 1_000)
        assert cell.get_balance("ana") == 0

    def test_l_03_a_member_may_spend_to_exactly_its_limit(self, cell: Cell, key: Key) -> None:
        cell.apply_balance_updates(spot("ana", "ben", 2_000), key=key())
        assert cell.get_balance("ana") == -2_000
        assert cell.get_available_balance("ana") == 0

    def test_l_04_spending_beyond_the_limit_is_a_floor_violation(self, cell: Cell, key: Key) -> None:
        with pytest.raises(FloorViolation) as refused:
            cell.apply_balance_updates(spot("ana", "ben", 2_001), key=key())
        assert refused.value.type == "FLOOR_VIOLATION"
        assert (refused.value.member_id, refused.value.balance, refused.value.limit) == ("ana", -2_001, 2_000)
        assert cell.get_balance("ben") == 0

    def test_l_05_a_reserve_that_blocks_is_an_escrow_violation(self, cell: Cell, key: Key) -> None:
        cell.apply_reserve_update(reserving("ana", 1_500), key=key())
        with pytest.raises(EscrowViolation) as refused:
            cell.apply_balance_updates(spot("ana", "ben", 501), key=key())
        assert refused.value.type == "ESCROW_VIOLATION"
        assert (refused.value.member_id, refused.value.available, refused.value.limit) == ("ana", -2_001, 2_000)
        cell.apply_balance_updates(spot("ana", "ben", 500), key=key())
        assert cell.get_balance("ana") == -500

    def test_l_06_a_non_member_has_no_balance(self, cell: Cell) -> None:
        assert cell.get_balance("zoe") is None
        assert cell.get_available_balance("zoe") is None
        assert cell.get_member_state("zoe") is None
        assert cell.get_balance("no address at all!") is None
        assert not cell.can_spend("zoe", 0)

    def test_l_07_a_frozen_member_cannot_be_debited(self, cell: Cell, key: Key) -> None:
        cell.freeze_member("ana", key=key())
        with pytest.raises(MemberFrozen) as refused:
            cell.apply_balance_updates(spot("ana", "ben", 1), key=key())
        assert (refused.value.type, refused.value.member_id) == ("MEMBER_FROZEN", "ana")

    def test_l_08_a_frozen_member_can_be_credited(self, cell: Cell, key: Key) -> None:
        cell.freeze_member("ana", key=key())
        cell.apply_balance_updates(spot("ben", "ana", 700), key=key())
        assert cell.get_balance("ana") == 700


class TestAggregation:
    def test_two_updates_of_one_member_count_together(self, cell: Cell, key: Key) -> None:
        """Each alone would pass; together they break the floor."""
        updates = [*spot("ana", "ben", 1_500), *spot("ana", "cleo", 600)]
        with pytest.raises(FloorViolation) as refused:
            cell.apply_balance_updates(updates, key=key())
        assert refused.value.balance == -2_100

    def test_what_comes_in_within_one_call_may_be_spent_in_it(self, cell: Cell, key: Key) -> None:
        cell.apply_balance_updates([*spot("ana", "ben", 2_500), *spot("cleo", "ana", 600)], key=key())
        assert cell.get_balance("ana") == -1_900

    def test_many_members_change_in_one_event(self, cell: Cell, key: Key) -> None:
        version = cell.version
        updates = [*spot("ana", "ben", 300), *spot("ana", "cleo", 200), *spot("ben", "cleo", 100)]
        posted = cell.apply_balance_updates(updates, key=key())
        assert cell.version == version + 1
        assert {entry.account: entry.amount for entry in cell.ledger.transaction(posted.id).entries} == {
            "ana": -500,
            "ben": 200,
            "cleo": 300,
        }

    def test_the_order_of_the_updates_makes_no_other_request(self, cell: Cell, key: Key) -> None:
        updates = [*spot("ana", "ben", 300), *spot("cleo", "ben", 200)]
        first = cell.apply_balance_updates(updates, key="same")
        again = cell.apply_balance_updates(list(reversed(updates)), key="same")
        assert again.replayed
        assert again.id == first.id

    def test_one_refused_member_refuses_the_whole_call(self, cell: Cell, key: Key) -> None:
        with pytest.raises(FloorViolation):
            cell.apply_balance_updates([*spot("ben", "cleo", 10), *spot("ana", "cleo", 2_001)], key=key())
        assert (cell.get_balance("ben"), cell.get_balance("cleo")) == (0, 0)


class TestExactness:
    def test_there_is_no_tolerance(self, cell: Cell, key: Key) -> None:
        updates = [*spot("ana", "ben", 1_000), BalanceUpdate("cleo", 1, "SPOT_TRANSACTION_PAYEE")]
        with pytest.raises(ConservationViolation) as refused:
            cell.apply_balance_updates(updates, key=key())
        assert refused.value.actual == 1

    def test_conservation_is_judged_before_anything_else(self, cell: Cell, key: Key) -> None:
        updates = [BalanceUpdate("nobody", 5, "no such reason"), BalanceUpdate("ana", -4, "SPOT_TRANSACTION_PAYEE")]
        with pytest.raises(ConservationViolation):
            cell.apply_balance_updates(updates, key=key())

    @pytest.mark.parametrize("delta", [10.0, "10", True, None])
    def test_a_delta_that_is_no_integer_is_refused(self, cell: Cell, key: Key, delta: object) -> None:
        updates = [BalanceUpdate("ana", delta, "SPOT_TRANSACTION_PAYEE")]  # type: ignore[arg-type]
        with pytest.raises(InvalidInput) as refused:
            cell.apply_balance_updates(updates, key=key())
        assert refused.value.data["path"] == "updates[0].delta"

    def test_amounts_beyond_64_bits_are_refused(self, cell: Cell, key: Key) -> None:
        with pytest.raises(Refusal) as refused:
            cell.apply_balance_updates(spot("ana", "ben", 2**63), key=key())
        assert refused.value.code == "amount_out_of_range"


class TestMembership:
    def test_everyone_must_be_a_member(self, cell: Cell, key: Key) -> None:
        with pytest.raises(MemberNotFound) as refused:
            cell.apply_balance_updates(spot("ana", "zoe", 100), key=key())
        assert (refused.value.type, refused.value.member_id) == ("MEMBER_NOT_FOUND", "zoe")
        assert cell.ledger.account("zoe") is None

    def test_the_ledgers_own_accounts_take_no_spot_payment(self, cell: Cell, key: Key) -> None:
        with pytest.raises(MemberNotFound):
            cell.apply_balance_updates(spot("ana", "@treasury", 100), key=key())

    def test_a_removed_member_is_none(self, cell: Cell, key: Key) -> None:
        cell.remove_member("cleo", key=key())
        with pytest.raises(MemberNotFound):
            cell.apply_balance_updates(spot("ana", "cleo", 100), key=key())


class TestReasons:
    @pytest.mark.parametrize(
        ("reasons", "event_type"),
        [
            (("SPOT_TRANSACTION_PAYER", "SPOT_TRANSACTION_PAYEE"), "spot_payment"),
            (("GOVERNANCE_ADJUSTMENT", "GOVERNANCE_ADJUSTMENT"), "governance_adjustment"),
        ],
    )
    def test_a_kind_of_reason_is_a_type_of_event(
        self, cell: Cell, key: Key, reasons: tuple[str, str], event_type: str
    ) -> None:
        updates = [BalanceUpdate("ana", -100, reasons[0], "vote-7"), BalanceUpdate("ben", 100, reasons[1], "vote-7")]
        cell.apply_balance_updates(updates, key=key())
        event = the_event(cell)
        assert event.type == event_type
        assert event.refs == {"external_ref": "vote-7"}

    def test_every_reason_of_the_specification_is_known(self) -> None:
        assert list(UpdateReason) == [
            "SPOT_TRANSACTION_PAYER",
            "SPOT_TRANSACTION_PAYEE",
            "COMMITMENT_FULFILL_PAYER",
            "COMMITMENT_FULFILL_PAYEE",
            "FEDERATION_IMPORT",
            "FEDERATION_EXPORT",
            "GOVERNANCE_ADJUSTMENT",
        ]

    def test_an_adjustment_says_why(self, cell: Cell, key: Key) -> None:
        updates = [BalanceUpdate("ana", -5, "GOVERNANCE_ADJUSTMENT"), BalanceUpdate("ben", 5, "GOVERNANCE_ADJUSTMENT")]
        cell.apply_balance_updates(updates, key=key(), reason="counted twice", actor="council")
        assert the_event(cell).data["reason"] == "counted twice"
        assert the_event(cell).actor == "council"

    def test_an_adjustment_may_write_off_to_the_treasury(self, cell: Cell, key: Key) -> None:
        updates = [
            BalanceUpdate("ana", -5, "GOVERNANCE_ADJUSTMENT"),
            BalanceUpdate("@treasury", 5, "GOVERNANCE_ADJUSTMENT"),
        ]
        cell.apply_balance_updates(updates, key=key())
        assert cell.ledger.balance("@treasury", cell.asset) == 5
        assert cell.verify_conservation()

    def test_two_kinds_in_one_call_are_refused(self, cell: Cell, key: Key) -> None:
        updates = [BalanceUpdate("ana", -5, "SPOT_TRANSACTION_PAYER"), BalanceUpdate("ben", 5, "GOVERNANCE_ADJUSTMENT")]
        with pytest.raises(InvalidInput, match="of one kind"):
            cell.apply_balance_updates(updates, key=key())

    def test_no_updates_at_all_are_refused(self, cell: Cell, key: Key) -> None:
        with pytest.raises(InvalidInput, match="there are none"):
            cell.apply_balance_updates([], key=key())

    def test_an_unknown_reason_is_refused_with_its_place(self, cell: Cell, key: Key) -> None:
        with pytest.raises(InvalidInput) as refused:
            cell.apply_balance_updates([BalanceUpdate("ana", 0, "TIP")], key=key())
        assert refused.value.data["path"] == "updates[0].reason"

    def test_a_payer_is_not_paid_and_a_payee_does_not_pay(self, cell: Cell, key: Key) -> None:
        updates = [
            BalanceUpdate("ana", 5, "SPOT_TRANSACTION_PAYER"),
            BalanceUpdate("ben", -5, "SPOT_TRANSACTION_PAYEE"),
        ]
        with pytest.raises(InvalidInput, match="the other way"):
            cell.apply_balance_updates(updates, key=key())

    def test_updates_of_one_call_name_one_related_event(self, cell: Cell, key: Key) -> None:
        updates = [
            BalanceUpdate("ana", -5, "SPOT_TRANSACTION_PAYER", "one"),
            BalanceUpdate("ben", 5, "SPOT_TRANSACTION_PAYEE", "two"),
        ]
        with pytest.raises(InvalidInput, match="one, two"):
            cell.apply_balance_updates(updates, key=key())


class TestCommitmentPayments:
    def test_a_payment_frees_its_reserve_in_the_same_event_if_told_to(self, cell: Cell, key: Key) -> None:
        cell.apply_reserve_update(reserving("ana", 2_000), key=key())
        version = cell.version
        cell.apply_balance_updates(fulfilment("ana", "ben", 2_000, "c1"), reserve=freeing("ana", 2_000), key=key())
        assert cell.version == version + 1
        assert the_event(cell).type == "commitment_fulfil"
        state = cell.get_member_state("ana")
        assert state is not None
        assert (state.balance, state.reserve) == (-2_000, 0)

    def test_a_reserve_may_be_freed_before_the_payment(self, cell: Cell, key: Key) -> None:
        cell.apply_reserve_update(reserving("ana", 2_000), key=key())
        cell.apply_reserve_update(freeing("ana", 2_000), key=key())
        cell.apply_balance_updates(fulfilment("ana", "ben", 2_000, "c1"), key=key())
        assert the_event(cell).refs == {"commitment": "c1"}
        assert cell.get_balance("ana") == -2_000

    def test_a_payment_leaves_the_reserve_alone_otherwise(self, cell: Cell, key: Key) -> None:
        cell.apply_reserve_update(reserving("ana", 2_000), key=key())
        with pytest.raises(EscrowViolation):
            cell.apply_balance_updates(fulfilment("ana", "ben", 2_000, "c1"), key=key())

    def test_a_milestone_frees_a_part(self, cell: Cell, key: Key) -> None:
        cell.apply_reserve_update(reserving("ana", 900), key=key())
        cell.apply_balance_updates(fulfilment("ana", "ben", 300, "c1"), reserve=freeing("ana", 300), key=key())
        state = cell.get_member_state("ana")
        assert state is not None
        assert (state.balance, state.reserve, state.available) == (-300, 600, 1_100)

    def test_only_a_commitments_payment_frees_a_reserve(self, cell: Cell, key: Key) -> None:
        cell.apply_reserve_update(reserving("ana", 900), key=key())
        with pytest.raises(InvalidInput, match="only a commitment's payment"):
            cell.apply_balance_updates(spot("ana", "ben", 300), reserve=freeing("ana", 300), key=key())

    @pytest.mark.parametrize(
        "reserve", [freeing("ana", 300, "c2"), freeing("ana", 300, "c1", "COMMITMENT_CANCEL"), reserving("ana", 300)]
    )
    def test_the_reserve_must_be_the_payments_own(self, cell: Cell, key: Key, reserve: object) -> None:
        cell.apply_reserve_update(reserving("ana", 900), key=key())
        with pytest.raises(InvalidInput):
            cell.apply_balance_updates(fulfilment("ana", "ben", 300, "c1"), reserve=reserve, key=key())  # type: ignore[arg-type]


class TestFederation:
    def importing(self, amount: int, related: str = "fx-1") -> list[BalanceUpdate]:
        return [BalanceUpdate("ana", -amount, "FEDERATION_IMPORT", related)]

    def exporting(self, amount: int) -> list[BalanceUpdate]:
        return [BalanceUpdate("ben", amount, "FEDERATION_EXPORT", "fx-2")]

    def test_an_import_goes_to_the_clearing_account(self, cell: Cell, key: Key) -> None:
        cell.apply_balance_updates(self.importing(400), clearing="south", key=key())
        assert the_event(cell).type == "federation_import"
        assert cell.get_balance("ana") == -400
        assert cell.ledger.balance("@clearing:south", cell.asset) == 400
        assert cell.verify_conservation()

    def test_an_export_comes_from_it_within_its_cap(self, cell: Cell, key: Key) -> None:
        cell.open_clearing_account("south", 1_000, key=key())
        cell.apply_balance_updates(self.exporting(1_000), clearing="south", key=key())
        assert the_event(cell).type == "federation_export"
        with pytest.raises(FloorViolation) as refused:
            cell.apply_balance_updates(self.exporting(1), clearing="south", key=key())
        assert refused.value.member_id == "@clearing:south"

    def test_the_cap_holds_in_the_other_direction_too(self, cell: Cell, key: Key) -> None:
        cell.open_clearing_account("south", 1_000, key=key())
        with pytest.raises(Refusal) as refused:
            cell.apply_balance_updates(self.importing(1_001), clearing="south", key=key())
        assert refused.value.code == "ceiling_exceeded"

    def test_the_clearing_account_may_be_named_in_an_update(self, cell: Cell, key: Key) -> None:
        other_side = BalanceUpdate("@clearing:south", 400, "FEDERATION_IMPORT", "fx-1")
        cell.apply_balance_updates([*self.importing(400), other_side], key=key())
        assert cell.ledger.balance("@clearing:south", cell.asset) == 400

    def test_without_a_clearing_account_it_does_not_conserve(self, cell: Cell, key: Key) -> None:
        with pytest.raises(ConservationViolation):
            cell.apply_balance_updates(self.importing(400), key=key())

    def test_it_needs_what_the_other_cell_knows_it_by(self, cell: Cell, key: Key) -> None:
        with pytest.raises(ReferenceRequired):
            cell.apply_balance_updates(self.importing(400, related=""), clearing="south", key=key())

    def test_an_import_does_not_pay_a_member(self, cell: Cell, key: Key) -> None:
        with pytest.raises(Refusal) as refused:
            cell.apply_balance_updates(
                [BalanceUpdate("ana", 400, "FEDERATION_IMPORT", "fx")], clearing="south", key=key()
            )
        assert refused.value.code == "move_not_allowed"

    def test_clearing_accounts_are_no_members(self, cell: Cell, key: Key) -> None:
        cell.open_clearing_account("south", 1_000, key=key())
        cell.apply_balance_updates(self.exporting(1_000), clearing="south", key=key())
        assert cell.get_member_count() == 3
        assert cell.get_aggregate_capacity() == 6_000
        assert cell.get_member_state("@clearing:south") is None
        assert cell.get_floor_mass() == 0

    def test_only_a_federated_payment_goes_through_a_clearing_account(self, cell: Cell, key: Key) -> None:
        with pytest.raises(InvalidInput, match="federated"):
            cell.apply_balance_updates(spot("ana", "ben", 4), clearing="south", key=key())


class TestIdempotency:
    def test_every_change_needs_a_key(self, cell: Cell) -> None:
        with pytest.raises(TypeError):
            cell.apply_balance_updates(spot("ana", "ben", 1))  # type: ignore[call-arg]
        with pytest.raises(InvalidInput):
            cell.apply_balance_updates(spot("ana", "ben", 1), key="")

    def test_the_same_request_is_answered_again_and_done_once(self, cell: Cell) -> None:
        first = cell.apply_balance_updates(spot("ana", "ben", 1_500), key="once")
        again = cell.apply_balance_updates(spot("ana", "ben", 1_500), key="once")
        assert (again.id, again.replayed) == (first.id, True)
        assert cell.get_balance("ana") == -1_500

    def test_it_is_answered_even_if_the_members_have_changed_since(self, cell: Cell, key: Key) -> None:
        first = cell.apply_balance_updates(spot("ana", "ben", 1_500), key="once")
        cell.remove_member("ben", settle_to="cleo", key=key())
        cell.freeze_member("ana", key=key())
        assert cell.apply_balance_updates(spot("ana", "ben", 1_500), key="once").id == first.id

    def test_another_request_under_the_key_is_a_conflict(self, cell: Cell) -> None:
        cell.apply_balance_updates(spot("ana", "ben", 1_500), key="once")
        with pytest.raises(IdempotencyConflict):
            cell.apply_balance_updates(spot("ana", "ben", 1_501), key="once")

    def test_a_refusal_does_not_use_the_key_up(self, cell: Cell) -> None:
        with pytest.raises(FloorViolation):
            cell.apply_balance_updates(spot("ana", "ben", 2_001), key="once")
        assert not cell.apply_balance_updates(spot("ana", "ben", 2_000), key="once").replayed

    def test_a_dry_run_answers_and_writes_nothing(self, cell: Cell, key: Key) -> None:
        version = cell.version
        cell.apply_balance_updates(spot("ana", "ben", 100), key="later", dry_run=True)
        with pytest.raises(CellError):
            cell.apply_balance_updates(spot("ana", "ben", 2_001), key="later", dry_run=True)
        assert (cell.version, cell.get_balance("ana")) == (version, 0)
