"""Batches: many commands of one request, judged one by one and posted in one call of the engine.

What a batch may take of the process is bounded twice: so many may be in memory, and so many of these at work; the rest
wait with their bodies as the bytes that came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import msgspec

from tallystick.access.mandates import MAX_BINDINGS
from tallystick.commands import Command, Transfer
from tallystick.errors import (
    BatchAborted,
    Forbidden,
    InvalidInput,
    Overloaded,
    Refusal,
    TallystickError,
    Unauthenticated,
)
from tallystick.kernel.texts import MAX_KEY
from tallystick.ledger.views import Posted
from tallystick.service.answering import shown_to
from tallystick.service.calls import Call
from tallystick.service.permissions import check_command
from tallystick.service.posting import post_mandated
from tallystick.service.problems import problem_of
from tallystick.wire.answers import BatchResult
from tallystick.wire.batches import MAX_BATCH
from tallystick.wire.forms import command_of

if TYPE_CHECKING:
    from tallystick.service.application import Service

MAX_BATCHES = 16
"""Batches whose bodies a process holds at a time; more are refused at once, with 503."""
MAX_LINE_STREAMS = 64
"""Streams of lines that a process answers at a time; more are refused at once, with 503."""
MAX_AT_WORK = 4
"""Batches, and groups of lines, that are decoded and posted at a time: half of the threads that read, so that reads go
on."""
MAX_MANDATED = 1_000
"""The most commands of a batch under a mandate: each is bound to what the one before it left."""
_LONGEST_INDEX = len(f"#{MAX_BATCH}")

Outcome = Posted | Refusal


class Places:
    """So many at a time."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take a place. Raises Overloaded if there is none."""
        if self.taken >= self.limit:
            raise Overloaded(queued=self.taken, limit=self.limit)
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class Room:
    """How much room a process has for batches and streams of lines; ``turns`` are taken for the work itself."""

    def __init__(self) -> None:
        self.batches = Places(MAX_BATCHES)
        self.streams = Places(MAX_LINE_STREAMS)
        self.turns = asyncio.Semaphore(MAX_AT_WORK)


_rooms: WeakKeyDictionary[Service, Room] = WeakKeyDictionary()


def room_of(service: Service) -> Room:
    """The room that this service has for batches."""
    found = _rooms.get(service)
    if found is None:
        found = _rooms[service] = Room()
    return found


# ---------------------------------------------------------------- from requests to commands


def refuse_signed(call: Call) -> None:
    """Raises for signed requests, and for keys that must sign: the proof in an event is of that one request."""
    if call.principal.signer:
        raise Unauthenticated(problem="this key's writes must be signed, and only single postings can be signed")
    if b"signature" in call.headers or b"signature-input" in call.headers:
        raise InvalidInput(path="Signature", problem="only single postings can be signed")


def check_prefix(key: str) -> None:
    """Raises InvalidInput for an idempotency key that leaves no room for the numbers behind it."""
    if len(key) > MAX_KEY - _LONGEST_INDEX:
        raise InvalidInput(
            path="Idempotency-Key",
            problem=f"commands without a key of their own need one of at most {MAX_KEY - _LONGEST_INDEX} characters",
        )


def commands_of(call: Call, requests: Sequence[Any]) -> tuple[list[Command], dict[int, Refusal]]:
    """The commands that are asked for, and, by index, those that are refused before the ledger is asked.

    Raises Forbidden, with the index, if the key does not allow one of them.
    """
    if any(request.key is None for request in requests):
        check_prefix(call.key)
    source, actor, reaches_all = call.principal.source, call.principal.actor, call.reaches_all
    prefix = call.key + "#"
    commands: list[Command] = []
    refused: dict[int, Refusal] = {}
    for index, request in enumerate(requests):
        try:
            command = command_of(request, key=request.key or f"{prefix}{index}", source=source, actor=actor)
            # A key that may pay out of every account needs no closer look at the most frequent command, if it is bare.
            is_bare = type(command) is Transfer and not (command.conditions or command.metadata)
            if not (reaches_all and is_bare):
                check_command(call.principal, call.ledger, command)
            commands.append(command)
        except Forbidden as error:
            raise Forbidden(
                problem=f"commands[{index}]: {error.data.get('problem', '')}", path=f"commands[{index}]"
            ) from None
        except Refusal as error:
            refused[index] = error
    return commands, refused


