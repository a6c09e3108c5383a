"""The mapping: which command a row becomes. It is read from a TOML or JSON file, checked once, and applied row by row.

    command = "deposit"              # a command (hold, transfer, ...) or a type that can be posted (deposit, fee, ...)
    key = "bank:{Reference}"         # the idempotency key: it must differ from row to row
    source = "bank"                  # default "import"
    unit = "major"                   # how amounts are written: major (12.34, the default) or minor (1234)
    asset = "EUR/2"                  # whose scale amounts have where the command names no asset (a capture)
    zone = "Europe/Berlin"           # for times that name no zone
    skip_if = { Status = ["pending", ""] }

    [fields]
    from_account = "@external:bank"
    to_account = "users:{Customer}"
    asset = "EUR/2"
    amount = { column = "Betrag", decimal = ",", group = "." }
    effective = { column = "Buchungstag", format = "%d.%m.%Y" }
    refs = { external_ref = "{Reference}" }

A value is a template, in which ``{Column}`` stands for a column's text (``{@line}`` and ``{@file}`` for the place), or
a table with one of ``column``, ``template``, ``value`` or ``by_key`` (the id of the transaction that bears this key),
and any of ``default`` (when empty), ``omit_if`` (texts for which the field is left out) and ``map`` (text to value).
Amounts take ``unit``, ``asset``, ``decimal``, ``group`` and ``absolute`` too, times ``zone`` and ``format``; a reason,
or a value of the metadata, ``erasable = true``, of which the journal keeps only a commitment.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from tallystick.clock import parse_time
from tallystick.commands import AnyCommand, Command, Condition, Leg, Post, Split, Transfer
from tallystick.errors import InvalidInput
from tallystick.events import EVENT_TYPES
from tallystick.importing.rows import Find, Row
from tallystick.money import parse_amount, split_asset

COMMANDS: dict[str, type[Command]] = {kind.__struct_config__.tag: kind for kind in AnyCommand.__args__}
"""Every command by its tag."""

AMOUNTS = frozenset({"amount", "payout", "value", "limit", "ceiling", "at_least", "at_most"})
"""Fields of commands, legs, splits and conditions that hold an amount."""

TIMES = frozenset({"effective", "expires", "until", "valid_until"})
BY_ASSET = frozenset({"limits", "ceilings"})
OBJECTS = frozenset({"refs", "metadata", "limits", "ceilings", "changes", "statement", "policy"})
LISTS: dict[str, type[Struct]] = {"legs": Leg, "splits": Split, "conditions": Condition}

Render = Callable[[Row, Find], Any]
Unit = Literal["major", "minor"]
OMIT: Any = object()
"""What a field that is left out is rendered as."""


class RowProblem(Exception):
    """The row does not fit the mapping."""


class _Document(Struct, forbid_unknown_fields=True, kw_only=True):
    """The mapping file as it is written."""

    command: str
    key: str
    fields: dict[str, Any]
    source: str = "import"
    unit: Unit = "major"
    asset: str = ""
    zone: str = ""
    format: Literal["csv", "jsonl", ""] = ""
    delimiter: str = ","
    encoding: str = "utf-8"
    skip_if: dict[str, Any] | list[dict[str, Any]] = field(default_factory=list)
    keep_if: dict[str, Any] | list[dict[str, Any]] = field(default_factory=list)


class _Value(Struct, forbid_unknown_fields=True, kw_only=True):
    """A value as it is written."""

    column: str = ""
    template: str = ""
    value: Any = UNSET
    by_key: str = ""
    source: str = ""
    default: Any = UNSET
    omit_if: list[str] = field(default_factory=list)
    map: dict[str, Any] | UnsetType = UNSET
    unit: Unit | UnsetType = UNSET
    asset: str = ""
    decimal: str = "."
    group: str = ""
    absolute: bool = False
    zone: str = ""
    format: str = ""
    erasable: bool = False


class Mapping(Struct, frozen=True, kw_only=True):
    """A mapping that has been checked. ``columns`` are those that it reads."""

    kind: type[Command]
    render: Render
    keep: Callable[[Row], bool]
    columns: tuple[str, ...]
    format: str
    delimiter: str
    encoding: str

    def command(self, row: Row, find: Find) -> Command:
        """The command that a row becomes. Raises RowProblem, or what ``find`` raises."""
        return make_command(self.kind, self.render(row, find))


def make_command(kind: type[Command], fields: dict[str, Any]) -> Command:
    """A command of this kind from its fields, in which numbers may be text. Raises RowProblem."""
    try:
        return msgspec.convert(fields, kind, strict=False)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$.")
        raise RowProblem(f"{path.rstrip('`') or 'command'}: {problem}") from None


# ---------------------------------------------------------------- reading the file


def read_mapping(path: str | Path) -> Mapping:
    """The mapping in a TOML or JSON file (by its ending). Raises InvalidInput, saying what is wrong where."""
    path = Path(path)
    try:
        content = path.read_bytes()
        document = msgspec.json.decode(content) if path.suffix == ".json" else tomllib.loads(content.decode())
    except OSError as error:
        raise InvalidInput(path=str(path), problem=error.strerror or "it cannot be read") from None
    except (tomllib.TOMLDecodeError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(path=str(path), problem=f"it cannot be read: {error}") from None
    return make_mapping(document)


def make_mapping(document: dict[str, Any]) -> Mapping:
    """A mapping from plain data. Raises InvalidInput, with the path of what is wrong."""
    written: _Document = _convert(document, _Document, "mapping")
    if len(written.delimiter) != 1 or written.delimiter in '\r\n"':
        raise InvalidInput(path="delimiter", problem=f"{written.delimiter!r} is not one character such as , or ;")
    compiler = _Compiler(written)
    kind, fields = _kind_of(written)
    allowed = set(kind.__struct_fields__) - {"key", "source"}
    for name in fields:
        if name not in allowed:
            raise InvalidInput(
                path=f"fields.{name}", problem=f"{written.command} has only {', '.join(sorted(allowed))}"
            )
    for needed in msgspec.structs.fields(kind):
        if needed.required and needed.name not in fields and needed.name not in ("key", "source"):
            raise InvalidInput(path=f"fields.{needed.name}", problem=f"{written.command} needs it")
    render = compiler.structure({"key": written.key, "source": written.source, **fields}, "fields")
    return Mapping(
        kind=kind,
        render=render,
        keep=compiler.row_filter(),
        columns=tuple(compiler.columns),
        format=written.format,
        delimiter=written.delimiter,
        encoding=written.encoding,
    )


_MOVE = ("from_account", "to_account", "asset", "amount", "from_bucket", "to_bucket")


def _kind_of(written: _Document) -> tuple[type[Command], dict[str, Any]]:
    """The command's class and its fields; a posting may name the parts of its one leg as fields of its own."""
    fields = dict(written.fields)
    kind = COMMANDS.get(written.command)
    if kind is Transfer and not fields.keys() & {"effective", "from_bucket", "to_bucket", "legs"}:
        return Transfer, fields
    if kind is None or kind is Transfer:
        event_type = EVENT_TYPES.get(written.command)
        if event_type is None or event_type.by != "post":
            posted = [name for name, row in EVENT_TYPES.items() if row.by == "post"]
            known = ", ".join(sorted({*COMMANDS, *posted}))
            raise InvalidInput(path="command", problem=f"{written.command!r} is not one of {known}")
        fields["type"] = {"value": written.command}
        kind = Post
    if kind is Post and "legs" not in fields:
        leg = {name: fields.pop(name) for name in _MOVE if name in fields}
        fields["legs"] = [leg]
    return kind, fields


