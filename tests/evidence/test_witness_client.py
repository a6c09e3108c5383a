"""Asking witnesses: honest ones, and those that hang, lie or break off."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tallystick.errors import InvalidInput, NoteInvalid
from tallystick.evidence.witness import (
    MAX_ANSWER_BYTES,
    Cosigned,
    Gathered,
    NotCosigned,
    Stale,
    WitnessClient,
    gather,
    quorum_met,
)
from tallystick.evidence.witness_records import WitnessRecords
from tallystick.evidence.witness_server import WitnessServer, WitnessService
from tallystick.journal.checkpoints import cosign
from tallystick.journal.notes import COSIGNATURE, SecretKey, VerifierKey
from tallystick.journal.policies import Policy
from tests.evidence.witness_support import LOG_KEY, ORIGIN, POST_QUANTUM_KEY, WITNESS_KEY, Log, key, logs_by_origin

PATIENCE_SECONDS = 20.0
NOW = 1_795_000_000

Talk = Callable[[socket.socket], None]


@contextmanager
def honest(folder: Path, *keys: SecretKey) -> Iterator[str]:
    """A witness as it should be; its URL."""
    keys = keys or (WITNESS_KEY,)
    records = WitnessRecords(folder / f"{keys[0].name.replace('/', '_')}.db")
    server = WitnessServer(WitnessService(records, keys, logs_by_origin([LOG_KEY.verifier])))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        records.close()


@contextmanager
def scripted(*answers: bytes | Talk, url_path: str = "", first_reads: bool = True) -> Iterator[tuple[str, list[bytes]]]:
    """A witness that gives these answers, one for each connection, whatever it is asked; its URL and what came."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[bytes] = []

    def run() -> None:
        for answer in answers:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            with line:
                line.settimeout(PATIENCE_SECONDS)
                if first_reads:
                    asked.append(read_request(line))
                try:
                    answer(line) if callable(answer) else line.sendall(answer)
                except OSError:
                    continue

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}{url_path}", asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def read_request(line: socket.socket) -> bytes:
    found = b""
    while b"\r\n\r\n" not in found:
        found += line.recv(65_536)
    head, _, body = found.partition(b"\r\n\r\n")
    length = next(int(each.split(b":")[1]) for each in head.split(b"\r\n") if each.startswith(b"Content-Length"))
    while len(body) < length:
        body += line.recv(65_536)
    return head + b"\r\n\r\n" + body


