"""Tracing: where the time of one request went: the API, the writer, the store, and the deliveries that follow.

Nothing here costs anything until ``configure`` is called: ``span`` then gives one object that does nothing, the same
for everyone, and OpenTelemetry (the extra ``otel``) is not even imported. Once it is, spans are sent by OTLP over HTTP
in the background; what the receiver does not take in time is dropped, and nobody waits for it.

Traces are continued from, and handed on to, other programs by the headers of W3C Trace Context (``traceparent`` and
``tracestate``). A malformed ``traceparent`` is as if there were none, as that specification has it. A caller may ask
for its trace to be recorded, but only so many are as ``ratio`` says.

A span's attributes are names, numbers and outcomes, masked as log lines are: never a body, and of an exception its type
and code alone.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from tallystick.errors import Fault, InvalidInput, TallystickError
from tallystick.telemetry.masking import masked_text

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Link, Span, SpanContext, Tracer

MAX_ATTRIBUTE = 256
"""Characters of one attribute that are kept."""

MAX_TRACESTATE = 512
"""Characters of a ``tracestate`` that are handed on; a longer one is left out, as the specification allows."""

MAX_LINKS = 32

MAX_REMEMBERED = 10_000
"""Transactions whose trace is known to deliveries in the same process."""

EXPORT_TIMEOUT_SECONDS = 5.0

Kind = Literal["internal", "server", "client", "producer", "consumer"]

_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class Spanning:
    """What ``with span(...)`` gives: here, while nothing is traced, nothing."""

    __slots__ = ()

    def set(self, **attributes: Any) -> None:
        """Add attributes to the span."""

    def __enter__(self) -> Spanning:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


_NOTHING = Spanning()


class _Tracing:
    """OpenTelemetry, once it is configured."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import context, trace  # noqa: PLC0415 - an extra

        self.provider = provider
        self.tracer: Tracer = provider.get_tracer("tallystick")
        self.trace = trace
        self.context = context
        self.kinds = {kind.name.lower(): kind for kind in trace.SpanKind}
        self.remembered: OrderedDict[str, str] = OrderedDict()
        self.lock = threading.Lock()

    def remote(self, traceparent: str, tracestate: str = "") -> SpanContext | None:
        """The span that a ``traceparent`` names; None if it is malformed."""
        found = _TRACEPARENT.fullmatch(traceparent)
        if found is None or (found[1] == "00" and found[5] is not None):
            return None
        trace = self.trace
        state = trace.TraceState.from_header([tracestate]) if 0 < len(tracestate) <= MAX_TRACESTATE else None
        flags = trace.TraceFlags(int(found[4], 16) & trace.TraceFlags.SAMPLED)
        made: SpanContext = trace.SpanContext(int(found[2], 16), int(found[3], 16), True, flags, state)
        return made

    def parent(self, traceparent: str, tracestate: str) -> Context | None:
        """The context under such a span; None: what is current here."""
        span = self.remote(traceparent, tracestate) if traceparent else None
        return None if span is None else self.trace.set_span_in_context(self.trace.NonRecordingSpan(span))

    def links(self, traceparents: Iterable[str]) -> list[Link]:
        found = [self.remote(traceparent) for traceparent in list(traceparents)[:MAX_LINKS]]
        return [self.trace.Link(context) for context in found if context is not None]

    def current(self) -> SpanContext | None:
        """The span that is under way here."""
        found: SpanContext = self.trace.get_current_span().get_span_context()
        return found if found.is_valid else None

    def remember(self, transaction_ids: Iterable[str], traceparent: str) -> None:
        """Keep which span posted these, for their deliveries."""
        with self.lock:
            for id in transaction_ids:
                self.remembered[id] = traceparent
            while len(self.remembered) > MAX_REMEMBERED:
                self.remembered.popitem(last=False)


