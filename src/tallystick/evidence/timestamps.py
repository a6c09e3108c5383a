"""Optional anchors in time: RFC 3161 timestamps of a checkpoint, by an authority that is not the ledger's operator.

A witness says that a log only grew; a timestamp says that a checkpoint existed at a time, on the word of a timestamp
authority (TSA) whose certificate leads to a root that the reader trusts. The authority sees a SHA-256 and nothing of
the log. Stamped are the exact bytes of the note, cosignatures and all: keep them as they were (``checkpoints/<size>``),
and gather cosignatures before. The answer is kept beside them as ``timestamps/<size>.tsr``, in the DER of RFC 3161, so
that any tool can check it, such as ``openssl ts -verify -data checkpoints/<size> -in timestamps/<size>.tsr``.

Needs the extra ``timestamps`` (rfc3161-client). Revocation of the authority's certificate is not looked up. An answer
must be in DER throughout: some authorities send their chain of certificates out of DER's order, and are refused.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from cryptography.x509 import Certificate, ObjectIdentifier, load_pem_x509_certificates

from tallystick.errors import InvalidInput, ProofInvalid
from tallystick.evidence.outbound import Endpoint, parse_endpoint, post

if TYPE_CHECKING:
    from rfc3161_client import TimeStampResponse

    from tallystick.evidence.places import Publication

MAX_RESPONSE_BYTES = 65_536
"""A response with a chain of certificates has some 6,000."""

SHA_256 = ObjectIdentifier("2.16.840.1.101.3.4.2.1")
QUERY_TYPE = "application/timestamp-query"
REPLY_TYPE = "application/timestamp-reply"


class Timestamp(msgspec.Struct, frozen=True):
    """What an authority attested: the note existed at ``time``. ``policy`` is the OID under which it works."""

    time: datetime
    serial: int
    policy: str


class TimestampQuery(msgspec.Struct, frozen=True):
    """A request for a timestamp, in DER, and the random number that its answer must repeat."""

    body: bytes
    nonce: int


def timestamp_path(size: int) -> str:
    """Where the timestamp of the checkpoint of this size is kept in a publication or a bundle."""
    return f"timestamps/{size}.tsr"


def save_timestamp(publication: Publication, size: int, response: bytes) -> None:
    """Keep a response beside the checkpoints. Raises LogForked if another is kept for that size: look first."""
    publication.write(timestamp_path(size), response, immutable=True)


def parse_roots(pem: bytes) -> list[Certificate]:
    """The certificates of a PEM file. Raises InvalidInput if it has none."""
    try:
        return load_pem_x509_certificates(pem)
    except ValueError as error:
        raise InvalidInput(path="roots", problem=f"no certificates in PEM: {error}") from None


def make_query(note: bytes) -> TimestampQuery:
    """A request for a timestamp of ``note``, with the authority's certificate in the answer."""
    client = _library()
    algorithm = client.HashAlgorithm.SHA256
    request = client.TimestampRequestBuilder().data(note).hash_algorithm(algorithm).cert_request(cert_request=True)
    built = request.nonce(nonce=True).build()
    return TimestampQuery(body=built.as_bytes(), nonce=built.nonce)


def verify_timestamp(
    response: bytes, note: bytes, roots: Sequence[Certificate], *, nonce: int | None = None
) -> Timestamp:
    """What ``response`` attests about ``note``.

    Checked are: the status (granted as asked), the SHA-256 of the note, the signature, the certificate chain to one of
    ``roots`` at the time attested, the certificate's purpose, and the nonce if one is given. Raises ProofInvalid.
    """
    client = _library()
    verifier = client.VerifierBuilder(roots=list(roots), nonce=nonce)
    try:
        if len(response) > MAX_RESPONSE_BYTES:
            raise ValueError(f"{len(response)} bytes, the limit is {MAX_RESPONSE_BYTES}")
        found: TimeStampResponse = client.decode_timestamp_response(response)
        if found.status != 0:
            raise ValueError(f"the authority refused, with status {found.status}")
        imprint = found.tst_info.message_imprint
        if imprint.hash_algorithm != SHA_256:
            raise ValueError("it is not over a SHA-256")
        verifier.build().verify(found, hashlib.sha256(note).digest())
        info = found.tst_info
        return Timestamp(time=info.gen_time, serial=info.serial_number, policy=info.policy.dotted_string)
    except Exception as error:  # the parsers' errors are many; whatever they are, nothing was proven
        raise ProofInvalid(problem=f"the timestamp: {error}") from None


class TimestampClient:
    """Asks one authority. Raises InvalidInput for a URL that is none, or without roots to verify it by."""

    def __init__(
        self,
        url: str,
        roots: Sequence[Certificate],
        *,
        timeout_seconds: float = 10.0,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        if not roots:
            raise InvalidInput(path="roots", problem="an authority is trusted by its root certificate: give one")
        self._endpoint: Endpoint = parse_endpoint(url)
        self._roots = tuple(roots)
        self._timeout_seconds = timeout_seconds
        self._trust = trust

    def stamp(self, note: bytes) -> bytes:
        """The authority's response for ``note``, verified. Raises Unavailable if there is none, ProofInvalid if it does
        not hold.
        """
        query = make_query(note)
        reply = post(
            self._endpoint,
            query.body,
            QUERY_TYPE,
            timeout_seconds=self._timeout_seconds,
            most_bytes=MAX_RESPONSE_BYTES,
            trust=self._trust,
        )
        if reply.status != 200 or reply.content_type != REPLY_TYPE:
            problem = f"the authority answered {reply.status} {reply.content_type or 'without a content type'}"
            raise ProofInvalid(problem=problem)
        verify_timestamp(reply.body, note, self._roots, nonce=query.nonce)
        return reply.body


def _library() -> Any:
    try:
        import rfc3161_client  # noqa: PLC0415 - an extra: most logs do without timestamps
    except ImportError:
        raise InvalidInput(path="timestamps", problem="timestamps need the extra `timestamps`") from None
    return rfc3161_client
