"""Who signs for a log: a key in a file, or a key that never leaves AWS KMS.

Both satisfy ``notes.Signer``: they know their verifier key and give raw Ed25519 signatures (RFC 8032, no prehash), the
kind 0x01 of C2SP signed-note. Whoever holds the key can show two histories to two people, and only witnesses would
notice; so the file is kept from other users of the machine, and KMS is the better place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from tallystick.errors import InvalidInput, KeyFileUnsafe, NoteInvalid, Unavailable
from tallystick.evidence.durable import sync_folder
from tallystick.evidence.secret_files import read_secret
from tallystick.journal.notes import ED25519, SecretKey, VerifierKey

MAX_KMS_MESSAGE_BYTES = 4_096
"""What KMS signs raw at most. A checkpoint has some 150 bytes."""

KMS_KEY_SPEC = "ECC_NIST_EDWARDS25519"
KMS_ALGORITHM = "ED25519_SHA_512"
"""Plain Ed25519. KMS's other one for these keys, ED25519_PH_SHA_512, hashes first, and no reader of notes knows it."""

_WRONG_KEY = {
    "InvalidArnException",
    "InvalidKeyUsageException",
    "NotFoundException",
    "UnsupportedOperationException",
    "ValidationException",
}
"""Answers of KMS that another try does not mend: the key named is not one that can sign for a log."""


# ---------------------------------------------------------------- a key in a file


class FileSigner:
    """The key of the log ``name`` in the file ``path``: one line, as Go's note package writes signer keys.

    Where there is no file, a key is made from the operating system's randomness, unless ``create`` is false: a log that
    has published under one key must not go on with another because a path was mistyped. The file appears whole or not
    at all, and processes that start together end with the same key.

    Raises KeyFileUnsafe for a file that others may read, write or exchange, that is not a plain file, that is not
    a whole Ed25519 key, or that is another log's; Unavailable if it cannot be read or made; NoteInvalid for a ``name``
    that no key can have. No error shows a byte of the key.
    """

    def __init__(self, path: Path | str, name: str, *, create: bool = True) -> None:
        self.path = Path(path)
        if create and not os.path.lexists(self.path):
            _make_key_file(self.path, name)
        self.secret = _read_key_file(self.path, name)
        self.verifier: VerifierKey = self.secret.verifier
        self._key = Ed25519PrivateKey.from_private_bytes(self.secret.seed)

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of the Ed25519 signature over ``message``."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"FileSigner({str(self.path)!r}, {self.verifier.name!r})"


def _make_key_file(path: Path, name: str) -> None:
    """Make ``path`` unless someone else does first. The key is written beside it and linked to its name when it is safe
    on the disk: a link is refused where there is a file, and nobody ever reads half a key."""
    text = SecretKey.from_seed(name, os.urandom(32), ED25519).encode() + "\n"
    draft = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(8).hex()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), 0o600)  # a umask may have taken the owner's own rights
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):  # another process was quicker: its key is the key
                os.link(draft, path)
        finally:
            os.unlink(draft)
        sync_folder(path.parent)
    except OSError as error:
        raise Unavailable(reason=f"the key file {path} cannot be made: {error.strerror}") from None


def _read_key_file(path: Path, name: str) -> SecretKey:
    secret = _parse_key(path, read_secret(path))
    if secret.type != ED25519:
        raise KeyFileUnsafe(path=str(path), problem="its key is not an Ed25519 key")
    if secret.name != name:
        raise KeyFileUnsafe(path=str(path), problem=f"it holds the key of {secret.name}, not of {name}")
    return secret


def _parse_key(path: Path, data: bytes) -> SecretKey:
    # Half a key is refused and never replaced: what was signed with it may be out in the world.
    try:
        return SecretKey.parse(data.decode("utf-8").removesuffix("\n"))
    except (NoteInvalid, UnicodeDecodeError):
        problem = "it is empty" if not data else "it is not one whole key (PRIVATE+KEY+name+id+base64)"
        raise KeyFileUnsafe(path=str(path), problem=problem) from None


# ---------------------------------------------------------------- a key in AWS KMS


