"""``log_inclusion_proof.v1``: the inclusion proof of the log service *clawlogs*, for programs that read no other.

    {"proof_version": "1", "log_id", "tree_size", "leaf_hash_b64u", "root_hash_b64u", "audit_path": [b64u...],
     "root_published_at", "root_signature": {"signer_did", "sig_b64u"}, "metadata": {"leaf_index", "merkle_algorithm"}}

It follows "clawlogs Merkle Transparency Log, v1" and its JSON Schema. The leaves are the callers' raw hash bytes, here
the event hashes; a parent is SHA-256(left || right); the last node of an odd level is its own right sibling; the root
of nothing is SHA-256 of nothing; no hash may be a leaf twice. The path goes from the leaf's sibling up, and which side
a sibling is on follows from ``leaf_index``. Signed, with Ed25519, are the characters of the root in base64url without
padding. The signer is a ``did:key``.

It is an export beside the native receipt (``receipts``), and the receipt is the one to trust. For this format

- does not tell leaves from inner nodes: whoever knows the tree can pass an inner node off as a leaf of a smaller tree;
- gives one root to different lists (a b c, and a b c c), so a root alone does not say how many leaves there are;
- signs the root alone: ``tree_size``, ``log_id``, ``root_published_at`` and the place of the leaf can be altered by
  anybody as far as the path allows it, and ``root_published_at`` in any way.

The check below is as strict as the format allows: a path has the length that the claimed size asks for, a sibling is
the node itself exactly where the claimed size says that there is no other, and everything has one spelling.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tallystick.clock import parse_time
from tallystick.errors import InvalidInput, NoteInvalid, ProofInvalid
from tallystick.journal.merkle import HASH_BYTES
from tallystick.journal.notes import ED25519, MAX_SIZE, Signer, is_ed25519_signature
from tallystick.journal.plain_json import read_json

__all__ = [
    "MERKLE_ALGORITHM",
    "LogInclusionProof",
    "check_log_inclusion",
    "did_key",
    "parse_did_key",
    "prove_log_inclusion",
    "service_root",
]

MERKLE_ALGORITHM = "sha256(left||right), duplicate-last for odd levels"
MAX_PROOF_BYTES = 16_384
MAX_ID_CHARACTERS = 1_024

_FIELDS = {
    "audit_path",
    "leaf_hash_b64u",
    "log_id",
    "metadata",
    "proof_version",
    "root_hash_b64u",
    "root_published_at",
    "root_signature",
    "tree_size",
}
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DID = "did:key:z"
_ED25519_CODE = b"\xed\x01"
_KEY_BYTES = 32
_SIGNATURE_BYTES = 64
_MAX_DID_CHARACTERS = 100


# ---------------------------------------------------------------- the tree


def service_root(leaves: Sequence[bytes]) -> bytes:
    """The root over these leaves. Raises ProofInvalid for a leaf that is not of 32 bytes or is there twice."""
    _check_leaves(leaves)
    row = list(leaves)
    while len(row) > 1:
        row = _row_above(row)
    return row[0] if row else hashlib.sha256(b"").digest()


def _prove(leaves: Sequence[bytes], index: int) -> tuple[list[bytes], bytes]:
    """The siblings from the leaf up, and the root."""
    row, path = list(leaves), []
    while len(row) > 1:
        path.append(row[min(index ^ 1, len(row) - 1)])
        row, index = _row_above(row), index // 2
    return path, row[0]


def _row_above(row: list[bytes]) -> list[bytes]:
    if len(row) % 2:
        row = [*row, row[-1]]
    return [hashlib.sha256(row[at] + row[at + 1]).digest() for at in range(0, len(row), 2)]


def _check_leaves(leaves: Sequence[bytes]) -> None:
    if any(len(leaf) != HASH_BYTES for leaf in leaves):
        raise ProofInvalid(problem=f"a leaf has not {HASH_BYTES} bytes")
    if len(set(leaves)) != len(leaves):
        raise ProofInvalid(problem="a hash is a leaf twice, which such a log does not have")


# ---------------------------------------------------------------- the proof


@dataclass(frozen=True, slots=True)
class LogInclusionProof:
    """A proof as it was written. Nothing about it is verified: see ``check_log_inclusion``."""

    log_id: str
    tree_size: int
    leaf_index: int
    leaf_hash: bytes
    root_hash: bytes
    audit_path: tuple[bytes, ...]
    root_published_at: str
    signer_did: str
    signature: bytes

    def encode(self) -> bytes:
        """The proof as JSON."""
        fields = {
            "audit_path": [_encode(item) for item in self.audit_path],
            "leaf_hash_b64u": _encode(self.leaf_hash),
            "log_id": self.log_id,
            "metadata": {"leaf_index": self.leaf_index, "merkle_algorithm": MERKLE_ALGORITHM},
            "proof_version": "1",
            "root_hash_b64u": _encode(self.root_hash),
            "root_published_at": self.root_published_at,
            "root_signature": {"sig_b64u": _encode(self.signature), "signer_did": self.signer_did},
            "tree_size": self.tree_size,
        }
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def parse(cls, data: bytes) -> LogInclusionProof:
        """The proof in this JSON. Raises NoteInvalid.

        As in its schema, fields that it does not know are refused, except in ``metadata``. There ``leaf_index`` must be
        and ``merkle_algorithm`` may be.
        """
        fields = _read_object(data)
        signature = fields["root_signature"]
        if not isinstance(signature, dict) or signature.keys() != {"signer_did", "sig_b64u"}:
            raise _malformed("root_signature is not signer_did and sig_b64u")
        metadata = fields["metadata"]
        if not isinstance(metadata, dict) or metadata.get("merkle_algorithm", MERKLE_ALGORITHM) != MERKLE_ALGORITHM:
            raise _malformed("its merkle_algorithm is not known")
        path = fields["audit_path"]
        if fields["proof_version"] != "1" or not isinstance(path, list):
            raise _malformed("it is not of version 1, or its audit_path is no list")
        return cls(
            log_id=_text(fields["log_id"], "log_id"),
            tree_size=_number(fields["tree_size"], "tree_size"),
            leaf_index=_number(metadata.get("leaf_index"), "metadata.leaf_index"),
            leaf_hash=_decode(fields["leaf_hash_b64u"], HASH_BYTES, "leaf_hash_b64u"),
            root_hash=_decode(fields["root_hash_b64u"], HASH_BYTES, "root_hash_b64u"),
            audit_path=tuple(_decode(item, HASH_BYTES, "a hash of audit_path") for item in path),
            root_published_at=_time(fields["root_published_at"]),
            signer_did=_text(signature["signer_did"], "signer_did"),
            signature=_decode(signature["sig_b64u"], _SIGNATURE_BYTES, "sig_b64u"),
        )


def prove_log_inclusion(
    leaves: Sequence[bytes], index: int, *, log_id: str, published_at: str, signer: Signer
) -> LogInclusionProof:
    """The proof that the event hash ``leaves[index]`` is among all of these, signed now.

    It takes the whole tree, some 100 bytes of memory and a microsecond for each event. ``signer`` must have an Ed25519
    key; what it signs here, 43 characters, can be neither a note nor an envelope, so the log's own key may be used.
    Raises ProofInvalid for leaves that are none or an index beyond them, NoteInvalid for another kind of key or an
    empty ``log_id``, InvalidInput for a ``published_at`` that is no time.
    """
    _check_leaves(leaves)
    if not 0 <= index < len(leaves):
        raise ProofInvalid(problem=f"there is no leaf {index} among {len(leaves)}")
    key = signer.verifier
    if key.type != ED25519:
        raise NoteInvalid(problem=f"the key {key.name} is not an Ed25519 key")
    path, root = _prove(leaves, index)
    message = _encode(root).encode()
    signature = signer.sign(message)
    if not is_ed25519_signature(key.key, message, signature):
        raise NoteInvalid(problem=f"the signer of {key.name} gave a signature that its own key does not verify")
    return LogInclusionProof(
        log_id=_text(log_id, "log_id"),
        tree_size=len(leaves),
        leaf_index=index,
        leaf_hash=leaves[index],
        root_hash=root,
        audit_path=tuple(path),
        root_published_at=parse_time(published_at, "published_at"),
        signer_did=did_key(key.key),
        signature=signature,
    )


def check_log_inclusion(
    proof: LogInclusionProof, *, signers: Sequence[str], leaf: bytes | None = None, log_id: str = ""
) -> None:
    """Raises ProofInvalid unless the proof holds and one of ``signers`` (each a ``did:key``) signed its root.

    With ``leaf`` it must be about this event hash, with ``log_id`` claim to be of this log. What it does not show is in
    the module's docstring. Raises NoteInvalid for a signer that is no ``did:key`` of an Ed25519 key.
    """
    if leaf is not None and proof.leaf_hash != leaf:
        raise ProofInvalid(problem="it is about another leaf")
    if log_id and proof.log_id != log_id:
        raise ProofInvalid(problem=f"it is of the log {proof.log_id!r}, not {log_id!r}")
    keys = {parse_did_key(did) for did in signers}
    key = parse_did_key(proof.signer_did)
    if key not in keys:
        raise ProofInvalid(problem=f"{proof.signer_did} is not one of the signers that are trusted")
    if not is_ed25519_signature(key, _encode(proof.root_hash).encode(), proof.signature):
        raise ProofInvalid(problem="the signature of the root fails")
    if _climb(proof) != proof.root_hash:
        raise ProofInvalid(problem="the path leads to another root")


def _climb(proof: LogInclusionProof) -> bytes:
    """The root that the path leads to."""
    if not 0 <= proof.leaf_index < proof.tree_size <= MAX_SIZE:
        raise ProofInvalid(problem=f"there is no leaf {proof.leaf_index} in a tree of {proof.tree_size}")
    if len(proof.audit_path) != (proof.tree_size - 1).bit_length():
        raise ProofInvalid(problem=f"{len(proof.audit_path)} siblings are not the path of a tree of {proof.tree_size}")
    node, index, width = proof.leaf_hash, proof.leaf_index, proof.tree_size
    for sibling in proof.audit_path:
        # Twice the same node elsewhere would be a leaf that is there twice, as in a list stretched to the same root.
        alone = index == width - 1 and width % 2 == 1
        if len(sibling) != HASH_BYTES or (sibling == node) != alone:
            raise ProofInvalid(
                problem="a sibling is the node itself where there is another, or another where it is alone"
            )
        node = hashlib.sha256(sibling + node if index % 2 else node + sibling).digest()
        index, width = index // 2, (width + 1) // 2
    return node


# ---------------------------------------------------------------- did:key


def did_key(key: bytes) -> str:
    """The ``did:key`` of an Ed25519 public key: base58 (Bitcoin's alphabet) of the code 0xed01 and the key."""
    if len(key) != _KEY_BYTES:
        raise NoteInvalid(problem=f"an Ed25519 key has {_KEY_BYTES} bytes, not {len(key)}")
    number, digits = int.from_bytes(_ED25519_CODE + key), ""
    while number:
        number, digit = divmod(number, 58)
        digits = _BASE58[digit] + digits
    return _DID + digits  # the code's first byte is not zero, so there are no leading ones


def parse_did_key(did: str) -> bytes:
    """The Ed25519 public key of a ``did:key``. Raises NoteInvalid for anything else, and for other kinds of keys."""
    number = 0
    digits = did.removeprefix(_DID)
    if not did.startswith(_DID) or len(did) > _MAX_DID_CHARACTERS or any(sign not in _BASE58 for sign in digits):
        raise NoteInvalid(problem=f"{did[:_MAX_DID_CHARACTERS]!r} is not a did:key in base58")
    for sign in digits:
        number = number * 58 + _BASE58.index(sign)
    found = number.to_bytes((number.bit_length() + 7) // 8)
    key = found.removeprefix(_ED25519_CODE)
    if not found.startswith(_ED25519_CODE) or len(key) != _KEY_BYTES or did_key(key) != did:
        raise NoteInvalid(problem=f"{did} is not that of an Ed25519 key")
    return key


# ---------------------------------------------------------------- JSON


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: Any, length: int, what: str) -> bytes:
    """Bytes of this length, in their only spelling."""
    data = b""
    if isinstance(text, str) and len(text) == -(-length * 4 // 3) and text.isascii():
        try:
            data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except ValueError:
            data = b""
    if len(data) != length or _encode(data) != text:
        raise _malformed(f"{what} is not {length} bytes in base64url without padding")
    return data


def _read_object(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_PROOF_BYTES:
        raise _malformed(f"{len(data)} bytes are more than {MAX_PROOF_BYTES}")
    try:
        fields = read_json(data)
    except ValueError as error:
        raise _malformed(f"it is not JSON: {error}") from None
    if not isinstance(fields, dict) or fields.keys() != _FIELDS:
        raise _malformed("a field is missing, or there is one that is not known")
    return fields


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_ID_CHARACTERS:
        raise _malformed(f"{what} is not a string of 1 to {MAX_ID_CHARACTERS} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _malformed(f"{what} has a lone surrogate") from None
    return value


def _number(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value <= MAX_SIZE:  # a bool is an int too
        raise _malformed(f"{what} is not a whole number from 0 to {MAX_SIZE}")
    return value


def _time(value: Any) -> str:
    """The time as it is written: it may have another precision than ours."""
    try:
        parse_time(_text(value, "root_published_at"))
    except InvalidInput:
        raise _malformed("root_published_at is not a time") from None
    return str(value)


def _malformed(problem: str) -> NoteInvalid:
    return NoteInvalid(problem=f"log_inclusion_proof.v1: {problem}")
