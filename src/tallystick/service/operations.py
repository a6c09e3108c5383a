"""Operations: what can be asked of the service, each one row of a table.

Routes, permissions, limits, the OpenAPI document and the tests that try to cross every boundary are made from this
table. A handler is a function of the call; its docstring's first line is the operation's summary, the rest its
description. There are five kinds:

    act      answers the command that was asked for; it is posted with what others ask at the same time
    write    changes something by itself, in a thread
    read     reads, in a thread
    ask      a coroutine, for what is gathered, or must not wait for a thread
    stream   a coroutine that sends its answer piece by piece
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec import Struct

from tallystick.control.records import Verb
from tallystick.ledger.views import Posted
from tallystick.wire.answers import PostedAnswer
from tallystick.wire.forms import Form

Kind = Literal["act", "write", "read", "ask", "stream"]
Method = Literal["GET", "POST", "PATCH", "DELETE"]
Handler = Callable[[Any], Any]

_PARAMETER = re.compile(r"{(\w+)}")


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing may be asked beside the path."""


class ActQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """``dry_run``: the same answer, and nothing is written."""

    dry_run: bool = False


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One thing that can be asked.

    ``verb`` is what a key must be allowed in the ledger (None: anyone may ask); ``whole``: on all accounts of it.
    ``example`` is a body, or a query where there is no body, that works on the ledger that the documentation describes.
    """

    id: str
    kind: Kind
    method: Method
    path: str
    group: str
    summary: str
    description: str
    handler: Handler
    verb: Verb | None
    whole: bool = False
    form: Form | None = None
    body: Any = None
    query: type[Struct] = NoQuery
    answer: Any = None
    status: int = 200
    media_type: str = "application/json"
    request_type: str = "application/json"
    is_batch: bool = False
    example: Any = None
    answer_example: Any = None
    in_ledger: bool = True
    """Whether it is about one ledger; else its verb is needed in all of them."""
    any_ledger: bool = False
    """Whether its verb in any one ledger is enough: it shows of each what may be seen there."""
    looks_up: bool = False
    """Whether the handler of an act may read the ledger, if the key does not reach everywhere."""
    answer_of: Callable[[Any, Posted], Any] | None = None
    """What an act answers, if that is more than where it was posted."""
    parameters: tuple[str, ...] = field(default=())

    @property
    def writes(self) -> bool:
        """Whether it changes something, and so needs an idempotency key."""
        return self.method != "GET"


class Group:
    """Operations that belong together: a chapter of the documentation, and a file of routes."""

    def __init__(self, name: str, *, in_ledger: bool = True) -> None:
        self.name = name
        self.in_ledger = in_ledger
        self.operations: list[Operation] = []

    def act(
        self,
        path: str,
        form: Form | None = None,
        *,
        verb: Verb = "post",
        method: Method = "POST",
        **more: Any,
    ) -> Callable[[Handler], Handler]:
        """A command, posted with what others ask at the same time. The permission is judged by the command itself."""
        body = more.pop("body", form.request if form is not None else None)
        return self._row(
            "act",
            method,
            path,
            verb,
            form=form,
            body=body,
            query=more.pop("query", ActQuery),
            answer=more.pop("answer", PostedAnswer),
            status=more.pop("status", 201),
            **more,
        )

    def write(
        self, path: str, *, verb: Verb | None, method: Method = "POST", **more: Any
    ) -> Callable[[Handler], Handler]:
        """A change that is no single command."""
        return self._row("write", method, path, verb, **more)

    def read(self, path: str, *, verb: Verb | None = "read", **more: Any) -> Callable[[Handler], Handler]:
        """A read, in a thread."""
        return self._row("read", "GET", path, verb, **more)

    def ask(
        self, path: str, *, verb: Verb | None = "read", method: Method = "GET", **more: Any
    ) -> Callable[[Handler], Handler]:
        """A coroutine that answers a value."""
        return self._row("ask", method, path, verb, **more)

    def stream(
        self, path: str, *, verb: Verb | None = "read", method: Method = "GET", **more: Any
    ) -> Callable[[Handler], Handler]:
        """A coroutine that sends its answer itself."""
        return self._row("stream", method, path, verb, **more)

    def _row(
        self, kind: Kind, method: Method, path: str, verb: Verb | None, **more: Any
    ) -> Callable[[Handler], Handler]:
        def add(handler: Handler) -> Handler:
            summary, _, description = (inspect.getdoc(handler) or "").partition("\n")
            self.operations.append(
                Operation(
                    id=handler.__name__,
                    kind=kind,
                    method=method,
                    path=path,
                    group=self.name,
                    summary=summary.rstrip("."),
                    description=description.strip(),
                    handler=handler,
                    verb=verb,
                    parameters=tuple(_PARAMETER.findall(path)),
                    in_ledger=more.pop("in_ledger", self.in_ledger),
                    **more,
                )
            )
            return handler

        return add
