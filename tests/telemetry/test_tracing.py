"""Tracing: spans hang together from request to delivery, over programs and threads; without it nothing costs."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import tallystick
from tallystick.commands import Transfer
from tallystick.errors import InsufficientFunds, InvalidInput, Unavailable
from tallystick.telemetry import logs, tracing
from tallystick.telemetry.tracing import MAX_ATTRIBUTE, MAX_LINKS, MAX_REMEMBERED, span
from tests.telemetry.conftest import Written

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = f"00-{TRACE}-00f067aa0ba902b7-01"
USD = "USD/2"


@pytest.fixture
def exporter(no_tracing: None) -> InMemorySpanExporter:
    found = InMemorySpanExporter()
    tracing.configure(exporter=found)
    return found


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """The finished spans by name; each name once."""
    found = exporter.get_finished_spans()
    assert len({each.name for each in found}) == len(found)
    return {each.name: each for each in found}


def trace_id(found: ReadableSpan) -> str:
    return f"{found.context.trace_id:032x}"


def is_child(child: ReadableSpan, parent: ReadableSpan) -> bool:
    assert child.parent is not None
    return (child.parent.span_id, child.parent.trace_id) == (parent.context.span_id, parent.context.trace_id)


# ---------------------------------------------------------------- not configured


def test_without_tracing_every_span_is_one_object_that_does_nothing() -> None:
    first = span("api", kind="server", traceparent=CALLER, operation="post")
    assert first is span("writer")
    with first as now:
        now.set(status=200)
        assert tracing.current_trace_id() == tracing.current_traceparent() == ""
        assert tracing.headers() == {}
    assert tracing.traceparent_of("main/1") == ""
    tracing.shutdown()


def test_without_tracing_opentelemetry_is_not_even_imported() -> None:
    program = """
import sys
from tallystick.telemetry import logs, metrics, tracing
with tracing.span("api", operation="post"):
    pass
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_without_tracing_a_span_costs_next_to_nothing() -> None:
    best = float("inf")
    for _ in range(20):
        began = time.thread_time()
        for _ in range(1_000):
            with span("api", operation="post"):
                pass
        best = min(best, time.thread_time() - began)
    assert best / 1_000 * 1e6 < 3.0  # microseconds; a span that is recorded costs twenty times as much


def test_without_tracing_a_database_is_left_as_it_is() -> None:
    with tallystick.open("memory://") as database:
        tracing.instrument(database)
        assert "ledger" not in vars(database)
        assert "append" not in vars(database._store)
        assert "submit" not in vars(database.ledger()._writer)


# ---------------------------------------------------------------- from the API to the delivery


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres"])
def test_one_trace_goes_from_the_api_through_writer_and_store_to_the_delivery(
    new_url: Any, kind: str, exporter: InMemorySpanExporter
) -> None:
    with tallystick.open(new_url(kind)) as database:
        tracing.instrument(database)
        ledger = database.ledger()
        with span("api", kind="server", traceparent=CALLER, operation="mint"):
            posted = ledger.mint("users:alice", USD, 100, key="mint")
        with span("delivery", kind="producer", traceparent=tracing.traceparent_of(posted.id), seq=posted.seq):
            sent = tracing.headers()
    found = spans(exporter)
    assert set(found) == {"api", "writer", "store.append", "delivery"}
    assert {trace_id(each) for each in found.values()} == {TRACE}
    assert found["api"].parent is not None
    assert f"{found['api'].parent.span_id:016x}" == "00f067aa0ba902b7"
    assert is_child(found["writer"], found["api"])
    assert is_child(found["store.append"], found["writer"])
    assert is_child(found["delivery"], found["writer"])
    assert sent == {"traceparent": f"00-{TRACE}-{found['delivery'].context.span_id:016x}-01"}
    assert dict(found["writer"].attributes or {}) == {
        "tallystick.ledger": "main",
        "tallystick.commands": 1,
        "tallystick.posted": 1,
        "tallystick.refused": 0,
    }
    assert (found["store.append"].attributes or {})["tallystick.events"] == posted.seq + 1  # and the ledger's opening


def test_a_claim_is_a_span_where_other_processes_write_too(postgres: str, exporter: InMemorySpanExporter) -> None:
    commands = [
        Transfer(key=str(number), from_account="users:alice", to_account="users:bob", asset=USD, amount=1)
        for number in range(2_100)
    ]
    with tallystick.open(postgres) as database:
        tracing.instrument(database)
        ledger = database.ledger()
        ledger.mint("users:alice", USD, 10_000, key="mint")
        exporter.clear()
        ledger.post_many(commands)
    found = spans(exporter)
    assert is_child(found["store.claim"], found["writer"])


def test_a_long_round_that_another_thread_stores_is_part_of_its_trace(
    exporter: InMemorySpanExporter, new_url: Any
) -> None:
    commands = [
        Transfer(key=str(number), from_account="users:alice", to_account="users:bob", asset=USD, amount=1)
        for number in range(3_000)
    ]
    with tallystick.open(new_url("sqlite")) as database:
        tracing.instrument(database)
        ledger = database.ledger()
        ledger.mint("users:alice", USD, 10_000, key="mint")
        exporter.clear()
        ledger.post_many(commands)
    found = spans(exporter)
    assert is_child(found["store.append"], found["writer"])
    assert (found["store.append"].attributes or {})["tallystick.events"] == 3_000