class _Span(Spanning):
    """One span, from where it is entered to where it is left."""

    __slots__ = ("_begin", "_span", "_token", "_tracing")

    def __init__(self, tracing: _Tracing, begin: Callable[[], Span]) -> None:
        self._tracing = tracing
        self._begin = begin

    def __enter__(self) -> _Span:
        self._span = self._begin()
        self._token = self._tracing.context.attach(self._tracing.trace.set_span_in_context(self._span))
        return self

    def set(self, **attributes: Any) -> None:
        self._span.set_attributes(_attributes(attributes))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._note(error)
        self._tracing.context.detach(self._token)
        self._span.end()

    def _note(self, error: BaseException) -> None:
        """A refusal is a proper answer; only what broke a promise is an error."""
        code = error.code if isinstance(error, TallystickError) else type(error).__name__
        self._span.set_attribute("error.type", code)
        own = type(error).__module__.startswith("tallystick.")
        if isinstance(error, Fault) or not own:
            self._span.set_status(self._tracing.trace.Status(self._tracing.trace.StatusCode.ERROR))


_tracing: _Tracing | None = None


def configure(
    endpoint: str = "",
    *,
    exporter: SpanExporter | None = None,
    ratio: float = 1.0,
    service: str = "tallystick",
) -> None:
    """Trace from now on: to an OTLP receiver (``http://127.0.0.1:4318/v1/traces``), or to an exporter, at once.

    ``ratio`` is the part of the traces that are recorded, 0 to 1. Raises InvalidInput, also if the extra ``otel`` is
    not installed.
    """
    global _tracing  # noqa: PLW0603 - tracing is one per process
    if not 0.0 <= ratio <= 1.0:
        raise InvalidInput(path="ratio", problem=f"{ratio} is not between 0 and 1")
    if bool(endpoint) == (exporter is not None):
        raise InvalidInput(path="endpoint", problem="give an endpoint or an exporter")
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise InvalidInput(path="endpoint", problem="it begins with http:// or https://")
    try:
        provider = _provider(endpoint, exporter, ratio, service)
    except ImportError as error:
        raise InvalidInput(
            path="endpoint", problem=f"tracing needs OpenTelemetry: pip install 'tallystick[otel]' ({error})"
        ) from None
    shutdown()
    _tracing = _Tracing(provider)


def _provider(endpoint: str, exporter: SpanExporter | None, ratio: float, service: str) -> TracerProvider:
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra
    from opentelemetry.sdk.trace import TracerProvider as Provider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415

    some = TraceIdRatioBased(ratio)
    provider = Provider(
        sampler=ParentBased(some, remote_parent_sampled=some),  # a caller cannot have more recorded than so many
        resource=Resource.create({"service.name": service}),
        shutdown_on_exit=False,
    )
    if exporter is not None:
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        return provider
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

    sender = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(sender))
    return provider


def shutdown() -> None:
    """Send what was recorded, and trace no more. Without tracing it does nothing."""
    global _tracing
    tracing, _tracing = _tracing, None
    if tracing is not None:
        tracing.provider.shutdown()


def is_configured() -> bool:
    """Whether anything is traced."""
    return _tracing is not None


def span(
    name: str,
    /,
    *,
    kind: Kind = "internal",
    traceparent: str = "",
    tracestate: str = "",
    links: Sequence[str] = (),
    **attributes: Any,
) -> Spanning:
    """A part of the work: ``with span("api", kind="server", traceparent=header, operation="post_transfer"):``.

    It is part of the span that is current here, or of the one that ``traceparent`` names; ``links`` names others that
    it has to do with (the requests whose commands were gathered in one call). Threads that are started within it know
    nothing of it: give them ``current_traceparent()``.
    """
    tracing = _tracing
    if tracing is None:
        return _NOTHING

    def begin() -> Span:
        return tracing.tracer.start_span(
            name,
            context=tracing.parent(traceparent, tracestate),
            kind=tracing.kinds[kind],
            links=tracing.links(links),
            attributes=_attributes(attributes),
        )

    return _Span(tracing, begin)


def current_trace_id() -> str:
    """The trace that is under way here, 32 hex digits; empty without one."""
    found = None if _tracing is None else _tracing.current()
    return "" if found is None else f"{found.trace_id:032x}"


def current_traceparent() -> str:
    """The span that is under way here as a ``traceparent``, for another thread or program; empty without one."""
    found = None if _tracing is None else _tracing.current()
    return "" if found is None else _traceparent_of(found)


