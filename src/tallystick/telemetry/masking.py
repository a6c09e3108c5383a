"""Masking: nothing that opens a door stands in a log.

What is masked is found by its form (API tokens, webhook secrets, Authorization values, JSON web tokens, passwords in
URLs, private keys) wherever it stands in a text, and by the name of the field that holds it (``password``, ``secret``,
``body`` ...), at any depth. It is a net under those who write log lines, not leave to log secrets: a secret without
any form, in a text that does not say what it is, looks like any other word.

Values of unknown types are written as ``repr`` gives them, masked like any text. What is too long, too deep or too
many is left out and counted, so that a hostile value cannot fill a disk.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

MASK = "***"

MAX_TEXT = 4_096
"""Characters of one text that are shown; an exception's trace has MAX_TRACE."""
MAX_TRACE = 32_768
MAX_SCANNED = 262_144
"""A longer text is left out unread."""
MAX_DEPTH = 8
MAX_ITEMS = 100

LONG_FIELDS = frozenset({"exception", "stack"})

_LINES = "authorization|cookie|set-cookie"
_WORDS = (
    "password|passwd|pwd|passphrase|secrets?|client[_-]?secret|secret[_-]?hash|tokens?|access[_-]?token|id[_-]?token|"
    "refresh[_-]?token|api[_-]?keys?|private[_-]?keys?|credentials?|sslpassword|assertion"
)
_SECRET_FIELD = re.compile(rf"(?:^|[_.\-])(?:{_LINES}|{_WORDS})$|^(?:body|payload|salt)$", re.IGNORECASE)

_QUOTED = r"\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?"
_IS = r"[\"']?\s*(?:=>|[=:])\s*"
_FORMS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
        "***private key***",
    ),
    # After such a name whatever is quoted is the secret, or all that is left of the line.
    (re.compile(rf"(?<![A-Za-z0-9])((?i:{_LINES}){_IS})(?:b?(?:{_QUOTED})|[^\r\n]+)"), r"\1***"),
    (re.compile(r"\b(?i:(bearer|basic|dpop))\s+(?=\S{20}|\S*[A-Z0-9])[A-Za-z0-9._~+/=\-]{8,}"), r"\1 ***"),
    (re.compile(r"tsk_([A-Za-z0-9]{12})_[A-Za-z0-9_\-]+"), r"tsk_\1_***"),
    (re.compile(r"tsk_(?![A-Za-z0-9]{12}_\*\*\*)[A-Za-z0-9_\-]+"), "tsk_***"),
    (re.compile(r"(whs[ek]c?)_[A-Za-z0-9+/=_\-]+"), r"\1_***"),
    (re.compile(r"\beyJ[A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]*){1,4}"), MASK),
    (
        re.compile(
            rf"(?<![A-Za-z0-9])((?:{_WORDS}){_IS})(?:b?(?:{_QUOTED})|[^\s&\"',;)}}\]]+)",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
)
_WITH_URL = re.compile(r"\S+")

_PLAIN = re.compile(r"[A-Za-z0-9/\-]*\Z")
"""What no form is made of alone."""
_MARKS = ("tsk_", "whs", "=", ":", "eyJ", "-----BEGIN")
_SCHEMES = ("bearer", "basic", "dpop")
"""Without any of these a text is as it should be: it is what most texts are, and all that they cost."""


def masked_text(text: str, limit: int = MAX_TEXT) -> str:
    """The text with what is secret in it masked, and cut to a length."""
    if type(text) is not str:
        text = str.__str__(text)
    if len(text) > MAX_SCANNED:
        return f"<{len(text)} characters left out>"
    if _PLAIN.match(text) is None and _is_suspicious(text):
        for form, mask in _FORMS:
            text = form.sub(mask, text)
        if "://" in text:
            text = _WITH_URL.sub(_masked_url, text)
    if len(text) > limit:  # only now: half a secret would not be known for one
        text = f"{text[:limit]} <{len(text) - limit} characters left out>"
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _masked_url(found: re.Match[str]) -> str:
    """A word with the password of its URL masked: from the first colon behind ``//`` to the last ``@``, as a password
    may hold either. No pattern, as one would try every start with every end."""
    word = found[0]
    begin = word.find("://")
    end = word.rfind("@")
    colon = word.find(":", begin + 3, end) if 0 <= begin < end else -1
    return word if colon < 0 else f"{word[: colon + 1]}{MASK}{word[end:]}"


def _is_suspicious(text: str) -> bool:
    if any(mark in text for mark in _MARKS):
        return True
    lower = text.lower()
    return any(scheme in lower for scheme in _SCHEMES)


def is_secret_field(name: str) -> bool:
    """Whether what stands under this name is masked whatever it is."""
    return _SECRET_FIELD.search(name) is not None


@functools.lru_cache(1_024)
def _masked_name(name: str) -> tuple[str, bool]:
    """The name of a field as it is shown, and whether what stands under it is a secret."""
    return masked_text(name), is_secret_field(name)


def masked(value: Any, depth: int = 0) -> Any:
    """The value as plain data that can be written as JSON, with what is secret in it masked, at any depth."""
    if isinstance(value, str):
        return masked_text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return float.__float__(value)  # of a type of somebody else's: the plain one, which alone can be written
    if isinstance(value, int):
        number = int.__int__(value)
        return number if -(2**63) <= number < 2**63 else f"<an integer of {number.bit_length()} bits>"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return _masked_mapping(value, depth)
    if isinstance(value, (list, tuple, set, frozenset)):
        return _masked_items(list(value), depth)
    return masked_text(_shown(value))


def masked_fields(fields: Mapping[Any, Any], depth: int = 0) -> dict[str, Any]:
    """Named values, each masked by its name or by its form."""
    shown: dict[str, Any] = {}
    for name, value in list(fields.items())[:MAX_ITEMS]:
        text, is_secret = _masked_name(name) if isinstance(name, str) else _masked_name(_shown(name))
        if is_secret and not (value is None or (isinstance(value, str) and not value)):
            shown[text] = MASK
        elif text in LONG_FIELDS and isinstance(value, str):
            shown[text] = masked_text(value, MAX_TRACE)
        else:
            shown[text] = masked(value, depth)
    if len(fields) > MAX_ITEMS:
        shown["left_out"] = len(fields) - MAX_ITEMS
    return shown


def _masked_mapping(value: Mapping[Any, Any], depth: int) -> Any:
    if depth >= MAX_DEPTH:
        return f"<{len(value)} fields left out>"
    return masked_fields(value, depth + 1)


def _masked_items(items: list[Any], depth: int) -> Any:
    if depth >= MAX_DEPTH:
        return f"<{len(items)} items left out>"
    if len(items) == 2 and isinstance(items[0], (str, bytes)):  # a header: name and value
        name = items[0] if isinstance(items[0], str) else items[0].decode("latin-1")
        if is_secret_field(name):
            return [name, MASK]
    shown = [masked(item, depth + 1) for item in items[:MAX_ITEMS]]
    return [*shown, f"<{len(items) - MAX_ITEMS} items left out>"] if len(items) > MAX_ITEMS else shown


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # whatever a foreign type does, the line is written
        return f"<{type(value).__name__}, which cannot be shown: {type(error).__name__}>"
