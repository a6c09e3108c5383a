"""Asking: what each call of the client is, told once for the synchronous and the asynchronous client.

A call is a function that makes an ``Ask`` of its arguments, with the operation that it asks for: method, path and the
type of the answer. It stands in a class that both clients inherit; which one it is called on decides whether it answers
or must be awaited::

    @post("/v1/ledgers/{ledger}/transfers", PostedAnswer)
    def transfer(self, from_account: str, ..., **notes: Unpack[Notes]) -> Ask:
        '''One account pays another.'''
        return act(notes, from_account=from_account, ...)
"""

from __future__ import annotations

import functools
import inspect
import re
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    Self,
    TypedDict,
    TypeVar,
    cast,
    overload,
)
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct

from tallystick.commands import Command, Condition
from tallystick.erasable import Erasable
from tallystick.errors import InvalidInput
from tallystick.money import MAX_AMOUNT
from tallystick.wire.answers import Page
from tallystick.wire.forms import AMOUNTS

if TYPE_CHECKING:
    from tallystick.client.sending import AsyncCaller, AsyncPages, Caller, Pages

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")
Item = TypeVar("Item")

MAX_KEY = 255
"""The most characters of an idempotency key."""

_KEY = re.compile(r"[!-~](?:[ -~]*[!-~])?\Z")
_PARAMETER = re.compile(r"{(\w+)}")


class Notes(TypedDict, total=False):
    """What every act may be given beside its own arguments.

    ``key``: the idempotency key, 1 to 255 printable ASCII characters. Where it is left out the client makes one before
    it asks for the first time, and keeps to it; it is on the error, if there is one. ``refs``: causal references.
    ``conditions``: what must hold of balances in the same instant. ``dry_run``: the same answer, and nothing written.
    """

    key: str
    reason: str | Erasable
    refs: Mapping[str, str]
    metadata: Mapping[str, str | Erasable]
    conditions: Sequence[Condition]
    dry_run: bool


class Dated(Notes, total=False):
    """Notes of an act that may be back-dated: ``effective`` is when it took effect."""

    effective: str


class Keyed(TypedDict, total=False):
    """What every write that is no single command may be given: its idempotency key, as in Notes."""

    key: str


@dataclass(frozen=True)
class Ask:
    """What the arguments of a call come to: names in the path, the query, the body, and the idempotency key."""

    names: Mapping[str, str | int] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    key: str = ""
    source: Any = None

    def at(self, **names: str | int) -> Ask:
        """The same, at a place that is named in the path."""
        return replace(self, names={**self.names, **names})


def read(**query: Any) -> Ask:
    """Ask for something, with what was given of its query."""
    return Ask(query=query)


def act(notes: Notes, **fields: Any) -> Ask:
    """Ask for a command. Raises InvalidInput for amounts that are none."""
    more: dict[str, Any] = dict(notes)
    key, dry_run = more.pop("key", ""), more.pop("dry_run", False)
    return Ask(query={"dry_run": dry_run or None}, body=body_of({**fields, **more}), key=key)


def write(keyed: Keyed, **fields: Any) -> Ask:
    """Ask for a change that is no single command."""
    return Ask(body=body_of(fields), key=keyed.get("key", ""))


# ---------------------------------------------------------------- bodies