# ---------------------------------------------------------------- posting


def post_batch(call: Call, requests: Sequence[Any], *, atomic: bool) -> list[Outcome]:
    """Post what a batch asks for: one outcome for each command, in their order.

    Raises Forbidden before anything is posted; BatchAborted if an atomic one came to nothing; Faults.
    """
    commands, refused = commands_of(call, requests)
    if atomic:
        if refused:
            index, first = next(iter(refused.items()))
            raise aborted(call, BatchAborted(index=index, reason=str(first), refusal=first.to_dict()))
        return _post_whole(call, commands)
    outcomes = iter(post_each(call, commands) if commands else ())
    return [refused[index] if index in refused else next(outcomes) for index in range(len(requests))]


def post_each(call: Call, commands: Sequence[Command]) -> list[Outcome]:
    """Post commands that do not depend on each other."""
    if call.principal.mandate is None:
        return call.service.post_all(call.ledger, commands)
    _check_mandated(commands)
    return [post_mandated(call, command) for command in commands]


def _post_whole(call: Call, commands: Sequence[Command]) -> list[Outcome]:
    """Post all commands or none. Under a mandate they are bound together, anew if a balance moved meanwhile."""
    mandated = call.principal.mandate is not None
    if mandated:
        _check_mandated(commands)
    attempts = MAX_BINDINGS if mandated else 1
    bound = _bound(call, commands)
    while True:
        attempts -= 1
        try:
            return call.service.post_all(call.ledger, bound, atomic=True)
        except BatchAborted as error:
            moved = error.data["refusal"]["code"] in ("condition_failed", "idempotency_conflict")
            again = _bound(call, commands) if moved and attempts else bound
            if again == bound:
                raise aborted(call, error) from None
            bound = again


def _bound(call: Call, commands: Sequence[Command]) -> Sequence[Command]:
    if call.principal.mandate is None:
        return commands
    return call.service.mandates.bind_all(call.principal, call.ledger_name, commands)


def _check_mandated(commands: Sequence[Command]) -> None:
    if len(commands) > MAX_MANDATED:
        raise InvalidInput(path="commands", problem=f"a key with a mandate posts at most {MAX_MANDATED} at a time")


def aborted(call: Call, error: BatchAborted) -> BatchAborted:
    """The same, with the path of the command; of an account that the key may not see, what stands there is left out."""
    index, refusal, reason = error.data["index"], dict(error.data["refusal"]), error.data["reason"]
    account = refusal.get("account")
    if isinstance(account, str) and refusal["code"] != "not_found" and not call.sees(account):
        reason = "the ledger refused it"
        refusal = {"code": refusal["code"], "retryable": refusal["retryable"], "account": account}
    return BatchAborted(index=index, reason=reason, refusal=refusal, path=f"commands[{index}]")


# ---------------------------------------------------------------- answers


def result_of(call: Call, outcome: Outcome) -> BatchResult:
    """What became of one command, as it is answered."""
    if type(outcome) is Posted:
        return BatchResult("posted", outcome.id, outcome.seq, outcome.hash, outcome.time, outcome.replayed)
    return BatchResult("refused", problem=problem_in_batch(call, outcome))  # type: ignore[arg-type]


def problem_in_batch(call: Call, error: TallystickError, *, understood: bool = True) -> dict[str, Any]:
    """The problem of one command among others, as a member of the answer."""
    problem = problem_of(error, call.request_id, understood=understood)
    found: dict[str, Any] = msgspec.to_builtins(shown_to(problem, error, call))
    return found