def _convert(value: Any, kind: Any, path: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        problem, _, at = str(error).partition(" - at `$")
        raise InvalidInput(path=path + at.rstrip("`"), problem=problem) from None


# ---------------------------------------------------------------- text


_PART = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")


def text_of(row: Row, name: str) -> str:
    """A column's text. Dots reach into the objects of a JSON line. Raises RowProblem if it has none."""
    found: Any = row.values
    if name in row.values:
        found = row.values[name]
    else:
        for part in name.split("."):
            if not isinstance(found, dict) or part not in found:
                raise RowProblem(f"there is no {name!r}")
            found = found[part]
    if type(found) is str:
        return found
    if found is None:
        return ""
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, int):
        return str(found)
    raise RowProblem(f"{name!r} is not one value")


class _Compiler:
    """Turns what is written into functions of a row, and gathers the columns that they read."""

    def __init__(self, written: _Document) -> None:
        self.written = written
        self.columns: dict[str, None] = {}

    # ------------------------------------------------------------ templates

    def text(self, template: str, path: str) -> Callable[[Row], str]:
        """A template as a function of a row."""
        parts: list[str | Callable[[Row], str]] = []
        end = 0
        for match in _PART.finditer(template):
            parts.append(template[end : match.start()])
            end = match.end()
            if match[1]:
                parts.append(self.column(match[1]))
            elif match[0] in ("{", "}"):
                raise InvalidInput(path=path, problem=f"a {match[0]} stands alone in {template!r}; write it twice")
            else:
                parts.append(match[0][0])
        parts.append(template[end:])
        kept = [part for part in parts if part]
        if len(kept) == 1 and callable(kept[0]):
            return kept[0]
        if all(isinstance(part, str) for part in kept):
            constant = "".join(part for part in kept if isinstance(part, str))
            return lambda row: constant
        return lambda row: "".join(part if isinstance(part, str) else part(row) for part in kept)

    def column(self, name: str) -> Callable[[Row], str]:
        """A column's text as a function of a row."""
        if name == "@line":
            return lambda row: str(row.line)
        if name == "@file":
            return lambda row: row.file
        self.columns[name] = None
        return lambda row: text_of(row, name)

    # ------------------------------------------------------------ structure

    def structure(self, written: dict[str, Any], path: str) -> Render:
        """An object, without the fields that are left out."""
        asset = written.get("asset")
        fields = [(name, self.part(name, value, asset, f"{path}.{name}")) for name, value in written.items()]

        def render(row: Row, find: Find) -> dict[str, Any]:
            pairs = [(name, part(row, find)) for name, part in fields]
            return {name: value for name, value in pairs if value is not OMIT}

        return render

    def part(self, name: str, written: Any, asset: Any, path: str) -> Render:
        if name in LISTS:
            return self.items(LISTS[name], written, path)
        if name in OBJECTS:
            inside = _convert(written, dict[str, Any], path)
            if name in BY_ASSET:
                return self.amounts(inside, path)
            return self.structure(inside, path)
        return self.value(name, written, asset, path)

    def items(self, kind: type[Struct], written: Any, path: str) -> Render:
        """Legs, splits or conditions, each with fields of its own."""
        items: list[dict[str, Any]] = _convert(written, list[dict[str, Any]], path)
        renders = []
        for index, item in enumerate(items):
            at = f"{path}[{index}]"
            for name in item:
                if name not in kind.__struct_fields__:
                    raise InvalidInput(path=f"{at}.{name}", problem=f"it has only {', '.join(kind.__struct_fields__)}")
            for needed in msgspec.structs.fields(kind):
                if needed.required and needed.name not in item:
                    raise InvalidInput(path=f"{at}.{needed.name}", problem="it is missing")
            renders.append(self.structure(item, at))
        return lambda row, find: [render(row, find) for render in renders]

    def amounts(self, written: dict[str, Any], path: str) -> Render:
        """Amounts by asset, as an account's limits."""
        fields = [(asset, self.value("amount", value, asset, f"{path}.{asset}")) for asset, value in written.items()]

        def render(row: Row, find: Find) -> dict[str, Any]:
            pairs = [(asset, part(row, find)) for asset, part in fields]
            return {asset: value for asset, value in pairs if value is not OMIT}

        return render

    # ------------------------------------------------------------ values

    def value(self, name: str, written: Any, asset: Any, path: str) -> Render:
        if isinstance(written, str):
            written = {"template": written}
        elif not isinstance(written, dict):
            written = {"value": written}
        spec: _Value = _convert(written, _Value, path)
        given = [one for one in ("column", "template", "by_key") if getattr(spec, one)]
        if spec.value is not UNSET:
            given.append("value")
        if len(given) != 1:
            if given or not written.keys() <= {"template"}:
                raise InvalidInput(path=path, problem="give one of column, template, value or by_key")
            given = ["template"]
        if given == ["by_key"]:
            return self.by_key(spec, path)
        if spec.value is not UNSET and not isinstance(spec.value, str):
            if not (name in AMOUNTS and type(spec.value) in (int, float)):
                return lambda row, find: spec.value
            spec.value = str(spec.value)
        render = self.finish(name, spec, self.raw(spec, path), asset, path)
        return self.erasable(render, path) if spec.erasable else render

    def erasable(self, value: Render, path: str) -> Render:
        """The same as an erasable text; an empty one is left out."""
        if path != "fields.reason" and not path.startswith("fields.metadata."):
            raise InvalidInput(path=path, problem="only a reason, or a value of the metadata, can be erasable")

        def render(row: Row, find: Find) -> Any:
            text = value(row, find)
            return OMIT if text is OMIT or text == "" else {"erasable": str(text)}

        return render

    def by_key(self, spec: _Value, path: str) -> Render:
        key = self.text(spec.by_key, f"{path}.by_key")
        source = self.text(spec.source or self.written.source, f"{path}.source")
        return lambda row, find: find(source(row), key(row))

    def raw(self, spec: _Value, path: str) -> Callable[[Row], str]:
        if spec.column:
            return self.column(spec.column)
        if spec.value is not UNSET:
            return lambda row: str(spec.value)
        return self.text(spec.template, path)

    def finish(self, name: str, spec: _Value, raw: Callable[[Row], str], asset: Any, path: str) -> Render:
        """From a column's text to the field's value."""
        convert: Callable[[Row, str], Any] = lambda row, text: text  # noqa: E731
        if name in AMOUNTS:
            convert = self.amount(spec, asset, path)
        elif name in TIMES:
            convert = self.time(spec, path)
        omit = frozenset(spec.omit_if)
        optional = name in TIMES or bool(omit)

        def render(row: Row, find: Find) -> Any:
            text = raw(row)
            if text in omit or (not text and optional and spec.default is UNSET):
                return OMIT
            value: Any = spec.default if not text and spec.default is not UNSET else text
            if spec.map is not UNSET:
                if value not in spec.map:
                    raise RowProblem(f"{name}: {value!r} is not in the mapping's map")
                value = spec.map[value]
            if name in AMOUNTS and type(value) in (int, float):
                value = str(value)
            if not isinstance(value, str):
                return value
            try:
                return convert(row, value)
            except InvalidInput as error:
                raise RowProblem(f"{name}: {error.data['problem']}") from None
            except RowProblem as error:
                raise RowProblem(f"{name}: {error}") from None

        return render

    def amount(self, spec: _Value, asset: Any, path: str) -> Callable[[Row, str], int]:
        """An amount's text to minor units."""
        unit = self.written.unit if spec.unit is UNSET else spec.unit
        asset_text = None if unit == "minor" else self.asset(spec.asset or asset or self.written.asset, path)

        def convert(row: Row, text: str) -> int:
            plain = text.replace(spec.group, "") if spec.group else text
            if spec.decimal != ".":
                plain = plain.replace(spec.decimal, ".")
            if not _NUMBER.match(plain):
                raise RowProblem(f"{text!r} is not a number")
            if asset_text is not None:
                amount = parse_amount(plain, asset_text(row))
            elif "." not in plain:
                amount = int(plain)
            else:
                raise RowProblem(f"{text!r} is not a whole number of minor units")
            return abs(amount) if spec.absolute else amount

        return convert

    def asset(self, written: Any, path: str) -> Callable[[Row], str]:
        """The asset whose scale an amount has."""
        if isinstance(written, dict):
            spec: _Value = _convert(written, _Value, path)
            render = self.finish("asset", spec, self.raw(spec, path), "", path)
            return lambda row: str(render(row, _find_nothing))
        if not written:
            problem = 'say its asset, as in { column = "...", asset = "USD/2" }, or unit = "minor"'
            raise InvalidInput(path=path, problem=problem)
        text = self.text(written, path)
        if "{" not in written:
            split_asset(written)
        return text

    def time(self, spec: _Value, path: str) -> Callable[[Row, str], str]:
        """A time's text to journal time."""
        zone = _zone(spec.zone or self.written.zone, path)

        def convert(row: Row, text: str) -> str:
            try:
                moment = datetime.strptime(text, spec.format) if spec.format else datetime.fromisoformat(text)  # noqa: DTZ007
            except ValueError:
                expected = spec.format or "2026-11-21T09:00:00Z"
                raise RowProblem(f"{text!r} is not a time such as {expected}") from None
            if moment.tzinfo is None:
                if zone is None:
                    raise RowProblem(f'{text!r} has no time zone; name one in the mapping: zone = "UTC"')
                moment = moment.replace(tzinfo=zone)
            return parse_time(moment)

        return convert

    # ------------------------------------------------------------ which rows

    def row_filter(self) -> Callable[[Row], bool]:
        """Whether a row is imported: none of ``skip_if`` holds, and one of ``keep_if`` if there are any."""
        skip = [self.test(tests, f"skip_if[{index}]") for index, tests in enumerate(_listed(self.written.skip_if))]
        keep = [self.test(tests, f"keep_if[{index}]") for index, tests in enumerate(_listed(self.written.keep_if))]
        if not skip and not keep:
            return lambda row: True
        return lambda row: not any(test(row) for test in skip) and (not keep or any(test(row) for test in keep))

    def test(self, written: dict[str, Any], path: str) -> Callable[[Row], bool]:
        """Whether every one of these columns is as it says."""
        tests = [self.test_column(name, wanted, f"{path}.{name}") for name, wanted in written.items()]
        return lambda row: all(test(row) for test in tests)

    def test_column(self, name: str, wanted: Any, path: str) -> Callable[[Row], bool]:
        read = self.column(name)
        if isinstance(wanted, dict):
            return _compare(read, _convert(wanted, _Test, path), path)
        texts = frozenset(_plain_text(one) for one in (wanted if isinstance(wanted, list) else [wanted]))
        return lambda row: read(row) in texts