def test_a_database_that_is_traced_behaves_as_any(new_url: Any, exporter: InMemorySpanExporter) -> None:
    with tallystick.open(new_url("sqlite")) as database:
        early = database.ledger("early")
        tracing.instrument(database)
        tracing.instrument(database)
        assert database.ledger("early") is early
        early.mint("users:alice", USD, 100, key="mint")
        with pytest.raises(InsufficientFunds):
            early.transfer("users:alice", "users:bob", USD, 101, key="t")
        again = early.mint("users:alice", USD, 100, key="mint")
        assert again.replayed
        dry = early.mint("users:alice", USD, 5, key="dry", dry_run=True)
        assert tracing.traceparent_of(dry.id) == ""
        assert early.replay().ok
    assert [each.name for each in exporter.get_finished_spans()].count("writer") == 4
    with tallystick.open(new_url("sqlite")) as database:
        tracing.instrument(database)
        tracing.shutdown()
        database.ledger().mint("users:alice", USD, 100, key="mint")
        assert database.ledger().replay().ok


def test_requests_that_were_gathered_are_linked(exporter: InMemorySpanExporter) -> None:
    own = [f"00-{number:032x}-{number:016x}-01" for number in range(1, MAX_LINKS + 2)]
    with span("gathered", links=["malformed", *own]):
        pass
    links = spans(exporter)["gathered"].links
    assert [link.context.trace_id for link in links] == list(range(1, MAX_LINKS))


def test_another_thread_is_given_the_span(exporter: InMemorySpanExporter) -> None:
    seen: list[str] = []

    def work(traceparent: str) -> None:
        seen.append(tracing.current_trace_id())
        with span("there", traceparent=traceparent):
            seen.append(tracing.current_trace_id())

    with span("here"):
        thread = threading.Thread(target=work, args=[tracing.current_traceparent()])
        thread.start()
        thread.join()
    found = spans(exporter)
    assert seen == ["", trace_id(found["here"])]
    assert is_child(found["there"], found["here"])


def test_only_so_many_transactions_are_remembered(exporter: InMemorySpanExporter) -> None:
    tracing._remember([f"main/{number}" for number in range(MAX_REMEMBERED)], CALLER)
    tracing._remember(["main/x"], CALLER)
    assert tracing.traceparent_of("main/0") == ""
    assert tracing.traceparent_of("main/1") == tracing.traceparent_of("main/x") == CALLER


# ---------------------------------------------------------------- W3C Trace Context


def has_parent(exporter: InMemorySpanExporter, traceparent: str, tracestate: str = "") -> bool:
    exporter.clear()
    with span("api", traceparent=traceparent, tracestate=tracestate):
        pass
    return bool(exporter.get_finished_spans()) and spans(exporter)["api"].parent is not None


@pytest.mark.parametrize(
    "traceparent",
    [
        "", "x", CALLER + "-", CALLER + "-more", CALLER + "\n", " " + CALLER, CALLER.upper(), CALLER.replace("-", "_"),
        f"ff-{TRACE}-00f067aa0ba902b7-01", f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-00f067aa0ba902b7", f"00-{TRACE}-00f067aa0ba902b7-1", f"00-{TRACE[1:]}-00f067aa0ba902b7-01",
        f"0-{TRACE}-00f067aa0ba902b7-01", f"00-{TRACE[:-1]}g-00f067aa0ba902b7-01", f"{CALLER},{CALLER}",
        f"01-{TRACE}-00f067aa0ba902b7-01more", "0" * 100_000, "\u0660\u0660" + CALLER[2:],
    ],
)  # fmt: skip
def test_a_malformed_traceparent_is_as_if_there_were_none(exporter: InMemorySpanExporter, traceparent: str) -> None:
    assert not has_parent(exporter, traceparent)
    assert spans(exporter)["api"].context.is_valid


@pytest.mark.parametrize("traceparent", [CALLER, f"01-{TRACE}-00f067aa0ba902b7-01-of-tomorrow", f"cc{CALLER[2:]}"])
def test_a_traceparent_is_gone_on_with(exporter: InMemorySpanExporter, traceparent: str) -> None:
    assert has_parent(exporter, traceparent)


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1))
def test_what_is_handed_on_is_read_back(trace: int, parent: int) -> None:
    exporter = InMemorySpanExporter()
    tracing.configure(exporter=exporter)
    try:
        with span("first", traceparent=f"00-{trace:032x}-{parent:016x}-01"):
            sent = tracing.headers()
        with span("second", traceparent=sent["traceparent"]):
            pass
    finally:
        tracing.shutdown()
    found = spans(exporter)
    assert found["first"].context.trace_id == trace
    assert is_child(found["second"], found["first"])


