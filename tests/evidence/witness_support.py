"""A small log and its keys, for the tests of witnesses: whole in memory, by the definition of the tree."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from tallystick.evidence.witness import encode_request
from tallystick.journal.checkpoints import Checkpoint, sign_checkpoint
from tallystick.journal.merkle import consistency_proof, hash_leaf, root_of
from tallystick.journal.notes import COSIGNATURE, ED25519, ML_DSA_44, SecretKey, VerifierKey

ORIGIN = "example.com/log"


def key(name: str, type: int = ED25519, salt: str = "") -> SecretKey:
    return SecretKey.from_seed(name, hashlib.sha256(f"{name} {type} {salt}".encode()).digest(), type)


LOG_KEY = key(ORIGIN)
WITNESS_KEY = key("witness.example/w1", COSIGNATURE)
POST_QUANTUM_KEY = key("witness.example/w1", ML_DSA_44)


def logs_by_origin(keys: Iterable[VerifierKey]) -> dict[str, tuple[VerifierKey, ...]]:
    """The logs that these keys are of: a key's name is the origin of its log (tlog-policy)."""
    found: dict[str, tuple[VerifierKey, ...]] = {}
    for key in keys:
        found[key.name] = (*found.get(key.name, ()), key)
    return found


class Log:
    """A log that signs whatever it is asked to. ``fork_at`` gives it other leaves from there on."""

    def __init__(self, origin: str = ORIGIN, fork_at: int | None = None, signer: SecretKey = LOG_KEY) -> None:
        self.origin = origin
        self.signer = signer
        self.fork_at = fork_at

    def leaves(self, size: int) -> list[bytes]:
        return [
            hash_leaf(b"%d%s" % (n, b"" if self.fork_at is None or n < self.fork_at else b"!")) for n in range(size)
        ]

    def root(self, size: int) -> bytes:
        return root_of(self.leaves(size))

    def note(self, size: int, *more: SecretKey) -> bytes:
        return sign_checkpoint(Checkpoint(self.origin, size, self.root(size)), self.signer, *more)

    def proof(self, old: int, new: int) -> list[bytes]:
        leaves = self.leaves(new)

        def read(places: Sequence[tuple[int, int]]) -> list[bytes]:
            return [root_of(leaves[index << level : (index + 1) << level]) for level, index in places]

        return consistency_proof(old, new, read)

    def request(self, old: int, new: int) -> bytes:
        """The honest request to grow from one size to another."""
        return encode_request(old, self.proof(old, new) if old <= new else [], self.note(new))
