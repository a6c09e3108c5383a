"""Logs: one JSON object a line, on standard error, of everything that this process has to say.

What structlog is told and what libraries tell the standard ``logging`` (uvicorn, litestar) go the same way: the
context of the request is added (``request_id``, ``key``, ``ledger``, ``transaction_id``, ``trace_id``), secrets are
masked (telemetry/masking.py), and one line is written, whole, under one lock. Every line has ``time`` (UTC, in the
form of journal times), ``level``, ``event``, and ``logger`` where a library spoke.

A line that cannot be written (a full disk, a closed pipe) is counted and given up: nobody's posting fails because
nobody can be told of it.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, TextIO

import msgspec
import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.typing import EventDict, Processor, WrappedLogger

from tallystick.errors import InvalidInput
from tallystick.telemetry.masking import masked_fields, masked_text
from tallystick.telemetry.tracing import current_trace_id

CONTEXT = ("request_id", "key", "ledger", "transaction_id", "trace_id")
"""The fields that say what a line is about, in this order behind its event."""

NOT_SHOWN = "a log record could not be shown"

_FIRST = ("logger", "event", *CONTEXT)

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

QUIET = ("httpx", "httpx2", "httpcore", "httpcore2", "botocore", "urllib3", "asyncio", "opentelemetry")
"""Libraries that tell every step they take: only their warnings are written unless the level is ``debug``."""

ROUTED = ("uvicorn", "uvicorn.error", "uvicorn.access", "litestar", "py.warnings")
"""Loggers that bring handlers of their own, which are taken from them."""

_encode = msgspec.json.Encoder().encode


class _Lines:
    """Where lines go: each one whole, whichever thread it comes from."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self.level = LEVELS["info"]
        self.json = False
        self.lost = 0
        self.on_lost: Callable[[], None] | None = None

    def write(self, line: str) -> None:
        """Write a line; if that fails it is lost, and counted."""
        stream = sys.stderr if self._stream is None else self._stream
        try:
            with self._lock:
                stream.write(line + "\n")
                stream.flush()
        except (OSError, ValueError, AttributeError):  # full; closed; a process without standard error
            self.lost += 1
            if self.on_lost is not None:
                self.on_lost()

    msg = log = debug = info = warning = error = critical = exception = fatal = write


_lines = _Lines(None)


def configure(
    level: str = "info",
    json: bool = True,
    stream: TextIO | None = None,
    *,
    on_lost: Callable[[], None] | None = None,
) -> None:
    """Have everything that is logged from now on written to ``stream`` (standard error), as JSON or for a reader's eye.

    ``on_lost`` is told of each line that could not be written. Configuring again replaces what was. Raises
    InvalidInput for a level that is not known.
    """
    global _lines  # noqa: PLW0603 - logging is one per process
    number = LEVELS.get(level.lower())
    if number is None:
        raise InvalidInput(path="level", problem=f"{level!r:.40} is not one of {', '.join(LEVELS)}")
    _lines = _Lines(stream)
    _lines.on_lost = on_lost
    _lines.level, _lines.json = number, json
    lines = _lines
    processors = _processors(json)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=False,  # so that configuring again reaches loggers that modules hold
    )
    _route_standard_logging(number, processors)


def logger(**fields: Any) -> structlog.typing.FilteringBoundLogger:
    """A logger whose lines all have these fields."""
    made: structlog.typing.FilteringBoundLogger = structlog.get_logger(**fields)
    return made


