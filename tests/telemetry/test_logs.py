"""Logs: every line is one JSON object that says what it is about, whoever wrote it and whatever it holds."""

from __future__ import annotations

import http.client
import io
import json
import logging
import re
import threading
import time
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from tallystick.errors import InsufficientFunds, InvalidInput
from tallystick.telemetry import logs
from tallystick.telemetry.masking import MAX_DEPTH, MAX_ITEMS, MAX_SCANNED, MAX_TEXT, masked, masked_text
from tests.support.processes import wait_until
from tests.telemetry.conftest import Written


def test_a_line_says_when_what_and_about_what(written: Written) -> None:
    with logs.bound(request_id="r-1", key="billing", ledger="main"):
        logs.logger(operation="post_transfer").info("answered", transaction_id="main/7", status=200)
    line = written.line()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("time"))
    assert line == {
        "level": "info",
        "event": "answered",
        "request_id": "r-1",
        "key": "billing",
        "ledger": "main",
        "transaction_id": "main/7",
        "operation": "post_transfer",
        "status": 200,
    }
    assert list(line)[:4] == ["level", "event", "request_id", "key"]


def test_context_ends_where_it_was_bound(written: Written) -> None:
    with logs.bound(request_id="r-1"):
        pass
    logs.logger().info("later")
    assert "request_id" not in written.line()


