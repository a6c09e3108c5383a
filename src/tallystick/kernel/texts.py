"""Texts: what may stand in the free text of a command. The ledger keeps no card numbers, and what looks like one of its
commitments is one.

A card number is 13 to 19 digits that begin with 2 to 6 and have the right check digit (ISO/IEC 7812-1, Luhn), written
without a break or in groups, with one space or one hyphen between each two. Digits that adjoin a letter are part of
something else, such as a digest; UUIDs and valid IBANs are passed over. One number in ten of such a form has the right
check digit by chance, and is refused too: numbers that identify things belong into the idempotency key or an address,
which are not looked through.
"""

from __future__ import annotations

import re

from tallystick import commands as c
from tallystick.commands import Command
from tallystick.erasable import PREFIX
from tallystick.errors import CardNumber, InvalidInput

MAX_KEY = 255
MAX_TEXT = 1_024

_RUNS = tuple(
    (separator, re.compile(rf"(?<![0-9A-Za-z])[0-9]+(?:{separator}[0-9]+)*(?![0-9A-Za-z])")) for separator in " -"
)
_ENOUGH_DIGITS = re.compile(r"(?:[0-9][ -]?){13}")
_UUID = re.compile(r"(?<![0-9A-Za-z])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])")
_IBAN = re.compile(r"(?<![0-9A-Za-z])[A-Z]{2}[0-9]{2}(?: [0-9A-Z]{4}){2,7}(?: [0-9A-Z]{1,3})?(?![0-9A-Za-z])")
_GROUPINGS = frozenset({(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 5), (6, 13), (8, 8)})
"""How card numbers are printed: looked for within longer runs of groups too."""

_TEXTS: dict[type[Command], tuple[str, ...]] = {
    c.OpenAccount: ("owner",),
    c.DefineAsset: ("name",),
    c.DefineType: ("summary",),
    c.RecordReserve: ("provider",),
}
"""The free texts of commands beside reason, metadata and references."""


def check_text(text: str, path: str, limit: int) -> None:
    """Raises InvalidInput for text that is too long or is not Unicode (a lone surrogate)."""
    if len(text) > limit:
        raise InvalidInput(path=path, problem=f"it has {len(text)} characters, {limit} are allowed")
    if not text.isprintable() and any(0xD800 <= ord(character) <= 0xDFFF for character in text):
        raise InvalidInput(path=path, problem="it is not valid Unicode")


def check_name(text: str, path: str) -> None:
    """Raises InvalidInput for text that is too long, or that cannot be printed: things are found by it."""
    check_text(text, path, MAX_KEY)
    if not text.isprintable():
        raise InvalidInput(path=path, problem="it holds a character that cannot be printed")


def check_plain(text: str, path: str) -> None:
    """Raises CardNumber for text with a card number in it, InvalidInput for what would pass as a commitment."""
    if text.startswith(PREFIX):
        raise InvalidInput(path=path, problem=f"no text begins with {PREFIX!r}; give the text itself as Erasable")
    if holds_card_number(text):
        raise CardNumber(path=path)


def check_own_texts(command: Command) -> None:
    """The texts that only this kind of command has. Raises as ``check_plain``."""
    for name in _TEXTS.get(type(command), ()):
        check_plain(getattr(command, name), name)
    if isinstance(command, c.IssueAttestation):
        for name, value in command.statement.items():
            check_plain(name, "statement")
            check_plain(value, f"statement.{name}")


def holds_card_number(text: str) -> bool:
    """Whether a text holds what looks like a card number; see the module."""
    if not _ENOUGH_DIGITS.search(text):
        return False
    text = _IBAN.sub(_without_iban, _UUID.sub("uuid", text))
    return any(_is_in_groups(run.split(separator)) for separator, runs in _RUNS for run in runs.findall(text))


def _is_in_groups(groups: list[str]) -> bool:
    """Whether these groups of digits are a card number together, or hold one as cards print it."""
    if _is_card_number("".join(groups)):
        return True
    if len(groups) == 1:
        return False
    lengths = tuple(map(len, groups))
    windows = [
        "".join(groups[start : start + len(shape)])
        for shape in _GROUPINGS
        for start in range(len(groups) - len(shape) + 1)
        if lengths[start : start + len(shape)] == shape
    ]
    return any(map(_is_card_number, [*groups, *windows]))


def _is_card_number(digits: str) -> bool:
    return 13 <= len(digits) <= 19 and "2" <= digits[0] <= "6" and _luhn(digits) % 10 == 0


def _luhn(digits: str) -> int:
    """The sum of the digits, with every second from the last doubled, and its own digits added up."""
    return sum(map(int, digits[::-2])) + sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])


def _without_iban(match: re.Match[str]) -> str:
    """ISO 13616: with its first four characters last, and A to Z as 10 to 35, an IBAN is 1 modulo 97."""
    text = match[0].replace(" ", "")
    return "iban" if int("".join(str(int(letter, 36)) for letter in text[4:] + text[:4])) % 97 == 1 else match[0]
