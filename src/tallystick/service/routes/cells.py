"""Cells: a ledger as a mutual-credit community. Which asset is the cell's, is said with each request.

A member's own key pays and reserves for that member; letting members in, limits, freezing and removing take the verb
``govern``. Figures over all members are for those who may read the whole ledger. Refusals bear the codes of
``tallystick.cells``: ``cell_floor_violation`` and so on.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from tallystick.cells import BalanceUpdate, Cell, MemberState, ReserveUpdate
from tallystick.cells.updates import Plan, command_of, reserve_command
from tallystick.commands import ExcludeAccount, FreezeAccount, OpenAccount, SetLimit, UnfreezeAccount
from tallystick.errors import NotFound, Unavailable
from tallystick.ledger.views import Posted
from tallystick.service.calls import Call
from tallystick.service.communities import changing, followed, note_of, read
from tallystick.service.fractions import fraction_answer
from tallystick.service.operations import ActQuery, Group
from tallystick.service.routes.accounts import Limit
from tallystick.wire.amounts import minor
from tallystick.wire.answers import Page, PostedAnswer, posted_answer
from tallystick.wire.cells import (
    HOURS,
    CanSpendAnswer,
    CellAnswer,
    CellChange,
    CellCheckAnswer,
    CellParametersAnswer,
    LimitRequest,
    MemberAnswer,
    MemberRequest,
    MemberStatus,
    RemovedMemberAnswer,
    RemoveMemberRequest,
    ReserveChange,
    ReserveRequest,
    UpdatesRequest,
)
from tallystick.wire.fields import Asset, Cursor, NotNegative

CELLS = Group("Cells")

_HERE = "/v1/ledgers/{ledger}/cell"
_MEMBERS = _HERE + "/members"
_ONE = _MEMBERS + "/{member}"
_STEADY_READS = 5
_STATUSES = {"active": "ACTIVE", "frozen": "FROZEN", "excluded": "EXCLUDED", "closed": "EXCLUDED"}


class CellQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """``asset``: the cell's."""

    asset: Asset = HOURS


# ---------------------------------------------------------------- the whole cell


@CELLS.read(_HERE, whole=True, query=CellQuery, answer=CellAnswer)
def get_cell(call: Call) -> CellAnswer:
    """The rules of a cell, and its figures: members, capacity, variance and floor mass, the last two exact."""
    cell = read(call, call.query.asset)
    for _ in range(_STEADY_READS):
        found = _cell_answer(cell)
        if cell.version == found.version:
            return found
    raise Unavailable(reason="the cell changed while it was read; try again in a moment")


def _cell_answer(cell: Cell) -> CellAnswer:
    version, rules = cell.version, cell.parameters
    return CellAnswer(
        cell=cell.cell_id,
        asset=cell.asset,
        version=version,
        parameters=CellParametersAnswer(
            str(rules.limit_min),
            str(rules.limit_max),
            str(rules.limit_default),
            rules.commitment_mode,
            rules.floor_threshold_bps,
        ),
        members=cell.get_member_count(),
        capacity=str(cell.get_aggregate_capacity()),
        balance_variance=fraction_answer(cell.get_balance_variance()),
        floor_mass=fraction_answer(cell.get_floor_mass()),
    )


@CELLS.read(f"{_HERE}/check", verb="audit", whole=True, query=CellQuery, answer=CellCheckAnswer)
def check_cell(call: Call) -> CellCheckAnswer:
    """Judge conservation, floors, escrow safety and reserves over the whole cell, and name who breaks one."""
    with followed(call, call.query.asset) as cell:
        found = cell.run_full_invariant_check()
    return CellCheckAnswer(
        cell=call.ledger_name,
        asset=call.query.asset,
        version=found.version,
        is_sound=found.is_sound,
        conservation_holds=found.conservation_holds,
        balance_sum=str(found.balance_sum),
        floors_hold=found.floors_hold,
        floor_violations=list(found.floor_violations),
        escrow_safety_holds=found.escrow_safety_holds,
        escrow_violations=list(found.escrow_violations),
        reserves_hold=found.reserves_hold,
        negative_reserves=list(found.negative_reserves),
        under_lowered_limit=list(found.under_lowered_limit),
    )


# ---------------------------------------------------------------- members


class MembersQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """``status``: only these."""

    asset: Asset = HOURS
    status: MemberStatus | None = None
    limit: Limit = 100
    cursor: Cursor = ""


@CELLS.read(_MEMBERS, query=MembersQuery, answer=Page[MemberAnswer])
def list_members(call: Call) -> Page[MemberAnswer]:
    """Everyone who is or was a member, by id, as far as the key may read them."""
    query = call.query
    place = call.page_place({"asset": query.asset, "status": query.status or ""}, query.cursor, "")
    asset, status = place.filters["asset"], place.filters["status"]
    found = [
        account.address
        for account in call.ledger.members(asset)
        if account.address > place.after and status in ("", _STATUSES[account.status]) and call.sees(account.address)
    ]
    with followed(call, asset) as cell:
        states = [cell.get_member_state(member) for member in found[: query.limit]]
    more = call.cursor(place, found[query.limit - 1]) if len(found) > query.limit else ""
    return Page([_member_answer(asset, state) for state in states if state is not None], more)


@CELLS.write(
    _MEMBERS, verb="govern", body=MemberRequest, query=ActQuery, answer=PostedAnswer, status=201,
    example={"member": "members:ann", "limit": "2000"},
)  # fmt: skip
def add_member(call: Call) -> PostedAnswer:
    """Let someone in, with a balance of 0."""
    body = call.body
    limit = None if body.limit is None else minor(body.limit, "limit")
    call.make(OpenAccount, account=body.member)
    with changing(call, body.asset) as cell:
        return _posted(call, cell.add_member(body.member, limit, key=call.key, **note_of(call)))


@CELLS.read(_ONE, query=CellQuery, answer=MemberAnswer)
def get_member(call: Call) -> MemberAnswer:
    """A member: its balance, limit and reserve. One that was removed is shown as it left."""
    member = _member(call)
    with followed(call, call.query.asset) as cell:
        state = cell.get_member_state(member)
    if state is None:
        raise _no_member(member)
    return _member_answer(call.query.asset, state)


class CanSpendQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """How much."""

    amount: NotNegative
    asset: Asset = HOURS


@CELLS.read(f"{_ONE}/can-spend", query=CanSpendQuery, answer=CanSpendAnswer, example={"amount": "100"})
def can_spend(call: Call) -> CanSpendAnswer:
    """Whether a member could pay so much now. It says nothing of a moment later: the payment itself is judged anew."""
    member, query = _member(call), call.query
    amount = minor(query.amount)
    cell = read(call, query.asset)
    if cell.get_balance(member) is None:
        raise _no_member(member)
    return CanSpendAnswer(member, query.asset, str(amount), cell.can_spend(member, amount))


@CELLS.write(
    f"{_ONE}/limit", verb="govern", body=LimitRequest, query=ActQuery, answer=PostedAnswer, status=201,
    example={"limit": "3000"},
)  # fmt: skip
def set_member_limit(call: Call) -> PostedAnswer:
    """Give a member another limit. One below its debt lets it be paid, and not spend, until it is above again."""
    body, limit = call.body, minor(call.body.limit, "limit")
    member = _governed(call, SetLimit, asset=body.asset, limit=limit)
    with changing(call, body.asset) as cell:
        return _posted(call, cell.set_member_limit(member, limit, key=call.key, **note_of(call)))


@CELLS.write(
    f"{_ONE}/freeze", verb="govern", body=CellChange, query=ActQuery, answer=PostedAnswer, status=201, example={}
)
def freeze_member(call: Call) -> PostedAnswer:
    """Stop a member from paying; it may still be paid."""
    member = _governed(call, FreezeAccount)
    with changing(call, call.body.asset) as cell:
        return _posted(call, cell.freeze_member(member, key=call.key, **note_of(call)))


@CELLS.write(
    f"{_ONE}/unfreeze", verb="govern", body=CellChange, query=ActQuery, answer=PostedAnswer, status=201, example={}
)
def unfreeze_member(call: Call) -> PostedAnswer:
    """Let a frozen member pay again."""
    member = _governed(call, UnfreezeAccount)
    with changing(call, call.body.asset) as cell:
        return _posted(call, cell.unfreeze_member(member, key=call.key, **note_of(call)))