@pytest.mark.parametrize("name", ["uvicorn.access", "uvicorn.error", "litestar", "some.library"])
def test_what_libraries_log_goes_the_same_way(written: Written, name: str) -> None:
    with logs.bound(request_id="r-1"):
        logging.getLogger(name).warning('%s - "%s" %d', "127.0.0.1:4000", "GET /health", 200)
    line = written.line()
    assert (line["logger"], line["level"], line["request_id"]) == (name, "warning", "r-1")
    assert line["event"] == '127.0.0.1:4000 - "GET /health" 200'


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that answers, or fails, as its path says."""
    if scope["path"] == "/fail":
        raise ValueError("whsec_hidden")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_uvicorns_own_lines_go_the_same_way(written: Written) -> None:
    server = uvicorn.Server(uvicorn.Config(answer, port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, 30, "the server")
        port = server.servers[0].sockets[0].getsockname()[1]
        for path, status in [("/?token=hidden", 200), ("/fail", 500)]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", path)
            assert connection.getresponse().status == status
            connection.close()
    finally:
        server.should_exit = True
        thread.join()
    lines = written.lines()
    (access,) = [line for line in lines if line["logger"] == "uvicorn.access" and "200" in line["event"]]
    assert '"GET /?token=***' in access["event"]
    assert [line for line in lines if "ValueError: whsec_***" in line.get("exception", "")]
    assert "hidden" not in written.getvalue()


def test_handlers_that_a_server_brought_are_taken_from_it(untouched_logging: None) -> None:
    theirs, ours = io.StringIO(), Written()
    logger = logging.getLogger("uvicorn.access")
    logger.addHandler(logging.StreamHandler(theirs))
    logger.propagate = False
    logs.configure(stream=ours)
    logger.info("GET /?token=abc")
    assert theirs.getvalue() == ""
    assert ours.line()["event"] == "GET /?token=***"


def test_configuring_again_replaces_what_was(untouched_logging: None) -> None:
    first, second = Written(), Written()
    logger = logs.logger()
    logs.configure(stream=first)
    logger.info("one")
    logs.configure(stream=second)
    logger.info("two")
    logging.getLogger("library").error("three")
    assert [line["event"] for line in first.lines()] == ["one"]
    assert [line["event"] for line in second.lines()] == ["two", "three"]


@pytest.mark.parametrize(("level", "expected"), [("info", ["info", "error"]), ("error", ["error"])])
def test_what_is_below_the_level_is_not_written(untouched_logging: None, level: str, expected: list[str]) -> None:
    stream = Written()
    logs.configure(level, stream=stream)
    for ask in (logs.logger(), logging.getLogger("library")):
        ask.debug("debug")
        ask.info("info")
        ask.error("error")
    assert [line["event"] for line in stream.lines()] == expected * 2


@pytest.mark.parametrize(("level", "count"), [("info", 1), ("debug", 2)])
def test_libraries_that_tell_every_step_are_quiet(untouched_logging: None, level: str, count: int) -> None:
    stream = Written()
    logs.configure(level, stream=stream)
    logging.getLogger("botocore").info("step")
    logging.getLogger("botocore").warning("trouble")
    assert len(stream.lines()) == count


def test_a_level_that_is_not_known_is_refused() -> None:
    with pytest.raises(InvalidInput, match="is not one of debug, info"):
        logs.configure("loud")


def test_an_exception_is_written_with_its_trace(written: Written) -> None:
    try:
        raise InsufficientFunds(account="users:alice", balance=1)
    except InsufficientFunds:
        logs.logger().exception("refused")
        logging.getLogger("library").exception("refused there")
    for line in written.lines():
        assert "InsufficientFunds: users:alice has 1" in line["exception"]
        assert "Traceback" in line["exception"]


def test_a_record_that_cannot_be_formatted_shows_nothing_of_its_arguments(
    written: Written, capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if isinstance(handler, logs._Handler)]  # pytest's raises
    logging.getLogger("library").info("%d", "tsk_abcdefghijkl_hidden")
    assert written.line()["event"] == "a log record could not be shown"
    assert "hidden" not in written.getvalue() + "".join(capfd.readouterr())


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("tsk_abcdefghijkl_hidden")


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("tsk_abcdefghijkl_hidden")


class Number(int):
    def __repr__(self) -> str:
        raise RuntimeError("tsk_abcdefghijkl_hidden")


class Ratio(float):
    pass


class Hostile(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("tsk_abcdefghijkl_hidden")


def test_a_value_that_cannot_be_shown_stops_nobody(written: Written) -> None:
    logs.logger().info("odd", value=Hostile(a=1))
    logging.getLogger("library").info("odd", exc_info=(ValueError, ValueError(Unspeakable()), None))
    first, second = written.lines()
    assert (first["event"], first["problem"]) == (logs.NOT_SHOWN, "RuntimeError")
    assert second["event"] == "odd"
    assert "hidden" not in written.getvalue()


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    "value",
    [
        Text("text"), Number(5), Ratio(0.5), http.HTTPStatus.OK, Unspeakable(), 2**70, 10**5_000, -(2**70),
        float("nan"), float("inf"), b"\xff", "\ud800", "a\nb", "\x1b[31m", {1: {2: 3}}, {Unspeakable(): 1}, CYCLE,
        {"a", 1}, memoryview(b"abc"), object(), ("a",), [("b", 1)],
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_whatever_a_value_is_its_line_is_written(written: Written, value: object) -> None:
    logs.logger().info("odd", value=value)
    assert written.line()["event"] == "odd"
    assert "hidden" not in written.getvalue()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.text(), JSON)
def test_a_line_is_one_line_whatever_it_holds(event: str, value: object) -> None:
    fields = {"time": "t", "level": "info", "event": event, "value": value}
    line = logs._as_json(None, "info", logs._mask(None, "info", fields))  # type: ignore[arg-type]
    assert len(line.splitlines()) <= 1 or "\n" not in line
    assert json.loads(line)["level"] == "info"
    line.encode()


@given(st.text(), st.text())
def test_as_text_too_no_value_begins_a_line_of_its_own(event: str, value: str) -> None:
    line = logs._as_text(None, "info", {"time": "t", "level": "info", "event": event, "value": value})
    assert line.isprintable()


def test_as_text_an_exception_stands_under_its_line(untouched_logging: None) -> None:
    stream = io.StringIO()
    logs.configure(json=False, stream=stream)
    try:
        raise ValueError("first\nFORGED line")
    except ValueError:
        logs.logger().exception("trouble", status=500)
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("error    trouble status=500")
    assert rest
    assert all(line.startswith("    ") for line in rest)


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize("length", [MAX_TEXT, MAX_TEXT + 1])
def test_a_text_is_cut_to_its_limit(length: int) -> None:
    shown = masked_text("x" * length)
    assert shown == ("x" * length if length <= MAX_TEXT else "x" * MAX_TEXT + " <1 characters left out>")


@pytest.mark.parametrize("length", [MAX_SCANNED, MAX_SCANNED + 1])
def test_a_text_that_is_too_long_is_not_even_read(length: int) -> None:
    assert masked_text("x" * length).startswith("x" if length <= MAX_SCANNED else f"<{length} characters")


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1])
def test_a_value_is_shown_to_a_limited_depth(depth: int) -> None:
    value: object = "deep"
    for _ in range(depth):
        value = [value]
    assert ("deep" in repr(masked(value))) is (depth <= MAX_DEPTH)


@pytest.mark.parametrize("number", [MAX_ITEMS, MAX_ITEMS + 1])
def test_so_many_items_are_shown(number: int) -> None:
    left_out = number > MAX_ITEMS
    assert (masked(list(range(number)))[-1] == "<1 items left out>") is left_out
    assert (masked({str(n): n for n in range(number)}).get("left_out") == 1) is left_out


HOSTILE = (
    "://", "password", 'secret="', "secret='\\", "bearer ", "-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "eyJ.",
    "tsk_", "://a:", "password=\\", "whsec_", "authorization", "authorization:", "=>", "password \t", "@://a:",
    "basic  ", "eyJa",
)  # fmt: skip


@pytest.mark.parametrize("part", HOSTILE)
def test_a_hostile_text_is_masked_in_time_that_grows_with_its_length(part: str) -> None:
    for text in (part * (60_000 // len(part)), part + " " * 60_000, " ".join([part] * (60_000 // (len(part) + 1)))):
        began = time.thread_time()
        masked_text(text)
        assert time.thread_time() - began < 1.0


# ---------------------------------------------------------------- lines that cannot be written


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_full_disk_fails_nobody_and_is_counted(untouched_logging: None) -> None:
    told: list[int] = []
    logs.configure(stream=Full(), on_lost=lambda: told.append(1))
    logs.logger().info("one")
    logging.getLogger("library").error("two")
    assert logs.lost_lines() == len(told) == 2


def test_a_closed_stream_fails_nobody(untouched_logging: None) -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    stream.close()
    logs.logger().info("one")
    assert logs.lost_lines() == 1


def test_lines_of_many_threads_stay_whole(written: Written) -> None:
    def write() -> None:
        for number in range(100):
            logs.logger().info("x" * 200, number=number)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written.lines()) == 400
