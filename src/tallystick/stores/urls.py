"""URLs of stores: what they name, and how people may see them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from tallystick.errors import InvalidInput

_PASSWORD = re.compile(r"(?i)(://[^\s:/@]*:)\S*(@)|(password\s*=\s*)('[^']*'|[^\s&'\"]+)")


def masked(text: str) -> str:
    """A text with the passwords hidden that stand in its URLs: between the first colon and the last ``@``, so that a
    character of the password that should have been escaped does not show the rest of it; and behind ``password=``."""
    return _PASSWORD.sub(lambda found: f"{found[1]}***{found[2]}" if found[1] else f"{found[3]}***", text)


def place_of(url: str | Path) -> tuple[Literal["memory", "postgres", "file"], str]:
    """What a URL names: a passing place, a PostgreSQL database (its URL), or a file (its path).

    A path, or ``sqlite:///path``, is a file; ``sqlite:///./here.db`` is beside us. Raises InvalidInput.
    """
    text = str(url)
    scheme, separator, rest = text.partition("://")
    if isinstance(url, Path) or not separator:
        path = text.removeprefix("sqlite:")
    elif scheme == "memory":
        return "memory", text
    elif scheme in ("postgresql", "postgres"):
        return "postgres", text
    elif scheme == "sqlite":
        path = rest.removeprefix("/") if rest.startswith("/./") else rest
    else:
        known = "sqlite:///<path>, postgresql://<host>/<database> and memory://"
        raise InvalidInput(path="url", problem=f"{scheme}:// is not known; there are {known}")
    if not path or Path(path).is_dir():
        raise InvalidInput(path="url", problem=f"{text!r} names no file")
    return "file", path
