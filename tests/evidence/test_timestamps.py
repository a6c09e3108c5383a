"""RFC 3161 timestamps of a checkpoint, by a small authority that the test makes itself with `openssl ts`."""

from __future__ import annotations

import datetime
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tallystick.errors import Fault, InvalidInput, ProofInvalid, Unavailable
from tallystick.evidence.directory import DirectoryPublication
from tallystick.evidence.timestamps import (
    MAX_RESPONSE_BYTES,
    TimestampClient,
    make_query,
    parse_roots,
    save_timestamp,
    verify_timestamp,
)
from tests.evidence.witness_support import Log

pytest.importorskip("rfc3161_client", reason="the extra `timestamps` is not installed")
OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="there is no openssl to be an authority")

NOTE = Log().note(9)
POLICY = "1.3.6.1.4.1.99999.1"


class Authority:
    """A timestamp authority: a root, a certificate for timestamps, and openssl to answer with them."""

    def __init__(self, folder: Path, *, days_left: int = 1, digests: str = "sha256, sha512") -> None:
        folder.mkdir()
        self.folder = folder
        root_key, leaf_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        name = f"root of {folder}"[-60:]
        self.root = _certificate(name, root_key, name, root_key, 1)
        leaf = _certificate("authority", leaf_key, name, root_key, days_left)
        (folder / "root.pem").write_bytes(self.root.public_bytes(Encoding.PEM))
        (folder / "leaf.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
        secret = leaf_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "leaf.key").write_bytes(secret)
        (folder / "serial").write_text("01\n")
        (folder / "openssl.cnf").write_text(
            f"[tsa]\nserial = {folder}/serial\nsigner_cert = {folder}/leaf.pem\nsigner_key = {folder}/leaf.key\n"
            f"signer_digest = sha256\ndefault_policy = {POLICY}\ndigests = {digests}\n"
            "ess_cert_id_alg = sha256\n"
        )

    def answer(self, query: bytes) -> bytes:
        (self.folder / "query").write_bytes(query)
        self.run("ts", "-reply", "-config", "openssl.cnf", "-section", "tsa", "-queryfile", "query", "-out", "answer")
        return (self.folder / "answer").read_bytes()

    def run(self, *arguments: str) -> None:
        assert OPENSSL is not None
        subprocess.run([OPENSSL, *arguments], cwd=self.folder, check=True, capture_output=True, timeout=60)


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, issuer_key: ec.EllipticCurvePrivateKey, days_left: int
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=9))
        .not_valid_after(now + datetime.timedelta(days=days_left))
        .add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True)
    )
    if name != issuer:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
    return builder.sign(issuer_key, hashes.SHA256())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "a")


@pytest.fixture(scope="module")
def response(authority: Authority) -> bytes:
    return authority.answer(make_query(NOTE).body)


Answers = Callable[[bytes], tuple[int, str, bytes]]


