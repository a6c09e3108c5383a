"""Who signs for a log: the key file is kept from others and never half made; KMS's answers are not taken on trust."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import ANY, Stubber
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from moto import mock_aws

from tallystick.errors import InvalidInput, KeyFileUnsafe, NoteInvalid, Unavailable
from tallystick.evidence import signers
from tallystick.evidence.signers import FileSigner, KmsSigner
from tallystick.journal.checkpoints import Checkpoint, open_checkpoint, sign_checkpoint
from tallystick.journal.notes import ED25519, ML_DSA_44, SecretKey, VerifierKey

NAME = "ledger.example/log/2026"
SEED = bytes(range(32))
ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def key_text(name: str = NAME, seed: bytes = SEED, type: int = ED25519) -> str:
    return SecretKey.from_seed(name, seed, type).encode()


def put_key(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def a_checkpoint() -> Checkpoint:
    return Checkpoint(origin=NAME, size=1, root=bytes(32))


# ---------------------------------------------------------------- the key file


def test_a_key_is_made_on_first_use_and_used_ever_after(tmp_path: Path) -> None:
    first = FileSigner(tmp_path / "log.key", NAME)
    again = FileSigner(tmp_path / "log.key", NAME)
    assert first.verifier == again.verifier
    assert first.verifier.name == NAME
    assert first.verifier.type == ED25519
    assert first.secret == again.secret
    assert [path.name for path in tmp_path.iterdir()] == ["log.key"]


def test_the_key_file_is_one_line_in_the_form_of_go_for_its_owner_alone(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        signer = FileSigner(tmp_path / "log.key", NAME)
    finally:
        os.umask(umask)
    text = (tmp_path / "log.key").read_text()
    assert text == signer.secret.encode() + "\n"
    assert text.startswith(f"PRIVATE+KEY+{NAME}+{signer.verifier.id.hex()}+")
    assert (tmp_path / "log.key").stat().st_mode & 0o7777 == 0o600


def test_two_logs_get_two_keys(tmp_path: Path) -> None:
    assert FileSigner(tmp_path / "a.key", NAME).secret.seed != FileSigner(tmp_path / "b.key", NAME).secret.seed


def test_a_key_file_written_by_hand_signs_as_its_seed_does(tmp_path: Path) -> None:
    for ending in ("", "\n"):
        signer = FileSigner(put_key(tmp_path / "log.key", key_text() + ending), NAME)
        assert signer.sign(b"message") == Ed25519PrivateKey.from_private_bytes(SEED).sign(b"message")


def test_what_a_file_signer_signs_opens_with_its_verifier_key(tmp_path: Path) -> None:
    signer = FileSigner(tmp_path / "log.key", NAME)
    note = sign_checkpoint(a_checkpoint(), signer)
    key = VerifierKey.parse(str(signer.verifier))
    assert open_checkpoint(note, [key])[0] == a_checkpoint()


def test_without_leave_to_create_a_missing_key_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(KeyFileUnsafe, match="there is no such file"):
        FileSigner(tmp_path / "log.key", NAME, create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_no_key_can_have_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(NoteInvalid):
        FileSigner(tmp_path / "log.key", "a name with spaces")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o644, 0o666, 0o777])
def test_a_key_file_that_group_or_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = put_key(tmp_path / "log.key", key_text(), mode)
    with pytest.raises(KeyFileUnsafe, match="chmod 600"):
        FileSigner(path, NAME)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_key_file_for_its_owner_alone_is_used(tmp_path: Path, mode: int) -> None:
    assert FileSigner(put_key(tmp_path / "log.key", key_text(), mode), NAME).verifier.name == NAME


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "PRIVATE+KEY+",
        key_text()[:-1],
        key_text()[: len(key_text()) // 2],
        key_text() + "\n\n",
        key_text() + "\n" + key_text() + "\n",
        " " + key_text(),
        key_text() + "\r\n",
        key_text().replace("PRIVATE", "private"),
        "x" * 10_000,
        str(SecretKey.from_seed(NAME, SEED).verifier),
    ],
)
def test_an_empty_half_written_or_foreign_file_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    path = put_key(tmp_path / "log.key", text)
    with pytest.raises(KeyFileUnsafe):
        FileSigner(path, NAME)
    assert path.read_bytes() == text.encode()


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = put_key(tmp_path / "log.key", "")
    path.write_bytes(b"\xff\xfe" * 50)
    with pytest.raises(KeyFileUnsafe):
        FileSigner(path, NAME)


def test_the_key_of_another_log_is_refused(tmp_path: Path) -> None:
    path = put_key(tmp_path / "log.key", key_text(name="other.example"))
    with pytest.raises(KeyFileUnsafe, match=r"the key of other\.example, not of ledger\.example/log/2026"):
        FileSigner(path, NAME)


def test_a_key_with_another_ones_id_is_refused(tmp_path: Path) -> None:
    right, other = key_text(), SecretKey.from_seed(NAME, bytes(32)).verifier.id.hex()
    path = put_key(tmp_path / "log.key", right.replace(SecretKey.parse(right).verifier.id.hex(), other))
    with pytest.raises(KeyFileUnsafe):
        FileSigner(path, NAME)


def test_a_key_of_another_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileUnsafe, match="not an Ed25519 key"):
        FileSigner(put_key(tmp_path / "log.key", key_text(type=ML_DSA_44)), NAME)


def test_no_error_or_repr_shows_the_key(tmp_path: Path) -> None:
    secret = key_text().rsplit("+", 1)[1]
    shown = [repr(FileSigner(put_key(tmp_path / "good", key_text()), NAME))]
    for text in (key_text() + "x", key_text(name="other.example"), key_text().replace("PRIVATE", "PUBLIC")):
        with pytest.raises(KeyFileUnsafe) as caught:
            FileSigner(put_key(tmp_path / "bad", text), NAME)
        shown.append(f"{caught.value} {caught.value.data} {caught.value.__cause__}")
    assert not any(secret[:12] in text for text in shown)


def test_a_folder_or_a_pipe_is_no_key_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("folder", "pipe"):
        with pytest.raises(KeyFileUnsafe, match="not a plain file"):
            FileSigner(tmp_path / name, NAME)


def test_a_link_of_ones_own_to_ones_own_key_is_followed(tmp_path: Path) -> None:
    put_key(tmp_path / "real.key", key_text())
    (tmp_path / "log.key").symlink_to(tmp_path / "real.key")
    assert FileSigner(tmp_path / "log.key", NAME).verifier == SecretKey.from_seed(NAME, SEED).verifier


def test_a_link_that_leads_nowhere_is_refused_and_nothing_made_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "log.key").symlink_to(tmp_path / "nowhere")
    with pytest.raises(KeyFileUnsafe):
        FileSigner(tmp_path / "log.key", NAME)
    assert [path.name for path in tmp_path.iterdir()] == ["log.key"]


class _Status:
    """The status of a file, but with another owner: to give a file away takes root, which tests need not be."""

    def __init__(self, real: os.stat_result, owner: int) -> None:
        self.st_mode, self.st_uid = real.st_mode, owner


def test_a_file_or_link_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_key(tmp_path / "real.key", key_text())
    (tmp_path / "log.key").symlink_to(tmp_path / "real.key")
    stranger = os.geteuid() + 4711
    with monkeypatch.context() as patch:
        real_fstat = os.fstat
        patch.setattr(signers.os, "fstat", lambda fd: _Status(real_fstat(fd), stranger))
        with pytest.raises(KeyFileUnsafe, match="belongs to another user"):
            FileSigner(tmp_path / "real.key", NAME)
    with monkeypatch.context() as patch:
        real_lstat = os.lstat
        patch.setattr(signers.os, "lstat", lambda path: _Status(real_lstat(path), stranger))
        with pytest.raises(KeyFileUnsafe, match="symbolic link of another user"):
            FileSigner(tmp_path / "log.key", NAME)


def test_a_key_that_cannot_be_made_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(signers.os, "fsync", fail)
        with pytest.raises(Unavailable, match="No space left"):
            FileSigner(tmp_path / "log.key", NAME)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Unavailable, match="No such file"):
        FileSigner(tmp_path / "missing" / "log.key", NAME)


def test_the_key_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    for name in ("fsync", "link"):
        real = getattr(os, name)
        monkeypatch.setattr(signers.os, name, lambda *a, _n=name, _r=real: (steps.append(_n), _r(*a))[1])
    FileSigner(tmp_path / "log.key", NAME)
    assert steps == ["fsync", "link", "fsync"]


def test_whoever_finds_the_name_taken_while_making_a_key_uses_the_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def be_overtaken(source: Any, target: Path) -> None:
        put_key(target, key_text())
        real(source, target)

    monkeypatch.setattr(signers.os, "link", be_overtaken)
    assert FileSigner(tmp_path / "log.key", NAME).secret.seed == SEED
    assert [path.name for path in tmp_path.iterdir()] == ["log.key"]


def test_processes_that_start_at_once_end_with_one_key(tmp_path: Path) -> None:
    program = (
        "import sys; from tallystick.evidence.signers import FileSigner; print('ready', flush=True);"
        "sys.stdin.readline(); print(FileSigner(sys.argv[1], sys.argv[2]).verifier)"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "log.key"), NAME],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = {process.communicate(timeout=30)[0] for process in started}
    assert said == {f"{FileSigner(tmp_path / 'log.key', NAME).verifier}\n"}
    assert [path.name for path in tmp_path.iterdir()] == ["log.key"]


# ---------------------------------------------------------------- AWS KMS
#
# moto 5.2 has no Ed25519 keys, so botocore's Stubber, which holds requests and answers to the service's own model,
# stands for KMS, and a local key signs. What moto can say, that a key is of another kind or not there, moto says.


def kms_client() -> Any:
    return boto3.client("kms", "eu-central-1", aws_access_key_id="x", aws_secret_access_key="x")


def public_answer(key: Ed25519PrivateKey, **others: Any) -> dict[str, Any]:
    return {
        "KeyId": ARN,
        "PublicKey": key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "KeySpec": "ECC_NIST_EDWARDS25519",
        "KeyUsage": "SIGN_VERIFY",
        "SigningAlgorithms": ["ED25519_SHA_512", "ED25519_PH_SHA_512"],
        **others,
    }


LOCAL = Ed25519PrivateKey.from_private_bytes(SEED)
SIGN_PARAMETERS = ("KeyId", "Message", "MessageType", "SigningAlgorithm")


def test_a_kms_key_signs_checkpoints_that_open_with_its_verifier_key() -> None:
    client, checkpoint = kms_client(), a_checkpoint()
    with Stubber(client) as kms:
        kms.add_response("get_public_key", public_answer(LOCAL), {"KeyId": "alias/log"})
        kms.add_response(
            "sign",
            {"KeyId": ARN, "Signature": LOCAL.sign(checkpoint.text.encode()), "SigningAlgorithm": "ED25519_SHA_512"},
            {
                "KeyId": ARN,  # what the alias led to at first
                "Message": checkpoint.text.encode(),
                "MessageType": "RAW",
                "SigningAlgorithm": "ED25519_SHA_512",
            },
        )
        signer = KmsSigner("alias/log", NAME, client)
        assert signer.verifier == SecretKey.from_seed(NAME, SEED).verifier
        note = sign_checkpoint(checkpoint, signer)
        kms.assert_no_pending_responses()
    assert open_checkpoint(note, [signer.verifier])[0] == checkpoint


@pytest.mark.parametrize(
    "signature",
    [
        Ed25519PrivateKey.from_private_bytes(bytes(32)).sign(b"message"),
        LOCAL.sign(b"another message"),
        LOCAL.sign(b"message")[:-1],
        LOCAL.sign(b"message") + b"\0",
        bytes([LOCAL.sign(b"message")[0] ^ 1]) + LOCAL.sign(b"message")[1:],
        b"x",
    ],
)
def test_a_signature_that_does_not_verify_is_not_given_out(signature: bytes) -> None:
    client = kms_client()
    with Stubber(client) as kms:
        kms.add_response("get_public_key", public_answer(LOCAL))
        kms.add_response("sign", {"KeyId": ARN, "Signature": signature})
        signer = KmsSigner(ARN, NAME, client)
        with pytest.raises(Unavailable, match="not of the key"):
            signer.sign(b"message")


@pytest.mark.parametrize(
    "others",
    [
        {"KeySpec": "ECC_NIST_P256"},
        {"KeyUsage": "KEY_AGREEMENT"},
        {"SigningAlgorithms": ["ED25519_PH_SHA_512"]},
        {"SigningAlgorithms": []},
        {"PublicKey": b"no DER"},
    ],
)
def test_a_kms_key_that_cannot_sign_for_a_log_is_refused(others: dict[str, Any]) -> None:
    client = kms_client()
    with Stubber(client) as kms:
        kms.add_response("get_public_key", public_answer(LOCAL, **others))
        with pytest.raises(InvalidInput) as caught:
            KmsSigner(ARN, NAME, client)
    assert caught.value.data["path"] == "key_id"


def test_a_kms_key_of_another_kind_or_none_is_refused_as_moto_tells_it() -> None:
    with mock_aws():
        client = kms_client()
        other = client.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
        with pytest.raises(InvalidInput, match="a log needs ECC_NIST_EDWARDS25519"):
            KmsSigner(other, NAME, client)
        with pytest.raises(InvalidInput, match="NotFoundException"):
            KmsSigner("00000000-0000-0000-0000-000000000000", NAME, client)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("NotFoundException", InvalidInput),
        ("InvalidKeyUsageException", InvalidInput),
        ("ValidationException", InvalidInput),
        ("AccessDeniedException", Unavailable),
        ("DisabledException", Unavailable),
        ("KMSInvalidStateException", Unavailable),
        ("KMSInternalException", Unavailable),
        ("ThrottlingException", Unavailable),
    ],
)
def test_what_kms_refuses_is_told_with_its_own_words(code: str, expected: type[Exception]) -> None:
    client = kms_client()
    with Stubber(client) as kms:
        kms.add_client_error("get_public_key", code, "because of the test")
        kms.add_response("get_public_key", public_answer(LOCAL))
        kms.add_client_error("sign", code, "because of the test")
        with pytest.raises(expected, match=f"{code}.*because of the test"):
            KmsSigner(ARN, NAME, client)
        signer = KmsSigner(ARN, NAME, client)
        with pytest.raises(expected, match=f"{code}.*because of the test"):
            signer.sign(b"message")


def test_a_kms_that_does_not_answer_is_unavailable() -> None:
    class Unreachable:
        def get_public_key(self, **_: Any) -> Any:
            raise EndpointConnectionError(endpoint_url="https://kms.example")

    with pytest.raises(Unavailable, match="cannot be reached"):
        KmsSigner(ARN, NAME, Unreachable())


def test_a_message_longer_than_kms_takes_is_refused_before_it_is_sent() -> None:
    client, longest = kms_client(), b"x" * signers.MAX_KMS_MESSAGE_BYTES
    with Stubber(client) as kms:
        kms.add_response("get_public_key", public_answer(LOCAL))
        kms.add_response("sign", {"Signature": LOCAL.sign(longest)}, dict.fromkeys(SIGN_PARAMETERS, ANY))
        signer = KmsSigner(ARN, NAME, client)
        assert signer.sign(longest) == LOCAL.sign(longest)
        with pytest.raises(InvalidInput, match="at most 4096 bytes, this has 4097"):
            signer.sign(longest + b"x")