class KmsSigner:
    """The key of the log ``name`` in AWS KMS: an asymmetric key of the spec ECC_NIST_EDWARDS25519 for signing.

    ``key_id`` is a key's id or ARN, or an alias; an alias is followed once, when the signer is made, so that pointing
    it elsewhere does not change the key of a log that is running. Needs ``kms:GetPublicKey`` and ``kms:Sign``, and the
    extra ``aws``. Each signature is verified before it is given out, so that no fault on the way is ever published.

    Raises InvalidInput for a key that cannot sign for a log, or a message over 4,096 bytes; Unavailable if KMS does not
    answer, does not allow it now, or answers with a signature that is not this key's.
    """

    def __init__(self, key_id: str, name: str, client: Any = None) -> None:
        self.key_id = key_id
        self._client = _kms_client() if client is None else client
        with _kms_answers(key_id):
            found = self._client.get_public_key(KeyId=key_id)
        self._public = _public_key(key_id, found)
        self._resolved: str = found["KeyId"]
        key = self._public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.verifier = VerifierKey(name=name, type=ED25519, key=key)

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of the Ed25519 signature over ``message``, which has at most 4,096 bytes."""
        if len(message) > MAX_KMS_MESSAGE_BYTES:
            problem = f"AWS KMS signs at most {MAX_KMS_MESSAGE_BYTES} bytes, this has {len(message)}"
            raise InvalidInput(path="message", problem=problem)
        with _kms_answers(self.key_id):
            answer = self._client.sign(
                KeyId=self._resolved, Message=message, MessageType="RAW", SigningAlgorithm=KMS_ALGORITHM
            )
        signature = bytes(answer["Signature"])
        try:
            self._public.verify(signature, message)
        except InvalidSignature:
            reason = f"AWS KMS gave a signature that is not of the key {self.key_id}; it was thrown away"
            raise Unavailable(reason=reason) from None
        return signature

    def __repr__(self) -> str:
        return f"KmsSigner({self.key_id!r}, {self.verifier.name!r})"


def _kms_client() -> Any:
    try:
        import boto3  # type: ignore[import-untyped] # noqa: PLC0415 - an extra: most logs do without AWS
        from botocore.config import Config  # type: ignore[import-untyped] # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped] # noqa: PLC0415
    except ImportError:
        raise InvalidInput(path="signer", problem="AWS KMS needs the extra `aws` (boto3)") from None
    patience = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 4})
    try:
        return boto3.client("kms", config=patience)
    except BotoCoreError as error:
        raise Unavailable(reason=f"AWS KMS cannot be reached: {error}") from None


@contextmanager
def _kms_answers(key_id: str) -> Iterator[None]:
    """KMS's errors as ours."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        yield
    except ClientError as error:
        answer = error.response.get("Error", {})
        code, said = answer.get("Code", "?"), answer.get("Message", "")
        if code in _WRONG_KEY:
            raise InvalidInput(path="key_id", problem=f"AWS KMS refuses {key_id} ({code}): {said}") from None
        raise Unavailable(reason=f"AWS KMS does not sign with {key_id} ({code}): {said}") from None
    except BotoCoreError as error:
        raise Unavailable(reason=f"AWS KMS cannot be reached: {error}") from None


def _public_key(key_id: str, found: dict[str, Any]) -> Ed25519PublicKey:
    """The key in GetPublicKey's answer, which is a SubjectPublicKeyInfo in DER (RFC 8410)."""
    spec, usage = found.get("KeySpec"), found.get("KeyUsage")
    if spec != KMS_KEY_SPEC or usage != "SIGN_VERIFY" or KMS_ALGORITHM not in found.get("SigningAlgorithms", ()):
        problem = f"{key_id} is a key of the spec {spec} for {usage}; a log needs {KMS_KEY_SPEC} for SIGN_VERIFY"
        raise InvalidInput(path="key_id", problem=problem)
    key = None
    with suppress(ValueError, UnsupportedAlgorithm):
        key = load_der_public_key(found["PublicKey"])
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidInput(path="key_id", problem=f"{key_id} has no Ed25519 public key")
    return key
