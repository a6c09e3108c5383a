"""Cells and clearing: mutual credit among members, and what is settled between ledgers. Without an ``asset``, a cell's
calls mean the one that cells count in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict, Unpack

from tallystick.client.asking import Ask, Dated, Notes, act, get, listing, post, read
from tallystick.client.reads import HERE
from tallystick.wire.answers import AccountAnswer, PostedAnswer
from tallystick.wire.cells import (
    BalanceUpdateRequest,
    CanSpendAnswer,
    CellAnswer,
    CellCheckAnswer,
    MemberAnswer,
    RemovedMemberAnswer,
    ReserveRequest,
)
from tallystick.wire.clearing import CoverageAnswer, NettingBatchAnswer, ReserveAnswer

CELL = f"{HERE}/cell"
MEMBER = f"{CELL}/members/{{member}}"


class CellNotes(TypedDict, total=False):
    """What every change of a cell may be given: its asset, a note, what it is about; ``key``, ``dry_run``."""

    key: str
    dry_run: bool
    asset: str
    note: str
    related_event_id: str


def change(notes: CellNotes, **fields: object) -> Ask:
    """Ask for a change of a cell."""
    more: dict[str, object] = dict(notes)
    key, dry_run = str(more.pop("key", "")), more.pop("dry_run", False)
    found = act({}, **{**fields, **more})
    return Ask(query={"dry_run": dry_run or None}, body=found.body, key=key)


class Cells:
    """A cell and its members."""

    @get(CELL, CellAnswer)
    def cell(self, *, asset: str = "") -> Ask:
        """How the cell stands: its parameters, its members, its capacity."""
        return read(asset=asset)

    @get(f"{CELL}/check", CellCheckAnswer)
    def check_cell(self, *, asset: str = "") -> Ask:
        """Judge conservation, floors, escrow safety and reserves over the whole cell, and name who breaks one."""
        return read(asset=asset)

    @listing(f"{CELL}/members", MemberAnswer)
    def members(self, *, asset: str = "", status: str = "", limit: int | None = None, cursor: str = "") -> Ask:
        """The members of the cell."""
        return read(asset=asset, status=status, limit=limit, cursor=cursor)

    @post(f"{CELL}/members", PostedAnswer)
    def add_member(self, member: str, *, limit: int | None = None, **notes: Unpack[CellNotes]) -> Ask:
        """Let a member in, with a limit (None: the usual one)."""
        return change(notes, member=member, limit=limit)

    @get(MEMBER, MemberAnswer)
    def member(self, member: str, *, asset: str = "") -> Ask:
        """A member: its balance, limit and reserve."""
        return read(asset=asset).at(member=member)

    @get(f"{MEMBER}/can-spend", CanSpendAnswer)
    def can_spend(self, member: str, amount: int, *, asset: str = "") -> Ask:
        """Whether a member may spend so much now."""
        return read(amount=amount, asset=asset).at(member=member)

    @post(f"{MEMBER}/limit", PostedAnswer)
    def set_member_limit(self, member: str, limit: int, **notes: Unpack[CellNotes]) -> Ask:
        """Set how far a member may go into debt."""
        return change(notes, limit=limit).at(member=member)

    @post(f"{MEMBER}/freeze", PostedAnswer)
    def freeze_member(self, member: str, **notes: Unpack[CellNotes]) -> Ask:
        """Stop a member from paying."""
        return change(notes).at(member=member)

    @post(f"{MEMBER}/unfreeze", PostedAnswer)
    def unfreeze_member(self, member: str, **notes: Unpack[CellNotes]) -> Ask:
        """Let a frozen member pay again."""
        return change(notes).at(member=member)

    @post(f"{MEMBER}/remove", RemovedMemberAnswer)
    def remove_member(self, member: str, *, settle_to: str = "", **notes: Unpack[CellNotes]) -> Ask:
        """Remove a member for good; what it owns or owes goes to ``settle_to``."""
        return change(notes, settle_to=settle_to or None).at(member=member)

    @post(f"{CELL}/updates", PostedAnswer)
    def update_balances(
        self,
        updates: Sequence[BalanceUpdateRequest],
        *,
        clearing: str = "",
        reserve: ReserveRequest | None = None,
        **notes: Unpack[CellNotes],
    ) -> Ask:
        """Change balances of members together, in one event."""
        return change(notes, updates=list(updates), clearing=clearing or None, reserve=reserve)

    @post(f"{CELL}/reserves", PostedAnswer)
    def update_reserve(self, reserve: ReserveRequest, **notes: Unpack[CellNotes]) -> Ask:
        """Reserve a member's capacity for a commitment, or free it."""
        return change(notes, reserve=reserve)


class Clearing:
    """Clearing accounts, settlements, and the reserves that cover what was issued."""

    @post(f"{HERE}/clearing/accounts", PostedAnswer)
    def open_clearing_account(
        self, domain: str, *, ceilings: Mapping[str, int] | None = None, owner: str = "", **notes: Unpack[Notes]
    ) -> Ask:
        """Open the clearing account of a domain."""
        return act(notes, domain=domain, ceilings=ceilings, owner=owner or None)

    @listing(f"{HERE}/clearing/accounts", AccountAnswer)
    def clearing_accounts(self, *, limit: int | None = None, cursor: str = "") -> Ask:
        """The clearing accounts, with their balances."""
        return read(limit=limit, cursor=cursor)

    @post(f"{HERE}/settlements", PostedAnswer)
    def settle(
        self,
        from_account: str,
        to_account: str,
        asset: str,
        amount: int,
        *,
        netting_batch: str,
        **notes: Unpack[Dated],
    ) -> Ask:
        """Settle a netted amount; one side is a clearing account (``@clearing:<domain>``)."""
        sides = {"from_account": from_account, "to_account": to_account}
        return act(notes, **sides, asset=asset, amount=amount, netting_batch=netting_batch)

    @get(f"{HERE}/clearing/batches/{{batch}}", NettingBatchAnswer)
    def netting_batch(self, batch: str, *, limit: int | None = None, cursor: str = "") -> Ask:
        """What bears a netting batch's reference, and what it comes to. One page; its cursor leads to the next."""
        return read(limit=limit, cursor=cursor).at(batch=batch)

    @listing(f"{HERE}/reserves", ReserveAnswer)
    def reserves(self, *, asset: str = "", limit: int | None = None, cursor: str = "") -> Ask:
        """The reserves as they were recorded last."""
        return read(asset=asset, limit=limit, cursor=cursor)

    @listing(f"{HERE}/coverage", CoverageAnswer)
    def coverage(self, *, asset: str = "", limit: int | None = None, cursor: str = "") -> Ask:
        """How far the reserves cover what was issued, asset by asset."""
        return read(asset=asset, limit=limit, cursor=cursor)
