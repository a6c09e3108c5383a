"""Deciding: a command and the book as it stands become one event, or a refusal. Pure: no I/O, no clock, no chance.

The time comes in as ``now``. What a command may do is in three layers: its form (checked here, once), the registry's
row for its type (references, needs, directions), and the rules of the books (postings, locks, state, repair).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeGuard

import msgspec

from tallystick import commands as c
from tallystick.clock import parse_time
from tallystick.commands import Command, Leg, Post, Transfer, request_digest
from tallystick.erasable import Erasable
from tallystick.errors import (
    EffectiveInFuture,
    InvalidInput,
    PeriodClosed,
    ReferenceRequired,
    TypeNotFound,
)
from tallystick.events import REFERENCES, Event, EventType
from tallystick.kernel import locks, repair, state
from tallystick.kernel.book import Book
from tallystick.kernel.draft import Draft
from tallystick.kernel.postings import changes_of, check_conditions, entries_of
from tallystick.kernel.texts import MAX_TEXT, check_name, check_own_texts, check_plain, check_text

MAX_METADATA = 64
MAX_CONDITIONS = 100


def decide(book: Book, command: Command, now: str, committed: Collection[str] = ()) -> Event:
    """The event that the command comes to, at the book's next place, not yet sealed.

    ``committed`` are the commitments that stand in the command for its erasable texts; nothing else may look like one.

    Raises a Refusal if a rule forbids it, and NotLoaded if the book must know more first. The book is unchanged.
    """
    command = check_form(command, committed)
    handler = _HANDLERS[type(command)]
    kind = _kind(book, command)
    refs = command.refs or {}
    for group in kind.requires:
        if not any(refs.get(name) for name in group):
            raise ReferenceRequired(type=kind.name, references=", ".join(group))
    for need in kind.needs:
        if not getattr(command, need):
            raise InvalidInput(path=need, problem=f"a {kind.name} needs it")
    draft = handler(book, command, now)
    if not draft.entries and command.conditions:
        check_conditions(book, command.conditions, {})
    return Event(
        type=draft.type,
        ledger=book.name,
        seq=book.seq,
        time=now,
        effective=draft.effective,
        actor=command.actor,
        source=command.source,
        idem=command.key,
        refs=dict(refs),
        entries=draft.entries,
        data=_data(command, draft),
    )


def shows_request(event: Event, command: Command) -> bool | None:
    """Whether an event was made by this very request; None if the event does not show it, which all made here do."""
    digest = event.data.get("request")
    if digest is not None:
        return bool(digest == request_digest(command))
    if len(event.entries) != 2:
        return None
    if not is_bare(command):
        return False
    payer, payee = event.entries
    return (
        (command.key, command.source, command.actor) == (event.idem, event.source, event.actor)
        and (command.from_account, command.to_account) == (payer.account, payee.account)
        and (command.asset, command.amount) == (payer.asset, payee.amount)
    )


def is_bare(command: Command) -> TypeGuard[Transfer]:
    """A transfer with nothing beside its four fields: its event shows the whole request, so no digest is kept."""
    return (
        type(command) is Transfer
        and not command.refs
        and not command.metadata
        and not command.reason
        and not command.conditions
    )


# ---------------------------------------------------------------- form


def check_form(command: Command, committed: Collection[str] = ()) -> Command:
    """The command as it would arrive on the wire, every field of its type and size; raises InvalidInput with the path,
    and CardNumber for a text that holds one.

    What comes back is what is decided on, so that every value in it has just the type that its field declares.
    """
    for name in ("key", "source"):
        # Not even what would become text (a UUID, say): the key was looked up by now, and not as that text.
        if type(found := getattr(command, name)) is not str:
            raise InvalidInput(path=name, problem=f"{found!r:.80} is not text")
    try:
        msgspec.json.encode(command)  # text that is not Unicode cannot be written down
        command = msgspec.convert(msgspec.to_builtins(command), type=type(command))
    except (msgspec.ValidationError, TypeError, UnicodeEncodeError, OverflowError) as error:
        problem, _, path = str(error).partition(" - at `$.")
        raise InvalidInput(path=path.rstrip("`") or "command", problem=problem) from None
    if not command.key:
        raise InvalidInput(path="key", problem="every command needs an idempotency key")
    check_name(command.key, "key")
    if not command.source:
        raise InvalidInput(path="source", problem="it is the name of the system that asks")
    check_name(command.source, "source")
    check_name(command.actor, "actor")
    _check_free_text(command.reason, "reason", committed)
    for name, value in (command.refs or {}).items():
        if name not in REFERENCES:
            raise InvalidInput(
                path=f"refs.{name}", problem=f"there is no such reference; there are {', '.join(REFERENCES)}"
            )
        if not value:
            raise InvalidInput(path=f"refs.{name}", problem="a reference is not empty")
        check_name(value, f"refs.{name}")
        check_plain(value, f"refs.{name}")
    metadata = command.metadata or {}
    if len(metadata) > MAX_METADATA:
        raise InvalidInput(path="metadata", problem=f"there may be {MAX_METADATA} entries at most")
    for name, text in metadata.items():
        check_plain(name, "metadata")
        if not name.isascii() or not name.isprintable() or not 0 < len(name) <= 64:
            raise InvalidInput(path="metadata", problem=f"{name!r} is not a name of 1 to 64 ASCII characters")
        _check_free_text(text, f"metadata.{name}", committed)
    if len(command.conditions) > MAX_CONDITIONS:
        raise InvalidInput(path="conditions", problem=f"there may be {MAX_CONDITIONS} at most")
    check_own_texts(command)
    return command


def _check_free_text(text: str | Erasable, path: str, committed: Collection[str]) -> None:
    if isinstance(text, Erasable):  # the salt of a commitment comes from outside, so it was to be made there
        raise InvalidInput(path=path, problem="an erasable text must be committed to before it is decided on")
    check_text(text, path, MAX_TEXT)
    if text and text not in committed:
        check_plain(text, path)


def _kind(book: Book, command: Command) -> EventType:
    name = command.type if type(command) is Post else command.event_type
    kind = repair.type_of(book, name)
    if kind is None or (type(command) is Post and kind.by != "post"):
        raise TypeNotFound(type=name)
    return kind


def _data(command: Command, draft: Draft) -> dict[str, Any]:
    if is_bare(command) and not draft.data:
        return {}
    data = dict(draft.data)
    if command.reason:
        data["reason"] = command.reason
    if command.metadata:
        data["metadata"] = dict(command.metadata)
    data["request"] = request_digest(command)
    return data


# ---------------------------------------------------------------- movements


def _decide_transfer(book: Book, command: Transfer, now: str) -> Draft:
    leg = Leg(command.from_account, command.to_account, command.asset, command.amount)
    return Draft(
        "transfer", entries_of(book, changes_of(book, [leg], _kind(book, command)), conditions=command.conditions)
    )


def _decide_post(book: Book, command: Post, now: str) -> Draft:
    effective = _effective(book, command, now)
    kind = _kind(book, command)
    changes = changes_of(book, command.legs, kind)
    if any("corrects" in group for group in kind.requires):
        repair.seq_of(book, (command.refs or {}).get("corrects", ""))
    entries = entries_of(book, changes, effective=effective, conditions=command.conditions)
    return Draft(command.type, entries, effective=effective)


def _effective(book: Book, command: Post, now: str) -> str:
    if not command.effective:
        return ""
    effective = parse_time(command.effective, "effective")
    if effective > now:
        raise EffectiveInFuture(effective=effective, now=now)
    closed = book.get("period", "closed")
    if closed is not None and effective < closed.id:
        raise PeriodClosed(effective=effective, closed=closed.id)
    return "" if effective == now else effective


_HANDLERS: dict[type[Command], Callable[[Book, Any, str], Draft]] = {
    Transfer: _decide_transfer,
    Post: _decide_post,
    c.Hold: locks.decide_hold,
    c.HoldTopUp: locks.decide_top_up,
    c.HoldExtend: locks.decide_extend,
    c.Capture: locks.decide_capture,
    c.Release: locks.decide_release,
    c.HoldExpire: locks.decide_expire,
    c.StakeLock: locks.decide_stake_lock,
    c.StakeRelease: locks.decide_stake_release,
    c.StakeSlash: locks.decide_stake_slash,
    c.BetStake: locks.decide_bet_stake,
    c.BetSettlement: locks.decide_bet_settlement,
    c.BetRollback: locks.decide_bet_rollback,
    c.CommitmentCreate: locks.decide_commitment_create,
    c.CommitmentFulfil: locks.decide_commitment_fulfil,
    c.CommitmentCancel: locks.decide_commitment_cancel,
    c.Reverse: repair.decide_reversal,
    c.FinalizeCharge: repair.decide_finalize,
    c.OpenAccount: state.decide_open,
    c.FreezeAccount: state.decide_freeze,
    c.UnfreezeAccount: state.decide_unfreeze,
    c.ExcludeAccount: state.decide_end,
    c.CloseAccount: state.decide_end,
    c.SetLimit: state.decide_limit,
    c.SetPolicy: state.decide_policy,
    c.DefineAsset: state.decide_asset,
    c.DefineType: state.decide_type,
    c.RecordReserve: state.decide_reserve,
    c.IssueAttestation: state.decide_attestation,
    c.ClosePeriod: state.decide_period,
    c.RotateKey: state.decide_key,
    c.OpenLedger: state.decide_ledger_opened,
}
