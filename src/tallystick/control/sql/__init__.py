"""The statements of the operator's stores, which live in .sql files; here they are read, by name."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files

from msgspec import Struct

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_MIGRATION = re.compile(r"([0-9]{4})_([a-z0-9_]+)\.sql\Z")


class Migration(Struct, frozen=True):
    """One numbered file, which never changes once it was released: another one follows it."""

    number: int
    name: str
    sql: str
    sha256: str


def queries(kind: str, name: str = "queries") -> dict[str, str]:
    """The statements for ``sqlite`` or ``postgres`` by the names that stand above them, each without its semicolon."""
    parts = _NAME.split(_read(kind, f"{name}.sql"))
    return {name: text.strip().rstrip(";") for name, text in zip(parts[1::2], parts[2::2], strict=True)}


@cache
def migrations(kind: str) -> tuple[Migration, ...]:
    """The migrations for ``sqlite`` or ``postgres``, in order."""
    found = []
    for path in files(__package__).joinpath(kind).iterdir():
        if match := _MIGRATION.match(path.name):
            sql = _read(kind, path.name)
            found.append(Migration(int(match[1]), match[2], sql, hashlib.sha256(sql.encode()).hexdigest()))
    return tuple(sorted(found, key=lambda migration: migration.number))


def _read(kind: str, name: str) -> str:
    return files(__package__).joinpath(kind, name).read_text(encoding="utf-8")
