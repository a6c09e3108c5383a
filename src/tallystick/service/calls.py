"""A call: one request, as the handlers see it, once it is known who asks and what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tallystick.access.principal import Principal
from tallystick.clock import parse_time
from tallystick.commands import Command
from tallystick.errors import InvalidInput, NotFound
from tallystick.ledger import Ledger
from tallystick.service.cursors import Place
from tallystick.service.operations import Operation
from tallystick.service.permissions import check_command
from tallystick.wire.forms import Form

if TYPE_CHECKING:
    from tallystick.service.application import Service

MAX_NUMBER = 2**63 - 1


class Call:
    """One request. ``key`` is its idempotency key, ``evidence`` what its signature adds to the metadata;
    ``understood``: it was read whole, and is what its operation's schema asks for."""

    __slots__ = (
        "_ledger",
        "body",
        "evidence",
        "headers",
        "key",
        "operation",
        "path",
        "principal",
        "query",
        "receive",
        "replayed",
        "request_id",
        "send",
        "service",
        "understood",
    )

    def __init__(
        self,
        service: Service,
        operation: Operation,
        principal: Principal,
        path: Mapping[str, str],
        headers: Mapping[bytes, bytes],
        request_id: str,
    ) -> None:
        self.service = service
        self.operation = operation
        self.principal = principal
        self.path = path
        self.headers = headers
        self.request_id = request_id
        self.query: Any = None
        self.body: Any = None
        self.key = ""
        self.evidence: dict[str, str] = {}
        self.replayed = False
        self.understood = False
        self.receive: Any = None
        self.send: Any = None
        self._ledger: Ledger | None = None

    # ------------------------------------------------------------ the ledger

    @property
    def ledger_name(self) -> str:
        return self.path.get("ledger", self.service.settings.default_ledger)

    @property
    def ledger(self) -> Ledger:
        """Raises NotFound for a ledger that is not there, or where this key may do nothing at all."""
        if self._ledger is None:
            self._ledger = self.service.ledger(self.ledger_name, self.principal)
        return self._ledger

    def sees(self, account: str) -> bool:
        """Whether the key may read this account's balances."""
        return self.principal.covers("read", self.ledger_name, account)

    @property
    def sees_all(self) -> bool:
        """Whether the key may read every account's."""
        return self.principal.covers("read", self.ledger_name, "")

    @property
    def reaches_all(self) -> bool:
        """Whether the key may post, and issue, on all accounts: then nothing needs to be looked up to judge it."""
        name = self.ledger_name
        return self.principal.covers("post", name, "") and self.principal.covers("issue", name, "")

    def require_account(self, account: str) -> str:
        """The account itself. Raises Forbidden unless the key may read it."""
        self.principal.require("read", self.ledger_name, (account,))
        return account

    # ------------------------------------------------------------ commands

    def command(self, **given: Any) -> Command:
        """The command that the body asks for; ``given`` is what the path says of it. Raises Forbidden, NotFound."""
        form = self.operation.form
        if form is None:
            raise TypeError(f"{self.operation.id} has no form")
        return self.permitted(self.of(form, self.body, **given))

    def of(self, form: Form, body: Any, **given: Any) -> Command:
        """The command of a form, asked by who asks."""
        return form.command_of(body, key=self.key, source=self.principal.source, actor=self.principal.actor, **given)

    def make(self, kind: type[Command], **given: Any) -> Command:
        """A command that the handler itself puts together. Raises Forbidden, NotFound."""
        who: dict[str, Any] = {"key": self.key, "source": self.principal.source, "actor": self.principal.actor}
        return self.permitted(kind(**who, **given))

    def permitted(self, command: Command) -> Command:
        """The command itself. Raises Forbidden, NotFound."""
        check_command(self.principal, self.ledger, command)
        return command

    # ------------------------------------------------------------ places in the path

    def number(self, name: str) -> int:
        """A sequence number in the path. Raises NotFound for what is none."""
        text = self.path[name]
        if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= MAX_NUMBER):
            raise NotFound(what=f"{name} {text[:40]}")
        return int(text)

    def place(self, name: str) -> str:
        """The id ``<ledger>/<seq>`` of what the path names by its number."""
        return f"{self.ledger_name}/{self.number(name)}"

    # ------------------------------------------------------------ pages

    def page_place(self, filters: dict[str, Any], cursor: str, snapshot: str) -> Place:
        """Where a list goes on: at its beginning as of ``snapshot``, or where the cursor says, with its filters.

        Raises InvalidInput for a cursor of another list, and for filters that are not those it was begun with.
        """
        subject, ledger = self.principal.source, self.ledger_name
        if not cursor:
            return Place(self.operation.id, subject, ledger, filters, "", snapshot)
        found = self.service.cursors.read(cursor)
        if (found.operation, found.subject, found.ledger) != (self.operation.id, subject, ledger):
            raise InvalidInput(path="cursor", problem="it belongs to another list")
        named = {name: value for name, value in filters.items() if value not in ("", None)}
        if any(found.filters.get(name) != value for name, value in named.items()):
            raise InvalidInput(path="cursor", problem="the list was begun with other filters; the cursor carries them")
        return found

    def cursor(self, place: Place, after: str) -> str:
        """The cursor of the next page of a list, behind ``after``."""
        return self.service.cursors.write(
            Place(place.operation, place.subject, place.ledger, place.filters, after, place.snapshot, self.query.limit)
        )


def moment(text: str, path: str) -> str | None:
    """A time in a query; None if none was given. Raises InvalidInput."""
    return parse_time(text, path) if text else None