class _Test(Struct, forbid_unknown_fields=True):
    matches: str = ""
    below: Decimal | None = None
    above: Decimal | None = None


def _compare(read: Callable[[Row], str], test: _Test, path: str) -> Callable[[Row], bool]:
    """A pattern, or bounds on a number; a text that is no number is within no bounds."""
    try:
        pattern = re.compile(test.matches)
    except re.error as error:
        raise InvalidInput(path=path, problem=f"{test.matches!r} is not a pattern: {error}") from None

    def compare(row: Row) -> bool:
        text = read(row)
        if test.matches and not pattern.search(text):
            return False
        if test.below is None and test.above is None:
            return True
        if not _NUMBER.match(text):
            return False
        number = Decimal(text)
        return (test.below is None or number < test.below) and (test.above is None or number > test.above)

    return compare


_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)\Z")


def _listed(written: dict[str, Any] | list[dict[str, Any]]) -> list[dict[str, Any]]:
    if isinstance(written, dict):
        return [written] if written else []
    return written


def _plain_text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _zone(name: str, path: str) -> tzinfo | None:
    if not name:
        return None
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInput(path=path, problem=f"{name!r} is not a time zone such as UTC or Europe/Berlin") from None


def _find_nothing(source: str, key: str) -> str:
    raise RowProblem("an asset is not found by key")
