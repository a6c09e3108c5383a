"""Erasable texts on their way into a command and out of an event: committed to, compared, and shown again.

Salts come in from outside, as the time does: the same commands with the same salts make the same events.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from tallystick.commands import Command
from tallystick.erasable import MAX_ERASABLE, SALT_BYTES, Erasable, commitment_of, commitments_in
from tallystick.errors import InvalidInput, LedgerCorrupt
from tallystick.events import Event
from tallystick.kernel.texts import check_plain, check_text
from tallystick.stores.base import OpeningRow

Salts = Callable[[], bytes]
"""A new salt of 32 bytes with every call, that nobody can guess."""

FindOpenings = Callable[[Sequence[str]], Mapping[str, OpeningRow]]


def random_salt() -> bytes:
    """A salt from the operating system."""
    return secrets.token_bytes(SALT_BYTES)


def has_erasable(command: Command) -> bool:
    """Whether any text of a command is erasable."""
    return type(command.reason) is Erasable or (
        bool(command.metadata)
        and isinstance(command.metadata, dict)
        and any(type(value) is Erasable for value in command.metadata.values())
    )


def commit(command: Command, seq: int, salts: Salts) -> tuple[Command, list[OpeningRow]]:
    """The command with a commitment in the place of each erasable text, and their openings.

    Raises InvalidInput and CardNumber for a text that may not be kept.
    """
    made: dict[str, OpeningRow] = {}
    for path, value in _erasable(command):
        text = _checked(value.text, path)
        salt = salts()
        commitment = commitment_of(text, salt)
        made[path] = (commitment, salt, text, seq)
    return _replaced(command, {path: row[0] for path, row in made.items()}), list(made.values())


def as_committed(command: Command, event: Event, find: FindOpenings) -> Command | None:
    """The command as it must have been for this event: with the event's commitments in the place of its texts.

    None if one of them opens to another text. Of a text that was erased nothing is known, so any is taken for it.
    """
    standing = commitments_in(event.data)
    paths = {path: value.text for path, value in _erasable(command)}
    if not paths.keys() <= standing.keys():
        return None
    openings = find([standing[path] for path in paths])
    for path, text in paths.items():
        opening = openings.get(standing[path])
        if opening is not None and opening[2] != text:
            return None
    return _replaced(command, {path: standing[path] for path in paths})


def opened(event: Event, find: FindOpenings) -> dict[str, str | None]:
    """The erasable texts of an event by path; None for one that was erased. Raises LedgerCorrupt."""
    standing = commitments_in(event.data)
    openings = find(list(standing.values())) if standing else {}
    return {path: checked_text(openings.get(commitment)) for path, commitment in standing.items()}


def checked_text(opening: OpeningRow | None) -> str | None:
    """The text of an opening that is one. Raises LedgerCorrupt if it does not open its commitment."""
    if opening is None:
        return None
    commitment, _, text, seq = opening
    if not opens(opening):
        raise LedgerCorrupt(where=f"the opening of {commitment}", problem=f"it is not what event {seq} committed to")
    return text


def opens(opening: OpeningRow) -> bool:
    """Whether salt and text lead to the commitment."""
    commitment, salt, text, _ = opening
    return len(salt) == SALT_BYTES and commitment_of(text, salt) == commitment


def _erasable(command: Command) -> Iterator[tuple[str, Erasable]]:
    if type(command.reason) is Erasable:
        yield "reason", command.reason
    if isinstance(command.metadata, dict):
        for name, value in command.metadata.items():
            if type(value) is Erasable:
                yield f"metadata.{name}", value


def _replaced(command: Command, texts: dict[str, str]) -> Command:
    changes: dict[str, Any] = {}
    if "reason" in texts:
        changes["reason"] = texts["reason"]
    if isinstance(command.metadata, dict):
        changes["metadata"] = {
            name: texts[path] if type(value) is Erasable and (path := f"metadata.{name}") in texts else value
            for name, value in command.metadata.items()
        }
    return msgspec.structs.replace(command, **changes)


def _checked(text: object, path: str) -> str:
    """The text itself. Raises InvalidInput or CardNumber, neither of which repeats a card number."""
    check_plain(path.partition(".")[2], "metadata")
    if type(text) is not str or not text:
        raise InvalidInput(path=path, problem="an erasable text is text, and not empty")
    check_text(text, path, MAX_ERASABLE)
    check_plain(text, path)
    return text