@CELLS.write(
    f"{_ONE}/remove", verb="govern", body=RemoveMemberRequest, query=ActQuery, answer=RemovedMemberAnswer, example={}
)
def remove_member(call: Call) -> RemovedMemberAnswer:
    """Remove a member for good; what it owns or owes goes to ``settle_to``."""
    body = call.body
    member = _governed(call, ExcludeAccount, settle_to=body.settle_to)
    with changing(call, body.asset) as cell:
        call.replayed = call.ledger.by_key(call.key, call.principal.source) is not None
        balance = cell.remove_member(member, key=call.key, settle_to=body.settle_to, **note_of(call))
    return RemovedMemberAnswer(member, body.asset, str(balance))


# ---------------------------------------------------------------- balances and reserves


@CELLS.write(
    f"{_HERE}/updates", verb="post", body=UpdatesRequest, query=ActQuery, answer=PostedAnswer, status=201,
    example={
        "updates": [
            {"member": "members:ann", "delta": "-100", "reason": "SPOT_TRANSACTION_PAYER"},
            {"member": "members:ben", "delta": "100", "reason": "SPOT_TRANSACTION_PAYEE"},
        ]
    },
)  # fmt: skip
def update_balances(call: Call) -> PostedAnswer:
    """Change balances of members, all at once in one event or not at all; they add up to exactly zero.

    Whoever pays must be the key's to post for; an adjustment by governance takes the verb ``govern``, and value out of
    a clearing account the verb ``issue``.
    """
    body: UpdatesRequest = call.body
    updates = [
        BalanceUpdate(
            update.member, minor(update.delta, f"updates[{index}].delta"), update.reason, update.related_event_id
        )
        for index, update in enumerate(body.updates)
    ]
    reserve = None if body.reserve is None else _reserve(body.reserve)
    plan = Plan(updates, body.clearing, body.related_event_id)
    if plan.kind == "governance_adjustment":
        call.principal.require_whole("govern", call.ledger_name)
    call.permitted(command_of(plan, reserve, body.asset, _context(call)))
    with changing(call, body.asset) as cell:
        posted = cell.apply_balance_updates(
            updates, key=call.key, clearing=body.clearing, reserve=reserve, **note_of(call)
        )
        return _posted(call, posted)


@CELLS.write(
    f"{_HERE}/reserves", verb="post", body=ReserveChange, query=ActQuery, answer=PostedAnswer, status=201,
    example={
        "reserve": {
            "member": "members:ann", "delta": "100", "reason": "COMMITMENT_CREATE", "commitment": "commitment-1"
        }
    },
)  # fmt: skip
def update_reserve(call: Call) -> PostedAnswer:
    """Reserve more of a member's capacity for a commitment, or free some of it."""
    update = _reserve(call.body.reserve)
    call.permitted(reserve_command(update, call.body.asset, _context(call)))
    with changing(call, call.body.asset) as cell:
        return _posted(call, cell.apply_reserve_update(update, key=call.key, **note_of(call)))


def _reserve(request: ReserveRequest) -> ReserveUpdate:
    return ReserveUpdate(request.member, minor(request.delta, "reserve.delta"), request.reason, request.commitment)


def _context(call: Call) -> dict[str, Any]:
    """What the command carries by which the permission is judged."""
    principal = call.principal
    return {"key": call.key, "source": principal.source, "actor": principal.actor, "reason": call.body.note}


# ---------------------------------------------------------------- inside


def _member(call: Call) -> str:
    """The member in the path. Raises NotFound for one that the key may not read."""
    member = call.path["member"]
    if not call.sees(member):
        raise _no_member(member)
    return member


def _governed(call: Call, command: Any, **given: Any) -> str:
    """The member in the path, over whom the key may decide in this way. Raises Forbidden."""
    member = call.path["member"]
    call.make(command, account=member, **given)
    return member


def _no_member(member: str) -> NotFound:
    return NotFound(what=f"member {member[:80]}")


def _posted(call: Call, posted: Posted) -> PostedAnswer:
    call.replayed = posted.replayed
    return posted_answer(posted)


def _member_answer(asset: str, state: MemberState) -> MemberAnswer:
    return MemberAnswer(
        member=state.id,
        asset=asset,
        balance=str(state.balance),
        limit=str(state.limit),
        reserve=str(state.reserve),
        available=str(state.available),
        status=state.status,
        joined_at=state.joined_at,
        last_activity_at=state.last_activity_at,
    )
