"""Requests: the commands of the kernel in the form that they have on the wire.

Nobody writes them out a second time: each is derived from its command. Amounts may be strings of digits; the
idempotency key comes in a header (in a batch, in each command's own ``key``), and who asks is known from the API key.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from tallystick.commands import AnyCommand, Command, Condition, Leg, OpenLedger, SetPolicy, Split, Transfer
from tallystick.events import MAX_LEGS
from tallystick.kernel.decide import MAX_CONDITIONS
from tallystick.wire.amounts import Amount, minor
from tallystick.wire.fields import Asset, NotNegative, Positive, Rules, Signed, field_of, rules_of

AMOUNTS = frozenset({"amount", "payout", "value", "limit", "ceiling", "at_least", "at_most"})
"""The fields that are amounts of minor units; other integers are counts."""

_NOT_NEGATIVE = frozenset({"payout", "value", "limit", "ceiling"})
_SIGNED = frozenset({"at_least", "at_most"})

_BY_SERVICE = frozenset({"key", "source", "actor"})

MAX_PART = 1_000
"""The most legs, splits or conditions that a command of a batch may carry; the kernel's own limits are narrower."""
MAX_EXACT_PARTS = min(MAX_LEGS, MAX_CONDITIONS)
"""The most legs, splits or conditions of a request."""

Key = Annotated[
    str, Meta(min_length=1, max_length=255, description="The idempotency key; if absent, the header's and the index.")
]


# ---------------------------------------------------------------- fields


def _struct(name: str, kind: type[Any], *, exact: bool) -> type[Struct]:
    """A part of a command (a leg, a split, a condition) on the wire."""
    fields = [
        (found.name, _on_the_wire(kind, found.name, found.type, exact=exact)[0], *_default(found))
        for found in _fields(kind)
    ]
    return msgspec.defstruct(
        name, fields, frozen=True, forbid_unknown_fields=True, gc=False, namespace={"__doc__": kind.__doc__}
    )


def _fields(kind: type[Struct]) -> tuple[Any, ...]:
    return msgspec.structs.fields(kind)


def _default(found: Any) -> tuple[Any, ...]:
    if found.default is not msgspec.NODEFAULT:
        return (found.default,)
    return () if found.default_factory is msgspec.NODEFAULT else (msgspec.field(default_factory=found.default_factory),)


def _on_the_wire(
    command: type[Any], name: str, kind: Any, *, exact: bool
) -> tuple[Any, Callable[[Any, str], Any] | None]:
    """The type that a field has on the wire, and what makes it the command's again (None: it is that already).

    ``exact``: nothing is taken that the kernel would refuse for its form alone.
    """
    amount = _amount(name) if exact else Amount
    if name in AMOUNTS and kind is int:
        return amount, minor
    if name in AMOUNTS and _is_optional(kind, int):
        return amount | None, _minor_or_none
    if get_origin(kind) is dict and get_args(kind)[1] is int:
        return (dict[Asset, NotNegative] if exact else dict[str, Amount]), _minors
    if get_origin(kind) is tuple and get_args(kind)[0] in PARTS:
        part, most = PARTS[get_args(kind)[0]][exact], MAX_EXACT_PARTS if exact else MAX_PART
        return Annotated[tuple[part, ...], Meta(max_length=most)], functools.partial(_parts, get_args(kind)[0])  # type: ignore[valid-type]
    if exact and (command, name) == (SetPolicy, "changes"):
        return Rules, _rules
    return (field_of(command, name) if exact else None) or kind, None


def _amount(name: str) -> Any:
    if name in _SIGNED:
        return Signed
    return NotNegative if name in _NOT_NEGATIVE else Positive


def _rules(value: Any, path: str) -> dict[str, Any]:
    return rules_of(value)


def _is_optional(kind: Any, of: type) -> bool:
    return get_origin(kind) in (Union, UnionType) and set(get_args(kind)) == {of, type(None)}


def _minor_or_none(value: Any, path: str) -> int | None:
    return None if value is None else minor(value, path)


def _minors(values: Mapping[str, Any], path: str) -> dict[str, int]:
    return {asset: minor(value, f"{path}.{asset}") for asset, value in values.items()}


