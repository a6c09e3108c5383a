"""The cells of a service: kept for reading, since what only the journal tells of members is read once; made anew for
each change, in the name of who asks."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from tallystick.cells import Cell, CellError
from tallystick.commands import Command
from tallystick.errors import Forbidden, Refusal, Unavailable
from tallystick.ledger import Ledger
from tallystick.ledger.views import Posted
from tallystick.service.calls import Call
from tallystick.service.problems import Refused, status_of

if TYPE_CHECKING:
    from tallystick.service.application import Service

MAX_CELLS = 64
"""Cells whose journal is followed; the one that was asked for longest ago is forgotten."""
TURN_SECONDS = 5.0
"""How long to wait while another request follows the journal of the same cell."""


class _Kept:
    """A cell that is read, by one request at a time: the first of them may have much of the journal to follow."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.turn = threading.Lock()


class Cells:
    """The cells of one service that were read lately. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()

    def kept(self, ledger: Ledger, asset: str) -> _Kept:
        """The cell of a ledger in an asset."""
        with self._lock:
            found = self._kept.get((ledger.name, asset))
            if found is None:
                found = self._kept[ledger.name, asset] = _Kept(Cell(ledger, asset=asset))
                if len(self._kept) > MAX_CELLS:
                    self._kept.popitem(last=False)
            self._kept.move_to_end((ledger.name, asset))
            return found


_cells: WeakKeyDictionary[Service, Cells] = WeakKeyDictionary()
_making = threading.Lock()


def _cells_of(service: Service) -> Cells:
    with _making:
        return _cells.setdefault(service, Cells())


@contextmanager
def followed(call: Call, asset: str) -> Iterator[Cell]:
    """The cell, for what must be read from its journal. Raises Unavailable if others take too long over that."""
    kept = _cells_of(call.service).kept(call.ledger, asset)
    if not kept.turn.acquire(timeout=TURN_SECONDS):
        raise Unavailable(reason="the journal of the cell is being read; try again in a moment")
    try:
        yield kept.cell
    finally:
        kept.turn.release()


def read(call: Call, asset: str) -> Cell:
    """The cell, for what its balances alone tell."""
    return Cell(call.ledger, asset=asset)


class _Counted:
    """A ledger whose postings are counted as all others of the service are."""

    def __init__(self, call: Call) -> None:
        self._service = call.service
        self._ledger = call.ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def post(self, command: Command, *, dry_run: bool = False) -> Posted:
        if dry_run:
            return self._ledger.post(command, dry_run=True)
        (result,) = self._service.post_all(self._ledger, [command])
        if isinstance(result, Refusal):
            raise result
        return result


@contextmanager
def changing(call: Call, asset: str) -> Iterator[Cell]:
    """The cell, for a change that the key was found to be allowed. Raises Forbidden for a key with a mandate.

    Of a member that the key may not read nothing is told but that the cell refused.
    """
    if call.principal.mandate is not None:
        raise Forbidden(problem="a key with a mandate pays by transfers and holds alone")
    try:
        yield Cell(cast(Ledger, _Counted(call)), asset=asset, source=call.principal.source)
    except CellError as error:
        member = error.data.get("member_id")
        if isinstance(member, str) and not call.sees(member):
            raise Refused(status_of(error), error.code, "the cell refused it") from None
        raise


def note_of(call: Call) -> Any:
    """What a change carries beside what it changes."""
    return {
        "actor": call.principal.actor,
        "reason": call.body.note,
        "related_event_id": call.body.related_event_id,
        "dry_run": call.query.dry_run,
    }
