"""NATS JetStream, against a real server: what a stream holds, what it drops, and what is said when none is there."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nats
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tallystick.delivery.sinks import SinkSettings
from tallystick.delivery.sinks import nats as sink
from tallystick.delivery.sinks.nats import NatsTransport, target_of
from tallystick.errors import InvalidInput, Unavailable
from tests.delivery.nats_server import NatsServer, find_server
from tests.delivery.sink_support import accepted, endpoint, message, of_size

PROGRAM = find_server()
needs_server = pytest.mark.skipif(PROGRAM is None, reason="the program nats-server is not on this machine")
LOCAL = SinkSettings(allow_private=True)

Stored = list[tuple[str, dict[str, str], bytes]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    assert PROGRAM is not None
    made = NatsServer(PROGRAM, tmp_path / "nats")
    made.start()
    yield made
    made.stop()


@asynccontextmanager
async def _transport(settings: SinkSettings = LOCAL) -> AsyncIterator[NatsTransport]:
    made = NatsTransport(settings)
    try:
        yield made
    finally:
        await made.close()


async def _with_server(server: NatsServer, act: Callable[[Any], Awaitable[Any]]) -> Any:
    client = await nats.connect(server.url, allow_reconnect=False)
    try:
        return await act(client.jetstream(timeout=10))
    finally:
        await client.close()


async def _make_stream(server: NatsServer, name: str = "LEDGERS", *subjects: str, **more: Any) -> None:
    await _with_server(
        server, lambda stream: stream.add_stream(name=name, subjects=subjects or ["tallystick.>"], **more)
    )


async def _stored(server: NatsServer, name: str = "LEDGERS") -> Stored:
    """What a stream holds, in its order."""

    async def read(stream: Any) -> Stored:
        state = (await stream.stream_info(name)).state
        found = state.messages and [
            await stream.get_msg(name, seq) for seq in range(state.first_seq, state.last_seq + 1)
        ]
        return [(one.subject, one.headers, one.data) for one in found or ()]

    result: Stored = await _with_server(server, read)
    return result


@needs_server
def test_a_stream_holds_the_body_under_the_subject_of_ledger_and_type(server: NatsServer) -> None:
    async def scene() -> None:
        await _make_stream(server)
        async with _transport() as transport:
            one = message(
                7, "für Alice", headers={"traceparent": "00-ab-cd-01", "bad\r\nname": "x", "bad": "a\r\nb: c"}
            )
            assert (await transport.send(endpoint("nats", server.url), one)).accepted
        ((subject, headers, body),) = await _stored(server)
        assert subject == "tallystick.main.transfer"
        assert body == one.body
        assert headers == {
            "Nats-Msg-Id": "ep_1:main/7",
            "Content-Type": "application/cloudevents+json; charset=utf-8",
            "traceparent": "00-ab-cd-01",
        }

    asyncio.run(scene())


@needs_server
def test_a_batch_is_there_in_order_when_it_is_acknowledged(server: NatsServer) -> None:
    async def scene() -> None:
        await _make_stream(server)
        async with _transport() as transport:
            results = await transport.send_many(endpoint("nats", server.url), [message(seq) for seq in range(256)])
            assert accepted(results) == [True] * 256
            assert len(transport._connections) == 1
        ids = [json.loads(body)["id"] for _, _, body in await _stored(server)]
        assert ids == [f"main/{seq}" for seq in range(256)]

    asyncio.run(scene())


@needs_server
def test_what_is_published_twice_is_stored_once_also_across_a_crash_of_the_server(server: NatsServer) -> None:
    async def scene() -> None:
        await _make_stream(server)
        async with _transport() as transport:
            to = endpoint("nats", server.url)
            assert (await transport.send(to, message(1))).accepted
            server.stop()
            down = await transport.send(to, message(2))
            assert not down.accepted
            assert "cannot be reached" in down.problem or "connection" in down.problem
            server.start()
            results = await transport.send_many(to, [message(1), message(2)])
            assert accepted(results) == [True, True]
        assert [json.loads(body)["id"] for _, _, body in await _stored(server)] == ["main/1", "main/2"]

    asyncio.run(scene())


@needs_server
def test_two_endpoints_whose_subjects_lie_in_one_stream_are_both_told(server: NatsServer) -> None:
    async def scene() -> None:
        await _make_stream(server)
        async with _transport() as transport:
            for id in ("ep_1", "ep_2"):
                to = endpoint("nats", server.url, id, subject=f"tallystick.for.{id}.{{type}}")
                assert (await transport.send(to, message(1))).accepted
        subjects = [subject for subject, _, _ in await _stored(server)]
        assert subjects == ["tallystick.for.ep_1.transfer", "tallystick.for.ep_2.transfer"]

    asyncio.run(scene())


@needs_server
def test_a_stream_that_is_missing_is_said_to_be(server: NatsServer) -> None:
    async def scene() -> None:
        async with _transport() as transport:
            result = await transport.send(endpoint("nats", server.url), message(1))
            assert (result.accepted, result.status) == (False, 503)
            assert result.problem == "no stream takes tallystick.main.transfer: make a stream for it"
            named = await transport.send(endpoint("nats", server.url, stream="LEDGERS"), message(1))
            assert "make the stream LEDGERS" in named.problem
            await _make_stream(server)
            assert (await transport.send(endpoint("nats", server.url, stream="LEDGERS"), message(1))).accepted

    asyncio.run(scene())


@needs_server
def test_another_stream_than_the_one_expected_takes_nothing(server: NatsServer) -> None:
    async def scene() -> None:
        await _make_stream(server, "OTHER")
        async with _transport() as transport:
            result = await transport.send(endpoint("nats", server.url, stream="LEDGERS"), message(1))
            assert (result.accepted, result.status) == (False, 400)
            assert "expected stream does not match" in result.problem
        assert await _stored(server, "OTHER") == []

    asyncio.run(scene())


@needs_server
def test_a_stream_that_is_full_refuses(server: NatsServer) -> None:
    async def scene() -> None:
        await _make_stream(server, max_msgs=1, discard="new")
        async with _transport() as transport:
            results = [await transport.send(endpoint("nats", server.url), message(seq)) for seq in range(2)]
            assert accepted(results) == [True, False]
            assert "maximum messages exceeded" in results[1].problem

    asyncio.run(scene())


@needs_server
def test_a_subscriber_who_is_no_stream_does_not_count(server: NatsServer) -> None:
    async def scene() -> None:
        client = await nats.connect(server.url, allow_reconnect=False)

        async def answer(asked: Any) -> None:
            await asked.respond(b"thanks")

        await client.subscribe("tallystick.>", cb=answer)
        await client.flush()
        async with _transport() as transport:
            result = await transport.send(endpoint("nats", server.url), message(1))
        await client.close()
        assert not result.accepted
        assert "no stream" in result.problem

    asyncio.run(scene())


@needs_server
def test_nobody_who_acknowledges_is_waited_for_so_long_and_no_longer(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "ACK_SECONDS", 0.1)

    async def scene() -> None:
        client = await nats.connect(server.url, allow_reconnect=False)
        await client.subscribe("tallystick.>")
        await client.flush()
        async with _transport() as transport:
            result = await transport.send(endpoint("nats", server.url), message(1))
        await client.close()
        assert (result.accepted, result.problem) == (False, "no acknowledgement within 0.1 s")

    asyncio.run(scene())


@needs_server
def test_a_message_has_the_limit_of_the_server(server: NatsServer) -> None:
    async def scene() -> None:
        await _make_stream(server)
        async with _transport() as transport:
            to = endpoint("nats", server.url)
            headers = {"Content-Type": message(1).content_type, "Nats-Msg-Id": "ep_1:main/1"}
            most = 1024 * 1024 - sink._header_bytes(headers)
            over = await transport.send(to, of_size(most + 1, 1))
            assert (over.accepted, over.status) == (False, 413)
            assert (await transport.send(to, of_size(most, 1))).accepted
        assert [len(body) for _, _, body in await _stored(server)] == [most]

    asyncio.run(scene())


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[NatsServer]:
    """A server that asks for a name and a password."""
    assert PROGRAM is not None
    made = NatsServer(PROGRAM, tmp_path / "guarded", "--user", "tally", "--pass", "s3cret")
    made.start()
    yield made
    made.stop()


@needs_server
def test_a_password_in_the_url_is_used_and_never_shown(guarded: NatsServer) -> None:
    async def scene() -> None:
        async with _transport() as transport:
            for login in ("tally:wr0ng", "nobody:s3cret"):
                url = f"nats://{login}@127.0.0.1:{guarded.port}"
                result = await transport.send(endpoint("nats", url), message(1))
                assert "Authorization" in result.problem
                assert login.partition(":")[2] not in result.problem
            url = f"nats://tally:s3cret@127.0.0.1:{guarded.port}"
            result = await transport.send(endpoint("nats", url), message(1))
            assert "no stream takes" in result.problem

    asyncio.run(scene())


@needs_server
def test_credentials_are_for_the_servers_that_the_operator_named(server: NatsServer, tmp_path: Path) -> None:
    async def scene() -> None:
        to = endpoint("nats", server.url)
        missing = str(tmp_path / "no.creds")
        async with _transport(SinkSettings(nats_servers=("127.0.0.1",), nats_credentials=missing)) as transport:
            problem = (await transport.send(to, message(1))).problem
            assert "cannot be reached" in problem or "nkeys" in problem
        async with _transport(SinkSettings(allow_private=True, nats_credentials=missing)) as transport:
            assert "no stream takes" in (await transport.send(to, message(1))).problem

    asyncio.run(scene())


@needs_server
def test_what_the_server_complains_of_is_said_when_it_does_not_acknowledge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "ACK_SECONDS", 0.3)
    rules = tmp_path / "rules.conf"
    rules.write_text('authorization { users = [{user: "t", password: "p", permissions: {publish: "other"}}] }')
    assert PROGRAM is not None
    strict = NatsServer(PROGRAM, tmp_path / "strict", "-c", str(rules))
    strict.start()

    async def scene() -> None:
        async with _transport() as transport:
            result = await transport.send(endpoint("nats", f"nats://t:p@127.0.0.1:{strict.port}"), message(1))
        assert not result.accepted
        assert "ermissions" in result.problem

    try:
        asyncio.run(scene())
    finally:
        strict.stop()


# ---------------------------------------------------------------- encryption


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for a name, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / f"{name}.crt", folder / f"{name}.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, secret


@needs_server
@pytest.mark.parametrize("name", ["localhost", "other.example"])
def test_an_encrypted_server_must_show_its_name_also_where_its_address_is_pinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    certificate, key = _certificate(tmp_path, name)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setattr(sink, "is_public", lambda address: True)
    assert PROGRAM is not None
    server = NatsServer(PROGRAM, tmp_path / "tls", "--tls", "--tlscert", str(certificate), "--tlskey", str(key))
    server.start()

    async def scene() -> list[str]:
        to = endpoint("nats", f"tls://localhost:{server.port}")
        problems = []
        for chosen in (LOCAL, SinkSettings()):  # by name, and by the address that was judged
            async with _transport(chosen) as transport:
                problems.append((await transport.send(to, message(1))).problem)
        return problems

    try:
        problems = asyncio.run(scene())
    finally:
        server.stop()
    if name == "localhost":
        assert all("no stream takes" in problem for problem in problems), problems
    else:
        assert all("cannot be reached" in problem and "ertificate" in problem for problem in problems), problems


# ---------------------------------------------------------------- where it may connect


@needs_server
def test_only_so_many_connections_are_kept(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "MAX_CONNECTIONS", 2)

    async def scene() -> None:
        async with _transport() as transport:
            for login in ("a:x", "b:x", "c:x", "a:x"):
                url = f"nats://{login}@127.0.0.1:{server.port}"
                assert "no stream takes" in (await transport.send(endpoint("nats", url), message(1))).problem
            assert len(transport._connections) == 2

    asyncio.run(scene())


@needs_server
def test_private_addresses_are_refused_unless_they_are_allowed_or_named(server: NatsServer) -> None:
    async def scene() -> None:
        to = endpoint("nats", server.url)
        async with _transport(SinkSettings()) as transport:
            result = await transport.send(to, message(1))
            assert not result.accepted
            assert "not public" in result.problem
            assert transport._connections == {}
        for named in ("127.0.0.1", f"127.0.0.1:{server.port}"):
            async with _transport(SinkSettings(nats_servers=(named,))) as transport:
                assert "no stream takes" in (await transport.send(to, message(1))).problem
        async with _transport(SinkSettings(nats_servers=("127.0.0.1:1",))) as transport:
            assert "not public" in (await transport.send(to, message(1))).problem

    asyncio.run(scene())


def test_what_is_connected_to_is_the_address_that_was_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []

    async def resolve(*arguments: Any, **more: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 4222)) for address in found]

    async def scene() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
        target = target_of("tls://u:p@nats.example.com", {})
        found[:] = ["93.184.215.14", "93.184.215.15"]
        assert await sink._public_url(target) == "tls://u:p@93.184.215.14:4222"
        found[:] = ["2606:2800:21f::1"]
        assert await sink._public_url(target) == "tls://u:p@[2606:2800:21f::1]:4222"
        for private in ("10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "224.0.0.1"):
            found[:] = ["93.184.215.14", private]
            with pytest.raises(InvalidInput):
                await sink._public_url(target)

    asyncio.run(scene())


def test_a_name_without_an_address_and_a_port_without_a_server_are_problems() -> None:
    async def scene() -> None:
        with pytest.raises(Unavailable):
            await sink._public_url(target_of("nats://nowhere.invalid", {}))
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))  # taken, and nobody listens
            async with _transport() as transport:
                url = f"nats://127.0.0.1:{closed.getsockname()[1]}"
                result = await transport.send(endpoint("nats", url), message(1))
        assert not result.accepted
        assert "cannot be reached" in result.problem

    asyncio.run(scene())


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "CONNECT_SECONDS", 0.2)

    async def scene() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            async with _transport() as transport:
                url = f"nats://127.0.0.1:{silent.getsockname()[1]}"
                result = await transport.send(endpoint("nats", url), message(1))
        assert not result.accepted
        assert "cannot be reached" in result.problem

    asyncio.run(scene())


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nats.example.com",
        "http://nats.example.com",
        "nats://",
        "nats://a:99999",
        "nats://a:0",
        "nats://a/x",
        "nats://a b",
    ],
)
def test_what_is_no_server_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        target_of(url, {})


@pytest.mark.parametrize("subject", ["", "a..b", "a.*", "a.>", "$JS.API", "_INBOX.x", "a b", "a.{other}", "a" * 256])
def test_what_is_no_subject_to_publish_to_is_refused(subject: str) -> None:
    with pytest.raises(InvalidInput):
        target_of("nats://a", {"subject": subject})


def test_a_subject_has_a_token_for_each_of_ledger_and_type_whatever_they_hold() -> None:
    target = target_of("nats://a", {"subject": "x.{ledger}.{type}"})
    assert target.subject_of(message(1, ledger="eu.main")) == "x.eu_main.transfer"
    assert target.subject_of(message(1, type="tallystick.a b.*.v1")) == "x.main.a_b__"
    assert len(target_of("nats://a", {"subject": "a" * 255}).subject) == 255