def test_the_tracestate_is_handed_on(exporter: InMemorySpanExporter) -> None:
    with span("api", traceparent=CALLER, tracestate="vendor=1,other=2"):
        assert tracing.headers()["tracestate"] == "vendor=1,other=2"
    with span("api2", traceparent=CALLER, tracestate="a=" + "x" * tracing.MAX_TRACESTATE):
        assert "tracestate" not in tracing.headers()
    with span("api3", traceparent=CALLER, tracestate="=,=\x00;"):
        assert "tracestate" not in tracing.headers()


def test_a_caller_that_is_not_recorded_is_not_recorded_here_either(exporter: InMemorySpanExporter) -> None:
    with span("api", traceparent=CALLER[:-1] + "0"):
        assert tracing.headers()["traceparent"].endswith("-00")
        assert tracing.current_trace_id() == TRACE
    assert not exporter.get_finished_spans()


def test_a_caller_cannot_have_more_recorded_than_the_ratio_says(no_tracing: None) -> None:
    exporter = InMemorySpanExporter()
    tracing.configure(exporter=exporter, ratio=0.0)
    for _ in range(5):
        with span("api", traceparent=CALLER), span("inner"):
            pass
    assert not exporter.get_finished_spans()


# ---------------------------------------------------------------- what a span says


def test_a_refusal_is_a_proper_answer_and_a_fault_is_an_error(exporter: InMemorySpanExporter) -> None:
    for error in (InsufficientFunds(account="a"), Unavailable(reason="gone"), ZeroDivisionError("tsk_abcdefghijkl_x")):
        with pytest.raises(type(error)), span(type(error).__name__):
            raise error
    found = spans(exporter)
    said = {name: ((each.attributes or {})["error.type"], each.status.is_ok) for name, each in found.items()}
    assert said == {
        "InsufficientFunds": ("insufficient_funds", True),
        "Unavailable": ("unavailable", False),
        "ZeroDivisionError": ("ZeroDivisionError", False),
    }
    assert "tsk_" not in "".join(each.to_json() for each in found.values())
    assert tracing.current_trace_id() == ""


def test_attributes_are_masked_and_cut(exporter: InMemorySpanExporter) -> None:
    with span("api", key="tsk_abcdefghijkl_hidden", long="x" * 1_000, none=None, **{"http.route": "/v1"}) as now:
        now.set(late="Bearer hidden0123", ok=True, ratio=0.5)
    attributes = dict(spans(exporter)["api"].attributes or {})
    assert "hidden" not in str(attributes)
    assert len(str(attributes.pop("tallystick.long"))) < MAX_ATTRIBUTE + 40
    assert attributes == {
        "tallystick.key": "tsk_abcdefghijkl_***",
        "http.route": "/v1",
        "tallystick.late": "Bearer ***",
        "tallystick.ok": True,
        "tallystick.ratio": 0.5,
    }


def test_log_lines_name_the_trace(written: Written, exporter: InMemorySpanExporter) -> None:
    with span("api", traceparent=CALLER):
        logs.logger().info("within")
    logs.logger().info("without")
    within, without = written.lines()
    assert within["trace_id"] == TRACE
    assert "trace_id" not in without


# ---------------------------------------------------------------- configuring


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"endpoint": "127.0.0.1:4318"}, {"endpoint": "file:///x"}, {"endpoint": "http://x", "ratio": 1.1},
        {"endpoint": "http://x", "ratio": -0.1}, {"endpoint": "http://x", "exporter": InMemorySpanExporter()},
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(no_tracing: None, settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        tracing.configure(**settings)
    assert not tracing.is_configured()


def test_without_the_extra_tracing_is_refused_and_says_what_is_missing(
    no_tracing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(InvalidInput, match=r"pip install 'tallystick\[otel\]'"):
        tracing.configure("http://127.0.0.1:4318/v1/traces")


class Receiver(http.server.BaseHTTPRequestHandler):
    """An OTLP receiver that keeps what it was sent."""

    got: list[bytes]

    def do_POST(self) -> None:
        self.got.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


def test_spans_reach_an_otlp_receiver_before_shutdown_returns(no_tracing: None) -> None:
    handler = type("Kept", (Receiver,), {"got": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            tracing.configure(f"http://127.0.0.1:{server.server_port}/v1/traces", service="tallystick-test")
            with span("api", traceparent=CALLER):
                pass
            tracing.shutdown()
        finally:
            server.shutdown()
            thread.join()
    (resource,) = ExportTraceServiceRequest.FromString(handler.got[0]).resource_spans  # type: ignore[attr-defined]
    (sent,) = resource.scope_spans[0].spans
    assert (sent.name, sent.trace_id.hex()) == ("api", TRACE)
    names = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert names["service.name"] == "tallystick-test"


def test_a_receiver_that_is_not_there_keeps_nobody_waiting(no_tracing: None, untouched_logging: None) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        port = server.server_port
    logs.configure(stream=Written())
    tracing.configure(f"http://127.0.0.1:{port}/v1/traces")
    began = time.monotonic()
    with span("api"):
        pass
    assert time.monotonic() - began < 1.0
    tracing.shutdown()
    assert time.monotonic() - began < 15.0
