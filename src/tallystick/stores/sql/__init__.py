"""SQL lives in .sql files; here it is read, by name."""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def read(path: str) -> str:
    """The text of a file beside this module, such as ``sqlite/schema.sql``."""
    return files(__package__).joinpath(path).read_text(encoding="utf-8")


def queries(path: str) -> dict[str, str]:
    """The statements of a file by the names that stand above them, each without its semicolon."""
    parts = _NAME.split(read(path))
    return {name: text.strip().rstrip(";") for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def statements(path: str) -> list[str]:
    """The statements of a script in order; a trigger's body, which has a semicolon of its own, ends with END."""
    found, pending = [], ""
    for line in read(path).splitlines():
        if line.startswith("--"):
            continue
        pending += line + "\n"
        text = pending.rstrip()
        if text.endswith(";") and ("TRIGGER" not in text or text.startswith("DROP") or text.endswith("END;")):
            found.append(text)
            pending = ""
    return found