def http(status: int, body: bytes, kind: str = "text/plain; charset=utf-8", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def line_of(secret: SecretKey, note: bytes, seconds: int = NOW) -> bytes:
    return cosign(note, secret, seconds).line.encode()


def client(url: str, verifier: VerifierKey = WITNESS_KEY.verifier, seconds: float = PATIENCE_SECONDS) -> WitnessClient:
    return WitnessClient(url, verifier, timeout_seconds=seconds)


# ---------------------------------------------------------------- one witness


def test_an_honest_witness_cosigns(tmp_path: Path) -> None:
    log = Log()
    with honest(tmp_path) as url:
        for old, new in ((0, 3), (3, 9), (9, 9)):
            outcome = client(url + "/").add_checkpoint(old, log.proof(old, new), log.note(new))
            assert isinstance(outcome, Cosigned)
            assert outcome.signature.is_by(WITNESS_KEY.verifier)
        assert client(url).add_checkpoint(3, log.proof(3, 9), log.note(9)) == Stale(9)


def test_the_request_is_as_the_specification_writes_it() -> None:
    log = Log()
    with scripted(http(404, b"")) as (url, asked), scripted(http(404, b""), url_path="/a/b") as (deeper, asked_deeper):
        client(url).add_checkpoint(3, log.proof(3, 5), log.note(5))
        client(deeper).add_checkpoint(0, [], log.note(5))
    head, _, body = asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /add-checkpoint HTTP/1.1\r\n")
    assert asked_deeper[0].startswith(b"POST /a/b/add-checkpoint HTTP/1.1\r\n")
    lines = body.split(b"\n")
    assert lines[0] == b"old 3"
    assert len(lines[1:]) - 1 == len(log.proof(3, 5)) + len(log.note(5).split(b"\n"))
    assert body.endswith(b"\n\n" + log.note(5))
    assert asked_deeper[0].endswith(b"\r\n\r\nold 0\n\n" + log.note(5))


def test_cosignatures_of_others_beside_the_right_one_are_ignored() -> None:
    note = Log().note(3)
    lines = line_of(key("stranger.example", COSIGNATURE), note) + line_of(WITNESS_KEY, note)
    with scripted(http(200, lines)) as (url, _):
        assert client(url).add_checkpoint(0, [], note) == Cosigned(cosign(note, WITNESS_KEY, NOW))


def test_a_witness_with_a_post_quantum_key_cosigns(tmp_path: Path) -> None:
    with honest(tmp_path, WITNESS_KEY, POST_QUANTUM_KEY) as url:
        outcome = client(url, POST_QUANTUM_KEY.verifier).add_checkpoint(0, [], Log().note(3))
    assert isinstance(outcome, Cosigned)
    assert outcome.signature.is_by(POST_QUANTUM_KEY.verifier)


def spoiled(line: bytes) -> bytes:
    """The signature with its last bit changed."""
    from tallystick.journal.notes import NoteSignature  # noqa: PLC0415

    found = NoteSignature.parse(line.decode())
    wrong = found.signature[:-1] + bytes([found.signature[-1] ^ 1])
    return NoteSignature(found.name, found.key_id, wrong).line.encode()


NOTE = Log().note(3)
GOOD = line_of(WITNESS_KEY, NOTE)
LIES: dict[str, bytes] = {
    "nothing": http(200, b""),
    "no signature line": http(200, b"thank you\n"),
    "no newline": http(200, GOOD[:-1]),
    "another key": http(200, line_of(key("other.example", COSIGNATURE), NOTE)),
    "another key of that name": http(200, line_of(key(WITNESS_KEY.name, COSIGNATURE, "other"), NOTE)),
    "another checkpoint": http(200, line_of(WITNESS_KEY, Log().note(4))),
    "a changed signature": http(200, spoiled(GOOD)),
    "a right one and a wrong one": http(200, GOOD + spoiled(GOOD)),
    "no time": http(200, line_of(POST_QUANTUM_KEY, NOTE, 0)),
    "a text of its own": http(200, b"more\n\n" + GOOD),
    "an empty line before": http(200, b"\n" + GOOD),
    "not UTF-8": http(200, b"\xff" + GOOD),
    "another status": http(201, GOOD),
    "a redirect": http(302, GOOD, more="Location: http://127.0.0.1:9/\r\n"),
    "a conflict without its type": http(409, b"5\n"),
    "a conflict without a number": http(409, b"05\n", "text/x.tlog.size"),
    "a conflict with a huge number": http(409, b"9" * 30 + b"\n", "text/x.tlog.size"),
    "a conflict with a size that no log has": http(409, b"9223372036854775808\n", "text/x.tlog.size"),
    "forbidden": http(403, b"\x1b[31mno\x00"),
    "too long": http(200, GOOD * (MAX_ANSWER_BYTES // len(GOOD) + 1)),
    "cut short": http(200, GOOD)[:-40],
    "no HTTP": b"SSH-2.0-x\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000,
    "silence": b"",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_witness_that_lies_has_not_cosigned(lie: str) -> None:
    verifier = (POST_QUANTUM_KEY if lie == "no time" else WITNESS_KEY).verifier
    with scripted(LIES[lie]) as (url, asked):
        outcome = client(url, verifier).add_checkpoint(0, [], NOTE)
    assert isinstance(outcome, NotCosigned)
    assert outcome.reason.isprintable()
    assert len(asked) == 1  # a redirect is not followed, and nothing is tried twice


def test_a_conflict_with_a_size_is_told_apart() -> None:
    with scripted(http(409, b"5\n", "text/x.tlog.size")) as (url, _):
        assert client(url).add_checkpoint(0, [], NOTE) == Stale(5)


def hang(line: socket.socket) -> None:
    line.recv(1)


def drip(line: socket.socket) -> None:
    """A byte now and then, so that no wait for the next one is long."""
    line.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        line.sendall(b"x")
        time.sleep(0.02)


def drip_head(line: socket.socket) -> None:
    while True:
        line.sendall(b"H")
        time.sleep(0.02)


@pytest.mark.parametrize("misbehave", [hang, drip, drip_head])
def test_a_witness_that_takes_too_long_is_given_up(misbehave: Callable[[socket.socket], None]) -> None:
    with scripted(misbehave) as (url, _):
        begun = time.monotonic()
        outcome = client(url, seconds=0.3).add_checkpoint(0, [], NOTE)
        assert time.monotonic() - begun < PATIENCE_SECONDS / 2
    assert isinstance(outcome, NotCosigned)
    assert "0.3 seconds" in outcome.reason


def test_a_tls_handshake_that_drips_is_given_up() -> None:
    def drip_records(line: socket.socket) -> None:
        line.sendall(b"\x16\x03\x03\x40\x00")
        while True:
            line.sendall(b"\x02")
            time.sleep(0.02)

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            line, _ = listener.accept()
            with line:
                try:
                    drip_records(line)
                except OSError:
                    return

        thread = threading.Thread(target=run)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        assert isinstance(client(url, seconds=0.3).add_checkpoint(0, [], NOTE), NotCosigned)
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def test_a_witness_behind_tls_is_trusted_by_its_certificate(tmp_path: Path) -> None:
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, secret.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(secret, hashes.SHA256())
    ).public_bytes(Encoding.PEM)
    chain = tmp_path / "chain.pem"
    chain.write_bytes(certificate + secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(chain)
    trust = ssl.create_default_context(cadata=certificate.decode())

    def answer(plain: socket.socket) -> None:
        with serving.wrap_socket(plain, server_side=True) as line:
            read_request(line)
            line.sendall(http(200, GOOD))

    with scripted(answer, answer, first_reads=False) as (url, _):
        address = url.replace("http:", "https:")
        clients = [
            WitnessClient(address, WITNESS_KEY.verifier, timeout_seconds=PATIENCE_SECONDS, trust=each)
            for each in (trust, None)
        ]
        good, bad = (each.add_checkpoint(0, [], NOTE) for each in clients)
    assert isinstance(good, Cosigned)
    assert isinstance(bad, NotCosigned)
    assert "CERTIFICATE_VERIFY_FAILED" in bad.reason


def test_a_witness_that_is_not_there_has_not_cosigned() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert isinstance(client(f"http://127.0.0.1:{port}").add_checkpoint(0, [], NOTE), NotCosigned)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "witness.example",
        "ftp://witness.example",
        "http://",
        "http://a:b@w.example",
        "http://w:x",
        "http://w/ x",
        "http://w/?a",
    ],
)
def test_what_is_no_url_of_a_witness_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        client(url)


def test_a_key_that_makes_no_cosignatures_is_refused() -> None:
    with pytest.raises(InvalidInput):
        client("http://w.example", LOG_KEY.verifier)


# ---------------------------------------------------------------- all witnesses of a policy


KEYS = [key(f"w{n}.example/w", COSIGNATURE) for n in range(4)]


def policy_of(urls: Sequence[str], rule: str) -> Policy:
    names = [f"w{n}" for n in range(len(urls))]
    witnesses = [f"witness {name} {KEYS[n].verifier} {urls[n]}".strip() for n, name in enumerate(names)]
    return Policy.parse("\n".join([*witnesses, f"group all-of-them {rule} {' '.join(names)}", "quorum all-of-them\n"]))


def gather_at(
    policy: Policy, new: int, known: dict[str, int] | None = None, seconds: float = PATIENCE_SECONDS
) -> Gathered:
    log = Log()
    found = gather(log.note(new), policy, lambda old: log.proof(old, new), known_sizes=known, timeout_seconds=seconds)
    assert found.quorum_met == quorum_met(found.note, policy)
    return found


def test_every_witness_is_asked_and_the_quorum_is_judged(tmp_path: Path) -> None:
    with honest(tmp_path, KEYS[0]) as first, honest(tmp_path, KEYS[1]) as second:
        found = gather_at(policy_of([first, second], "all"), 5)
    assert found.quorum_met
    assert found.note.startswith(Log().note(5))
    assert found.note.count("\n— w".encode()) == 2
    assert found.sizes == {str(KEYS[0].verifier): 5, str(KEYS[1].verifier): 5}
    assert all(isinstance(asked.outcome, Cosigned) for asked in found.asked)


def test_sizes_known_from_before_spare_the_second_try(tmp_path: Path) -> None:
    log, proofs = Log(), []

    def proof_from(old: int) -> list[bytes]:
        proofs.append((old, threading.current_thread() is threading.main_thread()))
        return log.proof(old, 9)

    with honest(tmp_path, KEYS[0]) as first, honest(tmp_path, KEYS[1]) as second:
        policy = policy_of([first, second], "all")
        known = gather_at(policy, 5).sizes
        found = gather(log.note(9), policy, proof_from, known_sizes=known, timeout_seconds=PATIENCE_SECONDS)
    assert found.quorum_met
    assert proofs == [(5, True)]  # made once, and in the caller's thread, for a store may be bound to it


def test_a_witness_that_stands_elsewhere_is_asked_once_more_from_there(tmp_path: Path) -> None:
    with honest(tmp_path, KEYS[0]) as url:
        policy = policy_of([url], "all")
        gather_at(policy, 5)
        for wrong in ({}, {str(KEYS[0].verifier): 3}, {str(KEYS[0].verifier): 99}, {str(KEYS[0].verifier): 9}):
            assert gather_at(policy, 9, wrong).quorum_met
        assert gather_at(policy, 9).sizes == {str(KEYS[0].verifier): 9}


def test_a_second_conflict_is_not_followed() -> None:
    conflicts = [http(409, b"%d\n" % size, "text/x.tlog.size") for size in (3, 4, 2)]
    with scripted(*conflicts) as (url, asked):
        found = gather_at(policy_of([url], "all"), 5)
    assert [each.partition(b"\r\n\r\n")[2].split(b"\n")[0] for each in asked] == [b"old 0", b"old 3"]
    assert not found.quorum_met
    assert found.sizes == {str(KEYS[0].verifier): 4}


@pytest.mark.parametrize(("size", "word"), [(0, "refuses"), (6, "beyond")])
def test_a_conflict_that_no_proof_can_mend_is_told(size: int, word: str) -> None:
    with scripted(http(409, b"%d\n" % size, "text/x.tlog.size")) as (url, asked):
        found = gather_at(policy_of([url], "all"), 5)
    [asked_one] = found.asked
    outcome = asked_one.outcome
    assert isinstance(outcome, NotCosigned)
    assert word in outcome.reason
    assert len(asked) == 1
    assert found.note == Log().note(5)


def test_a_witness_that_fails_costs_only_its_own_cosignature(tmp_path: Path) -> None:
    with honest(tmp_path, KEYS[0]) as good, scripted(http(500, b"no")) as (bad, _), scripted(hang) as (slow, _):
        urls = [good, bad, slow, "ftp://nonsense"]
        found = gather_at(policy_of(urls, "1"), 5, seconds=2)
        assert [isinstance(asked.outcome, Cosigned) for asked in found.asked] == [True, False, False, False]
        assert found.quorum_met
        assert not quorum_met(found.note, policy_of(urls, "2"))


def test_witnesses_are_asked_at_the_same_time() -> None:
    """Each answers only when all have been asked."""
    gate = threading.Barrier(3)

    def answer(line: socket.socket) -> None:
        gate.wait(PATIENCE_SECONDS)
        line.sendall(http(500, b"all were asked"))

    with scripted(answer) as (one, _), scripted(answer) as (two, _), scripted(answer) as (three, _):
        found = gather_at(policy_of([one, two, three], "1"), 5)
    assert ["all were asked" in asked.outcome.reason for asked in found.asked] == [True] * 3


def test_a_proof_that_cannot_be_made_counts_against_that_witness_only(tmp_path: Path) -> None:
    def proof_from(old: int) -> list[bytes]:
        raise OSError("the tiles are gone")

    log = Log()
    with honest(tmp_path, KEYS[0]) as first, honest(tmp_path, KEYS[1]) as second:
        policy = policy_of([first, second], "1")
        gather_at(policy_of([first], "1"), 3)
        found = gather(log.note(5), policy, proof_from, timeout_seconds=PATIENCE_SECONDS)
    reasons = [asked.outcome.reason if isinstance(asked.outcome, NotCosigned) else "" for asked in found.asked]
    assert "the tiles are gone" in reasons[0]
    assert reasons[1] == ""
    assert found.quorum_met
    assert found.sizes == {str(KEYS[0].verifier): 3, str(KEYS[1].verifier): 5}


def test_witnesses_without_a_url_are_not_asked_and_may_have_cosigned_before() -> None:
    policy = policy_of(["", ""], "1")
    assert not gather_at(policy, 5).quorum_met
    log = Log()
    note = log.note(5) + line_of(KEYS[1], log.note(5))
    found = gather(note, policy, lambda old: log.proof(old, 5))
    assert (found.quorum_met, found.asked, found.note) == (True, (), note)


def test_a_policy_without_witnesses_is_met(tmp_path: Path) -> None:
    assert gather_at(Policy.parse("quorum none\n"), 5).quorum_met


def test_what_is_no_checkpoint_is_not_sent_to_anybody() -> None:
    with scripted(http(500, b"")) as (url, asked), pytest.raises(NoteInvalid):
        gather(b"hello\n", policy_of([url], "1"), lambda _: [])
    assert asked == []


def test_a_fork_gets_no_quorum(tmp_path: Path) -> None:
    fork = Log(fork_at=2)
    with honest(tmp_path, KEYS[0]) as first, honest(tmp_path, KEYS[1]) as second:
        policy = policy_of([first, second], "any")
        assert gather_at(policy, 5).quorum_met
        for new in (3, 5, 9):
            found = gather(fork.note(new), policy, lambda old, new=new: fork.proof(old, new))
            assert not found.quorum_met
            assert found.note == fork.note(new)
            assert found.sizes == {str(KEYS[n].verifier): 5 for n in (0, 1)}


def test_one_url_with_two_keys_is_asked_for_both(tmp_path: Path) -> None:
    with honest(tmp_path, WITNESS_KEY, POST_QUANTUM_KEY) as url:
        lines = [f"witness {n} {secret.verifier} {url}" for n, secret in enumerate((WITNESS_KEY, POST_QUANTUM_KEY))]
        policy = Policy.parse("\n".join([*lines, "group both all 0 1", "quorum both\n"]))
        assert gather_at(policy, 5).quorum_met
        assert ORIGIN in gather_at(policy, 9).note.decode()