def _parts(kind: type[Struct], parts: tuple[Any, ...], path: str) -> tuple[Any, ...]:
    """Legs, splits or conditions with their amounts as integers."""
    if not parts:
        return ()
    names = _names_of(kind)
    return tuple(
        kind(
            **{
                name: _minor_or_none(getattr(part, name), f"{path}[{index}].{name}")
                if is_amount
                else getattr(part, name)
                for name, is_amount in names
            }
        )
        for index, part in enumerate(parts)
    )


@functools.cache
def _names_of(kind: type[Struct]) -> tuple[tuple[str, bool], ...]:
    """The fields of a part, and whether each is an amount."""
    return tuple((found.name, found.name in AMOUNTS) for found in _fields(kind))


PARTS: dict[Any, dict[bool, type[Struct]]] = {
    kind: {
        True: _struct(f"{kind.__name__}Request", kind, exact=True),
        False: _struct(f"{kind.__name__}Command", kind, exact=False),
    }
    for kind in (Leg, Split, Condition)
}
"""The parts of commands and how they look on the wire: exactly, and as in a batch."""


# ---------------------------------------------------------------- forms


class Form:
    """How one command looks on the wire, and how it becomes that command again.

    ``without``: the fields that the path says. ``tagged``: it bears its name, and a key of its own, as in a batch; what
    stands in its fields is then for the ledger to judge, so that one command among many is refused by itself, at no
    cost for the others. Otherwise every field takes exactly what the kernel knows as well formed.
    """

    def __init__(self, command: type[Command], *, without: tuple[str, ...] = (), tagged: bool = False) -> None:
        self.command = command
        self.tagged = tagged
        left_out = _BY_SERVICE.union(without)
        fields: list[Any] = []
        self._changes: list[tuple[str, Callable[[Any, str], Any]]] = []
        for found in msgspec.structs.fields(command):
            if found.name in left_out:
                continue
            wire, change = _on_the_wire(command, found.name, found.type, exact=not tagged)
            fields.append((found.name, wire, *_default(found)))
            if change is not None:
                self._changes.append((found.name, change))
        if tagged:
            fields.append(("key", Key | None, None))
        self._names = tuple(name for name, *_ in fields if name != "key")
        config = command.__struct_config__
        self.request: type[Struct] = msgspec.defstruct(
            command.__name__ + ("Command" if tagged else "Request"),
            fields,
            kw_only=True,
            frozen=True,
            forbid_unknown_fields=True,
            gc=False,
            tag_field="command" if tagged else None,
            tag=config.tag if tagged else None,
            namespace={"__doc__": command.__doc__},
        )

    def command_of(self, request: Any, **given: Any) -> Command:
        """The command that a request asks for; ``given`` are its key, source, actor, and what its path says."""
        for name in self._names:
            given[name] = getattr(request, name)
        for name, change in self._changes:
            given[name] = change(given[name], name)
        return self.command(**given)


@functools.cache
def form(command: type[Command], *without: str) -> Form:
    """The form of a command, without the fields that its path says."""
    return Form(command, without=without)


TAGGED: Mapping[type[Struct], Form] = {
    found.request: found
    for found in (Form(command, tagged=True) for command in get_args(AnyCommand) if command is not OpenLedger)
}
"""The forms of every command that may stand in a batch, by the type of their requests."""

AnyRequest: Any = Union[tuple(TAGGED)]  # noqa: UP007 - made of what was derived
"""Any command in a batch: ``{"command": "transfer", "key": "...", ...}``."""


def command_of(request: Any, *, key: str, source: str, actor: str) -> Command:
    """The command that a request in a batch asks for; ``key`` is for one that has none of its own."""
    if type(request) is _TRANSFER and not request.conditions:  # the most frequent one, written out for speed
        return Transfer(
            key=request.key or key,
            source=source,
            actor=actor,
            reason=request.reason,
            refs=request.refs,
            metadata=request.metadata,
            from_account=request.from_account,
            to_account=request.to_account,
            asset=request.asset,
            amount=minor(request.amount),
        )
    return TAGGED[type(request)].command_of(request, key=request.key or key, source=source, actor=actor)


_TRANSFER: Any = next(request for request, found in TAGGED.items() if found.command is Transfer)
