"""One request to a receiver: its form, what its answers mean, and what a hostile receiver can do."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from email.utils import formatdate
from pathlib import Path

import msgspec
import pytest

from tallystick.control.records import Endpoint
from tallystick.delivery.connections import MAX_ANSWER_BYTES, Resolve
from tallystick.delivery.signatures import verify
from tallystick.delivery.transport import Message, Sent, Transport
from tallystick.delivery.webhooks import WebhookTransport
from tests.delivery.receiver import Receiver, Reply, self_signed

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"specversion":"1.0"}'


def message(**changes: object) -> Message:
    found = Message(id="main/7", endpoint="e", ledger="main", seq=7, type="tallystick.transfer.v1", time="", body=BODY)
    return msgspec.structs.replace(found, **changes)


def endpoint(url: str) -> Endpoint:
    return Endpoint(id="e", ledger="main", url=url, secrets=(SECRET,))


def send(url: str, *messages: Message, allow_private: bool = True, **options: object) -> list[Sent]:
    """Send one message after another by one transport."""

    async def all_of_them() -> list[Sent]:
        transport = WebhookTransport(allow_private=allow_private, **options)  # type: ignore[arg-type]
        assert_transport: Transport = transport
        try:
            return [await assert_transport.send(endpoint(url), one) for one in messages or (message(),)]
        finally:
            await transport.close()
            await transport.close()

    return asyncio.run(all_of_them())


def resolver(*addresses: str) -> Resolve:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


# ---------------------------------------------------------------- the request


def test_a_message_is_one_signed_post(receiver: Receiver) -> None:
    (sent,) = send(receiver.url + "?a=b%20c", message(headers={"traceparent": "00-1-2-01"}))
    assert sent == Sent(accepted=True, status=204)
    (request,) = receiver.requests
    assert (request.method, request.path, request.body) == ("POST", "/hook?a=b%20c", BODY)
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert request.headers["content-length"] == str(len(BODY))
    assert request.headers["traceparent"] == "00-1-2-01"
    assert request.id == "main/7"
    verify(SECRET, request.headers, request.body)


def test_the_timestamp_is_that_of_the_try(receiver: Receiver) -> None:
    times = iter((1_000.9, 1_000.9, 2_000.0, 2_000.0))
    send(receiver.url, message(), message(), now=lambda: next(times))
    assert [request.headers["webhook-timestamp"] for request in receiver.requests] == ["1000", "2000"]
    assert len({request.headers["webhook-signature"] for request in receiver.requests}) == 2


def test_a_full_stop_in_the_name_of_a_ledger_is_written_otherwise(receiver: Receiver) -> None:
    send(receiver.url, message(id="v1.main/7"))
    assert receiver.requests[0].id == "v1%2Emain/7"


def test_a_connection_is_kept_for_the_next_message(receiver: Receiver) -> None:
    receiver.behaviour = lambda request: Reply(200 if request.number % 2 else 500, body=b"x" * 1_000)
    send(receiver.url, *[message()] * 10)
    assert len(receiver.requests) == 10
    assert receiver.connections == 1


def test_a_kept_connection_that_has_ended_is_replaced(receiver: Receiver) -> None:
    async def twice() -> list[Sent]:
        transport = WebhookTransport(allow_private=True)
        receiver.behaviour = lambda request: Reply(raw=b"HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n")
        first = await transport.send(endpoint(receiver.url), message())
        # The server forgets the connection without a word: the next request on it gets no byte of an answer.
        dropped = iter((True, False))
        receiver.behaviour = lambda request: Reply(drop=next(dropped))
        second = await transport.send(endpoint(receiver.url), message())
        await transport.close()
        return [first, second]

    assert [sent.accepted for sent in asyncio.run(twice())] == [True, True]
    assert receiver.connections == 2


# ---------------------------------------------------------------- what answers mean


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_accepted(receiver: Receiver, status: int) -> None:
    receiver.behaviour = lambda request: Reply(status)
    assert send(receiver.url) == [Sent(accepted=True, status=status)]


@pytest.mark.parametrize("status", [300, 304, 400, 401, 404, 409, 429, 500, 503, 599])
def test_anything_else_is_not(receiver: Receiver, status: int) -> None:
    receiver.behaviour = lambda request: Reply(status)
    (sent,) = send(receiver.url)
    assert (sent.accepted, sent.status, sent.gone) == (False, status, False)
    assert str(status) in sent.problem


def test_410_says_that_nothing_is_wanted_any_more(receiver: Receiver) -> None:
    receiver.behaviour = lambda request: Reply(410)
    assert send(receiver.url)[0].gone


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(receiver: Receiver, status: int) -> None:
    with Receiver() as other:
        receiver.behaviour = lambda request: Reply(status, headers={"location": other.url})
        (sent,) = send(receiver.url)
        assert not sent.accepted
        assert "redirect" in sent.problem
        assert other.requests == []
        assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("120", 120.0), ("0", 0.0), (" 7 ", 7.0), ("soon", None), ("-5", None), ("1e9", None), ("9" * 40, None)],
)
def test_retry_after_is_read(receiver: Receiver, text: str, seconds: float | None) -> None:
    receiver.behaviour = lambda request: Reply(503, headers={"Retry-After": text})
    assert send(receiver.url)[0].retry_after_seconds == seconds


def test_retry_after_may_be_a_date(receiver: Receiver) -> None:
    receiver.behaviour = lambda request: Reply(503, headers={"Retry-After": formatdate(1_000_060, usegmt=True)})
    assert send(receiver.url, now=lambda: 1_000_000.0)[0].retry_after_seconds == 60.0
    assert send(receiver.url, now=lambda: 2_000_000.0)[0].retry_after_seconds == 0.0


def test_an_interim_answer_is_not_the_answer(receiver: Receiver) -> None:
    receiver.behaviour = lambda request: Reply(
        raw=b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 500 no\r\ncontent-length: 0\r\n\r\n"
    )
    assert send(receiver.url)[0].status == 500


# ---------------------------------------------------------------- hostile and broken receivers


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listening
        (sent,) = send(f"http://127.0.0.1:{taken.getsockname()[1]}/")
    assert not sent.accepted
    assert "no connection" in sent.problem


def test_an_answer_without_end_is_cut_and_counts_by_its_status(receiver: Receiver) -> None:
    for status in (200, 500):
        receiver.behaviour = lambda request, status=status: Reply(  # type: ignore[misc]
            raw=f"HTTP/1.1 {status} x\r\ncontent-length: 99999999999\r\n\r\n".encode() + b"x" * 4 * MAX_ANSWER_BYTES
        )
        (sent,) = send(receiver.url)
        assert (sent.status, sent.accepted) == (status, status == 200)


def test_headers_without_end_are_no_answer(receiver: Receiver) -> None:
    receiver.behaviour = lambda request: Reply(raw=b"HTTP/1.1 200 x\r\n" + b"a: b\r\n" * MAX_ANSWER_BYTES)
    (sent,) = send(receiver.url)
    assert not sent.accepted
    assert "headers" in sent.problem


def test_an_answer_that_never_comes_is_given_up_in_time(receiver: Receiver) -> None:
    receiver.behaviour = lambda request: Reply(delay_seconds=30)
    began = time.monotonic()
    (sent,) = send(receiver.url, timeout_seconds=0.2)
    assert 0.15 < time.monotonic() - began < 5
    assert sent == Sent(accepted=False, problem="no answer within 0.2 seconds")


def test_an_answer_that_comes_byte_by_byte_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            line, _ = server.accept()
            with line:
                for byte in b"HTTP/1.1 200 OK\r\nx: " + b"y" * 1_000:
                    try:
                        line.send(bytes([byte]))
                    except OSError:
                        return
                    time.sleep(0.02)

        threading.Thread(target=drip, daemon=True).start()
        began = time.monotonic()
        (sent,) = send(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout_seconds=0.3)
    assert time.monotonic() - began < 5
    assert not sent.accepted


def test_a_body_that_does_not_end_does_not_take_back_what_the_status_said(receiver: Receiver) -> None:
    receiver.behaviour = lambda request: Reply(raw=b"HTTP/1.1 202 x\r\ncontent-length: 10\r\n\r\nabc")
    assert send(receiver.url, timeout_seconds=0.2) == [Sent(accepted=True, status=202)]


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"\x00" * 100,
        b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nboo",
        b"HTTP/1.1 200 x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    ],
)
def test_what_is_not_http_is_no_answer(receiver: Receiver, raw: bytes) -> None:
    receiver.behaviour = lambda request: Reply(raw=raw)
    (sent,) = send(receiver.url, timeout_seconds=1.0)
    assert not sent.accepted
    assert "SSH" not in sent.problem


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\n\r\n"])
def test_a_second_answer_to_one_request_is_not_taken_for_the_next(receiver: Receiver, end: bytes) -> None:
    twice = b"HTTP/1.1 500 no\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 yes\r\ncontent-length: 0" + end
    once = b"HTTP/1.1 500 no\r\ncontent-length: 0\r\n\r\n"
    receiver.behaviour = lambda request: Reply(raw=once if request.number else twice)
    assert [sent.status for sent in send(receiver.url, message(), message())] == [500, 500]


def test_what_a_receiver_says_is_not_repeated(receiver: Receiver) -> None:
    receiver.behaviour = lambda request: Reply(500, body=b"the inner secret", headers={"x": "inner"})
    assert "inner" not in str(send(receiver.url))


# ---------------------------------------------------------------- where it may go


@pytest.mark.parametrize(
    "url",
    [
        "http://93.184.216.34/",
        "https://127.0.0.1/",
        "https://localhost/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://10.0.0.1/",
        "https://2130706433/",
        "https://0177.0.0.1/",
        "https://0x7f.1/",
        "https://127.1/",
    ],
)
def test_private_places_are_refused_unless_allowed(url: str) -> None:
    (sent,) = send(url, allow_private=False, timeout_seconds=5.0)
    assert not sent.accepted
    assert sent.status == 0
    assert "private" in sent.problem or "https" in sent.problem or "IPv4" in sent.problem


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["fe80::1%eth0"], ["::ffff:10.0.0.1"]])
def test_a_name_that_leads_inside_is_refused(addresses: list[str]) -> None:
    (sent,) = send("https://hooks.example/", allow_private=False, resolve=resolver(*addresses))
    assert sent.problem == "its address is a private one"


def test_a_name_that_leads_elsewhere_the_second_time_is_asked_once(receiver: Receiver) -> None:
    """DNS rebinding: what was judged is what is connected to."""
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    with pytest.MonkeyPatch.context() as patch:
        # 127.0.0.1 is the open internet here, and nothing else is.
        patch.setattr("tallystick.delivery.connections.is_public", lambda address: address == "127.0.0.1")
        patch.setattr("tallystick.delivery.addresses.OPEN_PORTS", range(1, 65_536))
        (sent,) = send(
            f"https://hooks.example:{receiver.port}/", allow_private=False, resolve=rebinding, timeout_seconds=5.0
        )
        assert asked == ["hooks.example"]
        assert "secure" in sent.problem or "ended" in sent.problem or "connection" in sent.problem
        assert receiver.connections == 1  # it got as far as the handshake, at the address that was judged
        (again,) = send(
            f"https://hooks.example:{receiver.port}/", allow_private=False, resolve=rebinding, timeout_seconds=5.0
        )
        assert again.problem == "its address is a private one"
        assert receiver.connections == 1


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Receiver, ssl.SSLContext]]:
    server, client = self_signed(tmp_path)
    with Receiver(tls=server) as found:
        yield found, client


def test_https_reaches_who_has_the_right_certificate(secure: tuple[Receiver, ssl.SSLContext]) -> None:
    receiver, trust = secure
    assert [sent.accepted for sent in send(receiver.url, message(), message(), trust=trust)] == [True, True]
    assert receiver.connections == 1


def test_https_refuses_a_certificate_that_nobody_vouches_for(secure: tuple[Receiver, ssl.SSLContext]) -> None:
    receiver, _ = secure
    (sent,) = send(receiver.url)
    assert "certificate" in sent.problem
    assert receiver.requests == []


def test_https_refuses_a_certificate_of_another_name(tmp_path: Path) -> None:
    server, trust = self_signed(tmp_path, "other.example")
    with Receiver(tls=server) as receiver:
        (sent,) = send(receiver.url, trust=trust)
        assert "certificate" in sent.problem
        assert receiver.requests == []


# ---------------------------------------------------------------- headers


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "main/7\r\nx: y"},
        {"id": "main/7\n"},
        {"content_type": "text/plain\r\nx: y"},
        {"headers": {"x": "a\r\ny: b"}},
        {"headers": {"x\r\ny": "b"}},
        {"headers": {"x": "ü"}},
        {"headers": {"x": "a\0"}},
        {"headers": {"webhook-id": "main/8"}},
        {"headers": {"Host": "other"}},
        {"headers": {"Content-Length": "0"}},
        {"headers": {"transfer-encoding": "chunked"}},
    ],
)
def test_no_header_can_be_smuggled_in(receiver: Receiver, changes: dict[str, object]) -> None:
    (sent,) = send(receiver.url, message(**changes))
    assert not sent.accepted
    assert receiver.requests == []


def test_an_endpoint_without_a_secret_is_sent_nothing(receiver: Receiver) -> None:
    async def once() -> Sent:
        transport = WebhookTransport(allow_private=True)
        return await transport.send(Endpoint(id="e", ledger="main", url=receiver.url), message())

    assert "no secret" in asyncio.run(once()).problem
    assert receiver.requests == []


def test_a_connection_that_is_not_used_is_closed(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.delivery.connections.IDLE_SECONDS", 0.05)

    async def once_and_wait() -> int:
        transport = WebhookTransport(allow_private=True)
        await transport.send(endpoint(receiver.url), message())
        deadline = asyncio.get_running_loop().time() + 5
        while transport._connections._open and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        return len(transport._connections._open)

    assert asyncio.run(once_and_wait()) == 0


def test_only_so_many_idle_connections_are_kept(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.delivery.connections.MAX_IDLE", 3)

    async def many() -> int:
        transport = WebhookTransport(allow_private=True)
        receiver.behaviour = lambda request: Reply(delay_seconds=0.05)
        await asyncio.gather(*(transport.send(endpoint(receiver.url), message()) for _ in range(10)))
        left = len(transport._connections._open)
        await transport.close()
        return left

    assert asyncio.run(many()) == 3
    assert receiver.connections == 10
