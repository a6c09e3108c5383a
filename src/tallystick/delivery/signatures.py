"""Signing what is sent to a webhook, and checking it: Standard Webhooks 1.0.0.

What is signed is ``<id>.<timestamp>.<body>``, where the timestamp is that of the try (whole seconds), so that a message
that was caught on its way is worth nothing a few minutes later. The header ``webhook-signature`` holds one signature
for each secret, separated by spaces: while a secret is being replaced the old one signs too, and a receiver accepts
any.

    secret            public half       signature
    whsec_<base64>    (the same)        v1,<base64>     HMAC-SHA256; 24 to 64 bytes, known to both sides
    whsk_<base64>     whpk_<base64>     v1a,<base64>    Ed25519; the receiver can check and cannot sign

An id with a full stop would let one content be read as another, so there is none: ``webhook_id`` writes it as ``%2E``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tallystick.errors import InvalidInput, ProofInvalid

TOLERANCE_SECONDS = 300
"""How far a receiver lets the timestamp be from its own clock, either way."""

MIN_SECRET_BYTES = 24
MAX_SECRET_BYTES = 64
KEY_BYTES = 32
"""Of an Ed25519 seed, and of a public key."""

MAX_SECRETS = 4
"""Of one endpoint: two kinds, each while it is being replaced."""

MAX_SIGNATURES = 32
"""In one header: a receiver looks at no more."""

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"

_ID = re.compile(r"[!-\-/-~]{1,256}\Z")
_TIMESTAMP = re.compile(r"[0-9]{1,12}\Z")

Sign = Callable[[bytes], str]
Check = Callable[[bytes, str], bool]


def new_secret(random: Callable[[int], bytes]) -> str:
    """A new shared secret, ``whsec_``; ``random`` gives that many random bytes, as ``os.urandom`` does."""
    return "whsec_" + base64.b64encode(random(32)).decode()


def new_signing_key(random: Callable[[int], bytes]) -> str:
    """A new private key, ``whsk_``."""
    return "whsk_" + base64.b64encode(random(KEY_BYTES)).decode()


def public_key(secret: str) -> str:
    """The ``whpk_`` of a ``whsk_``: what a receiver is given. Raises InvalidInput for any other secret."""
    kind, data = _decode(secret)
    if kind != "whsk":
        raise InvalidInput(path="secret", problem="a shared secret has no public half")
    return (
        "whpk_" + base64.b64encode(Ed25519PrivateKey.from_private_bytes(data).public_key().public_bytes_raw()).decode()
    )


def check_secret(secret: str, path: str = "secret") -> str:
    """The secret itself, if it is one that signs. Raises InvalidInput, which does not show it."""
    kind, _ = _decode(secret, path)
    if kind == "whpk":
        raise InvalidInput(path=path, problem="a public key signs nothing; whsec_ and whsk_ do")
    return secret


def webhook_id(id: str) -> str:
    """A message's id as the header has it."""
    return id.replace(".", "%2E")


def sign(secrets: Sequence[str], id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of a message. Raises InvalidInput for an id, a timestamp or a secret that cannot be one."""
    stamp = str(timestamp)
    if not _ID.match(id) or not _TIMESTAMP.match(stamp):
        raise InvalidInput(path=ID_HEADER, problem=f"{id!r} at {stamp} cannot be signed")
    if not secrets:
        raise InvalidInput(path="secrets", problem="there is no secret to sign with")
    content = b"%s.%s.%s" % (id.encode(), stamp.encode(), body)
    signatures = " ".join([_signer(secret)(content) for secret in secrets])
    return {ID_HEADER: id, TIMESTAMP_HEADER: stamp, SIGNATURE_HEADER: signatures}


def verify(
    secret: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float | None = None,
    tolerance_seconds: float = TOLERANCE_SECONDS,
) -> None:
    """For receivers: nothing, if one of the signatures is right. Raises ProofInvalid for anything else.

    ``secret`` is the ``whsec_``, or the ``whpk_``. Headers are found whatever their case. Signatures of other kinds, or
    of other secrets, are passed over. InvalidInput for a secret that is none.
    """
    given = {name.lower(): value for name, value in headers.items()}
    missing = [name for name in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER) if not given.get(name)]
    if missing:
        raise ProofInvalid(problem=f"there is no header {missing[0]}")
    stamp = given[TIMESTAMP_HEADER]
    if not _TIMESTAMP.match(stamp):
        raise ProofInvalid(problem="the timestamp is not a number of seconds")
    age = (time.time() if now is None else now) - int(stamp)
    if abs(age) > tolerance_seconds:
        raise ProofInvalid(problem=f"the message is {abs(age):.0f} seconds {'old' if age > 0 else 'ahead'}")
    content = b"%s.%s.%s" % (given[ID_HEADER].encode(), stamp.encode(), body)
    version, check = _checker(secret)
    for signature in given[SIGNATURE_HEADER].split(" ")[:MAX_SIGNATURES]:
        kind, _, value = signature.partition(",")
        if kind == version and check(content, value):
            return
    raise ProofInvalid(problem="no signature is right")


def _decode(secret: str, path: str = "secret") -> tuple[str, bytes]:
    kind, separator, text = secret.partition("_") if isinstance(secret, str) else ("", "", "")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not separator or kind not in ("whsec", "whsk", "whpk"):
        raise InvalidInput(path=path, problem="a secret begins with whsec_ or whsk_")
    low, high = (MIN_SECRET_BYTES, MAX_SECRET_BYTES) if kind == "whsec" else (KEY_BYTES, KEY_BYTES)
    if not low <= len(data) <= high:
        span = f"{low} to {high}" if low != high else str(low)
        raise InvalidInput(path=path, problem=f"a {kind}_ is followed by {span} bytes in base64")
    return kind, data


@lru_cache(maxsize=1_024)
def _signer(secret: str) -> Sign:
    kind, data = _decode(check_secret(secret))
    if kind == "whsec":
        return lambda content: "v1," + base64.b64encode(hmac.digest(data, content, hashlib.sha256)).decode()
    key = Ed25519PrivateKey.from_private_bytes(data)
    return lambda content: "v1a," + base64.b64encode(key.sign(content)).decode()


def _checker(secret: str) -> tuple[str, Check]:
    kind, data = _decode(secret)
    if kind == "whsec":
        return "v1", lambda content, value: hmac.compare_digest(
            base64.b64encode(hmac.digest(data, content, hashlib.sha256)), value.encode()
        )
    if kind == "whsk":
        raise InvalidInput(path="secret", problem="a receiver checks with the public key, whpk_")
    return "v1a", lambda content, value: _is_signed(Ed25519PublicKey.from_public_bytes(data), content, value)


def _is_signed(key: Ed25519PublicKey, content: bytes, value: str) -> bool:
    try:
        key.verify(base64.b64decode(value, validate=True), content)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