@contextmanager
def serving(answer: Answers) -> Iterator[tuple[str, list[str]]]:
    """An authority's web server; its URL and the content types of what it was sent."""
    sent: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append(self.headers["Content-Type"])
            status, kind, body = answer(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/tsa", sent
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def reply(body: bytes) -> tuple[int, str, bytes]:
    return 200, "application/timestamp-reply", body


# ---------------------------------------------------------------- verifying


def test_a_timestamp_says_when_the_note_existed(authority: Authority, response: bytes) -> None:
    found = verify_timestamp(response, NOTE, [authority.root])
    now = datetime.datetime.now(datetime.UTC)
    assert now - datetime.timedelta(minutes=10) < found.time < now + datetime.timedelta(minutes=1)
    assert found.policy == POLICY
    assert found.serial > 0


def test_openssl_reads_what_is_kept(authority: Authority, response: bytes) -> None:
    (authority.folder / "note").write_bytes(NOTE)
    (authority.folder / "9.tsr").write_bytes(response)
    arguments = ["ts", "-verify", "-in", "9.tsr", "-CAfile", "root.pem", "-data"]
    authority.run(*arguments, "note")
    (authority.folder / "note").write_bytes(Log().note(8))
    with pytest.raises(subprocess.CalledProcessError):
        authority.run(*arguments, "note")


def test_a_timestamp_of_another_note_is_refused(authority: Authority, response: bytes) -> None:
    with pytest.raises(ProofInvalid):
        verify_timestamp(response, Log().note(8), [authority.root])


def test_a_timestamp_of_an_authority_that_is_not_trusted_is_refused(
    tmp_path: Path, authority: Authority, response: bytes
) -> None:
    stranger = Authority(tmp_path / "b")
    with pytest.raises(ProofInvalid):
        verify_timestamp(response, NOTE, [stranger.root])
    with pytest.raises(ProofInvalid):
        verify_timestamp(response, NOTE, [])
    assert verify_timestamp(response, NOTE, [stranger.root, authority.root])


def test_an_answer_to_another_question_is_refused(authority: Authority) -> None:
    query = make_query(NOTE)
    answer = authority.answer(query.body)
    assert verify_timestamp(answer, NOTE, [authority.root], nonce=query.nonce)
    with pytest.raises(ProofInvalid, match="Nonce"):
        verify_timestamp(answer, NOTE, [authority.root], nonce=make_query(NOTE).nonce)


def test_a_certificate_that_had_lapsed_when_it_stamped_is_refused(tmp_path: Path) -> None:
    lapsed = Authority(tmp_path / "lapsed", days_left=-1)
    with pytest.raises(ProofInvalid, match="expired"):
        verify_timestamp(lapsed.answer(make_query(NOTE).body), NOTE, [lapsed.root])


def test_a_refusal_of_the_authority_is_no_timestamp(tmp_path: Path) -> None:
    picky = Authority(tmp_path / "a", digests="sha512")
    refusal = picky.answer(make_query(NOTE).body)
    with pytest.raises(ProofInvalid, match="status 2"):
        verify_timestamp(refusal, NOTE, [picky.root])


def test_a_timestamp_over_another_hash_is_refused(authority: Authority) -> None:
    (authority.folder / "data").write_bytes(NOTE)
    authority.run("ts", "-query", "-data", "data", "-sha512", "-cert", "-out", "other")
    answer = authority.answer((authority.folder / "other").read_bytes())
    with pytest.raises(ProofInvalid, match="SHA-256"):
        verify_timestamp(answer, NOTE, [authority.root])


@pytest.mark.parametrize("data", [b"", b"\x30\x00", b"nonsense", bytes(MAX_RESPONSE_BYTES + 1)])
def test_what_is_no_timestamp_is_refused(authority: Authority, data: bytes) -> None:
    with pytest.raises(ProofInvalid):
        verify_timestamp(data, NOTE, [authority.root])


def test_a_changed_timestamp_attests_nothing_else(authority: Authority, response: bytes) -> None:
    """One bit of every byte is changed. A certificate or a status text beside the signature may be spoiled without
    harm; what is attested may not."""
    honest = verify_timestamp(response, NOTE, [authority.root])
    refused = 0
    for place in range(len(response)):
        changed = bytearray(response)
        changed[place] ^= 1 << place % 8
        try:
            assert verify_timestamp(bytes(changed), NOTE, [authority.root]) == honest
        except ProofInvalid:
            refused += 1
    assert refused > len(response) // 2
    with pytest.raises(ProofInvalid):
        verify_timestamp(response[:-1], NOTE, [authority.root])
    with pytest.raises(ProofInvalid):
        verify_timestamp(response + b"\x00", NOTE, [authority.root])


# ---------------------------------------------------------------- asking


def test_an_authority_is_asked_and_its_answer_verified(authority: Authority) -> None:
    with serving(lambda query: reply(authority.answer(query))) as (url, sent):
        client = TimestampClient(url, [authority.root])
        first, second = client.stamp(NOTE), client.stamp(NOTE)
    assert verify_timestamp(first, NOTE, [authority.root])
    assert first != second
    assert sent == ["application/timestamp-query"] * 2


def test_an_old_answer_is_not_taken_for_a_new_one(authority: Authority, response: bytes) -> None:
    with serving(lambda _: reply(response)) as (url, _), pytest.raises(ProofInvalid, match="Nonce"):
        TimestampClient(url, [authority.root]).stamp(NOTE)


@pytest.mark.parametrize(
    ("status", "kind"), [(500, "application/timestamp-reply"), (302, "text/html"), (200, "text/html")]
)
def test_an_answer_that_is_no_reply_is_refused(authority: Authority, status: int, kind: str) -> None:
    with serving(lambda query: (status, kind, authority.answer(query))) as (url, _), pytest.raises(ProofInvalid):
        TimestampClient(url, [authority.root]).stamp(NOTE)


def test_an_answer_that_is_too_long_is_not_read(authority: Authority) -> None:
    with serving(lambda _: reply(bytes(MAX_RESPONSE_BYTES + 1))) as (url, _), pytest.raises(Unavailable):
        TimestampClient(url, [authority.root]).stamp(NOTE)


def test_an_authority_without_roots_cannot_be_asked(authority: Authority) -> None:
    with pytest.raises(InvalidInput):
        TimestampClient("http://tsa.example", [])
    with pytest.raises(InvalidInput):
        TimestampClient("tsa.example", [authority.root])


# ---------------------------------------------------------------- keeping


def test_a_timestamp_is_kept_beside_its_checkpoint(tmp_path: Path, authority: Authority, response: bytes) -> None:
    publication = DirectoryPublication(tmp_path)
    save_timestamp(publication, 20_852_163, response)
    kept = (tmp_path / "timestamps" / "20852163.tsr").read_bytes()
    assert verify_timestamp(kept, NOTE, [authority.root])
    with pytest.raises(Fault):
        save_timestamp(publication, 20_852_163, b"another")


def test_roots_are_read_from_pem(authority: Authority) -> None:
    pem = (authority.folder / "root.pem").read_bytes()
    assert parse_roots(pem + pem) == [authority.root, authority.root]
    with pytest.raises(InvalidInput):
        parse_roots(b"nothing")
