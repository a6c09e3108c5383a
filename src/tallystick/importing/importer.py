"""The import: rows in, commands posted in batches, and a report of what came of every row."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal, NoReturn

from msgspec import Struct

from tallystick.commands import Command, Condition, Leg, OpenLedger, Split
from tallystick.errors import BatchAborted, InvalidInput, Refusal, TransactionNotFound
from tallystick.importing.mapping import AMOUNTS, COMMANDS, Mapping, RowProblem, make_command
from tallystick.importing.rows import LineReader, Malformed, Row, read_csv, read_json
from tallystick.ledger import Ledger

MAX_BATCH = 8_192
"""Commands that are posted in one step."""

MAX_WHOLE = 131_072
"""Commands of an import that is posted, or tried in a dry run, as a whole."""

MAX_PROBLEMS = 1_000
"""Problems that a report keeps; all of them are counted, and handed to ``on_problem``."""


class Problem(Struct, frozen=True, omit_defaults=True):
    """A row that was not posted. ``code`` is ``malformed`` or the code of the refusal."""

    line: int
    code: str
    reason: str
    key: str = ""


class ImportReport(Struct, frozen=True, kw_only=True):
    """What came of the rows. ``aborted``: the import was atomic and something was wrong, so nothing was posted."""

    rows: int
    posted: int
    replayed: int
    refused: int
    malformed: int
    skipped: int
    seconds: float
    aborted: bool
    dry_run: bool
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """True when no row was refused or malformed."""
        return not self.refused and not self.malformed


Progress = Callable[[int, int], None]
"""Called after each batch with the bytes read and the size of the file (0: not known)."""


def import_file(
    ledger: Ledger,
    path: str | Path,
    mapping: Mapping | None = None,
    *,
    atomic: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
    on_problem: Callable[[Problem], None] | None = None,
) -> ImportReport:
    """Import a file of CSV or JSON lines, by its ending or as the mapping says, also .gz; see import_stream."""
    path = Path(path)
    packed = path.suffix == ".gz"
    try:
        stream: Any = gzip.open(path) if packed else path.open("rb")  # noqa: SIM115 - closed below
        size = 0 if packed else path.stat().st_size
    except OSError as error:
        raise InvalidInput(path=str(path), problem=error.strerror or "it cannot be read") from None
    with stream:
        return import_stream(
            ledger,
            stream,
            mapping,
            name=path.name.removesuffix(".gz"),
            size=size,
            atomic=atomic,
            dry_run=dry_run,
            progress=progress,
            on_problem=on_problem,
        )


def import_stream(
    ledger: Ledger,
    stream: IO[bytes],
    mapping: Mapping | None = None,
    *,
    name: str = "",
    size: int = 0,
    atomic: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
    on_problem: Callable[[Problem], None] | None = None,
) -> ImportReport:
    """Post the command that each row becomes, in the order of the rows, in batches of up to MAX_BATCH.

    Without a mapping every line is a whole command as JSON, ``{"command": "transfer", ...}``. A row that is malformed
    or refused is reported with its line, and the rest is posted; ``atomic`` posts all rows or none, and takes
    MAX_WHOLE commands at most. Run again, the import answers what was posted before as replayed. A ``dry_run`` writes
    nothing; it tries MAX_WHOLE commands at a time, and each such part against the books as they are.

    Raises InvalidInput if the file as a whole does not fit the mapping, and Faults.
    """
    run = _Run(ledger, atomic, dry_run, on_problem)
    lines = LineReader(stream)
    for item in _commands(lines, name, mapping, run):
        run.take(item)
        if run.is_full:
            run.flush()
            if progress is not None:
                progress(lines.position, size)
    run.finish()
    if progress is not None:
        progress(lines.position, size)
    return run.report()


# ---------------------------------------------------------------- rows to commands


Item = tuple[int, Command] | Malformed | Problem | None
"""What a row comes to: a command with its line, a problem, or None if it is skipped."""


def _commands(lines: LineReader, name: str, mapping: Mapping | None, run: _Run) -> Iterator[Item]:
    if mapping is None:
        yield from _whole_commands(lines)
        return
    is_csv = mapping.format == "csv" or (
        not mapping.format and not name.lower().endswith((".jsonl", ".ndjson", ".json"))
    )
    if not is_csv:
        rows = read_json(lines, name)
    else:
        rows = read_csv(lines, name, delimiter=mapping.delimiter, encoding=mapping.encoding)
        _check_columns(mapping, next(rows))
    for row in rows:
        yield row if isinstance(row, Malformed) else _mapped(row, mapping, run)


def _check_columns(mapping: Mapping, header: Row | Malformed) -> None:
    there = header.values if isinstance(header, Row) else {}
    for column in mapping.columns:
        if column not in there:
            raise InvalidInput(path="mapping", problem=f"there is no column {column!r}; there are {', '.join(there)}")


def _mapped(row: Row, mapping: Mapping, run: _Run) -> Item:
    try:
        if not mapping.keep(row):
            return None
        return row.line, mapping.command(row, run.find)
    except RowProblem as error:
        return Malformed(row.line, str(error))
    except TransactionNotFound as error:
        return Problem(row.line, error.code, str(error))


# ---------------------------------------------------------------- whole commands


_FIELDS = {tag: frozenset({"command", *kind.__struct_fields__}) for tag, kind in COMMANDS.items()}
_PARTS: dict[str, frozenset[str]] = {
    "legs": frozenset(Leg.__struct_fields__),
    "splits": frozenset(Split.__struct_fields__),
    "conditions": frozenset(Condition.__struct_fields__),
}


def _refuse_fraction(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a whole number; amounts are whole minor units")


def _whole_commands(lines: LineReader) -> Iterator[Item]:
    for row in read_json(lines, "", float_hook=_refuse_fraction):
        if isinstance(row, Malformed):
            yield row
            continue
        try:
            yield row.line, decode_command(row.values)
        except RowProblem as error:
            yield Malformed(row.line, str(error))


def decode_command(values: dict[str, Any]) -> Command:
    """The command in a JSON object with a ``command`` tag. Raises RowProblem.

    Amounts may be whole numbers or strings of digits. A field that the command does not have is a mistake, not ignored.
    """
    tag = values.get("command")
    fields = _FIELDS.get(tag) if isinstance(tag, str) else None
    if fields is None or tag is None:
        raise RowProblem(
            f"command: {tag!r} is not one of {', '.join(sorted(_FIELDS))}" if tag else "command: it is missing"
        )
    _check_fields(values, fields, "")
    for name, known in _PARTS.items():
        parts = values.get(name)
        for index, part in enumerate(parts if isinstance(parts, list) else ()):
            if isinstance(part, dict):
                _check_fields(part, known, f"{name}[{index}].")
    return make_command(COMMANDS[tag], values)


def _check_fields(values: dict[str, Any], known: frozenset[str], path: str) -> None:
    if not values.keys() <= known:
        unknown = sorted(values.keys() - known)[0]
        raise RowProblem(f"{path}{unknown}: there is no such field; there are {', '.join(sorted(known))}")
    for name, value in values.items():
        if name in AMOUNTS and type(value) is str and not value.removeprefix("-").isdecimal():
            raise RowProblem(f"{path}{name}: {value!r} is not a whole number of minor units")


# ---------------------------------------------------------------- posting


class _Run:
    """One import under way: the commands waiting to be posted, and the counts so far."""

    def __init__(
        self, ledger: Ledger, atomic: bool, dry_run: bool, on_problem: Callable[[Problem], None] | None
    ) -> None:
        self.ledger = ledger
        self.atomic = atomic
        self.dry_run = dry_run
        self.on_problem = on_problem
        self.started = time.perf_counter()
        self.lines: list[int] = []
        self.waiting: list[Command] = []
        self.keys: set[tuple[str, str]] = set()
        self.counts = {"rows": 0, "posted": 0, "replayed": 0, "refused": 0, "malformed": 0, "skipped": 0}
        self.problems: list[Problem] = []
        self.aborted = False

    @property
    def is_full(self) -> bool:
        return len(self.waiting) >= (MAX_WHOLE if self.dry_run else MAX_BATCH) and not self.atomic

    def take(self, item: Item) -> None:
        """Count a row, and keep its command for the next batch."""
        self.counts["rows"] += 1
        if item is None:
            self.counts["skipped"] += 1
        elif isinstance(item, Malformed):
            self._note("malformed", Problem(item.line, "malformed", item.reason))
        elif isinstance(item, Problem):
            self._note("refused", item)
        else:
            line, command = item
            if isinstance(command, OpenLedger):
                self._note("malformed", Problem(line, "malformed", "command: a ledger is opened by `tally create`"))
                return
            if self.atomic and len(self.waiting) == MAX_WHOLE:
                problem = f"an atomic import takes {MAX_WHOLE} commands at most; nothing was posted"
                raise InvalidInput(path=f"line {line}", problem=problem)
            self.lines.append(line)
            self.waiting.append(command)
            self.keys.add((command.source, command.key))

    def find(self, source: str, key: str) -> str:
        """The id of the transaction that bears this key; what is waiting is posted first if the key is among it."""
        if (source, key) in self.keys and not self.atomic and not self.dry_run:
            self.flush()
        found = self.ledger.by_key(key, source=source)
        if found is None:
            raise TransactionNotFound(transaction=f"with the key {key!r} of {source!r}")
        return found.id

    def flush(self) -> None:
        """Post what is waiting."""
        lines, commands = self.lines, self.waiting
        self.lines, self.waiting = [], []
        self.keys.clear()
        if not commands:
            return
        try:
            results = self.ledger.post_many(commands, atomic=self.atomic, dry_run=self.dry_run)
        except BatchAborted as error:
            self.aborted = True
            self._note_abort(lines, commands, error)
            return
        for line, command, result in zip(lines, commands, results, strict=True):
            if isinstance(result, Refusal):
                self._note("refused", Problem(line, result.code, str(result), command.key))
            else:
                self.counts["replayed" if result.replayed else "posted"] += 1

    def finish(self) -> None:
        """Post the last batch; an atomic import only if every row was read."""
        if self.atomic and (self.counts["malformed"] or self.counts["refused"]):
            self.aborted = True
            return
        self.flush()

    def report(self) -> ImportReport:
        seconds = time.perf_counter() - self.started
        return ImportReport(
            **self.counts,
            seconds=seconds,
            aborted=self.aborted,
            dry_run=self.dry_run,
            problems=tuple(self.problems),
        )

    def _note_abort(self, lines: list[int], commands: list[Command], error: BatchAborted) -> None:
        index, refusal = error.data["index"], error.data["refusal"]
        self._note("refused", Problem(lines[index], refusal["code"], refusal["message"], commands[index].key))

    def _note(self, count: Literal["refused", "malformed"], problem: Problem) -> None:
        self.counts[count] += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)
        if self.on_problem is not None:
            self.on_problem(problem)