def headers() -> dict[str, str]:
    """The headers that let another program go on with the trace that is under way here; none without one."""
    found = None if _tracing is None else _tracing.current()
    if found is None:
        return {}
    state = found.trace_state.to_header()
    return {"traceparent": _traceparent_of(found)} | ({"tracestate": state} if state else {})


def traceparent_of(transaction_id: str) -> str:
    """The span that posted this transaction in this process, if it was one of the last; empty if it is not known."""
    return "" if _tracing is None else _tracing.remembered.get(transaction_id, "")


def _traceparent_of(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags) & 1:02x}"


def _attributes(attributes: dict[str, Any]) -> dict[str, bool | int | float | str]:
    """Attributes as they are sent: those without a name space of their own are put in ours."""
    return {
        name if "." in name else f"tallystick.{name}": value
        if isinstance(value, (bool, int, float))
        else masked_text(str(value), MAX_ATTRIBUTE)
        for name, value in attributes.items()
        if value is not None
    }


# ---------------------------------------------------------------- the engine, which knows nothing of this


def instrument(database: Any) -> None:
    """Have the writers and the store of a database traced; call it once it is opened, before its ledgers are used.

    Spans: ``writer`` for each call that posts (``ledger``, ``commands``, ``posted``, ``refused``), and within it
    ``store.append`` (``ledger``, ``events``) or, where other processes write too, ``store.claim``. One commit serves
    the calls that came together, and is found under one of them. Doing it twice, or without tracing, does nothing.
    """
    if _tracing is None or getattr(database, "_is_traced", False):
        return
    database._is_traced = True
    leading: dict[str, str] = {}
    _trace_store(database._store, leading)
    open_ledger: Callable[..., Any] = database.ledger

    def ledger(*arguments: Any, **settings: Any) -> Any:
        found = open_ledger(*arguments, **settings)
        _trace_writer(found._writer, found._name, leading)
        return found

    database.ledger = ledger
    for found in database._ledgers.values():
        _trace_writer(found._writer, found._name, leading)


def _trace_writer(writer: Any, ledger: str, leading: dict[str, str]) -> None:
    if "submit" in vars(writer):
        return
    submit: Callable[..., list[Any]] = writer.submit

    def traced(commands: Sequence[Any], **more: Any) -> list[Any]:
        if _tracing is None:
            return submit(commands, **more)
        with span("writer", ledger=ledger, commands=len(commands)) as now:
            leading[ledger] = own = current_traceparent()
            try:
                results = submit(commands, **more)
            finally:
                if leading.get(ledger) == own:
                    leading.pop(ledger, None)
            posted = [result.id for result in results if not isinstance(result, TallystickError)]
            now.set(posted=len(posted), refused=len(results) - len(posted))
            if own.endswith("1") and not more.get("dry_run"):
                _remember(posted, own)
            return results

    writer.submit = traced


def _remember(transaction_ids: list[str], traceparent: str) -> None:
    if _tracing is not None:
        _tracing.remember(transaction_ids[-MAX_REMEMBERED:], traceparent)


def _trace_store(store: Any, leading: dict[str, str]) -> None:
    append: Callable[..., None] = store.append
    claim: Callable[..., AbstractContextManager[Any]] = store.claim

    def traced_append(batches: Iterable[Any], **more: Any) -> None:
        taken = iter(batches)
        first = next(taken, None) if _tracing is not None else None
        if first is None:
            append(taken, **more)
            return
        # A long round is stored by a thread of its own, which knows nothing of the span that it is part of.
        parent = "" if current_traceparent() else leading.get(first.ledger, "")
        count = [0]
        with span("store.append", kind="client", traceparent=parent, ledger=first.ledger) as now:
            append(_counted(chain([first], taken), count), **more)
            now.set(events=count[0])

    @contextlib.contextmanager
    def traced_claim(ledger: str, *arguments: Any, **more: Any) -> Iterator[Any]:
        with span("store.claim", kind="client", ledger=ledger), claim(ledger, *arguments, **more) as claimed:
            yield claimed

    store.append = traced_append
    store.claim = traced_claim


def _counted(batches: Iterable[Any], count: list[int]) -> Iterator[Any]:
    for batch in batches:
        count[0] += len(batch.bodies)
        yield batch
