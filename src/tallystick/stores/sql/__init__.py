"""SQL lives in .sql files; here it is read, by name."""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def read(path: str) -> str:
    """The text of a file beside this module, such as ``sqlite/schema.sql``."""
    return files(__package__).joinpath(path).read_text(encoding="utf-8")


def queries(path: str) -> dict[str, str]:
    """The statements of a file by the names that stand above them, without their comments' last semicolon."""
    parts = _NAME.split(read(path))
    return {name: text.strip().rstrip(";") for name, text in zip(parts[1::2], parts[2::2], strict=True)}