def bound(**fields: Any) -> AbstractContextManager[None]:
    """Within it, every line that is logged has these fields, whoever logs it: see CONTEXT."""
    return bound_contextvars(**fields)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is logged of a request; ``status`` is the HTTP status, ``code`` that of its problem, if it had one."""

    time: str
    level: str = "info"
    event: str = "request"
    request_id: str
    key: str
    ledger: str
    trace_id: str
    operation: str
    status: int
    idempotency_key: str
    code: str
    milliseconds: float


class RequestLines:
    """Lines about requests, gathered and written many at a time: to write each by itself would cost more than many a
    request does. What is gathered when the process dies is lost, so whoever gathers calls ``write`` often."""

    def __init__(self) -> None:
        self._gathered: list[bytes] = []

    def add(self, request: Request) -> bool:
        """Gather a line; whether it is the first since the last ``write``. Where people read, it is written at once."""
        if _lines.level > LEVELS["info"]:
            return False
        if not _lines.json:
            fields = msgspec.structs.asdict(request)
            structlog.get_logger().info(fields.pop("event"), **{name: fields[name] for name in _OF_REQUESTS})
            return False
        masked = msgspec.structs.replace(
            request, ledger=masked_text(request.ledger), idempotency_key=masked_text(request.idempotency_key)
        )
        self._gathered.append(_encode(masked))
        return len(self._gathered) == 1

    def write(self) -> None:
        """Write what is gathered."""
        gathered, self._gathered = self._gathered, []
        if gathered:
            _lines.write(b"\n".join(gathered).decode())


_OF_REQUESTS = ("request_id", "key", "ledger", "operation", "status", "idempotency_key", "code", "milliseconds")


def lost_lines() -> int:
    """How many lines could not be written since logging was last configured."""
    return _lines.lost


def _processors(json: bool) -> list[Processor]:
    return [
        merge_contextvars,
        structlog.processors.add_log_level,
        _add_trace_id,
        structlog.processors.TimeStamper(fmt="%Y-%m-%dT%H:%M:%S.%fZ", utc=True, key="time"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _mask,
        _as_json if json else _as_text,
    ]


def _add_trace_id(_: WrappedLogger, __: str, fields: EventDict) -> EventDict:
    trace_id = current_trace_id()
    if trace_id:
        fields.setdefault("trace_id", trace_id)
    return fields


def _mask(_: WrappedLogger, __: str, fields: EventDict) -> Mapping[str, Any]:
    """Put the fields in order and mask them: after exceptions became texts, before anything is written."""
    first = {"time": fields.pop("time"), "level": fields.pop("level")}  # made here, by the two processors before
    ordered = {name: fields.pop(name) for name in _FIRST if name in fields}
    try:
        return {**first, **masked_fields({**ordered, **fields})}
    except Exception as error:  # whatever a foreign type does, whoever logs it goes on
        return {**first, "event": NOT_SHOWN, "problem": type(error).__name__}


def _as_json(_: WrappedLogger, __: str, fields: EventDict) -> str:
    return _encode(fields).decode()


def _as_text(_: WrappedLogger, __: str, fields: EventDict) -> str:
    """A line for a reader's eye: whatever a value holds, it cannot begin a line of its own, but for a trace."""
    trace = fields.pop("exception", "")
    first = f"{fields.pop('time', '')} {fields.pop('level', ''):8} {_printable(str(fields.pop('event', '')))}"
    line = " ".join([first, *(f"{name}={_printable(_plain(value))}" for name, value in fields.items())])
    return line + "".join(f"\n    {_printable(part)}" for part in trace.splitlines())


def _plain(value: object) -> str:
    return value if isinstance(value, str) else _encode(value).decode()


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


# ---------------------------------------------------------------- the standard library's logging


class _Handler(logging.Handler):
    """Takes the records of the standard library's logging the same way as all others."""

    def __init__(self, processors: list[Processor]) -> None:
        super().__init__()
        self._processors = processors

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; never what is wrong with it to standard error, as logging does, with its arguments."""
        try:
            line = self._line(record)
        except Exception as error:
            fields = {"level": "error", "logger": record.name, "event": NOT_SHOWN, "problem": type(error).__name__}
            line = _encode(fields).decode()
        _lines.write(line)

    def _line(self, record: logging.LogRecord) -> str:
        fields: Any = {"event": record.getMessage(), "logger": record.name}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        if record.stack_info:
            fields["stack"] = record.stack_info
        method = record.levelname.lower() if record.levelname.lower() in LEVELS else "info"
        for process in self._processors:
            fields = process(None, method, fields)
        return str(fields)


def _route_standard_logging(number: int, processors: list[Processor]) -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(handler)
    root.addHandler(_Handler(processors))
    root.setLevel(number)
    logging.captureWarnings(True)
    for name in ROUTED:
        routed = logging.getLogger(name)
        routed.handlers.clear()
        routed.propagate = True
    for name in QUIET:
        logging.getLogger(name).setLevel(number if number <= logging.DEBUG else max(number, logging.WARNING))