def body_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A body without what was left out, with amounts as strings of digits. Raises InvalidInput."""
    return {name: _on_the_wire(name, value) for name, value in fields.items() if value is not None}


def command_body(command: Command | Mapping[str, Any]) -> dict[str, Any]:
    """A command in a batch: ``{"command": "transfer", ...}``. A mapping is taken for what it says.

    Raises InvalidInput for a command that says who asks: the service knows that from the API key.
    """
    if not isinstance(command, Command):
        return dict(command)
    if command.source != "local" or command.actor:
        raise InvalidInput(path="source", problem="the service itself knows who asks: leave source and actor out")
    config = type(command).__struct_config__
    fields = {found.name: getattr(command, found.name) for found in msgspec.structs.fields(command)}
    given = {name: value for name, value in fields.items() if name not in ("source", "actor") and value != ""}
    return {"command": config.tag, **body_of(given)}


def _on_the_wire(path: str, value: Any) -> Any:
    name = path.rpartition(".")[2]
    if name in AMOUNTS:
        return _digits(path, value)
    if name in ("limits", "ceilings") and isinstance(value, Mapping):
        return {asset: _digits(f"{path}.{asset}", amount) for asset, amount in value.items()}
    if isinstance(value, Struct):
        return _part(path, value)
    if isinstance(value, (list, tuple)):
        return [_on_the_wire(f"{path}[{index}]", item) for index, item in enumerate(value)]
    return value


def _part(path: str, part: Struct) -> Any:
    """A leg, a split or a condition, or any other value with fields."""
    if isinstance(part, Erasable):
        return msgspec.to_builtins(part)
    fields = {found.name: getattr(part, found.name) for found in msgspec.structs.fields(part)}
    return {name: _on_the_wire(f"{path}.{name}", value) for name, value in fields.items() if value is not None}


def _digits(path: str, amount: Any) -> str:
    if type(amount) is not int:
        raise InvalidInput(path=path, problem=f"{amount!r:.40} is not a whole number of minor units")
    if abs(amount) > MAX_AMOUNT:
        raise InvalidInput(path=path, problem=f"an amount is at most {MAX_AMOUNT}")
    return str(amount)


# ---------------------------------------------------------------- requests


@dataclass(frozen=True, kw_only=True)
class Request(Generic[Answer]):
    """One request, ready to be sent as often as need be: it is the same each time, its idempotency key too."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes | None
    key: str
    answer: type[Answer]
    media_type: str = "application/json"
    accept: str = "application/json"
    source: Any = field(default=None, compare=False)
    """Where the commands of a stream come from."""

    @property
    def target(self) -> str:
        """The path with the query."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"{self.method} {self.path}"

    def asking(self, **query: str) -> Request[Answer]:
        """The same, with more in its query."""
        return replace(self, query={**self.query, **query})


def check_key(key: str) -> str:
    """An idempotency key as it is. Raises InvalidInput."""
    if not isinstance(key, str) or len(key) > MAX_KEY or not _KEY.match(key):
        raise InvalidInput(path="key", problem=f"an idempotency key has 1 to {MAX_KEY} printable ASCII characters")
    return key


def new_key() -> str:
    """An idempotency key that nobody ever used."""
    return str(uuid.uuid4())


def path_of(path: str, names: Mapping[str, str | int]) -> str:
    """A path with its names filled in. What stands at a place of a ledger may be an id (``main/12``) or its number.

    Raises InvalidInput for an id of another ledger, and for an empty name.
    """

    def fill(found: re.Match[str]) -> str:
        name = found[1]
        value = str(names[name])
        ledger, slash, number = value.rpartition("/")
        if slash and name not in _TEXTS:
            if ledger != names.get("ledger"):
                raise InvalidInput(path=name, problem=f"{value!r:.80} is not in the ledger {names.get('ledger')}")
            value = number
        if not value:
            raise InvalidInput(path=name, problem="it is empty")
        # ``..`` is a possible address, and a step back in a path; nothing on the way may take it for one
        return quote(value, safe=":@") if value.strip(".") else value.replace(".", "%2E")

    return _PARAMETER.sub(fill, path)


_TEXTS = frozenset({"account", "ledger", "member", "batch"})


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


# ---------------------------------------------------------------- calls


@dataclass(frozen=True)
class Target(Generic[Answer]):
    """The operation of a call: method, path, and what it answers."""

    method: str
    path: str
    answer: type[Answer]
    media_type: str = "application/json"
    accept: str = "application/json"

    def request(self, ask: Ask, given: Mapping[str, str]) -> Request[Answer]:
        """The request that is asked for; ``given`` are names that the caller stands for. Raises InvalidInput."""
        query = {name: _plain(value) for name, value in ask.query.items() if value not in ("", None)}
        writes = self.method != "GET"
        return Request(
            method=self.method,
            path=path_of(self.path, {**given, **ask.names}),
            query=query,
            body=None if ask.body is None else msgspec.json.encode(ask.body),
            key=(check_key(ask.key) if ask.key else new_key()) if writes else "",
            answer=self.answer,
            media_type=self.media_type,
            accept=self.accept,
            source=ask.source,
        )


class _Described(Generic[Parameters, Answer]):
    """A function that makes an Ask, and the operation that it asks for."""

    def __init__(self, make: Callable[Concatenate[Any, Parameters], Ask], target: Target[Answer]) -> None:
        self.make = make
        self.target = target
        functools.update_wrapper(self, make)  # type: ignore[arg-type]

    def request(self, caller: Caller | AsyncCaller, *args: Any, **named: Any) -> Request[Answer]:
        """The request that a caller with these arguments sends."""
        return self.target.request(self.make(caller, *args, **named), caller.names)

    def bind(self, caller: Caller | AsyncCaller, do: Callable[[Request[Answer]], Any]) -> Callable[..., Any]:
        """The function that is called: it makes the request, and does this with it."""

        def call(*args: Any, **named: Any) -> Any:
            return do(self.request(caller, *args, **named))

        functools.update_wrapper(call, self.make)
        call.__signature__ = self._signature  # type: ignore[attr-defined]
        vars(call).pop("__wrapped__", None)
        return call

    @functools.cached_property
    def _signature(self) -> inspect.Signature:
        found = inspect.signature(self.make)
        shown = getattr(self.target.answer, "__name__", str(self.target.answer))
        return found.replace(parameters=list(found.parameters.values())[1:], return_annotation=shown)


class Call(_Described[Parameters, Answer]):
    """A call with one answer."""

    @overload
    def __get__(self, caller: Caller, owner: Any) -> Callable[Parameters, Answer]: ...
    @overload
    def __get__(self, caller: AsyncCaller, owner: Any) -> Callable[Parameters, Coroutine[Any, Any, Answer]]: ...
    @overload
    def __get__(self, caller: None, owner: Any) -> Self: ...
    def __get__(self, caller: Any, owner: Any) -> Any:
        return self if caller is None else self.bind(caller, caller.answer)


class Listing(_Described[Parameters, Page[Item]], Generic[Parameters, Item]):
    """A call that answers a list: it is walked item by item, and asked for page by page."""

    @overload
    def __get__(self, caller: Caller, owner: Any) -> Callable[Parameters, Pages[Item]]: ...
    @overload
    def __get__(self, caller: AsyncCaller, owner: Any) -> Callable[Parameters, AsyncPages[Item]]: ...
    @overload
    def __get__(self, caller: None, owner: Any) -> Self: ...
    def __get__(self, caller: Any, owner: Any) -> Any:
        return self if caller is None else self.bind(caller, caller.pages)


How = Callable[[Request[Any], Any], Generator[Any, Any, None]]
"""The steps of a Flow, of its request and the terms of the client; see trying.py."""


class Flow(_Described[Parameters, Any], Generic[Parameters, Item]):
    """A call whose answers come one by one for as long as there are any; ``how`` says in which steps."""

    def __init__(self, make: Callable[Concatenate[Any, Parameters], Ask], target: Target[Any], how: How) -> None:
        super().__init__(make, target)
        self.how = how

    @overload
    def __get__(self, caller: Caller, owner: Any) -> Callable[Parameters, Iterator[Item]]: ...
    @overload
    def __get__(self, caller: AsyncCaller, owner: Any) -> Callable[Parameters, AsyncIterator[Item]]: ...
    @overload
    def __get__(self, caller: None, owner: Any) -> Self: ...
    def __get__(self, caller: Any, owner: Any) -> Any:
        return self if caller is None else self.bind(caller, lambda request: caller.flow(self.how, request))


class _Maker(Protocol[Answer]):
    def __call__(self, make: Callable[Concatenate[Any, Parameters], Ask], /) -> Call[Parameters, Answer]: ...


def get(path: str, answer: type[Answer], *, accept: str = "application/json") -> _Maker[Answer]:
    """A call that reads."""
    return send("GET", path, answer, accept=accept)


def post(path: str, answer: type[Answer]) -> _Maker[Answer]:
    """A call that changes something."""
    return send("POST", path, answer)


def send(method: str, path: str, answer: type[Answer], *, accept: str = "application/json") -> _Maker[Answer]:
    """A call with another method."""

    def described(make: Callable[Concatenate[Any, Parameters], Ask]) -> Call[Parameters, Answer]:
        return Call(make, Target(method, path, answer, accept=accept))

    return described


def listing(
    path: str, item: type[Item]
) -> Callable[[Callable[Concatenate[Any, Parameters], Ask]], Listing[Parameters, Item]]:
    """A call that reads a list."""

    def described(make: Callable[Concatenate[Any, Parameters], Ask]) -> Listing[Parameters, Item]:
        return Listing(make, Target("GET", path, cast("type[Page[Item]]", Page[item])))  # type: ignore[valid-type]

    return described


def flow(
    method: str, path: str, answer: type[Item], how: How, *, media_type: str = "application/json", accept: str
) -> Callable[[Callable[Concatenate[Any, Parameters], Ask]], Flow[Parameters, Item]]:
    """A call whose answers come one by one."""

    def described(make: Callable[Concatenate[Any, Parameters], Ask]) -> Flow[Parameters, Item]:
        return Flow(make, Target(method, path, answer, media_type, accept), how)

    return described
